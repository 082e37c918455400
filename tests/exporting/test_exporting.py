"""What an export holds, for whom, and that it comes in again as it went out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest

from crm_core.clock import FixedClock, day_number, micros
from crm_core.errors import AccessDeniedError, ExportFolderError, InvalidValueError
from crm_core.exporting import EXPORTED, FORMATS, ExportReport, export_records
from crm_core.exporting import run as exporting_run
from crm_core.exporting import tables as exporting_tables
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.formulas import guard, unguard
from crm_core.importing import load_mapping, run_import
from crm_core.migrations import upgrade
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Deal, Product, Team
from crm_core.store import Store
from tests.factories import (
    make_account,
    make_activity,
    make_contact,
    make_deal,
    make_lead,
    make_order,
    make_team,
    make_user,
)

LIVE = ['=cmd|"/c calc"!A1', "+1+1", "-2+3", "@SUM(A1)", "\tx", "\r=1+1", "'=1+1"]
"""Texts that a spreadsheet may run, or that look as if they were guarded already."""


def read_csv(path: Path, encoding: str = "utf-8-sig") -> list[dict[str, str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def read_sheet(path: Path) -> list[list[Any]]:
    sheet = openpyxl.load_workbook(path).worksheets[0]
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def fill(store: Store) -> dict[str, int]:
    """Make a few records of many types that point at one another; return ids by name."""
    with store.transaction() as tx:
        for name, kind in [
            ("bikes", "number"),
            ("vip", "flag"),
            ("note", "text"),
            ("since", "day"),
            ("at", "instant"),
        ]:
            declare_field(
                tx.session,
                record_type="deal",
                name=f"custom.{name}",
                known=Known.CREATION,
                kind=FieldKind(kind),
            )
        north = make_team(tx)
        south = tx.create(Team(name="South", parent_id=north.id))
        ana = make_user(tx, "Ana", team_id=north.id)
        ben = make_user(tx, "Ben", team_id=south.id)
        mara = make_user(tx, "Mara", role="manager", team_id=north.id)
        dana = make_user(tx, "Dana", role="admin")
        hill = make_account(tx, external_id="A1", owner_id=ana.id, region="北京", employees=12)
        works = make_account(tx, name="Hill works\nsecond line", parent_id=hill.id, owner_id=ben.id)
        li = make_contact(tx, account_id=hill.id, owner_id=ana.id, birthday=date(1980, 2, 29))
        custom = {
            "bikes": 2.5,
            "vip": True,
            "note": "=1+1",
            "since": day_number(date(2024, 5, 1)),
            "at": micros(datetime(2024, 5, 1, 9, 30, 0, 123456, tzinfo=UTC)),
        }
        deal = make_deal(
            tx,
            account_id=hill.id,
            owner_id=ana.id,
            contact_id=li.id,
            amount=Decimal("1234567890.1234"),
            custom=custom,
        )
        make_deal(tx, name="-5 pumps", amount=None, account_id=works.id, owner_id=ben.id)
        lead = make_lead(tx, owner_id=ben.id)
        make_order(tx, account_id=hill.id, deal_id=deal.id)
        make_activity(tx, deal_id=deal.id, owner_id=ana.id)
        tx.create(Product(name="Pump", price=Decimal("99.9"), cost=Decimal(60)))
        for text in LIVE:
            make_account(tx, name=text, owner_id=ana.id)
        gone = make_account(tx, name="gone", owner_id=ana.id)
        tx.delete(gone)
    return {"ana": ana.id, "ben": ben.id, "mara": mara.id, "dana": dana.id, "deal": deal.id, "lead": lead.id}


@pytest.fixture
def other(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    """Another store, empty."""
    url = f"sqlite:///{tmp_path / 'other.db'}"
    upgrade(url)
    store = Store(url, clock=clock)
    yield store
    store.close()


def comparable(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows without what belongs to one store: numbers, versions, what models wrote."""
    own = {"id", "external_id", "version"}
    return [{k: v for k, v in row.items() if k not in own and not k.endswith("_id")} for row in rows]


