"""Mails that rules send: from a template, with the owner's rights, once, and only to who agreed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from crm_core.errors import CRMError
from crm_core.jobs import Job
from crm_core.mail_templates import Draft, save_template
from crm_core.messages import Message
from crm_core.records import User
from crm_core.saved import Shared
from crm_core.sequences import SequenceRun, Step, Wanted, save_sequence
from crm_core.store import Store
from tests.automation.conftest import Automation, Cast, Write
from tests.factories import make_lead

CREATED = {"kind": "record_created"}


@pytest.fixture
def template(store: Store, cast: Cast) -> int:
    draft = Draft(name="Welcome", subject="Hello {{lead.name}}", body="Welcome.", shared=Shared.ALL)
    with store.transaction() as transaction:
        return save_template(transaction, transaction.session.get_one(User, cast.adam), draft).id


def test_a_mail_goes_to_who_agreed_and_once(
    store: Store, automation: Automation, write: Write, cast: Cast, template: int
) -> None:
    automation.rule("lead", CREATED, {"kind": "mail", "template": template})
    agreed: dict[str, Any] = {"email": "wang@example.com", "consent": "granted", "owner_id": cast.ana}
    willing = write(make_lead, **agreed)
    asked = write(make_lead, email="li@example.com")
    nameless = write(make_lead, consent="granted")
    runs = {run.record_id: run for run in automation.run()}
    assert (runs[willing].outcome, runs[willing].error) == ("done", None)
    assert (runs[asked].outcome, runs[asked].error) == ("failed", "NotWrittenToError")
    assert (runs[nameless].outcome, runs[nameless].error) == ("failed", "InvalidValueError")
    automation.run()
    with store.reading() as session:
        message = session.scalars(select(Message)).one()
        assert (message.to_addresses, message.sender_id) == (["wang@example.com"], cast.ana)
        assert message.subject == "Hello Wang Fang"
        assert session.scalar(select(func.count(Job.id)).where(Job.kind == "mail")) == 1


def test_what_was_given_and_taken_back_fills_nobodys_hands(
    automation: Automation, write: Write, cast: Cast, template: int
) -> None:
    give = {"kind": "assign", "to": [f"user:{cast.ana}"], "most": 1}
    automation.rule("lead", CREATED, give, {"kind": "mail", "template": template})
    write(make_lead, email="li@example.com")  # nobody is written to who did not agree
    willing = write(make_lead, email="wang@example.com", consent="granted")
    full = write(make_lead, email="wu@example.com", consent="granted")
    runs = {run.record_id: run.outcome for run in automation.run()}
    assert (runs[willing], runs[full]) == ("done", "nobody")


def test_a_template_that_is_not_there_is_refused_when_saved(automation: Automation) -> None:
    with pytest.raises(CRMError, match="mail template"):
        automation.save("lead", CREATED, {"kind": "mail", "template": 7})


def test_a_sequence_begins_once_a_person(
    store: Store, automation: Automation, write: Write, cast: Cast, template: int
) -> None:
    wanted = Wanted(name="Welcome", record_type="lead", steps=(Step(template_id=template),))
    with store.transaction() as transaction:
        sequence = save_sequence(transaction, transaction.session.get_one(User, cast.adam), wanted).id
    automation.rule("lead", CREATED, {"kind": "sequence", "sequence": sequence})
    with pytest.raises(CRMError):
        automation.save("contact", CREATED, {"kind": "sequence", "sequence": sequence})
    leads = [write(make_lead, email="wang@example.com", consent="granted") for _ in range(2)]
    assert [run.outcome for run in automation.run()] == ["done", "done"]
    with store.reading() as session:
        assert session.scalars(select(SequenceRun.record_id)).all() == leads[:1]
