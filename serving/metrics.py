"""What the service measures of itself, in Prometheus's form.

Requests, scores and freshness are counted where they happen, by this process since its start. The rest is
read when somebody asks: how much waits, which models serve, and what watching them has found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from crm_core.alerts import Alert, State
from crm_core.errors import SettingsError
from crm_core.jobs import measure_queue
from crm_core.rescoring import Work, list_workers
from crm_core.store import Store
from serving.champions import RECORD_TYPE_OF, Champions
from serving.home import Home
from serving.reports import read_watch
from serving.rescoring_state import COUNTED, count_changes_waiting

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATES = ("unknown", "ok", "watch", "act")

_REQUESTS = Histogram(
    "crm_http_request_seconds",
    "How long requests took, by their rule",
    ("method", "rule", "status"),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
_SCORES = Counter("crm_scores", "Predictions written, by the model that made them", ("task", "model_version"))
_FRESHNESS = Histogram(
    "crm_score_freshness_seconds",
    "From the oldest change of a batch to its scores being on the records",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)


def note_request(method: str, rule: str | None, status: int, seconds: float) -> None:
    """Count a request; one that fits no rule is counted under none, so that nobody makes up labels."""
    _REQUESTS.labels(method if rule else "", rule or "", str(status)).observe(seconds)


def note_scores(task: str, model_version: str, written: int) -> None:
    """Count predictions that were written."""
    _SCORES.labels(task, model_version).inc(written)


def note_freshness(seconds: float) -> None:
    """Note how old the oldest change of a batch was when its scores were written.

    It was recorded by another machine's clock, perhaps, or before ours was put back: never less than nothing.
    """
    _FRESHNESS.observe(max(seconds, 0.0))


def render(store: Store, champions: Champions, home: Home) -> bytes:
    """Return all metrics as text."""
    return generate_latest(_everything(store, champions, home))


@contextmanager
def given_at(address: str | None, store: Store, champions: Champions, home: Home) -> Iterator[int | None]:
    """Give all metrics at `host:port` while a block lasts, for a process that serves nothing else.

    Yields the port; nothing is given where there is no address.
    """
    if address is None:
        yield None
        return
    host, port = address.rsplit(":", 1)
    try:
        server, thread = start_http_server(int(port), host, _everything(store, champions, home))
    except (OSError, OverflowError) as error:
        raise SettingsError(f"CRM_WORKER_METRICS: cannot listen on {address}: {error}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _everything(store: Store, champions: Champions, home: Home) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(_Counted())
    found.register(_State(store, champions, home))
    return found


class _Counted(Collector):
    """What this process has counted since its start."""

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: it is named where it is counted."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield whatever was counted."""
        return REGISTRY.collect()


class _State(Collector):
    """What is true at the moment somebody asks."""

    def __init__(self, store: Store, champions: Champions, home: Home) -> None:
        self._store = store
        self._champions = champions
        self._home = home

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: only asking tells."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield every gauge; without its database the service still says that it is down."""
        up = GaugeMetricFamily("crm_store_up", "Whether the records can be read")
        try:
            with self._store.reading() as session:
                found = [metric for read in STATE_OF_STORE for metric in read(session)]
            up.add_metric((), 1)
        except SQLAlchemyError:
            found = []
            up.add_metric((), 0)
        yield up
        yield from found
        yield from self._models()
        yield from self._watched()

    def _models(self) -> Iterable[Metric]:
        serving = GaugeMetricFamily(
            "crm_model_serving", "The model in charge of a task", labels=("task", "version")
        )
        trouble = GaugeMetricFamily(
            "crm_model_trouble", "A model that was promoted and cannot be loaded", labels=("task", "version")
        )
        for task, champion in self._champions.serving.items():
            serving.add_metric((task, champion.scorer.model_version), 1)
        for task, why in self._champions.troubles.items():
            trouble.add_metric((task, why.model_version), 1)
        yield serving
        yield trouble

    def _watched(self) -> Iterable[Metric]:
        """Yield what `crm watch` found last of the models that serve."""
        state = GaugeMetricFamily(
            "crm_model_watch_state",
            "What watching a model found: 0 unknown, 1 ok, 2 watch, 3 act",
            labels=("task", "kind"),
        )
        value = GaugeMetricFamily(
            "crm_model_watch_value",
            "The figure behind that state",
            labels=("task", "kind"),
        )
        for task in RECORD_TYPE_OF:
            for finding in (read_watch(self._home, task) or {}).get("findings", ()):
                labels = (task, finding["kind"])
                state.add_metric(labels, _STATES.index(finding["state"]))
                figure = (finding["value"] or {}).get("value")
                if figure is not None:
                    value.add_metric(labels, figure)
        yield state
        yield value


def _waiting(session: Session) -> Iterable[Metric]:
    """Count what re-scoring has not dealt with: rows of the log, and records that are among the work."""
    waiting = GaugeMetricFamily(
        "crm_changes_waiting",
        f"Changes that no score takes into account yet; {COUNTED} stands for that many or more",
    )
    waiting.add_metric((), count_changes_waiting(session))
    work = GaugeMetricFamily(
        "crm_rescoring_records",
        "Records to be scored again, that a worker is at, and whose last scoring failed",
        labels=("state",),
    )
    counted = select(func.count(), func.count(Work.leased_by), func.count(Work.error))
    for state, count in zip(("all", "at_work", "failed"), session.execute(counted).one(), strict=True):
        work.add_metric((state,), count)
    yield waiting
    yield work


def _workers(session: Session) -> Iterable[Metric]:
    """Tell when each process that scores was seen last, and how fresh what it wrote last was."""
    seen = GaugeMetricFamily(
        "crm_worker_seen_timestamp_seconds", "When a process that scores said so last", labels=("worker",)
    )
    lag = GaugeMetricFamily(
        "crm_worker_lag_seconds", "From a change to its score, in its last batch", labels=("worker",)
    )
    scored = GaugeMetricFamily(
        "crm_worker_scored", "Records answered since it started, by whichever model", labels=("worker",)
    )
    for worker in list_workers(session):
        scored.add_metric((worker.name,), worker.scored)
        seen.add_metric((worker.name,), worker.seen_at.timestamp())
        if worker.lag_seconds is not None:
            lag.add_metric((worker.name,), worker.lag_seconds)
    yield seen
    yield scored
    yield lag


def _alerts(session: Session) -> Iterable[Metric]:
    """Count the alerts that are not closed."""
    alerts = GaugeMetricFamily("crm_alerts", "Alerts that are not closed", labels=("kind", "state"))
    query = select(Alert.kind, Alert.state, func.count()).where(Alert.state != State.CLOSED)
    for kind, state, count in session.execute(query.group_by(Alert.kind, Alert.state)):
        alerts.add_metric((kind, state), count)
    yield alerts


def _jobs(session: Session) -> Iterable[Metric]:
    """Count jobs that are not done, and tell when the oldest of them was due."""
    count = GaugeMetricFamily("crm_jobs", "Jobs that are waiting, running or dead", labels=("kind", "state"))
    oldest = GaugeMetricFamily(
        "crm_jobs_oldest_timestamp_seconds", "When the oldest of them was due", labels=("kind", "state")
    )
    for depth in measure_queue(session):
        labels = (depth.kind, depth.state)
        count.add_metric(labels, depth.count)
        oldest.add_metric(labels, depth.oldest_run_at.timestamp())
    yield count
    yield oldest


STATE_OF_STORE: list[Callable[[Session], Iterable[Metric]]] = [_waiting, _workers, _jobs, _alerts]
"""What is read from the store: each returns gauges."""
