"""Histories resolved for many questions at once equal the contract of the change log, read row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crm_core.history import FieldHistory, newest_known, read_field_history, read_histories, resolve_as_of
from crm_core.records import Lead
from crm_core.store import Store
from tests.factories import make_lead

INSTANT = st.integers(0, 6)
CHANGES = st.lists(st.tuples(st.integers(1, 3), INSTANT, INSTANT), max_size=12)
QUESTIONS = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 7)), max_size=12)


def _history(rows: list[tuple[int, int, int]]) -> FieldHistory:
    """Changes (record, occurred_at, recorded_at) as written; number n is from `old n` to `new n`."""
    numbered = sorted(enumerate(rows), key=lambda item: (item[1][0], item[0]))
    return FieldHistory(
        record_id=np.array([record for _, (record, _, _) in numbered], dtype=np.int64),
        change_id=np.array([number for number, _ in numbered], dtype=np.int64),
        occurred_at=np.array([occurred for _, (_, occurred, _) in numbered], dtype=np.int64),
        recorded_at=np.array([recorded for _, (_, _, recorded) in numbered], dtype=np.int64),
        old=np.array([f"old {number}" for number, _ in numbered], dtype=object),
        new=np.array([f"new {number}" for number, _ in numbered], dtype=object),
    )


def _slowly(rows: list[tuple[int, int, int]], record: int, as_of: int) -> str:
    """The value by the words of the contract."""
    own = [(number, row) for number, row in enumerate(rows) if row[0] == record]
    if not own:
        return "now"
    known = [(*row[1:], number) for number, row in own if row[1] <= as_of and row[2] <= as_of]
    return f"new {max(known)[2]}" if known else f"old {own[0][0]}"


@given(rows=CHANGES, questions=QUESTIONS)
def test_every_question_gets_the_value_that_the_contract_says(
    rows: list[tuple[int, int, int]], questions: list[tuple[int, int]]
) -> None:
    ids, as_of = np.array(questions, dtype=np.int64).reshape(-1, 2).T
    current = np.full(len(questions), "now", dtype=object)

    answers = resolve_as_of(_history(rows), current, ids, as_of)

    assert answers.tolist() == [_slowly(rows, *question) for question in questions]


@given(rows=CHANGES, questions=QUESTIONS)
def test_the_deciding_change_is_none_exactly_where_no_change_was_known(
    rows: list[tuple[int, int, int]], questions: list[tuple[int, int]]
) -> None:
    ids, as_of = np.array(questions, dtype=np.int64).reshape(-1, 2).T
    history = _history(rows)

    found = newest_known(history, ids, as_of)

    for position, (record, when) in zip(found.tolist(), questions, strict=True):
        expected = _slowly(rows, record, when)
        assert (history.new[position] if position >= 0 else "none") == (
            expected if expected.startswith("new") else "none"
        )


def test_histories_of_several_fields_are_those_of_each_alone(store: Store) -> None:
    with store.transaction() as step:
        leads = [make_lead(step) for _ in range(3)]
        for lead in leads:
            step.update(lead, {"source": "fair", "employees": 5})
            step.update(lead, {"source": None})
    with store.reading() as session:
        both = read_histories(session, Lead, ["source", "employees"])
        for field, found in both.items():
            assert _rows(found) == _rows(read_field_history(session, Lead, field))
        some = read_histories(session, Lead, ["source"], np.array([leads[2].id, leads[0].id]))
        assert set(some["source"].record_id.tolist()) == {leads[0].id, leads[2].id}


def _rows(history: FieldHistory) -> list[list[Any]]:
    return [values.tolist() for values in vars(history).values()]
