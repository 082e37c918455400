"""Every operation answers as its description says, whatever it is sent.

Cases are made from the OpenAPI document by schemathesis: half of them fit it, half of them do not. All of its
checks are made of every answer. `CONFORMANCE_EXAMPLES=200 make test ARGS=tests/serving/test_conformance.py`
tries harder.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.schemas import OpenApiSchema
from werkzeug.test import create_environ, run_wsgi_app

from tests.serving.drawing import draw_some
from tests.serving.full_service import FullService, full_service

EXAMPLES: Final = int(os.environ.get("CONFORMANCE_EXAMPLES", "50"))

SYNTAX: Final = "urn:crm:problem:invalid-request"
"""The problem of a request that does not fit the description."""

_RECORDS: Final = 6
"""Records that there are of each type, about."""


@pytest.fixture(scope="module")
def service(
    empty_database: Path,
    tracking_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    password_hash: str,
) -> Iterator[FullService]:
    home = tmp_path_factory.mktemp("conformance")
    shutil.copy(tracking_template, home / "mlflow.db")
    with full_service(home, empty_database, password_hash) as running:
        yield running


@pytest.fixture(scope="module")
def schema(service: FullService) -> OpenApiSchema:
    config = SchemathesisConfig.from_dict(
        {
            # What fits the description may still not make sense: a stage of another pipeline, a link to
            # nothing. It must be another problem than that of the wrong form, which is looked at below.
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", "304", "401", "403", "404", "409", "412", "422", "429"]
                }
            },
        }
    )
    return schemathesis.openapi.from_wsgi("/api/openapi.json", service.app, config=config)


def operations() -> list[str]:
    """Name every operation, without a store."""
    from docs import generate

    return [name for name in generate.operations() if name != "POST /api/v1/people/erase"]


@pytest.mark.timeout(60 * max(1, EXAMPLES // 50))
@pytest.mark.parametrize("name", operations())
def test_answers_are_those_that_are_described(service: FullService, schema: OpenApiSchema, name: str) -> None:
    method, path = name.split(" ", 1)
    operation = schema[path][method]
    drawn = random.Random(name)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        if mode is GenerationMode.POSITIVE or _takes_anything(operation):
            cases = draw_some(operation.as_strategy(generation_mode=mode), EXAMPLES // 2, drawn)
            tried = 0
            for tried, case in enumerate(cases, 1):  # noqa: B007  how many there were is looked at below
                _try(case, mode, drawn, service.cast.header("Adam"))
            assert tried, f"no case of {name} could be made"


def _try(case: Case[Any], mode: GenerationMode, drawn: random.Random, headers: dict[str, str]) -> None:
    fits = mode is GenerationMode.POSITIVE
    if fits:
        _lead_somewhere(case, drawn)
    answer = case.call_and_validate(headers=headers)
    if fits and answer.status_code == 422:
        assert not _of_the_wrong_form(answer.json()), (answer.json()["detail"], case.as_curl_command())


def _of_the_wrong_form(problem: dict[str, Any]) -> bool:
    """Tell whether a fault was found in the form; what our own words say of a value is no form."""
    faults = problem.get("errors", ()) if problem["type"] == SYNTAX else ()
    return any(not fault["detail"].startswith("expected") for fault in faults)


def _takes_anything(operation: Any) -> bool:
    return bool(operation.body or operation.query or operation.path_parameters or operation.headers)


def _lead_somewhere(case: Case[Any], drawn: random.Random) -> None:
    """Have most paths lead to records that there are; drawn numbers never would."""
    if "id" in (case.path_parameters or {}) and drawn.random() < 0.8:
        case.path_parameters["id"] = drawn.randint(1, _RECORDS)


# ---------------------------------------------------------------------------- hostile bodies


@functools.cache
def hostile_bodies() -> list[bytes]:
    """Return 200 bodies that somebody might send to break something."""
    texts = [
        *(
            "",
            " ",
            "null",
            "true",
            "0",
            "-1",
            "1e999",
            "-1e999",
            "NaN",
            "Infinity",
            '"text"',
            "[]",
            "[[]]",
            "{}",
        ),
        *("{", "[", '"', "}", "]", ",", ":", "{,}", "[,]", '{"a"}', '{"a":}', '{"a":1,}', "{'a':1}", "nul"),
        *("undefined", "/* c */{}", "{}//c", "{}{}", "\ufeff{}", "\x00", '{"\x00":1}', '{"a":"\\u0000"}'),
        *('{"a":"\\ud800"}', '{"\\udfff":1}', '{"a":"\\x41"}', '{"a":"\t"}', '{"id":1,"id":2}', '{"":""}'),
        *('{"__proto__":{}}', '{"constructor":1}', '{"$ref":"#"}', "<a/>", "a=1&b=2", "%7B%7D", "=1+1"),
        *("[" * 100_000, '{"a":' * 100_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 2_000 + "1" + "}" * 2_000),
        "9" * 100_000,
        "-" + "9" * 5_000,
        "1" + "0" * 400,
        "0." + "3" * 100_000,
        "1e" + "9" * 1_000,
        json.dumps("a" * 200_000),
        json.dumps({"a" * 100_000: 1}),
        json.dumps({str(number): number for number in range(20_000)}),
        json.dumps([1] * 100_000),
    ]
    bodies = [text.encode("utf-8", "surrogatepass") for text in texts]
    bodies += [
        b"\xff\xfe",
        b"\x80",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        "{}".encode("utf-16"),
        b"\x1f\x8b\x08",
    ]
    values: list[Any] = [
        *(None, True, False, 0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**200, 0.1, -0.0, 1e308, 5e-324),
        *("", " ", "a" * 100_000, "\x00", "\u202e", "\ud800", "'; DROP TABLE leads; --", "{{7*7}}", "${7*7}"),
        *(
            "<script>alert(1)</script>",
            "=cmd|' /c calc'!A1",
            "../../etc/passwd",
            "%s%n",
            "\r\nSet-Cookie: a=b",
        ),
        *(
            [],
            {},
            [[]],
            [None],
            {"a": None},
            {"id": 1},
            ["a"] * 1_000,
            {"$gt": ""},
            "0000-00-00",
            "9999-12-31",
        ),
        *("2026-13-01", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    ]
    fields = (
        "name",
        "kind",
        "id",
        "ids",
        "custom",
        "stage",
        "operations",
        "amount",
        "occurred_at",
        "version",
    )
    for number, value in enumerate(values * len(fields)):
        if len(bodies) == 200:
            break
        field = fields[number % len(fields)]
        bodies.append(json.dumps({field: value}).encode())
    return bodies


def test_there_are_200_hostile_bodies_and_none_twice() -> None:
    assert len(set(hostile_bodies())) == 200


def writing_operations() -> list[str]:
    return [name for name in operations() if not name.startswith("GET ")] + ["POST /api/v1/people/erase"]


@pytest.mark.parametrize("name", writing_operations())
def test_hostile_bodies_break_nothing(service: FullService, name: str) -> None:
    method, path = name.split(" ", 1)
    documented = service.app.api_doc["paths"][path][method.lower()]["responses"]
    asked = create_environ(
        _filled_in(path),
        method=method,
        content_type="application/json",
        headers=service.cast.header("Adam"),
    )
    for body in hostile_bodies():
        sent = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        _, status, headers = run_wsgi_app(service.app, {**asked, **sent}, buffered=True)
        code = status.split()[0]
        assert code < "500", body[:100]
        assert code in documented, (code, body[:100])
        if code >= "400":
            assert headers["Content-Type"] == "application/problem+json"


def _filled_in(path: str) -> str:
    """Return a path that leads to a record that there is, of every kind that a path can name."""
    named = {
        "type": "leads",
        "task": "churn",
        "version": "churn-1",
        "external_id": "somewhere-1",
        "name": "grade",
        "pipeline": "default",
        "stage": "proposal",
    }
    if path.startswith("/api/v1/record-types/"):
        named["type"] = "lead"
    parts = [part.strip("{}") if part.startswith("{") else part for part in path.split("/")]
    return "/".join(
        named.get(name, "1") if part.startswith("{") else name
        for part, name in zip(path.split("/"), parts, strict=True)
    )
