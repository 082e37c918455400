"""The page a day begins with: whom to call, in which order and why; what was done is logged in its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.approvals import list_waiting
from crm_core.changes import Source
from crm_core.day_plans import find_day_plan, set_day_plan
from crm_core.errors import CRMError, InvalidValueError, RecordNotFoundError
from crm_core.feedback import Verdict, WhyWrong, give_feedback
from crm_core.phrases import Phrase, one_of
from crm_core.predictions import Prediction, list_predictions, newest_predictions
from crm_core.records import Account, Activity, ActivityKind, Direction, Quote, Role, User
from crm_core.won_deals import recent_won_deals
from crm_core.workday import MOST_A_DAY, USUAL_A_DAY
from serving.activity_log import log_on, select_activities
from serving.editing import Editor, kind_of
from serving.explaining import get_prediction
from serving.owners import list_owners
from serving.problems import kind_of as problem_of
from serving.score_history import Entry, entries_of, with_parts
from serving.service import SentAlreadyError, page_session, service, writing
from serving.today import MODELS, AskedDay, Day, Ranked, day_began, page_of, read_day, read_habit
from serving.web.asked import plain
from serving.web.beside_score import Beside, read_beside
from serving.web.facts import names_of_people
from serving.web.language import choose_time_zone, gettext
from serving.web.record_views import (
    LOGGED_KINDS,
    activity_of_form,
    is_score_followed,
    score_as_before,
)
from serving.web.records import Scored
from serving.web.refusals import refusal
from serving.web.today_rows import HISTORY, KINDS, Row, names_of, read_rows

ROWS = 10
"""So many that the page, with its style sheets, is a light one; the rest of a day is one click away."""
DONE_SHOWN = 8
WAITING_SHOWN = 3
"""Requests for an approval that are named; beyond, it is said that there are more."""
ENTRIES_TOLD = 3
SAID_READ = 300
"""Predictions that are read of an opened row: more than come in the time that its line shows."""
_READ_OF_SAID = ("task", "record_type", "record_id", "as_of", "recorded_at", "model_version", "probability")
DUE_AT = time(17)
"""A next step is planned for a day; it is due when that day's work ends."""

COLLECTIONS = {kind.collection: kind.record_type for kind in KINDS.values()}

pages = Blueprint("today_pages", __name__, url_prefix="/today")


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What the page shows; `left` is how many of `to_do` still fit into the day."""

    day: Day
    rows: Sequence[Row]
    done: Sequence[Row]
    start: int
    next_cursor: str | None
    cursor: str | None
    capacity: int
    habit: int | None
    chosen: bool
    owners: Sequence[User]
    asked: AskedDay
    any_at_all: bool
    waiting: Sequence[Quote] = ()

    @property
    def left(self) -> int:
        """How many more fit into the day."""
        return max(0, self.capacity - len(self.day.done))


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is shown of an opened row: what changed since `since`, and what would raise the score."""

    row: Row
    since: datetime
    entries: Sequence[Entry]
    inbound: Sequence[Activity]
    beside: Beside


@pages.get("")
def show() -> ResponseReturnValue:
    """Show whom to work today."""
    user, now, zone = current_user.user, service().store.clock.now(), _zone()
    reader = Reader(page_session(), user)
    asked = _asked()
    owners = [] if user.role == Role.REP else list_owners(reader.session, user)
    day = read_day(reader, asked, now, zone, recent_won_deals(service().store))
    cursor = request.args.get("cursor") or None
    shown, next_cursor, start = page_of(day.to_do, limit=ROWS, cursor=cursor)
    done = () if cursor else day.done[:DONE_SHOWN]
    rows = read_rows(reader, day, [*shown, *done], names_of(owners), now)
    planned, habit = find_day_plan(reader.session, user.id), read_habit(service().store, user, now, zone)
    shelf = Shelf(
        day=day,
        rows=[row for row in rows if not row.ranked.place.standing.done_today],
        done=[row for row in rows if row.ranked.place.standing.done_today],
        start=start,
        next_cursor=next_cursor,
        cursor=cursor,
        capacity=planned or habit or USUAL_A_DAY,
        habit=habit,
        chosen=planned is not None,
        owners=owners,
        asked=asked,
        any_at_all=bool(rows) or _has_any(reader),
        waiting=() if cursor else _waiting(reader),
    )
    return render_template(
        "today.html",
        shelf=shelf,
        most=MOST_A_DAY,
        waiting_shown=WAITING_SHOWN,
        today=_today(),
        **_form_context(),
    )


