"""Alerts from the command line."""

from __future__ import annotations

import json

from click.testing import CliRunner

from crm_core.records import User
from crm_core.store import Store
from serving.cli import main
from tests.alerts.world import act, alerts, say


def crm(store: Store, *words: str) -> str:
    home = store.url.removeprefix("sqlite:///").removesuffix("/crm.db")
    ended = CliRunner().invoke(main, ["alerts", *words, "--home", home], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_what_is_due_is_raised_and_listed(store: Store, people: dict[str, User], customer: int) -> None:
    say(store, customer, 0.4)
    mine = ("--as", "ana@example.com")
    assert json.loads(crm(store, *mine, "--json")) == {"alerts": []}
    found = json.loads(crm(store, *mine, "--run", "--json"))["alerts"]
    assert [(alert["kind"], alert["record_id"]) for alert in found] == [("churn_level", customer)]
    assert found[0]["money_at_risk"][0]["at_risk"] == "4000.00"
    assert "Hill & Sons" in crm(store, *mine)

    act(store, people["Ana"], "acknowledge", alerts(store)[0].id)
    assert json.loads(crm(store, *mine, "--state", "open", "--json")) == {"alerts": []}
    assert len(json.loads(crm(store, *mine, "--state", "acknowledged", "--json"))["alerts"]) == 1
    assert json.loads(crm(store, "--as", "ben@example.com", "--json")) == {"alerts": []}
