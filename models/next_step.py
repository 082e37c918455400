"""What was done with records that did better afterwards: steps compared among records that stood alike.

A record is looked at every `STEP_DAYS` days. Whether a step was taken within the days that follow is set
against how it ended in the horizon after them, so that nobody had less time to be helped because it ended
soon; who ended meanwhile is in neither group. Compared are only records in the same situation (a deal's
stage, a lead's age), in the same fifth of what the model said of them before the step, and among which the
step had been taken in the days before, or not. Several looks at one record count as one record in the error.

It stays association: people meet where it goes well, and no score knows all that they know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY, instant, micros
from crm_core.predictions import IN_THE_END_DAYS
from crm_core.records import Activity, Quote
from crm_core.store import Store
from features.cohort import WEEK, Cohort, deal_cohort, lead_cohort, mondays, open_records_at
from features.frame import build_rows
from features.rows import Rows
from models.bundle import ModelBundle
from models.hazard import Bools, Ints
from models.questions import own_days
from models.scoring import features_of
from models.stratified import Difference, difference, z_of
from models.task import Task
from models.tasks import get_task
from models.usual import Usual

STEP_DAYS: Final = 14
"""For so long after a look a step may be taken; and so far apart are looks at one record."""

LOOKBACK_DAYS: Final = 730

MOST_LOOKS: Final = 8_000
"""Looks that are compared; of more, records are drawn, always the same ones."""

FEWEST: Final = 30
"""Records with a step, and without, below which nothing is said of it."""

ALL: Final = ""
"""The situation that stands for all of them."""

_AGES_DAYS: Final = tuple(range(1, 100, STEP_DAYS))
_FIFTHS: Final = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What went with better ends: records with and without it, shares of each that ended so, in [0, 1].

    `situation` is that of the records compared, "" for all. The shares are weighed alike over what was told
    apart, so that `difference` is theirs; `low` and `high` bound it with all that was asked allowed for.
    """

    action: str
    situation: str
    with_records: int
    without_records: int
    with_share: float
    without_share: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps that tell something by situation, the surest first, and what they are told of."""

    found: Mapping[str, Sequence[Step]]
    horizon_days: int
    high_is_good: bool
    by: str | None

    def of(self, known: Mapping[str, Any]) -> Sequence[Step]:
        """Return what is told of a record by what is known of it: of its situation, else of all of them.

        `by` names the feature that tells situations apart; where it is not known, all of them stand for it.
        """
        if self.by is not None and self.by in known:
            situation = Usual(by=self.by).situation(known)
            if found := self.found.get(situation):
                return found
        return self.found.get(ALL, ())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Looks:
    """n looks: at which record, when, in which situation and fifth, and whether it then happened."""

    ids: Ints
    as_of: Ints
    situation: np.ndarray[Any, np.dtype[np.str_]]
    fifth: Ints
    happened: Bools


def measure_steps(store: Store, bundle: ModelBundle, now: datetime) -> Steps:
    """Return what went with better ends among a task's records, as known at `now`.

    Time rule: what tells records apart was known at the look (`features.windows`); steps happened after it,
    and ends after the steps. A look counts if its whole horizon is over, however it ended.
    """
    task = get_task(bundle.task).of_variant(bundle.variant)
    told: dict[str, Sequence[Step]] = {}
    looks = _look(store, bundle, task, now) if _may_be_measured(bundle) else None
    if looks is not None:
        with store.reading() as session:
            taken = dict(_taken(session, bundle.record_type, looks, now))
        told = _compare(looks, taken, sign=1 if bundle.high_is_good else -1)
    return Steps(
        found=told, horizon_days=bundle.horizon_days, high_is_good=bundle.high_is_good, by=bundle.usual.by
    )


def _may_be_measured(bundle: ModelBundle) -> bool:
    return bundle.says_probability and bundle.horizon_days != IN_THE_END_DAYS


def _look(store: Store, bundle: ModelBundle, task: Task, now: datetime) -> _Looks | None:
    """Return the looks whose horizon is over at records that were open still after the step's days."""
    cohort = _cohort(store, task, now)
    key = cohort.ids * (1 << 40) + cohort.as_of // DAY
    cohort = cohort.take(np.isin(key + STEP_DAYS, key))
    if task.record_type == "account":  # who stays for years is looked at every four weeks
        cohort = cohort.take(cohort.as_of // WEEK % 4 == 0)
    cohort = _drawn(cohort)
    if not len(cohort):
        return None
    with store.reading() as session:
        rows = build_rows(session, cohort, features_of(store, bundle))
    if task.asked_of is not None:
        kept = task.asked_of(rows)
        cohort, rows = cohort.take(kept), rows.take(kept)
    over, happened = _ended(store, bundle, task, cohort, rows)
    if not over.any():
        return None
    cohort, rows = cohort.take(over), rows.take(over)
    log_odds = bundle.predict(rows).log_odds
    return _Looks(
        ids=cohort.ids,
        as_of=cohort.as_of,
        situation=_situations(bundle, rows),
        fifth=np.searchsorted(np.quantile(log_odds, _FIFTHS), log_odds),
        happened=happened[over],
    )


def _cohort(store: Store, task: Task, now: datetime) -> Cohort:
    until = micros(now)
    start = until - LOOKBACK_DAYS * DAY
    between = {"start": instant(start), "until": now}
    if task.record_type == "lead":
        return lead_cohort(store, **between, ages_days=_AGES_DAYS)
    if task.record_type == "deal":
        asked = deal_cohort(store, **between)
        return asked.take(np.isin(asked.as_of, _alternate(start, until)))
    return open_records_at(store, task.record_type, _alternate(start, until), kind=task.variant)


def _alternate(start: int, until: int) -> Ints:
    """Return every other Monday."""
    found = mondays(start, until)
    every_other: Ints = found[found // WEEK % 2 == 0]
    return every_other


def _drawn(cohort: Cohort) -> Cohort:
    """Return about `MOST_LOOKS` of the questions, all of a record or none: what is read is few records."""
    share = MOST_LOOKS / max(len(cohort), 1)
    return cohort if share >= 1 else cohort.take(cohort.ids * 2_654_435_761 % 2**32 < share * 2**32)


def _ended(store: Store, bundle: ModelBundle, task: Task, cohort: Cohort, rows: Rows) -> tuple[Bools, Bools]:
    """Return whose horizon after the step's days is over, and to whom it happened in it."""
    after = Cohort.of(cohort.record_type, cohort.ids, cohort.as_of + STEP_DAYS * DAY)
    labels = task.labels(store, after)
    days = own_days(task, rows)
    ends = after.as_of + (bundle.horizon_days if days is None else days) * DAY
    event = (labels.event_at != NO_INSTANT) & (labels.event_at <= ends)
    return ends <= labels.known_until, ~event if task.absence else event


def _situations(bundle: ModelBundle, rows: Rows) -> np.ndarray[Any, np.dtype[np.str_]]:
    by = bundle.usual.by
    if by is None:
        return np.full(len(rows), ALL)
    return np.array([bundle.usual.situation({by: value}) for value in rows[by]])


# ---------------------------------------------------------------- steps


@dataclass(frozen=True, kw_only=True)
class _Deed:
    """What an activity has to be to count as a step; None stands for anything."""

    kinds: tuple[str, ...]
    direction: str | None = None
    outcome: str | None = None

    def counts(self, kind: str, direction: str | None, outcome: str | None) -> bool:
        """Tell whether an activity counts."""
        same = self.direction in (None, direction) and self.outcome in (None, outcome)
        return kind in self.kinds and same


DEEDS: Final[Mapping[str, _Deed]] = {
    "call": _Deed(kinds=("call",), direction="outbound", outcome="connected"),
    "meeting": _Deed(kinds=("meeting", "visit"), outcome="held"),
    "mail": _Deed(kinds=("mail",), direction="outbound"),
    "next_step": _Deed(kinds=("task",)),
}
"""The steps that are activities, by the names that `models.actions` gives them."""

_KINDS: Final = sorted({kind for deed in DEEDS.values() for kind in deed.kinds})

QUOTE: Final = "quote"
"""A quote was sent for a deal."""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(DEEDS, ("activity.kind", "activity.direction", "activity.outcome")),
    QUOTE: ("quote.sent_at", "quote.deal_id"),
}
"""What is told by telling of a step."""


def _taken(
    session: Session, record_type: str, looks: _Looks, now: datetime
) -> Iterator[tuple[str, tuple[Bools, Bools]]]:
    """Yield each step, and at which looks it was taken after, and had been before."""
    for action, ids, at in _events(session, record_type, np.unique(looks.ids), now):
        yield action, (_within(looks, ids, at, 0), _within(looks, ids, at, -STEP_DAYS))


def _events(session: Session, record_type: str, ids: Ints, now: datetime) -> Iterator[tuple[str, Ints, Ints]]:
    """Yield each step with the records and the instants at which it was taken, by record and instant."""
    record = getattr(Activity, f"{record_type}_id")
    names = ("kind", "direction", "outcome")
    query = select(
        record.label("id"), Activity.occurred_at.label("at"), *(getattr(Activity, name) for name in names)
    ).where(
        record.in_(ids.tolist()),  # a few thousand at most, out of all that there are
        Activity.kind.in_(_KINDS),
        Activity.deleted_at.is_(None),
        Activity.occurred_at <= now,
        Activity.recorded_at <= now,
    )
    found = read_arrays(session, query)
    for action, deed in DEEDS.items():
        kept = np.array(
            [deed.counts(*cells) for cells in zip(*(found[name].tolist() for name in names), strict=True)],
            dtype=np.bool_,
        )
        yield action, *_in_order(found["id"][kept], found["at"][kept])
    if record_type == "deal":
        sent = select(Quote.deal_id.label("id"), Quote.sent_at.label("at")).where(
            Quote.deal_id.in_(ids.tolist()), Quote.deleted_at.is_(None), Quote.sent_at <= now
        )
        found = read_arrays(session, sent)
        yield QUOTE, *_in_order(found["id"], found["at"])


def _in_order(ids: Ints, at: Ints) -> tuple[Ints, Ints]:
    order = np.lexsort((at, ids))
    return ids[order], at[order]


def _within(looks: _Looks, ids: Ints, at: Ints, offset_days: int) -> Bools:
    """Tell at which looks something of the record lies in the step's days from an offset on."""
    code = np.unique(np.concatenate((ids, looks.ids)), return_inverse=True)[1]
    span = np.int64(1) << 42  # more seconds than any instant has, so that records do not mix
    events = code[: ids.size] * span + at // 1_000_000
    begin = code[ids.size :] * span + (looks.as_of + offset_days * DAY) // 1_000_000
    first = np.searchsorted(events, begin, side="right")
    last = np.searchsorted(events, begin + STEP_DAYS * 86_400, side="right")
    return last > first


# ---------------------------------------------------------------- comparing


def _compare(
    looks: _Looks, taken: Mapping[str, tuple[Bools, Bools]], *, sign: int
) -> dict[str, Sequence[Step]]:
    situations = [ALL, *(name for name in np.unique(looks.situation).tolist() if name != ALL)]
    z = z_of(len(situations) * len(taken))
    found: dict[str, Sequence[Step]] = {}
    for situation in situations:
        rows = np.ones(looks.ids.size, np.bool_) if situation == ALL else looks.situation == situation
        steps = [_step(looks, rows, action, *taken[action], z) for action in taken]
        told = [(step, low) for step, low in steps if step is not None and sign * low > 0]
        found[situation] = [step for step, _ in sorted(told, key=lambda each: -sign * each[1])]
    return found


def _step(
    looks: _Looks, rows: Bools, action: str, after: Bools, before: Bools, z: float
) -> tuple[Step | None, float]:
    """Return a step where enough records had it and had not, and the bound that is nearer to nothing."""
    ids, treated = looks.ids[rows], after[rows]
    situation = looks.situation[rows]
    stratum = np.unique(situation, return_inverse=True)[1] * 10 + looks.fifth[rows] * 2 + before[rows]
    told = _comparable(stratum, treated)
    ids, treated, stratum = ids[told], treated[told], stratum[told]
    counts = np.unique(ids[treated]).size, np.unique(ids[~treated]).size
    if min(counts) < FEWEST:
        return None, 0.0
    apart = difference(stratum, ids, treated, looks.happened[rows][told], z=z)
    name = situation[0] if (situation == situation[0]).all() else ALL
    return _said(action, str(name), counts, apart), _nearer(apart)


def _comparable(stratum: Ints, treated: Bools) -> Bools:
    """Tell which rows have one of the other kind beside them."""
    code = np.unique(stratum, return_inverse=True)[1]
    with_n = np.bincount(code, treated)
    both = (with_n > 0) & (with_n < np.bincount(code))
    return np.asarray(both[code], dtype=np.bool_)


def _nearer(apart: Difference) -> float:
    if not apart.tells:
        return 0.0
    return apart.low if apart.low > 0 else apart.high


def _said(action: str, situation: str, counts: tuple[int, int], apart: Difference) -> Step:
    return Step(
        action=action,
        situation=situation,
        with_records=counts[0],
        without_records=counts[1],
        with_share=apart.with_share,
        without_share=apart.without_share,
        difference=apart.difference,
        low=apart.low,
        high=apart.high,
    )
