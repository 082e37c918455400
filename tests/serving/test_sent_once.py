"""A form that makes something makes it once, however often the same is sent."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from crm_core.fields import FieldDeclaration
from crm_core.records import Activity, Attachment, Comment, CustomRecordType, Deal, Lead, Team, User
from crm_core.saved import SavedView
from crm_core.store import Store
from crm_core.tokens import Token
from crm_core.webhooks import WebhookEndpoint
from tests.factories import make_contact, make_deal, make_lead
from tests.serving.conftest import Cast, csrf_of, logged_in

SCRIPT = {"X-Requested-With": "fetch"}


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form: the page it is on, where it is sent, what it makes of what."""

    page: str
    action: str
    makes: type[Any]
    fields: dict[str, Any] = field(default_factory=dict)
    who: str = "Ana"


CALL = {"kind": "call", "subject": "Asked about the offer", "outcome": "reached"}

FORMS = (
    Form(page="/leads/new", action="/leads/new", makes=Lead, fields={"name": "Wang Fang"}),
    Form(page="/leads/1", action="/leads/1/activities", makes=Activity, fields=CALL),
    Form(page="/deals/1", action="/deals/1/activities", makes=Activity, fields=CALL),
    Form(page="/leads/1", action="/records/lead/1/comments", makes=Comment, fields={"body": "Call her"}),
    Form(page="/contacts/1", action="/records/contact/1/activities", makes=Activity, fields=CALL),
    Form(page="/today/leads/1", action="/today/leads/1/activities", makes=Activity, fields=CALL),
    Form(
        page="/today/leads/1",
        action="/today/leads/1/steps",
        makes=Activity,
        fields={"subject": "Send it", "due_on": "2026-03-09"},
    ),
    Form(page="/records/lead/1/around", action="/records/lead/1/files", makes=Attachment),
    Form(
        page="/leads",
        action="/lists/lead/views",
        makes=SavedView,
        fields={"name": "Mine", "as": "view", "shared": "own"},
    ),
    Form(
        page="/account",
        action="/account/keys",
        makes=Token,
        fields={"name": "export", "scope": "read", "days": "30"},
    ),
    Form(page="/admin/teams", action="/admin/teams", makes=Team, fields={"name": "East"}, who="Adam"),
    Form(
        page="/admin/people/new",
        action="/admin/people/new",
        makes=User,
        fields={"name": "Eva", "email": "eva@example.com", "role": "rep"},
        who="Adam",
    ),
    Form(
        page="/admin/fields",
        action="/admin/fields",
        makes=FieldDeclaration,
        fields={"record_type": "lead", "name": "tier", "kind": "text", "known": "history"},
        who="Adam",
    ),
    Form(
        page="/admin/fields",
        action="/admin/types",
        makes=CustomRecordType,
        fields={"name": "project", "label_en": "Project", "label_zh": "项目"},
        who="Adam",
    ),
    Form(
        page="/admin/webhooks",
        action="/admin/webhooks",
        makes=WebhookEndpoint,
        fields={"name": "Shop", "url": "https://hooks.example.com/crm", "event_types": "*"},
        who="Adam",
    ),
    Form(page="/leads/1", action="/leads/1/convert", makes=Deal, fields={"with_deal": "yes"}),
)


@pytest.fixture
def records(store: Store, cast: Cast) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, owner_id=cast["Ana"].id)
        make_deal(transaction, owner_id=cast["Ana"].id)
        make_contact(transaction, owner_id=cast["Ana"].id)


def count(store: Store, model: type[Any]) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


class Sender:
    """Somebody who has a form before them."""

    def __init__(self, app: Flask, cast: Cast, form: Form) -> None:
        self.client, self.form = logged_in(app, cast[form.who]), form
        page = self.client.get(form.page).text
        whole = [each for each in re.findall(r"<form.*?</form>", page, re.DOTALL) if self._is_it(each)]
        assert whole, page
        once = re.search(r'name="once" value="([\w-]+)"', whole[0])
        assert once is not None, whole[0]
        self.hidden = {"csrf_token": csrf_of(whole[0]), "once": once[1]}

    def _is_it(self, text: str) -> bool:
        opening = text.split(">", 1)[0]
        return f'action="{self.form.action}"' in opening or (
            "action=" not in opening and 'method="post"' in opening and self.form.action == self.form.page
        )

    def send(self, headers: dict[str, str] | None = None, **more: Any) -> TestResponse:
        data: dict[str, Any] = {**self.form.fields, **self.hidden, **more}
        if self.form.makes is Attachment:
            data["file"] = (BytesIO(b"%PDF-1.4 offer"), "offer.pdf")
        return self.client.post(self.form.action, data=data, headers=headers)


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.action)
def test_what_is_sent_twice_is_made_once(app: Flask, store: Store, cast: Cast, form: Form) -> None:
    sender = Sender(app, cast, form)
    before = count(store, form.makes)
    first, second = sender.send(), sender.send()
    assert first.status_code in {200, 302}, first.text
    assert (count(store, form.makes) - before, second.status_code) == (1, 302)
    if first.location:
        assert second.location == first.location


@pytest.mark.usefixtures("records")
def test_something_else_in_the_same_form_is_made_too(app: Flask, store: Store, cast: Cast) -> None:
    sender = Sender(app, cast, FORMS[3])
    for text in ("Call her", "Call her again", "Call her"):
        sender.send(body=text)
    assert count(store, Comment) == 2


@pytest.mark.usefixtures("records")
def test_what_was_refused_may_be_sent_again(app: Flask, store: Store, cast: Cast) -> None:
    sender = Sender(app, cast, FORMS[0])
    assert [sender.send(employees="many").status_code for _ in range(2)] == [422, 422]
    assert sender.send().status_code == 302
    assert count(store, Lead) == 2


@pytest.mark.usefixtures("records")
def test_a_script_whose_answer_was_lost_gets_it_when_it_asks_again(
    app: Flask, store: Store, cast: Cast
) -> None:
    sender = Sender(app, cast, FORMS[3])
    answers = [sender.send(SCRIPT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert all("Call her" in answer.text for answer in answers)
    assert count(store, Comment) == 1


@pytest.mark.usefixtures("records")
def test_pressed_four_times_at_once_it_is_one_lead(app: Flask, store: Store, cast: Cast) -> None:
    sender = Sender(app, cast, FORMS[0])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: sender.send(), range(4)))
    assert count(store, Lead) == 2
    assert {answer.location for answer in answers} == {"/leads/2"}


def test_nobody_takes_the_tokens_of_somebody_else(app: Flask, store: Store, cast: Cast) -> None:
    ana, ben = (Sender(app, cast, Form(**{**vars(FORMS[0]), "who": who})) for who in ("Ana", "Ben"))
    ben.hidden["once"] = ana.hidden["once"]
    ana.send()
    ben.send()
    assert count(store, Lead) == 2
