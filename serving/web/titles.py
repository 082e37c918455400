"""What payments and lines are called, which have no name of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, case, literal, null, select

from crm_core.access import Reader
from crm_core.records import Line, Payment, Product
from crm_core.validation import columns_of
from serving.web import shown_as
from serving.web.language import gettext

Key = tuple[str | None, int | None]
"""A record type and an id, or nothing."""

TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "payment": ("part", "reference", "amount", "currency", "due_on"),
    "line": ("text", "product_id", "quantity"),
}
"""The types that have no name, and the fields that they are told by."""


def told_of(reader: Reader, keys: Iterable[Key]) -> dict[Key, str]:
    """Return what the payments and lines among some records are called, by type and id."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for record_type, record_id in keys:
        if record_type in TOLD and record_id is not None:
            wanted[str(record_type)].add(record_id)
    return {
        (record_type, record_id): title
        for record_type, ids in wanted.items()
        for record_id, title in told_titles(reader, record_type, ids).items()
    }


def told_titles(reader: Reader, record_type: str, ids: Collection[int]) -> dict[int, str]:
    """Return what payments or lines that the reader may see are called, of what may be seen of them."""
    if record_type not in TOLD or not ids:
        return {}
    rows = map(dict, reader.session.execute(_query(reader, record_type, ids)).mappings())
    titles = {row["id"]: payment_title(row) if record_type == "payment" else line_title(row) for row in rows}
    return {record_id: title for record_id, title in titles.items() if title}


def _query(reader: Reader, record_type: str, ids: Collection[int]) -> Any:  # noqa: ANN401  a query of its own
    model = Payment if record_type == "payment" else Line
    columns = columns_of(model)
    told = [
        (columns[name] if reader.may_read_field(record_type, name) else null()).label(name)
        for name in TOLD[record_type]
    ]
    if record_type == "payment":
        return select(Payment.id, *told).where(Payment.id.in_(ids), reader.readable(Payment))
    name = case((_seen(reader), Product.name)).label("product")
    query = select(Line.id, *told, name).outerjoin(Product, Product.id == Line.product_id)
    return query.where(Line.id.in_(ids), reader.readable(Line))


def _seen(reader: Reader) -> ColumnElement[bool]:
    told = reader.may_be_told_of(["line.product_id", "product.name"])
    return reader.readable(Product) if told else literal(False)  # noqa: FBT003  of SQL


def payment_title(seen: Mapping[str, Any]) -> str:
    """Return the part of the plan, or the transfer, the amount and the day on which it is due."""
    part, due = seen.get("part"), seen.get("due_on")
    said = [gettext("Part %(number)s", number=part) if part else seen.get("reference")]
    if seen.get("amount") is not None:
        said.append(shown_as.money(seen["amount"], seen.get("currency")))
    said.append(None if due is None else gettext("due on %(day)s", day=shown_as.day(due)))
    return " · ".join(filter(None, said))


def line_title(seen: Mapping[str, Any]) -> str:
    """Return what a line says, or its product, and how many of it."""
    said, quantity = seen.get("text") or seen.get("product"), seen.get("quantity")
    if said is None or quantity is None:
        return said or ""
    return f"{said} × {shown_as.number(quantity)}"  # noqa: RUF001  times
