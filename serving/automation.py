"""The thread that has rules act, inside of `crm serve` and `crm worker`, and trying rules on the past."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from crm_core.automation.due import Look
from crm_core.automation.following import Follower
from crm_core.automation.forgetting import forget_runs
from crm_core.automation.keeping import check_rule
from crm_core.automation.rehearsal import Rehearsed, rehearse
from crm_core.automation.rules import read_rule
from crm_core.automation.shipped import ship_rules
from crm_core.automation.triggers import StageOverdue
from crm_core.records import User
from crm_core.store import Store
from crm_core.won_deals import StageNorm, recent_won_deals
from crm_core.working_time import working_time
from serving.logs import get_log
from serving.looping import Loop
from serving.settings import Settings

FORGOTTEN_EVERY: Final = timedelta(hours=24)

_log = get_log("serving.automation")


def automation_loop(settings: Settings, store: Store) -> Loop | None:
    """Return the thread that has rules act, not started; None where the settings want none."""
    if not settings.automation:
        return None
    follower, begun = make_follower(settings, store), threading.Event()
    forgetting = Forgetting(store, kept_days=settings.automation_days)

    def run_once() -> int:
        if not begun.is_set():
            ship_rules(store)
            begun.set()
        done = follower.run_once()
        if not done:  # nothing waits
            forgetting.run_sometimes()
        return done

    return Loop("automation", run_once)


class Forgetting:
    """Deletes, once a day, runs that are older than they have to be kept."""

    def __init__(self, store: Store, *, kept_days: int) -> None:
        self._store = store
        self._kept = timedelta(days=kept_days)
        self._last: datetime | None = None

    def run_sometimes(self) -> None:
        """Delete what is old, if that was not done of late."""
        now = self._store.clock.now()
        if self._last is not None and self._last <= now < self._last + FORGOTTEN_EVERY:
            return
        self._last = now
        gone = forget_runs(self._store, before=now - self._kept)
        if gone:
            _log.info("forgotten", runs=gone)


def make_follower(settings: Settings, store: Store) -> Follower:
    """Return what has rules act, as the settings ask for it."""
    return Follower(store, zone=settings.time_zone, language=settings.language, broken=_tell_broken)


def _tell_broken(rule_id: int, error: str) -> None:
    _log.warning("a rule asks for what is not there any more", rule=rule_id, error=error)


def try_on_past(
    store: Store, zone: str, session: Session, user: User, declared: Mapping[str, Any], *, days: int
) -> Rehearsed:
    """Return what would have set a rule off within some days; raises as keeping it would."""
    rule = read_rule(declared)
    check_rule(session, user, rule)
    norms: Mapping[tuple[str, str], StageNorm] = {}
    if isinstance(rule.trigger, StageOverdue):
        norms = recent_won_deals(store).norms
    look = Look(
        now=store.clock.now(),
        working=working_time(session, zone),
        norms={key: timedelta(days=norm.days) for key, norm in norms.items()},
    )
    return rehearse(session, user, rule, look, days=days)
