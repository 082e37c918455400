"""Exports without dates are learned by cross-validation, and everything said of them says so."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from crm_core.arrays import NO_INSTANT
from crm_core.changes import Source
from crm_core.clock import FixedClock, instant, micros
from crm_core.deals import close_deal
from crm_core.errors import DeclarationError, LeakageError, MappingError
from crm_core.fields import FieldKind, Known, declare_field, known_at
from crm_core.importing import run_import
from crm_core.importing.mapping import parse_mapping
from crm_core.predictions import IN_THE_END_DAYS
from crm_core.records import Deal
from crm_core.store import Store
from features.asked_once import ending_labels, undated_cohort
from features.cohort import Cohort
from models.guard import count_repeats
from models.questions import alike
from models.registry import Registry
from models.report import TrainingReport
from models.scoring import load_champion, score_all
from models.tasks import get_task
from models.training import train
from tests.factories import make_account, make_deal
from tests.models.conftest import NOW, open_registry

ROWS = 420

CUSTOMERS = {
    "name": "customers",
    "files": {"customers": {"path": "customers.csv"}},
    "records": [
        {
            "name": "customers",
            "record": "account",
            "file": "customers",
            "external_id": "id",
            "undated": True,
            "known": "creation",
            "fields": {"name": {"template": "Customer {id}"}},
            "custom": {
                "left": {"column": "left", "kind": "flag", "known": "outcome"},
                "plan": {"column": "plan", "kind": "text"},
                "fee": {"column": "fee", "kind": "number"},
                "days_until_leaving": {"column": "days", "kind": "number", "known": "outcome"},
            },
        }
    ],
}


def write_customers(folder: Path) -> None:
    """Write customers of two plans, one of which is left three times as often; who leaves had few days."""
    random = np.random.default_rng(4)
    with (folder / "customers.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "plan", "fee", "days", "left"])
        for number in range(ROWS):
            plan = str(random.choice(["monthly", "yearly"]))
            left = random.random() < (0.6 if plan == "monthly" else 0.2)
            days = random.uniform(0, 100) + (0 if left else 60)
            out.writerow(
                [number, plan, round(random.uniform(10, 90), 2), round(days), "yes" if left else "no"]
            )


def believing(name: str, known: str) -> dict[str, object]:
    """Return the mapping with another belief about when a field is known."""
    (step,) = CUSTOMERS["records"]  # type: ignore[misc]
    custom = {**step["custom"], name: {**step["custom"][name], "known": known}}
    return {**CUSTOMERS, "records": [{**step, "custom": custom}]}


@pytest.fixture
def customers(store: Store, tmp_path: Path) -> Store:
    write_customers(tmp_path)
    run_import(store, parse_mapping(CUSTOMERS), tmp_path)
    return store


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A store of customers without dates, its registry, and the report on its first model."""

    store: Store
    registry: Registry
    report: TrainingReport


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, tracking_template: Path
) -> Iterator[Trained]:
    home = tmp_path_factory.mktemp("undated")
    write_customers(home)
    shutil.copy(empty_database, home / "crm.db")
    store = Store(f"sqlite:///{home / 'crm.db'}", clock=FixedClock(NOW))
    registry = open_registry(home, tracking_template)
    run_import(store, parse_mapping(CUSTOMERS), home)
    report = train(store, get_task("churn"), registry=registry, promote=True)
    yield Trained(store=store, registry=registry, report=report)
    store.close()


def test_an_undated_import_says_so_in_the_store_and_twice_changes_nothing(
    customers: Store, tmp_path: Path
) -> None:
    with customers.reading() as session:
        assert known_at(session, "account", "occurred_at") == Known.UNKNOWN
    again = run_import(customers, parse_mapping(CUSTOMERS), tmp_path)
    assert (again.steps[0].unchanged, again.steps[0].notes) == (ROWS, {})


def test_an_undated_step_takes_no_dates() -> None:
    (step,) = CUSTOMERS["records"]  # type: ignore[misc]
    with pytest.raises(MappingError, match=r"occurred_at.*a step that is undated has no dates"):
        parse_mapping({**CUSTOMERS, "records": [{**step, "occurred_at": "since"}]})


def test_it_is_judged_on_records_set_aside_and_the_report_says_that_no_time_order_was_possible(
    trained: Trained,
) -> None:
    report = trained.report
    told = report.to_json()
    assert (told["no_time_order"], told["variant"], told["horizon_days"]) == (
        True,
        "undated",
        IN_THE_END_DAYS,
    )
    main = report.judged.main
    assert main.questions == ROWS
    assert 0.62 < main.metrics["model"]["auc"].value < 0.78
    assert 0.6 < main.metrics["model"]["calibration_slope"].value < 1.6
    assert main.metrics["model"]["log_loss"].value < main.metrics["base_rate"]["log_loss"].value
    assert report.promoted


