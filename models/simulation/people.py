"""Who works at the company, who leaves it, and who is responsible for what when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.records import Role
from models.simulation.names import colleague
from models.simulation.table import NONE, Table, chosen, texts
from models.simulation.working_time import instants, working_days
from models.simulation.world import Size

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TEAMS = (
    ("Sales", None),
    ("East", "Sales"),
    ("North", "Sales"),
    ("South", "Sales"),
    ("International", "Sales"),
    ("Shanghai", "East"),
    ("Hangzhou", "East"),
)
_REP_TEAMS = ("Shanghai", "Shanghai", "Hangzhou", "North", "South", "International")
CAST = (
    ("Ana Torres", "ana@example.com", Role.REP, "Shanghai"),
    ("Ben Zhao 赵本", "ben@example.com", Role.REP, "Shanghai"),
    ("Mara Lindqvist", "mara@example.com", Role.MANAGER, "East"),
    ("Dana Okafor", "dana@example.com", Role.ANALYST, None),
    ("Alex Admin", "alex@example.com", Role.ADMIN, None),
    ("Song Jie 宋杰", "songjie@example.com", Role.MANAGER, "Sales"),
    ("Niu Ke 牛可", "niuke@example.com", Role.MANAGER, "North"),
    ("Paula Reis", "paula@example.com", Role.MANAGER, "South"),
    ("Ivo Brandt", "ivo@example.com", Role.MANAGER, "International"),
)
"""The same people in every company; Ana and Ben are the first two."""
ANA_SHARE = 3.0
"""How many times as many leads Ana gets as another rep: the demonstration is about her."""
_LEAVING = 0.3
"""The share of the first reps who leave within the three years, each followed by another."""
_NEAR = 8.0
"""How much rather work is handed to somebody of the same team."""


@dataclass(frozen=True, kw_only=True)
class Handover:
    """Records that get another owner because theirs leaves: positions, new owners, and one instant."""

    record: Ints
    owner: Ints
    at: int


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Who is responsible for each record: at first, and after each handover."""

    first: Ints
    handovers: tuple[Handover, ...]

    def owner_at(self, record: Ints, at: Ints) -> Ints:
        """Return who was responsible for each record at each instant."""
        owner = self.first[record]
        for handover in self.handovers:
            new = np.full(self.first.size, NONE)
            new[handover.record] = handover.owner
            owner = np.where((new[record] != NONE) & (at >= handover.at), new[record], owner)
        return owner

    def note(self, table: Table) -> None:
        """Put the handovers into a table as changes of its owner_id."""
        for handover in self.handovers:
            at = np.full(handover.record.size, handover.at)
            table.edit("owner_id", handover.record, handover.owner, at, at)


@dataclass(frozen=True, kw_only=True)
class People:
    """All users and teams; `reps`: int64[r], positions of those who sell, and what is theirs, float64[r].

    `team` : int64[r], positions in `TEAMS`
    `joined`, `left` : int64[r], microseconds (`left` is the largest integer for those who stay)
    `share` of the leads, `skill` and `pace` : log-effects on deals and on the speed of the first touch
    """

    teams: Table
    users: Table
    reps: Ints
    team: Ints
    joined: Ints
    left: Ints
    share: Floats
    skill: Floats
    pace: Floats

    def rep_of(self, user: Ints) -> Ints:
        """Return the positions in `reps` of users who sell."""
        return np.searchsorted(self.reps, user)

    def assign(self, rng: np.random.Generator, at: Ints) -> Ints:
        """Return a rep (a position in `reps`) for each instant, among those who were there."""
        owner = np.zeros(at.size, dtype=np.int64)
        edges = np.unique(np.concatenate([self.joined, self.left]))
        period = np.searchsorted(edges, at, side="right")
        for number in np.unique(period):
            rows = np.flatnonzero(period == number)
            owner[rows] = chosen(rng, self._shares(int(edges[number - 1])), rows.size)
        return owner

    def _shares(self, at: int) -> Floats:
        there = (self.joined <= at) & (at < self.left)
        return np.where(there, self.share, 0.0)

    def own(self, rng: np.random.Generator, rep: Ints, start: Ints, stop: Ints) -> Ownership:
        """Hand what its rep leaves behind between `start` and `stop` to others; `rep` is who begins."""
        now = rep.copy()
        handovers = []
        for leaver in np.argsort(self.left, kind="stable"):
            at = int(self.left[leaver])
            record = np.flatnonzero((now == leaver) & (start < at) & (at < stop))
            if record.size:
                near = np.where(self.team == self.team[leaver], _NEAR, 1.0)
                now[record] = chosen(rng, self._shares(at) * near, record.size)
                handovers.append(Handover(record=record, owner=self.reps[now[record]], at=at))
        return Ownership(first=self.reps[rep], handovers=tuple(handovers))


