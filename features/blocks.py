"""Computing columns block by block: each block's records, events and answers stay in the processor's cache.

Every answer depends on its question alone, so blocks can be cut anywhere and worked on in any order, by
threads, processes or machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crm_core.errors import FeatureError
from features.cohort import Cohort
from features.compiled import loops
from features.declaration import Column, reached
from features.facts import Facts, Plan
from features.feature_set import FeatureSet
from features.tables import Table
from features.windows import Ints

BLOCK = 32_768
"""Questions of a block: few enough for the cache, many enough that starting a loop costs nothing."""

Columns = dict[str, Column]
Tables = Mapping[str, Table]


def columns_from(tables: Tables, cohort: Cohort, feature_set: FeatureSet, *, threads: int = 1) -> Columns:
    """Return the columns of the frame, computed from arrays.

    Parameters
    ----------
    tables : Table by record type
        What is known of at least the records asked about, what they lead to and the events linked to them.
    cohort : Cohort
        n questions (record, as_of), in any order.
    threads : int
        How many blocks are worked on at once; changes no bit of the result.

    Returns
    -------
    array of length n by feature
        float64 with NaN, or object with None; see `build_frame`.

    Raises
    ------
    RecordNotFoundError, FeatureError
        A record is not there, or was not known at its instant.
    """
    check_asked(cohort, feature_set)
    if len(cohort) <= BLOCK:
        return _answers(tables, cohort, feature_set)
    order = _by_record(cohort.ids)
    result = _room(feature_set, len(cohort))
    prepare(tables, feature_set.plan)

    def work(block: slice) -> None:
        rows = block if order is None else order[block]
        for name, column in _answers(tables, cohort.take(rows), feature_set).items():
            result[name][rows] = column

    _run(work, [slice(first, first + BLOCK) for first in range(0, len(cohort), BLOCK)], threads)
    return result


def check_asked(cohort: Cohort, feature_set: FeatureSet) -> None:
    """Refuse questions about another type of record."""
    if cohort.record_type != feature_set.record_type:
        raise FeatureError(
            f"{feature_set.name} asks about a {feature_set.record_type}, not a {cohort.record_type}"
        )


def threads_for(size: int) -> int:
    """Return how many threads are worth starting for so many questions: one a core where blocks are many."""
    if size <= 2 * BLOCK:
        return 1
    from joblib import cpu_count

    return int(cpu_count())


def prepare(tables: Tables, plan: Plan) -> None:
    """Work out what all blocks share: which events are of which record, and the changes of each field."""
    for (via, event), fields in plan.events.items():
        tables[event].linked(f"{reached(plan.record_type, via)}_id", fields)
    for via, fields in plan.fields.items():
        table = tables[reached(plan.record_type, via)]
        for field in fields:
            table.changes(field)


def _answers(tables: Tables, cohort: Cohort, feature_set: FeatureSet) -> Columns:
    facts = Facts(tables, cohort, feature_set.plan)
    answers = (feature.compute(facts) for feature in feature_set.features)
    return dict(zip(feature_set.names, answers, strict=True))


def _by_record(ids: Ints) -> Ints | None:
    """Return the questions by record; None where they stand so already."""
    if bool((ids[1:] >= ids[:-1]).all()):
        return None
    order: Ints = loops().group(ids)[2]
    return order


def _room(feature_set: FeatureSet, size: int) -> Columns:
    kinds = {"category": object}
    return {
        feature.name: np.empty(size, dtype=kinds.get(feature.dtype, np.float64))
        for feature in feature_set.features
    }


def _run(work: Callable[[slice], None], blocks: list[slice], threads: int) -> None:
    if threads == 1:
        for block in blocks:
            work(block)
        return
    from joblib import Parallel, delayed

    Parallel(n_jobs=threads, require="sharedmem")(delayed(work)(block) for block in blocks)
