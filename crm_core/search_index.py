"""Which grams occur in the texts of which records, kept in step with every write.

The contract:

- A record's texts are in the index, or the record is in `search_fresh`, from the commit that writes them.
  Few records at a time go into `search_fresh`, which costs a row each and which a search reads through; when
  it has grown, the writer that notices folds it into a segment. Many at a time make a segment at once.
- A segment holds, for each gram, in which of its records the gram occurs; it is never changed, except to
  forget records. What a record said earlier may still be in an older segment: the index only names
  candidates, and whoever searches looks at what the records say now and who may see it.
- Grams are kept for records that are deleted, too: only `forget` takes them out, for erasing.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    Index,
    LargeBinary,
    Select,
    String,
    Text,
    and_,
    between,
    cast,
    delete,
    insert,
    literal,
    null,
    or_,
    select,
    text,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Json
from crm_core.grams import grams_of
from crm_core.records import RECORD_TYPES, Base, Id, Record
from crm_core.validation import columns_of

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SEARCHED: Final[dict[str, tuple[str, ...]]] = {
    "account": ("name", "phone", "website"),
    "contact": ("name", "email", "phone", "title"),
    "lead": ("name", "company", "email", "phone", "title"),
    "deal": ("name", "competitors"),
    "user": ("name", "email"),
    "team": ("name",),
    "campaign": ("name",),
    "product": ("name", "code", "family"),
    "quote": ("number",),
    "order": ("number",),
    "contract": ("number",),
    "line": ("text",),
    "ticket": ("subject",),
    "article": ("title", "body"),
    "custom_record": ("name",),
    "tag": ("word",),
    "attachment": ("name",),
    "comment": ("body",),
    "activity": ("subject", "body"),
    "campaign_member": (),
    "payment": (),
}
"""The fields of each record type that are searched, besides the texts in `custom`.

Of hits that fit equally well, those of the types named first come first.
"""

_LONG_TEXTS: Final = frozenset({"activity", "article", "comment"})
"""Types whose texts are so long that pairs of letters would tell little."""

_ENOUGH: Final = 256
"""From so many records on a transaction writes a segment of its own."""

_FOLD_AT: Final = 1_024
"""When so many records of a type are fresh, they are folded into a segment."""

_LARGEST: Final = 5_000
"""Records in a segment: at most 65,536, the places that a gram's list can name."""


_LISTED: Final = 5_000
"""Ids listed in one query."""


class Segment(Base):
    """Records of one type whose grams were written together; their places are 0 to `size` - 1."""

    __tablename__ = "search_segments"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    record_type: Mapped[str] = mapped_column(String(40))
    first_id: Mapped[int] = mapped_column(BigInteger)
    last_id: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int]
    ids: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="ascending, int64; NULL: all from first_id to last_id"
    )

    __table_args__ = (Index("ix_search_segments_record_type", "record_type"),)

    def record_ids(self) -> Ints:
        """Return the records' ids, by place."""
        if self.ids is None:
            return np.arange(self.first_id, self.last_id + 1)
        return np.frombuffer(self.ids, dtype="<i8").astype(np.int64)


class Posting(Base):
    """In which records of a segment a gram occurs.

    `places` holds the places as uint16, ascending, or a bit for each record of the segment where that is
    not longer; its length tells which. No foreign key: checking one a row would be most of the work.
    """

    __tablename__ = "search_postings"

    segment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    gram: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    places: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = ({"sqlite_with_rowid": False},)


class Fresh(Base):
    """A record whose newest texts are not in a segment yet."""

    __tablename__ = "search_fresh"

    record_type: Mapped[str] = mapped_column(String(40), primary_key=True)
    record_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)

    __table_args__ = ({"sqlite_with_rowid": False},)


def width_of(record_type: str) -> int:
    """Return how many letters the grams of a record type have."""
    return 3 if record_type in _LONG_TEXTS else 2


def is_searched(record_type: str, fields: Iterable[str]) -> bool:
    """Return whether a change of `fields` changes what can be found."""
    searched = SEARCHED[record_type]
    return any(field in searched or field.startswith("custom.") for field in fields)


