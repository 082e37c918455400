"""How records ended, whenever that was: for what has no dates, or no date of its end that could be trusted.

A mapping may say that its file has no dates (`undated`), or that a closing is dated by a limit only
(`dated = "at_the_latest"`). Then nobody can ask "within how many days", but only "in the end".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.errors import DeclarationError
from crm_core.fields import CUSTOM, FieldKind, Known, find_field, list_fields
from crm_core.history import read_field_history
from crm_core.opting_out import list_opted_out
from crm_core.records import Account, Deal, DealStatus, Lead, LeadStatus
from crm_core.store import Store
from features.windows import Flags, Ints, visible_from

UNDATED = "undated"
"""The kind of question about records without any date: how it ends, and no time order."""

ONCE = "once"
"""The kind of question asked once, when a record becomes known: how it ends, whenever that is."""

_ASKED_OF: dict[str, type[Lead | Deal | Account]] = {"lead": Lead, "deal": Deal, "account": Account}
_WANTED: dict[str, str] = {"deal": DealStatus.WON, "lead": LeadStatus.CONVERTED}
_OPEN: dict[str, str] = {"deal": DealStatus.OPEN, "lead": LeadStatus.OPEN}


@dataclass(frozen=True, kw_only=True, eq=False)
class Endings:
    """Every record of a type that may be asked about, by id: int64[n] each, but `wanted`, which is bool[n].

    `known_from` and `ended_at` are in microseconds; `ended_at` is when the end was known, NO_INSTANT for a
    record that goes on. `wanted` tells which ended as the task asks.
    """

    ids: Ints
    occurred_at: Ints
    known_from: Ints
    ended_at: Ints
    wanted: Flags


def is_undated_in(session: Session, record_type: str) -> bool:
    """Return whether an import brought records of this type without dates."""
    return _is_unknown(session, record_type, "occurred_at")


def ending_kind(store: Store, record_type: str) -> str:
    """Return UNDATED, ONCE, or nothing where both ends of a record's life are dated."""
    with store.reading() as session:
        if is_undated_in(session, record_type):
            return UNDATED
        return ONCE if _is_unknown(session, record_type, "closed_at") else ""


def read_endings(session: Session, record_type: str) -> Endings:
    """Return how all records of a type ended that are not deleted and may be scored."""
    model = _ASKED_OF[record_type]
    query = select(model.id, model.occurred_at, model.recorded_at, model.deleted_at).order_by(model.id)
    rows = read_arrays(session, query)
    known_from = visible_from(rows["occurred_at"], rows["recorded_at"])
    ended_at, wanted = (
        _flagged(session, known_from)
        if record_type == "account"
        else _closed(session, record_type, rows["id"], known_from)
    )
    kept = (rows["deleted_at"] == NO_INSTANT) & ~np.isin(rows["id"], list_opted_out(session, model))
    return Endings(
        ids=rows["id"][kept],
        occurred_at=rows["occurred_at"][kept],
        known_from=known_from[kept],
        ended_at=ended_at[kept],
        wanted=wanted[kept],
    )


def outcome_flag(session: Session) -> str:
    """Return the one flag of an account that is known at the outcome: of an undated file, the outcome.

    Raises DeclarationError where there is none, or more than one.
    """
    found = [
        field.name
        for field in list_fields(session, "account")
        if field.kind == FieldKind.FLAG and field.known == Known.OUTCOME and field.retired_at is None
    ]
    if len(found) != 1:
        raise DeclarationError(
            "accounts without dates: expected one flag that is known at the outcome and tells who left, "
            f"found {', '.join(found) or 'none'}"
        )
    return found[0]


def _is_unknown(session: Session, record_type: str, column: str) -> bool:
    found = find_field(session, record_type, column)
    return found is not None and found.known == Known.UNKNOWN


def _flagged(session: Session, known_from: Ints) -> tuple[Ints, Flags]:
    """Return who left; of the others, the file says that they had not."""
    name = outcome_flag(session).removeprefix(CUSTOM)
    custom = read_arrays(session, select(Account.custom).order_by(Account.id))["custom"]
    held = [None if cell is None else cell.get(name) for cell in custom.tolist()]
    told = np.array([value is not None for value in held], dtype=np.bool_)
    left = np.array([value is True for value in held], dtype=np.bool_)
    return np.where(told, known_from, NO_INSTANT), left


def _closed(session: Session, record_type: str, ids: Ints, known_from: Ints) -> tuple[Ints, Flags]:
    model: type[Deal | Lead] = Deal if record_type == "deal" else Lead
    status = read_arrays(session, select(model.status).order_by(model.id))["status"]
    history = read_field_history(session, model, "status")
    newest = known_from.copy()
    known = np.isin(history.record_id, ids)
    changed = visible_from(history.occurred_at, history.recorded_at)[known]
    np.maximum.at(newest, np.searchsorted(ids, history.record_id[known]), changed)
    is_open = np.asarray(status == str(_OPEN[record_type]), dtype=np.bool_)
    wanted = np.asarray(status == str(_WANTED[record_type]), dtype=np.bool_)
    return np.where(is_open, NO_INSTANT, newest), wanted
