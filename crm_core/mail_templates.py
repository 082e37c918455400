"""Templates of mails: a subject and a body with places for values, filled in with the sender's rights.

A place is `{{ lead.name }}` or `{{ lead.first_name | default("there") }}`: a record, one of its fields,
and what stands there where the field is empty. That is the whole language. There are no loops, no calls
and no way from one object to another: a place is looked up by its two words in what the sender's `Reader`
shows of that record, so a template can say no more than its sender may see.

- The record is the one that the mail is about, or one that it links to (`lead`, `contact`, `deal`,
  `account`, `ticket`, `quote`, `order`, `contract`, `payment`), its `owner`, or the `sender`.
- `first_name` is made of `name`; custom fields are `lead.custom.NAME`.
- `{{ link }}` is an address that the program gives when it writes the mail.
- What is no known place is refused when a template is saved. A field that the sender may not see, and an
  empty one without a default, are refused when it is filled in: nobody gets "Dear ,".
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ForeignKey, Index, String, Text, and_, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import CREDENTIALS, Reader, check_may_write
from crm_core.columns import Instant, Json, PackedJson, check_text
from crm_core.declared import declarations
from crm_core.errors import (
    AccessDeniedError,
    EmptyPlaceError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
    TemplateError,
)
from crm_core.grams import is_ideograph
from crm_core.phrases import Phrase, one_of
from crm_core.records import RECORD_TYPES, SCORE_COLUMNS, Base, Id, Record, Role, User
from crm_core.saved import Shared
from crm_core.store import Transaction
from crm_core.validation import columns_of

LANGUAGES: Final = ("en", "zh")
LONGEST_NAME: Final = 120
LONGEST_SUBJECT: Final = 300
LONGEST_BODY: Final = 50_000

ROOTS: Final = ("lead", "contact", "deal", "account", "ticket", "quote", "order", "contract", "payment")
"""The record types of which a template may say something."""

PEOPLE: Final = ("owner", "sender")
"""The colleagues of whom it may."""

GIVEN: Final = ("link",)
"""What the program itself gives."""

FIRST_NAME: Final = "first_name"

_NOT_OFFERED: Final = frozenset(
    {"id", "version", "deleted_at", "recorded_at", "external_id", "merged_into_id", "erased_at"}
)

# A place holds no other one: a text of nothing but openings is read once, not once for each of them.
_PLACE = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)
_INSIDE = re.compile(
    r"""\s*([a-z_]+(?:\.[a-z_][a-z0-9_]*){0,2})\s*(?:\|\s*default\(\s*(?:"([^"{}]*)"|'([^'{}]*)')\s*\)\s*)?""",
    re.DOTALL,
)
_OTHER_MARKS = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}")
_LINK = re.compile(r"https?://[^\s<>\"']+")
_AFTER_LINK: Final = ".,;:!?)，。；：！？）"  # noqa: RUF001  Chinese sentences end so, too
_TITLES: Final = frozenset({"mr", "mrs", "ms", "dr", "prof", "mr.", "mrs.", "ms.", "dr.", "prof."})


class MailTemplate(Base):
    """A subject and a body with places for values."""

    __tablename__ = "mail_templates"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="whose it is")
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    subject: Mapped[str] = mapped_column(String(LONGEST_SUBJECT))
    body: Mapped[str] = mapped_column(Text)
    language: Mapped[str] = mapped_column(String(8), comment="en or zh: how numbers and days are written")
    shared: Mapped[str] = mapped_column(String(10), comment="own, team or all")
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    saved_at: Mapped[datetime] = mapped_column(Instant)
    retired_at: Mapped[datetime | None] = mapped_column(
        Instant, comment="since when it is not offered any more"
    )

    __table_args__ = (Index("ix_mail_templates_user_id", "user_id"),)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a template says, saved or not."""

    name: str = ""
    subject: str
    body: str
    language: str = "en"
    shared: Shared = Shared.OWN


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A mail as it is sent: `html` says the same as `text`."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place in a template: `root` is a record type, owner, sender or what the program gives."""

    root: str
    field: str
    default: str | None

    @property
    def name(self) -> str:
        """How it is written."""
        return f"{self.root}.{self.field}" if self.field else self.root


# ------------------------------------------------------------------------------------------------- reading


