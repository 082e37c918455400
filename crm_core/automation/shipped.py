"""The rules that come along: what every sales team needs, to be switched on, changed or left off.

They are put into a store once, when automation first runs there; those that only remind somebody of what
nobody minds being reminded of are on at once. What somebody made of a rule is never touched again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select

from crm_core.automation.keeping import start
from crm_core.automation.kept import AutomationRule, AutomationVersion
from crm_core.automation.rules import read_rule
from crm_core.changes import Source
from crm_core.external_ids import hold_keys
from crm_core.store import Store


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A rule that comes along: its own name, and whether it is on at first."""

    key: str
    en: str
    zh: str
    record_type: str
    trigger: dict[str, Any]
    actions: tuple[dict[str, Any], ...]
    condition: tuple[str, ...] = field(default=())
    on: bool = False

    def declared(self) -> dict[str, Any]:
        """Return it as somebody would declare it."""
        return {
            "name": {"en": self.en, "zh": self.zh},
            "record_type": self.record_type,
            "trigger": self.trigger,
            "condition": list(self.condition),
            "actions": list(self.actions),
        }


def _text(en: str, zh: str) -> dict[str, str]:
    return {"en": en, "zh": zh}


_OPEN: Final = ("status:eq:open",)
_SALES: Final = "called:Sales|销售|销售部"
_PRESALES: Final = "called:Presales|Pre-sales|售前|售前部"
_MOST_LEADS: Final = 50
_UNTOUCHED: Final = {"kind": "idle", "since": "owner_id"}

