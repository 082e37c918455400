"""Points that experienced people give before any outcome is known, read from a file that people can write.

A scorecard is an opinion: where a company has no outcomes it puts records in order and claims no probability.
Its points are log-odds, so that outcomes can update them: they are what a logistic model is shrunk towards.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from crm_core.errors import ScorecardError
from models.encoding import ColumnKind, Encoder, Forced
from models.estimators import Card
from models.fitting import Prior
from models.task import Task

SHIPPED = Path(__file__).with_name("scorecards.toml")
"""The scorecards that are used where a company has none of its own."""

MOST_POINTS = 1000.0
"""Points beyond which a line is taken for a slip of the pen."""

_SECTION_KEYS = frozenset({"chance", "points_to_double", "points"})
_LINE_KEYS = frozenset({"feature", "levels", "at_least", "below", "missing", "points"})


@dataclass(frozen=True, kw_only=True)
class Points:
    """So many points where a feature has one of `levels`, or a number in [at_least, below), or no value."""

    feature: str
    points: float
    levels: tuple[str, ...] = ()
    at_least: float = -math.inf
    below: float = math.inf
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Points of one task; `chance` is expected of the average record within the task's horizon.

    `origin` says where it was written; `points_to_double` points double the odds.
    """

    origin: str
    chance: float
    points_to_double: float
    points: tuple[Points, ...]

    @property
    def forced(self) -> Forced:
        """Return the features that an encoder has to keep, with the levels that need columns."""
        found: dict[str, set[str | None]] = {}
        for line in self.points:
            levels = found.setdefault(line.feature, set())
            levels.update(line.levels)
            if line.missing:
                levels.add(None)
        return {feature: frozenset(levels) for feature, levels in found.items()}

    def without(self, features: Iterable[str]) -> Scorecard:
        """Return the scorecard without the lines of some features."""
        gone = set(features)
        return Scorecard(
            origin=self.origin,
            chance=self.chance,
            points_to_double=self.points_to_double,
            points=tuple(line for line in self.points if line.feature not in gone),
        )

    def log_odds(self, line: Points) -> float:
        """Return what a line adds to the log-odds."""
        return line.points * math.log(2) / self.points_to_double

    def prior(self, encoder: Encoder, task: Task) -> Prior:
        """Return it in terms of an encoder's columns and a task's intervals."""
        place = {(column.feature, column.kind, column.level): at for at, column in enumerate(encoder.columns)}
        rows = [row for line in self.points for row in self._rows(line, place)]
        column, at_least, below, missing, weight = zip(*rows, strict=True) if rows else ((),) * 5
        card = Card(
            column=np.array(column, dtype=np.int64),
            at_least=np.array(at_least, dtype=np.float64),
            below=np.array(below, dtype=np.float64),
            missing=np.array(missing, dtype=np.bool_),
            weight=np.array(weight, dtype=np.float64),
            mean=np.zeros(len(rows)),
        )
        return Prior(card=card, levels=levels_of(self.chance, task))

    def _rows(
        self, line: Points, place: Mapping[tuple[str, ColumnKind, str | None], int]
    ) -> Iterable[tuple[int, float, float, bool, float]]:
        log_odds = self.log_odds(line)
        number = place.get((line.feature, ColumnKind.NUMBER, None))
        if number is not None and not line.levels:
            yield number, line.at_least, line.below, line.missing, log_odds
            return
        for level in line.levels:
            yield place[line.feature, ColumnKind.LEVEL, level], 0.5, math.inf, False, log_odds
        if line.missing:
            yield place[line.feature, ColumnKind.MISSING, None], 0.5, math.inf, False, log_odds


def levels_of(chance: float, task: Task) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the levels, float64[K], by which the chance within the horizon builds up evenly over time."""
    ends = np.array((0, *task.intervals_days), dtype=np.float64)
    if task.absence:
        return np.array([math.log(chance / (1 - chance))])
    rate = -math.log1p(-chance) / task.horizon_days
    return np.asarray(np.log(np.expm1(rate * np.diff(ends))), dtype=np.float64)


def scorecard_for(task: Task, features: Mapping[str, bool]) -> Scorecard | None:
    """Return the company's own scorecard of a task, or the shipped one; None if there is neither.

    `features` are those that the store has, and of each whether it is a number. A company's scorecard that
    reads others is refused (ScorecardError); lines of the shipped one that do are left out.
    """
    for section in (section_of(task), task.name):
        if section in task.scorecards:
            check_scorecard(task.scorecards[section], section, features)
            return task.scorecards[section]
    found = shipped_scorecards().get(section_of(task)) or shipped_scorecards().get(task.name)
    if found is None:
        return None
    return found.without(line.feature for line in found.points if not _fits(line, features))


def section_of(task: Task) -> str:
    """Return the name of a task's section in a file of scorecards."""
    return f"{task.name}-{task.variant}" if task.variant else task.name


