"""The page of alerts: what somebody was told of, and what they do about it, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader
from crm_core.alert_rules import Kind
from crm_core.alerts import (
    Acting,
    AlertAction,
    ByMail,
    State,
    get_alert,
    list_notes,
    mail_wish,
    set_mail_wish,
    which_may_be_acted_on,
)
from crm_core.changes import Source
from crm_core.errors import AlertClosedError, CRMError, InvalidValueError
from crm_core.phrases import one_of
from crm_core.records import Role, User
from serving.alert_outcomes import Outcome, follow_alerts, tally
from serving.alerts import AlertListing, AtRisk, ToldAlert, list_alerts, sum_running, tell_alerts
from serving.mail import mail_is_on
from serving.owners import Staff
from serving.service import page_session, service, writing
from serving.web.asked import plain, whole
from serving.web.language import gettext
from serving.web.reasons import top_reasons
from serving.web.refusals import refusal
from serving.web.sparkline import Thumb, thumb
from serving.web.waiting import count_of_bell
from serving.what_if import ask_what_if

if TYPE_CHECKING:
    from models.what_if import Hint

ROWS = 25
REASONS_IN_A_ROW = 3
SNOOZE_DAYS = (1, 7, 30)
HISTORY = timedelta(days=90)
"""The little lines show so much."""
STATES = {"open": State.OPEN, "snoozed": State.SNOOZED, "acknowledged": State.ACKNOWLEDGED, "running": None}
"""What the list may be asked for, by its name in the address; `running` is all that are not closed."""

pages = Blueprint("alerts_pages", __name__, url_prefix="/alerts")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One alert as the list shows it."""

    told: ToldAlert
    reasons: Sequence[Mapping[str, Any]]
    owner: str | None
    assignee: str | None
    notes: Sequence[AlertAction]
    may_act: bool
    line: Thumb | None


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What the page shows."""

    rows: Sequence[Row]
    next_cursor: str | None
    asked: AlertListing
    state: str
    owners: Sequence[User]
    colleagues: Sequence[User]
    mail: ByMail | None
    at_risk: Sequence[AtRisk]


@pages.get("")
def list_all() -> ResponseReturnValue:
    """List the alerts that somebody may see."""
    user, now = current_user.user, service().store.clock.now()
    reader = Reader(page_session(), user)
    staff = Staff.read(reader.session)
    state, asked = _asked()
    page = list_alerts(reader, replace(asked, history_since=now - HISTORY), now)
    running = sum_running(reader, now)
    shelf = Shelf(
        rows=_rows(reader, page.items, staff),
        next_cursor=page.next_cursor,
        asked=asked,
        state=state,
        owners=[] if user.role == Role.REP else staff.owners(user),
        colleagues=staff.colleagues(user),
        mail=mail_wish(reader.session, user.id) if mail_is_on(service().settings) else None,
        at_risk=running.at_risk,
    )
    return render_template("alerts.html", shelf=shelf, snooze_days=SNOOZE_DAYS, kinds=list(Kind))


@pages.post("/<int:alert_id>/<any(acknowledge, snooze, assign, reopen):verb>")
def act(alert_id: int, verb: str) -> ResponseReturnValue:
    """Do something about an alert; a script gets its new row, a browser without one the list again."""
    by_script = request.headers.get("X-Requested-With") == "fetch"
    try:
        with writing(current_user.user, Source.REP) as transaction:
            _act(Acting(transaction=transaction, user=current_user.user), alert_id, verb)
    except (InvalidValueError, AlertClosedError) as error:
        if by_script:
            return plain(refusal(error))
        flash(refusal(error))
    if by_script:
        return _row(alert_id)
    return redirect(url_for("alerts_pages.list_all"))


@pages.get("/<int:alert_id>/step")
def suggest(alert_id: int) -> ResponseReturnValue:
    """Return what goes with a better score of an alert's record; a browser without a script is led there."""
    user, running = current_user.user, service()
    reader = Reader(page_session(), user)
    alert = get_alert(reader, alert_id)
    record_type, record_id = alert.record_type, alert.record_id
    if request.headers.get("X-Requested-With") != "fetch":
        collection = "customers" if record_type == "account" else "deals"
        return redirect(url_for(f"{collection}_pages.show", record_id=record_id))
    try:
        asked = ask_what_if(running.store, running.champions, user, record_type, record_id)
    except CRMError:
        return render_template("_step.html", hint=None, found=None)
    better = [hint for hint in asked.found.hints if not hint.alike and _helps(hint, record_type)]
    return render_template("_step.html", hint=better[0] if better else None, found=asked.found)