SHIPPED: Final[tuple[Shipped, ...]] = (
    Shipped(
        key="lead_by_region",
        en="New lead: to the team of its region, in turn",
        zh="新线索 → 按区域轮流分配给对应团队",
        record_type="lead",
        trigger={"kind": "record_created"},
        actions=({"kind": "assign", "by": "region", "to": [_SALES], "most": _MOST_LEADS},),
        condition=_OPEN,
    ),
    Shipped(
        key="lead_by_industry",
        en="New lead: to the team of its industry, in turn",
        zh="新线索 → 按行业轮流分配给对应团队",
        record_type="lead",
        trigger={"kind": "record_created"},
        actions=({"kind": "assign", "by": "industry", "to": [_SALES], "most": _MOST_LEADS},),
        condition=_OPEN,
    ),
    Shipped(
        key="lead_remind",
        en="Lead without contact for 4 working hours: remind its owner",
        zh="线索分配后 4 个工作小时未联系 → 提醒负责人",
        record_type="lead",
        trigger={**_UNTOUCHED, "amount": 4, "unit": "working_hours"},
        actions=({"kind": "notice", "text": _text("Nobody has contacted this lead yet", "该线索尚未联系")},),
        condition=_OPEN,
    ),
    Shipped(
        key="lead_escalate",
        en="Lead without contact for 8 working hours: tell the manager",
        zh="线索分配后 8 个工作小时未联系 → 上报经理",
        record_type="lead",
        trigger={**_UNTOUCHED, "amount": 8, "unit": "working_hours"},
        actions=(
            {
                "kind": "notice",
                "to": ["manager"],
                "text": _text(
                    "Nobody has contacted this lead for a working day", "该线索已超过一个工作日未联系"
                ),
            },
        ),
        condition=_OPEN,
    ),
    Shipped(
        key="lead_pool",
        en="Lead without contact for 48 hours: back to the pool",
        zh="线索分配后 48 小时未联系 → 退回线索池",
        record_type="lead",
        trigger={**_UNTOUCHED, "amount": 48, "unit": "hours"},
        actions=(
            {
                "kind": "notice",
                "to": ["owner", "manager"],
                "text": _text("This lead went back to the pool", "该线索已退回线索池"),
            },
            {"kind": "pool"},
        ),
        condition=_OPEN,
    ),
    Shipped(
        key="customer_quiet",
        en="Customer without follow-up for 7 days: tell owner and manager",
        zh="客户 7 天未跟进 → 提醒负责人和经理",
        record_type="account",
        trigger={"kind": "idle", "amount": 7, "unit": "days", "customers": True},
        actions=(
            {
                "kind": "notice",
                "to": ["owner", "manager"],
                "text": _text("No follow-up with this customer for 7 days", "该客户已 7 天未跟进"),
            },
        ),
        condition=("owner_id:not_empty",),
    ),
    Shipped(
        key="proposal_presales",
        en="Deal enters proposal and quote: task and notice to presales",
        zh="商机进入方案与报价 → 通知售前并创建任务",
        record_type="deal",
        trigger={"kind": "stage_entered", "stage": "proposal"},
        actions=(
            {
                "kind": "task",
                "to": [_PRESALES],
                "text": _text("Prepare the proposal and the quote", "准备方案与报价"),
                "amount": 2,
            },
            {
                "kind": "notice",
                "to": [_PRESALES],
                "text": _text("A deal needs a proposal and a quote", "有商机需要方案与报价"),
            },
        ),
        condition=_OPEN,
    ),
    Shipped(
        key="stage_owner",
        en="Deal longer in its stage than usual: tell its owner",
        zh="商机停留超过正常时长 → 提醒负责人",
        record_type="deal",
        trigger={"kind": "stage_overdue"},
        actions=(
            {
                "kind": "notice",
                "text": _text(
                    "This deal is longer in its stage than three quarters of those won were",
                    "该商机在当前阶段停留的时间已超过四分之三的赢单商机",
                ),
            },
        ),
    ),
    Shipped(
        key="stage_manager",
        en="Deal half as long again in its stage as usual: tell the manager",
        zh="商机停留超过正常时长 1.5 倍 → 上报经理",
        record_type="deal",
        trigger={"kind": "stage_overdue", "times": 1.5},
        actions=(
            {
                "kind": "notice",
                "to": ["manager"],
                "text": _text("This deal is stuck in its stage", "该商机在当前阶段停滞"),
            },
        ),
    ),
    Shipped(
        key="birthday",
        en="Birthday of a contact: tell the owner",
        zh="联系人生日 → 提醒负责人",
        record_type="contact",
        trigger={"kind": "date", "field": "birthday", "yearly": True},
        actions=({"kind": "notice", "text": _text("Birthday today", "今天生日")},),
        on=True,
    ),
    Shipped(
        key="contract_end",
        en="Contract ends in 30 days: tell the owner, and open a deal about the renewal",
        zh="合同 30 天内到期 → 提醒负责人并创建续约商机",
        record_type="contract",
        trigger={"kind": "date", "field": "ends_on", "days": -30},
        actions=(
            {"kind": "notice", "text": _text("This contract ends within 30 days", "该合同将在 30 天内到期")},
            {"kind": "renewal", "text": _text("Renewal", "续约")},
        ),
        condition=("status:eq:active", "renewed_by_id:empty"),
    ),
    Shipped(
        key="churn_warning",
        en="Customer may leave: task for the owner",
        zh="客户流失预警 → 为负责人创建任务",
        record_type="account",
        trigger={"kind": "alert_raised", "alerts": ["churn_level", "churn_jump", "contract_end"]},
        actions=(
            {
                "kind": "task",
                "text": _text("Talk to this customer: they may leave", "客户有流失风险 请尽快联系"),
            },
        ),
        on=True,
    ),
)


def ship_rules(store: Store) -> int:
    """Put the rules that come along into a store which lacks them; return how many were new."""
    with store.reading() as session:
        if not SHIPPED_KEYS - set(session.scalars(select(AutomationRule.shipped))):
            return 0
    with store.transaction(source=Source.AUTOMATION) as transaction:
        session = transaction.session
        hold_keys(session, ["automation rules"])
        known = set(session.scalars(select(AutomationRule.shipped)))
        new = [each for each in SHIPPED if each.key not in known]
        for each in new:
            kept = AutomationRule(
                shipped=each.key,
                active=False,
                version=1,
                since_sequence=0,
                since_prediction=0,
                since_alert=0,
            )
            session.add(kept)
            session.flush()
            declared = read_rule(each.declared()).as_json()
            session.add(
                AutomationVersion(rule_id=kept.id, version=1, declared=declared, saved_at=transaction.now)
            )
            if each.on:
                start(transaction, kept)
    return len(new)


SHIPPED_KEYS: Final = frozenset(each.key for each in SHIPPED)
