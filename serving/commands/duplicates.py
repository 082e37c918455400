"""Listing and merging duplicates from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from serving.commands.options import as_option, home_option, json_option, least_option, type_argument
from serving.console import answer, stage, table
from serving.opening import open_store
from serving.settings import load_settings


@click.group()
def duplicates() -> None:
    """List records that may be the same, and make one of two."""


@duplicates.command("list")
@type_argument
@least_option
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Pairs to show at most."
)
@as_option
@home_option
@json_option
def list_(
    record_type: str,
    at_least: float | None,
    limit: int,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """List pairs of records of a type that may be the same, likeliest first, with the evidence."""
    from serving.acting import get_acting_user
    from serving.copies import LIKELY, read_copies

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    with stage(f"comparing {record_type}s"), store.reading() as session:
        least = LIKELY if at_least is None else at_least
        found = read_copies(session, user, record_type, at_least=least, limit=limit)

    def show() -> None:
        rows = [
            (f"{pair.likelihood:.1%}", pair.first_id, pair.second_id, "; ".join(e.en for e in pair.evidence))
            for pair in found.pairs
        ]
        columns = ("likelihood>", "one>", "other>", "evidence")
        table(f"{len(rows)} of {found.total} pairs", columns, rows)

    answer(found.to_json(), as_json=as_json, show=show)


@duplicates.command("merge")
@type_argument
@click.argument("keep", type=click.IntRange(1))
@click.argument("gone", type=click.IntRange(1))
@as_option
@home_option
@json_option
def merge_(
    record_type: str,
    keep: int,
    gone: int,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Make one record of two: KEEP stays and takes over what points at GONE and what KEEP lacks."""
    from crm_core.changes import Source
    from crm_core.duplicates import merge_as
    from serving.acting import get_acting_user

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    with store.transaction(source=Source.REP, actor_id=user.id) as transaction:
        merge_as(transaction, user, record_type, keep_id=keep, gone_id=gone)
    answer(
        {"record_type": record_type, "kept_id": keep, "gone_id": gone},
        as_json=as_json,
        show=lambda: click.echo(f"{record_type} {gone} is part of {record_type} {keep} now"),
    )


@duplicates.command("auto")
@type_argument
@click.option(
    "--at-least",
    type=click.FloatRange(0.5, 1.0),
    help="Merge pairs at least as likely to be the same (default: 0.98).",
)
@as_option
@home_option
@json_option
def auto_(
    record_type: str,
    at_least: float | None,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Merge all pairs of a type that are the same beyond doubt; the oldest record stays."""
    from serving.acting import get_acting_user
    from serving.copies import merge_all_sure

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    with stage(f"comparing {record_type}s"):
        merged = merge_all_sure(store, user, record_type, at_least=at_least)

    def show() -> None:
        rows = [(each.kept_id, each.gone_id, f"{each.likelihood:.1%}") for each in merged]
        table(f"{len(rows)} merged", ("kept>", "gone>", "likelihood>"), rows)

    answer({"merged": [vars(each) for each in merged]}, as_json=as_json, show=show)
