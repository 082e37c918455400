"""What every feature should say, worked out slowly, one question at a time, from the rows of the database.

Nothing of the engine is used here: rows are read with plain SQL and the time rule is written out again.
"""

from __future__ import annotations

import calendar
import itertools
import json
import math
import sqlite3
import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from functools import singledispatch
from pathlib import Path
from typing import Any

from crm_core.pipelines import PIPELINES
from features import (
    contracts,
    event_features,
    field_features,
    field_measures,
    measures,
    norms,
    payments,
    population,
    rates,
    responses,
)
from features.declaration import Feature

DAY = 86_400_000_000
TABLES = {"activity": "activities"}
MONEY = {"amount", "value"}


class Database:
    """All rows of a store."""

    def __init__(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.row_factory = sqlite3.Row
        self.tables = {
            kind: {
                row["id"]: dict(row)
                for row in connection.execute(f"SELECT * FROM {TABLES.get(kind, kind + 's')}")
            }
            for kind in (
                *("user", "team", "account", "lead", "deal"),
                *("activity", "order", "ticket", "contract", "payment", "quote", "campaign_member"),
            )
        }
        self.changes: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
        for row in connection.execute("SELECT * FROM changes ORDER BY id"):
            self.changes[row["record_type"], row["record_id"], row["field"]].append(dict(row))
        connection.close()

    def known_changes(self, kind: str, record_id: int, field: str, as_of: int) -> list[dict[str, Any]]:
        """The changes of a field that were known, oldest first."""
        rows = self.changes[kind, record_id, field]
        known = [row for row in rows if row["recorded_at"] <= as_of and row["occurred_at"] <= as_of]
        return sorted(known, key=lambda row: (row["occurred_at"], row["recorded_at"], row["id"]))

    def at_first(self, kind: str, record_id: int, field: str) -> Any:
        """What a field held before any change."""
        for row in self.changes[kind, record_id, field]:
            return None if row["old"] is None else json.loads(row["old"])
        row = self.tables[kind][record_id]
        if field.startswith("custom."):
            return json.loads(row["custom"] or "{}").get(field[7:])
        return row[field]

    def held(self, kind: str, record_id: int, field: str, as_of: int) -> Any:
        """What a field held, as known."""
        known = self.known_changes(kind, record_id, field, as_of)
        if not known:
            return self.at_first(kind, record_id, field)
        return None if known[-1]["new"] is None else json.loads(known[-1]["new"])

    def events(
        self, of: event_features.Events, record_id: int | None, as_of: int, lookback: int | None
    ) -> list[dict[str, Any]]:
        """The events in the window as they were known, oldest first."""
        owner = "account" if of.via else of.record
        if of.via:
            record_id = self.held(of.record, record_id or 0, of.via, as_of)
        found = []
        for row in self.tables[of.event].values():
            seen = row["recorded_at"] <= as_of and row["occurred_at"] <= as_of
            if not seen or (row["deleted_at"] is not None and row["deleted_at"] <= as_of):
                continue
            if lookback is not None and not row["occurred_at"] > as_of - lookback:
                continue
            known = {name: self.held(of.event, row["id"], name, as_of) for name in row if name not in _PLAIN}
            if record_id is None or known[f"{owner}_id"] != record_id:
                continue
            if all(
                known[name] in wanted or (known[name] is not None and event_features.FILLED in wanted)
                for name, wanted in of.where
            ):
                found.append({"id": row["id"], "occurred_at": row["occurred_at"], **known})
        return sorted(found, key=lambda row: (row["occurred_at"], row["id"]))

    def values(self, feature: Any, record_id: int, as_of: int) -> tuple[str, int | None]:
        """The type and id of the record whose field a feature reads."""
        kind, found = feature.record, record_id
        for field in feature.via.split(".") if feature.via else ():
            found = self.held(kind, found, field, as_of)
            kind = {"account_id": "account", "owner_id": "user", "team_id": "team"}[field]
            if found is None or not self.is_known(kind, found, as_of):
                return kind, None
        return kind, found

    def is_known(self, kind: str, record_id: int, as_of: int) -> bool:
        """Whether a record had come to exist, and that was known."""
        row = self.tables[kind][record_id]
        return bool(row["recorded_at"] <= as_of and row["occurred_at"] <= as_of)


_PLAIN = frozenset({"id", "external_id", "occurred_at", "recorded_at", "deleted_at", "version", "custom"})


def answer(database: Database, feature: Feature, record_id: int, as_of: int) -> float | str | None:
    """The value a feature should have; NaN for a missing number, None for a missing word."""
    value = _answer(feature, database, record_id, as_of)
    if feature.dtype == "category":
        return None if value is None else str(value)
    return math.nan if value is None else float(value)


@singledispatch
def _answer(feature: Feature, database: Database, record_id: int, as_of: int) -> Any:
    raise NotImplementedError(type(feature))


def _on(kind: type[Feature]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return _answer.register(kind)


@_on(event_features.EventCount)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return len(db.events(feature.of, record_id, as_of, feature.length))


@_on(event_features.EventSum)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    total = sum(row[feature.field] or 0 for row in found)
    return total / (10_000 if feature.field in MONEY else 1)


@_on(event_features.EventMean)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    given = [row[feature.field] for row in found if row[feature.field] is not None]
    return sum(given) / (10_000 if feature.field in MONEY else 1) / len(given) if given else None


@_on(event_features.DaysSinceLast)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    return (as_of - found[-1]["occurred_at"]) / DAY if found else None


@_on(event_features.DaysSinceFirst)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, None)
    return (as_of - found[0]["occurred_at"]) / DAY if found else None


@_on(event_features.HoursToFirst)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, None)
    born = db.tables[feature.record][record_id]["occurred_at"]
    return (found[0]["occurred_at"] - born) / (DAY // 24) if found else None


@_on(event_features.LastValue)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    value = found[-1][feature.field] if found else None
    return value / 10_000 if value is not None and feature.field in MONEY else value


def _last_response(feature: Any, db: Database, record_id: int, as_of: int) -> int | None:
    found = [row for of in feature.answers for row in db.events(of, record_id, as_of, None)]
    return max((row["occurred_at"] for row in found), default=None)


@_on(responses.DaysSinceResponse)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    last = _last_response(feature, db, record_id, as_of)
    return None if last is None else (as_of - last) / DAY


@_on(responses.TriesSinceResponse)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    last = _last_response(feature, db, record_id, as_of)
    found = db.events(feature.of, record_id, as_of, None)
    return sum(last is None or row["occurred_at"] > last for row in found)


def _median_gap(feature: Any, db: Database, record_id: int, as_of: int) -> float | None:
    days = sorted(
        {row["occurred_at"] // DAY for row in db.events(feature.of, record_id, as_of, feature.length)}
    )
    gaps = [after - before for before, after in itertools.pairwise(days)]
    return statistics.median(gaps) if gaps else None


@_on(event_features.MedianGap)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return _median_gap(feature, db, record_id, as_of)


@_on(event_features.GapRatio)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    gap = _median_gap(feature, db, record_id, as_of)
    found = db.events(feature.of, record_id, as_of, None)
    return None if gap is None else (as_of - found[-1]["occurred_at"]) / DAY / gap


@_on(contracts.DaysToContractEnd)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, None)
    ends = [row["ends_on"] * DAY for row in found if row["status"] in {"active", "renewed"}]
    return (max(ends) - as_of) / DAY if ends and max(ends) > as_of else None


@_on(contracts.RunningContractsValue)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, None)
    running = [
        row["value"] or 0
        for row in found
        if row["status"] in {"active", "renewed"} and row["starts_on"] * DAY <= as_of < row["ends_on"] * DAY
    ]
    return sum(running) / 10_000


