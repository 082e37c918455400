"""Which questions teach and which judge: earlier and later ones, never one account on both sides.

From an origin in the past, a model learns what was known then and is judged on questions asked from then
on. The gap of one horizon needs no arithmetic: an interval teaches only if it was over at the origin.
Accounts are dealt into parts, and what judges one part learned from the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crm_core.clock import DAY
from models.hazard import Bools, Ints

STEPS_DAYS = (30, 60, 90)
"""Days between two origins: the shortest step that gives enough outcomes to judge by is taken."""

MOST_ORIGINS = 4
"""Origins that are looked at, newest first."""

PARTS = 2
"""Parts that accounts are dealt into."""


PARTS_WITHOUT_TIME = 3
"""The same where there is no time order; none of the numbers of parts dealt elsewhere divides it."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """`teaches` and `judges` are bool[n] over all questions; learn only what was known at `origin`."""

    origin: int
    part: int
    teaches: Bools
    judges: Bools


def list_origins(as_of: Ints, judgeable: Bools, until: int, step_days: int) -> list[int]:
    """Return the origins, newest first, from which any question that can be judged by `until` was asked.

    `judgeable` tells of which questions any interval was over at `until`.
    """
    origins: list[int] = []
    earliest = int(as_of.min()) if len(as_of) else until
    origin = until - step_days * DAY
    while origin > earliest and len(origins) < MOST_ORIGINS:
        if (judgeable & asked_within(as_of, origin, step_days)).any():
            origins.append(origin)
        origin -= step_days * DAY
    return origins


def asked_within(as_of: Ints, origin: int, step_days: int) -> Bools:
    """Return which questions were asked in the step that begins at `origin`."""
    return (as_of >= origin) & (as_of < origin + step_days * DAY)


def list_splits(as_of: Ints, account: Ints, origin: int, step_days: int) -> Iterator[Split]:
    """Give one split for each part of the accounts."""
    part_of = deal_accounts(account)
    judged = asked_within(as_of, origin, step_days)
    for part in range(PARTS):
        inside = part_of == part
        yield Split(origin=origin, part=part, teaches=(as_of <= origin) & ~inside, judges=judged & inside)


def list_parts(account: Ints, until: int, parts: int = PARTS_WITHOUT_TIME) -> Iterator[Split]:
    """Give one split for each part of the accounts, for questions that have no order in time."""
    part_of = deal_accounts(account, parts)
    for part in range(parts):
        yield Split(origin=until, part=part, teaches=part_of != part, judges=part_of == part)


def deal_accounts(account: Ints, parts: int = PARTS) -> Ints:
    """Return the part of each question's account, int64[n]: always the same for the same account."""
    mixed = account.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(40)) % np.uint64(parts)).astype(np.int64)
