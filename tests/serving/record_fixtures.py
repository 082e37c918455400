"""What tests of records share: people who call the API, and records with a past.

Import all of it: `from tests.serving.record_fixtures import *`.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from flask.testing import FlaskClient

from crm_core.activities import log_activity
from crm_core.clock import FixedClock
from crm_core.records import Activity, Comment
from crm_core.store import Store
from tests.factories import declare_custom, make_deal, make_lead
from tests.serving.api import Api
from tests.serving.conftest import Cast
from tests.serving.test_lists import show

__all__ = ["adam", "ana", "deals", "lead"]


@pytest.fixture
def adam(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Adam")


@pytest.fixture
def ana(client: FlaskClient, cast: Cast) -> Api:
    return Api(client, cast, "Ana")


@pytest.fixture
def deals(store: Store, cast: Cast) -> None:
    """Nine deals of Ana's with many ties and gaps, and one that is deleted."""
    with store.transaction() as transaction:
        declare_custom(transaction, "deal", size="money", rank="number")
        for number in range(9):
            deal = make_deal(
                transaction,
                owner_id=cast["Ana"].id,
                name=f"Deal {number % 2} 泵",
                amount=[None, Decimal(5), Decimal("5.5")][number % 3],
                expected_close_on=None if number < 4 else date(2026, 5, 1 + number % 2),
                custom={"size": Decimal(number % 2)} if number % 4 else None,
            )
        transaction.delete(deal)


@pytest.fixture
def lead(store: Store, cast: Cast, clock: FixedClock, ana: Api) -> int:
    """A lead of Ana's with a call, a comment, two changes and a score, some of one instant."""
    with store.transaction(actor_id=cast["Ana"].id) as transaction:
        lead = make_lead(transaction, owner_id=cast["Ana"].id)
        log_activity(transaction, Activity(kind="call", subject="Asked", lead_id=lead.id))
        transaction.create(Comment(subject_type="lead", subject_id=lead.id, body="Hot"))
    clock.advance(timedelta(hours=1))
    assert ana("PATCH", f"leads/{lead.id}", {"phone": "1", "employees": 4}).status_code == 200
    show(store, {lead.id: 0.7})
    return lead.id
