"""How many changes a second automation keeps up with, and how much of its time the database takes.

All rules that come along are on, and four more, so that half of all changes set off one or more. The store
holds twenty thousand leads and sixty thousand activities. Measured are the seconds that two hundred changes
take, out of four thousand that are there already; the share of the database in them; the seconds of processor
time; and how long after the last of two hundred changes a second, for ten seconds, all are dealt with, while
the same process writes them, twenty at a time.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import event, func, select

from crm_core import migrations
from crm_core.automation.following import Follower
from crm_core.automation.keeping import save_rule, set_active
from crm_core.automation.kept import AutomationRule, AutomationRun
from crm_core.automation.shipped import ship_rules
from crm_core.changes import Source
from crm_core.operations import Origin, Via
from crm_core.records import Activity, Lead, User
from crm_core.store import Store, Transaction
from tests.bench.bench_freshness import database_in
from tests.bench.harness import Aspect, Benchmark, Contest
from tests.factories import make_activity, make_lead, make_team, make_user

LEADS, ACTIVITIES = 20_000, 60_000
CHANGES, A_SECOND, SECONDS = 4_000, 200, 10
TOGETHER = 20
LATE = 2.0
_ORIGIN = Origin(via=Via.COMMAND)
_BEGAN = datetime(2026, 1, 5, tzinfo=UTC)

RULES: tuple[dict[str, Any], ...] = (
    {
        "trigger": {"kind": "field_changed", "field": "industry"},
        "actions": [{"kind": "set", "field": "territory", "value": "seen"}],
    },
    {
        "trigger": {"kind": "field_changed", "field": "title"},
        "condition": ["employees:ge:100000"],
        "actions": [{"kind": "tag", "word": "never"}],
    },
    {"trigger": {"kind": "record_created"}, "actions": [{"kind": "task", "text": "Call"}]},
    {
        "trigger": {"kind": "field_changed", "field": "territory"},
        "actions": [{"kind": "notice", "to": ["owner"], "text": "Look"}],
    },
)


class Busy:
    """A company whose people write all the time, and the rules that follow."""

    def __init__(self, folder: Path, database: str) -> None:
        self._stack = ExitStack()
        url = f"sqlite:///{folder / 'crm.db'}"
        if database == "postgresql":
            url = self._stack.enter_context(database_in(folder))
        migrations.upgrade(url)
        self.store = Store(url)
        self._stack.callback(self.store.close)
        self.follower = Follower(self.store)
        self._drawn = random.Random(1)
        self._fill()
        self._in_database = self._since = 0.0
        self._thread: int | None = None
        event.listen(self.store.engine, "before_cursor_execute", self._begin)
        event.listen(self.store.engine, "after_cursor_execute", self._end)

    def close(self) -> None:
        """Stop the database."""
        self._stack.close()

    def run(self) -> tuple[float, float, float, float]:
        """Return the seconds for two hundred changes, the database's share, processor time, and how late."""
        self.write(CHANGES)
        took, share, worked = self.follow()
        return took * A_SECOND / CHANGES, share, worked * A_SECOND / CHANGES, self._live()

    def write(self, changes: int, *, together: bool = False) -> None:
        """Write changes, each in a transaction of its own or all in one."""
        if together:
            with self.store.transaction() as transaction:
                for _ in range(changes):
                    self._write_one(transaction)
            return
        for _ in range(changes):
            with self.store.transaction() as transaction:
                self._write_one(transaction)

    def follow(self) -> tuple[float, float, float]:
        """Have rules act on all there is; return the seconds, the database's share, and processor time."""
        before = self._runs()
        self._thread, self._in_database = threading.get_ident(), 0.0
        began, worked = time.perf_counter(), time.thread_time()
        self.follower.run_until_done()
        took, worked = time.perf_counter() - began, time.thread_time() - worked
        self._thread = None
        if self._runs() - before < CHANGES // 2:
            raise AssertionError("fewer runs than changes that set off a rule")
        return took, self._in_database / took, worked

    def _live(self) -> float:
        """Write at a rate while rules act; return how long after the last change all is dealt with."""
        ended = threading.Event()
        following = threading.Thread(target=self._follow_until, args=(ended,))
        following.start()
        began = time.perf_counter()
        for number in range(A_SECOND * SECONDS // TOGETHER):
            time.sleep(max(0.0, began + number * TOGETHER / A_SECOND - time.perf_counter()))
            self.write(TOGETHER, together=True)
        late = time.perf_counter() - began - SECONDS
        ended.set()
        following.join()
        return time.perf_counter() - began - SECONDS if late < SECONDS else float("inf")

    def _follow_until(self, ended: threading.Event) -> None:
        while True:
            last = ended.is_set()
            if not self.follower.run_once():
                if last:
                    return
                time.sleep(0.2)

    def _write_one(self, transaction: Transaction) -> None:
        kind, lead = self._drawn.random(), self._drawn.randint(1, LEADS)
        if kind < 0.2:
            make_lead(transaction, region="North")
        elif kind < 0.5:
            transaction.update(transaction.get(Lead, lead), {"industry": str(self._drawn.random())})
        elif kind < 0.8:
            transaction.update(transaction.get(Lead, lead), {"title": str(self._drawn.random())})
        else:
            make_activity(transaction, lead_id=lead)

    def _runs(self) -> int:
        with self.store.reading() as session:
            return session.scalar(select(func.count(AutomationRun.id))) or 0

    def _fill(self) -> None:
        with self.store.transaction(source=Source.IMPORT) as transaction:
            team = make_team(transaction).id
            admin = make_user(transaction, "Adam", role="admin")
            reps = [make_user(transaction, f"Rep {n}", team_id=team).id for n in range(10)]
            leads = [
                {
                    "name": f"Lead {n}",
                    "owner_id": reps[n % 10],
                    "status": "disqualified",
                    "occurred_at": _BEGAN + timedelta(minutes=n),
                }
                for n in range(LEADS)
            ]
            ids = transaction.create_many(Lead, leads)
            calls = [
                {"kind": "call", "lead_id": ids[n % LEADS], "occurred_at": _BEGAN + timedelta(minutes=n)}
                for n in range(ACTIVITIES)
            ]
            transaction.create_many(Activity, calls)
        ship_rules(self.store)
        with self.store.transaction() as transaction:
            user = transaction.session.get_one(User, admin.id)
            for rule in RULES:
                save_rule(transaction, user, {"name": "Busy", "record_type": "lead", **rule}, origin=_ORIGIN)
            for rule_id in transaction.session.scalars(select(AutomationRule.id)).all():
                set_active(transaction, user, rule_id, active=True, origin=_ORIGIN)

    def _begin(self, *_: object) -> None:
        self._since = time.perf_counter()

    def _end(self, *_: object) -> None:
        if threading.get_ident() == self._thread:
            self._in_database += time.perf_counter() - self._since


def automation(folder: Path, *, database: str) -> Contest:
    """Return a contest with what is asked: a second for two hundred changes, and two seconds late."""
    found = Busy(folder, database)
    return Contest(ours=found.run, peer=lambda: (1.0, 1.0, 1.0, LATE), close=found.close)


BENCHMARKS = tuple(
    Benchmark(
        name=f"automation_{database}" if database == "postgresql" else "automation",
        peer_name="two hundred changes a second",
        prepare=partial(automation, database=database),
        asked=1,
        also=(
            Aspect(name="database", peer_name="all of the time", unit="share"),
            Aspect(name="processor", peer_name="a second", unit="s", asked=1),
            Aspect(name="late", peer_name="two seconds", unit="s", asked=1),
        ),
        rounds=1,
        warm=False,
    )
    for database in ("sqlite", "postgresql")
)
