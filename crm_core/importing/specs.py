"""What a mapping says, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crm_core.fields import Choice, FieldKind, Known
from crm_core.importing.expressions import Constant, Expression, columns_in
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, CustomRecord, Record

EVENTS = ("convert", "disqualify", "close", "update")
"""What can happen to a record."""

EVENT_RECORDS = {"convert": "lead", "disqualify": "lead", "close": "deal"}
IMPLIED = {
    "convert": ("status", "converted_at"),
    "disqualify": ("status",),
    "close": ("status", "closed_at", "stage"),
    "update": (),
}


AT_THE_LATEST = "at_the_latest"
"""How a closing is dated whose date is only a limit."""


def model_named(record_type: str) -> type[Record]:
    """Return the class of the records of a type, built in or declared."""
    return RECORD_TYPES.get(record_type, CustomRecord)


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """A file of the folder, and how its text is to be read.

    One that is recognised by its columns has no `path` until it is found; `rename` then gives its columns
    the names that the mapping uses, out of those that they are `also_called`.
    """

    name: str
    path: str
    format: str
    sheet: str | None = None
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    apostrophes: bool = False
    recognise: tuple[str, ...] = ()
    also_called: Dictionary[str, tuple[str, ...]] = field(default_factory=dict)
    not_kept: tuple[str, ...] = ()
    rename: Dictionary[str, str] = field(default_factory=dict)
    empty: frozenset[str] = frozenset({""})


@dataclass(frozen=True, kw_only=True)
class LookupSpec:
    """One value for each key of a file."""

    name: str
    file: str
    key: Expression
    value: Expression
    take: str


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """A field that a step fills: a column of the record, or `custom.NAME`."""

    name: str
    value: Expression
    known: Known | None
    kind: FieldKind | None = None
    label_en: str | None = None
    label_zh: str | None = None
    choices: tuple[Choice, ...] = ()
    required: bool = False
    target: str | None = None


@dataclass(frozen=True, kw_only=True)
class TypeSpec:
    """A record type that a mapping fills; without labels, one that the store has already."""

    name: str
    label_en: str | None = None
    label_zh: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Rows that are left out, and why."""

    reason: str
    value: Expression
    test: str
    operand: Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass over one file: rows (or groups of rows) become records, or events of records.

    `event` is None for records. `if_known` says what happens to a record that exists: update, or keep as it
    is. `won` is given for `close`. `if_before_start` says what becomes of events that come before their
    record began. With `keep_rest`, columns that nothing reads become custom fields whose names begin so.

    `by_line` is how the keys of rows begin that nothing but their lines tells apart.

    An `undated` step has no dates: `occurred_at` is the moment of reading and says nothing. Of a `close` that
    is `dated` "at_the_latest", nobody knows when it happened, only that it was no later.
    """

    name: str
    record_type: str
    file: str
    external_id: Expression
    occurred_at: Expression
    recorded_at: str | Expression
    fields: tuple[FieldSpec, ...]
    group: bool = False
    leave_out: tuple[Filter, ...] = ()
    changed_at: Expression | None = None
    if_known: str = "update"
    event: str | None = None
    won: Expression | None = None
    if_before_start: str = "refuse"
    keep_rest: str | None = None
    undated: bool = False
    dated: str = "when_it_happened"
    by_line: str | None = None

    @property
    def model(self) -> type[Record]:
        """The class of the records."""
        return model_named(self.record_type)

    @property
    def event_fields(self) -> frozenset[str]:
        """The fields that an event writes."""
        return frozenset({*IMPLIED[self.event or "update"], *(field.name for field in self.fields)})

    def expressions(self) -> Iterator[tuple[str, Expression]]:
        """Return every expression of the step with its place in the mapping."""
        yield "external_id", self.external_id
        yield "occurred_at", self.occurred_at
        for name in ("recorded_at", "changed_at", "won"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                yield name, value
        for each in self.fields:
            place = each.name if each.name.startswith("custom.") else f"fields.{each.name}"
            yield place, each.value
        for number, left_out in enumerate(self.leave_out, start=1):
            yield f"leave_out[{number}]", left_out.value


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """A whole mapping; `coverage` says until when all of a record type was seen: an instant or a step.

    One that is made `by_hand`, for a single file and learned when it is imported, says nothing about when
    built-in fields are known; and a cell that can be read in no way refuses its row, not the file.
    """

    name: str
    about: str
    files: Dictionary[str, FileSpec]
    lookups: tuple[LookupSpec, ...]
    steps: tuple[Step, ...]
    coverage: Dictionary[str, datetime | str]
    types: tuple[TypeSpec, ...] = ()
    by_hand: bool = False

    @property
    def is_preset(self) -> bool:
        """Whether the files are recognised by their columns, whatever they are called."""
        return any(spec.recognise for spec in self.files.values())

    def columns_of_file(self, name: str) -> dict[str, str]:
        """Return the columns that the mapping reads from a file, each with a place where it says so."""
        found: dict[str, str] = {}
        for place, expression in self._expressions_on(name):
            for column in columns_in(expression):
                found.setdefault(column, place)
        return found

    def written_by_events(self, record_type: str) -> frozenset[str]:
        """Return the fields of a record type that events of this mapping write."""
        fields = (step.event_fields for step in self.steps if step.event and step.record_type == record_type)
        return frozenset().union(*fields)

    def declarations(self) -> list[tuple[str, FieldSpec]]:
        """Return every field whose time of being known is to be declared, once a record type.

        A field that this mapping says nothing about is not returned where its events tell its history.
        """
        if self.by_hand:
            return []
        found: dict[tuple[str, str], FieldSpec] = {}
        for step in self.steps:
            logged = step.event_fields if step.event else self.written_by_events(step.record_type)
            for each in step.fields:
                said = found.get((step.record_type, each.name), each)
                if said.known is None and (each.known is not None or each.name not in logged):
                    said = each
                found[step.record_type, each.name] = said
        filled = [
            (record_type, field)
            for (record_type, name), field in found.items()
            if name not in OUTCOME_FIELDS.get(record_type, ())
            and (field.known is not None or name not in self.written_by_events(record_type))
        ]
        return [*filled, *self._dates_not_known()]

    def _dates_not_known(self) -> Iterator[tuple[str, FieldSpec]]:
        """Yield the columns whose dates this mapping makes up, or knows as a limit only."""
        for step in self.steps:
            if step.undated and step.event is None:
                yield step.record_type, _not_known("occurred_at")
            elif step.dated == AT_THE_LATEST:
                yield step.record_type, _not_known("closed_at")

    def _expressions_on(self, file: str) -> Iterator[tuple[str, Expression]]:
        for lookup in self.lookups:
            if lookup.file == file:
                yield f"lookups.{lookup.name}.key", lookup.key
                yield f"lookups.{lookup.name}.value", lookup.value
        for step in self.steps:
            if step.file == file:
                for place, expression in step.expressions():
                    yield f"{step.name}.{place}", expression


def _not_known(column: str) -> FieldSpec:
    return FieldSpec(name=column, value=Constant(value=None), known=Known.UNKNOWN)
