"""Past periods replayed: what would have been said then, from what was known then, and what came.

Each replay uses a model that learned only what was known at the start of its quarter, and corrections that
were learned only from replays whose period was over by then. So how often past ranges held what came is how
often ranges made in this way do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from crm_core.clock import DAY, instant, micros
from crm_core.errors import NotEnoughDataError
from crm_core.phrases import Phrase
from crm_core.predictions import IN_THE_END_DAYS
from crm_core.store import Store
from features.cohort import Cohort, open_records
from features.feature_set import FeatureSet, feature_set_for
from features.frame import build_frame
from models.building import build_bundle, check_enough, count_outcomes, gather
from models.bundle import ModelBundle
from models.fitting import Recipe, Rung
from models.forecasting.amounts import learn_ratios
from models.forecasting.arrivals import learn_arrivals
from models.forecasting.book import DealBook, Snapshot
from models.forecasting.chances import Chances, learn_tail
from models.forecasting.outlook import DRAWS, Scene, draw_futures, place_of
from models.forecasting.periods import Period, Span, month_starts, period_at
from models.forecasting.shock import (
    Evidence,
    Shock,
    learn_shock,
    learn_widening,
    log_likelihood_of,
    no_shock,
    widened,
)
from models.forecasting.simple import Simple, revenue_of, simple_rules, stage_rates
from models.hazard import Floats
from models.questions import Questions, ask, first_instant
from models.task import Task
from models.tasks import get_task

TASK = "win_probability"

RECIPE = Recipe(rung=Rung.LOGISTIC, penalty=30.0)
"""How models of the past are made: always in the same way, as choosing one for each would take hours."""

MOST_QUESTIONS = 30_000
"""Questions that such a model learns from at most; of a larger company, some of the deals."""

LATE_DAYS = 5
"""A period teaches once it has been over for so long: some wins are written down late."""

LEVELS = (50, 80, 95)
"""Percent of the futures that a range holds."""

_WARM_UP_DAYS = 75

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, order=True)
class Case:
    """Which forecast: of the period at hand (ahead 0) or of the next one (ahead 1)."""

    span: Span
    ahead: int

    def period(self, as_of: int) -> Period:
        """Return the period that it is of."""
        return period_at(self.span, as_of).moved(self.ahead)

    @property
    def name(self) -> str:
        """Return its name as a key."""
        return f"{self.span}+{self.ahead}"


CASES = tuple(Case(span=span, ahead=ahead) for span in Span for ahead in (0, 1))


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What was said of a period from an instant in the past, and what came.

    `ranges`: by percent, lowest and highest. `independent`: the same for deals that share nothing, without
    corrections. `place`: the share of the futures that lay below what came. `quantiles`: of what was said.
    """

    case: Case
    as_of: int
    period: Period
    expected: float
    came: float
    place: float
    ranges: dict[int, tuple[float, float]]
    independent: dict[int, tuple[float, float]]
    quantiles: dict[float, float]
    simple: Simple

    def inside(self, level: int) -> bool:
        """Say whether what came lay in the range."""
        low, high = self.ranges[level]
        return low <= self.came <= high

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "as_of": instant(self.as_of).isoformat(),
            "period": self.period.name,
            "expected": round(self.expected, 2),
            "came": round(self.came, 2),
            "ranges": {
                str(level): [round(low, 2), round(high, 2)] for level, (low, high) in self.ranges.items()
            },
            "simple_rules": self.simple.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What replays taught for a case: the shared shock, and by how much ranges are widened."""

    shock: Shock
    widening: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Told:
    """One replay as it was made: counts by z, and the futures drawn, in order."""

    case: Case
    as_of: int
    period: Period
    known: Snapshot
    mean: Floats
    variance: Floats
    futures: Floats
    alone: Floats | None
    expected: float
    widening: float
    simple: Simple

    @property
    def weight(self) -> float:
        """Return how much it counts: the forecasts of one quarter from its three months are one."""
        return 1.0 / self.case.span.months

    def evidence(self, now: Snapshot) -> Evidence:
        """Return what its wins, as known at `now`, say of the shock."""
        return Evidence(
            log_likelihood=log_likelihood_of(self.wins(now), self.mean, self.variance),
            middle=middle_of(self.period, self.as_of),
            weight=self.weight,
            months_ago=(now.as_of - self.period.end) / (30.4 * DAY),
        )

    def wins(self, now: Snapshot) -> int:
        """Return the wins of the period that were not known when it was made."""
        rows = now.won_within(self.period.start, self.period.end)
        before = self.known.rows_of(now.ids[rows])
        already = (before >= 0) & self.known.is_won[np.maximum(before, 0)]
        return int((~already).sum())


@dataclass(kw_only=True, eq=False)
class Past:
    """The history of a store up to `as_of`, and what is replayed in it."""

    store: Store
    book: DealBook
    task: Task
    features: FeatureSet
    as_of: int
    currency: str
    scenes: dict[int, Scene]
    left_out: list[str]
    compare: bool = False
    told: dict[Case, list[_Told]] = field(default_factory=dict)

    def correction(self, case: Case, at: int, now: Snapshot) -> Correction:
        """Return what was to be learned by an instant from replays whose period was over."""
        over = [one for one in self.told[case] if one.period.end + LATE_DAYS * DAY <= at]
        places = [place_of(revenue_of(now, one.period, self.currency), one.futures) for one in over]
        return Correction(
            shock=learn_shock([one.evidence(now) for one in over], middle_of(case.period(at), at)),
            widening=learn_widening(places, [one.weight for one in over]),
        )

    def replay_all(self) -> None:
        """Replay every case from every month's start, oldest first."""
        for case in CASES:
            self.told[case] = []
            for scene in (self.scenes[as_of] for as_of in sorted(self.scenes)):
                if scene.can_say(self.currency):
                    self.told[case].append(self._tell(case, scene))

    def _tell(self, case: Case, scene: Scene) -> _Told:
        as_of = scene.now.as_of
        period = case.period(as_of)
        correction = self.correction(case, as_of, scene.now)
        outlook = scene.outlook(period, self.currency)
        mean, variance = scene.outlook(period).counts_by_z()
        futures = np.sort(draw_futures(outlook, correction.shock, draws=DRAWS).total)
        chance = outlook.probabilities(correction.shock)
        expected = outlook.already + float(chance @ outlook.worth.expected)
        alone = np.sort(draw_futures(outlook, no_shock()).total) if self.compare else None
        return _Told(
            case=case,
            as_of=as_of,
            period=period,
            known=scene.now,
            mean=mean,
            variance=variance,
            futures=futures,
            alone=alone,
            expected=expected + outlook.new_amount(correction.shock),
            widening=correction.widening,
            simple=simple_rules(
                self.book, scene.now, period, self.currency, stage_rates(self.book, scene.now)
            ),
        )

    def replays(self, case: Case, now: Snapshot, *, months_in: int = 0) -> list[Replay]:
        """Return the replays of a case whose period is over, oldest first, each period once.

        Each is the forecast made at the start of the period at hand then, or some months into it.
        """
        return [
            self._judged(one, now)
            for one in self.told[case]
            if one.period.end <= self.as_of and _months_in(one) == months_in
        ]

    def _judged(self, told: _Told, now: Snapshot) -> Replay:
        came = revenue_of(now, told.period, self.currency)
        alone = told.futures if told.alone is None else told.alone
        levels = (0.1, 0.25, 0.5, 0.75, 0.9)
        return Replay(
            case=told.case,
            as_of=told.as_of,
            period=told.period,
            expected=told.expected,
            came=came,
            place=place_of(came, told.futures),
            ranges=ranges_of(told.futures, told.widening),
            independent=ranges_of(alone, 1.0),
            quantiles={q: float(np.quantile(told.futures, widened(q, told.widening))) for q in levels},
            simple=told.simple,
        )


