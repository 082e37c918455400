"""What the whole history of the store tells of a field that may be written by what it is to foretell.

A model may look only at what was known when it was asked; the guard may look at everything, because it uses
it to refuse and never to teach. A column that is filled on won leads alone shows even on a day on which none
of those leads had been won yet.

Fields that an import or a person declared are looked at: their presence, when they were first filled, and
whether their values give away when the record ended, or how much came after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY
from crm_core.fields import CUSTOM, FieldDeclaration, FieldKind, Known, list_fields
from crm_core.history import FieldHistory, read_histories
from crm_core.records import RECORD_TYPES
from crm_core.store import Store
from crm_core.validation import columns_of
from features.endings import Endings, is_undated_in, read_endings
from models.evaluation import rank_correlation
from models.hazard import Bools, Floats, Ints

FEWEST = 15
"""Records with a value, and without one, below which nothing is said of its presence."""

TELLTALE_ODDS = 30.0
"""Odds of the outcome with a value, as a multiple of those without one, from which on its presence tells."""

FILLED_LATE = 0.8
"""Share of values written when the outcome was known, or later, from which on a field counts as late."""

SAME = 0.98
"""Share of records, or rank correlation, from which on two things count as the same."""

CLOSED_FEWEST = 100
"""Ended records with a value below which nothing is compared with how they ended."""

FEWEST_GROUPS = 10
"""Groups below which nothing is compared with their sizes."""

TELLS = 0.03
"""Difference of the share of the outcome between fifths of a number from which on it tells anything."""

PROCESS_WORDS = re.compile(
    r"\b(elapsed|duration|closing|closed|through|days|stage changes?|change count|time in|last modified)\b"
    r"|天数|时长|停留|变更次数|成交|结案"
)
"""Words of a column that is measured while a record goes on, or at its end."""

SPAN_WORDS = re.compile(
    r"\b(past|previous|last|recent|trailing)\b.*\b(years?|quarters?|months?|weeks?)\b|\bto date\b"
    r"|过去|最近|近[一二两三]?年"
)
"""Words of a column that sums up a span of time whose end nobody knows in a file without dates."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the history tells about a field (`record.field`); `doubtful`: it warns and does not refuse."""

    field: str
    check: str
    evidence: str
    doubtful: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Field:
    """A field with its value on every record: `values` object[n], `numbers` float64[n] with NaN for none."""

    declared: FieldDeclaration
    values: npt.NDArray[np.object_]
    numbers: Floats
    present: Bools


@dataclass(frozen=True, kw_only=True, eq=False)
class _World:
    """The records of a type, how they ended, and the words they are grouped by."""

    record_type: str
    ends: Endings
    over: Bools
    undated: bool
    groups: dict[str, Ints]


def find_telling_fields(store: Store, record_type: str) -> list[Finding]:
    """Return what the history tells against fields of a type that a model would look at.

    Of accounts with dates there is no one outcome of a record, and nothing is returned.
    """
    with store.reading() as session:
        undated = is_undated_in(session, record_type)
        if record_type == "account" and not undated:
            return []
        fields = _fields(session, record_type)
        if not fields:
            return []
        world = _world(session, record_type, fields, undated=undated)
        model = RECORD_TYPES[record_type]
        names = [field.declared.name for field in fields]
        histories = {} if undated else read_histories(session, model, names)
    return [finding for field in fields for finding in _look_at(field, world, histories)]


def _look_at(field: _Field, world: _World, histories: dict[str, FieldHistory]) -> Iterator[Finding]:
    """Yield the first thing that tells against a field, if anything does."""
    history = histories.get(field.declared.name)
    checks: list[tuple[str, Callable[[], str | None]]] = [
        ("presence", lambda: _presence(field, world)),
        ("process time", lambda: _measured_on_the_way(field, world) if world.undated else None),
    ]
    if history is not None:
        checks += [
            ("filled late", lambda: _filled_late(field, world, history)),
            ("duration", lambda: _duration(field, world)),
            ("date of the end", lambda: _date_of_the_end(field, world)),
            ("counts what came later", lambda: _counts_a_group(field, world)),
            ("tells when", lambda: _tells_when(field, world)),
        ]
    place = f"{world.record_type}.{field.declared.name}"
    for check, look in checks:
        evidence = look()
        if evidence is not None:
            yield Finding(field=place, check=check, evidence=evidence)
            return
    doubt = _sums_up_a_span(field, world) if world.undated else None
    if doubt is not None:
        yield Finding(field=place, check="open span", evidence=doubt, doubtful=True)


