"""The question of `activity_log`, answered by featuretools: so slow that only a slice of it can be asked."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd

from crm_core.clock import DAY
from tests.bench.activity_engines import SINCE
from tests.bench.activity_log import FIELD, KINDS, WINDOWS, Columns, Log
from tests.featuretools_here import featuretools

PRIMITIVES = featuretools.primitives


def by_featuretools(log: Log) -> Columns:
    """Answer with `calculate_feature_matrix`, once a window: a window is one for all features of a call."""
    logging.getLogger("woodwork").setLevel(logging.ERROR)
    entities = _entities(log)
    cutoffs = pd.DataFrame({"lead": log.asked, "time": _instants(log.as_of)})
    found: dict[str, Any] = {}
    for days in WINDOWS:
        counted = _features(entities, ((PRIMITIVES.Count, "id"), (PRIMITIVES.Sum, "seconds")))
        matrix = _asked(entities, counted, cutoffs, featuretools.Timedelta(days, "d"))
        for number, kind in enumerate(KINDS):
            found[f"{kind}s_count_{days}d"] = np.nan_to_num(matrix[:, 2 * number])
            found[f"{kind}s_seconds_sum_{days}d"] = np.nan_to_num(matrix[:, 2 * number + 1])
    last = _asked(entities, _features(entities, ((PRIMITIVES.Max, "micros"),)), cutoffs, None)
    for number, kind in enumerate(KINDS):
        found[f"{SINCE}{kind}"] = (log.as_of - last[:, number]) / DAY
    held = featuretools.Feature(
        entities["held"].ww["value"], parent_dataframe_name="leads", primitive=PRIMITIVES.Last
    )
    found[FIELD] = _asked(entities, [held], cutoffs, None)[:, 0]
    return found


def _entities(log: Log) -> Any:
    entities = featuretools.EntitySet("log")
    leads = pd.DataFrame({"lead": log.lead_id})
    entities.add_dataframe(dataframe_name="leads", dataframe=leads, index="lead")
    times = log.at
    for code, kind in enumerate(KINDS):
        mine = log.kind == code
        columns = {"id": log.activity_id, "lead": log.lead, "seconds": log.seconds, "micros": log.at}
        _add(
            entities,
            kind,
            pd.DataFrame({name: column[mine] for name, column in columns.items()}),
            times[mine],
        )
    lead, at, value = log.held
    _add(entities, "held", pd.DataFrame({"id": np.arange(lead.size), "lead": lead, "value": value}), at)
    return entities


def _add(entities: Any, name: str, frame: pd.DataFrame, at: np.ndarray[Any, Any]) -> None:
    entities.add_dataframe(
        dataframe_name=name, dataframe=frame.assign(time=_instants(at)), index="id", time_index="time"
    )
    entities.add_relationship("leads", "lead", name, "lead")


def _features(entities: Any, measures: tuple[tuple[Any, str], ...]) -> list[Any]:
    return [
        featuretools.Feature(entities[kind].ww[column], parent_dataframe_name="leads", primitive=primitive)
        for kind in KINDS
        for primitive, column in measures
    ]


def _asked(entities: Any, features: list[Any], cutoffs: pd.DataFrame, window: Any) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matrix = featuretools.calculate_feature_matrix(
            features, entities, cutoff_time=cutoffs, training_window=window, cutoff_time_in_index=True
        )
    # The answer comes by instant; the questions have their own order.
    places = pd.MultiIndex.from_frame(cutoffs)
    return np.asarray(matrix.reindex(places).astype(float).to_numpy())


def _instants(micros: np.ndarray[Any, Any]) -> pd.DatetimeIndex:
    return pd.to_datetime(micros, unit="us")
