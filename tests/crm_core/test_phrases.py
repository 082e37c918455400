"""A phrase is a text like any other, and knows what it was made of."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime

import pytest

from crm_core.errors import InvalidValueError
from crm_core.phrases import Phrase, one_of


def test_a_phrase_says_its_parts_as_messages_always_did() -> None:
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    said = Phrase(
        "{what!r} of {choices} at {at}, {on}: {most:,}",
        what="a",
        choices=("b", "c"),
        at=at,
        on=date(2026, 3, 2),
        most=1200,
    )
    assert said == "'a' of b, c at 2026-03-02T09:00:00+00:00, 2026-03-02: 1,200"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])  # noqa: S301  our own bytes
def test_a_copy_keeps_the_parts(copied: object) -> None:
    made = one_of(["{a}", "b"])
    again = copied(made)  # type: ignore[operator]  # either way of copying
    assert (again, again.pattern, again.parts) == (made, made.pattern, made.parts)


def test_an_error_keeps_what_was_expected_with_its_parts() -> None:
    error = InvalidValueError("deal.stage", "x", one_of(["a", "b"]))
    assert str(error) == "deal.stage: expected one of a, b, got 'x'"
    assert isinstance(error.phrase, Phrase)
    assert isinstance(error.expected, Phrase)
