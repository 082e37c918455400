"""What sets rules off, what they do then, and that they do it once."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import select, update

from crm_core.automation.following import Follower
from crm_core.automation.kept import AutomationVersion
from crm_core.changes import Change, Source
from crm_core.clock import FixedClock
from crm_core.deals import move_deal
from crm_core.jobs import Job
from crm_core.notifications import Notification
from crm_core.predictions import Prediction
from crm_core.records import Account, Activity, Deal, Lead, Tag, Ticket, User
from crm_core.saving import keep_segment
from crm_core.store import Store
from crm_core.ticket_clocks import change_ticket
from crm_core.tickets import open_ticket
from crm_core.webhooks import WebhookEndpoint
from tests.automation.conftest import Automation, Cast, Write
from tests.conftest import MONDAY
from tests.factories import make_account, make_deal, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures

CREATED = {"kind": "record_created"}


def test_a_new_record_sets_off_a_rule_once(store: Store, automation: Automation, write: Write) -> None:
    before = write(make_lead)
    rule = automation.rule("lead", CREATED)
    lead = write(make_lead)
    write(make_account)
    runs = automation.run()
    assert [(run.rule_id, run.record_id, run.outcome) for run in runs] == [(rule, lead, "done")]
    assert lead != before
    assert automation.run() == runs or len(automation.runs()) == 1
    with store.reading() as session:
        told = session.scalars(select(Notification)).all()
        assert [(one.user_id, one.kind, one.about_id) for one in told] == [
            (automation.admin, "automation", lead)
        ]
        assert told[0].params == {"rule": rule, "version": 1, "action": 0}


def test_a_field_sets_off_a_rule_when_it_gets_the_value(automation: Automation, write: Write) -> None:
    changed = {"kind": "field_changed", "field": "industry", "from": [None], "to": ["Energy"]}
    automation.rule("lead", changed)
    lead = write(make_lead)

    def put(industry: str | None) -> None:
        write(lambda transaction: transaction.update(transaction.get(Lead, lead), {"industry": industry}))

    for industry in ("Steel", "Energy", None, "Energy"):
        put(industry)
    assert [run.record_id for run in automation.run()] == [lead], "from nothing to energy: once of two"


def test_a_stage_is_entered_by_moving_and_by_being_created_there(
    automation: Automation, write: Write
) -> None:
    automation.rule("deal", {"kind": "stage_entered", "stage": "proposal"})
    account = write(make_account)
    moved = write(make_deal, account_id=account)
    born = write(
        lambda transaction: make_deal(
            transaction, account_id=account, stage="proposal", expected_close_on=date(2026, 5, 1)
        )
    )
    write(make_deal)
    write(lambda transaction: move_deal(transaction, transaction.get(Deal, moved), "proposal"))
    write(lambda transaction: move_deal(transaction, transaction.get(Deal, born), "negotiation"))
    assert sorted(run.record_id for run in automation.run()) == [moved, born]


def test_what_imports_bring_sets_off_only_who_asked_for_it(store: Store, automation: Automation) -> None:
    automation.rule("lead", CREATED)
    asked = automation.rule("lead", {**CREATED, "imports": True})
    with store.transaction(source=Source.IMPORT) as transaction:
        make_lead(transaction)
    assert [run.rule_id for run in automation.run()] == [asked]


def test_a_score_sets_off_a_rule_when_it_passes_a_level(
    store: Store, clock: FixedClock, automation: Automation, write: Write
) -> None:
    rises = automation.rule(
        "lead", {"kind": "score_crossed", "task": "lead_scoring", "level": 0.5, "direction": "rises"}
    )
    falls = automation.rule(
        "lead", {"kind": "score_crossed", "task": "lead_scoring", "level": 0.5, "direction": "falls"}
    )
    lead = write(make_lead)
    with store.reading() as session:
        change = session.scalars(select(Change.id).where(Change.record_id == lead)).first()
    said = (0.5, 0.7, 0.4, 0.5, 0.4999)
    for number, probability in enumerate(said):
        clock.advance(timedelta(minutes=1))
        prediction = Prediction(
            task="lead_scoring",
            record_type="lead",
            record_id=lead,
            as_of=clock.now(),
            recorded_at=clock.now(),
            model_version="m-1",
            horizon_days=90,
            probability=probability,
            cause_change_id=change if number == 0 else None,
        )
        with store.transaction(source=Source.MODEL) as transaction:
            transaction.session.add(prediction)
    runs = automation.run(times=4, at_once=2)  # PostgreSQL settles a place at the second look
    assert [run.rule_id for run in runs] == [rises, falls, rises, falls]


def test_conditions_decide_and_may_ask_a_segment(
    store: Store, automation: Automation, write: Write, cast: Cast
) -> None:
    with store.transaction() as transaction:
        admin = transaction.session.get_one(User, cast.adam)
        segment = keep_segment(transaction, admin, "lead", "Energy", ["industry:eq:Energy"], shared="all").id
    automation.rule("lead", CREATED, condition=[f"segment:{segment}", "employees:ge:10"])
    fits = write(make_lead, industry="Energy", employees=10)
    write(make_lead, industry="Energy", employees=9)
    write(make_lead, industry="Steel", employees=10)
    assert [run.record_id for run in automation.run()] == [fits]


def test_actions_are_done_together(store: Store, automation: Automation, write: Write, cast: Cast) -> None:
    automation.rule(
        "lead",
        CREATED,
        {"kind": "assign", "to": [f"user:{cast.ana}"]},
        {"kind": "task", "text": {"en": "Call them", "zh": "致电"}, "amount": 4, "unit": "working_hours"},
        {"kind": "notice", "text": "New lead", "to": ["owner", "manager"]},
        {"kind": "set", "field": "region", "value": "North"},
        {"kind": "tag", "word": "new"},
    )
    lead = write(make_lead)
    run = automation.run()[0]
    assert run.did[0] == {"kind": "assign", "user": cast.ana, "changed": True}
    with store.reading() as session:
        record = session.get_one(Lead, lead)
        assert (record.owner_id, record.region) == (cast.ana, "North")
        task = session.scalars(select(Activity)).one()
        assert (task.kind, task.lead_id, task.owner_id, task.subject) == ("task", lead, cast.ana, "Call them")
        assert task.due_at == record.recorded_at + timedelta(hours=4)
        told = session.scalars(select(Notification.user_id).where(Notification.kind == "automation")).all()
        assert sorted(told) == sorted([cast.ana, cast.mara])
        assert session.scalars(select(Tag.word)).all() == ["new"]
        by_rule = set(session.scalars(select(Change.field).where(Change.source == Source.AUTOMATION)))
        assert by_rule == {"owner_id", "region", None}


def test_one_that_fails_is_undone_alone(store: Store, automation: Automation, write: Write) -> None:
    failing = automation.rule(
        "deal",
        CREATED,
        {"kind": "tag", "word": "lost"},
        {"kind": "set", "field": "stage", "value": "negotiation"},
    )
    working = automation.rule("deal", CREATED, {"kind": "tag", "word": "kept"})
    write(make_deal)  # without an account: the stage asks for one
    runs = {run.rule_id: run for run in automation.run()}
    assert (runs[failing].outcome, runs[failing].error) == ("failed", "MissingFieldsError")
    assert runs[working].outcome == "done"
    with store.reading() as session:
        assert session.scalars(select(Tag.word)).all() == ["kept"]
        assert session.scalars(select(Deal.stage)).all() == ["first_contact"]


def test_a_rule_sees_what_the_rule_before_it_did(automation: Automation, write: Write, cast: Cast) -> None:
    automation.rule("lead", CREATED, {"kind": "assign", "to": [f"user:{cast.ana}"]})
    second = automation.rule("lead", CREATED, condition=[f"owner_id:eq:{cast.ana}"])
    write(make_lead)
    assert [run.rule_id for run in automation.run()][1:] == [second]


def test_webhooks_are_told_of_a_message(
    store: Store, automation: Automation, write: Write, cast: Cast
) -> None:
    with store.transaction() as transaction:
        transaction.session.add(
            WebhookEndpoint(
                name="SMS",
                url="https://example.com",
                event_types=["automation.message"],
                owner_id=cast.adam,
                least_change=0.1,
                secret_salt="s",
                secret_mark="m",
                active=True,
                created_at=transaction.now,
                since_sequence=0,
                since_prediction=0,
                since_promotion=0,
            )
        )
    automation.rule("lead", CREATED, {"kind": "message", "channel": "sms", "text": "Welcome"})
    lead = write(make_lead, phone="+49 30 1")
    automation.run()
    with store.reading() as session:
        job = session.scalars(select(Job)).one()
    assert job.payload["data"]["values"]["phone"] == "+49 30 1"
    assert job.payload["data"]["record_id"] == lead


def test_a_loop_that_nobody_saw_ends_at_a_depth(store: Store, automation: Automation, write: Write) -> None:
    rules = [
        automation.rule("lead", {"kind": "field_changed", "field": "region", "to": [word]}, action)
        for word, action in (
            ("a", {"kind": "set", "field": "region", "value": "b"}),
            ("b", {"kind": "set", "field": "region", "value": "c"}),
        )
    ]
    with store.transaction() as transaction:  # as nobody can save it
        declared = transaction.session.get_one(AutomationVersion, (rules[1], 1)).declared
        declared = {**declared, "actions": [{"kind": "set", "field": "region", "value": "a"}]}
        transaction.session.execute(
            update(AutomationVersion).where(AutomationVersion.rule_id == rules[1]).values(declared=declared)
        )
    lead = write(make_lead)
    write(lambda transaction: transaction.update(transaction.get(Lead, lead), {"region": "a"}))
    runs = automation.run()
    assert [(run.depth, run.outcome) for run in runs] == [
        *((depth, "done") for depth in range(5)),
        (5, "too_deep"),
    ]


def test_a_rule_acts_on_nothing_from_before_it_was_switched_on(automation: Automation, write: Write) -> None:
    rule = automation.rule("lead", CREATED)
    automation.turn(rule, on=False)
    write(make_lead)
    automation.turn(rule, on=True)
    late = write(make_lead)
    assert [run.record_id for run in automation.run()] == [late]


def test_an_idle_store_writes_nothing(store: Store, automation: Automation, write: Write) -> None:
    automation.rule("lead", CREATED)
    write(make_lead)
    automation.run()
    assert Follower(store).run_once() == 0
    with store.reading() as session:
        assert session.scalars(select(Account)).all() == []


def test_a_ticket_that_a_rule_changes_keeps_its_clocks(
    store: Store, automation: Automation, write: Write, clock: FixedClock
) -> None:
    waits = {"kind": "field_changed", "field": "subject", "to": ["Waits"]}
    automation.rule("ticket", waits, {"kind": "set", "field": "status", "value": "pending"})
    pressing = {"kind": "field_changed", "field": "subject", "to": ["Pressing"]}
    automation.rule("ticket", pressing, {"kind": "set", "field": "priority", "value": "urgent"})
    account = write(make_account)
    ids = [
        write(lambda transaction: open_ticket(transaction, Ticket(account_id=account, subject="Leak")))
        for _ in range(2)
    ]
    with store.transaction() as transaction:
        for each, subject in zip(ids, ("Waits", "Pressing"), strict=True):
            change_ticket(transaction, transaction.get(Ticket, each), {"subject": subject})
    automation.run()
    with store.reading() as session:
        waiting, pressed = (session.get_one(Ticket, each) for each in ids)
    assert (waiting.status, waiting.paused_at) == ("pending", clock.now())
    assert pressed.first_due_at == MONDAY + timedelta(hours=1)
    assert pressed.solve_due_at == MONDAY + timedelta(hours=8)
