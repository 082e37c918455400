"""What a running job notes on itself, and how somebody has it stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_core.clock import FixedClock
from crm_core.errors import RecordNotFoundError
from crm_core.jobs import Job, JobState, ask_to_stop, claim, enqueue, finish, get_job, note_on
from crm_core.store import Store

LEASE = timedelta(minutes=5)


@pytest.fixture
def job_id(store: Store) -> int:
    with store.transaction() as transaction:
        added = enqueue(transaction.session, "long", {"task": "churn"}, now=transaction.now)
    assert added is not None
    return added


def begin(store: Store, by: str = "me") -> Job:
    (job,) = claim(store, ["long"], by=by, lease=LEASE, limit=1)
    return job


def payload_of(store: Store, job_id: int) -> object:
    with store.reading() as session:
        return get_job(session, job_id).payload


def stop(store: Store, job_id: int) -> None:
    with store.transaction() as transaction:
        ask_to_stop(transaction.session, job_id, now=transaction.now, who="Dana")


def test_a_note_stays_beside_what_the_job_was_given(store: Store, job_id: int) -> None:
    job = begin(store)
    assert note_on(store, job, progress={"done": 1})
    assert note_on(store, job, progress={"done": 2})
    assert payload_of(store, job_id) == {"task": "churn", "progress": {"done": 2}}
    assert finish(store, job)


def test_who_lost_the_claim_notes_nothing_any_more(store: Store, job_id: int, clock: FixedClock) -> None:
    slow = begin(store)
    clock.advance(LEASE * 2)
    begin(store, "another")
    assert not note_on(store, slow, progress={"done": 9})
    assert payload_of(store, job_id) == {"task": "churn"}


def test_a_running_job_is_told_to_stop_when_it_next_notes_something(store: Store, job_id: int) -> None:
    job = begin(store)
    stop(store, job_id)
    assert not note_on(store, job, progress={"done": 1})
    assert payload_of(store, job_id) == {"task": "churn", "stop": "Dana", "progress": {"done": 1}}


def test_a_job_that_waits_is_over_when_it_is_stopped(store: Store, job_id: int) -> None:
    stop(store, job_id)
    with store.reading() as session:
        job = get_job(session, job_id)
        assert (job.state, job.last_error) == (JobState.DEAD, "stopped by Dana")
    assert claim(store, ["long"], by="me", lease=LEASE, limit=1) == []
    with pytest.raises(RecordNotFoundError):
        stop(store, job_id)
