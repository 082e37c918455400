"""The page on which a customer says how content they are: by a link from a mail, without a login."""

from __future__ import annotations

from flask import Blueprint, abort, make_response, render_template, request
from flask.typing import ResponseReturnValue

from crm_core.changes import Source
from crm_core.columns import check_text
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.records import Ticket
from crm_core.tickets import rate_ticket
from serving.limits import place_of
from serving.service import page_session, service
from serving.ticket_work import ticket_of
from serving.web.language import gettext

LONGEST = 2_000

pages = Blueprint("satisfaction_pages", __name__, url_prefix="/satisfaction")


@pages.get("/<token>")
def show(token: str) -> ResponseReturnValue:
    """Ask how content the customer is; say so where that was said already."""
    ticket = _ticket(token)
    return _page(ticket, "over" if ticket.satisfaction is not None else "ask")


@pages.post("/<token>")
def rate(token: str) -> ResponseReturnValue:
    """Keep what the customer says, once."""
    ticket = _ticket(token)
    mark, comment = request.form.get("mark", ""), request.form.get("comment", "").strip()
    if mark not in {"1", "2", "3", "4", "5"}:
        return _page(ticket, "ask", gettext("Choose one of the five."), 422)
    try:
        check_text("comment", comment, longest=LONGEST)
    except InvalidValueError:
        return _page(ticket, "ask", gettext("The text is too long, or holds signs that cannot be kept."), 422)
    store = service().store
    with store.transaction(source=Source.API) as transaction:
        taken = rate_ticket(transaction, ticket.id, int(mark), comment)
    return _page(ticket, "thanks" if taken else "over")


def _ticket(token: str) -> Ticket:
    """Return the ticket of a link that we signed; whoever guesses is told nothing, and slowed down."""
    running = service()
    standing = running.limits.logins.ask(place_of(request.remote_addr), running.store.clock.now())
    if standing is not None and standing.refused:
        abort(429)
    ticket_id = ticket_of(running.settings.home_folder, token)
    found = None if ticket_id is None else page_session().get(Ticket, ticket_id)
    if found is None or found.deleted_at is not None:
        raise RecordNotFoundError("page", "")
    return found


def _page(ticket: Ticket, state: str, refused: str | None = None, status: int = 200) -> ResponseReturnValue:
    text = render_template(
        "satisfaction.html", ticket=ticket, state=state, refused=refused, values=request.form, longest=LONGEST
    )
    return make_response(text, status)
