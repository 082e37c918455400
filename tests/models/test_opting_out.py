"""Whoever asks not to be scored is in no question of any task: not to learn, to judge or to score."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.personal import set_scoring_opt_out
from crm_core.records import Account, Contact, Deal, Lead
from crm_core.store import Store
from features.cohort import open_records
from models.bundle import ModelBundle
from models.questions import first_instant
from models.scoring import score_records
from models.simulation import simulate_company
from models.task import Task
from models.tasks import TASKS, get_task
from tests.factories import make_contact
from tests.models.conftest import NOW


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    path = tmp_path_factory.mktemp("company") / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    simulate_company(store, size="tiny", seed=1)
    store.close()
    return path


@pytest.fixture
def store(simulated: Path, tmp_path: Path) -> Iterator[Store]:
    with_log = [simulated, *simulated.parent.glob("crm.db-*")]
    for file in with_log:
        shutil.copy(file, tmp_path / file.name)
    opened = Store(f"sqlite:///{tmp_path / 'crm.db'}", clock=FixedClock(NOW))
    yield opened
    opened.close()


def asked(store: Store, task: Task) -> dict[str, set[int]]:
    """Return the records in every kind of question of a task."""
    start, variant = first_instant(store, task), task.variant or None
    return {
        "training": set(task.ask(store, start=start, until=NOW).ids.tolist()),
        "judging": set(task.ask_to_judge(store, start=start, until=NOW).ids.tolist()),
        "scoring": set(open_records(store, task.record_type, NOW, kind=variant).ids.tolist()),
        "backtest": set(
            open_records(store, task.record_type, NOW - timedelta(days=90), kind=variant).ids.tolist()
        ),
    }


def opt_out(store: Store, task: Task, records: set[int], *, opted_out: bool = True) -> set[int]:
    """Have one person or company opt out who is asked about; return the records that this covers."""
    one = min(records)
    with store.transaction() as transaction:
        wish: Lead | Contact | Account
        match task.record_type:
            case "lead":
                wish, covered = transaction.get(Lead, one), {one}
            case "account":
                wish, covered = transaction.get(Account, one), {one}
            case _:
                deal = transaction.get(Deal, one)
                if deal.contact_id is None:
                    transaction.update(deal, {"contact_id": make_contact(transaction).id})
                assert deal.contact_id is not None
                wish = transaction.get(Contact, deal.contact_id)
                theirs = select(Deal.id).where(Deal.contact_id == wish.id)
                covered = set(transaction.session.scalars(theirs))
        set_scoring_opt_out(transaction, wish, opted_out=opted_out)
    return covered


@pytest.mark.parametrize("name", TASKS)
def test_an_opt_out_leaves_every_question_and_comes_back_with_the_opt_in(store: Store, name: str) -> None:
    task = get_task(name).in_store(store)
    before = asked(store, task)
    everywhere = set.intersection(*before.values())
    assert everywhere

    silent = opt_out(store, task, everywhere)
    assert asked(store, task) == {way: ids - silent for way, ids in before.items()}
    opt_out(store, task, everywhere, opted_out=False)
    assert asked(store, task) == before


@pytest.mark.parametrize("name", TASKS)
def test_nobody_is_scored_alone_either(store: Store, name: str) -> None:
    task = get_task(name).in_store(store)
    silent = opt_out(store, task, asked(store, task)["scoring"])
    model: Any = SimpleNamespace(record_type=task.record_type)  # whoever asked it for anything would see
    assert score_records(store, cast("ModelBundle", model), sorted(silent), NOW) == []
