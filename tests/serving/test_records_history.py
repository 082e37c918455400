"""The timeline of a record and the feed of changes, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.alerts import Acting, Alert
from crm_core.deals import close_deal
from crm_core.store import Store
from crm_core.ticket_clocks import change_ticket
from crm_core.tickets import rate_ticket
from serving.api.records_schemas import COLLECTIONS
from tests.factories import make_account, make_deal, make_ticket
from tests.serving.api import Api, follow, turn
from tests.serving.conftest import Cast
from tests.serving.record_bodies import make_samples, path_of
from tests.serving.record_fixtures import *  # noqa: F403  its fixtures


def kinds(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["kind"] for entry in entries]


def test_a_timeline_tells_all_that_happened_newest_first(ana: Api, lead: int) -> None:
    entries = turn(ana, f"leads/{lead}/timeline")
    assert kinds(entries) == ["score", "change", "change", "change", "activity", "comment"]
    assert entries[0]["prediction"]["probability"] == 0.7
    assert {(each["change"]["field"], each["change"]["new"]) for each in entries[1:3]} == {
        ("phone", "1"),
        ("employees", 4),
    }
    assert entries[3]["change"]["action"] == "created"
    assert (entries[4]["activity"]["kind"], entries[4]["title"]) == ("call", "Asked")
    assert entries[5]["title"] == "Hot"


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
    entries = turn(ana, f"leads/{lead}/timeline")
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


def test_a_customers_timeline_goes_back_to_what_was_done_with_the_lead(
    ana: Api, store: Store, lead: int
) -> None:
    before = turn(ana, f"leads/{lead}/timeline")
    made = ana("POST", f"leads/{lead}/convert", {"deal": {"name": "Pumps"}}).json
    for path in (f"accounts/{made['account']['id']}", f"deals/{made['deal']['id']}"):
        entries = turn(ana, f"{path}/timeline")
        theirs = [entry for entry in entries if (entry["record_type"], entry["record_id"]) == ("lead", lead)]
        assert sorted(kinds(theirs)) == ["conversion", "lead", "lead", "lead", "score"]
        for kind in ("activity", "comment"):
            assert [each["record_id"] for each in entries if each["kind"] == kind] == [
                each["record_id"] for each in before if each["kind"] == kind
            ]
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="account_id", read=False, write=False)
        )
    hidden = turn(ana, f"accounts/{made['account']['id']}/timeline")
    assert not {"lead", "conversion", "comment"} & set(kinds(hidden))


def test_a_customers_timeline_tells_of_warnings_tickets_and_deals(ana: Api, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        ticket = make_ticket(transaction, account_id=account, owner_id=cast["Ana"].id)
        change_ticket(transaction, ticket, {"status": "solved"})
        rate_ticket(transaction, ticket.id, 4, None)
        close_deal(transaction, make_deal(transaction, owner_id=cast["Ana"].id, account_id=account), won=True)
        alert = Alert(
            kind="churn_level", record_type="account", record_id=account, cause="c", prediction_id=1,
            probability=0.6, raised_at=transaction.now,
        )  # fmt: skip
        transaction.session.add(alert)
        transaction.session.flush()
        Acting(transaction=transaction, user=cast["Ana"]).acknowledge(alert.id, note="I call them")
    entries = turn(ana, f"accounts/{account}/timeline")
    became = {
        (each["record_type"], each["change"]["field"], each["change"]["new"])
        for each in entries
        if each["kind"] in {"sale", "service"}
    }
    assert became == {
        ("ticket", "status", "solved"),
        ("ticket", "satisfaction", 4),
        ("deal", "status", "won"),
    }
    (done,) = [each for each in entries if each["kind"] == "alert"]
    assert (done["title"], done["who"], done["alert"]["action"]) == (
        "I call them",
        cast["Ana"].id,
        "acknowledged",
    )
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="account", field="probability", read=False, write=False)
        )
    assert "alert" not in kinds(turn(ana, f"accounts/{account}/timeline"))


def test_every_type_has_a_timeline(client: FlaskClient, store: Store, cast: Cast) -> None:
    adam = Api(client, cast, "Adam")
    samples = make_samples(store, None)
    assert samples.keys() == COLLECTIONS.keys()
    for record_type, sample in samples.items():
        made = adam("POST", path_of(record_type), sample.body)
        entries = turn(adam, made.headers["Location"].removeprefix("/api/v1/") + "/timeline?limit=1")
        assert "change" in kinds(entries), record_type


# ------------------------------------------------------------------------------------------------ changes


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
