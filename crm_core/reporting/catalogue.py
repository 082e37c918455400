"""What can be measured, and what it can be told apart by.

A subject is a record type (or the stays of deals in stages) with the paths that lead from it to what it is
told apart by: `("account_id", "industry")` is the industry of the account that a record points at, as known
at the instant of the report. A measure is a subject, the instant that puts it into a period, the rows that
count, and what is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from crm_core.records import (
    Account,
    Activity,
    ActivityKind,
    Campaign,
    Contract,
    Deal,
    DealStatus,
    Lead,
    LeadStatus,
    Line,
    Order,
    Payment,
    Product,
    Quote,
    QuoteStatus,
    Record,
    Team,
    Ticket,
    TicketStatus,
    User,
)

Path = tuple[str, ...]
"""From a record's field to fields of what it points at, one after another."""

Where = tuple[tuple[str, tuple[str, ...]], ...]
"""Fields, and the words that each must hold."""


class Kind(StrEnum):
    """What is made of the rows that count."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MEDIAN = "median"
    SHARE = "share"


class Unit(StrEnum):
    """What a figure is in."""

    NUMBER = "number"
    MONEY = "money"
    DAYS = "days"
    HOURS = "hours"
    SHARE = "share"
    GRADE = "grade"


PERIODS: Final = ("day", "week", "month", "quarter", "year")
"""Dimensions that are parts of time, the shortest first."""

LINKS: Final[Mapping[str, type[Record]]] = {
    "owner_id": User,
    "team_id": Team,
    "account_id": Account,
    "lead_id": Lead,
    "deal_id": Deal,
    "order_id": Order,
    "quote_id": Quote,
    "product_id": Product,
    "campaign_id": Campaign,
}
"""What the links of paths point at."""

SOLD: Final = "sold"
"""A step from a deal to the products that it is about, of which there may be several (`.sold`)."""

_OF_DEAL: Final[Mapping[str, tuple[Path, ...]]] = {
    "product": (("deal_id", SOLD),),
    "family": (("deal_id", SOLD, "family"),),
}
_OWN_PRODUCTS: Final[Mapping[str, tuple[Path, ...]]] = {"product": ((SOLD,),), "family": ((SOLD, "family"),)}
_OWN_PEOPLE: Final[Mapping[str, tuple[Path, ...]]] = {
    "owner": (("owner_id",),),
    "team": (("owner_id", "team_id"),),
}
_OF_ACCOUNT: Final[Mapping[str, tuple[Path, ...]]] = {
    "account": (("account_id",),),
    "industry": (("account_id", "industry"),),
    "region": (("account_id", "region"),),
}
_THROUGH_DEAL: Final[Mapping[str, tuple[Path, ...]]] = {
    **_OF_ACCOUNT,
    # Whoever sold it, else whoever has the customer.
    "owner": (("deal_id", "owner_id"), ("account_id", "owner_id")),
    "team": (("deal_id", "owner_id", "team_id"), ("account_id", "owner_id", "team_id")),
    "source": (("deal_id", "source"),),
    "campaign": (("deal_id", "campaign_id"),),
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is counted: `dimensions` by name, each with the paths of which the first that holds counts."""

    name: str
    model: type[Record]
    dimensions: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


SUBJECTS: Final[Mapping[str, Subject]] = {
    each.name: each
    for each in (
        Subject(
            name="lead",
            model=Lead,
            dimensions={
                **_OWN_PEOPLE,
                **{name: ((name,),) for name in ("source", "industry", "region", "territory", "status")},
                "campaign": (("campaign_id",),),
                "disqualified_reason": (("disqualified_reason",),),
                **_OF_DEAL,  # that it was converted to
            },
        ),
        Subject(
            name="activity",
            model=Activity,
            dimensions={
                **_OWN_PEOPLE,
                **{name: ((name,),) for name in ("kind", "direction")},
                # Of the customer, else of the lead.
                "account": (("account_id",),),
                "industry": (("account_id", "industry"), ("lead_id", "industry")),
                "region": (("account_id", "region"), ("lead_id", "region")),
                "source": (("deal_id", "source"), ("lead_id", "source")),
                "campaign": (("deal_id", "campaign_id"), ("lead_id", "campaign_id")),
                **_OF_DEAL,
            },
        ),
        Subject(
            name="deal",
            model=Deal,
            dimensions={
                **_OWN_PEOPLE,
                **_OF_ACCOUNT,
                **{name: ((name,),) for name in ("source", "stage", "pipeline", "status", "lost_reason")},
                "campaign": (("campaign_id",),),
                **_OWN_PRODUCTS,
            },
        ),
        Subject(
            name="stay",
            model=Deal,
            dimensions={
                **_OWN_PEOPLE,
                **_OF_ACCOUNT,
                "source": (("source",),),
                "pipeline": (("pipeline",),),
                "campaign": (("campaign_id",),),
                "stage": (("stay_stage",),),
                **_OWN_PRODUCTS,
            },
        ),
        Subject(
            name="quote", model=Quote, dimensions={**_OWN_PEOPLE, **_OF_ACCOUNT, "status": (("status",),)}
        ),
        Subject(name="order", model=Order, dimensions=_THROUGH_DEAL),
        Subject(
            name="contract",
            model=Contract,
            dimensions={**_THROUGH_DEAL, **_OF_DEAL, "status": (("status",),)},
        ),
        Subject(name="payment", model=Payment, dimensions={**_THROUGH_DEAL, **_OF_DEAL}),
        Subject(
            name="line",
            model=Line,
            dimensions={
                **{
                    name: tuple(("order_id", *path) for path in paths)
                    for name, paths in _THROUGH_DEAL.items()
                },
                "product": (("product_id",),),
                "family": (("product_id", "family"),),
            },
        ),
        Subject(
            name="ticket",
            model=Ticket,
            dimensions={
                **_OWN_PEOPLE,
                **_OF_ACCOUNT,
                **{name: ((name,),) for name in ("priority", "queue", "status")},
            },
        ),
    )
}

