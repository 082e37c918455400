"""What is kept: never older than what this process wrote, nor than what another one did a second ago."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from crm_core import clock
from crm_core.access import FieldRight, Reader
from crm_core.changes import Source
from crm_core.recall import FRESH_SECONDS, LONGEST_SECONDS, Recall, recall_of, recalled, touches
from crm_core.records import Lead, Role, Team, User
from crm_core.sessions import begin_session, find_logged_in
from crm_core.store import Store
from tests.serving.statements import sent_by


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [clock.ticks()]
    monkeypatch.setattr("crm_core.recall.ticks", lambda: now[0])
    return now


@pytest.fixture
def elsewhere(store: Store) -> Iterator[Store]:
    """Open the store of another process: it knows nothing of what this one writes."""
    other = Store(store.url, clock=store.clock)
    other.recall = Recall()
    yield other
    other.close()


def ask(store: Store, value: str | None, key: str = "x") -> str | None:
    """Return what a new session is told, which would read the value."""
    with store.reading() as session:
        return recalled(session, key, lambda: value)


def write(store: Store) -> None:
    """Write something that may be recalled."""
    with store.transaction(source=Source.API) as transaction:
        transaction.create(Team(name="North"))


def test_what_was_read_is_not_read_again_as_long_as_nobody_writes(
    store: Store, elsewhere: Store, seconds: list[float]
) -> None:
    write(elsewhere)
    assert ask(store, "a") == "a"
    for _ in range(3):
        seconds[0] += 60
        assert ask(store, "b") == "a"


def test_what_another_process_has_written_is_seen_after_a_second(
    store: Store, elsewhere: Store, seconds: list[float]
) -> None:
    ask(store, "old")
    write(elsewhere)
    assert ask(store, "new") == "old"
    seconds[0] += FRESH_SECONDS

    assert ask(store, "new") == "new"
    seconds[0] += FRESH_SECONDS
    assert ask(store, "newer") == "new"


def test_who_logs_in_sees_at_once_what_another_process_has_written(
    store: Store, elsewhere: Store, seconds: list[float]
) -> None:
    with store.transaction() as transaction:
        jo = transaction.create(User(name="Jo", email="jo@example.com", role=Role.REP))
        key = begin_session(transaction.session, jo.id, now=transaction.now, lasts=timedelta(days=1))
    ask(store, "old")
    write(elsewhere)

    with store.reading() as session:
        assert find_logged_in(session, key, now=store.clock.now(), lasts=timedelta(days=1)) is not None
    assert ask(store, "new") == "new"


def test_all_that_is_kept_costs_one_statement_together(store: Store, seconds: list[float]) -> None:
    keys = ("x", "y", "z")
    for key in keys:
        ask(store, "kept", key)

    def statements(keys: tuple[str, ...]) -> int:
        seconds[0] += FRESH_SECONDS
        with sent_by(store) as sent, store.reading() as session:
            assert {recalled(session, key, lambda: "new") for key in keys} == {"kept"}
        return len(sent.statements)

    assert 0 < statements(keys) == statements(("x",))


def test_what_somebody_wrote_past_every_store_is_seen_in_the_end(store: Store, seconds: list[float]) -> None:
    ask(store, "old")
    seconds[0] += LONGEST_SECONDS

    assert ask(store, "new") == "new"


def test_what_was_read_while_somebody_wrote_is_not_kept(store: Store, seconds: list[float]) -> None:
    def reading() -> str:
        write(store)
        return "old"

    with store.reading() as session:
        assert recalled(session, "x", reading) == "old"
    assert ask(store, "new") == "new"


def test_what_is_read_in_an_older_state_is_not_taken_for_the_newest(
    store: Store, elsewhere: Store, seconds: list[float]
) -> None:
    with store.reading() as early:
        early.scalars(select(Team.id)).all()  # it sees the state of now until its end
        write(elsewhere)
        seconds[0] += 0.1
        assert ask(store, "other", "y") == "other"
        seconds[0] += 0.1

        assert recalled(early, "x", lambda: "old") == "old"
    assert ask(store, "new") == "new"


def test_nothing_found_is_not_kept(store: Store, seconds: list[float]) -> None:
    assert [ask(store, found) for found in (None, "there now")] == [None, "there now"]


def test_a_write_makes_all_stores_of_the_database_forget(store: Store, seconds: list[float]) -> None:
    other = Store(store.url, clock=store.clock)
    ask(other, "old")
    write(store)

    assert ask(other, "new") == "new"
    other.close()


def test_what_is_written_all_day_long_makes_nobody_forget(
    store: Store, elsewhere: Store, seconds: list[float]
) -> None:
    ask(store, "kept")
    ask(elsewhere, "kept")

    with store.transaction(source=Source.API) as transaction:
        transaction.create(Lead(company="Fangda Valves"))

    seconds[0] += FRESH_SECONDS
    assert ask(store, "new") == ask(elsewhere, "new") == "kept"


def test_who_writes_reads_for_itself_once_it_has_written_what_may_be_recalled(store: Store) -> None:
    with store.reading() as session:
        assert recalled(session, "x", lambda: "old") == "old"
        assert recalled(session, "x", lambda: "new") == "old"
    with store.transaction() as transaction:
        assert recalled(transaction.session, "x", lambda: "new") == "old"
        transaction.create(Lead(company="Fangda Valves"))
        assert recalled(transaction.session, "x", lambda: "new") == "old"
        transaction.session.add(Team(name="North", occurred_at=transaction.now, recorded_at=transaction.now))
        assert recalled(transaction.session, "x", lambda: "not even in the database") == (
            "not even in the database"
        )
        transaction.session.flush()
        assert recalled(transaction.session, "x", lambda: "new") == "new"
        assert recalled(transaction.session, "x", lambda: "newer") == "newer"


def test_what_was_undone_is_not_recalled(store: Store) -> None:
    def undone() -> None:
        with store.transaction() as transaction:
            transaction.create(Team(name="North"))
            recalled(transaction.session, "x", lambda: "undone")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    with store.reading() as session:
        assert recalled(session, "x", lambda: "true") == "true"


def sees_phones(store: Store, user: User) -> tuple[bool, bool]:
    """Tell whether somebody sees the phones of leads, in a session that reads and in one that may write."""
    with store.reading() as session, store.transaction() as transaction:
        readers = Reader(session, user), Reader(transaction.session, user)
        first, second = (each.may_read_field("lead", "phone") for each in readers)
    return first, second


def test_a_right_that_is_set_counts_at_once_for_who_reads_and_who_writes(store: Store) -> None:
    with store.transaction() as transaction:
        rep = transaction.create(User(name="Jo", email="jo@example.com", role=Role.REP))
    assert sees_phones(store, rep) == (True, True)
    with store.transaction() as transaction:
        right = FieldRight(role=Role.REP, record_type="lead", field="phone", read=False, write=False)
        transaction.session.add(right)
        assert not Reader(transaction.session, rep).may_read_field("lead", "phone")

    assert sees_phones(store, rep) == (False, False)


@pytest.mark.parametrize(
    ("statement", "touched"),
    [
        ("SELECT users.id FROM users FOR UPDATE", False),
        ("INSERT INTO activities (kind) VALUES (?)", False),
        ("INSERT OR IGNORE INTO predictions (task) VALUES (?)", False),
        ("INSERT INTO search_fresh (x) VALUES (?) ON CONFLICT (x) DO UPDATE SET x = excluded.x", False),
        ("WITH a AS (INSERT INTO predictions (x) VALUES (1)) UPDATE leads SET score = 1", False),
        ("WITH a AS (INSERT INTO predictions (x) VALUES (1)) UPDATE users SET name = 1", True),
        ("UPDATE users SET name = ?", True),
        ('DELETE FROM "tokens" WHERE id = ?', True),
        ("COPY teams (name) FROM STDIN", True),
        ("CREATE TEMPORARY TABLE IF NOT EXISTS predictions_to_write (x bigint)", False),
        ("COPY predictions_to_write (x) FROM STDIN (FORMAT BINARY)", False),
        ("DROP TABLE leads", True),
    ],
)
def test_writes_are_told_apart_by_their_tables(statement: str, touched: bool) -> None:
    assert touches(statement) is touched


def test_databases_in_memory_share_nothing() -> None:
    assert recall_of("sqlite://") is not recall_of("sqlite://")


def test_who_began_before_a_write_neither_recalls_nor_tells_what_they_see(store: Store) -> None:
    with store.reading() as early:
        assert recalled(early, "x", lambda: "old") == "old"
        with store.transaction(source=Source.API) as transaction:
            transaction.create(Team(name="North"))
        with store.reading() as late:
            assert recalled(late, "x", lambda: "new") == "new"

            assert recalled(early, "y", lambda: "old") == "old"
            assert recalled(early, "x", lambda: "old") == "old"
            assert recalled(late, "y", lambda: "new") == "new"
