"""Somebody leaves, over HTTP: what was theirs goes to others, and their keys and logins end."""

from __future__ import annotations

from collections import Counter

from flask.testing import FlaskClient

from crm_core.records import Lead, User
from crm_core.store import Store
from tests.factories import make_lead
from tests.serving.api import Api
from tests.serving.conftest import Cast


def test_what_a_leaver_had_goes_to_the_heirs_in_turn(store: Store, client: FlaskClient, cast: Cast) -> None:
    adam, ana = Api(client, cast, "Adam"), Api(client, cast, "Ana")
    with store.transaction() as transaction:
        leads = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(4)]
    path = f"users/{cast['Ana'].id}/leave"
    assert ana("GET", "me").status_code == 200
    assert ana("POST", path, {"heir_ids": [cast["Ben"].id]}).status_code == 403
    assert adam("POST", path, {}).json["type"].endswith("handover")
    assert adam("POST", path, {"heir_ids": [cast["Ben"].id, 2**60]}).status_code == 409
    assert adam("POST", path, {"heir_ids": [cast["Ana"].id]}).status_code == 409
    heirs = [cast["Ben"].id, cast["Mara"].id]
    assert adam("POST", path, {"heir_ids": heirs}).json == {"moved": {"lead": 4}}
    with store.reading() as session:
        owners = [session.get_one(Lead, each).owner_id for each in leads]
        assert Counter(owners) == Counter([*heirs, *heirs])
        left = session.get_one(User, cast["Ana"].id)
        assert (left.active, left.left_at) == (False, store.clock.now())
    assert ana("GET", "me").status_code == 401


def test_a_sequence_is_made_and_changed_by_managers_on_the_version_they_read(
    client: FlaskClient, cast: Cast
) -> None:
    mara, ana = Api(client, cast, "Mara"), Api(client, cast, "Ana")
    hello = {"name": "Hello", "subject": "Hello", "body": "Hello {{ lead.name }}", "shared": "all"}
    template = mara("POST", "mail-templates", hello).json["id"]
    wanted = {"name": "暖场", "record_type": "lead", "steps": [{"template_id": template, "wait_days": 2}]}
    assert ana("POST", "mail-sequences", wanted).status_code == 403
    made = mara("POST", "mail-sequences", wanted)
    assert (made.status_code, made.json["name"], made.json["steps"], made.json["version"]) == (
        *(201, "暖场", [{"template_id": template, "wait_days": 2, "working": True}], 1),
    )
    path = f"mail-sequences/{made.json['id']}"
    changed = mara("PUT", path, {**wanted, "active": False}, If_Match=made.headers["ETag"])
    assert (changed.json["active"], changed.json["version"]) == (False, 2)
    assert mara("PUT", path, wanted, If_Match=made.headers["ETag"]).status_code == 412
    assert mara("PUT", path, {**wanted, "record_type": "contact"}).status_code == 422
    assert mara("POST", "mail-sequences", {**wanted, "steps": []}).status_code == 422