DIMENSIONS: Final[tuple[str, ...]] = (
    *dict.fromkeys(name for subject in SUBJECTS.values() for name in subject.dimensions),
    *PERIODS,
)
"""Every dimension; not each subject has each."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure.

    Parameters
    ----------
    at : path
        The instant or day that puts a row into a period. Of a `stock`, since when it is there.
    where, hit : conditions
        Which rows count; of a share, which of them are counted.
    value : str
        The amount that is summed or averaged, or the grade.
    currency : path
        Where the currency of the amount stands.
    since, until : str
        Instants between which a duration is measured.
    within_days : int
        Of a share: only rows so old at the instant of the report, and hits within so many days.
    ends, ended : str, conditions
        Of a stock: when it is there no more, if it has ended.
    touches : bool
        Counts only what we did, and not what came from the customer.
    """

    name: str
    subject: str
    kind: Kind
    unit: Unit = Unit.NUMBER
    at: Path = ("occurred_at",)
    where: Where = ()
    hit: Where = ()
    value: str = ""
    currency: Path = ("currency",)
    since: str = ""
    until: str = ""
    within_days: int = 0
    stock: bool = False
    ends: str = ""
    ended: Where = ()
    touches: bool = False

    @property
    def fields(self) -> tuple[Path, ...]:
        """Return the paths that it is made from."""
        plain = [name for name, _ in (*self.where, *self.hit, *self.ended)]
        plain += [name for name in (self.value, self.since, self.until, self.ends) if name]
        money = [self.currency] if self.unit is Unit.MONEY else []
        ours = [("direction",)] if self.touches else []
        return tuple(dict.fromkeys([self.at, *((name,) for name in plain), *money, *ours]))


_WON: Final[Where] = (("status", (DealStatus.WON,)),)
_LOST: Final[Where] = (("status", (DealStatus.LOST,)),)
_CLOSED: Final[Where] = (("status", (DealStatus.WON, DealStatus.LOST)),)
_SOLVED: Final[Where] = (("status", (TicketStatus.SOLVED, TicketStatus.CLOSED)),)
_CLOSED_AT: Final[Path] = ("closed_at",)
FOLLOW_UPS: Final = (ActivityKind.CALL, ActivityKind.MAIL, ActivityKind.MEETING, ActivityKind.VISIT)
"""Kinds of activities that turn to a customer."""


def _money(name: str, subject: str, value: str = "amount", **more: object) -> Measure:
    return Measure(name=name, subject=subject, value=value, **{"kind": Kind.SUM, "unit": Unit.MONEY, **more})  # type: ignore[arg-type]  # checked by the dataclass's tests


