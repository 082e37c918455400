"""What is kept for a moment: never older than what this process wrote, nor than a second."""

import pytest

from crm_core import recall
from crm_core.changes import Source
from crm_core.recall import FRESH_SECONDS, Recall, recall_of, recalled
from crm_core.store import Store


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(recall, "ticks", lambda: now[0])
    return now


def test_what_was_read_a_moment_ago_is_not_read_again(seconds: list[float]) -> None:
    read = iter("ab")
    kept = Recall()

    assert [kept.get("x", lambda: next(read)) for _ in range(3)] == ["a", "a", "a"]


def test_what_another_process_may_have_changed_is_read_again_after_a_second(seconds: list[float]) -> None:
    read = iter("ab")
    kept = Recall()
    kept.get("x", lambda: next(read))
    seconds[0] += FRESH_SECONDS

    assert kept.get("x", lambda: next(read)) == "b"


def test_what_was_read_while_somebody_wrote_is_not_kept(seconds: list[float]) -> None:
    kept = Recall()

    def reading() -> str:
        kept.forget()
        return "old"

    assert kept.get("x", reading) == "old"
    assert kept.get("x", lambda: "new") == "new"


def test_nothing_found_is_not_kept(seconds: list[float]) -> None:
    found: list[str | None] = [None, "there now"]
    kept = Recall()

    assert [kept.get("x", lambda: found.pop(0)) for _ in range(2)] == [None, "there now"]


def test_a_write_makes_all_stores_of_the_database_forget(store: Store) -> None:
    other = Store(store.url, clock=store.clock)
    other.recall.get("x", lambda: "old")

    with store.transaction(source=Source.API):
        pass

    assert other.recall.get("x", lambda: "new") == "new"
    other.close()


def test_what_models_write_is_nothing_that_is_recalled(store: Store) -> None:
    store.recall.get("x", lambda: "kept")

    with store.transaction(source=Source.MODEL):
        pass

    assert store.recall.get("x", lambda: "new") == "kept"


def test_who_writes_reads_for_itself(store: Store) -> None:
    with store.reading() as session:
        assert recalled(session, "x", lambda: "old") == "old"
        assert recalled(session, "x", lambda: "new") == "old"
    with store.transaction() as transaction:
        assert recalled(transaction.session, "x", lambda: "new") == "new"


def test_databases_in_memory_share_nothing() -> None:
    assert recall_of("sqlite://") is not recall_of("sqlite://")
