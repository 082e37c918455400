"""The board: what its columns and cards say, and how a deal is moved, refused, and fought over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from crm_core.access import FieldRight, Reader
from crm_core.changes import Cursor
from crm_core.clock import FixedClock
from crm_core.deals import close_deal, move_deal
from crm_core.records import Deal, User
from crm_core.rescoring import CURSOR
from crm_core.store import Store
from crm_core.won_deals import read_won_deals
from serving.board import AskedBoard, Board, Card, read_board
from tests.factories import make_account, make_activity, make_deal
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.test_pages import show, text_of
from tests.serving.test_today import counted

UTC = ZoneInfo("UTC")
FETCH = {"X-Requested-With": "fetch"}


def board_of(store: Store, user: User, **asked: Any) -> Board:
    with store.reading() as session:
        usual = read_won_deals(session, store.clock.now())
        return read_board(Reader(session, user), AskedBoard(**asked), store.clock.now(), UTC, usual)


def card_of(store: Store, user: User, deal_id: int) -> Card:
    columns = board_of(store, user).columns
    return next(card for column in columns for card in column.cards if card.deal.id == deal_id)


def names_in(board: Board) -> dict[str, list[str]]:
    return {column.stage.key: [card.deal.name for card in column.cards] for column in board.columns}


@pytest.fixture
def deals(store: Store, cast: Cast, clock: FixedClock) -> dict[str, int]:
    """Ana has three deals in two stages and two currencies, Ben one, Otto one; one of Ana's is won."""
    mine = cast["Ana"].id
    with store.transaction() as transaction:
        account = make_account(transaction, name="Hill", owner_id=mine)
        ids = {
            "likely": make_deal(
                transaction, name="Likely", owner_id=mine, account_id=account.id, rep_probability=0.7
            ).id,
            "yuan": make_deal(
                transaction, name="Yuan", owner_id=mine, amount=Decimal(500), currency="CNY"
            ).id,
            "needs": make_deal(
                transaction, name="Needs", owner_id=mine, stage="needs", amount=None, currency=None
            ).id,
            "bens": make_deal(transaction, name="Bens", owner_id=cast["Ben"].id).id,
            "ottos": make_deal(transaction, name="Ottos", owner_id=cast["Otto"].id).id,
        }
        won = make_deal(transaction, name="Won", owner_id=mine)
        close_deal(transaction, won, won=True, as_it_was=True)
    show(store, "deal", {ids["likely"]: 0.5, ids["yuan"]: 0.1, ids["bens"]: 0.25})
    return ids


