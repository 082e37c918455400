"""Training: ask, guard, choose, fit, calibrate, judge, register, and perhaps promote.

As of an instant in the past, everything that is learned was known then, and the model is judged on what was
asked later. As of now, a model of some months ago is judged on what was asked since, and one made the same
way from everything known now is registered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crm_core.clock import DAY, instant, micros
from crm_core.errors import DamagedModelError, ModelNotFoundError, NoChampionError, NotEnoughDataError
from crm_core.store import Store
from features.asked_once import known_at_creation
from features.feature_set import FeatureSet, feature_set_for
from models.baselines import build_baselines
from models.building import Built, Material, build_bundle, gather
from models.bundle import ModelBundle
from models.gate import GateResult, compare_models
from models.guard import (
    Suspicion,
    check_no_leaks,
    find_leaks,
    find_repeats,
    find_telling_features,
    join_suspicions,
)
from models.held_out import judge_held_out
from models.in_the_end import NO_TIME_ORDER
from models.judging import Bench, Judgement, judge
from models.plots import draw_calibration, draw_importances, draw_lift, draw_periods
from models.questions import Questions, answers, ask, first_instant
from models.report import TrainingReport, flat_metrics
from models.scoring import load_champion
from models.task import Task

if TYPE_CHECKING:
    from models.registry import Registry, Version
    from models.simulation import Truth

Progress = Callable[..., None]
"""Told in words what is being done."""

HOLD_OUT_DAYS = (90, 180, 360)
"""How long the time of judging may be, besides one horizon: the shortest with enough outcomes is taken."""

ENOUGH_TO_JUDGE = 30
"""Records with the outcome, among those judged, from which on no longer time is taken."""


@dataclass(kw_only=True)
class _Course:
    """One training under way."""

    store: Store
    task: Task
    feature_set: FeatureSet
    truth: Truth | None = None
    overruled: tuple[str, ...] = ()
    say: Progress = lambda _: None
    overruled_by: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        self.say(name)
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 2)

    def ask(self, *, until: int, after: int | None = None) -> Questions:
        """Return the questions to learn from, or with `after` those to judge by."""
        start = first_instant(self.store, self.task) if after is None else instant(after)
        build = self.task.ask if after is None else self.task.ask_to_judge
        return ask(self.store, self.task, self.feature_set, build, start=start, until=instant(until))

    def material(self, questions: Questions, until: int) -> Material:
        return gather(questions, self.store, self.feature_set, until)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outcome:
    """The model to register, and how right it, or its like of some months ago, was.

    `like_of` makes its like of another instant, for a fair comparison with a champion made later than the
    judged one.
    """

    built: Built
    judgement: Judgement | None
    judged: Questions | None
    judged_by: ModelBundle | None
    like_of: Callable[[int], ModelBundle] | None = None
    not_judged: str | None
    suspicions: list[Suspicion]


def train(  # noqa: PLR0913  one training has as many sides
    store: Store,
    task: Task,
    *,
    as_of: datetime | None = None,
    registry: Registry,
    truth: Truth | None = None,
    promote: bool = False,
    overruled: Sequence[str] = (),
    overruled_by: str | None = None,
    progress: Progress | None = None,
) -> TrainingReport:
    """Train, judge and register a model of a task, and promote it if asked to and if it may serve.

    Parameters
    ----------
    as_of
        Know only what was known then; None: everything known by now.
    truth
        True probabilities of a simulated company, which are reported beside the model's and used for
        nothing else.
    promote
        Put the model in charge if there is no champion yet, or if it is no worse on rows that neither has
        learned from.
    overruled
        Features, or fields, that are let through although they seem to know the outcome, and who says so;
        noted in the run.

    Raises
    ------
    NotEnoughDataError, LeakageError, ScorecardError
        Before anything is registered. Too few outcomes are no error: the scorecard is registered, which
        ranks and says no probability. Nothing to ask about is one.
    """
    course = _course(store, task)
    course.truth, course.overruled, course.overruled_by = truth, tuple(overruled), overruled_by
    course.say = progress or course.say
    until = micros(as_of or store.clock.now())
    if course.task.no_time_order:
        outcome = _train_undated(course, micros(store.clock.now()))
    else:
        outcome = _train_as_of(course, until) if as_of is not None else _train_now(course, until)
    return _conclude(course, outcome, registry, promote=promote)


def _train_as_of(course: _Course, until: int) -> _Outcome:
    with course.timed("asking"):
        questions = course.ask(until=until)
    material = course.material(questions, until)
    suspicions = _guard(course, material)
    with course.timed("choosing and fitting"):
        built = build_bundle(material, say=course.say)
    with course.timed("judging"):
        later = course.ask(until=micros(course.store.clock.now()), after=until)
        judgement = _judge(course, built, material, later)
    return _Outcome(
        built=built,
        judgement=judgement,
        judged=later if judgement is not None else None,
        judged_by=built.bundle,
        not_judged=None if judgement else _why_not_judged(built.bundle),
        suspicions=suspicions,
    )


def _train_undated(course: _Course, now: int) -> _Outcome:
    """Learn from records without dates: an instant in the past means nothing to them."""
    with course.timed("asking"):
        questions = course.ask(until=now)
    material = course.material(questions, now)
    suspicions = _guard(course, material)
    with course.timed("choosing and fitting"):
        built = build_bundle(material, say=course.say)
    with course.timed("judging"):
        judgement = judge_held_out(material, built, course.say)
    return _Outcome(
        built=built,
        judgement=judgement,
        judged=None,
        judged_by=None,
        not_judged=NO_TIME_ORDER,
        suspicions=suspicions,
    )


def _train_now(course: _Course, now: int) -> _Outcome:
    with course.timed("asking"):
        questions = course.ask(until=now)
    until = min(now, _seen_until(course, questions))
    material = course.material(questions, until)
    suspicions = _guard(course, material)
    past, judged, why = None, None, None
    try:
        past, judged = _judge_a_past_model(course, questions, until)
    except NotEnoughDataError as error:
        why = str(error)
    with course.timed("choosing and fitting on everything"):
        built = build_bundle(material, say=course.say)

    def like_of(made: int) -> ModelBundle:
        return build_bundle(course.material(questions, made), recipe=built.choice.recipe).bundle

    return _Outcome(
        built=built,
        judgement=None if past is None else past.judgement,
        judged=judged,
        judged_by=None if past is None else past.bundle,
        like_of=like_of,
        not_judged=why,
        suspicions=suspicions,
    )


def _why_not_judged(bundle: ModelBundle) -> str:
    if not bundle.says_probability:
        return "a model of that day had too few outcomes to say a probability"
    return "nothing asked later has had its whole horizon yet"


@dataclass(frozen=True, kw_only=True)
class _PastModel:
    bundle: ModelBundle
    judgement: Judgement


def _judge_a_past_model(course: _Course, questions: Questions, until: int) -> tuple[_PastModel, Questions]:
    """Return a model made some months ago with its judgement; raise NotEnoughDataError if none can be."""
    earliest = until - (course.task.gap_days + HOLD_OUT_DAYS[-1]) * DAY
    later = course.ask(until=until, after=earliest)
    origin = _hold_out_from(course, later, until)
    material = course.material(questions, origin)
    with course.timed("choosing and fitting"):
        built = build_bundle(material, say=course.say)
    with course.timed("judging"):
        later = later.take(later.as_of > origin)
        judgement = _judge(course, built, material, later)
    if judgement is None:
        raise NotEnoughDataError(_why_not_judged(built.bundle))
    return _PastModel(bundle=built.bundle, judgement=judgement), later


def _hold_out_from(course: _Course, questions: Questions, until: int) -> int:
    """Return the instant from which on questions are kept for judging."""
    answer = answers(course.store, questions, course.task.horizon_days)
    records = questions.cohort.ids
    origin = until
    for days in HOLD_OUT_DAYS:
        origin = until - (course.task.gap_days + days) * DAY
        held = answer.over & answer.happened & (questions.as_of > origin)
        if len(np.unique(records[held])) >= ENOUGH_TO_JUDGE:
            break
    return origin


def _seen_until(course: _Course, questions: Questions) -> int:
    """Return until when outcomes have been seen: an imported extract ends somewhere."""
    labels = course.task.labels(course.store, questions.cohort, known_at=None)
    return int(labels.known_until.max()) if len(labels) else 0


def look_for_leaks(store: Store, task: Task) -> list[Suspicion]:
    """Return what the guard says of a task, from everything that is known by now, without training anything.

    Raises NotEnoughDataError where there are too few outcomes to say anything.
    """
    course = _course(store, task)
    now = micros(store.clock.now())
    return _suspicions(course, course.material(course.ask(until=now), now))


def _course(store: Store, task: Task) -> _Course:
    found = task.in_store(store)
    features = feature_set_for(store, task.name)
    return _Course(
        store=store,
        task=found,
        feature_set=known_at_creation(store, features) if found.only_at_creation else features,
    )


def _guard(course: _Course, material: Material) -> list[Suspicion]:
    found = _suspicions(course, material)
    check_no_leaks(found, overruled=course.overruled)
    return found


def _suspicions(course: _Course, material: Material) -> list[Suspicion]:
    with course.timed("looking for leaks"):
        questions = material.questions
        seen = material.expose_at(material.until)
        rows = seen.counted
        frame = questions.frame[rows].drop(columns=list(course.task.structural), errors="ignore")
        fields = {feature.name: feature.source_fields for feature in course.feature_set.features}
        return join_suspicions(
            find_telling_features(course.store, course.feature_set),
            find_leaks(frame, seen.happened[rows], questions.cohort.ids[rows], fields),
            find_repeats(frame, questions.account[rows]),
        )


def _judge(course: _Course, built: Built, material: Material, later: Questions) -> Judgement | None:
    if len(later) == 0 or not built.bundle.says_probability:
        return None
    seen = material.expose_at(material.until)
    bench = Bench(
        store=course.store,
        baselines=build_baselines(material, built.choice.recipe),
        taught=np.unique(material.questions.account[seen.counted]),
        truth=course.truth,
    )
    return judge(built.bundle, later, bench, estimator=built.choice.recipe.rung)


def _conclude(course: _Course, outcome: _Outcome, registry: Registry, *, promote: bool) -> TrainingReport:
    from models import registry as registering

    with course.timed("registering"):
        gate = _gate(course, outcome, registry)
        registered = registry.log_training(_run(course, outcome, gate), outcome.built.bundle)
        promoted = promote and gate.passed
        if not promoted:
            registering.nominate(course.store, registry, registered)
        if promoted:
            registering.promote(
                course.store,
                registry,
                course.task.name,
                registry.get_version(course.task.name, registered.number),
                actor_id=None,
                reason=gate.reason,
                gate=gate.to_json(),
            )
    return _report(course, outcome, gate, registered, promoted=promoted)


def _gate(course: _Course, outcome: _Outcome, registry: Registry) -> GateResult:
    """Compare with the champion; without one, or with one that cannot be read, the model passes."""
    name = course.task.name
    try:
        champion = load_champion(course.store, name, registry.models_folder, lambda: registry)
    except NoChampionError:
        return GateResult(passed=True, reason="first model of the task")
    except (DamagedModelError, ModelNotFoundError) as error:
        return GateResult(passed=True, reason=f"the champion cannot be read: {error}")
    if not champion.says_probability:
        return GateResult(passed=True, reason="the champion says no probability")
    if outcome.judged is None or outcome.judged_by is None:
        return GateResult(passed=False, reason=f"not judged: {outcome.not_judged}")
    if champion.variant != course.task.variant:
        return GateResult(passed=True, reason=f"the champion answers another question: {champion.variant}")
    challenger, judged, made = outcome.judged_by, outcome.judged, champion.trained["as_of"]
    if outcome.like_of is not None and made > challenger.trained["as_of"]:
        challenger, judged = outcome.like_of(made), judged.take(judged.as_of > made)
    return compare_models(course.store, challenger, champion, judged)


def _run(course: _Course, outcome: _Outcome, gate: GateResult) -> Any:  # noqa: ANN401  a Run of the registry
    from models.registry import Run

    built, judgement = outcome.built, outcome.judgement
    trained = built.bundle.trained
    report = _report(course, outcome, gate, None, promoted=False).to_json()
    metrics = flat_metrics(judgement) | {"outcomes": trained["outcomes"], "questions": trained["questions"]}
    tags = {
        "estimator": str(built.choice.recipe.rung),
        "trained_as_of": instant(trained["as_of"]).isoformat(),
        "data_sha256": trained["data"],
        "code_sha256": code_fingerprint(),
        "feature_set": built.bundle.feature_set_fingerprint,
        "overruled": ", ".join(course.overruled) or "nothing",
        "overruled_by": course.overruled_by or "nobody",
        "no_time_order": str(course.task.no_time_order).lower(),
    }
    parameters = built.choice.recipe.to_json() | {
        "variant": course.task.variant or None,
        "horizon_days": built.bundle.horizon_days,
        "features": len(built.bundle.features),
        "without_outcome": trained["without_outcome"],
    }
    return Run(
        task=course.task.name,
        name=f"{course.task.name} as of {instant(trained['as_of']):%Y-%m-%d}",
        parameters=parameters,
        metrics=metrics,
        tags=tags,
        files=_files(report, outcome),
        fixed_at=micros(course.store.clock.now()),
    )


def _files(report: dict[str, Any], outcome: _Outcome) -> dict[str, bytes]:
    files = {"report.json": json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True).encode()}
    if outcome.judgement is not None:
        files["calibration.svg"] = draw_calibration(outcome.judgement.main)
        files["lift.svg"] = draw_lift(outcome.judgement.main)
        files["importances.svg"] = draw_importances(outcome.judgement)
        drift = draw_periods(outcome.judgement.main)
        files |= {"drift.svg": drift} if drift is not None else {}
    return files


def _report(
    course: _Course, outcome: _Outcome, gate: GateResult, version: Version | None, *, promoted: bool
) -> TrainingReport:
    registered: dict[str, Any] = {"sha256": outcome.built.bundle.sha256}
    if version is not None:
        registered |= {"version": version.name, "number": version.number, "run_id": version.run_id}
    return TrainingReport(
        task=course.task,
        bundle=outcome.built.bundle,
        choice=outcome.built.choice,
        judgement=outcome.judgement,
        not_judged=outcome.not_judged,
        suspicions=tuple(outcome.suspicions),
        overruled=course.overruled,
        overruled_by=course.overruled_by,
        gate=gate,
        promoted=promoted,
        registered=registered,
        seconds=course.seconds,
    )


def code_fingerprint() -> str:
    """Return the SHA-256 of the source that features and models are made by."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for package in ("crm_core", "features", "models"):
        for file in sorted((root / package).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
