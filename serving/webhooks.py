"""Tells endpoints of events by the Standard Webhooks specification (https://www.standardwebhooks.com).

Each delivery is a job: `webhook-id` names the event and stays the same for every attempt, `webhook-timestamp`
is that of the attempt, `webhook-signature` holds an HMAC-SHA256 for each secret in force. Only an answer of
2xx is a success; 410 turns the endpoint off; everything else is tried again for about three days. An endpoint
that took nothing for five days is turned off, and its owner is told.

A secret is made, not stored: HMAC-SHA256 of a random text in the database, under the installation's own
secret in `secrets.json`. Who has one of the two has no secret; all processes need the same `secrets.json`.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.columns import check_text, dump_json
from crm_core.errors import (
    HopelessJobError,
    InvalidValueError,
    JobError,
    OutboundError,
    RecordNotFoundError,
)
from crm_core.jobs import Job, complete, enqueue
from crm_core.outgoing import enqueue_mail
from crm_core.phrases import Phrase
from crm_core.records import User
from crm_core.store import Store
from crm_core.webhooks import (
    OWNER_LEFT,
    ROTATION,
    TEST,
    WEBHOOK,
    Event,
    WebhookEndpoint,
    check_event_types,
    content_for,
    disable,
    event_of,
    find_owner,
    get_endpoint,
    list_active,
    mark_of,
    note_success,
    owner_of,
    start,
    tell,
    tell_one,
    topic_of,
)
from serving.home import Home, session_secret
from serving.jobs import Steps
from serving.logs import get_log
from serving.mail import mail_is_on
from serving.outbound import Answer, OutboundClient
from serving.settings import Settings

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  what every secret begins with
TIMEOUT_SECONDS: Final = 18.0
LARGEST_ANSWER: Final = 16 * 1024
GIVEN_UP_AFTER: Final = timedelta(days=5)
_LONGEST_WAIT: Final = timedelta(days=1)
_GONE: Final = 410

SCHEDULE: Final = Steps(
    pauses=[
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=14),
        timedelta(hours=20),
        timedelta(hours=24),
    ]
)
"""What the specification suggests."""

_log = get_log("serving.webhooks")


class Secrets:
    """Makes the secrets of endpoints."""

    def __init__(self, home: Home) -> None:
        self._own = hmac.digest(session_secret(home).encode(), b"webhooks", "sha256")

    def of(self, salt: str) -> bytes:
        """Return the secret that belongs to a salt."""
        return hmac.digest(self._own, salt.encode(), "sha256")

    def renew(self, endpoint: WebhookEndpoint) -> str:
        """Give an endpoint a new secret, and return it as its receiver needs it."""
        endpoint.secret_salt = secrets.token_urlsafe(32)
        secret = self.of(endpoint.secret_salt)
        endpoint.secret_mark = mark_of(secret)
        return shown(secret)

    def in_force(self, endpoint: WebhookEndpoint, now: datetime) -> list[bytes]:
        """Return the secrets that sign for an endpoint, the newest first.

        Raises JobError where this installation's own secret is not the one that they were made with.
        """
        newest = self.of(endpoint.secret_salt)
        if not hmac.compare_digest(mark_of(newest), endpoint.secret_mark):
            raise JobError("secrets.json here is not the one that the webhook's secret was made with")
        former = endpoint.former_until is not None and now < endpoint.former_until
        return [newest, self.of(endpoint.former_salt)] if former and endpoint.former_salt else [newest]


def shown(secret: bytes) -> str:
    """Return a secret as its receiver needs it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signatures(in_force: Sequence[bytes], message_id: str, at: datetime, body: str) -> str:
    """Return the header that proves who sent a message: one signature for each secret."""
    return " ".join(Webhook(secret).sign(message_id, at, body) for secret in in_force)


# ------------------------------------------------------------------------------------------ deliveries


