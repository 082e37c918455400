"""What the API's operations share: authentication, the form of answers, documented problems."""

from __future__ import annotations

from typing import Any, cast

from flask import Request, Response, g, request
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag
from flask_openapi.types import ResponseDict
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from crm_core.records import User
from serving import problems
from serving.auth import find_caller
from serving.payloads import Problem
from serving.service import service

PREFIX = "/api/v1"

_PROBLEM = {
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
}


def documented(*statuses: int) -> ResponseDict:
    """Return the documentation of answers that tell of a problem."""
    return {str(status): {**_PROBLEM} for status in sorted({*statuses, 401, 422})}


def new_blueprint(name: str, description: str) -> APIBlueprint:
    """Return a blueprint below the API's prefix whose operations all need a key."""
    blueprint = APIBlueprint(
        name,
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=name, description=description)],
        abp_security=[{"key": []}],
    )
    blueprint.before_request(_authenticate)
    return blueprint


def caller() -> User:
    """Return the user whose key the request carries."""
    return cast("User", g.caller)


def answer(model: BaseModel, status: int = 200) -> Response:
    """Return a payload as JSON."""
    return Response(model.model_dump_json(), status=status, content_type="application/json")


class ApiRequest(Request):
    """A request whose JSON body reaches pydantic as text, to be parsed strictly and only once.

    The framework's own parser turns deep nesting into an internal error and takes NaN for a number.
    """

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002  as the framework has it
        """Return the body's text, refused unless it says that it is JSON."""
        if not self.is_json:
            sent = self.mimetype or "nothing"
            raise UnsupportedMediaType(f"expected the content type application/json, got {sent}")
        try:
            return self.get_data(cache=cache).decode()
        except UnicodeDecodeError as error:
            raise BadRequest("the body is no UTF-8") from error


def _authenticate() -> Response | None:
    if "Authorization" not in request.headers:
        return problems.not_authenticated("expected the header Authorization: Bearer KEY")
    user = find_caller(service().store)
    if user is None:
        return problems.not_authenticated("the key is unknown, expired or revoked")
    g.caller = user
    return None
