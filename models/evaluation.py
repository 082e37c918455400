"""How right probabilities were, with the error of saying so.

Every figure comes with an interval: the questions are drawn again, a whole entity at a time, because what
one customer is asked twelve times is not twelve independent answers. Every judged question counts once.
The same entities are drawn in the same order whatever is measured, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.hazard import Bools, Floats, Ints

RESAMPLES = 200
"""Enough for 95 % intervals whose ends move by a few per cent of their width."""

BINS = 10
"""Bins of about equal count in the calibration error and the parts of the Brier score; ties share a bin."""

_SEED = 20
_TINY = 1e-15
_CELLS_AT_ONCE = 250_000
"""Weights of one block, so that it stays in the cache."""
_COUNTS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval; NaN where it is not defined, as an AUC without both answers."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return the three numbers; NaN as None."""
        return {
            name: None if np.isnan(number) else round(float(number), 6)
            for name, number in (("value", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Questions with their answers.

    `happened` bool[n]; `entity` int64[n], the unit that is drawn again; `record` int64[n], what was asked
    about, where that is not the entity itself: an account has several deals.
    """

    happened: Bools
    entity: Ints
    record: Ints | None = None

    def __len__(self) -> int:
        """Return how many questions there are."""
        return len(self.happened)

    @property
    def records(self) -> Ints:
        """Return what was asked about: int64[n]."""
        return self.entity if self.record is None else self.record

    def take(self, rows: Bools | Ints) -> Judged:
        """Return some of the questions."""
        return Judged(happened=self.happened[rows], entity=self.entity[rows], record=self.records[rows])


@dataclass(frozen=True)
class _Ranked:
    """Answers by falling probability; `ends` are the last positions of each run of equal ones."""

    probability: Floats
    happened: Floats
    ends: npt.NDArray[np.intp]

    @cached_property
    def log_odds(self) -> Floats:
        """Return the log-odds of the probabilities, within one in a million of 0 and 1."""
        held = np.clip(self.probability, 1e-6, 1 - 1e-6)
        return np.log(held / (1 - held))

    @cached_property
    def bins(self) -> npt.NDArray[np.intp]:
        """Return the first position of each bin; a run of equal probabilities is never divided."""
        return _bin_starts(len(self.happened), self.ends)

    @cached_property
    def recalibration(self) -> tuple[Floats, Floats]:
        """Return intercept and slope for all rows alike; NaN where all said the same."""
        if np.ptp(self.log_odds) < _TINY:
            return np.full(1, np.nan), np.full(1, np.nan)
        # From the base rate: from where a bad forecaster says things, a step may leap to where nothing moves.
        mean = np.clip(self.happened.mean(), 1e-6, 1 - 1e-6)
        point = np.full(1, np.log(mean / (1 - mean))), np.zeros(1)
        for _ in range(25):
            point = _newton_step(*point, self.log_odds, self.happened, np.ones((1, len(self.happened))))
        return point

    def counts(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return cumulated weight of events and of others at the end of each run: float64[R, runs]."""
        happened = np.cumsum(weight * self.happened, axis=1)[:, self.ends]
        return happened, np.cumsum(weight, axis=1)[:, self.ends] - happened


Metric = Callable[[_Ranked, Floats], Floats]
"""Takes weights float64[R, n] and gives float64[R]."""


def auc(ranked: _Ranked, weight: Floats) -> Floats:
    """Area under the ROC curve, in [0, 1], higher is better; ties count half. As roc_auc_score of sklearn."""
    events, others = ranked.counts(weight)
    step = np.diff(others, axis=1, prepend=0.0)
    before = np.concatenate([np.zeros((len(weight), 1)), events[:, :-1]], axis=1)
    area = (step * (before + events) / 2).sum(axis=1)
    return ratio(area, events[:, -1] * others[:, -1])


def average_precision(ranked: _Ranked, weight: Floats) -> Floats:
    """Average precision, in [0, 1], higher is better. As sklearn.metrics.average_precision_score."""
    events, others = ranked.counts(weight)
    precision = ratio(events, events + others, empty=0.0)
    return ratio((precision * np.diff(events, axis=1, prepend=0.0)).sum(axis=1), events[:, -1])


def log_loss(ranked: _Ranked, weight: Floats) -> Floats:
    """Mean negative log-likelihood, from 0, lower is better. As sklearn.metrics.log_loss."""
    held = np.clip(ranked.probability, _TINY, 1 - _TINY)
    return _mean(-np.log(np.where(ranked.happened > 0, held, 1 - held)), weight)


def brier(ranked: _Ranked, weight: Floats) -> Floats:
    """Mean squared error of the probability, in [0, 1], lower is better. As brier_score_loss of sklearn."""
    return _mean((ranked.probability - ranked.happened) ** 2, weight)


def calibration_error(ranked: _Ranked, weight: Floats) -> Floats:
    """Mean distance of what was said and what came over BINS bins of equal count; lower is better."""
    gap = np.add.reduceat(weight * (ranked.happened - ranked.probability), ranked.bins, axis=1)
    return ratio(np.abs(gap).sum(axis=1), weight.sum(axis=1))


def brier_parts(ranked: _Ranked, weight: Floats) -> dict[str, Floats]:
    """Reliability, resolution and uncertainty: Brier = reliability - resolution + uncertainty, exactly.

    Reliability (lower is better) is the mean squared distance of said and came over BINS bins of equal
    count, uncertainty the Brier score of the base rate. Resolution (higher is better) is how far the bins
    lie apart, with what is told apart within bins (Stephenson, Coelho and Jolliffe 2008), without which the
    parts of a continuous probability would not add up.
    """
    said, came = ranked.probability, ranked.happened
    size, happened, expected = (
        np.add.reduceat(weight * part, ranked.bins, axis=1) for part in (np.ones_like(said), came, said)
    )
    share, mean = ratio(happened, size, empty=0.0), ratio(expected, size, empty=0.0)
    total = weight.sum(axis=1)
    overall = ratio(happened.sum(axis=1), total)
    between = (size * (share - overall[:, None]) ** 2).sum(axis=1)
    varies = weight @ said**2 - (expected * mean).sum(axis=1)
    together = weight @ (said * came) - (happened * mean).sum(axis=1)
    return {
        "brier_reliability": ratio((size * (mean - share) ** 2).sum(axis=1), total),
        "brier_resolution": ratio(between - varies + 2 * together, total),
        "brier_uncertainty": overall * (1 - overall),
    }


def recalibration(ranked: _Ranked, weight: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope of a logistic regression of the answers on the log-odds said (Cox).

    0 and 1 are right; a slope below 1 says that what was said is too extreme; NaN where one thing was said
    of all. Solved for all rows alike, then by two steps from there for each row of weights.
    """
    said, point = ranked.log_odds, ranked.recalibration
    for _ in range(2):
        point = _newton_step(*point, said, ranked.happened, weight)
    return point


def _newton_step(
    intercept: Floats, slope: Floats, said: Floats, happened: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Return the next intercept and slope for each row of weights, damped where the answers hardly vary."""
    chance = 0.5 * (1 + np.tanh(0.5 * (intercept[:, None] + slope[:, None] * said)))
    error = weight * (happened - chance)
    curve = weight * chance * (1 - chance)
    first, second = error.sum(axis=1), error @ said
    a, b, c = curve.sum(axis=1) + 1e-9, curve @ said, curve @ said**2 + 1e-9
    determinant = a * c - b * b
    solvable = determinant > 1e-9 * a * c
    safe = np.where(solvable, determinant, 1.0)
    step_intercept = np.where(solvable, (c * first - b * second) / safe, first / a)
    step_slope = np.where(solvable, (a * second - b * first) / safe, 0.0)
    return intercept + np.clip(step_intercept, -2, 2), slope + np.clip(step_slope, -2, 2)


def lift_top_decile(ranked: _Ranked, weight: Floats) -> Floats:
    """Events among the most likely tenth, as a multiple of those of a random tenth; ties are shared."""
    events, others = ranked.counts(weight)
    total = events + others
    caught = np.array(
        [
            np.interp(0.1 * upto[-1], np.append(0, upto), np.append(0, hits))
            for upto, hits in zip(total, events, strict=True)
        ]
    )
    return ratio(caught, 0.1 * events[:, -1])


def base_rate(ranked: _Ranked, weight: Floats) -> Floats:
    """Share of questions whose answer was yes."""
    return _mean(ranked.happened, weight)


def mean_probability(ranked: _Ranked, weight: Floats) -> Floats:
    """Mean of what was said; to be compared with the base rate."""
    return _mean(ranked.probability, weight)


METRICS: Mapping[str, Metric] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
    "lift_top_decile": lift_top_decile,
    "base_rate": base_rate,
    "mean_probability": mean_probability,
}
"""What takes one answer for each row of weights; `measure` adds what comes in several parts."""

MEASURED = (
    *METRICS,
    "calibration_intercept",
    "calibration_slope",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
)
"""Names of everything that `measure` gives."""


def measure(probability: Floats, judged: Judged, *, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Return every metric of `probability` (float64[n]) with its interval; without a row all are NaN.

    The names are those of MEASURED.
    """
    if len(judged) == 0:
        return {name: Estimate(value=np.nan, low=np.nan, high=np.nan) for name in MEASURED}
    order = np.argsort(-probability, kind="stable")
    ranked = _rank(probability[order], judged.happened[order].astype(np.float64))
    blocks = [_measure_block(ranked, weight) for weight in _draw_entities(judged.entity[order], resamples)]
    return {name: estimate_of(np.concatenate([block[name] for block in blocks])) for name in MEASURED}


def _measure_block(ranked: _Ranked, weight: Floats) -> dict[str, Floats]:
    values = {name: metric(ranked, weight) for name, metric in METRICS.items()}
    values["calibration_intercept"], values["calibration_slope"] = recalibration(ranked, weight)
    return values | brier_parts(ranked, weight)


def compare_losses(
    first: Floats, second: Floats, entity: Ints, *, weight: Floats | None = None, coverage: float = 0.95
) -> Estimate:
    """Return the mean of `first - second`, losses float64[n]; above 0 the second is better."""
    counted = np.ones(len(first)) if weight is None else weight
    drawn = resampled_sums(np.stack([counted * (first - second), counted], axis=1), entity)
    return estimate_of(ratio(drawn[:, 0], drawn[:, 1]), coverage)


def compare_calibration(first: Floats, second: Floats, judged: Judged, *, coverage: float = 0.95) -> Estimate:
    """Return the calibration error of `first` less that of `second`; above 0 the second is better."""
    return compare_metric(calibration_error, first, second, judged, coverage=coverage)


def compare_metric(
    metric: Metric, first: Floats, second: Floats, judged: Judged, *, coverage: float = 0.95
) -> Estimate:
    """Return a metric of `first` less that of `second`, probabilities float64[n] of the same questions.

    Entities are drawn once for both, so that the interval is that of the difference.
    """
    orders = [np.argsort(-said, kind="stable") for said in (first, second)]
    ranked = [
        _rank(said[order], judged.happened[order].astype(np.float64))
        for said, order in zip((first, second), orders, strict=True)
    ]
    drawn = [
        [metric(one, weight[:, order]) for one, order in zip(ranked, orders, strict=True)]
        for weight in _draw_entities(judged.entity, RESAMPLES)
    ]
    return estimate_of(np.concatenate([one - other for one, other in drawn]), coverage)


def loss_of(probability: Floats, happened: Bools) -> Floats:
    """Return the negative log-likelihood of each answer: float64[n]."""
    held = np.clip(probability, _TINY, 1 - _TINY)
    return np.asarray(-np.log(np.where(happened, held, 1 - held)), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Of `count` questions called `said` on average, `happened` came true.

    `give_or_take` is 1.96 times the error of that share, found by drawing entities again.
    """

    count: int
    said: float
    happened: float
    give_or_take: float


def calibration_bins(probability: Floats, judged: Judged) -> list[CalibrationBin]:
    """Return what was said and what came in bins of about equal count, from low to high; ties share one."""
    if not len(judged):
        return []
    order = np.argsort(probability, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    parts = np.split(order, _bin_starts(len(order), last)[1:])
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    columns = np.stack([judged.happened.astype(np.float64), np.ones(len(order))], axis=1)
    drawn = resampled_sums_by(columns, judged.entity, place, len(parts))
    spread = np.nanstd(ratio(drawn[1:, :, 0], drawn[1:, :, 1]), axis=0)
    return [
        CalibrationBin(
            count=part.size,
            said=float(probability[part].mean()),
            happened=float(judged.happened[part].mean()),
            give_or_take=float(1.96 * spread[number]),
        )
        for number, part in enumerate(parts)
    ]


def _bin_starts(count: int, ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return where bins of about equal count begin among sorted values, whose runs of ties end at `ends`."""
    begins = np.append(0, ends[:-1] + 1)
    wanted = np.linspace(0, count, BINS + 1)[:-1]
    return np.unique(begins[np.searchsorted(begins, wanted, side="right") - 1])


def _rank(probability: Floats, happened: Floats) -> _Ranked:
    last = np.append(np.flatnonzero(np.diff(probability)), len(probability) - 1)
    return _Ranked(probability, happened, last)


def _draw_entities(entity: Ints, resamples: int) -> Iterator[Floats]:
    """Give weights float64[R, n] in blocks: first all ones, then how often each row's entity was drawn."""
    _, index = np.unique(entity, return_inverse=True)
    yield np.ones((1, len(entity)))
    block = max(1, _CELLS_AT_ONCE // len(entity))
    for drawn in _draw_counts(int(index.max()) + 1, resamples, block):
        yield drawn[:, index]


def resampled_sums(columns: Floats, entity: Ints, *, resamples: int = RESAMPLES) -> Floats:
    """Return the sums of columns (float64[n, m]) over all rows and over rows of entities drawn again.

    float64[1 + resamples, m], the first row over all rows once. What is a ratio of sums is judged from here
    in one product of matrices, and always with the same draws for the same entities.
    """
    return resampled_sums_by(columns, entity, np.zeros(len(entity), dtype=np.int64), 1, resamples=resamples)[
        :, 0
    ]


def resampled_sums_by(
    columns: Floats, entity: Ints, group: Ints, groups: int, *, resamples: int = RESAMPLES
) -> Floats:
    """Return the same by group of rows (int64[n], below `groups`): float64[1 + resamples, groups, m]."""
    _, index = np.unique(entity, return_inverse=True)
    count = int(index.max()) + 1 if index.size else 0
    cell, size = index * groups + group, count * groups
    parts = [np.bincount(cell, weights=column, minlength=size).reshape(count, groups) for column in columns.T]
    sums = np.stack(parts, axis=2).reshape(count, -1)
    block = max(1, _COUNTS_AT_ONCE // max(count, 1))
    drawn = [sums.sum(axis=0)[None, :]]
    drawn += [times @ sums for times in _draw_counts(count, resamples, block)]
    return np.concatenate(drawn).reshape(-1, groups, columns.shape[1])


def _draw_counts(count: int, resamples: int, block: int) -> Iterator[Floats]:
    """Give how often each of `count` entities was drawn, float64[R, count], in blocks."""
    random = np.random.default_rng(_SEED)
    for start in range(0, resamples if count else 0, block):
        rows = min(block, resamples - start)
        yield random.multinomial(count, np.full(count, 1 / count), size=rows).astype(np.float64)


def estimate_of(values: Floats, coverage: float = 0.95) -> Estimate:
    """Return the first of `values` with the interval that its other ones, drawn again, span."""
    drawn = values[1:][np.isfinite(values[1:])]
    outside = (1 - coverage) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside]) if drawn.size else (np.nan, np.nan)
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


def _mean(values: Floats, weight: Floats) -> Floats:
    return ratio(weight @ values, weight.sum(axis=1))


def ratio(above: Floats, below: Floats, *, empty: float = np.nan) -> Floats:
    """Return above / below; `empty` where nothing is below."""
    filled: Floats = np.full(np.shape(above), empty)
    np.divide(above, below, out=filled, where=below > 0)
    return filled


def area_under_curve(score: Floats, happened: Bools) -> float:
    """Return the AUC of any score (float64[n]); NaN where only one answer is there."""
    order = np.argsort(-score, kind="stable")
    ranked = _rank(score[order], happened[order].astype(np.float64))
    return float(auc(ranked, np.ones((1, len(score))))[0])


def auc_of(probability: Floats, judged: Judged, *, resamples: int = RESAMPLES) -> Estimate:
    """Return the AUC alone, with its interval."""
    order = np.argsort(-probability, kind="stable")
    ranked = _rank(probability[order], judged.happened[order].astype(np.float64))
    drawn = [auc(ranked, weight) for weight in _draw_entities(judged.entity[order], resamples)]
    return estimate_of(np.concatenate(drawn))


def share_in_top(
    score: Floats, value: Floats, entity: Ints, *, share: float = 0.1, resamples: int = RESAMPLES
) -> Estimate:
    """Return how much of all `value` (float64[n], none below 0) the `share` of highest scores holds.

    In [0, 1], higher is better, `share` by chance; ties are shared. NaN where there is no value at all.
    """
    order = np.argsort(-score, kind="stable")
    ends = _rank(score[order], value[order]).ends
    drawn = []
    for weight in _draw_entities(entity[order], resamples):
        looked_at = np.cumsum(weight, axis=1)[:, ends]
        held = np.cumsum(weight * value[order], axis=1)[:, ends]
        caught = [
            np.interp(share * upto[-1], np.append(0, upto), np.append(0, hits))
            for upto, hits in zip(looked_at, held, strict=True)
        ]
        drawn.append(ratio(np.array(caught), held[:, -1]))
    return estimate_of(np.concatenate(drawn))


def found_by_working_down(probability: Floats, judged: Judged) -> tuple[float, ...]:
    """Return the share of events among the first 0, 5, ... 100 % by probability; ties are shared."""
    order = np.argsort(-probability, kind="stable")
    ranked = _rank(probability[order], judged.happened[order].astype(np.float64))
    events, others = ranked.counts(np.ones((1, len(probability))))
    looked_at = np.append(0.0, events[0] + others[0]) / len(probability)
    shares = np.append(0.0, events[0]) / max(events[0, -1], 1.0)
    return tuple(np.interp(np.linspace(0, 1, 21), looked_at, shares).tolist())


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Return Spearman's correlation, in [-1, 1]; ties have their mean rank; None where one never varies."""
    ranks = [_ranks(values) for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Floats) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], dtype=np.float64)
