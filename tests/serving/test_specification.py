"""The OpenAPI document tells the truth, in a form that generators read."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from pydantic import BaseModel

from serving.api.blueprint import PREFIX, new_blueprint


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    read: dict[str, Any] = client.get("/api/openapi.json").get_json()
    return read


def test_it_is_openapi_3_1_and_needs_no_key_to_be_read(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert {"Problem", "LeadOut", "LeadIn", "LeadPatch"} <= named


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"].endswith(".") for operation in operations)


def test_operations_are_documented_when_somebody_asks() -> None:
    api = new_blueprint("made up", "Nothing.")
    api.get("/nothing", responses={"204": None})(get_nothing)
    assert api.paths == {}
    for _ in range(2):
        api.document()
        assert [*api.paths] == [f"{PREFIX}/nothing"]
        assert [tag.name for tag in api.tags] == ["made up"]


def get_nothing() -> Response:
    """Answer nothing."""
    return Response(status=204)


def test_no_operation_hides_another(app: Flask) -> None:
    """Of two views at one place, one is never asked, and may be the one that is described."""
    declared = Counter(
        (method, re.sub(r"<[^>]+>", "<>", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}  # which the framework adds
    )
    assert [place for place, count in declared.items() if count > 1] == []


def test_no_schema_hides_another(document: dict[str, Any]) -> None:
    """Of two models of one name, the document has one, and describes the answers of the other by it."""
    known = Counter(model.__name__ for model in _models(BaseModel) if model.__module__.startswith("serving."))
    assert [name for name in document["components"]["schemas"] if known[name] > 1] == []


def _models(parent: type[BaseModel]) -> set[type[BaseModel]]:
    """Return every model that is made from another one, at any remove."""
    children = set(parent.__subclasses__())
    return children.union(*(_models(child) for child in children))


def test_names_of_operations_are_words_and_all_that_is_asked_is_described(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), path
            for each in operation.get("parameters", ()):
                assert each["in"] == "path" or each.get("description"), (path, each["name"])


def test_every_operation_below_the_prefix_needs_a_key_made_for_one_thing(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            if path.startswith("/api/"):
                ((name, scopes),) = (pair for either in operation["security"] for pair in either.items())
                assert (name, len(scopes)) == ("key", 1), path
                assert {"401", "403"} <= operation["responses"].keys(), path
            else:
                needs = path.startswith("/metrics")
                assert operation.get("security") == ([{"key": []}] if needs else None), path


def test_problems_are_documented_as_problems(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path.startswith("/api/"):
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)


@pytest.mark.parametrize("kind", ["leads", "deals"])
def test_calls_about_scores_may_be_refused_to_a_role(document: dict[str, Any], kind: str) -> None:
    paths = document["paths"]
    assert "403" in paths[f"/api/v1/{kind}/{{id}}/score"]["post"]["responses"]
    assert "403" in paths["/api/v1/{type}/{id}/predictions"]["get"]["responses"]


def test_every_path_of_the_application_below_the_prefix_is_documented(
    app: Flask, document: dict[str, Any]
) -> None:
    rules = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(rule)) for rule in app.url_map.iter_rules()}
    served = {rule for rule in rules if rule.startswith("/api/v1")}
    assert served == {path for path in document["paths"] if path.startswith("/api/v1")}


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-123", True), ("a b", False), ("x" * 65, False), ("<script>", False)]
)
def test_a_request_keeps_a_harmless_id_of_its_own(client: FlaskClient, sent: str, kept: bool) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": sent})
    assert (answer.headers["X-Request-ID"] == sent) == kept


def test_every_page_of_a_list_documents_its_link_to_the_next_one(client: FlaskClient) -> None:
    spec = client.get("/api/openapi.json").get_json()
    pages = {
        path: item["get"]["responses"]["200"]
        for path, item in spec["paths"].items()
        if any(each["name"] in {"cursor", "after"} for each in item.get("get", {}).get("parameters", ()))
    }
    assert len(pages) > 30
    assert [path for path, given in pages.items() if "Link" not in given.get("headers", {})] == []
