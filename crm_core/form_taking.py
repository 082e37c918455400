"""Taking in what somebody sent with a web form: onto the lead or contact it is about, or as a new lead.

Whoever sends a form has proven nothing, so what they say fills gaps and overwrites nothing; what differs
stands in the activity, for a person to read. A contact gets an activity, and never an address or number:
offers would go to whoever knew the customer's name and one of the two. An open lead is filled up. One that
was disqualified is opened again, which the log says and its owner is told. One that was converted stays as it
is: its contact gets the activity. Who withdrew consent has not given it again by a form that anybody could
have sent in their name.

The same sheet sent twice, or the same words sent again within ten minutes, is one submission.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.activities import log_activity
from crm_core.addresses import mail_key, phone_key
from crm_core.columns import check_text
from crm_core.declared import declarations
from crm_core.duplicates import find_duplicates
from crm_core.errors import InvalidValueError, RecordNotFoundError, UnsafeTextError
from crm_core.external_ids import hold_keys
from crm_core.fields import CUSTOM
from crm_core.form_spam import suspicions
from crm_core.forms import (
    MESSAGE,
    AskedField,
    FormSubmission,
    Standing,
    WebForm,
    asked_of,
    check_may_look_after_forms,
    get_form,
)
from crm_core.leads import reopen_lead
from crm_core.notifications import notify
from crm_core.records import (
    Activity,
    ActivityKind,
    Campaign,
    CampaignMember,
    Consent,
    Contact,
    Direction,
    Lead,
    LeadStatus,
    User,
)
from crm_core.store import Transaction
from crm_core.tokens import works_here
from crm_core.validation import columns_of

RESPONSE: Final = "form"
"""The response of a campaign member who sent a form."""

SAME: Final = 0.9
"""From which likelihood on, without a mail address in common, two are taken for the same person."""

UTM: Final = ("source", "medium", "campaign", "term", "content")
LONGEST_UTM: Final = 120
LONGEST_PAGE: Final = 500
LONGEST_MESSAGE: Final = 5_000
_AGAIN: Final = timedelta(minutes=10)
_DAY: Final = timedelta(days=1)
_MAIL = re.compile(r"[^@\s\x00-\x20]+@[^@\s\x00-\x20]+\.[^@\s\x00-\x20]+")
_LEAST_DIGITS: Final = 5
_REACHED_BY: Final = frozenset({"email", "phone"})
_MOST_EMPLOYEES: Final = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What was sent, once it has been checked."""

    key: str
    """What tells one sheet from all others."""
    values: Mapping[str, Any]
    seconds: float
    """From the sheet being handed out to its being sent."""
    trapped: bool = False
    agreed: bool = False
    language: str = "en"
    utm: Mapping[str, str] = field(default_factory=dict)
    page: str | None = None


# ---------------------------------------------------------------- checking what was typed


