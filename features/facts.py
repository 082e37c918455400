"""What questions are answered from: records as they were known, and the events that are linked to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crm_core.clock import instant
from crm_core.errors import FeatureError, RecordNotFoundError
from features.declaration import Need, reached
from features.events import AskedEvents, Versions
from features.tables import AskedRecords, PopulationKey, Table, Tables

if TYPE_CHECKING:
    from features.cohort import Cohort
    from features.event_features import Events
    from features.population import Population

Fields = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a feature set reads: fields of the records asked about or reached by `via`, and events of them."""

    record_type: str
    fields: Mapping[str | None, Fields]
    events: Mapping[tuple[str | None, str], Fields]
    populations: tuple[PopulationKey, ...] = ()

    @classmethod
    def of(cls, record_type: str, needs: Iterable[Need]) -> Plan:
        """Gather what features need."""
        fields: dict[str | None, set[str]] = defaultdict(set, {None: set()})
        events: dict[tuple[str | None, str], set[str]] = defaultdict(set)
        populations: set[PopulationKey] = set()
        for need in needs:
            if need.each is not None:
                populations.update((record_type, field, need.each) for field in need.fields)
            if need.via is not None:
                fields[None].add(need.via)
            if need.event is None:
                fields[need.via].update(need.fields)
            else:
                fields[need.via].update(())
                events[need.via, need.event].update(need.fields, need.guards)
        return cls(
            record_type=record_type,
            fields={via: tuple(sorted(found)) for via, found in fields.items()},
            events={event: tuple(sorted(found)) for event, found in events.items()},
            populations=tuple(sorted(populations)),
        )


class Facts:
    """Everything that a feature set needs to answer the questions of a cohort.

    Parameters
    ----------
    tables : Table by record type
        Every record, linked event and change that the plan names, of at least the records asked about; and
        the populations that it names, if `Tables`.
    """

    def __init__(self, tables: Mapping[str, Table], cohort: Cohort, plan: Plan) -> None:
        self._tables = tables
        self._plan = plan
        self._record_type = cohort.record_type
        self.as_of = cohort.as_of
        self._ids = cohort.ids
        self._records: dict[str | None, AskedRecords] = {}
        self._versions: dict[tuple[str | None, str], Versions] = {}
        self._events: dict[object, AskedEvents] = {}
        self._populations = tables.populations if isinstance(tables, Tables) else {}
        _check_known(self._record_type, self.records(None), cohort)

    def records(self, via: str | None) -> AskedRecords:
        """Return the records asked about, or those they name in the field `via` as known at each instant."""
        found = self._records.get(via)
        if found is None:
            ids = self._ids if via is None else self.records(None).values(via)
            found = AskedRecords(self._tables[reached(self._record_type, via)], ids, self.as_of)
            self._records[via] = found
        return found

    def events(self, events: Events) -> AskedEvents:
        """Return the events of a declared kind that are linked to the records asked about."""
        kind = (events.via, events.event, events.where)
        found = self._events.get(kind)
        if found is None:
            found = self._events[kind] = self.asked(events.via, self._chosen(events))
        return found

    def changes(self, via: str | None, field: str) -> AskedEvents:
        """Return the changes of a field of the records asked about; columns `new`, and `first` before all."""
        return self.records(via).asked_changes(field)

    def population(self, field: str, each: str) -> Population:
        """Return what became of all records of the type asked about, by what `field` held."""
        found = self._populations.get((self._record_type, field, each))
        if found is None:
            raise FeatureError(f"what became of other {self._record_type}s by {field} was not read")
        return found

    def asked(self, via: str | None, versions: Versions) -> AskedEvents:
        """Return events that were worked on, in order, beside the questions."""
        return AskedEvents(versions, self.records(via).ids, self.as_of)

    def _chosen(self, events: Events) -> Versions:
        """Return the events that a declared kind lets in."""
        versions = self._linked(events.via, events.event)
        if not events.where:
            return versions
        chosen = versions.holding(*events.where[0])
        for field, wanted in events.where[1:]:
            chosen &= versions.holding(field, wanted)
        return versions.take(chosen)

    def _linked(self, via: str | None, event: str) -> Versions:
        found = self._versions.get((via, event))
        if found is None:
            link = f"{reached(self._record_type, via)}_id"
            linked = self._tables[event].linked(link, self._plan.events[via, event])
            found = self._versions[via, event] = linked.of_records(self.records(via).unique)
        return found


def _check_known(record_type: str, records: AskedRecords, cohort: Cohort) -> None:
    if not records.found.all():
        raise RecordNotFoundError(record_type, int(cohort.ids[~records.found][0]))
    if not records.known.all():
        first = int(np.argmin(records.known))
        when = instant(int(cohort.as_of[first])).isoformat()
        raise FeatureError(
            f"{record_type} {cohort.ids[first]} was not known at {when}: nothing can be asked of it"
        )
