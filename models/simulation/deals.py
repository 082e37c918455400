"""Deals: what they are worth, what becomes of them, and what reps write about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.records import DealStatus
from models.simulation import world
from models.simulation.accounts import Accounts
from models.simulation.course import Beginning, Course
from models.simulation.habits import after, in_order, recorded_late
from models.simulation.leads import effects
from models.simulation.people import Ownership, People
from models.simulation.table import Columns, Table, chosen, happened, texts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_PRODUCTS = ("platform", "service plan", "upgrade", "平台", "年度服务", "扩容", "spare parts", "备件")
_LOST = ("price", "competitor", "no decision", "no budget", "timing", "missing feature")
_HOPE = (0.20, 0.40, 0.60, 0.80)
"""What reps write by habit in each stage; it is more than comes true."""
_EARLY, _LATE = 45, 110
"""Days ahead that reps expect a deal to close in when it begins."""


@dataclass(frozen=True, kw_only=True)
class Deals:
    """Deals; `account`, `won_at`, `learned_at` (that it was won): int64[n], NO_INSTANT for not won."""

    table: Table
    course: Course
    ownership: Ownership
    account: Ints
    won_at: Ints
    learned_at: Ints

    def __len__(self) -> int:
        """Return how many there are."""
        return self.account.size


@dataclass(frozen=True, kw_only=True)
class Openings:
    """Deals about to begin: account, instant, and whether the account is a customer; an element each."""

    account: Ints
    at: Ints
    known: Flags


def make_deals(
    rng: np.random.Generator, openings: Openings, accounts: Accounts, people: People, end: int
) -> Deals:
    """Return the deals that begin with `openings`."""
    size = openings.at.size
    rep = people.rep_of(accounts.ownership.owner_at(openings.account, openings.at))
    amount = _amounts(rng, accounts, openings)
    competitor = texts(
        [world.COMPETITORS[at].name for at in chosen(rng, [k.share for k in world.COMPETITORS], size)]
    )
    source = accounts.source[openings.account]
    beginning = Beginning(
        started=openings.at,
        first=np.where(rng.random(size) < 0.3, 2, 0),
        quality=_quality(openings, accounts, source, competitor, amount) + people.skill[rep],
        pace=np.zeros(size),
    )
    course = Course.simulate(rng, world.DEAL, beginning, end)
    over = course.first_arrival("won", "lost")
    until = np.where(happened(over), over, end)
    ownership = people.own(rng, rep, openings.at, until)
    table = Table(columns=_columns(rng, openings, accounts, amount, competitor, source))
    table.columns["owner_id"] = ownership.first
    ownership.note(table)
    won, learned = _note_stages(rng, table, course)
    _note_amounts(rng, table, course, until)
    _note_hopes(rng, table, course, people.skill[rep], until)
    _note_close_dates(rng, table, until)
    return Deals(
        table=table,
        course=course,
        ownership=ownership,
        account=openings.account,
        won_at=won,
        learned_at=learned,
    )


def _amounts(rng: np.random.Generator, accounts: Accounts, openings: Openings) -> Floats:
    employees = accounts.table.columns["employees"][openings.account]
    count = np.array([120.0 if value is None else float(value) for value in employees])
    scale = (count / 120.0) ** 0.25 * np.where(openings.known, 0.75, 1.0)
    amount = world.AMOUNT_MEDIAN * scale * np.exp(rng.normal(0.0, 0.8, count.size))
    return np.round(amount, -2).clip(2_000, 20_000_000)


def _quality(
    openings: Openings,
    accounts: Accounts,
    source: npt.NDArray[np.object_],
    competitor: npt.NDArray[np.object_],
    amount: Floats,
) -> Floats:
    columns = accounts.table.columns
    return (
        world.DEAL_INTERCEPT
        + effects(world.SOURCES, source, "deal")
        + effects(world.COMPETITORS, competitor, "deal")
        + effects(world.INDUSTRIES, columns["industry"][openings.account], "deal")
        + effects(world.REGIONS, columns["region"][openings.account], "deal")
        + world.KNOWN_ACCOUNT * openings.known
        + world.AMOUNT_EFFECT * np.log(amount / world.AMOUNT_MEDIAN)
    )


def _columns(
    rng: np.random.Generator,
    openings: Openings,
    accounts: Accounts,
    amount: Floats,
    competitor: npt.NDArray[np.object_],
    source: npt.NDArray[np.object_],
) -> Columns:
    size = openings.at.size
    product = rng.integers(0, len(_PRODUCTS), size)
    company = accounts.table.columns["name"][openings.account]
    return {
        "name": texts([f"{name}: {_PRODUCTS[one]}" for name, one in zip(company, product, strict=True)]),
        "account_id": openings.account,
        "amount": amount.copy(),
        "currency": texts(["CNY"] * size),
        "source": source,
        "status": texts([DealStatus.OPEN.value] * size),
        "custom": texts([{"competitor": one} if one else None for one in competitor]),
        "occurred_at": openings.at,
        "recorded_at": openings.at,
    }


def _note_stages(rng: np.random.Generator, table: Table, course: Course) -> tuple[Ints, Ints]:
    """Note stages and closings; return when each deal was won and when that was written down."""
    stage = np.array([*(name for name in world.STAGES for _ in range(2)), "contract", ""], dtype=object)
    table.columns["stage"] = stage[course.beginning.first]
    deal, at, state = course.jump_entity, course.jump_at, course.jump_state
    learned = in_order(deal, recorded_late(rng, at, share=0.12, days=3.0))
    first = np.append(True, deal[1:] != deal[:-1])[: deal.size]
    before = np.where(first, course.beginning.first[deal], np.append(0, state[:-1])[: deal.size])
    lost, won = state == course.chain.index("lost"), state == course.chain.index("won")
    moved = np.flatnonzero((stage[state] != stage[before]) & ~lost)
    table.edit("stage", deal[moved], stage[state[moved]], at[moved], learned[moved])
    _note_closings(rng, table, deal, at, learned, lost, won)
    won_at, learned_at = np.full(len(table), NO_INSTANT), np.full(len(table), NO_INSTANT)
    won_at[deal[won]], learned_at[deal[won]] = at[won], learned[won]
    return won_at, learned_at


def _note_closings(
    rng: np.random.Generator, table: Table, deal: Ints, at: Ints, learned: Ints, lost: Flags, won: Flags
) -> None:
    closed = np.flatnonzero(lost | won)
    outcome = np.where(won[closed], DealStatus.WON.value, DealStatus.LOST.value).astype(object)
    table.edit("status", deal[closed], outcome, at[closed], learned[closed])
    table.edit("closed_at", deal[closed], at[closed], at[closed], learned[closed])
    told = np.flatnonzero(lost & (rng.random(lost.size) < 0.85))
    reason = texts([_LOST[one] for one in rng.integers(0, len(_LOST), told.size)])
    table.edit("lost_reason", deal[told], reason, at[told], learned[told])
    sold = np.flatnonzero(won)
    paid = after(rng, learned[sold] + 14 * DAY, 30.0)
    table.edit("stage", deal[sold], texts(["paid"] * sold.size), paid, paid)


def _note_amounts(rng: np.random.Generator, table: Table, course: Course, until: Ints) -> None:
    """Let the amount follow the proposal and the haggling, and let some be typed wrong at first."""
    amount = table.columns["amount"].copy()
    wrong = np.flatnonzero(rng.random(amount.size) < 0.012)
    at = after(rng, course.beginning.started[wrong], 4.0)
    wrong, at = wrong[at < until[wrong]], at[at < until[wrong]]
    table.columns["amount"][wrong] *= 10
    table.edit("amount", wrong, amount[wrong], at, at)
    proposal = np.isin(course.jump_state, _states("proposal"))
    haggling = np.isin(course.jump_state, _states("negotiation"))
    for entering, spread, shift, share in ((proposal, 0.15, 0.0, 0.6), (haggling, 0.04, -0.06, 0.5)):
        rows = _first_of_each(course.jump_entity, np.flatnonzero(entering))
        rows = rows[rng.random(rows.size) < share]
        deal = course.jump_entity[rows]
        amount[deal] = np.round(amount[deal] * np.exp(rng.normal(shift, spread, deal.size)), -2).clip(1_000)
        # Not before a wrong figure was put right.
        at = np.maximum(course.jump_at[rows] + DAY // 8, course.beginning.started[deal] + 7 * DAY)
        seen = at < until[deal]
        table.edit("amount", deal[seen], amount[deal[seen]], at[seen], at[seen])


def _states(stage: str) -> list[int]:
    return [world.DEAL.index(world.moving(stage)), world.DEAL.index(world.stalled(stage))]


def _first_of_each(entity: Ints, rows: Ints) -> Ints:
    """Return those of the ascending `rows` that are the first of their entity."""
    return np.asarray(rows[np.diff(entity[rows], prepend=-1) != 0])


def _note_hopes(rng: np.random.Generator, table: Table, course: Course, skill: Floats, until: Ints) -> None:
    """Let reps write what they believe: mostly a stage's habitual figure, and now and then a doubt."""
    hope = np.repeat(_HOPE, 2)
    optimism = 0.05 + 0.1 * skill
    first = hope[course.beginning.first] + optimism + rng.normal(0.0, 0.07, len(table))
    table.columns["rep_probability"] = blanked_numbers(_rounded(first), rng.random(len(table)) < 0.12)
    open_still = course.jump_state < hope.size
    rows = np.flatnonzero(open_still & (rng.random(open_still.size) < 0.6))
    state, deal = course.jump_state[rows], course.jump_entity[rows]
    doubt = np.where(state % 2 == 1, -0.08, 0.0)
    value = _rounded(hope[state] + optimism[deal] + doubt + rng.normal(0.0, 0.07, rows.size))
    at = course.jump_at[rows] + DAY // 6
    seen = at < until[deal]
    table.edit("rep_probability", deal[seen], texts(value[seen].tolist()), at[seen], at[seen])


def _rounded(probability: Floats) -> Floats:
    return np.asarray(np.round(np.clip(np.round(probability * 20) / 20, 0.05, 0.95), 2), dtype=np.float64)


def blanked_numbers(values: Floats, missing: Flags) -> npt.NDArray[np.object_]:
    """Return numbers as objects, None where `missing`."""
    found = texts(values.tolist())
    found[missing] = None
    return found


def _note_close_dates(rng: np.random.Generator, table: Table, until: Ints) -> None:
    """Let reps expect an early close, and push the date each time it comes near."""
    started = table.columns["occurred_at"]
    expected = started // DAY + rng.integers(_EARLY, _LATE, started.size)
    table.columns["expected_close_on"] = np.where(rng.random(started.size) < 0.04, NO_INSTANT, expected)
    rows = np.flatnonzero(table.columns["expected_close_on"] != NO_INSTANT)
    while rows.size:
        # Some push a little ahead of the date, some when it has passed.
        at = np.maximum(after(rng, (expected[rows] - 6) * DAY, 8.0), started[rows] + DAY)
        still = at < until[rows]
        rows, at = rows[still], at[still]
        expected[rows] += rng.integers(14, 56, rows.size)
        table.edit("expected_close_on", rows, expected[rows].copy(), at, at)
