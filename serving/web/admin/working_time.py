"""Working time: the week, public holidays, single days that differ, and who is away when."""

from __future__ import annotations

import re
from datetime import date, time
from zoneinfo import ZoneInfo, available_timezones

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.errors import InvalidValueError, StaleRecordError
from crm_core.operations import Done
from crm_core.records import User
from crm_core.store import Transaction
from crm_core.working_time import (
    Hours,
    WorkingTime,
    find_week,
    list_countries,
    list_special_days,
    remove_special_day,
    set_special_day,
    set_week,
    working_time,
)
from serving.own_settings import time_zones
from serving.service import page_session, service
from serving.web.absences import change_absence, read_day
from serving.web.admin.shelf import note, page, pages, to, try_to
from serving.web.language import gettext

_SPAN = re.compile("(\\d{1,2}:\\d{2})\\s*[-\u2013\u2014]\\s*(\\d{1,2}:\\d{2})", re.ASCII)


@pages.get("/working-time")
def show_working_time() -> str:
    """Show when people work."""
    return _show(None)


@pages.post("/working-time")
def save_week() -> ResponseReturnValue:
    """Set the week, its zone and whose public holidays are kept."""
    form, stale = request.form, list[bool]()

    def act(transaction: Transaction) -> None:
        zone = form.get("zone", "")
        if zone not in available_timezones():
            raise InvalidValueError("zone", zone, gettext("a time zone of the list"))
        week = tuple(read_hours(form.get(f"day-{day}", "")) for day in range(7))
        wanted = WorkingTime(zone=ZoneInfo(zone), week=week, country=form.get("country") or None)
        try:
            set_week(transaction, current_user.user, wanted, version=form.get("version", 0, type=int))
        except StaleRecordError:
            stale.append(True)
            raise
        note(transaction, Done.SETTING_SET, detail=f"working week: {zone}, {wanted.country or 'no holidays'}")

    refused = try_to(act)
    if refused is not None:
        said = gettext("Somebody else has set the week meanwhile: see below.") if stale else refused
        return make_response(_show(said), 409 if stale else 422)
    flash(gettext("Saved. It holds from now on."))
    return redirect(to("show_working_time"))


@pages.post("/working-time/days")
def save_special_day() -> ResponseReturnValue:
    """Make a day worked or a day off, or let it be as the week and the calendar have it."""
    form = request.form

    def act(transaction: Transaction) -> None:
        day, said = read_day(form, "day"), form.get("worked", "")
        if said == "as usual":
            remove_special_day(transaction, day)
        else:
            name = form.get("name", "").strip() or None
            set_special_day(transaction, day, worked=said == "yes", name=name)
        note(transaction, Done.SETTING_SET, detail=f"{day.isoformat()}: worked {said or 'no'}")

    refused = try_to(act)
    if refused is not None:
        return make_response(_show(refused), 422)
    flash(gettext("Saved. It holds from now on."))
    return redirect(to("show_working_time", _anchor="days"))


@pages.post("/people/<int:user_id>/absences")
def save_absence_of(user_id: int) -> ResponseReturnValue:
    """Note when somebody is away, or take it back."""

    def act(transaction: Transaction) -> None:
        transaction.get(User, user_id)
        change_absence(transaction, user_id, request.form)
        note(transaction, Done.SETTING_SET, record_type="user", ids=(user_id,), detail="absence")

    refused = try_to(act)
    if refused is not None:
        flash(refused)
        return redirect(to("show_person", user_id=user_id, _anchor="absences"))
    flash(gettext("Saved."))
    return redirect(to("show_person", user_id=user_id, _anchor="absences"))


def read_hours(text: str) -> Hours:
    """Return the hours of a day as people write them: `09:00-12:00, 13:00-18:00`; nothing is a day off."""
    said = text.strip()
    if not said:
        return ()
    parts = [part.strip() for part in re.split("[,;\uff0c\uff1b]", said) if part.strip()]
    found = [_SPAN.fullmatch(part) for part in parts]
    if any(match is None for match in found):
        raise InvalidValueError("hours", said, gettext("hours such as 09:00-12:00, 13:00-18:00"))
    return tuple((_time(match[1]), _time(match[2])) for match in found if match is not None)


def _time(said: str) -> time:
    hour, minute = (int(part) for part in said.split(":"))
    if (hour, minute) == (24, 0):
        return time(0)
    if hour > 23 or minute > 59:
        raise InvalidValueError("hours", said, gettext("a time of the day, such as 09:00"))
    return time(hour, minute)


def _show(refused: str | None) -> str:
    session = page_session()
    usual, row = working_time(session, service().settings.time_zone), find_week(session)
    hours = [", ".join(f"{first:%H:%M}-{last:%H:%M}" for first, last in day) for day in usual.week]
    hours = [each.replace("-00:00", "-24:00") for each in hours]
    if refused is not None and "zone" in request.form:
        hours = [request.form.get(f"day-{day}", "") for day in range(7)]
    today = usual.local_day(service().store.clock.now())
    return page(
        "working_time.html",
        hours=hours,
        days=[date(2024, 1, 1 + day) for day in range(7)],  # a Monday and on, for their names
        zone=request.form.get("zone") or usual.zone.key,
        zones=sorted({*time_zones(), usual.zone.key}),
        country=request.form.get("country") if "country" in request.form else usual.country,
        countries=list_countries(),
        version=0 if row is None else row.version,
        special=[each for each in list_special_days(session) if each.day.year >= today.year],
        today=today,
        refused=refused,
    )
