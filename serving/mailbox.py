"""Reads the mailbox that replies and copies go to, by IMAP; it never deletes or marks anything there.

How far it has read is kept with the records: the UID of the last mail taken, and the validity of the server's
UIDs. Taking a mail and moving that mark is one transaction; where the server numbers anew, all is read again,
and what is known is recognised by its Message-ID. Any number of processes may run this: one reads at a time.

A mail that cannot be taken must not hold up the others: it goes into the tray as one that could not be read.
"""

from __future__ import annotations

import hashlib
import io
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from crm_core.changes import Source
from crm_core.errors import CRMError, SettingsError
from crm_core.incoming.filing import Desk, Keep, Taken, take_mail
from crm_core.incoming.mailboxes import begin_at, hold_mailbox, note_looked, note_read
from crm_core.incoming.parsing import LARGEST, Parsed, Part, read_mail
from crm_core.incoming.tray import Entry, ItemKind, put_in_tray
from crm_core.records import Attachment, User
from crm_core.store import Store, Transaction
from serving.files import put_in_place, safe_name, take_in
from serving.jobs import name_of_process
from serving.logs import get_log
from serving.looping import Loop
from serving.settings import Settings

if TYPE_CHECKING:
    from imapclient import IMAPClient

_TIMEOUT_SECONDS: Final = 30.0
_AT_ONCE: Final = 20
_LEASE: Final = timedelta(minutes=5)
_PORTS: Final = {"tls": 993, "starttls": 143, "none": 143}

_log = get_log("serving.mailbox")


def reads_mail(settings: Settings) -> bool:
    """Tell whether a mailbox is read."""
    return settings.imap_host is not None


def our_addresses(settings: Settings) -> tuple[str, ...]:
    """Return the addresses of this installation itself."""
    every = (settings.drop_address, settings.mail_from, settings.service_mail)
    return tuple(each for each in every if each is not None)


def mailbox_name(settings: Settings) -> str:
    """Return the name under which it is kept how far the mailbox was read."""
    whole = f"{settings.imap_user}@{settings.imap_host}/{settings.imap_folder}"
    return whole if len(whole) <= 200 else hashlib.sha256(whole.encode()).hexdigest()


def file_keeper(settings: Settings) -> Keep:
    """Return what keeps the files in mails that are not too large."""
    folder, most = settings.home_folder.files, settings.file_mib * 2**20

    def keep(transaction: Transaction, part: Part) -> Attachment | None:
        if not 0 < len(part.content) <= most:
            return None
        kept = take_in(folder, io.BytesIO(part.content), most=most)
        uri = put_in_place(transaction, folder, kept)
        return Attachment(
            name=safe_name(part.name),
            uri=uri,
            media_type=kept.media_type,
            size=kept.size,
            sha256=kept.sha256,
        )

    return keep


def take_raw(
    store: Store, settings: Settings, raw: bytes, *, source: str, actor_id: int | None = None
) -> Taken:
    """Take one mail, as it came, in a transaction of its own."""
    mail = read_mail(raw)
    with store.transaction(source=Source.AUTOMATION, actor_id=actor_id) as transaction:
        return take_one(transaction, settings, mail, source=source)


def take_one(
    transaction: Transaction, settings: Settings, mail: Parsed, *, source: str, by: User | None = None
) -> Taken:
    """Take one mail that was read, from a mailbox or `by` somebody's hand."""
    desk = None
    if settings.service_mail is not None:
        desk = Desk(address=settings.service_mail, queue=settings.service_queue)
    return take_mail(
        transaction,
        mail,
        source=source,
        ours=our_addresses(settings),
        desk=desk,
        keep=file_keeper(settings),
        by=by,
    )


