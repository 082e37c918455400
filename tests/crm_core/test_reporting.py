"""Reports over random histories: against a slow replay, and the same asked then and now of then."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import mean, median
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from crm_core.access import FieldRight, Reader, RoleRight
from crm_core.changes import Change, Source
from crm_core.clock import FixedClock, instant, micros
from crm_core.deals import close_deal, move_deal
from crm_core.errors import AccessDeniedError, FilterError, InvalidValueError, UnknownFieldError
from crm_core.leads import convert_lead
from crm_core.pipelines import DEFAULT_PIPELINE
from crm_core.records import RECORD_TYPES, Activity, Deal, Lead, Line, Payment, Product, Quote, Tag, User
from crm_core.reporting.asking import Question, Report, list_behind, make_report, names_of
from crm_core.reporting.catalogue import DIMENSIONS, MEASURES, PERIODS, shared_dimensions
from crm_core.reporting.intervals import of_mean, of_median, of_share
from crm_core.reporting.periods import Parts, midnight
from crm_core.reporting.retention import retain
from crm_core.saving import keep_segment
from crm_core.store import Store
from tests.conftest import MONDAY
from tests.crm_core.naive_history import NaiveStore
from tests.crm_core.test_random_histories import HISTORIES, Moment, Play, declared  # noqa: F401  a fixture
from tests.factories import (
    make_account,
    make_activity,
    make_contract,
    make_deal,
    make_lead,
    make_order,
    make_team,
    make_ticket,
    make_user,
)

WHOLE = {"since": date(2026, 2, 1), "until": date(2026, 4, 30)}


def ask(store: Store, user: User, as_of: datetime, *measures: str, **more: Any) -> Report:
    """Answer a question about the spring of 2026."""
    question = Question(measures=measures, as_of=as_of, **{**WHOLE, **more})
    with store.reading() as session:
        return make_report(Reader(session, session.get_one(User, user.id)), question, store.clock.now())


def told(report: Report) -> tuple[Any, ...]:
    """Return what a report says, to be compared."""
    return report.rows, report.series, report.cells, report.totals


def admin(store: Store) -> User:
    with store.transaction() as transaction:
        return make_user(transaction, f"Adam{uuid4()}", role="admin")


QUESTIONS: list[dict[str, Any]] = [
    {"measures": ("leads_created", "leads_converted", "lead_conversion"), "rows": "region"},
    {"measures": ("leads_created",), "rows": "owner", "filters": ("region:eq:North", "custom.tier:ne:gold")},
    {"measures": ("deals_created", "deals_won", "win_rate", "won_amount", "average_deal"), "rows": "owner"},
    {"measures": ("won_amount",), "rows": "region", "columns": "week", "filters": ("amount:ge:2",)},
    {"measures": ("open_deals", "open_pipeline"), "rows": "stage"},
    {"measures": ("stage_entries", "stage_conversion", "stage_days"), "rows": "stage"},
    {"measures": ("open_pipeline",), "rows": "week", "columns": "region"},
]


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(histories=st.lists(HISTORIES, min_size=2, max_size=2))
@pytest.mark.timeout(600)
def test_a_report_asked_then_is_the_report_asked_later_as_of_then(
    declared: Store,  # noqa: F811  the fixture
    clock: FixedClock,
    histories: list[list[Moment]],
) -> None:
    user = admin(declared)
    said: list[tuple[datetime, dict[str, Any], Any]] = []
    for history in histories:
        play = Play(declared, clock)
        play.begin()
        for moment in history:
            clock.advance(timedelta(seconds=moment.wait))
            play.play_one(replace(moment, imported=False))
            asked = QUESTIONS[len(said) % len(QUESTIONS)]
            said.append(
                (
                    clock.now(),
                    asked,
                    told(ask(declared, user, clock.now(), *asked["measures"], **rest(asked))),
                )
            )
            clock.advance(timedelta(seconds=1))
    clock.advance(timedelta(days=1))
    for as_of, asked, before in said:
        assert told(ask(declared, user, as_of, *asked["measures"], **rest(asked))) == before, (as_of, asked)


def rest(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name != "measures"}


# ---------------------------------------------------------------- a slow replay


def naive_states(plays: Iterable[Play], kind: str, at: int) -> list[tuple[NaiveStore, int, dict[str, Any]]]:
    """Return the records of a type that were known at an instant, with when each began."""
    return [
        (play.naive, record.happened, state)
        for play in plays
        for (each, _), record in play.naive.records.items()
        if each == kind and (state := record.state(at)) is not None
    ]


def naive_region(naive: NaiveStore, account_id: int | None, at: int) -> Any:
    record = None if account_id is None else naive.records[("account", account_id)]
    state = None if record is None else record.state(at)
    return None if state is None else state.get("region")


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(histories=st.lists(HISTORIES, min_size=3, max_size=3))
@pytest.mark.timeout(600)
def test_reports_of_any_instant_are_what_a_slow_replay_counts(
    declared: Store,  # noqa: F811  the fixture
    clock: FixedClock,
    histories: list[list[Moment]],
) -> None:
    user = admin(declared)
    with declared.transaction() as transaction:  # what was played before is another example's
        for model in ("lead", "deal"):
            delete_all(transaction, model)
    plays = [Play(declared, clock) for _ in histories]
    for play, history in zip(plays, histories, strict=True):
        play.play(history)
    clock.advance(timedelta(days=1))
    instants = sorted({at for play in plays for at in play.naive.instants()})
    for at in instants[:: max(1, len(instants) // 4)]:
        check_against_replay(declared, user, plays, at)


def delete_all(transaction: Any, record_type: str) -> None:
    model = RECORD_TYPES[record_type]
    # Not as a deletion of now: as if they had never been.
    transaction.session.execute(update(model).values(deleted_at=MONDAY - timedelta(days=30)))


def check_against_replay(store: Store, user: User, plays: list[Play], at: int) -> None:
    as_of = instant(at)
    leads = Counter(state.get("region") for _, _, state in naive_states(plays, "lead", at))
    report = ask(store, user, as_of, "leads_created", rows="region")
    assert {row: figure.value for (row, _), figure in report.cells.items()} == dict(leads)

    deals = naive_states(plays, "deal", at)
    closed: dict[Any, list[str]] = defaultdict(list)
    won: Counter[Any] = Counter()
    for naive, _, state in deals:
        if state["status"] != "open" and state["closed_at"] <= at:
            region = naive_region(naive, state.get("account_id"), at)
            closed[region].append(state["status"])
            if state["status"] == "won" and state["amount"] is not None:
                won[region] += state["amount"]
    report = ask(store, user, as_of, "win_rate", "won_amount", rows="region")
    rates = {
        row: (figure.value, figure.count)
        for (row, series), figure in report.cells.items()
        if series.measure == "win_rate"
    }
    assert rates == {
        region: (words.count("won") / len(words), len(words)) for region, words in closed.items()
    }
    sums = {
        row: figure.value for (row, series), figure in report.cells.items() if series.measure == "won_amount"
    }
    assert sums == {region: Decimal(units) / 10_000 for region, units in won.items()} | {
        region: Decimal(0) for region in sums.keys() - won.keys()
    }

    still = Counter(
        state["owner_id"]
        for _, _, state in deals
        if (state["amount"] or 0) >= 20_000 and (state["status"] == "open" or state["closed_at"] > at)
    )
    report = ask(store, user, as_of, "open_deals", rows="owner", filters=("amount:ge:2",))
    assert {row: figure.value for (row, _), figure in report.cells.items()} == dict(still)


# ---------------------------------------------------------------- every measure, from the raw rows


@pytest.fixture
def company(store: Store, clock: FixedClock) -> User:
    """Forty days of a company in which everything happens by chance."""
    dice = random.Random(7)
    user = admin(store)
    with store.transaction() as transaction:
        teams = [make_team(transaction, name=name) for name in ("North", "South")]
        people = [
            make_user(transaction, name, team_id=dice.choice(teams).id) for name in ("Ana", "Ben", "Cai")
        ]
        accounts = [
            make_account(
                transaction,
                name=f"A{number}",
                industry=dice.choice(["steel", "food", None]),
                owner_id=dice.choice(people).id,
            )
            for number in range(6)
        ]
        products = [transaction.create(Product(name=name, family="pumps")) for name in ("P1", "P2")]
    for _ in range(10):
        clock.advance(timedelta(days=4))
        with store.transaction() as transaction:
            happen(transaction, dice, people, accounts, products)
    return user


def happen(transaction: Any, dice: random.Random, people: Any, accounts: Any, products: Any) -> None:
    """What happens on two days."""
    now: datetime = transaction.now
    for _ in range(dice.randint(1, 3)):
        account, person = dice.choice(accounts), dice.choice(people)
        mine: dict[str, Any] = {"account_id": account.id}
        currency = dice.choice(["EUR", "CNY"])
        deal = make_deal(
            transaction,
            **mine,
            owner_id=person.id,
            currency=currency,
            amount=Decimal(dice.randint(1, 90_000)) / 4,
            occurred_at=now - timedelta(days=dice.randint(0, 9)),
        )
        for stage in dice.sample(["needs", "proposal", "negotiation", "first_contact"], 2):
            move_deal(
                transaction,
                deal,
                stage,
                occurred_at=now - timedelta(hours=dice.randint(0, 30)),
                as_it_was=True,
            )
        if dice.random() < 0.7:
            close_deal(transaction, deal, won=dice.random() < 0.5)
        order = make_order(transaction, **mine, deal_id=dice.choice([deal.id, None]), currency=currency)
        transaction.create(
            Line(
                order_id=order.id,
                product_id=dice.choice(products).id,
                quantity=dice.randint(1, 5),
                unit_price=Decimal("9.99"),
                discount=dice.choice([None, 0.25]),
            )
        )
        make_contract(transaction, **mine, currency=currency, occurred_at=now - timedelta(days=1))
        due = (now + timedelta(days=dice.randint(-20, 20))).date()
        paid = dice.choice([None, now - timedelta(hours=3)])
        transaction.create(
            Payment(
                **mine,
                deal_id=deal.id,
                amount=Decimal(dice.randint(1, 999)),
                currency=currency,
                due_on=due,
                paid_at=paid,
            )
        )
        status = dice.choice(["draft", "sent", "accepted", "rejected"])
        decided = now if status in {"accepted", "rejected"} else None
        transaction.create(
            Quote(**mine, owner_id=person.id, number="Q", status=status, sent_at=now, decided_at=decided)
        )
        ticket = make_ticket(transaction, **mine, owner_id=person.id, priority=dice.choice(["low", "high"]))
        make_activity(
            transaction,
            owner_id=person.id,
            direction=dice.choice(["inbound", "outbound"]),
            kind=dice.choice(["call", "note"]),
            **mine,
        )
        if dice.random() < 0.6:
            transaction.update(
                ticket,
                {"status": "closed", "closed_at": now, "satisfaction": dice.choice([None, 1, 4, 5])},
            )
        lead = make_lead(transaction, owner_id=person.id, source=dice.choice(["web", "fair"]))
        if dice.random() < 0.4:
            convert_lead(transaction, lead)


def test_every_measure_is_what_a_loop_over_the_raw_rows_counts(  # noqa: PLR0915  one line a measure
    store: Store, clock: FixedClock, company: User
) -> None:
    with store.reading() as session:
        rows: dict[str, Sequence[Any]] = {
            name: session.scalars(select(model)).all() for name, model in RECORD_TYPES.items()
        }
        stays = naive_stays(session, rows["deal"])
        session.expunge_all()
    accounts = {each.id: each for each in rows["account"]}
    deals = {each.id: each for each in rows["deal"]}
    orders = {each.id: each for each in rows["order"]}
    now = clock.now()

    def industry(each: Any) -> Any:
        return accounts[each.account_id].industry if each.account_id else None

    def seller(each: Any) -> Any:
        return deals[each.deal_id].owner_id if each.deal_id else accounts[each.account_id].owner_id

    def own(each: Any) -> Any:
        return each.owner_id

    def days(each: Any) -> float:
        return float((each.closed_at - each.occurred_at) / timedelta(days=1))

    won = [each for each in rows["deal"] if each.status == "won"]
    lost = [each for each in rows["deal"] if each.status == "lost"]
    still = [each for each in rows["deal"] if each.status == "open"]
    solved = [each for each in rows["ticket"] if each.status == "closed"]
    paid = [each for each in rows["payment"] if each.paid_at]
    late = [
        each
        for each in rows["payment"]
        if not each.paid_at and each.due_on < date(2026, 4, 30) and each.due_on < now.date()
    ]
    decided = [each for each in rows["quote"] if each.decided_at]
    ended = [stay for stay in stays if stay.left is not None]
    converted = [each for each in rows["lead"] if each.status == "converted"]

    check = Checking(store, company)
    check.counts("leads_created", "owner", rows["lead"], own)
    check.counts("leads_converted", "source", converted, lambda each: each.source)
    check.counts("activities", "owner", rows["activity"], own)
    ours = [each for each in rows["activity"] if each.kind == "call" and each.direction == "outbound"]
    check.counts("follow_ups", "owner", ours, own)
    check.counts("deals_created", "industry", rows["deal"], industry)
    check.counts("deals_won", "industry", won, industry)
    check.counts("deals_lost", "owner", lost, own)
    check.counts("open_deals", "stage", still, lambda each: each.stage)
    check.sums("won_amount", "industry", won, industry)
    check.sums("lost_amount", "owner", lost, own)
    check.sums("open_pipeline", "owner", still, own)
    check.shares("win_rate", "owner", [*won, *lost], own, lambda each: each.status == "won")
    check.middles("cycle_days", "owner", won, own, days, median)
    check.means("average_deal", "industry", won, industry)
    check.counts("stage_entries", "stage", stays, lambda stay: stay.stage)
    check.shares("stage_conversion", "stage", ended, lambda stay: stay.stage, lambda stay: stay.went == "on")
    check.middles(
        "stage_days",
        "stage",
        ended,
        lambda s: s.stage,
        lambda s: (s.left - s.entered) / timedelta(days=1),
        median,
    )
    check.counts("quotes_sent", "owner", rows["quote"], own)
    check.shares("quote_acceptance", "owner", decided, own, lambda each: each.status == "accepted")
    check.counts("orders_placed", "owner", rows["order"], seller)
    check.sums("order_amount", "owner", rows["order"], seller)
    check.counts("contracts_signed", "industry", rows["contract"], industry)
    check.sums("contract_value", "industry", rows["contract"], industry, amount=lambda each: each.value)
    check.sums("payments_received", "owner", paid, seller)
    check.sums("payments_due", "owner", [each for each in rows["payment"] if each.due_on], seller)
    check.sums("payments_overdue", "industry", late, industry)
    check.counts("tickets_opened", "priority", rows["ticket"], lambda each: each.priority)
    check.counts("tickets_solved", "industry", solved, industry)
    check.counts("open_tickets", "owner", [each for each in rows["ticket"] if each.status != "closed"], own)
    check.middles("solution_hours", "owner", solved, own, lambda each: days(each) * 24, median)
    said = [each for each in solved if each.satisfaction is not None]
    check.middles("satisfaction", "owner", said, own, lambda each: each.satisfaction, mean)
    check.sums(
        "product_sales",
        "product",
        rows["line"],
        lambda each: each.product_id,
        amount=lambda each: each.unit_price * Decimal(each.quantity) * (1 - Decimal(each.discount or 0)),
        currency=lambda each: orders[each.order_id].currency,
    )
    unchecked = {"lead_conversion", "leads_disqualified", "contracts_ended", "first_response_hours"}
    assert set(MEASURES) - check.done == unchecked


@dataclass(frozen=True)
class Stay:
    stage: str
    entered: datetime
    left: datetime | None
    went: str | None
    deal_id: int


def naive_stays(session: Any, deals: Iterable[Any]) -> list[Stay]:
    """Go through each deal's moves one by one."""
    order = [stage.key for stage in DEFAULT_PIPELINE]
    found = []
    for deal in deals:
        moves = session.scalars(
            select(Change)
            .where(Change.record_type == "deal", Change.record_id == deal.id, Change.field == "stage")
            .order_by(Change.id)
        ).all()
        at: dict[datetime, str] = {deal.occurred_at: moves[0].old if moves else deal.stage}
        for move in sorted(moves, key=lambda move: (move.occurred_at, move.recorded_at, move.id)):
            at[max(move.occurred_at, deal.occurred_at)] = move.new
        entries: list[tuple[datetime, str]] = []
        for when, stage in sorted(at.items()):
            if not entries or entries[-1][1] != stage:
                entries.append((when, stage))
        for (entered, stage), after in zip(entries, [*entries[1:], None], strict=True):
            if stage in {"contract", "paid"}:
                continue
            if after is not None:
                on = order.index(after[1]) > order.index(stage)
                found.append(Stay(stage, entered, after[0], "on" if on else "back", deal.id))
            elif deal.status == "open":
                found.append(Stay(stage, entered, None, None, deal.id))
            else:
                went = "on" if deal.status == "won" else "lost"
                found.append(Stay(stage, entered, deal.closed_at, went, deal.id))
    return found


