"""One rescore of many leads, written back, by stage: `python -m tests.bench.full_rescore_run URL LEADS`.

Makes a company with so many open leads and about ten times as many activities at an empty database, trains a
model on a small part of it, and scores all. What is told are the seconds of each stage on the clock, those of
this process's processor, the longest time a lot kept others from writing, and the highest memory.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from crm_core.clock import FixedClock
from crm_core.store import Store
from models.bulk_scoring import rescore
from tests.bench.many_leads import NOW, make
from tests.bench.training_run import peak_mib

STAGES = ("listing", "reading", "predicting", "explaining", "putting into columns", "writing")


def run(url: str, leads: int) -> dict[str, Any]:
    """Make a company and rescore it; return what that took."""
    bundle = make(url, leads)
    store = Store(url, clock=FixedClock(NOW))
    began, used = time.perf_counter(), time.process_time()
    done = rescore(store, bundle)
    whole = time.perf_counter() - began
    store.close()
    return {
        "leads": done.scored,
        "seconds": whole,
        "processor_seconds": time.process_time() - used,
        "stages": {stage: done.watch.seconds.get(stage, 0.0) for stage in STAGES},
        "longest_lot": done.watch.longest_lot,
        "lots": done.watch.lots,
        "peak_mib": peak_mib(),
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]))))
