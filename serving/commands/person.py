"""One person's data from the command line: finding, exporting, erasing, leaving unscored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serving.commands.options import as_option, home_option, json_option
from serving.console import answer, say, stage, table
from serving.opening import open_store
from serving.settings import load_settings

_who = click.argument("who")


@click.group()
def person() -> None:
    """Find, export or erase a person (a mail address, lead:ID or contact:ID), or leave them unscored."""


@person.command("find")
@_who
@as_option
@home_option
@json_option
def find_(who: str, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Show which records stand for a person, and what they are told by."""
    from serving.acting import get_acting_user
    from serving.personal_data import Who, find_for

    store = open_store(load_settings(home=home))
    found = find_for(store, get_acting_user(store, email), Who.of(who))
    answer(found, as_json=as_json, show=lambda: _show_person(found))


@person.command("export")
@_who
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder, or file ending in .zip, to write to.",
)
@as_option
@home_option
@json_option
def export_(who: str, target: Path, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Write all that is held about a person: JSON, CSV, and a page to read. The log notes who did it."""
    from crm_core.changes import Source
    from crm_core.personal import write_person
    from serving.acting import get_acting_user
    from serving.personal_data import Who, export_for

    store = open_store(load_settings(home=home))
    told = export_for(store, get_acting_user(store, email), Who.of(who), source=Source.REP)
    files = write_person(told, target)
    report = {"to": str(target), "files": files, "records": len(told["records"])}
    answer(report, as_json=as_json, show=lambda: click.echo(f"{target}: {', '.join(files)}"))


@person.command("erase")
@_who
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@as_option
@home_option
@json_option
def erase_(who: str, yes: bool, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Erase a person from records, texts, log, predictions and index; it cannot be undone."""
    from crm_core.changes import Source
    from serving.acting import get_acting_user
    from serving.importing import forget_files
    from serving.personal_data import Who, erase_for, find_for

    settings = load_settings(home=home)
    store = open_store(settings)
    user, meant = get_acting_user(store, email), Who.of(who)
    found = find_for(store, user, meant)
    if not yes:
        say(f"Stands for this person: {_listed(found['records']) or 'no record; texts may name them'}")
        click.confirm("Erase them for good?", abort=True, err=True)
    with stage("erasing"):
        done = erase_for(store, user, meant, source=Source.REP, files=settings.home_folder.files)
        forget_files(settings.home_folder)
    answer(done, as_json=as_json, show=lambda: _show_erased(done))


@person.command("opt-out")
@_who
@as_option
@home_option
@json_option
def opt_out_(who: str, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Write down that a person asks not to be scored; their scores go at once."""
    _note(who, email, home, as_json=as_json, opted_out=True)


@person.command("opt-in")
@_who
@as_option
@home_option
@json_option
def opt_in_(who: str, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Write down that a person agrees to be scored again."""
    _note(who, email, home, as_json=as_json, opted_out=False)


@person.command("purge")
@home_option
@json_option
def purge_(home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Have the database forget the bytes of what was erased; needed only where erasing could not do it."""
    from crm_core.personal import purge

    with stage("writing the database anew"):
        purge(open_store(load_settings(home=home)))
    answer({"purged": True}, as_json=as_json, show=lambda: click.echo("No old bytes are left."))


def _note(who: str, email: str | None, home: Path | None, *, as_json: bool, opted_out: bool) -> None:
    from serving.acting import get_acting_user
    from serving.personal_data import Who, opt_out_of_person

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    noted = opt_out_of_person(store, user, Who.of(who), opted_out=opted_out)
    said = "not to be scored" if opted_out else "may be scored again"
    answer(
        {"opted_out": opted_out, "records": noted},
        as_json=as_json,
        show=lambda: click.echo(f"{said}: {_listed(noted) or 'nobody; there is no such record'}"),
    )


def _listed(records: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['record_type']} {each['id']}" for each in records)


def _show_person(found: dict[str, Any]) -> None:
    rows = [("records", _listed(found["records"]))]
    rows += [(name, ", ".join(found[name])) for name in ("names", "mails", "phones")]
    table("Person", ("what", "held"), rows)


def _show_erased(done: dict[str, Any]) -> None:
    counts = ("emptied", "scrubbed", "changes", "predictions", "files")
    rows = [("records that stood for the person", _listed(done["records"]) or "none")]
    rows += [(_COUNTED[name], done[name]) for name in counts]
    rows += [
        ("kept, somebody else's too", f"{k['record_type']} {k['record_id']}.{k['field']}")
        for k in done["kept"]
    ]
    table("Erased", ("what", "how many"), rows)
    if not done["purged"]:
        say("The database was in use and its files hold old bytes. Stop the service; run: crm person purge")


_COUNTED = {
    "emptied": "records that belonged to them, emptied",
    "scrubbed": "other records that named them",
    "changes": "rows of the log",
    "predictions": "predictions that lost their reasons",
    "files": "files kept elsewhere, to be deleted there",
}
