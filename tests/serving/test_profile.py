"""One's own account, and what one is told of."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.notifications import Occasion, count_unread, notify
from crm_core.records import Lead, User
from crm_core.store import Store
from serving.logins import try_password
from tests.factories import make_lead
from tests.serving.conftest import PASSWORD, Cast, csrf_of, logged_in


@pytest.fixture
def ana(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Ana"])


def post(client: FlaskClient, path: str, **fields: object) -> int:
    token = csrf_of(client.get("/account").text)
    return client.post(path, data={"csrf_token": token, **fields}).status_code


def test_name_language_and_zone_are_kept(ana: FlaskClient, store: Store, cast: Cast) -> None:
    assert post(ana, "/account/profile", name="Ana Li", language="zh", time_zone="Asia/Shanghai") == 302
    with store.reading() as session:
        user = session.get_one(User, cast["Ana"].id)
        assert (user.name, user.language, user.time_zone) == ("Ana Li", "zh", "Asia/Shanghai")
    assert "个人资料" in ana.get("/account").text


@pytest.mark.parametrize("wrong", [{"name": " "}, {"language": "xx"}, {"time_zone": "Mars/Olympus"}])
def test_a_profile_that_makes_no_sense_is_refused(
    ana: FlaskClient, store: Store, cast: Cast, wrong: dict[str, str]
) -> None:
    good = {"name": "Ana", "language": "en", "time_zone": "UTC"}
    assert post(ana, "/account/profile", **{**good, **wrong}) == 422
    with store.reading() as session:
        assert session.get_one(User, cast["Ana"].id).time_zone is None


def test_a_new_password_ends_all_other_logins_and_keeps_this_one(
    app: Flask, ana: FlaskClient, store: Store, cast: Cast
) -> None:
    other = logged_in(app, cast["Ana"])
    new = "another long password"
    assert post(ana, "/account/password", old="wrong", new=new, again=new) == 422
    assert post(ana, "/account/password", old=PASSWORD, new=new, again="different") == 422
    assert post(ana, "/account/password", old=PASSWORD, new="short", again="short") == 422
    assert post(ana, "/account/password", old=PASSWORD, new=new, again=new) == 302
    assert ana.get("/leads").status_code == 200
    assert other.get("/leads").status_code == 302
    email = cast["Ana"].email or ""
    assert try_password(store, email, new, address=None).user is not None
    assert try_password(store, email, PASSWORD, address=None).user is None


def test_one_login_is_ended_and_nobody_elses(app: Flask, ana: FlaskClient, cast: Cast) -> None:
    other, ben = logged_in(app, cast["Ana"]), logged_in(app, cast["Ben"])
    for login in range(1, 10):
        if login != 1:
            post(ana, f"/account/logins/{login}/end")
    assert other.get("/leads").status_code == 302
    assert ben.get("/leads").status_code == 200
    assert ana.get("/leads").status_code == 200


def test_keys_are_turned_off_and_on(ana: FlaskClient) -> None:
    assert post(ana, "/account/keyboard", on="no") == 302
    assert 'data-keys="off"' in ana.get("/leads").text
    post(ana, "/account/keyboard", on="yes")
    assert 'data-keys="off"' not in ana.get("/leads").text


def test_a_notification_names_what_may_be_seen_now_and_leads_there(
    app: Flask, ana: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, name="Berg").id
        people = [cast["Ana"].id, cast["Ben"].id]
        notify(transaction, people, kind=Occasion.ASSIGNED, about=("lead", lead))
    page = ana.get("/notifications").text
    assert "Mara · gave you a record" in page
    assert "<strong>Berg</strong>" in page
    hidden = logged_in(app, cast["Ben"]).get("/notifications").text
    assert "gave you a record" in hidden
    assert "Berg" not in hidden
    token = csrf_of(page)
    answer = ana.post("/notifications/read", data={"csrf_token": token, "id": 1, "go": "yes"})
    assert answer.location == f"/leads/{lead}"
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead), {"owner_id": cast["Otto"].id})
    assert "Berg" not in ana.get("/notifications").text


def test_reading_ones_own_leaves_those_of_others_unread(ana: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        notify(transaction, [cast["Ana"].id, cast["Ben"].id], kind=Occasion.DUE)
    assert ">1 <span" in ana.get("/leads").text
    post(ana, "/notifications/read", id=2)
    with store.reading() as session:
        assert count_unread(session, cast["Ben"].id) == 1
    post(ana, "/notifications/read")
    with store.reading() as session:
        assert count_unread(session, cast["Ana"].id) == 0
        assert count_unread(session, cast["Ben"].id) == 1


def test_the_second_page_goes_on_where_the_first_ends(ana: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        for _ in range(30):
            notify(transaction, [cast["Ana"].id], kind=Occasion.DUE)
    first = ana.get("/notifications").text
    assert first.count("is-unread") == 25
    assert ana.get("/notifications?before=6").text.count("is-unread") == 5
    assert 'href="/notifications?before=6"' in first


def test_nobody_is_told_of_nothing(ana: FlaskClient) -> None:
    assert "Nothing new" in ana.get("/notifications").text
