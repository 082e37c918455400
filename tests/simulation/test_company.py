"""What is in the store: consistent, reproducible, with the habits of real data and enough to show."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from crm_core.access import visible
from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.bulk import stored_form
from crm_core.changes import Action, Change
from crm_core.clock import DAY, FixedClock, micros
from crm_core.errors import InvalidValueError
from crm_core.fields import Known, known_at
from crm_core.history import state_as_of
from crm_core.pipelines import open_stages
from crm_core.records import (
    OUTCOME_FIELDS,
    Account,
    Activity,
    Contact,
    Contract,
    ContractStatus,
    Deal,
    DealStatus,
    Lead,
    LeadStatus,
    Order,
    Record,
    Role,
    Team,
    Ticket,
    User,
)
from crm_core.store import Store
from crm_core.validation import columns_of
from models.simulation import simulate_company
from models.simulation.table import happened
from tests.factories import make_lead
from tests.simulation.conftest import END, NOW, Imagined, Written

WRITTEN = {
    model.record_type: model
    for model in (Team, User, Account, Contact, Lead, Deal, Contract, Order, Ticket, Activity)
}
TODAY = NOW.date()


def fingerprint(store: Store) -> str:
    digest = hashlib.sha256()
    with store.reading() as session:
        names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"))
        for name in names.all():
            for row in session.execute(text(f'SELECT * FROM "{name}"')):
                digest.update(repr(tuple(row)).encode())
    return digest.hexdigest()


def fingerprint_of(path: Path, template: Path, *, seed: int, now: datetime, end: datetime | None) -> str:
    shutil.copy(template, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(now))
    simulate_company(store, size="tiny", seed=seed, end=end)
    found = fingerprint(store)
    store.close()
    return found


# --------------------------------------------------------------------------------- reproducible


def test_size_seed_and_the_day_of_the_end_decide_everything(tmp_path: Path, empty_database: Path) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    one = fingerprint_of(tmp_path / "1.db", empty_database, seed=1, now=NOW, end=None)
    same = fingerprint_of(
        tmp_path / "2.db", empty_database, seed=1, now=NOW + timedelta(days=9), end=midnight
    )
    other = fingerprint_of(tmp_path / "3.db", empty_database, seed=2, now=NOW, end=None)

    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"size": "huge"}, "one of tiny, small, medium, large"),
        ({"end": NOW + timedelta(days=1)}, "an instant up to now"),
    ],
)
def test_an_unknown_size_and_an_end_in_the_future_are_refused(
    store: Store, words: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidValueError, match=expected):
        simulate_company(store, **{"size": "tiny", "seed": 1, **words})


def test_a_store_with_records_is_refused_and_left_as_it_was(store: Store) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)
    before = fingerprint(store)

    with pytest.raises(InvalidValueError, match="an empty store"):
        simulate_company(store, size="tiny", seed=1)

    assert fingerprint(store) == before


def test_progress_is_told_until_all_of_a_type_is_written(store: Store) -> None:
    told: dict[str, tuple[int, int]] = {}

    simulate_company(
        store, size="tiny", seed=1, progress=lambda what, done, total: told.update({what: (done, total)})
    )

    assert {"lead", "deal", "activity", "lead changes", "deal changes"} <= set(told)
    assert all(done == total for done, total in told.values())


# ----------------------------------------------------------------------------------- consistent


def test_every_record_is_what_its_changes_made_of_it(written: Written) -> None:
    with written.store.reading() as session:
        for record_type, model in WRITTEN.items():
            rows = session.execute(
                select(Change.record_id, Change.field, Change.old, Change.new)
                .where(Change.record_type == record_type, Change.action == Action.UPDATED)
                .order_by(Change.occurred_at, Change.id)
            )
            chains: dict[tuple[int, str], list[tuple[Any, Any]]] = defaultdict(list)
            for record_id, field, old, new in rows:
                chains[record_id, field].append((old, new))
            current = stored_now(session, model, {field for _, field in chains})
            for (record_id, field), steps in chains.items():
                olds, news = [old for old, _ in steps], [new for _, new in steps]
                assert olds[1:] == news[:-1], (record_type, record_id, field)
                assert news[-1] == current[record_id][field], (record_type, record_id, field)


def stored_now(session: Session, model: type[Record], fields: set[str]) -> dict[int, dict[str, Any]]:
    columns = columns_of(model)
    names = ["id", *fields]
    rows = session.execute(select(*(columns[name] for name in names)))
    return {
        row[0]: {name: stored_form(model, name, cell) for name, cell in zip(names, row, strict=True)}
        for row in rows
    }


def test_every_record_has_one_row_that_tells_of_its_creation(written: Written) -> None:
    with written.store.reading() as session:
        for record_type, model in WRITTEN.items():
            created = session.scalars(
                select(Change.record_id).where(
                    Change.record_type == record_type, Change.action == Action.CREATED
                )
            ).all()
            assert sorted(created) == sorted(session.scalars(select(model.id))), record_type


def test_nothing_is_in_the_future_and_nothing_known_before_it_happened(written: Written) -> None:
    with written.store.reading() as session:
        for model in (*WRITTEN.values(), Change):
            found = read_arrays(session, select(model.occurred_at, model.recorded_at))
            assert (found["occurred_at"] <= found["recorded_at"]).all(), model
            assert found["recorded_at"].max() <= END, model
        for column in (Lead.converted_at, Deal.closed_at, Contract.ended_at, Ticket.closed_at, User.left_at):
            when = read_arrays(session, select(column.label("at")).where(column.is_not(None)))["at"]
            assert when.size
            assert when.max() <= END


def test_nothing_refers_to_what_was_not_known_yet(written: Written) -> None:
    with written.store.reading() as session:
        for parent, child, key in (
            (Lead, Activity, Activity.lead_id),
            (Deal, Activity, Activity.deal_id),
            (Account, Deal, Deal.account_id),
            (Account, Contact, Contact.account_id),
            (Account, Ticket, Ticket.account_id),
        ):
            early = session.scalar(
                select(func.count())
                .select_from(child)
                .join(parent, key == parent.id)
                .where(child.recorded_at < parent.recorded_at)
            )
            assert early == 0, (parent, child)


def test_no_record_is_changed_before_it_is_known(written: Written) -> None:
    with written.store.reading() as session:
        for record_type, model in WRITTEN.items():
            early = session.scalar(
                select(func.count())
                .select_from(Change)
                .join(model, Change.record_id == model.id)
                .where(Change.record_type == record_type, Change.recorded_at < model.recorded_at)
            )
            assert early == 0, record_type


def test_a_conversion_makes_an_account_a_contact_and_usually_a_deal(written: Written) -> None:
    with written.store.reading() as session:
        leads = session.scalars(select(Lead).where(Lead.status == LeadStatus.CONVERTED)).all()
        for lead in leads:
            assert lead.account_id is not None
            account = session.get_one(Account, lead.account_id)
            assert account.occurred_at == lead.converted_at
            assert lead.name is None or account.owner_id is not None
            assert (lead.contact_id is None) == (lead.name is None)
            if lead.deal_id is not None:
                deal = session.get_one(Deal, lead.deal_id)
                assert deal.account_id == account.id
                assert deal.occurred_at >= account.recorded_at
        assert 0.75 < sum(lead.deal_id is not None for lead in leads) / len(leads) < 0.95


def test_before_its_conversion_a_lead_is_open_and_leads_nowhere(written: Written) -> None:
    with written.store.reading() as session:
        lead = session.scalars(select(Lead).where(Lead.deal_id.is_not(None)).limit(1)).one()
        assert lead.converted_at is not None
        state = state_as_of(session, Lead, lead.id, lead.converted_at - timedelta(seconds=1))

    assert state is not None
    assert state["status"] == LeadStatus.OPEN
    assert [state[field] for field in sorted(OUTCOME_FIELDS["lead"] - {"status"})] == [None] * 5


def test_a_deal_won_from_a_new_account_becomes_a_contract_and_an_order(written: Written) -> None:
    with written.store.reading() as session:
        contracts = session.scalars(select(Contract).where(Contract.deal_id.is_not(None))).all()
        assert len(contracts) > 20
        for contract in contracts:
            deal = session.get_one(Deal, contract.deal_id)
            assert deal.status == DealStatus.WON
            assert contract.occurred_at == deal.closed_at
            assert contract.starts_on == deal.closed_at.date() + timedelta(days=1)
        ordered = set(session.scalars(select(Order.deal_id).where(Order.deal_id.is_not(None))))
        old = [one.deal_id for one in contracts if one.occurred_at < NOW - timedelta(days=20)]
        assert set(old) <= ordered


def test_a_contract_is_renewed_or_known_as_ended_when_the_grace_time_is_over(written: Written) -> None:
    with written.store.reading() as session:
        contracts = {one.id: one for one in session.scalars(select(Contract))}
        ends = {
            change.record_id: change
            for change in session.scalars(
                select(Change).where(Change.record_type == "contract", Change.field == "ended_at")
            )
        }
    for contract in contracts.values():
        match contract.status:
            case ContractStatus.RENEWED:
                assert contract.renewed_by_id is not None
                following = contracts[contract.renewed_by_id]
                assert following.account_id == contract.account_id
                assert following.starts_on == contract.ends_on
                assert (following.recorded_at.date() - contract.ends_on).days <= 30
            case ContractStatus.ENDED:
                assert contract.ended_at is not None
                assert micros(contract.ended_at) == END - (TODAY - contract.ends_on).days * DAY
                assert ends[contract.id].recorded_at - ends[contract.id].occurred_at == timedelta(days=30)
            case ContractStatus.CANCELLED:
                assert contract.ended_at is not None
                assert contract.ended_at.date() < contract.ends_on
            case _:
                assert contract.ended_at is None
    assert set(Counter(one.status for one in contracts.values())) == set(ContractStatus)


def test_no_contract_is_cancelled_before_it_is_signed(imagined: Imagined) -> None:
    contracts = imagined.company.contracts
    cancelled = happened(contracts.cancelled_at)
    late = contracts.terms.signed_at > contracts.terms.starts_at
    assert (cancelled & late).sum() > 50
    assert (contracts.cancelled_at >= contracts.terms.signed_at)[cancelled].all()


def test_what_is_done_for_somebody_is_done_by_who_was_responsible(written: Written) -> None:
    with written.store.reading() as session:
        users = read_arrays(session, select(User.id, User.occurred_at, User.left_at))
        done = read_arrays(session, select(Activity.owner_id, Activity.occurred_at))
    place = np.searchsorted(users["id"], done["owner_id"])
    left = np.where(users["left_at"] == NO_INSTANT, END, users["left_at"])[place]

    assert (done["occurred_at"] >= users["occurred_at"][place]).all()
    assert (done["occurred_at"] <= left).all()


# -------------------------------------------------------------------------- habits of real data


def test_one_activity_in_ten_is_written_down_days_later(written: Written) -> None:
    with written.store.reading() as session:
        found = read_arrays(session, select(Activity.occurred_at, Activity.recorded_at, Activity.kind))
    late = (found["recorded_at"] - found["occurred_at"]) / DAY
    by_hand = np.isin(found["kind"].astype(str), ("call", "meeting", "visit", "note"))

    assert 0.05 < (late >= 1).mean() < 0.15
    assert 0.15 < (late[by_hand] >= 1).mean() < 0.25
    assert late.max() <= 5
    assert late[~by_hand].max() == 0


def test_stages_move_back_and_close_dates_are_pushed(written: Written) -> None:
    order = [stage.key for stage in open_stages()]
    with written.store.reading() as session:
        moves = session.execute(
            select(Change.old, Change.new).where(Change.record_type == "deal", Change.field == "stage")
        ).all()
        pushes = session.execute(
            select(Change.old, Change.new).where(
                Change.record_type == "deal", Change.field == "expected_close_on"
            )
        ).all()
        deals = session.scalar(select(func.count()).select_from(Deal)) or 0
    inside = [(old, new) for old, new in moves if old in order and new in order]
    back = [1 for old, new in inside if order.index(new) < order.index(old)]

    assert 0.02 < len(back) / len(inside) < 0.15
    assert all(new > old for old, new in pushes)
    assert 0.3 < len(pushes) / deals < 2.5


def test_reps_believe_more_than_comes_true(written: Written) -> None:
    with written.store.reading() as session:
        deals = read_arrays(
            session, select(Deal.id, Deal.rep_probability, Deal.status).where(Deal.status == DealStatus.OPEN)
        )
    probability = written.truth.probabilities(
        "win_probability", deals["id"], np.full(deals["id"].size, END), 365
    )
    told = ~np.isnan(deals["rep_probability"]) & ~np.isnan(probability)

    assert 0.5 < told.mean() < 1.0
    assert deals["rep_probability"][told].mean() > probability[told].mean() + 0.05


def test_who_leaves_hands_over_everything_that_is_open(written: Written) -> None:
    with written.store.reading() as session:
        gone = session.scalars(select(User).where(User.left_at.is_not(None))).all()
        assert len(gone) >= 2
        assert not any(user.active for user in gone)
        ids = [user.id for user in gone]
        for model, condition in (
            (Lead, Lead.status == LeadStatus.OPEN),
            (Deal, Deal.status == DealStatus.OPEN),
            (Account, Account.id > 0),
            (Contact, Contact.id > 0),
        ):
            left_behind = session.scalar(
                select(func.count()).select_from(model).where(model.owner_id.in_(ids), condition)
            )
            assert left_behind == 0, model
        handed_over = session.scalars(
            select(Change.occurred_at).where(Change.field == "owner_id", Change.record_type == "account")
        ).all()
        assert set(handed_over) == {user.left_at for user in gone}


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("phone", 0.2, 0.4), ("email", 0.04, 0.15), ("employees", 0.1, 0.2), ("industry", 0.03, 0.1)],
)
def test_fields_of_leads_are_missing(written: Written, field: str, least: float, most: float) -> None:
    with written.store.reading() as session:
        values = session.scalars(select(getattr(Lead, field))).all()

    assert least < sum(value is None for value in values) / len(values) < most


def test_fields_are_corrected_later(written: Written) -> None:
    with written.store.reading() as session:
        rows = session.execute(
            select(Change.record_type, Change.field).where(Change.action == Action.UPDATED)
        )
        found = Counter((record_type, field) for record_type, field in rows)

    for corrected in (("lead", "employees"), ("lead", "title"), ("account", "website"), ("deal", "amount")):
        assert found[corrected] > 10, corrected


def test_there_are_busy_months_and_quiet_ones(written: Written) -> None:
    with written.store.reading() as session:
        came = read_arrays(session, select(Lead.occurred_at))["occurred_at"]
    month = Counter((came.astype("datetime64[us]").astype("datetime64[M]").astype(int) % 12).tolist())

    assert month[10] > 1.2 * month[1]


# ------------------------------------------------------------------------------- enough to show


def test_a_small_company_has_about_three_thousand_leads(written: Written) -> None:
    with written.store.reading() as session:
        counts = {
            name: session.scalar(select(func.count()).select_from(model)) or 0
            for name, model in WRITTEN.items()
        }

    assert 2_950 <= counts["lead"] <= 3_000
    assert 750 < counts["deal"] < 1_200
    assert 40_000 < counts["activity"] < 70_000
    assert counts["contract"] > 500
    assert counts["ticket"] > 500
    assert counts["order"] > 5_000


def test_the_cast_is_there(written: Written) -> None:
    with written.store.reading() as session:
        roles = {user.email: user.role for user in session.scalars(select(User))}
        teams = {team.name: team.parent_id for team in session.scalars(select(Team))}

    assert roles["ana@example.com"] == Role.REP
    assert roles["ben@example.com"] == Role.REP
    assert roles["mara@example.com"] == Role.MANAGER
    assert roles["dana@example.com"] == Role.ANALYST
    assert Role.ADMIN in roles.values()
    assert teams["Sales"] is None
    assert teams["Shanghai"] is not None


def test_ana_has_open_leads_of_all_ages_and_states_and_open_deals(written: Written) -> None:
    with written.store.reading() as session:
        ana = session.scalars(select(User).where(User.email == "ana@example.com")).one()
        leads = read_arrays(
            session,
            select(Lead.id, Lead.recorded_at).where(Lead.owner_id == ana.id, Lead.status == LeadStatus.OPEN),
        )
        deals = session.scalars(
            select(Deal.stage).where(Deal.owner_id == ana.id, Deal.status == DealStatus.OPEN)
        ).all()
    age = (END - leads["recorded_at"]) / DAY
    lives = written.truth.leads
    state, _ = lives.course.state_at(lives.find(leads["id"])[0], np.full(age.size, END))

    assert leads["id"].size >= 25
    assert len(deals) >= 10
    assert (age < 14).any()
    assert (age > 60).any()
    assert len(set(state.tolist())) >= 3
    assert len(set(deals)) >= 3


def test_mara_sees_what_ana_owns(written: Written) -> None:
    with written.store.reading() as session:
        users = {user.email: user for user in session.scalars(select(User))}
        seen = {
            name: set(session.scalars(select(Lead.id).where(visible(session, users[name], Lead))))
            for name in ("ana@example.com", "mara@example.com", "dana@example.com")
        }

    assert seen["ana@example.com"] < seen["mara@example.com"] < seen["dana@example.com"]


def test_contracts_end_soon(written: Written) -> None:
    with written.store.reading() as session:
        soon = session.scalar(
            select(func.count())
            .select_from(Contract)
            .where(
                Contract.status == ContractStatus.ACTIVE,
                Contract.ends_on > TODAY,
                Contract.ends_on <= TODAY + timedelta(days=90),
            )
        )

    assert soon is not None
    assert soon >= 15


def test_the_rival_in_a_deal_is_declared_as_known_from_the_start(written: Written) -> None:
    with written.store.reading() as session:
        known = known_at(session, "deal", "custom.competitor")
        named = Counter(json.dumps(custom) for custom in session.scalars(select(Deal.custom)))

    assert known is Known.CREATION
    assert len(named) == 4


def test_all_mail_goes_to_example_com(written: Written) -> None:
    with written.store.reading() as session:
        addresses = [
            address
            for model in (Lead, Contact, User)
            for address in session.scalars(select(model.email))
            if address is not None
        ]

    assert all(address.endswith(("@example.com", ".example.com")) for address in addresses)
    assert len(addresses) > 3_000
