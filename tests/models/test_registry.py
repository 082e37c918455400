"""Models in MLflow, what serves, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from crm_core.clock import micros
from crm_core.errors import AccessDeniedError, DamagedModelError, ModelNotFoundError, NoChampionError
from crm_core.promotions import find_champion, list_promotions
from crm_core.store import Store
from models.bundle import ModelBundle
from models.kept import keep_bytes, kept_file
from models.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Run, Version, promote, rollback
from models.scoring import load_champion
from tests.factories import make_user
from tests.models.conftest import NOW
from tests.models.test_bundle import RECIPES, make_bundle, make_frame

TASK = "lead_scoring"


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


@pytest.fixture
def versions(registry: Registry, bundles: dict[str, ModelBundle]) -> list[Version]:
    """Three registered models, the first to be made first."""
    return [_register(registry, bundles[name]) for name in ("base rate", "logistic", "trees")]


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


def test_a_model_of_another_task_does_not_serve(
    store: Store, registry: Registry, versions: list[Version]
) -> None:
    promote(store, registry, "churn", versions[0], actor_id=None, reason="a mistake")
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


def test_nothing_that_is_stored_could_be_unpickled(registry: Registry, versions: list[Version]) -> None:
    names = [path.name for path in Path(registry.artifact_root).rglob("*") if path.is_file()]
    assert "bundle.json" in names
    assert not [
        name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".skops", ".cloudpickle"))
    ]
