"""Explaining a stored prediction, and proving it."""

from __future__ import annotations

from pathlib import Path

import click

from serving.commands.options import as_option, home_option, json_option
from serving.console import answer
from serving.opening import open_store
from serving.settings import load_settings


@click.command()
@click.argument("prediction")
@click.option(
    "--recompute", is_flag=True, help="Ask its model the same again; exit 1 if any bit comes out otherwise."
)
@as_option
@home_option
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    prediction: str,
    recompute: bool,  # noqa: FBT001  click gives flags by name
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  as above
) -> None:
    """Show a stored prediction: which model said it, as of when, why, and what led to it.

    PREDICTION is its id, or a record such as deal:42, whose newest prediction is meant.
    """
    from serving.acting import get_acting_user
    from serving.explaining import (
        explain_prediction,
        recompute_prediction,
        show_explanation,
        show_recomputed,
    )

    settings = load_settings(home=home)
    store = open_store(settings)
    user = get_acting_user(store, email)
    told = explain_prediction(store, user, prediction)
    again = recompute_prediction(settings.home_folder, store, user, told["id"]) if recompute else None

    def show() -> None:
        show_explanation(told)
        if again is not None:
            show_recomputed(again)

    answer({**told, "recomputed": again} if recompute else told, as_json=as_json, show=show)
    if again is not None and not again["same"]:
        ctx.exit(1)
