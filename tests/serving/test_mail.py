"""Mails reach a real server over a real socket, or are tried again, or are dead and say why."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from pydantic import SecretStr

from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError, SettingsError
from crm_core.jobs import Job, get_job, list_jobs
from crm_core.outgoing import MAIL, Attached, enqueue_mail, queue_mail
from crm_core.store import Store
from serving.job_handlers import FORGOTTEN
from serving.jobs import JobRunner
from serving.mail import Mailer
from serving.settings import Settings, load_settings
from tests.factories import make_lead

OK = "250 accepted"


class Post:
    """A mail server's mind: what it was given, and what it says."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.says_to_recipient = OK
        self.says_to_content = OK

    async def handle_RCPT(  # noqa: N802  as aiosmtpd calls it
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if self.says_to_recipient == OK:
            envelope.rcpt_tos.append(address)
        return self.says_to_recipient

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802  as aiosmtpd calls it
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append(message)
        self.recipients.append(envelope.rcpt_tos)
        return self.says_to_content


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def server(post: Post) -> Iterator[Controller]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(post, hostname="127.0.0.1", port=port)
    controller.start()
    yield controller
    if controller.loop.is_running():
        controller.stop()


@pytest.fixture
def runner(store: Store, server: Controller, home: Path) -> JobRunner:
    settings = Settings(
        home=home, smtp_host="127.0.0.1", smtp_port=server.port, smtp_tls="none", mail_from="crm@example.com"
    )
    return JobRunner(store, {MAIL: Mailer(settings)}, forgotten=FORGOTTEN)


def add(store: Store, **given: Any) -> int:
    content = {"to": "ana@example.com", "subject": "A customer may leave", "text": "Call them.", "html": None}
    with store.transaction() as transaction:
        made = enqueue_mail(transaction.session, **{**content, "key": None, **given}, now=transaction.now)
    assert made is not None
    return made


def job_of(store: Store, job_id: int) -> Job:
    with store.reading() as session:
        return get_job(session, job_id)


def test_what_is_attached_arrives_as_a_file(store: Store, runner: JobRunner, post: Post) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, email="wang@fangda.example")
        page = Attached(name="报价.html", subtype="html", text="<p>报价\uff1a950 EUR</p>\n")
        queue_mail(
            transaction,
            to="wang@fangda.example",
            subject="Quote",
            text="Hello",
            html="<p>Hello</p>",
            about=("lead", lead.id),
            sender=None,
            attachments=[page],
        )
    assert runner.run_once() == 1
    (message,) = post.taken
    (file,) = message.iter_attachments()
    assert (file.get_filename(), file.get_content_type()) == ("报价.html", "text/html")
    assert file.get_content().replace("\r\n", "\n") == page.text
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == "Hello"


def test_a_mail_arrives_as_text_and_as_a_page(store: Store, runner: JobRunner, post: Post) -> None:
    job_id = add(store, html="<p>Call <b>them</b>.</p>")
    assert runner.run_once() == 1
    (message,), (recipients,) = post.taken, post.recipients
    assert (message["From"], message["To"], recipients) == (
        "crm@example.com",
        "ana@example.com",
        ["ana@example.com"],
    )
    plain, page = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert page is not None
    assert (plain.get_content().strip(), page.get_content().strip()) == (
        "Call them.",
        "<p>Call <b>them</b>.</p>",
    )
    assert job_of(store, job_id).state == "done"


def test_what_a_mail_said_is_forgotten_when_it_is_sent(store: Store, runner: JobRunner) -> None:
    job_id = add(store)
    assert "ana@example.com" in str(job_of(store, job_id).payload)
    runner.run_once()
    assert job_of(store, job_id).payload == {}


def test_chinese_arrives_as_it_was_written(store: Store, runner: JobRunner, post: Post) -> None:
    subject, text = "客户流失预警：方达阀门(流失概率 62%)请尽快联系客户并查看原因说明", "请尽快致电。\n谢谢！"
    add(store, subject=subject, text=text)
    runner.run_once()
    assert post.taken[0]["Subject"] == subject
    assert post.taken[0].get_content().replace("\r\n", "\n").strip() == text


