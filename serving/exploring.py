"""What a model would see of one record, for people who ask why: `crm features`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from crm_core.errors import FeatureError
from crm_core.phrases import Phrase
from crm_core.store import Store
from serving.console import table

_FEW = 12
"""Rows shown to a person of one feature, unless that feature was asked for by name."""


def list_features(store: Store, task: str) -> dict[str, Any]:
    """Return what a task may look at in this store."""
    from features.feature_set import feature_set_for

    found = feature_set_for(store, task)
    features = [
        {
            "name": one.name,
            "unit": one.unit,
            "missing": one.nan_meaning,
            "group": one.group,
            "reads": list(one.source_fields),
        }
        for one in found.features
    ]
    return {
        "task": task,
        "record_type": found.record_type,
        "fingerprint": found.fingerprint,
        "features": features,
    }


def explore_record(
    store: Store, task: str, record_id: int, *, as_of: datetime | None, name: str | None = None
) -> dict[str, Any]:
    """Return every feature of one record (or only the one named) with the rows behind it."""
    from features.explorer import explore
    from features.feature_set import feature_set_for

    now = store.clock.now()
    if as_of is not None and as_of > now:
        raise FeatureError(
            Phrase("as-of: expected an instant up to now ({now}), got {as_of}", now=now, as_of=as_of)
        )
    found = feature_set_for(store, task)
    chosen = found if name is None else found.select([name])
    explored = explore(store, chosen, record_id, as_of or now)
    return {
        "task": task,
        "record_type": found.record_type,
        "record_id": record_id,
        "as_of": (as_of or now).isoformat(),
        "features": [_told(one) for one in explored],
    }


def show_features(report: dict[str, Any]) -> None:
    """Print what a task may look at."""
    columns = ("feature", "unit", "missing means", "reads")
    rows = [(one["name"], one["unit"], one["missing"], ", ".join(one["reads"])) for one in report["features"]]
    table(f"{report['task']}: {len(rows)} features of a {report['record_type']}", columns, rows)


def show_record(report: dict[str, Any], *, every_row: bool) -> None:
    """Print the value of each feature, and below it the rows that it was computed from."""
    click.echo(f"{report['record_type']} {report['record_id']}, asked at {report['as_of']}")
    for one in report["features"]:
        value = "-" if one["value"] is None else f"{one['value']:g}" if one["number"] else one["value"]
        click.echo(f"\n{one['name']} = {value}   ({one['reads_as']})")
        if one["others"]:
            click.echo(
                "  {won} of {asked} others alike, {all_won} of {all_asked} of all".format(**one["others"])
            )
        rows = one["rows"] if every_row else one["rows"][-_FEW:]
        if len(rows) < len(one["rows"]):
            click.echo(f"  {len(one['rows']) - len(rows)} earlier rows; --feature {one['name']} shows all")
        for row in rows:
            click.echo(f"  {_line(row)}")


def _told(one: Any) -> dict[str, Any]:  # noqa: ANN401  features.explorer.Explored, imported when needed
    return {
        "name": one.feature.name,
        "unit": one.feature.unit,
        "number": one.feature.dtype == "number",
        "value": one.value,
        "reads_as": one.feature.say(one.value),
        "others": dict(one.others),
        "rows": [
            {
                "record": f"{row.record_type} {row.record_id}",
                "occurred_at": row.occurred_at.isoformat(),
                "known_from": row.known_from.isoformat(),
                "counted": row.counted,
                "values": row.values,
            }
            for row in one.rows
        ],
    }


def _line(row: dict[str, Any]) -> str:
    held = ", ".join(f"{name} {'-' if value is None else value}" for name, value in row["values"].items())
    late = "" if row["counted"] else "   NOT COUNTED: known only later"
    known = "" if row["known_from"] == row["occurred_at"] else f", known {row['known_from']}"
    return f"{row['record']}: {row['occurred_at']}{known}  {held}{late}"
