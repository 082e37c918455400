"""Challenger beside champion on the same records: alike now, and right once outcomes are known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select

from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.errors import ModelNotFoundError
from crm_core.opting_out import set_scoring_opt_out
from crm_core.promotions import Challenger, Promotion, find_challenger
from crm_core.records import Lead
from crm_core.shadows import (
    KEPT_DAYS,
    Match,
    Shadow,
    ShadowPrediction,
    count_shadows,
    purge_shadows,
    write_shadows,
)
from crm_core.store import Store
from models.shadowing import ShadowReport, compare_shadows
from tests.conftest import MONDAY
from tests.crm_core.conftest import database, store  # noqa: F401  fixtures
from tests.factories import make_lead

TASK, MANY = "lead_scoring", 400
CHANCE = np.linspace(0.02, 0.9, MANY)


def name_both(opened: Store) -> None:
    row = {"task": TASK, "run_id": "r"}
    now = opened.clock.now()
    with opened.transaction() as transaction:
        transaction.session.add(
            Promotion(**row, model_version="old", sha256="0" * 64, promoted_at=now, reason="x")
        )
        transaction.session.add(Challenger(**row, model_version="new", sha256="1" * 64, named_at=now))


def ask_both(opened: Store, ids: list[int], *, mine: np.ndarray, theirs: np.ndarray) -> int:
    shadows = [
        Shadow(
            record_id=record_id,
            probability=own,
            champion_probability=other,
            grade="ABCD"[int(own * 4)],
            champion_grade="ABCD"[int(other * 4)],
        )
        for record_id, own, other in zip(ids, mine.tolist(), theirs.tolist(), strict=True)
    ]
    match = Match(
        task=TASK,
        record_type="lead",
        as_of=opened.clock.now(),
        horizon_days=90,
        challenger="new",
        champion="old",
    )
    with opened.transaction() as transaction:
        return write_shadows(transaction, match, shadows)


@pytest.fixture
def ids(store: Store) -> list[int]:  # noqa: F811  the fixture
    """Open leads, and a challenger beside a champion."""
    name_both(store)
    with store.transaction(source=Source.IMPORT) as transaction:
        return transaction.create_many(Lead, [{"company": f"Firm {number}"} for number in range(MANY)])


def convert_some(opened: Store, ids: list[int]) -> None:
    random = np.random.default_rng(4)
    assert isinstance(opened.clock, FixedClock)
    opened.clock.advance(timedelta(days=60))
    won = [i for i, chance in zip(ids, CHANCE, strict=True) if random.random() < chance]
    when = opened.clock.now()
    values = {"status": "converted", "converted_at": when}
    with opened.transaction() as transaction:
        transaction.update_many(Lead, [Update(record_id=i, values=values) for i in won])


def report(opened: Store) -> ShadowReport:
    return compare_shadows(opened, TASK)


def test_now_it_tells_how_alike_they_are(store: Store, ids: list[int]) -> None:  # noqa: F811  fixtures
    assert ask_both(store, ids, mine=CHANCE, theirs=CHANCE[::-1] * 0.5 + 0.05) == MANY
    found = report(store)
    assert (found.questions, found.records, found.matured, found.gain) == (MANY, MANY, 0, None)
    assert found.rank_correlation == pytest.approx(-1.0)
    assert found.mean_difference == pytest.approx(float((CHANCE - (CHANCE[::-1] * 0.5 + 0.05)).mean()))
    assert found.grades_changed is not None
    assert 0.5 < found.grades_changed < 1


def test_once_their_time_is_over_it_tells_who_was_right(store: Store, ids: list[int]) -> None:  # noqa: F811  fixtures
    ask_both(store, ids, mine=CHANCE, theirs=np.full(MANY, CHANCE.mean()))
    convert_some(store, ids)
    assert report(store).matured == 0, (
        "what was converted early is not counted before the others' time is over"
    )
    assert isinstance(store.clock, FixedClock)
    store.clock.advance(timedelta(days=31))
    found = report(store)
    assert found.matured == MANY
    assert 0.35 < found.outcomes / MANY < 0.57
    assert found.gain is not None
    assert found.gain.low > 0.05


def test_only_the_newest_question_of_a_record_says_how_alike_they_are(
    store: Store,  # noqa: F811  the fixture
    ids: list[int],
) -> None:
    ask_both(store, ids, mine=CHANCE, theirs=CHANCE[::-1])
    assert isinstance(store.clock, FixedClock)
    store.clock.advance(timedelta(days=1))
    ask_both(store, ids, mine=CHANCE, theirs=CHANCE)
    found = report(store)
    assert (found.questions, found.records) == (2 * MANY, MANY)
    assert found.rank_correlation == pytest.approx(1.0)


def test_asking_twice_keeps_one_answer_and_nothing_of_who_opted_out(
    store: Store,  # noqa: F811  the fixture
    ids: list[int],
) -> None:
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, ids[0]), opted_out=True)
    assert ask_both(store, ids, mine=CHANCE, theirs=CHANCE) == MANY - 1
    assert ask_both(store, ids, mine=CHANCE, theirs=CHANCE) == 0
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, ids[1]), opted_out=True)
        assert purge_shadows(transaction, TASK) == 1
        lead = transaction.get(Lead, ids[2])
        assert (lead.probability, lead.score, lead.model_version) == (None, None, None)


def test_old_rows_and_too_many_are_cleared_away(store: Store, ids: list[int]) -> None:  # noqa: F811  fixtures
    ask_both(store, ids, mine=CHANCE, theirs=CHANCE)
    assert isinstance(store.clock, FixedClock)
    store.clock.advance(timedelta(days=KEPT_DAYS))
    ask_both(store, ids, mine=CHANCE, theirs=CHANCE)
    store.clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        assert purge_shadows(transaction, TASK) == MANY
        assert purge_shadows(transaction, TASK, keep=100) == MANY - 100
        assert count_shadows(transaction.session, TASK) == 100
        kept = transaction.session.scalars(select(ShadowPrediction.record_id)).all()
    assert sorted(kept) == sorted(ids)[-100:]


def test_whoever_has_served_is_no_challenger(store: Store) -> None:  # noqa: F811  the fixture
    name_both(store)
    with store.transaction() as transaction:
        assert find_challenger(transaction.session, TASK) is not None
        transaction.session.add(
            Promotion(
                task=TASK,
                run_id="r",
                model_version="new",
                sha256="1" * 64,
                promoted_at=MONDAY,
                reason="better",
            )
        )
        transaction.session.flush()
        assert find_challenger(transaction.session, TASK) is None
    with pytest.raises(ModelNotFoundError, match="no challenger"):
        report(store)


def test_without_a_question_in_common_there_is_nothing_to_say(store: Store) -> None:  # noqa: F811  the fixture
    name_both(store)
    with store.transaction() as transaction:
        make_lead(transaction)
    assert report(store).to_json()["questions"] == 0