def _helps(hint: Hint, record_type: str) -> bool:
    return hint.change < 0 if record_type == "account" else hint.change > 0


@pages.get("/past")
def past() -> ResponseReturnValue:
    """Show what came of the warnings of the past, counted and one by one."""
    running, now = service(), service().store.clock.now()
    reader = Reader(page_session(), current_user.user)
    followed = follow_alerts(running.store, reader, now)
    kind, outcome = request.args.get("kind", ""), request.args.get("outcome", "")
    shown = [
        one
        for one in followed
        if (not kind or one.alert.kind == kind) and (not outcome or one.outcome == outcome)
    ]
    page = max(request.args.get("page", 1, type=whole), 1)
    return render_template(
        "alerts_past.html",
        tallies=tally(followed),
        rows=shown[(page - 1) * ROWS : page * ROWS],
        page=page,
        pages=-(-len(shown) // ROWS),
        all=len(shown),
        outcomes=list(Outcome),
        kinds=list(Kind),
        asked={"kind": kind, "outcome": outcome},
    )


@pages.post("/mail")
def choose_mail() -> ResponseReturnValue:
    """Write down when somebody wants mails."""
    asked = request.form.get("mail", "")
    if asked not in set(ByMail):
        raise InvalidValueError("mail", asked, one_of(ByMail))
    with writing(current_user.user, Source.REP) as transaction:
        set_mail_wish(transaction.session, current_user.user.id, ByMail(asked))
    flash(gettext("Noted."))
    return redirect(url_for("alerts_pages.list_all"))


def _asked() -> tuple[str, AlertListing]:
    """Return what the address asks for; what makes no sense in it is left out."""
    state, kind = request.args.get("state", "open"), request.args.get("kind", "")
    owner = request.args.get("owner", "")
    state = state if state in STATES else "open"
    return state, AlertListing(
        state=STATES[state],
        kind=kind if kind in set(Kind) else None,
        owner_id=int(owner) if owner.isascii() and owner.isdigit() and len(owner) < 18 else None,
        cursor=request.args.get("cursor") or None,
        limit=ROWS,
    )


def _act(acting: Acting, alert_id: int, verb: str) -> None:
    form = request.form
    note = form.get("note")
    if verb == "snooze":
        until = acting.transaction.now + timedelta(days=_number("days"))
        acting.snooze(alert_id, until, note=note)
    elif verb == "assign":
        acting.assign(alert_id, _number("assignee"), note=note)
    else:
        does = acting.acknowledge if verb == "acknowledge" else acting.reopen
        does(alert_id, note=note)


def _number(field: str) -> int:
    text = request.form.get(field, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidValueError(field, text, "one of the choices")
    return int(text)


def _row(alert_id: int) -> ResponseReturnValue:
    reader = Reader(page_session(), current_user.user)
    now = service().store.clock.now()
    staff = Staff.read(reader.session)
    (told,) = tell_alerts(reader, [get_alert(reader, alert_id)], now, now - HISTORY)
    (row,) = _rows(reader, [told], staff)
    answer = make_response(
        render_template(
            "_alert.html", row=row, colleagues=staff.colleagues(reader.user), snooze_days=SNOOZE_DAYS
        )
    )
    answer.headers["X-Open-Alerts"] = count_of_bell()
    return answer


def _rows(reader: Reader, found: Sequence[ToldAlert], staff: Staff) -> list[Row]:
    names = staff.names
    alerts = [told.alert for told in found]
    mine = which_may_be_acted_on(reader, alerts)
    notes = list_notes(reader.session, [alert.id for alert in alerts])
    return [
        Row(
            told=told,
            reasons=top_reasons([dict(reason) for reason in told.reasons], REASONS_IN_A_ROW),
            owner=names.get(told.owner_id),
            assignee=names.get(told.alert.assignee_id),
            notes=notes.get(told.alert.id, []),
            may_act=told.state is not State.CLOSED and told.alert.id in mine,
            line=thumb(told.history),
        )
        for told in found
    ]
