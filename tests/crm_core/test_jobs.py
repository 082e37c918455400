"""Jobs are added with what led to them, claimed by one runner at a time, and never lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.jobs import (
    Job,
    JobState,
    claim,
    complete,
    enqueue,
    fail,
    finish,
    get_job,
    list_jobs,
    measure_queue,
    purge_jobs,
    renew,
    revive,
)
from crm_core.personal import erase_person
from crm_core.store import Store
from tests.factories import make_lead

LEASE = timedelta(minutes=1)


def add(
    store: Store, kind: str = "mail", *, key: str | None = None, later: timedelta = timedelta()
) -> int | None:
    with store.transaction() as transaction:
        now = transaction.now
        return enqueue(transaction.session, kind, {"to": "x"}, now=now, key=key, run_at=now + later)


def take(store: Store, limit: int = 10, by: str = "one") -> list[Job]:
    return claim(store, ["mail"], by=by, lease=LEASE, limit=limit)


def state_of(store: Store, job_id: int | None) -> str:
    assert job_id is not None
    with store.reading() as session:
        return get_job(session, job_id).state


def test_a_job_is_undone_with_the_transaction_that_added_it(store: Store) -> None:
    with store.transaction() as transaction:
        enqueue(transaction.session, "mail", {}, now=transaction.now)
        transaction.session.rollback()
    assert take(store) == []


def test_a_key_makes_one_job_however_often_it_is_asked_for(store: Store) -> None:
    first = add(store, key="a")
    assert add(store, key="a") is None
    assert [job.id for job in take(store)] == [first]


def test_a_key_stays_taken_when_the_job_is_done(store: Store) -> None:
    add(store, key="a")
    finish(store, take(store)[0])
    assert add(store, key="a") is None


def test_a_job_without_a_key_is_never_the_same_as_another(store: Store) -> None:
    assert add(store) != add(store)


def test_a_job_is_not_claimed_before_its_time(store: Store, clock: FixedClock) -> None:
    add(store, later=timedelta(minutes=5))
    assert take(store) == []
    clock.advance(timedelta(minutes=5))
    assert len(take(store)) == 1


def test_only_kinds_that_were_asked_for_are_claimed(store: Store) -> None:
    add(store, "webhook")
    assert take(store) == []


def test_the_longest_due_are_claimed_first(store: Store, clock: FixedClock) -> None:
    late = add(store, later=timedelta(seconds=2))
    early = add(store, later=timedelta(seconds=1))
    clock.advance(timedelta(seconds=3))
    assert [job.id for job in take(store)] == [early, late]


def test_a_claimed_job_is_not_claimed_again_while_its_lease_lasts(store: Store, clock: FixedClock) -> None:
    add(store)
    take(store)
    clock.advance(LEASE - timedelta(microseconds=1))
    assert take(store, by="two") == []


def test_a_job_whose_runner_died_is_claimed_by_another(store: Store, clock: FixedClock) -> None:
    add(store)
    take(store)
    clock.advance(LEASE)
    (job,) = take(store, by="two")
    assert (job.leased_by, job.attempts, job.state) == ("two", 2, JobState.RUNNING)


def test_a_renewed_lease_lasts_longer(store: Store, clock: FixedClock) -> None:
    add(store)
    (job,) = take(store)
    clock.advance(LEASE / 2)
    assert renew(store, job, lease=LEASE)
    clock.advance(LEASE / 2)
    assert take(store, by="two") == []


def test_a_runner_that_lost_its_lease_cannot_end_the_job(store: Store, clock: FixedClock) -> None:
    job_id = add(store)
    (mine,) = take(store)
    clock.advance(LEASE)
    take(store, by="two")
    assert not finish(store, mine)
    assert not fail(store, mine, "late", retry_at=None)
    assert not renew(store, mine, lease=LEASE)
    assert state_of(store, job_id) == JobState.RUNNING


def test_a_job_is_done_in_the_transaction_of_its_effect_or_not_at_all(store: Store) -> None:
    job_id = add(store)
    (job,) = take(store)
    with store.transaction() as transaction:
        assert complete(transaction.session, job, now=transaction.now)
        transaction.session.rollback()
    assert state_of(store, job_id) == JobState.RUNNING


def test_a_failed_job_waits_for_its_next_time(store: Store, clock: FixedClock) -> None:
    add(store)
    (job,) = take(store)
    assert fail(store, job, "server is down", retry_at=clock.now() + timedelta(minutes=2))
    assert take(store) == []
    clock.advance(timedelta(minutes=2))
    (again,) = take(store)
    assert (again.attempts, again.last_error) == (2, "server is down")


def test_a_dead_job_stays_until_it_is_revived(store: Store) -> None:
    job_id = add(store)
    assert job_id is not None
    fail(store, take(store)[0], "no such mailbox", retry_at=None)
    assert take(store) == []
    with store.transaction() as transaction:
        revive(transaction.session, job_id, now=transaction.now)
    (job,) = take(store)
    assert (job.id, job.attempts) == (job_id, 1)


def test_only_dead_jobs_are_revived(store: Store) -> None:
    job_id = add(store)
    assert job_id is not None
    with store.transaction() as transaction:
        with pytest.raises(RecordNotFoundError):
            revive(transaction.session, job_id, now=transaction.now)
        with pytest.raises(RecordNotFoundError):
            revive(transaction.session, 10_000, now=transaction.now)


def test_done_jobs_are_purged_when_they_are_old_and_others_stay(store: Store, clock: FixedClock) -> None:
    done, dead, waiting = add(store, key="a"), add(store), add(store, later=timedelta(days=365))
    first, second = take(store)
    finish(store, first)
    fail(store, second, "no", retry_at=None)
    assert purge_jobs(store, state=JobState.DONE, ended_before=clock.now()) == 0
    clock.advance(timedelta(days=31))
    assert purge_jobs(store, state=JobState.DONE, ended_before=clock.now()) == 1
    with store.reading() as session:
        assert [job.id for job in list_jobs(session)] == [waiting, dead]
    assert done is not None


def test_the_queue_is_measured_by_kind_and_state(store: Store, clock: FixedClock) -> None:
    began = clock.now()
    for _ in range(3):
        add(store)
    add(store, "webhook", later=timedelta(hours=1))
    fail(store, take(store, limit=1)[0], "no", retry_at=None)
    finish(store, take(store, limit=1)[0])
    with store.reading() as session:
        found = [(each.kind, each.state, each.count, each.oldest_run_at) for each in measure_queue(session)]
    assert found == [
        ("mail", "dead", 1, began),
        ("mail", "waiting", 1, began),
        ("webhook", "waiting", 1, began + timedelta(hours=1)),
    ]


def test_jobs_are_listed_page_by_page(store: Store) -> None:
    ids = [add(store) for _ in range(3)]
    with store.reading() as session:
        newest = list_jobs(session, limit=2)
        rest = list_jobs(session, limit=2, before=newest[-1].id)
    assert [job.id for job in (*newest, *rest)] == ids[::-1]


def test_an_error_that_no_database_could_keep_is_kept_all_the_same(store: Store, clock: FixedClock) -> None:
    add(store)
    fail(store, take(store)[0], "bad \x00 \udc80 " + "x" * 10_000, retry_at=clock.now())
    (job,) = take(store)
    assert job.last_error is not None
    assert len(job.last_error) == 500


def test_an_erased_person_is_taken_out_of_jobs(store: Store) -> None:
    told = "Call Wang Fangyuan (fangyuan@uncommon.example) before Friday"
    with store.transaction() as transaction:
        lead = make_lead(transaction, name="Wang Fangyuan", email="fangyuan@uncommon.example")
        enqueue(transaction.session, "mail", {"text": told, "n": 7}, now=transaction.now)
        erase_person(transaction, record=("lead", lead.id))
    (job,) = take(store)
    assert job.payload["n"] == 7
    assert "angyuan" not in job.payload["text"]
    assert "before Friday" in job.payload["text"]


def test_what_is_not_json_is_refused(store: Store) -> None:
    with store.transaction() as transaction, pytest.raises(InvalidValueError):
        enqueue(transaction.session, "mail", {"x": float("nan")}, now=transaction.now)
