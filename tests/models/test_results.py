"""The page of results says what the reports say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from models.results import render_report


def _metrics(auc: float | None) -> dict[str, Any]:
    names = (
        "auc",
        "log_loss",
        "brier",
        "calibration_error",
        "lift_top_decile",
        "mean_probability",
        "base_rate",
    )
    return {name: {"value": auc, "low": 0.61, "high": 0.79} for name in names}


def _report(**given: Any) -> dict[str, Any]:
    horizon = {
        "horizon_days": 90,
        "metrics": {"model": _metrics(0.7), "naive_bayes": _metrics(None)},
        "answered": {"model": 2655, "naive_bayes": 2600},
        "unseen_accounts": {"questions": 12, "metrics": None},
    }
    judged = {
        "estimator": "logistic",
        "model_as_of": "2018-04-01T00:00:00+00:00",
        "first_asked": "2018-04-02T03:00:00+00:00",
        "last_asked": "2018-05-31T03:00:00+00:00",
        "horizons": [horizon],
    }
    chosen = {"penalty": 3.0, "rounds": None, "window_days": None, "level_days": 60}
    return {
        "task": "lead_scoring",
        "variant": None,
        "outcome": "converted",
        "as_of": "2018-04-01T00:00:00+00:00",
        "estimator": "logistic",
        "training": {"questions": 20678, "outcomes": 313, "without_outcome": 4787},
        "selection": {"chosen": chosen},
        "judged": judged,
        "not_judged": None,
    } | given


def test_a_section_tells_what_was_chosen_and_how_right_it_was() -> None:
    page = render_report("Leads", _report())
    assert "20,678 questions, 313 converted, 4,787 not" in page
    assert "**logistic** (penalty 3, learns from all history, level from the last 60 days)" in page
    assert "| 90 days | **model** | 2,655 | 0.700 (0.610 to 0.790) |" in page
    assert "| 90 days | naive bayes | 2,600 | – |" in page


def _estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def _full() -> dict[str, Any]:
    """Return a report with everything that is reported of the shown horizon."""
    report = _report()
    names = (
        "average_precision",
        "brier_reliability",
        "brier_resolution",
        "brier_uncertainty",
        "calibration_slope",
    )
    metrics = _metrics(0.7) | {name: _estimate(0.4) for name in names}
    model = {"mean_probability": _estimate(0.2), "base_rate": _estimate(0.3), "auc": _estimate(0.7)}
    figures = {"model": model | {"log_loss": _estimate(0.5)}, "base_rate": {"log_loss": _estimate(0.6)}}
    part = {"field": "source", "questions": 1240, "records": 310, "outcomes": 40, "records_with_outcome": 7}
    shown = {
        "horizon_days": 60,
        "metrics": {"model": metrics, "base_rate": metrics},
        "answered": {"model": 10, "base_rate": 10},
        "unseen_accounts": {"questions": 0, "metrics": None},
        "called": [
            {"low": 0.6, "high": 0.7, "questions": 240, "records": 90, "happened": 0.63, "give_or_take": 0.06}
        ],
        "parts": [
            part | {"level": "web", "metrics": figures},
            part | {"level": "fair", "outcomes": 7, "metrics": None},
        ],
        "money": {
            "currency": "EUR",
            "expected": 1000.0,
            "came": 1100.0,
            "came_to_expected": _estimate(1.1),
            "top_tenth": {
                "model": {"by_probability": _estimate(0.23), "by_expected": _estimate(0.38)},
                "amount": {"by_amount": _estimate(0.22)},
            },
        },
    }
    band = {"from_days": 180.0, "to_days": None, "questions": 1200, "records": 300, "said": 40.4, "came": 12}
    report["judged"]["ages"] = [band | {"from_days": 7.0, "to_days": 30.0}, band]
    for one in report["judged"]["ages"]:
        one["give_or_take"] = 5.6
    report["judged"]["horizons"].append(shown)
    report["judged"]["horizon_days"] = 60
    return report


def test_counts_parts_and_money_are_told_of_the_shown_horizon() -> None:
    page = render_report("Leads", _full())
    assert "| 60% to 70% | 240 | 90 | 63.0% | 6.0% |" in page
    assert "| source | web | 1,240 | 310 | 0.200 | 0.300 (0.200 to 0.400) | 0.700 (0.600 to 0.800) |" in page
    assert "| source | fair | 1,240 | 310 | too few: 7 with the outcome |" in page
    assert "1,000 EUR expected" in page
    assert "| 7 to 30 | 1,200 | 300 | 40 | 12 | 6 |" in page
    assert "| 180 and more | 1,200 | 300 | 40 | 12 | 6 |" in page
    assert "0.230 (0.130 to 0.330) | 0.380 (0.280 to 0.480) |" in page


def test_every_table_is_as_wide_as_its_head() -> None:
    tables = [
        block for block in render_report("Leads", _full()).split("\n\n") if block.lstrip().startswith("|")
    ]
    assert len(tables) == 5
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_a_model_that_was_not_judged_says_why() -> None:
    page = render_report("Leads", _report(judged=None, not_judged="nothing is over yet"))
    assert "Not judged: nothing is over yet." in page
    assert "|" not in page


def test_leaving_open_deals_out_lets_a_win_rate_of_a_fifth_read_37_percent() -> None:
    lines = list(_results_script().closed_only())
    shares = [float(found) for line in lines for found in re.findall(r"([\d.]+)%", line)]
    closed_only, by_hazard, within_60_days, ever = shares
    assert closed_only == pytest.approx(37, abs=0.5)
    assert by_hazard == pytest.approx(within_60_days, abs=0.5)
    assert ever == 20


def _results_script() -> Any:
    """Return the module that writes the page of results; it belongs to no package."""
    path = Path(__file__).resolve().parents[2] / "docs" / "results.py"
    spec = importlib.util.spec_from_file_location("results_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
