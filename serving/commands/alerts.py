"""Alerts from the command line: what somebody was told of, and raising what is due now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from serving.commands.options import as_option, home_option, json_option
from serving.console import answer, say, table
from serving.opening import open_store
from serving.settings import load_settings

STATES = ("open", "snoozed", "acknowledged", "closed")


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only alerts in this state (default: not closed).")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Alerts at most.")
@click.option("--run", "raise_now", is_flag=True, help="First look at every record, and raise what is due.")
@as_option
@home_option
@json_option
def alerts(
    state: str | None,
    limit: int,
    raise_now: bool,  # noqa: FBT001  click gives flags by name
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  as above
) -> None:
    """List the alerts that a user may see, most money at risk first."""
    from crm_core.access import Reader
    from crm_core.alerts import State
    from serving.acting import get_acting_user
    from serving.alerting import raise_alerts
    from serving.alerts import AlertListing, list_alerts, plain_alert

    settings = load_settings(home=home)
    store = open_store(settings)
    user = get_acting_user(store, email)
    if raise_now:
        say(f"crm: {raise_alerts(settings, store)} alerts raised")
    asked = AlertListing(state=None if state is None else State(state), limit=limit)
    with store.reading() as session:
        page = list_alerts(Reader(session, user), asked, store.clock.now())
    found = [plain_alert(told) for told in page.items]
    plain = json.loads(json.dumps({"alerts": found}, default=str))
    answer(plain, as_json=as_json, show=lambda: _show(found))


def _show(found: list[dict[str, Any]]) -> None:
    columns = ("id>", "state", "kind", "record", "was>", "is>", "at risk", "contract ends", "raised")
    table("Alerts", columns, [_cells(alert) for alert in found])


def _cells(alert: dict[str, Any]) -> list[object]:
    was = alert["previous_probability"]
    money = "; ".join(f"{one['at_risk']} {one['currency']}".strip() for one in alert["money_at_risk"])
    return [
        alert["id"],
        alert["state"],
        alert["kind"],
        f"{alert['record_type']} {alert['record_id']}: {alert['record_name'] or ''}",
        "" if was is None else f"{was:.0%}",
        f"{alert['probability']:.0%}",
        money,
        alert["contract_ends_on"] or "",
        f"{alert['raised_at']:%Y-%m-%d %H:%M}",
    ]
