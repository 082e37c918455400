"""Which records point at which: read from the schema, so that a new record type takes part by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase
from crm_core.records import RECORD_TYPES, Record
from crm_core.validation import columns_of


@dataclass(frozen=True, kw_only=True)
class Link:
    """A column of one record type that holds the id of a record of another."""

    model: type[Record]
    column: str
    by_subject: bool = False

    def pointing_at(self, target: type[Record], record_id: int) -> Select[int]:
        """Return the query of the ids of records, deleted ones too, that point at a record."""
        columns = columns_of(self.model)
        query = select(columns["id"]).where(columns[self.column] == record_id)
        return query.where(columns["subject_type"] == target.record_type) if self.by_subject else query


def links_to(target: type[Record]) -> Iterator[Link]:
    """Yield every column through which records point at records of type `target`."""
    for model in RECORD_TYPES.values():
        columns = columns_of(model)
        for name, column in columns.items():
            if any(key.column.table is target.__table__ for key in column.foreign_keys):
                yield Link(model=model, column=name)
        if "subject_id" in columns:
            yield Link(model=model, column="subject_id", by_subject=True)


def read_chains(
    session: Session, model: type[Record], name: str, ids: Iterable[int | None]
) -> dict[int, int | None]:
    """Return for records, and all that stand above them, which one a link such as `parent_id` points to."""
    columns = columns_of(model)
    above: dict[int, int | None] = {}
    waiting = {record_id for record_id in ids if record_id is not None}
    while waiting:
        query = select(columns["id"], columns[name]).where(columns["id"].in_(waiting))
        found: dict[int, int | None] = dict(session.execute(query).all())
        above |= found
        waiting = {parent for parent in found.values() if parent is not None} - above.keys()
    return above


def chain_of(above: Mapping[int, int | None], record_id: int | None) -> set[int]:
    """Return a record and all that stand above it."""
    chain: set[int] = set()
    while record_id is not None and record_id not in chain:
        chain.add(record_id)
        record_id = above.get(record_id)
    return chain


def check_no_cycle(session: Session, model: type[Record], parents: Sequence[tuple[int, int | None]]) -> None:
    """Raise InvalidValueError for the first (record, parent) by which a record would stand above itself.

    They are taken one after another; a model without parents has none to check.
    """
    above = read_chains(session, model, "parent_id", [parent for _, parent in parents])
    for record_id, parent in parents:
        if record_id in chain_of(above, parent):
            expected = Phrase(
                "one that is neither {record_type} {record_id} itself nor below it",
                record_type=model.record_type,
                record_id=record_id,
            )
            raise InvalidValueError(f"{model.record_type}.parent_id", parent, expected)
        above[record_id] = parent
