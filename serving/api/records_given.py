"""What the API gives of records: the fields that somebody may see, and of these the ones asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from crm_core.access import Reader
from crm_core.columns import check_text
from crm_core.declared import declarations, logical_type, plain_custom
from crm_core.errors import AccessDeniedError, InvalidValueError, UnknownFieldError
from crm_core.fields import CUSTOM
from crm_core.predictions import Outlook, newest_outlooks
from crm_core.records import SCORE_COLUMNS, Account, CustomRecord, Deal, Lead, Record
from crm_core.validation import columns_of
from serving.api.records_schemas import ALWAYS_GIVEN, COLLECTIONS, Collection
from serving.payloads import OPTED_OUT, list_silent, plain_json, shown_of

_ALWAYS = frozenset({*ALWAYS_GIVEN, "withheld", "record_type"})
_MOST_FIELDS = 100


class Selection:
    """Which fields an answer holds: all, or those that were asked for."""

    def __init__(self, reader: Reader, collection: Collection, kind: str, asked: str | None) -> None:
        self._names = None if asked is None else self._read(reader, collection, kind, asked)

    def of(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return of what is given of a record what was asked for."""
        if self._names is None:
            return given
        whole = {name.split(".", 1)[0] for name in self._names} | _ALWAYS
        told = {name: value for name, value in given.items() if name in whole}
        held = told.get("custom")
        if held and "custom" not in self._names:
            told["custom"] = {name: held[name] for name in held if f"{CUSTOM}{name}" in self._names}
        return told

    @staticmethod
    def _read(reader: Reader, collection: Collection, kind: str, asked: str) -> frozenset[str]:
        names = frozenset(check_text("fields", asked).split(","))
        if len(names) > _MOST_FIELDS:
            raise InvalidValueError("fields", f"{len(names)} names", f"at most {_MOST_FIELDS}")
        custom = declarations(reader.session).fields(kind)
        scores = SCORE_COLUMNS if "prediction" in collection.given.model_fields else frozenset()
        for name in sorted(names):
            known = name.removeprefix(CUSTOM) in custom if name.startswith(CUSTOM) else None
            if known is False or (known is None and name not in {*collection.given.model_fields, *scores}):
                raise UnknownFieldError(kind, name)
            column = "probability" if name == "prediction" else name
            if not reader.may_read_field(kind, column):
                raise AccessDeniedError(f"the role {reader.user.role} may not see {kind}.{name}")
        return frozenset("prediction" if name in scores else name for name in names)


def records_out(reader: Reader, collection: Collection, records: Sequence[Record]) -> list[BaseModel]:
    """Return what the API gives of records of one type to somebody who sees them."""
    return [collection.given.model_validate(each) for each in plain_records(reader, collection, records)]


def plain_records(
    reader: Reader, collection: Collection, records: Sequence[Record], selection: Selection | None = None
) -> list[dict[str, Any]]:
    """Return the same as what JSON is made of: the fields of the schema, in its order, as far as selected."""
    silent, newest = _scores(reader, collection, records)
    shapes: dict[str, _Shape] = {}
    given = []
    for record in records:
        kind = logical_type(reader.session, record)
        if kind not in shapes:
            shapes[kind] = _Shape.of(reader, collection, kind)
        told = _given(reader, shapes[kind], record, newest.get(record.id), silent=record.id in silent)
        given.append(told if selection is None else selection.of(told))
    return given


def record_json(reader: Reader, record: Record, selection: Selection | None = None) -> str:
    """Return the JSON text that the API gives of a record."""
    (given,) = plain_records(reader, COLLECTIONS[record.record_type], [record], selection)
    return plain_json(given)


def written_json(reader: Reader, record: Record) -> str:
    """Return the JSON text that the API gives of a record just written: as it would be read from now on."""
    reader.session.flush()
    reader.session.refresh(record)
    return record_json(reader, record)


def _scores(
    reader: Reader, collection: Collection, records: Sequence[Record]
) -> tuple[set[int], Mapping[int, Outlook]]:
    """Return which records may not be scored, and what the newest prediction of each says about when."""
    scored = [record for record in records if isinstance(record, Lead | Deal | Account)]
    if not scored:
        return set(), {}
    silent = list_silent(reader, type(scored[0]), scored)
    ids = [record.id for record in scored if record.scored_at is not None]
    return silent, newest_outlooks(reader.session, collection.record_type, ids)


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What an answer about records of one type, which may be a declared one, holds for one reader."""

    kind: str
    fields: tuple[str, ...]
    """All fields of the schema."""
    seen: frozenset[str]
    withheld: tuple[str, ...]

    @classmethod
    def of(cls, reader: Reader, collection: Collection, kind: str) -> _Shape:
        seen = reader.fields_shown(collection.model, kind)
        fields = tuple(collection.given.model_fields)
        hidden = ({*columns_of(collection.model)} & {*fields} | {"custom"}) - {*seen}
        return cls(kind=kind, fields=fields, seen=frozenset(seen), withheld=tuple(sorted(hidden)))


def _given(
    reader: Reader, shape: _Shape, record: Record, newest: Outlook | None, *, silent: bool
) -> dict[str, Any]:
    made: dict[str, Any] = {"custom": None, "withheld": shape.withheld}
    if record.custom is not None and "custom" in shape.seen:
        custom = reader.readable_custom(shape.kind, record.custom)
        made["custom"] = plain_custom(reader.session, shape.kind, custom)
    if isinstance(record, CustomRecord):
        made["record_type"] = shape.kind
    if isinstance(record, Lead | Deal | Account):
        made["prediction"] = OPTED_OUT if silent else shown_of(reader, record, newest)
    return {
        name: made[name] if name in made else getattr(record, name) if name in shape.seen else None
        for name in shape.fields
    }