Of = Callable[[Any], Any]


@dataclass
class Checking:
    """Asks reports and counts the same in loops."""

    store: Store
    user: User
    done: set[str] = field(default_factory=set)

    def cells(self, measure: str, by: str) -> dict[Any, Any]:
        self.done.add(measure)
        report = ask(self.store, self.user, self.store.clock.now(), measure, rows=by)
        return {(row, series.currency): figure for (row, series), figure in report.cells.items()}

    def counts(self, measure: str, by: str, rows: Iterable[Any], of: Of) -> None:
        found = {row: figure.value for (row, _), figure in self.cells(measure, by).items()}
        assert found, measure
        assert found == dict(Counter(map(of, rows))), measure

    def sums(
        self,
        measure: str,
        by: str,
        rows: Iterable[Any],
        of: Of,
        amount: Of = lambda each: each.amount,
        currency: Of = lambda each: each.currency,
    ) -> None:
        expected: dict[Any, Decimal] = defaultdict(Decimal)
        for each in rows:
            expected[of(each), currency(each)] += round(amount(each) * 10_000) / Decimal(10_000)
        found = {key: figure.value for key, figure in self.cells(measure, by).items()}
        assert found, measure
        assert found == dict(expected), measure

    def means(self, measure: str, by: str, rows: Iterable[Any], of: Of) -> None:
        groups: dict[Any, list[float]] = defaultdict(list)
        for each in rows:
            groups[of(each), each.currency].append(float(each.amount))
        for key, figure in self.cells(measure, by).items():
            values = groups.pop(key)
            assert float(figure.value) == pytest.approx(mean(values), abs=1e-4), measure
            assert figure.low is None or figure.low <= mean(values) <= figure.high
        assert not groups

    def shares(self, measure: str, by: str, rows: Iterable[Any], of: Of, hit: Of) -> None:
        groups: dict[Any, list[bool]] = defaultdict(list)
        for each in rows:
            groups[of(each)].append(hit(each))
        found = {row: figure for (row, _), figure in self.cells(measure, by).items()}
        assert {row: (figure.value, figure.count) for row, figure in found.items()} == {
            row: (sum(hits) / len(hits), len(hits)) for row, hits in groups.items()
        }, measure
        assert all(
            (figure.low, figure.high) == of_share(round(figure.value * figure.count), figure.count)
            for figure in found.values()
        )

    def middles(self, measure: str, by: str, rows: Iterable[Any], of: Of, value: Of, middle: Of) -> None:
        groups: dict[Any, list[float]] = defaultdict(list)
        for each in rows:
            groups[of(each)].append(float(value(each)))
        found = {row: figure.value for (row, _), figure in self.cells(measure, by).items()}
        assert found, measure
        assert found == pytest.approx({row: middle(values) for row, values in groups.items()}), measure


