"""Replaying the past from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from serving.commands.options import home_option, json_option
from serving.console import answer
from serving.opening import open_store
from serving.settings import load_settings


@click.command()
@click.argument("task", type=click.Choice(("lead_scoring", "win_probability", "churn")))
@click.option(
    "--models", type=click.IntRange(1, 40), default=8, show_default=True, help="Models to make, newest last."
)
@click.option(
    "--every",
    type=click.IntRange(7, 366),
    help="Days between two models (default: at the start of each quarter).",
)
@home_option
@json_option
def backtest(task: str, models: int, every: int | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Replay the past: what the model of last quarter would have said each Monday, and what came of it."""
    from serving.training_runs import backtest_task, show_backtest

    settings = load_settings(home=home)
    report = backtest_task(settings.home_folder, open_store(settings), task, models=models, every_days=every)
    answer(report, as_json=as_json, show=lambda: show_backtest(report))
