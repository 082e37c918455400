"""Who came in, and who read what about people: in the operation log, for administrators."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select

from crm_core.clock import FixedClock
from crm_core.operations import OperationRow
from crm_core.records import Contact, Lead
from crm_core.store import Store
from serving.cli import main
from serving.journal import Journal
from tests.factories import make_lead
from tests.serving.conftest import PASSWORD, Cast, csrf_of, logged_in


def listed(client: FlaskClient, cast: Cast, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/operations?{query}", headers=cast.header("Adam"))
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.get_json()["items"]
    return items


def done(client: FlaskClient, cast: Cast, query: str = "") -> list[tuple[str, str, int | None]]:
    return [(each["done"], each["via"], each["user_id"]) for each in listed(client, cast, query)]


@pytest.fixture
def leads(store: Store, cast: Cast) -> list[Lead]:
    with store.transaction() as transaction:
        return [make_lead(transaction, owner_id=cast["Ana"].id) for _ in range(3)]


def log_in(client: FlaskClient, email: str, password: str) -> None:
    token = csrf_of(client.get("/login").text)
    client.post("/login", data={"csrf_token": token, "email": email, "password": password})


def test_logins_are_written_down_with_who_and_from_where(app: Flask, client: FlaskClient, cast: Cast) -> None:
    log_in(client, "ana@example.com", "my secret, mistyped")
    log_in(client, "no such person: my password", "x")
    log_in(client, "ana@example.com", PASSWORD)
    client.post("/logout", data={"csrf_token": csrf_of(client.get("/leads").text)})
    ana = cast["Ana"].id
    assert done(app.test_client(), cast) == [
        ("logged_out", "page", ana),
        ("logged_in", "page", ana),
        ("login_failed", "page", None),
        ("login_failed", "page", ana),
    ]
    assert {each["address"] for each in listed(client, cast)} == {"127.0.0.1"}


def test_nothing_that_was_typed_is_kept(client: FlaskClient, store: Store, cast: Cast) -> None:
    log_in(client, "typed@in.example", "typed in")
    with store.reading() as session:
        assert "typed" not in str([vars(row) for row in session.scalars(select(OperationRow))])


def test_reading_a_lead_is_written_down_by_page_and_by_api(
    app: Flask, client: FlaskClient, cast: Cast, leads: list[Lead]
) -> None:
    client.get(f"/api/v1/leads/{leads[0].id}", headers=cast.header("Ana"))
    logged_in(app, cast["Mara"]).get(f"/leads/{leads[0].id}")
    read = listed(client, cast, "done=read")
    assert [(each["via"], each["user_id"], each["ids"]) for each in read] == [
        ("page", cast["Mara"].id, [leads[0].id]),
        ("api", cast["Ana"].id, [leads[0].id]),
    ]
    assert read[1]["token_id"] is not None


def test_a_list_is_one_row_with_all_that_it_showed(
    client: FlaskClient, cast: Cast, leads: list[Lead]
) -> None:
    client.get("/api/v1/leads", headers=cast.header("Ana"))
    (row,) = listed(client, cast, "done=listed")
    assert row["ids"] == [lead.id for lead in leads]
    found = listed(client, cast, f"record_type=lead&record_id={leads[1].id}")
    assert [each["id"] for each in found] == [row["id"]]
    assert listed(client, cast, "record_type=lead&record_id=1000") == []


@pytest.mark.parametrize(
    "path", ["/api/v1/search?q=Fangda", "/api/v1/duplicates?record_type=lead", "/api/v1/changes"]
)
def test_finding_somebody_is_reading(client: FlaskClient, cast: Cast, leads: list[Lead], path: str) -> None:
    shown = client.get(path, headers=cast.header("Ana")).get_json()
    assert shown["items"]
    (row,) = listed(client, cast, "done=listed")
    assert set(row["ids"]) == {lead.id for lead in leads}


def test_a_change_that_changes_nothing_is_reading(client: FlaskClient, cast: Cast, leads: list[Lead]) -> None:
    header, first, second = cast.header("Ana"), leads[0].id, leads[1].id
    assert client.patch(f"/api/v1/leads/{first}", json={}, headers=header).get_json()["name"]
    (row,) = listed(client, cast)
    assert (row["done"], row["ids"]) == ("read", [first])
    writes = [
        {"op": "update", "type": "leads", "id": second, "record": {}},
        {"op": "update", "type": "leads", "id": first, "record": {"title": "Head"}},
    ]
    client.post("/api/v1/batch", json={"operations": writes}, headers=header)
    (row, _) = listed(client, cast)
    assert (row["done"], row["ids"]) == ("listed", [second])


def test_scoring_somebody_is_reading(
    client: FlaskClient, cast: Cast, leads: list[Lead], promote: Callable[..., object]
) -> None:
    promote()
    ids = [lead.id for lead in leads]
    assert (
        client.post("/api/v1/leads/scores", json={"ids": ids}, headers=cast.header("Ana")).status_code == 200
    )
    (row,) = listed(client, cast)
    assert (row["done"], row["ids"]) == ("listed", ids)


def test_what_was_refused_was_not_read(client: FlaskClient, cast: Cast, leads: list[Lead]) -> None:
    assert client.get(f"/api/v1/leads/{leads[0].id}", headers=cast.header("Otto")).status_code == 404
    assert listed(client, cast) == []


def test_a_read_waits_and_does_not_write(app: Flask, store: Store, cast: Cast, leads: list[Lead]) -> None:
    client, journal = app.test_client(), app.extensions["crm"].journal
    client.get("/api/v1/leads", headers=cast.header("Ana"))
    journal.flush()
    writes: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *given: writes.append(given[2]))
    client.get(f"/api/v1/leads/{leads[0].id}", headers=cast.header("Ana"))
    assert not [each for each in writes if not each.startswith(("SELECT", "BEGIN"))]
    journal.flush()
    assert [each for each in writes if each.startswith("INSERT INTO operations")]


def test_what_could_not_be_written_is_written_later(
    store: Store, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(store, kept_days=1)
    journal.note_use(1, store.clock.now())
    with monkeypatch.context() as patch:
        patch.setattr(store, "transaction", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            journal.flush()
    assert list(journal._used) == [1]
    journal.flush()
    assert list(journal._used) == []


def test_a_thread_writes_and_stopping_it_leaves_nothing(
    app: Flask, store: Store, cast: Cast, leads: list[Lead]
) -> None:
    journal = app.extensions["crm"].journal
    journal.start()
    app.test_client().get("/api/v1/leads", headers=cast.header("Ana"))
    journal.stop()
    with store.reading() as session:
        assert session.scalars(select(OperationRow.done)).all() == ["listed"]


def test_handling_a_person_is_written_down_at_once(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, email="wang@fang.example", name="Wang Fang")
    for call in ("find", "export", "erase"):
        body = {"mail": "wang@fang.example"}
        assert (
            client.post(f"/api/v1/people/{call}", json=body, headers=cast.header("Adam")).status_code == 200
        )
    with store.reading() as session:
        rows = session.scalars(select(OperationRow).order_by(OperationRow.id)).all()
        kept = str([vars(row) for row in rows])
    assert [row.done for row in rows] == ["person_found", "person_exported", "person_erased"]
    assert {row.user_id for row in rows} == {cast["Adam"].id}
    assert all(row.ids for row in rows)
    assert "ang" not in kept.replace("change", "")  # neither name nor address of the erased person


def test_keys_are_written_down(client: FlaskClient, cast: Cast) -> None:
    body = {"name": "x", "scopes": ["read"]}
    made = client.post("/api/v1/tokens", json=body, headers=cast.header("Ana")).get_json()
    client.delete(f"/api/v1/tokens/{made['id']}", headers=cast.header("Adam"))
    noted = [(each["done"], each["token_id"], each["user_id"]) for each in listed(client, cast)]
    assert noted == [
        ("token_revoked", made["id"], cast["Adam"].id),
        ("token_made", made["id"], cast["Ana"].id),
    ]


@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana"])
def test_the_log_is_for_administrators(client: FlaskClient, cast: Cast, name: str) -> None:
    assert client.get("/api/v1/operations", headers=cast.header(name)).status_code == 403


@pytest.mark.parametrize("query", ["record_type=lead", "record_id=1", "done=nothing", "cursor=x", "limit=0"])
def test_a_question_that_makes_no_sense_is_refused(client: FlaskClient, cast: Cast, query: str) -> None:
    assert client.get(f"/api/v1/operations?{query}", headers=cast.header("Adam")).status_code == 422


def test_the_log_is_read_page_by_page(client: FlaskClient, cast: Cast, leads: list[Lead]) -> None:
    for lead in leads:
        client.get(f"/api/v1/leads/{lead.id}", headers=cast.header("Ana"))
    path, ids = "/api/v1/operations?limit=2", []
    page = client.get(path, headers=cast.header("Adam")).get_json()
    ids += [each["ids"][0] for each in page["items"]]
    page = client.get(f"{path}&cursor={page['next_cursor']}", headers=cast.header("Adam")).get_json()
    ids += [each["ids"][0] for each in page["items"]]
    assert (ids, page["next_cursor"]) == ([lead.id for lead in reversed(leads)], None)


def test_what_is_old_is_forgotten(
    store: Store, cast: Cast, clock: FixedClock, app: Flask, leads: list[Lead]
) -> None:
    client = app.test_client()
    client.get("/api/v1/leads", headers=cast.header("Ana"))
    journal = Journal(store, kept_days=30)
    app.extensions["crm"].journal.flush()
    clock.advance(timedelta(days=31))
    journal.note_use(1, clock.now())
    journal.flush()
    with store.reading() as session:
        assert session.scalars(select(OperationRow.id)).all() == []


def test_the_command_line_writes_down_and_shows(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--home", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    run("init")
    run("token", "admin@example.com")
    run("password", "admin@example.com")
    run("export", "lead", "--to", str(tmp_path / "out"))
    found = json.loads(run("operations", "--json"))["operations"]
    assert [each["done"] for each in found] == ["records_exported", "password_set", "token_made"]
    assert {each["via"] for each in found} == {"command"}
    assert "token_made" in run("operations", "--done", "token_made", "--user", "admin@example.com")


def test_contacts_are_people_too(app: Flask, store: Store, cast: Cast) -> None:
    from serving.journal import people_told

    with store.transaction() as transaction:
        contact = transaction.create(Contact(name="Li Na", email="li@na.example"))
    with app.test_request_context("/api/v1/anything"):
        from flask import Response, g

        g.caller = cast["Ana"]
        with store.reading() as session:
            session.get(Contact, contact.id)
        (told,) = people_told(Response(), store.clock.now())
    assert (told.record_type, told.ids) == ("contact", (contact.id,))
