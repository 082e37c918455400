"""The bench of data scientists: which models serve, how right they are, and what is to be done about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import to_utc
from flask_login import current_user

from crm_core.access import Reader, check_may_promote
from crm_core.changes import Source
from crm_core.errors import ChampionChangedError, FeatureError, InvalidValueError, ModelNotFoundError
from crm_core.feedback import count_verdicts
from models.shown_horizon import shown_horizon
from serving.model_list import check_of_task
from serving.model_work import Work, ask_for, list_work, list_work_under_way, stop
from serving.reports import read_backtest, read_comparison, read_report, read_watches
from serving.service import page_session, service, writing
from serving.web.cost_of_errors import Prices, cost_of_errors
from serving.web.judgement_card import read_replay
from serving.web.language import gettext
from serving.web.model_cards import COLUMNS, Card, card_of, read_cards
from serving.web.model_charts import (
    calibration_chart,
    cost_chart,
    drift_pictures,
    mondays_chart,
    pictures_of,
    replays_chart,
)
from serving.web.model_explorer import see
from serving.web.refusals import refusal
from serving.web.standing import read_history_of

pages = Blueprint("models_pages", __name__, url_prefix="/models")

TASK = "<any(lead_scoring, win_probability, churn):task>"
LONGEST_REASON = 400
_LARGEST = 1e12
_MOST_GROUPS = 15


@pages.before_request
def _check() -> None:
    """Let nobody in but data scientists and administrators."""
    if current_user.is_authenticated:
        check_may_promote(current_user.user)


@pages.get("")
def list_models() -> ResponseReturnValue:
    """Show the champion of every task, and whether it is still right."""
    running, session = service(), page_session()
    cards = read_cards(session, running.settings.home_folder, running.champions)
    work = list_work_under_way(session)
    return render_template("models.html", cards=cards, columns=COLUMNS, work=work)


@pages.get(f"/{TASK}")
def show_task(task: str) -> ResponseReturnValue:
    """Show all that is known of a version of a task, by default of its champion, and all its versions."""
    running, session = service(), page_session()
    home = running.settings.home_folder
    history = read_history_of(session, home, task, before=_before())
    version = _version_asked(task)
    card = card_of(home, running.champions, history.standing, version)
    wish = _wished_prices()
    costs = None if wish.prices is None else cost_of_errors(card.horizon, wish.prices)
    backtest = read_backtest(home, task)
    watch = card.watch.report if card.watch else None
    return render_template(
        "model.html",
        card=card,
        history=history,
        works=list_work(session, task),
        pictures=pictures_of(card.horizon),
        costs=costs,
        has_counts=bool(card.horizon.get("cuts") or card.horizon.get("called")),
        cost_picture=cost_chart(costs),
        wish=wish,
        replay=read_replay(backtest),
        mondays_picture=mondays_chart(backtest),
        replays_picture=replays_chart(backtest),
        drift=drift_pictures(watch, read_watches(home, task)),
        columns=COLUMNS,
        mlflow=_mlflow(card),
    )


@pages.get(f"/{TASK}/jobs")
def show_work(task: str) -> ResponseReturnValue:
    """Show the newest work on a task's models, for a page that follows it."""
    return render_template("_model_work.html", works=list_work(page_session(), task), task=task)


@pages.post(f"/{TASK}/jobs/<any(train, watch, replay):does>")
def start(task: str, does: str) -> ResponseReturnValue:
    """Have a model trained, watched or replayed."""
    return _asked(task, does)


@pages.post(f"/{TASK}/jobs/<int:job_id>/stop")
def stop_work(task: str, job_id: int) -> ResponseReturnValue:
    """Stop a piece of work, now if it waits and else at its next step."""
    with writing(current_user.user, Source.REP) as transaction:
        stop(transaction, current_user.user, task, job_id)
    flash(gettext("It stops at its next step."))
    return _to_work(task)


@pages.get(f"/{TASK}/compare")
def compare(task: str) -> ResponseReturnValue:
    """Show how two versions differ on the same questions, as found last."""
    session, home = page_session(), service().settings.home_folder
    history = read_history_of(session, home, task)
    first, second = (_version_asked(task, name) for name in ("a", "b"))
    names = [row.name for row in history.rows]
    first = first or (history.standing.promotion.model_version if history.standing.promotion else None)
    second = second or history.standing.challenger or next((n for n in names if n != first), None)
    found = read_comparison(home, first, second) if first and second else None
    reports = [(read_report(home, name) if name else None) or {} for name in (first, second)]
    bins = found["compared"]["bins"] if found and found["compared"] else None
    titles = [name or "" for name in (first, second)]
    return render_template(
        "model_compare.html",
        task=task,
        names=list(dict.fromkeys([*names, *(name for name in (first, second) if name)])),
        first=first,
        second=second,
        found=found,
        compared_at=datetime.fromisoformat(found["asked_at"]) if found else None,
        moved=_moved_reasons(found["compared"]) if found and found["compared"] else [],
        horizons=[shown_horizon(report.get("judged")) for report in reports],
        calibration=calibration_chart(list(zip(titles, bins, strict=True))) if bins else None,
        works=list_work(session, task),
        columns=COLUMNS,
    )


