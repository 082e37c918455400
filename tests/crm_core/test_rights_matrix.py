"""Every role x record type x own / team / other team / deleted x every way to a record.

What is right stands in tables here, made by hand. A type that is missing in them fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

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
from crm_core.clock import FixedClock
from crm_core.duplicates import COMPARED, find_duplicates, list_duplicates, merge_as
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.exporting.tables import table_of
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.likeness import FACTS, Evidence
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    Article,
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
from crm_core.search import search
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
    "article": lambda t, d: t.create(Article(title="A", body="B", language="en")),
}
"""How to make one of each record type that everybody shares."""

SEES = {
    "ana": {"ana"},
    "mara": {"mara", "ana"},
    "dana": {"mara", "ana", "ben"},
    "adam": {"mara", "ana", "ben"},
    "nobody": set[str](),
}
"""Whose records each reader sees: Mara leads the team above Ana's; Ben works elsewhere."""

CREATES = {"ana": True, "mara": True, "dana": False, "adam": True, "nobody": True}
"""Who may make records of the types that belong to somebody."""

SUBJECTS = {
    "lead",
    "deal",
    "account",
    "contact",
    "ticket",
    "quote",
    "contract",
    "order",
    "custom_record",
    "payment",
}
"""What comments, files, tags and activities may be about, of what belongs to somebody."""

ABOUT: dict[str, Callable[..., Record]] = {
    "comment": lambda **subject: Comment(body="B", **subject),
    "attachment": lambda **subject: Attachment(name="F", uri="f", **subject),
    "tag": lambda **subject: Tag(word="vip", **subject),
    "activity": lambda **subject: Activity(kind="note", **subject),
}
"""How to say something about any record."""

CHANGES = {**SEES, "dana": set[str]()}
"""Whose records each reader may change: an analyst's are none."""


@dataclass(frozen=True, kw_only=True)
class Company:
    people: dict[str, User]
    desks: dict[str, Desk]


