"""A report: what is asked, whether it may be asked, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, and_, select, type_coerce

from crm_core.access import Reader, Scope, recall_team
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.phrases import Phrase, one_of
from crm_core.records import Activity, Record, User
from crm_core.reporting.catalogue import (
    LINKS,
    MEASURES,
    PERIODS,
    SOLD,
    SUBJECTS,
    Measure,
    Path,
    Subject,
    Unit,
    shared_dimensions,
    stands_in_several,
)
from crm_core.reporting.conditions import ALWAYS, Conditions, read_conditions
from crm_core.reporting.counting import (
    Counted,
    Figure,
    Key,
    Layout,
    Placed,
    Series,
    count_measure,
    place,
    summed_up,
)
from crm_core.reporting.facts import Counted as CountedActivities
from crm_core.reporting.facts import (
    Facts,
    View,
    read_facts,
    stays_of,
    with_ends_of_tickets,
    with_first_responses,
    with_line_totals,
)
from crm_core.reporting.periods import Parts
from crm_core.reporting.sold import TOLD_BY
from crm_core.validation import columns_of

MOST_MEASURES: Final = 8
MOST_ROWS: Final = 5_000
MOST_COLUMNS: Final = 60
MOST_PARTS: Final = 800
LONGEST_YEARS: Final = 30
FIRST_YEAR: Final = 1990
MOST_BEHIND: Final = 10_000

COUNTED: Final = ("owner", "team", "kind", "direction")
"""Dimensions by which, beside parts of time, the database itself counts activities."""

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "line_total": ("quantity", "unit_price", "discount"),
    "stay_stage": ("stage", "status", "closed_at"),
    "entered_at": ("stage", "status", "closed_at"),
    "left_at": ("stage", "status", "closed_at"),
    "went": ("stage", "status", "closed_at"),
    "first_response_at": ("first_answered_at",),
    "done_at": ("solved_at", "closed_at"),
}
"""What fields are worked out of."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: measures, by rows and columns, of a period, as known at an instant.

    Parameters
    ----------
    since, until : date
        First and last day, in the zone. Stocks (open deals) are counted at the end of the period.
    as_of : datetime
        Nothing that was recorded, or happened, after it is there.
    filters : texts
        Conditions as lists take them, on the records that are counted.
    """

    measures: tuple[str, ...]
    rows: str | None = None
    columns: str | None = None
    since: date
    until: date
    as_of: datetime
    filters: tuple[str, ...] = ()
    zone: str = "UTC"

    def check(self, now: datetime) -> None:
        """Raise InvalidValueError for what makes no sense."""
        self._check_measures()
        self._check_dimensions()
        self._check_period(now)
        if self.filters and len({SUBJECTS[one.subject].model for one in self.asked}) > 1:
            raise InvalidValueError(
                "filter", self.filters[0], "measures of one record type, to be filtered alike"
            )

    def _check_measures(self) -> None:
        for name in self.measures:
            if name not in MEASURES:
                raise InvalidValueError("measure", name, one_of(MEASURES))
        if not 1 <= len(self.measures) <= MOST_MEASURES:
            raise InvalidValueError(
                "measure", len(self.measures), Phrase("1 to {most} measures", most=MOST_MEASURES)
            )
        if len(set(self.measures)) < len(self.measures):
            raise InvalidValueError("measure", ", ".join(self.measures), "each measure once")

    def _check_dimensions(self) -> None:
        known = shared_dimensions(self.measures)
        for name, value in (("rows", self.rows), ("columns", self.columns)):
            if value is not None and value not in known:
                raise InvalidValueError(name, value, one_of(known))
        if self.columns is not None and len(self.measures) > 1:
            raise InvalidValueError("columns", self.columns, "none, where there is more than one measure")
        if self.columns is not None and self.columns == self.rows:
            raise InvalidValueError("columns", self.columns, "something else than in the rows")

    def _check_period(self, now: datetime) -> None:
        if self.since.year < FIRST_YEAR or self.until.year > now.year + LONGEST_YEARS:
            expected = Phrase(
                "days from {first_year} to {year}", first_year=FIRST_YEAR, year=now.year + LONGEST_YEARS
            )
            raise InvalidValueError(
                "since", Phrase("{since} to {until}", since=self.since, until=self.until), expected
            )
        if self.since > self.until:
            raise InvalidValueError(
                "until", self.until.isoformat(), Phrase("a day from {since} on", since=self.since)
            )
        if self.as_of > now:
            raise InvalidValueError("as_of", self.as_of.isoformat(), "an instant that is not in the future")
        for name in {self.rows, self.columns} & set(PERIODS):
            if len(self._parts(str(name)).firsts) > MOST_PARTS:
                raise InvalidValueError(
                    "until", self.until.isoformat(), Phrase("up to {most} parts of time", most=MOST_PARTS)
                )

    @property
    def asked(self) -> list[Measure]:
        """Return the measures."""
        return [MEASURES[name] for name in self.measures]

    @property
    def in_several(self) -> bool:
        """Say whether a record may stand in several rows or columns, of which the total has it once."""
        by = (self.rows, self.columns)
        return any(stands_in_several(one.subject, name) for one in self.asked for name in by)

    @property
    def place(self) -> ZoneInfo:
        """Return the zone."""
        return ZoneInfo(self.zone)

    @property
    def layout(self) -> Layout:
        """Return how facts are put into cells."""
        return Layout(rows=self.rows, columns=self.columns, parts=self._parts("whole"))

    def _parts(self, span: str) -> Parts:
        if span == "whole":
            return _Whole(span=span, since=self.since, until=self.until, zone=self.place)
        return Parts(span=span, since=self.since, until=self.until, zone=self.place)

    def cuts(self) -> list[tuple[int, int]]:
        """Return the parts of time that no cell lies across."""
        spans = ["whole", *({self.rows, self.columns} & set(PERIODS))]
        starts = sorted({start for span in spans for start in self._parts(str(span)).starts.tolist()})
        return list(pairwise(starts))


class _Whole(Parts):
    """All of the period as one part."""

    @cached_property
    def firsts(self) -> list[date]:
        """Return its first day."""
        return [self.since]

    @cached_property
    def keys(self) -> list[str]:
        """Return what it is called: nothing."""
        return [""]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The answer: rows in their order, series as columns, and a figure for each of both that has one.

    `more` counts the rows that are left out because they are too many.
    """

    question: Question
    rows: Sequence[Key]
    series: Sequence[Series]
    cells: Mapping[tuple[Key, Series], Figure]
    totals: Mapping[Series, Figure]
    more: int = 0


