"""Any stored prediction comes out the same, to the bit, whatever has happened since; or it is said why."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.clock import FixedClock, instant
from crm_core.errors import DamagedModelError, FeatureSetMismatchError, ModelNotFoundError
from crm_core.fields import Known, declare_field
from crm_core.leads import convert_lead
from crm_core.merging import merge_records
from crm_core.opting_out import set_scoring_opt_out
from crm_core.personal import erase_person
from crm_core.predictions import Prediction
from crm_core.promotions import Challenger, Promotion
from crm_core.records import Account, Activity, Contact, Deal, Lead, LeadStatus, Order, Record
from crm_core.store import Store, Transaction
from features.cohort import Cohort, account_cohort, deal_cohort, lead_cohort, open_records
from features.feature_set import feature_set_for
from features.frame import build_frame
from models.bundle import ModelBundle, load_bundle
from models.kept import keep_bytes, kept_file
from models.lineage import Recomputed, load_model_of, recompute
from models.scoring import answer_records, score_records, write_scores
from tests.crm_core.conftest import database  # noqa: F401  fixtures
from tests.factories import make_account, make_contract
from tests.features.worlds import BEGIN, END, fill_store, make_world
from tests.models.test_bundle import RECIPES, fit, make_bundle, make_frame
from tests.models.test_registry import _fail

COHORTS: dict[str, Callable[..., Cohort]] = {
    "lead_scoring": lead_cohort,
    "win_probability": deal_cohort,
    "churn": lambda store, **given: account_cohort(store, kind="contracts", **given),
}
RECORD_TYPE = {"lead_scoring": "lead", "win_probability": "deal", "churn": "account"}
WORLD = make_world(random.Random(11).choice, 150)


def make_model(store: Store, task: str) -> ModelBundle:
    """Return a model of a task that reads every feature there is, fitted to chance."""
    features = feature_set_for(store, task)
    asked = COHORTS[task](store, start=instant(BEGIN), until=instant(END))
    frame = build_frame(store, asked, features)
    strength = np.random.default_rng(7).normal(size=len(frame))
    encoder, fitted = fit(frame, RECIPES["trees on logistic"], strength)
    made = replace(
        make_bundle(make_frame(), RECIPES["base rate"]),
        task=task,
        variant="contracts" if task == "churn" else "",
        record_type=RECORD_TYPE[task],
        feature_set_fingerprint=features.fingerprint,
        features=features.names,
        encoder=encoder,
        estimator=fitted.estimator,
        levels=fitted.levels,
        fading=fitted.fading,
    )
    return load_bundle(made.to_bytes(), made.sha256, version=f"{task}-1-{made.sha256[:8]}")


@pytest.fixture
def world(database: str) -> Iterator[Store]:  # noqa: F811  the fixture
    """A world with all that is hard in it, once on each database."""
    store = fill_store(WORLD, database)
    with store.transaction() as transaction:
        for _ in range(6):
            customer = make_account(transaction, region="here")
            make_contract(transaction, account_id=customer.id)
    advance(store, 1)
    yield store
    store.close()


@pytest.fixture
def small(tmp_path: Path, empty_database: Path) -> Iterator[Store]:
    """The same on SQLite alone."""
    path = tmp_path / "small.db"
    path.write_bytes(empty_database.read_bytes())
    store = fill_store(WORLD, f"sqlite:///{path}")
    yield store
    store.close()


def advance(store: Store, hours: float) -> None:
    assert isinstance(store.clock, FixedClock)
    store.clock.advance(timedelta(hours=hours))


def score_everything(store: Store, model: ModelBundle) -> int:
    """Score all open records in one batch, and write it down."""
    now = store.clock.now()
    ids = open_records(store, model.record_type, now, kind=model.variant or None).ids.tolist()
    return write_scores(store, model, score_records(store, model, ids, now), now)


def stored(store: Store, task: str) -> list[Prediction]:
    with store.reading() as session:
        found = list(session.scalars(select(Prediction).where(Prediction.task == task)))
        session.expunge_all()
        return found


def recomputed(store: Store, model: ModelBundle) -> list[Recomputed]:
    return [recompute(store, model, each) for each in stored(store, model.task)]


def edit(store: Store, chance: random.Random) -> None:
    """Do one thing to the store, chosen by chance, as people do it: now, or told late."""
    now = store.clock.now()
    back = timedelta(hours=chance.choice([0, 0, 30, 24 * 40, 24 * 200]))
    with store.transaction(source=Source.REP) as transaction:
        model = chance.choice([Lead, Deal, Account])
        query = select(model).where(model.deleted_at.is_(None)).order_by(model.id)
        records = list(transaction.session.scalars(query))
        if not records:
            return
        chance.choice(EDITS)(transaction, chance.choice(records), records, back)
    assert store.clock.now() == now


def _log(transaction: Transaction, record: Record, _: list[Any], back: timedelta) -> None:
    link = {f"{record.record_type}_id": record.id}
    when = transaction.now - back
    transaction.create(Activity(kind="call", direction="inbound", occurred_at=when, **link))
    if isinstance(record, Account):
        transaction.create(Order(account_id=record.id, amount=500, currency="EUR", occurred_at=when))


def _change(transaction: Transaction, record: Record, _: list[Any], back: timedelta) -> None:
    values: dict[str, Any] = {"owner_id": 2} if isinstance(record, Deal) else {"region": "elsewhere"}
    if isinstance(record, Lead):
        values |= {"source": "b", "custom.budget": 77.5}
    when = max(record.occurred_at, transaction.now - back)
    transaction.update_many(type(record), [Update(record_id=record.id, values=values, occurred_at=when)])


def _close(transaction: Transaction, record: Record, _: list[Any], __: timedelta) -> None:
    if isinstance(record, Lead) and record.status == LeadStatus.OPEN and record.account_id is None:
        convert_lead(transaction, record)
    elif isinstance(record, Deal):
        transaction.update(record, {"status": "won"})


def _delete(transaction: Transaction, record: Record, _: list[Any], __: timedelta) -> None:
    transaction.delete(record)


def _merge(transaction: Transaction, record: Record, others: list[Any], _: timedelta) -> None:
    other = next((each for each in others if each.id != record.id), None)
    if isinstance(record, Deal) or other is None or getattr(other, "status", None) == LeadStatus.CONVERTED:
        return
    merge_records(transaction, record, other)


def _silence(transaction: Transaction, record: Record, _: list[Any], __: timedelta) -> None:
    if isinstance(record, Lead | Account):
        set_scoring_opt_out(transaction, record, opted_out=True)


EDITS = [_log, _log, _log, _change, _change, _change, _close, _delete, _merge, _silence]


@pytest.mark.parametrize("task", COHORTS)
def test_whatever_is_done_later_every_prediction_comes_out_the_same(world: Store, task: str) -> None:
    model, chance = make_model(world, task), random.Random(3)
    for _ in range(4):
        score_everything(world, model)
        for _ in range(12):
            advance(world, chance.choice([0.001, 1, 40]))
            edit(world, chance)
        advance(world, 1)
    found = recomputed(world, model)
    assert len({each.prediction_id for each in found}) == len(stored(world, task)) >= 2
    assert [each.differences for each in found if not each.same] == []
    assert {each.features for each in found} == {len(model.features)}


@pytest.mark.parametrize("task", COHORTS)
def test_one_record_alone_gets_the_bits_that_it_gets_among_all(small: Store, task: str) -> None:
    model, now = make_model(small, task), small.clock.now()
    ids = open_records(small, model.record_type, now, kind=model.variant or None).ids.tolist()
    together = {each.record_id: each for each in answer_records(small, model, ids, now)}
    assert together
    for record_id in ids[:12]:
        assert answer_records(small, model, [record_id], now) == [together[record_id]]


def test_a_prediction_that_was_tampered_with_is_told_apart(small: Store) -> None:
    model = make_model(small, "lead_scoring")
    score_everything(small, model)
    (first, second, third, *_) = stored(small, "lead_scoring")
    assert first.probability is not None
    assert third.reasons is not None
    moved = [{**third.reasons[0], "value": "poison"}, *third.reasons[1:]]
    with small.transaction() as transaction:
        for row, values in (
            (first, {"probability": np.nextafter(first.probability, 1)}),
            (second, {"score": 101, "grade": "Z", "within": {"30": 0.5}}),
            (third, {"reasons": moved}),
        ):
            transaction.session.execute(update(Prediction).where(Prediction.id == row.id).values(**values))
    found = {each.prediction_id: each for each in recomputed(small, model)}
    assert [one.what for one in found[first.id].differences] == ["probability"]
    assert [one.what for one in found[second.id].differences] == ["score", "grade", "within"]
    (reason,) = found[third.id].differences
    assert reason.what == f"reason {moved[0]['group']}"
    assert reason.stored["value"] == "poison"
    assert sum(not each.same for each in found.values()) == 3


def test_what_somebody_claims_later_to_have_been_known_is_named_as_the_reason(small: Store) -> None:
    model = make_model(small, "lead_scoring")
    score_everything(small, model)
    asked_of = stored(small, "lead_scoring")[0]
    advance(small, 5)
    with small.transaction(source=Source.REP) as transaction:
        transaction.create(Activity(kind="call", direction="inbound", lead_id=asked_of.record_id))
    before = asked_of.as_of - timedelta(days=1)
    with small.transaction(source=Source.IMPORT) as transaction:
        for _ in range(9):
            claimed = {"occurred_at": before, "recorded_at": before}
            transaction.create(
                Activity(kind="meeting", direction="inbound", lead_id=asked_of.record_id, **claimed)
            )
    found = recompute(small, model, asked_of)
    assert not found.same
    assert found.since == ("9 changes of type activity were written later, as known by then",)


def test_an_erasure_that_took_the_reasons_is_named(small: Store) -> None:
    model = make_model(small, "lead_scoring")
    score_everything(small, model)
    asked_of = stored(small, "lead_scoring")[0]
    advance(small, 1)
    with small.transaction() as transaction:
        transaction.create(Contact(name="Wang Fang", email="wang@example.com"))
        lead = transaction.get(Lead, asked_of.record_id)
        transaction.update(lead, {"email": "wang@example.com"})
        erase_person(transaction, mail="wang@example.com")
    found = recompute(small, model, stored(small, "lead_scoring")[0])
    assert "reasons" in [one.what for one in found.differences]
    assert "1 records of type lead were erased, or lost what told of somebody" in found.since


def test_a_feature_of_another_meaning_is_refused_and_not_compared(small: Store) -> None:
    model = make_model(small, "lead_scoring")
    score_everything(small, model)
    with small.transaction() as transaction:
        declare_field(transaction.session, record_type="lead", name="region", known=Known.OUTCOME)
    with pytest.raises(FeatureSetMismatchError, match="region"):
        recompute(small, model, stored(small, "lead_scoring")[0])


def test_the_model_is_found_by_its_name_whether_it_served_or_not(small: Store, tmp_path: Path) -> None:
    model = make_model(small, "lead_scoring")
    score_everything(small, model)
    asked_of = stored(small, "lead_scoring")[0]
    row = {"task": model.task, "model_version": model.version, "sha256": model.sha256, "run_id": "r"}
    for made in (
        Challenger(**row, named_at=small.clock.now()),
        Promotion(**row, promoted_at=small.clock.now(), reason="a test"),
    ):
        with small.transaction() as transaction:
            transaction.session.add(made)
        keep_bytes(tmp_path, model.to_bytes(), model.sha256)
        found = load_model_of(small, asked_of, tmp_path, _fail)
        assert recompute(small, found, asked_of).same
    path = kept_file(tmp_path, model.sha256)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedModelError):
        load_model_of(small, asked_of, tmp_path, _fail)


def test_a_model_that_nobody_knows_is_not_found(small: Store, tmp_path: Path) -> None:
    class Nothing:
        def get_version_by_name(self, name: str) -> None:
            raise ModelNotFoundError(name)

    model = make_model(small, "lead_scoring")
    score_everything(small, model)
    with pytest.raises(ModelNotFoundError, match=model.version):
        load_model_of(small, stored(small, "lead_scoring")[0], tmp_path, Nothing)  # type: ignore[arg-type]  # enough of one
