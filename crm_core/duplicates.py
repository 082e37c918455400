"""Records that may be the same: for one record or in the whole store, with a likelihood and the evidence.

Not every two records are compared, only those that share a mail address, a telephone number, a website or
a name, or that stand next to each other when all are put in order by name or company: that costs about the
same for each record, however many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from sqlalchemy import BigInteger, Engine, ForeignKey, Select, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader
from crm_core.changes import Change, see_log_end
from crm_core.columns import Instant
from crm_core.errors import InvalidValueError
from crm_core.likeness import (
    Columns,
    Compared,
    Evidence,
    Likeness,
    compared_accounts,
    compared_people,
    likeness_of_accounts,
    likeness_of_people,
)
from crm_core.merging import merge_records
from crm_core.phrases import one_of
from crm_core.recall import only_reads
from crm_core.records import RECORD_TYPES, Account, Base, Contact, Id, Lead, LeadStatus, Record, User
from crm_core.search import nearest_of_each
from crm_core.store import Transaction
from crm_core.validation import columns_of

Ints = npt.NDArray[np.int64]

MERGED_BY_RULE: Final = 0.98
"""The likelihood from which on records may be merged without a person looking at them."""

_NEXT: Final = 8
"""With how many of those that share a key, next to it by name, a record is compared."""

_NEIGHBOURS: Final = 4
"""With how many of those that come next in the order of all a record is compared."""

_NEAREST: Final = 40
"""How many records that say something like it one record is compared with."""


class Distinct(Base):
    """Two records that somebody looked at and found to be different."""

    __tablename__ = "distinct_records"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    record_type: Mapped[str] = mapped_column(String(40))
    first_id: Mapped[int] = mapped_column(BigInteger, comment="the smaller of the two ids")
    second_id: Mapped[int] = mapped_column(BigInteger)
    decided_at: Mapped[datetime] = mapped_column(Instant)
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))

    __table_args__ = (UniqueConstraint("record_type", "first_id", "second_id"),)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two records that may be the same; `first_id` is the smaller id."""

    record_type: str
    first_id: int
    second_id: int
    likelihood: float
    evidence: tuple[Evidence, ...]

    def other(self, record_id: int) -> int:
        """Return the id of the one that is not `record_id`."""
        return self.second_id if record_id == self.first_id else self.first_id


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How records of a type are compared."""

    columns: tuple[str, ...]
    compared: Callable[[Columns], Compared]
    likeness: Callable[[Compared, Ints, Ints], Likeness]
    shared: tuple[str, ...]
    ordered: tuple[tuple[str, ...], ...]


def _people(columns: tuple[str, ...], ordered: tuple[tuple[str, ...], ...]) -> _Kind:
    return _Kind(
        columns=columns,
        compared=compared_people,
        likeness=likeness_of_people,
        shared=("mail", "phone", "name"),
        ordered=ordered,
    )


_KINDS: Final[dict[str, _Kind]] = {
    "lead": _people(
        ("name", "company", "email", "phone"), (("name", "company"), ("company", "name"), ("mail",))
    ),
    "contact": _people(("name", "email", "phone"), (("name",), ("mail",))),
    "account": _Kind(
        columns=("name", "phone", "website", "region"),
        compared=compared_accounts,
        likeness=likeness_of_accounts,
        shared=("phone", "site", "name"),
        ordered=(("name",),),
    ),
}
"""By record type: what is read and how it is compared, which keys are shared, and which orders there are."""

COMPARED: Final = {record_type: kind.columns for record_type, kind in _KINDS.items()}
"""The record types that are compared, and by which fields."""

Comparable = Lead | Contact | Account


def find_duplicates(
    session: Session, record: Comparable, *, at_least: float = 0.5, reader: Reader | None = None
) -> list[Pair]:
    """Return the records that may be the same as `record`, likeliest first.

    `record` may be one that is not stored yet; it then has the id 0. With `reader`, only what they may see.
    """
    kind, model = _kind(record.record_type), RECORD_TYPES[record.record_type]
    texts = [value for name in kind.columns if (value := getattr(record, name))]
    near = nearest_of_each(session, texts, [record.record_type], limit=_NEAREST)
    ids = {each for found in near for some in found.values() for each in some.tolist()}
    own = record.id or 0
    asked = (own, *(getattr(record, name) for name in kind.columns))
    table = _compared(kind, [asked, *_read(session, model, kind, sorted(ids - {own}))])
    right = np.arange(1, table.ids.size)
    distinct = _list_distinct(session, record.record_type)
    pairs = [
        pair
        for pair in _pairs(record.record_type, table, np.zeros_like(right), right, at_least)
        if (pair.first_id, pair.second_id) not in distinct
    ]
    if reader is None:
        return pairs
    visible = _visible(reader, model, ids | {own})
    if own and own not in visible:
        return []
    return [_as_seen(reader, pair) for pair in pairs if pair.other(own) in visible]


def list_duplicates(
    session: Session, record_type: str, *, at_least: float = 0.5, reader: Reader | None = None
) -> list[Pair]:
    """Return all pairs of records of a type that may be the same, likeliest first.

    Pairs that were declared distinct are left out. With `reader`, pairs of which they may see both.
    """
    distinct = _list_distinct(session, record_type)
    likely = _recent_likely(session, record_type, at_least)
    pairs = [pair for pair in likely if (pair.first_id, pair.second_id) not in distinct]
    if reader is None:
        return pairs
    model = RECORD_TYPES[record_type]
    visible = _visible(reader, model, {each for pair in pairs for each in (pair.first_id, pair.second_id)})
    return [_as_seen(reader, pair) for pair in pairs if {pair.first_id, pair.second_id} <= visible]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What comparing all records of a type gave, and up to where the log was settled then."""

    settled: int
    pairs: Sequence[Pair]


