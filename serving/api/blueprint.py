"""What the API's operations share: authentication, the form of answers, documented problems."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from flask import Request, Response, current_app, g, request
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag
from flask_openapi.types import ParametersTuple, ResponseDict
from flask_openapi.utils import parse_parameters
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from crm_core.records import User
from crm_core.tokens import Holder, Scope
from serving import problems
from serving.auth import find_caller
from serving.limits import Limit, place_of
from serving.once import HEADER, Once, fingerprint_of, read_key
from serving.payloads import Problem, plain_json
from serving.service import current_once, service, wake_rescoring

PREFIX = "/api/v1"

View = TypeVar("View", bound=Callable[..., Any])

_SCOPE = "required_scope"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

_PROBLEM = {
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
}


def documented(*statuses: int) -> ResponseDict:
    """Return the documentation of answers that tell of a problem."""
    return {str(status): {**_PROBLEM} for status in sorted({*statuses, 401, 403, 422, 429})}


def requires(scope: Scope) -> Callable[[View], View]:
    """Say what a key must be made for to call an operation; stands below the decorator with the path.

    Without it, `GET` takes a key that may read, everything else one that may write.
    """

    def mark(view: View) -> View:
        view.__dict__[_SCOPE] = scope
        return view

    return mark


def scope_of(view: Callable[..., Any], method: str) -> Scope:
    """Return what a key must be made for to call a view with a method."""
    declared: Scope | None = getattr(view, _SCOPE, None)
    return declared or (Scope.READ if method in _READING else Scope.WRITE)


class Operations(APIBlueprint):
    """A blueprint that is documented when somebody asks: two fifths of the time of starting went into that.

    `document` fills in what the framework does while operations are declared: `paths`, `tags` and schemas.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._undocumented: list[Callable[[], object]] = []
        self._documenting = threading.Lock()

    def _collect_openapi_info(self, *given: Any, **about: Any) -> ParametersTuple:
        self.document_later(partial(super()._collect_openapi_info, *given, **about))
        _rule, view = given
        return parse_parameters(view, doc_ui=False)

    def document_later(self, step: Callable[[], object]) -> None:
        """Have a step be taken, after those before it, when the operations are documented."""
        self._undocumented.append(step)

    def document(self) -> None:
        """Document every operation that is not yet documented."""
        with self._documenting:
            for step in self._undocumented:
                step()
            self._undocumented.clear()


def new_blueprint(name: str, description: str) -> Operations:
    """Return a blueprint below the API's prefix whose operations all need a key."""
    blueprint = Operations(
        name,
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=name, description=description)],
        abp_security=[{"key": []}],
        operation_id_callback=named,
    )
    blueprint.before_request(_authenticate)
    return blueprint


def named(*, name: str, **_where: str) -> str:
    """Return what an operation is called, and a generated client calls it: as its view."""
    return name


def caller() -> User:
    """Return the user whose key the request carries."""
    return cast("User", g.caller)


def key_holder() -> Holder:
    """Return the caller with what their key is for."""
    return cast("Holder", g.key_holder)


def answer(model: BaseModel, status: int = 200) -> Response:
    """Return a payload as JSON; a page of a list says in a header, too, where the next one is."""
    given = Response(model.model_dump_json(), status=status, content_type="application/json")
    more = getattr(model, "more", True)
    cursor, name = getattr(model, "next_cursor", None), getattr(model, "asked_with", "cursor")
    return link_next(given, cursor if more else None, name)


def link_next(response: Response, cursor: str | int | None, name: str = "cursor") -> Response:
    """Say in a header where the next page is, if there is one."""
    if cursor is not None:
        asked = [(each, value) for each, value in request.args.items(multi=True) if each != name]
        query = urlencode([*asked, (name, cursor)])
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response


def plain_answer(plain: Any, status: int = 200) -> Response:  # noqa: ANN401  as JSON is made of it
    """Return as JSON what has the form of a payload already."""
    return Response(plain_json(plain), status=status, content_type="application/json")


def is_keyed(view: Callable[..., Any], method: str) -> bool:
    """Tell whether an operation takes an Idempotency-Key: it writes, and in one transaction.

    What scores, or handles a person's data, takes none: sent again, it does no harm.
    """
    return method not in _READING and scope_of(view, method) not in {Scope.SCORE, Scope.PEOPLE}


def answer_once(view: Callable[[], Response]) -> Response:
    """Return what the current request's view answers; with an Idempotency-Key, only once."""
    sent = request.headers.get(HEADER)
    if sent is None or "key_holder" not in g or not is_keyed(_asked_view(), request.method):
        return view()
    key = read_key(sent)
    if key is None:
        return problems.of_request("invalid-idempotency-key", "expected 1 to 255 visible ASCII characters")
    once = g.once = Once(service().store, user=caller(), key=key, fingerprint=fingerprint_of(request))
    try:
        given = once.answer(view)
    finally:
        del g.once
    if once.wrote:
        wake_rescoring()
    return given


def keep_no_body() -> None:
    """Have the answer at hand not be kept for an Idempotency-Key: it holds a secret."""
    once = current_once()
    if once is not None:
        once.keeps_body = False


def _asked_view() -> Callable[..., Any]:
    return current_app.view_functions[str(request.endpoint)]


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


def _unknown() -> Response:
    if "Authorization" not in request.headers:
        return problems.not_authenticated("expected the header Authorization: Bearer KEY")
    return problems.invalid_key("the key is unknown, expired or revoked")


def _limited(limit: Limit, who: object) -> Response | None:
    """Count the request; return the refusal if it is one too many."""
    standing = limit.ask(who, service().store.clock.now())
    if standing is None:
        return None
    g.standing = standing
    if not standing.refused:
        return None
    return problems.of_request("too-many-requests", f"expected at most {limit.per_minute} requests a minute")


def _authenticate() -> Response | None:
    running = service()
    holder = find_caller(running.store)
    if holder is None:
        return _limited(running.limits.anonymous, place_of(request.remote_addr)) or _unknown()
    g.caller, g.key_holder = holder.user, holder
    now = running.store.clock.now()
    if not holder.was_noted(now):
        running.journal.note_use(holder.token_id, now)
    if refused := _limited(running.limits.keys, holder.token_id):
        return refused
    scope = scope_of(_asked_view(), request.method)
    g.only_scores = scope is Scope.SCORE
    return None if scope in holder.scopes else problems.insufficient_scope(scope)