def hire(rng: np.random.Generator, size: Size, start: int, end: int) -> People:
    """Return the people of a company that opens at `start`."""
    leavers = round(size.reps * _LEAVING)
    count = size.reps + leavers
    joined, left, follows = _stay(rng, size.reps, leavers, start, end)
    share = np.exp(rng.normal(0.0, 0.15, count))
    share[0] = ANA_SHARE
    skill, pace = rng.normal(0.0, 0.12, count), rng.normal(0.0, 0.30, count)
    skill[0], pace[0] = 0.25, 0.20
    team_names = [name for name, _ in TEAMS]
    team = [_REP_TEAMS[number % len(_REP_TEAMS)] for number in range(size.reps)]
    team += [team[leaver] for leaver in follows]
    cast = [(*person, start, NO_INSTANT) for person in CAST]
    others = [
        (
            *colleague(rng, number),
            Role.REP,
            team[number],
            joined[number],
            left[number],
        )
        for number in range(2, count)
    ]
    users = _users([*cast, *others], team_names, end)
    return People(
        teams=_teams(team_names, start),
        users=users,
        reps=np.array([0, 1, *range(len(CAST), len(CAST) + count - 2)]),
        team=np.array([team_names.index(name) for name in team]),
        joined=joined,
        left=left,
        share=share,
        skill=skill,
        pace=pace,
    )


def _stay(
    rng: np.random.Generator, first: int, leavers: int, start: int, end: int
) -> tuple[Ints, Ints, list[int]]:
    """Return when each rep joins and leaves, and whom those after the first follow."""
    forever = np.iinfo(np.int64).max
    joined = np.full(first + leavers, start)
    left = np.full(first + leavers, forever)
    goes = np.sort(start + ((end - start) * rng.uniform(0.15, 0.92, leavers)).astype(np.int64))
    goes = instants(np.ceil(working_days(goes)) - 0.01)
    leaver = rng.permutation(np.arange(2, first))[:leavers]
    left[leaver] = goes
    joined[first:] = instants(np.floor(working_days(goes - rng.integers(0, 20, leavers) * DAY)))
    return joined, left, leaver.tolist()


def _teams(names: list[str], start: int) -> Table:
    at = np.full(len(TEAMS), start)
    parents = [NONE if parent is None else names.index(parent) for _, parent in TEAMS]
    return Table(
        columns={
            "name": texts(list(names)),
            "parent_id": np.array(parents),
            "occurred_at": at,
            "recorded_at": at,
        }
    )


def _users(people: list[tuple[str, str, str, str | None, int, int]], teams: list[str], end: int) -> Table:
    names, emails, roles, team, joined, left = (list(column) for column in zip(*people, strict=True))
    at = np.array(joined)
    table = Table(
        columns={
            "name": texts(names),
            "email": texts(emails),
            "role": texts(roles),
            "team_id": np.array([NONE if name is None else teams.index(name) for name in team]),
            "active": texts([True] * len(names)),
            "occurred_at": at,
            "recorded_at": at,
        }
    )
    gone = np.flatnonzero((np.array(left) != NO_INSTANT) & (np.array(left) < end))
    when = np.array(left)[gone]
    table.edit("left_at", gone, when, when, when)
    table.edit("active", gone, texts([False] * gone.size), when, when)
    return table
