"""The process that keeps scores fresh beside one or more that serve, alone or with others of its kind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import time
from types import FrameType
from zoneinfo import ZoneInfo

from crm_core.store import Store
from serving import metrics
from serving.champions import Champions
from serving.connectors.scheduled import schedule_all
from serving.job_handlers import Jobs
from serving.logs import get_log, start_logging
from serving.modelling import challenger_loader, scorer_loader
from serving.rescoring import Rescorer, RescoringThread
from serving.selling_day import schedule_day
from serving.settings import Settings
from serving.shadowing import Shadowing
from serving.standing_loops import standing_loops
from serving.sweeping import Nightly

STOPPING_SECONDS = 60.0
"""How long the lot at hand may take to end once the process is asked to stop."""

_log = get_log("serving.worker")


def make_rescorer(
    settings: Settings, store: Store, champions: Champions, *, busy: Callable[[], bool] = lambda: False
) -> Rescorer:
    """Return what keeps scores fresh, as the settings ask for it."""
    shadowing = Shadowing(
        store=store,
        load=challenger_loader(settings.home_folder),
        records_a_day=settings.shadow_records,
    )
    nightly = Nightly(at=time.fromisoformat(settings.sweep_at), zone=ZoneInfo(settings.time_zone))
    return Rescorer(store, champions, shadowing=shadowing, nightly=nightly, busy=busy)


def work(settings: Settings, store: Store, *, once: bool, ready: Callable[[str], None]) -> int:
    """Keep scores fresh until SIGTERM or SIGINT, then finish the lot at hand; return how many were answered.

    `ready` is told the worker's name. With `once`, end as soon as nothing is left to do.
    """
    start_logging(settings.home_folder.logs, level=settings.log_level, file="worker.log")
    store.zone = settings.time_zone
    stopping = _stop_on_signals()
    champions = Champions(store, scorer_loader(settings.home_folder, store))
    rescorer = make_rescorer(settings, store, champions)
    _log.info("working", worker=rescorer.name, once=once)
    ready(rescorer.name)
    try:
        if once:
            _work_off(rescorer, stopping)
        else:
            with metrics.given_at(settings.worker_metrics, store, champions, settings.home_folder):
                _work_on(settings, store, rescorer, stopping)
    finally:
        store.close()
        _log.info("stopped", worker=rescorer.name, scored=rescorer.scored)
    return rescorer.scored


def _work_off(rescorer: Rescorer, stopping: threading.Event) -> None:
    rescorer.beat()
    while not stopping.is_set() and not rescorer.idle:
        rescorer.step()
    rescorer.leave()


def _work_on(settings: Settings, store: Store, rescorer: Rescorer, stopping: threading.Event) -> None:
    thread = RescoringThread(rescorer)
    jobs = Jobs(settings, store) if settings.job_threads else None
    loops = standing_loops(settings, store)
    thread.start()
    for loop in loops:
        loop.start()
    if jobs is not None:
        schedule_all(settings, store)
        schedule_day(settings, store)
        jobs.start()
    stopping.wait()
    thread.stop(STOPPING_SECONDS)
    for loop in loops:
        loop.stop()
    if jobs is not None:
        jobs.stop()


def _stop_on_signals() -> threading.Event:
    """Return what is set at the first signal; the second ends the process at once."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise SystemExit(1)
        stopping.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
    return stopping
