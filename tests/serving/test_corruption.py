"""Three hundred models that are cut, flipped, swapped or made up: none serves, and the one before goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from crm_core.clock import FixedClock
from crm_core.columns import dump_json
from crm_core.predictions import NewPrediction, Prediction
from crm_core.promotions import Promotion
from crm_core.records import Lead
from crm_core.store import Store
from models.bundle import ModelBundle, sha256_of
from serving.app import create_app
from serving.champions import Champions
from serving.home import Home
from serving.modelling import scorer_loader
from serving.rescoring import Rescorer
from serving.settings import Settings
from tests.factories import make_lead
from tests.features.worlds import fill_store
from tests.models.test_lineage import WORLD, make_model

TASK = "lead_scoring"
HOW_MANY = 300


@dataclass
class Place:
    """A service on a store, with a champion that serves, and models that may be spoilt."""

    store: Store
    home: Home
    champions: Champions
    good: ModelBundle
    lead: int
    asked: datetime

    def promote(self, data: bytes, *, sha256: str, version: str) -> int:
        """Lay bytes where a model of that name is looked for, and put it in charge."""
        path = self.home.models / f"{sha256}.json"
        path.write_bytes(data)
        assert isinstance(self.store.clock, FixedClock)
        self.store.clock.advance(timedelta(minutes=1))
        with self.store.transaction() as transaction:
            row = Promotion(
                task=TASK,
                model_version=version,
                sha256=sha256,
                run_id="nowhere",
                promoted_at=transaction.now,
                reason="a test",
            )
            transaction.session.add(row)
            transaction.session.flush()
            return row.id

    def answer(self) -> NewPrediction:
        (said,) = self.champions.get(TASK).scorer.score(self.store, [self.lead], self.asked)
        return said


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Place]:
    """A service whose first model serves."""
    folder = tmp_path_factory.mktemp("corruption")
    home = Home.at(folder)
    home.create()
    home.database.write_bytes(empty_database.read_bytes())
    store = fill_store(WORLD, home.database_url)
    with store.transaction() as transaction:
        lead = make_lead(transaction).id
    good = make_model(store, TASK)
    content = json.loads(good.to_bytes())
    content["levels"] = [level + 0.5 for level in content["levels"]]
    other = dump_json(content).encode()
    champions = Champions(store, scorer_loader(home, store))
    made = Place(store, home, champions, good, lead, store.clock.now())
    made.promote(good.to_bytes(), sha256=good.sha256, version=named(good.to_bytes()))
    assert champions.refresh() == [TASK]
    made.promote(other, sha256=sha256_of(other), version=named(other, 2))
    assert champions.refresh() == [TASK], "what is not spoilt does serve"
    made.promote(good.to_bytes(), sha256=good.sha256, version=named(good.to_bytes()))
    assert champions.refresh() == [TASK]
    (home.models / f"{sha256_of(other)}.json").write_bytes(other)
    yield made
    store.close()


def named(data: bytes, number: int = 1) -> str:
    return f"{TASK}-{number}-{sha256_of(data)[:8]}"


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def overwrite(data: bytes, chance: random.Random) -> bytes:
    place, many = chance.randrange(len(data)), chance.randrange(1, 4096)
    return data[:place] + chance.randbytes(many) + data[place + many :]


def move(data: bytes, chance: random.Random) -> bytes:
    first, second, third = sorted(chance.sample(range(1, len(data)), 3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


DAMAGES = (cut, flip, overwrite, move)


def check_refused(place: Place, row: int, expected: NewPrediction, what: str = "") -> str:
    """The newest promotion is in trouble and the one before serves on; return what is said of it."""
    before = place.champions.get(TASK)
    assert place.champions.refresh() == [], what
    trouble = place.champions.troubles[TASK]
    assert trouble.promotion_id == row
    assert trouble.detail
    assert place.champions.get(TASK) is before
    assert before.scorer.model_version == named(place.good.to_bytes())
    if row % 10 == 0:  # the same object answers in between
        assert place.answer() == expected
    return trouble.error


def test_three_hundred_spoilt_files_are_refused_and_the_model_before_serves_on(place: Place) -> None:
    chance, expected = random.Random(8), place.answer()
    tried = 0
    for number in range(170):
        data = place.good.to_bytes().replace(b'"variant":""', b'"variant":" "')
        spoilt = DAMAGES[number % 4](data, chance)
        if spoilt != data:
            tried += 1
            row = place.promote(spoilt, sha256=sha256_of(data), version=named(data, 3))
            assert check_refused(place, row, expected) == "DamagedModelError"
    swapped = list(swapped_files(place))
    for data, sha256, version in swapped:
        row = place.promote(data, sha256=sha256, version=version)
        assert check_refused(place, row, expected) in {"DamagedModelError", "FeatureSetMismatchError"}
    made_up = list(made_up_files(place.good, chance))
    for what, data in made_up:
        row = place.promote(data, sha256=sha256_of(data), version=named(data, 4))
        assert check_refused(place, row, expected, what) in {"DamagedModelError", "FeatureSetMismatchError"}
    assert tried + len(swapped) + len(made_up) >= HOW_MANY


def swapped_files(place: Place) -> Iterator[tuple[bytes, str, str]]:
    """Yield whole, sound files in the wrong place: bytes, the sum that is asked for, and the version."""
    good = place.good.to_bytes()
    sound = [good, *(make_model(place.store, task).to_bytes() for task in ("win_probability", "churn"))]
    for data in sound:
        # Under the name of a file that it is not: told by its sum.
        for other in (b"another", b"a third", b"a fourth"):
            yield data, sha256_of(other), named(other, 3)
    for data in sound[1:]:
        # With a row that was tampered with to fit: told by its task, or by the version's own name.
        yield data, sha256_of(data), named(data, 3)
        yield data, sha256_of(data), named(good)
    content = json.loads(good) | {"levels": [0.1, 0.2, 0.3]}
    yield dump_json(content).encode(), sha256_of(dump_json(content).encode()), named(good)


def made_up_files(good: ModelBundle, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield files that are JSON with a sum of their own, as if the promotion's row was tampered with too."""
    content = json.loads(good.to_bytes())
    for name, value in WRONG_VALUES:
        yield f"{name} {value!r}"[:80], json.dumps({**content, name: value}).encode()
    yield "of the format before", dump_json({**content, "format": 1}).encode()
    for path in KEYS_WITHIN:
        yield f"without {'.'.join(path)}", dump_json(without(content, path)).encode()
    for name in content:
        yield f"without {name}", dump_json(without(content, (name,))).encode()
    for what, change in WRONG_TREES.items():
        for _ in range(3):
            estimator = {**content["estimator"], "trees": change(content["estimator"]["trees"], chance)}
            yield what, dump_json({**content, "estimator": estimator}).encode()
    for what, data in NO_MODELS.items():
        yield what, data


