"""Mails about alerts: to a real server, in the receiver's language, with nothing that they may not see."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from crm_core.access import FieldRight
from crm_core.alerts import Acting
from crm_core.clock import FixedClock
from crm_core.records import User
from crm_core.store import Store
from serving.alerting import Alerting
from serving.job_handlers import FORGOTTEN, handlers
from serving.jobs import JobRunner
from serving.settings import Settings
from tests.alerts.world import DAY, alerts, say
from tests.factories import make_account, make_contract
from tests.serving.test_mail import Post, post, server

__all__ = ["post", "server"]

Deliver = Callable[[], dict[str, EmailMessage]]


@pytest.fixture
def deliver(store: Store, server: Controller, post: Post, home: Path) -> Deliver:
    """Do every job; return the mails that arrived, by receiver."""
    settings = Settings(
        home=home,
        smtp_host="127.0.0.1",
        smtp_port=server.port,
        smtp_tls="none",
        mail_from="crm@example.com",
        public_url="https://crm.example.com/",
    )
    runner = JobRunner(store, handlers(settings), forgotten=FORGOTTEN)

    def run() -> dict[str, EmailMessage]:
        while runner.run_once():
            pass
        return {message["To"].split("@")[0]: message for message in post.taken}

    return run


def raise_alert(store: Store, clock: FixedClock, customer: int) -> None:
    say(store, customer, 0.12)
    clock.advance(DAY)
    say(store, customer, 0.41)
    Alerting(store, by_mail=True).run_until_done()


def test_owner_and_manager_get_one_mail_each_in_their_language(
    store: Store, clock: FixedClock, people: dict[str, User], customer: int, deliver: Deliver, post: Post
) -> None:
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, people["Mara"].id), {"language": "zh"})
        make_contract(transaction, account_id=customer, ends_on=date(2026, 12, 31))
    raise_alert(store, clock, customer)
    mails = deliver()
    assert len(post.taken) == 2
    assert mails["ana"]["Subject"] == "Hill & Sons: danger of leaving above the level (12% → 41%)"
    assert mails["ana"].get_content().splitlines() == [
        "Hello Ana,",
        "",
        "there is one new alert.",
        "",
        "* Hill & Sons: danger of leaving above the level",
        "  12% → 41%; at risk: €4,100 of €10,000; contract ends Dec 31, 2026",
        f"  https://crm.example.com/customers/{customer}",
        "",
        "All alerts, and when such mails come: https://crm.example.com/alerts",
        "You are told because you are responsible, lead the team, or were given it.",
    ]
    assert "流失风险超过警戒线" in mails["mara"]["Subject"]
    assert "Mara，您好" in mails["mara"].get_content()


def test_many_alerts_are_one_mail_most_money_first(
    store: Store, clock: FixedClock, people: dict[str, User], deliver: Deliver, post: Post
) -> None:
    with store.transaction() as transaction:
        ids = [
            make_account(transaction, name=f"Customer {number}", owner_id=people["Ana"].id).id
            for number in range(25)
        ]
    for number, record_id in enumerate(ids):
        say(store, record_id, 0.4 + number / 100)
    Alerting(store, by_mail=True).run_until_done()
    mails = deliver()
    assert len(post.taken) == 2
    assert mails["ana"]["Subject"] == "25 alerts: Customer 24 and others"
    text = mails["ana"].get_content()
    assert text.index("Customer 24") < text.index("Customer 20") < text.index("Customer 5:")
    assert "Customer 4:" not in text
    assert "and 5 more" in text


def test_reasons_and_amounts_that_are_hidden_are_in_no_mail(
    store: Store, clock: FixedClock, customer: int, deliver: Deliver
) -> None:
    with store.transaction() as transaction:
        for record_type, field in (("contract", "value"), ("contract", "ends_on")):
            transaction.session.add(
                FieldRight(role="rep", record_type=record_type, field=field, read=False, write=False)
            )
        make_contract(transaction, account_id=customer, ends_on=date(2026, 12, 31))
    raise_alert(store, clock, customer)
    mails = deliver()
    assert "at risk: €4,100" in mails["mara"].get_content()
    for hidden in ("at risk", "contract"):
        assert hidden not in mails["ana"].get_content()


def test_what_is_in_hand_or_over_before_the_mail_is_written_is_left_out(
    store: Store, clock: FixedClock, people: dict[str, User], customer: int, deliver: Deliver
) -> None:
    raise_alert(store, clock, customer)
    with store.transaction() as transaction:
        Acting(transaction=transaction, user=people["Ana"]).acknowledge(alerts(store)[0].id)
    assert deliver() == {}


def test_who_has_left_is_told_nothing(
    store: Store, clock: FixedClock, people: dict[str, User], customer: int, deliver: Deliver
) -> None:
    raise_alert(store, clock, customer)
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, people["Mara"].id), {"active": False})
    assert list(deliver()) == ["ana"]


def test_a_name_with_line_breaks_makes_no_headers(
    store: Store, clock: FixedClock, people: dict[str, User], deliver: Deliver
) -> None:
    with store.transaction() as transaction:
        name = "Evil\r\nBcc: all@example.com"
        customer = make_account(transaction, name=name, owner_id=people["Ana"].id).id
    raise_alert(store, clock, customer)
    mail = deliver()["ana"]
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("Evil Bcc: all@example.com: danger")


def test_whoever_an_alert_is_assigned_to_gets_a_mail(
    store: Store, clock: FixedClock, people: dict[str, User], customer: int, deliver: Deliver
) -> None:
    raise_alert(store, clock, customer)
    with store.transaction() as transaction:
        acting = Acting(transaction=transaction, user=people["Ana"])
        acting.assign(alerts(store)[0].id, people["Dana"].id)
    Alerting(store, by_mail=True).run_until_done()
    assert set(deliver()) == {"ana", "mara", "dana"}
