"""Attribution: which sources, campaigns or channels the won deals of a time are credited to, by five models.

Each deal is given away in millionths and its money in its smallest units, so that for every model the parts
of a deal add up to the deal, and the rows of a table to what was won. Payments are those received so far for
these deals (through their contracts and orders, too), given away as the deal is. Deals in another currency
are another table: amounts of two currencies are never added.

Intervals: the deals are drawn again, each as often as chance has it, and the share of the money that a row
gets is seen anew in each draw. That is what chance in the deals does; that a model divides rightly, no
interval can say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, and_, func, select

from crm_core.access import Reader, Scope
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.attribution import HALF_LIFE_DAYS, WHOLE, Model, check_half_life, divide, weigh
from crm_core.columns import MONEY_SCALE
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.phrases import Phrase, one_of
from crm_core.records import Campaign, Contract, Deal, DealStatus, Order, Payment
from crm_core.touches import WINDOW_DAYS, Campaigns, Touch, TouchedDeal, read_touches
from serving.ratios import drawn_counts

DIMENSIONS: Final = ("source", "campaign", "channel")
FEWEST_DEALS: Final = 10
"""Of fewer deals, no interval is given."""

LONGEST_WINDOW: Final = 3650
_CENT: Final = MONEY_SCALE // 100


@dataclass(frozen=True, kw_only=True)
class AttributionQuestion:
    """What is asked: deals won on `since <= day < until`, credited by a model to one dimension."""

    since: date
    until: date
    model: Model = Model.POSITION
    by: str = "source"
    half_life_days: int = HALF_LIFE_DAYS
    window_days: int = WINDOW_DAYS
    currency: str | None = None
    """None: the one in which most deals were won."""

    def check(self) -> None:
        """Raise InvalidValueError for what makes no sense."""
        if self.by not in DIMENSIONS:
            raise InvalidValueError("by", self.by, one_of(DIMENSIONS))
        if self.since >= self.until:
            raise InvalidValueError(
                "until", self.until.isoformat(), Phrase("a day after {since}", since=self.since)
            )
        if not 1 <= self.window_days <= LONGEST_WINDOW:
            raise InvalidValueError(
                "window_days", self.window_days, Phrase("1 to {longest}", longest=LONGEST_WINDOW)
            )
        check_half_life(self.half_life_days)


@dataclass(frozen=True, kw_only=True)
class Credit:
    """What one model gives to one row: deals, money won, and money received."""

    deals: Decimal
    won: Decimal
    paid: Decimal


@dataclass(frozen=True, kw_only=True)
class CreditRow:
    """One source, campaign or channel; `key` is empty where nothing is known.

    `share` is its part of the money won by the model that was asked for, with its 95 % interval; None of few.
    """

    key: str
    name: str
    touched: int
    credits: Mapping[Model, Credit]
    share: float | None
    low: float | None
    high: float | None
    cost: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The table: rows with most money by the chosen model first, and what they add up to."""

    question: AttributionQuestion
    currency: str
    currencies: Sequence[str]
    deals: int
    without_amount: int
    touches: int
    whole: Credit
    rows: Sequence[CreditRow]
    shows_paid: bool
    shows_cost: bool


@dataclass(kw_only=True)
class _Heap:
    """What was given to one key by one model so far, in millionths of deals and smallest units of money."""

    deals: int = 0
    won: int = 0
    paid: int = 0


@dataclass(frozen=True, kw_only=True)
class _Won:
    """A won deal: what has to be known of its touches, and its money in smallest units."""

    touched: TouchedDeal
    amount: int
    has_amount: bool
    currency: str
    paid: int = 0


def build_attribution(reader: Reader, question: AttributionQuestion) -> Attribution:
    """Return the credit for the won deals that a reader may see.

    Raises AccessDeniedError for a role that may not see deals, or what became of them and for how much.
    """
    question.check()
    _check_rights(reader)
    campaigns = Campaigns.read(reader)
    every, currencies = _read_won(reader, question)
    currency = question.currency if question.currency is not None else (currencies[0] if currencies else "")
    deals = [each for each in every if each.currency == currency]
    touches = read_touches(
        reader,
        [each.touched for each in deals],
        _chosen(reader, question, currency),
        campaigns,
        window_days=question.window_days,
    )
    given = _Given(question=question, deals=deals, touches=touches)
    shows_paid = _sees_payments(reader)
    costs = _costs(reader, currency) if question.by == "campaign" else {}
    return Attribution(
        question=question,
        currency=currency,
        currencies=currencies,
        deals=len(deals),
        without_amount=sum(not each.has_amount for each in deals),
        touches=sum(map(len, touches.values())),
        whole=_credit(
            _Heap(
                deals=WHOLE * len(deals),
                won=sum(each.amount for each in deals),
                paid=sum(each.paid for each in deals),
            )
        ),
        rows=given.rows(campaigns, costs),
        shows_paid=shows_paid,
        shows_cost=bool(costs),
    )


