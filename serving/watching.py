"""Whether the models that serve are still right: asked, kept beside the models, and acted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from crm_core.errors import DamagedModelError, FeatureSetMismatchError, ModelNotFoundError, NoChampionError
from crm_core.store import Store
from models.shown_horizon import shown_horizon
from serving.console import Update, stage, table
from serving.home import Home
from serving.modelling import load_bundle_of, open_registry
from serving.reports import read_report, save_watch

if TYPE_CHECKING:
    from models.watching import Promise

NOT_AGAIN_DAYS = 7
"""After a training that did not lead to a promotion, the same findings lead to the next no sooner."""

WHAT = {
    "inputs": "the records asked about are of another kind",
    "outcomes": "the event comes more or less often than before",
    "calibration": "the event comes more or less often than the model says",
    "performance": "stored predictions, judged as they were made",
}
ADVICE = {
    "inputs": "look at the features named; train again if calibration is off too",
    "outcomes": "ask what changed in the business; the model may know it already: see calibration",
    "calibration": "crm train {task}; until then, read its probabilities with the factor above",
    "performance": "crm train {task}; crm models rollback {task} if it began with the newest version",
}


def watch_task(home: Home, store: Store, task: str, told: Update | None = None) -> dict[str, Any]:
    """Watch the champion of a task; keep the report where the page of models finds it, and return it.

    With it is kept what was said week by week, and how a challenger does beside the champion.
    """
    from models.score_weeks import scores_by_week
    from models.watching import reasons_to_train, watch

    with stage(f"watching {task}", told) as update:
        update("comparing with what has come", None, None)
        bundle = load_bundle_of(home, store, task)
        found = watch(store, bundle, promise=_promise_of(home, bundle.version))
        update("reading past scores", None, None)
        weeks = scores_by_week(store, task)
        beside = _shadow(store, task)
    report = found.to_json() | {
        "reasons_to_train": list(reasons_to_train(found)),
        "scores": [week.to_json() for week in weeks],
        "shadow": beside,
    }
    save_watch(home, task, report)
    return report


def _shadow(store: Store, task: str) -> dict[str, Any] | None:
    """Return how the challenger does beside the champion; None without one, or before both were asked."""
    from models.shadowing import compare_shadows

    try:
        found = compare_shadows(store, task)
    except ModelNotFoundError:
        return None
    return found.to_json() if found.questions else None


def train_if_needed(home: Home, store: Store, task: str) -> dict[str, Any]:
    """Train a task if no model serves, or the one that does is no longer right; say why, or why not."""
    from serving.training_runs import train_task

    reasons, held = _reasons(home, store, task), None
    if reasons:
        held = _tried_lately(home, store, task)
    if not reasons or held:
        return {"task": task, "trained": False, "reasons": reasons, "held_back": held, "report": None}
    report = train_task(home, store, task)
    return {"task": task, "trained": True, "reasons": reasons, "held_back": None, "report": report}


def show_watch(reports: Sequence[Mapping[str, Any]]) -> None:
    """Print what was found about each task."""
    for report in reports:
        rows = [
            (finding["kind"], finding["state"], _figure(finding), _limits(finding), WHAT[finding["kind"]])
            for finding in report["findings"]
        ]
        made = report["made_as_of"][:10]
        title = f"{report['task']}: {report['state']}; {report['model_version']} as of {made}"
        table(title, ("", "state", "found>", "watch / act from>", "what it compares"), rows)
        for finding in report["findings"]:
            _show_finding(report["task"], finding)
        click.echo(f"{report['new_outcomes']} outcomes since; it learned from {report['taught_outcomes']}")


def show_if_needed(reports: Sequence[Mapping[str, Any]]) -> None:
    """Print which tasks were trained, and why or why not."""
    from serving.training_runs import show_reports

    for each in reports:
        why = "; ".join(each["reasons"]) or "nothing asks for it"
        if each["trained"]:
            click.echo(f"{each['task']}: trained ({why})")
            show_reports([each["report"]])
        else:
            click.echo(f"{each['task']}: not trained ({each['held_back'] or why})")


def _show_finding(task: str, finding: Mapping[str, Any]) -> None:
    if finding["why"]:
        click.echo(f"  {finding['kind']}: {finding['why']}")
    if finding["state"] not in ("watch", "act"):
        return
    for feature in finding["evidence"].get("features", ()):
        click.echo(f"  {feature['feature']} has moved by {feature['index']:.2f}: {_largest(feature)}")
    for currency, amount in (finding["money"] or {}).items():
        said = "too high" if amount > 0 else "too low"
        what = "the money at risk is stated" if task == "churn" else "what is expected of open records is"
        click.echo(f"  {what} {abs(amount):,.0f} {currency or '(no currency)'} {said}")
    click.echo(f"  {finding['kind']}: {ADVICE[finding['kind']].format(task=task)}")


def _largest(shift: Mapping[str, Any]) -> str:
    """Return the bin that moved most, in words."""
    moved = [abs(after - before) for before, after in zip(shift["before"], shift["after"], strict=True)]
    place = moved.index(max(moved))
    return f"{shift['bins'][place]} from {shift['before'][place]:.0%} to {shift['after'][place]:.0%}"


def _figure(finding: Mapping[str, Any]) -> str:
    value = finding["value"]
    if value is None or value["value"] is None:
        return ""
    if value["low"] is None:
        return f"{value['value']:.2f}"
    return f"{value['value']:.2f} ({value['low']:.2f}-{value['high']:.2f})"


def _limits(finding: Mapping[str, Any]) -> str:
    if finding["watch_from"] is None:
        return ""
    return f"{finding['watch_from']:.2f} / {finding['act_from']:.2f}"


def _reasons(home: Home, store: Store, task: str) -> list[str]:
    try:
        return list(watch_task(home, store, task)["reasons_to_train"])
    except NoChampionError:
        return ["no model serves"]
    except (DamagedModelError, FeatureSetMismatchError, ModelNotFoundError) as error:
        return [f"the model that serves cannot be used: {error}"]


def _tried_lately(home: Home, store: Store, task: str) -> str | None:
    """Return when a training came to nothing, if that is too lately for another; None where it is not."""
    from crm_core.promotions import find_champion

    with store.reading() as session:
        champion = find_champion(session, task)
        run_id = champion.run_id if champion else None
    newest = next(iter(open_registry(home).list_versions(task)), None)
    if newest is None or run_id is None or newest.run_id == run_id:
        return None
    trained: datetime = newest.created_at
    if store.clock.now() - trained >= timedelta(days=NOT_AGAIN_DAYS):
        return None
    return (
        f"{newest.name} was trained on {trained:%Y-%m-%d} and not promoted; "
        f"the next training is due {NOT_AGAIN_DAYS} days later"
    )


def _promise_of(home: Home, version: str) -> Promise | None:
    """Return what the report of a version's training said of it; None where there is none."""
    from models.evaluation import Estimate
    from models.watching import Promise

    judged = (read_report(home, version) or {}).get("judged")
    if not judged:
        return None
    metrics = shown_horizon(judged)["metrics"]["model"]
    if metrics["auc"]["low"] is None:
        return None
    return Promise(auc=Estimate(**metrics["auc"]), log_loss=Estimate(**metrics["log_loss"]))