def test_parts_join_to_the_whole_records_stand_behind_figures_and_all_dimensions_can_be_asked(
    store: Store, company: User, clock: FixedClock
) -> None:
    check_parts(store, company, clock)
    check_behind(store, company, clock)
    check_dimensions(store, company, clock)


def check_parts(store: Store, company: User, clock: FixedClock) -> None:
    for measure, columns in (("activities", "kind"), ("deals_won", "owner"), ("won_amount", "industry")):
        report = ask(store, company, clock.now(), measure, rows="week", columns=columns)
        whole = ask(store, company, clock.now(), measure)
        by_currency: dict[Any, Any] = defaultdict(Decimal)
        for (_, series), figure in report.cells.items():
            by_currency[series.currency] += Decimal(figure.value or 0)
        assert dict(by_currency) == {each.currency: Decimal(f.value or 0) for each, f in whole.totals.items()}


def check_behind(store: Store, company: User, clock: FixedClock) -> None:
    report = ask(store, company, clock.now(), "follow_ups", rows="owner", columns="week")
    assert report.cells
    with store.reading() as session:
        reader = Reader(session, session.get_one(User, company.id))
        for (row, series), figure in report.cells.items():
            asked = list_behind(reader, report.question, clock.now(), row=row, column=series.column)
            assert (asked[0], len(asked[1])) == (Activity, figure.count)


