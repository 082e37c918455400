"""Write docs/results.md: train on real and simulated data, and put down what came out.

    python docs/results.py --real FOLDER [--sizes small medium]

FOLDER holds the public data sets (a folder `olist` in it); without it only the simulated company is judged.
Takes some minutes; every figure on the page comes from this run.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from crm_core import migrations
from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, FixedClock
from crm_core.importing import load_mapping, run_import
from crm_core.store import Store
from models.forecasting.judging import judge_company, render, sum_up
from models.hazard import expit, expose, log_odds_within, share_of_intervals
from models.logistic import fit_levels
from models.registry import Registry
from models.results import render_report
from models.simulation import Truth, simulate_company
from models.task import Task
from models.tasks import TASKS, get_task
from models.training import train
from models.trials import CutTrial, Ground, cover_truth, say_one_signal_thrice, told_of_cuts, try_outcomes

ROOT = Path(__file__).resolve().parent.parent

HEAD = """# Results

Every figure on this page was written by `python docs/results.py`; none was typed. A model knows only what
was known on the day it is asked as of, and is judged on what was asked later. In brackets: 95 % intervals
from drawing the accounts again. "Said" is the mean probability, "came" the share that came true. How the
figures come about: [models](models.md).
"""

REAL = """## A real funnel: Olist

