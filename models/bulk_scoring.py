"""Scoring many records: read in large blocks, answered by column, written back in small lots.

A block is read at once, because events of many records cost little more than those of a few; what is said of
it is cut into pieces that stay in the processor's cache; what is written goes in lots whose size follows from
how long the one before kept others from writing. An answer is that of `models.scoring.score_records`, to the
bit, and its reasons are stored as `crm_core.columns.PackedJson` stores them.

A rescore asks from one instant and keeps its place in a cursor, moved in the same transaction as each lot:
killed anywhere, it goes on behind the last lot that was written, and asks the same question. One that asks
from now is a sweep (`crm_core.rescoring`) of a single lot: workers leave it alone, go on with it when it is
dead, and what they had answered of a sweep by the same model is not asked again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError

from crm_core.arrays import among
from crm_core.changes import Cursor, Source, newest_sequence, settled_from
from crm_core.columns import dump_json
from crm_core.database import is_deadlock
from crm_core.opting_out import may_be_scored
from crm_core.packing import pack_json
from crm_core.predictions import SCORED_TYPES, write_prediction_columns
from crm_core.rescoring import HELD, Lot, Sweep, advance_lot, end_sweep, finish_lot, hold_all
from crm_core.store import Store, Transaction
from crm_core.writing_back import FIRST_LOT, LOT_SECONDS, PredictionColumns, next_size
from features.cohort import Cohort, open_records
from features.frame import build_frame
from features.worth import Worth, yearly_values
from models.bundle import ModelBundle, Scores
from models.explain import explain_unlike
from models.hazard import Bools, Floats, Ints
from models.questions import asked_of, own_days
from models.reason_texts import ReasonTexts
from models.task import Task
from models.tasks import get_task

if TYPE_CHECKING:
    from pandas import DataFrame

    from features.feature_set import FeatureSet

BLOCK: Final = 32_768
"""Records that are read together."""

_PIECE: Final = 4_096
"""Records that are answered together: their numbers stay in the processor's cache."""

