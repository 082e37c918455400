"""What is kept for a moment: never older than what this process wrote, nor than a second."""

import pytest

from crm_core import recall
from crm_core.access import FieldRight, Reader
from crm_core.changes import Source
from crm_core.recall import FRESH_SECONDS, Recall, recall_of, recalled, touches
from crm_core.records import Lead, Role, Team, User
from crm_core.store import Store


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(recall, "ticks", lambda: now[0])
    return now


def test_what_was_read_a_moment_ago_is_not_read_again(seconds: list[float]) -> None:
    read = iter("ab")
    kept = Recall()

    assert [kept.get("x", lambda: next(read)) for _ in range(3)] == ["a", "a", "a"]


def test_what_another_process_may_have_changed_is_read_again_after_a_second(seconds: list[float]) -> None:
    read = iter("ab")
    kept = Recall()
    kept.get("x", lambda: next(read))
    seconds[0] += FRESH_SECONDS

    assert kept.get("x", lambda: next(read)) == "b"


def test_what_was_read_while_somebody_wrote_is_not_kept(seconds: list[float]) -> None:
    kept = Recall()

    def reading() -> str:
        kept.forget()
        return "old"

    assert kept.get("x", reading) == "old"
    assert kept.get("x", lambda: "new") == "new"


def test_nothing_found_is_not_kept(seconds: list[float]) -> None:
    found: list[str | None] = [None, "there now"]
    kept = Recall()

    assert [kept.get("x", lambda: found.pop(0)) for _ in range(2)] == [None, "there now"]


def test_a_write_makes_all_stores_of_the_database_forget(store: Store) -> None:
    other = Store(store.url, clock=store.clock)
    other.recall.get("x", lambda: "old")

    with store.transaction(source=Source.API) as transaction:
        transaction.create(Team(name="North"))

    assert other.recall.get("x", lambda: "new") == "new"
    other.close()


def test_what_is_written_all_day_long_makes_nobody_forget(store: Store) -> None:
    store.recall.get("x", lambda: "kept")

    with store.transaction(source=Source.API) as transaction:
        transaction.create(Lead(company="Fangda Valves"))

    assert store.recall.get("x", lambda: "new") == "kept"


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