@cache
def shipped_scorecards() -> dict[str, Scorecard]:
    """Return the scorecards that come with the program."""
    return load_scorecards(SHIPPED)


def load_scorecards(path: Path) -> dict[str, Scorecard]:
    """Return the scorecards in a TOML file by section; raise ScorecardError for what cannot be read."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScorecardError(f"{path.name}: {error}") from error
    return {name: _read_section(path.name, name, section) for name, section in content.items()}


def check_scorecard(card: Scorecard, section: str, features: Mapping[str, bool]) -> None:
    """Raise ScorecardError for a line that reads a feature which the task does not have, or wrongly."""
    for number, line in enumerate(card.points, start=1):
        where = f"{card.origin}, {section}, line {number}"
        if line.feature not in features:
            raise ScorecardError(
                f"{where}: no feature {line.feature!r}; expected one of {', '.join(sorted(features))}"
            )
        if not _fits(line, features):
            kind = "a number: give at_least or below" if features[line.feature] else "a word: give levels"
            raise ScorecardError(f"{where}: {line.feature} is {kind}")


def _fits(line: Points, features: Mapping[str, bool]) -> bool:
    if line.feature not in features:
        return False
    bounded = math.isfinite(line.at_least) or math.isfinite(line.below)
    return not line.levels if features[line.feature] else not bounded


def _read_section(origin: str, name: str, section: object) -> Scorecard:
    where = f"{origin}, {name}"
    if not isinstance(section, dict):
        raise ScorecardError(f"{where}: expected a section [{name}], got {section!r}")
    _check_keys(where, section, _SECTION_KEYS)
    chance = _number(where, section, "chance", low=0.0001, high=0.9999)
    double = _number(where, section, "points_to_double", default=20.0, low=0.1, high=MOST_POINTS)
    lines = section.get("points", [])
    if not isinstance(lines, list):
        raise ScorecardError(f"{where}: expected lines [[{name}.points]], got {lines!r}")
    points = tuple(_read_line(f"{where}, line {number}", line) for number, line in enumerate(lines, start=1))
    return Scorecard(origin=origin, chance=chance, points_to_double=double, points=points)


def _read_line(where: str, line: object) -> Points:
    if not isinstance(line, dict):
        raise ScorecardError(f"{where}: expected a feature with its points, got {line!r}")
    _check_keys(where, line, _LINE_KEYS)
    feature, levels = line.get("feature"), line.get("levels", [])
    if not isinstance(feature, str):
        raise ScorecardError(f"{where}: expected the name of a feature, got {feature!r}")
    if not isinstance(levels, list) or not all(isinstance(level, str) for level in levels):
        raise ScorecardError(f"{where}: expected levels as a list of texts, got {levels!r}")
    missing = line.get("missing", False)
    if not isinstance(missing, bool):
        raise ScorecardError(f"{where}: expected missing = true or false, got {missing!r}")
    found = Points(
        feature=feature,
        points=_number(where, line, "points", low=-MOST_POINTS, high=MOST_POINTS),
        levels=tuple(levels),
        at_least=_number(where, line, "at_least", default=-math.inf),
        below=_number(where, line, "below", default=math.inf),
        missing=missing,
    )
    _check_one_condition(where, found)
    return found


def _check_one_condition(where: str, line: Points) -> None:
    bounded = math.isfinite(line.at_least) or math.isfinite(line.below)
    if bool(line.levels) + bounded + line.missing != 1:
        raise ScorecardError(f"{where}: expected one of levels, at_least or below, and missing = true")
    if line.at_least >= line.below:
        raise ScorecardError(
            f"{where}: expected at_least less than below, got {line.at_least:g} and {line.below:g}"
        )


def _check_keys(where: str, found: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        raise ScorecardError(f"{where}: unknown {', '.join(unknown)}; expected {', '.join(sorted(known))}")


def _number(
    where: str,
    found: Mapping[str, Any],
    key: str,
    *,
    default: float | None = None,
    low: float = -1e15,
    high: float = 1e15,
) -> float:
    value = found.get(key, default)
    if key not in found and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ScorecardError(f"{where}: expected {key} as a number from {low:g} to {high:g}, got {value!r}")
    return float(value)
