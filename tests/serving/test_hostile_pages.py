"""Numbers that no database keeps, in addresses and forms: they lead nowhere, and nothing breaks of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from crm_core.store import Store
from serving.web.asked import LARGEST, whole
from tests.serving.conftest import logged_in
from tests.serving.page_world import open_world
from tests.serving.test_access import World


@pytest.fixture(scope="module")
def opened(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[tuple[World, Flask, Store]]:
    yield from open_world(empty_database, tmp_path_factory.mktemp("hostile"), password_hash)


def test_an_address_of_what_cannot_be_leads_nowhere(opened: tuple[World, Flask, Store]) -> None:
    world, app, _ = opened
    client = logged_in(app, world.cast["Adam"])
    for number in (LARGEST, LARGEST + 1, 10**30):
        for path in ("/leads", "/records/quote", "/files", "/import", "/work", "/admin/people"):
            assert client.get(f"{path}/{number}").status_code == 404


@pytest.mark.parametrize("text", ["", "x", "1.5", "²", "٣", "1_0", str(2**63), "9" * 5000, "\x00", "--1"])
def test_what_is_no_number_of_a_database_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  which a form takes for nothing
        whole(text)


def test_a_number_is_one() -> None:
    assert (whole(" 12 "), whole("-3"), whole(str(LARGEST))) == (12, -3, LARGEST)
