"""What can be done with a deal."""

from __future__ import annotations

from datetime import datetime

from crm_core.changes import Change
from crm_core.errors import DealNotOpenError, InvalidValueError
from crm_core.pipelines import get_stage
from crm_core.records import Deal, DealStatus
from crm_core.store import Transaction


def move_deal(
    transaction: Transaction, deal: Deal, stage: str, *, occurred_at: datetime | None = None
) -> list[Change]:
    """Move an open deal to another stage that is not won; use `close_deal` to close it."""
    _check_open(deal)
    if get_stage(deal.pipeline, stage).won:
        raise InvalidValueError("stage", stage, "an open stage; closing a deal takes an outcome")
    return transaction.update(deal, {"stage": stage}, occurred_at=occurred_at)


def close_deal(
    transaction: Transaction,
    deal: Deal,
    *,
    won: bool,
    lost_reason: str | None = None,
    occurred_at: datetime | None = None,
) -> list[Change]:
    """Close an open deal as won (it enters the first won stage) or lost."""
    _check_open(deal)
    happened = occurred_at or transaction.now
    values: dict[str, object] = {
        "status": DealStatus.WON if won else DealStatus.LOST,
        "closed_at": happened,
    }
    if won:
        values["stage"] = "contract"
    elif lost_reason is not None:
        values["lost_reason"] = lost_reason
    return transaction.update(deal, values, occurred_at=happened)


def _check_open(deal: Deal) -> None:
    if deal.status != DealStatus.OPEN:
        raise DealNotOpenError(deal.id, deal.status)
