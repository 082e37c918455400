"""A process that dies between the effect of a request and its answer: run by test_once, never by a person.

python -m tests.serving.killed_request DATABASE HOME API_KEY
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from crm_core.idempotency import keep_answer
from crm_core.store import Store
from serving import once
from serving.app import create_app
from serving.champions import Champions
from serving.settings import Settings
from tests.serving.hand_made import HandMadeModel


def main() -> int:
    """Send one request that never ends; 0 means that it ended."""
    database, home, key = sys.argv[1:]
    store = Store(database)
    app = create_app(
        Settings(home=Path(home)), store, Champions(store, lambda task, promotion: HandMadeModel())
    )

    def keep_and_die(*given: Any, **more: Any) -> None:
        keep_answer(*given, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    vars(once)["keep_answer"] = keep_and_die
    headers = {"Authorization": f"Bearer {key}", once.HEADER: "doomed"}
    app.test_client().post("/api/v1/leads", json={"name": "Wang Fang"}, headers=headers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
