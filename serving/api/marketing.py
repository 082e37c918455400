"""Marketing over HTTP: campaigns in numbers, their members, attribution, lead quality, and web forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.attribution import HALF_LIFE_DAYS, LONGEST_HALF_LIFE, Model
from crm_core.audiences import add_audience, add_members, end_audience, list_audiences
from crm_core.changes import Source
from crm_core.form_taking import let_through, throw_away
from crm_core.forms import (
    AskedField,
    FormSubmission,
    Standing,
    Texts,
    WantedForm,
    WebForm,
    change_form,
    check_may_look_after_forms,
    get_form,
    list_forms,
    list_submissions,
    make_form,
    wanted_of,
)
from crm_core.records import Campaign
from crm_core.saved import list_segments
from crm_core.touches import WINDOW_DAYS
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, tagged
from serving.api.pages import Key, PageQuery
from serving.attribution import LONGEST_WINDOW, Attribution, AttributionQuestion, build_attribution
from serving.campaigns import CampaignFigures, figures_of, list_campaigns, list_figures
from serving.lead_quality import QualityQuestion, build_quality
from serving.payloads import Asked, Given, Id, RecordPath, Taken, Utc
from serving.ratios import Ratio
from serving.service import service, writing
from serving.shares import Share

api: APIBlueprint = new_blueprint(
    "marketing", "What campaigns cost and bring; web forms (docs/marketing.md)."
)

_Line = Annotated[str, Field(max_length=200)]
_Long = Annotated[str, Field(max_length=2_000)]


# ---------------------------------------------------------------- campaigns


class ShareOut(Given):
    """So many of so many, with Wilson's 95 % interval."""

    count: int
    of: int
    low: float
    high: float


class RatioOut(Given):
    """A ratio with its 95 % interval; null where too few are there to give one."""

    value: float | None
    low: float | None
    high: float | None
    count: int = Field(description="How many leads, customers or deals it rests on.")


class CampaignFiguresOut(Given):
    """What one campaign cost and brought."""

    id: int
    name: str
    channel: str | None
    currency: str | None
    budget: Decimal | None
    cost: Decimal | None
    members: int
    responses: ShareOut = Field(description="Of its members.")
    leads: int
    conversions: ShareOut = Field(description="Of its leads.")
    wins: ShareOut = Field(description="Of its leads, those whose deal was won.")
    deals: int
    deals_won: int
    customers: int
    won: dict[str, Decimal] = Field(description="By currency.")
    paid: dict[str, Decimal] = Field(description="Received for its won deals so far, by currency.")
    per_lead: RatioOut
    per_customer: RatioOut
    returned: RatioOut = Field(description="How many times the cost came back in money won.")
    is_part: bool = Field(description="You see a part of its leads; compared is the cost that these bear.")


