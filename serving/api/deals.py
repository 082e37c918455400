"""Deals over HTTP."""

from __future__ import annotations

from flask import Response
from flask_openapi.blueprint import APIBlueprint

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.deals import move_deal
from crm_core.predictions import list_predictions
from crm_core.records import Activity, Deal
from crm_core.tokens import Scope
from serving.activity_log import get_to_move, list_activities, log_on
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.paging import Listing, list_page
from serving.payloads import (
    ActivitiesPage,
    ActivityOut,
    DealOut,
    DealsPage,
    DealsQuery,
    HistoryQuery,
    NewDealActivity,
    PredictionOut,
    PredictionsPage,
    RecordPath,
    StageMove,
    activity_out,
    deal_out,
    deals_out,
    prediction_out,
    predictions_out,
)
from serving.scoring_now import get_to_score, score_now
from serving.service import service, writing

api: APIBlueprint = new_blueprint("deals", "What may be sold, and how likely that is.")


@api.get("/deals", responses={"200": DealsPage, **documented(403)})
def list_deals(query: DealsQuery) -> Response:
    """List the deals you may see, the likeliest first."""
    with service().store.reading() as session:
        page = list_page(session, caller(), Deal, Listing(**query.model_dump()))
        items = deals_out(Reader(session, caller()), page.items)
    return answer(DealsPage(items=items, next_cursor=page.next_cursor))


@api.get("/deals/<int:id>", responses={"200": DealOut, **documented(404)})
def get_deal(path: RecordPath) -> Response:
    """Read one deal."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        found = deal_out(reader, reader.get(Deal, path.id))
    return answer(found)


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
        created = activity_out(Reader(transaction.session, caller()), logged)
    return answer(created, 201)


@api.get("/deals/<int:id>/activities", responses={"200": ActivitiesPage, **documented(404)})
def list_deal_activities(path: RecordPath, query: HistoryQuery) -> Response:
    """List what was done with a deal, newest first."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        found = list_activities(reader, reader.get(Deal, path.id), limit=query.limit)
        items = [activity_out(reader, activity) for activity in found]
    return answer(ActivitiesPage(items=items))


@api.post("/deals/<int:id>/stage", responses={"200": DealOut, **documented(400, 403, 404, 409, 413, 415)})
def move_deal_stage(path: RecordPath, body: StageMove) -> Response:
    """Move an open deal to another open stage."""
    user = caller()
    check_may_write(user)
    with writing(user, Source.API) as transaction:
        deal = get_to_move(transaction, user, path.id)
        move_deal(transaction, deal, body.stage, occurred_at=body.occurred_at)
        moved = deal_out(Reader(transaction.session, user), deal)
    return answer(moved)


@api.post("/deals/<int:id>/score", responses={"200": PredictionOut, **documented(403, 404, 409, 503)})
@requires(Scope.SCORE)
def score_deal(path: RecordPath) -> Response:
    """Score a deal now and show the score on it."""
    running = service()
    deal = get_to_score(running.store, caller(), Deal, path.id)
    made = score_now(running.store, running.champions, deal)
    with running.store.reading() as session:
        given = prediction_out(Reader(session, caller()), made)
    return answer(given)


@api.get("/deals/<int:id>/predictions", responses={"200": PredictionsPage, **documented(403, 404)})
def list_deal_predictions(path: RecordPath, query: HistoryQuery) -> Response:
    """List what models said of a deal, newest first."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        deal = reader.get(Deal, path.id)
        found = list_predictions(session, "deal", deal.id, limit=query.limit)
        items = predictions_out(reader, deal, found)
    return answer(PredictionsPage(items=items))
