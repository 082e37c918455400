"""The home folder: where everything of one installation is kept."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Home:
    """Paths below the home folder, and the two addresses that may lead elsewhere."""

    folder: Path
    database_url: str
    tracking_uri: str

    @classmethod
    def at(cls, folder: Path, *, database_url: str | None = None, tracking_uri: str | None = None) -> Home:
        """Return the home at `folder`, with its own databases unless others are named."""
        root = folder.expanduser().resolve()
        return cls(
            folder=root,
            database_url=database_url or f"sqlite:///{root / 'crm.db'}",
            tracking_uri=tracking_uri or f"sqlite:///{root / 'mlflow.db'}",
        )

    @property
    def database(self) -> Path:
        """The record store, unless it is elsewhere."""
        return self.folder / "crm.db"

    @property
    def artifacts(self) -> Path:
        """What MLflow keeps of training runs."""
        return self.folder / "mlartifacts"

    @property
    def models(self) -> Path:
        """Files of the models that serve, named by their SHA-256."""
        return self.folder / "models"

    @property
    def truth(self) -> Path:
        """True probabilities of a simulated company."""
        return self.folder / "simulation" / "truth.parquet"

    @property
    def scorecard(self) -> Path:
        """The company's own points for leads, deals and customers; there need be none."""
        return self.folder / "scorecard.toml"

    @property
    def connectors(self) -> Path:
        """The other systems that this home exchanges with; there need be none."""
        return self.folder / "connectors.toml"

    @property
    def company(self) -> Path:
        """Which company was simulated, and how far that came."""
        return self.folder / "simulation" / "company.json"

    @property
    def files(self) -> Path:
        """Files that people put on records, named by their SHA-256."""
        return self.folder / "files"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.folder / "logs"

    @property
    def secrets(self) -> Path:
        """What must stay secret, readable by its owner only."""
        return self.folder / "secrets.json"

    def create(self) -> None:
        """Make the folders that are missing; only their owner may look inside."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.models, self.logs, self.company.parent, self.artifacts, self.files):
            folder.mkdir(mode=0o700, exist_ok=True)


def session_secret(home: Home) -> str:
    """Return the key that signs sessions; made when first asked for."""
    _create_secrets(home.secrets)
    return str(json.loads(home.secrets.read_text(encoding="utf-8"))["session"])


def _create_secrets(path: Path) -> None:
    # Written beside and linked into place, so that two programs starting at once end with one whole file.
    if path.exists():
        return
    mine = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"session": secrets.token_urlsafe(48)}, file)
    try:
        os.link(mine, path)
    except FileExistsError:
        pass
    finally:
        mine.unlink()
