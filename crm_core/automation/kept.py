"""The tables of automation: rules, every version of them, what they did, and whose turn it is.

A rule is its number; what it says is its newest version, and older ones are never changed or removed. A run
is one rule and one cause: the pair is unique, and its row is written in the transaction of what was done. So
nothing is done twice, by whomever and however often a cause is found, and nothing of it without the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.automation.rules import Rule, read_rule
from crm_core.columns import Instant, Json
from crm_core.errors import RecordNotFoundError
from crm_core.recall import recalled
from crm_core.records import Base, Id

LONGEST_CAUSE: Final = 120


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    NOBODY = "nobody"
    FAILED = "failed"
    TOO_DEEP = "too_deep"


class AutomationRule(Base):
    """A rule: whether it is on, since when, and which of its versions counts."""

    __tablename__ = "automation_rules"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    shipped: Mapped[str | None] = mapped_column(String(40), unique=True, comment="its name, if it came along")
    active: Mapped[bool]
    version: Mapped[int] = mapped_column(comment="the version that counts")
    since: Mapped[datetime | None] = mapped_column(Instant, comment="when it was switched on last")
    since_sequence: Mapped[int] = mapped_column(
        BigInteger, comment="the last transaction it acts on nothing of"
    )
    since_prediction: Mapped[int] = mapped_column(BigInteger, comment="the last prediction likewise")
    since_alert: Mapped[int] = mapped_column(BigInteger, comment="the last alert likewise")


class AutomationVersion(Base):
    """What a rule says, as it was saved once."""

    __tablename__ = "automation_versions"

    rule_id: Mapped[int] = mapped_column(ForeignKey("automation_rules.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    declared: Mapped[Any] = mapped_column(Json, comment="trigger, condition and actions")
    saved_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="NULL: it came along")
    saved_at: Mapped[datetime] = mapped_column(Instant)


class AutomationRun(Base):
    """What a rule did about one cause."""

    __tablename__ = "automation_runs"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    rule_id: Mapped[int] = mapped_column(ForeignKey("automation_rules.id"))
    version: Mapped[int]
    cause: Mapped[str] = mapped_column(String(LONGEST_CAUSE), comment="what makes two causes the same")
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    caused_at: Mapped[datetime] = mapped_column(Instant, comment="when what set it off happened")
    at: Mapped[datetime] = mapped_column(Instant)
    outcome: Mapped[str] = mapped_column(String(10))
    depth: Mapped[int] = mapped_column(comment="how many runs led to it, one setting off the next")
    did: Mapped[Any] = mapped_column(Json, comment="by action: what it was done to, by numbers and words")
    error: Mapped[str | None] = mapped_column(String(60), comment="the kind of the error it failed with")
    sequence: Mapped[int | None] = mapped_column(BigInteger, comment="the transaction that wrote it")
    after_change: Mapped[int | None] = mapped_column(BigInteger, comment="what it wrote comes after this one")
    last_change: Mapped[int | None] = mapped_column(BigInteger, comment="the last change that it wrote")

    __table_args__ = (
        UniqueConstraint("rule_id", "cause"),
        Index("ix_automation_runs_rule_id_record_id", "rule_id", "record_id"),
        Index("ix_automation_runs_record_type_record_id", "record_type", "record_id"),
        Index("ix_automation_runs_sequence", "sequence"),
    )


class AutomationTurn(Base):
    """Who was chosen last where people take turns."""

    __tablename__ = "automation_turns"

    rule_id: Mapped[int] = mapped_column(ForeignKey("automation_rules.id"), primary_key=True)
    place: Mapped[str] = mapped_column(String(220), primary_key=True, comment="among whom: team:3")
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


@dataclass(frozen=True, kw_only=True)
class Active:
    """A rule that is on, apart from any session."""

    id: int
    version: int
    rule: Rule
    since: datetime
    since_sequence: int
    since_prediction: int
    since_alert: int
    saved_by_id: int | None


def list_active(session: Session) -> tuple[Active, ...]:
    """Return the rules that are on, or were a moment ago, in the order in which they were made."""
    return recalled(session, "automation rules", lambda: _read_active(session))


def _read_active(session: Session) -> tuple[Active, ...]:
    query = _with_version().where(AutomationRule.active).order_by(AutomationRule.id)
    return tuple(
        Active(
            id=kept.id,
            version=kept.version,
            rule=read_rule(version.declared),
            since=kept.since or version.saved_at,
            since_sequence=kept.since_sequence,
            since_prediction=kept.since_prediction,
            since_alert=kept.since_alert,
            saved_by_id=version.saved_by_id,
        )
        for kept, version in session.execute(query)
    )


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A rule as it is listed: what it says now, and what it did."""

    kept: AutomationRule
    version: AutomationVersion
    rule: Rule
    runs: int = 0
    last_at: datetime | None = None


def list_rules(session: Session) -> list[Listed]:
    """Return all rules, in the order in which they were made, with how often each acted."""
    counts = select(AutomationRun.rule_id, func.count(), func.max(AutomationRun.at))
    runs = {
        rule_id: (count, last)
        for rule_id, count, last in session.execute(counts.group_by(AutomationRun.rule_id))
    }
    found = session.execute(_with_version().order_by(AutomationRule.id)).all()
    return [
        Listed(
            kept=kept,
            version=version,
            rule=read_rule(version.declared),
            runs=runs.get(kept.id, (0, None))[0],
            last_at=runs.get(kept.id, (0, None))[1],
        )
        for kept, version in found
    ]


def get_rule(session: Session, rule_id: int) -> Listed:
    """Return a rule as it is now; raise RecordNotFoundError where there is none."""
    found = session.execute(_with_version().where(AutomationRule.id == rule_id)).one_or_none()
    if found is None:
        raise RecordNotFoundError("rule", rule_id)
    kept, version = found
    counted = select(func.count(), func.max(AutomationRun.at)).where(AutomationRun.rule_id == rule_id)
    runs, last = session.execute(counted).one()
    return Listed(kept=kept, version=version, rule=read_rule(version.declared), runs=runs, last_at=last)


def list_versions(
    session: Session, rule_id: int, *, before: int | None = None, limit: int | None = None
) -> Sequence[AutomationVersion]:
    """Return what a rule said and says, the newest first; with `before`, what it said before a version."""
    query = select(AutomationVersion).where(AutomationVersion.rule_id == rule_id)
    if before is not None:
        query = query.where(AutomationVersion.version < before)
    return session.scalars(query.order_by(AutomationVersion.version.desc()).limit(limit)).all()


def list_runs(
    session: Session,
    *,
    rule_id: int | None = None,
    about: tuple[str, int] | None = None,
    outcome: Outcome | None = None,
    before: int | None = None,
    limit: int,
) -> Sequence[AutomationRun]:
    """Return what rules did, the newest first; with `before`, what is older than the run with this id."""
    query = select(AutomationRun).order_by(AutomationRun.id.desc()).limit(limit)
    if rule_id is not None:
        query = query.where(AutomationRun.rule_id == rule_id)
    if about is not None:
        query = query.where(AutomationRun.record_type == about[0], AutomationRun.record_id == about[1])
    if outcome is not None:
        query = query.where(AutomationRun.outcome == outcome)
    if before is not None:
        query = query.where(AutomationRun.id < before)
    return session.scalars(query).all()


def _with_version() -> Any:  # noqa: ANN401  a select of two
    same = (AutomationVersion.rule_id == AutomationRule.id) & (
        AutomationVersion.version == AutomationRule.version
    )
    return select(AutomationRule, AutomationVersion).join(AutomationVersion, same)
