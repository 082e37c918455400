"""Webhooks tell other systems what their owner may see, once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from crm_core.access import FieldRight
from crm_core.changes import Cursor, Source
from crm_core.clock import FixedClock
from crm_core.deals import close_deal, move_deal
from crm_core.jobs import list_jobs
from crm_core.leads import convert_lead
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.record_types import declare_record_type
from crm_core.records import Account, CustomRecord, Deal, Lead, User
from crm_core.store import Store
from crm_core.webhook_events import CURSOR, EventFollower
from crm_core.webhooks import emit, get_endpoint
from tests.factories import make_account, make_deal, make_lead
from tests.serving.conftest import Cast
from tests.serving.hooked import *  # noqa: F403  the fixtures, and what was told
from tests.serving.hooked import deliveries, told, types
from tests.serving.listening import Listener


class Ended(BaseException):
    """The process was killed."""


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


def test_a_field_that_was_hidden_meanwhile_is_left_out_of_what_is_on_its_way(
    store: Store,
    make: Callable[..., dict[str, Any]],
    cast: Cast,
    clock: FixedClock,
    listener: Listener,
    run: Callable[[], None],
) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id, amount=Decimal(5))
    make("deal.*", owner_id=cast["Ana"].id)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal.id), {"amount": Decimal(7), "name": "Pumps"})
        move_deal(transaction, transaction.get(Deal, deal.id), "needs")
    with store.transaction() as transaction:
        close_deal(transaction, transaction.get(Deal, deal.id), won=True, as_it_was=True)
    listener.status = 503
    run()
    before = told(listener)
    assert {"amount", "stage"} < {field for _, data in before for field in data.get("fields", ())}
    assert dict(before)["deal.won"]["amount"] == "7"
    listener.received.clear()
    with store.transaction() as transaction:
        for field in ("amount", "stage"):
            hidden = FieldRight(role="rep", record_type="deal", field=field, read=False, write=False)
            transaction.session.add(hidden)
    listener.status = 204
    clock.advance(timedelta(seconds=10))
    run()
    after = told(listener)
    assert {type_ for type_, _ in after} == {"deal.updated", "deal.won"}
    fields = {field for _, data in after for field in data["fields"]}
    assert "name" in fields
    assert fields.isdisjoint({"amount", "stage"})
    assert "amount" not in dict(after)["deal.won"]


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
