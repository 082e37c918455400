"""The team's page: counts against a plain loop, norms, targets and who may set them."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select

from crm_core.access import FieldRight, Reader
from crm_core.clock import FixedClock
from crm_core.deals import close_deal
from crm_core.errors import AccessDeniedError, InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.records import Activity, User
from crm_core.store import Store
from crm_core.targets import Measure, Target, Wanted, Whose, periods_at, read_period, set_target
from serving.owners import Staff, list_owners
from serving.team import Normed, TeamPage, TeamQuestion, read_team, starts_of
from tests.factories import make_account, make_activity, make_deal, make_lead
from tests.serving.conftest import *  # noqa: F403  its fixtures
from tests.serving.conftest import Cast, csrf_of, logged_in

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)


def read(store: Store, user: User, **given: Any) -> TeamPage:
    with store.reading() as session:
        asked: dict[str, Any] = {"now": store.clock.now(), "zone": "UTC"} | given
        question = TeamQuestion(**asked)
        return read_team(Reader(session, user), Staff.read(session), question)


@pytest.fixture
def busy(store: Store, clock: FixedClock, cast: Cast) -> None:
    """Seven weeks of calls, mails and visits of Ana and Ben, by chance; then it is Thursday afternoon."""
    dice = random.Random(3)
    with store.transaction() as transaction:
        leads = [make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(5)]
    for _ in range(7 * 7 + 3):
        with store.transaction() as transaction:
            for name in ("Ana", "Ben"):
                for _ in range(dice.randint(0, 4)):
                    make_activity(
                        transaction,
                        lead_id=dice.choice(leads),
                        owner_id=cast[name].id,
                        kind=dice.choice(["call", "mail", "visit", "note"]),
                        direction=dice.choice(["outbound", "outbound", "inbound", None]),
                    )
        clock.advance(DAY)
    clock.advance(5 * HOUR)


def loop_counts(store: Store, user: User, name: str, now: datetime) -> list[int]:
    """Count one kind in the part of each week up to now, newest first, row by row."""
    kinds = {"calls": {"call"}, "mails": {"mail"}, "meetings": {"meeting", "visit"}}
    with store.reading() as session:
        rows = list(session.scalars(select(Activity).where(Activity.owner_id == user.id)))
    monday = now.replace(hour=0, minute=0) - timedelta(days=now.weekday())
    found = []
    for back in range(9):
        start = monday - back * WEEK
        mine = [
            row
            for row in rows
            if start <= row.occurred_at <= start + (now - monday) and row.direction != "inbound"
        ]
        if name == "records":
            touches = {"call", "mail", "meeting", "visit"}
            found.append(len({row.lead_id for row in mine if row.kind in touches}))
        else:
            found.append(sum(row.kind in kinds[name] for row in mine))
    return found


def weeks_worked(store: Store, user: User, now: datetime) -> int:
    """Return how many weeks back somebody did anything in the part of the week up to now."""
    monday = now.replace(hour=0, minute=0) - timedelta(days=now.weekday())
    with store.reading() as session:
        at = list(session.scalars(select(Activity.occurred_at).where(Activity.owner_id == user.id)))
    starts = {back: monday - back * WEEK for back in range(9)}
    return max(
        back for back, start in starts.items() if any(start <= one <= start + (now - monday) for one in at)
    )


@pytest.mark.parametrize("name", ["calls", "mails", "meetings", "records"])
def test_counts_and_norms_are_those_of_a_loop_over_the_rows(
    store: Store, clock: FixedClock, cast: Cast, busy: None, name: str
) -> None:
    people = {one.name: one for one in read(store, cast["Mara"]).people}
    for who in ("Ana", "Ben"):
        counts = loop_counts(store, cast[who], name, clock.now())
        worked = weeks_worked(store, cast[who], clock.now())
        done = people[who].done[name]
        assert (done.count, done.norm) == (counts[0], median(counts[1 : worked + 1]))


def test_a_manager_sees_their_team_a_rep_themselves_and_an_analyst_all(store: Store, cast: Cast) -> None:
    seen = {name: {one.name for one in read(store, cast[name]).people} for name in ("Mara", "Ana", "Dana")}
    assert seen == {
        "Mara": {"Ana", "Ben", "Mara"},
        "Ana": {"Ana"},
        "Dana": {"Ana", "Ben", "Mara", "Otto"},
    }


def test_new_leads_wait_until_somebody_turns_to_them(store: Store, clock: FixedClock, cast: Cast) -> None:
    with store.transaction() as transaction:
        waits, _, asked = (make_lead(transaction, owner_id=cast["Ana"].id).id for _ in range(3))
        make_activity(transaction, lead_id=asked, direction="inbound", kind="mail")
        make_activity(transaction, lead_id=waits)
    clock.advance(23 * HOUR)
    waiting = {one.name: one.untouched for one in read(store, cast["Mara"]).people}
    assert waiting["Ana"] == 0, "none of them waits for a day yet"
    clock.advance(2 * HOUR)
    waiting = {one.name: one.untouched for one in read(store, cast["Mara"]).people}
    assert waiting["Ana"] == 2


def test_a_task_is_overdue_until_it_has_an_outcome_or_is_given_up(
    store: Store, clock: FixedClock, cast: Cast
) -> None:
    due = clock.now() + DAY
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=cast["Ana"].id).id
        given: dict[str, Any] = {
            "kind": "task",
            "direction": None,
            "account_id": account,
            "owner_id": cast["Ana"].id,
        }
        make_activity(transaction, due_at=due, **given)
        make_activity(transaction, due_at=due, outcome="done", **given)
    found = []
    for wait in (0, 2, 40):
        clock.advance(wait * DAY)
        found.append(next(one.overdue for one in read(store, cast["Mara"]).people if one.name == "Ana"))
    assert found == [0, 1, 0]


def test_small_differences_to_the_norm_are_usual() -> None:
    moves = [Normed(count=count, norm=norm).moved for count, norm in ((5, None), (5, 4), (30, 20), (2, 9))]
    assert moves == ["", "usual", "more", "less"]


def test_weeks_begin_on_monday_and_months_on_the_first_in_the_readers_zone() -> None:
    now = datetime(2026, 3, 4, 1, tzinfo=UTC)
    monday = starts_of(TeamQuestion(now=now, zone="Asia/Shanghai"))
    first = starts_of(TeamQuestion(now=now, zone="Asia/Shanghai", span="month"))
    assert monday[:2] == [datetime(2026, 3, 1, 16, tzinfo=UTC), datetime(2026, 2, 22, 16, tzinfo=UTC)]
    assert first[:2] == [datetime(2026, 2, 28, 16, tzinfo=UTC), datetime(2026, 1, 31, 16, tzinfo=UTC)]


def test_all_staff_at_once_answers_as_one_by_one(store: Store, cast: Cast) -> None:
    with store.reading() as session:
        staff = Staff.read(session)
        for user in cast.people.values():
            assert [one.id for one in staff.owners(user)] == [one.id for one in list_owners(session, user)]


# ---------------------------------------------------------------- targets


def wanted(whose_id: int, **given: Any) -> Wanted:
    usual: dict[str, Any] = {
        "whose": Whose.USER,
        "period": "2026-Q1",
        "measure": Measure.DEALS_WON,
        "value": Decimal(4),
    }
    return Wanted(whose_id=whose_id, **(usual | given))


def put(store: Store, user: User, target: Wanted, version: int | None = None) -> Target | None:
    with store.transaction(actor_id=user.id) as transaction:
        return set_target(transaction, user, target, version=version)


@pytest.mark.parametrize(
    ("who", "whom", "error"),
    [
        ("Mara", "Ana", None),
        ("Mara", "Otto", RecordNotFoundError),
        ("Adam", "Otto", None),
        ("Ana", "Ana", AccessDeniedError),
        ("Dana", "Ana", AccessDeniedError),
    ],
)
def test_targets_are_set_by_who_leads(
    store: Store, cast: Cast, who: str, whom: str, error: type[Exception] | None
) -> None:
    if error is None:
        assert put(store, cast[who], wanted(cast[whom].id)) is not None
        return
    with pytest.raises(error):
        put(store, cast[who], wanted(cast[whom].id))


def test_a_manager_sets_targets_of_their_own_team_only(store: Store, cast: Cast) -> None:
    put(store, cast["Mara"], wanted(cast.north.id, whose=Whose.TEAM))
    with pytest.raises(RecordNotFoundError):
        put(store, cast["Mara"], wanted(cast.south.id, whose=Whose.TEAM))


@pytest.mark.parametrize(
    "wrong",
    [
        {"period": "2026-Q5"},
        {"period": "2026-13"},
        {"value": Decimal(0)},
        {"value": Decimal("1.5")},
        {"measure": Measure.WON_AMOUNT},
        {"currency": "EUR"},
    ],
)
def test_a_target_without_sense_is_refused(store: Store, cast: Cast, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError):
        put(store, cast["Mara"], wanted(cast["Ana"].id, **wrong))


def test_what_somebody_changed_meanwhile_is_not_overwritten(store: Store, cast: Cast) -> None:
    target = wanted(cast["Ana"].id)
    put(store, cast["Mara"], target)
    put(store, cast["Adam"], wanted(cast["Ana"].id, value=Decimal(5)), version=1)
    with pytest.raises(StaleRecordError):
        put(store, cast["Mara"], wanted(cast["Ana"].id, value=Decimal(6)), version=1)


def test_periods_are_months_and_quarters() -> None:
    assert periods_at(datetime(2026, 12, 31, tzinfo=UTC).date()) == (
        "2026-12",
        "2027-01",
        "2026-Q4",
        "2027-Q1",
    )
    assert read_period("2026-Q4") == (datetime(2026, 10, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def win(store: Store, owner: User, amount: int) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction, owner_id=owner.id).id
        deal = make_deal(transaction, owner_id=owner.id, account_id=account, amount=Decimal(amount))
        close_deal(transaction, deal, won=True)


def test_attainment_is_what_was_won_in_the_period(store: Store, clock: FixedClock, cast: Cast) -> None:
    month, _, quarter, _ = periods_at(clock.now().date())
    euros: dict[str, Any] = {"measure": Measure.WON_AMOUNT, "currency": "EUR", "value": Decimal(10_000)}
    put(store, cast["Mara"], wanted(cast["Ana"].id, period=quarter, **euros))
    put(store, cast["Mara"], wanted(cast.north.id, whose=Whose.TEAM, period=month, **euros))
    put(store, cast["Mara"], wanted(cast["Ben"].id, period=month, value=Decimal(2)))
    for name, amount in (("Ana", 3_000), ("Ben", 2_500), ("Otto", 9_000)):
        win(store, cast[name], amount)
    clock.advance(HOUR)
    found = {(one.name, one.target.measure): one.reached for one in read(store, cast["Mara"]).targets}
    assert found == {
        ("Ana", "won_amount"): 3_000,
        (cast.north.name, "won_amount"): 5_500,
        ("Ben", "deals_won"): 1,
    }
    assert [one.name for one in read(store, cast["Ana"]).targets] == ["Ana"]


def test_who_may_not_see_deals_is_told_of_no_targets_of_deals(
    store: Store, clock: FixedClock, cast: Cast
) -> None:
    put(store, cast["Mara"], wanted(cast["Ana"].id, period=periods_at(clock.now().date())[0]))
    with store.transaction() as transaction:
        hidden = FieldRight(role="manager", record_type="deal", field="status", read=False, write=False)
        transaction.session.add(hidden)
    page = read(store, cast["Mara"])
    assert (page.targets, "deals" in page.shows) == ([], False)


# ---------------------------------------------------------------- the page


def test_a_target_is_set_shown_changed_and_taken_away(app: Flask, clock: FixedClock, cast: Cast) -> None:
    client = logged_in(app, cast["Mara"])
    month = periods_at(clock.now().date())[0]
    form = {"who": f"user:{cast['Ana'].id}", "period": month, "measure": "won_amount"}
    form |= {"csrf_token": csrf_of(client.get("/team").text)}
    refused = client.post("/team/targets", data=form | {"value": "many", "currency": "eur"})
    assert refused.status_code == 422
    assert 'value="many"' in refused.text, "what was typed stays"
    assert client.post("/team/targets", data=form | {"value": "12,000", "currency": "eur"}).status_code == 302
    assert "€12,000" in client.get("/team").text
    assert 'name="version" value="1"' in client.get("/team?target=1").text
    stale = client.post("/team/targets", data=form | {"value": "1", "currency": "EUR", "version": "7"})
    assert stale.status_code == 409
    client.post("/team/targets", data=form | {"value": "", "currency": "EUR", "version": "1"})
    assert "No targets for this month" in client.get("/team").text


def test_reps_and_analysts_set_none(app: Flask, cast: Cast) -> None:
    for name in ("Ana", "Dana"):
        client = logged_in(app, cast[name])
        text = client.get("/team").text
        assert "Set a target" not in text
        form = {"who": f"user:{cast['Ana'].id}", "period": "2026-01", "measure": "deals_won", "value": "3"}
        answer = client.post("/team/targets", data=form | {"csrf_token": csrf_of(text)})
        assert answer.status_code == 403


def test_the_file_holds_the_people(app: Flask, cast: Cast, busy: None) -> None:
    rows = list(csv.reader(io.StringIO(logged_in(app, cast["Mara"]).get("/team/export").text)))
    assert [row[0] for row in rows[1:]] == ["Ana", "Ben", "Mara"]
    assert any(int(row[2]) for row in rows[1:])


@pytest.fixture
def statements(store: Store) -> Iterator[list[str]]:
    found: list[str] = []

    def note(*call: Any) -> None:
        found.append(call[2])

    event.listen(store.engine, "before_cursor_execute", note)
    yield found
    event.remove(store.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", ["/team", "/funnel", "/funnel?by=owner&as_of=2026-01-02"])
def test_a_page_asks_at_most_twelve_queries(
    app: Flask, cast: Cast, busy: None, statements: list[str], path: str
) -> None:
    client = logged_in(app, cast["Mara"])
    client.get(path)
    statements.clear()
    assert client.get(path).status_code == 200
    asked = [one for one in statements if one.startswith("SELECT")]
    assert len(asked) <= 12, asked
