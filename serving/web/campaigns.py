"""The pages of marketing: campaigns in numbers, attribution, and the quality of leads by their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.access import Reader, Scope
from crm_core.attribution import Model
from crm_core.audiences import (
    AUDIENCE_TYPES,
    add_audience,
    add_members,
    end_audience,
    list_audiences,
)
from crm_core.changes import Source
from crm_core.errors import (
    FilterError,
    InvalidValueError,
    RecordNotFoundError,
    UnknownFieldError,
)
from crm_core.forms import list_forms, may_look_after_forms
from crm_core.phrases import one_of
from crm_core.records import Campaign, CampaignMember, Contact, Lead
from crm_core.saved import list_segments
from serving.attribution import DIMENSIONS as CREDITED
from serving.attribution import Attribution, AttributionQuestion, build_attribution
from serving.campaigns import CampaignFigures, list_figures
from serving.lead_quality import DIMENSIONS as TOLD_APART
from serving.lead_quality import GRADES, Quality, QualityQuestion, build_quality
from serving.service import end_page_session, page_session, service, writing
from serving.web.asked import currency_typed, day_asked, whole
from serving.web.charts import Axis, Bars, Chart, Dots, draw
from serving.web.language import gettext, ngettext
from serving.web.refusals import refusal
from serving.web.shown_as import choice, percent
from serving.web.tables import csv_answer
from serving.web.words import WORDS

USUAL_DAYS = 365
ROWS = 25
MOST_DRAWN = 10

BY: Mapping[str, object] = {
    "source": _("source"),
    "campaign": _("campaign"),
    "channel": _("channel"),
    "form": _("web form"),
}
MODELS: Mapping[Model, object] = {
    Model.FIRST: _("First touch"),
    Model.LAST: _("Last touch"),
    Model.LINEAR: _("Linear"),
    Model.DECAY: _("Time decay"),
    Model.POSITION: _("Position (40/20/40)"),
}
_NEW_FIELDS = ("name", "channel", "starts_on", "ends_on", "budget", "cost", "currency")
_REFUSALS = (InvalidValueError, FilterError, UnknownFieldError, RecordNotFoundError)

pages = Blueprint("campaign_pages", __name__, url_prefix="/campaigns")


# ---------------------------------------------------------------- campaigns


@pages.get("")
def list_all() -> ResponseReturnValue:
    """Show all campaigns beside each other."""
    return _list({}, "", 200)


@pages.post("")
def create() -> ResponseReturnValue:
    """Make a campaign; what is refused stays in the form."""
    form, user = request.form, current_user.user
    try:
        with writing(user, Source.REP) as transaction:
            reader = Reader(transaction.session, user)
            reader.check_may_create(Campaign)
            values = _values(form)
            reader.check_fields("campaign", values)
            made = transaction.create(Campaign(**values, owner_id=user.id)).id
    except InvalidValueError as error:
        return _list(form, refusal(error), 422)
    return redirect(url_for("campaign_pages.show", campaign_id=made))


def _values(form: Mapping[str, str]) -> dict[str, Any]:
    values = {name: value for name in _NEW_FIELDS if (value := _read(name, form)) is not None}
    if "name" not in values:
        raise InvalidValueError("name", "", "a name")
    return values


def _read(name: str, form: Mapping[str, str]) -> object:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        if name in {"starts_on", "ends_on"}:
            return date.fromisoformat(text)
        if name in {"budget", "cost"}:
            amount = Decimal(text.replace(",", "").replace(" ", ""))
            if not amount.is_finite() or not 0 <= amount <= 10**13:
                raise InvalidValueError(name, text, "an amount of at least 0")
            return amount
    except (ValueError, InvalidOperation) as error:
        raise InvalidValueError(name, text, "a day" if name.endswith("_on") else "an amount") from error
    return currency_typed(text) if name == "currency" else text


def _list(form: Mapping[str, str], why: str, status: int) -> ResponseReturnValue:
    end_page_session()
    reader = _reader()
    figures = list_figures(reader)
    shown = render_template(
        "campaigns.html",
        said=said,
        figures=figures,
        chart=_returns(figures),
        forms=len(list_forms(reader.session)),
        may_make=reader.right("campaign").write is not Scope.NONE,
        form=form,
        why=why,
    )
    return make_response(shown, status)


@pages.get("/export")
def export() -> ResponseReturnValue:
    """Return the table of campaigns as a file."""
    header = ["campaign", "channel", "starts on", "ends on", "currency", "budget", "cost", "members"]
    header += ["responses", "leads", "conversions", "deals", "deals won", "customers", "won", "received"]
    for name in ("cost per lead", "cost per customer", "times the cost"):
        header += [name, f"{name} low", f"{name} high"]
    return csv_answer("campaigns", header, [_campaign_row(each) for each in list_figures(_reader())])


def _campaign_row(one: CampaignFigures) -> list[object]:
    row: list[object] = [
        one.name,
        one.channel,
        one.starts_on,
        one.ends_on,
        one.currency,
        one.budget,
        one.cost,
    ]
    row += [one.members, one.responses.count, one.leads, one.conversions.count, one.deals, one.deals_won]
    row += [one.customers, _amounts(one.won), _amounts(one.paid)]
    for ratio in (one.per_lead, one.per_customer, one.returned):
        row += [ratio.value, ratio.low, ratio.high]
    return row


def _amounts(by_currency: Mapping[str, Decimal]) -> str:
    return "; ".join(f"{amount:f} {currency}".strip() for currency, amount in by_currency.items())


@pages.get("/<int:campaign_id>")
def show(campaign_id: int) -> ResponseReturnValue:
    """Show one campaign: its figures, members, and the segments that feed it."""
    return _campaign(campaign_id, {}, "", 200)


@pages.post("/<int:campaign_id>/members")
def add(campaign_id: int) -> ResponseReturnValue:
    """Add members by a filter once, or by a segment from now on."""
    form, user = request.form, current_user.user
    segment = form.get("segment", type=whole)
    try:
        with writing(user, Source.REP) as transaction:
            if form.get("how") == "filter":
                conditions = [line.strip() for line in form.get("filter", "").splitlines() if line.strip()]
                record_type = form.get("record_type", "lead")
                count = add_members(transaction, user, campaign_id, record_type, conditions)
            else:
                Reader(transaction.session, user).get_to_write(Campaign, campaign_id)
                if segment is None:
                    raise InvalidValueError("segment", form.get("segment", ""), "a segment")
                count = add_audience(transaction, user, campaign_id, segment)
    except _REFUSALS as error:
        if isinstance(error, RecordNotFoundError) and error.record_type == "campaign":
            raise
        return _campaign(campaign_id, form, refusal(error), 422)
    flash(ngettext("%(num)d member was added.", "%(num)d members were added.", count))
    return redirect(url_for("campaign_pages.show", campaign_id=campaign_id))


@pages.post("/<int:campaign_id>/audiences/end")
def end(campaign_id: int) -> ResponseReturnValue:
    """Have a segment feed the campaign no more."""
    with writing(current_user.user, Source.REP) as transaction:
        segment = request.form.get("segment", type=whole)
        end_audience(transaction, current_user.user, campaign_id, segment or 0)
    return redirect(url_for("campaign_pages.show", campaign_id=campaign_id))


def _campaign(campaign_id: int, form: Mapping[str, str], why: str, status: int) -> ResponseReturnValue:
    end_page_session()
    reader = _reader()
    session, user = reader.session, current_user.user
    figures = list_figures(reader, campaign_id)[0]
    page = max(request.args.get("page", 1, type=whole), 1)
    members, of = _members(reader, campaign_id, page), figures.members
    may_change = _may_change(reader)
    fed = list_audiences(session, campaign_id)
    usable = {each.id: each for each in list_segments(session, user) if each.record_type in AUDIENCE_TYPES}
    shown = render_template(
        "campaign.html",
        said=said,
        one=figures,
        members=members,
        members_of=of,
        page=page,
        pages=-(-of // ROWS),
        may_change=may_change,
        audiences=[(audience, usable.get(audience.segment_id), segment) for audience, segment in fed],
        segments=[
            each for each in usable.values() if each.id not in {audience.segment_id for audience, _ in fed}
        ],
        forms=[each for each in list_forms(session) if each.campaign_id == campaign_id],
        may_forms=may_look_after_forms(reader),
        form=form,
        why=why,
    )
    return make_response(shown, status)


def _may_change(reader: Reader) -> bool:
    rights = (reader.right("campaign").write, reader.right("campaign_member").write)
    return Scope.NONE not in rights


def _members(reader: Reader, campaign_id: int, page: int) -> list[dict[str, Any]]:
    """Return some members of a campaign with the names that the reader may see."""
    chosen = reader.select(CampaignMember).add_columns(Lead, Contact)
    for model, link in ((Lead, CampaignMember.lead_id), (Contact, CampaignMember.contact_id)):
        seen = reader.readable(model) & model.deleted_at.is_(None)
        chosen = chosen.outerjoin(model, (model.id == link) & seen)
    order = chosen.where(CampaignMember.campaign_id == campaign_id).order_by(
        CampaignMember.responded_at.desc().nulls_last(), CampaignMember.id.desc()
    )
    told = []
    for each, lead, contact in reader.session.execute(
        order.offset(min((page - 1) * ROWS, 10**9)).limit(ROWS)
    ):
        kind, key, who = (
            ("lead", each.lead_id, lead)
            if each.lead_id is not None
            else ("contact", each.contact_id, contact)
        )
        told.append(
            {
                "member": reader.masked(each),
                "kind": kind,
                "id": key,
                "who": None if who is None else reader.masked(who),
            }
        )
    return told


def _returns(figures: Sequence[CampaignFigures]) -> Chart | None:
    """Draw how many times the cost of each campaign came back, with its interval."""
    shown = [each for each in figures if each.returned.value is not None][:MOST_DRAWN]
    if len(shown) < 2:
        return None
    points = [
        (_short(each.name), each.returned.value or 0.0, each.returned.low, each.returned.high)
        for each in shown
    ]
    return draw(
        gettext("Money won as a multiple of the cost, with 95 percent intervals"),
        x=Axis(label=gettext("Campaign")),
        y=Axis(label=gettext("Times the cost"), show=lambda value: f"{value:g}"),
        marks=[Dots(name=gettext("Won"), points=points)],
        wide=True,
    )


# ---------------------------------------------------------------- attribution


@pages.get("/attribution")
def attribution() -> ResponseReturnValue:
    """Show which sources, campaigns or channels won deals are credited to."""
    question, why = _attribution_question()
    told = build_attribution(_reader(), question)
    return render_template(
        "attribution.html",
        said=said,
        told=told,
        asked=_attribution_asked(question),
        models=MODELS,
        by={name: BY[name] for name in CREDITED},
        chart=_share_chart(told),
        side=_model_chart(told),
        why=why,
        today=_now().date(),
    )


@pages.get("/attribution/export")
def export_attribution() -> ResponseReturnValue:
    """Return the table of all models as a file."""
    question, _why = _attribution_question()
    told = build_attribution(_reader(), question)
    header = [question.by, "touched deals", "currency"]
    header += [f"{model} {what}" for model in Model for what in ("deals", "won", "received")]
    header += [f"share by {question.model}", "low", "high", "cost"]
    rows = []
    for row in told.rows:
        cells: list[object] = [row.name, row.touched, told.currency]
        for model in Model:
            credit = row.credits[model]
            cells += [credit.deals, credit.won, credit.paid if told.shows_paid else None]
        rows.append([*cells, row.share, row.low, row.high, row.cost])
    return csv_answer("attribution", header, rows)


def _attribution_question() -> tuple[AttributionQuestion, str]:
    """Return what the address asks for; what makes no sense gives the usual question, and why."""
    today, args = _now().date(), request.args
    usual = AttributionQuestion(since=today - timedelta(days=USUAL_DAYS), until=today + timedelta(days=1))
    try:
        asked = AttributionQuestion(
            since=day_asked("since", usual.since),
            until=day_asked("until", today) + timedelta(days=1),
            model=_model(args.get("model", usual.model)),
            by=args.get("by", usual.by),
            half_life_days=args.get("half_life", usual.half_life_days, type=whole),
            window_days=args.get("window", usual.window_days, type=whole),
            currency=currency_typed(args.get("currency", "")),
        )
        asked.check()
    except InvalidValueError as error:
        return usual, refusal(error)
    return asked, ""


def _model(text: str) -> Model:
    if text not in set(Model):
        raise InvalidValueError("model", text, one_of(Model))
    return Model(text)


def _attribution_asked(question: AttributionQuestion) -> dict[str, Any]:
    asked = {
        "by": question.by,
        "model": question.model.value,
        "since": question.since.isoformat(),
        "until": (question.until - timedelta(days=1)).isoformat(),
        "half_life": question.half_life_days,
        "window": question.window_days,
    }
    return asked if question.currency is None else {**asked, "currency": question.currency}


def _share_chart(told: Attribution) -> Chart | None:
    rows = [row for row in told.rows if row.share is not None][:MOST_DRAWN]
    if len(rows) < 2:
        return None
    points = [(_short(said(row.name, told.question.by)), row.share or 0.0, row.low, row.high) for row in rows]
    return draw(
        gettext("Share of the money won by the chosen model, with 95 percent intervals"),
        x=Axis(label=str(BY[told.question.by])),
        y=Axis(label=gettext("Share of the money won"), show=lambda value: percent(value, 0)),
        marks=[Dots(name=str(MODELS[told.question.model]), points=points)],
        wide=True,
    )


def _model_chart(told: Attribution) -> Chart | None:
    rows = told.rows[:6]
    if len(rows) < 2 or not told.whole.won:
        return None
    won = told.whole.won
    marks = [
        Bars(
            name=str(name),
            points=[
                (_short(said(row.name, told.question.by)), float(row.credits[model].won / won))
                for row in rows
            ],
        )
        for model, name in MODELS.items()
    ]
    return draw(
        gettext("What each model says"),
        x=Axis(label=str(BY[told.question.by])),
        y=Axis(label=gettext("Share of the money won"), show=lambda value: percent(value, 0)),
        marks=marks,
        wide=True,
    )


# ---------------------------------------------------------------- quality


@pages.get("/quality")
def quality() -> ResponseReturnValue:
    """Show how good leads looked when they came, by where they came from, and what that cost."""
    question, why = _quality_question()
    told = build_quality(_reader(), question)
    return render_template(
        "lead_quality.html",
        said=said,
        told=told,
        grades=GRADES,
        by={name: BY[name] for name in TOLD_APART},
        chart=_grade_chart(told),
        asked={
            "by": question.by,
            "since": question.since.isoformat(),
            "until": (question.until - timedelta(days=1)).isoformat(),
        },
        why=why,
        today=_now().date(),
    )


def _quality_question() -> tuple[QualityQuestion, str]:
    today = _now().date()
    usual = QualityQuestion(since=today - timedelta(days=USUAL_DAYS), until=today + timedelta(days=1))
    try:
        asked = QualityQuestion(
            since=day_asked("since", usual.since),
            until=day_asked("until", today) + timedelta(days=1),
            by=request.args.get("by", usual.by),
        )
        asked.check()
    except InvalidValueError as error:
        return usual, refusal(error)
    return asked, ""


def _grade_chart(told: Quality) -> Chart | None:
    rows = [row for row in told.rows if row.scored][:MOST_DRAWN]
    if len(rows) < 2:
        return None
    names = {row.key: _short(said(row.name, told.question.by)) for row in rows}
    marks = [
        Bars(
            name=gettext("Grade %(grade)s", grade=grade),
            points=[(names[row.key], row.grades[grade] / row.scored) for row in rows],
        )
        for grade in GRADES
    ]
    return draw(
        gettext("Grades of leads when they came"),
        x=Axis(label=str(BY[told.question.by])),
        y=Axis(label=gettext("Share of scored leads"), show=lambda value: percent(value, 0), high=1),
        marks=marks,
        wide=True,
        stacked=True,
    )


# ---------------------------------------------------------------- what they share


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


def _now() -> datetime:
    return service().store.clock.now()


def said(name: str, by: str) -> str:
    """Return what a source, campaign, channel or form is called on the page."""
    if not name:
        return gettext("none")
    known = WORDS["source"].get(name) if by == "source" else None
    if known is None and by in {"source", "channel"}:
        known = WORDS["touched_by"].get(name)
    return str(known) if known is not None else choice(name, by) or name


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
