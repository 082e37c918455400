"""Whether a new model may replace the one that serves: compared on rows that neither has learned from.

Three things are asked on the same rows, each with the error of saying so: is its log loss higher, is it
calibrated worse, is it worse in any sizeable segment. What is worse by more than noise, and by more than is
negligible, keeps it out. Segments are many, so noise alone would find a bad one: Holm's rule holds the
chance of any false alarm to five per cent. An old champion is no reason to promote.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.errors import ModelError
from crm_core.store import Store
from models.bundle import ModelBundle
from models.encoding import is_missing
from models.evaluation import Estimate, Judged, compare_calibration, compare_losses, loss_of
from models.hazard import Bools, Floats, Ints
from models.questions import Questions, answers
from models.scoring import features_of

if TYPE_CHECKING:
    from pandas import DataFrame

FEWEST_OUTCOMES = 20
"""Outcomes that neither model knew, below which nothing is decided, of all or of a segment."""

NEGLIGIBLE = 0.01
"""Share of the champion's loss that a challenger may be worse by even if that is no noise."""

NEGLIGIBLE_IN_SEGMENT = 0.02
"""The same in one segment."""

NEGLIGIBLE_CALIBRATION = 0.01
"""Calibration error, in probability, that a challenger may have more."""

FALSE_ALARMS = 0.05
"""The chance that any segment is called worse where none is."""

SEGMENTS = ("source", "region", "industry", "stage", "account_region", "account_industry", "owner_team")
"""Features whose values are segments, where a model's questions have them."""

_MOST_SEGMENTS = 12
"""Values of one field that are looked at, those with most questions."""


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """One segment: how much lower the challenger's log loss is, how sure that is, and whether it is worse.

    `p` is the chance to see a loss so much higher, or more so, where there is no difference.
    """

    field: str
    level: str
    questions: int
    outcomes: int
    gain: float
    p: float
    worse: bool = False


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Whether the challenger may serve, why, and what was compared with which champion.

    `gain` is how much lower its log loss is, `calibration` how much lower its calibration error (None: not
    compared). `shadow` is what was seen while it scored beside the champion.
    """

    passed: bool
    reason: str
    champion: str | None = None
    questions: int = 0
    outcomes: int = 0
    gain: Estimate | None = None
    calibration: Estimate | None = None
    segments: tuple[SegmentResult, ...] = ()
    shadow: Mapping[str, Any] | None = None

    @property
    def decided(self) -> bool:
        """Tell whether the two were really compared."""
        return self.gain is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "champion": self.champion,
            "questions": self.questions,
            "outcomes": self.outcomes,
            "gain": None if self.gain is None else self.gain.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "segments": [vars(segment) for segment in self.segments],
            "shadow": self.shadow,
        }


def compare_models(
    store: Store, challenger: ModelBundle, champion: ModelBundle, judged: Questions
) -> GateResult:
    """Compare two models on questions asked after one, and answered after the other, was made.

    The challenger passes unless it is worse, calibrated worse, or worse in a segment, by more than noise and
    by more than is negligible. Where one of them is a scorecard there is no probability to compare: the
    other one is preferred, and of two scorecards the challenger.
    """
    try:
        features_of(store, champion)
    except ModelError as error:
        reason = f"the champion cannot serve any more: {error}"
        return GateResult(passed=True, reason=reason, champion=champion.version)
    if not champion.says_probability:
        return GateResult(passed=True, reason="the champion says no probability", champion=champion.version)
    if not challenger.says_probability:
        reason = "it says no probability, and the champion does"
        return GateResult(passed=False, reason=reason, champion=champion.version)
    days = min(challenger.horizon_days, champion.horizon_days)
    answer = answers(store, judged, days)
    rows = answer.over & _not_known(store, judged, champion, days)
    asked = judged.take(rows)
    seen = Judged(happened=answer.happened[rows], entity=asked.account)
    said = [_said(bundle, asked, days) for bundle in (champion, challenger)]
    result = compare_answers(said[0], said[1], seen, _segments(asked.frame))
    return replace(result, champion=champion.version)


def compare_answers(
    champion: Floats, challenger: Floats, judged: Judged, segments: Mapping[str, Sequence[Any]]
) -> GateResult:
    """Compare two models by what they said: probabilities float64[n], segments one value a question."""
    outcomes, many = int(judged.happened.sum()), len(judged)
    if min(outcomes, many - outcomes) < FEWEST_OUTCOMES:
        reason = f"only {outcomes} outcomes that neither model knew; {FEWEST_OUTCOMES} are needed"
        return GateResult(passed=False, reason=reason, questions=many, outcomes=outcomes)
    losses = loss_of(champion, judged.happened)
    others = loss_of(challenger, judged.happened)
    gain = compare_losses(losses, others, judged.entity)
    calibration = compare_calibration(champion, challenger, judged)
    found = tuple(_in_segments(losses, others, judged, segments))
    faults = list(_faults(gain, calibration, found, float(losses.mean())))
    return GateResult(
        passed=not faults,
        reason="; ".join(faults) or "no worse than the champion",
        questions=many,
        outcomes=outcomes,
        gain=gain,
        calibration=calibration,
        segments=found,
    )


def _faults(
    gain: Estimate, calibration: Estimate, segments: Sequence[SegmentResult], loss: float
) -> Iterator[str]:
    if gain.high < 0 and gain.value <= -NEGLIGIBLE * loss:
        yield "worse than the champion by more than noise"
    if calibration.high < 0 and calibration.value <= -NEGLIGIBLE_CALIBRATION:
        yield f"calibrated worse than the champion, by {-calibration.value:.3f}"
    for segment in segments:
        if segment.worse:
            yield f"worse than the champion where {segment.field} is {segment.level}, by more than noise"


def _segments(frame: DataFrame) -> dict[str, Sequence[Any]]:
    return {name: frame[name].tolist() for name in SEGMENTS if name in frame.columns}


def _in_segments(
    losses: Floats, others: Floats, judged: Judged, segments: Mapping[str, Sequence[Any]]
) -> Iterator[SegmentResult]:
    """Yield every segment that is large enough, those called worse by Holm's rule marked."""
    found: list[SegmentResult] = []
    rows_of: list[Bools] = []
    for field, values in segments.items():
        for level, rows in _levels(values):
            if _is_sizeable(judged.happened[rows]):
                found.append(_segment(field, level, losses[rows], others[rows], judged.take(rows)))
                rows_of.append(rows)
    alarming = _holm([segment.p for segment in found])
    for segment, rows, alarm in zip(found, rows_of, alarming, strict=True):
        negligible = segment.gain > -NEGLIGIBLE_IN_SEGMENT * float(losses[rows].mean())
        yield replace(segment, worse=bool(alarm and not negligible))


