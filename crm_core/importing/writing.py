"""From candidates to records and events, one transaction a batch.

Writing again what is there changes nothing. A field is compared with what imports last said of it, not with
what the record holds: an edit made in the CRM since then stays, until the file says something new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, or_, select, true
from sqlalchemy.orm import Session

from crm_core.bulk import Log, State, Update, loaded_form, read_log, read_state, stored_form
from crm_core.changes import Source
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError
from crm_core.fields import CUSTOM
from crm_core.importing.expressions import Link
from crm_core.importing.mapping import LINK_LISTS
from crm_core.importing.report import StepReport
from crm_core.importing.specs import Step, model_named
from crm_core.links import chain_of, read_chains
from crm_core.merging import find_survivor
from crm_core.phrases import Phrase, one_of
from crm_core.pipelines import PIPELINES
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Contact,
    CustomRecord,
    DealStatus,
    Lead,
    LeadStatus,
    Record,
)
from crm_core.store import Transaction
from crm_core.validation import check_order, columns_of, ordered_with

DELETED = "deleted, merged or erased in the store"
EARLIER_START = "with another start than the stored one, which stays"
BEFORE_START = "before the record began, kept as the file says"


@dataclass(kw_only=True, slots=True)
class Candidate:
    """A row that can be written as far as it alone can tell.

    `values` holds columns and `custom.NAME`; a link is the external id of the other record until it is
    resolved. An absent `recorded_at` is the moment of writing, an absent `changed_at` too.
    """

    line: int
    external_id: str
    occurred_at: datetime
    recorded_at: datetime | None
    values: dict[str, Any]
    changed_at: datetime | None = None
    won: bool | None = None
    refused: bool = False


Refuse = Callable[[Candidate, str, object, str], None]
"""Called with the candidate, the field, its value and the reason."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A record that exists."""

    record_id: int
    occurred_at: datetime
    recorded_at: datetime
    gone: bool


def writer_of(step: Step, elsewhere: frozenset[str], report: StepReport, refuse: Refuse) -> StepWriter:
    """Return what writes the candidates of a step; `elsewhere` are fields that other steps' events write."""
    made = EventWriter if step.event is not None else RecordWriter
    return made(step=step, elsewhere=elsewhere, report=report, refuse=refuse)


