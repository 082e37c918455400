"""Mails about alerts: one a person and run, in their language, with what they may see when it is written.

The mail is written when its job is done, not when the alert is raised: what is over by then, or not to be
seen any more, is left out. Writing it and ending the job are one transaction, so that it is written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, format_percent

from crm_core.access import Reader
from crm_core.alerts import Alert, State, select_alerts
from crm_core.jobs import Job, complete
from crm_core.outgoing import enqueue_mail
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.alerts import Money, ToldAlert, tell_alerts
from serving.settings import Settings

SHOWN: Final = 20
"""Alerts that one mail tells of singly, those with most money at risk."""

_REASONS: Final = 3
_SMALL: Final = Decimal(100)
_COLLECTIONS: Final = {"account": "customers", "deal": "deals"}

_WORDS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "churn_level": "danger of leaving above the level",
        "churn_jump": "danger of leaving has jumped up",
        "contract_end": "contract ends soon, renewal in doubt",
        "deal_fall": "chance to be won has fallen",
        "account": "customer {id}",
        "deal": "deal {id}",
        "one": "{name}: {kind} ({moved})",
        "many": "{count} alerts: {first} and others",
        "moved": "{before} → {now}",
        "greeting": "Hello {name},",
        "lead_one": "there is one new alert.",
        "lead_many": "there are {count} new alerts, most money at risk first.",
        "money": "at risk: {at_risk} of {whole}",
        "ends": "contract ends {day}",
        "why": "why",
        "more": "and {count} more",
        "all": "All alerts, and when such mails come: {link}",
        "because": "You are told because you are responsible, lead the team, or were given it.",
    },
    "zh": {
        "churn_level": "流失风险超过警戒线",
        "churn_jump": "流失风险骤升",
        "contract_end": "合同即将到期，续约存疑",
        "deal_fall": "赢单概率下降",
        "account": "客户 {id}",
        "deal": "商机 {id}",
        "one": "{name}：{kind}（{moved}）",
        "many": "{count} 条预警：{first}等",
        "moved": "{before} → {now}",
        "greeting": "{name}，您好：",
        "lead_one": "有一条新预警。",
        "lead_many": "有 {count} 条新预警，按风险金额从高到低排列。",
        "money": "风险金额：{at_risk}（共 {whole}）",
        "ends": "合同到期日：{day}",
        "why": "原因",
        "more": "另有 {count} 条",
        "all": "全部预警及邮件设置：{link}",
        "because": "您收到此邮件，因为您是负责人、团队经理，或该预警已分配给您。",
    },
}


class AlertMailer:
    """Writes the mails that alerts ask for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, store: Store, job: Job) -> None:
        """Write a mail to the person that a job names, about what they may see of its alerts."""
        with store.transaction() as transaction:
            session = transaction.session
            user = session.get(User, job.payload["user_id"])
            told = _told(transaction, user, job.payload["alert_ids"])
            if user is not None and told:
                letter = Letter(user, told, settings=self._settings)
                enqueue_mail(
                    session,
                    to=user.email,
                    subject=letter.subject(),
                    text=letter.text(),
                    html=None,
                    key=f"alert_mail:{job.id}",
                    now=transaction.now,
                )
            complete(session, job, now=transaction.now, forget=True)


def _told(transaction: Transaction, user: User | None, alert_ids: Sequence[int]) -> list[ToldAlert]:
    """Return the alerts that somebody who still works here may see and that are not over."""
    if user is None or not user.active or user.deleted_at is not None or user.left_at is not None:
        return []
    reader = Reader(transaction.session, user)
    query = select_alerts(reader).where(Alert.id.in_(alert_ids), Alert.closed_at.is_(None))
    found = tell_alerts(reader, transaction.session.scalars(query).all(), transaction.now)
    waiting = [told for told in found if told.state is not State.ACKNOWLEDGED]
    return sorted(waiting, key=lambda told: (-_most(told), told.alert.id))


