"""From the rows of a file to candidates for being written; a row that cannot be one is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from crm_core.clock import Clock
from crm_core.declared import Declarations
from crm_core.errors import CRMError, InvalidValueError
from crm_core.fields import CUSTOM
from crm_core.importing.compiling import Compiler, Lookups
from crm_core.importing.expressions import Link, columns_in
from crm_core.importing.grouping import SeenKeys, group_rows
from crm_core.importing.readers import Fault, Row, Source, read_rows
from crm_core.importing.report import Refusal, RefusalLog, StepReport
from crm_core.importing.specs import Step
from crm_core.importing.writing import Candidate
from crm_core.phrases import Phrase
from crm_core.validation import check_values, columns_of

_LONGEST_SHOWN = 200
"""Characters of a refused value that a report shows."""


class StepRows:
    """Reads one step's file and makes candidates of its rows, refusing those that cannot be."""

    def __init__(
        self,
        step: Step,
        source: Source,
        lookups: Lookups,
        report: StepReport,
        refusals: RefusalLog,
        clock: Clock,
        declared: Declarations,
    ) -> None:
        self._step = step
        self._source = source
        self._report = report
        self._refusals = refusals
        self._clock = clock
        self._declared = declared
        compiler = Compiler(source.header, empty=source.spec.empty, lookups=lookups, group=step.group)
        self._key_of_line = Compiler(source.header, empty=source.spec.empty, lookups=lookups).reader(
            step.external_id
        )
        self._filters = [(each.reason, compiler.left_out(each)) for each in step.leave_out]
        self._external_id = compiler.reader(step.external_id)
        self._occurred_at = compiler.reader(step.occurred_at)
        self._recorded_at = None if isinstance(step.recorded_at, str) else compiler.reader(step.recorded_at)
        self._changed_at = None if step.changed_at is None else compiler.reader(step.changed_at)
        self._won = None if step.won is None else compiler.reader(step.won)
        self._fields = [(each.name, compiler.reader(each.value)) for each in step.fields]
        self._links = {each.name for each in step.fields if isinstance(each.value, Link)}
        self._columns = {
            place.rsplit(".", 1)[-1]: ", ".join(columns_in(value)) for place, value in step.expressions()
        }
        self._needed = {
            each.name
            for each in step.fields
            if not each.name.startswith("custom.") and not columns_of(step.model)[each.name].nullable
        }

    def candidates(self) -> Iterator[Candidate | None]:
        """Return a candidate a row or group; None for what was left out or refused."""
        rows = self._rows()
        grouped = group_rows(rows, self._key_or_none) if self._step.group else rows
        for line, cells in grouped:
            self._report.records += 1
            yield self._candidate(line, cells)

    def without_repeats(self, seen: SeenKeys, candidates: list[Candidate]) -> list[Candidate]:
        """Refuse candidates whose external id stood in the file before."""
        if self._step.event == "update":
            return candidates
        repeats = seen.repeats([(each.external_id, each.line) for each in candidates])
        for position, line in repeats.items():
            reason = Phrase("line {line} has the same external id", line=line)
            self.refuse_candidate(
                candidates[position], "external_id", candidates[position].external_id, reason
            )
        return [each for position, each in enumerate(candidates) if position not in repeats]

    def refuse_candidate(self, each: Candidate, name: str, value: object, reason: str) -> None:
        """Take note of a candidate that cannot be written."""
        each.refused = True
        column = self._columns.get(name.removeprefix("custom."))
        self._refuse(each.line, column, value, reason)

    def _refuse(self, line: int, column: str | None, value: object, reason: str) -> None:
        self._report.refused += 1
        self._refusals.add(
            Refusal(
                step=self._step.name,
                file=self._source.spec.path,
                line=line,
                column=column,
                value=shown(value),
                reason=reason,
            )
        )

    def _rows(self) -> Iterator[Row]:
        for row in read_rows(self._source):
            self._report.rows_read += 1
            if isinstance(row, Fault):
                self._report.records += 1
                self._refuse(row.line, None, row.value, row.reason)
            else:
                yield row

    def _key_or_none(self, cells: Sequence[Any]) -> str | None:
        try:
            key: str | None = self._key_of_line(cells)
        except InvalidValueError:
            return None  # the row is refused when its turn comes
        return key

    def _candidate(self, line: int, cells: Any) -> Candidate | None:  # noqa: ANN401  a row or a group
        try:
            for reason, leaves_out in self._filters:
                if leaves_out(cells):
                    self._report.left_out[reason] += 1
                    return None
            candidate = self._read(line, cells)
            self._check(candidate)
        except InvalidValueError as error:
            self._refuse(
                line,
                self._column_of(error.field),
                error.value,
                Phrase("expected {expected}", expected=error.expected),
            )
        except CRMError as error:
            self._refuse(line, None, None, str(error))
        else:
            return candidate
        return None

    def _read(self, line: int, cells: Any) -> Candidate:  # noqa: ANN401  a row or a group
        happened = self._clock.now() if self._step.undated else self._occurred_at(cells)
        occurred_at = _given(happened, "occurred_at", "a date")
        by_line = self._step.by_line
        key = self._external_id(cells) if by_line is None else f"{by_line}{line}"
        return Candidate(
            line=line,
            external_id=_given(key, "external_id", "an external id"),
            occurred_at=occurred_at,
            recorded_at=self._learned(cells, occurred_at),
            changed_at=None if self._changed_at is None else self._changed_at(cells),
            won=None if self._won is None else _given(self._won(cells), "won", "true or false"),
            values={name: read(cells) for name, read in self._fields},
        )

    def _learned(self, cells: Any, occurred_at: datetime) -> datetime | None:  # noqa: ANN401  a row or group
        if self._recorded_at is not None:
            learned: datetime = _given(self._recorded_at(cells), "recorded_at", "a date")
            return learned
        return occurred_at if self._step.recorded_at == "as_occurred" else None

    def _check(self, each: Candidate) -> None:
        now = self._clock.now()
        for name in ("occurred_at", "recorded_at", "changed_at"):
            value = getattr(each, name)
            if value is not None and value > now:
                raise InvalidValueError(
                    name, value.isoformat(), Phrase("an instant up to now ({now})", now=now)
                )
        for name in self._needed:
            _given(each.values[name], name, "a value")
        plain = {
            name: value
            for name, value in each.values.items()
            if name not in self._links and not name.startswith("custom.")
        }
        # An event before its record's start is the step's to refuse or to keep.
        began = {} if self._step.event else {"occurred_at": each.occurred_at}
        check_values(self._step.model, {"external_id": each.external_id, **began, **plain})
        custom = {
            name.removeprefix(CUSTOM): value
            for name, value in each.values.items()
            if name.startswith(CUSTOM) and name not in self._links
        }
        stored = self._declared.stored(self._step.record_type, custom, new=False) or {}
        each.values.update({f"{CUSTOM}{name}": value for name, value in stored.items()})

    def _column_of(self, field: str) -> str:
        """Return the column behind the field that an error names; a converter names the column itself."""
        return self._columns.get(field.rsplit(".", 1)[-1], field)


def _given(value: Any, name: str, expected: str) -> Any:  # noqa: ANN401  whatever the field holds
    if value is None:
        raise InvalidValueError(name, None, expected)
    return value


def shown(value: object) -> str | None:
    """Return a value as a refusal shows it."""
    return None if value is None else str(value)[:_LONGEST_SHOWN]
