"""What the command line shows: progress on standard error, answers on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

Update = Callable[[str, int | None, int | None], None]
"""Told what is being done, how much of it is done, and how much there is."""

LINE_EVERY_SECONDS = 5.0
"""Between two lines of a log, where a line cannot move."""


@contextmanager
def stage(title: str, told: Update | None = None) -> Iterator[Update]:
    """Show that something is going on, and how long it took; a line that moves, or lines in a log.

    With `told` it is told that instead, and nothing is shown here.
    """
    if told is not None:
        yield told
        return
    began = time.perf_counter()
    console = Console(stderr=True, highlight=False)
    with _moving(console, title) if console.is_terminal else _lines(console, title) as update:
        yield update
    console.print(f"{title}: done in {time.perf_counter() - began:.1f} s")


@contextmanager
def _moving(console: Console, title: str) -> Iterator[Update]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def update(what: str, done: int | None = None, total: int | None = None) -> None:
            progress.update(
                task, description=_said(title, what, done, total), completed=done or 0, total=total
            )

        yield update


@contextmanager
def _lines(console: Console, title: str) -> Iterator[Update]:
    console.print(f"{title} ...")
    said = time.perf_counter()

    def update(what: str, done: int | None = None, total: int | None = None) -> None:
        nonlocal said
        if time.perf_counter() - said >= LINE_EVERY_SECONDS:
            said = time.perf_counter()
            console.print(_said(title, what, done, total))

    yield update


def _said(title: str, what: str, done: int | None, total: int | None) -> str:
    count = "" if done is None else f" {done:,}" + (f" of {total:,}" if total else "")
    return f"{title}: {what}{count}"


def say(text: str) -> None:
    """Tell the person something that is no answer."""
    click.echo(text, err=True)


def answer(report: Any, *, as_json: bool, show: Callable[[], None]) -> None:  # noqa: ANN401  any JSON value
    """Give the answer: one JSON object, or what `show` prints for a person."""
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, default=str, allow_nan=False))
    else:
        show()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns whose name ends in `>` are aligned to the right."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        made.add_column(
            column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 140
    Console(highlight=False, width=width).print(made)
