"""A process that raises alerts and is killed at a given boundary: run by test_alerting, never by a person.

python -m tests.alerts.crash DATABASE INSTANT CHECKPOINT OCCURRENCE
"""

from __future__ import annotations

import sys
from datetime import datetime

from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.alerting import Alerting
from tests.serving.crash import killer


def main() -> int:
    """Run until killed; 0 means that the boundary was never reached."""
    database, now, checkpoint, occurrence = sys.argv[1:]
    store = Store(database, clock=FixedClock(datetime.fromisoformat(now)))
    Alerting(store, by_mail=True, checkpoint=killer(checkpoint, int(occurrence))).run_until_done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
