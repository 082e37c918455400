"""What is open now is worth, times a factor: what turns a wrong probability into money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal

from sqlalchemy import select

from crm_core.columns import MONEY_SCALE
from crm_core.history import values_as_of
from crm_core.records import Deal, DealStatus, Lead
from crm_core.store import Store
from crm_core.worth import NO_CURRENCY
from features.cohort import Cohort
from features.worth import yearly_values
from models.hazard import Floats

Part = tuple[str, float]
"""A currency and an amount in it."""


def value_of(store: Store, cohort: Cohort, factor: Floats) -> dict[str, float]:
    """Return the sum of what each record of a cohort is worth times its factor (float64[n]), by currency.

    A deal is worth its amount at its instant, a customer what it brings in a year, and a lead the mean
    amount of the deals that were won from converted leads. What has no known worth is left out.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    for parts, times in zip(_READERS[cohort.record_type](store, cohort), factor.tolist(), strict=True):
        for currency, amount in parts:
            sums[currency] += amount * times
    return {currency: round(amount, 2) for currency, amount in sorted(sums.items())}


def _deals(store: Store, cohort: Cohort) -> list[Sequence[Part]]:
    with store.reading() as session:
        amounts = values_as_of(session, Deal, "amount", cohort.ids, cohort.as_of)
        currencies = values_as_of(session, Deal, "currency", cohort.ids, cohort.as_of)
    return [
        () if amount is None else ((str(currency or NO_CURRENCY), amount / MONEY_SCALE),)
        for amount, currency in zip(amounts, currencies, strict=True)
    ]


def _customers(store: Store, cohort: Cohort) -> list[Sequence[Part]]:
    """Return what customers bring in a year, as known now."""
    worth = yearly_values(store, cohort.ids.tolist(), store.clock.now())
    return [
        [(part["currency"], float(part["amount"])) for part in worth.get(account, ())]
        for account in cohort.ids.tolist()
    ]


def _leads(store: Store, cohort: Cohort) -> list[Sequence[Part]]:
    query = (
        select(Deal.currency, Deal.amount)
        .join(Lead, Lead.deal_id == Deal.id)
        .where(Deal.status == DealStatus.WON, Deal.amount.is_not(None), Deal.deleted_at.is_(None))
    )
    won: defaultdict[str, list[Decimal]] = defaultdict(list)
    with store.reading() as session:
        for currency, amount in session.execute(query):
            won[currency or NO_CURRENCY].append(amount or Decimal(0))
    count = sum(map(len, won.values()))
    each = [(currency, float(sum(amounts)) / count) for currency, amounts in sorted(won.items())]
    return [each] * len(cohort)


_READERS: dict[str, Callable[[Store, Cohort], list[Sequence[Part]]]] = {
    "deal": _deals,
    "account": _customers,
    "lead": _leads,
}
