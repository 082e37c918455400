"""Giving the credit for a deal to the touches before it: five models, in whole numbers.

Each model says how much each touch of a deal weighs, as whole numbers; what is to be given away (a deal, an
amount of money in its smallest units) is divided by the weights so that the parts add up to the whole
exactly, what is left over by rounding going to the touches with the largest remainders, earlier ones first.

- `first`, `last`: all of it to one touch.
- `linear`: the same to each.
- `decay`: half as much for every half-life that a touch lies further back.
- `position`: 40 % to the first, 40 % to the last, 20 % among those between; of two, half to each.

A touch is a step that somebody's records hold, and what touches a deal had says nothing of whether it would
have been won without them: credit is a way to divide, not a measure of effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from crm_core.clock import DAY
from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase

WHOLE: Final = 1_000_000
"""The parts that one deal is divided into."""

HALF_LIFE_DAYS: Final = 14
LONGEST_HALF_LIFE: Final = 365

_FINE: Final = 1 << 40
"""The weight of the touch that weighs most by decay."""


class Model(StrEnum):
    """How credit is given."""

    FIRST = "first"
    LAST = "last"
    LINEAR = "linear"
    DECAY = "decay"
    POSITION = "position"


def weigh(model: Model, at: Sequence[int], *, half_life_days: float = HALF_LIFE_DAYS) -> list[int]:
    """Return what each touch of one deal weighs.

    Parameters
    ----------
    model : Model
        How credit is given.
    at : sequence of int
        When the touches were, ascending, in microseconds; at least one.
    half_life_days : float
        Of decay only: days after which a touch weighs half.

    Returns
    -------
    list of int
        In the order of `at`; at least one is above zero.
    """
    count = len(at)
    if model is Model.FIRST:
        return [1, *([0] * (count - 1))]
    if model is Model.LAST:
        return [*([0] * (count - 1)), 1]
    if model is Model.DECAY:
        # From the last touch on: that of the deal's end would scale all of them alike.
        return [round(_FINE * 2.0 ** ((each - at[-1]) / (half_life_days * DAY))) for each in at]
    if model is Model.POSITION and count > 2:
        ends = 2 * (count - 2)
        return [ends, *([1] * (count - 2)), ends]
    return [1] * count


def divide(whole: int, weights: Sequence[int]) -> list[int]:
    """Return `whole` divided by weights into whole numbers that add up to it, by largest remainders.

    A negative whole is divided as its positive one. Raises InvalidValueError where no weight is above zero.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise InvalidValueError("weights", list(weights)[:10], "numbers of which one is above zero")
    if whole < 0:
        return [-part for part in divide(-whole, weights)]
    parts = [whole * weight // total for weight in weights]
    left = whole - sum(parts)
    if not left:
        return parts
    # Sorting is stable: of equal remainders, the earlier touch comes first.
    by_remainder = sorted(range(len(weights)), key=lambda at: -(whole * weights[at] % total))
    for at in by_remainder[:left]:
        parts[at] += 1
    return parts


def check_half_life(days: int) -> int:
    """Return a half-life that makes sense, or raise InvalidValueError."""
    if not 1 <= days <= LONGEST_HALF_LIFE:
        raise InvalidValueError(
            "half_life_days", days, Phrase("a number of days, 1 to {longest}", longest=LONGEST_HALF_LIFE)
        )
    return days
