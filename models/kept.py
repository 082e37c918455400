"""Model files kept beside the records, by their SHA-256, so that serving needs no MLflow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from crm_core.errors import DamagedModelError
from models.bundle import sha256_of


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
