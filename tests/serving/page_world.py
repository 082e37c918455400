"""A world in which every page has something to show: records of everybody, and what people keep."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from flask import Flask
from sqlalchemy import select
from werkzeug.routing import Rule

from crm_core.automation.shipped import ship_rules
from crm_core.clock import FixedClock
from crm_core.jobs import Job, enqueue
from crm_core.saved import SavedView, Segment
from crm_core.sessions import LoginSession
from crm_core.store import Store
from crm_core.uploads import Import
from serving.app import create_app
from serving.champions import Champions
from serving.settings import Settings
from tests.conftest import MONDAY
from tests.serving.api import Api
from tests.serving.conftest import Cast, logged_in, make_cast
from tests.serving.every_page import make_a_form
from tests.serving.hand_made import HandMadeModel
from tests.serving.record_bodies import path_of
from tests.serving.test_access import World, _put_in_charge, make_world

OUTSIDE: Final = ("healthz", "readyz", "metrics", "/api/", "static", "bootstrap", "/login/provider")
"""What is no page of ours: the service's own answers, files, and the way to an identity provider."""


MARK: Final = "Zqxother"
NAMED: Final = {"lead": "name", "deal": "name", "account": "name", "contact": "name", "ticket": "subject"}
"""What Otto's records are called, which nobody outside of his team may read."""


def page_rules(app: Flask, method: str) -> list[Rule]:
    """Return the rules of all pages that answer a method."""
    rules = (rule for rule in app.url_map.iter_rules() if method in (rule.methods or ()))
    return sorted((r for r in rules if not any(part in r.rule for part in OUTSIDE)), key=lambda r: r.rule)


def open_world(empty_database: Path, home: Path, password_hash: str) -> Iterator[tuple[World, Flask, Store]]:
    """Make the world, with pages that take forms without a token."""
    shutil.copy(empty_database, home / "crm.db")
    store = Store(f"sqlite:///{home / 'crm.db'}", clock=FixedClock(MONDAY))
    cast = make_cast(store, password_hash)
    _put_in_charge(store)
    champions = Champions(store, lambda task, promotion: HandMadeModel(model_version=promotion.model_version))
    settings = Settings(home=home, api_rate=0, anonymous_rate=0, login_rate=0)
    app = create_app(settings, store, champions)
    app.config["WTF_CSRF_ENABLED"] = False
    world = make_world(store, cast, app.test_client())
    keep_things(world, app, store)
    yield world, app, store
    store.close()


def keep_things(world: World, app: Flask, store: Store) -> None:
    """Have everybody keep a view, a segment, an import, work on many rows and a file of their own."""
    for name, whose in (("Ana", "own"), ("Ben", "team"), ("Otto", "other")):
        client = logged_in(app, world.cast[name])
        asked = {"name": f"view {whose}", "filter": "name:contains:a", "shared": "own"}
        client.post("/lists/lead/views", data=asked)
        client.post("/lists/lead/views", data={**asked, "as": "segment", "name": f"segment {whose}"})
        sheet = {"file": (io.BytesIO(b"name,email\nzq,a@b.example\n"), f"{whose}.csv"), "record_type": "lead"}
        client.post("/import", data=sheet)
        client.post("/lists/lead/many", data={"action": "export", "format": "csv", "which": "all"})
        lead = world.ids["lead"][whose]
        file = {"file": (io.BytesIO(b"hello"), f"{whose}.txt")}
        assert client.post(f"/records/lead/{lead}/files", data=file).status_code == 302
    made = make_a_form(store, world.cast["Adam"])
    for name in ("form", "form_number", "submission"):
        world.ids[name] = {"own": made[name]}
    _note_ids(world, store)
    adam = Api(app.test_client(), world.cast, "Adam")
    ship_rules(store)
    for name, field in NAMED.items():
        named = adam("PATCH", f"{path_of(name)}/{world.ids[name]['other']}", {field: f"{MARK} {name}"})
        assert named.status_code == 200, named.text


def _note_ids(world: World, store: Store) -> None:
    owners = {world.cast["Ana"].id: "own", world.cast["Ben"].id: "team", world.cast["Otto"].id: "other"}
    with store.transaction() as transaction:
        session = transaction.session
        for name, model in (
            ("view", SavedView),
            ("segment", Segment),
            ("import", Import),
            ("login", LoginSession),
        ):
            found: Any = session.execute(select(model.id, model.user_id).order_by(model.id)).all()
            world.ids[name] = {owners[user_id]: each for each, user_id in found if user_id in owners}
        jobs = session.scalars(select(Job).where(Job.kind == "list_work"))
        world.ids["work"] = {owners[job.payload["user_id"]]: job.id for job in jobs}
        replay = enqueue(session, "replay", {}, now=transaction.now)
        world.ids["bench job"] = {"own": replay or 0}


def filled(world: World, rule: Rule, about: str, whose: str, **more: Any) -> str:
    """Return a page's address about somebody's record."""
    found = world.ids.get(about, {}).get(whose, 1)
    path = rule.rule
    values = {
        "record_type": about if about in world.ids else "lead",
        "collection": {"deal": "deals", "account": "customers"}.get(about, "leads"),
        "what": {"view": "views", "segment": "segments"}.get(about, "on"),
        "verb": "reopen" if "alerts" in path else "rollback",
        "task": "churn",
        "does": "watch",
        "role": "rep",
        "name": "note",
        "format_": "csv",
        **more,
    }
    for part in sorted(rule.arguments):
        value = values.get(part, found)
        start = next(
            at for at in range(len(path)) if path[at] == "<" and path[at:].split(">")[0].endswith(part)
        )
        end = path.index(">", start)
        path = path[:start] + str(value) + path[end + 1 :]
    return path


def as_person(app: Flask, cast: Cast, name: str) -> Any:
    """Return a browser in which somebody is logged in."""
    return logged_in(app, cast[name])
