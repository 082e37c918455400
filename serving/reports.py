"""Reports of trainings, kept beside the models so that the pages can show them without MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from serving.home import Home


def save_report(home: Home, version: str, report: dict[str, Any]) -> None:
    """Keep the report of a version's training."""
    _save(home, f"{version}.report.json", report)


def read_report(home: Home, version: str) -> dict[str, Any] | None:
    """Return the report of a version's training, or None where it was trained elsewhere."""
    path = home.models / f"{version}.report.json"
    if not path.is_file():
        return None
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def save_backtest(home: Home, task: str, report: dict[str, Any]) -> None:
    """Keep the newest replay of a task."""
    _save(home, f"{task}.backtest.json", report)


def read_backtest(home: Home, task: str) -> dict[str, Any] | None:
    """Return the newest replay of a task, or None where there was none or its file is damaged."""
    path = home.models / f"{task}.backtest.json"
    if not path.is_file():
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it can be made again; the page goes on without it
        return None
    return report


def _save(home: Home, name: str, report: dict[str, Any]) -> None:
    home.models.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home.models / name).write_text(json.dumps(report, ensure_ascii=False, default=str), encoding="utf-8")


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of what was judged: the model first, what it had to beat, and the truth last."""
    return sorted(names, key=lambda name: (name != "model", name == "truth"))