@_on(field_features.FieldValue)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    kind, owner = db.values(feature, record_id, as_of)
    value = None if owner is None else db.held(kind, owner, feature.field, as_of)
    return value / 10_000 if value is not None and feature.field in MONEY else value


@_on(field_features.DaysUntil)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    kind, owner = db.values(feature, record_id, as_of)
    value = None if owner is None else db.held(kind, owner, feature.field, as_of)
    days = feature.field in {"expected_close_on", "custom.trial_ends"}
    return None if value is None else (value * (DAY if days else 1) - as_of) / DAY


def _changed_at(db: Database, kind: str, record_id: int, field: str, as_of: int) -> int | None:
    known = db.known_changes(kind, record_id, field, as_of)
    return known[-1]["occurred_at"] if known else None


@_on(field_features.FieldAge)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    since = _changed_at(db, feature.record, record_id, feature.field, as_of)
    return (as_of - (since or db.tables[feature.record][record_id]["occurred_at"])) / DAY


@_on(field_features.DaysSinceChange)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    since = _changed_at(db, feature.record, record_id, feature.field, as_of)
    return None if since is None else (as_of - since) / DAY


def _steps(feature: Any, db: Database, record_id: int, as_of: int) -> list[tuple[Any, Any]]:
    """The (old, new) values of every known change in the window, each after the one known before it."""
    steps, before = [], db.at_first(feature.record, record_id, feature.field)
    for row in db.known_changes(feature.record, record_id, feature.field, as_of):
        new = None if row["new"] is None else json.loads(row["new"])
        if feature.length is None or row["occurred_at"] > as_of - feature.length:
            steps.append((before, new))
        before = new
    return steps


