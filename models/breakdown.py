"""How right probabilities were in each period and each segment, and two models side by side in each.

A period is when the question was asked, a segment what was known of the record then. Where too few records
came to the outcome, or too few did not, that is said instead of a figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.encoding import is_missing
from models.evaluation import (
    Estimate,
    Judged,
    auc_of,
    estimate_of,
    loss_of,
    ratio,
    resampled_sums_by,
)
from models.hazard import Bools, Floats, Ints

if TYPE_CHECKING:
    from models.questions import Questions

PERIOD = "period"
"""The field whose levels are months, quarters or years of asking."""

OTHER, NOT_GIVEN = "(other)", "(not given)"
"""Levels that are no value of a field."""

MOST_LEVELS = 8
"""Levels of a field that are told apart; the rarer ones are OTHER."""

FEWEST_RECORDS = 10
"""Distinct records with the outcome, and without it, below which a part has no figures."""

_RESAMPLES = 100

_FIELDS: Mapping[str, Mapping[str, str]] = {
    "lead": {"source": "source", "region": "region", "size": "employees"},
    "deal": {
        "source": "source",
        "region": "account_region",
        "size": "account_employees",
        "stage": "stage",
        "amount": "amount",
        "team": "owner_team",
    },
    "account": {"region": "region", "size": "employees", "industry": "industry"},
}
"""Segments by record type: what they are called, and the feature that tells them."""

_BANDS: Mapping[str, tuple[float, ...]] = {
    "size": (10, 50, 250, 1000),
    "amount": (1e3, 1e4, 1e5, 1e6),
}
"""Numbers that are cut into bands, each from one limit up to the next."""

Labels = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Questions of one level of a field: how many, about how many records, and how right each answer was.

    `outcomes` are questions that came true, `records_with_outcome` the records that these were about.

    `metrics` has by name of who spoke the log loss and AUC, and of the model also what it said, what came
    and the gap (what came less what was said, above 0 too low); None where there were too few outcomes.
    """

    field: str
    level: str
    questions: int
    records: int
    outcomes: int
    records_with_outcome: int
    metrics: Mapping[str, Mapping[str, Estimate]] | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        told = self.metrics
        return {
            "field": self.field,
            "level": self.level,
            "questions": self.questions,
            "records": self.records,
            "outcomes": self.outcomes,
            "records_with_outcome": self.records_with_outcome,
            "metrics": None if told is None else {name: _json_of(found) for name, found in told.items()},
        }


def parts_of(questions: Questions, taught: Ints) -> dict[str, Labels]:
    """Return the levels of every field that tells questions apart, object[n] of str, by the field.

    `taught` (int64[m]) are the accounts that the model learned from: all others are new. A field with one
    level only is left out, but for the period.
    """
    found = {PERIOD: periods_of(questions.as_of)}
    known = np.isin(questions.account, taught)
    fields = dict(_segments(questions)) | {"account": np.where(known, "known", "new").astype(object)}
    return found | {name: labels for name, labels in fields.items() if len(set(labels.tolist())) > 1}


def periods_of(as_of: Ints) -> Labels:
    """Return the month of each instant, or its quarter or year where there are more than MOST_LEVELS."""
    months = as_of.astype("datetime64[us]").astype("datetime64[M]")
    distinct, place = np.unique(months, return_inverse=True)
    month = (distinct.astype(np.int64) % 12).tolist()
    year = np.datetime_as_string(distinct, unit="Y").tolist()
    quarters = [f"{name}-Q{number // 3 + 1}" for name, number in zip(year, month, strict=True)]
    named = (np.datetime_as_string(distinct).tolist(), quarters, year)
    fitting = (names for names in named if len(set(names)) <= MOST_LEVELS)
    return np.array(next(fitting, year), dtype=np.object_)[place]


