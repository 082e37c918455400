"""The timeline of a record and the feed of changes, over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.activities import log_activity
from crm_core.clock import FixedClock
from crm_core.records import Activity, Comment, Lead
from crm_core.store import Store
from serving.api.records_schemas import COLLECTIONS
from tests.factories import make_account, make_deal, make_lead, make_ticket
from tests.serving.api import Api
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast
from tests.serving.record_bodies import make_samples, path_of
from tests.serving.test_lists import show


@pytest.fixture
def ana(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Ana")


def turn(api: Api, path: str, limit: int) -> list[dict[str, Any]]:
    """Return the entries of all pages, going where the header says."""
    found: list[dict[str, Any]] = []
    where: str | None = f"/api/v1/{path}?limit={limit}"
    while where is not None:
        page = api("GET", where)
        assert page.status_code == 200, page.text
        found += page.json["items"]
        link = page.headers.get("Link")
        assert (link is None) == (page.json["next_cursor"] is None)
        where = link and link.partition(">")[0].removeprefix("<")
    return found


@pytest.fixture
def lead(store: Store, cast: Cast, clock: FixedClock, ana: Api) -> int:
    """A lead of Ana's with a call, a comment, two changes and a score, some of one instant."""
    with store.transaction(actor_id=cast["Ana"].id) as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
        log_activity(transaction, Activity(kind="call", subject="Asked", lead_id=lead.id))
        transaction.create(Comment(subject_type="lead", subject_id=lead.id, body="Hot"))
    clock.advance(timedelta(hours=1))
    assert ana("PATCH", f"leads/{lead.id}", {"phone": "1", "employees": 4}).status_code == 200
    show(store, {lead.id: 0.7})
    return lead.id


def kinds(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["kind"] for entry in entries]


def test_a_timeline_tells_all_that_happened_newest_first(ana: Api, lead: int) -> None:
    entries = turn(ana, f"leads/{lead}/timeline", 200)
    assert kinds(entries) == ["score", "change", "change", "change", "activity", "comment"]
    assert entries[0]["prediction"]["probability"] == 0.7
    assert {(each["change"]["field"], each["change"]["new"]) for each in entries[1:3]} == {
        ("phone", "1"),
        ("employees", 4),
    }
    assert entries[3]["change"]["action"] == "created"
    assert (entries[4]["activity"]["kind"], entries[4]["title"]) == ("call", "Asked")
    assert entries[5]["title"] == "Hot"


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_its_pages_tell_each_entry_once(ana: Api, lead: int, limit: int) -> None:
    assert turn(ana, f"leads/{lead}/timeline", limit) == turn(ana, f"leads/{lead}/timeline", 200)


def test_a_timeline_of_some_kinds(ana: Api, lead: int) -> None:
    some = ana("GET", f"leads/{lead}/timeline?kinds=comment,score").json["items"]
    assert kinds(some) == ["score", "comment"]
    assert ana("GET", f"leads/{lead}/timeline?kinds=gossip").status_code == 422
    assert ana("GET", f"leads/{lead}/timeline?cursor=W10").status_code == 422


def test_a_timeline_hides_what_may_not_be_seen(ana: Api, store: Store, lead: int) -> None:
    with store.transaction() as transaction:
        transaction.session.add_all(
            FieldRight(role="rep", record_type="lead", field=name, read=False, write=False)
            for name in ("phone", "probability")
        )
    entries = turn(ana, f"leads/{lead}/timeline", 200)
    assert kinds(entries) == ["change", "change", "activity", "comment"]
    assert "phone" not in {entry["change"] and entry["change"]["field"] for entry in entries}


def test_a_conversion_stands_on_what_it_made(ana: Api, lead: int) -> None:
    made = ana("POST", f"leads/{lead}/convert", {"deal": {"name": "Pumps"}}).json
    for path in (f"leads/{lead}", f"accounts/{made['account']['id']}", f"deals/{made['deal']['id']}"):
        (entry,) = ana("GET", f"{path}/timeline?kinds=conversion").json["items"]
        assert (entry["record_type"], entry["record_id"]) == ("lead", lead), path