def _check_rights(reader: Reader) -> None:
    wanted = [
        f"deal.{name}" for name in ("status", "closed_at", "amount", "currency", "source", "campaign_id")
    ]
    if not reader.may_be_told_of(wanted):
        raise AccessDeniedError(
            Phrase("the role {role} may not see what deals brought", role=reader.user.role)
        )


# ---------------------------------------------------------------- giving


@dataclass(kw_only=True)
class _Given:
    """What each model gives to each key."""

    question: AttributionQuestion
    deals: Sequence[_Won]
    touches: Mapping[int, Sequence[Touch]]
    heaps: dict[str, dict[Model, _Heap]] = field(
        default_factory=lambda: defaultdict(lambda: {each: _Heap() for each in Model})
    )
    touched: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    money: list[tuple[int, str, int]] = field(default_factory=list)
    """By the model that was asked for: the deal's place, the key, and what it gets."""

    def __post_init__(self) -> None:
        for place, deal in enumerate(self.deals):
            self._give(place, deal, self.touches[deal.touched.id])

    def _give(self, place: int, deal: _Won, touches: Sequence[Touch]) -> None:
        keys = [getattr(touch, self.question.by) or "" for touch in touches]
        at = [touch.at for touch in touches]
        for key in set(keys):
            self.touched[key] += 1
        for model in Model:
            weights = weigh(model, at, half_life_days=self.question.half_life_days)
            deals, won = divide(WHOLE, weights), _divide_money(deal.amount, weights)
            paid = _divide_money(deal.paid, weights) if deal.paid else [0] * len(keys)
            for key, of_deal, of_won, of_paid in zip(keys, deals, won, paid, strict=True):
                heap = self.heaps[key][model]
                heap.deals += of_deal
                heap.won += of_won
                heap.paid += of_paid
            if model is self.question.model:
                self.money += [(place, key, part) for key, part in zip(keys, won, strict=True)]

    def rows(self, campaigns: Campaigns, costs: Mapping[str, Decimal]) -> list[CreditRow]:
        """Return the rows, the one with most money first."""
        intervals = self._intervals()
        rows = []
        for key, by_model in self.heaps.items():
            share, low, high = intervals.get(key, (None, None, None))
            rows.append(
                CreditRow(
                    key=key,
                    name=campaigns.names.get(key, key) if self.question.by == "campaign" else key,
                    touched=self.touched[key],
                    credits={model: _credit(heap) for model, heap in by_model.items()},
                    share=share,
                    low=low,
                    high=high,
                    cost=costs.get(key),
                )
            )
        model = self.question.model
        return sorted(rows, key=lambda row: (-row.credits[model].won, -row.credits[model].deals, row.key))

    def _intervals(self) -> dict[str, tuple[float, float, float]]:
        """Return by key its share of the money, with the interval of deals being drawn again."""
        whole = sum(part for _, _, part in self.money)
        if len(self.deals) < FEWEST_DEALS or whole <= 0:
            return {}
        keys = sorted(self.heaps)
        places = {key: place for place, key in enumerate(keys)}
        gets = np.zeros((len(self.deals), len(keys)))
        for deal, key, part in self.money:
            gets[deal, places[key]] += part
        drawn = drawn_counts(len(self.deals)) @ gets
        shares = drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1.0)
        low, high = np.quantile(shares, (0.025, 0.975), axis=0)
        return {
            key: (float(gets[:, place].sum() / whole), float(low[place]), float(high[place]))
            for key, place in places.items()
        }


