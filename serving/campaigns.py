"""Campaigns in numbers: whom they reached, who answered, what became of it, what it cost and brought.

A campaign's leads are those that name it, by its id or, without one, by its name. Its deals are those that
name it, and those that its leads became; what they brought is what was won, and what was received for it, by
currency. This is the money that *came through* the campaign; who else had a part in it says attribution.

Costs are compared with money in the campaign's own currency only. Shares have Wilson's interval, costs per
lead and customer and returns those of `serving.ratios`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, case, func, or_, select, true, type_coerce
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.columns import MONEY_SCALE
from crm_core.errors import AccessDeniedError
from crm_core.phrases import Phrase
from crm_core.records import Campaign, CampaignMember, Deal, DealStatus, Lead, LeadStatus
from crm_core.touches import Campaigns
from serving.attribution import read_paid
from serving.ratios import Ratio, each, times
from serving.shares import Share

MOST_LISTED: Final = 500


@dataclass(frozen=True, kw_only=True)
class CampaignFigures:
    """One campaign; what the reader may not see is None, or empty where it is a table.

    Who sees a part of the leads (`is_part`) has the part of the cost compared that these bear: what a lead of
    the campaign cost is the same for all. `responses` of members, `conversions` of leads, `wins` of leads:
    won deals of its leads. `customers` are the accounts of its won deals. `returned` is how many times the
    cost came back in money won.
    """

    id: int
    name: str
    channel: str | None
    starts_on: date | None
    ends_on: date | None
    currency: str | None
    budget: Decimal | None
    cost: Decimal | None
    members: int
    responses: Share
    leads: int
    conversions: Share
    wins: Share
    deals: int
    deals_won: int
    customers: int
    won: Mapping[str, Decimal]
    paid: Mapping[str, Decimal]
    per_lead: Ratio
    per_customer: Ratio
    returned: Ratio
    shows_cost: bool
    is_part: bool = False
    leads_filter: str | None = None
    """The condition by which a list shows its leads; None where no single one says it."""

    @property
    def spent(self) -> float | None:
        """The share of the budget that was spent."""
        return float(self.cost / self.budget) if self.cost is not None and self.budget else None


def list_figures(reader: Reader, campaign_id: int | None = None) -> list[CampaignFigures]:
    """Return the figures of all campaigns that a reader may see, or of one; those that begin last come first.

    Raises RecordNotFoundError for one that they may not see, AccessDeniedError for a role that may not see
    campaigns.
    """
    if campaign_id is not None:
        if reader.right("campaign").read is Scope.NONE:
            raise AccessDeniedError(Phrase("the role {role} may not see campaigns", role=reader.user.role))
        campaigns, only = Campaigns.read_with(reader, campaign_id)
        return [_Counted(reader, campaigns, only).figures(only)]
    return figures_of(reader, list_campaigns(reader)[:MOST_LISTED])


def list_campaigns(reader: Reader) -> Sequence[Campaign]:
    """Return the campaigns that a reader may see; those that begin last come first."""
    if reader.right("campaign").read is Scope.NONE:
        raise AccessDeniedError(Phrase("the role {role} may not see campaigns", role=reader.user.role))
    newest = Campaign.starts_on.desc().nulls_last()
    return reader.session.scalars(reader.select(Campaign).order_by(newest, Campaign.id.desc())).all()


def figures_of(reader: Reader, campaigns: Sequence[Campaign]) -> list[CampaignFigures]:
    """Return the figures of some campaigns that a reader may see."""
    counted = _Counted(reader, Campaigns.read(reader), None)
    return [counted.figures(each) for each in campaigns]


class _Counted:
    """Members, leads and deals of all campaigns or of one, each read by one statement."""

    def __init__(self, reader: Reader, campaigns: Campaigns, only: Campaign | None) -> None:
        self._reader = reader
        self._campaigns = campaigns
        self._only = only
        self._sees_cost = reader.may_be_told_of(["campaign.cost", "campaign.currency"])
        self._members = self._read_members()
        self._leads: dict[str, list[dict[str, Any]]] = self._read_leads()
        self._deals: dict[int, dict[str, Any]] = self._read_deals()
        self._paid = read_paid(reader, self._of_deals()) if self._deals else {}
        self._by_campaign = self._deals_by_campaign()

    def figures(self, campaign: Campaign) -> CampaignFigures:
        """Return the figures of one campaign."""
        key = f"#{campaign.id}"
        seen = {name: getattr(campaign, name) if self._may(name) else None for name in _SHOWN}
        leads = self._leads.get(key, [])
        deals = [self._deals[deal] for deal in sorted(self._by_campaign.get(key, ()))]
        won = [deal for deal in deals if deal["status"] == DealStatus.WON]
        won_ids = {deal["id"] for deal in won}
        customers = {deal["account_id"] if deal["account_id"] != NO_INSTANT else -deal["id"] for deal in won}
        members, answered = self._members.get(campaign.id, (0, 0))
        cost, currency = seen["cost"], seen["currency"] or ""
        every = self._every.get(key, len(leads))
        borne = cost * len(leads) / every if cost is not None and every else cost
        amounts = [deal["amount"] / MONEY_SCALE for deal in won if _in(deal, currency)]
        return CampaignFigures(
            id=campaign.id,
            name=seen["name"] or f"{key}",
            channel=seen["channel"],
            starts_on=seen["starts_on"],
            ends_on=seen["ends_on"],
            currency=seen["currency"],
            budget=seen["budget"],
            cost=cost,
            members=members,
            responses=Share(count=answered, of=members),
            leads=len(leads),
            conversions=_share(leads, lambda lead: lead["status"] == LeadStatus.CONVERTED),
            wins=_share(leads, lambda lead: lead["deal_id"] in won_ids),
            deals=len(deals),
            deals_won=len(won),
            customers=len(customers),
            won=_summed((deal["currency"] or "", deal["amount"]) for deal in won),
            paid=_summed(
                (currency, units) for (deal, currency), units in self._paid.items() if deal in won_ids
            ),
            per_lead=each(cost, every),
            per_customer=each(borne, len(customers)),
            returned=times(borne, amounts),
            is_part=every > len(leads),
            leads_filter=_filter_of(campaign, leads),
            shows_cost=self._sees_cost,
        )

    def _may(self, name: str) -> bool:
        return self._reader.may_read_field("campaign", name)

    # ---------------------------------------------------------------- reading

    @property
    def _counts_every(self) -> bool:
        return self._reader.right("lead").read is not Scope.ALL and self._sees_cost

    @cached_property
    def _every(self) -> dict[str, int]:
        """How many leads campaigns have, whoever's they are, where the reader sees but a part of them."""
        if not self._counts_every:
            return {}
        return count_leads(self._reader.session, self._campaigns)

    def _read_members(self) -> dict[int, tuple[int, int]]:
        if self._reader.right("campaign_member").read is Scope.NONE:
            return {}
        answered = func.sum(case((CampaignMember.responded_at.is_not(None), 1), else_=0))
        query = (
            select(CampaignMember.campaign_id, func.count(), answered)
            .where(CampaignMember.deleted_at.is_(None), self._reader.readable(CampaignMember))
            .where(true() if self._only is None else CampaignMember.campaign_id == self._only.id)
            .group_by(CampaignMember.campaign_id)
        )
        return {key: (count, int(some or 0)) for key, count, some in self._reader.session.execute(query)}

    def _read_leads(self) -> dict[str, list[dict[str, Any]]]:
        if not self._reader.may_be_told_of(
            ["lead.campaign", "lead.campaign_id", "lead.status", "lead.deal_id"]
        ):
            return {}
        query = select(Lead.id, Lead.campaign_id, Lead.campaign, Lead.status, Lead.deal_id)
        if self._only is None or not self._counts_every:
            return self._by_key(rows_of(self._reader, query.where(*self._of_leads())))
        seen, *conditions = self._of_leads()
        flagged = query.add_columns(type_coerce(seen, Boolean).label("seen")).where(*conditions)
        rows = rows_of(self._reader, flagged)  # with those that are only counted, at once
        self._every = {key: len(some) for key, some in self._by_key(rows).items()}
        return self._by_key(row for row in rows if row["seen"])

    def _by_key(self, leads: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        found = defaultdict(list)
        for lead in leads:
            campaign_id = None if lead["campaign_id"] == NO_INSTANT else lead["campaign_id"]
            found[self._campaigns.key_of(campaign_id, lead["campaign"]) or ""].append(lead)
        return found

    def _of_leads(self) -> tuple[ColumnElement[bool], ...]:
        named: ColumnElement[bool] = or_(Lead.campaign_id.is_not(None), Lead.campaign.is_not(None))
        if self._only is not None:
            named = is_lead_of(self._only)
        return self._reader.readable(Lead), Lead.deleted_at.is_(None), named

    def _of_deals(self) -> ColumnElement[bool]:
        linked = select(Lead.deal_id).where(*self._of_leads(), Lead.deal_id.is_not(None))
        own: ColumnElement[bool] = Deal.campaign_id.is_not(None)
        if self._only is not None:
            own = Deal.campaign_id == self._only.id
        named = or_(own, Deal.id.in_(linked)) if self._leads else own
        return self._reader.readable(Deal) & Deal.deleted_at.is_(None) & named

    def _read_deals(self) -> dict[int, dict[str, Any]]:
        fields = ("status", "amount", "currency", "campaign_id")
        if not self._reader.may_be_told_of([f"deal.{name}" for name in fields]):
            return {}
        query = select(Deal.id, Deal.status, Deal.amount, Deal.currency, Deal.account_id, Deal.campaign_id)
        return {row["id"]: row for row in rows_of(self._reader, query.where(self._of_deals()))}

    def _deals_by_campaign(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = defaultdict(set)
        for deal in self._deals.values():
            if deal["campaign_id"] != NO_INSTANT:
                found[f"#{deal['campaign_id']}"].add(deal["id"])
        for key, leads in self._leads.items():
            # A deal that names a campaign is that one's, whatever its lead says.
            found[key] |= {
                lead["deal_id"]
                for lead in leads
                if lead["deal_id"] in self._deals
                and self._deals[lead["deal_id"]]["campaign_id"] == NO_INSTANT
            }
        return found


_SHOWN: Final = ("name", "channel", "starts_on", "ends_on", "currency", "budget", "cost")


def count_leads(session: Session, campaigns: Campaigns) -> dict[str, int]:
    """Return by key how many leads name each campaign, whoever's they are."""
    counted = select(Lead.campaign_id, Lead.campaign, func.count().label("leads")).where(
        Lead.deleted_at.is_(None), or_(Lead.campaign_id.is_not(None), Lead.campaign.is_not(None))
    )
    found: dict[str, int] = defaultdict(int)
    for row in session.execute(counted.group_by(Lead.campaign_id, Lead.campaign)):
        found[campaigns.key_of(row.campaign_id, row.campaign) or ""] += row.leads
    return found


def is_lead_of(campaign: Campaign) -> ColumnElement[bool]:
    """Return the condition that a lead names a campaign, by its id or, without one, by its name."""
    by_name = func.lower(Lead.campaign) == campaign.name.lower()
    return or_(Lead.campaign_id == campaign.id, Lead.campaign_id.is_(None) & by_name)


def rows_of(reader: Reader, query: Any) -> list[dict[str, Any]]:  # noqa: ANN401  a query of any columns
    """Return the rows of a query, in stored form."""
    columns = read_arrays(reader.session, query)
    lists = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def _filter_of(campaign: Campaign, leads: Collection[dict[str, Any]]) -> str | None:
    """Return the condition that exactly these leads fit: by the campaign's id, or else by its name."""
    if all(lead["campaign_id"] == campaign.id for lead in leads):
        return f"campaign_id:eq:{campaign.id}"
    named = all(lead["campaign"] == campaign.name for lead in leads)
    return f"campaign:eq:{campaign.name}" if named else None


def _in(deal: Mapping[str, Any], currency: str) -> bool:
    return (deal["currency"] or "") == currency and deal["amount"] != NO_INSTANT


def _share(leads: Collection[dict[str, Any]], holds: Any) -> Share:  # noqa: ANN401  a condition
    return Share(count=sum(map(bool, map(holds, leads))), of=len(leads))


def _summed(parts: Any) -> dict[str, Decimal]:  # noqa: ANN401  pairs of a currency and units
    found: dict[str, int] = defaultdict(int)
    for currency, units in parts:
        found[currency] += 0 if units == NO_INSTANT else units
    return {currency: Decimal(units) / MONEY_SCALE for currency, units in sorted(found.items())}
