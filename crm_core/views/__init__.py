"""Read-only views for BI tools, under names that stay: `bi_leads`, `bi_deals`, `bi_stage_history` and so on.

The contract: instants are instants (UTC), days are days, amounts are decimals where the database has them;
deleted records are in no view, nor is any name of one, so that an erased person cannot come back; columns
are added, and never renamed or taken away without a word in the changelog. docs/views.md lists all of them.

The views are made from the code after every upgrade and not by a migration: they hold no data, a migration
could not alter a table that a view reads, and made anew they can never fall behind the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, inspect, text

from crm_core.errors import InvalidValueError
from crm_core.views.catalogue import View, ViewColumn, list_views, view_name
from crm_core.views.spelling import SPELLINGS

__all__ = [
    "View",
    "ViewColumn",
    "create_views",
    "drop_views",
    "grants",
    "list_views",
    "restore_grants",
    "view_name",
]

Grant = tuple[str, str]
"""A view and a role, as SQL writes it, that may read it."""


def create_views(connection: Connection) -> None:
    """Make all views."""
    spelling = SPELLINGS[connection.dialect.name]
    for view in list_views():
        connection.exec_driver_sql(
            _escaped(connection, f"CREATE VIEW {view.name} AS\n{view.select(spelling)}")
        )


def drop_views(connection: Connection) -> list[Grant]:
    """Take all views away, those of an older version too; return who might read them."""
    granted = list(_granted(connection))
    for name in inspect(connection).get_view_names():
        if name.startswith("bi_"):
            connection.exec_driver_sql(f"DROP VIEW {name}")
    return granted


def restore_grants(connection: Connection, granted: list[Grant]) -> None:
    """Let those read the views that are still there who might before."""
    names = {view.name for view in list_views()}
    for name, role in granted:
        if name in names:
            connection.exec_driver_sql(f"GRANT SELECT ON {name} TO {role}")


def grants(role: str, database: str) -> list[str]:
    """Return the statements that make a PostgreSQL role which may read the views and nothing else."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", role):
        raise InvalidValueError("role", role, "small letters, digits and _, beginning with a letter")
    quoted = '"' + database.replace('"', '""') + '"'
    return [
        f"CREATE ROLE {role} LOGIN;",
        f"ALTER ROLE {role} SET default_transaction_read_only = on;",
        f"GRANT CONNECT ON DATABASE {quoted} TO {role};",
        f"GRANT USAGE ON SCHEMA public TO {role};",
        *(f"GRANT SELECT ON {view.name} TO {role};" for view in list_views()),
    ]


def _escaped(connection: Connection, statement: str) -> str:
    # psycopg takes a percent sign for a place to put a value.
    return statement.replace("%", "%%") if connection.dialect.name == "postgresql" else statement


def _granted(connection: Connection) -> Iterator[Grant]:
    if connection.dialect.name != "postgresql":
        return
    query = text("""
        SELECT c.relname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.relkind = 'v' AND c.relname LIKE 'bi\\_%' AND a.privilege_type = 'SELECT'
          AND a.grantee <> c.relowner AND pg_table_is_visible(c.oid)""")
    for name, role in connection.execute(query):
        yield str(name), str(role)
