"""Columnar reads: a query's result as numpy arrays, without an object a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import Boolean, ColumnElement, Float, Select, between, type_coerce
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from crm_core.clock import DAY
from crm_core.columns import Day, Instant, Money

NO_INSTANT = np.iinfo(np.int64).min
"""Stands for NULL in an integer array (instants, days, money, ids)."""

_FEW = 500
"""Up to so many ids are listed in a query; more are asked for as a range."""

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(session: Session, query: Select[*tuple[Any, ...]]) -> Arrays:
    """Return the columns of `query` by name, as arrays of one length.

    Instants are int64 microseconds since 1970 UTC, days are int64 microseconds of their midnight UTC, money
    is int64 ten-thousandths, ids and other integers int64; in all of these NULL is NO_INSTANT. Floats and
    booleans are float64 with NaN for NULL. Everything else is an object array with None for NULL. Row order
    is the query's.
    """
    columns = list(query.selected_columns)
    raw = query.with_only_columns(*(_untyped(column) for column in columns), maintain_column_froms=True)
    rows = session.connection().execute(raw).fetchall()
    values = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return {
        column.key: as_array(column.type, cells)
        for column, cells in zip(columns, values, strict=True)
        if column.key is not None
    }


def among(column: Any, ids: npt.NDArray[np.int64]) -> ColumnElement[bool]:  # noqa: ANN401  any integer column
    """Return a condition that lets `ids` through: these alone if they are few, else all that lie between.

    Who asks for many must leave out what they did not ask for; one id costs one look into the index.
    """
    if ids.size > _FEW:
        return between(column, int(ids.min()), int(ids.max()))
    return cast("ColumnElement[bool]", column.in_(ids.tolist()))


def _untyped(column: Any) -> Any:  # noqa: ANN401  any selectable column
    """Return the column read in its stored form, so that no Python object is built a cell."""
    kind = column.type
    if isinstance(kind, Instant | Day | Money):
        return type_coerce(column, kind.impl_instance).label(column.key)
    return column


def as_array(kind: TypeEngine[Any], cells: Sequence[Any]) -> npt.NDArray[Any]:
    """Return stored values of a column of type `kind` as the array that `read_arrays` makes of them."""
    if isinstance(kind, Float | Boolean):
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    if isinstance(kind, Day):
        return np.array([NO_INSTANT if cell is None else cell * DAY for cell in cells], dtype=np.int64)
    if isinstance(kind, Instant | Money) or _is_integer(kind):
        return np.array([NO_INSTANT if cell is None else cell for cell in cells], dtype=np.int64)
    # One by one: numpy would take lists among them for a dimension.
    return np.fromiter(cells, dtype=object, count=len(cells))


def _is_integer(kind: TypeEngine[Any]) -> bool:
    try:
        return kind.python_type is int
    except NotImplementedError:
        return False
