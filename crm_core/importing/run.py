"""Running an import: look through the files, declare the fields, write step after step, say what was covered.

Every batch is a transaction of its own and every record has an external id, so an import that was killed is
finished by running it again, and running a finished one again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Dictionary
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import datetime
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from crm_core.changes import Source as Written
from crm_core.clock import instant
from crm_core.declared import Declarations, declarations
from crm_core.errors import InvalidValueError, MappingError, SourceFileError
from crm_core.fields import (
    CUSTOM,
    Coverage,
    Known,
    declare_field,
    find_field,
    find_labelled,
    set_observed_until,
)
from crm_core.importing.detecting import settle
from crm_core.importing.expressions import Link
from crm_core.importing.grouping import SeenKeys
from crm_core.importing.lookups import read_lookup
from crm_core.importing.presets import fit
from crm_core.importing.readers import Source, open_source
from crm_core.importing.report import ImportProgress, ImportReport, Refusal, RefusalLog, StepReport
from crm_core.importing.rows import StepRows, shown
from crm_core.importing.specs import LookupSpec, Mapping, Step
from crm_core.importing.writing import Candidate, writer_of
from crm_core.phrases import Phrase
from crm_core.record_types import declare_record_type, get_record_type
from crm_core.records import LINKABLE, CustomRecord
from crm_core.store import Rehearsal, Store, Transaction

T = TypeVar("T")

BATCH_ROWS = 2_000
"""Rows (or groups) written in one transaction: few enough that others who write wait for moments only."""

Progress = Callable[[ImportProgress], None]
Lookups = dict[str, dict[str, Any]]


def run_import(
    store: Store,
    mapping: Mapping,
    folder: Path,
    *,
    progress: Progress | None = None,
    refusals_file: Path | None = None,
    dry_run: bool = False,
    actor_id: int | None = None,
) -> ImportReport:
    """Import the files in `folder` as `mapping` says and return what became of every row.

    `actor_id` is whoever imports, as the change log names them. `refusals_file` receives every refusal as one
    JSON object a line; the report itself holds the first ones.
    A dry run does everything and undoes it: its report is that of the import, and the store stays as it was.
    Raises SourceFileError or MappingError before anything is written where a file is missing, damaged, in
    another encoding, or without a column that the mapping names.
    """
    started = perf_counter()
    said = mapping.files
    report = ImportReport(mapping=mapping.name, dry_run=dry_run)
    if mapping.is_preset:
        fitted = fit(mapping, folder)
        mapping, sources, report.not_recognised = fitted.mapping, fitted.sources, fitted.not_recognised
    else:
        sources = _open_sources(mapping, folder)
    mapping, found = settle(mapping, sources)
    report.found_out = [each.in_words() for each in found]
    report.unused_columns = {
        source.spec.path: list(source.unused) for source in sources.values() if source.unused
    }
    report.encodings = {
        source.spec.path: source.spec.encoding
        for name, source in sources.items()
        if source.spec.encoding != said[name].encoding and source.spec.format == "csv"
    }
    target = store.rehearsal() if dry_run else nullcontext(store)
    with RefusalLog(report, refusals_file) as refusals, target as written:
        run = _Run(written, mapping, sources, report, refusals, progress, actor_id)
        run.look_up()
        run.declare()
        for number, step in enumerate(mapping.steps, start=1):
            run.step(step, number)
        run.cover()
    report.seconds = perf_counter() - started
    return report


def _open_sources(mapping: Mapping, folder: Path) -> dict[str, Source]:
    if not folder.is_dir():
        raise SourceFileError(Phrase("there is no folder {folder}", folder=folder))
    sources = {}
    for name, spec in mapping.files.items():
        wanted = mapping.columns_of_file(name)
        if wanted:
            sources[name] = open_source(spec, folder, wanted)
    return sources


class _Run:
    """One run of one mapping."""

    def __init__(
        self,
        store: Store | Rehearsal,
        mapping: Mapping,
        sources: Dictionary[str, Source],
        report: ImportReport,
        refusals: RefusalLog,
        progress: Progress | None,
        actor_id: int | None = None,
    ) -> None:
        self._actor_id = actor_id
        self._store = store
        self._mapping = mapping
        self._sources = sources
        self._report = report
        self._refusals = refusals
        self._progress = progress
        self._lookups: Lookups = {}
        self._newest: dict[str, datetime] = {}
        self._declared = Declarations((), ())

    def _transaction(self) -> AbstractContextManager[Transaction]:
        return self._store.transaction(source=Written.IMPORT, actor_id=self._actor_id)

    def look_up(self) -> None:
        """Read what steps look up in other files; only one value a key is held."""
        for spec in self._mapping.lookups:
            source = self._sources[spec.file]
            self._lookups[spec.name] = read_lookup(spec, source, self._refuse_lookup(spec, source))

    def declare(self) -> None:
        """Declare the fields, and until the end of the import take nothing as wholly seen."""
        with self._transaction() as transaction:
            _declare_types(transaction.session, self._mapping)
            _declare_fields(transaction.session, self._mapping)
            self._declared = declarations(transaction.session)
            for step in self._mapping.steps:
                _check_step(step, self._declared)
            for record_type in self._mapping.coverage:
                if transaction.session.get(Coverage, record_type) is None:
                    set_observed_until(transaction.session, record_type, instant(0))

    def step(self, step: Step, number: int) -> None:
        """Write one step's rows."""
        source = self._sources[step.file]
        report = StepReport(
            step=step.name, record_type=step.record_type, event=step.event, file=source.spec.path
        )
        self._report.steps.append(report)
        rows = StepRows(
            step, source, self._lookups, report, self._refusals, self._store.clock, self._declared
        )
        writer = writer_of(step, self._written_elsewhere(step), report, rows.refuse_candidate)
        with closing(SeenKeys()) as seen:
            for batch in _batches(rows.candidates(), BATCH_ROWS):
                fresh = rows.without_repeats(seen, [each for each in batch if each is not None])
                with self._transaction() as transaction:
                    writer.write(transaction, fresh)
                self._see(step, fresh)
                self._tell(report, number, source)
        self._tell(report, number, source)

    def cover(self) -> None:
        """Say until when everything has been seen, now that everything is written."""
        with self._transaction() as transaction:
            for record_type, said in self._mapping.coverage.items():
                until = (
                    said
                    if isinstance(said, datetime)
                    else self._newest_of(transaction.session, record_type, said)
                )
                if until is not None:
                    set_observed_until(transaction.session, record_type, until)
                    self._report.coverage[record_type] = until

    def _newest_of(self, session: Session, record_type: str, step: str) -> datetime | None:
        """Return the newest instant that a step has written; an older extract takes nothing back."""
        found = session.get(Coverage, record_type)
        newest = self._newest.get(step)
        known = [each for each in (newest, found.observed_until if found else None) if each is not None]
        return max(known, default=None)

    def _written_elsewhere(self, step: Step) -> frozenset[str]:
        if step.event is None:
            return self._mapping.written_by_events(step.record_type)
        others = (
            other.event_fields
            for other in self._mapping.steps
            if other.event and other is not step and other.record_type == step.record_type
        )
        return frozenset().union(*others) - {"status", "closed_at", "converted_at"}

    def _refuse_lookup(self, spec: LookupSpec, source: Source) -> Callable[[int, InvalidValueError], None]:
        def refuse(line: int, error: InvalidValueError) -> None:
            refusal = Refusal(
                step=f"lookup {spec.name}",
                file=source.spec.path,
                line=line,
                column=error.field,
                value=shown(error.value),
                reason=Phrase("expected {expected}", expected=error.expected),
            )
            self._refusals.add(refusal)

        return refuse

    def _see(self, step: Step, candidates: Iterable[Candidate]) -> None:
        newest = max((each.occurred_at for each in candidates if not each.refused), default=None)
        if newest is not None:
            self._newest[step.name] = max(newest, self._newest.get(step.name, newest))

    def _tell(self, report: StepReport, number: int, source: Source) -> None:
        if self._progress is not None:
            self._progress(
                ImportProgress(
                    step=report.step,
                    number=number,
                    steps=len(self._mapping.steps),
                    file=source.spec.path,
                    rows=report.rows_read,
                    rows_total=source.rows,
                )
            )


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch


