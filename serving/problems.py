"""Every error as `application/problem+json` (RFC 9457): one table says which error means what over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from flask import Response, g, json
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from crm_core import errors

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:crm:problem:"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of problem: its stable name, its status, and its title."""

    slug: str
    status: int
    title: str


def _kind(status: int, slug: str, title: str) -> Kind:
    return Kind(slug=slug, status=status, title=title)


KINDS: dict[type[errors.CRMError], Kind] = {
    errors.CRMError: _kind(500, "internal", "Something went wrong here"),
    errors.InvalidValueError: _kind(422, "invalid-value", "A field cannot take that value"),
    errors.UnsafeTextError: _kind(422, "unsafe-text", "A text holds what no database can keep"),
    errors.RecordNotFoundError: _kind(404, "record-not-found", "There is no such record"),
    errors.DuplicateExternalIdError: _kind(409, "duplicate-external-id", "The external id is taken"),
    errors.StaleRecordError: _kind(412, "stale-record", "The record has changed since it was read"),
    errors.FutureEventError: _kind(422, "future-event", "It cannot have happened yet"),
    errors.UnknownFieldError: _kind(422, "unknown-field", "There is no such field"),
    errors.FieldRetiredError: _kind(422, "field-retired", "The field takes no values any more"),
    errors.UnknownRecordTypeError: _kind(422, "unknown-record-type", "There is no such record type"),
    errors.DeclarationError: _kind(422, "declaration", "It cannot be declared like that"),
    errors.FilterError: _kind(422, "filter", "The condition cannot be read"),
    errors.FieldAlreadyDeclaredError: _kind(409, "field-already-declared", "The field is declared otherwise"),
    errors.LeadNotOpenError: _kind(409, "lead-not-open", "The lead is not open"),
    errors.MergeError: _kind(409, "merge", "The records cannot be made one"),
    errors.TemplateError: _kind(422, "template", "The template cannot be filled in"),
    errors.EmptyPlaceError: _kind(422, "empty-place", "A value that the template needs is missing"),
    errors.NotWrittenToError: _kind(409, "not-written-to", "This person is not to be written to"),
    errors.HandoverError: _kind(409, "handover", "There is nobody to hand over to"),
    errors.ScoringOptOutError: _kind(409, "scoring-opt-out", "Somebody asked not to be scored"),
    errors.DealNotOpenError: _kind(409, "deal-not-open", "The deal is not open"),
    errors.StageNotInPipelineError: _kind(422, "stage-not-in-pipeline", "The pipeline has no such stage"),
    errors.MissingFieldsError: _kind(422, "missing-fields", "The stage requires more of the deal"),
    errors.ChecklistOpenError: _kind(422, "checklist-open", "Something is to be done first"),
    errors.QuoteStateError: _kind(409, "quote-state", "The quote is not where it would have to be"),
    errors.ApprovalNeededError: _kind(409, "approval-needed", "Somebody has to approve it first"),
    errors.ApprovalDecidedError: _kind(409, "approval-decided", "The request was decided already"),
    errors.AlertClosedError: _kind(409, "alert-closed", "The cause of the alert is over"),
    errors.RuleLoopError: _kind(422, "rule-loop", "The rule would set off itself"),
    errors.AccessDeniedError: _kind(403, "access-denied", "Your role may not do that"),
    errors.LoginRefusedError: _kind(401, "login-refused", "The identity provider does not vouch for you"),
    errors.StoreNotInitialisedError: _kind(503, "store-not-initialised", "The record store is not ready"),
    errors.StoreBusyError: _kind(503, "store-busy", "The record store is in use elsewhere"),
    errors.SettingsError: _kind(500, "settings", "A setting cannot be used"),
    errors.HomeInUseError: _kind(409, "home-in-use", "The home folder holds other data"),
    errors.BackupError: _kind(500, "backup", "The backup cannot be used"),
    errors.ConnectorError: _kind(503, "connector", "Another system refused"),
    errors.MappingError: _kind(422, "mapping", "The import mapping cannot be used"),
    errors.SourceFileError: _kind(422, "source-file", "A file to import cannot be used"),
    errors.ExportFolderError: _kind(500, "export-folder", "The export cannot be written"),
    errors.JobError: _kind(503, "job", "The work was not done this time"),
    errors.HopelessJobError: _kind(409, "hopeless-job", "The work cannot be done"),
    errors.OutboundError: _kind(502, "outbound", "Another system did not do its part"),
    errors.AddressRefusedError: _kind(422, "address-refused", "Requests must not go to that address"),
    errors.NoAnswerError: _kind(502, "no-answer", "Another system does not answer"),
    errors.FeatureError: _kind(500, "feature", "A feature is declared wrongly"),
    errors.OutcomeFieldError: _kind(
        422, "outcome-field", "A field written at the outcome cannot be an input"
    ),
    errors.FeatureSetMismatchError: _kind(
        503, "feature-set-mismatch", "The model was made for other features"
    ),
    errors.TrainingError: _kind(409, "training", "The training run must not go on"),
    errors.LeakageError: _kind(409, "leakage", "An input knows the outcome"),
    errors.NotEnoughDataError: _kind(409, "not-enough-data", "There is too little data to say anything"),
    errors.ScorecardError: _kind(422, "scorecard", "The scorecard cannot be used"),
    errors.ModelError: _kind(503, "model", "The model cannot serve"),
    errors.ModelNotFoundError: _kind(404, "model-not-found", "There is no such model"),
    errors.NoChampionError: _kind(409, "no-champion", "No model has been promoted for the task"),
    errors.GateNotPassedError: _kind(409, "gate-not-passed", "The model is not better, or nothing tells yet"),
    errors.ChampionChangedError: _kind(409, "champion-changed", "Another model was put in charge meanwhile"),
    errors.DamagedModelError: _kind(503, "damaged-model", "The model's file is damaged"),
}
"""What each error of the program means over HTTP; a test proves that none is missing."""