@pytest.mark.parametrize("ending", FORMATS)
def test_an_export_comes_in_again_as_it_went_out(
    store: Store, other: Store, tmp_path: Path, clock: FixedClock, ending: str
) -> None:
    fill(store)
    clock.advance(timedelta(hours=1))
    out = tmp_path / "out"
    export_records(store, out, format=ending)

    report = run_import(other, load_mapping(out / "import.toml"), out)
    assert report.refused == 0, report.in_words()
    again = run_import(other, load_mapping(out / "import.toml"), out)
    assert [(step.written, step.updated) for step in again.steps] == [(0, 0)] * len(again.steps)

    export_records(store, tmp_path / "a", format="csv")
    export_records(other, tmp_path / "b", format="csv")
    compared = 0
    for name in set(EXPORTED) - {"change", "prediction"}:
        first, second = (read_csv(tmp_path / folder / f"{name}.csv") for folder in ("a", "b"))
        assert comparable(second) == comparable(first), name
        compared += len(first)
    assert compared > 20


def test_cells_are_exact_and_plain(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    export_records(store, tmp_path, format="csv", names=["deal"])
    deal = read_csv(tmp_path / "deal.csv")[0]
    assert deal["key"] == f"crm:{ids['deal']}"
    assert deal["amount"] == "1234567890.1234"
    assert deal["occurred_at"] == "2026-03-02T09:00:00Z"
    assert (deal["account_key"], deal["custom.since"], deal["custom.vip"]) == ("A1", "2024-05-01", "true")
    assert deal["custom.at"] == "2024-05-01T09:30:00.123456Z"
    assert deal["closed_at"] == ""

    export_records(store, tmp_path, format="parquet", names=["deal"])
    first = pq.read_table(tmp_path / "deal.parquet").to_pylist()[0]
    assert first["amount"] == Decimal("1234567890.1234")
    assert first["custom.at"] == datetime(2024, 5, 1, 9, 30, 0, 123456, tzinfo=UTC)
    assert first["custom.since"] == date(2024, 5, 1)
    assert first["closed_at"] is None


def test_no_cell_is_a_live_formula(store: Store, tmp_path: Path) -> None:
    fill(store)
    export_records(store, tmp_path, format="csv", names=["account"])
    cells = [cell for row in read_csv(tmp_path / "account.csv") for cell in row.values()]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]

    export_records(store, tmp_path, format="xlsx", names=["account", "deal"])
    for name in ("account", "deal"):
        sheet = openpyxl.load_workbook(tmp_path / f"{name}.xlsx").worksheets[0]
        assert not [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
    names = [row[4] for row in read_sheet(tmp_path / "account.xlsx")]
    assert "+1+1" in [cell for row in read_sheet(tmp_path / "account.xlsx") for cell in row], names


def test_raw_csv_holds_texts_as_they_are(store: Store, tmp_path: Path) -> None:
    fill(store)
    export_records(store, tmp_path, format="csv", names=["account"], raw=True)
    names = [row["name"] for row in read_csv(tmp_path / "account.csv", "utf-8")]
    assert set(LIVE) <= set(names)


@pytest.mark.parametrize("text", [*LIVE, "plain", "", "'quoted'", "'", "''=1", "2-1"])
def test_a_guarded_text_comes_back(text: str) -> None:
    assert unguard(guard(text)) == text
    assert guard(text)[:1] not in set("=+-@\t\r")


def test_a_rep_exports_own_records_and_no_hidden_fields(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    report = export_records(store, tmp_path, format="csv", user_id=ids["ana"])
    assert {row["name"] for row in read_csv(tmp_path / "deal.csv")} == {"Twenty pumps"}
    assert read_csv(tmp_path / "lead.csv") == []
    assert "cost" not in read_csv(tmp_path / "product.csv")[0]
    assert "password_hash" not in read_csv(tmp_path / "user.csv")[0]
    assert report.not_allowed == ["change", "prediction"]
    assert not (tmp_path / "change.csv").exists()


def test_a_key_of_a_record_that_may_not_be_seen_is_not_told(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    export_records(store, tmp_path, format="csv", user_id=ids["ben"])
    (works,) = read_csv(tmp_path / "account.csv")
    assert works["name"].startswith("Hill works")
    assert works["parent_key"] == ""


def test_what_may_not_be_exported_is_refused_when_named(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    with pytest.raises(AccessDeniedError, match="the role rep may not export change"):
        export_records(store, tmp_path / "out", format="csv", names=["change"], user_id=ids["ana"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidValueError, match="record: expected one of"):
        export_records(store, tmp_path / "out", format="csv", names=["unicorn"])
    with pytest.raises(InvalidValueError, match="format: expected one of csv, xlsx, parquet"):
        export_records(store, tmp_path / "out", format="pdf")


def test_administrators_export_the_log_and_predictions_and_scores(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    reasons = [{"group": "deal", "feature": "x", "value": 1, "log_odds": 0.5, "en": "a", "zh": "b"}]
    with store.transaction() as tx:
        new = NewPrediction(record_id=ids["deal"], probability=0.25, score=80, grade="A", reasons=reasons)
        write_predictions(
            tx,
            task="win_probability",
            record_type="deal",
            as_of=tx.now,
            model_version="1",
            horizon_days=90,
            predictions=[new],
        )
        tx.update(tx.get(Deal, ids["deal"]), {"lost_reason": "price"})
    export_records(store, tmp_path, format="csv", user_id=ids["dana"])
    (prediction,) = read_csv(tmp_path / "prediction.csv")
    assert (prediction["probability"], prediction["as_of"]) == ("0.25", "2026-03-02T09:00:00Z")
    deal = read_csv(tmp_path / "deal.csv")[0]
    assert (deal["probability"], deal["score"], deal["grade"]) == ("0.25", "80", "A")
    last = read_csv(tmp_path / "change.csv")[-1]
    assert (last["field"], last["new"]) == ("lost_reason", '"price"')


def test_a_failed_export_leaves_the_folder_as_it_was(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    export_records(store, tmp_path, format="csv", names=["team", "user"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in {".csv", ".toml"}}
    with store.transaction() as tx:
        make_team(tx, name="West")

    def broken(reader: Any, model: Any) -> Any:
        def chunks() -> Iterator[list[list[Any]]]:
            raise OSError("disk full")

        table = original(reader, model)
        return replace(table, chunks=chunks) if table.name == "user" else table

    original = exporting_tables.table_of
    monkeypatch.setattr(exporting_run, "table_of", broken)
    with pytest.raises(ExportFolderError, match="nothing was replaced: disk full"):
        export_records(store, tmp_path, format="csv", names=["team", "user"])
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in {".csv", ".toml"}}
    assert after == before
    assert not list(tmp_path.glob(".export-*"))


def test_many_rows_come_in_chunks_and_all_of_them(store: Store, tmp_path: Path) -> None:
    with store.transaction() as tx:
        rows = [{"name": f"T{n}", "occurred_at": tx.now} for n in range(5_001)]
        tx.create_many(Team, rows)
    told: list[int] = []
    report: ExportReport = export_records(
        store, tmp_path, format="csv", names=["team"], progress=lambda _, rows: told.append(rows)
    )
    assert told == [2000, 4000, 5001]
    assert [(file.file, file.rows) for file in report.files] == [("team.csv", 5001)]
    assert len(read_csv(tmp_path / "team.csv")) == 5001


def test_a_text_too_long_for_a_cell_is_counted(store: Store, tmp_path: Path) -> None:
    with store.transaction() as tx:
        make_activity(tx, lead_id=make_lead(tx).id, body="x" * 40_000)
    report = export_records(store, tmp_path, format="xlsx", names=["activity"])
    assert report.in_words() == [
        "activity.xlsx: 1 rows; 1 texts cut to the 32,767 characters that a cell of Excel holds"
    ]
