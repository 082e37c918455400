"""What the whole history tells against a field: each kind of evidence alone, and none against honest ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import Deal, Lead, User
from crm_core.store import Store
from models.whole_history import Finding, find_telling_fields
from tests.factories import make_user

START = datetime(2024, 1, 1, tzinfo=UTC)
DEALS = 240
OWNERS = 12


class Deals:
    """Deals that are made over two years and closed after 1 to 200 days; every other one is won."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.random = random
        self.made = [START + timedelta(days=float(day)) for day in np.sort(random.uniform(0, 500, DEALS))]
        self.took = random.uniform(1, 200, DEALS)
        self.closed = [
            made + timedelta(days=float(days)) for made, days in zip(self.made, self.took, strict=True)
        ]
        self.won = random.random(DEALS) < 0.5
        # Some owners have many deals, others few: the place of a deal decides, so that counts differ.
        self.owner = np.minimum(random.geometric(0.15, DEALS) - 1, OWNERS - 1)

    def write(self, store: Store, values: Callable[[int], Any], *, at_the_end: bool = False) -> None:
        """Write them with a field `told`, filled from the start or only when a deal is closed."""
        with store.transaction(source=Source.IMPORT) as transaction:
            owners = [make_user(transaction, email=f"rep{number}@example.com").id for number in range(OWNERS)]
            rows = [
                {
                    "name": f"Deal {row}",
                    "stage": "first_contact",
                    "owner_id": owners[self.owner[row]],
                    "occurred_at": self.made[row],
                    "recorded_at": self.made[row],
                    "custom": None if at_the_end or values(row) is None else {"told": values(row)},
                }
                for row in range(DEALS)
            ]
            ids = transaction.create_many(Deal, rows)
            transaction.update_many(
                Deal, [self._closing(row, ids[row], values, at_the_end) for row in range(DEALS)]
            )

    def _closing(self, row: int, record_id: int, values: Callable[[int], Any], at_the_end: bool) -> Update:
        written: dict[str, Any] = {
            "status": "won" if self.won[row] else "lost",
            "closed_at": self.closed[row],
        }
        if at_the_end:
            written["custom.told"] = values(row)
        when = self.closed[row]
        return Update(record_id=record_id, values=written, occurred_at=when, recorded_at=when)


@pytest.fixture
def deals() -> Deals:
    return Deals()


def look(
    store: Store, deals: Deals, kind: FieldKind, values: Callable[[int], Any], **more: bool
) -> list[Finding]:
    with store.transaction(source=Source.IMPORT) as transaction:
        declare_field(
            transaction.session, record_type="deal", name="custom.told", known=Known.CREATION, kind=kind
        )
    deals.write(store, values, **more)
    return find_telling_fields(store, "deal")


def the_one(found: list[Finding]) -> Finding:
    (finding,) = found
    assert finding.field == "deal.custom.told"
    assert not finding.doubtful
    return finding


def test_a_field_that_won_deals_alone_have_is_named_with_the_counts(store: Store, deals: Deals) -> None:
    won = np.flatnonzero(deals.won)[:40].tolist()
    found = the_one(look(store, deals, FieldKind.TEXT, lambda row: "x" if row in won else None))
    assert found.check == "presence"
    assert "of 40 deals with a value 40 had the outcome" in found.evidence


def test_a_field_filled_when_deals_are_closed_is_named(store: Store, deals: Deals) -> None:
    found = the_one(look(store, deals, FieldKind.NUMBER, lambda row: float(row % 7), at_the_end=True))
    assert found.check == "filled late"
    assert f"{DEALS} were given it when the end was known" in found.evidence


def test_a_number_of_the_days_a_deal_took_is_named(store: Store, deals: Deals) -> None:
    found = the_one(look(store, deals, FieldKind.NUMBER, lambda row: float(np.log(deals.took[row]))))
    assert found.check == "duration"


@pytest.mark.parametrize(
    "part", [lambda when: when.month, lambda when: when.year * 100 + when.month], ids=["month", "period"]
)
def test_a_number_that_is_a_part_of_the_closing_date_is_named(
    store: Store, deals: Deals, part: Callable[[datetime], float]
) -> None:
    found = the_one(look(store, deals, FieldKind.NUMBER, lambda row: float(part(deals.closed[row]))))
    assert found.check == "date of the end"


def test_a_number_that_counts_an_owners_later_deals_is_named(store: Store, deals: Deals) -> None:
    counts = np.bincount(deals.owner, minlength=OWNERS)
    found = the_one(look(store, deals, FieldKind.NUMBER, lambda row: float(counts[deals.owner[row]])))
    assert found.check == "counts what came later"
    assert "same owner_id" in found.evidence


def test_a_number_that_is_nothing_but_the_day_of_creation_is_named(store: Store, deals: Deals) -> None:
    found = the_one(
        look(store, deals, FieldKind.NUMBER, lambda row: (deals.made[row] - START).total_seconds())
    )
    assert found.check == "tells when"


def test_a_field_that_came_into_use_lately_is_honest(store: Store) -> None:
    """It is on new leads alone, which have had no time to be converted."""
    with store.transaction(source=Source.IMPORT) as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.told",
            known=Known.CREATION,
            kind=FieldKind.TEXT,
        )
        rows = [
            {
                "company": f"Company {row}",
                "status": "converted" if row < 200 else "open",
                "converted_at": START + timedelta(days=90) if row < 200 else None,
                "custom": None if row < 300 else {"told": "yes"},
                "occurred_at": START + timedelta(days=0 if row < 300 else 100),
                "recorded_at": START + timedelta(days=0 if row < 300 else 100),
            }
            for row in range(360)
        ]
        transaction.create_many(Lead, rows)
    assert find_telling_fields(store, "lead") == []


@pytest.mark.parametrize("kind", [FieldKind.NUMBER, FieldKind.TEXT, FieldKind.FLAG, FieldKind.DAY])
def test_honest_fields_raise_nothing(store: Store, deals: Deals, kind: FieldKind) -> None:
    """One that tells much, one half filled at random, one earlier than the deal itself."""
    values: dict[FieldKind, Callable[[int], Any]] = {
        FieldKind.NUMBER: lambda row: float(deals.won[row]) + deals.random.normal(),
        FieldKind.TEXT: lambda row: "north" if deals.random.random() < 0.5 else None,
        FieldKind.FLAG: lambda row: bool(deals.random.random() < 0.3 + 0.4 * deals.won[row]),
        FieldKind.DAY: lambda row: (deals.made[row] - timedelta(days=row % 90)).date(),
    }
    assert look(store, deals, kind, values[kind]) == []


def test_a_store_without_declared_fields_has_nothing_to_look_at(store: Store) -> None:
    assert find_telling_fields(store, "deal") == []
    with store.reading() as session:
        assert session.get(User, 1) is None
