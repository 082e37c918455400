"""API keys from the command line: making, listing, revoking."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from crm_core.scopes import Scope
from serving.commands.options import home_option, json_option
from serving.console import answer, table
from serving.opening import open_store
from serving.settings import load_settings

_LASTING = re.compile(r"([1-9]\d{0,4})([hdwy])")
_UNITS = {
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}


def read_lasting(_context: click.Context, _parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Read a time like 12h, 90d, 4w or 1y."""
    if value is None:
        return None
    found = _LASTING.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"expected a time like 12h, 90d, 4w or 1y, got {value!r}")
    return int(found[1]) * _UNITS[found[2]]


class _MakingGroup(click.Group):
    """Commands about a key; what is none of them is the address of somebody who gets one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return which command is meant: `make` where none is named."""
        if args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_MakingGroup)
def token() -> None:
    """Make an API key (`crm token EMAIL`), or revoke one."""


@token.command("make")
@click.argument("email")
@click.option("--name", default="command line", show_default=True, help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key may be used for; may be given several times (default: everything).",
)
@click.option("--expires", "lasts", callback=read_lasting, help="How long it is good for, as 90d.")
@home_option
@json_option
def make_(
    email: str,
    name: str,
    scopes: tuple[str, ...],
    lasts: timedelta | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Make an API key that acts as the user with this address; it is shown once."""
    from serving.people import make_token

    store = open_store(load_settings(home=home))
    made = make_token(store, email, name, scopes=[Scope(each) for each in scopes] or None, lasts=lasts)
    told = {"email": email, "id": made.token.id, "token": made.key}
    answer(told, as_json=as_json, show=lambda: click.echo(made.key))


@token.command("revoke")
@click.argument("key_id", type=click.IntRange(1))
@home_option
@json_option
def revoke_(key_id: int, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """End an API key for good, told by its id in `crm tokens`."""
    from serving.people import revoke_key

    told = revoke_key(open_store(load_settings(home=home)), key_id)
    answer(told, as_json=as_json, show=lambda: click.echo(f"revoked: {told['name']}"))


@click.command()
@click.argument("email", required=False)
@home_option
@json_option
def tokens(email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """List the API keys of the user with this address, or everybody's, newest first."""
    from serving.people import list_keys

    found = list_keys(open_store(load_settings(home=home)), email)
    answer({"tokens": found}, as_json=as_json, show=lambda: _show(found))


def _show(found: list[dict[str, Any]]) -> None:
    columns = ("id", "email", "name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    rows = [
        [" ".join(each[name]) if name == "scopes" else (each[name] or "") for name in columns]
        for each in found
    ]
    table("API keys", columns, rows)