def test_what_the_server_refuses_for_good_is_dead_at_once(
    store: Store, runner: JobRunner, post: Post
) -> None:
    post.says_to_recipient = "550 no such mailbox"
    job_id = add(store)
    runner.run_once()
    job = job_of(store, job_id)
    assert (job.state, job.attempts) == ("dead", 1)
    assert "550 no such mailbox" in (job.last_error or "")


@pytest.mark.parametrize("step", ["says_to_recipient", "says_to_content"])
def test_what_the_server_refuses_for_now_is_sent_later_as_the_same_mail(
    store: Store, runner: JobRunner, post: Post, clock: FixedClock, step: str
) -> None:
    setattr(post, step, "451 come back later")
    job_id = add(store)
    runner.run_once()
    assert job_of(store, job_id).state == "waiting"
    setattr(post, step, OK)
    clock.advance(timedelta(minutes=1))
    runner.run_once()
    assert job_of(store, job_id).state == "done"
    assert len({message["Message-ID"] for message in post.taken}) == 1
    assert len({message["Date"] for message in post.taken}) == 1


def test_two_mails_are_never_taken_for_one(store: Store, runner: JobRunner, post: Post) -> None:
    add(store)
    add(store)
    while runner.run_once():
        pass
    assert len({message["Message-ID"] for message in post.taken}) == 2


def test_a_mail_waits_while_the_server_is_down(
    store: Store, runner: JobRunner, server: Controller, clock: FixedClock
) -> None:
    server.stop()
    job_id = add(store)
    runner.run_once()
    job = job_of(store, job_id)
    assert (job.state, job.run_at > clock.now()) == ("waiting", True)
    assert "cannot be reached" in (job.last_error or "")


def test_a_mail_that_could_not_be_sent_for_days_is_dead(
    store: Store, runner: JobRunner, post: Post, clock: FixedClock
) -> None:
    job_id = add(store)
    clock.advance(timedelta(days=4))
    runner.run_once()
    assert (job_of(store, job_id).state, post.taken) == ("dead", [])


def test_with_mail_off_a_mail_is_not_lost_without_a_word(store: Store, home: Path) -> None:
    job_id = add(store)
    JobRunner(store, {MAIL: Mailer(Settings(home=home))}).run_once()
    job = job_of(store, job_id)
    assert job.state == "dead"
    assert "CRM_SMTP_HOST" in (job.last_error or "")


def test_one_key_is_one_mail(store: Store, runner: JobRunner, post: Post) -> None:
    add(store, key="alert-1")
    with pytest.raises(AssertionError):
        add(store, key="alert-1")
    while runner.run_once():
        pass
    assert len(post.taken) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"subject": "Hello\r\nBcc: all@example.com"},
        {"subject": "Hello\nBcc: all@example.com"},
        {"subject": "Hello\u2028there"},
        {"subject": "x" * 501},
        {"to": "ana@example.com\r\nBcc: all@example.com"},
        {"to": "ana@example.com, ben@example.com"},
        {"to": "Ana <ana@example.com>"},
        {"to": "ana"},
        {"to": "ana@@example.com"},
        {"to": ""},
        {"text": "\x00"},
    ],
    ids=repr,
)
def test_what_could_smuggle_in_headers_or_recipients_is_refused(store: Store, given: dict[str, str]) -> None:
    with pytest.raises(InvalidValueError):
        add(store, **given)
    with store.reading() as session:
        assert list_jobs(session) == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CRM_SMTP_HOST": "mail.example.com"}, "CRM_MAIL_FROM"),
        ({"CRM_MAIL_FROM": "nobody"}, "CRM_MAIL_FROM"),
        ({"CRM_SMTP_USER": "crm"}, "CRM_SMTP_USER and a password go together"),
        ({"CRM_SMTP_USER": "crm", "CRM_SMTP_PASSWORD": "s3cret", "CRM_SMTP_TLS": "none"}, "in the clear"),
        (
            {"CRM_SMTP_USER": "a", "CRM_SMTP_PASSWORD": "s3cret", "CRM_SMTP_PASSWORD_FILE": "x"},
            "expected one",
        ),
        ({"CRM_SMTP_TLS": "perhaps"}, "CRM_SMTP_TLS"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_do_not_fit_together_are_refused_without_telling_the_password(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said) as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


def test_a_password_is_not_in_what_settings_say_of_themselves(home: Path) -> None:
    settings = Settings(home=home, smtp_user="crm", smtp_password=SecretStr("s3cret"))
    assert "s3cret" not in repr(settings)
