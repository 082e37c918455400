"""A backup taken while others write is one state of everything, and comes back as it was or not at all."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select, text

from crm_core import migrations
from crm_core.changes import Change, Cursor, list_changes, newest_sequence
from crm_core.clock import FixedClock
from crm_core.errors import BackupError, HomeInUseError, StoreNotInitialisedError
from crm_core.records import Account, Order
from crm_core.store import Store
from serving.backups import put_back, read_manifest, take_backup
from serving.cli import main
from serving.home import Home, session_secret
from tests.factories import make_account, make_lead, make_order
from tests.serving.both_databases import *  # noqa: F403  the fixtures of both databases


@pytest.fixture
def source(home: Path, store: Store) -> Home:
    """A home with a few records, a model's file, points and a tracking database."""
    made = Home.at(home, database_url=store.url)
    made.create()
    session_secret(made)
    (made.models / "abc.json").write_text('{"a": 1}')
    made.scorecard.write_text("# points")
    with sqlite3.connect(home / "mlflow.db") as tracking:
        tracking.execute("CREATE TABLE experiments (artifact_location TEXT)")
        tracking.execute("INSERT INTO experiments VALUES (?), ('elsewhere')", (f"{made.artifacts}/churn",))
    with store.transaction() as transaction:
        for _ in range(3):
            make_lead(transaction)
    return made


