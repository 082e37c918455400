"""What may be suggested about a record, over HTTP."""

from __future__ import annotations

from typing import Literal, cast

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.records import Account, Contact, Deal, Lead
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Given, RecordPath, Utc
from serving.reach import Reached
from serving.service import service
from serving.suggestions import Suggested, read_suggestions
from serving.unusual import find_unusual

api: APIBlueprint = new_blueprint("suggestions", "What may be suggested about a record.")

_TYPES: dict[str, type[Suggested]] = {"leads": Lead, "deals": Deal, "customers": Account, "contacts": Contact}


class SuggestedPath(RecordPath):
    """Which record of a type about which something may be suggested."""

    type: Literal["leads", "deals", "customers", "contacts"] = Field(description="The type, in the plural.")


class StepOut(Given):
    """A step that went with better ends among records that stood alike: no promise."""

    action: str
    situation: str = Field(
        description="A deal's stage, or a lead's age by where it lies among 7, 30 and 90 days; empty for all."
    )
    with_records: int = Field(description="Records with the step within `within_days`.")
    without_records: int
    with_share: float = Field(description="Share that was converted, was won or left after it, in [0, 1].")
    without_share: float
    difference: float
    low: float = Field(description="Bound of the difference, with all steps that were compared allowed for.")
    high: float


class MissingOut(Given):
    """An empty field, and what the record's probability would be with the values that such records hold."""

    field: str = Field(description="As `record.field`.")
    low: float = Field(description="Tenth percentile of the probability over these values, in [0, 1].")
    high: float = Field(description="Ninetieth percentile.")
    typical_change: float = Field(description="Mean distance from the probability as it stands.")
    spread: float = Field(description="Standard deviation in log-odds; fields are ranked by it.")
    records: int = Field(description="Records whose values were tried.")


Part = Literal["", "morning", "afternoon", "evening"]


class TimeOut(Given):
    """When somebody is reached more often than at other times."""

    way: Literal["call", "mail"]
    whose: Literal["own", "similar", "all"] = Field(
        description="Whose answers say so: the person's, those of the same industry, or everybody's."
    )
    industry: str | None
    first_day: int = Field(description="Day of the week, Monday is 0.")
    last_day: int
    part: Part = Field(
        description="Until 12, until 17, after; empty for all day. In the time zone of the organisation."
    )
    answered: int
    tried: int
    answered_else: int
    tried_else: int
    expected: float = Field(description="Share of answers that is expected then, in [0, 1].")
    expected_else: float
    low: float = Field(description="Bound of the difference of the two, with all windows allowed for.")
    high: float


class SuggestionsOut(Given):
    """What may be suggested; what is not sure is left out."""

    as_of: Utc
    model_version: str | None = Field(description="The model that was asked about fields; null if none was.")
    within_days: int = Field(description="Within so many days a step was taken.")
    steps: list[StepOut] = Field(description="The surest first; none that was taken lately.")
    fields: list[MissingOut]
    times: list[TimeOut]
    note_en: str
    note_zh: str


@api.get(
    "/<type>/<int:id>/suggestions",
    operation_id="get_suggestions",
    responses={"200": SuggestionsOut, **documented(403, 404)},
)
def show_suggestions(path: SuggestedPath) -> Response:
    """Give what may be suggested: the next step, empty fields worth asking for, when to try to reach."""
    from models.next_step import STEP_DAYS
    from models.what_if import NOTE

    running = service()
    with running.store.reading() as session:
        reader = Reader(session, caller())
        record = reader.get(_TYPES[path.type], path.id)
        running.champions.look()
        found = read_suggestions(
            running.store, running.champions, reader, record, zone=running.settings.time_zone
        )
    given = SuggestionsOut(
        as_of=found.as_of,
        model_version=found.model_version,
        within_days=STEP_DAYS,
        steps=[StepOut.model_validate(each, from_attributes=True) for each in found.steps],
        fields=[MissingOut.model_validate(each, from_attributes=True) for each in found.fields],
        times=[_time(each) for each in found.times],
        note_en=NOTE["en"],
        note_zh=NOTE["zh"],
    )
    return answer(given)


class UnusualOut(Given):
    """One thing that is not as it was: of a person's deals, or of a source's leads."""

    measure: Literal["opened", "value", "lost", "stalled", "put_off", "score", "converted"]
    user_id: int | None = Field(description="Whose deals; null for a source.")
    source: str | None
    now: float = Field(description="A count, an amount, or a share in [0, 1].")
    usual: float
    low: float = Field(description="Usual is from here, eight weeks in ten,")
    high: float = Field(description="to here.")
    weeks: int = Field(description="The newest weeks that `now` is about.")
    currency: str | None
    records: int | None = Field(description="Leads that a share rests on.")


class UnusualList(Given):
    """What is unusual this week out of what was looked at; by chance alone something is in one of twenty."""

    as_of: Utc
    looked_at: int
    items: list[UnusualOut]


@api.get(
    "/unusual-changes", operation_id="list_unusual_changes", responses={"200": UnusualList, **documented()}
)
def list_unusual() -> Response:
    """List what is unusual with your people's deals, or your own, and with the leads of sources."""
    running = service()
    with running.store.reading() as session:
        found = find_unusual(Reader(session, caller()), running.store.clock.now())
    items = [UnusualOut.model_validate(each, from_attributes=True) for each in found.found]
    return answer(UnusualList(as_of=found.as_of, looked_at=found.looked_at, items=items))


def _time(found: Reached) -> TimeOut:
    best = found.best
    return TimeOut(
        way=found.way,
        whose=best.whose,
        industry=found.group,
        first_day=best.window.first,
        last_day=best.window.last,
        part=cast("Part", best.window.part),
        **{name: getattr(best, name) for name in _COUNTS},
    )


_COUNTS = ("answered", "tried", "answered_else", "tried_else", "expected", "expected_else", "low", "high")
