"""Exchange with other systems from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serving.commands.options import home_option, json_option
from serving.console import answer, stage, table
from serving.opening import open_store
from serving.settings import load_settings


@click.group()
def connectors() -> None:
    """Exchange with other CRM systems: records come in, scores go out."""


@connectors.command("list")
@home_option
@json_option
def list_(home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """List the systems that `connectors.toml` names, how far they have come, and what they refused."""
    from crm_core.connections import RUN, list_marks, list_refused
    from serving.connectors.connections import read_connections
    from serving.connectors.exchanging import waiting

    settings = load_settings(home=home)
    store = open_store(settings)
    told: list[dict[str, Any]] = []
    for connection in read_connections(settings.home_folder).values():
        with store.reading() as session:
            marks = {mark.kind: mark for mark in list_marks(session, connection.name)}
            refused = [
                {
                    "record": f"{each.record_type} {each.record_id}",
                    "error": each.error,
                    "attempts": each.attempts,
                }
                for each in list_refused(session, connection.name, limit=20)
            ]
        last = marks.pop(RUN, None)
        told.append(
            {
                "connection": connection.name,
                "system": connection.system.value,
                "last_exchange": None if last is None else last.at.isoformat(),
                "errors": [] if last is None else last.mark.get("errors", []),
                "taken_in_until": {kind: mark.mark for kind, mark in marks.items()},
                "waiting": waiting(store, connection),
                "refused": refused,
            }
        )
    answer({"connections": told}, as_json=as_json, show=lambda: _show(told))


def _show(told: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["connection"],
            each["system"],
            (each["last_exchange"] or "never")[:16],
            sum(each["waiting"].values()),
            len(each["refused"]),
            "; ".join(each["errors"]) or "none",
        )
        for each in told
    ]
    table("Connectors", ("name", "system", "last exchange", "to be told>", "refused>", "errors"), rows)
    for each in told:
        for refused in each["refused"][:5]:
            click.echo(f"{each['connection']} refused {refused['record']}: {refused['error']}")


@connectors.command()
@click.argument("name")
@click.option("--pull/--no-pull", default=True, show_default=True, help="Take in what changed there.")
@click.option("--push/--no-push", default=True, show_default=True, help="Tell of scores that changed here.")
@click.option(
    "--from-the-beginning", is_flag=True, help="Forget how far it had come, and do everything again."
)
@home_option
@json_option
def run(
    name: str,
    pull: bool,  # noqa: FBT001  click gives flags by name
    push: bool,  # noqa: FBT001  as above
    from_the_beginning: bool,  # noqa: FBT001  as above
    home: Path | None,
    as_json: bool,  # noqa: FBT001  as above
) -> None:
    """Exchange with one system now; `crm serve` does it by itself every so many minutes."""
    from crm_core.changes import Source
    from crm_core.connections import forget
    from crm_core.errors import ConnectorError
    from serving.connectors.connections import read_connections
    from serving.connectors.exchanging import Exchanger, get_connection
    from serving.outbound import OutboundClient

    settings = load_settings(home=home)
    store = open_store(settings)
    connection = get_connection(read_connections(settings.home_folder), name)
    if from_the_beginning:
        with store.transaction(source=Source.API) as transaction:
            forget(transaction.session, name)
    with stage(f"exchanging with {name}"):
        exchanger = Exchanger(
            settings.home_folder, store, connection, OutboundClient(settings), language=settings.language
        )
        report = exchanger.run(pull=pull, push=push)

    def show() -> None:
        taken = ", ".join(f"{count:,} {kind}s" for kind, count in report.taken_in.items()) or "nothing new"
        said = ", ".join(f"{count:,} {kind}s" for kind, count in report.told.items()) or "nothing new"
        click.echo(f"taken in: {taken}; {report.not_taken} rows refused")
        click.echo(f"told: {said}; {report.refused} records refused")

    answer(report.to_json(), as_json=as_json, show=show)
    if report.errors:
        raise ConnectorError("; ".join(report.errors))