def make_report(reader: Reader, question: Question, now: datetime, *, most: int = MOST_ROWS) -> Report:
    """Answer a question within the rights of a reader.

    Raises
    ------
    InvalidValueError, FilterError, UnknownFieldError
        For what makes no sense.
    AccessDeniedError
        For a measure, dimension or filter that the reader may not see all fields of.
    """
    question.check(now)
    check_rights(reader, question)
    source = Source(reader, question, now)
    counted = [count_measure(source.facts(measure), measure, question.layout) for measure in question.asked]
    return _laid_out(question, counted, most)


def may_ask(reader: Reader, measure: str, dimensions: Iterable[str] = ()) -> bool:
    """Tell whether a reader may be told a measure, by some dimensions."""
    asked = MEASURES.get(measure)
    if asked is None:
        return False
    subject = SUBJECTS[asked.subject]
    if reader.right(subject.model.record_type).read is Scope.NONE:
        return False
    paths = [*asked.fields]
    for name in dimensions:
        paths += [] if name in PERIODS else subject.dimensions.get(name, ())
    return all(reader.may_be_told_of(_named(subject, path)) for path in paths)


def _named(subject: Subject, path: Path) -> list[str]:
    """Return the fields that a path goes through, as `deal.amount`."""
    first = () if path[0] == SOLD else _NEEDED.get(path[0], (path[0],))
    found = [f"{subject.model.record_type}.{name}" for name in first]
    if path[0] == "first_response_at":
        found += ["activity.kind", "activity.direction"]
    model: type[Record] = subject.model
    for link, name in pairwise(path):
        if link == SOLD:
            found.append(f"product.{name}")
        elif name != SOLD:
            model = LINKS[link]
            found.append(f"{model.record_type}.{name}")
    return [*found, *TOLD_BY] if SOLD in path else found


def check_rights(reader: Reader, question: Question) -> None:
    """Raise AccessDeniedError unless the reader may be told all that is asked."""
    by = [name for name in (question.rows, question.columns) if name is not None]
    for name in question.measures:
        if not may_ask(reader, name, by):
            what = Phrase("{measure} by {dimensions}", measure=name, dimensions=tuple(by)) if by else name
            raise AccessDeniedError(
                Phrase("the role {role} may not see {what}", role=reader.user.role, what=what)
            )


# ---------------------------------------------------------------- facts of a question


