"""The administrator's pages: people, teams, rights, pipelines, fields, keys, webhooks, and what was done."""

from __future__ import annotations

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

from serving.web.admin import (
    automation,
    endpoints,
    fields,
    keys,
    operations,
    people,
    pipelines,
    rights,
    sales,
    service_desk,
    teams,
    working_time,
)
from serving.web.admin.shelf import pages

__all__ = [
    "automation",
    "endpoints",
    "fields",
    "keys",
    "operations",
    "pages",
    "people",
    "pipelines",
    "rights",
    "sales",
    "service_desk",
    "teams",
    "working_time",
]


@pages.get("")
def start() -> ResponseReturnValue:
    """Go to the people, whom an administrator looks after most."""
    return redirect(url_for("admin_pages.list_people"))
