"""A meeting with what was said in it, and the next steps that came out of it, written at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crm_core.activities import log_activity
from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase
from crm_core.records import Activity, ActivityKind
from crm_core.store import Transaction

MOST_STEPS: Final = 20

_LINKS: Final = ("lead_id", "deal_id", "account_id", "contact_id", "subject_type", "subject_id")


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """What somebody is to do after a meeting."""

    text: str
    owner_id: int | None = None
    due_at: datetime | None = None


def log_meeting(
    transaction: Transaction, meeting: Activity, steps: Sequence[NextStep]
) -> tuple[Activity, list[Activity]]:
    """Store a meeting with its notes, and each next step as a task on the same record.

    A step belongs to whoever held the meeting unless it says somebody else. Raises InvalidValueError for a
    step without words, or for too many.
    """
    if len(steps) > MOST_STEPS:
        raise InvalidValueError("steps", len(steps), Phrase("at most {most} next steps", most=MOST_STEPS))
    if any(not step.text.strip() for step in steps):
        raise InvalidValueError("steps.text", "", "what is to be done")
    meeting.kind = ActivityKind.MEETING
    held = log_activity(transaction, meeting)
    links = {name: getattr(held, name) for name in _LINKS}
    tasks = [
        log_activity(
            transaction,
            Activity(
                kind=ActivityKind.TASK,
                subject=step.text.strip(),
                due_at=step.due_at,
                owner_id=step.owner_id or held.owner_id,
                **links,
            ),
        )
        for step in steps
    ]
    return held, tasks
