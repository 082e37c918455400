"""Writing records of every type as somebody: rights, links and values are looked at before any write.

Whoever writes a record may change its type, every field that they name, and the record itself, before and
after; every record that it names is one that they may see. What has a verb (moving a deal, logging an
activity) is written by that verb.

Deleting marks a record as deleted. What points at it keeps doing so, because history needs it: a deal of a
deleted customer stays its owner's deal; what belongs to nobody by itself (an order, a comment) is then seen
only by those who see all records of its type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_write
from crm_core.activities import log_activity
from crm_core.approvals import check_approved, check_value_approved
from crm_core.bulk import stored_form
from crm_core.deals import check_required, move_deal
from crm_core.declared import declarations, read_plain
from crm_core.errors import (
    AccessDeniedError,
    DuplicateExternalIdError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
    UnknownRecordTypeError,
)
from crm_core.external_ids import find_by_external_id, hold_keys, key_of
from crm_core.fields import CUSTOM, FieldKind
from crm_core.offers import read_offer
from crm_core.opting_out import set_scoring_opt_out
from crm_core.phrases import Phrase
from crm_core.pipelines import get_stage, open_stages
from crm_core.quotes import add_line, change_line, edit_quote, remove_line, write_quote
from crm_core.records import (
    RECORD_TYPES,
    Activity,
    Comment,
    Contract,
    CustomRecord,
    Deal,
    Line,
    Owned,
    Quote,
    QuoteStatus,
    Record,
    Role,
    Team,
    Ticket,
    User,
)
from crm_core.store import Transaction
from crm_core.ticket_clocks import change_ticket
from crm_core.tickets import open_ticket
from crm_core.validation import columns_of
from serving.journal import note_unchanged
from serving.owners import choose_owner

_ABOUT = frozenset({"subject_type", "subject_id"})

FIXED: dict[str, frozenset[str]] = {
    "deal": frozenset({"pipeline"}),
    "quote": frozenset({"number", "revision", "sent_at", "decided_at"}),
    "line": frozenset({"quote_id", "order_id"}),
    "comment": _ABOUT,
    "attachment": _ABOUT,
    "tag": _ABOUT,
    "activity": _ABOUT | {"lead_id", "deal_id", "account_id", "contact_id"},
}
"""What is said once, when a record is made, besides when it came to be."""

_MOVED = ("lead", "deal", "account", "contact")
"""What activities are about, by their own links: their number and kind move scores."""

_NAMED = ("name", "company", "email")
"""What a lead needs one of."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A record type as one writes it: its class, and its name, which may be a declared one."""

    model: type[Record]
    name: str
    type_id: int | None = None


def kind_of(session: Session, record_type: str) -> Kind:
    """Return a record type, built in or declared; raise UnknownRecordTypeError for any other."""
    if record_type in RECORD_TYPES and record_type != CustomRecord.record_type:
        return Kind(model=RECORD_TYPES[record_type], name=record_type)
    return declared_kind(session, record_type)


def declared_kind(session: Session, name: str) -> Kind:
    """Return a declared record type; raise UnknownRecordTypeError for any other, built in or not."""
    declared = declarations(session).by_name.get(name)
    if declared is None:
        raise UnknownRecordTypeError(name)
    return Kind(model=CustomRecord, name=name, type_id=declared.type_id)


def get_as(reader: Reader, kind: Kind, record_id: int) -> Record:
    """Return a record of a type, which may be a declared one, that the reader sees.

    Of one of another declared type nothing is said but that this type has none with its id.
    """
    with _named(kind):
        return _of_kind(kind, reader.get(kind.model, record_id))


@contextmanager
def _named(kind: Kind) -> Iterator[None]:
    """Call the record that there is not what the caller calls it, whyever there is none."""
    try:
        yield
    except RecordNotFoundError as error:
        raise RecordNotFoundError(kind.name, error.record_id) from None


def _of_kind(kind: Kind, record: Record) -> Record:
    if isinstance(record, CustomRecord) and record.type_id != kind.type_id:
        raise RecordNotFoundError(kind.name, record.id)
    return record


