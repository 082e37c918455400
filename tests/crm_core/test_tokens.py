"""API keys open what their user may open, until they end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.records import User
from crm_core.store import Store
from crm_core.tokens import Token, create_token, find_user_by_token
from tests.factories import make_user


@pytest.fixture
def key(store: Store) -> str:
    with store.transaction() as transaction:
        ana = make_user(transaction)
        return create_token(
            transaction.session,
            user_id=ana.id,
            name="laptop",
            now=transaction.now,
            expires_at=transaction.now + timedelta(days=30),
        )


def find(store: Store, key: str) -> str | None:
    with store.reading() as session:
        user = find_user_by_token(session, key, now=store.clock.now())
        return None if user is None else user.name


def test_a_key_stands_for_its_user(store: Store, key: str) -> None:
    assert find(store, key) == "Ana"


@pytest.mark.parametrize("wrong", ["", "crm_", "crm_wrong", "\udc80", "x" * 10_000])
def test_no_other_text_does(store: Store, key: str, wrong: str) -> None:
    assert find(store, wrong) is None


def test_the_key_itself_is_not_stored(store: Store, key: str) -> None:
    with store.reading() as session:
        token = session.scalars(select(Token)).one()
    assert key not in (token.hash, token.name)
    assert len(token.hash) == 64


def test_a_key_ends_when_it_expires(store: Store, key: str, clock: FixedClock) -> None:
    clock.advance(timedelta(days=30))
    assert find(store, key) is None


def test_a_revoked_key_is_dead(store: Store, key: str) -> None:
    with store.transaction() as transaction:
        transaction.session.scalars(select(Token)).one().revoked_at = transaction.now
    assert find(store, key) is None


def test_the_key_of_somebody_who_left_is_dead(store: Store, key: str) -> None:
    with store.transaction() as transaction:
        user = transaction.session.scalars(select(User)).one()
        transaction.update(user, {"active": False})
    assert find(store, key) is None
