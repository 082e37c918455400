"""Importing a file on the pages: guessed, chosen, tried, and only then written."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from crm_core.access import FieldRight, RoleRight, Scope
from crm_core.changes import Change
from crm_core.fields import FieldDeclaration, FieldKind, Known, declare_field
from crm_core.records import Account, Deal, Lead
from crm_core.store import Store
from serving.importing import LONGEST_FILE
from serving.job_handlers import handlers
from serving.jobs import JobRunner
from serving.settings import Settings
from tests.serving.conftest import Cast, csrf_of, logged_in

GOOD = "姓名,公司,邮箱,手机\n王芳,方大水泵,wang@fangda.example,13912345678\n李强,远景,li@yuanjing.example,\n"


def send(client: FlaskClient, text: str | bytes, name: str = "leads.csv", kind: str = "lead") -> TestResponse:
    content = text if isinstance(text, bytes) else text.encode()
    data = {
        "csrf_token": csrf_of(client.get("/import").text),
        "record_type": kind,
        "file": (io.BytesIO(content), name),
    }
    return client.post("/import", data=data, content_type="multipart/form-data")


def fields_of(page: str) -> dict[str, str]:
    """Return what the form of the columns says, as a browser would send it."""
    found = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    found["origin"] = re.findall(r'id="origin" name="origin"[^>]*value="([^"]*)"', page)[0]
    for name, inner in re.findall(r'<select[^>]* name="([^"]+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', inner)
        found[name] = chosen[1] if chosen else ""
    return found


def choose(client: FlaskClient, path: str, then: str = "check", **more: str) -> TestResponse:
    data = {**fields_of(client.get(path).text), **more, "then": then}
    return client.post(f"{path}/plan", data=data)


def work(store: Store, settings: Settings) -> None:
    while JobRunner(store, handlers(settings)).run_once():
        pass


def run(client: FlaskClient, path: str, store: Store, settings: Settings) -> str:
    client.post(f"{path}/run", data={"csrf_token": csrf_of(client.get(path).text)})
    work(store, settings)
    return client.get(path).text


def count(store: Store, model: type[Lead | Account | Deal] = Lead) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


@pytest.fixture
def ana(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Ana"])


def test_columns_are_guessed_from_chinese_names_and_from_what_they_hold(ana: FlaskClient) -> None:
    path = send(ana, GOOD).location
    chosen = fields_of(ana.get(path).text)
    assert [chosen[f"column-{at}"] for at in range(4)] == ["name", "company", "email", "phone"]
    assert chosen["key"] == "邮箱"


def test_nothing_is_written_before_the_import_itself(
    ana: FlaskClient, store: Store, settings: Settings, cast: Cast
) -> None:
    path = send(ana, GOOD).location
    assert "王芳" in ana.get(path).text  # the preview
    assert choose(ana, path).status_code == 302
    assert 'data-progress="' in ana.get(path).text
    work(store, settings)
    assert "Import 2 rows" in ana.get(path).text
    assert count(store) == 0
    assert "Imported" in run(ana, path, store, settings)
    with store.reading() as session:
        leads = {lead.name: lead for lead in session.scalars(select(Lead))}
        author = session.scalars(select(Change.actor_id).where(Change.record_type == "lead")).first()
        declared = session.scalar(select(func.count()).select_from(FieldDeclaration))
    assert leads["王芳"].company == "方大水泵"
    assert {lead.owner_id for lead in leads.values()} == {cast["Ana"].id}
    assert author == cast["Ana"].id
    assert declared == 0, "a list of a page says nothing about when fields are known"


def test_a_file_in_gbk_with_semicolons_is_read(ana: FlaskClient) -> None:
    path = send(ana, GOOD.replace(",", ";").encode("gb18030")).location
    page = ana.get(path).text
    assert "gb18030" in page
    assert "王芳" in page


def test_a_row_with_an_error_is_refused_and_all_others_are_taken(
    ana: FlaskClient, store: Store, settings: Settings
) -> None:
    text = 'name,company,employees\nJo,Berg,12\nAl,Tal,many\nBo,Feld,"1,200"\n'
    path = send(ana, text).location
    assert "refused" in ana.get(path).text
    choose(ana, path)
    work(store, settings)
    page = run(ana, path, store, settings)
    assert "<dd>2</dd>" in page
    assert "many" in page
    with store.reading() as session:
        employees = dict(session.execute(select(Lead.name, Lead.employees)).all())
    assert employees == {"Jo": 12, "Bo": 1200}


def test_refused_rows_come_back_with_their_reasons_and_no_formula(
    ana: FlaskClient, store: Store, settings: Settings
) -> None:
    path = send(ana, 'name,employees\nJo,12\n"=HYPERLINK(""x"")",many\n').location
    choose(ana, path)
    work(store, settings)
    lines = ana.get(f"{path}/refused.csv").get_data().decode("utf-8-sig").splitlines()
    assert lines[0] == "line,refused because,name,employees"
    assert len(lines) == 2
    line, why, name, employees = next(csv.reader([lines[1]]))
    assert (line, name, employees) == ("3", '\'=HYPERLINK("x")', "many")
    assert why.startswith("employees: expected a whole number")


def test_the_same_file_sent_again_changes_nothing(ana: FlaskClient, store: Store, settings: Settings) -> None:
    for _ in range(2):
        path = send(ana, GOOD).location
        choose(ana, path)
        work(store, settings)
        page = ana.get(path).text
        if "Import 2 rows" in page:
            run(ana, path, store, settings)
    assert "no row is new or changed" in page
    assert count(store) == 2


def test_a_rep_reaches_no_colleagues_record_through_a_file(
    app: Flask, ana: FlaskClient, store: Store, settings: Settings, cast: Cast
) -> None:
    ben = logged_in(app, cast["Ben"])
    for client, text in ((ben, GOOD), (ana, GOOD.replace("方大水泵", "别的"))):
        path = send(client, text).location
        choose(client, path)
        work(store, settings)
        run(client, path, store, settings)
    with store.reading() as session:
        found = session.execute(select(Lead.company, Lead.owner_id).where(Lead.name == "王芳")).all()
    assert found == [("方大水泵", cast["Ben"].id)]


def test_an_administrator_updates_what_came_before(
    app: Flask, store: Store, settings: Settings, cast: Cast
) -> None:
    adam = logged_in(app, cast["Adam"])
    for text in (GOOD, GOOD.replace("方大水泵", "方大集团")):
        path = send(adam, text).location
        choose(adam, path)
        work(store, settings)
        run(adam, path, store, settings)
    with store.reading() as session:
        assert session.scalars(select(Lead.company).where(Lead.name == "王芳")).all() == ["方大集团"]


def test_rows_without_anything_to_tell_them_apart_are_all_new(
    ana: FlaskClient, store: Store, settings: Settings
) -> None:
    path = send(ana, "name,company\nJo,Berg\nJo,Berg\n").location
    assert fields_of(ana.get(path).text)["key"] == ""
    choose(ana, path)
    work(store, settings)
    run(ana, path, store, settings)
    assert count(store) == 2


def test_a_custom_field_is_offered_by_its_label_and_its_choices_are_held_to(
    app: Flask, store: Store, settings: Settings, cast: Cast
) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.since",
            kind=FieldKind.DAY,
            known=Known.CREATION,
            label_en="Customer since",
            label_zh="合作日期",
        )
    adam = logged_in(app, cast["Adam"], "zh")
    path = send(adam, "姓名,合作日期\n王芳,2024年3月5日\n").location
    page = adam.get(path).text
    assert fields_of(page)["column-1"] == "custom.since"
    assert "2024年3月5日" in page
    choose(adam, path)
    work(store, settings)
    run(adam, path, store, settings)
    with store.reading() as session:
        (lead,) = session.scalars(select(Lead))
    assert lead.custom is not None


def test_a_field_that_may_not_be_written_is_not_offered_and_not_taken(
    app: Flask, ana: FlaskClient, store: Store
) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="phone", read=False, write=False)
        transaction.session.add(hidden)
    path = send(ana, GOOD).location
    page = ana.get(path).text
    assert 'value="phone"' not in page
    refused = choose(ana, path, **{"column-3": "phone"})
    assert refused.status_code == 422
    assert "may not import lead.phone" in refused.text
    assert app is not None


def test_a_right_that_was_taken_meanwhile_holds_when_the_job_runs(
    ana: FlaskClient, store: Store, settings: Settings
) -> None:
    path = send(ana, GOOD).location
    choose(ana, path)
    with store.transaction() as transaction:
        transaction.session.add(RoleRight(role="rep", record_type="lead", read=Scope.OWN, write=Scope.NONE))
    work(store, settings)
    assert "may not create" in ana.get(path).text
    assert count(store) == 0


def test_an_import_of_somebody_else_does_not_exist(app: Flask, ana: FlaskClient, cast: Cast) -> None:
    path = send(ana, GOOD).location
    ben = logged_in(app, cast["Ben"])
    for address in (path, f"{path}/progress", f"{path}/refused.csv"):
        assert ben.get(address).status_code == 404, address


def test_an_analyst_may_not_import(app: Flask, cast: Cast) -> None:
    assert logged_in(app, cast["Dana"]).get("/import").status_code == 403


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "leads.csv", "is empty"),
        (b"name\nJo\n", "leads.exe", "ends in"),
        (b"\x00\xff\xfe\x00" * 40, "leads.csv", "encoding"),
        (b"PK\x03\x04 no sheet", "leads.xlsx", "leads"),
        (b"name,name\nJo,Jo\n", "leads.csv", "two columns"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_reason(
    ana: FlaskClient, home: Path, content: bytes, name: str, words: str
) -> None:
    answer = send(ana, content, name)
    assert answer.status_code == 422
    assert words in answer.text or name.endswith("xlsx")
    assert 'role="alert"' in answer.text
    kept = home / "imports"
    assert not kept.exists() or not list(kept.iterdir())


@pytest.mark.parametrize(("size", "status"), [(LONGEST_FILE + 5, 422), (LONGEST_FILE + 2**21, 413)])
def test_a_file_that_is_too_large_is_refused(ana: FlaskClient, size: int, status: int) -> None:
    parts = {"csrf_token": csrf_of(ana.get("/import").text), "record_type": "lead"}
    named = [f'--edge\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}' for k, v in parts.items()]
    named.append('--edge\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n')
    body = "\r\n".join(named).encode() + b"x" * size + b"\r\n--edge--\r\n"
    answer = ana.post("/import", data=body, content_type="multipart/form-data; boundary=edge")
    assert answer.status_code == status


def test_deals_begin_in_the_first_stage_and_amounts_are_read_as_written(
    app: Flask, store: Store, settings: Settings, cast: Cast
) -> None:
    adam = logged_in(app, cast["Adam"])
    path = send(adam, '名称,金额\nTen pumps,¥1.5万\nPipes,"¥2,000.50"\n', "deals.csv", "deal").location
    choose(adam, path)
    work(store, settings)
    run(adam, path, store, settings)
    with store.reading() as session:
        deals = session.execute(select(Deal.name, Deal.amount, Deal.stage).order_by(Deal.id)).all()
    assert [(name, float(amount or 0), stage) for name, amount, stage in deals] == [
        ("Ten pumps", 15000.0, "first_contact"),
        ("Pipes", 2000.5, "first_contact"),
    ]


def test_why_rows_were_refused_is_said_in_the_language_of_the_page(
    app: Flask, cast: Cast, store: Store, settings: Settings
) -> None:
    chinese = logged_in(app, cast["Ana"], "zh")
    path = send(chinese, "name,employees\nJo,12\nAl,many\n").location
    assert "employees：应为整数，实际为“many”" in chinese.get(path).text, "in the preview"
    choose(chinese, path)
    work(store, settings)
    assert "<td>应为整数</td>" in chinese.get(path).text, "after it was tried"
    assert "employees：应为整数，实际为“many”" in chinese.get(f"{path}/refused.csv").get_data().decode()
    gone = send(chinese, "name,name\nJo,12\n").text
    assert "有两列都叫“name”" in gone
