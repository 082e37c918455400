"""API keys from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.cli import main


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    run(tmp_path, "init")
    return tmp_path


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--home", str(home)])


def listed(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(home, "tokens", "--json").stdout)["tokens"]
    return found


def test_a_key_is_made_with_scopes_and_an_end_listed_and_revoked(installed: Path) -> None:
    made = run(
        installed, "token", "admin@example.com", "--scope", "read", "--scope", "score", "--expires", "90d"
    )
    assert made.stdout.startswith("crm_")
    (key,) = listed(installed)
    assert (key["scopes"], key["revoked_at"]) == (["read", "score"], None)
    assert key["expires_at"] > key["created_at"]
    assert made.stdout.strip() not in run(installed, "tokens").stdout
    assert run(installed, "token", "revoke", str(key["id"])).exit_code == 0
    assert listed(installed)[0]["revoked_at"] is not None


def test_a_key_can_also_be_made_by_the_long_name(installed: Path) -> None:
    assert run(installed, "token", "make", "admin@example.com").stdout.startswith("crm_")


@pytest.mark.parametrize("lasting", ["90", "d", "0d", "-1d", "1m", "999999d"])
def test_a_time_that_cannot_be_read_is_refused(installed: Path, lasting: str) -> None:
    refused = run(installed, "token", "admin@example.com", "--expires", lasting)
    assert refused.exit_code == 2
    assert "90d" in refused.stderr


def test_an_unknown_key_cannot_be_revoked(installed: Path) -> None:
    assert run(installed, "token", "revoke", "7").exit_code == 1
