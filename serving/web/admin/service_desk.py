"""Service: queues and who serves them, and how soon tickets are to be answered and solved."""

from __future__ import annotations

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from crm_core.errors import InvalidValueError, StaleRecordError
from crm_core.operations import Done
from crm_core.records import Role, Team, Ticket, User
from crm_core.service_desk import (
    USUAL,
    Queue,
    Target,
    list_queues,
    set_queue,
    set_target,
    target_of,
    targets,
)
from crm_core.store import Transaction
from serving.service import page_session
from serving.web.admin.shelf import note, page, pages, to, try_to
from serving.web.asked import whole
from serving.web.language import gettext


@pages.get("/service")
def show_service() -> str:
    """Show queues and targets."""
    return _show(None)


@pages.post("/service/queues")
def save_queue() -> ResponseReturnValue:
    """Set a queue up or change it."""
    form = request.form
    wanted = Queue(
        key=form.get("key", "").strip().lower(),
        name=form.get("name", "").strip(),
        team_id=form.get("team_id", type=whole),
        members=[each for each in form.getlist("member", type=whole) if each],
        round_robin=form.get("round_robin") == "yes",
        retired=form.get("retired") == "yes",
    )
    version = form.get("version", 0, type=int)
    stale: list[bool] = []

    def act(transaction: Transaction) -> None:
        try:
            set_queue(transaction.session, wanted, version=version)
        except StaleRecordError:
            stale.append(True)
            raise
        note(transaction, Done.SETTING_SET, record_type=Ticket.record_type, detail=f"queue {wanted.key}")

    refused = try_to(act)
    if refused is not None:
        said = (
            gettext("There is such a queue, or somebody changed it meanwhile: see below.")
            if stale
            else refused
        )
        return make_response(_show(said), 409 if stale else 422)
    flash(gettext("Saved. It holds from now on."))
    return redirect(to("show_service"))


@pages.post("/service/targets")
def save_targets() -> ResponseReturnValue:
    """Set the targets of all queues or of one: hours of working time; empty sets them back."""
    queue = request.form.get("queue", "")

    def act(transaction: Transaction) -> None:
        for priority in USUAL:
            set_target(transaction.session, queue, priority, _target(priority))
        note(
            transaction,
            Done.SETTING_SET,
            record_type=Ticket.record_type,
            detail=f"targets {queue or 'of all'}",
        )

    refused = try_to(act)
    if refused is not None:
        return make_response(_show(refused), 422)
    flash(gettext("Saved. Tickets keep what is due until something changes about them."))
    return redirect(to("show_service", queue=queue or None, _anchor="targets"))


def _target(priority: str) -> Target | None:
    said = [request.form.get(f"{priority}-{name}", "").strip() for name in ("first", "solve")]
    if not any(said):
        return None
    return Target(first_minutes=_minutes(said[0]), solve_minutes=_minutes(said[1]))


def _minutes(said: str) -> int:
    try:
        hours = float(said.replace(",", "."))
    except ValueError:
        raise InvalidValueError("hours", said, gettext("a number of working hours, such as 1.5")) from None
    if not 0 < hours < 10_000:
        raise InvalidValueError("hours", said, gettext("a number of working hours, such as 1.5"))
    return round(hours * 60)


def _show(refused: str | None) -> str:
    session = page_session()
    asked = request.values.get("queue", "")
    queues = list_queues(session, retired=True)
    queue = asked if asked in {each.key for each in queues} else ""
    people = session.scalars(
        select(User)
        .where(User.deleted_at.is_(None), User.active, User.left_at.is_(None), User.role != Role.ANALYST)
        .order_by(User.name, User.id)
    ).all()
    return page(
        "service.html",
        queues=queues,
        people=people,
        teams=session.scalars(select(Team).where(Team.deleted_at.is_(None)).order_by(Team.name)).all(),
        queue=queue,
        known={name: target_of(session, queue, name) for name in USUAL},
        is_set={priority for of, priority in targets(session) if of == queue},
        refused=refused,
        typed=request.form,
    )
