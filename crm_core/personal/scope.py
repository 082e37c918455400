"""Where a person may be spoken of: what belongs to them, what is near them, and what mentions them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, String, Text, or_, select, type_coerce
from sqlalchemy.orm import Session

from crm_core.addresses import person_key
from crm_core.alerts import Alert, AlertAction
from crm_core.changes import Action, Change
from crm_core.columns import Json
from crm_core.grams import fold, is_ideograph
from crm_core.personal.people import PERSON_TYPES, Identifiers, Person
from crm_core.personal.scrubbing import Scrubber, name_patterns, words_of
from crm_core.records import (
    RECORD_TYPES,
    SCORE_COLUMNS,
    Activity,
    CampaignMember,
    Contact,
    CustomRecord,
    Deal,
    Lead,
    Line,
    Ticket,
    User,
)
from crm_core.search import nearest
from crm_core.search_index import SEARCHED
from crm_core.validation import CHOICES, columns_of

Ids = dict[str, set[int]]
"""Records by type."""

IDENTITY: Final[dict[str, frozenset[str]]] = {
    "lead": frozenset({"name", "email", "phone"}),
    "contact": frozenset({"name", "email", "phone"}),
    "user": frozenset({"name", "email", "password_hash", "language", "time_zone"}),
}
"""What tells other people: it is theirs, whoever else it may tell."""

_WORDS: Final = frozenset(
    {"stage", "pipeline", "currency", "subject_type", "media_type", "sha256", "external_id"}
)
"""Columns that programs read: no text is in them."""

_LISTED: Final = 5_000

_SAID: Final = 0.8
"""The share of a text's grams that whoever says it has."""


def text_columns(record_type: str) -> list[str]:
    """Return the columns that may hold what somebody wrote."""
    columns = columns_of(RECORD_TYPES[record_type])
    return [
        name
        for name, column in columns.items()
        if isinstance(column.type, String | Text | Json)
        and name not in _WORDS | (SCORE_COLUMNS - {"reasons"})
        and (record_type, name) not in CHOICES
    ]


def belongings(session: Session, person: Person) -> Ids:
    """Return what was done with a person and said about them: activities, comments, files, tags, mailings."""
    found: Ids = defaultdict(set)
    direct = or_(Activity.lead_id.in_(person.leads), Activity.contact_id.in_(person.contacts))
    found["activity"].update(session.scalars(select(Activity.id).where(direct)))
    about: Ids = {record_type: set(person.ids(record_type)) for record_type in PERSON_TYPES}
    found["activity"].update(list(_about(session, "activity", about)))
    about["activity"] = found["activity"]
    for record_type in ("activity", "comment", "attachment", "tag"):
        found[record_type].update(list(_about(session, record_type, about)))
    reached = or_(CampaignMember.lead_id.in_(person.leads), CampaignMember.contact_id.in_(person.contacts))
    found["campaign_member"].update(session.scalars(select(CampaignMember.id).where(reached)))
    return found


def surroundings(session: Session, person: Person) -> Ids:
    """Return what else is about a person's companies and deals."""
    found: Ids = defaultdict(set)
    leads = session.scalars(select(Lead).where(Lead.id.in_(person.leads))).all()
    contacts = session.scalars(select(Contact).where(Contact.id.in_(person.contacts))).all()
    links = [*(lead.account_id for lead in leads), *(contact.account_id for contact in contacts)]
    found["account"].update(account_id for account_id in links if account_id)
    deals = or_(Deal.contact_id.in_(person.contacts), Deal.account_id.in_(found["account"]))
    found["deal"].update(each.deal_id for each in leads if each.deal_id)
    found["deal"].update(session.scalars(select(Deal.id).where(deals)))
    tickets = or_(Ticket.contact_id.in_(person.contacts), Ticket.account_id.in_(found["account"]))
    found["ticket"].update(session.scalars(select(Ticket.id).where(tickets)))
    for record_type in ("quote", "order", "contract", "custom_record", "activity"):
        found[record_type].update(_of_companies(session, record_type, found))
    own = or_(CustomRecord.lead_id.in_(person.leads), CustomRecord.contact_id.in_(person.contacts))
    found["custom_record"].update(session.scalars(select(CustomRecord.id).where(own)))
    lines = or_(Line.quote_id.in_(found["quote"]), Line.order_id.in_(found["order"]))
    found["line"].update(session.scalars(select(Line.id).where(lines)))
    for record_type in ("activity", "comment", "attachment", "tag"):
        found[record_type].update(list(_about(session, record_type, found)))
    return found


def _of_companies(session: Session, record_type: str, near: Ids) -> Iterable[int]:
    model = RECORD_TYPES[record_type]
    columns = columns_of(model)
    linked = [
        columns[f"{other}_id"].in_(near[other]) for other in ("account", "deal") if f"{other}_id" in columns
    ]
    return session.scalars(select(model.id).where(or_(*linked)))


