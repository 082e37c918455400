"""Inputs that know the outcome are named; honest ones are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crm_core.errors import LeakageError
from models.guard import Suspicion, check_no_leaks, find_leaks

MANY = 3000

World = tuple[pd.DataFrame, np.ndarray, np.ndarray]


@pytest.fixture
def world() -> World:
    """Honest features of 3,000 questions about 1,500 records, a tenth of which come true."""
    random = np.random.default_rng(1)
    entity = np.repeat(np.arange(MANY // 2), 2)
    strength = np.repeat(random.normal(size=MANY // 2), 2)
    happened = np.repeat(random.random(MANY // 2) < 1 / (1 + np.exp(2.6 - 1.5 * strength[::2])), 2)
    frame = pd.DataFrame(
        {
            "strong_but_honest": strength + random.normal(0, 0.3, MANY),
            "often_missing": np.where(random.random(MANY) < 0.5, np.nan, random.normal(size=MANY)),
            "source": pd.Series(random.choice(["web", "mail", "fair"], MANY), dtype=object),
            "city": pd.Series([f"city {number}" for number in random.integers(0, 900, MANY)], dtype=object),
        }
    )
    return frame, happened, entity


def _either(condition: np.ndarray, yes: str | None, no: str | None) -> pd.Series:
    return pd.Series([yes if one else no for one in condition.tolist()], dtype="object")


def _found(frame: pd.DataFrame, happened: np.ndarray, entity: np.ndarray) -> list[str]:
    return [found.feature for found in find_leaks(frame, happened, entity, {})]


def test_honest_columns_raise_nothing(world: World) -> None:
    assert _found(*world) == []


def test_a_number_that_decides_is_named(world: World) -> None:
    frame, happened, entity = world
    frame["days_to_close"] = np.where(happened, 20.0, 90.0) + np.random.default_rng(2).normal(0, 15, MANY)
    assert _found(frame, happened, entity) == ["days_to_close"]


def test_a_category_that_decides_is_named(world: World) -> None:
    frame, happened, entity = world
    frame["segment"] = pd.Series(np.where(happened, "won deal", "open"), dtype=object)
    assert _found(frame, happened, entity) == ["segment"]


def test_a_column_that_only_winners_have_is_named(world: World) -> None:
    frame, happened, entity = world
    frame["segment"] = _either(happened, "pets", None)
    (found,) = find_leaks(frame, happened, entity, {"segment": ("lead.custom.segment",)})
    assert found.feature == "segment"
    assert found.fields == ("lead.custom.segment",)
    assert "has a value at all" in found.evidence


def test_a_column_that_some_winners_and_no_one_else_have_is_named(world: World) -> None:
    frame, happened, entity = world
    some = happened & (np.random.default_rng(3).random(MANY) < 0.3)
    frame["contract_number"] = _either(some, "c-1", None)
    assert _found(frame, happened, entity) == ["contract_number"]


def test_many_levels_do_not_remember_single_records(world: World) -> None:
    frame, happened, entity = world
    frame["record_name"] = pd.Series([f"record {number}" for number in entity], dtype=object)
    assert _found(frame, happened, entity) == []


def test_with_too_few_outcomes_nothing_is_said(world: World) -> None:
    frame, happened, entity = world
    frame["leak"] = happened.astype(float)
    few = np.flatnonzero(happened)[:10].tolist() + np.flatnonzero(~happened)[:500].tolist()
    assert _found(frame.iloc[few].reset_index(drop=True), happened[few], entity[few]) == []


def test_a_leak_stops_training_by_name_unless_overruled_by_name(world: World) -> None:
    frame, happened, entity = world
    frame["segment"] = _either(happened, "pets", None)
    found = find_leaks(frame, happened, entity, {"segment": ("lead.custom.segment",)})
    with pytest.raises(LeakageError, match=r"segment \(reads lead\.custom\.segment\).*overrule by name"):
        check_no_leaks(found)
    check_no_leaks(found, overruled=["segment"])
    with pytest.raises(LeakageError):
        check_no_leaks(found, overruled=["another"])


def test_few_records_asked_often_are_little_evidence() -> None:
    """Seventeen records without a value, each asked fifty times, none with the outcome: no leak."""
    asked = np.repeat(np.arange(300), 50)
    happened = (asked % 4 == 0) & (asked >= 17)
    region = _either(asked < 17, None, "north")
    assert _found(pd.DataFrame({"region": region}), happened, asked) == []


def test_evidence_is_told_in_counts_of_records(world: World) -> None:
    frame, happened, entity = world
    frame["has_contract"] = np.where(happened, 1.0, 0.0)
    (found,) = find_leaks(frame, happened, entity, {})
    won = len(np.unique(entity[happened]))
    rest = len(np.unique(entity)) - won
    assert f"of {won:,} records with a value above the mean {won:,} had the outcome" in found.evidence
    assert f"of {rest:,} with one below 0" in found.evidence


def test_a_leak_may_be_overruled_by_its_field_and_doubts_refuse_nothing() -> None:
    leak = Suspicion(feature="custom_days", fields=("deal.custom.days",), evidence="why")
    doubt = Suspicion(
        feature="custom_revenue", fields=("deal.custom.revenue",), evidence="why", doubtful=True
    )
    for name in ("custom_days", "days", "custom.days", "deal.custom.days"):
        check_no_leaks([leak, doubt], overruled=[name])
    with pytest.raises(LeakageError, match="custom_days") as raised:
        check_no_leaks([leak, doubt], overruled=["deal"])
    assert "custom_revenue" not in str(raised.value)
