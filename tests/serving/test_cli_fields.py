"""Custom fields and record types from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from crm_core.changes import Change
from crm_core.store import Store
from serving.cli import main
from tests.factories import make_user

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command on a home of its own."""

    def command(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--home", str(tmp_path / "home")])

    assert command("init").exit_code == 0
    return command


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_field_is_declared_listed_changed_retired_and_restored(run: Run, tmp_path: Path) -> None:
    declare = ("fields", "declare", "lead", "grade", "--kind", "choice", "--known", "history")
    words = (
        "--choice",
        "A=Key account=重点客户",
        "--choice",
        "B",
        "--zh",
        "客户等级",
        "--as",
        "admin@example.com",
    )
    made = told(run(*declare, *words, "--json"))
    assert made["name"] == "custom.grade"
    assert made["choices"][0] == {"value": "A", "label_en": "Key account", "label_zh": "重点客户"}
    changed = told(run("fields", "change", "lead", "grade", "--choice", "C", "--required", "--json"))
    assert ([each["value"] for each in changed["choices"]], changed["required"]) == (["A", "B", "C"], True)
    assert told(run("fields", "retire", "lead", "custom.grade", "--json"))["retired_at"]
    assert told(run("fields", "restore", "lead", "grade", "--json"))["retired_at"] is None
    assert [each["name"] for each in told(run("fields", "list", "--json"))["fields"]] == ["custom.grade"]
    shown = run("fields", "list", "lead").stdout
    assert "客户等级" in shown
    store = Store(f"sqlite:///{tmp_path / 'home' / 'crm.db'}")
    with store.reading() as session:
        first = session.scalars(select(Change).where(Change.record_type == "field")).first()
        assert first is not None
        assert (first.actor_id, first.source) == (1, "api")
    store.close()


def test_only_an_administrator_declares(run: Run, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'home' / 'crm.db'}")
    with store.transaction() as transaction:
        make_user(transaction, "Mara", role="manager")
    store.close()
    declare = ("fields", "declare", "lead", "size", "--kind", "number", "--known", "history")
    result = run(*declare, "--as", "mara@example.com")
    assert (result.exit_code, "manager may not declare fields" in result.stderr) == (1, True)


def test_a_type_is_declared_with_its_fields(run: Run) -> None:
    made = run("types", "declare", "project", "--en", "Project", "--zh", "项目", "--link", "account")
    assert (made.exit_code, made.stdout) == (0, "project is declared\n")
    assert run("fields", "declare", "project", "phase", "--kind", "text", "--known", "history").exit_code == 0
    (kind,) = told(run("types", "list", "--json"))["types"]
    assert (kind["label_zh"], kind["links"]) == ("项目", ["account"])
    assert told(run("types", "retire", "project", "--json"))["retired_at"]
    assert told(run("types", "restore", "project", "--json"))["retired_at"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fields", "list", "leed"), "no record type 'leed'"),
        (("fields", "retire", "lead", "shoe"), "no field 'custom.shoe'"),
        (("fields", "declare", "lead", "Size", "--kind", "text", "--known", "history"), "small letters"),
        (("fields", "retire", "lead", "shoe", "--as", "nobody@example.com"), "no user with id"),
        (("types", "declare", "order", "--en", "x", "--zh", "y"), "taken by the program"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_1(run: Run, words: tuple[str, ...], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert said in result.stderr