def _about(session: Session, record_type: str, subjects: Ids) -> Iterator[int]:
    """Yield the records of a type whose subject is one of some records."""
    model = RECORD_TYPES[record_type]
    columns = columns_of(model)
    for subject_type, ids in list(subjects.items()):
        query = select(model.id).where(columns["subject_type"] == subject_type)
        for some in listed(ids):
            yield from session.scalars(query.where(columns["subject_id"].in_(some))).all()


def listed(ids: Collection[int]) -> Iterator[list[int]]:
    """Yield ids in lists that a query can hold."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), _LISTED):
        yield ordered[start : start + _LISTED]


def mentions(session: Session, scrubber: Scrubber) -> Ids:
    """Return every record that may mention a person, now or by what the log says of earlier."""
    found: Ids = defaultdict(set)
    texts = scrubber.everywhere.all()
    if not texts:
        return found
    for text in texts:
        for record_type, ids in nearest(session, text, SEARCHED, share=_SAID).items():
            found[record_type].update(ids.tolist())
    for record_type in SEARCHED:
        found[record_type].update(_unsearched(session, record_type, texts))
    said = or_(*(_contains(side, text) for side in (Change.old, Change.new) for text in texts))
    query = select(Change.record_type, Change.record_id).where(Change.action == Action.UPDATED, said)
    for record_type, record_id in session.execute(query.distinct()):
        found[record_type].add(record_id)
    return found


def _unsearched(session: Session, record_type: str, texts: Collection[str]) -> Iterable[int]:
    """Return the records that mention one of some texts in a column that the index does not hold."""
    model = RECORD_TYPES[record_type]
    columns = columns_of(model)
    names = set(text_columns(record_type)) - {*SEARCHED[record_type], "reasons"}
    said = [_contains(columns[name], text) for name in sorted(names) for text in texts]
    return session.scalars(select(model.id).where(or_(*said))) if said else ()


def list_notes(session: Session, near: Ids) -> Iterator[tuple[int, int, bool, str]]:
    """Yield every note on an alert: its id, the alert's, whether that is about a record nearby, the text."""
    query = select(AlertAction.id, Alert.id, Alert.record_type, Alert.record_id, AlertAction.note)
    query = query.join(Alert, Alert.id == AlertAction.alert_id).where(AlertAction.note.is_not(None))
    for action_id, alert_id, record_type, record_id, note in session.execute(query).all():
        yield action_id, alert_id, record_id in near.get(record_type, ()), note or ""


def _contains(column: Any, text: str) -> ColumnElement[bool]:  # noqa: ANN401  any text or JSON column
    return type_coerce(column, Text).icontains(text, autoescape=True)


def make_scrubber(session: Session, person: Person, near: Ids) -> Scrubber:
    """Return what takes a person out of texts, so far as what tells them tells nobody else."""
    told = person.identifiers
    alone = {name for name in told.names if name_patterns(name) and not _is_shared(session, name, person)}
    shared = told.names - alone
    nearby = {word for name in told.names for word in words_of(name)}
    return Scrubber(
        everywhere=Identifiers(names=frozenset(alone), mails=told.mails, phones=told.phones),
        names_nearby=frozenset(shared),
        words_nearby=frozenset(nearby - _words_of_others(session, person, near, nearby)),
    )


def _is_shared(session: Session, name: str, person: Person) -> bool:
    """Say whether somebody else has the same name."""
    near = nearest(session, name, ("lead", "contact", "user"), share=_SAID)
    return any(
        person_key(other) == person_key(name)
        for record_type, ids in near.items()
        for other in _names(session, record_type, set(ids.tolist()) - set(person.ids(record_type)))
    )


def _words_of_others(session: Session, person: Person, near: Ids, words: Collection[str]) -> set[str]:
    """Return the words that in texts about a company may stand for somebody else, or for the company."""
    names = [*session.scalars(select(User.name)), *_names(session, "account", near["account"])]
    for model in PERSON_TYPES.values():
        columns = columns_of(model)
        theirs = select(model.id, columns["name"]).where(columns["account_id"].in_(near["account"]))
        for record_id, name in session.execute(theirs):
            if name and record_id not in person.ids(model.record_type):
                names.append(name)
    taken = {part for name in names for part in fold(name).split()}
    surnames = {name[0] for name in names if is_ideograph(name[0])}
    return {word for word in words if fold(word) in taken or (is_ideograph(word[0]) and word[0] in surnames)}


def _names(session: Session, record_type: str, ids: Collection[int]) -> Iterator[str]:
    model = RECORD_TYPES[record_type]
    for some in listed(ids):
        names = session.scalars(select(columns_of(model)["name"]).where(model.id.in_(some)))
        yield from (name for name in names if name)


def add_ids(one: Mapping[str, Collection[int]], two: Mapping[str, Collection[int]]) -> Ids:
    """Return the records in either of two."""
    found: Ids = defaultdict(set)
    for ids in (one, two):
        for record_type, some in ids.items():
            found[record_type].update(some)
    return found
