"""What a field held at an instant equals a naive replay of everything recorded up to then."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_core.changes import Source, list_changes
from crm_core.clock import FixedClock, instant, micros
from crm_core.errors import UnknownFieldError
from crm_core.history import state_as_of, values_as_of
from crm_core.records import Lead
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.factories import declare_custom, make_lead

Edit = tuple[int, int, str]
"""Hours before the edit is written, hours it happened before being written, the new value."""

edits = st.lists(st.tuples(st.integers(0, 48), st.integers(0, 96), st.sampled_from("abc")), max_size=12)


def write_history(store: Store, clock: FixedClock, history: list[Edit]) -> int:
    with store.transaction() as transaction:
        lead_id = make_lead(transaction, region="start").id
    for wait, late, value in history:
        clock.advance(timedelta(hours=wait))
        with store.transaction() as transaction:
            lead = transaction.get(Lead, lead_id)
            transaction.update(lead, {"region": value}, occurred_at=clock.now() - timedelta(hours=late))
    return lead_id


Fact = tuple[int, int, str, int]
"""When it happened, its place in the order of writing, the value, when it was recorded."""


def value_at(facts: list[Fact], happened: int) -> str:
    past = [fact for fact in facts if fact[0] <= happened]
    return max(past)[2] if past else "start"


def replay(history: list[Edit], at: int) -> str:
    """Return the region at `at`, by walking through the edits as they were made; no news is no fact."""
    facts: list[Fact] = []
    now = micros(MONDAY)
    for order, (wait, late, value) in enumerate(history):
        now += wait * 3_600_000_000
        happened = now - late * 3_600_000_000
        if value_at(facts, happened) != value:
            facts.append((happened, order, value, now))
    return value_at([fact for fact in facts if fact[3] <= at], at)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=edits, questions=st.lists(st.integers(-24, 400), min_size=1, max_size=6))
def test_values_as_of_equals_a_replay_of_what_was_recorded(
    tmp_path: Path, empty_database: Path, history: list[Edit], questions: list[int]
) -> None:
    shutil.copy(empty_database, tmp_path / "crm.db")
    clock = FixedClock(MONDAY)
    store = Store(f"sqlite:///{tmp_path / 'crm.db'}", clock=clock)
    lead_id = write_history(store, clock, history)
    as_of = np.array([micros(MONDAY + timedelta(hours=hours)) for hours in questions])
    with store.reading() as session:
        found = values_as_of(session, Lead, "region", np.full(len(as_of), lead_id), as_of)
    store.close()
    assert [replay(history, at) for at in as_of.tolist()] == found.tolist()


def test_a_fact_logged_late_is_invisible_before_it_was_recorded(store: Store, clock: FixedClock) -> None:
    lead_id = write_history(store, clock, [(48, 40, "b")])
    happened, learned = MONDAY + timedelta(hours=8), MONDAY + timedelta(hours=48)
    with store.reading() as session:
        between = state_as_of(session, Lead, lead_id, happened + timedelta(hours=1))
        after = state_as_of(session, Lead, lead_id, learned)
    assert between is not None
    assert after is not None
    assert (between["region"], after["region"]) == ("start", "b")


def test_a_record_does_not_exist_before_it_was_known_and_after_it_was_deleted(
    store: Store, clock: FixedClock
) -> None:
    lead_id = write_history(store, clock, [])
    clock.advance(timedelta(hours=2))
    with store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, lead_id))
    with store.reading() as session:

        def known(hours: int) -> bool:
            return state_as_of(session, Lead, lead_id, MONDAY + timedelta(hours=hours)) is not None

        assert [known(hours) for hours in (-1, 0, 1, 2)] == [False, True, True, False]


def test_state_holds_custom_fields_and_nothing_that_a_model_wrote(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", tier="text")
        lead = make_lead(transaction, custom={"tier": "gold"})
    clock.advance(timedelta(hours=1))
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"custom.tier": "silver"})
    with store.reading() as session:
        state = state_as_of(session, Lead, lead.id, MONDAY)
    assert state is not None
    assert state["custom.tier"] == "gold"
    assert "probability" not in state


def test_an_imported_history_is_seen_as_it_was_recorded_there(store: Store) -> None:
    def day(number: int) -> Any:
        return instant(micros(MONDAY) - (30 - number) * 86_400_000_000)

    with store.transaction(source=Source.IMPORT) as transaction:
        lead = make_lead(transaction, occurred_at=day(1), recorded_at=day(1), region="start")
        transaction.update(lead, {"region": "b"}, occurred_at=day(5), recorded_at=day(9))
    as_of = np.array([micros(day(number)) for number in (4, 8, 9)])
    with store.reading() as session:
        found = values_as_of(session, Lead, "region", np.full(3, lead.id), as_of)
        assert len(list_changes(session, after=0, limit=10)) == 2
    assert found.tolist() == ["start", "start", "b"]


def test_an_unknown_field_has_no_history(store: Store) -> None:
    with pytest.raises(UnknownFieldError, match="shoe_size"), store.reading() as session:
        values_as_of(session, Lead, "shoe_size", np.array([1]), np.array([0]))