def check_values(
    session: Session, form: WebForm, raw: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of what a form asks, without empty ones, and by field what is wrong with others.

    What is wrong is one of `missing`, `too_long`, `unreadable`, `no_mail`, `no_phone`, `no_number` and
    `no_choice`.
    """
    values, wrong = {}, {}
    for asked in asked_of(session, form):
        text = raw.get(asked.field, "").strip()
        problem = _problem(session, asked, text)
        if problem:
            wrong[asked.field] = problem
        elif text:
            values[asked.field] = int(text) if asked.field == "employees" else text
    return values, wrong


def _problem(session: Session, asked: AskedField, text: str) -> str | None:
    """Return the word for what is wrong with what was typed, None for nothing."""
    if not text:
        return "missing" if asked.required else None
    try:
        check_text(asked.field, text, longest=_longest(asked.field))
    except UnsafeTextError:
        return "unreadable"
    except InvalidValueError:
        return "too_long"
    if asked.field.startswith(CUSTOM):
        declared = declarations(session).fields("lead")[asked.field.removeprefix(CUSTOM)]
        return "no_choice" if declared.choices and text not in declared.choices else None
    word, fits = _SHAPES.get(asked.field, ("", _is_anything))
    return None if fits(text) else word


def _is_anything(_text: str) -> bool:
    return True


def _is_mail(text: str) -> bool:
    return _MAIL.fullmatch(text) is not None and mail_key(text) is not None


def _is_phone(text: str) -> bool:
    return len(re.sub(r"\D", "", text)) >= _LEAST_DIGITS


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= _MOST_EMPLOYEES


_SHAPES: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    "email": ("no_mail", _is_mail),
    "phone": ("no_phone", _is_phone),
    "employees": ("no_number", _is_count),
}
"""By field, what fits it, and the word for what does not."""


def _longest(name: str) -> int:
    if name == MESSAGE:
        return LONGEST_MESSAGE
    if name == "employees":
        return 9
    if name.startswith(CUSTOM):
        return 300
    return int(getattr(columns_of(Lead)[name].type, "length", None) or 300)


def read_utm(raw: Mapping[str, str]) -> dict[str, str]:
    """Return how an address was marked, from `utm_source` and so on; what nobody could keep is left out."""
    found = {}
    for name in UTM:
        text = raw.get(f"utm_{name}", "").strip()[:LONGEST_UTM]
        try:
            check_text(name, text)
        except UnsafeTextError:
            continue
        if text:
            found[name] = text
    return found


def read_page(text: str | None) -> str | None:
    """Return where a form stood: an address without what follows a `?` or `#`, which may say who came."""
    plain = re.split(r"[?#]", text or "", maxsplit=1)[0].strip()[:LONGEST_PAGE]
    try:
        return check_text("page", plain) if plain.startswith(("https://", "http://")) else None
    except UnsafeTextError:
        return None


# ---------------------------------------------------------------- taking in, holding, deciding


def take_submission(transaction: Transaction, form: WebForm, sent: Sent) -> FormSubmission:
    """Take in what was sent, or hold it; what was sent before is returned as it was dealt with then."""
    session = transaction.session
    key, digest, address = _hash(sent.key), _digest(form, sent), _address(sent.values)
    hold_keys(session, [f"form:{key}", *([f"form:{address}"] if address else [])])
    earlier = _earlier(session, form, key, digest, transaction.now)
    if earlier is not None:
        return earlier
    why = suspicions(
        sent.values,
        trapped=sent.trapped,
        seconds=sent.seconds,
        sent_today=_sent_today(session, address, transaction.now),
    )
    made = FormSubmission(
        form_id=form.id,
        key=key,
        digest=digest,
        address=address,
        at=transaction.now,
        standing=Standing.HELD if why else Standing.TAKEN,
        why=list(why),
        given=dict(sent.values) if why else None,
        agreed=sent.agreed and form.wording > 0,
        wording=form.wording,
        language=sent.language,
        utm=dict(sent.utm) or None,
        page=sent.page,
    )
    session.add(made)
    session.flush()
    if not why:
        _put_on_records(transaction, form, made, sent.values)
    return made


def let_through(transaction: Transaction, user: User, submission_id: int) -> FormSubmission:
    """Take in what was held, as of when it came; one that is not held any more stays as it is.

    Raises AccessDeniedError for a role that may not look after forms, and RecordNotFoundError.
    """
    found = _get_held(transaction, user, submission_id)
    if found.standing == Standing.HELD:
        values = dict(found.given or {})
        _decide(transaction, user, found, Standing.TAKEN)
        _put_on_records(transaction, get_form(transaction.session, found.form_id), found, values)
    return found


def throw_away(transaction: Transaction, user: User, submission_id: int) -> FormSubmission:
    """Discard what was held: what was filled in is gone, what came stays counted; raises as `let_through`."""
    found = _get_held(transaction, user, submission_id)
    if found.standing == Standing.HELD:
        _decide(transaction, user, found, Standing.DISCARDED)
        found.digest = found.address = found.utm = found.page = None
        transaction.session.flush()
    return found


def _get_held(transaction: Transaction, user: User, submission_id: int) -> FormSubmission:
    check_may_look_after_forms(Reader(transaction.session, user))
    found = transaction.session.get(
        FormSubmission, submission_id, with_for_update=True, populate_existing=True
    )
    if found is None:
        raise RecordNotFoundError("submission", submission_id)
    return found


def _decide(transaction: Transaction, user: User, found: FormSubmission, standing: Standing) -> None:
    found.standing, found.given = standing, None
    found.decided_by_id, found.decided_at = user.id, transaction.now
    transaction.session.flush()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _digest(form: WebForm, sent: Sent) -> str:
    plain = json.dumps([form.id, sorted(sent.values.items()), sent.agreed], ensure_ascii=True, default=str)
    return _hash(plain)


def _address(values: Mapping[str, Any]) -> str | None:
    told = mail_key(values.get("email")) or phone_key(values.get("phone"))
    return _hash(told) if told else None


def _earlier(session: Session, form: WebForm, key: str, digest: str, now: datetime) -> FormSubmission | None:
    same_sheet = select(FormSubmission).where(FormSubmission.form_id == form.id, FormSubmission.key == key)
    found = session.scalars(same_sheet).one_or_none()
    if found is not None:
        return found
    same_words = select(FormSubmission).where(
        FormSubmission.form_id == form.id, FormSubmission.at > now - _AGAIN, FormSubmission.digest == digest
    )
    return session.scalars(same_words.order_by(FormSubmission.id.desc()).limit(1)).one_or_none()


def _sent_today(session: Session, address: str | None, now: datetime) -> int:
    if address is None:
        return 0
    query = select(func.count()).where(FormSubmission.address == address, FormSubmission.at > now - _DAY)
    return session.scalar(query) or 0


# ---------------------------------------------------------------- onto records


def _put_on_records(
    transaction: Transaction, form: WebForm, submission: FormSubmission, values: Mapping[str, Any]
) -> None:
    person = _find_person(transaction, values)
    campaign = _campaign_of(transaction.session, form, submission)
    if person is None:
        person = _new_lead(transaction, form, submission, values, campaign)
        left: dict[str, Any] = {}
    else:
        _tell_owner(transaction, person)
        left = _fill_gaps(transaction, person, submission, values, form, campaign)
    activity = _log(transaction, form, submission, person, values, left)
    if campaign is not None:
        _respond(transaction, campaign, person, submission.at)
    submission.activity_id = activity.id
    submission.lead_id = person.id if isinstance(person, Lead) else None
    submission.contact_id = person.id if isinstance(person, Contact) else None
    transaction.session.flush()


def _find_person(transaction: Transaction, values: Mapping[str, Any]) -> Lead | Contact | None:
    """Return the contact or lead that somebody is: contacts first, then leads that are open."""
    session = transaction.session
    transaction.index.flush()  # whoever came a moment ago must be found, too
    told = {name: values.get(name) for name in ("name", "email", "phone")}
    contact = _likeliest(session, Contact(**told))
    if isinstance(contact, Contact):
        return contact
    lead = _likeliest(session, Lead(**told, company=values.get("company")))
    if isinstance(lead, Lead) and lead.status == LeadStatus.CONVERTED and lead.contact_id is not None:
        became = session.get(Contact, lead.contact_id)
        return became if became is not None and became.deleted_at is None else lead
    return lead


def _likeliest(session: Session, sought: Lead | Contact) -> Lead | Contact | None:
    model = type(sought)
    pairs = find_duplicates(session, sought, at_least=0.0)
    ids = [
        pair.other(0)
        for pair in pairs
        if pair.likelihood >= SAME or any(each.fact == "mail_equal" for each in pair.evidence)
    ]
    query: Select[Any] = select(model).where(model.id.in_(ids))
    found: dict[int, Lead | Contact] = {each.id: each for each in session.scalars(query)}
    alive = [found[each] for each in ids if each in found and found[each].erased_at is None]
    return min(alive, key=lambda each: _RANK.get(getattr(each, "status", ""), 0), default=None)


_RANK: Final[Mapping[str, int]] = {
    LeadStatus.OPEN: 0,
    LeadStatus.CONVERTED: 1,
    LeadStatus.DISQUALIFIED: 2,
}


def _campaign_of(session: Session, form: WebForm, submission: FormSubmission) -> Campaign | None:
    """Return the form's campaign, or else the only one with the name that the address was marked with."""
    if form.campaign_id is not None:
        found = session.get(Campaign, form.campaign_id)
        return found if found is not None and found.deleted_at is None else None
    name = (submission.utm or {}).get("campaign")
    if not name:
        return None
    query = select(Campaign).where(func.lower(Campaign.name) == name.lower(), Campaign.deleted_at.is_(None))
    same = session.scalars(query.limit(2)).all()
    return same[0] if len(same) == 1 else None


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of plain fields, and of declared ones."""
    plain = {name: value for name, value in values.items() if not name.startswith(CUSTOM) and name != MESSAGE}
    custom = {name.removeprefix(CUSTOM): value for name, value in values.items() if name.startswith(CUSTOM)}
    return plain, custom


def _new_lead(
    transaction: Transaction,
    form: WebForm,
    submission: FormSubmission,
    values: Mapping[str, Any],
    campaign: Campaign | None,
) -> Lead:
    plain, custom = _split(values)
    agreed = {"consent": Consent.GRANTED, "consent_at": submission.at} if submission.agreed else {}
    lead = Lead(
        **plain,
        **agreed,
        custom=custom or None,
        source=form.source,
        campaign_id=campaign.id if campaign else None,
        campaign=campaign.name if campaign else (submission.utm or {}).get("campaign"),
        owner_id=_owner_of_new(transaction.session, form),
        occurred_at=submission.at,
    )
    made = transaction.create(lead)
    if made.owner_id is not None:
        notify(transaction, [made.owner_id], kind="form", text="form_new", about=("lead", made.id))
    return made


def _owner_of_new(session: Session, form: WebForm) -> int | None:
    """Return whose new leads are; nobody's where whoever it was does not work here any more."""
    owner = None if form.owner_id is None else session.get(User, form.owner_id)
    return owner.id if owner is not None and works_here(owner) else None


def _tell_owner(transaction: Transaction, person: Lead | Contact) -> None:
    if person.owner_id is not None:
        about = (person.record_type, person.id)
        notify(transaction, [person.owner_id], kind="form", text="form_again", about=about)


def _fill_gaps(
    transaction: Transaction,
    person: Lead | Contact,
    submission: FormSubmission,
    values: Mapping[str, Any],
    form: WebForm,
    campaign: Campaign | None,
) -> dict[str, Any]:
    """Fill what is empty; return what was said otherwise than it is held, or has no place on the record."""
    closed = isinstance(person, Lead) and person.status == LeadStatus.CONVERTED
    if isinstance(person, Lead) and person.status == LeadStatus.DISQUALIFIED:
        reopen_lead(transaction, person)
    plain, custom = _split(values)
    said = plain | {f"{CUSTOM}{name}": value for name, value in custom.items()}
    gaps, left = {}, {}
    for name, value in said.items():
        held = _held(person, name)
        open_to_all = not closed and not (isinstance(person, Contact) and name in _REACHED_BY)
        if held is None and open_to_all and _has_place(transaction.session, person, name):
            gaps[name] = value
        elif held != value:
            left[name] = value
    if isinstance(person, Lead) and not closed:
        gaps |= _origin(person, form, campaign)
    if submission.agreed and person.consent is None:
        gaps |= {"consent": Consent.GRANTED, "consent_at": submission.at}
    transaction.update(person, gaps)
    return left


def _origin(lead: Lead, form: WebForm, campaign: Campaign | None) -> dict[str, Any]:
    """Return where a lead came from, where nothing says so yet: what brought it first stays."""
    found: dict[str, Any] = {} if lead.source else {"source": form.source}
    if campaign is not None and lead.campaign_id is None and not lead.campaign:
        found |= {"campaign_id": campaign.id, "campaign": campaign.name}
    return found


def _held(person: Lead | Contact, name: str) -> object:
    if name.startswith(CUSTOM):
        return (person.custom or {}).get(name.removeprefix(CUSTOM))
    return getattr(person, name, None)


def _has_place(session: Session, person: Lead | Contact, name: str) -> bool:
    if name.startswith(CUSTOM):
        return declarations(session).takes(person.record_type, name.removeprefix(CUSTOM))
    return name in columns_of(type(person))


def _log(
    transaction: Transaction,
    form: WebForm,
    submission: FormSubmission,
    person: Lead | Contact,
    values: Mapping[str, Any],
    left: Mapping[str, Any],
) -> Activity:
    lines = [str(values[MESSAGE])] if MESSAGE in values else []
    lines += [f"{name.removeprefix(CUSTOM)}: {value}" for name, value in left.items()]
    activity = Activity(
        kind=ActivityKind.WEB,
        direction=Direction.INBOUND,
        subject=form.name,
        body="\n".join(lines) or None,
        outcome=RESPONSE,
        occurred_at=submission.at,
        lead_id=person.id if isinstance(person, Lead) else None,
        contact_id=person.id if isinstance(person, Contact) else None,
    )
    return log_activity(transaction, activity)


def _respond(transaction: Transaction, campaign: Campaign, person: Lead | Contact, at: datetime) -> None:
    """Have somebody be a member of a campaign who answered to it; the first answer stays."""
    link = CampaignMember.lead_id if isinstance(person, Lead) else CampaignMember.contact_id
    query = select(CampaignMember).where(
        CampaignMember.campaign_id == campaign.id, link == person.id, CampaignMember.deleted_at.is_(None)
    )
    found = transaction.session.scalars(query.order_by(CampaignMember.id).limit(1)).one_or_none()
    answer = {"response": RESPONSE, "responded_at": at}
    if found is None:
        who = {link.key: person.id}
        transaction.create(CampaignMember(campaign_id=campaign.id, occurred_at=at, **who, **answer))
    elif found.responded_at is None:
        transaction.update(found, answer)
