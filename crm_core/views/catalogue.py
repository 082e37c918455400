"""The views: one a record type, made from its columns, and a few that are made for reports.

A column that a record type gets later is a column of its view by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer

from crm_core.columns import MONEY_SCALE, Day, Instant, Json, Money
from crm_core.pipelines import PIPELINES
from crm_core.records import RECORD_TYPES, CustomRecord, Record
from crm_core.sources import LEAD_SOURCES
from crm_core.validation import columns_of
from crm_core.views.spelling import Spelling

Sql = Callable[[Spelling], str]

SECRET = frozenset({"password_hash"})
"""Fields that no report is about."""

_LEFT_OUT = SECRET | {"deleted_at", "merged_into_id", "erased_at", "version", "reasons", "custom"}
"""Columns that are the store's own, empty while a record lives, or shown elsewhere."""

_SHOWN_BY = ("name", "number", "subject")
"""What a record is called by, the first that it has."""


@dataclass(frozen=True, kw_only=True)
class ViewColumn:
    """A column of a view: what it holds in words, what it means, and where it comes from."""

    name: str
    holds: str
    meaning: str
    sql: Sql


@dataclass(frozen=True, kw_only=True)
class View:
    """A view: its columns, and the FROM and WHERE behind them."""

    name: str
    about: str
    columns: tuple[ViewColumn, ...]
    source: Sql

    def select(self, spelling: Spelling) -> str:
        """Return the SELECT that the view stands for."""
        columns = ",\n  ".join(f'{column.sql(spelling)} AS "{column.name}"' for column in self.columns)
        return f"SELECT\n  {columns}\n{self.source(spelling)}"


@cache
def list_views() -> tuple[View, ...]:
    """Return every view: those of records first, in the order of the record types."""
    records = (_view_of(model) for model in RECORD_TYPES.values())
    return (*records, _stages(), _stage_history(), _scores(), _custom_fields(), _changes())


def view_name(model: type[Record]) -> str:
    """Return what the view of a record type is called."""
    return f"bi_{model.__tablename__}"


# ------------------------------------------------------------------------------------------------ records


def _view_of(model: type[Record]) -> View:
    shown = [(name, column) for name, column in columns_of(model).items() if name not in _LEFT_OUT]
    links = [(name, table) for name, column in shown if (table := _linked_table(column)) is not None]
    columns = [each for name, column in shown for each in _columns(model, name, column)]
    columns.append(_plain("custom", "JSON", "custom fields; instants, days and amounts as they are stored"))
    return View(
        name=view_name(model),
        about=(model.__doc__ or "").strip().split("\n")[0],
        columns=tuple(columns),
        source=lambda _: _source_of(model, links),
    )


def _source_of(model: type[Record], links: list[tuple[str, str]]) -> str:
    joins = [_join(table, _alias(name), f't."{name}"') for name, table in links]
    if "owner_id" in columns_of(model):
        joins.append(_join("teams", "l_owner_team", "l_owner.team_id"))
    if model.record_type == "deal":
        joins.append(f"LEFT JOIN {_stage_rows()} ON s.pipeline = t.pipeline AND s.stage = t.stage")
    if "source" in columns_of(model):
        joins.append(f"LEFT JOIN {_source_rows()} ON ls.source = t.source")
    return "\n".join([f"FROM {model.__tablename__} AS t", *joins, "WHERE t.deleted_at IS NULL"])


def _join(table: str, alias: str, key: str) -> str:
    # What is deleted (and who was erased is) has no name any more.
    alive = "" if table == "custom_record_types" else f" AND {alias}.deleted_at IS NULL"
    return f"LEFT JOIN {table} AS {alias} ON {alias}.id = {key}{alive}"


def _alias(name: str) -> str:
    return f"l_{name.removesuffix('_id')}"


def _linked_table(column: Column[Any]) -> str | None:
    return next((key.target_fullname.split(".")[0] for key in column.foreign_keys), None)


