"""The forecast: revenue of the month and quarter at hand and of the next ones, with what it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import select

from crm_core.clock import instant, micros
from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase
from crm_core.records import Team, User
from crm_core.store import Store
from features.cohort import open_records
from features.feature_set import feature_set_for
from features.frame import build_frame
from models.building import check_enough
from models.bundle import ModelBundle
from models.forecasting.arrivals import learn_arrivals
from models.forecasting.book import NOBODY, DealBook
from models.forecasting.chances import Chances
from models.forecasting.learned import Learned
from models.forecasting.outlook import Draws, Outlook, Scene, draw_futures
from models.forecasting.periods import Period, Span
from models.forecasting.replaying import (
    CASES,
    Case,
    Correction,
    ask_some,
    dated_task,
    light_model,
    ranges_of,
)
from models.forecasting.simple import Simple, simple_rules
from models.hazard import Bools, Floats, Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Which part of the company is asked about: ids of deals and owners, None for all.

    `owners` also decides whose share of the deals to come is counted; NOBODY stands for no owner.
    """

    deals: Ints | None = None
    owners: Ints | None = None


@dataclass(frozen=True, kw_only=True)
class DealLine:
    """What a deal adds: `expected` is `probability` times `amount`, its worth if it is won."""

    deal_id: int
    won: bool
    probability: float
    amount: float

    @property
    def expected(self) -> float:
        """Return the revenue expected of it."""
        return self.probability * self.amount

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "deal_id": self.deal_id,
            "won": self.won,
            "probability": round(self.probability, 6),
            "amount": round(self.amount, 2),
            "expected": round(self.expected, 2),
        }


@dataclass(frozen=True, kw_only=True)
class Part:
    """The forecast of a team or an owner (`key`: an id, None for nobody's deals), or of all."""

    key: int | None
    name: str
    won: float
    open: float
    new: float
    ranges: dict[int, tuple[float, float]]

    @property
    def expected(self) -> float:
        """Return the revenue expected: won already, open, and not yet created."""
        return self.won + self.open + self.new

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "id": self.key,
            "name": self.name,
            "won": round(self.won, 2),
            "open": round(self.open, 2),
            "new": round(self.new, 2),
            "expected": round(self.expected, 2),
            "ranges": {
                str(level): [round(low, 2), round(high, 2)] for level, (low, high) in self.ranges.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class PeriodForecast:
    """One period in one currency.

    `deals`: the deals won in it and the open ones. `coverage`: by percent, how many ranges of past periods
    held what came, and of how many; empty where none was replayed. The means of `by_owner` and of `by_team`
    add up to that of `whole`; their ranges do not, because not all do badly at once.
    """

    case: Case
    period: Period
    currency: str
    whole: Part
    new_wins: float
    deals: tuple[DealLine, ...]
    by_owner: tuple[Part, ...]
    by_team: tuple[Part, ...]
    simple: Simple
    coverage: dict[int, tuple[int, int]]
    replayed: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        whole = self.whole.to_json()
        return {
            "span": str(self.case.span),
            "period": self.period.name,
            "start": instant(self.period.start).isoformat(),
            "end": instant(self.period.end).isoformat(),
            "currency": self.currency,
            **{name: whole[name] for name in ("won", "open", "new", "expected", "ranges")},
            "new_wins": round(self.new_wins, 3),
            "simple_rules": self.simple.to_json(),
            "coverage": {
                str(level): {"inside": inside, "of": of} for level, (inside, of) in self.coverage.items()
            },
            "periods_learned_from": self.replayed,
            "by_team": [one.to_json() for one in self.by_team],
            "by_owner": [one.to_json() for one in self.by_owner],
            "deals": [one.to_json() for one in self.deals],
        }


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """All periods asked for, from one instant, by one model."""

    as_of: int
    model_version: str
    learned_at: int
    periods: tuple[PeriodForecast, ...]
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "as_of": instant(self.as_of).isoformat(),
            "model_version": self.model_version,
            "learned_as_of": instant(self.learned_at).isoformat(),
            "periods": [one.to_json() for one in self.periods],
            "left_out": list(self.left_out),
        }


