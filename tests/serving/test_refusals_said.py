"""What was refused to somebody who reads Chinese: forms as browsers send them, and what comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Final

import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.store import Store
from tests.serving.conftest import logged_in
from tests.serving.page_world import open_world
from tests.serving.test_access import World

Form = Mapping[str, str]

REFUSED: Final[tuple[tuple[str, str, Form | None, str], ...]] = (
    ("Ana", "/deals/{deal}/stage", {"stage": "nowhere", "version": "1"}, "现有阶段：初步接触、"),
    (
        "Ana",
        "/leads/{lead}/activities",
        {"kind": "dance", "subject": "x"},
        "类型：应为以下之一：电话、客户反馈",
    ),
    ("Ana", "/leads/{lead}/activities", {"kind": "call", "minutes": "many"}, "应为分钟数"),
    ("Ana", "/leads/{lead}/activities", {"kind": "call", "occurred_at": "2099-01-01T00:00"}, "不晚于现在"),
    ("Ana", "/today/leads/{lead}/steps", {"subject": "", "due_on": "2026-12-01"}, "主题：请填写要做的事"),
    ("Ana", "/today/leads/{lead}/steps", {"subject": "x", "due_on": "soon"}, "到期日：应为日期"),
    ("Ana", "/today/capacity", {"capacity": "9999"}, "每日处理量：应为 1 到 200 之间的数字"),
    ("Ana", "/today/leads/{lead}/feedback", {"verdict": "wrong", "reason": "x"}, "原因：应为以下之一"),
    ("Mara", "/team/targets", {"who": "x", "measure": "won_amount", "value": "1"}, "人员：应为列表中的选项"),
    (
        "Ana",
        "/account/absences",
        {"first_day": "2026-03-05", "last_day": "2026-03-01"},
        "最后一天：应为不早于",
    ),
    (
        "Ana",
        "/lists/lead/views",
        {"name": "", "filter": "name:contains:a", "shared": "own"},
        "名称：请填写名称",
    ),
    (
        "Ana",
        "/lists/lead/views",
        {"name": "x", "filter": "name:contains:a", "shared": "x"},
        "仅自己、我的团队",
    ),
    ("Ana", "/lists/lead/many", {"action": "export", "format": "doc", "which": "all"}, "格式：应为以下之一"),
    ("Ana", "/duplicates/merge", {"type": "lead", "keep": "{lead}", "gone": "{lead}"}, "不能与自己合并"),
    ("Ana", "/records/deal/{deal}/quotes", {"currency": "???"}, "币种：应为三个字母"),
    ("Ana", "/quotes/{quote}/act", {"action": "accept"}, "的状态是“草稿”，应为已发送且客户尚未答复的报价"),
    ("Ana", "/quotes/{quote}/lines", {"text": "", "quantity": "x"}, "应为：数字"),
    ("Ana", "/records/order/{order}/receive", {"amount": "x"}, "应为：数字"),
    (
        "Ana",
        "/records/lead/{lead}/mail",
        {"to": "x", "subject": "a", "text": "b"},
        "收件人：应为一个邮箱地址",
    ),
    (
        "Mara",
        "/intake/templates",
        {"name": "", "subject": "x", "body": "x", "language": "en"},
        "名称：请填写",
    ),
    ("Ana", "/tickets/new", {"subject": "", "account": "x"}, "客户：应为"),
    ("Ana", "/tickets/many", {"to": "next", "id": "{ticket}"}, "队列：请填写队列"),
    ("Ana", "/tickets/{ticket}/merge", {"into": "{ticket}"}, "不能与自己合并"),
    ("Ana", "/import", {"record_type": "user"}, "页面上只能导入线索、客户、联系人、商机"),
    ("Mara", "/campaigns", {"name": "x", "budget": "-5"}, "预算：应为不小于 0 的金额"),
    (
        "Adam",
        "/admin/fields",
        {"record_type": "lead", "name": "x", "kind": "x"},
        "类型：应为以下之一：",
    ),
    (
        "Adam",
        "/admin/types",
        {"name": "Bad Name", "label_en": "a", "label_zh": "b"},
        "名称最多 40 个小写字母",
    ),
    (
        "Adam",
        "/admin/people/new",
        {"name": "x", "email": "ana@example.com", "role": "rep"},
        "邮箱：应为其他同事",
    ),
    ("Adam", "/admin/sales", {"company": "x"}, "您的修改基于版本"),
    ("Adam", "/admin/service/queues", {"key": "no key", "name": "x"}, "队列代号：应为最多 40 个"),
    ("Adam", "/admin/webhooks", {"name": "x", "url": "http://a.example"}, "该地址应以 https:// 开头"),
    ("Adam", "/admin/working-time", {"zone": "UTC", "day-1": "9 to 5"}, "工作时间：应为时段"),
    ("Adam", "/admin/automation/new", {"record_type": "dragon"}, "没有“dragon”这种记录类型"),
    ("Ana", "/reports/save", {"name": ""}, "指标：应为 1 到 8 个指标"),
    ("Ana", "/leads?filter=salary:eq:1", None, "线索没有字段“salary”"),
    ("Ana", "/leads?filter=employees:like:1", None, "可用：等于、不等于"),
    ("Ana", "/leads?filter=status:eq:odd", None, "筛选“状态”：应为以下之一：已转化"),
    ("Ana", "/funnel?since=x", None, "开始日期：应为日期"),
)
"""Who sends what where, and what is said to them."""

ALERT = re.compile(
    r'<(\w+)[^>]*(?:role="alert"|class="[^"]*(?:act-refused|alert)[^"]*")[^>]*>(.*?)</\1>', re.DOTALL
)
ENGLISH = re.compile(r"[A-Za-z]{2,} [a-z]+ [a-z]+")


@pytest.fixture(scope="module")
def opened(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[tuple[World, Flask, Store]]:
    yield from open_world(empty_database, tmp_path_factory.mktemp("refusals"), password_hash)


def told(client: FlaskClient, path: str, form: Form | None) -> list[str]:
    """Return what was said to be wrong: by itself, on the page, or on the one that it leads to."""
    answer = client.get(path) if form is None else client.post(path, data=form)
    if answer.status_code == 302:
        answer = client.get(answer.location)
    if not answer.text.lstrip().startswith("<"):
        return [answer.text]
    found = [plain(each[1]) for each in ALERT.findall(answer.text)]
    return [each for each in found if each] or [
        plain(answer.text.partition("<main")[2].partition("</main")[0])
    ]


def plain(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).split())


@pytest.mark.parametrize(
    ("who", "path", "form", "expected"), REFUSED, ids=[f"{at} {each[1]}" for at, each in enumerate(REFUSED)]
)
def test_a_refusal_is_said_in_chinese(
    opened: tuple[World, Flask, Store], who: str, path: str, form: Form | None, expected: str
) -> None:
    world, app, _ = opened
    ids = {name: str(whose["own"]) for name, whose in world.ids.items() if "own" in whose}
    address = path.format(**ids)
    sent = None if form is None else {name: value.format(**ids) for name, value in form.items()}
    english = told(logged_in(app, world.cast[who]), address, sent)
    chinese = told(logged_in(app, world.cast[who], "zh"), address, sent)
    assert expected in " ".join(chinese)
    assert [each for each in chinese if ENGLISH.search(re.sub("“[^”]*”", "", each))] == []
    assert any(re.match("[A-Za-z]", each) for each in english), "the very request is refused in English too"
    assert not set(english) & set(chinese)
