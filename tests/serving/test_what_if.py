"""What goes with another score, and how often scores came true: over HTTP and on pages, within rights."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.deals import close_deal
from crm_core.opting_out import set_scoring_opt_out
from crm_core.records import Account, Deal, Lead
from crm_core.store import Store
from models.what_if import Hint
from serving.champions import Champions
from serving.reports import save_report
from serving.settings import Settings
from tests.factories import make_account, make_deal, make_lead
from tests.serving.conftest import Cast, logged_in
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]


def hint(action: str, change: float, **given: Any) -> Hint:
    """A hint from 50 %."""
    values: dict[str, Any] = {
        "action": action,
        "done_en": f"a {action} today",
        "done_zh": f"今天做{action}",
        "probability": 0.5 + change,
        "change": change,
        "log_odds": change * 4,
        "alike": abs(change) < 0.01,
        "en": f"Deals like this one with a {action} today are won otherwise",
        "zh": f"与此类似、今天做{action}的商机",
        "caution_en": None,
        "caution_zh": None,
        "fields": ("activity.kind", "activity.occurred_at"),
    }
    return Hint(**{**values, **given})


HINTS = (
    hint("meeting", 0.15, caution_en="hardly ever seen among deals", caution_zh="商机中几乎未见"),
    hint("quote", 0.1, fields=("deal.amount", "deal.stage")),
    hint("nod", 0.001),
    hint("mail", -0.05),
)


@pytest.fixture
def deal(store: Store, cast: Cast) -> Deal:
    with store.transaction() as transaction:
        return make_deal(transaction, owner_id=cast["Ana"].id)


def hide(store: Store, role: str, record_type: str, field: str) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role=role, record_type=record_type, field=field, read=False, write=False)
        )


def ask(client: FlaskClient, cast: Cast, path: str, who: str = "Ana") -> Any:
    return client.get(f"/api/v1/{path}/what-would-change", headers=cast.header(who))


# ------------------------------------------------------------------------------- over HTTP


def test_hints_come_as_they_are_ranked_with_what_they_do_not_promise(
    client: FlaskClient, cast: Cast, deal: Deal, promote: Promote
) -> None:
    promote("win_probability", hints=HINTS)
    answer = ask(client, cast, f"deals/{deal.id}")
    given = answer.get_json()
    assert answer.status_code == 200
    assert [each["action"] for each in given["hints"]] == ["meeting", "quote", "nod", "mail"]
    assert (given["probability"], given["high_is_good"], given["horizon_days"]) == (0.5, True, 90)
    assert (given["task"], given["model_version"]) == ("win_probability", "win_probability-1")
    assert "not a promise" in given["note_en"]
    assert given["hints"][0]["caution_zh"] == "商机中几乎未见"
    assert "fields" not in given["hints"][0]


@pytest.mark.parametrize("collection", ["leads", "deals", "customers"])
def test_all_that_is_scored_may_be_asked_about(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, collection: str
) -> None:
    make: dict[str, Callable[..., Lead | Deal | Account]] = {
        "leads": make_lead,
        "deals": make_deal,
        "customers": make_account,
    }
    with store.transaction() as transaction:
        made = make[collection](transaction, owner_id=cast["Ana"].id)
    promote({"leads": "lead_scoring", "deals": "win_probability", "customers": "churn"}[collection])
    given = ask(client, cast, f"{collection}/{made.id}")
    assert given.status_code == 200
    assert given.get_json()["high_is_good"] == (collection != "customers")


def test_a_hint_from_a_hidden_field_is_not_given(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal, promote: Promote
) -> None:
    promote("win_probability", hints=HINTS)
    hide(store, "rep", "deal", "amount")
    given = ask(client, cast, f"deals/{deal.id}").get_json()
    assert [each["action"] for each in given["hints"]] == ["meeting", "nod", "mail"]
    seen = ask(client, cast, f"deals/{deal.id}", "Mara").get_json()
    assert len(seen["hints"]) == 4


def test_whoever_may_not_see_scores_gets_no_hints(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal, promote: Promote
) -> None:
    promote("win_probability", hints=HINTS)
    hide(store, "rep", "deal", "probability")
    assert ask(client, cast, f"deals/{deal.id}").status_code == 403
    assert ask(client, cast, f"deals/{deal.id}", "Otto").status_code == 404


def test_of_closed_records_and_without_a_model_nothing_is_said(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal, promote: Promote
) -> None:
    none = ask(client, cast, f"deals/{deal.id}")
    assert (none.status_code, none.get_json()["type"]) == (409, "urn:crm:problem:no-champion")
    promote("win_probability", hints=HINTS)
    with store.transaction() as transaction:
        close_deal(transaction, transaction.get(Deal, deal.id), won=False)
    closed = ask(client, cast, f"deals/{deal.id}")
    assert (closed.status_code, closed.get_json()["type"]) == (409, "urn:crm:problem:deal-not-open")


def test_of_whom_too_little_is_known_nothing_is_invented(
    client: FlaskClient, cast: Cast, deal: Deal, promote: Promote
) -> None:
    promote("win_probability", probability=lambda record_id: None)
    answer = ask(client, cast, f"deals/{deal.id}")
    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:crm:problem:not-enough-data")


def test_an_unknown_type_is_refused(client: FlaskClient, cast: Cast) -> None:
    assert ask(client, cast, "contacts/1").status_code == 422


# ------------------------------------------------------------------------------- on pages


def scored(app: Flask, cast: Cast, champions: Champions, path: str, language: str = "en") -> str:
    """Score a record and return its page."""
    client = app.test_client()
    if path.startswith(("leads", "deals")):
        assert client.post(f"/api/v1/{path}/score", headers=cast.header("Ana")).status_code == 200
    champions.refresh()
    return logged_in(app, cast["Ana"], language).get(f"/{path}").text


def test_the_page_shows_what_goes_with_a_higher_chance_and_only_that(
    app: Flask, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> None:
    promote("win_probability", hints=HINTS)
    page = scored(app, cast, champions, f"deals/{deal.id}")
    assert "What goes with a higher chance" in page
    assert re.findall(r"with a (\w+) today", page) == ["meeting", "quote"]
    assert "With caution: hardly ever seen among deals" in page
    assert re.search(r"<strong>65%</strong>.*?▲.*?15", page, re.DOTALL)
    assert "not a promise" in page


def test_the_page_speaks_chinese_too(
    app: Flask, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> None:
    promote("win_probability", hints=HINTS)
    page = scored(app, cast, champions, f"deals/{deal.id}", "zh")
    assert "与更高概率相关的做法" in page
    assert "今天做meeting" in page
    assert "谨慎参考：商机中几乎未见" in page
    assert "并非承诺" in page


def test_todays_list_shows_the_same_as_the_page_of_the_record(
    app: Flask, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> None:
    promote("win_probability", hints=HINTS)
    scored(app, cast, champions, f"deals/{deal.id}")
    panel = logged_in(app, cast["Ana"], "en").get(f"/today/deals/{deal.id}").text
    assert re.findall(r"with a (\w+) today", panel) == ["meeting", "quote"]


def test_the_page_hides_hints_from_hidden_fields(
    app: Flask, store: Store, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> None:
    promote("win_probability", hints=HINTS)
    hide(store, "rep", "deal", "stage")
    page = scored(app, cast, champions, f"deals/{deal.id}")
    assert re.findall(r"with a (\w+) today", page) == ["meeting"]


def test_nothing_to_do_is_said_so(
    app: Flask, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> None:
    promote("win_probability", hints=HINTS[2:])
    page = scored(app, cast, champions, f"deals/{deal.id}")
    assert "Nothing that could be done today goes with a better one." in page


def test_a_score_by_another_model_has_no_hints(
    app: Flask, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> None:
    promote("win_probability", hints=HINTS)
    scored(app, cast, champions, f"deals/{deal.id}")
    promote("win_probability", version="win_probability-2", hints=HINTS)
    champions.refresh()
    page = logged_in(app, cast["Ana"]).get(f"/deals/{deal.id}").text
    assert "What goes with" not in page


def test_a_page_waits_for_no_model(app: Flask, cast: Cast, deal: Deal, promote: Promote) -> None:
    promote("win_probability", hints=HINTS)
    page = logged_in(app, cast["Ana"]).get(f"/deals/{deal.id}").text
    assert "What goes with" not in page


def test_who_opted_out_gets_no_hints(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, app: Flask, champions: Champions
) -> None:
    promote(hints=HINTS)
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
    scored(app, cast, champions, f"leads/{lead.id}")
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, lead.id), opted_out=True)
    assert ask(client, cast, f"leads/{lead.id}").status_code == 409
    assert "What goes with" not in logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text


# ------------------------------------------------------------------------------- calibration in counts

CALLED: list[dict[str, Any]] = [
    {"low": 0.0, "high": 0.4, "questions": 900, "records": 600, "happened": 0.12, "give_or_take": 0.02},
    {"low": 0.4, "high": 0.5, "questions": 300, "records": 240, "happened": 0.634, "give_or_take": 0.061},
    {"low": 0.6, "high": 1.0, "questions": 9, "records": 7, "happened": 1.0, "give_or_take": None},
]


def report(called: list[dict[str, Any]] | None, **more: Any) -> dict[str, Any]:
    """A training's report with two horizons, of which records show the second."""
    judged: list[dict[str, Any]] = [
        {"horizon_days": 30, "called": []},
        {"horizon_days": 90, "called": called},
    ]
    if called is None:
        del judged[1]["called"]
    return {"judged": {"horizons": judged}, "horizon_days": 90, **more}


