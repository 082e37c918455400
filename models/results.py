"""Figures of trainings as Markdown: what docs/results.md is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from models.shown_horizon import shown_horizon

Report = Mapping[str, Any]

_COLUMNS = {
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier",
    "calibration_error": "calibration error",
    "lift_top_decile": "lift, top tenth",
    "mean_probability": "said",
    "base_rate": "came",
}
"""Metrics shown, and what they are called."""

_WIDE = ("auc", "log_loss")
"""Metrics shown with their interval."""

_MORE_COLUMNS = {
    "average_precision": "average precision",
    "brier_reliability": "reliability",
    "brier_resolution": "resolution",
    "brier_uncertainty": "uncertainty",
    "calibration_slope": "calibration slope",
}
"""Metrics of the second table: Brier = reliability - resolution + uncertainty."""

_WIDE_MORE = ("average_precision", "calibration_slope")

_MONEY_COLUMNS_OF = ("by_probability", "by_expected")
_MONEY_COLUMNS = ("money in the top tenth by probability", "by probability x amount")
_PART_COLUMNS = ("mean_probability", "base_rate", "auc", "log_loss")
_NOTHING = "–"  # noqa: RUF001  an en dash stands for nothing


def render_report(title: str, report: Report) -> str:
    """Return a section on one training: what was chosen, how right it was, and beside what."""
    return "\n".join((f"### {title}", "", *_facts(report), "", *_tables(report), ""))


def _facts(report: Report) -> Iterator[str]:
    training, chosen = report["training"], report["selection"]["chosen"]
    kind = f", {report['variant']}" if report["variant"] else ""
    yield (
        f"Asked as of {report['as_of'][:10]} ({report['task']}{kind}): {training['questions']:,} questions, "
        f"{training['outcomes']:,} {report['outcome']}, {training['without_outcome']:,} not. "
        f"Chosen: **{report['estimator'].replace('_', ' ')}**{_recipe(chosen)}."
    )
    judged = report["judged"]
    if judged is None:
        yield f"Not judged: {report['not_judged']}."
        return
    made, first, last = (judged[name][:10] for name in ("model_as_of", "first_asked", "last_asked"))
    form = judged["estimator"].replace("_", " ")
    yield f"Judged: a model of {made} ({form}) on questions asked from {first} to {last}."


def _recipe(chosen: Mapping[str, Any]) -> str:
    told = []
    if chosen["penalty"] is not None:
        told.append(f"penalty {chosen['penalty']:g}")
    if chosen["rounds"] is not None:
        told.append(f"{chosen['rounds']} trees")
    told.append(f"learns from {_days(chosen['window_days'])}")
    told.append(f"level from {_days(chosen['level_days'])}")
    return f" ({', '.join(told)})"


def _days(days: int | None) -> str:
    return "all history" if days is None else f"the last {days} days"


def _tables(report: Report) -> Iterator[str]:
    if report["judged"] is None:
        return
    yield from _row(("within", "", "questions", *_COLUMNS.values()))
    yield from _row(("---",) * (len(_COLUMNS) + 3))
    for horizon in report["judged"]["horizons"]:
        for name, metrics in horizon["metrics"].items():
            yield from _line(horizon, name, horizon["answered"][name], metrics)
        unseen = horizon["unseen_accounts"]
        if unseen["metrics"] is not None:
            yield from _line(horizon, "model, new accounts", unseen["questions"], unseen["metrics"])
    main = shown_horizon(report["judged"])
    yield from _more(main)
    yield from _called(main)
    yield from _parts(main)
    yield from _ages(report["judged"])


def _more(main: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of the Brier score and, where there is any, the money in the first tenth."""
    if not any("brier_reliability" in metrics for metrics in main["metrics"].values()):
        return
    money = main.get("money")
    yield ""
    if money is not None:
        yield _of_money(money)
        yield ""
    yield from _row(("", *_MORE_COLUMNS.values(), *(_MONEY_COLUMNS if money else ())))
    yield from _row(("---",) * (1 + len(_MORE_COLUMNS) + (len(_MONEY_COLUMNS) if money else 0)))
    for name, metrics in main["metrics"].items():
        cells = [
            _figure(metrics[metric], wide=metric in _WIDE_MORE, digits=4 if "brier" in metric else 3)
            for metric in _MORE_COLUMNS
        ]
        shares = money["top_tenth"].get(name, {}) if money else {}
        cells += [_figure(shares.get(order), wide=True) for order in _MONEY_COLUMNS_OF] if money else []
        yield from _row((_bold(name), *cells))


