"""What a customer brings in a year, and how much of it is at risk.

A prediction about a customer keeps `yearly_value`: a list of {"currency", "amount", "of"}, one a currency
("" where the records name none), `of` being the record type that it was added up from. Money at risk is
the probability of leaving times that, in each currency: amounts of two currencies are never added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from crm_core.access import Reader, Scope

SOURCES: Final = {"contract": "value", "order": "amount"}
"""What a yearly value is added up from: the field of a record type."""

NO_CURRENCY: Final = ""
"""Stands for the currency of amounts that name none."""

_CENT = Decimal("0.01")


@dataclass(frozen=True, kw_only=True)
class MoneyAtRisk:
    """What a customer brings in a year in one currency, and the part of it that is expected to be lost."""

    currency: str
    of: str
    yearly: Decimal
    at_risk: Decimal


def money_at_risk(
    probability: float | None, yearly_value: Iterable[Mapping[str, str]] | None
) -> list[MoneyAtRisk]:
    """Return the probability times the yearly value, by currency; nothing where either is not known."""
    if probability is None or yearly_value is None:
        return []
    chance = Decimal(probability)
    return [
        MoneyAtRisk(
            currency=part["currency"],
            of=part["of"],
            yearly=Decimal(part["amount"]),
            at_risk=(chance * Decimal(part["amount"])).quantize(_CENT, rounding=ROUND_HALF_EVEN),
        )
        for part in yearly_value
    ]


def readable_worth(reader: Reader, yearly_value: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return what may be told to a reader: nothing that was added up from a field they may not see."""
    return [dict(part) for part in yearly_value if _may_read(reader, part["of"])]


def _may_read(reader: Reader, record_type: str) -> bool:
    if reader.right(record_type).read is Scope.NONE:
        return False
    return reader.may_read_field(record_type, SOURCES[record_type])
