"""What other systems bring in: mails, calls, chats, calendars; and the tray of what nobody could place."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader, check_may_operate, check_may_write
from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from crm_core.incoming.calendars import read_calendar, take_calendar
from crm_core.incoming.events import Call, Chat, ChatMessage, Heard, take_call, take_chat
from crm_core.incoming.filing import assign_item, drop_item, lead_from_item, ticket_from_item
from crm_core.incoming.parsing import read_mail
from crm_core.incoming.tray import IntakeItem, ItemState, get_item, list_items
from crm_core.records import RECORD_TYPES
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.api.conditional import created
from serving.mailbox import take_one
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc, whole
from serving.service import service, writing

api: APIBlueprint = new_blueprint(
    "intake", "Mails, calls, chats and calendars that come in from elsewhere (docs/intake.md)."
)

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Who = Annotated[str, Field(min_length=1, max_length=320)]


class MailIn(Taken):
    """A mail as it came."""

    raw: str = Field(min_length=4, description="The whole mail (RFC 5322), in base64.")


class CallIn(Taken):
    """A call."""

    id: _Name = Field(description="What the telephone system calls it; told again, it is renewed.")
    from_number: _Who = Field(description="Who called.")
    to_number: _Who = Field(description="Who was called.")
    started_at: Utc
    direction: Literal["inbound", "outbound"] = Field(description="Inbound: the customer called.")
    duration_seconds: whole(0, 30 * 86_400) | None = None  # type: ignore[valid-type]  # made at run time
    outcome: str | None = Field(default=None, max_length=120, description="Such as `missed`.")
    recording_url: str | None = Field(default=None, max_length=2_000)


class ChatMessageIn(Taken):
    """One thing that somebody said."""

    id: _Name
    at: Utc
    by_us: bool = Field(description="Whether a colleague or a program of ours said it.")
    text: str = Field(min_length=1, max_length=10_000)


class ChatIn(Taken):
    """A conversation, or what was said in it since."""

    id: _Name = Field(description="What the chat calls the conversation.")
    who: _Who = Field(description="The customer: a mail address, a telephone number, or another name.")
    name: str | None = Field(default=None, max_length=200)
    channel: str | None = Field(default=None, max_length=80, description="Such as `WeCom`.")
    messages: list[ChatMessageIn] = Field(min_length=1, max_length=500)


class CalendarIn(Taken):
    """Calendar entries."""

    ics: str = Field(min_length=1, max_length=900_000, description="An iCalendar file (RFC 5545).")


class MailTaken(Given):
    """What became of a mail; `known`: it was here already."""

    outcome: Literal["filed", "tray", "bounce", "unsubscribed", "known"]


class EventTaken(Given):
    """What became of a call or a chat; `renewed`: it was here already."""

    outcome: Literal["filed", "tray", "renewed"]


class CalendarTaken(Given):
    """What became of calendar entries, in numbers."""

    filed: int
    tray: int
    known: int
    ignored: int = Field(description="Entries to which nobody from outside is invited.")


class IntakeCandidate(Given):
    """A record that something may be about, and that you see."""

    type: str
    id: int


class IntakeItemOut(Given):
    """Something in the tray."""

    id: int
    kind: Literal["mail", "call", "chat", "event"]
    state: Literal["open", "assigned", "dropped"]
    who: str | None
    title: str | None
    text: str | None
    happened_at: Utc
    received_at: Utc
    candidates: list[IntakeCandidate]


class IntakeItemsQuery(Asked):
    """What of the tray."""

    state: Literal["open", "assigned", "dropped"] = Field(default="open", description="In which state.")
    limit: int = Field(default=50, ge=1, le=200, description="Items on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class IntakeItemsPage(Given):
    """What is in the tray, newest first."""

    items: list[IntakeItemOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class IntakeTarget(Taken):
    """Where something belongs."""

    type: Literal["lead", "contact", "deal", "account", "ticket"]
    id: Id


class IntakeTicket(Taken):
    """For whom a ticket is: one of the two is needed."""

    account_id: Id | None = Field(default=None, description="Default: the contact's.")
    contact_id: Id | None = None


class IntakeMade(Given):
    """The record that was made of something in the tray."""

    type: Literal["lead", "ticket"]
    id: int


class IntakeAssigned(Given):
    """The activity that it became."""

    activity_id: int


@api.post("/intake/mail", responses={"200": MailTaken, **documented(400, 403, 409, 413, 415)})
@requires(Scope.INTAKE)
def take_in_mail(body: MailIn) -> Response:
    """Take a mail: it is put on the record that it is about, or into the tray; each is taken once."""
    check_may_operate(caller())
    try:
        raw = base64.b64decode(body.raw, validate=True)
    except ValueError as error:  # also of letters that no base64 has
        raise InvalidValueError("raw", body.raw[:40], "a mail in base64") from error
    mail = read_mail(raw)
    with writing(caller(), Source.AUTOMATION) as transaction:
        taken = take_one(transaction, service().settings, mail, source="api")
        given = MailTaken(outcome=taken.outcome.value)
    return answer(given)


@api.post("/intake/calls", responses={"200": EventTaken, **documented(400, 403, 409, 413, 415)})
@requires(Scope.INTAKE)
def take_in_call(body: CallIn) -> Response:
    """Take a call, from any telephone system; told again under the same id, it is renewed."""
    check_may_operate(caller())
    call = Call(
        id=body.id,
        caller=body.from_number,
        called=body.to_number,
        started_at=body.started_at,
        direction=body.direction,
        duration_seconds=body.duration_seconds,
        outcome=body.outcome,
        recording_url=body.recording_url,
    )
    with writing(caller(), Source.AUTOMATION) as transaction:
        given = _heard(take_call(transaction, call))
    return answer(given)


@api.post("/intake/chats", responses={"200": EventTaken, **documented(400, 403, 409, 413, 415)})
@requires(Scope.INTAKE)
def take_in_chat(body: ChatIn) -> Response:
    """Take a conversation, or what was said in it since: one activity, that grows."""
    check_may_operate(caller())
    messages = [
        ChatMessage(id=each.id, at=each.at, by_us=each.by_us, text=each.text) for each in body.messages
    ]
    chat = Chat(id=body.id, who=body.who, name=body.name, channel=body.channel, messages=messages)
    with writing(caller(), Source.AUTOMATION) as transaction:
        given = _heard(take_chat(transaction, chat))
    return answer(given)


@api.post("/intake/calendar", responses={"200": CalendarTaken, **documented(400, 403, 409, 413, 415)})
@requires(Scope.INTAKE)
def take_in_calendar(body: CalendarIn) -> Response:
    """Take calendar entries: meetings with the customers who are invited."""
    check_may_operate(caller())
    entries = read_calendar(body.ics.encode(), ZoneInfo(service().settings.time_zone))
    with writing(caller(), Source.AUTOMATION) as transaction:
        given = CalendarTaken(**vars(take_calendar(transaction, entries)))
    return answer(given)


@api.get("/intake/items", responses={"200": IntakeItemsPage, **documented(403)})
def list_intake_items(query: IntakeItemsQuery) -> Response:
    """List what is in the tray: managers see all of it, others what may be about their records only."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        state = ItemState(query.state)
        found = list_items(reader, state=state, before=query.cursor, limit=query.limit + 1)
        seen = _seen(reader, found)
        items = [_item(each, seen) for each in found[: query.limit]]
    more = len(found) > query.limit
    return answer(IntakeItemsPage(items=items, next_cursor=items[-1].id if more else None))


