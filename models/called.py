"""Calibration in counts: of so many records called 60-70 %, so many came true, give or take a few.

The give or take is half a 95 % interval (Wilson's), as wide as answers of so many independent questions would
make it as vary like ours when entities are drawn again: one deal asked twelve times is not twelve answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from models.evaluation import Judged, ratio, resampled_sums
from models.hazard import Floats, Ints
from models.shown_horizon import shown_horizon

TENTHS = 10
"""Bins before any are merged: 0-10 %, ..., 90-100 %."""

FEWEST_RECORDS = 20
"""Distinct records below which a bin is merged with the neighbour that has fewer."""

_SPREAD = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True)
class CalledBin:
    """What came of the questions whose probability was in `low <= p < high` (1 belongs to the last bin).

    `questions` were asked about `records` distinct records and called `said` on average; `happened` is the
    share that came true, `give_or_take` half the width of its 95 % interval, all in [0, 1].
    """

    low: float
    high: float
    questions: int
    records: int
    said: float
    happened: float
    give_or_take: float

    def to_json(self) -> dict[str, float]:
        """Return it as plain data."""
        return {name: round(value, 6) for name, value in vars(self).items()}


def called_bins(
    probability: Floats, judged: Judged, *, fewest_records: int = FEWEST_RECORDS
) -> tuple[CalledBin, ...]:
    """Return what came of questions by what they were called (float64[n]), from low to high.

    Bins are tenths; one about fewer than `fewest_records` records is merged with a neighbour, one without a
    question is left out.
    """
    if not len(judged):
        return ()
    tenth = np.clip((probability * TENTHS).astype(np.int64), 0, TENTHS - 1)
    spans = _merged(tenth, judged.records, fewest_records)
    place = np.searchsorted([last for _, last in spans], tenth)
    inside = place[:, None] == np.arange(len(spans))
    drawn = resampled_sums(
        np.concatenate([inside, inside & judged.happened[:, None]], axis=1).astype(np.float64), judged.entity
    )
    shares = ratio(drawn[:, len(spans) :], drawn[:, : len(spans)])
    return tuple(
        _bin(span, probability[place == number], judged.take(place == number), shares[:, number])
        for number, span in enumerate(spans)
    )


def _merged(tenth: Ints, records: Ints, fewest: int) -> list[tuple[int, int]]:
    """Return the first and last tenth of each bin that is left."""
    members = [(number, number, np.unique(records[tenth == number])) for number in range(TENTHS)]
    left = [one for one in members if len(one[2])]
    while len(left) > 1:
        small = min(range(len(left)), key=lambda place: len(left[place][2]))
        if len(left[small][2]) >= fewest:
            break
        beside = [place for place in (small - 1, small + 1) if 0 <= place < len(left)]
        other = min(beside, key=lambda place: len(left[place][2]))
        first, last = sorted((small, other))
        together = np.union1d(left[first][2], left[last][2])
        left[first : last + 1] = [(left[first][0], left[last][1], together)]
    return [(first, last) for first, last, _ in left]


def _bin(span: tuple[int, int], said: Floats, judged: Judged, drawn: Floats) -> CalledBin:
    records = len(np.unique(judged.records))
    share = float(judged.happened.mean())
    return CalledBin(
        low=span[0] / TENTHS,
        high=(span[1] + 1) / TENTHS,
        questions=len(judged),
        records=records,
        said=float(said.mean()),
        happened=share,
        give_or_take=give_or_take(share, float(np.nanstd(drawn[1:])), len(judged), records),
    )


def give_or_take(share: float, error: float, questions: int, records: int) -> float:
    """Return how far the truth may be from a share whose error was found by drawing entities again.

    Where all answers were the same, drawing again shows no error: as many answers as records are believed.
    """
    independent = share * (1 - share) / error**2 if error > 0 else float(records)
    count = min(max(independent, 1.0), float(questions))
    square = _SPREAD**2 / count
    middle = (share + square / 2) / (1 + square)
    half: float = _SPREAD / (1 + square) * (share * (1 - share) / count + square / (4 * count)) ** 0.5
    return max(middle + half - share, share - (middle - half))


def counts_for(report: Mapping[str, Any], probability: float) -> dict[str, Any] | None:
    """Return what came of the questions that were called about as likely as `probability`, from a report.

    {"low", "high", "questions", "records", "said", "happened", "give_or_take", "horizon_days"}, shares in
    [0, 1]: "of the `records` records called `low` to `high`, `happened` came true within `horizon_days`
    days, give or take `give_or_take`". None where the training was not judged, was reported before this was
    counted, or where nothing was called so.
    """
    horizon = shown_horizon(report.get("judged"))
    called: Sequence[Mapping[str, Any]] = horizon.get("called") or ()
    for one in called:
        if one["low"] <= probability < one["high"] or probability == one["high"] == 1:
            return {**one, "horizon_days": horizon["horizon_days"]}
    return None