@_on(field_features.ChangesCount)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return sum(old != new for old, new in _steps(feature, db, record_id, as_of))


@_on(field_features.PushesCount)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    steps = _steps(feature, db, record_id, as_of)
    return sum(old is not None and new is not None and new > old for old, new in steps)


@_on(field_features.StageMovesBack)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    order = [stage.key for stage in PIPELINES["default"]]
    return sum(order.index(new) < order.index(old) for old, new in _steps(feature, db, record_id, as_of))


@_on(field_features.AgeDays)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return (as_of - db.tables[feature.record][record_id]["occurred_at"]) / DAY


@_on(field_features.MissingCount)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return sum(db.held(feature.record, record_id, field, as_of) in {None, ""} for field in feature.fields)


@_on(field_features.Season)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    month = datetime.fromtimestamp(as_of // 1_000_000, tz=UTC).month
    assert calendar.month_name[month]
    turn = math.sin if feature.part == "sin" else math.cos
    return turn(2 * math.pi * (month - 1) / 12)


def _stage(db: Database, record_id: int, as_of: int) -> tuple[int, Any]:
    key = db.held("deal", record_id, "stage", as_of)
    stages = PIPELINES[db.held("deal", record_id, "pipeline", as_of)]
    return next((index, stage) for index, stage in enumerate(stages) if stage.key == key)


@_on(field_features.StageIndex)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return _stage(db, record_id, as_of)[0]


@_on(field_features.StageAgeRatio)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    since = _changed_at(db, "deal", record_id, "stage", as_of) or db.tables["deal"][record_id]["occurred_at"]
    return (as_of - since) / DAY / _stage(db, record_id, as_of)[1].rotting_days


def _given(feature: Any, db: Database, record_id: int, as_of: int) -> list[Any]:
    found = db.events(feature.of, record_id, as_of, feature.length)
    return [row[feature.field] for row in found if row[feature.field] not in {None, ""}]


@_on(measures.EventLargest)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    given = _given(feature, db, record_id, as_of)
    return max(given) / (10_000 if feature.field in MONEY else 1) if given else None


@_on(measures.EventSmallest)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    given = _given(feature, db, record_id, as_of)
    return min(given) / (10_000 if feature.field in MONEY else 1) if given else None


@_on(measures.EventDistinct)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return len(set(_given(feature, db, record_id, as_of)))


@_on(measures.EventShare)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    part, whole = (len(db.events(of, record_id, as_of, feature.length)) for of in (feature.part, feature.of))
    return part / whole if whole else None


@_on(measures.EventTrend)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    length, before = feature.lengths
    times = [row["occurred_at"] for row in db.events(feature.of, record_id, as_of, length + before)]
    earlier = sum(when <= as_of - length for when in times)
    return float(len(times) - earlier - earlier * Fraction(length, before))


@_on(field_measures.DaysHeld)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    begin = db.tables[feature.record][record_id]["occurred_at"]
    begin = begin if feature.length is None else max(begin, as_of - feature.length)
    holds, since, spent = db.at_first(feature.record, record_id, feature.field), begin, 0
    for row in db.known_changes(feature.record, record_id, feature.field, as_of):
        when = max(row["occurred_at"], begin)
        spent += when - since if holds == feature.value else 0
        holds, since = None if row["new"] is None else json.loads(row["new"]), when
    return (spent + (as_of - since if holds == feature.value else 0)) / DAY


@_on(field_measures.Filled)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    return db.held(feature.record, record_id, feature.field, as_of) not in {None, ""}


@_on(field_measures.FreeMail)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    address = db.held(feature.record, record_id, feature.field, as_of)
    return None if not address else address.split("@")[-1].lower().split(".")[0] in feature.providers


@_on(field_measures.ListLength)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    held = db.held(feature.record, record_id, feature.field, as_of)
    return len(json.loads(held) if isinstance(held, str) else held or [])


@_on(field_measures.Growth)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    first = db.at_first(feature.record, record_id, feature.field)
    now = db.held(feature.record, record_id, feature.field, as_of)
    return now / first if first and now is not None else None


def _overdue(row: dict[str, Any], as_of: int) -> tuple[int, bool]:
    """By how much a payment is late, and whether it is open."""
    is_open = row["paid_at"] is None or row["paid_at"] > as_of
    return (as_of if is_open else row["paid_at"]) - (row["due_on"] + 1) * DAY, is_open


@_on(payments.OverdueCount)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    late = (_overdue(row, as_of) for row in found if row["due_on"] is not None)
    return sum(by >= 0 and is_open for by, is_open in late)


@_on(payments.PaymentDelay)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    due = [row for row in found if row["due_on"] is not None and (row["due_on"] + 1) * DAY <= as_of]
    return sum(max(_overdue(row, as_of)[0], 0) for row in due) / DAY / len(due) if due else None


@_on(payments.LastPaymentDelay)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    found = db.events(feature.of, record_id, as_of, feature.length)
    due = [row for row in found if row["due_on"] is not None and (row["due_on"] + 1) * DAY <= as_of]
    late = sorted((row["due_on"], max(_overdue(row, as_of)[0], 0)) for row in due)
    return late[-1][1] / DAY if late else None


def _asked(db: Database, feature: Any, row: dict[str, Any]) -> list[tuple[int, Any]]:
    """When a record could have been asked about, and the group it was in."""
    kind, record_id, field = feature.record, row["id"], feature.field
    known = max(row["occurred_at"], row["recorded_at"])
    if feature.each == population.RECORD:
        return [(known, db.held(kind, record_id, field, known + DAY))]
    seen = {max(one["occurred_at"], one["recorded_at"]) for one in db.changes[kind, record_id, field]}
    instants = [known, *sorted(when for when in seen if when > known)]
    held = [db.held(kind, record_id, field, when) for when in instants]
    return [
        (when, now)
        for when, now, before in zip(instants, held, [object(), *held], strict=False)
        if now != before
    ]


@_on(norms.AgeAgainstNorm)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    now = datetime.fromtimestamp(as_of // 1_000_000, tz=UTC)
    month = int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp()) * 1_000_000
    within = {"30d": 30, "90d": 90}[feature.within] * DAY
    kind, field = feature.record, feature.field
    group = db.held(kind, record_id, field, as_of)
    lengths = []
    for row in db.tables[kind].values():
        stays = _asked(db, rates.HistoricalRate(record=kind, field=field, horizon="1d", each="entry"), row)
        changes = db.changes[kind, row["id"], "status"]
        closed = [max(one["occurred_at"], one["recorded_at"]) for one in changes if one["new"] != '"open"']
        for position, (begin, value) in enumerate(stays):
            ends = [when for when, _ in stays[position + 1 :]] + [when for when in closed if when > begin]
            gone = row["deleted_at"] is not None and row["deleted_at"] <= month
            is_open = db.held(kind, row["id"], "status", begin) == "open"
            wins = [one for one in changes if one["new"] == '"won"' and one["occurred_at"] <= begin]
            void = any(begin < one["recorded_at"] <= month for one in wins)
            if value == group and begin + within <= month and is_open and not gone and not void:
                lengths.append(min([within, *(end - begin for end in ends)]))
    if group in {None, ""} or len(lengths) < rates.STRENGTH or not statistics.median(lengths):
        return None
    since = _changed_at(db, kind, record_id, field, as_of) or db.tables[kind][record_id]["occurred_at"]
    return (as_of - since) / DAY / (statistics.median(lengths) / DAY)


@_on(rates.HistoricalRate)
def _(feature: Any, db: Database, record_id: int, as_of: int) -> Any:
    horizon, lookback = feature.lengths
    wanted = json.dumps("converted" if feature.record == "lead" else "won")
    group = db.held(feature.record, record_id, feature.field, as_of)
    outcomes: dict[bool, list[bool]] = {True: [], False: []}
    for row in db.tables[feature.record].values():
        gone = row["deleted_at"] is not None and row["deleted_at"] <= as_of
        if row["id"] == record_id or gone:
            continue
        known = db.known_changes(feature.record, row["id"], "status", as_of)
        wins = [one for one in known if one["new"] == wanted]
        for when, value in _asked(db, feature, row):
            over = when + horizon
            if over > as_of or (lookback is not None and over <= as_of - lookback):
                continue
            if db.held(feature.record, row["id"], "status", when) != "open":
                continue
            if any(one["occurred_at"] <= when < one["recorded_at"] for one in wins):
                continue
            came = any(when < one["occurred_at"] <= over for one in wins)
            outcomes[value == group].append(came)
    every = outcomes[True] + outcomes[False]
    if group in {None, ""} or len(every) < feature.strength:
        return None
    share = Fraction(sum(every), len(every))
    return float((sum(outcomes[True]) + feature.strength * share) / (len(outcomes[True]) + feature.strength))
