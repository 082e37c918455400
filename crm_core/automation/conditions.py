"""Whether records fit a rule's conditions now, asked with the rights of whoever saved the rule.

What came along with the program, and what somebody saved who is not there any more, is asked with the rights
of an administrator.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.automation.kept import Active
from crm_core.automation.triggers import StageEntered, StageOverdue
from crm_core.fields import model_of
from crm_core.filters import compile_filter
from crm_core.records import DealStatus, Record, Role, User

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


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """A rule's conditions, read once for a transaction; `always` where it has none."""

    model: type[Record]
    condition: ColumnElement[bool]
    always: bool

    @classmethod
    def of(cls, session: Session, active: Active) -> Fitting:
        """Read a rule's conditions; raises what compiling a filter raises: a field may have gone."""
        name, texts = active.rule.record_type, conditions_of(active)
        condition = compile_filter(reader_for(session, active), name, texts)
        return cls(model=model_of(session, name), condition=condition, always=not texts)

    def which(self, session: Session, ids: Collection[int]) -> set[int]:
        """Return which records, of those that nobody deleted, fit as they are now."""
        model, wanted, found = self.model, sorted(set(ids)), set[int]()
        for start in range(0, len(wanted), _AT_ONCE):
            some = model.id.in_(wanted[start : start + _AT_ONCE])
            query = select(model.id).where(some, model.deleted_at.is_(None), self.condition)
            found.update(session.scalars(query))
        return found


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")
