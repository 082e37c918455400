"""A process that dies while it rolls a model back: run by test_models_api, never by a person.

python -m tests.serving.killed_decision HOME API_KEY IDEMPOTENCY_KEY MOMENT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.home import Home
from serving.modelling import scorer_loader
from serving.once import HEADER, Once
from serving.settings import Settings

MOMENTS: dict[str, tuple[type[Any], str]] = {
    "before it is committed": (Once, "_commit"),
    "before it is taken up": (Champions, "refresh"),
}
BODY = {"reason": "worse"}
PATH = "/api/v1/models/lead_scoring/rollback"


def main() -> int:
    """Send one request that never ends; 0 means that it ended."""
    folder, api_key, key, moment = sys.argv[1:]
    home = Home.at(Path(folder))
    store = Store(home.database_url)
    champions = Champions(store, scorer_loader(home, store), look_seconds=0)
    app = create_app(Settings(home=home.folder), store, champions)
    champions.refresh()
    owner, name = MOMENTS[moment]
    setattr(owner, name, lambda *_given: os.kill(os.getpid(), signal.SIGKILL))
    headers = {"Authorization": f"Bearer {api_key}", HEADER: key}
    answer = app.test_client().post(PATH, json=BODY, headers=headers)
    sys.stderr.write(answer.get_data(as_text=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
