"""Bad input at every write endpoint: a clear problem, and nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi.openapi import OpenAPI
from sqlalchemy import text

from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.app import LONGEST_BODY, create_app
from serving.champions import Champions, Scorer
from serving.settings import Settings
from tests.conftest import MONDAY
from tests.factories import make_deal, make_lead
from tests.serving.conftest import Cast, make_cast

WRITES: dict[str, dict[str, Any]] = {
    "/api/v1/leads": {"name": "Wang Fang", "company": "Fangda Valves"},
    "/api/v1/leads/1/activities": {"kind": "call", "subject": "Asked for a quote"},
    "/api/v1/deals/1/activities": {"kind": "call", "subject": "Asked for a quote", "stage": "needs"},
    "/api/v1/deals/1/stage": {"stage": "needs"},
}
"""Every write endpoint with a body it accepts."""

ABOUT_PEOPLE: dict[str, dict[str, Any]] = {
    "/api/v1/leads/1/merge": {"gone_id": 2},
    "/api/v1/leads/1/distinct": {"other_id": 2},
    "/api/v1/leads/1/scoring-opt-out": {"opted_out": True},
    "/api/v1/people/find": {"mail": "a@b.example"},
    "/api/v1/people/export": {"mail": "a@b.example"},
    "/api/v1/people/erase": {"mail": "a@b.example"},
}
"""Write endpoints whose bodies have no text and no instant, with a body that is accepted."""

ABOUT_SCORES: dict[str, dict[str, Any]] = {
    "/api/v1/leads/scores": {"ids": [1]},
    "/api/v1/leads/score-hypothetical": {"company": "Neu GmbH"},
    "/api/v1/deals/score-hypothetical": {"stage": "needs"},
    "/api/v1/customers/score-hypothetical": {"name": "Neu AG"},
    "/api/v1/predictions/1/feedback": {"verdict": "right"},
    "/api/v1/models/lead_scoring/promote": {"version": "lead_scoring-1", "reason": "better"},
    "/api/v1/models/lead_scoring/rollback": {"reason": "worse"},
}
"""Calls about scores and models whose bodies would be read, with such a body."""

ABOUT_ALERTS: dict[str, dict[str, Any]] = {
    "/api/v1/alerts/1/acknowledge": {"note": "called them"},
    "/api/v1/alerts/1/snooze": {"until": (MONDAY + timedelta(days=3)).isoformat()},
    "/api/v1/alerts/1/assign": {"assignee_id": 1},
    "/api/v1/alerts/1/reopen": {"note": "they left after all"},
}
"""What is done about an alert, with a body that would be read."""

_TERMS = {"starts_on": "2026-04-01", "ends_on": "2027-03-31"}

ABOUT_SELLING: dict[str, dict[str, Any]] = {
    "/api/v1/quotes/1/send": {},
    "/api/v1/quotes/1/revise": {},
    "/api/v1/quotes/1/accept": {"order": True},
    "/api/v1/quotes/1/reject": {"reason": "price"},
    "/api/v1/quotes/1/approval": {"note": "third order"},
    "/api/v1/quotes/1/contract": _TERMS,
    "/api/v1/approvals/1/decide": {"approve": True},
    "/api/v1/orders/1/contract": _TERMS,
    "/api/v1/contracts/1/renew": {"terms": _TERMS},
    "/api/v1/contracts/1/renewal-deal": {},
    "/api/v1/contracts/1/end": {"cancelled": True},
    "/api/v1/contracts/1/receive": {"amount": "5"},
    "/api/v1/orders/1/receive": {"amount": "5"},
    "/api/v1/payments/1/receive": {"reference": "TT-1"},
    "/api/v1/targets/1/split": {"over": "people"},
    "/api/v1/deals/1/checklist": {"key": "none"},
    "/api/v1/leads/1/meetings": {"subject": "Kick-off"},
    "/api/v1/deals/1/meetings": {"subject": "Kick-off"},
}
"""What is done about quotes, contracts and payments, with a body that would be read."""

TEXT = {"/api/v1/leads": "name", "/api/v1/deals/1/stage": "stage"}
"""The text field of each endpoint; elsewhere it is the subject."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A body, how it is sent, and what must come of it."""

    name: str
    status: int
    slug: str
    body: bytes | None = None
    more: dict[str, Any] | None = None
    text: Any = None
    content_type: str | None = "application/json"


