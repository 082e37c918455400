"""Rows of several tables by one statement: for pages that show a few of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, cast, inspect, literal, null, select, union_all
from sqlalchemy.orm import Session

Model = type[Any]
_Columns = Mapping[str, Any]


def read_together(session: Session, wanted: Mapping[Model, Sequence[int]]) -> dict[Model, dict[int, Any]]:
    """Return rows of mapped classes by their ids, by one statement for all of them.

    Rows of one class are what the session keeps; those of several belong to no session: they are to be
    shown, not changed.
    """
    models = tuple(model for model, ids in wanted.items() if ids)
    if not models:
        return {}
    if len(models) == 1:
        (model,) = models
        found = session.scalars(select(model).where(model.id.in_(wanted[model])))
        return {model: {row.id: row for row in found}}
    query, names = _query(models)
    asked = {f"ids_{place}": wanted[model] for place, model in enumerate(models)}
    rows: dict[Model, dict[int, Any]] = {model: {} for model in models}
    for place, *values in session.execute(query, asked):
        model = models[place]
        row = model(**{name: values[at] for name, at in names[place].items()})
        rows[model][row.id] = row
    return rows


@lru_cache(maxsize=200)
def _query(models: tuple[Model, ...]) -> tuple[Any, list[dict[str, int]]]:
    """Return the query, and by class where it has each column."""
    names, shown = _columns_together(models)
    parts = [
        select(*shown[place]).where(model.id.in_(bindparam(f"ids_{place}", expanding=True)))
        for place, model in enumerate(models)
    ]
    return union_all(*parts), names


def _columns_together(models: tuple[Model, ...]) -> tuple[list[dict[str, int]], list[list[Any]]]:
    """Return where each class has its columns, and what is selected of it.

    Columns of one name and type share a place.
    """
    columns = [_columns_of(model) for model in models]
    places: dict[tuple[str, str], int] = {}
    kinds: list[Any] = []
    for of in columns:
        for name, column in of.items():
            if places.setdefault((name, repr(column.type)), len(kinds)) == len(kinds):
                kinds.append(column.type)
    names = [{name: places[name, repr(column.type)] for name, column in of.items()} for of in columns]
    return names, [_shown(model, place, names[place], kinds) for place, model in enumerate(models)]


def _shown(model: Model, place: int, names: Mapping[str, int], kinds: Sequence[Any]) -> list[Any]:
    held = {at: name for name, at in names.items()}
    shown = [
        (getattr(model, held[at]) if at in held else cast(null(), kind)).label(f"column_{at}")
        for at, kind in enumerate(kinds)
    ]
    return [literal(place).label("place"), *shown]


def _columns_of(model: Model) -> _Columns:
    return {each.key: each.columns[0] for each in inspect(model).column_attrs if not each.deferred}
