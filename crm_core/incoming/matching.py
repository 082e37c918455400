"""Which record a mail is about: what it answers, then a ticket's number in it, then who it comes from.

Only what is certain is a match. Where an address belongs to several people, nobody is guessed: they are
candidates, and the mail waits in the tray.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.addresses import company_domain, mail_key, phone_key, site_key
from crm_core.incoming.parsing import Parsed
from crm_core.messages import Message, find_answered, people_with
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Contact,
    Deal,
    DealStatus,
    Lead,
    LeadStatus,
    Ticket,
    User,
)
from crm_core.search import nearest
from crm_core.ticket_clocks import find_standing

About = tuple[str, int]

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


def match_mail(session: Session, mail: Parsed, *, ours: Collection[str] = ()) -> Match:
    """Return what a mail is about; `ours` are the addresses of mailboxes that are read here."""
    colleagues = colleagues_with(session, [mail.from_address or "", *mail.to])
    writer = colleagues.get(mail.from_address or "")
    known = {mail_key(each) for each in ours} | colleagues.keys()
    from_outside = [] if writer is not None else [mail.from_address or ""]
    others = tuple(each for each in (from_outside or mail.to) if each and each not in known)
    answered = find_answered(session, mail.answers)
    about, candidates = _about(session, mail, answered, others)
    return Match(about=about, candidates=candidates, answered=answered, colleague=writer, others=others)


def _about(
    session: Session, mail: Parsed, answered: Message | None, others: Sequence[str]
) -> tuple[About | None, tuple[About, ...]]:
    thread = _living(session, answered)
    if thread is not None:
        return thread, ()
    ticket, is_theirs = _ticket_in(session, mail.subject, others)
    if ticket is not None and is_theirs:
        return ("ticket", ticket.id), ()
    maybe: tuple[About, ...] = (("ticket", ticket.id),) if ticket is not None else ()
    for address in others:
        found = match_people(session, people_with(session, address))
        if found.about is not None:
            return found.about, ()
        maybe += found.candidates
    return None, tuple(dict.fromkeys(maybe))


def _living(session: Session, answered: Message | None) -> About | None:
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
        return _after(record)
    return record.record_type, record.id


def _after(lead: Lead) -> About:
    """Return what a lead became: the deal, else the person."""
    if lead.deal_id is not None:
        return "deal", lead.deal_id
    return ("contact", lead.contact_id) if lead.contact_id is not None else ("lead", lead.id)


def _ticket_in(session: Session, subject: str, others: Iterable[str]) -> tuple[Ticket | None, bool]:
    """Return the ticket whose number a subject names, and whether who writes is of that customer.

    A number can be guessed: of anybody else's mail it is only a candidate.
    """
    found = _TICKET.search(subject)
    ticket = find_standing(session, int(found[1])) if found else None
    if ticket is None:
        return None, False
    account = session.get(Account, ticket.account_id)
    site = site_key(account.website) if account is not None else None
    for address in others:
        if any(_is_of(person, ticket) for person in people_with(session, address)):
            return ticket, True
        if site is not None and company_domain(address) == site:
            return ticket, True
    return ticket, False


def _is_of(person: Lead | Contact, ticket: Ticket) -> bool:
    is_contact = isinstance(person, Contact) and person.id == ticket.contact_id
    return is_contact or (person.account_id is not None and person.account_id == ticket.account_id)


def match_people(session: Session, people: Sequence[Lead | Contact]) -> Match:
    """Return what somebody who stands in these records is about: their open deal, else their open lead.

    Several deals of one person are no riddle: what they write stands on the person.
    """
    contacts = [each for each in people if isinstance(each, Contact)]
    leads = [each for each in people if isinstance(each, Lead)]
    opened = [each for each in leads if each.status == LeadStatus.OPEN]
    if len(contacts) == 1:
        deals = _open_deals(session, contacts[0].id)
        if len(deals) == 1:
            return Match(about=("deal", deals[0]))
        if len(opened) == 1 and not deals:
            return Match(about=("lead", opened[0].id))
        if not opened or deals:
            return Match(about=("contact", contacts[0].id))
    elif not contacts and len(opened) == 1:
        return Match(about=("lead", opened[0].id))
    elif not contacts and not opened and len(leads) == 1:
        return Match(about=_after(leads[0]))
    return Match(about=None, candidates=tuple((each.record_type, each.id) for each in [*opened, *contacts]))


def _open_deals(session: Session, contact_id: int) -> Sequence[int]:
    query = select(Deal.id).where(
        Deal.contact_id == contact_id, Deal.status == DealStatus.OPEN, Deal.deleted_at.is_(None)
    )
    return session.scalars(query.limit(2)).all()


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
