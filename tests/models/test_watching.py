"""What has changed since a model was made: nothing, the records, the outcomes, or all of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crm_core.changes import Source
from crm_core.clock import FixedClock, micros
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Account, Contract, Deal, Lead
from crm_core.store import Store
from features.cohort import Cohort, open_records
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.bundle import ModelBundle
from models.drift import ratio_by_entity, shift_of_numbers, shift_of_words
from models.evaluation import Estimate
from models.fitting import Recipe, Rung
from models.lead_scoring import TASK
from models.questions import ask, first_instant
from models.scoring import score_records
from models.watching import Finding, Promise, State, WatchReport, reasons_to_train, watch
from models.worth import value_of
from tests.models.conftest import CHANCES, DAYS, NOW, convert

MADE = NOW - timedelta(days=150)
CHANGED = MADE
RECIPE = Recipe(rung=Rung.LOGISTIC, penalty=10.0)


def live(store: Store, chances: dict[str, float], *, sources: dict[str, float] | None = None) -> None:
    """Fill a store as `conftest.start_business` does, with other chances, or sources, after CHANGED."""
    random = np.random.default_rng(5)
    born = [NOW - timedelta(days=float(days)) for days in np.sort(random.uniform(0, DAYS, 1500))[::-1]]
    rows: list[dict[str, Any]] = []
    converted: list[datetime | None] = []
    for when in born:
        shares = sources if sources and when > CHANGED else dict.fromkeys(CHANCES, 1 / 3)
        source = str(random.choice(list(shares), p=list(shares.values())))
        chance = (chances if when > CHANGED else CHANCES)[source]
        rows.append({"company": "Company", "source": source, "occurred_at": when, "recorded_at": when})
        won = when + timedelta(days=float(random.uniform(0, 60)))
        converted.append(won if random.random() < chance and won <= NOW else None)
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(Lead, rows)
        convert(transaction, ids, converted)


def model_of(store: Store) -> ModelBundle:
    """Return a model made at MADE from what was known then."""
    features = feature_set_for(store, TASK.name)
    questions = ask(store, TASK, features, TASK.ask, start=first_instant(store, TASK), until=MADE)
    return build_bundle(gather(questions, store, features, micros(MADE)), recipe=RECIPE).bundle


def watched(folder: Path, empty_database: Path, chances: dict[str, float], **more: object) -> WatchReport:
    """Return the report on a model whose company went on with other chances."""
    path = folder / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    live(store, chances, **more)  # type: ignore[arg-type]  # sources, where given
    report = watch(store, model_of(store))
    store.close()
    return report


def of_kind(report: WatchReport, kind: str) -> Finding:
    return next(finding for finding in report.findings if finding.kind == kind)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> WatchReport:
    """Nothing changed."""
    return watched(tmp_path_factory.mktemp("steady"), empty_database, CHANCES)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> WatchReport:
    """The same leads, converted twice as often."""
    chances = {source: 2 * chance for source, chance in CHANCES.items()}
    return watched(tmp_path_factory.mktemp("doubled"), empty_database, chances)


@pytest.fixture(scope="module")
def other_leads(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> WatchReport:
    """Other leads, each converted as often as ever."""
    sources = {"referral": 0.8, "web": 0.1, "list": 0.1}
    return watched(tmp_path_factory.mktemp("other"), empty_database, CHANCES, sources=sources)


def test_a_company_that_goes_on_as_before_asks_for_nothing(steady: WatchReport) -> None:
    kinds = {finding.kind: finding.state for finding in steady.findings}
    assert kinds["calibration"] is State.OK
    assert kinds["inputs"] is State.OK
    assert steady.state is State.OK


def test_outcomes_that_come_twice_as_often_are_a_reason_to_train(doubled: WatchReport) -> None:
    calibration = of_kind(doubled, "calibration")
    assert calibration.state is State.ACT
    assert calibration.value is not None
    assert calibration.value.low > 1.3
    assert of_kind(doubled, "outcomes").state is State.ACT
    assert of_kind(doubled, "inputs").state is State.OK
    assert any(reason.startswith("calibration") for reason in reasons_to_train(doubled))


def test_other_records_are_told_from_a_model_that_is_wrong(other_leads: WatchReport) -> None:
    inputs = of_kind(other_leads, "inputs")
    assert inputs.state is State.ACT
    assert inputs.evidence is not None
    assert inputs.evidence["features"][0]["feature"] == "source"
    assert of_kind(other_leads, "outcomes").state is State.ACT
    assert of_kind(other_leads, "calibration").state in (State.OK, State.WATCH)


def test_the_report_is_plain_data(doubled: WatchReport) -> None:
    told = doubled.to_json()
    assert told["state"] == "act"
    assert {finding["kind"] for finding in told["findings"]} == {
        "inputs",
        "outcomes",
        "calibration",
        "performance",
    }


def test_a_new_model_has_nothing_to_be_watched_by(business_copy: Store) -> None:
    features = feature_set_for(business_copy, TASK.name)
    start = first_instant(business_copy, TASK)
    questions = ask(business_copy, TASK, features, TASK.ask, start=start, until=NOW)
    material = gather(questions, business_copy, features, micros(NOW))
    report = watch(business_copy, build_bundle(material, recipe=RECIPE).bundle)
    assert {finding.state for finding in report.findings} == {State.UNKNOWN}
    assert report.new_outcomes == 0
    assert not reasons_to_train(report)


@pytest.fixture
def business_copy(tmp_path: Path, empty_database: Path) -> Iterator[Store]:
    """The small business."""
    path = tmp_path / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    live(store, CHANCES)
    yield store
    store.close()


def said_at(store: Store, bundle: ModelBundle, days_ago: int, *, turned: bool = False, late: int = 0) -> int:
    """Store what a model says, or its opposite, of all leads open so many days ago; return of how many."""
    as_of = NOW - timedelta(days=days_ago)
    ids = open_records(store, "lead", as_of).ids.tolist()
    said = score_records(store, bundle, ids, as_of)
    if turned:
        said = [
            NewPrediction(**vars(one) | {"probability": 0.5 - (one.probability or 0.0) / 2}) for one in said
        ]
    past = Store(str(store.engine.url), clock=FixedClock(as_of + timedelta(days=late)))
    with past.transaction(source=Source.MODEL) as transaction:
        written = write_predictions(
            transaction,
            task=TASK.name,
            record_type="lead",
            as_of=as_of,
            model_version=f"{bundle.version}-{days_ago}",
            horizon_days=bundle.horizon_days,
            predictions=said,
        )
    past.close()
    return written


def test_stored_predictions_are_judged_as_they_were_made(business_copy: Store) -> None:
    bundle = model_of(business_copy)
    for days_ago in (140, 110, 95):
        assert said_at(business_copy, bundle, days_ago)
    finding = of_kind(watch(business_copy, bundle), "performance")
    assert finding.state is State.OK
    assert finding.evidence is not None
    assert finding.evidence["outcomes"] >= 20


def test_predictions_worse_than_the_base_rate_are_a_reason_to_train(business_copy: Store) -> None:
    bundle = model_of(business_copy)
    for days_ago in (140, 110, 95):
        said_at(business_copy, bundle, days_ago, turned=True)
    report = watch(business_copy, bundle)
    assert of_kind(report, "performance").state is State.ACT
    assert any(reason.startswith("performance") for reason in reasons_to_train(report))


def test_an_answer_written_long_after_its_question_is_no_forecast(business_copy: Store) -> None:
    bundle = model_of(business_copy)
    assert said_at(business_copy, bundle, 140, late=100)
    finding = of_kind(watch(business_copy, bundle), "performance")
    assert finding.state is State.UNKNOWN


def test_a_promise_not_kept_is_told(business_copy: Store) -> None:
    bundle = model_of(business_copy)
    for days_ago in (140, 110, 95):
        said_at(business_copy, bundle, days_ago)
    boast = Promise(
        auc=Estimate(value=0.99, low=0.98, high=1.0), log_loss=Estimate(value=0.1, low=0.1, high=0.1)
    )
    assert of_kind(watch(business_copy, bundle, promise=boast), "performance").state is State.ACT


def test_equal_samples_have_not_shifted() -> None:
    values = np.random.default_rng(1).normal(size=2000)
    shift = shift_of_numbers(values, values, records=(2000, 2000))
    assert shift.index == pytest.approx(0, abs=1e-12)
    assert not shift.beyond_chance


def test_the_bound_of_chance_is_passed_by_one_sample_in_a_thousand() -> None:
    random = np.random.default_rng(2)
    passed = [
        shift_of_numbers(random.normal(size=300), random.normal(size=300), records=(300, 300)).beyond_chance
        for _ in range(1000)
    ]
    assert sum(passed) <= 12  # cuts from the earlier sample make it somewhat wider than chi-squared


def test_asking_weekly_about_few_records_is_not_much_evidence() -> None:
    few = np.repeat(np.random.default_rng(3).normal(size=20), 50)
    others = np.repeat(np.random.default_rng(4).normal(size=20), 50)
    assert shift_of_numbers(few, others, records=(1000, 1000)).beyond_chance
    assert not shift_of_numbers(few, others, records=(20, 20)).beyond_chance


def test_a_level_never_seen_before_counts() -> None:
    shift = shift_of_words(["web"] * 300, ["web"] * 150 + ["fair"] * 150, records=(300, 300))
    assert shift.beyond_chance
    assert shift.index > 1
    assert dict(zip(shift.bins, shift.after, strict=True))["other"] == pytest.approx(0.5, abs=0.01)


def test_missing_values_are_a_bin_of_their_own() -> None:
    before = np.r_[np.arange(100.0), [np.nan] * 10]
    after = np.r_[np.arange(50.0), [np.nan] * 60]
    shift = shift_of_numbers(before, after, records=(110, 110))
    assert shift.bins[shift.largest()] == "missing"


def test_a_ratio_is_as_sure_as_there_are_records() -> None:
    random = np.random.default_rng(6)
    chance = np.full(4000, 0.2)
    events = (random.random(4000) < chance).astype(np.float64)
    alone = ratio_by_entity(events, chance, np.arange(4000))
    in_groups = ratio_by_entity(np.repeat(events[:40], 100), chance, np.repeat(np.arange(40), 100))
    assert alone.low < 1 < alone.high
    assert in_groups.high - in_groups.low > 3 * (alone.high - alone.low)


def test_a_wrong_ratio_is_told_in_money(store: Store) -> None:
    """Two won deals of converted leads, of 100 and 300 EUR: a lead is worth 200."""
    now = store.clock.now()
    with store.transaction(source=Source.IMPORT) as transaction:
        for amount in (Decimal(100), Decimal(300)):
            deal = transaction.create(
                Deal(name="Deal", stage="paid", status="won", amount=amount, currency="EUR", closed_at=now)
            )
            transaction.create(Lead(company="Company", status="converted", converted_at=now, deal_id=deal.id))
    cohort = Cohort.at("lead", [1, 2, 3], now)
    assert value_of(store, cohort, np.array([0.1, 0.2, -0.05])) == {"EUR": 50.0}


def test_deals_and_customers_are_worth_what_they_hold(store: Store) -> None:
    now = store.clock.now()
    with store.transaction(source=Source.IMPORT) as transaction:
        account = transaction.create(Account(name="Customer"))
        deal = transaction.create(Deal(name="Deal", stage="needs", amount=Decimal(500), currency="USD"))
        empty = transaction.create(Deal(name="Deal", stage="needs"))
        transaction.create(
            Contract(
                account_id=account.id,
                starts_on=now.date() - timedelta(days=73),
                ends_on=now.date() + timedelta(days=73),
                value=Decimal(400),
                currency="EUR",
                occurred_at=now - timedelta(days=73),
            )
        )
        deals, customer = [deal.id, empty.id], [account.id]
    assert value_of(store, Cohort.at("deal", deals, now), np.array([0.5, 0.5])) == {"USD": 250.0}
    assert value_of(store, Cohort.at("account", customer, now), np.array([0.1])) == {"EUR": 100.0}
