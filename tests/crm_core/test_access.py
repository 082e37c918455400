"""Who sees what: reps their own, managers their team tree, analysts and admins everything."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import select

from crm_core.access import check_may_promote, check_may_write, get_visible, visible
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.records import Account, Contact, Deal, Lead, Record, User
from crm_core.store import Store
from tests.factories import make_account, make_contact, make_deal, make_lead, make_team, make_user

MAKERS = {Lead: make_lead, Deal: make_deal, Account: make_account, Contact: make_contact}


@dataclass(frozen=True, kw_only=True)
class Company:
    """Ana works in a team below Mara's; Ben elsewhere; Dana looks at everything."""

    ana: User
    ben: User
    mara: User
    dana: User
    adam: User
    nobody: User


@pytest.fixture
def company(store: Store) -> Company:
    with store.transaction() as transaction:
        north = make_team(transaction, name="North")
        coast = make_team(transaction, name="Coast", parent_id=north.id)
        south = make_team(transaction, name="South")
        return Company(
            ana=make_user(transaction, "Ana", team_id=coast.id),
            ben=make_user(transaction, "Ben", team_id=south.id),
            mara=make_user(transaction, "Mara", role="manager", team_id=north.id),
            dana=make_user(transaction, "Dana", role="analyst"),
            adam=make_user(transaction, "Adam", role="admin"),
            nobody=make_user(transaction, "Nobody"),
        )


EXPECTED = {
    "ana": {"ana"},
    "ben": {"ben"},
    "mara": {"ana", "mara", "none"},
    "dana": {"ana", "ben", "mara", "none"},
    "adam": {"ana", "ben", "mara", "none"},
    "nobody": set(),
}


@pytest.mark.parametrize("model", list(MAKERS))
def test_each_role_sees_its_share_of_every_record_type(
    store: Store, company: Company, model: type[Record]
) -> None:
    with store.transaction() as transaction:
        owned = {
            name: MAKERS[model](transaction, owner_id=getattr(company, name).id).id
            for name in ("ana", "ben", "mara")
        }
        owned["none"] = MAKERS[model](transaction).id
        transaction.delete(MAKERS[model](transaction, owner_id=company.ana.id))
    names = {record_id: name for name, record_id in owned.items()}
    with store.reading() as session:
        for reader, expected in EXPECTED.items():
            condition = visible(session, getattr(company, reader), model)
            query = select(model.id).where(condition, model.deleted_at.is_(None))
            assert {names[record_id] for record_id in session.scalars(query)} == expected


def test_a_role_that_is_not_known_sees_nothing(store: Store, company: Company) -> None:
    company.adam.role = "wizard"
    with store.transaction() as transaction:
        lead_id = make_lead(transaction).id
    with store.reading() as session, pytest.raises(RecordNotFoundError):
        get_visible(session, company.adam, Lead, lead_id)


def test_what_one_may_not_see_looks_as_if_it_did_not_exist(store: Store, company: Company) -> None:
    with store.transaction() as transaction:
        bens = make_lead(transaction, owner_id=company.ben.id).id
    with store.reading() as session:
        with pytest.raises(RecordNotFoundError) as hidden:
            get_visible(session, company.ana, Lead, bens)
        with pytest.raises(RecordNotFoundError) as absent:
            get_visible(session, company.ana, Lead, bens + 1000)
    assert str(hidden.value).replace(str(bens), "N") == str(absent.value).replace(str(bens + 1000), "N")


def test_analysts_change_no_records_and_only_they_and_admins_choose_models(company: Company) -> None:
    for user in (company.ana, company.mara, company.adam):
        check_may_write(user)
    with pytest.raises(AccessDeniedError, match="analyst"):
        check_may_write(company.dana)
    for user in (company.dana, company.adam):
        check_may_promote(user)
    with pytest.raises(AccessDeniedError, match="rep"):
        check_may_promote(company.ana)
