"""The page of alerts and the bell: for whom they are, in both languages, acted on in place."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.alerts import ByMail, State, mail_wish
from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.alerting import Alerting
from serving.app import create_app
from serving.champions import Champions
from serving.settings import Settings
from tests.alerts.world import DAY, alerts, say
from tests.factories import make_account, make_contract, make_deal
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, csrf_of, logged_in

BY_SCRIPT = {"X-Requested-With": "fetch"}


@pytest.fixture
def told(store: Store, clock: FixedClock, cast: Cast) -> int:
    """The alert that Ana's customer Hill & Sons is above the level; one of her deals fell, too."""
    ana = cast["Ana"].id
    with store.transaction() as transaction:
        customer = make_account(transaction, owner_id=ana).id
        make_contract(transaction, account_id=customer, ends_on=date(2026, 12, 31))
        deal = make_deal(transaction, owner_id=ana).id
    say(store, deal, 0.7, of="deal")
    say(store, customer, 0.12)
    clock.advance(DAY)
    say(store, deal, 0.2, of="deal")
    say(store, customer, 0.41)
    Alerting(store).run_until_done()
    return next(alert.id for alert in alerts(store) if alert.record_type == "account")


def page(client: FlaskClient, path: str = "/alerts") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.text


def test_the_list_says_what_moved_how_much_is_at_risk_and_when_the_contract_ends(
    app: Flask, cast: Cast, told: int
) -> None:
    text = page(logged_in(app, cast["Ana"]))
    for said in (
        "Danger of leaving above the level",
        "12% →</span> 41%",
        "€4,100",
        "of €10,000",
        "contract ends Dec 31, 2026",
        "Chance to be won has fallen",
        "In hand",
    ):
        assert said in text
    assert text.index("Twenty pumps") < text.index("Hill &amp; Sons")


def test_the_list_in_chinese(app: Flask, cast: Cast, told: int) -> None:
    text = page(logged_in(app, cast["Ana"], "zh"))
    for said in (
        "预警",
        "流失风险超过警戒线",
        "赢单概率下降",
        "合同到期日",
        "处理中",
        "按风险金额从高到低排列",
    ):
        assert said in text
    assert "above the level" not in text


@pytest.mark.parametrize(("name", "count"), [("Ana", "2"), ("Mara", "2"), ("Ben", ""), ("Otto", "")])
def test_the_bell_counts_the_open_alerts_of_whoever_looks(
    app: Flask, cast: Cast, told: int, name: str, count: str
) -> None:
    text = page(logged_in(app, cast[name]), "/leads")
    assert f"<span data-count>{count}</span>" in text
    assert ('id="bell" hidden' in text) == (count == "")


def test_nobody_without_alerts_is_worried(app: Flask, cast: Cast, told: int) -> None:
    assert "Nothing to worry about" in page(logged_in(app, cast["Ben"]))
    assert "No alert fits the filters" in page(logged_in(app, cast["Ben"]), "/alerts?kind=deal_fall")


def test_whoever_only_reads_is_offered_nothing_to_do(app: Flask, cast: Cast, told: int) -> None:
    text = page(logged_in(app, cast["Dana"]))
    assert "Hill &amp; Sons" in text
    assert "data-in-place" not in text


def test_an_alert_is_acknowledged_in_place(app: Flask, cast: Cast, store: Store, told: int) -> None:
    client = logged_in(app, cast["Ana"])
    token = csrf_of(page(client))
    form = {"csrf_token": token, "note": "<b>called</b>"}
    answer = client.post(f"/alerts/{told}/acknowledge", data=form, headers=BY_SCRIPT)
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith(f'<tr id="alert-{told}"')
    assert "Open again" in answer.text
    assert "&lt;b&gt;called&lt;/b&gt;" in answer.text
    assert answer.headers["X-Open-Alerts"] == "1"
    assert "Hill &amp; Sons" not in page(client)
    assert "Hill &amp; Sons" in page(client, "/alerts?state=acknowledged")


