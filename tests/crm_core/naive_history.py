"""What is known when, told slowly: everything that was done is kept and gone through for every question.

Nothing here reads the change log. A statement is one field of one record, said by one operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, int]
"""Record type and id."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A record's field held `value` from `happened` on, as learned at `learned`."""

    happened: int
    learned: int
    number: int
    value: Any


@dataclass(kw_only=True)
class Naive:
    """One record: how it began, what was said of it since, and when it was deleted."""

    first: dict[str, Any]
    happened: int
    learned: int
    deleted: int | None = None
    said: dict[str, list[Statement]] = field(default_factory=dict)

    def value(self, name: str, *, happened: int, learned: int) -> Any:
        """Return what a field held at `happened`, by what was known at `learned`."""
        known = [
            each for each in self.said.get(name, []) if each.happened <= happened and each.learned <= learned
        ]
        if not known:
            return self.first.get(name)
        return max(known, key=lambda each: (each.happened, each.learned, each.number)).value

    def state(self, at: int) -> dict[str, Any] | None:
        """Return all fields as known at `at`; None while it was not known."""
        if self.happened > at or self.learned > at or (self.deleted is not None and self.deleted <= at):
            return None
        names = self.first.keys() | self.said.keys()
        return {name: self.value(name, happened=at, learned=at) for name in names}


class NaiveStore:
    """All records of one history."""

    def __init__(self) -> None:
        self.records: dict[Key, Naive] = {}
        self._count = 0

    def begin(self, key: Key, first: dict[str, Any], *, happened: int, learned: int) -> None:
        """A record came to be."""
        self.records[key] = Naive(first=first, happened=happened, learned=learned)

    def say(self, key: Key, values: dict[str, Any], *, happened: int, learned: int) -> None:
        """Something is said of a record; no news is no fact."""
        record = self.records[key]
        for name, value in values.items():
            self._count += 1
            if record.value(name, happened=happened, learned=learned) != value:
                said = Statement(happened=happened, learned=learned, number=self._count, value=value)
                record.said.setdefault(name, []).append(said)

    def now(self, key: Key, now: int) -> dict[str, Any]:
        """Return what a record holds now, deleted or not."""
        record = self.records[key]
        names = record.first.keys() | record.said.keys()
        return {name: record.value(name, happened=now, learned=now) for name in names}

    def merge(self, keep: Key, gone: Key, links: dict[str, list[str]], now: int) -> None:
        """What pointed at `gone` points at `keep`, which takes over what it lacks; `gone` is deleted."""
        if gone[1] in self.above(keep, now):
            self.say(keep, {"parent_id": None}, happened=now, learned=now)
        for key in self.records:
            for name in links.get(key[0], []):
                if self.now(key, now).get(name) == gone[1]:
                    self.say(key, {name: keep[1]}, happened=now, learned=now)
        held, other = self.now(keep, now), self.now(gone, now)
        gaps = {name: value for name, value in other.items() if held.get(name) is None and value is not None}
        if keep[1] in self.above(gone, now):
            gaps.pop("parent_id", None)
        self.say(keep, gaps, happened=now, learned=now)
        self.say(gone, {"merged_into_id": keep[1]}, happened=now, learned=now)
        self.records[gone].deleted = now

    def above(self, key: Key, now: int) -> set[int]:
        """Return the records above one, as parents' parents."""
        found: set[int] = set()
        parent = self.now(key, now).get("parent_id")
        while parent is not None and parent not in found:
            found.add(parent)
            parent = self.now((key[0], parent), now).get("parent_id")
        return found

    def instants(self) -> set[int]:
        """Return every instant that anything names."""
        found = set()
        for record in self.records.values():
            found |= {record.happened, record.learned}
            found |= {record.deleted} if record.deleted is not None else set()
            for said in record.said.values():
                found |= {instant for each in said for instant in (each.happened, each.learned)}
        return found
