"""Churn by each customer's own rhythm: how long a silence means that they are gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.changes import Source
from crm_core.clock import DAY, FixedClock, micros
from crm_core.predictions import columns_of
from crm_core.records import Account, Order
from crm_core.shadows import Match, Shadow, write_shadows
from crm_core.store import Store
from features.cohort import open_records, open_records_at
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bulk_scoring import score_lot
from models.bundle import ModelBundle
from models.captured import amounts_of
from models.churn import CONTRACTS, ORDERS, RHYTHM, TASK, not_gone_yet, rhythm_days
from models.fitting import Recipe, Rung
from models.hazard import expose
from models.mondays import ask_on_mondays, list_mondays
from models.questions import Questions, answers, ask, first_instant
from models.scoring import score_all, score_records, write_scores
from models.shadowing import compare_shadows
from models.watching import watch
from models.what_if import what_would_change
from tests.factories import make_account, make_contract
from tests.models.conftest import copy_store, unpacked

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
GAPS = (5, 15, 40, 80)


@pytest.mark.parametrize(
    ("gap", "days"), [(1, 60), (15, 60), (20.3, 81), (40, 160), (45, 180), (300, 180), (np.nan, 90)]
)
def test_who_usually_orders_every_so_many_days_may_be_silent_for_four_times_as_long(
    gap: float, days: int
) -> None:
    frame = pd.DataFrame({"orders_gap_median_days_365d": [gap], "days_since_last_order": [days]})
    assert rhythm_days(frame).tolist() == [days]
    assert not_gone_yet(frame).tolist() == [True]
    assert not_gone_yet(frame.assign(days_since_last_order=days + 0.1)).tolist() == [False]


def test_each_absence_is_over_in_its_own_time() -> None:
    seen = expose(
        as_of=np.zeros(4, dtype=np.int64),
        event_at=np.array([NO_INSTANT, 70 * DAY, 50 * DAY, NO_INSTANT]),
        known_until=np.full(4, 100 * DAY),
        weight=np.ones(4),
        ends_days=(90,),
        absence=True,
        own_days=np.array([60, 60, 60, 160]),
    )
    assert seen.at_risk[:, 0].tolist() == [True, True, True, False]
    assert seen.event[:, 0].tolist() == [True, True, False, False]


@pytest.fixture(scope="module")
def shop(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Customers of four rhythms over two years, a third of whom stopped at some time."""
    store = copy_store_of(empty_database, tmp_path_factory.mktemp("shop"))
    random = np.random.default_rng(5)
    begin = NOW - timedelta(days=730)
    customers = [{"name": f"C{n}", "occurred_at": begin, "recorded_at": begin} for n in range(160)]
    orders = []
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(Account, customers)
        for place, account_id in enumerate(ids):
            stops = random.uniform(100, 730) if place % 3 == 0 else 730.0
            day = float(random.uniform(0, 60))
            while day < stops:
                when = begin + timedelta(days=day)
                orders.append(
                    {
                        "account_id": account_id,
                        "amount": Decimal(100),
                        "currency": "EUR",
                        "occurred_at": when,
                        "recorded_at": when,
                    }
                )
                day += GAPS[place % 4] * float(random.uniform(0.7, 1.3))
        transaction.create_many(Order, orders)
    yield store
    store.close()


def copy_store_of(empty: Path, folder: Path) -> Store:
    from shutil import copy

    copy(empty, folder / "crm.db")
    return Store(f"sqlite:///{folder / 'crm.db'}", clock=FixedClock(NOW))


@pytest.fixture(scope="module")
def questions(shop: Store) -> Questions:
    features = feature_set_for(shop, TASK.name)
    return ask(shop, RHYTHM, features, RHYTHM.ask, start=first_instant(shop, RHYTHM), until=NOW)


@pytest.fixture(scope="module")
def bundle(shop: Store, questions: Questions) -> ModelBundle:
    features = feature_set_for(shop, TASK.name)
    plain = Recipe(rung=Rung.LOGISTIC, penalty=10.0)
    return build_bundle(gather(questions, shop, features, micros(NOW)), recipe=plain).bundle


def test_nobody_is_asked_about_who_is_gone_by_their_own_rhythm(questions: Questions) -> None:
    assert questions.own_days is not None
    assert len(questions) > 500
    assert (questions.frame["days_since_last_order"].to_numpy() <= questions.own_days).all()
    assert questions.own_days.min() == 60
    assert len(set(questions.own_days.tolist())) > 5


def test_an_answer_is_whether_they_ordered_in_their_own_time(shop: Store, questions: Questions) -> None:
    assert questions.own_days is not None
    answer = answers(shop, questions, RHYTHM.horizon_days)
    over = questions.as_of + questions.own_days * DAY <= micros(NOW)
    assert answer.over.tolist() == over.tolist()
    assert 0.02 < answer.happened[over].mean() < 0.5


