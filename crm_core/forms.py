"""Web forms: what a website asks strangers, and what they sent.

A form is made by whoever may write campaigns. What it asks are fields of leads and a message; where a lead
comes from and which campaign brought it stand in the form, not in what a stranger sends. Every wording of
its consent is kept with a number, so that one can say later to which words somebody agreed.

What was sent is a submission. One that looks like spam is held with the reasons, for a person to let through
or throw away; of all others the values go onto records (`crm_core.form_taking`) and are kept there only.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader, Scope
from crm_core.columns import Instant, Json, check_text
from crm_core.declared import declarations
from crm_core.errors import AccessDeniedError, InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.fields import CUSTOM, FieldKind
from crm_core.phrases import Phrase
from crm_core.records import Base, Campaign, Id, User
from crm_core.store import Transaction
from crm_core.tokens import works_here

MESSAGE: Final = "message"
"""What somebody writes in their own words: it goes onto the activity, not onto a field."""

PLAIN_FIELDS: Final = (
    *("name", "company", "email", "phone", "title", "industry", "region", "employees"),
    MESSAGE,
)
"""What a form may ask besides declared fields of leads, in the order in which it is offered."""

LONGEST_NAME: Final = 120
LONGEST_TEXT: Final = 2_000
MOST_FORMS: Final = 500
MOST_FIELDS: Final = 20
MOST_ORIGINS: Final = 20

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?", re.ASCII)


class WebForm(Base):
    """A form that anybody on the internet may fill in."""

    __tablename__ = "web_forms"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    public_id: Mapped[str] = mapped_column(String(32), unique=True, comment="part of its address")
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    source: Mapped[str] = mapped_column(String(120), comment="source of the leads it makes")
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaigns.id"))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="of new leads")
    fields: Mapped[list[dict[str, Any]]] = mapped_column(Json, comment="what is asked, and if it must be")
    texts: Mapped[dict[str, dict[str, str]]] = mapped_column(
        Json, comment="title, consent and thanks, each by language"
    )
    wording: Mapped[int] = mapped_column(comment="number of the consent's newest wording; 0: none is asked")
    origins: Mapped[list[str]] = mapped_column(Json, comment="sites that may embed it or send to it")
    active: Mapped[bool] = mapped_column(default=True)
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    set_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime] = mapped_column(Instant)


class FormWording(Base):
    """What a form asked people to agree to, from an instant on; never edited."""

    __tablename__ = "form_wordings"

    form_id: Mapped[int] = mapped_column(ForeignKey("web_forms.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[dict[str, str]] = mapped_column(Json, comment="by language")
    since: Mapped[datetime] = mapped_column(Instant)


class Standing(StrEnum):
    """What became of a submission."""

    TAKEN = "taken"
    HELD = "held"
    DISCARDED = "discarded"


class FormSubmission(Base):
    """What was sent with a form once."""

    __tablename__ = "form_submissions"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    form_id: Mapped[int] = mapped_column(ForeignKey("web_forms.id"))
    key: Mapped[str] = mapped_column(String(64), comment="hash of the sheet that was filled in")
    digest: Mapped[str | None] = mapped_column(String(64), comment="hash of what was filled in")
    address: Mapped[str | None] = mapped_column(String(64), comment="hash of the mail address or number")
    at: Mapped[datetime] = mapped_column(Instant)
    standing: Mapped[str] = mapped_column(String(10))
    why: Mapped[list[str]] = mapped_column(Json, comment="why it was held; empty if it was not")
    given: Mapped[dict[str, Any] | None] = mapped_column(Json, comment="what was filled in, while it is held")
    agreed: Mapped[bool] = mapped_column(comment="whether they agreed to the consent")
    wording: Mapped[int] = mapped_column(comment="to which wording; 0: none was asked")
    language: Mapped[str] = mapped_column(String(5))
    utm: Mapped[dict[str, str] | None] = mapped_column(Json, comment="marks of the address they came by")
    page: Mapped[str | None] = mapped_column(Text, comment="where the form stood")
    lead_id: Mapped[int | None] = mapped_column(ForeignKey("leads.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    activity_id: Mapped[int | None] = mapped_column(ForeignKey("activities.id"), index=True)
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    decided_at: Mapped[datetime | None] = mapped_column(Instant)

    __table_args__ = (
        UniqueConstraint("form_id", "key"),
        Index("ix_form_submissions_form_id_at", "form_id", "at"),
        Index("ix_form_submissions_standing_id", "standing", "id"),
        Index("ix_form_submissions_address_at", "address", "at"),
    )


@dataclass(frozen=True, kw_only=True)
class AskedField:
    """One field of a form."""

    field: str
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Texts:
    """One text of a form in both languages; where one is missing, the other stands for it."""

    en: str = ""
    zh: str = ""

    def say(self, language: str) -> str:
        """Return it in a language."""
        return (self.zh or self.en) if language == "zh" else (self.en or self.zh)

    def to_json(self) -> dict[str, str]:
        """Return what is kept."""
        return {"en": self.en, "zh": self.zh}


@dataclass(frozen=True, kw_only=True)
class WantedForm:
    """A form as somebody wants it."""

    name: str
    source: str
    fields: Sequence[AskedField]
    campaign_id: int | None = None
    owner_id: int | None = None
    title: Texts = field(default_factory=Texts)
    consent: Texts = field(default_factory=Texts)
    thanks: Texts = field(default_factory=Texts)
    origins: Sequence[str] = ()
    active: bool = True


# ---------------------------------------------------------------- who may, and reading


def check_may_look_after_forms(reader: Reader) -> None:
    """Raise AccessDeniedError for a role that may not write every campaign: forms are a part of these."""
    if not may_look_after_forms(reader):
        raise AccessDeniedError(Phrase("the role {role} may not look after web forms", role=reader.user.role))


def may_look_after_forms(reader: Reader) -> bool:
    """Tell whether somebody may make forms, and decide about what was held."""
    return reader.right(Campaign.record_type).write is Scope.ALL


def list_forms(session: Session) -> Sequence[WebForm]:
    """Return all forms, by name."""
    return session.scalars(select(WebForm).order_by(WebForm.name, WebForm.id)).all()


def get_form(session: Session, form_id: int) -> WebForm:
    """Return a form by its id; RecordNotFoundError if there is none."""
    found = session.get(WebForm, form_id)
    if found is None:
        raise RecordNotFoundError("form", form_id)
    return found


def find_public(session: Session, public_id: str) -> WebForm | None:
    """Return the form that has a public address now, or None."""
    query = select(WebForm).where(WebForm.public_id == public_id, WebForm.active.is_(True))
    return session.scalars(query).one_or_none()


def texts_of(form: WebForm, name: str) -> Texts:
    """Return a text of a form: its title, consent or thanks."""
    return Texts(**(form.texts.get(name) or {}))


def asked_of(session: Session, form: WebForm) -> list[AskedField]:
    """Return what a form asks, without declared fields that are not there any more."""
    known = set(askable_fields(session))
    return [AskedField(**each) for each in form.fields if each["field"] in known]


def askable_fields(session: Session) -> list[str]:
    """Return what forms may ask: the plain fields, and declared ones of leads that are text or a choice."""
    declared = declarations(session).fields("lead").items()
    kinds = {FieldKind.TEXT, FieldKind.CHOICE}
    own = [f"{CUSTOM}{name}" for name, each in declared if each.kind in kinds and not each.retired]
    return [*PLAIN_FIELDS, *own]


def count_by_standing(session: Session) -> dict[int, dict[str, int]]:
    """Return by form how many submissions there are in each standing."""
    query = select(FormSubmission.form_id, FormSubmission.standing, func.count())
    found: dict[int, dict[str, int]] = {}
    for form_id, standing, count in session.execute(
        query.group_by(FormSubmission.form_id, FormSubmission.standing)
    ):
        found.setdefault(form_id, {})[standing] = count
    return found


def list_submissions(
    session: Session,
    *,
    standing: Standing | None,
    limit: int,
    form_id: int | None = None,
    before: int | None = None,
) -> Sequence[FormSubmission]:
    """Return submissions, the newest first; with `before`, those older than the one with this id."""
    query = select(FormSubmission)
    if standing is not None:
        query = query.where(FormSubmission.standing == standing)
    if form_id is not None:
        query = query.where(FormSubmission.form_id == form_id)
    if before is not None:
        query = query.where(FormSubmission.id < before)
    return session.scalars(query.order_by(FormSubmission.id.desc()).limit(limit)).all()


# ---------------------------------------------------------------- making and changing


def make_form(transaction: Transaction, user: User, wanted: WantedForm) -> WebForm:
    """Make a form with a new public address.

    Raises
    ------
    AccessDeniedError
        For a role that may not look after forms.
    InvalidValueError
        For what makes no sense, such as a form by which nobody can be reached.
    """
    session = transaction.session
    check_may_look_after_forms(Reader(session, user))
    if (session.scalar(select(func.count(WebForm.id))) or 0) >= MOST_FORMS:
        raise InvalidValueError("form", MOST_FORMS, Phrase("at most {most} forms", most=MOST_FORMS))
    checked = _checked(session, wanted)
    form = WebForm(public_id=secrets.token_urlsafe(16), wording=0, version=0, texts={})
    _write(transaction, user, form, checked)
    return form


def change_form(
    transaction: Transaction, user: User, form_id: int, wanted: WantedForm, *, version: int | None = None
) -> WebForm:
    """Make a form what is wanted; `version` is that of the form which whoever changes it saw.

    Raises as `make_form` does, and RecordNotFoundError and StaleRecordError.
    """
    session = transaction.session
    check_may_look_after_forms(Reader(session, user))
    form = session.get(WebForm, form_id, with_for_update=True, populate_existing=True)
    if form is None:
        raise RecordNotFoundError("form", form_id)
    if version is not None and version != form.version:
        raise StaleRecordError("form", form_id, version, form.version)
    _write(transaction, user, form, _checked(session, wanted))
    return form


def wanted_of(form: WebForm) -> WantedForm:
    """Return a form as it is, to be changed in parts."""
    return WantedForm(
        name=form.name,
        source=form.source,
        fields=tuple(AskedField(**each) for each in form.fields),
        campaign_id=form.campaign_id,
        owner_id=form.owner_id,
        title=texts_of(form, "title"),
        consent=texts_of(form, "consent"),
        thanks=texts_of(form, "thanks"),
        origins=tuple(form.origins),
        active=form.active,
    )


def _write(transaction: Transaction, user: User, form: WebForm, wanted: WantedForm) -> None:
    session = transaction.session
    before = texts_of(form, "consent")
    for name in ("name", "source", "campaign_id", "owner_id", "active"):
        setattr(form, name, getattr(wanted, name))
    form.fields = [{"field": each.field, "required": each.required} for each in wanted.fields]
    form.origins = list(wanted.origins)
    form.texts = {name: getattr(wanted, name).to_json() for name in ("title", "consent", "thanks")}
    form.version, form.set_by_id, form.set_at = form.version + 1, user.id, transaction.now
    session.add(form)
    session.flush()
    if wanted.consent != before:
        _note_wording(session, form, wanted.consent, transaction.now)


def _note_wording(session: Session, form: WebForm, consent: Texts, now: datetime) -> None:
    """Give a new wording of the consent its number; none is asked where it says nothing."""
    if not consent.say("en"):
        form.wording = 0
        return
    newest = session.scalar(select(func.max(FormWording.number)).where(FormWording.form_id == form.id)) or 0
    form.wording = newest + 1
    session.add(FormWording(form_id=form.id, number=form.wording, text=consent.to_json(), since=now))
    session.flush()


def _checked(session: Session, wanted: WantedForm) -> WantedForm:
    return WantedForm(
        name=_text("name", wanted.name, LONGEST_NAME, needed=True),
        source=_text("source", wanted.source, 120, needed=True),
        fields=_checked_fields(session, wanted.fields),
        campaign_id=_checked_campaign(session, wanted.campaign_id),
        owner_id=_checked_owner(session, wanted.owner_id),
        title=_texts("title", wanted.title, 200),
        consent=_texts("consent", wanted.consent, LONGEST_TEXT),
        thanks=_texts("thanks", wanted.thanks, LONGEST_TEXT),
        origins=tuple(dict.fromkeys(read_origin(each) for each in wanted.origins if each.strip())),
        active=wanted.active,
    )


def _checked_fields(session: Session, fields: Sequence[AskedField]) -> tuple[AskedField, ...]:
    known = askable_fields(session)
    names = [each.field for each in fields]
    for name in names:
        if name not in known:
            raise InvalidValueError("fields", name, Phrase("of {choices}", choices=tuple(known)))
    if len(set(names)) != len(names) or len(names) > MOST_FIELDS:
        raise InvalidValueError("fields", names, Phrase("each once, at most {most}", most=MOST_FIELDS))
    if not any(each.required and each.field in {"email", "phone"} for each in fields):
        raise InvalidValueError("fields", names, "email or phone, and one of them required")
    return tuple(fields)


def _checked_campaign(session: Session, campaign_id: int | None) -> int | None:
    if campaign_id is not None:
        found = session.get(Campaign, campaign_id)
        if found is None or found.deleted_at is not None:
            raise InvalidValueError("campaign_id", campaign_id, "a campaign")
    return campaign_id


def _checked_owner(session: Session, owner_id: int | None) -> int | None:
    if owner_id is not None:
        found = session.get(User, owner_id)
        if found is None or not works_here(found):
            raise InvalidValueError("owner_id", owner_id, "somebody who works here")
    return owner_id


def read_origin(text: str) -> str:
    """Return an origin as browsers name it, such as `https://www.example.com`; raise InvalidValueError."""
    plain = check_text("origins", text.strip().lower(), longest=300)
    expected = "an origin such as https://www.example.com"
    try:
        parts = urlsplit(plain)
    except ValueError as error:
        raise InvalidValueError("origins", text, expected) from error
    whole = parts.scheme in {"https", "http"} and _HOST.fullmatch(parts.netloc) and parts.path in {"", "/"}
    if not whole or parts.query or parts.fragment:
        raise InvalidValueError("origins", text, expected)
    usual = {"https": ":443", "http": ":80"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.removesuffix(usual)}"


def _texts(name: str, texts: Texts, longest: int) -> Texts:
    return Texts(en=_text(f"{name}.en", texts.en, longest), zh=_text(f"{name}.zh", texts.zh, longest))


def _text(name: str, value: str, longest: int, *, needed: bool = False) -> str:
    text = check_text(name, value.strip(), longest=longest)
    if needed and not text:
        raise InvalidValueError(name, value, "a text")
    return text
