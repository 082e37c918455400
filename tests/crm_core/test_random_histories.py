"""Whatever was done to records, what was known of them at any instant is what a slow replay says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crm_core.bulk import Update, read_state
from crm_core.changes import Source
from crm_core.clock import SECOND, FixedClock, day_number, instant, micros
from crm_core.deals import close_deal, move_deal
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.handover import hand_over
from crm_core.history import states_as_of, values_as_of
from crm_core.leads import convert_lead
from crm_core.merging import merge_records
from crm_core.records import Account, Contact, Deal, Lead, Record, User
from crm_core.store import Store, Transaction
from tests.conftest import MONDAY, so_many
from tests.crm_core.naive_history import Key, Naive, NaiveStore

MODELS: dict[str, type[Record]] = {"lead": Lead, "account": Account, "deal": Deal, "contact": Contact}

SPRING, SUMMER = date(2026, 5, 1), date(2026, 8, 1)

VALUES: dict[str, list[Any]] = {
    "region": [None, "North", "South"],
    "employees": [None, 5, 90],
    "custom.tier": [None, "gold", "silver"],
    "amount": [None, Decimal("1.5"), Decimal(700)],
    "expected_close_on": [None, SPRING, SUMMER],
    "rep_probability": [None, 0.25, 0.5],
}
"""What plain fields are set to; links are set to records of the history."""

FIELDS = {
    "lead": ["region", "employees", "custom.tier", "owner_id"],
    "account": ["region", "employees", "custom.tier", "owner_id", "parent_id"],
    "deal": ["amount", "expected_close_on", "rep_probability", "owner_id", "account_id"],
    "contact": ["custom.tier", "owner_id", "account_id"],
}
LINKS: dict[str, dict[str, list[str]]] = {
    "account": {
        "deal": ["account_id"],
        "lead": ["account_id"],
        "contact": ["account_id"],
        "account": ["parent_id"],
    },
    "contact": {"deal": ["contact_id"], "lead": ["contact_id"]},
    "lead": {},
}
SMALL = st.integers(0, 3)


@dataclass(frozen=True)
class Step:
    """One thing that is done, if it can be; numbers choose among what there is."""

    what: str
    which: int
    other: int
    field: int
    value: int
    late: int
    back: int
    bulk: bool


@dataclass(frozen=True)
class Moment:
    """One transaction, `wait` seconds after the one before it."""

    wait: int
    imported: bool
    steps: list[Step]


ONCE = ["lead", "account", "deal", "delete", "merge", "merge", "convert", "hand over", "move", "close"]
STEPS = st.builds(
    Step,
    what=st.sampled_from(["edit"] * 6 + ONCE),
    which=st.integers(0, 5),
    other=st.integers(0, 5),
    field=st.integers(0, 4),
    value=st.integers(0, 2),
    late=SMALL,
    back=SMALL,
    bulk=st.booleans(),
)
MOMENTS = st.builds(
    Moment, wait=st.integers(0, 2), imported=st.booleans(), steps=st.lists(STEPS, min_size=1, max_size=5)
)
HISTORIES = st.lists(MOMENTS, min_size=2, max_size=4)


def stored(value: object) -> object:
    """Return a value as the log holds it."""
    match value:
        case Decimal():
            return int(value * 10_000)
        case date():
            return day_number(value)
    return value


class Play:
    """Plays one history to the store and tells the naive one what was done."""

    def __init__(self, store: Store, clock: FixedClock) -> None:
        self.store, self.clock = store, clock
        self.naive = NaiveStore()
        users = [
            {"name": "Ana", "email": f"{uuid4()}@example.com", "role": "rep", "active": True}
            for _ in range(2)
        ]
        with store.transaction() as transaction:
            self.users = transaction.create_many(User, users)

    def play(self, history: list[Moment]) -> None:
        self.clock.set(MONDAY)
        self.begin()
        for moment in history:
            self.clock.advance(timedelta(seconds=moment.wait))
            self.play_one(moment)

    def play_one(self, moment: Moment) -> None:
        """Do what is done in one transaction, now."""
        source = Source.IMPORT if moment.imported else Source.REP
        with self.store.transaction(source=source) as transaction:
            for step in moment.steps:
                Doing(self, transaction, step, imported=moment.imported).do()

    def begin(self) -> None:
        """Every history begins with the same cast, so that there is something to do the rest to."""
        now = micros(self.clock.now())
        with self.store.transaction() as transaction:
            for kind, count in {"lead": 2, "account": 3, "deal": 2}.items():
                row = {**DEFAULTS[kind], **FIRST[kind], "name": "N", "owner_id": self.users[0]}
                for made in transaction.create_many(MODELS[kind], [row] * count):
                    first = {name: stored(value) for name, value in row.items()}
                    self.naive.begin((kind, made), first, happened=now, learned=now)


class Doing:
    """One step of a history."""

    def __init__(self, play: Play, transaction: Transaction, step: Step, *, imported: bool) -> None:
        self.play, self.naive = play, play.naive
        self.transaction, self.step = transaction, step
        self.now = micros(play.clock.now())
        self.happened = self.now - step.late * SECOND
        self.learned = self.now - step.back * SECOND if imported else self.now
        self.occurred_at = instant(self.happened)
        self.recorded_at = instant(self.learned) if imported else None

    def do(self) -> None:
        what = self.step.what
        if what in {"lead", "account", "deal"}:
            self.create(what)
        else:
            getattr(self, what.replace(" ", "_"))()

    def create(self, kind: str) -> None:
        values = {**FIRST[kind], "name": "N", "owner_id": self.play.users[0]}
        given = {**values, "occurred_at": self.occurred_at, "recorded_at": self.recorded_at}
        if self.step.bulk:
            (made,) = self.transaction.create_many(MODELS[kind], [{**given, **DEFAULTS[kind]}])
        else:
            made = self.transaction.create(MODELS[kind](**given)).id
        self.begin((kind, made), {name: stored(value) for name, value in values.items()})

    def begin(self, key: Key, first: dict[str, Any]) -> None:
        first = {**DEFAULTS[key[0]], "name": "N", **first}
        self.naive.begin(key, first, happened=self.happened, learned=self.learned)

    def edit(self) -> None:
        key = self.choose(self.step.which)
        name = FIELDS[key[0]][self.step.field % len(FIELDS[key[0]])]
        if name.endswith("_id"):
            there = {"owner_id": self.play.users}.get(name, self.ids("account"))
            value = (*there, None)[self.step.value % (len(there) + 1)]
            if name == "parent_id" and value is not None and self.is_below(key, value):
                value = None
        else:
            value = VALUES[name][self.step.value]
        self.write(key, {name: value})
        self.naive.say(key, {name: stored(value)}, happened=self.happened, learned=self.learned)

    def is_below(self, key: Key, parent: int) -> bool:
        """Whether an account is the other itself or stands above it, and so cannot be put below it."""
        return key[1] == parent or key[1] in self.naive.above(("account", parent), self.now)

    def write(self, key: Key, values: dict[str, Any]) -> None:
        times = {"occurred_at": self.occurred_at, "recorded_at": self.recorded_at}
        if self.step.bulk:
            self.transaction.update_many(MODELS[key[0]], [Update(record_id=key[1], values=values, **times)])
        else:
            self.transaction.update(self.get(key), values, **times)

    def delete(self) -> None:
        key = self.choose(self.step.which)
        if len(self.living()) > 1:
            self.transaction.delete(self.get(key))
            self.naive.records[key].deleted = self.now

    def merge(self) -> None:
        keep = self.choose(self.step.which)
        same = [key for key in self.living() if key[0] == keep[0] and key != keep and keep[0] in LINKS]
        gone = same[self.step.other % len(same)] if same else keep
        if same and self.held(gone).get("status") != "converted":
            merge_records(self.transaction, self.get(keep), self.get(gone))
            self.naive.merge(keep, gone, LINKS[keep[0]], self.now)

    def convert(self) -> None:
        key = self.open("lead")
        if key is None:
            return
        self.not_before_it_began(key)
        deal = Deal(name="N", stage="first_contact", amount=Decimal(5)) if self.step.bulk else None
        lead = self.held(key)
        made = convert_lead(
            self.transaction,
            self.get(key),
            deal=deal,
            occurred_at=self.occurred_at,
            recorded_at=self.recorded_at,
        )
        shared = {name: lead.get(name) for name in ("region", "employees", "owner_id")}
        self.begin(("account", made.account.id), shared)
        values: dict[str, Any] = {
            "status": "converted",
            "converted_at": self.happened,
            "account_id": made.account.id,
        }
        if made.contact is not None:
            values["contact_id"] = made.contact.id
            self.begin(
                ("contact", made.contact.id),
                {"account_id": made.account.id, "owner_id": lead["owner_id"]},
            )
        if made.deal is not None:
            values["deal_id"] = made.deal.id
            of: dict[str, Any] = {name: values[name] for name in ("account_id", "contact_id")} | {
                "owner_id": lead["owner_id"]
            }
            self.begin(("deal", made.deal.id), {**of, "amount": 50_000, "stage": "first_contact"})
        self.naive.say(key, values, happened=self.happened, learned=self.learned)

    def hand_over(self) -> None:
        leaver, heir = (self.transaction.get(User, each) for each in self.play.users)
        hand_over(self.transaction, leaver, [heir])
        for key in self.living():
            held = self.held(key)
            if held.get("owner_id") == leaver.id and held.get("status", "open") == "open":
                self.naive.say(key, {"owner_id": heir.id}, happened=self.now, learned=self.now)

    def move(self) -> None:
        key = self.open("deal")
        if key is not None:
            stage = ["first_contact", "needs", "proposal"][self.step.value]
            move_deal(self.transaction, self.get(key), stage, occurred_at=self.occurred_at, as_it_was=True)
            self.naive.say(key, {"stage": stage}, happened=self.happened, learned=self.now)

    def close(self) -> None:
        key = self.open("deal")
        if key is not None:
            self.not_before_it_began(key)
            close_deal(
                self.transaction,
                self.get(key),
                won=self.step.bulk,
                occurred_at=self.occurred_at,
                as_it_was=True,
            )
            values: dict[str, Any] = {
                "status": "won" if self.step.bulk else "lost",
                "closed_at": self.happened,
            }
            values |= {"stage": "contract"} if self.step.bulk else {}
            self.naive.say(key, values, happened=self.happened, learned=self.now)

    def not_before_it_began(self, key: Key) -> None:
        self.happened = max(self.happened, self.naive.records[key].happened)
        self.occurred_at = instant(self.happened)

    def living(self) -> list[Key]:
        return [key for key, record in self.naive.records.items() if record.deleted is None]

    def ids(self, kind: str) -> list[int]:
        return [key[1] for key in self.living() if key[0] == kind]

    def choose(self, number: int) -> Key:
        living = self.living()
        return living[number % len(living)]

    def open(self, kind: str) -> Key | None:
        """Choose a lead or deal that is open; None if there is no such."""
        found = [key for key in self.living() if key[0] == kind and self.held(key)["status"] == "open"]
        return found[self.step.which % len(found)] if found else None

    def held(self, key: Key) -> dict[str, Any]:
        return self.naive.now(key, self.now)

    def get(self, key: Key) -> Any:
        return self.transaction.get(MODELS[key[0]], key[1])


DEFAULTS: dict[str, dict[str, Any]] = {
    "lead": {"status": "open", "scoring_opt_out": False},
    "account": {"scoring_opt_out": False},
    "deal": {"status": "open", "pipeline": "default"},
    "contact": {"scoring_opt_out": False},
}
"""What the store fills in by itself, and bulk writes must say."""

FIRST: dict[str, dict[str, Any]] = {
    "lead": {"region": "North"},
    "account": {"region": "North"},
    "deal": {"amount": Decimal(5), "stage": "first_contact"},
}
"""What records are created with."""


@pytest.fixture
def declared(store: Store) -> Store:
    """A store that knows the custom field of the histories."""
    with store.transaction() as transaction:
        for kind in MODELS:
            declare_field(
                transaction.session,
                record_type=kind,
                name="custom.tier",
                known=Known.HISTORY,
                kind=FieldKind.TEXT,
            )
    return store


@pytest.mark.timeout(600)
def test_every_state_at_every_instant_is_what_a_replay_of_what_was_done_says(
    declared: Store, clock: FixedClock
) -> None:
    on_sqlite = declared.engine.dialect.name == "sqlite"

    @settings(
        max_examples=so_many(100, 40 if on_sqlite else 25),
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories=st.lists(HISTORIES, min_size=5, max_size=5))
    def replay(histories: list[list[Moment]]) -> None:
        plays = [Play(declared, clock) for _ in histories]
        for play, history in zip(plays, histories, strict=True):
            play.play(history)
        for kind in MODELS:
            check_kind(declared, [play.naive for play in plays], kind)

    replay()


@dataclass(frozen=True)
class Question:
    """What is known of a record at an instant, and the record to ask the slow way."""

    record_id: int
    at: int
    record: Naive


def questions_of(naive: NaiveStore, kind: str) -> list[Question]:
    """Return every record of a type at, just before and just after every instant that was named."""
    instants = naive.instants()
    asked = sorted({each + step for each in instants for step in (-1, 0, 1)})
    records = [(key[1], record) for key, record in naive.records.items() if key[0] == kind]
    return [Question(record_id, at, record) for record_id, record in records for at in asked]


def check_kind(store: Store, naive: list[NaiveStore], kind: str) -> None:
    """Ask everything about the records of one type, in as few questions as there can be."""
    model, fields = MODELS[kind], FIELDS[kind]
    asked = [question for each in naive for question in questions_of(each, kind)]
    ids = np.array([each.record_id for each in asked], dtype=np.int64)
    as_of = np.array([each.at for each in asked], dtype=np.int64)
    field = fields[len(asked) % len(fields)]
    with store.reading() as session:
        states = states_as_of(session, model, ids, as_of)
        values = values_as_of(session, model, field, ids, as_of)
        held = read_state(session, model, set(ids.tolist()), fields)
    for question, state, value in zip(asked, states, values, strict=True):
        at, record = question.at, question.record
        expected = record.state(at)
        found = None if state is None else {name: state.get(name) for name in expected or {}}
        assert (question, found) == (question, expected)
        assert (question, value) == (question, record.value(field, happened=at, learned=at))
    for question in {each.record_id: each for each in asked}.values():
        current = {name: question.record.value(name, happened=FOREVER, learned=FOREVER) for name in fields}
        assert {name: held[question.record_id][name] for name in fields} == current, question


FOREVER = 2**62
