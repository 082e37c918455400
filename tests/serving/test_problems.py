"""Every error has its place in the table of problems."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crm_core import errors
from serving.problems import KINDS, REQUEST_KINDS, Kind


def every_error(root: type[errors.CRMError] = errors.CRMError) -> Iterator[type[errors.CRMError]]:
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)


def test_no_error_is_missing_from_the_table() -> None:
    assert set(every_error()) == set(KINDS)


def test_every_kind_has_a_name_of_its_own() -> None:
    kinds = [*KINDS.values(), *REQUEST_KINDS.values()]
    assert len({kind.slug for kind in kinds}) == len(kinds)
    assert len({kind.title for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.slug)
def test_a_status_is_one_that_tells_of_a_problem(kind: Kind) -> None:
    assert 400 <= kind.status <= 503
