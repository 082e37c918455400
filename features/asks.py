"""What features ask of events, gathered beforehand: all that is asked of one type is answered in one go.

A feature names its asks; a plan puts those of one event type together as a panel, which a compiled loop works
through: what a record's thirty events cost is mostly the number of calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from features.columns import Columns, Values, Words, in_words, stored_in

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

KINDS = 62
"""Kinds of events that one panel tells apart: one bit each of a positive number."""


class Measure(IntEnum):
    """What is asked; `features.kernels` reads the same numbers."""

    COUNT = 0
    TOTAL = 1
    MEAN = 2
    DAYS_SINCE_LAST = 3
    DAYS_SINCE_FIRST = 4
    LAST = 5
    FIRST = 6
    DISTINCT = 7
    MEDIAN_GAP = 8


class Kind(NamedTuple):
    """Which events: of the record asked about or the one it names in `via`, those that `where` lets in."""

    via: str | None
    event: str
    where: tuple[tuple[str, tuple[str | None, ...]], ...] = ()


class Ask(NamedTuple):
    """One measure of one kind of event in one window (`length` in microseconds, None: all).

    Totals and means are of a column of whole numbers, over `scale`; distinct values are of any column.
    """

    kind: Kind
    measure: Measure
    length: int | None = None
    field: str = ""
    scale: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Asks of one event type by kind, as arrays of one length; `bit` tells their kind in `kinds_of`."""

    asks: tuple[Ask, ...]
    bit: Ints
    measure: Ints
    length: Ints
    column: Ints
    scale: Floats
    fields: tuple[str, ...]
    allowed: tuple[tuple[str, Mapping[str | None, int], int], ...]

    @classmethod
    def of(cls, asks: Iterable[Ask]) -> Panel:
        """Gather asks of at most 62 kinds."""
        ordered = tuple(sorted(dict.fromkeys(asks), key=_place))
        kinds = list(dict.fromkeys(ask.kind for ask in ordered))
        fields = tuple(dict.fromkeys(ask.field for ask in ordered if ask.field))
        return cls(
            asks=ordered,
            bit=np.array([1 << kinds.index(ask.kind) for ask in ordered], dtype=np.int64),
            measure=np.array([ask.measure for ask in ordered], dtype=np.int64),
            length=np.array([-1 if ask.length is None else ask.length for ask in ordered], dtype=np.int64),
            column=np.array([fields.index(ask.field) if ask.field else 0 for ask in ordered], dtype=np.int64),
            scale=np.array([ask.scale for ask in ordered], dtype=np.float64),
            fields=fields,
            allowed=tuple(_allowed(kinds)),
        )

    def kinds_of(self, columns: Columns | Mapping[str, Values | Words]) -> Ints:
        """Return which kinds each event is of, as bits; an empty array: all are of every kind."""
        kinds: Ints = _NOTHING
        for field, bits, others in self.allowed:
            words = in_words(stored_in(columns, field))
            known = np.array([bits.get(word, others) for word in words.words.tolist()], dtype=np.int64)
            allowed = known[words.codes] if words.size else _NOTHING
            kinds = allowed if kinds is _NOTHING else kinds & allowed
        return kinds

    def values_of(self, columns: Columns | Mapping[str, Values | Words]) -> Ints:
        """Return the columns asked for as whole numbers, NO_INSTANT for empty: int64[fields, events]."""
        found = [numbered(stored_in(columns, field)) for field in self.fields]
        if len(found) == 1:
            return found[0].reshape(1, -1)
        return np.stack(found) if found else _NO_COLUMNS


def panels_of(asks: Iterable[Ask]) -> list[Panel]:
    """Return the panels of all event types."""
    by_event: dict[tuple[str | None, str], dict[Kind, list[Ask]]] = defaultdict(lambda: defaultdict(list))
    for ask in asks:
        by_event[ask.kind.via, ask.kind.event][ask.kind].append(ask)
    return [panel for kinds in by_event.values() for panel in _cut(list(kinds.values()))]


def places_of(panels: Iterable[Panel]) -> dict[Ask, tuple[Panel, int]]:
    """Return where the answer to each ask stands."""
    return {ask: (panel, place) for panel in panels for place, ask in enumerate(panel.asks)}


def numbered(column: Values | Words) -> Ints:
    """Return a column as whole numbers that differ where its values do; NO_INSTANT where it is empty."""
    if isinstance(column, Words):
        numbers = [
            NO_INSTANT if word in (None, "") else place for place, word in enumerate(column.words.tolist())
        ]
        return np.array(numbers, dtype=np.int64)[column.codes]
    return column


def _cut(kinds: list[list[Ask]]) -> Iterable[Panel]:
    for first in range(0, len(kinds), KINDS):
        yield Panel.of(ask for asks in kinds[first : first + KINDS] for ask in asks)


def _place(ask: Ask) -> tuple[str, ...]:
    """Return what puts asks of one kind side by side."""
    return (repr(ask.kind), ask.field)


def _allowed(kinds: list[Kind]) -> Iterable[tuple[str, Mapping[str | None, int], int]]:
    """Yield for each field the kinds that each word of it allows, and those that any other word does."""
    wanted = [dict(kind.where) for kind in kinds]
    for field in sorted({field for fields in wanted for field in fields}):
        others = sum(1 << place for place, fields in enumerate(wanted) if field not in fields)
        words = {word for fields in wanted for word in fields.get(field, ())}
        yield (
            field,
            {
                word: others
                + sum(1 << place for place, fields in enumerate(wanted) if word in fields.get(field, ()))
                for word in words
            },
            others,
        )


_NOTHING = np.empty(0, dtype=np.int64)
_NO_COLUMNS = np.empty((0, 0), dtype=np.int64)
