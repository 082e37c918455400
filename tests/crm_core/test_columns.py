"""What is stored comes back, and what cannot be stored is refused by name."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import FixedClock, day_number, day_of, instant, micros
from crm_core.columns import check_text, dump_json, money_units
from crm_core.errors import InvalidValueError, UnsafeTextError
from crm_core.records import Deal
from crm_core.store import Store
from tests.factories import make_deal


@given(st.datetimes(timezones=st.timezones()))
def test_an_instant_keeps_its_microsecond_whatever_its_zone(moment: datetime) -> None:
    assert instant(micros(moment)) == moment.astimezone(UTC)


@given(st.dates())
def test_a_day_comes_back(day: date) -> None:
    assert day_of(day_number(day)) == day


@given(st.decimals(min_value=-(10**14), max_value=10**14, places=4))
def test_money_of_four_decimals_is_exact(amount: Decimal) -> None:
    assert Decimal(money_units(amount)) / 10_000 == amount


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e30", "twelve", ""])
def test_money_that_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(InvalidValueError, match="amount"):
        money_units(amount)


def test_a_naive_datetime_has_no_place_in_time() -> None:
    with pytest.raises(ValueError, match="aware"):
        micros(datetime(2026, 1, 1))  # noqa: DTZ001  naive on purpose


@given(st.text())
def test_text_is_accepted_exactly_when_it_has_no_nul_and_encodes(text: str) -> None:
    try:
        text.encode()
        safe = "\x00" not in text
    except UnicodeEncodeError:
        safe = False
    if safe:
        assert check_text("note", text) == text
    else:
        with pytest.raises(UnsafeTextError, match="note"):
            check_text("note", text)


def test_json_has_one_text_for_one_value() -> None:
    assert dump_json({"b": 1, "a": "客户"}) == '{"a":"客户","b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"a": float("nan")})


def test_a_clock_that_stands_still_moves_when_told() -> None:
    clock = FixedClock(datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))))
    clock.advance(timedelta(hours=1))
    assert clock.now() == datetime(2026, 1, 1, 1, tzinfo=UTC)
    clock.set(datetime(2027, 1, 1, tzinfo=UTC))
    assert clock.now().year == 2027


def test_columns_come_as_arrays_with_one_sign_for_nothing(store: Store) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, amount=Decimal("1.5"), expected_close_on=date(1970, 1, 3), rep_probability=0.5)
        make_deal(transaction, amount=None, name="空")
    query = select(
        Deal.id,
        Deal.name,
        Deal.amount,
        Deal.expected_close_on,
        Deal.rep_probability,
        Deal.recorded_at,
    ).order_by(Deal.id)
    with store.reading() as session:
        found = read_arrays(session, query)
        empty = read_arrays(session, query.where(Deal.id < 0))
    assert found["id"].tolist() == [1, 2]
    assert found["name"].tolist() == ["Twenty pumps", "空"]
    assert found["amount"].tolist() == [15_000, NO_INSTANT]
    assert found["expected_close_on"].tolist() == [2 * 86_400_000_000, NO_INSTANT]
    assert found["rep_probability"][0] == 0.5
    assert np.isnan(found["rep_probability"][1])
    assert found["recorded_at"].tolist() == [micros(store.clock.now())] * 2
    assert {name: array.dtype for name, array in found.items()} == {
        name: array.dtype for name, array in empty.items()
    }
