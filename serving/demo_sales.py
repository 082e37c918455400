"""Sales of the demonstration: a price list, quotes at every step, payment plans, a checklist and targets.

Deals, customers and contracts stay as they were simulated. Who pays late says nothing of how content they
are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_UP, Decimal
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.approvals import ask_for_approval, decide_approval
from crm_core.checklists import tick
from crm_core.meetings import NextStep, log_meeting
from crm_core.payments import Planned, receive_payment, set_plan
from crm_core.pipelines import ChecklistItem
from crm_core.quotes import accept_quote, add_line, reject_quote, revise_quote, send_quote, write_quote
from crm_core.records import (
    Account,
    Activity,
    Contract,
    ContractStatus,
    Deal,
    Line,
    Payment,
    Product,
    Quote,
    Role,
    Team,
    User,
)
from crm_core.reporting.keeping import Asked, keep_report
from crm_core.saved import Shared
from crm_core.stage_settings import set_stage, stage_of
from crm_core.store import Store, Transaction
from crm_core.targets import Measure, Over, Wanted, Whose, periods_at, set_target, split_target
from serving.demo_past import DAY, Past, first_admin

PRICES: Final[Mapping[str, tuple[str, str, int]]] = {
    "platform": ("PLT-10", "Platform, 10 users 平台许可", 18_000),
    "service": ("SVC-12", "Service plan, 12 months 年度服务", 9_600),
    "parts": ("PRT-01", "Spare parts kit 备件包", 2_400),
    "upgrade": ("UPG-01", "Upgrade to the next edition 版本升级", 14_500),
    "extension": ("EXT-05", "Extension, 5 sites 扩容包", 12_800),
    "training": ("TRN-01", "Training day 培训", 4_500),
}
"""By family of products: code, name and list price."""

_CURRENCY: Final = "CNY"
_MAIN: Final = {
    "平台": "platform",
    "服务": "service",
    "备件": "parts",
    "升级": "upgrade",
    "扩容": "extension",
}
_MOST_OF_IT: Final = Decimal("0.9")
"""How much of what a deal is worth its quote's first line comes to."""

