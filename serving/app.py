"""The Flask application: API, pages, and what every answer has in common."""

from __future__ import annotations

import re
import secrets
import time
from datetime import timedelta

import structlog
from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from flask_openapi.models.info import Info
from flask_openapi.models.security_scheme import SecurityScheme
from flask_openapi.openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from crm_core.errors import CRMError
from crm_core.store import Store
from serving import metrics, problems, web
from serving.api import (
    alerts,
    automation,
    changes,
    customers,
    deals,
    declared,
    files,
    finding,
    forecast,
    funnel,
    health,
    intake,
    job_queue,
    kept,
    leads,
    mails,
    marketing,
    operations,
    own,
    people,
    predictions,
    records,
    records_batch,
    records_verbs,
    reports,
    scores,
    selling,
    specification,
    stages,
    suggestions,
    targets,
    tickets,
    today,
    tokens,
    versions,
    webhooks,
    what_if,
    working_time,
)
from serving.api import rescoring as rescoring_api
from serving.api.blueprint import PREFIX, ApiRequest, Operations, answer_once
from serving.champions import Champions
from serving.home import session_secret
from serving.importing import LONGEST_FILE
from serving.job_handlers import Jobs
from serving.journal import people_told
from serving.logs import get_log
from serving.modelling import scorer_loader
from serving.payloads import Problem
from serving.rescoring import RescoringThread
from serving.service import Service, end_page_session, service
from serving.settings import Settings
from serving.web.refusals import refusal

LONGEST_BODY = 2**20
LONGEST_UPLOAD = LONGEST_FILE + LONGEST_BODY
"""What the one form takes that sends a file: the file, and what stands around it."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load: our own files, and pictures written into the style sheet; nothing inline."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_PARTS = (
    leads,
    deals,
    records_verbs,
    records_batch,
    files,
    declared,
    changes,
    customers,
    forecast,
    reports,
    funnel,
    kept,
    marketing,
    alerts,
    today,
    tickets,
    working_time,
    what_if,
    suggestions,
    scores,
    selling,
    stages,
    targets,
    finding,
    people,
    predictions,
    versions,
    rescoring_api,
    tokens,
    own,
    operations,
    job_queue,
    webhooks,
    automation,
    intake,
    mails,
    health,
)
"""What the API consists of, in the order of its document."""

_log = get_log("serving.requests")


class Application(OpenAPI):
    """A Flask application with an OpenAPI document."""

    request_class = ApiRequest

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer the request; with an Idempotency-Key, only once."""
        return answer_once(lambda: self.make_response(super(Application, self).dispatch_request()))

    def generate_spec_json(self) -> None:
        """Make the document, and add to every operation what is decided in one place for all."""
        for api in self.blueprints.values():
            if isinstance(api, Operations):
                api.document()
                self._take_over(api)
        super().generate_spec_json()  # type: ignore[no-untyped-call] # as the framework has it
        specification.complete(self, self.spec_json)

    def _take_over(self, api: Operations) -> None:
        """Make what was documented part of this document, as `register_api` would."""
        self.paths.update(api.paths)
        self.components_schemas.update(api.components_schemas)
        new = [tag for tag in api.tags if tag.name not in self.tag_names]
        self.tags.extend(new)
        self.tag_names.extend(tag.name for tag in new)


def create_app(
    settings: Settings,
    store: Store,
    champions: Champions | None = None,
    rescoring: RescoringThread | None = None,
    jobs: Jobs | None = None,
) -> OpenAPI:
    """Return the application that serves `store`, with the models promoted in it unless others are given.

    It starts no thread; `rescoring` is only told when there is something to do.
    """
    store.zone = settings.time_zone
    champions = champions or Champions(store, scorer_loader(settings.home_folder, store))
    app = Application(
        "serving",
        info=Info(title="Predictive CRM", version="1", description=specification.DESCRIPTION),
        security_schemes={"key": SecurityScheme(type="http", scheme="bearer")},
        validation_error_callback=_invalid,
        validation_error_model=Problem,
        validation_error_status=422,
        doc_ui=False,
        static_folder=None,
    )
    app.openapi_version = "3.1.0"
    _configure(app, settings)
    with app.app_context():
        Service(settings=settings, store=store, champions=champions, rescoring=rescoring, jobs=jobs).install()
    app.before_request(_begin)
    app.before_request(files.make_room)
    app.after_request(_finish)
    app.teardown_request(end_page_session)
    _handle_errors(app)
    for api in dict.fromkeys([*(part.api for part in _PARTS), *records.blueprints().values()]):
        app.register_api(api)
    web.register(app)
    specification.register(app)
    return app


def _configure(app: Flask, settings: Settings) -> None:
    app.config.update(
        SECRET_KEY=session_secret(settings.home_folder),
        MAX_CONTENT_LENGTH=LONGEST_BODY,
        SESSION_COOKIE_NAME="__Host-crm" if settings.https else "crm",
        SESSION_COOKIE_SECURE=settings.https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=settings.session_hours),
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=settings.https,
        BOOTSTRAP_SERVE_LOCAL=True,
    )


def _begin() -> None:
    sent = request.headers.get("X-Request-ID", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    g.began = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _finish(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if "may_be_framed" in g:  # the policy of such a page names the sites that may
        del response.headers["X-Frame-Options"]
    if service().settings.https:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    response.headers["X-Request-ID"] = g.request_id
    if "standing" in g:
        response.headers.update(g.standing.headers())
    _write_down_reads(response)
    if request.endpoint is None or not request.endpoint.endswith("static"):
        response.headers.setdefault("Cache-Control", "no-store")
    seconds = time.perf_counter() - g.began
    rule = str(request.url_rule) if request.url_rule else None
    metrics.note_request(request.method, rule, response.status_code, seconds)
    caller = g.get("caller")
    _log.info(
        "request",
        method=request.method,
        rule=rule,
        status=response.status_code,
        milliseconds=round(seconds * 1000, 1),
        user=caller.id if caller else None,
    )
    return response


def _write_down_reads(response: Response) -> None:
    if "people_told" in g or "people_unchanged" in g:
        running = service()
        if told := people_told(response, running.store.clock.now()):
            running.journal.note(told)


def _invalid(error: ValidationError) -> Response:
    return problems.of_validation(error)


def _handle_errors(app: Flask) -> None:
    app.register_error_handler(CRMError, _on_error)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(Exception, _on_surprise)


def _wants_page() -> bool:
    return not request.path.startswith((PREFIX, "/healthz", "/readyz", "/metrics"))


def _on_error(error: CRMError) -> ResponseReturnValue:
    kind = problems.kind_of(error)
    if kind.status >= 500:
        _log.error("refused", error=type(error).__name__, exc_info=error)
    if _wants_page():
        return web.error_page(kind.status, refusal(error) if kind.status < 500 else None)
    return problems.of_error(error)


def _on_http(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None or error.code is None or error.code < 400:
        return error.get_response()
    return web.error_page(error.code) if _wants_page() else problems.of_http(error)


def _on_surprise(error: Exception) -> ResponseReturnValue:
    _log.error("internal error", error=type(error).__name__, exc_info=error)
    return web.error_page(500) if _wants_page() else problems.internal()