_KEPT: WeakKeyDictionary[Engine, dict[tuple[str, float], _Found]] = WeakKeyDictionary()
_GUARD: Final = threading.Lock()

_MOST_LOOKED_THROUGH: Final = 5_000
"""After more changes than these, comparing anew costs hardly more than looking them through."""


def _recent_likely(session: Session, record_type: str, at_least: float) -> Sequence[Pair]:
    """Return the pairs that are alike, of everybody: compared anew once anything compared has changed.

    A session that writes sees what no other does, and compares for itself.
    """
    if not only_reads(session):
        return _likely(session, record_type, at_least)
    settled = see_log_end(session).settled
    with _GUARD:  # several who ask at once wait for one answer
        kept = _KEPT.setdefault(session.get_bind().engine, {})
        found = kept.get((record_type, at_least))
        if found is None or found.settled > settled or _has_changed(session, record_type, found.settled):
            pairs = _likely(session, record_type, at_least)
            found = _Found(settled=settled, pairs=pairs)
        kept[record_type, at_least] = replace(found, settled=settled)
    return found.pairs


def _has_changed(session: Session, record_type: str, since: int) -> bool:
    """Tell whether anything that is compared has changed since a transaction, or records came or went."""
    columns = (None, *_KINDS[record_type].columns)
    # In the log's own order, so that only its end is read, however much there is of the type.
    log = select(Change.record_type, Change.field).where(Change.sequence > since)
    rows = session.execute(log.order_by(Change.sequence, Change.id).limit(_MOST_LOOKED_THROUGH)).all()
    about = any(kind == record_type and field in columns for kind, field in rows)
    return about or len(rows) == _MOST_LOOKED_THROUGH


def _likely(session: Session, record_type: str, at_least: float) -> Sequence[Pair]:
    kind, model = _kind(record_type), RECORD_TYPES[record_type]
    table = _compared(kind, _read(session, model, kind))
    return _pairs(record_type, table, *_blocked(table), at_least)


def merge_as(
    transaction: Transaction, user: User, record_type: str, *, keep_id: int, gone_id: int
) -> Comparable:
    """Merge two records as a user who may change both; return the one that stays.

    Raises RecordNotFoundError for one that they may not see, AccessDeniedError for one that they only see,
    MergeError for two that cannot be made one. Merging again changes nothing.
    """
    _kind(record_type)
    model = RECORD_TYPES[record_type]
    reader = Reader(transaction.session, user)
    keep = reader.get_to_write(model, keep_id)
    gone = transaction.session.get(model, gone_id)
    if gone is None or getattr(gone, "merged_into_id", None) != keep_id:
        reader.get_to_write(model, gone_id)
        keep, gone = transaction.get(model, keep_id), transaction.get(model, gone_id)
    return merge_records(transaction, keep, gone)  # type: ignore[type-var,return-value]  # compared types merge


