"""Customers over HTTP: how likely they are to leave, and how much money that puts at risk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.records import Account
from crm_core.tokens import Scope
from serving.api.blueprint import answer, caller, documented, new_blueprint, plain_answer, requires
from serving.api.records_given import records_out
from serving.api.records_schemas import COLLECTIONS
from serving.customer_profile import Held, Profile, Service, Worth, read_profile
from serving.payloads import Given, PredictionOut, RecordPath, Utc, plain_prediction
from serving.scoring_now import score_now
from serving.service import service
from serving.steps import list_steps

api: APIBlueprint = new_blueprint("customers", "Who may leave, and how much money that puts at risk.")

ActivityOut: Any = COLLECTIONS["activity"].given


class RankedOut(Given):
    """A number, and where it stands among those of other customers."""

    value: float
    better_than: float | None = Field(
        description="Share in [0, 1] of the customers compared with that have less; null of no others."
    )


class OrderedOut(Given):
    """What was ordered in one currency."""

    currency: str = Field(description="Empty for orders without one.")
    amount: Decimal
    better_than: float | None = Field(description="As of the other numbers, among amounts of this currency.")


class WorthOut(Given):
    """Recency, frequency and money of the last 365 days; null where there was no order."""

    days_since_order: RankedOut | None
    orders: RankedOut | None
    ordered: list[OrderedOut] = Field(description="Without rights to amounts: empty.")
    among: int = Field(description="Customers that you see and that ordered in this time.")


class HeldOut(Given):
    """A ticket, quote, contract or payment; what you may not see of it is null."""

    record_type: Literal["ticket", "quote", "contract", "payment"]
    id: int
    title: str | None
    status: str | None
    amount: Decimal | None
    currency: str | None
    at: Utc
    until: date | None = Field(description="When the offer or contract ends, or the payment is due.")
    satisfaction: int | None = Field(description="Of a ticket, 1 to 5.")


class CustomerServiceOut(Given):
    """Tickets of a customer."""

    open: int
    solved: int
    satisfaction: float | None = Field(description="Mean of `answers` answers, 1 to 5.")
    answers: int
    newest: list[HeldOut]


class DoneOut(Given):
    """How often something was done with a customer."""

    kind: str
    last_90_days: int
    last_365_days: int
    last: Utc


class ProfileOut(Given):
    """A customer at a glance; null stands for what you may not see."""

    worth: WorthOut | None
    service: CustomerServiceOut | None
    quotes: list[HeldOut] | None = Field(description="Drafts and those that are out, the first to end first.")
    contracts: list[HeldOut] | None = Field(description="Those in force, the first to end first.")
    payments: list[HeldOut] | None = Field(description="Those that have not come in, the first due first.")
    done: list[DoneOut] | None = Field(description="By kind of activity, the commonest first.")
    next_steps: list[ActivityOut] = Field(description="Up to ten open tasks, the first due first.")


@api.get(
    "/accounts/<int:id>/profile",
    operation_id="get_account_profile",
    responses={"200": ProfileOut, **documented(404)},
)
def get_profile(path: RecordPath) -> Response:
    """Read a customer at a glance: worth, service, what is open, what was done, and what comes next."""
    running = service()
    with running.store.reading() as session:
        reader = Reader(session, caller())
        account = reader.get(Account, path.id)
        profile = read_profile(reader, account, running.store.clock.now())
        steps = records_out(reader, COLLECTIONS["activity"], list_steps(reader, account))
        return answer(_profile(profile, steps))


def _profile(profile: Profile, steps: list[Any]) -> ProfileOut:
    return ProfileOut(
        worth=None if profile.worth is None else _worth(profile.worth),
        service=None if profile.service is None else _served(profile.service),
        quotes=None if profile.quotes is None else _held(profile.quotes),
        contracts=None if profile.contracts is None else _held(profile.contracts),
        payments=None if profile.payments is None else _held(profile.payments),
        done=None
        if profile.done is None
        else [
            DoneOut(kind=each.kind, last_90_days=each.recent, last_365_days=each.year, last=each.last)
            for each in profile.done
        ],
        next_steps=steps,
    )


def _worth(worth: Worth) -> WorthOut:
    return WorthOut(
        days_since_order=None if worth.days is None else RankedOut.model_validate(worth.days),
        orders=None if worth.orders is None else RankedOut.model_validate(worth.orders),
        ordered=[
            OrderedOut(currency=currency, amount=Decimal(one.value), better_than=one.better_than)
            for currency, one in worth.money
        ],
        among=worth.among,
    )


def _served(found: Service) -> CustomerServiceOut:
    return CustomerServiceOut(**{**vars(found), "newest": _held(found.newest)})


def _held(found: Sequence[Held]) -> list[HeldOut]:
    return [HeldOut.model_validate(each) for each in found]


@api.post("/customers/<int:id>/score", responses={"200": PredictionOut, **documented(403, 404, 409, 503)})
@requires(Scope.SCORE)
def score_customer(path: RecordPath) -> Response:
    """Score a customer now and show the score on it."""
    running = service()
    made = score_now(running.store, running.champions, caller(), Account, path.id)
    with running.store.reading() as session:
        given = plain_prediction(Reader(session, caller()), made)
    return plain_answer(given)
