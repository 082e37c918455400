"""What an import did, row by row accounted for."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from crm_core.phrases import Phrase

KEPT_REFUSALS = 10_000
"""How many refusals a report holds itself; the file of refusals holds all of them."""


@dataclass(frozen=True, kw_only=True)
class ImportProgress:
    """How far an import is: rows of `rows_total` that step `step` (of `steps`) has dealt with."""

    step: str
    number: int
    steps: int
    file: str
    rows: int
    rows_total: int


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A row that was not taken, and why; `line` is that of the file, in Parquet the number of the row."""

    step: str
    file: str
    line: int
    column: str | None
    value: str | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return dict(vars(self))

    def in_words(self) -> str:
        """Return it as one line for a person."""
        what = "" if self.column is None else f"{self.column}: "
        got = "" if self.value is None else f", got {self.value!r}"
        return f"{self.file}, line {self.line}: {what}{self.reason}{got}"


def why_refused(column: str | None, value: object, reason: str) -> str:
    """Return why a row was refused, with the column and what stood there."""
    if column:
        reason = Phrase("{column}: {why}", column=column, why=reason)
    return reason if value is None else Phrase("{why}, got {value!r}", why=reason, value=value)


@dataclass(kw_only=True)
class StepReport:
    """What became of one step's rows: records = written + updated + unchanged + left out + refused.

    Without grouping every row is a record of its own, so that `rows_read` equals `records`; a line that is
    no row counts as a refused record.
    """

    step: str
    record_type: str
    event: str | None
    file: str
    rows_read: int = 0
    records: int = 0
    written: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**vars(self), "left_out": dict(self.left_out), "notes": dict(self.notes)}

    def in_words(self) -> str:
        """Return it as one line for a person."""
        what = f"{self.record_type} {self.event}" if self.event else self.record_type
        counts = {"written": self.written, "updated": self.updated, "unchanged": self.unchanged}
        counts |= {f"left out ({reason})": count for reason, count in self.left_out.items()}
        counts |= {"refused": self.refused}
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing to do"
        notes = "".join(f"; {count:,} {note}" for note, count in self.notes.items())
        grouped = f" in {self.records:,} groups" if self.records != self.rows_read else ""
        return f"{self.file} -> {what} ({self.step}): {self.rows_read:,} rows{grouped}: {told}{notes}"


@dataclass(kw_only=True)
class ImportReport:
    """What an import did: its steps, the rows it refused, and the columns that it did not use."""

    mapping: str
    dry_run: bool = False
    steps: list[StepReport] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    refused: int = 0
    unused_columns: dict[str, list[str]] = field(default_factory=dict)
    not_recognised: list[str] = field(default_factory=list)
    encodings: dict[str, str] = field(default_factory=dict)
    found_out: list[str] = field(default_factory=list)
    coverage: dict[str, datetime] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        return {
            "mapping": self.mapping,
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 3),
            "steps": [step.to_json() for step in self.steps],
            "refused": self.refused,
            "refusals": [refusal.to_json() for refusal in self.refusals],
            "refusals_not_listed": self.refused - len(self.refusals),
            "unused_columns": self.unused_columns,
            "not_recognised": self.not_recognised,
            "encodings": self.encodings,
            "found_out": self.found_out,
            "observed_until": {name: until.isoformat() for name, until in self.coverage.items()},
        }

    def in_words(self, *, refusals: int = 10) -> list[str]:
        """Return the report as lines for a screen, with the first refusals."""
        lines = [step.in_words() for step in self.steps]
        lines += [f"{file}: not recognised, not imported" for file in self.not_recognised]
        lines += [f"{file}: read as {encoding}" for file, encoding in self.encodings.items()]
        lines += self.found_out
        lines += [
            f"{file}: columns not used: {_some(columns)}" for file, columns in self.unused_columns.items()
        ]
        lines += [f"refused: {refusal.in_words()}" for refusal in self.refusals[:refusals]]
        if self.refused > refusals:
            lines.append(f"refused: {self.refused - refusals:,} more")
        if self.dry_run:
            lines.append("dry run: nothing was written")
        return lines


_SHOWN_COLUMNS = 12


def _some(columns: list[str]) -> str:
    more = len(columns) - _SHOWN_COLUMNS
    return ", ".join(columns[:_SHOWN_COLUMNS]) + (f" and {more:,} more" if more > 0 else "")


class RefusalLog:
    """Counts refusals, keeps the first for the report, and writes all of them to a file if there is one."""

    def __init__(self, report: ImportReport, path: Path | None) -> None:
        self._report = report
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, refusal: Refusal) -> None:
        """Take note of a refused row."""
        self._report.refused += 1
        if len(self._report.refusals) < KEPT_REFUSALS:
            self._report.refusals.append(refusal)
        if self._file is not None:
            self._file.write(json.dumps(refusal.to_json(), ensure_ascii=False) + "\n")
