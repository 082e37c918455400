"""Searching from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from serving.commands.options import as_option, home_option, json_option
from serving.console import answer, table
from serving.opening import open_store
from serving.settings import load_settings


@click.command()
@click.argument("text")
@click.option("--type", "types", multiple=True, help="Only records of this type; may be given several times.")
@click.option(
    "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Hits to show at most."
)
@click.option("--after", help="Go on behind the hit that has this cursor.")
@as_option
@home_option
@json_option
def search(
    text: str,
    types: tuple[str, ...],
    limit: int,
    after: str | None,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Find records by what they say: names, companies, notes, mails, phone numbers; slips are forgiven."""
    from serving.acting import get_acting_user
    from serving.finding import Asked, find_page

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    with store.reading() as session:
        page = find_page(session, user, Asked(text=text, types=types or None, limit=limit, after=after))

    def show() -> None:
        rows = [
            (f"{hit.score:.2f}", f"{hit.record_type} {hit.id}", hit.title, hit.excerpt) for hit in page.hits
        ]
        table(f"{len(rows)} found", ("score>", "record", "name", "where it says so"), rows)
        if page.next_cursor:
            click.echo(f"There is more: --after {page.next_cursor}")

    answer(page.to_json(), as_json=as_json, show=show)
