"""Which empty field would sharpen a score most: the score asked again with what such records hold there.

For each field of a record that is empty, what other open records in its situation hold in it is laid into the
record's own row, and the model is asked what it would say then. How far these answers lie apart is how much
of the doubt the field would take away: by the law of total variance, the variance of the answers is what the
expected uncertainty of the answer falls by once the field is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.opting_out import may_be_scored
from crm_core.predictions import SCORED_TYPES
from crm_core.records import Account, Deal, Record
from crm_core.store import Store
from features.cohort import Cohort
from features.declaration import Column
from features.feature_set import FeatureSet
from features.frame import build_rows
from features.rows import Rows
from models.bundle import ModelBundle
from models.hazard import Floats, Ints
from models.scoring import features_of

DONORS: Final = 96
"""Open records whose values are tried, the newest ones."""

FEWEST: Final = 20
"""Records with a value below which nothing is said of a field."""

LEAST: Final = 0.005
"""Mean change of the probability below which knowing a field is not worth asking for it."""


@dataclass(frozen=True, kw_only=True)
class MissingField:
    """What knowing an empty field would do to a record's probability.

    `field` is named as `record.field`. `low` and `high` are the tenth and ninetieth percentile of the
    probability over the values that `records` such records hold, `typical_change` the mean distance from the
    probability as it stands, `spread` the standard deviation in log-odds, by which fields are ranked.
    """

    field: str
    low: float
    high: float
    typical_change: float
    spread: float
    records: int


def find_missing(
    store: Store, bundle: ModelBundle, record_id: int, as_of: datetime
) -> tuple[MissingField, ...]:
    """Return the empty fields that would sharpen the score of a record, the one that would most first.

    Time rule: that of `features.windows`, for the record and for those whose values are tried. One frame is
    built and the model is asked once for all. Nothing is said of a record that the model calls strange.
    """
    if not bundle.says_probability:
        return ()
    feature_set = features_of(store, bundle)
    with store.reading() as session:
        empty = _empty_fields(session, feature_set, record_id)
        if not empty:
            return ()
        ids = [record_id, *_donors(session, bundle.record_type, record_id)]
        rows = build_rows(session, Cohort.at(bundle.record_type, ids, as_of), feature_set)
    if bundle.familiar.unlike(rows)[0]:
        return ()
    tried = list(_tried(empty, rows, _alike(bundle, rows), feature_set, bundle))
    return _judge(bundle, rows, tried) if tried else ()


def _empty_fields(session: Session, feature_set: FeatureSet, record_id: int) -> list[str]:
    """Return the fields that features read and that are empty on the record, or on a deal's customer."""
    record = session.get(SCORED_TYPES[feature_set.record_type], record_id)
    held: dict[str, Record | None] = {feature_set.record_type: record}
    if isinstance(record, Deal) and record.account_id is not None:
        held["account"] = session.get(Account, record.account_id)
    read = sorted({name for feature in feature_set.features for name in feature.source_fields})
    return [name for name in read if _is_empty(held.get(name.partition(".")[0]), name.partition(".")[2])]


def _is_empty(record: Record | None, field: str) -> bool:
    if record is None or field.endswith("_id"):
        return False
    if field.startswith("custom."):
        return (record.custom or {}).get(field.removeprefix("custom.")) is None
    return getattr(record, field, "") in (None, [])


def _donors(session: Session, record_type: str, record_id: int) -> Sequence[int]:
    model = SCORED_TYPES[record_type]
    query = select(model.id).where(
        model.probability.is_not(None),
        model.deleted_at.is_(None),
        model.id != record_id,
        may_be_scored(model),
    )
    if record_type != "account":
        query = query.filter_by(status="open")
    return session.scalars(query.order_by(model.id.desc()).limit(DONORS)).all()


def _alike(bundle: ModelBundle, rows: Rows) -> Ints:
    """Return the rows of others in the record's situation; of all others where these are few."""
    others = np.arange(1, len(rows))
    if bundle.usual.by is None:
        return others
    situations = [bundle.usual.situation({bundle.usual.by: value}) for value in rows[bundle.usual.by]]
    same = np.array([row for row in others.tolist() if situations[row] == situations[0]], dtype=np.int64)
    return same if same.size >= FEWEST else others


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A field, the features that come with it, and the rows whose values are laid in."""

    field: str
    features: Sequence[str]
    donors: Ints


def _tried(
    empty: Sequence[str], rows: Rows, others: Ints, feature_set: FeatureSet, bundle: ModelBundle
) -> Iterator[_Tried]:
    """Yield each empty field with what it makes missing; only features that the model reads count."""
    read = frozenset(bundle.encoder.features)
    for field in empty:
        names = [
            each.name
            for each in feature_set.features
            if each.name in read and field in each.source_fields and _lacks(rows[each.name])[0]
        ]
        if not names:
            continue
        holding = ~np.logical_and.reduce([_lacks(rows[name]) for name in names])
        donors = others[holding[others]]
        if donors.size >= FEWEST:
            yield _Tried(field=field, features=names, donors=donors)


def _lacks(column: Column) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if column.dtype == object:
        return np.array([value is None for value in column], dtype=np.bool_)
    return np.isnan(column)


def _judge(bundle: ModelBundle, rows: Rows, tried: Sequence[_Tried]) -> tuple[MissingField, ...]:
    """Ask the model once about the record with every value tried."""
    size = 1 + sum(each.donors.size for each in tried)
    columns: dict[str, Column] = {name: _repeated(column, size) for name, column in rows.columns.items()}
    places, start = [], 1
    for each in tried:
        place = slice(start, start := start + each.donors.size)
        places.append(place)
        for name in each.features:
            columns[name][place] = rows[name][each.donors]
        if "missing_fields_count" in columns:
            columns["missing_fields_count"][place] -= 1
    scores = bundle.predict(Rows(columns=columns, size=size))
    found = [
        _said(each, scores.probability[place], float(scores.probability[0]))
        for each, place in zip(tried, places, strict=True)
    ]
    told = [each for each in found if each.typical_change >= LEAST]
    return tuple(sorted(told, key=lambda each: (-each.spread, each.field)))


def _repeated(column: Column, size: int) -> Any:  # noqa: ANN401  a column of the same kind
    return np.repeat(column[:1], size)


def _said(tried: _Tried, probability: Floats, now: float) -> MissingField:
    low, high = np.quantile(probability, [0.1, 0.9])
    bounded = np.clip(probability, 1e-6, 1 - 1e-6)
    return MissingField(
        field=tried.field,
        low=float(low),
        high=float(high),
        typical_change=float(np.abs(probability - now).mean()),
        spread=float(np.log(bounded / (1 - bounded)).std()),
        records=int(tried.donors.size),
    )
