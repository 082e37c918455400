"""The page of results says what the reports say."""

from __future__ import annotations

from typing import Any

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


def test_a_model_that_was_not_judged_says_why() -> None:
    page = render_report("Leads", _report(judged=None, not_judged="nothing is over yet"))
    assert "Not judged: nothing is over yet." in page
    assert "|" not in page
