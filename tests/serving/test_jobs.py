"""Runners do every job, however often handlers fail and processes die."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.clock import FixedClock
from crm_core.errors import HopelessJobError, JobError
from crm_core.jobs import Job, claim, enqueue, get_job, list_jobs
from crm_core.store import Store
from serving.cli import main
from serving.job_handlers import Jobs
from serving.jobs import KEPT_DONE, Backoff, JobRunner, Steps
from serving.settings import Settings
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast

ROOT = Path(__file__).resolve().parents[2]
MANY = 1_000
RUNNERS = 3


def add(store: Store, kind: str = "test", count: int = 1) -> list[int]:
    with store.transaction() as transaction:
        made = [
            enqueue(transaction.session, kind, {"number": number}, now=transaction.now)
            for number in range(count)
        ]
    return [job_id for job_id in made if job_id is not None]


def job_of(store: Store, job_id: int) -> Job:
    with store.reading() as session:
        return get_job(session, job_id)


def raising(error: Exception) -> Callable[[Store, Job], None]:
    def handler(_store: Store, _job: Job) -> None:
        raise error

    return handler


@pytest.mark.timeout(300)
def test_three_runners_that_fail_and_die_do_a_thousand_jobs(store: Store, tmp_path: Path) -> None:
    many = MANY if store.engine.dialect.name == "postgresql" else MANY // 4  # as many once are enough
    add(store, "unreliable", many)
    seeds = itertools.count(1)
    killed = 0

    def start(runner: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.serving.job_process", store.url]
        return subprocess.Popen([*command, str(tmp_path / f"effects-{runner}"), str(next(seeds))], cwd=ROOT)

    running = {runner: start(runner) for runner in range(RUNNERS)}
    while running:
        for runner, process in list(running.items()):
            code = process.wait()
            assert code in {0, -signal.SIGKILL}
            del running[runner]
            if code:
                killed += 1
                running[runner] = start(runner)
    effects = [
        int(line)
        for path in tmp_path.glob("effects-*")
        for line in path.read_text().split()
        if line.isdigit()
    ]
    by_state = select(Job.state, func.count()).group_by(Job.state)
    with store.reading() as session:
        states = {row[0]: row[1] for row in session.execute(by_state)}
    assert states == {"done": many}
    assert set(effects) == set(range(many))
    assert len(effects) > many, "some effects happen twice: handlers must bear it"
    assert killed > 0


def test_a_job_is_tried_again_after_pauses_that_grow(store: Store, clock: FixedClock) -> None:
    (job_id,) = add(store)
    schedule = Backoff(first=timedelta(seconds=10), longest=timedelta(seconds=60), attempts=5)
    runner = JobRunner(store, {"test": raising(OSError("down"))}, schedules={"test": schedule})
    pauses = []
    while runner.run_once():
        job = job_of(store, job_id)
        if job.state == "dead":
            break
        pauses.append((job.run_at - clock.now()).total_seconds())
        clock.set(job.run_at)
    steps = zip((10, 20, 40, 60), pauses, strict=True)
    assert [expected * 0.8 <= pause <= expected * 1.2 for expected, pause in steps] == [True] * 4
    assert (job.state, job.attempts, job.last_error) == ("dead", 5, "OSError: down")


def test_pauses_may_be_written_out() -> None:
    steps = Steps(pauses=[timedelta(seconds=5), timedelta(minutes=5)])
    assert [steps.pause(attempts) for attempts in (1, 2, 3, 9)] == [
        timedelta(seconds=5),
        timedelta(minutes=5),
        None,
        None,
    ]


def test_a_hopeless_job_is_not_tried_again(store: Store) -> None:
    (job_id,) = add(store)
    JobRunner(store, {"test": raising(HopelessJobError("no such mailbox"))}).run_once()
    assert (job_of(store, job_id).state, job_of(store, job_id).attempts) == ("dead", 1)


def test_a_handler_may_ask_for_a_longer_pause(store: Store, clock: FixedClock) -> None:
    (job_id,) = add(store)
    busy = JobError("busy", retry_after=timedelta(hours=2))
    JobRunner(store, {"test": raising(busy)}).run_once()
    assert job_of(store, job_id).run_at >= clock.now() + timedelta(hours=2)


def test_a_job_that_kills_its_process_every_time_is_dead_in_the_end(store: Store, clock: FixedClock) -> None:
    (job_id,) = add(store)
    lease = timedelta(seconds=10)

    def die(_store: Store, _job: Job) -> None:
        raise SystemExit

    runner = JobRunner(store, {"test": die}, schedules={"test": Backoff(attempts=2)}, lease=lease)
    for _ in range(2):
        with pytest.raises(SystemExit):
            runner.run_once()
        clock.advance(lease)
    runner.run_once()
    assert (job_of(store, job_id).state, job_of(store, job_id).last_error) == (
        "dead",
        "the process ended while it worked on this",
    )


def test_a_job_that_takes_longer_than_its_lease_is_not_done_by_another_meanwhile(
    store: Store, clock: FixedClock
) -> None:
    add(store, count=2)
    lease = timedelta(milliseconds=60)
    taken: list[Job] = []

    def take_long(store: Store, job: Job) -> None:
        for _ in range(3):
            clock.advance(lease / 2)
            wait_for(lambda: (job_of(store, job.id).leased_until or clock.now()) >= clock.now() + lease)
        taken.extend(claim(store, ["test"], by="another", lease=lease, limit=10))

    JobRunner(store, {"test": take_long}, lease=lease, at_once=2).run_once()
    assert taken == []


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it did not come true within 10 s")


def test_a_bad_job_does_not_hold_up_the_others(store: Store) -> None:
    bad = add(store)
    good = add(store, "good", 3)
    done: list[int] = []
    handlers = {"test": raising(ValueError("bad")), "good": lambda _store, job: done.append(job.id)}
    JobRunner(store, handlers, at_once=10).run_once()
    assert (done, job_of(store, bad[0]).state) == (good, "waiting")


def test_done_jobs_are_purged_after_some_days(store: Store, clock: FixedClock) -> None:
    add(store)
    runner = JobRunner(store, {"test": lambda _store, _job: None})
    runner.run_once()
    clock.advance(KEPT_DONE + timedelta(minutes=1))
    runner.run_once()
    with store.reading() as session:
        assert list_jobs(session) == []


def test_a_process_serves_jobs_until_it_is_stopped(store: Store, home: Path) -> None:
    (job_id,) = add(store, "mail")
    jobs = Jobs(Settings(home=home, job_threads=2), store, poll_seconds=0.01)
    jobs.start()
    for _ in range(500):
        if job_of(store, job_id).state == "dead":
            break
        jobs.wake()
    assert (jobs.is_alive, jobs.last_error) == (True, None)
    jobs.stop()
    assert not jobs.is_alive
    assert job_of(store, job_id).last_error == "HopelessJobError: mail is off: CRM_SMTP_HOST is not set"


# ------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture
def dead(store: Store) -> int:
    (job_id,) = add(store)
    JobRunner(store, {"test": raising(HopelessJobError("no such mailbox"))}).run_once()
    return job_id


def test_administrators_list_dead_jobs_and_revive_them(
    client: FlaskClient, cast: Cast, store: Store, dead: int
) -> None:
    page = client.get("/api/v1/jobs?state=dead", headers=cast.header("Adam")).get_json()
    assert [(job["id"], job["last_error"]) for job in page["items"]] == [
        (dead, "HopelessJobError: no such mailbox")
    ]
    assert [(each["kind"], each["state"], each["count"]) for each in page["queue"]] == [("test", "dead", 1)]
    revived = client.post(f"/api/v1/jobs/{dead}/revive", headers=cast.header("Adam"))
    assert (revived.status_code, revived.get_json()["state"]) == (200, "waiting")
    assert client.post(f"/api/v1/jobs/{dead}/revive", headers=cast.header("Adam")).status_code == 404
    assert client.get(f"/api/v1/jobs/{dead}", headers=cast.header("Adam")).get_json()["attempts"] == 0


def test_what_a_job_holds_is_not_told(client: FlaskClient, cast: Cast, dead: int) -> None:
    told = client.get(f"/api/v1/jobs/{dead}", headers=cast.header("Adam")).get_json()
    assert "payload" not in told


def test_a_long_list_comes_in_pages(client: FlaskClient, cast: Cast, store: Store) -> None:
    ids = add(store, count=3)
    first = client.get("/api/v1/jobs?limit=2", headers=cast.header("Adam")).get_json()
    rest = client.get(f"/api/v1/jobs?cursor={first['next_cursor']}", headers=cast.header("Adam")).get_json()
    assert [job["id"] for job in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana"])
def test_nobody_else_sees_jobs(client: FlaskClient, cast: Cast, dead: int, name: str) -> None:
    for method, path in (("get", ""), ("get", f"/{dead}"), ("post", f"/{dead}/revive")):
        assert getattr(client, method)(f"/api/v1/jobs{path}", headers=cast.header(name)).status_code == 403


def test_readiness_tells_of_jobs_and_that_mail_is_off(app: Flask, dead: int) -> None:
    parts = {part["name"]: part for part in app.test_client().get("/readyz").get_json()["parts"]}
    assert "CRM_SMTP_HOST is not set" in parts["mail"]["detail"]
    assert parts["jobs"] == {"name": "jobs", "ok": True, "detail": "0 due, 1 dead"}


def test_metrics_tell_how_long_the_queue_is(app: Flask, cast: Cast, dead: int) -> None:
    text = app.test_client().get("/metrics", headers=cast.header("Adam")).get_data(as_text=True)
    assert 'crm_jobs{kind="test",state="dead"} 1.0' in text


# ------------------------------------------------------------------------------------------- from a shell


def test_dead_jobs_are_listed_and_revived_from_a_shell(home: Path) -> None:
    def crm(*words: str) -> Any:
        return json.loads(CliRunner().invoke(main, [*words, "--home", str(home), "--json"]).stdout)

    crm("init")
    store = Store(f"sqlite:///{home / 'crm.db'}")
    first, second = add(store, count=2)
    runner = JobRunner(store, {"test": raising(HopelessJobError("no such mailbox"))}, at_once=1)
    runner.run_once()
    runner.run_once()  # one after the other: the last to die is listed first
    listed = crm("jobs", "list")
    assert [job["id"] for job in listed["jobs"]] == [second, first]
    assert listed["queue"][0]["count"] == 2
    assert crm("jobs", "revive", str(first)) == {"revived": [first]}
    assert crm("jobs", "revive", "--kind", "test") == {"revived": [second]}
    assert crm("jobs", "list")["jobs"] == []
    store.close()


def test_reviving_needs_to_be_told_what(home: Path) -> None:
    assert CliRunner().invoke(main, ["jobs", "revive", "--home", str(home)]).exit_code == 2
