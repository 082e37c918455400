"""What is exported: the records of a type as a reader may see them, a chunk at a time, cell by cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, Float, Integer, Select, select, true
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from crm_core.access import Reader
from crm_core.changes import Change
from crm_core.clock import day_of, instant
from crm_core.columns import MONEY_SCALE, Day, Instant, Json, Money, dump_json
from crm_core.fields import FieldKind, Known, list_fields
from crm_core.importing.mapping import LINK_LISTS
from crm_core.importing.values import Kind
from crm_core.predictions import Prediction
from crm_core.records import RECORD_TYPES, CustomRecord, CustomRecordType, Record
from crm_core.validation import columns_of
from crm_core.worth import readable_worth

CHUNK_ROWS = 2_000
_IDS_AT_ONCE = 500

ANY = "any"
"""The target of a link that may point to a record of any type."""

Row = list[Any]


@dataclass(frozen=True, kw_only=True)
class ExportColumn:
    """A column of an exported file.

    `link` is the record type that a key points to (`ANY`: as the field `subject_type` says), `many` that it
    is a list of keys, `known` what the store says of a custom field, `field` the name of the record's field.
    """

    name: str
    kind: Kind
    field: str | None = None
    link: str | None = None
    many: bool = False
    known: Known | None = None
    declared: FieldKind | None = None
    label_en: str | None = None
    label_zh: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExportTable:
    """A file to be written: rows come in chunks, in the order of ids.

    `subjects` are the record types that its records are about, where they may be about any; `kind` is that of
    declared records.
    """

    name: str
    columns: Sequence[ExportColumn]
    kind: CustomRecordType | None = None
    chunks: Callable[[], Iterator[list[Row]]]
    subjects: frozenset[str] = frozenset()


MADE = "crm:"
"""How the key of a record that came from nowhere begins."""


def prefix_of(session: Session, model: type[Record]) -> str:
    """Return how keys made of numbers begin: unlike any external id, which an export may have made."""
    prefix = MADE
    taken = select(model.id).limit(1)
    while session.scalar(taken.where(model.external_id.startswith(prefix, autoescape=True))) is not None:
        prefix += MADE
    return prefix


def key_of(record_id: int, external_id: str | None, prefix: str = MADE) -> str:
    """Return what identifies a record in an export: its external id, or one made of its number."""
    return external_id or f"{prefix}{record_id}"


# ------------------------------------------------------------------------------------------------ records


def table_of(reader: Reader, model: type[Record], kind: CustomRecordType | None = None) -> ExportTable:
    """Return all records of `model` that `reader` may see, with the fields that it may see.

    With `kind`, which is declared, those of that kind.
    """
    name = model.record_type if kind is None else kind.name
    ours = true() if kind is None else CustomRecord.type_id == kind.id
    columns = [
        ExportColumn(name="key", kind=Kind.TEXT),
        *(each for field in _visible(reader, model, name) for each in _columns(model, field)),
        *_custom_columns(reader, model, name, ours),
    ]
    return ExportTable(
        name=name,
        columns=columns,
        kind=kind,
        chunks=lambda: _record_chunks(reader, model, columns, ours),
        subjects=_subjects(reader, model),
    )


def rows_of(reader: Reader, model: type[Record], ids: Sequence[int]) -> ExportTable:
    """Return those of some records that the reader may see, as `table_of` has them, in the order of ids."""
    table, ordered = table_of(reader, model), sorted(ids)
    lots = [ordered[start : start + _IDS_AT_ONCE] for start in range(0, len(ordered), _IDS_AT_ONCE)]
    chunks = lambda: (  # noqa: E731  as the tables have them
        chunk for lot in lots for chunk in _record_chunks(reader, model, table.columns, model.id.in_(lot))
    )
    return replace(table, chunks=chunks)


def _subjects(reader: Reader, model: type[Record]) -> frozenset[str]:
    column = columns_of(model).get("subject_type")
    if column is None:
        return frozenset()
    query = select(column).where(column.is_not(None), model.deleted_at.is_(None)).distinct()
    return frozenset(reader.session.scalars(query))


def _visible(reader: Reader, model: type[Record], record_type: str) -> list[str]:
    readable = {name for name in reader.readable_fields(model) if reader.may_read_field(record_type, name)}
    return [name for name in columns_of(model) if name in readable and name not in {"custom", "deleted_at"}]


def _columns(model: type[Record], name: str) -> Iterator[ExportColumn]:
    column = columns_of(model)[name]
    yield ExportColumn(name=name, kind=kind_of(column), field=name)
    listed = LINK_LISTS.get((model.record_type, name))
    if listed is not None:
        yield ExportColumn(name=f"{name}_keys", kind=Kind.TEXT, field=name, link=listed, many=True)
    target = ANY if name == "subject_id" else _target(column)
    if target is not None:
        yield ExportColumn(name=f"{name.removesuffix('_id')}_key", kind=Kind.TEXT, field=name, link=target)


def _target(column: Column[Any]) -> str | None:
    tables = {key.target_fullname.split(".")[0] for key in column.foreign_keys}
    return next((name for name, model in RECORD_TYPES.items() if model.__tablename__ in tables), None)


def kind_of(column: ColumnElement[Any]) -> Kind:
    """Return what the cells of a column hold."""
    kinds: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
        (Instant, Kind.INSTANT),
        (Day, Kind.DAY),
        (Money, Kind.MONEY),
        (Boolean, Kind.FLAG),
        (Integer, Kind.INTEGER),
        (Float, Kind.NUMBER),
    )
    return next((kind for stored, kind in kinds if isinstance(column.type, stored)), Kind.TEXT)


def _custom_columns(
    reader: Reader, model: type[Record], record_type: str, ours: ColumnElement[bool]
) -> Iterator[ExportColumn]:
    declared = {
        each.name: each
        for each in list_fields(reader.session, record_type)
        if each.name.startswith("custom.")
    }
    for name in sorted(declared.keys() | _custom_names(reader, model, ours)):
        if reader.may_read_field(record_type, name):
            found = declared.get(name)
            kind = FieldKind(found.kind) if found is not None and found.kind else FieldKind.TEXT
            known = None if found is None else Known(found.known)
            yield ExportColumn(
                name=name,
                kind=_CELLS.get(kind) or Kind(kind.value),
                field=name,
                known=known,
                declared=kind,
                label_en=None if found is None else found.label_en,
                label_zh=None if found is None else found.label_zh,
                choices=tuple(each["value"] for each in (found.choices if found else None) or ()),
            )


_CELLS = {FieldKind.CHOICE: Kind.TEXT, FieldKind.REFERENCE: Kind.INTEGER}


def _custom_names(reader: Reader, model: type[Record], ours: ColumnElement[bool]) -> set[str]:
    """Return the custom fields that records have: programs may write some that nobody declared."""
    column = columns_of(model)["custom"]
    query = select(column).where(column.is_not(None), reader.readable(model), ours).distinct()
    values = reader.session.scalars(query.execution_options(yield_per=CHUNK_ROWS))
    return {f"custom.{name}" for custom in values for name in custom or ()}


def _record_chunks(
    reader: Reader, model: type[Record], columns: Sequence[ExportColumn], ours: ColumnElement[bool]
) -> Iterator[list[Row]]:
    last = 0
    query = reader.select(model).where(ours).order_by(model.id).limit(CHUNK_ROWS)
    while records := list(reader.session.scalars(query.where(model.id > last))):
        last = records[-1].id
        prefix = prefix_of(reader.session, model)
        shown = [_shown(reader, record, prefix) for record in records]
        keys = {target: _keys(reader, target, ids) for target, ids in _pointed_at(columns, shown).items()}
        yield [[_cell(column, values, keys) for column in columns] for values in shown]
        for record in records:
            reader.session.expunge(record)


def _shown(reader: Reader, record: Record, prefix: str) -> dict[str, Any]:
    values = reader.shown(record)
    custom = values.pop("custom", None) or {}
    key = key_of(record.id, values.get("external_id"), prefix)
    return {**values, **{f"custom.{name}": value for name, value in custom.items()}, "key": key}


def _pointed_at(columns: Sequence[ExportColumn], shown: list[dict[str, Any]]) -> dict[str, set[int]]:
    """Return the ids of the records that a chunk points to, by record type."""
    found: dict[str, set[int]] = defaultdict(set)
    for column in columns:
        if column.link is not None:
            for values in shown:
                found[_type_of(column, values)].update(_ids_in(column, values))
    return found


def _type_of(column: ExportColumn, values: dict[str, Any]) -> str:
    return str(values["subject_type"]) if column.link == ANY else str(column.link)


def _ids_in(column: ExportColumn, values: dict[str, Any]) -> list[int]:
    value = values[column.field or ""]
    if value is None:
        return []
    return list(value) if column.many else [value]


def _keys(reader: Reader, target: str, ids: set[int]) -> dict[int, str]:
    """Return the keys of records, as far as the reader may see them."""
    if target not in RECORD_TYPES:
        return {}
    model = RECORD_TYPES[target]
    known, prefix = reader.may_read_field(target, "external_id"), prefix_of(reader.session, model)
    query = select(model.id, model.external_id).where(
        model.id.in_(ids), model.deleted_at.is_(None), reader.readable(model)
    )
    return {
        record_id: key_of(record_id, external_id if known else None, prefix)
        for record_id, external_id in reader.session.execute(query)
    }


def _cell(column: ExportColumn, values: dict[str, Any], keys: dict[str, dict[int, str]]) -> Any:  # noqa: ANN401  any value
    if column.link is not None:
        known = keys[_type_of(column, values)]
        found = [known[each] for each in _ids_in(column, values) if each in known]
        if column.many:
            return None if values[column.field or ""] is None else dump_json(found)
        return found[0] if found else None
    value = values.get(column.name)
    if value is None:
        return None
    if column.declared is not None:
        return _custom_cell(column.declared, value)
    return dump_json(value) if isinstance(value, list | dict) else value


def _custom_cell(kind: FieldKind, value: Any) -> Any:  # noqa: ANN401  any value
    match kind:
        case FieldKind.INSTANT:
            return instant(value)
        case FieldKind.DAY:
            return day_of(value)
        case FieldKind.MONEY:
            return Decimal(value) / MONEY_SCALE
        case FieldKind.TEXT | FieldKind.CHOICE:
            return value if isinstance(value, str) else dump_json(value)
    return value


# ------------------------------------------------------------------------------------------------ the logs

Log = type[Change] | type[Prediction]

LOGS: dict[str, Log] = {"change": Change, "prediction": Prediction}
"""What only administrators export: the change log and the predictions, in which everything stands."""


def log_table(reader: Reader, name: str) -> ExportTable:
    """Return the change log or the predictions."""
    model = LOGS[name]
    stored = list(model.__table__.columns)
    columns = [ExportColumn(name=column.name, kind=kind_of(column), field=column.name) for column in stored]
    json = {column.name for column in stored if isinstance(column.type, Json)}
    return ExportTable(name=name, columns=columns, chunks=lambda: _log_chunks(reader, model, columns, json))


def _log_chunks(
    reader: Reader, model: Log, columns: Sequence[ExportColumn], json: set[str]
) -> Iterator[list[Row]]:
    last = 0
    query: Select[Any] = select(model).order_by(model.id).limit(CHUNK_ROWS)
    while rows := list(reader.session.scalars(query.where(model.id > last))):
        last = rows[-1].id
        yield [[_log_cell(reader, row, column.name, json) for column in columns] for row in rows]
        for row in rows:
            reader.session.expunge(row)


def _told(reader: Reader, name: str, value: Any) -> Any:  # noqa: ANN401  any JSON
    """Return what a prediction says in a JSON column, as far as it may be told."""
    if name == "reasons":
        return reader.readable_reasons(value)
    return readable_worth(reader, value) if name == "yearly_value" else value


def _log_cell(reader: Reader, row: Change | Prediction, name: str, json: set[str]) -> Any:  # noqa: ANN401  any value
    value = getattr(row, name)
    if value is None or name not in json:
        return value
    if isinstance(row, Prediction):
        return dump_json(_told(reader, name, value))
    hidden = row.field is not None and not reader.may_read_field(row.record_type, row.field)
    return None if hidden else dump_json(value)
