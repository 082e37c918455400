"""Customers over HTTP: how likely they are to leave, and how much money that puts at risk."""

from __future__ import annotations

from flask import Response
from flask_openapi.blueprint import APIBlueprint

from crm_core.access import Reader
from crm_core.records import Account
from crm_core.tokens import Scope
from serving.api.blueprint import caller, documented, new_blueprint, plain_answer, requires
from serving.payloads import (
    PredictionOut,
    RecordPath,
    plain_prediction,
)
from serving.scoring_now import score_now
from serving.service import service

api: APIBlueprint = new_blueprint("customers", "Who may leave, and how much money that puts at risk.")


@api.post("/customers/<int:id>/score", responses={"200": PredictionOut, **documented(403, 404, 409, 503)})
@requires(Scope.SCORE)
def score_customer(path: RecordPath) -> Response:
    """Score a customer now and show the score on it."""
    running = service()
    made = score_now(running.store, running.champions, caller(), Account, path.id)
    with running.store.reading() as session:
        given = plain_prediction(Reader(session, caller()), made)
    return plain_answer(given)
