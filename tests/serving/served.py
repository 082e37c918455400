"""A service desk with something on it: a queue, articles, and tickets of one person's customers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from crm_core.mail_templates import Draft, save_template
from crm_core.records import Account, Article, Comment, Contact, Ticket, User
from crm_core.saved import Shared
from crm_core.service_desk import Queue, list_queues, set_queue
from crm_core.store import Store, Transaction
from crm_core.ticket_clocks import change_ticket
from crm_core.tickets import add_mail, answer_ticket, open_ticket, rate_ticket
from serving.settings import Settings
from serving.ticket_work import token_of

_LEAKS = """## Why

Seals dry out after **two years**.

1. Close the valve.
2. Change the seal.
3. Open it slowly.

Parts are on the [list](https://example.com/parts)."""

_LEAKS_ZH = """## 原因

密封圈一般**两年**后老化。

1. 关闭阀门
2. 更换密封圈
3. 缓慢开启"""

ARTICLES = (
    ("en", "A seal leaks", _LEAKS),
    ("en", "Invoices as e-mail", "Ask for invoices by *mail* in your profile, under **Billing**."),
    ("zh", "水泵漏水怎么办", _LEAKS_ZH),
)


@dataclass(frozen=True, kw_only=True)
class Served:
    """What was made: a ticket with a conversation, one of its articles, and a link to rate another ticket."""

    ticket: int
    article: int
    token: str


def serve_some(store: Store, user_id: int, settings: Settings) -> Served:
    """Make a small service desk of somebody."""
    with store.transaction(actor_id=user_id) as transaction:
        user = transaction.session.get_one(User, user_id)
        queue, articles = _queue(transaction, user), _write(transaction, user)
        contact = _contact(transaction, user)
        said = "Hello,\n\nsince Monday the seal of our second pump leaks. What can we do?\n\nBest regards"
        asked_at = transaction.now - timedelta(hours=2)
        ticket = open_ticket(
            transaction,
            Ticket(
                account_id=contact.account_id,
                contact_id=contact.id,
                subject="The pump leaks again",
                description=said,
                queue=queue,
                occurred_at=asked_at,
            ),
        )
        add_mail(transaction, ticket, subject=ticket.subject, body=said, occurred_at=asked_at)
        answer_ticket(
            transaction, user, ticket, "Hello,\n\ndo you see the leak at the seal or at the flange?"
        )
        transaction.create(
            Comment(
                subject_type="ticket", subject_id=ticket.id, body="Known from last year", owner_id=user.id
            )
        )
        add_mail(transaction, ticket, subject="Re: leak", body="At the seal.", contact_id=contact.id)
        more = (
            ("发票抬头需要修改", "urgent"),
            ("Where is our delivery?", "high"),
            ("A question on prices", "low"),
        )
        for number, (subject, priority) in enumerate(more):
            other = open_ticket(
                transaction,
                Ticket(
                    account_id=contact.account_id,
                    contact_id=contact.id,
                    subject=subject,
                    priority=priority,
                    owner_id=user.id if number else None,
                    queue=None if number else queue,
                    occurred_at=transaction.now - timedelta(hours=9 * number + 1),
                ),
            )
            if number == 2:
                change_ticket(transaction, other, {"status": "closed"})
                rated = other
        rate_ticket(transaction, rated.id, 4, "Quick, thank you")
    return Served(ticket=ticket.id, article=articles[0], token=token_of(settings.home_folder, ticket.id))


def _queue(transaction: Transaction, user: User) -> str:
    """Return the key of the first queue; make one where there is none."""
    for queue in list_queues(transaction.session):
        return queue.key
    made = Queue(key="help", name="Help desk", members=[user.id], round_robin=True)
    set_queue(transaction.session, made, version=0)
    return made.key


def _write(transaction: Transaction, user: User) -> list[int]:
    body = 'Hello {{ contact.first_name | default("there") }},\n\nthank you for ticket {{ ticket.id }}.\n'
    draft = Draft(name="Thank you", subject="Ticket {{ ticket.id }}", body=body, shared=Shared.ALL)
    save_template(transaction, user, draft)
    return [
        transaction.create(
            Article(title=title, body=body, language=language, state="published", owner_id=user.id)
        ).id
        for language, title, body in ARTICLES
    ]


def _contact(transaction: Transaction, user: User) -> Contact:
    query = select(Contact).join(Account, Account.id == Contact.account_id).where(Account.owner_id == user.id)
    return transaction.session.scalars(query.limit(1)).one()
