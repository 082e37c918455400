"""What the store knows, in a folder of Parquet files: a log of records and changes for other machines.

For each record type there is `TYPE.parquet` with the records as of now, and for each field that ever changed
`TYPE.FIELD.changes.parquet` with its changes: when each happened and when it was recorded, what the field
held before and after. Together they tell what was known at any instant. What historical rates are counted
from is in `TYPE.FIELD.EACH.population.*`. Instants, days and money are int64, as in `crm_core.arrays`; the
smallest int64 is empty. Values of custom fields are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crm_core.errors import FeatureError, OutcomeFieldError
from crm_core.history import FieldHistory
from crm_core.store import Store
from features.blocks import Tables as AnyTables
from features.columns import Values, Words, as_objects
from features.declaration import reached
from features.facts import Plan
from features.feature_set import FeatureSet, unusable_fields
from features.population import Population, read_all
from features.tables import PopulationKey, Table, Tables
from features.windows import Ints

_ABOUT = "about.json"
_ASKED = ("record_id", "asked_at", "until", "left_at", "group")
_EVENTS = ("event_record", "event_at", "event_seen")
_HISTORY = ("record_id", "change_id", "occurred_at", "recorded_at", "old", "new")


def export_tables(store: Store, feature_set: FeatureSet, ids: Ints, folder: Path) -> None:
    """Write all that a feature set reads of some records, known at whatever time, to a folder."""
    with store.reading() as session:
        tables = read_all(session, feature_set.plan, ids)
        unusable = unusable_fields(session)
    save_tables(tables, folder, unusable=unusable)


def save_tables(tables: AnyTables, folder: Path, *, unusable: Iterable[str] = ()) -> None:
    """Write tables to a folder, with the fields (`record.field`) that can be no inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    for record_type, table in tables.items():
        rows = {name: _as_text(column, name) for name, column in table.columns.items()}
        pq.write_table(_to_arrow(rows), folder / f"{record_type}.parquet")
        for field, history in table.histories.items():
            columns: dict[str, Values | Words] = {name: getattr(history, name) for name in _HISTORY}
            columns |= {name: _as_text(columns[name], field) for name in ("old", "new")}
            pq.write_table(_to_arrow(columns), folder / f"{record_type}.{field}.changes.parquet")
    for key, population in getattr(tables, "populations", {}).items():
        _save_population(population, folder / f"{'.'.join(key)}.population")
    (folder / _ABOUT).write_text(json.dumps({"no_inputs": sorted(unusable)}))


def load_tables(folder: Path, feature_set: FeatureSet, ids: Ints) -> Tables:
    """Return what a feature set reads of some records from the files of a folder.

    Of records asked about and of events linked to them alone, only rows between the first and the last of
    `ids` are read; of what they lead to, and of events that ever moved to another record, all.

    Raises
    ------
    OutcomeFieldError
        The feature set reads a field that was declared as no input when the files were written.
    FeatureError
        A file or a column that it reads is not there.
    """
    no_inputs = json.loads((folder / _ABOUT).read_text())["no_inputs"]
    refused = sorted(feature_set.source_fields.intersection(no_inputs))
    if refused:
        raise OutcomeFieldError(f"{feature_set.name} reads {', '.join(refused)}: known only at the outcome")
    plan = feature_set.plan
    tables = {
        record_type: _load(folder, record_type, fields, _between(folder, plan, record_type, ids))
        for record_type, fields in _wanted(plan)
    }
    return Tables(tables, {key: _load_population(folder, key) for key in plan.populations})


def _between(folder: Path, plan: Plan, record_type: str, ids: Ints) -> pc.Expression | None:
    """Return a condition on rows that leaves out what concerns no record asked about, where that shows."""
    links = [f"{reached(plan.record_type, via)}_id" for via, event in plan.events if event == record_type]
    links += ["id" for via in plan.fields if reached(plan.record_type, via) == record_type]
    own = "id" if record_type == plan.record_type else f"{plan.record_type}_id"
    if not ids.size or links != [own] or (folder / f"{record_type}.{own}.changes.parquet").is_file():
        return None
    return (pc.field(own) >= int(ids.min())) & (pc.field(own) <= int(ids.max()))