_VALID: Final = timedelta(days=30)
_CONTRACTS: Final = 14
_PARTS: Final = 4
_DAYS_FROM_DUE: Final = (-4, 2, -1, 9, -6, 0)
"""When payments come, in turn."""
_EVERY_NTH_IS_LATE: Final = 3
_CHECKLIST: Final = (
    "Decision maker is known 已确认决策人",
    "Budget is confirmed 已确认预算",
    "Delivery date agreed 已约定交付日期",
)
_TERMS: Final = "Payable within 30 days. Delivery within 4 weeks. 30 天内付款, 4 周内交付。"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What becomes of a quote of an open deal, and how many days ago it was written."""

    days: float
    discount: float = 0.0
    sent: bool = True
    asked: bool = False
    approved: bool = False
    revised: bool = False
    rejected: str | None = None


SCENES: Final = (
    Scene(days=1.2, discount=0.18, sent=False, asked=True),
    Scene(days=6.1, discount=0.05),
    Scene(days=2.3, sent=False),
    Scene(days=12.2, discount=0.15, asked=True, approved=True),
    Scene(days=9.4, revised=True),
    Scene(days=16.2, rejected="Too expensive"),
    Scene(days=27.3, discount=0.1),
    Scene(days=3.1, discount=0.22, sent=False, asked=True),
    Scene(days=5.2),
    Scene(days=8.3, discount=0.05),
)


def make_sales(store: Store) -> bool:
    """Make it all; False where there is a quote already."""
    with store.reading() as session:
        admin = first_admin(session)
        if admin is None or session.scalar(select(Quote.id).limit(1)) is not None:
            return False
        open_ones, won = _open_deals(session), _won_deals(session)
        contracts = _contracts(session)
        session.expunge_all()
    past = Past(store)
    products = _make_prices(past, admin)
    for scene, deal in zip(SCENES, open_ones, strict=False):
        _offer(past, deal, products, scene)
    for deal in won:
        _order(past, deal, products)
    for number, (contract, owner) in enumerate(contracts):
        _plan(past, contract, owner, number)
    _make_checklist(past, admin, open_ones)
    _make_targets(past, admin)
    with past.at(past.ago(20), admin) as transaction:
        asked = Asked(measures=("won_amount",), rows="owner", columns="quarter", period="this_year")
        keep_report(transaction, admin, "Won by person and quarter 个人季度赢单", asked, shared=Shared.ALL)
    return True


# --------------------------------------------------------------------------------------- what there is


@dataclass(frozen=True, kw_only=True)
class Sold:
    """A deal and whose it is."""

    deal: Deal
    owner: User


def _open_deals(session: Session) -> list[Sold]:
    """Return open deals late enough to be quoted: of who logs in first, and then one a person in turn."""
    query = (
        select(Deal, User)
        .join(User, User.id == Deal.owner_id)
        .where(
            Deal.status == "open", Deal.stage.in_(("proposal", "negotiation")), Deal.account_id.is_not(None)
        )
        .where(Deal.amount.is_not(None), Deal.currency == _CURRENCY, User.active, User.role == Role.REP)
        .order_by(User.id, Deal.id.desc())
    )
    found = [Sold(deal=deal, owner=owner) for deal, owner in session.execute(query)]
    first = [each for each in found if each.owner.id == found[0].owner.id][:6]
    return first + [each for each in found if each.owner.id != found[0].owner.id]


def _won_deals(session: Session) -> list[Sold]:
    query = (
        select(Deal, User)
        .join(User, User.id == Deal.owner_id)
        .where(Deal.status == "won", Deal.account_id.is_not(None), Deal.amount.is_not(None))
        .where(Deal.currency == _CURRENCY, User.active)
        .order_by(Deal.closed_at.desc())
        .limit(4)
    )
    return [Sold(deal=deal, owner=owner) for deal, owner in session.execute(query)]


def _contracts(session: Session) -> list[tuple[Contract, User]]:
    """Return contracts that run, of as many people as may be, those of who logs in first among them."""
    turn = func.row_number().over(partition_by=Account.owner_id, order_by=Contract.starts_on)
    running = (
        select(Contract.id.label("id"), turn.label("turn"), Account.owner_id.label("owner_id"))
        .join(Account, Account.id == Contract.account_id)
        .where(Contract.status == ContractStatus.ACTIVE, Contract.value > 0, Contract.ends_on.is_not(None))
        .subquery()
    )
    query = (
        select(Contract, User)
        .join(running, running.c.id == Contract.id)
        .join(User, User.id == running.c.owner_id)
        .where(User.active)
        .order_by(running.c.turn, User.id)
        .limit(_CONTRACTS)
    )
    return [(contract, user) for contract, user in session.execute(query)]


# ------------------------------------------------------------------------------------------- quotes


def _make_prices(past: Past, admin: User) -> dict[str, Product]:
    with past.at(past.ago(200), admin) as transaction:
        return {
            family: transaction.create(
                Product(code=code, name=name, family=family, price=Decimal(price), currency=_CURRENCY)
            )
            for family, (code, name, price) in PRICES.items()
        }


def _write(past: Past, sold: Sold, products: Mapping[str, Product], at: datetime, discount: float) -> Quote:
    """Write a draft worth about what its deal is."""
    with past.at(at, sold.owner) as transaction:
        draft = Quote(
            deal_id=sold.deal.id,
            owner_id=sold.owner.id,
            discount=discount or None,
            valid_until=(past.clock.now() + _VALID).date(),
            terms=_TERMS,
        )
        quote = write_quote(transaction, draft)
        for product, quantity in _lines(sold.deal, products):
            add_line(transaction, Line(quote_id=quote.id, product_id=product.id, quantity=float(quantity)))
    return quote


def _lines(deal: Deal, products: Mapping[str, Product]) -> list[tuple[Product, int]]:
    named = [family for word, family in _MAIN.items() if word in deal.name]
    named += [family for family in PRICES if family in deal.name]
    main = products[named[0] if named else "platform"]
    worth = (deal.amount or Decimal(0)) * _MOST_OF_IT
    return [(main, max(1, round(worth / (main.price or 1)))), (products["training"], 1)]


def _offer(past: Past, sold: Sold, products: Mapping[str, Product], scene: Scene) -> None:
    """Play a scene: a quote is written, then perhaps approved, sent, revised or turned down."""
    written = max(past.ago(scene.days), sold.deal.recorded_at)
    quote = _write(past, sold, products, written, scene.discount)
    if scene.asked:
        _ask(past, sold, quote, written, decided=scene.approved)
    if not scene.sent:
        return
    with past.at(written + DAY / 8, sold.owner) as transaction:
        quote = transaction.get(Quote, quote.id)
        send_quote(transaction, quote, sold.owner)
    with past.at(written + 4 * DAY, sold.owner) as transaction:
        quote = transaction.get(Quote, quote.id)
        if scene.revised:
            revise_quote(transaction, quote)
        elif scene.rejected is not None:
            reject_quote(transaction, quote, scene.rejected)


def _ask(past: Past, sold: Sold, quote: Quote, at: datetime, *, decided: bool) -> None:
    note = "They have an offer 15 % below ours and decide this week."
    with past.at(at + DAY / 24, sold.owner) as transaction:
        asked = ask_for_approval(transaction, transaction.get(Quote, quote.id), sold.owner, note=note)
    if decided and asked.approver_id is not None:
        with past.at(at + DAY / 12) as transaction:
            approver = transaction.session.get_one(User, asked.approver_id)
            decide_approval(transaction, approver, asked.id, approve=True, note="For two years, then yes.")


def _order(past: Past, sold: Sold, products: Mapping[str, Product]) -> None:
    """Have the quote of a deal that was won accepted when it was, and the order's first half paid."""
    closed = sold.deal.closed_at or past.now
    written = max(closed - 8 * DAY, sold.deal.recorded_at)
    quote = _write(past, sold, products, written, discount=0.05)
    with past.at(written + (closed - written) / 4, sold.owner) as transaction:
        send_quote(transaction, transaction.get(Quote, quote.id), sold.owner)
    with past.at(closed, sold.owner) as transaction:
        order = accept_quote(transaction, transaction.get(Quote, quote.id), sold.owner).order
        if order is None:
            return
        half, days = Decimal(50), (closed.date() + 3 * DAY, closed.date() + 33 * DAY)
        first = set_plan(transaction, order, [Planned(due_on=day, percent=half) for day in days])[0]
    _receive(past, sold.owner, first, closed + 2 * DAY)


