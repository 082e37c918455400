"""Short lists turn their pages as long ones do, and what counts no versions is edited by its tag, too."""

from __future__ import annotations

import base64
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.notifications import Occasion, notify
from crm_core.records import Contract, Line, Payment, Quote, User
from crm_core.store import Store
from tests.factories import make_account
from tests.serving.api import Api, tag_version, turn
from tests.serving.conftest import Cast, logged_in

HOOK = {"name": "Shop", "url": "https://93.184.216.34/hook", "event_types": ["deal.won"]}
WEEK = {"zone": "UTC", "week": [[["09:00", "18:00"]]] * 5 + [[], []]}
QUEUE = {"name": "Help"}
TARGET = {"priority": "low", "first_minutes": 60, "solve_minutes": 480}
FORM = {"name": "Ask", "fields": [{"field": "email", "required": True}]}
HELLO = {"name": "Hello", "subject": "Hello", "body": "Hello", "shared": "all"}


@pytest.fixture
def adam(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Adam")


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("segments", {"type": "lead", "name": "", "filter": ["region:eq:North"]}, "name"),
        ("views?type=lead", {"type": "lead", "name": "", "asked": {}}, "name"),
        ("mail-templates", {**HELLO, "name": ""}, "name"),
        ("forms", {**FORM, "name": ""}, "name"),
        ("reports", {"name": "", "measures": ["deals_won"]}, "name"),
    ],
)
def test_a_list_by_name_turns_its_pages(adam: Api, path: str, body: dict[str, Any], named: str) -> None:
    names = ["b", "a", "c", "a 2", "B"]
    for name in names:
        assert adam("POST", path.partition("?")[0], {**body, named: name}).status_code == 201
    more = "&" if "?" in path else "?"
    listed = [each[named] for each in turn(adam, f"{path}{more}limit=2")]
    assert listed == sorted(names), "each once, in order"
    first = adam("GET", f"{path}{more}limit=2").json
    adam("POST", path.partition("?")[0], {**body, named: "0 comes before"})
    second = adam("GET", f"{path}{more}limit=2&cursor={first['next_cursor']}").json
    assert [each[named] for each in second["items"]] == sorted(names)[2:4], "a page stays where it was"


def test_other_short_lists_turn_their_pages(adam: Api, cast: Cast, store: Store) -> None:
    types = turn(adam, "record-types?limit=7")
    assert [each["name"] for each in types][:3] == [
        each["name"] for each in adam("GET", "record-types?limit=3").json["items"]
    ]
    for name in ("rank", "area"):
        adam("POST", "record-types/lead/fields", {"name": name, "kind": "text", "known": "history"})
    assert [each["name"] for each in turn(adam, "record-types/lead/fields?limit=1")] == ["area", "rank"]
    at = f"users/{cast['Ana'].id}/absences"
    for day in ("2026-03-02", "2026-05-02", "2026-04-02"):
        made = adam("POST", at, {"first_day": day, "last_day": day})
        assert adam("GET", made.headers["Location"]).json == made.json
    days = [each["first_day"] for each in turn(adam, f"{at}?limit=1")]
    assert days == ["2026-05-02", "2026-04-02", "2026-03-02"]
    campaigns = [adam("POST", "campaigns", {"name": name}).json["id"] for name in ("a", "b", "c")]
    dated = adam("POST", "campaigns", {"name": "d", "starts_on": "2026-01-01"}).json["id"]
    listed = [each["id"] for each in turn(adam, "marketing/campaigns?limit=1")]
    assert listed == [dated, *reversed(campaigns)], "those that begin last first, then those that never do"


def test_the_versions_of_an_article_turn_their_pages(adam: Api) -> None:
    article = adam("POST", "articles", {"title": "1", "body": "Text", "language": "en"}).json["id"]
    for title in ("2", "3"):
        adam("PATCH", f"articles/{article}", {"title": title})
    titles = [each["title"] for each in turn(adam, f"articles/{article}/versions?limit=1")]
    assert titles == sorted(titles, reverse=True)
    assert titles[0] == "3"


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    ["!", "abc", "é", *map(_cursor, ("7", "{}", "[null]", "[[1]]", "[1,2]", '["a","b","c"]', "[-1,1]"))],
)
@pytest.mark.parametrize("path", ["forms", "payments/overdue", "duplicates?record_type=lead"])
def test_a_cursor_that_no_page_of_the_list_gave_is_refused(adam: Api, path: str, cursor: str) -> None:
    adam("POST", "forms", FORM)
    answer = adam("GET", f"{path}{'&' if '?' in path else '?'}cursor={cursor}")
    assert (answer.status_code, answer.json["type"]) == (422, "urn:crm:problem:invalid-value")


