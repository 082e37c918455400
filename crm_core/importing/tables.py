"""A table of a mapping, read key by key, with complaints that say where and what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, overload

from crm_core.errors import MappingError

T = TypeVar("T")
D = TypeVar("D")

_REQUIRED: Any = object()


class Table:
    """One table of a TOML file; every key must be asked for before `finish`, so that a slip is found."""

    def __init__(self, data: Mapping[str, Any], place: str) -> None:
        self._data = data
        self._asked: set[str] = set()
        self.place = place

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def refuse(self, message: str, key: str | None = None) -> MappingError:
        """Return the error that says `message` about this table, or about `key` in it."""
        place = ".".join(part for part in (self.place, key) if part)
        return MappingError(f"{place}: {message}")

    def value(self, key: str, default: Any = _REQUIRED) -> Any:  # noqa: ANN401  any TOML value
        """Return what stands under `key`, whatever it is."""
        self._asked.add(key)
        if key in self._data:
            return self._data[key]
        if default is _REQUIRED:
            raise self.refuse(f"{key!r} is missing")
        return default

    @overload
    def typed(self, key: str, kind: type[T]) -> T: ...
    @overload
    def typed(self, key: str, kind: type[T], default: D) -> T | D: ...
    def typed(self, key: str, kind: type[T], default: Any = _REQUIRED) -> T | Any:
        """Return what stands under `key` if it is of `kind`."""
        value = self.value(key, default)
        if value is not default and (not isinstance(value, kind) or _is_flag(value) is not (kind is bool)):
            raise self.refuse(f"expected {_NAMES[kind]}, got {value!r}", key)
        return value

    def number(self, key: str, default: float) -> float:
        """Return a number, whole or not."""
        value = self.value(key, default)
        if _is_flag(value) or not isinstance(value, int | float):
            raise self.refuse(f"expected a number, got {value!r}", key)
        return float(value)

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return one text or a list of them as a tuple."""
        value = self.value(key, default)
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
            raise self.refuse(f"expected a text or a list of texts, got {value!r}", key)
        return tuple(values)

    def choice(self, key: str, words: Iterable[str], default: str = _REQUIRED) -> str:
        """Return one of `words`."""
        value, known = self.value(key, default), list(words)
        if value is not default and value not in known:
            raise self.refuse(f"expected one of {', '.join(known)}, got {value!r}", key)
        return str(value)

    def table(self, key: str) -> Table:
        """Return the table under `key`; an absent one is empty."""
        value = self.value(key, {})
        if not isinstance(value, dict):
            raise self.refuse(f"expected a table, got {value!r}", key)
        return Table(value, f"{self.place}.{key}" if self.place else key)

    def tables(self, key: str) -> list[Table]:
        """Return the tables of the list under `key`; an absent one is empty."""
        value = self.value(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.refuse(f"expected a list of tables ([[{key}]]), got {value!r}", key)
        place = f"{self.place}.{key}" if self.place else key
        return [Table(each, f"{place}[{number}]") for number, each in enumerate(value, start=1)]

    def finish(self) -> None:
        """Refuse a key that nobody asked for."""
        for key in self._data:
            if key not in self._asked:
                raise self.refuse(f"unknown key {key!r}{did_you_mean(key, self._asked)}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about a wrong word: what was probably meant, and what there is."""
    words = sorted(known)
    close = get_close_matches(word, words, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (there are: {', '.join(words)})" if words else hint


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


_NAMES: dict[type, str] = {str: "a text", bool: "true or false", int: "a whole number", dict: "a table"}
