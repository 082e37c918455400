"""A model as one file of plain data: what it reads, what it says, how sure it may be, and where it came from.

The bytes are canonical JSON: the same model is the same bytes, and their SHA-256 is its name. Nothing in
them is executed; they are read only after their SHA-256 was found to be the one asked for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.columns import dump_json
from crm_core.errors import DamagedModelError
from models.encoding import Encoder
from models.estimators import Effects, Estimator, LinearParts
from models.familiar import Familiar
from models.hazard import (
    Floats,
    Ints,
    expected_days,
    expit,
    log_odds_within,
    share_of_intervals,
    slopes_within,
)
from models.later import Later
from models.usual import Usual

if TYPE_CHECKING:
    from features.rows import Frame

FORMAT = 2
"""Raised when a file written before can no longer be read."""

GRADES = "ABCD"
"""Best to worst."""

_NODES = 12
"""Gauss-Legendre nodes along the way from the average row: exact to about 1e-13 for hazards that occur."""

_NODES_OVER_KNOTS = 48
"""Nodes where the correction has corners, between which alone the rule is exact."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising correction of the hazards: logit h' = intercept + slope * logit h.

    With `knots`, pairs of logit h and logit h' that both rise, it runs straight from knot to knot instead,
    and beyond the first and the last one with `slope`.
    """

    intercept: float = 0.0
    slope: float = 1.0
    knots: tuple[tuple[float, float], ...] = ()

    @property
    def method(self) -> str:
        """Return what it is called: `isotonic` or `platt`."""
        return "isotonic" if self.knots else "platt"

    def apply(self, log_odds: Floats) -> Floats:
        """Return the corrected log-odds, of any shape."""
        if not self.knots:
            return np.asarray(self.intercept + self.slope * log_odds, dtype=np.float64)
        said, found = self._axes
        beyond = log_odds - np.clip(log_odds, said[0], said[-1])
        return np.asarray(np.interp(log_odds, said, found) + self.slope * beyond, dtype=np.float64)

    def rates(self, log_odds: Floats) -> Floats:
        """Return how fast the corrected log-odds rise there; at a knot, as on its right."""
        if not self.knots:
            return np.full(log_odds.shape, self.slope)
        said, found = self._axes
        rates = np.concatenate([[self.slope], np.diff(found) / np.diff(said), [self.slope]])
        return np.asarray(rates[np.searchsorted(said, log_odds, side="right")], dtype=np.float64)

    @cached_property
    def _axes(self) -> tuple[Floats, Floats]:
        knots = np.array(self.knots, dtype=np.float64)
        return knots[:, 0], knots[:, 1]

    def check(self) -> None:
        """Raise ValueError for a correction that is not finite or does not rise."""
        if not all(map(np.isfinite, (self.intercept, self.slope))):
            msg = "expected finite numbers throughout"
            raise ValueError(msg)
        if self.slope <= 0:
            msg = f"expected a calibration that rises, got a slope of {self.slope:g}"
            raise ValueError(msg)
        if self.knots and not (
            np.isfinite(self._axes).all() and all((np.diff(axis) > 0).all() for axis in self._axes)
        ):
            msg = "expected a calibration that rises from knot to knot"
            raise ValueError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "intercept": self.intercept,
            "slope": self.slope,
            "knots": [list(knot) for knot in self.knots],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Return what `to_json` described."""
        knots = tuple((float(said), float(found)) for said, found in data["knots"])
        return cls(intercept=float(data["intercept"]), slope=float(data["slope"]), knots=knots)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Answers for n rows.

    `probability`: float64[n], within the model's own horizon. `log_odds`: its log-odds. `within`: the same
    for every horizon in days that the model reports, never less for a longer one. `rank`: int64[n], 0-100,
    the place among the records that were open when it was trained. `expected_days`: float64[n], the mean
    days until the event given that it happens within the longest horizon reported; NaN throughout where the
    model does not tell when within its horizon.
    """

    probability: Floats
    log_odds: Floats
    within: dict[int, Floats]
    rank: Ints
    expected_days: Floats


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why: `base`, the average row's log-odds, plus the sum of a row of `parts` is that row's log-odds.

    `parts` is float64[n, features], in log-odds of the probability shown; `features` names its columns;
    `log_odds` is float64[n].
    """

    base: float
    parts: Floats
    features: tuple[str, ...]
    log_odds: Floats


