"""Challengers at work beside champions, unseen: the same questions, at bounded cost, kept apart.

Of each task a share of the records is asked about, so that no more than `records_a_day` are in a day, and
others every day. Whatever goes wrong with a challenger is noted and leaves everything else alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import func, select

from crm_core.changes import Source
from crm_core.predictions import SCORED_TYPES, NewPrediction
from crm_core.promotions import Challenger, find_challenger
from crm_core.records import Account
from crm_core.shadows import Match, Shadow, purge_shadows, write_shadows
from crm_core.store import Store
from serving.champions import Champion, Scorer
from serving.logs import get_log

LoadChallenger = Callable[[Challenger], Scorer]

_log = get_log("serving.shadowing")


@dataclass
class _Day:
    """What is asked of one task on one day: which share of the records, and how many are left."""

    day: date
    share: float
    left: int


@dataclass
class Shadowing:
    """The challengers of all tasks. `records_a_day` is how many records each may be asked about; 0: none."""

    store: Store
    load: LoadChallenger
    records_a_day: int
    _loaded: dict[str, tuple[int, Scorer | None]] = field(default_factory=dict)
    _days: dict[str, _Day] = field(default_factory=dict)

    def follow(self, champion: Champion, said: Sequence[NewPrediction], as_of: datetime) -> int:
        """Ask the challenger what the champion was asked, of some of the records; return how many are kept.

        Never raises: a challenger that fails must not hold up what people wait for.
        """
        if self.records_a_day <= 0 or not said:
            return 0
        try:
            return self._follow(champion, said, as_of)
        except Exception as error:  # noqa: BLE001  whatever a challenger does, scores are kept fresh
            self._leave_alone(champion.task)
            _log.error("challenger failed", task=champion.task, error=type(error).__name__, exc_info=error)
            return 0

    def _leave_alone(self, task: str) -> None:
        """Ask a challenger that failed nothing more until the next day."""
        if task in self._loaded:
            self._loaded[task] = (self._loaded[task][0], None)

    def _follow(self, champion: Champion, said: Sequence[NewPrediction], as_of: datetime) -> int:
        today = self._today(champion, as_of.date())
        challenger = self._challenger(champion.task)
        if challenger is None:
            return 0
        chosen = [
            one for one in said if one.probability is not None and _draw(one.record_id, today) < today.share
        ]
        chosen = chosen[: today.left]
        if not chosen:
            return 0
        today.left -= len(chosen)
        answers = challenger.score(self.store, [one.record_id for one in chosen], as_of)
        return self._keep(champion, challenger, chosen, answers, as_of)

    def _keep(
        self,
        champion: Champion,
        challenger: Scorer,
        said: Sequence[NewPrediction],
        answers: Sequence[NewPrediction],
        as_of: datetime,
    ) -> int:
        mine = {one.record_id: one for one in answers}
        shadows = [
            Shadow(
                record_id=theirs.record_id,
                probability=own.probability,
                champion_probability=theirs.probability,
                grade=own.grade,
                champion_grade=theirs.grade,
            )
            for theirs in said
            if (own := mine.get(theirs.record_id)) is not None
            and own.probability is not None
            and theirs.probability is not None
        ]
        match = Match(
            task=champion.task,
            record_type=champion.record_type,
            as_of=as_of,
            horizon_days=challenger.horizon_days,
            challenger=challenger.model_version,
            champion=champion.scorer.model_version,
        )
        if challenger.horizon_days != champion.scorer.horizon_days:
            return 0
        with self.store.transaction(source=Source.MODEL) as transaction:
            return write_shadows(transaction, match, shadows)

    def _challenger(self, task: str) -> Scorer | None:
        """Return the challenger of a task, loaded once; None without one, or where it cannot be loaded."""
        with self.store.reading() as session:
            found = find_challenger(session, task)
            session.expunge_all()
        if found is None:
            return None
        known = self._loaded.get(task)
        if known is None or known[0] != found.id:
            self._loaded[task] = (found.id, None)  # for the case that it cannot be loaded
            self._loaded[task] = (found.id, self.load(found))
        return self._loaded[task][1]

    def _today(self, champion: Champion, day: date) -> _Day:
        """Return what is left of the day; a new one begins with clearing away what is old."""
        today = self._days.get(champion.task)
        if today is None or today.day != day:
            with self.store.transaction(source=Source.MODEL) as transaction:
                purge_shadows(transaction, champion.task)
            self._loaded.pop(champion.task, None)
            share = self.records_a_day / max(self._count(champion.record_type), 1)
            today = _Day(day=day, share=share, left=self.records_a_day)
            self._days[champion.task] = today
        return today

    def _count(self, record_type: str) -> int:
        model = SCORED_TYPES[record_type]
        query = select(func.count()).select_from(model).where(model.deleted_at.is_(None))
        if not issubclass(model, Account):
            query = query.where(model.status == "open")
        with self.store.reading() as session:
            return session.scalar(query) or 0


def _draw(record_id: int, today: _Day) -> float:
    """Return a number in [0, 1) for a record and a day, as good as drawn by chance and always the same."""
    mixed = (record_id * 2_654_435_761 + today.day.toordinal() * 40_503_001) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2_246_822_519) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 13)) / 2**32
