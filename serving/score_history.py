"""What was said of a record, and why each time something else than before: data, model, or time alone."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import ColumnElement, Row, Select, and_, literal, or_, select, union_all
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.changes import Action, Change
from crm_core.clock import instant, micros
from crm_core.errors import CRMError, InvalidValueError
from crm_core.opting_out import list_opted_out
from crm_core.predictions import Prediction, list_predictions
from crm_core.promotions import Promotion, find_origin, list_promotions
from crm_core.recall import recalled
from crm_core.records import RECORD_TYPES, Account, CustomRecord, Deal, Lead, User
from crm_core.store import Store
from serving.affected import LINKS
from serving.home import Home

if TYPE_CHECKING:
    from pathlib import Path

    from models.bundle import ModelBundle

CHANGES_TOLD = 10
"""Changes that are told with a prediction; more are counted."""

PARTS_AT_ONCE = 10
"""Entries of which the parts are worked out in one request: each asks a model twice."""

Kind = Literal["first", "data", "model", "time"]


@dataclass(frozen=True, kw_only=True)
class ToldChange:
    """A change that came between two predictions, without what may not be seen."""

    change_id: int
    record_type: str
    record_id: int
    action: str
    field: str | None
    old: Any
    new: Any
    occurred_at: datetime
    recorded_at: datetime
    source: str
    by: str | None


@dataclass(frozen=True, kw_only=True)
class OtherModel:
    """That another version answered than before, and which promotion put it in charge."""

    before: str
    after: str
    promotion_id: int | None = None
    promoted_at: datetime | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """By how much each moved the probability; they add up to the whole difference."""

    time: float
    data: float
    model: float


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a prediction is what it is, next to the one before it."""

    kinds: tuple[Kind, ...]
    changes: tuple[ToldChange, ...] = ()
    changes_count: int = 0
    model: OtherModel | None = None
    moved: float | None = None
    parts: Parts | None = None
    unknown: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A prediction and its cause."""

    prediction: Prediction
    cause: Cause


@dataclass(frozen=True, kw_only=True)
class HistoryPage:
    """Predictions of a record, newest first, and where the next page begins."""

    entries: Sequence[Entry]
    next_cursor: str | None


Scored = Lead | Deal | Account


def read_score_history(
    store: Store,
    user: User,
    record: tuple[type[Scored], int],
    *,
    limit: int,
    cursor: str | None = None,
    home: Home | None = None,
) -> HistoryPage:
    """Return what was said of a record that `user` sees; with a home, the parts of each move as well.

    There is none about somebody who asked not to be scored.
    """
    model, record_id = record
    with store.reading() as session:
        reader = Reader(session, user)
        found = reader.get(model, record_id)
        reader.check_may_see_scores(model)
        if list_opted_out(session, model, [record_id]):
            return HistoryPage(entries=[], next_cursor=None)
        before = None if cursor is None else _read_cursor(cursor)
        said = list_predictions(session, model.record_type, record_id, limit=limit + 1, before=before)
        entries = entries_of(reader, found, said)[:limit]
        session.expunge_all()
        if home is not None:
            entries = with_parts(store.seen_by(session), home, entries, said)
    more = len(said) > limit
    return HistoryPage(entries=entries, next_cursor=_cursor_of(said[limit - 1]) if more else None)


def entries_of(reader: Reader, record: Scored, said: Sequence[Prediction]) -> list[Entry]:
    """Return predictions of a record that the reader sees, newest first and without a gap, and why each was.

    The last has none before it here, and counts as the first.
    """
    causes = _Causes(reader, record, said).all()
    return [Entry(prediction=one, cause=cause) for one, cause in zip(said, causes, strict=True)]


def with_parts(store: Store, home: Home, entries: Sequence[Entry], said: Sequence[Prediction]) -> list[Entry]:
    """Return entries with the part that each kind had in the move from the one before, which `said` has."""
    older = {newer.id: older for newer, older in pairwise(said)}
    return [
        replace(entry, cause=_with_parts(store, home, before, entry.prediction, entry.cause))
        if (before := older.get(entry.prediction.id)) is not None
        else entry
        for entry in entries
    ]


@dataclass(frozen=True, kw_only=True)
class Newest:
    """The newest prediction of a record, how old it is, and why it would be another one now.

    `stale_because` has `data` where something that a feature reads was learned since, `model` where another
    version serves; time moves every score, and is not named.
    """

    prediction: Prediction | None
    opted_out: bool
    age_seconds: float | None
    stale_because: tuple[Literal["data", "model"], ...]


def read_newest(store: Store, user: User, record: tuple[type[Scored], int], serving: str | None) -> Newest:
    """Return what was said last of a record that `user` sees; `serving` is the version that serves now."""
    model, record_id = record
    with store.reading() as session:
        reader = Reader(session, user)
        found = reader.get(model, record_id)
        reader.check_may_see_scores(model)
        silent = bool(list_opted_out(session, model, [record_id]))
        said = [] if silent else list_predictions(session, model.record_type, record_id, limit=1)
        if not said:
            return Newest(prediction=None, opted_out=silent, age_seconds=None, stale_because=())
        now, newest = store.clock.now(), said[0]
        because: list[Literal["data", "model"]] = []
        if any(one.known_at > newest.as_of for one in _Causes(reader, found, said).seen(newest.as_of, now)):
            because.append("data")
        if serving is not None and serving != newest.model_version:
            because.append("model")
        session.expunge_all()
    age = (now - newest.as_of).total_seconds()
    return Newest(prediction=newest, opted_out=False, age_seconds=age, stale_because=tuple(because))


@dataclass(frozen=True)
class _Seen:
    """A change that matters, the name of who made it with it, and when it was known."""

    change: Row[Any]
    known_at: datetime

    @property
    def id(self) -> int:
        """The change's id."""
        return int(self.change.id)


