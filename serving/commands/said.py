"""What a model says of one record, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.commands.options import as_option, home_option, json_option
from serving.console import answer, table
from serving.opening import open_store
from serving.settings import load_settings

if TYPE_CHECKING:
    from serving.payloads import PredictionOut

TYPES = ("lead", "deal", "account")


@click.command()
@click.argument("record_type", type=click.Choice(TYPES))
@click.argument("record_id", type=click.IntRange(1))
@as_option
@home_option
@json_option
def said(
    record_type: str,
    record_id: int,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Show what is said of a record: all horizons, when it is expected, money at risk, and why."""
    from crm_core.access import Reader
    from crm_core.predictions import SCORED_TYPES, list_predictions
    from serving.acting import get_acting_user
    from serving.payloads import predictions_out

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    with store.reading() as session:
        reader = Reader(session, user)
        record = reader.get(SCORED_TYPES[record_type], record_id)
        found = predictions_out(reader, record, list_predictions(session, record_type, record.id, limit=1))
    newest = found[0] if found else None
    plain: dict[str, Any] = {"prediction": None if newest is None else json.loads(newest.model_dump_json())}
    answer(plain, as_json=as_json, show=lambda: _show(newest))


def _show(newest: PredictionOut | None) -> None:
    if newest is None:
        click.echo("Nothing was said of it yet.")
        return
    click.echo(f"{newest.task}, asked {newest.as_of:%Y-%m-%d %H:%M} UTC of {newest.model_version}")
    if newest.probability is None:
        points = f"expert points: {newest.score} of 100, no outcomes yet"
        click.echo(points if newest.score is not None else "not enough data")
    else:
        _show_outlook(newest)
    reasons = [(f"{reason.log_odds:+.2f}", reason.en) for reason in newest.reasons or []]
    table("Why", ("log-odds>", "reason"), reasons)


def _show_outlook(newest: PredictionOut) -> None:
    from models.horizons import within

    shown = [(one.days, one.probability) for one in newest.within]
    rows = [
        (within(days), "not known" if chance is None else f"{chance:.1%}")
        for days, chance in shown or [(newest.horizon_days, newest.probability)]
    ]
    table("Chances", ("", "chance>"), rows)
    longest = max((days for days, chance in shown if chance is not None), default=None)
    if newest.expected_days is not None and longest is not None:
        click.echo(f"If it happens within {longest} days: after {newest.expected_days:.0f} days on average")
    for money in newest.money_at_risk:
        click.echo(f"Money at risk: {money.at_risk} of {money.yearly} {money.currency} a year")