# ------------------------------------------------------------------------------------------------- reading


def _fields(session: Session, record_type: str) -> list[_Field]:
    model = RECORD_TYPES[record_type]
    declared = [
        field
        for field in list_fields(session, record_type)
        if field.known in (Known.CREATION, Known.HISTORY)
        and field.retired_at is None
        and field.kind != FieldKind.REFERENCE
        and field.name.startswith(CUSTOM)
    ]
    if not declared:
        return []
    held = read_arrays(session, select(columns_of(model)["custom"], model.id).order_by(model.id))["custom"]
    return [_field(each, [cell or {} for cell in held.tolist()]) for each in declared]


def _field(declared: FieldDeclaration, held: Sequence[dict[str, Any]]) -> _Field:
    name = declared.name.removeprefix(CUSTOM)
    values = np.empty(len(held), dtype=object)
    values[:] = [cell.get(name) for cell in held]
    numeric = declared.kind not in (FieldKind.TEXT, FieldKind.CHOICE)
    numbers = [float(value) if numeric and value is not None else np.nan for value in values.tolist()]
    present = np.array([value is not None for value in values.tolist()], dtype=np.bool_)
    return _Field(declared=declared, values=values, numbers=np.array(numbers), present=present)


def _world(session: Session, record_type: str, fields: list[_Field], *, undated: bool) -> _World:
    ends = read_endings(session, record_type)
    model = RECORD_TYPES[record_type]
    columns = columns_of(model)
    wanted = [model.id, *([columns["owner_id"]] if "owner_id" in columns else [])]
    rows = read_arrays(session, select(*wanted).order_by(model.id))
    kept = np.isin(rows["id"], ends.ids)
    groups = {"owner_id": rows["owner_id"]} if "owner_id" in rows else {}
    groups |= {
        field.declared.name: _codes(field.values)
        for field in fields
        if field.declared.kind in (FieldKind.TEXT, FieldKind.CHOICE)
    }
    for position, field in enumerate(fields):
        fields[position] = _Field(
            declared=field.declared,
            values=field.values[kept],
            numbers=field.numbers[kept],
            present=field.present[kept],
        )
    # A lead that was never won is one without the outcome; a deal that is open has none yet.
    ended = ends.ended_at != NO_INSTANT
    return _World(
        record_type=record_type,
        ends=ends,
        over=np.ones_like(ended) if record_type == "lead" else ended,
        undated=undated,
        groups={name: codes[kept] for name, codes in groups.items()},
    )


def _codes(values: npt.NDArray[np.object_]) -> Ints:
    place = {value: number for number, value in enumerate(dict.fromkeys(values.tolist()))}
    none = place.get(None, -1)
    codes = np.array([place[value] for value in values.tolist()], dtype=np.int64)
    return np.where(codes == none, NO_INSTANT, codes)


# -------------------------------------------------------------------------------------------------- checks


def _presence(field: _Field, world: _World) -> str | None:
    """Return evidence that a field is filled on records with the outcome alone, or without it alone.

    Records are compared from the time in which the field was in use: one that is filled since yesterday is
    on new records, which have had no time for an outcome.
    """
    in_use = world.over & _alive_while_used(field, world)
    present, wanted = field.present[in_use], world.ends.wanted[in_use]
    if min(present.sum(), (~present).sum()) < FEWEST:
        return None
    odds = [_odds(wanted[rows]) for rows in (present, ~present)]
    if max(odds[0] / odds[1], odds[1] / odds[0]) < TELLTALE_ODDS:
        return None
    return (
        f"of {present.sum():,} {world.record_type}s with a value {wanted[present].sum():,} had the outcome, "
        f"of {(~present).sum():,} without one {wanted[~present].sum():,}"
    )