@dataclass(frozen=True, kw_only=True)
class ModelBundle:
    """A fitted, calibrated model of one task.

    `levels` and `fading` are float64[K], see `models.hazard`. `percentiles` is float64[101], the
    probabilities of the records open at training. `grade_from` holds the lowest ranks of grades A, B and C.
    `trained` says on what, `usual` what was usual there. `later` is the interval of a horizon beyond the last
    of `intervals_days`. `not_reported` has the horizons that the task has and the model does not report, with
    how many records have been followed for so long. `familiar` tells records unlike any it learned from.
    `version` is not part of the bytes.
    """

    task: str
    variant: str
    record_type: str
    horizon_days: int
    horizons_days: tuple[int, ...]
    intervals_days: tuple[int, ...]
    high_is_good: bool
    feature_set_fingerprint: str
    features: tuple[str, ...]
    encoder: Encoder
    estimator: Estimator
    levels: Floats
    fading: Floats
    calibration: Calibration
    percentiles: Floats
    grade_from: tuple[int, ...]
    trained: dict[str, Any]
    later: Later | None = None
    not_reported: dict[int, int] = field(default_factory=dict)
    usual: Usual = field(default_factory=Usual)
    familiar: Familiar = field(default_factory=Familiar)
    version: str = ""

    @property
    def says_probability(self) -> bool:
        """Tell whether outcomes are behind it; without, it ranks by opinion, and claims no probability."""
        return bool(self.trained["says_probability"])

    @property
    def step(self) -> str | None:
        """Return the rung of the ladder that it stands on; None for files written before that was noted."""
        found: str | None = self.trained.get("step")
        return found

    @property
    def minimum(self) -> int | None:
        """Return how many outcomes, and records without, it takes to say a probability."""
        found: int | None = self.trained.get("minimum")
        return found

    def predict(self, frame: Frame) -> Scores:
        """Return the answers for a frame made by `build_frame`."""
        return self.predict_encoded(self.encoder.encode(frame))

    def predict_encoded(self, matrix: Floats, parts: LinearParts | None = None) -> Scores:
        """Return the answers for encoded rows: float64[n, columns of the encoder].

        `parts` are those of the rows, where they are known already.
        """
        hazards = self._hazards(self.estimator.effects(matrix, parts))
        log_odds = log_odds_within(hazards, self._share(self.horizon_days))
        probability = expit(log_odds)
        return Scores(
            probability=probability,
            log_odds=log_odds,
            within=self._within(hazards, probability),
            rank=self._rank(probability),
            expected_days=self._expected_days(hazards),
        )

    def hazards(self, frame: Frame) -> Floats:
        """Return the calibrated log-odds of the hazards of each interval: float64[n, K]."""
        return self._hazards(self.estimator.effects(self.encoder.encode(frame)))

    def explain(self, frame: Frame) -> Explanation:
        """Return why, for a frame made by `build_frame`."""
        return self.explain_encoded(self.encoder.encode(frame))

    def explain_encoded(self, matrix: Floats, known: LinearParts | None = None) -> Explanation:
        """Return what each feature adds to the log-odds of the probability shown.

        Along the straight way from the average row to this one, each feature is given what its effect moves
        (Aumann and Shapley's rule); what limits cut off is taken from all in proportion.
        """
        found = self.estimator.contributions(matrix, known)
        start = Effects(
            lasting=np.full(len(matrix), found.average_lasting),
            early=np.full(len(matrix), found.average_early),
        )
        lasting, early = found.lasting.sum(axis=1), found.early.sum(axis=1)
        there = Effects(
            lasting=start.lasting + lasting,
            early=start.early + early,
            due=None if found.due is None else found.due.sum(axis=1),
            falls=found.falls,
            aged=found.aged,
        )
        share = self._share(self.horizon_days)
        base = log_odds_within(self._hazards(start), share)
        log_odds = log_odds_within(self._hazards(there), share)
        rates = self._rates_between(start, there, share)
        columns = found.lasting * rates.lasting[:, None] + found.early * rates.early[:, None]
        if found.due is not None and rates.due is not None:
            columns = columns + found.due * rates.due[:, None]
        if found.aged is not None and rates.aged is not None:
            columns[:, found.aged_by] += np.cumsum(found.aged * rates.aged, axis=1)[:, -1]
        parts = _scaled_to(self._by_feature(columns), log_odds - base)
        average = float(base[0]) if len(matrix) else float("nan")
        return Explanation(base=average, parts=parts, features=self.encoder.features, log_odds=log_odds)

    def grade(self, rank: int) -> str:
        """Return A (best) to D of a rank; where a high probability is bad, high ranks get low grades."""
        good = rank if self.high_is_good else 100 - rank
        below = sum(good < lowest for lowest in self.grade_from)
        return GRADES[below]

    def to_bytes(self) -> bytes:
        """Return the file of this model."""
        return dump_json(self._to_json()).encode()

    @cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of the file."""
        return sha256_of(self.to_bytes())

    def _hazards(self, effects: Effects) -> Floats:
        return self.calibration.apply(self._raw(effects))

    def _raw(self, effects: Effects) -> Floats:
        return self.levels + effects.on_hazards(self.fading)

    def _within(self, hazards: Floats, shown: Floats) -> dict[int, Floats]:
        """Return the probabilities of all horizons; where rounding lets two cross, the one shown holds."""
        found = {self.horizon_days: shown}
        for days in sorted(self.horizons_days):
            if days > self.horizon_days:
                found[days] = np.maximum(self._chance(hazards, days), found[max(found)])
        for days in sorted(self.horizons_days, reverse=True):
            if days < self.horizon_days:
                found[days] = np.minimum(self._chance(hazards, days), found[min(found)])
        return {days: found[days] for days in sorted(found)}

    def _chance(self, hazards: Floats, days: int) -> Floats:
        if days <= self.intervals_days[-1]:
            return expit(log_odds_within(hazards, self._share(days)))
        ends, extended = self._extended(hazards)
        return expit(log_odds_within(extended, share_of_intervals(ends, days)))

    def _extended(self, hazards: Floats) -> tuple[tuple[int, ...], Floats]:
        """Return the ends and hazards of all intervals, the later one included."""
        if self.later is None:
            return self.intervals_days, hazards
        after = self.later.hazard(hazards[:, -1])
        return (*self.intervals_days, self.later.end_days), np.column_stack([hazards, after])

    def _expected_days(self, hazards: Floats) -> Floats:
        ends, extended = self._extended(hazards)
        known = sum(end <= max(self.horizons_days) for end in ends)
        if known <= 1:
            return np.full(len(hazards), np.nan)
        return expected_days(extended[:, :known], ends[:known])

    def _rates_between(self, start: Effects, there: Effects, share: Floats) -> Effects:
        """Return the mean change of the log-odds by a lasting, an early and a due effect along the way."""
        nodes, weights = _rule(_NODES_OVER_KNOTS if self.calibration.knots else _NODES)
        far = (nodes[:, None] + 1) / 2
        on_the_way = Effects(
            lasting=(start.lasting + far * (there.lasting - start.lasting)).ravel(),
            early=(start.early + far * (there.early - start.early)).ravel(),
            due=None if there.due is None else (far * there.due).ravel(),
            falls=None if there.falls is None else np.tile(there.falls, (len(nodes), 1)),
            aged=None if there.aged is None else np.concatenate(list(far[:, :, None] * there.aged)),
        )
        raw = self._raw(on_the_way)
        slopes = slopes_within(self.calibration.apply(raw), share) * self.calibration.rates(raw)
        slopes = slopes.reshape(len(nodes), -1, len(share))
        # Added up in one order, which a matrix product does not promise: alone as among others, to the bit.
        mean = np.cumsum(slopes * (weights / 2)[:, None, None], axis=0)[-1]
        return Effects(
            lasting=np.cumsum(mean, axis=1)[:, -1],
            early=np.cumsum(mean * self.fading, axis=1)[:, -1],
            due=None if there.falls is None else np.cumsum(mean * there.falls, axis=1)[:, -1],
            aged=mean,
        )

    def _share(self, days: int) -> Floats:
        share = self._shares.get(days)
        if share is None:
            share = self._shares[days] = share_of_intervals(self.intervals_days, days)
        return share

    @cached_property
    def _shares(self) -> dict[int, Floats]:
        return {}

    def _rank(self, probability: Floats) -> Ints:
        below = np.searchsorted(self.percentiles, probability, side="left")
        upto = np.searchsorted(self.percentiles, probability, side="right")
        return np.asarray(np.clip((below + upto) // 2, 0, 100), dtype=np.int64)

    def _by_feature(self, columns: Floats) -> Floats:
        parts = np.zeros((len(columns), len(self.encoder.features)))
        for positions, places in self._columns_to_add:
            parts[:, places] += columns[:, positions]
        return parts

    @cached_property
    def _columns_to_add(self) -> list[tuple[Ints, Ints]]:
        """The first columns of all features, with the places of these, then the second ones and so on."""
        place = {name: position for position, name in enumerate(self.encoder.features)}
        met: dict[str, int] = {}
        turns: list[list[tuple[int, int]]] = []
        for position, column in enumerate(self.encoder.columns):
            turn = met[column.feature] = met.get(column.feature, -1) + 1
            turns += [[]] if turn == len(turns) else []
            turns[turn].append((position, place[column.feature]))
        return [
            (
                np.array([at for at, _ in turn], dtype=np.int64),
                np.array([to for _, to in turn], dtype=np.int64),
            )
            for turn in turns
        ]

    def _to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "task": self.task,
            "variant": self.variant,
            "record_type": self.record_type,
            "horizon_days": self.horizon_days,
            "horizons_days": list(self.horizons_days),
            "intervals_days": list(self.intervals_days),
            "high_is_good": self.high_is_good,
            "feature_set_fingerprint": self.feature_set_fingerprint,
            "features": list(self.features),
            "encoder": self.encoder.to_json(),
            "estimator": self.estimator.to_json(),
            "levels": self.levels.tolist(),
            "fading": self.fading.tolist(),
            "calibration": self.calibration.to_json(),
            "percentiles": self.percentiles.tolist(),
            "grade_from": list(self.grade_from),
            "trained": self.trained,
            "later": None if self.later is None else self.later.to_json(),
            "familiar": self.familiar.to_json(),
            "not_reported": {str(days): records for days, records in self.not_reported.items()},
            "usual": self.usual.to_json(),
        }


@cache
def _rule(count: int) -> tuple[Floats, Floats]:
    """Return the nodes, on [-1, 1], and weights of the Gauss-Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


