"""Being told of something: by whom, until when, and in no words but the program's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError
from crm_core.notifications import (
    KEPT,
    Occasion,
    count_unread,
    list_notifications,
    mark_read,
    mark_read_about,
    notify,
)
from crm_core.store import Store
from tests.factories import make_user


def people(store: Store, *names: str) -> list[int]:
    with store.transaction() as transaction:
        return [make_user(transaction, name).id for name in names]


def test_who_is_told_reads_it_and_who_did_it_is_not_told(store: Store) -> None:
    ana, ben = people(store, "Ana", "Ben")
    with store.transaction(actor_id=ana) as transaction:
        told = notify(
            transaction, [ana, ben], kind=Occasion.MENTION, about=("deal", 7), params={"comment": 3}
        )
    assert told == [ben]
    with store.reading() as session:
        assert list_notifications(session, ana, limit=10) == []
        (one,) = list_notifications(session, ben, limit=10)
    assert (one.actor_id, one.kind, one.text, one.about_type, one.about_id, one.params, one.read_at) == (
        *(ana, "mention", "mention", "deal", 7),
        *({"comment": 3}, None),
    )


def test_nobody_who_has_left_is_told(store: Store) -> None:
    with store.transaction() as transaction:
        gone = make_user(transaction, "Gus", active=False).id
        assert notify(transaction, [gone, 999], kind=Occasion.JOB) == []


def test_what_was_read_counts_no_more(store: Store) -> None:
    (ana,) = people(store, "Ana")
    with store.transaction() as transaction:
        for number in (1, 2, 3):
            notify(transaction, [ana], kind=Occasion.ALERT, about=("account", number))
    with store.reading() as session:
        first, *_ = reversed(list_notifications(session, ana, limit=10))
    with store.transaction() as transaction:
        assert mark_read(transaction, ana, [first.id]) == 1
        assert mark_read(transaction, ana, [first.id]) == 0
        assert mark_read_about(transaction, ana, ("account", 2)) == 1
        assert count_unread(transaction.session, ana) == 1
        unread = list_notifications(transaction.session, ana, limit=10, unread_only=True)
        assert [each.about_id for each in unread] == [3]
        assert mark_read(transaction, ana) == 1
        assert count_unread(transaction.session, ana) == 0


def test_nobody_marks_what_somebody_else_was_told(store: Store) -> None:
    ana, ben = people(store, "Ana", "Ben")
    with store.transaction() as transaction:
        notify(transaction, [ana], kind=Occasion.JOB)
        (hers,) = list_notifications(transaction.session, ana, limit=1)
        assert mark_read(transaction, ben, [hers.id]) == 0


def test_older_ones_come_page_by_page(store: Store) -> None:
    (ana,) = people(store, "Ana")
    with store.transaction() as transaction:
        for number in range(5):
            notify(transaction, [ana], kind=Occasion.DUE, about=("activity", number))
        page = list_notifications(transaction.session, ana, limit=2)
        older = list_notifications(transaction.session, ana, limit=9, before=page[-1].id)
    assert [each.about_id for each in (*page, *older)] == [4, 3, 2, 1, 0]


def test_what_was_read_long_ago_is_forgotten_and_what_was_not_is_kept(
    store: Store, clock: FixedClock
) -> None:
    (ana,) = people(store, "Ana")
    with store.transaction() as transaction:
        notify(transaction, [ana], kind=Occasion.DUE, about=("activity", 1))
        mark_read(transaction, ana)
        notify(transaction, [ana], kind=Occasion.DUE, about=("activity", 2))
    clock.advance(KEPT + timedelta(seconds=1))
    with store.transaction() as transaction:
        notify(transaction, [ana], kind=Occasion.DUE, about=("activity", 3))
        held = list_notifications(transaction.session, ana, limit=9)
    assert [each.about_id for each in held] == [3, 2]


@pytest.mark.parametrize("said", ["Müller called", "eva@example.com", "", "x" * 81])
def test_what_somebody_wrote_is_refused(store: Store, said: str) -> None:
    (ana,) = people(store, "Ana")
    with store.transaction() as transaction, pytest.raises(InvalidValueError, match=r"notification\.who"):
        notify(transaction, [ana], kind=Occasion.JOB, params={"who": said})
