"""The demonstration, from nothing to a served score, with everything real but its size."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from crm_core.predictions import Prediction
from crm_core.promotions import find_champion
from crm_core.records import Lead
from crm_core.store import Store
from serving.champions import RECORD_TYPE_OF, Champions
from serving.demo import BEFORE_DAYS, make_demo
from serving.home import Home
from serving.model_work import list_work_under_way
from serving.modelling import scorer_loader
from serving.reports import read_watch
from serving.settings import Settings
from serving.watching import train_if_needed
from tests.serving.conftest import Demo, csrf_of
from tests.serving.http import Http
from tests.serving.test_server import Served


@pytest.mark.timeout(600)
def test_the_demonstration(demo: Demo) -> None:
    settings, made = Settings(home=demo.home), demo.made
    home = settings.home_folder
    roles = [login["role"] for login in made["logins"]]
    assert roles == ["rep", "manager", "data scientist", "administrator"]
    store = Store(home.database_url)
    leads_are_scored_now_and_as_of_earlier_days(store)
    again = make_demo(settings)
    nothing_was_made_twice(store, again)
    each_model_is_to_be_checked_once(store)
    a_model_made_today_is_not_trained_again(home, store)
    served = Served(demo.home, again["key"])
    try:
        assert Http(served.address, made["key"]).get("/api/v1/leads").status == 401, (
            "an earlier key is revoked"
        )
        people_can_log_in(served.address, again["logins"])
        a_call_is_scored_within_two_seconds(Http(served.address, served.key))
        leads = Http(served.address, served.key).get("/api/v1/leads?limit=20").json["items"]
        scores_tell_what_moved_them_by_how_much(
            served.address, again["logins"], [lead["id"] for lead in leads]
        )
        the_models_page_compares_with_the_truth(served.address, again["logins"])
        assert served.stop() == 0
    finally:
        served.process.kill()
        served.process.communicate()
    a_damaged_model_is_noticed(home, store)
    store.close()


def leads_are_scored_now_and_as_of_earlier_days(store: Store) -> None:
    with store.reading() as session:
        unscored = select(func.count(Lead.id)).where(Lead.status == "open", Lead.scored_at.is_(None))
        assert session.scalar(unscored) == 0
        asked = select(Prediction.as_of).distinct().where(Prediction.task == "lead_scoring")
        assert len(session.scalars(asked).all()) == len(BEFORE_DAYS) + 1


def a_model_made_today_is_not_trained_again(home: Home, store: Store) -> None:
    done = train_if_needed(home, store, "lead_scoring")
    assert not done["trained"]
    assert done["reasons"] == []
    watched = read_watch(home, "lead_scoring")
    assert watched is not None
    assert watched["new_outcomes"] == 0


def nothing_was_made_twice(store: Store, again: dict[str, Any]) -> None:
    assert (again["size"], again["seed"]) == ("tiny", 1)
    with store.reading() as session:
        asked = select(Prediction.as_of).distinct().where(Prediction.task == "lead_scoring")
        assert len(session.scalars(asked).all()) == len(BEFORE_DAYS) + 2
        champion = find_champion(session, "lead_scoring")
        assert champion is not None
        assert champion.model_version.startswith("lead_scoring-1-")


def each_model_is_to_be_checked_once(store: Store) -> None:
    with store.reading() as session:
        served = [task for task in RECORD_TYPE_OF if find_champion(session, task) is not None]
        found = [(work.task, work.does, work.state) for work in list_work_under_way(session)]
    assert found == [(task, "watch", "waiting") for task in served]
    assert served


def log_in(address: str, login: dict[str, str]) -> Http:
    browser = Http(address)
    form = browser.get("/login").text
    answer = browser.submit(
        "/login", csrf_token=csrf_of(form), email=login["email"], password=login["password"], next=""
    )
    assert answer.status == 302
    return browser


def people_can_log_in(address: str, logins: list[dict[str, str]]) -> None:
    for login in logins:
        page = log_in(address, login).get("/leads")
        assert page.status == 200
        assert login["name"] in page.text
        assert re.search(r'<span class="probability">\d', page.text)


def scores_tell_what_moved_them_by_how_much(
    address: str, logins: list[dict[str, str]], lead_ids: list[int]
) -> None:
    """Not every lead moves in a week, but some do."""
    browser = log_in(address, logins[0])
    pages = [browser.get(f"/records/lead/{lead_id}/causes").text for lead_id in lead_ids]
    assert all("In percentage points" in page for page in pages)
    moved = r'<span class="nowrap">[+−][\d.]+</span> (what happened since|time)'
    assert any(re.search(moved, page) for page in pages)


def a_call_is_scored_within_two_seconds(api: Http) -> None:
    lead = api.get("/api/v1/leads?limit=1").json["items"][0]
    wait_until_models_are_warm(api)
    api.post(f"/api/v1/leads/{lead['id']}/activities", {"kind": "call", "duration_seconds": 300})
    began = time.perf_counter()
    while scored_at(api, lead["id"]) == lead["prediction"]["scored_at"]:
        assert time.perf_counter() - began < 2.0
        time.sleep(0.02)
    newest = api.get(f"/api/v1/leads/{lead['id']}/predictions?limit=1").json["items"][0]
    assert newest["cause_change_id"] is not None


def scored_at(api: Http, lead_id: int) -> str:
    return str(api.get(f"/api/v1/leads/{lead_id}").json["prediction"]["scored_at"])


def wait_until_models_are_warm(api: Http) -> None:
    for _ in range(300):
        if any(part["name"] == "lead_scoring" for part in api.get("/readyz").json["parts"]):
            return
        time.sleep(0.1)
    raise AssertionError("the models never came up")


def the_models_page_compares_with_the_truth(address: str, logins: list[dict[str, str]]) -> None:
    browser = log_in(address, logins[2])
    page = browser.get("/models/lead_scoring").text
    assert "True probabilities (simulated)" in page
    assert "Rate of the source" in page
    assert "Learned from" in page
    browser.submit("/language", csrf_token=csrf_of(page), language="zh", next="/models/lead_scoring")
    page = browser.get("/models/lead_scoring").text
    assert "真实概率" in page
    assert "95% 置信区间" in page


def a_damaged_model_is_noticed(home: Home, store: Store) -> None:
    for file in home.models.glob("*.json"):
        if not file.name.endswith(".report.json"):
            file.write_bytes(file.read_bytes()[:-2] + b"  ")
    champions = Champions(store, scorer_loader(home, store))
    champions.refresh()
    assert champions.serving == {}
    assert {trouble.error for trouble in champions.troubles.values()} == {"DamagedModelError"}
