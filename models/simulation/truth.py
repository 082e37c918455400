"""The truth about a simulated company: the probabilities it was made with, kept apart from its records.

A probability is exact given what the process knows at `as_of`: the record's own attributes and its hidden
state. A model sees the state only through activities, so the truth is a bound that no honest model beats.
Only evaluation reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.errors import InvalidValueError
from crm_core.segments import end_within, runs_of
from models.simulation.chain import Chain, Entities, Jump
from models.simulation.course import Beginning, Course
from models.simulation.working_time import working_days
from models.simulation.world import Renewal

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TASKS = ("lead_scoring", "win_probability", "churn")
_BLOCK = 20_000
"""Questions answered at a time, which keeps the work in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Lives:
    """Records of one type and their course: `ids`: int64[n], ascending."""

    ids: Ints
    course: Course

    def find(self, ids: Ints) -> tuple[Ints, Flags]:
        """Return the position of each id and whether it is there."""
        if self.ids.size == 0:
            return np.zeros_like(ids), np.zeros(ids.size, dtype=bool)
        position = np.minimum(np.searchsorted(self.ids, ids), self.ids.size - 1)
        return position, self.ids[position] == ids


@dataclass(frozen=True, kw_only=True)
class _Spells:
    """Contracts asked about: where they are at `now`, when they end, and until when we ask."""

    entities: Entities
    state: Ints
    moved: Flags
    now: Ints
    ends_at: Ints
    until: Ints
    renewals: Ints

    def renewed(self, rows: Ints, state: int, renewal: Renewal) -> _Spells:
        """Return the contracts that follow those at `rows`, begun in `state`."""
        start = self.ends_at[rows]
        quality = renewal.quality_after(self.entities.quality[rows], self.renewals[rows])
        return _Spells(
            entities=Entities(start=working_days(start), quality=quality, pace=np.zeros(rows.size)),
            state=np.full(rows.size, state),
            moved=np.zeros(rows.size, dtype=bool),
            now=start,
            ends_at=start + renewal.days * DAY,
            until=self.until[rows],
            renewals=self.renewals[rows] + 1,
        )


