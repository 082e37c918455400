"""Which records point at which: read from the schema, so that a new record type takes part by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Select, select

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
