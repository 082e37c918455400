"""The imagined company, written through the store's own verbs in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.clock import day_of, instant
from crm_core.columns import Day, Instant
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import RECORD_TYPES, Record
from crm_core.store import Store, Transaction
from crm_core.validation import columns_of
from models.simulation.company import Company
from models.simulation.table import NONE, Table

Progress = Callable[[str, int, int], None]
"""Told the record type, how many rows of it are written, and how many there are."""

Ids = dict[str, npt.NDArray[np.int64]]

_BLOCK = 5_000
_REFERENCES: Final = {
    "team_id": "team",
    "parent_id": "team",
    "owner_id": "user",
    "account_id": "account",
    "contact_id": "contact",
    "lead_id": "lead",
    "deal_id": "deal",
    "renewed_by_id": "contract",
    "contract_id": "contract",
    "campaign_id": "campaign",
}


def write_company(store: Store, company: Company, progress: Progress) -> Ids:
    """Write all records and their changes in one transaction; return the ids of the records of each type."""
    ids: Ids = {}
    with store.transaction(source=Source.IMPORT) as transaction:
        declare_field(
            transaction.session,
            record_type="deal",
            name="custom.competitor",
            kind=FieldKind.TEXT,
            known=Known.CREATION,
            label_en="Main competitor",
            label_zh="主要竞争对手",
            at=instant(company.end),
        )
        for record_type, table in company.tables.items():
            ids[record_type] = np.empty(0, dtype=np.int64)
            for rows in _blocks(len(table), 1 if record_type == "team" else _BLOCK):
                written = _create(transaction, record_type, table, rows, ids)
                ids[record_type] = np.concatenate([ids[record_type], written])
                progress(record_type, rows.stop, len(table))
        for record_type, table in company.tables.items():
            _update(transaction, record_type, table, ids, company.end, progress)
    return ids


def _blocks(size: int, block: int) -> Iterator[slice]:
    for begin in range(0, size, block):
        yield slice(begin, min(begin + block, size))


def _create(transaction: Transaction, record_type: str, table: Table, rows: slice, ids: Ids) -> list[int]:
    model = RECORD_TYPES[record_type]
    columns = {name: _values(model, name, values[rows], ids) for name, values in table.columns.items()}
    cells = zip(*columns.values(), strict=True)
    return transaction.create_many(model, [dict(zip(columns, row, strict=True)) for row in cells])


def _update(
    transaction: Transaction, record_type: str, table: Table, ids: Ids, end: int, progress: Progress
) -> None:
    """Write what was changed later, in the order in which it was written down."""
    model = RECORD_TYPES[record_type]
    changes = [
        change
        for edits in table.edits
        for change in zip(
            edits.recorded_at.tolist(),
            ids[record_type][edits.record].tolist(),
            edits.occurred_at.tolist(),
            repeat(edits.field),
            _values(model, edits.field, edits.value, ids),
            strict=False,
        )
        if change[0] < end
    ]
    changes.sort(key=itemgetter(0, 1, 2))
    updates = [
        Update(
            record_id=record_id,
            values={field: value for *_, field, value in same},
            occurred_at=instant(occurred_at),
            recorded_at=instant(recorded_at),
        )
        for (recorded_at, record_id, occurred_at), same in groupby(changes, itemgetter(0, 1, 2))
    ]
    for rows in _blocks(len(updates), _BLOCK):
        transaction.update_many(model, updates[rows])
        progress(f"{record_type} changes", rows.stop, len(updates))


def _values(model: type[Record], name: str, values: npt.NDArray[Any], ids: Ids) -> list[Any]:
    """Return values as the store takes them: ids for positions, and None for what is missing."""
    if name in _REFERENCES:
        known = ids[_REFERENCES[name]].tolist()
        return [None if at == NONE else known[at] for at in values.tolist()]
    kind = columns_of(model)[name].type
    if isinstance(kind, Instant):
        return [None if at == NO_INSTANT else instant(at) for at in values.tolist()]
    if isinstance(kind, Day):
        return [None if day == NO_INSTANT else day_of(day) for day in values.tolist()]
    return list(values.tolist())
