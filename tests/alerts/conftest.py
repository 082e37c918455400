"""People who are told, and a customer to be told of."""

from __future__ import annotations

import pytest

from crm_core.records import User
from crm_core.store import Store
from tests.alerts.world import alerts, look, say
from tests.factories import make_account, make_team, make_user


@pytest.fixture
def people(store: Store) -> dict[str, User]:
    """Ana and Ben in Mara's team below Vera's; Otto elsewhere; Dana reads all."""
    with store.transaction() as transaction:
        company = make_team(transaction, name="Company")
        north = make_team(transaction, parent_id=company.id)
        south = make_team(transaction, name="South")
        roles = {"Ana": "rep", "Ben": "rep", "Mara": "manager", "Dana": "analyst", "Otto": "rep"}
        made = {
            name: make_user(transaction, name, role=role, team_id=south.id if name == "Otto" else north.id)
            for name, role in roles.items()
        }
        made["Vera"] = make_user(transaction, "Vera", role="manager", team_id=company.id)
    return made


@pytest.fixture
def customer(store: Store, people: dict[str, User]) -> int:
    """A customer of Ana's."""
    with store.transaction() as transaction:
        return make_account(transaction, owner_id=people["Ana"].id).id


@pytest.fixture
def alert(store: Store, customer: int) -> int:
    """An open alert about Ana's customer."""
    say(store, customer, 0.9)
    look(store, customer)
    return alerts(store)[0].id
