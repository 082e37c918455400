"""The OpenAPI 3.1 document of the API, and a page to read it on."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, json, render_template
from flask_openapi.openapi import OpenAPI

DESCRIPTION = (
    "Records of a predictive CRM with what is likely to happen to them. Probabilities are numbers in [0, 1], "
    "money is a decimal number as text, instants are ISO 8601 with an offset. Every problem is "
    "`application/problem+json`."
)

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


def list_operations(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every operation of a document with its method and path, in the order of declaration."""
    return [
        {"method": method.upper(), "path": path, **item[method]}
        for path, item in spec["paths"].items()
        for method in _METHODS
        if method in item
    ]
