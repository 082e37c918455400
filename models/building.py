"""From questions to a model: choose a recipe, fit it, calibrate it on what it has not seen, pack it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crm_core.clock import DAY, instant
from crm_core.errors import NotEnoughDataError
from crm_core.phrases import Phrase
from crm_core.store import Store
from features.cohort import open_records
from features.feature_set import FeatureSet
from features.frame import build_frame
from models.bundle import Calibration, ModelBundle
from models.calibration import choose_calibration, stretched
from models.encoding import ColumnKind, Encoder, fit_encoder
from models.estimators import Due, Gate, Steps
from models.familiar import Familiar, fit_familiar
from models.fitting import Columns, Fitted, Recipe, Rung, fit_recipe
from models.hazard import Exposure, Floats, Ints, expit, fading_of, log_odds_within, share_of_intervals
from models.later import Later, fit_later
from models.questions import Questions, asked_of
from models.scorecard import scorecard_for
from models.selection import Asked, Choice, NextStep, choose_recipe
from models.splits import deal_accounts
from models.task import Task
from models.usual import find_usual

FEWEST_OUTCOMES = 20
"""Records with the outcome, and without it, below which no probability is said: a scorecard ranks."""

FEWEST_FOLLOWED = 50
"""Records that must have been followed to the end of an interval, or no horizon that needs it is reported."""

GRADE_FROM = (90, 70, 40)
"""Lowest ranks of grades A, B and C."""

SEASON = "season"
"""The group of features that depend on the calendar alone."""

_FEWEST_OPEN = 50
_EVENTS_TO_CALIBRATE = 200
_CALIBRATION_DAYS = (30, 60, 90, 180, 365)
_PARTS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A model with how it came about."""

    bundle: ModelBundle
    choice: Choice


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What a model is built from: questions asked up to `until` (microseconds), and what was known then."""

    store: Store
    task: Task
    feature_set: FeatureSet
    questions: Questions
    until: int
    _seen: dict[int, Exposure] = field(default_factory=dict, repr=False)

    def expose_at(self, known_at: int) -> Exposure:
        """Return what was known at an instant of what came of the questions; read once."""
        if known_at not in self._seen:
            self._seen[known_at] = self.questions.expose(self.store, known_at)
        return self._seen[known_at]

    def expose_later(self) -> Exposure | None:
        """Return what has been seen of the interval after those that teach; None where the task has none."""
        task = self.task
        if task.later_days is None:
            return None
        ends = (task.intervals_days[-1], task.later_days)
        seen = self.questions.expose(self.store, self.until, ends_days=ends)
        return Exposure(
            at_risk=seen.at_risk[:, 1:],
            event=seen.event[:, 1:],
            closed_at=seen.closed_at[:, 1:],
            weight=seen.weight,
        )


def gather(questions: Questions, store: Store, feature_set: FeatureSet, until: int) -> Material:
    """Return the material for a model of the instant `until`: nothing asked later."""
    asked = questions.as_of <= until
    earlier = questions if asked.all() else questions.take(asked)
    return Material(store=store, task=questions.task, feature_set=feature_set, questions=earlier, until=until)


def count_outcomes(questions: Questions, seen: Exposure) -> tuple[int, int]:
    """Return how many records have had the outcome, and how many have been seen without it."""
    ids = questions.cohort.ids
    happened = np.unique(ids[seen.happened])
    watched = np.unique(ids[seen.counted])
    return len(happened), len(watched) - len(happened)


def check_enough(task: Task, yes: int, no: int) -> None:
    """Raise NotEnoughDataError, naming what there is and what is needed to say a probability."""
    if min(yes, no) < FEWEST_OUTCOMES:
        raise NotEnoughDataError(too_few(task, yes, no))


def too_few(task: Task, yes: int, no: int) -> Phrase:
    """Return how many outcomes there are, and how many are needed to say a probability."""
    return Phrase(
        "{task}: {yes} {record_type}s are known to be {outcome} and {no} not to be;"
        " at least {most} of each are needed",
        task=task.name,
        yes=yes,
        record_type=task.record_type,
        outcome=task.outcome_en,
        no=no,
        most=FEWEST_OUTCOMES,
    )


def build_bundle(
    material: Material, *, recipe: Recipe | None = None, say: Callable[[str], None] = lambda _: None
) -> Built:
    """Return the model that the material gives; with `recipe`, without choosing one.

    On one thread: the matrices are small, threads that wait for one another cost many times what they save
    where the machine is busy, and sums in one order are the same bytes again.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    with threadpool_limits(limits=1, user_api="blas"):
        return _build(material, recipe, say)


