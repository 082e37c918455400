"""The pages for searching and for duplicates, and what they keep to themselves."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from crm_core.access import FieldRight, RoleRight, Scope
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import Deal, Lead
from crm_core.store import Store
from tests.factories import make_account, make_activity, make_contact, make_deal, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.test_api_people import MAIL, score


@pytest.fixture
def leads(store: Store, cast: Cast) -> list[int]:
    """Ana's lead and its copy, and Otto's that is somebody else."""
    with store.transaction() as transaction:
        mine = {"owner_id": cast["Ana"].id, "email": MAIL}
        ids = [make_lead(transaction, **mine).id, make_lead(transaction, **mine).id]
        other = make_lead(transaction, name="Jo Berg", company="Berg", owner_id=cast["Otto"].id)
        make_activity(transaction, lead_id=ids[0], subject="Call", body="asked about 水泵 for the harbour")
        return [*ids, other.id]


@pytest.fixture
def ana(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Ana"])


def submit(client: FlaskClient, page: str, path: str, **fields: object) -> int:
    token = csrf_of(client.get(page).text)
    return client.post(path, data={"csrf_token": token, **fields}).status_code


def test_every_page_has_the_search(ana: FlaskClient, leads: list[int]) -> None:
    for path in ("/leads", "/deals", "/customers", f"/leads/{leads[0]}", "/search", "/duplicates"):
        assert 'action="/search"' in ana.get(path).text, path


def test_a_hit_leads_to_the_page_of_what_it_is_about(ana: FlaskClient, leads: list[int]) -> None:
    page = ana.get("/search?q=水泵").text
    assert f'href="/leads/{leads[0]}"' in page
    assert "asked about 水泵" in page


def test_a_hit_that_may_not_be_seen_is_none(app: Flask, cast: Cast, leads: list[int]) -> None:
    assert "Nothing fits" in logged_in(app, cast["Ana"]).get("/search?q=Berg").text
    assert f'href="/leads/{leads[2]}"' in logged_in(app, cast["Otto"]).get("/search?q=Berg").text


def test_a_colleagues_customer_is_not_linked_to(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Otto"].id)
        make_contact(transaction, account_id=account.id, owner_id=cast["Ana"].id)
        make_deal(transaction, account_id=account.id, owner_id=cast["Ana"].id)
    page = logged_in(app, cast["Ana"]).get("/search?q=Li Wei").text
    assert "Li Wei" in page
    assert f"/customers/{account.id}" not in page
    assert "Hill &amp; Sons" not in logged_in(app, cast["Ana"]).get("/deals").text
    assert "Hill &amp; Sons" in logged_in(app, cast["Adam"]).get("/deals").text


@pytest.mark.parametrize(("language", "label"), [("en", "Main pump:"), ("zh", "主泵:")])
def test_a_hit_through_a_custom_field_calls_it_as_it_was_declared(
    app: Flask, store: Store, cast: Cast, language: str, label: str
) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.pump",
            kind=FieldKind.TEXT,
            known=Known.CREATION,
            label_en="Main pump",
            label_zh="主泵",
        )
        make_lead(transaction, owner_id=cast["Ana"].id, custom={"pump": "Kestrel 300"})
    assert label in logged_in(app, cast["Ana"], language).get("/search?q=Kestrel").text


def test_hits_come_in_pages_and_each_once(ana: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(23)]
    first = ana.get("/search?q=Fangda").text
    following = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = ana.get(following).text
    seen = [number for page in (first, second) for number in ids if f'href="/leads/{number}"' in page]
    assert sorted(seen) == ids
    assert 'rel="next"' not in second


@pytest.mark.parametrize("query", ["", "?q=", "?q=Fangda&after=nonsense", "?q=" + "长" * 600])
def test_whatever_the_address_says_there_is_a_page(ana: FlaskClient, leads: list[int], query: str) -> None:
    assert ana.get(f"/search{query}").status_code == 200


@pytest.mark.parametrize("query", ["", "?type=ship", "?type=contact", "?offset=-1", "?offset=99999"])
def test_the_page_of_duplicates_always_answers(ana: FlaskClient, leads: list[int], query: str) -> None:
    assert ana.get(f"/duplicates{query}").status_code == 200


def test_a_rep_merges_two_of_their_own(ana: FlaskClient, store: Store, leads: list[int]) -> None:
    page = ana.get("/duplicates?type=lead").text
    assert "The same mail address" in page
    keep = {"type": "lead", "keep": leads[1], "gone": leads[0]}
    assert submit(ana, "/duplicates", "/duplicates/merge", **keep) == 302
    with store.reading() as session:
        assert session.get_one(Lead, leads[0]).merged_into_id == leads[1]
    assert "No duplicates" in ana.get("/duplicates?type=lead").text


def test_what_is_not_the_same_is_not_shown_again(ana: FlaskClient, leads: list[int]) -> None:
    pair = {"type": "lead", "one": leads[0], "other": leads[1]}
    assert submit(ana, "/duplicates", "/duplicates/distinct", **pair) == 302
    assert "No duplicates" in ana.get("/duplicates?type=lead").text


def test_behind_the_last_pair_are_those_that_are_left(ana: FlaskClient, leads: list[int]) -> None:
    page = ana.get("/duplicates?type=lead&offset=10").text
    assert "No duplicates" not in page
    assert f'name="gone" value="{leads[1]}"' in page


def test_who_changes_nothing_sees_no_button_and_is_refused(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    dana = logged_in(app, cast["Dana"])
    page = dana.get("/duplicates?type=lead").text
    assert "The same mail address" in page
    assert "Keep this one" not in page
    keep = {"type": "lead", "keep": leads[0], "gone": leads[1]}
    assert submit(dana, "/leads", "/duplicates/merge", **keep) == 403
    with store.reading() as session:
        assert session.get_one(Lead, leads[1]).deleted_at is None


def test_a_records_page_says_what_may_be_the_same_and_leads_to_both_beside_each_other(
    ana: FlaskClient, store: Store, cast: Cast, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Otto"].id, email=MAIL, company="Not for Ana")
    path = f"/duplicates?type=lead&record={leads[0]}"
    assert path.replace("&", "&amp;") in ana.get(f"/leads/{leads[0]}").text
    part = ana.get(path, headers={"X-Requested-With": "fetch"}).text
    assert "<html" not in part
    assert "May be the same as" in part
    assert f'href="/leads/{leads[1]}"' in part
    assert "Not for Ana" not in part
    page = ana.get(path).text
    assert "Only those of" in page
    assert page.count("likely to be the same</strong>") == 1
    assert f'name="gone" value="{leads[1]}"' in page


def test_the_same_as_nothing_says_nothing(app: Flask, ana: FlaskClient, cast: Cast, leads: list[int]) -> None:
    path = f"/duplicates?type=lead&record={leads[2]}"
    part = logged_in(app, cast["Otto"]).get(path, headers={"X-Requested-With": "fetch"}).text
    assert 'id="same"' in part
    assert "May be" not in part
    assert "No duplicates" in logged_in(app, cast["Otto"]).get(path).text
    assert ana.get(path).status_code == 404


@pytest.mark.parametrize("record_type", ["lead", "account", "contact"])
def test_what_may_be_the_same_takes_few_queries(
    ana: FlaskClient, store: Store, cast: Cast, leads: list[int], record_type: str
) -> None:
    makers = {"lead": make_lead, "account": make_account, "contact": make_contact}
    with store.transaction() as transaction:
        ids = [makers[record_type](transaction, owner_id=cast["Ana"].id).id for _ in range(3)]
    path = f"/duplicates?type={record_type}&record={ids[0]}"
    ana.get(path, headers={"X-Requested-With": "fetch"})
    said: list[str] = []
    event.listen(store.engine, "before_cursor_execute", note := lambda *sent: said.append(sent[2]))
    part = ana.get(path, headers={"X-Requested-With": "fetch"}).text
    event.remove(store.engine, "before_cursor_execute", note)
    assert "May be the same as" in part
    assert len([one for one in said if not one.startswith("BEGIN")]) <= 12, said


def test_others_records_are_not_merged(ana: FlaskClient, store: Store, leads: list[int]) -> None:
    keep = {"type": "lead", "keep": leads[0], "gone": leads[2]}
    assert submit(ana, "/duplicates", "/duplicates/merge", **keep) == 302
    assert f"no lead with id {leads[2]}" in ana.get("/duplicates").text
    with store.reading() as session:
        assert session.get_one(Lead, leads[2]).deleted_at is None


def test_the_pages_speak_chinese(app: Flask, cast: Cast, leads: list[int]) -> None:
    with logged_in(app, cast["Ana"], "zh") as client:
        assert "邮箱相同" in client.get("/duplicates").text
        assert "的搜索结果" in client.get("/search?q=Fangda").text


def test_an_opt_out_takes_scores_off_the_page_old_ones_too(
    ana: FlaskClient, store: Store, leads: list[int]
) -> None:
    score(store, Lead, leads[0], ["lead.source"])
    page = f"/leads/{leads[0]}"
    assert "50%" in ana.get(page).text
    assert submit(ana, page, f"{page}/scoring-opt-out", opted_out="yes") == 302
    for shown in (ana.get(page).text, ana.get("/leads").text):
        assert "Not scored: opted out" in shown
        assert "50%" not in shown
    assert submit(ana, page, f"{page}/scoring-opt-out", opted_out="no") == 302
    assert "Not scored: opted out" not in ana.get(page).text


@pytest.mark.parametrize(
    ("language", "told"),
    [("en", "Opted out of scoring</strong>: no → yes"), ("zh", "退出评分</strong>: 否 → 是")],
)
def test_the_timeline_tells_of_an_opt_out_in_words(
    app: Flask, cast: Cast, leads: list[int], language: str, told: str
) -> None:
    client, page = logged_in(app, cast["Ana"], language), f"/leads/{leads[0]}"
    assert submit(client, page, f"{page}/scoring-opt-out", opted_out="yes") == 302
    assert told in client.get(page).text


def test_a_hidden_field_is_nowhere_on_a_page(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id)
        transaction.update(transaction.get(Deal, deal.id), {"amount": 77_123})
        for field in ("amount", "source"):
            transaction.session.add(
                FieldRight(role="rep", record_type="deal", field=field, read=False, write=False)
            )
        make_activity(transaction, deal_id=deal.id, subject="a call of theirs")
    score(store, Deal, deal.id, ["deal.amount"])
    for path in (f"/deals/{deal.id}", "/deals", f"/deals/{deal.id}/score?seen=0"):
        mine = logged_in(app, cast["Ana"]).get(path).text
        assert "77,123" not in mine, path
        assert "12,000" not in mine, path
        assert "12,000" in logged_in(app, cast["Mara"]).get(path).text, path


def test_what_is_about_a_record_is_shown_by_its_own_right_too(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
        make_activity(transaction, lead_id=lead.id, subject="a call of theirs", owner_id=cast["Ana"].id)
        transaction.session.add(
            RoleRight(role="rep", record_type="activity", read=Scope.NONE, write=Scope.NONE)
        )
    assert "a call of theirs" not in logged_in(app, cast["Ana"]).get(f"/leads/{lead.id}").text
    assert "no contact yet" in logged_in(app, cast["Ana"]).get("/leads").text
    assert "a call of theirs" in logged_in(app, cast["Mara"]).get(f"/leads/{lead.id}").text


def test_what_is_found_while_typing_is_what_the_reader_may_see(
    app: Flask, cast: Cast, leads: list[int]
) -> None:
    found = logged_in(app, cast["Otto"]).get("/search/quick?q=Be").text
    assert f'data-href="/leads/{leads[2]}"' in found
    assert (
        f'data-href="/leads/{leads[2]}"' not in logged_in(app, cast["Ana"]).get("/search/quick?q=Berg").text
    )


def test_two_chinese_characters_are_found_while_typing(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, company="宁波方大水泵有限公司").id
    found = logged_in(app, cast["Ana"], "zh").get("/search/quick?q=水泵").text
    assert f'data-href="/leads/{lead}"' in found
    assert "查看“水泵”的全部结果" in found


def test_typing_nothing_finds_nothing_and_asks_nothing_else(ana: FlaskClient) -> None:
    answer = ana.get("/search/quick?q=+")
    assert answer.status_code == 200
    assert "/leads/" not in answer.text
    assert ana.get("/search/quick").status_code == 200


def test_hits_about_many_records_cost_no_query_each(ana: FlaskClient, store: Store, cast: Cast) -> None:
    def queries_for(count: int) -> int:
        with store.transaction() as transaction:
            for number in range(count):
                lead = make_lead(transaction, owner_id=cast["Ana"].id, company=f"Firm {number}")
                make_activity(transaction, lead_id=lead.id, subject="Frobnication of pumps")
        said: list[str] = []
        event.listen(store.engine, "before_cursor_execute", note := lambda *sent: said.append(sent[2]))
        ana.get("/search?q=frobnication")
        event.remove(store.engine, "before_cursor_execute", note)
        return len(said)

    queries_for(1)  # what is kept until it is written is read once
    assert queries_for(2) == queries_for(15)
