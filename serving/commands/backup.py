"""Backups from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from serving.commands.options import home_option, json_option
from serving.console import answer, stage
from serving.settings import load_settings


@click.command()
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    help="A new file, or a folder: in a folder the backup gets a name with the time in it.",
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="Delete older backups in the folder, but for so many of the newest (this one among them).",
)
@home_option
@json_option
def backup(to: Path, keep: int | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Copy everything of a home into one file, as it is at one instant, while the service goes on.

    The file holds all records and the key that signs sessions: keep it where nobody else can read it.
    """
    from serving.backups import take_backup

    if keep is not None and not to.is_dir():
        raise click.UsageError("--keep needs --to to be a folder")
    settings = load_settings(home=home)
    with stage("backup"):
        taken = take_backup(settings.home_folder, to, keep=keep)

    def show() -> None:
        megabytes = taken.file.stat().st_size / 1e6
        click.echo(f"{taken.file}: {len(taken.manifest.members)} files, {megabytes:.1f} MB")
        for missing in taken.left_out:
            click.echo(f"not in it: {missing}")
        for path in taken.deleted:
            click.echo(f"deleted {path}")

    answer(taken.to_json(), as_json=as_json, show=show)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only read the backup and check every byte of it.")
@home_option
@json_option
def restore(file: Path, check: bool, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Fill an empty home, and the empty database that the settings name, from a backup.

    Every byte is checked first, and nothing is overwritten. A backup of an older version is brought up to
    date.
    """
    from serving.backups import Backup, put_back, read_manifest

    settings = load_settings(home=home)
    with stage("check" if check else "restore"):
        if check:
            done = Backup(file=file, manifest=read_manifest(file))
        else:
            done = put_back(settings.home_folder, file)

    def show() -> None:
        click.echo(
            f"{file}: sound, taken at {done.manifest.taken_at}, {done.manifest.size / 1e6:.1f} MB unpacked"
        )
        if not check:
            click.echo(f"put back into {settings.home_folder.folder}; start it with: crm serve")

    answer(done.to_json(), as_json=as_json, show=show)
