"""Backups of a home: one file with everything in it, taken while the service runs, checked when put back.

A backup is a compressed tar archive. Its last member, `manifest.json`, names every other one with its size
and SHA-256: a file that was cut short, or in which a bit has flipped, is refused before anything is written.

Copied are the records as they are at one instant, then what they point at: models are kept under their
SHA-256 and written before the promotion that names them, so that every model in charge is in the backup;
so are the files that people put on records, unless somebody deletes one while the backup is taken.
Not copied are logs, and what the settings keep elsewhere (a tracking server, artifacts on it): their
operators have backups of their own.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crm_core import migrations, snapshots
from crm_core.clock import Clock, SystemClock
from crm_core.errors import BackupError, HomeInUseError
from serving.home import Home

FORMAT = 1
SUFFIX = ".tar.gz"
MANIFEST = "manifest.json"
RECORDS, TRACKING = "records", "mlflow.db"

_NAMED = re.compile(r"crm-\d{8}T\d{6}Z(-\d+)?\.tar\.gz")
"""Backups that were given their name here, which are those that `keep` may delete."""

_FOLDERS = ("models", "mlartifacts", "simulation", "files")
_FILES = ("secrets.json", "scorecard.toml", "connectors.toml")
_BLOCK = 2**20

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Where MLflow's database holds full paths: table and column."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a backup."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup holds: `records` is `sqlite` or `postgresql`, `schema` the version of its tables.

    `home` is the folder it was taken of: the tracking database names artifacts by their full paths.
    """

    format: int
    taken_at: str
    home: str
    records: str
    schema: str
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """Return how many bytes its files have, unpacked."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was taken or put back; `left_out` says what it does not hold."""

    file: Path
    manifest: Manifest
    left_out: tuple[str, ...] = ()
    deleted: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON."""
        return {
            "file": str(self.file),
            "bytes": self.file.stat().st_size,
            "taken_at": self.manifest.taken_at,
            "records": self.manifest.records,
            "schema": self.manifest.schema,
            "files": len(self.manifest.members),
            "left_out": list(self.left_out),
            "deleted": [str(path) for path in self.deleted],
        }


def take_backup(home: Home, to: Path, *, keep: int | None = None, clock: Clock | None = None) -> Backup:
    """Write a backup of `home` to the new file `to`, or under a name of its own into the folder `to`.

    With `keep`, older backups in that folder that got their names here are deleted, but for the newest ones.
    The file appears under its name when it is whole. Raises BackupError if it cannot be written.
    """
    now = (clock or SystemClock()).now()
    target = _target(to, now)
    with _staging(target.parent) as staging:
        schema = migrations.version_of(home.database_url)
        form = snapshots.take_snapshot(home.database_url, staging / RECORDS)
        files = {RECORDS: staging / RECORDS, **_tracking(home, staging), **_kept(home)}
        packed = staging / "packed"
        manifest = _pack(packed, files, _Told(home=home, records=form, schema=schema, now=now))
        os.link(packed, target)  # unlike a renaming this replaces nothing that has appeared meanwhile
        _sync(target.parent)
    deleted = _delete_older(target.parent, keep) if keep is not None and to.is_dir() else ()
    return Backup(file=target, manifest=manifest, left_out=_left_out(home), deleted=deleted)


def put_back(home: Home, file: Path) -> Backup:
    """Fill the empty home from a backup, and bring its tables up to this program's version.

    Raises BackupError if the file is damaged or of another kind, HomeInUseError if there is anything in the
    home or its database; nothing is written then.
    """
    _check_free(home)
    home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Unpacked inside of the home, which may be a disk of its own: what is moved from there is moved at once.
    with _staging(home.folder) as staging:
        manifest = _unpack(file, staging)
        _check_known(manifest)
        snapshots.check_empty(home.database_url)
        _readdress(staging / TRACKING, Path(manifest.home), home.folder)
        for member in manifest.members:
            if member.name != RECORDS:
                _move(staging / member.name, home.folder / member.name)
        # The records come last: without them, a home that was put back in part is no home.
        snapshots.put_back(manifest.records, staging / RECORDS, home.database_url)
    home.create()
    migrations.upgrade(home.database_url)
    return Backup(file=file, manifest=manifest)


def read_manifest(file: Path) -> Manifest:
    """Return what a backup holds, after reading all of it and checking every byte."""
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        return _unpack(file, Path(folder))


def _target(to: Path, now: datetime) -> Path:
    if not to.is_dir():
        if to.exists():
            raise BackupError(f"{to} is there already; name a new file, or a folder")
        if not to.parent.is_dir():
            raise BackupError(f"there is no folder {to.parent}")
        return to
    name = f"crm-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    taken = (to / f"{name}{'' if number == 0 else f'-{number}'}{SUFFIX}" for number in range(1000))
    return next(path for path in taken if not path.exists())


@contextmanager
def _staging(beside: Path) -> Iterator[Path]:
    """Give a folder that only its owner may look into, on the same disk; it is gone afterwards."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".crm-backup-", dir=beside))
    except OSError as error:
        raise BackupError(f"{beside} cannot be written to: {error.strerror}") from error
    try:
        yield folder
    except OSError as error:
        raise BackupError(f"{error.filename or beside}: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tracking(home: Home, staging: Path) -> Mapping[str, Path]:
    """Copy the tracking database, if it is this home's own."""
    own = home.folder / TRACKING
    if _tracks_elsewhere(home) or not own.exists():
        return {}
    snapshots.copy_sqlite(own, staging / TRACKING)
    return {TRACKING: staging / TRACKING}


def _tracks_elsewhere(home: Home) -> bool:
    return home.tracking_uri != f"sqlite:///{home.folder / TRACKING}"


def _kept(home: Home) -> dict[str, Path]:
    """Return the home's files by their names in a backup."""
    found = [home.folder / name for name in _FILES]
    for folder in _FOLDERS:
        found += sorted((home.folder / folder).rglob("*"))
    return {path.relative_to(home.folder).as_posix(): path for path in found if path.is_file()}


def _left_out(home: Home) -> tuple[str, ...]:
    return ("tracking: MLFLOW_TRACKING_URI names another place",) if _tracks_elsewhere(home) else ()


def _readdress(tracking: Path, old: Path, new: Path) -> None:
    """Have a tracking database name its artifacts where they are now."""
    if not tracking.exists() or old == new:
        return
    with closing(sqlite3.connect(tracking)) as database, database:
        for table, column in _ADDRESSES:
            if (column,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall():
                is_old = f"substr({column}, 1, ?) = ?"
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {is_old}",  # noqa: S608  names of our own
                    (str(new), len(str(old)) + 1, len(str(old)) + 1, f"{old}/"),
                )


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a manifest says besides its files."""

    home: Home
    records: str
    schema: str
    now: datetime


def _pack(packed: Path, files: Mapping[str, Path], told: _Told) -> Manifest:
    with packed.open("xb") as out:
        packed.chmod(0o600)  # it holds everything, the key that signs sessions too
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
            members = tuple(_add(archive, name, path) for name, path in files.items())
            manifest = Manifest(
                format=FORMAT,
                taken_at=told.now.isoformat(),
                home=str(told.home.folder),
                records=told.records,
                schema=told.schema,
                members=members,
            )
            _add_bytes(archive, MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        out.flush()
        os.fsync(out.fileno())
    return manifest


def _add(archive: tarfile.TarFile, name: str, path: Path) -> Member:
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        told = tarfile.TarInfo(name)
        told.size, told.mode = size, 0o600
        archive.addfile(told, _Read(file, sha256))
    return Member(name=name, size=size, sha256=sha256.hexdigest())


class _Read:
    """A file of which every byte that is read is taken into a hash."""

    def __init__(self, file: Any, sha256: Any) -> None:  # noqa: ANN401  as hashlib and open give them
        self._file, self._sha256 = file, sha256

    def read(self, size: int = -1) -> bytes:
        """Read, and remember what was read."""
        read: bytes = self._file.read(size)
        self._sha256.update(read)
        return read


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    told = tarfile.TarInfo(name)
    told.size, told.mode = len(content), 0o600
    archive.addfile(told, io.BytesIO(content))


def _unpack(file: Path, staging: Path) -> Manifest:
    """Unpack a backup into an empty folder, and check that it is whole."""
    if not file.is_file():
        raise BackupError(f"there is no file {file}")
    found: dict[str, Member] = {}
    try:
        with gzip.open(file) as whole, tarfile.open(fileobj=whole, mode="r:") as archive:
            for told in archive:
                found[told.name] = _extract(archive, told, staging)
            while whole.read(_BLOCK):  # to the end, where the sum of all that was packed stands
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BackupError(f"{file} is damaged, or no backup: {error}") from error
    manifest = _manifest_of(file, staging)
    del found[MANIFEST]
    if found != {member.name: member for member in manifest.members}:
        differ = sorted(set(found.values()) ^ set(manifest.members), key=lambda each: each.name)
        raise BackupError(f"{file} is damaged: {differ[0].name} is not what the manifest says")
    return manifest


def _extract(archive: tarfile.TarFile, told: tarfile.TarInfo, staging: Path) -> Member:
    target = (staging / told.name).resolve()
    if not told.isfile() or not target.is_relative_to(staging.resolve()) or target.exists():
        raise tarfile.TarError(f"{told.name!r} does not belong in a backup")
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    source = archive.extractfile(told)
    assert source is not None  # noqa: S101  it is a file
    with target.open("xb") as out:
        target.chmod(0o600)
        while block := source.read(_BLOCK):
            sha256.update(block)
            out.write(block)
    return Member(name=told.name, size=told.size, sha256=sha256.hexdigest())


def _manifest_of(file: Path, staging: Path) -> Manifest:
    held = staging / MANIFEST
    if not held.is_file():
        raise BackupError(f"{file} is no backup, or only a part of one: it has no {MANIFEST}")
    try:
        read = json.loads(held.read_text(encoding="utf-8"))
        members = tuple(Member(**member) for member in read.pop("members"))
        return Manifest(**read, members=members)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(f"{file}: its {MANIFEST} cannot be read: {error}") from error
    finally:
        held.unlink()


def _check_known(manifest: Manifest) -> None:
    if manifest.format != FORMAT or manifest.schema not in migrations.list_versions():
        raise BackupError(
            f"the backup was taken by a newer program (format {manifest.format}, schema {manifest.schema}); "
            f"expected format {FORMAT} and at most schema {migrations.list_versions()[-1]}"
        )


def _check_free(home: Home) -> None:
    holds = next(home.folder.iterdir(), None) if home.folder.is_dir() else None
    if holds is not None:
        raise HomeInUseError(f"{home.folder} holds {holds.name} already; name an empty or a new --home")


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.replace(target)


def _delete_older(folder: Path, keep: int) -> tuple[Path, ...]:
    found = sorted(path for path in folder.iterdir() if _NAMED.fullmatch(path.name))
    old = tuple(found[: max(0, len(found) - keep)])
    for path in old:
        path.unlink()
    return old


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
