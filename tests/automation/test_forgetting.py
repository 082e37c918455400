"""What rules did is deleted once it is old, and nothing is done again for it."""

from __future__ import annotations

from datetime import date, timedelta

from crm_core.automation.following import Follower
from crm_core.automation.forgetting import forget_runs
from crm_core.clock import FixedClock
from crm_core.store import Store
from serving.automation import Forgetting
from tests.automation.conftest import Automation, Write
from tests.factories import make_account, make_activity, make_contract, make_lead
from tests.serving.both_databases import *  # noqa: F403  its fixtures

YEAR = timedelta(days=365)


def test_old_runs_are_deleted_and_nothing_is_done_again(
    store: Store, automation: Automation, write: Write, clock: FixedClock
) -> None:
    created = automation.rule("lead", {"kind": "record_created"})
    quiet = automation.rule("lead", {"kind": "idle", "amount": 24, "unit": "hours"})
    ending = automation.rule("contract", {"kind": "date", "field": "ends_on", "days": -730})
    begun = clock.now()
    lead = write(make_lead)
    write(make_contract, account_id=write(make_account), ends_on=date(2028, 2, 1))
    clock.advance(timedelta(days=2))
    automation.run()
    write(make_activity, lead_id=lead)
    clock.advance(timedelta(days=2))
    acted = automation.run()
    assert [run.rule_id for run in acted] == [created, quiet, ending, quiet]
    assert forget_runs(store, before=begun) == 0
    assert forget_runs(store, before=clock.now() + YEAR) == 2
    assert [run.id for run in automation.runs()] == [run.id for run in acted[2:]]
    clock.advance(timedelta(days=2))
    assert len(automation.run()) == 2, "quiet, ending or new: each was acted on already"
    clock.set(begun + timedelta(days=3))
    assert len(automation.run()) == 2, "a clock that goes back changes nothing"


def test_it_is_done_once_a_day_and_some_at_a_time(
    store: Store, automation: Automation, write: Write, clock: FixedClock
) -> None:
    automation.rule("lead", {"kind": "record_created"})
    forgetting = Forgetting(store, kept_days=30)

    def act() -> None:
        write(make_lead)
        Follower(store).run_until_done()

    act()
    clock.advance(timedelta(days=29))
    forgetting.run_sometimes()
    act()
    clock.advance(timedelta(hours=23))
    forgetting.run_sometimes()
    assert [run.record_id for run in automation.runs()] == [1, 2]
    clock.advance(timedelta(hours=2))
    forgetting.run_sometimes()
    assert [run.record_id for run in automation.runs()] == [2]
