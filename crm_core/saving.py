"""Keeping views and segments, and asking segments who is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.columns import check_json, check_text
from crm_core.errors import (
    AccessDeniedError,
    FilterError,
    InvalidValueError,
    RecordNotFoundError,
    UnknownFieldError,
)
from crm_core.fields import model_of
from crm_core.filters import compile_segment
from crm_core.phrases import Phrase, one_of
from crm_core.records import Role, User
from crm_core.saved import LONGEST_NAME, LONGEST_WORD, MOST_KEPT, SavedView, Segment, Shared, may_end
from crm_core.store import Transaction

K = TypeVar("K", SavedView, Segment)


def keep_view(
    transaction: Transaction, user: User, record_type: str, name: str, asked: Mapping[str, Any], shared: str
) -> SavedView:
    """Keep how a list was asked for; one's own view of the same name is replaced."""
    check_json("view", dict(asked))
    mine: SavedView | None = _mine(transaction.session, SavedView, user, record_type, name)
    made = mine or SavedView(user_id=user.id, record_type=record_type, name=_name(name))
    made.asked, made.shared, made.saved_at = dict(asked), _shared(shared), transaction.now
    return _added(transaction, made)


def keep_segment(
    transaction: Transaction,
    user: User,
    record_type: str,
    name: str,
    conditions: Sequence[str],
    *,
    shared: str,
    tag: str | None = None,
) -> Segment:
    """Keep a filter with a name, with `tag` as that tag's rule; one's own of the same name is replaced.

    Raises what compiling it raises: nobody keeps a filter that they may not ask.
    """
    if not conditions:
        raise FilterError("a segment needs at least one condition")
    compile_segment(Reader(transaction.session, user), record_type, conditions)
    mine: Segment | None = _mine(transaction.session, Segment, user, record_type, name)
    made = mine or Segment(user_id=user.id, record_type=record_type, name=_name(name))
    made.filter, made.shared, made.saved_at = list(conditions), _shared(shared), transaction.now
    made.tag = check_text("tag", tag.strip(), longest=LONGEST_WORD) or None if tag else None
    return _added(transaction, made)


def end_kept(transaction: Transaction, user: User, model: type[SavedView | Segment], kept_id: int) -> None:
    """Delete a view or segment; only whoever made it may, and administrators what is shared."""
    found: Any = transaction.session.get(model, kept_id, with_for_update=True)
    name = "view" if model is SavedView else "segment"
    seen = found is not None and (
        found.user_id == user.id or (user.role == Role.ADMIN and found.shared != Shared.OWN)
    )
    if found is None or not seen or not may_end(found, user):
        raise RecordNotFoundError(name, kept_id)
    transaction.session.delete(found)
    transaction.session.flush()


def count_in(reader: Reader, segment: Segment) -> int | None:
    """Return how many records that the reader sees fit a segment now; None if they may not ask it."""
    try:
        condition = compile_segment(reader, segment.record_type, segment.filter)
    except (AccessDeniedError, FilterError, UnknownFieldError):
        return None
    query = reader.select(model_of(reader.session, segment.record_type)).where(condition)
    return reader.session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _mine(session: Session, model: Any, user: User, record_type: str, name: str) -> Any:  # noqa: ANN401  either class
    mine = (model.user_id == user.id, model.record_type == record_type, model.name == name.strip())
    found = session.scalars(select(model).where(*mine).with_for_update()).first()
    kept = session.scalar(select(func.count(model.id)).where(model.user_id == user.id)) or 0
    if found is None and kept >= MOST_KEPT:
        raise InvalidValueError(
            "name", name, Phrase("at most {most} of them; delete one first", most=MOST_KEPT)
        )
    return found


def _name(name: str) -> str:
    name = check_text("name", name.strip(), longest=LONGEST_NAME)
    if not name:
        raise InvalidValueError("name", name, "a name")
    return name


def _shared(shared: str) -> str:
    if shared not in list(Shared):
        raise InvalidValueError("shared", shared, one_of(Shared))
    return shared


def _added(transaction: Transaction, made: K) -> K:
    transaction.session.add(made)
    transaction.session.flush()
    return made
