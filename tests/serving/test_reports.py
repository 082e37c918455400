"""Reports by the pages, the API and mail: what they show, refuse, keep and send, within rights."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow.parquet as pq
import pytest
from flask import Flask
from sqlalchemy import select, text

from crm_core.access import FieldRight
from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.jobs import Job
from crm_core.records import Line, Payment, Product
from crm_core.reporting.catalogue import DIMENSIONS, MEASURES
from crm_core.reporting.keeping import Asked, Rhythm, keep_report, send_to, stop_mail
from crm_core.saved import SavedReport
from crm_core.store import Store
from serving.job_handlers import handlers
from serving.jobs import JobRunner
from serving.report_mail import REPORT_MAIL, ReportClock
from serving.report_words import DIMENSION, MEASURE, READY
from serving.settings import Settings
from tests.factories import (
    make_account,
    make_activity,
    make_contract,
    make_deal,
    make_lead,
    make_order,
    make_ticket,
)
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.statements import sent_by


@pytest.fixture
def sold(store: Store, clock: FixedClock, cast: Cast) -> dict[str, int]:
    """Ana won two deals and Otto one, in different currencies; Ben called twice."""
    made: dict[str, int] = {}
    with store.transaction() as transaction:
        for name, owner, amount, currency in (
            ("small", "Ana", 1_000, "EUR"),
            ("large", "Ana", 3_000, "EUR"),
            ("yuan", "Otto", 50_000, "CNY"),
        ):
            account = make_account(transaction, name="=cmd()", owner_id=cast[owner].id, industry="=finance")
            deal = make_deal(
                transaction,
                name=f"Deal {name}",
                owner_id=cast[owner].id,
                account_id=account.id,
                amount=Decimal(amount),
                currency=currency,
            )
            close_deal(transaction, deal, won=True)
            made[name] = deal.id
            make_order(transaction, account_id=account.id)
        for _ in range(2):
            lead = make_lead(transaction, owner_id=cast["Ben"].id)
            make_activity(transaction, owner_id=cast["Ben"].id, lead_id=lead.id)
    clock.advance(timedelta(days=1))
    return made


def test_every_measure_and_dimension_has_words_and_every_ready_report_can_be_asked(
    app: Flask, cast: Cast, sold: dict[str, int]
) -> None:
    assert set(MEASURE) == set(MEASURES)
    assert set(DIMENSION) == set(DIMENSIONS)
    client = logged_in(app, cast["Adam"])
    for ready in READY:
        answer = client.get(f"/reports/show?ready={ready.key}")
        assert answer.status_code == 200, (ready.key, re.findall(r'role="alert">([^<]*)', answer.text))
        assert ready.title[0] in answer.text


def test_a_report_shows_each_reader_what_they_may_see(app: Flask, cast: Cast, sold: dict[str, int]) -> None:
    pages = {
        name: logged_in(app, cast[name]).get("/reports/show?ready=people").text
        for name in ("Ana", "Mara", "Adam")
    }
    assert "€4,000" in pages["Ana"]
    assert "Otto" not in pages["Ana"]
    assert "€4,000" in pages["Mara"]
    assert "Otto" not in pages["Mara"]
    assert "CN¥50,000" in pages["Adam"]
    assert "54,000" not in pages["Adam"], "currencies are never added"


def test_a_page_of_reports_needs_few_statements(
    app: Flask, store: Store, cast: Cast, sold: dict[str, int]
) -> None:
    client = logged_in(app, cast["Mara"])
    paths = ("/reports", "/reports/show?ready=people", "/reports/show?ready=stages", "/reports/retention")
    for path in (*paths, "/reports/show?ready=follow_ups&as_of=2026-03-02"):
        with sent_by(store) as sent:
            assert client.get(path).status_code == 200
        asked = [each for each in sent.statements if each.lstrip().upper().startswith(("SELECT", "WITH"))]
        assert len(asked) <= 12, (path, asked)


def test_what_makes_no_sense_or_may_not_be_seen_is_refused_with_the_reason(
    app: Flask, store: Store, cast: Cast, sold: dict[str, int]
) -> None:
    client = logged_in(app, cast["Ana"])
    for asked, why in (
        ("measure=nonsense&rows=owner", "expected one of"),
        ("measure=deals_won&rows=priority", "rows"),
        ("measure=deals_won&measure=leads_created&filter=name:eq:x", "one record type"),
        ("measure=deals_won&rows=owner&columns=owner", "columns"),
        ("measure=deals_won&filter=amount:ge:x", "amount"),
        ("measure=deals_won&period=dates&since=2026-03-01&until=2026-02-01", "until"),
        ("measure=deals_won&period=always", "period"),
    ):
        answer = client.get(f"/reports/show?{asked}")
        assert answer.status_code == 422, asked
        assert why in re.findall(r'role="alert">([^<]*)', answer.text)[0]
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="amount", read=False, write=False)
        )
    shown = client.get("/reports/show?measure=won_amount&rows=owner")
    assert shown.status_code == 422
    assert "may not see won_amount" in shown.text
    assert client.get("/reports/show?measure=deals_won&filter=amount:ge:1").status_code == 422
    assert "4,000" not in client.get("/reports/show?ready=people").text
    assert client.get("/reports/file/csv?measure=won_amount&rows=owner").status_code == 403


def test_days_that_somebody_types_count_instead_of_the_period(
    app: Flask, cast: Cast, sold: dict[str, int]
) -> None:
    client = logged_in(app, cast["Adam"])
    asked = "measure=deals_won&period=last_365&was=last_365&since=2026-01-01&until=2026-01-31"
    assert "Nothing to count" in client.get(f"/reports/show?{asked}").text
    other = asked.replace("period=last_365", "period=last_90")
    assert "Nothing to count" not in client.get(f"/reports/show?{other}").text


def test_what_is_behind_a_figure_is_listed_as_far_as_the_reader_sees_it(
    app: Flask, cast: Cast, sold: dict[str, int]
) -> None:
    adam = logged_in(app, cast["Adam"])
    shown = adam.get("/reports/show?measure=deals_won&rows=owner").text
    link = next(
        each
        for each in re.findall(r'href="(/reports/behind[^"]*)"', shown)
        if f"row={cast['Ana'].id}" in each
    )
    listed = adam.get(link.replace("&amp;", "&")).text
    assert "Deal small" in listed
    assert "Deal yuan" not in listed
    listed = (
        logged_in(app, cast["Ana"])
        .get(f"/reports/behind?measure=deals_won&rows=owner&row={cast['Otto'].id}")
        .text
    )
    assert "Deal yuan" not in listed
    assert adam.get("/reports/behind?measure=deals_won&period=this_moon").status_code == 422
    amounts = adam.get("/reports/show?measure=won_amount&rows=month").text
    link = next(each for each in re.findall(r'href="(/reports/behind[^"]*)"', amounts) if "CNY" in each)
    assert "<h1>1 " in adam.get(link.replace("&amp;", "&")).text
    behind = adam.get(
        f"/reports/behind?measure=follow_ups&rows=owner&columns=kind&row={cast['Ben'].id}&column=call"
    )
    assert "<h1>2 " in behind.text


def test_files_hold_the_table_and_no_formula(app: Flask, cast: Cast, sold: dict[str, int]) -> None:
    client, asked = logged_in(app, cast["Adam"]), "measure=deals_won&measure=won_amount&rows=industry"
    text = client.get(f"/reports/file/csv?{asked}").data.decode("utf-8-sig")
    header, row = list(csv.reader(io.StringIO(text)))[:2]
    assert header == ["key", "name", "Deals won", "Won amount, EUR", "Won amount, CNY"]
    assert row == ["'=finance", "'=finance", "3", "4000", "50000"]
    sheet = openpyxl.load_workbook(io.BytesIO(client.get(f"/reports/file/xlsx?{asked}").data)).active
    assert sheet is not None
    assert [cell.value for cell in sheet[2]] == ["=finance", "=finance", 3, 4000, 50000]
    assert sheet["A2"].data_type == "s"
    table = pq.read_table(io.BytesIO(client.get(f"/reports/file/parquet?{asked}").data))
    assert table.column("Won amount, CNY").to_pylist() == [Decimal(50_000)]
    assert client.get(f"/reports/file/exe?{asked}").status_code == 404
    cohorts = client.get("/reports/retention/file/csv").data.decode("utf-8-sig")
    assert "2026-Q1,3,0,1.0" in cohorts


def test_a_report_is_kept_shared_changed_on_its_version_and_deleted(
    app: Flask, store: Store, cast: Cast, sold: dict[str, int]
) -> None:
    ana, ben, otto = (logged_in(app, cast[name]) for name in ("Ana", "Ben", "Otto"))
    token = csrf_of(ana.get("/reports/show?ready=people").text)
    form: dict[str, Any] = {
        "csrf_token": token,
        "name": "Won by us",
        "measure": ["deals_won"],
        "rows": "owner",
        "period": "this_quarter",
        "shared": "team",
    }
    place = ana.post("/reports/save", data=form).location
    assert "Won by us" in ana.get(place).text
    assert "Won by us" in ben.get("/reports").text
    assert "Won by us" not in otto.get("/reports").text
    assert otto.get(place).status_code == 404
    report_id = int(place.rsplit("/", 1)[1])
    changed = {**form, "report_id": report_id, "version": 1, "name": "Won"}
    assert ana.post("/reports/save", data=changed).status_code == 302
    conflict = ana.post("/reports/save", data={**changed, "name": "Later"})
    assert conflict.status_code == 409
    assert 'value="Later"' in conflict.text
    assert 'name="version" value="2"' in conflict.text
    theirs = {**changed, "version": 2, "csrf_token": csrf_of(ben.get(place).text)}
    assert ben.post("/reports/save", data=theirs).status_code == 403
    assert ben.post(f"{place}/delete", data={"csrf_token": theirs["csrf_token"]}).status_code == 404
    assert ana.post("/reports/save", data={**form, "measure": ["nonsense"]}).status_code == 422
    assert ana.post(f"{place}/delete", data={"csrf_token": token}).status_code == 302
    with store.reading() as session:
        assert session.scalars(select(SavedReport)).all() == []


def test_the_api_answers_keeps_and_refuses(
    app: Flask, clock: FixedClock, cast: Cast, sold: dict[str, int]
) -> None:
    client = app.test_client()

    def call(method: str, path: str, name: str = "Adam", **more: Any) -> Any:
        headers = {**cast.header(name), **more.pop("headers", {})}
        return client.open(f"/api/v1/{path}", method=method, headers=headers, **more)

    asked = "reports/run?measures=won_amount,win_rate&rows=owner&filter=amount:ge:2000"
    answer = call("GET", asked).json
    assert [each["currency"] for each in answer["series"]] == ["CNY", "EUR", None]
    by_name = {row["name"]: row["figures"] for row in answer["rows"]}
    series = [(each["measure"], each["currency"]) for each in answer["series"]]
    assert by_name["Ana"][series.index(("won_amount", "EUR"))]["value"] == "3000"
    assert by_name["Ana"][series.index(("win_rate", None))]["count"] == 1
    before = (clock.now() - timedelta(days=2)).isoformat()
    assert call("GET", f"{asked}&as_of={before.replace('+', '%2B')}").json["rows"] == []
    assert {row["name"] for row in call("GET", asked, "Ana").json["rows"]} == {"Ana"}
    assert call("GET", "reports/run?measures=none").status_code == 422
    assert call("GET", "reports/run?measures=deals_won&as_of=2030-01-01T00:00:00Z").status_code == 422
    made = call("POST", "reports", json={"name": "Won", "measures": ["deals_won"], "rows": "team"})
    assert made.status_code == 201
    place = f"reports/{made.json['id']}"
    assert call("GET", place).json["rows_by"] == "team"
    assert call("GET", place, "Ana").status_code == 404
    changed = {"name": "Won more", "measures": ["deals_won"], "shared": "all"}
    seen = {"If-Match": made.headers["ETag"]}
    assert call("PUT", place, json=changed, headers=seen).json["version"] == 2
    assert call("PUT", place, json=changed, headers=seen).status_code == 412
    assert call("DELETE", place, headers=seen).status_code == 412
    assert "Won more" in [each["name"] for each in call("GET", "reports", "Ana").json["items"]]
    assert call("GET", "reports/retention").json["cohorts"][0]["customers"] == 3
    assert call("DELETE", place).status_code == 204


# ---------------------------------------------------------------- sending

MONDAYS = Rhythm(every="week", at="08:00", zone="Asia/Shanghai", day=0)


def kept(store: Store, cast: Cast, *receivers: str, rhythm: Rhythm = MONDAYS) -> int:
    with store.transaction() as transaction:
        asked = Asked(measures=("won_amount",), rows="owner", period="last_90")
        report = keep_report(transaction, cast["Mara"], "Won <us>", asked, shared="own")
        send_to(transaction, cast["Mara"], report.id, [cast[name].id for name in receivers], rhythm)
        return report.id


def run_jobs(store: Store, settings: Settings) -> None:
    done = {kind: each for kind, each in handlers(settings).items() if kind == REPORT_MAIL}
    runner = JobRunner(store, done)
    while runner.run_once():
        pass


def mails_sent(store: Store) -> list[Any]:
    with store.reading() as session:
        return [
            job.payload for job in session.scalars(select(Job).where(Job.kind == "mail").order_by(Job.id))
        ]


def test_each_receiver_is_sent_what_they_may_see_once_a_slot(
    store: Store, clock: FixedClock, cast: Cast, sold: dict[str, int], settings: Settings
) -> None:
    kept(store, cast, "Mara", "Otto", "Ana")
    first, second = ReportClock(store), ReportClock(store)
    assert first.run_once() == 0
    clock.advance(timedelta(days=7))
    assert (first.run_once(), second.run_once(), first.run_once()) == (3, 0, 0)
    run_jobs(store, settings)
    by_name = {mail["to"].split("@")[0]: mail for mail in mails_sent(store)}
    assert set(by_name) == {"mara", "otto", "ana"}
    assert "4,000" in by_name["mara"]["html"]
    assert "50,000" not in by_name["mara"]["html"]
    assert "50,000" in by_name["otto"]["html"]
    assert "4,000" not in by_name["otto"]["html"]
    assert "Won &lt;us&gt;" in by_name["ana"]["html"]
    run_jobs(store, settings)
    assert len(mails_sent(store)) == 3
    clock.advance(timedelta(days=30))
    assert first.run_once() == 3, "what was missed for weeks is one mail"


def test_whoever_stops_a_mail_is_not_sent_it_again_by_others(
    app: Flask, store: Store, clock: FixedClock, cast: Cast, settings: Settings
) -> None:
    report = kept(store, cast, "Ana", "Ben")
    ana = logged_in(app, cast["Ana"])
    page = ana.get("/reports").text
    assert "Won &lt;us&gt;" in page
    assert (
        ana.post(f"/reports/saved/{report}/mail/stop", data={"csrf_token": csrf_of(page)}).status_code == 302
    )
    with store.transaction() as transaction:
        send_to(transaction, cast["Mara"], report, [cast["Ana"].id, cast["Ben"].id], MONDAYS)
        stop_mail(transaction, cast["Mara"], report, cast["Ben"].id)
    clock.advance(timedelta(days=8))
    assert ReportClock(store).run_once() == 0
    otto = logged_in(app, cast["Otto"])
    token = csrf_of(otto.get("/reports/show?ready=people").text)
    for path in (f"/reports/saved/{report}/mail/stop", f"/reports/saved/{report}/mail"):
        asked = {"csrf_token": token, "to": cast["Ben"].id, "every": "day", "at": "08:00"}
        assert otto.post(path, data=asked).status_code == 404


@pytest.mark.parametrize(
    ("rhythm", "expected"),
    [
        # Clocks go forward on 29 March 2026 at 2:00 and back on 25 October at 3:00 in Berlin.
        (Rhythm(every="day", at="02:30", zone="Europe/Berlin"), 365),
        (Rhythm(every="day", at="08:00", zone="Europe/Berlin"), 365),
        (Rhythm(every="week", at="02:30", zone="Europe/Berlin", day=6), 52),
        (Rhythm(every="month", at="23:30", zone="America/New_York", day=28), 12),
    ],
)
def test_slots_come_once_a_day_week_or_month_through_both_changes_of_the_clocks(
    rhythm: Rhythm, expected: int
) -> None:
    at, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    slots = []
    while (at := rhythm.after(at)) < end:
        slots.append(at)
    local = [slot.astimezone(ZoneInfo(rhythm.zone)) for slot in slots]
    assert len({each.date() for each in local}) == len(slots) == expected
    assert {each.strftime("%H:%M") for each in local} <= {rhythm.at, "03:30"}


def test_periods_in_words_are_those_of_the_day_they_are_asked_on() -> None:
    today = date(2026, 3, 2)
    days = {
        period: Asked(measures=(), period=period).days(today)
        for period in ("last_month", "this_quarter", "last_year")
    }
    assert days == {
        "last_month": (date(2026, 2, 1), date(2026, 2, 28)),
        "this_quarter": (date(2026, 1, 1), date(2026, 3, 31)),
        "last_year": (date(2025, 1, 1), date(2025, 12, 31)),
    }


def test_a_kept_report_survives_as_json() -> None:
    asked = Asked(
        measures=("deals_won",), rows="owner", filters=("a:eq:b",), period="dates", since=date(2026, 1, 1)
    )
    assert Asked.from_json(asked.to_json()) == asked


# ---------------------------------------------------------------- the profile of a customer


def test_a_profile_tells_worth_service_and_what_comes_next_within_rights(
    app: Flask, store: Store, clock: FixedClock, cast: Cast
) -> None:
    with store.transaction() as transaction:
        ana = cast["Ana"].id
        mine, other, third = (make_account(transaction, name=name, owner_id=ana) for name in "ABC")
        for account, amounts in ((mine, (500, 700)), (other, (300,)), (third, (9_000,))):
            for amount in amounts:
                make_order(transaction, account_id=account.id, amount=Decimal(amount), currency="EUR")
        make_order(transaction, account_id=mine.id, amount=Decimal(5), currency="CNY")
        make_contract(transaction, account_id=mine.id, number="C-7")
        ticket = make_ticket(transaction, account_id=mine.id)
        transaction.update(ticket, {"status": "closed", "satisfaction": 4})
        transaction.create(
            Payment(account_id=mine.id, amount=Decimal(80), currency="EUR", due_on=date(2026, 3, 1))
        )
        make_activity(transaction, owner_id=ana, account_id=mine.id)
    clock.advance(timedelta(days=3))
    client = logged_in(app, cast["Ana"])
    asked = []
    for _ in range(3):  # what was known a moment ago is not asked again, unless the machine is busy
        with sent_by(store) as sent:
            text = client.get(f"/customers/{mine.id}/profile").text
        begun = [each.lstrip().upper().startswith(("SELECT", "WITH")) for each in sent.statements]
        asked.append(sum(begun))
    assert min(asked) <= 12
    for said in (
        "3 days ago",
        "€1,200",
        "CN¥5",
        "more than 50% of customers",
        "C-7",
        "Payment due",
        "of 1 answers",
    ):
        assert said in text, said
    assert "€1,205" not in text
    assert logged_in(app, cast["Otto"]).get(f"/customers/{mine.id}/profile").status_code == 404
    with store.transaction() as transaction:
        hidden = {"role": "rep", "read": False, "write": False}
        transaction.session.add(FieldRight(record_type="order", field="amount", **hidden))
        transaction.session.add(FieldRight(record_type="ticket", field="satisfaction", **hidden))
    text = client.get(f"/customers/{mine.id}/profile").text
    assert "1,200" not in text
    assert "of 1 answers" not in text
    assert "Last order" in text


def test_every_query_of_the_documentation_runs_on_the_views(store: Store, sold: dict[str, int]) -> None:
    told = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sql\n(.*?)```", told, re.DOTALL)
    queries = [each for each in block.split(";") if each.strip()]
    with store.reading() as session:
        found = [session.execute(text(each.replace(":", "\\:"))).all() for each in queries]
    assert len(queries) > 12
    assert any(row[0] == "Ana" and row[4] == 2 for row in found[3])


def test_a_report_by_product_says_that_its_rows_are_not_parts_of_the_total(
    app: Flask, store: Store, cast: Cast, sold: dict[str, int]
) -> None:
    with store.transaction() as transaction:
        for name in ("Pump", "Valve"):
            product = transaction.create(Product(name=name))
            order = make_order(transaction, account_id=make_account(transaction).id, deal_id=sold["large"])
            transaction.create(Line(order_id=order.id, product_id=product.id, unit_price=Decimal(5)))
    client = logged_in(app, cast["Adam"])
    page = client.get("/reports/show?ready=deals_by_product").text
    assert "“All” has it once" in page
    assert page.count("€1,500") == 4, "won and average, of both products"
    assert (
        "最后一行中每条记录只计一次"
        in logged_in(app, cast["Adam"], language="zh").get("/reports/show?ready=deals_by_product").text
    )
    assert "“All” has it once" not in client.get("/reports/show?ready=people").text
    rows = list(csv.reader(io.StringIO(client.get("/reports/file/csv?measure=deals_won&rows=product").text)))
    assert [row[1:] for row in rows[1:]] == [["Pump", "1"], ["Valve", "1"], ["none", "2"]]
    behind = client.get("/reports/behind?measure=deals_won&rows=product&row=").text
    assert ("Deal small" in behind, "Deal large" in behind) == (True, False)
    with store.transaction() as transaction:
        hidden = {"record_type": "line", "field": "product_id", "read": False, "write": False}
        transaction.session.add(FieldRight(role="rep", **hidden))
    asked = "/reports/show?measure=win_rate&rows="
    client = logged_in(app, cast["Ana"])
    assert [client.get(asked + by).status_code for by in ("product", "family", "source")] == [422, 422, 200]