def _segments(questions: Questions) -> Iterator[tuple[str, Labels]]:
    for name, feature in _FIELDS[questions.task.record_type].items():
        if feature in questions.frame.columns:
            values = questions.frame[feature].to_numpy()
            yield name, _in_bands(values, _BANDS[name]) if name in _BANDS else _commonest(values)


def _commonest(values: npt.NDArray[Any]) -> Labels:
    words = [NOT_GIVEN if is_missing(value) else str(value) for value in values.tolist()]
    counted = Counter(words)
    kept = set(counted)
    if len(kept) > MOST_LEVELS:
        by_size = sorted(counted, key=lambda word: (-counted[word], word))
        kept = set(by_size[: MOST_LEVELS - 1])
    return np.array([word if word in kept else OTHER for word in words], dtype=object)


def _in_bands(values: npt.NDArray[Any], limits: Sequence[float]) -> Labels:
    numbers = values.astype(np.float64)
    inner = [f"{low:,.0f}-{high - 1:,.0f}" for low, high in zip((0, *limits[:-1]), limits, strict=True)]
    names = np.array([*inner, f"{limits[-1]:,.0f}+", NOT_GIVEN], dtype=object)
    place = np.searchsorted(np.asarray(limits), numbers, side="right")
    return names[np.where(np.isnan(numbers), len(names) - 1, place)]


def judge_parts(said: Mapping[str, Floats], judged: Judged, labels: Mapping[str, Labels]) -> tuple[Part, ...]:
    """Return how right each of `said` was in every part; fields in their order, levels by their names.

    `said` has probabilities by name, float64[n], "model" among them; NaN where somebody said nothing.
    """
    return tuple(part for field in labels for part in _parts_of_field(field, said, judged, labels[field]))


def _parts_of_field(field: str, said: Mapping[str, Floats], judged: Judged, labels: Labels) -> Iterator[Part]:
    levels = _levels(labels)
    place = _places(labels, levels)
    figures = _figures(said, judged, place, len(levels))
    for number, level in enumerate(levels):
        rows = place == number
        inside = judged.take(rows)
        told = None
        if has_enough(inside):
            told = {
                name: _told(name, figures[name][number], values[rows], inside)
                for name, values in said.items()
            }
        yield Part(
            field=field,
            level=level,
            questions=len(inside),
            records=len(np.unique(inside.records)),
            outcomes=int(inside.happened.sum()),
            records_with_outcome=len(np.unique(inside.records[inside.happened])),
            metrics=told,
        )


def _places(labels: Labels, levels: Sequence[str]) -> Ints:
    """Return the position of each label among the levels."""
    at = {level: number for number, level in enumerate(levels)}
    return np.array([at[label] for label in labels.tolist()], dtype=np.int64)


def _levels(labels: Labels) -> list[str]:
    """Return the levels in order: dates and bands by what they begin with, what is no value last."""
    return sorted(
        set(labels.tolist()), key=lambda level: (level in {OTHER, NOT_GIVEN}, _begins(level), level)
    )


def _begins(level: str) -> float:
    digits = level.replace(",", "").partition("-")[0].rstrip("+")
    return float(digits) if digits.isdecimal() else -1.0


def _figures(
    said: Mapping[str, Floats], judged: Judged, place: Ints, levels: int
) -> dict[str, list[dict[str, Estimate]]]:
    """Return what is a ratio of sums, by name and level."""
    happened = judged.happened.astype(np.float64)
    columns = [part for values in said.values() for part in _columns(values, judged.happened, happened)]
    drawn = resampled_sums_by(np.stack(columns, axis=1), judged.entity, place, levels, resamples=_RESAMPLES)
    by_name = np.split(drawn, len(said), axis=2)
    return {
        name: [_estimates(found[:, number]) for number in range(levels)]
        for name, found in zip(said, by_name, strict=True)
    }


