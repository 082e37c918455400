"""Logging activities on records that somebody may see, and reading them back."""

from __future__ import annotations

from sqlalchemy import Select

from crm_core.access import Reader, check_may_write
from crm_core.activities import log_activity
from crm_core.records import Activity, Deal, Record, User
from crm_core.store import Transaction
from crm_core.validation import columns_of


def log_on(
    transaction: Transaction, user: User, model: type[Record], record_id: int, activity: Activity
) -> Activity:
    """Log `activity` of `user` on a record that they may change; one they may not see does not exist."""
    check_may_write(user)
    reader = Reader(transaction.session, user)
    record: Record = reader.get_to_write(model, record_id, only=("id",))
    reader.check_may_create(Activity)
    link = f"{record.record_type}_id"
    if link in columns_of(Activity):
        setattr(activity, link, record.id)
    else:
        activity.subject_type, activity.subject_id = record.record_type, record.id
    activity.owner_id = user.id
    return log_activity(transaction, activity)


def get_to_move(transaction: Transaction, user: User, deal_id: int) -> Deal:
    """Return a deal whose stage `user` may change."""
    reader = Reader(transaction.session, user)
    deal = reader.get_to_write(Deal, deal_id)
    reader.check_fields("deal", ["stage"])
    return deal


def select_activities(reader: Reader, record: Record) -> Select[Activity]:
    """Return the query of the activities of a record that the reader sees."""
    return reader.select_about(Activity, record)
