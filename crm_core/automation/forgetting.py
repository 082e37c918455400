"""Deleting runs that are older than they have to be kept, without any rule acting again for it.

What a log set off is beyond the cursor of that log for good. What time set off is worked out from the records
whenever somebody looks, and only its run says that it was acted on: of a rule and record the last one stays.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, exists, func, or_, select
from sqlalchemy.orm import aliased

from crm_core.automation.kept import AutomationRun
from crm_core.store import Store

AT_ONCE: Final = 500
"""Runs that are deleted in one transaction: on SQLite nobody else writes meanwhile."""

_FROM_LOGS: Final = ("c", "p", "a")
"""How causes begin that a cursor is beyond: changes, predictions, alerts."""


def forget_runs(store: Store, *, before: datetime) -> int:
    """Delete runs of before an instant, some at a time; return how many."""
    gone, after = 0, 0
    while True:
        with store.reading() as session:
            old = select(AutomationRun.id).where(_may_go(before), AutomationRun.id > after)
            ids = session.scalars(old.order_by(AutomationRun.id).limit(AT_ONCE)).all()
        if not ids:
            return gone
        with store.transaction() as transaction:
            deleted: Any = transaction.session.execute(delete(AutomationRun).where(AutomationRun.id.in_(ids)))
            gone += deleted.rowcount
        after = ids[-1]


def _may_go(before: datetime) -> ColumnElement[bool]:
    later = aliased(AutomationRun)
    superseded = exists().where(
        later.rule_id == AutomationRun.rule_id,
        later.record_id == AutomationRun.record_id,
        later.id > AutomationRun.id,
    )
    of_a_log = func.substr(AutomationRun.cause, 1, 1).in_(_FROM_LOGS)
    return (AutomationRun.at < before) & or_(of_a_log, superseded)
