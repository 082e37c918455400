"""What a figure of few cases leaves open: 95 % intervals of shares, means and medians."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_Z: Final = 1.959964
_T: Final = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
"""The 97.5 % quantile of Student's t, from one degree of freedom on."""

_ANYWHERE: Final = (-math.inf, math.inf)


def of_share(count: int, of: int) -> tuple[float, float]:
    """Return Wilson's interval of a share, in [0, 1]; all of it of nothing. Source: E. B. Wilson (1927)."""
    if not of:
        return 0.0, 1.0
    share = count / of
    middle = (count + _Z**2 / 2) / (of + _Z**2)
    half = _Z * math.sqrt(share * (1 - share) * of + _Z**2 / 4) / (of + _Z**2)
    return max(0.0, middle - half), min(1.0, middle + half)


def of_mean(
    values: Floats, within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float] | None:
    """Return Student's interval of a mean, as far as it lies `within`; None of fewer than two values."""
    if values.size < 2:
        return None
    freedom = values.size - 1
    times = _T[freedom - 1] if freedom <= len(_T) else _Z + 2.5 / freedom
    half = times * float(values.std(ddof=1)) / math.sqrt(values.size)
    middle = float(values.mean())
    return max(within[0], middle - half), min(within[1], middle + half)


def of_median(values: Floats) -> tuple[float, float] | None:
    """Return the interval of a median between two of the values; None of fewer than six.

    Source: the binomial distribution of how many values lie below the median; of at most five, no two of them
    hold it with 95 %.
    """
    count = values.size
    if count < 6:
        return None
    rank = _lower_rank(count)
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[count - rank])


def _lower_rank(count: int) -> int:
    """Return the largest rank so that the values from it to its mirror hold the median with 95 %."""
    if count > 200:
        return max(1, math.floor((count + 1) / 2 - _Z * math.sqrt(count) / 2))
    below, rank = 0.0, 0
    while below + math.comb(count, rank) * 0.5**count <= 0.025:
        below += math.comb(count, rank) * 0.5**count
        rank += 1
    return max(1, rank)
