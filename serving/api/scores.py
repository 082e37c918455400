"""Scores over HTTP: of many records, of records that do not exist, and what was said before."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import CRMError
from crm_core.records import Account, Deal, Lead
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Asked, Given, Id, PredictionOut, Taken, prediction_out
from serving.problems import PREFIX, kind_of
from serving.scoring_many import ask_many, write_many
from serving.service import service, writing

api: APIBlueprint = new_blueprint("scores", "What models say of records, real or supposed.")

AT_ONCE = 200
"""Records in one request."""

MODELS: dict[str, type[Lead | Deal | Account]] = {"leads": Lead, "deals": Deal, "customers": Account}
"""What carries a score, by the name that paths have for it."""


class ScoredTypePath(Asked):
    """Which type of record that is scored."""

    type: Literal["leads", "deals", "customers"] = Field(description="The type, in the plural.")


class ManyIds(Taken):
    """Which records."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=AT_ONCE, description="Their ids, in any order.")]


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
def score_many(path: ScoredTypePath, body: ManyIds) -> Response:
    """Score up to 200 records now and show the scores on them; one that cannot be scored stops no other."""
    running, user, model = service(), caller(), MODELS[path.type]
    asked = ask_many(running.store, running.champions, user, model, body.ids)
    with writing(user, Source.MODEL) as transaction:
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