def instant(step: timedelta) -> str:
    return (MONDAY + step).isoformat()


BAD = [
    Bad(name="no body", status=400, slug="invalid-json", body=b""),
    Bad(name="no JSON", status=400, slug="invalid-json", body=b"name=Wang"),
    Bad(name="half a JSON", status=400, slug="invalid-json", body=b'{"name": "Wa'),
    Bad(name="not UTF-8", status=400, slug="bad-request", body=b'{"name": "\xff\xfe"}'),
    Bad(name="raw NUL", status=400, slug="invalid-json", body=b'{"name": "a\x00b"}'),
    Bad(name="lone surrogate", status=400, slug="invalid-json", body=b'{"name": "\\ud800"}'),
    Bad(name="deep nesting", status=400, slug="invalid-json", body=b"[" * 100_000),
    Bad(name="deep nesting in a field", status=400, slug="invalid-json", body=b'{"custom":' * 5_000),
    Bad(name="a list", status=422, slug="invalid-request", body=b"[]"),
    Bad(name="a number", status=422, slug="invalid-request", body=b"7"),
    Bad(name="null", status=422, slug="invalid-request", body=b"null"),
    Bad(name="a string of JSON", status=422, slug="invalid-request", body=b'"{}"'),
    Bad(name="unknown field", status=422, slug="invalid-request", more={"favourite_colour": "red"}),
    Bad(name="scored column", status=422, slug="invalid-request", more={"probability": 1.0}),
    Bad(name="NUL in a text", status=422, slug="unsafe-text", text="a\x00b"),
    Bad(name="number for a text", status=422, slug="invalid-request", text=7),
    Bad(name="endless text", status=422, slug="invalid-request", text="x" * 100_000),
    Bad(name="future", status=422, slug="future-event", more={"occurred_at": instant(timedelta(hours=1))}),
    Bad(name="year 1", status=422, slug="invalid-request", more={"occurred_at": "0001-01-01T00:00:00+23:59"}),
    Bad(
        name="year 10000",
        status=422,
        slug="invalid-request",
        more={"occurred_at": "9999-12-31T23:59:59-23:59"},
    ),
    Bad(
        name="naive instant", status=422, slug="invalid-request", more={"occurred_at": "2026-01-01T00:00:00"}
    ),
    Bad(name="no instant", status=422, slug="invalid-request", more={"occurred_at": "yesterday"}),
    Bad(
        name="form",
        status=415,
        slug="unsupported-media-type",
        content_type="application/x-www-form-urlencoded",
    ),
    Bad(name="no content type", status=415, slug="unsupported-media-type", content_type=None),
    Bad(name="plain text", status=415, slug="unsupported-media-type", content_type="text/plain"),
    Bad(name="huge", status=413, slug="request-entity-too-large", body=b" " * (LONGEST_BODY + 1)),
]

OF_ACTIVITIES = [
    ({"duration_seconds": -1}, 422, "invalid-request"),
    ({"duration_seconds": 10**30}, 422, "invalid-request"),
    ({"duration_seconds": 1.5}, 422, "invalid-request"),
    ({"duration_seconds": True}, 422, "invalid-request"),
    ({"kind": "séance"}, 422, "invalid-request"),
    ({"kind": None}, 422, "invalid-request"),
    ({"direction": "sideways"}, 422, "invalid-request"),
    ({"lead_id": 1}, 422, "invalid-request"),
    ({"recorded_at": instant(timedelta(0))}, 422, "invalid-request"),
]

OF_LEADS = [
    ({"email": "nobody"}, 422, "invalid-request"),
    ({"employees": -1}, 422, "invalid-request"),
    ({"employees": "many"}, 422, "invalid-request"),
    ({"employees": 10**400}, 422, "invalid-request"),
    ({"owner_id": 10**30}, 422, "invalid-request"),
    ({"owner_id": 999}, 422, "invalid-value"),
    ({"owner_id": 2}, 403, "access-denied"),
    ({"custom": {"shoe_size": 43}}, 422, "unknown-field"),
    ({"custom": {"a\x00": 1}}, 422, "unsafe-text"),
    ({"custom": {"depth": [1]}}, 422, "invalid-request"),
    ({"custom": {"n": 10**4000}}, 422, "invalid-request"),
    ({"external_id": "taken"}, 409, "duplicate-external-id"),
    ({"name": None, "company": None}, 422, "invalid-value"),
    ({"status": "converted"}, 422, "invalid-request"),
]