def test_columns_hold_the_open_deals_the_likeliest_first(
    store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    found = names_in(board_of(store, cast["Ana"]))
    assert found["first_contact"] == ["Likely", "Yuan"]
    assert found["needs"] == ["Needs"]
    assert found["negotiation"] == []
    assert list(found) == ["first_contact", "needs", "proposal", "negotiation"]
    assert names_in(board_of(store, cast["Mara"]))["first_contact"] == ["Likely", "Bens", "Yuan"]
    assert names_in(board_of(store, cast["Mara"], owner_id=cast["Ben"].id))["first_contact"] == ["Bens"]
    assert names_in(board_of(store, cast["Ana"], search="hill"))["first_contact"] == ["Likely"]


def test_totals_are_of_all_deals_of_a_column_by_currency(
    store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    with store.transaction() as transaction:
        more = [make_deal(transaction, owner_id=cast["Ana"].id, amount=Decimal(100)).id for _ in range(40)]
    show(store, "deal", dict.fromkeys(more, 0.2))
    column = board_of(store, cast["Ana"]).columns[0]
    assert (column.count, len(column.cards)) == (42, 30)
    totals = {total.currency: (total.amount, total.weighted) for total in column.totals}
    assert totals == {"EUR": (Decimal(16_000), Decimal(6_800)), "CNY": (Decimal(500), Decimal(50))}
    assert len(board_of(store, cast["Ana"], cards={"first_contact": 60}).columns[0].cards) == 42


def test_a_deal_without_a_score_is_counted_and_told_of(
    store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    needs = board_of(store, cast["Ana"]).columns[1]
    assert (needs.count, needs.unscored, needs.totals) == (1, 1, [])


def test_a_deal_is_stuck_after_three_quarters_of_the_won_ones_had_moved_on(
    store: Store, cast: Cast, clock: FixedClock
) -> None:
    mine = cast["Ana"].id
    with store.transaction() as transaction:
        old = [make_deal(transaction, owner_id=mine) for _ in range(10)]
    for deal in old:  # after 1, 2, ... 10 days
        clock.advance(timedelta(days=1))
        with store.transaction() as transaction:
            move_deal(transaction, transaction.get(Deal, deal.id), "needs")
    with store.transaction() as transaction:
        for deal in old:
            close_deal(transaction, transaction.get(Deal, deal.id), won=True, as_it_was=True)
        fresh = make_deal(transaction, owner_id=mine).id
    clock.advance(timedelta(days=7))
    card = card_of(store, cast["Ana"], fresh)
    assert card.norm is not None
    assert (card.days, round(card.norm.days, 2), card.norm.deals, card.stuck) == (7, 7.75, 10, False)
    clock.advance(timedelta(days=1))
    assert card_of(store, cast["Ana"], fresh).stuck


def test_where_too_few_were_won_the_rule_of_the_stage_counts(
    store: Store, cast: Cast, deals: dict[str, int], clock: FixedClock
) -> None:
    clock.advance(timedelta(days=15))
    card = card_of(store, cast["Ana"], deals["likely"])
    assert (card.norm, card.longest, card.stuck) == (None, 14, True)


def test_time_in_a_stage_begins_anew_with_each_move(
    store: Store, cast: Cast, deals: dict[str, int], clock: FixedClock
) -> None:
    clock.advance(timedelta(days=9))
    with store.transaction() as transaction:
        move_deal(transaction, transaction.get(Deal, deals["likely"]), "needs")
    clock.advance(timedelta(days=2))
    assert card_of(store, cast["Ana"], deals["likely"]).days == 2
    assert card_of(store, cast["Ana"], deals["yuan"]).days == 11


def test_a_deal_slips_when_its_close_is_overdue_put_off_twice_or_its_chance_falls(
    store: Store, cast: Cast, deals: dict[str, int], clock: FixedClock
) -> None:
    def close_on(name: str, *days: date) -> None:
        for day in days:
            with store.transaction() as transaction:
                transaction.update(transaction.get(Deal, deals[name]), {"expected_close_on": day})

    close_on("likely", date(2026, 4, 1), date(2026, 5, 1), date(2026, 4, 20))
    assert not card_of(store, cast["Ana"], deals["likely"]).slipping, "put off once, and moved up once"
    close_on("likely", date(2026, 6, 1))
    assert card_of(store, cast["Ana"], deals["likely"]).slipping.put_off == 2
    close_on("needs", date(2026, 3, 1))
    assert card_of(store, cast["Ana"], deals["needs"]).slipping.overdue
    clock.advance(timedelta(days=3))
    show(store, "deal", {deals["yuan"]: 0.04})
    assert card_of(store, cast["Ana"], deals["yuan"]).slipping.fallen_from == 0.1
    clock.advance(timedelta(days=40))
    assert card_of(store, cast["Ana"], deals["yuan"]).slipping.fallen_from is None


def test_hidden_fields_are_in_no_card_and_no_total(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    for name in ("amount", "probability", "expected_close_on"):
        with store.transaction() as transaction:
            transaction.session.add(
                FieldRight(role="rep", record_type="deal", field=name, read=False, write=False)
            )
    board = board_of(store, cast["Ana"])
    assert not board.with_money
    assert all(not column.totals for column in board.columns)
    text = text_of(logged_in(app, cast["Ana"]).get("/deals/board").text)
    assert "12,000" not in text
    assert "50%" not in text
    assert "70%" in text, "the rep's own is not the model's"


def test_who_may_not_see_stages_gets_no_board(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="stage", read=False, write=False)
        )
    assert logged_in(app, cast["Ana"]).get("/deals/board").status_code == 403


# ------------------------------------------------------------------------------------- the page


def test_a_card_tells_the_model_beside_the_rep_and_the_next_step(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int], clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        make_activity(
            transaction,
            deal_id=deals["likely"],
            kind="task",
            direction=None,
            subject="Send offer",
            due_at=clock.now() + timedelta(days=2),
        )
    text = text_of(logged_in(app, cast["Ana"]).get("/deals/board").text)
    assert "50% model 70% rep" in text
    assert "Hill · €12,000" in text
    assert "To do next: Send offer, Mar 4, 2026" in text
    assert "€12,000 weighted €6,000" in text
    assert "Ottos" not in text


@pytest.mark.parametrize(("language", "words"), [("en", "No deals yet"), ("zh", "还没有商机")])
def test_an_empty_board_says_so(app: Flask, cast: Cast, language: str, words: str) -> None:
    assert words in text_of(logged_in(app, cast["Ana"], language).get("/deals/board").text)


def test_filters_that_nothing_fits_can_be_cleared(app: Flask, cast: Cast, deals: dict[str, int]) -> None:
    assert "Nothing fits" in text_of(logged_in(app, cast["Ana"]).get("/deals/board?q=zzz").text)


def test_a_long_column_is_shown_bit_by_bit(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        for number in range(35):
            make_deal(transaction, owner_id=cast["Ana"].id, name=f"Number {number}")
    ana = logged_in(app, cast["Ana"])
    page = ana.get("/deals/board").text
    assert page.count('class="deal-card"') == 30
    more = re.search(r'href="([^"]+)#lane-first_contact"', page)
    assert more is not None
    assert ana.get(more[1].replace("&amp;", "&")).text.count('class="deal-card"') == 35


def test_the_board_takes_at_most_twelve_queries(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    browser = logged_in(app, cast["Mara"])
    browser.get("/deals/board")
    with counted(store) as sent:
        browser.get("/deals/board")
    asked = [each for each in sent if each.lstrip().upper().startswith(("SELECT", "WITH"))]
    assert len(asked) <= 12, "\n".join(re.sub(r"\s+", " ", each)[:110] for each in asked)


# ------------------------------------------------------------------------------------- moving


def send(
    browser: FlaskClient,
    deal_id: int,
    stage: str,
    version: int,
    headers: Mapping[str, str] = FETCH,
    **more: str,
) -> TestResponse:
    token = csrf_of(browser.get("/account").text)
    form = {"csrf_token": token, "stage": stage, "version": str(version), **more}
    return browser.post(f"/deals/board/{deal_id}/move", data=form, headers=dict(headers))


def deal_now(store: Store, deal_id: int) -> Deal:
    with store.reading() as session:
        return session.get_one(Deal, deal_id)


def test_a_move_gives_the_card_and_all_totals_anew(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    answer = send(logged_in(app, cast["Ana"]), deals["likely"], "needs", 1)
    assert answer.status_code == 200
    assert deal_now(store, deals["likely"]).stage == "needs"
    assert re.findall(r'id="figures-(\w+)"', answer.text) == [
        *("first_contact", "needs", "proposal", "negotiation")
    ]
    assert f'id="card-{deals["likely"]}"' in answer.text
    assert "€12,000" in answer.text[answer.text.index("figures-needs") :]


def test_what_a_stage_requires_is_asked_for_and_then_the_deal_moves(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    refused = send(ana, deals["needs"], "proposal", 1)
    assert refused.status_code == 422
    assert re.findall(r'id="ask-(\w+)"', refused.text) == ["title", "amount", "currency", "account_id"]
    assert "Hill" in refused.text
    wrong = send(ana, deals["needs"], "proposal", 1, amount="much", currency="EUR", account_id="1")
    assert wrong.status_code == 422
    assert 'value="much"' in wrong.text
    assert deal_now(store, deals["needs"]).stage == "needs"
    given = send(ana, deals["needs"], "proposal", 1, amount="1,500", currency="eur", account_id="1")
    assert given.status_code == 200
    moved = deal_now(store, deals["needs"])
    assert (moved.stage, moved.amount, moved.currency, moved.account_id) == (
        *("proposal", Decimal(1_500), "EUR", 1),
    )


def test_who_was_slower_sees_what_changed_and_may_move_all_the_same(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    ana, mara = logged_in(app, cast["Ana"]), logged_in(app, cast["Mara"])
    assert send(mara, deals["likely"], "needs", 1).status_code == 200
    answer = send(ana, deals["likely"], "proposal", 1)
    assert answer.status_code == 412
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))
    assert "Stage: First contact → Needs · Mara" in said
    assert deal_now(store, deals["likely"]).stage == "needs"
    version = re.search(r'name="version" value="(\d+)"', answer.text)
    assert version is not None
    assert send(ana, deals["likely"], "proposal", int(version[1])).status_code == 200
    assert deal_now(store, deals["likely"]).stage == "proposal"


def test_a_lost_deal_needs_a_reason_and_leaves_the_board(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    asked = send(ana, deals["yuan"], "lost", 1)
    assert asked.status_code == 422
    assert 'name="lost_reason"' in asked.text
    answer = send(ana, deals["yuan"], "lost", 1, lost_reason="price")
    assert answer.status_code == 200
    assert "deal-card" not in answer.text
    lost = deal_now(store, deals["yuan"])
    assert (lost.status, lost.lost_reason, lost.stage) == ("lost", "price", "first_contact")
    again = send(ana, deals["yuan"], "needs", lost.version)
    assert (again.status_code, again.headers["X-Refused"]) == (409, "text")


def test_a_won_deal_must_say_what_was_sold_to_whom(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    assert send(ana, deals["yuan"], "won", 1).status_code == 422
    assert send(ana, deals["yuan"], "won", 1, account_id="1").status_code == 200
    won = deal_now(store, deals["yuan"])
    assert (won.status, won.stage, won.account_id) == ("won", "contract", 1)


def test_without_a_script_the_same_is_asked_on_pages(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int]
) -> None:
    ana = logged_in(app, cast["Ana"])
    plain = {"Accept": "text/html"}
    assert send(ana, deals["likely"], "needs", 1, headers=plain).location == "/deals/board"
    asked = send(ana, deals["needs"], "proposal", 1, headers=plain)
    assert asked.status_code == 422
    assert "<html" in asked.text
    conflict = send(ana, deals["likely"], "proposal", 1, headers=plain)
    assert conflict.status_code == 412
    assert "Somebody else has changed Likely" in text_of(conflict.text)


@pytest.mark.parametrize(
    ("name", "deal", "status"), [("Ben", "likely", 404), ("Ana", "ottos", 404), ("Dana", "likely", 403)]
)
def test_nobody_moves_what_is_not_theirs(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int], name: str, deal: str, status: int
) -> None:
    assert send(logged_in(app, cast[name]), deals[deal], "needs", 1).status_code == status
    assert deal_now(store, deals[deal]).stage == "first_contact"


@pytest.mark.parametrize(("stage", "version"), [("nowhere", 1), ("contract", 1), ("needs", -1)])
def test_nonsense_is_refused(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int], stage: str, version: int
) -> None:
    answer = send(logged_in(app, cast["Ana"]), deals["likely"], stage, version)
    assert (answer.status_code, answer.headers["X-Refused"]) == (422, "text")
    assert deal_now(store, deals["likely"]).stage == "first_contact"


def test_a_new_score_brings_a_new_card(
    app: Flask, store: Store, cast: Cast, deals: dict[str, int], clock: FixedClock
) -> None:
    ana = logged_in(app, cast["Ana"])
    seen = re.search(r'data-seen="(\d+)"', ana.get("/deals/board").text)
    assert seen is not None
    path = f"/deals/board/{deals['likely']}?seen={seen[1]}"
    waits = ana.get(path)
    assert (waits.status_code, waits.headers.get("X-Score-Stays")) == (204, None)
    with store.transaction() as transaction:  # all that happened has been answered for
        transaction.session.add(Cursor(name=CURSOR, position=10**9))
    assert ana.get(path).headers.get("X-Score-Stays") == "yes"
    clock.advance(timedelta(minutes=1))
    show(store, "deal", {deals["likely"]: 0.6})
    assert "60%" in ana.get(path).text
