"""The shipped mappings on the public data they were written for; skipped where the data is absent."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from crm_core.changes import Change
from crm_core.clock import FixedClock, micros
from crm_core.fields import observed_until
from crm_core.importing import ImportReport, load_mapping, run_import
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.importing.conftest import counts

# Each data set is imported once: with --dist loadgroup, both workers would not do it twice.
pytestmark = pytest.mark.xdist_group("real data")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A data set in a store of its own."""

    store: Store
    folder: Path
    report: ImportReport

    def value(self, query: str, **parameters: object) -> object:
        """Return the one value of an SQL query."""
        return one(self.store.engine, query, **parameters)


def one(engine: Engine, query: str, **parameters: object) -> object:
    with engine.connect() as connection:
        return connection.execute(text(query), parameters).scalar_one()


def load(name: str, folder: Path, database: Path, template: Path) -> Iterator[Imported]:
    shutil.copy(template, database)
    store = Store(f"sqlite:///{database}", clock=FixedClock(MONDAY))
    report = run_import(store, load_mapping(name), folder)
    yield Imported(store=store, folder=folder, report=report)
    store.close()


@pytest.fixture(scope="module")
def olist(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory, olist_imported: tuple[Path, ImportReport]
) -> Iterator[Imported]:
    imported, report = olist_imported
    database = shutil.copy(imported, tmp_path_factory.mktemp("olist") / "crm.db")
    store = Store(f"sqlite:///{database}", clock=FixedClock(MONDAY))
    yield Imported(store=store, folder=real_data / "olist", report=report)
    store.close()


@pytest.fixture(scope="module")
def eci(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[Imported]:
    database = tmp_path_factory.mktemp("eci") / "crm.db"
    yield from load("eci", real_data / "eci2020", database, empty_database)


def changes_in(store: Store) -> int | None:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(Change))


def test_every_row_of_olist_is_in(olist: Imported) -> None:
    expected = {
        "leads": {"written": 8_000},
        "sellers": {"written": 3_095},
        "sellers_without_sales": {"written": 462, "unchanged": 380},
        "orders": {"written": 112_650},
        "conversions": {"written": 842},
    }
    assert {step: counts(olist.report, step) for step in expected} == expected
    assert olist.report.refusals == []
    assert olist.value("SELECT count(*) FROM orders") == 112_650
    assert olist.value("SELECT count(*) FROM leads WHERE status = 'converted'") == 842


def test_olist_twice_changes_nothing(olist: Imported) -> None:
    before = changes_in(olist.store)
    report = run_import(olist.store, load_mapping("olist"), olist.folder)
    assert {step.step: step.unchanged for step in report.steps} == {
        "leads": 8_000,
        "sellers": 3_095,
        "sellers_without_sales": 842,
        "orders": 112_650,
        "conversions": 842,
    }
    assert changes_in(olist.store) == before


@pytest.mark.parametrize(("days", "won"), [(30, 238), (60, 263), (90, 280)])
def test_the_leads_of_april_and_may_are_won_as_often_as_the_files_say(
    olist: Imported, days: int, won: int
) -> None:
    start, until = datetime(2018, 4, 1, tzinfo=UTC), datetime(2018, 6, 1, tzinfo=UTC)
    asked = "occurred_at > :start AND occurred_at <= :until"
    parameters = {"start": micros(start), "until": micros(until)}
    horizon = timedelta(days=days) // timedelta(microseconds=1)
    assert olist.value(f"SELECT count(*) FROM leads WHERE {asked}", **parameters) == 2_655
    found = olist.value(
        f"SELECT count(*) FROM leads WHERE {asked} AND converted_at > occurred_at "
        "AND converted_at <= occurred_at + :horizon",
        horizon=horizon,
        **parameters,
    )
    assert found == won


def test_no_seller_sells_before_it_became_an_account(olist: Imported) -> None:
    early = "orders.occurred_at < accounts.occurred_at"
    assert (
        olist.value(f"SELECT count(*) FROM orders JOIN accounts ON accounts.id = account_id WHERE {early}")
        == 0
    )


def test_every_winner_has_an_account_whether_it_ever_sold_or_not(olist: Imported) -> None:
    assert olist.value("SELECT count(*) FROM leads WHERE account_id IS NOT NULL") == 842
    never = "NOT EXISTS (SELECT 1 FROM orders WHERE orders.account_id = accounts.id)"
    assert olist.value(f"SELECT count(*) FROM accounts WHERE {never}") == 462


def test_orders_dated_after_the_extract_are_kept_but_not_taken_as_wholly_seen(olist: Imported) -> None:
    until = datetime(2018, 9, 1, tzinfo=UTC)
    with olist.store.reading() as session:
        assert observed_until(session, "order", now=MONDAY) == until
        assert observed_until(session, "lead", now=MONDAY) == datetime(2018, 11, 14, 18, 4, 19, tzinfo=UTC)
    assert olist.value("SELECT count(*) FROM orders WHERE occurred_at >= :until", until=micros(until)) == 15


def test_every_row_of_eci_is_accounted_for(eci: Imported) -> None:
    withheld = "outcome withheld by the challenge, the deal stays open"
    expected = {
        "owners": {"written": 58},
        "deals": {"written": 11_408},
        "closings": {"written": 9_841, withheld: 1_567},
    }
    assert {step: counts(eci.report, step) for step in expected} == expected
    assert {step.rows_read for step in eci.report.steps} == {19_498}
    assert eci.report.refusals == []


def test_eci_twice_changes_nothing(eci: Imported) -> None:
    before = changes_in(eci.store)
    report = run_import(eci.store, load_mapping("eci"), eci.folder)
    assert [step.unchanged for step in report.steps] == [58, 11_408, 9_841]
    assert changes_in(eci.store) == before


def test_half_of_the_labelled_deals_are_won_and_none_closes_before_it_is_made(eci: Imported) -> None:
    with eci.store.engine.connect() as connection:
        rows = connection.execute(text("SELECT status, closed_at > occurred_at FROM deals")).all()
    assert Counter(map(tuple, rows)) == {("won", 1): 5_122, ("lost", 1): 4_719, ("open", None): 1_567}


def test_the_days_of_eci_fall_into_the_months_that_the_file_names(eci: Imported) -> None:
    import csv

    with (eci.folder / "opportunity_lines.csv").open(newline="") as file:
        months = {
            row["Opportunity_ID"]: (row["Opportunity_Created_Date_Period"], row["Last_Modified_Date_Period"])
            for row in csv.DictReader(file)
        }
    day = 86_400_000_000
    with eci.store.engine.connect() as connection:
        query = text("SELECT external_id, occurred_at / :day, closed_at / :day FROM deals")
        found = connection.execute(query, {"day": day}).all()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for external_id, created, closed in found:
        expected = months[external_id]
        assert f"{epoch + timedelta(days=created):%Y%m}.0" == expected[0]
        assert closed is None or f"{epoch + timedelta(days=closed):%Y%m}.0" == expected[1]


def test_nothing_written_after_the_fact_can_become_a_feature(olist: Imported, eci: Imported) -> None:
    query = "SELECT count(*) FROM fields WHERE known = :known"
    assert olist.value(query, known="outcome") == 11
    assert eci.value(query, known="outcome") == 1
    assert eci.value(query, known="unknown") == 8
