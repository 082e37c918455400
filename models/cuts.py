"""What a cut would have caught: how many of the judged questions lie at or above each probability.

Kept with a version's report, so that a page can say what every cut costs without a model, a store or a chart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.evaluation import Judged
from models.hazard import Floats

MOST_STEPS = 200
"""Groups of about equal count; a run of equal probabilities is never divided, as no cut can."""


def cut_steps(probability: Floats, judged: Judged, *, most: int = MOST_STEPS) -> dict[str, list[Any]]:
    """Return the judged questions in groups, by falling probability (float64[n]).

    `from` is the lowest probability of each group, in [0, 1]: a cut there takes in this group and all before.
    `questions` is how many each group holds, `outcomes` how many of these came true. Empty lists for n = 0.
    """
    if not len(judged):
        return {"from": [], "questions": [], "outcomes": []}
    order = np.argsort(-probability, kind="stable")
    said, came = probability[order], np.cumsum(judged.happened[order])
    ends = np.flatnonzero(np.append(np.diff(said) != 0, np.True_)) + 1
    wanted = np.ceil(np.arange(1, most + 1) * len(said) / most)
    chosen = np.unique(ends[np.searchsorted(ends, wanted)])
    return {
        "from": said[chosen - 1].tolist(),
        "questions": np.diff(chosen, prepend=0).tolist(),
        "outcomes": np.diff(came[chosen - 1], prepend=0).tolist(),
    }
