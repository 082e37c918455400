"""By how much time, data and the model each moved a probability."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pandas import DataFrame
from pandas.testing import assert_frame_equal

from crm_core.clock import FixedClock, micros
from crm_core.deals import move_deal
from crm_core.promotions import Promotion
from crm_core.records import Account, Deal, Lead, Order
from crm_core.store import Store
from features.blocks import columns_from
from features.cohort import Cohort
from features.feature_set import feature_set_for
from features.frame import frame_of
from features.known_by import known_by
from features.population import read_all
from models.building import build_bundle, gather
from models.bundle import ModelBundle, load_bundle
from models.fitting import Recipe, Rung
from models.kept import keep_bytes
from models.lead_scoring import TASK
from models.questions import ask, first_instant
from models.scoring import score_records, write_scores
from serving.home import Home
from serving.score_history import Parts, read_score_history
from tests.factories import (
    declare_custom,
    make_account,
    make_activity,
    make_deal,
    make_lead,
    make_order,
    make_ticket,
    make_user,
)
from tests.models.conftest import NOW


def serve(store: Store, home: Path, bundle: ModelBundle) -> None:
    """Put a bundle in charge, and lay its file beside the records."""
    keep_bytes(home / "models", bundle.to_bytes(), bundle.sha256)
    with store.transaction() as transaction:
        transaction.session.add(
            Promotion(
                task=bundle.task,
                model_version=bundle.version,
                sha256=bundle.sha256,
                run_id="hand",
                promoted_at=transaction.now,
                reason="tried",
            )
        )


@pytest.fixture
def two_models(copied: Store, bundle: ModelBundle) -> tuple[ModelBundle, ModelBundle]:
    """The model of the small business, and one that was shrunken more."""
    features = feature_set_for(copied, TASK.name)
    questions = ask(copied, TASK, features, TASK.ask, start=first_instant(copied, TASK), until=NOW)
    recipe = Recipe(rung=Rung.LOGISTIC, penalty=100.0)
    other = build_bundle(gather(questions, copied, features, micros(NOW)), recipe=recipe).bundle
    return bundle, load_bundle(other.to_bytes(), other.sha256, version=f"lead_scoring-2-{other.sha256[:8]}")


def test_the_parts_of_time_data_and_model_add_up_and_are_what_each_alone_would_do(
    copied: Store, home: Path, two_models: tuple[ModelBundle, ModelBundle]
) -> None:
    first, second = (
        replace(one, version=f"lead_scoring-{n}-{one.sha256[:8]}") for n, one in enumerate(two_models)
    )
    clock = FixedClock(NOW)
    copied.clock = clock
    with copied.transaction() as transaction:
        adam = make_user(transaction, "Adam", role="admin")
        lead = make_lead(transaction, source="web", region="north", occurred_at=NOW - timedelta(days=3))

    def say(bundle: ModelBundle) -> float:
        (made,) = score_records(copied, bundle, [lead.id], clock.now())
        write_scores(copied, bundle, [made], clock.now())
        return made.probability or 0.0

    serve(copied, home, first)
    before = say(first)
    clock.advance(timedelta(days=20))
    (by_time,) = score_records(copied, first, [lead.id], clock.now())
    with copied.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"source": "referral"})
        make_activity(transaction, lead_id=lead.id)
    by_data = score_records(copied, first, [lead.id], clock.now())[0].probability or 0.0
    serve(copied, home, second)
    after = say(second)
    clock.advance(timedelta(hours=1))
    say(second)
    page = read_score_history(copied, adam, (Lead, lead.id), limit=10, home=Home.at(home))
    same, both, nothing = (entry.cause for entry in page.entries)
    assert both.kinds == ("data", "model")
    assert both.parts == Parts(
        time=(by_time.probability or 0.0) - before,
        data=by_data - (by_time.probability or 0.0),
        model=after - by_data,
    )
    assert both.parts.data > 0.01, "a referral is worth more"
    assert both.parts.time + both.parts.data + both.parts.model == pytest.approx(both.moved, abs=1e-15)
    assert (same.kinds, same.parts is not None and same.parts.model) == (("time",), 0.0)
    assert (nothing.kinds, nothing.parts) == (("first",), None)


def test_without_the_file_of_the_model_of_before_the_parts_are_not_known(
    copied: Store, home: Path, two_models: tuple[ModelBundle, ModelBundle]
) -> None:
    bundle = replace(two_models[0], version=f"lead_scoring-9-{two_models[0].sha256[:8]}")
    clock = FixedClock(NOW)
    copied.clock = clock
    with copied.transaction() as transaction:
        adam = make_user(transaction, "Adam", role="admin")
        lead = make_lead(transaction, source="web", region="north")
    for _ in range(2):
        write_scores(copied, bundle, score_records(copied, bundle, [lead.id], clock.now()), clock.now())
        clock.advance(timedelta(hours=1))
    newest, _ = read_score_history(copied, adam, (Lead, lead.id), limit=10, home=Home.at(home)).entries
    assert (newest.cause.parts, newest.cause.unknown) == (
        None,
        f"the file of {bundle.version} is not kept here",
    )


def test_what_was_learned_later_is_taken_out_as_if_it_had_not_been_written(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as step:
        declare_custom(step, "account", tier="text")
        ana = make_user(step)
        account = make_account(step, industry="metal", custom={"tier": "tin"})
        other = make_account(step)
        deal = make_deal(
            step, account_id=account.id, stage="needs", owner_id=ana.id, expected_close_on=date(2026, 6, 1)
        )
        order = make_order(step, account_id=account.id)
    clock.advance(timedelta(days=2))
    with store.transaction() as step:
        move_deal(step, step.get(Deal, deal.id), "proposal")
        step.update(step.get(Account, account.id), {"region": "north"})
    before = clock.now()
    later = before + timedelta(days=9)
    asked = [("win_probability", "deal", deal.id), ("churn", "account", account.id)]

    def frame(task: str, record_type: str, record_id: int, *, only: datetime | None) -> DataFrame:
        features, cohort = feature_set_for(store, task), Cohort.single(record_type, record_id, later)
        with store.reading() as session:
            tables = read_all(session, features.plan, cohort.ids)
        if only is not None:
            tables = known_by(tables, micros(only))
        return frame_of(columns_from(tables, cohort, features), features, 1)

    rows = [frame(*each, only=None) for each in asked]
    clock.advance(timedelta(days=5))
    with store.transaction() as step:
        held = step.get(Account, account.id)
        step.update(held, {"industry": "glass", "region": None, "custom.tier": "gold"})
        step.update(held, {"employees": 9}, occurred_at=before - timedelta(days=1))
        step.update(step.get(Order, order.id), {"account_id": other.id, "amount": Decimal(7)})
        move_deal(step, step.get(Deal, deal.id), "negotiation")
        step.update(step.get(Deal, deal.id), {"account_id": other.id})
        make_activity(step, deal_id=deal.id, occurred_at=before - timedelta(days=1))
        make_order(step, account_id=account.id)
        make_ticket(step, account_id=account.id)
    for each, row in zip(asked, rows, strict=True):
        assert_frame_equal(frame(*each, only=before), row, check_exact=True)
        assert not frame(*each, only=None).equals(row)
