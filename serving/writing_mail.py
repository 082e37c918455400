"""Writing a mail on a record: to whom, about what, by which template, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_write
from crm_core.errors import AccessDeniedError, InvalidValueError, RecordNotFoundError
from crm_core.mail_templates import (
    MailTemplate,
    Rendered,
    as_html,
    fits,
    get_template,
    list_templates,
    render,
)
from crm_core.messages import Message, MessageKind
from crm_core.outgoing import Queued, queue_mail
from crm_core.records import RECORD_TYPES, Activity, Contact, Record, User
from crm_core.store import Transaction

_SHOWN: Final = 15

WRITTEN_ON = ("lead", "contact", "deal", "account", "ticket")
"""Record types on which mails are written."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A mail to be sent; with a template, that is filled in where no text is given."""

    about: tuple[str, int]
    to: str | None = None
    subject: str | None = None
    text: str | None = None
    template_id: int | None = None
    answers: int | None = None


def get_written_on(reader: Reader, about: tuple[str, int], *, to_write: bool = True) -> Record:
    """Return the record that a mail is about, if the user may write on it."""
    if about[0] not in WRITTEN_ON:
        raise RecordNotFoundError(about[0], about[1])
    model = RECORD_TYPES[about[0]]
    return reader.get_to_write(model, about[1]) if to_write else reader.get(model, about[1])


def usual_reader_of(reader: Reader, record: Record) -> Record | None:
    """Return whom a mail about a record goes to: whom it stands for or is of, if the user sees them."""
    contact_id = getattr(record, "contact_id", None)
    if hasattr(record, "email") or contact_id is None:
        return record if hasattr(record, "email") else None
    try:
        return reader.get(Contact, contact_id)
    except RecordNotFoundError:
        return None


def address_of(reader: Reader, person: Record | None) -> str | None:
    """Return somebody's mail address, if the user sees it."""
    if person is None or not reader.may_read_field(person.record_type, "email"):
        return None
    found: str | None = getattr(person, "email", None)
    return found


def fitting_templates(session: Session, user: User, record_type: str) -> list[MailTemplate]:
    """Return the templates that can be filled in for a record of a type."""
    return [each for each in list_templates(session, user) if fits(each, record_type)]


def fill_in(reader: Reader, template: int | MailTemplate, record: Record, *others: Record | None) -> Rendered:
    """Return a template filled in with the user's rights, of which `record` and `others` were read."""
    if isinstance(template, int):
        template = get_template(reader.session, reader.user, template)
    seen = [record, *(each for each in others if each is not None)]
    return render(reader.session, reader, template, (record.record_type, record.id), seen=seen)


def send_letter(transaction: Transaction, user: User, letter: Letter) -> Queued:
    """Queue a mail from a user about a record that they may write on.

    Raises
    ------
    InvalidValueError
        Where it lacks a receiver, a subject or a text.
    AccessDeniedError, TemplateError
        Where the template says what the user may not see, or cannot be filled in.
    """
    check_may_write(user)
    session = transaction.session
    reader = Reader(session, user)
    reader.check_may_create(Activity)
    record = get_written_on(reader, letter.about)
    person = usual_reader_of(reader, record)
    filled = fill_in(reader, letter.template_id, record, person) if letter.template_id is not None else None
    subject = letter.subject or (filled.subject if filled is not None else "")
    text = letter.text or (filled.text if filled is not None else "")
    to = (letter.to or address_of(reader, person) or "").strip()
    for name, value in (("to", to), ("subject", subject.strip()), ("text", text.strip())):
        if not value:
            raise InvalidValueError(name, value, "something")
    answered = _answered(reader, letter) if letter.answers is not None else None
    return queue_mail(
        transaction,
        to=to,
        subject=subject,
        text=text,
        html=as_html(text),
        about=letter.about,
        sender=user,
        kind=MessageKind.SERVICE if letter.about[0] == "ticket" else MessageKind.DIRECT,
        template_id=letter.template_id,
        answers=answered,
        language=user.language or "en",
    )


def _answered(reader: Reader, letter: Letter) -> Message:
    """Return the mail behind an activity that the user sees."""
    activity = reader.get(Activity, letter.answers or 0)
    query = select(Message).where(Message.activity_id == activity.id).order_by(Message.id.desc()).limit(1)
    found = reader.session.scalars(query).one_or_none()
    if found is None or (found.about_type, found.about_id) != letter.about:
        raise AccessDeniedError("only a mail on the same record can be answered")
    return found


def list_mails_on(
    reader: Reader, about: tuple[str, int], *, limit: int = _SHOWN, before: int | None = None
) -> list[tuple[Message, str | None]]:
    """Return the newest mails on a record that the user sees, each with its subject if they see that.

    With `before`, what is older than the mail with this id.
    """
    seen = reader.select(Activity).with_only_columns(Activity.id).order_by(None)
    query = select(Message).where(
        Message.about_type == about[0], Message.about_id == about[1], Message.activity_id.in_(seen)
    )
    if before is not None:
        query = query.where(Message.id < before)
    found = reader.session.scalars(query.order_by(Message.id.desc()).limit(limit)).all()
    told = reader.may_read_field("activity", "subject")
    return [(each, each.subject if told else None) for each in found]
