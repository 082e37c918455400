"""The views for BI tools hold what the records hold, and nothing that was deleted or erased."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text

from crm_core import migrations
from crm_core.changes import Change
from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError
from crm_core.personal import erase_person
from crm_core.pipelines import DEFAULT_PIPELINE
from crm_core.record_types import declare_record_type
from crm_core.records import RECORD_TYPES, Account, Contact, CustomRecord, Deal, Lead, Record, User
from crm_core.store import Store
from crm_core.validation import columns_of
from crm_core.views import grants, list_views, view_name
from tests import postgres
from tests.factories import (
    declare_custom,
    make_account,
    make_contact,
    make_deal,
    make_lead,
    make_team,
    make_user,
)
from tests.filled import Filler

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def rows(store: Store, query: str) -> list[Mapping[str, Any]]:
    with store.reading() as session:
        return [dict(row) for row in session.execute(text(query)).mappings()]


def living(store: Store, model: type[Record]) -> list[Record]:
    with store.reading() as session:
        return list(session.scalars(select(model).where(model.deleted_at.is_(None)).order_by(model.id)))


def same(shown: Any, held: Any) -> bool:
    """Whether a cell of a view is what a record holds, on either database."""
    match held:
        case datetime():
            shown = datetime.fromisoformat(shown).replace(tzinfo=UTC) if isinstance(shown, str) else shown
            return bool(shown == held)
        case date():
            return bool(shown == held or shown == held.isoformat())
        case Decimal():
            return bool(
                shown == held or (isinstance(shown, float) and shown == pytest.approx(float(held), 1e-15))
            )
        case list() | dict():
            return bool((json.loads(shown) if isinstance(shown, str) else shown) == held)
    return bool(shown == held)


def test_every_view_holds_every_living_record_as_it_is(store: Store) -> None:
    Filler(store).fill()
    for model in RECORD_TYPES.values():
        records, shown = living(store, model), rows(store, f"SELECT * FROM {view_name(model)} ORDER BY id")
        assert [row["id"] for row in shown] == [record.id for record in records] != []
        for row, record in zip(shown, records, strict=True):
            held = {name: getattr(record, name) for name in columns_of(model) if name in row}
            assert [name for name, value in held.items() if not same(row[name], value)] == []


def test_every_view_answers_with_the_columns_that_are_documented(store: Store) -> None:
    Filler(store).fill()
    for view in list_views():
        found = rows(store, f"SELECT * FROM {view.name}")
        assert found, view.name
        assert list(found[0]) == [column.name for column in view.columns]
        assert all(column.meaning and column.holds for column in view.columns)


def test_no_column_of_a_record_is_forgotten() -> None:
    left_out = {"deleted_at", "merged_into_id", "erased_at", "version", "reasons", "password_hash"}
    views = {view.name: {column.name for column in view.columns} for view in list_views()}
    for model in RECORD_TYPES.values():
        assert set(columns_of(model)) - views[view_name(model)] <= left_out


def test_names_are_joined_in_both_languages(store: Store) -> None:
    with store.transaction() as tx:
        north = make_team(tx)
        ana = make_user(tx, team_id=north.id)
        hill = make_account(tx)
        make_deal(tx, account_id=hill.id, owner_id=ana.id, stage="proposal")
        make_lead(tx, source="trade show")
        make_lead(tx, source="猎头")
    (deal,) = rows(store, "SELECT * FROM bi_deals")
    names = (
        "owner_name",
        "owner_team_name",
        "account_name",
        "stage_name_en",
        "stage_name_zh",
        "stage_position",
    )
    expected = ["Ana", "North", "Hill & Sons", "Proposal and quote", "方案与报价", 3]
    assert [deal[name] for name in names] == expected
    sources = rows(store, "SELECT source_name_en, source_name_zh FROM bi_leads ORDER BY id")
    assert [tuple(row.values()) for row in sources] == [("Trade show", "展会"), (None, None)]


def test_the_name_of_what_was_deleted_is_gone(store: Store) -> None:
    with store.transaction() as tx:
        hill = make_account(tx)
        make_deal(tx, account_id=hill.id)
        tx.delete(hill)
    (deal,) = rows(store, "SELECT account_id, account_name FROM bi_deals")
    assert deal == {"account_id": 1, "account_name": None}


def test_no_view_brings_an_erased_person_back(store: Store, clock: FixedClock) -> None:
    with store.transaction() as tx:
        hill = make_account(tx)
        li = make_contact(tx, account_id=hill.id, name="Zebulon Quist", email="zq@example.com")
        make_deal(tx, account_id=hill.id, contact_id=li.id, name="Pumps for Zebulon Quist")
        make_lead(tx, name="Zebulon Quist", email="zq@example.com", contact_id=li.id)
        tx.update(li, {"title": "Zebulon Quist, director"})
    everything = "\n".join(str(rows(store, f"SELECT * FROM {view.name}")) for view in list_views())
    assert "Zebulon" in everything
    clock.advance(timedelta(hours=1))
    with store.transaction() as tx:
        erase_person(tx, mail="zq@example.com")
    everything = "\n".join(str(rows(store, f"SELECT * FROM {view.name}")) for view in list_views())
    assert "Zebulon" not in everything
    assert "zq@example" not in everything


def test_stages_are_told_as_the_deal_went_through_them(store: Store, clock: FixedClock) -> None:
    with store.transaction() as tx:
        deal = make_deal(tx)
        make_deal(tx, stage="needs")
    for days, values in [(10, {"stage": "needs"}), (15, {"stage": "proposal"})]:
        clock.set(MONDAY + timedelta(days=days))
        with store.transaction() as tx:
            tx.update(tx.get(Deal, deal.id), values)
    clock.set(MONDAY + timedelta(days=20))
    with store.transaction() as tx:
        held = tx.get(Deal, deal.id)
        # A fact that comes late belongs between the others.
        tx.update(held, {"stage": "negotiation"}, occurred_at=MONDAY + timedelta(days=12))
        tx.update(held, {"status": "lost", "closed_at": tx.now})
    told = rows(
        store, "SELECT stage, stage_name_zh, days FROM bi_stage_history WHERE deal_id = 1 ORDER BY entered_at"
    )
    assert [tuple(row.values()) for row in told] == [
        ("first_contact", "初步接触", 10),
        ("needs", "需求沟通", 2),
        ("negotiation", "商务谈判", 3),
        ("proposal", "方案与报价", 5),
    ]
    (other,) = rows(store, "SELECT stage, left_at, days FROM bi_stage_history WHERE deal_id = 2")
    assert other == {"stage": "needs", "left_at": None, "days": None}


def test_every_deal_of_a_filled_store_is_in_one_stage_at_a_time(store: Store) -> None:
    Filler(store).fill()
    last = rows(
        store,
        "SELECT deal_id, stage FROM bi_stage_history AS h WHERE NOT EXISTS (SELECT 1 FROM "
        "bi_stage_history AS x WHERE x.deal_id = h.deal_id AND x.entered_at > h.entered_at) ORDER BY deal_id",
    )
    assert [(row["deal_id"], row["stage"]) for row in last] == [
        (deal.id, deal.stage) for deal in living(store, Deal) if isinstance(deal, Deal)
    ]


def test_changes_are_told_in_words_and_without_passwords(store: Store) -> None:
    Filler(store).fill()
    with store.transaction() as tx:
        tx.update(tx.get(User, 1), {"password_hash": "$argon2id$secret"})
        tx.update(tx.get(Account, 1), {"scoring_opt_out": True})
    told = {
        (row["record_type"], row["field"]): row["new_value"]
        for row in rows(store, "SELECT * FROM bi_changes WHERE action = 'updated' ORDER BY id")
    }
    assert told["deal", "amount"] == "12.3456"
    assert told["deal", "expected_close_on"] == "2027-01-02"
    assert told["deal", "custom.at"] == "2023-01-01 00:00:00.000000"
    assert told["deal", "custom.bikes"] == "7.5"
    assert told["account", "scoring_opt_out"] == "true"
    assert ("user", "password_hash") not in told
    assert rows(store, "SELECT id FROM bi_changes WHERE action = 'deleted'") == []


def test_a_change_row_is_shown_for_each_of_a_living_record(store: Store) -> None:
    ids = Filler(store).fill()
    with store.reading() as session:
        log = [
            (c.id, c.record_type, c.record_id) for c in session.scalars(select(Change).order_by(Change.id))
        ]
    declared = {"field", "record_type"}
    alive = [
        change_id
        for change_id, record_type, record_id in log
        if record_type in declared or record_id in ids[record_type]
    ]
    assert [row["id"] for row in rows(store, "SELECT id FROM bi_changes ORDER BY id")] == alive


def test_scores_are_shown_but_not_of_who_asked_not_to_be_scored(store: Store) -> None:
    ids = Filler(store).fill()
    shown = rows(store, "SELECT record_type, record_id, as_of, horizon_days, model_version FROM bi_scores")
    assert len(shown) == sum(len(ids[name]) for name in ("lead", "deal", "account"))
    assert {(row["horizon_days"], row["model_version"]) for row in shown} == {(90, "v1")}
    assert same(shown[0]["as_of"], MONDAY)
    with store.transaction() as tx:
        for record_id in ids["contact"]:
            tx.update(tx.get(Contact, record_id), {"scoring_opt_out": True})
    left = {(row["record_type"], row["record_id"]) for row in rows(store, "SELECT * FROM bi_scores")}
    deals = {
        ("deal", deal.id)
        for deal in living(store, Deal)
        if isinstance(deal, Deal) and deal.contact_id is None
    }
    assert {each for each in left if each[0] == "deal"} == deals


def test_custom_fields_come_one_row_a_value(store: Store) -> None:
    Filler(store).fill()
    record = next(each for each in living(store, Lead) if each.custom)
    told = rows(
        store, f"SELECT * FROM bi_custom_fields WHERE record_type = 'lead' AND record_id = {record.id}"
    )
    values = {row["field"]: row for row in told}
    assert set(values) == set(record.custom or {})
    assert values["note"]["value"] == (record.custom or {})["note"]
    assert values["bikes"]["number"] == pytest.approx((record.custom or {})["bikes"])
    assert values["vip"]["value"] in {"true", "false"}
    assert (values["since"]["label_en"], values["since"]["label_zh"]) == ("since in English", "since 中文")
    assert date.fromisoformat(values["since"]["value"]) == date(1970, 1, 1) + timedelta(
        days=(record.custom or {})["since"]
    )


def test_stages_are_those_of_the_code(store: Store) -> None:
    shown = rows(
        store, "SELECT stage, stage_name_zh, rotting_days, won FROM bi_stages ORDER BY stage_position"
    )
    expected = [(stage.key, stage.name_zh, stage.rotting_days, stage.won) for stage in DEFAULT_PIPELINE]
    assert [tuple(row.values()) for row in shown] == expected


def test_instants_before_1970_are_exact(store: Store) -> None:
    before = datetime(1969, 12, 31, 23, 59, 59, 250_000, tzinfo=UTC)
    with store.transaction() as tx:
        make_account(tx, occurred_at=before)
    (row,) = rows(store, "SELECT occurred_at FROM bi_accounts")
    assert same(row["occurred_at"], before)


def test_an_upgrade_makes_the_views_anew(store: Store, database: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("DROP VIEW bi_leads"))
        connection.execute(text("CREATE VIEW bi_forgotten AS SELECT 1 AS one"))
    store.close()
    migrations.upgrade(database)
    assert rows(store, "SELECT * FROM bi_leads") == []
    with store.reading() as session, pytest.raises(Exception, match="bi_forgotten"):
        session.execute(text("SELECT * FROM bi_forgotten"))


def test_a_file_opened_for_reading_shows_views_and_takes_no_writes(store: Store, database: str) -> None:
    if not database.startswith("sqlite"):
        pytest.skip("PostgreSQL has roles")
    with store.transaction() as tx:
        make_lead(tx)
    path = database.removeprefix("sqlite:///")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert connection.execute("SELECT count(*) FROM bi_leads").fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM leads")
    connection.close()


def test_a_role_reads_the_views_and_nothing_else_and_keeps_that_right(
    request: pytest.FixtureRequest, postgres_database: str
) -> None:
    server, name = postgres_database.rsplit("/", 1)
    role = f"reader_{name}"
    for statement in grants(role, name):
        engine = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()
    try:
        migrations.upgrade(postgres_database)
        engine = create_engine(postgres_database.replace("//crm@", f"//{role}@"))
        with engine.connect() as connection:
            for view in list_views():
                connection.execute(text(f"SELECT * FROM {view.name}"))
            connection.rollback()
            for refused in (
                "SELECT * FROM users",
                "DELETE FROM bi_tags",
                "INSERT INTO changes DEFAULT VALUES",
            ):
                with pytest.raises(Exception, match=r"permission denied|read-only|cannot"):
                    connection.execute(text(refused))
                connection.rollback()
        engine.dispose()
    finally:
        owned = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
        with owned.connect() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
        owned.dispose()
        postgres.execute(server, f"DROP ROLE {role}")


def test_a_role_with_another_name_than_a_plain_word_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="role: expected small letters"):
        grants("bi; DROP TABLE leads", "crm")


def test_fields_of_declared_record_types_are_found_by_the_types_name(store: Store) -> None:
    with store.transaction() as transaction:
        kind = declare_record_type(transaction.session, name="mill", label_en="Mill", label_zh="设备")
        declare_custom(transaction, "mill", price="money", phase="text")
        custom = {"price": Decimal("99.5"), "phase": "设计"}
        transaction.create(CustomRecord(type_id=kind.id, name="Mill", custom=custom))
    found = rows(store, "SELECT field, value, number FROM bi_custom_fields WHERE record_type = 'mill'")
    values = {each["field"]: (each["value"], each["number"]) for each in found}
    assert values["phase"] == ("设计", None)
    assert Decimal(values["price"][0]) == Decimal("99.5")
    assert float(values["price"][1]) == pytest.approx(99.5)
