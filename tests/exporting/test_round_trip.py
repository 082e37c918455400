"""Everything of every record type comes in again as it went out, by each format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.exporting import FORMATS, export_records
from crm_core.exporting import files as exporting_files
from crm_core.fields import list_fields, observed_until, set_observed_until
from crm_core.importing import ImportReport, load_mapping, run_import
from crm_core.importing.mapping import LINK_LISTS
from crm_core.migrations import upgrade
from crm_core.record_types import declare_record_type
from crm_core.records import (
    RECORD_TYPES,
    SCORE_COLUMNS,
    Attachment,
    Comment,
    CustomRecord,
    Record,
    Tag,
    Team,
)
from crm_core.store import Store
from crm_core.validation import columns_of
from tests.factories import make_account, make_activity, make_lead, make_team, make_user
from tests.filled import Filler

OWN = SCORE_COLUMNS | {"id", "external_id", "version", "password_hash", "erased_at", "merged_into_id"}
"""What belongs to one store, or is not taken out of it: numbers, versions, scores, passwords."""

LATER = {"custom_record"}
"""Record types that come in by the declaration of their own type."""


@pytest.fixture
def other(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    """Another store, empty."""
    url = f"sqlite:///{tmp_path / 'other.db'}"
    upgrade(url)
    store = Store(url, clock=clock)
    yield store
    store.close()


def carry(store: Store, other: Store, folder: Path, ending: str) -> ImportReport:
    export_records(store, folder, format=ending)
    return run_import(other, load_mapping(folder / "import.toml"), folder)


def state_of(store: Store) -> dict[str, dict[str, dict[str, Any]]]:
    """Return every field of every living record by its key, with keys in the place of ids."""
    with store.reading() as session:
        living = {
            record_type: list(session.scalars(select(model).where(model.deleted_at.is_(None))))
            for record_type, model in RECORD_TYPES.items()
            if record_type not in LATER
        }
        keys = {
            (record_type, record.id): record.external_id or f"crm:{record.id}"
            for record_type, records in living.items()
            for record in records
        }
        return {
            record_type: {keys[record_type, record.id]: fields_of(record, keys) for record in records}
            for record_type, records in living.items()
        }


def fields_of(record: Record, keys: dict[tuple[str, int], str]) -> dict[str, Any]:
    model = type(record)
    tables = {each.__tablename__: name for name, each in RECORD_TYPES.items()}
    fields: dict[str, Any] = {}
    for name, column in columns_of(model).items():
        value = getattr(record, name)
        target = next((tables.get(key.target_fullname.split(".")[0]) for key in column.foreign_keys), None)
        target = getattr(record, "subject_type", None) if name == "subject_id" else target
        listed = LINK_LISTS.get((record.record_type, name))
        if listed is not None and value is not None:
            value = [keys[listed, each] for each in value]
        elif target is not None and value is not None:
            value = keys[target, value]
        if name not in OWN:
            fields[name] = value
    return fields


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_store_that_takes_everything_holds_the_same(
    store: Store, other: Store, tmp_path: Path, clock: FixedClock, ending: str, seed: int
) -> None:
    Filler(store, seed=seed, opting_out=True, without=LATER).fill()
    clock.advance(timedelta(hours=1))
    report = carry(store, other, tmp_path / "out", ending)
    assert report.refused == 0, report.in_words()
    before, after = state_of(store), state_of(other)
    for record_type in before:
        assert after[record_type] == before[record_type], record_type
    assert min(len(records) for records in before.values()) == 4

    again = run_import(other, load_mapping(tmp_path / "out" / "import.toml"), tmp_path / "out")
    assert [
        (step.step, step.written + step.updated) for step in again.steps if step.written + step.updated
    ] == []


def test_fields_keep_their_labels_and_extracts_their_end(
    store: Store, other: Store, tmp_path: Path, clock: FixedClock
) -> None:
    Filler(store, without=LATER).fill()
    until = datetime(2026, 1, 1, tzinfo=UTC)
    with store.transaction() as tx:
        set_observed_until(tx.session, "lead", until)
    carry(store, other, tmp_path / "out", "csv")
    with other.reading() as session:
        labels = {field.name: (field.label_en, field.label_zh) for field in list_fields(session, "deal")}
        assert labels["custom.bikes"] == ("bikes in English", "bikes 中文")
        assert observed_until(session, "lead", now=clock.now()) == until


def test_answers_to_comments_and_remarks_on_files_find_what_they_are_about(
    store: Store, other: Store, tmp_path: Path
) -> None:
    with store.transaction() as tx:
        ana = make_user(tx)
        lead = make_lead(tx)
        first = tx.create(Comment(subject_type="lead", subject_id=lead.id, body="Call?", mentions=[ana.id]))
        answer = tx.create(Comment(subject_type="comment", subject_id=first.id, body="Done."))
        tx.create(Comment(subject_type="comment", subject_id=answer.id, body="Thanks!"))
        file = tx.create(
            Attachment(subject_type="comment", subject_id=answer.id, name="notes.pdf", uri="s3://x/notes.pdf")
        )
        tx.create(Comment(subject_type="attachment", subject_id=file.id, body="Old version."))
        tx.create(Tag(subject_type="attachment", subject_id=file.id, word="draft"))
    report = carry(store, other, tmp_path / "out", "csv")
    assert report.refused == 0, report.in_words()
    assert state_of(other) == state_of(store)
    assert len(state_of(other)["comment"]) == 4


def test_what_came_from_another_store_and_what_is_new_here_keep_apart(
    store: Store, other: Store, tmp_path: Path, clock: FixedClock
) -> None:
    with store.transaction() as tx:
        north = make_team(tx)
        tx.create(Team(name="East", parent_id=north.id))
    carry(store, other, tmp_path / "first", "csv")
    with other.transaction() as tx:
        gone = tx.get(Team, 1)
        tx.update(gone, {"external_id": "crm:3"})
        tx.create(Team(name="West", parent_id=2))  # the third here, as "crm:3" is the name of another
    url = f"sqlite:///{tmp_path / 'third.db'}"
    upgrade(url)
    third = Store(url, clock=clock)
    report = carry(other, third, tmp_path / "second", "csv")
    assert report.refused == 0, report.in_words()
    teams = state_of(third)["team"]
    assert {key: team["name"] for key, team in teams.items()} == {
        "crm:3": "North",
        "crm:2": "East",
        "crm:crm:3": "West",
    }
    assert teams["crm:crm:3"]["parent_id"] == "crm:2"
    third.close()


def test_a_type_that_is_linked_to_some_records_only_comes_in_again(
    store: Store, other: Store, tmp_path: Path
) -> None:
    with store.transaction() as tx:
        shop = declare_record_type(
            tx.session, name="shop", label_en="Shop", label_zh="门店", links=("account",)
        )
        machine = declare_record_type(
            tx.session, name="machine", label_en="Machine", label_zh="设备", links=("shop",)
        )
        account = make_account(tx)
        make_lead(tx)
        first = tx.create(CustomRecord(type_id=shop.id, name="East", account_id=account.id))
        tx.create(CustomRecord(type_id=machine.id, name="Press", parent_id=first.id))
    report = carry(store, other, tmp_path / "out", "csv")
    assert report.refused == 0, report.in_words()
    with other.reading() as session:
        east, press = session.scalars(select(CustomRecord).order_by(CustomRecord.id)).all()
        assert (east.name, east.account_id is not None) == ("East", True)
        assert (press.name, press.parent_id) == ("Press", east.id)


def test_a_comment_about_nothing_known_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    (tmp_path / "comments.csv").write_text("id,type,about,text\n1,lead,L9,Hi\n2,unicorn,L9,Hi\n")
    (tmp_path / "map.toml").write_text("""
        name = "comments"
        recorded_at = "as_occurred"
        [files.comments]
        path = "comments.csv"
        [[records]]
        name = "comments"
        record = "comment"
        file = "comments"
        external_id = "id"
        occurred_at = { constant = "2024-01-01" }
        [records.fields]
        subject_id = { record = "type", external_id = "about" }
        body = "text"
    """)
    report = run_import(store, load_mapping(tmp_path / "map.toml"), tmp_path)
    reasons = [refusal.reason for refusal in report.refusals]
    assert reasons[0] == "no lead has this external id"
    assert reasons[1].startswith("expected one of team, user,")


def test_numbers_and_dates_are_real_cells_of_a_sheet(store: Store, tmp_path: Path) -> None:
    exact = datetime(2026, 3, 1, 8, 30, 15, 250_000, tzinfo=UTC)
    with store.transaction() as tx:
        lead_id = make_lead(tx).id
        make_activity(tx, lead_id=lead_id, occurred_at=exact)
        make_activity(tx, lead_id=lead_id, occurred_at=exact + timedelta(microseconds=1))
    export_records(store, tmp_path, format="xlsx", names=["activity"])
    sheet = openpyxl.load_workbook(tmp_path / "activity.xlsx").worksheets[0]
    header = [cell.value for cell in sheet[1]]
    happened, lasted = header.index("occurred_at"), header.index("duration_seconds")
    assert (sheet[2][happened].is_date, sheet[2][lasted].value) == (True, 120)
    assert sheet[2][happened].value == exact.replace(tzinfo=None)
    # A sheet holds no microseconds, so this one stays a text, and exact.
    assert sheet[3][happened].value == "2026-03-01T08:30:15.250001Z"


def test_a_sheet_that_is_full_goes_on_in_the_next_and_comes_in_whole(
    store: Store, other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting_files, "SHEET_ROWS", 3)
    with store.transaction() as tx:
        tx.create_many(Team, [{"name": f"T{n}", "occurred_at": tx.now} for n in range(5)])
    report = carry(store, other, tmp_path / "out", "xlsx")
    assert report.refused == 0
    assert [team["name"] for team in state_of(other)["team"].values()] == ["T0", "T1", "T2", "T3", "T4"]
