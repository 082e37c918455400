"""What an administrator sets of selling: who we are on a quote, what needs an approval, when to remind.

There is one row. Without it a rep may give a tenth of the list price away and everybody else as much as they
like, people are reminded of a payment one, fourteen and thirty days after it was due, and a printed quote
says nothing of whom it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json, check_text
from crm_core.errors import InvalidValueError, StaleRecordError
from crm_core.external_ids import hold_keys
from crm_core.phrases import Phrase
from crm_core.recall import recalled_by_readers
from crm_core.records import Base, Id, Role, User
from crm_core.store import Transaction

USUAL_LIMITS: Final[Mapping[str, Decimal]] = {Role.REP: Decimal("0.1")}
"""The share of the list price that a role may give away by itself; a role that is not named: any."""

USUAL_DAYS: Final = (1, 14, 30)
"""How many days late a payment is when somebody is reminded of it."""

LONGEST_NAME: Final = 200
LONGEST_TEXT: Final = 1000
_MOST_LEVELS: Final = 10
_ONE_ROW: Final = 1
_CACHE: Final = "sales settings"


class SalesSetting(Base):
    """The one row of what was set."""

    __tablename__ = "sales_settings"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    company: Mapped[str] = mapped_column(String(LONGEST_NAME), comment="our name on what is printed")
    address: Mapped[str] = mapped_column(String(LONGEST_TEXT), comment="printed below the name")
    footer: Mapped[str] = mapped_column(String(LONGEST_TEXT), comment="printed at the end: bank, tax number")
    limits: Mapped[dict[str, Any]] = mapped_column(
        Json, comment="by role, the share of the list price that it may give away, as text"
    )
    reminder_days: Mapped[list[int]] = mapped_column(Json, comment="days late at which people are reminded")
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    set_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, kw_only=True)
class SalesSettings:
    """What holds now; `version` is 0 where nothing was ever set."""

    company: str = ""
    address: str = ""
    footer: str = ""
    limits: Mapping[str, Decimal] = field(default_factory=lambda: dict(USUAL_LIMITS))
    reminder_days: tuple[int, ...] = USUAL_DAYS
    version: int = 0

    def limit_of(self, role: str) -> Decimal | None:
        """Return the share of the list price that a role may give away by itself; None for any."""
        return self.limits.get(role)


def sales_settings(session: Session) -> SalesSettings:
    """Return what holds now, as it was a moment ago at the longest."""
    return recalled_by_readers(session, _CACHE, lambda: _read(session))


def set_sales(transaction: Transaction, user: User, wanted: SalesSettings) -> SalesSettings:
    """Set all of it; `wanted.version` is the one that whoever sets it saw.

    Raises InvalidValueError for what makes no sense, StaleRecordError where somebody else was faster.
    """
    checked = _checked(wanted)
    hold_keys(transaction.session, ["sales settings"])
    row = transaction.session.get(SalesSetting, _ONE_ROW, populate_existing=True)
    known = 0 if row is None else row.version
    if wanted.version != known:
        raise StaleRecordError("sales setting", _ONE_ROW, wanted.version, known)
    if row is None:
        row = SalesSetting(id=_ONE_ROW)
        transaction.session.add(row)
    row.company, row.address, row.footer = checked.company, checked.address, checked.footer
    row.limits = {role: str(share) for role, share in checked.limits.items()}
    row.reminder_days = list(checked.reminder_days)
    row.version, row.set_by_id, row.set_at = known + 1, user.id, transaction.now
    transaction.session.flush()
    return _read(transaction.session)


def _read(session: Session) -> SalesSettings:
    row = session.get(SalesSetting, _ONE_ROW)
    if row is None:
        return SalesSettings()
    return SalesSettings(
        company=row.company,
        address=row.address,
        footer=row.footer,
        limits={role: Decimal(share) for role, share in row.limits.items()},
        reminder_days=tuple(row.reminder_days),
        version=row.version,
    )


def _checked(wanted: SalesSettings) -> SalesSettings:
    for role, share in wanted.limits.items():
        if role not in {Role.REP, Role.MANAGER, Role.ADMIN}:
            raise InvalidValueError("limits", role, "a role that sells")
        if not 0 <= share <= 1:
            raise InvalidValueError("limits", str(share), "a share from 0 to 1")
    days = tuple(sorted(set(wanted.reminder_days)))
    if len(days) > _MOST_LEVELS or any(not 1 <= day <= 3650 for day in days):
        expected = Phrase("at most {most} numbers of days, each from 1 to 3650", most=_MOST_LEVELS)
        raise InvalidValueError("reminder_days", list(days), expected)
    return SalesSettings(
        company=check_text("company", wanted.company.strip(), longest=LONGEST_NAME),
        address=check_text("address", wanted.address.strip(), longest=LONGEST_TEXT),
        footer=check_text("footer", wanted.footer.strip(), longest=LONGEST_TEXT),
        limits=dict(wanted.limits),
        reminder_days=days,
    )
