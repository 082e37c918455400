"""Reading a mail (RFC 5322) as it came, without trusting anything in it.

Whatever a mail holds, `read_mail` returns something for it, in time and memory that its size bounds: headers,
parts and depth are cut off, broken encodings are read as well as can be, and attachments are handed on as the
bytes that they are, never opened.

The standard library's older reading of headers is used: its newer one (`email.policy.default`) looks deep
into each header while it parses, and a header can be written so that this takes very long.
"""

from __future__ import annotations

import codecs
import hashlib
import quopri
import re
from binascii import Error as BadBase64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.utils import collapse_rfc2231_value, getaddresses, parsedate_to_datetime
from typing import Final

from crm_core.addresses import mail_key
from crm_core.errors import InvalidValueError
from crm_core.incoming.page_text import text_of_page
from crm_core.incoming.quoting import shown_part
from crm_core.messages import LONGEST_TEXT, MOST_REFERENCES, OURS, kept_id
from crm_core.phrases import Phrase

LARGEST: Final = 25 * 2**20
"""Bytes up to which a mail is taken."""

_LARGEST_HEAD: Final = 128 * 2**10
_LONGEST_HEADER: Final = 8_000
_LONGEST_PARAMETERS: Final = 2_000
_CONTENT_HEADER = re.compile(rb"(?im)^(content-[a-z-]{1,40}:)((?:[^\n]*\n[ \t])*[^\n\r]*)")
_MOST_PARTS: Final = 200
_DEEPEST: Final = 20
_MOST_BOUNDARIES: Final = 300
_MOST_LOOKS: Final = 5_000_000
_MOST_ADDRESSES: Final = 100
_MOST_ATTACHMENTS: Final = 20

_NO_CHARSETS: Final = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape"})
"""What calls itself an encoding and is of names or programs: the first takes an hour to read a large mail."""

