"""One record with thirty activities and a few of everything else that its features read, as arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT, as_array
from crm_core.clock import DAY
from crm_core.history import FieldHistory
from crm_core.records import RECORD_TYPES
from crm_core.validation import columns_of
from features.columns import Values, as_objects
from features.declaration import reached
from features.feature_set import FeatureSet
from features.population import Population
from features.tables import PopulationKey, Table, Tables

Ints = npt.NDArray[np.int64]
Arrays = dict[str, tuple[dict[str, Values], dict[str, FieldHistory]]]

RECORD: Ints = np.array([1])
AS_OF: Ints = np.array([20_100 * DAY])
BORN = 20_000 * DAY
ACTIVITIES = 30
OTHERS = 5
CHANGES = 3
WORDS: dict[str, tuple[str | None, ...]] = {
    "kind": ("call", "mail", "meeting", "web"),
    "direction": ("inbound", "outbound"),
    "outcome": ("connected", None),
    "status": ("active", "open"),
    "stage": ("needs", "proposal", "negotiation"),
    "pipeline": ("default",),
}
CHANGING = {
    "lead": ("owner_id",),
    "deal": ("stage", "amount", "expected_close_on"),
    "account": ("owner_id",),
    "user": (),
    "team": (),
}
LINKS = ("account_id", "owner_id", "team_id")


def arrays(feature_set: FeatureSet) -> Arrays:
    """Return what the features of a set read of one record, its account and its events."""
    source, plan = np.random.default_rng(1), feature_set.plan
    found: Arrays = {}
    for via, fields in plan.fields.items():
        record_type = reached(plan.record_type, via)
        columns = _records(source, record_type, (BORN,), fields)
        columns |= {link: RECORD.copy() for link in LINKS if link in columns}
        changing = [field for field in CHANGING[record_type] if field in fields]
        found[record_type] = columns, {field: _history(source, record_type, field) for field in changing}
    for (via, event), fields in plan.events.items():
        size = ACTIVITIES if event == "activity" else OTHERS
        when = np.sort(BORN + source.integers(0, 100 * DAY, size)).tolist()
        columns = _records(source, event, when, fields)
        columns[f"{reached(plan.record_type, via)}_id"] = np.ones(size, dtype=np.int64)
        found[event] = columns, {}
    return found


def populations(feature_set: FeatureSet) -> dict[PopulationKey, Population]:
    """Return what became of other records: nothing yet; it is kept between questions."""
    nobody = np.empty(0, dtype=np.int64)
    empty = Population(
        record_id=nobody,
        asked_at=nobody,
        until=nobody,
        left_at=nobody,
        group=nobody,
        codes={},
        event_record=nobody,
        event_at=nobody,
        event_seen=nobody,
    )
    return dict.fromkeys(feature_set.plan.populations, empty)


def tables(raw: Arrays, others: dict[PopulationKey, Population]) -> Tables:
    """Return tables of the arrays, with nothing worked out yet."""
    found = {record_type: Table(columns, histories) for record_type, (columns, histories) in raw.items()}
    return Tables(found, others)


def _records(
    source: np.random.Generator, record_type: str, when: tuple[int, ...], fields: tuple[str, ...]
) -> dict[str, Values]:
    size = len(when)
    instants = np.array(when, dtype=np.int64)
    base: dict[str, Values] = {
        "id": np.arange(1, size + 1),
        "occurred_at": instants,
        "recorded_at": instants.copy(),
        "deleted_at": np.full(size, NO_INSTANT),
    }
    return base | {field: _values(source, record_type, field, size) for field in fields}


def _values(source: np.random.Generator, record_type: str, field: str, size: int) -> Values:
    kind = as_array(columns_of(RECORD_TYPES[record_type])[field].type, ()).dtype.kind
    if kind == "O":
        words = WORDS.get(field, ("a", "b", None))
        return as_objects([words[number % len(words)] for number in range(size)])
    if kind == "f":
        return source.random(size)
    return source.integers(1, 1000, size) * (DAY if field.endswith(("_on", "_at")) else 1)


def _history(source: np.random.Generator, record_type: str, field: str) -> FieldHistory:
    when = BORN + np.arange(10, 10 + CHANGES) * DAY
    values = _values(source, record_type, field, CHANGES + 1)
    return FieldHistory(
        record_id=np.ones(CHANGES, dtype=np.int64),
        change_id=np.arange(CHANGES),
        occurred_at=when,
        recorded_at=when.copy(),
        old=values[:-1].copy(),
        new=values[1:].copy(),
    )