# ------------------------------------------------------------------------------------------ payments


def _plan(past: Past, contract: Contract, owner: User, number: int) -> None:
    """Plan what is paid for a contract by the quarter; some of what is due has not come in."""
    length = (contract.ends_on - contract.starts_on) / _PARTS
    days = [contract.starts_on + timedelta(days=30) + part * length for part in range(_PARTS)]
    share = Decimal(100) / _PARTS
    with past.at(contract.recorded_at, owner) as transaction:
        plan = [Planned(due_on=day, percent=share) for day in days]
        claims = set_plan(transaction, transaction.get(Contract, contract.id), plan)
    due = [each for each in claims if each.due_on is not None and each.due_on < past.now.date()]
    for turn, claim in enumerate(due):
        last = claim is due[-1] and number % _EVERY_NTH_IS_LATE == 1
        _pay(
            past,
            owner,
            claim,
            _DAYS_FROM_DUE[(number + turn) % len(_DAYS_FROM_DUE)],
            late=last,
            half=number % 2 == 0,
        )


def _pay(past: Past, owner: User, claim: Payment, days: int, *, late: bool, half: bool) -> None:
    """Note that a claim was paid so many days after it was due; of a late one half came, or nothing."""
    at = datetime.combine((claim.due_on or past.now.date()) + timedelta(days=days), time(8, 30), UTC)
    if at >= past.now or (late and not half):
        return
    _receive(past, owner, claim, at, (claim.amount / 2).quantize(Decimal(1)) if late else None)


def _receive(past: Past, owner: User, claim: Payment, at: datetime, amount: Decimal | None = None) -> None:
    if at >= past.now:
        return
    with past.at(at, owner) as transaction:
        receive_payment(transaction, claim, amount, reference=f"BK-{claim.id:05}")


# ------------------------------------------------------------------------------- what leads to them


def _make_checklist(past: Past, admin: User, deals: Sequence[Sold]) -> None:
    """Say what is to be done with a proposal; of who logs in first a part is done, and a meeting was held."""
    items = tuple(ChecklistItem(text=text) for text in _CHECKLIST)
    with past.at(past.ago(150), admin) as transaction:
        stage = stage_of(transaction.session, "default", "proposal")
        set_stage(transaction, admin, "default", replace(stage, checklist=items))
    proposed = [each for each in deals if each.deal.stage == "proposal"]
    for sold in proposed[:1]:
        with past.at(max(past.ago(4), sold.deal.recorded_at), sold.owner) as transaction:
            tick(transaction, transaction.get(Deal, sold.deal.id), sold.owner, items[0].key, done=True)
            _meet(transaction, sold)


def _meet(transaction: Transaction, sold: Sold) -> None:
    meeting = Activity(
        subject="Proposal walked through",
        body="They like the service plan. Open: the price, and a reference from the same industry.",
        deal_id=sold.deal.id,
        account_id=sold.deal.account_id,
        owner_id=sold.owner.id,
        duration_seconds=2_700,
    )
    steps = ("Send a reference", "Ask for their budget round")
    due = [transaction.now + 6 * DAY, transaction.now + 9 * DAY]
    log_meeting(
        transaction, meeting, [NextStep(text=text, due_at=at) for text, at in zip(steps, due, strict=True)]
    )


def _make_targets(past: Past, admin: User) -> None:
    """Give each team with people who sell a target for the quarter: a tenth above its usual quarter."""
    _, _, quarter, _ = periods_at(past.now.date())
    won = func.coalesce(func.sum(Deal.amount), 0)
    with past.at(past.ago(40), admin) as transaction:
        usual = (
            select(Team.id, won)
            .select_from(User)
            .join(Deal, Deal.owner_id == User.id)
            .join(Team, Team.id == User.team_id)
            .where(Deal.status == "won", Deal.closed_at > past.ago(365), Deal.currency == _CURRENCY)
            .where(User.role == Role.REP, User.active)
            .group_by(Team.id)
            .order_by(Team.id)
        )
        for team_id, amount in transaction.session.execute(usual).all():
            value = (Decimal(amount or 0) * Decimal("0.275") / 10_000).quantize(Decimal(1), ROUND_UP) * 10_000
            wanted = Wanted(
                whose=Whose.TEAM,
                whose_id=team_id,
                period=quarter,
                measure=Measure.WON_AMOUNT,
                value=value,
                currency=_CURRENCY,
            )
            target = set_target(transaction, admin, wanted)
            if target is not None and value > 0:
                split_target(transaction, admin, target, Over.PEOPLE)