def _columns(model: type[Record], name: str, column: Column[Any]) -> Iterator[ViewColumn]:
    yield _converted(name, column)
    table = _linked_table(column)
    if table is not None:
        yield from _names_of_link(name, table)
    if name == "owner_id":
        yield _text("owner_team_id", "number", "id of the owner's team", "l_owner_team.id")
        yield _text("owner_team_name", "text", "name of the owner's team", "l_owner_team.name")
    if model.record_type == "deal" and name == "stage":
        yield from _stage_names("t")
    if name == "source":
        yield _text("source_name_en", "text", "name of the source, if the program knows it", "ls.name_en")
        yield _text("source_name_zh", "text", "the same in Chinese", "ls.name_zh")


def _names_of_link(name: str, table: str) -> Iterator[ViewColumn]:
    alias, what = _alias(name), name.removesuffix("_id")
    if table == "custom_record_types":
        for shown in ("name", "label_en", "label_zh"):
            yield _text(
                f"{what}_{shown}", "text", f"{shown.replace('_', ' ')} of the type", f"{alias}.{shown}"
            )
        return
    model = next(each for each in RECORD_TYPES.values() if each.__tablename__ == table)
    called = next((each for each in _SHOWN_BY if each in columns_of(model)), None)
    if called is not None:
        meaning = f"{called} of the {_words(what)}; empty if it is deleted"
        yield _text(f"{what}_{called}", "text", meaning, f'{alias}."{called}"')


def _stage_names(deals: str) -> Iterator[ViewColumn]:
    known = f"for the {'deal' if deals == 't' else 'stage'}'s pipeline"
    yield _text("stage_name_en", "text", f"name of the stage {known}", "s.name_en")
    yield _text("stage_name_zh", "text", "the same in Chinese", "s.name_zh")
    yield _text("stage_position", "number", "1 for the first stage of the pipeline", "s.position")


def _converted(name: str, column: Column[Any]) -> ViewColumn:
    stored, kind = f't."{name}"', column.type
    converted: tuple[tuple[type, str, Sql], ...] = (
        (Instant, "instant", lambda spelling: spelling.instant(stored)),
        (Day, "day", lambda spelling: spelling.day(stored)),
        (Money, "amount", lambda spelling: spelling.money(stored)),
        (Json, "JSON", lambda spelling: spelling.json(stored)),
        (Boolean, "flag", lambda _: stored),
        (Integer, "number", lambda _: stored),
        (Float, "number", lambda _: stored),
        (object, "text", lambda _: stored),
    )
    holds, sql = next((holds, sql) for type_, holds, sql in converted if isinstance(kind, type_))
    return ViewColumn(name=name, holds=holds, meaning=_meaning(name, column), sql=sql)


_MEANINGS = {
    "id": "number of the record",
    "occurred_at": "when it came to exist or happened",
    "owner_id": "id of the user who is responsible",
}


def _meaning(name: str, column: Column[Any]) -> str:
    table = _linked_table(column)
    linked = None if table is None else f"id in `bi_{table}`"
    return _MEANINGS.get(name) or column.comment or linked or _words(name)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(name: str, holds: str, meaning: str, sql: str) -> ViewColumn:
    return ViewColumn(name=name, holds=holds, meaning=meaning, sql=lambda _: sql)


def _plain(name: str, holds: str, meaning: str) -> ViewColumn:
    return ViewColumn(
        name=name, holds=holds, meaning=meaning, sql=lambda spelling: spelling.json(f't."{name}"')
    )


# ------------------------------------------------------------------------------------------------ words


def _stage_rows() -> str:
    rows = [
        (pipeline, stage.key, position, stage.name_en, stage.name_zh, stage.rotting_days, stage.won)
        for pipeline, stages in PIPELINES.items()
        for position, stage in enumerate(stages, start=1)
    ]
    names = ("pipeline", "stage", "position", "name_en", "name_zh", "rotting_days", "won")
    settable = ("name_en", "name_zh", "rotting_days")
    shown = (f"COALESCE(o.{name}, d.{name}) AS {name}" if name in settable else f"d.{name}" for name in names)
    return f"""\
(SELECT {", ".join(shown)}
  FROM ({_constants(names, rows)}) AS d
  LEFT JOIN stage_settings AS o ON o.pipeline = d.pipeline AND o.stage = d.stage) AS s"""


