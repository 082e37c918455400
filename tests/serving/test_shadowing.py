"""A challenger scores beside the champion: unseen, at bounded cost, and harmless whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.predictions import Prediction
from crm_core.promotions import Challenger
from crm_core.records import Lead
from crm_core.shadows import ShadowPrediction
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import Rescorer
from serving.shadowing import Shadowing
from tests.factories import make_activity, make_lead
from tests.serving.hand_made import HandMadeModel
from tests.serving.test_rescoring import run_dry

Promote = Callable[..., HandMadeModel]


@pytest.fixture
def challenger(store: Store) -> HandMadeModel:
    """A model that was named the challenger."""
    with store.transaction() as transaction:
        transaction.session.add(
            Challenger(
                task="lead_scoring",
                model_version="lead_scoring-2",
                sha256="1" * 64,
                run_id="r",
                named_at=transaction.now,
            )
        )
    return HandMadeModel(model_version="lead_scoring-2", probability=lambda record_id: 0.9)


def rescorer_with(
    store: Store, champions: Champions, challenger: HandMadeModel, *, records_a_day: int = 1000
) -> Rescorer:
    shadowing = Shadowing(store=store, load=lambda named: challenger, records_a_day=records_a_day)
    return Rescorer(store, champions, shadowing=shadowing)


def shadows(store: Store) -> list[ShadowPrediction]:
    with store.reading() as session:
        found = list(session.scalars(select(ShadowPrediction).order_by(ShadowPrediction.id)))
        session.expunge_all()
        return found


def make_leads(store: Store, many: int) -> list[int]:
    with store.transaction() as transaction:
        return [make_lead(transaction).id for _ in range(many)]


def test_it_answers_what_the_champion_answered_and_nobody_sees_it(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel
) -> None:
    champion = promote(probability=lambda record_id: 0.2)
    ids = make_leads(store, 3)
    assert run_dry(rescorer_with(store, champions, challenger)) == 3
    found = shadows(store)
    assert [row.record_id for row in found] == ids
    assert {(row.probability, row.champion_probability) for row in found} == {(0.9, 0.2)}
    assert {(row.model_version, row.champion_version) for row in found} == {
        ("lead_scoring-2", champion.model_version)
    }
    assert {row.as_of for row in found} == {as_of for _, as_of in champion.asked}
    with store.reading() as session:
        assert set(session.scalars(select(Lead.probability))) == {0.2}
        assert set(session.scalars(select(Prediction.model_version))) == {champion.model_version}


def test_a_change_is_answered_by_both(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel, clock: FixedClock
) -> None:
    promote()
    ids = make_leads(store, 2)
    rescorer = rescorer_with(store, champions, challenger)
    run_dry(rescorer)
    clock.advance(timedelta(minutes=5))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=ids[1])
    rescorer.run_once()
    assert [row.record_id for row in shadows(store)] == [*ids, ids[1]]


def test_it_costs_no_more_than_was_set_and_takes_others_every_day(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel, clock: FixedClock
) -> None:
    promote()
    ids = make_leads(store, 200)
    rescorer = rescorer_with(store, champions, challenger, records_a_day=20)
    run_dry(rescorer)
    first = {row.record_id for row in shadows(store)}
    assert 5 <= len(first) <= 20
    assert max(first) > ids[100], "not only those with the lowest ids"
    clock.advance(timedelta(days=1))
    run_dry(rescorer)
    second = {row.record_id for row in shadows(store)} - first
    assert len(second) >= 5
    assert sum(len(asked) for asked, _ in challenger.asked) <= 40


def test_it_can_be_switched_off(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel
) -> None:
    promote()
    make_leads(store, 3)
    run_dry(rescorer_with(store, champions, challenger, records_a_day=0))
    assert challenger.asked == []
    assert shadows(store) == []


def test_a_challenger_that_fails_holds_up_nothing_and_is_asked_again_the_next_day(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel, clock: FixedClock
) -> None:
    promote()
    ids = make_leads(store, 3)
    challenger.probability = lambda record_id: 1 / 0
    rescorer = rescorer_with(store, champions, challenger)
    assert run_dry(rescorer) == 3
    assert rescorer.failures == []
    clock.advance(timedelta(minutes=5))
    with store.transaction() as transaction:
        make_activity(transaction, lead_id=ids[0])
    assert rescorer.run_once() == 1
    assert len(challenger.asked) == 1, "left alone after its first failure"
    challenger.probability = lambda record_id: 0.9
    clock.advance(timedelta(days=1))
    assert run_dry(rescorer) == 3
    assert len(shadows(store)) == 3


def test_a_challenger_that_cannot_be_loaded_holds_up_nothing(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel
) -> None:
    loads: list[int] = []

    def load(named: Challenger) -> HandMadeModel:
        loads.append(named.id)
        raise OSError("no such file")

    promote()
    make_leads(store, 5)
    shadowing = Shadowing(store=store, load=load, records_a_day=100)
    assert run_dry(Rescorer(store, champions, records_at_once=2, swept_at_once=2, shadowing=shadowing)) == 5
    assert len(loads) == 1


def test_once_promoted_it_is_no_challenger_any_more(
    store: Store, champions: Champions, promote: Promote, challenger: HandMadeModel, clock: FixedClock
) -> None:
    promote()
    make_leads(store, 2)
    rescorer = rescorer_with(store, champions, challenger)
    run_dry(rescorer)
    with store.transaction() as transaction:
        row = transaction.session.scalars(select(Challenger)).one()
        row.sha256 = "0" * 64  # as the hand-made promotion has it
    clock.advance(timedelta(days=1))
    asked = len(challenger.asked)
    promote(version="lead_scoring-2")
    run_dry(rescorer)
    assert len(challenger.asked) == asked
