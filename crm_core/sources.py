"""Where leads come from: the sources that every store knows; any other word is taken as well."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from crm_core.records import Lead


@dataclass(frozen=True, kw_only=True)
class LeadSource:
    """A source: the word that records hold, and its names."""

    key: str
    name_en: str
    name_zh: str


LEAD_SOURCES: tuple[LeadSource, ...] = (
    LeadSource(key="web form", name_en="Web form", name_zh="网页表单"),
    LeadSource(key="ad", name_en="Advertisement", name_zh="广告"),
    LeadSource(key="trade show", name_en="Trade show", name_zh="展会"),
    LeadSource(key="referral", name_en="Referral", name_zh="转介绍"),
    LeadSource(key="cold call", name_en="Cold call", name_zh="陌生电话"),
)
"""What forms offer from the first day on."""

_OFFERED = 50
"""Choices that a form can show."""


def list_sources(session: Session, readable: ColumnElement[bool]) -> list[str]:
    """Return the sources to choose from: those of every store, then others of leads that one may read."""
    known = [source.key for source in LEAD_SOURCES]
    used = select(Lead.source).where(Lead.deleted_at.is_(None), readable).distinct()
    others = session.scalars(used.where(Lead.source.not_in(known)).order_by(Lead.source).limit(_OFFERED))
    return known + [source for source in others if source]