@pytest.fixture
def empty(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    """A home that does not exist yet, on a database of the same kind without a table."""
    folder = tmp_path / "other"
    if store.engine.dialect.name == "sqlite":
        yield Home.at(folder)
        return
    yield Home.at(folder, database_url=request.getfixturevalue("empty_postgres"))


def count(home: Home, model: type[Account | Order | Change]) -> int:
    opened = Store(home.database_url)
    with opened.reading() as session:
        found = session.scalar(select(func.count()).select_from(model)) or 0
    opened.close()
    return found


def test_everything_comes_back(source: Home, empty: Home, store: Store, tmp_path: Path) -> None:
    taken = take_backup(source, tmp_path / "crm.tar.gz")

    put_back(empty, taken.file)

    assert count(empty, Change) == 3
    assert (empty.models / "abc.json").read_text() == '{"a": 1}'
    assert empty.scorecard.read_text() == "# points"
    assert empty.secrets.read_bytes() == source.secrets.read_bytes()
    with sqlite3.connect(empty.folder / "mlflow.db") as tracking:
        found = tracking.execute("SELECT artifact_location FROM experiments").fetchall()
    assert found == [(f"{empty.artifacts}/churn",), ("elsewhere",)]
    assert sorted(path.name for path in empty.folder.iterdir() if path.name.startswith(".")) == []
    migrations.check(empty.database_url)


def test_nobody_else_can_read_it(source: Home, empty: Home, tmp_path: Path) -> None:
    taken = take_backup(source, tmp_path / "crm.tar.gz")
    put_back(empty, taken.file)

    assert taken.file.stat().st_mode & 0o077 == 0
    assert [path for path in empty.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []


def test_it_is_one_state_although_others_write(
    source: Home, empty: Home, store: Store, tmp_path: Path
) -> None:
    """Every account is written with two orders in one transaction: a backup has both or none."""
    stopping, wrote, failed = threading.Event(), threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            while not stopping.is_set():
                with store.transaction() as transaction:
                    account = make_account(transaction)
                    make_order(transaction, account_id=account.id)
                    transaction.session.flush()
                    make_order(transaction, account_id=account.id)
                wrote.set()
        except BaseException as error:
            failed.append(error)
            raise

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    assert wrote.wait(30)
    before = count(source, Account)
    taken = [take_backup(source, tmp_path / f"{number}.tar.gz") for number in range(2)]
    stopping.set()
    for writer in writers:
        writer.join(30)
    put_back(empty, taken[-1].file)

    assert failed == []
    assert before <= count(empty, Account) <= count(source, Account)
    assert count(empty, Order) == 2 * count(empty, Account)
    assert count(empty, Change) == 3 + 3 * count(empty, Account)


def test_readers_of_the_log_go_on_after_a_move_to_another_server(
    source: Home, empty: Home, store: Store, tmp_path: Path
) -> None:
    """Another server counts transactions anew: what is written there still comes after the log."""
    with store.transaction() as transaction:
        transaction.session.add(Cursor(name="reader", position=10_000_000))
        if store.engine.dialect.name == "postgresql":
            transaction.session.execute(text("UPDATE changes SET sequence = sequence + 9999990"))
    taken = take_backup(source, tmp_path / "crm.tar.gz")
    put_back(empty, taken.file)
    moved = Store(empty.database_url, clock=FixedClock(store.clock.now() + timedelta(hours=1)))

    with moved.reading() as session:
        at = newest_sequence(session)
        assert len(list_changes(session, after=0, limit=10)) == 3
    with moved.transaction() as transaction:
        make_lead(transaction)
    with moved.reading() as session:
        after = [change.sequence for change in list_changes(session, after=at, limit=10)]
    moved.close()

    assert len(after) == 1
    if store.engine.dialect.name == "postgresql":
        assert after[0] > 10_000_000


def test_a_log_that_was_moved_by_other_means_is_noticed(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite counts in its own file")
    with store.transaction() as transaction:
        make_lead(transaction)
        transaction.session.execute(text("UPDATE changes SET sequence = sequence + 9999990"))

    with pytest.raises(StoreNotInitialisedError, match="another server; run: crm init"):
        migrations.check(store.url)
    migrations.upgrade(store.url)

    migrations.check(store.url)
    with store.reading() as session:
        assert len(list_changes(session, after=0, limit=10)) == 1


def test_nothing_is_overwritten(source: Home, empty: Home, tmp_path: Path) -> None:
    taken = take_backup(source, tmp_path / "crm.tar.gz")

    with pytest.raises(BackupError, match="is there already"):
        take_backup(source, taken.file)
    with pytest.raises(HomeInUseError, match="already"):
        put_back(source, taken.file)
    put_back(empty, taken.file)
    with pytest.raises(HomeInUseError):
        put_back(Home.at(tmp_path / "third", database_url=empty.database_url), taken.file)


def _flip(content: bytes) -> bytes:
    """Flip one of the bits in the middle that mean something: packed bytes have some that do not."""
    whole = gzip.decompress(content)
    for at in range(len(content) // 2, len(content)):
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        try:
            if gzip.decompress(flipped) != whole:
                return flipped
        except (OSError, EOFError, zlib.error):
            return flipped
    raise AssertionError("no bit means anything")


def _changed(content: bytes, name: str, new: bytes) -> bytes:
    """Return an archive in which one member holds something else."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as old,
        tarfile.open(fileobj=out, mode="w:gz") as made,
    ):
        for told in old:
            held = old.extractfile(told)
            assert held is not None
            bytes_held = new if told.name == name else held.read()
            told.size = len(bytes_held)
            made.addfile(told, io.BytesIO(bytes_held))
    return out.getvalue()


def _outside(_content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        told = tarfile.TarInfo("../outside")
        told.size = 1
        made.addfile(told, io.BytesIO(b"x"))
    return out.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="cut short"),
        pytest.param(_flip, id="a flipped bit"),
        pytest.param(lambda content: _changed(content, "models/abc.json", b"{}"), id="another file"),
        pytest.param(lambda content: _changed(content, "manifest.json", b"{}"), id="another manifest"),
        pytest.param(lambda content: _changed(content, "manifest.json", b"["), id="no manifest"),
        pytest.param(_outside, id="a path that leads outside"),
        pytest.param(lambda _content: b"hello", id="no archive"),
        pytest.param(lambda _content: b"", id="nothing"),
    ],
)
def test_a_spoilt_backup_is_refused_and_nothing_is_written(
    source: Home, empty: Home, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    taken = take_backup(source, tmp_path / "crm.tar.gz")
    spoilt = tmp_path / "spoilt.tar.gz"
    spoilt.write_bytes(spoil(taken.file.read_bytes()))

    with pytest.raises(BackupError, match=r"damaged|no backup|cannot be read"):
        put_back(empty, spoilt)

    assert not empty.folder.exists() or list(empty.folder.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_one_of_a_newer_program_is_refused(source: Home, empty: Home, tmp_path: Path) -> None:
    taken = take_backup(source, tmp_path / "crm.tar.gz")
    with tarfile.open(taken.file) as archive:
        held = archive.extractfile("manifest.json")
        assert held is not None
        manifest = json.loads(held.read())
    newer = tmp_path / "newer.tar.gz"
    changed = json.dumps({**manifest, "schema": "9999"}).encode()
    newer.write_bytes(_changed(taken.file.read_bytes(), "manifest.json", changed))

    with pytest.raises(BackupError, match="newer program"):
        put_back(empty, newer)


def test_a_folder_keeps_the_newest(source: Home, tmp_path: Path, clock: FixedClock) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "mine.tar.gz").write_bytes(b"")
    taken = []
    for _ in range(4):
        taken.append(take_backup(source, folder, keep=2, clock=clock).file)
        clock.advance(timedelta(hours=1))

    assert sorted(folder.iterdir()) == sorted([*taken[-2:], folder / "mine.tar.gz"])


def test_the_commands_say_what_they_did(source: Home, tmp_path: Path, store: Store) -> None:
    if store.engine.dialect.name == "postgresql":
        pytest.skip("the same command")
    run = CliRunner().invoke
    there = ["--home", str(source.folder), "--json"]
    done = run(main, ["backup", "--to", str(tmp_path), *there])
    told = json.loads(done.stdout)
    checked = run(main, ["restore", "--check", told["file"], "--json"])
    other = run(main, ["restore", told["file"], "--home", str(tmp_path / "other")])
    again = run(main, ["restore", told["file"], "--home", str(tmp_path / "other")])

    assert (
        json.loads(checked.stdout)["files"] == told["files"] == len(read_manifest(Path(told["file"])).members)
    )
    assert "put back into" in other.stdout
    assert again.exit_code != 0
    assert count(Home.at(tmp_path / "other"), Change) == 3
