"""What is known of a deal: its stage and money, how often they moved, what was done, and whose it is.

`rep_probability` is left out on purpose: the model is to be a second opinion beside the rep's.
"""

from __future__ import annotations

from features.declaration import Feature
from features.event_features import (
    FILLED,
    NO_ANSWER,
    UNSOLVED,
    DaysSinceLast,
    EventCount,
    Events,
    EventSum,
    LastValue,
    events,
)
from features.field_features import (
    AgeDays,
    ChangesCount,
    DaysSinceChange,
    DaysUntil,
    FieldAge,
    FieldValue,
    MissingCount,
    PushesCount,
    Season,
    StageAgeRatio,
    StageIndex,
    StageMovesBack,
)
from features.field_measures import ListLength
from features.measures import EventDistinct, EventShare
from features.rates import HistoricalRate
from features.responses import DaysSinceResponse, TriesSinceResponse
from features.wording import Noun

DEAL = Noun(one="deal", many="deals", zh="商机")
_STAGE = Noun(one="stage", many="stages", zh="阶段")
_AMOUNT = Noun(one="amount", many="amounts", zh="金额")
_CLOSE = Noun(one="expected close", many="expected closes", zh="预计成交日")
_OWNER = Noun(one="owner", many="owners", zh="负责人")
_TEAM = Noun(one="owner's team", many="teams", zh="负责人所在团队")
_COMPETITOR = Noun(one="competitor", many="competitors", zh="竞争对手", measure="个")

_DIRECTION = Noun(one="direction", many="directions", zh="方向")
_PERSON = Noun(one="person", many="people", zh="联系人", measure="位")


def _of_deal(
    one: str, many: str, zh: str, *, group: str | None = None, **where: str | tuple[str, ...]
) -> Events:
    return events("deal", "activity", Noun(one=one, many=many, zh=zh), group=group, where=where)


ACTIVITIES = _of_deal("activity", "activities", "跟进")
CALLS = _of_deal("call", "calls", "通话", kind="call")
CONNECTED = _of_deal(
    "connected call", "connected calls", "接通电话", group="calls", kind="call", outcome="connected"
)
MEETINGS = _of_deal("meeting", "meetings", "会面", kind=("meeting", "visit"))
MAILS_IN = _of_deal("inbound mail", "inbound mails", "来信", group="mails", kind="mail", direction="inbound")
MAILS_OUT = _of_deal(
    "outbound mail", "outbound mails", "去信", group="mails", kind="mail", direction="outbound"
)
INBOUND = _of_deal("inbound contact", "inbound contacts", "客户主动联系", direction="inbound")
OUTBOUND = _of_deal("outbound contact", "outbound contacts", "主动联系客户", direction="outbound")
CONTACTS = _of_deal("contact", "contacts", "往来", direction=("inbound", "outbound"))
TALKS = _of_deal("conversation", "conversations", "交谈", group="contacts", outcome=("connected", "held"))
UNANSWERED = _of_deal(
    "unanswered call",
    "unanswered calls",
    "未接电话",
    group="contacts",
    kind="call",
    direction="outbound",
    outcome=NO_ANSWER,
)

ACCOUNT_ORDERS = events(
    "deal",
    "order",
    Noun(one="account order", many="account orders", zh="客户订单", measure="笔"),
    via="account_id",
)
ACCOUNT_TICKETS = events(
    "deal",
    "ticket",
    Noun(one="open account ticket", many="open account tickets", zh="客户未结工单", measure="个"),
    via="account_id",
    where={"status": UNSOLVED},
)

SENT_QUOTES = events(
    "deal",
    "quote",
    Noun(one="sent quote", many="sent quotes", zh="已发报价", measure="份"),
    group="quotes",
    where={"sent_at": (FILLED,)},
)
REJECTED_QUOTES = events(
    "deal",
    "quote",
    Noun(one="rejected quote", many="rejected quotes", zh="被拒报价", measure="份"),
    group="quotes",
    where={"status": "rejected"},
)
ACCOUNT_PAYMENTS = events(
    "deal",
    "payment",
    Noun(one="account payment", many="account payments", zh="客户付款", measure="笔"),
    via="account_id",
)

