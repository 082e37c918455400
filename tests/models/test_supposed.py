"""A record that is supposed to exist: it gets the very bits that it would get if it were created."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from sqlalchemy import func, select

from crm_core.bulk import Update
from crm_core.changes import Change, Source
from crm_core.clock import FixedClock, micros
from crm_core.predictions import NewPrediction
from crm_core.records import RECORD_TYPES, Account, Activity, Contract, Deal, Lead, Order, Record
from crm_core.store import Store
from features.cohort import Cohort
from features.feature_set import feature_set_for
from features.frame import build_frame
from features.supposed import FIRST_ID, Supposed
from models.building import build_bundle, gather
from models.bundle import ModelBundle, load_bundle
from models.fitting import Recipe, Rung
from models.questions import ask, first_instant
from models.scoring import score_records, score_supposed
from models.simulation import simulate_company
from models.tasks import get_task
from tests.conftest import make_postgres_database
from tests.factories import declare_custom
from tests.models.conftest import NOW

TASKS = {"lead": "lead_scoring", "deal": "win_probability", "account": "churn"}
DAY = timedelta(days=1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def company(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[Store]:
    """A tiny company on either database, some of whose records have a tier and a rank."""
    if request.param == "postgresql":
        url = make_postgres_database(request.getfixturevalue("postgres_url"))
    else:
        path = tmp_path_factory.mktemp("supposed") / "crm.db"
        shutil.copy(empty_database, path)
        url = f"sqlite:///{path}"
    store = Store(url, clock=FixedClock(NOW))
    simulate_company(store, size="tiny", seed=5)
    with store.transaction(source=Source.IMPORT) as step:
        for record_type in TASKS:
            declare_custom(step, record_type, tier="text", rank="number", due="day", budget="money")
    give_custom_values(store)
    yield store
    store.close()


def give_custom_values(store: Store) -> None:
    """Write a tier and a rank on two of three records, as known since long ago."""
    with store.transaction(source=Source.IMPORT) as step:
        for model in (Lead, Deal, Account):
            rows = step.session.execute(select(model.id, model.occurred_at).order_by(model.id)).all()
            step.update_many(
                model,
                [
                    Update(
                        record_id=record_id,
                        values={
                            "custom.tier": "gold" if record_id % 3 else "tin",
                            "custom.rank": record_id % 7,
                        },
                        occurred_at=since,
                        recorded_at=since,
                    )
                    for record_id, since in rows
                    if record_id % 3 != 2
                ],
            )


@pytest.fixture(scope="module")
def bundles(company: Store) -> Mapping[str, ModelBundle]:
    """A logistic model of each task."""
    made = {}
    for record_type, name in TASKS.items():
        task, features = get_task(name).in_store(company), feature_set_for(company, name)
        questions = ask(company, task, features, task.ask, start=first_instant(company, task), until=NOW)
        recipe = Recipe(rung=Rung.LOGISTIC, penalty=10.0)
        bundle = build_bundle(gather(questions, company, features, micros(NOW)), recipe=recipe).bundle
        made[record_type] = load_bundle(
            bundle.to_bytes(), bundle.sha256, version=f"{name}-1-{bundle.sha256[:8]}"
        )
    return made


def usual(store: Store, column: Any) -> Any:
    """What most records hold in a field."""
    query = select(column).where(column.is_not(None)).group_by(column)
    with store.reading() as session:
        return session.scalars(query.order_by(func.count().desc(), column)).first()


def drafts(store: Store, record_type: str, kind: str) -> list[dict[str, Any]]:
    """What somebody might send: the record first, then what is linked to it, as fields with their type."""
    custom = {"tier": "gold", "rank": 3, "due": date(2026, 5, 1), "budget": Decimal("1200.50")}
    activities = [
        {
            "type": Activity,
            "kind": "call",
            "direction": "outbound",
            "occurred_at": NOW - 9 * DAY,
            "duration_seconds": 300,
        },
        {"type": Activity, "kind": "mail", "direction": "inbound", "occurred_at": NOW - 8.5 * DAY},
        {"type": Activity, "kind": "mail", "direction": "inbound", "occurred_at": NOW},
        {"type": Activity, "kind": "meeting", "occurred_at": NOW - (400 if kind == "late" else 20) * DAY},
    ]
    records: dict[str, dict[str, Any]] = {
        "lead": {
            "type": Lead,
            "company": "Neu GmbH",
            "source": usual(store, Lead.source),
            "region": usual(store, Lead.region),
            "employees": 40,
        },
        "deal": {
            "type": Deal,
            "name": "Neu",
            "stage": "proposal",
            "amount": Decimal(25_000),
            "currency": "EUR",
            "account_id": usual(store, Deal.account_id),
            "expected_close_on": date(2026, 4, 1),
            "rep_probability": 0.6,
            "source": usual(store, Deal.source),
        },
        "account": {
            "type": Account,
            "name": "Neu AG",
            "industry": usual(store, Account.industry),
            "region": usual(store, Account.region),
            "employees": 120,
        },
    }
    record = {**records[record_type], "owner_id": usual(store, Deal.owner_id), "custom": custom}
    if kind == "bare":
        return [
            {name: value for name, value in record.items() if name in {"type", "name", "company", "stage"}}
        ]
    if kind == "late":
        record["occurred_at"] = NOW - 200 * DAY
    if kind == "strange":
        record["source" if record_type != "account" else "industry"] = "unheard of"
    more = [
        {
            "type": Contract,
            "starts_on": date(2025, 6, 1),
            "ends_on": date(2026, 5, 31),
            "value": Decimal(9_000),
        },
        {"type": Order, "amount": Decimal("99.95"), "currency": "EUR", "occurred_at": NOW - 40 * DAY},
        {"type": Order, "amount": Decimal(500), "currency": "EUR", "occurred_at": NOW - 40 * DAY},
    ]
    return [record, *activities, *(more if record_type == "account" else [])]


def made(drafted: list[dict[str, Any]], record_id: int) -> list[Record]:
    """The records of a draft, linked as logging them links them."""
    first, *rest = drafted
    found = [_record(first)]
    for each in rest:
        link: dict[str, Any] = {f"{first['type'].record_type}_id": record_id}
        if first["type"] is Deal and each["type"] is Activity:
            link["account_id"] = first.get("account_id")
        found.append(_record({**each, **link}))
    return found


def _record(values: dict[str, Any]) -> Record:
    fields = {name: value for name, value in values.items() if name != "type"}
    record: Record = values["type"](**fields)
    return record


def suppose(store: Store, drafted: list[dict[str, Any]]) -> Supposed:
    records = made(drafted, FIRST_ID)
    with store.supposing() as transaction:
        for record in records:
            transaction.prepare(record)
        return Supposed.of(records[0], records[1:])


def create(store: Store, drafted: list[dict[str, Any]]) -> int:
    with store.transaction(source=Source.API) as transaction:
        first = transaction.create(made(drafted[:1], 0)[0])
    with store.transaction(source=Source.API) as transaction:
        for record in made(drafted, first.id)[1:]:
            transaction.create(record)
    return first.id


@pytest.mark.parametrize("record_type", TASKS)
@pytest.mark.parametrize("kind", ["bare", "full", "late", "strange"])
def test_a_supposed_record_gets_what_the_created_one_gets(
    company: Store, bundles: Mapping[str, ModelBundle], record_type: str, kind: str
) -> None:
    drafted = drafts(company, record_type, kind)
    supposed = suppose(company, drafted)
    features = feature_set_for(company, TASKS[record_type])
    cohort = Cohort.single(record_type, FIRST_ID, NOW)
    row = build_frame(company, cohort, features, supposed)
    said = score_supposed(company, bundles[record_type], supposed, NOW)
    record_id = create(company, drafted)
    assert_frame_equal(
        row, build_frame(company, Cohort.single(record_type, record_id, NOW), features), check_exact=True
    )
    real = score_records(company, bundles[record_type], [record_id], NOW)
    assert real == ([] if said is None else [replace(said, record_id=record_id)])
    if kind == "full":
        assert real[0].probability is not None, real[0].reasons


def test_what_is_supposed_reaches_the_features(company: Store) -> None:
    drafted = drafts(company, "account", "full")
    features = feature_set_for(company, "churn")
    cohort = Cohort.single("account", FIRST_ID, NOW)
    row = build_frame(company, cohort, features, suppose(company, drafted)).iloc[0]
    bare = build_frame(company, cohort, features, suppose(company, drafted[:1])).iloc[0]
    (tier,) = (name for name in features.names if "tier" in name)
    assert row[tier] == "gold"
    assert sum(bool(row[name] != bare[name]) and row[name] == row[name] for name in features.names) > 10


def test_nothing_is_written_and_no_lock_is_taken(company: Store, bundles: Mapping[str, ModelBundle]) -> None:
    def state() -> list[Any]:
        with company.reading() as session:
            counts = [
                session.scalar(select(func.count()).select_from(model)) for model in RECORD_TYPES.values()
            ]
            return [*counts, session.scalar(select(func.max(Change.id)))]

    before = state()
    with company.transaction():  # SQLite lets nobody else write meanwhile
        supposed = suppose(company, drafts(company, "deal", "full"))
        first = score_supposed(company, bundles["deal"], supposed, NOW)
    assert state() == before
    assert isinstance(first, NewPrediction)
    assert first == score_supposed(company, bundles["deal"], supposed, NOW)
    assert np.isfinite(first.probability or np.nan)
