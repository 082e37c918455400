"""Webhooks: who is told of what happens here, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.jobs import Job, list_jobs
from crm_core.store import Transaction
from crm_core.webhooks import (
    WebhookEndpoint,
    delete_endpoint,
    disable,
    find_owner,
    get_endpoint,
    list_endpoints,
    list_event_types,
    start,
    topic_of,
)
from serving.outbound import OutboundClient
from serving.service import page_session, service
from serving.web.admin.shelf import ROWS, page, pages, to, try_to
from serving.web.asked import whole
from serving.web.language import gettext
from serving.webhooks import Secrets, add_endpoint, check_owner, rotate, send_again, send_test

LEAST_CHANGE = 0.1


@pages.get("/webhooks")
def list_webhooks() -> str:
    """List the webhooks, with the form for a new one."""
    return _show(None, {})


@pages.post("/webhooks")
def create_webhook() -> ResponseReturnValue:
    """Have an address told of events, and show the secret this one time."""
    made: list[tuple[int, str]] = []

    def act(transaction: Transaction) -> None:
        url, name = request.form.get("url", "").strip(), request.form.get("name", "").strip()
        if not name:
            raise InvalidValueError("name", name, "what the webhook is for")
        OutboundClient(service().settings).check(url)
        endpoint, secret = add_endpoint(
            transaction.session,
            Secrets(service().settings.home_folder),
            name=name,
            url=url,
            event_types=request.form.get("event_types", "").split(),
            owner_id=current_user.user.id,
            least_change=LEAST_CHANGE,
            now=transaction.now,
        )
        made.append((endpoint.id, secret))

    refused = try_to(act)
    if refused is not None:
        return make_response(_show(refused, request.form), 422)
    endpoint_id, secret = made[0]
    return _one(endpoint_id, secret=secret)


def _show(refused: str | None, values: Mapping[str, str]) -> str:
    session = page_session()
    return page(
        "webhooks.html",
        endpoints=list_endpoints(session),
        event_types=list_event_types(session),
        values=values,
        refused=refused,
    )


@pages.get("/webhooks/<int:endpoint_id>")
def show_webhook(endpoint_id: int) -> ResponseReturnValue:
    """Show a webhook, and what was sent to it."""
    return _one(endpoint_id)


def _one(endpoint_id: int, *, secret: str | None = None, refused: str | None = None) -> ResponseReturnValue:
    session = page_session()
    endpoint = get_endpoint(session, endpoint_id)
    before = request.args.get("before", type=whole)
    sent = list_jobs(session, topic=topic_of(endpoint.id), before=before, limit=ROWS + 1)
    answer = make_response(
        page(
            "webhook.html",
            endpoint=endpoint,
            owner=find_owner(session, endpoint.owner_id),
            secret=secret,
            refused=refused,
            sent=sent[:ROWS],
            before=sent[ROWS - 1].id if len(sent) > ROWS else None,
        ),
        422 if refused else 200,
    )
    if secret is not None:
        answer.headers["Cache-Control"] = "no-store"
    return answer


@pages.post("/webhooks/<int:endpoint_id>/<any(on, off, test):what>")
def do_to_webhook(endpoint_id: int, what: str) -> ResponseReturnValue:
    """Turn a webhook on or off, or send it a test."""

    def act(transaction: Transaction) -> None:
        endpoint = get_endpoint(transaction.session, endpoint_id, lock=True)
        _VERBS[what](transaction, endpoint)

    refused = try_to(act)
    if refused is not None:
        return _one(endpoint_id, refused=refused)
    flash(gettext("A test is on its way.") if what == "test" else gettext("Saved."))
    return redirect(to("show_webhook", endpoint_id=endpoint_id))


def _turn_on(transaction: Transaction, endpoint: WebhookEndpoint) -> None:
    check_owner(transaction.session, endpoint.owner_id)
    if not endpoint.active:
        start(transaction.session, endpoint)


def _turn_off(transaction: Transaction, endpoint: WebhookEndpoint) -> None:
    if endpoint.active:
        disable(endpoint, None, now=transaction.now)


def _send_test(transaction: Transaction, endpoint: WebhookEndpoint) -> None:
    send_test(transaction.session, endpoint, now=transaction.now)


_VERBS: dict[str, Callable[[Transaction, WebhookEndpoint], None]] = {
    "on": _turn_on,
    "off": _turn_off,
    "test": _send_test,
}


@pages.post("/webhooks/<int:endpoint_id>/secret")
def renew_secret(endpoint_id: int) -> ResponseReturnValue:
    """Give a webhook a new secret; for a day messages are signed with the old one too."""
    made: list[str] = []

    def act(transaction: Transaction) -> None:
        endpoint = get_endpoint(transaction.session, endpoint_id, lock=True)
        own = Secrets(service().settings.home_folder)
        made.append(rotate(endpoint, own, now=transaction.now))

    refused = try_to(act)
    return _one(endpoint_id, refused=refused) if refused else _one(endpoint_id, secret=made[0])


@pages.post("/webhooks/<int:endpoint_id>/delete")
def delete_webhook(endpoint_id: int) -> ResponseReturnValue:
    """Delete a webhook, and what was still to be sent to it."""

    def act(transaction: Transaction) -> None:
        delete_endpoint(transaction.session, get_endpoint(transaction.session, endpoint_id, lock=True))

    refused = try_to(act)
    flash(refused or gettext("The webhook is deleted."))
    return redirect(to("list_webhooks"))


@pages.post("/webhooks/<int:endpoint_id>/sent/<int:delivery_id>")
def send_anew(endpoint_id: int, delivery_id: int) -> ResponseReturnValue:
    """Send an event again, under the same id."""

    def act(transaction: Transaction) -> None:
        endpoint = get_endpoint(transaction.session, endpoint_id)
        job = transaction.session.get(Job, delivery_id)
        if job is None or job.topic != topic_of(endpoint.id):
            raise RecordNotFoundError("delivery", delivery_id)
        send_again(transaction.session, endpoint, job, now=transaction.now)

    refused = try_to(act)
    if refused is not None:
        return _one(endpoint_id, refused=refused)
    flash(gettext("It is on its way again."))
    return redirect(to("show_webhook", endpoint_id=endpoint_id))
