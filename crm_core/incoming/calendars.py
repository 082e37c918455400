"""Calendar entries (RFC 5545) that come in: each becomes a meeting with the customer who is invited.

An entry is told by its UID; a newer SEQUENCE renews it, an older one is ignored, and a cancellation takes the
meeting off the calendar. Entries to which nobody from outside is invited are nobody's business here. Of an
entry that repeats, only what the file names itself is taken: the first one, and those that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.addresses import mail_key
from crm_core.clock import micros
from crm_core.errors import InvalidValueError
from crm_core.external_ids import hold_keys
from crm_core.incoming.events import Heard, key_to_hold, take
from crm_core.incoming.matching import Match, May, colleagues_with, match_for, match_people
from crm_core.incoming.tray import OVERSEERS, Entry, IntakeItem, ItemKind, ItemState, find_item
from crm_core.messages import people_with
from crm_core.phrases import Phrase
from crm_core.records import Activity, Direction, User
from crm_core.store import Transaction

LARGEST: Final = 2 * 2**20
MOST: Final = 1_000
"""Entries of one file."""

_LONGEST: Final = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class CalendarEntry:
    """One entry of a calendar."""

    uid: str
    sequence: int
    title: str
    text: str
    starts_at: datetime
    ends_at: datetime
    cancelled: bool
    organizer: str | None
    invited: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """What became of the entries of a file."""

    filed: int = 0
    tray: int = 0
    known: int = 0
    ignored: int = 0


def read_calendar(raw: bytes, zone: ZoneInfo) -> list[CalendarEntry]:
    """Return the entries of a file; times without a zone are of `zone`.

    Raises InvalidValueError for what is no calendar, is too large or has too many entries.
    """
    from icalendar import Calendar as Read

    if not 0 < len(raw) <= LARGEST:
        raise InvalidValueError(
            "calendar",
            Phrase("{count} bytes", count=len(raw)),
            Phrase("a file of 1 to {largest} bytes", largest=LARGEST),
        )
    try:
        read = Read.from_ical(raw.decode("utf-8", "replace"))
        events = list(read.walk("VEVENT"))[: MOST + 1]
        method = str(read.get("method") or "").upper()
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError) as error:
        raise InvalidValueError("calendar", raw[:40], "an iCalendar file (.ics)") from error
    if len(events) > MOST:
        raise InvalidValueError(
            "calendar", Phrase("more than {most} entries", most=MOST), Phrase("at most {most}", most=MOST)
        )
    return [found for each in events if (found := _entry(each, method, zone)) is not None]


def _entry(event: Any, method: str, zone: ZoneInfo) -> CalendarEntry | None:  # noqa: ANN401  a library's own
    """Return one entry; None for one that says no time or cannot be read."""
    try:
        starts_at = _instant(event.decoded("dtstart"), zone)
        ends_at = _end(event, starts_at, zone)
        return CalendarEntry(
            uid=_uid(event),
            sequence=int(event.get("sequence") or 0),
            title=_text(event, "summary", 300),
            text="\n\n".join(
                each for each in (_text(event, "location", 500), _text(event, "description")) if each
            ),
            starts_at=starts_at,
            ends_at=ends_at,
            cancelled=method == "CANCEL" or str(event.get("status") or "").upper() == "CANCELLED",
            organizer=_address(event.get("organizer")),
            invited=tuple(_addresses(event)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _uid(event: Any) -> str:  # noqa: ANN401  as above
    uid = str(event["uid"]).strip()
    recurrence = event.get("recurrence-id")
    if not uid or len(uid) > 150 or not uid.isprintable():
        raise ValueError(uid)
    return f"{uid} {recurrence.to_ical().decode()[:40]}" if recurrence is not None else uid


def _instant(value: Any, zone: ZoneInfo) -> datetime:  # noqa: ANN401  a date or a datetime
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=zone)
        return aware.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(9), tzinfo=zone).astimezone(UTC)
    raise TypeError(value)


def _end(event: Any, starts_at: datetime, zone: ZoneInfo) -> datetime:  # noqa: ANN401  as above
    if "dtend" in event and isinstance(event.decoded("dtend"), datetime):
        end = _instant(event.decoded("dtend"), zone)
    elif "duration" in event:
        end = starts_at + event.decoded("duration")
    else:
        end = starts_at + timedelta(hours=1)
    return min(max(end, starts_at), starts_at + _LONGEST)


def _text(event: Any, name: str, longest: int = 20_000) -> str:  # noqa: ANN401  as above
    plain = str(event.get(name) or "").replace("\x00", "").encode("utf-8", "replace").decode()
    return plain.strip()[:longest]


def _addresses(event: Any) -> Iterator[str]:  # noqa: ANN401  as above
    found = event.get("attendee") or []
    for each in (found if isinstance(found, list) else [found])[:100]:
        if (address := _address(each)) is not None:
            yield address


def _address(value: object) -> str | None:
    text = str(value or "")
    return mail_key(text[len("mailto:") :]) if text.lower().startswith("mailto:") else mail_key(text)


def take_calendar(
    transaction: Transaction, entries: list[CalendarEntry], *, by: User | None = None
) -> Calendar:
    """Write down entries; what somebody brings `by` hand is put only on records that they may change.

    It is their calendar, where it says nobody else's.
    """
    counts = {"filed": 0, "tray": 0, "known": 0, "ignored": 0}
    # Before what is known is read: of two files at once the newer entry stays.
    hold_keys(transaction.session, [key_to_hold(ItemKind.EVENT, entry.uid) for entry in entries])
    for entry in entries:
        counts[_take_one(transaction, entry, by)] += 1
    return Calendar(**counts)


def _take_one(transaction: Transaction, entry: CalendarEntry, by: User | None) -> str:
    session = transaction.session
    known = find_item(session, ItemKind.EVENT, entry.uid)
    is_foreign = known is not None and by is not None and not _may_renew(session, known, by)
    if is_foreign:
        known = None  # all is answered as if it were not here
    if known is not None and (known.said.get("sequence") or 0) > entry.sequence:
        return "known"
    everybody = [each for each in (entry.organizer, *entry.invited) if each]
    colleagues = colleagues_with(session, everybody)
    outside = tuple(each for each in everybody if each not in colleagues)
    if not outside or (entry.cancelled and known is None):
        return "ignored"
    if is_foreign:
        return "tray"
    ours = colleagues.get(entry.organizer or "") or next(iter(colleagues.values()), by)
    heard = take(
        transaction,
        _tray_entry(entry, outside, ours, by),
        lambda each: match_for(each, by, lambda may: _match(each, outside, may)),
    )
    return _told(heard)


def _may_renew(session: Session, item: IntakeItem, by: User) -> bool:
    """Say whether somebody may bring a newer version: of what they brought, or of what they may change."""
    if item.state == ItemState.OPEN:
        return item.said.get("brought_by_id") == by.id or by.role in OVERSEERS
    activity = session.get(Activity, item.activity_id) if item.activity_id is not None else None
    return activity is not None and Reader(session, by).may_change(activity)


def _told(heard: Heard) -> str:
    if heard.about is not None:
        return "filed"
    return "known" if not heard.is_new else "tray"


def _match(session: Session, outside: tuple[str, ...], may: May) -> Match:
    candidates: tuple[tuple[str, int], ...] = ()
    for address in outside:
        found = match_people(session, people_with(session, address), may)
        if found.about is not None:
            return found
        candidates += found.candidates
    return Match(about=None, candidates=tuple(dict.fromkeys(candidates)))


def _tray_entry(entry: CalendarEntry, outside: tuple[str, ...], ours: User | None, by: User | None) -> Entry:
    said: Mapping[str, Any] = {
        "text": entry.text,
        "starts_at": micros(entry.starts_at),
        "duration_seconds": int((entry.ends_at - entry.starts_at).total_seconds()),
        "sequence": entry.sequence,
        "cancelled": entry.cancelled,
        "owner_id": ours.id if ours is not None else None,
        "brought_by_id": by.id if by is not None else None,
        "direction": Direction.INBOUND if entry.organizer in outside else Direction.OUTBOUND,
    }
    return Entry(
        kind=ItemKind.EVENT,
        key=entry.uid,
        who=outside[0],
        title=entry.title or None,
        said=said,
        happened_at=entry.starts_at,
    )
