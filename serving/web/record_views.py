"""What the pages of leads, deals and customers do alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.alerts import open_alerts_of
from crm_core.changes import Source
from crm_core.clock import micros
from crm_core.errors import CRMError, InvalidValueError
from crm_core.pipelines import open_stages
from crm_core.records import Activity
from serving.activity_log import log_on
from serving.alerts import ToldAlert, tell_alerts
from serving.personal_data import opt_out_for
from serving.service import page_session, service, wake_rescoring, writing
from serving.tags import tags_of
from serving.web.beside_score import read_beside
from serving.web.language import choose_time_zone, gettext
from serving.web.lists import read_table
from serving.web.records import Kind, Scored, Shelf, read_sheet, read_shelf

TIMELINE = "_timeline.html"
LOGGED_KINDS = ("call", "mail", "meeting", "visit", "note")
View = Callable[..., ResponseReturnValue]


def add_views(pages: Blueprint, kind: Kind) -> None:
    """Add the list, the page, the score and the logging of activities of one kind of record."""

    @pages.get("")
    def list_records() -> ResponseReturnValue:
        return _list(kind)

    @pages.get("/<int:record_id>")
    def show(record_id: int) -> ResponseReturnValue:
        return _show(kind, record_id)

    @pages.get("/<int:record_id>/score")
    def show_score(record_id: int) -> ResponseReturnValue:
        return _score(kind, record_id)

    @pages.post("/<int:record_id>/scoring-opt-out")
    def opt_out(record_id: int) -> ResponseReturnValue:
        return _opt_out(kind, record_id)

    @pages.post("/<int:record_id>/activities")
    def log(record_id: int) -> ResponseReturnValue:
        return _log(kind, record_id)


def _list(kind: Kind) -> ResponseReturnValue:
    session, user = page_session(), current_user.user
    table = read_table(session, user, kind)
    asked, refused = table.chosen.listing(request.args.get("cursor") or None), None
    try:
        shelf = read_shelf(session, user, kind, asked)
    except CRMError as error:  # a filter that makes no sense or may not be asked: say so, and show no row
        refused = str(error)
        shelf = Shelf(rows=(), next_cursor=None, owners=(), asked=asked, any_at_all=True)
    tags = tags_of(
        Reader(session, user), kind.record_type, [row.record.id for row in shelf.rows], table.segments
    )
    shown = render_template("list.html", kind=kind, shelf=shelf, table=table, tags=tags, refused=refused)
    return make_response(shown, 422 if refused else 200)


def _show(kind: Kind, record_id: int, refused: str | None = None) -> ResponseReturnValue:
    return _render("record.html", kind, record_id, refused=refused, values=request.form)


def _score(kind: Kind, record_id: int) -> ResponseReturnValue:
    """Give the part of the page that shows the score, or nothing while it is the one the page has."""
    reader = Reader(page_session(), current_user.user)
    record = reader.masked(reader.get(kind.model, record_id))
    mark = str(micros(record.scored_at)) if record.scored_at else ""
    if mark == request.args.get("seen", ""):
        return make_response("", 204)
    return _render("_score.html", kind, record_id)


def _render(template: str, kind: Kind, record_id: int, **more: object) -> ResponseReturnValue:
    reader = Reader(page_session(), current_user.user)
    sheet = read_sheet(reader, kind, reader.get(kind.model, record_id))
    return render_template(
        template,
        kind=kind,
        sheet=sheet,
        beside=read_beside(reader, sheet.record) if template != TIMELINE else None,
        kinds=LOGGED_KINDS,
        stages=open_stages(),
        alerts=_alerts(reader, sheet.record) if template == "record.html" else (),
        **more,
    )


def _alerts(reader: Reader, record: Scored) -> list[ToldAlert]:
    """Return the alerts about a record that are not over."""
    now = service().store.clock.now()
    return tell_alerts(reader, open_alerts_of(reader, record, now), now)


def _log(kind: Kind, record_id: int) -> ResponseReturnValue:
    """Log an activity; a script gets the new timeline, a browser without one the page again."""
    by_script = request.headers.get("X-Requested-With") == "fetch"
    try:
        with writing(current_user.user, Source.REP) as transaction:
            log_on(transaction, current_user.user, kind.model, record_id, activity_of_form())
    except InvalidValueError as error:
        return make_response(str(error) if by_script else _show(kind, record_id, refused=str(error)), 422)
    if by_script:
        return make_response(_render(TIMELINE, kind, record_id), 201)
    flash(gettext("Logged. The score follows in a moment: reload the page to see it."))
    return redirect(url_for(f"{kind.collection}_pages.show", record_id=record_id))


def _opt_out(kind: Kind, record_id: int) -> ResponseReturnValue:
    """Write down whether somebody asks not to be scored."""
    check_may_write(current_user.user)
    opted_out = request.form.get("opted_out") == "yes"
    record = (kind.record_type, record_id)
    opt_out_for(service().store, current_user.user, record, opted_out=opted_out, source=Source.REP)
    wake_rescoring()
    flash(
        gettext("Noted: not to be scored. The score is gone.")
        if opted_out
        else gettext("Noted: may be scored again. A score follows in a moment.")
    )
    return redirect(url_for(f"{kind.collection}_pages.show", record_id=record_id))


def activity_of_form() -> Activity:
    """Return the activity that the form of the request describes."""
    form = request.form
    activity = Activity(kind=form.get("kind", ""))
    if form.get("direction") and activity.kind != "note":
        activity.direction = form["direction"]
    if text := form.get("subject", "").strip():
        activity.subject = text
    if minutes := form.get("minutes", "").strip():
        activity.duration_seconds = _seconds(minutes)
    if when := form.get("occurred_at", "").strip():
        activity.occurred_at = _instant(when)
    return activity


def _seconds(minutes: str) -> int:
    try:
        return round(float(minutes) * 60)
    except (ValueError, OverflowError) as error:
        raise InvalidValueError("minutes", minutes, "a number of minutes") from error


def _instant(text: str) -> datetime:
    """Return the instant that the browser's date field names in the reader's time zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(choose_time_zone()))
    except ValueError as error:
        raise InvalidValueError("occurred_at", text, "a day and time") from error
