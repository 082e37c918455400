"""What is suggested, and what is called unusual: on pages and over HTTP, to whom it concerns alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from crm_core.access import FieldRight
from crm_core.changes import Source
from crm_core.clock import FixedClock, micros
from crm_core.deals import close_deal
from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import Prediction
from crm_core.records import Account, Activity, Consent, Deal, Lead
from crm_core.store import Store
from models.missing_field import MissingField
from models.next_step import Step
from models.unusual import clumping_of, compare_means, compare_shares, compare_weeks, unusual
from serving.unusual import _Seen, _stalls
from tests.factories import make_account, make_activity, make_contact, make_deal
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, logged_in
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)


def step(action: str) -> Step:
    return Step(
        action=action,
        situation="",
        with_records=120,
        without_records=340,
        with_share=0.34,
        without_share=0.21,
        difference=0.13,
        low=0.04,
        high=0.22,
    )


def missing(field: str) -> MissingField:
    return MissingField(field=field, low=0.2, high=0.6, typical_change=0.1, spread=0.5, records=40)


STEPS = (step("meeting"), step("call"), step("quote"))
MISSING = (missing("deal.amount"), missing("account.industry"))


@pytest.fixture
def deal(store: Store, cast: Cast, promote: Promote) -> Deal:
    """A deal of Ana's with somebody to talk to, and a model that has something to suggest."""
    promote("win_probability", steps=STEPS, missing=MISSING)
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id, industry="steel")
        contact = make_contact(transaction, account_id=account.id, owner_id=cast["Ana"].id)
        made = make_deal(
            transaction, owner_id=cast["Ana"].id, account_id=account.id, contact_id=contact.id, amount=None
        )
        transaction.session.get_one(Deal, made.id).probability = 0.4
        return made


def hide(store: Store, role: str, record_type: str, field: str) -> None:
    with store.transaction() as transaction:
        right = FieldRight(role=role, record_type=record_type, field=field, read=False, write=False)
        transaction.session.add(right)


def ask(client: FlaskClient, cast: Cast, path: str, who: str = "Ana") -> Any:
    return client.get(f"/api/v1/{path}/suggestions", headers=cast.header(who))


def told(client: FlaskClient, cast: Cast, deal: Deal, who: str = "Ana") -> tuple[list[str], list[str]]:
    given = ask(client, cast, f"deals/{deal.id}", who).get_json()
    return [each["action"] for each in given["steps"]], [each["field"] for each in given["fields"]]


# ---------------------------------------------------------------- about a record


def test_the_next_step_and_what_is_worth_asking_for_are_told_as_what_went_together(
    client: FlaskClient, cast: Cast, deal: Deal, app: Flask
) -> None:
    given = ask(client, cast, f"deals/{deal.id}").get_json()
    assert (given["within_days"], given["model_version"]) == (14, "win_probability-1")
    assert [each["action"] for each in given["steps"]] == ["meeting", "call"]
    assert (given["steps"][0]["with_records"], given["steps"][0]["low"]) == (120, 0.04)
    assert "not a promise" in given["note_en"]
    page = logged_in(app, cast["Ana"]).get(f"/records/deal/{deal.id}/suggestions").get_data(as_text=True)
    assert "34% against 21% without" in page
    assert "120 and 340 records; the difference is 4 to 22 points" in page
    assert "because" not in page
    chinese = logged_in(app, cast["Ana"], "zh").get(f"/records/deal/{deal.id}/suggestions")
    assert "34%" in chinese.get_data(as_text=True)


def test_what_was_done_lately_is_no_next_step(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal
) -> None:
    with store.transaction() as transaction:
        given = {"deal_id": deal.id, "owner_id": cast["Ana"].id}
        make_activity(transaction, kind="meeting", outcome="held", **given)
    assert told(client, cast, deal)[0] == ["call", "quote"]


@pytest.mark.parametrize(
    ("hidden", "steps", "fields"),
    [
        (("deal", "amount"), ["meeting", "call"], ["account.industry"]),
        (("activity", "outcome"), ["quote"], ["deal.amount", "account.industry"]),
        (("deal", "status"), [], ["deal.amount", "account.industry"]),
        (("deal", "probability"), [], []),
    ],
)
def test_nothing_is_suggested_that_comes_from_hidden_fields(
    client: FlaskClient,
    store: Store,
    cast: Cast,
    deal: Deal,
    hidden: tuple[str, str],
    steps: list[str],
    fields: list[str],
) -> None:
    hide(store, "rep", *hidden)
    assert told(client, cast, deal) == (steps, fields)
    assert told(client, cast, deal, "Mara") == (["meeting", "call"], ["deal.amount", "account.industry"])


