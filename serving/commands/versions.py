"""Which version of a model serves: promote, roll back, look back, and compare with who may be next."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from serving.commands.options import as_option, home_option, json_option, read_instant
from serving.console import answer
from serving.opening import open_store
from serving.settings import load_settings

_TASKS = ("lead_scoring", "win_probability", "churn")
_task = click.argument("task", type=click.Choice(_TASKS))


@click.command()
@click.argument("version")
@click.option("--reason", default="promoted by hand", show_default=True, help="Why; kept with the promotion.")
@click.option(
    "--overrule", is_flag=True, help="Promote it although the gate does not let it pass; is kept, too."
)
@as_option
@home_option
@json_option
def promote(
    version: str,
    reason: str,
    overrule: bool,  # noqa: FBT001  click gives flags by name
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  as above
) -> None:
    """Put a version in charge of its task, if it is no worse than the one that serves."""
    from serving.acting import get_acting_user
    from serving.model_versions import promote_version, show_gate

    settings = load_settings(home=home)
    store = open_store(settings)
    user = get_acting_user(store, email)
    done = promote_version(settings.home_folder, store, user, version, reason, overrule=overrule)

    def show() -> None:
        show_gate(done["gate"])
        click.echo(f"{done['task']}: {done['version']} serves now")

    answer(done, as_json=as_json, show=show)


@click.command()
@_task
@click.option(
    "--reason", default="rolled back by hand", show_default=True, help="Why; kept with the promotion."
)
@as_option
@home_option
@json_option
def rollback(task: str, reason: str, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Put the version that served before in charge again."""
    from serving.acting import get_acting_user
    from serving.model_versions import roll_back

    settings = load_settings(home=home)
    store = open_store(settings)
    done = roll_back(settings.home_folder, store, get_acting_user(store, email), task, reason)
    answer(done, as_json=as_json, show=lambda: click.echo(f"{done['task']}: {done['version']} serves again"))


@click.command()
@_task
@click.option("--at", callback=read_instant, help="Only what served then (a day or an instant, UTC).")
@home_option
@json_option
def history(task: str, at: datetime | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Tell what served when, who put it in charge, and why."""
    from serving.model_versions import read_history, show_history

    told = read_history(open_store(load_settings(home=home)), task, at)
    answer(told, as_json=as_json, show=lambda: show_history(told))


@click.command()
@_task
@home_option
@json_option
def shadow(task: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Compare the challenger with the champion on records that both have scored, one of them unseen."""
    from serving.model_versions import read_shadow, show_shadow

    told = read_shadow(open_store(load_settings(home=home)), task)
    answer(told, as_json=as_json, show=lambda: show_shadow(told))
