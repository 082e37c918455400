"""Real leads: the questions, answers and rows that anybody gets by hand from the public files."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.clock import DAY, micros
from crm_core.fields import set_observed_until
from crm_core.records import Lead
from crm_core.store import Store
from features.cohort import lead_cohort
from features.feature_set import FEATURE_SETS
from features.frame import build_frame
from features.labels import lead_labels, pending

MARCH_END = datetime(2018, 3, 31, 23, 59, tzinfo=UTC)
END = datetime(2018, 11, 30, tzinfo=UTC)
WON_BEFORE_CONTACT = 1
"""One lead was won before its first contact: nobody could have asked about it."""


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def leads(real_data: Path, store: Store) -> dict[str, datetime]:
    """The leads of the funnel in the store, and when each that was won was won."""
    folder = real_data / "olist"
    rows = _rows(folder / "olist_marketing_qualified_leads_dataset.csv")
    won = {row["mql_id"]: _day(row["won_date"]) for row in _rows(folder / "olist_closed_deals_dataset.csv")}
    with store.transaction(source=Source.IMPORT) as step:
        known = [(row, _day(row["first_contact_date"])) for row in rows]
        values = [
            {
                "external_id": row["mql_id"],
                "source": row["origin"] or None,
                "occurred_at": at,
                "recorded_at": at,
            }
            for row, at in known
        ]
        ids = step.create_many(Lead, values)
        changes = [
            Update(
                record_id=ids[number],
                values={"status": "converted", "converted_at": won[row["mql_id"]]},
                occurred_at=won[row["mql_id"]],
                recorded_at=won[row["mql_id"]],
            )
            for number, row in enumerate(rows)
            if row["mql_id"] in won
        ]
        step.update_many(Lead, changes)
        set_observed_until(step.session, "lead", END)
    return won


@pytest.mark.parametrize(("horizon_days", "rate"), [(30, 0.090), (60, 0.099), (90, 0.105)])
def test_the_leads_of_april_and_may_were_won_at_the_known_rates(
    horizon_days: int, rate: float, store: Store, leads: dict[str, datetime]
) -> None:
    cohort = lead_cohort(store, start=MARCH_END, until=MARCH_END + timedelta(days=62), ages_days=(0,))
    labels = lead_labels(store, cohort)

    won = (labels.event_at > 0) & (labels.event_at <= cohort.as_of + horizon_days * DAY)

    assert len(cohort) == 2655
    assert not pending(labels, cohort, horizon_days * DAY).any()
    assert won.mean() == pytest.approx(rate, abs=0.001)


def test_on_the_first_of_april_nothing_was_known_of_later_wins(
    store: Store, leads: dict[str, datetime]
) -> None:
    as_of = datetime(2018, 4, 1, tzinfo=UTC)
    cohort = lead_cohort(store, start=datetime(2017, 1, 1, tzinfo=UTC), until=as_of, ages_days=(0,))
    known = lead_labels(store, cohort, known_at=micros(as_of))

    frame = build_frame(store, cohort, FEATURE_SETS["lead_scoring"])

    assert known.event_at.max() <= micros(as_of)
    assert (
        np.count_nonzero(known.event_at > 0)
        == sum(when <= as_of for when in leads.values()) - WON_BEFORE_CONTACT
    )
    assert frame["activities_count_30d"].sum() == 0
    assert set(frame["source"].dropna()) >= {"organic_search", "paid_search", "social"}
