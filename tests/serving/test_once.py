"""A request with an Idempotency-Key has its effect once, however often it is sent."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from crm_core.access import FieldRight
from crm_core.changes import Change
from crm_core.clock import FixedClock
from crm_core.idempotency import KeptAnswer
from crm_core.records import Lead
from crm_core.store import Store
from serving import once
from tests.factories import make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast

ROOT = Path(__file__).resolve().parents[2]
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def send(client: FlaskClient, cast: Cast, key: str = KEY, *, who: str = "Ana", **body: Any) -> TestResponse:
    headers = {**cast.header(who), once.HEADER: key}
    return client.post("/api/v1/leads", json=body or {"name": "Wang Fang"}, headers=headers)


def count(store: Store, model: Any = Lead) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(model.id))) or 0


def test_a_repeat_gets_the_same_answer_and_does_nothing(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    first, second = send(client, cast), send(client, cast, f'"{KEY}"')
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.data == second.data
    assert first.content_type == second.content_type
    assert (once.REPLAYED in first.headers, second.headers[once.REPLAYED]) == (False, "true")
    assert count(store) == 1


def test_another_request_with_the_same_key_is_refused(client: FlaskClient, store: Store, cast: Cast) -> None:
    send(client, cast)
    other = send(client, cast, name="Li Na")
    assert other.get_json()["type"] == "urn:crm:problem:idempotency-key-reused"
    assert count(store) == 1


def test_what_its_sender_may_not_see_any_more_is_not_told_again(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    send(client, cast)
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="name", read=False, write=True)
        transaction.session.add(hidden)
    again = send(client, cast)
    assert (again.status_code, again.get_json()["type"]) == (409, "urn:crm:problem:answer-not-kept")
    assert "Wang Fang" not in again.text
    assert count(store) == 1


def test_another_persons_key_of_the_same_name_is_another_key(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    assert send(client, cast).get_json()["id"] != send(client, cast, who="Ben").get_json()["id"]
    assert count(store) == 2


def test_a_refused_request_leaves_its_key_free(client: FlaskClient, store: Store, cast: Cast) -> None:
    assert send(client, cast, name="a\x00b").status_code == 422
    assert send(client, cast, custom={"nothing": 1}, name="x").status_code == 422
    assert send(client, cast).status_code == 201
    assert count(store) == 1


@pytest.mark.parametrize("key", ["", " ", "two words", "ключ", "x" * 256, '""'])
def test_a_key_that_cannot_be_read_is_refused(
    client: FlaskClient, store: Store, cast: Cast, key: str
) -> None:
    answer = send(client, cast, key.encode().decode("latin-1"))
    assert (answer.status_code, count(store)) == ((400, 0) if key != '""' else (201, 1))


def test_a_failure_between_effect_and_answer_leaves_neither(
    client: FlaskClient, store: Store, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("lost power")

    before = count(store, Change)
    with monkeypatch.context() as patch:
        patch.setattr(once, "keep_answer", fail)
        assert send(client, cast).status_code == 500
    assert (count(store), count(store, Change), count(store, KeptAnswer)) == (0, before, 0)
    assert send(client, cast).status_code == 201


def test_a_process_killed_between_effect_and_answer_leaves_neither(
    store: Store, home: Path, cast: Cast
) -> None:
    command = [sys.executable, "-m", "tests.serving.killed_request", store.url, str(home), cast.keys["Ana"]]
    ended = subprocess.run(command, cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (count(store), count(store, KeptAnswer)) == (0, 0)


def test_many_keys_sent_three_times_at_once_have_one_effect_each(
    app: Flask, store: Store, cast: Cast
) -> None:
    keys = 1_000 if store.engine.dialect.name == "sqlite" else 250  # as many of them once are enough
    sends = [number for number in range(keys) for _ in range(3)]

    def post(number: int) -> tuple[int, int, int]:
        answer = send(app.test_client(), cast, f"key-{number}", name=f"Lead {number}")
        return number, answer.status_code, answer.get_json()["id"]

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(post, sends))
    assert {status for _, status, _ in answers} == {201}
    assert len(answers) == keys  # the three of a key got the same answer
    assert (count(store), count(store, KeptAnswer)) == (keys, keys)


def test_an_answer_is_kept_for_a_day(
    client: FlaskClient, store: Store, cast: Cast, clock: FixedClock
) -> None:
    send(client, cast)
    clock.advance(timedelta(hours=23, minutes=59))
    assert once.REPLAYED in send(client, cast).headers
    clock.advance(timedelta(minutes=1))
    send(client, cast, "another")
    assert once.REPLAYED not in send(client, cast).headers
    assert (count(store), count(store, KeptAnswer)) == (3, 2)


def test_a_new_api_key_is_not_kept_with_its_answer(client: FlaskClient, store: Store, cast: Cast) -> None:
    headers = {**cast.header("Ana"), once.HEADER: KEY}
    body = {"name": "export", "scopes": ["read"]}
    made = [client.post("/api/v1/tokens", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 409]
    with store.reading() as session:
        assert session.scalars(select(KeptAnswer)).one().body is None


def test_erasing_somebody_empties_kept_answers_and_nothing_is_done_again(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    send(client, cast, name="Wang Fang", email="wang@fang.example")
    client.post("/api/v1/people/erase", json={"mail": "wang@fang.example"}, headers=cast.header("Adam"))
    with store.reading() as session:
        assert "Fang" not in str([vars(kept) for kept in session.scalars(select(KeptAnswer))])
    repeated = send(client, cast, name="Wang Fang", email="wang@fang.example")
    assert repeated.get_json()["type"] == "urn:crm:problem:answer-not-kept"
    assert count(store) == 1


def test_a_part_that_is_refused_undoes_only_itself(app: Flask, store: Store, cast: Cast) -> None:
    from crm_core.changes import Source
    from serving.service import writing

    def two_parts() -> str:
        with writing(cast["Ana"], Source.API) as transaction:
            make_lead(transaction, name="Kept")
        with suppress(RuntimeError), writing(cast["Ana"], Source.API) as transaction:
            make_lead(transaction, name="Undone")
            raise RuntimeError
        return "done"

    rule = app.view_functions["leads.create_lead"]
    app.view_functions["leads.create_lead"] = two_parts
    try:
        assert send(app.test_client(), cast).status_code == 200
    finally:
        app.view_functions["leads.create_lead"] = rule
    with store.reading() as session:
        assert list(session.scalars(select(Lead.name))) == ["Kept"]


def test_every_way_of_writing_a_record_is_done_once(client: FlaskClient, store: Store, cast: Cast) -> None:
    lead_id = send(client, cast).get_json()["id"]
    headers = cast.header("Adam")
    batch = {"operations": [{"op": "create", "type": "leads", "record": {"name": name}} for name in "ab"]}
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/api/v1/batch", batch),
        ("PATCH", f"/api/v1/leads/{lead_id}", {"name": "Li Na"}),
        ("DELETE", f"/api/v1/leads/{lead_id}", None),
    ]
    for number, (method, path, body) in enumerate(calls):
        keyed = {**headers, once.HEADER: f"key-{number}"}
        first = client.open(path, method=method, json=body, headers=keyed)
        assert first.status_code < 300, first.text
        before = count(store, Change)
        again = client.open(path, method=method, json=body, headers=keyed)
        assert (again.status_code, again.data) == (first.status_code, first.data), path
        assert again.headers.get("ETag") == first.headers.get("ETag")
        assert (again.headers[once.REPLAYED], count(store, Change)) == ("true", before)
    assert count(store) == 3


def test_reading_and_scoring_take_no_key(client: FlaskClient) -> None:
    paths = client.get("/api/openapi.json").get_json()["paths"]
    taking = {
        f"{method} {path}"
        for path, item in paths.items()
        for method, operation in item.items()
        if once.HEADER in str(operation.get("parameters"))
    }
    assert "post /api/v1/leads" in taking
    assert not [each for each in taking if each.startswith("get ") or each.endswith(("/score", "/erase"))]
