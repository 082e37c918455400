"""What is done about tickets when its time has come: warnings, what was missed, closing, asking how it was.

One thread looks for tickets with something to be done and does it, each ticket in a transaction of its own
that holds the ticket: two processes do nothing twice, and one that dies has done a step or has not.

Once a ticket is closed its customer is asked by mail how content they are, once and never again: by a link
that is signed with the key of this installation and of no use any more once somebody has answered.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

from sqlalchemy import select

from crm_core.apart import each_apart
from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from crm_core.mail_templates import as_html
from crm_core.messages import MessageKind
from crm_core.outgoing import Agreement, agreement_of, queue_mail
from crm_core.records import Contact, Ticket
from crm_core.store import Store, Transaction
from crm_core.ticket_clocks import Step, TicketClock
from crm_core.tickets import do_due_steps, marked
from serving.home import Home, session_secret
from serving.logs import get_log
from serving.looping import Loop
from serving.mail import mail_is_on
from serving.settings import Settings

_AT_ONCE: Final = 50
_TOKEN: Final = re.compile(r"(\d{1,18})\.([A-Za-z0-9_-]{43})", re.ASCII)
_HAN: Final = re.compile("[\u4e00-\u9fff]")

_WORDS: Final = {
    "en": {
        "subject": "How was our help? {subject}",
        "text": (
            'Hello {name},\n\nyour request "{subject}" is closed. How content are you with our help? '
            "One click is enough:\n\n{link}\n\nThank you."
        ),
    },
    "zh": {
        "subject": "请评价我们的服务：{subject}",
        "text": (
            "{name}，您好：\n\n您的工单“{subject}”已关闭。您对我们的服务满意吗？点击即可评价：\n\n{link}\n\n谢谢！"
        ),
    },
}

_log = get_log("serving.tickets")


def ticket_loop(settings: Settings, store: Store) -> Loop:
    """Return the thread that does what is due about tickets, not started."""
    work = TicketWork(settings, store)
    return Loop("tickets", work.run_once, poll_seconds=15.0)


class TicketWork:
    """Does what is due about tickets."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def run_once(self) -> int:
        """Do what is due about some tickets; return how many that were."""
        now = self._store.clock.now()
        due = select(TicketClock.ticket_id).where(TicketClock.next_at <= now)
        with self._store.reading() as session:
            ids = session.scalars(due.order_by(TicketClock.next_at).limit(_AT_ONCE)).all()
        return each_apart(ids, self._do_one)

    def _do_one(self, ticket_id: int) -> int:
        with self._store.transaction(source=Source.AUTOMATION) as transaction:
            steps = do_due_steps(transaction, ticket_id)
            if Step.ASK in steps:
                self._ask(transaction, transaction.get(Ticket, ticket_id))
        _log.info("done", ticket=ticket_id, steps=[str(step) for step in steps])
        return 1

    def run_until_done(self) -> None:
        """Do everything that is due now."""
        while self.run_once():
            pass

    def _ask(self, transaction: Transaction, ticket: Ticket) -> None:
        """Ask the customer by mail, where there is somebody to be asked and a way to do it."""
        session, settings = transaction.session, self._settings
        contact = None if ticket.contact_id is None else session.get(Contact, ticket.contact_id)
        if contact is None or contact.deleted_at is not None or not contact.email:
            return
        if not mail_is_on(settings) or settings.public_url is None:
            return
        about = (Ticket.record_type, ticket.id)
        if agreement_of(session, contact.email, about) is Agreement.WITHDRAWN:
            return
        link = f"{settings.public_url.rstrip('/')}/satisfaction/{token_of(settings.home_folder, ticket.id)}"
        language = language_of(ticket, contact, settings.language)
        words, said = _WORDS[language], {"name": contact.name, "subject": ticket.subject, "link": link}
        text = words["text"].format(**said)
        try:
            queue_mail(
                transaction,
                to=contact.email,
                subject=marked(ticket, words["subject"].format(**said)),
                text=text,
                html=as_html(text),
                about=about,
                sender=None,
                kind=MessageKind.SERVICE,
                language=language,
                key=f"satisfaction:{ticket.id}",
            )
        except InvalidValueError:  # no address that a mail could go to
            _log.warning("not asked", ticket=ticket.id)


def language_of(ticket: Ticket, contact: Contact, usual: str) -> str:
    """Return the language to write to a customer in: Chinese where they or their request are."""
    if _HAN.search(f"{ticket.subject} {contact.name}"):
        return "zh"
    return "en" if usual == "en" or ticket.subject.isascii() else usual


def token_of(home: Home, ticket_id: int) -> str:
    """Return what the link for a ticket carries: its id, and the signature of this installation."""
    return f"{ticket_id}.{_signature(home, ticket_id)}"


def ticket_of(home: Home, token: str) -> int | None:
    """Return the id of the ticket that a link is for, if this installation signed it."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    ticket_id = int(found[1])
    return ticket_id if hmac.compare_digest(found[2], _signature(home, ticket_id)) else None


def _signature(home: Home, ticket_id: int) -> str:
    signed = hmac.new(session_secret(home).encode(), f"satisfaction:{ticket_id}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signed.digest()).decode().rstrip("=")
