"""When somebody has to be told: rules over what a model says now and what it said before.

A rule looks at one record and answers with a `Signal`: ON where its cause is there, OFF where it is over,
BETWEEN where what holds goes on. Between ON and OFF lies a gap, so that a probability that trembles around a
level is one cause and not many:

- `churn_level`: on from the level up, off below four fifths of it;
- `churn_jump` and `deal_fall`: on once the probability has moved by the jump from what the same model said
  `days` ago (or from the first that it said since), off when it has moved by less than half of that;
- `contract_end`: on while the customer's last contract ends within `contract_days` and renewal is less likely
  than `renewal_below`; it is one cause for one term of one contract, whatever is said meanwhile.

One danger is told as one thing, see `churn_steps`. Where a model says nothing, or another model than before,
nothing begins and nothing ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

LET_GO: Final = 0.8
"""What began at a level ends below this part of it."""

SETTLED: Final = 0.5
"""What began with a move ends when the move is less than this part of it."""

_ROUNDING: Final = 1e-9
"""0.60 - 0.45 is a fall by 0.15, whatever a machine makes of it."""

GRADES: Final = "ABCD"
"""From the best to the worst."""

FRESH: Final = timedelta(days=1)
"""A prediction written later than this after its instant was asked about the past: it was never said then."""


class Kind(StrEnum):
    """What an alert is about."""

    CHURN_LEVEL = "churn_level"
    CHURN_JUMP = "churn_jump"
    CONTRACT_END = "contract_end"
    DEAL_FALL = "deal_fall"


class Signal(StrEnum):
    """What a rule says of a record."""

    ON = "on"
    BETWEEN = "between"
    OFF = "off"


class Over(StrEnum):
    """Why an alert was closed."""

    BELOW_LEVEL = "below_level"
    SETTLED = "settled"
    ABOVE_LEVEL = "above_level"
    RENEWED = "renewed"
    EXTENDED = "extended"
    LEFT = "left"
    WON = "won"
    LOST = "lost"
    DELETED = "deleted"
    OPTED_OUT = "opted_out"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From when on somebody is told; probabilities and moves of them in [0, 1].

    `churn_money` raises an alert by money at risk alone, whatever the probability; customers with less than
    `least_money` at risk, as far as that is known, raise none. Both in whatever currency a customer pays.
    """

    churn_level: float = 0.3
    churn_money: Decimal | None = None
    least_money: Decimal = Decimal(0)
    churn_jump: float = 0.15
    contract_days: int = 60
    renewal_below: float = 0.8
    deal_fall: float = 0.15
    deal_grades: int = 2
    days: int = 7


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a model said of a record at one instant; `at_risk` is the largest sum of one currency."""

    probability: float | None
    grade: str | None = None
    at_risk: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Term:
    """The last contract of a customer that runs: which, until when, and whether whoever asked sees it."""

    contract_id: int
    ends_on: date
    is_seen: bool = True


@dataclass(frozen=True, kw_only=True)
class Step:
    """An alert that begins, or, with a reason why, one that is over."""

    kind: Kind
    why: Over | None = None


def was_said(as_of: datetime, recorded_at: datetime) -> bool:
    """Tell what was said from what was worked out later about the past."""
    return recorded_at - as_of <= FRESH


def churn_level(now: Said, limits: Thresholds) -> Signal:
    """Say whether a customer is above the level, by probability or by money at risk."""
    if now.probability is None:
        return Signal.BETWEEN
    if _is_above(now, limits, 1.0) and _is_worth_it(now, limits):
        return Signal.ON
    return Signal.BETWEEN if _is_above(now, limits, LET_GO) else Signal.OFF


def churn_jump(now: Said, before: Said | None, limits: Thresholds) -> Signal:
    """Say whether a customer's danger has risen by the jump."""
    moved = _moved(now, before)
    if moved is None:
        return Signal.BETWEEN
    found = _by_move(moved, limits.churn_jump)
    return found if _is_worth_it(now, limits) or found is Signal.OFF else Signal.BETWEEN