def test_the_first_answer_is_our_first_turn_to_the_customer_about_a_ticket(
    store: Store, clock: FixedClock
) -> None:
    user = admin(store)
    with store.transaction() as transaction:
        ticket = make_ticket(transaction, account_id=make_account(transaction).id)
        about = {"subject_type": "ticket", "subject_id": ticket.id}
        clock.advance(timedelta(hours=5))
    for hours, direction in ((1, "inbound"), (1, "outbound"), (4, "outbound")):
        clock.advance(timedelta(hours=hours))
        with store.transaction() as transaction:
            transaction.create(Activity(kind="mail", direction=direction, **about))
    report = ask(store, user, clock.now(), "first_response_hours")
    assert [figure.value for figure in report.totals.values()] == [7.0]


def test_a_share_within_ninety_days_is_of_those_that_are_as_old(store: Store, clock: FixedClock) -> None:
    user = admin(store)
    with store.transaction() as transaction:
        quick, slow, never = (make_lead(transaction) for _ in range(3))
    clock.advance(timedelta(days=10))
    with store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, quick.id))
    clock.advance(timedelta(days=70))
    asked = {"since": date(2026, 1, 1), "until": date(2026, 12, 31)}
    assert ask(store, user, clock.now(), "lead_conversion", **asked).totals == {}
    clock.advance(timedelta(days=15))
    with store.transaction() as transaction:
        convert_lead(transaction, transaction.get(Lead, slow.id))
        make_lead(transaction)
    (figure,) = ask(store, user, clock.now(), "lead_conversion", **asked).totals.values()
    assert figure.value == pytest.approx(1 / 3)
    assert figure.count == 3
    assert never.id