def _declare_fields(session: Session, mapping: Mapping) -> None:
    for record_type, spec in mapping.declarations():
        if spec.known is None and find_field(session, record_type, spec.name) is not None:
            continue  # this mapping says nothing, so what was said before holds
        declare_field(
            session,
            record_type=record_type,
            name=spec.name,
            known=spec.known or Known.UNKNOWN,
            kind=spec.kind,
            label_en=_free_label(session, record_type, spec.name, "label_en", spec.label_en),
            label_zh=_free_label(session, record_type, spec.name, "label_zh", spec.label_zh),
            choices=spec.choices,
            required=spec.required,
            target=spec.target,
        )


def _declare_types(session: Session, mapping: Mapping) -> None:
    # Types may be linked to one another, whichever comes first.
    for linked in (False, True):
        for spec in mapping.types:
            if spec.label_en is None or spec.label_zh is None:
                get_record_type(session, spec.name)
                continue
            links = spec.links if linked else ()
            declare_record_type(
                session, name=spec.name, label_en=spec.label_en, label_zh=spec.label_zh, links=links
            )


def _free_label(session: Session, record_type: str, name: str, said: str, label: str | None) -> str | None:
    """Return a label unless another field has it: a file's columns are no reason to refuse the file."""
    taken = label is not None and find_labelled(session, record_type, said, label) not in {None, name}
    return None if taken else label


def _check_step(step: Step, declared: Declarations) -> None:
    """Raise MappingError for a step that fills what its records cannot hold."""
    for each in step.fields:
        if each.name.startswith(CUSTOM):
            declared.get_field(step.record_type, each.name.removeprefix(CUSTOM))
    if step.model is CustomRecord:
        kind = declared.by_name[step.record_type]
        links = {f"{link}_id": link for link in LINKABLE}
        for each in step.fields:
            to = each.value.record if isinstance(each.value, Link) and each.name == "parent_id" else None
            link = to or links.get(each.name)
            if link is not None and link not in kind.links:
                words = ", ".join(sorted(kind.links)) or "nothing"
                raise MappingError(
                    Phrase(
                        "{name}: a {record_type} is linked to {words}, not to a {target}",
                        name=step.name,
                        record_type=kind.name,
                        words=words,
                        target=link,
                    )
                )