def middle_of(period: Period, as_of: int) -> int:
    """Return the middle of what is still to come of a period."""
    return (max(period.start, as_of) + period.end) // 2


def _months_in(told: _Told) -> int:
    """Return how many months of the period at hand had gone when a replay was made."""
    at_hand = period_at(told.case.span, told.as_of)
    return len(month_starts(at_hand.start, told.as_of))


def ranges_of(futures: Floats, widening: float) -> dict[int, tuple[float, float]]:
    """Return the ranges by percent, widened by a factor."""
    found = {}
    for level in LEVELS:
        low, high = 0.5 - level / 200, 0.5 + level / 200
        at = [widened(low, widening), widened(high, widening)]
        bottom, top = np.quantile(futures, at).tolist()
        found[level] = (bottom, top)
    return found


def read_past(store: Store, as_of: datetime, *, compare: bool = False, say: Say = lambda _: None) -> Past:
    """Read the history up to an instant and replay it; `compare` draws independent deals as well.

    Raises NotEnoughDataError where no deal has ever been won.
    """
    until = micros(as_of)
    book = DealBook.read(store)
    task = dated_task(store)
    features = feature_set_for(store, task.name)
    now = book.at(until)
    check_any_wins(now)
    past = Past(
        store=store,
        book=book,
        task=task,
        features=features,
        as_of=until,
        currency=main_currency(now),
        scenes={},
        left_out=[],
        compare=compare,
    )
    _read_scenes(past, say)
    say("replaying past periods")
    past.replay_all()
    return past


