"""Several processes keep scores fresh: each does what no other has, and one that dies is stood in for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import select, update

from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.predictions import list_predictions
from crm_core.records import Activity, Lead
from crm_core.rescoring import LEASE, Lot, Sweep, Work, Worker, list_workers
from crm_core.store import Store
from serving.champions import Champions
from serving.cli import main
from serving.rescoring import Rescorer
from serving.rescoring_state import read_state
from serving.sweeping import Nightly
from tests.factories import make_activity, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel
from tests.serving.test_rescoring import rising, run_dry

ROOT = Path(__file__).resolve().parents[2]
Promote = Callable[..., HandMadeModel]


@pytest.fixture
def workers(store: Store, champions: Champions) -> list[Rescorer]:
    return [Rescorer(store, champions, records_at_once=2, swept_at_once=2) for _ in range(2)]


def ids_of(store: Store, count: int) -> list[int]:
    with store.transaction() as transaction:
        return [make_lead(transaction).id for _ in range(count)]


def log_a_call(store: Store, *lead_ids: int) -> None:
    with store.transaction() as transaction:
        for lead_id in lead_ids:
            make_activity(transaction, lead_id=lead_id)


def count(store: Store, lead_id: int) -> int:
    with store.reading() as session:
        return len(list_predictions(session, "lead", lead_id))


class Died(BaseException):
    """What ends a worker in the middle of a question, as a kill would."""


def dying(model: HandMadeModel, rescorer: Rescorer) -> None:
    """Have a worker die when it asks its next question."""
    said = model.probability

    def die(record_id: int) -> float | None:
        model.probability = said
        raise Died

    model.probability = die
    with pytest.raises(Died):
        rescorer.run_once()


def test_what_one_worker_has_claimed_another_leaves_alone_until_its_lease_runs_out(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    ids = ids_of(store, 3)
    first, second = workers
    run_dry(first)
    clock.advance(timedelta(minutes=1))
    log_a_call(store, *ids)
    dying(model, first)
    assert run_dry(second) == 1, "two of the three are claimed"
    clock.advance(LEASE + timedelta(seconds=1))
    assert run_dry(second) == 2
    assert [count(store, lead_id) for lead_id in ids] == [2, 2, 2]


def test_a_worker_that_is_slow_renews_its_lease(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    first, second = workers
    run_dry(first)
    clock.advance(timedelta(minutes=1))
    log_a_call(store, lead_id)
    dying(model, first)
    for _ in range(4):
        clock.advance(LEASE - timedelta(seconds=5))
        first.beat()
        assert run_dry(second) == 0


def test_what_a_worker_says_after_it_lost_its_work_is_not_written(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    slow, quick = workers
    run_dry(slow)
    clock.advance(timedelta(minutes=1))
    log_a_call(store, lead_id)
    said = model.probability

    def meanwhile(record_id: int) -> float | None:
        model.probability = said
        clock.advance(LEASE + timedelta(seconds=1))
        assert run_dry(quick) == 1
        return 0.99

    model.probability = meanwhile
    slow.run_once()
    with store.reading() as session:
        assert [each.probability for each in list_predictions(session, "lead", lead_id)] == [0.002, 0.001]
        assert session.scalars(select(Work)).all() == []


def test_a_change_while_a_record_is_being_scored_scores_it_again(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    one, other = workers
    run_dry(one)
    clock.advance(timedelta(minutes=1))
    log_a_call(store, lead_id)
    said = model.probability

    def meanwhile(record_id: int) -> float | None:
        model.probability = said
        clock.advance(timedelta(seconds=1))
        log_a_call(store, lead_id)
        assert other.run_once() == 0, "it is claimed"
        return said(record_id)

    model.probability = meanwhile
    assert run_dry(one) == 2
    assert count(store, lead_id) == 3


def test_several_changes_of_one_record_cost_one_question(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    run_dry(workers[0])
    clock.advance(timedelta(minutes=1))
    for _ in range(7):
        log_a_call(store, lead_id)
    assert run_dry(workers[0]) == 1
    assert len(model.asked) == 2


def test_an_answer_that_says_nothing_new_is_not_written_but_every_night_it_is(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    promote()
    (lead_id,) = ids_of(store, 1)
    run_dry(workers[0])
    with store.reading() as session:
        before = session.get_one(Lead, lead_id).scored_at
    clock.advance(timedelta(minutes=1))
    log_a_call(store, lead_id)
    assert run_dry(workers[0]) == 1, "it was asked"
    with store.reading() as session:
        assert session.get_one(Lead, lead_id).scored_at == before
    assert count(store, lead_id) == 1
    clock.advance(timedelta(days=1))
    run_dry(workers[0])
    assert count(store, lead_id) == 2


def test_another_model_that_says_the_same_is_written(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    promote()
    (lead_id,) = ids_of(store, 1)
    run_dry(workers[0])
    clock.advance(timedelta(minutes=1))
    promote(version="lead_scoring-2")
    log_a_call(store, lead_id)
    run_dry(workers[0])
    with store.reading() as session:
        assert session.get_one(Lead, lead_id).model_version == "lead_scoring-2"


def test_two_workers_share_a_sweep_and_one_stands_in_for_the_other(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    ids = ids_of(store, 7)
    first, second = workers
    first.run_once(), second.run_once()
    dying(model, first)
    assert run_dry(second) == 1, "ids 5 and 6 are the other's"
    with store.reading() as session:
        assert session.get_one(Sweep, "lead_scoring").ended_at is None
    clock.advance(LEASE + timedelta(seconds=1))
    assert run_dry(second) == 2
    assert [count(store, lead_id) for lead_id in ids] == [1] * 7
    with store.reading() as session:
        sweep = session.get_one(Sweep, "lead_scoring")
        assert (sweep.done, sweep.total, sweep.ended_at) == (7, 7, clock.now())
        assert session.scalars(select(Lot)).all() == []


def test_a_record_that_cannot_be_scored_is_tried_again_after_a_time_that_doubles(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=lambda record_id: 1 / 0)
    ids_of(store, 1)
    run_dry(workers[0])
    tried = []
    for second in range(100):
        clock.advance(timedelta(seconds=1))
        before = len(model.asked)
        workers[0].run_once()
        tried += [second] * (len(model.asked) - before)
    assert tried == [29, 89]
    assert read_state(store).failed == 1
    model.probability = lambda record_id: 0.5
    clock.advance(timedelta(hours=1))
    assert workers[1].run_once() == 1
    assert read_state(store).failed == 0


def test_what_a_dead_process_of_this_host_held_is_let_go_at_once(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    dead, alive = workers
    run_dry(dead)
    clock.advance(timedelta(minutes=1))
    log_a_call(store, lead_id)
    dead.beat()
    alive.beat()
    dying(model, dead)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with store.transaction() as transaction:
        mine = update(Worker).where(Worker.name == dead.name)
        transaction.session.execute(mine.values(pid=gone.pid))
    alive.beat()
    assert alive.run_once() == 1
    with store.reading() as session:
        assert [worker.name for worker in list_workers(session)] == [alive.name]


def test_a_worker_that_leaves_lets_go_what_it_held(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    model = promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    run_dry(workers[0])
    clock.advance(timedelta(minutes=1))
    log_a_call(store, lead_id)
    dying(model, workers[0])
    workers[0].leave()
    assert workers[1].run_once() == 1


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2026-03-02T01:29:00+00:00", "2026-03-01T01:30:00+00:00"),
        ("2026-03-02T01:30:00+00:00", "2026-03-02T01:30:00+00:00"),
        ("2026-03-29T01:29:00+00:00", "2026-03-28T01:30:00+00:00"),  # 02:30 does not exist on this day
        ("2026-03-29T01:30:00+00:00", "2026-03-29T01:30:00+00:00"),
        ("2026-10-25T00:29:00+00:00", "2026-10-24T00:30:00+00:00"),
        ("2026-10-25T00:30:00+00:00", "2026-10-25T00:30:00+00:00"),  # and comes twice on this one
        ("2026-10-25T23:00:00+00:00", "2026-10-25T00:30:00+00:00"),
    ],
)
def test_the_hour_of_the_night_comes_once_a_day(now: str, last: str) -> None:
    nightly = Nightly(at=time(2, 30), zone=BERLIN)
    assert nightly.last(datetime.fromisoformat(now)) == datetime.fromisoformat(last)


def test_every_night_of_a_year_has_one_tick() -> None:
    nightly = Nightly(at=time(2, 30), zone=BERLIN)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = {nightly.last(start + timedelta(minutes=10 * step)) for step in range(365 * 144)}
    assert len({tick.astimezone(BERLIN).date() for tick in ticks}) == len(ticks) == 366


def test_a_missed_night_is_made_up_for_once(
    store: Store, champions: Champions, promote: Promote, clock: FixedClock
) -> None:
    promote(probability=rising())
    (lead_id,) = ids_of(store, 1)
    rescorer = Rescorer(store, champions, nightly=Nightly(at=time(3, 0), zone=ZoneInfo("Asia/Shanghai")))
    run_dry(rescorer)
    clock.advance(timedelta(days=5))
    assert run_dry(Rescorer(store, champions)) == 1
    assert run_dry(rescorer) == 0
    assert count(store, lead_id) == 2


def test_a_promotion_by_a_clock_ahead_of_ours_is_swept_for_once_and_again_when_its_instant_comes(
    store: Store, champions: Champions, promote: Promote, clock: FixedClock
) -> None:
    ids = ids_of(store, 5)
    clock.advance(timedelta(hours=1))
    promote()
    clock.advance(timedelta(hours=-1))
    rescorer = Rescorer(store, champions, records_at_once=2)

    def step() -> None:
        for _ in range(10):
            rescorer.step()
            clock.advance(timedelta(seconds=1))

    step()
    assert [count(store, lead_id) for lead_id in ids] == [1] * 5
    assert rescorer.idle
    clock.advance(timedelta(hours=1))
    step()
    assert [count(store, lead_id) for lead_id in ids] == [2] * 5


def test_history_that_is_imported_is_as_fresh_as_its_import(
    store: Store, workers: list[Rescorer], promote: Promote, clock: FixedClock
) -> None:
    promote()
    (lead_id,) = ids_of(store, 1)
    run_dry(workers[0])
    long_ago = clock.now() - timedelta(days=400)
    with store.transaction(source=Source.IMPORT) as transaction:
        row = {"lead_id": lead_id, "kind": "call", "occurred_at": long_ago, "recorded_at": long_ago}
        transaction.create_many(Activity, [row])
    assert read_state(store).oldest_seconds is None
    clock.advance(timedelta(seconds=2))
    run_dry(workers[0])
    assert workers[0].lag_seconds == 0


def test_a_sweep_takes_smaller_lots_and_breathes_while_people_wait(
    store: Store, champions: Champions, promote: Promote
) -> None:
    model = promote()
    ids_of(store, 12)
    waiting = True
    rescorer = Rescorer(store, champions, records_at_once=8, swept_at_once=8, busy=lambda: waiting)
    assert rescorer.run_once() == 2
    assert rescorer.breather > 0
    waiting = False
    assert rescorer.run_once() == 8
    assert rescorer.breather == 0
    assert [len(ids) for ids, _ in model.asked] == [2, 8]


def test_how_it_is_doing_is_told_to_those_who_look_after_models(
    store: Store,
    workers: list[Rescorer],
    promote: Promote,
    client: FlaskClient,
    cast: Cast,
    clock: FixedClock,
) -> None:
    promote()
    ids = ids_of(store, 5)
    workers[0].run_once()
    workers[0].beat()
    clock.advance(timedelta(seconds=2))
    log_a_call(store, ids[4])
    assert client.get("/api/v1/rescoring", headers=cast.header("Ana")).status_code == 403
    told = client.get("/api/v1/rescoring", headers=cast.header("Dana")).json
    assert told is not None
    (sweep,) = told["sweeps"]
    assert (sweep["done"], sweep["total"], sweep["per_second"], sweep["seconds_left"]) == (2, 5, 1, 3)
    assert [worker["scored"] for worker in told["workers"]] == [2]
    assert told["changes_waiting"] > 0


@pytest.fixture
def home_with_admin(tmp_path: Path) -> Path:
    CliRunner().invoke(main, ["init", "--home", str(tmp_path)])
    return tmp_path


@pytest.fixture
def process(home_with_admin: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", "from serving.cli import main; main()", "worker", "--json"]
    environment = {**os.environ, "CRM_RESCORING": "false"}
    with subprocess.Popen(
        [*command, "--home", str(home_with_admin)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        yield running
        running.kill()


def test_a_worker_process_works_and_stops_gently(
    process: subprocess.Popen[str], home_with_admin: Path
) -> None:
    assert process.stderr is not None
    assert "Working as" in process.stderr.readline()
    store = Store(f"sqlite:///{home_with_admin / 'crm.db'}")
    while not read_state(store).workers:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, json.loads(said)) == (0, {"scored": 0})
    assert read_state(store).workers == []
    store.close()
    log = (home_with_admin / "logs" / "worker.log").read_text()
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "stopped"


def test_a_worker_refuses_bad_settings_at_start(
    home_with_admin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_SWEEP_AT", "25:00")
    ended = CliRunner().invoke(main, ["worker", "--home", str(home_with_admin)])
    assert ended.exit_code == 1
    assert "CRM_SWEEP_AT" in ended.stderr


def test_how_it_is_doing_is_told_on_the_command_line(home_with_admin: Path) -> None:
    assert CliRunner().invoke(main, ["worker", "--once", "--home", str(home_with_admin)]).exit_code == 0
    told = CliRunner().invoke(main, ["rescoring", "--watch", "--json", "--home", str(home_with_admin)])
    assert json.loads(told.stdout)["waiting"] == 0
    shown = CliRunner().invoke(main, ["rescoring", "--home", str(home_with_admin)])
    assert "0 changes and 0 records waiting" in shown.stdout