class Source:
    """Reads the facts of a question, each subject once."""

    def __init__(self, reader: Reader, question: Question, now: datetime) -> None:
        self.view = View(reader=reader, as_of=question.as_of, past=question.as_of < now)
        self.question = question
        self._read: dict[tuple[str, bool], Facts] = {}

    def facts(self, measure: Measure, *, singly: bool = False) -> Facts:
        """Return the facts that a measure counts; `singly`: a row a record, never counted ones."""
        question = self.question
        plain = {question.rows, question.columns} <= {None, *PERIODS, *COUNTED}
        counted = measure.subject == "activity" and not question.filters and plain and not singly
        key = (measure.subject, counted)
        if key not in self._read:
            self._read[key] = self._counted() if counted else self._facts(SUBJECTS[measure.subject])
        return self._read[key]

    def _facts(self, subject: Subject) -> Facts:
        asked = [one for one in self.question.asked if one.subject == subject.name]
        paths = [path for one in asked for path in one.fields]
        for name in (self.question.rows, self.question.columns):
            paths += [] if name is None or name in PERIODS else subject.dimensions[name]
        own = [name for path in paths for name in _NEEDED.get(path[0], (path[0],))]
        own += ["owner_id"] if subject.model is Activity else []
        facts = read_facts(
            self.view, subject.model, own, self._conditions(subject), narrowed=self._narrowed(subject, asked)
        )
        owners = reach(self.view.reader, Activity) if subject.model is Activity else None
        if owners is not None:  # as those that are counted by the database
            facts = facts.take(np.flatnonzero(np.isin(facts.columns["owner_id"], np.array(owners))))
        facts.linked = _linked(paths)
        return self._worked_out(facts, subject, {path[0] for path in paths})

    def _worked_out(self, facts: Facts, subject: Subject, names: set[str]) -> Facts:
        if subject.name == "stay":
            return stays_of(facts)
        if "line_total" in names:
            return with_line_totals(facts)
        if "done_at" in names:
            facts = with_ends_of_tickets(facts)
        return with_first_responses(facts) if "first_response_at" in names else facts

    def _conditions(self, subject: Subject) -> Conditions:
        if not self.question.filters:
            return ALWAYS
        reader = self.view.reader
        return read_conditions(reader, subject.model.record_type, self.question.filters, self.view.as_of)

    def _narrowed(self, subject: Subject, asked: Sequence[Measure]) -> ColumnElement[bool] | None:
        """Return the condition on when records began, where all measures go by that."""
        if subject.name in {"stay", "line"} or any(one.at != ("occurred_at",) or one.stock for one in asked):
            return None
        low, high = self.question.layout.parts.starts.tolist()
        when = type_coerce(columns_of(subject.model)["occurred_at"], BigInteger)
        return and_(when >= low, when < high)

    def _counted(self) -> Facts:
        owners = reach(self.view.reader, Activity)
        asked = [dict(one.where).get("kind", ()) for one in self.question.asked if one.subject == "activity"]
        kinds = sorted({kind for kinds in asked for kind in kinds}) if all(asked) else ()
        bounds = self.question.cuts()
        facts = CountedActivities(view=self.view, owners=owners, kinds=kinds, bounds=bounds).read()
        facts.linked = {User: {"team_id"}}
        return facts


def reach(reader: Reader, model: type[Record]) -> list[int] | None:
    """Return whose activities the reader oversees; None for everybody's, with those that nobody has."""
    match reader.right(model.record_type).read:
        case Scope.ALL:
            return None
        case Scope.TEAM:
            return recall_team(reader.session, reader.user)
        case Scope.OWN:
            return [reader.user.id]
    return []


def _linked(paths: Iterable[Path]) -> dict[type[Record], set[str]]:
    """Return which fields of linked records are read, so that each type is read once."""
    found: dict[type[Record], set[str]] = {}
    for path in paths:
        for link, name in pairwise(path):
            if SOLD not in {link, name}:
                found.setdefault(LINKS[link], set()).add(name)
    return found


# ---------------------------------------------------------------- laying out


def _laid_out(question: Question, counted: Sequence[Counted], most: int) -> Report:
    series = [each for one in counted for each in _ordered_series(question, one)]
    cells = {
        (row, each): figure
        for one in counted
        for each, rows in one.cells.items()
        for row, figure in rows.items()
    }
    totals = {each: figure for one in counted for each, figure in one.totals.items() if figure.count}
    rows = _ordered_rows(question, series, cells)
    return Report(
        question=question,
        rows=rows[:most],
        series=series,
        cells=cells,
        totals=totals,
        more=max(0, len(rows) - most),
    )


