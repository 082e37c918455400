"""Mails, sent by SMTP as jobs: added in the transaction that gives rise to them, tried until they are sent.

A mail from a colleague comes from the address of this installation with their name, and is answered to them
and to the mailbox that is read here; its Message-ID is ours, so that replies and bounces are told by it.
Marketing carries a way out that mail programs show as a button (RFC 8058), and a line that says the same.

A mail server takes a mail or refuses it for good (5xx: the job is dead) or for now (4xx, or it cannot be
reached: the job is tried again). A mail that may have been sent before the process died is sent again with
the same Message-ID, by which mail programs show it once. Mails that are too old to be of use are dead.

Without `CRM_SMTP_HOST` mail is off: mails that are added all the same are dead at once and say why.
"""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from html import escape
from typing import Any, Final

from crm_core.bounces import is_dead
from crm_core.errors import HopelessJobError, JobError, NotWrittenToError, SettingsError
from crm_core.jobs import Job
from crm_core.messages import Message, written_id
from crm_core.outgoing import (
    check_may_market,
    mark_bounced,
    mark_failed,
    mark_sent,
)
from crm_core.phrases import Phrase
from crm_core.sequences import stop_runs_of
from crm_core.store import Store
from serving.settings import Settings

STALE: Final = timedelta(days=3)
"""Mails that could not be sent for so long are of no use any more."""

_TIMEOUT_SECONDS: Final = 20.0
_PORTS: Final = {"none": 25, "starttls": 587, "tls": 465}
_WAY_OUT: Final = {
    "en": "You get this because you agreed to hear from us. Unsubscribe: {link}",
    "zh": "您收到此邮件，是因为您同意接收我们的信息。退订：{link}",
}


def mail_is_on(settings: Settings) -> bool:
    """Tell whether mails can be sent; who adds mails of their own accord asks this first."""
    return settings.smtp_host is not None