def _alive_while_used(field: _Field, world: _World) -> Bools:
    """Return the records that became known between the first and the last that have a value."""
    if world.undated or not field.present.any():
        return np.ones_like(field.present)
    known = world.ends.known_from
    first, last = known[field.present].min(), known[field.present].max()
    return np.asarray((known >= first) & (known <= last), dtype=np.bool_)


def _odds(wanted: Bools) -> float:
    yes = int(wanted.sum())
    return (yes + 0.5) / (len(wanted) - yes + 0.5)


def _filled_late(field: _Field, world: _World, history: FieldHistory) -> str | None:
    """Return evidence that values are written when the end is known, or later."""
    ended = world.ends.ended_at != NO_INSTANT
    held = field.present & ended
    if held.sum() < FEWEST:
        return None
    row = np.searchsorted(world.ends.ids, history.record_id)
    row = np.minimum(row, len(world.ends.ids) - 1)
    ours = world.ends.ids[row] == history.record_id
    written = np.full(len(world.ends.ids), NO_INSTANT)
    learned = np.maximum(history.occurred_at, history.recorded_at)
    np.maximum.at(written, row[ours], learned[ours])
    late = held & (written != NO_INSTANT) & (written >= world.ends.ended_at)
    if late.sum() < FILLED_LATE * held.sum():
        return None
    return (
        f"of {held.sum():,} {world.record_type}s that ended and have a value, {late.sum():,} were given it "
        "when the end was known, or later"
    )


def _duration(field: _Field, world: _World) -> str | None:
    """Return evidence that a number is the time which the record took."""
    rows = ~np.isnan(field.numbers) & (world.ends.ended_at != NO_INSTANT)
    if rows.sum() < CLOSED_FEWEST:
        return None
    took = (world.ends.ended_at - world.ends.occurred_at)[rows]
    found = rank_correlation(field.numbers[rows], took.astype(np.float64))
    if found is None or abs(found) < SAME:
        return None
    return (
        f"on {rows.sum():,} ended {world.record_type}s it goes with the time they took "
        f"(rank correlation {found:.3f})"
    )


def _date_of_the_end(field: _Field, world: _World) -> str | None:
    """Return evidence that a value is the year, the month or the day on which the record ended."""
    rows = ~np.isnan(field.numbers) & (world.ends.ended_at != NO_INSTANT)
    if rows.sum() < CLOSED_FEWEST or len(np.unique(field.numbers[rows])) < 3:
        return None
    values = _as_instants(field)[rows]
    began = _calendar(world.ends.occurred_at[rows])
    ended = _calendar(world.ends.ended_at[rows])
    for part, dates in ended.items():
        said = _calendar(values.astype(np.int64))[part] if _is_date(field) else values
        same, before = np.mean(said == dates), np.mean(said == began[part])
        if same >= SAME and before < SAME:
            return (
                f"on {int((said == dates).sum()):,} of {rows.sum():,} ended {world.record_type}s it is the "
                f"{part} in which they ended"
            )
    return None


def _counts_a_group(field: _Field, world: _World) -> str | None:
    """Return evidence that a number is how many records a group came to have, later ones included."""
    rows = ~np.isnan(field.numbers)
    if rows.sum() < CLOSED_FEWEST:
        return None
    for name, codes in world.groups.items():
        known = rows & (codes != NO_INSTANT)
        if known.sum() < CLOSED_FEWEST:
            continue
        _, group, sizes = np.unique(codes[known], return_inverse=True, return_counts=True)
        if len(sizes) < FEWEST_GROUPS or not _constant_within(field.numbers[known], group, len(sizes)):
            continue
        found = rank_correlation(field.numbers[known], sizes[group].astype(np.float64))
        if found is not None and found >= SAME:
            return (
                f"it is the same for all {world.record_type}s with the same {name}, in all {len(sizes)} "
                f"groups, and goes with their number in the end (rank correlation {found:.3f}): it counts "
                "what came later"
            )
    return None


