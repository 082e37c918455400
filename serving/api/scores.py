"""Scores over HTTP: of many records, of records that do not exist, and what was said before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import BeforeValidator, Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import CRMError
from crm_core.predictions import Prediction
from crm_core.records import Account, Activity, Contract, Deal, Lead, Order
from crm_core.tokens import Scope
from crm_core.worth import money_at_risk, readable_worth
from serving.api.blueprint import answer, caller, documented, new_blueprint, plain_answer, requires
from serving.api.records_schemas import DayIn, MoneyIn
from serving.champions import TASK_OF
from serving.payloads import (
    Asked,
    CauseOut,
    CustomValue,
    Given,
    HistoryEntry,
    Id,
    MoneyAtRiskOut,
    NewActivity,
    NewestOut,
    NewLead,
    Outlook,
    Past,
    PredictionOut,
    Reason,
    ScoreHistory,
    Taken,
    Text,
    Utc,
    as_whole,
    plain_horizons,
    plain_prediction,
    plain_reasons,
    prediction_out,
    state_of,
)
from serving.problems import PREFIX, kind_of
from serving.score_history import PARTS_AT_ONCE, read_newest, read_score_history
from serving.scoring_many import ask_many, write_many
from serving.scoring_now import tell_now
from serving.service import service
from serving.supposed import Draft, ask_supposed

api: APIBlueprint = new_blueprint("scores", "What models say of records, real or supposed.")

AT_ONCE = 200
"""Records in one request."""

MODELS: dict[str, type[Lead | Deal | Account]] = {"leads": Lead, "deals": Deal, "customers": Account}
"""What carries a score, by the name that paths have for it."""


NewestState = Literal["scored", "rank_only", "not_enough_data", "never_scored", "opted_out"]


class ScoredTypePath(Asked):
    """Which type of record that is scored."""

    type: Literal["leads", "deals", "customers"] = Field(description="The type, in the plural.")


class ScoredPath(ScoredTypePath):
    """Which record of a type that is scored."""

    id: Id = Field(description="The record's id.")


class ScoreHistoryQuery(Asked):
    """How much history, and how closely it is looked at."""

    limit: int = Field(default=50, ge=1, le=200, description="Entries on a page, newest first.")
    cursor: str | None = Field(default=None, max_length=200, description="`next_cursor` of the page before.")
    parts: bool = Field(
        default=False,
        description=(
            "Tell by how much time, data and model each moved the probability, by asking the model of before "
            f"again; a page has at most {PARTS_AT_ONCE} entries then."
        ),
    )


class ManyIds(Taken):
    """Which records."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=AT_ONCE, description="Their ids, in any order.")]


Word = Annotated[str, Field(min_length=1, max_length=120)]
Amount = Annotated[MoneyIn, Field(description="A decimal number, as text.")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]


class SupposedActivities(Taken):
    """What is supposed to have been done with a record, in the order in which it is logged."""

    activities: Annotated[list[NewActivity], Field(max_length=AT_ONCE)] = Field(
        default_factory=list, description="What was done with it; each may say when it happened."
    )


class SupposedLead(NewLead, SupposedActivities):
    """A lead as one would create it, and what was done with it."""


class SupposedDeal(SupposedActivities):
    """A deal as one would create it, and what was done with it."""

    stage: Annotated[str, Field(min_length=1, max_length=80)]
    pipeline: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    name: Text | None = None
    account_id: Id | None = Field(default=None, description="Whose deal it is: an account that you see.")
    contact_id: Id | None = None
    campaign_id: Id | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    source: Word | None = None
    expected_close_on: DayIn | None = None
    rep_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    owner_id: Id | None = Field(default=None, description="Who is responsible; default the caller if a rep.")
    occurred_at: Past | None = Field(default=None, description="When it came to be; default now.")
    custom: dict[Annotated[str, Field(max_length=100)], CustomValue] | None = None


class SupposedOrder(Taken):
    """Something that a customer is supposed to have bought."""

    amount: Amount | None = None
    currency: Currency | None = None
    occurred_at: Past | None = Field(default=None, description="When it was placed; default now.")
    custom: dict[Annotated[str, Field(max_length=100)], CustomValue] | None = None


class SupposedContract(Taken):
    """An agreement that a customer is supposed to have."""

    starts_on: DayIn
    ends_on: DayIn
    value: Amount | None = None
    currency: Currency | None = None
    occurred_at: Past | None = Field(default=None, description="When it was signed; default now.")
    custom: dict[Annotated[str, Field(max_length=100)], CustomValue] | None = None


