"""Trained models in MLflow, and which of them serves: the only module that imports MLflow.

One experiment a task, one run a training, one registered model a task with the aliases champion, challenger
and previous. What serves is decided by the newest row of `crm_core.promotions`; the aliases follow it, and
are put right by whatever is done next where a crash came between the two. The bytes of every promoted model,
and of every challenger, also lie in a folder beside the records, by their SHA-256, so that serving needs no
MLflow.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crm_core.access import check_may_promote
from crm_core.changes import Source
from crm_core.clock import instant
from crm_core.errors import ChampionChangedError, DamagedModelError, ModelNotFoundError
from crm_core.phrases import Phrase
from crm_core.promotions import (
    Challenger,
    Promotion,
    find_challenger,
    find_champion,
    list_promotions,
    lock_promotions,
    standing,
)
from crm_core.records import User
from crm_core.store import Store, Transaction
from models.bundle import ModelBundle, load_bundle
from models.kept import keep_bytes
from models.served import probability_name
from models.shipped import ENTRY, ship_code
from models.tasks import TASKS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy.orm import Session

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

_MODEL_FOLDER = "model"
_BUNDLE_FILE = "bundle.json"
_BUNDLE_PATH = f"{_MODEL_FOLDER}/data/{_BUNDLE_FILE}"
_MILLISECOND = 1000


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a training leaves behind; `files` are artifacts by name, `fixed_at` (microseconds) stamps it."""

    task: str
    name: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, bytes]
    fixed_at: int


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered model; `name` is how predictions and promotions call it."""

    task: str
    number: int
    sha256: str
    run_id: str
    aliases: tuple[str, ...]
    created_at: datetime
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return the name under which it predicts: task, number, and part of its SHA-256."""
        return f"{self.task}-{self.number}-{self.sha256[:8]}"


class Registry:
    """Runs and models of all tasks in one MLflow store."""

    def __init__(
        self, tracking_uri: str, artifact_root: str | Path, models_folder: str | Path | None = None
    ) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_root = str(artifact_root)
        self.models_folder = Path(models_folder or Path(artifact_root).parent / "models")

    @cached_property
    def _client(self) -> MlflowClient:
        # Set before the import, which reads it: nothing is ever sent anywhere.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        with _quiet():
            from mlflow import MlflowClient

            for chatty in ("mlflow", "alembic"):  # after the import, which sets them up to talk
                logging.getLogger(chatty).setLevel(logging.WARNING)
            return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    def prepare(self) -> None:
        """Make the tracking database if it is not there."""
        self._client.search_experiments(max_results=1)

    def log_training(self, run: Run, bundle: ModelBundle) -> Version:
        """Store a run with its files and its model, register the model, and return its version."""
        from mlflow.entities import Metric, Param, RunTag

        client = self._client
        stamp = run.fixed_at // _MILLISECOND
        made = client.create_run(self._experiment(run.task), start_time=stamp, run_name=run.name)
        run_id = made.info.run_id
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, stamp, 0) for name, value in run.metrics.items()],
            params=[Param(name, str(value)) for name, value in run.parameters.items()],
            tags=[RunTag(name, value) for name, value in run.tags.items()],
        )
        with tempfile.TemporaryDirectory() as folder:
            _write_files(Path(folder), run.files)
            _save_model(Path(folder) / _MODEL_FOLDER, bundle)
            client.log_artifacts(run_id, folder)
        client.set_terminated(run_id, end_time=stamp)
        return self._register(run, bundle, run_id)

    def get_version(self, task: str, number: int) -> Version:
        """Return a version by its number."""
        for version in self.list_versions(task):
            if version.number == number:
                return version
        raise ModelNotFoundError(Phrase("{task} has no version {number}", task=task, number=number))

    def get_version_by_name(self, name: str) -> Version:
        """Return a version by its name, as `lead_scoring-3-1a2b3c4d`; the last part may be left out."""
        task, _, rest = name.replace("/", "-").partition("-")
        number = rest.partition("-")[0]
        if not (number.isdecimal() and task in TASKS):
            raise ModelNotFoundError(
                Phrase("expected a version such as lead_scoring-3, got {name!r}", name=name)
            )
        found = self.get_version(task, int(number))
        if name.count("-") > 1 and found.name != name:
            raise ModelNotFoundError(
                Phrase(
                    "{task} {number} is {found_name}, not {name}",
                    task=task,
                    number=number,
                    found_name=found.name,
                    name=name,
                )
            )
        return found

    def list_versions(self, task: str) -> list[Version]:
        """Return the registered models of a task, newest first; none for a task that was never trained."""
        with _quiet():
            found = self._client.search_model_versions(f"name = '{task}'")
            aliases = self._aliases(task) if found else {}
        versions = [
            Version(
                task=task,
                number=int(one.version),
                sha256=one.tags["sha256"],
                run_id=str(one.run_id),
                aliases=tuple(sorted(name for name, number in aliases.items() if number == int(one.version))),
                created_at=instant(int(one.creation_timestamp) * _MILLISECOND),
                tags=dict(one.tags),
            )
            for one in found
        ]
        return sorted(versions, key=lambda version: -version.number)

    def set_alias(self, task: str, alias: str, number: int) -> None:
        """Point an alias of a task to a version."""
        self._client.set_registered_model_alias(task, alias, str(number))

    def make_alias_say(self, task: str, alias: str, number: int | None) -> bool:
        """Point an alias to a version, or take it away for None; tell whether it said anything else."""
        versions = self.list_versions(task)
        said = next((version.number for version in versions if alias in version.aliases), None)
        if said == number:
            return False
        if number is None:
            self.remove_alias(task, alias)
        else:
            self.set_alias(task, alias, number)
        return True

    def remove_alias(self, task: str, alias: str) -> None:
        """Take an alias away, if it is there."""
        if alias in self._aliases(task):
            self._client.delete_registered_model_alias(task, alias)

    def fetch(self, run_id: str) -> bytes:
        """Return the bytes of a run's model as they are stored, unchecked."""
        return self.read_file(run_id, _BUNDLE_PATH)

    def read_file(self, run_id: str, path: str) -> bytes:
        """Return an artifact of a run."""
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as folder, _quiet():
            try:
                found = self._client.download_artifacts(run_id, path, folder)
            except (MlflowException, OSError) as error:
                raise ModelNotFoundError(
                    Phrase("run {run_id} has no {path}: {error}", run_id=run_id, path=path, error=error)
                ) from error
            return Path(found).read_bytes()

    def load(self, version: Version) -> ModelBundle:
        """Return a version's model, verified."""
        return load_bundle(self.fetch(version.run_id), version.sha256, version=version.name)

    def metrics_of(self, version: Version) -> dict[str, float]:
        """Return the metrics of the training that made a version."""
        return dict(self._client.get_run(version.run_id).data.metrics)

    def _experiment(self, task: str) -> str:
        found = self._client.get_experiment_by_name(task)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(task, artifact_location=f"{self.artifact_root}/{task}"))

    def _register(self, run: Run, bundle: ModelBundle, run_id: str) -> Version:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(run.task)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self._client.create_model_version(
            run.task,
            source=f"runs:/{run_id}/{_MODEL_FOLDER}",
            run_id=run_id,
            tags={"sha256": bundle.sha256, **run.tags},
        )
        return self.get_version(run.task, int(made.version))

    def _aliases(self, task: str) -> dict[str, int]:
        found = self._client.get_registered_model(task)
        return {name: int(number) for name, number in found.aliases.items()}


