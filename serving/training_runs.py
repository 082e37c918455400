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
from crm_core.phrases import Phrase
from crm_core.store import Store
from models.horizons import within as horizon_in_words
from models.shown_horizon import shown_horizon
from serving.console import Update, stage, table
from serving.home import Home
from serving.modelling import load_bundle_of, open_registry
from serving.reports import in_order, save_backtest, save_report
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


def train_task(
    home: Home,
    store: Store,
    task: str,
    *,
    as_of: datetime | None = None,
    overrule: Sequence[str] = (),
    by: str | None = None,
    told: Update | None = None,
) -> dict[str, Any]:
    """Train, judge and register a model of a task; return the report. `by` lets fields past the guard."""
    from models.simulation import load_truth
    from models.training import train

    _check_past(store, as_of)
    with stage(f"training {task}", told) as update:
        trained = train(
            store,
            task_of(home, task),
            as_of=as_of,
            registry=open_registry(home),
            truth=load_truth(home.truth),
            promote=True,
            overruled=overrule,
            overruled_by=by,
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
        raise InvalidValueError("as_of", as_of.isoformat(), Phrase("an instant up to now ({now})", now=now))


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
    as_of = report["as_of"][:10]
    within = horizon_in_words(report["horizon_days"])
    click.echo(f"Chance to be {report['outcome']} {within}; by {report['estimator']}")
    click.echo(
        f"As of {as_of}, from {training['questions']:,} questions and {training['features']} features: "
        f"{training['outcomes']:,} {report['outcome']}, {training['without_outcome']:,} not"
    )
    for line in ladder_lines(report):
        click.echo(line)
    for line in guard_lines(report):
        click.echo(line)
    if report["judged"] is None:
        click.echo(f"Not judged: {report['not_judged']}")
    else:
        show_judgement(report["judged"], no_time_order=bool(report.get("no_time_order")))
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


def guard_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what the guard doubted, and what somebody let past it."""
    guard = report["guard"]
    found = [
        f"Doubtful: {', '.join(each['fields']) or each['feature']}: {each['evidence']}"
        for each in guard["suspicions"]
        if each.get("doubtful")
    ]
    if guard["overruled"]:
        by = guard.get("overruled_by") or "nobody named"
        found.append(f"Overruled by {by}: {', '.join(guard['overruled'])}")
    return found


def show_judgement(judged: Mapping[str, Any], *, no_time_order: bool = False) -> None:
    """Print how right a model was on later questions, with intervals; or, without dates, on other records."""
    main = shown_horizon(judged)
    asked = (
        f"records, each by a model of other records (cross-validation: no time order was possible, the "
        f"records have no dates), {main['outcomes']:,} had the outcome"
        if no_time_order
        else f"questions asked later ({judged['first_asked'][:10]} to {judged['last_asked'][:10]}), "
        f"{main['outcomes']:,} came true"
    )
    title = f"Judged on {main['questions']:,} {asked}; 95 % intervals"
    rows = [
        [name, *(_cell(main["metrics"][name].get(metric)) for metric in METRICS)]
        for name in in_order(main["metrics"])
    ]
    table(title, ("", *METRICS.values()), rows)
    _show_called(main.get("called") or (), main["horizon_days"])
    _show_parts(main.get("parts") or ())
    _show_ages(judged.get("ages") or ())
    _show_money(main.get("money"))


def _show_called(called: Sequence[Mapping[str, Any]], days: int) -> None:
    for one in called:
        click.echo(
            f"Of {one['questions']:,} questions ({one['records']:,} records) called "
            f"{one['low']:.0%} to {one['high']:.0%}, {one['happened']:.0%} came true "
            f"{horizon_in_words(days)}, give or take {one['give_or_take']:.0%}"
        )


def _show_ages(bands: Sequence[Mapping[str, Any]]) -> None:
    """Print what was said of all open records by their age, and what came."""
    if not bands:
        return
    rows = [
        [
            f"{band['from_days']:g}+"
            if band["to_days"] is None
            else f"{band['from_days']:g}-{band['to_days']:g}",
            f"{band['questions']:,}",
            f"{band['said']:,.0f}",
            f"{band['came']:,}",
            f"{band['give_or_take']:,.0f}",
        ]
        for band in bands
    ]
    table(
        "All open records on Mondays, by age",
        ("days old", "questions>", "said>", "came>", "give or take>"),
        rows,
    )


def _show_parts(parts: Sequence[Mapping[str, Any]]) -> None:
    """Print periods and segments."""
    if not parts:
        return
    columns = (
        "",
        "",
        "questions>",
        "came true>",
        "mean said>",
        "share came>",
        "AUC>",
        "log loss>",
        "base rate's>",
    )
    table("Periods and segments", columns, [_part_cells(part) for part in parts])


def _part_cells(part: Mapping[str, Any]) -> list[str]:
    told = [part["field"], part["level"], f"{part['questions']:,}", f"{part['outcomes']:,}"]
    metrics = part["metrics"]
    if metrics is None:
        return [*told, "", "", "too few", "", ""]
    model = metrics["model"]
    beside = metrics.get("base_rate", {}).get("log_loss")
    return [
        *told,
        f"{model['mean_probability']['value']:.3f}",
        *(_cell(model[name]) for name in ("base_rate", "auc", "log_loss")),
        f"{beside['value']:.3f}" if beside else "",
    ]


def _show_money(money: Mapping[str, Any] | None) -> None:
    if money is None:
        return
    currency = money["currency"] or ""
    click.echo(
        f"Money: {money['expected']:,.0f} {currency} expected, {money['came']:,.0f} came "
        f"({_cell(money['came_to_expected'])} times as much)"
    )
    names = [name for name in in_order(money["top_tenth"]) if name != "amount"]
    for name in names:
        shares = money["top_tenth"][name]
        click.echo(
            f"The top tenth by {name.replace('_', ' ')} held {_percent(shares['by_probability'])} of it, "
            f"by {name.replace('_', ' ')} times amount {_percent(shares['by_expected'])}"
        )
    click.echo(f"The top tenth by amount alone held {_percent(money['top_tenth']['amount']['by_amount'])}")


def _percent(estimate: Mapping[str, float | None]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "an unknown share"
    return f"{value:.0%} ({low:.0%}-{high:.0%})"


def _cell(estimate: Mapping[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    value = f"{estimate['value']:.3f}"
    if estimate["low"] is None or estimate["high"] is None:
        return value
    return f"{value} ({estimate['low']:.3f}-{estimate['high']:.3f})"


def backtest_task(
    home: Home,
    store: Store,
    task: str,
    *,
    models: int | None = None,
    every_days: int | None = None,
    told: Update | None = None,
) -> dict[str, Any]:
    """Replay a task at past cut-offs; keep and return the report."""
    from models.backtest import MOST_CUTOFFS, backtest
    from models.tasks import get_task

    with stage(f"replaying {task}", told) as update:
        report = backtest(
            store, get_task(task), cutoffs=models or MOST_CUTOFFS, step_days=every_days, progress=update
        )
    found: dict[str, Any] = report.to_json() | {"asked_at": store.clock.now().isoformat()}
    save_backtest(home, task, found)
    return found


def show_backtest(report: Mapping[str, Any]) -> None:
    """Print what was said at each cut-off and on each Monday beside what came."""
    within = horizon_in_words(report["horizon_days"])
    title = f"{report['task']}: chance to be {report['outcome']} {within}, replayed"
    together = report["together"]
    replays = [(replay["cutoff"][:10], replay) for replay in report["cutoffs"]]
    rows = [
        _replay_cells(name, replay)
        for name, replay in (*replays, *([("together", together)] if together else []))
    ]
    columns = (
        "model made",
        "estimator",
        "questions>",
        "outcomes>",
        "said>",
        "came>",
        "AUC>",
        "log loss>",
        "AUC, new accounts>",
    )
    table(title, columns, rows)
    if report["mondays"]:
        _show_mondays(report)
    _show_called(report["called"], report["horizon_days"])
    for reason in report["left_out"]:
        click.echo(f"Left out: {reason}")


def _replay_cells(name: str, replay: Mapping[str, Any]) -> list[str]:
    unseen = replay["unseen_accounts"]["metrics"]
    return [
        name,
        replay["estimator"],
        f"{replay['questions']:,}",
        f"{replay['outcomes']:,}",
        f"{replay['said']:.1%}",
        f"{replay['came']:.1%}",
        _cell(replay["metrics"].get("auc")),
        _cell(replay["metrics"].get("log_loss")),
        _cell(unseen["auc"]) if unseen else "too few",
    ]


def _show_mondays(report: Mapping[str, Any]) -> None:
    """Print what the model made last said each Monday of all records open then."""
    money = any(monday["money_expected"] is not None for monday in report["mondays"])
    columns = ["Monday", "by model of", "open>", "said>", "came>", "came / said so far>"]
    columns += ["money expected>", "money came>"] if money else []
    table(
        "Each Monday, all records open then",
        columns,
        [_monday_cells(one, money=money) for one in report["mondays"]],
    )


def _monday_cells(monday: Mapping[str, Any], *, money: bool) -> list[str]:
    cells = [
        monday["monday"],
        monday["model_as_of"][:10],
        f"{monday['asked']:,}",
        f"{monday['said']:,.1f}",
        "not yet" if monday["came"] is None else f"{monday['came']:,}",
        _cell(monday["running"]),
    ]
    if money:
        cells += [
            "" if monday[name] is None else f"{monday[name]:,.0f}"
            for name in ("money_expected", "money_came")
        ]
    return cells
