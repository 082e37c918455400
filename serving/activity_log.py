"""Logging activities on records that somebody may see, and reading them back."""

from __future__ import annotations

from collections.abc import Sequence

from crm_core.access import Reader, check_may_write
from crm_core.activities import log_activity
from crm_core.records import Account, Activity, Deal, Lead, User
from crm_core.store import Transaction

Logged = Lead | Deal | Account


def log_on(
    transaction: Transaction, user: User, model: type[Logged], record_id: int, activity: Activity
) -> Activity:
    """Log `activity` of `user` on a record that they may change; one they may not see does not exist."""
    check_may_write(user)
    reader = Reader(transaction.session, user)
    record: Logged = reader.get_to_write(model, record_id)
    reader.check_may_create(Activity)
    setattr(activity, f"{record.record_type}_id", record.id)
    activity.owner_id = user.id
    return log_activity(transaction, activity)


def get_to_move(transaction: Transaction, user: User, deal_id: int) -> Deal:
    """Return a deal whose stage `user` may change."""
    reader = Reader(transaction.session, user)
    deal = reader.get_to_write(Deal, deal_id)
    reader.check_fields("deal", ["stage"])
    return deal


def list_activities(reader: Reader, record: Logged, *, limit: int) -> Sequence[Activity]:
    """Return the activities of a record that the reader sees, newest first."""
    order = (Activity.occurred_at.desc(), Activity.id.desc())
    query = reader.select_about(Activity, record).order_by(*order)
    return reader.session.scalars(query.limit(limit)).all()
