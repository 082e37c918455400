"""Forms, attribution and audiences on SQLite and on PostgreSQL: the same outcome."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from flask import Flask
from sqlalchemy import select

from crm_core.attribution import Model
from crm_core.audiences import add_audience
from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.form_taking import Sent, let_through, take_submission
from crm_core.forms import FormSubmission, WebForm, make_form
from crm_core.leads import convert_lead
from crm_core.records import Campaign, CampaignMember, Deal, Lead, Payment
from crm_core.saving import keep_segment
from crm_core.store import Store
from serving.audiences import refresh_audiences
from tests.factories import make_activity, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, logged_in
from tests.serving.test_marketing import attribution, figures, whole_time
from tests.serving.test_web_forms import wanted

DAY = timedelta(days=1)


def test_from_a_form_to_a_payment(app: Flask, store: Store, cast: Cast, clock: FixedClock) -> None:
    mara = cast["Mara"]
    with store.transaction(actor_id=mara.id) as transaction:
        campaign = transaction.create(Campaign(name="Spring", cost=Decimal(100), currency="EUR")).id
        form = make_form(transaction, mara, wanted(campaign_id=campaign)).id
        keep = keep_segment(transaction, mara, "lead", "All", ["source:not_empty"], shared="all")
        add_audience(transaction, mara, campaign, keep.id)
    sent = Sent(
        key="a", values={"email": "li@na.example", "name": "Li Na"}, seconds=9, utm={"medium": "news"}
    )
    for key in ("a", "a", "b"):
        with store.transaction() as transaction:
            again = Sent(**{**vars(sent), "key": key})
            take_submission(transaction, transaction.session.get_one(WebForm, form), again)
    with store.transaction() as transaction:
        quick = Sent(key="q", values={"email": "bo@yu.example"}, seconds=1)
        held = take_submission(transaction, transaction.session.get_one(WebForm, form), quick).id
    with store.transaction() as transaction:
        let_through(transaction, mara, held)
        assert len(transaction.session.scalars(select(FormSubmission)).all()) == 2
        lead = transaction.session.scalars(select(Lead).where(Lead.email == "li@na.example")).one().id
    clock.advance(40 * DAY)
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=lead, kind="mail", direction="inbound")
        late = make_lead(transaction, source="ad").id
    assert refresh_audiences(store) == 1
    clock.advance(400 * DAY)  # beyond the window: where the lead came from counts all the same
    with store.transaction() as transaction:
        deal = Deal(name="Pumps", stage="needs", amount=Decimal("100.01"), currency="EUR")
        made = convert_lead(transaction, transaction.get(Lead, lead), deal=deal)
        assert made.deal is not None
        make_activity(transaction, contact_id=made.contact.id if made.contact else None, kind="web")
        paid = {"account_id": made.account.id, "deal_id": made.deal.id, "amount": Decimal(50)}
        close_deal(transaction, made.deal, won=True)
        transaction.create(Payment(**paid, currency="EUR", paid_at=transaction.now))
        members = transaction.session.scalars(select(CampaignMember)).all()
    assert {each.lead_id for each in members} >= {lead, late}
    told = attribution(store, cast["Dana"], whole_time(clock, since=clock.now().date() - DAY, by="campaign"))
    assert (told.deals, told.whole.won, told.whole.paid) == (1, Decimal("100.01"), Decimal(50))
    first = {row.name: row.credits[Model.FIRST].won for row in told.rows}
    assert first["Spring"] == Decimal("100.01")
    one = figures(store, cast["Dana"])["Spring"]
    assert (one.leads, one.deals_won, one.responses.count, one.paid) == (2, 1, 2, {"EUR": Decimal(50)})
    browser = logged_in(app, cast["Adam"])
    pages = (
        "",
        "/1",
        "/attribution",
        "/attribution?by=channel",
        "/quality",
        "/forms",
        "/forms/held",
        "/forms/1",
    )
    assert [browser.get(f"/campaigns{page}").status_code for page in pages] == [200] * len(pages)
