"""What is to be done with a deal in its stage, and the tasks that entering a stage makes.

Both are set by stage (`crm_core.stage_settings`). A tick is a fact about a deal and a stage; ticking is
written in the log as a change of the deal's `checklist`, with the text of what was done. A task of the
playbook is made once a deal, stage and text, however often the deal comes back, and only by moving the deal:
what was imported or moved by history makes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.changes import Action
from crm_core.columns import Instant
from crm_core.errors import ChecklistOpenError, DealNotOpenError, RecordNotFoundError
from crm_core.external_ids import find_by_external_id, hold_keys, key_of
from crm_core.pipelines import ChecklistItem
from crm_core.records import Activity, ActivityKind, Base, Deal, DealStatus, User
from crm_core.stage_settings import stage_of
from crm_core.store import Transaction

FIELD: Final = "checklist"
"""What a tick is called in the log."""


class StageTick(Base):
    """That something on a stage's checklist was done with a deal."""

    __tablename__ = "stage_ticks"

    deal_id: Mapped[int] = mapped_column(ForeignKey("deals.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(String(80), primary_key=True)
    item: Mapped[str] = mapped_column(String(16), primary_key=True, comment="the key of its text")
    ticked_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    ticked_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """One thing on the checklist of a deal's stage, and who did it when; None where it is not done."""

    item: ChecklistItem
    by_id: int | None = None
    at: datetime | None = None

    @property
    def done(self) -> bool:
        """Whether it is done."""
        return self.at is not None


def read_checklist(session: Session, deal: Deal) -> list[Ticked]:
    """Return what is to be done with a deal in the stage that it is in."""
    items = stage_of(session, deal.pipeline, deal.stage).checklist
    if not items:
        return []
    query = select(StageTick).where(StageTick.deal_id == deal.id, StageTick.stage == deal.stage)
    ticks = {each.item: each for each in session.scalars(query)}
    return [_ticked(item, ticks.get(item.key)) for item in items]


def _ticked(item: ChecklistItem, row: StageTick | None) -> Ticked:
    return Ticked(item=item) if row is None else Ticked(item=item, by_id=row.ticked_by_id, at=row.ticked_at)


def tick(transaction: Transaction, deal: Deal, user: User, key: str, *, done: bool) -> list[Ticked]:
    """Note that something was done with an open deal, or was not after all; return the whole checklist.

    Raises RecordNotFoundError for what is not on the checklist of the stage that the deal is in.
    """
    if deal.status != DealStatus.OPEN:
        raise DealNotOpenError(deal.id, deal.status)
    session = transaction.session
    items = {each.key: each for each in stage_of(session, deal.pipeline, deal.stage).checklist}
    if key not in items:
        raise RecordNotFoundError("checklist item", key)
    found = session.get(StageTick, (deal.id, deal.stage, key))
    if (found is not None) != done:
        text = items[key].text
        if found is None:
            made = {"deal_id": deal.id, "stage": deal.stage, "item": key}
            session.add(StageTick(**made, ticked_by_id=user.id, ticked_at=transaction.now))
        else:
            session.delete(found)
        old, new = (None, text) if done else (text, None)
        transaction.log_declared("deal", deal.id, Action.UPDATED, field=FIELD, old=old, new=new)
        session.flush()
    return read_checklist(session, deal)


def check_done(session: Session, deal: Deal) -> None:
    """Raise ChecklistOpenError, naming what, unless all is done that has to be before a deal leaves."""
    missing = tuple(
        each.item.text for each in read_checklist(session, deal) if each.item.required and not each.done
    )
    if missing:
        raise ChecklistOpenError(deal.id, deal.stage, missing)


def make_playbook_tasks(transaction: Transaction, deal: Deal) -> list[Activity]:
    """Make the tasks of the stage that a deal has entered, for its owner; none that it had already."""
    stage = stage_of(transaction.session, deal.pipeline, deal.stage)
    keys = [f"playbook:{deal.id}:{stage.key}:{each.key}" for each in stage.playbook]
    hold_keys(transaction.session, [key_of("activity", key) for key in keys])
    return [
        transaction.create(
            Activity(
                kind=ActivityKind.TASK,
                subject=each.text,
                due_at=transaction.now + timedelta(days=each.due_days),
                owner_id=deal.owner_id,
                deal_id=deal.id,
                account_id=deal.account_id,
                external_id=key,
            )
        )
        for key, each in zip(keys, stage.playbook, strict=True)
        if find_by_external_id(transaction.session, Activity, key) is None
    ]
