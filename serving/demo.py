"""The demonstration: a simulated company, trained on, scored and ready to serve, from nothing in one call."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from typing import Any

import click
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from crm_core import migrations
from crm_core.automation.shipped import ship_rules
from crm_core.changes import Source
from crm_core.errors import HomeInUseError, TrainingError
from crm_core.predictions import Prediction
from crm_core.promotions import find_champion
from crm_core.records import Lead, Role, User
from crm_core.store import Store
from crm_core.tokens import Token, create_token
from serving.auth import new_password, set_password
from serving.champions import RECORD_TYPE_OF
from serving.console import say, stage, table
from serving.demo_campaigns import make_campaigns
from serving.demo_mailing import make_mailing
from serving.demo_sales import make_sales
from serving.demo_service import make_service_desk
from serving.forecast_making import ask_for, scope_of
from serving.forecasts import Part
from serving.home import Home
from serving.model_work import ask_for as ask_for_work
from serving.model_work import list_work
from serving.settings import Settings
from serving.training_runs import score_as_of, score_task, train_task

CAST = (
    ("rep", "ana@example.com"),
    ("manager", "mara@example.com"),
    ("data scientist", "dana@example.com"),
    ("administrator", "alex@example.com"),
)
"""Whose passwords are set and shown; the company's other people have none."""


KEY_NAME = "demonstration"
BEFORE_DAYS = (28, 21, 14, 7)
"""How long ago the demonstration asks besides now."""


def make_demo(settings: Settings, *, size: str | None = None, seed: int | None = None) -> dict[str, Any]:
    """Make whatever of the demonstration is not there yet, and new passwords; return what to tell the person.

    Without a size and a seed, those of the company that is there are meant, else a small one and 1.

    Raises HomeInUseError where the home holds anything else than this very company.
    """
    home = settings.home_folder
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    asked = _check_home(home, {"size": size, "seed": seed})
    with _tracking_prepared(home), _timed(seconds, "simulate"):
        store = _company(home, asked)
    for task in RECORD_TYPE_OF:
        with _timed(seconds, f"train {task}"):
            _train(home, store, task)
    with _timed(seconds, "furnish"):
        _furnish(store)
    with _timed(seconds, "score"):
        _score(home, store)
    ship_rules(store)  # now, so that none is about what there was before
    _ask_for_forecasts(store)
    _ask_for_watches(store)
    logins, key = _logins(store), _new_key(store)
    store.close()
    return {
        "home": str(home.folder),
        **asked,
        "seconds": {**seconds, "in all": round(time.perf_counter() - began, 1)},
        "logins": logins,
        "key": key,
    }


def show_demo(made: dict[str, Any]) -> None:
    """Print what a person needs to begin."""
    click.echo()
    click.echo(f"A simulated company is ready in {made['home']} ({made['seconds']['in all']:.0f} s).")
    click.echo()
    rows = [(login["role"], login["name"], login["email"], login["password"]) for login in made["logins"]]
    table(
        "Log in as (passwords are shown only now; make demo sets new ones)",
        ("role", "name", "address", "password"),
        rows,
    )
    click.echo()
    click.echo(f"API key of {made['logins'][0]['name']}: {made['key']}")
    click.echo()


def _check_home(home: Home, asked: dict[str, Any]) -> dict[str, Any]:
    """Return which company is meant; refuse to touch a home with data that is not this company's."""
    found = _read_company(home)
    if found is None:
        if _has_data(home):
            raise HomeInUseError(
                f"{home.folder} holds data that is no demonstration; name another one with --home"
            )
        return {"size": asked["size"] or "small", "seed": 1 if asked["seed"] is None else asked["seed"]}
    before = {name: found[name] for name in asked}
    if any(value not in (None, before[name]) for name, value in asked.items()):
        raise HomeInUseError(
            f"{home.folder} holds the company of size {before['size']} and seed {before['seed']}; "
            "name another folder with --home, or remove this one"
        )
    return before


def _read_company(home: Home) -> dict[str, Any] | None:
    if not home.company.exists():
        return None
    read: dict[str, Any] = json.loads(home.company.read_text(encoding="utf-8"))
    return read


def _has_data(home: Home) -> bool:
    if home.database_url == f"sqlite:///{home.database}" and not home.database.exists():
        return False
    migrations.upgrade(home.database_url)
    store = Store(home.database_url)
    with store.reading() as session:
        held = (session.scalar(select(func.count(Lead.id))) or 0) + (
            session.scalar(select(func.count(User.id))) or 0
        )
    store.close()
    return held > 0


