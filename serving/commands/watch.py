"""Watching the models that serve from the command line."""

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
@home_option
@json_option
def watch(task: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Tell whether the models that serve are still right: inputs, outcomes, calibration, performance.

    Ends with exit code 3 if a model asks to be trained again, so that a scheduler can tell.
    """
    from serving.watching import show_watch, watch_task

    settings = load_settings(home=home)
    store = open_store(settings)
    reports: list[dict[str, Any]] = []
    for name in TASKS if task == "all" else (task,):
        try:
            reports.append(watch_task(settings.home_folder, store, name))
        except NoChampionError as error:
            if task != "all":
                raise
            say(f"crm: {name} left out: {error}")
    if not reports:
        raise CRMError("no model serves any task yet: crm train all")
    told = reports[0] if task != "all" else {"reports": reports}
    answer(told, as_json=as_json, show=lambda: show_watch(reports))
    if any(report["state"] == "act" for report in reports):
        click.get_current_context().exit(3)
