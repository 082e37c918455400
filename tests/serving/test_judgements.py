"""How right a model was, as the page of models and the command line tell it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from flask import Flask

from crm_core.clock import DAY, micros
from models.ages import AgeBand
from models.breakdown import judge_parts
from models.called import called_bins
from models.captured import Amounts, judge_money
from models.evaluation import Judged, measure
from models.mondays import Weeks, list_mondays
from serving.reports import read_backtest, save_backtest, save_report
from serving.settings import Settings
from serving.training_runs import show_backtest, show_judgement
from tests.serving.conftest import Cast, logged_in

MANY = 600
MONDAY = micros(datetime(2025, 10, 6, tzinfo=UTC))


def answers() -> tuple[np.ndarray[Any, Any], Judged]:
    """Return what was said of deals, most of them little, and what came of them."""
    random = np.random.default_rng(2)
    said = random.beta(2, 4, MANY)
    return said, Judged(happened=random.random(MANY) < said, entity=np.arange(MANY))


def judged() -> dict[str, Any]:
    """Return the judgement of a report, made of real figures."""
    said, answer = answers()
    both = {"model": said, "base_rate": np.full(MANY, 0.33)}
    stages = np.array(["needs", "proposal"], dtype=object)[np.arange(MANY) % 2]
    stages[:5] = "(other)"
    amounts = Amounts(known=np.full(MANY, 1000.0), final=np.full(MANY, 1000.0), currency="EUR")
    captured = judge_money(both, answer, amounts)
    assert captured is not None
    horizon = {
        "horizon_days": 90,
        "questions": MANY,
        "outcomes": int(answer.happened.sum()),
        "metrics": {
            name: {metric: found.to_json() for metric, found in measure(values, answer).items()}
            for name, values in both.items()
        },
        "called": [one.to_json() for one in called_bins(said, answer)],
        "parts": [one.to_json() for one in judge_parts(both, answer, {"stage": stages})],
        "money": captured.to_json(),
    }
    longer = horizon | {"horizon_days": 180, "outcomes": 0}
    return {
        "horizon_days": 90,
        "first_asked": "2025-06-01T00:00:00+00:00",
        "last_asked": "2025-09-01T00:00:00+00:00",
        "horizons": [horizon, longer],
        "importances": [{"group": "stage", "mean_abs_log_odds": 0.65}],
        "ages": [
            AgeBand(
                from_days=60.0, to_days=None, questions=900, records=90, said=37.2, came=14, give_or_take=6.1
            ).to_json()
        ],
    }


def replayed() -> dict[str, Any]:
    """Return the report of a replay of two Mondays, of which the second is not over."""
    said, answer = answers()
    as_of = np.repeat([MONDAY, MONDAY + 7 * DAY], MANY // 2)
    over = as_of == MONDAY
    weeks = Weeks(
        made=MONDAY - 5 * DAY,
        as_of=as_of,
        probability=said,
        over=over,
        happened=answer.happened & over,
        account=answer.entity,
        record=answer.entity,
        expected=said * 1000,
        came=(answer.happened & over) * 1000.0,
        currency="EUR",
    )
    return {
        "task": "win_probability",
        "outcome": "won",
        "horizon_days": 90,
        "cutoffs": [],
        "together": None,
        "mondays": [monday.to_json() for monday in list_mondays([weeks])],
        "called": [one.to_json() for one in called_bins(said[over], answer.take(over))],
        "currency": "EUR",
        "left_out": ["2025-04-01: too few"],
    }


@pytest.mark.parametrize(
    ("language", "told"),
    [
        (
            "en",
            [
                "Give or take",
                "Money in the top tenth",
                "Needs",
                "others",
                "too few for figures",
                "Parts of the Brier",
                "Open records by age",
                "≥ 60",
                "± 6",
            ],
        ),
        (
            "zh",
            [
                "误差范围",
                "列表前十分之一中的金额",
                "其他",
                "数量太少",
                "Brier 分数的构成",
                "按时长看未结记录",
                "历史回放",
                "影响最大的因素",
            ],
        ),
    ],
)
def test_the_page_of_models_tells_counts_money_segments_and_mondays(
    app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any], language: str, told: list[str]
) -> None:
    model = promote("win_probability")
    save_report(settings.home_folder, model.model_version, {"judged": judged(), "estimator": "logistic"})
    save_backtest(settings.home_folder, "win_probability", replayed())
    page = logged_in(app, cast["Dana"], language).get("/models/win_probability").get_data(as_text=True)
    for each in told:
        assert each in page
    outcomes = judged()["horizons"][0]["outcomes"]
    assert f"{outcomes}" in page
    monday = replayed()["mondays"][0]
    assert f"{monday['asked']}" in page
    assert page.count('<details class="more"') == 6


def test_a_report_from_before_these_figures_is_shown_without_them(
    app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any]
) -> None:
    model = promote("win_probability")
    old = judged()
    for horizon in old["horizons"]:
        for name in ("called", "parts", "money"):
            del horizon[name]
    save_report(settings.home_folder, model.model_version, {"judged": old, "estimator": "logistic"})
    page = logged_in(app, cast["Dana"]).get("/models/win_probability").get_data(as_text=True)
    assert "How good it was" in page
    assert "Give or take" not in page


def test_a_damaged_replay_is_none(settings: Settings) -> None:
    home = settings.home_folder
    assert read_backtest(home, "churn") is None
    save_backtest(home, "churn", {"task": "churn"})
    assert read_backtest(home, "churn") == {"task": "churn"}
    (home.models / "churn.backtest.json").write_text("{", encoding="utf-8")
    assert read_backtest(home, "churn") is None


def test_pages_go_on_without_a_report_that_is_damaged(
    app: Flask, cast: Cast, settings: Settings, promote: Callable[..., Any]
) -> None:
    model, folder = promote("win_probability"), settings.home_folder.models
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"{model.model_version}.report.json", "win_probability.watch.json"):
        (folder / name).write_text('{"model_version": ', encoding="utf-8")
    page = logged_in(app, cast["Dana"]).get("/models/win_probability")
    assert page.status_code == 200
    assert "Not yet checked" in page.text


def test_the_command_line_tells_counts_segments_and_money(capsys: pytest.CaptureFixture[str]) -> None:
    show_judgement(judged())
    told = capsys.readouterr().out
    assert "called 30% to 40%" in told
    assert "came true within 90 days, give or take" in told
    assert "too few" in told
    assert "EUR expected" in told
    assert "The top tenth by amount alone held" in told


def test_the_command_line_tells_each_monday(capsys: pytest.CaptureFixture[str]) -> None:
    show_backtest(replayed())
    told = capsys.readouterr().out
    assert "2025-10-06" in told
    assert "not yet" in told
    assert "Left out: 2025-04-01: too few" in told