def _build(material: Material, recipe: Recipe | None, say: Callable[[str], None]) -> Built:
    questions = material.questions
    if len(questions) == 0:
        raise NotEnoughDataError(
            Phrase("{task}, and there is nothing to ask about", task=too_few(material.task, 0, 0))
        )
    seen = material.expose_at(material.until)
    scorecard = scorecard_for(material.task, _kinds_of(questions))
    encoder = fit_encoder(
        questions.frame,
        questions.cohort.ids,
        forced=None if scorecard is None else scorecard.forced,
        segments=material.task.segments,
    )
    prior = None if scorecard is None else scorecard.prior(encoder, material.task)
    columns = replace(columns_of(encoder, material), prior=prior)
    asked = Asked(
        matrix=encoder.encode(questions.frame),
        columns=columns,
        as_of=questions.as_of,
        account=questions.account,
        fading=fading_of(material.task.intervals_days),
        no_time_order=material.task.no_time_order,
    )
    choice = _by_opinion(material, columns)
    if choice is None:
        choice = choose_recipe(asked, material.expose_at, material.until, say=say, only=recipe)
    say(f"fitting {choice.recipe.rung}")
    lesson = asked.lesson(seen, np.ones(len(questions), dtype=np.bool_), material.until)
    fitted = fit_recipe(choice.recipe, lesson)
    say("calibrating")
    said, base = say_of_others(asked, seen, choice.recipe, material.until)
    calibration, reach = Calibration(), Reach.by_opinion(material.task)
    if _is_enough(material):
        newest = _newest(seen, asked, material.until)
        calibration = choose_calibration(said, newest, asked.account, base)
        if not calibration.knots:
            fitted = fitted.stretched(calibration.slope)
        said = stretched(said, calibration, base)
        reach = Reach.of(material, seen, calibration.apply(said)[:, -1])
    notes = {"step": str(choice.recipe.rung), "scorecard": None if scorecard is None else scorecard.origin}
    bundle = _pack(material, encoder, fitted, calibration, reach, notes)
    return Built(bundle=bundle, choice=choice)


def _kinds_of(questions: Questions) -> dict[str, bool]:
    """Return of each feature whether it is a number."""
    frame = questions.frame
    return {name: frame[name].dtype.kind in "fiub" for name in frame.columns}


def _is_enough(material: Material) -> bool:
    return min(count_outcomes(material.questions, material.expose_at(material.until))) >= FEWEST_OUTCOMES


