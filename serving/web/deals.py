"""The pages of deals."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import check_may_write
from crm_core.changes import Source
from crm_core.deals import move_deal
from crm_core.errors import ChecklistOpenError, MissingFieldsError
from serving.activity_log import get_to_move
from serving.service import writing
from serving.web.board import ask
from serving.web.language import gettext
from serving.web.record_views import add_views
from serving.web.records import DEALS

pages = Blueprint("deals_pages", __name__, url_prefix="/deals")
add_views(pages, DEALS)


@pages.post("/<int:record_id>/stage")
def move(record_id: int) -> ResponseReturnValue:
    """Move a deal to another open stage; ask for what it lacks."""
    user = current_user.user
    check_may_write(user)
    try:
        with writing(user, Source.REP) as transaction:
            deal = get_to_move(transaction, user, record_id)
            move_deal(transaction, deal, request.form.get("stage", ""))
    except MissingFieldsError as error:
        return ask(record_id, error.stage, error.fields, back=True)
    except ChecklistOpenError as error:
        flash(gettext("Before the deal moves on: %(items)s", items="; ".join(error.items)))
        return redirect(url_for("deals_pages.show", record_id=record_id, _anchor="checklist"))
    flash(gettext("The deal has moved. Its score follows in a moment."))
    return redirect(url_for("deals_pages.show", record_id=record_id))