def _of_money(money: Mapping[str, Any]) -> str:
    currency = f" {money['currency']}" if money["currency"] else ""
    alone = _figure(money["top_tenth"]["amount"]["by_amount"], wide=True)
    times = _figure(money["came_to_expected"], wide=True)
    return (
        f"Money, as known when asked: {money['expected']:,.0f}{currency} expected (probability x amount, "
        f"summed over questions), {money['came']:,.0f} came, {times} times as much. The tenth with the "
        f"largest amounts held {alone} of it."
    )


def _called(main: Mapping[str, Any]) -> Iterator[str]:
    """Yield what came of what was called so likely, in counts."""
    called: Sequence[Mapping[str, Any]] = main.get("called") or ()
    if not called:
        return
    yield ""
    yield from _row(("called", "questions", "records", "came true", "give or take"))
    yield from _row(("---",) * 5)
    for one in called:
        span = f"{one['low']:.0%} to {one['high']:.0%}"
        counts = f"{one['questions']:,}", f"{one['records']:,}"
        yield from _row((span, *counts, f"{one['happened']:.1%}", f"{one['give_or_take']:.1%}"))


def _parts(main: Mapping[str, Any]) -> Iterator[str]:
    """Yield periods and segments, the model's log loss next to those of the others."""
    parts: Sequence[Mapping[str, Any]] = main.get("parts") or ()
    if not parts:
        return
    others = [name for name in main["metrics"] if name != "model"]
    columns = ("", "", "questions", "records", "said", "came", "AUC", "log loss")
    yield ""
    yield from _row((*columns, *(name.replace("_", " ") for name in others)))
    yield from _row(("---",) * (len(columns) + len(others)))
    for part in parts:
        head = part["field"], part["level"], f"{part['questions']:,}", f"{part['records']:,}"
        metrics = part["metrics"]
        if metrics is None:
            told = f"too few: {part['records_with_outcome']:,} with the outcome"
            yield from _row((*head, told, *(_NOTHING,) * (3 + len(others))))
            continue
        model = metrics["model"]
        cells = [_figure(model[name], wide=name != "mean_probability") for name in _PART_COLUMNS]
        beside = [_figure(metrics.get(name, {}).get("log_loss")) for name in others]
        yield from _row((*head, *cells, *beside))


def _ages(judged: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was said of all open records by their age, and what came."""
    bands: Sequence[Mapping[str, Any]] = judged.get("ages") or ()
    if not bands:
        return
    yield ""
    within = f"within {judged['horizon_days']} days"
    yield f"All open records on Mondays, by age; sums of what was said, and of what came {within}:"
    yield ""
    yield from _row(("days old", "questions", "records", "said", "came", "give or take"))
    yield from _row(("---",) * 6)
    for band in bands:
        counts = f"{band['questions']:,}", f"{band['records']:,}"
        sums = f"{band['said']:,.0f}", f"{band['came']:,}", f"{band['give_or_take']:,.0f}"
        yield from _row((_span_of(band), *counts, *sums))


def _span_of(band: Mapping[str, Any]) -> str:
    start, end = band["from_days"], band["to_days"]
    return f"{start:g} and more" if end is None else f"{start:g} to {end:g}"


def _line(
    horizon: Mapping[str, Any], name: str, questions: int, metrics: Mapping[str, Mapping[str, float | None]]
) -> Iterator[str]:
    cells = [_cell(metric, metrics[metric]) for metric in _COLUMNS]
    yield from _row((f"{horizon['horizon_days']} days", _bold(name), f"{questions:,}", *cells))


def _bold(name: str) -> str:
    return f"**{name}**" if name == "model" else name.replace("_", " ")


def _cell(metric: str, estimate: Mapping[str, float | None]) -> str:
    value = estimate["value"]
    if metric == "lift_top_decile" and value is not None:
        return f"{value:.1f}"
    return _figure(estimate, wide=metric in _WIDE)


def _figure(estimate: Mapping[str, float | None] | None, *, wide: bool = False, digits: int = 3) -> str:
    """Return a figure, with its interval if `wide`."""
    if estimate is None or estimate["value"] is None:
        return _NOTHING
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if wide and low is not None and high is not None:
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}"


def _row(cells: Iterable[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
