"""Records and predictions to raise alerts about, and the looking itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from crm_core.alert_rules import Thresholds
from crm_core.alerting import look_at
from crm_core.alerts import Acting, Alert, list_actions
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import User
from crm_core.store import Store

LIMITS = Thresholds()
DAY = timedelta(days=1)
WORTH = [{"currency": "EUR", "amount": "10000", "of": "contract"}]


def say(
    store: Store,
    record_id: int,
    probability: float | None,
    *,
    of: str = "account",
    as_of: datetime | None = None,
    version: str = "1",
    grade: str | None = "B",
) -> None:
    """Write one prediction, as a model does."""
    new = NewPrediction(
        record_id=record_id,
        probability=probability,
        score=50,
        grade=grade,
        reasons=[],
        yearly_value=WORTH if of == "account" else None,
    )
    with store.transaction() as transaction:
        write_predictions(
            transaction,
            task="churn" if of == "account" else "win_probability",
            record_type=of,
            as_of=as_of or transaction.now,
            model_version=version,
            horizon_days=90,
            predictions=[new],
        )


def look(store: Store, record_id: int, of: str = "account", limits: Thresholds = LIMITS) -> list[str]:
    """Look at a record and return what came of it: kinds raised, and why others were closed."""
    with store.transaction() as transaction:
        found = look_at(transaction, of, [record_id], limits)
        return [alert.kind for alert in found.raised] + [str(alert.closed_why) for alert in found.closed]


def alerts(store: Store) -> list[Alert]:
    with store.reading() as session:
        return list(session.scalars(select(Alert).order_by(Alert.id)))


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Do the same in several threads at once, and pass on what goes wrong."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def act(store: Store, user: User, verb: str, *given: Any, **more: Any) -> bool:
    """Act on an alert; return whether it was new."""
    with store.transaction(actor_id=user.id) as transaction:
        fresh: bool = getattr(Acting(transaction=transaction, user=user), verb)(*given, **more)[1]
        return fresh


def actions(store: Store, alert_id: int) -> list[tuple[str, int | None, str | None]]:
    with store.reading() as session:
        return [(row.action, row.actor_id, row.note) for row in list_actions(session, alert_id)]
