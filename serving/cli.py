"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crm_core.errors import CRMError
from serving.commands import (
    alerts,
    backtest,
    backup,
    connectors,
    declaring,
    duplicates,
    explain,
    forecast,
    jobs,
    operations,
    person,
    rescore,
    said,
    search,
    tokens,
    versions,
    watch,
    worker,
)
from serving.commands.options import home_option, json_option, read_instant
from serving.console import answer, say, stage, table
from serving.opening import open_store
from serving.settings import Settings, load_settings

if TYPE_CHECKING:
    from crm_core.store import Store

TASKS = ("lead_scoring", "win_probability", "churn")
SIZES = ("small", "medium", "large")

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Commands whose refusals are one line on standard error and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  as click has it
        """Run a command; turn what the program refuses into a line."""
        try:
            return super().invoke(ctx)
        except CRMError as error:
            say(f"crm: {error}")
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0.1.0", message="%(version)s")
def main() -> None:
    """A CRM whose records say what is likely to happen next, and how sure it is."""


_task = click.argument("task", type=click.Choice(TASKS))
_task_or_all = click.argument("task", type=click.Choice((*TASKS, "all")))


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What became of one task, or of all: `told` is the one object for machines."""

    reports: list[dict[str, Any]]
    told: dict[str, Any]


def _each(task: str, run: Callable[[str], dict[str, Any]]) -> _Done:
    """Run one task, or all that can be run; refuse only if none can."""
    if task != "all":
        report = run(task)
        return _Done(reports=[report], told=report)
    reports, refused = [], []
    for name in TASKS:
        try:
            reports.append(run(name))
        except CRMError as error:
            say(f"crm: {name} left out: {error}")
            refused.append({"task": name, "reason": str(error)})
    if not reports:
        raise CRMError("nothing could be done for any task")
    return _Done(reports=reports, told={"reports": reports, "refused": refused})


def _chosen(task: str) -> tuple[str, ...]:
    return TASKS if task == "all" else (task,)


@main.command()
@click.option("--size", type=click.Choice(SIZES), help="How large the company is (default: small).")
@click.option("--seed", type=int, help="Another seed is another company (default: 1).")
@click.option("--no-serve", is_flag=True, help="Stop when everything is ready instead of serving.")
@home_option
@json_option
def demo(size: str | None, seed: int | None, no_serve: bool, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Make a simulated company, train on it, score it, and serve it."""
    from serving.demo import make_demo, show_demo

    settings = load_settings(home=home)
    made = make_demo(settings, size=size, seed=seed)
    answer(made, as_json=as_json, show=lambda: show_demo(made))
    if not no_serve:
        _serve(settings, open_store(settings))