def declare_distinct_as(
    transaction: Transaction, user: User, record_type: str, one_id: int, other_id: int
) -> None:
    """Remember that two records are not the same, as a user who may change both."""
    _kind(record_type)
    model = RECORD_TYPES[record_type]
    reader = Reader(transaction.session, user)
    one, other = (reader.get_to_write(model, each) for each in (one_id, other_id))
    if one_id == other_id:
        raise InvalidValueError("record", one_id, "two records")
    declare_distinct(transaction, one, other)  # type: ignore[arg-type]  # as above


def declare_distinct(transaction: Transaction, one: Comparable, two: Comparable) -> None:
    """Remember that two records are not the same: they are not listed and not merged by a rule any more."""
    first, second = sorted((one.id, two.id))
    if _is_distinct(transaction.session, one.record_type, first, second):
        return
    transaction.session.add(
        Distinct(
            record_type=one.record_type,
            first_id=first,
            second_id=second,
            decided_at=transaction.now,
            actor_id=transaction.actor_id,
        )
    )
    transaction.session.flush()


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Two records that were made one."""

    record_type: str
    kept_id: int
    gone_id: int
    likelihood: float


def merge_by_rule(
    transaction: Transaction, record_type: str, *, at_least: float = MERGED_BY_RULE
) -> list[Merge]:
    """Merge all records of a type that are the same with a likelihood of `at_least`; return what was merged.

    Of several that are the same, a converted lead stays, else the oldest; only those go that are that likely
    the one that stays itself. Two converted leads are left to a person.
    """
    pairs = list_duplicates(transaction.session, record_type, at_least=at_least)
    gone: set[int] = set()
    merged = []
    for pair in _oldest_first(transaction.session, record_type, pairs):
        if pair.kept_id in gone or pair.gone_id in gone:
            continue
        model = RECORD_TYPES[record_type]
        keep, lose = (transaction.get(model, each) for each in (pair.kept_id, pair.gone_id))
        if getattr(lose, "status", None) == LeadStatus.CONVERTED:
            continue
        merge_records(transaction, keep, lose)  # type: ignore[type-var]  # only types that merge are compared
        gone.add(pair.gone_id)
        merged.append(pair)
    return merged


def _oldest_first(session: Session, record_type: str, pairs: Sequence[Pair]) -> list[Merge]:
    """Return the merges that pairs ask for, into the records that have most reason to stay first."""
    model = RECORD_TYPES[record_type]
    columns = columns_of(model)
    status = columns.get("status", columns["id"])
    rank = {
        record_id: (held != LeadStatus.CONVERTED, began, record_id)
        for record_id, held, began in session.execute(select(model.id, status, model.occurred_at))
    }
    merges = []
    for pair in pairs:
        kept, gone = sorted((pair.first_id, pair.second_id), key=rank.__getitem__)
        merges.append(Merge(record_type=record_type, kept_id=kept, gone_id=gone, likelihood=pair.likelihood))
    return sorted(merges, key=lambda merge: (rank[merge.kept_id], -merge.likelihood, merge.gone_id))


def _kind(record_type: str) -> _Kind:
    if record_type not in _KINDS:
        raise InvalidValueError("record_type", record_type, one_of(_KINDS))
    return _KINDS[record_type]


def _read(
    session: Session, model: type[Record], kind: _Kind, ids: Collection[int] | None = None
) -> list[tuple[Any, ...]]:
    """Return id and columns of the records that there are."""
    columns = columns_of(model)
    query: Select[*tuple[Any, ...]] = select(model.id, *(columns[name] for name in kind.columns))
    query = query.where(model.deleted_at.is_(None)).order_by(model.id)
    if ids is not None:
        query = query.where(model.id.in_(ids))
    return [tuple(row) for row in session.connection().execute(query)]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Records of a type, by position: their ids and the keys they are compared by."""

    kind: _Kind
    ids: Ints
    keys: Compared


