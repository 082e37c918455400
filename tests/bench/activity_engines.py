"""The question of `activity_log`, answered by pandas, Polars and DuckDB, each in the quickest way we found.

Each joins questions with the activities of their lead and counts, sums and looks for the last in groups. As
of joins on running counts were slower: twenty of them are needed, by lead. (One key of lead and instant would
make these quick, but microseconds and a million leads do not fit into 63 bits.)
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa

from crm_core.clock import DAY
from tests.bench.activity_log import FIELD, KINDS, WINDOWS, Columns, Log

Floats = npt.NDArray[np.float64]
SINCE = "days_since_last_"


def by_polars(log: Log) -> Columns:
    """Answer with one lazy query on the streaming engine."""
    lead, at, value = log.held
    asked = pl.LazyFrame({"row": np.arange(log.asked.size), "lead": log.asked, "t": log.as_of})
    activities = pl.LazyFrame({"lead": log.lead, "kind": log.kind, "at": log.at, "seconds": log.seconds})
    values = pl.LazyFrame({"lead": lead, "at": at, FIELD: value}).sort("at")
    pairs = asked.join(activities, on="lead").filter(pl.col("at") <= pl.col("t"))
    held = asked.sort("t").join_asof(values, left_on="t", right_on="at", by="lead", check_sortedness=False)
    counted = pairs.group_by("row").agg(_polars_columns())
    whole = held.select("row", pl.col(FIELD)).join(counted, on="row", how="left").sort("row")
    frame = whole.drop("row").cast(pl.Float64).collect(engine="streaming")
    return _finished({name: frame[name].to_numpy() for name in frame.columns})


def _polars_columns() -> list[pl.Expr]:
    columns = []
    age = pl.col("t") - pl.col("at")
    for code, kind in enumerate(KINDS):
        mine = pl.col("kind") == code
        for days in WINDOWS:
            inside = mine & (age < days * DAY)
            columns.append(inside.sum().alias(f"{kind}s_count_{days}d"))
            columns.append((inside * pl.col("seconds")).sum().alias(f"{kind}s_seconds_sum_{days}d"))
        columns.append(pl.when(mine).then(age).min().alias(f"{SINCE}{kind}"))
    return columns


def by_duckdb(log: Log) -> Columns:
    """Answer with one query in SQL."""
    lead, at, value = log.held
    with duckdb.connect() as connection:
        arrow = {
            "activities": {"lead": log.lead, "kind": log.kind, "happened": log.at, "seconds": log.seconds},
            "asked": {"row": np.arange(log.asked.size), "lead": log.asked, "t": log.as_of},
            "held": {"lead": lead, "happened": at, "value": value},
        }
        for name, columns in arrow.items():
            connection.register(name, pa.table(columns))
        found = connection.sql(_sql()).fetchnumpy()
    columns = {name: np.ma.filled(np.ma.asarray(column), np.nan) for name, column in found.items()}
    return _finished(columns)


def _sql() -> str:
    columns = []
    for code, kind in enumerate(KINDS):
        for days in WINDOWS:
            inside = f"FILTER (kind = {code} AND age < {days * DAY})"
            columns.append(f"(count(*) {inside})::DOUBLE AS {kind}s_count_{days}d")
            columns.append(f"(sum(seconds) {inside})::DOUBLE AS {kind}s_seconds_sum_{days}d")
        columns.append(f"(min(age) FILTER (kind = {code}))::DOUBLE AS {SINCE}{kind}")
    return f"""
        WITH counted AS (
            SELECT row, {", ".join(columns)} FROM (
                SELECT row, kind, seconds, t - happened AS age
                FROM asked JOIN activities USING (lead) WHERE happened <= t
            ) GROUP BY row
        ), valued AS (
            SELECT row, value::DOUBLE AS {FIELD}
            FROM asked ASOF JOIN held ON asked.lead = held.lead AND asked.t >= held.happened
        )
        SELECT counted.* EXCLUDE (row), {FIELD} FROM valued LEFT JOIN counted USING (row) ORDER BY valued.row
    """


def by_pandas(log: Log) -> Columns:
    """Answer with a merge and groups."""
    return _by_pandas(log, _grouped)


def by_pandas_and_numpy(log: Log) -> Columns:
    """Answer with a merge, and numpy's weighted counts of the row numbers in the place of groups."""
    return _by_pandas(log, _weighted)


def _by_pandas(log: Log, total: Callable[[pd.DataFrame, int], tuple[Floats, Floats]]) -> Columns:
    lead, at, value = log.held
    asked = pd.DataFrame({"row": np.arange(log.asked.size), "lead": log.asked, "t": log.as_of})
    activities = pd.DataFrame({"lead": log.lead, "kind": log.kind, "at": log.at, "seconds": log.seconds})
    values = pd.DataFrame({"lead": lead, "at": at, FIELD: value}).sort_values("at")
    pairs = asked.merge(activities, on="lead")
    pairs = pairs[pairs["at"] <= pairs["t"]]
    pairs["age"] = pairs["t"] - pairs["at"]
    columns: dict[str, Floats] = {}
    for code, kind in enumerate(KINDS):
        mine = pairs[pairs["kind"] == code]
        for days in WINDOWS:
            inside = mine[mine["age"] < days * DAY]
            columns[f"{kind}s_count_{days}d"], columns[f"{kind}s_seconds_sum_{days}d"] = total(
                inside, len(asked)
            )
        last = mine.groupby("row")["age"].min().reindex(range(len(asked)))
        columns[f"{SINCE}{kind}"] = last.to_numpy(np.float64)
    held = pd.merge_asof(asked.sort_values("t"), values, left_on="t", right_on="at", by="lead")
    columns[FIELD] = held.sort_values("row")[FIELD].to_numpy(np.float64)
    return _finished(columns)


def _grouped(inside: pd.DataFrame, rows: int) -> tuple[Floats, Floats]:
    """Return how many events each row has, and the sum of their seconds, by groups."""
    groups = inside.groupby("row")["seconds"]
    count: Floats = np.array(groups.size().reindex(range(rows), fill_value=0), dtype=np.float64)
    total: Floats = np.array(groups.sum().reindex(range(rows), fill_value=0), dtype=np.float64)
    return count, total


def _weighted(inside: pd.DataFrame, rows: int) -> tuple[Floats, Floats]:
    """Return the same by counting row numbers."""
    count: Floats = np.bincount(inside["row"], minlength=rows).astype(np.float64)
    total: Floats = np.bincount(inside["row"], inside["seconds"], minlength=rows).astype(np.float64)
    return count, total


def _finished(columns: Columns) -> Columns:
    """Return sums of nothing as 0, and microseconds as days: Polars would multiply by the rounded inverse."""
    return {
        name: column / DAY
        if name.startswith(SINCE)
        else np.nan_to_num(column, copy=False)
        if "_count_" in name or "_sum_" in name
        else column
        for name, column in columns.items()
    }


def same(one: Columns, other: Columns) -> bool:
    """Tell whether two engines gave the same answers, to the bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(column, other[name], equal_nan=True) for name, column in one.items()
    )