_WRONG = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    ArithmeticError,
    RecursionError,
)
"""What comes of reading a file that is no model, however it was made."""


def load_bundle(data: bytes, sha256: str, *, version: str = "") -> ModelBundle:
    """Return the model in `data` if its SHA-256 is `sha256`; raise DamagedModelError otherwise."""
    found = sha256_of(data)
    if found != sha256:
        msg = f"expected a model file with SHA-256 {sha256}, got {found} ({len(data)} bytes)"
        raise DamagedModelError(msg)
    try:
        bundle = _from_json(json.loads(data), version or f"unregistered-{sha256[:8]}")
        _check(bundle)
    except _WRONG as error:
        msg = f"the model file with SHA-256 {sha256} is not one this program reads: {error}"
        raise DamagedModelError(msg) from error
    return bundle


def _from_json(data: dict[str, Any], version: str) -> ModelBundle:
    if data["format"] != FORMAT:
        msg = f"expected format {FORMAT}, got {data['format']!r}: train again (crm train)"
        raise ValueError(msg)
    return ModelBundle(
        task=data["task"],
        variant=data["variant"],
        record_type=data["record_type"],
        horizon_days=data["horizon_days"],
        horizons_days=tuple(data["horizons_days"]),
        intervals_days=tuple(data["intervals_days"]),
        high_is_good=data["high_is_good"],
        feature_set_fingerprint=data["feature_set_fingerprint"],
        features=tuple(data["features"]),
        encoder=Encoder.from_json(data["encoder"]),
        estimator=Estimator.from_json(data["estimator"]),
        levels=np.array(data["levels"], dtype=np.float64),
        fading=np.array(data["fading"], dtype=np.float64),
        calibration=Calibration.from_json(data["calibration"]),
        percentiles=np.array(data["percentiles"], dtype=np.float64),
        grade_from=tuple(data["grade_from"]),
        trained=data["trained"],
        later=Later.from_json(data["later"]),
        not_reported={int(days): records for days, records in data["not_reported"].items()},
        usual=Usual.from_json(data["usual"]),
        familiar=Familiar.from_json(data["familiar"]),
        version=version,
    )


