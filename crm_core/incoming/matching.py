"""Which record a mail is about: what it answers, then a ticket's number in it, then who it comes from.

Only what is certain is a match. Where an address belongs to several people, nobody is guessed: they are
candidates, and the mail waits in the tray.

What a mailbox or another system brings may be about any record. What a person brings is looked for among the
records only that they may change: otherwise a file made up by hand would be evidence on a colleague's record,
and whether it was placed would tell that an address is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.addresses import company_domain, mail_key, phone_key, site_key
from crm_core.incoming.parsing import Parsed
from crm_core.messages import Message, find_answered, people_with
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    Contact,
    Deal,
    DealStatus,
    Lead,
    LeadStatus,
    Record,
    Ticket,
    User,
)
from crm_core.search import nearest
from crm_core.ticket_clocks import find_standing

About = tuple[str, int]

May = Callable[[Record], bool]
"""Says whether something may be put on a record by itself."""

_TICKET: Final = re.compile(r"\[(?:ticket\s*|工单\s*)?#(\d{1,15})\]", re.IGNORECASE)
_NEAREST: Final = 50


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a mail is about: one record, or those that it may be about.

    `answered` is the mail that it answers, `outbound` whether a colleague wrote it, `others` whom it is from
    or to.
    """

    about: About | None
    candidates: tuple[About, ...] = ()
    answered: Message | None = None
    colleague: User | None = None
    others: tuple[str, ...] = ()

    @property
    def is_outbound(self) -> bool:
        """Whether one of us wrote it."""
        return self.colleague is not None


def anywhere(_record: Record) -> bool:
    """Have something be put on any record."""
    return True


def match_for(session: Session, by: User | None, match: Callable[[May], Match]) -> Match:
    """Return what something is about, as far as who brings it may change that; nobody is the program itself.

    What only others may change are candidates for them.
    """
    if by is None:
        return match(anywhere)
    reader = Reader(session, by)
    may_log = reader.right(Activity.record_type).write is not Scope.NONE
    own = match(reader.may_change if may_log else lambda _record: False)
    if own.about is not None:
        return own
    whole = match(anywhere)
    return replace(own, candidates=whole.candidates if whole.about is None else (whole.about,))


def match_mail(session: Session, mail: Parsed, *, ours: Collection[str] = (), may: May = anywhere) -> Match:
    """Return what a mail is about; `ours` are the addresses of mailboxes that are read here."""
    colleagues = colleagues_with(session, [mail.from_address or "", *mail.to])
    writer = colleagues.get(mail.from_address or "")
    known = {mail_key(each) for each in ours} | colleagues.keys()
    from_outside = [] if writer is not None else [mail.from_address or ""]
    others = tuple(each for each in (from_outside or mail.to) if each and each not in known)
    answered = find_answered(session, mail.answers)
    thread = _living(session, answered)
    if may is not anywhere and (thread is None or not may(thread)):
        thread = answered = None
    about, candidates = (key_of(thread), ()) if thread is not None else _about(session, mail, others, may)
    return Match(about=about, candidates=candidates, answered=answered, colleague=writer, others=others)


def _about(
    session: Session, mail: Parsed, others: Sequence[str], may: May
) -> tuple[About | None, tuple[About, ...]]:
    ticket, is_theirs = _ticket_in(session, mail.subject, others, may)
    if ticket is not None and is_theirs:
        return ("ticket", ticket.id), ()
    maybe: tuple[About, ...] = (("ticket", ticket.id),) if ticket is not None else ()
    for address in others:
        found = match_people(session, people_with(session, address), may)
        if found.about is not None:
            return found.about, ()
        maybe += found.candidates
    return None, tuple(dict.fromkeys(maybe))


def key_of(record: Record) -> About:
    """Return what names a record."""
    return record.record_type, record.id


def _living(session: Session, answered: Message | None) -> Record | None:
    """Return the record of a thread, if it is still there; of a converted lead, what it became."""
    if answered is None or answered.about_type is None or answered.about_id is None:
        return None
    model = RECORD_TYPES.get(answered.about_type)
    record = session.get(model, answered.about_id) if model is not None else None
    if isinstance(record, Ticket):
        record = find_standing(session, record.id)
    if record is None or record.deleted_at is not None:
        return None
    if isinstance(record, Lead) and record.status == LeadStatus.CONVERTED:
        return _after(session, record)
    return record


def _after(session: Session, lead: Lead) -> Record:
    """Return what a lead became: the deal, else the person."""
    if lead.deal_id is not None:
        return session.get_one(Deal, lead.deal_id)
    return session.get_one(Contact, lead.contact_id) if lead.contact_id is not None else lead