@pytest.fixture
def sqlite_store(home: Path, empty_database: Path, clock: FixedClock) -> Iterator[Store]:
    """A store of the one kind, for what the other kind answers alike."""
    shutil.copy(empty_database, home / "crm.db")
    opened = Store(f"sqlite:///{home / 'crm.db'}", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def company(request: pytest.FixtureRequest) -> Company:
    store = request.getfixturevalue("store" if "store" in request.fixturenames else "sqlite_store")
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
        desks = {name: make_desk(transaction, people[name].id) for name in ("ana", "ben", "mara")}
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


WAYS: dict[str, Callable[[Reader, type[Record], list[int]], set[int]]] = {
    "read": lambda reader, model, ids: {each for each in ids if may_get(reader, model, each)},
    "list": lambda reader, model, ids: set(
        reader.session.scalars(reader.select(model).with_only_columns(model.id))
    ),
    "export": lambda reader, model, ids: exported(reader, model),
    "search": lambda reader, model, ids: found(reader, model),
}
"""Every way to a record: the ids that a reader gets by it."""


def exported(reader: Reader, model: type[Record]) -> set[int]:
    table = table_of(reader, model)
    at = [column.name for column in table.columns].index("id")
    return {row[at] for rows in table.chunks() for row in rows}


def found(reader: Reader, model: type[Record]) -> set[int]:
    return {hit.record_id for hit in search(reader, MARK, types=[model.record_type], limit=100)}


MARK = "zebrafish"
"""What every record in the matrix says, in a custom field."""


def make_marked(transaction: Transaction, record_type: str, desk: Desk) -> int:
    record = {**MAKERS, **SHARED}[record_type](transaction, desk)
    declare_field(
        transaction.session,
        record_type="shop" if record_type == "custom_record" else record_type,
        name="custom.mark",
        kind=FieldKind.TEXT,
        known=Known.CREATION,
    )
    transaction.update(record, {"custom.mark": MARK})
    return record.id


@pytest.mark.parametrize("record_type", sorted(MAKERS))
def test_each_reader_gets_and_changes_what_their_role_reaches(
    store: Store, company: Company, record_type: str
) -> None:
    model = RECORD_TYPES[record_type]
    with store.reading() as session:
        before = {name: Reader(session, company.people[name]).count(model) for name in SEES}
    with store.transaction() as transaction:
        made = {name: make_marked(transaction, record_type, desk) for name, desk in company.desks.items()}
        gone = make_marked(transaction, record_type, company.desks["ana"])
        transaction.delete(transaction.get(model, gone))
    refusal = (RecordNotFoundError, AccessDeniedError)
    with store.reading() as session:
        for name, sees in SEES.items():
            reader = Reader(session, company.people[name])
            for way, get in WAYS.items():
                got = get(reader, model, [*made.values(), gone])
                assert {who for who, record_id in made.items() if record_id in got} == sees, (name, way)
                assert gone not in got, (name, way)
            assert reader.count(model) - before[name] == len(sees), name
            changed = {who for who, each in made.items() if allowed_any(reader, model, each, refusal)}
            assert changed == CHANGES[name], name
            assert allowed_any(reader, model, gone, refusal) is False
            assert may_create(reader, model) == CREATES[name], name


def may_create(reader: Reader, model: type[Record]) -> bool:
    try:
        reader.check_may_create(model)
    except AccessDeniedError:
        return False
    return True


@pytest.mark.parametrize("record_type", sorted({**MAKERS, **SHARED}))
def test_a_field_that_is_hidden_is_hidden_whatever_the_way(
    sqlite_store: Store, company: Company, record_type: str
) -> None:
    """Hidden from everybody but administrators: not shown, not exported, not found by, not written."""
    model = RECORD_TYPES[record_type]
    with sqlite_store.transaction() as transaction:
        made = make_marked(transaction, record_type, company.desks["ana"])
        for role in ("rep", "manager", "analyst"):
            transaction.session.add(
                FieldRight(role=role, record_type=record_type, field="custom.mark", read=False, write=False)
            )
    with sqlite_store.reading() as session:
        for name in ("ana", "mara", "dana", "adam"):
            reader, told = Reader(session, company.people[name]), name == "adam"
            record = reader.get(model, made)
            assert (MARK in str(reader.shown(record))) == told, name
            assert (MARK in str(reader.masked(record).custom)) == told, name
            assert (found(reader, model) == {made}) == told, name
            assert ("custom.mark" in {each.name for each in table_of(reader, model).columns}) == told, name
            assert reader.may_write_field(record_type, "custom.mark") == told, name


@pytest.mark.parametrize("subject_type", sorted(SUBJECTS))
def test_what_is_said_about_a_record_follows_its_rights_and_not_its_authors(
    sqlite_store: Store, company: Company, subject_type: str
) -> None:
    for kind in ABOUT:
        check_about(sqlite_store, company, subject_type, kind)


def check_about(store: Store, company: Company, subject_type: str, kind: str) -> None:
    model, subject_model = RECORD_TYPES[kind], RECORD_TYPES[subject_type]
    with store.transaction() as transaction:
        subject = MAKERS[subject_type](transaction, company.desks["ana"])
        said = ABOUT[kind](subject_type=subject_type, subject_id=subject.id)
        if hasattr(said, "owner_id"):
            said.owner_id = company.desks["ben"].owner
        said_id = transaction.create(said).id
    assert readers_of(store, company, model, said_id) == {"ana", "mara", "dana", "adam"}
    assert readers_of(store, company, model, said_id, about=subject) == {"ana", "mara", "dana", "adam"}
    with store.transaction() as transaction:
        transaction.delete(transaction.get(subject_model, subject.id))
    assert readers_of(store, company, model, said_id) == {"dana", "adam"}


def readers_of(
    store: Store, company: Company, model: type[Record], record_id: int, *, about: Record | None = None
) -> set[str]:
    """Return who gets a record, alone or in the list of what is about another one."""
    with store.reading() as session:
        readers = {name: Reader(session, user) for name, user in company.people.items()}
        if about is None:
            return {name for name, reader in readers.items() if may_get(reader, model, record_id)}
        seeing = {n: r for n, r in readers.items() if may_get(r, type(about), about.id)}
        return {
            name
            for name, reader in seeing.items()
            if record_id in {each.id for each in session.scalars(reader.select_about(model, about))}
        }


def test_a_record_type_that_a_role_may_not_read_opens_no_way_to_what_is_about_it(
    sqlite_store: Store, company: Company
) -> None:
    with sqlite_store.transaction() as transaction:
        order(transaction, company.desks["ana"])
        transaction.session.add_all(
            RoleRight(role="rep", record_type=record_type, read=Scope.NONE, write=Scope.NONE)
            for record_type in ("account", "deal")
        )
    with sqlite_store.reading() as session:
        assert Reader(session, company.people["ana"]).count(Order) == 0
        assert Reader(session, company.people["mara"]).count(Order) == 1


def test_a_right_to_a_type_declared_at_run_time_goes_by_its_name(
    sqlite_store: Store, company: Company
) -> None:
    with sqlite_store.transaction() as transaction:
        shop = make_marked(transaction, "custom_record", company.desks["ana"])
        transaction.session.add_all(
            [
                RoleRight(role="rep", record_type="shop", read=Scope.NONE, write=Scope.NONE),
                FieldRight(role="manager", record_type="shop", field="custom.mark", read=False, write=False),
            ]
        )
    assert readers_of(sqlite_store, company, CustomRecord, shop) == {"mara", "dana", "adam"}
    with sqlite_store.reading() as session:
        told = {name for name, user in company.people.items() if found(Reader(session, user), CustomRecord)}
    assert told == {"dana", "adam"}


def test_an_activity_about_nothing_is_its_owners(sqlite_store: Store, company: Company) -> None:
    with sqlite_store.transaction() as transaction:
        task = transaction.create(Activity(kind="task", owner_id=company.desks["ana"].owner)).id
    assert readers_of(sqlite_store, company, Activity, task) == {"ana", "mara", "dana", "adam"}


@pytest.mark.parametrize("record_type", ["lead", "contact", "account"])
def test_nobody_learns_of_a_copy_that_they_may_not_see(
    store: Store, company: Company, record_type: str
) -> None:
    mine, theirs = company.desks["ana"].owner, company.desks["ben"].owner
    with store.transaction() as transaction:
        first, second, other = (
            transaction.create(make_copy(record_type, owner)) for owner in (mine, mine, theirs)
        )
        ids = (first.id, second.id, other.id)
    pairs = {(ids[0], ids[1]): {"ana", "mara", "dana", "adam"}}
    pairs |= dict.fromkeys(((ids[0], ids[2]), (ids[1], ids[2])), {"dana", "adam"})  # noqa: RUF024  not changed
    with store.reading() as session:
        for name, user in company.people.items():
            reader = Reader(session, user)
            listed = list_duplicates(session, record_type, reader=reader)
            expected = {pair for pair, seeing in pairs.items() if name in seeing}
            assert {(pair.first_id, pair.second_id) for pair in listed} & set(pairs) == expected, name
            near = find_duplicates(session, first, reader=reader)  # type: ignore[arg-type]  # compared types
            expected = {pair for pair in expected if ids[0] in pair}
            assert {(pair.first_id, pair.second_id) for pair in near} & set(pairs) == expected, name


def make_copy(record_type: str, owner: int) -> Record:
    if record_type == "account":
        return Account(name="Zebrafish Harbour", website="zebrafish.example", owner_id=owner)
    model = Lead if record_type == "lead" else Contact
    return model(name="Zelda Fisher", email="zelda@zebrafish.example", owner_id=owner)


def test_evidence_from_a_hidden_field_is_not_told(sqlite_store: Store, company: Company) -> None:
    with sqlite_store.transaction() as transaction:
        for _ in range(2):
            transaction.create(make_copy("lead", company.desks["ana"].owner))
        transaction.session.add(
            FieldRight(role="rep", record_type="lead", field="email", read=False, write=False)
        )
    with sqlite_store.reading() as session:
        ana, mara = (
            list_duplicates(session, "lead", reader=Reader(session, company.people[name]))[0]
            for name in ("ana", "mara")
        )
    assert {each.fact for each in mara.evidence} - {each.fact for each in ana.evidence} == {"mail_equal"}
    assert ana.likelihood == mara.likelihood


@pytest.mark.parametrize("fact", FACTS)
def test_every_evidence_names_a_field_that_is_compared(fact: str) -> None:
    evidence = Evidence(fact=fact, log_odds=1.0, en="", zh="")
    assert evidence.field in {name for names in COMPARED.values() for name in names}


def test_merging_takes_the_right_to_change_both(sqlite_store: Store, company: Company) -> None:
    mine, theirs = company.desks["ana"].owner, company.desks["ben"].owner
    with sqlite_store.transaction() as transaction:
        ids = [transaction.create(make_copy("lead", owner)).id for owner in (mine, mine, theirs)]
    for name, gone, refusal in (
        ("ana", ids[2], RecordNotFoundError),
        ("dana", ids[1], AccessDeniedError),
        ("nobody", ids[1], RecordNotFoundError),
    ):
        with sqlite_store.transaction() as transaction, pytest.raises(refusal):
            merge_as(transaction, company.people[name], "lead", keep_id=ids[0], gone_id=gone)
    with sqlite_store.transaction() as transaction:
        merge_as(transaction, company.people["mara"], "lead", keep_id=ids[0], gone_id=ids[1])
    with sqlite_store.reading() as session:
        assert session.get_one(Lead, ids[1]).merged_into_id == ids[0]


def test_a_reason_about_a_type_out_of_sight_is_hidden(sqlite_store: Store, company: Company) -> None:
    reason = {"group": "care", "log_odds": 0.4, "en": "3 tickets", "zh": "3 个工单"}
    told = [{**reason, "fields": ["ticket.occurred_at"]}]
    with sqlite_store.transaction() as transaction:
        transaction.session.add(
            RoleRight(role="rep", record_type="ticket", read=Scope.NONE, write=Scope.NONE)
        )
    with sqlite_store.reading() as session:
        assert Reader(session, company.people["mara"]).readable_reasons(told) == told
        assert "3 tickets" not in str(Reader(session, company.people["ana"]).readable_reasons(told))


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
    changers = {"campaign": {"adam", "mara"}, "article": set(SEES) - {"dana"}}.get(record_type, {"adam"})
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


def test_a_reason_about_a_team_is_told_to_those_who_may_see_whose_a_record_is(
    store: Store, company: Company
) -> None:
    fields = ["deal.owner_id", "team.name", "user.team_id"]
    reasons = [{"group": "owner_team", "log_odds": 0.3, "en": "team: North", "zh": "团队", "fields": fields}]
    with store.reading() as session:
        assert Reader(session, company.people["ana"]).readable_reasons(reasons) == reasons
    with store.transaction() as transaction:
        transaction.session.add(
            FieldRight(role="rep", record_type="deal", field="owner_id", read=False, write=False)
        )
    with store.reading() as session:
        assert "North" not in str(Reader(session, company.people["ana"]).readable_reasons(reasons))


def test_the_defaults_name_every_role_and_type() -> None:
    assert {record_type for _, record_type in DEFAULT_RIGHTS} == set(RECORD_TYPES)
