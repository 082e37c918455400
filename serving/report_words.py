"""What measures, dimensions and ready reports are called, in both languages: on pages and in mails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from babel.numbers import format_currency, format_decimal, format_percent

from crm_core.pipelines import Stage
from crm_core.reporting.catalogue import MEASURES, Unit
from crm_core.reporting.counting import Figure, Key, Series
from features.choices import choices_of, read_as

Said = tuple[str, str]
"""English, Chinese."""

MEASURE: Final[Mapping[str, Said]] = {
    "leads_created": ("Leads created", "新增线索"),
    "leads_converted": ("Leads converted", "已转化线索"),
    "lead_conversion": ("Conversion within 90 days", "90 天转化率"),
    "leads_disqualified": ("Leads disqualified, by day created", "已排除线索（按创建日）"),
    "activities": ("Activities", "活动数"),
    "follow_ups": ("Follow-ups", "跟进次数"),
    "deals_created": ("Deals created", "新增商机"),
    "deals_won": ("Deals won", "赢单数"),
    "deals_lost": ("Deals lost", "输单数"),
    "win_rate": ("Win rate", "赢单率"),
    "won_amount": ("Won amount", "赢单金额"),
    "average_deal": ("Average won deal", "平均赢单金额"),
    "lost_amount": ("Lost amount", "输单金额"),
    "cycle_days": ("Cycle time, median", "成交周期（中位数）"),
    "open_deals": ("Open deals", "进行中商机"),
    "open_pipeline": ("Open pipeline", "进行中商机金额"),
    "stage_entries": ("Entries into a stage", "进入阶段次数"),
    "stage_conversion": ("Went on from a stage", "阶段转化率"),
    "stage_days": ("Time in a stage, median", "阶段停留（中位数）"),
    "quotes_sent": ("Quotes sent", "已发报价"),
    "quote_acceptance": ("Quotes accepted", "报价接受率"),
    "orders_placed": ("Orders", "订单数"),
    "order_amount": ("Ordered amount", "订单金额"),
    "product_sales": ("Sales of products", "产品销售额"),
    "contracts_signed": ("Contracts signed", "签约合同数"),
    "contract_value": ("Value of contracts signed", "签约合同金额"),
    "contracts_ended": ("Contracts ended", "终止合同数"),
    "payments_received": ("Payments received", "回款金额"),
    "payments_due": ("Payments due", "应收金额"),
    "payments_overdue": ("Payments overdue", "逾期金额"),
    "tickets_opened": ("Tickets opened", "新建工单"),
    "tickets_solved": ("Tickets solved", "已解决工单"),
    "open_tickets": ("Open tickets", "未结工单"),
    "first_response_hours": ("First response, median", "首次响应（中位数）"),
    "solution_hours": ("Solution, median", "解决用时（中位数）"),
    "satisfaction": ("Satisfaction, 1 to 5", "满意度（1 至 5）"),
}
DIMENSION: Final[Mapping[str, Said]] = {
    "owner": ("Person", "人员"),
    "team": ("Team", "团队"),
    "source": ("Source", "来源"),
    "industry": ("Industry", "行业"),
    "region": ("Region", "区域"),
    "territory": ("Territory", "片区"),
    "status": ("Status", "状态"),
    "campaign": ("Campaign", "市场活动"),
    "disqualified_reason": ("Reason", "排除原因"),
    "kind": ("Kind", "类型"),
    "direction": ("Who started it", "发起方"),
    "account": ("Customer", "客户"),
    "stage": ("Stage", "阶段"),
    "pipeline": ("Pipeline", "销售流程"),
    "lost_reason": ("Lost reason", "输单原因"),
    "product": ("Product", "产品"),
    "family": ("Product family", "产品系列"),
    "priority": ("Priority", "优先级"),
    "queue": ("Queue", "队列"),
    "day": ("Day", "日"),
    "week": ("Week", "周"),
    "month": ("Month", "月"),
    "quarter": ("Quarter", "季度"),
    "year": ("Year", "年"),
}
SUBJECT: Final[Mapping[str, Said]] = {
    "lead": ("Leads", "线索"),
    "activity": ("Activities", "跟进活动"),
    "deal": ("Deals", "商机"),
    "stay": ("Stages", "阶段"),
    "quote": ("Quotes", "报价"),
    "order": ("Orders", "订单"),
    "contract": ("Contracts", "合同"),
    "payment": ("Payments", "回款"),
    "line": ("Products", "产品"),
    "ticket": ("Tickets", "工单"),
}
PERIOD: Final[Mapping[str, Said]] = {
    "last_30": ("Last 30 days", "最近 30 天"),
    "last_90": ("Last 90 days", "最近 90 天"),
    "last_365": ("Last 365 days", "最近 365 天"),
    "this_month": ("This month", "本月"),
    "last_month": ("Last month", "上月"),
    "this_quarter": ("This quarter", "本季度"),
    "last_quarter": ("Last quarter", "上季度"),
    "this_year": ("This year", "今年"),
    "last_year": ("Last year", "去年"),
    "dates": ("Between two days", "指定日期"),
}
_VALUES: Final[Mapping[str, Said]] = {
    "call": ("Call", "电话"),
    "mail": ("Mail", "邮件"),
    "meeting": ("Meeting", "会议"),
    "visit": ("Visit", "拜访"),
    "note": ("Note", "备注"),
    "task": ("Task", "任务"),
    "web": ("Web visit", "网页访问"),
    "inbound": ("from the customer", "客户发起"),
    "outbound": ("by us", "我方发起"),
    "open": ("Open", "进行中"),
    "won": ("Won", "赢单"),
    "lost": ("Lost", "输单"),
    "converted": ("Converted", "已转化"),
    "disqualified": ("Disqualified", "已排除"),
    "closed": ("Closed", "已关闭"),
    "pending": ("Waits for the customer", "等待客户"),
    "solved": ("Solved", "已解决"),
    "low": ("Low", "低"),
    "normal": ("Normal", "普通"),
    "high": ("High", "高"),
    "urgent": ("Urgent", "紧急"),
    "active": ("Active", "生效中"),
    "renewed": ("Renewed", "已续约"),
    "ended": ("Ended", "已终止"),
    "cancelled": ("Cancelled", "已取消"),
    "draft": ("Draft", "草稿"),
    "sent": ("Sent", "已发送"),
    "accepted": ("Accepted", "已接受"),
    "rejected": ("Rejected", "已拒绝"),
    "expired": ("Expired", "已过期"),
    "price": ("Price", "价格"),
    "competitor": ("Competitor", "竞争对手"),
    "no budget": ("No budget", "无预算"),
    "no need": ("No need", "无需求"),
    "no decision": ("No decision", "未决策"),
    "missing feature": ("Missing feature", "功能缺失"),
    "bought elsewhere": ("Bought elsewhere", "已购他家"),
    "wrong contact": ("Wrong contact", "联系人有误"),
    "unreachable": ("Unreachable", "联系不上"),
    "duplicate": ("Duplicate", "重复"),
    "timing": ("Timing", "时机不合适"),
}
IN_SEVERAL: Final[Said] = (
    "What has several products stands in the row of each, its amount divided over them; “All” has it once.",
    "含多个产品的记录在每个产品下各计一次，金额按明细价值分摊；最后一行中每条记录只计一次。",
)
"""Below a report in which the rows are not parts of the total."""

_NONE: Final[Said] = ("none", "无")
_NOBODY: Final[Said] = ("nobody", "无人负责")


def pick(said: Said, language: str) -> str:
    """Return one of both."""
    return said[1] if language == "zh" else said[0]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A report that comes with the program: a question, and what it is good for."""

    key: str
    group: str
    title: Said
    told: Said
    measures: tuple[str, ...]
    rows: str
    columns: str | None = None


