"""What the replays of a store taught, as plain data: kept, so that a forecast takes a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from crm_core.store import Store
from models.forecasting.amounts import learn_ratios
from models.forecasting.chances import learn_tail
from models.forecasting.periods import month_starts
from models.forecasting.replaying import CASES, LEVELS, Case, Correction, Past, Replay, Say, read_past
from models.forecasting.shock import NODES, Shock
from models.forecasting.simple import stage_rates
from models.hazard import Floats
from models.tasks import get_task

FORMAT = 1
"""Raised when what was kept before can no longer be used."""

LAST_REPLAYS = {"month": 12, "quarter": 8}
"""How many past periods are counted and shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What was learned at `as_of` (microseconds) from the history up to then.

    `corrections` and `replays` by the name of the case; a replay as `Replay.to_json` gives it, with how often
    ranges held what came in `coverage`: by case and percent, (inside, of). `tail`, `ratios`, `stage_rates`:
    see `chances`, `amounts`, `simple`. `left_out`: from when nothing could be replayed, and why.
    """

    as_of: int
    currency: str
    corrections: dict[str, Correction]
    replays: dict[str, list[dict[str, Any]]]
    coverage: dict[str, dict[int, tuple[int, int]]]
    ratios: Floats
    tail: float
    stage_rates: dict[str, float]
    left_out: tuple[str, ...]

    def correction(self, case: Case) -> Correction:
        """Return the correction of a case."""
        return self.corrections[case.name]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "format": FORMAT,
            "as_of": self.as_of,
            "currency": self.currency,
            "corrections": {
                name: {
                    "weights": one.shock.weights.tolist(),
                    "periods": one.shock.periods,
                    "widening": one.widening,
                }
                for name, one in self.corrections.items()
            },
            "replays": self.replays,
            "coverage": {
                name: {str(level): list(counts) for level, counts in levels.items()}
                for name, levels in self.coverage.items()
            },
            "ratios": self.ratios.tolist(),
            "tail": self.tail,
            "stage_rates": self.stage_rates,
            "left_out": list(self.left_out),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Learned:
        """Return what `to_json` described; raise ValueError for another format."""
        if data.get("format") != FORMAT:
            msg = f"expected format {FORMAT}, got {data.get('format')!r}"
            raise ValueError(msg)
        return cls(
            as_of=data["as_of"],
            currency=data["currency"],
            corrections={name: _correction(one) for name, one in data["corrections"].items()},
            replays=data["replays"],
            coverage={
                name: {int(level): (inside, of) for level, (inside, of) in levels.items()}
                for name, levels in data["coverage"].items()
            },
            ratios=np.array(data["ratios"], dtype=np.float64),
            tail=data["tail"],
            stage_rates=data["stage_rates"],
            left_out=tuple(data["left_out"]),
        )


def learn(store: Store, as_of: datetime, *, say: Say = lambda _: None) -> Learned:
    """Replay the history up to an instant and return what it teaches; only what was known then is used.

    Raises NotEnoughDataError where no deal has been won yet. With little history there are few replays or
    none, and the corrections are near their priors.
    """
    return lessons_of(read_past(store, as_of, say=say))


def lessons_of(past: Past) -> Learned:
    """Return what a replayed past teaches."""
    now = past.book.at(past.as_of)
    replays = {case: past.replays(case, now)[-LAST_REPLAYS[case.span] :] for case in CASES}
    earlier = [past.book.at(at) for at in month_starts(past.book.first_known or 0, past.as_of - 1)]
    return Learned(
        as_of=past.as_of,
        currency=past.currency,
        corrections={case.name: past.correction(case, past.as_of, now) for case in CASES},
        replays={case.name: [one.to_json() for one in found] for case, found in replays.items()},
        coverage={case.name: count_inside(found) for case, found in replays.items()},
        ratios=learn_ratios(earlier, now),
        tail=learn_tail(earlier, now, get_task("win_probability").intervals_days),
        stage_rates=stage_rates(past.book, now),
        left_out=tuple(past.left_out),
    )


def count_inside(replays: Sequence[Replay]) -> dict[int, tuple[int, int]]:
    """Return by percent how many ranges held what came, and of how many."""
    return {level: (sum(one.inside(level) for one in replays), len(replays)) for level in LEVELS}


def _correction(data: dict[str, Any]) -> Correction:
    weights = np.array(data["weights"], dtype=np.float64)
    if weights.shape != NODES.shape:
        msg = f"expected {NODES.size} weights, got {weights.shape}"
        raise ValueError(msg)
    return Correction(shock=Shock(weights=weights, periods=data["periods"]), widening=data["widening"])
