"""Alerts over HTTP: what somebody was told of, and what they do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.alerts import LONGEST_NOTE, Acting, Alert, AlertAction, State, get_alert, list_actions
from crm_core.changes import Source
from crm_core.errors import InvalidValueError
from serving.alert_outcomes import Followed, Outcome, Tally, follow_alerts, tally
from serving.alerts import AlertListing, list_alerts, plain_alert, tell_alert
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Asked, Given, Id, Past, Reason, Taken, Utc
from serving.service import service, writing

api: APIBlueprint = new_blueprint(
    "alerts", "Customers about to leave, deals that fall, who has them in hand."
)

AlertKind = Literal["churn_level", "churn_jump", "contract_end", "deal_fall"]
AlertState = Literal["open", "acknowledged", "snoozed", "closed"]
Note = Annotated[str, Field(max_length=LONGEST_NOTE)]


class AlertPath(Asked):
    """Which alert."""

    id: Id = Field(description="The alert's id.")


class AlertsQuery(Asked):
    """Which alerts."""

    limit: int = Field(default=50, ge=1, le=200, description="Alerts on a page.")
    cursor: str | None = Field(default=None, max_length=400, description="`next_cursor` of the page before.")
    order: Literal["-at_risk", "-raised_at", "-probability"] = Field(
        default="-at_risk",
        description=(
            "Sort order, highest or newest first; by money, sums of several currencies are compared by their "
            "numbers. Who may not see every amount gets the newest first instead."
        ),
    )
    state: AlertState | None = Field(
        default=None, description="Only alerts in this state; without it, all that are not closed."
    )
    kind: AlertKind | None = Field(default=None, description="Only alerts of this kind.")
    record_type: Literal["account", "deal"] | None = Field(
        default=None, description="Only alerts about records of this type."
    )
    record_id: Id | None = Field(default=None, description="Only alerts about the record with this id.")
    owner_id: Id | None = Field(default=None, description="Only alerts about records of this owner.")
    assignee_id: Id | None = Field(default=None, description="Only alerts assigned to this user.")


class AtRiskOut(Given):
    """A sum that was at risk when the alert was raised, and the whole that it is a part of."""

    currency: str = Field(description="Empty where the records name none.")
    of: Literal["contract", "order", "deal"] = Field(
        description="A year's contracts or orders of a customer, or the amount of a deal."
    )
    whole: Decimal = Field(description="A decimal number, as text.")
    at_risk: Decimal = Field(description="A decimal number, as text.")


class AlertActionOut(Given):
    """Something that was done about an alert."""

    action: Literal["raised", "acknowledged", "snoozed", "assigned", "reopened", "closed"]
    at: Utc
    actor_id: int | None = Field(description="Null: the program.")
    note: str | None
    until: Utc | None = Field(description="Of a snooze.")
    assignee_id: int | None


class AlertOut(Given):
    """An alert, with what you may be told of it."""

    id: int
    kind: AlertKind
    record_type: Literal["account", "deal"]
    record_id: int
    record_name: str | None
    owner_id: int | None = Field(description="Of the record.")
    state: AlertState
    raised_at: Utc
    probability: float = Field(description="When it was raised.")
    previous_probability: float | None = Field(description="What the same model had said before.")
    probability_now: float | None
    prediction_id: int = Field(description="What was said when it was raised.")
    reasons: list[Reason] = Field(description="Of that prediction.")
    money_at_risk: list[AtRiskOut] = Field(description="By currency; without what you may not see.")
    contract_id: int | None = Field(description="Of alerts about a contract's end.")
    contract_ends_on: date | None = Field(description="Of that contract, or the customer's last one.")
    snoozed_until: Utc | None
    assignee_id: int | None
    acknowledged_by_id: int | None
    acknowledged_at: Utc | None
    closed_at: Utc | None
    closed_why: str | None = Field(
        description=(
            "below_level, settled, above_level (another alert took its place), renewed, extended, left, won, "
            "lost, deleted or opted_out."
        )
    )


class AlertDetailOut(AlertOut):
    """An alert with everything that was done about it."""

    actions: list[AlertActionOut] = Field(description="Oldest first.")


class AlertsOut(Given):
    """A page of alerts."""

    items: list[AlertOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class PastAlertsQuery(Asked):
    """Which warnings of the past."""

    kind: AlertKind | None = Field(default=None, description="Only alerts of this kind.")
    outcome: Outcome | None = Field(default=None, description="Only those of which this came.")
    limit: int = Field(default=50, ge=1, le=200, description="Warnings on a page, newest first.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class AlertTallyOut(Given):
    """What came of the warnings of one kind whose time is over."""

    kind: AlertKind
    by_outcome: dict[str, int]
    happened: int = Field(description="Those that came as was warned: left, or won.")
    of: int
    low: float = Field(description="Bound of that share, with Wilson's 95 % interval.")
    high: float
    said: float | None = Field(description="Mean probability told with them, in [0, 1].")
    not_over: int = Field(description="Warnings whose time is not over; they are counted nowhere else.")


class PastAlertOut(Given):
    """A warning, and what came of it."""

    id: int
    kind: AlertKind
    record_type: Literal["account", "deal"]
    record_id: int
    record_name: str | None
    raised_at: Utc
    probability: float = Field(description="When it was raised.")
    outcome: Outcome
    ends_at: Utc = Field(description="End of the time that it was about.")


class PastAlertsOut(Given):
    """What came of warnings."""

    tallies: list[AlertTallyOut]
    items: list[PastAlertOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class NoteIn(Taken):
    """Why, in a few words."""

    note: Note | None = None


class SnoozeIn(NoteIn):
    """Until when an alert is put aside."""

    until: Past = Field(description="An instant after now, within a year.")


class AssignIn(NoteIn):
    """Who takes an alert over."""

    assignee_id: Id = Field(description="A user who may see the record and its scores.")


_ACTED = {"200": AlertDetailOut, **documented(400, 404, 409, 413, 415)}


@api.get("/alerts", operation_id="list_alerts", responses={"200": AlertsOut, **documented()})
def list_all_alerts(query: AlertsQuery) -> Response:
    """List the alerts about records whose scores you may see, most money at risk first."""
    asked = query.model_dump(exclude={"state"})
    state = State(query.state) if query.state is not None else None
    with service().store.reading() as session:
        reader = Reader(session, caller())
        page = list_alerts(reader, AlertListing(**asked, state=state), service().store.clock.now())
        items = [AlertOut.model_validate(plain_alert(told)) for told in page.items]
    return answer(AlertsOut(items=items, next_cursor=page.next_cursor))


@api.get("/alerts/past", responses={"200": PastAlertsOut, **documented()})
def list_past_alerts(query: PastAlertsQuery) -> Response:
    """Say what came of the warnings about records whose scores you may see: counted, and one by one."""
    running = service()
    with running.store.reading() as session:
        followed = follow_alerts(running.store, Reader(session, caller()), running.store.clock.now())
        asked = [
            one
            for one in followed
            if query.kind in {None, one.alert.kind} and query.outcome in {None, one.outcome}
        ]
        start = _after([one.alert.id for one in asked], query.cursor)
        page = asked[start : start + query.limit]
        items = [_past(one) for one in page]
    more = start + query.limit < len(asked)
    return answer(
        PastAlertsOut(
            tallies=[_tally(each) for each in tally(followed)],
            items=items,
            next_cursor=items[-1].id if more else None,
        )
    )


@api.get("/alerts/<int:id>", operation_id="get_alert", responses={"200": AlertDetailOut, **documented(404)})
def get_one_alert(path: AlertPath) -> Response:
    """Read one alert, with everything that was done about it."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        return answer(_detail(reader, get_alert(reader, path.id)))


