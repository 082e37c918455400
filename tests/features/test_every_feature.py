"""What holds for every feature by being registered: built-in ones and custom fields alike."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_core.clock import DAY
from crm_core.store import Store
from features import account, deal, lead
from features.cohort import Cohort
from features.declaration import Feature
from features.event_features import (
    DaysSinceFirst,
    DaysSinceLast,
    EventCount,
    EventMean,
    EventSum,
    GapRatio,
    LastValue,
    MedianGap,
)
from features.feature_set import FEATURE_SETS, FeatureSet, feature_set_for
from features.field_features import ChangesCount, FieldAge, FieldValue
from features.field_measures import DaysHeld, Filled, Growth
from features.frame import build_frame
from features.measures import EventDistinct, EventLargest, EventShare, EventSmallest, EventTrend
from features.norms import AgeAgainstNorm
from features.payments import LastPaymentDelay, OverdueCount, PaymentDelay
from features.rates import HistoricalRate
from features.wording import Noun
from tests.features.oracle import Database, answer
from tests.features.worlds import BEGIN, BUSY, LENGTH, World, ids_of, make_world, poison, write_world

CUSTOM = (
    "custom_landing_page",
    "custom_budget",
    "custom_vip",
    "days_until_custom_trial_ends",
    "days_until_custom_demo_at",
)
REGISTERED = [(task, name) for task, found in FEATURE_SETS.items() for name in found.names]
REGISTERED += [("lead_scoring", name) for name in CUSTOM]

_KIND = Noun(one="kind", many="kinds", zh="类型")
_PERSON = Noun(one="person", many="people", zh="联系人")

VARIANTS: dict[str, tuple[Feature, ...]] = {
    "lead_scoring": (
        EventCount(of=lead.CALLS, lookback="36h"),
        DaysSinceLast(of=lead.ACTIVITIES, lookback="30d"),
        DaysSinceFirst(of=lead.ACTIVITIES),
        LastValue(of=lead.ACTIVITIES, field="kind", noun=lead.LEAD, lookback="30d"),
        MedianGap(of=lead.ACTIVITIES),
        ChangesCount(record="lead", field="custom.budget"),
        EventDistinct(of=lead.ACTIVITIES, field="kind", noun=_KIND, lookback="30d"),
        EventDistinct(of=lead.ACTIVITIES, field="contact_id", noun=_PERSON),
        EventShare(of=lead.ACTIVITIES, part=lead.INBOUND, lookback="60d"),
        EventShare(of=lead.ACTIVITIES, part=lead.CALLS),
        EventTrend(of=lead.ACTIVITIES, lookback="30d"),
        EventTrend(of=lead.CALLS, lookback="2w", before="90d"),
        DaysHeld(record="lead", field="region", value="n", lookback="60d"),
        DaysHeld(record="lead", field="custom.landing_page", value="a"),
        Filled(record="lead", field="region"),
        FieldValue(record="lead", field="name", via="owner_id.team_id"),
        EventCount(of=lead.CAMPAIGN_TOUCHES, lookback="90d"),
        EventCount(of=lead.ANSWERED_TOUCHES, lookback="90d"),
        EventShare(of=lead.CAMPAIGN_TOUCHES, part=lead.ANSWERED_TOUCHES),
        DaysSinceLast(of=lead.ANSWERED_TOUCHES),
        *(
            HistoricalRate(
                record="lead", field=field, horizon="30d", lookback=lookback, each=each, strength=2
            )
            for field, lookback, each in (
                ("source", "60d", "record"),
                ("owner_id", None, "record"),
                ("owner_id", "90d", "entry"),
                ("custom.landing_page", None, "record"),
            )
        ),
    ),
    "win_probability": (
        ChangesCount(record="deal", field="stage", lookback="30d"),
        FieldAge(record="deal", field="amount"),
        DaysSinceFirst(of=deal.ACCOUNT_ORDERS),
        EventMean(of=deal.ACCOUNT_ORDERS, field="amount", noun=deal.DEAL),
        EventSum(of=deal.ACCOUNT_ORDERS, field="amount", noun=deal.DEAL, lookback="30d"),
        EventLargest(of=deal.ACCOUNT_ORDERS, field="amount", noun=deal.DEAL, lookback="90d"),
        EventSmallest(of=deal.ACCOUNT_ORDERS, field="amount", noun=deal.DEAL),
        DaysHeld(record="deal", field="stage", value="proposal"),
        DaysHeld(record="deal", field="stage", value="needs", lookback="90d"),
        Growth(record="deal", field="amount"),
        LastValue(
            of=deal.SENT_QUOTES, field="discount", noun=Noun(one="discount", many="discounts", zh="折扣")
        ),
        EventCount(of=deal.SENT_QUOTES),
        DaysSinceLast(of=deal.SENT_QUOTES),
        EventCount(of=deal.REJECTED_QUOTES),
        OverdueCount(of=deal.ACCOUNT_PAYMENTS),
        AgeAgainstNorm(record="deal", field="stage", within="30d"),
        HistoricalRate(record="deal", field="stage", horizon="60d", each="entry", strength=3),
        HistoricalRate(record="deal", field="account_id", horizon="30d", strength=3),
    ),
    "churn": (
        GapRatio(of=account.ORDERS),
        MedianGap(of=account.ORDERS, lookback="60d"),
        LastValue(of=account.ORDERS, field="amount", noun=account.ACCOUNT, lookback="60d"),
        EventCount(of=account.OPEN_TICKETS, lookback="60d"),
        EventTrend(of=account.ORDERS, lookback="60d", before="90d"),
        EventSmallest(of=account.TICKETS, field="satisfaction", noun=account.ACCOUNT),
        OverdueCount(of=account.PAYMENTS, lookback="180d"),
        PaymentDelay(of=account.PAYMENTS),
        EventSmallest(
            of=account.TICKETS,
            field="satisfaction",
            noun=Noun(one="mark", many="marks", zh="评分"),
            lookback="365d",
        ),
        EventCount(of=account.LATE_TICKETS, lookback="365d"),
        LastPaymentDelay(of=account.PAYMENTS),
        LastPaymentDelay(of=account.PAYMENTS, lookback="180d"),
        EventShare(of=account.TICKETS, part=account.LATE_TICKETS, lookback="90d"),
        FieldValue(record="account", field="name", via="owner_id.team_id"),
    ),
}
"""What may be declared and is not yet: other measures and windows."""
REGISTERED += [(task, feature.name) for task, found in VARIANTS.items() for feature in found]

WORLDS = 4
SEED = 111
"""Worlds in which every feature has more than one value."""

Answers = dict[tuple[str, int, int], Any]
"""What a feature said, by (name, record, as_of)."""


@dataclass(frozen=True)
class Asked:
    """A world, in its store, with the questions asked of it."""

    world: World
    store: Store
    path: Path
    instants: tuple[int, ...]

    def cohort(self, record_type: str, instants: tuple[int, ...] | None = None) -> Cohort:
        """Every record of a type asked about at every instant."""
        pairs = [(i, t) for i in ids_of(record_type) for t in (instants or self.instants)]
        ids, as_of = np.array(pairs, dtype=np.int64).T
        return Cohort.of(record_type, ids, as_of)


def _ask(world: World, instants: tuple[int, ...], folder: Path, template: Path) -> Asked:
    store = write_world(world, folder, template)
    return Asked(world, store, Path(store.url.removeprefix("sqlite:///")), instants)


def features_for(store: Store, task: str) -> FeatureSet:
    """What a task looks at in a store, and the variants."""
    found = feature_set_for(store, task)
    return replace(found, features=(*found.features, *VARIANTS[task]))


def _answers(asked: Asked, task: str, instants: tuple[int, ...] | None = None) -> Answers:
    feature_set = features_for(asked.store, task)
    cohort = asked.cohort(feature_set.record_type, instants)
    return _by_question(build_frame(asked.store, cohort, feature_set), cohort)


def _by_question(frame: Any, cohort: Cohort) -> Answers:
    questions = list(zip(cohort.ids.tolist(), cohort.as_of.tolist(), strict=True))
    return {
        (name, *question): value
        for name in frame.columns
        for question, value in zip(questions, frame[name].tolist(), strict=True)
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or one == other
    return type(one) is type(other) and one == other


def _differences(expected: Answers, found: Answers, name: str | None = None) -> list[Any]:
    return [
        (key, expected[key], found[key])
        for key in expected
        if name in (None, key[0]) and not _same(expected[key], found[key])
    ]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[list[Asked]]:
    """Worlds with hundreds of writes, asked at edges of windows and beside them."""
    folder = tmp_path_factory.mktemp("worlds")
    worlds = []
    for seed in range(SEED, SEED + WORLDS):
        source = random.Random(seed)
        world = make_world(source.choice, 240)
        instants = (BEGIN + 24 * DAY, *(BEGIN + day * DAY for day in BUSY), BEGIN + BUSY[1] * DAY - 1)
        worlds.append(_ask(world, instants, folder, empty_database))
    yield worlds
    for asked in worlds:
        asked.store.close()


@pytest.fixture(scope="module")
def answers(rich: list[Asked]) -> Any:
    """What each task's features say in each rich world, worked out once."""
    return cache(lambda number, task: _answers(rich[number], task))