def _by_opinion(material: Material, columns: Columns) -> Choice | None:
    """Return the scorecard where outcomes are too few to say a probability; None where they are enough."""
    if _is_enough(material):
        return None
    yes, no = count_outcomes(material.questions, material.expose_at(material.until))
    if columns.prior is None:
        raise NotEnoughDataError(too_few(material.task, yes, no))
    reason = too_few(material.task, yes, no)
    lacking = max(FEWEST_OUTCOMES - yes, 0) or FEWEST_OUTCOMES - no
    return Choice(
        recipe=Recipe(rung=Rung.SCORECARD),
        reason=f"{reason} to say a probability",
        next_step=NextStep(rung=Rung.BASE_RATE, outcomes=lacking, reason=reason),
        events=yes,
    )


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far ahead a model may speak.

    `horizons` are the task's horizons for which enough records have been followed, `not_reported` the others
    with how many have been; `shown` is the task's own, or the longest that is reported.
    """

    horizons: tuple[int, ...]
    not_reported: dict[int, int]
    shown: int
    later: Later | None

    @classmethod
    def by_opinion(cls, task: Task) -> Reach:
        """Return the reach of a scorecard, which says no probability of any horizon."""
        return cls(horizons=(task.horizon_days,), not_reported={}, shown=task.horizon_days, later=None)

    @classmethod
    def of(cls, material: Material, seen: Exposure, last: Floats) -> Reach:
        """Return how far the material reaches.

        `last` is float64[n], the log-odds of the last hazard that teaches, said by models of other accounts.
        Raises NotEnoughDataError where nobody has been followed even to the first horizon.
        """
        task, after = material.task, material.expose_later()
        followed = _followed(material, seen, after)
        reported = [days for days in task.horizons_days if followed[days] >= FEWEST_FOLLOWED]
        if not reported:
            raise NotEnoughDataError(_too_short(task, followed))
        later = None
        if after is not None and task.later_days in reported:
            later = _fit_later(task, last, after)
        return cls(
            horizons=tuple(reported),
            not_reported={days: count for days, count in followed.items() if days not in reported},
            shown=max(days for days in reported if days <= max(task.horizon_days, reported[0])),
            later=later,
        )


def _followed(material: Material, seen: Exposure, after: Exposure | None) -> dict[int, int]:
    """Return how many records were followed through every interval that each horizon needs."""
    task, ids = material.task, material.questions.cohort.ids
    ends = list(task.intervals_days)
    at_risk = seen.at_risk
    if after is not None and task.later_days is not None:
        ends, at_risk = [*ends, task.later_days], np.hstack([at_risk, after.at_risk])
    counts = [len(np.unique(ids[column])) for column in at_risk.T]
    starts = [0, *ends[:-1]]
    return {
        days: min(count for count, start in zip(counts, starts, strict=True) if start < days)
        for days in task.horizons_days
    }


def _fit_later(task: Task, last: Floats, after: Exposure) -> Later:
    *_, before, start = (0, *task.intervals_days)
    end = task.later_days or start
    return fit_later(last, after, start_days=start, end_days=end, last_days=start - before)


def _too_short(task: Task, followed: dict[int, int]) -> Phrase:
    days = task.horizons_days[0]
    return Phrase(
        "{task}: {count} {record_type}s have been followed for {days} days; at least {most} are needed",
        task=task.name,
        count=followed[days],
        record_type=task.record_type,
        days=days,
        most=FEWEST_FOLLOWED,
    )


def say_of_others(asked: Asked, seen: Exposure, recipe: Recipe, until: int) -> tuple[Floats, Floats | None]:
    """Return the log-odds of the hazards as said by models of other accounts, and their base: float64[n, K].

    They correct the final model. What a model of the past got wrong is no guide here: after a jump in the
    level it would be corrected for the jump a second time, since the final model has learned from the new
    level already.
    """
    part_of = deal_accounts(asked.account, _PARTS)
    log_odds, base = np.zeros(seen.at_risk.shape), np.zeros(seen.at_risk.shape)
    aged = False
    for part in range(_PARTS):
        held = part_of == part
        lesson = asked.lesson(seen, ~held, until)
        fitted = fit_recipe(recipe, lesson)
        log_odds[held] = fitted.log_odds(asked.matrix[held])
        own = fitted.base(asked.matrix[held])
        if own is not None:
            base[held], aged = own, True
    return log_odds, base if aged else None


def _newest(seen: Exposure, asked: Asked, until: int) -> Exposure:
    """Return the intervals of the shortest recent time with enough events to calibrate by."""
    for days in _CALIBRATION_DAYS:
        newest = seen.closed_within(until - days * DAY, until)
        if len(np.unique(asked.account[newest.happened])) >= _EVENTS_TO_CALIBRATE:
            return newest
    return seen


def columns_of(encoder: Encoder, material: Material) -> Columns:
    """Return what the columns of an encoder are."""
    seasonal = {feature.name for feature in material.feature_set.features if feature.group == SEASON}
    return Columns(
        is_number=np.array([column.kind is ColumnKind.NUMBER for column in encoder.columns], dtype=np.bool_),
        is_seasonal=np.array([column.feature in seasonal for column in encoder.columns], dtype=np.bool_),
        gate=_gate(encoder, material.task),
        due=_due(encoder, material.task),
        steps=_steps(encoder, material.task),
        segments=_segments(encoder, material.task),
    )


def _segments(encoder: Encoder, task: Task) -> tuple[Ints, ...]:
    """Return the columns of each category whose levels borrow strength from the whole."""
    found = (
        [at for at, column in enumerate(encoder.columns) if column.feature == name] for name in task.segments
    )
    return tuple(np.array(columns, dtype=np.int64) for columns in found if columns)


def _due(encoder: Encoder, task: Task) -> Due | None:
    """Return which day decides, where it is among the columns."""
    found = [at for at, column in enumerate(encoder.columns) if column.name == task.decided]
    return Due(column=found[0], ends_days=task.intervals_days) if found else None


def _steps(encoder: Encoder, task: Task) -> Steps | None:
    """Return what ages, where that is among the columns."""
    if task.ages is None:
        return None
    name, limits = task.ages
    found = [at for at, column in enumerate(encoder.columns) if column.name == name]
    return Steps(column=found[0], limits_days=limits, ends_days=task.intervals_days) if found else None


def _gate(encoder: Encoder, task: Task) -> Gate | None:
    """Return what tells fresh records, where their age is among the columns."""
    if task.fresh is None:
        return None
    name, below = task.fresh
    found = [position for position, column in enumerate(encoder.columns) if column.name == name]
    return Gate(column=found[0], below=below) if found else None


def _pack(
    material: Material,
    encoder: Encoder,
    fitted: Fitted,
    calibration: Calibration,
    reach: Reach,
    notes: dict[str, Any],
) -> ModelBundle:
    task, questions = material.task, material.questions
    seen = material.expose_at(material.until)
    yes, no = count_outcomes(questions, seen)
    trained: dict[str, Any] = {
        "as_of": material.until,
        "questions": int(seen.counted.sum()),
        "outcomes": yes,
        "without_outcome": no,
        "data": fingerprint_of(questions, seen),
        "minimum": FEWEST_OUTCOMES,
        "says_probability": _is_enough(material),
        **notes,
    }
    hazards = _hazards_of_open(material, encoder, fitted, calibration)
    probability = probability_within(hazards, task, reach.shown)
    return ModelBundle(
        task=task.name,
        variant=task.variant,
        record_type=task.record_type,
        horizon_days=reach.shown,
        horizons_days=reach.horizons,
        intervals_days=task.intervals_days,
        high_is_good=task.high_is_good,
        feature_set_fingerprint=material.feature_set.fingerprint,
        features=material.feature_set.names,
        encoder=encoder,
        estimator=fitted.estimator,
        levels=fitted.levels,
        fading=fitted.fading,
        calibration=calibration,
        percentiles=np.quantile(probability, np.linspace(0, 1, 101)),
        grade_from=GRADE_FROM,
        trained=trained,
        later=reach.later,
        not_reported=reach.not_reported,
        usual=find_usual(questions.frame, encoder, questions.cohort.ids, questions.weight, task.record_type),
        familiar=_familiar(material),
    )


def _familiar(material: Material) -> Familiar:
    questions = material.questions
    field_of = {feature.name: feature.group for feature in material.feature_set.features}
    return fit_familiar(questions.frame, questions.cohort.ids, questions.as_of, field_of)


def _hazards_of_open(
    material: Material, encoder: Encoder, fitted: Fitted, calibration: Calibration
) -> Floats:
    """Return what is said of the records open at the time; of all questions where hardly any were open.

    In log-odds of the hazards: float64[n, K].
    """
    task = material.task
    cohort = open_records(
        material.store, task.record_type, instant(material.until), kind=task.variant or None
    )
    frame = material.questions.frame
    if len(cohort) >= _FEWEST_OPEN:
        frame = build_frame(material.store, cohort, material.feature_set)
        if task.own_horizon is not None:
            cohort, frame = asked_of(task, cohort, frame)
    return calibration.apply(fitted.log_odds(encoder.encode(frame)))


def probability_within(hazards: Floats, task: Task, horizon_days: int) -> Floats:
    """Return the probability within a horizon of hazards in log-odds (float64[n, K]): float64[n]."""
    return expit(log_odds_within(hazards, share_of_intervals(task.intervals_days, horizon_days)))


def fingerprint_of(questions: Questions, seen: Exposure) -> str:
    """Return the SHA-256 of everything a model is fitted to."""
    digest = hashlib.sha256()
    arrays: list[Any] = [questions.cohort.ids, questions.as_of, questions.account, questions.weight]
    arrays += [seen.at_risk, seen.event]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    for name in questions.frame.columns:
        digest.update(name.encode())
        digest.update(_bytes_of(questions.frame[name].to_numpy()))
    return digest.hexdigest()


def _bytes_of(values: np.ndarray[Any, Any]) -> bytes:
    if values.dtype.kind == "f":
        return values.tobytes()
    return "\x1f".join("\x00" if value is None else str(value) for value in values.tolist()).encode()
