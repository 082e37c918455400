"""How many records somebody wants to work a day."""

from __future__ import annotations

from sqlalchemy import ForeignKey, delete
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase
from crm_core.records import Base
from crm_core.workday import MOST_A_DAY


class DayPlan(Base):
    """What somebody set for themselves; without a row, what they usually do counts."""

    __tablename__ = "day_plans"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    records_a_day: Mapped[int]


def find_day_plan(session: Session, user_id: int) -> int | None:
    """Return how many records a day somebody set for themselves."""
    found = session.get(DayPlan, user_id)
    return None if found is None else found.records_a_day


def set_day_plan(session: Session, user_id: int, records_a_day: int | None) -> None:
    """Write down how many records somebody wants to work a day; None: what they usually do."""
    if records_a_day is None:
        session.execute(delete(DayPlan).where(DayPlan.user_id == user_id))
        return
    if not 1 <= records_a_day <= MOST_A_DAY:
        raise InvalidValueError(
            "records_a_day", records_a_day, Phrase("a number from 1 to {most}", most=MOST_A_DAY)
        )
    session.merge(DayPlan(user_id=user_id, records_a_day=records_a_day))
    session.flush()
