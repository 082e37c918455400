"""Models in MLflow, what serves, and the way back."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from sqlalchemy import update

from crm_core.clock import FixedClock, micros
from crm_core.errors import AccessDeniedError, DamagedModelError, ModelNotFoundError, NoChampionError
from crm_core.promotions import Promotion, find_champion, find_served, list_promotions
from crm_core.store import Store
from models.bundle import ModelBundle
from models.kept import keep_bytes, kept_file
from models.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    Registry,
    Run,
    Version,
    nominate,
    promote,
    put_aliases_right,
    rollback,
)
from models.scoring import load_champion
from tests.factories import make_user
from tests.models.conftest import NOW, open_registry
from tests.models.test_bundle import RECIPES, make_bundle, make_frame

TASK = "lead_scoring"

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where the tracking database keeps a path."""


def _register(registry: Registry, bundle: ModelBundle) -> Version:
    run = Run(
        task=TASK,
        name="a run",
        parameters={"penalty": 1.0},
        metrics={"auc_90d": 0.7},
        tags={"estimator": "logistic"},
        files={"report.json": b"{}"},
        fixed_at=micros(NOW),
    )
    return registry.log_training(run, bundle)


@pytest.fixture(scope="module")
def bundles() -> dict[str, ModelBundle]:
    """Three models."""
    return {name: make_bundle(make_frame(), recipe) for name, recipe in RECIPES.items()}


@pytest.fixture(scope="module")
def registered(
    bundles: dict[str, ModelBundle], tracking_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Version]]:
    """A home with three registered models, to be copied, as registering takes seconds."""
    home = tmp_path_factory.mktemp("registered")
    registry = open_registry(home, tracking_template)
    return home, [_register(registry, bundles[name]) for name in ("base rate", "logistic", "trees")]


@pytest.fixture
def versions(registry: Registry, home: Path, registered: tuple[Path, list[Version]]) -> list[Version]:
    """Three registered models, the first to be made first."""
    made, versions = registered
    shutil.copytree(made, home, dirs_exist_ok=True)
    with closing(sqlite3.connect(home / "mlflow.db")) as tracking, tracking:
        for table, column in PLACES:
            tracking.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(made), str(home)))
        told = "\n".join(tracking.iterdump())
    assert str(made) not in told, "a place is written down somewhere else too"
    return versions


def _serve(store: Store, registry: Registry, version: Version, **given: Any) -> None:
    promote(store, registry, TASK, version, **({"actor_id": None, "reason": "a test"} | given))


def _serving(store: Store) -> str | None:
    with store.reading() as session:
        found = find_champion(session, TASK)
        return None if found is None else found.model_version


def _aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.list_versions(TASK) for alias in version.aliases}


def test_a_version_is_named_by_task_number_and_sum(
    registry: Registry, versions: list[Version], bundles: dict[str, ModelBundle]
) -> None:
    assert [version.number for version in registry.list_versions(TASK)] == [3, 2, 1]
    assert versions[1].name == f"lead_scoring-2-{bundles['logistic'].sha256[:8]}"
    assert registry.get_version_by_name(versions[1].name) == versions[1]
    assert registry.get_version_by_name("lead_scoring-2") == versions[1]


@pytest.mark.parametrize(
    "name", ["lead_scoring-9", "lead_scoring-2-00000000", "nonsense", "churn-1", "a'b-1", ""]
)
def test_a_version_that_is_not_there_is_not_found(
    registry: Registry, versions: list[Version], name: str
) -> None:
    with pytest.raises(ModelNotFoundError):
        registry.get_version_by_name(name)


def test_what_was_registered_comes_back_to_the_byte(
    registry: Registry, versions: list[Version], bundles: dict[str, ModelBundle]
) -> None:
    assert registry.fetch(versions[2].run_id) == bundles["trees"].to_bytes()
    assert registry.load(versions[2]).version == versions[2].name