class Editor:
    """Writes records as one user, in one transaction."""

    def __init__(self, transaction: Transaction, user: User) -> None:
        self.transaction = transaction
        self.user = user
        self.reader = Reader(transaction.session, user)

    def create(self, kind: Kind, values: Mapping[str, Any]) -> Record:
        """Create a record of `values`, custom ones in their plain form; what is None is not given."""
        written = self._write_new(self.prepare(kind, values))
        self._check_theirs(kind, written)
        return written

    def prepare(self, kind: Kind, values: Mapping[str, Any]) -> Record:
        """Return a record of `values` that the user may create, to be written by a verb."""
        given = {name: value for name, value in values.items() if value is not None}
        self._check_may_write(kind)
        self.reader.check_may_create(kind.model, kind.name)
        self._check_fields(kind, given)
        self._check_unique(kind, given, None)
        record = kind.model(**self._filled(kind, given))
        self._check_links(kind, self._links(kind, given))
        if isinstance(record, Activity):
            self._check_evidence(record)
        return record

    def update(
        self,
        kind: Kind,
        record_id: int,
        values: Mapping[str, Any],
        *,
        versions: Collection[int] | None = None,
    ) -> Record:
        """Set fields of a record, None to empty them; with `versions`, only if it is at one of these."""
        record = self.get_to_write(kind, record_id, versions)
        self._check_words(record)
        changed = self._changed(kind, record, values)
        self._check_fields(kind, values)
        self._check_unique(kind, changed, record)
        self._check_links(kind, self._links(kind, changed))
        if "owner_id" in changed:
            self._check_owner(kind, changed["owner_id"])
        if isinstance(record, User):
            self._check_stays_in(record, changed)
        if not changed:
            note_unchanged(record)
        self._set(kind, record, changed)
        return record

    def delete(self, kind: Kind, record_id: int, *, versions: Collection[int] | None = None) -> None:
        """Delete a record; with `versions`, only if it is at one of these."""
        record = self.get_to_write(kind, record_id, versions)
        if record.id == self.user.id and isinstance(record, User):
            raise AccessDeniedError("nobody may delete themselves: somebody else has to")
        self._check_words(record)
        if isinstance(record, Team):
            self._check_empty(record)
        if isinstance(record, Line):
            remove_line(self.transaction, record)
            return
        self.transaction.delete(record)

    def upsert(
        self,
        kind: Kind,
        external_id: str,
        values: Mapping[str, Any],
        *,
        versions: Collection[int] | None = None,
    ) -> tuple[Record, bool]:
        """Create the record with an external id or set its fields; return it, and whether it is new.

        With `versions` it must be there. The id of a record that is deleted, or that the user may not see, is
        taken.
        """
        given = {**values, "external_id": self._one_id(kind, external_id, values)}
        session = self.transaction.session
        hold_keys(session, [key_of(kind.name, external_id)])
        found = find_by_external_id(session, kind.model, external_id, type_id=kind.type_id)
        if found is None:
            if versions is not None:
                raise RecordNotFoundError(kind.name, external_id)
            return self.create(kind, given), True
        self._check_not_taken(kind, found, external_id)
        return self.update(kind, found.id, self._without_birth(kind, found, given), versions=versions), False

    def get_to_write(self, kind: Kind, record_id: int, versions: Collection[int] | None = None) -> Record:
        """Return a record, locked, that the user may change; only at one of `versions`, if given."""
        self._check_may_write(kind)
        with _named(kind):
            record = self.transaction.get(kind.model, record_id)
            _of_kind(kind, record)
            self.reader.get_to_write(kind.model, record_id)
        if versions is not None and record.version not in versions:
            raise StaleRecordError(kind.name, record_id, max(versions, default=0), record.version)
        return record

    # ------------------------------------------------------------------------------------------- rights

    def _check_may_write(self, kind: Kind) -> None:
        check_may_write(self.user)
        if issubclass(kind.model, User | Team) and self.user.role != Role.ADMIN:
            # Whoever could write these could give themselves any right.
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not change a {record_type}",
                    role=self.user.role,
                    record_type=kind.name,
                )
            )

    def _check_fields(self, kind: Kind, values: Mapping[str, Any]) -> None:
        self.reader.check_fields(kind.name, values.keys())
        self.reader.check_fields(kind.name, (f"{CUSTOM}{name}" for name in values.get("custom") or {}))

    def _check_theirs(self, kind: Kind, record: Record) -> None:
        """Refuse a new record that its maker could not change: it would be nobody's, or somebody else's."""
        try:
            self.reader.get_to_write(kind.model, record.id, only=("id",))
        except (RecordNotFoundError, AccessDeniedError):
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not create a {record_type} that belongs to nobody of theirs",
                    role=self.user.role,
                    record_type=kind.name,
                )
            ) from None

    def _check_words(self, record: Record) -> None:
        """Refuse a rep to change what somebody else said: it would stand there as the other one's words."""
        is_anothers = isinstance(record, Comment) and record.owner_id not in {None, self.user.id}
        if is_anothers and self.user.role == Role.REP:
            raise AccessDeniedError(
                Phrase("the role {role} may not change what somebody else said", role=self.user.role)
            )

    def _check_stays_in(self, record: User, changed: Mapping[str, Any]) -> None:
        """Keep administrators from shutting themselves out: there is always one left."""
        if record.id == self.user.id and {"role", "active", "left_at"} & changed.keys():
            raise AccessDeniedError("nobody may change their own role or leave: somebody else has to do that")

    def _check_empty(self, team: Team) -> None:
        for model, column in ((User, User.team_id), (Team, Team.parent_id)):
            within = select(func.count()).where(column == team.id, model.deleted_at.is_(None))
            if count := self.transaction.session.scalar(within):
                what = f"{count} {'people' if model is User else 'teams'}"
                raise InvalidValueError("team", what, "a team that nobody and no team belongs to any more")

    def _check_owner(self, kind: Kind, owner_id: int | None) -> int | None:
        if owner_id is None and self.user.role == Role.REP:
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not take the owner off a {record_type}",
                    role=self.user.role,
                    record_type=kind.name,
                )
            )
        try:
            return owner_id and choose_owner(self.transaction.session, self.user, owner_id)
        except RecordNotFoundError:
            raise InvalidValueError(f"{kind.name}.owner_id", owner_id, "the id of an active user") from None

    # ------------------------------------------------------------------------------------------- values

    def _filled(self, kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a new record with what goes without saying."""
        session = self.transaction.session
        filled = {name: value for name, value in given.items() if name not in {"custom", "owner_id"}}
        if given.get("custom"):
            filled["custom"] = read_plain(session, kind.name, given["custom"])
        if issubclass(kind.model, Owned):
            filled["owner_id"] = self._owner_of_new(kind, given.get("owner_id"))
        if kind.type_id is not None:
            filled["type_id"] = kind.type_id
        if kind.name == "deal":
            pipeline = filled.setdefault("pipeline", "default")
            filled.setdefault("stage", open_stages(pipeline)[0].key)
            if get_stage(pipeline, filled["stage"]).won:
                raise InvalidValueError(
                    "deal.stage", filled["stage"], "an open stage; closing takes an outcome"
                )
        if kind.name == "lead" and not any(filled.get(name) for name in _NAMED):
            raise InvalidValueError("lead", None, "a name, a company or an email")
        return filled

    def _owner_of_new(self, kind: Kind, owner_id: int | None) -> int | None:
        if owner_id is None and issubclass(kind.model, Activity | Comment):
            return self.user.id  # whoever did or said it
        if issubclass(kind.model, Comment) and owner_id != self.user.id and self.user.role != Role.ADMIN:
            raise AccessDeniedError(
                Phrase("the role {role} may not say anything in somebody else's name", role=self.user.role)
            )
        if owner_id is None:
            return choose_owner(self.transaction.session, self.user, None)
        return self._check_owner(kind, owner_id)

    def _write_new(self, record: Record) -> Record:
        if isinstance(record, Activity):
            return log_activity(self.transaction, record)
        if isinstance(record, Ticket):
            return open_ticket(self.transaction, record)
        if isinstance(record, Quote):
            return self._write_quote(record)
        if isinstance(record, Line):
            return add_line(self.transaction, record)
        written = self.transaction.create(record)
        if isinstance(written, Deal):
            check_required(self.transaction.session, written, written.stage)
        if isinstance(written, Contract):
            self._check_value(written, written.quote_id)
        return written

    def _write_quote(self, quote: Quote) -> Quote:
        """Write a quote; one that was sent elsewhere gives no more away than its writer may."""
        written = write_quote(self.transaction, quote)
        session = self.transaction.session
        if written.status != QuoteStatus.DRAFT:
            check_approved(session, written, self.user, read_offer(session, written))
        return written

    def _check_value(self, contract: Contract, quote_id: int | None) -> None:
        """Refuse a contract for less than its quote, however it is written, where nobody approved that."""
        session = self.transaction.session
        quote = session.get(Quote, quote_id) if quote_id is not None else None
        if quote is not None and contract.value is not None:
            check_value_approved(session, quote, self.user, contract.value)

    def _changed(self, kind: Kind, record: Record, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what really changes, custom values in the form that the store takes, as `custom.NAME`."""
        named = {name: value for name, value in values.items() if name != "custom"}
        if "custom" in values:
            named |= self._custom(kind, record, values["custom"])
        model = type(record)
        return {
            name: value
            for name, value in named.items()
            if name.startswith(CUSTOM)
            or stored_form(model, name, value) != stored_form(model, name, getattr(record, name))
        }

    def _custom(self, kind: Kind, record: Record, values: Mapping[str, Any] | None) -> dict[str, Any]:
        if values is None:  # none of them is to stay
            values = {name: None for name, value in (record.custom or {}).items() if value is not None}
            self.reader.check_fields(kind.name, (f"{CUSTOM}{name}" for name in values))
        read = read_plain(self.transaction.session, kind.name, values) or {}
        return {f"{CUSTOM}{name}": value for name, value in read.items()}

    def _set(self, kind: Kind, record: Record, changed: dict[str, Any]) -> None:
        if isinstance(record, Deal) and "stage" in changed:
            # What the stage requires may come with the move.
            rest = {name: value for name, value in changed.items() if name != "stage"}
            self.transaction.update(record, rest)
            move_deal(self.transaction, record, changed["stage"])
            return
        if isinstance(record, Ticket):
            change_ticket(self.transaction, record, changed)
            return
        if isinstance(record, Quote):
            edit_quote(self.transaction, record, changed, self.user)
            return
        if isinstance(record, Line):
            change_line(self.transaction, record, changed)
            return
        if changed.pop("scoring_opt_out", None) is not None:
            set_scoring_opt_out(self.transaction, record, opted_out=not record.scoring_opt_out)  # type: ignore[arg-type,attr-defined]  # only who has it
        of_quote = record.quote_id if isinstance(record, Contract) else None
        self.transaction.update(record, changed)
        if isinstance(record, Contract) and {"value", "quote_id"} & changed.keys():
            for quote_id in {of_quote, record.quote_id}:
                self._check_value(record, quote_id)

    # ------------------------------------------------------------------------------------------- keys

    def _one_id(self, kind: Kind, external_id: str, values: Mapping[str, Any]) -> str:
        said = values.get("external_id") or external_id
        if said != external_id:
            raise InvalidValueError(
                f"{kind.name}.external_id",
                said,
                Phrase("that of the address, {external_id!r}", external_id=external_id),
            )
        return external_id

    def _check_not_taken(self, kind: Kind, found: Record, external_id: str) -> None:
        seen = select(kind.model.id).where(
            kind.model.id == found.id, kind.model.deleted_at.is_(None), self.reader.readable(kind.model)
        )
        if self.transaction.session.scalar(seen) is None:
            raise DuplicateExternalIdError(kind.name, external_id)

    def _without_birth(self, kind: Kind, found: Record, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values without those that are said once; refuse another value for one of them."""
        rest = dict(values)
        for name in ("occurred_at", *FIXED.get(kind.name, ())):
            said = rest.pop(name, None)
            if said is not None and said != getattr(found, name):
                raise InvalidValueError(
                    f"{kind.name}.{name}",
                    str(said),
                    Phrase("{found}, as when it was made", found=getattr(found, name)),
                )
        return rest

    def _check_unique(self, kind: Kind, values: Mapping[str, Any], record: Record | None) -> None:
        """Refuse a value that another record has where no two may have it; hold it until the end."""
        external_id = values.get("external_id")
        session, model = self.transaction.session, kind.model
        if external_id is not None:
            hold_keys(session, [key_of(kind.name, external_id)])
            found = find_by_external_id(session, model, external_id, type_id=kind.type_id)
            if found is not None and found is not record:
                raise DuplicateExternalIdError(kind.name, external_id)
        if issubclass(model, User) and values.get("email") is not None:
            mail = str(values["email"]).lower()  # by which people log in, whatever its case
            hold_keys(session, [f"user.email:{mail}"])
            taken = select(User.id).where(
                func.lower(User.email) == mail, User.id != (record.id if record else 0)
            )
            if session.scalar(taken) is not None:
                raise InvalidValueError("user.email", values["email"], "an address that no other user has")

    # ------------------------------------------------------------------------------------------- links

    def _links(self, kind: Kind, values: Mapping[str, Any]) -> Iterator[tuple[str, str, Collection[int]]]:
        """Yield field, record type and ids of every record that values name."""
        columns = columns_of(kind.model)
        for name, value in values.items():
            if value is None or name == "owner_id" or name not in columns:
                continue
            for key in columns[name].foreign_keys:
                yield name, _TYPE_OF_TABLE[key.column.table.name], [value]
        if values.get("subject_type") is not None and values.get("subject_id") is not None:
            yield "subject_id", values["subject_type"], [values["subject_id"]]
        if values.get("mentions"):
            yield "mentions", "user", values["mentions"]
        yield from self._references(kind, values)

    def _references(
        self, kind: Kind, values: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, Collection[int]]]:
        custom = {name.removeprefix(CUSTOM): each for name, each in values.items() if name.startswith(CUSTOM)}
        custom |= values.get("custom") or {}
        fields = declarations(self.transaction.session).fields(kind.name)
        for name, value in custom.items():
            field = fields.get(name)
            is_link = field is not None and field.kind is FieldKind.REFERENCE
            if is_link and field is not None and type(value) is int and value > 0:
                yield f"{CUSTOM}{name}", field.target or "", [value]

    def _check_links(self, kind: Kind, links: Iterator[tuple[str, str, Collection[int]]]) -> None:
        for field, target, ids in links:
            model = RECORD_TYPES.get(target, CustomRecord)
            seen = self.reader.select(model).with_only_columns(model.id).where(model.id.in_(ids))
            missing = set(ids) - set(self.transaction.session.scalars(seen))
            if missing:
                expected = Phrase("the id of a {target} that you may see", target=target)
                raise InvalidValueError(f"{kind.name}.{field}", min(missing), expected)

    def _check_evidence(self, activity: Activity) -> None:
        """Refuse an activity about somebody's record that one may only see: its scores would move by it.

        What a record that one may change is about (the customer of one's deal) goes along with it.
        """
        keys = [(name, getattr(activity, f"{name}_id")) for name in _MOVED]
        keys.append((activity.subject_type or "", activity.subject_id))
        session, reader = self.transaction.session, self.reader
        named = [session.get_one(RECORD_TYPES[name], each) for name, each in keys if each is not None]
        theirs = [each for each in named if reader.may_change(each)]
        beside = {(name, getattr(each, f"{name}_id", None)) for each in theirs for name in _MOVED}
        for each in named:
            key = (each.record_type, each.id)
            if each.record_type in _MOVED and each not in theirs and key not in beside:
                raise AccessDeniedError(
                    Phrase(
                        "the role {role} may not change {record_type} {record_id}",
                        role=self.user.role,
                        record_type=key[0],
                        record_id=key[1],
                    )
                )


_TYPE_OF_TABLE = {model.__tablename__: name for name, model in RECORD_TYPES.items()}
