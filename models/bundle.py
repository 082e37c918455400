"""A model as one file of plain data: what it reads, what it says, how sure it may be, and where it came from.

The bytes are canonical JSON: the same model is the same bytes, and their SHA-256 is its name. Nothing in
them is executed; they are read only after their SHA-256 was found to be the one asked for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.columns import dump_json
from crm_core.errors import DamagedModelError
from models.encoding import Encoder
from models.estimators import Effects, Estimator
from models.hazard import Floats, Ints, expit, log_odds_within, share_of_intervals, slopes_within

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT = 1
"""Raised when a file written before can no longer be read."""

GRADES = "ABCD"
"""Best to worst."""

_NODES = 12
"""Gauss-Legendre nodes along the way from the average row: exact to about 1e-13 for hazards that occur."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A correction of the hazards: logit h' = intercept + slope * logit h."""

    intercept: float = 0.0
    slope: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Answers for n rows.

    `probability`: float64[n], within the model's own horizon. `log_odds`: its log-odds. `within`: the same
    for every horizon in days that the model reports. `rank`: int64[n], 0-100, the place among the records
    that were open when it was trained.
    """

    probability: Floats
    log_odds: Floats
    within: dict[int, Floats]
    rank: Ints


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
    `trained` says on what. `version` is not part of the bytes.
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
    version: str = ""

    def predict(self, frame: DataFrame) -> Scores:
        """Return the answers for a frame made by `build_frame`."""
        return self.predict_encoded(self.encoder.encode(frame))

    def predict_encoded(self, matrix: Floats) -> Scores:
        """Return the answers for encoded rows: float64[n, columns of the encoder]."""
        hazards = self._hazards(self.estimator.effects(matrix))
        within = {days: expit(log_odds_within(hazards, self._share(days))) for days in self.horizons_days}
        log_odds = log_odds_within(hazards, self._share(self.horizon_days))
        probability = expit(log_odds)
        return Scores(probability=probability, log_odds=log_odds, within=within, rank=self._rank(probability))

    def explain(self, frame: DataFrame) -> Explanation:
        """Return what each feature adds to the log-odds of the probability shown.

        Along the straight way from the average row to this one, each feature is given what its effect moves
        (Aumann and Shapley's rule); what limits cut off is taken from all in proportion.
        """
        found = self.estimator.contributions(self.encoder.encode(frame))
        start = Effects(
            lasting=np.full(len(frame), found.average_lasting), early=np.full(len(frame), found.average_early)
        )
        lasting, early = found.lasting.sum(axis=1), found.early.sum(axis=1)
        there = Effects(lasting=start.lasting + lasting, early=start.early + early)
        share = self._share(self.horizon_days)
        base = log_odds_within(self._hazards(start), share)
        log_odds = log_odds_within(self._hazards(there), share)
        rates = self._rates_between(start, there, share)
        columns = found.lasting * rates.lasting[:, None] + found.early * rates.early[:, None]
        parts = _scaled_to(self._by_feature(columns), log_odds - base)
        average = float(base[0]) if len(frame) else float("nan")
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
        raw = self.levels + effects.on_hazards(self.fading)
        return self.calibration.intercept + self.calibration.slope * raw

    def _rates_between(self, start: Effects, there: Effects, share: Floats) -> Effects:
        """Return the mean change of the log-odds by a lasting and an early effect along the way."""
        nodes, weights = _rule()
        far = (nodes[:, None] + 1) / 2
        on_the_way = Effects(
            lasting=(start.lasting + far * (there.lasting - start.lasting)).ravel(),
            early=(start.early + far * (there.early - start.early)).ravel(),
        )
        slopes = slopes_within(self._hazards(on_the_way), share).reshape(_NODES, -1, len(share))
        # Added up in one order, which a matrix product does not promise: alone as among others, to the bit.
        mean = np.cumsum(slopes * (weights / 2 * self.calibration.slope)[:, None, None], axis=0)[-1]
        return Effects(
            lasting=np.cumsum(mean, axis=1)[:, -1], early=np.cumsum(mean * self.fading, axis=1)[:, -1]
        )

    def _share(self, days: int) -> Floats:
        return share_of_intervals(self.intervals_days, days)

    def _rank(self, probability: Floats) -> Ints:
        below = np.searchsorted(self.percentiles, probability, side="left")
        upto = np.searchsorted(self.percentiles, probability, side="right")
        return np.asarray(np.clip((below + upto) // 2, 0, 100), dtype=np.int64)

    def _by_feature(self, columns: Floats) -> Floats:
        names = self.encoder.features
        place = {name: position for position, name in enumerate(names)}
        parts = np.zeros((len(columns), len(names)))
        for position, column in enumerate(self.encoder.columns):
            parts[:, place[column.feature]] += columns[:, position]
        return parts

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
            "calibration": {"intercept": self.calibration.intercept, "slope": self.calibration.slope},
            "percentiles": self.percentiles.tolist(),
            "grade_from": list(self.grade_from),
            "trained": self.trained,
        }


@cache
def _rule() -> tuple[Floats, Floats]:
    """Return the nodes, on [-1, 1], and weights of the Gauss-Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
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
        msg = f"expected format {FORMAT}, got {data['format']!r}"
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
        calibration=Calibration(**data["calibration"]),
        percentiles=np.array(data["percentiles"], dtype=np.float64),
        grade_from=tuple(data["grade_from"]),
        trained=data["trained"],
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
    numbers = [bundle.levels, bundle.fading, bundle.percentiles]
    numbers.append(np.array(list(vars(bundle.calibration).values())))
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
    if type(bundle.trained["as_of"]) is not int:
        msg = "expected to be told as of when it was trained"
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
    for horizon in bundle.horizons_days:
        share_of_intervals(bundle.intervals_days, horizon)
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


def _scaled_to(parts: Floats, total: Floats) -> Floats:
    """Return parts that add up to `total`: the difference is shared in proportion to their sizes."""
    sizes = np.abs(parts)
    whole = sizes.sum(axis=1)
    share = np.divide(sizes, whole[:, None], out=np.zeros_like(sizes), where=whole[:, None] > 0)
    return np.asarray(parts + share * (total - parts.sum(axis=1))[:, None], dtype=np.float64)
