"""Search hits as people see them: with the name of the record, and the page where it is shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, Text, cast, literal, null, union_all
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.records import RECORD_TYPES, Record, User
from crm_core.search import EXAMINED, MOST_HITS, Hit, search
from crm_core.validation import columns_of
from serving.journal import PEOPLE, note_people

PAGE_OF = {"lead": "leads", "deal": "deals", "account": "customers"}
"""The record types that have a page, and below which address."""

_NAMES = ("name", "company", "subject", "number", "word", "text", "email", "phone")
"""Fields that may say what a record is called, the best one first."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is looked for; `examined` is how many candidates are looked at, the likeliest ones first."""

    text: str
    types: Sequence[str] | None = None
    limit: int = 20
    after: str | None = None
    examined: int = EXAMINED


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

    @property
    def is_nameless(self) -> bool:
        """Say whether the title is but a number."""
        return self.title == _numbered(self.record_type, self.id)


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
    hits = search(
        reader, asked.text, types=asked.types, limit=more, after=asked.after, examined=asked.examined
    )
    shown = hits[: asked.limit]
    records = _records(reader, shown)
    pages = _pages(reader, records)
    return FoundPage(
        hits=[_found(hit, records, pages) for hit in shown],
        next_cursor=shown[-1].cursor if len(hits) == more and shown else None,
    )


Key = tuple[str, int]


Said = Mapping[str, Any]
"""What a hit is shown by, as far as it may be seen: what it may be called, and what it is about."""

_ABOUT = ("subject_type", "subject_id", *(f"{record_type}_id" for record_type in PAGE_OF))


def _records(reader: Reader, hits: Sequence[Hit]) -> dict[Key, Said]:
    """Return what the records of hits are shown by; a whole record each would cost most of a search."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for hit in hits:
        wanted[hit.record_type].append(hit.record_id)
    for record_type in wanted.keys() & PEOPLE:
        note_people(record_type, wanted[record_type])
    if not wanted:
        return {}
    query: Any = union_all(*(_query(reader, record_type, ids) for record_type, ids in wanted.items()))
    rows = map(dict, reader.session.execute(query).mappings())
    return {(row["type"], row["id"]): row for row in rows}


_SHOWN: Mapping[str, Any] = {
    **dict.fromkeys(_NAMES, Text()),
    **dict.fromkeys(_ABOUT, BigInteger()),
    "subject_type": Text(),
}
"""What is read of every hit, by the type that it has wherever it is a column."""


def _query(reader: Reader, record_type: str, ids: Sequence[int]) -> Select[Any]:
    """Return the query of what the records of a type are shown by; NULL for what it has not, or is hidden."""
    model = RECORD_TYPES[record_type]
    columns, readable = columns_of(model), reader.readable_fields(model)
    shown = (
        (columns[name] if name in columns and name in readable else cast(null(), kind)).label(name)
        for name, kind in _SHOWN.items()
    )
    query = reader.select(model).with_only_columns(
        literal(record_type).label("type"), columns["id"].label("id"), *shown
    )
    return query.where(model.id.in_(ids))


def _pages(reader: Reader, records: Mapping[Key, Said]) -> dict[Key, Key]:
    """Return the record on whose page each is shown: itself, or what it is about and may be seen."""
    about = {key: _ways(key, said) for key, said in records.items()}
    asked: dict[str, set[int]] = defaultdict(set)
    for key, ways in about.items():
        for record_type, record_id in ways:
            if (record_type, record_id) != key:
                asked[record_type].add(record_id)
    seen = _seen(reader, asked)
    shown = {
        key: next((way for way in ways if way == key or way in seen), None) for key, ways in about.items()
    }
    return {key: page for key, page in shown.items() if page is not None}


def _ways(key: Key, said: Said) -> list[Key]:
    """Return the records on whose page one may be shown, the best one first."""
    if key[0] in PAGE_OF:
        return [key]
    linked = [(name, said.get(f"{name}_id")) for name in PAGE_OF]
    subject = (said.get("subject_type"), said.get("subject_id"))
    return [(str(name), int(record)) for name, record in (*linked, subject) if name in PAGE_OF and record]


def _seen(reader: Reader, asked: Mapping[str, Collection[int]]) -> set[Key]:
    """Return which of some records may be seen, by one statement."""
    queries = []
    for record_type, ids in asked.items():
        model = RECORD_TYPES[record_type]
        columns = (literal(record_type), model.id)
        queries.append(reader.select(model).with_only_columns(*columns).where(model.id.in_(ids)))
    if not queries:
        return set()
    query: Any = union_all(*queries)
    return {(record_type, record_id) for record_type, record_id in reader.session.execute(query)}


def _found(hit: Hit, records: Mapping[Key, Said], pages: Mapping[Key, Key]) -> Found:
    key = (hit.record_type, hit.record_id)
    page = pages.get(key)
    return Found(
        record_type=hit.record_type,
        id=hit.record_id,
        score=hit.score,
        field=hit.field,
        excerpt=hit.excerpt,
        title=_title(hit.record_type, records[key]),
        page_type=page[0] if page else None,
        page_id=page[1] if page else None,
    )


def title_of(record: Record) -> str:
    """Return what a record is called."""
    return _title(record.record_type, {name: getattr(record, name, None) for name in ("id", *_NAMES)})


def _title(record_type: str, said: Said) -> str:
    return next((str(said[name]) for name in _NAMES if said.get(name)), _numbered(record_type, said["id"]))


def _numbered(record_type: str, record_id: int) -> str:
    return f"{record_type} {record_id}"