def _columns(values: Floats, answer: Bools, happened: Floats) -> tuple[Floats, ...]:
    """Return a one, what was said, what came and the loss, all 0 where nothing was said."""
    known = ~np.isnan(values)
    told = np.where(known, values, 0.5)
    return known.astype(np.float64), told * known, happened * known, loss_of(told, answer) * known


def _estimates(drawn: Floats) -> dict[str, Estimate]:
    said, came, loss = (ratio(drawn[:, column], drawn[:, 0]) for column in (1, 2, 3))
    return {
        "mean_probability": estimate_of(said),
        "base_rate": estimate_of(came),
        "gap": estimate_of(came - said),
        "log_loss": estimate_of(loss),
    }


def has_enough(judged: Judged) -> bool:
    """Tell whether enough records have the outcome, and enough have not, for figures."""
    happened = np.unique(judged.records[judged.happened])
    others = np.setdiff1d(judged.records, happened)
    return min(len(happened), len(others)) >= FEWEST_RECORDS


def _told(name: str, figures: Mapping[str, Estimate], values: Floats, judged: Judged) -> dict[str, Estimate]:
    known = ~np.isnan(values)
    area = {"auc": auc_of(values[known], judged.take(known), resamples=_RESAMPLES)} if known.any() else {}
    return area | (dict(figures) if name == "model" else {"log_loss": figures["log_loss"]})


@dataclass(frozen=True, kw_only=True)
class SegmentComparison:
    """Two models on one level of a field, on the same questions and the same draws.

    `gain` is the champion's log loss less the challenger's, above 0 the challenger is better.
    `champion_gap` and `challenger_gap` are what came less what was said; `gap_growth` is how much further
    from 0 the challenger's is, below 0 it is nearer. All are None where there were too few outcomes.
    """

    field: str
    level: str
    questions: int
    records: int
    outcomes: int
    gain: Estimate | None
    champion_gap: Estimate | None
    challenger_gap: Estimate | None
    gap_growth: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            name: value.to_json() if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
        }


def compare_on_segments(
    champion_probability: Floats,
    challenger_probability: Floats,
    judged: Judged,
    segments: Mapping[str, Labels],
) -> tuple[SegmentComparison, ...]:
    """Compare two models in every segment; probabilities float64[n], segments as of `parts_of`.

    Entities are drawn once for both models, so that the intervals are those of the differences.
    """
    happened = judged.happened.astype(np.float64)
    both = (champion_probability, challenger_probability)
    losses = [loss_of(said, judged.happened) for said in both]
    columns = np.stack(
        [np.ones(len(judged)), losses[0] - losses[1], *(happened - said for said in both)], axis=1
    )
    return tuple(
        compared
        for field, labels in segments.items()
        for compared in _compare_field(field, columns, judged, labels)
    )


def _compare_field(
    field: str, columns: Floats, judged: Judged, labels: Labels
) -> Iterator[SegmentComparison]:
    levels = _levels(labels)
    place = _places(labels, levels)
    drawn = resampled_sums_by(columns, judged.entity, place, len(levels))
    for number, level in enumerate(levels):
        sums = drawn[:, number]
        means = ratio(sums[:, 1:], np.broadcast_to(sums[:, :1], sums[:, 1:].shape))
        yield _compared(field, level, judged.take(place == number), means)


def _compared(field: str, level: str, judged: Judged, means: Floats) -> SegmentComparison:
    enough = has_enough(judged)
    gain, champion, challenger = (estimate_of(means[:, column]) if enough else None for column in range(3))
    growth = np.abs(means[:, 2]) - np.abs(means[:, 1])
    return SegmentComparison(
        field=field,
        level=level,
        questions=len(judged),
        records=len(np.unique(judged.records)),
        outcomes=int(judged.happened.sum()),
        gain=gain,
        champion_gap=champion,
        challenger_gap=challenger,
        gap_growth=estimate_of(growth) if enough else None,
    )


def _json_of(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: found.to_json() for name, found in metrics.items()}