_SURROGATES = re.compile(r"[\ud800-\udfff]")
_ODD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ID = re.compile(r"<([^<>\s]{1,2000})>")
_PLAIN_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_DAEMON = re.compile(r"(?i)^(mailer-daemon|postmaster)@|^$")
_TOKEN = re.compile(r"(?i)^\s*unsubscribe[\s:]+([A-Za-z0-9_-]{43})\s*$")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file in a mail."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Bounce:
    """What a mail server says of a mail that did not arrive; `message_ids` are those it may be."""

    message_ids: tuple[str, ...]
    recipient: str | None
    said: str


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A mail, read; `text` is all that it says, `shown` what is not quoted."""

    message_id: str
    subject: str
    from_name: str
    from_address: str | None
    to: tuple[str, ...]
    sent_at: datetime | None
    answers: tuple[str, ...]
    text: str
    shown: str
    is_automatic: bool = False
    bounce: Bounce | None = None
    leave_token: str | None = None
    attachments: tuple[Part, ...] = ()


def read_mail(raw: bytes) -> Parsed:
    """Return what a mail says; raise InvalidValueError for one that is empty or too large to be taken."""
    if not raw.strip() or len(raw) > LARGEST:
        raise InvalidValueError(
            "mail",
            Phrase("{count} bytes", count=len(raw)),
            Phrase("a mail of 1 to {largest} bytes", largest=LARGEST),
        )
    message = _parse(_with_short_head(raw))
    head = _Head(message)
    sender = head.addresses("from")
    subject = head.line("subject", 300)
    parts = list(_walk(message))
    text = _text(parts)
    return Parsed(
        message_id=kept_id(head.text("message-id")) or f"none-{hashlib.sha256(raw).hexdigest()}",
        subject=subject,
        from_name=sender[0][0] if sender else "",
        from_address=sender[0][1] if sender else None,
        to=tuple(dict.fromkeys(address for _, address in head.addresses("to", "cc", "bcc"))),
        sent_at=head.instant("date"),
        answers=head.ids("references", "in-reply-to"),
        text=text,
        shown=shown_part(text),
        is_automatic=_is_automatic(head),
        bounce=_bounce(message, parts, head, text),
        leave_token=found[1] if (found := _TOKEN.match(subject)) else None,
        attachments=tuple(_attachments(parts)),
    )


def _with_short_head(raw: bytes) -> bytes:
    """Return a mail without what is beyond reason at its head."""
    found = re.search(rb"\r?\n\r?\n", raw)
    end = found.start() if found else len(raw)
    if end <= _LARGEST_HEAD:
        return raw
    kept = raw[:_LARGEST_HEAD].rsplit(b"\n", 1)[0]
    return kept + b"\n\n" + (raw[found.end() :] if found else b"")


def _parse(raw: bytes) -> Message:
    """Return the parts of a mail; only its head where the parts are nested beyond reason."""
    raw = _CONTENT_HEADER.sub(_shortened, raw)
    boundaries = len(re.findall(rb"(?i)boundary\s*=|message/rfc822", raw))
    # Each line is looked at once for each boundary around it.
    if boundaries <= _MOST_BOUNDARIES and boundaries * raw.count(b"\n") <= _MOST_LOOKS:
        try:
            return BytesParser().parsebytes(raw)
        except Exception:  # noqa: BLE001, S110  whatever hostile bytes do to the parser, the head is still read
            pass
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    message = BytesHeaderParser().parsebytes(head + b"\n\n")
    bare = Message()
    for name, value in message.raw_items():
        if not name.lower().startswith(("content-", "mime-")):
            bare.set_raw(name, value)
    return bare


def _shortened(found: re.Match[bytes]) -> bytes:
    """Return a header of a part without what is beyond reason: parameters are looked at again and again."""
    if len(found[2]) <= _LONGEST_PARAMETERS:
        return found[0]
    return found[1] + b" ".join(found[2].split())[:_LONGEST_PARAMETERS]


class _Head:
    """The headers of a mail, as they were written: the library's own reading of them can be led astray."""

    def __init__(self, message: Message) -> None:
        self._held: dict[str, list[str]] = {}
        for name, value in message.raw_items():
            self._held.setdefault(name.lower(), []).append(str(value)[:_LONGEST_HEADER])

    def text(self, name: str) -> str:
        """Return the first header of a name, decoded."""
        found = self._held.get(name)
        return _decoded(found[0]) if found else ""

    def line(self, name: str, longest: int) -> str:
        """Return a header as one line of text."""
        return " ".join(self.text(name).split())[:longest]

    def addresses(self, *names: str) -> list[tuple[str, str]]:
        """Return the names and addresses in some headers."""
        raw = [each for name in names for each in self._held.get(name, [])]
        found = []
        for name, address in _addresses([" ".join(each.split()) for each in raw])[:_MOST_ADDRESSES]:
            key = mail_key(_clean(address))
            if key is not None and len(key) <= 320 and not re.search(r"[\s<>,;\"]", key):
                found.append((" ".join(_decoded(name).split())[:200], key))
        return found

    def ids(self, *names: str) -> tuple[str, ...]:
        """Return the ids of other mails in some headers, as they are kept, the last ones."""
        raw = " ".join(each for name in names for each in self._held.get(name, []))
        ids = [kept for each in _ID.findall(raw) if (kept := kept_id(each)) is not None]
        return tuple(dict.fromkeys(ids))[-MOST_REFERENCES:]

    def instant(self, name: str) -> datetime | None:
        """Return an instant that a header names."""
        try:
            found = parsedate_to_datetime(self.text(name))
            aware = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
            return aware.astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None


def _addresses(raw: list[str]) -> list[tuple[str, str]]:
    try:
        return getaddresses(raw)
    except (RecursionError, ValueError, IndexError):  # comments inside of comments, for example
        return [("", each) for each in _PLAIN_ADDRESS.findall(" ".join(raw))]


