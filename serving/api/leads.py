"""Leads over HTTP."""

from __future__ import annotations

from flask import Response

from crm_core.access import Reader
from crm_core.records import Lead
from crm_core.tokens import Scope
from serving.api.blueprint import caller, documented, plain_answer, requires
from serving.api.records import blueprint_of
from serving.payloads import (
    PredictionOut,
    RecordPath,
    plain_prediction,
)
from serving.scoring_now import score_now
from serving.service import service

api = blueprint_of("lead")


@api.post("/leads/<int:id>/score", responses={"200": PredictionOut, **documented(403, 404, 409, 503)})
@requires(Scope.SCORE)
def score_lead(path: RecordPath) -> Response:
    """Score a lead now and show the score on it."""
    running = service()
    made = score_now(running.store, running.champions, caller(), Lead, path.id)
    with running.store.reading() as session:
        given = plain_prediction(Reader(session, caller()), made)
    return plain_answer(given)
