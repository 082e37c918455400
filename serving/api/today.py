"""A day's work over HTTP: what is worth working next, and the arithmetic behind it."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.day_plans import find_day_plan
from crm_core.won_deals import recent_won_deals
from crm_core.workday import USUAL_A_DAY
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Asked, Given, Id, Utc
from serving.service import service
from serving.today import AskedDay, Contact, Ranked, page_of, read_day, read_habit

api: APIBlueprint = new_blueprint("today", "What is worth working today, in order and with the reasons.")

_TYPES: dict[str, str] = {"leads": "lead", "deals": "deal", "customers": "account"}


class TodayQuery(Asked):
    """Which day's list."""

    type: Literal["leads", "deals", "customers"] | None = Field(
        default=None, description="Only records of this type."
    )
    owner_id: Id | None = Field(default=None, description="Only records of this owner.")
    limit: int = Field(default=50, ge=1, le=200, description="Records on a page.")
    cursor: str | None = Field(default=None, max_length=400, description="`next_cursor` of the page before.")


class LastContactOut(Given):
    """A contact with a customer."""

    kind: str
    occurred_at: Utc


class NextStepOut(Given):
    """The next open task or planned meeting."""

    id: int = Field(description="Of the activity.")
    kind: str
    subject: str | None
    due_at: Utc


class FreshnessOut(Given):
    """How much it is time for a record; the three are multiplied."""

    rhythm: float = Field(description="0.5 for in touch today, 1 at the usual rhythm, at most 1.5.")
    waiting: float = Field(description="1.5 where the customer came back since the last contact.")
    planned: float = Field(description="0.5 where the next step is planned for a later day.")


class StakeOut(Given):
    """The money of a record; `amount` times `share` times its probability is what is at stake."""

    of: Literal["deal", "usual", "contract", "order"] = Field(
        description="A deal's own amount, what first deals usually bring, or a customer's year."
    )
    amount: Decimal = Field(description="A decimal number, as text, in the currency of the list.")
    share: float = Field(description="Of leads, the share of deals that are won; else 1.")


class TodayItem(Given):
    """A record in its place."""

    record_type: Literal["lead", "deal", "account"]
    id: int
    probability: float | None
    expected: Decimal | None = Field(description="What is at stake; null where no amount is known or shown.")
    worth: float = Field(description="At stake, or else the probability, times freshness: what decides.")
    is_due: bool = Field(description="A step is due today or overdue: these come first.")
    stake: StakeOut | None
    freshness: FreshnessOut
    last_contact: LastContactOut | None
    waiting_since: LastContactOut | None = Field(description="What came from the customer since then.")
    next_step: NextStepOut | None


class TodayDone(Given):
    """A record that was worked today."""

    record_type: Literal["lead", "deal", "account"]
    id: int


class TodayOut(Given):
    """What is worth working today."""

    currency: str = Field(description="Of all amounts; empty where the records name none.")
    several_currencies: bool = Field(
        description="Amounts of several were compared by the usual deal of each: no exchange rates are kept."
    )
    capacity: int = Field(description="How many records the caller wants to work, or usually works, a day.")
    done: list[TodayDone]
    items: list[TodayItem]
    next_cursor: str | None


@api.get("/today", responses={"200": TodayOut, **documented(400, 403)})
def get_today(query: TodayQuery) -> Response:
    """List open records in the order worth working today: what is due, then by money and time."""
    running, user = service(), caller()
    now, zone = running.store.clock.now(), ZoneInfo(user.time_zone or running.settings.time_zone)
    types = tuple(_TYPES.values()) if query.type is None else (_TYPES[query.type],)
    usual, habit = recent_won_deals(running.store), read_habit(running.store, user, now, zone)
    with running.store.reading() as session:
        asked = AskedDay(types=types, owner_id=query.owner_id)
        day = read_day(Reader(session, user), asked, now, zone, usual)
        planned = find_day_plan(session, user.id)
    shown, next_cursor, _ = page_of(day.to_do, limit=query.limit, cursor=query.cursor)
    told = {
        "currency": day.currency,
        "several_currencies": day.several,
        "capacity": planned or habit or USUAL_A_DAY,
        "done": [{"record_type": each.record[0], "id": each.record[1]} for each in day.done],
        "items": [_item(each) for each in shown],
        "next_cursor": next_cursor,
    }
    return answer(TodayOut.model_validate(told))


def _item(ranked: Ranked) -> dict[str, object]:
    place, stake, step = ranked.place, ranked.stake, ranked.step
    return {
        "record_type": ranked.record[0],
        "id": ranked.record[1],
        "probability": place.standing.probability,
        "expected": None if place.expected is None else _money(place.expected),
        "worth": place.worth,
        "is_due": place.is_due,
        "stake": stake and {"of": stake.of, "amount": _money(stake.amount), "share": stake.share},
        "freshness": vars(place.freshness),
        "last_contact": _contact(ranked.ours),
        "waiting_since": _contact(ranked.theirs),
        "next_step": step and {name: getattr(step, name) for name in ("id", "kind", "subject", "due_at")},
    }


def _contact(contact: Contact | None) -> dict[str, object] | None:
    return None if contact is None else vars(contact)


def _money(value: float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"))
