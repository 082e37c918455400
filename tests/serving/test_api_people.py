"""Search, duplicates, masks and personal data over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core.access import FieldRight, RoleRight, Scope
from crm_core.changes import Change
from crm_core.personal import set_scoring_opt_out
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Contact, Deal, Lead
from crm_core.store import Store
from tests.factories import make_activity, make_contact, make_deal, make_lead
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

MAIL = "wang.fang@fangda.example"
API = "/api/v1"


@pytest.fixture
def call(client: FlaskClient, cast: Cast) -> Callable[..., Any]:
    def send(name: str, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = client.open(API + path, method=method, json=body, headers=cast.header(name))
        assert answer.status_code == status, answer.text
        return answer.get_json()

    return send


@pytest.fixture
def leads(store: Store, cast: Cast) -> list[int]:
    """Ana's lead and its copy, and Otto's that is somebody else."""
    with store.transaction() as transaction:
        mine = {"owner_id": cast["Ana"].id, "email": MAIL}
        ids = [make_lead(transaction, **mine).id, make_lead(transaction, **mine).id]
        other = make_lead(
            transaction, name="Jo Berg", company="Berg", email="jo@berg.example", owner_id=cast["Otto"].id
        )
        make_activity(transaction, lead_id=other.id, subject="Fangda was mentioned")
        return [*ids, other.id]


def score(store: Store, model: type[Lead | Deal], record_id: int, fields: list[str] | None) -> None:
    reason = {"group": "money", "feature": "amount", "value": 12_000.0, "log_odds": 0.7}
    reason |= {"en": "Amount 12,000", "zh": "金额 12,000"}
    if fields is not None:
        reason["fields"] = fields
    with store.transaction() as transaction:
        write_predictions(
            transaction,
            task="lead_scoring" if model is Lead else "win_probability",
            record_type=model.record_type,
            as_of=transaction.now,
            model_version="v1",
            horizon_days=90,
            predictions=[
                NewPrediction(record_id=record_id, probability=0.5, score=50, grade="B", reasons=[reason])
            ],
        )


def hide(store: Store, record_type: str, field: str, role: str = "rep") -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role=role, record_type=record_type, field=field, read=False, write=False)
        )


def test_search_pages_through_what_may_be_seen(call: Callable[..., Any], leads: list[int]) -> None:
    first = call("Ana", "GET", "/search?q=Fangda&limit=1")
    second = call("Ana", "GET", f"/search?q=Fangda&limit=1&cursor={first['next_cursor']}")
    assert {first["items"][0]["id"], second["items"][0]["id"]} == set(leads[:2])
    assert second["next_cursor"] is None
    assert {hit["record_type"] for hit in call("Adam", "GET", "/search?q=Fangda")["items"]} == {
        "lead",
        "activity",
    }
    assert call("Ana", "GET", "/search?q=mentioned")["items"] == []


@pytest.mark.parametrize(
    "query", ["q=", "q=x&type=ship", "q=x&cursor=x", "q=x&cursor=nan:lead:1", "q=x&limit=0", ""]
)
def test_a_search_that_makes_no_sense_is_refused(call: Callable[..., Any], query: str) -> None:
    call("Ana", "GET", f"/search?{query}", status=422)


def test_a_refused_search_names_what_was_asked(call: Callable[..., Any]) -> None:
    assert call("Ana", "GET", "/search?q=x&type=ship", status=422)["field"] == "type"
    assert call("Ana", "GET", "/search?q=x&cursor=x", status=422)["field"] == "cursor"


def test_a_person_that_is_not_told_is_asked_for_in_plain_words(call: Callable[..., Any]) -> None:
    problem = call("Adam", "POST", "/people/find", {}, status=422)
    assert problem["detail"] == "expected either mail, or record_type and id"


def test_a_field_that_is_hidden_is_in_no_answer(
    call: Callable[..., Any], store: Store, leads: list[int]
) -> None:
    hide(store, "lead", "email")
    read = call("Ana", "GET", f"/leads/{leads[0]}")
    assert (read["email"], read["withheld"]) == (None, ["email"])
    assert MAIL not in str(call("Ana", "GET", "/leads"))
    assert call("Ana", "GET", f"/leads?search={MAIL}")["items"] == []
    assert {hit["field"] for hit in call("Adam", "GET", f"/search?q={MAIL}")["items"]} == {"email"}
    assert "email" not in {hit["field"] for hit in call("Ana", "GET", f"/search?q={MAIL}")["items"]}
    (pair,) = call("Ana", "GET", "/duplicates?record_type=lead")["items"]
    assert MAIL not in str(pair)
    assert not [each for each in pair["evidence"] if each["fact"].startswith("mail")]
    assert call("Mara", "GET", f"/leads/{leads[0]}")["email"] == MAIL
    call("Ana", "POST", "/leads", {"name": "Li", "email": "li@wei.example"}, status=403)


@pytest.mark.parametrize("fields", [["deal.amount"], None])
def test_a_reason_from_a_hidden_field_is_told_nowhere(
    call: Callable[..., Any], store: Store, cast: Cast, fields: list[str] | None
) -> None:
    """One that does not say where it comes from is hidden too, once anything is hidden from the role."""
    hide(store, "deal", "amount")
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id).id
    score(store, Deal, deal, fields)
    for path in (f"/deals/{deal}", "/deals", f"/deals/{deal}/predictions"):
        assert "12,000" not in str(call("Ana", "GET", path)), path
        assert "12,000" in str(call("Mara", "GET", path)), path
    assert call("Ana", "GET", f"/deals/{deal}")["prediction"]["reasons"][0]["log_odds"] == 0.7


def test_who_may_not_see_a_probability_sees_no_score(
    call: Callable[..., Any], store: Store, leads: list[int], promote: Callable[..., HandMadeModel]
) -> None:
    promote()
    score(store, Lead, leads[0], ["lead.source"])
    hide(store, "lead", "probability")
    assert call("Ana", "GET", f"/leads/{leads[0]}")["prediction"] is None
    assert len(call("Ana", "GET", "/leads")["items"]) == 2
    call("Ana", "GET", f"/leads/{leads[0]}/predictions", status=403)
    call("Ana", "POST", f"/leads/{leads[0]}/score", status=403)


def test_who_only_reads_a_record_logs_nothing_on_it(
    call: Callable[..., Any], store: Store, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        transaction.session.add(RoleRight(role="rep", record_type="lead", read=Scope.ALL, write=Scope.OWN))
    call("Ana", "GET", f"/leads/{leads[2]}")
    call("Ana", "POST", f"/leads/{leads[2]}/activities", {"kind": "call"}, status=403)
    assert call("Ana", "GET", f"/leads/{leads[2]}/activities")["items"] == []  # hers are OWN still


def test_a_merge_may_be_sent_again(call: Callable[..., Any], store: Store, leads: list[int]) -> None:
    for _ in range(2):
        merged = call("Ana", "POST", f"/leads/{leads[0]}/merge", {"gone_id": leads[1]})
    assert merged == {"record_type": "lead", "kept_id": leads[0], "gone_id": leads[1]}
    call("Ana", "POST", f"/leads/{leads[0]}/merge", {"gone_id": leads[2]}, status=404)
    call("Adam", "POST", f"/leads/{leads[0]}/merge", {"gone_id": leads[0]}, status=409)
    call("Adam", "POST", f"/deals/{leads[0]}/merge", {"gone_id": leads[0]}, status=422)


def test_what_is_distinct_is_listed_no_more(call: Callable[..., Any], leads: list[int]) -> None:
    assert call("Ana", "GET", "/duplicates?record_type=lead")["total"] == 1
    call("Ana", "POST", f"/leads/{leads[1]}/distinct", {"other_id": leads[0]})
    assert call("Ana", "GET", "/duplicates?record_type=lead")["total"] == 0


def test_duplicates_come_in_pages(call: Callable[..., Any], store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        for number in range(3):
            for _ in range(2):
                make_contact(transaction, name=f"N{number}", email=f"n{number}@x{number}.example")
    first = call("Adam", "GET", "/duplicates?record_type=contact&limit=2")
    rest = call("Adam", "GET", f"/duplicates?record_type=contact&limit=2&cursor={first['next_cursor']}")
    assert (first["total"], len(first["items"]), len(rest["items"]), rest["next_cursor"]) == (3, 2, 1, None)


def test_an_opt_out_shows_no_score_and_is_not_scored(
    call: Callable[..., Any], store: Store, leads: list[int], promote: Callable[..., HandMadeModel]
) -> None:
    promote()
    score(store, Lead, leads[0], ["lead.source"])
    noted = call("Ana", "POST", f"/leads/{leads[0]}/scoring-opt-out", {"opted_out": True})
    assert {each["id"] for each in noted["records"]} == set(leads[:2])
    shown = call("Ana", "GET", f"/leads/{leads[0]}")["prediction"]
    assert (shown["state"], shown["probability"], shown["reasons"]) == ("opted_out", None, [])
    assert call("Ana", "GET", f"/leads/{leads[0]}/predictions")["items"] == []
    refused = call("Ana", "POST", f"/leads/{leads[0]}/score", status=409)
    assert refused["type"].endswith("scoring-opt-out")
    with store.reading() as session:
        lead = session.get_one(Lead, leads[0])
        (change,) = session.scalars(
            select(Change).where(Change.field == "scoring_opt_out", Change.record_id == leads[0])
        )
    assert (lead.score, lead.probability, change.new, change.source) == (None, None, True, "api")
    call("Ana", "POST", f"/leads/{leads[0]}/scoring-opt-out", {"opted_out": False})
    assert call("Ana", "GET", f"/leads/{leads[0]}")["prediction"] is None


def test_a_deal_of_somebody_who_opted_out_says_so(call: Callable[..., Any], store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction)
        deal = make_deal(transaction, owner_id=cast["Ana"].id, contact_id=contact.id).id
    score(store, Deal, deal, ["deal.amount"])
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Contact, contact.id), opted_out=True)
    (item,) = call("Ana", "GET", "/deals")["items"]
    assert item["prediction"]["state"] == "opted_out"


def test_a_person_is_found_exported_and_erased(
    call: Callable[..., Any], store: Store, cast: Cast, leads: list[int]
) -> None:
    asked = {"mail": MAIL}
    assert {each["id"] for each in call("Adam", "POST", "/people/find", asked)["records"]} == set(leads[:2])
    told = call("Adam", "POST", "/people/export", {"record_type": "lead", "id": leads[0]})
    assert {each["id"] for each in told["records"]} == set(leads[:2])
    again = call("Adam", "POST", "/people/export", asked)
    assert [change["action"] for change in again["changes"]].count("exported") == 2
    done = call("Adam", "POST", "/people/erase", asked)
    assert {each["id"] for each in done["records"]} == set(leads[:2])
    with store.reading() as session:
        rows = session.scalars(select(Change).where(Change.action.in_(["exported", "erased"]))).all()
        assert {(row.action, row.actor_id, row.source) for row in rows} == {
            ("exported", cast["Adam"].id, "api"),
            ("erased", cast["Adam"].id, "api"),
        }
        assert session.get_one(Lead, leads[0]).email is None


@pytest.mark.parametrize(
    "body", [{}, {"mail": MAIL, "record_type": "lead", "id": 1}, {"id": 1}, {"record_type": "deal", "id": 1}]
)
def test_it_must_be_clear_who_is_meant(call: Callable[..., Any], body: dict[str, Any]) -> None:
    call("Adam", "POST", "/people/find", body, status=422)