_TOLD = (
    Change.id,
    Change.record_type,
    Change.record_id,
    Change.action,
    Change.field,
    Change.old,
    Change.new,
    Change.recorded_at,
    Change.occurred_at,
    Change.source,
)


@dataclass
class _Causes:
    """Works out the causes of predictions of one record, newest first; the last has no predecessor here."""

    reader: Reader
    record: Scored
    said: Sequence[Prediction]
    _told: Mapping[int, ToldChange] = field(default_factory=dict)

    def all(self) -> list[Cause]:
        """Return the cause of each."""
        if not self.said:
            return []
        between = self._between()
        self._told = self._tell([one.change for some in between for one in some[:CHANGES_TOLD]])
        versions = {one.model_version for one in self.said}
        promotions = list_promotions(self.reader.session, self.said[0].task) if len(versions) > 1 else ()
        causes = [
            self._cause(older, newer, changes, promotions)
            for (newer, older), changes in zip(pairwise(self.said), between, strict=True)
        ]
        return [*causes, Cause(kinds=("first",))]

    def _between(self) -> list[list[_Seen]]:
        """Return, for each prediction with one before it, what was learned between the two, newest first."""
        if len(self.said) < 2:
            return []
        span = self.said[-1].as_of, self.said[0].as_of
        seen = sorted(self.seen(*span), key=lambda one: (one.known_at, one.id), reverse=True)
        return [
            [one for one in seen if older.as_of < one.known_at <= newer.as_of]
            for newer, older in pairwise(self.said)
        ]

    def seen(self, after: datetime, until: datetime) -> Iterator[_Seen]:
        """Yield changes that may have moved the score and were learned in a span of time."""
        session, read = self.reader.session, fields_read(self.reader.session, self.said[0].task)
        # In one statement, but each part by itself: no index serves conditions that are joined by "or".
        span = and_(Change.recorded_at <= until, or_(Change.recorded_at > after, Change.occurred_at > after))
        parts = (
            select(*_TOLD, User.name.label("by"))
            .outerjoin(User, User.id == Change.actor_id)
            .where(about, span)
            for about in _about(session, self.record)
        )
        found = {change.id: change for change in session.execute(union_all(*parts))}
        for change in found.values():
            if _matters(read, change.record_type, change.action, change.field):
                yield _Seen(change, max(change.recorded_at, change.occurred_at))

    def _cause(
        self,
        older: Prediction,
        newer: Prediction,
        changes: Sequence[_Seen],
        promotions: Sequence[Promotion],
    ) -> Cause:
        kinds: list[Kind] = []
        if changes:
            kinds.append("data")
        other = None
        if older.model_version != newer.model_version:
            kinds.append("model")
            other = self._other_model(older, newer, promotions)
        told = (self._told.get(one.id) for one in changes[:CHANGES_TOLD])
        both = older.probability is not None and newer.probability is not None
        return Cause(
            kinds=tuple(kinds) or ("time",),
            changes=tuple(change for change in told if change is not None),
            changes_count=len(changes),
            model=other,
            moved=(newer.probability or 0.0) - (older.probability or 0.0) if both else None,
        )

    def _other_model(
        self, older: Prediction, newer: Prediction, promotions: Sequence[Promotion]
    ) -> OtherModel:
        version = newer.model_version
        found = next(
            (
                row
                for row in promotions
                if row.model_version == version and row.promoted_at <= newer.recorded_at
            ),
            None,
        )
        if found is None:
            return OtherModel(before=older.model_version, after=version)
        by = self.reader.session.get(User, found.actor_id) if found.actor_id is not None else None
        return OtherModel(
            before=older.model_version,
            after=version,
            promotion_id=found.id,
            promoted_at=found.promoted_at,
            by=None if by is None else by.name,
            reason=found.reason,
        )

    def _tell(self, changes: Sequence[Row[Any]]) -> dict[int, ToldChange]:
        """Return changes as the reader may see them; none of records that they do not see."""
        visible = self._visible(changes)
        return {
            change.id: self._told_change(change)
            for change in changes
            if (change.record_type, change.record_id) in visible
        }

    def _visible(self, changes: Iterable[Row[Any]]) -> set[tuple[str, int]]:
        """Return those records of changes that the reader sees, by one statement."""
        ids: dict[str, set[int]] = {}
        for change in changes:
            ids.setdefault(change.record_type, set()).add(change.record_id)
        if not ids:
            return set()
        query: Any = union_all(*(self._readable(kind, some) for kind, some in ids.items()))
        return {(kind, record_id) for kind, record_id in self.reader.session.execute(query)}

    def _readable(self, kind: str, ids: set[int]) -> Select[str, int]:
        model, own = RECORD_TYPES[kind], type(self.record)
        allowed = self.reader.readable(model)
        link = LINKS[kind][1] if kind in LINKS else {}
        for name, target in link.items():
            if target == own.record_type:  # what is about a record is seen by whoever sees that
                about = getattr(model, name) == self.record.id
                allowed = or_(allowed, and_(about, self.reader.readable_about(model, own)))
        return select(literal(kind), model.id).where(model.id.in_(ids), allowed)

    def _told_change(self, change: Row[Any]) -> ToldChange:
        told = change.field is None or self.reader.may_be_told_of([f"{change.record_type}.{change.field}"])
        return ToldChange(
            change_id=change.id,
            record_type=change.record_type,
            record_id=change.record_id,
            action=change.action,
            field=change.field if told else None,
            old=change.old if told else None,
            new=change.new if told else None,
            occurred_at=change.occurred_at,
            recorded_at=change.recorded_at,
            source=change.source,
            by=change.by,
        )


