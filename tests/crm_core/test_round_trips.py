"""What is sent to PostgreSQL in one piece: what comes of it, also where the server forgot or refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

from crm_core import round_trips
from crm_core.arrays import ArrayQuery, keyed, read_ahead
from crm_core.records import User
from crm_core.round_trips import fetch_at_once
from crm_core.store import Store
from tests.factories import make_user


@pytest.fixture
def database(postgres_database: str) -> str:
    """Of SQLite nothing is asked over a network."""
    return postgres_database


@pytest.fixture
def driver(store: Store) -> Iterator[psycopg.Connection[Any]]:
    """A connection that belongs to no pool."""
    url = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


ASKED = (
    ("SELECT $1::bigint + 1, $2::text", [41, "é"]),
    ("SELECT 7 WHERE $1", [False]),
    ("SELECT $1::int", [None]),
)
ANSWERS = [[(42, "é")], [], [(None,)]]


def test_every_statement_is_answered_in_its_place(driver: psycopg.Connection[Any]) -> None:
    info: dict[Any, Any] = {}
    for _ in range(3):
        assert [list(rows) for rows in fetch_at_once(driver, info, [*ASKED, *ASKED])] == ANSWERS * 2
    assert driver.execute("SELECT 1").fetchall() == [(1,)]
    assert driver.execute("SHOW plan_cache_mode").fetchall() == [("auto",)]


def test_what_the_server_forgot_is_prepared_again(driver: psycopg.Connection[Any]) -> None:
    info: dict[Any, Any] = {}
    fetch_at_once(driver, info, ASKED)
    driver.execute("DEALLOCATE ALL")
    assert [list(rows) for rows in fetch_at_once(driver, info, ASKED)] == ANSWERS


def test_a_table_that_got_another_form_is_read_in_it(driver: psycopg.Connection[Any]) -> None:
    info: dict[Any, Any] = {}
    driver.execute("CREATE TEMPORARY TABLE short (a int)")
    driver.execute("INSERT INTO short VALUES (1)")
    assert fetch_at_once(driver, info, [("SELECT * FROM short", [])]) == [[(1,)]]
    driver.execute("ALTER TABLE short ADD COLUMN b text DEFAULT 'b'")
    assert fetch_at_once(driver, info, [("SELECT * FROM short", [])]) == [[(1, "b")]]


def test_what_is_refused_is_raised_and_the_connection_goes_on(driver: psycopg.Connection[Any]) -> None:
    info: dict[Any, Any] = {}
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            fetch_at_once(driver, info, [*ASKED, ("SELECT 1 / $1::int", [0]), ("SELECT 2", [])])
        with pytest.raises(psycopg.errors.UndefinedTable):
            fetch_at_once(driver, info, [("SELECT * FROM no_such_table", []), *ASKED])
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        fetch_at_once(driver, info, [("DELETE FROM users", [])])
    assert [list(rows) for rows in fetch_at_once(driver, info, ASKED)] == ANSWERS


def test_what_is_written_is_kept_whole_or_not_at_all(driver: psycopg.Connection[Any]) -> None:
    info: dict[Any, Any] = {}
    driver.execute("CREATE TEMPORARY TABLE written (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    add = "INSERT INTO written SELECT $1 RETURNING a"
    assert fetch_at_once(driver, info, [(add, [1])], writes=True) == [[(1,)]]
    driver.execute("DEALLOCATE ALL")
    assert fetch_at_once(driver, info, [(add, [2]), (add, [3])], writes=True) == [[(2,)], [(3,)]]
    with pytest.raises(psycopg.errors.DataError):
        fetch_at_once(driver, info, [(add, [4]), (add, ["x"])], writes=True)
    with pytest.raises(psycopg.errors.UniqueViolation):  # found only when all is to be kept
        fetch_at_once(driver, info, [(add, [4]), (add, [1])], writes=True)
    assert driver.execute("SELECT a FROM written ORDER BY a").fetchall() == [(1,), (2,), (3,)]
    assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_lost_connection_is_the_drivers_error(store: Store, driver: psycopg.Connection[Any]) -> None:
    info: dict[Any, Any] = {}
    fetch_at_once(driver, info, ASKED)
    with store.engine.connect() as other:
        other.exec_driver_sql("SELECT pg_terminate_backend(%s, 5000)", (driver.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        fetch_at_once(driver, info, ASKED)
    assert driver.closed


def test_a_connection_keeps_no_more_statements_than_so_many(
    driver: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trips, "_MOST", 8)
    info: dict[Any, Any] = {}
    for number in range(30):
        (rows,) = fetch_at_once(driver, info, [(f"SELECT {number}", [])])
        assert list(rows) == [(number,)]
    kept = driver.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'crm_%'").fetchone()
    assert kept is not None
    assert kept[0] <= 9


def test_a_long_question_is_sent_while_its_answers_come(driver: psycopg.Connection[Any]) -> None:
    long = "x" * 200_000
    rows = fetch_at_once(driver, {}, [(f"SELECT {number}, $1::text", [long]) for number in range(40)])
    assert [list(each) for each in rows] == [[(number, long)] for number in range(40)]


def test_who_only_read_leaves_others_what_was_prepared(store: Store) -> None:
    with store.transaction() as transaction:
        user = make_user(transaction)
    query = select(User.id).where(User.id == user.id)
    for _ in range(8):
        with store.transaction() as transaction:
            transaction.session.scalar(query)
    with store.reading() as session:
        assert session.scalar(query) == user.id
    with store.engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
    assert kept > 0


def test_a_glance_sees_what_any_reading_does(store: Store) -> None:
    with store.transaction() as transaction:
        users = [make_user(transaction, name) for name in ("Ana", "Ben", "Otto")]
    query = ArrayQuery(select(User.id, User.name).where(keyed(User.id, few=True)).order_by(User.id))
    ids = [user.id for user in users]
    with store.glancing() as session:
        (glanced,) = read_ahead(session, [(query, ids)])
    with store.reading() as session:
        (read,) = read_ahead(session, [(query, ids)])
    assert glanced["id"].tolist() == read["id"].tolist() == ids
    assert glanced["name"].tolist() == read["name"].tolist()
