"""Declared record types and custom fields as features, computed by hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.changes import Change
from crm_core.clock import FixedClock, micros
from crm_core.errors import FeatureError, OutcomeFieldError
from crm_core.exporting import export_records
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.filters import compile_filter
from crm_core.history import state_as_of
from crm_core.importing import load_mapping, run_import
from crm_core.record_types import declare_record_type
from crm_core.records import Account, CustomRecord, Deal
from crm_core.store import Store
from features.cohort import Cohort
from features.custom_records import LastLinkedValue, LinkedRecords, TypeNoun
from features.explorer import explore
from features.feature_set import FeatureSet, feature_set_for
from features.frame import build_frame
from features.wording import Noun
from serving.affected import find_affected
from tests.conftest import MONDAY
from tests.factories import make_account, make_deal, make_user

MAPPING = """
name = "chinese"
recorded_at = "as_occurred"
[files.accounts]
path = "客户.csv"
[files.projects]
path = "项目.csv"
[files.phases]
path = "阶段.csv"

[types.project]
label_en = "Project"
label_zh = "项目"
links = ["account"]

[[records]]
name = "accounts"
record = "account"
file = "accounts"
external_id = "编号"
occurred_at = "日期"
changed_at = "日期"
fields = { name = "名称" }
[records.custom.grade]
column = "客户等级"
kind = "choice"
known = "history"
choices = { A = ["Key account", "重点客户"], B = ["Ordinary", "普通客户"] }
label_en = "Customer grade"
label_zh = "客户等级"
[records.custom.tender]
column = "是否招投标"
kind = "flag"
known = "history"
label_en = "Tender"
label_zh = "是否招投标"
[records.custom.competitors]
column = "是否有竞品"
kind = "flag"
known = "history"
label_en = "Competitors"
label_zh = "是否有竞品"

[[records]]
name = "projects"
record = "project"
file = "projects"
external_id = "项目编号"
occurred_at = "开始"
[records.fields]
name = "项目名称"
account_id = { external_id = "客户编号" }
[records.custom.phase]
column = "阶段"
kind = "text"
known = "history"
label_en = "Phase"
label_zh = "阶段"
[records.custom.budget]
column = "预算"
kind = "money"
known = "creation"
[records.custom.closed_how]
column = "结果"
kind = "text"
known = "outcome"

