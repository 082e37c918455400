"""What the API gives of records: the fields that somebody may see, and of these the ones asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from crm_core.access import Reader
from crm_core.columns import check_text
from crm_core.declared import declarations, logical_type, plain_custom
from crm_core.errors import AccessDeniedError, InvalidValueError, UnknownFieldError
from crm_core.fields import CUSTOM
from crm_core.predictions import Prediction, newest_predictions
from crm_core.records import Account, CustomRecord, Deal, Lead, Record
from crm_core.validation import columns_of
from serving.api.records_schemas import ALWAYS_GIVEN, COLLECTIONS, Collection
from serving.payloads import OPTED_OUT, list_silent, shown_of

_ALWAYS = frozenset({*ALWAYS_GIVEN, "withheld", "record_type"})
_MOST_FIELDS = 100


class Selection:
    """Which fields an answer holds: all, or those that were asked for."""

    def __init__(self, reader: Reader, collection: Collection, kind: str, asked: str | None) -> None:
        self._names = None if asked is None else self._read(reader, collection, kind, asked)
        self._collection = collection

    @property
    def left_out(self) -> set[str]:
        """Return the fields of a record that are not given."""
        if self._names is None:
            return set()
        whole = {name.split(".", 1)[0] for name in self._names}
        return set(self._collection.given.model_fields) - whole - _ALWAYS

    def narrow(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is given of a record with only those custom fields that were asked for."""
        if self._names is None or "custom" in self._names or given.get("custom") is None:
            return given
        held = given["custom"]
        return {**given, "custom": {name: held[name] for name in held if f"{CUSTOM}{name}" in self._names}}

    @staticmethod
    def _read(reader: Reader, collection: Collection, kind: str, asked: str) -> frozenset[str]:
        names = frozenset(check_text("fields", asked).split(","))
        if len(names) > _MOST_FIELDS:
            raise InvalidValueError("fields", f"{len(names)} names", f"at most {_MOST_FIELDS}")
        custom = declarations(reader.session).fields(kind)
        for name in sorted(names):
            known = name.removeprefix(CUSTOM) in custom if name.startswith(CUSTOM) else None
            if known is False or (known is None and name not in collection.given.model_fields):
                raise UnknownFieldError(kind, name)
            column = "probability" if name == "prediction" else name
            if not reader.may_read_field(kind, column):
                raise AccessDeniedError(f"the role {reader.user.role} may not see {kind}.{name}")
        return names


def records_out(reader: Reader, collection: Collection, records: Sequence[Record]) -> list[BaseModel]:
    """Return what the API gives of records of one type to somebody who sees them."""
    silent, newest = _scores(reader, collection, records)
    return [
        collection.given.model_validate(
            _given(reader, collection, record, newest.get(record.id), silent=record.id in silent)
        )
        for record in records
    ]


def record_json(reader: Reader, record: Record, selection: Selection | None = None) -> str:
    """Return the JSON text that the API gives of a record."""
    collection = COLLECTIONS[record.record_type]
    (given,) = records_out(reader, collection, [record])
    return narrowed(given, selection).model_dump_json(exclude=selection.left_out if selection else None)


def written_json(reader: Reader, record: Record) -> str:
    """Return the JSON text that the API gives of a record just written: as it would be read from now on."""
    reader.session.flush()
    reader.session.refresh(record)
    return record_json(reader, record)


def narrowed(given: BaseModel, selection: Selection | None) -> BaseModel:
    """Return what is given of a record with only those custom fields that were asked for."""
    if selection is None or "custom" not in type(given).model_fields:
        return given
    return given.model_copy(update=selection.narrow({"custom": getattr(given, "custom", None)}))


def _scores(
    reader: Reader, collection: Collection, records: Sequence[Record]
) -> tuple[set[int], Mapping[int, Prediction]]:
    """Return which records may not be scored, and the newest prediction of each that may."""
    scored = [record for record in records if isinstance(record, Lead | Deal | Account)]
    if not scored:
        return set(), {}
    ids = [record.id for record in scored]
    silent = list_silent(reader, type(scored[0]), scored)
    return silent, newest_predictions(reader.session, collection.record_type, ids)


def _given(
    reader: Reader, collection: Collection, record: Record, newest: Prediction | None, *, silent: bool
) -> dict[str, Any]:
    seen = reader.shown(record)
    kind = logical_type(reader.session, record)
    names = columns_of(type(record)).keys() & collection.given.model_fields.keys()
    given = {name: seen.get(name) for name in names}
    given["custom"] = plain_custom(reader.session, kind, seen.get("custom"))
    given["withheld"] = sorted((names | {"custom"}) - seen.keys())
    if isinstance(record, CustomRecord):
        given["record_type"] = kind
    if isinstance(record, Lead | Deal | Account):
        given["prediction"] = OPTED_OUT if silent else shown_of(reader, record, newest)
    return given
