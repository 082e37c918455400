"""Calls and chats as other systems tell of them: one activity each, however often the same is told.

A telephone system names each call, a chat each conversation. What comes under a name that is known renews
what was written down; what is about nobody known waits in the tray, and is renewed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from crm_core.activities import log_activity
from crm_core.addresses import mail_key, phone_key
from crm_core.clock import instant, micros
from crm_core.columns import check_text
from crm_core.errors import InvalidValueError
from crm_core.external_ids import hold_keys
from crm_core.incoming.matching import (
    About,
    Match,
    accounts_with_phone,
    match_people,
    people_with_phone,
)
from crm_core.incoming.tray import (
    Entry,
    IntakeItem,
    ItemKind,
    ItemState,
    find_item,
    put_in_tray,
    settle,
)
from crm_core.messages import people_with
from crm_core.outgoing import put_on
from crm_core.phrases import Phrase, one_of
from crm_core.records import RECORD_TYPES, Activity, ActivityKind, Direction
from crm_core.store import Transaction
from crm_core.ticket_clocks import AUTO_REPLY

CHAT: Final = "chat"
"""The outcome of an activity that is a conversation."""

CANCELLED: Final = "cancelled"
"""The outcome of a meeting that was called off."""

_MOST_MESSAGES: Final = 1_000
_LONGEST_BODY: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call, as a telephone system tells of it; `id` is its own name for the call."""

    id: str
    caller: str
    called: str
    started_at: datetime
    direction: str
    duration_seconds: int | None = None
    outcome: str | None = None
    recording_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One thing that somebody said; `by_us` where a colleague or a program of ours did."""

    id: str
    at: datetime
    by_us: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A conversation, or what was said in it since; `who` is a mail address, a number or another name."""

    id: str
    who: str
    name: str | None
    channel: str | None
    messages: Sequence[ChatMessage]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What became of a call, a chat or a calendar entry."""

    item: IntakeItem
    about: About | None
    is_new: bool


def take_call(transaction: Transaction, call: Call) -> Heard:
    """Write down a call, or what is known of it since."""
    if call.direction not in set(Direction):
        raise InvalidValueError("direction", call.direction, one_of(Direction))
    if call.recording_url is not None and not call.recording_url.startswith(("https://", "http://")):
        raise InvalidValueError("recording_url", call.recording_url, "an address that begins with https://")
    other = call.caller if call.direction == Direction.INBOUND else call.called
    entry = Entry(
        kind=ItemKind.CALL,
        key=_key(call.id),
        who=phone_key(other) or other,
        title=None,
        said={
            "direction": call.direction,
            "duration_seconds": call.duration_seconds,
            "outcome": call.outcome,
            "recording_url": call.recording_url,
            "from": call.caller,
            "to": call.called,
        },
        happened_at=call.started_at,
    )
    return take(transaction, entry, lambda session: _match_phone(session, other))


def take_chat(transaction: Transaction, chat: Chat) -> Heard:
    """Write down a conversation, or add what was said in it since."""
    key = _key(chat.id)
    hold_keys(transaction.session, [key_to_hold(ItemKind.CHAT, key)])
    known = find_item(transaction.session, ItemKind.CHAT, key)
    messages = _merged(known.said["messages"] if known is not None else [], chat.messages)
    if not messages:
        raise InvalidValueError("messages", "none", "at least one")
    by_us = messages[0]["by_us"]
    entry = Entry(
        kind=ItemKind.CHAT,
        key=key,
        who=chat.who,
        title=" · ".join(each for each in (chat.channel, chat.name) if each) or None,
        said={
            "messages": messages,
            "from_name": chat.name,
            "channel": chat.channel,
            "direction": Direction.OUTBOUND if by_us else Direction.INBOUND,
        },
        happened_at=instant(messages[0]["at"]),
    )
    return take(transaction, entry, lambda session: _match_anyone(session, chat.who))


def take(transaction: Transaction, entry: Entry, match: Any) -> Heard:  # noqa: ANN401  a function of the session
    """Write down what another system tells, on the record that it is about or into the tray.

    `match` is only asked for what was never seen, or still waits in the tray.
    """
    session = transaction.session
    hold_keys(session, [key_to_hold(entry.kind, entry.key)])
    transaction.index.flush()
    known = find_item(session, entry.kind, entry.key)
    if known is not None and known.state != ItemState.OPEN:
        return Heard(item=_renewed(transaction, known, entry), about=None, is_new=False)
    found: Match = match(session)
    candidates = found.candidates
    item = put_in_tray(transaction, _with_candidates(entry, candidates))
    if found.about is not None:
        _file(transaction, item, found.about)
    return Heard(item=item, about=found.about, is_new=known is None)


def key_to_hold(kind: ItemKind, key: str) -> str:
    """Return what is held while something is read that other systems tell of, and written."""
    return f"{kind}:{key}"


def _with_candidates(entry: Entry, candidates: tuple[About, ...]) -> Entry:
    values = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    return Entry(**{**values, "candidates": candidates})


def _file(transaction: Transaction, item: IntakeItem, about: About) -> None:
    activity = activity_of_item(item)
    record = transaction.session.get(RECORD_TYPES[about[0]], about[1])
    activity.owner_id = item.said.get("owner_id") or getattr(record, "owner_id", None)
    activity.occurred_at = min(item.happened_at, transaction.now)
    log_activity(transaction, put_on(transaction.session, activity, about))
    settle(transaction, item, None, ItemState.ASSIGNED, activity.id)


def _renewed(transaction: Transaction, item: IntakeItem, entry: Entry) -> IntakeItem:
    """Have what was written down say what is known now."""
    if dict(entry.said) != item.said or entry.title != item.title or entry.happened_at != item.happened_at:
        item.said, item.title, item.happened_at = dict(entry.said), entry.title, entry.happened_at
        activity = transaction.session.get(Activity, item.activity_id) if item.activity_id else None
        if activity is not None and activity.deleted_at is None:
            now = activity_of_item(item)
            names = ("subject", "body", "outcome", "duration_seconds", "due_at")
            changed = {each: getattr(now, each) for each in names}
            transaction.update(activity, {each: new for each, new in changed.items() if new is not None})
            if item.kind == ItemKind.EVENT and changed["due_at"] is None:
                transaction.update(activity, {"due_at": None})
            elif item.kind == ItemKind.EVENT and activity.outcome == CANCELLED:
                transaction.update(activity, {"outcome": None})  # it takes place after all
        transaction.session.flush()
    return item


def activity_of_item(item: IntakeItem) -> Activity:
    """Return the activity that something in the tray becomes."""
    return _ACTIVITIES[ItemKind(item.kind)](item, item.said)


def _of_mail(item: IntakeItem, said: Mapping[str, Any]) -> Activity:
    outcome = AUTO_REPLY if said.get("is_automatic") else None
    return Activity(
        kind=ActivityKind.MAIL,
        direction=said.get("direction") or Direction.INBOUND,
        subject=item.title,
        body=said.get("text") or None,
        outcome=outcome,
    )


def _of_call(_item: IntakeItem, said: Mapping[str, Any]) -> Activity:
    return Activity(
        kind=ActivityKind.CALL,
        direction=said["direction"],
        duration_seconds=said["duration_seconds"],
        outcome=said["outcome"],
        body=said["recording_url"],
    )


def _of_chat(item: IntakeItem, said: Mapping[str, Any]) -> Activity:
    who = said.get("from_name") or item.who or "?"
    lines = [f"{'>' if each['by_us'] else who}: {each['text']}" for each in said["messages"]]
    return Activity(
        kind=ActivityKind.WEB,
        direction=said["direction"],
        subject=item.title,
        body="\n".join(lines)[:_LONGEST_BODY],
        outcome=CHAT,
    )


def _of_event(item: IntakeItem, said: Mapping[str, Any]) -> Activity:
    cancelled = bool(said.get("cancelled"))
    return Activity(
        kind=ActivityKind.MEETING,
        direction=said.get("direction"),
        subject=item.title,
        body=said.get("text") or None,
        duration_seconds=said.get("duration_seconds"),
        due_at=None if cancelled else instant(said["starts_at"]),
        outcome=CANCELLED if cancelled else None,
    )


_ACTIVITIES: Final = {
    ItemKind.MAIL: _of_mail,
    ItemKind.CALL: _of_call,
    ItemKind.CHAT: _of_chat,
    ItemKind.EVENT: _of_event,
}


def _match_phone(session: Session, number: str) -> Match:
    found = match_people(session, people_with_phone(session, number))
    if found.about is not None or found.candidates:
        return found
    accounts = accounts_with_phone(session, number)
    if len(accounts) == 1:
        return Match(about=("account", accounts[0].id))
    return Match(about=None, candidates=tuple(("account", each.id) for each in accounts))


def _match_anyone(session: Session, who: str) -> Match:
    if mail_key(who) is not None:
        return match_people(session, people_with(session, who))
    return _match_phone(session, who) if phone_key(who) else Match(about=None)


def _merged(known: Sequence[Mapping[str, Any]], new: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return what was said so far, each thing once, in order."""
    found = {str(each["id"]): dict(each) for each in known}
    for each in new:
        text = check_text("messages.text", each.text, longest=10_000)
        found[each.id] = {"id": each.id, "at": micros(each.at), "by_us": each.by_us, "text": text}
    if len(found) > _MOST_MESSAGES:
        raise InvalidValueError(
            "messages",
            Phrase("{count}", count=len(found)),
            Phrase("at most {most} in one conversation", most=_MOST_MESSAGES),
        )
    return sorted(found.values(), key=lambda each: (each["at"], each["id"]))


def _key(written: str) -> str:
    check_text("id", written, longest=200)
    if not written.strip():
        raise InvalidValueError("id", written, "what tells it from others")
    return written
