"""Which scored records a change may move the score of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.changes import Action, Change
from crm_core.records import (
    Activity,
    Contact,
    Contract,
    CustomRecord,
    Deal,
    DealStatus,
    Order,
    Payment,
    Ticket,
)

Affected = dict[str, dict[int, int]]
"""By record type: the affected records, each with the id of the newest change that affects it."""

_Linked = Activity | Order | Contract | Payment | Ticket | Contact | Deal | CustomRecord

LINKS: dict[str, tuple[type[_Linked], dict[str, str]]] = {
    "activity": (Activity, {"lead_id": "lead", "deal_id": "deal", "account_id": "account"}),
    "order": (Order, {"account_id": "account", "deal_id": "deal"}),
    "contract": (Contract, {"account_id": "account", "deal_id": "deal"}),
    "payment": (Payment, {"account_id": "account"}),
    "ticket": (Ticket, {"account_id": "account"}),
    "contact": (Contact, {"account_id": "account"}),
    "custom_record": (CustomRecord, {"lead_id": "lead", "deal_id": "deal", "account_id": "account"}),
    "deal": (Deal, {"account_id": "account"}),
}
"""By record type: the fields that name records whose score it has a part in."""


def find_affected(session: Session, changes: Sequence[Change]) -> Affected:
    """Return the leads, deals and accounts that `changes` have a part in, open or not."""
    found: Affected = {"lead": {}, "deal": {}, "account": {}}
    changes = [change for change in changes if change.action != Action.EXPORTED]  # nothing has changed
    for change in changes:
        if change.record_type in found:
            _add(found, change.record_type, [change.record_id], change.id)
        _add_former_links(found, change)
    for record_type in LINKS:
        _add_links(session, found, record_type, changes)
    _add_deals_of_accounts(session, found)
    return found


def _add(found: Affected, record_type: str, ids: Iterable[object], change_id: int) -> None:
    for record_id in ids:
        if isinstance(record_id, int):
            found[record_type][record_id] = max(change_id, found[record_type].get(record_id, 0))


def _add_former_links(found: Affected, change: Change) -> None:
    """A record moved from one lead, deal or account to another affects both."""
    links = LINKS.get(change.record_type)
    if links is not None and change.field in links[1]:
        _add(found, links[1][change.field], [change.old, change.new], change.id)


def _add_links(session: Session, found: Affected, record_type: str, changes: Sequence[Change]) -> None:
    model, links = LINKS[record_type]
    causes = {change.record_id: change.id for change in changes if change.record_type == record_type}
    if not causes:
        return
    query = select(model.id, *(getattr(model, field) for field in links)).where(model.id.in_(causes))
    for record_id, *linked in session.execute(query):
        for target, linked_id in zip(links.values(), linked, strict=True):
            _add(found, target, [linked_id], causes[record_id])


def _add_deals_of_accounts(session: Session, found: Affected) -> None:
    """What is known of a customer is part of what is known of its open deals."""
    causes = dict(found["account"])
    if not causes:
        return
    query = select(Deal.id, Deal.account_id).where(
        Deal.account_id.in_(causes), Deal.status == DealStatus.OPEN, Deal.deleted_at.is_(None)
    )
    for deal_id, account_id in session.execute(query):
        _add(found, "deal", [deal_id], causes[account_id or 0])
