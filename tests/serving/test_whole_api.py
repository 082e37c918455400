"""What programs may do that people do on pages: a customer at a glance, mail, settings, what one is told."""

from __future__ import annotations

from base64 import b64encode
from datetime import date, timedelta
from decimal import Decimal

from flask.testing import FlaskClient

from crm_core.incoming.tray import Entry, ItemKind, put_in_tray
from crm_core.notifications import Occasion, notify
from crm_core.records import Activity, ActivityKind, Contract, Order, Role
from crm_core.rights import set_field_right
from crm_core.store import Store
from tests.factories import make_account, make_lead
from tests.serving.api import Api, turn
from tests.serving.conftest import Cast


def test_a_customer_is_told_at_a_glance(client: FlaskClient, store: Store, cast: Cast) -> None:
    today = store.clock.now().date()
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        other = make_account(transaction, owner_id=cast["Ana"].id).id
        for each, amount in ((account, "250"), (account, "50"), (other, "10")):
            transaction.create(Order(account_id=each, amount=Decimal(amount), currency="EUR"))
        ends = {"starts_on": date(2025, 1, 1), "ends_on": today + timedelta(days=9)}
        transaction.create(
            Contract(account_id=account, number="C-1", value=Decimal(9), currency="EUR", **ends)
        )
        transaction.create(Activity(account_id=account, kind=ActivityKind.TASK, subject="Call"))
    told = Api(client, cast, "Ana")("GET", f"accounts/{account}/profile").json
    assert told["worth"]["orders"] == {"value": 2.0, "better_than": 1.0}
    assert told["worth"]["ordered"] == [{"currency": "EUR", "amount": "300", "better_than": 1.0}]
    assert [each["title"] for each in told["contracts"]] == ["C-1"]
    assert [each["subject"] for each in told["next_steps"]] == ["Call"]
    assert Api(client, cast, "Otto")("GET", f"accounts/{account}/profile").status_code == 404


def test_a_template_is_changed_on_the_version_that_was_read_and_retired(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    ana, ben = Api(client, cast, "Ana"), Api(client, cast, "Ben")
    hello = {"name": "Hello", "subject": "Hello", "body": "Dear {{ lead.name }}", "shared": "all"}
    made = ana("POST", "mail-templates", hello)
    path = f"mail-templates/{made.json['id']}"
    assert ana("GET", path, If_None_Match=made.headers["ETag"]).status_code == 304
    again = ana("PUT", path, {**hello, "subject": "Hi"}, If_Match=made.headers["ETag"])
    assert (again.json["subject"], again.json["version"]) == ("Hi", 2)
    assert ana("PUT", path, hello, If_Match=made.headers["ETag"]).status_code == 412
    assert ben("PUT", path, hello).status_code == 403
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, name="Wang").id
    filled = f"{path}/filled?type=lead&record_id={lead}"
    assert ana("GET", filled).json == {"subject": "Hi", "text": "Dear Wang", "html": "<p>Dear Wang</p>"}
    assert ben("GET", filled).status_code == 404
    assert ana("DELETE", path, If_Match=made.headers["ETag"]).status_code == 412
    assert ana("DELETE", path, If_Match=again.headers["ETag"]).status_code == 204
    assert ana("GET", path).json["retired_at"] is not None
    assert path.rpartition("/")[2] not in {
        str(each["id"]) for each in ana("GET", "mail-templates").json["items"]
    }
    places = {each["root"]: each["fields"] for each in ana("GET", "mail-templates/places").json["items"]}
    assert "first_name" in places["lead"]