def test_others_records_are_not_there_and_of_closed_ones_nothing_is_suggested(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal
) -> None:
    assert ask(client, cast, f"deals/{deal.id}", "Otto").status_code == 404
    with store.transaction() as transaction:
        close_deal(transaction, transaction.get(Deal, deal.id), won=False)
    assert told(client, cast, deal) == ([], [])


def test_of_whom_asks_not_to_be_scored_nothing_is_suggested(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal
) -> None:
    call_often(store, cast, deal)
    assert times(client, cast, deal) == [("call", "own")]
    with store.transaction() as transaction:
        account = transaction.get(Account, deal.account_id or 0)
        set_scoring_opt_out(transaction, account, opted_out=True)
    assert told(client, cast, deal) == ([], [])
    assert times(client, cast, deal) == []


def call_often(store: Store, cast: Cast, deal: Deal) -> None:
    """Call a deal's contact for half a year: mornings get through, afternoons do not."""
    now = store.clock.now()
    rows = [
        {
            "kind": "call",
            "direction": "outbound",
            "outcome": "connected" if hour == 9 else "no answer",
            "contact_id": deal.contact_id,
            "owner_id": cast["Ana"].id,
            "occurred_at": at,
            "recorded_at": at,
        }
        for days in range(1, 120)
        for hour in (9, 15)
        if (at := (now - days * DAY).replace(hour=hour)).weekday() < 5
    ]
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.create_many(Activity, rows)


def times(client: FlaskClient, cast: Cast, deal: Deal, who: str = "Ana") -> list[tuple[str, str]]:
    given = ask(client, cast, f"deals/{deal.id}", who).get_json()
    return [(each["way"], each["whose"]) for each in given["times"]]


def test_when_somebody_answers_is_told_with_counts_and_only_by_calls_that_the_reader_sees(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal
) -> None:
    assert times(client, cast, deal) == []
    call_often(store, cast, deal)
    (given,) = ask(client, cast, f"contacts/{deal.contact_id}").get_json()["times"]
    assert (given["part"], given["first_day"], given["last_day"]) == ("morning", 0, 4)
    assert (given["answered"], given["tried"], given["answered_else"], given["tried_else"]) == (85, 85, 0, 85)
    assert given["expected"] > 0.7 > given["low"] > 0
    hide(store, "rep", "activity", "outcome")
    assert times(client, cast, deal) == []
    assert times(client, cast, deal, "Mara") == [("call", "own")]


def test_nobody_is_told_when_to_write_to_somebody_who_does_not_want_mails(
    client: FlaskClient, store: Store, cast: Cast, deal: Deal
) -> None:
    now = store.clock.now()
    mails = []
    for days in range(2, 200):
        for hour in (9, 15):
            at = (now - days * DAY).replace(hour=hour)
            mails.append(("outbound", at))
            mails += [("inbound", at + timedelta(hours=3))] if hour == 9 and days % 3 == 0 else []
    with store.transaction(source=Source.IMPORT) as transaction:
        common = {"kind": "mail", "contact_id": deal.contact_id, "owner_id": cast["Ana"].id}
        transaction.create_many(
            Activity,
            [{**common, "direction": way, "occurred_at": at, "recorded_at": at} for way, at in mails],
        )
    before = times(client, cast, deal)
    with store.transaction() as transaction:
        contact = make_contact(transaction, consent=Consent.WITHDRAWN, owner_id=cast["Ana"].id)
        transaction.update(transaction.get(Deal, deal.id), {"contact_id": contact.id})
    assert before == [("mail", "own")]
    assert times(client, cast, deal) == []


# ---------------------------------------------------------------- what is unusual


def test_where_there_is_chance_alone_hardly_anything_is_called_unusual() -> None:
    random = np.random.default_rng(11)
    wrong = 0
    for _ in range(60):
        series = [random.poisson(rate, 27).astype(float) for rate in np.geomspace(0.2, 20, 25)]
        clumping = clumping_of([each[1:] for each in series])
        told = [compare_weeks(each[0], each[1:], clumping=clumping) for each in series]
        told += [compare_means(random.beta(1, 6, size), random.beta(1, 6, 200)) for size in (12, 30)]
        told += [
            compare_shares(random.binomial(size, 0.1), size, random.binomial(300, 0.1), 300)
            for size in (12, 40)
        ]
        wrong += any(unusual([each.chance for each in told if each is not None]))
    assert wrong <= 6


def test_what_is_far_off_is_called_unusual_though_the_past_had_an_odd_week() -> None:
    before = np.array([5.0, 4, 6, 5, 7, 3, 5, 60, 4, 6, 5, 5, 4, 6])
    assert unusual([found.chance for now in (22.0, 5.0) if (found := compare_weeks(now, before))]) == [
        True,
        False,
    ]
    few = compare_weeks(22.0, before[:7])
    assert few is None


