"""Working time over HTTP: the week, days that differ, and who is away when."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import BeforeValidator, Field
from sqlalchemy.orm import Session

from crm_core.access import check_may_administer
from crm_core.changes import Source
from crm_core.errors import AccessDeniedError, InvalidValueError, RecordNotFoundError
from crm_core.records import Role, User
from crm_core.working_time import (
    Absence,
    WorkingTime,
    add_absence,
    find_week,
    list_absences,
    list_special_days,
    remove_absence,
    remove_special_day,
    set_special_day,
    set_week,
    working_time,
)
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, tagged
from serving.api.pages import Key, PageQuery
from serving.payloads import Asked, Given, Id, RecordPath, Taken
from serving.service import service, writing

api: APIBlueprint = new_blueprint("working-time", "When people work, and when somebody is away.")

_BODY = (400, 413, 415)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_AT = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", examples=["09:00"])]
_SPAN = Annotated[list[_AT], Field(min_length=2, max_length=2)]
_WEEK = Annotated[
    list[Annotated[list[_SPAN], Field(max_length=10)]],
    Field(
        min_length=7,
        max_length=7,
        description="From Monday: of each day the hours that are worked, as pairs of first and last.",
    ),
]


def _read_day(value: object) -> object:
    """Take a day as it is written, and no number of seconds."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return date.fromisoformat(value)
    raise ValueError("expected a day such as 2026-03-02")


_DayIn = Annotated[date, BeforeValidator(_read_day)]


class SpecialDayOut(Given):
    """A day that differs from the week and from the country's holidays."""

    day: date
    worked: bool
    name: str | None


class WorkingTimeOut(Given):
    """When people work."""

    zone: str
    week: list[list[list[str]]]
    country: str | None
    special_days: list[SpecialDayOut]
    version: int = Field(description="0: nothing was set.")


class WorkingTimeIn(Taken):
    """The usual week."""

    zone: Annotated[str, Field(max_length=64)]
    week: _WEEK
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = Field(
        default=None, description="Whose public holidays are kept."
    )


class SpecialDayPath(Asked):
    """Which day."""

    day: _DayIn


class SpecialDayIn(Taken):
    """What is with a day."""

    worked: bool | None = Field(description="Null: as the week and the calendar have it.")
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None


class AbsenceIn(Taken):
    """Days on which somebody is away, both included."""

    first_day: _DayIn
    last_day: _DayIn


class AbsenceOut(Given):
    """Days on which somebody is away, both included."""

    id: int
    first_day: date
    last_day: date


class AbsencesPage(Given):
    """When somebody is away, the latest first."""

    items: list[AbsenceOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class AbsencePath(RecordPath):
    """Whose absence, and which."""

    absence_id: Id


@api.get("/working-time", responses={"200": WorkingTimeOut, **documented(403)})
def get_working_time(header: ReadHeaders) -> Response:
    """Say when people work."""
    with service().store.reading() as session:
        found = _working_time(session)
    return header.answer(found, found.version)


@api.put("/working-time", responses={"200": WorkingTimeOut, **documented(*_BODY, 403)})
def put_working_time(header: WriteHeaders, body: WorkingTimeIn) -> Response:
    """Set the week, its zone and whose public holidays are kept."""
    check_may_administer(caller())
    if body.zone not in available_timezones():
        raise InvalidValueError("zone", body.zone, "a time zone such as Asia/Shanghai")
    week = tuple(tuple((_time(a), _time(b)) for a, b in hours) for hours in body.week)
    wanted = WorkingTime(zone=ZoneInfo(body.zone), week=week, country=body.country)
    with writing(caller(), Source.API) as transaction:
        version = header.version(_version(transaction.session))
        set_week(transaction, caller(), wanted, version=version)
        now = _working_time(transaction.session)
        return tagged(now.model_dump_json(), now.version)


def _working_time(session: Session) -> WorkingTimeOut:
    found = working_time(session, service().settings.time_zone)
    days = [SpecialDayOut.model_validate(each, from_attributes=True) for each in list_special_days(session)]
    week = [[[_said(first), _said(last, end=True)] for first, last in hours] for hours in found.week]
    return WorkingTimeOut(
        zone=found.zone.key,
        week=week,
        country=found.country,
        special_days=days,
        version=_version(session),
    )


def _version(session: Session) -> int:
    row = find_week(session)
    return 0 if row is None else row.version


@api.put("/working-time/days/<string:day>", responses={"204": None, **documented(*_BODY, 403)})
def put_special_day(path: SpecialDayPath, body: SpecialDayIn) -> Response:
    """Make a day worked by all or off for all, or as usual again."""
    check_may_administer(caller())
    with writing(caller(), Source.API) as transaction:
        if body.worked is None:
            remove_special_day(transaction, path.day)
        else:
            set_special_day(transaction, path.day, worked=body.worked, name=body.name)
        return Response(status=204)


@api.get("/users/<int:id>/absences", responses={"200": AbsencesPage, **documented(403, 404)})
def get_absences(path: RecordPath, query: PageQuery) -> Response:
    """List when somebody is away, the latest first."""
    with service().store.reading() as session:
        found, more = query.part(list_absences(session, path.id), _by_day, falling=True)
        return answer(AbsencesPage(items=[_absence(each) for each in found], next_cursor=more))


def _by_day(absence: Absence) -> Key:
    return (absence.last_day.isoformat(), absence.id)


def _absence(absence: Absence) -> AbsenceOut:
    return AbsenceOut.model_validate(absence, from_attributes=True)


@api.get("/users/<int:id>/absences/<int:absence_id>", responses={"200": AbsenceOut, **documented(404)})
def get_absence(path: AbsencePath) -> Response:
    """Read an absence of somebody."""
    with service().store.reading() as session:
        for each in list_absences(session, path.id):
            if each.id == path.absence_id:
                return answer(_absence(each))
    raise RecordNotFoundError("absence", path.absence_id)


@api.post("/users/<int:id>/absences", responses={"201": AbsenceOut, **documented(*_BODY, 403, 404)})
def post_absence(path: RecordPath, body: AbsenceIn) -> Response:
    """Note that somebody is away: people for themselves, administrators for all."""
    _check_theirs(path.id)
    with writing(caller(), Source.API) as transaction:
        transaction.get(User, path.id)
        made = add_absence(transaction, path.id, body.first_day, body.last_day)
        return created(_absence(made), f"users/{path.id}/absences/{made.id}")


@api.delete("/users/<int:id>/absences/<int:absence_id>", responses={"204": None, **documented(403, 404)})
def delete_absence(path: AbsencePath) -> Response:
    """Take back an absence."""
    _check_theirs(path.id)
    with writing(caller(), Source.API) as transaction:
        remove_absence(transaction, path.id, path.absence_id)
        return Response(status=204)


def _check_theirs(user_id: int) -> None:
    if user_id != caller().id and caller().role != Role.ADMIN:
        raise AccessDeniedError("people note their own absences; administrators those of all")


def _time(said: str) -> time:
    return time(0) if said == "24:00" else time.fromisoformat(said)


def _said(at: time, *, end: bool = False) -> str:
    return "24:00" if end and at == time(0) else f"{at:%H:%M}"