REQUEST_KINDS: dict[str, Kind] = {
    kind.slug: kind
    for kind in (
        _kind(400, "invalid-json", "The body is no JSON"),
        _kind(401, "not-authenticated", "A valid API key is needed"),
        _kind(403, "insufficient-scope", "The API key was not made for that"),
        _kind(400, "invalid-idempotency-key", "The Idempotency-Key cannot be read"),
        _kind(409, "answer-not-kept", "It was done before, and its answer is not kept"),
        _kind(422, "idempotency-key-reused", "The Idempotency-Key was used for another request"),
        _kind(429, "too-many-requests", "That was asked too often"),
        _kind(422, "invalid-request", "The request does not have the form asked for"),
    )
}
"""Problems that no error of the program stands behind."""

REFUSED_BY_FRAMEWORK: Final = (
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
"""What the framework refuses before anything of ours is asked."""

_INTERNAL = KINDS[errors.CRMError]


def kind_of(error: errors.CRMError) -> Kind:
    """Return the kind of problem that an error is."""
    return next(KINDS[parent] for parent in type(error).__mro__ if parent in KINDS)


def problem(kind: Kind, detail: str, **more: Any) -> Response:
    """Return the answer that tells of a problem."""
    body = {
        "type": PREFIX + kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "request_id": g.get("request_id"),
        **more,
    }
    return Response(json.dumps(body), status=kind.status, content_type=MEDIA_TYPE)


def of_error(error: errors.CRMError) -> Response:
    """Return the answer to an error of the program; what is our own fault is not spelled out."""
    kind = kind_of(error)
    detail = str(error) if kind.status < 500 else "The cause is in the log, under the request id."
    return problem(kind, detail, **_where(error))


def _where(error: errors.CRMError) -> dict[str, Any]:
    """Return which field, or fields, an error is about."""
    if isinstance(error, errors.InvalidValueError | errors.UnknownFieldError):
        return {"field": error.field}
    if isinstance(error, errors.MissingFieldsError):
        needed = f"the stage {error.stage!r} requires it"
        return {"errors": [{"field": field, "detail": needed} for field in error.fields]}
    return {}


def of_validation(error: ValidationError) -> Response:
    """Return the answer to a request of the wrong form: each fault with its place."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return problem(REQUEST_KINDS["invalid-json"], faults[0]["msg"])
    listed = [
        {"field": ".".join(map(str, fault["loc"])), "detail": _detail_of(fault, error.title)}
        for fault in faults[:20]
    ]
    # What is wrong with the body as a whole is wrong with no field of it.
    told = (f"{fault['field']}: {fault['detail']}".removeprefix(": ") for fault in listed[:3])
    detail = "; ".join(told)
    return problem(REQUEST_KINDS["invalid-request"], detail, errors=listed)


def _detail_of(fault: ErrorDetails, model: str) -> str:
    """Return what is wrong with a field; of one that there is none of, which there are."""
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1 and (known := _fields_of(model)):
        return f"there is no such field; expected one of {', '.join(known)}"
    return fault["msg"].removeprefix("Value error, ")


@cache
def _fields_of(model: str) -> Sequence[str]:
    """Return what a model of requests is called for to be given, by the model's name."""
    asked = (each for each in _below(BaseModel) if each.__name__ == model)
    ours = next((each for each in asked if each.__module__.startswith("serving.")), None)
    return [] if ours is None else [field.alias or name for name, field in ours.model_fields.items()]


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _below(child)


def kind_of_http(error: HTTPException) -> Kind:
    """Return the kind of problem that something is which the framework refused."""
    return Kind(slug=error.name.lower().replace(" ", "-"), status=error.code or 500, title=error.name)


def of_http(error: HTTPException) -> Response:
    """Return the answer to what the framework refused: a wrong path, method, media type or size."""
    answer = problem(kind_of_http(error), str(error.description or error.name))
    if allowed := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def of_request(slug: str, detail: str) -> Response:
    """Return the answer to a request that is refused without an error of the program."""
    return problem(REQUEST_KINDS[slug], detail)


def not_authenticated(detail: str) -> Response:
    """Return the answer to a request without a valid API key."""
    answer = problem(REQUEST_KINDS["not-authenticated"], detail)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="crm"'
    return answer


def invalid_key(detail: str) -> Response:
    """Return the answer to a request with a key that opens nothing (RFC 6750)."""
    answer = problem(REQUEST_KINDS["not-authenticated"], detail)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="crm", error="invalid_token"'
    return answer


def insufficient_scope(scope: str) -> Response:
    """Return the answer to a request with a key that was made for other things (RFC 6750)."""
    detail = f"expected a key with the scope {scope!r}"
    answer = problem(REQUEST_KINDS["insufficient-scope"], detail)
    answer.headers["WWW-Authenticate"] = f'Bearer realm="crm", error="insufficient_scope", scope="{scope}"'
    return answer


def internal() -> Response:
    """Return the answer to an error that nobody expected."""
    return problem(_INTERNAL, "The cause is in the log, under the request id.")