DEAL_FEATURES: tuple[Feature, ...] = (
    FieldValue(record="deal", field="stage", noun=_STAGE),
    StageIndex(),
    FieldAge(record="deal", field="stage", noun=_STAGE),
    StageAgeRatio(),
    ChangesCount(record="deal", field="stage", noun=_STAGE),
    StageMovesBack(noun=_STAGE),
    FieldValue(record="deal", field="amount", noun=_AMOUNT),
    ChangesCount(record="deal", field="amount", noun=_AMOUNT),
    DaysSinceChange(record="deal", field="amount", noun=_AMOUNT),
    DaysUntil(record="deal", field="expected_close_on", noun=_CLOSE),
    PushesCount(record="deal", field="expected_close_on", noun=_CLOSE),
    PushesCount(record="deal", field="expected_close_on", noun=_CLOSE, lookback="30d"),
    DaysSinceChange(record="deal", field="expected_close_on", noun=_CLOSE),
    FieldValue(record="deal", field="source", noun=Noun(one="source", many="sources", zh="来源")),
    ChangesCount(record="deal", field="owner_id", noun=_OWNER),
    FieldValue(record="deal", field="name", via="owner_id.team_id", noun=_TEAM),
    HistoricalRate(record="deal", field="owner_id", noun=_OWNER, horizon="90d"),
    ListLength(record="deal", field="competitors", noun=_COMPETITOR),
    AgeDays(record="deal", noun=DEAL),
    MissingCount(record="deal", fields=("amount", "expected_close_on", "source", "account_id", "owner_id")),
    *(EventCount(of=ACTIVITIES, lookback=lookback) for lookback in ("7d", "30d", "90d")),
    *(
        EventCount(of=kind, lookback=lookback)
        for kind in (CALLS, MEETINGS, MAILS_IN, MAILS_OUT)
        for lookback in ("14d", "60d")
    ),
    EventCount(of=CONNECTED, lookback="60d"),
    EventCount(of=INBOUND),
    EventCount(of=OUTBOUND),
    EventCount(of=MEETINGS),
    *(DaysSinceLast(of=kind) for kind in (ACTIVITIES, CALLS, MEETINGS, INBOUND, OUTBOUND)),
    LastValue(of=CONTACTS, field="direction", noun=_DIRECTION),
    LastValue(of=CONTACTS, field="outcome", noun=Noun(one="outcome", many="outcomes", zh="结果")),
    DaysSinceResponse(of=CONTACTS, answers=(INBOUND, TALKS)),
    TriesSinceResponse(of=OUTBOUND, answers=(INBOUND, TALKS)),
    EventShare(of=CONTACTS, part=INBOUND, lookback="30d"),
    EventCount(of=UNANSWERED, lookback="14d"),
    EventDistinct(of=ACTIVITIES, field="contact_id", noun=_PERSON, lookback="90d"),
    LastValue(of=ACTIVITIES, field="direction", noun=_DIRECTION),
    LastValue(of=ACTIVITIES, field="kind", noun=Noun(one="kind", many="kinds", zh="类型")),
    FieldValue(
        record="deal",
        field="industry",
        via="account_id",
        noun=Noun(one="account's industry", many="industries", zh="客户行业"),
    ),
    FieldValue(
        record="deal",
        field="region",
        via="account_id",
        noun=Noun(one="account's region", many="regions", zh="客户地区"),
    ),
    FieldValue(
        record="deal",
        field="employees",
        via="account_id",
        noun=Noun(one="account's employees", many="employees", zh="客户员工人数"),
    ),
    EventCount(of=ACCOUNT_ORDERS, lookback="365d"),
    EventSum(of=ACCOUNT_ORDERS, field="amount", noun=_AMOUNT, lookback="365d"),
    DaysSinceLast(of=ACCOUNT_ORDERS),
    EventCount(of=ACCOUNT_TICKETS),
    Season(record="deal", part="sin"),
    Season(record="deal", part="cos"),
)
"""What win probability may look at."""
