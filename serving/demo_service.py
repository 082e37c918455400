"""A service desk for the demonstration: a queue, articles and templates.

What there is of tickets stays as it is, so that models learn nothing else than before.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from crm_core.changes import Source
from crm_core.mail_templates import Draft, save_template
from crm_core.records import Article, ArticleState, Role, User
from crm_core.saved import Shared
from crm_core.service_desk import Queue, list_queues, set_queue
from crm_core.store import Store

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


def make_service_desk(store: Store) -> bool:
    """Make a queue that all who sell serve, articles and templates; False where there is a queue already."""
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
        admin = session.scalars(
            select(User).where(User.role == Role.ADMIN).order_by(User.id).limit(1)
        ).first()
        for language, name, body in _TEMPLATES if admin is not None else ():
            subject = "[#{{ ticket.id }}] {{ ticket.subject }}"
            draft = Draft(name=name, subject=subject, body=body, language=language, shared=Shared.ALL)
            if admin is not None:
                save_template(transaction, admin, draft)
    return True
