"""What the administrator's pages share: who may see them, how they are found, how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flask import Blueprint, render_template, url_for
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.access import check_may_administer
from crm_core.changes import Source
from crm_core.errors import CRMError
from crm_core.operations import Done, Operation, write_operations
from crm_core.records import User
from crm_core.store import Transaction
from serving.journal import origin_of_request
from serving.service import end_page_session, writing
from serving.web.refusals import refusal

SECTIONS: tuple[tuple[str, object], ...] = (
    ("admin_pages.list_people", _("People")),
    ("admin_pages.list_teams", _("Teams")),
    ("admin_pages.show_rights", _("Rights")),
    ("admin_pages.show_pipelines", _("Pipelines")),
    ("admin_pages.show_sales", _("Sales")),
    ("admin_pages.list_fields", _("Fields")),
    ("admin_pages.list_automation", _("Automation")),
    ("admin_pages.show_service", _("Service")),
    ("admin_pages.show_working_time", _("Working time")),
    ("admin_pages.list_keys", _("API keys")),
    ("admin_pages.list_webhooks", _("Webhooks")),
    ("admin_pages.show_log", _("Operation log")),
)

ROWS = 50

pages = Blueprint("admin_pages", __name__, url_prefix="/admin")


@pages.before_request
def _check() -> None:
    if current_user.is_authenticated:
        check_may_administer(current_user.user)


@pages.context_processor
def _context() -> dict[str, object]:
    return {"sections": SECTIONS}


def try_to(act: Callable[[Transaction], object], told: Callable[[CRMError], str] = refusal) -> str | None:
    """Do something in one transaction; return why it was refused, as `told` says it, or None."""
    try:
        with writing(current_user.user, Source.REP) as transaction:
            act(transaction)
    except CRMError as error:
        return told(error)
    end_page_session()  # the page that follows is to show what was written
    return None


def note(transaction: Transaction, done: Done, **what: Any) -> None:
    """Write into the operation log what an administrator does, in the transaction that does it."""
    user: User = current_user.user
    token_id = what.pop("token_id", None)
    origin = replace(origin_of_request(user), token_id=token_id)
    write_operations(transaction.session, [Operation(at=transaction.now, done=done, origin=origin, **what)])


def page(template: str, **values: object) -> str:
    """Render one of the administrator's pages."""
    return render_template(f"admin/{template}", **values)


def to(endpoint: str, **values: Any) -> str:
    """Return the address of one of the administrator's pages."""
    return url_for(f"admin_pages.{endpoint}", **values)
