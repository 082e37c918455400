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
    """Return the report of a version's training, or None where it was trained elsewhere or is damaged."""
    return _read(home, f"{version}.report.json")


def save_backtest(home: Home, task: str, report: dict[str, Any]) -> None:
    """Keep the newest replay of a task."""
    _save(home, f"{task}.backtest.json", report)


def read_backtest(home: Home, task: str) -> dict[str, Any] | None:
    """Return the newest replay of a task, or None where there was none or its file is damaged."""
    return _read(home, f"{task}.backtest.json")


MOST_WATCHES = 200
"""Past reports on the champions of a task of which the figures are kept."""


def save_watch(home: Home, task: str, report: dict[str, Any]) -> None:
    """Keep the newest report on the champion of a task, and the figures of those before."""
    _save(home, f"{task}.watch.json", report)
    kept = read_watches(home, task)
    figures = {each["kind"]: {"state": each["state"], "value": each["value"]} for each in report["findings"]}
    newest = {name: report[name] for name in ("asked_at", "model_version", "state")} | {"findings": figures}
    kept = [each for each in kept if each["asked_at"] != report["asked_at"]]
    _save(home, f"{task}.watches.json", {"watches": [*kept, newest][-MOST_WATCHES:]})


def read_watches(home: Home, task: str) -> list[dict[str, Any]]:
    """Return the figures of the reports on a task's champions, the oldest first."""
    found: list[dict[str, Any]] = (_read(home, f"{task}.watches.json") or {}).get("watches", [])
    return found


def save_comparison(home: Home, report: dict[str, Any]) -> None:
    """Keep how two versions differ."""
    _save(home, _comparison(report["first"], report["second"]), report)


def read_comparison(home: Home, first: str, second: str) -> dict[str, Any] | None:
    """Return how two versions differ, as found last; None where nobody asked, or the file is damaged."""
    return _read(home, _comparison(first, second))


def _comparison(first: str, second: str) -> str:
    return f"{first}.{second}.comparison.json"


def read_watch(home: Home, task: str) -> dict[str, Any] | None:
    """Return the newest report on the champion of a task, or None without one or where it is damaged."""
    return _read(home, f"{task}.watch.json")


def _read(home: Home, name: str) -> dict[str, Any] | None:
    path = home.models / name
    if not path.is_file():
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it can be made again; pages go on without it
        return None
    return report


def _save(home: Home, name: str, report: dict[str, Any]) -> None:
    """Write a report beside the old one and then in its place, so that no page reads half of it."""
    home.models.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = home.models / f"{name}.new"
    beside.write_text(json.dumps(report, ensure_ascii=False, default=str), encoding="utf-8")
    beside.replace(home.models / name)


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of what was judged: the model first, what it had to beat, and the truth last."""
    return sorted(names, key=lambda name: (name != "model", name == "truth"))
