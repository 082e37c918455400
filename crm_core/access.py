"""Who may see and change what: the one place that every query, list, export, hit and score goes through.

A role has, for each record type, a scope of reading and a scope of writing: none, own, team (the reader's
team and all teams below it) or all. What belongs to nobody by itself (an order, a comment) belongs to
whoever has the record it is about, and to nobody while that is deleted. Some fields are hidden from a role,
or only shown. What is not granted here is denied.

Who sees all records of a type sees those about deleted records too, because somebody has to find them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    UniqueConstraint,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Mapped, Session, load_only, mapped_column

from crm_core.declared import declarations, logical_type
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.phrases import Phrase
from crm_core.recall import recalled, recalled_by_readers
from crm_core.records import (
    RECORD_TYPES,
    SCORE_COLUMNS,
    Activity,
    Base,
    CustomRecord,
    CustomRecordType,
    Id,
    Owned,
    Record,
    Role,
    Team,
    Ticket,
    User,
)
from crm_core.service_desk import queues_served_by
from crm_core.validation import columns_of

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Scope(StrEnum):
    """How far a right reaches."""

    NONE = "none"
    OWN = "own"
    TEAM = "team"
    ALL = "all"

    def within(self, other: Scope) -> Scope:
        """Return the narrower of two."""
        reach = list(Scope)
        return min(self, other, key=reach.index)

    def reaches(self, other: Scope) -> bool:
        """Say whether this one goes as far as another."""
        return self.within(other) is other


@dataclass(frozen=True, kw_only=True)
class Right:
    """What a role may do with a record type."""

    read: Scope = Scope.NONE
    write: Scope = Scope.NONE


class RoleRight(Base):
    """A right that an administrator set, in place of the default."""

    __tablename__ = "role_rights"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    role: Mapped[str] = mapped_column(String(20))
    record_type: Mapped[str] = mapped_column(String(40))
    read: Mapped[str] = mapped_column(String(10))
    write: Mapped[str] = mapped_column(String(10))

    __table_args__ = (UniqueConstraint("role", "record_type"),)


class FieldRight(Base):
    """What a role may do with one field, in place of what it may do with the record."""

    __tablename__ = "field_rights"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    role: Mapped[str] = mapped_column(String(20))
    record_type: Mapped[str] = mapped_column(String(40))
    field: Mapped[str] = mapped_column(String(120))
    read: Mapped[bool]
    write: Mapped[bool]

    __table_args__ = (UniqueConstraint("role", "record_type", "field"),)


_WORK = frozenset(
    {
        "account",
        "contact",
        "lead",
        "deal",
        "quote",
        "order",
        "line",
        "contract",
        "payment",
        "ticket",
        "activity",
        "comment",
        "attachment",
        "tag",
        "custom_record",
        "campaign_member",
    }
)
"""Record types that belong to somebody, by themselves or through what they are about."""

_SHARED = frozenset({"product", "campaign", "user", "team", "article"})
"""Record types that everybody reads and only administrators (campaigns: managers too) change; articles
are written by all who write anything."""


def _default_rights() -> dict[tuple[str, str], Right]:
    rights: dict[tuple[str, str], Right] = {}
    for record_type in _WORK:
        rights[Role.REP, record_type] = Right(read=Scope.OWN, write=Scope.OWN)
        rights[Role.MANAGER, record_type] = Right(read=Scope.TEAM, write=Scope.TEAM)
        rights[Role.ANALYST, record_type] = Right(read=Scope.ALL)
        rights[Role.ADMIN, record_type] = Right(read=Scope.ALL, write=Scope.ALL)
    for record_type in _SHARED:
        for role in Role:
            rights[role, record_type] = Right(read=Scope.ALL)
        rights[Role.ADMIN, record_type] = Right(read=Scope.ALL, write=Scope.ALL)
    rights[Role.MANAGER, "campaign"] = Right(read=Scope.ALL, write=Scope.ALL)
    for role in (Role.REP, Role.MANAGER):
        rights[role, "article"] = Right(read=Scope.ALL, write=Scope.ALL)
    return rights


DEFAULT_RIGHTS = _default_rights()
"""By role and record type; what is missing is denied."""

HIDDEN_FIELDS: dict[tuple[str, str], frozenset[str]] = {
    ("product", "cost"): frozenset({Role.REP}),
    ("campaign", "cost"): frozenset({Role.REP}),
    ("campaign", "budget"): frozenset({Role.REP}),
    ("user", "password_hash"): frozenset(Role),
}
"""Fields that some roles do not see unless an administrator lets them."""

CREDENTIALS = frozenset({"password_hash"})
"""What nobody sees or writes as a field, whatever rights were set."""

NEVER_HIDDEN = frozenset({"id", "version", "occurred_at", "recorded_at", "deleted_at"})
"""What lists are put in order by and writers refer to: whoever sees a record sees these."""

OWNERS: dict[str, tuple[tuple[str, str], ...]] = {
    "contact": (("account_id", "account"),),
    "quote": (("deal_id", "deal"),),
    "order": (("account_id", "account"), ("deal_id", "deal")),
    "line": (("quote_id", "quote"), ("order_id", "order")),
    "contract": (("account_id", "account"), ("deal_id", "deal")),
    "payment": (("account_id", "account"), ("deal_id", "deal")),
    "ticket": (("account_id", "account"),),
    "activity": (
        ("lead_id", "lead"),
        ("deal_id", "deal"),
        ("account_id", "account"),
        ("contact_id", "contact"),
    ),
    "campaign_member": (("lead_id", "lead"), ("contact_id", "contact")),
    "custom_record": (
        ("lead_id", "lead"),
        ("account_id", "account"),
        ("deal_id", "deal"),
        ("contact_id", "contact"),
    ),
}
"""Through which links a record also belongs to whoever has the record at the other end."""

SUBJECT_TYPES = (
    "lead",
    "deal",
    "account",
    "contact",
    "ticket",
    "quote",
    "contract",
    "order",
    "custom_record",
    "payment",
    "product",
    "campaign",
)
"""What comments, attachments, tags and other activities may be about, to be seen by whoever sees that."""

_WHOLE_OF = dict.fromkeys(SCORE_COLUMNS - {"probability"}, "probability")
"""Fields that nobody sees who may not see another one: a score and its reasons tell the probability."""

_FOLLOWING = frozenset({"comment", "attachment"})
"""What is seen by whoever sees what it is about, and not by its author as such."""


class _Granted(NamedTuple):
    """What was granted on a field, apart from any session."""

    read: bool
    write: bool


class _Grants(NamedTuple):
    """What administrators set for a role, in place of the default."""

    types: dict[str, Right]
    fields: dict[tuple[str, str], _Granted]


_BUILT: dict[Hashable, Any] = {}
_MOST_BUILT = 5_000
"""Conditions and queries that are kept; beyond, all are built anew."""


class Reader:
    """A user with rights, in one session: asked before anything is shown or changed."""

    def __init__(self, session: Session, user: User) -> None:
        self.session = session
        self.user = user

    def right(self, record_type: str) -> Right:
        """Return what the user's role may do with a record type: as set, else by default, else nothing."""
        default = DEFAULT_RIGHTS.get((self.user.role, record_type), Right())
        if record_type not in RECORD_TYPES and record_type in declarations(self.session).by_name:
            default = self.right(CustomRecord.record_type)
        return self._set_rights.get(record_type, default)

    def standing(self) -> str:
        """Return a text that is another one once the user's role, team, or what was set for the role is."""
        rights = sorted((name, right.read, right.write) for name, right in self._set_rights.items())
        fields = sorted((*key, right.read, right.write) for key, right in self._field_rights.items())
        return repr((self.user.role, self.user.team_id, rights, fields))

    def readable(self, model: type[Record]) -> ColumnElement[bool]:
        """Return the condition that a record of `model` may be seen."""
        if model is CustomRecord:  # may ask what is declared
            key = ("readable", model, self.user.id, self.user.role, self.user.team_id)
            return recalled(self.session, key, lambda: self._allowed(model, lambda right: right.read))
        return self.built(("readable", model), lambda: self._allowed(model, lambda right: right.read))

    def built(self, name: Hashable, build: Callable[[], T]) -> T:
        """Return a condition or query that depends on nothing but who the user is and what they may see.

        Building one may cost more than asking it: it is kept for as long as exactly this was granted, to
        exactly these people. What is declared at run time must have no part in it.
        """
        key = (name, self._stands)
        found: T | None = _BUILT.get(key)
        if found is None:
            if len(_BUILT) >= _MOST_BUILT:
                _BUILT.clear()
            found = _BUILT[key] = build()
        return found

    def writable(self, model: type[Record]) -> ColumnElement[bool]:
        """Return the condition that a record of `model` may be changed."""
        return self._allowed(model, lambda right: right.write)

    def select(self, model: type[R]) -> Select[R]:
        """Return the query of all records that the user may see and nobody deleted."""
        return select(model).where(model.deleted_at.is_(None), self.readable(model))

    def count(self, model: type[Record]) -> int:
        """Return how many records of `model` the user may see."""
        query = select(func.count()).select_from(self.select(model).subquery())
        return self.session.scalar(query) or 0

    def get(self, model: type[R], record_id: int, *, only: tuple[str, ...] = ()) -> R:
        """Return a record that may be seen; one that may not does not exist for the user.

        With `only`, nothing but these columns is read.
        """
        if model is CustomRecord:
            return self._one(self._query_to_get(model, only), model, record_id)
        query = self.built(("one", model, only), lambda: self._query_to_get(model, only))
        return self._one(query, model, record_id)

    def get_beside(
        self, model: type[R], record_id: int, beside: Callable[[Reader, type[R]], ColumnElement[T]]
    ) -> tuple[R, T]:
        """Return a record that may be seen, and beside it what a column says of it, by rights."""
        query = self.built(
            ("beside", model, beside),
            lambda: self._query_of_one(model, self.readable(model)).add_columns(beside(self, model)),
        )
        found = self.session.execute(query, {"one_id": record_id}).one_or_none()
        if found is None:
            raise RecordNotFoundError(model.record_type, record_id)
        return found[0], found[1]

    def _query_to_get(self, model: type[R], only: tuple[str, ...]) -> Select[R]:
        query = self._query_of_one(model, self.readable(model))
        return query.options(load_only(*(getattr(model, name) for name in only))) if only else query

    def get_to_write(self, model: type[R], record_id: int, *, only: tuple[str, ...] = ()) -> R:
        """Return a record that may be changed; AccessDeniedError if it may only be seen.

        With `only`, nothing but these columns is read.
        """
        record = self.get(model, record_id, only=only)
        right = self.right(model.record_type)
        if right.read is right.write and model is not CustomRecord:
            return record  # the very same condition
        try:
            return self._one(self._query_of_one(model, self.writable(model)), model, record_id)
        except RecordNotFoundError:
            raise _denied(
                self.user, Phrase("change {record_type} {id}", record_type=model.record_type, id=record.id)
            ) from None

    def may_change(self, record: Record) -> bool:
        """Say whether a record may be changed."""
        try:
            self.get_to_write(type(record), record.id, only=("id",))
        except (RecordNotFoundError, AccessDeniedError):
            return False
        return True

    def select_about(
        self, model: type[R], record: Record, *, also: tuple[type[Record], Collection[int]] | None = None
    ) -> Select[R]:
        """Return the query of what the user may see of a type that is about a record which they see.

        What is about a record follows its rights; only where the user may see less of the type than of the
        record is each one looked at. `also` names further records which they see, by their type and ids.
        """
        found = [self._about(model, type(record), [record.id])]
        if also is not None and also[1]:
            found.append(self._about(model, *also))
        return select(model).where(model.deleted_at.is_(None), or_(*found))

    def _about(self, model: type[Record], subject: type[Record], ids: Collection[int]) -> ColumnElement[bool]:
        columns = columns_of(model)
        link = f"{subject.record_type}_id"
        about: list[ColumnElement[bool]] = [columns[link].in_(ids)] if link in columns else []
        if "subject_type" in columns:
            of_type = columns["subject_type"] == subject.record_type
            about.append(and_(of_type, columns["subject_id"].in_(ids)))
        return and_(or_(false(), *about), self.readable_about(model, subject))

    def readable_about(self, model: type[Record], subject: type[Record]) -> ColumnElement[bool]:
        """Return the condition that what is about a record of type `subject`, which is seen, is seen too."""
        scope = self.right(model.record_type).read
        follows = scope is not Scope.NONE and scope.reaches(self.right(subject.record_type).read)
        return true() if follows else self.readable(model)

    def check_may_create(self, model: type[Record], declared: str | None = None) -> None:
        """Raise AccessDeniedError unless the user may write records of `model`, or of a `declared` type."""
        record_type = declared or model.record_type
        if self.right(record_type).write is Scope.NONE:
            raise _denied(self.user, Phrase("create a {record_type}", record_type=record_type))

    def readable_fields(self, model: type[Record]) -> frozenset[str]:
        """Return the columns of `model` that the user may see."""
        found = self._seen_columns.get(model)
        if found is None:
            fields = (f for f in columns_of(model) if self.may_read_field(model.record_type, f))
            found = self._seen_columns[model] = frozenset(fields)
        return found

    def may_read_field(self, record_type: str, field: str) -> bool:
        """Return whether the user may see a field, where the record itself may be seen."""
        found = self._may_read.get((record_type, field))
        if found is None:
            found = self._may_read[record_type, field] = self._decide(record_type, field)
        return found

    def _decide(self, record_type: str, field: str) -> bool:
        if field in NEVER_HIDDEN or field in CREDENTIALS:
            return field in NEVER_HIDDEN
        whole = _WHOLE_OF.get(field) or ("custom" if field.startswith("custom.") else None)
        if whole is not None and not self.may_read_field(record_type, whole):
            return False
        if record_type == CustomRecord.record_type and field in self._hidden_of_declared:
            return False
        found = self._field_right(record_type, field)
        hidden = self.user.role in HIDDEN_FIELDS.get((record_type, field), ())
        return not hidden if found is None else found.read

    def check_may_see_scores(self, model: type[Record]) -> None:
        """Raise AccessDeniedError unless the user may see what models say of records of `model`."""
        if not self.may_read_field(model.record_type, "probability"):
            raise _denied(
                self.user, Phrase("see the scores of a {record_type}", record_type=model.record_type)
            )

    def may_write_field(self, record_type: str, field: str) -> bool:
        """Return whether the user may change a field, where the record itself may be changed."""
        if field in CREDENTIALS:
            return False
        found = self._field_right(record_type, field)
        return self.may_read_field(record_type, field) if found is None else found.write

    def _field_right(self, record_type: str, field: str) -> _Granted | None:
        """Return what was granted on a field; a declared type without a grant of its own has that of all."""
        found = self._field_rights.get((record_type, field))
        if found is None and record_type not in RECORD_TYPES:
            return self._field_rights.get((CustomRecord.record_type, field))
        return found

    def check_fields(self, record_type: str, fields: Iterable[str]) -> None:
        """Raise AccessDeniedError naming the first field that the user may not change."""
        for field in fields:
            if not self.may_write_field(record_type, field):
                raise _denied(
                    self.user, Phrase("change {record_type}.{field}", record_type=record_type, field=field)
                )

    def shown(self, record: Record) -> dict[str, Any]:
        """Return the columns of a record that may be seen, custom fields included, by name."""
        model, record_type = type(record), logical_type(self.session, record)
        values = {field: getattr(record, field) for field in self.fields_shown(model, record_type)}
        if values.get("custom"):
            values["custom"] = self.readable_custom(record_type, values["custom"])
        if values.get("reasons"):
            values["reasons"] = self.readable_reasons(values["reasons"])
        return values

    def readable_custom(self, record_type: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those custom values of a record of a type, which may be a declared one, that may be seen."""
        return {n: value for n, value in values.items() if self.may_read_field(record_type, f"custom.{n}")}

    def fields_shown(self, model: type[Record], record_type: str) -> tuple[str, ...]:
        """Return the columns that may be seen of records of a type, which may be a declared one."""
        found = self._shown_fields.get((model, record_type))
        if found is None:
            readable = self.readable_fields(model)
            found = tuple(field for field in readable if self.may_read_field(record_type, field))
            self._shown_fields[model, record_type] = found
        return found

    def masked(self, record: R) -> R:
        """Return a copy of a record that holds only what may be seen, and belongs to no session."""
        seen = self.shown(record)
        copy = type(record)()
        for field in columns_of(type(record)):
            setattr(copy, field, seen.get(field))
        return copy

    def readable_reasons(self, reasons: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return reasons in which what comes from a hidden field says neither its name nor its value.

        A reason names its inputs in `fields` ("deal.amount"). Its contribution stays, so that the reasons
        still sum to the score. One that does not name them is hidden from a role from which an administrator
        hid anything.
        """
        return [dict(reason) if self._may_read_all(reason) else _hidden(reason) for reason in reasons]

    def _may_read_all(self, reason: Mapping[str, Any]) -> bool:
        fields = reason.get("fields")
        if fields and all(map(self._told_fields.get, fields)):
            return True  # nearly always all is known and may be seen
        if fields is None:
            return reason.get("group") == "base" or not self._is_restricted
        return self.may_be_told_of(fields)

    def may_be_told_of(self, fields: Iterable[str]) -> bool:
        """Return whether the user may see all fields that something comes from, named as `deal.amount`."""
        return all(map(self._may_be_told, fields))

    def _may_be_told(self, named: str) -> bool:
        found = self._told_fields.get(named)
        if found is None:
            found = self._told_fields[named] = self._find_out_if_told(*named.split(".", 1))
        return found

    def _find_out_if_told(self, record_type: str, field: str) -> bool:
        # Fields of types that were declared at run time are named by that type.
        return self.right(record_type).read is not Scope.NONE and self.may_read_field(record_type, field)

    def _query_of_one(self, model: type[R], condition: ColumnElement[bool]) -> Select[R]:
        return select(model).where(model.id == bindparam("one_id"), model.deleted_at.is_(None), condition)

    def _one(self, query: Select[R], model: type[R], record_id: int) -> R:
        found = self.session.scalars(query, {"one_id": record_id}).one_or_none()
        if found is None:
            raise RecordNotFoundError(model.record_type, record_id)
        return found

    def _allowed(self, model: type[Record], scope_of: Callable[[Right], Scope]) -> ColumnElement[bool]:
        """Return the condition of a right; a declared record type may have one of its own."""
        within = self._within(model, scope_of(self.right(model.record_type)))
        if model is not CustomRecord or not self._set_rights.keys() - RECORD_TYPES.keys():
            return within
        own = [kind for kind in declarations(self.session).types.values() if kind.name in self._set_rights]
        by_type = (
            and_(CustomRecord.type_id == kind.type_id, self._within(model, scope_of(self.right(kind.name))))
            for kind in own
        )
        return or_(and_(CustomRecord.type_id.not_in([kind.type_id for kind in own]), within), *by_type)

    def _within(self, model: type[Record], scope: Scope) -> ColumnElement[bool]:
        reached = self._reached(model, scope)
        return and_(reached, self._not_denied()) if model is CustomRecord else reached

    def _not_denied(self) -> ColumnElement[bool]:
        """Return the condition that a record's declared type was not taken away from the role."""
        if not self._denied_types:
            return true()
        denied = select(CustomRecordType.id).where(CustomRecordType.name.in_(self._denied_types))
        return CustomRecord.type_id.not_in(denied)

    def _reached(self, model: type[Record], scope: Scope) -> ColumnElement[bool]:
        if scope is Scope.ALL:
            return true()
        if scope is Scope.NONE:
            return false()
        return or_(false(), *self._belongs(model, scope))

    def _belongs(self, model: type[Record], scope: Scope) -> Iterable[ColumnElement[bool]]:
        if issubclass(model, Owned) and model.record_type not in _FOLLOWING:
            yield self._owned(model, scope)
        yield from self._through_links(model, scope)
        if model is Ticket and (served := queues_served_by(self.session, self.user)):
            yield Ticket.queue.in_(served)
        if model is CustomRecord:
            # One step up, and no more: a machine belongs to whoever has the customer of its shop.
            above = select(CustomRecord.id).where(
                CustomRecord.deleted_at.is_(None),
                self._not_denied(),
                or_(self._owned(CustomRecord, scope), *self._through_links(CustomRecord, scope)),
            )
            yield CustomRecord.parent_id.in_(above.correlate(None))
        columns = columns_of(model)
        if "subject_type" in columns:
            for record_type in SUBJECT_TYPES:
                about = columns["subject_id"].in_(self._ids(record_type, scope))
                yield and_(columns["subject_type"] == record_type, about)

    def _through_links(self, model: type[Record], scope: Scope) -> Iterable[ColumnElement[bool]]:
        for column, record_type in OWNERS.get(model.record_type, ()):
            yield columns_of(model)[column].in_(self._ids(record_type, scope))

    def _owned(self, model: type[Record], scope: Scope) -> ColumnElement[bool]:
        owner = columns_of(model)["owner_id"]
        if scope is Scope.OWN:
            theirs = owner == self.user.id
        else:
            theirs = or_(owner.in_(self._team_member_ids), _nobodys(model))
        return and_(theirs, _about_nothing(model)) if model is Activity else theirs

    def _ids(self, record_type: str, scope: Scope) -> Select[int]:
        """Return the query of records through which others are reached: never more than may be seen."""
        model = RECORD_TYPES[record_type]
        seen = self.right(record_type).read
        reach = seen if record_type in _SHARED else scope.within(seen)
        return select(model.id).where(model.deleted_at.is_(None), self._within(model, reach))

    @cached_property
    def _stands(self) -> Hashable:
        """All that conditions are built from: who it is, what was granted, their team and their queues."""
        rights = self._set_rights
        by_team = self.user.role == Role.MANAGER or any(
            Scope.TEAM in (right.read, right.write) for right in rights.values()
        )
        members = tuple(self._team_member_ids) if by_team else ()
        granted = (frozenset(rights.items()), frozenset(self._field_rights.items()))
        served = queues_served_by(self.session, self.user)
        return (self.user.id, self.user.role, self.user.team_id, members, served, *granted)

    @cached_property
    def _may_read(self) -> dict[tuple[str, str], bool]:
        """What was decided: it is asked of every field of every record on a page."""
        return {}

    @cached_property
    def _shown_fields(self) -> dict[tuple[type[Record], str], tuple[str, ...]]:
        return {}

    @cached_property
    def _set_rights(self) -> dict[str, Right]:
        return self._granted.types

    @cached_property
    def _granted(self) -> _Grants:
        return recalled(self.session, ("rights", self.user.role), self._read_granted)

    def _read_granted(self) -> _Grants:
        """Return what administrators set for the role, of types and of fields, by one statement."""
        text = literal("").label("field")
        types = select(RoleRight.record_type, text, RoleRight.read, RoleRight.write)
        marks = (case((mark, "yes"), else_="") for mark in (FieldRight.read, FieldRight.write))
        fields = select(FieldRight.record_type, FieldRight.field, *marks)
        role = self.user.role
        both = union_all(types.where(RoleRight.role == role), fields.where(FieldRight.role == role))
        found = self.session.execute(both).all()
        return _Grants(
            types={name: Right(read=Scope(r), write=Scope(w)) for name, field, r, w in found if not field},
            fields={(name, field): _Granted(bool(r), bool(w)) for name, field, r, w in found if field},
        )

    @cached_property
    def _seen_fields(self) -> dict[tuple[str, str], bool]:
        """Whether fields may be seen, as far as it was asked: the same for all of a role."""
        return recalled_by_readers(self.session, ("seen fields", self.user.role), dict)

    @cached_property
    def _told_fields(self) -> dict[str, bool]:
        """The same, and whether their records may be seen at all, by `record.field`."""
        return recalled_by_readers(self.session, ("told fields", self.user.role), dict)

    @cached_property
    def _seen_columns(self) -> dict[type[Record], frozenset[str]]:
        """Which columns may be seen, as far as it was asked."""
        return recalled_by_readers(self.session, ("seen columns", self.user.role), dict)

    @cached_property
    def _denied_types(self) -> list[str]:
        """The types declared at run time, by name, that an administrator took away from the role."""
        rights = self._set_rights.items()
        return [n for n, right in rights if n not in RECORD_TYPES and right.read is Scope.NONE]

    @cached_property
    def _hidden_of_declared(self) -> set[str]:
        """Fields hidden in a type declared at run time: in all of these, as their records are of one type."""
        rights = self._field_rights.items()
        return {field for (n, field), right in rights if n not in RECORD_TYPES and not right.read}

    @cached_property
    def _is_restricted(self) -> bool:
        """Whether an administrator hid fields or record types from the role."""
        hidden = [not right.read for right in self._field_rights.values()]
        return any(hidden) or any(right.read is Scope.NONE for right in self._set_rights.values())

    @cached_property
    def _field_rights(self) -> dict[tuple[str, str], _Granted]:
        return self._granted.fields

    @cached_property
    def _team_member_ids(self) -> list[int]:
        return recall_team(self.session, self.user)


_UNASSIGNED = frozenset({"lead", "deal", "account", "contact"})
"""What a manager sees even though nobody owns it yet: somebody has to hand it out."""


def visible(session: Session, user: User, model: type[Record]) -> ColumnElement[bool]:
    """Return the condition that a record of `model` is one that `user` may see."""
    return Reader(session, user).readable(model)


def get_visible(session: Session, user: User, model: type[R], record_id: int) -> R:
    """Return a record that `user` may see; one they may not see does not exist for them."""
    return Reader(session, user).get(model, record_id)


def team_member_ids(session: Session, user: User) -> list[int]:
    """Return the ids of `user` and of everybody in their team and the teams below it."""
    if user.team_id is None:
        return [user.id]
    below = select(Team.id).where(Team.id == user.team_id).cte("below", recursive=True)
    below = below.union(select(Team.id).join(below, Team.parent_id == below.c.id))
    members = select(User.id).where(User.team_id.in_(select(below.c.id))).order_by(User.id)
    return [user.id, *session.scalars(members)]


def recall_team(session: Session, user: User) -> list[int]:
    """Return the same as it was a moment ago at the longest; not to be changed."""
    key = ("team", user.id, user.team_id)
    return recalled(session, key, lambda: team_member_ids(session, user))


def check_may_write(user: User) -> None:
    """Raise AccessDeniedError for a role that only reads."""
    if user.role not in {Role.REP, Role.MANAGER, Role.ADMIN}:
        raise _denied(user, "change records")


def may_promote(user: User) -> bool:
    """Tell whether a user's role may choose which model serves."""
    return user.role in {Role.ANALYST, Role.ADMIN}


def check_may_promote(user: User) -> None:
    """Raise AccessDeniedError for a role that may not choose which model serves."""
    if not may_promote(user):
        raise _denied(user, "promote or roll back models")


def check_may_declare(user: User) -> None:
    """Raise AccessDeniedError for a role that may not declare fields and record types."""
    if user.role != Role.ADMIN:
        raise _denied(user, "declare fields and record types")


def check_may_handle_people(user: User) -> None:
    """Raise AccessDeniedError for a role that may not export or erase all that is held about a person."""
    if user.role != Role.ADMIN:
        raise _denied(user, "export or erase what is held about people")


def check_may_see_keys(user: User) -> None:
    """Raise AccessDeniedError for a role that may not see the API keys of others."""
    if user.role != Role.ADMIN:
        raise _denied(user, "see the API keys of others")


def check_may_operate(user: User) -> None:
    """Raise AccessDeniedError for a role that may not look after jobs, webhooks and mail."""
    if user.role != Role.ADMIN:
        raise _denied(user, "look after jobs and webhooks")


def check_may_see_operations(user: User) -> None:
    """Raise AccessDeniedError for a role that may not see who came in and who read what."""
    if user.role != Role.ADMIN:
        raise _denied(user, "see who came in and who read what")


def check_may_administer(user: User) -> None:
    """Raise AccessDeniedError for a role that may not look after people, teams and rights."""
    if user.role != Role.ADMIN:
        raise _denied(user, "look after people, teams and rights")


def check_may_merge_by_rule(user: User) -> None:
    """Raise AccessDeniedError for a role that may not merge records of everybody at once."""
    if user.role != Role.ADMIN:
        raise _denied(user, "merge records by the rule")


def _denied(user: User, what: str) -> AccessDeniedError:
    return AccessDeniedError(Phrase("the role {role} may not {what}", role=user.role, what=what))


def _nobodys(model: type[Record]) -> ColumnElement[bool]:
    """Return the condition that a record belongs to nobody, by itself or through what it is about."""
    if model.record_type not in _UNASSIGNED:
        return false()
    links = [column for column, _ in OWNERS.get(model.record_type, ())]
    return and_(*(columns_of(model)[column].is_(None) for column in ("owner_id", *links)))


def _about_nothing(model: type[Record]) -> ColumnElement[bool]:
    """Return the condition that a record is about no other: then it is its owner's alone."""
    links = [*(column for column, _ in OWNERS[model.record_type]), "subject_id"]
    return and_(*(columns_of(model)[column].is_(None) for column in links))


def _hidden(reason: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "group": "hidden",
        "log_odds": reason["log_odds"],
        "en": "Something you may not see",
        "zh": "您无权查看的内容",
        "fields": [],
    }
