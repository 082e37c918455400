"""What can be done with a deal."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from crm_core.changes import Change
from crm_core.checklists import check_done, make_playbook_tasks
from crm_core.errors import DealNotOpenError, InvalidValueError, MissingFieldsError
from crm_core.fields import CUSTOM
from crm_core.pipelines import PIPELINES, comes_after, get_stage, open_stages
from crm_core.records import Deal, DealStatus
from crm_core.stage_settings import stage_of
from crm_core.store import Transaction


def move_deal(
    transaction: Transaction,
    deal: Deal,
    stage: str,
    *,
    occurred_at: datetime | None = None,
    as_it_was: bool = False,
) -> list[Change]:
    """Move an open deal to another stage that is not won; use `close_deal` to close it.

    Raises MissingFieldsError where the deal lacks what a later stage requires, ChecklistOpenError where
    something has to be done before it leaves; `as_it_was` lets history in as it happened. Imports write
    stages as `update` events, which ask for nothing.
    """
    _check_open(deal)
    if get_stage(deal.pipeline, stage).won:
        raise InvalidValueError("stage", stage, "an open stage; closing a deal takes an outcome")
    if not as_it_was and comes_after(deal.pipeline, stage, deal.stage):
        check_required(transaction.session, deal, stage)
        check_done(transaction.session, deal)
    changes = transaction.update(deal, {"stage": stage}, occurred_at=occurred_at)
    if changes and not as_it_was and deal.stage == stage:
        make_playbook_tasks(transaction, deal)
    return changes


def close_deal(
    transaction: Transaction,
    deal: Deal,
    *,
    won: bool,
    lost_reason: str | None = None,
    occurred_at: datetime | None = None,
    as_it_was: bool = False,
) -> list[Change]:
    """Close an open deal as won (it enters the first won stage) or lost.

    Raises MissingFieldsError where a deal to be won lacks what that stage requires, ChecklistOpenError where
    something has to be done before it leaves its stage, unless `as_it_was`.
    """
    _check_open(deal)
    won_stage = next(stage.key for stage in PIPELINES[deal.pipeline] if stage.won)
    if won and not as_it_was:
        check_required(transaction.session, deal, won_stage)
        check_done(transaction.session, deal)
    happened = occurred_at or transaction.now
    values: dict[str, object] = {
        "status": DealStatus.WON if won else DealStatus.LOST,
        "closed_at": happened,
    }
    if won:
        values["stage"] = won_stage
    elif lost_reason is not None:
        values["lost_reason"] = lost_reason
    changes = transaction.update(deal, values, occurred_at=happened)
    if won and changes and not as_it_was and deal.stage == won_stage:
        make_playbook_tasks(transaction, deal)
    return changes


def reopen_deal(transaction: Transaction, deal: Deal, *, occurred_at: datetime | None = None) -> list[Change]:
    """Open a closed deal again, as if it had not ended; an open one stays as it is.

    One that was won goes back to the last stage of its pipeline in which deals are open.
    """
    if deal.status == DealStatus.OPEN:
        return []
    values: dict[str, object] = {"status": DealStatus.OPEN, "closed_at": None, "lost_reason": None}
    if get_stage(deal.pipeline, deal.stage).won:
        values["stage"] = open_stages(deal.pipeline)[-1].key
    return transaction.update(deal, values, occurred_at=occurred_at)


def check_required(session: Session, deal: Deal, stage: str) -> None:
    """Raise MissingFieldsError, naming the fields, unless a deal has what a stage requires as it was set."""
    required = stage_of(session, deal.pipeline, stage).required
    missing = tuple(field for field in required if _lacks(deal, field))
    if missing:
        raise MissingFieldsError(deal.id, stage, missing)


def _lacks(deal: Deal, field: str) -> bool:
    if field.startswith(CUSTOM):
        return (deal.custom or {}).get(field.removeprefix(CUSTOM)) is None
    return getattr(deal, field) is None


def _check_open(deal: Deal) -> None:
    if deal.status != DealStatus.OPEN:
        raise DealNotOpenError(deal.id, deal.status)
