"""The other systems that this home exchanges with, as `connectors.toml` in the home names them."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from crm_core.errors import SettingsError
from serving.home import Home

RecordType = Literal["lead", "deal", "account", "contact"]


class System(StrEnum):
    """A system that can be exchanged with."""

    SALESFORCE = "salesforce"
    DYNAMICS = "dynamics"
    HUBSPOT = "hubspot"
    ZOHO = "zoho"


class Connection(BaseModel):
    """One system: where it is, how to log in, and what is exchanged."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    system: Annotated[System, Field(strict=False)]
    url: Annotated[str, Field(min_length=1)]
    token_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_secret_file: Annotated[Path | None, Field(strict=False)] = None
    refresh_token: SecretStr | None = None
    token: SecretStr | None = None
    token_file: Annotated[Path | None, Field(strict=False)] = None
    pull: tuple[RecordType, ...] = Field(default=("account", "contact", "lead", "deal"), strict=False)
    push: tuple[RecordType, ...] = Field(default=("lead", "deal", "account"), strict=False)
    create: bool = False
    every_minutes: Annotated[int, Field(ge=1, le=10_080)] = 15
    requests_a_second: Annotated[float, Field(gt=0, le=100, strict=False)] = 4.0
    key_field: str | None = None
    fields: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Connection:
        by_token = self.token is not None or self.token_file is not None
        by_client = self.client_id is not None and (
            self.client_secret is not None or self.client_secret_file is not None
        )
        if by_token == by_client:
            raise ValueError(
                "expected either token (or token_file), or client_id and client_secret (or _file)"
            )
        unknown = set(self.fields) - set(SHOWN)
        if unknown:
            raise ValueError(f"fields: expected some of {', '.join(SHOWN)}, got {', '.join(sorted(unknown))}")
        return self

    def secret(self) -> str:
        """Return the client's secret."""
        return _read(self.client_secret, self.client_secret_file)

    def fixed_token(self) -> str | None:
        """Return the token that never changes, if there is one."""
        if self.token is None and self.token_file is None:
            return None
        return _read(self.token, self.token_file)


SHOWN = ("score", "probability", "grade", "trend", "reasons", "scored_at", "model_version")
"""What is told of a record; `fields` says under which names."""


def _read(secret: SecretStr | None, path: Path | None) -> str:
    if secret is not None:
        return secret.get_secret_value()
    assert path is not None  # noqa: S101  one of the two is there
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


def read_connections(home: Home) -> dict[str, Connection]:
    """Return the home's connections by name; none without the file.

    Raises SettingsError, naming what is wrong and where; a secret is never in the message.
    """
    path = home.connectors
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if path.stat().st_mode & 0o077 and _holds_secrets(tables):
        raise SettingsError(f"{path}: others may read the secrets in it; run: chmod 600 {path}")
    return {name: _connection(path, name, table) for name, table in tables.items()}


def _holds_secrets(tables: dict[str, object]) -> bool:
    secret = {"client_secret", "refresh_token", "token"}
    return any(isinstance(table, dict) and secret & table.keys() for table in tables.values())


def _connection(path: Path, name: str, table: object) -> Connection:
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: expected a table [{name}], got {type(table).__name__}")
    try:
        return Connection(**{"name": name, "system": name, **table})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, (name, *first["loc"])))
        raise SettingsError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
