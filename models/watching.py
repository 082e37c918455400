"""Whether a model that serves is still right: what has changed since it was made, each kind apart.

- **inputs**: are the records asked about of another kind? Alone it is no fault: a model may know them all.
- **outcomes**: does the event come more or less often than before, whatever the records are?
- **calibration**: does it come more or less often than the model says? Answered from every interval that is
  over, so the first seven days of a question tell before its ninety are up.
- **performance**: stored predictions whose whole window is over, judged as they were made.

Inputs and outcomes may move together and the model stay right; when calibration or performance is off,
it is to be trained again. Everything is read from the store as it was known; nothing was set aside for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select, true

from crm_core.arrays import read_arrays
from crm_core.clock import DAY, instant, micros
from crm_core.predictions import Prediction
from crm_core.store import Store
from features.cohort import Cohort, open_records
from features.feature_set import FeatureSet
from features.frame import build_frame
from models.building import SEASON
from models.bundle import ModelBundle
from models.drift import Shift, ratio_by_entity, shift_of_numbers, shift_of_words
from models.evaluation import Estimate, Judged, measure
from models.hazard import Bools, Exposure, Floats, Ints, expit, expose
from models.questions import Questions, answers, ask, asked_of, first_instant, own_days
from models.scoring import features_of
from models.task import Task
from models.tasks import get_task
from models.worth import value_of

if TYPE_CHECKING:
    from pandas import DataFrame

SHIFT_TO_WATCH, SHIFT_TO_ACT = 0.1, 0.25
"""Population stability index from which on inputs are watched, and acted on."""

SHARE_THAT_MATTERS = 0.05
"""A feature with a smaller share of what the model says is no reason to act."""

RATIO_TO_WATCH, RATIO_TO_ACT = 1.1, 1.25
"""Outcomes that came, as a multiple of those expected (or its inverse), beyond what chance explains."""

FEWEST_RECORDS = 50
"""Records on either side below which inputs are not compared."""

FEWEST_OUTCOMES = 20
"""Outcomes, expected or seen, below which nothing is said about how often they come."""

BEFORE_DAYS = 180
"""How long before a model was made its inputs are taken from for the comparison."""

AS_MADE = timedelta(days=1)
"""A prediction written later than this after the instant it asks from was not a forecast."""


class State(StrEnum):
    """What a finding asks for; the later, the more."""

    UNKNOWN = "unknown"
    OK = "ok"
    WATCH = "watch"
    ACT = "act"


_ORDER = (State.UNKNOWN, State.OK, State.WATCH, State.ACT)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of change: `value` with its interval against `watch_from` and `act_from`.

    `why` says, where the state is unknown, what is missing. `evidence` is what it was made of. `money` is
    what the difference comes to for the records open now, by currency: above 0, more is said than is likely.
    """

    kind: str
    state: State
    value: Estimate | None = None
    watch_from: float | None = None
    act_from: float | None = None
    why: str | None = None
    money: Mapping[str, float] | None = None
    evidence: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": self.kind,
            "state": str(self.state),
            "value": None if self.value is None else self.value.to_json(),
            "watch_from": self.watch_from,
            "act_from": self.act_from,
            "why": self.why,
            "money": None if self.money is None else dict(self.money),
            "evidence": dict(self.evidence or {}),
        }


@dataclass(frozen=True, kw_only=True)
class WatchReport:
    """All that was found about a model at an instant, and how many outcomes have come since it was made."""

    task: str
    model_version: str
    made_as_of: int
    asked_at: int
    new_outcomes: int
    taught_outcomes: int
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """Return what the whole asks for: that of calibration and performance; the others only explain."""
        told = [finding.state for finding in self.findings if finding.kind in ("calibration", "performance")]
        worst = max(told, key=_ORDER.index)
        explains = [finding.state for finding in self.findings if finding.state in (State.WATCH, State.ACT)]
        return State.WATCH if explains and _ORDER.index(worst) < _ORDER.index(State.WATCH) else worst

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "task": self.task,
            "model_version": self.model_version,
            "made_as_of": instant(self.made_as_of).isoformat(),
            "asked_at": instant(self.asked_at).isoformat(),
            "state": str(self.state),
            "new_outcomes": self.new_outcomes,
            "taught_outcomes": self.taught_outcomes,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a model's own report said of it: its AUC and log loss on questions it had not seen."""

    auc: Estimate
    log_loss: Estimate