class Mailer:
    """Sends the mails that jobs hold through the server that the settings name."""

    def __init__(self, settings: Settings, *, trust: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._trust = trust

    def __call__(self, store: Store, job: Job) -> None:
        """Send a mail; raise JobError for it to be tried again, HopelessJobError if that is no use."""
        told: dict[str, Any] = job.payload.get("mail") or {}
        try:
            self._send(store, job, told)
        except HopelessJobError as error:
            if told:
                _note_end(store, told["id"], error)
            raise
        if told:
            with store.transaction() as transaction:
                mark_sent(transaction.session, told["id"], transaction.now)

    def _send(self, store: Store, job: Job, told: dict[str, Any]) -> None:
        if not mail_is_on(self._settings):
            raise HopelessJobError("mail is off: CRM_SMTP_HOST is not set")
        if store.clock.now() - max(job.created_at, job.run_at - STALE) > STALE:
            raise HopelessJobError(Phrase("older than {days} days", days=STALE.days))
        if told.get("leave_token"):
            _check_consent(store, job)
        message = self._message(job, told)
        with _told_apart(), self._connected() as server:
            asked = _asked_of_bounces(server, told)
            server.send_message(message, mail_options=asked[0], rcpt_options=asked[1])

    def _message(self, job: Job, told: dict[str, Any]) -> EmailMessage:
        content: dict[str, Any] = job.payload
        message = EmailMessage(policy=SMTP)
        message["From"] = self._from(told)
        message["To"] = _in_ascii(content["to"])
        message["Subject"] = content["subject"]
        message["Date"] = format_datetime(job.created_at)
        message["Message-ID"] = self._message_id(job, told)
        if not told.get("address"):
            message["Auto-Submitted"] = "auto-generated"
        if told.get("leave_token"):
            message["Precedence"] = "bulk"  # nobody's absence is told to us for it
        self._add_thread(message, told)
        text, html = content["text"], content["html"]
        if told.get("leave_token"):
            text, html = self._with_way_out(message, told, text, html)
        message.set_content(text)
        if html:
            message.add_alternative(html, subtype="html")
        for file in content.get("attachments") or ():
            message.add_attachment(file["text"], subtype=file["subtype"], filename=file["name"])
        return message

    @property
    def _domain(self) -> str:
        return (self._settings.mail_from or "").rpartition("@")[2]

    def _from(self, told: dict[str, Any]) -> str:
        sender = self._settings.mail_from or ""
        return formataddr((_header_text(told["name"]), sender)) if told.get("name") else sender

    def _message_id(self, job: Job, told: dict[str, Any]) -> str:
        kept = written_id(told["message_id"], self._domain) if told else None
        return kept or _message_id(job, self._settings.mail_from or "")

    def _add_thread(self, message: EmailMessage, told: dict[str, Any]) -> None:
        replies = [each for each in (told.get("address"), self._settings.drop_address) if each]
        if told and replies:
            # Both get the reply: the colleague in their own mailbox, the record through the one read here.
            message["Reply-To"] = ", ".join(dict.fromkeys(map(_in_ascii, replies)))
        if told.get("in_reply_to"):
            ids = [written_id(each, self._domain) for each in told["references"]]
            message["In-Reply-To"] = written_id(told["in_reply_to"], self._domain) or ""
            message["References"] = " ".join(each for each in ids if each)

    def _with_way_out(
        self, message: EmailMessage, told: dict[str, Any], text: str, html: str | None
    ) -> tuple[str, str | None]:
        """Put in the headers and lines by which the receiver unsubscribes."""
        drop, public = self._settings.drop_address, self._settings.public_url
        by_mail = f"mailto:{drop}?subject=unsubscribe%20{told['leave_token']}" if drop else None
        by_page = f"{public.rstrip('/')}/unsubscribe/{told['leave_token']}" if public else None
        ways = [f"<{way}>" for way in (by_page, by_mail) if way]
        if not ways:
            raise HopelessJobError("CRM_PUBLIC_URL is not set: marketing needs a way to unsubscribe")
        message["List-Unsubscribe"] = ", ".join(ways)
        if by_page:
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        line = _WAY_OUT.get(told.get("language") or "en", _WAY_OUT["en"]).format(link=by_page or by_mail)
        return f"{text.rstrip()}\n\n-- \n{line}\n", html and f"{html}\n<hr>\n<p>{_linked(line)}</p>"

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        settings, trust = self._settings, self._trust or ssl.create_default_context()
        host, name = settings.smtp_host or "", socket.gethostname()
        port = settings.smtp_port or _PORTS[settings.smtp_tls]
        server: smtplib.SMTP
        if settings.smtp_tls == "tls":
            server = smtplib.SMTP_SSL(
                host, port, local_hostname=name, timeout=_TIMEOUT_SECONDS, context=trust
            )
        else:
            server = smtplib.SMTP(host, port, local_hostname=name, timeout=_TIMEOUT_SECONDS)
        with server:
            if settings.smtp_tls == "starttls":
                server.starttls(context=trust)
            if settings.smtp_user is not None:
                server.login(settings.smtp_user, _password(settings))
            yield server


def _note_end(store: Store, message_id: int, error: HopelessJobError) -> None:
    """Write down that a mail will not be sent: its receiver is refused, or something else is wrong."""
    with store.transaction() as transaction:
        message = transaction.session.get(Message, message_id, with_for_update=True)
        if message is None:
            return
        if isinstance(error.__cause__, smtplib.SMTPRecipientsRefused):
            mark_bounced(transaction, message, str(error), dead=is_dead(str(error)))
            stop_runs_of(transaction, message.to_addresses, "bounced")
        else:
            mark_failed(transaction.session, message_id, str(error))


def _check_consent(store: Store, job: Job) -> None:
    """Refuse marketing to somebody who took their consent back since it was queued."""
    record_type, record_id = job.payload["record"]
    try:
        with store.reading() as session:
            check_may_market(session, job.payload["to"], (record_type, record_id))
    except NotWrittenToError as error:
        raise HopelessJobError(str(error)) from error


def _asked_of_bounces(server: smtplib.SMTP, told: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what asks a server that can (RFC 3461) to name our mail in what it sends back."""
    server.ehlo_or_helo_if_needed()
    if not told or not server.has_extn("dsn"):
        return [], []
    return ["RET=HDRS", f"ENVID={told['message_id']}"], ["NOTIFY=FAILURE,DELAY"]


def _header_text(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:200]


def _linked(line: str) -> str:
    at = max(line.find("http"), line.find("mailto:"))
    address = escape(line[at:])
    return f'{escape(line[:at])}<a href="{address}">{address}</a>'


def _password(settings: Settings) -> str:
    if settings.smtp_password is not None:
        return settings.smtp_password.get_secret_value()
    if settings.smtp_password_file is None:
        raise SettingsError("CRM_SMTP_USER: expected CRM_SMTP_PASSWORD or CRM_SMTP_PASSWORD_FILE beside it")
    try:
        return settings.smtp_password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"CRM_SMTP_PASSWORD_FILE: cannot be read: {error.strerror}") from error


def _message_id(job: Job, sender: str) -> str:
    # Of what never changes about the job, so that every attempt sends the same one.
    mark = hashlib.sha256(f"{job.id} {job.created_at.isoformat()} {job.key}".encode()).hexdigest()[:32]
    return f"<{mark}@{sender.rpartition('@')[2]}>"


def _in_ascii(address: str) -> str:
    """Return an address with its domain as DNS knows it."""
    name, _, domain = address.rpartition("@")
    try:
        return f"{name}@{domain.encode('idna').decode()}"
    except UnicodeError as error:
        raise HopelessJobError(f"the domain of the address is none: {error}") from error


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell what the server refuses for good from what may go well another time."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        raise _refusal(code, said) from error
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        raise _refusal(error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPNotSupportedError as error:
        raise JobError(f"the mail server lacks what is asked of it: {error}") from error
    except smtplib.SMTPResponseException as error:
        # At greeting, encryption or login: a server or setting to be put right, no fault of the mail.
        raise JobError(f"the mail server said {_said(error.smtp_code, error.smtp_error)}") from error
    except (smtplib.SMTPException, OSError) as error:
        raise JobError(f"the mail server cannot be reached: {type(error).__name__}: {error}") from error


def _refusal(code: int, said: bytes | str) -> JobError:
    kind = HopelessJobError if code >= 500 else JobError
    return kind(f"the mail server refused it: {_said(code, said)}")


def _said(code: int, said: bytes | str) -> str:
    return f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
