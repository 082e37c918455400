"""The profile of a customer: one page of what matters before a call."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader
from crm_core.records import Account
from serving.customer_profile import read_profile
from serving.editing import kind_of
from serving.service import page_session, service
from serving.steps import list_steps
from serving.web.facts import names_of_people, read_facts
from serving.web.places import path_of
from serving.web.records import CUSTOMERS, read_sheet

pages = Blueprint("profile_pages", __name__, url_prefix="/customers")


@pages.get("/<int:record_id>/profile")
def show(record_id: int) -> ResponseReturnValue:
    """Show the profile of a customer."""
    reader = Reader(page_session(), current_user.user)
    account = reader.get(Account, record_id)
    now = service().store.clock.now()
    people = names_of_people(reader.session)
    return render_template(
        "profile.html",
        sheet=read_sheet(reader, CUSTOMERS, account),
        facts=read_facts(reader, kind_of(reader.session, "account"), account, people),
        profile=read_profile(reader, account, now),
        steps=list_steps(reader, account),
        people=people,
        path=path_of("account", record_id),
        path_of=path_of,
        today=now.date(),
    )
