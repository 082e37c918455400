"""What is the caller's own, over HTTP: what they are told of, what they set of themselves, their calendar."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response, request
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.alerts import ByMail, mail_wish, set_mail_wish
from crm_core.calendar_feeds import end_feed, find_feed, make_feed
from crm_core.changes import Source
from crm_core.day_plans import find_day_plan, set_day_plan
from crm_core.notifications import Notification, count_unread, list_notifications, mark_read
from crm_core.records import RECORD_TYPES, User
from crm_core.workday import MOST_A_DAY
from serving.api.blueprint import answer, caller, documented, keep_no_body, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, mark_of, tagged
from serving.own_settings import set_own
from serving.payloads import Asked, Given, Id, Taken, Utc, whole
from serving.service import service, writing
from serving.told import names_of, said_by_rules
from serving.web.titles import told_of

api: APIBlueprint = new_blueprint(
    "own", "What is yours: what you are told of, what you set of yourself, your calendar."
)


class NotificationsQuery(Asked):
    """Which notifications."""

    unread: bool = Field(default=False, description="Only what you have not read.")
    limit: int = Field(default=50, ge=1, le=200, description="Notifications on a page, newest first.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class RuleTextOut(Given):
    """What a rule of automation says."""

    en: str
    zh: str


class NotificationOut(Given):
    """Something that you are told of; what you may not see any more of it is null."""

    id: int
    kind: str = Field(
        description="mention, assigned, alert, job, due, automation, approval, payment, mail or form."
    )
    text: str = Field(description="Which sentence it is, such as `payment_late`; often the kind itself.")
    said: RuleTextOut | None = Field(description="Of `automation`: what the rule says.")
    actor_id: int | None = Field(description="Whose doing it is; null: the program.")
    record_type: str | None = Field(
        description="Of what it is about; also `import` and `list_work`, whose id is that of the work."
    )
    record_id: int | None
    title: str | None = Field(description="What that record is called.")
    params: dict[str, Any] | None = Field(
        description="Numbers and ids of the sentence, such as the `days` that a payment is late."
    )
    created_at: Utc
    read_at: Utc | None


class NotificationsPage(Given):
    """What you were told, newest first."""

    items: list[NotificationOut]
    unread: int = Field(description="How many there are in all that you have not read.")
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class ReadIn(Taken):
    """What you have read."""

    ids: list[Id] | None = Field(
        default=None, max_length=200, description="Null: all of it.", examples=[[7, 3]]
    )


class ReadOut(Given):
    """How many of them were unread."""

    read: int


class OwnSettings(Given):
    """What you set of yourself."""

    name: str
    language: Literal["en", "zh"] | None = Field(description="Null: that of the browser.")
    time_zone: str | None = Field(description="Null: that of the organisation.", examples=["Asia/Shanghai"])
    records_a_day: int | None = Field(description="How many you work a day; null: as many as you usually do.")
    alert_mails: ByMail


class OwnChange(Taken):
    """What is to be another; what is left out, or null, stays, but for `records_a_day`."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Ana Li"])] | None = None
    language: Literal["en", "zh"] | None = None
    time_zone: Annotated[str, Field(min_length=1, max_length=64, examples=["Asia/Shanghai"])] | None = None
    records_a_day: whole(1, MOST_A_DAY) | None = Field(  # type: ignore[valid-type]  # made at run time
        default=None, description="Null, where it is sent: as many as you usually do."
    )
    alert_mails: ByMail | None = Field(default=None, strict=False)


class FeedOut(Given):
    """Whether your calendar is read by a program."""

    made_at: Utc | None = Field(description="Null: there is no feed.")


class MadeFeed(FeedOut):
    """A new feed."""

    url: str = Field(description="Where your calendar program reads it (iCalendar). It is not told again.")


@api.get(
    "/notifications", operation_id="list_notifications", responses={"200": NotificationsPage, **documented()}
)
def list_own_notifications(query: NotificationsQuery) -> Response:
    """List what you were told of, newest first."""
    user = caller()
    with service().store.reading() as session:
        found = list_notifications(
            session, user.id, limit=query.limit + 1, unread_only=query.unread, before=query.cursor
        )
        items = _notifications(session, user, found[: query.limit])
        unread = count_unread(session, user.id)
    more = len(found) > query.limit
    return answer(NotificationsPage(items=items, unread=unread, next_cursor=items[-1].id if more else None))


