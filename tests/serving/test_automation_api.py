"""Rules over HTTP: kept, changed, switched, tried on the past, and what they did; for administrators."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.automation.following import Follower
from crm_core.store import Store
from tests.factories import make_lead
from tests.serving.api import Api, turn
from tests.serving.conftest import Cast

RULE: dict[str, Any] = {
    "name": {"en": "Northern leads", "zh": "北区线索"},
    "record_type": "lead",
    "trigger": {"kind": "record_created"},
    "condition": ["region:eq:North"],
    "actions": [{"kind": "tag", "word": "north"}],
}


@pytest.fixture
def adam(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Adam")


def test_a_rule_is_kept_switched_on_and_acts(store: Store, adam: Api) -> None:
    made = adam("POST", "automation/rules", RULE)
    assert made.status_code == 201
    assert (made.json["active"], made.json["version"], made.json["shipped"]) == (False, 1, None)
    assert made.json["rule"] == RULE
    path = f"automation/rules/{made.json['id']}"
    assert adam("POST", f"{path}/on").json["active"] is True
    with store.transaction() as transaction:
        lead = make_lead(transaction, region="North").id
        make_lead(transaction, region="South")
    Follower(store).run_until_done()
    (run,) = adam("GET", f"automation/runs?rule_id={made.json['id']}").json["items"]
    assert (run["record_id"], run["outcome"], run["version"]) == (lead, "done", 1)
    assert run["did"] == [{"kind": "tag", "changed": True}]
    about = adam("GET", f"automation/runs?record_type=lead&record_id={lead}").json["items"]
    assert about == [run]
    assert adam("GET", "automation/runs?outcome=failed").json["items"] == []
    listed = adam("GET", "automation/rules").json["items"]
    assert [(each["runs"], each["last_run_at"]) for each in listed] == [(1, run["at"])]
    assert adam("POST", f"{path}/off").json["active"] is False


def test_a_change_is_a_new_version(adam: Api) -> None:
    made = adam("POST", "automation/rules", RULE)
    rule, tag = made.json["id"], made.headers["ETag"]
    changed = {**RULE, "name": "Leads of the north"}
    assert adam("PUT", f"automation/rules/{rule}", changed, If_Match=tag).json["version"] == 2
    stale = adam("PUT", f"automation/rules/{rule}", changed, If_Match=tag)
    assert (stale.status_code, stale.json["type"].rpartition(":")[2]) == (412, "stale-record")
    versions = turn(adam, f"automation/rules/{rule}/versions?limit=1")
    assert [(each["version"], each["rule"]["name"]) for each in versions] == [
        (2, "Leads of the north"),
        (1, RULE["name"]),
    ]


def test_a_rule_is_tried_on_the_past_without_doing_anything(store: Store, adam: Api) -> None:
    with store.transaction() as transaction:
        leads = [make_lead(transaction, region=region).id for region in ("North", "South", "North")]
    found = adam("POST", "automation/rules/dry-run", {**RULE, "days": 7})
    assert found.status_code == 200, found.text
    assert (found.json["count"], found.json["records"], found.json["present"]) == (2, 2, [])
    assert {each["record_id"] for each in found.json["items"]} == {leads[0], leads[2]}
    assert adam("GET", "automation/rules").json["items"] == []
    assert adam("GET", "automation/runs").json["items"] == []


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"trigger": {"kind": "sometimes"}}, "invalid-value"),
        ({"actions": [{"kind": "set", "field": "region", "value": 7}]}, "invalid-value"),
        ({"condition": ["colour:eq:red"]}, "unknown-field"),
        ({"record_type": "nothing"}, "unknown-record-type"),
        (
            {
                "trigger": {"kind": "field_changed", "field": "region"},
                "actions": [{"kind": "set", "field": "region", "value": "North"}],
            },
            "rule-loop",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(adam: Api, wrong: dict[str, Any], kind: str) -> None:
    for path in ("automation/rules", "automation/rules/dry-run")[: 1 if kind == "rule-loop" else 2]:
        refused = adam("POST", path, {**RULE, **wrong})
        assert (refused.status_code, refused.json["type"].rpartition(":")[2]) == (422, kind), refused.text
