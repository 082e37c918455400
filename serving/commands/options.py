"""Options that several commands take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click


def read_instant(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """Read a day (its midnight, UTC) or an instant."""
    if value is None:
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"expected a day like 2018-04-01 or an instant, got {value!r}") from error
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read


home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder below which everything is kept (default: CRM_HOME, or home in the checkout).",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object; progress is on standard error."
)
as_option = click.option(
    "--as", "email", help="Address of the user who acts (default: the administrator, if there is only one)."
)
type_argument = click.argument("record_type", type=click.Choice(("lead", "contact", "account")))
least_option = click.option(
    "--at-least",
    type=click.FloatRange(0.0, 1.0),
    help="Only pairs at least as likely to be the same, from 0 to 1.",
)