Writing = Callable[[], AbstractContextManager[Transaction]]
"""Opens the transaction in which a model is put in charge."""


def promote(  # noqa: PLR0913  all that a decision consists of
    store: Store,
    registry: Registry,
    task: str,
    version: Version | int,
    *,
    actor_id: int | None,
    reason: str,
    gate: dict[str, Any] | None = None,
    instead_of: int | None = None,
    writing: Writing | None = None,
) -> Promotion:
    """Put a version in charge of its task and return the row that says so.

    Its bytes are verified and laid beside the records first. The alias is moved inside the transaction that
    writes the row: if either fails, the row is not there and what served before serves on.
    `instead_of` is the promotion that was in force when it was decided (0: none); where another one is by
    now, nothing is done. Raises ChampionChangedError then. `writing` gives the transaction, where others are
    to write in it too.
    """
    chosen = version if isinstance(version, Version) else registry.get_version(task, version)
    _keep(registry, chosen, task)
    put_aliases_right(store, registry, task)
    own = partial(store.transaction, source=Source.API, actor_id=actor_id)
    with (writing or own)() as transaction:
        session = transaction.session
        if actor_id is not None:
            check_may_promote(session.get_one(User, actor_id))
        lock_promotions(session)
        before = find_champion(session, task)
        if instead_of is not None and instead_of != (before.id if before else 0):
            raise _changed(session, task, before)
        row = Promotion(
            task=task,
            model_version=chosen.name,
            sha256=chosen.sha256,
            run_id=chosen.run_id,
            promoted_at=transaction.now,
            actor_id=actor_id,
            reason=reason,
            gate=gate,
        )
        session.add(row)
        session.flush()
        _move_aliases(registry, chosen, before)
        session.expunge(row)
    return row


def _changed(session: Session, task: str, found: Promotion | None) -> ChampionChangedError:
    by = session.get(User, found.actor_id) if found and found.actor_id else None
    return ChampionChangedError(task, found.model_version if found else None, by.name if by else None)


def nominate(store: Store, registry: Registry, version: Version) -> Challenger:
    """Name a version the challenger of its task: it may score beside the champion, and be promoted later.

    Its bytes are verified and laid beside the records first; the alias is moved inside the transaction.
    """
    _keep(registry, version, version.task)
    put_aliases_right(store, registry, version.task)
    with store.transaction(source=Source.API) as transaction:
        row = Challenger(
            task=version.task,
            model_version=version.name,
            sha256=version.sha256,
            run_id=version.run_id,
            named_at=transaction.now,
        )
        transaction.session.add(row)
        transaction.session.flush()
        registry.set_alias(version.task, CHALLENGER, version.number)
        transaction.session.expunge(row)
    return row


