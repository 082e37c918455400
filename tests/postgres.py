"""A PostgreSQL server of the tests' own: in a temporary folder, on a free port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

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
    engine = create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


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
