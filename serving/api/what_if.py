"""What goes with another score, over HTTP."""

from __future__ import annotations

from typing import Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.payloads import Given, RecordPath, Utc
from serving.service import service
from serving.what_if import ask_what_if

api: APIBlueprint = new_blueprint("what_if", "What goes with a higher chance.")

_TYPES = {"leads": "lead", "deals": "deal", "customers": "account"}


class ScoredPath(RecordPath):
    """Which record of a type that is scored."""

    type: Literal["leads", "deals", "customers"] = Field(description="The type, in the plural.")


class HintOut(Given):
    """Something that could be done today, and the probability that goes with it."""

    action: str
    done_en: str
    done_zh: str
    probability: float = Field(description="In [0, 1], with that done just now.")
    change: float = Field(description="Of the probability, against the record as it stands.")
    log_odds: float = Field(description="The same change, in log-odds.")
    alike: bool = Field(description="The change is too small to tell anything.")
    en: str
    zh: str
    caution_en: str | None = Field(description="What the model has hardly seen; null if it is at home.")
    caution_zh: str | None


class WouldChange(Given):
    """What goes with another score: how things went together in the past, and no promise."""

    task: str
    as_of: Utc
    model_version: str
    horizon_days: int
    high_is_good: bool = Field(description="False for churn, where a lower probability is wanted.")
    probability: float = Field(description="In [0, 1], of the record as it stands.")
    hints: list[HintOut] = Field(description="Best for the company first; none from fields you may not see.")
    note_en: str
    note_zh: str


@api.get(
    "/<type>/<int:id>/what-would-change",
    responses={"200": WouldChange, **documented(403, 404, 409, 503)},
)
def list_what_would_change(path: ScoredPath) -> Response:
    """List what could be done with a record today, with the probability that goes with it."""
    from models.what_if import NOTE

    running = service()
    asked = ask_what_if(running.store, running.champions, caller(), _TYPES[path.type], path.id)
    found = asked.found
    given = WouldChange(
        task=found.task,
        as_of=asked.as_of,
        model_version=asked.model_version,
        horizon_days=found.horizon_days,
        high_is_good=found.high_is_good,
        probability=found.probability,
        hints=[HintOut.model_validate(hint, from_attributes=True) for hint in found.hints],
        note_en=NOTE["en"],
        note_zh=NOTE["zh"],
    )
    return answer(given)
