"""What the API takes and gives, as strict pydantic models; the OpenAPI document is made from these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)
from pydantic_core import to_json

from crm_core.access import Reader
from crm_core.opting_out import list_opted_out
from crm_core.predictions import Outlook as OutlookRow
from crm_core.predictions import Prediction
from crm_core.records import RECORD_TYPES, Account, Deal, Lead
from crm_core.sources import LEAD_SOURCES
from crm_core.worth import money_at_risk, readable_worth

BIGGEST = 2**63 - 1


def as_whole(value: object) -> object:
    """JSON knows one kind of number: 1.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole(least: int, most: int) -> Any:  # noqa: ANN401  a type, made at run time
    """Return the type of a whole number, however it is written, between two bounds."""
    return Annotated[int, Field(ge=least, le=most), BeforeValidator(as_whole)]


Id = Annotated[int, Field(ge=1, le=BIGGEST), BeforeValidator(as_whole)]
MAIL_PATTERN = r"^[^@\x00-\x20]+@[^@\x00-\x20]+$"
"""What every language reads alike; whether mail arrives there, nobody can tell from an address."""

Text = Annotated[str, Field(min_length=1, max_length=300)]
CustomValue = str | bool | Annotated[int, Field(ge=-BIGGEST, le=BIGGEST)] | float | None


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _read_instant(value: object) -> object:
    """Read a text as RFC 3339 has it; others are instants to some, such as seconds since 1970."""
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value.upper()) if _RFC_3339.fullmatch(value) else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError("expected an instant such as 2026-03-02T09:00:00Z")
    return found


def _since_1900(value: datetime) -> datetime:
    try:
        in_utc = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("expected an instant that UTC has") from error
    if in_utc.year < 1900:
        raise ValueError("expected an instant since 1900")
    return in_utc


Past = Annotated[AwareDatetime, BeforeValidator(_read_instant), AfterValidator(_since_1900)]
"""An instant since 1900, as RFC 3339 writes it."""
Utc = Annotated[
    datetime, PlainSerializer(lambda value: value.astimezone(UTC).isoformat().replace("+00:00", "Z"))
]


class Taken(BaseModel):
    """What the API takes: nothing but the fields it names, of exactly their types."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Parameters(BaseModel):
    """What comes outside of the body; the framework asks for its schema with every request."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema, made once where nothing special is asked for; it must not be changed."""
        return super().model_json_schema(*args, **kwargs) if args or kwargs else _schema_of(cls)


class Asked(Parameters):
    """Parameters of a path or query: texts by nature, so numbers are read from them."""

    model_config = ConfigDict(extra="forbid")


@cache
def _schema_of(model: type[Parameters]) -> dict[str, Any]:
    return super(Parameters, model).model_json_schema()


class Given(BaseModel):
    """What the API gives."""

    model_config = ConfigDict(from_attributes=True)


class RecordPath(Asked):
    """Which record."""

    id: Id = Field(description="The record's id.")


