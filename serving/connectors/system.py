"""What every system that is exchanged with can do, and the forms in which it is asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from crm_core.connections import Outcome
from crm_core.records import Account, Deal, Lead
from serving.connectors.calls import Caller, Login
from serving.connectors.connections import SHOWN, Connection

Row = Mapping[str, Any]
Scored = Lead | Deal | Account

_NAMESPACE = uuid.UUID("6f0c2a5e-6b0e-4a55-9d8c-6d1f3f3f4c11")
"""Keys that we make for other systems are the same whenever we make them."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some changed objects as files of an export hold them, and up to where all changes are in them."""

    files: Mapping[str, Sequence[Row]]
    mark: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Return how many objects changed."""
        return len(next(iter(self.files.values()), ()))


@dataclass(frozen=True, kw_only=True)
class News:
    """What a system is told of one record: its newest score, or that there is none any more."""

    record_id: int
    record_type: str
    external_id: str | None
    key: str
    score: int | None
    probability: float | None
    grade: str | None
    trend: str | None
    reasons: str
    scored_at: datetime | None
    model_version: str | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of a record that was born here, to create it there."""

    def shown(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Return what is told under the names that the system has for it."""
        values = {
            "score": self.score,
            "probability": self.probability,
            "grade": self.grade,
            "trend": self.trend,
            "reasons": self.reasons or None,
            "scored_at": None if self.scored_at is None else instant_text(self.scored_at),
            "model_version": self.model_version,
        }
        return {names[name]: values[name] for name in SHOWN if names.get(name)}


def news_of(record: Scored, language: str) -> News:
    """Return what is told of a record."""
    reasons = "\n".join(reason[language] for reason in record.reasons or () if reason.get("group") != "base")
    return News(
        record_id=record.id,
        record_type=record.record_type,
        external_id=record.external_id,
        key=f"crm-{record.record_type}-{record.id}",
        score=record.score,
        probability=record.probability,
        grade=record.grade,
        trend=record.trend,
        reasons=reasons,
        scored_at=record.scored_at,
        model_version=record.model_version,
        facts=_facts(record),
    )


def _facts(record: Scored) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": record.name}
    if isinstance(record, Lead):
        facts |= {"company": record.company, "email": record.email, "phone": record.phone}
    if isinstance(record, Deal):
        closes = record.expected_close_on
        facts |= {
            "amount": None if record.amount is None else float(record.amount),
            "closes_on": None if closes is None else closes.isoformat(),
        }
    return facts


def instant_text(at: datetime) -> str:
    """Return an instant as RFC 3339 has it, to the second, in UTC."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def made_id(key: str) -> str:
    """Return a key of their form for a record or row that we make there; always the same one."""
    return str(uuid.uuid5(_NAMESPACE, key))


class Exchange(Protocol):
    """A system that is exchanged with."""

    preset: ClassVar[str]
    """The import mapping that reads its objects."""
    pulls: ClassVar[frozenset[str]]
    pushes: ClassVar[frozenset[str]]
    at_once: ClassVar[int]
    """Records told about in one call."""
    names: ClassVar[Mapping[str, str]]
    """Fields that scores go into unless the connection names others."""

    def __init__(self, connection: Connection, caller: Caller) -> None: ...

    @staticmethod
    def login(connection: Connection, /) -> Login:
        """Return how programs log in."""
        ...

    def pull(self, kind: str, mark: Row) -> Iterator[Page]:
        """Yield what has changed since a mark, oldest changes first."""
        ...

    def push(self, kind: str, news: Sequence[News]) -> list[Outcome]:
        """Tell of some records of one kind; return what became of each."""
        ...


def names_of(connection: Connection, usual: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields that scores go into; an empty name leaves one out."""
    return {**usual, **connection.fields}
