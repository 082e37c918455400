"""Search hits as people see them: with the name of the record, and the page where it is shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.records import RECORD_TYPES, Record, User
from crm_core.search import MOST_HITS, Hit, search

PAGE_OF = {"lead": "leads", "deal": "deals", "account": "customers"}
"""The record types that have a page, and below which address."""

_NAMES = ("name", "company", "subject", "number", "word", "text", "email", "phone")
"""Fields that may say what a record is called, the best one first."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is looked for."""

    text: str
    types: Sequence[str] | None = None
    limit: int = 20
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """A hit: `title` says what the record is called, `page_type` and `page_id` where it is shown."""

    record_type: str
    id: int
    score: float
    field: str
    excerpt: str
    title: str
    page_type: str | None
    page_id: int | None


@dataclass(frozen=True, kw_only=True)
class FoundPage:
    """A page of hits, best first."""

    hits: Sequence[Found]
    next_cursor: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the page as one JSON object."""
        return {"hits": [asdict(hit) for hit in self.hits], "next_cursor": self.next_cursor}


def find_page(session: Session, user: User, asked: Asked) -> FoundPage:
    """Return a page of what `user` may see and `asked` describes."""
    reader = Reader(session, user)
    more = min(asked.limit + 1, MOST_HITS)
    hits = search(reader, asked.text, types=asked.types, limit=more, after=asked.after)
    shown = hits[: asked.limit]
    records = _records(reader, shown)
    return FoundPage(
        hits=[_found(reader, hit, records) for hit in shown],
        next_cursor=shown[-1].cursor if len(hits) == more and shown else None,
    )


Key = tuple[str, int]


def _records(reader: Reader, hits: Sequence[Hit]) -> dict[Key, Record]:
    """Return the records of hits, with the fields that may be seen."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for hit in hits:
        wanted[hit.record_type].append(hit.record_id)
    return {
        (record_type, record.id): reader.masked(record)
        for record_type, ids in wanted.items()
        for model in [RECORD_TYPES[record_type]]
        for record in reader.session.scalars(reader.select(model).where(model.id.in_(ids)))
    }


def _found(reader: Reader, hit: Hit, records: dict[Key, Record]) -> Found:
    record = records[hit.record_type, hit.record_id]
    page = _page_of(reader, record)
    return Found(
        record_type=hit.record_type,
        id=hit.record_id,
        score=hit.score,
        field=hit.field,
        excerpt=hit.excerpt,
        title=title_of(record),
        page_type=page[0] if page else None,
        page_id=page[1] if page else None,
    )


def title_of(record: Record) -> str:
    """Return what a record is called."""
    for name in _NAMES:
        if text := getattr(record, name, None):
            return str(text)
    return f"{record.record_type} {record.id}"


def _page_of(reader: Reader, record: Record) -> Key | None:
    """Return the record on whose page a record is shown: itself, or what it is about and may be seen."""
    if record.record_type in PAGE_OF:
        return record.record_type, record.id
    for record_type in PAGE_OF:
        linked = getattr(record, f"{record_type}_id", None)
        if linked is not None and _is_seen(reader, record_type, linked):
            return record_type, linked
    subject = getattr(record, "subject_type", None), getattr(record, "subject_id", None)
    if subject[0] in PAGE_OF and subject[1] is not None and _is_seen(reader, subject[0], subject[1]):
        return subject[0], subject[1]
    return None


def _is_seen(reader: Reader, record_type: str, record_id: int) -> bool:
    model = RECORD_TYPES[record_type]
    query = reader.select(model).with_only_columns(model.id).where(model.id == record_id)
    return reader.session.scalar(query) is not None