def test_a_prediction_tells_its_own_horizon_and_what_is_at_risk(
    shop: Store, bundle: ModelBundle, tmp_path: Path
) -> None:
    store = copy_store(shop, tmp_path / "scored.db")
    store.clock = FixedClock(NOW)
    made = score_records(store, bundle, list(range(1, 161)), NOW)
    in_a_lot = score_lot(store, bundle, list(range(1, 161)), NOW)
    assert unpacked(in_a_lot) == unpacked(columns_of(made, horizon_days=bundle.horizon_days))
    assert 60 < len(made) < 160, "who has stopped long ago is not asked about"
    assert len({one.horizon_days for one in made}) > 3
    for one in made:
        assert one.within == {one.horizon_days: one.probability}
        assert one.expected_days is None
        assert one.yearly_value is not None
    assert score_all(store, bundle, NOW) == len(made)
    assert "rhythm" in next(reason["en"] for reason in made[0].reasons if reason["group"] == "base")
    store.close()


def test_customers_by_rhythm_are_judged_in_money_too(shop: Store, questions: Questions) -> None:
    found = amounts_of(shop, questions)
    assert found is not None
    assert (found.known == questions.frame["orders_amount_sum_365d"]).all()


def test_who_is_gone_by_their_own_rhythm_is_not_asked_about_on_mondays(
    shop: Store, bundle: ModelBundle
) -> None:
    features = feature_set_for(shop, TASK.name)
    weeks = ask_on_mondays(shop, features, bundle, after=micros(NOW) - 200 * DAY, until=micros(NOW))
    assert weeks is not None
    assert len(weeks.record) == len(weeks.probability)
    active = open_records_at(shop, "account", np.unique(weeks.as_of), kind="rhythm")
    assert len(weeks.record) < len(active)
    assert list_mondays([weeks])[-1].asked == (weeks.as_of == weeks.as_of.max()).sum()


def test_predictions_of_every_rhythm_are_judged_in_their_own_time(
    shop: Store, bundle: ModelBundle, tmp_path: Path
) -> None:
    store = copy_store(shop, tmp_path / "watched.db")
    said = []
    for days_ago in range(200, 700, 60):
        as_of = NOW - timedelta(days=days_ago)
        ids = open_records(store, "account", as_of, kind="rhythm").ids.tolist()
        answered = score_records(store, bundle, ids, as_of)
        then = Store(str(store.engine.url), clock=FixedClock(as_of))
        write_scores(then, bundle, answered, as_of)
        then.close()
        said += answered
    assert {one.horizon_days for one in said} > {60, 180}
    (found,) = (one for one in watch(store, bundle).findings if one.kind == "performance")
    assert found.evidence is not None, found.why
    assert found.evidence["predictions"] == len(said)
    store.close()


def test_who_was_right_is_asked_once_each_rhythm_has_had_its_time(
    shop: Store, bundle: ModelBundle, tmp_path: Path
) -> None:
    store = copy_store(shop, tmp_path / "shadows.db")
    as_of = NOW - timedelta(days=100)
    ids = open_records(store, "account", as_of, kind="rhythm").ids.tolist()
    said = score_records(store, bundle, ids, as_of)
    match = Match(
        task="churn", record_type="account", as_of=as_of, horizon_days=90, challenger="new", champion="old"
    )
    shadows = [
        Shadow(
            record_id=one.record_id,
            probability=one.probability or 0.0,
            champion_probability=0.5,
            grade="A",
            champion_grade="A",
        )
        for one in said
    ]
    with store.transaction(source=Source.MODEL) as transaction:
        write_shadows(transaction, match, shadows)
    found = compare_shadows(store, "churn", challenger="new", champion="old")
    assert found.matured == sum((one.horizon_days or 0) <= 100 for one in said) < len(said)
    store.close()


def test_what_goes_with_another_score_is_told_of_the_customers_own_time(
    shop: Store, bundle: ModelBundle
) -> None:
    ids = open_records(shop, "account", NOW, kind="rhythm").ids.tolist()
    (said, *_) = score_records(shop, bundle, ids, NOW)
    found = what_would_change(shop, bundle, said.record_id, NOW)
    assert (found.horizon_days, found.probability) == (said.horizon_days, said.probability)


def test_a_company_is_asked_by_contracts_where_there_are_any_and_by_rhythm_else(
    shop: Store, tmp_path: Path
) -> None:
    assert TASK.in_store(shop) == RHYTHM
    assert ORDERS.in_store(shop) == ORDERS, "the fixed time can still be chosen"
    store = copy_store(shop, tmp_path / "contracts.db")
    with store.transaction() as transaction:
        make_contract(transaction, account_id=make_account(transaction).id)
    assert TASK.in_store(store) == CONTRACTS
    store.close()
