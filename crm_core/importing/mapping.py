"""Reading a mapping from TOML; docs/importing.md describes the format."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer
from sqlalchemy.types import TypeEngine

from crm_core.columns import Day, Instant, Json, Money
from crm_core.errors import MappingError
from crm_core.fields import Choice, FieldKind, Known
from crm_core.importing.encodings import DETECT
from crm_core.importing.expressions import (
    LOOKUP_TAKES,
    Cell,
    Constant,
    Expression,
    Link,
    cells_in,
    lookups_in,
    parse_expression,
    parse_value,
    parse_zone,
)
from crm_core.importing.specs import (
    AT_THE_LATEST,
    EVENT_RECORDS,
    EVENTS,
    IMPLIED,
    FieldSpec,
    FileSpec,
    Filter,
    LookupSpec,
    Mapping,
    Step,
    TypeSpec,
    model_named,
)
from crm_core.importing.tables import Table, did_you_mean
from crm_core.importing.values import Kind
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, SCORE_COLUMNS, CustomRecord
from crm_core.validation import columns_of

SHIPPED = Path(__file__).parent / "mappings"
"""The mappings that come with the program."""

NOT_MAPPED = SCORE_COLUMNS | {
    "id",
    "external_id",
    "occurred_at",
    "recorded_at",
    "deleted_at",
    "erased_at",
    "merged_into_id",
    "version",
    "custom",
    "password_hash",
    "subject_type",
    "subject_id",
    "type_id",
}
"""Columns that no mapping fills as a field: the store's own, a model's, or named elsewhere in the step."""

IMPORTED = sorted(RECORD_TYPES.keys() - {"custom_record"})
"""Record types that a mapping can fill: all but those of a declaration."""

LINK_LISTS: dict[tuple[str, str], str] = {("comment", "mentions"): "user"}
"""Columns that list the ids of records of another type."""

_RECORDED = ("as_occurred", "now")


def is_mapped(name: str, column: Column[Any]) -> bool:
    """Return whether a mapping may fill a column."""
    return name not in NOT_MAPPED and not column.primary_key


def list_shipped() -> list[str]:
    """Return the names of the mappings that come with the program."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_mapping(name_or_path: str | Path) -> Mapping:
    """Return a shipped mapping by its name, or one of your own by the path of its TOML file."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = SHIPPED / f"{name_or_path}.toml"
        if str(name_or_path) not in list_shipped():
            known = did_you_mean(str(name_or_path), list_shipped())
            raise MappingError(
                f"no mapping is called {str(name_or_path)!r}{known}; or give the path of a .toml file"
            )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MappingError(f"the mapping {path} cannot be read: {error}") from error
    try:
        return parse_mapping(data)
    except MappingError as error:
        raise MappingError(f"mapping {path.name}: {error}") from error


def parse_mapping(data: Dictionary[str, Any]) -> Mapping:
    """Return the mapping that a TOML document says; raise MappingError with the place of what is wrong."""
    top = Table(data, "")
    zone = parse_zone(top, "zone", UTC)
    files = {name: _file(top.table("files").table(name)) for name in top.table("files")}
    lookups = tuple(_lookup(top.table("lookups").table(name), zone) for name in top.table("lookups"))
    types = tuple(_type(top.table("types").table(name)) for name in top.table("types"))
    imported = [*IMPORTED, *(each.name for each in types)]
    steps = _steps(top, zone, imported)
    mapping = Mapping(
        name=top.typed("name", str),
        about=top.typed("about", str, ""),
        files=files,
        lookups=lookups,
        steps=steps,
        coverage=_coverage(top.table("coverage"), {step.name for step in steps}, imported),
        types=types,
    )
    top.finish()
    _check_names(mapping)
    return mapping


def _type(table: Table) -> TypeSpec:
    name = table.place.removeprefix("types.")
    if name in RECORD_TYPES:
        raise table.refuse("is a record type of the program itself")
    spec = TypeSpec(
        name=name,
        label_en=table.typed("label_en", str, None),
        label_zh=table.typed("label_zh", str, None),
        links=table.texts("links", ()),
    )
    if (spec.label_en is None) != (spec.label_zh is None):
        raise table.refuse("expected both label_en and label_zh, or none for a type that the store has")
    table.finish()
    return spec


def _steps(top: Table, zone: tzinfo, imported: Sequence[str]) -> tuple[Step, ...]:
    recorded = top.value("recorded_at", None)
    records = [_record_step(table, zone, recorded, imported) for table in top.tables("records")]
    events = [_event_step(table, zone, recorded, imported) for table in top.tables("events")]
    if not records + events:
        raise MappingError("there is nothing to import: no [[records]] and no [[events]]")
    return (*records, *events)


# ------------------------------------------------------------------------------------------------ files


def _file(table: Table) -> FileSpec:
    name, recognise = table.place.removeprefix("files."), table.texts("recognise", ())
    path = table.typed("path", str, "") if recognise else table.typed("path", str)
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise table.refuse("expected a path inside the folder that is imported from", "path")
    called = table.table("also_called")
    spec = FileSpec(
        name=name,
        path=path,
        format=table.choice("format", ("csv", "xlsx", "parquet"), format_of(path)),
        sheet=table.typed("sheet", str, None),
        encoding=_encoding(table),
        delimiter=_character(table, "delimiter", ","),
        quote=_character(table, "quote", '"'),
        apostrophes=table.typed("apostrophes", bool, default=False),
        empty=frozenset(table.texts("empty", ("",))) | {""},
        recognise=recognise,
        also_called={key: called.texts(key, ()) for key in called},
        not_kept=table.texts("not_kept", ()),
    )
    table.finish()
    return spec


def format_of(path: str) -> str:
    """Return the format that the name of a file speaks for."""
    endings = {".parquet": "parquet", ".pq": "parquet", ".xlsx": "xlsx", ".xlsm": "xlsx"}
    return endings.get(Path(path).suffix.lower(), "csv")


def _encoding(table: Table) -> str:
    encoding = table.typed("encoding", str, "utf-8")
    if encoding == DETECT:
        return encoding
    try:
        "".encode(encoding)
    except LookupError as error:
        raise table.refuse(f"no encoding is called {encoding!r}", "encoding") from error
    return encoding


def _character(table: Table, key: str, default: str) -> str:
    value = table.typed(key, str, default)
    if len(value) != 1 or value in "\r\n":
        raise table.refuse(f"expected one character, got {value!r}", key)
    return value


def _lookup(table: Table, zone: tzinfo) -> LookupSpec:
    value = table.table("value")
    kind = Kind(value.choice("kind", list(Kind), Kind.TEXT))
    spec = LookupSpec(
        name=table.place.removeprefix("lookups."),
        file=table.typed("file", str),
        key=parse_value(table, "key", Kind.TEXT, zone),
        value=parse_expression(value, kind, zone),
        take=table.choice("take", LOOKUP_TAKES, "first"),
    )
    if lookups_in(spec.key) + lookups_in(spec.value):
        raise table.refuse("a lookup cannot ask another lookup")
    value.finish()
    table.finish()
    return spec


# ------------------------------------------------------------------------------------------------ steps


def _record_step(table: Table, zone: tzinfo, recorded: object, imported: Sequence[str]) -> Step:
    record_type = _record_type(table, imported)
    step = Step(
        name=_step_name(table),
        record_type=record_type,
        file=table.typed("file", str),
        external_id=parse_value(table, "external_id", Kind.TEXT, zone),
        occurred_at=_occurred(table, zone),
        undated=_is_undated(table),
        recorded_at=_recorded(table, zone, recorded),
        changed_at=parse_value(table, "changed_at", Kind.INSTANT, zone) if "changed_at" in table else None,
        fields=_fields(table, record_type, zone),
        group=table.typed("group", bool, default=False),
        leave_out=_filters(table, zone),
        if_known=table.choice("if_known", ("update", "keep"), "update"),
        keep_rest=_prefix(table),
    )
    _check_required(table, step)
    _check_takes(table, step)
    table.finish()
    return step


def _prefix(table: Table) -> str | None:
    prefix: str | None = table.typed("keep_rest", str, None)
    if prefix is not None and not re.fullmatch(r"[a-z][a-z0-9_]*", prefix):
        raise table.refuse("expected how the custom fields' names begin, such as crm_", "keep_rest")
    return prefix


def _event_step(table: Table, zone: tzinfo, recorded: object, imported: Sequence[str]) -> Step:
    event, record_type = table.choice("event", EVENTS), _record_type(table, imported)
    if EVENT_RECORDS.get(event, record_type) != record_type:
        raise table.refuse(f"only a {EVENT_RECORDS[event]} can {event}, this is a {record_type}", "event")
    step = Step(
        name=_step_name(table),
        record_type=record_type,
        event=event,
        file=table.typed("file", str),
        external_id=parse_value(table, "external_id", Kind.TEXT, zone),
        occurred_at=_occurred(table, zone),
        undated=_is_undated(table),
        dated=_dated(table, event),
        recorded_at=_recorded(table, zone, recorded),
        fields=_fields(table, record_type, zone),
        won=parse_value(table, "won", Kind.FLAG, zone) if event == "close" else None,
        group=table.typed("group", bool, default=False),
        leave_out=_filters(table, zone),
        if_before_start=table.choice("if_before_start", ("refuse", "keep"), "refuse"),
    )
    _check_event_fields(table, step)
    _check_takes(table, step)
    table.finish()
    return step


def _is_undated(table: Table) -> bool:
    return table.typed("undated", bool, default=False)


def _occurred(table: Table, zone: tzinfo) -> Expression:
    """Return when it happened; of an undated step, nothing."""
    if not _is_undated(table):
        return parse_value(table, "occurred_at", Kind.INSTANT, zone)
    for name in ("occurred_at", "changed_at"):
        if name in table:
            raise table.refuse("a step that is undated has no dates", name)
    return Constant(value=None)


def _dated(table: Table, event: str) -> str:
    said = table.choice("dated", ("when_it_happened", AT_THE_LATEST), "when_it_happened")
    if said == AT_THE_LATEST and event != "close":
        raise table.refuse("only a close can be dated by a limit", "dated")
    return said


def _step_name(table: Table) -> str:
    return table.typed("name", str)


def _record_type(table: Table, imported: Sequence[str]) -> str:
    record_type = table.typed("record", str)
    if record_type not in imported:
        raise table.refuse(
            f"no record type {record_type!r} to import{did_you_mean(record_type, imported)}", "record"
        )
    return record_type


def _recorded(table: Table, zone: tzinfo, default: object) -> str | Expression:
    if _is_undated(table):
        if "recorded_at" in table:
            raise table.refuse("what is undated is learned when it is imported", "recorded_at")
        return "now"
    if "recorded_at" not in table:
        if isinstance(default, dict):
            return parse_value(Table({"recorded_at": default}, ""), "recorded_at", Kind.INSTANT, zone)
        if default not in _RECORDED:
            raise table.refuse(
                "'recorded_at' is missing, here and at the top: say when you learned of it "
                "(as_occurred, now, or a table with the column that tells)"
            )
        return str(default)
    value = table.value("recorded_at")
    if isinstance(value, str) and value in _RECORDED:
        return value
    return parse_value(table, "recorded_at", Kind.INSTANT, zone)


def _filters(table: Table, zone: tzinfo) -> tuple[Filter, ...]:
    return tuple(_filter(each, zone) for each in table.tables("leave_out"))


_TESTS = {
    "equals": Kind.TEXT,
    "other_than": Kind.TEXT,
    "empty": Kind.TEXT,
    "before": Kind.INSTANT,
    "from": Kind.INSTANT,
    "below": Kind.NUMBER,
    "above": Kind.NUMBER,
}


def _filter(table: Table, zone: tzinfo) -> Filter:
    tests = [test for test in _TESTS if test in table]
    if len(tests) != 1:
        raise table.refuse(f"expected exactly one of {', '.join(_TESTS)}, got {', '.join(tests) or 'none'}")
    test = tests[0]
    spec = Filter(
        reason=table.typed("reason", str),
        value=parse_expression(table, _TESTS[test], zone),
        test=test,
        operand=_operand(table, test, zone),
    )
    table.finish()
    return spec


def _operand(table: Table, test: str, zone: tzinfo) -> object:
    match test:
        case "equals" | "other_than":
            return frozenset(table.texts(test, ()))
        case "empty":
            return table.typed("empty", bool)
        case "before" | "from":
            return _instant(table, test, zone)
    return table.number(test, 0)


def _instant(table: Table, key: str, zone: tzinfo) -> datetime:
    value = table.value(key)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, TypeError, AttributeError) as error:
        raise table.refuse(f"expected a date with a time, got {value!r}", key) from error


def _coverage(table: Table, steps: set[str], imported: Sequence[str]) -> dict[str, datetime | str]:
    found: dict[str, datetime | str] = {}
    for record_type in table:
        if record_type not in imported:
            raise table.refuse(f"no record type {record_type!r}{did_you_mean(record_type, imported)}")
        value = table.value(record_type)
        if not isinstance(value, dict):
            found[record_type] = _instant(table, record_type, UTC)
            continue
        newest = table.table(record_type)
        found[record_type] = newest.choice("newest_of", steps)
        newest.finish()
    return found


# ------------------------------------------------------------------------------------------------ fields


def _fields(table: Table, record_type: str, zone: tzinfo) -> tuple[FieldSpec, ...]:
    known = table.choice("known", list(Known), "") if "known" in table else None
    default = Known(known) if known else None
    plain, custom = table.table("fields"), table.table("custom")
    return (
        *(_plain_field(plain, name, record_type, zone, default) for name in plain),
        *(_custom_field(custom.table(name), name, zone, default) for name in custom),
    )


def _plain_field(table: Table, name: str, record_type: str, zone: tzinfo, default: Known | None) -> FieldSpec:
    if name == "subject_id" and name in columns_of(RECORD_TYPES[record_type]):
        return FieldSpec(name=name, value=_subject(table.table(name), zone), known=None)
    column = _mapped_column(table, name, record_type)
    known = None
    if isinstance(table.value(name), str):
        value = (
            _link_to(table, name) if column.foreign_keys else parse_value(table, name, _kind(column), zone)
        )
        return FieldSpec(name=name, value=value, known=_known_of(table, name, record_type, known, default))
    inner = table.table(name)
    known = Known(inner.choice("known", list(Known))) if "known" in inner else None
    many = (record_type, name) in LINK_LISTS
    linked = bool(column.foreign_keys) or many
    value = _link(inner, zone, many=many) if linked else parse_expression(inner, _kind(column), zone)
    if isinstance(value, Link) and model_named(record_type) is CustomRecord and name == "parent_id":
        value = replace(value, record=inner.typed("record", str))
    inner.finish()
    return FieldSpec(name=name, value=value, known=_known_of(table, name, record_type, known, default))


def _mapped_column(table: Table, name: str, record_type: str) -> Column[Any]:
    columns = {
        key: column for key, column in columns_of(model_named(record_type)).items() if is_mapped(key, column)
    }
    if name not in columns:
        raise table.refuse(f"a {record_type} has no field {name!r} to import{did_you_mean(name, columns)}")
    return columns[name]


def _known_of(
    table: Table, name: str, record_type: str, known: Known | None, default: Known | None
) -> Known | None:
    if name in OUTCOME_FIELDS.get(record_type, ()):
        if known not in {None, Known.OUTCOME}:
            raise table.refuse(f"is written at the outcome and can never be known at {known}", name)
        return Known.OUTCOME
    return known or default


def _kind(column: Column[Any]) -> Kind:
    kinds: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
        (Instant, Kind.INSTANT),
        (Day, Kind.DAY),
        (Money, Kind.MONEY),
        (Boolean, Kind.FLAG),
        (Integer, Kind.INTEGER),
        (Float, Kind.NUMBER),
        (Json, Kind.LIST),
    )
    return next((kind for stored, kind in kinds if isinstance(column.type, stored)), Kind.TEXT)


def _link_to(table: Table, name: str) -> Expression:
    raise table.refuse(
        f"points to another record; write {name} = {{ external_id = {table.value(name)!r} }}", name
    )


def _link(table: Table, zone: tzinfo, *, many: bool = False) -> Link:
    return Link(
        by=parse_value(table, "external_id", Kind.LIST if many else Kind.TEXT, zone),
        may_be_missing=table.choice("if_missing", ("refuse", "empty"), "refuse") == "empty",
        many=many,
    )


def _subject(table: Table, zone: tzinfo) -> Link:
    """Read the link to a record of any type: `record` gives the type, `external_id` the record."""
    link = replace(_link(table, zone), type_by=parse_value(table, "record", Kind.TEXT, zone))
    table.finish()
    return link


def _custom_field(table: Table, name: str, zone: tzinfo, default: Known | None) -> FieldSpec:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,100}", name):
        raise table.refuse("expected a name of small letters, digits and _, beginning with a letter")
    known = table.choice("known", list(Known), default or "")
    if not known:
        raise table.refuse(f"'known' is missing: say when it is known ({', '.join(Known)})")
    kind = FieldKind(table.choice("kind", list(FieldKind)))
    choices = tuple(_choices(table)) if kind is FieldKind.CHOICE else ()
    target = table.typed("target", str) if kind is FieldKind.REFERENCE else None
    spec = FieldSpec(
        name=f"custom.{name}",
        value=_custom_value(table, kind, choices, target, zone),
        known=Known(known),
        kind=kind,
        label_en=table.typed("label_en", str, None),
        label_zh=table.typed("label_zh", str, None),
        choices=choices,
        required=table.typed("required", bool, default=False),
        target=target,
    )
    table.finish()
    return spec


def _choices(table: Table) -> Iterator[Choice]:
    """Read `choices`: a list of values, or a table of values with their English and Chinese labels."""
    said = table.value("choices")
    if isinstance(said, list):
        said = dict.fromkeys(table.texts("choices", ()), ())
    if not isinstance(said, dict) or not said:
        raise table.refuse("expected a list of values, or a table of values with their labels", "choices")
    for value in said:
        labels = Table(said, f"{table.place}.choices").texts(value, ())
        if len(labels) > 2:
            raise table.refuse(f"expected an English and a Chinese label of {value!r}", "choices")
        yield Choice(value=value, **dict(zip(("label_en", "label_zh"), labels, strict=False)))


def _custom_value(
    table: Table, kind: FieldKind, choices: Sequence[Choice], target: str | None, zone: tzinfo
) -> Expression:
    if kind is FieldKind.REFERENCE:
        return replace(_link(table, zone), record=target)
    if kind is not FieldKind.CHOICE:
        return parse_expression(table, Kind(kind.value), zone)
    value = parse_expression(table, Kind.TEXT, zone)
    return _by_label(value, choices) if isinstance(value, Cell) else value


def _by_label(cell: Cell, choices: Sequence[Choice]) -> Cell:
    """Return a cell that takes a choice by its value or by one of its labels, and nothing else."""
    said = {word: each.value for each in choices for word in (each.label_en, each.label_zh) if word}
    words = {**said, **{each.value: each.value for each in choices}, **cell.reading.words}
    others = cell.reading.others if cell.reading.others == "empty" else "refuse"
    return replace(cell, reading=replace(cell.reading, words=words, others=others))


# ------------------------------------------------------------------------------------------------ checks


def _check_required(table: Table, step: Step) -> None:
    filled = {field.name for field in step.fields}
    for name, column in columns_of(step.model).items():
        if name not in NOT_MAPPED | filled and not column.nullable and column.default is None:
            raise table.refuse(f"every {step.record_type} needs the field {name!r}", "fields")
    subject = columns_of(step.model).get("subject_id")
    if subject is not None and not subject.nullable and "subject_id" not in filled:
        raise table.refuse(f"every {step.record_type} needs the field 'subject_id'", "fields")


def _check_event_fields(table: Table, step: Step) -> None:
    implied = IMPLIED[step.event or "update"]
    for field in step.fields:
        if field.name in implied and not (field.name == "stage" and step.event == "close"):
            raise table.refuse(f"{step.event} sets {field.name!r} by itself", "fields")
    if step.event == "update" and not step.fields:
        raise table.refuse("an update names no field to update", "fields")


def _check_names(mapping: Mapping) -> None:
    lookups = {lookup.name for lookup in mapping.lookups}
    users: list[tuple[str, str]] = [(f"lookups.{lookup.name}", lookup.file) for lookup in mapping.lookups]
    users += [(step.name, step.file) for step in mapping.steps]
    for place, file in users:
        if file not in mapping.files:
            raise MappingError(f"{place}.file: no file {file!r}{did_you_mean(file, mapping.files)}")
    for step in mapping.steps:
        for place, expression in step.expressions():
            for lookup in lookups_in(expression):
                if lookup not in lookups:
                    raise MappingError(
                        f"{step.name}.{place}: no lookup {lookup!r}{did_you_mean(lookup, lookups)}"
                    )
    _check_known(mapping)
    names = [step.name for step in mapping.steps]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise MappingError(f"two steps are called {min(twice)!r}; the report needs them told apart")


def _check_takes(table: Table, step: Step) -> None:
    for place, expression in step.expressions():
        if not step.group and any(cell.take != "first" for cell in cells_in(expression)):
            raise table.refuse("'take' needs group = true: without it, every line stands for itself", place)


def _check_known(mapping: Mapping) -> None:
    said: dict[tuple[str, str], tuple[str, tuple[Known, FieldKind | None]]] = {}
    for step in mapping.steps:
        for field in step.fields:
            if field.known is None:
                continue
            this = (field.known, field.kind)
            first, that = said.setdefault((step.record_type, field.name), (step.name, this))
            if this != that:
                raise MappingError(
                    f"{step.name}: {field.name} is {_said(this)}, but {first} says {_said(that)}; "
                    "a field has one meaning"
                )


def _said(meaning: tuple[Known, FieldKind | None]) -> str:
    known, kind = meaning
    return f"known at {known}" if kind is None else f"a {kind} known at {known}"
