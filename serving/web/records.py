"""Lists of scored records, and the page of each: leads, deals and customers in one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.opting_out import list_opted_out
from crm_core.predictions import IN_THE_END_DAYS, Prediction, list_predictions
from crm_core.records import SCORE_COLUMNS, Account, Activity, Deal, Lead, Role, User
from serving.owners import list_owners
from serving.paging import Listing, list_page
from serving.score_history import Entry
from serving.web import charts, reasons, shown_as
from serving.web.language import gettext
from serving.web.outlook import Outlook, read_outlook

Scored = Lead | Deal | Account

ROWS = 25
DIFFERENT = 0.005
"""Probabilities less than half a point apart are as good as the same."""
LOOKED_BACK = 12
"""Predictions among which a differing one is looked for."""
REASONS_IN_A_ROW = 3
TOUCHES = ("call", "mail", "meeting", "visit")
"""Activities that are contact with the customer."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of page: which records, below which address, with which words for their status."""

    model: type[Lead | Deal | Account]
    collection: str
    statuses: tuple[str, ...]
    status_words: str
    rising_is_good: bool = True

    @property
    def record_type(self) -> str:
        """The record type."""
        return self.model.record_type


LEADS = Kind(
    model=Lead,
    collection="leads",
    statuses=("open", "converted", "disqualified"),
    status_words="lead_status",
)
DEALS = Kind(model=Deal, collection="deals", statuses=("open", "won", "lost"), status_words="deal_status")
CUSTOMERS = Kind(model=Account, collection="customers", statuses=(), status_words="", rising_is_good=False)


@dataclass(frozen=True, kw_only=True)
class Touch:
    """The last contact with a customer."""

    kind: str
    occurred_at: Any


@dataclass(frozen=True, kw_only=True)
class Before:
    """The last prediction that said something else."""

    probability: float
    as_of: datetime


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a list."""

    record: Scored
    opted_out: bool
    reasons: Sequence[reasons.Reason]
    before: Before | None
    touch: Touch | None
    owner: str | None
    account: str | None


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What a list page shows."""

    rows: Sequence[Row]
    next_cursor: str | None
    owners: Sequence[User]
    asked: Listing
    any_at_all: bool


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What the page of one record shows."""

    record: Scored
    opted_out: bool
    before: Before | None
    picture: reasons.Picture | None
    outlook: Outlook
    history: Sequence[Mapping[str, Any]]
    line: charts.Chart | None

    @property
    def in_the_end(self) -> bool:
        """Return whether the score is of how it ends, whenever that is."""
        return self.outlook.horizon_days == IN_THE_END_DAYS


def read_shelf(session: Session, user: User, kind: Kind, asked: Listing) -> Shelf:
    """Return a page of the records that `user` may see."""
    reader = Reader(session, user)
    page = list_page(session, user, kind.model, asked)
    owners = [] if user.role == Role.REP else list_owners(session, user)
    return Shelf(
        rows=_rows(reader, kind, page.items),
        next_cursor=page.next_cursor,
        owners=owners,
        asked=asked,
        any_at_all=bool(page.items) or _has_any(reader, kind),
    )


def read_sheet(reader: Reader, kind: Kind, found: Scored) -> Sheet:
    """Return what is shown of one record to somebody who sees it."""
    (record,), silent = _shown(reader, kind, [found])
    predictions = _predictions(reader, kind, record) if record.id not in silent else []
    outlook = read_outlook(reader, record, predictions[0] if predictions else None)
    return Sheet(
        record=record,
        opted_out=record.id in silent,
        before=_differing(record, predictions),
        picture=reasons.draw(record.reasons) if record.probability is not None else None,
        outlook=outlook,
        history=_history(predictions[:30]),
        line=_line(predictions, outlook),
    )


def _differing(record: Scored, predictions: Sequence[Prediction]) -> Before | None:
    """Return the last prediction that said something else: asking again does not wipe out a change."""
    if record.probability is None:
        return None
    for each in predictions[:LOOKED_BACK]:
        if each.probability is not None and abs(each.probability - record.probability) >= DIFFERENT:
            return Before(probability=each.probability, as_of=each.as_of)
    return None


def _line(predictions: Sequence[Prediction], outlook: Outlook) -> charts.Chart | None:
    """Return the picture of the probability over time: each holds until the next one."""
    known = [(each.as_of, each.probability) for each in reversed(predictions) if each.probability is not None]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    in_the_end = outlook.horizon_days == IN_THE_END_DAYS
    label = (
        gettext("Probability, in the end")
        if in_the_end
        else gettext("Probability, within %(days)s days", days=outlook.horizon_days)
    )
    return charts.draw(
        gettext("Probability over time"),
        x=charts.Axis(label=gettext("Asked on"), show=shown_as.day_of_instant),
        y=charts.Axis(label=label, show=lambda value: shown_as.percent(value, 0), low=0),
        marks=[charts.Line(name=gettext("Probability"), points=known, step=True)],
        small=True,
    )


def _shown(reader: Reader, kind: Kind, found: Sequence[Scored]) -> tuple[list[Scored], set[int]]:
    """Return what may be seen of records, and which may not be scored: these show no score, old or new."""
    silent = set(list_opted_out(reader.session, kind.model, [record.id for record in found]))
    records = [reader.masked(record) for record in found]
    for record in records:
        if record.id in silent:
            for name in SCORE_COLUMNS:
                setattr(record, name, None)
    return records, silent


def _predictions(reader: Reader, kind: Kind, record: Scored) -> Sequence[Prediction]:
    if not reader.may_read_field(kind.record_type, "probability"):
        return []
    return list_predictions(reader.session, kind.record_type, record.id, limit=60)


def _rows(reader: Reader, kind: Kind, found: Sequence[Scored]) -> list[Row]:
    session = reader.session
    records, silent = _shown(reader, kind, found)
    touches = _touches(reader, kind, [record.id for record in records])
    before = _before(session, kind, records)
    names = _names(session)
    accounts = _account_names(reader, records)
    return [
        Row(
            record=record,
            opted_out=record.id in silent,
            reasons=reasons.top_reasons(record.reasons, REASONS_IN_A_ROW),
            before=before.get(record.id),
            touch=touches.get(record.id),
            owner=names.get(record.owner_id),
            account=accounts.get(getattr(record, "account_id", None)),
        )
        for record in records
    ]


def _has_any(reader: Reader, kind: Kind) -> bool:
    query = reader.select(kind.model).with_only_columns(kind.model.id)
    return reader.session.scalar(query.limit(1)) is not None


def _before(session: Session, kind: Kind, records: Sequence[Scored]) -> dict[int, Before]:
    """Return what each record's last differing prediction was: asking again does not wipe out a change."""
    shown = {record.id: record.probability for record in records if record.probability is not None}
    if not shown:
        return {}
    newest = func.row_number().over(
        partition_by=Prediction.record_id, order_by=(Prediction.as_of.desc(), Prediction.id.desc())
    )
    ranked = (
        select(Prediction.record_id, Prediction.probability, Prediction.as_of, newest.label("place"))
        .where(Prediction.record_type == kind.record_type, Prediction.record_id.in_(shown))
        .subquery()
    )
    columns = (ranked.c.record_id, ranked.c.probability, ranked.c.as_of)
    query = select(*columns).where(ranked.c.place <= LOOKED_BACK).order_by(ranked.c.place.desc())
    return {
        record_id: Before(probability=probability, as_of=as_of)
        for record_id, probability, as_of in session.execute(query)
        if probability is not None and abs(probability - shown[record_id]) >= DIFFERENT
    }