def without(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return a copy of a file's content from which one key was dropped."""
    first, *rest = path
    kept = {name: value for name, value in content.items() if rest or name != first}
    return {**kept, first: without(content[first], tuple(rest))} if rest else kept


KEYS_WITHIN = [
    *(("calibration", name) for name in ("intercept", "slope", "knots")),
    *(("estimator", name) for name in ("card", "linear", "trees")),
    *(("usual", name) for name in ("by", "middle", "reach", "records")),
    *(("familiar", name) for name in ("most", "seen")),
    *(("trained", name) for name in ("as_of", "says_probability")),
]
"""Keys below the first level without which a file is damaged, whatever the kind of model."""

WRONG_VALUES: list[tuple[str, Any]] = [
    ("format", 99),
    ("format", None),
    ("task", "churn"),
    ("task", None),
    ("record_type", "deal"),
    ("record_type", 7),
    ("feature_set_fingerprint", "0" * 64),
    ("features", []),
    ("features", ["no_such_feature"]),
    ("features", "source"),
    ("features", None),
    ("encoder", []),
    ("encoder", [["source", "colour", None]]),
    ("encoder", [["source", "number", None]] * 2),
    ("encoder", {"a": 1}),
    ("estimator", {}),
    ("estimator", None),
    ("estimator", {"linear": None, "trees": "tree\nversion=v4\n"}),
    ("estimator", {"linear": {"scale": {}}, "trees": None}),
    ("levels", []),
    ("levels", [1e999, 0.0, 0.0]),
    ("levels", [[0.0], [0.0], [0.0]]),
    ("levels", "none"),
    ("fading", [1.0]),
    ("fading", [None, None, None]),
    ("calibration", {"intercept": 0.0, "slope": None}),
    ("calibration", {"intercept": 1e999, "slope": 1.0}),
    ("calibration", {"intercept": "none", "slope": []}),
    ("percentiles", []),
    ("percentiles", [0.5] * 100 + [0.1]),
    ("percentiles", [7.0] * 101),
    ("horizon_days", 45),
    ("horizon_days", 0),
    ("horizon_days", "90"),
    ("horizons_days", [30, 60, 9_000]),
    ("horizons_days", [90, 60, 30]),
    ("horizons_days", []),
    ("intervals_days", [90, 30, 7]),
    ("intervals_days", []),
    ("intervals_days", [7, 7, 90]),
    ("intervals_days", [7, 30, 10**400]),
    ("grade_from", [10, 20, 30]),
    ("grade_from", []),
    ("grade_from", [90, 70, "40"]),
    ("high_is_good", "yes"),
    ("trained", None),
    ("trained", {}),
    ("trained", {"as_of": "today"}),
]


def change_line(name: str, change: Callable[[list[str], random.Random], list[str]]) -> Any:
    """Return what changes the numbers of one line of LightGBM's text, in a tree chosen by chance."""

    def changed(text: str, chance: random.Random) -> str:
        lines = text.splitlines()
        places = [
            at for at, line in enumerate(lines) if line.startswith(f"{name}=") and len(line.split()) > 1
        ]
        at = chance.choice(places)
        lines[at] = f"{name}=" + " ".join(change(lines[at].partition("=")[2].split(), chance))
        return "\n".join(lines) + "\n"

    return changed


def one(value: str) -> Callable[[list[str], random.Random], list[str]]:
    """Return what puts a value in the place of one number."""

    def put(numbers: list[str], chance: random.Random) -> list[str]:
        at = chance.randrange(len(numbers))
        return [*numbers[:at], value, *numbers[at + 1 :]]

    return put


WRONG_TREES: dict[str, Callable[[str, random.Random], str]] = {
    "a branch back to the root": change_line("left_child", one("0")),
    "a branch to nowhere": change_line("right_child", one("999999")),
    "a branch to no leaf": change_line("left_child", one("-999999")),
    "a column that is not there": change_line("split_feature", one("100000")),
    "a column below none": change_line("split_feature", one("-1")),
    "a threshold that is none": change_line("threshold", one("nan")),
    "a leaf without a number": change_line("leaf_value", one("inf")),
    "a leaf of a word": change_line("leaf_value", one("many")),
    "fewer leaves than said": change_line("leaf_value", lambda numbers, _: numbers[:-1]),
    "fewer counts than leaves": change_line("leaf_count", lambda numbers, _: numbers[1:]),
    "rows below none": change_line("leaf_count", one("-5")),
    "decisions of no kind": change_line("decision_type", one("255")),
    "half of the text": lambda text, chance: text[: chance.randrange(len(text) // 2)],
    "the first tree twice": lambda text, _: text.replace("Tree=1\n", "Tree=0\n", 1),
    "no end": lambda text, _: text.replace("end of trees", "no end"),
}

NO_MODELS = {
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 200_000,
    "no text": b"\xff\xfe\x00",
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "a zip": b"PK\x03\x04" + bytes(100),
    "a huge number": b'{"format": ' + b"9" * 5_000 + b"}",
}


def test_the_fault_is_said_where_one_looks_for_it_and_scores_keep_coming(place: Place) -> None:
    data = place.good.to_bytes()[:-9]
    place.promote(data, sha256=sha256_of(b"whole"), version=named(b"whole", 5))
    place.champions.refresh()
    app = create_app(Settings(home=place.home.folder), place.store, place.champions)
    told = app.test_client().get("/readyz").get_json()
    assert told["status"] == "degraded"
    (part,) = [part for part in told["parts"] if part["name"] == f"{TASK}.next"]
    assert (part["ok"], part["detail"]) == (False, f"{named(b'whole', 5)}: DamagedModelError")
    rescorer = Rescorer(place.store, place.champions)
    while rescorer.run_once():
        pass
    with place.store.reading() as session:
        found = session.scalars(select(Prediction.model_version).where(Prediction.record_id == place.lead))
        assert set(found) == {named(place.good.to_bytes())}
        assert session.get_one(Lead, place.lead).model_version == named(place.good.to_bytes())


def test_with_nothing_before_it_a_spoilt_model_leaves_the_service_without_a_score_and_alive(
    place: Place, tmp_path: Path
) -> None:
    place.promote(b"{}", sha256=sha256_of(b"{}"), version=named(b"{}", 6))
    champions = Champions(place.store, scorer_loader(place.home, place.store))
    app = create_app(Settings(home=place.home.folder), place.store, champions)
    assert champions.refresh() == []
    assert app.test_client().get("/healthz").status_code == 200
    assert np.isfinite(place.answer().probability or np.nan)
