"""Where no time order was possible, and where nobody knows when, the pages and commands say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest
from flask import Flask

from crm_core.changes import Source
from crm_core.predictions import IN_THE_END_DAYS, NewPrediction, write_predictions
from crm_core.store import Store
from models.horizons import within, within_zh
from serving.reports import save_report
from serving.settings import Settings
from serving.training_runs import guard_lines, show_judgement
from tests.factories import make_deal
from tests.serving.conftest import Cast, logged_in
from tests.serving.hand_made import HandMadeModel

SCORED = {"en": "chance to be won in the end", "zh": "最终赢单的概率"}
CARD = {
    "en": "No time order was possible: the records have no dates. 240 records were judged",
    "zh": "无法按时间顺序检验：这些记录没有日期。共检验 240 条记录",
}


def judged() -> dict[str, Any]:
    """A judgement of 240 records."""
    horizon = {
        "horizon_days": IN_THE_END_DAYS,
        "questions": 240,
        "outcomes": 60,
        "metrics": {"model": {"auc": {"value": 0.8, "low": 0.75, "high": 0.85}}},
        "called": [],
        "parts": [],
    }
    dates = {"first_asked": "2026-03-02", "last_asked": "2026-03-02"}
    return {"horizons": [horizon], "horizon_days": IN_THE_END_DAYS, **dates}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_score_of_how_it_ends_names_no_days(app: Flask, store: Store, cast: Cast, language: str) -> None:
    with store.transaction() as transaction:
        deal = make_deal(transaction, owner_id=cast["Ana"].id)
    with store.transaction(source=Source.MODEL) as transaction:
        write_predictions(
            transaction,
            task="win_probability",
            record_type="deal",
            as_of=transaction.now,
            model_version="win_probability-1",
            horizon_days=IN_THE_END_DAYS,
            predictions=[NewPrediction(record_id=deal.id, probability=0.6, score=60, grade="B", reasons=[])],
        )
    page = logged_in(app, cast["Ana"]).get(f"/deals/{deal.id}", headers={"Accept-Language": language}).text
    assert SCORED[language] in page
    assert str(IN_THE_END_DAYS) not in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_card_of_a_model_without_dates_says_how_it_was_judged(
    app: Flask, settings: Settings, cast: Cast, promote: Callable[..., HandMadeModel], language: str
) -> None:
    promote("win_probability")
    save_report(settings.home_folder, "win_probability-1", {"judged": judged(), "no_time_order": True})
    client = logged_in(app, cast["Dana"])
    page = client.get("/models/win_probability", headers={"Accept-Language": language}).text
    assert CARD[language] in page
    assert "36500" not in page
    assert "36,500" not in page


def test_the_command_says_how_it_was_judged(capsys: pytest.CaptureFixture[str]) -> None:
    show_judgement(judged(), no_time_order=True)
    said = " ".join(click.unstyle(capsys.readouterr().out).split())
    assert "no time order was possible" in said
    assert "asked later" not in said


def test_a_horizon_in_words() -> None:
    assert (within(90), within_zh(90)) == ("within 90 days", "在 90 天内")
    assert (within(IN_THE_END_DAYS), within_zh(IN_THE_END_DAYS)) == ("in the end", "最终")


def test_what_was_doubted_and_what_was_let_through_is_printed_with_who_did_it() -> None:
    doubt = {"feature": "revenue", "fields": ["deal.custom.revenue"], "evidence": "why", "doubtful": True}
    guard = {"suspicions": [doubt], "overruled": ["days"], "overruled_by": "Dana"}
    assert guard_lines({"guard": guard}) == [
        "Doubtful: deal.custom.revenue: why",
        "Overruled by Dana: days",
    ]
