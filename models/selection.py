"""Which model to use: tried out in the past, where the answers that followed are known by now.

From each origin every candidate learns what was known then and is judged on the questions asked next, by
the log-likelihood of what has been seen of them since. Among candidates that cannot be told apart the
plainer one is taken: more history, more shrinkage, a lower rung of the ladder. The scorecard is plainer than
the base rate, since it needs no outcome, but stays only where it would have been the better of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from crm_core.clock import instant
from models.evaluation import Estimate, compare_losses
from models.fitting import (
    SHAPES,
    Columns,
    Fitted,
    Lesson,
    Recipe,
    Rung,
    at_present_level,
    fit_recipe,
    fit_shape,
    tree_rows,
)
from models.hazard import Bools, Exposure, Floats, Ints, log_loss_of
from models.sample import MOST_TO_CHOOSE_ON, draw_sample
from models.splits import STEPS_DAYS, Split, list_origins, list_parts, list_splits
from models.trees import MANY_EVENTS, GrownTrees, fit_trees

LEVEL_DAYS: tuple[int | None, ...] = (None, 365, 180, 120, 90, 60)
"""How far back intervals may teach how high the hazards are, the longest first."""

WINDOWS_DAYS: tuple[int | None, ...] = (None, 365, 120)
"""How far back they may teach what matters, the longest first."""

PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0)
"""Strengths of shrinkage, the strongest first."""

_FIRST_PENALTY = 10.0

FEWEST_EVENTS = 20
"""Events to learn from, and to judge by, below which nothing above the base rate is tried."""

FEWEST_EVENTS_FOR_TREES = 50
"""Events below which trees are not tried."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a candidate must gain over a plainer one: more than noise, and enough to be worth it.

    `certainty` is the coverage of the interval of the gain that must lie above 0.
    """

    certainty: float
    worth: float


NEWER_LEVEL = Bar(certainty=0.8, worth=0.001)
LESS_HISTORY = Bar(certainty=0.8, worth=0.003)
LESS_SHRINKAGE = Bar(certainty=0.5, worth=0.0)
EXPERT = Bar(certainty=0.5, worth=0.0)
HIGHER_RUNG = Bar(certainty=0.9, worth=0.01)
OFF_OPINION = Bar(certainty=0.5, worth=0.01)
"""From a scorecard to a model that outcomes have taught: opinion need not be disproved beyond doubt."""


ENOUGH_EVENTS = 40
"""Events to judge by from which on no longer time is looked at."""

MANY_TIMES = 4
"""So many times as many trees may be grown where there are many events, if they go on to help."""

T = TypeVar("T")

ExposeAt = Callable[[int], Exposure]
"""Gives what was known of all questions at an instant."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """All questions that may teach or judge: rows float64[n, p] with their instants and accounts.

    Where there is no time order, parts of the accounts judge one another.
    """

    matrix: Floats
    columns: Columns
    as_of: Ints
    account: Ints
    fading: Floats
    no_time_order: bool = False

    def lesson(self, seen: Exposure, rows: Bools, until: int) -> Lesson:
        """Return some of the rows with what was seen of them up to an instant."""
        every = bool(rows.all())  # all rows need no copy
        return Lesson(
            matrix=self.matrix if every else self.matrix[rows],
            exposure=seen if every else seen.take(rows),
            columns=self.columns,
            fading=self.fading,
            until=until,
        )

    def take(self, rows: Bools) -> Asked:
        """Return some of the questions."""
        return replace(self, matrix=self.matrix[rows], as_of=self.as_of[rows], account=self.account[rows])


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe that was tried, with its mean loss on the judged questions."""

    recipe: Recipe
    loss: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self.recipe.to_json() | {"log_loss": round(self.loss, 6)}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rung compared with the one in use below it: how much lower its loss is, and whether it was taken."""

    below: Rung
    above: Rung
    gain: Estimate
    taken: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "below": str(self.below),
            "above": str(self.above),
            "gain": self.gain.to_json(),
            "taken": self.taken,
        }


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """The rung above the one in use, and about how many more outcomes it needs; None: that cannot be said."""

    rung: Rung | None
    outcomes: int | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "estimator": None if self.rung is None else str(self.rung),
            "more_outcomes": self.outcomes,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """So many questions were looked at, of so many."""

    questions: int
    of: int

    def __str__(self) -> str:
        """Return it in words."""
        return f"chosen on {self.questions:,} of {self.of:,} questions"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen and why, what was tried, and on how many questions with how many events.

    `next_step` says what the rung above needs; None where the recipe was given. `sampled` has of how many
    questions how many were looked at, where that was not all of them.
    """

    recipe: Recipe
    reason: str
    next_step: NextStep | None = None
    candidates: tuple[Candidate, ...] = ()
    steps: tuple[Step, ...] = ()
    origins: tuple[int, ...] = ()
    questions: int = 0
    events: int = 0
    sampled: Sampled | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "chosen": self.recipe.to_json(),
            "reason": self.reason,
            "next_step": None if self.next_step is None else self.next_step.to_json(),
            "steps": [step.to_json() for step in self.steps],
            "tried": [candidate.to_json() for candidate in self.candidates],
            "origins": [instant(origin).date().isoformat() for origin in self.origins],
            "questions": self.questions,
            "outcomes": self.events,
            "sampled": None if self.sampled is None else vars(self.sampled),
        }