def _check(bundle: ModelBundle) -> None:
    """Raise ValueError for parts that do not fit together."""
    intervals = len(bundle.intervals_days)
    for name, length in (("levels", intervals), ("fading", intervals), ("percentiles", 101)):
        found = getattr(bundle, name)
        if found.shape != (length,):
            msg = f"expected {length} {name}, got {found.shape}"
            raise ValueError(msg)
    _check_words(bundle)
    _check_order(bundle)
    bundle.estimator.check(len(bundle.encoder.columns))
    bundle.calibration.check()
    numbers = [bundle.levels, bundle.fading, bundle.percentiles]
    if bundle.later is not None:
        numbers.append(np.array(list(vars(bundle.later).values()), dtype=np.float64))
    _check_horizons(bundle)
    if not all(np.isfinite(part).all() for part in numbers):
        msg = "expected finite numbers throughout"
        raise ValueError(msg)


def _check_words(bundle: ModelBundle) -> None:
    """Raise ValueError for names that are none, or that do not fit one another."""
    words = (
        bundle.task,
        bundle.variant,
        bundle.record_type,
        bundle.feature_set_fingerprint,
        *bundle.features,
    )
    if not all(isinstance(word, str) for word in words) or not isinstance(bundle.high_is_good, bool):
        msg = "expected names to be texts, and high_is_good to be true or false"
        raise ValueError(msg)
    columns = [column.name for column in bundle.encoder.columns]
    for what, names in (("features", bundle.features), ("columns", columns)):
        if len(set(names)) != len(names):
            msg = f"expected {what} that are all different"
            raise ValueError(msg)
    if unread := set(bundle.encoder.features) - set(bundle.features):
        msg = f"columns of features that it does not read: {', '.join(sorted(unread))}"
        raise ValueError(msg)
    told = {"as_of": int, "says_probability": bool}
    if any(type(bundle.trained[name]) is not kind for name, kind in told.items()):
        msg = "expected to be told as of when it was trained, and whether it says a probability"
        raise ValueError(msg)


