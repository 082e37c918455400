"""Noting when somebody is away, by a form on one's own page or an administrator's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from crm_core.errors import InvalidValueError
from crm_core.store import Transaction
from crm_core.working_time import add_absence, remove_absence
from serving.web.language import gettext


def change_absence(transaction: Transaction, user_id: int, form: Mapping[str, str]) -> None:
    """Add the absence that a form describes, or remove the one that it names."""
    gone = form.get("remove", "")
    if gone:
        known = gone.isascii() and gone.isdigit() and len(gone) < 18
        remove_absence(transaction, user_id, int(gone) if known else 0)
        return
    add_absence(transaction, user_id, read_day(form, "first_day"), read_day(form, "last_day"))


def read_day(form: Mapping[str, str], name: str) -> date:
    """Return the day in a field of a form."""
    try:
        return date.fromisoformat(form.get(name, ""))
    except ValueError:
        raise InvalidValueError(name, form.get(name, ""), gettext("a day")) from None
