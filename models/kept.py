"""Model files kept beside the records, by their SHA-256, so that serving needs no MLflow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from crm_core.errors import DamagedModelError
from crm_core.promotions import Challenger, Promotion
from models.bundle import ModelBundle, load_bundle, sha256_of

if TYPE_CHECKING:
    from models.registry import Registry


def kept_file(folder: Path, sha256: str) -> Path:
    """Return where a model's bytes lie, if they were kept."""
    return folder / f"{sha256}.json"


def keep_bytes(folder: Path, data: bytes, sha256: str) -> Path:
    """Lay a model's bytes into a folder, verified, in one step; return the file."""
    if sha256_of(data) != sha256:
        raise DamagedModelError(f"expected a model file with SHA-256 {sha256}, got {sha256_of(data)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = kept_file(folder, sha256)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    return path


def read_kept(
    named: Promotion | Challenger, folder: Path, registry_factory: Callable[[], Registry]
) -> ModelBundle:
    """Return the model that a row names, verified; MLflow is asked only if it is not in the folder.

    Raises DamagedModelError if the bytes are not those that the row names, here or in MLflow, or if they
    are a model of another task.
    """
    path = kept_file(folder, named.sha256)
    if not path.exists():
        keep_bytes(folder, registry_factory().fetch(named.run_id), named.sha256)
    bundle = load_bundle(path.read_bytes(), named.sha256, version=named.model_version)
    told = named.model_version.split("-")
    if len(told) == 3 and told[2] != named.sha256[:8]:
        msg = f"{named.model_version} is to be read from a file with the SHA-256 {named.sha256}, not its own"
        raise DamagedModelError(msg)
    if bundle.task != named.task:
        msg = f"{named.model_version} serves {named.task}, but its file is one of {bundle.task}"
        raise DamagedModelError(msg)
    return bundle
