"""Frames built in parts: one function over parts of the records asked about, wherever and however they run.

`columns_of_part` depends on nothing but its arguments, which can be sent to another process or machine: where
to read from, the questions and the declaration. `build_partitioned` runs it on the cores of this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from crm_core.errors import FeatureError
from crm_core.store import Store
from features.blocks import Columns, Tables, check_asked, columns_from
from features.cohort import Cohort
from features.feature_set import FeatureSet, check_usable
from features.frame import frame_of
from features.parquet import load_tables
from features.population import read_all
from features.windows import Ints

if TYPE_CHECKING:
    import pandas as pd


class Origin(Protocol):
    """Where records, events and changes are read from; it can be sent to another process."""

    def tables(self, feature_set: FeatureSet, ids: Ints) -> Tables:
        """Return what a feature set reads of some records; refuse fields that can be no inputs."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """The record database at a URL; each part reads its own records only, in its own process."""

    url: str

    def tables(self, feature_set: FeatureSet, ids: Ints) -> Tables:
        """Read the records and what belongs to them."""
        store = Store(self.url)
        try:
            with store.reading() as session:
                check_usable(session, feature_set)
                return read_all(session, feature_set.plan, ids)
        finally:
            store.close()


@dataclass(frozen=True, kw_only=True)
class ParquetFolder:
    """A folder that `parquet.save_tables` wrote."""

    path: Path

    def tables(self, feature_set: FeatureSet, ids: Ints) -> Tables:
        """Load what belongs to the records."""
        return load_tables(self.path, feature_set, ids)


def build_partitioned(
    origin: Origin, cohort: Cohort, feature_set: FeatureSet, *, partitions: int = 1, n_jobs: int = -1
) -> pd.DataFrame:
    """Return the frame of `build_frame`, built in parts.

    Parameters
    ----------
    partitions : int
        Into how many parts the records are divided; changes no bit of the result.
    n_jobs : int
        How many processes work on parts at once, as joblib counts them: -1 for one a core.

    Raises
    ------
    OutcomeFieldError, RecordNotFoundError, FeatureError
        As `build_frame` does.
    """
    check_asked(cohort, feature_set)
    if partitions < 1:
        raise FeatureError(f"expected at least one partition, got {partitions}")
    from joblib import Parallel, delayed

    parts = divide(cohort.ids, partitions)
    answers = Parallel(n_jobs=n_jobs)(
        delayed(columns_of_part)(origin, cohort.take(part), feature_set) for part in parts
    )
    order = np.argsort(np.concatenate(parts), kind="stable")
    whole = {name: np.concatenate([part[name] for part in answers])[order] for name in feature_set.names}
    return frame_of(whole, feature_set, len(cohort))


def columns_of_part(origin: Origin, cohort: Cohort, feature_set: FeatureSet) -> Columns:
    """Return the columns of some questions, read and computed here."""
    return columns_from(origin.tables(feature_set, cohort.ids), cohort, feature_set)


def divide(ids: Ints, partitions: int) -> list[Ints]:
    """Return which questions belong to each part: all about a record to one, parts of about one size."""
    order = np.argsort(ids, kind="stable")
    return [
        order[(first <= ids[order]) & (ids[order] <= last)]
        for first, last in _ranges(np.unique(ids), partitions)
    ] or [order]


def _ranges(records: Ints, partitions: int) -> list[tuple[int, int]]:
    parts = np.array_split(records, min(partitions, max(1, records.size)))
    return [(int(part[0]), int(part[-1])) for part in parts if part.size]
