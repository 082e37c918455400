"""Scoring everything anew from the command line, while others work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crm_core.errors import CRMError, NoChampionError
from serving.commands.options import home_option, json_option
from serving.console import answer, say
from serving.opening import open_store
from serving.settings import load_settings

TASKS = ("lead_scoring", "win_probability", "churn")


@click.command()
@click.argument("task", type=click.Choice((*TASKS, "all")), default="all")
@click.option("--now", is_flag=True, help="Ask from now, even if a rescore that was broken off could go on.")
@home_option
@json_option
def rescore(task: str, now: bool, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Score all open records again, in small lots that let others write; go on where it was broken off."""
    settings = load_settings(home=home)
    store = open_store(settings)
    from serving.full_rescore import rescore_task, show_rescored

    reports: list[dict[str, Any]] = []
    for name in TASKS if task == "all" else (task,):
        try:
            reports.append(rescore_task(settings.home_folder, store, name, anew=now))
        except NoChampionError as error:
            if task != "all":
                raise
            say(f"crm: {name} left out: {error}")
    if not reports:
        raise CRMError("no model serves any task yet: crm train all")
    told = reports[0] if task != "all" else {"reports": reports}
    answer(told, as_json=as_json, show=lambda: show_rescored(reports))