def test_promotion_is_a_row_an_alias_and_a_file(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    _serve(store, registry, versions[0])
    assert _serving(store) == versions[0].name
    assert _aliases(registry) == {CHAMPION: 1}
    assert kept_file(registry.models_folder, versions[0].sha256).exists()


def test_the_one_before_is_called_previous_and_a_challenger_no_longer(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    _serve(store, registry, versions[0])
    registry.set_alias(TASK, CHALLENGER, 2)
    _serve(store, registry, registry.get_version(TASK, 2))
    assert _aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}


def test_rolling_back_goes_back_one_by_one_and_then_refuses(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    for version in versions:
        _serve(store, registry, version)
    rollback(store, registry, TASK, actor_id=None, reason="worse")
    assert _serving(store) == versions[1].name
    rollback(store, registry, TASK, actor_id=None, reason="worse still")
    assert _serving(store) == versions[0].name
    with pytest.raises(ModelNotFoundError, match="no model served before"):
        rollback(store, registry, TASK, actor_id=None, reason="further")
    with store.reading() as session:
        assert len(list_promotions(session, TASK)) == 5


def test_after_a_rollback_the_next_promotion_rolls_back_to_what_served(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    _serve(store, registry, versions[0])
    _serve(store, registry, versions[1])
    rollback(store, registry, TASK, actor_id=None, reason="worse")
    _serve(store, registry, versions[2])
    rollback(store, registry, TASK, actor_id=None, reason="worse")
    assert _serving(store) == versions[0].name


def test_a_rep_may_not_promote_and_an_analyst_may(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    with store.transaction() as transaction:
        ana = make_user(transaction, "Ana")
        dana = make_user(transaction, "Dana", role="analyst")
    with pytest.raises(AccessDeniedError):
        _serve(store, registry, versions[0], actor_id=ana.id)
    assert _serving(store) is None
    assert _aliases(registry) == {}
    _serve(store, registry, versions[0], actor_id=dana.id, reason="looks right", gate={"passed": True})
    with store.reading() as session:
        row = find_champion(session, TASK)
    assert row is not None
    assert (row.actor_id, row.reason, row.gate) == (dana.id, "looks right", {"passed": True})


def test_a_failing_alias_leaves_what_served_in_charge(
    store: Store, registry: Registry, versions: list[Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(store, registry, versions[0])
    monkeypatch.setattr(registry, "set_alias", _fail)
    with pytest.raises(RuntimeError):
        _serve(store, registry, versions[1])
    assert _serving(store) == versions[0].name


def _fail(*_: object) -> NoReturn:
    raise RuntimeError


def test_the_champion_is_read_from_the_folder_without_mlflow(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    _serve(store, registry, versions[1])
    bundle = load_champion(store, TASK, registry.models_folder, _fail)
    assert bundle.version == versions[1].name


def test_a_champion_missing_in_the_folder_is_fetched_and_kept(
    store: Store, registry: Registry, versions: list[Version], tmp_path: Path
) -> None:
    _serve(store, registry, versions[1])
    bundle = load_champion(store, TASK, tmp_path / "elsewhere", lambda: registry)
    assert bundle.sha256 == versions[1].sha256
    assert load_champion(store, TASK, tmp_path / "elsewhere", _fail).sha256 == versions[1].sha256


def test_without_a_champion_it_says_how_to_get_one(store: Store, registry: Registry) -> None:
    with pytest.raises(NoChampionError, match="crm train lead_scoring"):
        load_champion(store, TASK, registry.models_folder, lambda: registry)


@pytest.mark.parametrize("damage", ["cut", "flipped", "swapped", "empty"])
def test_a_damaged_champion_is_refused_and_repaired_only_by_hand(
    store: Store, registry: Registry, versions: list[Version], damage: str
) -> None:
    _serve(store, registry, versions[1])
    _serve(store, registry, versions[2])
    path = kept_file(registry.models_folder, versions[2].sha256)
    data = path.read_bytes()
    swapped = kept_file(registry.models_folder, versions[1].sha256).read_bytes()
    path.write_bytes(
        {"cut": data[:-7], "flipped": bytes([data[0] ^ 4]) + data[1:], "swapped": swapped, "empty": b""}[
            damage
        ]
    )
    with pytest.raises(DamagedModelError, match=versions[2].sha256):
        load_champion(store, TASK, registry.models_folder, lambda: registry)


def test_a_model_damaged_in_mlflow_is_neither_promoted_nor_kept(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    (stored,) = Path(registry.artifact_root).glob(f"**/{versions[0].run_id}/**/bundle.json")
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(DamagedModelError):
        _serve(store, registry, versions[0])
    assert _serving(store) is None
    assert not kept_file(registry.models_folder, versions[0].sha256).exists()


def test_a_model_of_another_task_is_not_promoted_and_does_not_serve(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    with pytest.raises(DamagedModelError, match="is to serve churn, but its file is one of lead_scoring"):
        promote(store, registry, "churn", versions[0], actor_id=None, reason="a mistake")
    _serve(store, registry, versions[0])
    with store.transaction() as transaction:
        transaction.session.execute(update(Promotion).values(task="churn"))
    with pytest.raises(DamagedModelError, match="serves churn, but its file is one of lead_scoring"):
        load_champion(store, "churn", registry.models_folder, lambda: registry)


def test_bytes_are_kept_only_under_their_own_name(tmp_path: Path) -> None:
    with pytest.raises(DamagedModelError):
        keep_bytes(tmp_path, b"something", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_mlflow_loads_the_model_and_answers_as_we_do(
    registry: Registry, versions: list[Version], bundles: dict[str, ModelBundle]
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    (folder,) = Path(registry.artifact_root).glob(f"**/{versions[1].run_id}/**/MLmodel")
    loaded = mlflow.pyfunc.load_model(str(folder.parent))
    assert {column.type.name for column in loaded.metadata.signature.inputs} == {"double"}
    bundle, frame = bundles["logistic"], make_frame(seed=9)
    names = [column.name for column in bundle.encoder.columns]
    answered = loaded.predict(pd.DataFrame(bundle.encoder.encode(frame), columns=names))
    expected = bundle.predict(frame).within
    for days in (30, 60, 90):
        np.testing.assert_allclose(answered[f"probability_{days}d"], expected[days], rtol=0, atol=1e-12)


def test_a_crash_between_the_alias_and_the_row_is_put_right_by_what_is_done_next(
    store: Store, registry: Registry, versions: list[Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    _serve(store, registry, versions[0])
    _serve(store, registry, versions[1])
    with monkeypatch.context() as patch:
        patch.setattr(registry, "remove_alias", _fail)  # the last step, after the aliases were moved
        registry.set_alias(TASK, CHALLENGER, 3)
        with pytest.raises(RuntimeError):
            promote(store, registry, TASK, registry.get_version(TASK, 3), actor_id=None, reason="a test")
    registry.set_alias(TASK, CHAMPION, 3)
    registry.set_alias(TASK, PREVIOUS, 2)
    assert _serving(store) == versions[1].name
    assert put_aliases_right(store, registry, TASK) == [CHAMPION, PREVIOUS, CHALLENGER]
    assert _aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    assert put_aliases_right(store, registry, TASK) == []


def test_a_challenger_is_a_row_an_alias_and_a_file_until_it_serves(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    _serve(store, registry, versions[0])
    row = nominate(store, registry, versions[1])
    assert (row.model_version, row.sha256) == (versions[1].name, versions[1].sha256)
    assert _aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}
    assert kept_file(registry.models_folder, versions[1].sha256).exists()
    _serve(store, registry, registry.get_version(TASK, 2))
    assert _aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    rollback(store, registry, TASK, actor_id=None, reason="worse")
    assert _aliases(registry) == {CHAMPION: 1, PREVIOUS: 2}


def test_the_history_tells_what_served_at_any_instant(
    store: Store, registry: Registry, versions: list[Version], clock: FixedClock
) -> None:
    began = clock.now()
    for version in versions[:2]:
        clock.advance(timedelta(days=1))
        _serve(store, registry, version)
    clock.advance(timedelta(days=1))
    rollback(store, registry, TASK, actor_id=None, reason="worse")
    served = []
    with store.reading() as session:
        for days in (0.9, 1, 1.5, 2, 2.9, 3, 9):
            found = find_served(session, TASK, began + timedelta(days=days))
            served.append(None if found is None else found.model_version)
    first, second = versions[0].name, versions[1].name
    assert served == [None, first, first, second, second, first, first]


UNPICKLERS = """
import pickle, _pickle, joblib, cloudpickle, sys
def refuse(*given, **named):
    raise AssertionError("something was unpickled")
for module in (pickle, _pickle, cloudpickle):
    module.load = module.loads = refuse
pickle.Unpickler = _pickle.Unpickler = joblib.load = refuse
try:
    import skops.io
    skops.io.load = skops.io.loads = refuse
except ImportError:
    pass
"""

ELSEWHERE = (
    UNPICKLERS
    + """
import json, math
import mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
import models.bundle
asked = json.load(open(sys.argv[2]))
rows = pandas.DataFrame([[math.nan if cell is None else cell for cell in row] for row in asked["data"]],
                        columns=asked["columns"])
told = model.predict(rows)
print(json.dumps({"file": models.bundle.__file__, "told": told.to_dict("list"),
                  "scikit": "sklearn" in sys.modules}))
"""
)


def asked_of(bundle: ModelBundle, many: int = 40) -> dict[str, Any]:
    """Return encoded rows as MLflow's server takes them; a missing number is null."""
    matrix = bundle.encoder.encode(make_frame(many, seed=9))
    rows = [[None if np.isnan(cell) else cell for cell in row] for row in matrix.tolist()]
    return {"columns": [column.name for column in bundle.encoder.columns], "data": rows}


def check_answers(bundle: ModelBundle, told: dict[str, list[float]], many: int = 40) -> None:
    expected = bundle.predict(make_frame(many, seed=9)).within
    assert set(told) == {f"probability_{days}d" for days in expected}
    for days, values in expected.items():
        np.testing.assert_allclose(told[f"probability_{days}d"], values, rtol=0, atol=1e-12)


def folder_of(registry: Registry, version: Version) -> Path:
    (found,) = Path(registry.artifact_root).glob(f"**/{version.run_id}/**/MLmodel")
    return found.parent


def environment() -> dict[str, str]:
    """Return an environment in which the checkout is not on the path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": programs}


def test_a_process_that_knows_nothing_of_the_checkout_loads_it_and_unpickles_nothing(
    registry: Registry, versions: list[Version], bundles: dict[str, ModelBundle], tmp_path: Path
) -> None:
    bundle = bundles["trees"]
    (tmp_path / "rows.json").write_text(json.dumps(asked_of(bundle)))
    program = [sys.executable, "-P", "-c", WITHOUT_CHECKOUT + ELSEWHERE]
    done = subprocess.run(
        [*program, str(folder_of(registry, versions[2])), str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["file"].startswith(str(folder_of(registry, versions[2])))
    check_answers(bundle, told["told"])


WITHOUT_CHECKOUT = """
import sys
from pathlib import Path
sys.path = [place for place in sys.path if not Path(place, "models", "bundle.py").exists()]
try:
    import models.bundle
except ImportError:
    pass
else:
    raise AssertionError("the checkout is on the path: nothing would be shown")
"""


def test_mlflow_serves_the_model_and_answers_as_we_do(
    registry: Registry, versions: list[Version], bundles: dict[str, ModelBundle], tmp_path: Path
) -> None:
    bundle, port = bundles["logistic"], free_port()
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "--env-manager", "local"]
    command += ["-m", str(folder_of(registry, versions[1])), "-p", str(port), "-h", "127.0.0.1"]
    with (tmp_path / "log").open("w") as log:
        serving = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(port, serving, tmp_path / "log")
        rows = call(port, "POST", "/invocations", json.dumps({"dataframe_split": asked_of(bundle)}))
    finally:
        if serving.poll() is None:
            os.killpg(serving.pid, signal.SIGTERM)
            serving.wait(30)
    check_answers(bundle, {name: [row[name] for row in rows] for name in rows[0]})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def call(port: int, method: str, path: str, body: str | None = None) -> Any:
    """Return what the server says: of /invocations the predictions."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    assert answer.status == 200, told
    return json.loads(told)["predictions"] if body else None


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 180) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            call(port, "GET", "/ping")
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(log.read_text())


def test_the_model_is_stored_with_the_code_that_reads_it_and_no_more(
    registry: Registry, versions: list[Version]
) -> None:
    code = folder_of(registry, versions[1]) / "code"
    shipped = {path.relative_to(code).as_posix() for path in code.rglob("*.py")}
    assert {"models/served.py", "models/bundle.py", "crm_core/errors.py"} <= shipped
    assert not [name for name in shipped if "registry" in name or "store" in name or "serving" in name]
    assert sum(path.stat().st_size for path in code.rglob("*.py")) < 400_000


def test_two_runs_of_one_training_store_the_same_bytes(
    registry: Registry, bundles: dict[str, ModelBundle]
) -> None:
    stored = []
    for _ in range(2):
        version = _register(registry, bundles["trees"])
        (run,) = Path(registry.artifact_root).glob(f"*/{version.run_id}")
        files = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
        stored.append({str(name): without_when(data) for name, data in files.items()})
    assert stored[0].keys() == stored[1].keys()
    assert [name for name in stored[0] if stored[0][name] != stored[1][name]] == []
    assert "artifacts/model/data/bundle.json" in stored[0]


def without_when(data: bytes) -> bytes:
    """Return a file of MLflow's without what says when and by which run it was written."""
    lines = data.splitlines(keepends=True)
    told = (b"utc_time_created", b"model_uuid", b"run_id", b"model_id", b"artifact_path")
    return b"".join(line for line in lines if not line.strip().startswith(told))


def test_nothing_that_is_stored_could_be_unpickled(registry: Registry, versions: list[Version]) -> None:
    names = [path.name for path in Path(registry.artifact_root).rglob("*") if path.is_file()]
    assert "bundle.json" in names
    assert not [
        name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".skops", ".cloudpickle"))
    ]