class SupposedCustomer(SupposedActivities):
    """A customer as one would create it, with what they bought and what was done with them."""

    name: Text | None = None
    industry: Word | None = None
    region: Word | None = None
    employees: Annotated[int, Field(ge=0, le=100_000_000), BeforeValidator(as_whole)] | None = None
    parent_id: Id | None = None
    owner_id: Id | None = Field(default=None, description="Who is responsible; default the caller if a rep.")
    occurred_at: Past | None = Field(default=None, description="When it came to be; default now.")
    custom: dict[Annotated[str, Field(max_length=100)], CustomValue] | None = None
    orders: Annotated[list[SupposedOrder], Field(max_length=AT_ONCE)] = Field(default_factory=list)
    contracts: Annotated[list[SupposedContract], Field(max_length=AT_ONCE)] = Field(default_factory=list)


class SupposedScore(Outlook):
    """What the champion would say of a record if it were created now. Nothing of it is stored."""

    task: str
    as_of: Utc = Field(description="The instant it was asked from.")
    model_version: str
    horizon_days: int
    state: Literal["scored", "rank_only", "not_enough_data"] = Field(
        description="As that of a record's prediction."
    )
    probability: float | None = Field(description="In [0, 1]; null if there is not enough data to say.")
    score: int | None
    grade: str | None
    reasons: list[Reason] = Field(description="They sum, in log-odds, to the probability.")
    money_at_risk: list[MoneyAtRiskOut] = Field(
        description="Of customers: by currency, without what comes from fields that you may not see."
    )


class RowProblem(Given):
    """Why one row has no answer; as a problem on its own would say it."""

    type: str
    title: str
    status: int
    detail: str


class ScoreRow(Given):
    """What came of one id: a prediction, or a problem."""

    id: int
    status: int = Field(description="What asking for this one alone would be answered with.")
    prediction: PredictionOut | None
    problem: RowProblem | None


class ScoreRows(Given):
    """A row for each id, in the order asked for."""

    items: list[ScoreRow]


@api.post("/<type>/scores", responses={"200": ScoreRows, **documented(400, 403, 409, 413, 415, 503)})
@requires(Scope.SCORE)
def score_many(path: ScoredTypePath, body: ManyIds) -> Response:
    """Score up to 200 records now and show the scores on them; one that cannot be scored stops no other."""
    running, user, model = service(), caller(), MODELS[path.type]
    asked = ask_many(running.store, running.champions, user, model, body.ids)
    with running.store.transaction(source=Source.MODEL) as transaction:
        stored = write_many(transaction, asked)
        reader = Reader(transaction.session, user)
        given = {record_id: prediction_out(reader, made) for record_id, made in stored.items()}
    rows = [_row(record_id, given.get(record_id), asked.refused.get(record_id)) for record_id in body.ids]
    return answer(ScoreRows(items=rows))


def _row(record_id: int, prediction: PredictionOut | None, error: CRMError | None) -> ScoreRow:
    if error is None:
        return ScoreRow(id=record_id, status=200, prediction=prediction, problem=None)
    kind = kind_of(error)
    detail = str(error) if kind.status < 500 else "The cause is in the log, under the request id."
    problem = RowProblem(type=PREFIX + kind.slug, title=kind.title, status=kind.status, detail=detail)
    return ScoreRow(id=record_id, status=kind.status, prediction=None, problem=problem)


@api.get("/<type>/<int:id>/score", responses={"200": NewestOut, **documented(403, 404)})
def get_newest_score(path: ScoredPath) -> Response:
    """Read the newest stored score of a record, with its age and whether it is fresh; scores nothing."""
    running, user, model = service(), caller(), MODELS[path.type]
    running.champions.look()
    champion = running.champions.find(TASK_OF[model.record_type])
    serving = None if champion is None else champion.scorer.model_version
    newest = read_newest(running.store, user, (model, path.id), serving)
    if newest.prediction is None:
        state: NewestState = "opted_out" if newest.opted_out else "never_scored"
        return answer(
            NewestOut(state=state, prediction=None, age_seconds=None, fresh=False, stale_because=[])
        )
    with running.store.reading() as session:
        told = plain_prediction(Reader(session, user), newest.prediction)
    given = {
        "state": state_of(newest.prediction),
        "prediction": told,
        "age_seconds": newest.age_seconds,
        "fresh": not newest.stale_because,
        "stale_because": newest.stale_because,
    }
    return plain_answer(given)


