"""All horizons, the expected time, money at risk, and what is shown where nothing can be said."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.changes import Source
from crm_core.exporting import export_records
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Account, Lead
from crm_core.store import Store
from serving.champions import TASK_OF
from serving.cli import main
from tests.factories import make_account, make_lead
from tests.serving.conftest import Cast, logged_in
from tests.serving.hand_made import HandMadeModel, prediction
from tests.serving.test_pages import text_of

WITHIN = {30: 0.12, 60: 0.21, 90: 0.3, 180: None}
WORTH = [{"currency": "EUR", "amount": "48000.00", "of": "contract"}]
STRANGE: list[dict[str, Any]] = [
    {
        "group": "not_enough_data",
        "feature": "n",
        "value": 2,
        "en": "2 things are unlike",
        "zh": "有 2 项不同",
    },
    {
        "group": "source",
        "feature": "source",
        "en": "drone: never seen",
        "zh": "没有见过",
        "fields": ["lead.source"],
    },
]


@pytest.fixture
def lead(store: Store, cast: Cast) -> Lead:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id)


@pytest.fixture
def customer(store: Store, cast: Cast) -> Account:
    with store.transaction() as transaction:
        return make_account(transaction, owner_id=cast["Ana"].id)


def full(record_id: int, **changed: Any) -> NewPrediction:
    """A prediction with everything that there may be."""
    made = replace(prediction(record_id, 0.3), within=WITHIN, expected_days=41.4)
    return replace(made, **changed)


def nothing(record_id: int) -> NewPrediction:
    """What is said of a record unlike any that a model learned from."""
    reasons = [reason | {"log_odds": 0.0} for reason in STRANGE]
    return NewPrediction(record_id=record_id, probability=None, score=None, grade=None, reasons=reasons)


def points(record_id: int) -> NewPrediction:
    """What expert points say: a score, and no probability."""
    return replace(prediction(record_id, 0.3), probability=None, score=77, grade="B")


def say(store: Store, record_type: str, *said: NewPrediction) -> None:
    with store.transaction(source=Source.MODEL) as transaction:
        write_predictions(
            transaction,
            task=TASK_OF[record_type],
            record_type=record_type,
            as_of=transaction.now,
            model_version="1",
            horizon_days=90,
            predictions=said,
        )


def hide(store: Store, role: str, record_type: str, field: str) -> None:
    with store.transaction() as transaction:
        right = FieldRight(role=role, record_type=record_type, field=field, read=False, write=False)
        transaction.session.add(right)


def get(client: FlaskClient, cast: Cast, path: str, name: str = "Ana") -> Any:
    return client.get(f"/api/v1{path}", headers=cast.header(name)).get_json()


def test_the_api_gives_all_horizons_and_says_which_are_not_known(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead
) -> None:
    say(store, "lead", full(lead.id))
    shown = get(client, cast, f"/leads/{lead.id}")["prediction"]
    (kept,) = get(client, cast, f"/leads/{lead.id}/predictions")["items"]
    for given in (shown, kept, get(client, cast, "/leads")["items"][0]["prediction"]):
        assert {one["days"]: one["probability"] for one in given["within"]} == WITHIN
        assert [one["why"] for one in given["within"]][:3] == [None] * 3
        assert "followed" in given["within"][3]["why"]
        assert given["expected_days"] == 41.4


def test_scoring_now_answers_with_all_horizons(
    client: FlaskClient,
    cast: Cast,
    lead: Lead,
    promote: Callable[..., HandMadeModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = promote()
    monkeypatch.setattr(model, "score", lambda _store, ids, _as_of: [full(one) for one in ids])
    given = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana")).get_json()
    assert [one["probability"] for one in given["within"]] == list(WITHIN.values())
    assert (given["expected_days"], given["money_at_risk"]) == (41.4, [])


def test_what_was_said_before_horizons_were_kept_is_still_given(
    client: FlaskClient, store: Store, cast: Cast, lead: Lead
) -> None:
    say(store, "lead", prediction(lead.id, 0.3))
    shown = get(client, cast, f"/leads/{lead.id}")["prediction"]
    assert (shown["state"], shown["within"], shown["expected_days"]) == ("scored", [], None)


def test_whoever_may_not_see_the_probability_sees_no_horizon(
    client: FlaskClient, app: Flask, store: Store, cast: Cast, lead: Lead
) -> None:
    say(store, "lead", full(lead.id))
    hide(store, "rep", "lead", "probability")
    assert get(client, cast, f"/leads/{lead.id}")["prediction"] is None
    assert get(client, cast, f"/leads/{lead.id}/predictions")["status"] == 403
    text = text_of(logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text)
    assert "30 days" not in text.split("What happened")[0]
    assert "41 days" not in text


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("30 days 12%", "60 days 21%", "180 days –", "too few have been followed", "after 41 days")),
        ("zh", ("30 天 12%", "60 天 21%", "180 天 –", "跟踪时间足够长的记录太少", "平均在 41 天后")),
    ],
)
def test_a_page_shows_all_horizons_and_when(
    app: Flask, store: Store, cast: Cast, lead: Lead, language: str, words: tuple[str, ...]
) -> None:
    say(store, "lead", full(lead.id))
    text = text_of(logged_in(app, cast["Ana"], language).get(f"/leads/{lead.id}").text)
    for word in words:
        assert word in text
    assert ("within 90 days: after" in text) == (language == "en")


@pytest.mark.parametrize(
    ("language", "words"), [("en", "€14,400 of €48,000 a year"), ("zh", "€48,000 中的 €14,400")]
)
def test_a_customer_shows_the_money_at_risk(
    app: Flask, store: Store, cast: Cast, customer: Account, language: str, words: str
) -> None:
    say(store, "account", full(customer.id, yearly_value=WORTH))
    assert words in text_of(logged_in(app, cast["Ana"], language).get(f"/customers/{customer.id}").text)


def test_money_at_risk_is_told_as_far_as_its_source_may_be_seen(
    client: FlaskClient, app: Flask, store: Store, cast: Cast, customer: Account
) -> None:
    orders = {"currency": "CNY", "amount": "1000.00", "of": "order"}
    say(store, "account", full(customer.id, yearly_value=[*WORTH, orders]))
    path = f"/customers/{customer.id}/predictions"
    told = [
        (one["currency"], one["yearly"], one["at_risk"])
        for one in get(client, cast, path)["items"][0]["money_at_risk"]
    ]
    assert told == [("EUR", "48000.00", "14400.00"), ("CNY", "1000.00", "300.00")]
    hide(store, "rep", "contract", "value")
    (money,) = get(client, cast, path)["items"][0]["money_at_risk"]
    assert money["currency"] == "CNY"
    assert "14,400" not in logged_in(app, cast["Ana"]).get(f"/customers/{customer.id}").text


def test_a_customer_can_be_scored_over_http(
    client: FlaskClient,
    cast: Cast,
    customer: Account,
    promote: Callable[..., HandMadeModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = promote("churn")
    monkeypatch.setattr(
        model, "score", lambda _store, ids, _as_of: [full(i, yearly_value=WORTH) for i in ids]
    )
    given = client.post(f"/api/v1/customers/{customer.id}/score", headers=cast.header("Ana")).get_json()
    assert given["money_at_risk"][0]["at_risk"] == "14400.00"
    assert (
        client.post(f"/api/v1/customers/{customer.id}/score", headers=cast.header("Otto")).status_code == 404
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_record_unlike_any_says_in_what_on_its_page(
    app: Flask, store: Store, cast: Cast, lead: Lead, language: str
) -> None:
    say(store, "lead", nothing(lead.id))
    client = logged_in(app, cast["Ana"], language)
    text = text_of(client.get(f"/leads/{lead.id}").text)
    for reason in STRANGE:
        assert reason[language] in text
    listed = text_of(client.get("/leads").text)
    assert {"en": "Not enough data", "zh": "数据不足"}[language] in listed


def test_what_is_strange_in_a_hidden_field_is_not_told(
    client: FlaskClient, app: Flask, store: Store, cast: Cast, lead: Lead
) -> None:
    say(store, "lead", nothing(lead.id))
    hide(store, "rep", "lead", "source")
    shown = get(client, cast, f"/leads/{lead.id}")["prediction"]
    assert (shown["state"], shown["probability"], shown["score"], shown["grade"]) == (
        "not_enough_data",
        None,
        None,
        None,
    )
    assert "drone" not in str(shown)
    assert "drone" not in logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Expert points, no outcomes yet"), ("zh", "专家打分，尚无结果")]
)
def test_expert_points_give_a_grade_and_no_probability(
    client: FlaskClient, app: Flask, store: Store, cast: Cast, lead: Lead, language: str, words: str
) -> None:
    say(store, "lead", points(lead.id))
    shown = get(client, cast, f"/leads/{lead.id}")["prediction"]
    assert (shown["state"], shown["probability"], shown["score"], shown["grade"]) == (
        "rank_only",
        None,
        77,
        "B",
    )
    browser = logged_in(app, cast["Ana"], language)
    for path in (f"/leads/{lead.id}", "/leads"):
        text = text_of(browser.get(path).text)
        assert words in text
        assert "77" in text
    assert "%" not in text_of(browser.get(f"/leads/{lead.id}").text).split("2 calls")[0]


def test_those_without_a_probability_come_last_and_pages_go_on_over_them(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(6)]
    likely, unlikely, strange, ranked, other, fresh = ids
    say(
        store,
        "lead",
        nothing(strange),
        full(unlikely, probability=0.1),
        points(ranked),
        full(likely),
        nothing(other),
    )
    found: list[int] = []
    cursor = ""
    for _ in range(3):
        page = get(client, cast, f"/leads?limit=2{cursor}")
        found += [item["id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [likely, unlikely, strange, ranked, other, fresh]
    upwards = get(client, cast, "/leads?order=probability")["items"]
    assert [item["id"] for item in upwards][:2] == [unlikely, likely]


def test_exports_hold_what_was_said_and_leave_empty_what_was_not(
    store: Store, cast: Cast, lead: Lead, tmp_path: Path
) -> None:
    with store.transaction() as transaction:
        other = make_lead(transaction, owner_id=cast["Ana"].id).id
    say(store, "lead", full(lead.id, yearly_value=WORTH), nothing(other))
    export_records(store, tmp_path, format="csv", names=["prediction", "lead"], user_id=cast["Adam"].id)
    with (tmp_path / "prediction.csv").open(encoding="utf-8", newline="") as file:
        said, empty = csv.DictReader(file)
    assert said["within"] == '{"180":null,"30":0.12,"60":0.21,"90":0.3}'
    assert (said["expected_days"], empty["within"], empty["probability"], empty["score"]) == (
        "41.4",
        "",
        "",
        "",
    )
    assert "48000.00" in said["yearly_value"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_shows_what_is_said(
    store: Store, cast: Cast, lead: Lead, customer: Account, home: Path
) -> None:
    with store.transaction() as transaction:
        strange, ranked, new = (make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(3))
    say(store, "lead", full(lead.id), nothing(strange), points(ranked))
    say(store, "account", full(customer.id, yearly_value=WORTH))
    told = run("said", "lead", lead.id, "--home", home)
    for words in ("180", "not known", "12.0%", "If it happens within 90 days: after 41 days", "2 calls"):
        assert words in told
    for record_type, record_id, words in (
        ("account", customer.id, "Money at risk: 14400.00 of 48000.00 EUR a year"),
        ("lead", strange, "not enough data"),
        ("lead", ranked, "expert points: 77 of 100"),
        ("lead", new, "Nothing was said"),
    ):
        assert words in run("said", record_type, record_id, "--home", home)
    plain = json.loads(run("said", "lead", lead.id, "--home", home, "--json"))
    assert plain["prediction"]["expected_days"] == 41.4