@pytest.fixture
def page_with(
    app: Flask, settings: Settings, cast: Cast, deal: Deal, promote: Promote, champions: Champions
) -> Callable[..., str]:
    """Give the page of a deal with a probability, scored by a model with a report."""

    def show(probability: float, kept: dict[str, Any] | None, language: str = "en") -> str:
        promote("win_probability", probability=lambda record_id: probability)
        if kept is not None:
            save_report(settings.home_folder, "win_probability-1", kept)
        return scored(app, cast, champions, f"deals/{deal.id}", language)

    return show


def test_the_page_says_in_counts_how_often_such_scores_came_true(page_with: Callable[..., str]) -> None:
    page = page_with(0.45, report(CALLED))
    assert "Of 240 deals called 40–50%, 63% were won, give or take 6." in page


def test_the_page_says_it_in_chinese(page_with: Callable[..., str]) -> None:
    page = page_with(0.45, report(CALLED), "zh")
    assert "曾被评为 40–50% 的 240 个商机中，63% 赢单（误差约 6 个百分点）。" in page


def test_the_upper_end_of_a_bin_belongs_to_the_next(page_with: Callable[..., str]) -> None:
    page = page_with(0.4, report(CALLED))
    assert "Of 240 deals called 40–50%" in page


def test_too_few_are_said_to_be_too_few(page_with: Callable[..., str]) -> None:
    page = page_with(0.7, report(CALLED))
    assert "Only 7 records called 60–100% have been judged so far: too few" in page
    assert "100% were won" not in page