GROUPS: Final[Mapping[str, Said]] = {
    "leads": ("Leads and follow-ups", "线索与跟进"),
    "sales": ("Sales", "销售"),
    "money": ("Orders and payments", "订单与回款"),
    "service": ("Service", "服务"),
}
READY: Final[tuple[Ready, ...]] = (
    Ready(
        key="leads",
        group="leads",
        title=("Leads by source", "各来源线索"),
        told=("How many came, how many were converted.", "新增多少，转化多少。"),
        measures=("leads_created", "leads_converted", "lead_conversion"),
        rows="source",
    ),
    Ready(
        key="leads_over_time",
        group="leads",
        title=("Leads month by month", "每月线索"),
        told=("Created and converted in each month.", "每月新增与转化的线索。"),
        measures=("leads_created", "leads_converted"),
        rows="month",
    ),
    Ready(
        key="leads_by_campaign",
        group="leads",
        title=("Leads by campaign", "各市场活动线索"),
        told=("Which campaigns bring leads that turn into customers.", "哪些活动带来可转化的线索。"),
        measures=("leads_created", "leads_converted", "lead_conversion"),
        rows="campaign",
    ),
    Ready(
        key="lead_losses",
        group="leads",
        title=("Why leads were disqualified", "线索排除原因"),
        told=("By the reason that was given.", "按填写的原因统计。"),
        measures=("leads_disqualified",),
        rows="disqualified_reason",
    ),
    Ready(
        key="follow_ups",
        group="leads",
        title=("Follow-ups by person and kind", "人员跟进类型"),
        told=("Calls, mails, meetings and visits by us.", "我方的电话、邮件、会议与拜访。"),
        measures=("follow_ups",),
        rows="owner",
        columns="kind",
    ),
    Ready(
        key="follow_ups_over_time",
        group="leads",
        title=("Follow-ups week by week", "每周跟进"),
        told=("What was done in each week.", "每周完成的跟进。"),
        measures=("follow_ups",),
        rows="week",
        columns="kind",
    ),
    Ready(
        key="people",
        group="sales",
        title=("Sales by person", "人员业绩"),
        told=("Deals won, win rate, amounts and cycle time.", "赢单数、赢单率、金额与周期。"),
        measures=("deals_won", "win_rate", "won_amount", "average_deal", "cycle_days"),
        rows="owner",
    ),
    Ready(
        key="teams",
        group="sales",
        title=("Sales by team", "团队业绩"),
        told=("The same, team by team.", "按团队统计。"),
        measures=("deals_won", "win_rate", "won_amount", "average_deal", "cycle_days"),
        rows="team",
    ),
    Ready(
        key="won_over_time",
        group="sales",
        title=("Won month by month", "每月赢单"),
        told=("Deals and amounts won in each month.", "每月赢单数与金额。"),
        measures=("won_amount", "deals_won", "win_rate"),
        rows="month",
    ),
    Ready(
        key="industries",
        group="sales",
        title=("Sales by industry", "各行业销售"),
        told=("Where deals are won, and how large they are.", "哪些行业赢单，金额多大。"),
        measures=("deals_won", "win_rate", "won_amount", "average_deal"),
        rows="industry",
    ),
    Ready(
        key="regions",
        group="sales",
        title=("Sales by region", "各区域销售"),
        told=("The same by the customer's region.", "按客户区域统计。"),
        measures=("deals_won", "win_rate", "won_amount", "average_deal"),
        rows="region",
    ),
    Ready(
        key="deals_by_product",
        group="sales",
        title=("Sales by product", "各产品业绩"),
        told=("What deals are about, and how they end.", "商机涉及的产品及其结果。"),
        measures=("deals_won", "win_rate", "won_amount", "average_deal", "cycle_days"),
        rows="product",
    ),
    Ready(
        key="sources",
        group="sales",
        title=("Sales by source", "各来源销售"),
        told=("Which sources end in won deals.", "哪些来源最终赢单。"),
        measures=("deals_won", "win_rate", "won_amount", "average_deal"),
        rows="source",
    ),
    Ready(
        key="stages",
        group="sales",
        title=("Stage by stage", "阶段转化"),
        told=(
            "Which share of deals goes on from each stage, and after how long.",
            "各阶段的转化率与停留时间。",
        ),
        measures=("stage_conversion", "stage_entries", "stage_days"),
        rows="stage",
    ),
    Ready(
        key="pipeline",
        group="sales",
        title=("Open pipeline", "进行中商机"),
        told=("What is open at the end of each month.", "每月末进行中的商机金额。"),
        measures=("open_pipeline", "open_deals"),
        rows="month",
    ),
    Ready(
        key="losses",
        group="sales",
        title=("Why deals were lost", "输单原因"),
        told=("By the reason that was given, with the amounts.", "按填写的原因及金额统计。"),
        measures=("deals_lost", "lost_amount"),
        rows="lost_reason",
    ),
    Ready(
        key="payments",
        group="money",
        title=("Payments month by month", "每月回款"),
        told=("What came in, what was due, what is late at the month's end.", "回款、应收与月末逾期。"),
        measures=("payments_received", "payments_due", "payments_overdue"),
        rows="month",
    ),
    Ready(
        key="orders",
        group="money",
        title=("Orders by person", "人员订单"),
        told=("Orders and their amounts.", "订单数与金额。"),
        measures=("order_amount", "orders_placed"),
        rows="owner",
    ),
    Ready(
        key="products",
        group="money",
        title=("Sales of products", "产品销售"),
        told=("What was ordered of each product.", "各产品的订购金额。"),
        measures=("product_sales",),
        rows="product",
    ),
    Ready(
        key="contracts",
        group="money",
        title=("Contracts by quarter", "每季度合同"),
        told=("Signed, their value, and ended without renewal.", "签约、金额与未续约终止。"),
        measures=("contract_value", "contracts_signed"),
        rows="quarter",
    ),
    Ready(
        key="service",
        group="service",
        title=("Service month by month", "每月服务"),
        told=(
            "Tickets, how fast they are answered and solved, satisfaction.",
            "工单、响应与解决用时、满意度。",
        ),
        measures=(
            "tickets_opened",
            "tickets_solved",
            "first_response_hours",
            "solution_hours",
            "satisfaction",
        ),
        rows="month",
    ),
    Ready(
        key="service_people",
        group="service",
        title=("Service by person", "人员服务"),
        told=("Who solved how much, how fast, and how it was liked.", "解决数量、用时与满意度。"),
        measures=("tickets_solved", "solution_hours", "satisfaction", "open_tickets"),
        rows="owner",
    ),
    Ready(
        key="priorities",
        group="service",
        title=("Tickets by priority", "工单优先级"),
        told=("Opened, solved, and how long it took.", "新建、解决与用时。"),
        measures=("tickets_opened", "tickets_solved", "first_response_hours", "solution_hours"),
        rows="priority",
    ),
)
"""In their order."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Says keys and figures in a language; `names` are those of ids, `stages` as they were set."""

    language: str
    names: Mapping[Key, str]
    stages: Mapping[str, Stage]

    def key(self, dimension: str | None, key: Key) -> str:
        """Return what a row or column is called."""
        if key is None:
            return pick(_NOBODY if dimension == "owner" else _NONE, self.language)
        if isinstance(key, int):
            return self.names.get(key) or f"#{key}"
        if dimension == "stage" and key in self.stages:
            stage = self.stages[key]
            return stage.name_zh if self.language == "zh" else stage.name_en
        if dimension in {"industry", "region", "source"}:
            return str(read_as(key, choices_of(dimension), self.language))
        known = _VALUES.get(key) if dimension in _WORDS_OF else None
        return key if known is None else pick(known, self.language)

    def series(self, dimension: str | None, series: Series) -> str:
        """Return what stands above a column of figures."""
        if dimension is not None:
            said = self.key(dimension, series.column)
            return f"{said}, {series.currency}" if series.currency else said
        said = pick(MEASURE[series.measure], self.language)
        unit = MEASURES[series.measure].unit
        if series.currency:
            return f"{said}, {series.currency}"
        if unit is Unit.HOURS:
            return f"{said}, {'小时' if self.language == 'zh' else 'hours'}"
        return f"{said}, {'天' if self.language == 'zh' else 'days'}" if unit is Unit.DAYS else said

    def value(self, series: Series, value: float | Decimal | None) -> str:
        """Return a figure as text."""
        if value is None:
            return "–"
        match MEASURES[series.measure].unit:
            case Unit.SHARE:
                return str(format_percent(value, "0.0%", locale=self.language))
            case Unit.MONEY:
                return self._money(Decimal(value), series.currency)
            case Unit.NUMBER:
                return str(format_decimal(value, locale=self.language))
        return str(format_decimal(value, "#,##0.0", locale=self.language))

    def interval(self, series: Series, figure: Figure | None) -> str:
        """Return the interval of a figure, empty where it has none."""
        if figure is None or figure.low is None or figure.high is None:
            return ""
        return f"{self.value(series, figure.low)}–{self.value(series, figure.high)}"

    def _money(self, amount: Decimal, currency: str | None) -> str:
        whole = amount.quantize(Decimal(1)) if abs(amount) >= 100 else amount
        if not currency:
            return str(format_decimal(whole, locale=self.language))
        digits = bool(whole % 1)
        pattern = None if digits else "¤#,##0"
        return str(
            format_currency(whole, currency, format=pattern, locale=self.language, currency_digits=digits)
        )


_WORDS_OF: Final = frozenset(
    {"kind", "direction", "status", "priority", "lost_reason", "disqualified_reason"}
)
