"""Guessing passwords, many at once, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from crm_core.logins import ATTEMPTS
from crm_core.store import Store
from serving.logins import try_password
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import PASSWORD, Cast


def test_many_guesses_at_once_are_all_counted(store: Store, cast: Cast) -> None:
    def guess(number: int) -> bool:
        return try_password(store, "ana@example.com", f"guess {number}").locked

    with ThreadPoolExecutor(8) as pool:
        locked = list(pool.map(guess, range(3 * ATTEMPTS)))
    assert locked.count(False) == ATTEMPTS
    assert try_password(store, "ana@example.com", PASSWORD).locked
