"""The threads that look again and again for what is due, beside re-scoring and jobs."""

from __future__ import annotations

from crm_core.store import Store
from serving.alerting import alerting_loop
from serving.audiences import audience_loop
from serving.automation import automation_loop
from serving.looping import Loop
from serving.settings import Settings
from serving.ticket_work import ticket_loop


def standing_loops(settings: Settings, store: Store) -> list[Loop]:
    """Return the threads that the settings ask for, not started; any number of processes may run them."""
    made = (
        alerting_loop(settings, store),
        automation_loop(settings, store),
        ticket_loop(settings, store),
        audience_loop(store),
    )
    return [loop for loop in made if loop is not None]
