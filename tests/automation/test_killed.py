"""Two processes that are killed again and again while people write: every rule acts once a cause.

AUTOMATION_EVENTS in the environment says of how many events; a test run takes few.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import ColumnElement, func, select

from crm_core.automation.following import CURSOR
from crm_core.automation.kept import AutomationRun
from crm_core.changes import Action, Change, Cursor, newest_sequence
from crm_core.notifications import Notification
from crm_core.records import Activity, Base, Lead, Tag
from crm_core.store import Store
from tests.automation.conftest import Automation, Cast
from tests.factories import make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures

ROOT = Path(__file__).resolve().parents[2]
EVENTS = int(os.environ.get("AUTOMATION_EVENTS", "120"))
SIZES = {"at_once": 20, "most_runs": 8} if EVENTS < 1_000 else {"at_once": 500, "most_runs": 100}
LATEST = 400 if EVENTS < 1_000 else 8_000
"""Boundaries of statements after which a process may be killed: some batches in."""
WRITERS = 2

pytestmark = pytest.mark.timeout(3600)

Run = Callable[..., list[bool]]


@pytest.fixture(scope="module")
def processes() -> Iterator[subprocess.Popen[str]]:
    """A process that forks those that are to be killed."""
    command = [sys.executable, "-m", "tests.automation.killed"]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def run(processes: subprocess.Popen[str], store: Store) -> Run:
    """Have rules act in processes of their own, until each is done or killed at a boundary."""

    def run_it(*boundaries: int | None) -> list[bool]:
        assert processes.stdin is not None
        assert processes.stdout is not None
        url = store.engine.url.render_as_string(hide_password=False)
        processes.stdin.write(json.dumps({"url": url, "boundaries": boundaries, **SIZES}) + "\n")
        processes.stdin.flush()
        ended: list[bool] = json.loads(processes.stdout.readline())
        return ended

    return run_it


def write(store: Store, seed: int) -> None:
    """Create leads and change them, some in one transaction."""
    drawn = random.Random(seed)
    for _ in range(EVENTS // WRITERS // 3):
        with store.transaction() as transaction:
            lead = make_lead(transaction).id
            if drawn.random() < 0.3:
                make_lead(transaction)
        with store.transaction() as transaction:
            record = transaction.get(Lead, lead)
            transaction.update(record, {"industry": drawn.choice(["Energy", "Steel"]), "title": "Buyer"})


def test_every_rule_acts_once_a_cause_though_workers_are_killed(
    store: Store, automation: Automation, cast: Cast, run: Run
) -> None:
    created = automation.rule(
        "lead",
        {"kind": "record_created"},
        {"kind": "assign", "to": [f"team:{cast.team}"]},
        {"kind": "task", "text": "Call"},
    )
    energy = automation.rule(
        "lead",
        {"kind": "field_changed", "field": "industry", "to": ["Energy"]},
        {"kind": "set", "field": "region", "value": "North"},
        {"kind": "tag", "word": "energy"},
    )
    chained = automation.rule("lead", {"kind": "field_changed", "field": "region", "to": "North"})
    # Due at once, and worked out from the leads again at every look.
    due = automation.rule(
        "lead", {"kind": "date", "field": "occurred_at", "days": -1}, {"kind": "tag", "word": "due"}
    )
    now, drawn = Store(store.engine.url.render_as_string(hide_password=False)), random.Random(11)
    writers = [threading.Thread(target=write, args=(now, seed)) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    killed, started = 0, 0
    while any(writer.is_alive() for writer in writers) or killed < 8:
        ended = run(drawn.randint(1, LATEST), drawn.randint(1, LATEST))
        killed, started = killed + sum(ended), started + len(ended)
        if started > 10_000:
            pytest.fail("nobody was killed")
        if not any(writer.is_alive() for writer in writers) and not any(ended):
            break
    run(None, None)
    expected = {
        created: logged(now, Change.action == Action.CREATED),
        energy: logged(now, (Change.field == "industry") & (Change.new == "Energy")),
        chained: logged(now, (Change.field == "region") & (Change.new == "North")),
    }
    with now.reading() as session:
        rows = session.execute(select(AutomationRun.rule_id, AutomationRun.cause))
        runs = Counter((rule, cause) for rule, cause in rows)
        causes = [(rule, f"c{one}") for rule, ids in expected.items() for one in ids]
        days = session.execute(select(Lead.id, Lead.occurred_at)).all()
        causes += [(due, f"d{lead}:{at.date() - timedelta(days=1)}") for lead, at in days]
        assert runs == Counter(causes)
        assert set(session.scalars(select(AutomationRun.outcome))) == {"done"}

        def count(model: type[Base], *where: ColumnElement[bool]) -> int:
            return session.scalar(select(func.count()).select_from(model).where(*where)) or 0

        assert count(Activity) == len(expected[created]) == count(Lead)
        assert count(Tag, Tag.word == "energy") == len(expected[energy]) == len(expected[chained])
        assert count(Tag, Tag.word == "due") == count(Lead)
        assert count(Notification, Notification.kind == "automation") == len(expected[chained])
        owners = Counter(session.scalars(select(Lead.owner_id)))
        assert set(owners) == {cast.ana, cast.ben}
        assert abs(owners[cast.ana] - owners[cast.ben]) <= 1, "in turn, whoever was killed"
        assert session.get_one(Cursor, CURSOR).position == newest_sequence(session)
    assert killed >= 2
    now.close()


def logged(store: Store, condition: ColumnElement[bool]) -> list[int]:
    with store.reading() as session:
        query = select(Change.id).where(Change.record_type == "lead", condition)
        return list(session.scalars(query))
