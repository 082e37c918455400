"""The funnel over HTTP: what becomes of leads, by where they come from and who has them."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.funnel import MOST_GROUPS, WINDOWS, FunnelQuestion, Group, build_funnel
from serving.payloads import Asked, Given, Past, Utc
from serving.service import service

api: APIBlueprint = new_blueprint("funnel", "What becomes of leads.")

_USUAL_DAYS = 365


class FunnelQuery(Asked):
    """Which leads, told apart by what."""

    since: date | None = Field(default=None, description="Created on this day or later; default a year ago.")
    until: date | None = Field(default=None, description="Created before this day; default tomorrow.")
    by: Literal["source", "campaign", "region", "industry", "owner", "month"] = Field(
        default="source", description="What leads are told apart by; `month` is that of their creation."
    )
    within_days: int = Field(
        default=90, description=f"Days that each lead is followed: {', '.join(map(str, WINDOWS))}."
    )
    as_of: Past | None = Field(default=None, description="What was known then; without it, now.")


class FunnelStepOut(Given):
    """One step: how many took it, and how many of those old enough did within the days asked for."""

    name: Literal["contacted", "converted", "deal", "won"]
    count: int
    within: int
    of: int = Field(description="Leads that were created so many days ago or longer.")
    low: float = Field(description="Bound of the share `within` of `of`, with Wilson's 95 % interval.")
    high: float
    median_days: float | None = Field(description="From the lead's creation; null where nobody took it.")


class FunnelGroupOut(Given):
    """The leads with one value."""

    key: str = Field(description="The value; an id as text of owners; empty for none.")
    name: str | None
    leads: int
    old_enough: int
    steps: list[FunnelStepOut] = Field(description="Without those whose records you may not see.")
    won: dict[str, Decimal] = Field(description="By currency.")
    cost: Decimal | None = Field(description="Of a campaign, in `currency`; null where you may not see it.")
    currency: str | None
    cost_per_customer: Decimal | None


class FunnelOut(Given):
    """All leads together, and by group, the largest first; months in their order."""

    since: date
    until: date
    as_of: Utc
    whole: FunnelGroupOut
    items: list[FunnelGroupOut] = Field(description=f"Up to {MOST_GROUPS}, but all months.")
    others: FunnelGroupOut | None = Field(description="The leads of the smaller groups together.")
    others_count: int
    hidden: list[str] = Field(description="Steps whose records you may not see.")


@api.get("/funnel", responses={"200": FunnelOut, **documented(403)})
def get_funnel(query: FunnelQuery) -> Response:
    """Say what became of the leads that you may see, step by step."""
    now = service().store.clock.now()
    question = FunnelQuestion(
        since=query.since or now.date() - timedelta(days=_USUAL_DAYS),
        until=query.until or now.date() + timedelta(days=1),
        as_of=query.as_of or now,
        by=query.by,
        within_days=query.within_days,
    )
    with service().store.reading() as session:
        found = build_funnel(Reader(session, caller()), question, now)
    return answer(
        FunnelOut(
            since=question.since,
            until=question.until,
            as_of=question.as_of,
            whole=_group(found.whole),
            items=[_group(each) for each in found.groups],
            others=None if found.others is None else _group(found.others),
            others_count=found.others_count,
            hidden=list(found.hidden),
        )
    )


def _group(group: Group) -> FunnelGroupOut:
    money = group.money
    steps = [
        FunnelStepOut.model_validate(
            {
                "name": step.name,
                "count": step.count,
                "within": step.within.count,
                "of": step.within.of,
                "low": step.within.low,
                "high": step.within.high,
                "median_days": step.median_days,
            }
        )
        for step in group.steps
    ]
    return FunnelGroupOut(
        key=group.key,
        name=group.name,
        leads=group.leads,
        old_enough=group.old_enough,
        steps=steps,
        won=dict(group.won),
        cost=None if money is None else money.cost,
        currency=None if money is None else money.currency,
        cost_per_customer=None if money is None else money.per_customer,
    )
