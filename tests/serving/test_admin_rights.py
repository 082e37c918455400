"""Rights, fields, keys, webhooks and the log, as an administrator looks after them on the pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from crm_core.access import DEFAULT_RIGHTS, Right, Scope
from crm_core.errors import InvalidValueError
from crm_core.operations import Done, Which, list_operations
from crm_core.records import Role
from crm_core.rights import list_rights, set_field_right, set_right
from crm_core.store import Store
from crm_core.tokens import create_token
from tests.factories import make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.test_admin_people import SECRET, submit
from tests.serving.test_pages import text_of


def test_a_right_that_is_taken_holds_on_pages_and_in_the_api(app: Flask, cast: Cast, store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, company="Bens", owner_id=cast["Ben"].id).id
    admin, ana = logged_in(app, cast["Adam"]), logged_in(app, cast["Ana"])
    own = {"read:lead": "team", "write:lead": "own"}
    assert ana.get(f"/leads/{lead}").status_code == 404
    assert submit(admin, "/admin/rights/rep", **own).status_code == 302
    assert ana.get(f"/leads/{lead}").status_code == 200
    read = app.test_client().get(f"/api/v1/leads/{lead}", headers=cast.header("Ana"))
    assert read.status_code == 200
    submit(admin, "/admin/rights/rep", **{"read:lead": "none", "write:lead": "none"})
    assert ana.get(f"/leads/{lead}").status_code == 404
    assert "Bens" not in ana.get("/leads").text


def test_a_right_that_equals_the_default_is_no_setting(app: Flask, cast: Cast, store: Store) -> None:
    admin = logged_in(app, cast["Adam"])
    for reach in ("all", "own"):
        submit(admin, "/admin/rights/rep", **{"read:deal": reach, "write:deal": "own"})
        with store.reading() as session:
            (deal,) = [each for each in list_rights(session, Role.REP) if each.record_type == "deal"]
        assert deal.right.read == reach
        assert deal.is_set is (reach == "all")


def test_what_the_form_does_not_say_stays(app: Flask, cast: Cast, store: Store) -> None:
    admin = logged_in(app, cast["Adam"])
    submit(admin, "/admin/rights/analyst", **{"read:ticket": "none"})
    with store.reading() as session:
        rights = {each.record_type: each for each in list_rights(session, Role.ANALYST)}
    assert [name for name, each in rights.items() if each.is_set] == ["ticket"]
    assert rights["lead"].right == DEFAULT_RIGHTS[Role.ANALYST, "lead"]


@pytest.mark.parametrize(
    "wrong",
    [{"read:lead": "own", "write:lead": "all"}, {"read:lead": "everything"}, {"write:lead": "\x00"}],
    ids=str,
)
def test_a_right_that_makes_no_sense_is_refused_whole(
    app: Flask, cast: Cast, store: Store, wrong: dict[str, Any]
) -> None:
    answer = submit(logged_in(app, cast["Adam"]), "/admin/rights/rep", **{"read:deal": "all", **wrong})
    assert answer.status_code == 422
    with store.reading() as session:
        assert not [each for each in list_rights(session, Role.REP) if each.is_set]


def test_nobody_takes_rights_from_administrators(store: Store) -> None:
    with store.transaction() as transaction:
        with pytest.raises(InvalidValueError, match="role"):
            set_right(transaction.session, "admin", "lead", Right())
        with pytest.raises(InvalidValueError, match="role"):
            set_field_right(transaction.session, "admin", "lead", "phone", read=False, write=False)


def test_a_hidden_field_is_gone_and_comes_back(app: Flask, cast: Cast, store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, phone="+86 10 5555", owner_id=cast["Ana"].id).id
    admin, ana = logged_in(app, cast["Adam"]), logged_in(app, cast["Ana"])
    assert "5555" in ana.get(f"/leads/{lead}").text
    assert submit(admin, "/admin/rights/rep/fields", field="lead.phone", right="hidden").status_code == 302
    assert "5555" not in ana.get(f"/leads/{lead}").text
    assert "5555" not in app.test_client().get(f"/api/v1/leads/{lead}", headers=cast.header("Ana")).text
    submit(admin, "/admin/rights/rep/fields/reset", field="lead.phone")
    assert "5555" in ana.get(f"/leads/{lead}").text


@pytest.mark.parametrize(
    ("field", "right"),
    [
        ("lead.password", "hidden"),
        ("lead.id", "hidden"),
        ("user.password_hash", "shown"),
        ("dragon.name", "hidden"),
        ("lead.phone", "stolen"),
        ("", "hidden"),
    ],
)
def test_a_field_that_cannot_be_set_is_refused(app: Flask, cast: Cast, field: str, right: str) -> None:
    answer = submit(logged_in(app, cast["Adam"]), "/admin/rights/rep/fields", field=field, right=right)
    assert answer.status_code == 422


def test_who_set_which_right_is_in_the_log(app: Flask, cast: Cast, store: Store) -> None:
    admin = logged_in(app, cast["Adam"])
    submit(admin, "/admin/rights/manager", **{"read:ticket": "all", "write:ticket": "team"})
    submit(admin, "/admin/rights/rep/fields", field="lead.phone", right="shown")
    with store.reading() as session:
        found = list_operations(session, Which(done=Done.RIGHT_SET), limit=5)
    assert [(row.user_id, row.record_type, row.detail) for row in found] == [
        (cast["Adam"].id, "lead", "rep: phone shown"),
        (cast["Adam"].id, "ticket", "manager: read all, write team"),
    ]
    page = text_of(admin.get("/admin/log?done=right_set").text)
    assert "manager: read all, write team" in page
    assert "Logged in" not in page.split("When", 1)[1]


def test_what_was_never_set_is_reset_without_a_word(app: Flask, cast: Cast, store: Store) -> None:
    admin = logged_in(app, cast["Adam"])
    assert submit(admin, "/admin/rights/rep/fields/reset", field="lead.Somebody Secret").status_code == 302
    with store.reading() as session:
        assert not list_operations(session, Which(done=Done.RIGHT_SET), limit=5)


def test_rights_of_declared_types_follow_those_of_other_records_until_set(
    app: Flask, cast: Cast, store: Store
) -> None:
    admin = logged_in(app, cast["Adam"])
    made = submit(
        admin, "/admin/types", name="project", label_en="Project", label_zh="项目", link=["account"]
    )
    assert made.status_code == 302
    with store.transaction() as transaction:
        set_right(transaction.session, "rep", "custom_record", Right(read=Scope.ALL))
    with store.reading() as session:
        rights = {each.record_type: each for each in list_rights(session, Role.REP)}
    assert (rights["project"].right.read, rights["project"].is_set) == (Scope.ALL, False)


# ------------------------------------------------------------------------------------------------ fields


def test_a_field_is_declared_changed_retired_and_restored(app: Flask, cast: Cast) -> None:
    admin = logged_in(app, cast["Adam"], "zh")
    given = {
        "record_type": "account",
        "name": "grade",
        "kind": "choice",
        "known": "history",
        "label_en": "Grade",
        "label_zh": "客户等级",
        "choices": "A=Gold=金\nB=Silver=银",
    }
    assert submit(admin, "/admin/fields", **given).status_code == 302
    assert "客户等级" in admin.get("/admin/fields").text
    path = "/admin/fields/account/custom.grade"
    assert submit(admin, path, label_zh="级别", choices="C=Iron=铁").status_code == 302
    page = admin.get("/admin/fields").text
    assert "级别" in page
    assert "C=Iron=铁" in page
    assert submit(admin, f"{path}/retire").status_code == 302
    assert "已停用" in admin.get("/admin/fields").text
    assert submit(admin, f"{path}/restore").status_code == 302
    assert "已停用" not in admin.get("/admin/fields").text


@pytest.mark.parametrize(
    "wrong", [{"kind": "colour"}, {"known": ""}, {"name": ""}, {"record_type": "dragon"}], ids=str
)
def test_a_field_that_makes_no_sense_is_refused_and_the_form_keeps_what_was_typed(
    app: Flask, cast: Cast, wrong: dict[str, Any]
) -> None:
    given = {
        "record_type": "lead",
        "name": "tender",
        "kind": "flag",
        "known": "creation",
        "label_en": "Tender?",
    }
    answer = submit(logged_in(app, cast["Adam"]), "/admin/fields", **{**given, **wrong})
    assert answer.status_code == 422
    assert "Tender?" in answer.text


def test_a_record_type_is_declared_retired_and_restored(app: Flask, cast: Cast) -> None:
    admin = logged_in(app, cast["Adam"])
    submit(admin, "/admin/types", name="machine", label_en="Machine", label_zh="设备", link=["account"])
    assert "Machine" in admin.get("/admin/fields").text
    assert submit(admin, "/admin/types/machine/retire").status_code == 302
    assert "Take records again" in admin.get("/admin/fields").text
    assert submit(admin, "/admin/types/machine/restore").status_code == 302
    assert submit(admin, "/admin/types/dragon/retire").status_code == 422


# --------------------------------------------------------------------------------------- keys and webhooks


def test_anybodys_key_is_seen_and_ended(app: Flask, cast: Cast) -> None:
    admin = logged_in(app, cast["Adam"])
    key_id = app.test_client().get("/api/v1/me", headers=cast.header("Ana")).get_json()["token_id"]
    page = admin.get(f"/admin/keys?user={cast['Ana'].id}").text
    assert f"/admin/keys/{key_id}/revoke" in page
    assert cast.keys["Ana"] not in page
    assert submit(admin, f"/admin/keys/{key_id}/revoke").status_code == 302
    assert app.test_client().get("/api/v1/me", headers=cast.header("Ana")).status_code == 401


def test_the_list_of_keys_goes_on(app: Flask, cast: Cast, store: Store) -> None:
    with store.transaction() as transaction:
        for number in range(60):
            user_id = cast["Ana"].id
            create_token(transaction.session, user_id=user_id, name=f"key {number:02}", now=transaction.now)
    admin = logged_in(app, cast["Adam"])
    first = admin.get("/admin/keys").text
    older = re.search(r'href="(/admin/keys\?before=[^"]+)"', first)
    assert older is not None
    second = admin.get(older[1].replace("&amp;", "&")).text
    assert "key 59" in first
    assert "key 00" in second
    assert "key 59" not in second


def test_a_webhook_is_made_tested_turned_off_and_deleted(app: Flask, cast: Cast) -> None:
    admin = logged_in(app, cast["Adam"])
    made = submit(
        admin,
        "/admin/webhooks",
        name="Billing",
        url="https://hooks.example.com/crm",
        event_types="deal.won lead.*",
    )
    assert made.status_code == 200
    secret = SECRET.search(made.text)
    assert secret is not None
    assert secret[1].startswith("whsec_")
    listed = admin.get("/admin/webhooks").text
    path = re.search(r'href="(/admin/webhooks/\d+)"', listed)
    assert path is not None
    assert secret[1] not in listed + admin.get(path[1]).text
    assert submit(admin, f"{path[1]}/test").status_code == 302
    assert "webhook.test" in admin.get(path[1]).text
    for what, shown in (("off", "Turn on"), ("on", "Turn off")):
        assert submit(admin, f"{path[1]}/{what}").status_code == 302
        assert shown in admin.get(path[1]).text
    renewed = SECRET.search(submit(admin, f"{path[1]}/secret").text)
    assert renewed is not None
    assert renewed[1] != secret[1]
    assert submit(admin, f"{path[1]}/delete").status_code == 302
    assert admin.get(path[1]).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [{"url": "http://127.0.0.1/x"}, {"url": "https://10.0.0.1/"}, {"event_types": "dragon.*"}, {"name": ""}],
    ids=str,
)
def test_a_webhook_that_makes_no_sense_is_refused(app: Flask, cast: Cast, wrong: dict[str, str]) -> None:
    given = {"name": "x", "url": "https://hooks.example.com/crm", "event_types": "*", **wrong}
    answer = submit(logged_in(app, cast["Adam"]), "/admin/webhooks", **given)
    assert answer.status_code == 422
    assert "Nobody is told yet" in answer.text


def test_the_log_is_asked_by_person_deed_and_day(app: Flask, cast: Cast) -> None:
    admin = logged_in(app, cast["Adam"])
    assert "Nothing was done that fits" in admin.get("/admin/log?done=person_erased").text
    client = app.test_client()
    token = csrf_of(client.get("/login").text)
    client.post("/login", data={"csrf_token": token, "email": cast["Ana"].email, "password": "wrong"})
    assert "Failed to log in" in text_of(admin.get("/admin/log?done=login_failed").text)
    assert "Nothing was done" in admin.get("/admin/log?done=login_failed&until=2020-01-01").text
    assert admin.get("/admin/log?since=yesterday&user=x&done=fly").status_code == 200