def test_a_cohort_keeps_whoever_buys_or_is_bound_and_counts_no_quarter_that_is_not_over(
    store: Store, clock: FixedClock
) -> None:
    user = admin(store)
    buyer, bound, gone = (0, 0, 0)
    with store.transaction(source=Source.IMPORT) as transaction:
        buyer, bound, gone = (make_account(transaction, name=name).id for name in ("buyer", "bound", "gone"))

        def then(year: int, month: int) -> dict[str, Any]:
            at = datetime(year, month, 15, tzinfo=UTC)
            return {"occurred_at": at, "recorded_at": at}

        for account in (buyer, gone):
            make_order(transaction, account_id=account, **then(2025, 2))
        make_order(transaction, account_id=buyer, **then(2025, 8))
        make_contract(
            transaction,
            account_id=bound,
            starts_on=date(2025, 3, 1),
            ends_on=date(2025, 9, 30),
            **then(2025, 2),
        )
    with store.reading() as session:
        reader = Reader(session, session.get_one(User, user.id))
        now = retain(reader, clock.now(), clock.now(), "UTC")
        then_known = retain(reader, datetime(2025, 8, 1, tzinfo=UTC), clock.now(), "UTC")
    (cohort,) = now.cohorts
    assert (cohort.key, cohort.customers) == ("2025-Q1", 3)
    # Second quarter: under contract; third: an order and the contract to its last day; fourth: nobody.
    assert [figure.value for figure in cohort.kept] == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert then_known.cohorts == []  # the accounts themselves were not known then