def test_late_payments_turn_their_pages_and_stay_there(adam: Api, store: Store) -> None:
    today = store.clock.now().date()

    def owed(days: int) -> int:
        with store.transaction() as transaction:
            account = make_account(transaction).id
            made = Payment(
                account_id=account, amount=Decimal(9), currency="EUR", due_on=today - timedelta(days=days)
            )
            return transaction.create(made).id

    payments = [owed(days) for days in (3, 9, 3, 5)]
    in_order = [payments[1], payments[3], payments[0], payments[2]]
    assert [each["payment_id"] for each in turn(adam, "payments/overdue?limit=1")] == in_order
    first = adam("GET", "payments/overdue?limit=2").json
    owed(99)
    rest = adam("GET", f"payments/overdue?limit=2&cursor={first['next_cursor']}").json
    assert [each["payment_id"] for each in rest["items"]] == in_order[2:], "what came before moves nothing"


# ------------------------------------------------------------------------------------------------ edits


@pytest.mark.parametrize(
    ("path", "method", "first", "then"),
    [
        ("me/settings", "PATCH", {"records_a_day": 7}, {"records_a_day": 8}),
        ("working-time", "PUT", WEEK, {**WEEK, "country": "DE"}),
        ("service/queues/help", "PUT", QUEUE, {**QUEUE, "round_robin": True}),
        ("sales-settings", "PUT", {"company": "A"}, {"company": "B"}),
        ("record-types/machine", "PATCH", {"label_en": "A"}, {"label_en": "B"}),
        ("record-types/lead/fields/rank", "PATCH", {"label_en": "A"}, {"label_en": "B"}),
        ("webhooks/1", "PATCH", {"name": "A"}, {"name": "B"}),
        ("forms/1", "PATCH", {"name": "A"}, {"name": "B"}),
    ],
)
def test_an_edit_made_on_what_has_changed_since_is_refused(
    adam: Api, path: str, method: str, first: dict[str, Any], then: dict[str, Any]
) -> None:
    adam("POST", "record-types", {"name": "machine", "label_en": "Machine", "label_zh": "机器"})
    adam("POST", "record-types/lead/fields", {"name": "rank", "kind": "text", "known": "history"})
    adam("POST", "webhooks", HOOK)
    adam("POST", "forms", FORM)
    adam("PUT", "service/queues/help", QUEUE)
    seen = adam("GET", path)
    assert seen.status_code == 200, seen.text
    tag = seen.headers["ETag"]
    assert adam("GET", path, If_None_Match=tag).status_code == 304
    changed = adam(method, path, first, If_Match=tag)
    assert changed.status_code == 200, changed.text
    late = adam(method, path, then, If_Match=tag)
    assert (late.status_code, late.json["type"]) == (412, "urn:crm:problem:stale-record")
    read = adam("GET", path)
    assert tag_version(read) == tag_version(changed) != tag.strip('"').split("-")[0]
    assert adam(method, path, then, If_Match=f'"1-x", {changed.headers["ETag"]}').status_code == 200
    assert adam(method, path, first).status_code == 200, "without a condition, any version will do"
    assert adam(method, path, then, If_Match="*").status_code == 200


def test_a_queue_is_created_or_changed_as_its_version_says(adam: Api) -> None:
    made = adam("PUT", "service/queues/help", QUEUE, If_Match='"0"')
    assert (made.status_code, made.headers["Location"]) == (201, "/api/v1/service/queues/help")
    assert adam("PUT", "service/queues/help", QUEUE, If_Match='"0"').status_code == 412
    assert adam("GET", "service/queues/none").status_code == 404