def _decoded(raw: str) -> str:
    """Return a header with its encoded words read."""
    raw = raw.encode("ascii", "surrogateescape").decode("utf-8", "replace") if _is_bytes(raw) else raw
    if "=?" not in raw:
        return _clean(raw)
    try:
        pieces = decode_header(raw)
    except (ValueError, BadBase64, LookupError, MessageError):
        return _clean(raw)
    return _clean("".join(p if isinstance(p, str) else decode_text(p, charset) for p, charset in pieces))


def _is_bytes(raw: str) -> bool:
    """Tell whether a header holds bytes beyond ASCII, which the parser keeps as surrogates."""
    return any("\udc80" <= each <= "\udcff" for each in raw) and all(
        each.isascii() or "\udc80" <= each <= "\udcff" for each in raw
    )


def decode_text(raw: bytes, charset: str | None) -> str:
    """Return bytes as text: by the charset that is named, or what fits, or as well as can be."""
    named = (charset or "utf-8").strip().strip("\"'").lower()
    # What calls itself GB2312 nearly always holds characters of its successors.
    tried = {"gb2312": "gb18030", "gbk": "gb18030", "us-ascii": "utf-8", "ascii": "utf-8"}.get(named, named)
    for each in (tried, "utf-8", "gb18030"):
        try:
            if codecs.lookup(each).name not in _NO_CHARSETS:
                return raw.decode(each)
        except (LookupError, ValueError, TypeError):  # LookupError: no such charset, or one that is no text
            continue
    return raw.decode("latin-1")


def _clean(text: str) -> str:
    return _ODD.sub("", _SURROGATES.sub("\ufffd", text))


def _walk(message: Message) -> Iterator[Message]:
    """Yield the leaves of a mail in order, some of them; a mail inside of it is a leaf."""
    waiting: list[tuple[Message, int]] = [(message, 0)]
    looked = 0
    while waiting and looked < _MOST_PARTS:
        part, depth = waiting.pop(0)
        looked += 1
        inner = part.get_payload() if part.is_multipart() else None
        if isinstance(inner, list) and _type_of(part).startswith("multipart/"):
            if depth < _DEEPEST:
                waiting[:0] = [(each, depth + 1) for each in inner if isinstance(each, Message)]
        else:
            yield part


def _type_of(part: Message) -> str:
    try:
        return part.get_content_type()
    except Exception:  # noqa: BLE001  a Content-Type can be anything at all
        return "application/octet-stream"


def _parameter(part: Message, name: str, header: str = "content-type") -> str | None:
    try:
        found = part.get_param(name, header=header)
    except Exception:  # noqa: BLE001  as above
        return None
    return None if found is None else collapse_rfc2231_value(found)


def _content(part: Message) -> bytes:
    """Return the bytes of a part, however badly they are wrapped up."""
    try:
        found = part.get_payload(decode=True)
    except Exception:  # noqa: BLE001  as above
        found = None
    if isinstance(found, bytes):
        return found
    held = part.get_payload()
    return quopri.decodestring(held.encode("utf-8", "surrogateescape")) if isinstance(held, str) else b""


def _is_file(part: Message) -> bool:
    try:
        said = str(part.get("content-disposition") or "").lower()
    except Exception:  # noqa: BLE001  as above
        said = ""
    return said.startswith("attachment") or bool(_file_name(part))


def _file_name(part: Message) -> str | None:
    name = _parameter(part, "filename", "content-disposition") or _parameter(part, "name")
    return _decoded(name)[:300] if name else None


def _text(parts: list[Message]) -> str:
    """Return what a mail says: its plain text, else the text of its page."""
    for wanted in ("text/plain", "text/html"):
        said = [
            decode_text(_content(part), _parameter(part, "charset"))
            for part in parts
            if _type_of(part) == wanted and not _is_file(part)
        ]
        pages = [text_of_page(each) for each in said] if wanted == "text/html" else said
        text = "\n\n".join(_clean(each.replace("\r\n", "\n").replace("\r", "\n")) for each in pages).strip()
        if text:
            return text[:LONGEST_TEXT]
    return ""