def places_in(text: str) -> list[Place]:
    """Return the places in a text; raise TemplateError for what looks like one and is none."""
    left = _PLACE.sub("", text)
    if found := _OTHER_MARKS.search(left):
        raise TemplateError(found[0], "a place such as {{ lead.name }}, opened and closed")
    return [_place(match[1]) for match in _PLACE.finditer(text)]


def _place(inside: str) -> Place:
    found = _INSIDE.fullmatch(inside)
    if found is None:
        raise TemplateError(inside.strip(), 'a record and its field, and at most | default("...")')
    root, _, field = found[1].partition(".")
    default = found[2] if found[2] is not None else found[3]
    return Place(root=root, field=field, default=default)


def check_draft(session: Session, draft: Draft) -> list[Place]:
    """Return the places of a template; raise TemplateError or InvalidValueError if it cannot be sent."""
    check_text("subject", draft.subject, longest=LONGEST_SUBJECT)
    check_text("body", draft.body, longest=LONGEST_BODY)
    if not draft.subject.strip() or not draft.subject.isprintable():
        raise InvalidValueError("subject", draft.subject, "one line of printable characters")
    if not draft.body.strip():
        raise InvalidValueError("body", draft.body, "a text")
    if draft.language not in LANGUAGES:
        raise InvalidValueError("language", draft.language, one_of(LANGUAGES))
    places = [*places_in(draft.subject), *places_in(draft.body)]
    for place in places:
        _check_known(session, place)
    return places


def _check_known(session: Session, place: Place) -> None:
    if place.root in GIVEN and not place.field:
        return
    if place.root not in (*ROOTS, *PEOPLE):
        expected = Phrase(
            "one of {roots}, a dot and a field, or {given}",
            roots=(*ROOTS, *PEOPLE),
            given=tuple(GIVEN),
        )
        raise TemplateError(place.name, expected)
    if place.field not in fields_of(session, place.root):
        raise TemplateError(place.name, Phrase("a field of {root}", root=place.root))


def fields_of(session: Session, root: str) -> list[str]:
    """Return the fields that a template may name after a root."""
    if root in PEOPLE:
        return ["name", FIRST_NAME, "email"]
    never = CREDENTIALS | SCORE_COLUMNS  # what a model said of a customer is not for the customer
    plain = [
        name
        for name, column in columns_of(RECORD_TYPES[root]).items()
        if not isinstance(column.type, Json | PackedJson) and name not in never
    ]
    first = [FIRST_NAME] if root in ("lead", "contact") else []
    return [*plain, *first, *(f"custom.{name}" for name in declarations(session).fields(root))]


def offered_fields(session: Session, root: str) -> list[str]:
    """Return the fields that whoever writes a template is offered after a root: not those of the program."""
    return [name for name in fields_of(session, root) if name not in _NOT_OFFERED]


def fits(template: MailTemplate | Draft, record_type: str) -> bool:
    """Tell whether all places of a template can be reached from a record of a type."""
    reached = {record_type, *_linked_types(record_type), *PEOPLE, *GIVEN}
    places = [*places_in(template.subject), *places_in(template.body)]
    return all(place.root in reached for place in places)


def _linked_types(record_type: str) -> Iterator[str]:
    model = RECORD_TYPES.get(record_type)
    for root in ROOTS if model is not None else ():
        if model is not None and f"{root}_id" in columns_of(model):
            yield root


# ----------------------------------------------------------------------------------------------- filling in


def render(
    session: Session,
    reader: Reader,
    template: MailTemplate | Draft,
    about: tuple[str, int],
    *,
    given: Mapping[str, str] | None = None,
    seen: Iterable[Record] = (),
) -> Rendered:
    """Return a template filled in for the record that a mail is about, by the rights of whoever sends it.

    `seen` are records that the very same reader has given already: they are not read again.

    Raises
    ------
    TemplateError
        For a place that is not known, or that this record does not lead to.
    AccessDeniedError
        For a field or record that the sender may not see.
    EmptyPlaceError
        For a field that is empty, where the template gives no default.
    """
    check_draft(session, _as_draft(template))
    values = _Values(session, reader, about, template.language, given or {}, (*seen, reader.user))
    line = "".join(each if each.isprintable() else " " for each in _filled(template.subject, values))
    subject = " ".join(line.split())[:LONGEST_SUBJECT]
    text = _filled(template.body, values)
    return Rendered(subject=subject, text=text, html=as_html(text))


