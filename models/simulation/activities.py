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
from models.simulation.table import NONE, Columns, Table, chosen, texts
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_IN, _OUT = Direction.INBOUND, Direction.OUTBOUND


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Something that can happen, and what people call it."""

    kind: ActivityKind
    direction: Direction | None
    outcome: str | None
    subjects: tuple[str, str, str]


KINDS: Final = {
    "no answer": Kind(
        kind=ActivityKind.CALL,
        direction=_OUT,
        outcome="no answer",
        subjects=("Call", "Tried to call", "电话未接"),
    ),
    "call": Kind(
        kind=ActivityKind.CALL,
        direction=_OUT,
        outcome="connected",
        subjects=("Call", "电话沟通", "Follow-up call"),
    ),
    "called": Kind(
        kind=ActivityKind.CALL,
        direction=_IN,
        outcome="connected",
        subjects=("Called us", "客户来电", "Call back"),
    ),
    "sent": Kind(
        kind=ActivityKind.MAIL,
        direction=_OUT,
        outcome=None,
        subjects=("Material", "跟进邮件", "Following up"),
    ),
    "answer": Kind(
        kind=ActivityKind.MAIL,
        direction=_IN,
        outcome=None,
        subjects=("Re: your offer", "回复方案", "A question"),
    ),
    "meeting": Kind(
        kind=ActivityKind.MEETING, direction=_OUT, outcome="held", subjects=("Meeting", "产品演示", "Demo")
    ),
    "visit": Kind(
        kind=ActivityKind.VISIT, direction=_OUT, outcome="held", subjects=("Visit", "上门拜访", "On site")
    ),
    "web": Kind(
        kind=ActivityKind.WEB,
        direction=_IN,
        outcome=None,
        subjects=("Pricing page", "产品页面", "Documentation"),
    ),
    "note": Kind(
        kind=ActivityKind.NOTE, direction=None, outcome=None, subjects=("Note", "备注", "Internal note")
    ),
    "task": Kind(
        kind=ActivityKind.TASK, direction=None, outcome=None, subjects=("Follow up", "待跟进", "Send offer")
    ),
}
_NAMES: Final = tuple(KINDS)


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """What comes back while somebody is in a state: at its beginning, then about every `period` working days.

    Gaps vary by a third. That is what makes a state show: silence for much longer than the period means that
    it is over.
    """

    period: float
    kinds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What happens in each state: its rhythm, and how often a working day anything else does, by chance."""

    rhythms: dict[str, Rhythm]
    chances: dict[str, dict[str, float]]


LEAD_BEHAVIOUR: Final = Behaviour(
    rhythms={
        "cold": Rhythm(period=14.0, kinds={"no answer": 0.70, "sent": 0.30}),
        "warm": Rhythm(period=3.4, kinds={"answer": 0.65, "call": 0.35}),
        "hot": Rhythm(period=2.2, kinds={"web": 0.60, "meeting": 0.40}),
    },
    chances={
        "new": {"web": 0.01},
        "cold": {"answer": 0.001, "note": 0.002, "task": 0.003},
        "warm": {"sent": 0.03, "web": 0.008, "note": 0.010, "task": 0.008, "no answer": 0.006},
        "hot": {"sent": 0.03, "answer": 0.05, "called": 0.04, "note": 0.02, "task": 0.02},
    },
)
_DEAL_RHYTHMS: Final = {
    world.moving: Rhythm(period=3.8, kinds={"answer": 0.47, "meeting": 0.25, "call": 0.23, "visit": 0.05}),
    world.stalled: Rhythm(period=7.0, kinds={"no answer": 0.8, "sent": 0.2}),
}
_DEAL_CHANCES: Final = {
    world.moving: {
        "sent": 0.03,
        "called": 0.015,
        "web": 0.03,
        "note": 0.012,
        "task": 0.012,
        "no answer": 0.003,
    },
    world.stalled: {"note": 0.004, "task": 0.006, "answer": 0.001, "web": 0.001},
}
DEAL_BEHAVIOUR: Final = Behaviour(
    rhythms={state(stage): rhythm for state, rhythm in _DEAL_RHYTHMS.items() for stage in world.STAGES},
    chances={state(stage): chances for state, chances in _DEAL_CHANCES.items() for stage in world.STAGES},
)
CUSTOMER_BEHAVIOUR: Final = Behaviour(
    rhythms={
        "good": Rhythm(period=22.0, kinds={"answer": 0.45, "call": 0.30, "web": 0.20, "meeting": 0.05}),
        "fading": Rhythm(period=20.0, kinds={"sent": 0.60, "answer": 0.20, "no answer": 0.20}),
        "bad": Rhythm(period=15.0, kinds={"no answer": 0.60, "sent": 0.40}),
    },
    chances={
        "good": {"called": 0.004, "sent": 0.008, "note": 0.002},
        "fading": {"called": 0.003, "note": 0.002},
        "bad": {"called": 0.002, "note": 0.003},
    },
)


@dataclass(frozen=True, kw_only=True)
class Happenings:
    """What happened to whom: int64[n] each; `kind` is a position in `KINDS`."""

    entity: Ints
    kind: Ints
    at: Ints


