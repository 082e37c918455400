"""Open deals by stage, as a board shows them: how likely, how long there, whether stuck or slipping.

Totals are of all deals of a column, whether they are shown or not, and by currency: amounts of two currencies
are never added. Weighted, an amount counts as often as the model thinks that it will be won.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, ColumnElement, and_, case, func, or_, select, type_coerce

from crm_core.access import Reader, Scope
from crm_core.changes import Action, Change
from crm_core.columns import MONEY_SCALE, check_text
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.phrases import Phrase, one_of
from crm_core.pipelines import PIPELINES, Stage
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal, DealStatus
from crm_core.stage_settings import stages_of
from crm_core.won_deals import StageNorm, WonDeals
from serving.today import Step, read_next_steps

CARDS = 30
MOST_CARDS = 300
FALLEN_SINCE = timedelta(days=30)
FALLEN = 0.05
"""The chance has fallen when it is lower by so much than it was then."""
PUT_OFF = 2
"""An expected close that was put off so often is slipping."""


@dataclass(frozen=True, kw_only=True)
class AskedBoard:
    """Which board: of which pipeline, whose deals, and of which columns more cards than usual."""

    pipeline: str = "default"
    owner_id: int | None = None
    search: str | None = None
    cards: Mapping[str, int] = field(default_factory=dict)
    only: int | None = None


@dataclass(frozen=True, kw_only=True)
class Total:
    """The money of a column in one currency; `weighted` is None where no deal of it has a score."""

    currency: str
    amount: Decimal
    weighted: Decimal | None


@dataclass(frozen=True, kw_only=True)
class Slipping:
    """Why a deal is: its close is overdue, was put off so many times, or its chance fell from this."""

    overdue: bool = False
    put_off: int = 0
    fallen_from: float | None = None

    def __bool__(self) -> bool:
        """Tell whether it is slipping at all."""
        return self.overdue or self.put_off >= PUT_OFF or self.fallen_from is not None


@dataclass(frozen=True, kw_only=True)
class Card:
    """One deal, as far as it may be seen; `norm` is None where too few were won, then `longest` is a rule."""

    deal: Deal
    account: str | None
    days: int
    norm: StageNorm | None
    longest: float
    slipping: Slipping
    step: Step | None

    @property
    def stuck(self) -> bool:
        """Whether it has been in its stage for longer than three quarters of those that were won."""
        return self.days > self.longest


@dataclass(frozen=True, kw_only=True)
class Column:
    """One stage: all its deals in figures, and the likeliest as cards."""

    stage: Stage
    count: int
    unscored: int
    totals: Sequence[Total]
    cards: Sequence[Card]
    norm: StageNorm | None


@dataclass(frozen=True, kw_only=True)
class Board:
    """The columns of a pipeline; `with_money` and `with_chance` are what the reader may see."""

    pipeline: str
    columns: Sequence[Column]
    with_money: bool
    with_chance: bool

    @property
    def count(self) -> int:
        """How many deals there are."""
        return sum(column.count for column in self.columns)


def read_board(
    reader: Reader,
    asked: AskedBoard,
    now: datetime,
    zone: ZoneInfo,
    usual: WonDeals,
    *,
    totals_only: bool = False,
) -> Board:
    """Return the board of a pipeline.

    Raises AccessDeniedError for a role that may not see deals, or in which stage they are and whether open.
    """
    _check_may_see(reader, asked)
    conditions = _conditions(reader, asked)
    stages = [stage for stage in stages_of(reader.session, asked.pipeline) if not stage.won]
    figures = _read_figures(reader, conditions)
    cards = {} if totals_only else _read_cards(reader, asked, conditions, now, zone, usual)
    return Board(
        pipeline=asked.pipeline,
        columns=[_column(stage, asked.pipeline, figures, cards, usual) for stage in stages],
        with_money=_may_see_money(reader),
        with_chance=reader.may_read_field("deal", "probability"),
    )


def read_card(reader: Reader, deal_id: int, now: datetime, zone: ZoneInfo, usual: WonDeals) -> Card | None:
    """Return the card of one open deal; None for one that is closed, or that the reader does not see."""
    deal = reader.get(Deal, deal_id, only=("id", "pipeline"))
    asked = AskedBoard(pipeline=deal.pipeline, only=deal_id)
    _check_may_see(reader, asked)
    cards = _read_cards(reader, asked, _conditions(reader, asked), now, zone, usual)
    return next((card for some in cards.values() for card in some), None)


def _check_may_see(reader: Reader, asked: AskedBoard) -> None:
    if asked.pipeline not in PIPELINES:
        raise InvalidValueError("pipeline", asked.pipeline, one_of(PIPELINES))
    seen = all(reader.may_read_field("deal", name) for name in ("stage", "status", "pipeline"))
    if reader.right("deal").read is Scope.NONE or not seen:
        raise AccessDeniedError(
            Phrase("the role {role} may not see the stages of deals", role=reader.user.role)
        )
    if asked.owner_id is not None and not reader.may_read_field("deal", "owner_id"):
        raise AccessDeniedError(
            Phrase("the role {role} may not ask for the owner_id of a deal", role=reader.user.role)
        )


def _may_see_money(reader: Reader) -> bool:
    return reader.may_be_told_of(("deal.amount", "deal.currency"))


def _conditions(reader: Reader, asked: AskedBoard) -> list[ColumnElement[bool]]:
    conditions = [
        Deal.deleted_at.is_(None),
        Deal.status == DealStatus.OPEN,
        Deal.pipeline == asked.pipeline,
        reader.readable(Deal),
    ]
    if asked.owner_id is not None:
        conditions.append(Deal.owner_id == asked.owner_id)
    if asked.search:
        conditions.append(_contains(reader, check_text("search", asked.search)))
    if asked.only is not None:
        conditions.append(Deal.id == asked.only)
    return conditions


def _contains(reader: Reader, text: str) -> ColumnElement[bool]:
    """Return the condition that a deal, or its customer, is called something with this text."""
    ways = []
    if reader.may_read_field("deal", "name"):
        ways.append(Deal.name.icontains(text.strip(), autoescape=True))
    if _may_see_account(reader):
        named = reader.select(Account).with_only_columns(Account.id)
        ways.append(Deal.account_id.in_(named.where(Account.name.icontains(text.strip(), autoescape=True))))
    return or_(*ways) if ways else Deal.id.is_(None)


def _may_see_account(reader: Reader) -> bool:
    return reader.may_read_field("deal", "account_id") and reader.may_read_field("account", "name")


# ------------------------------------------------------------------------------------- figures


@dataclass(frozen=True, kw_only=True)
class _Figures:
    count: int
    unscored: int
    totals: Sequence[Total]


def _read_figures(reader: Reader, conditions: Sequence[ColumnElement[bool]]) -> dict[str, _Figures]:
    """Return what all deals of each stage come to, in one query."""
    amount = type_coerce(Deal.amount, BigInteger)
    weighted = Deal.probability * amount
    chance = reader.may_read_field("deal", "probability")
    query = (
        select(
            Deal.stage,
            Deal.currency,
            func.count(),
            func.count(case((Deal.probability.is_(None), 1))),
            func.sum(amount),
            func.sum(weighted),
        )
        .where(*conditions)
        .group_by(Deal.stage, Deal.currency)
        .order_by(func.count().desc())
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for stage, *rest in reader.session.execute(query):
        found[stage].append(rest)
    money = _may_see_money(reader)
    return {
        stage: _Figures(
            count=sum(row[1] for row in rows),
            unscored=sum(row[2] for row in rows),
            totals=[_total(row, chance=chance) for row in rows if row[3] is not None] if money else [],
        )
        for stage, rows in found.items()
    }


def _total(row: Sequence[Any], *, chance: bool) -> Total:
    currency, _, _, amount, weighted = row
    return Total(
        currency=currency or "",
        amount=_money(amount),
        weighted=None if weighted is None or not chance else _money(weighted),
    )


def _money(stored: Any) -> Decimal:  # noqa: ANN401  a sum, of whichever kind the database makes it
    return (Decimal(stored) / MONEY_SCALE).quantize(Decimal(1))


def _column(
    stage: Stage,
    pipeline: str,
    figures: Mapping[str, _Figures],
    cards: Mapping[str, Sequence[Card]],
    usual: WonDeals,
) -> Column:
    found = figures.get(stage.key, _Figures(count=0, unscored=0, totals=()))
    return Column(
        stage=stage,
        count=found.count,
        unscored=found.unscored,
        totals=found.totals,
        cards=cards.get(stage.key, ()),
        norm=usual.norms.get((pipeline, stage.key)),
    )


# ------------------------------------------------------------------------------------- cards


def _read_cards(
    reader: Reader,
    asked: AskedBoard,
    conditions: Sequence[ColumnElement[bool]],
    now: datetime,
    zone: ZoneInfo,
    usual: WonDeals,
) -> dict[str, list[Card]]:
    """Return the likeliest deals of each stage; whoever may not see how likely gets the newest."""
    found = _read_deals(reader, asked, conditions)
    ids = [deal.id for deal, _ in found]
    moved = _read_moves(reader, ids)
    fallen = _read_fallen(reader, ids, now)
    steps = read_next_steps(reader, "deal", ids, now, zone)
    today = now.astimezone(zone).date()
    rules = {stage.key: stage.rotting_days for stage in stages_of(reader.session, asked.pipeline)}
    cards: dict[str, list[Card]] = defaultdict(list)
    for deal, account in found:
        entered, put_off = moved.get(deal.id, (None, 0))
        norm = usual.norms.get((deal.pipeline, deal.stage))
        shown = reader.masked(deal)
        cards[deal.stage].append(
            Card(
                deal=shown,
                account=account,
                days=(now - (entered or deal.occurred_at)).days,
                norm=norm,
                longest=rules[deal.stage] if norm is None else norm.days,
                slipping=_slipping(shown, today, put_off, fallen.get(deal.id)),
                step=steps.get(deal.id),
            )
        )
    return cards


def _read_deals(
    reader: Reader, asked: AskedBoard, conditions: Sequence[ColumnElement[bool]]
) -> list[tuple[Deal, str | None]]:
    likely = reader.may_read_field("deal", "probability")
    order = (Deal.probability.desc().nulls_last(),) if likely else (Deal.occurred_at.desc(),)
    place = func.row_number().over(partition_by=Deal.stage, order_by=(*order, Deal.id))
    ranked = select(Deal.id, Deal.stage, place.label("place")).where(*conditions).subquery()
    most = (
        case(
            *((ranked.c.stage == stage, min(count, MOST_CARDS)) for stage, count in asked.cards.items()),
            else_=CARDS,
        )
        if asked.cards
        else CARDS
    )
    seen = and_(Account.id == Deal.account_id, Account.deleted_at.is_(None), reader.readable(Account))
    query = (
        select(Deal, Account.name)
        .join(ranked, ranked.c.id == Deal.id)
        .outerjoin(Account, seen)
        .where(ranked.c.place <= most)
        .order_by(ranked.c.place)
    )
    named = _may_see_account(reader)
    return [(deal, name if named else None) for deal, name in reader.session.execute(query)]


def _read_moves(reader: Reader, ids: Sequence[int]) -> dict[int, tuple[datetime | None, int]]:
    """Return when each deal came into its stage, and how often its expected close was put off."""
    query = (
        select(Change.record_id, Change.field, Change.occurred_at, Change.old, Change.new)
        .where(
            Change.record_type == "deal",
            Change.field.in_(["stage", "expected_close_on"]),
            Change.record_id.in_(ids),
            Change.action == Action.UPDATED,
        )
        .order_by(Change.occurred_at, Change.id)
    )
    found: dict[int, tuple[datetime | None, int]] = {}
    told = reader.may_read_field("deal", "expected_close_on")
    for record_id, name, occurred_at, old, new in reader.session.execute(query):
        entered, put_off = found.get(record_id, (None, 0))
        if name == "stage":
            entered = occurred_at
        elif told and old is not None and new is not None and new > old:
            put_off += 1
        found[record_id] = entered, put_off
    return found


def _read_fallen(reader: Reader, ids: Sequence[int], now: datetime) -> dict[int, float]:
    """Return what was said first of each deal within the last days."""
    if not reader.may_read_field("deal", "probability"):
        return {}
    query = (
        select(Prediction.record_id, Prediction.probability)
        .where(
            Prediction.record_type == "deal",
            Prediction.record_id.in_(ids),
            Prediction.as_of >= now - FALLEN_SINCE,
            Prediction.probability.is_not(None),
        )
        .order_by(Prediction.as_of.desc(), Prediction.id.desc())
    )
    return {
        record_id: probability
        for record_id, probability in reader.session.execute(query)
        if probability is not None
    }


def _slipping(deal: Deal, today: date, put_off: int, before: float | None) -> Slipping:
    fell = before is not None and deal.probability is not None and before - deal.probability >= FALLEN
    return Slipping(
        overdue=deal.expected_close_on is not None and deal.expected_close_on < today,
        put_off=put_off,
        fallen_from=before if fell else None,
    )
