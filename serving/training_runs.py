"""Training, scoring and backtesting from the command line: progress while they run, reports at their end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from crm_core.changes import Source, newest_sequence
from crm_core.errors import InvalidValueError
from crm_core.store import Store
from serving.console import Update, stage, table
from serving.home import Home
from serving.modelling import load_bundle_of, open_registry
from serving.reports import in_order, save_report, shown_horizon
from serving.rescoring import note_full_scoring

if TYPE_CHECKING:
    from models.task import Task

METRICS = {
    "auc": "AUC>",
    "log_loss": "log loss>",
    "brier": "Brier>",
    "calibration_error": "cal. error>",
    "lift_top_decile": "lift 10 %>",
    "mean_probability": "mean said>",
    "base_rate": "came true>",
}
"""The metrics in a report's table, with the titles of their columns."""


def train_task(home: Home, store: Store, task: str, *, as_of: datetime | None = None) -> dict[str, Any]:
    """Train, judge and register a model of a task; return the report."""
    from models.simulation import load_truth
    from models.training import train

    _check_past(store, as_of)
    with stage(f"training {task}") as update:
        trained = train(
            store,
            task_of(home, task),
            as_of=as_of,
            registry=open_registry(home),
            truth=load_truth(home.truth),
            promote=True,
            progress=update,
        )
    report: dict[str, Any] = trained.to_json()
    save_report(home, report["version"], report)
    return report


def task_of(home: Home, name: str) -> Task:
    """Return a task with the company's own scorecards, if its home has any."""
    from models.scorecard import load_scorecards
    from models.tasks import get_task

    own = load_scorecards(home.scorecard) if home.scorecard.is_file() else {}
    return replace(get_task(name), scorecards=own)


def score_task(home: Home, store: Store, task: str, *, as_of: datetime | None = None) -> dict[str, Any]:
    """Score every record that is open now, or was at `as_of`, with its champion; note it if it is now."""
    began = time.perf_counter()
    _check_past(store, as_of)
    with store.transaction(source=Source.MODEL) as transaction:  # nobody writes between the two on SQLite
        position, asked = newest_sequence(transaction.session), as_of or transaction.now
    with stage(f"scoring {task}") as update:
        model_version, scored = score_as_of(home, store, task, asked, update)
    if as_of is None:
        with store.transaction(source=Source.MODEL) as transaction:
            note_full_scoring(transaction, task, as_of=asked, position=position)
    return {
        "task": task,
        "model_version": model_version,
        "as_of": asked.isoformat(),
        "scored": scored,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _check_past(store: Store, as_of: datetime | None) -> None:
    now = store.clock.now()
    if as_of is not None and as_of > now:
        raise InvalidValueError("as_of", as_of.isoformat(), f"an instant up to now ({now.isoformat()})")


def score_as_of(home: Home, store: Store, task: str, as_of: datetime, update: Update) -> tuple[str, int]:
    """Score what was open at `as_of` by what was known then; return the model's version and how many."""
    from models.scoring import score_all

    bundle = load_bundle_of(home, store, task)
    return bundle.version, score_all(store, bundle, as_of, progress=update)


def show_reports(reports: Sequence[Mapping[str, Any]]) -> None:
    """Print reports of trainings, each with the model beside what it had to beat."""
    for report in reports:
        _show_report(report)


def _show_report(report: Mapping[str, Any]) -> None:
    training = report["training"]
    click.echo()
    click.echo(click.style(f"{report['task']}: {report['version']}", bold=True))
    horizon, as_of = report["horizon_days"], report["as_of"][:10]
    click.echo(f"Chance to be {report['outcome']} within {horizon} days; by {report['estimator']}")
    click.echo(
        f"As of {as_of}, from {training['questions']:,} questions and {training['features']} features: "
        f"{training['outcomes']:,} {report['outcome']}, {training['without_outcome']:,} not"
    )
    for line in ladder_lines(report):
        click.echo(line)
    if report["judged"] is None:
        click.echo(f"Not judged: {report['not_judged']}")
    else:
        show_judgement(report["judged"])
    gate = report["gate"]["reason"]
    click.echo(f"Promoted: {gate}" if report["promoted"] else f"Not promoted: {gate}")


def ladder_lines(report: Mapping[str, Any]) -> list[str]:
    """Return which step of the ladder is in use, and about how many more outcomes the next one needs."""
    found = [f"Step in use: {_named(report['estimator'])}"]
    if not report.get("says_probability", True):
        found.append(f"Not enough data to say a probability: {report['selection']['reason']}")
    ahead = report["selection"].get("next_step")
    if ahead is None or ahead["estimator"] is None:
        return found
    more = ahead["more_outcomes"]
    needs = (
        "how many more outcomes it needs cannot be said" if more is None else f"about {more:,} more outcomes"
    )
    found.append(f"Next step: {_named(ahead['estimator'])}, {needs} ({ahead['reason']})")
    return found


def _named(estimator: str) -> str:
    return estimator.replace("_", " ")


def show_judgement(judged: Mapping[str, Any]) -> None:
    """Print how right a model was on later questions, with intervals."""
    main = shown_horizon(judged)
    title = (
        f"Judged on {main['questions']:,} questions asked later "
        f"({judged['first_asked'][:10]} to {judged['last_asked'][:10]}), {main['outcomes']:,} came true; "
        "95 % intervals"
    )
    rows = [
        [name, *(_cell(main["metrics"][name].get(metric)) for metric in METRICS)]
        for name in in_order(main["metrics"])
    ]
    table(title, ("", *METRICS.values()), rows)


def _cell(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    value = f"{estimate['value']:.3f}"
    if estimate["low"] is None or estimate["high"] is None:
        return value
    return f"{value} ({estimate['low']:.3f}-{estimate['high']:.3f})"


def backtest_task(store: Store, task: str) -> dict[str, Any]:
    """Replay a task at past cut-offs; return the report."""
    from models.backtest import backtest
    from models.tasks import get_task

    with stage(f"replaying {task}") as update:
        report = backtest(store, get_task(task), progress=update)
    told: dict[str, Any] = report.to_json()
    return told


def show_backtest(report: Mapping[str, Any]) -> None:
    """Print what was said at each cut-off beside what came."""
    title = (
        f"{report['task']}: chance to be {report['outcome']} within {report['horizon_days']} days, replayed"
    )
    replays = [*report["cutoffs"], *([report["together"]] if report["together"] else [])]
    rows = [
        [
            "together" if replay is report["together"] else replay["cutoff"][:10],
            replay["estimator"],
            f"{replay['questions']:,}",
            f"{replay['outcomes']:,}",
            f"{replay['said']:.1%}",
            f"{replay['came']:.1%}",
            _cell(replay["metrics"].get("auc")),
            _cell(replay["metrics"].get("log_loss")),
        ]
        for replay in replays
    ]
    columns = ("cut-off", "estimator", "questions>", "outcomes>", "said>", "came>", "AUC>", "log loss>")
    table(title, columns, rows)
    for reason in report["left_out"]:
        click.echo(f"Left out: {reason}")