def test_what_was_never_called_so_is_said_so(page_with: Callable[..., str]) -> None:
    assert "No record called like this has been judged so far" in page_with(0.55, report(CALLED))


@pytest.mark.parametrize("kept", [None, report(None), {"judged": None}])
def test_without_counts_the_page_says_nothing(
    page_with: Callable[..., str], kept: dict[str, Any] | None
) -> None:
    page = page_with(0.45, kept)
    assert 'class="called"' not in page


def test_a_model_without_an_order_in_time_is_said_to_be_one(page_with: Callable[..., str]) -> None:
    page = page_with(0.45, report(CALLED, no_time_order=True))
    assert "Its data had no dates" in page


def test_an_account_has_its_counts_too(
    app: Flask, store: Store, settings: Settings, cast: Cast, champions: Champions, promote: Promote
) -> None:
    promote("churn", hints=(hint("meeting", -0.2), hint("mail", 0.1)))
    save_report(settings.home_folder, "churn-1", report(CALLED))
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        shown = transaction.get(Account, account.id)
        shown.probability, shown.model_version, shown.scored_at = 0.45, "churn-1", transaction.now
        shown.score, shown.grade = 45, "B"
    page = scored(app, cast, champions, f"customers/{account.id}")
    assert "Of 240 customers called 40–50%, 63% left, give or take 6." in page
    assert "What goes with less danger" in page
    assert re.findall(r"with a (\w+) today", page) == ["meeting"]
    assert "▼" in page
