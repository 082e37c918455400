"""Doing what rules say about causes: conditions, actions and the row of the run, in one transaction.

Conditions are asked of records as they are when the rule acts. Causes are taken in their order; a record that
an action before touched is asked again, so that the end does not depend on how many causes came together.

An action that fails undoes its run and no other: what is kept of it is that it failed, and with what kind of
error. A run whose cause was written by runs before it, one setting off the next, does nothing once there
are `MOST_DEPTH` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from sqlalchemy import select, tuple_
from sqlalchemy.exc import DataError, IntegrityError

from crm_core.access import Reader
from crm_core.activities import log_activity
from crm_core.automation.actions import (
    OWNER,
    Action,
    Assign,
    Mail,
    Message,
    Notice,
    Pool,
    Renewal,
    SetField,
    Tag,
    Task,
    kind_of,
)
from crm_core.automation.actions import Sequence as MailSequence
from crm_core.automation.causes import Cause, Found
from crm_core.automation.conditions import Fitting, reader_for
from crm_core.automation.kept import Active, AutomationRun, Outcome
from crm_core.automation.people import People, away_next
from crm_core.automation.triggers import Unit
from crm_core.bulk import loaded_form
from crm_core.changes import Change
from crm_core.contracts import start_renewal
from crm_core.deals import move_deal
from crm_core.errors import CRMError, NotWrittenToError, RecordNotFoundError
from crm_core.fields import CUSTOM, model_of
from crm_core.mail_templates import get_template, render
from crm_core.notifications import Occasion, notify
from crm_core.outgoing import queue_mail
from crm_core.records import (
    Account,
    Activity,
    ActivityKind,
    Contact,
    Contract,
    Deal,
    Lead,
    Record,
    Role,
    Ticket,
)
from crm_core.records import Tag as TagRecord
from crm_core.sequences import start_sequence
from crm_core.store import Transaction
from crm_core.ticket_clocks import change_ticket
from crm_core.webhooks import emit
from crm_core.working_time import WorkingTime, working_time

MOST_DEPTH: Final = 5
"""Runs that may set off one another; what goes on then is a loop that nobody saw when it was saved."""

MESSAGE: Final = "automation.message"
"""The webhook event of the action `message`."""

NOBODY: Final = "automation.nobody"
"""The sentence that tells that nobody could be chosen."""

_TOLD_OF_PERSON: Final = ("name", "phone", "email")

Did = dict[str, Any]
"""What an action did, in numbers and words of the program."""


_REFUSED: Final = (CRMError, IntegrityError, DataError)
"""What a rule can be wrong about; anything else is ours, and the batch is tried again."""


class NobodyFreeError(Exception):
    """Nobody could be chosen: all are away, have enough to do, or there is none."""


@dataclass(kw_only=True)
class _Run:
    """One rule about one cause, while it acts."""

    active: Active
    cause: Cause
    record: Record
    did: list[Did] = field(default_factory=list)


class Actor:
    """Acts on causes in one transaction.

    `zone` is that of working hours where none was set, `language` that of people who chose none.
    """

    def __init__(self, transaction: Transaction, zone: str, language: str = "en") -> None:
        self._transaction = transaction
        self._session = transaction.session
        self._zone = zone
        self._language = language
        self._people = People(transaction.session)
        self._touched: set[tuple[type[Record], int]] = set()
        self._fit: dict[int, tuple[Fitting, set[int]] | CRMError] = {}

    def act(self, found: Sequence[Found]) -> list[AutomationRun]:
        """Do what rules say about causes that they have not acted on; return the runs, which are written."""
        new = self._new(found)
        for active in {active.id: active for active, _ in new}.values():
            ids = {cause.record_id for rule, cause in new if rule.id == active.id}
            self._fit[active.id] = self._which_fit(active, ids)
        runs = [run for active, cause in new if (run := self._act_on(active, cause)) is not None]
        self._session.flush()
        return runs

    def _new(self, found: Sequence[Found]) -> list[Found]:
        """Return those that no run is about; each once."""
        unique = {(active.id, cause.key): (active, cause) for active, cause in found}
        key = tuple_(AutomationRun.rule_id, AutomationRun.cause)
        keys, known = list(unique), set[tuple[int, str]]()
        for start in range(0, len(keys), 200):
            query = select(AutomationRun.rule_id, AutomationRun.cause)
            rows = self._session.execute(query.where(key.in_(keys[start : start + 200])))
            known.update((rule_id, cause) for rule_id, cause in rows)
        return [each for name, each in unique.items() if name not in known]

    def _which_fit(self, active: Active, ids: set[int]) -> tuple[Fitting, set[int]] | CRMError:
        try:
            fitting = Fitting.of(self._session, active)
            return fitting, fitting.which(self._session, ids)
        except CRMError as error:
            return error

    def _fits(self, active: Active, record_id: int) -> bool:
        known = self._fit[active.id]
        if isinstance(known, CRMError):
            raise known
        fitting, fit = known
        if not fitting.always and (fitting.model, record_id) in self._touched:
            return record_id in fitting.which(self._session, [record_id])
        return record_id in fit

    def _act_on(self, active: Active, cause: Cause) -> AutomationRun | None:
        """Act on one cause; None where the record does not fit."""
        before = self._transaction.newest_change
        run = self._row(active, cause)
        try:
            if not self._fits(active, cause.record_id):
                return None
            self._try_all(run, active, cause)
        except NobodyFreeError:
            run.outcome = Outcome.NOBODY
            self._take_back(before)
            self._tell_nobody(active, cause)
        except _REFUSED as error:
            run.outcome, run.error = Outcome.FAILED, type(error).__name__
            self._take_back(before)
        last = self._transaction.newest_change
        if last is not before and last is not None:
            run.sequence, run.last_change = self._transaction.sequence, last.id
            run.after_change = 0 if before is None else before.id
        self._session.add(run)
        return run

    def _take_back(self, before: Change | None) -> None:
        """Have nothing that was remembered say what the database undid."""
        self._transaction.newest_change = before
        self._people.forget_loads()

    def _try_all(self, run: AutomationRun, active: Active, cause: Cause) -> None:
        if cause.depth >= MOST_DEPTH:
            run.outcome = Outcome.TOO_DEEP
            return
        did: list[Did] = []
        with self._session.begin_nested():
            self._do_all(active, cause, did)
        run.did = did

    def _row(self, active: Active, cause: Cause) -> AutomationRun:
        return AutomationRun(
            rule_id=active.id,
            version=active.version,
            cause=cause.key,
            record_type=active.rule.record_type,
            record_id=cause.record_id,
            caused_at=cause.at,
            at=self._transaction.now,
            outcome=Outcome.DONE,
            depth=cause.depth,
            did=[],
        )

    # ---------------------------------------------------------------- actions

    def _do_all(self, active: Active, cause: Cause, did: list[Did]) -> None:
        model = model_of(self._session, active.rule.record_type)
        run = _Run(active=active, cause=cause, record=self._transaction.get(model, cause.record_id), did=did)
        self._touched.add((model, cause.record_id))
        for number, action in enumerate(active.rule.actions):
            did.append({"kind": kind_of(action), **self._do(run, action, number)})
        self._session.flush()

    def _do(self, run: _Run, action: Action, number: int) -> Did:
        doing: dict[type[Any], Callable[[_Run, Any, int], Did]] = {
            Task: self._plan,
            Notice: self._tell,
            Message: self._send,
            SetField: self._set,
            Assign: self._assign,
            Pool: self._release,
            Tag: self._tag,
            Renewal: self._renew,
            Mail: self._mail,
            MailSequence: self._begin,
        }
        return doing[type(action)](run, action, number)

    def _plan(self, run: _Run, action: Task, _number: int) -> Did:
        made = [
            log_activity(self._transaction, self._task(run.record, action, user_id)).id
            for user_id in self._receivers(run, action)
        ]
        return {"activities": made}

    def _task(self, record: Record, action: Task, user_id: int) -> Activity:
        link = f"{record.record_type}_id"
        about: dict[str, Any] = {"subject_type": record.record_type, "subject_id": record.id}
        return Activity(
            kind=ActivityKind.TASK,
            subject=action.text.in_language(self._reads(user_id)),
            owner_id=user_id,
            due_at=self._after(action.amount, action.unit),
            **({link: record.id} if hasattr(Activity, link) else about),
        )

    def _receivers(self, run: _Run, action: Task) -> list[int]:
        """Return who gets a task: of each that is named one, of a team in turn; nobody gets two."""
        found: list[int] = []
        for who in action.to:
            people = self._people.reached(who, run.record)
            chosen = self._people.next_of(run.active.id, f"task:{who}", people, away=self._away)
            found += [chosen] if chosen is not None else people[:1]
        if not found:
            raise NobodyFreeError
        return list(dict.fromkeys(found))

    def _tell(self, run: _Run, action: Notice, number: int) -> Did:
        people = [each for who in action.to for each in self._people.reached(who, run.record)]
        said = {"rule": run.active.id, "version": run.active.version, "action": number}
        about = (run.record.record_type, run.record.id)
        return {
            "users": notify(self._transaction, people, kind=Occasion.AUTOMATION, about=about, params=said)
        }

    def _send(self, run: _Run, action: Message, number: int) -> Did:
        told = {name: getattr(run.record, name) for name in _TOLD_OF_PERSON if hasattr(run.record, name)}
        job = emit(
            self._session,
            MESSAGE,
            {
                "record_type": run.active.rule.record_type,
                "record_id": run.record.id,
                "rule_id": run.active.id,
                "channel": action.channel,
                "text": {"en": action.text.en, "zh": action.text.zh},
                "values": told,
            },
            key=f"automation:{run.active.id}:{run.cause.key}:{number}",
            now=self._transaction.now,
        )
        return {"job": job}

    def _set(self, run: _Run, action: SetField, _number: int) -> Did:
        model = type(run.record)
        custom = action.field.startswith(CUSTOM)
        value = action.value if custom else loaded_form(model, action.field, action.value)
        if isinstance(run.record, Deal) and action.field == "stage":
            changes = move_deal(self._transaction, run.record, str(value))
        elif isinstance(run.record, Ticket):
            changes = change_ticket(self._transaction, run.record, {action.field: value})
        else:
            changes = self._transaction.update(run.record, {action.field: value})
        return {"field": action.field, "changed": bool(changes)}

    def _release(self, run: _Run, _action: Pool, _number: int) -> Did:
        before = getattr(run.record, "owner_id", None)
        self._transaction.update(run.record, {"owner_id": None})
        return {"from": before}

    def _tag(self, run: _Run, action: Tag, _number: int) -> Did:
        about = {"subject_type": run.active.rule.record_type, "subject_id": run.record.id}
        there = (
            select(TagRecord.id).filter_by(**about, word=action.word).where(TagRecord.deleted_at.is_(None))
        )
        if self._session.scalar(there.limit(1)) is not None:
            return {"changed": False}
        self._transaction.create(TagRecord(**about, word=action.word))
        return {"changed": True}

    def _reads(self, user_id: int | None) -> str:
        """Return the language in which something is written down for somebody."""
        return (None if user_id is None else self._people.language_of(user_id)) or self._language

    def _renew(self, run: _Run, action: Renewal, _number: int) -> Did:
        contract = run.record
        if not isinstance(contract, Contract):
            raise RecordNotFoundError("contract", run.record.id)
        account = self._transaction.get(Account, contract.account_id)
        owner = self._people.owner_of(contract)
        text = action.text.in_language(self._reads(owner))
        deal = start_renewal(self._transaction, contract, name=f"{text}: {account.name}", owner_id=owner)
        return {"deal": deal.id}

    def _mail(self, run: _Run, action: Mail, number: int) -> Did:
        person = self._person_of(run.record)
        owner = self._people.owner_of(run.record)
        sender = None if owner is None else self._people.here[owner]
        reader = Reader(self._session, sender) if sender else reader_for(self._session, run.active)
        template = get_template(self._session, reader_for(self._session, run.active).user, action.template)
        about = (run.active.rule.record_type, run.record.id)
        filled = render(self._session, reader, template, about)
        queued = queue_mail(
            self._transaction,
            to=person.email or "",
            subject=filled.subject,
            text=filled.text,
            html=filled.html,
            about=about,
            sender=sender,
            kind=action.purpose,
            template_id=template.id,
            language=template.language,
            key=f"automation:{run.active.id}:{run.cause.key}:{number}",
        )
        return {"message": queued.message_id}

    def _begin(self, run: _Run, action: MailSequence, _number: int) -> Did:
        person = self._person_of(run.record)
        try:
            begun = start_sequence(self._transaction, action.sequence, person, zone=self._zone)
        except NotWrittenToError:  # what else the rule does holds all the same
            return {"run": None}
        return {"run": None if begun is None else begun.id}

    def _person_of(self, record: Record) -> Lead | Contact:
        if isinstance(record, Lead | Contact):
            return record
        contact = getattr(record, "contact_id", None)
        return self._transaction.get(Contact, contact or 0)

    # ---------------------------------------------------------------- giving records to people

    def _assign(self, run: _Run, action: Assign, _number: int) -> Did:
        owner = getattr(run.record, "owner_id", None)
        if owner is not None and not action.again:
            return {"user": owner, "changed": False}
        chosen = self._choose(run, action)
        if chosen is None:
            raise NobodyFreeError
        changes = self._transaction.update(run.record, {"owner_id": chosen})
        if changes:
            about = (run.record.record_type, run.record.id)
            notify(self._transaction, [chosen], kind=Occasion.ASSIGNED, about=about)
        return {"user": chosen, "changed": bool(changes)}

    def _choose(self, run: _Run, action: Assign) -> int | None:
        most = None if action.most is None else (type(run.record), action.most)
        for who in self._in_question(run.record, action):
            people = self._people.named(who, run.record)
            if who == OWNER:
                continue
            chosen = self._people.next_of(run.active.id, who, people, away=self._away, most=most)
            if chosen is not None:
                return chosen
        return None

    def _in_question(self, record: Record, action: Assign) -> list[str]:
        """Return who may get a record, by the table first."""
        if action.by is None:
            return list(action.to)
        held = _held(record, action.by)
        known = "" if held is None else str(held).strip().casefold()
        if not action.table:
            return [*([f"called:{known}"] if known else []), *action.to]
        row = next((who for value, who in action.table if value.casefold() == known), None)
        return [*([row] if row is not None else []), *action.to]

    def _tell_nobody(self, active: Active, cause: Cause) -> None:
        """Tell administrators that a record waits for somebody."""
        admins = [user.id for user in self._people.here.values() if user.role == Role.ADMIN]
        about, said = (active.rule.record_type, cause.record_id), {"rule": active.id}
        notify(self._transaction, admins, kind=Occasion.AUTOMATION, text=NOBODY, about=about, params=said)

    @cached_property
    def _working(self) -> WorkingTime:
        return working_time(self._session, self._zone)

    @cached_property
    def _away(self) -> set[int]:
        return away_next(self._session, self._working, self._working.local_day(self._transaction.now))

    def _after(self, amount: float, unit: Unit) -> datetime:
        now = self._transaction.now
        match unit:
            case Unit.HOURS:
                return now + timedelta(hours=amount)
            case Unit.WORKING_HOURS:
                return self._working.after(now, timedelta(hours=amount))
        return now + timedelta(days=amount)


def _held(record: Record, name: str) -> object:
    if name.startswith(CUSTOM):
        return (record.custom or {}).get(name.removeprefix(CUSTOM))
    return getattr(record, name)