@dataclass(kw_only=True)
class StepWriter:
    """What writing records and writing events have in common."""

    step: Step
    elsewhere: frozenset[str]
    report: StepReport
    refuse: Refuse

    def write(self, transaction: Transaction, candidates: Sequence[Candidate]) -> None:
        """Write a batch."""
        raise NotImplementedError

    def _find(self, session: Session, candidates: Iterable[Candidate]) -> dict[str, Known]:
        model = self.step.model
        gone = or_(*(column.is_not(None) for column in _ends(model)))
        query = select(model.external_id, model.id, model.occurred_at, model.recorded_at, gone).where(
            model.external_id.in_([each.external_id for each in candidates]),
            _of_type(session, model, self.step.record_type),
        )
        return {
            external_id: Known(
                record_id=record_id, occurred_at=occurred_at, recorded_at=recorded_at, gone=is_gone
            )
            for external_id, record_id, occurred_at, recorded_at, is_gone in session.execute(query)
            if external_id is not None
        }

    def _resolve_links(self, session: Session, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Put ids in the place of external ids; refuse candidates that point to nothing."""
        left = list(candidates)
        for spec in self.step.fields:
            if isinstance(spec.value, Link):
                left = self._resolver(spec.value)(session, left, spec.name, spec.value)
        return left

    def _resolver(self, link: Link) -> Callable[..., list[Candidate]]:
        if link.type_by is not None:
            return self._resolve_subject
        return self._resolve_list if link.many else self._resolve_link

    def _may_be_empty(self, name: str) -> bool:
        return name.startswith(CUSTOM) or bool(columns_of(self.step.model)[name].nullable)

    def _resolve_subject(
        self, session: Session, candidates: list[Candidate], name: str, link: Link
    ) -> list[Candidate]:
        """Put type and id in the place of a pair of type and external id, which may be of any type."""
        keys: dict[str, set[str]] = defaultdict(set)
        for each in candidates:
            if each.values[name] is not None and each.values[name][0] in RECORD_TYPES:
                keys[each.values[name][0]].add(each.values[name][1])
        ids = {record_type: _ids_of(session, record_type, found) for record_type, found in keys.items()}
        may_be_missing = link.may_be_missing and self._may_be_empty(name)
        left = []
        for each in candidates:
            record_type, key = each.values[name] or (None, None)
            found = ids.get(record_type or "", {}).get(key)
            each.values[name] = found
            each.values["subject_type"] = None if found is None else record_type
            if found is not None or record_type is None:
                left.append(each)
            elif may_be_missing:
                self.report.notes[f"with a {name} that leads to no {record_type}, left empty"] += 1
                left.append(each)
            elif record_type in RECORD_TYPES:
                self.refuse(
                    each, name, key, Phrase("no {record_type} has this external id", record_type=record_type)
                )
            else:
                self.refuse(
                    each, name, record_type, Phrase("expected {expected}", expected=one_of(RECORD_TYPES))
                )
        return left

    def _resolve_list(
        self, session: Session, candidates: list[Candidate], name: str, link: Link
    ) -> list[Candidate]:
        """Put a list of ids in the place of a list of external ids."""
        other = LINK_LISTS[self.step.record_type, name]
        ids = _ids_of(session, other, {key for each in candidates for key in each.values[name] or ()})
        left = []
        for each in candidates:
            keys = each.values[name]
            missing = [key for key in keys or () if key not in ids]
            if missing and not link.may_be_missing:
                self.refuse(
                    each, name, missing[0], Phrase("no {record_type} has this external id", record_type=other)
                )
                continue
            if missing:
                self.report.notes[f"with {name} that lead to no {other}, left out"] += 1
            each.values[name] = None if keys is None else [ids[key] for key in keys if key in ids]
            left.append(each)
        return left

    def _resolve_link(
        self, session: Session, candidates: list[Candidate], name: str, link: Link
    ) -> list[Candidate]:
        may_be_missing = link.may_be_missing and self._may_be_empty(name)
        other = link.record or linked_model(self.step.model, name).record_type
        ids = _ids_of(session, other, {each.values[name] for each in candidates if each.values[name]})
        left = []
        for each in candidates:
            key = each.values[name]
            each.values[name] = ids.get(key)
            if may_be_missing and key is not None and key not in ids:
                self.report.notes[f"with a {name} that leads to no {other}, left empty"] += 1
            if key is None or key in ids or may_be_missing:
                left.append(each)
            else:
                self.refuse(
                    each, name, key, Phrase("no {record_type} has this external id", record_type=other)
                )
        return left

    def _changed_fields(self, each: Candidate, record_id: int, state: State, log: Log) -> dict[str, Any]:
        """Return the values that differ from what imports last said."""
        model = self.step.model
        undated = {"closed_at", "converted_at"} if self.step.undated else frozenset()
        return {
            name: value
            for name, value in each.values.items()
            if name not in self.elsewhere
            and name not in undated
            and stored_form(model, name, value) != _last_said(state, log, record_id, name)
        }

    def _in_order(self, pairs: list[tuple[Candidate, Known]], state: State) -> list[tuple[Candidate, Known]]:
        """Refuse candidates by which something would end before it began, with what is stored counted in.

        Against the start of the record itself, `if_before_start` decides.
        """
        model = self.step.model
        if not ordered_with(model, (field.name for field in self.step.fields)) - {"occurred_at"}:
            return pairs
        left, held = [], {key: dict(values) for key, values in state.items()}
        for each, record in pairs:
            names = ordered_with(model, each.values) - {"occurred_at"}
            known = {name: loaded_form(model, name, held[record.record_id].get(name)) for name in names}
            try:
                check_order(model, known | each.values, changed=each.values)
            except InvalidValueError as error:
                name = error.field.rsplit(".", 1)[-1]
                self.refuse(each, name, error.value, Phrase("expected {expected}", expected=error.expected))
            else:
                held[record.record_id] |= {
                    name: stored_form(model, name, each.values[name]) for name in names if name in each.values
                }
                left.append((each, record))
        return left


@dataclass(kw_only=True)
class RecordWriter(StepWriter):
    """Creates records that are new and updates those whose row says something new."""

    def write(self, transaction: Transaction, candidates: Sequence[Candidate]) -> None:
        """Write a batch of records."""
        for wave in self._waves(candidates):
            self._write_wave(transaction, wave)

    def _waves(self, candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
        """Yield the batch in parts, so that an answer to a comment comes after the comment."""
        subject = next(
            (f.name for f in self.step.fields if isinstance(f.value, Link) and f.value.type_by), None
        )
        wave: list[Candidate] = []
        keys: set[str] = set()
        for each in candidates:
            if subject is not None and wave:
                record_type, key = each.values[subject] or (None, None)
                if record_type == self.step.record_type and key in keys:
                    yield wave
                    wave, keys = [], set()
            wave.append(each)
            keys.add(each.external_id)
        yield wave

    def _write_wave(self, transaction: Transaction, candidates: Sequence[Candidate]) -> None:
        session = transaction.session
        ready = self._resolve_links(session, candidates)
        known = self._find(session, ready)
        self._create(transaction, [each for each in ready if each.external_id not in known])
        there = [(each, known[each.external_id]) for each in ready if each.external_id in known]
        living = [(each, record) for each, record in there if not record.gone]
        if len(there) > len(living):
            self.report.left_out[DELETED] += len(there) - len(living)
        if self.step.if_known == "keep":
            self.report.unchanged += len(living)
        elif living:
            self._update(transaction, living)

    def _create(self, transaction: Transaction, candidates: list[Candidate]) -> None:
        whole = [each for each in candidates if self._is_whole(transaction.session, each)]
        free = self._without_taken(transaction.session, whole, {})
        more = self._type(transaction.session)
        transaction.create_many(self.step.model, [{**_row_of(each), **more} for each in free])
        self.report.written += len(free)

    def _is_whole(self, session: Session, each: Candidate) -> bool:
        """Say whether a new record has a value in every required field; refuse it if not."""
        for required in declarations(session).required(self.step.record_type):
            if each.values.get(f"{CUSTOM}{required.name}") is None:
                self.refuse(each, f"{CUSTOM}{required.name}", None, "a value is required")
                return False
        return True

    def _type(self, session: Session) -> dict[str, int]:
        if self.step.model is not CustomRecord:
            return {}
        return {"type_id": declarations(session).by_name[self.step.record_type].type_id}

    def _update(self, transaction: Transaction, pairs: list[tuple[Candidate, Known]]) -> None:
        model, session = self.step.model, transaction.session
        ids = [record.record_id for _, record in pairs]
        names = {name for each, _ in pairs for name in each.values}
        names |= ordered_with(model, names)
        state, log = read_state(session, model, ids, names), read_log(session, model, ids)
        owners: dict[str, int] = {}
        for each, record in pairs:
            each.values = self._changed_fields(each, record.record_id, state, log)
            owners[each.external_id] = record.record_id
            if each.occurred_at != record.occurred_at and not self.step.undated:
                self.report.notes[EARLIER_START] += 1
        changed = [each for each, _ in pairs if each.values]
        fitting = [each for each, _ in self._in_order([(e, r) for e, r in pairs if e.values], state)]
        free = self._without_taken(session, fitting, owners)
        updates = [self._update_of(each, owners[each.external_id]) for each in free]
        self._count(transaction.update_many(model, updates))
        self.report.unchanged += len(pairs) - len(changed)

    def _update_of(self, each: Candidate, record_id: int) -> Update:
        # Without a column that tells when, a changed row is a fact of the moment at which it is read.
        learned = each.changed_at if self.step.recorded_at == "as_occurred" else None
        return Update(
            record_id=record_id, values=each.values, occurred_at=each.changed_at, recorded_at=learned
        )

    def _count(self, changed: list[int]) -> None:
        updated = sum(1 for fields in changed if fields)
        self.report.updated += updated
        self.report.unchanged += len(changed) - updated

    def _without_taken(
        self, session: Session, candidates: list[Candidate], owners: Mapping[str, int]
    ) -> list[Candidate]:
        """Refuse candidates whose value of a unique column belongs to another record."""
        left = candidates
        for name, column in columns_of(self.step.model).items():
            if column.unique and name != "external_id":
                left = self._without_taken_in(session, left, owners, name)
        return left

    def _without_taken_in(
        self, session: Session, candidates: list[Candidate], owners: Mapping[str, int], name: str
    ) -> list[Candidate]:
        model = self.step.model
        column = columns_of(model)[name]
        values = {each.values[name] for each in candidates if each.values.get(name) is not None}
        query = select(column, columns_of(model)["id"]).where(column.in_(values))
        taken: dict[Any, object] = dict(session.execute(query).all())
        left = []
        for each in candidates:
            value = each.values.get(name)
            owner = owners.get(each.external_id, each.external_id)
            if value is None or taken.setdefault(value, owner) == owner:
                left.append(each)
            else:
                self.refuse(
                    each,
                    name,
                    value,
                    Phrase(
                        "another {record_type} has this {field} already",
                        record_type=model.record_type,
                        field=name,
                    ),
                )
        return left


@dataclass(kw_only=True)
class EventWriter(StepWriter):
    """Writes what happened to records, at the time at which it happened."""

    _closed: dict[str, frozenset[str]] = field(
        default_factory=lambda: {
            "convert": frozenset({LeadStatus.CONVERTED.value}),
            "disqualify": frozenset({LeadStatus.DISQUALIFIED.value}),
            "close": frozenset({DealStatus.WON.value, DealStatus.LOST.value}),
        }
    )

    def write(self, transaction: Transaction, candidates: Sequence[Candidate]) -> None:
        """Write a batch of events."""
        session = transaction.session
        ready = self._resolve_links(session, candidates)
        known = self._find(session, ready)
        pairs = [(each, known[each.external_id]) for each in ready if self._is_for(each, known)]
        for each, record in pairs:
            each.values = {**self._implied(each), **each.values}
            if each.recorded_at is not None:
                each.recorded_at = max(each.recorded_at, record.recorded_at)
        ids = [record.record_id for _, record in pairs]
        names = {"status"} if self.step.event != "update" else set()
        names |= {name for each, _ in pairs for name in each.values}
        names |= ordered_with(self.step.model, names)
        state, log = read_state(session, self.step.model, ids, names), read_log(session, self.step.model, ids)
        pairs = self._in_order(self._without_cycles(session, pairs), state)
        self._write_pairs(transaction, pairs, state, log)

    def _without_cycles(
        self, session: Session, pairs: list[tuple[Candidate, Known]]
    ) -> list[tuple[Candidate, Known]]:
        """Refuse events by which a record would come to stand above itself, as a parent's parent does."""
        links = [each for each in self.step.fields if isinstance(each.value, Link)]
        columns = columns_of(self.step.model)
        for name in (each.name for each in links if each.name in columns and columns[each.name].foreign_keys):
            if linked_model(self.step.model, name) is self.step.model:
                pairs = self._without_cycle(session, pairs, name)
        return pairs

    def _without_cycle(
        self, session: Session, pairs: list[tuple[Candidate, Known]], name: str
    ) -> list[tuple[Candidate, Known]]:
        above = read_chains(session, self.step.model, name, [each.values[name] for each, _ in pairs])
        left = []
        for each, record in pairs:
            if record.record_id in chain_of(above, each.values[name]):
                kind = self.step.record_type
                self.refuse(
                    each,
                    name,
                    each.external_id,
                    Phrase("would put the {record_type} above itself: a cycle", record_type=kind),
                )
            else:
                above[record.record_id] = each.values[name]
                left.append((each, record))
        return left

    def _is_for(self, each: Candidate, known: Mapping[str, Known]) -> bool:
        """Say whether an event has a record that it can have happened to."""
        record = known.get(each.external_id)
        if record is None:
            kind = self.step.record_type
            self.refuse(
                each,
                "external_id",
                each.external_id,
                Phrase("no {record_type} has this external id", record_type=kind),
            )
            return False
        if record.gone:
            self.report.left_out[DELETED] += 1
            return False
        if each.occurred_at >= record.occurred_at:
            return True
        if self.step.if_before_start == "keep":
            self.report.notes[BEFORE_START] += 1
            return True
        began = Phrase(
            "expected nothing before its {record_type} began ({at})",
            record_type=self.step.record_type,
            at=record.occurred_at,
        )
        self.refuse(each, "occurred_at", each.occurred_at.isoformat(), began)
        return False

    def _implied(self, each: Candidate) -> dict[str, Any]:
        match self.step.event:
            case "convert":
                return {"status": LeadStatus.CONVERTED.value, "converted_at": each.occurred_at}
            case "disqualify":
                return {"status": LeadStatus.DISQUALIFIED.value}
            case "close" if each.won:
                stage = next(stage.key for stage in PIPELINES["default"] if stage.won)
                return {"status": DealStatus.WON.value, "closed_at": each.occurred_at, "stage": stage}
            case "close":
                return {"status": DealStatus.LOST.value, "closed_at": each.occurred_at}
        return {}

    def _write_pairs(
        self, transaction: Transaction, pairs: Sequence[tuple[Candidate, Known]], state: State, log: Log
    ) -> None:
        first: list[Update] = []
        corrections: list[Update] = []
        for each, record in pairs:
            status = state[record.record_id].get("status")
            if self.step.event == "update":
                first.append(self._missing_from_log(each, record.record_id, log))
            elif status == "open":
                first.append(_event_of(each, record.record_id, each.values))
            elif status in self._closed[self.step.event or ""]:
                values = self._changed_fields(each, record.record_id, state, log)
                # Learned now, so said now: what was believed until today stays in the log.
                corrections.append(Update(record_id=record.record_id, values=values))
            else:
                self.refuse(
                    each,
                    "status",
                    status,
                    Phrase("expected an open {record_type}", record_type=self.step.record_type),
                )
        self._count(transaction, first, corrections)

    def _count(self, transaction: Transaction, first: list[Update], corrections: list[Update]) -> None:
        written = sum(1 for fields in transaction.update_many(self.step.model, first) if fields)
        updated = sum(1 for fields in transaction.update_many(self.step.model, corrections) if fields)
        self.report.written += written
        self.report.updated += updated
        self.report.unchanged += len(first) + len(corrections) - written - updated

    def _missing_from_log(self, each: Candidate, record_id: int, log: Log) -> Update:
        """Return the update without what the log tells already: the same value at the same instant."""
        model = self.step.model
        values = {
            name: value
            for name, value in each.values.items()
            if not any(
                change.occurred_at == each.occurred_at and change.new == stored_form(model, name, value)
                for change in log.get((record_id, name), ())
            )
        }
        return _event_of(each, record_id, values)


def linked_model(model: type[Record], name: str) -> type[Record]:
    """Return the class of the records that a column points to."""
    (key,) = columns_of(model)[name].foreign_keys
    table = key.target_fullname.split(".")[0]
    return next(other for other in RECORD_TYPES.values() if other.__tablename__ == table)


def _ends(model: type[Record]) -> list[Column[Any]]:
    """Return the columns that say of a record that it is there no more."""
    columns = columns_of(model)
    return [columns[name] for name in ("deleted_at", "erased_at") if name in columns]


def _of_type(session: Session, model: type[Record], record_type: str) -> ColumnElement[bool]:
    """Return the condition that a record of `model` is of a type: declared ones share a table."""
    if model is not CustomRecord:
        return true()
    return CustomRecord.type_id == declarations(session).by_name[record_type].type_id


def _ids_of(session: Session, record_type: str, external_ids: Collection[str]) -> dict[str | None, int]:
    """Return the ids of records by external id; a merged record's is that of the one that stands for it."""
    model = model_named(record_type)
    query = select(model.external_id, model.id, model.deleted_at).where(
        model.external_id.in_(external_ids), _of_type(session, model, record_type)
    )
    ids: dict[str | None, int] = {}
    for external_id, record_id, deleted_at in session.execute(query):
        if deleted_at is None:
            ids[external_id] = record_id
        elif issubclass(model, Account | Contact | Lead):
            survivor = find_survivor(session, cast("type[Account]", model), record_id)
            ids |= {} if survivor is None else {external_id: survivor.id}
    return ids


def _last_said(state: State, log: Log, record_id: int, name: str) -> object:
    """Return what imports last said of a field: the creation counts as said."""
    changes = log.get((record_id, name))
    if not changes:
        return state[record_id][name]
    said = [change.new for change in changes if change.source == Source.IMPORT]
    return said[-1] if said else changes[0].old


def _row_of(each: Candidate) -> dict[str, Any]:
    plain = {name: value for name, value in each.values.items() if not name.startswith("custom.")}
    custom = {
        name.removeprefix("custom."): value
        for name, value in each.values.items()
        if name not in plain and value is not None
    }
    return {
        **plain,
        "external_id": each.external_id,
        "occurred_at": each.occurred_at,
        "recorded_at": each.recorded_at,
        "custom": custom or None,
    }


def _event_of(each: Candidate, record_id: int, values: Mapping[str, Any]) -> Update:
    return Update(
        record_id=record_id, values=values, occurred_at=each.occurred_at, recorded_at=each.recorded_at
    )