def _ordered_series(question: Question, counted: Counted) -> list[Series]:
    """Return the columns: parts of time in their order, words by how much stands below them."""

    def rank(series: Series) -> tuple[Any, ...]:
        size = sum(figure.count for figure in counted.cells[series].values())
        if question.columns in PERIODS:
            return (_currency_rank(counted, series), str(series.column))
        return (_currency_rank(counted, series), series.column is None, -size, str(series.column))

    return sorted((each for each, rows in counted.cells.items() if rows), key=rank)[:MOST_COLUMNS]


def _currency_rank(counted: Counted, series: Series) -> tuple[int, str]:
    alike = sum(
        figure.count
        for each, rows in counted.cells.items()
        for figure in rows.values()
        if each.currency == series.currency
    )
    return -alike, series.currency or ""


def _ordered_rows(
    question: Question, series: Sequence[Series], cells: Mapping[tuple[Key, Series], Figure]
) -> list[Key]:
    if question.rows in PERIODS:
        return list(question._parts(question.rows).keys)  # noqa: SLF001  its own
    first = set(series[:1]) if question.columns is None else set(series)
    sizes: dict[Key, int] = {}
    for (row, each), figure in cells.items():
        sizes[row] = sizes.get(row, 0) + (figure.count if each in first else 0)
    return sorted(sizes, key=lambda row: (row is None, -sizes[row], str(row)))


# ---------------------------------------------------------------- what is behind a figure

ANY: Final = object()
"""Stands for any row, or any column."""


def list_behind(
    reader: Reader,
    question: Question,
    now: datetime,
    *,
    row: object = ANY,
    column: object = ANY,
    currency: object = ANY,
) -> tuple[type[Record], list[int]]:
    """Return the type and the ids of the records behind a figure of the question's only measure.

    Behind any row stands what the figure of all rows is of, behind an amount what has its `currency`.
    """
    question.check(now)
    check_rights(reader, question)
    measure = question.asked[0]
    facts = Source(reader, question, now).facts(measure, singly=True)
    placed = place(facts, measure, question.layout)
    if row is ANY:
        placed = summed_up(facts, placed, measure, question.layout)
    rows = _members(placed, row, column)
    if currency is not ANY and measure.unit is Unit.MONEY:
        held = facts.along(measure.currency)[placed.index[rows]]
        rows = rows[np.array([_said(each) == currency for each in held.tolist()], dtype=np.bool_)]
    ids = np.unique(facts.columns["id"][placed.index[rows]])
    return SUBJECTS[measure.subject].model, [int(each) for each in ids[:MOST_BEHIND].tolist()]


def _members(placed: Placed, row: object, column: object) -> np.ndarray[Any, Any]:
    found = np.ones(placed.index.size, dtype=np.bool_)
    for wanted, codes, keys in (
        (row, placed.row, placed.row_keys),
        (column, placed.column, placed.column_keys),
    ):
        if wanted is not ANY:
            numbers = [number for number, key in enumerate(keys) if _said(key) == str(wanted)]
            found &= np.isin(codes, np.array(numbers, dtype=np.int64))
    return np.flatnonzero(found)


def _said(key: Key) -> str:
    return "" if key is None else str(key)


# ---------------------------------------------------------------- names


def names_of(reader: Reader, dimension: str | None, keys: Iterable[Key]) -> dict[Key, str]:
    """Return what ids are called, where the reader may see that; others are shown by their number."""
    model = _NAMED.get(dimension or "")
    ids = [key for key in keys if isinstance(key, int)]
    if model is None or not ids or not reader.may_be_told_of([f"{model.record_type}.name"]):
        return {}
    columns = columns_of(model)
    query = select(columns["id"], columns["name"]).where(
        columns["id"].in_(ids), columns["deleted_at"].is_(None), reader.readable(model)
    )
    return {key: name for key, name in reader.session.execute(query) if name}


_NAMED: Final[Mapping[str, type[Record]]] = {
    "owner": LINKS["owner_id"],
    "team": LINKS["team_id"],
    "account": LINKS["account_id"],
    "campaign": LINKS["campaign_id"],
    "product": LINKS["product_id"],
}


def end_of_day(day: date, zone: str, now: datetime) -> datetime:
    """Return the last instant of a day in a zone; now, of the present day."""
    end = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(zone)).astimezone(UTC)
    return min(end - timedelta(microseconds=1), now)
