"""A Markov process on ticks of working time: simulated and asked for its probabilities by one set of rates.

In each tick at most one jump happens. Rates of competing jumps turn into probabilities by
``p_j = (1 - exp(-sum of rates)) * rate_j / sum of rates``, and a jump falls uniformly inside its tick. Both
together make the probability of anything, from any instant inside a tick to any other, a finite sum without
approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.simulation.working_time import WORKING_DAYS_A_YEAR

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A possible jump: its rate a tick, and the log-effects of what may raise or lower it.

    `rate * exp(quality * z + pace * p + age * min(tick / 5, 1) + season * s)`, where z and p belong to the
    entity and s in [-1, 1] to the time of the year.
    """

    source: str
    target: str
    rate: float
    quality: float = 0.0
    pace: float = 0.0
    age: float = 0.0
    season: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Entities:
    """What the rates depend on, an element each: float64[n].

    `start`: working days (see `working_time`) at which the process began; `quality` and `pace`: log-effects.
    """

    start: Floats
    quality: Floats
    pace: Floats

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.start)

    def take(self, index: Ints) -> Entities:
        """Return those at `index`."""
        return Entities(start=self.start[index], quality=self.quality[index], pace=self.pace[index])


@dataclass(frozen=True, kw_only=True)
class Path:
    """All jumps of many entities, sorted by entity and time.

    `entity`: int64[m], a position in the entities simulated; `tick`, `state`: int64[m], the tick it fell into
    and the state jumped to; `at`: float64[m], in working days.
    """

    entity: Ints
    tick: Ints
    state: Ints
    at: Floats


@dataclass(frozen=True, kw_only=True)
class Chain:
    """States, jumps between them, and the length of a tick in working days."""

    states: tuple[str, ...]
    jumps: tuple[Jump, ...]
    tick: float

    def index(self, state: str) -> int:
        """Return the position of a state."""
        return self.states.index(state)

    @cached_property
    def open_states(self) -> list[int]:
        """Return the states that can be left."""
        return [source for source, _ in self._leaving]

    @cached_property
    def _leaving(self) -> tuple[tuple[int, tuple[tuple[int, Jump], ...]], ...]:
        """For each state that can be left: its position, and its jumps with their targets."""
        return tuple(
            (source, leaving)
            for source, name in enumerate(self.states)
            if (leaving := tuple((self.index(j.target), j) for j in self.jumps if j.source == name))
        )

    def simulate(self, rng: np.random.Generator, entities: Entities, first: Ints, until: float) -> Path:
        """Return every jump up to `until` (working days) of entities that begin in `first` (int64[n])."""
        state = first.copy()
        alive = np.flatnonzero(np.isin(state, self.open_states))
        found: list[tuple[Ints, Ints, Ints, Floats]] = []
        tick = 0
        while alive.size:
            alive = alive[entities.start[alive] + tick * self.tick < until]
            target, at = self._draw(rng, entities.take(alive), state[alive], tick)
            jumped = (target != state[alive]) & (at < until)
            who = alive[jumped]
            state[who] = target[jumped]
            found.append((who, np.full(who.size, tick), target[jumped], at[jumped]))
            alive = alive[np.isin(state[alive], self.open_states)]
            tick += 1
        return _as_path(found)

    def _draw(
        self, rng: np.random.Generator, entities: Entities, state: Ints, tick: int
    ) -> tuple[Ints, Floats]:
        """Return for each entity the state after this tick, and when it would jump there."""
        draw, when = rng.random(len(entities)), rng.random(len(entities))
        target = state.copy()
        for source, leaving in self._leaving:
            here = np.flatnonzero(state == source)
            chance, _ = self._chances(leaving, entities.take(here), np.full(here.size, tick))
            chosen = (draw[here] >= np.cumsum(chance, axis=0)).sum(axis=0)
            targets = np.array([*(to for to, _ in leaving), source])
            target[here] = targets[chosen]
        return target, entities.start + (tick + when) * self.tick

    def _chances(
        self, leaving: tuple[tuple[int, Jump], ...], entities: Entities, tick: Ints
    ) -> tuple[Floats, Floats]:
        """Return the chance of each jump in a tick, float64[jumps, n], and of any, float64[n]."""
        season = season_of(entities.start + tick * self.tick)
        age = np.minimum(tick / 5.0, 1.0)
        rates = np.stack(
            [
                jump.rate
                * np.exp(
                    jump.quality * entities.quality
                    + jump.pace * entities.pace
                    + jump.age * age
                    + jump.season * season
                )
                for _, jump in leaving
            ]
        )
        total = rates.sum(axis=0)
        any_jump = -np.expm1(-total)
        return rates * (any_jump / total), any_jump

    def occupancy(self, entities: Entities, state: Ints, moved: Flags, now: Floats, until: Floats) -> Floats:
        """Return the probability of each state at `until`, given the state at `now`.

        Parameters
        ----------
        entities : n entities, one a question (the same one may be asked often)
        state : int64[n], the state at `now`
        moved : bool[n], whether the jump of the tick that `now` falls into has happened already
        now, until : float64[n], working days; `now` not before the entity's start, `until` not before `now`

        Returns
        -------
        float64[n, states], rows summing to 1
        """
        occupied = np.zeros((len(entities), len(self.states)))
        occupied[np.arange(len(entities)), state] = 1.0
        begin = (now - entities.start) / self.tick
        finish = (until - entities.start) / self.tick
        first = np.floor(begin).astype(np.int64)
        for step in range(int(np.max(np.ceil(finish) - first, initial=0))):
            low = begin - first if step == 0 else np.zeros(len(entities))
            high = np.minimum(finish - (first + step), 1.0)
            open_to = (high > low) & ~(moved if step == 0 else np.zeros_like(moved))
            index = np.flatnonzero(open_to)
            part = occupied[index]
            self._advance(part, entities.take(index), first[index] + step, low[index], high[index])
            occupied[index] = part
        return occupied

    def _advance(self, occupied: Floats, entities: Entities, tick: Ints, low: Floats, high: Floats) -> None:
        """Move probability along the jumps that fall between two fractions of a tick, given none before."""
        before = occupied.copy()
        for source, leaving in self._leaving:
            here = np.flatnonzero(before[:, source] > 0.0)
            chance, any_jump = self._chances(leaving, entities.take(here), tick[here])
            share = (high[here] - low[here]) / (1.0 - low[here] * any_jump)
            flow = chance * (share * before[here, source])
            occupied[here, source] -= flow.sum(axis=0)
            for (target, _), moving in zip(leaving, flow, strict=True):
                occupied[here, target] += moving


def season_of(days: Floats) -> Floats:
    """Return the time of the year from 1 (mid-November, the busiest) to -1 (mid-May), for working days."""
    return np.cos(2.0 * np.pi * (days / WORKING_DAYS_A_YEAR - 0.86))


def _as_path(found: list[tuple[Ints, Ints, Ints, Floats]]) -> Path:
    entity, tick, state = (
        np.concatenate([np.empty(0, np.int64), *(part[column] for part in found)]) for column in range(3)
    )
    at = np.concatenate([np.empty(0), *(part[3] for part in found)])
    order = np.lexsort((at, entity))
    return Path(entity=entity[order], tick=tick[order], state=state[order], at=at[order])
