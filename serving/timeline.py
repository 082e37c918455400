"""What happened with a record, newest first: what was done and said, changed, predicted, and came about it.

One query finds the places of the newest entries after the cursor, of all kinds; then those of each kind that
is on the page are read. A cursor holds the instant, kind and id of the last entry, so pages stay in place
whatever is added.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased
from sqlalchemy.orm.util import identity_key

from crm_core.access import Reader
from crm_core.alerts import Alert, AlertAction, select_alerts
from crm_core.changes import Action, Change
from crm_core.clock import instant, micros
from crm_core.declared import logical_type
from crm_core.errors import InvalidValueError
from crm_core.opting_out import list_opted_out
from crm_core.phrases import Phrase
from crm_core.predictions import Prediction
from crm_core.reading_together import read_together
from crm_core.records import (
    OUTCOME_FIELDS,
    RECORD_TYPES,
    Account,
    Contact,
    Contract,
    Deal,
    Lead,
    Payment,
    Quote,
    Record,
    Ticket,
)
from crm_core.validation import columns_of
from serving.changed import told_fields

CHANGE, SCORE, CONVERSION, SALE, RECEIVED = "change", "score", "conversion", "sale", "received"
ORIGIN, SERVED, ALERT = "lead", "service", "alert"

_RELATED: Final = tuple(name for name in RECORD_TYPES if name not in {"team", "user", "lead"})

KINDS: Final = (SCORE, ALERT, CHANGE, CONVERSION, ORIGIN, SALE, SERVED, RECEIVED, *_RELATED)
"""What an entry may be, in the order of those of one instant; a record type is a record about this one.

`sale` is what became of a quote, and of a customer's deal or contract, such as that it was sent or won;
`received` is money that came in, `service` what became of a ticket, `alert` a warning and what was done about
it, and `lead` a change of the lead that this record comes of.
"""

Row = Change | Prediction | AlertAction | Record

_SOLD: Final[Mapping[type[Record], tuple[str, ...]]] = {
    Quote: ("status", "approval"),
    Deal: ("status",),
    Contract: ("status",),
}
"""What is told of the sale on the timeline of a customer; on that of a deal, the quote."""

_MOST_LEADS: Final = 50
"""Leads of one record that are looked at: more are hardly ever made one."""

_LEADS: Final = "leads that became a record"

_ENDS: Final = OUTCOME_FIELDS["lead"]
"""Fields of a lead that its conversion writes, which is an entry of its own."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something that happened: `row` says what; of what was done about an alert, `alert` says which."""

    kind: str
    at: datetime
    row: Row
    alert: Alert | None = None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A page of entries, newest first, and where the next one begins."""

    entries: Sequence[Entry]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Entries of one kind: the query that finds them, and the column that says when they happened."""

    kind: str
    query: Select[Any]
    at: InstrumentedAttribute[Any]
    row_id: InstrumentedAttribute[int]