@pytest.fixture(scope="module")
def as_truncated(rich: list[Asked], tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Any:
    """The same, each instant asked of a world that ends there."""
    return _retold(rich, lambda world, _: world, tmp_path_factory.mktemp("truncated"), empty_database)


@pytest.fixture(scope="module")
def as_poisoned(rich: list[Asked], tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Any:
    """The same, each instant asked of a world that goes mad right after it."""
    folder = tmp_path_factory.mktemp("poisoned")
    return _retold(rich, lambda world, as_of: world.followed_by(poison(as_of)), folder, empty_database)


def _retold(rich: list[Asked], change: Any, folder: Path, template: Path) -> Any:
    @cache
    def retold(number: int, as_of: int) -> Asked:
        return _ask(change(rich[number].world.known_at(as_of), as_of), (as_of,), folder, template)

    @cache
    def answered(number: int, task: str) -> Answers:
        found: Answers = {}
        for as_of in rich[number].instants:
            found |= _answers(retold(number, as_of), task)
        return found

    return answered


@pytest.fixture(scope="module")
def from_oracle(rich: list[Asked]) -> Any:
    """What each feature should say in each rich world."""
    databases = [Database(asked.path) for asked in rich]

    def answered(number: int, task: str, name: str) -> Answers:
        feature_set = features_for(rich[number].store, task)
        cohort = rich[number].cohort(feature_set.record_type)
        return _oracle_answers(databases[number], feature_set.select([name]), cohort)

    return answered


def _oracle_answers(database: Database, feature_set: FeatureSet, cohort: Cohort) -> Answers:
    return {
        (feature.name, record_id, as_of): answer(database, feature, record_id, as_of)
        for feature in feature_set.features
        for record_id, as_of in zip(cohort.ids.tolist(), cohort.as_of.tolist(), strict=True)
    }


@pytest.mark.parametrize(("task", "name"), REGISTERED)
def test_a_feature_equals_a_slow_independent_computation(
    task: str, name: str, answers: Any, from_oracle: Any
) -> None:
    for number in range(WORLDS):
        assert _differences(from_oracle(number, task, name), answers(number, task)) == []


@pytest.mark.parametrize(("task", "name"), REGISTERED)
def test_a_feature_does_not_change_when_what_was_recorded_later_is_left_out(
    task: str, name: str, answers: Any, as_truncated: Any
) -> None:
    for number in range(WORLDS):
        assert _differences(as_truncated(number, task), answers(number, task), name) == []


@pytest.mark.parametrize(("task", "name"), REGISTERED)
def test_a_feature_does_not_change_when_absurd_things_are_recorded_later(
    task: str, name: str, answers: Any, as_poisoned: Any
) -> None:
    for number in range(WORLDS):
        assert _differences(as_poisoned(number, task), answers(number, task), name) == []


@pytest.mark.parametrize(("task", "name"), REGISTERED)
def test_the_worlds_give_a_feature_more_than_one_value(task: str, name: str, answers: Any) -> None:
    seen = {str(v) for number in range(WORLDS) for key, v in answers(number, task).items() if key[0] == name}
    assert len(seen) > 1


@pytest.mark.parametrize("task", FEATURE_SETS)
def test_neither_order_nor_repetition_nor_partition_of_the_questions_changes_a_bit(
    task: str, rich: list[Asked], answers: Any
) -> None:
    for number, asked in enumerate(rich):
        feature_set = features_for(asked.store, task)
        cohort = asked.cohort(feature_set.record_type)
        mixed = np.random.default_rng(number).permutation(np.repeat(np.arange(len(cohort)), 2))
        for part in np.array_split(mixed, 3):
            found = _by_question(build_frame(asked.store, cohort.take(part), feature_set), cohort.take(part))
            assert [
                (k, v, found[k])
                for k, v in answers(number, task).items()
                if k in found and not _same(v, found[k])
            ] == []


@pytest.mark.parametrize("task", FEATURE_SETS)
def test_a_training_row_equals_the_row_behind_a_single_call(
    task: str, rich: list[Asked], answers: Any
) -> None:
    for number, asked in enumerate(rich):
        feature_set = features_for(asked.store, task)
        cohort = asked.cohort(feature_set.record_type)
        for position in range(len(cohort)):
            alone = cohort.take(slice(position, position + 1))
            found = _by_question(build_frame(asked.store, alone, feature_set), alone)
            expected = {key: answers(number, task)[key] for key in found}
            assert _differences(expected, found) == []


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_history_gives_what_the_oracle_says_with_and_without_what_came_later(
    data: st.DataObject, empty_database: Path
) -> None:
    world = make_world(
        lambda options: data.draw(st.sampled_from(list(options))), data.draw(st.integers(0, 12)), others=2
    )
    as_of = BEGIN + data.draw(st.integers(24, LENGTH)) * DAY - data.draw(st.sampled_from((0, 1)))
    with tempfile.TemporaryDirectory() as name:
        whole = _ask(world, (as_of,), Path(name), empty_database)
        cut = _ask(world.known_at(as_of).followed_by(poison(as_of)), (as_of,), Path(name), empty_database)
        database = Database(whole.path)
        for task in FEATURE_SETS:
            feature_set = features_for(whole.store, task)
            found = _answers(whole, task)
            cohort = whole.cohort(feature_set.record_type)
            assert _differences(_oracle_answers(database, feature_set, cohort), found) == []
            assert _differences(found, _answers(cut, task)) == []
        whole.store.close()
        cut.store.close()