def test_service_targets_are_set_by_the_tag_of_the_desk(adam: Api) -> None:
    tag = adam("GET", "service").headers["ETag"]
    adam("PUT", "service/queues/help", {**QUEUE, "retired": True})
    assert adam("PUT", "service/targets", TARGET, If_Match=tag).status_code == 412, "a queue has targets, too"
    tag = adam("GET", "service").headers["ETag"]
    assert adam("PUT", "service/targets", TARGET, If_Match=tag).status_code == 200
    assert adam("PUT", "service/targets", {**TARGET, "first_minutes": 9}, If_Match=tag).status_code == 412


def test_a_target_is_set_by_the_version_that_the_list_gives(adam: Api, cast: Cast) -> None:
    whose = {"whose": "user", "whose_id": cast["Mara"].id}
    wanted = {**whose, "period": "2026-Q1", "measure": "deals_won", "value": "9"}
    assert adam("PUT", "targets", wanted, If_Match='"0"').status_code == 200
    assert adam("PUT", "targets", {**wanted, "value": "8"}, If_Match='"0"').status_code == 412
    (listed,) = turn(adam, "targets?limit=1")
    again = adam("PUT", "targets", {**wanted, "value": "8"}, If_Match=f'"{listed["version"]}"')
    assert [each["value"] for each in again.json["items"]] == ["8"]


def test_a_payment_plan_is_set_by_its_tag(adam: Api, store: Store) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction).id
        days = {"starts_on": date(2026, 1, 1), "ends_on": date(2026, 12, 31)}
        signed = Contract(account_id=account, number="C-1", value=Decimal(100), currency="EUR", **days)
        contract = transaction.create(signed).id
    path = f"contracts/{contract}/payment-plan"
    tag = adam("GET", path).headers["ETag"]
    parts = [{"due_on": "2026-06-01", "percent": "50"}, {"due_on": "2026-07-01"}]
    planned = adam("PUT", path, {"parts": parts}, If_Match=tag)
    assert planned.status_code == 200, planned.text
    assert adam("PUT", path, {"parts": []}, If_Match=tag).status_code == 412
    payment = planned.json["payment_ids"][0]
    adam("PATCH", f"payments/{payment}", {"due_on": "2026-06-02"})
    late = adam("PUT", path, {"parts": []}, If_Match=planned.headers["ETag"])
    assert late.status_code == 412, "a day of it was moved"


# ------------------------------------------------------------------------------------------------ titles


@pytest.mark.parametrize(
    ("language", "title"),
    [(None, "TT-77 · €62 · due on Mar 1, 2026"), ("zh", "TT-77 · €62 · 2026年3月1日")],
)
def test_a_payment_is_called_the_same_on_pages_and_in_answers(
    app: Flask, client: FlaskClient, store: Store, cast: Cast, language: str | None, title: str
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        owed = {"amount": Decimal(62), "currency": "EUR", "due_on": date(2026, 3, 1), "reference": "TT-77"}
        payment = transaction.create(Payment(account_id=account, **owed)).id
        transaction.update(transaction.get(User, cast["Ana"].id), {"language": language})
        notify(
            transaction,
            [cast["Ana"].id],
            kind=Occasion.PAYMENT,
            about=("payment", payment),
            params={"days": 1},
        )
    ana = Api(client, cast, "Ana")
    (told,) = ana("GET", "notifications").json["items"]
    assert told["title"].startswith(title)
    (entry,) = ana("GET", f"accounts/{account}/timeline?kinds=payment").json["items"]
    assert entry["title"] == told["title"]
    page = logged_in(app, cast["Ana"]).get("/notifications").text
    assert told["title"] in page


def test_a_line_is_called_the_same_on_pages_and_in_answers(
    app: Flask, client: FlaskClient, store: Store, cast: Cast
) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        quote = transaction.create(Quote(account_id=account, owner_id=cast["Ana"].id, number="Q-1")).id
        transaction.create(Line(quote_id=quote, text="Turbine blades", quantity=3))
    (hit,) = Api(client, cast, "Ana")("GET", "search?q=Turbine").json["items"]
    assert hit["title"] == "Turbine blades × 3"
    assert hit["title"] in logged_in(app, cast["Ana"]).get("/search?q=Turbine").text
