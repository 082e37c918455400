"""The page of the funnel: what becomes of leads, by where they come from and who has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.access import Reader
from crm_core.errors import InvalidValueError
from crm_core.records import Lead
from serving.funnel import (
    WINDOWS,
    Funnel,
    FunnelQuestion,
    Group,
    build_funnel,
    list_behind,
)
from serving.owners import Staff
from serving.service import page_session, service
from serving.web.asked import day_asked, whole
from serving.web.charts import Axis, Chart, Dots, draw
from serving.web.language import gettext
from serving.web.refusals import refusal
from serving.web.shown_as import choice, percent
from serving.web.tables import csv_answer
from serving.web.words import word

ROWS = 50
USUAL_DAYS = 365
"""Days of a cohort where nothing else is asked."""

BY: Mapping[str, object] = {
    "source": _("source"),
    "campaign": _("campaign"),
    "region": _("region"),
    "industry": _("industry"),
    "owner": _("owner"),
    "month": _("month of creation"),
}
STEP_NAMES: Mapping[str, object] = {
    "contacted": _("Contacted"),
    "converted": _("Converted"),
    "deal": _("Deal"),
    "won": _("Won"),
}

pages = Blueprint("funnel_pages", __name__, url_prefix="/funnel")


@pages.get("")
def show() -> ResponseReturnValue:
    """Show the funnel of the leads that the reader may see."""
    question, why = _question()
    reader = Reader(page_session(), current_user.user)
    funnel = build_funnel(reader, question, _now())
    return render_template(
        "funnel.html",
        funnel=funnel,
        chart=_chart(funnel),
        asked=_asked(question),
        why=why,
        by=BY,
        named=_named,
        steps=STEP_NAMES,
        windows=WINDOWS,
        today=_now().date(),
    )


@pages.get("/export")
def export() -> ResponseReturnValue:
    """Return the table as a file."""
    question, _why = _question()
    funnel = build_funnel(Reader(page_session(), current_user.user), question, _now())
    names = [step.name for step in funnel.whole.steps]
    header = [question.by, "leads", f"{question.within_days} days old", *names]
    for name in names:
        header += [
            f"{name} within {question.within_days} days",
            f"{name} share",
            f"{name} low",
            f"{name} high",
        ]
        header += [f"{name} median days"]
    header += ["currency", "cost", "revenue", "cost per customer"]
    rows = [_row(group.name or "", group) for group in funnel.groups]
    if funnel.others is not None:
        rows.append(_row(f"({funnel.others_count} others)", funnel.others))
    return csv_answer("funnel", header, [*rows, _row("", funnel.whole)])


@pages.get("/leads")
def behind() -> ResponseReturnValue:
    """List the leads behind a number."""
    question, _why = _question()
    reader = Reader(page_session(), current_user.user)
    key, step = request.args.get("key"), request.args.get("step", "")
    ids = list_behind(reader, question, _now(), key, step)
    page = max(request.args.get("page", 1, type=whole), 1)
    shown = ids[(page - 1) * ROWS : page * ROWS]
    found = {lead.id: lead for lead in reader.session.scalars(reader.select(Lead).where(Lead.id.in_(shown)))}
    staff = Staff.read(reader.session)
    return render_template(
        "funnel_leads.html",
        rows=[reader.masked(found[one]) for one in shown if one in found],
        owners=staff.names,
        all=len(ids),
        page=page,
        pages=-(-len(ids) // ROWS),
        asked=_asked(question)
        | {name: value for name, value in (("key", key), ("step", step)) if value is not None},
        back=_asked(question),
        name=next((user.name for user in staff.users if question.by == "owner" and str(user.id) == key), key),
        step=STEP_NAMES.get(step),
    )


def _now() -> datetime:
    return service().store.clock.now()


def _question() -> tuple[FunnelQuestion, str]:
    """Return what the address asks for; what makes no sense gives the usual question, and why."""
    now = _now()
    usual = FunnelQuestion(
        since=now.date() - timedelta(days=USUAL_DAYS), until=now.date() + timedelta(days=1), as_of=now
    )
    args = request.args
    try:
        asked = FunnelQuestion(
            since=day_asked("since", usual.since),
            until=day_asked("until", now.date()) + timedelta(days=1),
            as_of=_as_of(now),
            by=args.get("by", usual.by),
            within_days=args.get("within", usual.within_days, type=whole),
        )
        asked.check(now)
    except InvalidValueError as error:
        return usual, refusal(error)
    return asked, ""


def _as_of(now: datetime) -> datetime:
    """Return the end of the day asked for, or now."""
    day = day_asked("as_of", now.date())
    return now if day == now.date() else datetime.combine(day, time.max, UTC)


def _asked(question: FunnelQuestion) -> dict[str, str | int]:
    return {
        "by": question.by,
        "since": question.since.isoformat(),
        "until": (question.until - timedelta(days=1)).isoformat(),
        "as_of": question.as_of.date().isoformat(),
        "within": question.within_days,
    }


def _chart(funnel: Funnel) -> Chart | None:
    """Draw the share won or, where nothing is, converted, of each group with its interval."""
    groups = [group for group in funnel.groups if group.old_enough][:12]
    if len(groups) < 2:
        return None
    named = {step.name for group in groups for step in group.steps if step.within.count}
    marks = []
    for name in ("converted", "won"):
        points = [
            (_short(group, funnel.question.by), step.within.value or 0.0, step.within.low, step.within.high)
            for group in groups
            for step in group.steps
            if step.name == name
        ]
        if name in named:
            marks.append(Dots(name=str(STEP_NAMES[name]), points=points))
    return draw(
        gettext(
            "Share of leads within %(days)s days, with 95 percent intervals", days=funnel.question.within_days
        ),
        x=Axis(label=str(BY[funnel.question.by])),
        y=Axis(label=gettext("Share of leads"), show=lambda value: percent(value, 0)),
        marks=marks,
        wide=True,
    )


def _named(group: Group, by: str) -> str:
    """Return what a group is called: sources as everywhere, names that people gave as they are."""
    if by == "source" and group.name:
        return word(by, group.name)
    return choice(group.name, by) or gettext("none")


def _short(group: Group, by: str) -> str:
    name = _named(group, by)
    return name if len(name) <= 16 else f"{name[:15]}…"


def _row(name: str, group: Group) -> list[object]:
    row: list[object] = [name, group.leads, group.old_enough, *(step.count for step in group.steps)]
    for step in group.steps:
        share = step.within
        row += [share.count, share.value, share.low, share.high, step.median_days]
    money = group.money
    return row + ([money.currency, money.cost, money.revenue, money.per_customer] if money else [None] * 4)
