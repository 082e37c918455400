"""Leads over HTTP."""

from __future__ import annotations

from flask import Response
from flask_openapi.blueprint import APIBlueprint

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.declared import read_plain
from crm_core.errors import InvalidValueError
from crm_core.predictions import list_predictions
from crm_core.records import Activity, Lead
from crm_core.tokens import Scope
from serving.activity_log import list_activities, log_on
from serving.api.blueprint import answer, caller, documented, new_blueprint, requires
from serving.owners import choose_owner
from serving.paging import Listing, list_page
from serving.payloads import (
    ActivitiesPage,
    ActivityOut,
    HistoryQuery,
    LeadOut,
    LeadsPage,
    LeadsQuery,
    NewActivity,
    NewLead,
    PredictionOut,
    PredictionsPage,
    RecordPath,
    activity_out,
    lead_out,
    leads_out,
    prediction_out,
    predictions_out,
)
from serving.scoring_now import get_to_score, score_now
from serving.service import service, writing

api: APIBlueprint = new_blueprint("leads", "People and companies that may become customers.")


@api.post("/leads", responses={"201": LeadOut, **documented(400, 403, 409, 413, 415)})
def create_lead(body: NewLead) -> Response:
    """Create a lead."""
    user = caller()
    check_may_write(user)
    if not (body.name or body.company or body.email):
        raise InvalidValueError("lead", None, "a name, a company or an email")
    values = body.model_dump(exclude_none=True, exclude={"owner_id"})
    with writing(user, Source.API) as transaction:
        reader = Reader(transaction.session, user)
        reader.check_may_create(Lead)
        reader.check_fields("lead", values.keys() - {"custom"})
        reader.check_fields("lead", (f"custom.{name}" for name in body.custom or {}))
        owner_id = choose_owner(transaction.session, user, body.owner_id)
        if body.custom:
            values["custom"] = read_plain(transaction.session, "lead", body.custom)
        lead = transaction.create(Lead(**values, owner_id=owner_id))
        created = lead_out(reader, lead)
    return answer(created, 201)


@api.get("/leads", responses={"200": LeadsPage, **documented(403)})
def list_leads(query: LeadsQuery) -> Response:
    """List the leads you may see, the likeliest first."""
    with service().store.reading() as session:
        page = list_page(session, caller(), Lead, Listing(**query.model_dump()))
        items = leads_out(Reader(session, caller()), page.items)
    return answer(LeadsPage(items=items, next_cursor=page.next_cursor))


@api.get("/leads/<int:id>", responses={"200": LeadOut, **documented(404)})
def get_lead(path: RecordPath) -> Response:
    """Read one lead."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        found = lead_out(reader, reader.get(Lead, path.id))
    return answer(found)


@api.post("/leads/<int:id>/activities", responses={"201": ActivityOut, **documented(400, 403, 404, 413, 415)})
def log_lead_activity(path: RecordPath, body: NewActivity) -> Response:
    """Log what was done with a lead; its score follows within seconds."""
    with writing(caller(), Source.API) as transaction:
        logged = log_on(transaction, caller(), Lead, path.id, Activity(**body.model_dump(exclude_none=True)))
        created = activity_out(Reader(transaction.session, caller()), logged)
    return answer(created, 201)


@api.get("/leads/<int:id>/activities", responses={"200": ActivitiesPage, **documented(404)})
def list_lead_activities(path: RecordPath, query: HistoryQuery) -> Response:
    """List what was done with a lead, newest first."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        found = list_activities(reader, reader.get(Lead, path.id), limit=query.limit)
        items = [activity_out(reader, activity) for activity in found]
    return answer(ActivitiesPage(items=items))


@api.post("/leads/<int:id>/score", responses={"200": PredictionOut, **documented(403, 404, 409, 503)})
@requires(Scope.SCORE)
def score_lead(path: RecordPath) -> Response:
    """Score a lead now and show the score on it."""
    running = service()
    lead = get_to_score(running.store, caller(), Lead, path.id)
    made = score_now(running.store, running.champions, lead)
    with running.store.reading() as session:
        given = prediction_out(Reader(session, caller()), made)
    return answer(given)


@api.get("/leads/<int:id>/predictions", responses={"200": PredictionsPage, **documented(403, 404)})
def list_lead_predictions(path: RecordPath, query: HistoryQuery) -> Response:
    """List what models said of a lead, newest first."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        lead = reader.get(Lead, path.id)
        found = list_predictions(session, "lead", lead.id, limit=query.limit)
        items = predictions_out(reader, lead, found)
    return answer(PredictionsPage(items=items))
