"""A PostgreSQL server of the tests' own: in a temporary folder, on a free port, gone afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from crm_core.recall import recall_of

QUICK: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "synchronous_commit": "off",
    "jit": "off",
    "max_connections": "300",
}
"""What would be lost with the machine's power is lost with the tests' folder anyway. No database gets so old
that it has to be looked after: doing that for a hundred of them is nothing but work."""

_USES: Final = 10
"""How often a database is used: rows that were deleted stay in its files, and slow down who reads them."""

_ROWS: Final = 2_000
"""A database in which a table held more rows than this is not used again, for the same reason."""

_CATALOGS: Final = (
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_default_acl",
    "pg_index",
    "pg_namespace",
    "pg_proc",
    "pg_rewrite",
    "pg_trigger",
    "pg_type",
)
"""Where the server keeps what a database consists of."""

_numbers = itertools.count(1)

_LAYOUTS = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")


def find_binaries() -> Path | None:
    """Return the folder of initdb and postgres, the newest installed one; None without."""
    found = [Path(folder) for layout in _LAYOUTS for folder in Path("/").glob(layout.removeprefix("/"))]
    found = [folder for folder in found if (folder / "initdb").exists()]
    if found:
        return max(
            found, key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdigit()]
        )
    beside = shutil.which("initdb")
    return Path(beside).resolve().parent if beside else None


def execute(url: str, statement: str) -> None:
    """Run one statement outside of any transaction, as creating databases asks for."""
    # The driver itself: an engine asks the server four questions before its first statement.
    with psycopg.connect(f"{url}/postgres".replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement.encode())


@contextmanager
def server(folder: Path, **settings: str) -> Iterator[str]:
    """Start a server that keeps its files in `folder`; give its URL without a database's name."""
    binaries = find_binaries()
    if binaries is None:
        reason = "PostgreSQL is not installed: initdb was not found"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    who = _unprivileged(folder)
    data, port = folder / "data", _free_port()
    initdb = [
        str(binaries / "initdb"),
        "--no-sync",
        "-A",
        "trust",
        "-U",
        "crm",
        "--locale=C.UTF-8",
        "-D",
        str(data),
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **who)
    command = [
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-c",
        "listen_addresses=127.0.0.1",
        *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, **who) as process,
    ):
        try:
            _wait_for(port)
            yield f"postgresql+psycopg://crm@127.0.0.1:{port}"
        finally:
            # At once: SIGTERM would wait for clients, SIGINT would first write down what nobody keeps.
            process.send_signal(signal.SIGQUIT)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Return how to run as a user that PostgreSQL accepts, which root is not."""
    if os.geteuid() != 0:
        return {}
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == 0 and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    shutil.chown(folder, "postgres", "postgres")
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    # A port that answers is not enough: the server refuses everybody while it is starting up.
    for _ in range(200):
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="crm", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"PostgreSQL did not answer on port {port} within 10 s")


# ------------------------------------------------------------------------ databases that are used again


@dataclass(frozen=True, kw_only=True)
class _Clean:
    """How a database is before anybody has used it."""

    layout: object
    """Whatever it consists of, by the transactions that wrote it down."""
    tables: list[str]
    rows: dict[str, str]
    """The rows of the tables that are not empty, as the server writes them out."""
    sequences: dict[str, int | None]


@dataclass(kw_only=True)
class _Lent:
    """A database, our own connection to it, and how often it was used."""

    url: str
    connection: psycopg.Connection
    uses: int = 0


@dataclass(kw_only=True)
class Databases:
    """Databases made from one template: each is cleaned and lent again, as making one copies 640 files.

    One whose tables, rights or settings somebody changed is not lent again.
    """

    server: str
    template: str
    _free: list[_Lent] = field(default_factory=list)
    _clean: _Clean | None = None

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Give the URL of a database that is like the template, for as long as the block lasts."""
        lent = self._free.pop() if self._free else self._make()
        recall_of(lent.url).forget()  # it is another database now, at the same address
        yield lent.url
        lent.uses += 1
        if lent.uses < _USES and self._wipe(lent.connection):
            self._free.append(lent)
        else:
            lent.connection.close()

    def close(self) -> None:
        """Close our own connections."""
        for lent in self._free:
            lent.connection.close()

    def _make(self) -> _Lent:
        name = f"lent_{next(_numbers)}"
        execute(self.server, f"CREATE DATABASE {name} TEMPLATE {self.template}")
        url = f"{self.server}/{name}"
        connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        # Neither triggers nor foreign keys have a say in what is wiped, and in which order.
        connection.execute("SET session_replication_role = replica")
        if self._clean is None:
            self._clean = _look(connection)
        return _Lent(url=url, connection=connection)

    def _wipe(self, connection: psycopg.Connection) -> bool:
        """Make a database like the template again; tell whether that could be done."""
        clean = self._clean
        assert clean is not None
        _ask(
            connection,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        if _layout(connection) != clean.layout:
            return False
        for table in {*clean.rows, *_filled(connection, clean.tables)}:
            kept = clean.rows.get(table)
            if kept is not None and _written_out(connection, table) == kept:
                continue
            if connection.execute(f"DELETE FROM {table}").rowcount > _ROWS:
                return False
            if kept is not None:
                _write_back(connection, table, kept)
        for name, last in _sequences(connection).items():
            if last != clean.sequences[name]:
                first = clean.sequences[name]
                _ask(connection, f"SELECT setval('{name}', {first or 1}, {first is not None})")
        return True


def _ask(connection: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _look(connection: psycopg.Connection) -> _Clean:
    tables = [
        f'"{name}"'
        for (name,) in _ask(connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]
    return _Clean(
        layout=_layout(connection),
        tables=tables,
        rows={table: _written_out(connection, table) for table in _filled(connection, tables)},
        sequences=_sequences(connection),
    )


def _layout(connection: psycopg.Connection) -> object:
    sums = " UNION ALL ".join(
        f"SELECT '{name}', count(*), sum(xmin::text::bigint) FROM {name}" for name in _CATALOGS
    )
    settings = (
        "SELECT datacl::text, setconfig::text FROM pg_database LEFT JOIN pg_db_role_setting "
        "ON setdatabase = pg_database.oid WHERE datname = current_database()"
    )
    return sorted(_ask(connection, sums)), _ask(connection, settings)


def _filled(connection: psycopg.Connection, tables: list[str]) -> list[str]:
    exists = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
    return [table for (table,) in _ask(connection, exists)]


def _sequences(connection: psycopg.Connection) -> dict[str, int | None]:
    return dict(_ask(connection, "SELECT sequencename, last_value FROM pg_sequences"))


def _written_out(connection: psycopg.Connection, table: str) -> str:
    with (
        closing(connection.cursor()) as cursor,
        cursor.copy(f"COPY {table} TO STDOUT") as out,
    ):
        return b"".join(bytes(part) for part in out).decode()


def _write_back(connection: psycopg.Connection, table: str, rows: str) -> None:
    with (
        closing(connection.cursor()) as cursor,
        cursor.copy(f"COPY {table} FROM STDIN") as into,
    ):
        into.write(rows)
