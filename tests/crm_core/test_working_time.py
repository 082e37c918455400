"""Working time: spans, holidays, clocks that change, and what administrators set."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.errors import InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.store import Store
from crm_core.working_time import (
    USUAL,
    WorkingTime,
    add_absence,
    list_absent,
    remove_absence,
    remove_special_day,
    set_special_day,
    set_week,
    working_time,
)
from tests.factories import make_user

HOUR = timedelta(hours=1)
SHANGHAI = WorkingTime(zone=ZoneInfo("Asia/Shanghai"), country="CN")
BERLIN = WorkingTime(zone=ZoneInfo("Europe/Berlin"))
# Hypothesis takes bounds without a zone.
YEARS = (datetime(2025, 1, 1), datetime(2027, 1, 1))  # noqa: DTZ001  see above


def at(zone: str, *moment: int) -> datetime:
    """Return an instant by the clock on the wall somewhere."""
    year, month, day, hour, minute = (*moment, 0)[:5]
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_a_weekend_does_not_count() -> None:
    friday, monday = at("Europe/Berlin", 2026, 5, 29, 17), at("Europe/Berlin", 2026, 6, 1, 10)
    assert BERLIN.between(friday, monday) == 2 * HOUR
    assert BERLIN.after(friday, 2 * HOUR) == monday


def test_chinas_substituted_days_are_kept() -> None:
    assert not SHANGHAI.is_working_day(date(2026, 1, 2))
    assert SHANGHAI.is_working_day(date(2026, 1, 4)), "a Sunday that is worked for it"
    eve = at("Asia/Shanghai", 2025, 12, 31, 17)
    assert SHANGHAI.after(eve, 2 * HOUR) == at("Asia/Shanghai", 2026, 1, 4, 10)


def test_days_on_which_clocks_change_have_their_usual_hours() -> None:
    every_day = WorkingTime(zone=ZoneInfo("Europe/Berlin"), week=(USUAL,) * 7)
    for day in (29, 25):
        month = 3 if day == 29 else 10
        morning = at("Europe/Berlin", 2026, month, day, 9)
        assert every_day.between(morning - 9 * HOUR, morning + 12 * HOUR) == 9 * HOUR


def test_a_night_through_which_clocks_change_is_as_long_as_it_was() -> None:
    nights = WorkingTime(zone=ZoneInfo("Europe/Berlin"), week=(((time(0), time(0)),),) * 7)
    spring, autumn = at("Europe/Berlin", 2026, 3, 29, 0), at("Europe/Berlin", 2026, 10, 25, 0)
    assert nights.between(spring, at("Europe/Berlin", 2026, 3, 30, 0)) == 23 * HOUR
    assert nights.between(autumn, at("Europe/Berlin", 2026, 10, 26, 0)) == 25 * HOUR


def test_a_week_nobody_works_gives_up_instead_of_searching_for_ever() -> None:
    never = WorkingTime(week=((),) * 7)
    with pytest.raises(InvalidValueError, match="a week in which people work"):
        never.after(at("UTC", 2026, 1, 1, 0), HOUR)


@given(
    start=st.datetimes(*YEARS, timezones=st.just(UTC)),
    minutes=st.integers(0, 60 * 100),
    zone=st.sampled_from([BERLIN, SHANGHAI, WorkingTime(zone=ZoneInfo("America/St_Johns"))]),
)
def test_what_comes_after_some_working_time_is_that_far_away(
    start: datetime, minutes: int, zone: WorkingTime
) -> None:
    working = timedelta(minutes=minutes)
    assert zone.between(start, zone.after(start, working)) == working


def test_without_a_setting_people_work_in_the_zone_of_the_pages(store: Store) -> None:
    with store.reading() as session:
        assert working_time(session, "Asia/Shanghai") == WorkingTime(zone=ZoneInfo("Asia/Shanghai"))


def test_what_is_set_is_kept_and_seen_at_once(store: Store) -> None:
    wanted = WorkingTime(
        zone=ZoneInfo("Asia/Shanghai"),
        week=(((time(9), time(12)), (time(14), time(0))),) + (USUAL,) * 5 + ((),),
        country="CN",
    )
    with store.transaction() as transaction:
        boss = make_user(transaction, role="admin")
        set_week(transaction, boss, wanted, version=0)
        set_special_day(transaction, date(2026, 6, 1), worked=False, name="founding day")
    with store.reading() as session:
        found = working_time(session, "UTC")
        assert found.week == wanted.week
        assert not found.is_working_day(date(2026, 6, 1))
    with store.transaction() as transaction:
        assert remove_special_day(transaction, date(2026, 6, 1))
        assert not remove_special_day(transaction, date(2026, 6, 1))
    with store.reading() as session:
        assert working_time(session, "UTC") == wanted


def test_the_second_of_two_administrators_is_told(store: Store) -> None:
    with store.transaction() as transaction:
        boss = make_user(transaction, role="admin")
        set_week(transaction, boss, BERLIN, version=0)
        with pytest.raises(StaleRecordError):
            set_week(transaction, boss, SHANGHAI, version=0)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (WorkingTime(week=((),) * 7), "a week in which people work"),
        (WorkingTime(week=(USUAL,) * 5), "seven days"),
        (WorkingTime(week=(((time(9), time(12)), (time(11), time(13))),) * 7), "do not overlap"),
        (WorkingTime(week=(((time(12), time(9)),),) * 7), "do not overlap"),
        (WorkingTime(country="XX"), "a country whose holidays are known"),
    ],
)
def test_a_week_that_makes_no_sense_is_refused(store: Store, wanted: WorkingTime, said: str) -> None:
    with store.transaction() as transaction:
        boss = make_user(transaction, role="admin")
        with pytest.raises(InvalidValueError, match=said):
            set_week(transaction, boss, wanted, version=0)


def test_absences_hold_on_both_their_days(store: Store) -> None:
    with store.transaction() as transaction:
        ana, bo = make_user(transaction), make_user(transaction, name="Bo", email="bo@example.com")
        away = add_absence(transaction, ana.id, date(2026, 7, 1), date(2026, 7, 3))
        session = transaction.session
        days = [day for day in range(1, 6) if ana.id in list_absent(session, date(2026, 7, day))]
        assert days == [1, 2, 3]
        assert bo.id not in list_absent(session, date(2026, 7, 2))
        with pytest.raises(InvalidValueError):
            add_absence(transaction, ana.id, date(2026, 7, 3), date(2026, 7, 1))
        with pytest.raises(RecordNotFoundError):
            remove_absence(transaction, bo.id, away.id)
        remove_absence(transaction, ana.id, away.id)
        assert not list_absent(session, date(2026, 7, 2))
