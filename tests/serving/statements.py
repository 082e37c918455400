"""What a store's databases are really sent: counted by the drivers, whoever sends it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

from crm_core.store import Store


@dataclass
class Sent:
    """The statements that came to a database, and how often it was waited for."""

    statements: list[str] = field(default_factory=list)
    round_trips: int = 0


@contextmanager
def sent_by(store: Store) -> Iterator[Sent]:
    """Count what connections that are taken from the store's pool meanwhile send."""
    sent = Sent()
    watching = _on_sqlite if store.engine.dialect.name == "sqlite" else _on_postgresql
    with watching(store, sent):
        yield sent


@contextmanager
def _on_sqlite(store: Store, sent: Sent) -> Iterator[None]:
    with _traced(
        store,
        lambda driver: driver.set_trace_callback(sent.statements.append),
        lambda driver: driver.set_trace_callback(None),
    ):
        yield
    # Of the tables that keep others up to date, the trace tells in comments what they are doing.
    sent.statements = [each for each in sent.statements if not each.startswith("--")]
    sent.round_trips = len(sent.statements)


@contextmanager
def _on_postgresql(store: Store, sent: Sent) -> Iterator[None]:
    with tempfile.TemporaryFile() as told:
        with _traced(
            store,
            lambda driver: driver.pgconn.trace(told.fileno()),
            lambda driver: driver.pgconn.untrace(),
        ):
            yield
        told.seek(0)
        lines = [line.split("\t") for line in told.read().decode(errors="replace").splitlines()]
    messages = [line for line in lines if len(line) > 3 and line[1] in {"F", "B"}]  # others go on
    asking = False
    for message in messages:
        way, what = message[1], message[3]
        if way == "F" and what in {"Query", "Execute"}:
            sent.statements.append(what)
        sent.round_trips += asking and way == "B"
        asking = way == "F"


@contextmanager
def _traced(store: Store, begin: Callable[[Any], None], end: Callable[[Any], None]) -> Iterator[None]:
    def taken(_dbapi: object, record: Any, _proxy: object) -> None:
        begin(record.driver_connection)

    def given_back(_dbapi: object, record: Any) -> None:
        end(record.driver_connection)

    event.listen(store.engine, "checkout", taken)
    event.listen(store.engine, "checkin", given_back)
    try:
        yield
    finally:
        event.remove(store.engine, "checkout", taken)
        event.remove(store.engine, "checkin", given_back)
