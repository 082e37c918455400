"""Files that people import on the pages: what was uploaded, what it is to become, and how far that has come.

The row says how many and never what: values of the file stand in the file alone, and in the list of refused
rows beside it. Both are deleted some days after they came; the row stays as the record of what was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ForeignKey, Index, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json, check_text
from crm_core.errors import RecordNotFoundError
from crm_core.records import Base, Id, Role, User

KEPT_FILES: Final = timedelta(days=7)
"""How long an uploaded file is kept."""


class ImportState(StrEnum):
    """How far an import has come; `checked` is a dry run that has ended."""

    UPLOADED = "uploaded"
    CHECKING = "checking"
    CHECKED = "checked"
    IMPORTING = "importing"
    DONE = "done"
    FAILED = "failed"


RUNNING = (ImportState.CHECKING, ImportState.IMPORTING)


class Import(Base):
    """One uploaded file and what became of it."""

    __tablename__ = "imports"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    folder: Mapped[str] = mapped_column(String(32), comment="below imports/ of the home")
    file: Mapped[str] = mapped_column(String(200), comment="what the file was called")
    uploaded_at: Mapped[datetime] = mapped_column(Instant)
    state: Mapped[str] = mapped_column(String(10))
    plan: Mapped[Any] = mapped_column(Json, nullable=True, comment="which column becomes what")
    report: Mapped[Any] = mapped_column(Json, nullable=True, comment="how many, never what")
    failed: Mapped[str | None] = mapped_column(String(500), comment="why nothing came of it")
    ended_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (Index("ix_imports_user_id_id", "user_id", "id"),)


def add_upload(session: Session, user: User, folder: str, file: str, *, now: datetime) -> Import:
    """Write down an uploaded file."""
    made = Import(
        user_id=user.id,
        folder=folder,
        file=check_text("file", file)[:200],
        uploaded_at=now,
        state=ImportState.UPLOADED,
    )
    session.add(made)
    session.flush()
    return made


def get_import(session: Session, user: User, import_id: int, *, lock: bool = False) -> Import:
    """Return an import of one's own; administrators see all, for everybody else there is none."""
    found = session.get(Import, import_id, with_for_update=lock or None)
    if found is None or (found.user_id != user.id and user.role != Role.ADMIN):
        raise RecordNotFoundError("import", import_id)
    return found


def list_imports(session: Session, user: User, *, limit: int) -> Sequence[Import]:
    """Return one's own imports, the newest first."""
    mine = select(Import).where(Import.user_id == user.id).order_by(Import.id.desc())
    return session.scalars(mine.limit(limit)).all()


def list_outdated(session: Session, now: datetime) -> Sequence[str]:
    """Return the folders of files that have been kept long enough."""
    old = select(Import.folder).where(Import.uploaded_at < now - KEPT_FILES, Import.state.not_in(RUNNING))
    return session.scalars(old).all()
