"""The process that serves: one waitress server, and beside it the thread that keeps scores fresh."""

from __future__ import annotations

import gc
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import WSGITask

from crm_core.errors import SettingsError
from crm_core.store import Store
from serving.app import LONGEST_BODY, LONGEST_UPLOAD, create_app
from serving.champions import Champions
from serving.connectors.scheduled import schedule_all
from serving.job_handlers import Jobs
from serving.logs import get_log, start_logging
from serving.modelling import scorer_loader
from serving.rescoring import RescoringThread
from serving.selling_day import schedule_day
from serving.settings import Settings
from serving.standing_loops import standing_loops
from serving.traffic import Traffic
from serving.warming import begin_warming
from serving.worker import make_rescorer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DRAIN_SECONDS = 10.0
"""How long requests under way may take to end once the process is asked to stop."""

WARM_SECONDS = 10.0
"""How long the models may take to be loaded before the process says that it serves; it does so anyway."""

_IDLE_LOOKS = 2
"""How often nothing must be under way, one look after the other, for a stop to be believed."""

_log = get_log("serving.server")


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request; once the server takes no more, its answer says that it is the last on its connection."""

    def build_response_header(self) -> bytes:
        """Return the head of the answer."""
        if not self.channel.server.accepting:
            self.request.headers["CONNECTION"] = "close"
        head: bytes = super().build_response_header()
        return head


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    task_class = _Task


def serve(settings: Settings, store: Store, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way; `ready` is told the address."""
    start_logging(settings.home_folder.logs, level=settings.log_level)
    champions = Champions(store, scorer_loader(settings.home_folder, store))
    traffic = Traffic()
    thread = None
    if settings.rescoring:
        rescorer = make_rescorer(settings, store, champions, busy=traffic.was_busy)
        thread = RescoringThread(rescorer, busy=traffic.is_busy)
    jobs = Jobs(settings, store) if settings.job_threads else None
    loops = standing_loops(settings, store)
    sockets: dict[int, Any] = {}
    app = create_app(settings, store, champions, thread, jobs)
    journal = app.extensions["crm"].journal
    server = _listen(traffic.watching(app), settings, sockets)
    _stop_on_signals(sockets)
    if thread is not None:
        thread.start()
    if jobs is not None:
        schedule_all(settings, store)
        schedule_day(settings, store)
        jobs.start()
    for loop in loops:
        loop.start()
    journal.start()
    warming = begin_warming(app, store)
    port = next(each.effective_port for each in _servers(sockets))
    try:
        if thread is not None:
            thread.looked.wait(WARM_SECONDS)  # what it imports and loads would hold up the first requests
            warming.join(WARM_SECONDS)
        _leave_out_of_garbage()
        _log.info("serving", host=settings.host, port=port, rescoring=thread is not None)
        ready(f"http://{_shown(settings.host)}:{port}")
        server.run()
    finally:
        if thread is not None:
            thread.stop()
        for loop in loops:
            loop.stop()
        if jobs is not None:
            jobs.stop()
        server.close()
        journal.stop()
        store.close()
        _log.info("stopped")


def _leave_out_of_garbage() -> None:
    """Never look for garbage in libraries and models again: every look holds up all requests."""
    gc.collect()
    gc.freeze()


def _listen(app: WSGIApplication, settings: Settings, sockets: dict[int, Any]) -> Any:  # noqa: ANN401  waitress has no types
    try:
        server = create_server(
            app,
            map=sockets,
            host=settings.host,
            port=settings.port,
            threads=settings.threads,
            ident=None,
            **_proxy(settings),
            # What is larger is refused before it is read to the end.
            max_request_body_size=2 * max(LONGEST_UPLOAD, LONGEST_BODY + settings.file_mib * 2**20),
        )
    except OSError as error:
        asked = f"{settings.host} port {settings.port}"
        raise SettingsError(
            f"cannot listen on {asked}: {error.strerror}; name another with --port"
        ) from error
    for each in _servers(sockets):
        each.channel_class = _Channel
    return server


def _servers(sockets: dict[int, Any]) -> list[Any]:
    return [each for each in list(sockets.values()) if isinstance(each, BaseWSGIServer)]


def _proxy(settings: Settings) -> dict[str, Any]:
    """Return whose forwarded headers waitress believes; those of anybody else it removes."""
    if settings.trusted_proxy is None:
        return {"clear_untrusted_proxy_headers": True}
    return {
        "trusted_proxy": settings.trusted_proxy,
        "trusted_proxy_count": settings.trusted_proxy_count,
        "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"},
        "clear_untrusted_proxy_headers": True,
    }


def _stop_on_signals(sockets: dict[int, Any]) -> None:
    """End gently at the first signal, at once at the second; signals reach the main thread only."""
    asked = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise SystemExit(0)
        asked.set()
        threading.Thread(target=_drain, args=(sockets, number), daemon=True).start()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)


def _drain(sockets: dict[int, Any], number: int) -> None:
    """Take no more connections, wait until every request is answered, then wake the main thread to end."""
    for each in _servers(sockets):
        each.trigger.pull_trigger(lambda server=each: _close_door(server))  # done by the thread that listens
    until, idle = time.monotonic() + DRAIN_SECONDS, 0
    while time.monotonic() < until and idle < _IDLE_LOOKS:
        time.sleep(0.05)
        idle = 0 if any(map(_is_busy, list(sockets.values()))) else idle + 1
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def _close_door(server: Any) -> None:  # noqa: ANN401  waitress has no types
    """Let in who stands at the door, and let whoever comes later see at once that it is closed."""
    while select.select([server.socket], [], [], 0)[0]:
        server.handle_accept()
    server.accepting = False
    server.del_channel()
    server.socket.close()


def _is_busy(each: object) -> bool:
    return isinstance(each, HTTPChannel) and bool(each.requests or each.total_outbufs_len)


def _shown(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104  shown, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
