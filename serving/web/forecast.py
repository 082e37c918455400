"""The page of the forecast: what the deals somebody sees will bring, how sure that is, and what moved it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import flask_babel
from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.errors import CRMError
from crm_core.records import Deal, Team, User
from serving.forecast_making import Looked, ask_for, look, make_and_keep
from serving.forecasts import Part, find_lessons
from serving.service import end_page_session, page_session, service
from serving.shares import Share
from serving.web.asked import whole
from serving.web.charts import Axis, Bars, Chart, Dots, draw
from serving.web.language import choose_language, gettext
from serving.web.shown_as import money, percent

pages = Blueprint("forecast_pages", __name__, url_prefix="/forecast")

CAUSES: dict[str, object] = {
    "won": _("Deals won"),
    "lost": _("Deals lost"),
    "new_deals": _("New deals"),
    "amounts": _("Amounts changed"),
    "probabilities": _("Probabilities changed"),
    "reopened": _("Deals reopened"),
    "not_yet_created": _("Not yet created"),
}
SHORT_CAUSES: dict[str, object] = {
    "won": _("won"),
    "lost": _("lost"),
    "new_deals": _("new"),
    "amounts": _("amounts"),
    "probabilities": _("probabilities"),
    "reopened": _("reopened"),
    "not_yet_created": _("not created"),
}
RULES: dict[str, object] = {
    "stages": _("Rate of the stage times amount"),
    "reps": _("Reps' own numbers"),
    "last_period": _("The last whole period"),
    "last_year": _("The same period a year ago"),
}

_MODEL_OF = re.compile(r"a model of (\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True, kw_only=True)
class Covered:
    """How past ranges of one level held what came."""

    level: str
    share: Share


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One period in one currency, ready to be shown; `case` is what the address calls it."""

    case: str
    title: str
    told: Mapping[str, Any]
    covered: Sequence[Covered]


@dataclass(frozen=True, kw_only=True)
class Names:
    """What ids of a forecast are called, as far as the reader may see it."""

    owners: Mapping[int, str]
    teams: Mapping[int, str]
    deals: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page shows; `chosen` is None while there is no forecast."""

    looked: Looked
    part: Part
    sights: Sequence[Sight] = ()
    chosen: Sight | None = None
    moved: Mapping[str, Any] | None = None
    names: Names | None = None
    parts: Chart | None = None
    causes: Chart | None = None
    past: Chart | None = None


@pages.get("")
def show() -> ResponseReturnValue:
    """Show the forecast of the deals that the reader may see, or of a part of them."""
    part = _part()
    looked = _look(part)
    page = Page(looked=looked, part=part) if looked.told is None else _page(part, looked, looked.told)
    return render_template(
        "forecast.html", page=page, causes=CAUSES, rules=RULES, step=_step(looked), here=_here(part)
    )


@pages.get("/making")
def making() -> ResponseReturnValue:
    """Return how far a forecast is that is being made; 204 once there is a good one, or none will come."""
    part = _part()
    looked = look(_home(), page_session(), current_user.user, part, service().store.clock.now())
    if looked.is_good or looked.making is None or not looked.making.goes_on:
        return "", 204
    return render_template("_making.html", looked=looked, step=_step(looked), here=_here(part))


@pages.post("/make")
def make() -> ResponseReturnValue:
    """Have the forecast made now."""
    part = _part()
    user, running = current_user.user, service()
    looked = look(_home(), page_session(), user, part, running.store.clock.now())
    end_page_session()
    ask_for(running.store, user, part, looked.scope, anyway=True)
    if running.jobs is not None:
        running.jobs.wake()
    return redirect(url_for("forecast_pages.show", **_here(part)))


def _home() -> Any:  # noqa: ANN401  the home of the settings
    return service().settings.home_folder


def _part() -> Part:
    asked = request.values
    return Part(owner_id=asked.get("owner_id", type=whole), team_id=asked.get("team_id", type=whole))


def _here(part: Part) -> dict[str, Any]:
    found = {"owner_id": part.owner_id, "team_id": part.team_id}
    return {name: value for name, value in found.items() if value is not None}


def _look(part: Part) -> Looked:
    """Return what is kept; what is not good any more is asked for anew, and shown meanwhile."""
    running, user = service(), current_user.user
    looked = look(_home(), page_session(), user, part, running.store.clock.now())
    if looked.is_good:
        return looked
    end_page_session()  # before a job is written down: SQLite lets nobody write from an old state
    if running.jobs is None and find_lessons(_home(), running.store.clock.now()) is not None:
        _make_here(part)
    else:
        ask_for(running.store, user, part, looked.scope)
        if running.jobs is not None:
            running.jobs.wake()
    return look(_home(), page_session(), user, part, running.store.clock.now())


def _make_here(part: Part) -> None:
    """Make it within the request, where no thread of this process does jobs; or have it made elsewhere."""
    running, user = service(), current_user.user
    try:
        make_and_keep(_home(), running.store, user, part)
    except CRMError:
        looked = look(_home(), page_session(), user, part, running.store.clock.now())
        end_page_session()
        ask_for(running.store, user, part, looked.scope)


def _step(looked: Looked) -> str:
    """Return the step of the replaying in the page's language."""
    step = looked.making.step if looked.making is not None else None
    if step is None:
        return gettext("Working it out")
    if found := _MODEL_OF.fullmatch(step):
        day = flask_babel.format_date(datetime.fromisoformat(found[1]), "medium", rebase=False)
        return gettext("Forecasting as one would have on %(day)s", day=day)
    if step.startswith("replaying"):
        return gettext("Comparing past forecasts with what came")
    return gettext("Reading what was known of past deals")


# ---------------------------------------------------------------- what is shown


