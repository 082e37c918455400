"""The page of a team: what its people do next to their own past, and how far they are towards targets."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import cast

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.errors import (
    AccessDeniedError,
    CRMError,
    InvalidValueError,
    RecordNotFoundError,
    StaleRecordError,
)
from crm_core.phrases import Phrase, one_of
from crm_core.records import Role
from crm_core.targets import (
    AMOUNTS,
    Measure,
    Over,
    Target,
    Wanted,
    Whose,
    periods_at,
    set_target,
    settable_ids,
    split_target,
)
from serving.owners import Staff
from serving.service import end_page_session, page_session, service, writing
from serving.team import BEFORE, UNTOUCHED_HOURS, Attained, Person, Span, TeamPage, TeamQuestion, read_team
from serving.unusual import WEEKS, find_unusual
from serving.web.asked import whole
from serving.web.charts import Axis, Bars, Chart, Level, Mark, draw
from serving.web.language import choose_time_zone, gettext, ngettext
from serving.web.refusals import refusal
from serving.web.shown_as import percent
from serving.web.suggested import said_unusual
from serving.web.tables import csv_answer

MEASURES: Mapping[str, object] = {
    "won_amount": _("Won amount"),
    "deals_won": _("Deals won"),
    "leads_converted": _("Leads converted"),
    "contract_value": _("Contract value"),
    "payments_received": _("Payments received"),
}

pages = Blueprint("team_pages", __name__, url_prefix="/team")


@pages.get("")
def show() -> ResponseReturnValue:
    """Show the people that the reader leads, or the reader."""
    return _page({}, "", 200)


@pages.get("/unusual")
def show_unusual() -> ResponseReturnValue:
    """Show what is unusual this week: a part for a script, or a page."""
    found = find_unusual(Reader(page_session(), current_user.user), service().store.clock.now())
    by_script = request.headers.get("X-Requested-With") == "fetch"
    return render_template(
        "_unusual.html" if by_script else "unusual.html", looked=found, said=said_unusual, weeks=WEEKS
    )


@pages.post("/targets")
def save_target() -> ResponseReturnValue:
    """Set a target, change it, or with an empty value take it away; what is refused stays in the form."""
    form = request.form
    try:
        wanted = _wanted(form)
        version = form.get("version", type=whole)
        with writing(current_user.user, Source.REP) as transaction:
            set_target(transaction, current_user.user, wanted, version=version)
    except StaleRecordError as error:
        return _page(form, gettext("Somebody changed this target meanwhile: see it in the list."), 409, error)
    except (InvalidValueError, RecordNotFoundError) as error:
        return _page(form, refusal(error), 422, error)
    flash(gettext("Noted."))
    return redirect(url_for("team_pages.show", span=form.get("span") or None))


@pages.post("/targets/<int:target_id>/split")
def split(target_id: int) -> ResponseReturnValue:
    """Break a target down over people or months, evenly; each part may be changed after."""
    user, over = current_user.user, request.form.get("over", "")
    if user.role not in {Role.MANAGER, Role.ADMIN}:
        raise AccessDeniedError(Phrase("the role {role} may not set targets", role=user.role))
    if over not in set(Over):
        return _page({}, gettext("Choose what to split it over."), 422)
    try:
        with writing(user, Source.REP) as transaction:
            target = transaction.session.get(Target, target_id)
            if target is None or target.whose_id not in settable_ids(
                transaction.session, user, Whose(target.whose)
            ):
                raise RecordNotFoundError("target", target_id)
            made = split_target(transaction, user, target, Over(over))
    except InvalidValueError as error:
        return _page({}, refusal(error), 422, error)
    flash(ngettext("Broken down into %(num)d target.", "Broken down into %(num)d targets.", len(made)))
    return redirect(url_for("team_pages.show"))


@pages.get("/export")
def export() -> ResponseReturnValue:
    """Return the table of people, or of targets, as a file."""
    page, staff, question = _read()
    if request.args.get("what") == "targets":
        header = [
            "whose",
            "name",
            "period",
            "measure",
            "currency",
            "target",
            "reached",
            "expected",
            "low",
            "high",
        ]
        return csv_answer("targets", header, [_target_row(one) for one in page.targets])
    header = ["name", "team", "calls", "mails", "meetings", "records touched", "deals won", "won"]
    header += [f"leads untouched for {question.hours} h", "overdue tasks", "usual calls", "usual mails"]
    return csv_answer("team", header, [_person_row(one, staff) for one in page.people])


def _page(
    form: Mapping[str, str], why: str, status: int, _error: CRMError | None = None
) -> ResponseReturnValue:
    end_page_session()  # what was written meanwhile is to be seen
    page, staff, question = _read()
    user = current_user.user
    leads = user.role in {Role.MANAGER, Role.ADMIN}
    text = render_template(
        "team.html",
        page=page,
        asked=question,
        spans=tuple(BEFORE),
        hours=UNTOUCHED_HOURS,
        teams=staff.teams,
        chart=_chart(page),
        measures=MEASURES,
        periods=periods_at(question.now.date()),
        may_set=leads,
        choices=_choices(staff) if leads else [],
        form=form or _editing(page),
        why=why,
        currency=_usual_currency(page),
    )
    return make_response(text, status)


def _read() -> tuple[TeamPage, Staff, TeamQuestion]:
    args = request.values
    hours = args.get("hours", 24, type=whole)
    span = args.get("span", "week")
    question = TeamQuestion(
        now=service().store.clock.now(),
        zone=choose_time_zone(),
        span=cast("Span", span) if span in BEFORE else "week",
        hours=hours if hours in UNTOUCHED_HOURS else 24,
    )
    reader = Reader(page_session(), current_user.user)
    staff = Staff.read(reader.session)
    return read_team(reader, staff, question), staff, question


def _choices(staff: Staff) -> list[tuple[str, str]]:
    """Return whom the reader may set targets for, as (value, name)."""
    user = current_user.user
    people = [one for one in staff.owners(user) if one.active]
    mine = {one.team_id for one in people} | {user.team_id}
    teams = [(key, name) for key, name in staff.teams.items() if user.role == Role.ADMIN or key in mine]
    return [(f"team:{key}", name) for key, name in sorted(teams, key=lambda one: one[1])] + [
        (f"user:{one.id}", one.name) for one in people
    ]


def _editing(page: TeamPage) -> Mapping[str, str]:
    """Return what the form holds for a target that is to be changed."""
    wanted = request.args.get("target", type=whole)
    found = next((one.target for one in page.targets if one.target.id == wanted), None)
    if found is None:
        return {}
    return {
        "who": f"{found.whose}:{found.whose_id}",
        "period": found.period,
        "measure": found.measure,
        "currency": found.currency,
        "value": f"{found.value.normalize():f}",
        "version": str(found.version),
    }


def _usual_currency(page: TeamPage) -> str:
    """Return the currency that most is won or aimed at in."""
    named = [currency for one in page.people for currency in (*one.won, *one.forecast) if currency]
    named += [one.target.currency for one in page.targets if one.target.currency]
    return max(sorted(set(named)), key=named.count) if named else ""


def _wanted(form: Mapping[str, str]) -> Wanted:
    whose, _sign, key = form.get("who", "").partition(":")
    if whose not in set(Whose) or not (key.isascii() and key.isdigit() and len(key) < 18):
        raise InvalidValueError("who", form.get("who", ""), "one of the choices")
    if (measure := form.get("measure", "")) not in set(Measure):
        raise InvalidValueError("measure", measure, one_of(Measure))
    return Wanted(
        whose=Whose(whose),
        whose_id=int(key),
        period=form.get("period", ""),
        measure=Measure(measure),
        value=_value(form.get("value", "")),
        currency=form.get("currency", "").strip().upper() if measure in AMOUNTS else "",
    )


def _value(text: str) -> Decimal | None:
    text = text.strip().replace(",", "").replace(" ", "")
    if not text:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise InvalidValueError("value", text, "a number") from error
    if not value.is_finite():
        raise InvalidValueError("value", text, "a number")
    return value


def _chart(page: TeamPage) -> Chart | None:
    """Draw how far the targets of one kind are, that of which there are most."""
    kinds = [_kind(one) for one in page.targets]
    if not kinds:
        return None
    period, measure, currency = max(dict.fromkeys(kinds), key=kinds.count)
    shown = [one for one in page.targets if _kind(one) == (period, measure, currency)][:16]
    expected = [(one.name, one.expected_share) for one in shown if one.expected_share is not None]
    marks: list[Mark] = [
        Bars(name=gettext("Reached"), points=[(one.name, one.share) for one in shown]),
        *([Bars(name=gettext("Expected at the end"), points=expected)] if expected else []),
        Level(name=gettext("Target"), value=1.0),
    ]
    return draw(
        f"{MEASURES[measure]} {currency} {period}".replace("  ", " "),
        x=Axis(label=gettext("Who")),
        y=Axis(label=gettext("Share of the target"), show=lambda value: percent(value, 0)),
        marks=marks,
        wide=True,
    )


def _kind(one: Attained) -> tuple[str, str, str]:
    return one.target.period, one.target.measure, one.target.currency


def _person_row(one: Person, staff: Staff) -> list[object]:
    done = {name: each.count for name, each in one.done.items()}
    usual = {name: each.norm for name, each in one.done.items()}
    won = "; ".join(f"{amount:f} {currency}".strip() for currency, amount in sorted(one.won.items()))
    return [
        one.name,
        staff.teams.get(one.team_id or 0, ""),
        *(done.get(name) for name in ("calls", "mails", "meetings", "records")),
        one.deals_won.count if one.deals_won is not None else None,
        won,
        one.untouched,
        one.overdue,
        usual.get("calls"),
        usual.get("mails"),
    ]


def _target_row(one: Attained) -> list[object]:
    target = one.target
    low, high = one.range_80 or (None, None)
    plain = (target.whose, one.name, target.period, target.measure, target.currency)
    return [*plain, f"{target.value:f}", f"{one.reached:f}", one.expected, low, high]
