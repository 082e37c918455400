"""A full rescore from the command line: how far it is, how fast, and what it leaves for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from crm_core.changes import Source
from crm_core.store import Store
from serving.console import LINE_EVERY_SECONDS, table
from serving.home import Home
from serving.modelling import load_bundle_of
from serving.rescoring import note_full_scoring

if TYPE_CHECKING:
    from models.bulk_scoring import Rescored

PAUSE = 0.5
"""After each lot, others have half as long as it took for their own writes."""

Tell = Callable[["Rescored"], None]


def rescore_task(home: Home, store: Store, task: str, *, anew: bool = False) -> dict[str, Any]:
    """Score every open record with the champion, or go on with what was broken off; return what was done."""
    from models.bulk_scoring import rescore

    began = time.perf_counter()
    bundle = load_bundle_of(home, store, task)
    with following(task) as tell:
        done = rescore(store, bundle, anew=anew, tell=tell, pause=PAUSE)
    with store.transaction(source=Source.MODEL) as transaction:
        note_full_scoring(transaction, task, as_of=done.as_of, position=done.position)
    took = time.perf_counter() - began
    return {
        "task": task,
        "model_version": bundle.version,
        "as_of": done.as_of.isoformat(),
        "scored": done.scored,
        "resumed_after": done.resumed,
        "seconds": round(took, 2),
        "stages": {name: round(seconds, 2) for name, seconds in done.watch.seconds.items()},
        "lots": done.watch.lots,
        "longest_lot_seconds": round(done.watch.longest_lot, 3),
    }


@contextmanager
def following(task: str) -> Iterator[Tell]:
    """Show how far a rescore is: a line that moves, or lines in a log."""
    console = Console(stderr=True, highlight=False)
    with _moving(console, task) if console.is_terminal else _lines(console, task) as tell:
        yield tell


@contextmanager
def _moving(console: Console, task: str) -> Iterator[Tell]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stages]}"),
    )
    began = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task(task, total=None, rate="", stages="")

        def tell(done: Rescored) -> None:
            progress.update(
                shown,
                completed=done.resumed + done.scored,
                total=done.total,
                rate=f"{rate_of(done, time.perf_counter() - began):,.0f}/s",
                stages=stages_of(done),
            )

        yield tell


@contextmanager
def _lines(console: Console, task: str) -> Iterator[Tell]:
    began = said = time.perf_counter()
    console.print(f"rescoring {task} ...")

    def tell(done: Rescored) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - said >= LINE_EVERY_SECONDS:
            said = now
            console.print(line_of(task, done, now - began))

    yield tell


def line_of(task: str, done: Rescored, took: float) -> str:
    """Return how far a rescore is, after so many seconds."""
    rate, so_far = rate_of(done, took), done.resumed + done.scored
    left = (done.total - so_far) / rate if rate else 0.0
    return f"{task}: {so_far:,} of {done.total:,}, {rate:,.0f}/s, {left:,.0f} s left ({stages_of(done)})"


def rate_of(done: Rescored, took: float) -> float:
    """Return how many records a second were scored since it began, or went on."""
    return done.scored / took if took else 0.0


def stages_of(done: Rescored) -> str:
    """Return which share of the time each stage has taken."""
    whole = sum(done.watch.seconds.values()) or 1.0
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in done.watch.seconds.items())


def show_rescored(reports: list[dict[str, Any]]) -> None:
    """Print what was rescored, and its stages."""
    columns = ("task", "model_version", "scored", "seconds", "longest_lot_seconds")
    titles = ("task", "model", "scored>", "seconds>", "longest lot, s>")
    table("Rescored", titles, [[each[column] for column in columns] for each in reports])
    for report in reports:
        told = ", ".join(f"{name} {seconds} s" for name, seconds in report["stages"].items())
        before = f" after {report['resumed_after']:,} before" if report["resumed_after"] else ""
        click.echo(f"{report['task']}{before}: {told}")
