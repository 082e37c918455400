"""Raises alerts: follows what models say, looks at everything once a day, and has people told.

How it goes on after being killed between any two steps, and how many may do it at once:

- Whether an alert begins or ends is worked out from what the records show now, in a transaction in which
  nobody else raises any. Looking at a record again changes nothing, so that only work is lost with the
  process, and two who look at the same record raise one alert.
- Its place in the log of predictions is kept now and then: what comes after it is looked at again. On
  PostgreSQL a smaller number may be committed after a greater one: the place only moves to a number once all
  who were writing when that was seen have ended, and if something came in below it, is looked at again.
- The first time, and then once a day, every record is looked at: contracts draw near while models are silent.
- Whom to tell is written down with the alert; asking for the mail and noting that it was asked for are one
  transaction. What comes in short order is told in one mail, and so is all that the first look finds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from crm_core.alert_rules import Thresholds
from crm_core.alerting import (
    CURSOR,
    close_what_is_over,
    due_steps,
    list_to_look_at,
    lock_alerts,
    look_at,
    over_by_facts,
)
from crm_core.alerts import ALERTED_TYPES, Alert, AlertReceiver, ByMail, mail_wish
from crm_core.changes import Cursor, Source, newest_sequence, seen_transactions
from crm_core.jobs import enqueue
from crm_core.predictions import Prediction
from crm_core.store import Store, Transaction
from serving.logs import get_log
from serving.looping import Loop
from serving.mail import mail_is_on
from serving.settings import Settings

DAILY: Final = CURSOR + ".daily"
"""The cursor whose `batch_as_of` is when everything was looked at last."""

ALERT_MAIL: Final = "alert_mail"
"""The kind of job that writes somebody a mail about their alerts."""

QUIET: Final = timedelta(minutes=10)
"""After a mail about alerts the next one waits for so long, to tell of all that came meanwhile."""

_NUMBERS_AT_ONCE: Final = 5_000
_RECORDS_AT_ONCE: Final = 500
_KEPT_EVERY: Final = timedelta(seconds=5)
_LOOKED_BACK: Final = 100_000
"""Predictions before the first look among which some may still be on their way."""

_log = get_log("serving.alerting")


def _nowhere(_name: str) -> None:
    """Do nothing at a checkpoint."""


def thresholds(settings: Settings) -> Thresholds:
    """Return from when on somebody is told."""
    return Thresholds(
        churn_level=settings.alert_churn_level,
        churn_money=settings.alert_churn_money,
        least_money=settings.alert_least_money,
        churn_jump=settings.alert_churn_jump,
        contract_days=settings.alert_contract_days,
        renewal_below=settings.alert_renewal_below,
        deal_fall=settings.alert_deal_fall,
        deal_grades=settings.alert_deal_grades,
        days=settings.alert_days,
    )


def alerting_loop(settings: Settings, store: Store) -> Loop | None:
    """Return the thread that raises alerts, not started; None where the settings want none."""
    if not settings.alerting:
        return None
    alerting = Alerting(store, thresholds(settings), by_mail=mail_is_on(settings))
    return Loop("alerting", alerting.run_once)


def raise_alerts(settings: Settings, store: Store) -> int:
    """Look at every record now, raise what is due, and return how many alerts that was."""
    alerting = Alerting(store, thresholds(settings), by_mail=mail_is_on(settings))
    with store.reading() as session:
        before = session.scalar(select(func.count(Alert.id))) or 0
    alerting.look_at_everything()
    alerting.run_until_done()
    with store.reading() as session:
        return (session.scalar(select(func.count(Alert.id))) or 0) - before


class Alerting:
    """Raises alerts for what is new.

    `checkpoint` is called with the name of every boundary between two steps; tests kill the process there.
    """

    def __init__(
        self,
        store: Store,
        limits: Thresholds | None = None,
        *,
        by_mail: bool = False,
        checkpoint: Callable[[str], None] = _nowhere,
    ) -> None:
        self._store = store
        self._limits = limits or Thresholds()
        self._by_mail = by_mail
        self._checkpoint = checkpoint
        self._place: _Place | None = None
        self._look: Iterator[tuple[str, Sequence[int]]] | None = None
        self._facts_seen: int | None = None

    def run_once(self) -> int:
        """Look at some records; return how many, or how many alerts were closed or people told."""
        if self._place is None:
            self._place = self._find_place()
        if self._look is not None or self._is_due():
            return self._look_further()
        return self._follow(self._place) or self._close_what_is_over() or self._tell()

    def run_until_done(self) -> None:
        """Look at everything that is there to be looked at."""
        while self.run_once():
            pass

    def look_at_everything(self) -> None:
        """Begin to look at every record, whenever that was done last."""
        self._look = self._everything()

    # ---------------------------------------------------------------- following what models say

    def _find_place(self) -> _Place:
        with self._store.reading() as session:
            cursor = session.get(Cursor, CURSOR)
            if cursor is not None:
                return _Place(settled=cursor.position, kept=cursor.position, high=cursor.position)
            newest = _newest_number(session)
            settled = max(0, newest - _LOOKED_BACK)
            return _Place(settled=settled, kept=0, high=newest, looked=_count(session, settled, newest))

    def _follow(self, place: _Place) -> int:
        """Look at what was said since; return how many numbers of the log that took."""
        with self._store.reading() as session:
            until = min(_newest_number(session), place.high + _NUMBERS_AT_ONCE)
            records = _said_of(session, place.high, until)
            count = _count(session, place.high, until)
            back = place.settle(session) if until <= place.high else 0
        if until <= place.high or back:
            self._keep(place)
            return back
        for record_type, ids in records.items():
            for lot in _lots(sorted(ids)):
                self._look_at(record_type, lot)
        self._checkpoint("followed")
        return place.move(until, count)

    def _keep(self, place: _Place) -> None:
        """Keep the place, now and then: whoever starts from an older one looks at some records again."""
        now = self._store.clock.now()
        if place.settled <= place.kept or (place.kept_at and now - place.kept_at < _KEPT_EVERY):
            return
        with self._store.transaction(source=Source.MODEL) as transaction:
            cursor = lock_alerts(transaction.session)
            cursor.position = max(cursor.position, place.settled)
        place.kept, place.kept_at = place.settled, now

    # ---------------------------------------------------------------- looking at everything

    def _is_due(self) -> bool:
        """Tell whether everything is to be looked at, and begin to."""
        with self._store.reading() as session:
            looked = session.get(Cursor, DAILY)
        now = self._store.clock.now()
        if looked is not None and looked.batch_as_of and looked.batch_as_of.date() >= now.date():
            return False
        self.look_at_everything()
        return True

    def _everything(self) -> Iterator[tuple[str, Sequence[int]]]:
        for record_type in ALERTED_TYPES:
            after = 0
            while True:
                with self._store.reading() as session:
                    ids = list_to_look_at(session, record_type, after=after, limit=_RECORDS_AT_ONCE)
                if not ids:
                    break
                yield record_type, ids
                after = ids[-1]

    def _look_further(self) -> int:
        found = next(self._look, None) if self._look is not None else None
        if found is not None:
            self._look_at(*found)
            self._checkpoint("looked")
            return len(found[1])
        self._look = None
        with self._store.transaction(source=Source.MODEL) as transaction:
            lock_alerts(transaction.session)
            transaction.session.merge(Cursor(name=DAILY, position=0, batch_as_of=transaction.now))
        self._checkpoint("looked at everything")
        return 1

    def _look_at(self, record_type: str, ids: Sequence[int]) -> None:
        """Raise and close what is due; where nothing is, nothing is written."""
        with self._store.reading() as session:
            dues = due_steps(session, record_type, ids, self._limits, self._store.clock.now())
        if not dues:
            return
        self._checkpoint("worked out")
        with self._store.transaction(source=Source.MODEL) as transaction:
            found = look_at(transaction, record_type, [due.record.id for due in dues], self._limits)
            self._checkpoint("raising")
        self._checkpoint("raised")
        _log.info("looked", record_type=record_type, raised=len(found.raised), closed=len(found.closed))

    def _close_what_is_over(self) -> int:
        """Close what is over by facts, if any have changed."""
        with self._store.reading() as session:
            newest = newest_sequence(session)
            over = over_by_facts(session) if newest != self._facts_seen else []
        if over:
            with self._store.transaction(source=Source.MODEL) as transaction:
                close_what_is_over(transaction)
                self._checkpoint("closing")
        self._facts_seen = newest
        return len(over)

    # ---------------------------------------------------------------- telling

    def _tell(self) -> int:
        """Ask for a mail to everybody who is to be told now; return to how many."""
        with self._store.reading() as session:
            if not _due_to_tell(session, self._store.clock.now()):
                return 0
        with self._store.transaction(source=Source.MODEL) as transaction:
            lock_alerts(transaction.session)
            due = _due_to_tell(transaction.session, transaction.now)
            for user_id, told in due.items():
                self._ask_for_mail(transaction, user_id, told)
            self._checkpoint("telling")
        self._checkpoint("told")
        return len(due)

    def _ask_for_mail(self, transaction: Transaction, user_id: int, alert_ids: Sequence[int]) -> None:
        session = transaction.session
        theirs = (AlertReceiver.user_id == user_id, AlertReceiver.told_at.is_(None))
        session.execute(update(AlertReceiver).where(*theirs).values(told_at=transaction.now))
        if self._by_mail and mail_wish(session, user_id) is not ByMail.NEVER:
            payload = {"user_id": user_id, "alert_ids": list(alert_ids)}
            enqueue(session, ALERT_MAIL, payload, now=transaction.now)


@dataclass(kw_only=True)
class _Place:
    """A place in the log of predictions.

    All that could be seen up to `high` has been looked at, of it `looked` rows after `settled`, up to which
    nothing will come in any more; `kept` is what a restart begins from. `next` is what is to be settled next:
    a number, how many rows up to it were looked at, and the transactions that may still add some (None: not
    asked yet).
    """

    settled: int
    kept: int
    high: int
    looked: int = 0
    kept_at: datetime | None = None
    next: tuple[int, int, int | None] | None = None

    def move(self, until: int, count: int) -> int:
        """Move on to a number, up to which `count` more rows were looked at; return by how much."""
        moved, self.high = until - self.high, until
        self.looked += count
        return moved

    def settle(self, session: Session) -> int:
        """Move on as far as nobody can write any more; return how far back a row came in unseen, else 0."""
        running = seen_transactions(session)
        if running is None:
            self.settled, self.looked = self.high, 0  # SQLite has one writer at a time
            return 0
        limit, still_writing = running
        if self.next is None:
            self.next = (self.high, self.looked, None) if self.high > self.settled else None
            return 0
        number, looked, writers = self.next
        if writers is None:
            # Asked a moment later: a row's number is drawn just before its transaction gets its own.
            self.next = (number, looked, limit)
            return 0
        if min(still_writing, default=limit) < writers:
            return 0
        self.next = None
        if _count(session, self.settled, number) == looked:
            self.settled, self.looked = number, self.looked - looked
            return 0
        back, self.high, self.looked = self.high - self.settled, self.settled, 0
        return back


def _lots(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _RECORDS_AT_ONCE):
        yield ids[start : start + _RECORDS_AT_ONCE]


def _count(session: Session, after: int, until: int) -> int:
    """Return how many predictions there are between two numbers, as far as can be seen."""
    query = select(func.count()).where(Prediction.id > after, Prediction.id <= until)
    return session.scalar(query) or 0


def _newest_number(session: Session) -> int:
    return session.scalar(select(func.max(Prediction.id))) or 0


def _said_of(session: Session, after: int, until: int) -> dict[str, set[int]]:
    """Return the records that alerts may be about among those of which something was said, by type."""
    query = select(Prediction.record_type, Prediction.record_id).where(
        Prediction.id > after, Prediction.id <= until, Prediction.record_type.in_(list(ALERTED_TYPES))
    )
    found: dict[str, set[int]] = defaultdict(set)
    for record_type, record_id in session.execute(query):
        found[record_type].add(record_id)
    return found


def _due_to_tell(session: Session, now: datetime) -> dict[int, list[int]]:
    """Return who is to be told now, and of which alerts."""
    waiting = (
        select(AlertReceiver.user_id, Alert.id, Alert.raised_at)
        .join(Alert, Alert.id == AlertReceiver.alert_id)
        .where(AlertReceiver.told_at.is_(None))
        .order_by(AlertReceiver.user_id, Alert.id)
    )
    found: dict[int, list[int]] = defaultdict(list)
    oldest: dict[int, datetime] = {}
    for user_id, alert_id, raised_at in session.execute(waiting):
        found[user_id].append(alert_id)
        oldest[user_id] = min(raised_at, oldest.get(user_id, raised_at))
    return {
        user_id: ids for user_id, ids in found.items() if _may_tell(session, user_id, oldest[user_id], now)
    }


def _may_tell(session: Session, user_id: int, oldest: datetime, now: datetime) -> bool:
    if mail_wish(session, user_id) is ByMail.DAILY:
        return oldest.date() < now.date()
    told = select(func.max(AlertReceiver.told_at)).where(AlertReceiver.user_id == user_id)
    last = session.scalar(told)
    return last is None or last <= now - QUIET