CURSOR: Final = "rescore."
"""A rescore's cursor, followed by its task and the model's version: `batch_as_of` is the instant that it asks
from, `batch_until` the last change before that, `position` the last record done. It is gone when the rescore
is done."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answering:
    """A model, ready to answer for many records of a store."""

    store: Store
    bundle: ModelBundle
    feature_set: FeatureSet
    task: Task
    texts: ReasonTexts
    grades: tuple[str, ...]
    watch: Watch

    @classmethod
    def of(cls, store: Store, bundle: ModelBundle, watch: Watch | None = None) -> Answering:
        """Return it; raises FeatureSetMismatchError where the store's features are not the model's."""
        from models.scoring import features_of

        feature_set = features_of(store, bundle)
        return cls(
            store=store,
            bundle=bundle,
            feature_set=feature_set,
            task=get_task(bundle.task).of_variant(bundle.variant),
            texts=ReasonTexts(bundle, feature_set),
            grades=tuple(bundle.grade(rank) for rank in range(101)),
            watch=watch or Watch(),
        )

    def score(self, ids: Sequence[int] | Ints, as_of: datetime) -> PredictionColumns:
        """Return what the model says of those who may be scored, by record."""
        return PredictionColumns.joined(list(self.pieces(ids, as_of)))

    def pieces(self, ids: Sequence[int] | Ints, as_of: datetime) -> Iterator[PredictionColumns]:
        """Yield the same piece by piece; all is read before the first one."""
        with self.watch.stage("reading"):
            asked = self._willing(np.unique(np.asarray(ids, dtype=np.int64)))
            if not asked.size:
                return
            cohort = Cohort.at(self.bundle.record_type, asked, as_of)
            frame = build_frame(self.store, cohort, self.feature_set)
            cohort, frame = asked_of(self.task, cohort, frame)
            worth = self._worth(cohort.ids, as_of)
        for start in range(0, len(cohort), _PIECE):
            rows = slice(start, start + _PIECE)
            yield self._answer(cohort.ids[rows], frame[rows], worth)

    def _willing(self, ids: Ints) -> Ints:
        if not ids.size:
            return ids
        model = SCORED_TYPES[self.bundle.record_type]
        with self.store.reading() as session:
            silent = session.scalars(
                select(model.id).where(among(model.id, ids), ~may_be_scored(model))
            ).all()
        return np.setdiff1d(ids, np.array(silent, dtype=np.int64), assume_unique=True)

    def _worth(self, ids: Ints, as_of: datetime) -> dict[int, Worth]:
        if self.bundle.record_type != "account":
            return {}
        return yearly_values(self.store, ids.tolist(), as_of)

    def _answer(self, ids: Ints, frame: DataFrame, worth: dict[int, Worth]) -> PredictionColumns:
        """Return what is said of the rows of a frame."""
        frame = frame.reset_index(drop=True)
        with self.watch.stage("predicting"):
            unlike = self.bundle.familiar.unlike(frame)
            scores = self.bundle.predict(frame)
        with self.watch.stage("explaining"):
            reasons = self.texts.of(frame)
            for row in np.flatnonzero(unlike).tolist():
                reasons[row] = pack_json(dump_json(explain_unlike(self.bundle, self.feature_set, frame, row)))
        with self.watch.stage("putting into columns"):
            told = self._columns(ids, scores, reasons, own_days(self.task, frame), unlike)
            yearly = [None if (each := worth.get(key)) is None else dump_json(each) for key in ids.tolist()]
            return replace(told, yearly_value=_none_where(yearly, unlike))

    def _columns(
        self, ids: Ints, scores: Scores, reasons: list[bytes], own: Ints | None, unlike: Bools
    ) -> PredictionColumns:
        size, nothing = len(ids), [None] * len(ids)
        rank = scores.rank.tolist()
        grades = [self.grades[each] for each in rank]
        says = self.bundle.says_probability
        days = [self.bundle.horizon_days] * size
        if own is not None and says:
            days = np.where(unlike, self.bundle.horizon_days, own).tolist()
        return PredictionColumns(
            record_id=ids.tolist(),
            horizon_days=days,
            probability=_none_where(scores.probability.tolist(), unlike) if says else nothing,
            score=_none_where(rank, unlike),
            grade=_none_where(grades, unlike),
            reasons=reasons,
            within=_none_where(self._within(scores, own), unlike) if says else nothing,
            expected_days=_none_where(_or_none(scores.expected_days), unlike) if says else nothing,
            yearly_value=nothing,
            cause_change_id=nothing,
        )

    def _within(self, scores: Scores, own: Ints | None) -> list[str]:
        """Return the probabilities of all horizons as JSON."""
        if own is not None:
            pairs = zip(own.tolist(), scores.probability.tolist(), strict=True)
            return [f'{{"{days}":{probability!r}}}' for days, probability in pairs]
        missing = ["null"] * len(scores.probability)
        texts = {str(days): _number_texts(values) for days, values in scores.within.items()}
        texts |= {str(days): missing for days in self.bundle.not_reported}
        names = sorted(texts)
        form = "{{" + ",".join(f'"{name}":{{}}' for name in names) + "}}"
        return [form.format(*row) for row in zip(*(texts[name] for name in names), strict=True)]


def score_lot(store: Store, bundle: ModelBundle, ids: Sequence[int], as_of: datetime) -> PredictionColumns:
    """Return what `models.scoring.score_records` returns, as columns in stored form."""
    return Answering.of(store, bundle).score(ids, as_of)


def write_lot(
    transaction: Transaction, bundle: ModelBundle, columns: PredictionColumns, as_of: datetime
) -> int:
    """Append what a model said and show it on the records; return how much was new."""
    return write_prediction_columns(
        transaction,
        task=bundle.task,
        record_type=bundle.record_type,
        as_of=as_of,
        model_version=bundle.version,
        columns=columns,
    )


# ---------------------------------------------------------------- all records


@dataclass
class Watch:
    """How long each stage has taken, and the longest time a lot kept others from writing."""

    seconds: dict[str, float] = field(default_factory=dict)
    longest_lot: float = 0.0
    lots: int = 0
    now: str = ""
    """The stage at hand."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block to a stage."""
        self.now, began = name, time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """What a rescore has done of `total`: `resumed` before it was broken off, and `scored` since.

    `as_of` is the instant that it asks from, `position` the last change before that.
    """

    as_of: datetime
    position: int
    scored: int
    total: int
    resumed: int
    watch: Watch


Tell = Callable[[Rescored], None]
"""Told after each lot."""


