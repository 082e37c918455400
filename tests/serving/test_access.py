"""Who gets what over HTTP: every operation of the table in `rights`, as everybody, about everybody's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from crm_core.alerts import Alert
from crm_core.clock import FixedClock
from crm_core.incoming.tray import Entry, ItemKind, put_in_tray
from crm_core.jobs import enqueue
from crm_core.mail_templates import Draft, save_template
from crm_core.predictions import NewPrediction, Prediction, write_predictions
from crm_core.promotions import Promotion
from crm_core.records import RECORD_TYPES, Record
from crm_core.saved import SavedReport, SavedView, Segment
from crm_core.sequences import Step, Wanted, save_sequence
from crm_core.store import Store, Transaction
from crm_core.tokens import Scope, Token, create_token, issue_token
from serving.api.records_schemas import COLLECTIONS
from serving.app import create_app
from serving.champions import RECORD_TYPE_OF, TASK_OF, Champions
from serving.settings import Settings
from tests.conftest import MONDAY
from tests.factories import make_account, make_contact, make_deal, make_lead
from tests.serving.api import Api, follow, turn
from tests.serving.conftest import Cast, logged_in, make_cast
from tests.serving.hand_made import HandMadeModel
from tests.serving.record_bodies import Sample, make_samples, path_of
from tests.serving.rights import (
    ADAM,
    ID,
    MARA,
    METRICS,
    ONE,
    OPEN,
    RULES,
    SEEN,
    TWIN,
    TYPES,
    WHOSE,
    WORK,
    Rule,
)

ROLES = tuple(WORK)
OWNED: Mapping[str, Callable[..., Record]] = {
    "lead": make_lead,
    "deal": make_deal,
    "account": make_account,
    "contact": make_contact,
}
"""What belongs to somebody by itself; the rest belongs to whoever has what it is about."""


@dataclass(frozen=True, kw_only=True)
class World:
    cast: Cast
    client: FlaskClient
    ids: dict[str, dict[str, Any]]
    """By what an operation is about, the ids by whose they are."""
    samples: dict[str, dict[str, Sample]]
    twins: dict[str, dict[str, int]]
    keys: dict[tuple[str, Scope], str] = field(default_factory=dict)
    paths: dict[str, Any] = field(default_factory=dict)
    """What the service says of its operations."""
    """Everybody's keys, each made for one thing."""

    def ask(
        self, operation: str, rule: Rule, key: str | None, *, about: str = "", whose: str = "own"
    ) -> TestResponse:
        method, path = operation.split(" ")
        headers = {**rule.headers, **({"Authorization": f"Bearer {key}"} if key else {})}
        body = self._body(operation, rule, about, whose)
        url = ("" if operation in {"GET /metrics", *OPEN} else "/api/v1") + self._filled(path, about, whose)
        asked: dict[str, Any] = (
            {"data": json.dumps(body), "content_type": "application/json"} if body is not None else {}
        )
        return self.client.open(f"{url}?{rule.query}", method=method, headers=headers, **asked)

    def _filled(self, path: str, about: str, whose: str) -> str:
        named = {
            "task": "churn",
            "version": "churn-1",
            "external_id": f"{about}-{whose}",
            "delivery_id": str(2**60),
            "key": "help",
            "day": "2026-05-01",
            "absence_id": str(2**60),
            **dict.fromkeys(("run_id", "user_id", "segment_id"), str(2**60)),
            "name": "none",
            "pipeline": "default",
            "stage": "needs",
            "id": str(self.ids[about][whose] if about else 2**60),
        }
        of_people = any(path.endswith(end) for end in ("/merge", "/distinct", "/scoring-opt-out"))
        plural = f"{about}s" if of_people else TYPES.get(about, "leads")
        named["type"] = "machine" if path.startswith("/custom/") else plural
        if path.startswith("/record-types/"):
            named["type"] = "lead"
        for name, value in named.items():
            path = path.replace(f"{{{name}}}", value)
        return path

    def _body(self, operation: str, rule: Rule, about: str, whose: str) -> Any:
        if isinstance(rule.body, str):
            made_of = about or next(name for name in self.samples["own"] if operation.endswith(_at(name)))
            sample = self.samples[whose][made_of]
            if rule.body == "change":
                return sample.change
            return sample.body | ({"email": "new@example.com"} if operation == "POST /users" else {})
        if not isinstance(rule.body, dict):
            return rule.body
        stands_for = {ID: self.ids[about][whose] if about else 0, ADAM: self.cast["Adam"].id}
        stands_for[MARA] = self.cast["Mara"].id
        stands_for[TWIN] = self.twins.get(about, {}).get(whose, 0)
        return {
            name: stands_for.get(value, value) if isinstance(value, str) else value
            for name, value in rule.body.items()
        }


