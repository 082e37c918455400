"""The only way from records to the rows that models see, in training, in batches and for one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from crm_core.store import Store
from features.blocks import check_asked, columns_from, threads_for
from features.cohort import Cohort
from features.declaration import Column
from features.feature_set import FeatureSet, check_usable
from features.population import read_all
from features.rows import Rows
from features.supposed import Supposed

if TYPE_CHECKING:
    import pandas as pd


def build_frame(
    store: Store, cohort: Cohort, feature_set: FeatureSet, supposed: Supposed | None = None
) -> pd.DataFrame:
    """Return what was known of each record of a cohort at its instant.

    Parameters
    ----------
    cohort : Cohort
        n questions (record, as_of).
    feature_set : FeatureSet
        What is asked of each.
    supposed : Supposed, optional
        A record that does not exist, and what is linked to it; the cohort may ask about it.

    Returns
    -------
    DataFrame, n rows in the order of the cohort
        One column a feature, by its name. Numbers are float64, categories are object columns of str and None.
        What a missing value means is declared with the feature (`nan_meaning`).

    Raises
    ------
    OutcomeFieldError
        A feature reads a field that the store declares as known at the outcome or at no known time.
    RecordNotFoundError, FeatureError
        A record does not exist, or was not known at its instant.

    Notes
    -----
    Time rule: see `features.windows`. The order of rows, how they are divided into calls and what else is in
    the store change no bit of a row, so that a training row equals the row behind a single call.
    """
    with store.reading() as session:
        return build_frame_in(session, cohort, feature_set, supposed)


def build_frame_in(
    session: Session, cohort: Cohort, feature_set: FeatureSet, supposed: Supposed | None = None
) -> pd.DataFrame:
    """Return the same from an open session, so that a caller reads one consistent state throughout."""
    return frame_of(compute_columns(session, cohort, feature_set, supposed), feature_set, len(cohort))


def build_rows(
    session: Session, cohort: Cohort, feature_set: FeatureSet, supposed: Supposed | None = None
) -> Rows:
    """Return what `build_frame` returns, to the bit, without pandas."""
    return Rows(columns=compute_columns(session, cohort, feature_set, supposed), size=len(cohort))


def frame_of(columns: Mapping[str, Column], feature_set: FeatureSet, size: int) -> pd.DataFrame:
    """Return columns as a frame, without copying them."""
    import pandas as pd

    series = {name: pd.Series(column, dtype=column.dtype, copy=False) for name, column in columns.items()}
    return pd.DataFrame(series, columns=list(feature_set.names), index=pd.RangeIndex(size), copy=False)


def compute_columns(
    session: Session, cohort: Cohort, feature_set: FeatureSet, supposed: Supposed | None = None
) -> dict[str, Column]:
    """Return the columns of the frame as arrays by name."""
    check_asked(cohort, feature_set)
    check_usable(session, feature_set)
    tables = read_all(session, feature_set.plan, cohort.ids, supposed)
    return columns_from(tables, cohort, feature_set, threads=threads_for(len(cohort)))