def fields_read(session: Session, task: str) -> frozenset[str]:
    """Return every field (`record.field`) that a feature of a task reads, retired ones included."""
    from features.feature_set import feature_set_in

    def read() -> frozenset[str]:
        return feature_set_in(session, task, retired=True).source_fields

    return recalled(session, ("fields read", task), read)


def _matters(read: frozenset[str], record_type: str, action: str, name: str | None) -> bool:
    """Tell whether a change may have moved a score: a field that is read, or that something came or went."""
    if action == Action.EXPORTED:
        return False
    if record_type == CustomRecord.record_type or name is None:
        return True  # declared types are named by their own names among the fields
    return f"{record_type}.{name}" in read or (record_type in LINKS and name in LINKS[record_type][1])


def _about(session: Session, record: Scored) -> Iterator[ColumnElement[bool]]:
    """Yield conditions on changes: those of the record, of what is or was linked to it, of its account."""
    yield from _of(record.record_type, record.id)
    if isinstance(record, Deal):
        for account_id in _accounts(session, record):
            yield from _of("account", account_id)


def _of(record_type: str, record_id: int) -> Iterator[ColumnElement[bool]]:
    yield and_(Change.record_type == record_type, Change.record_id == record_id)
    for kind, (model, links) in LINKS.items():
        for name, target in links.items():
            if target == record_type:
                linked = select(model.id).where(getattr(model, name) == record_id)
                yield and_(Change.record_type == kind, Change.record_id.in_(linked))
                former = or_(Change.old == record_id, Change.new == record_id)
                yield and_(Change.record_type == kind, Change.field == name, former)


