"""What is held about a person can be seen, and forgotten; nobody is scored who asked not to be."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import zipfile
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from crm_core.access import FieldRight, Reader
from crm_core.changes import Action, Change, Source, newest_sequence
from crm_core.clock import FixedClock
from crm_core.errors import AccessDeniedError, InvalidValueError, RecordNotFoundError, StoreBusyError
from crm_core.history import state_as_of
from crm_core.leads import convert_lead
from crm_core.merging import merge_records
from crm_core.personal import (
    ERASED,
    Erasure,
    Identifiers,
    erase_person,
    export_person,
    find_person,
    list_places_with,
    may_be_scored,
    purge,
    set_scoring_opt_out,
)
from crm_core.personal.scrubbing import Scrubber
from crm_core.predictions import NewPrediction, Prediction, list_predictions, write_predictions
from crm_core.records import (
    Account,
    Activity,
    Attachment,
    Comment,
    Contact,
    Deal,
    Lead,
    Record,
    Tag,
    User,
)
from crm_core.search import search
from crm_core.search_index import Posting, Segment, unpack
from crm_core.store import Store, Transaction
from crm_core.validation import columns_of
from tests.conftest import MONDAY, so_many
from tests.factories import (
    declare_custom,
    make_account,
    make_activity,
    make_contact,
    make_deal,
    make_lead,
    make_ticket,
    make_user,
)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What somebody in a test is told by."""

    name: str
    mail: str
    phone: str

    @property
    def needles(self) -> list[str]:
        return [self.name, self.mail, self.phone]


WANG = Told(name="Wang Fang", mail="wang.fang@fangda.example", phone="+86 138 0013 8000")


def erase(store: Store, **who: Any) -> Erasure:
    with store.transaction(source=Source.REP) as transaction:
        return erase_person(transaction, **who)


