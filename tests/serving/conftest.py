"""The service in a test: an application on a real store, the cast with keys and passwords, simple models."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from playwright.sync_api import Browser, expect
from werkzeug.routing import Map

from crm_core import migrations
from crm_core.promotions import Promotion
from crm_core.records import Team, User
from crm_core.store import Store
from crm_core.tokens import create_token
from serving import auth
from serving.api import specification
from serving.app import Application, create_app
from serving.auth import let_in
from serving.champions import Champions
from serving.demo import make_demo
from serving.settings import Settings
from tests.factories import make_team, make_user
from tests.serving.browser import PATIENCE, launched
from tests.serving.hand_made import HandMadeModel

PASSWORD = "correct horse battery"


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Ana and Ben sell in Mara's team North, Otto in South; Dana studies, Adam administers."""

    north: Team
    south: Team
    people: dict[str, User]
    keys: dict[str, str]

    def __getitem__(self, name: str) -> User:
        return self.people[name]

    def header(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[name]}"}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A demonstration: its home, which one test goes on to use and to damage; a copy of it; what was told."""

    home: Path
    kept: Path
    made: dict[str, Any]


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Hashes that are as cheap as they come; one test looks at the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(auth, "_hasher", lambda: quick)
        yield


class _Compiled(BytecodeCache):
    """Keeps compiled templates in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def quick_templates() -> Iterator[None]:
    """Compile every template once; every application has the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "jinja_options", {**Flask.jinja_options, "bytecode_cache": _Compiled()})
        yield


class _Rules:
    """Adds the rules of the first application; every later one has the same, and is given the map of that."""

    def __init__(self) -> None:
        self.alone = False
        self._map: Map | None = None
        self._first: list[object] = []

    def add(self, app: Application, *given: Any, **options: Any) -> None:
        assert self.alone or app.url_map is not self._map, "who adds a rule has to ask for `own_rules` first"
        if self.alone or self._map is None:
            Flask.add_url_rule(app, *given, **options)
        else:
            _rule, endpoint, view = given
            app.view_functions[endpoint] = view
        app.__dict__.setdefault("added", []).append((given[:2], options))

    def end(self, app: Application) -> None:
        """Share the map, after the last rule."""
        if self.alone:
            return
        if self._map is None:
            self._map, self._first = app.url_map, app.__dict__["added"]
        assert app.__dict__["added"] == self._first
        app.url_map = self._map


_RULES = _Rules()
"""Those of all applications of this process: other folders take the fixtures of this one too."""


@pytest.fixture(scope="session", autouse=True)
def quick_rules() -> Iterator[None]:
    """Read and add every rule once: that took a third of the time of the tests of pages."""
    register_last = specification.register

    def add(app: Application, *given: Any, **options: Any) -> None:
        _RULES.add(app, *given, **options)

    def register(app: Application) -> None:
        register_last(app)
        _RULES.end(app)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Application, "add_url_rule", add)
        patch.setattr(specification, "register", register)
        yield


@pytest.fixture
def own_rules(quick_rules: None) -> Iterator[None]:
    """Applications whose rules are their own, for a test that adds one."""
    _RULES.alone = True
    yield
    _RULES.alone = False


@pytest.fixture(scope="module", autouse=True)
def quick_upgrades(empty_database: Path) -> Iterator[None]:
    """Copy a migrated database where the program would make one, which takes it a second."""
    upgrade = migrations.upgrade

    def copy(url: str, version: str = "head") -> None:
        path = Path(url.removeprefix("sqlite:///"))
        if version == "head" and url.startswith("sqlite:///") and not path.exists():
            shutil.copy(empty_database, path)
        else:
            upgrade(url, version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "upgrade", copy)
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of a file; what is waited for in vain is waited for long."""
    with launched() as found:
        expect.set_options(timeout=PATIENCE)
        yield found
        expect.set_options(timeout=None)


@pytest.fixture(scope="session")
def password_hash(quick_hashes: None) -> str:
    """The hash of everybody's password."""
    return auth.hash_password(PASSWORD)


@pytest.fixture
def cast(store: Store, password_hash: str) -> Cast:
    return make_cast(store, password_hash)


def make_cast(store: Store, password_hash: str) -> Cast:
    """Hire everybody."""
    with store.transaction() as transaction:
        north, south = make_team(transaction), make_team(transaction, name="South")
        roles = {
            "Ana": "rep",
            "Ben": "rep",
            "Mara": "manager",
            "Dana": "analyst",
            "Adam": "admin",
            "Otto": "rep",
        }
        people = {
            name: make_user(
                transaction,
                name,
                role=role,
                team_id=(south if name == "Otto" else north).id,
                password_hash=password_hash,
            )
            for name, role in roles.items()
        }
        keys = {
            name: create_token(transaction.session, user_id=user.id, name="test", now=transaction.now)
            for name, user in people.items()
        }
    return Cast(north=north, south=south, people=people, keys=keys)


@pytest.fixture
def models() -> dict[str, HandMadeModel]:
    """By version, the models that a promotion may put in charge."""
    return {}


@pytest.fixture
def promote(store: Store, models: dict[str, HandMadeModel]) -> Callable[..., HandMadeModel]:
    """Put a hand-made model in charge of a task."""

    def put_in_charge(task: str = "lead_scoring", version: str | None = None, **given: Any) -> HandMadeModel:
        model = HandMadeModel(model_version=version or f"{task}-1", **given)
        models[model.model_version] = model
        with store.transaction() as transaction:
            transaction.session.add(
                Promotion(
                    task=task,
                    model_version=model.model_version,
                    sha256="0" * 64,
                    run_id="hand",
                    promoted_at=transaction.now,
                    reason="made by hand",
                )
            )
        return model

    return put_in_charge


@pytest.fixture
def champions(store: Store, models: dict[str, HandMadeModel]) -> Champions:
    return Champions(store, lambda task, promotion: models[promotion.model_version], look_seconds=0)


@pytest.fixture(scope="session")
def settings_read() -> Settings:
    """What the environment says, which takes longer to read than most requests do to answer."""
    return Settings()


@pytest.fixture
def settings(home: Path, settings_read: Settings) -> Settings:
    return settings_read.model_copy(update={"home": home})


@pytest.fixture
def app(settings: Settings, store: Store, champions: Champions) -> Flask:
    application = create_app(settings, store, champions)
    application.testing = False
    return application


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def logged_in(app: Flask, user: User, language: str = "en") -> FlaskClient:
    """Return a browser in which this person is logged in."""
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
    with client.session_transaction() as session:
        store = app.extensions["crm"].store
        session["_user_id"] = let_in(store, user, lasts=app.permanent_session_lifetime).get_id()
        session["_fresh"] = True
    return client


def csrf_of(page: str) -> str:
    """Return the token that a page's forms carry."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A small demonstration with trained models, made once for all processes of a run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demonstration"
    folder.mkdir(exist_ok=True)
    told = folder / "told.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            settings = Settings(home=folder / "home")
            made = make_demo(settings, size="tiny", seed=1)
            shutil.copytree(settings.home, folder / "kept")
            told.write_text(json.dumps(made), encoding="utf-8")
    return Demo(home=folder / "home", kept=folder / "kept", made=json.loads(told.read_text(encoding="utf-8")))
