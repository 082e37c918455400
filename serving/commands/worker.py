"""Keeping scores fresh in a process of its own, and looking at how that is doing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.commands.options import home_option, json_option
from serving.console import answer, say, table
from serving.opening import open_store
from serving.settings import load_settings

if TYPE_CHECKING:
    from crm_core.store import Store
    from serving.rescoring_state import RescoringState

EVERY_SECONDS = 2.0
"""Between two looks at something that is under way."""


@click.command()
@click.option("--once", is_flag=True, help="End when nothing is left to do.")
@home_option
@json_option
def worker(once: bool, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Keep scores fresh in a process of its own, beside `crm serve` with CRM_RESCORING=false.

    There may be as many as there is work for; each takes what no other has. SIGTERM or Ctrl-C ends one when
    it has finished what it has at hand.
    """
    from serving.worker import work

    settings = load_settings(home=home)
    scored = work(
        settings,
        open_store(settings),
        once=once,
        ready=lambda name: say(f"Working as {name} (stop with Ctrl-C)"),
    )
    answer({"scored": scored}, as_json=as_json, show=lambda: click.echo(f"{scored:,} records scored"))


@click.command()
@click.option("--watch", is_flag=True, help="Look again and again until nothing is under way any more.")
@home_option
@json_option
def rescoring(watch: bool, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Show what waits to be scored again, who is at it, and how far passes over all records are."""
    from dataclasses import asdict

    from serving.rescoring_state import read_state

    store = open_store(load_settings(home=home))
    state = _follow(store) if watch else read_state(store)
    answer(asdict(state), as_json=as_json, show=lambda: _show(state))


def _follow(store: Store) -> RescoringState:
    """Say how far it is until nothing is under way; return what it was like in the end."""
    from serving.rescoring_state import read_state, sweep_in_words

    while True:
        state = read_state(store)
        under_way = [sweep for sweep in state.sweeps if sweep.ended_at is None]
        if not under_way and state.waiting == state.failed and not state.changes_waiting:
            return state
        for sweep in under_way:
            say(f"{sweep.task}: {sweep_in_words(sweep)}")
        say(f"changes waiting: {state.changes_waiting:,}; records: {state.waiting:,}")
        time.sleep(EVERY_SECONDS)


def _show(state: RescoringState) -> None:
    from serving.rescoring_state import sweep_in_words

    lag = "" if state.lag_seconds is None else f", last lag {state.lag_seconds:.2f} s"
    click.echo(f"{state.changes_waiting:,} changes and {state.waiting:,} records waiting{lag}")
    click.echo(f"{state.failed:,} records could not be scored")
    rows = [[each.task, each.model_version or "", sweep_in_words(each)] for each in state.sweeps]
    table("Sweeps", ("task", "model", "progress"), rows)
    names = ("name", "seen_at", "scored", "lag_seconds", "error")
    told = [[getattr(each, name) or "" for name in names] for each in state.workers if each.alive]
    table("Workers", ("name", "last seen", "scored>", "lag>", "error"), told)
