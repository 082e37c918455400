"""The threads that look again and again for what is due, beside re-scoring and jobs: one list for all processes."""

from __future__ import annotations

from crm_core.store import Store
from serving.alerting import alerting_loop
from serving.automation import automation_loop
from serving.looping import Loop
from serving.settings import Settings
from serving.ticket_work import ticket_loop


def standing_loops(settings: Settings, store: Store) -> list[Loop]:
    """Return the threads that the settings ask for, not started; any number of processes may run them."""
    found = (alerting_loop, automation_loop, ticket_loop)
    made = (make(settings, store) for make in found)
    return [loop for loop in made if loop is not None]