def test_a_customers_timeline_holds_tickets_and_deals(ana: Api, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        make_ticket(transaction, account_id=account)
        make_deal(transaction, owner_id=cast["Ana"].id, account_id=account)
        make_deal(transaction, owner_id=cast["Otto"].id, account_id=account)
    entries = ana("GET", f"accounts/{account}/timeline").json["items"]
    told = sorted((entry["kind"], entry["title"]) for entry in entries)
    assert told == [("change", None), ("deal", "Twenty pumps"), ("ticket", "Pump leaks")]


def test_every_type_has_a_timeline(client: FlaskClient, store: Store, cast: Cast) -> None:
    adam = Api(client, cast, "Adam")
    samples = make_samples(store, None)
    assert samples.keys() == COLLECTIONS.keys()
    for record_type, sample in samples.items():
        made = adam("POST", path_of(record_type), sample.body)
        entries = turn(adam, made.headers["Location"].removeprefix("/api/v1/") + "/timeline", 1)
        assert "change" in kinds(entries), record_type


# ------------------------------------------------------------------------------------------------ changes


def follow(api: Api, after: str, limit: int = 3) -> tuple[list[dict[str, Any]], str]:
    """Return all changes after a cursor, and the cursor in the end."""
    found: list[dict[str, Any]] = []
    while True:
        page = api("GET", f"changes?after={after}&limit={limit}").json
        found, after = found + page["items"], page["next_cursor"]
        if not page["more"]:
            return found, after


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_the_feed_tells_every_change_that_may_be_seen_in_order(
    client: FlaskClient, ana: Api, store: Store, cast: Cast, lead: int, limit: int
) -> None:
    found, cursor = follow(ana, "0", limit)
    leads = [(each["action"], each["field"], each["new"]) for each in found if each["record_type"] == "lead"]
    assert leads[0] == ("created", None, None)
    assert set(leads[1:]) == {("updated", "phone", "1"), ("updated", "employees", 4)}
    assert found == sorted(found, key=lambda each: (each["transaction"], each["id"]))
    otto, end = follow(Api(client, cast, "Otto"), "0", limit)
    assert "lead" not in {each["record_type"] for each in otto}
    assert end == cursor, "the cursor moves over what may not be seen"
    assert follow(ana, cursor, limit) == ([], cursor)
    with store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, lead))
    (gone,), _ = follow(ana, cursor, limit)
    assert (gone["action"], gone["record_id"], gone["url"]) == ("deleted", lead, f"/api/v1/leads/{lead}")


def test_the_feed_can_begin_now(ana: Api, store: Store, cast: Cast, lead: int) -> None:
    page = ana("GET", "changes?after=latest").json
    assert (page["items"], page["more"]) == ([], False)
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id).id
    assert (
        ana("PATCH", f"deals/{deal}", {"amount": "7.5", "expected_close_on": "2026-05-01"}).status_code == 200
    )
    found, _ = follow(ana, page["next_cursor"])
    assert {(each["field"], each["old"], each["new"]) for each in found if each["field"]} == {
        ("amount", "12000", "7.5"),
        ("expected_close_on", None, "2026-05-01"),
    }


def test_the_feed_leaves_hidden_fields_out_and_moves_on(ana: Api, store: Store, lead: int) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="phone", read=False, write=False)
        )
    found, _ = follow(ana, "0", 1)
    assert [each["field"] for each in found if each["action"] == "updated"] == ["employees"]


@pytest.mark.parametrize("after", ["x", "-1", "1-", "99999999999999999999", "9223372036854775808", "1-2-3"])
def test_a_cursor_that_nobody_gave_is_refused(ana: Api, after: str) -> None:
    assert ana("GET", f"changes?after={after}").status_code == 422
