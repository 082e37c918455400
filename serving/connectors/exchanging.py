"""An exchange with one system: its changed records come in, our changed scores go out.

Everything is done in lots, and how far it has come is written after each: whoever is killed, refused or told
to come back later goes on from there. What was done and not written down is done again, which changes
nothing, because imports compare and the other side upserts.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crm_core.changes import Source
from crm_core.connections import (
    RUN,
    Outcome,
    Scored,
    count_untold,
    list_untold,
    note_told,
    read_mark,
    write_mark,
)
from crm_core.errors import ConnectorError, CRMError, SettingsError
from crm_core.importing.mapping import load_mapping
from crm_core.importing.run import run_import
from crm_core.predictions import SCORED_TYPES
from crm_core.store import Store
from serving.connectors.calls import Caller, Sender
from serving.connectors.connections import Connection, System
from serving.connectors.dynamics import Dynamics
from serving.connectors.hubspot import HubSpot
from serving.connectors.salesforce import Salesforce
from serving.connectors.system import Exchange, News, Page, Row, news_of
from serving.connectors.zoho import Zoho
from serving.home import Home
from serving.logs import get_log

SYSTEMS: dict[System, type[Exchange]] = {
    System.SALESFORCE: Salesforce,
    System.DYNAMICS: Dynamics,
    System.HUBSPOT: HubSpot,
    System.ZOHO: Zoho,
}

IN_ORDER = ("account", "contact", "lead", "deal")
"""What others point at comes first."""

_MALFORMED = frozenset({400, 422})

_log = get_log("serving.connectors")


@dataclass(kw_only=True)
class Report:
    """What an exchange did, by kind of record; `errors` tells what stopped it short."""

    connection: str
    taken_in: dict[str, int] = field(default_factory=dict)
    not_taken: int = 0
    told: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    requests: int = 0
    errors: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON."""
        return dict(vars(self))


