"""Whoever puts a model in charge waits for those who are at it, on both databases."""

from __future__ import annotations

import threading

from crm_core.promotions import lock_promotions
from crm_core.store import Store


def test_two_who_promote_at_once_take_turns(store: Store) -> None:
    order: list[str] = []

    def promote_later() -> None:
        with store.transaction() as transaction:
            lock_promotions(transaction.session)
            order.append("second")

    later = threading.Thread(target=promote_later)
    with store.transaction() as transaction:
        lock_promotions(transaction.session)
        later.start()
        later.join(0.3)
        order.append("first")
    later.join(20)
    assert order == ["first", "second"]
