"""Which products deals are about: what stands on their lines.

The lines that count are those of a deal's orders; where it has none, those of its accepted quotes; else those
of its newest quote. A deal counts once for each product on them. Its amount is divided over these by what the
lines of each are worth; what stands on lines without a product, or is taken off there, is spread over them.

Time rule: that of `crm_core.reporting`; lines, quotes and orders count as they were known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.records import Order, Quote, QuoteStatus, Record

if TYPE_CHECKING:
    from crm_core.reporting.facts import Facts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

LINE_FIELDS: Final = ("quote_id", "order_id", "product_id", "quantity", "unit_price", "discount")
TOLD_BY: Final = (
    *(f"line.{name}" for name in LINE_FIELDS),
    *("quote.deal_id", "quote.status", "order.deal_id"),
)
"""The fields that say what a deal is about."""

LINKED: Final[Mapping[type[Record], set[str]]] = {
    Order: {"deal_id"},
    Quote: {"deal_id", "status", "occurred_at"},
}
"""What is read of the orders and quotes that lines are on."""

_OF_ORDER, _OF_ACCEPTED, _OF_ANY = 2, 1, 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sold:
    """A row for each deal and product, by deal, then product; deals without any are not there.

    `low` and `high` are where the product's part of the amount begins and ends, in [0, 1]: the parts of a
    deal tile it.
    """

    deal: Ints
    product: Ints
    low: Floats
    high: Floats

    def of(self, deals: Ints) -> Spread:
        """Return where each of some deals stands: once for each product, once where it has none."""
        first, last = (np.searchsorted(self.deal, deals, side=side) for side in ("left", "right"))
        times = np.maximum(last - first, 1)
        index = np.repeat(np.arange(deals.size), times)
        step = np.arange(index.size) - np.repeat(np.cumsum(times) - times, times)
        known = np.repeat(last > first, times)
        at = np.where(known, np.repeat(first, times) + step, 0)
        return Spread(
            index=index,
            product=_picked(self.product, at, known, NO_INSTANT),
            low=_picked(self.low, at, known, 0.0),
            high=_picked(self.high, at, known, 1.0),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Rows that stand once for each product: which row, the product, and its part of the amount."""

    index: Ints
    product: Ints
    low: Floats
    high: Floats

    def divide(self, amounts: Ints) -> Ints:
        """Return the part of each row's amount; the parts of a row sum to it."""
        whole = amounts[self.index]
        return (np.rint(whole * self.high) - np.rint(whole * self.low)).astype(np.int64)


def _picked(values: Values, at: Ints, known: Bools, other: float) -> Values:
    if not values.size:
        return np.full(at.size, other, dtype=values.dtype)
    return np.where(known, values[at], other).astype(values.dtype)


def sold_on(lines: Facts) -> Sold:
    """Return the products of all deals that lines are about; `lines` have their `line_total`."""
    deal = lines.first_of((("order_id", "deal_id"), ("quote_id", "deal_id")))
    counts = _standing(lines, deal) & (lines.columns["product_id"] != NO_INSTANT)
    deal, product = deal[counts], lines.columns["product_id"][counts]
    total = lines.columns["line_total"][counts]
    order = np.lexsort((product, deal))
    deal, product = deal[order], product[order]
    new = np.flatnonzero((np.diff(deal, prepend=-1) != 0) | (np.diff(product, prepend=-1) != 0))
    worth = np.zeros(new.size) if not new.size else np.add.reduceat(_worth(total[order]), new)
    return _divided(deal[new], product[new], np.maximum(worth, 0.0))


def _worth(total: Ints) -> Floats:
    return np.where(total == NO_INSTANT, 0, total).astype(np.float64)


def _standing(lines: Facts, deal: Ints) -> Bools:
    """Say of each line whether it is of what stands: orders, else accepted quotes, else the newest quote."""
    of_order = lines.along(("order_id", "deal_id")) != NO_INSTANT
    accepted = lines.along(("quote_id", "status")) == QuoteStatus.ACCEPTED
    rank = np.where(of_order, _OF_ORDER, np.where(accepted, _OF_ACCEPTED, _OF_ANY))
    written, quote = lines.along(("quote_id", "occurred_at")), lines.columns["quote_id"]
    order = np.lexsort((quote, written, rank, deal))
    last = np.flatnonzero(np.diff(deal[order], append=-1) != 0)
    size = np.diff(last, prepend=-1)
    best = np.empty(deal.size, dtype=np.int64)
    best[order] = np.repeat(order[last], size)
    same = (rank == rank[best]) & ((rank != _OF_ANY) | (quote == quote[best]))
    return np.asarray((deal != NO_INSTANT) & same)


def _divided(deal: Ints, product: Ints, worth: Floats) -> Sold:
    """Return the parts of each deal: by worth, and alike where nothing is worth anything."""
    first = np.flatnonzero(np.diff(deal, prepend=-1) != 0)
    size = np.diff(first, append=deal.size)
    whole = np.add.reduceat(worth, first) if first.size else worth
    worth = np.where(np.repeat(whole, size) > 0, worth, 1.0)
    high = worth / np.repeat(np.where(whole > 0, whole, size), size)
    for step in range(1, int(size.max(initial=0))):
        at = first[size > step] + step
        high[at] += high[at - 1]
    low = np.concatenate([[0.0], high[:-1]])[: high.size]
    low[first], high[first + size - 1] = 0.0, 1.0  # whatever rounding makes of the sum
    return Sold(deal=deal, product=product, low=low, high=np.minimum(high, 1.0))
