"""What every declared feature is: a name, a meaning, the fields it reads, and how it is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crm_core.errors import FeatureError, OutcomeFieldError
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, SCORE_COLUMNS
from crm_core.validation import columns_of
from features.wording import Sentence, Value

if TYPE_CHECKING:
    from features.asks import Ask
    from features.facts import Facts

Column = npt.NDArray[np.float64] | npt.NDArray[np.object_]

VIA = {"account_id": "account", "owner_id": "user", "owner_id.team_id": "team"}
"""Fields that lead from a record to another whose features it may borrow, step by step."""

_OF_USERS = frozenset({"team_id"})
"""What may be read of the people who own records: no model looks at who somebody is."""

_MOST_TOLD = 1_000
"""Values of a feature for which it is kept how they read."""

_BOOKKEEPING = frozenset(
    {"id", "external_id", "occurred_at", "recorded_at", "deleted_at", "version", "custom"}
)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a feature says.

    Attributes
    ----------
    name : str
        Its column in a frame; carries the unit.
    unit : str
        count, days, hours, currency, ratio (times), share (of 1), flag, value or category.
    nan : str
        What a missing value means.
    group : str
        Features of one group are one reason to a rep.
    sentence : Sentence
        What a rep reads.
    """

    name: str
    unit: str
    nan: str
    group: str
    sentence: Sentence


@dataclass(frozen=True, kw_only=True)
class Need:
    """Fields that a feature reads: of the record asked about, of one it names (`via`), or of linked events.

    `guards` are read only to tell whether an event still stands at the question, as its deletion does; they
    are no inputs, and so may be fields that are written at an outcome of the past. With `each`, what became
    of all other records is counted by these fields too: see `features.population`.
    """

    record: str
    via: str | None = None
    event: str | None = None
    fields: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    each: str | None = None


@dataclass(frozen=True, kw_only=True)
class Feature(ABC):
    """A function of a record and an instant over what was known at that instant."""

    record: str

    @property
    @abstractmethod
    def meaning(self) -> Meaning:
        """Return name, unit, meaning of a missing value, group and sentence."""

    @abstractmethod
    def needs(self) -> tuple[Need, ...]:
        """Return what has to be read."""

    def asks(self) -> tuple[Ask, ...]:
        """Return what is asked of events, so that all of it is answered together."""
        return ()

    @abstractmethod
    def compute(self, facts: Facts) -> Column:
        """Return one value a question: float64 with NaN, or object with None for a category."""

    @cached_property
    def _said(self) -> Meaning:
        """Its meaning, put together once: words are asked for with every reason."""
        return self.meaning

    @property
    def name(self) -> str:
        """Return the name of its column."""
        return self._said.name

    @property
    def unit(self) -> str:
        """Return the unit of its values."""
        return self._said.unit

    @property
    def dtype(self) -> str:
        """Return "category" or "number"."""
        return "category" if self.unit == "category" else "number"

    @property
    def nan_meaning(self) -> str:
        """Return what a missing value means."""
        return self._said.nan

    @property
    def group(self) -> str:
        """Return the group it is explained with."""
        return self._said.group

    @property
    def sentence_en(self) -> str:
        """Return the English sentence with `{value}` in it."""
        return self._said.sentence.en

    @property
    def sentence_zh(self) -> str:
        """Return the Chinese sentence with `{value}` in it."""
        return self._said.sentence.zh

    @cached_property
    def source_fields(self) -> tuple[str, ...]:
        """Return the fields it reads, as `record.field`, sorted."""
        return tuple(sorted({field for need in self.needs() for field in _fields_of(need)}))

    def say(self, value: Value, language: str = "en", usual: float | None = None) -> str:
        """Return what a rep reads for `value`, beside what is `usual` for a number."""
        zero = str(value) if value == 0 else ""  # a negative zero equals zero, and reads otherwise
        key = (value, zero, language, usual)
        found = self._told.get(key)
        if found is None:
            if len(self._told) >= _MOST_TOLD:
                self._told.clear()
            found = self._told[key] = self._said.sentence.say(value, self.unit, language, usual)
        return found

    @cached_property
    def _told(self) -> dict[tuple[Value, str, str, float | None], str]:
        """What was said of values that come again and again."""
        return {}

    def without_fields(self, unusable: frozenset[str]) -> Feature | None:
        """Return what is left of it without the fields `unusable` (`record.field`); None for nothing."""
        return None if unusable.intersection(self.source_fields) else self

    def declaration(self) -> dict[str, Any]:
        """Return what decides its values, for the fingerprint; words do not."""
        return {"feature": type(self).__name__, "name": self.name, **_decisive(self)}


def check_input(record: str, field: str) -> None:
    """Raise OutcomeFieldError or FeatureError for a field that can never be an input."""
    if record not in RECORD_TYPES:
        raise FeatureError(f"{record}: expected one of {', '.join(sorted(RECORD_TYPES))}")
    if field in OUTCOME_FIELDS.get(record, ()):
        raise OutcomeFieldError(f"{record}.{field} is written at or after the outcome and can be no input")
    if field in SCORE_COLUMNS:
        raise OutcomeFieldError(f"{record}.{field} is written by models and can be no input of one")
    if record == "user" and field not in _OF_USERS:
        raise FeatureError(f"user.{field} says who somebody is: of owners only their team can be an input")
    if field in _BOOKKEEPING:
        raise FeatureError(f"{record}.{field} is bookkeeping and says nothing about the {record}")
    if not field.startswith("custom.") and field not in columns_of(RECORD_TYPES[record]):
        raise FeatureError(f"{record} has no field {field!r}")


@cache
def reached(record: str, via: str | None) -> str:
    """Return the record type that a feature of `record` reads through the fields `via`."""
    if via is None:
        return record
    if via not in VIA or via.split(".")[0] not in columns_of(RECORD_TYPES[record]):
        raise FeatureError(f"{record}.{via} leads to no record; expected {' or '.join(VIA)}")
    for before, field in steps_to(via):
        check_input(record if before is None else VIA[before], field)
    return VIA[via]


def steps_to(via: str | None) -> list[tuple[str | None, str]]:
    """Return (what leads to the record that names the next one, the field that names it) of each step."""
    fields = [] if via is None else via.split(".")
    return [(".".join(fields[:at]) or None, field) for at, field in enumerate(fields)]


def _fields_of(need: Need) -> set[str]:
    owner = reached(need.record, need.via)
    found = {f"{need.event or owner}.{field}" for field in need.fields}
    if need.event is not None:
        found.add(f"{need.event}.occurred_at")
    return found | {f"{reached(need.record, before)}.{field}" for before, field in steps_to(need.via)}


def _decisive(value: object) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(value, tuple):
        return [_decisive(each) for each in value]
    if not is_dataclass(value):
        return value
    return {
        field.name: _decisive(getattr(value, field.name))
        for field in fields(value)
        if not field.metadata.get("words")
    }