[[events]]
name = "phases"
event = "update"
record = "project"
file = "phases"
external_id = "项目编号"
occurred_at = "时间"
[events.custom.phase]
column = "阶段"
kind = "text"
known = "history"
"""

ACCOUNTS = [
    ("编号", "名称", "客户等级", "是否招投标", "是否有竞品", "日期"),
    ("K1", "方大阀门", "重点客户", "是", "无", "2026-01-01"),
    ("K2", "远东电缆", "B", "否", "有", "2026-01-01"),
    ("K3", "坏行", "金牌", "否", "有", "2026-01-01"),
]
PROJECTS = [
    ("项目编号", "项目名称", "客户编号", "阶段", "预算", "结果", "开始"),
    ("1", "泵站", "K1", "设计", "1000.50", "完成", "2026-01-10"),
    ("2", "管网", "K1", "招标", "", "完成", "2026-02-20"),
    ("3", "无主", "K9", "招标", "5", "", "2026-02-20"),
]
PHASES = [("项目编号", "阶段", "时间"), ("2", "施工", "2026-02-25")]


def write(folder: Path, name: str, rows: Sequence[tuple[str, ...]]) -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def imported(store: Store, tmp_path: Path) -> Store:
    """A store into which Chinese files were imported, twice."""
    folder = tmp_path / "export"
    folder.mkdir()
    write(folder, "客户.csv", ACCOUNTS)
    write(folder, "项目.csv", PROJECTS)
    write(folder, "阶段.csv", PHASES)
    (folder / "mapping.toml").write_text(MAPPING, encoding="utf-8")
    mapping = load_mapping(folder / "mapping.toml")
    first = run_import(store, mapping, folder)
    assert [(step.written, step.refused) for step in first.steps] == [(2, 1), (2, 1), (1, 0)]
    assert [(each.column, each.value) for each in first.refusals] == [
        ("客户等级", "金牌"),
        ("客户编号", "K9"),
    ]
    again = run_import(store, mapping, folder)
    assert [(step.written, step.updated, step.unchanged) for step in again.steps] == [
        (0, 0, 2),
        (0, 0, 2),
        (0, 0, 1),
    ]
    return store


def account_of(store: Store, key: str) -> Account:
    with store.reading() as session:
        return session.scalars(select(Account).where(Account.external_id == key)).one()


def row_of(store: Store, task: str, model: type[Any], record_id: int, at: datetime) -> dict[str, Any]:
    """Return the row that a model would see."""
    cohort = Cohort(
        record_type=model.record_type,
        ids=np.array([record_id]),
        as_of=np.array([micros(at)]),
        weight=np.ones(1),
    )
    frame = build_frame(store, cohort, feature_set_for(store, task))
    return {str(name): frame[name].iloc[0] for name in frame.columns}


def test_a_chinese_file_is_imported_filtered_changed_and_asked_of_any_day(
    imported: Store, clock: FixedClock
) -> None:
    account = account_of(imported, "K1")
    assert account.custom == {"grade": "A", "tender": True, "competitors": False}
    with imported.transaction() as transaction:
        adam = make_user(transaction, "Adam", role="admin")
    with imported.reading() as session:
        chosen = compile_filter(
            Reader(session, adam), "account", ["custom.grade:eq:A", "custom.tender:eq:true"]
        )
        assert session.scalars(select(Account.name).where(chosen)).all() == ["方大阀门"]
        named = compile_filter(Reader(session, adam), "project", ["custom.phase:eq:施工"])
        assert session.scalars(select(CustomRecord.name).where(named)).all() == ["管网"]
    before = clock.now()
    clock.advance(timedelta(days=1))
    with imported.transaction() as transaction:
        transaction.update(transaction.get(Account, account.id), {"custom.grade": "B"})
    with imported.reading() as session:
        for at, expected in ((before, "A"), (clock.now(), "B")):
            state = state_as_of(session, Account, account.id, at)
            assert state is not None
            assert state["custom.grade"] == expected


def test_projects_are_features_of_their_account_by_the_time_rule(imported: Store) -> None:
    account = account_of(imported, "K1")
    row = row_of(imported, "churn", Account, account.id, MONDAY)
    wanted = {
        "linked_project_count": 2,
        "linked_project_count_90d": 2,
        "days_since_last_linked_project": 10 + 9 / 24,
        "last_linked_project__phase": "施工",
        "custom_grade": "A",
        "custom_tender": 1,
        "custom_competitors": 0,
    }
    assert {name: row[name] for name in wanted} == wanted
    assert np.isnan(row["last_linked_project__budget"])
    assert "last_linked_project__closed_how" not in row
    earlier = row_of(imported, "churn", Account, account.id, datetime(2026, 2, 22, tzinfo=UTC))
    assert earlier["last_linked_project__phase"] == "招标"
    first = row_of(imported, "churn", Account, account.id, datetime(2026, 1, 20, tzinfo=UTC))
    assert (first["linked_project_count"], first["last_linked_project__budget"]) == (1, 1000.5)
    none = row_of(imported, "churn", Account, account_of(imported, "K2").id, MONDAY)
    assert none["linked_project_count"] == 0
    assert np.isnan(none["days_since_last_linked_project"])


def test_a_field_of_the_outcome_is_no_input_whoever_asks(imported: Store) -> None:
    noun = TypeNoun(one="project", many="projects", zh="项目", key="linked_project")
    of = LinkedRecords(record="account", event="project", noun=noun)
    mine = LastLinkedValue(
        of=of, field="custom.closed_how", kind=FieldKind.TEXT, noun=Noun(one="end", many="ends", zh="结果")
    )
    asked = FeatureSet(name="mine", record_type="account", features=(mine,))
    ids, as_of = np.array([account_of(imported, "K1").id]), np.array([micros(MONDAY)])
    with pytest.raises(OutcomeFieldError, match=r"project\.custom\.closed_how"):
        build_frame(imported, Cohort(record_type="account", ids=ids, as_of=as_of, weight=np.ones(1)), asked)
    with pytest.raises(FeatureError, match="neither a word"):
        LastLinkedValue(of=of, field="custom.shop", kind=FieldKind.REFERENCE, noun=noun)


def test_what_an_account_has_counts_for_its_deals_and_a_change_of_it_scores_both(imported: Store) -> None:
    account = account_of(imported, "K1")
    with imported.transaction() as transaction:
        deal = make_deal(transaction, account_id=account.id)
    with imported.transaction() as transaction:
        project = transaction.session.scalars(select(CustomRecord).order_by(CustomRecord.id)).first()
        assert project is not None
        changes = transaction.update(project, {"custom.phase": "完工"})
        assert changes
    with imported.reading() as session:
        changed = session.scalars(select(Change).where(Change.id == changes[0].id)).all()
        affected = find_affected(session, changed)
    assert (set(affected["account"]), set(affected["deal"])) == ({account.id}, {deal.id})
    row = row_of(imported, "win_probability", Deal, deal.id, MONDAY)
    assert row["account_linked_project_count"] == 2
    assert row["last_account_linked_project__phase"] == "施工"


def test_an_export_is_imported_again_with_its_declared_records(
    imported: Store, tmp_path: Path, empty_database: Path, clock: FixedClock
) -> None:
    folder = tmp_path / "again"
    report = export_records(imported, folder, format="csv", names=["account", "project"])
    assert [(file.file, file.rows) for file in report.files] == [("account.csv", 2), ("project.csv", 2)]
    with (folder / "project.csv").open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["custom.budget"], second["custom.phase"], first["account_key"]) == ("1000.5", "施工", "K1")
    (tmp_path / "other.db").write_bytes(empty_database.read_bytes())
    other = Store(f"sqlite:///{tmp_path / 'other.db'}", clock=clock)
    run_import(other, load_mapping(folder / "import.toml"), folder)
    with other.reading() as session:
        found = session.scalars(select(CustomRecord).order_by(CustomRecord.id)).all()
        assert [(each.name, each.custom) for each in found] == [
            ("泵站", {"phase": "设计", "budget": 10_005_000, "closed_how": "完成"}),
            ("管网", {"phase": "施工", "closed_how": "完成"}),
        ]
    other.close()


def test_a_field_of_every_kind_is_read_from_the_last_linked_record(store: Store, clock: FixedClock) -> None:
    values: dict[str, Any] = {
        "text": "a",
        "number": 2.5,
        "flag": True,
        "day": date(2026, 3, 4),
        "instant": MONDAY + timedelta(hours=12),
        "money": Decimal("7.25"),
    }
    with store.transaction() as transaction:
        session = transaction.session
        kind = declare_record_type(
            session, name="machine", label_en="Machine", label_zh="设备", links=["account"]
        )
        for name in values:
            declare_field(
                session,
                record_type="machine",
                name=f"custom.{name}",
                kind=FieldKind(name),
                known=Known.CREATION,
            )
        account = make_account(transaction)
        transaction.create(CustomRecord(type_id=kind.id, name="Mill", account_id=account.id, custom=values))
    row = row_of(store, "churn", Account, account.id, clock.now())
    found = {name: row[name] for name in row if name.startswith("last_linked_machine")}
    assert found == {
        "last_linked_machine__text": "a",
        "last_linked_machine__number": 2.5,
        "last_linked_machine__flag": 1.0,
        "last_linked_machine__day_days_until": 1 + 15 / 24,
        "last_linked_machine__instant_days_until": 0.5,
        "last_linked_machine__money": 7.25,
    }


def test_what_lies_behind_features_of_declared_records_is_shown_as_people_write_it(imported: Store) -> None:
    account = account_of(imported, "K1")
    shown = explore(imported, feature_set_for(imported, "churn"), account.id, MONDAY)

    (count,) = (one for one in shown if one.feature.name == "linked_project_count")
    assert [(row.record_type, row.values["custom.phase"]) for row in count.rows] == [
        ("project", "设计"),
        ("project", "施工"),
    ]
    assert [row.values["custom.budget"] for row in count.rows] == ["1000.5", None]


def test_numbers_of_many_linked_records_are_read_like_those_of_few(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        session = transaction.session
        kind = declare_record_type(
            session, name="machine", label_en="Machine", label_zh="设备", links=["account"]
        )
        for name, field in (("size", FieldKind.NUMBER), ("new", FieldKind.FLAG)):
            declare_field(
                session, record_type="machine", name=f"custom.{name}", kind=field, known=Known.CREATION
            )
        account = make_account(transaction)
        rows = [
            {
                "type_id": kind.id,
                "name": "Mill",
                "account_id": account.id,
                "occurred_at": clock.now(),
                "custom": {"size": number + 0.5, "new": number % 2 == 1},
            }
            for number in range(1200)
        ]
        transaction.create_many(CustomRecord, rows)
    row = row_of(store, "churn", Account, account.id, clock.now())
    assert (row["last_linked_machine__size"], row["last_linked_machine__new"]) == (1199.5, 1)