def make_forecast(
    store: Store,
    learned: Learned,
    as_of: datetime,
    *,
    bundle: ModelBundle | None = None,
    spans: Sequence[Span] = tuple(Span),
    seen: Seen | None = None,
    book: DealBook | None = None,
) -> Forecast:
    """Return the forecast from an instant; the same each time.

    Parameters
    ----------
    learned
        What replays taught, not later than `as_of`.
    bundle
        The model of win probability; if it learned from what came after `as_of`, or without one, a model is
        made of what was known then.
    seen, book
        The part asked about (None: all); and the deals, where they have been read already.

    Raises
    ------
    NotEnoughDataError
        Too few deals are won or lost for any model.
    """
    at = micros(as_of)
    if learned.as_of > at:
        raise InvalidValueError(
            "learned", instant(learned.as_of).isoformat(), Phrase("an instant up to {now}", now=str(as_of))
        )
    book = book or DealBook.read(store)
    bundle = usable_model(store, bundle, at)
    scene = scene_of(store, book, learned, bundle, at)
    people = _People.read(store)
    found = [
        _forecast(book, scene, learned, people, case, currency, seen or Seen())
        for case in CASES
        if case.span in spans
        for currency in scene.currencies()
        if scene.can_say(currency)
    ]
    silent = [
        f"{currency or 'no currency'}: no deal has an amount"
        for currency in scene.currencies()
        if not scene.can_say(currency)
    ]
    return Forecast(
        as_of=at,
        model_version=bundle.version or f"made for this forecast from what was known on {instant(at).date()}",
        learned_at=learned.as_of,
        periods=tuple(one for one in found if _says_anything(one, learned)),
        left_out=(*learned.left_out, *silent),
    )


def usable_model(store: Store, bundle: ModelBundle | None, at: int) -> ModelBundle:
    """Return the model given, unless it knows what came after an instant; then one made of what was known.

    Raises NotEnoughDataError where too few outcomes are behind either to say a probability, or where the ends
    of deals have no dates.
    """
    task = dated_task(store)
    if bundle is not None and bundle.trained["as_of"] <= at:
        if not bundle.says_probability:
            check_enough(task, bundle.trained["outcomes"], bundle.trained["without_outcome"])
        return bundle
    features = feature_set_for(store, task.name)
    return light_model(store, ask_some(store, task, features, at), features, at)


def scene_of(store: Store, book: DealBook, learned: Learned, bundle: ModelBundle, at: int) -> Scene:
    """Return all that is needed of an instant."""
    from models.scoring import features_of

    cohort = open_records(store, "deal", instant(at))
    frame = build_frame(store, cohort, features_of(store, bundle))
    now = book.at(at)
    return Scene(
        now=now,
        chances=Chances(
            ids=cohort.ids,
            hazards=bundle.hazards(frame),
            ends_days=bundle.intervals_days,
            tail=learned.tail,
        ),
        arrivals=learn_arrivals(now),
        ratios=learned.ratios,
    )


@dataclass(frozen=True, kw_only=True)
class _People:
    """Names of owners and teams, and the team of each owner."""

    owners: dict[int, str]
    teams: dict[int, str]
    team_of: dict[int, int]

    @classmethod
    def read(cls, store: Store) -> _People:
        with store.reading() as session:
            users = session.execute(select(User.id, User.name, User.team_id)).all()
            teams = session.execute(select(Team.id, Team.name)).all()
        return cls(
            owners={row[0]: row[1] for row in users},
            teams={row[0]: row[1] for row in teams},
            team_of={row[0]: row[2] or NOBODY for row in users},
        )

    def teams_of(self, owners: Ints) -> Ints:
        return np.array([self.team_of.get(owner, NOBODY) for owner in owners.tolist()], dtype=np.int64)


def outlook_of(scene: Scene, period: Period, currency: str, seen: Seen) -> Outlook:
    """Return the outlook on the part of the company that is asked about."""
    outlook = scene.outlook(period, currency).owned_by(seen.owners)
    if seen.deals is None:
        return outlook
    return outlook.only(np.isin(outlook.won.ids, seen.deals), np.isin(outlook.open.ids, seen.deals))