@api.post("/alerts/<int:id>/acknowledge", responses=_ACTED)
def acknowledge_alert(path: AlertPath, body: NoteIn) -> Response:
    """Say that an alert is in hand; saying so again changes nothing."""
    return _act(lambda acting: acting.acknowledge(path.id, note=body.note))


@api.post("/alerts/<int:id>/snooze", responses=_ACTED)
def snooze_alert(path: AlertPath, body: SnoozeIn) -> Response:
    """Put an alert aside until an instant, at which it is open again."""
    return _act(lambda acting: acting.snooze(path.id, body.until, note=body.note))


@api.post("/alerts/<int:id>/assign", responses=_ACTED)
def assign_alert(path: AlertPath, body: AssignIn) -> Response:
    """Give an alert to somebody, who is told of it."""
    return _act(lambda acting: acting.assign(path.id, body.assignee_id, note=body.note))


@api.post("/alerts/<int:id>/reopen", responses=_ACTED)
def reopen_alert(path: AlertPath, body: NoteIn) -> Response:
    """Take back that an alert is in hand or put aside."""
    return _act(lambda acting: acting.reopen(path.id, note=body.note))


def _act(does: Callable[[Acting], tuple[Alert, bool]]) -> Response:
    user = caller()
    with writing(user, Source.API) as transaction:
        alert, _ = does(Acting(transaction=transaction, user=user))
        done = _detail(Reader(transaction.session, user), alert)
    return answer(done)


def _detail(reader: Reader, alert: Alert) -> AlertDetailOut:
    told = tell_alert(reader, alert, service().store.clock.now())
    actions = [_action(row) for row in list_actions(reader.session, alert.id)]
    return AlertDetailOut.model_validate({**plain_alert(told), "actions": actions})


def _action(row: AlertAction) -> dict[str, object]:
    return {name: getattr(row, name) for name in AlertActionOut.model_fields}


def _after(ids: Sequence[int], cursor: int | None) -> int:
    if cursor is None:
        return 0
    if cursor not in ids:
        raise InvalidValueError("cursor", cursor, "the `next_cursor` of a page of the same question")
    return ids.index(cursor) + 1


def _past(one: Followed) -> PastAlertOut:
    names = PastAlertOut.model_fields.keys() - {"record_name", "outcome", "ends_at"}
    plain = {name: getattr(one.alert, name) for name in names}
    return PastAlertOut.model_validate(
        {**plain, "record_name": one.name, "outcome": one.outcome, "ends_at": one.ends_at}
    )


def _tally(each: Tally) -> AlertTallyOut:
    share = each.happened
    return AlertTallyOut.model_validate(
        {
            "kind": each.kind,
            "by_outcome": {str(name): count for name, count in each.by_outcome.items()},
            "happened": share.count,
            "of": share.of,
            "low": share.low,
            "high": share.high,
            "said": each.said,
            "not_over": each.not_over,
        }
    )
