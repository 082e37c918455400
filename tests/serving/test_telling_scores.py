"""What scoring a stored record would say, without storing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import Prediction
from crm_core.records import Lead
from crm_core.store import Store
from tests.factories import make_lead
from tests.serving.conftest import Cast
from tests.serving.hand_made import HandMadeModel

Promote = Callable[..., HandMadeModel]


@pytest.fixture
def lead(store: Store, cast: Cast) -> Lead:
    with store.transaction() as transaction:
        return make_lead(transaction, owner_id=cast["Ana"].id)


def tell(client: FlaskClient, cast: Cast, lead: Lead, who: str = "Ana") -> Any:
    return client.get(f"/api/v1/leads/{lead.id}/score-now", headers=cast.header(who))


def test_what_is_told_is_what_scoring_then_stores(
    client: FlaskClient, cast: Cast, promote: Promote, lead: Lead
) -> None:
    promote(probability=lambda record_id: 0.3)

    told = tell(client, cast, lead).get_json()
    stored = client.post(f"/api/v1/leads/{lead.id}/score", headers=cast.header("Ana")).get_json()

    assert {name: stored[name] for name in told if name != "state"} == {
        name: value for name, value in told.items() if name != "state"
    }


def test_telling_leaves_nothing_behind(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, lead: Lead
) -> None:
    promote()

    assert tell(client, cast, lead).status_code == 200

    with store.reading() as session:
        assert session.scalar(select(func.count(Prediction.id))) == 0
        assert session.get_one(Lead, lead.id).scored_at is None


def test_a_record_that_another_has_is_not_there(
    client: FlaskClient, cast: Cast, promote: Promote, lead: Lead
) -> None:
    promote()

    assert tell(client, cast, lead, who="Ben").status_code == 404


def test_nothing_is_told_of_who_asked_not_to_be_scored(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, lead: Lead
) -> None:
    promote()
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, lead.id), opted_out=True)

    assert tell(client, cast, lead).status_code == 409


def test_a_key_that_was_revoked_lets_nobody_in_at_once(
    client: FlaskClient, store: Store, cast: Cast, promote: Promote, lead: Lead
) -> None:
    promote()
    assert tell(client, cast, lead).status_code == 200
    with store.transaction() as transaction:
        transaction.get(type(cast["Ana"]), cast["Ana"].id).active = False

    assert tell(client, cast, lead).status_code == 401
