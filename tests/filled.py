"""A store that holds every record type with every field filled, made from the columns themselves.

A record type or column that comes later takes part by itself.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, String

from crm_core.changes import Source
from crm_core.clock import micros
from crm_core.columns import Day, Instant, Json, Money
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.pipelines import PIPELINES
from crm_core.predictions import SCORED_TYPES, NewPrediction, write_predictions
from crm_core.record_types import declare_record_type
from crm_core.records import RECORD_TYPES, SCORE_COLUMNS, Record
from crm_core.store import Store, Transaction
from crm_core.validation import CHOICES, RANGES, columns_of
from serving.champions import TASK_OF

TEXTS = (
    "Hill & Sons",
    "北京水泵有限公司",
    '=cmd|"/c calc"!A1',
    "+49 30 1234",
    "-2+3",
    "@SUM(A1)",
    "'=1+1",
    "two\nlines, with; commas\tand a tab",
    'a "quoted" word',
    "  spaces around  ",
    "00123",
    "1e5",
    "2024-01-01",
    "true",
    "NULL",
    "crm:1",
    "😀 ünïcödé",
    "_x000D_ as it is",
    "0.1",
)
"""Texts that programs like to take for something else."""

OWN_TYPES = ("project", "shop")
LINKS = ("lead", "deal", "account", "contact")
"""What their records may belong to, besides one another."""

NOT_FILLED = SCORE_COLUMNS | {
    "id",
    "external_id",
    "deleted_at",
    "merged_into_id",
    "erased_at",
    "version",
    "password_hash",
    "custom",
}

CUSTOM = {
    "note": FieldKind.TEXT,
    "bikes": FieldKind.NUMBER,
    "vip": FieldKind.FLAG,
    "at": FieldKind.INSTANT,
    "since": FieldKind.DAY,
}

_START = datetime(2023, 1, 1, tzinfo=UTC)


class Filler:
    """Makes records of every type that point at one another."""

    def __init__(
        self,
        store: Store,
        *,
        seed: int = 1,
        each: int = 4,
        opting_out: bool = False,
        without: Collection[str] = (),
    ) -> None:
        """With `opting_out`, some people and companies ask not to be scored."""
        self._models = {name: model for name, model in RECORD_TYPES.items() if name not in without}
        self._store = store
        self._random = random.Random(seed)
        self._each = each
        self._opting_out = opting_out
        self.ids: dict[str, list[int]] = defaultdict(list)

    def fill(self) -> dict[str, list[int]]:
        """Fill the store; return the ids of the records that live, by type."""
        with self._store.transaction(source=Source.IMPORT) as transaction:
            self._declare(transaction)
            for record_type, model in self._models.items():
                for number in range(self._each + 1):
                    record = transaction.create(model(**self._row(model, number)))
                    self.ids[record_type].append(record.id)
        self._edit()
        self._predict()
        return {record_type: list(ids) for record_type, ids in self.ids.items()}

    def _declare(self, transaction: Transaction) -> None:
        session = transaction.session
        declare_record_type(session, name="project", label_en="Project", label_zh="项目")
        declare_record_type(session, name="shop", label_en="Shop", label_zh="门店")
        for name in OWN_TYPES:
            declare_record_type(session, name=name, label_en=name, label_zh=name, links=(*LINKS, *OWN_TYPES))
        for record_type in (*(name for name in RECORD_TYPES if name != "custom_record"), *OWN_TYPES):
            for name, kind in CUSTOM.items():
                declare_field(
                    session,
                    record_type=record_type,
                    name=f"custom.{name}",
                    known=Known.CREATION,
                    kind=kind,
                    label_en=f"{name} in English",
                    label_zh=f"{name} 中文",
                )

    def _edit(self) -> None:
        """Delete the last record of each type, and move deals on, so that there is a history."""
        with self._store.transaction() as transaction:
            for record_type, model in self._models.items():
                transaction.delete(transaction.get(model, self.ids[record_type].pop()))
            for deal_id in self.ids["deal"]:
                deal = transaction.get(RECORD_TYPES["deal"], deal_id)
                transaction.update(
                    deal, {"amount": Decimal("12.3456"), "expected_close_on": date(2027, 1, 2)}
                )
                transaction.update(deal, {"custom.at": micros(_START), "custom.bikes": 7.5})

    def _predict(self) -> None:
        with self._store.transaction() as transaction:
            for record_type in SCORED_TYPES:
                made = [
                    NewPrediction(record_id=each, probability=0.25, score=50, grade="B", reasons=[])
                    for each in self.ids[record_type]
                ]
                write_predictions(
                    transaction,
                    task=TASK_OF[record_type],
                    record_type=record_type,
                    as_of=transaction.now,
                    model_version="v1",
                    horizon_days=90,
                    predictions=made,
                )

    def _row(self, model: type[Record], number: int) -> dict[str, Any]:
        row = {
            name: self._value(model, name, column)
            for name, column in columns_of(model).items()
            if name not in NOT_FILLED and (number or not column.nullable)
        }
        row["external_id"] = f"X {model.record_type} {number}" if number % 2 else None
        row["recorded_at"] = row["occurred_at"] + timedelta(hours=1)
        if "subject_type" in row:
            row |= self._subject()
        if number:
            row["custom"] = {name: self._custom(kind) for name, kind in CUSTOM.items()}
        return _in_order(model, row)

    def _subject(self) -> dict[str, Any]:
        record_type = self._random.choice([name for name, ids in self.ids.items() if len(ids) > 1])
        return {
            "subject_type": record_type,
            "subject_id": self._random.choice(self.ids[record_type][:-1]),
        }

    def _value(self, model: type[Record], name: str, column: Column[Any]) -> Any:
        if column.foreign_keys:
            return self._link(column)
        if (model.record_type, name) in CHOICES:
            return self._random.choice(list(CHOICES[model.record_type, name])).value
        if (model.record_type, name) in RANGES:
            low, high = RANGES[model.record_type, name]
            drawn = self._random.uniform(low, min(high, 1e6))
            return round(drawn) if isinstance(column.type, Integer) else drawn
        if name in {"pipeline", "stage"}:
            return "default" if name == "pipeline" else self._random.choice(PIPELINES["default"]).key
        return self._plain(name, column)

    def _link(self, column: Column[Any]) -> int | None:
        (key,) = column.foreign_keys
        table = key.target_fullname.split(".")[0]
        if table == "custom_record_types":
            return self._random.choice((1, 2))
        target = next(name for name, model in RECORD_TYPES.items() if model.__tablename__ == table)
        known = self.ids[target][: self._each]
        return self._random.choice(known) if known else None

    def _plain(self, name: str, column: Column[Any]) -> Any:  # noqa: PLR0911  one return a type
        match column.type:
            case Instant():
                return self._instant()
            case Day():
                return date(2024, 1, 1) + timedelta(days=self._random.randrange(900))
            case Money():
                digits = self._random.choice((3, 8, 18))
                return Decimal(self._random.randrange(10**digits)).scaleb(-4) * self._random.choice((1, -1))
            case Json():
                return [1, 2] if name == "mentions" else self._random.sample(TEXTS, 3)
            case Boolean() if name == "scoring_opt_out":
                return self._opting_out and self._random.random() < 0.5
            case Boolean():
                return self._random.random() < 0.5
            case Integer():
                return self._random.randrange(1000)
            case Float():
                return self._random.uniform(-1e3, 1e3)
        return self._text(name, column)

    def _text(self, name: str, column: Column[Any]) -> str:
        if column.unique:
            return f"{name}{self._random.getrandbits(60)}@example.com"
        longest = column.type.length if isinstance(column.type, String) else None
        return self._random.choice(TEXTS)[:longest].strip("\n") if longest else self._random.choice(TEXTS)

    def _instant(self) -> datetime:
        since = timedelta(seconds=self._random.randrange(90_000_000))
        return _START + since + timedelta(microseconds=self._random.choice((0, 0, 123_000, 123_456)))

    def _custom(self, kind: FieldKind) -> Any:
        return {
            FieldKind.TEXT: self._random.choice(TEXTS),
            FieldKind.NUMBER: self._random.choice((2, 2.5, -1e-7, 123456789.125)),
            FieldKind.FLAG: self._random.random() < 0.5,
            FieldKind.INSTANT: micros(self._instant()),
            FieldKind.DAY: self._random.randrange(-1000, 20_000),
        }[kind]


def _in_order(model: type[Record], row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which nothing ends before it began: the start comes first of all."""
    first = min(value for value in row.values() if isinstance(value, datetime))
    recorded = row["recorded_at"]
    days = sorted(
        value for value in row.values() if isinstance(value, date) and not isinstance(value, datetime)
    )
    for name in ("starts_on", "ends_on"):
        if isinstance(row.get(name), date):
            row[name] = days[0] if name == "starts_on" else days[-1]
    for name in ("sent_at", "decided_at"):
        if row.get(name) is not None:
            row[name] = first + timedelta(days=1 if name == "sent_at" else 2)
    if row.get("valid_until") is not None:
        row["valid_until"] = (first + timedelta(days=30)).date()
    return {**row, "occurred_at": first, "recorded_at": max(recorded, first)}
