"""Reports as pages, files and mails show them: the answer to a question with its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.exporting.tables import ExportColumn, ExportTable
from crm_core.importing.values import Kind
from crm_core.reporting.asking import Question, Report, make_report, may_ask, names_of
from crm_core.reporting.catalogue import DIMENSIONS, MEASURES, SUBJECTS, Unit, shared_dimensions
from crm_core.reporting.counting import Figure, Key, Series
from crm_core.stage_settings import stages_of
from serving.report_words import DIMENSION, IN_SEVERAL, MEASURE, READY, Ready, Speaker, pick

ROWS_SHOWN = 200
"""Rows on a page and in a mail; a file has all."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A report with what says its keys and figures."""

    report: Report
    says: Speaker

    @property
    def question(self) -> Question:
        """Return what was asked."""
        return self.report.question

    @property
    def header(self) -> list[str]:
        """Return what stands above the rows and the columns of figures."""
        by = pick(DIMENSION[self.question.rows], self.says.language) if self.question.rows else ""
        return [by, *(self.says.series(self.question.columns, one) for one in self.report.series)]

    @property
    def note(self) -> str:
        """Return what a reader of the table must know of its rows, if anything."""
        return pick(IN_SEVERAL, self.says.language) if self.question.in_several else ""

    def row_name(self, row: Key) -> str:
        """Return what a row is called."""
        return self.says.key(self.question.rows, row)

    def figure(self, row: Key, series: Series) -> Figure | None:
        """Return a figure of the table."""
        return self.report.cells.get((row, series))

    def is_money(self, series: Series) -> bool:
        """Say whether figures are amounts of a currency."""
        return MEASURES[series.measure].unit is Unit.MONEY

    def total(self, series: Series) -> Figure | None:
        """Return the figure of all rows together."""
        return self.report.totals.get(series)


def tell(reader: Reader, question: Question, now: datetime, language: str, *, most: int = ROWS_SHOWN) -> Told:
    """Answer a question in a language; raises as `make_report` does."""
    report = make_report(reader, question, now, most=most)
    if question.rows == "stage":
        place = {stage.key: number for number, stage in enumerate(stages_of(reader.session))}
        report = replace(report, rows=sorted(report.rows, key=lambda row: place.get(str(row), len(place))))
    names: dict[Key, str] = {}
    for dimension, keys in (
        (question.rows, report.rows),
        (question.columns, [one.column for one in report.series]),
    ):
        names |= names_of(reader, dimension, keys)
    return Told(report=report, says=speaker(reader.session, language, names))


def speaker(session: Session, language: str, names: Mapping[Key, str]) -> Speaker:
    """Return what says keys and figures, with stages as they were set."""
    stages = {stage.key: stage for stage in stages_of(session)}
    return Speaker(language=language, names=names, stages=stages)


def ready_for(reader: Reader) -> list[Ready]:
    """Return the ready reports that a reader may ask, at least in part."""
    return [one for one in READY if measures_for(reader, one.measures, one.rows, one.columns)]


def measures_for(
    reader: Reader, measures: Sequence[str], rows: str | None, columns: str | None
) -> tuple[str, ...]:
    """Return those of some measures that a reader may ask by rows and columns."""
    by = [name for name in (rows, columns) if name is not None]
    return tuple(name for name in measures if may_ask(reader, name, by))


def choices_for(reader: Reader) -> dict[str, list[str]]:
    """Return the measures that a reader may ask, by subject, in their order."""
    found: dict[str, list[str]] = {}
    for name, measure in MEASURES.items():
        if may_ask(reader, name):
            found.setdefault(measure.subject, []).append(name)
    return found


def dimensions_for(reader: Reader, measures: Sequence[str]) -> list[str]:
    """Return by what a reader may ask some measures; by any of all where none is chosen."""
    if not measures:
        return list(DIMENSIONS)
    known = shared_dimensions([name for name in measures if name in MEASURES])
    return [name for name in known if all(may_ask(reader, one, [name]) for one in measures)]


def type_counted(question: Question) -> str:
    """Return the type of the records that the first measure counts."""
    return SUBJECTS[MEASURES[question.measures[0]].subject].model.record_type


# ---------------------------------------------------------------- files

_KIND = {Unit.NUMBER: Kind.INTEGER, Unit.MONEY: Kind.MONEY}


def table_of(told: Told, name: str) -> ExportTable:
    """Return a report as a file has it: a row a row, with counts and intervals beside the figures."""
    columns = [ExportColumn(name="key", kind=Kind.TEXT), ExportColumn(name="name", kind=Kind.TEXT)]
    for series in told.report.series:
        title = _title(told, series)
        unit = MEASURES[series.measure].unit
        columns.append(ExportColumn(name=title, kind=_KIND.get(unit, Kind.NUMBER)))
        if _has_interval(series):
            columns += [ExportColumn(name=f"{title} {part}", kind=Kind.NUMBER) for part in ("low", "high")]
            columns.append(ExportColumn(name=f"{title} of", kind=Kind.INTEGER))
    rows = list(_rows(told))
    return ExportTable(name=name[:31], columns=_unlike(columns), chunks=lambda: iter([rows] if rows else []))


def _title(told: Told, series: Series) -> str:
    said = told.says.series(told.question.columns, series)
    return (
        said
        if told.question.columns is None
        else f"{pick(MEASURE[series.measure], told.says.language)}: {said}"
    )


def _unlike(columns: Sequence[ExportColumn]) -> list[ExportColumn]:
    """Return columns of which no two are called alike: files refuse that."""
    seen: dict[str, int] = {}
    found = []
    for column in columns:
        seen[column.name] = seen.get(column.name, 0) + 1
        count = seen[column.name]
        found.append(
            column if count == 1 else ExportColumn(name=f"{column.name} ({count})", kind=column.kind)
        )
    return found


def _has_interval(series: Series) -> bool:
    return MEASURES[series.measure].kind.value in {"mean", "median", "share"}


def _rows(told: Told) -> Iterator[list[Any]]:
    for row in told.report.rows:
        cells: list[Any] = [None if row is None else str(row), told.row_name(row)]
        for series in told.report.series:
            cells += _cells(series, told.figure(row, series))
        yield cells


def _cells(series: Series, figure: Figure | None) -> list[Any]:
    value: Any = None if figure is None else figure.value
    if isinstance(value, int | Decimal) and MEASURES[series.measure].unit not in _KIND:
        value = float(value)
    if not _has_interval(series):
        return [value]
    return [value, *((None, None, None) if figure is None else (figure.low, figure.high, figure.count))]
