"""The page everybody starts from, and our own files."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.records import Role

FOLDER = Path(__file__).parent

pages = Blueprint(
    "web", __name__, template_folder="templates", static_folder="static", static_url_path="/static/web"
)


@pages.get("/")
def start() -> ResponseReturnValue:
    """Go to what the day begins with: the work, or, for who has none of their own, the models."""
    models = current_user.user.role == Role.ANALYST
    return redirect(url_for("models_pages.list_models" if models else "today_pages.show"))
