"""The command line: what it answers, how it refuses, and that it starts quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from crm_core.records import Lead, User
from crm_core.store import Store
from crm_core.tokens import find_user_by_token
from serving.auth import find_user_by_password
from serving.cli import main
from tests.factories import make_lead

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"pandas", "sklearn", "lightgbm", "mlflow", "scipy", "matplotlib"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_init_makes_a_home_and_an_administrator_who_can_log_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = json.loads(run("init", "--home", home, "--json").stdout)
    assert made["home"] == str(home)
    store = Store(f"sqlite:///{home / 'crm.db'}")
    with store.reading() as session:
        admin = find_user_by_password(session, made["admin"], made["password"])
        assert admin is not None
        assert admin.role == "admin"
    store.close()


def test_init_again_changes_nothing(tmp_path: Path) -> None:
    run("init", "--home", tmp_path)
    again = run("init", "--home", tmp_path, "--json")
    assert (again.exit_code, json.loads(again.stdout)["password"]) == (0, None)


def test_a_home_without_records_is_refused_in_one_line(tmp_path: Path) -> None:
    for command in (
        ["serve"],
        ["score", "all"],
        ["train", "all"],
        ["models", "list"],
        ["token", "a@b.example"],
    ):
        refused = run(*command, "--home", tmp_path / "nothing")
        assert refused.exit_code == 1, refused.output
        assert refused.stdout == ""
        assert refused.stderr.count("\n") == 1
        assert "crm init" in refused.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["train", "fortune_telling"],
        ["train"],
        ["serve", "--port", "99999"],
        ["import", "olist"],
        ["import", "olist", "--from", "/nowhere/at/all"],
        ["train", "churn", "--as-of", "yesterday"],
        ["train", "churn", "--overrule", "days"],
        ["demo", "--size", "gigantic"],
        ["models", "promote"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_bad_setting_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRM_PORT", "eighty")
    refused = run("init", "--home", tmp_path / "home")
    assert refused.exit_code == 1
    assert "CRM_PORT" in refused.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["train", "score"])
def test_nobody_asks_from_the_future(tmp_path: Path, command: str) -> None:
    run("init", "--home", tmp_path)
    refused = run(command, "churn", "--as-of", "2999-01-01", "--home", tmp_path)
    assert refused.exit_code == 1
    assert "expected an instant up to now" in refused.stderr


@pytest.mark.parametrize("command", ["score", "rescore"])
def test_all_tasks_that_can_be_done_are_done_and_none_is_a_refusal(tmp_path: Path, command: str) -> None:
    run("init", "--home", tmp_path)
    refused = run(command, "all", "--home", tmp_path)
    assert refused.exit_code == 1
    assert refused.stderr.count("left out: no champion") == 3


def test_an_unknown_mapping_is_refused(tmp_path: Path) -> None:
    run("init", "--home", tmp_path)
    refused = run("import", "nonsense", "--from", tmp_path, "--home", tmp_path)
    assert refused.exit_code == 1
    assert "nonsense" in refused.stderr


def test_a_token_acts_as_its_user_and_a_new_password_fits(tmp_path: Path) -> None:
    run("init", "--home", tmp_path)
    key = run("token", "Admin@example.com", "--home", tmp_path).stdout.strip()
    password = run("password", "admin@example.com", "--home", tmp_path).stdout.strip()
    store = Store(f"sqlite:///{tmp_path / 'crm.db'}")
    with store.reading() as session:
        user = find_user_by_token(session, key, now=store.clock.now())
        assert user is not None
        assert find_user_by_password(session, "admin@example.com", password) is not None
    store.close()
    assert run("token", "nobody@example.com", "--home", tmp_path).exit_code == 1


def test_the_demonstration_leaves_other_data_alone(tmp_path: Path) -> None:
    run("init", "--home", tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'crm.db'}")
    with store.transaction() as transaction:
        make_lead(transaction, company="Precious")
    refused = run("demo", "--no-serve", "--home", tmp_path)
    assert refused.exit_code == 1
    assert "no demonstration" in refused.stderr
    with store.reading() as session:
        assert [lead.company for lead in session.scalars(select(Lead))] == ["Precious"]
        assert session.scalars(select(User.email)).all() == ["admin@example.com"]
    store.close()


def test_the_demonstration_leaves_another_company_alone(tmp_path: Path) -> None:
    (tmp_path / "simulation").mkdir()
    (tmp_path / "simulation" / "company.json").write_text('{"size": "medium", "seed": 7, "complete": true}')
    refused = run("demo", "--no-serve", "--size", "small", "--home", tmp_path)
    assert refused.exit_code == 1
    assert "size medium and seed 7" in refused.stderr


def loaded_by(code: str) -> set[str]:
    """Return the heavy libraries that a program has loaded at its end."""
    return modules_of(code) & HEAVY


def modules_of(code: str) -> set[str]:
    tail = "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    assert modules_of("import serving.cli") & {*HEAVY, "sqlalchemy", "numpy", "pyarrow"} == set()


def test_plain_pages_need_no_heavy_library(tmp_path: Path) -> None:
    run("init", "--home", tmp_path)
    code = f"""
from pathlib import Path
from crm_core.records import User
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.modelling import scorer_loader
from serving.rescoring import Rescorer
from serving.settings import Settings
from tests.serving.conftest import logged_in
settings = Settings(home=Path({str(tmp_path)!r}))
store = Store(settings.home_folder.database_url)
champions = Champions(store, scorer_loader(settings.home_folder, store))
app = create_app(settings, store, champions)
with store.reading() as session:
    admin = session.get_one(User, 1)
    session.expunge_all()
client = logged_in(app, admin)
for path in ("/leads", "/deals", "/customers", "/models", "/api/docs", "/readyz"):
    assert client.get(path).status_code == 200, path
Rescorer(store, champions).run_once()
"""
    assert loaded_by(code) == set()