def _source_rows() -> str:
    rows = [(source.key, source.name_en, source.name_zh) for source in LEAD_SOURCES]
    return f"({_constants(('source', 'name_en', 'name_zh'), rows)}) AS ls"


def _constants(names: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """Return a SELECT of rows that the program itself knows."""
    selects = (
        ", ".join(f"{_literal(value)} AS {name}" for name, value in zip(names, row, strict=True))
        for row in rows
    )
    return " UNION ALL ".join(f"SELECT {each}" for each in selects)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _stages() -> View:
    return View(
        name="bi_stages",
        about="The stages of the pipelines.",
        columns=(
            _text("pipeline", "text", "key of the pipeline", "s.pipeline"),
            _text("stage", "text", "key of the stage", "s.stage"),
            *_stage_names("s"),
            _text(
                "rotting_days", "number", "days after which a deal in it counts as stuck", "s.rotting_days"
            ),
            _text("won", "flag", "whether a deal in it is won", "s.won"),
        ),
        source=lambda _: f"FROM {_stage_rows()}",
    )


# ------------------------------------------------------------------------------------------------ stages


def _stage_history() -> View:
    def in_days(spelling: Spelling) -> str:
        return spelling.days_between("h.entered_at", "h.left_at")

    return View(
        name="bi_stage_history",
        about="Every stay of a deal in a stage, as the change log tells it.",
        columns=(
            _text("deal_id", "number", "id in `bi_deals`", "t.id"),
            _text("deal_name", "text", "name of the deal", "t.name"),
            _text("pipeline", "text", "key of the pipeline", "t.pipeline"),
            _text("stage", "text", "key of the stage", "h.stage"),
            *_stage_names("h"),
            _at("entered_at", "when the deal came into the stage", "h.entered_at"),
            _at("left_at", "when it left it or was lost; empty while it is there", "h.left_at"),
            ViewColumn(name="days", holds="number", meaning="days in the stage, if it has left", sql=in_days),
        ),
        source=_stays,
    )


def _stays(spelling: Spelling) -> str:
    """Return the stays: from the creation, then from each change; of changes at one instant, the last."""
    log = "c.record_type = 'deal' AND c.field = 'stage' AND c.action = 'updated'"
    first = f"(SELECT min(c.id) FROM changes AS c WHERE {log} AND c.record_id = d.id)"
    began = f"(SELECT {spelling.plain('b.old')} FROM changes AS b WHERE b.id = {first})"
    entered = f"""\
SELECT d.id AS deal_id, COALESCE({began}, d.stage) AS stage, d.occurred_at AS entered_at, 0 AS change_id
    FROM deals AS d
    UNION ALL
    SELECT c.record_id, {spelling.plain("c.new")}, c.occurred_at, c.id FROM changes AS c WHERE {log}"""
    after = "OVER (PARTITION BY e.deal_id ORDER BY e.entered_at, e.change_id)"
    return _joined_stays(entered, after)


def _joined_stays(entered: str, after: str) -> str:
    lost = "CASE WHEN d.status = 'lost' THEN d.closed_at END"
    return f"""\
FROM (
  SELECT n.deal_id, n.stage, n.entered_at, COALESCE(n.next_at, {lost}) AS left_at
  FROM (
    SELECT e.deal_id, e.stage, e.entered_at, lead(e.entered_at) {after} AS next_at
    FROM (
    {entered}
    ) AS e
  ) AS n
  JOIN deals AS d ON d.id = n.deal_id
  WHERE n.next_at IS NULL OR n.next_at > n.entered_at
) AS h
JOIN deals AS t ON t.id = h.deal_id
LEFT JOIN {_stage_rows()} ON s.pipeline = t.pipeline AND s.stage = h.stage
WHERE t.deleted_at IS NULL"""


# ------------------------------------------------------------------------------------------------ the logs


def _at(name: str, meaning: str, stored: str) -> ViewColumn:
    return ViewColumn(
        name=name, holds="instant", meaning=meaning, sql=lambda spelling: spelling.instant(stored)
    )


def _scores() -> View:
    return View(
        name="bi_scores",
        about="Every prediction about a record that lives, but for those who asked not to be scored.",
        columns=(
            _text("id", "number", "number of the prediction", "p.id"),
            _text("task", "text", "lead_scoring, win_probability or churn", "p.task"),
            _text("record_type", "text", "lead, deal or account", "p.record_type"),
            _text("record_id", "number", "id in `bi_leads`, `bi_deals` or `bi_accounts`", "p.record_id"),
            _text(
                "record_name",
                "text",
                "its name, or a lead's company",
                _RECORD_NAME,
            ),
            _at("as_of", "the instant from which was asked", "p.as_of"),
            _text("horizon_days", "number", "how many days the prediction looks ahead", "p.horizon_days"),
            _text(
                "probability",
                "number",
                "what the model said, in [0, 1]; empty: too little data",
                "p.probability",
            ),
            *(_within(days) for days in (30, 60, 90, 180)),
            _text(
                "expected_days",
                "number",
                "mean days until it happens, given that it does within the longest horizon",
                "p.expected_days",
            ),
            _text("score", "number", "rank among open records then, 0-100", "p.score"),
            _text("grade", "text", "A best to D", "p.grade"),
            _text("model_version", "text", "the model that said it", "p.model_version"),
            _at("recorded_at", "when it was written", "p.recorded_at"),
        ),
        source=lambda _: _SCORES,
    )


def _within(days: int) -> ViewColumn:
    return ViewColumn(
        name=f"probability_{days}d",
        holds="number",
        meaning=f"what the model said for {days} days; empty: it does not say",
        sql=lambda spelling: spelling.number(f"({spelling.json('p.within')} ->> '{days}')"),
    )


_RECORD_NAME = "COALESCE(l.name, l.company, d.name, a.name)"


def _opted_out(table: str, key: str) -> str:
    return f"EXISTS (SELECT 1 FROM {table} AS o WHERE o.id = {key} AND o.scoring_opt_out)"


_SCORES = f"""\
FROM predictions AS p
LEFT JOIN leads AS l ON p.record_type = 'lead' AND l.id = p.record_id AND l.deleted_at IS NULL
LEFT JOIN deals AS d ON p.record_type = 'deal' AND d.id = p.record_id AND d.deleted_at IS NULL
LEFT JOIN accounts AS a ON p.record_type = 'account' AND a.id = p.record_id AND a.deleted_at IS NULL
WHERE COALESCE(l.id, d.id, a.id) IS NOT NULL
  AND NOT COALESCE(l.scoring_opt_out, a.scoring_opt_out, FALSE)
  AND NOT {_opted_out("contacts", "COALESCE(l.contact_id, d.contact_id)")}
  AND NOT {_opted_out("accounts", "COALESCE(l.account_id, d.account_id)")}"""


def _custom_fields() -> View:
    return View(
        name="bi_custom_fields",
        about="The custom fields of records, one row a value.",
        columns=(
            _text("record_type", "text", "record type", "e.record_type"),
            _text("record_id", "number", "id in that record type's view", "e.record_id"),
            _text("field", "text", "name of the field", "e.key"),
            _text("label_en", "text", "what people call it", "f.label_en"),
            _text("label_zh", "text", "the same in Chinese", "f.label_zh"),
            _text("kind", "text", "what it holds, if it is declared", "f.kind"),
            ViewColumn(name="value", holds="text", meaning="the value as a text", sql=_custom_text),
            ViewColumn(
                name="number", holds="number", meaning="the value of a number or amount", sql=_custom_number
            ),
        ),
        source=_custom_rows,
    )


def _custom_text(spelling: Spelling) -> str:
    return _readable(
        spelling, "e.plain", instant="f.kind = 'instant'", day="f.kind = 'day'", money="f.kind = 'money'"
    )


def _custom_number(spelling: Spelling) -> str:
    number = spelling.number("e.plain")
    return f"CASE f.kind WHEN 'number' THEN {number} WHEN 'money' THEN {number} / {MONEY_SCALE}.0 END"


def _readable(spelling: Spelling, plain: str, *, instant: str, day: str, money: str | None = None) -> str:
    """Return a stored value as a text that people read: instants, days and amounts are stored as numbers."""
    whole = spelling.whole(plain)
    cases = [
        f"WHEN {instant} THEN {spelling.instant_text(whole)}",
        f"WHEN {day} THEN CAST({spelling.day(_small(spelling, whole))} AS TEXT)",
    ]
    cases += [] if money is None else [f"WHEN {money} THEN {spelling.money_text(whole)}"]
    return f"CASE {' '.join(cases)} ELSE {plain} END"


def _small(spelling: Spelling, whole: str) -> str:
    """Return a whole number as PostgreSQL adds it to a day."""
    return f"({whole})::integer" if spelling.name == "postgresql" else whole


def _custom_rows(spelling: Spelling) -> str:
    parts = [
        f"SELECT '{model.record_type}' AS record_type, id, custom FROM {model.__tablename__} "
        "WHERE deleted_at IS NULL AND custom IS NOT NULL"
        for model in RECORD_TYPES.values()
        if model is not CustomRecord
    ]
    parts.append(
        "SELECT t.name AS record_type, c.id, c.custom FROM custom_records AS c "
        "JOIN custom_record_types AS t ON t.id = c.type_id "
        "WHERE c.deleted_at IS NULL AND c.custom IS NOT NULL"
    )
    each = " UNION ALL ".join(parts)
    declared = "LEFT JOIN fields AS f ON f.record_type = e.record_type AND f.name = 'custom.' || e.key"
    return f"FROM ({spelling.entries(each)}) AS e\n{declared}"


def _changes() -> View:
    return View(
        name="bi_changes",
        about="The change log of the records that live: what was created and edited, when, and by whom.",
        columns=(
            _text("id", "number", "number of the change, in the order of writing", "c.id"),
            _text("record_type", "text", "record type", "c.record_type"),
            _text("record_id", "number", "id in that record type's view", "c.record_id"),
            _text("action", "text", "created, updated or erased", "c.action"),
            _text("field", "text", "the field that was edited; custom.NAME for a custom one", "c.field"),
            ViewColumn(name="old_value", holds="text", meaning="what it held before", sql=_logged("c.old")),
            ViewColumn(
                name="new_value", holds="text", meaning="what it holds from then on", sql=_logged("c.new")
            ),
            _at("occurred_at", "when it happened", "c.occurred_at"),
            _at("recorded_at", "when we learned of it", "c.recorded_at"),
            _text("source", "text", "who wrote: rep, import, api or automation", "c.source"),
            _text("actor_id", "number", "id in `bi_users`", "c.actor_id"),
            _text("actor_name", "text", "name of that user", "l_actor.name"),
        ),
        source=lambda _: _CHANGES,
    )


_CHANGES = f"""\
FROM changes AS c
LEFT JOIN users AS l_actor ON l_actor.id = c.actor_id AND l_actor.deleted_at IS NULL
LEFT JOIN fields AS f ON f.record_type = c.record_type AND f.name = c.field
WHERE (c.field IS NULL OR c.field NOT IN ({", ".join(_literal(name) for name in sorted(SECRET))}))
  AND NOT EXISTS (
    SELECT 1 FROM changes AS gone
    WHERE gone.record_type = c.record_type AND gone.record_id = c.record_id AND gone.action = 'deleted'
  )"""


def _logged(side: str) -> Sql:
    def sql(spelling: Spelling) -> str:
        instant, day, money = (_is_logged(kind) for kind in (Instant, Day, Money))
        return _readable(
            spelling,
            spelling.plain(side),
            instant=f"(f.kind = 'instant' OR {instant})",
            day=f"(f.kind = 'day' OR {day})",
            money=money,
        )

    return sql


def _is_logged(kind: type[Any]) -> str:
    """Return the condition that a change is of a column of this kind."""
    found = {
        model.record_type: [
            name for name, column in columns_of(model).items() if isinstance(column.type, kind)
        ]
        for model in RECORD_TYPES.values()
    }
    tests = (
        f"c.record_type = '{record_type}' AND c.field IN ({', '.join(map(_literal, names))})"
        for record_type, names in found.items()
        if names
    )
    return f"({' OR '.join(tests)})"