@main.command()
@click.option(
    "--admin", default="admin@example.com", show_default=True, help="Address of the first administrator."
)
@home_option
@json_option
def init(admin: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Make the home folder and its database, and an administrator whose password is shown once."""
    from serving.people import init_home

    report = init_home(load_settings(home=home).home_folder, admin)

    def show() -> None:
        click.echo(f"Home: {report['home']}")
        if report["password"]:
            click.echo(f"Administrator: {report['admin']}, password {report['password']} (shown only now)")
        else:
            click.echo("It was there already; its schema is up to date.")

    answer(report, as_json=as_json, show=show)


@main.command("import")
@click.argument("mapping")
@click.option(
    "--from",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the files that the mapping names.",
)
@click.option("--dry-run", is_flag=True, help="Report what an import would do, and write nothing.")
@home_option
@json_option
def import_(mapping: str, folder: Path, dry_run: bool, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Import an export of another system; MAPPING is the name of a shipped mapping, a TOML file, or auto.

    With auto, exports of Salesforce, HubSpot, Zoho, Dynamics and Pipedrive are recognised by their columns.
    """
    from crm_core.importing import ImportProgress, load_mapping, recognise_export, run_import

    settings = load_settings(home=home)
    store = open_store(settings)
    loaded = recognise_export(folder) if mapping == "auto" else load_mapping(mapping)
    refusals = settings.home_folder.logs / "refused.jsonl"
    with stage(f"importing {folder}") as update:

        def tell(progress: ImportProgress) -> None:
            update(
                f"{progress.file} ({progress.number}/{progress.steps})", progress.rows, progress.rows_total
            )

        report = run_import(store, loaded, folder, progress=tell, refusals_file=refusals, dry_run=dry_run)

    def show() -> None:
        for line in report.in_words():
            click.echo(line)
        if report.refused:
            click.echo(f"Every refused row: {refusals}")

    answer(report.to_json(), as_json=as_json, show=show)


@main.command()
@click.argument("record", nargs=-1)
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to, one file a record type; files of the same name are replaced.",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(("csv", "xlsx", "parquet")),
    default="csv",
    show_default=True,
    help="What files to write.",
)
@click.option("--as", "email", help="Address of a user: write only what that user may see.")
@click.option("--raw", is_flag=True, help="CSV for programs: no apostrophe before texts like =1+1.")
@home_option
@json_option
def export(
    record: tuple[str, ...],
    folder: Path,
    ending: str,
    email: str | None,
    raw: bool,  # noqa: FBT001  click gives flags by name
    home: Path | None,
    as_json: bool,  # noqa: FBT001  as above
) -> None:
    """Write all records to CSV, Excel or Parquet files, or only those of the RECORD types named."""
    from crm_core.exporting import export_records
    from serving.people import find_user_id, note_export

    store = open_store(load_settings(home=home))
    user_id = None if email is None else find_user_id(store, email)
    with stage(f"exporting to {folder}") as update:
        report = export_records(
            store,
            folder,
            format=ending,
            names=record,
            user_id=user_id,
            raw=raw,
            progress=lambda file, rows: update(file, rows, None),
        )

    def show() -> None:
        for line in report.in_words():
            click.echo(line)

    note_export(store, record, user_id)
    answer(report.to_json(), as_json=as_json, show=show)


@main.group()
def views() -> None:
    """Let a BI tool read the records."""


