"""Erasing a person: from their records, texts about them, the log, predictions and the index."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, String, Text, and_, or_, select, text, type_coerce, update
from sqlalchemy.orm import Session

from crm_core import search_index
from crm_core.access import check_may_handle_people
from crm_core.addresses import mail_key, phone_key
from crm_core.alerts import LONGEST_NOTE, AlertAction
from crm_core.automation.kept import AutomationVersion
from crm_core.bulk import refresh_held
from crm_core.changes import Action, Change
from crm_core.connections import LONGEST_ERROR as LONGEST_REFUSAL
from crm_core.connections import RUN, Mark, Told
from crm_core.errors import StoreBusyError
from crm_core.feedback import LONGEST_TEXT, ScoreFeedback, forget_texts
from crm_core.forms import FormSubmission, Standing
from crm_core.idempotency import forget_bodies
from crm_core.jobs import LONGEST_ERROR, Job
from crm_core.opting_out import hide_scores
from crm_core.personal.mails import scrub_mails
from crm_core.personal.people import ERASED, PERSON_TYPES, Person, find_person, get_record
from crm_core.personal.scope import (
    IDENTITY,
    Ids,
    add_ids,
    belongings,
    list_notes,
    listed,
    make_scrubber,
    mentions,
    surroundings,
    text_columns,
)
from crm_core.personal.scrubbing import Scrubber
from crm_core.predictions import SCORED_TYPES, Prediction
from crm_core.records import RECORD_TYPES, Lead, Record, User
from crm_core.saved import SavedReport, SavedView, Segment
from crm_core.store import Store, Transaction
from crm_core.uploads import Import
from crm_core.validation import columns_of

EMPTIED: Final[dict[str, dict[str, Any]]] = {
    "lead": dict.fromkeys(("name", "email", "phone", "title", "custom", "reasons")),
    "contact": {"name": ERASED, **dict.fromkeys(("email", "phone", "title", "birthday", "custom"))},
    "activity": dict.fromkeys(("subject", "body", "custom")),
    "comment": {"body": ERASED, "mentions": None, "custom": None},
    "attachment": {"name": ERASED, "uri": ERASED, "sha256": None, "custom": None},
    "tag": {"word": ERASED, "custom": None},
    "campaign_member": dict.fromkeys(("response", "custom")),
}
"""What the records of a person, and those that belong to them, hold afterwards."""

_KEPT_HERE: Final = "crm:"
"""How the address of a file begins that is kept with the store, and deleted with what names it."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A field that still holds what an erased person was told by, because it is somebody else's as well."""

    record_type: str
    record_id: int
    field: str


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was done, in numbers, and what is left to somebody's judgement; nothing personal.

    `records` stood for the person. `emptied` counts the records that belonged to them, `scrubbed` others
    that mentioned them, `changes` rows of the log, `predictions` those that lost their reasons, and `files`
    attachments whose file is kept elsewhere and must be deleted there: the export names them.
    """

    records: tuple[tuple[str, int], ...] = ()
    emptied: int = 0
    scrubbed: int = 0
    changes: int = 0
    predictions: int = 0
    files: int = 0
    kept: tuple[Kept, ...] = ()


def erase_person(
    transaction: Transaction, *, record: tuple[str, int] | None = None, mail: str | None = None
) -> Erasure:
    """Erase a person, told by a record that stands for them or by their mail address, from the whole store.

    Their leads and contacts are emptied and deleted, what belongs to them is emptied, and their names, mail
    addresses and telephone numbers are taken out of all other texts and of the log. A name that somebody
    else has too is taken out only of texts about their own company. Each record concerned gets a row in the
    log that says by whom and when it was erased, and nothing else. Erasing again changes nothing.

    The bytes are gone from the files of SQLite after `purge`.
    """
    transaction.index.flush()  # what this transaction wrote must be found, too
    return _Eraser(transaction, find_person(transaction.session, record=record, mail=mail)).run()


def erase_person_as(
    transaction: Transaction, user: User, *, record: tuple[str, int] | None = None, mail: str | None = None
) -> Erasure:
    """Erase a person as a user who may; raise AccessDeniedError for any other."""
    check_may_handle_people(user)
    return erase_person(transaction, record=record, mail=mail)


def purge(store: Store, *, wait_seconds: float = 30) -> None:
    """Have the database write its files anew, without what was deleted or overwritten.

    SQLite keeps old bytes in free pages and in its log until then. Raises StoreBusyError if somebody else
    still uses the database after `wait_seconds`. On PostgreSQL this is a plain VACUUM: its log and backups
    are the operator's.
    """
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM"))
        return
    # Past SQLAlchemy, which would begin a transaction; VACUUM wants none.
    borrowed = store.engine.raw_connection()
    try:
        raw = borrowed.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the only other database
        _rewrite(raw, int(wait_seconds * 1000))
    finally:
        borrowed.close()


def _rewrite(raw: sqlite3.Connection, wait: int) -> None:
    (usual,) = raw.execute("PRAGMA busy_timeout").fetchone()
    try:
        raw.execute(f"PRAGMA busy_timeout = {wait}")
        # VACUUM writes a whole copy: into a file, because memory may be too small for it.
        raw.execute("PRAGMA temp_store = FILE")
        raw.execute("VACUUM")
        busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        raise StoreBusyError(f"the database could not be written anew: {error}") from error
    finally:
        raw.execute("PRAGMA temp_store = MEMORY")
        raw.execute(f"PRAGMA busy_timeout = {usual}")
    if busy:
        raise StoreBusyError("the database is being read; its log still holds old bytes")


class _Eraser:
    """One erasure."""

    def __init__(self, transaction: Transaction, person: Person) -> None:
        self._transaction = transaction
        self._session: Session = transaction.session
        self._person = person
        self._near = surroundings(self._session, person)
        self._own = belongings(self._session, person)
        self._scrubber: Scrubber = make_scrubber(self._session, person, self._near)
        self._touched: Ids = defaultdict(set)
        self._kept: list[Kept] = []

    def run(self) -> Erasure:
        """Erase."""
        self._session.flush()
        people: Ids = {record_type: set(self._person.ids(record_type)) for record_type in PERSON_TYPES}
        others = add_ids(self._near, mentions(self._session, self._scrubber))
        files = self._count_files()
        self._delete()
        emptied = self._empty(self._own)
        scrubbed = self._scrub_records(add_ids(others, people)) + self._scrub_notes()
        self._empty(people)
        changes = self._empty_log(add_ids(people, self._own)) + self._scrub_log(add_ids(others, people))
        predictions = self._empty_reasons(people) + self._scrub_reasons(others)
        forget_texts(self._session, "lead", self._person.leads)
        self._scrub_feedback()
        forget_bodies(self._session)
        self._scrub_jobs()
        self._scrub_connections()
        self._scrub_kept()
        scrub_mails(self._session, self._person, self._scrubber, self._is_near)
        self._empty_submissions()
        self._finish()
        return Erasure(
            records=tuple(self._person.records()),
            emptied=emptied,
            scrubbed=scrubbed,
            changes=changes,
            predictions=predictions,
            files=files,
            kept=tuple(self._kept),
        )

    def _delete(self) -> None:
        """Delete the records that stand for the person and say since when they are erased."""
        for record_type, record_id in self._person.records():
            record = get_record(self._session, record_type, record_id)
            if record.erased_at is None:
                record.erased_at = self._transaction.now
                record.scoring_opt_out = True
                self._touched[record_type].add(record_id)
            if record.deleted_at is None:
                self._transaction.delete(record)
        hide_scores(self._session, Lead, self._person.leads)

    def _count_files(self) -> int:
        model = RECORD_TYPES["attachment"]
        uri = columns_of(model)["uri"]
        elsewhere = and_(uri != ERASED, uri.not_like(f"{_KEPT_HERE}%"))
        query = select(model.id).where(model.id.in_(self._own["attachment"]), elsewhere)
        return len(self._session.scalars(query).all())

    def _empty(self, records: Ids) -> int:
        """Empty the fields of records that are all about the person; return how many lost something."""
        count = 0
        for record_type, ids in records.items():
            empty = EMPTIED[record_type]
            for row in self._rows(record_type, ids, list(empty)):
                values = {name: value for name, value in empty.items() if row[name] != value}
                count += self._write(record_type, row["id"], values)
        return count

    def _scrub_records(self, records: Ids) -> int:
        """Take the person out of the texts of records; return how many lost something."""
        count = 0
        for record_type, ids in records.items():
            identity = IDENTITY.get(record_type, frozenset())
            names = [*text_columns(record_type), "external_id"]
            for row in self._rows(record_type, ids - self._own.get(record_type, set()), names):
                own = row["id"] in self._person.ids(record_type)
                theirs = frozenset() if own else identity
                values = self._scrubbed(record_type, row, [name for name in names if name not in theirs])
                count += self._write(record_type, row["id"], values) and not own
                self._keep(record_type, row, theirs)
        return count

    def _scrub_notes(self) -> int:
        """Take the person out of the notes on alerts; return how many lost something."""
        count = 0
        for action_id, _, near, note in list_notes(self._session, self._near):
            left = self._scrubber.scrub_value(note, near=near)
            if left != note:
                values = {"note": left[:LONGEST_NOTE]}
                self._session.execute(update(AlertAction).where(AlertAction.id == action_id).values(values))
                count += 1
        return count

    def _scrubbed(self, record_type: str, row: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
        near = row["id"] in self._near.get(record_type, ()) or row["id"] in self._person.ids(record_type)
        found = {}
        for name in names:
            value = self._scrubber.scrub_value(row[name], near=near)
            if value != row[name] and not self._is_shared_phone(record_type, row, name):
                found[name] = _fit(RECORD_TYPES[record_type], name, value)
        return found

    def _is_shared_phone(self, record_type: str, row: Mapping[str, Any], name: str) -> bool:
        """Say whether a company's number is one that somebody else there has, too; remember that it stays."""
        if (record_type, name) != ("account", "phone"):
            return False
        key = phone_key(row["phone"])
        for model in PERSON_TYPES.values():
            columns = columns_of(model)
            query = select(columns["phone"]).where(
                columns["account_id"] == row["id"],
                model.deleted_at.is_(None),
                model.id.not_in(self._person.ids(model.record_type)),
            )
            if any(phone_key(phone) == key for phone in self._session.scalars(query)):
                self._kept.append(Kept(record_type=record_type, record_id=row["id"], field=name))
                return True
        return False

    def _keep(self, record_type: str, row: Mapping[str, Any], theirs: frozenset[str]) -> None:
        """Remember fields that tell somebody else by the same mail address or telephone number."""
        mails = {mail_key(mail) for mail in self._person.identifiers.mails} - {None}
        phones = {phone_key(phone) for phone in self._person.identifiers.phones} - {None}
        for name, key, told in (("email", mail_key, mails), ("phone", phone_key, phones)):
            if name in theirs and key(row[name]) in told:
                self._kept.append(Kept(record_type=record_type, record_id=row["id"], field=name))

    def _rows(
        self, record_type: str, ids: Collection[int], names: Collection[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the columns of records, in the form in which programs see them."""
        model = RECORD_TYPES[record_type]
        columns = columns_of(model)
        for some in listed(ids):
            query = select(model.id, *(columns[name] for name in names)).where(model.id.in_(some))
            for record_id, *values in self._session.connection().execute(query).all():
                yield {"id": record_id, **dict(zip(names, values, strict=True))}

    def _write(self, record_type: str, record_id: int, values: Mapping[str, Any]) -> bool:
        """Write values past the log, which would keep the old ones."""
        if values:
            model = RECORD_TYPES[record_type]
            row = {**values, "version": model.version + 1}
            self._session.execute(
                update(model).where(model.id == record_id).values(row),
                execution_options={"synchronize_session": False},
            )
            self._touched[record_type].add(record_id)
        return bool(values)

    def _empty_log(self, records: Ids) -> int:
        """Empty what the log says of the fields that were emptied; return how many rows."""
        count = 0
        for record_type, ids in records.items():
            emptied = or_(
                Change.field.in_(EMPTIED[record_type].keys() - {"custom"}), Change.field.startswith("custom.")
            )
            said = or_(type_coerce(Change.old, Text).is_not(None), type_coerce(Change.new, Text).is_not(None))
            for some in listed(ids):
                rows = and_(Change.record_type == record_type, Change.record_id.in_(some), emptied, said)
                for change_id, record_id in self._session.execute(
                    select(Change.id, Change.record_id).where(rows)
                ).all():
                    self._rewrite_change(change_id, None, None)
                    self._touched[record_type].add(record_id)
                    count += 1
        return count

    def _scrub_log(self, records: Ids) -> int:
        """Take the person out of what the log says of other fields and records; return how many rows."""
        count = 0
        for record_type, ids in records.items():
            near = self._near.get(record_type, set()) | set(self._person.ids(record_type))
            theirs = IDENTITY.get(record_type, frozenset())
            for row in self._logged(record_type, ids):
                if row.field in theirs:
                    continue
                old, new = (
                    self._scrubber.scrub_value(side, near=row.record_id in near)
                    for side in (row.old, row.new)
                )
                if (old, new) != (row.old, row.new):
                    self._rewrite_change(row.id, old, new)
                    self._touched[record_type].add(row.record_id)
                    count += 1
        return count

    def _logged(self, record_type: str, ids: Collection[int]) -> Iterator[Any]:
        """Yield the rows of the log about texts of records."""
        texts: ColumnElement[bool] = or_(
            Change.field.in_([*text_columns(record_type), "external_id"]), Change.field.startswith("custom.")
        )
        query = select(Change.id, Change.record_id, Change.field, Change.old, Change.new).where(
            Change.record_type == record_type, Change.action == Action.UPDATED, texts
        )
        for some in listed(ids):
            yield from self._session.execute(query.where(Change.record_id.in_(some))).all()

    def _rewrite_change(self, change_id: int, old: Any, new: Any) -> None:  # noqa: ANN401  any JSON
        self._session.execute(
            update(Change).where(Change.id == change_id).values(old=old, new=new),
            execution_options={"synchronize_session": False},
        )

    def _empty_reasons(self, people: Ids) -> int:
        """Empty the reasons of predictions about the person; return how many."""
        query = select(Prediction.id).where(
            Prediction.record_type == "lead",
            Prediction.record_id.in_(people["lead"]),
            type_coerce(Prediction.reasons, Text).is_not(None),
        )
        ids = self._session.scalars(query).all()
        for some in listed(ids):
            self._session.execute(update(Prediction).where(Prediction.id.in_(some)).values(reasons=None))
        return len(ids)

    def _scrub_reasons(self, records: Ids) -> int:
        """Take the person out of the reasons of other predictions; return how many."""
        count = 0
        for record_type in SCORED_TYPES:
            query = select(Prediction.id, Prediction.reasons).where(Prediction.record_type == record_type)
            for some in listed(records.get(record_type, ())):
                for prediction_id, reasons in self._session.execute(
                    query.where(Prediction.record_id.in_(some))
                ).all():
                    scrubbed = self._scrubber.scrub_value(reasons)
                    if scrubbed != reasons:
                        self._session.execute(
                            update(Prediction).where(Prediction.id == prediction_id).values(reasons=scrubbed)
                        )
                        count += 1
        return count

    def _scrub_feedback(self) -> None:
        """Take the person out of what was said of scores, whatever it is about."""
        told = ScoreFeedback.text.is_not(None)
        query = select(
            ScoreFeedback.id, ScoreFeedback.text, ScoreFeedback.record_type, ScoreFeedback.record_id
        )
        for feedback_id, said, record_type, record_id in self._session.execute(query.where(told)).all():
            near = self._is_near(record_type, record_id)
            scrubbed = self._scrubber.scrub(said or "", near=near)
            if scrubbed != said:
                changed = update(ScoreFeedback).where(ScoreFeedback.id == feedback_id)
                self._session.execute(changed.values(text=scrubbed[:LONGEST_TEXT]))

    def _scrub_jobs(self) -> None:
        """Take the person out of mails, webhooks and other work that is to be done or was."""
        for job_id, payload, error in self._session.execute(
            select(Job.id, Job.payload, Job.last_error)
        ).all():
            near = self._is_near(*_about(payload))
            scrubbed = tuple(self._scrubber.scrub_value(each, near=near) for each in (payload, error))
            if scrubbed != (payload, error):
                values = {"payload": scrubbed[0], "last_error": scrubbed[1] and scrubbed[1][:LONGEST_ERROR]}
                self._session.execute(
                    update(Job).where(Job.id == job_id).values(values),
                    execution_options={"synchronize_session": False},
                )

    def _scrub_kept(self) -> None:
        """Take the person out of what people keep: the words that views and segments look for, and files."""
        held: tuple[tuple[Any, tuple[str, ...]], ...] = (
            (SavedView, ("name", "asked")),
            (Segment, ("name", "filter", "tag")),
            (AutomationVersion, ("declared",)),
            (SavedReport, ("name", "asked")),
            (Import, ("file", "plan", "report", "failed")),
        )
        for model, names in held:
            for each in self._session.scalars(select(model)):
                for name in names:
                    said = getattr(each, name)
                    left = self._scrubber.scrub_value(said)
                    if left != said:
                        longest = getattr(model.__table__.c[name].type, "length", None)
                        setattr(each, name, left[:longest] if isinstance(left, str) else left)

    def _empty_submissions(self) -> None:
        """Empty what the person sent with web forms, and take them out of what others sent that is held."""
        of_person = or_(
            FormSubmission.lead_id.in_(self._person.leads),
            FormSubmission.contact_id.in_(self._person.contacts),
            FormSubmission.activity_id.in_(self._own["activity"]),
        )
        kept = or_(FormSubmission.given.is_not(None), FormSubmission.utm.is_not(None), of_person)
        for each in self._session.scalars(select(FormSubmission).where(kept)):
            theirs = (
                each.lead_id in self._person.leads
                or each.contact_id in self._person.contacts
                or each.activity_id in self._own["activity"]
                or self._is_theirs(each.given or {})
            )
            if theirs:
                each.given = each.utm = each.page = each.address = each.digest = None
                if each.standing == Standing.HELD:
                    each.standing = Standing.DISCARDED
                continue
            for name in ("given", "utm", "page"):
                said = getattr(each, name)
                if self._scrubber.scrub_value(said) != said:  # of them, so a name in it is theirs, too
                    setattr(each, name, self._scrubber.scrub_value(said, near=True))

    def _is_theirs(self, given: Mapping[str, Any]) -> bool:
        """Say whether somebody gave the person's mail address or telephone number as their own."""
        mails = {mail_key(mail) for mail in self._person.identifiers.mails} - {None}
        phones = {phone_key(phone) for phone in self._person.identifiers.phones} - {None}
        return mail_key(given.get("email")) in mails or phone_key(given.get("phone")) in phones

    def _scrub_connections(self) -> None:
        """Take the person out of what other systems said when they refused something."""
        refusals = select(Told.id, Told.record_type, Told.record_id, Told.error)
        for told_id, record_type, record_id, error in self._session.execute(
            refusals.where(Told.error.is_not(None))
        ).all():
            left = self._scrubber.scrub(error or "", near=self._is_near(record_type, record_id))
            if left != error:
                changed = update(Told).where(Told.id == told_id)
                self._session.execute(changed.values(error=left[:LONGEST_REFUSAL]))
        for mark in self._session.scalars(select(Mark).where(Mark.kind == RUN)).all():
            mark.mark = self._scrubber.scrub_value(mark.mark)

    def _is_near(self, record_type: str, record_id: int) -> bool:
        """Say whether a record is the person's, or of their company."""
        own = self._person.ids(record_type) if record_type in PERSON_TYPES else ()
        return record_id in own or record_id in self._near.get(record_type, ())

    def _finish(self) -> None:
        """Leave a row in the log for each record concerned, and take what it said out of the index."""
        for record_type, ids in sorted(self._touched.items()):
            model: type[Record] = RECORD_TYPES[record_type]
            self._transaction.log_personal(model, ids, Action.ERASED)
            search_index.forget(self._session, model, ids)
            self._transaction.index.note(model, ids)
            refresh_held(self._session, model, ids)


def _about(payload: Any) -> tuple[str, int]:  # noqa: ANN401  any JSON
    """Return the record that a job's work is about; one that there is not where it names none."""
    held = payload if isinstance(payload, dict) else {}
    told = held.get("record") or [held.get("data", {}).get(name) for name in ("record_type", "record_id")]
    return str(told[0]), told[1] if isinstance(told[1], int) else 0


def _fit(model: type[Record], name: str, value: Any) -> Any:  # noqa: ANN401  any column's value
    """Return a scrubbed value as a column can hold it: nothing where nothing is left, and not too long."""
    column = columns_of(model)[name]
    if name == "external_id" or (value == ERASED and column.nullable):
        return None
    if isinstance(value, str) and isinstance(column.type, String) and column.type.length:
        return value[: column.type.length]
    return value
