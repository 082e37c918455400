"""What happens while somebody is in a state: the only thing by which a state shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.records import ActivityKind, Direction
from models.simulation import world
from models.simulation.accounts import Accounts
from models.simulation.contracts import Contracts
from models.simulation.course import Course, Stays
from models.simulation.deals import Deals
from models.simulation.habits import after, recorded_late
from models.simulation.leads import Leads
from models.simulation.table import NONE, Columns, Table, texts
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_IN, _OUT = Direction.INBOUND, Direction.OUTBOUND


@dataclass(frozen=True, kw_only=True)
class Habit:
    """Something that happens: what it is, how often a working day in each state, and what it is called."""

    name: str
    kind: ActivityKind
    direction: Direction | None
    outcome: str | None
    rates: tuple[float, ...]
    subjects: tuple[str, ...]


def _habits(**rates: tuple[float, ...]) -> tuple[Habit, ...]:
    call, mail = ActivityKind.CALL, ActivityKind.MAIL
    known: dict[str, tuple[ActivityKind, Direction | None, str | None, tuple[str, ...]]] = {
        "no_answer": (call, _OUT, "no answer", ("Call", "Tried to call", "电话未接")),
        "call": (call, _OUT, "connected", ("Call", "电话沟通", "Follow-up call")),
        "called": (call, _IN, "connected", ("Called us", "客户来电")),
        "sent": (mail, _OUT, None, ("Material sent", "跟进邮件", "Following up")),
        "answer": (mail, _IN, None, ("Re: your offer", "回复：方案", "Question about the product")),
        "meeting": (ActivityKind.MEETING, _OUT, "held", ("Meeting", "产品演示", "Demo")),
        "visit": (ActivityKind.VISIT, _OUT, "held", ("Visit", "上门拜访")),
        "web": (ActivityKind.WEB, _IN, None, ("Pricing page", "Documentation", "产品页面")),
        "note": (ActivityKind.NOTE, None, None, ("Note", "备注")),
        "task": (ActivityKind.TASK, None, None, ("Follow up", "待跟进")),
    }
    return tuple(
        Habit(name=name, kind=kind, direction=direction, outcome=outcome, rates=rates[name], subjects=subjects)
        for name, (kind, direction, outcome, subjects) in known.items()
        if name in rates
    )


LEAD_HABITS: Final = _habits(  # new, cold, warm, hot
    no_answer=(0.0, 0.025, 0.015, 0.008),
    call=(0.0, 0.002, 0.075, 0.08),
    called=(0.0, 0.0, 0.02, 0.04),
    sent=(0.0, 0.025, 0.06, 0.06),
    answer=(0.0, 0.001, 0.10, 0.15),
    meeting=(0.0, 0.0, 0.006, 0.10),
    web=(0.02, 0.004, 0.04, 0.26),
    note=(0.0, 0.002, 0.015, 0.03),
    task=(0.0, 0.006, 0.015, 0.02),
)
_DEAL_RATES: Final = {  # moving, stalled
    "no_answer": (0.010, 0.045),
    "call": (0.060, 0.010),
    "called": (0.015, 0.001),
    "sent": (0.060, 0.060),
    "answer": (0.110, 0.006),
    "meeting": (0.070, 0.002),
    "visit": (0.020, 0.0),
    "web": (0.040, 0.004),
    "note": (0.020, 0.006),
    "task": (0.020, 0.015),
}
DEAL_HABITS: Final = _habits(**{name: rates * len(world.STAGES) for name, rates in _DEAL_RATES.items()})
CUSTOMER_HABITS: Final = _habits(  # good, fading, bad
    no_answer=(0.001, 0.006, 0.018),
    call=(0.014, 0.008, 0.004),
    called=(0.008, 0.004, 0.004),
    sent=(0.010, 0.014, 0.018),
    answer=(0.024, 0.009, 0.005),
    meeting=(0.006, 0.002, 0.0005),
    web=(0.014, 0.006, 0.002),
)

@dataclass(frozen=True, kw_only=True)
class Happenings:
    """What happened to whom: int64[n] each; `habit` is a position in the habits that made it."""

    entity: Ints
    habit: Ints
    at: Ints


def happen(rng: np.random.Generator, stays: Stays, rates: npt.NDArray[np.float64]) -> Happenings:
    """Return events at random instants of each stay; `rates`: float64[habits, states], a working day."""
    begin, finish = working_days(stays.start), working_days(stays.stop)
    entity, habit, at = [], [], []
    for position, by_state in enumerate(rates):
        count = rng.poisson(by_state[stays.state] * (finish - begin))
        stay = np.repeat(np.arange(count.size), count)
        when = begin[stay] + rng.random(stay.size) * (finish - begin)[stay]
        entity.append(stays.entity[stay])
        habit.append(np.full(stay.size, position))
        at.append(instants(when))
    return Happenings(
        entity=np.concatenate(entity), habit=np.concatenate(habit), at=np.concatenate(at)
    )


def rates_of(habits: tuple[Habit, ...]) -> Floats:
    """Return how often each of `habits` happens in each state: float64[habits, states]."""
    return np.array([habit.rates for habit in habits])


def signs(
    rng: np.random.Generator, course: Course, stays: Stays, arrivals: dict[str, tuple[int, ...]]
) -> Happenings:
    """Return what happens at the very moment somebody comes into a state: one of the habits given for it."""
    jumped = stays.start != course.beginning.started[stays.entity]
    entity, habit, at = [], [], []
    for state, options in arrivals.items():
        rows = np.flatnonzero(jumped & (stays.state == course.chain.index(state)))
        when = instants(working_days(stays.start[rows]) + rng.uniform(0.001, 0.05, rows.size))
        seen = when < stays.stop[rows]
        entity.append(stays.entity[rows[seen]])
        habit.append(np.take(options, rng.integers(0, len(options), rows.size))[seen])
        at.append(when[seen])
    return Happenings(
        entity=np.concatenate(entity), habit=np.concatenate(habit), at=np.concatenate(at)
    )


def both(one: Happenings, other: Happenings) -> Happenings:
    """Return two sets of happenings as one."""
    return Happenings(
        entity=np.concatenate([one.entity, other.entity]),
        habit=np.concatenate([one.habit, other.habit]),
        at=np.concatenate([one.at, other.at]),
    )


def make_activities(
    rng: np.random.Generator, leads: Leads, deals: Deals, contracts: Contracts, accounts: Accounts, end: int
) -> Table:
    """Return all activities that have been written down by `end`, in the order in which they were."""
    parts = [
        _of_leads(rng, leads, end),
        _of_deals(rng, deals, accounts, end),
        _of_customers(rng, contracts, accounts, end),
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["recorded_at"] = _written_down(rng, columns)
    order = np.argsort(columns["recorded_at"], kind="stable")
    order = order[columns["recorded_at"][order] < end]
    return Table(columns={name: values[order] for name, values in columns.items()})


def _of_leads(rng: np.random.Generator, leads: Leads, end: int) -> Columns:
    stays = leads.course.stays(end)
    happened = both(
        happen(rng, stays, rates_of(LEAD_HABITS)),
        signs(rng, leads.course, stays, {"warm": _find(LEAD_HABITS, "call", "answer"), "hot": _find(LEAD_HABITS, "web", "meeting")}),
    )
    happened = both(happened, _first_touches(rng, leads, stays))
    columns = _columns(rng, LEAD_HABITS, happened)
    columns["lead_id"] = happened.entity
    columns["owner_id"] = leads.ownership.owner_at(happened.entity, happened.at)
    return columns


def _first_touches(rng: np.random.Generator, leads: Leads, stays: Stays) -> Happenings:
    """Return the attempts after which leads were found to be cold; a warm or hot one answers, which is a sign itself."""
    first = np.append(False, stays.entity[1:] == stays.entity[:-1])
    first &= np.append(False, stays.state[:-1] == leads.course.chain.index("new"))
    rows = np.flatnonzero(first & (stays.state == leads.course.chain.index("cold")))
    options = _find(LEAD_HABITS, "no_answer", "no_answer", "sent")
    return Happenings(
        entity=stays.entity[rows],
        habit=np.take(options, rng.integers(0, len(options), rows.size)),
        at=stays.start[rows] + 1,
    )


def _of_deals(rng: np.random.Generator, deals: Deals, accounts: Accounts, end: int) -> Columns:
    stays = deals.course.stays(end)
    signals = {world.moving(stage): _find(DEAL_HABITS, "answer", "meeting", "call") for stage in world.STAGES}
    happened = both(
        happen(rng, stays, rates_of(DEAL_HABITS)), signs(rng, deals.course, stays, signals)
    )
    columns = _columns(rng, DEAL_HABITS, happened)
    account = deals.account[happened.entity]
    columns["deal_id"] = happened.entity
    columns["account_id"] = account
    columns["contact_id"] = accounts.main_contact[account]
    columns["owner_id"] = deals.ownership.owner_at(happened.entity, happened.at)
    return columns


def _of_customers(rng: np.random.Generator, contracts: Contracts, accounts: Accounts, end: int) -> Columns:
    happened = happen(rng, contracts.stays(end), rates_of(CUSTOMER_HABITS))
    columns = _columns(rng, CUSTOMER_HABITS, happened)
    account = contracts.terms.account[happened.entity]
    columns["account_id"] = account
    columns["contact_id"] = accounts.main_contact[account]
    columns["owner_id"] = accounts.ownership.owner_at(account, happened.at)
    return columns


def _find(habits: tuple[Habit, ...], *names: str) -> tuple[int, ...]:
    known = [habit.name for habit in habits]
    return tuple(known.index(name) for name in names)


def _columns(rng: np.random.Generator, habits: tuple[Habit, ...], happened: Happenings) -> Columns:
    size = happened.at.size
    pick = rng.integers(0, 6, size)
    longest = max(len(habit.subjects) for habit in habits)
    subjects = np.array(
        [[habit.subjects[at % len(habit.subjects)] for at in range(longest)] for habit in habits], dtype=object
    )
    kind = texts([habit.kind.value for habit in habits])[happened.habit]
    outcome = texts([habit.outcome for habit in habits])[happened.habit]
    nobody = np.full(size, NONE)
    return {
        "kind": kind,
        "direction": texts([habit.direction and habit.direction.value for habit in habits])[happened.habit],
        "outcome": outcome,
        "subject": subjects[happened.habit, pick % longest],
        "duration_seconds": _durations(rng, kind, outcome),
        "due_at": np.where(kind == ActivityKind.TASK, after(rng, happened.at, 5.0), NO_INSTANT),
        "lead_id": nobody,
        "deal_id": nobody,
        "account_id": nobody,
        "contact_id": nobody,
        "occurred_at": happened.at,
    }


def _durations(
    rng: np.random.Generator, kind: npt.NDArray[np.object_], outcome: npt.NDArray[np.object_]
) -> npt.NDArray[np.object_]:
    call = np.where(outcome == "connected", rng.lognormal(5.6, 0.7, kind.size), rng.uniform(10, 50, kind.size))
    seconds = np.where(kind == ActivityKind.CALL, call, rng.lognormal(8.1, 0.35, kind.size))
    measured = np.isin(kind.astype(str), (ActivityKind.CALL, ActivityKind.MEETING, ActivityKind.VISIT))
    measured &= rng.random(kind.size) < 0.93
    whole = seconds.astype(int).astype(object)
    whole[~measured] = None
    return whole


def _written_down(rng: np.random.Generator, columns: Columns) -> Ints:
    """Return when each activity is known: mails and page views at once, what people note themselves often days later."""
    at = columns["occurred_at"]
    by_hand = np.isin(
        columns["kind"].astype(str),
        (ActivityKind.CALL, ActivityKind.MEETING, ActivityKind.VISIT, ActivityKind.NOTE),
    )
    return np.where(by_hand, recorded_late(rng, at, share=0.22, days=5.0), at)
