"""What lines come to, against whole numbers counted by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.totals import Priced, minor_digits, parts_of, rounded, totals_of

CURRENCIES = ("EUR", "CNY", "JPY", "KWD")
shares = st.decimals(0, 1, places=4)
quantities = st.decimals(0, 100_000, places=3)
prices = st.decimals(0, 1_000_000, places=4)
lines = st.lists(
    st.builds(Priced, quantity=quantities, unit_price=prices, discount=shares, list_price=st.none() | prices),
    max_size=6,
)


def to_minor(amount: Fraction, currency: str) -> Fraction:
    """Round halves up, in fractions: nothing of the module is used but how many digits there are."""
    unit = Fraction(1, 10 ** minor_digits(currency))
    return ((amount / unit) + Fraction(1, 2)).__floor__() * unit


@given(lines=lines, discount=shares, currency=st.sampled_from(CURRENCIES))
@settings(max_examples=100, deadline=None)
def test_totals_are_those_of_fractions_rounded_once_a_line(
    lines: list[Priced], discount: Decimal, currency: str
) -> None:
    each = [
        to_minor(Fraction(one.quantity) * Fraction(one.unit_price) * (1 - Fraction(one.discount)), currency)
        for one in lines
    ]
    found = totals_of(lines, discount=discount, currency=currency)
    assert list(map(Fraction, found.lines)) == each
    assert Fraction(found.subtotal) == sum(each)
    assert Fraction(found.taken_off) == to_minor(sum(each) * Fraction(discount), currency)
    assert found.amount == found.subtotal - found.taken_off


@given(lines=lines, discount=shares)
@settings(max_examples=50, deadline=None)
def test_what_is_given_away_is_exact_and_knows_no_rounding(lines: list[Priced], discount: Decimal) -> None:
    asked = sum(
        Fraction(one.quantity) * Fraction(one.unit_price) * (1 - Fraction(one.discount)) for one in lines
    ) * (1 - Fraction(discount))
    listed = sum(
        Fraction(one.quantity) * Fraction(one.unit_price if one.list_price is None else one.list_price)
        for one in lines
    )
    found = totals_of(lines, discount=discount, currency="EUR").off_list
    expected = 1 - asked / listed if listed else Fraction(0)
    assert abs(Fraction(found) - expected) < Fraction(1, 10**30)


def test_ten_percent_off_a_price_that_rounds_badly_is_ten_percent() -> None:
    line = Priced(quantity=Decimal(1), unit_price=Decimal("9.99"), discount=Decimal("0.1"))
    found = totals_of([line], currency="EUR")
    assert (found.amount, found.off_list) == (Decimal("8.99"), Decimal("0.1"))


def test_a_rebate_as_a_line_of_its_own_is_given_away() -> None:
    pump = Priced(quantity=Decimal(1), unit_price=Decimal(1000), list_price=Decimal(1000))
    rebate = Priced(quantity=Decimal(1), unit_price=Decimal(-200))
    assert totals_of([pump, rebate], currency="EUR").off_list == Decimal("0.2")


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [("0.125", "EUR", "0.13"), ("-0.125", "EUR", "-0.13"), ("2.5", "JPY", "3"), ("0.0005", "KWD", "0.001")],
)
def test_halves_are_rounded_away_from_zero(amount: str, currency: str, expected: str) -> None:
    assert rounded(Decimal(amount), currency) == Decimal(expected)


@given(
    value=st.decimals(0, 10_000_000, places=4),
    weights=st.lists(st.integers(1, 100), min_size=1, max_size=12),
    currency=st.sampled_from(CURRENCIES),
)
@settings(max_examples=100, deadline=None)
def test_parts_sum_to_the_whole_and_each_is_within_one_unit_of_its_share(
    value: Decimal, weights: list[int], currency: str
) -> None:
    by_weight = [Decimal(weight) / sum(weights) for weight in weights]
    parts = parts_of(value, by_weight, currency=currency)
    assert sum(parts) == value
    unit = Decimal(1).scaleb(-minor_digits(currency))
    assert all(
        abs(part - value * share) <= unit + Decimal("1e-15")
        for part, share in zip(parts, by_weight, strict=True)
    )