class MailboxReader:
    """Takes the mails of one folder, in order."""

    def __init__(self, settings: Settings, store: Store, *, trust: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._store = store
        self._trust = trust
        self._name = mailbox_name(settings)
        self._by = name_of_process()

    def run_once(self) -> int:
        """Take what is new, some mails at a time; return how many there were."""
        with self._store.transaction() as transaction:
            if not hold_mailbox(transaction, self._name, by=self._by, lease=_LEASE):
                return 0
        problem: str | None = "it was interrupted"
        try:
            taken = self._read()
            problem = None
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise
        finally:
            with self._store.transaction() as transaction:
                note_looked(transaction, self._name, problem)
        return taken

    def _read(self) -> int:
        with self._connected() as client:
            chosen = client.select_folder(self._settings.imap_folder, readonly=True)
            validity = int(chosen[b"UIDVALIDITY"])
            with self._store.transaction() as transaction:
                after = begin_at(transaction, self._name, validity)
            # `n:*` always names the last mail, even where its UID is smaller.
            found = sorted(uid for uid in client.search(["UID", f"{after + 1}:*"]) if uid > after)
            for uid in found[:_AT_ONCE]:
                self._take(client, uid, validity)
            return len(found[:_AT_ONCE])

    def _take(self, client: IMAPClient, uid: int, validity: int) -> None:
        try:
            mail: Parsed | None = read_mail(_content(client, uid))
        except CRMError as error:
            mail, problem = None, str(error)
        try:
            with self._store.transaction(source=Source.AUTOMATION) as transaction:
                if mail is not None:
                    take_one(transaction, self._settings, mail, source="imap")
                else:
                    _put_unread(transaction, self._name, uid, validity, problem)
                note_read(transaction, self._name, validity, uid)
        except SQLAlchemyError:
            raise  # the database's fault, not the mail's: it is tried again
        except Exception as error:  # noqa: BLE001  one bad mail must not hold up all that follow
            _log.error("mail not taken", uid=uid, error=type(error).__name__, exc_info=error)
            with self._store.transaction(source=Source.AUTOMATION) as transaction:
                _put_unread(transaction, self._name, uid, validity, f"{type(error).__name__}: {error}")
                note_read(transaction, self._name, validity, uid)

    @contextmanager
    def _connected(self) -> Iterator[IMAPClient]:
        from imapclient import IMAPClient

        settings = self._settings
        trust = self._trust or ssl.create_default_context()
        client = IMAPClient(
            settings.imap_host,
            port=settings.imap_port or _PORTS[settings.imap_tls],
            ssl=settings.imap_tls == "tls",
            ssl_context=trust if settings.imap_tls == "tls" else None,
            timeout=_TIMEOUT_SECONDS,
        )
        try:
            if settings.imap_tls == "starttls":
                client.starttls(trust)
            client.login(settings.imap_user, _password(settings))
            yield client
        finally:
            _leave(client)


def _leave(client: IMAPClient) -> None:
    with suppress(Exception):  # whatever was to be read was read, or failed for another reason
        client.logout()


def _content(client: IMAPClient, uid: int) -> bytes:
    """Return a mail; of one that is too large its head only."""
    size = _one(client.fetch([uid], ["RFC822.SIZE"]), uid).get(b"RFC822.SIZE", 0)
    part = "BODY.PEEK[]" if int(size) <= LARGEST else "BODY.PEEK[HEADER]"
    held = _one(client.fetch([uid], [part]), uid)
    content = next((each for name, each in held.items() if name.startswith(b"BODY[")), b"")
    return content if isinstance(content, bytes) else b""


def _one(fetched: Mapping[int, Any], uid: int) -> Mapping[bytes, Any]:
    found: Mapping[bytes, Any] = fetched.get(uid, {})
    return found


def _put_unread(transaction: Transaction, name: str, uid: int, validity: int, problem: str) -> None:
    entry = Entry(
        kind=ItemKind.MAIL,
        key=f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{validity}-{uid}",
        who=None,
        title=None,
        said={"text": problem[:500], "unread": True, "direction": "inbound"},
        happened_at=transaction.now,
    )
    put_in_tray(transaction, entry)


def _password(settings: Settings) -> str:
    if settings.imap_password is not None:
        return settings.imap_password.get_secret_value()
    if settings.imap_password_file is None:
        raise SettingsError("CRM_IMAP_USER: expected CRM_IMAP_PASSWORD or CRM_IMAP_PASSWORD_FILE beside it")
    return _read_secret(settings.imap_password_file)


def _read_secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"CRM_IMAP_PASSWORD_FILE: cannot be read: {error.strerror}") from error


def mailbox_loop(settings: Settings, store: Store) -> Loop | None:
    """Return the thread that reads the mailbox; None where none is to be read."""
    if not reads_mail(settings):
        return None
    reader = MailboxReader(settings, store)
    return Loop("mailbox", reader.run_once, poll_seconds=settings.imap_seconds)
