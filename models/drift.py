"""How far apart two samples are, and whether it is more than chance.

The measure is the population stability index: the sum over bins of (p - q) log(p / q), 0 for equal shares.
By convention 0.1 is worth a look and 0.25 a change; small samples reach either by chance alone, so the part
that chance explains is given beside it. A question that is asked every week about one deal is one piece of
evidence, so samples are as large as they have records, not rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation import Estimate
from models.hazard import Bools, Floats, Ints

BINS = 10
"""Bins of about equal share of the earlier sample; missing values have a bin of their own."""

_SEED = 7
_RESAMPLES = 400
_AT_ONCE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far one column has moved: `index` is the population stability index, `by_chance` its 99.9 % bound.

    `before` and `after` are the shares of each bin in `bins`, which names them.
    """

    index: float
    by_chance: float
    bins: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def beyond_chance(self) -> bool:
        """Return whether so much is rare in samples of the same kind."""
        return self.index > self.by_chance

    def largest(self) -> int:
        """Return the bin whose share moved most."""
        return int(np.argmax(np.abs(np.subtract(self.after, self.before))))


def shift_of_numbers(before: Floats, after: Floats, *, records: tuple[int, int]) -> Shift:
    """Return how far numbers have moved: float64[n] and float64[m], NaN for a missing one.

    `records` is how many records each sample is about. Bins are cut where the earlier sample has its tenths.
    """
    known = before[np.isfinite(before)]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if known.size else np.empty(0)
    names = (*_ranges(cuts), "missing")
    counts = [_count_numbers(sample, cuts) for sample in (before, after)]
    return _shift(names, counts[0], counts[1], records)


def shift_of_words(before: Sequence[Any], after: Sequence[Any], *, records: tuple[int, int]) -> Shift:
    """Return how far a category has moved; None is a level of its own, rare levels are counted together."""
    words = [
        np.array(["missing" if value is None else str(value) for value in part]) for part in (before, after)
    ]
    levels, count = np.unique(words[0], return_counts=True)
    order = np.argsort(-count, kind="stable")
    kept = sorted(levels[order[: BINS - 1]].tolist())
    names = (*kept, "other")
    counts = [
        np.array([*[(part == name).sum() for name in kept], (~np.isin(part, kept)).sum()]) for part in words
    ]
    return _shift(names, counts[0], counts[1], records)


def ratio_by_entity(observed: Floats, expected: Floats, entity: Ints, *, coverage: float = 0.95) -> Estimate:
    """Return sum(observed) / sum(expected), float64[n] each, with an interval from drawing entities again.

    NaN where nothing was expected.
    """
    _, index = np.unique(entity, return_inverse=True)
    count = int(index.max()) + 1 if index.size else 0
    above, below = (_sums(index, part, count) for part in (observed, expected))
    if below.sum() <= 0:
        return Estimate(value=np.nan, low=np.nan, high=np.nan)
    drawn = _draw_ratios(above, below)
    low, high = np.quantile(drawn, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Estimate(value=float(above.sum() / below.sum()), low=float(low), high=float(high))


def _sums(index: npt.NDArray[np.intp], values: Floats, count: int) -> Floats:
    return np.bincount(index, weights=values, minlength=count).astype(np.float64)


def _draw_ratios(above: Floats, below: Floats) -> Floats:
    random = np.random.default_rng(_SEED)
    count = len(above)
    drawn: list[Floats] = []
    block = max(1, _AT_ONCE // count)
    for start in range(0, _RESAMPLES, block):
        rows = min(block, _RESAMPLES - start)
        times = random.multinomial(count, np.full(count, 1 / count), size=rows)
        drawn.append((times @ above) / np.maximum(times @ below, 1e-12))
    return np.concatenate(drawn)


def _count_numbers(sample: Floats, cuts: Floats) -> Ints:
    known = np.isfinite(sample)
    inside = np.bincount(np.searchsorted(cuts, sample[known], side="left"), minlength=len(cuts) + 1)
    return np.append(inside, (~known).sum()).astype(np.int64)


def _ranges(cuts: Floats) -> tuple[str, ...]:
    if not len(cuts):
        return ("any",)
    told = [f"{cut:.4g}" for cut in cuts]
    between = [f"{low} to {high}" for low, high in pairwise(told)]
    return (f"up to {told[0]}", *between, f"above {told[-1]}")


def _shift(names: tuple[str, ...], before: Ints, after: Ints, records: tuple[int, int]) -> Shift:
    """Return the shift of counts; every bin gets half a record, so that an empty one is no certainty."""
    seen: Bools = (before > 0) | (after > 0)
    shares = []
    for count, size in zip((before, after), records, strict=True):
        scaled = count / max(count.sum(), 1) * size + 0.5 * seen
        shares.append(scaled / max(scaled.sum(), 1e-12))
    p, q = shares
    part: npt.NDArray[np.float64] = np.zeros(len(names))
    np.multiply(q - p, np.log(np.where(seen, q, 1.0) / np.where(seen, p, 1.0)), out=part, where=seen)
    noise = (1 / max(records[0], 1) + 1 / max(records[1], 1)) * _bound(int(seen.sum()) - 1)
    return Shift(
        index=float(part.sum()),
        by_chance=noise,
        bins=tuple(name for name, kept in zip(names, seen, strict=True) if kept),
        before=tuple(round(float(share), 6) for share in p[seen]),
        after=tuple(round(float(share), 6) for share in q[seen]),
    )


def _bound(freedom: int) -> float:
    """Return the 99.9 % quantile of chi-squared (Wilson and Hilferty), which the scaled index follows."""
    if freedom < 1:
        return 0.0
    nine = 2 / (9 * freedom)
    return float(freedom * (1 - nine + NormalDist().inv_cdf(0.999) * nine**0.5) ** 3)