def _as_draft(template: MailTemplate | Draft) -> Draft:
    if isinstance(template, Draft):
        return template
    return Draft(subject=template.subject, body=template.body, language=template.language)


def _filled(text: str, values: _Values) -> str:
    # What is filled in is never looked at again: a customer called "{{ deal.amount }}" stays just that.
    return _PLACE.sub(lambda match: values.value(_place(match[1])), text)


class _Values:
    """What stands at the places of one mail."""

    def __init__(
        self,
        session: Session,
        reader: Reader,
        about: tuple[str, int],
        language: str,
        given: Mapping[str, str],
        seen: Iterable[Record],
    ) -> None:
        self._session = session
        self._reader = reader
        self._language = language
        self._given = given
        self._about = about
        self._records: dict[str, Record | None] = {}
        self._seen = {(type(each), each.id): each for each in seen}

    def value(self, place: Place) -> str:
        """Return what stands at a place."""
        if place.root in GIVEN:
            found: object = self._given.get(place.root)
        else:
            found = self._field(place)
        if found is None or found == "":
            if place.default is None:
                raise EmptyPlaceError(place.name)
            return place.default
        return _written(found, self._language)

    def _field(self, place: Place) -> object:
        record_type = "user" if place.root in PEOPLE else place.root
        source = "name" if place.field == FIRST_NAME else place.field
        if not self._reader.may_read_field(record_type, source):
            raise AccessDeniedError(
                Phrase(
                    "the template says {name}, which the role {role} may not see",
                    name=place.name,
                    role=self._reader.user.role,
                )
            )
        record = self._record(place.root)
        if record is None:
            return None
        shown = self._reader.shown(record)
        if source.startswith("custom."):
            return (shown.get("custom") or {}).get(source.removeprefix("custom."))
        said = shown.get(source)
        return first_name(str(said)) if said and place.field == FIRST_NAME else said

    def _record(self, root: str) -> Record | None:
        if root not in self._records:
            self._records[root] = self._find(root)
        return self._records[root]

    def _find(self, root: str) -> Record | None:
        if root == "sender":
            return self._reader.user
        record_type, record_id = self._about
        if record_type not in RECORD_TYPES:
            raise TemplateError(root, Phrase("a template about one of {roots}", roots=tuple(ROOTS)))
        main = self._get(RECORD_TYPES[record_type], record_id)
        if root == record_type:
            return main
        if root == "owner":
            return self._linked(User, getattr(main, "owner_id", None), root)
        if root not in _linked_types(record_type):
            raise TemplateError(
                root,
                Phrase(
                    "what a {record_type} leads to: {roots}",
                    record_type=record_type,
                    roots=self._reached(record_type),
                ),
            )
        return self._linked(RECORD_TYPES[root], getattr(main, f"{root}_id"), root)

    def _get(self, model: type[Record], record_id: int) -> Record:
        found = self._seen.get((model, record_id))
        return self._reader.get(model, record_id) if found is None else found

    def _linked(self, model: type[Record], record_id: int | None, root: str) -> Record | None:
        if record_id is None:
            return None
        try:
            return self._get(model, record_id)
        except RecordNotFoundError:
            raise AccessDeniedError(
                Phrase("the template speaks of the {root}, which the sender may not see", root=root)
            ) from None

    def _reached(self, record_type: str) -> tuple[str, ...]:
        return (record_type, *_linked_types(record_type), *PEOPLE)


def first_name(name: str) -> str:
    """Return the name by which a letter greets somebody; a Chinese name is never parted."""
    words = [word for word in name.split() if word.casefold() not in _TITLES]
    if not words or is_ideograph(words[0][0]):
        return name.strip()
    if "," in name:  # "Weber, Ana"
        return name.partition(",")[2].split()[0] if name.partition(",")[2].split() else words[0].rstrip(",")
    return words[0]


