"""Every dimension against a walk over the raw rows, and every measure as it was said then."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.clock import FixedClock
from crm_core.contracts import end_contract
from crm_core.leads import disqualify_lead
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    Campaign,
    Contract,
    Deal,
    Lead,
    Order,
    Payment,
    Quote,
    Ticket,
    User,
)
from crm_core.reporting.asking import Question, list_behind
from crm_core.reporting.catalogue import DIMENSIONS, MEASURES, PERIODS, SUBJECTS
from crm_core.store import Store
from tests.crm_core.test_reporting import WHOLE, admin, ask, happen, naive_stays, told
from tests.factories import (
    make_account,
    make_activity,
    make_deal,
    make_lead,
    make_team,
    make_user,
)

Row = Any
FIRST: Mapping[str, str] = {
    "lead": "leads_created",
    "activity": "activities",
    "deal": "deals_created",
    "stay": "stage_entries",
    "quote": "quotes_sent",
    "order": "orders_placed",
    "contract": "contracts_signed",
    "payment": "payments_received",
    "line": "product_sales",
    "ticket": "tickets_opened",
}
"""By subject, a measure that counts all of it."""


OFTEN: Mapping[str, str] = {"deal": "product", "stay": "family", "lead": "product"}
"""By subject, a dimension that is always asked, because much is behind it."""


class World:
    """A company in which everything happens by chance, and ways to walk through its rows."""

    def __init__(self, store: Store, clock: FixedClock) -> None:
        self.store, self.clock, self.dice = store, clock, random.Random(3)
        self.user = admin(store)
        with store.transaction() as transaction:
            make = transaction
            self.teams = [make_team(make, name=name) for name in ("North", "South")]
            self.people = [make_user(make, name, team_id=self.any(self.teams).id) for name in ("Ana", "Ben")]
            self.campaigns = [make.create(Campaign(name=name)).id for name in ("Fair", "News")]
            self.accounts = [
                make_account(
                    make,
                    name=f"A{number}",
                    industry=self.any(["steel", None]),
                    region=self.any(["华东", "North", None]),
                    owner_id=self.any(self.people).id,
                )
                for number in range(5)
            ]
            create = make.create
            products = [RECORD_TYPES["product"](name=name, family=name[:1]) for name in ("P1", "P2", "Q1")]
            self.products = [create(product) for product in products]

    def any(self, some: Sequence[Any]) -> Any:
        return self.dice.choice(some)

    def go_on(self) -> None:
        """Have some days pass."""
        self.clock.advance(timedelta(days=4))
        with self.store.transaction() as transaction:
            happen(transaction, self.dice, self.people, self.accounts, self.products)
            more: dict[str, Any] = {
                "source": self.any(["web", "fair", None]),
                "campaign_id": self.any([*self.campaigns, None]),
                "owner_id": self.any(self.people).id,
            }
            place = {"region": self.any(["North", None]), "territory": self.any(["7", None])}
            lead = make_lead(transaction, industry=self.any(["food", None]), **place, **more)
            make_activity(transaction, lead_id=lead.id, kind="call", owner_id=lead.owner_id)
            deal = make_deal(transaction, account_id=self.any(self.accounts).id, currency="EUR", **more)
            self.sell(transaction)
            make_activity(transaction, deal_id=deal.id, owner_id=deal.owner_id, direction="outbound")
            if self.dice.random() < 0.5:
                disqualify_lead(transaction, lead, reason=self.any(["no budget", "not real"]))

    def sell(self, transaction: Any) -> None:
        """Write quotes and orders with lines of every kind, of deals, some of them late."""
        session, line, quote = transaction.session, RECORD_TYPES["line"], RECORD_TYPES["quote"]
        for deal in session.scalars(select(Deal).where(Deal.deleted_at.is_(None)).order_by(Deal.id)):
            if deal.id % 4 == 0 or self.dice.random() < 0.4:
                continue
            about: dict[str, Any] = {"account_id": deal.account_id, "deal_id": deal.id}
            late = {"occurred_at": transaction.now - timedelta(hours=self.dice.randint(0, 200))}
            if self.dice.random() < 0.7:
                status = self.any(["draft", "rejected", "accepted"])
                more = {"owner_id": deal.owner_id, "number": "Q", "status": status}
                on = {"quote_id": transaction.create(quote(**about, **more, **late)).id}
            else:
                on = {"order_id": transaction.create(Order(**about, **late)).id}
            for _ in range(self.dice.randint(0, 4)):
                product = self.any([*self.products, None])
                price = self.any([Decimal("12.5"), Decimal(3), Decimal(-2) if product is None else None])
                said = {"product_id": product and product.id, "unit_price": price, "text": "something"}
                transaction.create(line(**on, **said, **late, quantity=self.any([1.0, 2.5])))

    def correct(self) -> None:
        """Learn of much that was wrong, late or is over: what was said before must not move."""
        self.clock.advance(timedelta(days=2))
        with self.store.transaction() as transaction:
            session = transaction.session
            late = self.clock.now() - timedelta(days=3)
            products = {"product_id": [*(each.id for each in self.products), None]}
            for model, some in CORRECTIONS.items():
                values = {**some, **products} if model.record_type == "line" else some
                for record in session.scalars(select(model).order_by(model.id)):
                    if self.dice.random() < 0.4:
                        drawn = {name: self.any(some) for name, some in values.items()}
                        drawn = {
                            name: transaction.now if each is NOW else each for name, each in drawn.items()
                        }
                        transaction.update(record, drawn)
            for model in (Lead, Deal, Order, Payment, Quote, Ticket, Activity, RECORD_TYPES["line"]):
                gone = session.scalars(
                    select(model).where(model.deleted_at.is_(None)).order_by(model.id)
                ).all()
                transaction.delete(self.any(gone))
            running = session.scalars(select(Contract).where(Contract.status == "active")).all()
            end_contract(transaction, self.any(running), ended_at=self.any([late, self.clock.now()]))
            make_activity(transaction, account_id=self.accounts[0].id, occurred_at=late)

    def rows(self) -> dict[str, Sequence[Row]]:
        """Return all rows there are, by record type; of stages, the stays."""
        with self.store.reading() as session:
            found: dict[str, Sequence[Row]] = {
                name: session.scalars(select(model)).all() for name, model in RECORD_TYPES.items()
            }
            found["stay"] = naive_stays(session, found["deal"])
            session.expunge_all()
        return found


NOW = "the instant at which it is learned"
CORRECTIONS: Mapping[type[Any], Mapping[str, Sequence[Any]]] = {
    Account: {"industry": ["food", "steel", None], "region": ["South", None]},
    Lead: {"source": ["web", None]},
    Deal: {"amount": [Decimal("12.34"), None], "source": ["fair"]},
    Order: {"amount": [Decimal("0.01"), Decimal(999)]},
    Contract: {"value": [Decimal(5), None]},
    Payment: {"amount": [Decimal("77.7")], "paid_at": [None, NOW]},
    Quote: {"status": ["accepted", "rejected"], "decided_at": [NOW]},
    Ticket: {"satisfaction": [2, None], "priority": ["low", "urgent"]},
    Activity: {"kind": ["call", "note"]},
    RECORD_TYPES["line"]: {"quantity": [7.0], "discount": [None, 0.5]},
}


@pytest.fixture
def world(store: Store, clock: FixedClock) -> World:
    world = World(store, clock)
    for _ in range(4):
        world.go_on()
    return world


class Walk:
    """Goes from a row of a subject to its key in a dimension, by hand."""

    def __init__(self, rows: Mapping[str, Sequence[Row]]) -> None:
        self.rows = {name: {each.id: each for each in some} for name, some in rows.items() if name != "stay"}

    def keys(self, kind: str, by: str, row: Row) -> Sequence[Any]:
        if by not in {"product", "family"} or kind == "line":
            return [self.key(kind, by, row)]
        deal = row.id if kind == "deal" else row.deal_id
        products = self.products(deal) or [None]
        return (
            products
            if by == "product"
            else sorted({self.held("product", each, by) for each in products}, key=str)
        )

    def products(self, deal: int | None) -> list[int]:
        """Return what the lines of a deal's orders name; else of accepted quotes; else of the newest."""
        known = [each for each in self.rows["line"].values() if each.deleted_at is None]

        def on(link: str, some: Sequence[Row]) -> list[Row]:
            ids = {each.id for each in some}
            return [each for each in known if getattr(each, link) in ids]

        def of_deal(kind: str) -> list[Row]:
            return [
                each
                for each in self.rows[kind].values()
                if deal and each.deal_id == deal and not each.deleted_at
            ]

        quotes = [each for each in of_deal("quote") if on("quote_id", [each])]
        newest = sorted(quotes, key=lambda each: (each.occurred_at, each.id))[-1:]
        ways = (
            on("order_id", of_deal("order")),
            on("quote_id", [each for each in quotes if each.status == "accepted"]),
            on("quote_id", newest),
        )
        self.standing = next((lines for lines in ways if lines), [])
        return sorted({each.product_id for each in self.standing} - {None})

    def parts(self, deal: Row) -> dict[Any, Decimal]:
        """Return the parts of a deal's amount, by product."""
        products = self.products(deal.id)
        if not products:
            return {None: deal.amount}
        worth = dict.fromkeys(products, Decimal(0))
        for line in self.standing:
            if line.product_id is not None and line.unit_price is not None:
                worth[line.product_id] += (
                    line.unit_price * Decimal(line.quantity) * (1 - Decimal(line.discount or 0))
                )
        whole = sum(worth.values())
        return {
            each: deal.amount * (share / whole if whole else Decimal(1) / len(worth))
            for each, share in worth.items()
        }

    def key(self, kind: str, by: str, row: Row) -> Any:
        if kind == "stay" and by != "stage":
            return self.key("deal", by, self.rows["deal"][row.deal_id])
        if kind == "line":
            return self.of_line(by, row)
        ways: dict[str, Callable[[], Any]] = {
            "owner": lambda: self.owner(kind, row),
            "team": lambda: self.held("user", self.owner(kind, row), "team_id"),
            "industry": lambda: self.of_customer(kind, row, by),
            "region": lambda: self.of_customer(kind, row, by),
            "source": lambda: self.through_deal(kind, row, by),
            "campaign": lambda: self.through_deal(kind, row, "campaign_id"),
            "account": lambda: row.account_id,
        }
        return ways[by]() if by in ways else getattr(row, by)

    def held(self, kind: str, key: int | None, name: str) -> Any:
        found = None if key is None else self.rows[kind].get(key)
        return None if found is None else getattr(found, name)

    def of_line(self, by: str, row: Row) -> Any:
        if by == "product":
            return row.product_id
        if by == "family":
            return self.held("product", row.product_id, "family")
        return self.key("order", by, self.rows["order"][row.order_id])

    def owner(self, kind: str, row: Row) -> Any:
        if kind in {"order", "contract", "payment"}:
            seller = self.held("deal", row.deal_id, "owner_id")
            return seller or self.held("account", row.account_id, "owner_id")
        return row.owner_id

    def of_customer(self, kind: str, row: Row, name: str) -> Any:
        if kind == "lead":
            return getattr(row, name)
        own = self.held("account", row.account_id, name)
        return self.held("lead", row.lead_id, name) if own is None and kind == "activity" else own

    def through_deal(self, kind: str, row: Row, name: str) -> Any:
        if kind in {"lead", "deal"}:
            return getattr(row, name)
        own = self.held("deal", row.deal_id, name)
        return self.held("lead", row.lead_id, name) if own is None and kind == "activity" else own