def _wanted(plan: Plan) -> Iterable[tuple[str, set[str]]]:
    wanted: dict[str, set[str]] = {}
    for via, fields in plan.fields.items():
        wanted.setdefault(reached(plan.record_type, via), set()).update(fields)
    for (via, event), fields in plan.events.items():
        wanted.setdefault(event, set()).update(fields, {f"{reached(plan.record_type, via)}_id"})
    return wanted.items()


def _load(folder: Path, record_type: str, fields: set[str], chosen: pc.Expression | None) -> Table:
    path = folder / f"{record_type}.parquet"
    if not path.is_file():
        raise FeatureError(f"{folder.name} holds no {path.name}: export it with the features that read it")
    base = ("id", "occurred_at", "recorded_at", "deleted_at")
    missing = sorted(fields - set(pq.read_schema(path).names))
    if missing:
        raise FeatureError(
            f"{path.name} has no {', '.join(missing)}: export it with the features that read them"
        )
    stored = _from_arrow(pq.read_table(path, columns=[*base, *sorted(fields)], filters=chosen))
    columns = {name: _from_text(column, name) for name, column in stored.items()}
    return Table(columns, dict(_load_histories(folder, record_type, fields)))


def _save_population(population: Population, path: Path) -> None:
    """Write what became of all records: its questions, its outcomes, and the values behind its groups."""
    for name, fields in (("asked", _ASKED), ("events", _EVENTS)):
        columns: dict[str, Values | Words] = {field: getattr(population, field) for field in fields}
        pq.write_table(_to_arrow(columns), Path(f"{path}.{name}.parquet"))
    Path(f"{path}.json").write_text(json.dumps(list(population.codes)))


def _load_population(folder: Path, key: PopulationKey) -> Population:
    path = folder / f"{'.'.join(key)}.population"
    if not Path(f"{path}.json").is_file():
        raise FeatureError(f"{folder.name} holds no {path.name}: export it with the features that read it")
    columns: dict[str, Any] = {}
    for name in ("asked", "events"):
        columns |= _from_arrow(pq.read_table(Path(f"{path}.{name}.parquet")))
    values = json.loads(Path(f"{path}.json").read_text())
    return Population(codes={value: code for code, value in enumerate(values)}, **columns)


def _load_histories(folder: Path, record_type: str, fields: set[str]) -> Iterable[tuple[str, FieldHistory]]:
    for field in sorted(fields):
        path = folder / f"{record_type}.{field}.changes.parquet"
        if path.is_file():
            columns: dict[str, Any] = _from_arrow(pq.read_table(path))
            for name in ("old", "new"):
                column = _from_text(columns[name], field)
                columns[name] = column.decode() if isinstance(column, Words) else column
            yield field, FieldHistory(**columns)


def _as_text(column: Values | Words, field: str) -> Values | Words:
    """Return a custom field as JSON: its values may be of several types, a column's may not."""
    if not field.startswith("custom."):
        return column
    cells = (column.decode() if isinstance(column, Words) else column).tolist()
    return as_objects([None if cell is None else json.dumps(cell) for cell in cells])


def _from_text(column: Values | Words, field: str) -> Values | Words:
    if not field.startswith("custom."):
        return column
    cells = (column.decode() if isinstance(column, Words) else column).tolist()
    return as_objects([None if cell is None else json.loads(cell) for cell in cells])


def _to_arrow(columns: Mapping[str, Values | Words]) -> pa.Table:
    return pa.table({name: _column(column) for name, column in columns.items()})


def _column(column: Values | Words) -> pa.Array:
    words = column.decode() if isinstance(column, Words) else column
    return pa.array(words, from_pandas=False)


def _from_arrow(table: pa.Table) -> dict[str, Values | Words]:
    return {name: _array(table.column(name).combine_chunks()) for name in table.column_names}


def _array(column: pa.Array) -> Values | Words:
    """Return a column as arrays of our own, which compiled loops know; words as numbers of words."""
    if pa.types.is_string(column.type):
        coded = column.dictionary_encode()
        words = as_objects([*coded.dictionary.to_pylist(), None])
        return Words(coded.indices.fill_null(len(words) - 1).to_numpy().astype(np.int32), words)
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if number and not column.null_count:
        return np.array(column.to_numpy(zero_copy_only=False))
    return as_objects(column.to_pylist())