_COUNT_FRESH: Final = text("SELECT count(*) FROM search_fresh WHERE record_type = :record_type")
_ADD_FRESH: Final = text(
    "INSERT INTO search_fresh (record_type, record_id) VALUES (:record_type, :record_id) "
    "ON CONFLICT (record_type, record_id) DO UPDATE SET record_id = excluded.record_id"
)
"""The same on both databases, and written with every record: ready-made, they cost a fifth."""


class Indexer:
    """Keeps the index in step with the writes of one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._noted: dict[type[Record], set[int]] = defaultdict(set)
        self._added: dict[str, tuple[list[int], Texts]] = defaultdict(lambda: ([], Texts()))

    def note(self, model: type[Record], ids: Collection[int]) -> None:
        """Remember that records have new texts."""
        self._noted[model].update(ids)

    def add(
        self, model: type[Record], ids: Sequence[int], columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]
    ) -> None:
        """Take in new records, whose ids ascend: many of them from what was written, without a read."""
        if len(ids) < _ENOUGH:
            self.note(model, ids)
            return
        for start in range(0, len(ids), _LARGEST):
            some = ids[start : start + _LARGEST]
            if len(self._added[model.record_type][0]) + len(some) > _LARGEST:
                self._write_added(model.record_type)
            added, texts = self._added[model.record_type]
            added.extend(some)
            for name in searched_columns(model.record_type):
                if name in columns:
                    texts.add(some, name, list(columns[name][start : start + _LARGEST]))

    def flush(self) -> None:
        """Write what was noted and taken in: the last thing that a transaction does."""
        for record_type in sorted(self._added):
            self._write_added(record_type)
        for model in sorted(self._noted, key=lambda model: model.record_type):
            ids = sorted(self._noted[model])
            if len(ids) >= _ENOUGH:
                _write_segments(self._session, model, np.array(ids, dtype=np.int64))
            elif ids:
                self._add_fresh(model.record_type, ids)
        self._noted.clear()

    def _write_added(self, record_type: str) -> None:
        ids, texts = self._added.pop(record_type)
        _write_segment(self._session, record_type, np.array(ids, dtype=np.int64), texts)

    def _add_fresh(self, record_type: str, ids: Sequence[int]) -> None:
        # In ascending order, so that two writers never wait for one another crosswise; and an update where
        # the row is there already, so that nobody folds the record before this transaction is over.
        rows = [{"record_type": record_type, "record_id": record_id} for record_id in ids]
        self._session.connection().execute(_ADD_FRESH, rows)
        if count_fresh(self._session, record_type) >= _FOLD_AT:
            fold(self._session, RECORD_TYPES[record_type])


def count_fresh(session: Session, record_type: str) -> int:
    """Return how many records of a type are not in a segment yet."""
    counted = session.connection().execute(_COUNT_FRESH, {"record_type": record_type})
    return int(counted.scalar_one())


def fold(session: Session, model: type[Record]) -> int:
    """Make segments of fresh records, those aside that another writer is at; return how many."""
    fresh = select(Fresh.record_id).where(Fresh.record_type == model.record_type).limit(_LARGEST)
    taken = delete(Fresh).where(
        Fresh.record_type == model.record_type,
        Fresh.record_id.in_(fresh.with_for_update(skip_locked=True)),
    )
    taken = taken.execution_options(synchronize_session=False)
    ids = sorted(session.scalars(taken.returning(Fresh.record_id)))
    _write_segments(session, model, np.array(ids, dtype=np.int64))
    return len(ids)


def fold_all(session: Session) -> int:
    """Make segments of the fresh records of every type that has many; return how many records."""
    return sum(fold_while_many(session, model) for model in RECORD_TYPES.values())


def fold_while_many(session: Session, model: type[Record]) -> int:
    """Make segments of the fresh records of a type until there are few; return how many records."""
    done = 0
    while count_fresh(session, model.record_type) >= _FOLD_AT and (folded := fold(session, model)):
        done += folded
    return done


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts of records, in lists of one length: whose, of which field (`custom.NAME` too), what it says."""

    record_ids: list[int] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, record_ids: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Add the texts in a column: whole ones, lists of them, and those of custom fields."""
        if name == "custom":
            self._add_custom(record_ids, values)
            return
        # Without a tuple a text: so many of them would keep the garbage collector busy.
        whole = [" ".join(map(str, value)) if isinstance(value, list) else value for value in values]
        texts = [text for text in whole if isinstance(text, str) and text]
        self.texts.extend(texts)
        self.fields.extend([name] * len(texts))
        self.record_ids.extend(
            record_id
            for record_id, text in zip(record_ids, whole, strict=True)
            if isinstance(text, str) and text
        )

    def _add_custom(self, record_ids: Sequence[int], values: Sequence[dict[str, Any] | None]) -> None:
        for record_id, custom in zip(record_ids, values, strict=True):
            for key, value in custom.items() if custom else ():
                self.add([record_id], f"custom.{key}", [value])


def read_texts(session: Session, model: type[Record], ids: Ints) -> Texts:
    """Return the texts of records, deleted ones too, that are searched; `ids` ascend."""
    names, query = searched_columns(model.record_type), _query_of_texts(model)
    found = Texts()
    for condition in _these(columns_of(model)["id"], ids):
        rows = session.connection().execute(query.where(condition)).all()
        if rows:
            record_ids, *held = zip(*rows, strict=True)
            for name, values in zip(names, held, strict=True):
                found.add(record_ids, name, values)
    return found


def read_texts_of(session: Session, wanted: Mapping[str, Ints]) -> dict[str, Texts]:
    """Return the same of several record types, by one statement while they are not too many."""
    widest = max((len(searched_columns(record_type)) for record_type in wanted), default=0)
    found = {record_type: Texts() for record_type in wanted}
    parts: list[tuple[int, Select[Any]]] = []
    for record_type, ids in wanted.items():
        model = RECORD_TYPES[record_type]
        query = _query_among_others(record_type, widest)
        size = min(ids.size, _LISTED)
        parts += [(size, query.where(condition)) for condition in _these(columns_of(model)["id"], ids)]
    for some in _not_too_many(parts):
        held: dict[str, list[Any]] = defaultdict(list)
        for record_type, *row in session.connection().execute(union_all(*some)):
            held[record_type].append(row)
        for record_type, rows in held.items():
            _add_rows(found[record_type], record_type, rows)
    return found


_MOST_PARAMETERS: Final = 20_000
"""What one statement may be given; SQLite takes 32,766."""


def _not_too_many(parts: Iterable[tuple[int, Select[Any]]]) -> Iterator[list[Select[Any]]]:
    """Yield queries in lots that one statement can hold, by how many parameters each has at the most."""
    lot: list[Select[Any]] = []
    held = 0
    for size, part in parts:
        if lot and held + size > _MOST_PARAMETERS:
            yield lot
            lot, held = [], 0
        lot.append(part)
        held += size
    if lot:
        yield lot


def _add_rows(found: Texts, record_type: str, rows: Sequence[Sequence[Any]]) -> None:
    columns = columns_of(RECORD_TYPES[record_type])
    record_ids, *held = zip(*rows, strict=True)
    for name, values in zip(searched_columns(record_type), held, strict=False):
        is_json = isinstance(columns[name].type, Json)
        read = [value and json.loads(value) for value in values] if is_json else values
        found.add(record_ids, name, read)


@cache
def _query_among_others(record_type: str, widest: int) -> Select[Any]:
    """Return the query of the texts of a type, as wide as that of any other; what is JSON as its text."""
    model = RECORD_TYPES[record_type]
    columns, names = columns_of(model), searched_columns(record_type)
    said: list[Any] = [type_coerce(columns[name], Text) for name in names]
    said += [cast(null(), Text)] * (widest - len(names))
    labelled = [each.label(f"text_{place}") for place, each in enumerate(said)]
    any_text = or_(*(columns[name].is_not(None) for name in names))
    return select(literal(record_type).label("type"), columns["id"].label("id"), *labelled).where(any_text)


def list_among(
    queries: Mapping[str, tuple[Select[Any], Ints]],
) -> Iterator[CompoundSelect[*tuple[Any, ...]]]:
    """Yield statements that give id and type of what queries of ids, by type, find among some ids."""
    parts = [
        (
            min(ids.size, _LISTED),
            query.add_columns(literal(record_type).label("type")).where(condition),
        )
        for record_type, (query, ids) in queries.items()
        for condition in _these(columns_of(RECORD_TYPES[record_type])["id"], np.sort(ids))
    ]
    for some in _not_too_many(parts):
        yield union_all(*some)


@cache
def _query_of_texts(model: type[Record]) -> Select[Any]:
    columns, names = columns_of(model), searched_columns(model.record_type)
    any_text = or_(*(columns[name].is_not(None) for name in names))
    return select(columns["id"], *(columns[name] for name in names)).where(any_text)


def searched_columns(record_type: str) -> tuple[str, ...]:
    """Return the columns that hold texts which are searched."""
    return (*SEARCHED[record_type], "custom")


def _these(column: Any, ids: Ints) -> Iterator[ColumnElement[bool]]:  # noqa: ANN401  any integer column
    """Yield conditions that together let just `ids`, which ascend, through."""
    if ids.size and int(ids[-1] - ids[0]) + 1 == ids.size:
        yield between(column, int(ids[0]), int(ids[-1]))
        return
    for start in range(0, ids.size, _LISTED):
        yield column.in_(ids[start : start + _LISTED].tolist())


def _write_segments(session: Session, model: type[Record], ids: Ints) -> None:
    session.flush()
    for start in range(0, ids.size, _LARGEST):
        some = ids[start : start + _LARGEST]
        _write_segment(session, model.record_type, some, read_texts(session, model, some))


def _write_segment(session: Session, record_type: str, ids: Ints, texts: Texts) -> None:
    if not texts.texts:
        return
    owners = np.searchsorted(ids, np.array(texts.record_ids, dtype=np.int64))
    grams, places = grams_of(texts.texts, owners, width_of(record_type))
    gapless = int(ids[-1] - ids[0]) + 1 == ids.size
    values = {
        "record_type": record_type,
        "first_id": int(ids[0]),
        "last_id": int(ids[-1]),
        "size": ids.size,
        "ids": None if gapless else ids.astype("<i8").tobytes(),
    }
    segment_id = session.execute(insert(Segment).values(values).returning(Segment.id)).scalar_one()
    _insert_postings(session.connection(), segment_id, *_lists(grams, places, ids.size))


def _lists(grams: Ints, places: Ints, size: int) -> tuple[list[int], list[bytes]]:
    """Return each gram once, with the places at which it occurs as they are stored."""
    if grams.size == 0:
        return [], []
    starts = np.concatenate([[0], np.flatnonzero(grams[1:] != grams[:-1]) + 1, [grams.size]])
    packed = places.astype("<u2").tobytes()
    bits = _bytes_of_bits(size)
    lists = [
        packed[2 * start : 2 * stop] if 2 * (stop - start) < bits else pack(places[start:stop], size)
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    return grams[starts[:-1]].tolist(), lists


def pack(places: Ints, size: int) -> bytes:
    """Return places as they are stored: a list if it is shorter than a bit for each record."""
    if 2 * places.size < _bytes_of_bits(size):
        return places.astype("<u2").tobytes()
    flags = np.zeros(size, dtype=bool)
    flags[places] = True
    return np.packbits(flags).tobytes()


def unpack(places: bytes, size: int) -> Flags:
    """Return for each record of a segment whether it is among stored places."""
    if len(places) == _bytes_of_bits(size):
        return np.unpackbits(np.frombuffer(places, dtype=np.uint8), count=size).astype(bool)
    flags = np.zeros(size, dtype=bool)
    flags[np.frombuffer(places, dtype="<u2")] = True
    return flags


def _bytes_of_bits(size: int) -> int:
    return (size + 7) // 8


def _insert_postings(
    connection: Connection, segment_id: int, grams: Sequence[int], places: Sequence[bytes]
) -> None:
    rows = zip(itertools.repeat(segment_id), grams, places, strict=False)
    if connection.dialect.name == "postgresql":
        _copy_postings(connection, rows)
    elif grams:
        connection.exec_driver_sql(
            "INSERT INTO search_postings (segment_id, gram, places) VALUES (?, ?, ?)", list(rows)
        )


def _copy_postings(connection: Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
    """Write postings as PostgreSQL takes them fastest; a statement a row would cost more than the rest."""
    raw = connection.connection.driver_connection
    assert raw is not None  # noqa: S101  a connection in use has one
    with (
        raw.cursor() as cursor,
        cursor.copy("COPY search_postings (segment_id, gram, places) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(("int8", "int8", "bytea"))
        for row in rows:
            copy.write_row(row)


def list_segments(session: Session, record_types: Collection[str]) -> Sequence[Segment]:
    """Return the segments of some record types."""
    query = select(Segment).where(Segment.record_type.in_(record_types)).order_by(Segment.id)
    return session.scalars(query).all()


_HELD = ("id", "record_type", "first_id", "last_id", "size", "ids")


def read_held(session: Session, types: Collection[str]) -> tuple[list[Segment], Mapping[str, Ints]]:
    """Return the segments of some types, and by type, ascending, the records in none yet: one statement."""
    segments = select(*(getattr(Segment, name) for name in _HELD)).where(Segment.record_type.in_(types))
    fresh = select(Fresh.record_id, Fresh.record_type, *(null() for _ in _HELD[2:]))
    both: CompoundSelect[Any] = union_all(segments, fresh.where(Fresh.record_type.in_(types)))
    found: list[Segment] = []
    alone: dict[str, list[int]] = defaultdict(list)
    for record_id, record_type, *held in session.execute(both):
        if held[0] is None:
            alone[record_type].append(record_id)
        else:
            cells = (record_id, record_type, *held)
            found.append(Segment(**dict(zip(_HELD, cells, strict=True))))
    found.sort(key=lambda segment: segment.id)
    return found, {name: np.array(sorted(ids), dtype=np.int64) for name, ids in alone.items()}


Wanted = tuple[Collection[int], Collection[int], Collection[tuple[int, int]]]
"""Segments, and of them some grams and every gram within some ranges, ends excluded."""


def read_postings(session: Session, wanted: Iterable[Wanted]) -> Mapping[int, list[tuple[int, bytes]]]:
    """Return, by segment, the places of each gram that is wanted of it, by one statement."""
    conditions = []
    for segments, grams, ranges in wanted:
        which: list[ColumnElement[bool]] = [Posting.gram.in_(grams)] if grams else []
        which += [(Posting.gram >= first) & (Posting.gram < end) for first, end in ranges]
        if which and segments:
            conditions.append(and_(Posting.segment_id.in_(segments), or_(*which)))
    found: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    if not conditions:
        return found
    parts = (select(Posting.segment_id, Posting.gram, Posting.places).where(each) for each in conditions)
    for segment_id, gram, places in session.connection().execute(union_all(*parts)):
        found[segment_id].append((gram, places))
    return found


def forget(session: Session, model: type[Record], ids: Collection[int]) -> None:
    """Take records out of the index, with all that they ever said."""
    session.execute(delete(Fresh).where(Fresh.record_type == model.record_type, Fresh.record_id.in_(ids)))
    for segment in list_segments(session, [model.record_type]):
        places = np.flatnonzero(np.isin(segment.record_ids(), list(ids)))
        if places.size:
            _forget_places(session, segment, places)


def _forget_places(session: Session, segment: Segment, places: Ints) -> None:
    query = select(Posting.gram, Posting.places).where(Posting.segment_id == segment.id)
    rest: list[dict[str, Any]] = []
    emptied: list[int] = []
    for gram, held in session.connection().execute(query):
        flags = unpack(held, segment.size)
        if flags[places].any():
            flags[places] = False
            left = np.flatnonzero(flags)
            if left.size:
                rest.append({"segment_id": segment.id, "gram": gram, "places": pack(left, segment.size)})
            else:
                emptied.append(gram)
    if rest:
        session.execute(update(Posting), rest)
    if emptied:
        session.execute(delete(Posting).where(Posting.segment_id == segment.id, Posting.gram.in_(emptied)))
