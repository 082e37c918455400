"""What a person can do about a record today, as suppositions that its score is asked with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crm_core.clock import DAY
from crm_core.pipelines import PIPELINES
from features.event_features import UNSOLVED
from features.supposing import Supposition

Known = Mapping[str, Any]
"""The values of a record's features at the question, by name; NaN or None for missing."""

SHORTEST_WAIT_DAYS, LONGEST_WAIT_DAYS = 14, 90
"""Bounds of how far ahead a new close date is supposed to lie."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What an action is made from: the instant in microseconds, what is known of it, and what is usual."""

    as_of: int
    known: Known
    usual: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something to do. `en` and `zh` stand after "with"; `makes` says None where there is nothing to do."""

    key: str
    en: str
    zh: str
    makes: Callable[[Situation], Supposition | None]


def _activity(kind: str, outcome: str | None = None, direction: str | None = "outbound") -> Supposition:
    values = {"kind": kind, "direction": direction, "outcome": outcome}
    return Supposition(events=(("activity", values),))


def _always(supposition: Supposition) -> Callable[[Situation], Supposition]:
    return lambda _situation: supposition


def _answer_mail(situation: Situation) -> Supposition | None:
    """Answering makes sense where the customer wrote last."""
    waiting = situation.known.get("last_contact_direction") == "inbound"
    return _activity("mail") if waiting and _is_mail(situation.known) else None


def _send_mail(situation: Situation) -> Supposition | None:
    return None if _answer_mail(situation) else _activity("mail")


def _is_mail(known: Known) -> bool:
    return known.get("last_activity_kind", "mail") in ("mail", None)


def _quote(situation: Situation) -> Supposition | None:
    """A quote sent brings a deal that was not so far to the stage of quotes."""
    stage = situation.known.get("stage")
    keys = [each.key for each in PIPELINES["default"]]
    if stage not in keys or keys.index(stage) >= keys.index("proposal"):
        return None
    events: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("quote", {"status": "sent", "sent_at": situation.as_of}),
    )
    return Supposition(events=events, fields={"stage": "proposal"})


def _close_date(situation: Situation) -> Supposition | None:
    """A day agreed with the customer makes sense where there is none, or where it is over."""
    ahead = situation.known.get("days_until_expected_close", 0.0)
    if ahead is not None and ahead >= 0:
        return None
    usual = situation.usual.get("days_until_expected_close", 0.0)
    wait = math.floor(min(max(usual, SHORTEST_WAIT_DAYS), LONGEST_WAIT_DAYS))
    day = (situation.as_of // DAY + wait) * DAY
    return Supposition(fields={"expected_close_on": day})


def _close_tickets(situation: Situation) -> Supposition | None:
    if not situation.known.get("open_tickets_count"):
        return None
    return Supposition(linked=tuple(("ticket", "status", state, "closed") for state in UNSOLVED))


_CALL = Action(
    key="call",
    en="a call today that gets through",
    zh="今天有一次接通的电话",
    makes=_always(_activity("call", "connected")),
)
_MEETING = Action(
    key="meeting", en="a meeting today", zh="今天有一次会面", makes=_always(_activity("meeting", "held"))
)
_ANSWER = Action(key="mail_answered", en="their mail answered today", zh="今天回复其来信", makes=_answer_mail)
_MAIL = Action(key="mail", en="a mail to them today", zh="今天去信一封", makes=_send_mail)
_NEXT_STEP = Action(
    key="next_step",
    en="a next step set today",
    zh="今天定下下一步",
    makes=_always(_activity("task", direction=None)),
)

ACTIONS: Mapping[str, tuple[Action, ...]] = {
    "lead": (_CALL, _MEETING, _ANSWER, _MAIL, _NEXT_STEP),
    "deal": (
        _CALL,
        _MEETING,
        _ANSWER,
        _MAIL,
        _NEXT_STEP,
        Action(key="quote", en="a quote sent today", zh="今天发出报价", makes=_quote),
        Action(
            key="close_date",
            en="a close date agreed anew today",
            zh="今天重新约定成交日",
            makes=_close_date,
        ),
    ),
    "account": (
        _CALL,
        Action(
            key="renewal_meeting",
            en="a meeting today, for example about the renewal",
            zh="今天有一次会面（例如谈续约）",
            makes=_always(_activity("meeting", "held")),
        ),
        _ANSWER,
        _MAIL,
        _NEXT_STEP,
        Action(
            key="tickets_closed",
            en="their open tickets closed today",
            zh="今天结清其未结工单",
            makes=_close_tickets,
        ),
    ),
}
"""What may be done, by record type."""
