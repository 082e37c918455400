"""Where records are shown, and what they are called there: for links, breadcrumbs and completion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, cast, func, literal, null, select, union_all

from crm_core.access import Reader
from crm_core.declared import declarations, logical_type
from crm_core.records import RECORD_TYPES, CustomRecord, CustomRecordType, Record
from crm_core.validation import columns_of
from serving.web.language import choose_language
from serving.web.titles import TOLD, told_titles
from serving.web.words import word

Key = tuple[str, int]
"""A record type, which may be a declared one, and an id."""

OWN_PAGES = {
    "lead": "leads",
    "deal": "deals",
    "account": "customers",
    "contact": "contacts",
    "ticket": "tickets",
    "article": "articles",
}
"""Record types with pages of their own, by the address of their list."""

PLAIN_TYPES = ("quote", "contract", "order", "payment", "campaign", "product")
"""Built-in record types that have the plain page."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "lead": ("company", "name", "email"),
    "line": (),
    "quote": ("number",),
    "order": ("number",),
    "contract": ("number",),
    "ticket": ("subject",),
    "article": ("title",),
    "comment": ("body",),
    "activity": ("subject",),
    "tag": ("word",),
    "payment": (),
    "campaign_member": (),
}
"""Columns that say what a record is called, the best first; of other types it is the name."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A record as a link shows it; `path` is None where it has no page."""

    key: Key
    title: str
    path: str | None


def path_of(record_type: str, record_id: int) -> str | None:
    """Return the address of the page of a record, or None where its type has none."""
    if record_type in OWN_PAGES:
        return f"/{OWN_PAGES[record_type]}/{record_id}"
    if record_type in RECORD_TYPES and record_type not in PLAIN_TYPES:
        return None
    return f"/records/{record_type}/{record_id}"


def list_path(record_type: str) -> str:
    """Return the address of the list of records of a type."""
    return f"/{OWN_PAGES[record_type]}" if record_type in OWN_PAGES else f"/records/{record_type}"


def type_word(reader: Reader, record_type: str, *, many: bool = False) -> str:
    """Return what one record of a type is called, or several; a declared type by its label."""
    if record_type in RECORD_TYPES:
        return word("record_types" if many else "record_type", record_type)
    labels = (CustomRecordType.label_en, CustomRecordType.label_zh)
    found = reader.session.execute(select(*labels).where(CustomRecordType.name == record_type)).one()
    return str(found[1] if choose_language() == "zh" else found[0])


def title_column(reader: Reader, model: type[Record], record_type: str | None = None) -> ColumnElement[str]:
    """Return the expression of what a record is called, of the columns that the reader may see."""
    kind, columns = record_type or model.record_type, columns_of(model)
    names = [name for name in NAMES.get(model.record_type, ("name",)) if reader.may_read_field(kind, name)]
    if not names:
        return cast(null(), String)
    texts = [func.nullif(columns[name], "") for name in names]
    return cast(func.coalesce(*texts) if len(texts) > 1 else texts[0], String)


def title_in(reader: Reader, record: Record) -> str:
    """Return what a record is called, of what the reader may see."""
    if record.record_type in TOLD:
        return told_titles(reader, record.record_type, [record.id]).get(record.id) or nameless(
            reader, record.record_type, record.id
        )
    kind = logical_type(reader.session, record)
    for name in NAMES.get(record.record_type, ("name",)):
        if reader.may_read_field(kind, name) and (text := getattr(record, name, None)):
            return str(text)
    return nameless(reader, kind, record.id)


def nameless(reader: Reader, record_type: str, record_id: int) -> str:
    """Return how a record without a name is called."""
    return f"{type_word(reader, record_type)} {record_id}"


def shown_records(reader: Reader, keys: Iterable[Key]) -> dict[Key, Shown]:
    """Return those of some records that the reader sees, as links show them, in one query."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for record_type, record_id in keys:
        wanted[record_type].add(record_id)
    if not wanted:
        return {}
    parts = [_titles(reader, each).where(_model(each).id.in_(ids)) for each, ids in wanted.items()]
    rows = reader.session.execute(union_all(*parts) if len(parts) > 1 else parts[0]).all()
    told = {each: told_titles(reader, each, wanted[each]) for each in wanted.keys() & TOLD.keys()}
    return {
        (record_type, record_id): Shown(
            key=(record_type, record_id),
            title=title
            or told.get(record_type, {}).get(record_id)
            or nameless(reader, record_type, record_id),
            path=path_of(record_type, record_id),
        )
        for record_type, record_id, title in rows
    }


def find_titled(reader: Reader, record_type: str, text: str, *, limit: int) -> list[Shown]:
    """Return records of a type that the reader sees and whose title holds `text`, best first."""
    model = _model(record_type)
    title = title_column(reader, model, record_type)
    query = _titles(reader, record_type).where(title.icontains(text, autoescape=True))
    exact = func.lower(title) == text.lower()
    rows = reader.session.execute(
        query.order_by(exact.desc(), func.length(title), model.id).limit(limit)
    ).all()
    return [
        Shown(key=(kind, record_id), title=found, path=path_of(kind, record_id))
        for kind, record_id, found in rows
    ]


def find_named(reader: Reader, record_type: str, name: str) -> int | None:
    """Return the record that somebody named in full or as completion writes it, if it is one."""
    text, _sign, number = name.strip().rpartition("#")
    if text and number.isascii() and number.isdigit() and len(number) < 19:
        model: Any = _model(record_type)
        found: int = reader.get(model, int(number), only=("id",)).id
        return found
    titled = find_titled(reader, record_type, name.strip(), limit=2) if name.strip() else []
    exact = [each for each in titled if each.title.casefold() == name.strip().casefold()]
    return exact[0].key[1] if len(exact) == 1 else None


def _titles(reader: Reader, record_type: str) -> Select[Any]:
    model = _model(record_type)
    title = title_column(reader, model, record_type).label("title")
    query: Any = select(literal(record_type).label("type"), model.id.label("id"), title).where(
        model.deleted_at.is_(None), reader.readable(model)
    )
    if model is CustomRecord:
        query = query.where(CustomRecord.type_id == declarations(reader.session).by_name[record_type].type_id)
    found: Select[Any] = query
    return found


def _model(record_type: str) -> type[Record]:
    return RECORD_TYPES.get(record_type, CustomRecord)