def deal_fall(now: Said, before: Said | None, limits: Thresholds) -> Signal:
    """Say whether a deal's probability, or its grade, has fallen."""
    moved = _moved(now, before)
    if moved is None or before is None:
        return Signal.BETWEEN
    dropped = moved < 0 and _grades_lost(before.grade, now.grade) >= limits.deal_grades
    return Signal.ON if dropped else _by_move(-moved, limits.deal_fall)


def contract_end(now: Said, term: Term | None, today: date, limits: Thresholds) -> Signal:
    """Say whether a customer's last contract ends soon and is not likely to be renewed."""
    if now.probability is None or term is None:
        return Signal.BETWEEN
    near = today <= term.ends_on <= today + timedelta(days=limits.contract_days)
    unlikely = 1 - now.probability < limits.renewal_below
    return Signal.ON if near and unlikely and _is_worth_it(now, limits) else Signal.BETWEEN


def deal_at_risk(amount: Decimal | None, now: Said, before: Said | None) -> Decimal | None:
    """Return what a deal's fall takes from what it is expected to bring."""
    moved = _moved(now, before)
    if amount is None or moved is None:
        return None
    return (amount * Decimal(max(-moved, 0.0))).quantize(Decimal("0.01"))


def churn_steps(
    signals: Mapping[Kind, Signal], running: Mapping[Kind, datetime], at: datetime, limits: Thresholds
) -> list[Step]:
    """Return what begins and ends for a customer, by what the rules say and since when what runs has run.

    One danger is told as one thing: of a customer whose contract ends without much hope, not also that it is
    above the level; and not that it jumped, for as long as what was said before either was told is what a
    jump is measured from.
    """
    steps = _steps(signals, running, Kind.CONTRACT_END, Over.RENEWED)
    level = _steps(signals, running, Kind.CHURN_LEVEL, Over.BELOW_LEVEL)
    if steps or Kind.CONTRACT_END in running:
        level = [step for step in level if step.why is not None]
    steps += level
    jumps = _steps(signals, running, Kind.CHURN_JUMP, Over.SETTLED)
    if any(step.why is None for step in steps):
        jumps = [Step(kind=Kind.CHURN_JUMP, why=Over.ABOVE_LEVEL)] if Kind.CHURN_JUMP in running else []
    elif _told_lately(running, at, limits):
        jumps = [step for step in jumps if step.why is not None]
    return steps + jumps


def _told_lately(running: Mapping[Kind, datetime], at: datetime, limits: Thresholds) -> bool:
    told = [running[kind] for kind in (Kind.CHURN_LEVEL, Kind.CONTRACT_END) if kind in running]
    return any(since > at - timedelta(days=limits.days) for since in told)


def deal_steps(signals: Mapping[Kind, Signal], running: Mapping[Kind, datetime]) -> list[Step]:
    """Return what begins and ends for a deal."""
    return _steps(signals, running, Kind.DEAL_FALL, Over.SETTLED)


def _steps(
    signals: Mapping[Kind, Signal], running: Mapping[Kind, datetime], kind: Kind, over: Over
) -> list[Step]:
    signal = signals.get(kind, Signal.BETWEEN)
    if signal is Signal.ON and kind not in running:
        return [Step(kind=kind)]
    if signal is Signal.OFF and kind in running:
        return [Step(kind=kind, why=over)]
    return []


def _is_above(now: Said, limits: Thresholds, part: float) -> bool:
    if now.probability is not None and now.probability >= limits.churn_level * part:
        return True
    if limits.churn_money is None or now.at_risk is None:
        return False
    return now.at_risk >= limits.churn_money * Decimal(part)


def _is_worth_it(now: Said, limits: Thresholds) -> bool:
    return now.at_risk is None or now.at_risk >= limits.least_money


def _moved(now: Said, before: Said | None) -> float | None:
    """Return how far the probability has moved; None where one of the two is not known."""
    if before is None or now.probability is None or before.probability is None:
        return None
    return now.probability - before.probability


def _by_move(moved: float, jump: float) -> Signal:
    if moved >= jump - _ROUNDING:
        return Signal.ON
    return Signal.OFF if moved < jump * SETTLED else Signal.BETWEEN


def _grades_lost(before: str | None, now: str | None) -> int:
    if before is None or now is None:
        return 0
    return GRADES.index(now) - GRADES.index(before)
