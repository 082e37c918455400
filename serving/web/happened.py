"""The timeline of a record as its page shows it: filtered by kind, page by page, in the reader's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from crm_core.access import Reader
from crm_core.alerts import AlertAction
from crm_core.changes import Action, Change
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError
from crm_core.fields import CUSTOM, FieldKind
from crm_core.predictions import Prediction
from crm_core.records import (
    Activity,
    Attachment,
    CampaignMember,
    Comment,
    CustomRecord,
    Line,
    Payment,
    Record,
)
from crm_core.validation import columns_of
from serving.editing import Kind, kind_of
from serving.files import is_ours
from serving.timeline import (
    ALERT,
    CHANGE,
    CONVERSION,
    ORIGIN,
    RECEIVED,
    SALE,
    SCORE,
    SERVED,
    Entry,
    read_timeline,
)
from serving.web import shown_as
from serving.web.facts import (
    CUSTOM_INPUTS,
    Input,
    choices_in,
    declared_fields,
    input_of,
    label_of,
    loaded,
    names_of_people,
    target_of,
    text_of,
)
from serving.web.language import gettext
from serving.web.places import Key, path_of, shown_records, title_in, type_word
from serving.web.records import DIFFERENT
from serving.web.titles import line_title, payment_title
from serving.web.words import word

ROWS: Final = 20

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": (),
    "activities": ("activity",),
    "comments": ("comment",),
    "changes": (CHANGE, CONVERSION, ORIGIN),
    "scores": (SCORE, ALERT),
    "sales": ("deal", "quote", "order", "line", "contract", "payment", SALE, RECEIVED),
    "service": ("ticket", SERVED),
    "files": ("attachment",),
}
"""What a timeline may be narrowed to, by its name in the address."""


_NAMED_BY: Final[Mapping[type[Any], str]] = {CampaignMember: "campaign", Line: "product"}
"""Records that are called by another one, and the type of that."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One entry: what it is called, what it says, and what may be done about it."""

    kind: str
    row: Any
    at: datetime
    recorded_at: datetime
    who: str | None = None
    title: str
    text: str | None = None
    path: str | None = None
    mine: bool = False
    step: float | None = None
    cause: str | None = None
    elsewhere: bool = False

    @property
    def is_task(self) -> bool:
        """Return whether it is something to be done."""
        return isinstance(self.row, Activity) and self.row.kind == "task"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the timeline: `group` is what it is narrowed to."""

    happenings: Sequence[Happening]
    group: str
    groups: Sequence[str]
    next_cursor: str | None
    is_first: bool


def read_page(
    reader: Reader,
    kind: Kind,
    record: Record,
    *,
    group: str = "all",
    cursor: str | None = None,
    silent: bool | None = None,
) -> Page:
    """Return a page of what happened with a record; an address that nobody gave is the first page."""
    group = group if group in GROUPS else "all"
    asked: dict[str, Any] = {"limit": ROWS, "kinds": GROUPS[group], "silent": silent}
    moved_by = None if group == "scores" else DIFFERENT
    try:
        page = read_timeline(reader, record, cursor=cursor, moved_by=moved_by, **asked)
    except InvalidValueError:
        cursor = None
        page = read_timeline(reader, record, moved_by=moved_by, **asked)
    return Page(
        happenings=_Teller(reader, kind, page.entries).all(),
        group=group,
        groups=_groups(kind),
        next_cursor=page.next_cursor,
        is_first=cursor is None,
    )


def tell_changes(reader: Reader, kind: Kind, changes: Sequence[Change]) -> list[Happening]:
    """Return changes of a record in the reader's words, in their order."""
    entries = [Entry(kind=CHANGE, at=change.occurred_at, row=change) for change in changes]
    return _Teller(reader, kind, entries).all()


def _groups(kind: Kind) -> list[str]:
    """Return what the timeline of a type may be narrowed to: what can be about it."""
    scored = kind.name in {"lead", "deal", "account"}
    sold = kind.name in {"deal", "account", "quote", "order", "contract"}
    left_out = {"scores": scored, "sales": sold, "service": kind.name in {"account", "contact"}}
    return [group for group in GROUPS if left_out.get(group, True)]


