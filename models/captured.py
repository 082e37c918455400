"""How much of the money that came the first tenth of a list would have held, and what was expected of all.

Lists are ordered by what was known when the question was asked, the amount included. What came in the end
counts only as what is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.columns import MONEY_SCALE
from crm_core.history import current_values
from crm_core.records import Deal
from models.evaluation import Estimate, Judged, estimate_of, ratio, resampled_sums, share_in_top
from models.hazard import Floats

if TYPE_CHECKING:
    from crm_core.store import Store
    from models.questions import Questions

BY_PROBABILITY, BY_EXPECTED, BY_AMOUNT = "by_probability", "by_expected", "by_amount"
"""Orders of a list: by probability, by probability times the amount known, and by that amount alone."""

_AMOUNT_OF = {
    "contracts": "running_contracts_value",
    "orders": "orders_amount_sum_365d",
    "rhythm": "orders_amount_sum_365d",
}
"""What a customer is worth, by the kind of churn."""

_RESAMPLES_BESIDE = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Amounts:
    """What n questions are about: `known` when they were asked and `final`, float64[n], NaN where unknown.

    All in one `currency` (None: not said); questions in another one have no amount.
    """

    known: Floats
    final: Floats
    currency: str | None


@dataclass(frozen=True, kw_only=True)
class Captured:
    """Money of questions whose window was over.

    `expected` is the sum of probability times the amount known, `came` the final amounts of what happened,
    `came_to_expected` their ratio. `top_tenth` has, by name of who spoke and by order of the list, the share
    of what came that its first tenth held; `amount` alone speaks for itself. `without_amount` questions
    count as 0.
    """

    currency: str | None
    without_amount: int
    expected: float
    came: float
    came_to_expected: Estimate
    top_tenth: Mapping[str, Mapping[str, Estimate]]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "currency": self.currency,
            "without_amount": self.without_amount,
            "expected": round(self.expected, 2),
            "came": round(self.came, 2),
            "came_to_expected": self.came_to_expected.to_json(),
            "top_tenth": {
                name: {order: share.to_json() for order, share in shares.items()}
                for name, shares in self.top_tenth.items()
            },
        }


def amounts_of(store: Store, questions: Questions) -> Amounts | None:
    """Return the money that questions are about: a deal's amount, a customer's contracts or year of orders.

    None for leads, which have no amount, and where nothing has. What a customer is worth is taken as known
    when asked, at the end too.
    """
    if questions.task.record_type == "deal":
        found = _amounts_of_deals(store, questions)
    else:
        name = _AMOUNT_OF.get(questions.task.variant, "")
        known = questions.frame[name].to_numpy() if name in questions.frame.columns else None
        found = None if known is None else Amounts(known=known, final=known, currency=None)
    return found if found is not None and np.nansum(found.known) > 0 else None


def _amounts_of_deals(store: Store, questions: Questions) -> Amounts | None:
    if "amount" not in questions.frame.columns:
        return None
    ids, place = np.unique(questions.cohort.ids, return_inverse=True)
    with store.reading() as session:
        amounts = current_values(session, Deal, "amount", ids)
        currencies = current_values(session, Deal, "currency", ids)
    commonest = Counter(currencies[place].tolist()).most_common(1)
    currency = commonest[0][0] if commonest else None
    final = np.array(
        [np.nan if value is None else value / MONEY_SCALE for value in amounts], dtype=np.float64
    )
    ours = np.array([held == currency for held in currencies], dtype=np.bool_)[place]
    known = questions.frame["amount"].to_numpy()
    return Amounts(
        known=np.where(ours, known, np.nan), final=np.where(ours, final[place], np.nan), currency=currency
    )


def judge_money(said: Mapping[str, Floats], judged: Judged, amounts: Amounts) -> Captured | None:
    """Return how much money the lists of each would have held; None where none came.

    `said` has probabilities by name, float64[n], "model" among them; NaN where somebody said nothing.
    """
    known, final = np.nan_to_num(amounts.known), np.nan_to_num(amounts.final)
    came = np.where(judged.happened, np.maximum(final, 0), 0.0)
    if came.sum() <= 0:
        return None
    expected = said["model"] * known
    drawn = resampled_sums(np.stack([came, expected], axis=1), judged.entity)
    shares = {name: _shares(name, values, known, came, judged) for name, values in said.items()}
    shares["amount"] = {BY_AMOUNT: share_in_top(known, came, judged.entity, resamples=_RESAMPLES_BESIDE)}
    return Captured(
        currency=amounts.currency,
        without_amount=int(np.isnan(amounts.known).sum()),
        expected=float(expected.sum()),
        came=float(came.sum()),
        came_to_expected=estimate_of(ratio(drawn[:, 0], drawn[:, 1])),
        top_tenth=shares,
    )


def _shares(name: str, values: Floats, known: Floats, came: Floats, judged: Judged) -> dict[str, Estimate]:
    told = ~np.isnan(values)
    resamples = {} if name == "model" else {"resamples": _RESAMPLES_BESIDE}
    orders = {BY_PROBABILITY: values, BY_EXPECTED: values * known}
    return {
        order: share_in_top(score[told], came[told], judged.entity[told], **resamples)
        for order, score in orders.items()
    }
