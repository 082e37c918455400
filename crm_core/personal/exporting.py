"""Everything that the store holds about one person, as plain data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from crm_core.access import Reader, check_may_handle_people
from crm_core.changes import Action, Change
from crm_core.feedback import ScoreFeedback
from crm_core.personal.people import PERSON_TYPES, Person, find_person
from crm_core.personal.scope import (
    IDENTITY,
    Ids,
    belongings,
    list_notes,
    listed,
    make_scrubber,
    mentions,
    surroundings,
    text_columns,
)
from crm_core.predictions import Prediction
from crm_core.records import RECORD_TYPES, Record, User
from crm_core.store import Transaction
from crm_core.validation import columns_of


def export_person(
    reader: Reader, *, record: tuple[str, int] | None = None, mail: str | None = None
) -> dict[str, Any]:
    """Return all that is held about a person, told by a record that stands for them or by their mail address.

    JSON-able: instants and days in ISO 8601, money as text. The keys:

    - `person`: names, mail addresses and telephone numbers, former ones too;
    - `records`: the leads and contacts that stand for them, merged and deleted ones too; `belongings`: what
      was done with them and said about them; `related`: the companies, deals and tickets they have a part in;
    - `changes`: what the log says of all of these but `related`; `predictions`: what models said of them;
    - `feedback`: what people said of that, and whatever they said of other scores that names them;
    - `mentions`: texts elsewhere that name them, one field each.

    Fields that the reader may not see are named in `withheld`. Raises AccessDeniedError for a role that may
    not handle personal data.
    """
    check_may_handle_people(reader.user)
    return _Export(reader, find_person(reader.session, record=record, mail=mail)).to_json()


def hand_out_person(
    transaction: Transaction, user: User, *, record: tuple[str, int] | None = None, mail: str | None = None
) -> dict[str, Any]:
    """Return what `export_person` does, and log it on each record that stands for the person.

    A person without a record is noted on the record of the user who asked.
    """
    told = export_person(Reader(transaction.session, user), record=record, mail=mail)
    held: Ids = defaultdict(set)
    for each in told["records"]:
        held[each["record_type"]].add(each["id"])
    for record_type, ids in (held or {"user": {user.id}}).items():
        transaction.log_personal(RECORD_TYPES[record_type], ids, Action.EXPORTED)
    return told


class _Export:
    """One export."""

    def __init__(self, reader: Reader, person: Person) -> None:
        self._reader = reader
        self._session = reader.session
        self._person = person
        self._people: Ids = {record_type: set(person.ids(record_type)) for record_type in PERSON_TYPES}
        self._own = belongings(self._session, person)
        self._near = surroundings(self._session, person)

    def to_json(self) -> dict[str, Any]:
        """Return the export."""
        told = self._person.identifiers
        related = {name: self._near[name] for name in ("account", "deal", "ticket")}
        return {
            "person": {
                "names": sorted(told.names),
                "mails": sorted(told.mails),
                "phones": sorted(told.phones),
            },
            "records": list(self._records(self._people)),
            "belongings": list(self._records(self._own)),
            "related": list(self._names(related)),
            "changes": [*self._changes(self._people), *self._changes(self._own)],
            "predictions": list(self._predictions()),
            "feedback": list(self._feedback()),
            "mentions": list(self._mentions()),
        }

    def _records(self, ids: Ids) -> Iterator[dict[str, Any]]:
        for model, record in self._all(ids):
            shown = self._reader.shown(record)
            withheld = sorted(columns_of(model).keys() - shown.keys())
            fields = {name: to_json(value) for name, value in sorted(shown.items()) if value is not None}
            yield {"record_type": model.record_type, "id": record.id, "fields": fields, "withheld": withheld}

    def _names(self, ids: Ids) -> Iterator[dict[str, Any]]:
        for model, record in self._all(ids):
            name = getattr(record, "subject" if model.record_type == "ticket" else "name")
            yield {"record_type": model.record_type, "id": record.id, "name": name}

    def _all(self, ids: Ids) -> Iterator[tuple[type[Record], Record]]:
        for record_type, some in ids.items():
            model = RECORD_TYPES[record_type]
            for part in listed(some):
                query = select(model).where(model.id.in_(part)).order_by(model.id)
                yield from ((model, record) for record in self._session.scalars(query))

    def _changes(self, ids: Ids) -> Iterator[dict[str, Any]]:
        for record_type, some in ids.items():
            for part in listed(some):
                about = select(Change).where(Change.record_type == record_type, Change.record_id.in_(part))
                for change in self._session.scalars(about.order_by(Change.id)):
                    yield self._change(change)

    def _change(self, change: Change) -> dict[str, Any]:
        hidden = change.field is not None and not self._reader.may_read_field(
            change.record_type, change.field
        )
        return {
            "record_type": change.record_type,
            "id": change.record_id,
            "action": change.action,
            "field": change.field,
            "old": None if hidden else change.old,
            "new": None if hidden else change.new,
            "occurred_at": change.occurred_at.isoformat(),
            "recorded_at": change.recorded_at.isoformat(),
            "source": change.source,
            "actor_id": change.actor_id,
        }

    def _predictions(self) -> Iterator[dict[str, Any]]:
        query = select(Prediction).where(
            Prediction.record_type == "lead", Prediction.record_id.in_(self._person.leads)
        )
        for row in self._session.scalars(query.order_by(Prediction.id)):
            yield {
                "record_type": row.record_type,
                "id": row.record_id,
                "task": row.task,
                "as_of": row.as_of.isoformat(),
                "model_version": row.model_version,
                "horizon_days": row.horizon_days,
                "probability": row.probability,
                "score": row.score,
                "grade": row.grade,
                "within": row.within,
                "expected_days": row.expected_days,
                "reasons": self._reader.readable_reasons(row.reasons or ()),
            }

    def _feedback(self) -> Iterator[dict[str, Any]]:
        scrubber = make_scrubber(self._session, self._person, self._near)
        for row in self._session.scalars(select(ScoreFeedback).order_by(ScoreFeedback.id)):
            theirs = row.record_type == "lead" and row.record_id in self._person.leads
            near = row.record_id in self._near.get(row.record_type, ())
            if theirs or (row.text and scrubber.scrub_value(row.text, near=near) != row.text):
                yield {
                    "record_type": row.record_type,
                    "id": row.record_id,
                    "prediction_id": row.prediction_id,
                    "verdict": row.verdict,
                    "reason": row.reason,
                    "text": row.text,
                    "given_at": row.given_at.isoformat(),
                    "user_id": row.user_id,
                }

    def _mentions(self) -> Iterator[dict[str, Any]]:
        """Yield the texts that would lose something if the person were erased."""
        scrubber = make_scrubber(self._session, self._person, self._near)
        seen = {
            (record_type, each)
            for ids in (self._people, self._own)
            for record_type, some in ids.items()
            for each in some
        }
        for record_type, ids in sorted(mentions(self._session, scrubber).items()):
            names = self._readable(record_type)
            for model, record in self._all(
                {record_type: {each for each in ids if (record_type, each) not in seen}}
            ):
                near = record.id in self._near.get(record_type, ())
                for name in names:
                    value = getattr(record, name)
                    if scrubber.scrub_value(value, near=near) != value:
                        yield {
                            "record_type": model.record_type,
                            "id": record.id,
                            "field": name,
                            "text": value,
                        }

        for _, alert_id, near, note in list_notes(self._session, self._near):
            if scrubber.scrub_value(note, near=near) != note:
                yield {"record_type": "alert", "id": alert_id, "field": "note", "text": note}

    def _readable(self, record_type: str) -> Collection[str]:
        theirs = IDENTITY.get(record_type, frozenset())
        return [
            name
            for name in text_columns(record_type)
            if name not in theirs and self._reader.may_read_field(record_type, name)
        ]


def to_json(value: Any) -> Any:  # noqa: ANN401  any column's value
    """Return a value of a record as JSON holds it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
