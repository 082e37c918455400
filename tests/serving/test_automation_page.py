"""The pages of automation: a rule is made, tried, switched and read about with plain forms."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from crm_core.automation.following import Follower
from crm_core.automation.kept import get_rule, list_rules
from crm_core.automation.rules import read_rule
from crm_core.automation.shipped import SHIPPED, ship_rules
from crm_core.records import Lead
from crm_core.store import Store
from serving.web.admin.automation_form import ACTIONS, TRIGGERS
from tests.factories import make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in
from tests.serving.test_today import counted

NEW = "/admin/automation/new"


@pytest.fixture
def admin(app: Flask, cast: Cast) -> FlaskClient:
    return logged_in(app, cast["Adam"])


def send(client: FlaskClient, path: str, do: str, **given: Any) -> Any:
    data = {"csrf_token": csrf_of(client.get("/admin/automation").text), "do": do, **given}
    return client.post(path, data=data)


def rule_form(**more: Any) -> dict[str, Any]:
    return {
        "name-en": "Northern leads",
        "name-zh": "北区线索",
        "record_type": "lead",
        "trigger-kind": "record_created",
        "condition-field": ["region", ""],
        "condition-op": ["eq", "eq"],
        "condition-value": ["North", ""],
        "action-0-kind": "task",
        "action-0-text-en": "Call",
        "action-0-text-zh": "致电",
        "action-0-to": ["role:manager"],
        "action-0-amount": "2",
        "action-0-unit": "working_hours",
        "action-1-kind": "",
        **more,
    }


def test_a_rule_is_made_tried_switched_on_and_acts(store: Store, admin: FlaskClient) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, region="North", name="Wang Fang")
        make_lead(transaction, region="South", name="Li Wei")
    tried = send(admin, NEW, "try", **rule_form())
    assert "It would have acted 1 time on 1 record." in " ".join(tried.text.split())
    assert "Wang Fang" in tried.text
    assert "Li Wei" not in tried.text
    assert 'value="北区线索"' in tried.text, "what was typed is kept"
    made = send(admin, NEW, "save", **rule_form())
    assert made.status_code == 302
    with store.reading() as session:
        (rule,) = list_rules(session)
        assert rule.version.declared == {
            "name": {"en": "Northern leads", "zh": "北区线索"},
            "record_type": "lead",
            "trigger": {"kind": "record_created"},
            "condition": ["region:eq:North"],
            "actions": [
                {
                    "kind": "task",
                    "text": {"en": "Call", "zh": "致电"},
                    "to": ["role:manager"],
                    "amount": 2.0,
                    "unit": "working_hours",
                }
            ],
        }
    send(admin, f"/admin/automation/{rule.kept.id}/on", "")
    with store.transaction() as transaction:
        make_lead(transaction, region="North", name="Zhao Min")
    Follower(store).run_until_done()
    for path in (f"/admin/automation/{rule.kept.id}", "/admin/automation/runs"):
        shown = admin.get(path).text
        assert "Zhao Min" in shown
        assert "Plan a task" in shown


def test_every_kind_has_its_inputs_and_keeps_what_was_typed(store: Store, admin: FlaskClient) -> None:
    for kind, parts in TRIGGERS.items():
        record_type = "deal" if kind in {"stage_entered", "stage_overdue", "alert_raised"} else "contact"
        shown = send(admin, NEW, "show", **{**rule_form(), "record_type": record_type, "trigger-kind": kind})
        assert shown.status_code == 200, kind
        for part in parts:
            assert f'name="trigger-{part.name}' in shown.text or part.input == "some", (kind, part.name)
    for kind, parts in ACTIONS.items():
        shown = send(admin, NEW, "show", **rule_form(**{"action-0-kind": kind}))
        for part in parts:
            assert f'name="action-0-{part.name}' in shown.text, (kind, part.name)


def test_values_are_shown_and_typed_by_their_words(
    store: Store, app: Flask, cast: Cast, admin: FlaskClient
) -> None:
    chinese = logged_in(app, cast["Adam"], "zh")
    typed = rule_form(
        **{
            "trigger-kind": "field_changed",
            "trigger-field": "status",
            "trigger-to": "进行中, converted",
            "condition-field": ["status", "scoring_opt_out", "source", "region"],
            "condition-op": ["in", "eq", "eq", "eq"],
            "condition-value": ["进行中\uff0c已排除", "否", "web_form", "进行中"],
        }
    )
    assert send(chinese, NEW, "save", **typed).status_code == 302
    with store.reading() as session:
        (rule,) = list_rules(session)
        declared = rule.version.declared
    assert declared["trigger"]["to"] == ["open", "converted"]
    assert declared["condition"] == [
        "status:in:open,disqualified",
        "scoring_opt_out:eq:false",
        "source:eq:web_form",
        "region:eq:进行中",
    ], "a free text is what was typed"
    listed = chinese.get("/admin/automation").text
    assert "状态 → 进行中, 已转化" in listed
    assert "状态 属于 进行中, 已排除" in listed
    assert "open" not in re.findall(r"状态 属于 ([^<]*)", listed)[0]
    form = chinese.get(f"/admin/automation/{rule.kept.id}").text
    for shown in ("进行中, 已排除", "进行中, 已转化", "否"):
        assert f'value="{shown}"' in form
    assert '<option value="已转化"></option>' in form
    assert 'value="Open, Converted"' in admin.get(f"/admin/automation/{rule.kept.id}").text


def test_the_rules_that_come_along_are_shown_and_saved_as_they_were(
    store: Store, app: Flask, cast: Cast, admin: FlaskClient
) -> None:
    ship_rules(store)
    browsers = (admin, logged_in(app, cast["Adam"], "zh"))
    assert len(re.findall(r'href="/admin/automation/\d+"', admin.get("/admin/automation").text)) == len(
        SHIPPED
    )
    for rule_id in range(1, len(SHIPPED) + 1):
        client = browsers[rule_id % 2]
        page = client.get(f"/admin/automation/{rule_id}").text
        saved = client.post(
            f"/admin/automation/{rule_id}", data=MultiDict([*fields_of(page), ("do", "save")])
        )
        assert saved.status_code == 302, saved.text
        with store.reading() as session:
            found = get_rule(session, rule_id)
        assert found.kept.version == 2
        assert found.rule == read_rule(SHIPPED[rule_id - 1].declared()), SHIPPED[rule_id - 1].key


def fields_of(page: str) -> list[tuple[str, str]]:
    """Return what a browser would send of the form, as it is shown."""
    form = page[page.index('name="version"') - 200 : page.index('value="save"')]
    found: list[tuple[str, str]] = [("csrf_token", csrf_of(page))]
    for tag in re.finditer(
        r"<input([^>]*)>|<select([^>]*)>(.*?)</select>|<textarea([^>]*)>(.*?)</textarea>", form, re.DOTALL
    ):
        given = tag[1] or tag[2] or tag[4] or ""
        name = re.search(r'name="([^"]*)"', given)
        if name is None or name[1] == "csrf_token":
            continue
        if tag[2] is not None:
            chosen = re.findall(r'<option value="([^"]*)" selected', tag[3])
            first = re.findall(r'<option value="([^"]*)"', tag[3])[:1]
            found += [(name[1], each) for each in (chosen or ([] if "multiple" in given else first))]
        elif tag[4] is not None:
            found.append((name[1], tag[5]))
        elif "checkbox" not in given or "checked" in given:
            value = re.search(r'value="([^"]*)"', given)
            found.append((name[1], value[1] if value else ""))
    return found


def test_a_form_that_cannot_mean_anything_says_why_and_keeps_what_was_typed(admin: FlaskClient) -> None:
    refused = send(admin, NEW, "save", **rule_form(**{"name-en": "", "name-zh": ""}))
    assert refused.status_code == 422
    assert "Name (English): fill this in." in refused.text
    empty = send(
        admin,
        NEW,
        "save",
        **rule_form(**{"action-0-kind": "notice", "action-0-text-en": "", "action-0-text-zh": ""}),
    )
    assert "Action 1: Text (English): fill this in." in empty.text
    assert 'value="致电"' in refused.text
    loop = rule_form(
        **{
            "trigger-kind": "field_changed",
            "trigger-field": "region",
            "action-0-kind": "set",
            "action-0-field": "region",
            "action-0-value": "North",
        }
    )
    refused = send(admin, NEW, "save", **loop)
    assert refused.status_code == 422
    assert "would set off itself" in refused.text
    assert send(admin, NEW, "save", **rule_form(record_type="nothing")).status_code == 422


def test_a_form_that_somebody_else_has_overtaken_is_refused(store: Store, admin: FlaskClient) -> None:
    send(admin, NEW, "save", **rule_form())
    with store.reading() as session:
        rule = list_rules(session)[0].kept.id
    path = f"/admin/automation/{rule}"
    assert send(admin, path, "save", **rule_form(version="1")).status_code == 302
    assert send(admin, path, "save", **rule_form(version="1")).status_code == 422


def test_the_bell_says_what_the_rule_says_in_the_readers_language(
    store: Store, app: Flask, cast: Cast, admin: FlaskClient
) -> None:
    told = rule_form(**{"action-0-kind": "notice", "action-0-to": ["role:manager"]})
    send(admin, NEW, "save", **told)
    with store.reading() as session:
        rule = list_rules(session)[0].kept.id
    send(admin, f"/admin/automation/{rule}/on", "")
    with store.transaction() as transaction:
        make_lead(transaction, region="North", owner_id=cast["Ana"].id)
    Follower(store).run_until_done()
    manager = logged_in(app, cast["Mara"])
    assert "Call" in manager.get("/notifications").text
    assert "致电" in manager.get("/notifications", headers={"Accept-Language": "zh"}).text
    with store.reading() as session:
        assert session.scalars(select(Lead.owner_id)).all() == [cast["Ana"].id]


def test_only_administrators_see_it(app: Flask, cast: Cast) -> None:
    for name in ("Ana", "Mara", "Dana"):
        assert logged_in(app, cast[name]).get("/admin/automation").status_code == 403


def test_its_pages_ask_the_store_little(store: Store, admin: FlaskClient) -> None:
    ship_rules(store)
    for path in ("/admin/automation", "/admin/automation/1", NEW, "/admin/automation/runs"):
        admin.get(path)
        with counted(store) as statements:
            assert admin.get(path).status_code == 200
        assert len(statements) <= 12, path


def test_versions_say_in_words_what_changed(store: Store, app: Flask, cast: Cast) -> None:
    chinese = logged_in(app, cast["Adam"], "zh")
    assert send(chinese, NEW, "save", **rule_form()).status_code == 302
    with store.reading() as session:
        (rule,) = list_rules(session)
    path = f"/admin/automation/{rule.kept.id}"
    changed = rule_form(**{"condition-field": "status", "condition-value": "已排除", "action-0-amount": "3"})
    assert send(chinese, path, "save", **changed, version="1").status_code == 302
    newest, first = re.findall(r"<li><details>(.*?)</details>", chinese.get(path).text, re.DOTALL)
    said = [
        " ".join(re.sub("<[^>]+>", " ", each).split()) for each in re.findall(r"<d[td]>.*?</d[td]>", newest)
    ]
    assert said[:2] == ["条件 1", "地区 等于 North → 状态 等于 已排除"]
    assert said[3] == "2 → 3"
    assert len(said) == 4
    assert "北区线索" in first
    assert "动作 1: 给谁</dt><dd>销售经理" in first
    assert "{" not in newest + first
