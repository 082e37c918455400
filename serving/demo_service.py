"""A service desk for the demonstration: a queue, articles, templates, and what was said on the open tickets.

No ticket is made: those that the company has are what models learned from.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.mail_templates import Draft, save_template
from crm_core.records import Article, ArticleState, Role, Ticket, TicketStatus, User
from crm_core.saved import Shared
from crm_core.service_desk import Queue, list_queues, set_queue
from crm_core.store import Store
from crm_core.ticket_clocks import change_ticket
from crm_core.tickets import add_mail, answer_ticket
from serving.demo_past import DAY, Past, first_admin

_ARTICLES: Final = (
    (
        "en",
        "Export a report",
        "Open the report, choose **Export** and then Excel or CSV.\n\nLarge tables take up to a minute.",
    ),
    (
        "en",
        "An invoice is wrong",
        "Tell us:\n\n- the number of the invoice,\n- what is wrong,\n- your VAT id.\n\nWe send a new one.",
    ),
    (
        "en",
        "A delivery is late",
        "The carrier's number is in the dispatch mail. Is it *over three days* late? Ask for a new date.",
    ),
    ("zh", "登录失败怎么办", "1. 核对邮箱地址\n2. 在登录页重置密码\n3. 仍不行时, 请管理员解锁账号"),
    ("zh", "系统很慢怎么办", "清理浏览器缓存并检查网络。请告诉我们**发生的时间**, 以便查看日志。"),
    ("zh", "报表数据不对", "先检查筛选条件和日期范围。还不对的话, 请附上报表名称和截图。"),
)

_ON_IT: Final = """Hello {{ contact.first_name | default("there") }},

thank you for your message. We are looking into ticket {{ ticket.id }} and come back to you soon.

{{ sender.name }}"""

_ON_IT_ZH: Final = """{{ contact.name | default("您好") }}:

您的工单 {{ ticket.id }} 我们已收到, 正在处理。

{{ sender.name }}"""

_TEMPLATES: Final = (("en", "We are on it", _ON_IT), ("zh", "已受理", _ON_IT_ZH))


_ANSWER: Final = "Thank you for telling us. We are looking into it and will write again tomorrow."
_ANSWER_ZH: Final = "感谢反馈, 我们正在处理, 明天给您回复。"
_REPLY: Final = "It still happens, this morning again. Can you call me?"
_REPLY_ZH: Final = "今天上午又出现了, 方便的话请给我回电。"
_SCENES: Final = ("answered", "silent", "replied", "pending", "answered", "replied", "silent")
"""What was said so far on open tickets, in turn."""


def make_service_desk(store: Store) -> bool:
    """Make it all; False where there is a queue already."""
    past = Past(store)
    with store.transaction(source=Source.AUTOMATION) as transaction:
        session = transaction.session
        if list_queues(session, retired=True):
            return False
        people = session.scalars(
            select(User.id).where(User.role == Role.REP, User.active, User.deleted_at.is_(None))
        ).all()
        queue = Queue(key="support", name="Support 客服", members=people, round_robin=True)
        set_queue(session, queue, version=0)
        for language, title, body in _ARTICLES:
            article = Article(title=title, body=body, language=language, state=ArticleState.PUBLISHED)
            transaction.create(article)
        admin = first_admin(session)
        for language, name, body in _TEMPLATES if admin is not None else ():
            subject = "[#{{ ticket.id }}] {{ ticket.subject }}"
            draft = Draft(name=name, subject=subject, body=body, language=language, shared=Shared.ALL)
            if admin is not None:
                save_template(transaction, admin, draft)
        tickets = _open_tickets(session)
    for number, (ticket, owner) in enumerate(tickets):
        _talk(past, ticket, owner, _SCENES[number % len(_SCENES)])
    return True


def _open_tickets(session: Session) -> list[tuple[Ticket, User]]:
    query = (
        select(Ticket, User)
        .join(User, User.id == Ticket.owner_id)
        .where(Ticket.status == TicketStatus.OPEN, Ticket.deleted_at.is_(None))
        .order_by(User.id, Ticket.id)
    )
    return [(ticket, owner) for ticket, owner in session.execute(query)]


def _talk(past: Past, ticket: Ticket, owner: User, scene: str) -> None:
    """Bring a ticket into the queue and have its owner and the customer talk about it."""
    chinese = not ticket.subject.isascii()
    with past.at(ticket.recorded_at) as transaction:
        change_ticket(transaction, transaction.get(Ticket, ticket.id), {"queue": "support"})
    if scene == "silent":
        return
    with past.at(ticket.recorded_at + DAY / 9, owner) as transaction:
        status = TicketStatus.PENDING if scene == "pending" else None
        held = transaction.get(Ticket, ticket.id)
        answer_ticket(transaction, owner, held, _ANSWER_ZH if chinese else _ANSWER, status=status)
    if scene == "replied":
        with past.at(ticket.recorded_at + DAY) as transaction:
            held = transaction.get(Ticket, ticket.id)
            text = _REPLY_ZH if chinese else _REPLY
            add_mail(transaction, held, subject=f"Re: {ticket.subject}", body=text)
