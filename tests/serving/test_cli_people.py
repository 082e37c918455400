"""Searching, merging and personal data from the command line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from crm_core.changes import Change
from crm_core.personal import list_places_with
from crm_core.records import Lead, User
from crm_core.store import Store
from serving.cli import main
from tests.factories import make_account, make_activity, make_lead, make_user

MAIL = "wang.fang@fangda.example"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    run("init", "--home", tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{home / 'crm.db'}")
    yield opened
    opened.close()


@pytest.fixture
def leads(store: Store) -> list[int]:
    """Ana's lead and a copy of it, and one of nobody's that is somebody else."""
    with store.transaction() as transaction:
        ana = make_user(transaction, "Ana")
        first = make_lead(transaction, email=MAIL, phone="+86 138 0013 8000", owner_id=ana.id)
        copy = make_lead(transaction, email=MAIL, owner_id=ana.id)
        other = make_lead(transaction, name="Otto Berg", company="Berg", email="otto@berg.example")
        make_activity(transaction, lead_id=first.id, subject="Call", body="Wang Fang wants pumps")
        return [first.id, copy.id, other.id]


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=typed)


def told(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_search_finds_with_slips_and_says_where(home: Path, leads: list[int]) -> None:
    found = told("search", "Wang Fnag", "--home", home)
    assert {(hit["record_type"], hit["id"]) for hit in found["hits"]} >= {
        ("lead", leads[0]),
        ("lead", leads[1]),
    }
    notes = told("search", "pumps", "--home", home)["hits"]
    assert [(hit["record_type"], hit["page_type"], hit["page_id"]) for hit in notes] == [
        ("activity", "lead", leads[0])
    ]
    assert "Wang Fang wants pumps" in run("search", "pumps", "--home", home).stdout


def test_search_goes_on_behind_a_cursor(home: Path, leads: list[int]) -> None:
    first = told("search", "Fangda", "--limit", 1, "--home", home)
    second = told("search", "Fangda", "--limit", 1, "--after", first["next_cursor"], "--home", home)
    assert {first["hits"][0]["id"], second["hits"][0]["id"]} == set(leads[:2])
    assert second["next_cursor"] is None


def test_search_shows_a_rep_what_the_rep_sees(home: Path, leads: list[int]) -> None:
    assert told("search", "Berg", "--home", home)["hits"] != []
    assert told("search", "Berg", "--as", "ana@example.com", "--home", home)["hits"] == []


def test_duplicates_are_listed_and_merged(home: Path, store: Store, leads: list[int]) -> None:
    listed = told("duplicates", "list", "lead", "--home", home)
    assert [(pair["first"]["id"], pair["second"]["id"]) for pair in listed["pairs"]] == [tuple(leads[:2])]
    assert (
        run(
            "duplicates", "merge", "lead", leads[0], leads[1], "--as", "ana@example.com", "--home", home
        ).exit_code
        == 0
    )
    with store.reading() as session:
        assert session.get_one(Lead, leads[1]).merged_into_id == leads[0]
    assert told("duplicates", "list", "lead", "--home", home)["total"] == 0


def test_the_rule_merges_and_only_for_an_administrator(home: Path, leads: list[int]) -> None:
    refused = run("duplicates", "auto", "lead", "--as", "ana@example.com", "--home", home)
    assert (refused.exit_code, refused.stderr.count("may not merge records by the rule")) == (1, 1)
    merged = told("duplicates", "auto", "lead", "--at-least", "0.9", "--home", home)["merged"]
    assert [(each["kept_id"], each["gone_id"]) for each in merged] == [tuple(leads[:2])]


def test_what_cannot_be_merged_is_refused_in_one_line(home: Path, leads: list[int]) -> None:
    for keep, gone in ((leads[0], leads[0]), (leads[0], 9_999)):
        refused = run("duplicates", "merge", "lead", keep, gone, "--home", home)
        assert refused.exit_code == 1
        assert refused.stderr.count("\n") == 1


def test_an_export_is_json_tables_and_a_page_and_is_logged(
    home: Path, store: Store, leads: list[int], tmp_path: Path
) -> None:
    told("person", "export", MAIL, "--to", tmp_path / "out", "--home", home)
    whole = json.loads((tmp_path / "out" / "person.json").read_text())
    assert {each["id"] for each in whole["records"]} == set(leads[:2])
    assert "Wang Fang wants pumps" in (tmp_path / "out" / "index.html").read_text()
    assert MAIL in (tmp_path / "out" / "records.csv").read_text()
    with store.reading() as session:
        rows = session.scalars(select(Change).where(Change.action == "exported")).all()
        admin = session.scalars(select(User).where(User.role == "admin")).one()
    assert {(row.record_type, row.record_id, row.actor_id) for row in rows} == {
        ("lead", each, admin.id) for each in leads[:2]
    }


def test_an_export_may_be_a_zip_file(home: Path, leads: list[int], tmp_path: Path) -> None:
    report = told("person", "export", f"lead:{leads[0]}", "--to", tmp_path / "wang.zip", "--home", home)
    with zipfile.ZipFile(tmp_path / "wang.zip") as archive:
        assert archive.namelist() == report["files"]


def test_erasing_asks_first_and_then_leaves_no_byte(home: Path, store: Store, leads: list[int]) -> None:
    needles = ["Wang Fang", MAIL, "138 0013 8000"]
    assert run("person", "erase", MAIL, "--home", home, typed="n\n").exit_code == 1
    assert list_places_with(home, needles) != []
    store.close()
    done = told("person", "erase", MAIL, "--yes", "--home", home)
    assert {each["id"] for each in done["records"]} == set(leads[:2])
    assert done["purged"] is True
    assert list_places_with(home, needles) == []


def test_erasing_says_what_was_erased(home: Path, store: Store, leads: list[int]) -> None:
    store.close()
    said = run("person", "erase", f"lead:{leads[0]}", "--yes", "--home", home).stdout
    assert f"lead {leads[0]}, lead {leads[1]}" in said
    assert "rows of the log" in said


def test_opting_out_covers_all_records_of_the_person_and_back(
    home: Path, store: Store, leads: list[int]
) -> None:
    out = told("person", "opt-out", f"lead:{leads[0]}", "--home", home)
    assert {each["id"] for each in out["records"]} == set(leads[:2])
    with store.reading() as session:
        silent = set(session.scalars(select(Lead.id).where(Lead.scoring_opt_out.is_(True))))
    assert silent == set(leads[:2])
    told("person", "opt-in", MAIL, "--home", home)
    with store.reading() as session:
        assert list(session.scalars(select(Lead.id).where(Lead.scoring_opt_out.is_(True)))) == []


@pytest.mark.parametrize("command", ["find", "export", "erase", "opt-out"])
def test_personal_data_is_for_administrators(
    home: Path, leads: list[int], command: str, tmp_path: Path
) -> None:
    options: dict[str, list[object]] = {"export": ["--to", tmp_path / "out"], "erase": ["--yes"]}
    more = options.get(command, [])
    refused = run("person", command, MAIL, *more, "--as", "ana@example.com", "--home", home)
    assert refused.exit_code == 1
    assert "the role rep may not" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("who", ["deal:1", "lead:0", "somebody"])
def test_who_is_meant_must_be_clear(home: Path, who: str) -> None:
    refused = run("person", "find", who, "--home", home)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "a mail address, lead:ID or contact:ID" in refused.stderr


def test_with_two_administrators_one_says_who_acts(home: Path, store: Store, leads: list[int]) -> None:
    with store.transaction() as transaction:
        make_user(transaction, "Adam", role="admin")
        make_account(transaction)
    assert "--as EMAIL" in run("search", "Berg", "--home", home).stderr
    assert told("search", "Berg", "--as", "adam@example.com", "--home", home)["hits"] != []
    assert "no user" in run("search", "Berg", "--as", "no@body.example", "--home", home).stderr