class Deliverer:
    """Tells one endpoint of one event."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: OutboundClient | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._settings = settings
        self._client = client or OutboundClient(settings)
        self._secrets = Secrets(settings.home_folder)
        self._timeout = timeout_seconds

    def __call__(self, store: Store, job: Job) -> None:
        """Send; raise JobError for it to be tried again, HopelessJobError if that is no use."""
        endpoint, body = self._endpoint(store, job)
        try:
            answer = self._send(endpoint, job, body, store.clock.now())
        except OutboundError as error:
            self._note_failure(store, endpoint.id)
            raise JobError(str(error)) from error
        self._judge(store, endpoint.id, answer)

    def _endpoint(self, store: Store, job: Job) -> tuple[WebhookEndpoint, str]:
        """Return the endpoint and what it is told, if it is still to be told of this."""
        with store.reading() as session:
            try:
                endpoint = get_endpoint(session, job.payload["endpoint_id"])
            except RecordNotFoundError as error:
                raise HopelessJobError("the webhook was deleted") from error
            owner = owner_of(session, endpoint)
            content = None if owner is None else content_for(Reader(session, owner), job)
        if owner is None:
            self._turn_off(store, endpoint.id, OWNER_LEFT)
            raise HopelessJobError(OWNER_LEFT)
        if not endpoint.active and job.payload["type"] != TEST:
            raise HopelessJobError("the webhook is off")
        if content is None:
            raise HopelessJobError("the webhook's owner may not see the record any more")
        return endpoint, dump_json(content)

    def _send(self, endpoint: WebhookEndpoint, job: Job, body: str, now: datetime) -> Answer:
        message_id = job.payload["event_id"]
        return self._client.request(
            "POST",
            endpoint.url,
            headers={
                "Content-Type": "application/json",
                "webhook-id": message_id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": signatures(self._secrets.in_force(endpoint, now), message_id, now, body),
            },
            body=body.encode(),
            timeout_seconds=self._timeout,
            largest_answer=LARGEST_ANSWER,
        )

    def _judge(self, store: Store, endpoint_id: int, answer: Answer) -> None:
        if 200 <= answer.status < 300:
            with store.transaction(source=Source.AUTOMATION) as transaction:
                note_success(transaction.session, endpoint_id)
            return
        if answer.status == _GONE:
            self._turn_off(store, endpoint_id, "it answered 410: it is gone")
            raise HopelessJobError("answered 410")
        self._note_failure(store, endpoint_id)
        wait = read_retry_after(answer.headers.get("retry-after"), store.clock.now())
        raise JobError(Phrase("answered {status}", status=answer.status), retry_after=wait)

    def _note_failure(self, store: Store, endpoint_id: int) -> None:
        """Note that an endpoint did not take something; turn it off if it took nothing for days."""
        with store.transaction(source=Source.AUTOMATION) as transaction:
            endpoint = get_endpoint(transaction.session, endpoint_id, lock=True)
            since = endpoint.failing_since = endpoint.failing_since or transaction.now
        if transaction.now - since >= GIVEN_UP_AFTER:
            self._turn_off(store, endpoint_id, f"it took nothing for {GIVEN_UP_AFTER.days} days")

    def _turn_off(self, store: Store, endpoint_id: int, reason: str) -> None:
        with store.transaction(source=Source.AUTOMATION) as transaction:
            session, now = transaction.session, transaction.now
            endpoint = get_endpoint(session, endpoint_id, lock=True)
            if not endpoint.active:
                return
            disable(endpoint, reason, now=now)
            owner = session.get(User, endpoint.owner_id)
            if owner is not None and owner.email and mail_is_on(self._settings):
                _tell_owner(session, endpoint, owner, reason, now)
        _log.error("webhook turned off", webhook=endpoint_id, reason=reason)


def _tell_owner(session: Session, endpoint: WebhookEndpoint, owner: User, reason: str, now: datetime) -> None:
    chinese = (owner.language or "").startswith("zh")
    subject = f"Webhook 已停用:{endpoint.name}" if chinese else f"Webhook turned off: {endpoint.name}"
    text = (
        f"Webhook “{endpoint.name}”({endpoint.url})已停用。原因:{reason}。\n修复后请通过 API 重新启用。\n"
        if chinese
        else f"The webhook {endpoint.name} ({endpoint.url}) was turned off: {reason}.\n"
        "Turn it on again through the API once that is put right.\n"
    )
    key = f"webhook-off:{endpoint.id}:{now.isoformat()}"
    enqueue_mail(session, to=owner.email, subject=subject, text=text, html=None, key=key, now=now)


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return how long an answer asks to be left alone, at most a day; None if it does not say."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(timedelta(seconds=min(int(value[:9]), 86_400)), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        return None
    return min(max(until - now, timedelta()), _LONGEST_WAIT)


def spread(store: Store, job: Job) -> None:
    """Find out who is to be told of an event that was emitted, and have them told."""
    with store.transaction(source=Source.AUTOMATION) as transaction:
        session = transaction.session
        tell(session, list_active(session), [event_of(job.payload)], transaction.now)
        complete(session, job, now=transaction.now, forget=True)


# ------------------------------------------------------------------------------------------ upkeep


def add_endpoint(
    session: Session,
    own: Secrets,
    *,
    name: str,
    url: str,
    event_types: Sequence[str],
    owner_id: int,
    least_change: float,
    now: datetime,
) -> tuple[WebhookEndpoint, str]:
    """Have a checked address told of events from now on; return the endpoint and its secret."""
    check_owner(session, owner_id)
    endpoint = WebhookEndpoint(
        name=check_text("name", name),
        url=url,
        event_types=check_event_types(session, event_types),
        owner_id=owner_id,
        least_change=least_change,
        created_at=now,
    )
    secret = own.renew(endpoint)
    start(session, endpoint)
    session.add(endpoint)
    session.flush()
    return endpoint, secret


def check_owner(session: Session, owner_id: int) -> None:
    """Refuse somebody whose rights could not decide what is told."""
    if find_owner(session, owner_id) is None:
        raise InvalidValueError("owner_id", owner_id, "the id of a user who works here")


def rotate(endpoint: WebhookEndpoint, own: Secrets, *, now: datetime) -> str:
    """Give an endpoint a new secret and return it; the old one signs beside it for a day."""
    endpoint.former_salt, endpoint.former_until = endpoint.secret_salt, now + ROTATION
    return own.renew(endpoint)


def send_test(session: Session, endpoint: WebhookEndpoint, *, now: datetime) -> int:
    """Have an endpoint told of nothing in particular; return the job's id."""
    event = Event(id=f"evt_t{secrets.token_hex(12)}", type=TEST, at=now, data={"message": "This is a test."})
    job_id = tell_one(session, endpoint, event, event.data, now=now)
    assert job_id is not None  # noqa: S101  its id was made for it
    return job_id


def send_again(session: Session, endpoint: WebhookEndpoint, job: Job, *, now: datetime) -> int:
    """Have an endpoint told again of an event, under the same id; return the new job's id."""
    made = enqueue(session, WEBHOOK, job.payload, now=now, topic=topic_of(endpoint.id))
    assert made is not None  # noqa: S101  it has no key that could be taken
    return made
