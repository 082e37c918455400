"""The thread that has rules act, inside of `crm serve` and `crm worker`, and trying rules on the past."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from crm_core.automation.due import Look
from crm_core.automation.following import Follower
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
