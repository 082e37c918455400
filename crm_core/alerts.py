"""Alerts: what somebody was told of, who has it in hand, and everything that was done about it.

An alert has one cause, and `cause` is unique: whoever works out the same cause again, another worker or the
same one after a crash, raises nothing. A cause lasts from when its rule says ON until it says OFF, see
`crm_core.alert_rules`; the same kind of alert about the same record later is the next cause.

`state` is what people made of it: open, acknowledged, snoozed until an instant, or closed once the cause is
over. An alert whose snooze has run out is open again by itself. Who sees a record and its scores sees its
alerts; who may change the record, and who was told of the alert, may act on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    ForeignKey,
    Index,
    ScalarSelect,
    Select,
    String,
    and_,
    false,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader
from crm_core.columns import Day, Instant, Json, check_text
from crm_core.errors import (
    AccessDeniedError,
    AlertClosedError,
    InvalidValueError,
    RecordNotFoundError,
)
from crm_core.opting_out import may_be_scored
from crm_core.phrases import Phrase
from crm_core.records import Account, Base, Deal, Id, Record, User
from crm_core.store import Transaction
from crm_core.tokens import works_here
from crm_core.webhooks import emit
from crm_core.worth import SOURCES

ALERTED_TYPES: Final[dict[str, type[Account | Deal]]] = {"account": Account, "deal": Deal}
"""Record types that alerts are about."""

LONGEST_NOTE: Final = 2_000
LONGEST_SNOOZE: Final = timedelta(days=366)


class State(StrEnum):
    """What people made of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    CLOSED = "closed"


class Did(StrEnum):
    """What was done about an alert."""

    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    ASSIGNED = "assigned"
    REOPENED = "reopened"
    CLOSED = "closed"


class Why(StrEnum):
    """Why somebody is told of an alert."""

    OWNER = "owner"
    MANAGER = "manager"
    ASSIGNEE = "assignee"


class ByMail(StrEnum):
    """When somebody wants to be told by mail."""

    AT_ONCE = "at_once"
    DAILY = "daily"
    NEVER = "never"


class Alert(Base):
    """One warning about one record, of one cause."""

    __tablename__ = "alerts"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(20))
    record_type: Mapped[str] = mapped_column(String(40))
    record_id: Mapped[int] = mapped_column(BigInteger)
    cause: Mapped[str] = mapped_column(String(120), unique=True, comment="what makes two alerts the same")
    contract_id: Mapped[int | None] = mapped_column(ForeignKey("contracts.id"))
    ends_on: Mapped[date | None] = mapped_column(Day, comment="when the contract that it is about ends")
    prediction_id: Mapped[int] = mapped_column(BigInteger, comment="what was said when it was raised")
    probability: Mapped[float] = mapped_column(comment="as it was then")
    previous: Mapped[float | None] = mapped_column(comment="what the same model had said before")
    money: Mapped[list[dict[str, str]] | None] = mapped_column(Json, comment="at risk then, by currency")
    at_risk: Mapped[float | None] = mapped_column(comment="the largest of these sums, to sort by")
    raised_at: Mapped[datetime] = mapped_column(Instant)
    state: Mapped[str] = mapped_column(String(12), default=State.OPEN)
    snoozed_until: Mapped[datetime | None] = mapped_column(Instant)
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    acknowledged_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    acknowledged_at: Mapped[datetime | None] = mapped_column(Instant)
    closed_at: Mapped[datetime | None] = mapped_column(Instant)
    closed_why: Mapped[str | None] = mapped_column(String(20))

    __table_args__ = (
        Index("ix_alerts_record_type_record_id", "record_type", "record_id"),
        Index("ix_alerts_closed_at_at_risk", "closed_at", "at_risk"),
    )

    def state_at(self, now: datetime) -> State:
        """Return its state: one whose snooze has run out is open again."""
        if self.state == State.SNOOZED and self.snoozed_until is not None and self.snoozed_until <= now:
            return State.OPEN
        return State(self.state)


class AlertAction(Base):
    """Something that was done about an alert; rows are only added."""

    __tablename__ = "alert_actions"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"), index=True)
    action: Mapped[str] = mapped_column(String(12))
    at: Mapped[datetime] = mapped_column(Instant)
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="NULL: the program")
    note: Mapped[str | None] = mapped_column(String(LONGEST_NOTE))
    until: Mapped[datetime | None] = mapped_column(Instant, comment="of a snooze")
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


