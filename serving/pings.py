"""Whether the parts around the service answer: the tracking of training runs, and the disk."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url, text
from sqlalchemy.exc import SQLAlchemyError

from crm_core.database import open_engine
from serving.home import Home

LEAST_FREE_BYTES = 200_000_000
"""With less room than this a database may stop in the middle of its work."""

_KEEP_SECONDS = 10.0
_PATIENCE_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class Ping:
    """Whether a part answered, and what there is to say."""

    name: str
    ok: bool
    detail: str | None = None


class Pings:
    """Asks the parts around a home, each at most every ten seconds, however often somebody asks us."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: tuple[Ping, ...] = ()

    def ask(self) -> tuple[Ping, ...]:
        """Return what each part answered, now or lately."""
        with self._lock:
            if time.monotonic() - self._asked_at > _KEEP_SECONDS:
                self._found = (ping_tracking(self._home.tracking_uri), ping_disk(self._home.folder))
                self._asked_at = time.monotonic()
            return self._found


def ping_tracking(uri: str) -> Ping:
    """Tell whether training runs can be looked up; MLflow itself is not imported for that."""
    try:
        _reach(uri)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        return Ping(name="tracking", ok=False, detail=type(error).__name__)
    return Ping(name="tracking", ok=True)


def _reach(uri: str) -> None:
    if uri.startswith(("http://", "https://")):
        import requests

        requests.get(f"{uri.rstrip('/')}/health", timeout=_PATIENCE_SECONDS).raise_for_status()
        return
    url = make_url(uri)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").resolve()
        # Never made here: a home has none until its first training.
        if path.exists():
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
                database.execute("SELECT 1 FROM sqlite_master").fetchone()
        return
    engine = open_engine(uri)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    finally:
        engine.dispose()


def ping_disk(folder: Path) -> Ping:
    """Tell whether there is room left where the home is."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Ping(name="disk", ok=False, detail=type(error).__name__)
    return Ping(name="disk", ok=free >= LEAST_FREE_BYTES, detail=f"{free / 1e9:.1f} GB free")
