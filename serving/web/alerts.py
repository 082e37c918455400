"""The page of alerts: what somebody was told of, and what they do about it, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Blueprint, flash, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from crm_core.access import Reader
from crm_core.alert_rules import Kind
from crm_core.alerting import managers_of, works_here
from crm_core.alerts import (
    Acting,
    AlertAction,
    ByMail,
    State,
    count_open,
    get_alert,
    list_actions,
    mail_wish,
    may_act,
    set_mail_wish,
)
from crm_core.changes import Source
from crm_core.errors import AlertClosedError, InvalidValueError
from crm_core.records import Role, User
from serving.alerts import AlertListing, ToldAlert, list_alerts, tell_alert
from serving.mail import mail_is_on
from serving.owners import list_owners
from serving.service import page_session, service, writing
from serving.web.language import gettext
from serving.web.reasons import top_reasons

ROWS = 25
REASONS_IN_A_ROW = 3
SNOOZE_DAYS = (1, 7, 30)
STATES = {"open": State.OPEN, "snoozed": State.SNOOZED, "acknowledged": State.ACKNOWLEDGED, "running": None}
"""What the list may be asked for, by its name in the address; `running` is all that are not closed."""

_MOST_SHOWN = 99

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


@pages.get("")
def list_all() -> ResponseReturnValue:
    """List the alerts that somebody may see."""
    user, now = current_user.user, service().store.clock.now()
    reader = Reader(page_session(), user)
    state, asked = _asked()
    page = list_alerts(reader, asked, now)
    shelf = Shelf(
        rows=_rows(reader, page.items),
        next_cursor=page.next_cursor,
        asked=asked,
        state=state,
        owners=[] if user.role == Role.REP else list_owners(reader.session, user),
        colleagues=_colleagues(reader),
        mail=mail_wish(reader.session, user.id) if mail_is_on(service().settings) else None,
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
            return make_response(str(error), 422)
        flash(str(error))
    if by_script:
        return _row(alert_id)
    return redirect(url_for("alerts_pages.list_all"))


@pages.post("/mail")
def choose_mail() -> ResponseReturnValue:
    """Write down when somebody wants mails."""
    asked = request.form.get("mail", "")
    if asked not in set(ByMail):
        raise InvalidValueError("mail", asked, f"one of {', '.join(ByMail)}")
    with writing(current_user.user, Source.REP) as transaction:
        set_mail_wish(transaction.session, current_user.user.id, ByMail(asked))
    flash(gettext("Noted."))
    return redirect(url_for("alerts_pages.list_all"))


def count_of_bell() -> str:
    """Return how many open alerts the reader of a page has, as the bell shows it; nothing without any."""
    if not current_user.is_authenticated:
        return ""
    if "open_alerts" not in g:
        g.open_alerts = _count()
    shown: str = g.open_alerts
    return shown


def _count() -> str:
    try:
        found = count_open(Reader(page_session(), current_user.user), service().store.clock.now())
    except SQLAlchemyError:
        return ""  # a page that tells of a broken database must not break of it
    return f"{_MOST_SHOWN}+" if found > _MOST_SHOWN else str(found or "")


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
    told = tell_alert(reader, get_alert(reader, alert_id), service().store.clock.now())
    (row,) = _rows(reader, [told])
    answer = make_response(
        render_template("_alert.html", row=row, colleagues=_colleagues(reader), snooze_days=SNOOZE_DAYS)
    )
    answer.headers["X-Open-Alerts"] = count_of_bell()
    return answer


def _rows(reader: Reader, found: Sequence[ToldAlert]) -> list[Row]:
    names: dict[int | None, str] = dict(reader.session.execute(select(User.id, User.name)).all())
    return [
        Row(
            told=told,
            reasons=top_reasons([dict(reason) for reason in told.reasons], REASONS_IN_A_ROW),
            owner=names.get(told.owner_id),
            assignee=names.get(told.alert.assignee_id),
            notes=[each for each in list_actions(reader.session, told.alert.id) if each.note],
            may_act=told.state is not State.CLOSED and may_act(reader, told.alert),
        )
        for told in found
    ]


def _colleagues(reader: Reader) -> list[User]:
    """Return whom somebody may want to give an alert to: their people, themselves and their managers."""
    near = {user.id: user for user in list_owners(reader.session, reader.user) if user.active}
    near |= {user.id: user for user in managers_of(reader.session, reader.user)}
    query = select(User.id).where(User.id.in_(near), *works_here)
    working = set(reader.session.scalars(query))
    return sorted((near[key] for key in working), key=lambda user: (user.name, user.id))
