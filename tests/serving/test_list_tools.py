"""Lists: filtered, sorted, with chosen columns, kept as views and segments, tagged, and worked on in bulk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select

from crm_core.access import FieldRight, Reader
from crm_core.errors import FilterError, RecordNotFoundError
from crm_core.filters import compile_filter
from crm_core.records import Lead, Tag, User
from crm_core.saved import SavedView, Segment, likes_of
from crm_core.saving import count_in, keep_segment, keep_view
from crm_core.store import Store
from serving.job_handlers import handlers
from serving.jobs import JobRunner
from serving.settings import Settings
from serving.tags import ToldTag, put_tag, tags_of, take_tag
from tests.factories import make_deal, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in

MOST_QUERIES = 12


@pytest.fixture
def leads(store: Store, cast: Cast) -> list[int]:
    """Four of Ana's with 10, 20, 30 and 40 employees, and one of Otto's, in the other team."""
    with store.transaction() as transaction:
        mine = [
            make_lead(
                transaction,
                owner_id=cast["Ana"].id,
                company=f"Company {number}",
                employees=number * 10,
                phone=f"+86 139 0000 000{number}",
            ).id
            for number in range(1, 5)
        ]
        other = make_lead(transaction, owner_id=cast["Otto"].id, company="Elsewhere", employees=40).id
    return [*mine, other]


@pytest.fixture
def ana(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Ana"])


def names_in(page: str) -> list[str]:
    return [
        name
        for name in ("Company 1", "Company 2", "Company 3", "Company 4", "Elsewhere")
        if f">{name}</a>" in page
    ]


def work(store: Store, settings: Settings) -> None:
    while JobRunner(store, handlers(settings)).run_once():
        pass


def post(client: FlaskClient, path: str, data: dict[str, Any]) -> Any:
    token = csrf_of(client.get("/leads?view=0").text)
    return client.post(path, data={"csrf_token": token, **data})


def in_bulk(client: FlaskClient, store: Store, settings: Settings, **data: Any) -> str:
    """Do something with many rows as people do: ask, confirm, wait, look."""
    answer = post(client, "/lists/lead/many", {**data, "sure": "yes"})
    assert answer.status_code == 302, answer.text
    work(store, settings)
    page: str = client.get(answer.location).text
    return page


# ---------------------------------------------------------------- filters, order, columns


def test_a_list_is_filtered_as_the_api_filters(ana: FlaskClient, leads: list[int]) -> None:
    page = ana.get("/leads?filter=employees:between:15,35&filter=company:contains:company").text
    assert names_in(page) == ["Company 2", "Company 3"]


def test_the_small_form_adds_a_condition_to_those_there_are(ana: FlaskClient, leads: list[int]) -> None:
    page = ana.get("/leads?filter=employees:ge:20&f=employees&op=lt&v=40").text
    assert names_in(page) == ["Company 2", "Company 3"]
    assert "Take away: Employees is at least 20" in page
    assert "Take away: Employees is below 40" in page


@pytest.mark.parametrize(
    "query", ["filter=employees:ge:many", "filter=nothing:eq:1", "filter=segment:99", "order=nothing"]
)
def test_what_cannot_be_asked_is_refused_in_words_and_shows_no_row(
    ana: FlaskClient, leads: list[int], query: str
) -> None:
    answer = ana.get(f"/leads?{query}")
    assert answer.status_code in {404, 422}
    assert 'role="alert"' in answer.text
    assert names_in(answer.text) == []


def test_a_list_is_sorted_by_a_header_either_way(ana: FlaskClient, leads: list[int]) -> None:
    page = ana.get("/leads?columns=employees&order=-employees").text
    assert 'aria-sort="descending"' in page
    assert page.index("Company 4") < page.index("Company 1")
    other = ana.get("/leads?columns=employees&order=employees").text
    assert other.index("Company 1") < other.index("Company 4")


def test_the_second_page_keeps_filter_order_and_columns(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        for number in range(30):
            make_lead(transaction, owner_id=cast["Ana"].id, company=f"Firm {number:02}", employees=number)
    client = logged_in(app, cast["Ana"])
    page = client.get("/leads?filter=employees:ge:2&order=employees&columns=employees").text
    link = page.rpartition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = client.get(link).text
    assert "Firm 27" in second
    assert "Firm 29" in second
    assert "Firm 26" not in second
    assert 'aria-sort="ascending"' in second


def test_a_field_that_may_not_be_seen_is_neither_column_nor_condition_nor_order(
    ana: FlaskClient, store: Store, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="phone", read=False, write=False)
        transaction.session.add(hidden)
    page = ana.get("/leads?columns=phone,employees").text
    assert 'value="phone"' not in page
    assert "139 0000" not in page
    assert ana.get("/leads?filter=phone:contains:139").status_code == 422
    assert ana.get("/leads?order=phone").status_code == 422


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            said.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def test_a_list_asks_the_store_at_most_twelve_times(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        keep_segment(
            transaction, cast["Mara"], "lead", "Large", ["employees:ge:30"], shared="team", tag="large"
        )
    client = logged_in(app, cast["Mara"])
    client.get("/leads")
    with counted(store) as said:
        client.get("/leads?filter=employees:ge:1")
    assert len(said) <= MOST_QUERIES, "\n".join(said)


# ---------------------------------------------------------------- views


def test_a_view_keeps_filter_order_and_columns_and_may_begin_the_list(
    ana: FlaskClient, store: Store, cast: Cast, leads: list[int]
) -> None:
    kept = {"name": "Large ones", "filter": "employees:ge:30", "order": "employees", "columns": "employees"}
    answer = post(ana, "/lists/lead/views", {**kept, "shared": "own", "first": "yes"})
    assert answer.status_code == 302
    page = ana.get("/leads").text
    assert names_in(page) == ["Company 3", "Company 4"]
    assert 'aria-sort="ascending"' in page
    assert len(names_in(ana.get("/leads?view=0").text)) == 4
    with store.reading() as session:
        first = likes_of(session, cast["Ana"].id).view_of("lead")
    assert first is not None
    post(ana, "/lists/lead/first", {"view": ""})
    assert len(names_in(ana.get("/leads").text)) == 4


def test_a_view_is_seen_by_whom_it_is_shared_with_and_shows_each_their_own(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    asked = {"status": "open", "filter": ["employees:ge:40"]}
    with store.transaction() as transaction:
        for shared in ("own", "team", "all"):
            keep_view(transaction, cast["Ana"], "lead", f"Kept for {shared}", asked, shared)
        view = transaction.session.scalars(select(SavedView.id).where(SavedView.shared == "all")).one()
    seen = {
        name: [
            shared
            for shared in ("own", "team", "all")
            if f"Kept for {shared}" in logged_in(app, cast[name]).get("/leads").text
        ]
        for name in ("Ana", "Mara", "Otto")
    }
    assert seen == {"Ana": ["own", "team", "all"], "Mara": ["team", "all"], "Otto": ["all"]}
    assert names_in(logged_in(app, cast["Otto"]).get(f"/leads?view={view}").text) == ["Elsewhere"]


def test_only_who_made_a_view_deletes_it(app: Flask, store: Store, cast: Cast, leads: list[int]) -> None:
    with store.transaction() as transaction:
        view = keep_view(transaction, cast["Ana"], "lead", "Mine", {}, "all").id
        own = keep_view(transaction, cast["Ana"], "lead", "Hidden", {}, "own").id
    assert post(logged_in(app, cast["Ben"]), f"/lists/views/{view}/delete", {}).status_code == 404
    assert post(logged_in(app, cast["Adam"]), f"/lists/views/{own}/delete", {}).status_code == 404
    assert post(logged_in(app, cast["Ana"]), f"/lists/views/{view}/delete", {}).status_code == 302
    with store.reading() as session:
        assert session.scalars(select(SavedView.name)).all() == ["Hidden"]


# ---------------------------------------------------------------- segments and tags


def test_a_segment_counts_who_fits_now_for_each_reader(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        segment = keep_segment(transaction, cast["Adam"], "lead", "Large", ["employees:ge:30"], shared="all")
    with store.reading() as session:
        counts = {name: count_in(Reader(session, cast[name]), segment) for name in ("Ana", "Otto", "Adam")}
    assert counts == {"Ana": 2, "Otto": 1, "Adam": 3}
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, leads[0]), {"employees": 99})
    page = logged_in(app, cast["Ana"]).get("/lists/segments").text
    assert 'class="num">3</td>' in page
    assert len(names_in(logged_in(app, cast["Ana"]).get(f"/leads?filter=segment:{segment.id}").text)) == 3


def test_a_segment_filters_the_api_as_well(app: Flask, store: Store, cast: Cast, leads: list[int]) -> None:
    with store.transaction() as transaction:
        segment = keep_segment(
            transaction, cast["Ana"], "lead", "Large", ["employees:ge:30"], shared="own"
        ).id
    client = app.test_client()
    found = client.get(f"/api/v1/leads?filter=segment:{segment}", headers=cast.header("Ana")).get_json()
    assert {each["id"] for each in found["items"]} == {leads[2], leads[3]}
    assert (
        client.get(f"/api/v1/leads?filter=segment:{segment}", headers=cast.header("Ben")).status_code == 404
    )
    assert (
        client.get(f"/api/v1/deals?filter=segment:{segment}", headers=cast.header("Ana")).status_code == 422
    )


def test_a_shared_segment_tells_nothing_of_a_hidden_field(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="employees", read=False, write=False)
        transaction.session.add(hidden)
    with store.transaction() as transaction:
        segment = keep_segment(
            transaction, cast["Adam"], "lead", "Large", ["employees:ge:30"], shared="all", tag="large"
        )
    client = logged_in(app, cast["Ana"])
    assert client.get(f"/leads?filter=segment:{segment.id}").status_code == 422
    assert "asks for what you may not see" in client.get("/lists/segments").text
    with store.reading() as session:
        assert tags_of(Reader(session, cast["Ana"]), "lead", leads) == {}
        assert count_in(Reader(session, cast["Ana"]), segment) is None


def test_a_segment_is_not_made_of_others_nor_of_nothing(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        first = keep_segment(transaction, cast["Ana"], "lead", "A", ["employees:ge:30"], shared="own")
        for conditions in ([], [f"segment:{first.id}"]):
            with pytest.raises(FilterError):
                keep_segment(transaction, cast["Ana"], "lead", "B", conditions, shared="own")


def test_a_rule_of_itself_does_not_turn_in_a_circle(store: Store, cast: Cast, leads: list[int]) -> None:
    with store.transaction() as transaction:
        keep_segment(transaction, cast["Ana"], "lead", "A", ["tag:eq:hot"], shared="own", tag="hot")
        put_tag(transaction, cast["Ana"], "lead", leads[0], "hot")
    with store.reading() as session:
        reader = Reader(session, cast["Ana"])
        query = reader.select(Lead).where(compile_filter(reader, "lead", ["tag:eq:hot"]))
        assert [lead.id for lead in session.scalars(query)] == [leads[0]]


def test_a_tag_by_rule_comes_and_goes_and_stands_beside_those_by_hand(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    with store.transaction() as transaction:
        keep_segment(
            transaction, cast["Ana"], "lead", "Large", ["employees:ge:40"], shared="own", tag="large"
        )
        put_tag(transaction, cast["Ana"], "lead", leads[0], "fair")
        put_tag(transaction, cast["Ana"], "lead", leads[0], "fair")
        put_tag(transaction, cast["Ana"], "lead", leads[3], "fair")
    with store.reading() as session:
        told = tags_of(Reader(session, cast["Ana"]), "lead", leads)
    assert told == {
        leads[0]: [ToldTag(word="fair")],
        leads[3]: [ToldTag(word="fair"), ToldTag(word="large", by_rule=True)],
    }
    client = logged_in(app, cast["Ana"])
    assert names_in(client.get("/leads?filter=tag:eq:large").text) == ["Company 4"]
    assert names_in(client.get("/leads?filter=tag:ne:fair").text) == ["Company 2", "Company 3"]
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, leads[3]), {"employees": 5})
        assert take_tag(transaction, cast["Ana"], "lead", leads[3], "fair")
        assert not take_tag(transaction, cast["Ana"], "lead", leads[3], "fair")
    with store.reading() as session:
        assert tags_of(Reader(session, cast["Ana"]), "lead", [leads[3]]) == {}


def test_nobody_tags_what_they_may_not_change(store: Store, cast: Cast, leads: list[int]) -> None:
    with store.transaction() as transaction, pytest.raises(RecordNotFoundError):
        put_tag(transaction, cast["Ana"], "lead", leads[4], "mine")


# ---------------------------------------------------------------- many rows


def test_giving_away_asks_first_how_many_and_changes_nothing_until_then(
    app: Flask, store: Store, cast: Cast, leads: list[int]
) -> None:
    mara = logged_in(app, cast["Mara"])
    data = {"action": "assign", "owner_to": cast["Ben"].id, "which": "all", "filter": "employees:ge:20"}
    page = post(mara, "/lists/lead/many", data).text
    assert "Give 3 records to Ben?" in page
    with store.reading() as session:
        mine = select(func.count(Lead.id)).where(Lead.owner_id == cast["Ana"].id)
        assert session.scalar(mine) == 4


def test_what_is_given_away_is_told_row_by_row(
    app: Flask, store: Store, settings: Settings, cast: Cast, leads: list[int]
) -> None:
    mara = logged_in(app, cast["Mara"])
    page = in_bulk(mara, store, settings, action="assign", owner_to=cast["Ben"].id, id=leads[:2])
    assert "<dt>changed</dt><dd>2</dd>" in page
    with store.reading() as session:
        owners = dict(session.execute(select(Lead.id, Lead.owner_id)).all())
    assert [owners[lead] for lead in leads] == [cast["Ben"].id] * 2 + [cast["Ana"].id] * 2 + [cast["Otto"].id]


def test_a_row_that_is_refused_leaves_the_others_alone(
    app: Flask, store: Store, settings: Settings, cast: Cast, leads: list[int]
) -> None:
    """Ben has taken one away between the question and the work."""
    ana = logged_in(app, cast["Ana"])
    answer = post(ana, "/lists/lead/many", {"action": "tag", "word": "fair", "id": leads[:3], "sure": "yes"})
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, leads[1]), {"owner_id": cast["Otto"].id})
    work(store, settings)
    page = ana.get(answer.location).text
    assert "<dt>changed</dt><dd>2</dd>" in page
    assert "<dt>refused</dt><dd>1</dd>" in page
    with store.reading() as session:
        assert sorted(session.scalars(select(Tag.subject_id))) == [leads[0], leads[2]]


def test_rows_of_others_are_not_reached_by_their_numbers(
    ana: FlaskClient, store: Store, settings: Settings, leads: list[int]
) -> None:
    in_bulk(ana, store, settings, action="delete", id=[leads[0], leads[4]])
    with store.reading() as session:
        assert set(session.scalars(select(Lead.id).where(Lead.deleted_at.is_(None)))) == set(leads[1:])


def test_a_rep_gives_nobody_else_anything(ana: FlaskClient, cast: Cast, leads: list[int]) -> None:
    data = {"action": "assign", "owner_to": cast["Otto"].id, "id": leads[:1], "sure": "yes"}
    answer = post(ana, "/lists/lead/many", data)
    assert answer.location.startswith("/leads")


def test_an_analyst_exports_and_changes_nothing(
    app: Flask, store: Store, settings: Settings, cast: Cast, leads: list[int]
) -> None:
    dana = logged_in(app, cast["Dana"])
    assert post(dana, "/lists/lead/many", {"action": "delete", "id": leads[:1]}).status_code == 403
    assert 'value="delete"' not in dana.get("/leads").text
    assert "Download leads.csv" in in_bulk(dana, store, settings, action="export", format="csv", which="all")


@pytest.mark.parametrize("format_", ["csv", "xlsx", "parquet"])
def test_an_export_holds_what_fits_and_what_may_be_seen(
    ana: FlaskClient, store: Store, settings: Settings, leads: list[int], format_: str
) -> None:
    with store.transaction() as transaction:
        hidden = FieldRight(role="rep", record_type="lead", field="phone", read=False, write=False)
        transaction.session.add(hidden)
        transaction.update(transaction.get(Lead, leads[3]), {"name": "=1+1"})
    data = {"action": "export", "format": format_, "which": "all", "filter": "employees:ge:30"}
    answer = post(ana, "/lists/lead/many", data)
    work(store, settings)
    with ana.get(f"{answer.location}/file") as file:
        rows = rows_in(file.get_data(), format_)
    assert [row["company"] for row in rows] == ["Company 3", "Company 4"]
    assert "phone" not in rows[0]
    assert rows[1]["name"] == ("'=1+1" if format_ == "csv" else "=1+1")


def rows_in(content: bytes, ending: str) -> list[dict[str, Any]]:
    import csv

    import openpyxl
    import pyarrow.parquet as pq

    if ending == "csv":
        return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    if ending == "parquet":
        found: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
        return found
    header, *rows = openpyxl.load_workbook(io.BytesIO(content)).active.iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_work_of_somebody_else_does_not_exist(
    app: Flask, ana: FlaskClient, cast: Cast, leads: list[int]
) -> None:
    answer = post(ana, "/lists/lead/many", {"action": "export", "format": "csv", "which": "all"})
    ben = logged_in(app, cast["Ben"])
    for path in (answer.location, f"{answer.location}/file", f"{answer.location}/progress"):
        assert ben.get(path).status_code == 404


def test_deals_and_customers_have_the_same_tools(app: Flask, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, owner_id=cast["Ana"].id, name="Ten pumps", amount=5000)
    client = logged_in(app, cast["Ana"])
    page = client.get("/deals?filter=amount:ge:1000&columns=amount,stage,account_id,tags&order=-amount").text
    assert "Ten pumps" in page
    assert client.get("/customers?columns=industry,region").status_code == 200


def test_two_people_who_keep_the_same_name_keep_two_views(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        for person in (cast["Ana"], cast["Ben"], cast["Ana"]):
            keep_view(transaction, person, "lead", "Large", {"q": person.name}, "all")
    with store.reading() as session:
        kept = session.execute(
            select(User.name, SavedView.asked).join(User, User.id == SavedView.user_id)
        ).all()
        assert sorted(kept) == [("Ana", {"q": "Ana"}), ("Ben", {"q": "Ben"})]
        assert session.scalar(select(func.count(Segment.id))) == 0


def test_a_condition_is_said_in_the_words_of_the_page(app: Flask, cast: Cast, leads: list[int]) -> None:
    assert leads
    chinese = logged_in(app, cast["Ana"], "zh").get("/leads?filter=status:in:open,disqualified").text
    assert "状态 属于 进行中, 已排除" in chinese
    assert "status in" not in logged_in(app, cast["Ana"]).get("/leads?filter=status:in:open,lost").text
