"""A plain sample of questions where they are more than choosing a recipe needs.

Accounts are drawn whole, those with an outcome and those without in the share that they have, so that no
rate and no probability moves; always the same accounts. Where accounts with an outcome would become too few
to tell a gain from noise, more accounts stay and each is asked less often: questions that follow one another
about the same account are much alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.hazard import Bools, Exposure, Floats, Ints

MOST_TO_CHOOSE_ON = 100_000
"""Questions up to which a recipe is chosen on all of them."""

FEWEST_WITH_OUTCOME = 2_000
"""Accounts with an outcome that a sample keeps, if there are as many."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """`rows` bool[n]: which questions are in it. `share`: how many of an account's own are, in (0, 1]."""

    rows: Bools
    share: float

    def take(self, seen: Exposure) -> Exposure:
        """Return what was seen of the sample; a thinned account counts as much as it did before."""
        found = seen.take(self.rows)
        return Exposure(
            at_risk=found.at_risk,
            event=found.event,
            closed_at=found.closed_at,
            weight=found.weight / self.share,
        )


def draw_sample(account: Ints, as_of: Ints, happened: Bools, most: int) -> Sample:
    """Return about `most` of the questions.

    Parameters
    ----------
    account, as_of : int64[n]
        Whom each is about, and when it was asked, in microseconds.
    happened : bool[n]
        Which had the outcome, as known at the instant that the model is made for.
    """
    accounts, place = np.unique(account, return_inverse=True)
    has_outcome = np.bincount(place, weights=happened, minlength=len(accounts)) > 0
    wanted = min(most / max(len(account), 1), 1.0)
    enough = FEWEST_WITH_OUTCOME / max(int(has_outcome.sum()), 1)
    of_accounts = min(max(wanted, enough), 1.0)
    kept = _first_of_each(accounts, has_outcome, of_accounts)[place]
    share = min(most / max(int(kept.sum()), 1), 1.0) if of_accounts > wanted else 1.0
    kept[kept] = _evenly(account[kept], as_of[kept], share)
    return Sample(rows=kept, share=share)


def _first_of_each(accounts: Ints, has_outcome: Bools, share: float) -> Bools:
    """Tell which accounts are kept: of those with an outcome and of those without, the same share."""
    kept = np.zeros(len(accounts), dtype=np.bool_)
    order = np.argsort(_mixed(accounts), kind="stable")
    for group in (order[has_outcome[order]], order[~has_outcome[order]]):
        kept[group[: round(share * len(group))]] = True
    return kept


def _mixed(accounts: Ints) -> npt.NDArray[np.uint64]:
    """Return numbers in no order, the same for the same account, and others than accounts are dealt by."""
    mixed = accounts.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xAEF17502108EF2D9)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)), dtype=np.uint64)


def _evenly(account: Ints, as_of: Ints, share: float) -> Bools:
    """Tell which questions are kept: at even steps through each account's, in the order they were asked.

    Where the steps begin differs from account to account, so that each question is as likely to be kept as
    any other: the last one, which tends to have the outcome, no more than the first.
    """
    order = np.lexsort((as_of, account))
    _, first, count = np.unique(account[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(first, count)
    begin: Floats = (_mixed(account[order]) >> np.uint64(11)) / 2.0**53
    kept = np.empty(len(order), dtype=np.bool_)
    kept[order] = np.floor((place + 1) * share + begin) > np.floor(place * share + begin)
    return kept