def _constant_within(numbers: Floats, group: Ints, groups: int) -> bool:
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, group, numbers)
    np.maximum.at(high, group, numbers)
    return bool(np.all(low == high))


def _tells_when(field: _Field, world: _World) -> str | None:
    """Return evidence that a number is nothing but when the record was made."""
    rows = ~np.isnan(field.numbers)
    if rows.sum() < CLOSED_FEWEST or _is_date(field) or len(np.unique(field.numbers[rows])) < CLOSED_FEWEST:
        return None
    found = rank_correlation(field.numbers[rows], world.ends.occurred_at[rows].astype(np.float64))
    if found is None or abs(found) < 0.9999:
        return None
    return (
        f"on {rows.sum():,} {world.record_type}s it is when they were made, as a number (rank correlation "
        f"{found:.4f}): a model would learn the calendar"
    )


def _measured_on_the_way(field: _Field, world: _World) -> str | None:
    """Return evidence that a number of a file without dates was measured on the way, or at the end.

    Nobody can prove it without dates, so two things must come together: what the column is called, and that
    it tells something about the outcome.
    """
    words = PROCESS_WORDS.search(_called(field))
    rows = ~np.isnan(field.numbers) & world.over
    if words is None or rows.sum() < CLOSED_FEWEST:
        return None
    shares = _shares_by_fifth(field.numbers[rows], world.ends.wanted[rows])
    if max(shares) - min(shares) < TELLS:
        return None
    return (
        f"its name ({words.group(0)!r}) says that it is measured while a {world.record_type} goes on, and "
        f"a file without dates cannot show that it was known before; of {rows.sum():,} {world.record_type}s "
        f"the outcome came to {shares[0]:.1%} of the lowest fifth and to {shares[-1]:.1%} of the highest, "
        f"between {min(shares):.1%} and {max(shares):.1%} in all five"
    )


def _sums_up_a_span(field: _Field, world: _World) -> str | None:
    words = SPAN_WORDS.search(_called(field))
    rows = ~np.isnan(field.numbers) & world.over
    if words is None or rows.sum() < CLOSED_FEWEST:
        return None
    nothing = rows & (field.numbers == 0)
    some = rows & (field.numbers != 0)
    if min(nothing.sum(), some.sum()) < FEWEST:
        return None
    return (
        f"its name ({words.group(0)!r}) says that it sums up a span of time, and a file without dates does "
        f"not say when the span ended: it may hold the {world.record_type} itself; the outcome came to "
        f"{world.ends.wanted[some].sum():,} of {some.sum():,} with anything and to "
        f"{world.ends.wanted[nothing].sum():,} of {nothing.sum():,} with nothing"
    )


# ------------------------------------------------------------------------------------------------ measures


def _called(field: _Field) -> str:
    """Return what a field is called, in both languages and as a name, in small letters."""
    name = field.declared.name.removeprefix(CUSTOM).replace("_", " ")
    return " ".join((name, field.declared.label_en or "", field.declared.label_zh or "")).lower()


def _is_date(field: _Field) -> bool:
    return field.declared.kind in (FieldKind.DAY, FieldKind.INSTANT)


def _as_instants(field: _Field) -> Floats:
    return field.numbers * (DAY if field.declared.kind == FieldKind.DAY else 1)


def _calendar(instants: Ints) -> dict[str, Ints]:
    """Return parts of the date of instants that a column may hold: year and month, year, month, day."""
    day = instants.astype("datetime64[us]").astype("datetime64[D]")
    months = day.astype("datetime64[M]").astype(np.int64)
    year, month = 1970 + months // 12, months % 12 + 1
    return {
        "year and month": year * 100 + month,
        "month": month,
        "year": year,
        "day": day.astype(np.int64),
    }


def _shares_by_fifth(numbers: Floats, wanted: Bools) -> list[float]:
    """Return the share of the outcome in each fifth of a number, the lowest first; ties stay together."""
    fifth = np.searchsorted(np.unique(np.quantile(numbers, [0.2, 0.4, 0.6, 0.8])), numbers, side="left")
    return [float(wanted[fifth == each].mean()) for each in np.unique(fifth)]
