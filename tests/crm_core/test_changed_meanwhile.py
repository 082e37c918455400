"""Something is read, somebody else changes it, and only then one's own change comes: it is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from crm_core import targets
from crm_core.calendar_feeds import make_feed
from crm_core.errors import StaleRecordError
from crm_core.mail_templates import Draft, get_template, save_template
from crm_core.records import User
from crm_core.reporting.keeping import Asked, Rhythm, keep_report, send_to
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


def target(transaction: Transaction, user: User, _key: int) -> None:
    wanted = targets.Wanted(
        whose=targets.Whose.USER,
        whose_id=user.id,
        period="2026-03",
        measure=targets.Measure.DEALS_WON,
        value=Decimal(3),
    )
    targets.set_target(transaction, user, wanted)


def feed(transaction: Transaction, user: User, _key: int) -> None:
    make_feed(transaction, user)


def mail(transaction: Transaction, user: User, key: int) -> None:
    send_to(transaction, user, key, [user.id], Rhythm(every="day", at="08:00", zone="UTC"))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("write", [target, feed, mail])
def test_what_two_make_at_once_is_there_once(store: Store, write: Change) -> None:
    with store.transaction() as transaction:
        user = make_user(transaction, "Adam", role="admin")
        key = report(transaction, user).id
    failed: list[Exception] = []

    def theirs() -> None:
        try:
            with store.transaction() as transaction:
                write(transaction, user, key)
        except Exception as error:  # noqa: BLE001  told below
            failed.append(error)

    with store.transaction() as mine:
        write(mine, user, key)
        other = threading.Thread(target=theirs)
        other.start()
        other.join(0.3)
    other.join()
    assert failed == []


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
