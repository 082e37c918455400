"""What came of warnings: followed to the end of the window that each one was about, and counted.

A warning was given with a probability over a horizon. Once that time is over for a warning it is counted:
customers who left in it (deals that were won in it), of all whose time is over, beside what was said. What
somebody did about a warning is part of what came: a customer who was kept was warned of as well.

"Left" is what the models mean by it (`features.labels`), as it is known now; a warning whose window is not
over is counted nowhere, resolved or not, because early endings alone would tell too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import literal, select, union_all

from crm_core.access import Reader
from crm_core.alert_rules import Kind, Over
from crm_core.alerts import Alert, select_alerts
from crm_core.clock import micros
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal, DealStatus
from crm_core.store import Store
from serving.shares import Share

MOST: Final = 5_000
"""Warnings that are followed at most, the newest."""

_KEPT: Final = frozenset({Over.RENEWED, Over.EXTENDED})


class Outcome(StrEnum):
    """What came of a warning."""

    LEFT = "left"
    RENEWED = "renewed"
    STAYED = "stayed"
    WON = "won"
    LOST = "lost"
    STILL_OPEN = "still_open"
    NOT_OVER = "not_over"
    NOT_KNOWN = "not_known"


HAPPENED: Final = frozenset({Outcome.LEFT, Outcome.WON})
"""What the probability was of."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A warning and what came of it; `ends_at` is the end of the time it was about."""

    alert: Alert
    name: str | None
    outcome: Outcome
    ends_at: datetime

    @property
    def is_over(self) -> bool:
        """Say whether its time is over and its outcome known."""
        return self.outcome not in {Outcome.NOT_OVER, Outcome.NOT_KNOWN}


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Warnings of one kind whose time is over, by outcome; `said` is the mean probability told with them."""

    kind: str
    by_outcome: Mapping[Outcome, int]
    happened: Share
    said: float | None
    not_over: int


def follow_alerts(store: Store, reader: Reader, now: datetime) -> list[Followed]:
    """Return the warnings that a reader may see with what came of each, the newest first."""
    about = select_alerts(reader).outerjoin(Prediction, Prediction.id == Alert.prediction_id)
    query = about.add_columns(Prediction.horizon_days).order_by(Alert.raised_at.desc(), Alert.id.desc())
    rows = reader.session.execute(query.limit(MOST)).all()
    alerts = [alert for alert, _ in rows]
    ends = {alert.id: alert.raised_at + timedelta(days=days or 0) for alert, days in rows}
    outcomes = _of_customers(store, reader, alerts, ends) | _of_deals(reader, alerts, ends, now)
    names = _names(reader, alerts)
    return [
        Followed(
            alert=alert,
            name=names.get((alert.record_type, alert.record_id)),
            outcome=outcomes[alert.id],
            ends_at=ends[alert.id],
        )
        for alert in alerts
    ]


def tally(followed: Sequence[Followed]) -> list[Tally]:
    """Return the counts of each kind of warning that there is, in the order of `Kind`."""
    by_kind = {kind: [one for one in followed if one.alert.kind == kind] for kind in Kind}
    return [_tally(kind, some) for kind, some in by_kind.items() if some]


def _tally(kind: str, followed: Sequence[Followed]) -> Tally:
    over = [one for one in followed if one.is_over]
    counts = {outcome: sum(one.outcome is outcome for one in over) for outcome in Outcome}
    return Tally(
        kind=kind,
        by_outcome={outcome: count for outcome, count in counts.items() if count},
        happened=Share(count=sum(one.outcome in HAPPENED for one in over), of=len(over)),
        said=sum(one.alert.probability for one in over) / len(over) if over else None,
        not_over=len(followed) - len(over),
    )


def _of_customers(
    store: Store, reader: Reader, alerts: Sequence[Alert], ends: Mapping[int, datetime]
) -> dict[int, Outcome]:
    from features.cohort import churn_kind_in

    mine = [alert for alert in alerts if alert.record_type == Account.record_type]
    if not mine:
        return {}
    kind = churn_kind_in(reader.session)
    told = ["contract.ends_on", "contract.status"] if kind == "contracts" else ["order.occurred_at"]
    if not reader.may_be_told_of(told):
        return {alert.id: Outcome.NOT_KNOWN for alert in mine}
    return _left_or_not(store, mine, ends, kind)


def _left_or_not(
    store: Store, alerts: Sequence[Alert], ends: Mapping[int, datetime], kind: str
) -> dict[int, Outcome]:
    import numpy as np

    from crm_core.arrays import NO_INSTANT
    from features.cohort import Cohort
    from features.labels import churn_labels

    ids = np.array([alert.record_id for alert in alerts], dtype=np.int64)
    raised = np.array([micros(alert.raised_at) for alert in alerts], dtype=np.int64)
    labels = churn_labels(store, Cohort.of(Account.record_type, ids, raised), kind=kind)
    found = {}
    for alert, event, known in zip(
        alerts, labels.event_at.tolist(), labels.known_until.tolist(), strict=True
    ):
        end = micros(ends[alert.id])
        if end > known:
            # Where nothing ran when it was raised, as is known by now, there was nothing to leave.
            found[alert.id] = Outcome.NOT_KNOWN if known == micros(alert.raised_at) else Outcome.NOT_OVER
            continue
        happened = event != NO_INSTANT and event <= end
        left = happened if kind == "contracts" else not happened
        found[alert.id] = Outcome.LEFT if left else _kept(alert)
    return found


def _kept(alert: Alert) -> Outcome:
    return Outcome.RENEWED if alert.closed_why in _KEPT else Outcome.STAYED


def _of_deals(
    reader: Reader, alerts: Sequence[Alert], ends: Mapping[int, datetime], now: datetime
) -> dict[int, Outcome]:
    mine = [alert for alert in alerts if alert.record_type == Deal.record_type]
    if not mine:
        return {}
    if not reader.may_be_told_of(["deal.status", "deal.closed_at"]):
        return {alert.id: Outcome.NOT_KNOWN for alert in mine}
    query = select(Deal.id, Deal.status, Deal.closed_at).where(Deal.id.in_([one.record_id for one in mine]))
    deals = {key: (status, closed_at) for key, status, closed_at in reader.session.execute(query)}
    return {one.id: _of_deal(*deals[one.record_id], ends[one.id], now) for one in mine}


def _of_deal(status: str, closed_at: datetime | None, end: datetime, now: datetime) -> Outcome:
    if end > now:
        return Outcome.NOT_OVER
    if status == DealStatus.OPEN or (closed_at is not None and closed_at > end):
        return Outcome.STILL_OPEN
    return Outcome.WON if status == DealStatus.WON else Outcome.LOST


def _names(reader: Reader, alerts: Sequence[Alert]) -> dict[tuple[str, int], str]:
    parts = []
    for model in (Account, Deal):
        ids = [alert.record_id for alert in alerts if alert.record_type == model.record_type]
        if ids and reader.may_read_field(model.record_type, "name"):
            parts.append(select(literal(model.record_type), model.id, model.name).where(model.id.in_(ids)))
    if not parts:
        return {}
    query: Any = union_all(*parts)
    return {(record_type, key): name for record_type, key, name in reader.session.execute(query)}