def test_without_a_script_the_list_comes_back(app: Flask, cast: Cast, store: Store, told: int) -> None:
    client = logged_in(app, cast["Ana"])
    form = {"csrf_token": csrf_of(page(client)), "days": "7"}
    answer = client.post(f"/alerts/{told}/snooze", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/alerts")
    found = next(alert for alert in alerts(store) if alert.id == told)
    assert (found.state, found.snoozed_until) == (State.SNOOZED, store.clock.now() + timedelta(days=7))


def test_an_alert_is_handed_over(app: Flask, cast: Cast, store: Store, told: int) -> None:
    client = logged_in(app, cast["Mara"])
    form = {"csrf_token": csrf_of(page(client)), "assignee": str(cast["Mara"].id)}
    answer = client.post(f"/alerts/{told}/assign", data=form, headers=BY_SCRIPT)
    assert "given to Mara" in answer.text


@pytest.mark.parametrize(
    ("verb", "form", "status"),
    [
        ("snooze", {"days": "0"}, 422),
        ("snooze", {"days": "soon"}, 422),
        ("assign", {"assignee": "999999"}, 404),
        ("assign", {}, 422),
    ],
)
def test_a_choice_that_is_none_is_refused(
    app: Flask, cast: Cast, told: int, verb: str, form: dict[str, str], status: int
) -> None:
    client = logged_in(app, cast["Ana"])
    token = csrf_of(page(client))
    answer = client.post(f"/alerts/{told}/{verb}", data={"csrf_token": token, **form}, headers=BY_SCRIPT)
    assert answer.status_code == status


def test_nobody_acts_without_the_forms_token_or_on_what_is_not_theirs(
    app: Flask, cast: Cast, told: int
) -> None:
    ana, ben = logged_in(app, cast["Ana"]), logged_in(app, cast["Ben"])
    assert ana.post(f"/alerts/{told}/acknowledge").status_code == 400
    token = csrf_of(page(ben))
    assert ben.post(f"/alerts/{told}/acknowledge", data={"csrf_token": token}).status_code == 404


def test_a_record_shows_its_alerts_in_a_line(app: Flask, cast: Cast, store: Store, told: int) -> None:
    record_id = next(alert.record_id for alert in alerts(store) if alert.id == told)
    text = page(logged_in(app, cast["Ana"]), f"/customers/{record_id}")
    assert "Danger of leaving above the level</a>: 12% → 41%" in text
    assert "at risk: €4,100" in text


def test_a_long_list_has_a_second_page(app: Flask, cast: Cast, store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        ids = [
            make_account(transaction, name=f"No. {number}.", owner_id=cast["Ana"].id).id
            for number in range(27)
        ]
    for number, record_id in enumerate(ids):
        say(store, record_id, 0.4 + number / 100)
    Alerting(store).run_until_done()
    client = logged_in(app, cast["Ana"])
    first = page(client)
    assert "No. 26." in first
    assert "No. 1." not in first
    following = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = page(client, following)
    assert "No. 1." in second
    assert "No. 26." not in second


def test_everybody_chooses_their_mails_where_there_are_any(
    app: Flask, cast: Cast, store: Store, settings: Settings, champions: Champions
) -> None:
    client = logged_in(app, cast["Ana"])
    assert "Mails about alerts" not in page(client)
    mailing = Settings(home=settings.home, smtp_host="127.0.0.1", mail_from="crm@example.com")
    client = logged_in(create_app(mailing, store, champions), cast["Ana"])
    token = csrf_of(page(client))
    assert client.post("/alerts/mail", data={"csrf_token": token, "mail": "daily"}).status_code == 302
    with store.reading() as session:
        assert mail_wish(session, cast["Ana"].id) is ByMail.DAILY
    assert client.post("/alerts/mail", data={"csrf_token": token, "mail": "yearly"}).status_code == 422
