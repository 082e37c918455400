"""The pages of leads."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from pydantic import ValidationError
from sqlalchemy import false

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.errors import CRMError
from crm_core.records import Lead
from crm_core.sources import list_sources
from serving.owners import choose_owner
from serving.payloads import NewLead
from serving.service import service, writing
from serving.web.language import gettext
from serving.web.lead_ends import add_ends
from serving.web.record_views import add_views, show_refused
from serving.web.records import LEADS
from serving.web.refusals import refusal
from serving.web.words import word

pages = Blueprint("leads_pages", __name__, url_prefix="/leads")
add_views(pages, LEADS)
add_ends(pages, lambda record_id, refused: show_refused(LEADS, record_id, refused))

FIELDS = ("name", "company", "title", "email", "phone", "source", "industry", "region", "employees")


@pages.get("/new")
def show_new() -> ResponseReturnValue:
    """Show the form for a new lead."""
    check_may_write(current_user.user)
    return _form({}, refused=None)


@pages.post("/new")
def create() -> ResponseReturnValue:
    """Create a lead and go to its page."""
    values = {name: text for name in FIELDS if (text := request.form.get(name, "").strip())}
    try:
        lead_id = _create(values)
    except ValidationError as error:
        names = ", ".join(sorted({word("field", fault["loc"][0]) for fault in error.errors()}))
        refused = gettext("Please check: %(fields)s", fields=names)
    except CRMError as error:
        refused = refusal(error)
    else:
        flash(gettext("The lead is created. Its first score follows in a moment."))
        return redirect(url_for("leads_pages.show", record_id=lead_id))
    return _form(request.form, refused=refused), 422


def _form(values: Mapping[str, str], *, refused: str | None) -> str:
    with service().store.reading() as session:
        reader = Reader(session, current_user.user)
        told = reader.may_read_field("lead", "source")
        sources = list_sources(session, reader.readable(Lead) if told else false())
    return render_template("lead_new.html", fields=FIELDS, values=values, refused=refused, sources=sources)


def _create(values: dict[str, str]) -> int:
    user = current_user.user
    check_may_write(user)
    # Not strict: a form holds nothing but texts.
    lead = NewLead.model_validate(values, strict=False)
    with writing(user, Source.REP) as transaction:
        reader = Reader(transaction.session, user)
        reader.check_may_create(Lead)
        reader.check_fields("lead", values)
        owner_id = choose_owner(transaction.session, user, None)
        created = transaction.create(Lead(**lead.model_dump(exclude_none=True), owner_id=owner_id))
        return created.id