@dataclass(frozen=True, kw_only=True)
class Agreements:
    """Contracts, sorted by account and start: int64[n] each, instants in microseconds.

    `cancelled_at` is NO_INSTANT for none; `renewals` counts those before.
    """

    account: Ints
    renewals: Ints
    signed_at: Ints
    starts_at: Ints
    ends_at: Ints
    cancelled_at: Ints
    course: Course
    renewal: Renewal

    def active(self, account: Ints, as_of: Ints) -> tuple[Ints, Flags]:
        """Return the account's contract that runs at each instant, and whether there is one."""
        start, stop = runs_of(self.account, account)
        last = end_within(self.starts_at, start, stop, as_of) - 1
        found = last >= start
        position = np.where(found, last, 0)
        if self.account.size == 0:
            return position, found
        cancelled = self.cancelled_at[position]
        running = (self.signed_at[position] <= as_of) & (as_of < self.ends_at[position])
        return position, found & running & ((cancelled == NO_INSTANT) | (cancelled > as_of))

    def loss(self, spells: _Spells) -> Floats:
        """Return the probability that each contract, or one that renews it, is cancelled or not renewed."""
        chain, renewal = self.course.chain, self.renewal
        stop = working_days(np.minimum(spells.ends_at, spells.until))
        occupied = chain.occupancy(
            spells.entities, spells.state, spells.moved, working_days(spells.now), stop
        )
        states = np.array(chain.open_states)
        kept = renewal.probability(states, spells.entities.quality[:, None])
        lost = occupied[:, chain.index("cancelled")].copy()
        due = np.flatnonzero(spells.ends_at <= spells.until)
        lost[due] += (occupied[np.ix_(due, states)] * (1.0 - kept[due])).sum(axis=1)
        due = due[spells.ends_at[due] < spells.until[due]]
        for begins in set(renewal.begins) if due.size else ():
            from_here = states[np.array(renewal.begins) == begins]
            share = (occupied[np.ix_(due, from_here)] * kept[np.ix_(due, from_here)]).sum(axis=1)
            lost[due] += share * self.loss(spells.renewed(due, begins, renewal))
        return lost


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of a simulated company up to `end` (microseconds)."""

    size: str
    seed: int
    end: int
    leads: Lives
    deals: Lives
    contracts: Agreements

    def probabilities(self, task: str, ids: Ints, as_of: Ints, horizon_days: int) -> Floats:
        """Return the true probability of a task's event in each question's label window.

        Parameters
        ----------
        task : `lead_scoring` (converted), `win_probability` (won) or `churn` (the contract that runs at
        `as_of`, or
            one that renews it, is cancelled or ends without a renewal)
        ids, as_of : int64[n]
            Records (leads, deals, accounts) and instants in microseconds since 1970. A record may be asked
            many times.
        horizon_days : days from `as_of`, at least 1

        Returns
        -------
        float64[n]
            In [0, 1]; NaN where the question is not defined: an unknown record, one that does not exist yet
            or whose outcome has happened, an account without a running contract, an instant after the end of
            the simulation.

        Notes
        -----
        Time rule: the window is as_of < event <= as_of + horizon_days. For contracts the instant that counts
        is the end of the contract, even though it is known only after the time of grace that nobody renewed
        it.
        """
        if horizon_days < 1:
            raise InvalidValueError("horizon_days", horizon_days, "at least one day")
        answer = np.full(ids.size, np.nan)
        for block in range(0, ids.size, _BLOCK):
            rows = slice(block, block + _BLOCK)
            answer[rows] = self._answer(task, ids[rows], as_of[rows], horizon_days * DAY)
        return answer

    def _answer(self, task: str, ids: Ints, as_of: Ints, horizon: int) -> Floats:
        match task:
            case "lead_scoring":
                return self._arrival(self.leads, "converted", ids, as_of, horizon)
            case "win_probability":
                return self._arrival(self.deals, "won", ids, as_of, horizon)
            case "churn":
                return self._loss(ids, as_of, horizon)
        raise InvalidValueError("task", task, f"one of {', '.join(TASKS)}")

    def _arrival(self, lives: Lives, state: str, ids: Ints, as_of: Ints, horizon: int) -> Floats:
        entity, known = lives.find(ids)
        asked = np.flatnonzero(known)
        course = lives.course
        started = as_of[asked] >= course.beginning.started[entity[asked]]
        asked = asked[started & (as_of[asked] <= self.end)]
        now, _ = course.state_at(entity[asked], as_of[asked])
        asked = asked[np.isin(now, course.chain.open_states)]
        answer = np.full(ids.size, np.nan)
        occupied = course.occupancy(entity[asked], as_of[asked], as_of[asked] + horizon)
        answer[asked] = occupied[:, course.chain.index(state)]
        return answer

    def _loss(self, ids: Ints, as_of: Ints, horizon: int) -> Floats:
        entity, running = self.contracts.active(ids, as_of)
        asked = np.flatnonzero(running & (as_of <= self.end))
        entity, now = entity[asked], as_of[asked]
        course = self.contracts.course
        state, moved = course.state_at(entity, now)
        spells = _Spells(
            entities=course.beginning.entities.take(entity),
            state=state,
            moved=moved,
            now=now,
            ends_at=self.contracts.ends_at[entity],
            until=now + horizon,
            renewals=self.contracts.renewals[entity],
        )
        answer = np.full(ids.size, np.nan)
        answer[asked] = self.contracts.loss(spells)
        return answer

    def save(self, path: Path) -> None:
        """Write it to one Parquet file."""
        parts = {"lead": self.leads.course, "deal": self.deals.course, "contract": self.contracts.course}
        ids = {"lead": self.leads.ids, "deal": self.deals.ids}
        terms = {name: getattr(self.contracts, name) for name in _TERMS}
        tables = [
            table
            for part, course in parts.items()
            for table in (
                _beginnings(part, course.beginning, {"id": ids[part]} if part in ids else terms),
                _jumps(part, course),
            )
        ]
        told = {
            "version": _VERSION,
            "size": self.size,
            "seed": self.seed,
            "end": self.end,
            "chains": {part: asdict(course.chain) for part, course in parts.items()},
            "renewal": asdict(self.contracts.renewal),
        }
        whole = pa.concat_tables(tables, promote_options="default")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(whole.replace_schema_metadata({_KEY: json.dumps(told)}), path, compression="zstd")


_KEY = b"truth"
_VERSION = 1
_TERMS = ("account", "renewals", "signed_at", "starts_at", "ends_at", "cancelled_at")


def load_truth(path: Path) -> Truth | None:
    """Return the truth in a file that `Truth.save` wrote, or None if there is no such file."""
    if not path.is_file():
        return None
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise InvalidValueError("truth", str(path), "a file that holds the truth of a simulated company")
    told = json.loads(metadata[_KEY])
    if told["version"] != _VERSION:
        raise InvalidValueError("truth", told["version"], f"a file of version {_VERSION}")
    lists = {name: tuple(told["renewal"][name]) for name in ("log_odds", "begins")}
    return Truth(
        size=told["size"],
        seed=told["seed"],
        end=told["end"],
        leads=Lives(ids=_column(table, "lead", "id"), course=_course(table, "lead", told)),
        deals=Lives(ids=_column(table, "deal", "id"), course=_course(table, "deal", told)),
        contracts=Agreements(
            **{name: _column(table, "contract", name) for name in _TERMS},
            course=_course(table, "contract", told),
            renewal=Renewal(**{**told["renewal"], **lists}),
        ),
    )


def _beginnings(part: str, beginning: Beginning, more: dict[str, Ints]) -> pa.Table:
    columns = {
        "part": pa.array([part] * len(beginning), pa.string()),
        "state": beginning.first,
        "at": beginning.started,
        "quality": beginning.quality,
        "pace": beginning.pace,
    }
    return pa.table({**columns, **more})


def _jumps(part: str, course: Course) -> pa.Table:
    return pa.table(
        {
            "part": pa.array([part] * course.jump_at.size, pa.string()),
            "entity": course.jump_entity,
            "state": course.jump_state,
            "at": course.jump_at,
            "tick": course.jump_tick,
        }
    )


def _rows(table: pa.Table, part: str, *, jumps: bool) -> pa.Table:
    of_part = pc.equal(table["part"], part)
    are_jumps = pc.is_valid(table["entity"])
    return table.filter(pc.and_(of_part, are_jumps if jumps else pc.invert(are_jumps)))


def _column(table: pa.Table, part: str, name: str, *, jumps: bool = False) -> npt.NDArray[Any]:
    return np.asarray(_rows(table, part, jumps=jumps)[name].to_numpy())


def _course(table: pa.Table, part: str, told: dict[str, Any]) -> Course:
    chain = told["chains"][part]
    jumps = tuple(Jump(**jump) for jump in chain["jumps"])
    names = {"started": "at", "first": "state", "quality": "quality", "pace": "pace"}
    jump_names = ("entity", "at", "tick", "state")
    return Course(
        chain=Chain(states=tuple(chain["states"]), jumps=jumps, tick=chain["tick"]),
        beginning=Beginning(**{field: _column(table, part, name) for field, name in names.items()}),
        **{f"jump_{name}": _column(table, part, name, jumps=True) for name in jump_names},
    )