def _moved_reasons(compared: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return the groups of features with their mean weight in both versions, those that moved most first."""
    one, other = compared["importances"]
    groups = [(group, one.get(group, 0.0), other.get(group, 0.0)) for group in {**one, **other}]
    return sorted(groups, key=lambda each: (-abs(each[2] - each[1]), each[0]))[:_MOST_GROUPS]


@pages.post(f"/{TASK}/compare")
def start_comparison(task: str) -> ResponseReturnValue:
    """Have two versions compared on the same questions."""
    first, second = (request.form.get(name, "") for name in ("a", "b"))
    for name in (first, second):
        check_of_task(name, task)
    if first == second:
        flash(gettext("Choose two different versions."))
        return redirect(url_for("models_pages.compare", task=task, a=first, b=second))
    _ask(task, "compare", first=first, second=second)
    return redirect(url_for("models_pages.compare", task=task, a=first, b=second))


@pages.get(f"/{TASK}/promote")
def confirm_promotion(task: str) -> ResponseReturnValue:
    """Ask whether a version is really to serve, and why."""
    version = _version_asked(task)
    if version is None:
        raise ModelNotFoundError(gettext("Say which version is to serve."))
    return _decision(task, "promote", version=version)


@pages.get(f"/{TASK}/rollback")
def confirm_rollback(task: str) -> ResponseReturnValue:
    """Ask whether the version before is really to serve again, and why."""
    return _decision(task, "roll_back")


@pages.post(f"/{TASK}/<any(promote, rollback):verb>")
def decide(task: str, verb: str) -> ResponseReturnValue:
    """Have a version put in charge, or the one before again; 409 where somebody else was quicker."""
    does = "promote" if verb == "promote" else "roll_back"
    version = request.form.get("version", "") if does == "promote" else None
    if version is not None:
        check_of_task(version, task)
    reason = request.form.get("reason", "").strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        fault = gettext("Say why, in at most %(most)s characters.", most=LONGEST_REASON)
        return _decision(task, does, version=version, reason=reason, fault=fault, status=422)
    try:
        seen = _seen()
        _check_nobody_was_quicker(task, seen)
    except ChampionChangedError as error:
        return _decision(task, does, version=version, reason=reason, changed=error, status=409)
    asked: dict[str, Any] = {"reason": reason, "instead_of": seen}
    if version is not None:
        asked |= {"version": version, "overrule": request.form.get("overrule") == "yes"}
    return _asked(task, does, **asked)


@pages.get(f"/{TASK}/card")
def show_card(task: str) -> ResponseReturnValue:
    """Show the model card of a version, to be read or printed."""
    running, session = service(), page_session()
    home = running.settings.home_folder
    history = read_history_of(session, home, task)
    card = card_of(home, running.champions, history.standing, _version_asked(task))
    if card.version is None:
        raise ModelNotFoundError(gettext("No model serves yet."))
    row = next((row for row in history.rows if row.name == card.version), None)
    verdicts = count_verdicts(session, task, card.version)
    return render_template(
        "model_card.html",
        card=card,
        row=row,
        verdicts=verdicts,
        pictures=pictures_of(card.horizon),
        columns=COLUMNS,
        mlflow=_mlflow(card),
    )


@pages.get(f"/{TASK}/features")
def explore_features(task: str) -> ResponseReturnValue:
    """Show what a model would see of one record at an instant."""
    asked, seen, fault = request.args.get("entity", "").strip(), None, None
    as_of = service().store.clock.now()
    try:
        as_of = _instant_asked() or as_of
        if asked:
            seen = see(Reader(page_session(), current_user.user), task, _whole_number(asked), as_of)
    except (InvalidValueError, FeatureError) as error:
        fault = refusal(error)
    page = render_template(
        "model_features.html",
        task=task,
        seen=seen,
        asked=asked,
        fault=fault,
        open_all=request.args.get("open") == "all",
    )
    return make_response(page, 422 if fault else 200)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The prices that the address names, as they were typed; `fault` says which of them make no sense."""

    typed: Mapping[str, str]
    prices: Prices | None
    fault: str | None


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where the run of a version is to be found in MLflow: an address, or the command that opens it."""

    run_id: str
    experiment: str
    address: str | None
    command: str
    tracking: str


def _asked(task: str, does: str, **asked: Any) -> ResponseReturnValue:
    if not _ask(task, does, **asked):
        flash(gettext("That is being done already."))
    return _to_work(task)


def _ask(task: str, does: str, **asked: Any) -> bool:
    with writing(current_user.user, Source.REP) as transaction:
        made = ask_for(transaction, current_user.user, task, does, **asked)
    jobs = service().jobs
    if jobs is not None:
        jobs.wake()
    return made is not None


def _to_work(task: str) -> ResponseReturnValue:
    return redirect(url_for("models_pages.show_task", task=task, _anchor="work"))


def _decision(
    task: str,
    does: str,
    *,
    version: str | None = None,
    reason: str = "",
    fault: str | None = None,
    changed: ChampionChangedError | None = None,
    status: int = 200,
) -> ResponseReturnValue:
    session, running = page_session(), service()
    history = read_history_of(session, running.settings.home_folder, task)
    if does == "roll_back" and history.before is None:
        raise ModelNotFoundError(gettext("No model served before the present one."))
    chosen = version or history.before
    page = render_template(
        "model_decide.html",
        does=does,
        history=history,
        version=chosen,
        card=card_of(running.settings.home_folder, running.champions, history.standing, chosen),
        refused=_refused_before(list_work(session, task), chosen) if does == "promote" else None,
        reason=reason,
        fault=fault,
        changed=changed,
        overrule=request.form.get("overrule") == "yes",
        columns=COLUMNS,
        longest=LONGEST_REASON,
    )
    return make_response(page, status)


def _refused_before(works: list[Work], version: str | None) -> str | None:
    """Return why the newest attempt to promote a version was refused, if it was."""
    tried = next(
        (work for work in works if work.does == "promote" and work.asked.get("version") == version), None
    )
    return tried.refused if tried and not tried.is_open else None


def _seen() -> int:
    text = request.form.get("seen", "")
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise InvalidValueError("seen", text, "the promotion that the page was made for")
    return int(text)


def _check_nobody_was_quicker(task: str, seen: int) -> None:
    history = read_history_of(page_session(), service().settings.home_folder, task)
    if history.decided_on != seen:
        found = history.standing.promotion
        raise ChampionChangedError(task, found.model_version if found else None, history.standing.by)


def _version_asked(task: str, name: str = "version") -> str | None:
    version = request.args.get(name, "")
    if not version:
        return None
    check_of_task(version, task)
    return version


def _before() -> int | None:
    text = request.args.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _wished_prices() -> Wish:
    typed = {name: request.args.get(name, "").strip() for name in ("missed", "contact", "capacity", "cut")}
    if not typed["missed"] and not typed["contact"]:
        return Wish(typed=typed, prices=None, fault=None)
    try:
        prices = Prices(
            missed=_amount(typed, "missed"),
            contact=_amount(typed, "contact"),
            capacity=_share(typed, "capacity"),
            cut=_share(typed, "cut"),
        )
    except InvalidValueError as error:
        return Wish(typed=typed, prices=None, fault=_PRICE_FAULTS[error.field]())
    return Wish(typed=typed, prices=prices, fault=None)


_PRICE_FAULTS = {
    "missed": lambda: gettext("Cost of a missed one: a number from 0 on."),
    "contact": lambda: gettext("Cost of a needless contact: a number from 0 on."),
    "capacity": lambda: gettext("Capacity: a percentage from 0 to 100."),
    "cut": lambda: gettext("Cut: a percentage from 0 to 100."),
}


def _amount(typed: Mapping[str, str], name: str) -> float:
    try:
        value = float(typed[name].replace(",", "") or "0")
    except ValueError:
        value = -1.0
    if not 0 <= value <= _LARGEST:  # NaN is not
        raise InvalidValueError(name, typed[name], "a number from 0 on")
    return value


def _share(typed: Mapping[str, str], name: str) -> float | None:
    if not typed[name]:
        return None
    value = _amount({name: typed[name].rstrip("%")}, name)
    if value > 100:
        raise InvalidValueError(name, typed[name], "a percentage from 0 to 100")
    return value / 100


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise InvalidValueError("entity", text, gettext("the number of a record"))
    return int(text)


def _instant_asked() -> datetime | None:
    """Return the instant that the address names; without an offset it is one of the reader's time zone."""
    text = request.args.get("as_of", "").strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValueError("as_of", text, gettext("an instant such as 2026-03-31 17:00")) from error
    if found.tzinfo is None:
        found = to_utc(found).replace(tzinfo=UTC)
    now = service().store.clock.now()
    if found > now + timedelta(minutes=1):
        raise InvalidValueError("as_of", text, gettext("an instant that is not in the future"))
    return min(found, now)


def _mlflow(card: Card) -> Tracked | None:
    run_id = card.report.get("run_id")
    if not run_id or card.version is None:
        return None
    home = service().settings.home_folder
    uri = home.tracking_uri
    parts = urlsplit(uri)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.password else uri
    number = card.report.get("number")
    remote = parts.scheme in ("http", "https")
    return Tracked(
        run_id=run_id,
        experiment=card.task,
        address=f"{shown.rstrip('/')}/#/models/{card.task}/versions/{number}" if remote else None,
        command=f"mlflow ui --backend-store-uri {shown}",
        tracking=shown,
    )
