"""What is known of a lead: where it came from, what was done with it, and how fast."""

from __future__ import annotations

from features.declaration import Feature
from features.event_features import (
    FILLED,
    DaysSinceLast,
    EventCount,
    Events,
    HoursToFirst,
    LastValue,
    events,
)
from features.field_features import AgeDays, ChangesCount, FieldValue, MissingCount, Season
from features.field_measures import Filled, FreeMail
from features.responses import DaysSinceResponse, TriesSinceResponse
from features.wording import Noun

LEAD = Noun(one="lead", many="leads", zh="线索")
_WINDOWS = ("7d", "30d", "90d")


def _of_lead(
    one: str, many: str, zh: str, *, group: str | None = None, **where: str | tuple[str, ...]
) -> Events:
    return events("lead", "activity", Noun(one=one, many=many, zh=zh), group=group, where=where)


ACTIVITIES = _of_lead("activity", "activities", "跟进")
CALLS = _of_lead("call", "calls", "通话", kind="call")
CONNECTED = _of_lead(
    "connected call", "connected calls", "接通电话", group="calls", kind="call", outcome="connected"
)
MEETINGS = _of_lead("meeting", "meetings", "会面", kind=("meeting", "visit"))
MAILS_IN = _of_lead("inbound mail", "inbound mails", "来信", group="mails", kind="mail", direction="inbound")
MAILS_OUT = _of_lead(
    "outbound mail", "outbound mails", "去信", group="mails", kind="mail", direction="outbound"
)
WEB = _of_lead("web visit", "web visits", "网站访问", kind="web")
INBOUND = _of_lead("inbound contact", "inbound contacts", "客户主动联系", direction="inbound")
OUTBOUND = _of_lead("outbound contact", "outbound contacts", "主动联系客户", direction="outbound")
CONTACTS = _of_lead("contact", "contacts", "往来", direction=("inbound", "outbound"))
TALKS = _of_lead("conversation", "conversations", "交谈", group="contacts", outcome=("connected", "held"))
CAMPAIGN_TOUCHES = events(
    "lead",
    "campaign_member",
    Noun(one="campaign touch", many="campaign touches", zh="活动触达"),
    group="campaign_responses",
)
ANSWERED_TOUCHES = events(
    "lead",
    "campaign_member",
    Noun(one="answered campaign touch", many="answered campaign touches", zh="有回应的活动触达"),
    group="campaign_responses",
    where={"responded_at": (FILLED,)},
)

_SOURCE = Noun(one="source", many="sources", zh="来源")
_OWNER = Noun(one="owner", many="owners", zh="负责人")

LEAD_FEATURES: tuple[Feature, ...] = (
    FieldValue(record="lead", field="source", noun=_SOURCE),
    FieldValue(record="lead", field="campaign", noun=Noun(one="campaign", many="campaigns", zh="市场活动")),
    FieldValue(record="lead", field="industry", noun=Noun(one="industry", many="industries", zh="行业")),
    FieldValue(record="lead", field="region", noun=Noun(one="region", many="regions", zh="地区")),
    FieldValue(record="lead", field="employees", noun=Noun(one="employees", many="employees", zh="员工人数")),
    AgeDays(record="lead", noun=LEAD),
    MissingCount(
        record="lead",
        fields=("name", "company", "email", "phone", "title", "source", "industry", "region", "employees"),
    ),
    ChangesCount(record="lead", field="owner_id", noun=_OWNER),
    Filled(record="lead", field="phone", noun=Noun(one="phone number", many="phone numbers", zh="电话")),
    FreeMail(record="lead", noun=Noun(one="mail address", many="mail addresses", zh="邮箱")),
    *(EventCount(of=ACTIVITIES, lookback=lookback) for lookback in _WINDOWS),
    *(
        EventCount(of=kind, lookback=lookback)
        for kind in (CALLS, MEETINGS, MAILS_IN, MAILS_OUT, WEB)
        for lookback in ("7d", "30d")
    ),
    EventCount(of=CONNECTED, lookback="30d"),
    EventCount(of=INBOUND),
    EventCount(of=OUTBOUND),
    EventCount(of=MEETINGS),
    *(DaysSinceLast(of=kind) for kind in (ACTIVITIES, CALLS, MEETINGS, WEB, INBOUND, OUTBOUND)),
    HoursToFirst(of=OUTBOUND),
    DaysSinceResponse(of=CONTACTS, answers=(INBOUND, TALKS)),
    TriesSinceResponse(of=OUTBOUND, answers=(INBOUND, TALKS)),
    LastValue(of=CONTACTS, field="direction", noun=Noun(one="direction", many="directions", zh="方向")),
    LastValue(of=ACTIVITIES, field="kind", noun=Noun(one="kind", many="kinds", zh="类型")),
    LastValue(of=CALLS, field="outcome", noun=Noun(one="outcome", many="outcomes", zh="结果")),
    Season(record="lead", part="sin"),
    Season(record="lead", part="cos"),
)
"""What lead scoring may look at."""
