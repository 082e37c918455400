"""Jobs from the command line: what is waiting, what is dead, and trying again what is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serving.commands.options import home_option, json_option
from serving.console import answer, table
from serving.opening import open_store
from serving.settings import load_settings


@click.group(invoke_without_command=True)
@click.pass_context
def jobs(context: click.Context) -> None:
    """List jobs (mails, webhooks and others), and try again those that could not be done."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@jobs.command("list")
@click.option("--kind", help="Only jobs of this kind, such as mail or webhook.")
@click.option(
    "--state",
    type=click.Choice(("waiting", "running", "done", "dead")),
    default="dead",
    show_default=True,
    help="Only jobs in this state.",
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Jobs to list at most."
)
@home_option
@json_option
def list_(kind: str | None, state: str, limit: int, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Show how many jobs are waiting, and list those that could not be done, the newest first."""
    from serving.looking_after_jobs import tell_jobs

    told = tell_jobs(open_store(load_settings(home=home)), kind=kind, state=state, limit=limit)
    answer(told, as_json=as_json, show=lambda: _show(told, state))


@jobs.command("revive")
@click.argument("ids", nargs=-1, type=int)
@click.option("--kind", help="All dead jobs of this kind.")
@home_option
@json_option
def revive_(ids: tuple[int, ...], kind: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Have dead jobs tried again: those with these ids, or all of a kind."""
    from serving.looking_after_jobs import revive_jobs

    if bool(ids) == (kind is not None):
        raise click.UsageError("expected ids, or --kind")
    revived = revive_jobs(open_store(load_settings(home=home)), ids=ids, kind=kind)
    answer(
        {"revived": revived}, as_json=as_json, show=lambda: click.echo(f"{len(revived)} to be tried again")
    )


def _show(told: dict[str, Any], state: str) -> None:
    depths = [[each[name] for name in ("kind", "state", "count", "oldest_run_at")] for each in told["queue"]]
    table("Queue", ("kind", "state", "count>", "oldest due"), depths)
    names = ("id", "kind", "attempts", "run_at", "last_error")
    table(
        f"Jobs that are {state}",
        ("id>", "kind", "attempts>", "due", "last error"),
        [[each[name] or "" for name in names] for each in told["jobs"]],
    )
