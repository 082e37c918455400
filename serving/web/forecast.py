"""The page of the forecast: what the deals somebody sees will bring."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.errors import ModelError, NotEnoughDataError
from serving.forecasts import Part, Question, forecast_now
from serving.service import service

pages = Blueprint("forecast_pages", __name__, url_prefix="/forecast")

CAUSES: dict[str, object] = {
    "won": _("Deals won"),
    "lost": _("Deals lost"),
    "new_deals": _("New deals"),
    "amounts": _("Amounts changed"),
    "probabilities": _("Probabilities changed"),
    "reopened": _("Deals reopened"),
    "not_yet_created": _("Not yet created"),
}
RULES: dict[str, object] = {
    "stages": _("Rate of the stage times amount"),
    "reps": _("Reps' own numbers"),
    "last_period": _("The last whole period"),
    "last_year": _("The same period a year ago"),
}


@pages.get("")
def show() -> ResponseReturnValue:
    """Show the forecast of the deals that the reader may see, or of a part of them."""
    running = service()
    part = Part(
        owner_id=request.args.get("owner_id", type=int), team_id=request.args.get("team_id", type=int)
    )
    question = Question(user=current_user.user, as_of=running.store.clock.now(), part=part)
    told: dict[str, Any] | None = None
    why = ""
    try:
        told = forecast_now(running, question)
    except (NotEnoughDataError, ModelError) as error:
        why = str(error)
    return render_template("forecast.html", told=told, why=why, part=part, causes=CAUSES, rules=RULES)
