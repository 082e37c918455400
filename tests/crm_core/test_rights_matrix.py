"""Every role, record type and owner: who sees, counts and changes it. A type that is missing here fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import select

from crm_core.access import (
    DEFAULT_RIGHTS,
    HIDDEN_FIELDS,
    FieldRight,
    Reader,
    RoleRight,
    Scope,
)
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    Attachment,
    Campaign,
    CampaignMember,
    Comment,
    Contact,
    Contract,
    CustomRecord,
    CustomRecordType,
    Deal,
    Lead,
    Line,
    Order,
    Payment,
    Product,
    Quote,
    Record,
    Tag,
    Team,
    Ticket,
    User,
)
from crm_core.store import Store, Transaction
from tests.factories import declare_custom, make_account, make_deal, make_lead, make_team, make_user


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One person's lead, account and deal, for other records to be about."""

    owner: int
    lead: int
    account: int
    deal: int


Maker = Callable[[Transaction, Desk], Record]


def order(transaction: Transaction, desk: Desk) -> Order:
    return transaction.create(Order(account_id=desk.account))


def line(transaction: Transaction, desk: Desk) -> Record:
    return transaction.create(Line(order_id=order(transaction, desk).id))


def member(transaction: Transaction, desk: Desk) -> Record:
    campaign = transaction.create(Campaign(name="Fair"))
    return transaction.create(CampaignMember(campaign_id=campaign.id, lead_id=desk.lead))


def custom(transaction: Transaction, desk: Desk) -> Record:
    kind = transaction.session.scalars(select(CustomRecordType)).first()
    if kind is None:
        kind = CustomRecordType(name="shop", label_en="Shop", label_zh="门店")
        transaction.session.add(kind)
        transaction.session.flush()
    return transaction.create(CustomRecord(type_id=kind.id, name="Harbour", account_id=desk.account))


def contract(transaction: Transaction, desk: Desk) -> Record:
    days = {"starts_on": date(2026, 1, 1), "ends_on": date(2026, 12, 31)}
    return transaction.create(Contract(account_id=desk.account, **days))


MAKERS: dict[str, Maker] = {
    "lead": lambda t, d: t.create(Lead(owner_id=d.owner)),
    "account": lambda t, d: t.create(Account(name="A", owner_id=d.owner)),
    "contact": lambda t, d: t.create(Contact(name="C", account_id=d.account)),
    "deal": lambda t, d: t.create(Deal(name="D", stage="needs", owner_id=d.owner)),
    "quote": lambda t, d: t.create(Quote(number="Q", deal_id=d.deal)),
    "order": order,
    "line": line,
    "contract": contract,
    "payment": lambda t, d: t.create(Payment(account_id=d.account, amount=Decimal(9))),
    "ticket": lambda t, d: t.create(Ticket(subject="T", account_id=d.account)),
    "activity": lambda t, d: t.create(Activity(kind="call", deal_id=d.deal)),
    "comment": lambda t, d: t.create(Comment(body="B", subject_type="deal", subject_id=d.deal)),
    "attachment": lambda t, d: t.create(
        Attachment(name="F", uri="f", subject_type="lead", subject_id=d.lead)
    ),
    "tag": lambda t, d: t.create(Tag(word="vip", subject_type="account", subject_id=d.account)),
    "campaign_member": member,
    "custom_record": custom,
}
"""How to make one of each record type that belongs to somebody."""

SHARED: dict[str, Maker] = {
    "product": lambda t, d: t.create(Product(name="Pump")),
    "campaign": lambda t, d: t.create(Campaign(name="Fair")),
    "team": lambda t, d: make_team(t, name=f"Team {d.account}"),
    "user": lambda t, d: make_user(t, f"Extra{d.account}"),
}
"""How to make one of each record type that everybody shares."""

SEES = {
    "ana": {"ana"},
    "mara": {"ana"},
    "dana": {"ana", "ben"},
    "adam": {"ana", "ben"},
    "nobody": set[str](),
}
"""Whose records each reader sees: Mara leads the team above Ana's; Ben works elsewhere."""

CHANGES = {**SEES, "dana": set[str]()}
"""Whose records each reader may change: an analyst's are none."""


@dataclass(frozen=True, kw_only=True)
class Company:
    people: dict[str, User]
    desks: dict[str, Desk]


@pytest.fixture
def company(store: Store) -> Company:
    with store.transaction() as transaction:
        north = make_team(transaction, name="North")
        coast = make_team(transaction, name="Coast", parent_id=north.id)
        south = make_team(transaction, name="South")
        people = {
            "ana": make_user(transaction, "Ana", team_id=coast.id),
            "ben": make_user(transaction, "Ben", team_id=south.id),
            "mara": make_user(transaction, "Mara", role="manager", team_id=north.id),
            "dana": make_user(transaction, "Dana", role="analyst"),
            "adam": make_user(transaction, "Adam", role="admin"),
            "nobody": make_user(transaction, "Nobody"),
        }
        desks = {name: make_desk(transaction, people[name].id) for name in ("ana", "ben")}
        return Company(people=people, desks=desks)


def make_desk(transaction: Transaction, owner: int) -> Desk:
    account = make_account(transaction, owner_id=owner).id
    return Desk(
        owner=owner,
        account=account,
        lead=make_lead(transaction, owner_id=owner).id,
        deal=make_deal(transaction, owner_id=owner, account_id=account).id,
    )


def may_get(reader: Reader, model: type[Record], record_id: int) -> bool:
    try:
        return reader.get(model, record_id).id == record_id
    except RecordNotFoundError:
        return False


def test_every_record_type_is_in_the_matrix() -> None:
    assert set(RECORD_TYPES) == set(MAKERS) | set(SHARED)


