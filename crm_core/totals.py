"""What lines come to: exact sums of money, and the one rule by which they are rounded.

Everything is computed in decimal numbers. A quantity or a discount, held as a float, counts as the shortest
decimal number that stands for it, which is what was typed. Each line is rounded once, to the smallest unit of
its currency, halves away from zero; the sum of the lines is exact; the discount on the whole is rounded the
same way and taken off. So whoever adds up the printed lines gets the printed sum.

How far a quote lies below the list is not rounded at all: a discount of exactly ten percent is ten percent,
whatever the rounding of its lines did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Final

NO_MINOR: Final = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV"),
        *("XAF", "XOF", "XPF"),
    }
)
"""Currencies without a smaller unit (ISO 4217)."""

THREE_DIGITS: Final = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
"""Currencies whose unit has a thousand parts (ISO 4217)."""

_PRECISE: Final = 200
"""Digits of a product of a quantity, a price and two discounts: more than any has."""

ONE: Final = Decimal(1)
ZERO: Final = Decimal(0)


@dataclass(frozen=True, kw_only=True)
class Priced:
    """What is counted of a line; `list_price` is that of its product when the line was written."""

    quantity: Decimal
    unit_price: Decimal
    discount: Decimal = ZERO
    list_price: Decimal | None = None

    @property
    def listed(self) -> Decimal:
        """The list price of one; what is on no list is worth what is asked, and what is taken off nothing."""
        return max(self.unit_price, ZERO) if self.list_price is None else self.list_price


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What lines come to: each line rounded, their sum, what is taken off the whole, and what is left.

    `off_list` is the share of the list price that is given away, negative where more is asked; 0 without any.
    """

    lines: tuple[Decimal, ...]
    subtotal: Decimal
    taken_off: Decimal
    amount: Decimal
    off_list: Decimal


def minor_digits(currency: str | None) -> int:
    """Return how many decimals amounts of a currency have."""
    if currency in NO_MINOR:
        return 0
    return 3 if currency in THREE_DIGITS else 2


def rounded(amount: Decimal, currency: str | None) -> Decimal:
    """Return an amount in whole smallest units of its currency, halves away from zero."""
    with localcontext(prec=_PRECISE):
        return _to(amount, Decimal(1).scaleb(-minor_digits(currency)))


def _to(amount: Decimal, unit: Decimal) -> Decimal:
    return amount.quantize(unit, rounding=ROUND_HALF_UP)


def exact(number: float | Decimal | None) -> Decimal:
    """Return the decimal number that was typed; nothing is zero."""
    return ZERO if number is None else Decimal(str(number))


def totals_of(lines: Iterable[Priced], *, discount: Decimal = ZERO, currency: str | None) -> Totals:
    """Return what lines come to, less a discount on the whole, given as a share in [0, 1]."""
    lines = list(lines)
    with localcontext(prec=_PRECISE):
        plain = [line.quantity * line.unit_price * (ONE - line.discount) for line in lines]
        listed = sum((line.quantity * line.listed for line in lines), ZERO)
        each = tuple(rounded(amount, currency) for amount in plain)
        subtotal = sum(each, ZERO)
        taken_off = rounded(subtotal * discount, currency)
        asked = sum(plain, ZERO) * (ONE - discount)
        return Totals(
            lines=each,
            subtotal=subtotal,
            taken_off=taken_off,
            amount=subtotal - taken_off,
            off_list=share_off(asked, listed),
        )


def share_off(asked: Decimal, listed: Decimal) -> Decimal:
    """Return the share of a list price that is not asked for; 0 where nothing is on the list."""
    if listed <= 0:
        return ZERO
    with localcontext(prec=_PRECISE):
        return ONE - asked / listed


def parts_of(
    value: Decimal, shares: Iterable[Decimal], *, currency: str | None = None, digits: int | None = None
) -> list[Decimal]:
    """Return the parts of an amount by shares that sum to one; the parts sum exactly to the amount.

    What the shares have come to so far is rounded, and each part is the step to it from what the parts before
    it came to: every part lies within one smallest unit of its exact share. Where the amount itself is finer
    than the currency's smallest unit, the last part takes the rest. `digits` says how many decimals
    parts have where that is not the currency's.
    """
    unit = Decimal(1).scaleb(-(minor_digits(currency) if digits is None else digits))
    found: list[Decimal] = []
    shares = list(shares)
    with localcontext(prec=_PRECISE):
        reached, before = ZERO, ZERO
        for number, share in enumerate(shares, start=1):
            reached += share
            until = value if number == len(shares) else _to(value * reached, unit)
            found.append(until - before)
            before = until
    return found