def rescore(
    store: Store,
    bundle: ModelBundle,
    *,
    as_of: datetime | None = None,
    anew: bool = False,
    tell: Tell | None = None,
    pause: float = 0.0,
    lot_seconds: float = LOT_SECONDS,
    block: int = BLOCK,
) -> Rescored:
    """Score every record that is open, or active, and write it back.

    A rescore by the same model that was broken off goes on where it stopped, unless `as_of` names another
    instant or it is to begin `anew`; without an instant, one that begins asks from now. After each lot it
    waits for `pause` times as long as the lot kept others from writing.
    Raises FeatureSetMismatchError where the store's features are not the model's.
    """
    watch = Watch()
    answering = Answering.of(store, bundle, watch)
    with watch.stage("listing"):
        begun = _begin(store, bundle, as_of, anew=anew)
        ids = np.sort(open_records(store, bundle.record_type, begun.as_of, kind=bundle.variant or None).ids)
        rest = ids[ids > begun.position]
        if begun.shared:
            rest = np.setdiff1d(rest, _answered(store, bundle, begun), assume_unique=True)
    run = _Run(store=store, bundle=bundle, watch=watch, seconds=lot_seconds, pause=pause)
    if as_of is None:
        run.hold(begun, rest)
    done = Rescored(
        as_of=begun.as_of,
        position=begun.changes,
        scored=0,
        total=len(ids),
        resumed=len(ids) - len(rest),
        watch=watch,
    )
    for start in range(0, len(rest), block):
        for columns in answering.pieces(rest[start : start + block], begun.as_of):
            for written in run.write(columns, begun.as_of):
                done = replace(done, scored=done.scored + written)
                if tell is not None:
                    tell(done)
    with store.transaction(source=Source.MODEL) as transaction:
        cursor = transaction.session.get(Cursor, cursor_of(bundle))
        if cursor is not None:
            transaction.session.delete(cursor)
        run.let_go(transaction)
    return done


def cursor_of(bundle: ModelBundle) -> str:
    """Return the name of the cursor of a rescore by a model."""
    return f"{CURSOR}{bundle.task}.{bundle.version}"[:80]


@dataclass(frozen=True, kw_only=True)
class _Begun:
    position: int
    changes: int
    as_of: datetime
    shared: bool = False
    """Whether workers may have answered some of it."""


def _begin(store: Store, bundle: ModelBundle, as_of: datetime | None, *, anew: bool) -> _Begun:
    """Return the rescore that was broken off, or begin one: with what is left of a sweep under way."""
    with store.transaction(source=Source.MODEL) as transaction:
        session = transaction.session
        cursor = session.get(Cursor, cursor_of(bundle))
        sweep = session.get(Sweep, bundle.task) if as_of is None else None
        found = None if anew else _broken_off(cursor, as_of, sweep)
        if found is not None:
            return found
        if cursor is not None:
            session.delete(cursor)
            session.flush()
        # What another version began is of no use any more.
        others = Cursor.name.startswith(f"{CURSOR}{bundle.task}.", autoescape=True)
        session.execute(delete(Cursor).where(others))
        begun = _Begun(position=0, changes=newest_sequence(session), as_of=as_of or transaction.now)
        if sweep is not None and _is_under_way(sweep, bundle) and not anew:
            begun = _Begun(position=0, changes=sweep.log_position, as_of=sweep.as_of, shared=True)
        session.add(
            Cursor(name=cursor_of(bundle), position=0, batch_until=begun.changes, batch_as_of=begun.as_of)
        )
    return begun


def _is_under_way(sweep: Sweep, bundle: ModelBundle) -> bool:
    return sweep.ended_at is None and sweep.model_version == bundle.version


def _broken_off(cursor: Cursor | None, as_of: datetime | None, sweep: Sweep | None) -> _Begun | None:
    """Return the rescore that a cursor tells of, if it asks from `as_of`, or no instant is wanted.

    One that workers have gone on with to its end, or that a later sweep has made old, is none.
    """
    if cursor is None or cursor.batch_as_of is None or as_of not in (None, cursor.batch_as_of):
        return None
    if sweep is not None and (
        sweep.as_of > cursor.batch_as_of or (sweep.as_of == cursor.batch_as_of and sweep.ended_at)
    ):
        return None
    return _Begun(
        position=cursor.position,
        changes=cursor.batch_until or 0,
        as_of=cursor.batch_as_of,
        shared=sweep is not None and sweep.as_of == cursor.batch_as_of,
    )


