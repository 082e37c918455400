"""Webhooks tell other systems what their owner may see, once, signed, and until they took it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from crm_core.access import FieldRight
from crm_core.changes import Cursor, Source
from crm_core.clock import FixedClock, SystemClock
from crm_core.deals import close_deal, move_deal
from crm_core.jobs import Job, JobState, list_jobs
from crm_core.leads import convert_lead
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.record_types import declare_record_type
from crm_core.records import Account, CustomRecord, Deal, Lead, User
from crm_core.store import Store
from crm_core.webhook_events import CURSOR, EventFollower
from crm_core.webhooks import WEBHOOK, WebhookEndpoint, emit, get_endpoint
from serving.app import create_app
from serving.job_handlers import FORGOTTEN, SCHEDULES, handlers
from serving.jobs import JobRunner
from serving.outbound import OutboundClient
from serving.settings import Settings
from serving.webhooks import Deliverer, read_retry_after
from tests.factories import make_account, make_deal, make_lead
from tests.serving.conftest import Cast
from tests.serving.listening import Listener, listening
from tests.serving.test_bad_input import BAD, check_problem

API = "/api/v1/webhooks"


class Ended(BaseException):
    """The process was killed."""


@pytest.fixture
def clock() -> FixedClock:
    """The time of the machine, by which receivers check how old a message is."""
    return FixedClock(SystemClock().now())


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as made:
        yield made


@pytest.fixture
def settings(home: Any) -> Settings:
    return Settings(home=home, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8")


@pytest.fixture
def app(settings: Settings, store: Store) -> Flask:
    return create_app(settings, store)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make(client: FlaskClient, cast: Cast, listener: Listener) -> Callable[..., dict[str, Any]]:
    """Make a webhook that leads to the listener."""

    def make_webhook(*event_types: str, **given: Any) -> dict[str, Any]:
        body = {"name": "Warehouse", "url": listener.url, "event_types": event_types or ("*",), **given}
        made = client.post(API, json=body, headers=cast.header("Adam"))
        assert made.status_code == 201, made.get_json()
        return dict(made.get_json())

    return make_webhook


@pytest.fixture
def run(store: Store, settings: Settings) -> Callable[[], None]:
    """Find events and deliver what is due."""
    follower = EventFollower(store)
    runner = JobRunner(store, handlers(settings), schedules=SCHEDULES, forgotten=FORGOTTEN, at_once=20)

    def run_all() -> None:
        while follower.run_once():
            pass
        while runner.run_once():
            pass

    return run_all


def told(listener: Listener) -> list[tuple[str, dict[str, Any]]]:
    bodies = [json.loads(received.body) for received in listener.received]
    return [(body["type"], body["data"]) for body in bodies]


def types(listener: Listener) -> list[str]:
    return sorted(event_type for event_type, _ in told(listener))


def deliveries(store: Store) -> list[Job]:
    with store.reading() as session:
        return list(list_jobs(session, kind=WEBHOOK, limit=1000))


# ---------------------------------------------------------------------------------- what is told


def test_a_new_lead_is_told_by_its_id_and_signed(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    webhook = make("lead.created")
    with store.transaction(source=Source.API) as transaction:
        lead = make_lead(transaction)
    run()
    (received,) = listener.received
    body = Webhook(webhook["secret"]).verify(received.body, received.headers)
    assert (body["type"], body["data"]["record_type"], body["data"]["record_id"]) == (
        "lead.created",
        "lead",
        lead.id,
    )
    assert body["data"]["source"] == "api"
    assert b"Wang Fang" not in received.body, "it names the record, and nothing that the record says"
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook["secret"]).verify(received.body + b" ", received.headers)


def test_an_update_names_the_fields_that_changed(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    make("lead.updated")
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"title": "Buyer", "phone": "+49 30 1"})
    run()
    ((_, data),) = told(listener)
    assert sorted(data["fields"]) == ["phone", "title"]


def test_a_deal_tells_of_its_stages_and_its_end(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        won, lost = make_deal(transaction), make_deal(transaction)
    make("deal.stage_changed", "deal.won", "deal.lost")
    with store.transaction() as transaction:
        move_deal(transaction, transaction.get(Deal, won.id), "needs")
        transaction.update(transaction.get(Deal, won.id), {"amount": Decimal("99.5")})
        close_deal(transaction, transaction.get(Deal, won.id), won=True, as_it_was=True)
        close_deal(transaction, transaction.get(Deal, lost.id), won=False, lost_reason="price")
    run()
    by_type = dict(told(listener))
    moves = [
        (data["from"], data["to"]) for event_type, data in told(listener) if event_type.endswith("_changed")
    ]
    assert sorted(moves) == [("first_contact", "needs"), ("needs", "contract")]
    assert (by_type["deal.won"]["amount"], by_type["deal.won"]["currency"]) == ("99.5", "EUR")
    assert by_type["deal.lost"]["lost_reason"] == "price"


def test_a_conversion_tells_what_the_lead_became(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    make("lead.converted", "account.created")
    with store.transaction() as transaction:
        made = convert_lead(transaction, transaction.get(Lead, lead.id))
    run()
    by_type = dict(told(listener))
    assert (
        by_type["lead.converted"]["account_id"] == made.account.id == by_type["account.created"]["record_id"]
    )


def test_a_deletion_is_told_of_a_record_that_is_there_no_more(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    make("lead.*")
    with store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, lead.id))
    run()
    assert types(listener) == ["lead.deleted"]


def test_records_of_declared_types_are_told_under_their_own_name(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        kind = declare_record_type(transaction.session, name="project", label_en="Project", label_zh="项目")
    make("project.*")
    with store.transaction() as transaction:
        transaction.create(CustomRecord(type_id=kind.id, name="Mill"))
    run()
    assert types(listener) == ["project.created"]


def test_what_was_before_the_webhook_is_not_told(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)
    make("*")
    run()
    assert listener.received == []


def test_what_an_import_brings_is_not_told_one_by_one(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    make("*")
    with store.transaction(source=Source.IMPORT) as transaction:
        make_lead(transaction)
    run()
    assert listener.received == []


# ---------------------------------------------------------------------------------- who may know


def test_only_what_the_owner_may_see_is_told(
    store: Store, make: Callable[..., dict[str, Any]], cast: Cast, listener: Listener, run: Callable[[], None]
) -> None:
    make("deal.*", owner_id=cast["Ana"].id)
    with store.transaction() as transaction:
        mine = make_deal(transaction, owner_id=cast["Ana"].id)
        make_deal(transaction, owner_id=cast["Ben"].id)
    run()
    assert [data["record_id"] for _, data in told(listener)] == [mine.id]


def test_fields_that_are_hidden_from_the_owner_are_neither_named_nor_told(
    store: Store, make: Callable[..., dict[str, Any]], cast: Cast, listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id)
        for field in ("amount", "stage"):
            transaction.session.add(
                FieldRight(role="rep", record_type="deal", field=field, read=False, write=False)
            )
    make("deal.*", owner_id=cast["Ana"].id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal.id), {"amount": Decimal(1), "name": "Pumps"})
        move_deal(transaction, transaction.get(Deal, deal.id), "needs")
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal.id), {"amount": Decimal(2)})
        close_deal(transaction, transaction.get(Deal, deal.id), won=True, as_it_was=True)
    run()
    by_type = dict(told(listener))
    assert "deal.stage_changed" not in by_type
    assert {name for _, data in told(listener) for name in data.get("fields", ())}.isdisjoint(
        {"amount", "stage"}
    )
    assert "amount" not in by_type["deal.won"]


def test_a_right_that_was_withdrawn_holds_for_what_is_on_its_way(
    store: Store, make: Callable[..., dict[str, Any]], cast: Cast, listener: Listener, run: Callable[[], None]
) -> None:
    make("deal.created", owner_id=cast["Ana"].id)
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id)
    EventFollower(store).run_once()
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal.id), {"owner_id": cast["Ben"].id})
    run()
    assert listener.received == []
    assert "may not see" in (deliveries(store)[-1].last_error or "")


def test_a_webhook_whose_owner_left_is_turned_off(
    store: Store, make: Callable[..., dict[str, Any]], cast: Cast, listener: Listener, run: Callable[[], None]
) -> None:
    webhook = make("lead.created", owner_id=cast["Ben"].id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, cast["Ben"].id), {"active": False})
        make_lead(transaction)
    run()
    assert listener.received == []
    with store.reading() as session:
        endpoint = get_endpoint(session, webhook["id"])
    assert (endpoint.active, "may not work here" in (endpoint.disabled_reason or "")) == (False, True)


# ---------------------------------------------------------------------------------- scores, alerts, models


def say(store: Store, account: Account, probability: float, grade: str = "B") -> None:
    with store.transaction(source=Source.MODEL) as transaction:
        write_predictions(
            transaction,
            task="churn",
            record_type="account",
            as_of=transaction.now,
            model_version="churn-1",
            horizon_days=90,
            predictions=[
                NewPrediction(record_id=account.id, probability=probability, score=1, grade=grade, reasons=[])
            ],
        )


def test_a_score_is_told_when_it_moved_far_enough_or_the_grade_changed(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
    make("prediction.changed")
    for probability, grade in ((0.30, "B"), (0.35, "B"), (0.50, "B"), (0.51, "A"), (0.52, "A")):
        clock.advance(timedelta(minutes=1))
        say(store, account, probability, grade)
    run()
    found = [(data["previous_probability"], data["probability"], data["grade"]) for _, data in told(listener)]
    assert sorted(found) == [(0.35, 0.5, "B"), (0.5, 0.51, "A")]
    assert {data["record_id"] for _, data in told(listener)} == {account.id}


def test_a_score_is_not_told_to_those_who_may_not_see_scores(
    store: Store,
    make: Callable[..., dict[str, Any]],
    cast: Cast,
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        transaction.session.add(
            FieldRight(role="rep", record_type="account", field="probability", read=False, write=False)
        )
    make("prediction.changed", owner_id=cast["Ana"].id)
    for probability in (0.1, 0.9):
        clock.advance(timedelta(minutes=1))
        say(store, account, probability)
    run()
    assert listener.received == []


def test_a_flood_of_scores_is_left_out_and_not_told_one_by_one(
    store: Store, make: Callable[..., dict[str, Any]], clock: FixedClock
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
    make("prediction.changed")
    for number in range(6):
        clock.advance(timedelta(minutes=1))
        say(store, account, number / 10)
    left: list[int] = []
    follower = EventFollower(store, backlog=5, left_out=left.append)
    while follower.run_once():
        pass
    assert (left, deliveries(store)) == ([6], [])


def test_a_promotion_is_told(
    make: Callable[..., dict[str, Any]],
    promote: Callable[..., Any],
    listener: Listener,
    run: Callable[[], None],
) -> None:
    make("model.promoted")
    promote("churn", "churn-7")
    run()
    ((_, data),) = told(listener)
    assert (data["task"], data["model_version"]) == ("churn", "churn-7")


def test_what_others_emit_is_told_once_and_only_if_they_commit(
    store: Store, make: Callable[..., dict[str, Any]], cast: Cast, listener: Listener, run: Callable[[], None]
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id)
        transaction.session.add(
            FieldRight(role="rep", record_type="account", field="probability", read=False, write=False)
        )
    make("alert.raised", owner_id=cast["Ana"].id)
    make("alert.raised")
    data = {
        "record_type": "account",
        "record_id": account.id,
        "level": "high",
        "values": {"probability": 0.7, "name": "Hill & Sons"},
        "reasons": [{"group": "orders", "log_odds": 1.0, "en": "a", "zh": "b", "fields": ["account.name"]}],
    }
    for undone in (True, False, False):
        with store.transaction() as transaction:
            emit(transaction.session, "alert.raised", data, key="alert-1", now=transaction.now)
            if undone:
                transaction.session.rollback()
    run()
    (few, many) = sorted((data for _, data in told(listener)), key=lambda data: len(data["values"]))
    assert (few["values"], few["reasons"], few["level"]) == ({"name": "Hill & Sons"}, [], "high")
    assert (many["values"]["probability"], len(many["reasons"])) == (0.7, 1)


def test_what_nobody_asked_for_makes_no_job(store: Store, make: Callable[..., dict[str, Any]]) -> None:
    make("lead.created")
    with store.transaction() as transaction:
        assert emit(transaction.session, "alert.raised", {}, key="a", now=transaction.now) is None
    with store.reading() as session:
        assert list_jobs(session) == []


# ---------------------------------------------------------------------------------- once, whatever happens


def test_two_followers_and_one_that_dies_tell_each_event_once(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    make("lead.created")
    make("lead.created")
    for _ in range(4):
        with store.transaction() as transaction:
            make_lead(transaction)

    def die(checkpoint: str) -> None:
        if checkpoint == "told":
            raise Ended

    with pytest.raises(Ended):
        EventFollower(store, checkpoint=die, at_once=1).run_once()
    assert deliveries(store) == [], "what was found goes with the cursor that did not move"
    followers = [EventFollower(store, at_once=1), EventFollower(store, at_once=2)]
    while sum(follower.run_once() for follower in followers):
        pass
    with store.transaction() as transaction:
        transaction.session.get_one(Cursor, CURSOR).position = 0
    run()
    assert len(listener.received) == 8
    assert len({received.headers["webhook-id"] for received in listener.received}) == 4


# ---------------------------------------------------------------------------------- deliveries


def created(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)


def test_a_delivery_is_tried_by_the_schedule_with_the_same_id_and_body(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    make("lead.created")
    created(store)
    listener.status = 500
    run()
    pauses = []
    while deliveries(store)[0].state == JobState.WAITING:
        pauses.append((deliveries(store)[0].run_at - clock.now()).total_seconds())
        clock.set(deliveries(store)[0].run_at)
        run()
    minutes = [1 / 12, 5, 30, 120, 300, 600, 840, 1200, 1440]
    assert len(pauses) == len(minutes)
    assert all(0.8 * m * 60 <= pause <= 1.2 * m * 60 for m, pause in zip(minutes, pauses, strict=True))
    assert {(each.headers["webhook-id"], each.body) for each in listener.received} == {
        (listener.received[0].headers["webhook-id"], listener.received[0].body)
    }
    assert len({each.headers["webhook-timestamp"] for each in listener.received}) == 10
    (job,) = deliveries(store)
    assert (job.state, job.attempts, job.last_error) == ("dead", 10, "JobError: answered 500")


def test_a_receiver_that_recovers_gets_what_it_missed(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook = make("lead.created")
    created(store)
    listener.status = 503
    run()
    with store.reading() as session:
        assert get_endpoint(session, webhook["id"]).failing_since == clock.now()
    listener.status = 204
    clock.advance(timedelta(seconds=10))
    run()
    with store.reading() as session:
        assert get_endpoint(session, webhook["id"]).failing_since is None
    assert deliveries(store)[0].state == "done"
    body = Webhook(webhook["secret"]).verify(listener.received[1].body, listener.received[1].headers)
    assert body["type"] == "lead.created"


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_only_2xx_is_a_success_and_nothing_is_followed(
    store: Store,
    make: Callable[..., dict[str, Any]],
    listener: Listener,
    run: Callable[[], None],
    status: int,
) -> None:
    make("lead.created")
    created(store)
    listener.status, listener.headers = status, {"Location": listener.url + "/elsewhere"}
    run()
    assert (len(listener.received), deliveries(store)[0].state) == (1, "waiting")


def test_a_receiver_may_ask_to_be_left_alone(
    store: Store,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    make("lead.created")
    created(store)
    listener.status, listener.headers = 429, {"Retry-After": "3600"}
    run()
    assert deliveries(store)[0].run_at == clock.now() + timedelta(hours=1)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("60", 60),
        ("99999999999999", 86_400),
        ("-5", None),
        ("soon", None),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 0),
        ("Mon, 01 Jan 2525 00:00:00 GMT", 86_400),
        ("Mon, 01 Jan 2525 00:00:00", None),
        ("٦٠", None),
    ],
)
def test_what_an_answer_asks_for_is_believed_within_reason(
    clock: FixedClock, said: str | None, seconds: int | None
) -> None:
    found = read_retry_after(said, clock.now())
    assert found == (None if seconds is None else timedelta(seconds=seconds))


def test_a_receiver_that_takes_too_long_is_tried_again(
    store: Store, settings: Settings, make: Callable[..., dict[str, Any]], listener: Listener
) -> None:
    make("lead.created")
    created(store)
    EventFollower(store).run_once()
    listener.status, listener.body, listener.drip_seconds = 200, b"x" * 1000, 0.02
    JobRunner(store, {WEBHOOK: Deliverer(settings, timeout_seconds=0.2)}).run_once()
    (job,) = deliveries(store)
    assert (job.state, "in time" in (job.last_error or "")) == ("waiting", True)


def test_an_endless_answer_of_success_is_a_success_and_is_not_read_to_its_end(
    store: Store, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    make("lead.created")
    created(store)
    listener.status, listener.body = 200, b"x" * 10_000_000
    run()
    assert deliveries(store)[0].state == "done"


def test_410_turns_the_webhook_off(
    store: Store,
    client: FlaskClient,
    cast: Cast,
    make: Callable[..., dict[str, Any]],
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook = make("lead.created")
    created(store)
    listener.status = 410
    run()
    shown = client.get(f"{API}/{webhook['id']}", headers=cast.header("Adam")).get_json()
    assert (shown["active"], "410" in shown["disabled_reason"]) == (False, True)
    created(store)
    run()
    assert len(listener.received) == 1
    parts = {part["name"]: part for part in client.get("/readyz").get_json()["parts"]}
    assert parts["webhooks"]["ok"] is False


def test_a_webhook_that_took_nothing_for_days_is_turned_off_and_its_owner_told(
    store: Store,
    settings: Settings,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
) -> None:
    webhook = make("lead.created")
    mailing = settings.model_copy(update={"smtp_host": "mail.example", "mail_from": "crm@example.com"})
    runner = JobRunner(store, {WEBHOOK: Deliverer(mailing)}, schedules=SCHEDULES, at_once=10)
    listener.status = 500
    for _ in range(7):
        created(store)
        EventFollower(store).run_once()
        runner.run_once()
        clock.advance(timedelta(days=1))
    with store.reading() as session:
        endpoint = get_endpoint(session, webhook["id"])
        (mail,) = list_jobs(session, kind="mail")
    assert (endpoint.active, "5 days" in (endpoint.disabled_reason or "")) == (False, True)
    assert (mail.payload["to"], "Warehouse" in mail.payload["subject"]) == ("adam@example.com", True)


def test_an_address_that_leads_to_us_by_now_is_not_sent_to(
    store: Store, settings: Settings, make: Callable[..., dict[str, Any]], listener: Listener
) -> None:
    make("lead.created")
    created(store)
    EventFollower(store).run_once()
    client = OutboundClient(allow_http=True)
    JobRunner(store, {WEBHOOK: Deliverer(settings, client=client)}).run_once()
    assert listener.received == []
    assert "not public" in (deliveries(store)[0].last_error or "")


# ---------------------------------------------------------------------------------- secrets


def test_for_a_day_both_secrets_fit_and_then_only_the_new_one(
    store: Store,
    client: FlaskClient,
    cast: Cast,
    make: Callable[..., dict[str, Any]],
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook = make("lead.created")
    rotated = client.post(f"{API}/{webhook['id']}/rotate-secret", headers=cast.header("Adam")).get_json()
    old, new = Webhook(webhook["secret"]), Webhook(rotated["secret"])
    created(store)
    run()
    (first,) = listener.received
    assert old.verify(first.body, first.headers) == new.verify(first.body, first.headers)
    assert len(first.headers["webhook-signature"].split()) == 2
    clock.advance(timedelta(hours=25))
    created(store)
    run()
    second = listener.received[-1]
    assert len(second.headers["webhook-signature"].split()) == 1
    headers = {**second.headers, "webhook-timestamp": second.headers["webhook-timestamp"]}
    signed = new.sign(headers["webhook-id"], clock.now(), second.body.decode())
    assert headers["webhook-signature"] == signed


def test_a_secret_is_neither_in_the_database_nor_told_again(
    store: Store, client: FlaskClient, cast: Cast, make: Callable[..., dict[str, Any]]
) -> None:
    webhook = make()
    assert webhook["secret"].startswith("whsec_")
    with store.reading() as session:
        row = session.scalars(select(WebhookEndpoint)).one()
        held = [str(getattr(row, column.key)) for column in WebhookEndpoint.__table__.columns]
    assert not any(webhook["secret"].removeprefix("whsec_") in value for value in held)
    for path in (API, f"{API}/{webhook['id']}"):
        assert "secret" not in client.get(path, headers=cast.header("Adam")).get_data(as_text=True)


def test_with_another_installations_secrets_nothing_is_sent_that_would_not_fit(
    store: Store, home: Any, make: Callable[..., dict[str, Any]], listener: Listener, run: Callable[[], None]
) -> None:
    make("lead.created")
    created(store)
    EventFollower(store).run_once()
    (home / "secrets.json").write_text(json.dumps({"session": "another"}))
    settings = Settings(home=home, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8")
    JobRunner(store, {WEBHOOK: Deliverer(settings)}).run_once()
    assert listener.received == []
    assert "secrets.json" in (deliveries(store)[0].last_error or "")


# ---------------------------------------------------------------------------------- over HTTP


def test_administrators_look_after_webhooks(
    store: Store,
    client: FlaskClient,
    cast: Cast,
    make: Callable[..., dict[str, Any]],
    listener: Listener,
    run: Callable[[], None],
) -> None:
    webhook, adam = make("deal.won"), cast.header("Adam")
    path = f"{API}/{webhook['id']}"
    changed = client.patch(path, json={"name": "Shop", "event_types": ["lead.*"]}, headers=adam).get_json()
    assert (changed["name"], changed["event_types"], changed["url"]) == ("Shop", ["lead.*"], listener.url)
    assert client.patch(path, json={"active": False}, headers=adam).get_json()["active"] is False
    created(store)
    run()
    assert client.patch(path, json={"active": True}, headers=adam).get_json()["active"] is True
    run()
    assert listener.received == [], "what happened while it was off is not told"
    assert client.post(f"{path}/test", headers=adam).status_code == 202
    run()
    assert types(listener) == ["webhook.test"]
    page = client.get(f"{path}/deliveries", headers=adam).get_json()
    (delivery,) = page["items"]
    assert (delivery["type"], delivery["state"], delivery["attempts"]) == ("webhook.test", "done", 1)
    assert delivery["content"] == json.loads(listener.received[0].body)
    again = client.post(f"{path}/deliveries/{delivery['id']}/redeliver", headers=adam)
    assert again.status_code == 202
    run()
    assert len({received.headers["webhook-id"] for received in listener.received}) == 1
    assert len(listener.received) == 2
    assert client.delete(path, headers=adam).status_code == 204
    assert client.get(path, headers=adam).status_code == 404
    assert client.get(API, headers=adam).get_json() == {"items": []}


def test_every_event_type_is_listed(client: FlaskClient, cast: Cast) -> None:
    listed = client.get(f"{API}/event-types", headers=cast.header("Adam")).get_json()["items"]
    assert {"lead.created", "deal.won", "alert.raised", "model.promoted", "order.deleted"} <= set(listed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://10.0.0.1/"},
        {"url": "ftp://example.com/"},
        {"url": "https://user@example.com/"},
        {"event_types": []},
        {"event_types": ["lead.exploded"]},
        {"event_types": ["*.created"]},
        {"event_types": ["lead.created\x00"]},
        {"name": ""},
        {"name": "\x00"},
        {"owner_id": 10_000},
        {"least_change": 2},
        {"secret": "mine"},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(client: FlaskClient, cast: Cast, wrong: dict[str, Any]) -> None:
    body = {"name": "x", "url": "https://example.com/", "event_types": ["*"], **wrong}
    assert client.post(API, json=body, headers=cast.header("Adam")).status_code == 422


def test_hostile_bodies_change_nothing(
    client: FlaskClient, store: Store, cast: Cast, make: Callable[..., dict[str, Any]]
) -> None:
    path = f"{API}/{make()['id']}"
    before = client.get(API, headers=cast.header("Adam")).get_json()
    for bad in (each for each in BAD if each.body is not None):
        content_type = {"content_type": bad.content_type} if bad.content_type else {}
        for answer in (
            client.post(API, data=bad.body, headers=cast.header("Adam"), **content_type),
            client.patch(path, data=bad.body, headers=cast.header("Adam"), **content_type),
        ):
            check_problem(answer, bad.status, bad.slug)
    hostile: tuple[Any, ...] = (
        7,
        "",
        "\u0000",
        "x" * 100_000,
        [],
        {},
        True,
        10**30,
        -1,
        [None],
        [[]],
        "\u202e",
    )
    for field in ("name", "url", "event_types", "owner_id", "least_change", "active"):
        for value in hostile:
            if (field, value) in [("active", True), ("name", "\u202e")]:
                continue
            answer = client.patch(path, json={field: value}, headers=cast.header("Adam"))
            assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), (
                field,
                value,
            )
    assert client.get(API, headers=cast.header("Adam")).get_json() == before


@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana"])
def test_nobody_else_may(
    client: FlaskClient, cast: Cast, make: Callable[..., dict[str, Any]], name: str
) -> None:
    path = f"{API}/{make()['id']}"
    body = {"name": "x", "url": "https://example.com/", "event_types": ["*"]}
    calls = [
        ("get", API, None),
        ("post", API, body),
        ("get", f"{API}/event-types", None),
        ("get", path, None),
        ("patch", path, {"name": "y"}),
        ("delete", path, None),
        ("post", f"{path}/test", None),
        ("post", f"{path}/rotate-secret", None),
        ("get", f"{path}/deliveries", None),
        ("post", f"{path}/deliveries/1/redeliver", None),
    ]
    found = [
        getattr(client, how)(to, json=sent, headers=cast.header(name)).status_code for how, to, sent in calls
    ]
    assert found == [403] * len(calls)