@pytest.mark.parametrize("record_type", sorted(MAKERS))
def test_each_reader_sees_counts_and_changes_what_their_role_reaches(
    store: Store, company: Company, record_type: str
) -> None:
    model = RECORD_TYPES[record_type]
    with store.transaction() as transaction:
        made = {name: MAKERS[record_type](transaction, desk).id for name, desk in company.desks.items()}
        gone = MAKERS[record_type](transaction, company.desks["ana"])
        transaction.delete(gone)
    with store.reading() as session:
        for name, sees in SEES.items():
            reader = Reader(session, company.people[name])
            listed = set(session.scalars(reader.select(model).with_only_columns(model.id)))
            assert {who for who, record_id in made.items() if record_id in listed} == sees, name
            assert gone.id not in listed
            assert reader.count(model) == len(listed)
            got = {who for who, record_id in made.items() if may_get(reader, model, record_id)}
            assert got == sees, name
            for who, record_id in made.items():
                expected = who in CHANGES[name]
                refusal = (RecordNotFoundError, AccessDeniedError)
                assert expected == allowed_any(reader, model, record_id, refusal), (name, who)


def allowed_any(
    reader: Reader, model: type[Record], record_id: int, refusal: tuple[type[Exception], ...]
) -> bool:
    try:
        reader.get_to_write(model, record_id)
    except refusal:
        return False
    return True


@pytest.mark.parametrize("record_type", sorted(SHARED))
def test_everybody_sees_what_is_shared_and_few_change_it(
    store: Store, company: Company, record_type: str
) -> None:
    model = RECORD_TYPES[record_type]
    with store.transaction() as transaction:
        record_id = SHARED[record_type](transaction, company.desks["ana"]).id
    changers = {"adam", "mara"} if record_type == "campaign" else {"adam"}
    with store.reading() as session:
        for name in SEES:
            reader = Reader(session, company.people[name])
            assert reader.get(model, record_id).id == record_id
            assert allowed_any(reader, model, record_id, (AccessDeniedError,)) == (name in changers)


def test_a_role_that_nobody_gave_rights_sees_and_makes_nothing(store: Store, company: Company) -> None:
    wizard = company.people["adam"]
    wizard.role = "wizard"
    with store.reading() as session:
        reader = Reader(session, wizard)
        for model in RECORD_TYPES.values():
            assert reader.count(model) == 0
            with pytest.raises(AccessDeniedError, match="wizard"):
                reader.check_may_create(model)


def test_an_administrator_may_widen_or_take_away_a_right(store: Store, company: Company) -> None:
    with store.transaction() as transaction:
        transaction.session.add_all(
            [
                RoleRight(role="rep", record_type="deal", read=Scope.ALL, write=Scope.OWN),
                RoleRight(role="rep", record_type="ticket", read=Scope.NONE, write=Scope.NONE),
            ]
        )
        MAKERS["ticket"](transaction, company.desks["ana"])
    with store.reading() as session:
        reader = Reader(session, company.people["ana"])
        bens = company.desks["ben"].deal
        assert reader.get(Deal, bens).id == bens
        with pytest.raises(AccessDeniedError, match=f"change deal {bens}"):
            reader.get_to_write(Deal, bens)
        assert reader.count(Ticket) == 0


@pytest.mark.parametrize("key", sorted(HIDDEN_FIELDS))
def test_a_hidden_field_is_neither_shown_nor_written(
    store: Store, company: Company, key: tuple[str, str]
) -> None:
    record_type, field = key
    with store.reading() as session:
        for user in company.people.values():
            reader = Reader(session, user)
            hidden = user.role in HIDDEN_FIELDS[key]
            assert (field not in reader.readable_fields(RECORD_TYPES[record_type])) == hidden
            assert reader.may_write_field(record_type, field) != hidden
    assert "cost" in reader.readable_fields(Team) or "name" in reader.readable_fields(Team)


def test_field_rights_can_be_set_for_custom_fields_too(store: Store, company: Company) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "deal", margin="number", tier="text")
        deal = make_deal(transaction, owner_id=company.people["ana"].id, custom={"margin": 0.3, "tier": "A"})
        transaction.session.add_all(
            [
                FieldRight(role="rep", record_type="deal", field="custom.margin", read=False, write=False),
                FieldRight(role="rep", record_type="deal", field="amount", read=True, write=False),
            ]
        )
    with store.reading() as session:
        ana, mara = (Reader(session, company.people[name]) for name in ("ana", "mara"))
        assert ana.shown(deal)["custom"] == {"tier": "A"}
        assert mara.shown(deal)["custom"] == {"margin": 0.3, "tier": "A"}
        assert ana.shown(deal)["amount"] == deal.amount
        ana.check_fields("deal", ["name"])
        with pytest.raises(AccessDeniedError, match=r"change deal\.amount"):
            ana.check_fields("deal", ["name", "amount"])


def test_a_reason_from_a_hidden_field_keeps_its_weight_and_loses_its_words(
    store: Store, company: Company
) -> None:
    reasons = [
        {"group": "money", "log_odds": 0.7, "en": "Amount 12,000", "zh": "金额", "fields": ["deal.amount"]},
        {"group": "calls", "log_odds": -0.2, "en": "No calls", "zh": "无通话", "fields": ["activity.kind"]},
    ]
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="amount", read=False, write=False)
        )
    with store.reading() as session:
        shown = Reader(session, company.people["ana"]).readable_reasons(reasons)
    assert sum(reason["log_odds"] for reason in shown) == pytest.approx(0.5)
    assert "12,000" not in str(shown)
    assert shown[1] == reasons[1]


def test_the_defaults_name_every_role_and_type() -> None:
    assert {record_type for _, record_type in DEFAULT_RIGHTS} == set(RECORD_TYPES)