def read_timeline(
    reader: Reader,
    record: Record,
    *,
    limit: int,
    cursor: str | None = None,
    kinds: Collection[str] = (),
    moved_by: float | None = None,
    silent: bool | None = None,
) -> Timeline:
    """Return a page of what happened with a record that the reader sees, of all kinds or of some.

    With `moved_by`, only scores that differ by as much from the one before, and the first. `silent` says
    whether somebody asked not to be scored, where that is known; else it is looked up.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidValueError("kinds", kind, Phrase("some of {choices}", choices=tuple(KINDS)))
    after = None if cursor is None else _read_cursor(cursor)
    sources = [each for each in _sources(reader, record, moved_by, silent) if not kinds or each.kind in kinds]
    found = _read(reader, sources, _places(reader, sources, after, limit + 1)) if sources else []
    shown = found[:limit]
    return Timeline(entries=shown, next_cursor=_cursor_of(shown[-1]) if len(found) > limit else None)


def _places(
    reader: Reader, sources: Sequence[_Source], after: tuple[datetime, str, int] | None, limit: int
) -> list[tuple[str, int]]:
    """Return kind and id of the newest entries after a place, newest first."""
    parts = []
    for source in sources:
        columns = (
            source.at.label("at"),
            literal(KINDS.index(source.kind)).label("kind"),
            source.row_id.label("row_id"),
        )
        query = source.query.with_only_columns(*columns, maintain_column_froms=True)
        if after is not None:
            query = query.where(_comes_after(source, *after))
        newest = query.order_by(source.at.desc(), source.row_id.desc()).limit(limit).subquery()
        parts.append(select(newest.c.at, newest.c.kind, newest.c.row_id))
    all_of_them = (union_all(*parts) if len(parts) > 1 else parts[0]).subquery()
    order = (all_of_them.c.at.desc(), all_of_them.c.kind, all_of_them.c.row_id.desc())
    rows = reader.session.execute(
        select(all_of_them.c.kind, all_of_them.c.row_id).order_by(*order).limit(limit)
    )
    return [(KINDS[kind], row_id) for kind, row_id in rows]


def _read(reader: Reader, sources: Sequence[_Source], places: Sequence[tuple[str, int]]) -> list[Entry]:
    """Return the entries at places, in their order, by one query; what was read already is not read again."""
    ids: dict[str, list[int]] = defaultdict(list)
    for kind, row_id in places:
        ids[kind].append(row_id)
    asked = [source for source in sources if source.kind in ids]
    held = {source.kind: _held(reader.session, source, ids[source.kind]) for source in asked}
    missing: dict[type[Any], list[int]] = defaultdict(list)
    for source in asked:  # two kinds may be rows of one table
        missing[_model(source)] += [each for each in ids[source.kind] if each not in held[source.kind]]
    missing = {model: sorted(set(some)) for model, some in missing.items() if some}
    read = read_together(reader.session, missing)
    rows = {source.kind: {**held[source.kind], **read.get(_model(source), {})} for source in asked}
    at = {source.kind: source.at.key for source in asked}
    alerts = _alerts(reader.session, rows.get(ALERT, {}).values())
    return [
        Entry(
            kind=kind,
            at=getattr(row, at[kind]),
            row=row,
            alert=alerts.get(row.alert_id) if kind == ALERT else None,
        )
        for kind, row in ((kind, rows[kind][row_id]) for kind, row_id in places)
    ]


def _alerts(session: Session, actions: Collection[AlertAction]) -> dict[int, Alert]:
    """Return by id the alerts that something was done about."""
    keys = {action.alert_id: identity_key(Alert, (action.alert_id,)) for action in actions}
    held = {each: session.identity_map[key] for each, key in keys.items() if key in session.identity_map}
    missing = keys.keys() - held.keys()
    query = select(Alert).where(Alert.id.in_(missing))
    return held | ({each.id: each for each in session.scalars(query)} if missing else {})


def _model(source: _Source) -> type[Any]:
    model: type[Any] = source.row_id.class_  # type: ignore[assignment]  # a mapped class, never an alias of one
    return model


def _held(session: Session, source: _Source, ids: Sequence[int]) -> dict[int, Any]:
    """Return those rows that the session has read already."""
    keys = {each: identity_key(_model(source), (each,)) for each in ids}
    return {each: session.identity_map[key] for each, key in keys.items() if key in session.identity_map}


def _comes_after(source: _Source, at: datetime, kind: str, row_id: int) -> ColumnElement[bool]:
    here, there = KINDS.index(source.kind), KINDS.index(kind)
    if here > there:
        return source.at <= at
    if here < there:
        return source.at < at
    return or_(source.at < at, and_(source.at == at, source.row_id < row_id))


# ------------------------------------------------------------------------------------------------ sources


def _sources(
    reader: Reader,
    record: Record,
    moved_by: float | None,
    silent: bool | None,  # noqa: FBT001  as it was asked
) -> Iterator[_Source]:
    leads = _leads(reader, record)
    if not silent:
        yield from _scores(reader, record, leads, moved_by, looked_up=silent is not None)
    yield _changes(reader, record)
    yield from _conversions(reader, record)
    yield from _origins(reader, leads)
    yield from _sales(reader, record)
    yield from _service(reader, record)
    for kind in _RELATED:
        query = _related(reader, RECORD_TYPES[kind], record, leads)
        if query is not None:
            model = RECORD_TYPES[kind]
            yield _Source(kind=kind, query=query, at=model.occurred_at, row_id=model.id)


def _related(reader: Reader, model: type[Record], record: Record, leads: Sequence[int]) -> Select[Any] | None:
    """Return the query of the records of a type that are about one, or about the leads that became it."""
    columns, link = columns_of(model), f"{record.record_type}_id"
    if "subject_type" in columns:
        return reader.select_about(model, record, also=(Lead, leads))
    ours = [columns[link] == record.id] if link in columns else []
    theirs = [columns["lead_id"].in_(leads)] if leads and "lead_id" in columns else []
    # Somebody else's deal of this customer is no part of what follows the customer's rights.
    return reader.select(model).where(or_(*ours, *theirs)) if ours or theirs else None


def leads_of(reader: Reader, model: type[Record], record_id: int | ColumnElement[int]) -> Select[Lead] | None:
    """Return the query of the leads that the reader sees and knows to have become a record of a type."""
    link = f"{model.record_type}_id"
    if model not in {Account, Contact, Deal} or not reader.may_read_field("lead", link):
        return None
    return reader.select(Lead).where(columns_of(Lead)[link] == record_id)


def note_leads(session: Session, record: Record, leads: Sequence[int]) -> None:
    """Note which leads a session which only reads has seen to have become a record."""
    session.info.setdefault(_LEADS, {})[type(record), record.id] = leads


def _leads(reader: Reader, record: Record) -> Sequence[int]:
    """Return the newest of the leads that the reader sees and knows to have become a record.

    They are looked up first: a subquery would keep a database from using an index for what is about them.
    """
    known: Mapping[Any, Sequence[int]] = reader.session.info.get(_LEADS, {})
    found = known.get((type(record), record.id))
    if found is None:
        query = leads_of(reader, type(record), record.id)
        found = [] if query is None else reader.session.scalars(query.with_only_columns(Lead.id)).all()
    return sorted(found, reverse=True)[:_MOST_LEADS]


def _origins(reader: Reader, leads: Sequence[int]) -> Iterator[_Source]:
    """Yield what was known and changed of the leads that became a record, before they did."""
    if leads:
        query = select(Change).where(
            Change.record_type == "lead",
            Change.record_id.in_(leads),
            Change.action.in_([Action.CREATED, Action.UPDATED]),
            or_(Change.field.is_(None), Change.field.not_in(_ENDS)),
            told_fields(reader, "lead"),
        )
        yield _Source(kind=ORIGIN, query=query, at=Change.occurred_at, row_id=Change.id)


def _scores(
    reader: Reader, record: Record, leads: Sequence[int], moved_by: float | None, *, looked_up: bool
) -> Iterator[_Source]:
    """Yield what models said and warned of, to those who may see scores, of those who may be scored."""
    if not isinstance(record, Lead | Deal | Account) or not reader.may_read_field(
        record.record_type, "probability"
    ):
        return
    if not looked_up and list_opted_out(reader.session, type(record), [record.id]):
        return
    about = and_(Prediction.record_type == record.record_type, Prediction.record_id == record.id)
    if leads and reader.may_read_field("lead", "probability"):
        asked = set(leads) - set(list_opted_out(reader.session, Lead, leads))
        about = or_(about, and_(Prediction.record_type == "lead", Prediction.record_id.in_(asked)))
    query = select(Prediction).where(about)
    if moved_by is not None:
        query = query.where(Prediction.id.in_(_moved(about, moved_by)))
    yield _Source(kind=SCORE, query=query, at=Prediction.as_of, row_id=Prediction.id)
    if isinstance(record, Deal | Account):
        alerts = select_alerts(reader).where(
            Alert.record_type == record.record_type, Alert.record_id == record.id
        )
        done = select(AlertAction).where(AlertAction.alert_id.in_(alerts.with_only_columns(Alert.id)))
        yield _Source(kind=ALERT, query=done, at=AlertAction.at, row_id=AlertAction.id)


def _moved(about: ColumnElement[bool], least: float) -> Select[int]:
    """Return the query of the predictions of a record that differ from the one before, and of the first."""
    order = (Prediction.as_of, Prediction.id)
    of_one = (Prediction.record_type, Prediction.record_id)
    before = func.lag(Prediction.probability).over(partition_by=of_one, order_by=order)
    held = select(Prediction.id, Prediction.probability, before.label("before")).where(about).subquery()
    step = func.abs(held.c.probability - held.c.before)
    return select(held.c.id).where(or_(step >= least, step.is_(None)))


def _changes(reader: Reader, record: Record) -> _Source:
    query = select(Change).where(
        Change.record_type == record.record_type,
        Change.record_id == record.id,
        Change.action.in_([Action.CREATED, Action.UPDATED]),
        told_fields(reader, logical_type(reader.session, record)),
    )
    return _Source(kind=CHANGE, query=query, at=Change.occurred_at, row_id=Change.id)


def _conversions(reader: Reader, record: Record) -> Iterator[_Source]:
    """Yield the conversion of a lead, on it and on what it became."""
    link = "id" if isinstance(record, Lead) else f"{record.record_type}_id"
    told = all(reader.may_read_field("lead", name) for name in ("status", "converted_at", link))
    if record.record_type in {"lead", "account", "contact", "deal"} and told:
        query = reader.select(Lead).where(columns_of(Lead)[link] == record.id, Lead.converted_at.is_not(None))
        yield _Source(kind=CONVERSION, query=query, at=Lead.converted_at, row_id=Lead.id)


def _sales(reader: Reader, record: Record) -> Iterator[_Source]:
    """Yield what became of quotes, deals and contracts about a deal or a customer, and what money came in."""
    if not isinstance(record, Deal | Account):
        return
    link = f"{record.record_type}_id"
    sold = [
        _changes_of(reader, model, columns_of(model)[link] == record.id, fields)
        for model, fields in _SOLD.items()
        if link in columns_of(model) and (model is Quote or isinstance(record, Account))
    ]
    yield _became(SALE, *sold)
    if reader.may_read_field("payment", "paid_at"):
        paid = reader.select(Payment).where(
            columns_of(Payment)[link] == record.id, Payment.paid_at.is_not(None)
        )
        yield _Source(kind=RECEIVED, query=paid, at=Payment.paid_at, row_id=Payment.id)


def _service(reader: Reader, record: Record) -> Iterator[_Source]:
    """Yield what became of the tickets of a customer or a contact, and how content they were."""
    if isinstance(record, Account | Contact):
        link = columns_of(Ticket)[f"{record.record_type}_id"]
        yield _became(SERVED, _changes_of(reader, Ticket, link == record.id, ("status", "satisfaction")))


def _became(kind: str, *ids: Select[int]) -> _Source:
    """Return the source of changes by their ids: each part finds its own by an index, as no `or` could."""
    found = union_all(*ids) if len(ids) > 1 else ids[0]
    query = select(Change).where(Change.id.in_(found))
    return _Source(kind=kind, query=query, at=Change.occurred_at, row_id=Change.id)


def _changes_of(
    reader: Reader, model: type[Record], about: ColumnElement[bool], fields: Sequence[str]
) -> Select[int]:
    """Return the query of the ids of changes of some fields of those records of a type that are seen."""
    name, change = model.record_type, aliased(Change)
    return select(change.id).where(
        change.record_type == name,
        change.record_id.in_(reader.select(model).where(about).with_only_columns(model.id)),
        change.action == Action.UPDATED,
        change.field.in_([field for field in fields if reader.may_read_field(name, field)]),
    )


# ------------------------------------------------------------------------------------------------ cursors


def _cursor_of(entry: Entry) -> str:
    text = json.dumps([micros(entry.at), entry.kind, entry.row.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, kind, row_id = json.loads(text)
        place = instant(at), KINDS[KINDS.index(kind)], row_id
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _not_ours(cursor) from error
    if type(at) is not int or type(row_id) is not int or not 0 < row_id < 2**63:
        raise _not_ours(cursor)
    return place


def _not_ours(cursor: str) -> InvalidValueError:
    return InvalidValueError("cursor", cursor, "a cursor that a page of a timeline gave")
