"""Touches: what brought a deal about, as far as the records say, derived anew whenever somebody asks.

There is no table of touches. They are read from leads, campaign members, activities and forms, so a merge, a
conversion or a correction changes them by itself, and nothing has to be kept in step. The rule:

- **Whose.** The people of a deal are its contact, and the leads that became it or became that contact.
- **What.** Where a lead came from (`origin`, when it came to be); an answer to a campaign (`response`; being
  reached is none, or a mailing to everybody would have credit for everything); a form that was sent
  (`form`, with the marks of the address it was reached by); a visit to the website (`visit`); the first mail
  that somebody wrote to us (`mail`), and their first call (`call`).
- **When.** Up to the instant at which the deal was closed, and no earlier than `window_days` before the deal
  came to be; only the origin of a lead that became this very deal counts however old it is.
- **Once a day.** Of the touches of a deal on one day (UTC) with the same campaign, or without any and with
  the same source, the first counts, and of those at one instant the one that says most.
- **Never none.** A deal without any of these has one touch: its own source and campaign, or nothing
  (`unknown`), when it came to be.

What somebody may not see is not there for them: they get the touches that the records they see tell of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from crm_core.access import Reader, Scope
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY
from crm_core.errors import RecordNotFoundError
from crm_core.forms import FormSubmission, WebForm
from crm_core.records import (
    Activity,
    ActivityKind,
    Campaign,
    CampaignMember,
    Contact,
    Deal,
    Direction,
    Lead,
)

WINDOW_DAYS: Final = 365

KINDS: Final = ("origin", "form", "response", "visit", "mail", "call", "unknown")
"""Kinds of touches; of two at one instant the one that comes first here counts."""

_LISTED: Final = 500
"""Up to so many people are named in a statement; more are found anew by each."""

_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}

CHANNELS: Final[Mapping[str, str]] = {
    "web form": "website",
    "website": "website",
    "ad": "advertising",
    "trade show": "event",
    "referral": "referral",
    "cold call": "outbound",
    "mail": "mail",
    "phone": "phone",
}
"""By source, the channel where neither a campaign nor an address says another one."""

_SOURCES: Final = {"response": "campaign", "visit": "website", "mail": "mail", "call": "phone"}
"""The source of touches that have none of their own."""


@dataclass(frozen=True, kw_only=True)
class Touch:
    """One step before a deal; `campaign` is `#id`, or the name of one that is no record; None: none known."""

    at: int
    kind: str
    source: str | None = None
    campaign: str | None = None
    channel: str | None = None


@dataclass(frozen=True, kw_only=True)
class TouchedDeal:
    """What has to be known of a deal; instants in microseconds."""

    id: int
    created: int
    closed: int
    contact_id: int | None
    source: str | None
    campaign_id: int | None


@dataclass(frozen=True, kw_only=True)
class Campaigns:
    """All campaigns, by key and by name: channels, and which record a name means."""

    names: Mapping[str, str]
    channels: Mapping[str, str | None]
    by_name: Mapping[str, str]

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read the campaigns that somebody may see; of two with one name, neither is meant by it."""
        fields = _told(reader)
        columns = [getattr(Campaign, name) for name in fields]
        query = reader.select(Campaign).with_only_columns(Campaign.id, *columns)
        return cls._of(fields, reader.session.execute(query))

    @classmethod
    def read_with(cls, reader: Reader, campaign_id: int) -> tuple[Self, Campaign]:
        """Return the same and one of them whole; RecordNotFoundError where the reader may not see it."""
        own = aliased(Campaign)
        fields = _told(reader)
        columns = [getattr(Campaign, name) for name in fields]
        query = reader.select(Campaign).with_only_columns(own, Campaign.id, *columns)
        rows = reader.session.execute(
            query.outerjoin(own, (own.id == Campaign.id) & (own.id == campaign_id))
        ).all()
        found = next((row[0] for row in rows if row[0] is not None), None)
        if found is None:
            raise RecordNotFoundError(Campaign.record_type, campaign_id)
        return cls._of(fields, (row[1:] for row in rows)), found

    @classmethod
    def _of(cls, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> Self:
        found = [(f"#{key}", dict(zip(fields, values, strict=True))) for key, *values in rows]
        keys = defaultdict(list)
        for key, row in found:
            keys[str(row.get("name", "")).casefold()].append(key)
        return cls(
            names={key: str(row.get("name", key)) for key, row in found},
            channels={key: row.get("channel") for key, row in found},
            by_name={name: some[0] for name, some in keys.items() if name and len(some) == 1},
        )

    def key_of(self, campaign_id: int | None, name: str | None) -> str | None:
        """Return what stands for a campaign that is named by its id, or else by its name."""
        if campaign_id is not None:
            return f"#{campaign_id}"
        return self.by_name.get(name.casefold(), name) if name else None

    def channel_of(self, campaign: str | None, source: str | None, medium: str | None = None) -> str | None:
        """Return the channel of a touch."""
        return self.channels.get(campaign or "") or medium or CHANNELS.get(source or "")


def _told(reader: Reader) -> list[str]:
    return [name for name in ("name", "channel") if reader.may_read_field("campaign", name)]


def read_touches(
    reader: Reader,
    deals: Sequence[TouchedDeal],
    chosen: ColumnElement[bool],
    campaigns: Campaigns,
    *,
    window_days: int = WINDOW_DAYS,
) -> dict[int, list[Touch]]:
    """Return the touches of each deal, in their order; each has at least one.

    `chosen` is the condition by which the deals were chosen: so many people are found without a list of ids.
    """
    return _Reading(reader, deals, chosen, campaigns, window_days).touches()


def collapse(touches: Iterable[Touch]) -> list[Touch]:
    """Return touches in their order, of those of a day with the same campaign or source the first only."""
    kept: dict[tuple[object, ...], Touch] = {}
    for touch in sorted(touches, key=_order):
        alike = (touch.campaign,) if touch.campaign else (None, touch.source)
        kept.setdefault((touch.at // DAY, *alike), touch)
    return list(kept.values())


def _order(touch: Touch) -> tuple[int, int, str, str]:
    return touch.at, _RANK[touch.kind], touch.source or "", touch.campaign or ""


class _Reading:
    """The touches of some deals, read by one statement for each kind of record."""

    def __init__(
        self,
        reader: Reader,
        deals: Sequence[TouchedDeal],
        chosen: ColumnElement[bool],
        campaigns: Campaigns,
        window_days: int,
    ) -> None:
        self._reader = reader
        self._session: Session = reader.session
        self._deals = deals
        self._chosen = chosen
        self._campaigns = campaigns
        self._window = window_days * DAY
        self._own: dict[int, list[Touch]] = defaultdict(list)
        """By deal, the origins of the leads that became it: they count however old they are."""
        self._by_lead: dict[int, list[Touch]] = defaultdict(list)
        self._by_contact: dict[int, list[Touch]] = defaultdict(list)
        self._leads_of: dict[int, set[int]] = defaultdict(set)

    def touches(self) -> dict[int, list[Touch]]:
        """Return them by deal."""
        if not self._deals:
            return {}
        self._read_leads()
        self._read_steps()
        return {deal.id: self._of(deal) for deal in self._deals}

    def _of(self, deal: TouchedDeal) -> list[Touch]:
        found = [touch for lead in self._leads_of[deal.id] for touch in self._by_lead[lead]]
        if deal.contact_id is not None:
            found += self._by_contact[deal.contact_id]
        since = deal.created - self._window
        found = [touch for touch in found if since < touch.at <= deal.closed]
        found += [touch for touch in self._own[deal.id] if touch.at <= deal.closed]
        return collapse(found) or [self._unknown(deal)]

    def _unknown(self, deal: TouchedDeal) -> Touch:
        kind = "origin" if deal.source or deal.campaign_id else "unknown"
        campaign = self._campaigns.key_of(deal.campaign_id, None)
        return self._touch(deal.created, kind, deal.source, campaign)

    def _touch(
        self, at: int, kind: str, source: str | None, campaign: str | None, medium: str | None = None
    ) -> Touch:
        source = source or _SOURCES.get(kind)
        channel = self._campaigns.channel_of(campaign, source, medium)
        return Touch(at=at, kind=kind, source=source, campaign=campaign, channel=channel)

    # ---------------------------------------------------------------- reading

    def _read_leads(self) -> None:
        fields = [f"lead.{name}" for name in ("source", "campaign", "campaign_id", "deal_id", "contact_id")]
        if not self._reader.may_be_told_of(fields):
            return
        by_id = {deal.id: deal for deal in self._deals}
        of_contact: dict[int, list[int]] = defaultdict(list)
        for deal in self._deals:
            if deal.contact_id is not None:
                of_contact[deal.contact_id].append(deal.id)
        query = select(
            *(Lead.id, Lead.occurred_at, Lead.source, Lead.campaign, Lead.campaign_id),
            *(Lead.deal_id, Lead.contact_id),
        )
        for row in _rows(self._session, query.where(*self._of_leads)):
            campaign = self._campaigns.key_of(_id(row["campaign_id"]), row["campaign"])
            origin = self._touch(row["occurred_at"], "origin", row["source"], campaign)
            if row["deal_id"] in by_id:
                self._own[row["deal_id"]].append(origin)
            for deal_id in {row["deal_id"], *of_contact.get(row["contact_id"], ())} & by_id.keys():
                self._leads_of[deal_id].add(row["id"])
            self._by_lead[row["id"]].append(origin)

    @cached_property
    def _of_leads(self) -> tuple[ColumnElement[bool], ...]:
        """The condition that a lead became one of the deals, or the contact of one."""
        became = Lead.deal_id.in_(select(Deal.id).where(self._chosen))
        met = Lead.contact_id.in_(self._contacts)
        return self._reader.readable(Lead), Lead.deleted_at.is_(None), or_(became, met)

    @cached_property
    def _contacts(self) -> Select[Any] | list[int]:
        known = {deal.contact_id for deal in self._deals if deal.contact_id is not None}
        if len(known) <= _LISTED:
            return sorted(known)
        return select(Deal.contact_id).where(self._chosen, Deal.contact_id.is_not(None))

    def _read_steps(self) -> None:
        """Read answers, visits, first mails and first calls of all people by one statement."""
        steps = [step for model in (CampaignMember, Activity) for step in self._steps(model)]
        if not steps:
            return
        every = union_all(*steps).subquery()
        forms = _forms(self._session)
        for row in _rows(self._session, select(*every.c)):
            of = self._by_contact if row["of_contact"] else self._by_lead
            of[row["person"]].append(self._step(row, forms))

    def _step(self, row: Mapping[str, Any], forms: Mapping[int, _Form]) -> Touch:
        at, step = row["at"], row["step"]
        if step == "response":
            return self._touch(at, step, None, f"#{row['about']}")
        if step == ActivityKind.WEB:
            return self._visit(at, forms.get(row["about"]))
        return self._touch(at, step, None, None)

    def _steps(self, model: type[CampaignMember | Activity]) -> Iterator[Select[Any]]:
        """Yield the queries of the steps that records of a type tell of, as far as these may be seen."""
        fields = ["campaign_member.responded_at", "campaign_member.campaign_id"]
        if self._reader.right(model.record_type).read is Scope.NONE:
            return
        if model is CampaignMember and not self._reader.may_be_told_of(fields):
            return
        for of_contact, column, about in self._people(model):
            person = (literal(of_contact).label("of_contact"), column.label("person"))
            if issubclass(model, CampaignMember):
                yield select(*person, *_said("response", model.campaign_id, model.responded_at)).where(
                    model.deleted_at.is_(None), model.responded_at.is_not(None), about
                )
                continue
            inbound = (model.deleted_at.is_(None), model.direction == Direction.INBOUND, about)
            yield select(*person, *_said(model.kind, model.id, model.occurred_at)).where(
                *inbound, model.kind == ActivityKind.WEB
            )
            first = _said(model.kind, func.min(model.id), func.min(model.occurred_at))
            words = (ActivityKind.MAIL, ActivityKind.CALL)
            yield select(*person, *first).where(*inbound, model.kind.in_(words)).group_by(column, model.kind)

    def _people(
        self, model: type[CampaignMember | Activity]
    ) -> Iterator[tuple[int, InstrumentedAttribute[int | None], ColumnElement[bool]]]:
        """Yield how records of a type lead to leads (0) and contacts (1): the column, and the condition."""
        sees = self._reader.readable_about
        if self._by_lead:
            few = len(self._by_lead) <= _LISTED
            leads = sorted(self._by_lead) if few else select(Lead.id).where(*self._of_leads)
            yield 0, model.lead_id, and_(model.lead_id.in_(leads), sees(model, Lead))
        if self._reader.right("contact").read is not Scope.NONE:
            seen = self._reader.select(Contact).with_only_columns(Contact.id)
            contacts = seen.where(Contact.id.in_(self._contacts))
            yield 1, model.contact_id, and_(model.contact_id.in_(contacts), sees(model, Contact))

    def _visit(self, at: int, form: _Form | None) -> Touch:
        if form is None:
            return self._touch(at, "visit", None, None)
        campaign = self._campaigns.key_of(form.campaign_id, form.utm.get("campaign"))
        return self._touch(
            at, "form", form.utm.get("source") or form.source, campaign, form.utm.get("medium")
        )


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What a form says of the visit that it was sent in."""

    source: str
    campaign_id: int | None
    utm: Mapping[str, str]


def _forms(session: Session) -> dict[int, _Form]:
    """Return by activity what was sent with forms."""
    query = select(FormSubmission.activity_id, FormSubmission.utm, WebForm.source, WebForm.campaign_id)
    rows = session.execute(
        query.join(WebForm, WebForm.id == FormSubmission.form_id).where(
            FormSubmission.activity_id.is_not(None)
        )
    )
    return {
        activity: _Form(source=source, campaign_id=campaign, utm=utm or {})
        for activity, utm, source, campaign in rows
        if activity is not None
    }


def _said(step: Any, about: Any, at: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401  columns or values
    step = literal(step) if isinstance(step, str) else step
    return step.label("step"), about.label("about"), at.label("at")


def _rows(session: Session, query: Any) -> Iterable[dict[str, Any]]:  # noqa: ANN401  a query of any columns
    """Yield the rows of a query, read as arrays."""
    columns = read_arrays(session, query)
    names = list(columns)
    for values in zip(*(columns[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def _id(value: int) -> int | None:
    return None if value == NO_INSTANT else value
