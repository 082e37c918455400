"""Targets over HTTP: what people and teams are to reach, how far they are, how targets break down."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.records import Role
from crm_core.targets import (
    Measure,
    Over,
    Target,
    Wanted,
    Whose,
    find_target,
    set_target,
    settable_ids,
    split_target,
)
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import WriteHeaders
from serving.api.pages import Key, PageQuery
from serving.api.records_schemas import MoneyIn
from serving.owners import Staff
from serving.payloads import Given, Id, RecordPath, Taken
from serving.service import service, writing
from serving.team import Attained, TeamQuestion, read_team

api: APIBlueprint = new_blueprint("targets", "What people and teams are to reach.")

_WRITTEN = documented(400, 404, 409, 412, 413, 415)


class TargetIn(Taken):
    """A target; without a value it is taken away."""

    whose: Literal["user", "team"]
    whose_id: Id
    period: Annotated[str, Field(max_length=7, examples=["2026-03", "2026-Q1"])]
    measure: Literal["won_amount", "deals_won", "leads_converted", "contract_value", "payments_received"]
    value: MoneyIn | None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])] | None = Field(
        default=None, description="Of amounts; counts have none."
    )


class SplitIn(Taken):
    """What a target is broken down over."""

    over: Literal["people", "months"]


class TargetOut(Given):
    """A target."""

    id: int
    whose: Literal["user", "team"]
    whose_id: int
    period: str
    measure: str
    currency: str = Field(description="Empty for counts.")
    value: Decimal
    version: int


class GapOut(Given):
    """That the targets which one was broken down into do not sum to it."""

    over: Literal["people", "months"]
    parts: Decimal
    count: int


class AttainedOut(TargetOut):
    """A target, and what was reached of it."""

    name: str
    reached: Decimal
    expected: float | None = Field(description="Where the forecast sees it end; null where nothing says.")
    gaps: list[GapOut]


class AttainedsPage(Given):
    """The targets of this month and quarter and the next ones."""

    items: list[AttainedOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class TargetsOut(Given):
    """Targets that were set."""

    items: list[TargetOut]


@api.get("/targets", operation_id="list_targets", responses={"200": AttainedsPage, **documented()})
def list_all_targets(query: PageQuery) -> Response:
    """List the targets that you may see of this month and quarter and the next ones, and what is reached."""
    running = service()
    with running.store.reading() as session:
        question = TeamQuestion(now=running.store.clock.now(), zone="UTC")
        team = read_team(Reader(session, caller()), Staff.read(session), question)
    found, more = query.part(team.targets, lambda each: _by_period(each.target))
    return answer(AttainedsPage(items=[_attained(each) for each in found], next_cursor=more))


def _by_period(target: Target) -> Key:
    return (target.period, target.whose, target.whose_id, target.measure, target.currency)


@api.put("/targets", responses={"200": TargetsOut, **_WRITTEN})
def put_target(header: WriteHeaders, body: TargetIn) -> Response:
    """Set a target of somebody whom you lead, or without a value take it away.

    There is none to be read alone: `If-Match` takes the `version` of the list in quotes, `"0"` for none.
    """
    user = caller()
    wanted = Wanted(
        whose=Whose(body.whose),
        whose_id=body.whose_id,
        period=body.period,
        measure=Measure(body.measure),
        value=body.value,
        currency=body.currency or "",
    )
    with writing(user, Source.API) as transaction:
        present = find_target(transaction.session, wanted)
        version = header.version(0 if present is None else present.version)
        found = set_target(transaction, user, wanted, version=version)
        return answer(TargetsOut(items=[] if found is None else [_target(found)]))


@api.post("/targets/<int:id>/split", operation_id="split_target", responses={"200": TargetsOut, **_WRITTEN})
def split_one_target(path: RecordPath, body: SplitIn) -> Response:
    """Break a target down evenly over the people of a team or the months of a quarter, exactly."""
    user = caller()
    if user.role not in {Role.MANAGER, Role.ADMIN}:
        raise AccessDeniedError(f"the role {user.role} may not set targets")
    with writing(user, Source.API) as transaction:
        session = transaction.session
        target = session.get(Target, path.id)
        if target is None or target.whose_id not in settable_ids(session, user, Whose(target.whose)):
            raise RecordNotFoundError("target", path.id)
        made = split_target(transaction, user, target, Over(body.over))
        return answer(TargetsOut(items=[_target(each) for each in made]))


def _target(row: Target) -> TargetOut:
    return TargetOut.model_validate({name: getattr(row, name) for name in TargetOut.model_fields})


def _attained(each: Attained) -> AttainedOut:
    plain = {name: getattr(each.target, name) for name in TargetOut.model_fields}
    gaps = [GapOut(over=gap.over.value, parts=gap.parts, count=gap.count) for gap in each.gaps]
    return AttainedOut(**plain, name=each.name, reached=each.reached, expected=each.expected, gaps=gaps)