def text_of(session: Any, model: type[Record], record_id: int, *names: str) -> list[Any]:
    record = session.get_one(model, record_id)
    return [getattr(record, name) for name in names]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A person who became a customer, and what was written down on the way."""

    admin: User
    lead: int
    contact: int
    account: int
    deal: int
    activity: int
    comment: int
    ticket: int
    file: int
    elsewhere: int


@pytest.fixture
def case(store: Store, clock: FixedClock) -> Case:
    with store.transaction() as transaction:
        declare_custom(transaction, "lead", wechat="text")
        admin = make_user(transaction, "Mara", role="admin")
        lead = make_lead(
            transaction, name="W. Fang", email="old@fangda.example", phone=None, company="Fangda Valves"
        )
    clock.advance(timedelta(hours=1))
    with store.transaction(actor_id=admin.id) as transaction:
        lead = transaction.get(Lead, lead.id)
        transaction.update(
            lead, {"name": WANG.name, "email": WANG.mail, "phone": WANG.phone, "custom.wechat": "wf"}
        )
        reasons = [
            {"group": "who", "feature": "source", "value": WANG.name, "log_odds": 1.0, "en": "x", "zh": "y"}
        ]
        new = NewPrediction(record_id=lead.id, probability=0.5, score=50, grade="B", reasons=reasons)
        write_predictions(
            transaction,
            task="lead_scoring",
            record_type="lead",
            as_of=transaction.now,
            model_version="v1",
            horizon_days=90,
            predictions=[new],
        )
        call = make_activity(
            transaction, lead_id=lead.id, subject="Call", body="Wang Fang wants twenty pumps"
        )
        deal = Deal(name="Pumps for Wang Fang", stage="first_contact")
        made = convert_lead(transaction, lead, deal=deal)
        assert made.contact is not None
        transaction.update(made.account, {"website": "fangda.example"})
        say = Comment(
            body="Ms Wang asked: call WANG FANG at 138-0013-8000",
            subject_type="account",
            subject_id=made.account.id,
        )
        comment = transaction.create(say)
        transaction.update(comment, {"body": f"{say.body} or write to {WANG.mail}, says Ana Berg"})
        ticket = make_ticket(
            transaction,
            account_id=made.account.id,
            contact_id=made.contact.id,
            subject="Pump of Fang, Wang leaks",
        )
        file = transaction.create(
            Attachment(
                name="cv.pdf",
                uri="https://files.example/cv.pdf",
                subject_type="contact",
                subject_id=made.contact.id,
            )
        )
        other = make_account(transaction, name="Nordwind")
        elsewhere = make_activity(
            transaction,
            account_id=other.id,
            body="Recommended by wang fang (8613800138000), a fang of a deal",
        )
    return Case(
        admin=admin,
        lead=lead.id,
        contact=made.contact.id,
        account=made.account.id,
        deal=deal.id,
        activity=call.id,
        comment=comment.id,
        ticket=ticket.id,
        file=file.id,
        elsewhere=elsewhere.id,
    )


def test_a_person_is_found_with_all_records_that_stand_for_them(store: Store, case: Case) -> None:
    with store.transaction() as transaction:
        copy = make_lead(transaction, name="Fang Wang", email="WANG.FANG@fangda.example", phone=None)
        keep = make_lead(transaction, name="Fang Wang", email=None)
        merge_records(transaction, keep, copy)
        make_lead(transaction, name="Wang Fang", email="wang@elsewhere.example")
    with store.reading() as session:
        for who in (
            {"record": ("lead", keep.id)},
            {"record": ("contact", case.contact)},
            {"mail": f" {WANG.mail.upper()}"},
        ):
            person = find_person(session, **who)
            assert person.leads == tuple(sorted((case.lead, copy.id, keep.id)))
            assert person.contacts == (case.contact,)
            assert {"W. Fang", "Wang Fang", "Fang Wang"} == person.identifiers.names
            assert {WANG.mail, "old@fangda.example"} <= person.identifiers.mails
            assert person.identifiers.phones == {WANG.phone}


def test_a_shared_mailbox_and_a_name_that_differs_make_nobody_the_same(store: Store) -> None:
    with store.transaction() as transaction:
        one = make_lead(transaction, name="Li Wei", email="info@nordwind.example")
        make_lead(transaction, name="Li Wei", email="info@nordwind.example")
        two = make_lead(transaction, name="Ruth Victor", email="office.ruth@nordwind.example")
        make_lead(transaction, name="Oscar Berg", email="office.ruth@nordwind.example")
    with store.reading() as session:
        assert find_person(session, record=("lead", one.id)).leads == (one.id,)
        assert find_person(session, record=("lead", two.id)).leads == (two.id,)


def test_nobody_is_found_where_nobody_is(store: Store) -> None:
    with store.reading() as session:
        with pytest.raises(RecordNotFoundError):
            find_person(session, record=("lead", 7))
        with pytest.raises(InvalidValueError):
            find_person(session, record=("deal", 7))
        with pytest.raises(InvalidValueError):
            find_person(session, mail="nobody")
        person = find_person(session, mail="nobody@nowhere.example")
        assert (person.records(), person.identifiers.all()) == ([], ["nobody@nowhere.example"])


def test_an_export_holds_everything_and_is_json(store: Store, case: Case) -> None:
    with store.reading() as session:
        export = export_person(Reader(session, case.admin), mail=WANG.mail)
    assert json.loads(json.dumps(export)) == export
    assert export["person"]["names"] == ["W. Fang", "Wang Fang"]
    records = {(each["record_type"], each["id"]): each["fields"] for each in export["records"]}
    assert set(records) == {("lead", case.lead), ("contact", case.contact)}
    assert records["lead", case.lead]["custom"] == {"wechat": "wf"}
    held = {(each["record_type"], each["id"]) for each in export["belongings"]}
    assert held == {("activity", case.activity), ("attachment", case.file)}
    related = {(each["record_type"], each["name"]) for each in export["related"]}
    assert related == {
        ("account", "Fangda Valves"),
        ("deal", "Pumps for Wang Fang"),
        ("ticket", "Pump of Fang, Wang leaks"),
    }
    assert ("email", "old@fangda.example", WANG.mail) in [
        (each["field"], each["old"], each["new"]) for each in export["changes"]
    ]
    assert [each["probability"] for each in export["predictions"]] == [0.5]
    mentioned = {(each["record_type"], each["id"], each["field"]) for each in export["mentions"]}
    assert mentioned == {
        ("comment", case.comment, "body"),
        ("activity", case.elsewhere, "body"),
        ("deal", case.deal, "name"),
        ("ticket", case.ticket, "subject"),
        ("account", case.account, "phone"),
    }


def test_only_an_administrator_exports_and_a_hidden_field_is_named(store: Store, case: Case) -> None:
    with store.transaction() as transaction:
        dana = make_user(transaction, "Dana", role="analyst")
        hidden = FieldRight(role="admin", record_type="lead", field="phone", read=False, write=False)
        transaction.session.add(hidden)
    with store.reading() as session:
        with pytest.raises(AccessDeniedError, match="analyst"):
            export_person(Reader(session, dana), record=("lead", case.lead))
        export = export_person(Reader(session, case.admin), record=("lead", case.lead))
    lead = export["records"][0]
    assert "phone" not in lead["fields"]
    assert "phone" in lead["withheld"]
    assert {each["new"] for each in export["changes"] if each["field"] == "phone"} == {None}


def test_an_erased_person_is_nowhere_in_the_store(store: Store, case: Case) -> None:
    done = erase(store, record=("contact", case.contact))
    assert set(done.records) == {("lead", case.lead), ("contact", case.contact)}
    assert (done.emptied, done.files, done.predictions, done.kept) == (2, 1, 1, ())
    with store.reading() as session:
        assert text_of(session, Lead, case.lead, "name", "email", "phone", "custom", "reasons") == [None] * 5
        assert text_of(session, Lead, case.lead, "company") == ["Fangda Valves"]
        assert text_of(session, Contact, case.contact, "name", "email", "phone") == [ERASED, None, None]
        assert text_of(session, Activity, case.activity, "subject", "body") == [None, None]
        assert text_of(session, Attachment, case.file, "name", "uri") == [ERASED, ERASED]
        assert text_of(session, Account, case.account, "name", "phone") == ["Fangda Valves", None]
        assert text_of(session, Deal, case.deal, "name") == [f"Pumps for {ERASED}"]
        (body,) = text_of(session, Comment, case.comment, "body")
        assert body == f"Ms {ERASED} asked: call {ERASED} at {ERASED} or write to {ERASED}, says Ana Berg"
        (body,) = text_of(session, Activity, case.elsewhere, "body")
        assert body == f"Recommended by {ERASED} ({ERASED}), a fang of a deal"
        (prediction,) = list_predictions(session, "lead", case.lead)
        assert (prediction.probability, prediction.reasons) == (0.5, None)
        said = [side for row in session.scalars(select(Change)) for side in (row.old, row.new)]
        assert not any(
            "ang" in str(side).replace("ang of", "").replace("Fangda", "").replace("fangda", "")
            for side in said
        )


def test_erasing_leaves_who_and_when_and_nothing_else(store: Store, case: Case, clock: FixedClock) -> None:
    clock.advance(timedelta(days=1))
    with store.transaction(actor_id=case.admin.id) as transaction:
        erase_person(transaction, record=("lead", case.lead))
    with store.reading() as session:
        rows = session.scalars(select(Change).where(Change.action == Action.ERASED)).all()
        assert {(row.record_type, row.record_id) for row in rows} >= {
            ("lead", case.lead),
            ("contact", case.contact),
            ("comment", case.comment),
        }
        assert {(row.actor_id, row.recorded_at, row.field, row.old, row.new) for row in rows} == {
            (case.admin.id, clock.now(), None, None, None)
        }
        lead = session.get_one(Lead, case.lead)
        assert (lead.erased_at, lead.deleted_at, lead.scoring_opt_out) == (clock.now(), clock.now(), True)


def test_erasing_again_changes_nothing(store: Store, case: Case) -> None:
    erase(store, record=("lead", case.lead))
    with store.reading() as session:
        before = newest_sequence(session)
    for who in ({"record": ("lead", case.lead)}, {"record": ("contact", case.contact)}, {"mail": WANG.mail}):
        again = erase(store, **who)
        assert replace(again, records=()) == Erasure()
    with store.reading() as session:
        assert newest_sequence(session) == before


def test_what_was_known_then_stays_known_but_for_the_person(
    store: Store, case: Case, clock: FixedClock
) -> None:
    erase(store, record=("lead", case.lead))
    with store.reading() as session:
        state = state_as_of(session, Lead, case.lead, MONDAY)
    assert state is not None
    assert (state["name"], state["email"], state["status"], state["company"]) == (
        None,
        None,
        "open",
        "Fangda Valves",
    )


def test_an_erased_person_is_not_found_and_leaves_no_grams(store: Store, case: Case) -> None:
    rows = [{"name": f"Wang Fang {at}", "occurred_at": store.clock.now()} for at in range(2)]
    rows += [{"name": "Nordwind", "occurred_at": store.clock.now()} for _ in range(300)]
    with store.transaction(source=Source.IMPORT) as transaction:
        ids = transaction.create_many(
            Lead, [{**row, "email": f"lead{at}@a.example"} for at, row in enumerate(rows)]
        )
    erase(store, record=("lead", ids[0]))
    erase(store, mail=WANG.mail)
    with store.reading() as session:
        hits = search(Reader(session, case.admin), "wang fang")
        assert [hit.record_id for hit in hits if hit.score > 0.9] == [ids[1]]
        (segment,) = session.scalars(select(Segment))
        held = [unpack(row.places, segment.size) for row in session.scalars(select(Posting))]
        assert not any(flags[0] for flags in held)
        assert any(flags[1] for flags in held)


def test_a_name_that_others_have_goes_only_where_it_is_theirs(store: Store) -> None:
    with store.transaction() as transaction:
        one = make_account(transaction, name="Nordwind")
        two = make_account(transaction, name="Suedwind")
        gone = make_contact(transaction, name="Li Wei", email="li@nordwind.example", account_id=one.id)
        stays = make_contact(transaction, name="Li Wei", email="wei@suedwind.example", account_id=two.id)
        here = transaction.create(
            Comment(body="Li Wei, Mr Li, 李总", subject_type="account", subject_id=one.id)
        )
        there = transaction.create(Comment(body="Li Wei and Li", subject_type="account", subject_id=two.id))
        erase_person(transaction, record=("contact", gone.id))
    with store.reading() as session:
        assert text_of(session, Comment, here.id, "body") == [f"{ERASED}, Mr Li, 李总"]
        assert text_of(session, Comment, there.id, "body") == ["Li Wei and Li"]
        assert text_of(session, Contact, stays.id, "name", "email") == ["Li Wei", "wei@suedwind.example"]


def test_what_is_a_colleagues_too_stays_and_is_reported(store: Store) -> None:
    desk = "+49 30 5551234"
    with store.transaction() as transaction:
        account = make_account(transaction, name="Nordwind", phone=desk)
        gone = make_contact(
            transaction, name="Ruth Keller", email="info@nordwind.example", phone=desk, account_id=account.id
        )
        stays = make_contact(
            transaction,
            name="Maria Keller",
            email="info@nordwind.example",
            phone="+49-30-555 1234",
            account_id=account.id,
        )
        note = transaction.create(
            Comment(body="Keller called, Ruth was out", subject_type="account", subject_id=account.id)
        )
        done = erase_person(transaction, record=("contact", gone.id))
    kept = {(each.record_type, each.record_id, each.field) for each in done.kept}
    assert kept == {
        ("contact", stays.id, "email"),
        ("contact", stays.id, "phone"),
        ("account", account.id, "phone"),
    }
    with store.reading() as session:
        assert text_of(session, Contact, stays.id, "name", "email") == [
            "Maria Keller",
            "info@nordwind.example",
        ]
        assert text_of(session, Comment, note.id, "body") == [f"Keller called, {ERASED} was out"]


def test_a_mail_address_without_a_record_is_taken_out_of_texts(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction, name="Li Wei")
        note = make_activity(transaction, lead_id=lead.id, body="Copy to Ruth@Keller.example, please")
    done = erase(store, mail="ruth@keller.example")
    assert (done.records, done.scrubbed) == ((), 1)
    with store.reading() as session:
        assert text_of(session, Activity, note.id, "body") == [f"Copy to {ERASED}, please"]


def test_an_erased_lead_is_not_brought_back_by_its_key(store: Store) -> None:
    with store.transaction() as transaction:
        plain = make_lead(transaction, external_id="00Q7", name="Ruth Keller")
        telling = make_lead(
            transaction, external_id="ruth@keller.example", name=None, email="ruth@keller.example"
        )
    erase(store, record=("lead", plain.id))
    erase(store, record=("lead", telling.id))
    with store.reading() as session:
        assert text_of(session, Lead, plain.id, "external_id") == ["00Q7"]
        assert text_of(session, Lead, telling.id, "external_id") == [None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wang Fang called", f"{ERASED} called"),
        ("FANG, WANG called", f"{ERASED} called"),
        ("Wang  Fang's desk", f"{ERASED}'s desk"),
        ("Ｗａｎｇ Ｆａｎｇ called", ERASED),
        ("Wang Fangs and Swang Fang", "Wang Fangs and Swang Fang"),
        ("<wang.fang@fangda.example>", f"<{ERASED}>"),
        ("xwang.fang@fangda.example", "xwang.fang@fangda.example"),
        ("138 0013 8000 or 0086-138-0013-8000", f"{ERASED} or {ERASED}"),
        ("(+86)13800138000.", f"{ERASED}."),
        ("order 138001380001", "order 138001380001"),
        ("Wang", "Wang"),
        ("", ""),
    ],
)
def test_a_person_is_taken_out_of_any_text(text: str, expected: str) -> None:
    told = Identifiers(
        names=frozenset({WANG.name}), mails=frozenset({WANG.mail}), phones=frozenset({WANG.phone})
    )
    assert Scrubber(everywhere=told).scrub(text) == expected
    assert Scrubber(everywhere=told).scrub(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("王芳要二十台泵", f"{ERASED}要二十台泵"),
        ("王 芳", ERASED),
        ("王总和小王", f"{ERASED}和{ERASED}"),
        ("张总", "张总"),
        ("芳香", "芳香"),
        ("Grace and her grace", f"{ERASED} and her grace"),
    ],
)
def test_near_a_person_a_part_of_the_name_tells_enough(text: str, expected: str) -> None:
    told = Identifiers(names=frozenset({"王芳"}))
    scrubber = Scrubber(everywhere=told, words_nearby=frozenset({"王芳", "Grace"}))
    assert scrubber.scrub(text, near=True) == expected


@given(before=st.text(max_size=10), after=st.text(max_size=10))
def test_whatever_stands_around_it_no_address_is_left(before: str, after: str) -> None:
    told = Identifiers(mails=frozenset({WANG.mail}), phones=frozenset({WANG.phone}))
    scrubber = Scrubber(everywhere=told)
    assert "wang.fang@fangda" not in scrubber.scrub(f"{before} {WANG.mail} {after}")
    assert "0013 8000" not in scrubber.scrub(f"{before} {WANG.phone} {after}")


def test_an_opt_out_covers_what_is_about_the_person_or_the_company(store: Store) -> None:
    with store.transaction() as transaction:
        out, free = (make_account(transaction, scoring_opt_out=each) for each in (True, False))
        person = make_contact(transaction, account_id=free.id, scoring_opt_out=True)
        leads = {
            "own": make_lead(transaction, scoring_opt_out=True),
            "account": make_lead(transaction, account_id=out.id),
            "contact": make_lead(transaction, contact_id=person.id),
            "free": make_lead(transaction, account_id=free.id),
            "alone": make_lead(transaction),
        }
        deals = {
            "account": make_deal(transaction, account_id=out.id),
            "contact": make_deal(transaction, account_id=free.id, contact_id=person.id),
            "free": make_deal(transaction, account_id=free.id),
            "alone": make_deal(transaction),
        }
    with store.reading() as session:
        assert set(session.scalars(select(Account.id).where(may_be_scored(Account)))) == {free.id}
        asked = set(session.scalars(select(Lead.id).where(may_be_scored(Lead))))
        assert asked == {leads["free"].id, leads["alone"].id}
        asked = set(session.scalars(select(Deal.id).where(may_be_scored(Deal))))
        assert asked == {deals["free"].id, deals["alone"].id}


def score(transaction: Transaction, record_type: str, *ids: int) -> int:
    return write_predictions(
        transaction,
        task=record_type,
        record_type=record_type,
        as_of=transaction.now,
        model_version="v1",
        horizon_days=90,
        predictions=[
            NewPrediction(record_id=each, probability=0.5, score=50, grade="B", reasons=[]) for each in ids
        ],
    )


def test_no_prediction_about_somebody_who_opted_out_is_stored(store: Store) -> None:
    with store.transaction() as transaction:
        out, free = make_lead(transaction, scoring_opt_out=True), make_lead(transaction)
        assert score(transaction, "lead", out.id, free.id) == 1
    with store.reading() as session:
        assert [row.record_id for row in session.scalars(select(Prediction))] == [free.id]


def test_opting_out_takes_the_score_off_the_record_and_its_deals(store: Store, clock: FixedClock) -> None:
    with store.transaction() as transaction:
        account = make_account(transaction)
        deal, other = make_deal(transaction, account_id=account.id), make_deal(transaction)
        score(transaction, "account", account.id)
        score(transaction, "deal", deal.id, other.id)
    with store.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Account, account.id), opted_out=True)
    with store.reading() as session:
        assert text_of(session, Account, account.id, "probability", "grade", "scored_at") == [None] * 3
        assert text_of(session, Deal, deal.id, "probability") == [None]
        assert text_of(session, Deal, other.id, "probability") == [0.5]
        assert len(list_predictions(session, "deal", deal.id)) == 1
        assert state_as_of(session, Account, account.id, clock.now())["scoring_opt_out"] is True  # type: ignore[index]  # it is there


def test_a_merge_keeps_what_the_person_asked_for(store: Store) -> None:
    with store.transaction() as transaction:
        keep = make_lead(transaction, consent="granted", consent_at=MONDAY - timedelta(days=9))
        gone = make_lead(transaction, consent="withdrawn", consent_at=MONDAY, scoring_opt_out=True)
        merge_records(transaction, keep, gone)
        assert (keep.consent, keep.consent_at, keep.scoring_opt_out) == ("withdrawn", MONDAY, True)


SURNAMES = "王李张刘陈杨黄赵周吴徐孙胡朱高林何郭马罗"
FIRST = ("Emma", "Liam", "Olivia", "Noah", "Sofia", "Lucas", "Oscar", "Clara", "Hugo", "Felix")
LAST = ("Keller", "Novak", "Rossi", "Dubois", "Jensen", "Moreau", "Larsen", "Wagner", "Costa", "Lopez")


def people(count: int) -> list[Told]:
    """Return people whose names, mails and telephone numbers are all different."""
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    names += [f"{surname}{given}" for surname in SURNAMES for given in ("晓明", "子涵", "思远", "雨桐")]
    random.Random(3).shuffle(names)
    return [
        Told(name=name, mail=f"person{at:03d}@mail{at:03d}.example", phone=f"+86 139 {at:04d} 7{at:03d}")
        for at, name in enumerate(names[:count])
    ]


def live(store: Store, everybody: list[Told], clock: FixedClock) -> dict[str, int]:
    """Have everybody become a customer, with calls, comments and corrections; return their leads by name."""
    found = {}
    dice = random.Random(5)
    for at, told in enumerate(everybody):
        with store.transaction() as transaction:
            lead = make_lead(
                transaction, name=f"{told.name}?", email=None, phone=told.phone, company=f"Company {at}"
            )
            transaction.update(lead, {"name": told.name, "email": told.mail})
            make_activity(
                transaction, lead_id=lead.id, subject=f"Call {told.name}", body=f"{told.mail} {told.phone}"
            )
            other = everybody[dice.randrange(len(everybody))]
            deal = Deal(name=f"Deal with {told.name}", stage="first_contact") if at % 2 else None
            made = convert_lead(transaction, lead, deal=deal) if at % 3 else None
            if made and made.contact:
                transaction.update(made.contact, {"birthday": date(1980, 1, 1 + at % 28), "title": "Boss"})
                body = f"{told.name} ({told.phone.replace(' ', '-')}) knows {other.name}, {other.mail}"
                transaction.create(Comment(body=body, subject_type="account", subject_id=made.account.id))
            transaction.create(Tag(word=told.name, subject_type="lead", subject_id=lead.id))
            score(transaction, "lead", lead.id)
            found[told.name] = lead.id
        clock.advance(timedelta(minutes=1))
    return found


def test_of_many_erased_people_nothing_is_left_in_the_store(store: Store, clock: FixedClock) -> None:
    erased = 50 if store.engine.dialect.name == "sqlite" else so_many(50, 12)
    everybody = people(erased + 30)
    leads = live(store, everybody, clock)
    gone, stay = everybody[:erased], everybody[erased:]
    with store.transaction() as transaction:
        for told in gone:
            erase_person(transaction, record=("lead", leads[told.name]))
    needles = [needle for told in gone for needle in told.needles]
    held = everything(store)
    assert [needle for needle in needles if needle in held] == []
    assert [needle for told in stay for needle in told.needles if needle not in held] == []
    with store.transaction() as transaction:
        admin = make_user(transaction, "Adam", role="admin")
    with store.reading() as session:
        reader = Reader(session, admin)
        assert [needle for needle in needles if any(hit.score > 0.9 for hit in search(reader, needle))] == []
        assert all(search(reader, needle) for told in stay for needle in told.needles)


def everything(store: Store) -> str:
    """Return every text in every table."""
    with store.engine.connect() as connection:
        tables = [table for table in Lead.metadata.sorted_tables if not table.name.startswith("search_")]
        rows = [row for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table.name}")]
    return "\n".join(str(cell) for row in rows for cell in row if isinstance(cell, str))


@pytest.fixture
def sqlite_store(home: Path, empty_database: Path, clock: FixedClock) -> Store:
    """A store in the home folder."""
    (home / "crm.db").write_bytes(empty_database.read_bytes())
    return Store(f"sqlite:///{home / 'crm.db'}", clock=clock)


def test_of_many_erased_people_not_a_byte_is_left_in_the_home_folder(
    sqlite_store: Store, home: Path, clock: FixedClock
) -> None:
    erased = so_many(50, 15)
    everybody = people(erased + 10)
    leads = live(sqlite_store, everybody, clock)
    gone, stay = everybody[:erased], everybody[erased:]
    needles = [needle for told in gone for needle in told.needles]
    assert {place.needle for place in list_places_with(home, needles)} == set(needles)
    with sqlite_store.transaction() as transaction:
        for told in gone:
            erase_person(transaction, record=("lead", leads[told.name]))
    purge(sqlite_store)
    assert list_places_with(home, needles) == []
    kept = [needle for told in stay for needle in told.needles]
    assert {place.needle for place in list_places_with(home, kept)} == set(kept)
    with sqlite_store.reading() as session:
        assert session.scalars(select(Lead.id)).all()
    sqlite_store.close()


def test_without_a_purge_old_bytes_are_left(sqlite_store: Store, home: Path, clock: FixedClock) -> None:
    told = people(1)[0]
    leads = live(sqlite_store, [told], clock)
    with sqlite_store.transaction() as transaction:
        erase_person(transaction, record=("lead", leads[told.name]))
    assert list_places_with(home, told.needles) != []
    sqlite_store.close()


def test_a_purge_waits_for_nobody_for_ever(sqlite_store: Store) -> None:
    with sqlite_store.reading() as session:
        session.scalars(select(Lead)).all()
        with pytest.raises(StoreBusyError):
            purge(sqlite_store, wait_seconds=0.1)
    purge(sqlite_store)
    sqlite_store.close()


def test_everything_stays_usable_after_a_purge(store: Store) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
    purge(store)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, lead.id), {"name": "Li Wei"})
    with store.reading() as session:
        assert text_of(session, Lead, lead.id, "name") == ["Li Wei"]


def test_a_purge_gives_its_connection_back_as_it_was(sqlite_store: Store) -> None:
    def settings() -> tuple[Any, ...]:
        borrowed = sqlite_store.engine.raw_connection()
        raw = borrowed.driver_connection
        assert raw is not None
        pragmas = ("busy_timeout", "temp_store", "foreign_keys", "secure_delete")
        found = tuple(raw.execute(f"PRAGMA {name}").fetchone() for name in pragmas)
        borrowed.close()
        return (raw.isolation_level, *found)

    before = settings()
    purge(sqlite_store, wait_seconds=1)
    assert settings() == before
    assert before == (None, (30_000,), (2,), (1,), (1,))
    sqlite_store.close()


def test_a_needle_is_found_wherever_a_file_hides_it(home: Path) -> None:
    name, mail = "王晓明", "wang@fangda.example"
    (home / "logs").mkdir()
    (home / "logs" / "crm.log").write_text(f"x {mail.upper()} y")
    (home / "model.json").write_text(json.dumps({"level": name}))
    (home / "wide.txt").write_bytes(name.encode("utf-16"))
    (home / "old.log.1.gz").write_bytes(gzip.compress(f"{name} {mail}".encode()))
    with zipfile.ZipFile(home / "backup.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inside.txt", name * 3)
    table = pa.table({"id": [1], "who": pa.array([name]).dictionary_encode()})
    pq.write_table(table, home / "truth.parquet", compression="zstd")
    database = sqlite3.connect(home / "mlflow.db")
    database.execute("CREATE TABLE tags (value TEXT)")
    database.execute("INSERT INTO tags VALUES (?)", ("x" * 5_000 + " Wang @ Fangda Example " + "y" * 5_000,))
    database.commit()
    database.close()
    (home / "clean.txt").write_text("wangs@fangda.example")
    places = {(place.path, place.where, place.needle) for place in list_places_with(home, [name, mail, " "])}
    assert places == {
        ("backup.zip", "inside.txt", name),
        ("logs/crm.log", "bytes", mail),
        ("mlflow.db", "tags.value", mail),
        ("model.json", "bytes", name),
        ("old.log.1.gz", "gzip", mail),
        ("old.log.1.gz", "gzip", name),
        ("truth.parquet", "bytes", name),
        ("truth.parquet", "who", name),
        ("wide.txt", "bytes", name),
    }


def test_every_column_that_may_hold_text_is_known_to_the_eraser() -> None:
    """A new text column of a person must be emptied, or be in the list of what says nothing about them."""
    from crm_core.personal.erasing import EMPTIED
    from crm_core.personal.scope import text_columns

    says_nothing = {
        "lead": {"company", "source", "campaign", "territory", "industry", "region", "disqualified_reason"},
        "contact": set[str](),
        "activity": {"outcome"},
        "comment": set[str](),
        "attachment": set[str](),
        "tag": set[str](),
        "campaign_member": set[str](),
    }
    for record_type, allowed in says_nothing.items():
        assert set(text_columns(record_type)) - EMPTIED[record_type].keys() == allowed
    assert "birthday" in columns_of(Contact)
    assert "birthday" in EMPTIED["contact"]