def dated_task(store: Store) -> Task:
    """Return the task of deals; raise NotEnoughDataError where it asks how they end and not when."""
    task = get_task(TASK).in_store(store)
    if task.horizon_days == IN_THE_END_DAYS:
        raise NotEnoughDataError(
            Phrase(
                "{task} ({variant}): the ends of deals have no dates, so no period can be foretold",
                task=task.name,
                variant=task.variant,
            )
        )
    return task


def check_any_wins(now: Snapshot) -> None:
    """Raise NotEnoughDataError unless a deal has been won, for an amount."""
    if not (now.is_won & (now.amount > 0)).any():
        raise NotEnoughDataError(
            Phrase(
                "{count} deals are known and none of them is won with an amount: nothing tells what will be",
                count=len(now),
            )
        )


def main_currency(now: Snapshot) -> str:
    """Return the currency that most wins are in."""
    names, count = np.unique(now.currency[now.is_won].astype(str), return_counts=True)
    return str(names[np.argmax(count)])


def _read_scenes(past: Past, say: Say) -> None:
    """Make the scene of every month's start at which a model could be made."""
    first = past.book.first_known
    if first is None:
        return
    starts = month_starts(first + _WARM_UP_DAYS * DAY, past.as_of - 1)
    if not starts:
        return
    say("reading what was asked of deals")
    questions = ask_some(past.store, past.task, past.features, past.as_of)
    frames = list(_frames(past, starts))
    for quarter, months in _by_quarter(starts):
        say(f"a model of {instant(quarter).date()}")
        try:
            bundle = light_model(past.store, questions, past.features, quarter)
        except NotEnoughDataError as error:
            past.left_out.append(f"{instant(quarter).date()}: {error}")
            continue
        for month in months:
            ids, frame = frames[starts.index(month)]
            past.scenes[month] = scene_at(past.book, month, bundle, ids, frame)


def _by_quarter(starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield when a model is made, the first month of each quarter there is, and the months that use it."""
    by_quarter: dict[int, list[int]] = {}
    for month in starts:
        by_quarter.setdefault(period_at(Span.QUARTER, month).start, []).append(month)
    for months in by_quarter.values():
        yield months[0], months


def _frames(past: Past, starts: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """Yield ids and features of the deals open at each instant, all built in one go."""
    cohorts = [open_records(past.store, "deal", instant(at)) for at in starts]
    together = Cohort.of(
        "deal",
        np.concatenate([cohort.ids for cohort in cohorts]),
        np.concatenate([cohort.as_of for cohort in cohorts]),
    )
    frame = build_frame(past.store, together, past.features)
    stop = np.cumsum([len(cohort) for cohort in cohorts])
    for cohort, end in zip(cohorts, stop.tolist(), strict=True):
        yield cohort.ids, frame.iloc[end - len(cohort) : end].reset_index(drop=True)


def ask_some(store: Store, task: Task, features: FeatureSet, until: int) -> Questions:
    """Return the questions up to an instant; of a large company those of some deals, always the same."""

    def build(store: Store, *, start: datetime, until: datetime) -> Cohort:
        cohort = task.ask(store, start=start, until=until)
        parts = -(-len(cohort) // MOST_QUESTIONS)
        mixed = (cohort.ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
        return cohort.take(mixed % np.uint64(max(parts, 1)) == 0)

    return ask(store, task, features, build, start=first_instant(store, task), until=instant(until))


def light_model(store: Store, questions: Questions, features: FeatureSet, as_of: int) -> ModelBundle:
    """Return a model of an instant, made by the one recipe from what was known then.

    Raises NotEnoughDataError for too few outcomes: what a scorecard expects is no chance to be added up.
    """
    material = gather(questions, store, features, as_of)
    check_enough(material.task, *count_outcomes(material.questions, material.expose_at(as_of)))
    return build_bundle(material, recipe=RECIPE).bundle


def scene_at(book: DealBook, as_of: int, bundle: ModelBundle, ids: Any, frame: Any) -> Scene:  # noqa: ANN401  arrays and a frame
    """Return all that a forecast from an instant needs, given the features of the deals open then."""
    now = book.at(as_of)
    earlier = [book.at(at) for at in month_starts((book.first_known or 0), as_of - 1)]
    return Scene(
        now=now,
        chances=Chances(
            ids=ids,
            hazards=bundle.hazards(frame),
            ends_days=bundle.intervals_days,
            tail=learn_tail(earlier, now, bundle.intervals_days),
        ),
        arrivals=learn_arrivals(now),
        ratios=learn_ratios(earlier, now),
    )
