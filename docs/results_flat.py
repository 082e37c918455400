"""The sections of docs/results.md on flat exports, and on what the guard says of leaks that were put back in.

Called by docs/results.py; needs the folders `eci2020`, `ibm_win_loss` and `telco_churn` of the public data.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from crm_core import migrations
from crm_core.clock import FixedClock, micros
from crm_core.importing import load_mapping, run_import
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.evaluation import Estimate, Judged, measure
from models.fitting import Recipe, Rung
from models.questions import answers, ask, first_instant
from models.registry import Registry
from models.tasks import get_task
from models.training import look_for_leaks, train
from tests.models.real_leaks import SETS, RealSet, import_spoilt

NOW = datetime(2026, 3, 2, tzinfo=UTC)

HEAD = """## Flat exports

Deals and customers as other systems export them: without dates, or with dates of their ends that are no more
than a limit. Asked once of each record: how does it end? "Slope": of a regression of the answers on the
log-odds said; 1 is right, below 1 what was said was too extreme. See
[without dates](models.md#without-dates).
"""

GUARD = """## Leaks put back in

The known leaks of four public data sets, joined in as a careless mapping would that believes every column to
be known from the start. "Refused": by name, with the evidence. "False alarms": honest columns refused.
"""

COLUMNS = ("auc", "log_loss", "calibration_slope", "calibration_error", "mean_probability", "base_rate")
TITLES = ("", "records", "AUC", "log loss", "slope", "calibration error", "said", "came")

ECI_AS_OF = datetime(2018, 7, 1, tzinfo=UTC)
ECI_ORIGINS = tuple(datetime(year, month, 1, tzinfo=UTC) for year, month in ((2017, 1), (2017, 7), (2018, 1)))


@dataclass(frozen=True, kw_only=True)
class Flat:
    """A file to train on: its mapping and folder, the task, until when to know, and what to say of it."""

    title: str
    about: str
    mapping: str
    folder: str
    task: str
    as_of: datetime | None = None


FLAT = (
    Flat(
        title="ECI: opportunities of 2018, second half",
        about="Opportunities of a maker of air conditioning: days of creation, no day of closing.",
        mapping="eci",
        folder="eci2020",
        task="win_probability",
        as_of=ECI_AS_OF,
    ),
    Flat(
        title="IBM: won or lost, no dates",
        about="IBM's sample of closed opportunities, without what was measured at their closing.",
        mapping="ibm-win-loss",
        folder="ibm_win_loss",
        task="win_probability",
    ),
    Flat(
        title="Telco: who left, no dates",
        about="IBM's sample of telecom customers, one snapshot.",
        mapping="telco-churn",
        folder="telco_churn",
        task="churn",
    ),
)


def flat_exports(folder: Path) -> Iterator[str]:
    """Yield the lines on each flat export that is in the folder, and on the guard."""
    yield HEAD
    for flat in FLAT:
        if (folder / flat.folder).is_dir():
            yield from _trained(flat, folder)
    yield GUARD
    yield from _guarded(folder)
    yield ""


def _trained(flat: Flat, folder: Path) -> Iterator[str]:
    print(flat.title, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as home:
        store = _open(Path(home))
        run_import(store, load_mapping(flat.mapping), folder / flat.folder)
        registry = Registry(f"sqlite:///{home}/mlflow.db", Path(home) / "mlartifacts")
        report = train(store, get_task(flat.task), as_of=flat.as_of, registry=registry)
        yield from _section(flat, report.to_json())
        if flat.as_of is not None:
            yield from _drift(store)
        store.close()


def _open(home: Path) -> Store:
    migrations.upgrade(f"sqlite:///{home / 'crm.db'}")
    return Store(f"sqlite:///{home / 'crm.db'}", clock=FixedClock(NOW))


def _section(flat: Flat, report: Mapping[str, Any]) -> Iterator[str]:
    main = report["judged"]["horizons"][-1]
    yield f"### {flat.title}\n\n{flat.about} Chosen: **{report['estimator'].replace('_', ' ')}**."
    if report["no_time_order"]:
        yield (
            "**No time order was possible**: the records have no dates. Each record is judged by a model of "
            "other records (5 parts, rows that are the same throughout in one part)."
        )
    else:
        learned = report["training"]["questions"]
        yield (
            f"Learned from {learned:,} deals made and known as ended by {report['as_of'][:10]}, judged on "
            "all that were made later and ended."
        )
    yield ""
    yield from _table((name, main["answered"][name], metrics) for name, metrics in main["metrics"].items())
    for each in report["guard"]["suspicions"]:
        if each["doubtful"]:
            yield f"\nThe guard doubts `{each['fields'][0]}`: {each['evidence']}."
    yield ""


def _table(rows: Iterator[tuple[str, int, Mapping[str, Mapping[str, float]]]]) -> Iterator[str]:
    yield f"| {' | '.join(TITLES)} |"
    yield f"|{'---|' * len(TITLES)}"
    for name, count, metrics in rows:
        cells = [_cell(metrics[column], wide=column in COLUMNS[:3]) for column in COLUMNS]
        shown = f"**{name}**" if name == "model" else name.replace("_", " ")
        yield f"| {shown} | {count:,} | {' | '.join(cells)} |"


def _cell(found: Mapping[str, float | None], *, wide: bool) -> str:
    value, low, high = (found[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "–"  # noqa: RUF001  an en dash stands for nothing
    return f"{value:.3f} ({low:.3f} to {high:.3f})" if wide else f"{value:.3f}"


def _drift(store: Store) -> Iterator[str]:
    """Yield how models of earlier days fared on what was made in the half year after."""
    yield "The same at earlier days, with one plain recipe (logistic) for all:\n"
    yield "| model of | deals of the next half year | ended since | said | came | AUC | slope |"
    yield f"|{'---|' * 7}"
    task = get_task("win_probability").in_store(store)
    features = feature_set_for(store, task.name)
    start = first_instant(store, task)
    questions = ask(store, task, features, task.ask, start=start, until=NOW)
    recipe = Recipe(rung=Rung.LOGISTIC, penalty=10.0)
    for origin in ECI_ORIGINS:
        bundle = build_bundle(gather(questions, store, features, micros(origin)), recipe=recipe).bundle
        until = micros(origin + timedelta(days=183))
        later = questions.take((questions.as_of > micros(origin)) & (questions.as_of <= until))
        answer = answers(store, later, task.horizon_days)
        asked = later.take(answer.over)
        judged = Judged(happened=answer.happened[answer.over], entity=asked.cohort.ids)
        found = measure(bundle.predict(asked.frame).probability, judged)
        yield _origin(origin, len(later), float(np.mean(answer.over)), found)
    yield (
        "\nA slope below 0.8 on deals nearly all of which have ended is drift: what wins a deal changes from "
        "one half year to the next, so that every model is surer than it may be. In its last months the file "
        "holds only deals that ended fast, and more of them are won."
    )
    yield ""


def _origin(origin: datetime, asked: int, over: float, found: Mapping[str, Estimate]) -> str:
    slope, auc = found["calibration_slope"], found["auc"]
    said, came = found["mean_probability"].value, found["base_rate"].value
    return (
        f"| {origin:%Y-%m-%d} | {asked:,} | {over:.0%} | {said:.3f} | {came:.3f} "
        f"| {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}) "
        f"| {slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f}) |"
    )


def _guarded(folder: Path) -> Iterator[str]:
    yield "| set | known leaks | refused | honest columns | false alarms | doubted |"
    yield f"|{'---|' * 6}"
    evidence: list[str] = []
    for name, real in SETS.items():
        if not (folder / real.folder).is_dir():
            continue
        print(f"leaks of {name}", file=sys.stderr, flush=True)
        line, told = _guard(name, real, folder)
        yield line
        evidence += told
    yield "\nThe evidence, as the refusal gives it:\n"
    yield from evidence
    yield (
        "\nIn a file without dates nothing proves that a column was measured at the end. There, the guard "
        "goes by what a column is called (days, elapsed, stage changes and the like, in both languages), "
        "where it also tells the outcome; a column that is called otherwise has to be declared."
    )


def _guard(name: str, real: RealSet, folder: Path) -> tuple[str, list[str]]:
    with tempfile.TemporaryDirectory() as home:
        store = _open(Path(home))
        import_spoilt(store, real, folder, Path(home))
        found = look_for_leaks(store, get_task(real.task))
        task = get_task(real.task).in_store(store)
        looked_at = {
            field
            for feature in feature_set_for(store, task.name).features
            for field in feature.source_fields
            if field.startswith(f"{task.record_type}.custom.")
        }
        store.close()
    refused = {each.fields[0].rsplit(".", 1)[-1]: each for each in found if not each.doubtful}
    doubted = [each.fields[0].rsplit(".", 1)[-1] for each in found if each.doubtful]
    honest = len({field.rsplit(".", 1)[-1] for field in looked_at} - real.leaks)
    caught = sorted(real.leaks & refused.keys())
    false = sorted(refused.keys() - real.leaks)
    line = (
        f"| {name} | {len(real.leaks)} | {len(caught)} | {honest} "
        f"| {_named(false)} | {', '.join(doubted) or 'none'} |"
    )
    return line, [
        f"- {name}, `{field}` ({refused[field].check}): {refused[field].evidence}" for field in caught
    ]


def _named(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"