def test_only_fields_declared_as_known_at_creation_are_looked_at(trained: Trained) -> None:
    assert set(trained.report.bundle.features) == {"custom_plan", "custom_fee"}


def test_who_has_not_left_is_scored(trained: Trained) -> None:
    store, registry = trained.store, trained.registry
    bundle = load_champion(store, "churn", registry.models_folder, lambda: registry)
    outcomes = bundle.trained["outcomes"]
    assert 0 < outcomes < ROWS
    assert score_all(store, bundle, store.clock.now()) == ROWS - outcomes


def test_a_later_model_without_dates_is_not_promoted_by_itself(trained: Trained) -> None:
    assert trained.report.promoted
    again = train(trained.store, get_task("churn"), registry=trained.registry, promote=True)
    assert not again.promoted
    assert "no time order" in again.gate.reason


def test_what_is_measured_on_the_way_is_refused_by_its_name_until_somebody_overrules(
    store: Store, tmp_path: Path, registry: Registry
) -> None:
    write_customers(tmp_path)
    run_import(store, parse_mapping(believing("days_until_leaving", "creation")), tmp_path)
    with pytest.raises(LeakageError, match=r"account\.custom\.days_until_leaving.*'days'"):
        train(store, get_task("churn"), registry=registry)
    done = train(
        store, get_task("churn"), registry=registry, overruled=["days_until_leaving"], overruled_by="Dana"
    )
    guard = done.to_json()["guard"]
    assert (guard["overruled"], guard["overruled_by"]) == (["days_until_leaving"], "Dana")
    assert [each["fields"] for each in guard["suspicions"]] == [["account.custom.days_until_leaving"]]


def test_two_flags_known_at_the_outcome_leave_open_which_one_it_is(customers: Store) -> None:
    with customers.transaction(source=Source.IMPORT) as transaction:
        declare_field(
            transaction.session,
            record_type="account",
            name="custom.paid",
            known=Known.OUTCOME,
            kind=FieldKind.FLAG,
        )
    with pytest.raises(DeclarationError, match=r"one flag .* found custom\.left, custom\.paid"):
        undated_cohort(customers, start=instant(0), until=customers.clock.now(), record_type="account")


def test_all_are_asked_from_one_instant(customers: Store) -> None:
    cohort = undated_cohort(customers, start=instant(0), until=customers.clock.now(), record_type="account")
    assert len(cohort) == ROWS
    assert len(np.unique(cohort.as_of)) == 1


def test_rows_alike_are_one_group_whatever_came_of_them(customers: Store) -> None:
    import pandas as pd

    frame = pd.DataFrame({"plan": ["a", "a", "b", None, None], "fee": [1.0, 1.0, 1.0, np.nan, np.nan]})
    group = alike(frame).tolist()
    assert group[0] == group[1]
    assert group[3] == group[4]
    assert len(set(group)) == 3


def test_a_question_about_the_end_is_over_when_the_end_is_known_and_open_deals_are_pending(
    store: Store,
) -> None:
    now = store.clock.now()
    with store.transaction(source=Source.REP) as transaction:
        account = make_account(transaction)
        won, going = make_deal(transaction, account_id=account.id), make_deal(transaction)
        close_deal(transaction, won, won=True)
        ids = [won.id, going.id]
    cohort = Cohort.at("deal", ids, now)
    labels = ending_labels(store, cohort)
    assert labels.over_at is not None
    assert labels.over_at.tolist() == [micros(now), NO_INSTANT]
    assert (labels.known_until > cohort.as_of).tolist() == [True, False]
    assert (labels.event_at != NO_INSTANT).tolist() == [True, False]
    before = ending_labels(store, cohort, known_at=micros(now) - 1)
    assert (before.known_until > cohort.as_of).tolist() == [False, False]
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Deal)) == 2


def test_copies_under_other_accounts_are_counted_where_rare_numbers_give_them_away() -> None:
    import pandas as pd

    random = np.random.default_rng(0)
    once = pd.DataFrame(
        {"amount": random.normal(size=200), "days": random.normal(size=200), "source": ["web"] * 200}
    )
    frame = pd.concat([once, once[:20]], ignore_index=True)
    found = count_repeats(frame, np.arange(220))
    assert (found.rows, found.accounts, found.of_accounts) == (40, 40, 220)
    assert count_repeats(frame[["source"]], np.arange(220)).rows == 0
    assert count_repeats(frame, np.arange(220) % 200).rows == 0
