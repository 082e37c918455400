"""The OpenAPI 3.1 document of the API, and a page to read it on."""

from __future__ import annotations

import re
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, json, render_template
from flask_openapi.openapi import OpenAPI

from serving import once
from serving.api.blueprint import PREFIX, is_keyed, scope_of

DESCRIPTION = (
    "Records of a predictive CRM with what is likely to happen to them. Probabilities are numbers in [0, 1], "
    "money is a decimal number as text, instants are ISO 8601 with an offset. Every problem is "
    "`application/problem+json`."
)

_KEY = {
    "name": once.HEADER,
    "in": "header",
    "required": False,
    "description": "Of your choice, new for every effect: the same request sent again with it has no further "
    "effect and gets the same answer, for 24 hours.",
    "schema": {"type": "string", "pattern": once.PATTERN},
}
_NEXT = {
    "description": 'The next page, as `<...>; rel="next"`; absent on the last.',
    "schema": {"type": "string"},
}
_LOCATION = {
    "description": "Where the new one is.",
    "required": True,
    "schema": {"type": "string"},
}
_ETAG = {
    "description": 'What it is at: `"VERSION-DIGEST"`. Edits compare the version.',
    "required": True,
    "schema": {"type": "string"},
}
_CONVERTED = re.compile(r"<(?:\w+:)?(\w+)>")
_METHODS = ("get", "post", "put", "patch", "delete")

pages = Blueprint("specification", __name__)


def register(app: OpenAPI) -> None:
    """Add the document and its page."""
    app.register_blueprint(pages)


@pages.get("/api/openapi.json")
def get_document() -> Response:
    """Give the document."""
    return Response(json.dumps(document(current_app)), content_type="application/json")


@pages.get("/api/docs")
def show_document() -> str:
    """Show the document as a page, made here and without a script."""
    spec = document(current_app)
    return render_template("api_docs.html", spec=spec, operations=list_operations(spec))


def document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of the application."""
    return cast("OpenAPI", app).api_doc


def complete(app: Flask, spec: dict[str, Any]) -> None:
    """Say of every operation below the prefix which scope its key needs, and whether it can be repeated."""
    for rule in app.url_map.iter_rules():
        path = _CONVERTED.sub(r"{\1}", rule.rule)
        for method in (rule.methods or set()) if path.startswith(PREFIX) else ():
            operation = spec["paths"].get(path, {}).get(method.lower())
            if operation is not None:
                view = app.view_functions[rule.endpoint]
                operation["security"] = [{"key": [scope_of(view, method)]}]
                _never_null(operation)
                if is_keyed(view, method):
                    _take_key(operation)
                if method == "GET":
                    _tell_of_next(operation, spec["components"]["schemas"])
                _tell_of_conditions(operation)
    ours = (item for path, item in spec["paths"].items() if path.startswith(PREFIX))
    _tell_of_headers([pair for item in ours for pair in item.items()])
    _bound_names(spec["components"]["schemas"])


def _bound_names(schemas: dict[str, Any]) -> None:
    """Say again how long the name of a custom field may be, which the framework leaves out."""
    for schema in schemas.values():
        custom = schema.get("properties", {}).get("custom", {})
        for kind in (custom, *custom.get("anyOf", ())):
            if "additionalProperties" in kind and schema.get("additionalProperties") is False:
                kind["propertyNames"] = {"maxLength": 100}


def _never_null(operation: dict[str, Any]) -> None:
    """Say of what may be left out of an address that it is left out: `null` cannot be written there."""
    for parameter in operation.get("parameters", ()):
        schema = parameter.get("schema", {})
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if parameter.get("in") == "query" and len(kinds) == 1:
            del schema["anyOf"]
            schema |= kinds[0]
            if schema.get("default", ...) is None:
                del schema["default"]


def _take_key(operation: dict[str, Any]) -> None:
    """Say that an operation takes an Idempotency-Key, and what may come of it."""
    operation.setdefault("parameters", []).append(_KEY)
    for status in ("400", "409"):
        operation["responses"].setdefault(status, operation["responses"]["401"])


def _tell_of_conditions(operation: dict[str, Any]) -> None:
    """Say of an operation that takes a condition what comes of one that does not hold."""
    taken, given = parameters_of(operation), operation["responses"]
    if "If-None-Match" in taken:
        given["304"] = {"description": "It is as you know it.", "headers": {"ETag": _ETAG}}
    if "If-Match" in taken:
        given.setdefault("412", given["401"])


def _tell_of_headers(operations: list[tuple[str, dict[str, Any]]]) -> None:
    """Say of answers where something new is, and, of what can be edited, at which version it is."""
    tagged = {_answered(each, "200") for _, each in operations if "If-None-Match" in parameters_of(each)}
    for method, operation in operations:
        for status in {"200", "201"} & operation["responses"].keys():
            headers = dict(operation["responses"][status].get("headers", {}))
            reads_alone = method == "get" and "If-None-Match" not in parameters_of(operation)
            if _answered(operation, status) in tagged - {""} and not reads_alone:
                headers["ETag"] = _ETAG
            if status == "201":
                headers["Location"] = _LOCATION
            if headers:
                operation["responses"][status]["headers"] = headers


def _answered(operation: dict[str, Any], status: str) -> str:
    """Return the schema of what an operation answers with, empty if it has no name."""
    given = operation["responses"].get(status, {}).get("content", {}).get("application/json", {})
    return str(given.get("schema", {}).get("$ref", ""))


def parameters_of(operation: dict[str, Any]) -> set[str]:
    """Return the names of what an operation takes beside its body."""
    return {each["name"] for each in operation.get("parameters", ())}


def _tell_of_next(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Say of an operation that answers with a page that a header names the next one."""
    given = operation["responses"].get("200", {})
    page = schemas.get(_answered(operation, "200").rpartition("/")[2], {})
    if "next_cursor" in page.get("properties", {}):
        given.setdefault("headers", {}).setdefault("Link", _NEXT)


def list_operations(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every operation of a document with its method and path, in the order of declaration."""
    return [
        {"method": method.upper(), "path": path, **item[method]}
        for path, item in spec["paths"].items()
        for method in _METHODS
        if method in item
    ]
