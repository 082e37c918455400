"""What the API takes and gives, as strict pydantic models; the OpenAPI document is made from these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from crm_core.access import Reader
from crm_core.declared import plain_custom
from crm_core.opting_out import list_opted_out
from crm_core.predictions import Prediction, newest_predictions
from crm_core.records import RECORD_TYPES, Account, Activity, Deal, Lead
from crm_core.sources import LEAD_SOURCES
from crm_core.worth import money_at_risk, readable_worth

BIGGEST = 2**63 - 1

Id = Annotated[int, Field(ge=1, le=BIGGEST)]
Text = Annotated[str, Field(min_length=1, max_length=300)]
CustomValue = str | bool | Annotated[int, Field(ge=-BIGGEST, le=BIGGEST)] | float | None


def _since_1900(value: datetime) -> datetime:
    try:
        in_utc = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("expected an instant that UTC has") from error
    if in_utc.year < 1900:
        raise ValueError("expected an instant since 1900")
    return in_utc


Past = Annotated[AwareDatetime, AfterValidator(_since_1900)]
Utc = Annotated[
    datetime, PlainSerializer(lambda value: value.astimezone(UTC).isoformat().replace("+00:00", "Z"))
]


class Taken(BaseModel):
    """What the API takes: nothing but the fields it names, of exactly their types."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Asked(BaseModel):
    """Parameters of a path or query: texts by nature, so numbers are read from them."""

    model_config = ConfigDict(extra="forbid")


class Given(BaseModel):
    """What the API gives."""

    model_config = ConfigDict(from_attributes=True)


class RecordPath(Asked):
    """Which record."""

    id: Id = Field(description="The record's id.")


class PageQuery(Asked):
    """Which page of a list."""

    limit: int = Field(default=50, ge=1, le=200, description="Records on a page.")
    cursor: str | None = Field(default=None, max_length=400, description="`next_cursor` of the page before.")
    order: Literal["-probability", "probability", "-occurred_at", "occurred_at"] = Field(
        default="-probability",
        description="Sort order; `-` is highest or newest first. Not scored comes last.",
    )
    owner_id: Id | None = Field(default=None, description="Only records of this owner.")
    search: str | None = Field(
        default=None, max_length=200, description="Only records whose names contain this."
    )
    filter: list[Annotated[str, Field(max_length=2_000)]] = Field(
        default_factory=list,
        max_length=20,
        description=(
            "Only records for which this holds, as FIELD:OP:VALUE, such as `amount:ge:1000`, "
            "`custom.grade:in:A,B` or `custom.tender:eq:true`; given several times, all must hold."
        ),
    )


class LeadsQuery(PageQuery):
    """Which leads."""

    status: Literal["open", "converted", "disqualified"] | None = Field(
        default="open", description="Only leads with this status."
    )


class DealsQuery(PageQuery):
    """Which deals."""

    status: Literal["open", "won", "lost"] | None = Field(
        default="open", description="Only deals with this status."
    )


class HistoryQuery(Asked):
    """How much history."""

    limit: int = Field(default=50, ge=1, le=200, description="Entries to return, newest first.")


