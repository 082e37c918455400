"""Exchanges that nobody asks for: each connection's next one is a job, which makes the one after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from crm_core.changes import Source
from crm_core.errors import CRMError
from crm_core.jobs import Job, enqueue
from crm_core.store import Store
from serving.connectors.connections import Connection, read_connections
from serving.connectors.exchanging import Exchanger
from serving.logs import get_log
from serving.outbound import OutboundClient
from serving.settings import Settings

EXCHANGE = "exchange"

_log = get_log("serving.connectors")


class Exchanging:
    """Does the job of an exchange."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, store: Store, job: Job) -> None:
        """Exchange, then make the next job; a failure waits for that one, and is told by `crm connectors`."""
        connection = read_connections(self._settings.home_folder).get(str(job.payload["connection"]))
        if connection is None:
            return  # it was taken out of the file
        try:
            sender = OutboundClient(self._settings)
            exchanger = Exchanger(
                self._settings.home_folder, store, connection, sender, language=self._settings.language
            )
            report = exchanger.run()
            _log.info("exchanged", **report.to_json() | {"errors": len(report.errors)})
        except CRMError as error:
            _log.error("exchange failed", connection=connection.name, error=type(error).__name__)
        finally:
            schedule(store, connection, after=store.clock.now())


def schedule_all(settings: Settings, store: Store) -> int:
    """Have every connection's next exchange waiting as a job; return how many connections there are."""
    connections = read_connections(settings.home_folder)
    for connection in connections.values():
        # One slot back: the first exchange after a start comes at once.
        schedule(store, connection, after=store.clock.now() - timedelta(minutes=connection.every_minutes))
    return len(connections)


def schedule(store: Store, connection: Connection, *, after: datetime) -> None:
    """Make the job of a connection's next exchange; however many processes ask, there is one."""
    every = timedelta(minutes=connection.every_minutes)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    slot = (after - epoch) // every + 1
    with store.transaction(source=Source.API) as transaction:
        enqueue(
            transaction.session,
            EXCHANGE,
            {"connection": connection.name},
            now=transaction.now,
            key=f"{EXCHANGE}:{connection.name}:{slot}",
            run_at=epoch + slot * every,
        )