@api.post("/notifications/read", responses={"200": ReadOut, **documented(400, 413, 415)})
def read_notifications(body: ReadIn) -> Response:
    """Note that you have read some notifications, or all; those of others are left alone."""
    with writing(caller(), Source.API) as transaction:
        return answer(ReadOut(read=mark_read(transaction, caller().id, body.ids)))


@api.get("/me/settings", responses={"200": OwnSettings, **documented()})
def get_own_settings(header: ReadHeaders) -> Response:
    """Read what you set of yourself."""
    with service().store.reading() as session:
        found = _own(session, session.get_one(User, caller().id))
    return header.answer(found, mark_of(found))


@api.patch("/me/settings", responses={"200": OwnSettings, **documented(400, 413, 415)})
def change_own_settings(header: WriteHeaders, body: OwnChange) -> Response:
    """Change what you set of yourself."""
    said = {"name": body.name, "language": body.language, "time_zone": body.time_zone}
    named = {name: value for name, value in said.items() if value is not None}
    with writing(caller(), Source.API) as transaction:
        session = transaction.session
        seen = _own(session, session.get_one(User, caller().id, with_for_update=True))
        header.check("settings of user", caller().id, mark_of(seen))
        user = set_own(transaction, caller(), named)
        if "records_a_day" in body.model_fields_set:
            set_day_plan(session, user.id, body.records_a_day)
        if body.alert_mails is not None:
            set_mail_wish(session, user.id, body.alert_mails)
        now = _own(session, user)
        return tagged(now.model_dump_json(), mark_of(now))


@api.get("/me/calendar-feed", responses={"200": FeedOut, **documented()})
def get_calendar_feed() -> Response:
    """Tell whether a program may read your calendar, and since when."""
    with service().store.reading() as session:
        found = find_feed(session, caller().id)
        return answer(FeedOut(made_at=None if found is None else found.made_at))


@api.post("/me/calendar-feed", responses={"201": MadeFeed, **documented()})
def make_calendar_feed() -> Response:
    """Make a secret address where a program reads your meetings and tasks; one made before ends."""
    keep_no_body()
    base = (service().settings.public_url or request.host_url).rstrip("/")
    with writing(caller(), Source.API) as transaction:
        secret = make_feed(transaction, caller())
        made = MadeFeed(made_at=transaction.now, url=f"{base}/calendar/{secret}.ics")
        return created(made, "me/calendar-feed")


@api.delete("/me/calendar-feed", responses={"204": None, **documented()})
def end_calendar_feed() -> Response:
    """Let nobody read your calendar by its secret address any more; without one, it changes nothing."""
    with writing(caller(), Source.API) as transaction:
        end_feed(transaction, caller())
    return Response(status=204)


def _own(session: Session, user: User) -> OwnSettings:
    return OwnSettings.model_validate(
        {
            "name": user.name,
            "language": user.language,
            "time_zone": user.time_zone,
            "records_a_day": find_day_plan(session, user.id),
            "alert_mails": mail_wish(session, user.id),
        }
    )


def _notifications(session: Session, user: User, found: Any) -> list[NotificationOut]:  # noqa: ANN401  a sequence
    reader = Reader(session, user)
    called, said = names_of(reader, found), said_by_rules(session, found)
    called |= told_of(reader, called)
    return [_told(each, called, said.get(each.id)) for each in found]


def _told(each: Notification, called: Any, said: object) -> NotificationOut:  # noqa: ANN401  names by record
    about = (each.about_type, each.about_id)
    seen = about in called or (each.about_type is not None and each.about_type not in RECORD_TYPES)
    plain = {
        name: getattr(each, name) for name in ("id", "kind", "text", "actor_id", "created_at", "read_at")
    }
    texts = said if isinstance(said, dict) else {"en": said, "zh": said}
    return NotificationOut.model_validate(
        {
            **plain,
            "said": None if said is None else {name: str(texts.get(name) or "") for name in ("en", "zh")},
            "record_type": each.about_type if seen else None,
            "record_id": each.about_id if seen else None,
            "title": called.get(about),
            "params": each.params if seen or each.about_type is None else None,
        }
    )
