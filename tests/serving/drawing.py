"""Draw from a strategy of Hypothesis, and no more than that.

Hypothesis notes of every value how it came about, to vary it and to make it smaller, and asks again and again
whether strategies are sound. A case that is tried once, and told by its request, needs none of it and is made
in a third of the time without. What is drawn, and how likely, is up to Hypothesis as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final, TypeVar

from hypothesis.control import BuildContext
from hypothesis.errors import StopTest, UnsatisfiedAssumption
from hypothesis.internal.conjecture.choice import (
    ChoiceConstraintsT,
    ChoiceT,
    ChoiceTemplate,
    ChoiceTypeT,
    choice_permitted,
)
from hypothesis.internal.conjecture.data import MAX_DEPTH, ConjectureData
from hypothesis.internal.conjecture.providers import GLOBAL_CONSTANTS, HypothesisProvider
from hypothesis.strategies import SearchStrategy
from hypothesis.strategies._internal.lazy import unwrap_strategies
from hypothesis.strategies._internal.misc import Nothing

T = TypeVar("T")

_PATIENCE: Final = 50
"""How often in a row nothing new may come before all there is counts as drawn."""


class _Values(HypothesisProvider):
    """Values as Hypothesis draws them, now and then a constant that it knows."""

    def _maybe_draw_constant(
        self, choice_type: ChoiceTypeT, constraints: ChoiceConstraintsT, *, p: float = 0.05
    ) -> Any:
        """Try some constants: which of some thousands fit takes longer to tell than most cases to make."""
        if self.random.random() > p:
            return None
        known = self.random.choice([GLOBAL_CONSTANTS, self._local_constants]).set_for_type(choice_type)
        tried = (self.random.choice(known) for _ in range(20 if known else 0))
        return next((each for each in tried if choice_permitted(each, constraints)), None)

    @property
    def random(self) -> Random:
        assert self._random is not None
        return self._random


class _Draw(ConjectureData):
    """What strategies draw their values from, without a record of them."""

    def draw(self, strategy: SearchStrategy[T], label: int | None = None, observe_as: str | None = None) -> T:
        plain: SearchStrategy[T] = unwrap_strategies(strategy)  # type: ignore[no-untyped-call] # as it comes
        if self.depth >= MAX_DEPTH or isinstance(plain, Nothing):
            self.mark_invalid()
        self.depth += 1
        try:
            return plain.do_draw(self)
        finally:
            self.depth -= 1

    def start_span(self, label: int) -> None:
        self.depth += 1

    def stop_span(self, *, discard: bool = False) -> None:
        self.depth -= 1

    def _pooled_constraints(self, choice_type: ChoiceTypeT, constraints: Any) -> Any:
        return constraints

    def _draw(
        self,
        choice_type: ChoiceTypeT,
        constraints: ChoiceConstraintsT,
        *,
        observe: bool,
        forced: ChoiceT | None,
    ) -> Any:
        drawn = forced
        if drawn is None:
            drawn = getattr(self.provider, f"draw_{choice_type}")(**constraints)
        if observe:
            self.length += 1 + len(drawn) if isinstance(drawn, str | bytes) else 8
            if self.length > self.max_length:
                self.mark_overrun()
        return drawn


class _Context(BuildContext):
    """Where a value is made, without a record of the calls that made it."""

    def record_call(self, *told: object, **named: object) -> None:
        pass


def draw_some(strategy: SearchStrategy[T], count: int, random: Random) -> Iterator[T]:
    """Give values whose text differs: the simplest one first, then `count` in all unless there are fewer."""
    strategy.validate()
    seen, missed = set[str](), 0
    data = ConjectureData.for_choices([ChoiceTemplate("simplest", count=None)])
    while len(seen) < count and missed < _PATIENCE:
        missed += 1
        try:
            with _Context(data, wrapped_test=draw_some):
                value = data.draw(strategy)
        except (StopTest, UnsatisfiedAssumption):
            pass
        else:
            if (text := repr(value)) not in seen:
                seen.add(text)
                missed = 0
                yield value
        data = _Draw(random=random, provider=_Values)