# ---------------------------------------------------------------- rights, periods, intervals


def test_nobody_is_told_a_hidden_field_by_a_measure_a_dimension_or_a_filter(store: Store) -> None:
    with store.transaction() as transaction:
        rep = make_user(transaction, "Rae")
        for record_type, name in (("deal", "amount"), ("account", "industry")):
            hidden = {"role": "rep", "record_type": record_type, "field": name}
            transaction.session.add(FieldRight(**hidden, read=False, write=False))
        transaction.session.add(RoleRight(role="rep", record_type="ticket", read="none", write="none"))
    now = store.clock.now()
    for measure, more in (
        ("won_amount", {}),
        ("deals_won", {"rows": "industry"}),
        ("deals_won", {"filters": ("amount:ge:1",)}),
        ("tickets_opened", {}),
    ):
        with pytest.raises(AccessDeniedError):
            ask(store, rep, now, measure, **more)


def test_a_reader_counts_what_is_theirs(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        team = make_team(transaction)
        ana = make_user(transaction, "Ana", team_id=team.id)
        ben = make_user(transaction, "Ben", team_id=team.id)
        mara = make_user(transaction, "Mara", role="manager", team_id=team.id)
        otto = make_user(transaction, "Otto")
        for owner, count in ((ana, 1), (ben, 2), (otto, 4)):
            for _ in range(count):
                make_deal(transaction, owner_id=owner.id)
                make_activity(transaction, owner_id=owner.id, lead_id=make_lead(transaction).id)
    for user, expected in ((ana, 1), (mara, 3), (otto, 4)):
        for measure in ("deals_created", "follow_ups"):
            (figure,) = ask(store, user, clock.now(), measure).totals.values()
            assert figure.value == expected, (user.name, measure)
    with store.transaction() as transaction:  # somebody else's call about what is hers counts for them
        lead = make_lead(transaction, owner_id=ana.id)
        for owner in (ana, otto):
            make_activity(transaction, owner_id=owner.id, lead_id=lead.id)
    (plain,) = ask(store, ana, clock.now(), "follow_ups").totals.values()
    (filtered,) = ask(store, ana, clock.now(), "follow_ups", filters=("kind:eq:call",)).totals.values()
    assert (plain.value, filtered.value) == (
        2,
        1,
    )  # of what she may see now: her first call was about nobody's


def test_parts_of_time_begin_at_local_midnight_through_both_changes_of_the_clocks() -> None:
    zone = ZoneInfo("Europe/Berlin")
    parts = Parts(span="day", since=date(2026, 3, 28), until=date(2026, 3, 30), zone=zone)
    hours = [(high - low) / 3_600_000_000 for low, high in parts.bounds]
    assert hours == [24, 23, 24]
    assert (
        parts.starts[0] == midnight(date(2026, 3, 28), zone) == micros(datetime(2026, 3, 27, 23, tzinfo=UTC))
    )
    weeks = Parts(span="week", since=date(2025, 12, 30), until=date(2026, 1, 6), zone=zone)
    assert weeks.keys == ["2026-W01", "2026-W02"]
    quarters = Parts(span="quarter", since=date(2025, 11, 5), until=date(2026, 4, 1), zone=zone)
    assert quarters.keys == ["2025-Q4", "2026-Q1", "2026-Q2"]


def test_a_payment_is_late_from_the_midnight_after_though_its_day_had_25_hours(
    store: Store, clock: FixedClock
) -> None:
    long_day = date(2025, 10, 26)
    with store.transaction() as transaction:
        account = make_account(transaction)
        transaction.create(Payment(account_id=account.id, amount=Decimal(5), currency="EUR", due_on=long_day))
    report = ask(
        store,
        admin(store),
        clock.now(),
        "payments_overdue",
        rows="day",
        since=long_day,
        until=date(2025, 10, 27),
        zone="Europe/Berlin",
    )
    assert [row for row, _ in report.cells] == ["2025-10-27"]


def test_behind_a_total_stand_the_records_that_it_is_of(store: Store, clock: FixedClock) -> None:
    """Of a stock by months those at its end, of an amount those in its currency."""
    with store.transaction() as transaction:
        for number in range(3):
            deal = make_deal(transaction, amount=Decimal(1), currency="EUR" if number else "CNY")
    clock.advance(timedelta(days=40))
    with store.transaction() as transaction:
        close_deal(transaction, transaction.get(Deal, deal.id), won=False)
    report = ask(store, admin(store), clock.now(), "open_pipeline", rows="month")
    with store.reading() as session:
        reader = Reader(session, session.scalars(select(User).where(User.role == "admin")).one())
        for series, figure in report.totals.items():
            _, ids = list_behind(reader, report.question, clock.now(), currency=series.currency)
            assert len(ids) == figure.count == 1, series


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    dice = np.random.default_rng(3)
    held_mean, held_median, rounds = 0, 0, 600
    for _ in range(rounds):
        low, high = of_mean(dice.normal(5, 2, 9)) or (0.0, 0.0)
        held_mean += low <= 5 <= high
        low, high = of_median(dice.exponential(1, 25)) or (0.0, 0.0)
        held_median += low <= np.log(2) <= high
    assert 0.92 < held_mean / rounds < 0.98
    assert held_median / rounds > 0.94  # between two values: it holds a little more than it says
    assert of_median(np.arange(5.0)) is None
    assert of_mean(np.array([1.0])) is None
    assert of_mean(np.array([100.0, 900.0]), (0, np.inf)) == pytest.approx((0, 500 + 12.7062 * 400))
    assert of_mean(np.array([5.0, 4.0]), (1, 5)) == (1, 5)


def check_dimensions(store: Store, company: User, clock: FixedClock) -> None:
    for name in MEASURES:
        for by in (each for each in shared_dimensions([name]) if each not in PERIODS):
            report = ask(store, company, clock.now(), name, rows=by)
            assert set(names(store, company, by, report)) <= set(report.rows)
    assert {each for name in MEASURES for each in shared_dimensions([name])} == set(DIMENSIONS)


def names(store: Store, user: User, by: str, report: Report) -> dict[Any, str]:
    with store.reading() as session:
        return names_of(Reader(session, session.get_one(User, user.id)), by, report.rows)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"measures": ()}, "measures"),
        ({"measures": ("deals_won", "deals_won")}, "once"),
        ({"rows": "nothing"}, "one of"),
        ({"rows": "owner", "columns": "owner"}, "something else"),
        ({"since": date(2026, 5, 1), "until": date(2026, 4, 1)}, "a day from"),
        ({"as_of": MONDAY + timedelta(days=1)}, "not in the future"),
        ({"since": date(1890, 1, 1)}, "days from"),
        ({"rows": "day", "since": date(2020, 1, 1)}, "parts of time"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(asked: dict[str, Any], expected: str) -> None:
    usual: dict[str, Any] = {"measures": ("deals_won",), "as_of": MONDAY, **WHOLE}
    with pytest.raises(InvalidValueError, match=expected):
        Question(**{**usual, **asked}).check(MONDAY)


def test_an_activity_that_was_given_to_somebody_else_is_counted_as_it_was_known(
    store: Store, clock: FixedClock
) -> None:
    user = admin(store)
    with store.transaction() as transaction:
        ana, ben = (make_user(transaction, name) for name in ("Ana", "Ben"))
        lead = make_lead(transaction)
        call, gone = (make_activity(transaction, owner_id=ana.id, lead_id=lead.id) for _ in range(2))
    before = clock.now()
    said = told(ask(store, user, before, "activities", rows="owner", columns="kind"))
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        transaction.update(transaction.get(Activity, call.id), {"owner_id": ben.id, "kind": "visit"})
        transaction.delete(transaction.get(Activity, gone.id))
    assert told(ask(store, user, before, "activities", rows="owner", columns="kind")) == said
    now = ask(store, user, clock.now(), "activities", rows="owner", columns="kind")
    assert {(row, series.column): figure.value for (row, series), figure in now.cells.items()} == {
        (ben.id, "visit"): 1
    }


def test_segments_and_tags_are_asked_of_what_records_held_then(store: Store, clock: FixedClock) -> None:
    user = admin(store)
    with store.transaction() as transaction:
        north, south = (make_lead(transaction, region=region) for region in ("North", "South"))
        segment = keep_segment(
            transaction, user, "lead", "north", ["region:eq:North"], shared="all", tag="cold"
        )
        tag = transaction.create(Tag(subject_type="lead", subject_id=south.id, word="hot"))
        asked = f"segment:{segment.id}"
    before = clock.now()

    def count(as_of: datetime, *filters: str) -> Any:
        totals = ask(store, user, as_of, "leads_created", filters=filters).totals.values()
        return next((figure.value for figure in totals), 0)

    filters = ((asked,), ("tag:eq:hot",), ("tag:ne:hot",), ("tag:eq:cold",), ("region:contains:orth",))
    said = [count(before, *each) for each in filters]
    assert said == [1, 1, 1, 1, 1]
    clock.advance(timedelta(days=1))
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, north.id), {"region": "West"})
        transaction.delete(transaction.get(Tag, tag.id))
    assert [count(before, *each) for each in filters] == said
    assert [count(clock.now(), *each) for each in filters] == [0, 0, 2, 0, 0]
    for wrong in (("tag:contains:h",), ("segment:x",), ("amount:ge:1",), ("region:ge:1",)):
        with pytest.raises((FilterError, UnknownFieldError)):
            count(before, *wrong)
