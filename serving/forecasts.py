"""Forecasts for a person: within their rights, with what past forecasts taught kept in the home folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope, team_member_ids
from crm_core.clock import micros
from crm_core.errors import AccessDeniedError, InvalidValueError, NotEnoughDataError, RecordNotFoundError
from crm_core.phrases import Phrase
from crm_core.records import Deal, Team, User
from crm_core.store import Store
from serving.console import table
from serving.home import Home

if TYPE_CHECKING:
    from models.bundle import ModelBundle
    from models.forecasting.forecast import Seen
    from models.forecasting.learned import Learned
    from serving.service import Service

SPANS = ("month", "quarter")
"""What can be forecast."""

LEARN_AGAIN_AFTER = timedelta(days=7)
"""For so long the lessons of past forecasts are good enough."""

SINCE_DAYS = 7
"""What moved is told of so many days."""

_NOBODY = 0

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which part of the company is asked about: one owner's deals, or those of a team and all below it."""

    owner_id: int | None = None
    team_id: int | None = None


def lessons_file(home: Home) -> Path:
    """Return where what past forecasts taught is kept."""
    return home.folder / "forecast.json"


def find_lessons(home: Home, as_of: datetime, oldest: timedelta | None = None) -> Learned | None:
    """Return what was kept, if it can be read, is not later than `as_of` and not too old for it."""
    from models.forecasting.learned import Learned

    try:
        learned = Learned.from_json(json.loads(lessons_file(home).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    age = micros(as_of) - learned.as_of
    if age < 0 or (oldest is not None and age > oldest // timedelta(microseconds=1)):
        return None
    return learned


def learn_lessons(home: Home, store: Store, as_of: datetime, say: Callable[[str], None]) -> Learned:
    """Replay the past up to an instant; what it teaches is kept where that is later than what was kept."""
    from models.forecasting.learned import learn

    learned = learn(store, as_of, say=say)
    newest = find_lessons(home, store.clock.now())
    if newest is None or newest.as_of <= learned.as_of:
        path = lessons_file(home)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(learned.to_json()), encoding="utf-8")
        beside.replace(path)
    return learned


def get_lessons(home: Home, as_of: datetime) -> Learned:
    """Return what was kept; a request does not wait for minutes of replaying."""
    learned = find_lessons(home, as_of)
    if learned is None:
        raise NotEnoughDataError("past forecasts have not been replayed here yet; run: crm forecast")
    return learned


def seen_by(session: Session, user: User, part: Part) -> Seen:
    """Return which deals and owners a person may ask about, of the part they name.

    Raises AccessDeniedError for a role that may not see deals, their amounts or what models say of them.
    """
    from models.forecasting.forecast import Seen

    reader, owners = owners_seen_by(session, user, part)
    everything = reader.right("deal").read is Scope.ALL
    return Seen(deals=None if everything else _readable_ids(session, reader), owners=owners)


def owners_seen_by(session: Session, user: User, part: Part) -> tuple[Reader, Ids | None]:
    """Return a person with their rights, and whose deals they may ask about, None for all; see `seen_by`."""
    reader = Reader(session, user)
    scope = reader.right("deal").read
    if scope is Scope.NONE or not reader.may_read_field("deal", "amount"):
        raise AccessDeniedError(Phrase("the role {role} may not see the amounts of deals", role=user.role))
    reader.check_may_see_scores(Deal)
    owners = _owners_in(session, user, scope)
    for asked in (_named(session, part), owners):
        owners = asked if owners is None else owners if asked is None else owners & asked
    return reader, None if owners is None else np.array(sorted(owners), dtype=np.int64)


def _owners_in(session: Session, user: User, scope: Scope) -> set[int] | None:
    """Return whose deals a scope holds; None for everybody's."""
    if scope is Scope.ALL:
        return None
    return {user.id} if scope is Scope.OWN else {_NOBODY, *team_member_ids(session, user)}


def _named(session: Session, part: Part) -> set[int] | None:
    """Return the owners that are asked about; None for all."""
    owners = None if part.owner_id is None else {part.owner_id}
    if part.team_id is None:
        return owners
    members = set(team_member_ids(session, User(id=_NOBODY, team_id=part.team_id))) - {_NOBODY}
    return members if owners is None else members & owners


def _readable_ids(session: Session, reader: Reader) -> Ids:
    rows = session.scalars(select(Deal.id).where(reader.readable(Deal)))
    return np.array(sorted(rows), dtype=np.int64)


def find_part(session: Session, *, owner: str | None, team: str | None) -> Part:
    """Return the part that an owner's address and a team's name stand for; RecordNotFoundError if none."""
    return Part(
        owner_id=None if owner is None else _id_of(session, User, User.email, owner),
        team_id=None if team is None else _id_of(session, Team, Team.name, team),
    )


def _id_of(session: Session, model: type[User | Team], column: Any, text: str) -> int:  # noqa: ANN401  a column
    query = select(model.id).where(func.lower(column) == text.strip().lower(), model.deleted_at.is_(None))
    found = session.scalars(query.order_by(model.id)).first()
    if found is None:
        raise RecordNotFoundError(model.record_type, text)
    return found


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of the forecast."""

    user: User
    as_of: datetime
    spans: tuple[str, ...] = SPANS
    part: Part = Part()


def forecast_for(
    store: Store, learned: Learned, bundle: ModelBundle | None, question: Question
) -> dict[str, Any]:
    """Return the forecast that a person may see, with what moved it in the last days, as plain data."""
    from models.forecasting.book import DealBook
    from models.forecasting.forecast import make_forecast, usable_model
    from models.forecasting.moves import what_moved
    from models.forecasting.periods import Span

    if question.as_of > store.clock.now():
        raise InvalidValueError("as_of", question.as_of.isoformat(), "an instant that is not in the future")
    with store.reading() as session:
        seen = seen_by(session, question.user, question.part)
    spans = [Span(span) for span in question.spans]
    bundle, book = usable_model(store, bundle, micros(question.as_of)), DealBook.read(store)
    made = make_forecast(store, learned, question.as_of, bundle=bundle, spans=spans, seen=seen, book=book)
    moved = what_moved(
        store, learned, question.as_of, days=SINCE_DAYS, bundle=bundle, spans=spans, seen=seen, book=book
    )
    told = made.to_json() | {"moved": [one.to_json() for one in moved]}
    told["past"] = learned.replays if seen.deals is None and seen.owners is None else {}
    with store.reading() as session:
        return _readable(Reader(session, question.user), told)


def _readable(reader: Reader, told: dict[str, Any]) -> dict[str, Any]:
    """Return a forecast without what the reps' own numbers would say, for whoever may not see these."""
    if not reader.may_read_field("deal", "rep_probability"):
        for period in told["periods"]:
            period["simple_rules"]["reps"] = None
    return told


def forecast_now(running: Service, question: Question) -> dict[str, Any]:
    """Return the forecast by the model that serves and by what was learned before; nothing is trained.

    Raises NoChampionError without a model, NotEnoughDataError where past forecasts were never replayed.
    """
    from serving.modelling import BundleScorer

    with running.store.reading() as session:
        seen_by(session, question.user, question.part)
    scorer = running.champions.get("win_probability").scorer
    if not isinstance(scorer, BundleScorer):
        raise NotEnoughDataError(
            Phrase(
                "{model_version} gives no chances within other times than its own",
                model_version=scorer.model_version,
            )
        )
    learned = get_lessons(running.settings.home_folder, question.as_of)
    return forecast_for(running.store, learned, scorer.bundle, question)


def show_forecast(told: Mapping[str, Any]) -> None:
    """Print a forecast for a person."""
    click.echo(f"As of {told['as_of'][:16]}, model {told['model_version']}")
    for period in told["periods"]:
        _show_period(period)
    click.echo("")
    click.echo(
        "What is expected of teams adds up to that of all; their ranges do not: not all do badly at once."
    )
    for moved in told["moved"]:
        _show_moved(moved)
    for reason in told["left_out"]:
        click.echo(f"Left out: {reason}")
    if any(period["periods_learned_from"] == 0 for period in told["periods"]):
        click.echo("No past forecast could be replayed yet: ranges without a count follow a prior.")


def _show_period(period: Mapping[str, Any]) -> None:
    click.echo("")
    wide = ", ".join(
        f"{level} % {_money(low)} to {_money(high)}" for level, (low, high) in period["ranges"].items()
    )
    click.echo(f"{_headed(period)}: {_money(period['expected'])} expected; {wide}")
    if held := coverage_in_words(period):
        click.echo(held)
    rows = [_row(period, "all"), *(_row(one, one["name"] or "nobody") for one in period["by_team"])]
    columns = ("", "won>", "open>", "not yet created>", "expected>", "80 %>")
    table("", columns, rows)
    simple = {name: value for name, value in period["simple_rules"].items() if value is not None}
    others = ", ".join(f"{name.replace('_', ' ')} {_money(value)}" for name, value in simple.items())
    click.echo(f"Others would say: {others}.")


def _headed(told: Mapping[str, Any]) -> str:
    """Return a period with its currency, if its deals name one."""
    return ", ".join(filter(None, (told["period"], told["currency"])))


def coverage_in_words(period: Mapping[str, Any]) -> str:
    """Return how past ranges held what came, in counts; empty where none was replayed."""
    counted = {level: one for level, one in period["coverage"].items() if one["of"]}
    if not counted:
        return ""
    told = ", ".join(f"{one['inside']} were inside the {level} % range" for level, one in counted.items())
    of = next(iter(counted.values()))["of"]
    return f"Of the last {of} {period['span']}s, {told}."


def _row(one: Mapping[str, Any], name: str) -> Sequence[str]:
    low, high = one["ranges"]["80"]
    figures = [_money(one[key]) for key in ("won", "open", "new", "expected")]
    return (name, *figures, f"{_money(low)} to {_money(high)}")


def _show_moved(moved: Mapping[str, Any]) -> None:
    causes = {name: amount for name, amount in moved["causes"].items() if round(amount)}
    told = ", ".join(f"{name.replace('_', ' ')} {amount:+,.0f}" for name, amount in causes.items())
    click.echo(
        f"{_headed(moved)}, since {moved['since'][:10]}: {_money(moved['before'])} "
        f"is now {_money(moved['now'])} ({told or 'nothing moved'})"
    )


def _money(value: float) -> str:
    return f"{value:,.0f}"