class _Teller:
    """Puts entries into words."""

    def __init__(self, reader: Reader, kind: Kind, entries: Sequence[Entry]) -> None:
        self._reader, self._kind, self._entries = reader, kind, entries
        self._people = names_of_people(reader.session)
        self._fields = {field.name: field for field in declared_fields(reader.session, kind.name)}
        self._links = shown_records(reader, self._named())
        self._before = self._predictions_before()

    def all(self) -> list[Happening]:
        """Return them all."""
        origins = iter(self._origins())
        return [next(origins) if entry.kind == ORIGIN else self._tell(entry) for entry in self._entries]

    def _origins(self) -> list[Happening]:
        """Return what is said of the leads that became the record, in order."""
        found = [replace(entry, kind=CHANGE) for entry in self._entries if entry.kind == ORIGIN]
        if not found:
            return []
        called = type_word(self._reader, "lead")
        return [
            replace(
                told,
                kind=ORIGIN,
                title=f"{called}: {told.title}",
                path=path_of("lead", told.row.record_id),
            )
            for told in _Teller(self._reader, kind_of(self._reader.session, "lead"), found).all()
        ]

    def _tell(self, entry: Entry) -> Happening:
        row = entry.row
        if isinstance(row, Change):
            return self._became(entry, row) if entry.kind in {SALE, SERVED} else self._change(entry, row)
        if isinstance(row, Prediction):
            return self._score(entry, row)
        if isinstance(row, AlertAction):
            return self._alert(entry, row)
        return self._record(entry, row)

    def _change(self, entry: Entry, change: Change) -> Happening:
        created = change.action == Action.CREATED
        return Happening(
            kind=entry.kind,
            row=change,
            at=entry.at,
            recorded_at=change.recorded_at,
            who=self._people.get(change.actor_id),
            title=gettext("Record created") if created else self._label(change.field or ""),
            text=None if created else self._step(change),
        )

    def _became(self, entry: Entry, change: Change) -> Happening:
        """Tell what became of a quote, a deal, a contract or a ticket."""
        name = change.record_type
        shown = self._links.get((name, change.record_id))
        called = type_word(self._reader, name)
        return Happening(
            kind=entry.kind,
            row=change,
            at=entry.at,
            recorded_at=change.recorded_at,
            who=self._people.get(change.actor_id),
            title=f"{called if shown is None else f'{called} {shown.title}'}: {_state(change)}",
            path=None if shown is None else shown.path,
        )

    def _alert(self, entry: Entry, action: AlertAction) -> Happening:
        """Tell of a warning, or of what was done about one."""
        warned = "" if entry.alert is None else word("alert_kind", entry.alert.kind)
        to = self._people.get(action.assignee_id) if action.assignee_id else None
        did = word("alert_did", action.action) + (f": {to}" if to else "")
        return Happening(
            kind=entry.kind,
            row=action,
            at=entry.at,
            recorded_at=action.at,
            who=self._people.get(action.actor_id),
            title=f"{warned} · {did}",
            text=action.note,
        )

    def _label(self, field: str) -> str:
        if field.startswith(CUSTOM):
            declared = self._fields.get(field)
            return word("custom", field.removeprefix(CUSTOM)) if declared is None else label_of(declared)
        return word("field", field)

    def _step(self, change: Change) -> str:
        old, new = (self._value(change.field or "", each) for each in (change.old, change.new))
        return new if change.old is None else f"{old} → {new}"

    def _value(self, field: str, stored: Any) -> str:  # noqa: ANN401  any stored value
        if stored is None:
            return shown_as.NOTHING
        if field == "owner_id":
            return self._people.get(stored, str(stored))
        if target := self._target_of(field):
            shown = self._links.get((target, stored))
            return gettext("not for you to see") if shown is None else shown.title
        if field in self._fields:
            return self._custom_value(field, stored)
        return shown_as.stored_text(field, stored, f"{self._kind.model.record_type}_status")

    def _custom_value(self, field: str, stored: Any) -> str:  # noqa: ANN401  any stored value
        declared = self._fields[field]
        way = FieldKind(str(declared.kind))
        return dict(choices_in(declared)).get(stored) or text_of(CUSTOM_INPUTS[way], loaded(way, stored))

    def _target_of(self, field: str) -> str | None:
        if field in self._fields:
            return self._fields[field].target
        column = columns_of(self._kind.model).get(field)
        if column is None or input_of(self._kind.model.record_type, column) is not Input.REFERENCE:
            return None
        return target_of(column, self._kind)

    def _named(self) -> list[Key]:
        """Return the records that entries name."""
        return [key for entry in self._entries for key in self._named_by(entry)]

    def _named_by(self, entry: Entry) -> Iterator[Key]:
        row = entry.row
        if isinstance(row, Change) and entry.kind in {SALE, SERVED}:
            yield row.record_type, row.record_id
        elif isinstance(row, Change) and entry.kind == CHANGE:
            if row.field and row.field != "owner_id" and (target := self._target_of(row.field)):
                yield from ((target, value) for value in (row.old, row.new) if isinstance(value, int))
        elif (target := _NAMED_BY.get(type(row))) and isinstance(row, Record):
            value = getattr(row, f"{target}_id")
            if value is not None and self._reader.may_read_field(row.record_type, f"{target}_id"):
                yield target, value

    def _predictions_before(self) -> Mapping[int, Prediction | None]:
        """Return, of the predictions on the page, the one of the same record before each."""
        before: dict[int, Prediction | None] = {}
        newer: dict[Key, Prediction] = {}
        for entry in self._entries:
            if isinstance(entry.row, Prediction):
                key = entry.row.record_type, entry.row.record_id
                before[entry.row.id] = None
                if key in newer:
                    before[newer[key].id] = entry.row
                newer[key] = entry.row
        return before

    def _score(self, entry: Entry, prediction: Prediction) -> Happening:
        own = prediction.record_type == self._kind.name
        older = self._before.get(prediction.id)
        known = older is not None and older.probability is not None and prediction.probability is not None
        return Happening(
            kind=entry.kind,
            row=prediction,
            at=entry.at,
            recorded_at=prediction.recorded_at,
            title=gettext("Score") if own else gettext("Score as a lead"),
            text=prediction.model_version,
            step=(prediction.probability or 0) - (older.probability or 0) if known and older else None,
            cause=_cause(prediction, older),
        )

    def _record(self, entry: Entry, row: Record) -> Happening:
        seen = self._reader.masked(row)
        owner = getattr(seen, "owner_id", None)
        name = _type_of(self._reader, row)
        path = path_of(name, row.id)
        return Happening(
            kind=entry.kind,
            row=seen,
            at=entry.at,
            recorded_at=row.recorded_at,
            who=self._people.get(owner),
            title=self._title(entry, row, name),
            text=seen.body if isinstance(seen, Comment) else None,
            path=f"/files/{row.id}" if isinstance(row, Attachment) else path,
            mine=owner == self._reader.user.id and isinstance(row, Activity | Comment | Attachment),
            elsewhere=isinstance(row, Attachment) and not is_ours(row.uri),
        )

    def _received(self, payment: Payment) -> str:
        told = self._reader.shown(payment)
        if told.get("amount") is None:
            return gettext("Payment received")
        amount = shown_as.money(payment.amount, told.get("currency"))
        return gettext("Payment received: %(amount)s", amount=amount)

    def _title(self, entry: Entry, row: Record, name: str) -> str:
        if entry.kind == CONVERSION:
            return gettext("Converted")
        if entry.kind == RECEIVED and isinstance(row, Payment):
            return self._received(row)
        if isinstance(row, Activity):
            return word("kind", row.kind)
        if isinstance(row, Comment):
            return gettext("Comment")
        called = type_word(self._reader, name)
        if isinstance(row, CampaignMember):
            return self._member(row, called) or f"{called}: {title_in(self._reader, row)}"
        return f"{called}: {self._told(row) or title_in(self._reader, row)}"

    def _told(self, row: Record) -> str | None:
        """Return what a payment or a line is called, of what was read already."""
        if isinstance(row, Payment):
            return payment_title(self._reader.shown(row))
        if not isinstance(row, Line):
            return None
        seen = self._reader.shown(row)
        product = self._links.get(("product", seen.get("product_id") or 0))
        return line_title({**seen, "product": product.title if product else None})

    def _member(self, row: CampaignMember, called: str) -> str | None:
        """Return which campaign somebody is in, and whether they answered."""
        shown = self._links.get(("campaign", row.campaign_id))
        answered = gettext("has answered") if self._reader.shown(row).get("responded_at") else None
        said = [] if shown is None else [f"{called}: {shown.title}", answered]
        return " · ".join(filter(None, said)) or None


def _type_of(reader: Reader, row: Record) -> str:
    if not isinstance(row, CustomRecord):
        return row.record_type
    return declarations(reader.session).types[row.type_id].name


def _state(change: Change) -> str:
    """Return what something became, in words."""
    if change.field == "satisfaction":
        return gettext("satisfaction %(mark)s of 5", mark=change.new)
    kind = "approval" if change.field == "approval" else f"{change.record_type}_status"
    return word(kind, change.new)


def _cause(now: Prediction, then: Prediction | None) -> str | None:
    if then is None:
        return None
    if now.model_version != then.model_version:
        return "model"
    return "time" if now.cause_change_id is None else "data"