def _check_order(bundle: ModelBundle) -> None:
    """Raise ValueError for days, percentiles or grades that are not in their order or out of their range."""
    days: tuple[Any, ...] = (*bundle.intervals_days, *bundle.horizons_days, bundle.horizon_days)
    if not all(isinstance(day, int) and day > 0 for day in days) or not bundle.intervals_days:
        msg = "expected days to be whole and above 0"
        raise ValueError(msg)
    rising = (bundle.intervals_days, bundle.horizons_days)
    if (
        any(list(some) != sorted(set(some)) for some in rising)
        or bundle.horizon_days not in bundle.horizons_days
    ):
        msg = "expected intervals and horizons that rise, the own horizon among them"
        raise ValueError(msg)
    percentiles = bundle.percentiles
    if not ((np.diff(percentiles) >= 0).all() and percentiles.min() >= 0 and percentiles.max() <= 1):
        msg = "expected percentiles that rise from 0 to 1 at most"
        raise ValueError(msg)
    lowest: tuple[Any, ...] = bundle.grade_from
    if len(lowest) != len(GRADES) - 1 or list(lowest) != sorted(lowest, reverse=True):
        msg = f"expected {len(GRADES) - 1} lowest ranks of grades, from high to low"
        raise ValueError(msg)
    if not all(isinstance(rank, int) and 0 <= rank <= 100 for rank in lowest):
        msg = "expected lowest ranks from 0 to 100"
        raise ValueError(msg)


def _check_horizons(bundle: ModelBundle) -> None:
    """Raise ValueError for horizons that the intervals do not reach."""
    last = bundle.intervals_days[-1] if bundle.later is None else bundle.later.end_days
    if bundle.horizon_days not in bundle.horizons_days or max(bundle.horizons_days) > last:
        msg = f"expected horizons of at most {last} days, got {bundle.horizons_days}"
        raise ValueError(msg)


def _scaled_to(parts: Floats, total: Floats) -> Floats:
    """Return parts that add up to `total`: the difference is shared in proportion to their sizes."""
    sizes = np.abs(parts)
    whole = sizes.sum(axis=1)
    share = np.divide(sizes, whole[:, None], out=np.zeros_like(sizes), where=whole[:, None] > 0)
    return np.asarray(parts + share * (total - parts.sum(axis=1))[:, None], dtype=np.float64)
