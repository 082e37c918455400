"""Stored predictions asked again: the same model, the same instant, the same store, the same bits.

Whatever was written since changes nothing: features see what was known at `as_of`. Four things do, and each
is told by name: a person was erased from the store; somebody wrote later that it was known by then; the
model's bytes are gone or not its own; a feature means something else than it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.changes import Action, Change
from crm_core.columns import dump_json
from crm_core.predictions import NewPrediction, Prediction
from crm_core.promotions import Challenger, find_origin
from crm_core.store import Store
from models.bundle import ModelBundle
from models.kept import read_kept
from models.scoring import answer_records

if TYPE_CHECKING:
    from models.registry import Registry

_COMPARED = ("probability", "score", "grade", "within", "expected_days", "yearly_value")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that came out otherwise: what it is, as it was stored, and as it is now."""

    what: str
    stored: Any
    recomputed: Any


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """A stored prediction and what its model says of the same question now.

    `differences` is empty if it came out the same to the bit. `since` names what has happened that may be
    why, where it did not.
    """

    prediction_id: int
    model_version: str
    sha256: str
    features: int
    differences: tuple[Difference, ...] = ()
    since: tuple[str, ...] = field(default=())

    @property
    def same(self) -> bool:
        """Tell whether probability, score, grade and every reason came out the same."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "prediction_id": self.prediction_id,
            "model_version": self.model_version,
            "sha256": self.sha256,
            "features": self.features,
            "same": self.same,
            "differences": [vars(one) for one in self.differences],
            "since": list(self.since),
        }


def recompute(store: Store, bundle: ModelBundle, prediction: Prediction) -> Recomputed:
    """Ask a model again what it was asked when `prediction` was made, and compare every bit of the answer.

    Time rule: the row is built from what was known at the prediction's `as_of`. Who has asked since not to
    be scored is answered for all the same: nothing is written, and what was said must be explained.

    Raises
    ------
    FeatureSetMismatchError
        A feature that the model reads is gone, or means something else by now.
    FeatureError
        The record was not known at that instant.
    """
    found = answer_records(store, bundle, [prediction.record_id], prediction.as_of)
    differences = tuple(_differences(prediction, found[0] if found else None))
    with store.reading() as session:
        since = tuple(_since(session, prediction)) if differences else ()
    return Recomputed(
        prediction_id=prediction.id,
        model_version=bundle.version,
        sha256=bundle.sha256,
        features=len(bundle.features),
        differences=differences,
        since=since,
    )


def load_model_of(
    store: Store, prediction: Prediction, folder: Path, registry_factory: Callable[[], Registry]
) -> ModelBundle:
    """Return the model that made a prediction, verified: from the folder of kept files, else from MLflow.

    Raises ModelNotFoundError where neither has it, DamagedModelError where it is not what it was.
    """
    task, version = prediction.task, prediction.model_version
    with store.reading() as session:
        origin = find_origin(session, task, version)
        session.expunge_all()
    if origin is None:
        made = registry_factory().get_version_by_name(version)
        origin = Challenger(task=task, model_version=version, sha256=made.sha256, run_id=made.run_id)
    return read_kept(origin, folder, registry_factory)


def _differences(stored: Prediction, now: NewPrediction | None) -> Iterator[Difference]:
    if now is None:
        yield Difference(what="answer", stored=stored.probability, recomputed="the task is not asked of it")
        return
    for name in _COMPARED:
        before, after = _stored_form(getattr(stored, name)), _stored_form(getattr(now, name))
        # As they are stored: a number is the same if it is written the same, to its last digit.
        if dump_json(before) != dump_json(after):
            yield Difference(what=name, stored=before, recomputed=after)
    if stored.reasons is None:
        yield Difference(what="reasons", stored=None, recomputed=len(now.reasons))
        return
    yield from _different_reasons(stored.reasons, now.reasons)


def _stored_form(value: Any) -> Any:  # noqa: ANN401  any column's value
    """Return a value as JSON gives it back: keys are texts."""
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else value


def _different_reasons(
    stored: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    before, after = ({str(one["group"]): one for one in reasons} for reasons in (stored, now))
    for group in dict.fromkeys([*before, *after]):
        one, other = before.get(group), after.get(group)
        if dump_json(one) != dump_json(other):
            yield Difference(what=f"reason {group}", stored=_told(one), recomputed=_told(other))
    if list(before) != list(after) and before.keys() == after.keys():
        yield Difference(what="order of the reasons", stored=list(before), recomputed=list(after))


def _told(reason: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if reason is None:
        return None
    return {name: reason.get(name) for name in ("group", "feature", "fields", "value", "log_odds", "en")}


def _since(session: Session, prediction: Prediction) -> Iterator[str]:
    """Yield what was done to the store since that may have changed what was known by then."""
    after = Change.recorded_at > prediction.recorded_at
    erased = select(Change.record_type, func.count()).where(after, Change.action == Action.ERASED)
    for record_type, count in session.execute(erased.group_by(Change.record_type)):
        yield f"{count} records of type {record_type} were erased, or lost what told of somebody"
    first = session.scalar(select(func.min(Change.id)).where(after))
    if first is None:
        return
    told_later = select(Change.record_type, func.count()).where(
        Change.id > first, Change.recorded_at <= prediction.as_of
    )
    for record_type, count in session.execute(told_later.group_by(Change.record_type)):
        yield f"{count} changes of type {record_type} were written later, as known by then"
