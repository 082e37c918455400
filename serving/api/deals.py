"""Deals over HTTP."""

from __future__ import annotations

from flask import Response
from flask_openapi.blueprint import APIBlueprint

from crm_core.access import check_may_write, get_visible
from crm_core.changes import Source
from crm_core.deals import move_deal
from crm_core.predictions import list_predictions
from crm_core.records import Activity, Deal
from serving.activity_log import list_activities, log_on
from serving.api.blueprint import answer, caller, documented, new_blueprint
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
    prediction_out,
)
from serving.scoring_now import score_now
from serving.service import service, writing

api: APIBlueprint = new_blueprint("deals", "What may be sold, and how likely that is.")


@api.get("/deals", responses={"200": DealsPage, **documented()})
def list_deals(query: DealsQuery) -> Response:
    """List the deals you may see, the likeliest first."""
    with service().store.reading() as session:
        page = list_page(session, caller(), Deal, Listing(**query.model_dump()))
        items = [deal_out(deal) for deal in page.items]
    return answer(DealsPage(items=items, next_cursor=page.next_cursor))


@api.get("/deals/<int:id>", responses={"200": DealOut, **documented(404)})
def get_deal(path: RecordPath) -> Response:
    """Read one deal."""
    with service().store.reading() as session:
        found = deal_out(get_visible(session, caller(), Deal, path.id))
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
            move_deal(transaction, transaction.get(Deal, path.id), body.stage, occurred_at=body.occurred_at)
        created = activity_out(logged)
    return answer(created, 201)


@api.get("/deals/<int:id>/activities", responses={"200": ActivitiesPage, **documented(404)})
def list_deal_activities(path: RecordPath, query: HistoryQuery) -> Response:
    """List what was done with a deal, newest first."""
    with service().store.reading() as session:
        deal = get_visible(session, caller(), Deal, path.id)
        items = [activity_out(activity) for activity in list_activities(session, deal, limit=query.limit)]
    return answer(ActivitiesPage(items=items))


@api.post("/deals/<int:id>/stage", responses={"200": DealOut, **documented(400, 403, 404, 409, 413, 415)})
def move_deal_stage(path: RecordPath, body: StageMove) -> Response:
    """Move an open deal to another open stage."""
    user = caller()
    check_may_write(user)
    with writing(user, Source.API) as transaction:
        deal = get_visible(transaction.session, user, Deal, path.id)
        move_deal(transaction, deal, body.stage, occurred_at=body.occurred_at)
        moved = deal_out(deal)
    return answer(moved)


@api.post("/deals/<int:id>/score", responses={"200": PredictionOut, **documented(404, 409, 503)})
def score_deal(path: RecordPath) -> Response:
    """Score a deal now and show the score on it."""
    running = service()
    with running.store.reading() as session:
        deal = get_visible(session, caller(), Deal, path.id)
        session.expunge(deal)
    return answer(prediction_out(score_now(running.store, running.champions, deal)))


@api.get("/deals/<int:id>/predictions", responses={"200": PredictionsPage, **documented(404)})
def list_deal_predictions(path: RecordPath, query: HistoryQuery) -> Response:
    """List what models said of a deal, newest first."""
    with service().store.reading() as session:
        deal = get_visible(session, caller(), Deal, path.id)
        found = list_predictions(session, "deal", deal.id, limit=query.limit)
        items = [prediction_out(prediction) for prediction in found]
    return answer(PredictionsPage(items=items))