def _forecast(
    book: DealBook,
    scene: Scene,
    learned: Learned,
    people: _People,
    case: Case,
    currency: str,
    seen: Seen,
) -> PeriodForecast:
    correction = learned.correction(case)
    period = case.period(scene.now.as_of)
    outlook = outlook_of(scene, period, currency, seen)
    draws = draw_futures(outlook, correction.shock)
    lines = list_deals(outlook, correction)
    means = _Means.of(outlook, correction, lines, draws.owners)
    asked = scene.now if seen.deals is None else scene.now.take(np.isin(scene.now.ids, seen.deals))
    every = np.ones(draws.owners.size, dtype=np.bool_)
    return PeriodForecast(
        case=case,
        period=period,
        currency=currency,
        whole=means.part(None, "", every, draws, correction),
        new_wins=outlook.new_count(correction.shock),
        deals=tuple(lines),
        by_owner=_parts(means, draws, correction, draws.owners, people.owners),
        by_team=_parts(means, draws, correction, people.teams_of(draws.owners), people.teams),
        simple=simple_rules(book, asked, period, currency, learned.stage_rates, seen.owners),
        coverage=learned.coverage[case.name] if currency == learned.currency else {},
        replayed=correction.shock.periods,
    )


def list_deals(outlook: Outlook, correction: Correction) -> list[DealLine]:
    """Return what each deal adds to a period, by id: won ones as they are, open ones by their chance."""
    won = zip(outlook.won.ids.tolist(), np.nan_to_num(outlook.won.amount).tolist(), strict=True)
    chance = outlook.probabilities(correction.shock).tolist()
    found = zip(outlook.open.ids.tolist(), chance, outlook.worth.expected.tolist(), strict=True)
    lines = [DealLine(deal_id=deal, won=True, probability=1.0, amount=amount) for deal, amount in won]
    lines += [DealLine(deal_id=deal, won=False, probability=p, amount=amount) for deal, p, amount in found]
    return sorted(lines, key=lambda line: line.deal_id)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Means:
    """What is expected of each owner: float64[owners] each, exactly."""

    won: Floats
    open: Floats
    new: Floats

    @classmethod
    def of(cls, outlook: Outlook, correction: Correction, lines: Sequence[DealLine], owners: Ints) -> _Means:
        owner_of = dict(zip(outlook.won.ids.tolist(), outlook.won.owner.tolist(), strict=True))
        owner_of |= dict(zip(outlook.open.ids.tolist(), outlook.open.owner.tolist(), strict=True))
        place = {owner: position for position, owner in enumerate(owners.tolist())}
        sums: dict[bool, list[list[float]]] = {won: [[] for _ in place] for won in (True, False)}
        for line in lines:
            sums[line.won][place[owner_of[line.deal_id]]].append(line.expected)
        new = np.zeros(owners.size)
        new[np.searchsorted(owners, outlook.new.owners)] = outlook.new.shares
        return cls(
            won=np.array([math.fsum(part) for part in sums[True]]),
            open=np.array([math.fsum(part) for part in sums[False]]),
            new=new * outlook.new_amount(correction.shock),
        )

    def part(self, key: int | None, name: str, rows: Bools, draws: Draws, correction: Correction) -> Part:
        return Part(
            key=key,
            name=name,
            won=math.fsum(self.won[rows]),
            open=math.fsum(self.open[rows]),
            new=math.fsum(self.new[rows]),
            ranges=ranges_of(draws.by_owner[:, rows].sum(axis=1), correction.widening),
        )


def _parts(
    means: _Means, draws: Draws, correction: Correction, keys: Ints, names: dict[int, str]
) -> tuple[Part, ...]:
    """Return the parts by key, the largest first."""
    found = [
        means.part(
            key or None, names.get(key, ""), np.asarray(keys == key, dtype=np.bool_), draws, correction
        )
        for key in np.unique(keys).tolist()
    ]
    return tuple(sorted(found, key=lambda part: (-part.expected, part.key or NOBODY)))


def _says_anything(found: PeriodForecast, learned: Learned) -> bool:
    """Leave out a currency in which nothing is won, open or to come; never the main one."""
    return found.currency == learned.currency or found.whole.expected > 0
