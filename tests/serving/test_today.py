"""A day's list: what comes first and why, for whom, and what is done in its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import event, select

from crm_core.access import FieldRight, Reader
from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.day_plans import find_day_plan
from crm_core.deals import close_deal
from crm_core.feedback import ScoreFeedback
from crm_core.leads import disqualify_lead
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Activity, User
from crm_core.store import Store
from crm_core.won_deals import read_won_deals, recent_won_deals
from serving.champions import TASK_OF
from serving.today import AskedDay, Day, Ranked, read_day, read_habit
from tests.factories import make_account, make_activity, make_deal, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.hand_made import prediction
from tests.serving.test_pages import show, text_of

UTC = ZoneInfo("UTC")


def day_of(store: Store, user: User, **asked: Any) -> Day:
    with store.reading() as session:
        reader = Reader(session, user)
        return read_day(reader, AskedDay(**asked), store.clock.now(), UTC, recent_won_deals(store))


def order_of(day: Day) -> list[tuple[str, int]]:
    return [ranked.record for ranked in day.to_do]


def find(day: Day, record: tuple[str, int]) -> Ranked:
    return next(each for each in (*day.to_do, *day.done) if each.record == record)


def show_customer(store: Store, account_id: int, probability: float, amount: str) -> None:
    """A danger of leaving, and what the customer brings in a year."""
    said = prediction(account_id, probability)
    yearly = [{"currency": "EUR", "amount": amount, "of": "contract"}]
    with store.transaction(source=Source.MODEL) as transaction:
        write_predictions(
            transaction,
            task="churn",
            record_type="account",
            as_of=transaction.now,
            model_version="churn-1",
            horizon_days=90,
            predictions=[NewPrediction(**{**vars(said), "yearly_value": yearly})],
        )


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def count(*args: Any) -> None:
        sent.append(args[2])

    event.listen(store.engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", count)


@pytest.fixture
def book(store: Store, cast: Cast, clock: FixedClock) -> dict[str, int]:
    """Two of four old deals were won, worth 1,000 and 3,000; now Ana has a lead, two deals and a customer."""
    mine = cast["Ana"].id
    with store.transaction() as transaction:
        for number, amount in enumerate((1_000, 3_000, 50_000, 60_000)):
            account = make_account(transaction, name=f"Old {number}", owner_id=cast["Otto"].id)
            deal = make_deal(
                transaction, amount=Decimal(amount), account_id=account.id, owner_id=cast["Otto"].id
            )
            close_deal(transaction, deal, won=number < 2, as_it_was=True)
    clock.advance(timedelta(days=30))
    with store.transaction() as transaction:
        customer = make_account(transaction, name="Customer", owner_id=mine)
        ids = {
            "lead": make_lead(transaction, company="Lead", owner_id=mine).id,
            "big": make_deal(transaction, name="Big", amount=Decimal(10_000), owner_id=mine).id,
            "small": make_deal(transaction, name="Small", amount=Decimal(100), owner_id=mine).id,
            "customer": customer.id,
        }
        make_deal(transaction, name="Of Ben", amount=Decimal(10**6), owner_id=cast["Ben"].id)
    show(store, "lead", {ids["lead"]: 0.6})
    show(store, "deal", {ids["big"]: 0.2, ids["small"]: 0.9, ids["small"] + 1: 0.9})
    show_customer(store, ids["customer"], 0.5, "8000")
    return ids


def test_what_is_at_stake_is_told_of_each_type(store: Store, cast: Cast, book: dict[str, int]) -> None:
    day = day_of(store, cast["Ana"])
    stakes = {ranked.record[0]: ranked for ranked in day.to_do if ranked.record != ("deal", book["small"])}
    assert stakes["account"].place.expected == pytest.approx(0.5 * 8_000)
    assert stakes["deal"].place.expected == pytest.approx(0.2 * 10_000)
    # A lead becomes a deal, half of these are won, and a first deal brought 2,000 on average.
    assert stakes["lead"].place.expected == pytest.approx(0.6 * 0.5 * 2_000)
    assert [kind for kind, _ in order_of(day)] == ["account", "deal", "lead", "deal"]
    assert day.currency == "EUR"


def test_won_deals_are_those_known_then(
    store: Store, cast: Cast, book: dict[str, int], clock: FixedClock
) -> None:
    before = clock.now() - timedelta(days=31)
    with store.reading() as session:
        assert read_won_deals(session, before).closed == 0
        now = read_won_deals(session, clock.now())
    assert (now.closed, now.share, now.first.amount if now.first else None) == (4, 0.5, 2_000)


def test_amounts_of_two_currencies_are_compared_by_their_usual_deals(
    store: Store, cast: Cast, clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        for currency, amount, times in (("EUR", 1_000, 7), ("CNY", 8_000, 5)):
            for _ in range(times):
                deal = make_deal(transaction, amount=Decimal(amount), currency=currency)
                close_deal(transaction, deal, won=True, as_it_was=True)
        mine = {"owner_id": cast["Ana"].id}
        euros = make_deal(transaction, amount=Decimal(2_000), currency="EUR", **mine).id
        yuan = make_deal(transaction, amount=Decimal(8_000), currency="CNY", **mine).id
    show(store, "deal", {euros: 0.5, yuan: 0.5})
    day = day_of(store, cast["Ana"])
    assert order_of(day) == [("deal", euros), ("deal", yuan)]
    assert find(day, ("deal", yuan)).place.expected == pytest.approx(500)
    assert (day.currency, day.several) == ("EUR", True)


def test_a_customer_who_wrote_comes_up_and_a_call_sends_it_below_the_line(
    store: Store, cast: Cast, book: dict[str, int], clock: FixedClock
) -> None:
    small = ("deal", book["small"])
    with store.transaction() as transaction:
        make_activity(transaction, deal_id=book["small"], kind="call")
    clock.advance(timedelta(days=1))
    quiet = find(day_of(store, cast["Ana"]), small)
    assert quiet.theirs is None
    with store.transaction() as transaction:
        make_activity(transaction, deal_id=book["small"], kind="mail", direction="inbound")
    clock.advance(timedelta(hours=1))
    waiting = find(day_of(store, cast["Ana"]), small)
    assert waiting.theirs is not None
    assert waiting.place.worth == pytest.approx(1.5 * quiet.place.worth)
    with store.transaction() as transaction:
        make_activity(transaction, deal_id=book["small"], kind="call")
    day = day_of(store, cast["Ana"])
    assert [ranked.record for ranked in day.done] == [small]
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        make_activity(transaction, deal_id=book["small"], kind="mail", direction="inbound")
    assert small in order_of(day_of(store, cast["Ana"])), "who came back is not done with"


def test_a_step_that_is_due_comes_first_until_somebody_takes_it(
    store: Store, cast: Cast, book: dict[str, int], clock: FixedClock
) -> None:
    lead, due_at = ("lead", book["lead"]), clock.now() + timedelta(days=2)
    with store.transaction() as transaction:
        make_activity(
            transaction, lead_id=book["lead"], kind="task", direction=None, subject="Offer", due_at=due_at
        )
    planned = find(day_of(store, cast["Ana"]), lead)
    assert planned.place.freshness.planned == 0.5
    clock.advance(timedelta(days=3))
    day = day_of(store, cast["Ana"])
    assert order_of(day)[0] == lead
    assert day.to_do[0].step is not None
    assert (day.to_do[0].step.subject, day.to_do[0].step.due_days) == ("Offer", -1)
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=book["lead"], kind="call")
    assert find(day_of(store, cast["Ana"]), lead).step is None
    clock.advance(timedelta(days=1))
    assert order_of(day_of(store, cast["Ana"]))[0] != lead


def test_a_step_of_long_ago_is_forgotten(
    store: Store, cast: Cast, book: dict[str, int], clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=book["lead"], kind="task", due_at=clock.now())
    clock.advance(timedelta(days=31))
    assert find(day_of(store, cast["Ana"]), ("lead", book["lead"])).step is None


def test_each_sees_their_own_and_a_manager_the_team(store: Store, cast: Cast, book: dict[str, int]) -> None:
    bens = ("deal", book["small"] + 1)
    assert bens not in order_of(day_of(store, cast["Ana"]))
    assert order_of(day_of(store, cast["Ben"])) == [bens]
    assert order_of(day_of(store, cast["Mara"]))[0] == bens
    assert order_of(day_of(store, cast["Mara"], owner_id=cast["Ben"].id)) == [bens]
    assert order_of(day_of(store, cast["Otto"])) == []


def test_a_role_that_may_not_see_amounts_gets_an_order_that_does_not_tell_them(
    store: Store, cast: Cast, book: dict[str, int]
) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="amount", read=False, write=False)
        )
    day = day_of(store, cast["Ana"])
    assert not day.with_values
    assert order_of(day)[:2] == [("deal", book["small"]), ("lead", book["lead"])]
    assert all(ranked.stake is None and ranked.place.expected is None for ranked in day.to_do)


def test_a_role_that_may_not_see_scores_of_deals_has_none_in_the_list(
    app: Flask, store: Store, cast: Cast, book: dict[str, int]
) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="probability", read=False, write=False)
        )
    assert {kind for kind, _ in order_of(day_of(store, cast["Ana"]))} == {"lead", "account"}
    ana = logged_in(app, cast["Ana"])
    assert ana.get(f"/today/deals/{book['big']}").status_code == 403


def test_what_is_closed_or_asks_not_to_be_scored_is_not_there(
    store: Store, cast: Cast, book: dict[str, int]
) -> None:
    from crm_core.opting_out import set_scoring_opt_out
    from crm_core.records import Account, Lead

    with store.transaction() as transaction:
        disqualify_lead(transaction, transaction.get(Lead, book["lead"]), reason="no need")
        set_scoring_opt_out(transaction, transaction.get(Account, book["customer"]), opted_out=True)
    assert {kind for kind, _ in order_of(day_of(store, cast["Ana"]))} == {"deal"}


def test_how_many_records_a_day_is_counted_from_the_days_worked(
    store: Store, cast: Cast, clock: FixedClock
) -> None:
    mine = cast["Ana"].id
    with store.transaction() as transaction:
        leads = [make_lead(transaction, owner_id=mine).id for _ in range(4)]
    for worked in (1, 2, 2, 3, 4):
        with store.transaction() as transaction:
            for lead in leads[:worked]:
                make_activity(transaction, lead_id=lead, owner_id=mine)
                make_activity(transaction, lead_id=lead, owner_id=mine)
        clock.advance(timedelta(days=1))
    assert read_habit(store, cast["Ana"], clock.now(), UTC) == 2
    assert read_habit(store, cast["Ben"], clock.now(), UTC) is None


# ------------------------------------------------------------------------------------- the page


def test_the_day_begins_with_the_list(app: Flask, cast: Cast) -> None:
    assert logged_in(app, cast["Ana"]).get("/").location == "/today"
    assert logged_in(app, cast["Mara"]).get("/").location == "/today"
    assert logged_in(app, cast["Dana"]).get("/").location == "/models"


@pytest.mark.parametrize(("language", "words"), [("en", "Nothing to work yet"), ("zh", "暂无可跟进的记录")])
def test_an_empty_book_says_what_to_do(app: Flask, cast: Cast, language: str, words: str) -> None:
    page = logged_in(app, cast["Ana"], language).get("/today").text
    assert words in page
    assert "crm import MAPPING --from FOLDER" in page


def test_records_without_scores_say_that_a_model_is_missing(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Ana"].id)
    assert "No scores yet." in text_of(logged_in(app, cast["Ana"]).get("/today").text)


def test_a_row_tells_why_it_stands_there(app: Flask, store: Store, cast: Cast, book: dict[str, int]) -> None:
    text = text_of(logged_in(app, cast["Ana"]).get("/today").text)
    assert re.findall(r"(?:Lead|Deal|Customer) (?:Customer|Big|Lead|Small)", text)
    assert (
        "60% to become a deal × 50% of deals are won × €2,000, the mean of 2 first deals like it = €600"
        in text
    )
    assert "50% to leave × €8,000 a year in running contracts = €4,000" in text
    assert "20% to be won × €10,000, its amount = €2,000" in text
    assert "× 1.50: nobody has been in touch yet" in text
    assert "2 calls in the last 30 days" in text
    assert "Of Ben" not in text


@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana", "Adam"])
def test_every_role_gets_the_page(app: Flask, cast: Cast, book: dict[str, int], name: str) -> None:
    assert logged_in(app, cast[name]).get("/today").status_code == 200


def test_the_second_page_goes_on_where_the_first_ended(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        leads = [make_lead(transaction, owner_id=cast["Ana"].id, company=f"No {n:02}").id for n in range(45)]
    show(store, "lead", {lead: 0.9 - 0.01 * place for place, lead in enumerate(leads)})
    ana, path, seen = logged_in(app, cast["Ana"]), "/today", []
    for _ in range(3):
        page = ana.get(path).text
        seen += re.findall(r">(No \d\d)</a></h3>", page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == [f"No {n:02}" for n in range(45)]
    assert path == ""
    assert ana.get("/today?cursor=nonsense").status_code == 422


def test_a_page_takes_at_most_twelve_queries(
    app: Flask, store: Store, cast: Cast, book: dict[str, int]
) -> None:
    with store.transaction() as transaction:
        for number in range(30):
            make_lead(transaction, owner_id=cast["Ana"].id, company=f"Company {number}")
    show(store, "lead", {book["lead"] + number: 0.3 for number in range(1, 31)})
    for name in ("Ana", "Mara"):
        browser = logged_in(app, cast[name])
        browser.get("/today")
        with counted(store) as sent:
            assert browser.get("/today").status_code == 200
        asked = [each for each in sent if each.lstrip().upper().startswith(("SELECT", "WITH"))]
        assert len(asked) <= 12, "\n".join(re.sub(r"\s+", " ", each)[:110] for each in asked)


def test_a_call_logged_in_a_row_sends_it_below_the_line(
    app: Flask, store: Store, cast: Cast, book: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    page = ana.get(f"/today/leads/{book['lead']}").text
    assert "What changed since yesterday?" in page
    sent = {"csrf_token": csrf_of(page), "kind": "call", "subject": "Talked"}
    answer = ana.post(f"/today/leads/{book['lead']}/activities", data=sent)
    assert answer.location == f"/today/leads/{book['lead']}"
    text = text_of(ana.get("/today").text)
    assert "1 of 15 done" in text
    assert "Lead Lead Wang Fang" in text[text.index("Done today") :]


def test_a_script_gets_the_row_anew(app: Flask, store: Store, cast: Cast, book: dict[str, int]) -> None:
    ana, fetch = logged_in(app, cast["Ana"]), {"X-Requested-With": "fetch"}
    panel = ana.get(f"/today/deals/{book['big']}", headers=fetch).text
    assert "<html" not in panel
    sent = {"csrf_token": csrf_of(panel), "subject": "Send the offer", "due_on": "2026-04-03"}
    answer = ana.post(f"/today/deals/{book['big']}/steps", data=sent, headers=fetch)
    assert answer.status_code == 201
    assert "Send the offer" in answer.text
    seen = re.search(r'data-seen="(\d+)"', answer.text)
    assert seen
    assert ana.get(f"/today/deals/{book['big']}/row?seen={seen[1]}").status_code == 204
    assert ana.get(f"/today/deals/{book['big']}/row?seen=1").status_code == 200
    with store.reading() as session:
        task = session.scalars(select(Activity).where(Activity.kind == "task")).one()
    assert (task.subject, task.owner_id, task.due_at and task.due_at.date()) == (
        "Send the offer",
        cast["Ana"].id,
        date(2026, 4, 3),
    )
    done = f"/today/deals/{book['big']}/steps/{task.id}/done"
    assert ana.post(done, data={"csrf_token": sent["csrf_token"]}, headers=fetch).status_code == 201
    with store.reading() as session:
        assert session.get_one(Activity, task.id).outcome == "done"


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("activities", {"kind": "call", "minutes": "long"}),
        ("activities", {"kind": "dance"}),
        ("steps", {"subject": "Offer", "due_on": "2020-01-01"}),
        ("steps", {"subject": "Offer", "due_on": "soon"}),
        ("steps", {"subject": " ", "due_on": "2026-04-03"}),
        ("feedback", {"reason": "mood"}),
    ],
)
def test_a_refused_form_says_why(
    app: Flask, cast: Cast, book: dict[str, int], verb: str, form: dict[str, str]
) -> None:
    ana = logged_in(app, cast["Ana"])
    sent = {"csrf_token": csrf_of(ana.get("/today").text), **form}
    answer = ana.post(f"/today/deals/{book['big']}/{verb}", data=sent)
    assert answer.status_code == 422
    assert "expected" in text_of(answer.text)
    refused = ana.post(f"/today/deals/{book['big']}/{verb}", data=sent, headers={"X-Requested-With": "fetch"})
    assert refused.status_code == 422
    assert "<" not in refused.text


def test_an_objection_is_kept_beside_the_prediction(
    app: Flask, store: Store, cast: Cast, book: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    sent = {"csrf_token": csrf_of(ana.get("/today").text), "reason": "too_high", "text": "They went silent"}
    assert ana.post(f"/today/leads/{book['lead']}/feedback", data=sent).status_code == 302
    with store.reading() as session:
        said = session.scalars(select(ScoreFeedback)).one()
    assert (said.reason, said.text, said.user_id) == ("too_high", "They went silent", cast["Ana"].id)
    assert (said.task, said.record_id) == (TASK_OF["lead"], book["lead"])


def test_nobody_works_what_they_do_not_see(app: Flask, cast: Cast, book: dict[str, int]) -> None:
    ben, dana = logged_in(app, cast["Ben"]), logged_in(app, cast["Dana"])
    token = {"csrf_token": csrf_of(ben.get("/today").text)}
    path = f"/today/leads/{book['lead']}"
    assert ben.get(path).status_code == 404
    assert ben.get(f"{path}/row").status_code == 404
    for verb, form in (
        ("activities", {"kind": "call"}),
        ("steps", {"subject": "x", "due_on": "2026-04-03"}),
        ("feedback", {"reason": "other"}),
    ):
        assert ben.post(f"{path}/{verb}", data={**token, **form}).status_code == 404
    token = {"csrf_token": csrf_of(dana.get("/today").text)}
    assert dana.post(f"{path}/activities", data={**token, "kind": "call"}).status_code == 403


def test_the_number_a_day_is_remembered(app: Flask, store: Store, cast: Cast, book: dict[str, int]) -> None:
    ana = logged_in(app, cast["Ana"])
    token = csrf_of(ana.get("/today").text)
    for given, kept, shown in (("3", 3, "0 of 3 done"), ("", None, "0 of 15 done")):
        ana.post("/today/capacity", data={"csrf_token": token, "capacity": given})
        with store.reading() as session:
            assert find_day_plan(session, cast["Ana"].id) == kept
        assert shown in text_of(ana.get("/today").text)
    assert ana.post("/today/capacity", data={"csrf_token": token, "capacity": "0"}).status_code == 422
    assert ana.post("/today/capacity", data={"csrf_token": token, "capacity": "many"}).status_code == 422


def test_when_the_number_of_the_day_is_reached_it_says_so(
    app: Flask, store: Store, cast: Cast, book: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    ana.post("/today/capacity", data={"csrf_token": csrf_of(ana.get("/today").text), "capacity": "1"})
    assert "Beyond today’s 1" in text_of(ana.get("/today").text)
    with store.transaction() as transaction:
        make_activity(transaction, deal_id=book["big"])
    assert "Today’s 1 are done." in text_of(ana.get("/today").text)


# ------------------------------------------------------------------------------------- the API


def test_the_api_tells_the_same_order_page_by_page(
    app: Flask, store: Store, cast: Cast, book: dict[str, int]
) -> None:
    client, items, query = app.test_client(), [], "limit=3"
    for _ in range(2):
        page = client.get(f"/api/v1/today?{query}", headers=cast.header("Ana")).get_json()
        items += page["items"]
        query = f"limit=3&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert [(item["record_type"], item["id"]) for item in items] == order_of(day_of(store, cast["Ana"]))
    first = items[0]
    assert (first["expected"], first["stake"]) == (
        "4000.00",
        {"amount": "8000.00", "of": "contract", "share": 1},
    )
    assert first["worth"] == pytest.approx(4_000 * 1.5)
    assert (page["currency"], page["capacity"], page["done"]) == ("EUR", 15, [])
    refused = client.get("/api/v1/today?cursor=x", headers=cast.header("Ana"))
    assert refused.status_code == 422
