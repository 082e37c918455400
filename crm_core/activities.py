"""Logging what was done with a lead, a deal, an account, or any other record."""

from __future__ import annotations

from crm_core.errors import InvalidValueError
from crm_core.phrases import one_of
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    ActivityKind,
    Contact,
    Deal,
    Feedback,
    Lead,
    Ticket,
)
from crm_core.store import Transaction
from crm_core.ticket_clocks import find_standing, note_activity


def log_activity(transaction: Transaction, activity: Activity) -> Activity:
    """Store an activity on the records it names, which must exist; a deal's is also its account's."""
    links = (
        activity.lead_id,
        activity.deal_id,
        activity.account_id,
        activity.contact_id,
        activity.subject_id,
    )
    if not any(links):
        expected = "a lead_id, deal_id, account_id, contact_id, or subject_type and subject_id"
        raise InvalidValueError("activity", None, expected)
    if activity.lead_id is not None:
        transaction.get(Lead, activity.lead_id)
    if activity.account_id is not None:
        transaction.get(Account, activity.account_id)
    _check_subject(transaction, activity)
    _follow_contact(transaction, activity)
    _follow_deal(transaction, activity)
    if activity.kind == ActivityKind.FEEDBACK and activity.outcome not in set(Feedback):
        raise InvalidValueError("activity.outcome", activity.outcome, one_of(Feedback))
    written = transaction.create(activity)
    note_activity(transaction, written)
    return written


def _check_subject(transaction: Transaction, activity: Activity) -> None:
    if activity.subject_id is None and activity.subject_type is None:
        return
    model = RECORD_TYPES.get(activity.subject_type or "")
    if model is None or activity.subject_id is None:
        given = (activity.subject_type, activity.subject_id)
        raise InvalidValueError(
            "activity.subject_type", given, "a record type together with the id of a record"
        )
    about = transaction.get(model, activity.subject_id)
    if isinstance(about, Ticket) and (standing := find_standing(transaction.session, about.id)) is not None:
        activity.subject_id = (
            standing.id
        )  # what is about a merged ticket is about the one that stands for both


def _follow_contact(transaction: Transaction, activity: Activity) -> None:
    if activity.contact_id is not None:
        contact = transaction.get(Contact, activity.contact_id)
        activity.account_id = activity.account_id or contact.account_id


def _follow_deal(transaction: Transaction, activity: Activity) -> None:
    if activity.deal_id is not None:
        deal = transaction.get(Deal, activity.deal_id)
        activity.account_id = activity.account_id or deal.account_id