def _divide_money(units: int, weights: Sequence[int]) -> list[int]:
    """Return an amount divided in whole cents, where it is one of whole cents."""
    if units % _CENT:
        return divide(units, weights)
    return [part * _CENT for part in divide(units // _CENT, weights)]


def _credit(heap: _Heap) -> Credit:
    return Credit(
        deals=Decimal(heap.deals) / WHOLE,
        won=Decimal(heap.won) / MONEY_SCALE,
        paid=Decimal(heap.paid) / MONEY_SCALE,
    )


# ---------------------------------------------------------------- reading


def _chosen(
    reader: Reader, question: AttributionQuestion, currency: str | None = None
) -> ColumnElement[bool]:
    since, until = (datetime.combine(day, time(), UTC) for day in (question.since, question.until))
    asked = [
        reader.readable(Deal),
        Deal.deleted_at.is_(None),
        Deal.status == DealStatus.WON,
        Deal.closed_at >= since,
        Deal.closed_at < until,
    ]
    if currency is not None:
        asked.append(func.coalesce(Deal.currency, "") == currency)
    return and_(*asked)


def _read_won(reader: Reader, question: AttributionQuestion) -> tuple[list[_Won], list[str]]:
    """Return the won deals of the time, and their currencies, that of most deals first."""
    query = select(
        *(Deal.id, Deal.occurred_at, Deal.closed_at, Deal.contact_id, Deal.source, Deal.campaign_id),
        *(Deal.amount, Deal.currency),
    ).where(_chosen(reader, question))
    columns = read_arrays(reader.session, query.order_by(Deal.id))
    lists: dict[str, list[Any]] = {name: column.tolist() for name, column in columns.items()}
    paid = _read_paid(reader, question)
    found = []
    for row in zip(*lists.values(), strict=True):
        held = dict(zip(lists, row, strict=True))
        currency = held["currency"] or ""
        has_amount = held["amount"] != NO_INSTANT
        found.append(
            _Won(
                touched=TouchedDeal(
                    id=held["id"],
                    created=held["occurred_at"],
                    closed=held["closed_at"],
                    contact_id=_id(held["contact_id"]),
                    source=held["source"],
                    campaign_id=_id(held["campaign_id"]),
                ),
                amount=held["amount"] if has_amount else 0,
                has_amount=has_amount,
                currency=currency,
                paid=paid.get((held["id"], currency), 0),
            )
        )
    counts: dict[str, int] = defaultdict(int)
    for each in found:
        counts[each.currency] += 1
    return found, sorted(counts, key=lambda currency: (-counts[currency], currency))


def _id(value: int) -> int | None:
    return None if value == NO_INSTANT else value


def _sees_payments(reader: Reader) -> bool:
    wanted = [f"payment.{name}" for name in ("amount", "currency", "paid_at", "deal_id")]
    return reader.may_be_told_of(wanted)


def _read_paid(reader: Reader, question: AttributionQuestion) -> dict[tuple[int, str], int]:
    """Return what was received so far for the deals in question, by deal and currency."""
    return read_paid(reader, _chosen(reader, question))


def read_paid(reader: Reader, chosen: ColumnElement[bool]) -> dict[tuple[int, str], int]:
    """Return money received for deals that fit a condition, in smallest units, by deal and currency.

    A payment belongs to the deal it names, or else to that of its contract or order; one without a currency
    is in the deal's.
    """
    if not _sees_payments(reader):
        return {}
    deal_id = func.coalesce(Payment.deal_id, Contract.deal_id, Order.deal_id)
    currency = func.coalesce(Payment.currency, Deal.currency, "")
    query = (
        select(deal_id.label("deal"), currency.label("currency"), func.sum(Payment.amount).label("paid"))
        .outerjoin(Contract, Contract.id == Payment.contract_id)
        .outerjoin(Order, Order.id == Payment.order_id)
        .join(Deal, Deal.id == deal_id)
        .where(chosen, Payment.deleted_at.is_(None), Payment.paid_at.is_not(None), reader.readable(Payment))
        .group_by(deal_id, currency)
    )
    columns = read_arrays(reader.session, query)
    rows = zip(*(columns[name].tolist() for name in ("deal", "currency", "paid")), strict=True)
    return {(int(deal), currency): int(paid) for deal, currency, paid in rows}


def _costs(reader: Reader, currency: str) -> dict[str, Decimal]:
    """Return by key what campaigns have cost in a currency, where the reader may see that."""
    if not reader.may_be_told_of(["campaign.cost", "campaign.currency"]) or (
        reader.right("campaign").read is Scope.NONE
    ):
        return {}
    query = reader.select(Campaign).with_only_columns(Campaign.id, Campaign.cost)
    rows = reader.session.execute(
        query.where(Campaign.cost.is_not(None), func.coalesce(Campaign.currency, "") == currency)
    )
    return {f"#{key}": cost for key, cost in rows if cost is not None}