def _compared(kind: _Kind, rows: Sequence[tuple[Any, ...]]) -> _Table:
    columns = {name: [row[at] for row in rows] for at, name in enumerate(kind.columns, start=1)}
    ids = [row[0] for row in rows]
    return _Table(kind=kind, ids=np.array(ids, dtype=np.int64), keys=kind.compared(columns))


def _pairs(record_type: str, table: _Table, left: Ints, right: Ints, at_least: float) -> list[Pair]:
    found = table.kind.likeness(table.keys, left, right)
    pairs = []
    for at in np.flatnonzero(found.likelihood >= at_least).tolist():
        first, second = sorted((int(table.ids[left[at]]), int(table.ids[right[at]])))
        pairs.append(
            Pair(
                record_type=record_type,
                first_id=first,
                second_id=second,
                likelihood=round(float(found.likelihood[at]), 4),
                evidence=found.evidence(at),
            )
        )
    return sorted(pairs, key=lambda pair: (-pair.likelihood, pair.first_id, pair.second_id))


def _blocked(table: _Table) -> tuple[Ints, Ints]:
    """Return the positions of the records that are compared with one another, each two once."""
    kind, size = table.kind, table.ids.size
    keys = {name: _codes(column) for name, column in table.keys.keys.items()}
    by_name = keys["name"]
    found = [_runs(np.lexsort((by_name, keys[name])), keys[name], _NEXT) for name in kind.shared]
    everything = np.zeros(size, dtype=np.int64)
    for names in kind.ordered:
        order = np.lexsort(tuple(keys[name] for name in reversed(names)))
        some = order[keys[names[0]][order] >= 0]
        found.append(_runs(some, everything, _NEIGHBOURS))
    pairs = np.concatenate([np.minimum(*each) * size + np.maximum(*each) for each in found])
    pairs = np.unique(pairs) if size else pairs
    return pairs // max(1, size), pairs % max(1, size)


def _codes(column: npt.NDArray[np.object_]) -> Ints:
    """Return the rank of each key in alphabetical order; -1 for none."""
    texts = column.tolist()
    rank = {text: at for at, text in enumerate(sorted({text for text in texts if text is not None}))}
    return np.array([-1 if text is None else rank[text] for text in texts], dtype=np.int64)


def _runs(order: Ints, codes: Ints, reach: int) -> tuple[Ints, Ints]:
    """Return each two positions at most `reach` apart in `order` that have the same code, -1 aside."""
    pairs = [
        (order[:-step][same], order[step:][same])
        for step in range(1, min(reach, max(0, order.size - 1)) + 1)
        for same in [(codes[order[:-step]] == codes[order[step:]]) & (codes[order[:-step]] >= 0)]
    ]
    if not pairs:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate([left for left, _ in pairs]), np.concatenate([right for _, right in pairs])


def _list_distinct(session: Session, record_type: str) -> set[tuple[int, int]]:
    query = select(Distinct.first_id, Distinct.second_id).where(Distinct.record_type == record_type)
    return {(first, second) for first, second in session.execute(query)}


def _is_distinct(session: Session, record_type: str, first: int, second: int) -> bool:
    query = select(Distinct.id).where(
        Distinct.record_type == record_type, Distinct.first_id == first, Distinct.second_id == second
    )
    return session.scalar(query) is not None


def _as_seen(reader: Reader, pair: Pair) -> Pair:
    """Return a pair without the evidence that fields give which the reader may not see."""
    told = [each for each in pair.evidence if reader.may_read_field(pair.record_type, each.field)]
    return replace(pair, evidence=tuple(told))


def _visible(reader: Reader, model: type[Record], ids: Collection[int]) -> set[int]:
    return set(_visible_ids(reader, model, sorted(ids)))


def _visible_ids(reader: Reader, model: type[Record], ids: Sequence[int]) -> Iterator[int]:
    for start in range(0, len(ids), 5_000):
        query = reader.select(model).with_only_columns(model.id)
        yield from reader.session.scalars(query.where(model.id.in_(ids[start : start + 5_000])))
