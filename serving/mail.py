"""Mails, sent by SMTP as jobs: added in the transaction that gives rise to them, tried until they are sent.

A mail server takes a mail or refuses it for good (5xx: the job is dead) or for now (4xx, or it cannot be
reached: the job is tried again). A mail that may have been sent before the process died is sent again with
the same Message-ID, by which mail programs show it once. Mails that are too old to be of use are dead.

Without `CRM_SMTP_HOST` mail is off: mails that are added all the same are dead at once and say why.
"""

from __future__ import annotations

import hashlib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from crm_core.columns import check_text
from crm_core.errors import HopelessJobError, InvalidValueError, JobError, SettingsError
from crm_core.jobs import Job, enqueue
from crm_core.store import Store
from serving.settings import Settings

MAIL: Final = "mail"
"""The kind of these jobs."""

STALE: Final = timedelta(days=3)
"""Mails that could not be sent for so long are of no use any more."""

_TIMEOUT_SECONDS: Final = 20.0
_PORTS: Final = {"none": 25, "starttls": 587, "tls": 465}
_LONGEST_SUBJECT: Final = 500
_LONGEST_BODY: Final = 200_000
_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]+@[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]+")


def mail_is_on(settings: Settings) -> bool:
    """Tell whether mails can be sent; who adds mails of their own accord asks this first."""
    return settings.smtp_host is not None


def enqueue_mail(
    session: Session, *, to: str, subject: str, text: str, html: str | None, key: str | None, now: datetime
) -> int | None:
    """Add a mail to one address in the session's transaction; return its job, or None if `key` is taken.

    Raises InvalidValueError for an address or subject that could smuggle in headers or recipients.
    """
    _check_header("subject", subject, longest=_LONGEST_SUBJECT)
    _check_address(to)
    for field, body in (("text", text), ("html", html or "")):
        check_text(field, body, longest=_LONGEST_BODY)
    payload = {"to": to, "subject": subject, "text": text, "html": html}
    return enqueue(session, MAIL, payload, now=now, key=key)


def _check_address(to: str) -> None:
    _check_header("to", to, longest=320)
    if not _ADDRESS.fullmatch(to):
        raise InvalidValueError("to", to, "one mail address")


def _check_header(field: str, value: str, *, longest: int) -> None:
    check_text(field, value, longest=longest)
    if any(not character.isprintable() for character in value):
        raise InvalidValueError(field, value, "one line of printable characters")


class Mailer:
    """Sends the mails that jobs hold through the server that the settings name."""

    def __init__(self, settings: Settings, *, trust: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._trust = trust

    def __call__(self, store: Store, job: Job) -> None:
        """Send a mail; raise JobError for it to be tried again, HopelessJobError if that is no use."""
        if not mail_is_on(self._settings):
            raise HopelessJobError("mail is off: CRM_SMTP_HOST is not set")
        if store.clock.now() - job.created_at > STALE:
            raise HopelessJobError(f"older than {STALE.days} days")
        message = self._message(job)
        with _told_apart(), self._connected() as server:
            server.send_message(message)

    def _message(self, job: Job) -> EmailMessage:
        content: dict[str, Any] = job.payload
        message = EmailMessage(policy=SMTP)
        message["From"] = self._settings.mail_from
        message["To"] = _in_ascii(content["to"])
        message["Subject"] = content["subject"]
        message["Date"] = format_datetime(job.created_at)
        message["Message-ID"] = _message_id(job, self._settings.mail_from or "")
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(content["text"])
        if content["html"]:
            message.add_alternative(content["html"], subtype="html")
        return message

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