def _accounts(session: Session, deal: Deal) -> set[int]:
    """Return the accounts that a deal was ever of."""
    moved = select(Change.old, Change.new).where(
        Change.record_type == "deal", Change.record_id == deal.id, Change.field == "account_id"
    )
    held = {account_id for row in session.execute(moved) for account_id in row}
    return {account_id for account_id in (*held, deal.account_id) if isinstance(account_id, int)}


# ------------------------------------------------------------------------------------- parts


def _with_parts(store: Store, home: Home, older: Prediction, newer: Prediction, cause: Cause) -> Cause:
    """Return a cause with the part that each kind had in the move, or why that is not known."""
    if cause.moved is None or older.probability is None or newer.probability is None:
        return replace(cause, unknown="one of the two predictions has no probability")
    try:
        bundle = _model_of(store, home, older)
        if bundle is None:
            return replace(cause, unknown=f"the file of {older.model_version} is not kept here")
        return replace(cause, **_parts(store, bundle, older, newer))
    except (CRMError, OSError) as error:
        return replace(cause, unknown=f"{older.model_version} cannot be asked again: {error}")


def _parts(store: Store, bundle: ModelBundle, older: Prediction, newer: Prediction) -> dict[str, Any]:
    from models.moved import Question, ask_model_of_before

    question = Question(record_id=newer.record_id, before=older.as_of, after=newer.as_of)
    moved = ask_model_of_before(store, bundle, question)
    if moved.by_time is None or moved.by_data is None:
        return {"unknown": f"{older.model_version} gives no probability at the later instant"}
    before, after = older.probability or 0.0, newer.probability or 0.0
    if older.model_version == newer.model_version and moved.by_data != after:
        return {"unknown": "what was known then has been changed since: see recompute"}
    parts = Parts(
        time=moved.by_time - before, data=moved.by_data - moved.by_time, model=after - moved.by_data
    )
    return {"parts": parts}


def _model_of(store: Store, home: Home, prediction: Prediction) -> ModelBundle | None:
    """Return the model that made a prediction, if its file is kept here; MLflow is never asked."""
    from models.kept import kept_file

    version = prediction.model_version
    with store.reading() as session:
        sha256 = recalled(
            session, ("origin", prediction.task, version), lambda: _sha256_of(session, prediction)
        )
    if not sha256:
        return None
    path = kept_file(home.models, sha256)
    return _load(path, sha256, version) if path.exists() else None


def _sha256_of(session: Session, prediction: Prediction) -> str:
    """Return that of a model's file; "" where it was never promoted: None would not be recalled."""
    origin = find_origin(session, prediction.task, prediction.model_version)
    return "" if origin is None else origin.sha256


@lru_cache(maxsize=6)
def _load(path: Path, sha256: str, version: str) -> ModelBundle:
    from models.bundle import load_bundle

    return load_bundle(path.read_bytes(), sha256, version=version)


# ------------------------------------------------------------------------------------- cursors


def _cursor_of(prediction: Prediction) -> str:
    text = json.dumps([micros(prediction.as_of), prediction.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    expected = "a cursor that a page of predictions gave"
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        as_of, last_id = json.loads(text)
        place = instant(int(as_of)), int(last_id)
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise InvalidValueError("cursor", cursor, expected) from error
    if not 0 < place[1] < 2**63:
        raise InvalidValueError("cursor", cursor, expected)
    return place
