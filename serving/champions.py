"""The models that serve, kept warm: one for each task, swapped by one assignment when another is promoted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from crm_core.errors import CRMError, ModelError, NoChampionError
from crm_core.phrases import Phrase
from crm_core.predictions import NewPrediction
from crm_core.promotions import Promotion, find_champion, find_newest_id
from crm_core.store import Store
from crm_core.writing_back import PredictionColumns
from serving.logs import get_log

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from crm_core.arrays import Arrays, Keyed
    from features.supposed import Supposed
    from models.missing_field import MissingField
    from models.next_step import Steps
    from models.what_if import WhatIf

TASK_OF: dict[str, str] = {"lead": "lead_scoring", "deal": "win_probability", "account": "churn"}
"""Which task scores which record type. Named here, so that a plain page need not import the models."""

RECORD_TYPE_OF: dict[str, str] = {task: record_type for record_type, task in TASK_OF.items()}

TRY_AGAIN_AFTER = timedelta(seconds=30)
"""How long a model that could not be loaded is left alone."""

LOOK_SECONDS = 1.0
"""How long a promotion made by another process may go unnoticed."""

_log = get_log("serving.champions")


class Scorer(Protocol):
    """A model that answers for records as they were known at an instant."""

    @property
    def model_version(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def horizon_days(self) -> int:
        """How far ahead its probability looks."""
        ...

    def score(self, store: Store, ids: Sequence[int], as_of: datetime) -> list[NewPrediction]:
        """Return a prediction for each record that the task is asked of; others may be left out."""
        ...

    def score_many(self, store: Store, ids: Sequence[int], as_of: datetime) -> PredictionColumns:
        """Return the same by record, as columns in stored form: many cost less in this way."""
        ...

    def score_supposed(self, store: Store, supposed: Supposed, as_of: datetime) -> NewPrediction | None:
        """Return what a record that does not exist would get; None if the task is not asked of it."""
        ...

    def what_would_change(self, store: Store, record_id: int, as_of: datetime) -> WhatIf:
        """Return what goes with another score of a record."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A scorer that can say beforehand what it will read of a record."""

    def reads_at_once(self, store: Store) -> bool:
        """Tell whether `read_ahead` nearly always reads all of it."""
        ...

    def read_ahead(
        self, store: Store, session: Session, record_id: int, also: Sequence[Keyed]
    ) -> list[Arrays]:
        """Read that, and what is asked `also`, in one go; return the answers to the latter."""
        ...


@runtime_checkable
class Suggests(Protocol):
    """A scorer that can say what its model's questions teach beside a score."""

    @property
    def model_version(self) -> str:
        """Its name in the registry."""
        ...

    def what_is_missing(self, store: Store, record_id: int, as_of: datetime) -> tuple[MissingField, ...]:
        """Return the empty fields that would sharpen a record's score, the one that would most first."""
        ...

    def measure_steps(self, store: Store, now: datetime) -> Steps:
        """Return which steps went with better ends among records that stood alike."""
        ...


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A warm model, and the promotion that put it in charge."""

    task: str
    promotion_id: int
    promoted_at: datetime
    scorer: Scorer

    @property
    def record_type(self) -> str:
        """What it scores."""
        return RECORD_TYPE_OF[self.task]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why the newest promotion of a task does not serve."""

    promotion_id: int
    model_version: str
    error: str
    detail: str
    since: datetime


LoadScorer = Callable[[str, Promotion], Scorer]


class Champions:
    """The champion of every task.

    `load` turns a promotion into a scorer. Where it fails, the model before goes on serving and `troubles`
    says why. Whoever asks for a champion looks first whether there was another promotion, at most every
    `look_seconds`: a process in which nothing else looks takes up what others promoted.
    """

    def __init__(self, store: Store, load: LoadScorer, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._store = store
        self._load = load
        self._look_seconds = look_seconds
        self._looked = -math.inf
        self._newest: int | None = None
        self._serving: Mapping[str, Champion] = {}
        self._troubles: Mapping[str, Trouble] = {}
        self._lock = threading.Lock()

    def refresh(self) -> list[str]:
        """Take up promotions made since the last look; return the tasks that got another model."""
        with self._lock:
            return self._refresh()

    def follow(self) -> None:
        """Take up promotions made since the last look, at the price of one query where there are none."""
        with self._lock:
            self._refresh_if_newer()

    def look(self) -> None:
        """Take up promotions made since the last look, unless that was just now or somebody else looks."""
        now = time.monotonic()
        if now - self._looked < self._look_seconds or not self._lock.acquire(blocking=False):
            return
        try:
            self._looked = now
            self._refresh_if_newer()
        finally:
            self._lock.release()

    def _refresh_if_newer(self) -> None:
        with self._store.reading() as session:
            newest = find_newest_id(session)
        if newest != self._newest or self._troubles:
            self._refresh()

    def _refresh(self) -> list[str]:
        with self._store.reading() as session:
            self._newest = find_newest_id(session)
            found = {task: find_champion(session, task) for task in RECORD_TYPE_OF}
            session.expunge_all()
        return [task for task, promotion in found.items() if promotion and self._take_up(task, promotion)]

    def find(self, task: str) -> Champion | None:
        """Return the champion of a task, or None."""
        return self._serving.get(task)

    def get(self, task: str) -> Champion:
        """Return the champion of a task, the one promoted last if it can serve."""
        self.look()
        if task not in self._serving:
            self.refresh()
        champion = self._serving.get(task)
        if champion is not None:
            return champion
        if trouble := self._troubles.get(task):
            raise ModelError(
                Phrase(
                    "{task}: {model_version} cannot be loaded: {detail}",
                    task=task,
                    model_version=trouble.model_version,
                    detail=trouble.detail,
                )
            )
        raise NoChampionError(task)

    @property
    def serving(self) -> Mapping[str, Champion]:
        """The champions by task."""
        return self._serving

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """By task, why its newest promotion does not serve."""
        return self._troubles

    def _take_up(self, task: str, promotion: Promotion) -> bool:
        current = self._serving.get(task)
        if current is not None and current.promotion_id == promotion.id:
            return False
        if self._left_alone(task, promotion):
            return False
        try:
            scorer = self._load(task, promotion)
        except (CRMError, OSError, ValueError) as error:
            self._note(task, promotion, error)
            return False
        champion = Champion(
            task=task, promotion_id=promotion.id, promoted_at=promotion.promoted_at, scorer=scorer
        )
        # One assignment each: whoever reads has the old model or the new one, never something between.
        self._serving = {**self._serving, task: champion}
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name != task}
        _log.info("champion taken up", task=task, model_version=scorer.model_version, promotion=promotion.id)
        return True

    def _left_alone(self, task: str, promotion: Promotion) -> bool:
        trouble = self._troubles.get(task)
        return (
            trouble is not None
            and trouble.promotion_id == promotion.id
            and self._store.clock.now() < trouble.since + TRY_AGAIN_AFTER
        )

    def _note(self, task: str, promotion: Promotion, error: Exception) -> None:
        trouble = Trouble(
            promotion_id=promotion.id,
            model_version=promotion.model_version,
            error=type(error).__name__,
            detail=str(error),
            since=self._store.clock.now(),
        )
        self._troubles = {**self._troubles, task: trouble}
        kept = self._serving.get(task)
        _log.error(
            "champion cannot be loaded",
            task=task,
            model_version=promotion.model_version,
            error=type(error).__name__,
            still_serving=kept.scorer.model_version if kept else None,
        )