@pages.post("/capacity")
def choose_capacity() -> ResponseReturnValue:
    """Remember how many records somebody wants to work a day; nothing: what they usually do."""
    text = request.form.get("capacity", "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 5):
        raise InvalidValueError("capacity", text, Phrase("a number from 1 to {most}", most=MOST_A_DAY))
    with writing(current_user.user, Source.REP) as transaction:
        set_day_plan(transaction.session, current_user.user.id, int(text) if text else None)
    flash(gettext("Noted."))
    return redirect(url_for("today_pages.show"))


@pages.get("/<any(leads, deals, customers):collection>/<int:record_id>")
def show_record(collection: str, record_id: int) -> ResponseReturnValue:
    """Show one row opened; a script gets what stands below it, a browser without one a page."""
    return _show(collection, record_id)


@pages.get("/<any(leads, deals, customers):collection>/<int:record_id>/row")
def show_row(collection: str, record_id: int) -> ResponseReturnValue:
    """Give the row anew, or nothing while its score is the one that the page has."""
    followed = is_score_followed(COLLECTIONS[collection], record_id)  # before the score is read
    row = _row(collection, record_id)
    if str(row.seen) == request.args.get("seen", ""):
        return score_as_before(final=followed)
    return render_template("_today_row.html", row=row, **_form_context())


@pages.post("/<any(leads, deals, customers):collection>/<int:record_id>/activities")
def log(collection: str, record_id: int) -> ResponseReturnValue:
    """Log what was done."""
    return _write(collection, record_id, activity_of_form)


@pages.post("/<any(leads, deals, customers):collection>/<int:record_id>/steps")
def plan(collection: str, record_id: int) -> ResponseReturnValue:
    """Plan the next step."""
    return _write(collection, record_id, _step_of_form)


@pages.post("/<any(leads, deals, customers):collection>/<int:record_id>/steps/<int:step_id>/done")
def finish_step(collection: str, record_id: int, step_id: int) -> ResponseReturnValue:
    """Note that a step is done."""
    try:
        with writing(current_user.user, Source.REP) as transaction:
            editor = Editor(transaction, current_user.user)
            editor.update(kind_of(transaction.session, "activity"), step_id, {"outcome": "done"})
    except CRMError as error:
        return _refused(collection, record_id, error)
    return _written(collection, record_id, gettext("Done."))


@pages.post("/<any(leads, deals, customers):collection>/<int:record_id>/feedback")
def object_to(collection: str, record_id: int) -> ResponseReturnValue:
    """Take down that a score is not right, and why."""
    user, record_type = current_user.user, COLLECTIONS[collection]
    reason = request.form.get("reason", "")
    try:
        if reason not in set(WhyWrong):
            raise InvalidValueError("reason", reason, one_of(WhyWrong))
        with writing(user, Source.REP) as transaction:
            Reader(transaction.session, user).get(MODELS[record_type], record_id, only=("id",))
            newest = newest_predictions(transaction.session, record_type, [record_id]).get(record_id)
            if newest is None:
                raise RecordNotFoundError("prediction", record_id)
            prediction = get_prediction(transaction.session, user, newest.id)
            text = request.form.get("text", "").strip() or None
            give_feedback(
                transaction,
                prediction,
                user_id=user.id,
                verdict=Verdict.WRONG,
                reason=WhyWrong(reason),
                text=text,
            )
    except CRMError as error:
        return _refused(collection, record_id, error)
    said = gettext("Thank you. Whoever looks after the model reads it.")
    if _by_script():
        return make_response(said, 201)
    flash(said)
    return redirect(url_for("today_pages.show_record", collection=collection, record_id=record_id))


# ------------------------------------------------------------------------------------- writing


def _write(collection: str, record_id: int, read_form: Callable[[], Activity]) -> ResponseReturnValue:
    model = MODELS[COLLECTIONS[collection]]
    try:
        check_may_write(current_user.user)
        with suppress(SentAlreadyError), writing(current_user.user, Source.REP) as transaction:
            log_on(transaction, current_user.user, model, record_id, read_form())
    except CRMError as error:
        return _refused(collection, record_id, error)
    return _written(collection, record_id, gettext("Logged. The score follows in a moment."))


def _written(collection: str, record_id: int, said: str) -> ResponseReturnValue:
    if _by_script():
        return make_response(
            render_template("_today_row.html", row=_row(collection, record_id), **_form_context()), 201
        )
    flash(said)
    return redirect(url_for("today_pages.show_record", collection=collection, record_id=record_id))


def _refused(collection: str, record_id: int, error: CRMError) -> ResponseReturnValue:
    status = problem_of(error).status
    if status >= 500:
        raise error
    if _by_script():
        return plain(refusal(error), status)
    if status in {403, 404}:
        raise error
    return make_response(_show(collection, record_id, refused=refusal(error)), status)


def _step_of_form() -> Activity:
    subject, day = request.form.get("subject", "").strip(), request.form.get("due_on", "").strip()
    try:
        due_on = date.fromisoformat(day)
    except ValueError as error:
        raise InvalidValueError("due_on", day, "a day") from error
    if not subject:
        raise InvalidValueError("subject", subject, "what is to be done, in a few words")
    if due_on < _today():
        raise InvalidValueError("due_on", day, "today or a later day")
    due_at = datetime.combine(due_on, DUE_AT, _zone())
    return Activity(kind=ActivityKind.TASK, subject=subject, due_at=due_at)


def _by_script() -> bool:
    return request.headers.get("X-Requested-With") == "fetch"


# ------------------------------------------------------------------------------------- reading


def _asked() -> AskedDay:
    """Return what the address asks for; what makes no sense in it is left out."""
    wanted, owner = request.args.get("type", ""), request.args.get("owner", "")
    is_number = owner.isascii() and owner.isdigit() and len(owner) < 18
    return AskedDay(
        types=(COLLECTIONS[wanted],) if wanted in COLLECTIONS else tuple(MODELS),
        owner_id=int(owner) if is_number and current_user.user.role != Role.REP else None,
    )


def _zone() -> ZoneInfo:
    return ZoneInfo(choose_time_zone())


def _today() -> date:
    return service().store.clock.now().astimezone(_zone()).date()


def _waiting(reader: Reader) -> list[Quote]:
    """Return the quotes that wait for somebody's approval, one more than are shown."""
    found = list_waiting(reader, addressed=True, limit=WAITING_SHOWN + 1)
    return [reader.masked(quote) for _, quote in found]


def _has_any(reader: Reader) -> bool:
    """Tell whether there is any lead, deal or customer to be seen, with a score or without."""
    queries = (reader.select(model).with_only_columns(model.id).limit(1) for model in MODELS.values())
    return any(reader.session.scalar(query) is not None for query in queries)


def _row(collection: str, record_id: int, said: Sequence[Prediction] | None = None) -> Row:
    """Return the row of one record; `said` is what was said of it, newest first, where that is known."""
    reader, record_type = Reader(page_session(), current_user.user), COLLECTIONS[collection]
    reader.check_may_see_scores(MODELS[record_type])
    now, key = service().store.clock.now(), (record_type, record_id)
    day = read_day(
        reader, AskedDay(types=(record_type,), only=key), now, _zone(), recent_won_deals(service().store)
    )
    found: list[Ranked] = [*day.to_do, *day.done]
    owners = {} if current_user.user.role == Role.REP else names_of_people(reader.session)
    lately = [(each.as_of, each.probability) for each in reversed(said or ()) if each.as_of >= now - HISTORY]
    rows = read_rows(reader, day, found, owners, now, histories=None if said is None else {key: lately})
    if not rows:  # not there or not seen, closed meanwhile, or asked not to be scored: nothing to work today
        raise RecordNotFoundError(record_type, record_id)
    return rows[0]


def _show(collection: str, record_id: int, refused: str | None = None) -> str:
    panel = _panel(collection, record_id)
    template = "_today_panel.html" if _by_script() else "today_row.html"
    return render_template(
        template, panel=panel, row=panel.row, refused=refused, values=request.form, **_form_context()
    )


def _panel(collection: str, record_id: int) -> Panel:
    reader = Reader(page_session(), current_user.user)
    said = list_predictions(
        reader.session, COLLECTIONS[collection], record_id, limit=SAID_READ, only=_READ_OF_SAID
    )
    row = _row(collection, record_id, said)
    since = day_began(service().store.clock.now(), _zone()) - timedelta(days=1)
    record = row.record
    if not isinstance(record, Account):
        record.status = "open"  # else there were no row
    return Panel(
        row=row,
        since=since,
        entries=_moves(reader, record, said[: ENTRIES_TOLD + 1], since),
        inbound=_inbound(reader, record, since),
        beside=read_beside(reader, record),
    )


def _moves(reader: Reader, record: Scored, said: Sequence[Prediction], since: datetime) -> list[Entry]:
    """Return what moved the score since an instant, newest first, each with the part of each cause."""
    running = service()
    if not said or said[0].as_of < since:
        return []
    told = [
        entry
        for entry in entries_of(reader, record, said)[:ENTRIES_TOLD]
        if entry.prediction.as_of >= since
        and entry.cause.moved is not None
        and abs(entry.cause.moved) >= 5e-4
    ]
    return with_parts(running.store.seen_by(reader.session), running.settings.home_folder, told, said)


def _inbound(reader: Reader, record: Scored, since: datetime) -> list[Activity]:
    """Return what came from the customer since an instant."""
    if not reader.may_read_field("activity", "direction"):
        return []
    query = (
        select_activities(reader, record)
        .where(Activity.direction == Direction.INBOUND, Activity.occurred_at >= since)
        .order_by(Activity.occurred_at.desc(), Activity.id.desc())
        .limit(ENTRIES_TOLD)
    )
    return [reader.masked(each) for each in reader.session.scalars(query)]


def _form_context() -> Mapping[str, object]:
    day, user = _today(), current_user.user
    return {
        "kinds": LOGGED_KINDS,
        "why_wrong": list(WhyWrong),
        "first_day": day.isoformat(),
        "tomorrow": (day + timedelta(days=1)).isoformat(),
        "may_write": user.role in {Role.REP, Role.MANAGER, Role.ADMIN},
    }