def _at(record_type: str) -> str:
    return " " + path_of(record_type).removeprefix("/api/v1").replace("/machine", "/{type}")


# ------------------------------------------------------------------------------------------------ the world


@pytest.fixture(scope="module")
def world(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[World]:
    home = tmp_path_factory.mktemp("access")
    shutil.copy(empty_database, home / "crm.db")
    store = Store(f"sqlite:///{home / 'crm.db'}", clock=FixedClock(MONDAY))
    cast = make_cast(store, password_hash)
    _put_in_charge(store)
    champions = Champions(store, lambda task, promotion: HandMadeModel(model_version=promotion.model_version))
    settings = Settings(home=home, api_rate=0, anonymous_rate=0, login_rate=0)
    client = create_app(settings, store, champions).test_client()
    yield make_world(store, cast, client)
    store.close()


def _put_in_charge(store: Store) -> None:
    with store.transaction() as transaction:
        for task in RECORD_TYPE_OF:
            made = {"sha256": "0" * 64, "run_id": "hand", "reason": "made by hand"}
            transaction.session.add(
                Promotion(task=task, model_version=f"{task}-1", promoted_at=transaction.now, **made)
            )


def make_world(store: Store, cast: Cast, client: FlaskClient) -> World:
    """Make one of everything of everybody; what is deleted was Ana's."""
    owners = {"own": cast["Ana"].id, "team": cast["Ben"].id, "other": cast["Otto"].id, "nobody": None}
    owners["deleted"] = cast["Ana"].id
    samples = {whose: _samples(store, whose, owner) for whose, owner in owners.items()}
    ids: dict[str, dict[str, Any]] = {name: {} for name in (*COLLECTIONS, "key")}
    twins: dict[str, dict[str, int]] = {name: {} for name in OWNED}
    for whose, owner in owners.items():
        _create(cast, client, whose, owner, samples[whose], ids)
        with store.transaction() as transaction:
            for name, make in OWNED.items():
                ids[name][whose] = make(transaction, owner_id=owner, external_id=f"{name}-{whose}").id
                twins[name][whose] = make(transaction, owner_id=owner).id
    ids["spare lead"], ids["spare deal"] = twins["lead"], twins["deal"]
    world = World(cast=cast, client=client, ids=ids, samples=samples, twins=twins)
    with store.transaction() as transaction:
        _say(transaction, ids)
        _hand_out_keys(transaction, world, owners)
        for name in COLLECTIONS:
            gone = [ids[name]["deleted"], *([twins[name]["deleted"]] if name in twins else [])]
            for each in gone:
                transaction.delete(transaction.get(RECORD_TYPES[name], each))
        _keep_reports(transaction, ids, owners)
        ids["job"] = {"own": enqueue(transaction.session, "none", {}, now=transaction.now) or 0}
    hook = Api(client, cast, "Adam")("POST", "webhooks", RULES["POST /webhooks"].body)
    ids["webhook"] = {"own": hook.json["id"]}
    world.paths.update(client.get("/api/openapi.json").get_json()["paths"])
    keep_mail(store, world)
    return world


def _keep_reports(
    transaction: Transaction, ids: dict[str, dict[str, int]], owners: Mapping[str, int | None]
) -> None:
    """Have Ana, Ben and Otto keep two reports, segments and views each."""
    report: dict[str, Any] = {"asked": {"measures": ["deals_won"], "rows": "owner"}}
    north: dict[str, Any] = {"record_type": "lead", "filter": ["region:eq:North"]}
    for name, model, said in (
        *((name, SavedReport, report) for name in ("report", "spare report")),
        *((name, Segment, north) for name in ("segment", "spare segment")),
        *((name, SavedView, {"record_type": "lead", "asked": {}}) for name in ("view", "spare view")),
    ):
        made: dict[str, Any] = {
            whose: model(user_id=owners[whose], name=name, shared="own", saved_at=transaction.now, **said)
            for whose in ("own", "team", "other")
        }
        transaction.session.add_all(made.values())
        transaction.session.flush()
        missing = dict.fromkeys(("nobody", "deleted"), 2**60)
        ids[name] = missing | {whose: report.id for whose, report in made.items()}


def keep_mail(store: Store, world: World) -> None:
    """Put something into the tray about everybody's lead, and have a template and a sequence."""
    with store.transaction() as transaction:
        kept = {
            whose: put_in_tray(
                transaction,
                Entry(
                    kind=ItemKind.CHAT,
                    key=whose,
                    who="somebody",
                    title=whose,
                    said={"messages": [], "direction": "inbound"},
                    happened_at=transaction.now,
                    candidates=[("lead", lead)],
                ),
            ).id
            for whose, lead in world.ids["lead"].items()
        }
        world.ids["intake item"] = kept
        draft = Draft(name="Hello", subject="Hello", body="Hello")
        template = save_template(transaction, world.cast["Ana"], draft)
        world.ids["mail template"] = dict.fromkeys(WHOSE, 2**60) | {"own": template.id}
        shared = save_template(transaction, world.cast["Adam"], draft)
        wanted = Wanted(name="Warm up", record_type="lead", steps=(Step(template_id=shared.id),))
        world.ids["mail sequence"] = {"own": save_sequence(transaction, world.cast["Adam"], wanted).id}


def _samples(store: Store, whose: str, owner_id: int | None) -> dict[str, Sample]:
    made = make_samples(store, owner_id)
    user = made["user"]
    made["user"] = Sample(body={**user.body, "email": f"eve-{whose}@example.com"}, change=user.change)
    return made


def _create(
    cast: Cast,
    client: FlaskClient,
    whose: str,
    owner_id: int | None,
    samples: dict[str, Sample],
    ids: dict[str, dict[str, int]],
) -> None:
    """Create what belongs to nobody by itself, under an id from elsewhere."""
    adam = Api(client, cast, "Adam")
    for name, sample in samples.items():
        if name not in OWNED:
            # What is said on a record was said by whose it is: others may not change their words.
            words = {"owner_id": owner_id} if name == "comment" and owner_id is not None else {}
            path = f"{path_of(name)}/by-external-id/{name}-{whose}"
            made = adam("PUT", path, {**sample.body, **words})
            assert made.status_code == 201, (name, made.text)
            ids[name][whose] = made.json["id"]


def _say(transaction: Transaction, ids: dict[str, dict[str, int]]) -> None:
    """Say something of all that is scored, and raise an alert about each where there are any."""
    now = transaction.now
    for record_type, task in TASK_OF.items():
        said = [
            NewPrediction(record_id=each, probability=0.5, score=50, grade="B", reasons=[])
            for each in ids[record_type].values()
        ]
        about = {"task": task, "record_type": record_type, "model_version": f"{task}-1"}
        write_predictions(transaction, **about, as_of=now, horizon_days=90, predictions=said)
        query = select(Prediction.record_id, Prediction.id).where(Prediction.record_type == record_type)
        by_record: dict[int, int] = {each.record_id: each.id for each in transaction.session.execute(query)}
        ids[f"{record_type} prediction"] = {
            whose: by_record[each] for whose, each in ids[record_type].items()
        }
        if record_type == "lead":
            continue
        alerts = {
            whose: _alert(record_type, each, by_record[each], now) for whose, each in ids[record_type].items()
        }
        transaction.session.add_all(alerts.values())
        transaction.session.flush()
        ids[f"{record_type} alert"] = {whose: alert.id for whose, alert in alerts.items()}


def _alert(record_type: str, record_id: int, prediction_id: int, now: Any) -> Alert:
    return Alert(
        kind="deal_fall" if record_type == "deal" else "churn_level",
        record_type=record_type,
        record_id=record_id,
        cause=f"{record_type} {record_id}",
        prediction_id=prediction_id,
        probability=0.5,
        raised_at=now,
    )


def _hand_out_keys(transaction: Transaction, world: World, owners: Mapping[str, int | None]) -> None:
    session, now = transaction.session, transaction.now
    for whose, owner in owners.items():
        if owner is None:
            world.ids["key"][whose] = 2**60
            continue
        token: Token = issue_token(session, user_id=owner, name=whose, now=now).token
        session.flush()
        token.revoked_at = now if whose == "deleted" else None
        world.ids["key"][whose] = token.id
    for name in ROLES:
        for scope in Scope:
            world.keys[name, scope] = create_token(
                session, user_id=world.cast[name].id, name=scope, now=now, scopes=[scope]
            )


# ------------------------------------------------------------------------------------------------ the matrix


def test_every_operation_is_in_the_matrix(world: World) -> None:
    paths = world.client.get("/api/openapi.json").get_json()["paths"]
    declared = {
        f"{method.upper()} {path.removeprefix('/api/v1')}" for path, item in paths.items() for method in item
    }
    assert declared == {*RULES, *OPEN, "GET /metrics"}


def test_every_person_sees_and_does_what_the_table_says(world: World) -> None:
    assert set(ROLES) == {"Ana", "Mara", "Dana", "Adam"}
    assert {rule.scope for rule in RULES.values()} == set(Scope), "each scope opens something"


@pytest.mark.parametrize("operation", [*RULES, "GET /metrics"])
def test_everybody_gets_what_they_may_and_nothing_else(world: World, operation: str) -> None:
    rule = METRICS if operation == "GET /metrics" else RULES[operation]
    for name in reversed(ROLES):
        key = world.keys[name, rule.scope]
        for about in rule.about or ("",):
            for whose in (WHOSE if SEEN[about] is not ONE else ("own",)) if about else ("own",):
                answer = world.ask(operation, rule, key, about=about, whose=whose)
                expected = _expected(rule, name, about, whose)
                assert answer.status_code in expected, (name, about, whose, expected, answer.text[:300])
                look_at_headers(world, operation, (world.keys[name, Scope.READ], key), answer)


def look_at_headers(world: World, operation: str, keys: tuple[str, str], answer: TestResponse) -> None:
    """Find that an answer has the headers that are promised, and that what was created can be read there."""
    method, path = operation.split(" ")
    described = world.paths.get(f"/api/v1{path}", {}).get(method.lower(), {}).get("responses", {})
    headers = described.get(str(answer.status_code), {}).get("headers", {})
    needed = {name for name, header in headers.items() if header.get("required")}
    assert needed <= set(answer.headers.keys()), (operation, answer.status_code)
    if answer.status_code == 201:
        where = answer.headers["Location"]
        read = [world.client.get(where, headers={"Authorization": f"Bearer {key}"}) for key in keys]
        assert 200 in {each.status_code for each in read}, (operation, where, read[0].text[:300])
        tags = {each.headers.get("ETag", "none").split("-")[0] for each in read}
        assert "ETag" not in needed or answer.headers["ETag"].split("-")[0] in tags


def _expected(rule: Rule, name: str, about: str, whose: str) -> frozenset[int]:
    seen = not about or whose in SEEN[about][name]
    if name in rule.who:
        return rule.given if seen else rule.unseen
    # Whoever may do it with nothing may be told so before anything is looked for.
    return frozenset({403}) if seen else rule.unseen | {403}


@pytest.mark.parametrize("operation", [*RULES, "GET /metrics"])
def test_a_key_opens_what_it_was_made_for_and_nothing_else(world: World, operation: str) -> None:
    rule = METRICS if operation == "GET /metrics" else RULES[operation]
    about = rule.about[0] if rule.about else ""
    for key in (None, "crm_unknown"):
        assert world.ask(operation, rule, key, about=about).status_code == 401
    for scope in set(Scope) - {rule.scope}:
        answer = world.ask(operation, rule, world.keys["Adam", scope], about=about)
        refused = (403, "urn:crm:problem:insufficient-scope")
        assert (answer.status_code, answer.get_json()["type"]) == refused, scope


@pytest.mark.parametrize("operation", sorted(OPEN))
def test_health_needs_no_key(world: World, operation: str) -> None:
    assert world.ask(operation, Rule(scope=Scope.READ), None).status_code == 200


def test_metrics_need_one() -> None:
    assert METRICS.who == {"Dana", "Adam"}


# ------------------------------------------------------------------------------------------------ lists


def api_of(world: World, name: str) -> Api:
    return Api(world.client, world.cast, name)


def seen_ids(world: World, name: str, about: str) -> set[int]:
    return {world.ids[about][whose] for whose in SEEN[about][name]}


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("record_type", COLLECTIONS)
def test_lists_hold_what_may_be_seen_and_nothing_else(world: World, name: str, record_type: str) -> None:
    query = "?limit=200" + ("&status=any" if record_type in {"lead", "deal"} else "")
    items = api_of(world, name)("GET", path_of(record_type) + query).json["items"]
    listed = {item["id"] for item in items} & set(world.ids[record_type].values())
    assert listed == seen_ids(world, name, record_type)


@pytest.mark.parametrize("name", ROLES)
def test_alerts_and_feedback_are_listed_of_what_may_be_seen(world: World, name: str) -> None:
    api = api_of(world, name)
    alerts = {
        (each["record_type"], each["record_id"]) for each in api("GET", "alerts?limit=200").json["items"]
    }
    seen = {(kind, each) for kind in ("deal", "account") for each in seen_ids(world, name, kind)}
    assert alerts == seen
    past = {(each["record_type"], each["record_id"]) for each in turn(api, "alerts/past?limit=2")}
    assert past == seen
    said = {each["prediction_id"] for each in api("GET", "feedback?limit=200").json["items"]}
    kinds = [about for about in SEEN if about.endswith("prediction")]
    assert said <= {each for kind in kinds for each in seen_ids(world, name, kind)}


@pytest.mark.parametrize("name", ROLES)
def test_the_feed_tells_of_what_may_be_seen(world: World, name: str) -> None:
    changes, _ = follow(api_of(world, name), "0", 1000)
    for record_type in OWNED:
        told = {each["record_id"] for each in changes if each["record_type"] == record_type}
        may = {*WORK[name], *(["deleted"] if "own" in WORK[name] else [])}  # that it is gone is told
        hidden = {each for whose, each in world.ids[record_type].items() if whose not in may}
        assert not told & hidden, record_type
        assert seen_ids(world, name, record_type) <= told, record_type


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("record_type", TYPES)
def test_rows_of_many_scores_are_those_of_one_each(world: World, name: str, record_type: str) -> None:
    ids = world.ids[record_type]
    rows = api_of(world, name)("POST", f"{TYPES[record_type]}/scores", {"ids": list(ids.values())}).json[
        "items"
    ]
    told = {whose: row["status"] for whose, row in zip(ids, rows, strict=True)}
    unseen = set(WHOSE) - WORK[name]
    assert {whose for whose, status in told.items() if status == 404} == unseen


@pytest.mark.parametrize("name", ["Ana", "Mara", "Adam"])
def test_rows_of_a_batch_are_those_of_one_each(world: World, name: str) -> None:
    types = ("lead", "deal", "account", "order", "comment", "product", "user")
    tried = [(each, whose) for each in types for whose in WHOSE]
    operations = [
        {"op": "update", "type": path_of(each).rsplit("/", 1)[1], "id": world.ids[each][whose], "record": {}}
        for each, whose in tried
    ]
    rows = api_of(world, name)("POST", "batch", {"operations": operations}).json["results"]
    for (each, whose), row in zip(tried, rows, strict=True):
        rule = RULES[f"PATCH /{path_of(each).rsplit('/', 1)[1]}/{{id}}"]
        assert row["status"] in _expected(rule, name, each, whose), (each, whose, row)


@pytest.mark.parametrize("name", ROLES)
def test_hits_and_duplicates_are_what_may_be_seen(world: World, name: str) -> None:
    headers = world.cast.header(name)
    hits = world.client.get("/api/v1/search?q=Fangda&type=lead&limit=100", headers=headers).get_json()[
        "items"
    ]
    seen = {world.ids["lead"][whose] for whose in WORK[name]}
    assert {hit["id"] for hit in hits} & set(world.ids["lead"].values()) == seen
    found = world.client.get("/api/v1/duplicates?record_type=lead&limit=200", headers=headers).get_json()
    paired = {pair[side]["id"] for pair in found["items"] for side in ("first", "second")}
    assert paired & set(world.ids["lead"].values()) <= seen
    assert len(seen) < 2 or seen <= paired


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
@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("collection", ["leads", "deals", "customers"])
def test_pages(world: World, name: str, whose: str, collection: str) -> None:
    record_id = world.ids[{path: each for each, path in TYPES.items()}[collection]][whose]
    with logged_in(world.client.application, world.cast[name]) as client:
        for path in (f"/{collection}/{record_id}", f"/{collection}/{record_id}/score?seen=0"):
            assert client.get(path).status_code == (200 if whose in WORK[name] else 404), path
        listed = f'href="/{collection}/{record_id}"' in client.get(f"/{collection}").text
        assert listed == (whose in WORK[name])


@pytest.mark.parametrize(("name", "status"), [("Ana", 403), ("Mara", 403), ("Dana", 200), ("Adam", 200)])
def test_the_models_page_is_for_those_who_may_promote(world: World, name: str, status: int) -> None:
    with logged_in(world.client.application, world.cast[name]) as client:
        assert client.get("/models").status_code == status