def watch(store: Store, bundle: ModelBundle, *, promise: Promise | None = None) -> WatchReport:
    """Compare what a model knew when it was made with what has come since.

    Raises FeatureSetMismatchError where the store's features are not those that the model learned from.
    """
    if get_task(bundle.task).of_variant(bundle.variant).no_time_order:
        return _without_dates(store, bundle)
    watched = _Watched.read(store, bundle)
    return WatchReport(
        task=bundle.task,
        model_version=bundle.version,
        made_as_of=watched.made,
        asked_at=watched.now,
        new_outcomes=watched.outcomes(watched.now) - watched.outcomes(watched.made),
        taught_outcomes=int(bundle.trained["outcomes"]),
        findings=(
            _inputs(watched),
            _outcomes(watched),
            _calibration(watched),
            _performance(watched, promise),
        ),
    )


def _without_dates(store: Store, bundle: ModelBundle) -> WatchReport:
    """Return a report that nothing can be compared with what came since, where nothing has a date."""
    why = "its records have no dates: there is no before and since"
    kinds = ("inputs", "outcomes", "calibration", "performance")
    return WatchReport(
        task=bundle.task,
        model_version=bundle.version,
        made_as_of=int(bundle.trained["as_of"]),
        asked_at=micros(store.clock.now()),
        new_outcomes=0,
        taught_outcomes=int(bundle.trained["outcomes"]),
        findings=tuple(Finding(kind=kind, state=State.UNKNOWN, why=why) for kind in kinds),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Watched:
    """A model with the questions asked for some time before it was made, and since."""

    store: Store
    bundle: ModelBundle
    task: Task
    features: FeatureSet
    asked: Questions
    alike: Bools
    made: int
    now: int

    @classmethod
    def read(cls, store: Store, bundle: ModelBundle) -> _Watched:
        # A model answers by its own intervals; the task's may have been changed since it was made.
        task = replace(get_task(bundle.task).of_variant(bundle.variant), intervals_days=bundle.intervals_days)
        features = features_of(store, bundle)
        made, now = int(bundle.trained["as_of"]), micros(store.clock.now())
        asked = ask(
            store, task, features, task.ask, start=instant(made - BEFORE_DAYS * DAY), until=instant(now)
        )
        if task.asked_of is not None:
            asked = asked.take(task.asked_of(asked.frame))
        return cls(
            store=store,
            bundle=bundle,
            task=task,
            features=features,
            asked=asked,
            alike=_among(asked.cohort, task.ask_to_judge(store, start=instant(0), until=instant(now))),
            made=made,
            now=now,
        )

    @property
    def since(self) -> Questions:
        """Return all questions since the model was made."""
        return self.asked.take(self.asked.as_of > self.made)

    @property
    def before_alike(self) -> Questions:
        """Return the questions before that are of the kind models are judged on, as leads when they are new.

        A company that is getting older has older records to ask about; that alone is no change.
        """
        return self.asked.take((self.asked.as_of <= self.made) & self.alike)

    @property
    def since_alike(self) -> Questions:
        """Return the questions since that are of that kind."""
        return self.asked.take((self.asked.as_of > self.made) & self.alike)

    def outcomes(self, known_at: int) -> int:
        """Return how many records are known to have had the event by an instant, whoever was asked."""
        until, start = instant(known_at), first_instant(self.store, self.task)
        if self.task.own_horizon is not None:  # how far ahead each question looks, only its features tell
            asked = ask(self.store, self.task, self.features, self.task.ask, start=start, until=until)
            return len(np.unique(asked.cohort.ids[asked.expose(self.store, known_at).happened]))
        cohort = self.task.ask(self.store, start=start, until=until)
        labels = self.task.labels(self.store, cohort, known_at=known_at)
        seen = expose(
            as_of=cohort.as_of,
            event_at=labels.event_at,
            known_until=labels.known_until,
            weight=cohort.weight,
            ends_days=self.task.intervals_days,
            absence=self.task.absence,
        )
        return len(np.unique(cohort.ids[seen.happened]))

    def money(self, ratio: float) -> dict[str, float]:
        """Return by how much the expected value of what is open now is overstated, by currency."""
        kind = self.bundle.variant or None
        cohort = open_records(self.store, self.bundle.record_type, self.store.clock.now(), kind=kind)
        if len(cohort) == 0:
            return {}
        cohort, frame = asked_of(self.task, cohort, build_frame(self.store, cohort, self.features))
        said = self.bundle.predict(frame).probability
        likely = np.minimum(said * ratio, 1.0)
        return value_of(self.store, cohort, said - likely)


def _inputs(watched: _Watched) -> Finding:
    """Compare every input, and the probability said, of the questions before and since.

    Inputs that weigh something are to be watched when they move; only what is said of the records counts as
    a change to act on.
    """
    before, since = watched.before_alike, watched.since_alike
    sizes = _records(before), _records(since)
    if min(sizes) < FEWEST_RECORDS:
        asked = f"{sizes[1]} records asked about since the model was made, {sizes[0]} before"
        return Finding(kind="inputs", state=State.UNKNOWN, why=f"{asked}; {FEWEST_RECORDS} are needed")
    shares = _shares_of_what_is_said(watched.bundle, since.frame)
    told = []
    for feature in watched.features.features:
        if feature.group == SEASON:
            continue  # a season is another by its nature
        shift = _shift(before.frame, since.frame, feature.name, sizes)
        told.append((feature.name, shares.get(feature.name, 0.0), shift))
    said = [watched.bundle.predict(part.frame).probability for part in (before, since)]
    score = shift_of_numbers(said[0], said[1], records=sizes)
    moved = [one for one in told if one[2].beyond_chance and one[2].index >= SHIFT_TO_WATCH]
    moved.sort(key=lambda one: (-one[1] * one[2].index, one[0]))
    weighty = any(share >= SHARE_THAT_MATTERS for _, share, _ in moved)
    said_moved = _state_of(score.index if score.beyond_chance else 0.0, SHIFT_TO_WATCH, SHIFT_TO_ACT)
    return Finding(
        kind="inputs",
        state=State.WATCH if weighty and said_moved is State.OK else said_moved,
        value=Estimate(value=score.index, low=np.nan, high=np.nan),
        watch_from=SHIFT_TO_WATCH,
        act_from=SHIFT_TO_ACT,
        evidence={
            "records_before": sizes[0],
            "records_since": sizes[1],
            "score": _json_of(score),
            "features": [
                {"feature": name, "share": round(share, 4)} | _json_of(shift)
                for name, share, shift in moved[:10]
            ],
        },
    )


def _outcomes(watched: _Watched) -> Finding:
    """Compare how often the event came since with how often it came before, interval by interval."""
    before = watched.before_alike.expose(watched.store, watched.made)
    known = before.at_risk.sum(axis=0)
    if before.happened.sum() < FEWEST_OUTCOMES or not known.all():
        return _too_few("outcomes", int(before.happened.sum()), "before the model was made")
    rate = before.event.sum(axis=0) / np.maximum(known, 1)
    asked = watched.since_alike
    since = asked.expose(watched.store, None)
    return _ratio("outcomes", asked, since, np.where(since.at_risk, rate, 0.0))


def _calibration(watched: _Watched) -> Finding:
    """Compare how often the event came with what the model says of the same intervals."""
    asked = watched.since
    if len(asked) == 0:
        return _too_few("calibration", 0, "asked about since the model was made")
    since = asked.expose(watched.store, None)
    hazards = expit(watched.bundle.hazards(asked.frame))
    finding = _ratio("calibration", asked, since, np.where(since.at_risk, hazards, 0.0))
    if finding.state in (State.WATCH, State.ACT) and finding.value is not None:
        return replace(finding, money=watched.money(finding.value.value))
    return finding


def _ratio(kind: str, asked: Questions, seen: Exposure, expected: Floats) -> Finding:
    came = seen.event.sum(axis=1).astype(np.float64)
    due = expected.sum(axis=1)
    if max(came.sum(), due.sum()) < FEWEST_OUTCOMES:
        return _too_few(kind, int(came.sum()), "seen since the model was made")
    ratio = ratio_by_entity(came, due, asked.account)
    by_chance = ratio.low <= 1 <= ratio.high
    size = 1.0 if by_chance else max(ratio.value, 1 / max(ratio.value, 1e-9))
    return Finding(
        kind=kind,
        state=_state_of(size, RATIO_TO_WATCH, RATIO_TO_ACT),
        value=ratio,
        watch_from=RATIO_TO_WATCH,
        act_from=RATIO_TO_ACT,
        evidence={
            "came": int(came.sum()),
            "expected": round(float(due.sum()), 1),
            "records": _records(asked),
        },
    )


def _performance(watched: _Watched, promise: Promise | None) -> Finding:
    """Judge the stored predictions whose whole window is over, as they were made."""
    cohort, said, days = _predictions_as_made(watched)
    if len(cohort) == 0:
        return _too_few("performance", 0, "whose whole window is over among stored predictions")
    frame = watched.asked.frame.iloc[:0]
    if watched.task.own_horizon is not None:
        frame = build_frame(watched.store, cohort, watched.features)
    asked = Questions(
        task=watched.task,
        cohort=cohort,
        frame=frame,
        account=cohort.ids,
        weight=np.ones(len(cohort)),
        own_days=own_days(watched.task, frame),
    )
    answer = answers(watched.store, asked, watched.bundle.horizon_days)
    over = answer.over if asked.own_days is None else answer.over & (asked.own_days == days)
    happened = answer.happened[over]
    if min(happened.sum(), (~happened).sum()) < FEWEST_OUTCOMES:
        return _too_few(
            "performance", int(happened.sum()), "whose whole window is over among stored predictions"
        )
    found = measure(said[over], Judged(happened=happened, entity=cohort.ids[over]))
    return Finding(
        kind="performance",
        state=_kept(found, promise),
        value=found["auc"],
        watch_from=None if promise is None else promise.auc.value,
        act_from=None if promise is None else promise.auc.low,
        evidence={
            "predictions": int(over.sum()),
            "outcomes": int(happened.sum()),
            "metrics": {name: estimate.to_json() for name, estimate in found.items()},
        },
    )


def _kept(found: Mapping[str, Estimate], promise: Promise | None) -> State:
    """Return whether the model is as good as it was judged to be, and better than the base rate."""
    rate = found["base_rate"].value
    without = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    if found["log_loss"].low > without:
        return State.ACT
    if promise is None:
        return State.OK
    if found["auc"].high < promise.auc.low:
        return State.ACT
    return State.WATCH if found["auc"].value < promise.auc.low else State.OK


def _predictions_as_made(watched: _Watched) -> tuple[Cohort, Floats, Ints]:
    """Return the first prediction of each record in each month, whichever model made it; asked when made.

    The probability, and of how many days it is: of the model's horizon, or of each record's own.
    """
    latest = watched.now - watched.bundle.horizon_days * DAY
    same = Prediction.horizon_days == watched.bundle.horizon_days
    asked_for = same if watched.task.own_horizon is None else true()
    newest = (
        select(func.min(Prediction.id).label("id"))
        .where(
            Prediction.task == watched.bundle.task,
            asked_for,
            Prediction.probability.is_not(None),
            Prediction.as_of <= instant(latest),
        )
        .group_by(Prediction.record_id, Prediction.as_of)
        .subquery()
    )
    query = (
        select(
            Prediction.record_id,
            Prediction.as_of,
            Prediction.recorded_at,
            Prediction.probability,
            Prediction.horizon_days,
        )
        .join(newest, newest.c.id == Prediction.id)
        .order_by(Prediction.record_id, Prediction.as_of)
    )
    with watched.store.reading() as session:
        rows = read_arrays(session, query)
    made_late = rows["recorded_at"] - rows["as_of"] > AS_MADE // timedelta(microseconds=1)
    rows = {name: column[~made_late] for name, column in rows.items()}
    month = rows["as_of"].astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    _, first = np.unique(np.stack([rows["record_id"], month]), axis=1, return_index=True)
    cohort = Cohort.of(watched.bundle.record_type, rows["record_id"][first], rows["as_of"][first])
    said = np.asarray(rows["probability"][first], dtype=np.float64)
    return cohort, said, rows["horizon_days"][first]


def _shares_of_what_is_said(bundle: ModelBundle, frame: DataFrame) -> dict[str, float]:
    """Return each feature's share of the sum of all reasons' sizes."""
    sizes = np.abs(bundle.explain(frame).parts).mean(axis=0)
    whole = max(float(sizes.sum()), 1e-12)
    return dict(zip(bundle.encoder.features, (sizes / whole).tolist(), strict=True))


def _shift(before: DataFrame, since: DataFrame, name: str, sizes: tuple[int, int]) -> Shift:
    first, second = before[name].to_numpy(), since[name].to_numpy()
    if first.dtype.kind == "O":
        return shift_of_words(first.tolist(), second.tolist(), records=sizes)
    return shift_of_numbers(first.astype(np.float64), second.astype(np.float64), records=sizes)


def _state_of(size: float, watch_from: float, act_from: float) -> State:
    return State.ACT if size >= act_from else State.WATCH if size >= watch_from else State.OK


def _too_few(kind: str, found: int, what: str) -> Finding:
    why = f"{found} outcomes {what}; {FEWEST_OUTCOMES} are needed"
    return Finding(kind=kind, state=State.UNKNOWN, why=why)


def _among(cohort: Cohort, other: Cohort) -> Bools:
    """Return which questions of a cohort are in another one, too."""
    both = [np.stack([one.ids, one.as_of], axis=1) for one in (cohort, other)]
    _, place = np.unique(np.concatenate(both), axis=0, return_inverse=True)
    return np.isin(place[: len(cohort)], place[len(cohort) :])


def _records(asked: Questions) -> int:
    return len(np.unique(asked.cohort.ids))


def _json_of(shift: Shift) -> dict[str, Any]:
    return {
        "index": round(shift.index, 4),
        "by_chance": round(shift.by_chance, 4),
        "bins": list(shift.bins),
        "before": list(shift.before),
        "after": list(shift.after),
    }


# ---------------------------------------------------------------- whether to train

MORE_OUTCOMES = 0.25
"""Outcomes since a model was made, as a share of those it learned from, that are worth another training."""

OLD_DAYS = 180
"""Days after which a model is made anew if there is anything new to learn from."""


_REASONS = {
    "calibration": "calibration: the event came {value:.2f} times as often as the model says",
    "performance": "performance: stored predictions had an AUC of {value:.2f}, or lost to the base rate",
}


def reasons_to_train(report: WatchReport) -> Sequence[str]:
    """Return why a model should be trained again; nothing if it should not."""
    reasons = [
        _REASONS[finding.kind].format(value=finding.value.value)
        for finding in report.findings
        if finding.state is State.ACT and finding.kind in _REASONS and finding.value is not None
    ]
    wanted = max(FEWEST_OUTCOMES, MORE_OUTCOMES * report.taught_outcomes)
    if report.new_outcomes >= wanted:
        reasons.append(f"{report.new_outcomes} outcomes since it was made, {wanted:.0f} are worth a training")
    days = (report.asked_at - report.made_as_of) // DAY
    if days >= OLD_DAYS and report.new_outcomes:
        reasons.append(f"{days} days old, {OLD_DAYS} is the most")
    return reasons
