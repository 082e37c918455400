"""The mapping by which an export is imported again, into this store or another one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from crm_core.exporting.files import as_cell
from crm_core.exporting.tables import ANY, ExportColumn, ExportTable
from crm_core.fields import FieldKind, Known
from crm_core.importing.mapping import IMPORTED, LINK_LISTS, is_mapped
from crm_core.importing.specs import model_named
from crm_core.records import LINKABLE, RECORD_TYPES, CustomRecordType
from crm_core.validation import columns_of

_ABOUT = """\
# Imports what lies beside it: crm import import.toml --from FOLDER. docs/importing.md explains every key.
# A record is found again by its external id, or by a key made of its number in the store that wrote it.

name = "export"
recorded_at = { column = "recorded_at" }
"""


def mapping_of(
    tables: Sequence[ExportTable], ending: str, *, guarded: bool, covered: Mapping[str, datetime]
) -> str:
    """Return the mapping of the exported files as TOML; only records of the record types that it names."""
    there = {table.name for table in tables}
    taken = [table for table in tables if (table.kind or table.name in IMPORTED) and _is_whole(table)]
    later = {table.name: _later(table, [each.name for each in taken]) for table in taken}
    parts = [_ABOUT, *(_type(table.kind) for table in taken if table.kind is not None)]
    parts += [*(_file(table.name, ending, guarded=guarded) for table in taken)]
    parts += [_records(table, there, later[table.name]) for table in taken]
    parts += [_records(table, there, later[table.name], rest=True) for table in taken if later[table.name]]
    parts += [
        _own_links(table, column) for table in taken for column in table.columns if _is_own(table, column)
    ]
    return "\n".join([*parts, *_coverage(covered, {table.name for table in taken})])


def _later(table: ExportTable, order: Sequence[str]) -> list[str]:
    """Return the record types that records of a table are about and that come in after them."""
    after = set(order[order.index(table.name) + 1 :])
    return sorted(table.subjects & after)


def _coverage(covered: Mapping[str, datetime], taken: set[str]) -> Iterator[str]:
    lines = [f'{name} = "{as_cell(until)}"' for name, until in sorted(covered.items()) if name in taken]
    if lines:
        yield "\n".join(["[coverage]", *lines, ""])


def _type(kind: CustomRecordType) -> str:
    """Return the declaration of a record type, so that an empty store knows it too."""
    lines = [f"[types.{kind.name}]", *(f"{key} = {json.dumps(getattr(kind, key))}" for key in _TYPE_KEYS)]
    return "\n".join([*lines, ""])


_TYPE_KEYS = ("label_en", "label_zh", "links")


def _is_whole(table: ExportTable) -> bool:
    """Say whether the file holds what a record needs; fields may be hidden from who exported."""
    columns = columns_of(model_named(table.name))
    needed = {name for name, column in columns.items() if is_mapped(name, column) and not column.nullable}
    return needed | {"occurred_at", "recorded_at"} <= {column.field for column in table.columns}


def _file(name: str, ending: str, *, guarded: bool) -> str:
    lines = [f"[files.{name}]", f'path = "{name}.{ending}"']
    return "\n".join([*lines, *(["apostrophes = true"] if guarded else []), ""])


def _records(table: ExportTable, there: set[str], later: Sequence[str], *, rest: bool = False) -> str:
    name = f"{table.name} of what comes later" if rest else table.name
    head = ["[[records]]", f'name = "{name}"', f'record = "{table.name}"', f'file = "{table.name}"']
    head += ['external_id = "key"', 'occurred_at = "occurred_at"']
    if later:
        tests = [f"{'other_than' if rest else 'equals'} = {json.dumps(list(later))}"]
        tests += ["empty = true"] if rest else []  # a row about nothing belongs to the first step
        about = '{ reason = "in another step", column = "subject_type", '
        head.append(f"leave_out = [{', '.join(about + test + ' }' for test in tests)}]")
    return "\n".join([*head, "[records.fields]", *_fields(table, there), "", *_custom(table)])


def _fields(table: ExportTable, there: set[str]) -> Iterator[str]:
    columns = columns_of(model_named(table.name))
    parents = {link for link in (table.kind.links if table.kind else ()) if link in there - {table.name}}
    for column in table.columns:
        name = column.field or ""
        if name == "parent_id" and table.kind is not None:
            parents &= there - RECORD_TYPES.keys()
            if len(parents) == 1 and column.link is not None:
                kind = f'record = "{min(parents)}", if_missing = "empty"'
                yield f'{name} = {{ external_id = "{column.name}", {kind} }}'
            continue
        if name not in columns or _is_own(table, column) or _is_no_link_of(table, column):
            continue
        may_be_missing = ', if_missing = "empty"' if columns[name].nullable else ""
        if column.link == ANY:
            yield f'{name} = {{ record = "subject_type", external_id = "{column.name}"{may_be_missing} }}'
        elif not is_mapped(name, columns[name]):
            continue
        elif column.link in there:
            yield f'{name} = {{ external_id = "{column.name}"{may_be_missing} }}'
        elif column.link is None and not _is_link(table.name, name):
            yield f'{name} = "{name}"'


def _is_no_link_of(table: ExportTable, column: ExportColumn) -> bool:
    """Say whether a column links records of a declared type to what the type is not linked to."""
    return table.kind is not None and column.link in {*LINKABLE} - {*table.kind.links}


def _is_link(record_type: str, name: str) -> bool:
    return bool(columns_of(model_named(record_type))[name].foreign_keys) or (record_type, name) in LINK_LISTS


def _custom(table: ExportTable) -> Iterator[str]:
    for column in table.columns:
        if column.declared in {None, FieldKind.REFERENCE} or column.known is None:
            continue  # an id of this store names nothing in another one
        # The export holds the last state: what was known when stands in the change log.
        known = Known.UNKNOWN if column.known is Known.HISTORY else column.known
        yield f"[records.{column.name}]"
        yield f'column = {json.dumps(column.name)}\nkind = "{column.declared}"\nknown = "{known}"'
        for language, label in (("label_en", column.label_en), ("label_zh", column.label_zh)):
            if label:
                yield f"{language} = {json.dumps(label, ensure_ascii=False)}"
        if column.choices:
            yield f"choices = {json.dumps(column.choices, ensure_ascii=False)}"
        yield ""


def _is_own(table: ExportTable, column: ExportColumn) -> bool:
    return column.link == table.name


def _own_links(table: ExportTable, column: ExportColumn) -> str:
    """Return the step that links records of one type, after all of them exist."""
    return f"""\
[[events]]
name = "{table.name} {column.name}"
event = "update"
record = "{table.name}"
file = "{table.name}"
external_id = "key"
occurred_at = "occurred_at"
fields = {{ {column.field} = {{ external_id = "{column.name}", if_missing = "empty" }} }}
leave_out = [{{ reason = "no {column.name}", column = "{column.name}", empty = true }}]
"""