MEASURES: Final[Mapping[str, Measure]] = {
    each.name: each
    for each in (
        Measure(name="leads_created", subject="lead", kind=Kind.COUNT),
        Measure(
            name="leads_converted",
            subject="lead",
            kind=Kind.COUNT,
            at=("converted_at",),
            where=(("status", (LeadStatus.CONVERTED,)),),
        ),
        Measure(
            name="lead_conversion",
            subject="lead",
            kind=Kind.SHARE,
            unit=Unit.SHARE,
            hit=(("status", (LeadStatus.CONVERTED,)),),
            since="occurred_at",
            until="converted_at",
            within_days=90,
        ),
        Measure(
            name="leads_disqualified",
            subject="lead",
            kind=Kind.COUNT,
            where=(("status", (LeadStatus.DISQUALIFIED,)),),
        ),
        Measure(name="activities", subject="activity", kind=Kind.COUNT),
        Measure(
            name="follow_ups",
            subject="activity",
            kind=Kind.COUNT,
            where=(("kind", FOLLOW_UPS),),
            touches=True,
        ),
        Measure(name="deals_created", subject="deal", kind=Kind.COUNT),
        Measure(name="deals_won", subject="deal", kind=Kind.COUNT, at=_CLOSED_AT, where=_WON),
        Measure(name="deals_lost", subject="deal", kind=Kind.COUNT, at=_CLOSED_AT, where=_LOST),
        Measure(
            name="win_rate",
            subject="deal",
            kind=Kind.SHARE,
            unit=Unit.SHARE,
            at=_CLOSED_AT,
            where=_CLOSED,
            hit=_WON,
        ),
        _money("won_amount", "deal", at=_CLOSED_AT, where=_WON),
        _money("average_deal", "deal", at=_CLOSED_AT, where=_WON, kind=Kind.MEAN),
        _money("lost_amount", "deal", at=_CLOSED_AT, where=_LOST),
        Measure(
            name="cycle_days",
            subject="deal",
            kind=Kind.MEDIAN,
            unit=Unit.DAYS,
            at=_CLOSED_AT,
            where=_WON,
            since="occurred_at",
            until="closed_at",
        ),
        Measure(
            name="open_deals", subject="deal", kind=Kind.COUNT, stock=True, ends="closed_at", ended=_CLOSED
        ),
        _money("open_pipeline", "deal", stock=True, ends="closed_at", ended=_CLOSED),
        Measure(name="stage_entries", subject="stay", kind=Kind.COUNT, at=("entered_at",)),
        Measure(
            name="stage_conversion",
            subject="stay",
            kind=Kind.SHARE,
            unit=Unit.SHARE,
            at=("left_at",),
            hit=(("went", ("on",)),),
        ),
        Measure(
            name="stage_days",
            subject="stay",
            kind=Kind.MEDIAN,
            unit=Unit.DAYS,
            at=("left_at",),
            since="entered_at",
            until="left_at",
        ),
        Measure(name="quotes_sent", subject="quote", kind=Kind.COUNT, at=("sent_at",)),
        Measure(
            name="quote_acceptance",
            subject="quote",
            kind=Kind.SHARE,
            unit=Unit.SHARE,
            at=("decided_at",),
            where=(("status", (QuoteStatus.ACCEPTED, QuoteStatus.REJECTED, QuoteStatus.EXPIRED)),),
            hit=(("status", (QuoteStatus.ACCEPTED,)),),
        ),
        Measure(name="orders_placed", subject="order", kind=Kind.COUNT),
        _money("order_amount", "order"),
        _money(
            "product_sales",
            "line",
            "line_total",
            at=("order_id", "occurred_at"),
            currency=("order_id", "currency"),
        ),
        Measure(name="contracts_signed", subject="contract", kind=Kind.COUNT),
        _money("contract_value", "contract", "value"),
        Measure(name="contracts_ended", subject="contract", kind=Kind.COUNT, at=("ended_at",)),
        _money("payments_received", "payment", at=("paid_at",)),
        _money("payments_due", "payment", at=("due_on",)),
        _money("payments_overdue", "payment", at=("due_on",), stock=True, ends="paid_at"),
        Measure(name="tickets_opened", subject="ticket", kind=Kind.COUNT),
        Measure(name="tickets_solved", subject="ticket", kind=Kind.COUNT, at=("done_at",), where=_SOLVED),
        Measure(
            name="open_tickets",
            subject="ticket",
            kind=Kind.COUNT,
            stock=True,
            ends="done_at",
            ended=_SOLVED,
        ),
        Measure(
            name="first_response_hours",
            subject="ticket",
            kind=Kind.MEDIAN,
            unit=Unit.HOURS,
            since="occurred_at",
            until="first_response_at",
        ),
        Measure(
            name="solution_hours",
            subject="ticket",
            kind=Kind.MEDIAN,
            unit=Unit.HOURS,
            at=("done_at",),
            where=_SOLVED,
            since="occurred_at",
            until="done_at",
        ),
        Measure(
            name="satisfaction",
            subject="ticket",
            kind=Kind.MEAN,
            unit=Unit.GRADE,
            at=("done_at",),
            value="satisfaction",
        ),
    )
}
"""Every measure by its name."""


def stands_in_several(subject: str, dimension: str | None) -> bool:
    """Say whether a record of a subject can have several keys of a dimension at once."""
    paths = SUBJECTS[subject].dimensions.get(dimension or "", ())
    return any(SOLD in path for path in paths)


def shared_dimensions(measures: Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions that every one of some measures has."""
    found = [name for name in DIMENSIONS if name not in PERIODS]
    for name in measures:
        held = SUBJECTS[MEASURES[name].subject].dimensions
        found = [each for each in found if each in held]
    return (*found, *PERIODS)