def test_who_goes_through_a_sequence_is_listed_in_pages_and_stopped(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    ana, mara, otto = (Api(client, cast, name) for name in ("Ana", "Mara", "Otto"))
    hello = {"name": "Hello", "subject": "Hello", "body": "Hello", "shared": "all"}
    steps = [{"template_id": mara("POST", "mail-templates", hello).json["id"], "wait_days": 2}]
    made = mara("POST", "mail-sequences", {"name": "Warm up", "record_type": "lead", "steps": steps}).json
    at = f"mail-sequences/{made['id']}"
    with store.transaction() as transaction:
        leads = [
            make_lead(transaction, owner_id=cast["Ana"].id, email=f"a{each}@x.example", consent="granted").id
            for each in range(3)
        ]
    for lead in leads:
        assert ana("POST", f"{at}/start", {"record_id": lead}).json["started"]
    runs = turn(ana, f"{at}/runs?limit=2")
    assert [each["record_id"] for each in runs] == leads[::-1]
    assert otto("GET", f"{at}/runs").json["items"] == []
    stop = f"{at}/runs/{runs[0]['id']}/stop"
    assert otto("POST", stop).status_code == 404
    assert ana("POST", f"mail-sequences/{2**50}/runs/{runs[0]['id']}/stop").status_code == 404
    assert ana("POST", stop).json["state"] == "stopped"
    assert [each["record_id"] for each in turn(ana, f"{at}/runs?state=active")] == leads[1::-1]
    assert ana("GET", at).json["standing"]["active"] == 2


def test_a_stage_is_set_on_the_version_that_was_read(client: FlaskClient, cast: Cast) -> None:
    adam, ana = Api(client, cast, "Adam"), Api(client, cast, "Ana")
    path = "pipelines/default/stages/needs"
    (pipeline,) = ana("GET", "pipelines").json["items"]
    assert [each["key"] for each in pipeline["stages"]][:2] == ["first_contact", "needs"]
    read = adam("GET", path)
    wanted = {
        "name_en": "Wishes",
        "name_zh": "需求",
        "rotting_days": 9,
        "required": ["amount"],
        "checklist": [{"text": "Ask who decides", "required": True}],
        "playbook": [{"text": "Send the brochure", "due_days": 2}],
    }
    assert ana("PUT", path, wanted).status_code == 403
    made = adam("PUT", path, wanted, If_Match=read.headers["ETag"])
    assert {name: made.json[name] for name in ("name_en", "rotting_days", "required", "playbook")} == {
        name: wanted[name] for name in ("name_en", "rotting_days", "required", "playbook")
    }
    assert (made.json["version"], made.json["is_set"]) == (1, True)
    assert adam("PUT", path, wanted, If_Match=read.headers["ETag"]).status_code == 412
    wrong = adam("PUT", path, {**wanted, "required": ["probability"]})
    assert (wrong.status_code, wrong.json["field"]) == (422, "required")
    assert adam("POST", f"{path}/reset", If_Match=made.headers["ETag"]).json["is_set"] is False
    assert adam("GET", "pipelines/default/stages/none").status_code == 422
    _reset, told = adam("GET", "operations?done=setting_set").json["items"]
    assert told["detail"] == "default/needs: Wishes, 9 days, requires amount"


def test_what_is_set_of_selling_is_read_by_all_and_set_by_administrators(
    client: FlaskClient, cast: Cast
) -> None:
    adam, ana = Api(client, cast, "Adam"), Api(client, cast, "Ana")
    read = ana("GET", "sales-settings")
    assert (read.json["limits"], read.json["reminder_days"]) == (
        *({"rep": "0.1", "manager": None, "admin": None}, [1, 14, 30]),
    )
    wanted = {"company": "Acme", "limits": {"rep": "0.05", "manager": "0.2"}, "reminder_days": [7, 3]}
    assert ana("PUT", "sales-settings", wanted).status_code == 403
    made = adam("PUT", "sales-settings", wanted, If_Match=read.headers["ETag"])
    assert (made.json["limits"]["manager"], made.json["reminder_days"]) == ("0.2", [3, 7])
    assert adam("PUT", "sales-settings", wanted, If_Match=read.headers["ETag"]).status_code == 412
    assert adam("PUT", "sales-settings", {"limits": {"rep": "2"}}).status_code == 422


def test_record_types_and_fields_are_declared_and_told_to_who_may_see_them(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    adam, ana = Api(client, cast, "Adam"), Api(client, cast, "Ana")
    shop = {"name": "shop", "label_en": "Shop", "label_zh": "门店", "links": ["account"]}
    assert ana("POST", "record-types", shop).status_code == 403
    for _twice in range(2):
        made = adam("POST", "record-types", shop, Idempotency_Key="one")
        assert (made.status_code, made.json["path"]) == (201, "/api/v1/custom/shop")
    grade = {"name": "grade", "kind": "choice", "known": "history", "choices": [{"value": "a"}]}
    at = "record-types/shop/fields"
    assert adam("POST", at, grade).json["choices"] == [{"value": "a", "label_en": None, "label_zh": None}]
    assert adam("POST", at, {**grade, "kind": "text", "choices": []}).status_code == 409
    changed = adam("PATCH", f"{at}/grade", {"label_en": "Grade", "choices": [{"value": "b"}]}).json
    assert (changed["label_en"], [each["value"] for each in changed["choices"]]) == ("Grade", ["a", "b"])
    assert ana("POST", "custom/shop", {"name": "Mitte", "custom": {"grade": "b"}}).status_code == 201
    assert adam("POST", f"{at}/grade/retire").json["retired_at"] is not None
    assert ana("POST", "custom/shop", {"name": "Nord", "custom": {"grade": "b"}}).status_code == 422
    assert adam("POST", f"{at}/grade/restore").json["retired_at"] is None
    assert [each["name"] for each in ana("GET", at).json["items"]] == ["grade"]
    with store.transaction() as transaction:
        set_field_right(transaction.session, Role.REP, "shop", "custom.grade", read=False, write=False)
    assert ana("GET", at).json["items"] == []
    assert [each["name"] for each in adam("GET", at).json["items"]] == ["grade"]
    assert adam("POST", "record-types/shop/retire").json["retired_at"] is not None
    assert adam("PATCH", "record-types/shop", {"label_en": "Store"}).status_code == 422
    assert adam("POST", "record-types/shop/restore").json["retired_at"] is None
    paths = {each["name"]: each["path"] for each in ana("GET", "record-types").json["items"]}
    assert (paths["lead"], paths["shop"]) == ("/api/v1/leads", "/api/v1/custom/shop")
    assert adam("GET", "record-types/nothing/fields").status_code == 422


def test_what_one_is_told_is_listed_in_pages_with_what_may_be_seen_now(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    ana, ben = Api(client, cast, "Ana"), Api(client, cast, "Ben")
    with store.transaction(actor_id=cast["Mara"].id) as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, name="Berg").id
        for _ in range(3):
            people = [cast["Ana"].id, cast["Ben"].id]
            notify(transaction, people, kind=Occasion.ASSIGNED, about=("lead", lead), params={"days": 2})
    told = turn(ana, "notifications?limit=2")
    assert [(each["title"], each["record_id"], each["params"]) for each in told] == [
        ("Berg", lead, {"days": 2})
    ] * 3
    hidden = turn(ben, "notifications")
    assert [(each["title"], each["record_id"], each["params"]) for each in hidden] == [(None,) * 3] * 3
    assert ana("POST", "notifications/read", {"ids": [told[0]["id"], hidden[0]["id"]]}).json == {"read": 1}
    assert len(turn(ana, "notifications?unread=true")) == 2
    assert ana("POST", "notifications/read", {}).json == {"read": 2}
    assert ben("GET", "notifications").json["unread"] == 3


def test_one_sets_ones_own_and_has_a_calendar_read(client: FlaskClient, cast: Cast) -> None:
    ana = Api(client, cast, "Ana")
    change = {"time_zone": "Asia/Shanghai", "records_a_day": 12, "alert_mails": "daily"}
    made = ana("PATCH", "me/settings", change).json
    assert {name: made[name] for name in (*change, "name")} == {**change, "name": "Ana"}
    assert ana("PATCH", "me/settings", {"records_a_day": None}).json["records_a_day"] is None
    assert ana("PATCH", "me/settings", {"time_zone": "Mars/Base"}).json["field"] == "time_zone"
    feed = ana("POST", "me/calendar-feed").json
    assert client.get(feed["url"]).status_code == 200
    assert ana("GET", "me/calendar-feed").json["made_at"] == feed["made_at"]
    assert ana("DELETE", "me/calendar-feed").status_code == 204
    assert client.get(feed["url"]).status_code == 404


def test_a_report_is_sent_to_others_by_who_keeps_it_and_stopped_by_who_gets_it(
    client: FlaskClient, cast: Cast
) -> None:
    ana, ben = Api(client, cast, "Ana"), Api(client, cast, "Ben")
    kept = {"name": "Won", "measures": ["deals_won"], "shared": "all"}
    at = f"reports/{ana('POST', 'reports', kept).json['id']}/mails"
    weekly = {"every": "week", "day": 4, "at": "08:30", "zone": "Asia/Shanghai"}
    both = {**weekly, "user_ids": [cast["Ana"].id, cast["Ben"].id]}
    assert ben("PUT", at, both).status_code == 403
    sent = ana("PUT", at, both).json["items"]
    assert [(each["user_id"], each["next_at"]) for each in sent] == [
        (cast[name].id, "2026-03-06T00:30:00Z") for name in ("Ana", "Ben")
    ]
    assert ana("PUT", at, {**weekly, "day": 9}).json["field"] == "day"
    assert [each["user_id"] for each in ben("GET", at).json["items"]] == [cast["Ben"].id]
    assert ben("DELETE", f"{at}/{cast['Ana'].id}").status_code == 404
    assert ben("DELETE", f"{at}/{cast['Ben'].id}").status_code == 204
    assert [each["stopped"] for each in ana("PUT", at, both).json["items"]] == [False, True]


def test_what_is_behind_a_figure_is_listed_in_pages(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        ids = [make_lead(transaction, owner_id=cast["Ana"].id, source="fair").id for _ in range(3)]
        make_lead(transaction, owner_id=cast["Ana"].id, source="web")
    ana = Api(client, cast, "Ana")
    asked = "measures=leads_created&rows=source"
    (row,) = [each for each in ana("GET", f"reports/run?{asked}").json["rows"] if each["key"] == "fair"]
    assert row["figures"][0]["count"] == 3
    found = turn(ana, f"reports/behind?{asked}&row=fair&limit=2")
    assert found == [{"record_type": "lead", "id": each} for each in ids]
    assert ana("GET", "reports/behind?measures=leads_created,deals_won").json["field"] == "measures"


def test_a_segment_that_feeds_a_campaign_is_listed_and_ended(client: FlaskClient, cast: Cast) -> None:
    mara, ana = Api(client, cast, "Mara"), Api(client, cast, "Ana")
    campaign = mara("POST", "campaigns", {"name": "Spring"}).json["id"]
    north = {"type": "lead", "name": "North", "filter": ["region:eq:North"]}
    segment = mara("POST", "segments", north).json["id"]
    at = f"marketing/campaigns/{campaign}"
    mara("POST", f"{at}/members", {"segment_id": segment})
    (fed,) = mara("GET", f"{at}/audiences").json["items"]
    assert (fed["segment_id"], fed["name"], fed["user_id"]) == (segment, "North", cast["Mara"].id)
    assert ana("GET", f"{at}/audiences").json["items"][0]["name"] is None
    assert ana("DELETE", f"{at}/audiences/{segment}").status_code == 403
    assert mara("DELETE", f"{at}/audiences/{segment}").status_code == 204
    assert mara("GET", f"{at}/audiences").json["items"] == []


def test_a_file_is_put_on_a_record_and_saved_as_it_was(client: FlaskClient, store: Store, cast: Cast) -> None:
    ana, otto = Api(client, cast, "Ana"), Api(client, cast, "Otto")
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id).id
    raw = b"%PDF-1\n\x00\xff"
    body = {"type": "lead", "id": lead, "name": "a/offer.pdf", "content": b64encode(raw).decode()}
    assert otto("POST", "files", body).status_code == 404
    assert ana("POST", "files", {**body, "content": "\u00e9"}).json["field"] == "content"
    made = ana("POST", "files", body, Idempotency_Key="one")
    assert ana("POST", "files", body, Idempotency_Key="one").json == made.json
    told = (made.json["name"], made.json["media_type"], made.json["size"], made.json["subject_id"])
    assert told == ("offer.pdf", "application/pdf", len(raw), lead)
    saved = ana("GET", f"files/{made.json['id']}")
    assert (saved.data, saved.content_type) == (raw, "application/octet-stream")
    saved.close()
    assert otto("GET", f"files/{made.json['id']}").status_code == 404
    big = b64encode(b"x" * 2_000_000).decode()
    assert ana("POST", "files", {**body, "name": "big", "content": big}).json["size"] == 2_000_000
    assert ana("POST", "leads", {"name": "x", "company": big}).status_code == 413


def test_the_funnel_is_told_by_source(client: FlaskClient, store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        for source in ("fair", "fair", "web"):
            make_lead(transaction, owner_id=cast["Ana"].id, source=source)
    told = Api(client, cast, "Ana")("GET", "funnel").json
    assert [(each["key"], each["leads"]) for each in told["items"]] == [("fair", 2), ("web", 1)]
    assert [each["name"] for each in told["whole"]["steps"]] == ["contacted", "converted", "deal", "won"]
    assert Api(client, cast, "Ana")("GET", "funnel?within_days=7").json["field"] == "within_days"


def test_what_became_of_mails_on_a_record_is_listed(client: FlaskClient, store: Store, cast: Cast) -> None:
    ana, otto = Api(client, cast, "Ana"), Api(client, cast, "Otto")
    with store.transaction() as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id, email="li@x.example").id
    letter = {"type": "lead", "id": lead, "text": "Hello"}
    sent = [ana("POST", "mails", {**letter, "subject": each}).json["activity_id"] for each in "abc"]
    asked = f"mails?type=lead&record_id={lead}"
    told = [(each["activity_id"], each["subject"], each["state"]) for each in turn(ana, f"{asked}&limit=2")]
    assert told == [(each, name, "queued") for each, name in zip(sent[::-1], "cba", strict=True)]
    assert otto("GET", asked).status_code == 404


def test_what_lies_in_the_tray_becomes_a_lead_or_a_ticket(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    mara, ana = Api(client, cast, "Mara"), Api(client, cast, "Ana")
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Mara"].id).id
        said = {"messages": [], "direction": "inbound", "from_name": "Li"}
        about = [("account", account)]
        items = [
            put_in_tray(
                transaction,
                Entry(
                    kind=ItemKind.CHAT,
                    key=key,
                    who="li@x.example",
                    title="Hello",
                    said=said,
                    happened_at=transaction.now,
                    candidates=about,
                ),
            ).id
            for key in "ab"
        ]
    listed = mara("GET", "intake/items").json["items"][0]
    assert listed["candidates"] == [{"type": "account", "id": account}]
    made = mara("POST", f"intake/items/{items[0]}/lead")
    assert (made.status_code, made.json["type"]) == (201, "lead")
    assert mara("GET", f"leads/{made.json['id']}").json["name"] == "Li"
    assert mara("POST", f"intake/items/{items[0]}/lead").status_code == 412
    assert mara("POST", f"intake/items/{items[1]}/ticket", {}).json["field"] == "account_id"
    made = mara("POST", f"intake/items/{items[1]}/ticket", {"account_id": account}).json
    assert mara("GET", f"tickets/{made['id']}").json["account_id"] == account
    assert ana("POST", f"intake/items/{items[1]}/lead").status_code == 404


def test_a_field_that_there_is_none_of_is_told_with_those_there_are(client: FlaskClient, cast: Cast) -> None:
    ana = Api(client, cast, "Ana")
    for answer in (ana("GET", "segments?tpye=lead"), ana("POST", "notifications/read", {"id": 7})):
        assert answer.json["detail"].endswith(
            "expected one of " + ("limit, cursor, type" if "tpye" in answer.text else "ids")
        )
    typed = ana("POST", "leads", {"nmae": "Li"}).json
    assert typed["detail"].startswith("nmae: there is no such field; expected one of external_id, name, ")


def test_who_left_works_here_again(client: FlaskClient, cast: Cast) -> None:
    adam = Api(client, cast, "Adam")
    ben = f"users/{cast['Ben'].id}"
    assert adam("POST", f"{ben}/leave", {"heir_ids": [cast["Ana"].id]}).status_code == 200
    assert Api(client, cast, "Ben")("GET", "me").status_code == 401
    back = adam("PATCH", ben, {"active": True, "left_at": None}).json
    assert (back["active"], back["left_at"]) == (True, None)