class CampaignFiguresPage(Given):
    """Campaigns, those that begin last first."""

    items: list[CampaignFiguresOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class NewMembers(Taken):
    """Whom to add: by a filter once, or by a segment from now on."""

    record_type: Literal["lead", "contact", "account"] = Field(
        default="lead", description="What the filter is about; of accounts, their contacts are added."
    )
    filter: list[Annotated[str, Field(min_length=1, max_length=2_000)]] = Field(
        default=[], max_length=20, description="Conditions as lists take them."
    )
    segment_id: Id | None = Field(default=None, description="A segment of leads or customers, instead.")


class AddedMembers(Given):
    """How many were added now."""

    added: int


@api.get("/marketing/campaigns", responses={"200": CampaignFiguresPage, **documented()})
def list_campaign_figures(query: PageQuery) -> Response:
    """Give the figures of campaigns, those that begin last first."""
    with service().store.reading() as session:
        every = list_campaigns(Reader(session, caller()))
        page, more = query.part(every, _by_beginning, falling=True)
        found = figures_of(Reader(session, caller()), page)
    return answer(CampaignFiguresPage(items=[_figures(each) for each in found], next_cursor=more))


def _by_beginning(campaign: Campaign) -> Key:
    return ("" if campaign.starts_on is None else campaign.starts_on.isoformat(), campaign.id)


@api.get("/marketing/campaigns/<int:id>", responses={"200": CampaignFiguresOut, **documented(404)})
def get_campaign_figures(path: RecordPath) -> Response:
    """Give the figures of one campaign."""
    with service().store.reading() as session:
        found = list_figures(Reader(session, caller()), path.id)[0]
    return answer(_figures(found))


@api.post("/marketing/campaigns/<int:id>/members", responses={"200": AddedMembers, **documented(404)})
def add_campaign_members(path: RecordPath, body: NewMembers) -> Response:
    """Make whoever fits a filter or a segment a member of a campaign, who is none yet."""
    user = caller()
    with writing(user, Source.API) as transaction:
        if body.segment_id is not None:
            added = add_audience(transaction, user, path.id, body.segment_id)
        else:
            added = add_members(transaction, user, path.id, body.record_type, body.filter)
        return answer(AddedMembers(added=added))


class AudienceOut(Given):
    """A segment that feeds a campaign."""

    segment_id: int
    name: str | None = Field(description="Of the segment; null where you may not use it, or it is gone.")
    user_id: int = Field(description="With whose rights it is asked.")
    added: int = Field(description="Members that it added.")
    refreshed_at: Utc


class AudiencesPage(Given):
    """The segments that feed a campaign."""

    items: list[AudienceOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class AudiencePath(RecordPath):
    """Which segment of which campaign."""

    segment_id: Id = Field(description="The segment's id.")


@api.get("/marketing/campaigns/<int:id>/audiences", responses={"200": AudiencesPage, **documented(404)})
def list_campaign_audiences(path: RecordPath, query: PageQuery) -> Response:
    """List the segments that feed a campaign; one is added with `POST .../members` and its `segment_id`."""
    user = caller()
    with service().store.reading() as session:
        Reader(session, user).get(Campaign, path.id)
        names = {each.id: each.name for each in list_segments(session, user)}
        every = [each for each, _segment in list_audiences(session, path.id)]
        found, more = query.part(every, lambda each: (each.segment_id,))
        items = [
            AudienceOut(
                segment_id=each.segment_id,
                name=names.get(each.segment_id),
                user_id=each.user_id,
                added=each.added,
                refreshed_at=each.refreshed_at,
            )
            for each in found
        ]
    return answer(AudiencesPage(items=items, next_cursor=more))


@api.delete(
    "/marketing/campaigns/<int:id>/audiences/<int:segment_id>",
    responses={"204": None, **documented(403, 404)},
)
def end_campaign_audience(path: AudiencePath) -> Response:
    """Have a segment feed a campaign no more; its members stay. One that does not is left alone."""
    with writing(caller(), Source.API) as transaction:
        end_audience(transaction, caller(), path.id, path.segment_id)
    return Response(status=204)


def _figures(one: CampaignFigures) -> CampaignFiguresOut:
    plain: dict[str, Any] = {
        name: getattr(one, name) for name in CampaignFiguresOut.model_fields if hasattr(one, name)
    }
    for name in ("responses", "conversions", "wins"):
        plain[name] = _share(plain[name])
    for name in ("per_lead", "per_customer", "returned"):
        plain[name] = _ratio(plain[name])
    return CampaignFiguresOut(**plain)


def _share(one: Share) -> ShareOut:
    return ShareOut(count=one.count, of=one.of, low=one.low, high=one.high)


def _ratio(one: Ratio) -> RatioOut:
    return RatioOut(value=one.value, low=one.low, high=one.high, count=one.count)


# ---------------------------------------------------------------- attribution


class AttributionQuery(Asked):
    """Which deals, credited how."""

    since: date | None = Field(default=None, description="Won on this day or later; default a year ago.")
    until: date | None = Field(default=None, description="Won before this day; default tomorrow.")
    by: Literal["source", "campaign", "channel"] = Field(default="source", description="What the rows are.")
    model: Literal["first", "last", "linear", "decay", "position"] = Field(
        default="position", description="The model whose shares have intervals, and that rows are ordered by."
    )
    half_life_days: int = Field(default=HALF_LIFE_DAYS, ge=1, le=LONGEST_HALF_LIFE, description="Of decay.")
    window_days: int = Field(
        default=WINDOW_DAYS, ge=1, le=LONGEST_WINDOW, description="How far before a deal touches count."
    )
    currency: str | None = Field(
        default=None, pattern="^[A-Z]{3}$", description="Default: the one in which most deals were won."
    )


class CreditOut(Given):
    """What one model gives to one row."""

    deals: Decimal
    won: Decimal
    paid: Decimal | None = Field(description="Null: you may not see payments.")


class CreditRowOut(Given):
    """One source, campaign or channel."""

    key: str = Field(description="Empty where nothing is known; a campaign's record as `#id`.")
    name: str
    touched: int = Field(description="Deals that it touched.")
    credits: dict[str, CreditOut] = Field(description="By model.")
    share: float | None = Field(description="Of the money won, by the model asked for; null: too few deals.")
    low: float | None
    high: float | None
    cost: Decimal | None


class AttributionOut(Given):
    """The credit for the won deals of a time in one currency; the rows add up to the whole by every model."""

    since: date
    until: date
    by: str
    model: str
    currency: str
    currencies: list[str]
    deals: int
    touches: int
    whole: CreditOut
    rows: list[CreditRowOut]


@api.get("/marketing/attribution", responses={"200": AttributionOut, **documented()})
def get_attribution(query: AttributionQuery) -> Response:
    """Say which sources, campaigns or channels the deals that you see were won by, as five models see it."""
    since, until = _span(query.since, query.until)
    question = AttributionQuestion(
        since=since,
        until=until,
        by=query.by,
        model=Model(query.model),
        half_life_days=query.half_life_days,
        window_days=query.window_days,
        currency=query.currency,
    )
    with service().store.reading() as session:
        told = build_attribution(Reader(session, caller()), question)
    return answer(_attribution(told))


def _span(since: date | None, until: date | None) -> tuple[date, date]:
    today = service().store.clock.now().date()
    return since or today - timedelta(days=365), until or today + timedelta(days=1)


def _attribution(told: Attribution) -> AttributionOut:
    def credit(one: Any) -> CreditOut:  # noqa: ANN401  a credit
        return CreditOut(deals=one.deals, won=one.won, paid=one.paid if told.shows_paid else None)

    question = told.question
    return AttributionOut(
        since=question.since,
        until=question.until,
        by=question.by,
        model=question.model,
        currency=told.currency,
        currencies=list(told.currencies),
        deals=told.deals,
        touches=told.touches,
        whole=credit(told.whole),
        rows=[
            CreditRowOut(
                key=row.key,
                name=row.name,
                touched=row.touched,
                credits={model.value: credit(one) for model, one in row.credits.items()},
                share=row.share,
                low=row.low,
                high=row.high,
                cost=row.cost,
            )
            for row in told.rows
        ],
    )


# ---------------------------------------------------------------- lead quality


class QualityQuery(Asked):
    """Which leads, told apart how."""

    since: date | None = Field(default=None, description="Came on this day or later; default a year ago.")
    until: date | None = Field(default=None, description="Came before this day; default tomorrow.")
    by: Literal["source", "campaign", "form"] = Field(default="source", description="What the rows are.")


class QualityRowOut(Given):
    """The leads with one value, as they were seen when they came."""

    key: str
    name: str
    leads: int
    scored: int
    grades: dict[str, int]
    mean: float | None
    worst: ShareOut = Field(description="Of the scored ones, those in the worst tenth of all.")
    best: ShareOut
    cost: dict[str, Decimal]


class WorstTenthOut(Given):
    """How much of what leads cost went to the worst tenth of them."""

    currency: str
    spent: Decimal
    share: float
    low: float
    high: float
    leads: int
    tenth: float = Field(description="What the share would be if all of these leads cost the same.")


class QualityOut(Given):
    """The quality of leads by where they came from."""

    leads: int
    scored: int
    rows: list[QualityRowOut]
    worst: list[WorstTenthOut] = Field(description="By currency; empty where too few are there.")


@api.get("/marketing/lead-quality", responses={"200": QualityOut, **documented()})
def get_lead_quality(query: QualityQuery) -> Response:
    """Say what models said of leads when they came, by where they came from, and what that cost."""
    since, until = _span(query.since, query.until)
    with service().store.reading() as session:
        question = QualityQuestion(since=since, until=until, by=query.by)
        told = build_quality(Reader(session, caller()), question)
    rows = [
        QualityRowOut(**{**vars(row), "worst": _share(row.worst), "best": _share(row.best)})
        for row in told.rows
    ]
    worst = [WorstTenthOut(**vars(each)) for each in told.worst]
    return answer(QualityOut(leads=told.leads, scored=told.scored, rows=rows, worst=worst))


# ---------------------------------------------------------------- web forms


class AskedFieldBody(Taken):
    """One field of a form."""

    field: Annotated[str, Field(min_length=1, max_length=120)] = Field(
        description="A field of leads, `message`, or custom.NAME of a declared text or choice."
    )
    required: bool = False


class TextsBody(Taken):
    """A text in both languages."""

    en: _Long = ""
    zh: _Long = ""


class TitleBody(Taken):
    """A title in both languages."""

    en: _Line = ""
    zh: _Line = ""


class NewForm(Taken):
    """A web form to be made."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    source: Annotated[str, Field(min_length=1, max_length=120)] = "web form"
    fields: list[AskedFieldBody] = Field(min_length=1, max_length=20)
    campaign_id: Id | None = None
    owner_id: Id | None = Field(default=None, description="Of new leads.")
    title: TitleBody = TitleBody()
    consent: TextsBody = TextsBody()
    thanks: TextsBody = TextsBody()
    origins: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field(default=[], max_length=20)


class FormChange(Taken):
    """What is to be another about a form; what is left out stays."""

    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    source: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    fields: Annotated[list[AskedFieldBody], Field(min_length=1, max_length=20)] | None = None
    campaign_id: Id | None = None
    owner_id: Id | None = None
    title: TitleBody | None = None
    consent: TextsBody | None = None
    thanks: TextsBody | None = None
    origins: list[Annotated[str, Field(min_length=1, max_length=300)]] | None = Field(
        default=None, max_length=20
    )
    active: bool | None = None


class FormOut(Given):
    """A web form."""

    id: int
    public_id: str = Field(description="Its page is /forms/PUBLIC_ID.")
    name: str
    source: str
    fields: list[dict[str, Any]]
    campaign_id: int | None
    owner_id: int | None
    texts: dict[str, dict[str, str]]
    wording: int = Field(description="Number of the consent's newest wording; 0: none is asked.")
    origins: list[str]
    active: bool
    version: int


class FormsPage(Given):
    """Web forms, by name."""

    items: list[FormOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class SubmissionOut(Given):
    """What was sent with a form; `given` only while it is held."""

    id: int
    form_id: int
    at: Utc
    standing: str
    why: list[str]
    given: dict[str, Any] | None
    agreed: bool
    wording: int
    utm: dict[str, str] | None
    page: str | None
    lead_id: int | None
    contact_id: int | None
    activity_id: int | None


class SubmissionsQuery(Asked):
    """Which submissions."""

    standing: Literal["taken", "held", "discarded"] | None = Field(
        default=None, description="Only those that stand so; `held` ones wait for a decision."
    )
    form_id: Id | None = Field(default=None, description="Only of this form.")
    limit: int = Field(default=50, ge=1, le=200, description="Submissions on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class SubmissionsPage(Given):
    """Submissions, newest first."""

    items: list[SubmissionOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


class Decision(Taken):
    """What becomes of something held."""

    decision: Literal["take", "discard"]


@api.get("/forms", responses={"200": FormsPage, **documented()})
def list_web_forms(query: PageQuery) -> Response:
    """List the web forms."""
    with service().store.reading() as session:
        check_may_look_after_forms(Reader(session, caller()))
        found, more = query.part(list_forms(session), lambda each: (each.name, each.id))
        return answer(FormsPage(items=[FormOut.model_validate(each) for each in found], next_cursor=more))


@api.post("/forms", responses={"201": FormOut, **documented()})
def create_web_form(body: NewForm) -> Response:
    """Make a web form."""
    user = caller()
    with writing(user, Source.API) as transaction:
        made = make_form(transaction, user, _wanted(body.model_dump()))
        return created(FormOut.model_validate(made), f"forms/{made.id}", made.version)


@api.get("/forms/<int:id>", responses={"200": FormOut, **documented(404)})
def get_web_form(path: RecordPath, header: ReadHeaders) -> Response:
    """Read a web form."""
    with service().store.reading() as session:
        check_may_look_after_forms(Reader(session, caller()))
        found = get_form(session, path.id)
        return header.answer(FormOut.model_validate(found), found.version)


@api.patch("/forms/<int:id>", responses={"200": FormOut, **documented(404)})
def change_web_form(path: RecordPath, header: WriteHeaders, body: FormChange) -> Response:
    """Change a web form, or switch it off."""
    user = caller()
    with writing(user, Source.API) as transaction:
        check_may_look_after_forms(Reader(transaction.session, user))
        form: WebForm = get_form(transaction.session, path.id)
        given = _parts(body.model_dump(exclude_unset=True))
        wanted, version = replace(wanted_of(form), **given), header.version(form.version)
        changed = change_form(transaction, user, path.id, wanted, version=version)
        return tagged(FormOut.model_validate(changed).model_dump_json(), changed.version)


@api.get("/forms/submissions", responses={"200": SubmissionsPage, **documented()})
def list_form_submissions(query: SubmissionsQuery) -> Response:
    """List what was sent with forms, and what is held."""
    with service().store.reading() as session:
        check_may_look_after_forms(Reader(session, caller()))
        found = list_submissions(
            session,
            standing=None if query.standing is None else Standing(query.standing),
            form_id=query.form_id,
            before=query.cursor,
            limit=query.limit + 1,
        )
    shown = found[: query.limit]
    more = shown[-1].id if len(found) > query.limit else None
    return answer(
        SubmissionsPage(items=[SubmissionOut.model_validate(each) for each in shown], next_cursor=more)
    )


@api.post("/forms/submissions/<int:id>/decide", responses={"200": SubmissionOut, **documented(404)})
def decide_form_submission(path: RecordPath, body: Decision) -> Response:
    """Let through what was held, or throw it away; what is decided already stays as it is."""
    user = caller()
    decide = let_through if body.decision == "take" else throw_away
    with writing(user, Source.API) as transaction:
        decided: FormSubmission = decide(transaction, user, path.id)
        return answer(SubmissionOut.model_validate(decided))


def _wanted(given: Mapping[str, Any]) -> WantedForm:
    return WantedForm(**_parts(given))


def _parts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parts of a form as they are wanted; null is nothing, but for campaign and owner."""
    parts = {
        name: value
        for name, value in given.items()
        if value is not None or name in {"campaign_id", "owner_id"}
    }
    if "fields" in parts:
        parts["fields"] = tuple(AskedField(**each) for each in parts["fields"])
    return parts | {name: Texts(**parts[name]) for name in ("title", "consent", "thanks") if name in parts}