def _levels(values: Sequence[Any]) -> Iterator[tuple[str, Bools]]:
    named = np.array(["nothing" if is_missing(value) else str(value) for value in values], dtype=object)
    levels, counts = np.unique(named, return_counts=True)
    for place in np.argsort(-counts, kind="stable")[:_MOST_SEGMENTS]:
        yield str(levels[place]), np.asarray(named == levels[place], dtype=np.bool_)


def _is_sizeable(happened: Bools) -> bool:
    return min(int(happened.sum()), int((~happened).sum())) >= FEWEST_OUTCOMES


def _segment(field: str, level: str, losses: Floats, others: Floats, judged: Judged) -> SegmentResult:
    gain, error = _mean_and_error(losses - others, judged.entity)
    return SegmentResult(
        field=field,
        level=level,
        questions=len(judged),
        outcomes=int(judged.happened.sum()),
        gain=round(gain, 6),
        p=round(_below(gain / error) if error > 0 else 1.0, 6),
    )


def _mean_and_error(difference: Floats, entity: Ints) -> tuple[float, float]:
    """Return the mean of n numbers and its standard error, entities being drawn and not rows."""
    _, place = np.unique(entity, return_inverse=True)
    mean = float(difference.mean())
    rest = np.bincount(place, weights=difference - mean)
    return mean, float(np.sqrt((rest**2).sum())) / len(difference)


def _below(z: float) -> float:
    """Return the chance that a normal number is below z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _holm(p: Sequence[float]) -> list[bool]:
    """Return which of many tests alarm, so that any false alarm has the chance FALSE_ALARMS (Holm, 1979)."""
    alarms = [False] * len(p)
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[place] > FALSE_ALARMS / (len(p) - rank):
            break
        alarms[place] = True
    return alarms


def _not_known(store: Store, judged: Questions, champion: ModelBundle, days: int) -> Bools:
    """Return which questions had no answer yet when the champion was made."""
    return ~answers(store, judged, days, known_at=champion.trained["as_of"]).over


def _said(bundle: ModelBundle, asked: Questions, days: int) -> Floats:
    return bundle.predict(asked.frame[list(bundle.features)]).within[days]
