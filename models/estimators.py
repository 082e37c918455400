"""What a fitted model is: data that turns an encoded row into effects, and effects into contributions.

A model adds up a scorecard, a linear part and trees, each of which may be absent; without any it knows the
base rate only. The scorecard is what people expect, or what outcomes have made of it. The linear part has
weights of what lasts, of what is news and fades, and of what holds only when a record is fresh. Trees are
LightGBM's, kept as its text; what they say lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.forest import MOST_LEAVES, Forest, read_forest
from models.hazard import Bools, Floats, Ints
from models.logistic import ROWS_IN_CACHE, Scale, parts_of_rows

if TYPE_CHECKING:
    import lightgbm


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a model says of n records, in log-odds of the hazards: `lasting` and `early`, float64[n] each.

    `due` (float64[n]) holds only in the interval that a day falls into, `falls` (float64[n, K]) tells which.
    `aged` (float64[n, K]) is what the age makes of each interval.
    """

    lasting: Floats
    early: Floats
    due: Floats | None = None
    falls: Floats | None = None
    aged: Floats | None = None

    def on_hazards(self, fading: Floats) -> Floats:
        """Return what is added to the level of each interval: float64[n, K]."""
        added = self.lasting[:, None] + self.early[:, None] * fading
        if self.aged is not None:
            added = added + self.aged
        return added if self.due is None or self.falls is None else added + self.due[:, None] * self.falls


