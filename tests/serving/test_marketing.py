"""Marketing's numbers against plain recomputations, within rights, on pages and over the API."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.access import FieldRight, Reader
from crm_core.attribution import Model
from crm_core.audiences import Audience, add_audience, add_members, end_audience, list_due
from crm_core.changes import Change
from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.errors import AccessDeniedError, FilterError, InvalidValueError
from crm_core.leads import convert_lead
from crm_core.merging import merge_records
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import (
    Activity,
    Campaign,
    CampaignMember,
    Deal,
    Lead,
    Payment,
    Tag,
    User,
)
from crm_core.saving import keep_segment
from crm_core.store import Store, Transaction
from serving.attribution import Attribution, AttributionQuestion, build_attribution
from serving.audiences import refresh_audiences
from serving.campaigns import CampaignFigures, list_figures
from serving.lead_quality import QualityQuestion, build_quality, tenths
from serving.ratios import count_interval, each, times
from tests.factories import make_account, make_activity, make_contact, make_lead
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, csrf_of, logged_in

DAY = timedelta(days=1)
SOURCES = ("ad", "trade show", "referral", None)


@pytest.fixture
def history(store: Store, clock: FixedClock, cast: Cast) -> None:
    """Half a year of leads, answers, visits, mails and calls; some become deals, of which some are won."""
    dice = random.Random(7)
    with store.transaction() as transaction:
        for name, channel in (("Spring", "event"), ("Search", "search")):
            money = {"cost": Decimal(900), "budget": Decimal(1000), "currency": "EUR"}
            transaction.create(Campaign(name=name, channel=channel, **money))
    open_leads: list[int] = []
    open_deals: list[int] = []
    for _ in range(45):
        with store.transaction() as transaction:
            for _ in range(dice.randint(1, 3)):
                lead = _new_lead(transaction, dice, cast)
                open_leads.append(lead.id)
            for lead_id in list(open_leads):
                _touch(transaction, dice, lead_id)
                if dice.random() < 0.12:
                    open_deals.append(_convert(transaction, dice, lead_id))
                    open_leads.remove(lead_id)
            for deal_id in list(open_deals):
                if dice.random() < 0.15:
                    deal = transaction.get(Deal, deal_id)
                    won = dice.random() < 0.6
                    close_deal(transaction, deal, won=won, lost_reason=None if won else "Price")
                    if won and dice.random() < 0.5:
                        _pay(transaction, deal)
                    open_deals.remove(deal_id)
        clock.advance(timedelta(days=4, hours=dice.randint(0, 9)))


def _new_lead(transaction: Transaction, dice: random.Random, cast: Cast) -> Lead:
    campaign: dict[str, Any] = dice.choice(
        [{"campaign_id": 1}, {"campaign": "search"}, {"campaign": "Unknown"}, {}, {}]
    )
    owner = cast[dice.choice(["Ana", "Otto"])].id
    return make_lead(transaction, source=dice.choice(SOURCES), owner_id=owner, email=None, **campaign)


def _touch(transaction: Transaction, dice: random.Random, lead_id: int) -> None:
    kind = dice.choice(["web", "mail", "call", None, None])
    if kind is not None:
        direction = dice.choice(["inbound", "inbound", "outbound"])
        make_activity(transaction, lead_id=lead_id, kind=kind, direction=direction)
    if dice.random() < 0.15:
        answered = {"response": "came", "responded_at": transaction.now} if dice.random() < 0.6 else {}
        transaction.create(CampaignMember(campaign_id=dice.choice([1, 2]), lead_id=lead_id, **answered))


def _convert(transaction: Transaction, dice: random.Random, lead_id: int) -> int:
    amount = dice.choice([Decimal("1000.01"), Decimal(333), Decimal("0.0001")])
    currency = dice.choice(["EUR", "EUR", "CNY"])
    deal = Deal(name="Pumps", stage="needs", amount=amount, currency=currency)
    made = convert_lead(transaction, transaction.get(Lead, lead_id), deal=deal)
    assert made.deal is not None
    if made.contact is not None and dice.random() < 0.5:
        make_activity(transaction, lead_id=None, contact_id=made.contact.id, kind="web", direction="inbound")
    return made.deal.id


def _pay(transaction: Transaction, deal: Deal) -> None:
    paid: dict[str, Any] = {"account_id": deal.account_id, "deal_id": deal.id, "amount": Decimal("70.05")}
    transaction.create(Payment(**paid, currency=deal.currency, paid_at=transaction.now))
    transaction.create(Payment(**paid, currency=deal.currency))  # still open


def whole_time(clock: FixedClock, **more: Any) -> AttributionQuestion:
    today = clock.now().date()
    span: dict[str, Any] = {"since": today - 400 * DAY, "until": today + DAY, "currency": "EUR"}
    return AttributionQuestion(**{**span, **more})


def attribution(store: Store, user: User, question: AttributionQuestion) -> Attribution:
    with store.reading() as session:
        return build_attribution(Reader(session, user), question)


# ---------------------------------------------------------------- attribution against a slow loop


def slow_touches(store: Store, deal: Deal) -> list[tuple[datetime, str | None, str | None]]:
    """Say when, by which source and by which campaign a deal was touched, one record after the other."""
    rank = ["origin", "form", "response", "visit", "mail", "call"]
    found: list[tuple[datetime, int, str | None, str | None]] = []
    known = {"search": "#2", "spring": "#1"}
    since = deal.occurred_at - 365 * DAY
    closed = deal.closed_at
    assert closed is not None
    with store.reading() as session:
        leads = [
            each
            for each in session.scalars(select(Lead))
            if each.deal_id == deal.id or (each.contact_id and each.contact_id == deal.contact_id)
        ]
        for lead in leads:
            name = lead.campaign and known.get(lead.campaign.casefold(), lead.campaign)
            campaign = f"#{lead.campaign_id}" if lead.campaign_id else name
            found.append((lead.occurred_at, 0, lead.source, campaign))
        people = {("lead_id", lead.id) for lead in leads} | {("contact_id", deal.contact_id)}
        for member in session.scalars(select(CampaignMember)):
            if member.responded_at and any(getattr(member, link) == key for link, key in people if key):
                found += [(member.responded_at, 2, "campaign", f"#{member.campaign_id}")]
        for link, key in people:
            first = set()
            for each in session.scalars(select(Activity).order_by(Activity.occurred_at, Activity.id)):
                if key is None or getattr(each, link) != key or each.direction != "inbound":
                    continue
                if each.kind == "web":
                    found.append((each.occurred_at, 3, "website", None))
                elif each.kind in {"mail", "call"} and each.kind not in first:
                    first.add(each.kind)
                    by = {"mail": "mail", "call": "phone"}[each.kind]
                    found.append((each.occurred_at, rank.index(each.kind), by, None))
    found = sorted(
        (one for one in found if since < one[0] <= closed),
        key=lambda one: (*one[:2], one[2] or "", one[3] or ""),
    )
    kept: dict[Any, tuple[datetime, str | None, str | None]] = {}
    for at, _, source, of in found:
        kept.setdefault((at.date(), of or ("", source)), (at, source, of))
    return list(kept.values()) or [(deal.occurred_at, deal.source, None)]


def slow_weights(model: Model, touches: list[Any], half_life: int) -> list[Fraction | float]:
    count = len(touches)
    if model in {Model.FIRST, Model.LAST}:
        chosen = 0 if model is Model.FIRST else count - 1
        return [Fraction(int(place == chosen)) for place in range(count)]
    if model is Model.DECAY:
        ages = [(touches[-1][0] - each[0]) / DAY for each in touches]
        raw = [0.5 ** (age / half_life) for age in ages]
        return [one / sum(raw) for one in raw]
    if model is Model.POSITION and count > 2:
        between = Fraction(1, 5) / (count - 2)
        return [Fraction(2, 5), *([between] * (count - 2)), Fraction(2, 5)]
    return [Fraction(1, count)] * count


@pytest.mark.parametrize("by", ["source", "campaign"])
def test_attribution_is_what_a_slow_loop_says_and_adds_up_to_the_cent(
    store: Store, cast: Cast, history: None, clock: FixedClock, by: str
) -> None:
    told = attribution(store, cast["Dana"], whole_time(clock, by=by))
    expected: dict[Model, dict[str, list[float]]] = {one: defaultdict(lambda: [0.0] * 3) for one in Model}
    with store.reading() as session:
        deals = session.scalars(select(Deal).where(Deal.status == "won", Deal.currency == "EUR")).all()
        paid = defaultdict(
            Decimal,
            session.execute(
                select(Payment.deal_id, func.sum(Payment.amount))
                .where(Payment.paid_at.is_not(None))
                .group_by(Payment.deal_id)
            ).all(),
        )
    assert len(deals) == told.deals > 8
    for deal in deals:
        touches = slow_touches(store, deal)
        for model in Model:
            weights = slow_weights(model, touches, 14)
            for (_, source, campaign), weight in zip(touches, weights, strict=True):
                heap = expected[model][(source if by == "source" else campaign) or ""]
                for place, whole in enumerate((1, deal.amount or 0, paid[deal.id])):
                    heap[place] += float(weight) * float(whole)
    for model in Model:
        rows = {row.key: row.credits[model] for row in told.rows}
        for key, (count, won, received) in expected[model].items():
            got = rows[key]
            assert float(got.deals) == pytest.approx(count, abs=1e-4)
            assert float(got.won) == pytest.approx(won, abs=0.01 * told.deals)
            assert float(got.paid) == pytest.approx(received, abs=0.01 * told.deals)
        assert sum(one.deals for one in rows.values()) == told.deals
        assert sum(one.won for one in rows.values()) == told.whole.won == sum(d.amount or 0 for d in deals)
        assert sum(one.paid for one in rows.values()) == told.whole.paid == sum(paid[d.id] for d in deals)


def test_currencies_are_never_added_and_the_commonest_comes_first(
    store: Store, cast: Cast, history: None, clock: FixedClock
) -> None:
    usual = attribution(store, cast["Dana"], whole_time(clock, currency=None))
    other = attribution(store, cast["Dana"], whole_time(clock, currency="CNY"))
    assert (usual.currency, list(usual.currencies)) == ("EUR", ["EUR", "CNY"])
    with store.reading() as session:
        of = select(func.count()).where(Deal.status == "won", Deal.currency == "CNY")
        assert other.deals == session.scalar(of)


def test_intervals_hold_the_share_and_are_not_given_of_few(
    store: Store, cast: Cast, history: None, clock: FixedClock
) -> None:
    told = attribution(store, cast["Dana"], whole_time(clock))
    assert told.deals >= 10
    for row in told.rows:
        assert row.share is not None
        assert row.low is not None
        assert row.high is not None
        assert 0 <= row.low <= row.share <= row.high <= 1
    assert sum(row.share or 0 for row in told.rows) == pytest.approx(1)
    today = clock.now().date()
    few = attribution(store, cast["Dana"], whole_time(clock, since=today - 20 * DAY))
    assert few.deals < 10
    assert all(row.share is None for row in few.rows)


def test_a_merge_takes_touches_along(store: Store, cast: Cast, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        one, two = make_lead(transaction, source="ad"), make_lead(transaction, source="referral")
        make_activity(transaction, lead_id=two.id, kind="web", direction="inbound")
    clock.advance(3 * DAY)
    with store.transaction() as transaction:
        merge_records(transaction, transaction.get(Lead, one.id), transaction.get(Lead, two.id))
        deal = Deal(name="Pumps", stage="needs", amount=Decimal(90), currency="EUR")
        made = convert_lead(transaction, transaction.get(Lead, one.id), deal=deal).deal
        assert made is not None
        close_deal(transaction, made, won=True)
    told = attribution(store, cast["Dana"], whole_time(clock, model=Model.LINEAR))
    assert {row.key: row.credits[Model.LINEAR].won for row in told.rows} == {"ad": 45, "website": 45}


def test_who_sees_less_has_less_to_divide_and_who_may_not_see_amounts_nothing(
    store: Store, cast: Cast, history: None, clock: FixedClock
) -> None:
    whole = attribution(store, cast["Dana"], whole_time(clock))
    anas = attribution(store, cast["Ana"], whole_time(clock))
    assert 0 < anas.deals < whole.deals
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="deal", field="amount", read=False, write=False)
        transaction.session.add(hidden)
        transaction.session.add(
            FieldRight(role="manager", record_type="lead", field="source", read=False, write=False)
        )
    with pytest.raises(AccessDeniedError):
        attribution(store, cast["Ana"], whole_time(clock))
    kept = attribution(store, cast["Mara"], whole_time(clock))
    assert {row.key for row in kept.rows} <= {
        "",
        "website",
        "campaign",
        "mail",
        "phone",
        *filter(None, SOURCES),
    }


# ---------------------------------------------------------------- campaigns


def figures(store: Store, user: User) -> dict[str, CampaignFigures]:
    with store.reading() as session:
        return {one.name: one for one in list_figures(Reader(session, user))}


def test_a_campaign_counts_what_a_plain_loop_counts(store: Store, cast: Cast, history: None) -> None:
    told = figures(store, cast["Dana"])
    with store.reading() as session:
        leads = session.scalars(select(Lead)).all()
        deals = {each.id: each for each in session.scalars(select(Deal))}
        members = session.scalars(select(CampaignMember)).all()
        paid = session.scalars(select(Payment).where(Payment.paid_at.is_not(None))).all()
    for key, name in ((1, "Spring"), (2, "Search")):
        one = told[name]
        mine = [each for each in leads if each.campaign_id == key or (each.campaign or "") == name.lower()]
        ids = {each.deal_id for each in mine if each.deal_id}
        ids |= {each.id for each in deals.values() if each.campaign_id == key}
        won = [deals[each] for each in ids if deals[each].status == "won"]
        assert one.leads == len(mine)
        assert one.conversions.count == sum(each.status == "converted" for each in mine)
        assert (one.deals, one.deals_won) == (len(ids), len(won))
        assert one.customers == len({each.account_id for each in won})
        reached = [each for each in members if each.campaign_id == key]
        assert (one.members, one.responses.count) == (
            len(reached),
            sum(each.responded_at is not None for each in reached),
        )
        by_currency: dict[str, Decimal] = defaultdict(Decimal)
        for each_deal in won:
            by_currency[each_deal.currency or ""] += each_deal.amount or 0
        assert one.won == by_currency
        received = sum((each.amount for each in paid if each.deal_id in {deal.id for deal in won}), Decimal())
        assert sum(one.paid.values()) == received
        assert one.per_lead.value == pytest.approx(900 / len(mine))


def test_who_sees_a_part_of_the_leads_has_a_part_of_the_cost_compared(
    store: Store, cast: Cast, history: None
) -> None:
    whole, part = figures(store, cast["Dana"])["Spring"], figures(store, cast["Mara"])["Spring"]
    assert part.leads < whole.leads
    assert part.is_part
    assert part.per_lead == whole.per_lead
    rep = figures(store, cast["Ana"])["Spring"]
    assert (rep.cost, rep.per_lead.value, rep.shows_cost) == (None, None, False)


def test_ratios_of_few_are_not_given_and_intervals_cover() -> None:
    assert each(Decimal(100), 4).value is None
    assert each(None, 50).value is None
    assert times(Decimal(0), [1.0] * 9).value is None
    dice = np.random.default_rng(3)
    inside = [low <= 12 <= high for low, high in (count_interval(int(n)) for n in dice.poisson(12, 2_000))]
    assert 0.92 < np.mean(inside) < 0.97
    truth, held = 30 * 8.0, 0
    for _ in range(200):
        amounts = dice.gamma(2.0, 4.0, dice.poisson(30)).tolist()
        ratio = times(Decimal(1), amounts)
        held += (ratio.low or 0) <= truth <= (ratio.high or 0)
    assert 0.88 < held / 200 < 0.99


# ---------------------------------------------------------------- audiences


def test_a_filter_adds_who_fits_once(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        campaign = transaction.create(Campaign(name="Spring")).id
        for industry in ("pumps", "pumps", "food"):
            make_lead(transaction, industry=industry)
        account = make_account(transaction, industry="pumps")
        make_contact(transaction, account_id=account.id)
        mara = cast["Mara"]
        for count in (2, 0):
            assert add_members(transaction, mara, campaign, "lead", ["industry:eq:pumps"]) == count
        assert add_members(transaction, cast["Adam"], campaign, "account", ["industry:eq:pumps"]) == 1
        with pytest.raises(AccessDeniedError):
            add_members(transaction, cast["Ana"], campaign, "lead", ["industry:eq:pumps"])
        with pytest.raises(InvalidValueError):
            add_members(transaction, mara, campaign, "lead", [])
        with pytest.raises(FilterError):
            add_members(transaction, mara, campaign, "lead", ["industry:like:x"])
        created = select(func.count()).where(Change.record_type == "campaign_member")
        assert transaction.session.scalar(created) == 3


def test_a_segment_feeds_a_campaign_as_the_log_goes_on(store: Store, cast: Cast, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        campaign = transaction.create(Campaign(name="Spring")).id
        food = make_lead(transaction, industry="food").id
        adam = cast["Adam"]
        conditions = ["tag:eq:warm"]
        segment = keep_segment(transaction, adam, "lead", "Warm", conditions, shared="all").id
        add_audience(transaction, adam, campaign, segment)
        later = keep_segment(transaction, adam, "lead", "Food", ["industry:eq:food"], shared="all").id
        assert [add_audience(transaction, adam, campaign, later) for _ in range(2)] == [1, 0]
        end_audience(transaction, adam, campaign, later)
        transaction.delete(transaction.session.scalars(select(CampaignMember)).one())
        food = make_lead(transaction, industry="food").id
    clock.advance(timedelta(minutes=2))
    assert refresh_audiences(store) == 0
    with store.transaction() as transaction:
        assert list_due(transaction.session, clock.now()) == []  # the log tells of nothing since
        transaction.create(Tag(subject_type="lead", subject_id=food, word="warm"))
    assert (refresh_audiences(store), refresh_audiences(store)) == (1, 0)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, food), {"name": "Li Na"})
        assert list_due(transaction.session, clock.now()) == []  # looked at a moment ago
        assert list_due(transaction.session, clock.now() + timedelta(minutes=2)) == [1]
    with store.transaction() as transaction:
        there = CampaignMember.deleted_at.is_(None)
        member = transaction.session.scalars(select(CampaignMember).where(there)).one()
        assert member.lead_id == food
        transaction.delete(member)
    clock.advance(timedelta(hours=2))
    assert refresh_audiences(store) == 0  # who was taken out stays out
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, adam.id), {"active": False})
    clock.advance(timedelta(hours=2))
    refresh_audiences(store)
    with store.reading() as session:
        assert session.scalars(select(Audience)).all() == []


# ---------------------------------------------------------------- lead quality


def test_tenths_hold_a_tenth_and_part_equal_scores_evenly() -> None:
    worst, best = tenths(np.array([0.1, 0.1, 0.1, 0.1, *[0.5] * 16, np.nan]))
    assert worst[:4] == pytest.approx([0.5] * 4)
    assert (worst.sum(), best.sum(), worst[-1]) == (pytest.approx(2), pytest.approx(2), 0)
    assert best[4:20] == pytest.approx([2 / 16] * 16)
    assert tenths(np.array([np.nan]))[0].sum() == 0


def score(transaction: Transaction, said: Mapping[int, float], version: str) -> None:
    write_predictions(
        transaction,
        task="lead_scoring",
        record_type="lead",
        as_of=transaction.now,
        model_version=version,
        horizon_days=90,
        predictions=[
            NewPrediction(record_id=key, probability=chance, score=50, grade="A", reasons=[])
            for key, chance in said.items()
        ],
    )


def test_quality_is_what_was_said_when_leads_came(store: Store, cast: Cast, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        dear = transaction.create(Campaign(name="Dear", cost=Decimal(10_000), currency="EUR")).id
        cheap = transaction.create(Campaign(name="Cheap", cost=Decimal(1_000), currency="EUR")).id
        owner = cast["Ana"].id
        bad = [make_lead(transaction, campaign_id=dear, owner_id=owner).id for _ in range(10)]
        good = [make_lead(transaction, campaign_id=cheap, owner_id=owner).id for _ in range(90)]
        late = make_lead(transaction, campaign_id=dear, owner_id=owner).id
    clock.advance(DAY)
    with store.transaction() as transaction:
        first = {key: 0.01 + at / 1_000 for at, key in enumerate(bad)}
        score(transaction, first | {key: 0.5 + at / 1_000 for at, key in enumerate(good)}, "1")
    clock.advance(10 * DAY)
    with store.transaction() as transaction:
        score(transaction, dict.fromkeys([*bad, late], 0.99), "2")  # by then it was known
    today = clock.now().date()
    question = QualityQuestion(since=today - 30 * DAY, until=today + DAY, by="campaign")
    with store.reading() as session:
        told = build_quality(Reader(session, cast["Dana"]), question)
        rows = {row.name: row for row in told.rows}
        assert (rows["Dear"].leads, rows["Dear"].scored, rows["Dear"].worst.count) == (11, 10, 10)
        assert rows["Cheap"].best.count == 10
        assert rows["Dear"].mean == pytest.approx(np.mean(list(first.values())))
        (worst,) = told.worst
        spent = 10_000 / 11 * 10
        assert worst.share == pytest.approx(spent / (spent + 1_000))
        assert worst.low <= worst.share <= worst.high
        assert worst.tenth == pytest.approx(0.1)
        assert build_quality(Reader(session, cast["Ana"]), question).worst == []  # who may not see costs
        today_only = QualityQuestion(since=today, until=today + DAY)
        assert build_quality(Reader(session, cast["Dana"]), today_only).is_few


# ---------------------------------------------------------------- pages and the API


def test_pages_show_the_numbers_and_refuse_what_makes_no_sense(
    app: Flask, store: Store, cast: Cast, history: None
) -> None:
    browser = logged_in(app, cast["Adam"])
    for language, words in (("en", "Times the cost"), ("zh", "费用倍数")):
        assert words in logged_in(app, cast["Mara"], language).get("/campaigns").text
    shown = browser.get("/campaigns/attribution?by=campaign&model=first").text
    assert "Spring" in shown
    assert "Every deal is given away whole" in shown
    for wrong in ("model=best", "by=owner", "since=never", "half_life=0", "window=0", "currency=%00"):
        answer = browser.get(f"/campaigns/attribution?{wrong}")
        assert (answer.status_code, "act-refused" in answer.text) == (200, True), wrong
    table = browser.get("/campaigns/attribution/export?model=linear").text.removeprefix("\ufeff")
    rows = list(csv.DictReader(io.StringIO(table)))
    told = attribution(store, cast["Adam"], _usual(app))
    assert sum(Decimal(row["linear won"]) for row in rows) == told.whole.won
    for path in ("/campaigns/quality", "/campaigns/1", "/campaigns/forms", "/campaigns/forms/new"):
        assert browser.get(path).status_code == 200
    assert browser.get("/campaigns/99").status_code == 404
    assert logged_in(app, cast["Ana"]).get("/campaigns/forms").status_code == 403


def _usual(app: Flask) -> AttributionQuestion:
    today = app.extensions["crm"].store.clock.now().date()
    return AttributionQuestion(since=today - 365 * DAY, until=today + DAY, model=Model.LINEAR)


def test_a_marketer_makes_a_campaign_a_form_and_decides_what_was_held(
    app: Flask, store: Store, cast: Cast, clock: FixedClock
) -> None:
    browser = logged_in(app, cast["Mara"])
    token = {"csrf_token": csrf_of(browser.get("/campaigns").text)}
    refused = browser.post("/campaigns", data={**token, "name": "Fair", "cost": "much"})
    assert (refused.status_code, 'value="Fair"' in refused.text) == (422, True)
    made = browser.post("/campaigns", data={**token, "name": "Fair", "cost": "1,500", "currency": "eur"})
    assert made.location == "/campaigns/1"
    asked = {"asks": ["email", "name"], "requires": ["email"], "active": "yes", "campaign_id": "1"}
    texts = {"title_en": "Hello", "consent_en": "Write to me", "origins": "https://a.example"}
    wanted: dict[str, Any] = {**token, "name": "Contact", "source": "web form", **asked, **texts}
    wrong = browser.post("/campaigns/forms/new", data={**wanted, "origins": "nowhere"})
    assert (wrong.status_code, "nowhere" in wrong.text) == (422, True)
    assert browser.post("/campaigns/forms/new", data=wanted).location == "/campaigns/forms/1"
    shown = browser.get("/campaigns/forms/1").text
    stale = browser.post("/campaigns/forms/1", data={**wanted, "version": "0", "name": "Mine"})
    assert (stale.status_code, 'value="Mine"' in stale.text) == (409, True)
    public = shown.split("/forms/")[2].split('"')[0].split("?")[0]
    stranger = app.test_client()
    page = stranger.get(f"/forms/{public}").text
    sheet = page.split('name="sheet" value="')[1].split('"')[0]
    stranger.post(f"/forms/{public}", data={"sheet": sheet, "email": "a@b.example"})  # at once
    assert "a@b.example" in browser.get("/campaigns/forms/held").text
    done = browser.post("/campaigns/forms/held/1", data={**token, "decision": "take"})
    assert done.location == "/campaigns/forms/held"
    assert "a@b.example" not in browser.get("/campaigns/forms/held").text
    assert "1 member" in logged_in(app, cast["Adam"]).get("/campaigns/1").text
    added = {**token, "how": "filter", "record_type": "lead", "filter": "nonsense"}
    assert browser.post("/campaigns/1/members", data=added).status_code == 422


def test_the_api_says_the_same_and_makes_forms(
    client: FlaskClient, store: Store, cast: Cast, history: None
) -> None:
    head = {"headers": cast.header("Adam")}
    listed: Any = client.get("/api/v1/marketing/campaigns", **head).json
    told = figures(store, cast["Adam"])
    assert {one["name"]: one["leads"] for one in listed["items"]} == {k: v.leads for k, v in told.items()}
    one: Any = client.get("/api/v1/marketing/campaigns/1", **head).json
    assert one["per_lead"]["value"] == told["Spring"].per_lead.value
    given: Any = client.get("/api/v1/marketing/attribution?by=channel&model=last", **head).json
    whole = Decimal(given["whole"]["won"])
    assert sum(Decimal(row["credits"]["decay"]["won"]) for row in given["rows"]) == whole
    assert client.get("/api/v1/marketing/lead-quality", **head).status_code == 200
    body = {"name": "Ask", "fields": [{"field": "phone", "required": True}], "consent": {"en": "Call me"}}
    made: Any = client.post("/api/v1/forms", json=body, **head).json
    assert made["wording"] == 1
    changed: Any = client.patch(f"/api/v1/forms/{made['id']}", json={"active": False}, **head).json
    assert (changed["active"], changed["name"], changed["wording"]) == (False, "Ask", 1)
    assert client.get("/api/v1/forms/submissions", **head).json == {"items": [], "next_cursor": None}
