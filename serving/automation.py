"""The thread that has rules act, inside of `crm serve` and `crm worker`."""

from __future__ import annotations

import threading

from crm_core.automation.following import Follower
from crm_core.automation.shipped import ship_rules
from crm_core.store import Store
from serving.logs import get_log
from serving.looping import Loop
from serving.settings import Settings

_log = get_log("serving.automation")


def automation_loop(settings: Settings, store: Store) -> Loop | None:
    """Return the thread that has rules act, not started; None where the settings want none."""
    if not settings.automation:
        return None
    follower, begun = make_follower(settings, store), threading.Event()

    def run_once() -> int:
        if not begun.is_set():
            ship_rules(store)
            begun.set()
        return follower.run_once()

    return Loop("automation", run_once)


def make_follower(settings: Settings, store: Store) -> Follower:
    """Return what has rules act, as the settings ask for it."""
    return Follower(store, zone=settings.time_zone, broken=_tell_broken)


def _tell_broken(rule_id: int, error: str) -> None:
    _log.warning("a rule asks for what is not there any more", rule=rule_id, error=error)