def _keep(registry: Registry, version: Version, task: str) -> None:
    """Lay a version's bytes beside the records, if they are a model of the task; raise DamagedModelError."""
    data = registry.fetch(version.run_id)
    bundle = load_bundle(data, version.sha256, version=version.name)
    if bundle.task != task:
        raise DamagedModelError(
            Phrase(
                "{name} is to serve {task}, but its file is one of {bundle_task}",
                name=version.name,
                task=task,
                bundle_task=bundle.task,
            )
        )
    keep_bytes(registry.models_folder, data, version.sha256)


def put_aliases_right(store: Store, registry: Registry, task: str) -> list[str]:
    """Make the aliases of a task say what the records say; return those that did not.

    A process that dies between moving an alias and its commit leaves one that is ahead.
    """
    with store.reading() as session:
        stands = standing(list_promotions(session, task))
        newest, challenger = find_champion(session, task), find_challenger(session, task)
        before = _served_before(list_promotions(session, task), newest)
        wanted = {
            CHAMPION: newest.run_id if newest and stands else None,
            PREVIOUS: before.run_id if before else None,
            CHALLENGER: challenger.run_id if challenger else None,
        }
    number_of = {version.run_id: version.number for version in registry.list_versions(task)}
    return [
        alias
        for alias, run_id in wanted.items()
        if registry.make_alias_say(task, alias, number_of.get(run_id or ""))
    ]


def _served_before(newest_first: Sequence[Promotion], champion: Promotion | None) -> Promotion | None:
    """Return the newest promotion of another version than the champion's."""
    if champion is None:
        return None
    return next((row for row in newest_first if row.run_id != champion.run_id), None)


def rollback(
    store: Store,
    registry: Registry,
    task: str,
    *,
    actor_id: int | None,
    reason: str,
    instead_of: int | None = None,
    writing: Writing | None = None,
) -> Promotion:
    """Put the version in charge that served before the present one; a second call goes one further back.

    Raises ModelNotFoundError where nothing served before, ChampionChangedError as `promote` does.
    """
    with store.reading() as session:
        served = standing(list_promotions(session, task))
    if len(served) < 2:
        raise ModelNotFoundError(Phrase("{task}: no model served before the present one", task=task))
    leaving, wanted = served[-1], served[-2]
    version = next((v for v in registry.list_versions(task) if v.run_id == wanted.run_id), None)
    if version is None:
        raise ModelNotFoundError(
            Phrase(
                "{task}: {model_version} is not in MLflow any more",
                task=task,
                model_version=wanted.model_version,
            )
        )
    gate = {"rollback_of": leaving.model_version}
    return promote(
        store,
        registry,
        task,
        version,
        actor_id=actor_id,
        reason=reason,
        gate=gate,
        instead_of=instead_of,
        writing=writing,
    )


def _move_aliases(registry: Registry, chosen: Version, before: Promotion | None) -> None:
    if before is not None and before.run_id != chosen.run_id:
        earlier = [v for v in registry.list_versions(chosen.task) if v.run_id == before.run_id]
        if earlier:
            registry.set_alias(chosen.task, PREVIOUS, earlier[0].number)
    registry.set_alias(chosen.task, CHAMPION, chosen.number)
    if CHALLENGER in chosen.aliases:
        registry.remove_alias(chosen.task, CHALLENGER)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _save_model(folder: Path, bundle: ModelBundle) -> None:
    """Write the model in MLflow's pyfunc flavour: our loader and the bundle, nothing that is unpickled."""
    with _quiet():
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        columns = [column.name for column in bundle.encoder.columns]
        outputs = [probability_name(days) for days in bundle.horizons_days]
        signature = ModelSignature(
            inputs=Schema([ColSpec("double", name) for name in columns]) if columns else None,
            outputs=Schema([ColSpec("double", name) for name in outputs]),
        )
        with tempfile.TemporaryDirectory() as data_folder, tempfile.TemporaryDirectory() as code_folder:
            path = Path(data_folder) / _BUNDLE_FILE
            path.write_bytes(bundle.to_bytes())
            mlflow.pyfunc.save_model(
                str(folder),
                loader_module=ENTRY,
                data_path=str(path),
                code_paths=[str(package) for package in ship_code(Path(code_folder))],
                signature=signature,
                pip_requirements=_requirements(),
            )


def _requirements() -> list[str]:
    """Return what the shipped code imports, in the versions that made the model."""
    return [f"{name}=={installed_version(name)}" for name in _IMPORTED]


_IMPORTED = ("lightgbm", "mlflow", "numba", "numpy", "pandas", "sqlalchemy")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's advice about its own options out of the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