class AlertReceiver(Base):
    """Somebody to be told of an alert, once."""

    __tablename__ = "alert_receivers"

    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    why: Mapped[str] = mapped_column(String(10))
    told_at: Mapped[datetime | None] = mapped_column(Instant, comment="NULL: not yet")

    __table_args__ = (Index("ix_alert_receivers_told_at_user_id", "told_at", "user_id"),)


class AlertPreference(Base):
    """When somebody wants mails about alerts; without a row, at once."""

    __tablename__ = "alert_preferences"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    mail: Mapped[str] = mapped_column(String(10))


# ---------------------------------------------------------------- seeing


def visible_alerts(reader: Reader) -> ColumnElement[bool]:
    """Return the condition that an alert is one that the reader may see.

    They see the record and its scores, and nobody whom it is about asked not to be scored.
    """
    return or_(false(), *(_visible(reader, model) for model in ALERTED_TYPES.values()))


def _visible(reader: Reader, model: type[Account | Deal]) -> ColumnElement[bool]:
    if not reader.may_read_field(model.record_type, "probability"):
        return false()
    # Asked of each alert: there are far fewer of them than of records.
    seen = reader.select(model).with_only_columns(model.id).where(may_be_scored(model))
    about = and_(
        Alert.record_type == model.record_type,
        seen.where(model.id == Alert.record_id).correlate(Alert).exists(),
    )
    # Who may not see when contracts end is not told that one does.
    return about if reader.may_be_told_of(["contract.ends_on"]) else and_(about, Alert.contract_id.is_(None))