@api.post(
    "/intake/items/<int:id>/assign", responses={"200": IntakeAssigned, **documented(400, 403, 404, 412)}
)
def assign_intake_item(path: RecordPath, body: IntakeTarget) -> Response:
    """Put something from the tray on a record that you may write on."""
    check_may_write(caller())
    _check_sees(path.id)
    with writing(caller(), Source.API) as transaction:
        activity = assign_item(transaction, caller(), path.id, (body.type, body.id))
        given = IntakeAssigned(activity_id=activity.id)
    return answer(given)


@api.post("/intake/items/<int:id>/lead", responses={"201": IntakeMade, **documented(403, 404, 412)})
def make_lead_of_intake_item(path: RecordPath) -> Response:
    """Make a lead of whoever wrote or called, with what they said on it."""
    check_may_write(caller())
    _check_sees(path.id)
    with writing(caller(), Source.API) as transaction:
        made = lead_from_item(transaction, caller(), path.id)
        return created(IntakeMade(type="lead", id=made.id), f"leads/{made.id}")


@api.post(
    "/intake/items/<int:id>/ticket", responses={"201": IntakeMade, **documented(400, 403, 404, 412, 413, 415)}
)
def make_ticket_of_intake_item(path: RecordPath, body: IntakeTicket) -> Response:
    """Make a ticket of what came in, for a customer or a contact of theirs."""
    check_may_write(caller())
    _check_sees(path.id)
    with writing(caller(), Source.API) as transaction:
        made = ticket_from_item(
            transaction, caller(), path.id, account_id=body.account_id, contact_id=body.contact_id
        )
        return created(IntakeMade(type="ticket", id=made.id), f"tickets/{made.id}")


@api.post("/intake/items/<int:id>/drop", responses={"204": None, **documented(403, 404, 412)})
def drop_intake_item(path: RecordPath) -> Response:
    """Drop something from the tray; it does not come again."""
    with writing(caller(), Source.API) as transaction:
        drop_item(transaction, caller(), path.id)
    return Response(status=204)


def _check_sees(item_id: int) -> None:
    with service().store.reading() as session:
        get_item(Reader(session, caller()), item_id)


def _heard(heard: Heard) -> EventTaken:
    if not heard.is_new and heard.about is None:
        return EventTaken(outcome="renewed")
    return EventTaken(outcome="filed" if heard.about is not None else "tray")


def _seen(reader: Reader, found: Sequence[IntakeItem]) -> set[tuple[str, int]]:
    """Return which of the records that some items may be about the reader sees."""
    by_type: dict[str, set[int]] = defaultdict(set)
    for item in found:
        for kind, record_id in item.candidates:
            by_type[kind].add(record_id)
    return {
        (kind, record_id)
        for kind, ids in by_type.items()
        for model in [RECORD_TYPES[kind]]
        for record_id in reader.session.scalars(
            reader.select(model).with_only_columns(model.id).where(model.id.in_(ids))
        )
    }


def _item(item: IntakeItem, seen: set[tuple[str, int]]) -> IntakeItemOut:
    text = item.said.get("text")
    return IntakeItemOut(
        id=item.id,
        kind=item.kind,  # type: ignore[arg-type]  # one of them, as the store writes it
        state=item.state,  # type: ignore[arg-type]  # as above
        who=item.who,
        title=item.title,
        text=str(text)[:10_000] if text else None,
        happened_at=item.happened_at,
        received_at=item.received_at,
        candidates=[
            IntakeCandidate(type=kind, id=each) for kind, each in item.candidates if (kind, each) in seen
        ],
    )
