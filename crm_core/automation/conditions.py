"""Whether records fit a rule's conditions now, asked with the rights of whoever saved the rule.

What came along with the program, and what somebody saved who is not there any more, is asked with the rights
of an administrator.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.automation.kept import Active
from crm_core.automation.triggers import StageEntered, StageOverdue
from crm_core.fields import model_of
from crm_core.filters import compile_filter
from crm_core.records import DealStatus, Role, User

_AT_ONCE = 500


def reader_for(session: Session, active: Active) -> Reader:
    """Return whose rights a rule's conditions are asked with."""
    saved_by = None if active.saved_by_id is None else session.get(User, active.saved_by_id)
    if saved_by is None or saved_by.role != Role.ADMIN:
        saved_by = User(id=0, name="", email="", role=Role.ADMIN, active=True)
    return Reader(session, saved_by)


def conditions_of(active: Active) -> list[str]:
    """Return a rule's conditions, with those that its trigger stands for."""
    match active.rule.trigger:
        case StageEntered(pipeline=pipeline):
            return [*active.rule.condition, f"pipeline:eq:{_quoted(pipeline)}"]
        case StageOverdue():
            return [*active.rule.condition, f"status:eq:{DealStatus.OPEN}"]
    return list(active.rule.condition)


def which_fit(session: Session, active: Active, ids: Collection[int]) -> set[int]:
    """Return which records, of those that nobody deleted, fit a rule's conditions as they are now.

    Raises what compiling a filter raises: a field that the rule asks for may have gone.
    """
    model = model_of(session, active.rule.record_type)
    condition = compile_filter(reader_for(session, active), active.rule.record_type, conditions_of(active))
    wanted, found = sorted(set(ids)), set[int]()
    for start in range(0, len(wanted), _AT_ONCE):
        some = model.id.in_(wanted[start : start + _AT_ONCE])
        found.update(session.scalars(select(model.id).where(some, model.deleted_at.is_(None), condition)))
    return found


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")