def is_in_state(state: State, now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """Return the condition that an alert is in a state now."""
    woken = and_(Alert.state == State.SNOOZED, Alert.snoozed_until <= now)
    match state:
        case State.OPEN:
            return or_(Alert.state == State.OPEN, woken)
        case State.SNOOZED:
            return and_(Alert.state == State.SNOOZED, Alert.snoozed_until > now)
    return Alert.state == state


def select_alerts(reader: Reader) -> Select[Alert]:
    """Return the query of all alerts that the reader may see."""
    return select(Alert).where(visible_alerts(reader))


def get_alert(reader: Reader, alert_id: int) -> Alert:
    """Return an alert; one that the reader may not see does not exist for them."""
    found = reader.session.scalars(select_alerts(reader).where(Alert.id == alert_id)).one_or_none()
    if found is None:
        raise RecordNotFoundError("alert", alert_id)
    return found


def open_count(
    reader: Reader, now: datetime | BindParameter[datetime], *, most: int = 10_000
) -> ScalarSelect[int]:
    """Return the query of how many open alerts the reader may see; counting ends at `most`."""
    query = select(Alert.id).where(
        Alert.closed_at.is_(None), is_in_state(State.OPEN, now), visible_alerts(reader)
    )
    return select(func.count()).select_from(query.limit(most).subquery()).scalar_subquery()


def count_open(reader: Reader, now: datetime, *, most: int = 10_000) -> int:
    """Return how many open alerts the reader may see; counting ends at `most`."""
    return reader.session.scalar(select(open_count(reader, now, most=most))) or 0


def open_alerts_of(reader: Reader, record: Record, now: datetime) -> list[Alert]:
    """Return the alerts about a record that are not closed, the open ones first."""
    query = select_alerts(reader).where(
        Alert.record_type == record.record_type, Alert.record_id == record.id, Alert.closed_at.is_(None)
    )
    found = reader.session.scalars(query.order_by(Alert.raised_at.desc(), Alert.id.desc()))
    return sorted(found, key=lambda alert: alert.state_at(now) is not State.OPEN)


def may_see_money(reader: Reader) -> bool:
    """Tell whether a reader may see every amount that alerts are sorted by."""
    parts = (*SOURCES.items(), ("deal", "amount"))
    return all(may_see_amounts_of(reader, record_type) for record_type, _ in parts)


def may_see_amounts_of(reader: Reader, record_type: str) -> bool:
    """Tell whether a reader may see the amounts of a record type that money at risk is made from."""
    return reader.may_be_told_of([f"{record_type}.{AMOUNTS[record_type]}"])


AMOUNTS: Final = {**SOURCES, "deal": "amount"}
"""By record type: the field that money at risk is worked out from."""


# ---------------------------------------------------------------- acting


@dataclass(frozen=True, kw_only=True)
class Acting:
    """Somebody who does something about alerts, in one transaction of theirs.

    Doing the same twice changes nothing and leaves no second row, unless another note comes with it.
    """

    transaction: Transaction
    user: User

    def acknowledge(self, alert_id: int, *, note: str | None = None) -> tuple[Alert, bool]:
        """Say that it is in hand; return the alert, and whether that was new."""
        alert = self._get(alert_id)
        fresh = alert.state != State.ACKNOWLEDGED
        if fresh:
            alert.state, alert.snoozed_until = State.ACKNOWLEDGED, None
            alert.acknowledged_by_id, alert.acknowledged_at = self.user.id, self.transaction.now
        self._log(alert, Did.ACKNOWLEDGED, fresh=fresh, note=note)
        if fresh:
            tell_others(self.transaction, alert, Did.ACKNOWLEDGED, actor_id=self.user.id)
        return alert, fresh

    def snooze(self, alert_id: int, until: datetime, *, note: str | None = None) -> tuple[Alert, bool]:
        """Put it aside until an instant; return the alert, and whether that was new."""
        alert = self._get(alert_id)
        fresh = (alert.state, alert.snoozed_until) != (State.SNOOZED, until)
        if fresh:
            _check_until(until, self.transaction.now)
            alert.state, alert.snoozed_until = State.SNOOZED, until
        self._log(alert, Did.SNOOZED, fresh=fresh, note=note, until=until)
        return alert, fresh

    def assign(self, alert_id: int, assignee_id: int, *, note: str | None = None) -> tuple[Alert, bool]:
        """Give it to somebody who may see it, and have them told; return it, and whether that was new."""
        alert = self._get(alert_id)
        assignee = self._get_assignee(alert, assignee_id)
        fresh = alert.assignee_id != assignee.id
        if fresh:
            alert.assignee_id = assignee.id
            add_receivers(self.transaction.session, alert.id, {assignee.id: Why.ASSIGNEE})
        self._log(alert, Did.ASSIGNED, fresh=fresh, note=note, assignee_id=assignee.id)
        return alert, fresh

    def reopen(self, alert_id: int, *, note: str | None = None) -> tuple[Alert, bool]:
        """Take back that it is in hand or put aside; return the alert, and whether that was new."""
        alert = self._get(alert_id)
        fresh = alert.state != State.OPEN
        if fresh:
            alert.state, alert.snoozed_until = State.OPEN, None
            alert.acknowledged_by_id = alert.acknowledged_at = None
        self._log(alert, Did.REOPENED, fresh=fresh, note=note)
        return alert, fresh

    def _get(self, alert_id: int) -> Alert:
        """Return an alert that the user may act on, locked."""
        session = self.transaction.session
        get_alert(Reader(session, self.user), alert_id)
        alert = session.get_one(Alert, alert_id, with_for_update=True, populate_existing=True)
        if not may_act(Reader(session, self.user), alert):
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not act on alert {alert_id}", role=self.user.role, alert_id=alert_id
                )
            )
        if alert.state == State.CLOSED:
            raise AlertClosedError(alert_id, alert.closed_why or "")
        return alert

    def _get_assignee(self, alert: Alert, assignee_id: int) -> User:
        session = self.transaction.session
        assignee = session.get(User, assignee_id)
        if assignee is None or not works_here(assignee):
            raise RecordNotFoundError("user", assignee_id)
        try:
            get_alert(Reader(session, assignee), alert.id)
        except RecordNotFoundError:
            raise InvalidValueError(
                "assignee_id",
                assignee_id,
                Phrase(
                    "somebody who may see {record_type} {record_id}",
                    record_type=alert.record_type,
                    record_id=alert.record_id,
                ),
            ) from None
        return assignee

    def _log(
        self,
        alert: Alert,
        did: Did,
        *,
        fresh: bool,
        note: str | None,
        until: datetime | None = None,
        assignee_id: int | None = None,
    ) -> None:
        note = _checked_note(note)
        if not fresh and (note is None or note == self._last_note(alert, did)):
            return
        row = AlertAction(alert_id=alert.id, action=did, at=self.transaction.now, actor_id=self.user.id)
        row.note, row.until, row.assignee_id = note, until, assignee_id
        self.transaction.session.add(row)
        self.transaction.session.flush()

    def _last_note(self, alert: Alert, did: Did) -> str | None:
        query = select(AlertAction.note).where(AlertAction.alert_id == alert.id, AlertAction.action == did)
        return self.transaction.session.scalar(query.order_by(AlertAction.id.desc()).limit(1))