def _company(home: Home, asked: dict[str, Any]) -> Store:
    """Return the store with the company in it; one that was interrupted is begun again."""
    from models.simulation import simulate_company

    found = _read_company(home)
    home.create()
    if found is not None and found["complete"]:
        migrations.upgrade(home.database_url)
        return Store(home.database_url)
    _note_company(home, asked, complete=False)
    if home.database_url == f"sqlite:///{home.database}":
        for file in home.folder.glob("crm.db*"):
            file.unlink()
    migrations.upgrade(home.database_url)
    store = Store(home.database_url)
    with stage(f"simulating a {asked['size']} company") as update:
        truth = simulate_company(store, size=asked["size"], seed=asked["seed"], progress=update)
        truth.save(home.truth)
    _note_company(home, asked, complete=True)
    return store


def _note_company(home: Home, asked: dict[str, Any], *, complete: bool) -> None:
    home.company.write_text(json.dumps({**asked, "complete": complete}), encoding="utf-8")


@contextmanager
def _tracking_prepared(home: Home) -> Iterator[None]:
    """Let another process make MLflow's database meanwhile, which takes longer than the simulation."""
    home.create()
    code = "import sys; from serving.modelling import prepare_tracking; prepare_tracking(*sys.argv[1:])"
    preparing = subprocess.Popen(  # noqa: S603  our own code with our own paths
        [sys.executable, "-c", code, str(home.folder), home.tracking_uri],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        with stage("preparing MLflow"):
            preparing.wait()  # where it failed, training says why
    finally:
        preparing.terminate()
        preparing.wait()


def _train(home: Home, store: Store, task: str) -> None:
    if task in _served_tasks(store):
        return
    try:
        train_task(home, store, task)
    except TrainingError as error:
        say(f"No model for now: {error}")


def _served_tasks(store: Store) -> list[str]:
    with store.reading() as session:
        return _served(session)


def _served(session: Session) -> list[str]:
    return [task for task in RECORD_TYPE_OF if find_champion(session, task) is not None]


def _furnish(store: Store) -> None:
    """Make what the simulated company has none of.

    It is made after training, which must not learn from it, and before scores are given, which must be of
    what was known when they are said to be from.
    """
    make_campaigns(store)
    make_service_desk(store)
    make_sales(store)
    make_mailing(store)


def _score(home: Home, store: Store) -> None:
    """Score everything; the first time also as of some earlier days, so that there is a change to be seen."""
    with store.reading() as session:
        first = session.scalar(select(Prediction.id).limit(1)) is None
    if first:
        _score_earlier(home, store)
    for task in _served_tasks(store):
        score_task(home, store, task)


def _score_earlier(home: Home, store: Store) -> None:
    """Ask today's models about what was known some days ago.

    `recorded_at` says when the answers were given: they are no forecasts, and not to be judged as such.
    """
    now = store.clock.now()
    with stage("scoring some earlier days") as update:
        for days, task in product(BEFORE_DAYS, _served_tasks(store)):
            score_as_of(home, store, task, now - timedelta(days=days), update)


def _ask_for_forecasts(store: Store) -> None:
    """Have the forecasts of those who lead made while the service begins: replaying the past takes long."""
    with store.reading() as session:
        shown = (User.email.in_([email for _, email in CAST]), User.role.in_([Role.MANAGER, Role.ANALYST]))
        cast = select(User).where(*shown)
        people = [(user, scope_of(session, user, Part())) for user in session.scalars(cast)]
        session.expunge_all()
    for user, scope in people:
        ask_for(store, user, Part(), scope)


def _ask_for_watches(store: Store) -> None:
    """Have each model that was never checked looked at while the service runs, for who looks after them."""
    with store.transaction() as transaction:
        _, email = CAST[2]
        user = transaction.session.scalars(select(User).where(User.email == email)).one()
        for task in _served(transaction.session):
            if not list_work(transaction.session, task):
                ask_for_work(transaction, user, task, "watch")


def _logins(store: Store) -> list[dict[str, str]]:
    """Give the cast new random passwords and return them; only their hashes are kept."""
    with store.transaction(source=Source.API) as transaction:
        return [_login(transaction.session, role, email) for role, email in CAST]


def _new_key(store: Store) -> str:
    """Return a new API key of the rep; the one that an earlier demonstration gave is revoked."""
    with store.transaction(source=Source.API) as transaction:
        session, now = transaction.session, transaction.now
        user_id = session.scalars(select(User.id).where(User.email == CAST[0][1])).one()
        earlier = (Token.user_id == user_id, Token.name == KEY_NAME, Token.revoked_at.is_(None))
        session.execute(update(Token).where(*earlier).values(revoked_at=now))
        return create_token(session, user_id=user_id, name=KEY_NAME, now=now)


def _login(session: Session, role: str, email: str) -> dict[str, str]:
    user = session.scalars(select(User).where(User.email == email)).one()
    password = new_password()
    set_password(session, user.id, password)
    return {"role": role, "name": user.name, "email": email, "password": password}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 1)
