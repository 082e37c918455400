"""Records and their change rows are written together, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from crm_core import database
from crm_core.changes import Change, Source, list_changes, list_changes_between, newest_sequence
from crm_core.clock import FixedClock, micros
from crm_core.errors import (
    DuplicateExternalIdError,
    FutureEventError,
    InvalidValueError,
    RecordNotFoundError,
    StageNotInPipelineError,
    StaleRecordError,
    UnknownFieldError,
    UnsafeTextError,
)
from crm_core.records import Account, Activity, Deal, Lead, Order
from crm_core.store import Store
from tests.factories import declare_custom, make_account, make_activity, make_deal, make_lead


def changes_of(store: Store) -> list[Change]:
    with store.reading() as session:
        return list(list_changes(session, after=0, limit=1000))


def count(store: Store, model: type[Any]) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_creating_a_record_leaves_one_change_row_whatever_it_holds(store: Store) -> None:
    with store.transaction(actor_id=None) as transaction:
        lead = make_lead(transaction)

    (change,) = changes_of(store)
    assert (change.record_type, change.record_id, change.action) == ("lead", lead.id, "created")
    assert change.recorded_at == store.clock.now()


def test_an_update_logs_old_and_new_of_each_field_that_changed(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, source="ad", region=None)
    with store.transaction(source=Source.API) as transaction:
        found = transaction.get(Lead, lead.id)
        transaction.update(found, {"source": "ad", "region": "South"})

    change = changes_of(store)[-1]
    assert (change.field, change.old, change.new, change.source) == ("region", None, "South", "api")
    assert len(changes_of(store)) == 2


def test_money_days_and_instants_are_logged_in_their_stored_form(store: Store) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, amount=Decimal("1.5"))
        transaction.update(deal, {"amount": Decimal("2.25")})

    change = changes_of(store)[-1]
    assert (change.old, change.new) == (15_000, 22_500)


def test_every_edit_counts_a_version_and_an_edit_without_effect_does_not(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        transaction.update(lead, {"region": "South"})
        transaction.update(lead, {"region": "South"})

    assert lead.version == 2


def test_an_edit_of_an_outdated_version_is_refused(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        transaction.update(lead, {"region": "South"})

    expected = "version 2, the edit was made on version 1"
    with pytest.raises(StaleRecordError, match=expected), store.transaction() as transaction:
        transaction.get(Lead, lead.id, version=1)


def test_a_late_fact_goes_into_history_and_leaves_the_record_as_it_is(
    store: Store, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, stage="first_contact")
    clock.advance(timedelta(days=10))
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal.id), {"stage": "proposal"})
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        found = transaction.get(Deal, deal.id)
        transaction.update(found, {"stage": "needs"}, occurred_at=clock.now() - timedelta(days=5))

    late = changes_of(store)[-1]
    assert found.stage == "proposal"
    assert (late.old, late.new) == ("first_contact", "needs")
    assert late.occurred_at < late.recorded_at


def test_a_custom_field_is_logged_under_its_own_name(store: Store) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", tier="text", tender="flag")
        lead = make_lead(transaction, custom={"tier": "gold"})
        transaction.update(lead, {"custom.tier": "silver", "custom.tender": True})

    assert lead.custom == {"tier": "silver", "tender": True}
    assert [(c.field, c.old, c.new) for c in changes_of(store)[3:]] == [
        ("custom.tier", "gold", "silver"),
        ("custom.tender", None, True),
    ]


def test_a_deleted_record_is_gone_and_its_history_stays(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        transaction.delete(lead)

    with pytest.raises(RecordNotFoundError), store.transaction() as transaction:
        transaction.get(Lead, lead.id)
    assert [change.action for change in changes_of(store)] == ["created", "deleted"]


def test_nothing_of_a_failed_transaction_stays(store: Store) -> None:
    def half_done() -> None:
        with store.transaction() as transaction:
            lead = make_lead(transaction)
            make_activity(transaction, lead_id=lead.id, duration_seconds=-1)

    with pytest.raises(InvalidValueError, match=r"activity\.duration_seconds"):
        half_done()
    assert (count(store, Lead), count(store, Activity), count(store, Change)) == (0, 0, 0)


def test_create_many_writes_what_create_would(store: Store) -> None:
    when = datetime(2026, 1, 5, tzinfo=UTC)
    with store.transaction(source=Source.IMPORT) as transaction:
        account = make_account(transaction)
        one = Order(account_id=account.id, occurred_at=when, recorded_at=when, amount=Decimal(7))
        transaction.create(one)
        row = {"account_id": account.id, "occurred_at": when, "recorded_at": when, "amount": Decimal(7)}
        ids = transaction.create_many(Order, [row, row])

    with store.reading() as session:
        orders = session.scalars(select(Order).order_by(Order.id)).all()
        facts = {(o.account_id, o.occurred_at, o.recorded_at, o.amount, o.version) for o in orders}
        logged = session.execute(
            select(Change.record_id, Change.action, Change.occurred_at).where(Change.record_type == "order")
        ).all()
    assert ids == [one.id + 1, one.id + 2]
    assert facts == {(account.id, when, when, Decimal(7), 1)}
    assert [tuple(row) for row in logged] == [(o.id, "created", when) for o in orders]


def test_records_made_after_a_bulk_write_do_not_collide_with_it(store: Store) -> None:
    with store.transaction() as transaction:
        ids = transaction.create_many(Account, [{"name": "One"}, {"name": "Two"}])
        third = make_account(transaction)

    assert third.id == ids[-1] + 1


def test_a_bad_row_in_a_bulk_write_leaves_nothing(store: Store) -> None:
    with pytest.raises(UnsafeTextError, match=r"account\.name"), store.transaction() as transaction:
        transaction.create_many(Account, [{"name": "One"}, {"name": "Tw\x00"}])
    assert count(store, Account) == 0


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("name", "a\x00b", UnsafeTextError),
        ("name", "half \ud800 pair", UnsafeTextError),
        ("name", "x" * 201, InvalidValueError),
        ("name", 7, InvalidValueError),
        ("status", "sleeping", InvalidValueError),
        ("employees", -1, InvalidValueError),
        ("employees", True, InvalidValueError),
        ("custom", {"note": ["deep \x00"]}, UnsafeTextError),
        ("custom", {"ratio": float("nan")}, InvalidValueError),
        ("occurred_at", datetime(2026, 1, 1), InvalidValueError),  # noqa: DTZ001  naive on purpose
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    store: Store, field: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=field), store.transaction() as transaction:
        make_lead(transaction, **{field: value})
    assert count(store, Change) == 0


def test_an_unknown_field_and_a_field_of_the_models_are_refused_alike(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    for field in ("shoe_size", "probability", "id", "recorded_at", "version"):
        with pytest.raises(UnknownFieldError, match=field), store.transaction() as transaction:
            transaction.update(transaction.get(Lead, lead.id), {field: 1})


def test_what_has_not_happened_yet_cannot_be_logged(store: Store) -> None:
    tomorrow = store.clock.now() + timedelta(days=1)
    with pytest.raises(FutureEventError, match="occurred_at"), store.transaction() as transaction:
        make_lead(transaction, occurred_at=tomorrow)


def test_a_clock_a_second_ahead_is_taken_as_now(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, occurred_at=store.clock.now() + timedelta(seconds=1))

    assert lead.occurred_at == store.clock.now()


def test_only_an_import_may_say_when_something_was_learned(store: Store) -> None:
    before = store.clock.now() - timedelta(days=3)
    with pytest.raises(InvalidValueError, match="recorded_at"), store.transaction() as transaction:
        make_lead(transaction, recorded_at=before)
    with store.transaction(source=Source.IMPORT) as transaction:
        assert make_lead(transaction, recorded_at=before).recorded_at == before


def test_an_external_id_belongs_to_one_record_of_a_type(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, external_id="A-1")
        make_account(transaction, external_id="A-1")
    with pytest.raises(DuplicateExternalIdError, match="A-1"), store.transaction() as transaction:
        make_lead(transaction, external_id="A-1")


def test_a_deal_cannot_enter_a_stage_that_its_pipeline_does_not_have(store: Store) -> None:
    with pytest.raises(StageNotInPipelineError, match="first_contact"), store.transaction() as transaction:
        make_deal(transaction, stage="dancing")


def test_readers_follow_the_log_in_the_order_of_writing(store: Store) -> None:
    for _ in range(7):
        with store.transaction() as transaction:
            make_lead(transaction)
    with store.reading() as session:
        first = list_changes(session, after=0, limit=3)
        rest = list_changes(session, after=first[-1].sequence, limit=9)
        assert [change.id for change in (*first, *rest)] == list(range(1, 8))
        assert newest_sequence(session) == rest[-1].sequence


def test_readers_get_whole_transactions(store: Store) -> None:
    for size in (2, 5, 1):
        with store.transaction() as transaction:
            transaction.create_many(Account, [{"name": "One"}] * size)
    with store.reading() as session:
        first = list_changes(session, after=0, limit=3)
        between = list_changes_between(session, after=0, until=first[-1].sequence)
        rest = list_changes(session, after=first[-1].sequence, limit=3)
    assert ([len(first), len(rest)], [c.id for c in between]) == ([7, 1], [c.id for c in first])


def test_two_writers_at_once_lose_no_update(store: Store) -> None:
    with store.transaction() as transaction:
        lead_id = make_lead(transaction, employees=0).id

    def add_one(_: int) -> None:
        with store.transaction() as transaction:
            lead = transaction.get(Lead, lead_id)
            transaction.update(lead, {"employees": (lead.employees or 0) + 1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(40)))
    with store.reading() as session:
        lead = session.get_one(Lead, lead_id)
        assert (lead.employees, lead.version) == (40, 41)
    edits = sorted(changes_of(store)[1:], key=lambda change: change.id)
    assert [change.new for change in edits] == list(range(1, 41))


def test_a_reader_sees_one_state_while_others_write(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)
    with store.reading() as session:
        before = session.scalar(select(func.count()).select_from(Lead))
        with store.transaction() as transaction:
            make_lead(transaction)
        assert session.scalar(select(func.count()).select_from(Lead)) == before


def test_instants_keep_every_microsecond(store: Store) -> None:
    exact = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    with store.transaction() as transaction:
        lead = make_lead(transaction, occurred_at=exact)
    with store.reading() as session:
        assert session.get_one(Lead, lead.id).occurred_at == exact
        assert micros(exact) % 1_000_000 == 999_999


def test_outside_of_tests_a_commit_waits_until_it_is_on_the_disk(
    pragmas: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PRAGMAS", pragmas)
    engine = database.open_engine(f"sqlite:///{home / 'crm.db'}")
    with engine.connect() as connection:
        told = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")
        ]
    engine.dispose()
    assert told == [2, "wal"], "2 is FULL"
