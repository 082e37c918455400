"""Asking by the command line why a record's features are what they are."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from crm_core.changes import Source
from crm_core.store import Store
from tests.factories import make_activity, make_deal, make_lead, make_user
from tests.serving.test_cli import run


@pytest.fixture
def home_with_a_lead(tmp_path: Path) -> Path:
    """A home with one lead that was called twice."""
    home = tmp_path / "home"
    run("init", "--home", home)
    store = Store(f"sqlite:///{home / 'crm.db'}")
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        for _ in range(2):
            make_activity(transaction, kind="call", lead_id=lead.id)
    store.close()
    return home


def test_every_feature_of_a_task_is_listed(home_with_a_lead: Path) -> None:
    listed = json.loads(run("features", "lead_scoring", "--home", home_with_a_lead, "--json").stdout)
    assert (listed["task"], listed["record_type"]) == ("lead_scoring", "lead")
    assert "calls_count_7d" in [one["name"] for one in listed["features"]]
    assert "calls_count_7d" in run("features", "lead_scoring", "--home", home_with_a_lead).stdout


def test_a_value_is_shown_with_its_rows(home_with_a_lead: Path) -> None:
    command = ("features", "lead_scoring", "--entity", "1", "--home", home_with_a_lead)
    shown = run(*command, "--feature", "calls_count_7d")
    assert shown.exit_code == 0, shown.output
    assert "calls_count_7d = 2   (2 calls in the last 7 days)" in shown.stdout
    assert shown.stdout.count("  activity ") == 2
    told = json.loads(run(*command, "--json").stdout)
    (calls,) = [one for one in told["features"] if one["name"] == "calls_count_7d"]
    assert (calls["value"], len(calls["rows"])) == (2, 2)


def test_a_rate_is_shown_with_how_many_it_is_counted_from(home_with_a_lead: Path) -> None:
    store = Store(f"sqlite:///{home_with_a_lead / 'crm.db'}")
    with store.transaction(source=Source.IMPORT) as transaction:
        long_ago = store.clock.now() - timedelta(days=200)
        owner = make_user(transaction, "Ana")
        for _ in range(3):
            make_deal(transaction, owner_id=owner.id, occurred_at=long_ago, recorded_at=long_ago)
    store.close()
    command = ("features", "win_probability", "--entity", "1", "--home", home_with_a_lead)

    shown = run(*command, "--feature", "owner_win_rate_90d")

    assert shown.exit_code == 0, shown.output
    assert "  0 of 2 others alike, 0 of 2 of all" in shown.stdout.splitlines()


def test_what_cannot_be_explored_is_refused_in_one_line(home_with_a_lead: Path) -> None:
    home = ("--home", home_with_a_lead)
    for wrong, status in (
        (("--entity", "9"), 1),
        (("--entity", "1", "--feature", "luck"), 1),
        (("--entity", "1", "--as-of", "2999-01-01"), 1),
        (("--as-of", "2020-01-01"), 2),
    ):
        refused = run("features", "lead_scoring", *wrong, *home)
        assert refused.exit_code == status, refused.output
        assert refused.stdout == ""
