"""Logging activities on records that somebody may see, and reading them back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import check_may_write, get_visible
from crm_core.activities import log_activity
from crm_core.records import Account, Activity, Deal, Lead, User
from crm_core.store import Transaction

Logged = Lead | Deal | Account


def log_on(
    transaction: Transaction, user: User, model: type[Logged], record_id: int, activity: Activity
) -> Activity:
    """Log `activity` of `user` on a record; one that they may not see does not exist for them."""
    check_may_write(user)
    record: Logged = get_visible(transaction.session, user, model, record_id)
    setattr(activity, f"{record.record_type}_id", record.id)
    activity.owner_id = user.id
    return log_activity(transaction, activity)


def list_activities(session: Session, record: Logged, *, limit: int) -> Sequence[Activity]:
    """Return the activities of a record, newest first."""
    link = getattr(Activity, f"{record.record_type}_id")
    query = (
        select(Activity)
        .where(link == record.id, Activity.deleted_at.is_(None))
        .order_by(Activity.occurred_at.desc(), Activity.id.desc())
        .limit(limit)
    )
    return session.scalars(query).all()
