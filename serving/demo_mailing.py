"""Mail of the demonstration: templates, a sequence that is switched off, a segment, and mails in the tray.

Nothing is sent: there is no mailbox, and nobody is put into the sequence.
"""

from __future__ import annotations

from email.utils import format_datetime
from typing import Final

from sqlalchemy import select

from crm_core.incoming.filing import take_mail
from crm_core.incoming.parsing import read_mail
from crm_core.mail_templates import Draft, save_template
from crm_core.saved import Shared
from crm_core.saving import keep_segment
from crm_core.sequences import MailSequence, Step, Wanted, save_sequence
from crm_core.store import Store
from serving.demo_past import Past, first_admin

_HELLO: Final = """Hello {{ lead.first_name | default("there") }},

thank you for your interest. May I call you this week to hear what you need?

{{ sender.name }}"""

_HELLO_ZH: Final = """{{ lead.name | default("您好") }}:

感谢您的关注。本周方便通个电话, 聊聊您的需求吗?

{{ sender.name }}"""

_AGAIN: Final = """Hello {{ lead.first_name | default("there") }},

companies like {{ lead.company | default("yours") }} usually ask us two things first: how long it takes, and
what it costs. I have both on one page for you. Shall I send it?

{{ sender.name }}"""

_TEMPLATES: Final = (
    ("en", "First mail to a lead", "Your question to us", _HELLO),
    ("zh", "线索首封邮件", "关于您的咨询", _HELLO_ZH),
    ("en", "One page on time and cost", "How long, and how much", _AGAIN),
)

_MAILS: Final = (
    (
        1.1,
        "Li Wen <li.wen@fangyuan-pumps.example>",
        "Spare parts for two lines",
        "Hello,\n\nwe run two lines of yours and need spare parts for next year. Whom may I ask?\n\nLi Wen",
    ),
    (2.4, "孙丽 <sunli@hengtai.example>", "报价咨询", "您好, 我们想了解平台许可 30 个用户的价格, 谢谢。"),
)


def make_mailing(store: Store) -> bool:
    """Make it all; False where there is a sequence already."""
    past = Past(store)
    with store.reading() as session:
        admin = first_admin(session)
        if admin is None or session.scalar(select(MailSequence.id).limit(1)) is not None:
            return False
        session.expunge_all()
    with past.at(past.ago(60), admin) as transaction:
        first, _, again = [
            save_template(
                transaction,
                admin,
                Draft(name=name, subject=subject, body=body, language=language, shared=Shared.ALL),
            )
            for language, name, subject, body in _TEMPLATES
        ]
        steps = (Step(template_id=first.id), Step(template_id=again.id, wait_days=3))
        save_sequence(
            transaction,
            admin,
            Wanted(name="New leads from the web", record_type="lead", steps=steps, active=False),
        )
        conditions = ["status:eq:open", "employees:ge:200"]
        keep_segment(
            transaction, admin, "lead", "Large companies 大型企业", conditions, shared=Shared.ALL, tag="large"
        )
    for days, sender, subject, body in _MAILS:
        with past.at(past.ago(days)) as transaction:
            head = (
                f"From: {sender}\nTo: sales@company.example\nSubject: {subject}\n"
                f"Message-ID: <{days}@demo.example>\nDate: {format_datetime(transaction.now)}\n"
                "Content-Type: text/plain; charset=utf-8\n\n"
            )
            take_mail(transaction, read_mail(f"{head}{body}".encode()), source="upload")
    return True