def _page(part: Part, looked: Looked, told: Mapping[str, Any]) -> Page:
    sights = [_sight(one) for one in told["periods"]]
    asked = request.args.get("period", "")
    usual = next((one for one in sights if one.told["span"] == "quarter"), sights[0] if sights else None)
    chosen = next((one for one in sights if one.case == asked), usual)
    if chosen is None:
        return Page(looked=looked, part=part)
    moved = next((one for one in told["moved"] if _case(one) == chosen.case), None)
    return Page(
        looked=looked,
        part=part,
        sights=sights,
        chosen=chosen,
        moved=moved,
        names=_names(chosen, moved),
        parts=_parts_chart([one for one in sights if one.told["currency"] == chosen.told["currency"]]),
        causes=None if moved is None else _causes_chart(moved),
        past=_past_chart(chosen, told),
    )


def _case(told: Mapping[str, Any]) -> str:
    return f"{told['period']}.{told['currency']}" if told["currency"] else str(told["period"])


def _sight(told: Mapping[str, Any]) -> Sight:
    return Sight(
        case=_case(told),
        title=_title(told["period"]),
        told=told,
        covered=[
            Covered(level=level, share=Share(count=one["inside"], of=one["of"]))
            for level, one in told["coverage"].items()
            if one["of"]
        ],
    )


def _title(period: str) -> str:
    """Return 2026-11 or 2026-Q4 as one writes it in the page's language."""
    year, rest = period.split("-")
    if rest.startswith("Q"):
        return gettext("Q%(quarter)s %(year)s", quarter=rest[1:], year=year)
    day = datetime(int(year), int(rest), 1)  # noqa: DTZ001  only its month is shown
    pattern = "y年M月" if choose_language() == "zh" else "LLLL y"
    return str(flask_babel.format_date(day, pattern, rebase=False))


def _names(chosen: Sight, moved: Mapping[str, Any] | None) -> Names:
    reader = Reader(page_session(), current_user.user)
    session = reader.session
    ids = {deal["deal_id"] for told in (chosen.told, moved) if told for deal in told["deals"]}
    query = reader.select(Deal).with_only_columns(Deal.id, Deal.name).where(Deal.id.in_(ids))
    return Names(
        owners=_by_id(session, select(User.id, User.name)),
        teams=_by_id(session, select(Team.id, Team.name)),
        deals=_by_id(session, query) if reader.may_read_field("deal", "name") else {},
    )


def _by_id(session: Session, query: Select[int, str]) -> dict[int, str]:
    return {key: name for key, name in session.execute(query)}  # noqa: C416  rows are no pairs to a type checker


def _amount(value: float, currency: str | None) -> str:
    return money(Decimal(round(value)), currency or None)


def _money_axis(currency: str) -> Axis:
    return Axis(label=currency or gettext("Amount"), show=lambda value: _amount(value, currency))


def _parts_chart(sights: Sequence[Sight]) -> Chart | None:
    """Draw what each period is made of, with the range of the whole."""
    currency = sights[0].told["currency"]
    parts = {"won": gettext("Won"), "open": gettext("Open"), "new": gettext("Not yet created")}
    bars = [
        Bars(name=name, points=[(one.told["period"], max(one.told[key], 0.0)) for one in sights])
        for key, name in parts.items()
    ]
    whole = Dots(
        name=gettext("Expected, with its 80 percent range"),
        points=[(one.told["period"], one.told["expected"], *one.told["ranges"]["80"]) for one in sights],
    )
    return draw(
        gettext("What each period is made of"),
        x=Axis(label=gettext("Period")),
        y=_money_axis(currency),
        marks=[*bars, whole],
        stacked=True,
    )


def _causes_chart(moved: Mapping[str, Any]) -> Chart | None:
    """Draw by how much each cause moved the forecast."""
    causes = moved["causes"]
    points = [(str(short), causes[name]) for name, short in SHORT_CAUSES.items() if round(causes[name])]
    return draw(
        gettext("What moved it in a week, by cause"),
        x=Axis(label=gettext("Cause")),
        y=_money_axis(moved["currency"]),
        marks=[Bars(name=gettext("Change"), points=points)],
        wide=True,
    )


def _past_chart(chosen: Sight, told: Mapping[str, Any]) -> Chart | None:
    """Draw past ranges against what came: in money of all deals, else as shares of what was expected."""
    ahead = sum(1 for one in told["periods"] if _is_before(one, chosen.told))
    case = f"{chosen.told['span']}+{ahead}"
    if not chosen.covered:
        return None
    if replays := told["past"].get(case):
        said = [(one["period"], one["expected"], *one["ranges"]["80"]) for one in replays]
        came = [(one["period"], one["came"]) for one in replays]
        return _said_and_came(said, came, _money_axis(chosen.told["currency"]))
    shares = told["past_shares"].get(case, [])
    said = [(one["period"], 1.0, one["low"], one["high"]) for one in shares]
    came = [(one["period"], one["came"]) for one in shares]
    axis = Axis(label=gettext("Share of what was expected of the whole company"), show=_whole_percent)
    return _said_and_came(said, came, axis)


def _whole_percent(value: float) -> str:
    return percent(value, 0)


def _said_and_came(
    said: Sequence[tuple[str, float, float, float]], came: Sequence[tuple[str, float]], axis: Axis
) -> Chart | None:
    return draw(
        gettext("Past ranges, and what came"),
        x=Axis(label=gettext("Period")),
        y=axis,
        marks=[
            Dots(name=gettext("Was expected, with its 80 percent range"), points=said),
            Dots(name=gettext("Came"), points=[(period, value, None, None) for period, value in came]),
        ],
        wide=True,
    )


def _is_before(one: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    same = one["span"] == chosen["span"] and one["currency"] == chosen["currency"]
    return bool(same and one["start"] < chosen["start"])
