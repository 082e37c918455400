"""The page of models: which serve, since when, and how good they are."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import check_may_promote
from serving.service import page_session, service
from serving.web.model_cards import COLUMNS, read_cards

pages = Blueprint("models_pages", __name__, url_prefix="/models")


@pages.get("")
def list_models() -> ResponseReturnValue:
    """Show the champion of every task; for data scientists and administrators."""
    check_may_promote(current_user.user)
    running = service()
    cards = read_cards(page_session(), running.settings.home_folder, running.champions)
    return render_template("models.html", cards=cards, columns=COLUMNS)