def _ticket_in(session: Session, subject: str, others: Iterable[str], may: May) -> tuple[Ticket | None, bool]:
    """Return the ticket whose number a subject names, and whether who writes is of that customer.

    A number can be guessed: of anybody else's mail it is only a candidate.
    """
    found = _TICKET.search(subject)
    ticket = find_standing(session, int(found[1])) if found else None
    if ticket is None or not may(ticket):
        return None, False
    account = session.get(Account, ticket.account_id)
    site = site_key(account.website) if account is not None and may(account) else None
    for address in others:
        if any(_is_of(person, ticket) for person in people_with(session, address) if may(person)):
            return ticket, True
        if site is not None and company_domain(address) == site:
            return ticket, True
    return ticket, False


def _is_of(person: Lead | Contact, ticket: Ticket) -> bool:
    is_contact = isinstance(person, Contact) and person.id == ticket.contact_id
    return is_contact or (person.account_id is not None and person.account_id == ticket.account_id)


def match_people(session: Session, everybody: Sequence[Lead | Contact], may: May = anywhere) -> Match:
    """Return what somebody who stands in these records is about: their open deal, else their open lead.

    Several deals of one person are no riddle: what they write stands on the person.
    """
    people = [each for each in everybody if may(each)]
    contacts = [each for each in people if isinstance(each, Contact)]
    leads = [each for each in people if isinstance(each, Lead)]
    opened = [each for each in leads if each.status == LeadStatus.OPEN]
    if len(contacts) == 1:
        deals = [each for each in _open_deals(session, contacts[0].id) if may(each)]
        if len(deals) == 1:
            return Match(about=key_of(deals[0]))
        opened = [each for each in opened if _is_of_same_owner(session, contacts[0], each)]
        if len(opened) == 1 and not deals:
            return Match(about=("lead", opened[0].id))
        if not opened or deals:
            return Match(about=("contact", contacts[0].id))
    elif not contacts and len(opened) == 1:
        return Match(about=("lead", opened[0].id))
    elif not contacts and not opened and len(leads) == 1 and may(became := _after(session, leads[0])):
        return Match(about=key_of(became))
    return Match(about=None, candidates=tuple(key_of(each) for each in [*opened, *contacts]))


def _is_of_same_owner(session: Session, contact: Contact, lead: Lead) -> bool:
    """Say whether an open lead of a contact is with who has the contact, or their customer.

    Anybody may write down a lead with a customer's address: that brings them none of the customer's mails.
    """
    account = session.get(Account, contact.account_id) if contact.account_id is not None else None
    return lead.owner_id in {contact.owner_id, account.owner_id if account is not None else contact.owner_id}


def _open_deals(session: Session, contact_id: int) -> Sequence[Deal]:
    query = select(Deal).where(
        Deal.contact_id == contact_id, Deal.status == DealStatus.OPEN, Deal.deleted_at.is_(None)
    )
    return session.scalars(query.order_by(Deal.id).limit(_NEAREST)).all()


def colleagues_with(session: Session, addresses: Iterable[str]) -> dict[str, User]:
    """Return those who work here, by their mail address as it is compared."""
    keys = {key for each in addresses if (key := mail_key(each)) is not None}
    if not keys:
        return {}
    near = session.scalars(select(User).where(User.deleted_at.is_(None), User.active.is_(True)))
    return {key: user for user in near if (key := mail_key(user.email)) in keys}


def people_with_phone(session: Session, number: str) -> list[Lead | Contact]:
    """Return the leads and contacts that have a telephone number, however it is written."""
    return [
        each for each in _with_phone(session, number, ("lead", "contact")) if not isinstance(each, Account)
    ]


def accounts_with_phone(session: Session, number: str) -> list[Account]:
    """Return the accounts that have a telephone number, however it is written."""
    return [each for each in _with_phone(session, number, ("account",)) if isinstance(each, Account)]


def _with_phone(session: Session, number: str, types: Sequence[str]) -> list[Lead | Contact | Account]:
    key = phone_key(number)
    near = nearest(session, number, types, limit=_NEAREST) if key else {}
    models: dict[str, type[Lead | Contact | Account]] = {"lead": Lead, "contact": Contact, "account": Account}
    found: list[Lead | Contact | Account] = []
    for record_type in types if near else ():
        model = models[record_type]
        ids = near[record_type].tolist()
        query = select(model).where(model.id.in_(ids), model.deleted_at.is_(None)).order_by(model.id)
        rows: Iterable[Lead | Contact | Account] = session.scalars(query)
        found += [each for each in rows if phone_key(each.phone) == key]
    return found
