"""Looking at records whose scores are new, and raising the alerts whose cause is there.

`due_steps` works out, from what the records show now, which alerts begin and which are over. It reads and
writes nothing, so it may be asked as often as one likes. `look_at` asks the same again in a transaction in
which nobody else raises alerts, and writes the answer. Whoever looks twice, late or in another order
therefore raises nothing twice: what has begun is running, and what is running does not begin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeVar

from sqlalchemy import BigInteger, and_, case, exists, func, or_, select, true, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.alert_rules import (
    FRESH,
    Kind,
    Over,
    Said,
    Step,
    Term,
    Thresholds,
    churn_jump,
    churn_level,
    churn_steps,
    contract_end,
    deal_at_risk,
    deal_fall,
    deal_steps,
    was_said,
)
from crm_core.alerts import (
    ALERTED_TYPES,
    Alert,
    AlertAction,
    AlertReceiver,
    Did,
    State,
    Why,
    tell_others,
    visible_alerts,
)
from crm_core.changes import Cursor
from crm_core.clock import SECOND, micros
from crm_core.opting_out import list_opted_out
from crm_core.predictions import Prediction
from crm_core.records import Account, Contract, ContractStatus, Deal, DealStatus, Role, Team, User
from crm_core.store import Transaction
from crm_core.worth import NO_CURRENCY, money_at_risk

CURSOR: Final = "alerts"
"""Its `position` is the last prediction looked at; its row is locked by whoever raises alerts."""

_FRESH = int(FRESH.total_seconds()) * SECOND

Scored = Account | Deal
S = TypeVar("S", bound=Scored)
Running = dict[int, dict[Kind, datetime]]


@dataclass(frozen=True, kw_only=True)
class Raised:
    """What a look wrote."""

    raised: Sequence[Alert] = ()
    closed: Sequence[Alert] = ()


@dataclass(frozen=True, kw_only=True)
class Due:
    """What begins and ends for one record, and what is needed to write it down."""

    record: Scored
    steps: Sequence[Step]
    said: Prediction | None = None
    previous: float | None = None
    money: Sequence[Mapping[str, str]] = ()
    term: Term | None = None


@dataclass(kw_only=True)
class _Seen:
    """What is known of some records of one type."""

    records: Sequence[Scored]
    said: Mapping[int, Prediction] = field(default_factory=dict)
    before: Mapping[int, Said] = field(default_factory=dict)
    terms: Mapping[int, Term] = field(default_factory=dict)
    told_terms: Collection[str] = ()
    running: Running = field(default_factory=dict)
    silent: Collection[int] = ()


def due_steps(
    session: Session, record_type: str, ids: Collection[int], limits: Thresholds, now: datetime
) -> list[Due]:
    """Return what begins and ends for records, as they are now; those with nothing to write are left out."""
    model = ALERTED_TYPES[record_type]
    seen = _Seen(records=read_records(session, model, ids))
    seen.running = _running(session, record_type, ids)
    seen.silent = list_opted_out(session, model, ids)
    seen.said = _shown(session, model, ids)
    seen.before = _before(session, model, list(seen.said), now - timedelta(days=limits.days))
    if model is Account:
        seen.terms = last_terms(session, list(seen.said))
        seen.told_terms = _told(session, [_term_cause(term) for term in seen.terms.values()])
    found = (_due(seen, record, limits, now) for record in seen.records)
    return [due for due in found if due.steps]


def look_at(transaction: Transaction, record_type: str, ids: Collection[int], limits: Thresholds) -> Raised:
    """Raise and close what is due for records; nobody else does meanwhile."""
    session = transaction.session
    lock_alerts(session)
    dues = due_steps(session, record_type, ids, limits, transaction.now)
    closed = [
        alert
        for due in dues
        for step in due.steps
        if step.why is not None
        for alert in _close_running(transaction, due.record, step.kind, step.why)
    ]
    begun = [(due, step.kind) for due in dues for step in due.steps if step.why is None]
    return Raised(raised=_raise(transaction, begun), closed=closed)


def close_what_is_over(transaction: Transaction) -> list[Alert]:
    """Close the alerts that are over whatever models say: the deal is won, the contract renewed."""
    session = transaction.session
    lock_alerts(session)
    return [_close(transaction, alert, why) for alert, why in over_by_facts(session)]


def over_by_facts(session: Session) -> list[tuple[Alert, Over]]:
    """Return the alerts that are over by what happened to their records, and why."""
    deals = select(Alert, Deal.status, Deal.deleted_at).where(
        Alert.closed_at.is_(None), Alert.record_type == "deal", Alert.record_id == Deal.id
    )
    deals = deals.where(or_(Deal.status != DealStatus.OPEN, Deal.deleted_at.is_not(None)))
    found = [
        (alert, Over.DELETED if deleted else Over(status))
        for alert, status, deleted in session.execute(deals)
    ]
    accounts = select(Alert).where(
        Alert.closed_at.is_(None), Alert.record_type == "account", Alert.record_id == Account.id
    )
    found += [
        (alert, Over.DELETED) for alert in session.scalars(accounts.where(Account.deleted_at.is_not(None)))
    ]
    terms = select(Alert, Contract).where(Alert.closed_at.is_(None), Alert.contract_id == Contract.id)
    gone = {alert.id for alert, _ in found}
    for alert, contract in session.execute(terms):
        why = _end_of_term(alert, contract)
        if why is not None and alert.id not in gone:
            found.append((alert, why))
    return found


def lock_alerts(session: Session) -> Cursor:
    """Return the cursor of the alerts, locked: until the transaction ends nobody else raises any."""
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(kind.insert(Cursor).values(name=CURSOR, position=0).on_conflict_do_nothing())
    return session.get_one(Cursor, CURSOR, with_for_update=True, populate_existing=True)


def list_to_look_at(session: Session, record_type: str, *, after: int, limit: int) -> list[int]:
    """Return the next records that have a probability, or an alert that runs, by id."""
    model = ALERTED_TYPES[record_type]
    runs = exists().where(
        Alert.record_type == record_type, Alert.record_id == model.id, Alert.closed_at.is_(None)
    )
    query = select(model.id).where(model.id > after, or_(model.probability.is_not(None), runs))
    return list(session.scalars(query.order_by(model.id).limit(limit)))


# ---------------------------------------------------------------- what is known


def read_records(session: Session, model: type[S], ids: Collection[int]) -> Sequence[S]:
    """Return records as they are now, by id."""
    query = select(model).where(model.id.in_(ids)).order_by(model.id)
    return session.scalars(query, execution_options={"populate_existing": True}).all()


def _running(session: Session, record_type: str, ids: Collection[int]) -> Running:
    query = select(Alert.record_id, Alert.kind, Alert.raised_at).where(
        Alert.record_type == record_type, Alert.record_id.in_(ids), Alert.closed_at.is_(None)
    )
    found: Running = defaultdict(dict)
    for record_id, kind, raised_at in session.execute(query):
        found[record_id][Kind(kind)] = raised_at
    return found


def _shown(session: Session, model: type[Scored], ids: Collection[int]) -> dict[int, Prediction]:
    """Return the prediction that each record shows, where it was said and not worked out about the past."""
    shown = and_(
        Prediction.record_type == model.record_type,
        Prediction.record_id == model.id,
        Prediction.as_of == model.scored_at,
        Prediction.model_version == model.model_version,
    )
    query = select(Prediction).join(model, shown).where(model.id.in_(ids), model.deleted_at.is_(None))
    if model is Deal:
        query = query.where(Deal.status == DealStatus.OPEN)
    rows = session.scalars(query.order_by(Prediction.id))
    return {row.record_id: row for row in rows if was_said(row.as_of, row.recorded_at)}


def _before(session: Session, model: type[Scored], ids: Collection[int], then: datetime) -> dict[int, Said]:
    """Return what the model that speaks now had said of each record then, or said first since."""
    as_of = type_coerce(Prediction.as_of, BigInteger)
    away = as_of - micros(then)
    order = (case((away <= 0, 0), else_=1), func.abs(away), Prediction.id)
    place = func.row_number().over(partition_by=Prediction.record_id, order_by=order)
    ranked = (
        select(
            Prediction.record_id,
            Prediction.probability,
            Prediction.grade,
            Prediction.yearly_value,
            place.label("place"),
        )
        .join(model, Prediction.record_id == model.id)
        .where(
            Prediction.record_type == model.record_type,
            Prediction.record_id.in_(ids),
            Prediction.model_version == model.model_version,
            Prediction.as_of < model.scored_at,
            type_coerce(Prediction.recorded_at, BigInteger) - as_of <= _FRESH,
        )
        .subquery()
    )
    query = select(ranked.c.record_id, ranked.c.probability, ranked.c.grade).where(ranked.c.place == 1)
    return {key: Said(probability=chance, grade=grade) for key, chance, grade in session.execute(query)}


def last_terms(session: Session, ids: Collection[int], reader: Reader | None = None) -> dict[int, Term]:
    """Return the contract of each customer that runs the longest, and whether a reader sees it."""
    seen = true() if reader is None else reader.readable(Contract)
    told = case((seen, 1), else_=0)
    query = select(Contract.account_id, Contract.id, Contract.ends_on, told).where(
        Contract.account_id.in_(ids),
        Contract.deleted_at.is_(None),
        Contract.status == ContractStatus.ACTIVE,
        Contract.renewed_by_id.is_(None),
    )
    rows = session.execute(query.order_by(Contract.ends_on, Contract.id))
    return {
        account_id: Term(contract_id=key, ends_on=ends_on, is_seen=bool(is_seen))
        for account_id, key, ends_on, is_seen in rows
    }


def _told(session: Session, causes: Collection[str]) -> set[str]:
    return set(session.scalars(select(Alert.cause).where(Alert.cause.in_(causes)))) if causes else set()


# ---------------------------------------------------------------- what follows from it


def _due(seen: _Seen, record: Scored, limits: Thresholds, now: datetime) -> Due:
    running = seen.running.get(record.id, {})
    said = seen.said.get(record.id)
    if record.id in seen.silent:
        return Due(record=record, steps=[Step(kind=kind, why=Over.OPTED_OUT) for kind in running])
    if said is None:
        return Due(record=record, steps=[])
    before = seen.before.get(record.id)
    return (
        _due_of_account(seen, record, said, before, limits, now)
        if isinstance(record, Account)
        else _due_of_deal(record, said, before, running, limits)
    )


def _due_of_account(
    seen: _Seen, record: Account, said: Prediction, before: Said | None, limits: Thresholds, now: datetime
) -> Due:
    money = [
        {"currency": one.currency, "of": one.of, "whole": str(one.yearly), "at_risk": str(one.at_risk)}
        for one in money_at_risk(said.probability, said.yearly_value)
    ]
    present = Said(probability=said.probability, grade=said.grade, at_risk=_largest(money))
    term = seen.terms.get(record.id)
    running = seen.running.get(record.id, {})
    signals = {
        Kind.CHURN_LEVEL: churn_level(present, limits),
        Kind.CHURN_JUMP: churn_jump(present, before, limits),
    }
    if term is not None and _term_cause(term) not in seen.told_terms:
        # What runs may be about the term before: this one is another cause.
        running = {kind: since for kind, since in running.items() if kind is not Kind.CONTRACT_END}
        signals[Kind.CONTRACT_END] = contract_end(present, term, now.date(), limits)
    steps = churn_steps(signals, running, now, limits)
    previous = before.probability if before is not None else None
    return Due(record=record, steps=steps, said=said, previous=previous, money=money, term=term)


def _due_of_deal(
    record: Deal, said: Prediction, before: Said | None, running: dict[Kind, datetime], limits: Thresholds
) -> Due:
    present = Said(probability=said.probability, grade=said.grade)
    at_risk = deal_at_risk(record.amount, present, before)
    money = []
    if at_risk is not None and record.amount is not None:
        currency = record.currency or NO_CURRENCY
        money = [{"currency": currency, "of": "deal", "whole": str(record.amount), "at_risk": str(at_risk)}]
    steps = deal_steps({Kind.DEAL_FALL: deal_fall(present, before, limits)}, running)
    previous = before.probability if before is not None else None
    return Due(record=record, steps=steps, said=said, previous=previous, money=money)


def _largest(money: Iterable[Mapping[str, str]]) -> Decimal | None:
    """Return the largest sum at risk; sums of several currencies are never added."""
    return max((Decimal(one["at_risk"]) for one in money), default=None)


def _end_of_term(alert: Alert, contract: Contract) -> Over | None:
    if contract.deleted_at is not None:
        return Over.DELETED
    if contract.renewed_by_id is not None or contract.status == ContractStatus.RENEWED:
        return Over.RENEWED
    if contract.status != ContractStatus.ACTIVE:
        return Over.LEFT
    return Over.EXTENDED if contract.ends_on != alert.ends_on else None


# ---------------------------------------------------------------- writing it down


def _raise(transaction: Transaction, begun: Sequence[tuple[Due, Kind]]) -> list[Alert]:
    """Write down alerts, whom to tell of them, and have the programs told that asked for it."""
    session = transaction.session
    earlier = _count_earlier(session, [due.record for due, _ in begun])
    raised = [
        (_new_alert(due, kind, due.said, earlier, transaction.now), due) for due, kind in begun if due.said
    ]
    session.add_all([alert for alert, _ in raised])
    session.flush()
    rows = [AlertAction(alert_id=alert.id, action=Did.RAISED, at=transaction.now) for alert, _ in raised]
    session.add_all(rows)
    _tell(session, [(alert.id, due.record.owner_id) for alert, due in raised])
    for alert, due in raised:
        tell_others(transaction, alert, Did.RAISED, reasons=(due.said.reasons if due.said else None) or [])
    return [alert for alert, _ in raised]


def _new_alert(
    due: Due, kind: Kind, said: Prediction, earlier: Mapping[tuple[str, int, str], int], now: datetime
) -> Alert:
    record, term = due.record, due.term if kind is Kind.CONTRACT_END else None
    at_risk = _largest(due.money)
    number = earlier.get((record.record_type, record.id, kind), 0) + 1
    return Alert(
        kind=kind,
        record_type=record.record_type,
        record_id=record.id,
        # Whoever works the same cause out at the same time gives it the same name.
        cause=_term_cause(term) if term else f"{kind}:{record.record_type}:{record.id}:{number}",
        contract_id=term.contract_id if term else None,
        ends_on=term.ends_on if term else None,
        prediction_id=said.id,
        probability=said.probability,
        previous=due.previous,
        money=[dict(one) for one in due.money] or None,
        at_risk=None if at_risk is None else float(at_risk),
        raised_at=now,
        state=State.OPEN,
    )


def _count_earlier(session: Session, records: Sequence[Scored]) -> dict[tuple[str, int, str], int]:
    """Return how many alerts of each kind there have been about records."""
    if not records:
        return {}
    key = (Alert.record_type, Alert.record_id, Alert.kind)
    about = and_(
        Alert.record_type == records[0].record_type, Alert.record_id.in_([record.id for record in records])
    )
    rows = session.execute(select(*key, func.count()).where(about).group_by(*key))
    return {(record_type, record_id, kind): count for record_type, record_id, kind, count in rows}


def _term_cause(term: Term) -> str:
    return f"{Kind.CONTRACT_END}:contract:{term.contract_id}:{term.ends_on.isoformat()}"


def _close_running(transaction: Transaction, record: Scored, kind: Kind, why: Over) -> list[Alert]:
    query = select(Alert).where(
        Alert.record_type == record.record_type,
        Alert.record_id == record.id,
        Alert.kind == kind,
        Alert.closed_at.is_(None),
    )
    return [_close(transaction, alert, why) for alert in transaction.session.scalars(query)]


def _close(transaction: Transaction, alert: Alert, why: Over) -> Alert:
    alert.state, alert.closed_at, alert.closed_why = State.CLOSED, transaction.now, why
    alert.snoozed_until = None
    row = AlertAction(alert_id=alert.id, action=Did.CLOSED, at=transaction.now)
    transaction.session.add(row)
    transaction.session.flush()
    return alert


# ---------------------------------------------------------------- whom to tell


def _tell(session: Session, alerts: Sequence[tuple[int, int | None]]) -> None:
    """Note who is to be told of new alerts: owner and manager next above, as far as they may see them."""
    owned: dict[int, list[int]] = defaultdict(list)
    for alert_id, owner_id in alerts:
        if owner_id is not None:
            owned[owner_id].append(alert_id)
    wanted: dict[User, dict[int, Why]] = defaultdict(dict)
    for owner_id, ids in owned.items():
        owner = session.get_one(User, owner_id)
        people = dict.fromkeys(managers_of(session, owner), Why.MANAGER) | {owner: Why.OWNER}
        for user, why in people.items():
            wanted[user] |= dict.fromkeys(ids, why)
    for user, reasons in wanted.items():
        seen = _seen_by(session, user, list(reasons))
        session.add_all([AlertReceiver(alert_id=each, user_id=user.id, why=reasons[each]) for each in seen])
    session.flush()


def _seen_by(session: Session, user: User, ids: Collection[int]) -> Sequence[int]:
    """Return which alerts somebody who works here may see."""
    if not user.active or user.deleted_at is not None or user.left_at is not None:
        return []
    query = select(Alert.id).where(Alert.id.in_(ids), visible_alerts(Reader(session, user)))
    return session.scalars(query.order_by(Alert.id)).all()


works_here = (User.active.is_(True), User.deleted_at.is_(None), User.left_at.is_(None))
"""The conditions that somebody works with the CRM."""


def managers_of(session: Session, user: User) -> list[User]:
    """Return the managers of a user's team; where it has none, those of the team above, and so on."""
    teams = dict(session.execute(select(Team.id, Team.parent_id)).all())
    team, passed = user.team_id, set[int]()
    while team is not None and team not in passed:
        passed.add(team)
        query = select(User).where(User.team_id == team, User.role == Role.MANAGER, *works_here)
        if found := list(session.scalars(query.order_by(User.id))):
            return found
        team = teams.get(team)
    return []
