"""How much money the first tenth of a list holds."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from crm_core.changes import Source
from crm_core.records import Deal
from crm_core.store import Store
from features.feature_set import feature_set_for
from models import lead_scoring, win_probability
from models.captured import Amounts, amounts_of, judge_money
from models.evaluation import Judged, share_in_top
from models.questions import ask
from tests.models.conftest import NOW


def _judge(said: Any, happened: Any, known: Any, final: Any) -> Any:
    judged = Judged(happened=np.array(happened), entity=np.arange(len(happened)))
    amounts = Amounts(known=np.array(known, dtype=float), final=np.array(final, dtype=float), currency="EUR")
    return judge_money({"model": np.array(said)}, judged, amounts)


def test_what_the_first_tenth_holds_by_hand() -> None:
    # Ten deals, two won: the likeliest for 100, the second, which is large, for 900.
    said, won = [0.9, 0.5] + [0.1] * 8, [True, True] + [False] * 8
    found = _judge(said, won, [100, 800] + [10] * 8, [100, 900] + [10] * 8)
    shares = {order: share.value for order, share in found.top_tenth["model"].items()}
    assert shares == {"by_probability": pytest.approx(0.1), "by_expected": pytest.approx(0.9)}
    assert found.top_tenth["amount"]["by_amount"].value == pytest.approx(0.9)
    assert (found.expected, found.came) == (pytest.approx(90 + 400 + 8), 1000)


def test_the_final_amount_judges_and_does_not_order() -> None:
    said, won = [0.5] * 10, [True] * 10
    grown = _judge(said, won, [2] + [1] * 9, [1] * 9 + [91])
    assert grown.top_tenth["model"]["by_expected"].value == pytest.approx(0.01)


def test_ties_share_what_they_hold() -> None:
    found = share_in_top(np.zeros(50), np.arange(50, dtype=float), np.arange(50))
    assert found.value == pytest.approx(0.1)


def test_an_unknown_amount_counts_as_nothing_and_is_told() -> None:
    found = _judge([0.9] * 4, [True] * 4, [np.nan, 1, 1, 1], [np.nan, 1, 1, 1])
    assert (found.without_amount, found.came) == (1, 3)
    assert found.to_json()["currency"] == "EUR"


def test_without_money_nothing_is_said() -> None:
    assert _judge([0.5] * 3, [False] * 3, [1, 1, 1], [1, 1, 1]) is None


def test_the_amount_of_a_deal_is_that_known_when_asked_and_in_the_end(store: Store) -> None:
    start = NOW - timedelta(days=20)
    with store.transaction(source=Source.IMPORT) as transaction:
        row = {"name": "Big", "stage": "needs", "currency": "EUR", "occurred_at": start, "recorded_at": start}
        deals = transaction.create_many(
            Deal,
            [
                row | {"amount": Decimal(100)},
                row | {"amount": Decimal(5), "currency": "USD"},
                row | {"amount": Decimal(7)},
            ],
        )
        transaction.update(transaction.get(Deal, deals[0]), {"amount": Decimal(250)})
    task = win_probability.TASK
    asked = ask(
        store,
        task,
        feature_set_for(store, task.name),
        task.ask,
        start=start - timedelta(1),
        until=NOW - timedelta(days=1),
    )
    found = amounts_of(store, asked)
    assert found is not None
    first = asked.cohort.ids == deals[0]
    assert set(found.known[first]) == {100.0}
    assert set(found.final[first]) == {250.0}
    other = asked.cohort.ids == deals[1]
    assert found.currency == "EUR"
    assert np.isnan(found.known[other]).all()


def test_leads_have_no_amount(business: Any) -> None:
    task = lead_scoring.TASK
    asked = ask(
        business.store,
        task,
        feature_set_for(business.store, task.name),
        task.ask_to_judge,
        start=NOW - timedelta(days=30),
        until=NOW,
    )
    assert len(asked) > 10
    assert amounts_of(business.store, asked) is None
