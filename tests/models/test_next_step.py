"""Suggestions from what happened: steps, times and empty fields, told where there is something to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import func, select

from crm_core.changes import Change, Source
from crm_core.records import Activity, Lead
from crm_core.store import Store
from models.best_time import Attempts, BestTime, find_best_time
from models.bundle import ModelBundle
from models.familiar import Familiar
from models.missing_field import find_missing
from models.next_step import ALL, FEWEST, STEP_DAYS, Step, measure_steps
from models.scoring import score_all
from models.stratified import difference, z_of
from tests.factories import make_lead
from tests.models.conftest import NOW, Business

DAY = timedelta(days=1)


# ---------------------------------------------------------------- shares within strata


def test_a_difference_within_strata_is_that_of_mantel_and_haenszel() -> None:
    # Two strata: 3 of 4 against 2 of 4, and 1 of 2 against 2 of 6.
    stratum = np.repeat([0, 0, 1, 1], [4, 4, 2, 6])
    treated = np.repeat([True, False, True, False], [4, 4, 2, 6])
    happened = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    found = difference(stratum, np.arange(16), treated, happened, z=1.96)
    weights = 4 * 4 / 8, 2 * 6 / 8
    by_hand = (weights[0] * (3 / 4 - 2 / 4) + weights[1] * (1 / 2 - 2 / 6)) / sum(weights)
    assert found.difference == pytest.approx(by_hand)
    assert (found.with_happened, found.with_count, found.without_happened, found.without_count) == (
        4,
        6,
        4,
        10,
    )
    assert found.low < found.difference < found.high


def test_rows_of_one_record_count_as_one_and_noise_is_called_a_difference_as_rarely_as_promised() -> None:
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):
        record = np.repeat(np.arange(60), 8)
        treated = np.repeat(random.random(60) < 0.5, 8)
        happened = np.repeat(random.random(60) < 0.3, 8)
        wrong += difference(np.zeros(480, np.int64), record, treated, happened, z=z_of(1)).tells
    assert wrong / 400 < 0.09


# ---------------------------------------------------------------- steps


def meet(store: Store, leads: Sequence[int], days: int) -> None:
    """Have a meeting with each lead so many days after it came."""
    with store.transaction(source=Source.IMPORT) as transaction:
        came = dict(transaction.session.execute(select(Lead.id, Lead.occurred_at)).all())
        rows = [
            {"kind": "meeting", "outcome": "held", "lead_id": lead, "occurred_at": at, "recorded_at": at}
            for lead in leads
            if (at := came[lead] + days * DAY) < NOW
        ]
        transaction.create_many(Activity, rows)


def ends(store: Store) -> dict[int, float | None]:
    """Return by lead after how many days it was converted."""
    with store.reading() as session:
        rows = session.execute(select(Lead.id, Lead.occurred_at, Lead.converted_at))
        return {key: (at - came) / DAY if at else None for key, came, at in rows}


def test_a_step_that_went_with_better_ends_is_told_with_numbers_that_a_loop_finds_too(
    copied: Store, business: Business, bundle: ModelBundle
) -> None:
    after = ends(copied)
    random = np.random.default_rng(2)
    later = [key for key in business.ids if (after[key] or 0) > 1 + STEP_DAYS]
    others = [key for key in business.ids if after[key] is None]
    met = [key for key in later if random.random() < 0.6] + [key for key in others if random.random() < 0.2]
    meet(copied, met, 5)
    steps = measure_steps(copied, bundle, NOW)
    (told,) = steps.of({"age_days": 2.0})
    assert (told.action, told.situation) == ("meeting", "0")
    assert told.with_share > told.without_share + 0.1
    assert 0 < told.low < told.difference < told.high
    # Looked at a day after they came, open still after the step's days, and the horizon over since.
    over = {key for key, age in ages(copied).items() if age >= 1 + STEP_DAYS + bundle.horizon_days}
    looked = [key for key in over if (after[key] or np.inf) > 1 + STEP_DAYS]
    assert told.with_records == sum(key in set(met) for key in looked)
    assert told.with_records + told.without_records == pytest.approx(len(looked), rel=0.02)


def ages(store: Store) -> dict[int, float]:
    with store.reading() as session:
        return {key: (NOW - came) / DAY for key, came in session.execute(select(Lead.id, Lead.occurred_at))}


def test_a_step_that_only_promising_records_get_is_not_told_as_one_that_helps(
    copied: Store, business: Business, bundle: ModelBundle
) -> None:
    random = np.random.default_rng(3)
    chance = {"referral": 0.7, "web": 0.3, "list": 0.02}
    met = [
        key
        for key, source in zip(business.ids, business.sources, strict=True)
        if random.random() < chance[source]
    ]
    meet(copied, met, 5)
    assert all_steps(copied, bundle) == []


def test_of_few_records_nothing_is_said(copied: Store, business: Business, bundle: ModelBundle) -> None:
    won = [key for key, days in ends(copied).items() if days is not None and days > 1 + STEP_DAYS]
    meet(copied, won[: FEWEST - 1], 5)
    assert all_steps(copied, bundle) == []


def all_steps(store: Store, bundle: ModelBundle) -> list[Step]:
    found = measure_steps(store, bundle, NOW).found
    assert ALL in found
    return [step for steps in found.values() for step in steps]


# ---------------------------------------------------------------- empty fields


def test_the_field_that_the_score_hangs_on_is_asked_for_and_nothing_is_written(
    copied: Store, bundle: ModelBundle
) -> None:
    with copied.transaction() as transaction:
        lead = make_lead(transaction, source=None, region=None, company="New").id
    score_all(copied, bundle, NOW)
    before = changes(copied)
    first = find_missing(copied, replace(bundle, familiar=Familiar()), lead, NOW)[0]
    assert first.field == "lead.source"  # nothing else moves this business's chances
    assert first.low < first.high
    assert first.high > 0.3
    assert first.records >= 20
    with copied.reading() as session:
        session.execute(select(Lead.source).where(Lead.id == lead)).one()
    assert changes(copied) == before


def changes(store: Store) -> int | None:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(Change))


def test_of_a_record_that_lacks_nothing_nothing_is_asked(
    copied: Store, business: Business, bundle: ModelBundle
) -> None:
    score_all(copied, bundle, NOW)
    with copied.reading() as session:
        held = select(Lead.id).where(Lead.status == "open").order_by(Lead.id.desc())
        newest = session.scalars(held.limit(1)).one()
    assert "lead.source" not in [each.field for each in find_missing(copied, bundle, newest, NOW)]


# ---------------------------------------------------------------- times


def attempts(random: np.random.Generator, people: int, many: int, chance: float = 0.3) -> Attempts:
    """Calls on working days from eight to six, answered by chance whenever they are made."""
    size = people * many
    return Attempts(
        person=np.repeat(np.arange(people), many),
        group=np.repeat(np.arange(people) % 2, many),
        weekday=random.integers(0, 5, size),
        hour=random.integers(8, 19, size),
        answered=random.random(size) < chance,
    )


def answering(made: Attempts, whose: np.ndarray, chance: float) -> Attempts:
    """The same, of which some answer more often in the morning of Mondays and Tuesdays."""
    random = np.random.default_rng(8)
    then = whose[made.person] & (made.weekday <= 1) & (made.hour < 12)
    answered = np.where(then, random.random(made.person.size) < chance, made.answered)
    return Attempts(
        person=made.person, group=made.group, weekday=made.weekday, hour=made.hour, answered=answered
    )


def early(found: BestTime | None) -> bool:
    """Tell whether what was found lies around Monday and Tuesday morning."""
    return found is not None and found.window.first <= 1 and found.window.part in {"", "morning"}


def test_somebody_who_often_answers_at_a_time_is_called_then() -> None:
    made = attempts(np.random.default_rng(4), 60, 60, 0.15)
    made = answering(made, np.arange(60) == 7, 0.95)
    found = find_best_time(made, 7, 1)
    assert early(found)
    assert found is not None
    assert found.whose == "own"
    assert found.expected > found.expected_else
    assert found.low > 0


def test_of_whom_little_is_known_people_like_them_speak() -> None:
    made = attempts(np.random.default_rng(5), 61, 60, 0.2)
    made = answering(made, np.arange(61) % 2 == 0, 0.7)
    made = made.take((made.person != 60) | (np.arange(made.person.size) % 60 < 3))
    found = find_best_time(made, 60, 0)
    assert early(found)
    assert found is not None
    assert found.whose == "similar"
    other = find_best_time(made.take(made.group == 1), 1, 1)
    assert other is None


def test_where_the_time_makes_no_difference_none_is_named() -> None:
    random = np.random.default_rng(6)
    wrong = 0
    for _ in range(25):
        made = attempts(random, 40, 30)
        wrong += sum(find_best_time(made, person, person % 2) is not None for person in (0, 1))
    assert wrong <= 5


def test_of_nobody_known_nothing_is_said() -> None:
    assert find_best_time(attempts(np.random.default_rng(7), 2, 3), 0, 0) is None
    none = attempts(np.random.default_rng(7), 0, 0)
    assert find_best_time(none, 0) is None