def counted(world: World, subject: str, by: str) -> dict[Any, Any]:
    """Return how many rows a report says stand behind each key."""
    report = ask(world.store, world.user, world.clock.now(), FIRST[subject], rows=by)
    found: Counter[Any] = Counter()
    for (row, _), figure in report.cells.items():
        found[row] += figure.count
    return dict(found)


def test_every_dimension_of_every_subject_is_what_a_walk_over_the_rows_finds(world: World) -> None:
    rows = world.rows()
    walk, seen = Walk(rows), set()
    lines = [each for each in rows["line"] if each.order_id and each.unit_price is not None]
    payments = [each for each in rows["payment"] if each.paid_at]
    sent = [each for each in rows["quote"] if each.sent_at]
    for name, subject in SUBJECTS.items():
        counts = {"payment": payments, "line": lines, "quote": sent}.get(name, rows[name])
        for by in subject.dimensions:
            expected = Counter(key for each in counts for key in walk.keys(name, by, each))
            assert counted(world, name, by) == dict(expected), (name, by)
            seen.add(by)
    assert seen == set(DIMENSIONS) - set(PERIODS)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_amounts_are_divided_over_the_products_of_a_deal_and_the_total_has_each_deal_once(
    world: World,
) -> None:
    world.correct()
    for _ in range(9):
        world.go_on()
    rows = world.rows()
    walk, parts, won = Walk(rows), defaultdict[Any, list[Decimal]](list), list[Row]()
    for deal in rows["deal"]:
        if deal.status == "won" and deal.deleted_at is None and deal.amount is not None:
            won.append(deal)
            for product, part in walk.parts(deal).items():
                parts[deal.currency, product].append(part)
    assert sum(map(len, parts.values())) > len(won) > 5
    keys = {product for _, product in parts}
    assert None in keys
    assert len(keys) > 2
    asked = ("won_amount", "average_deal", "deals_won", "win_rate", "cycle_days")
    report = ask(world.store, world.user, world.clock.now(), *asked, rows="product")
    tiny = Decimal("0.002")
    for (row, series), figure in report.cells.items():
        some = parts[series.currency, row]
        if series.measure == "won_amount":
            assert abs(figure.value - sum(some)) < tiny
        if series.measure == "average_deal":
            assert (abs(figure.value - sum(some) / len(some)) < tiny, figure.count) == (True, len(some))
    for series, total in report.totals.items():
        column = [figure for (_, each), figure in report.cells.items() if each == series]
        if series.measure == "won_amount":  # to the last ten-thousandth: nothing is lost between products
            alike = [each.amount for each in won if each.currency == series.currency]
            assert total.value == sum(figure.value for figure in column) == sum(alike)
        assert total.count <= sum(figure.count for figure in column)
    whole = told(ask(world.store, world.user, world.clock.now(), *asked))
    assert report.totals == whole[3]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_behind_a_bar_of_a_product_are_its_deals(world: World) -> None:
    walk, rows = Walk(world.rows()), world.rows()["deal"]
    question = Question(
        measures=("deals_created",), rows="product", columns="family", as_of=world.clock.now(), **WHOLE
    )
    product = world.products[0]
    with world.store.reading() as session:
        reader = Reader(session, session.get_one(User, world.user.id))
        _, ids = list_behind(reader, question, world.clock.now(), row=str(product.id), column=product.family)
        _, other = list_behind(reader, question, world.clock.now(), row=str(product.id), column="Q")
        _, none = list_behind(reader, question, world.clock.now(), row="")
    assert ids == sorted(each.id for each in rows if product.id in walk.products(each.id))
    assert none == sorted(each.id for each in rows if not walk.products(each.id))
    assert (bool(ids), bool(none), other) == (True, True, [])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_part_of_time_is_what_its_name_says(world: World) -> None:
    leads = world.rows()["lead"]
    part: Mapping[str, Callable[[datetime], str]] = {
        "day": lambda at: at.date().isoformat(),
        "week": lambda at: at.strftime("%G-W%V"),
        "month": lambda at: at.strftime("%Y-%m"),
        "quarter": lambda at: f"{at.year}-Q{(at.month + 2) // 3}",
        "year": lambda at: str(at.year),
    }
    assert set(part) == set(PERIODS)
    for by, of in part.items():
        found = {key: count for key, count in counted(world, "lead", by).items() if count}
        assert found == dict(Counter(of(each.occurred_at) for each in leads)), by


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_leads_disqualified_and_contracts_ended_are_counted(world: World) -> None:
    world.correct()
    rows = [each for each in world.rows()["contract"] if each.ended_at is not None]
    report = ask(world.store, world.user, world.clock.now(), "contracts_ended")
    assert [figure.value for figure in report.totals.values()] == [len(rows)] == [1]
    lost = [each for each in world.rows()["lead"] if each.status == "disqualified" and not each.deleted_at]
    report = ask(world.store, world.user, world.clock.now(), "leads_disqualified", rows="disqualified_reason")
    found = {row: figure.value for (row, _), figure in report.cells.items()}
    assert found == dict(Counter(each.disqualified_reason for each in lost))
    assert found


def test_every_measure_asked_as_of_then_is_what_it_said_then(store: Store, clock: FixedClock) -> None:
    world, said = World(store, clock), []

    def say() -> None:
        for name, subject in SUBJECTS.items():
            measures = [each.name for each in MEASURES.values() if each.subject == name][:8]
            rest = [each.name for each in MEASURES.values() if each.subject == name][8:]
            for asked in filter(None, (measures, rest)):
                for by in {world.any([*subject.dimensions, "week"]), OFTEN.get(name, "month")}:
                    report = told(ask(store, world.user, clock.now(), *asked, rows=by))
                    said.append((clock.now(), tuple(asked), by, report))

    for _ in range(2):
        world.go_on()
        say()
        world.correct()
        say()
    clock.advance(timedelta(days=1))
    assert {measure for _, asked, _, _ in said for measure in asked} == set(MEASURES)
    for as_of, asked, by, before in said:
        assert told(ask(store, world.user, as_of, *asked, rows=by)) == before, (as_of, asked, by)
