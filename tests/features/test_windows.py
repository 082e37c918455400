"""The edges of the time rule, by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, FixedClock
from crm_core.store import Store
from features.account import ORDERS
from features.cohort import Cohort
from features.event_features import DaysSinceLast, EventFeature, LastValue, MedianGap
from features.feature_set import FEATURE_SETS, FeatureSet
from features.field_features import PushesCount
from features.frame import build_frame
from features.windows import (
    NEVER,
    in_feature_window,
    in_label_window,
    leaves_window,
    name_lookback,
    parse_lookback,
    visible_from,
    visible_until,
)
from features.wording import Noun
from tests.conftest import MONDAY
from tests.factories import make_account, make_activity, make_contract, make_deal, make_lead, make_order

AS_OF = 100 * DAY
NOUN = Noun(one="amount", many="amounts", zh="金额")


def instants(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_a_feature_window_is_open_at_its_beginning_and_closed_at_the_question() -> None:
    happened = instants(AS_OF - 7 * DAY, AS_OF - 7 * DAY + 1, AS_OF, AS_OF + 1)

    inside = in_feature_window(happened, np.full(4, AS_OF), 7 * DAY)

    assert inside.tolist() == [False, True, True, False]


def test_a_label_window_begins_after_the_question_and_is_closed_at_its_end() -> None:
    happened = instants(AS_OF, AS_OF + 1, AS_OF + 7 * DAY, AS_OF + 7 * DAY + 1, NO_INSTANT)

    inside = in_label_window(happened, np.full(5, AS_OF), 7 * DAY)

    assert inside.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize("happened", range(0, 40, 5))
def test_windows_tile_so_that_nothing_counts_on_both_sides(happened: int) -> None:
    when, length = instants(happened * DAY), 10 * DAY

    before = in_feature_window(when, instants(20 * DAY), length)
    after = in_label_window(when, instants(20 * DAY), length)
    earlier = in_feature_window(when, instants(10 * DAY), length)

    assert int(before[0]) + int(after[0]) + int(earlier[0]) == int(0 < happened <= 30)


def test_something_is_visible_once_it_has_happened_and_is_recorded_until_it_is_deleted() -> None:
    assert visible_from(instants(5, 5), instants(9, 3)).tolist() == [9, 5]
    assert visible_until(instants(NO_INSTANT, 8)).tolist() == [NEVER, 8]


def test_what_never_leaves_a_window_does_not_wrap_around() -> None:
    assert leaves_window(instants(NEVER, 3), 10).tolist() == [NEVER, 13]


def test_lookbacks_are_named_as_they_are_read() -> None:
    assert [name_lookback(parse_lookback(text)) for text in ("36h", "48h", "3w", "90d")] == [
        "36h",
        "2d",
        "21d",
        "90d",
    ]


def test_a_call_logged_late_is_invisible_before_it_was_recorded(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step, occurred_at=MONDAY - timedelta(days=9))
    clock.advance(timedelta(days=3))
    with store.transaction() as step:
        make_activity(step, lead_id=1, occurred_at=MONDAY - timedelta(days=1))
    calls = FEATURE_SETS["lead_scoring"].select(["calls_count_7d", "days_since_last_call"])

    rows = [
        build_frame(store, Cohort.single("lead", 1, MONDAY + timedelta(days=day)), calls)
        .to_numpy()[0]
        .tolist()
        for day in (2, 3, 5, 6)
    ]

    assert np.isnan(rows[0][1])
    assert [row[0] for row in rows] == [0, 1, 1, 0]
    assert [row[1] for row in rows[1:]] == [4, 6, 7]


def test_a_date_put_off_exactly_a_lookback_ago_is_no_longer_in_the_window(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        deal = make_deal(step, expected_close_on=date(2026, 4, 1))
        step.update(deal, {"expected_close_on": date(2026, 5, 1)})
    pushes = FeatureSet(
        name="pushes",
        record_type="deal",
        features=(PushesCount(record="deal", field="expected_close_on", lookback="30d"),),
    )

    asked = [MONDAY, MONDAY + timedelta(days=30, microseconds=-1), MONDAY + timedelta(days=30)]
    found = [build_frame(store, Cohort.single("deal", 1, when), pushes).to_numpy()[0, 0] for when in asked]

    assert found == [1, 1, 0]


def test_what_was_deleted_at_the_very_instant_of_the_question_is_gone(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        make_account(step)
        contract = make_contract(step, account_id=1)
    clock.advance(timedelta(days=1))
    with store.transaction() as step:
        step.delete(step.get(type(contract), 1))
    features = FEATURE_SETS["churn"].select(
        ["contracts_count", "days_since_last_contract", "days_to_contract_end", "running_contracts_value"]
    )

    def row(when: datetime) -> list[float]:
        found: list[float] = (
            build_frame(store, Cohort.single("account", 1, when), features).to_numpy()[0].tolist()
        )
        return found

    before, then = row(clock.now() - timedelta(microseconds=1)), row(clock.now())

    assert before[0] == 1
    assert before[3] == 9000
    assert not np.isnan(before).any()
    assert (then[0], then[3]) == (0, 0)
    assert np.isnan(then[1:3]).all()


def test_an_order_at_the_open_end_of_a_window_tells_nothing_of_the_rhythm_nor_of_the_last_value(
    store: Store,
) -> None:
    with store.transaction() as step:
        make_account(step, occurred_at=MONDAY - timedelta(days=400))
        for days in (60, 30, 20):
            make_order(step, account_id=1, amount=days, occurred_at=MONDAY - timedelta(days=days))
    of = ORDERS
    features: tuple[EventFeature, ...] = (
        MedianGap(of=of, lookback="60d"),
        LastValue(of=of, field="amount", noun=NOUN, lookback="20d"),
        LastValue(of=of, field="amount", noun=NOUN, lookback="21d"),
        DaysSinceLast(of=of, lookback="20d"),
    )
    asked = FeatureSet(name="edges", record_type="account", features=features)

    row = build_frame(store, Cohort.single("account", 1, MONDAY), asked).to_numpy()[0].tolist()

    assert row[0] == 10
    assert row[2] == 20
    assert np.isnan([row[1], row[3]]).all()
