"""A process that finds events until it is killed: run by test_webhook_events, never by a person.

python -m tests.serving.event_process DATABASE CHECKPOINT OCCURRENCE
"""

from __future__ import annotations

import sys

from crm_core.store import Store
from crm_core.webhook_events import EventFollower
from tests.serving.crash import killer


def main() -> int:
    """Run until killed; 0 means that the boundary was never reached."""
    database, checkpoint, occurrence = sys.argv[1:]
    follower = EventFollower(Store(database), at_once=3, checkpoint=killer(checkpoint, int(occurrence)))
    while follower.run_once():
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