def _attachments(parts: list[Message]) -> Iterator[Part]:
    taken = 0
    for part in parts:
        if taken < _MOST_ATTACHMENTS and _is_file(part) and (content := _content(part)):
            taken += 1
            yield Part(name=_file_name(part) or "file", content=content)


def _is_automatic(head: _Head) -> bool:
    """Tell whether a program wrote a mail (RFC 3834, and what programs did before it)."""
    said = head.text("auto-submitted").strip().lower()
    if said and not said.startswith("no"):
        return True
    if head.text("precedence").strip().lower() in {"bulk", "auto_reply", "junk", "list"}:
        return True
    return any(head.text(name) for name in ("x-autoreply", "x-autorespond", "x-auto-response-suppress"))


# -------------------------------------------------------------------------------------------------- bounces


def _bounce(message: Message, parts: list[Message], head: _Head, text: str) -> Bounce | None:
    """Return what a mail says of one that did not arrive; None where it says nothing of the kind."""
    kind = (_parameter(message, "report-type") or "").lower()
    if _type_of(message) == "multipart/report" and kind == "delivery-status":
        return _reported(parts)
    senders = head.addresses("from")
    if not _DAEMON.match(senders[0][1] if senders else "") or head.text("return-path") not in {"<>", ""}:
        return None
    ours = tuple(dict.fromkeys(OURS.findall(text)))  # servers from before the standard quote the mail
    failed = re.search(r"(?i)could not be delivered|undeliver|failure|failed|rejected|退信|无法投递", text)
    return Bounce(message_ids=ours, recipient=None, said=text[:300]) if ours and failed else None


def _reported(parts: list[Message]) -> Bounce | None:
    """Return what a report (RFC 3464) says; None where nothing failed for good."""
    fields: dict[str, str] = {}
    ids: list[str] = []
    for part in parts:
        if _type_of(part) == "message/delivery-status":
            fields |= _report_fields(part)
        elif _type_of(part) in {"message/rfc822", "text/rfc822-headers", "message/rfc822-headers"}:
            ids += _ids_inside(part)
    if fields.get("action", "").lower() != "failed":
        return None
    ids += OURS.findall(fields.get("original-envelope-id", ""))
    recipient = (fields.get("final-recipient") or fields.get("original-recipient") or "").rpartition(";")[2]
    said = f"{fields.get('diagnostic-code', '').rpartition(';')[2].strip()} {fields.get('status', '')}"
    return Bounce(message_ids=tuple(dict.fromkeys(ids)), recipient=mail_key(recipient), said=said.strip())


def _report_fields(part: Message) -> dict[str, str]:
    """Return the fields of a report; of several recipients, those of the first that failed."""
    held = part.get_payload()
    blocks = held if isinstance(held, list) else []
    per_mail: dict[str, str] = {}
    found: dict[str, str] = {}
    for block in blocks[:50]:
        if not isinstance(block, Message):
            continue
        fields = {name.lower(): _clean(str(value))[:500] for name, value in block.raw_items()}
        if "action" in fields or "final-recipient" in fields:
            if not found or found.get("action", "").lower() != "failed":
                found = fields
        else:
            per_mail |= fields
    return per_mail | found


def _ids_inside(part: Message) -> list[str]:
    """Return the Message-ID of the mail that a report gives back."""
    held = part.get_payload()
    if isinstance(held, list) and held and isinstance(held[0], Message):
        raw = [str(value) for name, value in held[0].raw_items() if name.lower() == "message-id"]
    else:
        raw = re.findall(r"(?im)^message-id:\s*(\S+)", _clean(decode_text(_content(part), None)))
    return [kept for each in raw if (kept := kept_id(each)) is not None]