@api.get("/<type>/<int:id>/predictions", responses={"200": ScoreHistory, **documented(403, 404)})
def list_score_history(path: ScoredPath, query: ScoreHistoryQuery) -> Response:
    """List what models said of a record, newest first, with the cause of each change."""
    running, user = service(), caller()
    page = read_score_history(
        running.store,
        user,
        (MODELS[path.type], path.id),
        limit=min(query.limit, PARTS_AT_ONCE) if query.parts else query.limit,
        cursor=query.cursor,
        home=running.settings.home_folder if query.parts else None,
    )
    with running.store.reading() as session:
        reader = Reader(session, user)
        items = [
            HistoryEntry(
                **plain_prediction(reader, entry.prediction),
                cause=CauseOut.model_validate(entry.cause),
            )
            for entry in page.entries
        ]
    return answer(ScoreHistory(items=items, next_cursor=page.next_cursor))


@api.get(
    "/<type>/<int:id>/score-now",
    operation_id="get_score_now",
    responses={"200": SupposedScore, **documented(403, 404, 409, 503)},
)
@requires(Scope.SCORE)
def tell_score(path: ScoredPath) -> Response:
    """Say what scoring a record now would say; nothing of it is stored, and the record shows what it did."""
    running = service()
    made = tell_now(running.store, running.champions, caller(), MODELS[path.type], path.id)
    with running.store.reading() as session:
        given = _supposed_out(Reader(session, caller()), made)
    return plain_answer(given)


_SUPPOSED = {"200": SupposedScore, **documented(400, 403, 404, 409, 413, 415, 503)}


@api.post("/leads/score-hypothetical", responses=_SUPPOSED)
@requires(Scope.SCORE)
def score_hypothetical_lead(body: SupposedLead) -> Response:
    """Score a lead that does not exist, as if created now with these activities; nothing is stored."""
    return _score_supposed(Lead, body)


@api.post("/deals/score-hypothetical", responses=_SUPPOSED)
@requires(Scope.SCORE)
def score_hypothetical_deal(body: SupposedDeal) -> Response:
    """Score a deal that does not exist, as if created now with these activities; nothing is stored."""
    return _score_supposed(Deal, body)


@api.post("/customers/score-hypothetical", responses=_SUPPOSED)
@requires(Scope.SCORE)
def score_hypothetical_customer(body: SupposedCustomer) -> Response:
    """Score a customer who does not exist, with these orders, contracts and activities; nothing is stored."""
    linked = [(Order, each) for each in body.orders], [(Contract, each) for each in body.contracts]
    return _score_supposed(Account, body, [*linked[0], *linked[1]])


def _score_supposed(
    model: type[Lead | Deal | Account],
    body: SupposedLead | SupposedDeal | SupposedCustomer,
    linked: Sequence[tuple[type[Order | Contract], Taken]] = (),
) -> Response:
    running, user = service(), caller()
    apart = {"owner_id", "activities", "orders", "contracts"}
    parts = [*((Activity, each) for each in body.activities), *linked]
    draft = Draft(
        model=model,
        values=body.model_dump(exclude_none=True, exclude=apart),
        owner_id=body.owner_id,
        linked=[(kind, each.model_dump(exclude_none=True)) for kind, each in parts],
    )
    made = ask_supposed(running.store, running.champions, user, draft)
    with running.store.reading() as session:
        given = _supposed_out(Reader(session, user), made)
    return plain_answer(given)


def _supposed_out(reader: Reader, made: Prediction) -> dict[str, Any]:
    """Return what JSON is made of: every field of a `SupposedScore`, in its order."""
    worth = money_at_risk(made.probability, readable_worth(reader, made.yearly_value or ()))
    plain = {
        "within": plain_horizons(made),
        "state": state_of(made),
        "reasons": plain_reasons(reader, made) or [],
        "money_at_risk": [MoneyAtRiskOut.model_validate(each).model_dump() for each in worth],
    }
    return {name: plain[name] if name in plain else getattr(made, name) for name in _SUPPOSED_FIELDS}


_SUPPOSED_FIELDS: Final = tuple(SupposedScore.model_fields)