class Exchanger:
    """Exchanges with one system."""

    def __init__(
        self,
        home: Home,
        store: Store,
        connection: Connection,
        sender: Sender,
        *,
        language: str = "en",
        wait: Callable[[float], None] | None = None,
    ) -> None:
        self._home = home
        self._store = store
        self._connection = connection
        self._language = language
        kind = SYSTEMS[connection.system]
        waiting = {} if wait is None else {"wait": wait}
        self._caller = Caller(connection, kind.login(connection), sender, **waiting)
        self._system: Exchange = kind(connection, self._caller)
        self._preset = load_mapping(self._system.preset)

    def run(self, *, pull: bool = True, push: bool = True) -> Report:
        """Take in what changed there, then tell what changed here; a kind that fails stops no other."""
        report = Report(connection=self._connection.name)
        work = [(self._pull, kind) for kind in self.pulled if pull]
        work += [(self._push, kind) for kind in self.pushed if push]
        for step, kind in work:
            try:
                step(kind, report)
            except CRMError as error:
                report.errors.append(f"{kind}: {error}")
                _log.error(
                    "exchange stopped",
                    connection=self._connection.name,
                    kind=kind,
                    error=type(error).__name__,
                )
        report.requests = self._caller.requests
        self._note(report)
        return report

    @property
    def pulled(self) -> list[str]:
        """Return the kinds that are taken in, in the order in which they are."""
        wanted = set(self._connection.pull) & self._system.pulls
        return [kind for kind in IN_ORDER if kind in wanted]

    @property
    def pushed(self) -> list[str]:
        """Return the kinds whose scores are told."""
        wanted = set(self._connection.push) & self._system.pushes
        return [kind for kind in IN_ORDER if kind in wanted]

    def _note(self, report: Report) -> None:
        with self._store.transaction(source=Source.API) as transaction:
            told = {"errors": report.errors[:5], "refused": report.refused, "not_taken": report.not_taken}
            write_mark(transaction.session, self._connection.name, RUN, told, now=transaction.now)

    # ---------------------------------------------------------------- taking in

    def _pull(self, kind: str, report: Report) -> None:
        with self._store.reading() as session:
            mark = read_mark(session, self._connection.name, kind)
        for page in _understood(self._system.pull(kind, mark)):
            report.not_taken += self._take_in(page)
            with self._store.transaction(source=Source.API) as transaction:
                write_mark(transaction.session, self._connection.name, kind, page.mark, now=transaction.now)
            report.taken_in[kind] = report.taken_in.get(kind, 0) + page.rows

    def _take_in(self, page: Page) -> int:
        """Import a page as the files that the system would export; return how many rows were refused."""
        with _staging(self._home.folder) as folder:
            for name, rows in page.files.items():
                if rows:
                    _write(folder / f"{name}.csv", rows)
            refusals = folder / "refused.jsonl"
            done = run_import(self._store, self._preset, folder, refusals_file=refusals)
            if done.refused:
                self._keep_refusals(refusals)
        return done.refused

    def _keep_refusals(self, refusals: Path) -> None:
        kept = self._home.logs / f"{self._connection.name}-refused.jsonl"
        with kept.open("ab") as out:
            kept.chmod(0o600)
            out.writelines(_without_value(line) for line in refusals.read_bytes().splitlines())

    # ---------------------------------------------------------------- telling

    def _push(self, kind: str, report: Report) -> None:
        while records := self._next(kind):
            outcomes = self._tell(kind, [news_of(record, self._language) for record in records])
            self._write_outcomes(records, outcomes)
            bad = sum(outcome.error is not None for outcome in outcomes)
            report.refused += bad
            report.told[kind] = report.told.get(kind, 0) + len(outcomes) - bad

    def _next(self, kind: str) -> Sequence[Scored]:
        with self._store.reading() as session:
            found = list_untold(
                session,
                self._connection.name,
                kind,
                now=self._store.clock.now(),
                limit=self._system.at_once,
                born_here=self._connection.create,
            )
            session.expunge_all()
        return found

    def _tell(self, kind: str, news: Sequence[News]) -> list[Outcome]:
        """Tell of some records; halve the lot around one that spoils the whole call."""
        try:
            return self._system.push(kind, news)
        except ConnectorError as error:
            if error.status not in _MALFORMED:
                raise
            if len(news) == 1:
                return [Outcome(record_id=news[0].record_id, error=str(error))]
        middle = len(news) // 2
        return [*self._tell(kind, news[:middle]), *self._tell(kind, news[middle:])]

    def _write_outcomes(self, records: Sequence[Scored], outcomes: Sequence[Outcome]) -> None:
        """Note what became of records; those that were created there get the key that they were given."""
        model = SCORED_TYPES[records[0].record_type]
        given = {outcome.record_id: outcome.external_id for outcome in outcomes if outcome.external_id}
        with self._store.transaction(source=Source.API) as transaction:
            for record in records:
                if record.external_id is None and record.id in given:
                    held = transaction.get(model, record.id)
                    transaction.update(held, {"external_id": given[record.id]})
            note_told(
                transaction.session, self._connection.name, records, outcomes, now=self._store.clock.now()
            )


def waiting(store: Store, connection: Connection) -> dict[str, int]:
    """Return how many records of each kind a system is still to be told of."""
    kinds = sorted(set(connection.push) & SYSTEMS[connection.system].pushes)
    with store.reading() as session:
        return {
            kind: count_untold(
                session, connection.name, kind, now=store.clock.now(), born_here=connection.create
            )
            for kind in kinds
        }


def get_connection(connections: Mapping[str, Connection], name: str) -> Connection:
    """Return a connection by name; SettingsError names those there are."""
    if name not in connections:
        known = ", ".join(connections) or "none"
        raise SettingsError(f"connectors.toml has no [{name}]; there are: {known}")
    return connections[name]


def _understood(pages: Iterator[Page]) -> Iterator[Page]:
    """Yield pages; what lacks what every answer has is told as such, and not as a fault of ours."""
    try:
        yield from pages
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConnectorError(f"an answer cannot be understood: {type(error).__name__}: {error}") from error


def _without_value(line: bytes) -> bytes:
    """Return a refusal as it is kept: nobody who is erased here would be found among the logs."""
    told = {name: value for name, value in json.loads(line).items() if name != "value"}
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


@contextmanager
def _staging(home: Path) -> Iterator[Path]:
    """Give a folder inside of the home, which nobody else may look into."""
    folder = Path(tempfile.mkdtemp(prefix=".exchange-", dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
