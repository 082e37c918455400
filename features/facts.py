"""What questions are answered from: records as they were known, and the events that are linked to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crm_core.clock import instant
from crm_core.errors import FeatureError, RecordNotFoundError
from crm_core.phrases import Phrase
from features.asks import Ask, Kind, Measure, Panel, panels_of, places_of
from features.declaration import Need, reached, steps_to
from features.events import AskedEvents, Floats, Versions, among
from features.tables import AskedRecords, PopulationKey, Table, Tables
from features.windows import Ints

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
    places: Mapping[Ask, tuple[Panel, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, record_type: str, needs: Iterable[Need], asks: Iterable[Ask] = ()) -> Plan:
        """Gather what features need, and what they ask of events."""
        fields: dict[str | None, set[str]] = defaultdict(set, {None: set()})
        events: dict[tuple[str | None, str], set[str]] = defaultdict(set)
        populations: set[PopulationKey] = set()
        for need in needs:
            if need.each is not None:
                populations.update((record_type, name, need.each) for name in need.fields)
            for before, name in steps_to(need.via):
                fields[before].add(name)
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
            places=places_of(panels_of(asks)),
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
        self._events: dict[Kind, AskedEvents] = {}
        self._answered: dict[Panel, tuple[Floats, Ints]] = {}
        self._populations = tables.populations if isinstance(tables, Tables) else {}
        _check_known(self._record_type, self.records(None), cohort)

    @cached_property
    def months(self) -> Ints:
        """Return the month (UTC) of each question, counted from January 1970."""
        return self.as_of.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)

    def records(self, via: str | None) -> AskedRecords:
        """Return the records asked about, or those they name in the fields `via` as known at each instant."""
        found = self._records.get(via)
        if found is None:
            ids = self._ids
            if via is not None:
                before, _, field = via.rpartition(".")
                ids = self.records(before or None).values(field)
            found = AskedRecords(self._tables[reached(self._record_type, via)], ids, self.as_of)
            self._records[via] = found
        return found

    def events(self, events: Events | Kind) -> AskedEvents:
        """Return the events of a declared kind that are linked to the records asked about."""
        return self._of_kind(Kind(events.via, events.event, events.where))

    def linked(self, via: str | None, event: str) -> Versions:
        """Return all events of a type that are linked to the records asked about, in order."""
        found = self._versions.get((via, event))
        if found is None:
            link = f"{reached(self._record_type, via)}_id"
            linked = self._tables[event].linked(link, self._plan.events[via, event])
            found = self._versions[via, event] = linked.of_records(self.records(via).unique)
        return found

    def number(self, ask: Ask) -> Floats:
        """Return what is asked of events as a number a question; NaN for none but for counts and totals."""
        panel, place = self._plan.places.get(ask) or (Panel.of([ask]), 0)
        number: Floats = self._answers(panel)[0][place]
        return number

    def event(self, ask: Ask) -> Ints:
        """Return which event is asked for, as a position in `linked`; -1 for none."""
        panel, place = self._plan.places.get(ask) or (Panel.of([ask]), 0)
        event: Ints = self._answers(panel)[1][place]
        return event

    def changes(self, via: str | None, field: str) -> AskedEvents:
        """Return the changes of a field of the records asked about; columns `new`, and `first` before all."""
        return self.records(via).asked_changes(field)

    def population(self, field: str, each: str) -> Population:
        """Return what became of all records of the type asked about, by what `field` held."""
        found = self._populations.get((self._record_type, field, each))
        if found is None:
            raise FeatureError(
                Phrase(
                    "what became of other {record_type}s by {field} was not read",
                    record_type=self._record_type,
                    field=field,
                )
            )
        return found

    def asked(self, via: str | None, versions: Versions) -> AskedEvents:
        """Return events that were worked on, in order, beside the questions."""
        return AskedEvents(versions, self.records(via).ids, self.as_of)

    def _of_kind(self, kind: Kind) -> AskedEvents:
        found = self._events.get(kind)
        if found is None:
            found = self._events[kind] = self.asked(kind.via, self._chosen(kind))
        return found

    def _answers(self, panel: Panel) -> tuple[Floats, Ints]:
        """Return (numbers, events) by ask: all that the plan asks of an event type is answered together."""
        found = self._answered.get(panel)
        if found is None:
            via, event, _ = panel.asks[0].kind
            numbers, events, left = self._of_kind(Kind(via, event)).panel(panel)
            for place in left:
                self._answer_alone(panel.asks[place], numbers[place], events[place])
            found = self._answered[panel] = numbers, events
        return found

    def _answer_alone(self, ask: Ask, number: Floats, event: Ints) -> None:
        """Write the answer to one ask of a kind of which some record has many events."""
        asked = self._of_kind(ask.kind)
        if ask.measure in (Measure.LAST, Measure.FIRST):
            found = asked.event(ask)
            event[:] = among(self._rows(ask.kind), found) if ask.kind.where else found
        else:
            number[:] = asked.number(ask)

    def _chosen(self, kind: Kind) -> Versions:
        """Return the events that a declared kind lets in."""
        versions = self.linked(kind.via, kind.event)
        return versions.take(self._rows(kind)) if kind.where else versions

    def _rows(self, kind: Kind) -> Ints:
        """Return where the events of a kind with conditions stand among all of their type."""
        versions = self.linked(kind.via, kind.event)
        chosen = versions.holding(*kind.where[0])
        for name, wanted in kind.where[1:]:
            chosen &= versions.holding(name, wanted)
        return chosen.nonzero()[0]


def _check_known(record_type: str, records: AskedRecords, cohort: Cohort) -> None:
    if records.all_known:
        return
    if not records.found.all():
        raise RecordNotFoundError(record_type, int(cohort.ids[~records.found][0]))
    first = int(np.argmin(records.known))
    raise FeatureError(
        Phrase(
            "{record_type} {record_id} was not known at {when}: nothing can be asked of it",
            record_type=record_type,
            record_id=int(cohort.ids[first]),
            when=instant(int(cohort.as_of[first])),
        )
    )
