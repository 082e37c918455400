"""Retention as a file: a row a cohort and quarter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crm_core.exporting.tables import ExportColumn, ExportTable
from crm_core.importing.values import Kind
from crm_core.reporting.retention import Retention

_COLUMNS = (
    ("cohort", Kind.TEXT),
    ("customers", Kind.INTEGER),
    ("quarters_later", Kind.INTEGER),
    ("share", Kind.NUMBER),
    ("low", Kind.NUMBER),
    ("high", Kind.NUMBER),
)


def retention_table(found: Retention) -> ExportTable:
    """Return the cohorts, long: quarters that are not over are not there."""
    rows = list(_rows(found))
    columns = [ExportColumn(name=name, kind=kind) for name, kind in _COLUMNS]
    return ExportTable(name="retention", columns=columns, chunks=lambda: iter([rows] if rows else []))


def _rows(found: Retention) -> Iterator[list[Any]]:
    for cohort in found.cohorts:
        yield [cohort.key, cohort.customers, 0, 1.0, None, None]
        for later, figure in enumerate(cohort.kept, start=1):
            yield [cohort.key, cohort.customers, later, figure.value, figure.low, figure.high]
