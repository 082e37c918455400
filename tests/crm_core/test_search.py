"""What anybody wrote down is found again, by whoever may see it, however it is typed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from crm_core import migrations, search_index
from crm_core.access import FieldRight, Reader
from crm_core.bulk import Update
from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.errors import InvalidValueError
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.grams import fold, fold_many, grams_of
from crm_core.merging import merge_records
from crm_core.records import (
    RECORD_TYPES,
    Account,
    Activity,
    Article,
    Attachment,
    Campaign,
    Comment,
    Contract,
    CustomRecord,
    CustomRecordType,
    Line,
    Product,
    Quote,
    Record,
    Tag,
    User,
)
from crm_core.search import MOST_HITS, Hit, search
from crm_core.search_index import SEARCHED, Fresh, Posting, Segment, count_fresh, pack, unpack
from crm_core.store import Store, Transaction
from tests.crm_core import test_rights_matrix as matrix
from tests.crm_core.test_rights_matrix import MAKERS, SEES, Company
from tests.factories import (
    declare_custom,
    make_account,
    make_activity,
    make_contact,
    make_deal,
    make_lead,
    make_order,
    make_team,
    make_ticket,
    make_user,
)

Find = Callable[..., list[Hit]]

company = matrix.company


@pytest.fixture
def dana(store: Store) -> User:
    """An analyst, who sees every record."""
    with store.transaction() as transaction:
        return make_user(transaction, "Dana", role="analyst")


@pytest.fixture
def find(store: Store, dana: User) -> Find:
    """Search as somebody who sees every record."""

    def found(query: str, **options: Any) -> list[Hit]:
        with store.reading() as session:
            return search(Reader(session, dana), query, **options)

    return found


def places(hits: list[Hit]) -> list[tuple[str, int]]:
    return [(hit.record_type, hit.record_id) for hit in hits]


TYPED = [
    ("阀门", "方达阀门有限公司"),
    ("方达", "方达阀门有限公司"),
    ("门", "方达阀门有限公司"),
    ("方达阀们", "方达阀门有限公司"),
    ("张小明", "张晓明"),
    ("欧阳娜那", "欧阳娜娜"),
    ("fangda", "Fangda Valves"),
    ("VALVES fangda", "Fangda Valves"),
    ("Fangda Valves GmbH", "Fangda Valves"),
    ("fang", "Fangda Valves"),
    ("angda", "Fangda Valves"),
    ("Fagnda", "Fangda Valves"),
    ("Fangd", "Fangda Valves"),
    ("Fanngda", "Fangda Valves"),
    ("Fanxda", "Fangda Valves"),
    ("Vavles", "Fangda Valves"),
    ("Wnag", "Wang Li"),
    ("li", "Wang Li"),
    ("Muller", "Müller & Söhne"),
    ("mueller", "Mueller AG"),
    ("full width", "Ｆｕｌｌ　Ｗｉｄｔｈ"),
    ("ﬁne", "Fine Foods"),
    ("STRASSE", "Lange Straße 9"),
    ("방다", "방다 밸브"),
    ("ドリル", "ドリル工業"),
]


@pytest.mark.parametrize(("typed", "name"), TYPED)
def test_a_name_is_found_as_people_type_it(store: Store, find: Find, typed: str, name: str) -> None:
    with store.transaction() as transaction:
        for other in ("Nordwind Pumpen", "上海远东电缆", "Zhou Mei", "Acme"):
            make_account(transaction, name=other)
        account = make_account(transaction, name=name)
    hits = find(typed)
    assert places(hits) == [("account", account.id)]
    assert hits[0].excerpt == name


@pytest.mark.parametrize(
    "typed",
    ["13800138000", "138 0013 8000", "+86 138-0013-8000", "008613800138000", "0013800", "13800138001"],
)
@pytest.mark.parametrize("stored", ["+86 138-0013-8000", "13800138000", "(0086) 138 0013 8000"])
def test_a_telephone_number_is_found_in_any_spelling(
    store: Store, find: Find, typed: str, stored: str
) -> None:
    with store.transaction() as transaction:
        make_lead(transaction, phone="+49 30 5551234")
        lead = make_lead(transaction, phone=stored)
    assert places(find(typed)) == [("lead", lead.id)]


def test_numbers_inside_notes_are_found_too(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        call = make_activity(transaction, lead_id=lead.id, body="Ask at 010-6234 5678, after nine")
    assert places(find("01062345678")) == [("activity", call.id)]


@pytest.mark.parametrize(
    ("typed", "body"),
    [
        ("漏水", "客户说阀门漏水，需要更换"),
        ("quotation", "Sent the quotation on Monday"),
        ("quotatoin", "Sent the quotation on Monday"),
        ("quotaton", "Sent the quotation on Monday"),
        ("the quotation", "Sent the quotation on Monday"),
    ],
)
def test_notes_are_searched(store: Store, find: Find, typed: str, body: str) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        make_activity(transaction, lead_id=lead.id, body="Nothing of interest")
        comment = transaction.create(Comment(body=body, subject_type="lead", subject_id=lead.id))
        call = make_activity(transaction, lead_id=lead.id, body=body)
    assert set(places(find(typed))) == {("activity", call.id), ("comment", comment.id)}


def test_a_mail_address_is_found_whole_and_in_parts(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction, name="Somebody", email="Wang.Fang@fangda.example")
    for typed in ("wang.fang@fangda.example", "fangda.example", "wang fang"):
        assert places(find(typed)) == [("contact", contact.id)]
        assert find(typed)[0].field == "email"


def member_of(transaction: Transaction, word: str) -> dict[str, Record]:
    """Make one record of each type that says `word`."""
    lead, account = make_lead(transaction, name=word), make_account(transaction, name=word)
    kind = CustomRecordType(name="shop", label_en="Shop", label_zh="门店")
    transaction.session.add(kind)
    transaction.session.flush()
    days = {"starts_on": date(2026, 1, 1), "ends_on": date(2026, 12, 31)}
    order = make_order(transaction, account_id=account.id, number=word)
    create = transaction.create
    return {
        "lead": lead,
        "account": account,
        "contact": make_contact(transaction, name=word),
        "deal": make_deal(transaction, name=word),
        "user": make_user(transaction, word, email="other@example.com"),
        "team": make_team(transaction, name=word),
        "campaign": create(Campaign(name=word, cost=Decimal(1))),
        "product": create(Product(name=word)),
        "quote": create(Quote(number=word)),
        "order": order,
        "contract": create(Contract(account_id=account.id, number=word, **days)),
        "line": create(Line(order_id=order.id, text=word)),
        "ticket": make_ticket(transaction, account_id=account.id, subject=word),
        "article": create(Article(title=word, body="On pumps")),
        "custom_record": create(CustomRecord(type_id=kind.id, name=word)),
        "tag": create(Tag(word=word, subject_type="lead", subject_id=lead.id)),
        "attachment": create(Attachment(name=word, uri="x", subject_type="lead", subject_id=lead.id)),
        "comment": create(Comment(body=word, subject_type="lead", subject_id=lead.id)),
        "activity": create(Activity(kind="note", lead_id=lead.id, subject=word)),
    }


def test_records_of_every_type_are_found(store: Store, find: Find) -> None:
    assert set(SEARCHED) == set(RECORD_TYPES)
    with store.transaction() as transaction:
        made = member_of(transaction, "Zephyr")
    assert set(made) == {record_type for record_type, fields in SEARCHED.items() if fields}
    expected = {(record_type, record.id) for record_type, record in made.items()}
    assert set(places(find("zephyr"))) == expected
    assert places(find("zephyr", types=["deal"])) == [("deal", made["deal"].id)]


def test_texts_of_custom_fields_are_found(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="deal",
            name="custom.site",
            kind=FieldKind.TEXT,
            known=Known.HISTORY,
        )
        deal = make_deal(transaction, custom={"site": "Harbour"}, competitors=["Nordwind", "远东电缆"])
    assert find("harbour")[0].field == "custom.site"
    assert places(find("harbour")) == places(find("nordwind")) == places(find("远东")) == [("deal", deal.id)]


def test_many_words_are_found_together_across_fields(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        wang = make_lead(transaction, name="Wang Fang", company="Fangda Valves")
        make_lead(transaction, name="Wang Fang", company="Nordwind")
    hits = find("Wang Valves")
    assert places(hits)[0] == ("lead", wang.id)


def test_a_record_is_found_by_what_it_says_now(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        one = make_account(transaction, name="Hill & Sons")
        two = make_account(transaction, name="Nordwind")
    with store.transaction() as transaction:
        transaction.update(transaction.get(Account, one.id), {"name": "Dale Brothers"})
        transaction.update_many(Account, [Update(record_id=two.id, values={"name": "Suedwind"})])
    assert find("Hill") == find("Nordwind") == []
    assert places(find("dale")) == [("account", one.id)]
    assert places(find("suedwind")) == [("account", two.id)]


def test_deleted_and_merged_records_are_not_found(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        gone = make_account(transaction, name="Nordwind")
        keep, twin = (
            make_lead(transaction, name="Zephyr"),
            make_lead(transaction, name="Zephyrus", title="Boss"),
        )
        transaction.delete(gone)
        merge_records(transaction, keep, twin)
    assert find("Nordwind") == []
    assert places(find("zephyr")) == [("lead", keep.id)]
    assert places(find("boss")) == [("lead", keep.id)]


def test_what_was_undone_is_not_found(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        make_account(transaction, name="Nordwind")
        transaction.index.flush()
        transaction.session.rollback()
    assert find("Nordwind") == []


def bulk_rows(store: Store, names: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, "occurred_at": store.clock.now()} for name in names]


def test_many_records_written_at_once_are_indexed_at_once(store: Store, find: Find) -> None:
    names = [f"Company {number}" for number in range(400)] + ["方达阀门"]
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(Account, bulk_rows(store, names))
    with store.reading() as session:
        assert count_fresh(session, "account") == 0
        assert [segment.size for segment in session.scalars(select(Segment))] == [401]
    assert places(find("阀门")) == [("account", ids[-1])]
    assert places(find("Company 7"))[0] == ("account", ids[7])
    with store.transaction() as transaction:
        updates = [Update(record_id=each, values={"name": f"Firma {each}"}) for each in ids[:300]]
        transaction.update_many(Account, updates)
    assert places(find(f"Firma {ids[7]}"))[0] == ("account", ids[7])
    assert ("account", ids[7]) not in places(find("Company 7"))


def test_single_records_are_folded_into_segments(
    store: Store, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "_FOLD_AT", 5)
    ids = []
    for number in range(12):
        with store.transaction() as transaction:
            ids.append(make_account(transaction, name=f"Nordwind {number}").id)
    with store.reading() as session:
        assert count_fresh(session, "account") == 2
        assert [segment.size for segment in session.scalars(select(Segment))] == [5, 5]
    assert sorted(places(find("nordwind"))) == [("account", each) for each in ids]


@pytest.mark.parametrize(("count", "segments"), [(1, 0), (6_500, 2)])
def test_records_from_before_there_was_a_search_are_found(
    empty_url: str, clock: FixedClock, count: int, segments: int
) -> None:
    migrations.upgrade(empty_url, "0001")
    store = Store(empty_url, clock=clock)
    with store.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO accounts (id, name, occurred_at, recorded_at, version, scoring_opt_out) "
                "VALUES (:id, :name, 0, 0, 1, false)"
            ),
            [{"id": at, "name": "方达阀门" if at == 1 else "Nordwind"} for at in range(1, count + 1)],
        )
    migrations.upgrade(empty_url)
    with store.transaction() as transaction:
        admin = make_user(transaction, "Adam", role="admin")
    with store.reading() as session:
        assert places(search(Reader(session, admin), "阀门")) == [("account", 1)]
        assert len(session.scalars(select(Segment)).all()) == segments
    store.close()


def test_the_second_page_goes_on_where_the_first_ended(store: Store, find: Find) -> None:
    with store.transaction() as transaction:
        for number in range(25):
            make_account(transaction, name="Nordwind" if number % 3 else f"Nordwind {number}")
            make_lead(transaction, name="Nordwynd")
    whole = find("nordwind", limit=MOST_HITS)
    assert len(whole) == 50
    pages: list[Hit] = []
    while page := find("nordwind", limit=7, after=pages[-1].cursor if pages else None):
        pages += page
    assert pages == whole
    assert [hit.score for hit in whole] == sorted((hit.score for hit in whole), reverse=True)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": MOST_HITS + 1},
        {"after": "soon"},
        {"after": "1:wizard:3"},
        {"types": ["wizard"]},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(find: Find, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError):
        find("nordwind", **options)


@pytest.mark.parametrize("typed", ["", "   ", "--", "\x00", "'; DROP TABLE leads; --", "%", "_", "\ud800"])
def test_a_question_without_words_finds_nothing(store: Store, find: Find, typed: str) -> None:
    with store.transaction() as transaction:
        make_lead(transaction)
    assert find(typed) == []


def test_nobody_finds_what_they_may_not_see(store: Store) -> None:
    with store.transaction() as transaction:
        ana, ben = make_user(transaction, "Ana"), make_user(transaction, "Ben")
        mine = make_lead(transaction, name="Nordwind", owner_id=ana.id)
        theirs = make_lead(transaction, name="Nordwind", owner_id=ben.id)
        call = make_activity(transaction, lead_id=theirs.id, subject="Nordwind")
    with store.reading() as session:
        assert places(search(Reader(session, ana), "nordwind")) == [("lead", mine.id)]
        expected = [("lead", theirs.id), ("activity", call.id)]
        assert places(search(Reader(session, ben), "nordwind")) == expected


@pytest.mark.parametrize("record_type", sorted(set(MAKERS) - {"campaign_member", "payment"}))
def test_each_reader_finds_of_every_type_what_their_role_reaches(
    store: Store,
    company: Company,
    record_type: str,
) -> None:
    with store.transaction() as transaction:
        made = {name: MAKERS[record_type](transaction, desk) for name, desk in company.desks.items()}
        gone = MAKERS[record_type](transaction, company.desks["ana"])
        for record in (*made.values(), gone):
            transaction.update(record, {SEARCHED[record_type][0]: "Zephyr"})
        transaction.delete(gone)
    names = {record.id: name for name, record in made.items()}
    with store.reading() as session:
        for name, sees in SEES.items():
            hits = search(Reader(session, company.people[name]), "zephyr", types=[record_type])
            assert {names[hit.record_id] for hit in hits} == sees, name


def test_what_one_may_see_is_found_among_many_that_one_may_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_core.search.EXAMINED", 10)
    with store.transaction(source=Source.IMPORT) as transaction:
        ana, adam = make_user(transaction, "Ana"), make_user(transaction, "Adam", role="admin")
        mine = make_account(transaction, name="Nordwind", owner_id=ana.id)
        ids = transaction.create_many(Account, bulk_rows(store, ["Nordwind"] * 300))
        for record_id in ids[5:]:
            transaction.delete(transaction.get(Account, record_id))
    with store.reading() as session:
        assert places(search(Reader(session, ana), "nordwind")) == [("account", mine.id)]
        left = [("account", each) for each in [*ids[4::-1], mine.id]]
        assert places(search(Reader(session, adam), "nordwind")) == left


def test_a_hit_through_a_hidden_field_is_no_hit(store: Store) -> None:
    with store.transaction() as transaction:
        declare_custom(transaction, "deal", site="text")
        ana, adam = make_user(transaction, "Ana"), make_user(transaction, "Adam", role="admin")
        deal = make_deal(transaction, owner_id=ana.id, competitors=["Nordwind"], custom={"site": "Harbour"})
        for field in ("competitors", "custom.site"):
            transaction.session.add(
                FieldRight(role="rep", record_type="deal", field=field, read=False, write=False)
            )
    with store.reading() as session:
        for typed in ("nordwind", "harbour"):
            assert search(Reader(session, ana), typed) == []
            assert places(search(Reader(session, adam), typed)) == [("deal", deal.id)]
        assert places(search(Reader(session, ana), "twenty pumps")) == [("deal", deal.id)]


def test_forgetting_a_record_leaves_none_of_its_grams(store: Store, find: Find) -> None:
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(Account, bulk_rows(store, ["Nordwind"] * 300 + ["方达阀门"]))
    with store.transaction() as transaction:
        transaction.update(transaction.get(Account, ids[-1]), {"name": "远东"})
    with store.transaction() as transaction:
        search_index.forget(transaction.session, Account, [ids[-1], ids[0]])
    with store.reading() as session:
        (segment,) = session.scalars(select(Segment))
        held = [unpack(each.places, segment.size) for each in session.scalars(select(Posting))]
        assert len(held) == len([" n", "no", "or", "rd", "dw", "wi", "in", "nd", "d "])
        assert not any(flags[0] or flags[-1] for flags in held)
        assert all(flags[1:-1].all() for flags in held)
        assert session.scalars(select(Fresh).where(Fresh.record_type == "account")).all() == []
    assert len(find("nordwind", limit=MOST_HITS)) == MOST_HITS


def test_a_record_being_edited_is_not_folded_with_its_old_text(
    postgres_database: str, clock: FixedClock
) -> None:
    store = Store(postgres_database, clock=clock)
    with store.transaction() as transaction:
        adam = make_user(transaction, "Adam", role="admin")
        one, two = make_account(transaction, name="Nordwind"), make_account(transaction, name="Hill")
    edited, folded = threading.Event(), threading.Event()

    def edit() -> None:
        with store.transaction() as transaction:
            transaction.update(transaction.get(Account, one.id), {"name": "Suedwind"})
            transaction.index.flush()
            edited.set()
            folded.wait(10)

    writer = threading.Thread(target=edit)
    writer.start()
    assert edited.wait(10)
    with store.transaction() as transaction:
        assert search_index.fold(transaction.session, Account) == 1
    folded.set()
    writer.join()
    with store.reading() as session:
        reader = Reader(session, adam)
        assert places(search(reader, "suedwind")) == [("account", one.id)]
        assert places(search(reader, "hill")) == [("account", two.id)]
        assert search(reader, "nordwind") == []
    store.close()


LETTERS = st.sampled_from("abcdeéßÄ 12-方达阀门公司,")
TEXTS = st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def in_memory() -> Iterator[Store]:
    """A store whose transactions the examples undo."""
    store = Store("sqlite://")
    with store.engine.begin() as connection:
        Account.metadata.create_all(connection)
    yield store
    store.close()


@settings(max_examples=50, deadline=None)
@given(names=TEXTS, typed=st.text(LETTERS, max_size=8))
def test_one_by_one_or_many_at_once_the_same_is_found(in_memory: Store, names: list[str], typed: str) -> None:
    with in_memory.transaction(source=Source.IMPORT) as transaction:
        reader = Reader(transaction.session, make_user(transaction, "Adam", role="admin"))
        single = [make_team(transaction, name=name).id for name in names]
        many = transaction.create_many(Account, bulk_rows(in_memory, names + ["Nordwind"] * 300))
        transaction.index.flush()
        for query in (typed, *names):
            one = search(reader, query, types=["team"], limit=MOST_HITS)
            two = search(reader, query, types=["account"], limit=MOST_HITS)
            assert [(hit.score, single.index(hit.record_id)) for hit in one] == [
                (hit.score, many.index(hit.record_id)) for hit in two
            ]
        for name, record_id in zip(names, single, strict=True):
            hits = search(reader, name, types=["team"], limit=MOST_HITS)
            assert (record_id in {hit.record_id for hit in hits if hit.score == 1}) == bool(fold(name))
        transaction.session.rollback()


IDEOGRAPHS = st.text(st.sampled_from("方达阀门有限公司张晓明"), min_size=2, max_size=8)


@settings(max_examples=50, deadline=None)
@given(text=IDEOGRAPHS, start=st.integers(0, 6), length=st.integers(1, 8))
def test_every_stretch_of_a_chinese_text_finds_it(
    in_memory: Store, text: str, start: int, length: int
) -> None:
    typed = text[start : start + length] or text
    with in_memory.transaction() as transaction:
        reader = Reader(transaction.session, make_user(transaction, "Adam", role="admin"))
        lead = make_lead(transaction, name=None, company=f"上海{text}有限")
        call = make_activity(transaction, lead_id=lead.id, body=f"客户{text}。")
        transaction.index.flush()
        assert set(places(search(reader, typed))) == {("lead", lead.id), ("activity", call.id)}
        transaction.session.rollback()


@given(texts=st.lists(st.text(max_size=20), max_size=6))
def test_texts_are_folded_together_as_they_are_alone(texts: list[str]) -> None:
    assert fold_many(texts) == [fold(each) for each in texts]
    assert fold_many(fold_many(texts)) == fold_many(texts)


@given(texts=st.lists(st.text(LETTERS, max_size=20), min_size=1, max_size=6), width=st.sampled_from([2, 3]))
def test_grams_of_many_texts_are_those_of_each(texts: list[str], width: int) -> None:
    grams, owners = grams_of(texts, np.arange(len(texts)), width)
    alone = [grams_of([each], np.zeros(1, dtype=np.int64), width)[0].tolist() for each in texts]
    assert [grams[owners == at].tolist() for at in range(len(texts))] == alone


def test_the_grams_of_a_word() -> None:
    def pairs(text: str) -> set[str]:
        grams, _ = grams_of([text], np.zeros(1, dtype=np.int64), 2)
        return {chr(gram >> 18) + chr(gram & 0x3FFFF) for gram in grams.tolist()}

    assert pairs("Wang") == {" w", "wa", "an", "ng", "g "}
    assert pairs("方达 A") == {"方达", "达 ", " a", "a "}


@given(places=st.sets(st.integers(0, 99)), size=st.integers(100, 3_000))
def test_places_are_packed_without_loss(places: set[int], size: int) -> None:
    packed = pack(np.array(sorted(places), dtype=np.int64), size)
    assert set(np.flatnonzero(unpack(packed, size)).tolist()) == places
    assert len(packed) <= min(2 * len(places) or 1, (size + 7) // 8) or len(packed) == (size + 7) // 8