def _touches(reader: Reader, kind: Kind, ids: Sequence[int]) -> dict[int, Touch]:
    """Return the last contact of each record."""
    if not ids or not reader.may_read_field("activity", "kind"):
        return {}
    link = getattr(Activity, f"{kind.record_type}_id")
    newest = func.row_number().over(
        partition_by=link, order_by=(Activity.occurred_at.desc(), Activity.id.desc())
    )
    ranked = (
        select(link.label("record_id"), Activity.kind, Activity.occurred_at, newest.label("place"))
        .where(
            link.in_(ids),
            Activity.kind.in_(TOUCHES),
            Activity.deleted_at.is_(None),
            reader.readable_about(Activity, kind.model),
        )
        .subquery()
    )
    found = reader.session.execute(
        select(ranked.c.record_id, ranked.c.kind, ranked.c.occurred_at).where(ranked.c.place == 1)
    )
    return {record_id: Touch(kind=touch, occurred_at=at) for record_id, touch, at in found}


def _names(session: Session) -> dict[int | None, str]:
    return dict(session.execute(select(User.id, User.name)).all())


def _account_names(reader: Reader, records: Sequence[Scored]) -> dict[int | None, str]:
    if not reader.may_read_field("account", "name"):
        return {}
    ids = {record.account_id for record in records if isinstance(record, Deal)}
    if not ids:
        return {}
    query = reader.select(Account).with_only_columns(Account.id, Account.name).where(Account.id.in_(ids))
    return dict(reader.session.execute(query).all())


def _history(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return predictions, newest first, each with its difference to the one before and what led to it."""
    return [
        {"prediction": now, "change": _difference(now, then), "cause": _cause(now, then), "fields": ()}
        for now, then in zip_longest(predictions, predictions[1:])
    ]


FIELDS_TOLD = 3
"""Changed fields that are named beside a score."""


def tell_causes(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return entries of a score history as rows: what each moved, and which fields were changed before it."""
    return [
        {
            "prediction": entry.prediction,
            "change": entry.cause.moved,
            "cause": entry.cause.kinds[-1],
            "parts": entry.cause.parts,
            "fields": _fields_of(entry),
        }
        for entry in entries
    ]


def _fields_of(entry: Entry) -> list[str]:
    named = dict.fromkeys(change.field for change in entry.cause.changes if change.field)
    return list(named)[:FIELDS_TOLD]


def _difference(now: Prediction, then: Prediction | None) -> float | None:
    if then is None or now.probability is None or then.probability is None:
        return None
    return now.probability - then.probability


def _cause(now: Prediction, then: Prediction | None) -> str:
    if then is None:
        return "first"
    if now.model_version != then.model_version:
        return "model"
    return "time" if now.cause_change_id is None else "data"
