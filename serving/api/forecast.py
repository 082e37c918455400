"""The forecast over HTTP."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.forecasts import SPANS, Part, Question, forecast_now
from serving.payloads import Asked, Given, Id
from serving.service import service

api: APIBlueprint = new_blueprint("forecast", "What will be sold, and how sure that is.")


class ForecastQuery(Asked):
    """Which forecast."""

    period: Literal["month", "quarter"] | None = Field(
        default=None, description="Only months, or only quarters; both by default."
    )
    owner_id: Id | None = Field(default=None, description="Only the deals of this owner.")
    team_id: Id | None = Field(default=None, description="Only those of this team and the teams below it.")


class ForecastPart(Given):
    """The revenue expected of a team or an owner."""

    id: int | None = Field(description="Null for deals that nobody owns.")
    name: str
    won: Decimal = Field(description="Won in the period already.")
    open: Decimal = Field(description="Expected of open deals: the sum of probability times amount.")
    new: Decimal = Field(description="Expected of deals that are not created yet.")
    expected: Decimal = Field(description="The sum of the three.")
    ranges: dict[str, tuple[Decimal, Decimal]] = Field(
        description="By percent, lowest and highest. Ranges of parts do not add up to that of the whole."
    )


class SimpleRules(Given):
    """What others would say; null where there is nothing to say it by."""

    stages: Decimal = Field(description="The stage's past win rate times amount, of deals due in the period.")
    reps: Decimal | None = Field(
        description="The reps' own probability times amount, of deals due in the period; null: hidden."
    )
    last_period: Decimal | None = Field(description="What the last whole period brought.")
    last_year: Decimal | None = Field(description="What the same period brought a year ago.")


class Coverage(Given):
    """How past ranges held what came."""

    inside: int
    of: int


class ForecastDeal(Given):
    """What one deal adds: `expected` is `probability` times `amount`."""

    deal_id: int
    won: bool
    probability: float = Field(description="That it is won within the period; 1 for one that is won.")
    amount: Decimal = Field(description="What it is expected to be worth if it is won.")
    expected: Decimal


class ForecastPeriod(Given):
    """One period in one currency."""

    span: Literal["month", "quarter"]
    period: str = Field(examples=["2026-Q1", "2026-03"])
    start: datetime
    end: datetime
    currency: str
    won: Decimal = Field(description="Won in the period already.")
    open: Decimal = Field(description="Expected of open deals: the sum of probability times amount.")
    new: Decimal = Field(description="Expected of deals that are not created yet.")
    expected: Decimal = Field(description="The sum of the three.")
    ranges: dict[str, tuple[Decimal, Decimal]] = Field(description="By percent, lowest and highest.")
    new_wins: float = Field(description="How many wins of deals not created yet are expected.")
    simple_rules: SimpleRules
    coverage: dict[str, Coverage] = Field(description="By percent; empty where no past period was replayed.")
    periods_learned_from: int
    by_team: list[ForecastPart]
    by_owner: list[ForecastPart]
    deals: list[ForecastDeal]


class ForecastMove(Given):
    """What moved the forecast of a period; the causes add up to the difference."""

    span: Literal["month", "quarter"]
    period: str
    currency: str
    since: datetime
    before: Decimal
    now: Decimal
    causes: dict[str, Decimal]


class ForecastOut(Given):
    """The forecast of the month and quarter at hand and of the next ones."""

    as_of: datetime
    model_version: str
    learned_as_of: datetime = Field(description="Up to when past forecasts were replayed.")
    periods: list[ForecastPeriod]
    moved: list[ForecastMove]


@api.get("/forecast", responses={"200": ForecastOut, **documented(403, 409, 503)})
def get_forecast(query: ForecastQuery) -> Response:
    """Say what the deals you may see will bring, with ranges."""
    running = service()
    question = Question(
        user=caller(),
        as_of=running.store.clock.now(),
        spans=SPANS if query.period is None else (query.period,),
        part=Part(owner_id=query.owner_id, team_id=query.team_id),
    )
    told = forecast_now(running, question)
    return answer(ForecastOut.model_validate({name: told[name] for name in ForecastOut.model_fields}))