class NewLead(Taken):
    """A lead to be created; it needs a name, a company or an email."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    company: Text | None = None
    email: Annotated[str, Field(min_length=3, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    phone: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    source: Annotated[str, Field(min_length=1, max_length=120)] | None = Field(
        default=None,
        description=f"Any word; usual are {', '.join(source.key for source in LEAD_SOURCES)}.",
        examples=[source.key for source in LEAD_SOURCES],
    )
    campaign: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    industry: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    region: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    employees: Annotated[int, Field(ge=0, le=100_000_000)] | None = None
    owner_id: Id | None = Field(default=None, description="Who is responsible; default the caller if a rep.")
    external_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Key in the system it comes from; unique."
    )
    occurred_at: Past | None = Field(default=None, description="When the lead came to be; default now.")
    custom: dict[Annotated[str, Field(max_length=100)], CustomValue] | None = Field(
        default=None,
        description=(
            "Values of declared custom fields; days as 2026-03-02, instants as 2026-03-02T09:00:00Z, "
            "amounts as decimal numbers in texts, as they are given back."
        ),
    )


class NewActivity(Taken):
    """Something that was done with a lead or a deal."""

    kind: Literal["call", "mail", "meeting", "visit", "note", "task", "web"]
    direction: Literal["inbound", "outbound"] | None = Field(
        default=None, description="Who started it: the customer (inbound) or us (outbound)."
    )
    subject: Text | None = None
    body: Annotated[str, Field(max_length=20_000)] | None = None
    outcome: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    duration_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] | None = None
    occurred_at: Past | None = Field(default=None, description="When it happened; default now.")


class NewDealActivity(NewActivity):
    """Something that was done with a deal, and the stage that it brought the deal to."""

    stage: Annotated[str, Field(min_length=1, max_length=80)] | None = Field(
        default=None, description="The stage the deal is in now; moved in the same transaction."
    )


class StageMove(Taken):
    """Another stage of an open deal."""

    stage: Annotated[str, Field(min_length=1, max_length=80)] = Field(
        description="An open stage of the pipeline."
    )
    occurred_at: Past | None = Field(default=None, description="When it moved; default now.")


class Reason(Given):
    """One reason: what it adds to the log-odds, and why, in words."""

    model_config = ConfigDict(from_attributes=True, extra="allow")

    feature: str | None = None
    group: str | None = None
    value: Any = None
    log_odds: float
    en: str
    zh: str


class Horizon(Given):
    """The probability within so many days."""

    days: int
    probability: float | None = Field(description="Never less for a longer horizon; null: not known.")
    why: str | None = Field(description="Why it is not known.")


class MoneyAtRiskOut(Given):
    """What a customer brings in a year in one currency, and the probability of leaving times that."""

    model_config = ConfigDict(from_attributes=True)

    currency: str
    of: Literal["contract", "order"] = Field(description="What the yearly value was added up from.")
    yearly: Decimal = Field(description="A decimal number, as text.")
    at_risk: Decimal = Field(description="A decimal number, as text.")


class Outlook(Given):
    """How likely it is within several horizons, and when it is expected."""

    within: list[Horizon] = Field(
        description="All horizons, shortest first; empty for what was said before they were kept."
    )
    expected_days: float | None = Field(
        description=(
            "Mean days until it happens, given that it happens within the longest horizon known; null where "
            "the model does not tell when."
        )
    )


class Shown(Outlook):
    """The newest prediction of a record."""

    state: Literal["scored", "rank_only", "not_enough_data", "opted_out"] = Field(
        description=(
            "`rank_only`: expert points give a score, but no outcomes are known yet to say a probability by. "
            "`not_enough_data`: it is unlike anything the model learned from; `reasons` say in what. "
            "`opted_out`: somebody whom it is about asked not to be scored; nothing else is told."
        )
    )
    probability: float | None = Field(description="In [0, 1]; null if there is not enough data to say.")
    previous_probability: float | None
    score: int | None = Field(description="Rank among open records, 0-100.")
    grade: str | None
    trend: str | None
    reasons: list[Reason] = Field(description="They sum, in log-odds, to the probability.")
    scored_at: Utc | None
    model_version: str | None


class LeadOut(Given):
    """A lead. A field is null where it is empty, or where `withheld` names it."""

    id: int
    external_id: str | None
    version: int
    name: str | None
    company: str | None
    email: str | None
    phone: str | None
    title: str | None
    source: str | None
    campaign: str | None
    industry: str | None
    region: str | None
    employees: int | None
    status: str | None
    owner_id: int | None
    account_id: int | None
    deal_id: int | None
    occurred_at: Utc
    recorded_at: Utc
    converted_at: Utc | None
    custom: dict[str, Any] | None
    prediction: Shown | None = Field(description="Null: not scored yet.")
    withheld: list[str] = Field(description="Fields that you may not see.")


class DealOut(Given):
    """A deal. A field is null where it is empty, or where `withheld` names it."""

    id: int
    external_id: str | None
    version: int
    name: str | None
    account_id: int | None
    pipeline: str | None
    stage: str | None
    status: str | None
    amount: Decimal | None = Field(description="A decimal number, as text.")
    currency: str | None
    source: str | None
    expected_close_on: date | None = Field(description="The rep's forecast.")
    closed_at: Utc | None = Field(description="The fact.")
    lost_reason: str | None
    rep_probability: float | None = Field(description="What the rep believes; no model ever writes it.")
    owner_id: int | None
    occurred_at: Utc
    recorded_at: Utc
    custom: dict[str, Any] | None
    prediction: Shown | None = Field(description="Null: not scored yet.")
    withheld: list[str] = Field(description="Fields that you may not see.")


class LeadsPage(Given):
    """A page of leads."""

    items: list[LeadOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class DealsPage(Given):
    """A page of deals."""

    items: list[DealOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class ActivityOut(Given):
    """An activity."""

    id: int
    kind: str | None
    direction: str | None
    subject: str | None
    body: str | None
    outcome: str | None
    duration_seconds: int | None
    lead_id: int | None
    deal_id: int | None
    account_id: int | None
    owner_id: int | None
    occurred_at: Utc
    recorded_at: Utc


class ActivitiesPage(Given):
    """Activities of a record, newest first."""

    items: list[ActivityOut]


class PredictionOut(Outlook):
    """One stored answer of one model."""

    id: int
    task: str
    as_of: Utc = Field(description="The instant it was asked from.")
    recorded_at: Utc
    model_version: str
    horizon_days: int
    probability: float | None
    score: int | None
    grade: str | None
    reasons: list[Reason] | None
    money_at_risk: list[MoneyAtRiskOut] = Field(
        description="Of customers: by currency, without what comes from fields that you may not see."
    )
    cause_change_id: int | None = Field(description="The change that led to it; null: time or a new model.")


class ChangeOut(Given):
    """A change between two predictions; `field`, `old` and `new` are null where you may not see them."""

    change_id: int
    record_type: str
    record_id: int
    action: Literal["created", "updated", "deleted", "erased"]
    field: str | None
    old: Any
    new: Any
    occurred_at: Utc
    recorded_at: Utc
    source: str
    by: str | None = Field(description="Who wrote it, by name; null: the program, or an import.")


class OtherModelOut(Given):
    """That another version answered than before, and which promotion put it in charge."""

    before: str
    after: str
    promotion_id: int | None
    promoted_at: Utc | None
    by: str | None = Field(description="Null: the program, after a training.")
    reason: str | None


class PartsOut(Given):
    """By how much each moved the probability; they add up to `moved`."""

    time: float = Field(description="With nothing learned since: time, and what became of other records.")
    data: float = Field(description="What was learned since of the record and what is linked to it.")
    model: float = Field(description="The other model, asked the same.")


class CauseOut(Given):
    """Why a prediction is what it is, next to the one before it."""

    kinds: list[Literal["first", "data", "model", "time"]] = Field(
        description=(
            "`data`: something that a feature reads was changed or learned since; `model`: another version "
            "answered; `time`: neither; `first`: nothing was said before."
        )
    )
    changes: list[ChangeOut] = Field(description="The newest of them, of records that you see.")
    changes_count: int = Field(description="How many there were in all.")
    model: OtherModelOut | None
    moved: float | None = Field(description="The probability less that of the one before; null without one.")
    parts: PartsOut | None = Field(description="Only where `parts` was asked for, and it is known.")
    unknown: str | None = Field(description="Why the parts are not known, where they were asked for.")


class HistoryEntry(PredictionOut):
    """One stored answer of one model, and why it is another than the one before."""

    cause: CauseOut


class ScoreHistory(Given):
    """Predictions of a record, newest first."""

    items: list[HistoryEntry]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="A stable name of the kind of problem.")
    title: str
    status: int
    detail: str
    request_id: str | None
    field: str | None = None
    errors: list[dict[str, str]] | None = None


class Health(Given):
    """Whether the process is alive."""

    status: Literal["ok"]


class Part(Given):
    """Whether one part is ready."""

    name: str
    ok: bool
    detail: str | None = None


class Readiness(Given):
    """Whether every part is ready to serve."""

    status: Literal["ready", "degraded", "not_ready"]
    parts: list[Part]


OPTED_OUT = Shown(
    state="opted_out",
    probability=None,
    previous_probability=None,
    score=None,
    grade=None,
    trend=None,
    reasons=[],
    within=[],
    expected_days=None,
    scored_at=None,
    model_version=None,
)
"""What is shown of a record that may not be scored, whatever was said of it before."""


def leads_out(reader: Reader, leads: Sequence[Lead]) -> list[LeadOut]:
    """Return what the API gives of leads to somebody who sees them: the fields that they may see."""
    silent = _silent(reader, Lead, leads)
    newest = newest_predictions(reader.session, "lead", [lead.id for lead in leads])
    return [
        LeadOut(**_plain(reader, lead, LeadOut, newest.get(lead.id), silent=lead.id in silent))
        for lead in leads
    ]


def lead_out(reader: Reader, lead: Lead) -> LeadOut:
    """Return what the API gives of a lead."""
    return leads_out(reader, [lead])[0]


def deals_out(reader: Reader, deals: Sequence[Deal]) -> list[DealOut]:
    """Return what the API gives of deals to somebody who sees them: the fields that they may see."""
    silent = _silent(reader, Deal, deals)
    newest = newest_predictions(reader.session, "deal", [deal.id for deal in deals])
    return [
        DealOut(**_plain(reader, deal, DealOut, newest.get(deal.id), silent=deal.id in silent))
        for deal in deals
    ]


def deal_out(reader: Reader, deal: Deal) -> DealOut:
    """Return what the API gives of a deal."""
    return deals_out(reader, [deal])[0]


def activity_out(reader: Reader, activity: Activity) -> ActivityOut:
    """Return what the API gives of an activity to somebody who sees it."""
    seen = reader.shown(activity)
    return ActivityOut.model_validate({name: seen.get(name) for name in ActivityOut.model_fields})


def predictions_out(
    reader: Reader, record: Lead | Deal | Account, predictions: Sequence[Prediction]
) -> list[PredictionOut]:
    """Return what the API gives of stored predictions: none about somebody who asked not to be scored."""
    reader.check_may_see_scores(type(record))
    if _silent(reader, type(record), [record]):
        return []
    return [prediction_out(reader, prediction) for prediction in predictions]


def prediction_out(reader: Reader, prediction: Prediction) -> PredictionOut:
    """Return what the API gives of a stored prediction, with the reasons that may be told."""
    reader.check_may_see_scores(RECORD_TYPES[prediction.record_type])
    made = {"reasons", "within", "money_at_risk"}
    given = {name: getattr(prediction, name) for name in PredictionOut.model_fields.keys() - made}
    worth = readable_worth(reader, prediction.yearly_value or ())
    return PredictionOut.model_validate(
        {
            **given,
            "reasons": reasons_out(reader, prediction),
            "within": horizons_out(prediction),
            "money_at_risk": money_at_risk(prediction.probability, worth),
        }
    )


TOO_FEW_FOLLOWED = "Too few records have been followed for so long."


def horizons_out(prediction: Prediction | None) -> list[Horizon]:
    """Return all horizons of a prediction, shortest first, with those of which too little is known."""
    said = (prediction.within if prediction is not None else None) or {}
    known = {days: said[str(days)] for days in sorted(map(int, said))}
    return [
        Horizon(days=days, probability=chance, why=TOO_FEW_FOLLOWED if chance is None else None)
        for days, chance in known.items()
    ]


def reasons_out(reader: Reader, told: Prediction | Lead | Deal) -> list[Reason] | None:
    """Return the reasons that may be told; None where there are none, or they are hidden."""
    if told.reasons is None or not reader.may_read_field(told.record_type, "reasons"):
        return None
    return [Reason.model_validate(reason) for reason in reader.readable_reasons(told.reasons)]


def _shown(reader: Reader, record: Lead | Deal, newest: Prediction | None) -> Shown | None:
    """Return the newest prediction of a record; None if it was never scored, or scores are hidden."""
    if record.scored_at is None or not reader.may_read_field(record.record_type, "probability"):
        return None
    return Shown(
        state=state_of(record),
        within=horizons_out(newest),
        expected_days=newest.expected_days if newest is not None else None,
        probability=record.probability,
        previous_probability=record.previous_probability,
        score=record.score,
        grade=record.grade,
        trend=record.trend,
        reasons=reasons_out(reader, record) or [],
        scored_at=record.scored_at,
        model_version=record.model_version,
    )


def state_of(record: Lead | Deal | Prediction) -> Literal["scored", "rank_only", "not_enough_data"]:
    """Return in a word what is known of a record that was scored."""
    if record.probability is not None:
        return "scored"
    return "rank_only" if record.score is not None else "not_enough_data"


def _silent(
    reader: Reader, model: type[Lead | Deal | Account], records: Sequence[Lead | Deal | Account]
) -> set[int]:
    """Return which records may not be scored."""
    return set(list_opted_out(reader.session, model, [record.id for record in records])) if records else set()


def _plain(
    reader: Reader, record: Lead | Deal, model: type[BaseModel], newest: Prediction | None, *, silent: bool
) -> dict[str, Any]:
    seen = reader.shown(record)
    names = model.model_fields.keys() - {"prediction", "withheld"}
    return {
        **{name: seen.get(name) for name in names},
        "custom": plain_custom(reader.session, record.record_type, seen.get("custom")),
        "prediction": OPTED_OUT if silent else _shown(reader, record, newest),
        "withheld": sorted(names - seen.keys()),
    }
