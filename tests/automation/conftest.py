"""What every test of automation may ask for: rules that are on, and the loop that has them act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from sqlalchemy import select

from crm_core.automation.following import Follower
from crm_core.automation.keeping import save_rule, set_active
from crm_core.automation.kept import AutomationRun
from crm_core.operations import Origin, Via
from crm_core.records import User
from crm_core.store import Store
from tests.factories import make_team, make_user

COMMAND = Origin(via=Via.COMMAND)
TOLD: dict[str, Any] = {"kind": "notice", "to": ["role:admin"], "text": "Look"}


@dataclass(frozen=True)
class Cast:
    """Adam administers; Mara leads North, in which Ana and Ben sell."""

    adam: int
    mara: int
    ana: int
    ben: int
    team: int


@pytest.fixture
def cast(store: Store) -> Cast:
    with store.transaction() as transaction:
        team = make_team(transaction).id
        people = {
            name.lower(): make_user(
                transaction, name, role=role, team_id=team if role != "admin" else None
            ).id
            for name, role in (("Adam", "admin"), ("Mara", "manager"), ("Ana", "rep"), ("Ben", "rep"))
        }
        return Cast(**people, team=team)


@dataclass
class Automation:
    """Rules and their loop in one store."""

    store: Store
    admin: int

    def save(self, record_type: str, trigger: dict[str, Any], *actions: dict[str, Any], **more: Any) -> int:
        """Keep a rule, switched off; return its number."""
        declared = {
            "name": more.pop("name", "A rule"),
            "record_type": record_type,
            "trigger": trigger,
            "actions": list(actions or [TOLD]),
            "condition": more.pop("condition", []),
        }
        with self.store.transaction() as transaction:
            admin = transaction.session.get_one(User, self.admin)
            return save_rule(transaction, admin, declared, origin=COMMAND, **more).id

    def turn(self, rule_id: int, *, on: bool) -> None:
        with self.store.transaction() as transaction:
            admin = transaction.session.get_one(User, self.admin)
            set_active(transaction, admin, rule_id, active=on, origin=COMMAND)

    def rule(self, record_type: str, trigger: dict[str, Any], *actions: dict[str, Any], **more: Any) -> int:
        """Keep a rule and switch it on."""
        rule_id = self.save(record_type, trigger, *actions, **more)
        self.turn(rule_id, on=True)
        return rule_id

    def run(self, *, times: int = 1, **options: Any) -> list[AutomationRun]:
        """Have rules act until nothing is left to do; return all runs there are, the oldest first."""
        follower = Follower(self.store, **options)
        for _ in range(times):
            follower.run_until_done()
        return self.runs()

    def runs(self) -> list[AutomationRun]:
        with self.store.reading() as session:
            return list(session.scalars(select(AutomationRun).order_by(AutomationRun.id)))


@pytest.fixture
def automation(store: Store, cast: Cast) -> Automation:
    return Automation(store, cast.adam)


class Write(Protocol):
    """Writes something in a transaction of its own; returns its id, or what was made."""

    def __call__(self, act: Callable[..., Any], **given: Any) -> Any: ...


@pytest.fixture
def write(store: Store) -> Write:
    def once(act: Callable[..., Any], **given: Any) -> Any:
        with store.transaction() as transaction:
            made = act(transaction, **given)
            return getattr(made, "id", made)

    return once
