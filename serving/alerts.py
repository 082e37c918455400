"""Alerts as somebody may see them: lists in pages that stay in place, and what is told of each alert."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, false, or_, select

from crm_core.access import Reader
from crm_core.alerting import last_terms, read_records
from crm_core.alerts import (
    ALERTED_TYPES,
    Alert,
    State,
    is_in_state,
    may_see_amounts_of,
    may_see_money,
    select_alerts,
)
from crm_core.clock import instant, micros
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.phrases import Phrase
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal
from serving.champions import TASK_OF

ORDERS: Final = ("-at_risk", "-raised_at", "-probability")


@dataclass(frozen=True, kw_only=True)
class AlertListing:
    """What a list of alerts is asked for; without a state, all that are not closed.

    With `history_since`, what models said of each record since then is told as well.
    """

    order: str = "-at_risk"
    state: State | None = None
    kind: str | None = None
    record_type: str | None = None
    record_id: int | None = None
    owner_id: int | None = None
    assignee_id: int | None = None
    limit: int = 50
    cursor: str | None = None
    history_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Money:
    """A sum that is at risk, and the whole that it is a part of."""

    currency: str
    of: str
    whole: Decimal
    at_risk: Decimal


@dataclass(frozen=True, kw_only=True)
class ToldAlert:
    """An alert with what a reader may be told of it."""

    alert: Alert
    state: State
    name: str | None
    owner_id: int | None
    probability_now: float | None
    reasons: Sequence[Mapping[str, Any]]
    money: Sequence[Money]
    ends_on: date | None
    history: Sequence[tuple[datetime, float | None]] = ()


@dataclass(frozen=True, kw_only=True)
class AlertsPage:
    """One page of alerts, and where the next one begins."""

    items: Sequence[ToldAlert]
    next_cursor: str | None


def list_alerts(reader: Reader, asked: AlertListing, now: datetime) -> AlertsPage:
    """Return a page of the alerts that a reader may see.

    The order tells nothing of money that they may not see: they get the newest first instead.
    """
    order = asked.order if asked.order != "-at_risk" or may_see_money(reader) else "-raised_at"
    query = select_alerts(reader).where(*_conditions(reader, asked, now))
    if asked.cursor is not None:
        query = query.where(_after(order, asked.cursor))
    column = getattr(Alert, order.removeprefix("-"))
    query = query.order_by(column.desc().nulls_last(), Alert.id.desc()).limit(asked.limit + 1)
    found = reader.session.scalars(query).all()
    items = found[: asked.limit]
    more = len(found) > asked.limit
    return AlertsPage(
        items=tell_alerts(reader, items, now, asked.history_since),
        next_cursor=_cursor_of(order, items[-1]) if more else None,
    )


def tell_alerts(
    reader: Reader,
    alerts: Sequence[Alert],
    now: datetime,
    history_since: datetime | None = None,
    *,
    about: Account | Deal | None = None,
) -> list[ToldAlert]:
    """Return what a reader may be told of alerts that they may see, in their order.

    Alerts `about` one record, which was read, are told without the reasons: its page has them.
    """
    if about is None:
        records = {kind: _records(reader, kind, alerts) for kind in ALERTED_TYPES}
        said = _said(reader, alerts, history_since)
    else:
        records, said = {about.record_type: {about.id: about}}, _Told(reasons={}, days={})
    terms = _terms(reader, alerts)
    seen = _seen_amounts(reader)
    found = []
    for alert in alerts:
        record = records[alert.record_type].get(alert.record_id)
        shown = reader.masked(record) if record is not None else None
        found.append(
            ToldAlert(
                alert=alert,
                state=alert.state_at(now),
                name=shown.name if shown is not None else None,
                owner_id=shown.owner_id if shown is not None else None,
                probability_now=shown.probability if shown is not None else None,
                reasons=said.reasons.get(alert.prediction_id, ()),
                money=[_money(one) for one in alert.money or () if one["of"] in seen],
                ends_on=terms.get(alert.id),
                history=said.history(alert) if shown is not None and shown.probability is not None else (),
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class AtRisk:
    """What is at risk in one currency among records of one type, and how many of these that is."""

    record_type: str
    currency: str
    at_risk: Decimal
    records: int


@dataclass(frozen=True, kw_only=True)
class RunningSum:
    """How many alerts are open, and what all that are not closed put at risk, by record type and currency."""

    open: int
    at_risk: Sequence[AtRisk]


def sum_running(reader: Reader, now: datetime) -> RunningSum:
    """Return what the alerts that are not closed come to, as far as the reader may see it, largest first.

    A record of which two alerts tell counts once, with the larger sum. Currencies are never added up.
    """
    query = select_alerts(reader).where(Alert.closed_at.is_(None))
    columns = (Alert.record_type, Alert.record_id, Alert.money, is_in_state(State.OPEN, now))
    seen, count = _seen_amounts(reader), 0
    largest: dict[tuple[str, str], dict[int, Decimal]] = {}
    for record_type, record_id, money, is_open in reader.session.execute(query.with_only_columns(*columns)):
        count += bool(is_open)
        for one in money or ():
            if one["of"] in seen:
                of = largest.setdefault((record_type, one["currency"]), {})
                of[record_id] = max(of.get(record_id, Decimal(0)), Decimal(one["at_risk"]))
    found = [
        AtRisk(
            record_type=record_type,
            currency=currency,
            at_risk=sum(amounts.values(), Decimal(0)),
            records=len(amounts),
        )
        for (record_type, currency), amounts in largest.items()
    ]
    return RunningSum(open=count, at_risk=sorted(found, key=lambda one: (one.record_type, -one.at_risk)))


def tell_alert(reader: Reader, alert: Alert, now: datetime) -> ToldAlert:
    """Return what a reader may be told of one alert that they may see."""
    return tell_alerts(reader, [alert], now)[0]


_TOLD_AS_HELD: Final = (
    "id",
    "kind",
    "record_type",
    "record_id",
    "raised_at",
    "probability",
    "prediction_id",
    "contract_id",
    "assignee_id",
    "acknowledged_by_id",
    "acknowledged_at",
    "closed_at",
    "closed_why",
)


def plain_alert(told: ToldAlert) -> dict[str, Any]:
    """Return what is told of an alert by name."""
    alert = told.alert
    return {
        **{name: getattr(alert, name) for name in _TOLD_AS_HELD},
        "state": told.state.value,
        "snoozed_until": alert.snoozed_until if told.state is State.SNOOZED else None,
        "record_name": told.name,
        "owner_id": told.owner_id,
        "previous_probability": alert.previous,
        "probability_now": told.probability_now,
        "reasons": [dict(reason) for reason in told.reasons],
        "money_at_risk": [vars(one) for one in told.money],
        "contract_ends_on": told.ends_on,
    }


def _conditions(reader: Reader, asked: AlertListing, now: datetime) -> list[ColumnElement[bool]]:
    state = Alert.closed_at.is_(None) if asked.state is None else is_in_state(asked.state, now)
    equal = {
        Alert.kind: asked.kind,
        Alert.record_type: asked.record_type,
        Alert.record_id: asked.record_id,
        Alert.assignee_id: asked.assignee_id,
    }
    conditions = [state, *(column == value for column, value in equal.items() if value is not None)]
    if asked.owner_id is not None:
        conditions.append(_owned_by(reader, asked.owner_id))
    return conditions


def _owned_by(reader: Reader, owner_id: int) -> ColumnElement[bool]:
    for record_type in ALERTED_TYPES:
        if not reader.may_read_field(record_type, "owner_id"):
            role = reader.user.role
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not ask for the owner_id of a {record_type}",
                    role=role,
                    record_type=record_type,
                )
            )
    return or_(
        *(
            and_(
                Alert.record_type == record_type,
                Alert.record_id.in_(select(model.id).where(model.owner_id == owner_id)),
            )
            for record_type, model in ALERTED_TYPES.items()
        )
    )


def _records(reader: Reader, record_type: str, alerts: Sequence[Alert]) -> dict[int, Account | Deal]:
    ids = [alert.record_id for alert in alerts if alert.record_type == record_type]
    if not ids:
        return {}
    rows = read_records(reader.session, ALERTED_TYPES[record_type], ids)
    return {row.id: row for row in rows}


@dataclass(frozen=True, kw_only=True)
class _Told:
    """Reasons by prediction, and by task and record what was said of it: the last of each day."""

    reasons: Mapping[int, list[dict[str, Any]]]
    days: Mapping[tuple[str, int], Mapping[date, tuple[datetime, float | None]]]

    def history(self, alert: Alert) -> Sequence[tuple[datetime, float | None]]:
        return list(self.days.get((TASK_OF[alert.record_type], alert.record_id), {}).values())


def _said(reader: Reader, alerts: Sequence[Alert], since: datetime | None) -> _Told:
    """Return the reasons given when alerts were raised, and the history since, as far as allowed."""
    readable = {kind for kind in ALERTED_TYPES if reader.may_read_field(kind, "reasons")}
    ids = {alert.prediction_id for alert in alerts if alert.record_type in readable}
    of_alerts = Prediction.id.in_(ids)
    wanted = of_alerts if since is None else or_(of_alerts, _later(alerts, since))
    reasons = case((of_alerts, Prediction.reasons), else_=None)
    query = select(
        Prediction.id,
        Prediction.task,
        Prediction.record_id,
        Prediction.as_of,
        Prediction.probability,
        reasons,
    ).where(wanted)
    told: dict[int, list[dict[str, Any]]] = {}
    days: dict[tuple[str, int], dict[date, tuple[datetime, float | None]]] = {}
    rows = reader.session.execute(query.order_by(Prediction.as_of, Prediction.id)).all() if alerts else ()
    for key, task, record_id, as_of, probability, why in rows:
        if key in ids:
            told[key] = reader.readable_reasons(why or ())
        if since is not None and as_of >= since:
            days.setdefault((task, record_id), {})[as_of.date()] = (as_of, probability)
    return _Told(reasons=told, days=days)


def _later(alerts: Sequence[Alert], since: datetime) -> ColumnElement[bool]:
    records: dict[str, set[int]] = {}
    for alert in alerts:
        records.setdefault(TASK_OF[alert.record_type], set()).add(alert.record_id)
    asked = (
        and_(Prediction.record_id.in_(ids), Prediction.task == task, Prediction.as_of >= since)
        for task, ids in records.items()
    )
    return or_(false(), *asked)


def _terms(reader: Reader, alerts: Sequence[Alert]) -> dict[int, date]:
    """Return when the contract behind each alert ends, or the customer's last one, if that may be told."""
    if not reader.may_be_told_of(["contract.ends_on"]):
        return {}
    about = {alert.id: alert.record_id for alert in alerts if alert.record_type == Account.record_type}
    last = last_terms(reader.session, list(about.values()), reader) if about else {}
    found = {
        alert_id: last[record_id].ends_on
        for alert_id, record_id in about.items()
        if record_id in last and last[record_id].is_seen
    }
    return found | {alert.id: alert.ends_on for alert in alerts if alert.ends_on is not None}


