"""Stages as an administrator sets them, and the board, the pages and the API that go by it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from crm_core.access import FieldRight
from crm_core.fields import Choice, FieldKind, Known, declare_field
from crm_core.operations import Done, Which, list_operations
from crm_core.pipelines import DEFAULT_PIPELINE, get_stage
from crm_core.stage_settings import list_stages, stage_of
from crm_core.store import Store
from tests.factories import make_deal
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.test_admin_people import submit
from tests.serving.test_board import FETCH, deal_now, send
from tests.serving.test_pages import text_of
from tests.serving.test_today import counted

NEEDS = "/admin/pipelines/default/needs"


def form(**other: Any) -> dict[str, Any]:
    """What the form of the stage `needs` sends when nothing was touched but `other`."""
    stage = get_stage("default", "needs")
    said = {"name_en": stage.name_en, "name_zh": stage.name_zh, "rotting_days": stage.rotting_days}
    return {**said, "required": list(stage.required), "note": "", "version": 0, **other}


def stage_now(store: Store) -> Any:
    with store.reading() as session:
        return stage_of(session, "default", "needs")


@pytest.fixture
def admin(app: Flask, cast: Cast) -> FlaskClient:
    """Adam, who administers."""
    return logged_in(app, cast["Adam"])


@pytest.fixture
def grade(store: Store) -> str:
    """A declared choice of deals."""
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="deal",
            name="custom.grade",
            kind=FieldKind.CHOICE,
            known=Known.HISTORY,
            label_en="Size class",
            label_zh="规模",
            choices=[Choice(value="big", label_en="Big"), Choice(value="small", label_en="Small")],
        )
    return "custom.grade"


def test_all_stages_are_shown_with_what_the_program_says(admin: FlaskClient) -> None:
    page = text_of(admin.get("/admin/pipelines").text)
    assert [stage.key for stage in DEFAULT_PIPELINE if f"{stage.name_en} {stage.key}" in page] == [
        stage.key for stage in DEFAULT_PIPELINE
    ]
    assert "Needed: Customer, Amount, Currency, Expected close" in page
    assert "set here" not in page


def test_a_name_that_is_set_is_read_on_every_page_in_its_language(
    app: Flask, store: Store, cast: Cast, admin: FlaskClient
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id, stage="needs").id
    answer = submit(admin, NEEDS, **form(name_en="Discovery", name_zh="需求挖掘", note="Ask who decides."))
    assert answer.location == "/admin/pipelines#stage-needs"
    ana, chinese = logged_in(app, cast["Ana"]), logged_in(app, cast["Ana"], "zh")
    for path in ("/deals/board", f"/deals/{deal}", "/deals"):
        assert "需求挖掘" in chinese.get(path).text
    ana = logged_in(app, cast["Ana"], "en")
    for path in ("/deals/board", f"/deals/{deal}", "/deals"):
        assert "Discovery" in ana.get(path).text
    page = text_of(admin.get("/admin/pipelines").text)
    assert "Discovery needs set here Ask who decides." in page


def test_days_that_are_set_are_the_rule_of_the_board(
    app: Flask, store: Store, cast: Cast, admin: FlaskClient
) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, owner_id=cast["Ana"].id, stage="needs")
    submit(admin, NEEDS, **form(rotting_days=4))
    assert "rule: up to 4 days" in text_of(logged_in(app, cast["Ana"]).get("/deals/board").text)


def test_what_is_required_is_asked_for_on_the_board_the_page_and_by_the_api(
    app: Flask, store: Store, cast: Cast, admin: FlaskClient, grade: str
) -> None:
    with store.transaction() as transaction:
        first, second, third = (make_deal(transaction, owner_id=cast["Ana"].id).id for _ in range(3))
    assert submit(admin, NEEDS, **form(required=[grade, "source"], note="Ask.")).status_code == 302
    ana = logged_in(app, cast["Ana"])

    asked = send(ana, first, "needs", 1)
    assert asked.status_code == 422
    assert re.findall(r' name="([\w.]+)"', asked.text)[3:] == ["source", "custom.grade"]
    assert "Size class" in asked.text
    assert "Ask." in asked.text
    wrong = send(ana, first, "needs", 1, FETCH, source="ad", **{grade: "huge"})
    assert wrong.status_code == 422
    assert "Size class: This is none of the choices." in wrong.text
    assert 'value="ad"' in wrong.text
    assert send(ana, first, "needs", 1, FETCH, source="ad", **{grade: "big"}).status_code == 200
    moved = deal_now(store, first)
    assert (moved.stage, moved.source, moved.custom) == ("needs", "ad", {"grade": "big"})

    token = csrf_of(ana.get(f"/deals/{second}").text)
    on_page = ana.post(f"/deals/{second}/stage", data={"csrf_token": token, "stage": "needs"})
    assert on_page.status_code == 422
    assert 'name="custom.grade"' in on_page.text
    assert deal_now(store, second).stage == "first_contact"

    api = app.test_client()
    refused = api.post(f"/api/v1/deals/{third}/stage", json={"stage": "needs"}, headers=cast.header("Ana"))
    assert refused.status_code == 422
    assert [each["field"] for each in refused.get_json()["errors"]] == ["source", "custom.grade"]
    patch = {"stage": "needs", "source": "ad", "custom": {"grade": "small"}}
    headers = {**cast.header("Ana"), "If-Match": '"1"'}
    assert api.patch(f"/api/v1/deals/{third}", json=patch, headers=headers).status_code == 200


def test_who_may_not_fill_what_is_required_is_told_that_somebody_else_has_to(
    app: Flask, store: Store, cast: Cast, admin: FlaskClient, grade: str
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id).id
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field=grade, read=True, write=False)
        )
    submit(admin, NEEDS, **form(required=[grade]))
    asked = send(logged_in(app, cast["Ana"]), deal, "needs", 1)
    assert asked.status_code == 422
    assert "you may not fill it in: Size class" in asked.text
    assert 'name="custom.grade"' not in asked.text


def test_a_won_deal_must_have_what_was_set_of_the_won_stage(
    app: Flask, store: Store, cast: Cast, admin: FlaskClient
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id).id
    contract = get_stage("default", "contract")
    said = {"name_en": contract.name_en, "name_zh": contract.name_zh, "rotting_days": 30, "version": 0}
    submit(admin, "/admin/pipelines/default/contract", **said, required="competitors")
    ana = logged_in(app, cast["Ana"])
    assert 'name="competitors"' in send(ana, deal, "won", 1).text
    assert send(ana, deal, "won", 1, competitors="Hill, Dale").status_code == 200
    won = deal_now(store, deal)
    assert (won.status, won.competitors) == ("won", ["Hill", "Dale"])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name_en": " "}, "A stage needs a name in both languages."),
        ({"name_zh": ""}, "A stage needs a name in both languages."),
        ({"rotting_days": "0"}, "Days are a whole number from 1 to 3650."),
        ({"rotting_days": "3651"}, "Days are a whole number from 1 to 3650."),
        ({"rotting_days": "1.5"}, "Days are a whole number from 1 to 3650."),
        ({"required": "colour"}, "colour"),
        ({"required": "stage"}, "stage"),
        ({"note": "x" * 501}, "at most 500 characters"),
        ({"name_en": "a\x00"}, "NUL"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_and_what_was_typed_is_kept(
    store: Store, admin: FlaskClient, wrong: dict[str, str], why: str
) -> None:
    answer = submit(admin, NEEDS, **form(**{"name_en": "Typed", **wrong}))
    assert answer.status_code == 422
    assert why in text_of(answer.text)
    assert 'value="Typed"' in answer.text or "name_en" in wrong
    assert stage_now(store) == get_stage("default", "needs")


@pytest.mark.parametrize("path", ["default/elsewhere", "other/needs", "default/elsewhere/reset"])
def test_a_stage_that_is_not_there_cannot_be_set(admin: FlaskClient, path: str) -> None:
    assert submit(admin, f"/admin/pipelines/{path}", **form()).status_code == 422


def test_of_two_administrators_the_second_sees_what_the_first_set(store: Store, admin: FlaskClient) -> None:
    submit(admin, NEEDS, **form(name_en="First"))
    answer = submit(admin, NEEDS, **form(name_en="Second"))
    assert answer.status_code == 409
    assert "2. First needs" in text_of(answer.text)
    assert 'value="Second"' in answer.text
    assert stage_now(store).name_en == "First"
    assert submit(admin, f"{NEEDS}/reset", version=0).status_code == 409
    assert submit(admin, NEEDS, **form(name_en="Second", version=1)).status_code == 302
    assert stage_now(store).name_en == "Second"


def test_a_stage_is_put_back_and_both_are_in_the_log(store: Store, cast: Cast, admin: FlaskClient) -> None:
    submit(admin, NEEDS, **form(name_en="Discovery", rotting_days=5, required=["source"]))
    submit(admin, NEEDS, **form(name_en="Discovery", rotting_days=5, required=["source"], version=1))
    submit(admin, f"{NEEDS}/reset", version=1)
    with store.reading() as session:
        assert not any(each.is_set for each in list_stages(session, "default"))
        found = list_operations(session, Which(done=Done.SETTING_SET), limit=5)
    assert [(row.user_id, row.detail) for row in found] == [
        (cast["Adam"].id, "default/needs: as it was"),
        (cast["Adam"].id, "default/needs: Discovery, 5 days, requires source"),
    ]
    assert "Setting set default/needs: Discovery" in text_of(admin.get("/admin/log?done=setting_set").text)


@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana"])
def test_only_administrators_set_stages(app: Flask, store: Store, cast: Cast, name: str) -> None:
    client = logged_in(app, cast[name])
    assert submit(client, NEEDS, **form(name_en="Mine")).status_code == 403
    assert submit(client, f"{NEEDS}/reset", version=0).status_code == 403
    assert stage_now(store) == get_stage("default", "needs")


def test_the_page_takes_at_most_twelve_queries(store: Store, admin: FlaskClient) -> None:
    admin.get("/admin/pipelines")
    with counted(store) as sent:
        admin.get("/admin/pipelines")
    assert len([each for each in sent if each.lstrip().upper().startswith(("SELECT", "WITH"))]) <= 12


def test_a_stage_is_named_in_chinese(app: Flask, cast: Cast) -> None:
    page: TestResponse = logged_in(app, cast["Adam"], "zh").get("/admin/pipelines")
    assert "需求沟通" in page.text
    assert "Needed:" not in page.text
