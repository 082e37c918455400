"""What is shown of each task's champion: who put it in charge, on what it learned, how good it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from crm_core.promotions import Promotion, find_champion
from crm_core.records import User
from serving.champions import RECORD_TYPE_OF, Champions, Trouble
from serving.home import Home


@dataclass(frozen=True, kw_only=True)
class Card:
    """The champion of one task."""

    task: str
    promotion: Promotion | None
    by: str | None
    trouble: Trouble | None
    facts: Sequence[tuple[str, str]]
    columns: Sequence[Any]
    metrics: Sequence[Any]
    note: str | None


def read_cards(session: Session, home: Home, champions: Champions) -> list[Card]:
    """Return a card for every task."""
    return [_card(session, home, champions, task) for task in RECORD_TYPE_OF]


def _card(session: Session, home: Home, champions: Champions, task: str) -> Card:
    promotion = find_champion(session, task)
    by = session.get(User, promotion.actor_id) if promotion and promotion.actor_id else None
    return Card(
        task=task,
        promotion=promotion,
        by=by.name if by else None,
        trouble=champions.troubles.get(task),
        facts=[],
        columns=[],
        metrics=[],
        note=None,
    )