def _seen_amounts(reader: Reader) -> set[str]:
    return {kind for kind in ("contract", "order", "deal") if may_see_amounts_of(reader, kind)}


def _money(one: Mapping[str, str]) -> Money:
    return Money(
        currency=one["currency"],
        of=one["of"],
        whole=Decimal(one["whole"]),
        at_risk=Decimal(one["at_risk"]),
    )


# ---------------------------------------------------------------- pages that stay in place


def _after(order: str, cursor: str) -> ColumnElement[bool]:
    value, last_id = _read_cursor(order, cursor)
    column = getattr(Alert, order.removeprefix("-"))
    if value is None:
        return and_(column.is_(None), Alert.id < last_id)
    return or_(column < value, and_(column == value, Alert.id < last_id), column.is_(None))


def _cursor_of(order: str, alert: Alert) -> str:
    value = getattr(alert, order.removeprefix("-"))
    value = micros(value) if isinstance(value, datetime) else value
    text = json.dumps([order, value, alert.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(order: str, cursor: str) -> tuple[Any, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, value, last_id = json.loads(text)
        bound = _bound(order, value)
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise _bad_cursor(order, cursor) from error
    if made_for != order or type(last_id) is not int or not 0 < last_id < 2**63:
        raise _bad_cursor(order, cursor)
    return bound, last_id


def _bound(order: str, value: float | None) -> Any:  # noqa: ANN401  of any sortable type
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(value)
    return instant(int(value)) if order == "-raised_at" else float(value)


def _bad_cursor(order: str, cursor: str) -> InvalidValueError:
    return InvalidValueError(
        "cursor", cursor, Phrase("a cursor that a page in the order {order} gave", order=order)
    )