def _answered(store: Store, bundle: ModelBundle, begun: _Begun) -> Ints:
    """Return the records that somebody else has answered for by this model since the rescore's instant."""
    model = SCORED_TYPES[bundle.record_type]
    query = select(model.id).where(
        model.id > begun.position, model.scored_at >= begun.as_of, model.model_version == bundle.version
    )
    with store.reading() as session:
        return np.array(session.scalars(query).all(), dtype=np.int64)


@dataclass(kw_only=True)
class _Run:
    """Writes lots, each about as large as can be written in `seconds`."""

    store: Store
    bundle: ModelBundle
    watch: Watch
    seconds: float
    pause: float
    size: int = FIRST_LOT
    name: str = field(default_factory=lambda: f"rescore:{secrets.token_hex(6)}")
    lot: Lot | None = None
    """The lot of a sweep that this is, so that workers leave it alone and go on with it if this is killed."""

    def hold(self, begun: _Begun, rest: Ints) -> None:
        """Make what is to be done the sweep under way, all of it this rescore's."""
        task, until = self.bundle.task, int(rest[-1]) if rest.size else begun.position
        with self.store.transaction(source=Source.MODEL) as transaction:
            sweep = Sweep(
                task=task,
                as_of=begun.as_of,
                model_version=self.bundle.version,
                settled_from=settled_from(transaction.session),
                log_position=begun.changes,
                position=until,
                until=until,
                total=len(rest),
                done=0,
                ended_at=None,
            )
            self.lot = hold_all(
                transaction.session, sweep, after=begun.position, by=self.name, now=transaction.now
            )

    def let_go(self, transaction: Transaction) -> None:
        """Note that the sweep has ended, if it is this rescore's still."""
        session = transaction.session
        if self.lot is not None and finish_lot(session, self.lot, by=self.name, done=0):
            end_sweep(session, session.get_one(Sweep, self.bundle.task), transaction.now)

    def _advance(self, transaction: Transaction, written: PredictionColumns) -> None:
        if self.lot is not None:
            until, at = transaction.now + HELD, written.record_id[-1]
            kept = advance_lot(
                transaction.session, self.lot, to=at, by=self.name, done=len(written), until=until
            )
            self.lot = self.lot if kept else None

    def write(self, columns: PredictionColumns, as_of: datetime) -> Iterator[int]:
        """Write columns lot by lot; yield how many each had."""
        start = 0
        while start < len(columns):
            lot = columns.part(start, start + self.size)
            start += len(lot)
            with self.watch.stage("writing"):
                took = self._write(lot, as_of)
            yield len(lot)
            if self.pause:
                time.sleep(self.pause * took)

    def _write(self, lot: PredictionColumns, as_of: datetime) -> float:
        """Write a lot, once more if it was in a deadlock: whoever was in the way is through by then."""
        try:
            return self._try(lot, as_of)
        except OperationalError as error:
            if not is_deadlock(error):
                raise
            return self._try(lot, as_of)

    def _try(self, lot: PredictionColumns, as_of: datetime) -> float:
        with self.store.transaction(source=Source.MODEL) as transaction:
            began = time.perf_counter()
            write_lot(transaction, self.bundle, lot, as_of)
            cursor = transaction.session.get(Cursor, cursor_of(self.bundle))
            if cursor is not None and cursor.batch_as_of == as_of:
                cursor.position = lot.record_id[-1]
            self._advance(transaction, lot)
        took = time.perf_counter() - began
        self.watch.lots += 1
        self.watch.longest_lot = max(self.watch.longest_lot, took)
        self.size = next_size(len(lot), took, self.seconds)
        return took


# ---------------------------------------------------------------- columns


def _none_where(cells: list[Any], rows: Bools) -> list[Any]:
    for row in np.flatnonzero(rows).tolist():
        cells[row] = None
    return cells


def _or_none(values: Floats) -> list[float | None]:
    return _none_where(values.tolist(), np.isnan(values))


def _number_texts(values: Floats) -> list[str]:
    return ["null" if value != value else repr(value) for value in values.tolist()]  # noqa: PLR0124  NaN
