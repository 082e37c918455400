"""What a model would see of one record: every value, the rows behind it, and what came too late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crm_core.access import Reader
from crm_core.records import RECORD_TYPES
from serving.champions import RECORD_TYPE_OF
from serving.service import service
from serving.web.shown_as import number
from serving.web.words import word

MOST_ROWS = 25
"""Rows shown of one feature; the newest, and those that came too late."""


@dataclass(frozen=True, kw_only=True)
class SeenRow:
    """One row behind a value."""

    record: str
    occurred_at: datetime
    known_from: datetime
    counted: bool
    values: Sequence[tuple[str, str]]

    @property
    def was_late(self) -> bool:
        """Whether it was known later than it happened."""
        return self.known_from > self.occurred_at


@dataclass(frozen=True, kw_only=True)
class SeenFeature:
    """One feature: its value as people read it, and the rows; of a hidden one neither."""

    name: str
    unit: str
    value: str
    reads_as: str
    rows: Sequence[SeenRow]
    left_out: int
    others: Mapping[str, int]
    hidden: bool = False

    @property
    def late(self) -> int:
        """Return how many rows shown came too late."""
        return sum(not row.counted for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class SeenGroup:
    """Features that are one reason."""

    group: str
    features: Sequence[SeenFeature]

    @property
    def late(self) -> int:
        """Return how many rows came too late."""
        return sum(feature.late for feature in self.features)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All that a model would see of a record, asked at an instant."""

    title: str
    record_type: str
    record_id: int
    as_of: datetime
    groups: Sequence[SeenGroup]

    @property
    def features(self) -> int:
        """Return how many values there are."""
        return sum(len(group.features) for group in self.groups)


def see(reader: Reader, task: str, record_id: int, as_of: datetime) -> Seen:
    """Return what a model of `task` would see of a record that the reader may see.

    Raises RecordNotFoundError for one that they may not, and FeatureError for one that was not there yet.
    """
    from features.explorer import explore
    from features.feature_set import feature_set_for

    record_type = RECORD_TYPE_OF[task]
    record: Any = reader.get(RECORD_TYPES[record_type], record_id)
    store = service().store
    groups: dict[str, list[SeenFeature]] = {}
    for one in explore(store, feature_set_for(store, task), record_id, as_of):
        groups.setdefault(one.feature.group, []).append(_feature(reader, one))
    shown = reader.shown(record)
    return Seen(
        title=str(
            shown.get("company") or shown.get("name") or f"{word('record_type', record_type)} {record_id}"
        ),
        record_type=record_type,
        record_id=record_id,
        as_of=as_of,
        groups=[SeenGroup(group=name, features=features) for name, features in groups.items()],
    )


def _feature(reader: Reader, one: Any) -> SeenFeature:  # noqa: ANN401  features.explorer.Explored, imported late
    from serving.web.language import choose_language

    feature = one.feature
    if not reader.may_be_told_of(feature.source_fields):
        return SeenFeature(
            name=feature.name, unit="", value="", reads_as="", rows=(), left_out=0, others={}, hidden=True
        )
    rows = [_row(row) for row in one.rows if _may_see(reader, row)]
    shown = [row for place, row in enumerate(rows) if not row.counted or place >= len(rows) - MOST_ROWS]
    return SeenFeature(
        name=feature.name,
        unit=feature.unit,
        value=_plain(one.value),
        reads_as=feature.say(one.value, choose_language()),
        rows=shown,
        left_out=len(rows) - len(shown),
        others=dict(one.others),
    )


def _may_see(reader: Reader, row: Any) -> bool:  # noqa: ANN401  features.explorer.Row
    return reader.may_be_told_of(f"{row.record_type}.{name}" for name in row.values)


def _row(row: Any) -> SeenRow:  # noqa: ANN401  features.explorer.Row
    return SeenRow(
        record=f"{word('record_type', row.record_type)} {row.record_id}",
        occurred_at=row.occurred_at,
        known_from=row.known_from,
        counted=row.counted,
        values=[(word("field", name), _plain(value)) for name, value in row.values.items()],
    )


def _plain(value: object) -> str:
    if value is None or value == "":
        return "–"  # noqa: RUF001  a dash for nothing
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | int):
        return number(round(float(value), 4))
    return str(value)
