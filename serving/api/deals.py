"""Deals over HTTP."""

from __future__ import annotations

from flask import Response

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.deals import move_deal
from crm_core.records import Activity, Deal
from crm_core.tokens import Scope
from serving.activity_log import get_to_move, log_on
from serving.api.blueprint import caller, documented, plain_answer, requires
from serving.api.conditional import tagged
from serving.api.records import blueprint_of, created_record
from serving.api.records_given import written_json
from serving.api.records_schemas import COLLECTIONS
from serving.payloads import (
    NewDealActivity,
    PredictionOut,
    RecordPath,
    StageMove,
    plain_prediction,
)
from serving.scoring_now import score_now
from serving.service import service, writing

api = blueprint_of("deal")
DealOut, ActivityOut = COLLECTIONS["deal"].given, COLLECTIONS["activity"].given


@api.post(
    "/deals/<int:id>/activities", responses={"201": ActivityOut, **documented(400, 403, 404, 409, 413, 415)}
)
def log_deal_activity(path: RecordPath, body: NewDealActivity) -> Response:
    """Log what was done with a deal and, in the same transaction, the stage it brought the deal to."""
    values = body.model_dump(exclude_none=True, exclude={"stage"})
    with writing(caller(), Source.API) as transaction:
        logged = log_on(transaction, caller(), Deal, path.id, Activity(**values))
        if body.stage is not None:
            deal = get_to_move(transaction, caller(), path.id)
            move_deal(transaction, deal, body.stage, occurred_at=body.occurred_at)
        created = written_json(Reader(transaction.session, caller()), logged)
    return created_record(created, logged)


@api.post("/deals/<int:id>/stage", responses={"200": DealOut, **documented(400, 403, 404, 409, 413, 415)})
def move_deal_stage(path: RecordPath, body: StageMove) -> Response:
    """Move an open deal to another open stage."""
    user = caller()
    check_may_write(user)
    with writing(user, Source.API) as transaction:
        deal = get_to_move(transaction, user, path.id)
        move_deal(transaction, deal, body.stage, occurred_at=body.occurred_at)
        moved = written_json(Reader(transaction.session, user), deal)
    return tagged(moved, deal.version)


@api.post("/deals/<int:id>/score", responses={"200": PredictionOut, **documented(403, 404, 409, 503)})
@requires(Scope.SCORE)
def score_deal(path: RecordPath) -> Response:
    """Score a deal now and show the score on it."""
    running = service()
    made = score_now(running.store, running.champions, caller(), Deal, path.id)
    with running.store.reading() as session:
        given = plain_prediction(Reader(session, caller()), made)
    return plain_answer(given)
