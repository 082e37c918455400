"""Taking a person out of mails: what came from them is emptied, what mentions them is scrubbed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from crm_core.addresses import mail_key
from crm_core.mail_templates import MailTemplate
from crm_core.messages import DeadAddress, Message
from crm_core.personal.people import Person
from crm_core.personal.scrubbing import Scrubber

_TEXTS: Final = ("from_address", "to_addresses", "subject", "text", "problem")
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


def _without(message_id: str | None, scrubber: Scrubber) -> str | None:
    """Return an id that says nothing of the person, and still is the same in all mails that name it."""
    if message_id is None or scrubber.scrub(message_id) == message_id:
        return message_id
    return f"sha256-{hashlib.sha256(message_id.encode()).hexdigest()}"


def _set(held: Any, name: str, value: Any) -> None:  # noqa: ANN401  any row, any value
    if getattr(held, name) != value:
        length = getattr(type(held).__table__.c[name].type, "length", None)
        setattr(held, name, value[:length] if isinstance(value, str) and length else value)
