"""Who sees what over HTTP: every operation, every role, records own, of the team, of others, deleted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from crm_core.clock import FixedClock
from crm_core.records import Account, Deal, Lead
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.settings import Settings
from tests.conftest import MONDAY
from tests.factories import make_account, make_deal, make_lead
from tests.serving.conftest import Cast, logged_in, make_cast
from tests.serving.hand_made import HandMadeModel
from tests.serving.record_operations import OF_RECORDS

WHOSE = ("own", "team", "other", "nobody", "deleted")
SEES: dict[str, set[str]] = {
    "Ana": {"own"},
    "Mara": {"own", "team", "nobody"},
    "Dana": {"own", "team", "other", "nobody"},
    "Adam": {"own", "team", "other", "nobody"},
}
"""Ana is a rep, Mara her manager, Dana an analyst, Adam an administrator. Ben is in the team, Otto is not."""

ALL = "record"
READS = (
    "GET /{type}/{id}",
    "GET /{type}/{id}/activities",
    "POST /{type}/{id}/score",
)
HINTS = "GET /{type}/{id}/what-would-change"
"""Its path takes leads, deals and customers."""
SAID = ("GET /{type}/{id}/predictions", "GET /{type}/{id}/score")
"""So do these."""
CUSTOMER_READS = ("POST /customers/{id}/score",)
SCORES = (
    "POST /{type}/scores",
    "GET /{type}/{id}/score",
    "POST /leads/score-hypothetical",
    "POST /deals/score-hypothetical",
    "POST /customers/score-hypothetical",
    "POST /predictions/{id}/feedback",
    "GET /feedback",
)
"""Who may ask is tested with what they answer."""
WRITES = ("POST /{type}/{id}/activities", "POST /deals/{id}/stage")
MERGES = ("POST /leads/{id}/merge", "POST /leads/{id}/distinct", "POST /leads/{id}/scoring-opt-out")
"""Their paths take contacts and accounts as well."""
SEEING = ("GET /search", "GET /duplicates")
PERSONAL = ("POST /people/find", "POST /people/export", "POST /people/erase")
ABOUT_MODELS = (
    "GET /models",
    "GET /models/{task}/history",
    "GET /models/{task}/versions",
    "GET /models/{task}/versions/{version}",
    "POST /models/{task}/promote",
    "POST /models/{task}/rollback",
    "GET /models/{task}/shadow",
    "GET /predictions/{id}",
    "POST /predictions/{id}/recompute",
    "GET /rescoring",
)
"""Who may ask is tested with what they answer, in test_explaining and test_worker."""
KEYS = ("GET /me", "GET /tokens", "POST /tokens", "DELETE /tokens/{id}")
"""Who may ask is tested with what they answer, in test_api_tokens."""
JOBS = ("GET /jobs", "GET /jobs/{id}", "POST /jobs/{id}/revive")
"""Who may ask is tested with the jobs."""
COLLECTIONS = ("GET /{type}", "POST /leads")
FORECAST = "GET /forecast"
"""Who sees what of it is tested with the forecast."""

UNGUARDED = {"GET /healthz", "GET /readyz", "GET /metrics"}
"""What is measured is for administrators and analysts, or for all: tested with the metrics."""

BODIES = {
    "POST /leads": {"name": "Wang Fang"},
    "POST /leads/{id}/activities": {"kind": "call"},
    "POST /deals/{id}/activities": {"kind": "call"},
    "POST /deals/{id}/stage": {"stage": "needs"},
    "POST /leads/{id}/merge": {"gone_id": 2**60},
    "POST /leads/{id}/distinct": {"other_id": 2**60},
    "POST /leads/{id}/scoring-opt-out": {"opted_out": False},
    **{operation: {"mail": "no@body.example"} for operation in PERSONAL},
}


def of_type(operations: tuple[str, ...], record_type: str) -> list[str]:
    named = [operation.replace("{type}", record_type) for operation in operations]
    return [operation for operation in named if f"/{record_type}" in operation]


@dataclass(frozen=True, kw_only=True)
class World:
    cast: Cast
    client: FlaskClient
    ids: dict[str, dict[str, int]]

    def call(self, name: str | None, operation: str, record_id: int | None = None) -> int:
        method, path = operation.split(" ")
        path = "/api/v1" + path.replace("{id}", str(record_id))
        headers = self.cast.header(name) if name else {}
        return self.client.open(path, method=method, json=BODIES.get(operation), headers=headers).status_code


@pytest.fixture(scope="module")
def world(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[World]:
    home = tmp_path_factory.mktemp("access")
    shutil.copy(empty_database, home / "crm.db")
    store = Store(f"sqlite:///{home / 'crm.db'}", clock=FixedClock(MONDAY))
    cast = make_cast(store, password_hash)
    champions = Champions(store, lambda task, promotion: HandMadeModel())
    client = create_app(Settings(home=home), store, champions).test_client()
    yield World(cast=cast, client=client, ids=make_records(store, cast))
    store.close()


def make_records(store: Store, cast: Cast) -> dict[str, dict[str, int]]:
    owners = {"own": cast["Ana"].id, "team": cast["Ben"].id, "other": cast["Otto"].id, "nobody": None}
    owners["deleted"] = cast["Ana"].id
    makers: dict[str, tuple[type[Lead | Deal | Account], Callable[..., Lead | Deal | Account]]] = {
        "leads": (Lead, make_lead),
        "deals": (Deal, make_deal),
        "customers": (Account, make_account),
    }
    with store.transaction() as transaction:
        ids = {
            name: {whose: make(transaction, owner_id=owner).id for whose, owner in owners.items()}
            for name, (_, make) in makers.items()
        }
        for name, (model, _) in makers.items():
            transaction.delete(transaction.get(model, ids[name]["deleted"]))
    return ids


def test_every_operation_is_in_the_matrix(world: World) -> None:
    paths = world.client.get("/api/openapi.json").get_json()["paths"]
    declared = {
        f"{method.upper()} {path.removeprefix('/api/v1')}" for path, item in paths.items() for method in item
    }
    tried = {
        operation for kind in ("leads", "deals") for operation in of_type(READS + WRITES + COLLECTIONS, kind)
    }
    tried |= {operation.replace("/leads/", "/{type}/") for operation in MERGES}
    tried |= OF_RECORDS | {"GET /metrics"}  # whose keys are tried in test_metrics
    tried |= {HINTS, FORECAST, *SAID, *SCORES, *SEEING, *PERSONAL, *ABOUT_MODELS, *CUSTOMER_READS}
    assert declared == tried | {*KEYS, *JOBS, "GET /operations"} | UNGUARDED


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("record_type", ["leads", "deals"])
def test_reading(world: World, name: str, whose: str, record_type: str) -> None:
    for operation in of_type(READS, record_type):
        status = world.call(name, operation, world.ids[record_type][whose])
        seen = (
            409 if operation.endswith("score") else 200
        )  # there is no model, which only those who see it learn
        assert status == (seen if whose in SEES[name] else 404), operation


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("record_type", ["leads", "deals", "customers"])
def test_hints(world: World, name: str, whose: str, record_type: str) -> None:
    record_id = world.ids[record_type][whose]
    status = world.call(name, HINTS.replace("{type}", record_type), record_id)
    assert status == (409 if whose in SEES[name] else 404)  # there is no model
    for operation in SAID:
        status = world.call(name, operation.replace("{type}", record_type), record_id)
        assert status == (200 if whose in SEES[name] else 404)


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("record_type", ["leads", "deals"])
def test_writing(world: World, name: str, whose: str, record_type: str) -> None:
    for operation in of_type(WRITES, record_type):
        status = world.call(name, operation, world.ids[record_type][whose])
        if name == "Dana":
            assert status == 403, operation
        else:
            assert (status in {200, 201}) if whose in SEES[name] else status == 404, (operation, status)


@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("record_type", ["leads", "deals"])
def test_lists_hold_what_may_be_seen_and_nothing_else(world: World, name: str, record_type: str) -> None:
    answer = world.client.get(f"/api/v1/{record_type}?limit=200", headers=world.cast.header(name))
    listed = {item["id"] for item in answer.get_json()["items"]} & set(world.ids[record_type].values())
    assert listed == {world.ids[record_type][whose] for whose in SEES[name]}


@pytest.mark.parametrize(("name", "status"), [("Ana", 201), ("Mara", 201), ("Dana", 403), ("Adam", 201)])
def test_creating(world: World, name: str, status: int) -> None:
    assert world.call(name, "POST /leads") == status


def test_without_a_key_every_operation_is_refused(world: World) -> None:
    for record_type in ("leads", "deals"):
        for operation in of_type(READS + WRITES + COLLECTIONS, record_type):
            assert world.call(None, operation, world.ids[record_type]["own"]) == 401, operation
    for operation in (HINTS.replace("{type}", "leads"), *MERGES, *SEEING, *PERSONAL, *KEYS):
        assert world.call(None, operation, world.ids["leads"]["own"]) == 401, operation


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("name", SEES)
def test_merging_and_opting_out(world: World, name: str, whose: str) -> None:
    for operation in MERGES:
        status = world.call(name, operation, world.ids["leads"][whose])
        if whose not in SEES[name]:
            assert status == 404, operation
        elif name == "Dana":
            assert status == 403, operation
        else:  # the other record does not exist for anybody
            assert status == (200 if operation.endswith("opt-out") else 404), operation


@pytest.mark.parametrize("name", SEES)
def test_personal_data_is_for_administrators(world: World, name: str) -> None:
    for operation in PERSONAL:
        assert world.call(name, operation) == (200 if name == "Adam" else 403), operation


@pytest.mark.parametrize("name", SEES)
def test_hits_and_duplicates_are_what_may_be_seen(world: World, name: str) -> None:
    headers = world.cast.header(name)
    hits = world.client.get("/api/v1/search?q=Fangda&type=lead&limit=100", headers=headers).get_json()[
        "items"
    ]
    seen = {world.ids["leads"][whose] for whose in SEES[name]}
    assert {hit["id"] for hit in hits} & set(world.ids["leads"].values()) == seen
    found = world.client.get("/api/v1/duplicates?record_type=lead&limit=200", headers=headers).get_json()
    paired = {pair[side]["id"] for pair in found["pairs"] for side in ("first", "second")}
    assert paired & set(world.ids["leads"].values()) <= seen
    assert len(seen) < 2 or seen <= paired


def test_health_needs_no_key(world: World) -> None:
    assert world.client.get("/healthz").json == {"status": "ok"}
    assert world.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer crm_wrong", "Basic YTpi", "Bearer crm_\udc80"]
)
def test_a_wrong_key_is_refused(world: World, header: str) -> None:
    answer = world.client.get(
        "/api/v1/leads", headers={"Authorization": header.encode("utf-8", "replace").decode()}
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="crm", error="invalid_token"'


def test_a_session_of_the_pages_is_no_key(world: World) -> None:
    with world.client.session_transaction() as session:
        session["_user_id"] = "1:whatever"
    assert world.client.get("/api/v1/leads").status_code == 401


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("name", SEES)
def test_what_models_say_of_customers(world: World, name: str, whose: str) -> None:
    for operation in CUSTOMER_READS:
        status = world.call(name, operation, world.ids["customers"][whose])
        seen = 409 if operation.endswith("score") else 200
        assert status == (seen if whose in SEES[name] else 404), operation
        assert world.call(None, operation, world.ids["customers"][whose]) == 401


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("collection", ["leads", "deals", "customers"])
def test_pages(world: World, name: str, whose: str, collection: str) -> None:
    record_id = world.ids[collection][whose]
    with logged_in(world.client.application, world.cast[name]) as client:
        for path in (f"/{collection}/{record_id}", f"/{collection}/{record_id}/score?seen=0"):
            assert client.get(path).status_code == (200 if whose in SEES[name] else 404), path
        listed = f'href="/{collection}/{record_id}"' in client.get(f"/{collection}").text
        assert listed == (whose in SEES[name])


@pytest.mark.parametrize(("name", "status"), [("Ana", 403), ("Mara", 403), ("Dana", 200), ("Adam", 200)])
def test_the_models_page_is_for_those_who_may_promote(world: World, name: str, status: int) -> None:
    with logged_in(world.client.application, world.cast[name]) as client:
        assert client.get("/models").status_code == status
