"""The page everybody starts from, and our own files."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue

FOLDER = Path(__file__).parent

pages = Blueprint(
    "web", __name__, template_folder="templates", static_folder="static", static_url_path="/static/web"
)


@pages.get("/")
def start() -> ResponseReturnValue:
    """Go to the list that the day begins with."""
    return redirect(url_for("leads_pages.list_records"))