class NewLead(Taken):
    """A lead to be created; it needs a name, a company or an email."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    company: Text | None = None
    email: Annotated[str, Field(min_length=3, max_length=320, pattern=MAIL_PATTERN)] | None = None
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
    employees: Annotated[int, Field(ge=0, le=100_000_000), BeforeValidator(as_whole)] | None = None
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
    duration_seconds: Annotated[int, Field(ge=0, le=30 * 86_400), BeforeValidator(as_whole)] | None = None
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


class MovingChangeOut(Given):
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


class NewestOut(Given):
    """The newest score of a record as it is stored, and whether it would be another one now."""

    state: Literal["scored", "rank_only", "not_enough_data", "never_scored", "opted_out"]
    prediction: PredictionOut | None = Field(description="Null where there is none, or none is told.")
    age_seconds: float | None = Field(description="Since the instant it was asked from.")
    fresh: bool = Field(description="Nothing is known that makes it another one now, but for time.")
    stale_because: list[Literal["data", "model"]] = Field(
        description="`data`: something that a feature reads was learned since; `model`: another one serves."
    )


class CauseOut(Given):
    """Why a prediction is what it is, next to the one before it."""

    kinds: list[Literal["first", "data", "model", "time"]] = Field(
        description=(
            "`data`: something that a feature reads was changed or learned since; `model`: another version "
            "answered; `time`: neither; `first`: nothing was said before."
        )
    )
    changes: list[MovingChangeOut] = Field(description="The newest of them, of records that you see.")
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

    type: str = Field(
        description="A stable name of the kind of problem, one of those in docs/errors.md.",
        examples=["urn:crm:problem:stale-record"],
    )
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
).model_dump()
"""What is shown of a record that may not be scored, whatever was said of it before."""


def plain_json(plain: Any) -> str:  # noqa: ANN401  dicts and lists of what the schemas hold
    """Return the JSON text of what has the form of a schema, as the schema itself would write it."""
    return to_json(plain, inf_nan_mode="null").decode()


def predictions_out(
    reader: Reader, record: Lead | Deal | Account, predictions: Sequence[Prediction]
) -> list[PredictionOut]:
    """Return what the API gives of stored predictions: none about somebody who asked not to be scored."""
    reader.check_may_see_scores(type(record))
    if list_silent(reader, type(record), [record]):
        return []
    return [prediction_out(reader, prediction) for prediction in predictions]


def prediction_out(reader: Reader, prediction: Prediction) -> PredictionOut:
    """Return what the API gives of a stored prediction, with the reasons that may be told."""
    return PredictionOut.model_validate(plain_prediction(reader, prediction))


def plain_prediction(reader: Reader, prediction: Prediction) -> dict[str, Any]:
    """Return the same as what JSON is made of: every field of a `PredictionOut`, in its order."""
    reader.check_may_see_scores(RECORD_TYPES[prediction.record_type])
    at_risk = money_at_risk(prediction.probability, readable_worth(reader, prediction.yearly_value or ()))
    made = {
        "within": plain_horizons(prediction),
        "reasons": plain_reasons(reader, prediction),
        "money_at_risk": [MoneyAtRiskOut.model_validate(each).model_dump() for each in at_risk],
    }
    return {
        name: made[name] if name in made else getattr(prediction, name) for name in PredictionOut.model_fields
    }


TOO_FEW_FOLLOWED = "Too few records have been followed for so long."


def plain_horizons(prediction: Prediction | OutlookRow | None) -> list[dict[str, Any]]:
    """Return all horizons of a prediction, shortest first, with those of which too little is known."""
    said = (prediction.within if prediction is not None else None) or {}
    return [
        {"days": days, "probability": chance, "why": TOO_FEW_FOLLOWED if chance is None else None}
        for days, chance in sorted((int(days), chance) for days, chance in said.items())
    ]


def plain_reasons(reader: Reader, told: Prediction | Lead | Deal | Account) -> list[dict[str, Any]] | None:
    """Return the reasons that may be told, as JSON is made of them: every field of a `Reason`, in its order.

    None where there are none, or they are hidden.
    """
    if told.reasons is None or not reader.may_read_field(told.record_type, "reasons"):
        return None
    return [
        {
            "feature": None,
            "group": None,
            "value": None,
            "log_odds": reason["log_odds"],
            "en": reason["en"],
            "zh": reason["zh"],
            **reason,
        }
        for reason in reader.readable_reasons(told.reasons)
    ]


def shown_of(
    reader: Reader, record: Lead | Deal | Account, newest: Prediction | OutlookRow | None
) -> dict[str, Any] | None:
    """Return the newest prediction of a record as JSON is made of it: every field of `Shown`, in its order.

    None if it was never scored, or scores are hidden.
    """
    if record.scored_at is None or not reader.may_read_field(record.record_type, "probability"):
        return None
    return {
        "within": plain_horizons(newest),
        "expected_days": newest.expected_days if newest is not None else None,
        "state": state_of(record),
        "probability": record.probability,
        "previous_probability": record.previous_probability,
        "score": record.score,
        "grade": record.grade,
        "trend": record.trend,
        "reasons": plain_reasons(reader, record) or [],
        "scored_at": record.scored_at,
        "model_version": record.model_version,
    }


def state_of(record: Lead | Deal | Account | Prediction) -> Literal["scored", "rank_only", "not_enough_data"]:
    """Return in a word what is known of a record that was scored."""
    if record.probability is not None:
        return "scored"
    return "rank_only" if record.score is not None else "not_enough_data"


def list_silent(
    reader: Reader, model: type[Lead | Deal | Account], records: Sequence[Lead | Deal | Account]
) -> set[int]:
    """Return which records may not be scored."""
    return set(list_opted_out(reader.session, model, [record.id for record in records])) if records else set()
