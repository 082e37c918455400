"""A re-scoring process that is killed at a given boundary: run by test_crash, never by a person.

python -m tests.serving.crash DATABASE INSTANT CHECKPOINT OCCURRENCE
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime

from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import Rescorer
from tests.serving.hand_made import HandMadeModel

RECORDS_AT_ONCE = 2


def killer(checkpoint: str, occurrence: int) -> Callable[[str], None]:
    """Return what kills this process when `checkpoint` is passed for the given time."""
    passed = 0

    def at(name: str) -> None:
        nonlocal passed
        passed += name == checkpoint
        if passed == occurrence and name == checkpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def main() -> int:
    """Run until killed; 0 means that the boundary was never reached."""
    database, now, checkpoint, occurrence = sys.argv[1:]
    store = Store(database, clock=FixedClock(datetime.fromisoformat(now)))
    champions = Champions(store, lambda task, promotion: HandMadeModel(model_version=promotion.model_version))
    rescorer = Rescorer(
        store, champions, checkpoint=killer(checkpoint, int(occurrence)), records_at_once=RECORDS_AT_ONCE
    )
    while rescorer.run_once():
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
