"""`python -m tests.bench.reading WAY URL`: read all activities in one way; tell what it took.

In a process of its own, so that the memory of one way does not hide behind that of another.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Select, select, type_coerce

from crm_core.arrays import NO_INSTANT, Arrays, read_arrays
from crm_core.columns import Instant
from crm_core.records import Activity
from crm_core.store import Store

COLUMNS = (
    Activity.lead_id,
    Activity.occurred_at,
    Activity.recorded_at,
    Activity.kind,
    Activity.duration_seconds,
)
"""What a feature asks of every activity."""

NAMES = tuple(column.key for column in COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What reading took, above what the process took before, and what was read."""

    seconds: float
    megabytes: float
    digest: dict[str, int]


def query(*, stored: bool = False) -> Select[*tuple[Any, ...]]:
    """Return the query; with `stored`, for instants as the integers that they are stored as."""
    if not stored:
        return select(*COLUMNS)
    return select(
        *(
            type_coerce(column, column.type.impl_instance).label(column.key)
            if isinstance(column.type, Instant)
            else column
            for column in COLUMNS
        )
    )


def by_arrays(store: Store, *, limit: int | None = None) -> Arrays:
    """Read through our columnar read."""
    with store.reading() as session:
        return read_arrays(session, query().limit(limit))


def by_pandas(store: Store, *, limit: int | None = None, stored: bool = False) -> pd.DataFrame:
    """Read through pandas, which is given instants, or the integers that they are stored as."""
    with store.engine.connect() as connection:
        return pd.read_sql(query(stored=stored).limit(limit), connection)


def by_pandas_stored(store: Store, *, limit: int | None = None) -> pd.DataFrame:
    """Read through pandas, spared the making of instants."""
    return by_pandas(store, limit=limit, stored=True)


WAYS: dict[str, Callable[..., Any]] = {
    "arrays": by_arrays,
    "pandas": by_pandas,
    "pandas of stored integers": by_pandas_stored,
}


def measure(way: str, url: str) -> Reading:
    """Read all activities in one way."""
    store, read = Store(url), WAYS[way]
    read(store, limit=10)
    before = peak_megabytes()
    started = time.perf_counter()
    found = read(store)
    seconds = time.perf_counter() - started
    return Reading(seconds=seconds, megabytes=max(peak_megabytes() - before, 0.1), digest=digest(found))


def peak_megabytes() -> float:
    """Return the most memory that the process held so far."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def digest(found: Arrays | pd.DataFrame) -> dict[str, int]:
    """Return sums that agree only where the same was read in the same order."""
    sums = {name: _sum(np.asarray(_integers(found[name]))) for name in NAMES if name != "kind"}
    kinds = pd.Series(found["kind"])
    return sums | {"rows": len(kinds), "kind": _sum(kinds.map({"call": 1, "mail": 2, "web": 3}).to_numpy())}


def _integers(column: Any) -> Any:
    if isinstance(column, np.ndarray):
        return column
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    if column.dtype.kind == "f":
        return column.fillna(0).astype("int64").where(column.notna(), NO_INSTANT).to_numpy()
    return column.to_numpy()


def _sum(column: np.typing.NDArray[Any]) -> int:
    weights = np.arange(1, column.size + 1, dtype=np.uint64)
    return int((column.astype(np.int64).view(np.uint64) * weights).sum(dtype=np.uint64))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(sys.argv[1], sys.argv[2]))))