@views.command("sql")
@click.option("--role", default="bi_reader", show_default=True, help="Name of the PostgreSQL role.")
@home_option
@json_option
def views_sql(role: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Print the SQL that makes a PostgreSQL role which reads the views, or how to open a SQLite file.

    Nothing is done to the database. The views show what every role together may see: mind who gets access.
    """
    from serving.reading_access import reading_access

    told = reading_access(open_store(load_settings(home=home)), role)
    answer(told, as_json=as_json, show=lambda: click.echo("\n".join(told["lines"])))


@main.command()
@_task_or_all
@click.option(
    "--as-of", callback=read_instant, help="Know only what was known then (a day or an instant, UTC)."
)
@click.option(
    "--if-needed", is_flag=True, help="Only if none serves, or the one that does is not right any more."
)
@click.option(
    "--overrule",
    multiple=True,
    metavar="FIELD",
    help="Let a field through that the guard refuses; needs --by. May be given again.",
)
@click.option("--by", help="Who overrules the guard; kept with the run.")
@home_option
@json_option
def train(
    task: str,
    as_of: datetime | None,
    if_needed: bool,  # noqa: FBT001  click gives flags by name
    overrule: tuple[str, ...],
    by: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Train a model, judge it on what came later, register it, and promote it if it may serve."""
    if if_needed and as_of is not None:
        raise click.UsageError("--if-needed asks about now: leave out --as-of")
    if overrule and not by:
        raise click.UsageError("--overrule needs --by: the run records who let a field through")
    settings = load_settings(home=home)
    store = open_store(settings)
    from serving.training_runs import show_reports, train_task

    if if_needed:
        from serving.watching import show_if_needed, train_if_needed

        done = _each(task, lambda name: train_if_needed(settings.home_folder, store, name))
        answer(done.told, as_json=as_json, show=lambda: show_if_needed(done.reports))
        return

    done = _each(
        task,
        lambda name: train_task(settings.home_folder, store, name, as_of=as_of, overrule=overrule, by=by),
    )
    answer(done.told, as_json=as_json, show=lambda: show_reports(done.reports))


@main.command()
@_task_or_all
@click.option(
    "--as-of", callback=read_instant, help="Ask from then, by what was known then (a day or an instant, UTC)."
)
@home_option
@json_option
def score(task: str, as_of: datetime | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Score every open record with the champion, and show the scores on the records."""
    settings = load_settings(home=home)
    store = open_store(settings)
    from serving.training_runs import score_task

    done = _each(task, lambda name: score_task(settings.home_folder, store, name, as_of=as_of))

    def show() -> None:
        columns = ("task", "model_version", "scored", "seconds")
        table("Scored", columns, [[each[column] for column in columns] for each in done.reports])

    answer(done.told, as_json=as_json, show=show)


@main.command()
@_task
@click.option("--entity", type=int, help="Id of a record: show what is known of it, and from which rows.")
@click.option(
    "--as-of", callback=read_instant, help="Ask from then (a day or an instant, UTC; default: now)."
)
@click.option("--feature", "name", help="Only this feature, with every row behind it.")
@home_option
@json_option
def features(
    task: str,
    entity: int | None,
    as_of: datetime | None,
    name: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """List what a task looks at, or show why a record's features have the values they have."""
    from serving.exploring import explore_record, list_features, show_features, show_record

    if entity is None and (as_of is not None or name is not None):
        raise click.UsageError("--as-of and --feature need --entity")
    store = open_store(load_settings(home=home))
    if entity is None:
        listed = list_features(store, task)
        answer(listed, as_json=as_json, show=lambda: show_features(listed))
        return
    report = explore_record(store, task, entity, as_of=as_of, name=name)
    answer(report, as_json=as_json, show=lambda: show_record(report, every_row=name is not None))


@main.group()
def models() -> None:
    """List, show, compare, promote and roll back models, and tell what served when."""


@models.command("list")
@click.argument("task", type=click.Choice((*TASKS, "all")), default="all")
@home_option
@json_option
def list_(task: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """List the versions of a task's models, the newest first."""
    from serving.model_versions import list_versions

    settings = load_settings(home=home)
    open_store(settings)
    found = list_versions(settings.home_folder, _chosen(task))
    columns = ("task", "version", "alias", "trained", "as_of", "estimator")
    rows = [[version[column] for column in columns] for version in found]
    answer({"versions": found}, as_json=as_json, show=lambda: table("Models", columns, rows))


@models.command("show")
@click.argument("version")
@home_option
@json_option
def show_(version: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Show what is known of one version: its training, its metrics, its promotions."""
    from serving.model_versions import read_version, show_version

    settings = load_settings(home=home)
    found = read_version(settings.home_folder, open_store(settings), version)
    answer(found, as_json=as_json, show=lambda: show_version(found))


@main.command()
@click.option("--host", help="Address to listen on (default: CRM_HOST, or 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default: CRM_PORT, or 8000).")
@home_option
def serve(host: str | None, port: int | None, home: Path | None) -> None:
    """Serve the API and the pages, and keep scores fresh."""
    settings = load_settings(home=home, host=host, port=port)
    _serve(settings, open_store(settings))


@main.command()
@click.argument("email")
@home_option
@json_option
def password(email: str, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Give the user with this address a new random password; it is shown once."""
    from serving.people import reset_password

    made = reset_password(open_store(load_settings(home=home)), email)
    answer({"email": email, "password": made}, as_json=as_json, show=lambda: click.echo(made))


for _command in (
    search.search,
    duplicates.duplicates,
    person.person,
    declaring.fields,
    declaring.types,
    explain.explain,
    backtest.backtest,
    forecast.forecast,
    rescore.rescore,
    said.said,
    watch.watch,
    worker.worker,
    worker.rescoring,
    backup.backup,
    backup.restore,
    connectors.connectors,
    tokens.token,
    tokens.tokens,
    operations.operations,
    jobs.jobs,
    alerts.alerts,
):
    main.add_command(_command)
for _command in (versions.promote, versions.rollback, versions.history, versions.shadow):
    models.add_command(_command)


def _serve(settings: Settings, store: Store) -> None:
    from serving.server import serve as run

    def ready(address: str) -> None:
        click.echo(f"Serving at {address} (stop with Ctrl-C)")
        if settings.host not in {"127.0.0.1", "localhost", "::1"} and not settings.https:
            say("Others can reach this without https: passwords and keys travel in the clear.")

    run(settings, store, ready=ready)
