"""What the pages of leads, deals and customers do alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import ColumnElement, String, case, cast, func, literal

from crm_core.access import Reader, check_may_write
from crm_core.alerts import open_alerts_of
from crm_core.changes import Source
from crm_core.clock import micros
from crm_core.errors import CRMError, InvalidValueError
from crm_core.opting_out import may_be_scored, note_willing
from crm_core.phrases import one_of
from crm_core.records import Account, Activity, Feedback, Lead
from crm_core.rescoring import is_followed
from crm_core.stage_settings import stages_of
from crm_core.validation import columns_of
from serving.activity_log import log_on
from serving.alerts import ToldAlert, tell_alerts
from serving.champions import TASK_OF
from serving.editing import Kind as Of
from serving.editing import kind_of
from serving.personal_data import opt_out_for
from serving.service import SentAlreadyError, page_session, service, wake_rescoring, writing
from serving.tags import tags_of
from serving.tickets import note_feedback, read_glance
from serving.timeline import leads_of, note_leads
from serving.web.around import list_steps_and_feedback
from serving.web.asked import plain
from serving.web.beside_score import read_beside
from serving.web.facts import may_write
from serving.web.language import gettext
from serving.web.lead_ends import Ends, read_ends
from serving.web.lists import read_table
from serving.web.record_parts import asked_of, read_about
from serving.web.records import Kind, Scored, Shelf, read_sheet, read_shelf
from serving.web.refusals import refusal
from serving.web.typed_activity import LOGGED_KINDS, PLANNED_TOO, read_activity

TIMELINE = "_timeline.html"
View = Callable[..., ResponseReturnValue]

__all__ = ["LOGGED_KINDS", "activity_of_form", "add_views", "show_refused"]


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

    if kind.model is Account:

        @pages.post("/<int:record_id>/feedback")
        def take_feedback(record_id: int) -> ResponseReturnValue:
            return _feedback(kind, record_id)

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
        refused = refusal(error)
        shelf = Shelf(rows=(), next_cursor=None, owners=(), asked=asked, any_at_all=True)
    tags = tags_of(
        Reader(session, user), kind.record_type, [row.record.id for row in shelf.rows], table.segments
    )
    shown = render_template("list.html", kind=kind, shelf=shelf, table=table, tags=tags, refused=refused)
    return make_response(shown, 422 if refused else 200)


def _show(kind: Kind, record_id: int, refused: str | None = None) -> ResponseReturnValue:
    return _render("record.html", kind, record_id, refused=refused, values=request.form)


def show_refused(kind: Kind, record_id: int, refused: str) -> str:
    """Return the page of a record once more, with why it could not be ended, and what was typed."""
    return _render("record.html", kind, record_id, ending_refused=refused, values=request.form)


def _score(kind: Kind, record_id: int) -> ResponseReturnValue:
    """Give the part of the page that shows the score, or nothing while it is the one the page has."""
    followed = is_score_followed(kind.record_type, record_id)  # before the score is read
    reader = Reader(page_session(), current_user.user)
    record = reader.masked(reader.get(kind.model, record_id))
    mark = str(micros(record.scored_at)) if record.scored_at else ""
    if mark == request.args.get("seen", ""):
        return score_as_before(final=followed)
    return _render("_score.html", kind, record_id)


def is_score_followed(record_type: str, record_id: int) -> bool:
    """Tell whether the score that is read next stands for all that is known of a record."""
    return is_followed(page_session(), task=TASK_OF[record_type], record_id=record_id)


def score_as_before(*, final: bool) -> ResponseReturnValue:
    """Tell a script that waits for a score that there is none newer; where it is `final`, none will come."""
    return make_response("", 204, {"X-Score-Stays": "yes"} if final else {})


def _render(template: str, kind: Kind, record_id: int, **more: object) -> str:
    reader = Reader(page_session(), current_user.user)
    record, told = reader.get_beside(kind.model, record_id, _beside)
    willing, _, leads = told.partition(":")
    if willing:
        note_willing(reader.session, kind.model, record_id)
    note_leads(reader.session, record, [int(each) for each in leads.split(",") if each])
    sheet = read_sheet(reader, kind, record)
    whole = template == "record.html"
    alerts = _alerts(reader, record) if whole else ()  # the timeline tells what was done about them
    of_type = kind_of(reader.session, kind.record_type)
    steps, said = list_steps_and_feedback(reader, record) if whole else ((), ())
    return render_template(
        template,
        kind=kind,
        sheet=sheet,
        about=read_about(
            reader, of_type, record, steps=steps, silent=sheet.opted_out, **asked_of(request.args)
        )
        if whole
        else None,
        beside=read_beside(reader, sheet.record),
        kinds=PLANNED_TOO,
        log_path=url_for(f"{kind.collection}_pages.log", record_id=record_id),
        stages=[stage for stage in stages_of(reader.session) if not stage.won],
        alerts=alerts,
        service=read_glance(reader, record, said) if whole and isinstance(record, Account) else None,
        ends=_ends(reader, of_type, record) if whole and isinstance(record, Lead) else None,
        **more,
    )


def _ends(reader: Reader, kind: Of, lead: Lead) -> Ends | None:
    return read_ends(reader, lead) if may_write(reader, kind, lead) else None


def _beside(reader: Reader, model: type[Scored]) -> ColumnElement[str]:
    """Return what says whether a record may be scored, and after a colon the leads that became it."""
    leads = leads_of(reader, model, columns_of(model)["id"])
    ids = func.aggregate_strings(cast(Lead.id, String), ",")
    listed = literal("") if leads is None else leads.with_only_columns(ids).correlate(model).scalar_subquery()
    return case((may_be_scored(model), literal("yes:")), else_=literal(":")) + func.coalesce(listed, "")


def _timeline(kind: Kind, record_id: int) -> str:
    """Return the timeline as it is after a write."""
    reader = Reader(page_session(), current_user.user)
    record = reader.get(kind.model, record_id)
    return render_template(
        TIMELINE, about=read_about(reader, kind_of(reader.session, kind.record_type), record)
    )


def _alerts(reader: Reader, record: Scored) -> list[ToldAlert]:
    """Return the alerts about a record that are not over."""
    now = service().store.clock.now()
    found = open_alerts_of(reader, record, now)
    return tell_alerts(reader, found, now, about=record) if found and not isinstance(record, Lead) else []


def _log(kind: Kind, record_id: int) -> ResponseReturnValue:
    """Log an activity; a script gets the new timeline, a browser without one the page again."""
    by_script = request.headers.get("X-Requested-With") == "fetch"
    try:
        with suppress(SentAlreadyError), writing(current_user.user, Source.REP) as transaction:
            log_on(transaction, current_user.user, kind.model, record_id, read_activity(request.form))
    except InvalidValueError as error:
        if by_script:
            return plain(refusal(error))
        return make_response(_show(kind, record_id, refused=refusal(error)), 422)
    if by_script:
        return make_response(_timeline(kind, record_id), 201)
    flash(gettext("Logged. The score follows in a moment: reload the page to see it."))
    return redirect(url_for(f"{kind.collection}_pages.show", record_id=record_id))


def _feedback(kind: Kind, record_id: int) -> ResponseReturnValue:
    """Note what a customer says of us."""
    said, text = request.form.get("kind", ""), request.form.get("text", "")
    try:
        with writing(current_user.user, Source.REP) as transaction:
            note_feedback(transaction, current_user.user, record_id, _kind_of_feedback(said), text)
    except InvalidValueError as error:
        return make_response(_show(kind, record_id, refused=refusal(error)), 422)
    flash(gettext("Noted."))
    return redirect(url_for(f"{kind.collection}_pages.show", record_id=record_id))


def _kind_of_feedback(said: str) -> Feedback:
    if said not in set(Feedback):
        raise InvalidValueError("kind", said, one_of(Feedback))
    return Feedback(said)


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
    return read_activity(request.form)