def _one_after_another(parts: Sequence[Effects]) -> Effects:
    """Return the effects of the rows of all parts."""
    due = [part.due for part in parts if part.due is not None]
    falls = [part.falls for part in parts if part.falls is not None]
    aged = [part.aged for part in parts if part.aged is not None]
    return Effects(
        lasting=np.concatenate([part.lasting for part in parts]),
        early=np.concatenate([part.early for part in parts]),
        due=np.concatenate(due) if due else None,
        falls=np.concatenate(falls) if falls else None,
        aged=np.concatenate(aged) if aged else None,
    )


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """Effects taken apart: what each column adds, float64[n, p], to the effects of the average row.

    `aged` (float64[n, K]) is all that of one column, `aged_by`.
    """

    lasting: Floats
    early: Floats
    average_lasting: float
    average_early: float
    due: Floats | None = None
    falls: Floats | None = None
    aged: Floats | None = None
    aged_by: int = 0


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Rows of whom something else holds: those with a number below a limit in one column."""

    column: int
    below: float

    def is_open(self, matrix: Floats) -> Bools:
        """Return for which rows: bool[n]; a missing number is not below."""
        return np.asarray(matrix[:, self.column] < self.below, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Due:
    """When something is decided: days from the question in one column, and the ends of the intervals."""

    column: int
    ends_days: tuple[int, ...]

    def falls(self, matrix: Floats) -> Floats:
        """Return 1 for the interval that the day falls into, half-open on the left: float64[n, K]."""
        days = matrix[:, [self.column]]
        starts = (0, *self.ends_days[:-1])
        return np.asarray((days > starts) & (days <= self.ends_days), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """An age in days in one column, the limits beyond which a hazard is another, the ends of intervals."""

    column: int
    limits_days: tuple[float, ...]
    ends_days: tuple[int, ...]

    def age(self, matrix: Floats) -> Floats:
        """Return the age of each row: float64[n]; a missing one is 0."""
        return np.nan_to_num(matrix[:, self.column])

    def reached(self, ages: Floats) -> Floats:
        """Return which share of each interval lies beyond each limit of age: float64[n, K, limits].

        What counts is the age reached in the interval, not that at the question: a lead of 10 days in its
        third week and a new one in its fifth are of the same age then.
        """
        age = ages[:, None, None]
        ends = np.array(self.ends_days, dtype=np.float64)[:, None]
        width = np.diff(ends, axis=0, prepend=0.0)
        return np.asarray(np.clip((age + ends - self.limits_days) / width, 0.0, 1.0), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Ageing:
    """What is added to the log-odds of a hazard beyond each limit of age.

    `weight` is float64[limits]; `mean` (float64[K, limits]) is how far the training rows had got, so that
    the average row has no effect.
    """

    steps: Steps
    weight: Floats
    mean: Floats

    def on_hazards(self, matrix: Floats) -> Floats:
        """Return what is added in each interval: float64[n, K]."""
        added = np.zeros((len(matrix), len(self.mean)))
        away = self.steps.reached(self.steps.age(matrix)) - self.mean
        for weight, part in zip(self.weight.tolist(), np.moveaxis(away, 2, 0), strict=True):
            added += weight * part  # in one order: a row gets the same alone as among others
        return added

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "column": self.steps.column,
            "limits_days": list(self.steps.limits_days),
            "ends_days": list(self.steps.ends_days),
            "weight": self.weight.tolist(),
            "mean": self.mean.tolist(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Ageing | None:
        """Return what `to_json` described."""
        if data is None:
            return None
        limits, ends = tuple(data["limits_days"]), tuple(data["ends_days"])
        return cls(
            steps=Steps(column=data["column"], limits_days=limits, ends_days=ends),
            weight=np.array(data["weight"], dtype=np.float64),
            mean=np.array(data["mean"], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of each column, float64[p], and of its number being missing."""

    known: Floats
    missing: Floats

    def terms(self, scaled: Floats, may_miss: Bools) -> Floats:
        """Return what each column adds: float64[n, p]."""
        width = len(self.known)
        terms = scaled[:, :width] * self.known
        told = np.flatnonzero(may_miss)
        terms[:, told] += scaled[:, width:] * self.missing[told]
        return np.asarray(terms, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {"known": self.known.tolist(), "missing": self.missing.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Weights | None:
        """Return what `to_json` described."""
        if data is None:
            return None
        return cls(
            known=np.array(data["known"], dtype=np.float64),
            missing=np.array(data["missing"], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Weighted sums of scaled columns, which have mean 0, so that the average training row has no effect.

    `lasting` weighs on every interval, `early` fades over them, `fresh` is added to `lasting` where the
    gate is open. `due` weighs on the interval alone that a day falls into, and `due_level` is added there.
    `ageing` is what the age reached in each interval adds.
    """

    scale: Scale
    lasting: Weights
    early: Weights | None = None
    fresh: Weights | None = None
    gate: Gate | None = None
    due: Weights | None = None
    due_by: Due | None = None
    due_level: float = 0.0
    ageing: Ageing | None = None

    def due_terms(self, matrix: Floats) -> tuple[Floats, Floats] | None:
        """Return each column's term where the day falls, float64[n, p], and where that is, float64[n, K]."""
        if self.due is None or self.due_by is None:
            return None
        terms = self.due.terms(self.scale.apply(matrix), self.scale.may_miss)
        terms[:, self.due_by.column] += self.due_level
        return terms, self.due_by.falls(matrix)

    def terms(self, matrix: Floats) -> tuple[Floats, Floats]:
        """Return each column's lasting and early term: float64[n, p] each."""
        scaled = self.scale.apply(matrix)
        lasting = self.lasting.terms(scaled, self.scale.may_miss)
        early = np.zeros(matrix.shape)
        if self.early is not None:
            early = self.early.terms(scaled, self.scale.may_miss)
        if self.fresh is not None and self.gate is not None:
            is_open = self.gate.is_open(matrix)[:, None]
            lasting = lasting + is_open * self.fresh.terms(scaled, self.scale.may_miss)
        return lasting, early

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "scale": self.scale.to_json(),
            "lasting": self.lasting.to_json(),
            "early": None if self.early is None else self.early.to_json(),
            "fresh": None if self.fresh is None else self.fresh.to_json(),
            "gate": None if self.gate is None else [self.gate.column, self.gate.below],
            "due": None if self.due is None else self.due.to_json(),
            "due_by": None if self.due_by is None else [self.due_by.column, list(self.due_by.ends_days)],
            "due_level": self.due_level,
            "ageing": None if self.ageing is None else self.ageing.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Linear:
        """Return what `to_json` described."""
        lasting, gate, due_by = Weights.from_json(data["lasting"]), data["gate"], data["due_by"]
        if lasting is None:
            msg = "expected lasting weights, got none"
            raise ValueError(msg)
        return cls(
            scale=Scale.from_json(data["scale"]),
            lasting=lasting,
            early=Weights.from_json(data["early"]),
            fresh=Weights.from_json(data["fresh"]),
            gate=None if gate is None else Gate(column=gate[0], below=gate[1]),
            due=Weights.from_json(data["due"]),
            due_by=None if due_by is None else Due(column=due_by[0], ends_days=tuple(due_by[1])),
            due_level=float(data["due_level"]),
            ageing=Ageing.from_json(data["ageing"]),
        )


@dataclass(frozen=True, kw_only=True)
class Card:
    """Conditions on columns, each with a weight that lasts; a scorecard, or what outcomes have made of it.

    Condition i holds where the number in `column[i]` is in [at_least[i], below[i]), or where it is missing
    if `missing[i]`. `mean` is the share of training rows for which it does, so that the average row has no
    effect.
    """

    column: Ints
    at_least: Floats
    below: Floats
    missing: Bools
    weight: Floats
    mean: Floats

    def __len__(self) -> int:
        """Return how many conditions there are."""
        return len(self.column)

    def rows(self, matrix: Floats) -> Floats:
        """Return 1 where a condition holds and 0 where not, less its mean: float64[n, conditions]."""
        values = matrix[:, self.column]
        inside = (values >= self.at_least) & (values < self.below)
        return np.asarray(np.where(self.missing, np.isnan(values), inside) - self.mean, dtype=np.float64)

    def fitted_to(self, matrix: Floats, weight: Floats) -> Card:
        """Return the card with the means of these rows, under weights."""
        share = self.rows(matrix) + self.mean
        total = weight.sum()
        return replace(self, mean=weight @ share / total if total else np.zeros(len(self)))

    def terms(self, matrix: Floats) -> Floats:
        """Return what each column adds: float64[n, p]."""
        terms = np.zeros(matrix.shape)
        for at, added in zip(self.column.tolist(), (self.rows(matrix) * self.weight).T, strict=True):
            terms[:, at] += added
        return terms

    def check(self, columns: int) -> None:
        """Raise ValueError for conditions on columns that are not there, or for no numbers."""
        parts = [self.at_least, self.below, self.missing, self.weight, self.mean]
        fits = all(part.shape == self.column.shape for part in parts)
        inside = ((self.column >= 0) & (self.column < columns)).all()
        if not fits or not inside or not np.isfinite([self.weight, self.mean]).all():
            msg = f"expected a scorecard with finite weights on {columns} columns"
            raise ValueError(msg)

    def to_json(self) -> dict[str, list[Any]]:
        """Return it as plain data; no bound is None."""
        return {
            "column": self.column.tolist(),
            "at_least": [None if bound == -np.inf else bound for bound in self.at_least.tolist()],
            "below": [None if bound == np.inf else bound for bound in self.below.tolist()],
            "missing": self.missing.tolist(),
            "weight": self.weight.tolist(),
            "mean": self.mean.tolist(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Card | None:
        """Return what `to_json` described."""
        if data is None:
            return None
        return cls(
            column=np.array(data["column"], dtype=np.int64),
            at_least=np.array([-np.inf if x is None else x for x in data["at_least"]], dtype=np.float64),
            below=np.array([np.inf if x is None else x for x in data["below"]], dtype=np.float64),
            missing=np.array(data["missing"], dtype=np.bool_),
            weight=np.array(data["weight"], dtype=np.float64),
            mean=np.array(data["mean"], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class Trees:
    """LightGBM's trees, as text; a NaN goes the way the trees learned."""

    text: str = field(repr=False)

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """Return LightGBM's own form, made when first needed."""
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    @cached_property
    def forest(self) -> Forest:
        """Return the trees as checked arrays, made when first needed; raise ValueError for damaged ones."""
        return read_forest(self.text)

    def score(self, matrix: Floats) -> Floats:
        """Return the sum of the leaves reached: float64[n], equal to the bit to LightGBM's own."""
        if self.forest.most_leaves > MOST_LEAVES:
            return np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=1), dtype=np.float64)
        from models.contributions import sums_of_leaves

        return sums_of_leaves(self.forest, matrix)

    def terms(self, matrix: Floats) -> tuple[Floats, float]:
        """Return exact Shapley values by LightGBM's path-dependent rule, and the score of the average row."""
        from models.contributions import shapley_values

        return shapley_values(self.forest, matrix), self.forest.average


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearParts:
    """What a linear part gives to n rows: terms by column, float64[n, columns], see `Linear`.

    `due` are the terms that fall due, and how fast; `aged` is what age adds to the hazards. Never changed.
    """

    lasting: Floats
    early: Floats
    due: tuple[Floats, Floats] | None
    aged: Floats | None


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """A scorecard, a linear part and trees, added up; without any, the base rate."""

    card: Card | None = None
    linear: Linear | None = None
    trees: Trees | None = None

    def parts(self, matrix: Floats) -> LinearParts | None:
        """Return what the linear part gives to encoded rows, for effects and contributions alike."""
        if self.linear is None:
            return None
        lasting, early = self.linear.terms(matrix)
        return LinearParts(
            lasting=lasting,
            early=early,
            due=self.linear.due_terms(matrix),
            aged=None if self.ageing is None else self.ageing.on_hazards(matrix),
        )

    def effects(self, matrix: Floats, parts: LinearParts | None = None) -> Effects:
        """Return the effects of each encoded row; `parts` are those of the rows, where they are known."""
        if len(matrix) <= ROWS_IN_CACHE:
            return self._effects(matrix, parts or self.parts(matrix))
        some = (matrix[rows] for rows in parts_of_rows(len(matrix)))
        return _one_after_another([self._effects(each, self.parts(each)) for each in some])

    def _effects(self, matrix: Floats, parts: LinearParts | None) -> Effects:
        lasting, early = np.zeros(len(matrix)), np.zeros(len(matrix))
        if parts is not None:
            lasting, early = parts.lasting.sum(axis=1), parts.early.sum(axis=1)
        if self.card is not None:
            lasting = lasting + (self.card.rows(matrix) * self.card.weight).sum(axis=1)
        if self.trees is not None:
            lasting = lasting + self.trees.score(matrix)
        aged = None if parts is None else parts.aged
        found = None if parts is None else parts.due
        if found is None:
            return Effects(lasting=lasting, early=early, aged=aged)
        return Effects(lasting=lasting, early=early, due=found[0].sum(axis=1), falls=found[1], aged=aged)

    @property
    def ageing(self) -> Ageing | None:
        """Return what age adds, where it was fitted."""
        return None if self.linear is None else self.linear.ageing

    def contributions(self, matrix: Floats, parts: LinearParts | None = None) -> Contributions:
        """Return the effects taken apart by column; `parts` are those of the rows, where they are known."""
        lasting, early = np.zeros(matrix.shape), np.zeros(matrix.shape)
        average = 0.0
        parts = parts or self.parts(matrix)
        if parts is not None:
            lasting, early = parts.lasting, parts.early
        if self.card is not None:
            lasting = lasting + self.card.terms(matrix)
        if self.trees is not None:
            terms, average = self.trees.terms(matrix)
            lasting = lasting + terms
        due, falls = (None if parts is None else parts.due) or (None, None)
        return Contributions(
            lasting=lasting,
            early=early,
            average_lasting=average,
            average_early=0.0,
            due=due,
            falls=falls,
            aged=None if parts is None else parts.aged,
            aged_by=0 if self.ageing is None else self.ageing.steps.column,
        )

    def check(self, columns: int) -> None:
        """Raise ValueError for parts that do not fit a matrix of so many columns, or for no numbers."""
        if self.card is not None:
            self.card.check(columns)
        if self.linear is not None:
            nothing = np.full((1, columns), np.nan)
            terms = (*self.linear.terms(nothing), *(self.linear.due_terms(nothing) or ()))
            if self.ageing is not None:
                terms = (*terms, self.ageing.on_hazards(nothing))
            if not all(np.isfinite(part).all() for part in terms):
                msg = "expected finite weights"
                raise ValueError(msg)
        if self.trees is not None and self.trees.forest.columns != columns:
            msg = f"expected trees on {columns} columns, got {self.trees.forest.columns}"
            raise ValueError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "card": None if self.card is None else self.card.to_json(),
            "linear": None if self.linear is None else self.linear.to_json(),
            "trees": None if self.trees is None else self.trees.text,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Estimator:
        """Return what `to_json` described."""
        linear, trees = data["linear"], data["trees"]
        return cls(
            card=Card.from_json(data["card"]),
            linear=None if linear is None else Linear.from_json(linear),
            trees=None if trees is None else Trees(text=str(trees)),
        )
