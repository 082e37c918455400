"""Differences between shares within strata: what went with what among those who were alike before.

The difference is the Mantel-Haenszel one: within each stratum the share of those with minus the share of
those without, weighed by how much the stratum can tell. Its error is taken from how the strata (or clusters
of rows, such as the rows of one record) disagree, so that rows of one record count as no more than they are.
Source: Greenland and Robins, Estimation of a common effect parameter from sparse follow-up data, 1985.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How often it happened with and without, of how many, and the difference within strata, with interval.

    `with_share` and `without_share` are those of the rows as they are, weighed alike in both: the shares of
    strata taken with the same weights, so that their difference is `difference`. All in [0, 1], or [-1, 1].
    """

    with_count: int
    without_count: int
    with_happened: int
    without_happened: int
    with_share: float
    without_share: float
    difference: float
    low: float
    high: float

    @property
    def tells(self) -> bool:
        """Tell whether the interval leaves out that there is no difference."""
        return self.low > 0 or self.high < 0


def z_of(tests: int, level: float = 0.05) -> float:
    """Return how many standard errors an interval reaches when so many questions are asked of the data."""
    return NormalDist().inv_cdf(1 - level / (2 * max(tests, 1)))


def difference(stratum: Ints, cluster: Ints, treated: Flags, happened: Flags, *, z: float) -> Difference:
    """Return the difference of shares between treated and other rows within strata.

    Parameters
    ----------
    stratum, cluster : int64[n]
        What is compared within, and which rows belong together; none of their values means anything.
    treated, happened : bool[n]
        Who had it, and to whom it happened; there is no missing value.
    z : float
        Standard errors to each side of the interval, see `z_of`.

    Returns
    -------
    Difference
        Zero with an interval of [-1, 1] where no stratum has rows of both kinds.
    """
    code = np.unique(stratum, return_inverse=True)[1]
    one, zero = treated.astype(float), (~treated).astype(float)
    with_n, without_n = _sums(code, one), _sums(code, zero)
    hits, others = _sums(code, one * happened), _sums(code, zero * happened)
    counts: dict[str, Any] = {
        "with_count": int(treated.sum()),
        "without_count": int((~treated).sum()),
        "with_happened": int((treated & happened).sum()),
        "without_happened": int((~treated & happened).sum()),
    }
    weight = with_n * without_n / np.maximum(with_n + without_n, 1)
    total = float(weight.sum())
    if total == 0:
        return Difference(**counts, with_share=0.0, without_share=0.0, difference=0.0, low=-1.0, high=1.0)
    with_rate, without_rate = hits / np.maximum(with_n, 1), others / np.maximum(without_n, 1)
    with_share = float((weight * with_rate).sum() / total)
    without_share = float((weight * without_rate).sum() / total)
    pull = np.where(
        treated,
        (happened - with_rate[code]) * (weight / np.maximum(with_n, 1))[code],
        -(happened - without_rate[code]) * (weight / np.maximum(without_n, 1))[code],
    )
    error, freedom = _error(cluster, pull, weight, with_rate - without_rate)
    reach = reach_of(z, freedom) * error / total
    found = with_share - without_share
    low, high = max(-1.0, found - reach), min(1.0, found + reach)
    return Difference(
        **counts,
        with_share=with_share,
        without_share=without_share,
        difference=found,
        low=low,
        high=high,
    )


def _error(cluster: Ints, pull: Floats, weight: Floats, apart: Floats) -> tuple[float, int]:
    """Return the standard error of the weighted sum, and its degrees of freedom: clusters are independent.

    Rows of a cluster may be alike, but are not taken to be less alike than by chance. Strata of a few rows
    tell little of their own shares, so the disagreement between strata counts where it is the greater.
    """
    clusters = np.unique(cluster[pull != 0], return_inverse=True)[1]
    within = _sums(clusters, pull[pull != 0])
    many = within.size / max(within.size - 1, 1)
    rows = max(float((within**2).sum()) * many, float((pull**2).sum()))
    middle = float((weight * apart).sum() / weight.sum())
    between = float(((weight * (apart - middle)) ** 2).sum())
    telling = int((weight > 0).sum())
    # With few strata their disagreement is a guess itself, and that of the rows is the better one.
    strata = between * telling / (telling - 1) if telling > 10 else 0.0
    return float(np.sqrt(max(rows, strata))), max(within.size - 1, 1)


def reach_of(z: float, freedom: int) -> float:
    """Return the quantile of Student's t that is as unlikely as one of the normal, by Wallace's formula.

    Source: Wallace, Bounds on normal approximations to Student's and the chi-square distributions, 1959.
    """
    turned = z * (8 * freedom + 3) / (8 * freedom + 1)
    return float(np.sqrt(freedom * np.expm1(min(turned**2 / freedom, 60.0))))


def _sums(code: Ints, values: Floats) -> Floats:
    return np.bincount(code, weights=values).astype(np.float64)
