"""The thread that takes people through mail sequences: begins for segments, and queues what is due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from crm_core.sequences import send_due, start_from_segments
from crm_core.store import Store
from serving.looping import Loop
from serving.settings import Settings

LOOK_SECONDS: Final = 20.0
_SEGMENTS_EVERY: Final = timedelta(minutes=5)


class Sequencer:
    """Looks for what is due, and now and then for who is new in a segment."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._zone = settings.time_zone
        self._store = store
        self._looked_at: datetime | None = None

    def run_once(self) -> int:
        """Go on with what is due; return how much was done."""
        now = self._store.clock.now()
        if self._looked_at is None or now - self._looked_at >= _SEGMENTS_EVERY:
            self._looked_at = now
            start_from_segments(self._store, zone=self._zone)
        return send_due(self._store, zone=self._zone)


def sequencing_loop(settings: Settings, store: Store) -> Loop:
    """Return the thread that takes people through sequences."""
    return Loop("sequences", Sequencer(settings, store).run_once, poll_seconds=LOOK_SECONDS)
