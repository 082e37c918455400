"""The operation log on the command line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from crm_core.deeds import Done
from serving.commands.options import home_option, json_option, read_instant
from serving.console import answer, table
from serving.opening import open_store
from serving.settings import load_settings


@click.command()
@click.option("--done", type=click.Choice([each.value for each in Done]), help="Only what was done so.")
@click.option("--user", "email", help="Only what the user with this address did.")
@click.option("--record", help="Only what was done to a record: lead:42 or contact:7.")
@click.option("--since", callback=read_instant, help="From this day or instant on.")
@click.option("--until", callback=read_instant, help="Before this day or instant.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="How many.")
@home_option
@json_option
def operations(
    done: str | None,
    email: str | None,
    record: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Show who logged in, made keys, and read what about people, newest first."""
    from crm_core.operations import Which
    from serving.people import find_user_id, read_operations
    from serving.personal_data import Who

    store = open_store(load_settings(home=home))
    which = Which(
        done=None if done is None else Done(done),
        user_id=None if email is None else find_user_id(store, email),
        record=None if record is None else Who.of(record).record,
        since=since,
        until=until,
    )
    found = read_operations(store, which, limit=limit)
    answer({"operations": found}, as_json=as_json, show=lambda: _show(found))


def _show(found: list[dict[str, Any]]) -> None:
    columns = ("at", "done", "via", "user", "token_id", "address", "record_type", "ids")
    rows = [
        [" ".join(map(str, each[name])) if name == "ids" else (each[name] or "") for name in columns]
        for each in found
    ]
    table("Operations", columns, rows)
