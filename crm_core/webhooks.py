"""Webhooks: who is told of what, and the events that are told.

An event is told to every endpoint that asked for its type, as one job each, under a key made of the endpoint
and the event: however many processes find the event, it is told once. What it says is written down then, with
what the endpoint's owner may see, and stays the same for every attempt.

Events come from three places: the change log and the logs of predictions and promotions, which
`crm_core.webhook_events` follows, and `emit`, for what other parts find out by themselves.

An endpoint's secret is not stored. It is made from a random text that is (`secret_salt`) and the
installation's own secret, which is not in the database; `secret_mark` tells whether they still fit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ForeignKey, Select, String, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader
from crm_core.changes import newest_sequence
from crm_core.columns import Instant, Json, check_text
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.jobs import Job, JobState, enqueue
from crm_core.predictions import Prediction
from crm_core.promotions import Promotion
from crm_core.records import RECORD_TYPES, Base, CustomRecord, Id, Record, User

WEBHOOK: Final = "webhook"
"""The kind of the job that tells one endpoint of one event."""

EVENT: Final = "event"
"""The kind of the job that finds out who is to be told of an event."""

OWNER_LEFT: Final = "the user whose rights it has may not work here any more"

TEST: Final = "webhook.test"

ROTATION: Final = timedelta(hours=24)
"""For how long what is sent is signed with the secret before the newest, too."""

ACTIONS: Final = ("created", "updated", "deleted", "erased")
SPECIAL: Final = (
    "lead.converted",
    "deal.stage_changed",
    "deal.won",
    "deal.lost",
    "prediction.changed",
    "alert.raised",
    "alert.acknowledged",
    "model.promoted",
    "automation.message",
)
"""Event types besides those that every record type has."""

_TYPE = re.compile(r"\*|[a-z][a-z0-9_]*\.(\*|[a-z][a-z0-9_]*)")
_LONGEST_TYPE: Final = 80


class WebhookEndpoint(Base):
    """An address that is told of events."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(120))
    url: Mapped[str] = mapped_column(String(2_000))
    event_types: Mapped[list[str]] = mapped_column(Json, comment="such as deal.won, lead.* or *")
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="what they may not see is not told")
    least_change: Mapped[float] = mapped_column(comment="of a probability, for it to be told")
    secret_salt: Mapped[str] = mapped_column(String(64))
    secret_mark: Mapped[str] = mapped_column(String(64), comment="SHA-256 of the secret made with it")
    former_salt: Mapped[str | None] = mapped_column(String(64), comment="of the secret before")
    former_until: Mapped[datetime | None] = mapped_column(Instant, comment="until when that signs, too")
    active: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(Instant)
    disabled_at: Mapped[datetime | None] = mapped_column(Instant)
    disabled_reason: Mapped[str | None] = mapped_column(String(300))
    failing_since: Mapped[datetime | None] = mapped_column(Instant, comment="no delivery went well since")
    since_sequence: Mapped[int] = mapped_column(BigInteger, comment="the last transaction it is not told of")
    since_prediction: Mapped[int] = mapped_column(BigInteger, comment="the last prediction likewise")
    since_promotion: Mapped[int] = mapped_column(BigInteger, comment="the last promotion likewise")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    `record` is the record that it is about; who may not see that is not told. Of `values` only those fields
    are told that may be seen. An event that names `fields` and of which none may be seen is not told.
    """

    id: str
    type: str
    at: datetime
    data: Mapping[str, Any]
    record: tuple[str, int] | None = None
    fields: Sequence[str] | None = None
    needs: Sequence[str] = ()
    values: Mapping[str, tuple[str, Any]] | None = None
    """By name in the payload: the field that it comes from, and the value."""


def list_event_types(session: Session) -> list[str]:
    """Return every event type that there is, those of declared record types included."""
    record_types = [name for name in RECORD_TYPES if name != CustomRecord.record_type]
    record_types += sorted(declarations(session).by_name)
    return [f"{name}.{action}" for name in record_types for action in ACTIONS] + list(SPECIAL)


def check_event_types(session: Session, asked: Sequence[str]) -> list[str]:
    """Return the types asked for, each once; raise InvalidValueError for one that does not exist."""
    known = list_event_types(session)
    for each in asked:
        check_text("event_types", each, longest=_LONGEST_TYPE)
        if not _TYPE.fullmatch(each) or not any(_fits(each, name) for name in known):
            raise InvalidValueError("event_types", each, "a type like deal.won, lead.* or *")
    if not asked:
        raise InvalidValueError("event_types", [], "at least one type")
    return list(dict.fromkeys(asked))


def wants(endpoint: WebhookEndpoint, event_type: str) -> bool:
    """Tell whether an endpoint asked for a type of events."""
    return any(_fits(asked, event_type) for asked in endpoint.event_types)


def _fits(asked: str, event_type: str) -> bool:
    return asked in {"*", event_type} or (asked.endswith(".*") and event_type.startswith(asked[:-1]))


# ------------------------------------------------------------------------------------------ endpoints


def list_endpoints(
    session: Session, *, after: int = 0, limit: int | None = None
) -> Sequence[WebhookEndpoint]:
    """Return endpoints in the order in which they were made: all, or so many after the one with an id."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id > after).order_by(WebhookEndpoint.id)
    return session.scalars(query.limit(limit)).all()


