"""What people say of scores: kept, counted, told to those who see the record, and never learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.feedback import ScoreFeedback
from crm_core.opting_out import set_scoring_opt_out
from crm_core.personal import erase_person, export_person
from crm_core.records import Lead
from crm_core.store import Store
from serving.reports import save_report
from serving.settings import Settings
from tests.factories import make_lead
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]
VERSION = "lead_scoring-1"


@pytest.fixture
def lead(store: Store, cast: Cast) -> Lead:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id)


@pytest.fixture
def scored(client: FlaskClient, cast: Cast, lead: Lead, promote: Promote) -> int:
    """The prediction about Ana's lead."""
    promote()
    made = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana")).get_json()
    return int(made["id"])


def say(client: FlaskClient, cast: Cast, prediction: int, who: str = "Ana", **body: Any) -> Any:
    return client.post(f"/api/v1/predictions/{prediction}/feedback", json=body, headers=cast.header(who))


def listed(client: FlaskClient, cast: Cast, query: str = "", who: str = "Ana") -> list[tuple[Any, ...]]:
    items = client.get(f"/api/v1/feedback{query}", headers=cast.header(who)).get_json()["items"]
    return [(each["user_id"], each["verdict"], each["reason"], each["text"]) for each in items]


def test_the_last_words_of_each_on_a_prediction_count(
    client: FlaskClient, cast: Cast, scored: int, settings: Settings
) -> None:
    assert say(client, cast, scored, verdict="right").status_code == 201
    given = say(client, cast, scored, verdict="wrong", reason="too_high", text="They have no money.")
    assert (given.status_code, given.get_json()["model_version"]) == (201, VERSION)
    say(client, cast, scored, "Mara", verdict="right")
    say(client, cast, scored, "Dana", verdict="wrong", reason="too_high")
    ana, mara, dana = (cast[name].id for name in ("Ana", "Mara", "Dana"))
    assert listed(client, cast) == [
        (dana, "wrong", "too_high", None),
        (mara, "right", None, None),
        (ana, "wrong", "too_high", "They have no money."),
    ]
    told = client.get(f"/api/v1/predictions/{scored}", headers=cast.header("Ana")).get_json()
    assert [each["user_id"] for each in told["feedback"]] == [dana, mara, ana]
    save_report(settings.home_folder, VERSION, {})
    card = client.get(f"/api/v1/models/lead_scoring/versions/{VERSION}", headers=cast.header("Dana"))
    assert card.get_json()["feedback"] == {"right": 1, "wrong": 2, "by_reason": {"too_high": 2}}


def test_it_is_filtered_and_comes_in_pages(client: FlaskClient, cast: Cast, scored: int) -> None:
    for name in ("Ana", "Mara", "Dana", "Adam"):
        say(client, cast, scored, name, verdict="right" if name == "Ana" else "wrong")
    assert len(listed(client, cast, "?verdict=wrong")) == 3
    assert len(listed(client, cast, f"?user_id={cast['Mara'].id}&task=lead_scoring")) == 1
    assert listed(client, cast, "?task=churn") == []
    assert listed(client, cast, f"?model_version={VERSION}&reason=too_low") == []
    path, found, cursor = "/api/v1/feedback?limit=3", [], ""
    for _ in range(2):
        page = client.get(path + cursor, headers=cast.header("Ana")).get_json()
        found += [each["user_id"] for each in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [cast[name].id for name in ("Adam", "Dana", "Mara", "Ana")]
    assert page["next_cursor"] is None


def test_only_who_sees_the_score_may_say_or_read_anything(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, scored: int
) -> None:
    assert say(client, cast, scored, "Otto", verdict="wrong").status_code == 404
    say(client, cast, scored, verdict="right")
    assert listed(client, cast, who="Otto") == []
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, lead.id), opted_out=True)
    assert listed(client, cast) == []
    assert say(client, cast, scored, verdict="right").status_code == 409


def test_what_makes_no_sense_is_refused(client: FlaskClient, store: Store, cast: Cast, scored: int) -> None:
    assert say(client, cast, scored, verdict="right", reason="too_high").status_code == 422
    assert say(client, cast, scored, verdict="maybe").status_code == 422
    assert say(client, cast, scored, verdict="wrong", text="x" * 2_001).status_code == 422
    assert say(client, cast, scored + 99, verdict="right").status_code == 404
    with store.reading() as session:
        assert session.scalars(select(ScoreFeedback)).all() == []


def test_a_person_who_is_exported_gets_it_and_one_who_is_erased_is_taken_out_of_it(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead, scored: int, promote: Promote
) -> None:
    with store.transaction() as transaction:
        other = make_lead(transaction, name="Otto Kranz", owner_id=cast["Ana"].id)
    made = client.post(f"/api/v1/leads/{other.id}/score", headers=cast.header("Ana")).get_json()
    say(client, cast, scored, verdict="wrong", text="He told me that he is ill.")
    say(client, cast, made["id"], verdict="wrong", text="Write to wang@example.com first")
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"email": "wang@example.com"})
    with store.reading() as session:
        told = export_person(Reader(session, cast["Adam"]), record=("lead", lead.id))
    assert [each["prediction_id"] for each in told["feedback"]] == [scored, made["id"]]
    with store.transaction() as transaction:
        erase_person(transaction, record=("lead", lead.id))
    with store.reading() as session:
        first, second = session.scalars(select(ScoreFeedback).order_by(ScoreFeedback.id))
        assert (first.verdict, first.text) == ("wrong", None)
        assert "wang@example.com" not in (second.text or "")


def test_no_feature_and_no_model_reads_it() -> None:
    root = Path(__file__).parents[2]
    readers = [
        path.name
        for folder in ("features", "models")
        for path in (root / folder).glob("*.py")
        if "score_feedback" in path.read_text() or "crm_core.feedback" in path.read_text()
    ]
    assert readers == []
