"""The forecast from the command line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crm_core.errors import DamagedModelError, FeatureSetMismatchError, ModelNotFoundError, NoChampionError
from serving.commands.options import as_option, home_option, json_option, read_instant
from serving.console import answer, say, stage
from serving.home import Home
from serving.opening import open_store
from serving.settings import load_settings

if TYPE_CHECKING:
    from crm_core.store import Store
    from models.bundle import ModelBundle


@click.command()
@click.option(
    "--period", type=click.Choice(("month", "quarter")), help="Only months, or only quarters (default: both)."
)
@click.option(
    "--as-of",
    callback=read_instant,
    help="From a day or instant in the past, with nothing known that came later (default: now).",
)
@click.option("--team", help="Only the deals of the team of this name and of the teams below it.")
@click.option("--owner", help="Only the deals of the user with this address.")
@as_option
@home_option
@json_option
def forecast(
    period: str | None,
    as_of: datetime | None,
    team: str | None,
    owner: str | None,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Say what will be sold in this month and quarter and in the next ones, with ranges that held before."""
    from serving.acting import get_acting_user
    from serving.forecasts import (
        LEARN_AGAIN_AFTER,
        SPANS,
        Question,
        find_lessons,
        find_part,
        forecast_for,
        learn_lessons,
        seen_by,
        show_forecast,
    )

    settings = load_settings(home=home)
    store = open_store(settings)
    user = get_acting_user(store, email)
    asked = as_of or store.clock.now()
    with store.reading() as session:
        part = find_part(session, owner=owner, team=team)
        seen_by(session, user, part)
    question = Question(user=user, as_of=asked, spans=SPANS if period is None else (period,), part=part)
    with stage("forecasting") as update:
        learned = find_lessons(settings.home_folder, asked, LEARN_AGAIN_AFTER)
        if learned is None:
            learned = learn_lessons(settings.home_folder, store, asked, lambda what: update(what, None, None))
        told = forecast_for(store, learned, _champion(settings.home_folder, store), question)
    answer(told, as_json=as_json, show=lambda: show_forecast(told))


def _champion(home: Home, store: Store) -> ModelBundle | None:
    """Return the model in charge; without one that can be used, a plain one is made for the forecast."""
    from serving.modelling import load_bundle_of

    try:
        return load_bundle_of(home, store, "win_probability")
    except NoChampionError:
        return None
    except (DamagedModelError, FeatureSetMismatchError, ModelNotFoundError) as error:
        say(f"crm: the champion cannot be used, so a plain model is made: {error}")
        return None
