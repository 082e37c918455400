"""Whatever is sent to a page, in an address or a form, it says what is wrong and never breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from crm_core.store import Store
from serving.web.asked import LARGEST, whole
from tests.serving import hostile
from tests.serving.conftest import csrf_of, logged_in
from tests.serving.page_world import filled, open_world, page_rules
from tests.serving.test_access import World
from tests.serving.test_page_access import page_of

TURNS = 3
"""How often each page is asked; every parameter has another value each time."""


@pytest.fixture(scope="module")
def opened(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[tuple[World, Flask, Store]]:
    for world, app, store in open_world(empty_database, tmp_path_factory.mktemp("hostile"), password_hash):
        hostile.note_what_is_asked(app)
        yield world, app, store


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_page_breaks_of_what_it_is_sent(opened: tuple[World, Flask, Store], method: str) -> None:
    world, app, _ = opened
    broken, at = [], 0
    for rule in page_rules(app, method):
        if "logout" in rule.rule:
            continue
        about = (page_of(rule.endpoint).about or ("",))[0]
        person = "Ana" if about in {"view", "segment", "work", "own key"} else "Adam"
        client, path = logged_in(app, world.cast[person]), filled(world, rule, about, "own")
        with hostile.asked() as names:
            client.open(path, method=method)
            for _ in range(TURNS):
                sent = {}
                for name in sorted(names):
                    at += 7
                    sent[name] = hostile.VALUES[at % len(hostile.VALUES)].encode("utf-8", "surrogatepass")
                given: dict[str, Any] = {"query_string": sent} if method == "GET" else {"data": sent}
                answer = client.open(path, method=method, **given)
                if answer.status_code >= 500:
                    broken.append((path, answer.status_code, str(sent)[:600]))
    assert not broken, "\n".join(map(str, broken))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/funnel?until=9999-12-31", None),
        ("/admin/log?until=9999-12-31", None),
        ("/records/deal/1/meeting", {"step": "Call", "step_owner": "her", "step_due": ""}),
        ("/intake/sequences", {"name": "x", "template-0": "\N{SUPERSCRIPT TWO}"}),
        ("/records/deal/1/quotes", {"currency": "\N{EURO SIGN}" * 3}),
        ("/campaigns", {"name": "x", "currency": "\N{EURO SIGN}" * 3}),
        ("/intake/sequences", {"name": "x", "template-0": "1", "segment": "\N{SUPERSCRIPT TWO}"}),
    ],
)
def test_days_and_numbers_beyond_reason_break_nothing(
    opened: tuple[World, Flask, Store], path: str, form: dict[str, str] | None
) -> None:
    world, app, _ = opened
    client = logged_in(app, world.cast["Adam"])
    if form is None:
        assert client.get(path).status_code == 200
        return
    token = csrf_of(client.get("/account").text)
    assert client.post(path, data={"csrf_token": token, **form}).status_code in {404, 422}


def test_an_address_of_what_cannot_be_leads_nowhere(opened: tuple[World, Flask, Store]) -> None:
    world, app, _ = opened
    client = logged_in(app, world.cast["Adam"])
    for number in (LARGEST, LARGEST + 1, 10**30):
        for path in ("/leads", "/records/quote", "/files", "/import", "/jobs", "/admin/people"):
            assert client.get(f"{path}/{number}").status_code == 404


@pytest.mark.parametrize("text", ["", "x", "1.5", "²", "٣", "1_0", str(2**63), "9" * 5000, "\x00", "--1"])
def test_what_is_no_number_of_a_database_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  which a form takes for nothing
        whole(text)


def test_a_number_is_one() -> None:
    assert (whole(" 12 "), whole("-3"), whole(str(LARGEST))) == (12, -3, LARGEST)
