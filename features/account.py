"""What is known of a customer: how recently, how often and for how much, against the customer's own habit."""

from __future__ import annotations

from features.contracts import DaysToContractEnd, RunningContractsValue
from features.declaration import Feature
from features.event_features import (
    FILLED,
    NO_ANSWER,
    UNSOLVED,
    DaysSinceFirst,
    DaysSinceLast,
    EventCount,
    EventMean,
    Events,
    EventSum,
    GapRatio,
    LastValue,
    MedianGap,
    events,
)
from features.field_features import AgeDays, ChangesCount, FieldValue, MissingCount, Season
from features.measures import EventShare
from features.payments import OverdueCount, PaymentDelay
from features.responses import DaysSinceResponse, TriesSinceResponse
from features.wording import Noun

ACCOUNT = Noun(one="customer", many="customers", zh="客户")
_WINDOWS = ("30d", "60d", "90d", "180d", "365d")
_AMOUNT = Noun(one="amount", many="amounts", zh="金额")
_SATISFACTION = Noun(one="satisfaction", many="satisfaction", zh="满意度")


def _of_account(
    event: str,
    one: str,
    many: str,
    zh: str,
    measure: str = "次",
    *,
    group: str | None = None,
    **where: str | tuple[str | None, ...],
) -> Events:
    return events(
        "account", event, Noun(one=one, many=many, zh=zh, measure=measure), group=group, where=where
    )


ORDERS = _of_account("order", "order", "orders", "订单", "笔")
TICKETS = _of_account("ticket", "ticket", "tickets", "工单", "个")
OPEN_TICKETS = _of_account(
    "ticket", "open ticket", "open tickets", "未结工单", "个", group="tickets", status=UNSOLVED
)
LATE_TICKETS = _of_account(
    "ticket",
    "late ticket",
    "late tickets",
    "超时工单",
    "个",
    group="tickets",
    solve_breached_at=(FILLED,),
)
CONTRACTS = _of_account("contract", "contract", "contracts", "合同", "份")
ACTIVITIES = _of_account("activity", "activity", "activities", "跟进")
MEETINGS = _of_account("activity", "meeting", "meetings", "会面", kind=("meeting", "visit"))
INBOUND = _of_account("activity", "inbound contact", "inbound contacts", "客户主动联系", direction="inbound")
CONTACTS = _of_account("activity", "contact", "contacts", "往来", direction=("inbound", "outbound"))
UNANSWERED = _of_account(
    "activity",
    "unanswered call",
    "unanswered calls",
    "未接电话",
    group="contacts",
    kind="call",
    direction="outbound",
    outcome=NO_ANSWER,
)
OWN_CONTACTS, OWN_OUTBOUND, OWN_INBOUND, OWN_TALKS = (
    _of_account(
        "activity",
        f"{noun.one} outside deals",
        f"{noun.many} outside deals",
        f"商机外{noun.zh}",
        group="contacts",
        deal_id=(None,),
        **where,
    )
    for noun, where in (
        (CONTACTS.noun, {"direction": ("inbound", "outbound")}),
        (
            Noun(one="outbound contact", many="outbound contacts", zh="主动联系客户"),
            {"direction": "outbound"},
        ),
        (INBOUND.noun, {"direction": "inbound"}),
        (Noun(one="conversation", many="conversations", zh="交谈"), {"outcome": ("connected", "held")}),
    )
)
"""What is not about a deal: in a deal that is stuck nobody answers either, however content a customer is."""
DEALS = _of_account("deal", "deal", "deals", "商机", "个")
TALKS = _of_account(
    "activity",
    "conversation",
    "conversations",
    "交谈",
    group="contacts",
    direction=("inbound", "outbound"),
    outcome=("connected", "held"),
)
PAYMENTS = _of_account("payment", "payment", "payments", "付款", "笔")

ACCOUNT_FEATURES: tuple[Feature, ...] = (
    DaysSinceLast(of=ORDERS),
    DaysSinceFirst(of=ORDERS),
    *(EventCount(of=ORDERS, lookback=lookback) for lookback in _WINDOWS),
    *(EventSum(of=ORDERS, field="amount", noun=_AMOUNT, lookback=lookback) for lookback in _WINDOWS),
    EventCount(of=ORDERS),
    EventMean(of=ORDERS, field="amount", noun=_AMOUNT, lookback="365d"),
    MedianGap(of=ORDERS, lookback="365d"),
    GapRatio(of=ORDERS, lookback="365d"),
    EventCount(of=OPEN_TICKETS),
    EventCount(of=TICKETS, lookback="30d"),
    EventCount(of=TICKETS, lookback="90d"),
    DaysSinceLast(of=TICKETS),
    EventMean(of=TICKETS, field="satisfaction", noun=_SATISFACTION, lookback="365d"),
    LastValue(of=TICKETS, field="satisfaction", noun=_SATISFACTION),
    DaysToContractEnd(of=CONTRACTS),
    EventCount(of=CONTRACTS),
    DaysSinceLast(of=CONTRACTS),
    DaysSinceFirst(of=CONTRACTS),
    RunningContractsValue(of=CONTRACTS),
    EventCount(of=ACTIVITIES, lookback="30d"),
    EventCount(of=ACTIVITIES, lookback="90d"),
    EventCount(of=MEETINGS, lookback="90d"),
    EventCount(of=INBOUND, lookback="90d"),
    DaysSinceLast(of=ACTIVITIES),
    DaysSinceLast(of=MEETINGS),
    DaysSinceLast(of=INBOUND),
    LastValue(of=CONTACTS, field="direction", noun=Noun(one="direction", many="directions", zh="方向")),
    LastValue(of=CONTACTS, field="outcome", noun=Noun(one="outcome", many="outcomes", zh="结果")),
    EventCount(of=UNANSWERED, lookback="90d"),
    EventShare(of=CONTACTS, part=UNANSWERED, lookback="90d"),
    EventShare(of=CONTACTS, part=INBOUND, lookback="90d"),
    EventShare(of=CONTACTS, part=TALKS, lookback="90d"),
    DaysSinceLast(of=TALKS),
    DaysSinceResponse(of=OWN_CONTACTS, answers=(OWN_INBOUND, OWN_TALKS)),
    TriesSinceResponse(of=OWN_OUTBOUND, answers=(OWN_INBOUND, OWN_TALKS)),
    LastValue(of=OWN_CONTACTS, field="outcome", noun=Noun(one="outcome", many="outcomes", zh="结果")),
    EventCount(of=OWN_OUTBOUND, lookback="90d"),
    DaysSinceLast(of=DEALS),
    OverdueCount(of=PAYMENTS),
    PaymentDelay(of=PAYMENTS, lookback="365d"),
    FieldValue(record="account", field="industry", noun=Noun(one="industry", many="industries", zh="行业")),
    FieldValue(record="account", field="region", noun=Noun(one="region", many="regions", zh="地区")),
    FieldValue(
        record="account", field="employees", noun=Noun(one="employees", many="employees", zh="员工人数")
    ),
    ChangesCount(record="account", field="owner_id", noun=Noun(one="owner", many="owners", zh="负责人")),
    AgeDays(record="account", noun=ACCOUNT),
    MissingCount(record="account", fields=("industry", "region", "employees", "phone", "website")),
    Season(record="account", part="sin"),
    Season(record="account", part="cos"),
)
"""What churn may look at."""