OF_STAGES = [
    ({"stage": "honeymoon"}, 422, "stage-not-in-pipeline"),
    ({"stage": "contract"}, 422, "invalid-value"),
]


@pytest.fixture(scope="module")
def store(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all: nothing here may write to it."""
    path = tmp_path_factory.mktemp("bad") / "crm.db"
    shutil.copy(empty_database, path)
    opened = Store(f"sqlite:///{path}", clock=FixedClock(MONDAY))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def cast(store: Store, password_hash: str) -> Cast:
    made = make_cast(store, password_hash)
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=made["Ana"].id, external_id="taken")
        make_deal(transaction, owner_id=made["Ana"].id)
    return made


@pytest.fixture(scope="module")
def client(store: Store) -> FlaskClient:
    settings = Settings(home=Path(store.url.removeprefix("sqlite:///")).parent)
    return create_app(settings, store, Champions(store, load_nothing)).test_client()


def load_nothing(task: str, promotion: object) -> Scorer:
    raise AssertionError(task)


def dump(store: Store) -> list[tuple[Any, ...]]:
    """Everything that a write could have left behind."""
    with store.reading() as session:
        tables = ("leads", "deals", "activities", "accounts", "changes", "predictions")
        return [tuple(row) for table in tables for row in session.execute(text(f"SELECT * FROM {table}"))]


def check_problem(answer: Any, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["type"] == f"urn:crm:problem:{slug}"
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


ROOMY = {"/api/v1/files", "/api/v1/intake/mail"}
"""What takes a file in its body, and more than others may send."""


def read_at_the_door(app: OpenAPI) -> list[tuple[str, str]]:
    """Return the method and the path of every operation of the specification that reads a body of JSON."""
    named = {"{task}": "lead_scoring", "{type}": "leads", "{day}": "2026-05-01"}

    def filled(path: str) -> str:
        return re.sub(r"{[^}]*}", lambda part: named.get(part[0], "1"), path)

    return [
        (method, filled(path))
        for path, item in app.api_doc["paths"].items()
        if "/custom/{type}" not in path  # no type is declared here
        for method, operation in item.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]


@pytest.mark.parametrize(
    "bad", [each for each in BAD if each.more is None and each.text is None], ids=lambda bad: bad.name
)
def test_no_operation_lets_in_what_is_no_body(
    client: FlaskClient, store: Store, cast: Cast, bad: Bad
) -> None:
    app = client.application
    assert isinstance(app, OpenAPI)
    before, differs = dump(store), []
    for method, path in read_at_the_door(app):
        if bad.name == "huge" and path in ROOMY:
            continue
        body = b"{}" if bad.body is None else bad.body
        answer = client.open(
            path, method=method, data=body, headers=cast.header("Adam"), content_type=bad.content_type
        )
        if (answer.status_code, answer.content_type) != (bad.status, "application/problem+json"):
            differs.append((method, path, answer.status_code))
    assert differs == []
    assert dump(store) == before


@pytest.mark.parametrize("path", ABOUT_SCORES | ABOUT_ALERTS | ABOUT_SELLING)
def test_bad_bodies_about_scores_and_alerts(client: FlaskClient, store: Store, cast: Cast, path: str) -> None:
    before = dump(store)
    for bad in (each for each in BAD if each.text is None):
        content_type = {"content_type": bad.content_type} if bad.content_type else {}
        body = bad.body
        if body is None:
            body = json.dumps(
                {**(ABOUT_SCORES | ABOUT_ALERTS | ABOUT_SELLING)[path], **(bad.more or {})}
            ).encode()
        answer = client.post(path, data=body, headers=cast.header("Adam"), **content_type)
        slug, status = bad.slug, bad.status
        if slug == "future-event" and not path.endswith(("hypothetical", "meetings")):
            slug, status = "invalid-request", 422
        check_problem(answer, status, slug)
    assert dump(store) == before


@pytest.mark.parametrize("path", ABOUT_PEOPLE)
def test_bad_bodies_about_people(client: FlaskClient, store: Store, cast: Cast, path: str) -> None:
    before = dump(store)
    for bad in (each for each in BAD if each.text is None):
        content_type = {"content_type": bad.content_type} if bad.content_type else {}
        body = bad.body
        if body is None:
            body = json.dumps({**ABOUT_PEOPLE[path], **(bad.more or {})}).encode()
        answer = client.post(path, data=body, headers=cast.header("Adam"), **content_type)
        slug, status = ("invalid-request", 422) if bad.slug == "future-event" else (bad.slug, bad.status)
        check_problem(answer, status, slug)
    values: tuple[object, ...] = (None, "x", [], 10**30, -1, {})
    for value in values:
        answer = client.post(path, json=dict.fromkeys(ABOUT_PEOPLE[path], value), headers=cast.header("Adam"))
        assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), value
    assert dump(store) == before


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_bodies(client: FlaskClient, store: Store, cast: Cast, path: str, bad: Bad) -> None:
    before = dump(store)
    content_type = {"content_type": bad.content_type} if bad.content_type else {}
    if bad.body is not None:
        answer = client.post(path, data=bad.body, headers=cast.header("Ana"), **content_type)
    else:
        body = {**WRITES[path], **(bad.more or {})}
        if bad.text is not None:
            body[TEXT.get(path, "subject")] = bad.text
        sent = client.application.json.dumps(body)
        answer = client.post(path, data=sent, headers=cast.header("Ana"), **content_type)
    if bad.slug == "unsafe-text" and path.endswith("/stage"):
        check_problem(answer, 422, "stage-not-in-pipeline")
    else:
        check_problem(answer, bad.status, bad.slug)
    assert dump(store) == before


@pytest.mark.parametrize(
    ("path", "more", "status", "slug"),
    [("/api/v1/leads", *case) for case in OF_LEADS]
    + [(f"/api/v1/{kind}/1/activities", *case) for case in OF_ACTIVITIES for kind in ("leads", "deals")]
    + [
        (f"/api/v1/deals/1/{what}", {"kind": "call", **more} if what == "activities" else more, *case)
        for more, *case in OF_STAGES
        for what in ("stage", "activities")
    ],
)
def test_bad_fields(
    client: FlaskClient, store: Store, cast: Cast, path: str, more: dict[str, Any], status: int, slug: str
) -> None:
    before = dump(store)
    answer = client.post(path, json={**WRITES[path], **more}, headers=cast.header("Ana"))
    check_problem(answer, status, slug)
    assert dump(store) == before


@pytest.mark.parametrize("path", [path.replace("/1/", "/999/") for path in WRITES if "/1/" in path])
@pytest.mark.parametrize("record_id", ["999", "0", str(2**63), str(10**40)])
def test_records_that_do_not_exist(
    client: FlaskClient, store: Store, cast: Cast, path: str, record_id: str
) -> None:
    before = dump(store)
    body = WRITES[path.replace("/999/", "/1/")]
    answer = client.post(path.replace("999", record_id), json=body, headers=cast.header("Ana"))
    assert (answer.status_code, answer.content_type) in [
        (404, "application/problem+json"),
        (422, "application/problem+json"),
    ]
    assert dump(store) == before


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=9999999",
        "limit=x",
        "order=colour",
        "order=name,-name",
        "order=",
        "fields=colour",
        "fields=password_hash",
        "status=asleep",
        "owner_id=x",
        "owner_id=99999999999999999999",
        "cursor=x",
        "cursor=W10",
        "cursor=WyItcHJvYmFiaWxpdHkiLCBOYU4sIDFd",  # ["-probability", NaN, 1]
        "cursor=%00",
        "search=%00",
        "colour=red",
    ],
)
def test_bad_queries(client: FlaskClient, cast: Cast, query: str) -> None:
    answer = client.get(f"/api/v1/leads?{query}", headers=cast.header("Ana"))
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), answer.text


def test_a_wrong_method_or_path_is_a_problem_too(client: FlaskClient, cast: Cast) -> None:
    check_problem(client.delete("/api/v1/leads", headers=cast.header("Ana")), 405, "method-not-allowed")
    check_problem(client.get("/api/v1/nothing", headers=cast.header("Ana")), 404, "not-found")
