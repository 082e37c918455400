"""The tags on a record's page: whose they are, how they come and go, and who may not."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from crm_core.access import RoleRight, Scope
from crm_core.records import Lead
from crm_core.saving import keep_segment
from crm_core.store import Store
from serving.tags import put_tag
from tests.factories import make_contact, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in

FETCH = {"X-Requested-With": "fetch"}


@pytest.fixture
def lead(store: Store, cast: Cast) -> int:
    """Ana's lead, "fair" by hand and "large" by a rule."""
    with store.transaction() as transaction:
        ana = cast["Ana"]
        lead = make_lead(transaction, owner_id=ana.id, employees=50)
        keep_segment(transaction, ana, "lead", "Large", ["employees:ge:40"], shared="own", tag="large")
        put_tag(transaction, ana, "lead", lead.id, "fair")
        return lead.id


@pytest.fixture
def ana(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Ana"])


def send(client: FlaskClient, path: str, *, fetch: bool = True, **fields: str) -> tuple[int, str]:
    form = {"csrf_token": csrf_of(client.get("/profile").text), **fields}
    answer = client.post(path, data=form, headers=FETCH if fetch else {})
    return answer.status_code, answer.text


def test_only_tags_by_hand_can_be_taken_off(ana: FlaskClient, lead: int) -> None:
    page = ana.get(f"/leads/{lead}").text
    assert f'data-load="/records/lead/{lead}/tags"' in page
    part = ana.get(f"/records/lead/{lead}/tags", headers=FETCH).text
    assert "<html" not in part
    assert part.count('class="tag-off"') == 1
    assert 'name="word" value="fair"' in part
    assert "(by the rule of a segment)" in part.split("large")[1]


def test_a_tag_is_put_on_once_and_taken_off(ana: FlaskClient, lead: int) -> None:
    path = f"/records/lead/{lead}/tags"
    for done in ("Put on: hot", "It is there already: hot"):
        status, part = send(ana, path, word=" hot ")
        assert (status, part.count('value="hot"')) == (200, 2), "once to take off, once on offer"
        assert f'data-done="{done}"' in part
    status, part = send(ana, path, word="hot", take="yes")
    assert status == 200
    assert 'value="hot"' not in part


def test_without_a_script_the_page_follows(ana: FlaskClient, lead: int) -> None:
    path = f"/records/lead/{lead}/tags"
    assert send(ana, path, fetch=False, word="热")[0] == 302
    assert "Put on: 热" in ana.get(f"/leads/{lead}").text
    page = ana.get(path).text
    assert "<html" in page
    assert 'value="热"' in page


@pytest.mark.parametrize("word", ["", "   ", "x" * 200])
def test_a_word_that_is_none_is_refused_and_kept(ana: FlaskClient, lead: int, word: str) -> None:
    status, part = send(ana, f"/records/lead/{lead}/tags", word=word)
    assert status == 422
    assert "Expected: a word of up to" in part
    assert f'value="{word.strip()}"' in part


def test_a_contact_has_tags_and_what_has_no_page_has_none(ana: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, owner_id=cast["Ana"].id).id
    assert f'data-load="/records/contact/{contact}/tags"' in ana.get(f"/contacts/{contact}").text
    assert send(ana, f"/records/contact/{contact}/tags", word="vip")[0] == 200
    for record_type in ("user", "tag", "activity", "ship"):
        assert ana.get(f"/records/{record_type}/1/tags").status_code == 404
        assert send(ana, f"/records/{record_type}/1/tags", word="vip")[0] == 404


def test_who_may_not_change_a_record_sees_its_tags_and_no_form(
    app: Flask, store: Store, cast: Cast, lead: int
) -> None:
    dana, otto = logged_in(app, cast["Dana"]), logged_in(app, cast["Otto"])
    part = dana.get(f"/records/lead/{lead}/tags").text
    assert "fair" in part
    assert "large" not in part, "Ana's rule is her own"
    assert "data-tags>" not in part
    assert send(dana, f"/records/lead/{lead}/tags", word="vip")[0] == 403
    assert otto.get(f"/records/lead/{lead}/tags").status_code == 404
    assert send(otto, f"/records/lead/{lead}/tags", word="vip")[0] == 404
    with store.transaction() as transaction:
        transaction.session.add(RoleRight(role="rep", record_type="tag", read=Scope.NONE, write=Scope.NONE))
    hidden = logged_in(app, cast["Ana"]).get(f"/records/lead/{lead}/tags").text
    assert "fair" not in hidden
    assert "data-tags>" not in hidden


def test_words_on_offer_are_those_that_the_reader_sees(
    ana: FlaskClient, store: Store, cast: Cast, lead: int
) -> None:
    with store.transaction() as transaction:
        other = make_lead(transaction, owner_id=cast["Otto"].id)
        put_tag(transaction, cast["Otto"], "lead", other.id, "secret")
        assert transaction.get(Lead, lead).version == 1, "a tag is no change of the record"
    part = ana.get(f"/records/lead/{lead}/tags").text
    assert '<option value="fair">' in part
    assert "secret" not in part


def test_the_tags_take_few_queries(ana: FlaskClient, store: Store, lead: int) -> None:
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", note := lambda *sent: asked.append(sent[2]))
    assert ana.get(f"/records/lead/{lead}/tags").status_code == 200
    event.remove(store.engine, "before_cursor_execute", note)
    assert len([one for one in asked if not one.startswith("BEGIN")]) <= 12, asked
