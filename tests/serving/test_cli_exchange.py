"""Bringing records in and taking them out by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.serving.test_cli import run

ACCOUNTS = "Id,Name,BillingCountry,CreatedDate\n001A,Hill,Germany,2023-01-02\n"


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A home, and beside it a folder with an export of Salesforce."""
    run("init", "--home", tmp_path / "home", "--admin", "ana@example.com")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "accounts.csv").write_text(ACCOUNTS, encoding="utf-8")
    return tmp_path


def test_an_export_is_recognised_tried_and_imported(ready: Path) -> None:
    command = ("import", "auto", "--from", ready / "export", "--home", ready / "home")
    tried = run(*command, "--dry-run")
    assert tried.exit_code == 0, tried.output
    assert "accounts.csv -> account (accounts): 1 rows: 1 written" in tried.stdout
    assert tried.stdout.endswith("dry run: nothing was written\n")
    imported = json.loads(run(*command, "--json").stdout)
    assert (imported["mapping"], imported["dry_run"]) == ("salesforce", False)
    assert imported["steps"][0]["written"] == 1


def test_what_was_imported_is_exported(ready: Path) -> None:
    run("import", "auto", "--from", ready / "export", "--home", ready / "home")
    made = run("export", "--to", ready / "out", "--home", ready / "home", "account", "user")
    assert made.exit_code == 0, made.output
    assert made.stdout == "user.csv: 1 rows\naccount.csv: 1 rows\n"
    assert "Hill" in (ready / "out" / "account.csv").read_text(encoding="utf-8-sig")


def test_an_export_as_nobody_or_of_nothing_is_refused_in_one_line(ready: Path) -> None:
    for arguments in (["--as", "nobody@example.com"], ["unicorn"]):
        refused = run("export", "--to", ready / "out", "--home", ready / "home", *arguments)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "crm: " in refused.stderr
    assert not (ready / "out").exists()


def test_how_a_bi_tool_reads_is_printed(ready: Path) -> None:
    told = run("views", "sql", "--home", ready / "home")
    assert told.exit_code == 0, told.output
    assert "?mode=ro" in told.stdout
    assert "SELECT * FROM bi_stage_history;" in told.stdout
    assert "prices, costs and personal data" in told.stdout
