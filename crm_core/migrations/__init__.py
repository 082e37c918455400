"""The schema's versions: create it, bring it up to date, and check that it is."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from crm_core.changes import adopt_log, is_ahead
from crm_core.database import open_engine, without_foreign_keys
from crm_core.errors import StoreNotInitialisedError
from crm_core.search_index import fold_all
from crm_core.views import create_views, drop_views, restore_grants

VERSION_TABLE = "crm_schema_version"
"""Not Alembic's default name, which MLflow uses: the two may share a database."""


def upgrade(url: str, version: str = "head") -> None:
    """Create the schema at `url`, or bring it to `version`, in one transaction that keeps all content.

    What was written before there was a search is put into its index. The views for reports are made anew.
    """
    engine = without_foreign_keys(open_engine(url))
    try:
        with engine.execution_options(writes=True).begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            granted = drop_views(connection)
            command.upgrade(config, version)
            _check_links(connection)
            if version == "head":
                adopt_log(connection)
                create_views(connection)
                restore_grants(connection, granted)
                with Session(connection) as session:
                    fold_all(session)
    finally:
        engine.dispose()


def list_versions() -> list[str]:
    """Return the schema's versions, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def check(url: str) -> None:
    """Raise StoreNotInitialisedError unless the schema at `url` is the one this program was made for."""
    expected = ScriptDirectory.from_config(_config()).get_current_head()
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            found = current_version(connection)
            moved = found == expected and is_ahead(connection)
    finally:
        engine.dispose()
    shown = url if "@" not in url else url.rsplit("@", 1)[-1]
    if moved:
        raise StoreNotInitialisedError(
            f"the database {shown} was moved here from another server; run: crm init"
        )
    if found != expected:
        state = "is empty" if found is None else f"has version {found}"
        msg = f"the database {shown} {state}, expected version {expected}; run: crm init"
        raise StoreNotInitialisedError(msg)


def version_of(url: str) -> str:
    """Return the version of the schema at `url`; raise StoreNotInitialisedError if there is none."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            found = current_version(connection)
    finally:
        engine.dispose()
    if found is None:
        raise StoreNotInitialisedError("the database is empty; run: crm init")
    return found


def current_version(connection: Connection) -> str | None:
    """Return the version of the schema that a connection leads to; None without one."""
    return MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()


def _check_links(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            msg = f"the migration would leave {len(broken)} links to records that do not exist"
            raise StoreNotInitialisedError(msg)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
