"""The funnel against a plain loop over what was done, as of today and of the past, within rights."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import pytest
from flask import Flask

from crm_core.access import FieldRight, Reader
from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.leads import convert_lead
from crm_core.records import Campaign, Deal, Lead, User
from crm_core.store import Store, Transaction
from serving.funnel import Funnel, FunnelQuestion, build_funnel, list_behind
from serving.web.shown_as import percent
from tests.factories import make_activity, make_lead
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, logged_in

DAY = timedelta(days=1)
DAYS = 90


@dataclass(kw_only=True)
class Happened:
    """What was done with one lead, kept by the test itself."""

    lead: int
    owner: str
    source: str
    created: datetime
    contacted: datetime | None = None
    converted: datetime | None = None
    deal: datetime | None = None
    won: datetime | None = None
    amount: Decimal = Decimal(0)
    deal_id: int = 0


@pytest.fixture
def history(store: Store, clock: FixedClock, cast: Cast) -> list[Happened]:
    """Four months of Ana's and Otto's leads, each step taken by chance."""
    dice, done = random.Random(5), list[Happened]()
    for _ in range(DAYS // 2):
        with store.transaction() as transaction:
            for _ in range(dice.randint(0, 3)):
                owner, source = dice.choice(["Ana", "Otto"]), dice.choice(["web", "fair", "=call"])
                lead = make_lead(transaction, owner_id=cast[owner].id, source=source)
                done.append(Happened(lead=lead.id, owner=owner, source=source, created=transaction.now))
            for one in done:
                if dice.random() < 0.06:
                    _step(transaction, one)
        clock.advance(2 * DAY)
    return done


def _step(transaction: Transaction, one: Happened) -> None:
    now, session = transaction.now, transaction.session
    if one.contacted is None:
        make_activity(transaction, lead_id=one.lead)
        one.contacted = now
    elif one.converted is None:
        deal = Deal(name="Pumps", stage="first_contact", amount=Decimal(100 + one.lead), currency="EUR")
        convert_lead(transaction, session.get_one(Lead, one.lead), deal=deal)
        one.converted = one.deal = now
        one.deal_id, one.amount = deal.id, Decimal(100 + one.lead)
    elif one.won is None:
        close_deal(transaction, session.get_one(Deal, one.deal_id), won=True)
        one.won = now


def question(clock: FixedClock, **given: Any) -> FunnelQuestion:
    usual: dict[str, Any] = {
        "since": (clock.now() - 400 * DAY).date(),
        "until": (clock.now() + DAY).date(),
        "as_of": clock.now(),
        "within_days": 30,
    }
    return FunnelQuestion(**(usual | given))


def ask(store: Store, user: User, asked: FunnelQuestion) -> Funnel:
    with store.reading() as session:
        return build_funnel(Reader(session, user), asked, store.clock.now())


def expected(history: list[Happened], asked: FunnelQuestion, step: str) -> tuple[int, int, int, float | None]:
    """Count a step in a loop: so far, within the window of those old enough, these, their median days."""
    window = timedelta(days=asked.within_days)
    known = [one for one in history if one.created <= asked.as_of]
    took = [at for one in known if (at := getattr(one, step)) is not None and at <= asked.as_of]
    old = [one for one in known if one.created + window <= asked.as_of]
    waits = [at - one.created for one in old if (at := getattr(one, step)) is not None and at <= asked.as_of]
    quick = [wait / DAY for wait in waits if wait <= window]
    return len(took), len(quick), len(old), median(quick) if quick else None


@pytest.mark.parametrize("days_ago", [0, 45])
def test_every_step_is_what_a_loop_over_what_was_done_counts(
    store: Store, clock: FixedClock, cast: Cast, history: list[Happened], days_ago: int
) -> None:
    asked = question(clock, as_of=clock.now() - days_ago * DAY)
    funnel = ask(store, cast["Dana"], asked)
    assert len(funnel.whole.steps) == 4
    for step in funnel.whole.steps:
        found = (step.count, step.within.count, step.within.of, step.median_days)
        assert found == pytest.approx(expected(history, asked, step.name)), step.name
    won = sum((one.amount for one in history if one.won is not None and one.won <= asked.as_of), Decimal(0))
    assert won > 0
    assert funnel.whole.won == {"EUR": won}


@pytest.mark.parametrize(("by", "value"), [("source", "source"), ("owner", "owner")])
def test_each_group_is_counted_from_its_own_leads(
    store: Store, clock: FixedClock, cast: Cast, history: list[Happened], by: str, value: str
) -> None:
    asked = question(clock, by=by)
    for group in ask(store, cast["Dana"], asked).groups:
        mine = [one for one in history if getattr(one, value) == group.name]
        assert group.leads == len(mine)
        for step in group.steps:
            assert (step.count, step.within.count) == expected(mine, asked, step.name)[:2]


def test_the_leads_behind_a_number_are_as_many(
    store: Store, clock: FixedClock, cast: Cast, history: list[Happened]
) -> None:
    asked = question(clock)
    with store.reading() as session:
        ids = list_behind(Reader(session, cast["Dana"]), asked, clock.now(), "web", "converted")
    wanted = {one.lead for one in history if one.source == "web" and one.converted is not None}
    assert set(ids) == wanted
    assert wanted


def test_a_source_that_was_corrected_later_is_what_it_was_then(
    store: Store, clock: FixedClock, cast: Cast
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, source="web").id
    then = clock.now()
    clock.advance(5 * DAY)
    with store.transaction() as transaction:
        transaction.update(transaction.session.get_one(Lead, lead), {"source": "fair"})
    now = ask(store, cast["Mara"], question(clock))
    before = ask(store, cast["Mara"], question(clock, as_of=then))
    assert ([one.name for one in now.groups], [one.name for one in before.groups]) == (["fair"], ["web"])


def test_a_campaign_tells_what_a_customer_cost_and_what_came_back(
    store: Store, clock: FixedClock, cast: Cast
) -> None:
    with store.transaction() as transaction:
        spring = transaction.create(Campaign(name="Spring", cost=Decimal(500), currency="EUR")).id
        one = make_lead(transaction, owner_id=cast["Ana"].id, campaign_id=spring)
        make_lead(transaction, owner_id=cast["Ana"].id, campaign_id=spring)
        deal = Deal(name="Pumps", stage="first_contact", amount=Decimal(1_500), currency="EUR")
        convert_lead(transaction, one, deal=deal)
        close_deal(transaction, deal, won=True)
    clock.advance(DAY)
    (group,) = ask(store, cast["Mara"], question(clock, by="campaign")).groups
    assert group.money is not None
    assert (group.name, group.leads) == ("Spring", 2)
    assert (group.money.cost, group.money.per_customer, group.money.times) == (
        Decimal(500),
        Decimal(500),
        3.0,
    )
    (seen_by_ana,) = ask(store, cast["Ana"], question(clock, by="campaign")).groups
    assert seen_by_ana.money is None, "reps do not see what campaigns cost"


def test_who_sees_fewer_leads_gets_a_smaller_funnel(
    store: Store, clock: FixedClock, cast: Cast, history: list[Happened]
) -> None:
    mine = sum(one.owner == "Ana" for one in history)
    assert ask(store, cast["Mara"], question(clock)).whole.leads == mine
    assert ask(store, cast["Dana"], question(clock)).whole.leads == len(history)


def test_a_hidden_field_tells_no_leads_apart_and_hidden_amounts_hide_the_deal_steps(
    store: Store, clock: FixedClock, cast: Cast, history: list[Happened]
) -> None:
    with store.transaction() as transaction:
        for record_type, field in (("lead", "source"), ("deal", "amount")):
            hidden = FieldRight(role="manager", record_type=record_type, field=field, read=False, write=False)
            transaction.session.add(hidden)
    with pytest.raises(AccessDeniedError):
        ask(store, cast["Mara"], question(clock))
    funnel = ask(store, cast["Mara"], question(clock, by="owner"))
    assert [step.name for step in funnel.whole.steps] == ["contacted", "converted"]
    assert (list(funnel.hidden), funnel.whole.won) == (["deal", "won"], {})


@pytest.mark.parametrize("wrong", [{"by": "name"}, {"within_days": 7}, {"until": date(2001, 1, 1)}])
def test_a_question_without_sense_is_refused(
    store: Store, clock: FixedClock, cast: Cast, wrong: dict[str, object]
) -> None:
    with pytest.raises(InvalidValueError):
        ask(store, cast["Mara"], question(clock, **wrong))


def test_the_page_and_its_file_say_the_same(app: Flask, cast: Cast, history: list[Happened]) -> None:
    client = logged_in(app, cast["Dana"])
    text = client.get("/funnel?within=30").text
    assert f"{len(history)} leads" in text
    rows = list(csv.reader(io.StringIO(client.get("/funnel/export?within=30").text)))
    named = {row[0]: row for row in rows}
    assert int(named["web"][1]) == sum(one.source == "web" for one in history)
    assert "'=call" in named, "no cell is a formula"


def test_the_page_refuses_nonsense_in_words_and_shows_nothing_of_nobody(
    app: Flask, cast: Cast, history: list[Happened]
) -> None:
    client = logged_in(app, cast["Mara"])
    assert "a day such as" in client.get("/funnel?since=spring").text
    assert "No leads" in client.get("/funnel?since=2001-01-01&until=2001-02-01").text
    assert client.get("/funnel/leads?step=won").status_code == 200
    assert client.get("/funnel/leads?step=nothing").status_code == 422


def test_beyond_the_largest_groups_all_others_are_one(
    store: Store, clock: FixedClock, cast: Cast, history: list[Happened], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(store, cast["Dana"], question(clock))
    monkeypatch.setattr("serving.funnel.MOST_GROUPS", 1)
    funnel = ask(store, cast["Dana"], question(clock))
    assert (funnel.groups, funnel.others_count) == (whole.groups[:1], len(whole.groups) - 1)
    assert funnel.others is not None
    assert funnel.others.leads == funnel.whole.leads - whole.groups[0].leads > 0
    assert whole.others is None


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, "0%"), (0.004, "<1%"), (0.03, "3%"), (0.997, ">99%"), (1.0, "100%")]
)
def test_a_share_of_some_is_not_shown_as_none_nor_as_all(app: Flask, share: float, shown: str) -> None:
    with app.test_request_context():
        assert percent(share, 0) == shown
