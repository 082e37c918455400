"""People and teams, as an administrator looks after them on the pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from crm_core.records import Lead, Team, User
from crm_core.store import Store
from tests.factories import make_lead, make_team, make_user
from tests.serving.conftest import PASSWORD, Cast, csrf_of, logged_in
from tests.serving.test_pages import text_of

SECTIONS = ("people", "people/new", "teams", "rights", "pipelines", "fields", "keys", "webhooks", "log")
SECRET = re.compile(r'<code class="secret">([^<]+)</code>')


def submit(client: FlaskClient, path: str, **fields: Any) -> TestResponse:
    token = csrf_of(client.get("/account").text)
    return client.post(path, data={"csrf_token": token, **fields})


def as_given(user: User, **other: Any) -> dict[str, Any]:
    """What the form about a person sends when nothing was touched but `other`."""
    given = {
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "team_id": user.team_id,
        "version": user.version,
    }
    return {**given, **other}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana"])
def test_only_administrators_see_the_administration(app: Flask, cast: Cast, name: str, section: str) -> None:
    assert logged_in(app, cast[name]).get(f"/admin/{section}").status_code == 403


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_section_is_there_in_both_languages(
    app: Flask, cast: Cast, section: str, language: str
) -> None:
    page = logged_in(app, cast["Adam"], language).get(f"/admin/{section}")
    assert page.status_code == 200
    assert 'aria-current="page"' in page.text


def test_what_only_administrators_may_do_is_refused_to_a_manager(app: Flask, cast: Cast) -> None:
    client = logged_in(app, cast["Mara"])
    posts = ("people/new", "teams", "rights/rep", "rights/rep/fields", "fields", "types", "webhooks")
    assert {submit(client, f"/admin/{path}").status_code for path in posts} == {403}
    one = f"/admin/people/{cast['Ana'].id}"
    assert {submit(client, f"{one}{verb}").status_code for verb in ("", "/password", "/leave")} == {403}


def test_somebody_new_gets_a_password_shown_once_and_comes_in(app: Flask, cast: Cast) -> None:
    admin = logged_in(app, cast["Adam"])
    answer = submit(
        admin,
        "/admin/people/new",
        name="Nia",
        email="nia@example.com",
        role="rep",
        team_id=cast.north.id,
    )
    found = SECRET.search(answer.text)
    assert found is not None
    assert answer.headers["Cache-Control"] == "no-store"
    newcomer = app.test_client()
    token = csrf_of(newcomer.get("/login").text)
    entered = newcomer.post(
        "/login", data={"csrf_token": token, "email": "nia@example.com", "password": found[1]}
    )
    assert entered.status_code == 302
    assert newcomer.get("/leads").status_code == 200
    assert not SECRET.search(admin.get("/admin/people?q=nia").text)


@pytest.mark.parametrize(
    "wrong", [{"email": "ANA@example.com"}, {"email": ""}, {"name": ""}, {"role": "king"}], ids=str
)
def test_a_person_who_makes_no_sense_is_refused_and_nothing_is_written(
    app: Flask, cast: Cast, store: Store, wrong: dict[str, Any]
) -> None:
    given = {"name": "Nia", "email": "nia@example.com", "role": "rep", **wrong}
    answer = submit(logged_in(app, cast["Adam"]), "/admin/people/new", **given)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    with store.reading() as session:
        assert session.scalar(select(User).where(User.name == "Nia")) is None


def test_a_change_of_role_holds_at_once(app: Flask, cast: Cast) -> None:
    ana = logged_in(app, cast["Ana"])
    assert ana.get("/models").status_code == 403
    changed = submit(
        logged_in(app, cast["Adam"]),
        f"/admin/people/{cast['Ana'].id}",
        **as_given(cast["Ana"], role="analyst"),
    )
    assert changed.status_code == 302
    assert ana.get("/models").status_code == 200


def test_of_two_administrators_the_second_is_told(app: Flask, cast: Cast, store: Store) -> None:
    path, client = f"/admin/people/{cast['Ana'].id}", logged_in(app, cast["Adam"])
    given = as_given(cast["Ana"])
    assert submit(client, path, **{**given, "name": "Ana Maria"}).status_code == 302
    late = submit(client, path, **{**given, "name": "Anna"})
    assert late.status_code == 422
    assert "version" in text_of(late.text)
    with store.reading() as session:
        assert session.get_one(User, cast["Ana"].id).name == "Ana Maria"


def test_nobody_changes_their_own_role(app: Flask, cast: Cast) -> None:
    path = f"/admin/people/{cast['Adam'].id}"
    assert submit(logged_in(app, cast["Adam"]), path, **as_given(cast["Adam"], role="rep")).status_code == 422


def test_a_new_password_ends_the_logins_and_the_old_one(app: Flask, cast: Cast) -> None:
    ana, admin = logged_in(app, cast["Ana"]), logged_in(app, cast["Adam"])
    found = SECRET.search(submit(admin, f"/admin/people/{cast['Ana'].id}/password").text)
    assert found is not None
    assert ana.get("/leads").status_code == 302
    for password, status in ((PASSWORD, 401), (found[1], 302)):
        client = app.test_client()
        token = csrf_of(client.get("/login").text)
        given = {"csrf_token": token, "email": cast["Ana"].email, "password": password}
        assert client.post("/login", data=given).status_code == status


def test_ending_logins_leaves_the_password(app: Flask, cast: Cast) -> None:
    ana = logged_in(app, cast["Ana"])
    submit(logged_in(app, cast["Adam"]), f"/admin/people/{cast['Ana'].id}/log-out")
    assert ana.get("/leads").status_code == 302


def test_who_leaves_hands_over_cannot_come_in_and_may_return(app: Flask, cast: Cast, store: Store) -> None:
    with store.transaction() as transaction:
        leads = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(4)]
    ana, admin = logged_in(app, cast["Ana"]), logged_in(app, cast["Adam"])
    path = f"/admin/people/{cast['Ana'].id}"
    alone = submit(admin, f"{path}/leave")
    assert alone.status_code == 422
    assert ana.get("/leads").status_code == 200
    left = submit(admin, f"{path}/leave", heir=[cast["Ben"].id, cast["Mara"].id])
    assert left.status_code == 302
    assert "4" in text_of(admin.get(path).text)
    with store.reading() as session:
        owners = session.scalars(select(Lead.owner_id).where(Lead.id.in_(leads)).order_by(Lead.id)).all()
        gone = session.get_one(User, cast["Ana"].id)
        assert (gone.active, gone.left_at is not None) == (False, True)
    assert sorted(map(str, owners)) == sorted(map(str, [cast["Ben"].id, cast["Mara"].id] * 2))
    assert ana.get("/leads").status_code == 302
    assert submit(admin, f"{path}/return").status_code == 302
    assert logged_in(app, cast["Ana"]).get("/leads").status_code == 200


def test_nobody_lets_themselves_go(app: Flask, cast: Cast) -> None:
    answer = submit(logged_in(app, cast["Adam"]), f"/admin/people/{cast['Adam'].id}/leave")
    assert answer.status_code == 422


def test_the_list_goes_on_and_is_searched(app: Flask, cast: Cast, store: Store) -> None:
    with store.transaction() as transaction:
        for number in range(60):
            make_user(transaction, f"Person {number:02}", role="rep")
    client = logged_in(app, cast["Adam"])
    first = client.get("/admin/people?q=person").text
    after = re.search(r'href="(/admin/people\?after=[^"]+)"', first)
    assert after is not None
    second = client.get(after[1].replace("&amp;", "&")).text
    names = [re.findall(r"Person \d\d", page) for page in (first, second)]
    assert [len(set(each)) for each in names] == [50, 10]
    assert not set(names[0]) & set(names[1])
    assert "Nobody fits" in client.get("/admin/people?q=%25").text


# ------------------------------------------------------------------------------------------------ teams


def test_teams_form_a_tree_that_can_be_changed(app: Flask, cast: Cast, store: Store) -> None:
    client = logged_in(app, cast["Adam"])
    assert submit(client, "/admin/teams", name="Harbour", parent_id=cast.north.id).status_code == 302
    with store.reading() as session:
        made = session.scalars(select(Team).where(Team.name == "Harbour")).one()
    assert made.parent_id == cast.north.id
    ring = submit(
        client, f"/admin/teams/{cast.north.id}", name="North", parent_id=made.id, version=cast.north.version
    )
    assert ring.status_code == 422
    moved = submit(client, f"/admin/teams/{made.id}", name="Port", parent_id="", version=made.version)
    assert moved.status_code == 302
    with store.reading() as session:
        assert session.get_one(Team, made.id).name == "Port"
        assert session.get_one(Team, made.id).parent_id is None


def test_a_team_with_people_or_teams_stays(app: Flask, cast: Cast, store: Store) -> None:
    with store.transaction() as transaction:
        above = make_team(transaction, name="Above").id
        make_team(transaction, name="Below", parent_id=above)
        empty = make_team(transaction, name="Empty").id
    client = logged_in(app, cast["Adam"])
    assert submit(client, f"/admin/teams/{cast.north.id}/delete").status_code == 422
    assert submit(client, f"/admin/teams/{above}/delete").status_code == 422
    assert submit(client, f"/admin/teams/{empty}/delete").status_code == 302
    page = client.get("/admin/teams").text
    assert "Above" in page
    assert "Empty" not in page


def test_a_team_needs_a_name(app: Flask, cast: Cast) -> None:
    assert submit(logged_in(app, cast["Adam"]), "/admin/teams", name=" ").status_code == 422