def tell_others(transaction: Transaction, alert: Alert, did: Did, **more: Any) -> None:
    """Have the programs that asked for it told of an alert: those whose owners may see the score."""
    data = {
        "alert_id": alert.id,
        "kind": alert.kind,
        "record_type": alert.record_type,
        "record_id": alert.record_id,
        "fields": ["probability"],
        # As with `visible_alerts`: who may not see when contracts end is not told that one does.
        "needs": [] if alert.contract_id is None else ["contract.ends_on"],
        "values": {"probability": alert.probability, "previous_probability": alert.previous},
        **more,
    }
    at = transaction.now
    key = f"alert:{alert.id}:{did}:{at.isoformat()}"
    emit(transaction.session, f"alert.{did}", data, key=key, now=at)


def may_act(reader: Reader, alert: Alert) -> bool:
    """Tell whether somebody who sees an alert may act on it: a writer of the record, or a receiver."""
    if reader.session.get(AlertReceiver, (alert.id, reader.user.id)) is not None:
        return True
    model = ALERTED_TYPES[alert.record_type]
    query = select(model.id).where(model.id == alert.record_id, reader.writable(model))
    return reader.session.scalar(query) is not None


def which_may_be_acted_on(reader: Reader, alerts: Sequence[Alert]) -> set[int]:
    """Return the ids of those alerts, all seen by the reader, that `may_act` allows; by one query at most."""
    rights = {record_type: reader.right(record_type) for record_type in ALERTED_TYPES}
    # Where both reach as far, whoever sees the record of an alert may change it.
    sure = {kind for kind, right in rights.items() if right.read is right.write}
    mine = {alert.id for alert in alerts if alert.record_type in sure}
    alerts = [alert for alert in alerts if alert.id not in mine]
    if not alerts:
        return mine
    told = select(AlertReceiver.alert_id).where(AlertReceiver.user_id == reader.user.id)
    about = (
        and_(
            Alert.record_type == record_type,
            Alert.record_id.in_(select(model.id).where(reader.writable(model))),
        )
        for record_type, model in ALERTED_TYPES.items()
    )
    query = select(Alert.id).where(Alert.id.in_([one.id for one in alerts]), or_(Alert.id.in_(told), *about))
    return mine | set(reader.session.scalars(query))


def list_notes(session: Session, alert_ids: Sequence[int]) -> dict[int, list[AlertAction]]:
    """Return by alert what was done about it with a note, oldest first."""
    query = select(AlertAction).where(AlertAction.alert_id.in_(alert_ids), AlertAction.note.is_not(None))
    found: dict[int, list[AlertAction]] = {}
    for action in session.scalars(query.order_by(AlertAction.id)):
        found.setdefault(action.alert_id, []).append(action)
    return found


def list_actions(session: Session, alert_id: int) -> list[AlertAction]:
    """Return what was done about an alert, oldest first."""
    query = select(AlertAction).where(AlertAction.alert_id == alert_id).order_by(AlertAction.id)
    return list(session.scalars(query))


def add_receivers(session: Session, alert_id: int, receivers: dict[int, Why]) -> None:
    """Have people told of an alert; whoever was told stays told."""
    known = set(session.scalars(select(AlertReceiver.user_id).where(AlertReceiver.alert_id == alert_id)))
    rows = (
        AlertReceiver(alert_id=alert_id, user_id=user_id, why=why)
        for user_id, why in receivers.items()
        if user_id not in known
    )
    session.add_all(rows)
    session.flush()


def mail_wish(session: Session, user_id: int) -> ByMail:
    """Return when somebody wants mails about alerts."""
    found = session.get(AlertPreference, user_id)
    return ByMail(found.mail) if found is not None else ByMail.AT_ONCE


def set_mail_wish(session: Session, user_id: int, wish: ByMail) -> None:
    """Write down when somebody wants mails about alerts."""
    session.merge(AlertPreference(user_id=user_id, mail=wish))
    session.flush()


def _checked_note(note: str | None) -> str | None:
    note = (note or "").strip()
    return check_text("note", note, longest=LONGEST_NOTE) or None


def _check_until(until: datetime, now: datetime) -> None:
    if not now < until <= now + LONGEST_SNOOZE:
        raise InvalidValueError("until", until.isoformat(), "an instant after now, within a year")
