"""How stored values are spelt as SQL that a BI tool understands, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Protocol

from crm_core.columns import MONEY_SCALE

_SECOND = 1_000_000
_DAY_SECONDS = 86_400


class Spelling(Protocol):
    """SQL of one database: each method takes an expression of what is stored."""

    name: str

    def instant(self, stored: str) -> str:
        """Return microseconds since 1970 as an instant."""

    def instant_text(self, stored: str) -> str:
        """Return microseconds since 1970 as a text, in UTC."""

    def day(self, stored: str) -> str:
        """Return days since 1970 as a day."""

    def money(self, stored: str) -> str:
        """Return ten-thousandths as an amount."""

    def money_text(self, stored: str) -> str:
        """Return ten-thousandths as a text with four decimals."""

    def json(self, stored: str) -> str:
        """Return the text of a JSON value as one that can be looked into."""

    def plain(self, stored: str) -> str:
        """Return the text of a JSON value without quotes; true and false by these words."""

    def whole(self, text: str) -> str:
        """Return a text of digits as a number."""

    def number(self, text: str) -> str:
        """Return a text of a number as one."""

    def days_between(self, start: str, end: str) -> str:
        """Return the days between two stored instants, as a number with a fraction."""

    def entries(self, records: str) -> str:
        """Return a SELECT of `record_type`, `record_id`, `key` and `plain` (a text) of custom fields."""


class SqliteSpelling:
    """SQLite has neither instants nor decimals: instants and days are ISO texts, amounts are floats."""

    name = "sqlite"

    def instant(self, stored: str) -> str:
        """Return a text: `2026-03-02 09:00:00.000000`."""
        # SQLite's % keeps the sign of what is divided; before 1970 the fraction must still count upwards.
        fraction = f"((({stored}) % {_SECOND}) + {_SECOND}) % {_SECOND}"
        whole = f"(({stored}) - {fraction}) / {_SECOND}"
        return f"strftime('%Y-%m-%d %H:%M:%S', {whole}, 'unixepoch') || printf('.%06d', {fraction})"

    instant_text = instant

    def day(self, stored: str) -> str:
        """Return a text: `2026-03-02`."""
        return f"date(({stored}) * {_DAY_SECONDS}, 'unixepoch')"

    def money(self, stored: str) -> str:
        """Return a float, the nearest there is."""
        return f"({stored}) / {MONEY_SCALE}.0"

    def money_text(self, stored: str) -> str:
        """Return a text, exactly."""
        sign = f"CASE WHEN ({stored}) < 0 THEN '-' ELSE '' END"
        return f"{sign} || printf('%d.%04d', abs({stored}) / {MONEY_SCALE}, abs({stored}) % {MONEY_SCALE})"

    def json(self, stored: str) -> str:
        """Return the text as it is, which SQLite's functions take for JSON."""
        return stored

    def plain(self, stored: str) -> str:
        """Return a text; a list stays JSON."""
        word = f"CASE json_type({stored}) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
        return f"{word} ELSE CAST(json_extract({stored}, '$') AS TEXT) END"

    def whole(self, text: str) -> str:
        """Return an integer."""
        return f"CAST({text} AS INTEGER)"

    def number(self, text: str) -> str:
        """Return a float."""
        return f"CAST({text} AS REAL)"

    def days_between(self, start: str, end: str) -> str:
        """Return a float."""
        return f"(({end}) - ({start})) / {_DAY_SECONDS * _SECOND}.0"

    def entries(self, records: str) -> str:
        """Return a SELECT of all that is not null."""
        plain = "CASE j.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(j.value AS TEXT) END"
        return (
            f"SELECT r.record_type, r.id AS record_id, j.key, {plain} AS plain "
            f"FROM ({records}) AS r, json_each(r.custom) AS j WHERE j.type <> 'null'"
        )


class PostgresqlSpelling:
    """PostgreSQL has a type for each."""

    name = "postgresql"

    def instant(self, stored: str) -> str:
        """Return a timestamp with time zone, to the microsecond."""
        return f"'epoch'::timestamptz + ({stored}) * interval '1 microsecond'"

    def instant_text(self, stored: str) -> str:
        """Return a text: `2026-03-02 09:00:00.000000`."""
        return f"to_char(({self.instant(stored)}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"

    def day(self, stored: str) -> str:
        """Return a date."""
        return f"date '1970-01-01' + ({stored})"

    def money(self, stored: str) -> str:
        """Return a decimal with four places."""
        return f"(({stored})::numeric / {MONEY_SCALE})::numeric(19, 4)"

    def money_text(self, stored: str) -> str:
        """Return a text, exactly."""
        return f"({self.money(stored)})::text"

    def json(self, stored: str) -> str:
        """Return jsonb."""
        return f"({stored})::jsonb"

    def plain(self, stored: str) -> str:
        """Return a text; a list stays JSON."""
        return f"(({stored})::jsonb #>> '{{}}')"

    def whole(self, text: str) -> str:
        """Return a bigint."""
        return f"({text})::numeric::bigint"

    def number(self, text: str) -> str:
        """Return a double."""
        return f"({text})::double precision"

    def days_between(self, start: str, end: str) -> str:
        """Return a double."""
        return f"((({end}) - ({start})) / {_DAY_SECONDS * _SECOND}.0)::double precision"

    def entries(self, records: str) -> str:
        """Return a SELECT of all that is not null."""
        return (
            "SELECT r.record_type, r.id AS record_id, j.key, j.plain "
            f"FROM ({records}) AS r CROSS JOIN LATERAL jsonb_each_text(r.custom::jsonb) AS j (key, plain) "
            "WHERE j.plain IS NOT NULL"
        )


SPELLINGS: dict[str, Spelling] = {each.name: each for each in (SqliteSpelling(), PostgresqlSpelling())}
"""By the name that SQLAlchemy gives a database's dialect."""