def list_active(session: Session) -> Sequence[WebhookEndpoint]:
    """Return the endpoints that are told of events."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.active).order_by(WebhookEndpoint.id)
    return session.scalars(query).all()


def get_endpoint(session: Session, endpoint_id: int, *, lock: bool = False) -> WebhookEndpoint:
    """Return an endpoint; with `lock`, nobody else changes it before the transaction ends."""
    found = session.get(WebhookEndpoint, endpoint_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise RecordNotFoundError("webhook", endpoint_id)
    return found


def start(session: Session, endpoint: WebhookEndpoint) -> None:
    """Tell an endpoint of what happens from now on, and of nothing before."""
    endpoint.active, endpoint.disabled_at, endpoint.disabled_reason = True, None, None
    endpoint.failing_since = None
    endpoint.since_sequence = newest_sequence(session)
    endpoint.since_prediction = session.scalar(select(func.max(Prediction.id))) or 0
    endpoint.since_promotion = session.scalar(select(func.max(Promotion.id))) or 0


def disable(endpoint: WebhookEndpoint, reason: str | None, *, now: datetime) -> None:
    """Tell an endpoint of nothing any more, and say why; None: somebody wanted it so."""
    endpoint.active, endpoint.disabled_at, endpoint.disabled_reason = False, now, reason


def delete_endpoint(session: Session, endpoint: WebhookEndpoint) -> None:
    """Forget an endpoint and what was to be sent to it."""
    gone = (Job.topic == topic_of(endpoint.id)) & (Job.state != JobState.RUNNING)
    session.execute(delete(Job).where(gone).execution_options(synchronize_session=False))
    session.delete(endpoint)
    session.flush()


def note_success(session: Session, endpoint_id: int) -> None:
    """Note that an endpoint took what was sent to it."""
    failing = (WebhookEndpoint.id == endpoint_id) & WebhookEndpoint.failing_since.is_not(None)
    session.execute(update(WebhookEndpoint).where(failing).values(failing_since=None))


def owner_of(session: Session, endpoint: WebhookEndpoint) -> User | None:
    """Return the user whose rights an endpoint has; None if they may not work here any more."""
    return find_owner(session, endpoint.owner_id)


def find_owner(session: Session, user_id: int) -> User | None:
    """Return a user whose rights an endpoint may have; None if there is none who works here."""
    owner = session.get(User, user_id)
    if owner is None or not owner.active or owner.deleted_at is not None or owner.left_at is not None:
        return None
    return owner


def topic_of(endpoint_id: int) -> str:
    """Return the topic of the jobs of an endpoint."""
    return f"{WEBHOOK}:{endpoint_id}"


def mark_of(secret: bytes) -> str:
    """Return what tells one secret from another without telling it."""
    return hashlib.sha256(secret).hexdigest()


# ------------------------------------------------------------------------------------------ events


def emit(
    session: Session, event_type: str, data: Mapping[str, Any], *, key: str, now: datetime
) -> int | None:
    """Have endpoints told of an event, if the session's transaction is committed; return the job's id.

    None if nobody asked for it, or it was emitted under this key before. `data` holds JSON values. If it has
    `record_type` and `record_id`, only those who may see that record are told; of a mapping `values` in it
    they are told the fields of that record that they may see, and of `reasons` those they may see. Who may
    see none of the `fields` in it, or not all that it `needs` (`contract.ends_on`), is not told at all.
    """
    if not any(wants(endpoint, event_type) for endpoint in list_active(session)):
        return None
    payload = {"type": event_type, "at": now.isoformat(), "data": dict(data), "key": key}
    return enqueue(session, EVENT, payload, now=now, key=f"{EVENT}:{_short(key)}")


def tell(
    session: Session, endpoints: Iterable[WebhookEndpoint], events: Sequence[Event], now: datetime
) -> int:
    """Add a job for each endpoint and event that it asked for and may be told; return how many were new."""
    told = 0
    for endpoint in endpoints:
        wanted = [event for event in events if wants(endpoint, event.type)]
        if not wanted:
            continue
        owner = owner_of(session, endpoint)
        if owner is None:
            disable(endpoint, OWNER_LEFT, now=now)
            continue
        reader = Reader(session, owner)
        seen = _seen(reader, wanted)
        for event in wanted:
            data = _masked(reader, event) if event.record is None or event.record in seen else None
            if data is not None and tell_one(session, endpoint, event, data, now=now) is not None:
                told += 1
    return told


def tell_one(
    session: Session, endpoint: WebhookEndpoint, event: Event, data: Mapping[str, Any], *, now: datetime
) -> int | None:
    """Add the job that tells one endpoint of one event; None if there is one."""
    payload = {
        "endpoint_id": endpoint.id,
        "event_id": event.id,
        "type": event.type,
        "record": None if event.record is None else list(event.record),
        "content": {"type": event.type, "timestamp": _iso(event.at), "data": dict(data)},
        "needs": list(event.needs),
        "of_fields": {name: field for name, (field, _value) in (event.values or {}).items()},
    }
    topic = topic_of(endpoint.id)
    return enqueue(session, WEBHOOK, payload, now=now, key=f"{topic}:{event.id}", topic=topic)


def content_for(reader: Reader, job: Job) -> dict[str, Any] | None:
    """Return what a delivery says to a reader, by the rights of now; None if they may see nothing of it."""
    content, about = job.payload["content"], job.payload["record"]
    data = dict(content["data"])
    record = None if about is None else (about[0], about[1])
    if record is not None and not may_read(reader, record):
        return None
    event = Event(
        id=job.payload["event_id"],
        type=content["type"],
        at=datetime.fromisoformat(content["timestamp"]),
        data=data,
        record=record,
        fields=data.get("fields"),
        values={
            name: (field, data.pop(name))
            for name, field in job.payload.get("of_fields", {}).items()
            if name in data
        },
        needs=job.payload.get("needs", ()),
    )
    masked = _masked(reader, event)
    return None if masked is None else {**content, "data": masked}


def event_of(payload: Mapping[str, Any]) -> Event:
    """Return the event that a job of the kind `event` holds."""
    data = dict(payload["data"])
    named = "record_type" in data and "record_id" in data
    return Event(
        id=f"evt_x{_short(payload['key'])}",
        type=payload["type"],
        at=datetime.fromisoformat(payload["at"]),
        data=data,
        record=(data["record_type"], data["record_id"]) if named else None,
        fields=data.pop("fields", None),
        needs=data.pop("needs", ()),
    )


def may_read(reader: Reader, record: tuple[str, int]) -> bool:
    """Tell whether a reader may see a record, deleted or not."""
    return record in _seen_records(reader, [record])


def _seen(reader: Reader, events: Sequence[Event]) -> set[tuple[str, int]]:
    return _seen_records(reader, [event.record for event in events if event.record is not None])


def _seen_records(reader: Reader, records: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    ids: dict[str, set[int]] = {}
    for record_type, record_id in records:
        ids.setdefault(record_type, set()).add(record_id)
    seen: set[tuple[str, int]] = set()
    for record_type, some in ids.items():
        query = _readable_ids(reader, record_type, some)
        seen |= {
            (record_type, found) for found in (reader.session.scalars(query) if query is not None else ())
        }
    return seen


def _readable_ids(reader: Reader, record_type: str, ids: Collection[int]) -> Select[int] | None:
    model: type[Record] | None = RECORD_TYPES.get(record_type)
    declared = declarations(reader.session).by_name.get(record_type) if model is None else None
    if model is None and declared is None:
        return None
    query = select((model or CustomRecord).id).where((model or CustomRecord).id.in_(ids))
    if declared is not None:
        query = query.where(CustomRecord.type_id == declared.type_id)
    return query.where(reader.readable(model or CustomRecord))


def _masked(reader: Reader, event: Event) -> dict[str, Any] | None:
    """Return what may be told of an event; None if nothing of it."""
    data = dict(event.data)
    record_type = "" if event.record is None else event.record[0]
    if not reader.may_be_told_of(event.needs):
        return None
    if event.fields is not None:
        data["fields"] = [field for field in event.fields if reader.may_read_field(record_type, field)]
        if not data["fields"]:
            return None
    for name, (field, value) in (event.values or {}).items():
        if reader.may_read_field(record_type, field):
            data[name] = value
    if isinstance(given := data.get("values"), Mapping):
        data["values"] = {f: value for f, value in given.items() if reader.may_read_field(record_type, f)}
    if isinstance(reasons := data.get("reasons"), list):
        scored = not record_type or reader.may_read_field(record_type, "reasons")
        data["reasons"] = reader.readable_reasons(reasons) if scored else []
    return data


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
