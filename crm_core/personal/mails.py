"""Taking a person out of mails: what came from them is emptied, what mentions them is scrubbed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from crm_core.addresses import mail_key, phone_key
from crm_core.incoming.mailboxes import Mailbox
from crm_core.incoming.tray import IntakeItem, ItemState
from crm_core.mail_templates import MailTemplate
from crm_core.messages import DeadAddress, Message
from crm_core.personal.people import Person
from crm_core.personal.scrubbing import Scrubber
from crm_core.sequences import MailSequence, SequenceRun

_TEXTS: Final = ("from_address", "to_addresses", "subject", "text", "problem")
_KEPT: Final = frozenset({"direction", "duration_seconds", "sequence", "starts_at", "cancelled", "owner_id"})
"""What may stay of something in the tray that is a person's own."""

_IDS: Final = ("message_id", "in_reply_to")


def scrub_mails(
    session: Session, person: Person, scrubber: Scrubber, is_near: Callable[[str, int], bool]
) -> None:
    """Take a person out of all mails and templates, and forget that mails did not reach them."""
    for message in session.scalars(select(Message)):
        _scrub_message(message, person, scrubber, is_near)
    for template in session.scalars(select(MailTemplate)):
        for name in ("name", "subject", "body"):
            _set(template, name, scrubber.scrub(getattr(template, name)))
    for item in session.scalars(select(IntakeItem)):
        _scrub_item(item, person, scrubber)
    for run in session.scalars(select(SequenceRun)):
        if (run.record_type, run.record_id) in person.records():
            run.address, run.why = f"erased-{run.id}", None
        _set(run, "address", scrubber.scrub(run.address))
        _set(run, "why", scrubber.scrub_value(run.why, near=is_near(run.record_type, run.record_id)))
    for held in (*session.scalars(select(Mailbox)), *session.scalars(select(MailSequence))):
        for name in {"problem", "name"} & set(type(held).__table__.columns.keys()) - _keys_of(held):
            _set(held, name, scrubber.scrub_value(getattr(held, name)))
    keys = {key for each in person.identifiers.mails if (key := mail_key(each)) is not None}
    session.execute(delete(DeadAddress).where(DeadAddress.address.in_(keys)))
    for dead in session.scalars(select(DeadAddress)):
        _set(dead, "problem", scrubber.scrub_value(dead.problem))
    session.flush()


def _scrub_message(
    message: Message, person: Person, scrubber: Scrubber, is_near: Callable[[str, int], bool]
) -> None:
    about = (message.about_type or "", message.about_id or 0)
    if about in person.records():
        message.subject, message.text = None, None
    near = is_near(*about)
    for name in _TEXTS:
        _set(message, name, scrubber.scrub_value(getattr(message, name), near=near))
    for name in _IDS:
        _set(message, name, _without(getattr(message, name), scrubber))
    if message.references:
        _set(message, "references", [_without(each, scrubber) for each in message.references])


def _scrub_item(item: IntakeItem, person: Person, scrubber: Scrubber) -> None:
    """Take the person out of what lay in the tray; what they said themselves is emptied."""
    theirs = {mail_key(each) for each in person.identifiers.mails}
    theirs |= {phone_key(each) for each in person.identifiers.phones}
    if item.who is not None and {mail_key(item.who), phone_key(item.who)} & (theirs - {None}):
        item.who, item.title = None, None
        item.said = {name: value for name, value in item.said.items() if name in _KEPT}
        item.state = ItemState.DROPPED if item.state == ItemState.OPEN else item.state
    for name in ("who", "title", "said"):
        _set(item, name, scrubber.scrub_value(getattr(item, name)))
    _set(item, "key", _without(item.key, scrubber))


def _keys_of(held: Any) -> set[str]:  # noqa: ANN401  any row
    return {column.name for column in type(held).__table__.primary_key}


def _without(message_id: str | None, scrubber: Scrubber) -> str | None:
    """Return an id that says nothing of the person, and still is the same in all mails that name it."""
    if message_id is None or scrubber.scrub(message_id) == message_id:
        return message_id
    return f"sha256-{hashlib.sha256(message_id.encode()).hexdigest()}"


def _set(held: Any, name: str, value: Any) -> None:  # noqa: ANN401  any row, any value
    if getattr(held, name) != value:
        length = getattr(type(held).__table__.c[name].type, "length", None)
        setattr(held, name, value[:length] if isinstance(value, str) and length else value)
