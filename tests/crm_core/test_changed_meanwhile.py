"""Something is read, somebody else changes it, and only then one's own change comes: it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crm_core.errors import StaleRecordError
from crm_core.mail_templates import Draft, get_template, save_template
from crm_core.records import User
from crm_core.reporting.keeping import Asked, keep_report
from crm_core.saved import get_report
from crm_core.sequences import Step, Wanted, get_sequence, save_sequence
from crm_core.store import Store, Transaction
from tests.factories import make_user

ASKED = Asked.from_json({"measures": ["deals_won"]})
DRAFT = Draft(name="Hello", subject="Hello", body="Hello")
Change = Callable[..., Any]


def report(transaction: Transaction, user: User, **which: Any) -> Any:
    key, version = which.get("key"), which.get("version")
    return keep_report(transaction, user, "Won", ASKED, shared="own", report_id=key, version=version)


def template(transaction: Transaction, user: User, **which: Any) -> Any:
    return save_template(transaction, user, DRAFT, template_id=which.get("key"), version=which.get("version"))


def sequence(transaction: Transaction, user: User, **which: Any) -> Any:
    steps = (Step(template_id=template(transaction, user).id),)
    wanted = Wanted(name="Warm up", record_type="lead", steps=steps)
    return save_sequence(
        transaction, user, wanted, sequence_id=which.get("key"), version=which.get("version")
    )


# SQLite has one writer at a time: the second one reads only after the first has ended.
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("save", "read"),
    [
        (report, get_report),
        (template, get_template),
        (sequence, lambda session, _user, key: get_sequence(session, key)),
    ],
    ids=["report", "template", "sequence"],
)
def test_who_changes_what_was_changed_meanwhile_is_told(store: Store, save: Change, read: Change) -> None:
    with store.transaction() as transaction:
        user = make_user(transaction, "Adam", role="admin")
        key = save(transaction, user).id
    with store.transaction() as mine:
        seen = read(mine.session, user, key)
        with store.transaction() as theirs:
            save(theirs, user, key=key, version=seen.version)
        with pytest.raises(StaleRecordError):
            save(mine, user, key=key, version=1)
    with store.reading() as session:
        assert read(session, user, key).version == 2
