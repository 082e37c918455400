"""A stored prediction and where it comes from: model, instant, cause; and the same asked again."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import ColumnElement, and_, false, or_, select
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_promote, may_promote
from crm_core.changes import Change
from crm_core.errors import RecordNotFoundError, ScoringOptOutError
from crm_core.feedback import ScoreFeedback
from crm_core.opting_out import list_opted_out, may_be_scored
from crm_core.predictions import SCORED_TYPES, Prediction, list_predictions
from crm_core.promotions import find_origin
from crm_core.records import User
from crm_core.store import Store
from crm_core.worth import readable_worth
from models.horizons import within as horizon_in_words
from serving.console import table
from serving.home import Home


def explain_prediction(store: Store, user: User, which: str | int) -> dict[str, Any]:
    """Return what is known of a stored prediction, as far as `user` may see it.

    `which` is its id, or a record as `deal:42`, whose newest one is meant. A record that was deleted since
    is no obstacle for whoever may choose models: what was said of it must be explained, too.
    """
    with store.reading() as session:
        prediction = get_prediction(session, user, which)
        reader = Reader(session, user)
        origin = find_origin(session, prediction.task, prediction.model_version)
        told = prediction.reasons is not None and reader.may_read_field(prediction.record_type, "reasons")
        reasons = reader.readable_reasons(prediction.reasons or ()) if told else None
        return {
            "id": prediction.id,
            "task": prediction.task,
            "record_type": prediction.record_type,
            "record_id": prediction.record_id,
            "as_of": prediction.as_of.isoformat(),
            "recorded_at": prediction.recorded_at.isoformat(),
            "model_version": prediction.model_version,
            "sha256": None if origin is None else origin.sha256,
            "horizon_days": prediction.horizon_days,
            "probability": prediction.probability,
            "score": prediction.score,
            "grade": prediction.grade,
            "reasons": reasons,
            "cause": _cause(reader, prediction),
        }


def get_prediction(session: Session, user: User, which: str | int) -> Prediction:
    """Return a stored prediction about a record that `user` may see; any other does not exist for them.

    Raises ScoringOptOutError where somebody whom it is about asked not to be scored.
    """
    prediction = _find(session, which)
    reader = Reader(session, user)
    if prediction is None:
        raise RecordNotFoundError("prediction", which)
    model = SCORED_TYPES[prediction.record_type]
    reader.check_may_see_scores(model)
    seen = select(model.id).where(model.id == prediction.record_id, reader.readable(model))
    if not may_promote(user):
        seen = seen.where(model.deleted_at.is_(None))
    if session.scalar(seen) is None:
        raise RecordNotFoundError("prediction", which)
    if list_opted_out(session, model, [prediction.record_id]):
        raise ScoringOptOutError(prediction.record_type, prediction.record_id)
    return prediction


def feedback_seen(reader: Reader) -> ColumnElement[bool]:
    """Return the condition that feedback is about a record whose score the reader may see."""
    seen = []
    for record_type, model in SCORED_TYPES.items():
        if reader.may_read_field(record_type, "probability"):
            ids = select(model.id).where(
                model.deleted_at.is_(None), reader.readable(model), may_be_scored(model)
            )
            seen.append(and_(ScoreFeedback.record_type == record_type, ScoreFeedback.record_id.in_(ids)))
    return or_(false(), *seen)


def _find(session: Session, which: str | int) -> Prediction | None:
    record_type, _, number = str(which).rpartition(":")
    if not number.isdecimal() or len(number) > 18 or record_type not in {"", *SCORED_TYPES}:
        return None
    if not record_type:
        return session.get(Prediction, int(number))
    return next(iter(list_predictions(session, record_type, int(number), limit=1)), None)


def _cause(reader: Reader, prediction: Prediction) -> dict[str, Any] | None:
    """Return the change that led to a prediction, without values that `reader` may not see."""
    if prediction.cause_change_id is None:
        return None
    change = reader.session.get(Change, prediction.cause_change_id)
    if change is None:
        return None
    told = change.field is None or reader.may_be_told_of([f"{change.record_type}.{change.field}"])
    return {
        "change_id": change.id,
        "record_type": change.record_type,
        "record_id": change.record_id,
        "action": change.action,
        "field": change.field if told else None,
        "old": change.old if told else None,
        "new": change.new if told else None,
        "recorded_at": change.recorded_at.isoformat(),
        "source": change.source,
    }


def recompute_prediction(home: Home, store: Store, user: User, which: str | int) -> dict[str, Any]:
    """Ask the model of a stored prediction again and return what came out, with every difference."""
    from models.lineage import load_model_of, recompute
    from serving.modelling import open_registry

    check_may_promote(user)
    with store.reading() as session:
        prediction = get_prediction(session, user, which)
        session.expunge_all()
    bundle = load_model_of(store, prediction, home.models, lambda: open_registry(home))
    found = recompute(store, bundle, prediction).to_json()
    with store.reading() as session:
        reader = Reader(session, user)
        differences = [_readable(reader, one) for one in found["differences"]]
    return {**found, "differences": differences}


def _readable(reader: Reader, difference: dict[str, Any]) -> dict[str, Any]:
    """Return a difference without what comes from fields that `reader` may not see."""
    return {name: _seen(reader, difference["what"], value) for name, value in difference.items()}


def _seen(reader: Reader, what: str, value: Any) -> Any:  # noqa: ANN401  any JSON
    if isinstance(value, dict) and what.startswith("reason "):
        return reader.readable_reasons([value])[0]
    return readable_worth(reader, value) if what == "yearly_value" and isinstance(value, list) else value


def show_explanation(told: dict[str, Any]) -> None:
    """Print what is known of a prediction."""
    cause = told["cause"]
    about = f"{told['task']} of {told['record_type']} {told['record_id']}"
    rows = [
        ("as of", f"{told['as_of']}, written {told['recorded_at']}"),
        ("model", f"{told['model_version']} ({(told['sha256'] or 'not known here')[:12]})"),
        ("says", _said(told)),
        ("because of", "time, or a new model" if cause is None else _in_words(cause)),
    ]
    table(f"Prediction {told['id']}: {about}", ("", ""), rows)
    reasons = told["reasons"] or ()
    table(
        "Reasons, in log-odds that add up",
        ("adds>", ""),
        [
            (f"{reason['log_odds']:+.4f}", reason.get("en") or "a field that you may not see")
            for reason in reasons
        ],
    )


def _said(told: dict[str, Any]) -> str:
    if told["probability"] is None:
        points = told["score"]
        return "not enough data" if points is None else f"expert points: {points} of 100, no outcomes yet"
    within = horizon_in_words(told["horizon_days"])
    return f"{told['probability']!r} {within}, score {told['score']}, grade {told['grade']}"


def _in_words(cause: dict[str, Any]) -> str:
    what = f"{cause['record_type']} {cause['record_id']} {cause['action']}"
    if cause["field"] is not None:
        what += f": {cause['field']} from {cause['old']!r} to {cause['new']!r}"
    return f"change {cause['change_id']}, {what}, {cause['recorded_at']}, by {cause['source']}"


def show_recomputed(told: dict[str, Any]) -> None:
    """Print whether a prediction came out the same, and what did not."""
    if told["same"]:
        click.echo(
            f"Recomputed by {told['model_version']} from {told['features']} features: the same to the bit."
        )
        return
    rows = [(each["what"], repr(each["stored"]), repr(each["recomputed"])) for each in told["differences"]]
    table(f"Recomputed by {told['model_version']}: not the same", ("what", "stored", "recomputed"), rows)
    for line in told["since"]:
        click.echo(f"Since then: {line}")