def _written(value: object, language: str) -> str:
    """Return a value as people of a language write it."""
    from babel.dates import format_date, format_datetime
    from babel.numbers import format_decimal

    match value:
        case bool():
            words = {"en": ("no", "yes"), "zh": ("否", "是")}
            return words[language][value]
        case datetime():
            return str(format_datetime(value, "medium", locale=language))
        case date():
            return str(format_date(value, "long", locale=language))
        case int() | float() | Decimal():
            return str(format_decimal(value, locale=language))
    return str(value)


def as_html(text: str) -> str:
    """Return a text as a page: paragraphs, lines and links, and nothing that the text itself could add."""
    parts = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").strip("\n"))
    return "\n".join(f"<p>{_lines(part)}</p>" for part in parts)


def _lines(part: str) -> str:
    return "<br>\n".join(_linked_line(line) for line in part.split("\n"))


def _linked_line(line: str) -> str:
    pieces, at = [], 0
    for match in _LINK.finditer(line):
        address = match[0].rstrip(_AFTER_LINK)
        shown = html.escape(address)
        pieces += [html.escape(line[at : match.start()]), f'<a href="{shown}">{shown}</a>']
        at = match.start() + len(address)
    return "".join([*pieces, html.escape(line[at:])])


# -------------------------------------------------------------------------------------------------- keeping


def list_templates(session: Session, user: User) -> Sequence[MailTemplate]:
    """Return the templates that somebody may use, by name."""
    query = select(MailTemplate).where(_usable(user), MailTemplate.retired_at.is_(None))
    return session.scalars(query.order_by(MailTemplate.name, MailTemplate.id)).all()


def get_template(session: Session, user: User, template_id: int) -> MailTemplate:
    """Return a template that somebody may use; for all others there is none."""
    query = select(MailTemplate).where(MailTemplate.id == template_id, _usable(user))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise RecordNotFoundError("mail template", template_id)
    return found


def save_template(
    transaction: Transaction,
    user: User,
    draft: Draft,
    *,
    template_id: int | None = None,
    version: int | None = None,
) -> MailTemplate:
    """Save a template anew, or change one; `version` is that of what was seen.

    Raises TemplateError or InvalidValueError for one that cannot be sent, AccessDeniedError for who may not,
    StaleRecordError where somebody has changed it since.
    """
    check_may_write(user)
    check_text("name", draft.name, longest=LONGEST_NAME)
    if not draft.name.strip():
        raise InvalidValueError("name", draft.name, "a name")
    check_draft(transaction.session, draft)
    if template_id is None:
        saved = MailTemplate(user_id=user.id, version=0)
        transaction.session.add(saved)
    else:
        saved = _to_change(transaction.session, user, template_id, version)
    saved.name, saved.subject, saved.body = draft.name.strip(), draft.subject, draft.body
    saved.language, saved.shared = draft.language, draft.shared
    saved.version, saved.saved_at = saved.version + 1, transaction.now
    transaction.session.flush()
    return saved


def retire_template(
    transaction: Transaction, user: User, template_id: int, *, version: int | None = None
) -> None:
    """Offer a template no more; mails that were written with it keep what they say."""
    saved = _to_change(transaction.session, user, template_id, version)
    saved.retired_at = saved.retired_at or transaction.now
    transaction.session.flush()


def may_change(template: MailTemplate, user: User) -> bool:
    """Tell whether somebody may change a template: whoever made it, and administrators."""
    return template.user_id == user.id or user.role == Role.ADMIN


def _to_change(session: Session, user: User, template_id: int, version: int | None) -> MailTemplate:
    saved = get_template(session, user, template_id)
    if not may_change(saved, user):
        raise AccessDeniedError("only whoever made a template, and administrators, may change it")
    session.refresh(saved, with_for_update=True)  # of two at once the second is told
    if version is not None and version != saved.version:
        raise StaleRecordError("mail template", template_id, version, saved.version)
    return saved


def _usable(user: User) -> Any:  # noqa: ANN401  a condition
    ways = [MailTemplate.user_id == user.id, MailTemplate.shared == Shared.ALL]
    if user.team_id is not None:
        mates = select(User.id).where(User.team_id == user.team_id)
        ways.append(and_(MailTemplate.shared == Shared.TEAM, MailTemplate.user_id.in_(mates)))
    if user.role == Role.ADMIN:
        ways.append(MailTemplate.shared.is_not(None))
    return or_(*ways)