def _most(told: ToldAlert) -> Decimal:
    """Return the largest sum at risk that the receiver may see."""
    return max((one.at_risk for one in told.money), default=Decimal(0))


class Letter:
    """A mail to one person about alerts, in their language."""

    def __init__(self, user: User, told: Sequence[ToldAlert], *, settings: Settings) -> None:
        self._user = user
        self._told = told
        self._language = user.language if user.language in _WORDS else settings.language
        self._link = (settings.public_url or "").rstrip("/")

    def subject(self) -> str:
        """Return the subject: the alert itself, or how many there are."""
        first = self._told[0]
        if len(self._told) > 1:
            return _one_line(self._say("many", count=len(self._told), first=self._name(first)))
        kind = self._say(first.alert.kind)
        return _one_line(self._say("one", name=self._name(first), kind=kind, moved=self._moved(first.alert)))

    def text(self) -> str:
        """Return the text."""
        count = len(self._told)
        lead = self._say("lead_one") if count == 1 else self._say("lead_many", count=count)
        lines = [self._say("greeting", name=self._user.name), "", lead, ""]
        for told in self._told[:SHOWN]:
            lines += [*self._lines(told), ""]
        if count > SHOWN:
            lines += [self._say("more", count=count - SHOWN), ""]
        if self._link:
            lines.append(self._say("all", link=f"{self._link}/alerts"))
        return "\n".join([*lines, self._say("because"), ""])

    def _lines(self, told: ToldAlert) -> list[str]:
        alert = told.alert
        facts = [self._moved(alert), *(self._money(one) for one in told.money)]
        if told.ends_on is not None:
            facts.append(self._say("ends", day=self._day(told.ends_on)))
        lines = [f"* {self._name(told)}: {self._say(alert.kind)}", f"  {'; '.join(facts)}"]
        if why := [str(reason.get(self._language) or reason["en"]) for reason in main_reasons(told.reasons)]:
            lines.append(f"  {self._say('why')}: {'; '.join(why)}")
        if self._link:
            lines.append(f"  {self._link}/{_COLLECTIONS[alert.record_type]}/{alert.record_id}")
        return lines

    def _name(self, told: ToldAlert) -> str:
        return told.name or self._say(told.alert.record_type, id=told.alert.record_id)

    def _moved(self, alert: Alert) -> str:
        now = self._percent(alert.probability)
        if alert.previous is None:
            return now
        return self._say("moved", before=self._percent(alert.previous), now=now)

    def _money(self, one: Money) -> str:
        at_risk, whole = self._amount(one.at_risk, one.currency), self._amount(one.whole, one.currency)
        return self._say("money", at_risk=at_risk, whole=whole)

    def _amount(self, amount: Decimal, currency: str) -> str:
        shown = amount.quantize(Decimal(1)) if amount >= _SMALL else amount
        if not currency:
            return str(format_decimal(shown, locale=self._language))
        digits = bool(shown % 1)
        pattern = None if digits else "¤#,##0"
        return str(
            format_currency(shown, currency, format=pattern, locale=self._language, currency_digits=digits)
        )

    def _percent(self, probability: float) -> str:
        pattern = "#,##0%" if 0.0995 <= probability < 0.995 else "#,##0.0%"
        return str(format_percent(probability, pattern, locale=self._language))

    def _day(self, day: date) -> str:
        return str(format_date(day, "medium", locale=self._language))

    def _say(self, word: str, **values: object) -> str:
        return _WORDS[self._language][word].format(**values)


def main_reasons(reasons: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the reasons that weigh most, without the average that all start from."""
    real = [reason for reason in reasons if "base" not in (reason.get("group"), reason.get("feature"))]
    return sorted(real, key=lambda reason: -abs(reason["log_odds"]))[:_REASONS]


def _one_line(text: str) -> str:
    """Return a text that may be a header: what people call their customers may hold line breaks."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:400]
