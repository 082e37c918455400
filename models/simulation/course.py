"""What became of many entities: the chain they follow, where they began, and every jump since."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.segments import end_within
from models.simulation.chain import Chain, Entities
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Where entities begin, an element each.

    `started`: int64[n], microseconds; `first`: int64[n], a state; `quality`, `pace`: float64[n], log-effects.
    """

    started: Ints
    first: Ints
    quality: Floats
    pace: Floats

    def __len__(self) -> int:
        """Return how many there are."""
        return self.started.size

    @cached_property
    def entities(self) -> Entities:
        """What the rates of jumps depend on."""
        return Entities(start=working_days(self.started), quality=self.quality, pace=self.pace)


@dataclass(frozen=True, kw_only=True)
class Stays:
    """Every stay in a state: int64[m] each; `stop` is the next jump, or the end of the simulation."""

    entity: Ints
    state: Ints
    start: Ints
    stop: Ints


@dataclass(frozen=True, kw_only=True)
class Course:
    """Entities on a chain, and their jumps: int64[m] each, sorted by entity and instant."""

    chain: Chain
    beginning: Beginning
    jump_entity: Ints
    jump_at: Ints
    jump_tick: Ints
    jump_state: Ints

    @classmethod
    def simulate(cls, rng: np.random.Generator, chain: Chain, beginning: Beginning, until: int) -> Course:
        """Let entities run until an instant (microseconds)."""
        limit = float(working_days(np.array([until]))[0])
        path = chain.simulate(rng, beginning.entities, beginning.first, limit)
        return cls(
            chain=chain,
            beginning=beginning,
            jump_entity=path.entity,
            jump_at=instants(path.at),
            jump_tick=path.tick,
            jump_state=path.state,
        )

    def until(self, last: Ints) -> Course:
        """Return it without the jumps after an instant of each entity's own."""
        keep = self.jump_at <= last[self.jump_entity]
        return Course(
            chain=self.chain,
            beginning=self.beginning,
            jump_entity=self.jump_entity[keep],
            jump_at=self.jump_at[keep],
            jump_tick=self.jump_tick[keep],
            jump_state=self.jump_state[keep],
        )

    def take(self, order: Ints) -> Course:
        """Return it with its entities in another order (a permutation)."""
        place = np.argsort(order)[self.jump_entity]
        sorting = np.lexsort((self.jump_at, place))
        beginning = self.beginning
        return Course(
            chain=self.chain,
            beginning=Beginning(
                started=beginning.started[order],
                first=beginning.first[order],
                quality=beginning.quality[order],
                pace=beginning.pace[order],
            ),
            jump_entity=place[sorting],
            jump_at=self.jump_at[sorting],
            jump_tick=self.jump_tick[sorting],
            jump_state=self.jump_state[sorting],
        )

    @cached_property
    def _offsets(self) -> Ints:
        return np.searchsorted(self.jump_entity, np.arange(len(self.beginning) + 1))

    def state_at(self, entity: Ints, at: Ints) -> tuple[Ints, Flags]:
        """Return the state in force at each instant, and whether the jump of its tick is over."""
        start, stop = self._offsets[entity], self._offsets[entity + 1]
        last = end_within(self.jump_at, start, stop, at) - 1
        has_jumped = last >= start
        last = np.where(has_jumped, last, 0)
        if self.jump_state.size == 0:
            return self.beginning.first[entity], np.zeros(entity.size, dtype=bool)
        state = np.where(has_jumped, self.jump_state[last], self.beginning.first[entity])
        tick = np.floor((working_days(at) - self.beginning.entities.start[entity]) / self.chain.tick)
        return state, has_jumped & (self.jump_tick[last] == tick)

    def occupancy(self, entity: Ints, now: Ints, until: Ints) -> Floats:
        """Return the probability of each state at `until`, given the state at `now`: float64[n, states]."""
        state, moved = self.state_at(entity, now)
        entities = self.beginning.entities.take(entity)
        return self.chain.occupancy(entities, state, moved, working_days(now), working_days(until))

    def first_arrival(self, *states: str) -> Ints:
        """Return when each entity first came into one of `states`: int64[n], NO_INSTANT for never."""
        arrived = np.full(len(self.beginning), NO_INSTANT)
        found = np.flatnonzero(np.isin(self.jump_state, [self.chain.index(state) for state in states]))[::-1]
        arrived[self.jump_entity[found]] = self.jump_at[found]
        return arrived

    def stays(self, until: int) -> Stays:
        """Return every stay in a state that can be left, up to an instant."""
        count = len(self.beginning)
        entity = np.concatenate([np.arange(count), self.jump_entity])
        start = np.concatenate([self.beginning.started, self.jump_at])
        state = np.concatenate([self.beginning.first, self.jump_state])
        order = np.lexsort((start, entity))
        entity, start, state = entity[order], start[order], state[order]
        ends = np.append(entity[1:] != entity[:-1], np.ones(min(count, 1), dtype=bool))
        stop = np.where(ends, until, np.append(start[1:], until))
        keep = np.isin(state, self.chain.open_states) & (start < until)
        return Stays(entity=entity[keep], state=state[keep], start=start[keep], stop=stop[keep])


def joined_courses(courses: list[Course]) -> Course:
    """Return one course of the entities of all, one after the other; all follow the same chain."""
    offsets = np.cumsum([0, *(len(course.beginning) for course in courses)])
    return Course(
        chain=courses[0].chain,
        beginning=Beginning(
            **{
                name: np.concatenate([getattr(course.beginning, name) for course in courses])
                for name in ("started", "first", "quality", "pace")
            }
        ),
        jump_entity=np.concatenate(
            [course.jump_entity + offset for course, offset in zip(courses, offsets, strict=False)]
        ),
        jump_at=np.concatenate([course.jump_at for course in courses]),
        jump_tick=np.concatenate([course.jump_tick for course in courses]),
        jump_state=np.concatenate([course.jump_state for course in courses]),
    )
