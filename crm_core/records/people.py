"""The people who work with the CRM, and their teams."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.columns import Instant
from crm_core.records.base import Record


class Team(Record):
    """A team; teams form a tree."""

    __tablename__ = "teams"
    record_type = "team"

    name: Mapped[str] = mapped_column(String(200))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))


class User(Record):
    """A person who works with the CRM."""

    __tablename__ = "users"
    record_type = "user"

    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"), index=True)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    language: Mapped[str | None] = mapped_column(String(8), comment="en or zh; NULL follows the browser")
    time_zone: Mapped[str | None] = mapped_column(String(64))
    active: Mapped[bool] = mapped_column(default=True)
    left_at: Mapped[datetime | None] = mapped_column(Instant, comment="when the person left")
