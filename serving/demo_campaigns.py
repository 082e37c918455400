"""Campaigns of the demonstration: what its leads name becomes records with a cost, and there is a web form.

Leads are left as they are: they name their campaigns by name, and no model learns anything else than before.
The newest leads of each campaign are its members as well, some with an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.form_taking import Sent, take_submission
from crm_core.forms import AskedField, Texts, WantedForm, make_form
from crm_core.records import Campaign, CampaignMember, Deal, Lead
from crm_core.store import Store
from serving.demo_past import DAY, first_admin

_KINDS: Final[Mapping[str, tuple[str, int]]] = {
    "fair": ("event", 420),
    "search": ("search", 130),
    "feed": ("feed", 75),
}
"""By a word of a campaign's name: its channel, and about what one of its leads cost."""

_USUAL: Final = ("other", 100)
_MEMBERS: Final = 24
_ANSWERS: Final = {"event": "visited"}
_SPAM: Final = Sent(
    key="demonstration",
    values={
        "email": "win@cheap-links.example",
        "name": "www.cheap-links.example",
        "message": "http://x.example",
    },
    seconds=1,
    trapped=True,
)


def make_campaigns(store: Store) -> int:
    """Make a record of each campaign that leads name, and a web form; return how many. Not twice."""
    with store.transaction(source=Source.AUTOMATION) as transaction:
        session = transaction.session
        if session.scalar(select(Campaign.id).limit(1)) is not None:
            return 0
        named = session.execute(
            select(Lead.campaign, func.count(), func.min(Lead.occurred_at), func.max(Lead.occurred_at))
            .where(Lead.campaign.is_not(None), Lead.deleted_at.is_(None))
            .group_by(Lead.campaign)
            .order_by(Lead.campaign)
        ).all()
        currency = _usual_currency(session)
        made = [
            transaction.create(_campaign(name or "", leads, first, last, currency))
            for name, leads, first, last in named
        ]
        admin = first_admin(session)
        if admin is not None:
            form = make_form(transaction, admin, _form(made[0].id if made else None))
            take_submission(transaction, form, _SPAM)
        reached = {campaign: _newest(session, campaign) for campaign in made}
    for campaign, leads in reached.items():
        _reach(store, campaign, leads)
    return len(made)


def _newest(session: Session, campaign: Campaign) -> list[tuple[int, datetime]]:
    newest = select(Lead.id, Lead.recorded_at).where(
        Lead.campaign == campaign.name, Lead.email.is_not(None), Lead.deleted_at.is_(None)
    )
    found = session.execute(newest.order_by(Lead.recorded_at.desc()).limit(_MEMBERS)).all()
    return [(lead_id, at) for lead_id, at in found]


def _reach(store: Store, campaign: Campaign, leads: Sequence[tuple[int, datetime]]) -> None:
    """Make leads members since they came in; every third answered on the next day."""
    said = _ANSWERS.get(campaign.channel or "", "clicked")
    rows = [
        {"campaign_id": campaign.id, "lead_id": lead_id, "occurred_at": at, "recorded_at": at}
        for lead_id, at in leads
    ]
    with store.transaction(source=Source.IMPORT) as transaction:
        members = transaction.create_many(CampaignMember, rows)
        answers = [
            Update(
                record_id=member,
                values={"response": said, "responded_at": then},
                occurred_at=then,
                recorded_at=then,
            )
            for member, (_, at) in list(zip(members, leads, strict=True))[::3]
            if (then := at + DAY) < transaction.now
        ]
        transaction.update_many(CampaignMember, answers)


def _usual_currency(session: Session) -> str | None:
    counted = select(Deal.currency).group_by(Deal.currency).order_by(func.count().desc()).limit(1)
    return session.scalar(counted)


def _campaign(name: str, leads: int, first: datetime, last: datetime, currency: str | None) -> Campaign:
    channel, price = next((kind for word, kind in _KINDS.items() if word in name), _USUAL)
    cost = Decimal(leads * price)
    return Campaign(
        name=name,
        channel=channel,
        starts_on=first.date(),
        ends_on=last.date(),
        budget=(cost * 6 / 5).quantize(Decimal(1_000)),
        cost=cost,
        currency=currency,
        occurred_at=first,
    )


def _form(campaign_id: int | None) -> WantedForm:
    asked: list[Any] = [AskedField(field=name) for name in ("name", "company", "phone", "message")]
    return WantedForm(
        name="Contact us",
        source="web form",
        campaign_id=campaign_id,
        fields=[*asked[:2], AskedField(field="email", required=True), *asked[2:]],
        title=Texts(en="Ask for an offer", zh="索取报价"),
        consent=Texts(en="You may write to me about your products.", zh="我同意接收贵公司的产品邮件。"),
        thanks=Texts(en="Thank you. We will call you within a day.", zh="感谢您的咨询。我们会尽快联系您。"),
    )
