"""Writing down that somebody asks not to be scored, on every record that stands for them."""

from __future__ import annotations

from crm_core.access import Reader
from crm_core.errors import InvalidValueError
from crm_core.opting_out import set_scoring_opt_out
from crm_core.personal.people import find_person, get_record
from crm_core.phrases import one_of
from crm_core.records import Account, Contact, Lead, User
from crm_core.store import Transaction

WISHING: dict[str, type[Lead | Contact | Account]] = {"lead": Lead, "contact": Contact, "account": Account}
"""The record types that may ask not to be scored."""


def set_scoring_opt_out_as(
    transaction: Transaction, user: User, record_type: str, record_id: int, *, opted_out: bool
) -> list[tuple[str, int]]:
    """Write down whether somebody asks not to be scored, as a user who may change the record named.

    A person's wish holds for all records that stand for them, whoever has these; a company's for its own.
    Returns the records on which it stands now, deleted ones left out. Raises RecordNotFoundError for a
    record that the user may not see, AccessDeniedError for one that they may not change.
    """
    if record_type not in WISHING:
        raise InvalidValueError("record_type", record_type, one_of(WISHING))
    reader = Reader(transaction.session, user)
    reader.get_to_write(WISHING[record_type], record_id)
    reader.check_fields(record_type, ["scoring_opt_out"])
    told = [(record_type, record_id)]
    if record_type != "account":
        told = find_person(transaction.session, record=(record_type, record_id)).records()
    return [each for each in told if _set(transaction, *each, opted_out=opted_out)]


def _set(transaction: Transaction, record_type: str, record_id: int, *, opted_out: bool) -> bool:
    record = (
        transaction.session.get_one(Account, record_id)
        if record_type == "account"
        else get_record(transaction.session, record_type, record_id)
    )
    if record.deleted_at is not None:
        return False
    set_scoring_opt_out(transaction, record, opted_out=opted_out)
    return True
