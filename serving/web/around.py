"""What stands around a record on its page: what is linked to it, its files, and its open next steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, String, cast, func, literal, null, or_, select, union_all

from crm_core.access import Reader
from crm_core.columns import Money
from crm_core.declared import declarations
from crm_core.links import links_to
from crm_core.records import (
    RECORD_TYPES,
    Activity,
    ActivityKind,
    Attachment,
    Contact,
    Contract,
    CustomRecord,
    Deal,
    Record,
    Ticket,
)
from crm_core.validation import columns_of
from serving.editing import Kind
from serving.steps import open_steps
from serving.web.facts import choice_word
from serving.web.places import nameless, path_of, title_column, type_word
from serving.web.titles import TOLD, told_titles
from serving.web.words import word

SHOWN: Final = 6
"""Records of each type that are listed; more are counted."""

_ELSEWHERE: Final = frozenset({"activity", "comment", "attachment", "tag", "user", "team", "campaign_member"})
_OF_THE_SAME_ACCOUNT: Final[tuple[type[Record], ...]] = (Contact, Deal, Contract, Ticket)
_MONEY: Final = ("amount", "value", "unit_price")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One record that is linked to this one."""

    title: str
    path: str | None
    status: str | None
    amount: Decimal | None
    currency: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Group:
    """The records of one type: `total` of them, the newest listed."""

    record_type: str
    label: str
    total: int
    items: Sequence[Item]


def read_related(reader: Reader, kind: Kind, record: Record) -> list[Group]:
    """Return what is linked to a record and may be seen, by type, in one query."""
    parts = list(_parts(reader, kind, record))
    if not parts:
        return []
    rows = reader.session.execute(union_all(*parts) if len(parts) > 1 else parts[0]).all()
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[_named(reader, row)].append(row)
    return [
        Group(
            record_type=name,
            label=_label(reader, name),
            total=some[0].total,
            items=_items(reader, name, sorted(some, key=lambda row: row.place)),
        )
        for name, some in found.items()
    ]


def _parts(reader: Reader, kind: Kind, record: Record) -> Iterator[Select[Any]]:
    ways: dict[type[Record], list[ColumnElement[bool]]] = defaultdict(list)
    for link in links_to(kind.model):
        if not link.by_subject and link.model.record_type not in _ELSEWHERE:
            ways[link.model].append(columns_of(link.model)[link.column] == record.id)
    account_id = getattr(record, "account_id", None)
    if account_id is not None and reader.may_read_field(kind.name, "account_id"):
        for model in _OF_THE_SAME_ACCOUNT:
            ways[model].append(columns_of(model)["account_id"] == account_id)
    for model in (model for model in RECORD_TYPES.values() if model in ways):
        if reader.right(model.record_type).read != "none":
            itself = model.id != record.id if model is kind.model else None
            yield _part(reader, model, or_(*ways[model]), itself)


def _part(
    reader: Reader, model: type[Record], linked: ColumnElement[bool], other: ColumnElement[bool] | None
) -> Select[Any]:
    name, columns = model.record_type, columns_of(model)
    money = next((each for each in _MONEY if each in columns and reader.may_read_field(name, each)), None)
    # One query of all types: money by its stored whole number, and no text where a type has none.
    amount = cast(null(), Money) if money is None else columns[money]
    newest = func.row_number().over(order_by=(model.occurred_at.desc(), model.id.desc()))
    query = select(
        literal(name).label("type"),
        (CustomRecord.type_id if model is CustomRecord else literal(0)).label("type_id"),
        model.id.label("record_id"),
        title_column(reader, model).label("title"),
        _told(reader, model, "status").label("status"),
        amount.label("amount"),
        _told(reader, model, "currency").label("currency"),
        model.occurred_at.label("at"),
        newest.label("place"),
        func.count().over().label("total"),
    ).where(model.deleted_at.is_(None), linked, reader.readable(model))
    if other is not None:
        query = query.where(other)
    if model is CustomRecord:  # a declared type is a type of its own
        own = func.row_number().over(
            partition_by=CustomRecord.type_id, order_by=(model.occurred_at.desc(), model.id.desc())
        )
        counted = func.count().over(partition_by=CustomRecord.type_id)
        query = query.with_only_columns(
            *list(query.selected_columns)[:-2], own.label("place"), counted.label("total")
        )
    held = query.subquery()
    return select(*held.c).where(held.c.place <= SHOWN)


def _told(reader: Reader, model: type[Record], name: str) -> ColumnElement[Any]:
    columns = columns_of(model)
    told = name in columns and reader.may_read_field(model.record_type, name)
    return cast(columns[name], String) if told else cast(null(), String)


def _named(reader: Reader, row: Any) -> str:  # noqa: ANN401  a row
    if row.type != CustomRecord.record_type:
        return str(row.type)
    return declarations(reader.session).types[row.type_id].name


def _label(reader: Reader, name: str) -> str:
    return word("related", name) if name in RECORD_TYPES else type_word(reader, name)


def _items(reader: Reader, name: str, rows: Sequence[Any]) -> list[Item]:
    told = told_titles(reader, name, [row.record_id for row in rows])
    return [_item(reader, name, row, row.title or told.get(row.record_id)) for row in rows]


def _item(reader: Reader, name: str, row: Any, title: str | None) -> Item:  # noqa: ANN401  a row
    return Item(
        title=title or nameless(reader, name, row.record_id),
        path=path_of(name, row.record_id),
        status=None if row.status is None else choice_word(name, "status", row.status),
        amount=None if name in TOLD else row.amount,  # which is in the title
        currency=row.currency,
        at=row.at,
    )


def list_steps_and_feedback(
    reader: Reader, record: Record, *, limit: int = 10, most_said: int = 3
) -> tuple[Sequence[Activity], Sequence[Activity]]:
    """Return the next steps of a record, and what was last said of us there, by one statement."""
    told = reader.select_about(Activity, record).where(Activity.kind == ActivityKind.FEEDBACK)
    newest = told.order_by(Activity.occurred_at.desc()).limit(most_said)
    both = [
        select(each.with_only_columns(Activity.id, maintain_column_froms=True).subquery().c.id)
        for each in (open_steps(reader, record).limit(limit), newest)
    ]
    found = reader.session.scalars(select(Activity).where(or_(*(Activity.id.in_(ids) for ids in both)))).all()
    said = [each for each in found if each.kind == ActivityKind.FEEDBACK]
    said.sort(key=lambda each: each.occurred_at, reverse=True)
    steps = [each for each in found if each.kind == ActivityKind.TASK]
    steps.sort(key=lambda each: (each.due_at is None, each.due_at or each.occurred_at, each.id))
    return [reader.masked(each) for each in steps], [reader.masked(each) for each in said]


def list_files(reader: Reader, record: Record, *, limit: int = 50) -> Sequence[Attachment]:
    """Return the files and references of a record, newest first."""
    query = reader.select_about(Attachment, record).order_by(
        Attachment.occurred_at.desc(), Attachment.id.desc()
    )
    return [reader.masked(each) for each in reader.session.scalars(query.limit(limit)).all()]