8,000 leads, 842 conversions, and what the sellers who were won sold later
([the data](https://www.kaggle.com/datasets/olistbr/marketing-funnel-olist), CC BY-NC-SA 4.0).
"""

SIMULATED = """## A simulated company, next to the true probabilities

The row "truth" is what somebody would say who knows the probabilities by which the company was made,
hidden states included: no honest model is better. See [the simulation](simulation.md).
"""

CLOSED_ONLY = """## Why open records are not left out

One deal in five is won, after some 30 days; the others are lost after some 120. Seen through a window of
90 days:
"""

WEIGHTS = """## Why a question does not count one over the number of its lead's questions

Three leads in ten are converted, at even times within 60 days; all are asked about at creation and after
7, 14, 30 and 60 days, while they are open. What is said of a new lead:
"""

CUT = """## With few outcomes

What is learned from is cut to as many accounts, drawn by chance, as have had so many outcomes; what is judged
stays the same. Below 20 outcomes nobody is told a probability: the scorecard, an opinion, puts records in
order. "Worse than noise": in how many companies the model's log loss was higher than the base rate's by more
than its 95 % interval.
"""

COVERAGE = """## How often the intervals of the calibration cover the truth

What came of a bin of probabilities is given with a 95 % interval. Outcomes are drawn again and again from the
true probabilities of the simulated leads that were judged; the share of intervals that hold the true
mean of their bin:
"""

ONE_SIGNAL = """## One signal, given three times

A signal stands beside half of all successes and few failures; records with it come true in 50 %. It is in the
data three times under different names, as mails sent, mails opened and mails answered are nearly one. What is
said of a record that has it:
"""

FORECASTS = """## Revenue forecasts, replayed

The last eight quarters of {companies} simulated small companies, each forecast from what was known at the
time: models, corrections and ranges too. In brackets: 95 % intervals from drawing companies again. "Deals
alone": the ranges there would be if deals shared nothing. Pinball loss: over the quantiles 0.1 to 0.9, as a
share of the mean revenue; a rule's single figure stands for all its quantiles. How forecasts are made:
[forecast](forecast.md).
"""

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write docs/results.md.")
    parser.add_argument("--real", type=Path, help="folder of the public data sets")
    parser.add_argument("--sizes", nargs="*", default=["small"], help="sizes of the simulated company")
    parser.add_argument("--companies", type=int, default=20, help="companies whose forecasts are replayed")
    asked = parser.parse_args()
    parts = [HEAD]
    if asked.real is not None:
        parts += [REAL, *real_data(asked.real)]
        from results_flat import flat_exports  # beside this file; reads what the tests know of the data

        parts += flat_exports(asked.real)
    parts += [SIMULATED, *(part for size in asked.sizes for part in simulated(size))]
    from results_gain import gain_section, measured  # beside this file

    parts += [gain_section(measured(asked.real, asked.sizes)), ""]
    parts += [CUT, *outcomes_cut("small", (0, 20, 60, 200), (1, 2, 3))]
    if "medium" in asked.sizes:
        parts += outcomes_cut("medium", (1000,), (1,))
    parts += ["", COVERAGE, *coverage(asked.sizes[0]), ""]
    parts += [ONE_SIGNAL, *one_signal(), ""]
    parts += [FORECASTS.format(companies=asked.companies), *forecasts(asked.companies), ""]
    parts += [CLOSED_ONLY, *closed_only(), "", WEIGHTS, *weights()]
    page = "\n".join(parts).rstrip() + "\n"
    (ROOT / "docs" / "results.md").write_text(page, encoding="utf-8")


def real_data(folder: Path) -> Iterator[str]:
    """Yield a section for the leads and one for the sellers."""
    with tempfile.TemporaryDirectory() as home:
        store = open_store(Path(home), datetime(2019, 1, 1, tzinfo=UTC))
        run_import(store, load_mapping("olist"), folder / "olist")
        april, june = datetime(2018, 4, 1, tzinfo=UTC), datetime(2018, 5, 31, tzinfo=UTC)
        february = datetime(2018, 1, 31, 23, tzinfo=UTC)  # the longest rhythm is over by the end of the data
        for title, task, as_of in (
            ("Leads of April and May 2018", get_task("lead_scoring"), april),
            ("Sellers who sell nothing in the next 60 days", get_task("churn").of_variant("orders"), june),
            ("Sellers who are silent for longer than their rhythm allows", get_task("churn"), february),
        ):
            yield section(store, Path(home), title, task, as_of, None)
        store.close()


def simulated(size: str) -> Iterator[str]:
    """Yield a section for each task on a company of a size."""
    with tempfile.TemporaryDirectory() as home:
        store = open_store(Path(home), NOW)
        truth = simulate_company(store, size=size, seed=1)
        for task in TASKS:
            title = f"{task.replace('_', ' ').capitalize()}, {size} company"
            yield section(store, Path(home), title, get_task(task), NOW - timedelta(days=270), truth)
        store.close()


def outcomes_cut(size: str, cuts: Sequence[int], seeds: Sequence[int]) -> Iterator[str]:
    """Yield a table a task: the ladder with so many outcomes, over companies."""
    trials: dict[str, dict[int, list[CutTrial]]] = {task: {} for task in ("lead_scoring", "win_probability")}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as home:
            store = open_store(Path(home), NOW)
            simulate_company(store, size=size, seed=seed)
            for task, found in trials.items():
                print(f"few outcomes: {task}, company {seed}", file=sys.stderr, flush=True)
                ground = Ground.of(store, get_task(task), NOW - timedelta(days=270))
                for trial in try_outcomes(ground, cuts, seed=seed):
                    found.setdefault(trial.outcomes, []).append(trial)
            store.close()
    for task, found in trials.items():
        companies = "company" if len(seeds) == 1 else "companies"
        yield f"{task.replace('_', ' ').capitalize()}, {len(seeds)} {companies} of size {size}:\n"
        yield "| outcomes | steps in use | AUC | log loss | of the base rate | gain | worse than noise |"
        yield "|---|---|---|---|---|---|---|"
        yield from (told_of_cuts(found[outcomes]) for outcomes in sorted(found))
        yield ""


def coverage(size: str) -> Iterator[str]:
    """Yield how often intervals held the truth."""
    with tempfile.TemporaryDirectory() as home:
        store = open_store(Path(home), NOW)
        truth = simulate_company(store, size=size, seed=1)
        ground = Ground.of(store, get_task("lead_scoring"), NOW - timedelta(days=270))
        found = cover_truth(ground, truth, draws=200)
        store.close()
    yield f"{found.covered:,} of {found.bins:,}: {found.share:.1%}, with {found.questions:,} leads judged."


def one_signal() -> Iterator[str]:
    """Yield the lines of the demonstration of a naive Bayes."""
    said = say_one_signal_thrice()
    yield "| | said | came |\n|---|---|---|"
    yield f"| categorical naive Bayes | {said.naive_bayes:.1%} | {said.came:.1%} |"
    yield f"| the shrunken logistic model | {said.logistic:.1%} | {said.came:.1%} |"


def forecasts(companies: int) -> Iterator[str]:
    """Yield the tables on the forecasts of so many companies; about half a minute each."""
    judged = []
    for seed in range(1, companies + 1):
        print(f"Forecasts, company {seed}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as home:
            store = open_store(Path(home), NOW)
            simulate_company(store, size="small", seed=seed)
            judged.append(judge_company(store, NOW))
            store.close()
    yield from render(sum_up(judged))


def section(store: Store, home: Path, title: str, task: Task, as_of: datetime, truth: Truth | None) -> str:
    """Return the section on one training."""
    print(title, file=sys.stderr, flush=True)
    registry = Registry(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts")
    report = train(store, task, as_of=as_of, registry=registry, truth=truth)
    return render_report(title, report.to_json())


def open_store(home: Path, now: datetime) -> Store:
    """Return an empty store."""
    url = f"sqlite:///{home / 'crm.db'}"
    migrations.upgrade(url)
    return Store(url, clock=FixedClock(now))


def closed_only() -> Iterator[str]:
    """Yield the lines of the demonstration."""
    random, many = np.random.default_rng(1), 200_000
    born = random.uniform(-90, 0, many)
    won = random.random(many) < 0.2
    ends = born + np.where(won, random.exponential(30, many), random.exponential(120, many))
    closed = ends <= 0
    days = (7, 14, 30, 60)
    exposure = expose(
        as_of=(born * DAY).astype(np.int64),
        event_at=np.where(won & closed, ends * DAY, float(NO_INSTANT)).astype(np.int64),
        known_until=np.zeros(many, dtype=np.int64),
        weight=np.ones(many),
        ends_days=days,
    )
    hazards = fit_levels(exposure)[None, :]
    said = expit(log_odds_within(hazards, share_of_intervals(days, 60)))[0]
    truth = 0.2 * (1 - np.exp(-60 / 30))
    yield "| | won |\n|---|---|"
    yield f"| among the deals that are closed, the others left out | {won[closed].mean():.1%} |"
    yield f"| within 60 days by the hazard, open deals counted as far as they were seen | {said:.1%} |"
    yield f"| within 60 days in truth | {truth:.1%} |"
    yield "| ever in truth | 20.0% |"


def weights() -> Iterator[str]:
    """Yield the lines of the other demonstration."""
    random, many, days = np.random.default_rng(2), 100_000, (30, 60)
    when = np.where(random.random(many) < 0.3, random.uniform(0, 60, many), np.inf)
    ages = np.array([0, 7, 14, 30, 60])
    lead, age = np.nonzero(when[:, None] > ages)
    count = np.bincount(lead, minlength=many)[lead]
    new = age == 0
    yield "| weight of a question | said within 60 days | came |\n|---|---|---|"
    for name, weight in (("one over the lead's questions", 1 / count), ("the same", np.ones(len(lead)))):
        exposure = expose(
            as_of=ages[age] * DAY,
            event_at=np.where(
                np.isfinite(when[lead]), np.nan_to_num(when[lead], posinf=0) * DAY, NO_INSTANT
            ).astype(np.int64),
            known_until=np.full(len(lead), 1000 * DAY),
            weight=weight,
            ends_days=days,
        ).take(new)
        hazards = fit_levels(exposure)[None, :]
        said = expit(log_odds_within(hazards, share_of_intervals(days, 60)))[0]
        yield f"| {name} | {said:.1%} | {np.isfinite(when).mean():.1%} |"


if __name__ == "__main__":
    main()
