"""The history of a record's scores: what was said, and why each time something else than before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.clock import FixedClock
from crm_core.deals import move_deal
from crm_core.opting_out import set_scoring_opt_out
from crm_core.records import Deal, Lead
from crm_core.store import Store
from tests.factories import make_account, make_activity, make_deal, make_lead, make_order
from tests.serving.both_databases import *  # noqa: F403  fixtures
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]


@pytest.fixture
def lead(store: Store, cast: Cast) -> Lead:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id)


@pytest.fixture
def score(client: FlaskClient, cast: Cast, clock: FixedClock) -> Callable[..., Any]:
    """Score a record an hour later."""

    def score_later(kind: str, record_id: int, who: str = "Adam") -> Any:
        clock.advance(timedelta(hours=1))
        answer = client.post(f"/api/v1/{kind}/{record_id}/score", headers=cast.header(who))
        assert answer.status_code == 200, answer.get_json()
        clock.advance(timedelta(hours=1))
        return answer.get_json()

    return score_later


def history(client: FlaskClient, cast: Cast, path: str, who: str = "Ana") -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/{path}", headers=cast.header(who))
    assert answer.status_code == 200, answer.get_json()
    items: list[dict[str, Any]] = answer.get_json()["items"]
    return items


def test_nothing_said_before_time_alone_data_model_and_both(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, score: Callable[..., Any]
) -> None:
    promote(probability=lambda _: 0.2)
    score("leads", lead.id)
    score("leads", lead.id)
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"source": "referral"})
    score("leads", lead.id)
    promote(version="lead_scoring-2", probability=lambda _: 0.5)
    score("leads", lead.id)
    promote(version="lead_scoring-3", probability=lambda _: 0.3)
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=lead.id)
    score("leads", lead.id)
    causes = [item["cause"] for item in history(client, cast, f"leads/{lead.id}/predictions")]
    assert [cause["kinds"] for cause in causes] == [
        ["data", "model"],
        ["model"],
        ["data"],
        ["time"],
        ["first"],
    ]
    assert [cause["moved"] for cause in causes] == [0.3 - 0.5, 0.5 - 0.2, 0.0, 0.0, None]
    (changed,) = causes[2]["changes"]
    assert (changed["record_type"], changed["field"]) == ("lead", "source")
    assert (changed["old"], changed["new"], changed["by"]) == ("web_form", "referral", "Mara")
    (logged,) = causes[0]["changes"]
    assert (logged["record_type"], logged["action"], logged["by"]) == ("activity", "created", None)
    other = causes[1]["model"]
    assert (other["before"], other["after"], other["reason"]) == (
        "lead_scoring-1",
        "lead_scoring-2",
        "made by hand",
    )
    assert causes[2]["model"] is None


def test_what_no_feature_reads_is_no_cause(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, score: Callable[..., Any]
) -> None:
    promote()
    score("leads", lead.id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"external_id": "other", "territory": "south"})
    score("leads", lead.id)
    assert history(client, cast, f"leads/{lead.id}/predictions")[0]["cause"]["kinds"] == ["time"]


def test_what_happens_to_the_account_is_a_cause_for_its_deals_unless_it_may_not_be_seen(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, score: Callable[..., Any]
) -> None:
    promote("win_probability")
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Otto"].id)
        deal = make_deal(transaction, owner_id=cast["Ana"].id, account_id=account.id)
        other = make_deal(transaction, owner_id=cast["Otto"].id)
    score("deals", deal.id)
    with store.transaction() as transaction:
        make_order(transaction, account_id=account.id)
        move_deal(transaction, transaction.get(Deal, deal.id), "needs")
        move_deal(transaction, transaction.get(Deal, other.id), "needs")
    score("deals", deal.id)
    seen = history(client, cast, f"deals/{deal.id}/predictions", "Adam")[0]["cause"]
    assert {change["record_type"] for change in seen["changes"]} == {"order", "deal"}
    assert {change["record_id"] for change in seen["changes"] if change["record_type"] == "deal"} == {deal.id}
    anas = history(client, cast, f"deals/{deal.id}/predictions")[0]["cause"]
    assert (anas["kinds"], anas["changes_count"]) == (["data"], seen["changes_count"])
    assert {change["record_type"] for change in anas["changes"]} == {"deal"}, "the account is Otto's"


def test_what_was_moved_away_was_a_cause(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, score: Callable[..., Any]
) -> None:
    promote("churn")
    with store.transaction() as transaction:
        account, other = (make_account(transaction, owner_id=cast["Ana"].id) for _ in range(2))
        order = make_order(transaction, account_id=account.id)
    score("customers", account.id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(type(order), order.id), {"account_id": other.id})
    score("customers", account.id)
    (change,) = history(client, cast, f"customers/{account.id}/predictions", "Adam")[0]["cause"]["changes"]
    assert (change["record_type"], change["field"], change["new"]) == ("order", "account_id", other.id)


def test_values_of_hidden_fields_are_not_told(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, score: Callable[..., Any]
) -> None:
    promote()
    score("leads", lead.id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"source": "referral"})
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="source", read=False, write=False)
        )
    score("leads", lead.id)
    (change,) = history(client, cast, f"leads/{lead.id}/predictions")[0]["cause"]["changes"]
    assert (change["field"], change["old"], change["new"]) == (None, None, None)
    assert (
        history(client, cast, f"leads/{lead.id}/predictions", "Mara")[0]["cause"]["changes"][0]["new"]
        == "referral"
    )


def test_pages_tile_and_the_last_of_a_page_knows_the_one_before(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, score: Callable[..., Any]
) -> None:
    promote()
    ids = [score("leads", lead.id)["id"] for _ in range(5)][::-1]
    path, found, kinds = f"/api/v1/leads/{lead.id}/predictions?limit=2", [], []
    cursor = ""
    for _ in range(3):
        page = client.get(path + cursor, headers=cast.header("Ana")).get_json()
        found += [item["id"] for item in page["items"]]
        kinds += [item["cause"]["kinds"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert found == ids
    assert kinds == [["time"]] * 4 + [["first"]]
    assert page["next_cursor"] is None
    bad = client.get(f"{path}&cursor=abc", headers=cast.header("Ana"))
    assert bad.status_code == 422


def test_nothing_is_told_of_who_opted_out_or_to_who_may_not_see_it(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, score: Callable[..., Any]
) -> None:
    promote()
    score("leads", lead.id)
    path = f"/api/v1/leads/{lead.id}/predictions"
    assert client.get(path, headers=cast.header("Otto")).status_code == 404
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, lead.id), opted_out=True)
    assert history(client, cast, f"leads/{lead.id}/predictions") == []


# ------------------------------------------------------------------------------- the newest, as it is stored


def newest(client: FlaskClient, cast: Cast, path: str, who: str = "Ana") -> dict[str, Any]:
    answer = client.get(f"/api/v1/{path}/score", headers=cast.header(who))
    assert answer.status_code == 200, answer.get_json()
    given: dict[str, Any] = answer.get_json()
    return given


def test_the_newest_score_tells_its_age_and_why_it_would_be_another_one(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, promote: Promote, score: Callable[..., Any]
) -> None:
    model, path = promote(), f"leads/{lead.id}"
    assert newest(client, cast, path)["state"] == "never_scored"
    made = score("leads", lead.id)
    asked = len(model.asked)
    given = newest(client, cast, path)
    assert (given["prediction"], given["state"], given["age_seconds"]) == (made, "scored", 3600.0)
    assert (given["fresh"], given["stale_because"]) == (True, [])
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"source": "referral"})
    promote(version="lead_scoring-2")
    given = newest(client, cast, path)
    assert (given["fresh"], given["stale_because"]) == (False, ["data", "model"])
    assert len(model.asked) == asked, "nothing was scored"
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, lead.id), opted_out=True)
    given = newest(client, cast, path)
    assert (given["state"], given["prediction"]) == ("opted_out", None)
