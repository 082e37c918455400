"""Copies of a whole database as it was at one instant, taken while others write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, inspect, make_url

from crm_core.database import open_engine
from crm_core.errors import BackupError, HomeInUseError

SQLITE, POSTGRESQL = "sqlite", "postgresql"
"""Forms of a snapshot: a database file, or an archive that pg_restore reads."""

_PAGES_AT_ONCE = -1  # all in one go: a copy in steps begins anew whenever another process writes

Progress = Callable[[int, int], None]
"""Told how many pages are still to be copied, and of how many."""


def form_of(url: str) -> str:
    """Return which form a snapshot of the database at `url` has."""
    return SQLITE if make_url(url).get_backend_name() == "sqlite" else POSTGRESQL


def take_snapshot(url: str, target: Path) -> str:
    """Write the database at `url` to the new file `target` as it is at one instant; return the form.

    Whoever writes meanwhile is not kept waiting. Raises BackupError if it cannot be copied, or if the copy is
    not a sound database.
    """
    if form_of(url) == SQLITE:
        copy_sqlite(_file_of(url), target)
    else:
        # A custom archive is compressed by itself, and restored by one program in one transaction.
        _run("pg_dump", ["--format=custom", "--no-owner", f"--file={target}"], make_url(url))
    return form_of(url)


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite database, with what is in its log, as it is at one instant."""
    if not source.exists():
        raise BackupError(f"there is no database at {source}")
    # `mode=rw`: a copy of what is not there must not make it.
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.execute("PRAGMA busy_timeout = 30000")
        try:
            live.backup(copy, pages=_PAGES_AT_ONCE)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            raise BackupError(f"{source} cannot be copied: {error}") from error
    if found != "ok":
        raise BackupError(f"the copy of {source} is not sound: {found}")


def put_back(form: str, snapshot: Path, url: str) -> None:
    """Fill the empty database at `url` from a snapshot.

    Raises BackupError for a snapshot of another database system, HomeInUseError if the database holds
    something; nothing is written then.
    """
    if form != form_of(url):
        raise BackupError(
            f"the backup holds a {form} database, expected {form_of(url)}, as the settings name one"
        )
    check_empty(url)
    if form == SQLITE:
        unfinished = _file_of(url).with_suffix(".unfinished")
        shutil.copyfile(snapshot, unfinished)
        unfinished.chmod(0o600)
        unfinished.replace(_file_of(url))
    else:
        _run(
            "pg_restore",
            ["--single-transaction", "--exit-on-error", "--no-owner", str(snapshot)],
            make_url(url),
        )


def check_empty(url: str) -> None:
    """Raise HomeInUseError if there is something in the database at `url`."""
    if form_of(url) == SQLITE:
        if _file_of(url).exists():
            raise HomeInUseError(f"{_file_of(url)} is there already; restore into another home")
        return
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            tables = inspect(connection).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise HomeInUseError(
            f"the database {make_url(url).database} holds {len(tables)} tables; restore into an empty one"
        )


def _file_of(url: str) -> Path:
    return Path(make_url(url).database or "")


def _run(program: str, arguments: Sequence[str], url: URL) -> None:
    """Run one of PostgreSQL's programs; the password goes by its environment, which others cannot read."""
    found = shutil.which(program)
    if found is None:
        raise BackupError(
            f"{program} was not found: install PostgreSQL's client programs, of the server's version"
        )
    where = ["--host", url.host or "", "--port", str(url.port or 5432), "--username", url.username or ""]
    named = ["--dbname", url.database or ""]
    environment = {"PATH": os.defpath, "PGPASSWORD": str(url.password or ""), "PGCONNECT_TIMEOUT": "10"}
    done = subprocess.run(  # noqa: S603  a program found on the path, with arguments of our own
        [found, "--no-password", *where, *named, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{program} failed: {done.stderr.strip()[:500]}")
