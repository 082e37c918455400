"""What a record is worth, as known at an instant: what turns a wrong probability into money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY
from crm_core.columns import MONEY_SCALE
from crm_core.history import values_as_of
from crm_core.records import Contract, Deal, Lead
from crm_core.store import Store
from features.cohort import Cohort
from models.hazard import Floats

NO_CURRENCY = ""
"""Stands for records without a currency."""

_YEAR = 365.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Worth:
    """What n records are worth: `amount` float64[n], NaN where unknown, in the `currency` of each."""

    amount: Floats
    currency: list[str]

    def total(self, factor: Floats) -> dict[str, float]:
        """Return the sum of amount times `factor` (float64[n]) by currency; unknown amounts are left out."""
        found: defaultdict[str, float] = defaultdict(float)
        known = np.isfinite(self.amount)
        for currency, part in zip(
            np.array(self.currency, dtype=object)[known], (self.amount * factor)[known], strict=True
        ):
            found[str(currency)] += float(part)
        return {currency: round(value, 2) for currency, value in sorted(found.items())}


def worth_of(store: Store, cohort: Cohort) -> Worth:
    """Return what each record of a cohort was worth at its instant.

    A deal: its amount. A customer: what the contracts that run cost a year. A lead: the mean amount of the
    deals that were won from converted leads, in the commonest currency; NaN without any.
    """
    with store.reading() as session:
        return _READERS[cohort.record_type](session, cohort)


def _worth_of_deals(session: Session, cohort: Cohort) -> Worth:
    amounts = values_as_of(session, Deal, "amount", cohort.ids, cohort.as_of)
    currencies = values_as_of(session, Deal, "currency", cohort.ids, cohort.as_of)
    return Worth(
        amount=np.array(
            [np.nan if value is None else value / MONEY_SCALE for value in amounts], dtype=np.float64
        ),
        currency=[str(value or NO_CURRENCY) for value in currencies],
    )


def _worth_of_customers(session: Session, cohort: Cohort) -> Worth:
    query = select(
        Contract.account_id, Contract.value, Contract.starts_on, Contract.ends_on, Contract.currency,
        Contract.recorded_at, Contract.ended_at, Contract.deleted_at,
    )  # fmt: skip
    rows = read_arrays(session, query.order_by(Contract.account_id, Contract.id))
    value = rows["value"].astype(np.float64) / MONEY_SCALE
    value[rows["value"] == NO_INSTANT] = np.nan
    days = np.maximum((rows["ends_on"] - rows["starts_on"]) / DAY, 1.0)
    ends = np.where(
        rows["ended_at"] == NO_INSTANT, rows["ends_on"], np.minimum(rows["ends_on"], rows["ended_at"])
    )
    amount, currency = np.full(len(cohort), np.nan), [NO_CURRENCY] * len(cohort)
    first = np.searchsorted(rows["account_id"], cohort.ids, side="left")
    last = np.searchsorted(rows["account_id"], cohort.ids, side="right")
    for place, (start, stop, when) in enumerate(zip(first, last, cohort.as_of, strict=True)):
        span = slice(start, stop)
        runs = (rows["recorded_at"][span] <= when) & (rows["starts_on"][span] <= when) & (ends[span] > when)
        runs &= np.isfinite(value[span])
        if runs.any():
            amount[place] = float((value[span][runs] / days[span][runs] * _YEAR).sum())
            currency[place] = str(rows["currency"][span][runs][-1] or NO_CURRENCY)
    return Worth(amount=amount, currency=currency)


def _worth_of_leads(session: Session, cohort: Cohort) -> Worth:
    query = (
        select(Deal.amount, Deal.currency)
        .join(Lead, Lead.deal_id == Deal.id)
        .where(Deal.status == "won", Deal.amount.is_not(None), Deal.deleted_at.is_(None))
    )
    found: Mapping[str, list[float]] = _by_currency(session.execute(query).all())
    if not found:
        return Worth(amount=np.full(len(cohort), np.nan), currency=[NO_CURRENCY] * len(cohort))
    currency = max(found, key=lambda name: (len(found[name]), name))
    return Worth(amount=np.full(len(cohort), np.mean(found[currency])), currency=[currency] * len(cohort))


def _by_currency(rows: object) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for amount, currency in rows:  # type: ignore[attr-defined]  # rows of a SQLAlchemy result
        found[currency or NO_CURRENCY].append(float(amount))
    return dict(found)


_READERS = {"deal": _worth_of_deals, "account": _worth_of_customers, "lead": _worth_of_leads}
