"""Many people are erased from a home that was trained on, scored and served: nothing is left below it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from crm_core import migrations
from crm_core.clock import FixedClock
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.merging import merge_records
from crm_core.personal import erase_person, list_places_with, purge
from crm_core.predictions import Prediction
from crm_core.records import Account, Activity, Comment, Lead, User
from crm_core.store import Store
from crm_core.tokens import create_token
from models.registry import Registry
from models.simulation import simulate_company
from models.tasks import get_task
from models.training import train
from serving.app import create_app
from serving.champions import Champions
from serving.home import Home
from serving.logs import get_log, start_logging
from serving.modelling import scorer_loader
from serving.rescoring import Rescorer, RescoringThread
from serving.settings import Settings
from serving.training_runs import score_task
from tests.conftest import so_many
from tests.models.conftest import choose_nothing

TASK = "lead_scoring"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
API = "/api/v1/leads"
GONE = so_many(50, 15)
"""How many are erased; ten more stay."""


@dataclass(frozen=True, kw_only=True)
class Someone:
    """Somebody whom nobody else is like."""

    number: int

    @property
    def told(self) -> dict[str, str]:
        first, last = chr(65 + self.number % 26), chr(65 + self.number // 26)
        return {
            "name": f"{first}elinde {last}orqual"
            if self.number % 2
            else f"欧阳{first.lower()}晓{last.lower()}明",
            "email": f"person.{self.number:03d}@uncommon.example",
            "phone": f"+86 139 {self.number:04d} 7{self.number:03d}",
        }


@pytest.fixture
def home(tmp_path: Path, tracking_template: Path) -> Home:
    """A home folder with a small simulated company that a model learned from."""
    made = Home.at(tmp_path / "home")
    made.create()
    migrations.upgrade(made.database_url)
    shutil.copy(tracking_template, made.folder / "mlflow.db")
    return made


@pytest.mark.timeout(300)
def test_of_many_erased_people_nothing_is_left_below_a_home_in_use(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_nothing(monkeypatch)
    clock = FixedClock(NOW)
    store = Store(home.database_url, clock=clock)
    simulate_company(store, size="tiny", seed=1).save(home.truth)
    people = [Someone(number=number) for number in range(GONE + 10)]
    with store.transaction() as transaction:
        declare_custom(transaction.session)
        ana = transaction.session.scalars(select(User).where(User.email == "ana@example.com")).one()
        key = create_token(transaction.session, user_id=ana.id, name="form", now=transaction.now)
    start_logging(home.logs, level="info")
    client = serve(home, store)
    leads = [meet(client, key, someone) for someone in people]
    talk(store, people, leads)
    clock.advance(timedelta(days=1))
    learn_and_score(home, store)
    fail(client, key, people[0])

    needles = [text for someone in people[:GONE] for text in someone.told.values()]
    held = list_places_with(home.folder, needles)
    assert {place.needle for place in held} == set(needles)
    assert {place.path for place in held} <= {"crm.db", "crm.db-wal"}

    with store.transaction() as transaction:
        for lead in leads[:GONE]:
            erase_person(transaction, record=("lead", lead))
    purge(store)
    assert list_places_with(home.folder, needles) == []
    stay = [text for someone in people[GONE:] for text in someone.told.values()]
    assert {place.needle for place in list_places_with(home.folder, stay)} == set(stay)
    score_task(home, store, TASK)
    with store.reading() as session:
        asked = set(session.scalars(select(Prediction.record_id).where(Prediction.as_of == clock.now())))
    assert set(leads[GONE:]) <= asked
    store.close()
    assert list((home.folder / "logs").iterdir()) != []
    assert list(home.artifacts.rglob("*.json")) != []


def declare_custom(session: object) -> None:
    """Declare a field that a model may learn from and that says who somebody is."""
    declare_field(
        session,  # type: ignore[arg-type]  # a session
        record_type="lead",
        name="custom.nickname",
        kind=FieldKind.TEXT,
        known=Known.CREATION,
    )


def serve(home: Home, store: Store) -> FlaskClient:
    champions = Champions(store, scorer_loader(home, store))
    thread = RescoringThread(Rescorer(store, champions), poll_seconds=1)
    return create_app(Settings(home=home.folder), store, champions, thread).test_client()


def meet(client: FlaskClient, key: str, someone: Someone) -> int:
    """Make a lead over the API, log a call about them, and correct their name."""
    asked = {"Authorization": f"Bearer {key}"}
    body = {**someone.told, "name": f"{someone.told['name']}?", "company": "Fangda", "source": "web_form"}
    made = client.post(API, json={**body, "custom": {"nickname": someone.told["name"]}}, headers=asked)
    assert made.status_code == 201, made.text
    lead = int(made.json["id"]) if made.json else 0
    call = {"kind": "call", "subject": f"Call {someone.told['name']}", "body": someone.told["phone"]}
    assert client.post(f"{API}/{lead}/activities", json=call, headers=asked).status_code == 201
    return lead


def talk(store: Store, people: list[Someone], leads: list[int]) -> None:
    """Have each person spoken of where no link tells of them, and known twice under one mail address."""
    with store.transaction() as transaction:
        account = transaction.session.scalars(select(Account).limit(1)).one().id
        for someone, lead in zip(people, leads, strict=True):
            name, mail, phone = someone.told.values()
            body = f"{name} is the one to ask: {mail.upper()} or {phone.replace(' ', '-')}"
            about = {"subject_type": "account", "subject_id": account}
            transaction.create(Comment(body=f"{name} <{mail}> was here; {phone}", **about))
            transaction.create(Activity(kind="note", account_id=account, subject=f"Ask {name}", body=body))
            again = transaction.create(Lead(**someone.told, source="referral"))
            merge_records(transaction, transaction.get(Lead, lead), again)


def learn_and_score(home: Home, store: Store) -> None:
    with store.transaction() as transaction:
        for lead in transaction.session.scalars(select(Lead).where(Lead.company == "Fangda")):
            transaction.update(lead, {"name": (lead.name or "").rstrip("?")})
    registry = Registry(home.tracking_uri, home.artifacts, home.models)
    train(store, get_task(TASK), registry=registry, promote=True)
    score_task(home, store, TASK)


def fail(client: FlaskClient, key: str, someone: Someone) -> None:
    """Have requests refused, and an error logged, with somebody's data in them."""
    asked = {"Authorization": f"Bearer {key}"}
    assert client.post(API, json={**someone.told, "source": 3}, headers=asked).status_code == 422
    assert client.get(f"{API}?status={someone.told['email']}", headers=asked).status_code == 422
    assert client.get(f"/nowhere/{someone.told['email']}", headers=asked).status_code == 404
    with pytest.raises(ValueError, match="time zone") as raised:
        someone_is_no_time(someone)
    get_log("serving.test").error("internal error", exc_info=raised.value)


def someone_is_no_time(someone: Someone) -> None:
    mail = someone.told["email"]
    raise ValueError(f"{mail} has no time zone")
