"""Webhooks over HTTP: who is told of what, and what became of it; for administrators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import check_may_operate
from crm_core.changes import Source
from crm_core.columns import check_text
from crm_core.errors import RecordNotFoundError
from crm_core.jobs import Job, list_jobs
from crm_core.tokens import Scope
from crm_core.webhooks import (
    WebhookEndpoint,
    check_event_types,
    delete_endpoint,
    disable,
    get_endpoint,
    list_endpoints,
    list_event_types,
    start,
    topic_of,
)
from serving.api.blueprint import answer, caller, documented, keep_no_body, new_blueprint, requires
from serving.api.conditional import ReadHeaders, WriteHeaders, created, mark_of, tagged
from serving.outbound import OutboundClient
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc
from serving.service import service, writing
from serving.webhooks import Secrets, add_endpoint, check_owner, rotate, send_again, send_test

api: APIBlueprint = new_blueprint("webhooks", "Other systems that are told of events (docs/webhooks.md).")

_Name = Annotated[str, Field(min_length=1, max_length=120)]
_Url = Annotated[str, Field(min_length=1, max_length=2_000)]
_Types = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=80)]], Field(min_length=1, max_length=100)
]
_Change = Annotated[float, Field(ge=0, le=1)]


class NewWebhook(Taken):
    """A webhook to be made."""

    name: _Name = Field(description="What it is for.")
    url: _Url = Field(description="Where events are sent to: https, and a public address.")
    event_types: _Types = Field(description="Such as `deal.won`, `lead.*` or `*`.")
    owner_id: Id | None = Field(
        default=None, description="The user whose rights decide what is told; default: you."
    )
    least_change: _Change = Field(
        default=0.1, description="By how much a probability must move for `prediction.changed`."
    )


class WebhookChange(Taken):
    """What is to be another about a webhook; what is left out stays."""

    name: _Name | None = None
    url: _Url | None = None
    event_types: _Types | None = None
    owner_id: Id | None = None
    least_change: _Change | None = None
    active: bool | None = Field(
        default=None, description="True: tell it of what happens from now on. False: tell it of nothing."
    )


class WebhookOut(Given):
    """A webhook, without its secret."""

    id: int
    name: str
    url: str
    event_types: list[str]
    owner_id: int
    least_change: float
    active: bool
    created_at: Utc
    disabled_at: Utc | None
    disabled_reason: str | None
    failing_since: Utc | None = Field(description="Nothing was delivered since; null: the last one was.")
    former_until: Utc | None = Field(description="Until when the secret before the newest signs, too.")


class MadeWebhook(WebhookOut):
    """A webhook with its secret, which is told only now."""

    secret: str = Field(description="For the receiver to check signatures with. It cannot be read again.")


class WebhooksQuery(Asked):
    """Which webhooks."""

    limit: int = Field(default=50, ge=1, le=200, description="Webhooks on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class WebhooksPage(Given):
    """Webhooks, in the order in which they were made."""

    items: list[WebhookOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class EventTypesOut(Given):
    """All types of events."""

    items: list[str]


class DeliveriesQuery(Asked):
    """Which deliveries."""

    state: Literal["waiting", "running", "done", "dead"] | None = Field(
        default=None, description="Only deliveries in this state."
    )
    limit: int = Field(default=50, ge=1, le=200, description="Deliveries on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class DeliveryPath(Asked):
    """Which delivery."""

    id: Id = Field(description="The webhook's id.")
    delivery_id: Id = Field(description="The delivery's id.")


class DeliveryOut(Given):
    """An event on its way to a webhook."""

    id: int
    event_id: str = Field(description="Sent as `webhook-id`, the same for every attempt.")
    type: str
    state: Literal["waiting", "running", "done", "dead"]
    attempts: int
    next_attempt_at: Utc | None = Field(description="Null: there is none to come.")
    last_error: str | None
    created_at: Utc
    ended_at: Utc | None
    content: dict[str, Any] = Field(description="What is sent: type, timestamp and data.")


class DeliveriesPage(Given):
    """Deliveries, newest first."""

    items: list[DeliveryOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


@api.get("/webhooks", responses={"200": WebhooksPage, **documented(403)})
@requires(Scope.ADMIN)
def list_webhooks(query: WebhooksQuery) -> Response:
    """List webhooks."""
    check_may_operate(caller())
    with service().store.reading() as session:
        found = list_endpoints(session, after=query.cursor or 0, limit=query.limit + 1)
        items = [WebhookOut.model_validate(each) for each in found[: query.limit]]
    more = len(found) > query.limit
    return answer(WebhooksPage(items=items, next_cursor=items[-1].id if more else None))


@api.get("/webhooks/event-types", responses={"200": EventTypesOut, **documented(403)})
@requires(Scope.ADMIN)
def list_webhook_event_types() -> Response:
    """List all types of events that a webhook may ask for."""
    check_may_operate(caller())
    with service().store.reading() as session:
        return answer(EventTypesOut(items=list_event_types(session)))


@api.post("/webhooks", responses={"201": MadeWebhook, **documented(400, 403, 404, 409, 413, 415)})
@requires(Scope.ADMIN)
def create_webhook(body: NewWebhook) -> Response:
    """Have an address told of events from now on; the answer holds its secret, which is told only now."""
    check_may_operate(caller())
    _client().check(body.url)
    keep_no_body()
    with writing(caller(), Source.API) as transaction:
        endpoint, secret = add_endpoint(
            transaction.session,
            _secrets(),
            name=body.name,
            url=body.url,
            event_types=body.event_types,
            owner_id=caller().id if body.owner_id is None else body.owner_id,
            least_change=body.least_change,
            now=transaction.now,
        )
        made = _with_secret(endpoint, secret)
    return created(made, f"webhooks/{made.id}", _mark_of(made))


@api.get("/webhooks/<int:id>", responses={"200": WebhookOut, **documented(403, 404)})
@requires(Scope.ADMIN)
def get_webhook(path: RecordPath, header: ReadHeaders) -> Response:
    """Read one webhook."""
    check_may_operate(caller())
    with service().store.reading() as session:
        found = WebhookOut.model_validate(get_endpoint(session, path.id))
    return header.answer(found, _mark_of(found))


@api.patch("/webhooks/<int:id>", responses={"200": WebhookOut, **documented(400, 403, 404, 409, 413, 415)})
@requires(Scope.ADMIN)
def change_webhook(path: RecordPath, header: WriteHeaders, body: WebhookChange) -> Response:
    """Change a webhook, or turn it on or off."""
    check_may_operate(caller())
    if body.url is not None:
        _client().check(body.url)
    with writing(caller(), Source.API) as transaction:
        session = transaction.session
        endpoint = get_endpoint(session, path.id, lock=True)
        header.check("webhook", path.id, _mark_of(WebhookOut.model_validate(endpoint)))
        check_owner(session, endpoint.owner_id if body.owner_id is None else body.owner_id)
        if body.event_types is not None:
            endpoint.event_types = check_event_types(session, body.event_types)
        for field in ("name", "url", "owner_id", "least_change"):
            if (value := getattr(body, field)) is not None:
                setattr(endpoint, field, check_text(field, value) if isinstance(value, str) else value)
        if body.active is True and not endpoint.active:
            start(session, endpoint)
        elif body.active is False and endpoint.active:
            disable(endpoint, None, now=transaction.now)
        session.flush()
        changed = WebhookOut.model_validate(endpoint)
    return tagged(changed.model_dump_json(), _mark_of(changed))


@api.delete("/webhooks/<int:id>", responses={"204": None, **documented(403, 404)})
@requires(Scope.ADMIN)
def delete_webhook(path: RecordPath, header: WriteHeaders) -> Response:
    """Delete a webhook, and what was still to be sent to it."""
    check_may_operate(caller())
    with writing(caller(), Source.API) as transaction:
        endpoint = get_endpoint(transaction.session, path.id, lock=True)
        header.check("webhook", path.id, _mark_of(WebhookOut.model_validate(endpoint)))
        delete_endpoint(transaction.session, endpoint)
    return Response(status=204)


@api.post("/webhooks/<int:id>/rotate-secret", responses={"200": MadeWebhook, **documented(403, 404, 409)})
@requires(Scope.ADMIN)
def rotate_webhook_secret(path: RecordPath) -> Response:
    """Give a webhook a new secret; for a day messages are signed with the old one, too."""
    check_may_operate(caller())
    keep_no_body()
    with writing(caller(), Source.API) as transaction:
        endpoint = get_endpoint(transaction.session, path.id, lock=True)
        secret = rotate(endpoint, _secrets(), now=transaction.now)
        transaction.session.flush()
        made = _with_secret(endpoint, secret)
    return answer(made)


@api.post("/webhooks/<int:id>/test", responses={"202": DeliveryOut, **documented(403, 404, 409)})
@requires(Scope.ADMIN)
def test_webhook(path: RecordPath) -> Response:
    """Send a webhook an event of the type `webhook.test`, whatever it asked for, even if it is off."""
    check_may_operate(caller())
    with writing(caller(), Source.API) as transaction:
        session = transaction.session
        job_id = send_test(session, get_endpoint(session, path.id), now=transaction.now)
        made = _delivery(session.get_one(Job, job_id))
    return answer(made, 202)


@api.get("/webhooks/<int:id>/deliveries", responses={"200": DeliveriesPage, **documented(403, 404)})
@requires(Scope.ADMIN)
def list_webhook_deliveries(path: RecordPath, query: DeliveriesQuery) -> Response:
    """List what was sent to a webhook or is on its way, newest first."""
    check_may_operate(caller())
    with service().store.reading() as session:
        endpoint = get_endpoint(session, path.id)
        found: Sequence[Job] = list_jobs(
            session,
            topic=topic_of(endpoint.id),
            state=query.state,
            before=query.cursor,
            limit=query.limit + 1,
        )
    items = [_delivery(job) for job in found[: query.limit]]
    more = len(found) > query.limit
    return answer(DeliveriesPage(items=items, next_cursor=items[-1].id if more else None))


@api.post(
    "/webhooks/<int:id>/deliveries/<int:delivery_id>/redeliver",
    operation_id="redeliver_webhook",
    responses={"202": DeliveryOut, **documented(403, 404, 409)},
)
@requires(Scope.ADMIN)
def redeliver(path: DeliveryPath) -> Response:
    """Send an event to a webhook again, under the same id."""
    check_may_operate(caller())
    with writing(caller(), Source.API) as transaction:
        session = transaction.session
        endpoint = get_endpoint(session, path.id)
        job = session.get(Job, path.delivery_id)
        if job is None or job.topic != topic_of(endpoint.id):
            raise RecordNotFoundError("delivery", path.delivery_id)
        job_id = send_again(session, endpoint, job, now=transaction.now)
        made = _delivery(session.get_one(Job, job_id))
    return answer(made, 202)


def _mark_of(webhook: WebhookOut) -> int:
    """Return what stands for what is set of a webhook, whatever became of what it was sent."""
    return mark_of(WebhookChange.model_construct(**webhook.model_dump(include={*WebhookChange.model_fields})))


def _client() -> OutboundClient:
    return OutboundClient(service().settings)


def _secrets() -> Secrets:
    return Secrets(service().settings.home_folder)


def _with_secret(endpoint: WebhookEndpoint, secret: str) -> MadeWebhook:
    return MadeWebhook(**WebhookOut.model_validate(endpoint).model_dump(), secret=secret)


def _delivery(job: Job) -> DeliveryOut:
    given = {name: getattr(job, name) for name in DeliveryOut.model_fields if hasattr(job, name)}
    told = {name: job.payload[name] for name in ("event_id", "type")}
    upcoming = job.run_at if job.state == "waiting" else None
    return DeliveryOut(**given, **told, next_attempt_at=upcoming, content=job.payload["content"])