def test_a_deal_that_is_over_comes_to_no_standstill() -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    seen: dict[str, Any] = {"owner_id": 1, "lost": False, "amount": None, "currency": None}
    came, ended = now - 100 * DAY, now - 95 * DAY
    at = [micros(now - days * DAY) for days in (80, 50, 40)]
    calls = {"deal_id": np.array([1, 2, 1]), "occurred_at": np.array(at)}
    over = _Seen(id=1, came=came, ended=ended, **seen)
    runs = _Seen(id=2, came=now - 60 * DAY, ended=None, **seen)
    assert _stalls([over, runs], calls, now) == [(1, now - 36 * DAY)]


@pytest.fixture
def lost(store: Store, clock: FixedClock, cast: Cast) -> None:
    """Ana, Ben and Otto lose a deal or two a week; this week Ana loses eleven."""
    now, random = store.clock.now(), np.random.default_rng(5)
    rows = [
        lost_deal(cast[name].id, now - week * WEEK - (place + 1) * timedelta(hours=9))
        for week in range(20)
        for name in ("Ana", "Ben", "Otto")
        for place in range(11 if name == "Ana" and week == 0 else int(random.integers(1, 3)))
    ]
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.create_many(Deal, rows)


def lost_deal(owner: int, at: datetime) -> dict[str, Any]:
    """A deal that was lost twelve days after it came."""
    came = at - 12 * DAY
    return {
        "name": "A pump",
        "stage": "needs",
        "status": "lost",
        "closed_at": at,
        "owner_id": owner,
        "occurred_at": came,
        "recorded_at": came,
    }


def changes(client: FlaskClient, cast: Cast, who: str) -> list[tuple[str, int | None]]:
    given = client.get("/api/v1/unusual-changes", headers=cast.header(who)).get_json()
    return [(each["measure"], each["user_id"]) for each in given["items"]]


def test_a_week_of_losses_is_told_to_whom_it_concerns_and_to_nobody_else(
    client: FlaskClient, store: Store, cast: Cast, lost: None, app: Flask
) -> None:
    ana = cast["Ana"].id
    assert changes(client, cast, "Ana") == changes(client, cast, "Mara") == [("lost", ana)]
    assert changes(client, cast, "Ben") == changes(client, cast, "Otto") == []
    given = client.get("/api/v1/unusual-changes", headers=cast.header("Ana")).get_json()["items"][0]
    assert (given["now"], given["weeks"]) == (11, 1)
    assert 1 <= given["usual"] <= given["high"] < 11
    page = logged_in(app, cast["Mara"]).get("/team/unusual").get_data(as_text=True)
    assert "Ana" in page
    assert "Deals lost in seven days: 11" in page
    assert "Otto" not in page
    assert "data-later" in logged_in(app, cast["Ana"]).get("/team").get_data(as_text=True)
    hide(store, "rep", "deal", "status")
    assert changes(client, cast, "Ana") == []


def test_a_source_whose_leads_are_converted_less_or_called_worse_is_told(
    client: FlaskClient, store: Store, cast: Cast
) -> None:
    now, random = store.clock.now(), np.random.default_rng(9)
    rows = []
    for place in range(600):
        came = now - place * timedelta(hours=8)
        source = ("web", "fair")[place % 2]
        good = source == "web" and came < now - 60 * DAY
        rows.append((came, source, (came + 5 * DAY) if good and random.random() < 0.5 else None))
    leads = [
        {
            "company": f"Company {number}",
            "source": source,
            "status": "converted" if at else "open",
            "converted_at": at,
            "owner_id": cast["Ben"].id,
            "occurred_at": came,
            "recorded_at": came,
        }
        for number, (came, source, at) in enumerate(rows)
    ]
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(Lead, leads)
        for key, (came, source, _) in zip(ids, rows, strict=True):
            worse = source == "fair" and came > now - 7 * DAY
            transaction.session.add(
                said(key, came, float(random.beta(1, 30) if worse else random.beta(4, 8)))
            )
    seen = client.get("/api/v1/unusual-changes", headers=cast.header("Mara")).get_json()["items"]
    assert {(each["measure"], each["source"]) for each in seen} == {("converted", "web"), ("score", "fair")}
    assert all(each["now"] < each["usual"] for each in seen)
    assert changes(client, cast, "Otto") == []
    hide(store, "manager", "lead", "probability")
    assert changes(client, cast, "Mara") == [("converted", None)]


def said(lead: int, at: datetime, probability: float) -> Prediction:
    return Prediction(
        task="lead_scoring",
        record_type="lead",
        record_id=lead,
        as_of=at,
        recorded_at=at,
        model_version="lead_scoring-1",
        horizon_days=90,
        probability=probability,
    )
