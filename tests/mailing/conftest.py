"""A mail server that delivers into the mailbox that is read, and hands customers what they are sent."""

from __future__ import annotations

import email
import email.policy
import itertools
import shutil
import smtplib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from pydantic import SecretStr

from crm_core.outgoing import MAIL
from crm_core.store import Store
from serving.jobs import JobRunner
from serving.mail import Mailer
from serving.mailbox import MailboxReader
from serving.settings import Settings
from tests.mailing.dovecot import PASSWORD, Mailbox, Server, running

DROP = "crm@ours.example"
_numbers = itertools.count(1)


@dataclass
class World:
    """Everybody's mail: ours goes into the mailbox that is read, the rest to those it is for."""

    mailbox: Mailbox | None = None
    sent: list[EmailMessage] = field(default_factory=list)
    nobody: set[str] = field(default_factory=set)
    port: int = 0

    async def handle_RCPT(  # noqa: N802  as aiosmtpd calls it
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if address in self.nobody:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802  as aiosmtpd calls it
        assert isinstance(envelope.content, bytes)
        if DROP in envelope.rcpt_tos and self.mailbox is not None:
            self.mailbox.deliver(envelope.content)
        if set(envelope.rcpt_tos) - {DROP}:
            message = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            self.sent.append(message)
        return "250 OK"

    def send(self, message: EmailMessage, *to: str) -> None:
        """Send a mail as anybody outside would."""
        with smtplib.SMTP("127.0.0.1", self.port) as server:
            server.send_message(message, from_addr="outside@example.com", to_addrs=list(to))

    def reply(self, text: str, **headers: str) -> EmailMessage:
        """Answer the last mail, as a mail program does."""
        asked = self.sent[-1]
        answer = EmailMessage()
        answer["From"], answer["To"] = str(asked["To"]), DROP
        answer["Subject"] = f"Re: {asked['Subject']}"
        answer["Message-ID"] = headers.pop("message_id", "<reply-1@customer.example>")
        answer["In-Reply-To"] = str(asked["Message-ID"])
        answer["References"] = str(asked["Message-ID"])
        for name, value in headers.items():
            answer[name.replace("_", "-")] = value
        quoted = "\n".join(f"> {line}" for line in said_in(asked).splitlines())
        answer.set_content(
            f"{text}\n\nOn Mon, 2 Mar 2026 at 09:00, Ana <ana@ours.example> wrote:\n{quoted}\n"
        )
        return answer


def said_in(message: EmailMessage, kind: str = "plain") -> str:
    """Return what a mail says, as text or as a page."""
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


@pytest.fixture
def world() -> Iterator[World]:
    """A mail server on this machine."""
    made = World()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made.port = probe.getsockname()[1]
    controller = Controller(made, hostname="127.0.0.1", port=made.port)
    controller.start()
    yield made
    controller.stop()


@pytest.fixture(scope="session")
def imap() -> Iterator[Server]:
    """The one IMAP server of this run."""
    folder = Path(tempfile.mkdtemp(prefix="crm-dovecot-"))
    try:
        with running(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mailbox(world: World, imap: Server) -> Mailbox:
    """The mailbox that is read, on a real IMAP server."""
    world.mailbox = imap.mailbox(f"crm{next(_numbers)}")
    return world.mailbox


@pytest.fixture
def settings(home: Path, world: World) -> Settings:
    """Settings that send through the server, and name a mailbox."""
    return Settings(
        home=home,
        smtp_host="127.0.0.1",
        smtp_port=world.port,
        smtp_tls="none",
        mail_from=DROP,
        imap_host="127.0.0.1",
        imap_tls="none",
        imap_user="crm",
        imap_password=SecretStr(PASSWORD),
        public_url="https://crm.ours.example",
    )


@pytest.fixture
def sending(store: Store, settings: Settings) -> JobRunner:
    """What sends the mails that are queued."""
    return JobRunner(store, {MAIL: Mailer(settings)}, forgotten={MAIL})


@pytest.fixture
def reading(store: Store, mailbox: Mailbox, settings: Settings) -> MailboxReader:
    """What reads the mailbox."""
    return MailboxReader(
        settings.model_copy(update={"imap_port": mailbox.port, "imap_user": mailbox.user}), store
    )


def send_all(runner: JobRunner) -> None:
    """Do all jobs that are due."""
    while runner.run_once():
        pass


def read_all(reader: MailboxReader) -> None:
    """Take all mails that are there."""
    while reader.run_once():
        pass