def at_random(rng: np.random.Generator, stays: Stays, rates: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Return the stays in which something happens by chance, and when; `rates`: a working day, by state."""
    begin, finish = working_days(stays.start), working_days(stays.stop)
    count = rng.poisson(np.asarray(rates)[stays.state] * (finish - begin))
    stay = np.repeat(np.arange(count.size), count)
    return stay, instants(begin[stay] + rng.random(stay.size) * (finish - begin)[stay])


def in_rhythm(rng: np.random.Generator, stays: Stays, period: Floats) -> tuple[Ints, Ints]:
    """Return the stays in which something comes back, and when; `period`: working days, of each stay."""
    finish = working_days(stays.stop)
    stay = np.flatnonzero(np.isfinite(period))
    when = working_days(stays.start[stay]) + rng.uniform(0.002, 0.06, stay.size)
    found: list[tuple[Ints, Floats]] = []
    while stay.size:
        seen = when < finish[stay]
        stay, when = stay[seen], when[seen]
        found.append((stay, when))
        when = when + period[stay] * rng.uniform(0.7, 1.3, stay.size)
    if not found:
        return stay, stay
    return np.concatenate([one for one, _ in found]), instants(np.concatenate([one for _, one in found]))


def behave(rng: np.random.Generator, behaviour: Behaviour, course: Course, stays: Stays) -> Happenings:
    """Return everything that happens in stays of a course."""
    states = course.chain.states
    found: list[Happenings] = []
    period = np.array(
        [behaviour.rhythms[name].period if name in behaviour.rhythms else np.inf for name in states]
    )
    stay, at = in_rhythm(rng, stays, period[stays.state])
    for name, rhythm in behaviour.rhythms.items():
        rows = np.flatnonzero(stays.state[stay] == states.index(name))
        kinds = np.array([_NAMES.index(kind) for kind in rhythm.kinds])
        kind = kinds[chosen(rng, list(rhythm.kinds.values()), rows.size)]
        found.append(Happenings(entity=stays.entity[stay[rows]], kind=kind, at=at[rows]))
    for position, kind_name in enumerate(_NAMES):
        rates = [behaviour.chances.get(name, {}).get(kind_name, 0.0) for name in states]
        stay, at = at_random(rng, stays, rates)
        found.append(Happenings(entity=stays.entity[stay], kind=np.full(stay.size, position), at=at))
    return Happenings(
        entity=np.concatenate([one.entity for one in found]),
        kind=np.concatenate([one.kind for one in found]),
        at=np.concatenate([one.at for one in found]),
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
    happened = behave(rng, LEAD_BEHAVIOUR, leads.course, leads.course.stays(end))
    columns = _columns(rng, happened)
    columns["lead_id"] = happened.entity
    columns["owner_id"] = leads.ownership.owner_at(happened.entity, happened.at)
    return columns


def _of_deals(rng: np.random.Generator, deals: Deals, accounts: Accounts, end: int) -> Columns:
    happened = behave(rng, DEAL_BEHAVIOUR, deals.course, deals.course.stays(end))
    columns = _columns(rng, happened)
    account = deals.account[happened.entity]
    columns["deal_id"] = happened.entity
    columns["account_id"] = account
    columns["contact_id"] = accounts.main_contact[account]
    columns["owner_id"] = deals.ownership.owner_at(happened.entity, happened.at)
    return columns


def _of_customers(rng: np.random.Generator, contracts: Contracts, accounts: Accounts, end: int) -> Columns:
    happened = behave(rng, CUSTOMER_BEHAVIOUR, contracts.course, contracts.stays(end))
    columns = _columns(rng, happened)
    account = contracts.terms.account[happened.entity]
    columns["account_id"] = account
    columns["contact_id"] = accounts.main_contact[account]
    columns["owner_id"] = accounts.ownership.owner_at(account, happened.at)
    return columns


def _columns(rng: np.random.Generator, happened: Happenings) -> Columns:
    size = happened.at.size
    known = list(KINDS.values())
    subjects = np.array([kind.subjects for kind in known], dtype=object)
    kind = texts([kind.kind.value for kind in known])[happened.kind]
    outcome = texts([kind.outcome for kind in known])[happened.kind]
    direction = texts([kind.direction and kind.direction.value for kind in known])[happened.kind]
    nobody = np.full(size, NONE)
    return {
        "kind": kind,
        "direction": direction,
        "outcome": outcome,
        "subject": subjects[happened.kind, rng.integers(0, 3, size)],
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
    call = np.where(
        outcome == "connected", rng.lognormal(5.6, 0.7, kind.size), rng.uniform(10, 50, kind.size)
    )
    seconds = np.where(kind == ActivityKind.CALL, call, rng.lognormal(8.1, 0.35, kind.size))
    measured = np.isin(kind.astype(str), (ActivityKind.CALL, ActivityKind.MEETING, ActivityKind.VISIT))
    measured &= rng.random(kind.size) < 0.93
    whole = seconds.astype(int).astype(object)
    whole[~measured] = None
    return whole


def _written_down(rng: np.random.Generator, columns: Columns) -> Ints:
    """Return when each activity is known: mails and page views at once, what people note often days later."""
    at = columns["occurred_at"]
    by_hand = np.isin(
        columns["kind"].astype(str),
        (ActivityKind.CALL, ActivityKind.MEETING, ActivityKind.VISIT, ActivityKind.NOTE),
    )
    return np.where(by_hand, recorded_late(rng, at, share=0.20, days=5.0), at)