def choose_recipe(
    asked: Asked,
    expose_at: ExposeAt,
    until: int,
    *,
    only: Recipe | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Return the recipe that was best on questions asked later than it had learned; with `only`, that one.

    Parameters
    ----------
    asked
        Questions asked up to `until`.
    expose_at
        What was known of them at an origin; at `until` it judges.
    until
        The present, in microseconds: nothing learned later is used.
    """
    if only is not None:
        return Choice(recipe=only, reason="chosen before")
    if len(asked.as_of) > MOST_TO_CHOOSE_ON:
        return _choose_on_sample(asked, expose_at, until, say)
    return _choose(asked, expose_at, until, say)


def _choose_on_sample(asked: Asked, expose_at: ExposeAt, until: int, say: Callable[[str], None]) -> Choice:
    happened = expose_at(until).happened
    sample = draw_sample(asked.account, asked.as_of, happened, MOST_TO_CHOOSE_ON)
    sampled = Sampled(questions=int(sample.rows.sum()), of=len(asked.as_of))
    say(f"choosing: {sampled}")
    choice = _choose(asked.take(sample.rows), lambda at: sample.take(expose_at(at)), until, say)
    return replace(
        choice,
        reason=f"{choice.reason}; {sampled}",
        next_step=_without_count(choice.next_step),
        sampled=sampled,
    )


def _without_count(step: NextStep | None) -> NextStep | None:
    """Return what the rung above needs, but no number of outcomes: those of a sample are fewer."""
    return None if step is None else replace(step, outcomes=None)


def _choose(asked: Asked, expose_at: ExposeAt, until: int, say: Callable[[str], None]) -> Choice:
    trial = _Trial.prepare(asked, expose_at, until)
    if trial.events < FEWEST_EVENTS:
        return trial.nothing_to_judge_by()
    say(f"judging on {trial.judged.sum()} questions asked from {len(trial.origins)} instants in the past")
    levels = (None,) if asked.no_time_order else LEVEL_DAYS
    rates = [Recipe(rung=Rung.BASE_RATE, level_days=days) for days in levels]
    base = trial.plainest(rates, NEWER_LEVEL)
    best = trial.keep_scorecard_or(base)
    say("trying a shrunken logistic model")
    logistic = trial.best_logistic(base.recipe.level_days)
    if best.recipe.rung is Rung.SCORECARD:
        logistic = trial.hold_near_scorecard(best, logistic)
    best = trial.step_up(best, logistic)
    if trial.events_known >= FEWEST_EVENTS_FOR_TREES:
        for rung in SHAPES:
            say(f"trying {rung.replace('_', ' ')}")
            below, best = best, trial.step_up(best, trial.best_trees(rung, logistic.recipe, best.recipe))
            if best is below:
                break
    return trial.conclude(best)


@dataclass(frozen=True, kw_only=True)
class _Tried:
    recipe: Recipe
    loss: Floats


@dataclass(kw_only=True)
class _Trial:
    """The splits, and everything tried on them so far."""

    asked: Asked
    until: int
    truth: Exposure
    splits: list[tuple[Split, Exposure]]
    judged: Bools
    candidates: list[Candidate] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @classmethod
    def prepare(cls, asked: Asked, expose_at: ExposeAt, until: int) -> _Trial:
        truth = expose_at(until)
        if asked.no_time_order:
            return cls.with_parts(asked, truth, until)
        for step_days in STEPS_DAYS:
            trial = cls.with_step(asked, expose_at, truth, until, step_days)
            if trial.events >= ENOUGH_EVENTS:
                break
        return trial

    @classmethod
    def with_step(
        cls, asked: Asked, expose_at: ExposeAt, truth: Exposure, until: int, step_days: int
    ) -> _Trial:
        splits: list[tuple[Split, Exposure]] = []
        judged = np.zeros(len(asked.as_of), dtype=np.bool_)
        for origin in list_origins(asked.as_of, truth.counted, until, step_days):
            known = expose_at(origin)
            if len(np.unique(asked.account[known.happened])) < FEWEST_EVENTS:
                continue
            for split in list_splits(asked.as_of, asked.account, origin, step_days):
                if not (split.judges & truth.counted).any():
                    continue
                splits.append((split, known))
                judged |= split.judges
        return cls(asked=asked, until=until, truth=truth, splits=splits, judged=judged & truth.counted)

    @classmethod
    def with_parts(cls, asked: Asked, truth: Exposure, until: int) -> _Trial:
        splits = [(split, truth) for split in list_parts(asked.account, until)]
        return cls(asked=asked, until=until, truth=truth, splits=splits, judged=truth.counted)

    @property
    def origins(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(split.origin for split, _ in self.splits))

    @property
    def events(self) -> int:
        return self.accounts_with_event(self.truth, self.judged)

    @property
    def events_known(self) -> int:
        """Return how many accounts with an event there are to learn from in the end."""
        return self.accounts_with_event(self.truth, np.ones_like(self.judged))

    def accounts_with_event(self, seen: Exposure, rows: Bools) -> int:
        return len(np.unique(self.asked.account[rows & seen.happened]))

    def lesson(self, split: Split, known: Exposure) -> Lesson:
        return self.asked.lesson(known, split.teaches, split.origin)

    def nothing_to_judge_by(self) -> Choice:
        recipe = Recipe(rung=Rung.BASE_RATE)
        if self.asked.columns.prior is not None and self.scorecard_fits_better():
            recipe = Recipe(rung=Rung.SCORECARD)
        reason = f"only {self.events} outcomes to judge by; {FEWEST_EVENTS} are needed to choose another"
        more = max(FEWEST_EVENTS - self.events, 2 * FEWEST_EVENTS - self.events_known)
        return Choice(
            recipe=recipe,
            reason=reason,
            next_step=NextStep(rung=Rung.LOGISTIC, outcomes=more, reason=reason),
            candidates=tuple(self.candidates),
            steps=tuple(self.steps),
            origins=self.origins,
            questions=int(self.judged.sum()),
            events=self.events,
        )

    def scorecard_fits_better(self) -> bool:
        """Tell whether all that is known is likelier by the scorecard than by the base rate.

        The scorecard was written before any of it was known. Both learn their levels from it, and nothing
        else, so that neither is flattered.
        """
        rows = self.truth.counted
        lesson = self.asked.lesson(self.truth, rows, self.until)
        rate, card = (self.on_its_own(Recipe(rung=rung), lesson) for rung in (Rung.BASE_RATE, Rung.SCORECARD))
        weight = lesson.exposure.weight
        gain = compare_losses(rate, card, self.asked.account[rows], weight=weight, coverage=EXPERT.certainty)
        self.note_scorecard(gain)
        return gain.low > 0

    def on_its_own(self, recipe: Recipe, lesson: Lesson) -> Floats:
        """Return the losses of a recipe on what it learned from."""
        loss = log_loss_of(fit_recipe(recipe, lesson).log_odds(lesson.matrix), lesson.exposure)
        mean = float(np.average(loss, weights=lesson.exposure.weight))
        self.candidates.append(Candidate(recipe=recipe, loss=mean))
        return loss

    def note_scorecard(self, gain: Estimate) -> None:
        """Note whether the base rate took the scorecard's place; `gain` is that of the scorecard."""
        lost = Estimate(value=-gain.value, low=-gain.high, high=-gain.low)
        self.steps.append(Step(below=Rung.SCORECARD, above=Rung.BASE_RATE, gain=lost, taken=not gain.low > 0))

    def keep_scorecard_or(self, base: _Tried) -> _Tried:
        """Return the scorecard where it is better than the base rate, which takes its place otherwise."""
        if self.asked.columns.prior is None:
            return base
        card = self.run(Recipe(rung=Rung.SCORECARD, level_days=base.recipe.level_days))
        gain, better = self.clears(EXPERT, base, card)
        self.note_scorecard(gain)
        return card if better else base

    def plainest(self, recipes: Sequence[Recipe], bar: Bar) -> _Tried:
        """Try recipes, plainest first, and return the first over which the best does not clear the bar."""
        return self.plainest_of([self.run(recipe) for recipe in recipes], bar)

    def plainest_of(self, tried: Sequence[_Tried], bar: Bar) -> _Tried:
        best = min(tried, key=self.mean_loss)
        return next(one for one in tried if one is best or not self.clears(bar, one, best)[1])

    def best_logistic(self, level_days: int | None) -> _Tried:
        first = Recipe(rung=Rung.LOGISTIC, level_days=level_days, penalty=_FIRST_PENALTY)
        windows = (None,) if self.asked.no_time_order else WINDOWS_DAYS
        windowed = self.plainest([replace(first, window_days=days) for days in windows], LESS_HISTORY)
        found = self.plainest_penalty(windowed)
        if self.asked.columns.prior is None:
            return found
        return self.plainest_of([found, self.run(replace(found.recipe, expert=True))], EXPERT)

    def hold_near_scorecard(self, card: _Tried, logistic: _Tried) -> _Tried:
        """Return a logistic model held close to the scorecard where only that one is surely better than it.

        What moves little from the scorecard differs little from it by chance.
        """
        if self.clears(OFF_OPINION, card, logistic)[1]:
            return logistic
        near = self.run(replace(logistic.recipe, expert=True, penalty=PENALTIES[0]))
        return near if self.clears(OFF_OPINION, card, near)[1] else logistic

    def plainest_penalty(self, start: _Tried) -> _Tried:
        """Walk from the first penalty towards more or less shrinkage for as long as that is better."""
        tried = {start.recipe.penalty: start}
        place = PENALTIES.index(_FIRST_PENALTY)
        for step in (-1, 1):
            at, best = place, start
            while 0 <= at + step < len(PENALTIES):
                at += step
                there = self.run(replace(start.recipe, penalty=PENALTIES[at]))
                tried[PENALTIES[at]] = there
                if self.mean_loss(there) >= self.mean_loss(best):
                    break
                best = there
        ordered = [tried[penalty] for penalty in PENALTIES if penalty in tried]
        return self.plainest_of(ordered, LESS_SHRINKAGE)

    def best_trees(self, rung: Rung, logistic: Recipe, below: Recipe) -> _Tried:
        """Return the better of trees alone and trees that add to the logistic model."""
        alone = replace(logistic, rung=rung, penalty=None, expert=False)
        added = replace(logistic, rung=rung)
        if below.rung in SHAPES:  # which of the two is better was found out on the rung below
            return self.grow(added if below.penalty is not None else alone)
        return min([self.grow(alone), self.grow(added)], key=self.mean_loss)

    def grow(self, recipe: Recipe) -> _Tried:
        """Grow trees for all splits, as many rounds as are best on what is judged."""
        shape = SHAPES[recipe.rung]
        grown: list[tuple[Split, Lesson, Fitted, GrownTrees]] = []
        for split, known in self.splits:
            lesson = self.lesson(split, known)
            start = fit_shape(replace(recipe, rounds=None), lesson)
            watched = self.asked.lesson(self.truth, split.judges & self.judged, self.until)
            trees = fit_trees(
                tree_rows(start, lesson.recent(recipe.window_days).without_short_seasons()),
                shape,
                rounds=shape.most_rounds * (MANY_TIMES if self.events_known > MANY_EVENTS else 1),
                watched=tree_rows(start, watched),
            )
            grown.append((split, lesson, start, trees))
        losses = [trees.watched_loss for *_, trees in grown]
        weights = [float((split.judges & self.judged).sum()) for split, *_ in grown]
        log_odds = np.full(self.truth.at_risk.shape, np.nan)
        for place, (split, lesson, start, trees) in enumerate(grown):
            # How many rounds a split is judged with, the others say: or choosing it would flatter trees.
            elsewhere = _best_round(_without(losses, place), _without(weights, place))
            estimator = replace(start.estimator, trees=trees.first(elsewhere))
            fitted = at_present_level(replace(start, estimator=estimator), lesson, recipe.level_days)
            self.fill(log_odds, split, fitted)
        rounds = _best_round(losses, weights)
        return self.tried(replace(recipe, rounds=rounds), log_odds)

    def run(self, recipe: Recipe) -> _Tried:
        log_odds = np.full(self.truth.at_risk.shape, np.nan)
        for split, known in self.splits:
            self.fill(log_odds, split, fit_recipe(recipe, self.lesson(split, known)))
        return self.tried(recipe, log_odds)

    def fill(self, log_odds: Floats, split: Split, fitted: Fitted) -> None:
        rows = split.judges & self.judged
        log_odds[rows] = fitted.log_odds(self.asked.matrix[rows])

    def tried(self, recipe: Recipe, log_odds: Floats) -> _Tried:
        rows = self.judged
        loss = log_loss_of(log_odds[rows], self.truth.take(rows))
        tried = _Tried(recipe=recipe, loss=loss)
        self.candidates.append(Candidate(recipe=recipe, loss=self.mean_loss(tried)))
        return tried

    def mean_loss(self, tried: _Tried) -> float:
        weight = self.truth.weight[self.judged]
        return float(np.average(tried.loss, weights=weight))

    def clears(self, bar: Bar, plainer: _Tried, other: _Tried) -> tuple[Estimate, bool]:
        """Return how much lower the loss of the other one is, and whether that clears the bar."""
        gain = compare_losses(
            plainer.loss,
            other.loss,
            self.asked.account[self.judged],
            weight=self.truth.weight[self.judged],
            coverage=bar.certainty,
        )
        return gain, gain.low > 0 and gain.value >= bar.worth * self.mean_loss(plainer)

    def step_up(self, below: _Tried, above: _Tried) -> _Tried:
        """Return the upper rung if it is better by more than noise, and by enough to be worth it."""
        bar = OFF_OPINION if below.recipe.rung is Rung.SCORECARD else HIGHER_RUNG
        gain, taken = self.clears(bar, below, above)
        self.steps.append(Step(below=below.recipe.rung, above=above.recipe.rung, gain=gain, taken=taken))
        return above if taken else below

    def conclude(self, best: _Tried) -> Choice:
        return Choice(
            recipe=best.recipe,
            candidates=tuple(self.candidates),
            steps=tuple(self.steps),
            reason=self.reason(best.recipe.rung),
            next_step=self.next_step(best),
            origins=self.origins,
            questions=int(self.judged.sum()),
            events=self.events,
        )

    def next_step(self, best: _Tried) -> NextStep:
        """Return what the next rung needs: what it was refused for, or the outcomes to be tried at all."""
        rung = best.recipe.rung
        refused = [step for step in self.steps if step.below is rung and not step.taken]
        refused = [step for step in refused if step.above is not Rung.BASE_RATE]
        if refused:
            return self.what_lacks(refused[0], best)
        if rung is Rung.FULL_TREES:
            return NextStep(rung=None, outcomes=None, reason="there is no rung above")
        lacking = FEWEST_EVENTS_FOR_TREES - self.events_known
        reason = f"{self.events_known} outcomes to learn from; {FEWEST_EVENTS_FOR_TREES} are needed to try it"
        return NextStep(rung=Rung.ADDITIVE_TREES, outcomes=lacking, reason=reason)

    def what_lacks(self, step: Step, best: _Tried) -> NextStep:
        """Return about how many more outcomes would lift a gain above its noise, were it to stay as it is.

        Noise shrinks with the square root of the outcomes.
        """
        gain, worth = step.gain, HIGHER_RUNG.worth * self.mean_loss(best)
        if gain.value <= 0:
            return NextStep(rung=step.above, outcomes=None, reason="it has gained nothing so far")
        if gain.value < worth:
            reason = f"its gain of {gain.value:.4f} is less than the {worth:.4f} that it must be worth"
            return NextStep(rung=step.above, outcomes=None, reason=reason)
        times = ((gain.value - gain.low) / gain.value) ** 2
        more = math.ceil(self.events_known * max(times - 1, 0.0)) + 1
        reason = f"its gain of {gain.value:.4f} is within the noise of {gain.value - gain.low:.4f}"
        return NextStep(rung=step.above, outcomes=_about(more), reason=reason)

    def reason(self, rung: Rung) -> str:
        if self.events_known < FEWEST_EVENTS_FOR_TREES:
            return (
                f"{rung}; trees were not tried: {self.events_known} outcomes to learn from, "
                f"{FEWEST_EVENTS_FOR_TREES} are needed"
            )
        beaten = [step for step in self.steps if not step.taken and step.above is not Rung.BASE_RATE]
        told = ", ".join(f"{step.above} gained {step.gain.value:.4f} over {step.below}" for step in beaten)
        return f"{rung}; not worth a step: {told}" if told else f"{rung}; each rung beat the one below"


def _about(count: int) -> int:
    """Return a count to two figures."""
    size = int(10 ** max(len(str(count)) - 2, 0))
    return math.ceil(count / size) * size


def _without(values: Sequence[T], place: int) -> Sequence[T]:
    """Return all values but one; the only one where there is no other."""
    return [*values[:place], *values[place + 1 :]] or values


def _best_round(losses: Sequence[Floats], weights: Sequence[float]) -> int:
    """Return after how many rounds the pooled loss is lowest; a run that stopped early keeps its last."""
    longest = max(len(loss) for loss in losses)
    padded = [np.pad(loss, (0, longest - len(loss)), mode="edge") for loss in losses]
    return int(np.argmin(np.average(padded, axis=0, weights=weights))) + 1
