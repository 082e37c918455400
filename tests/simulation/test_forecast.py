"""Forecasts of a whole company: replayed, added up, moved, and shown to those who may see them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from sqlalchemy import select

from crm_core.access import FieldRight
from crm_core.clock import DAY, micros
from crm_core.errors import AccessDeniedError, InvalidValueError, NotEnoughDataError
from crm_core.fields import Known, declare_field
from crm_core.promotions import Promotion
from crm_core.records import Deal, Team, User
from crm_core.store import Store
from crm_core.tokens import create_token
from models.bundle import ModelBundle
from models.forecasting.forecast import Forecast, make_forecast, usable_model
from models.forecasting.judging import ASKED, render, sum_up
from models.forecasting.learned import Learned, learn, lessons_of
from models.forecasting.moves import what_moved
from models.forecasting.outlook import draw_futures
from models.forecasting.periods import Span
from models.forecasting.replaying import CASES, Case, Past, ask_some, light_model, read_past
from serving.app import create_app
from serving.champions import Champions
from serving.forecasts import Part, find_lessons, learn_lessons, lessons_file, seen_by, show_forecast
from serving.home import Home
from serving.modelling import BundleScorer
from serving.settings import Settings
from tests.factories import make_deal
from tests.models.conftest import copy_store
from tests.serving.conftest import logged_in
from tests.serving.test_cli import run
from tests.simulation.conftest import NOW, Written

EARLY = datetime(2024, 2, 1, tzinfo=UTC)
THEN = datetime(2025, 3, 2, tzinfo=UTC)
"""A year before the end, as two years take half as long to replay as three."""

MONTH = Case(span=Span.MONTH, ahead=0)
QUARTER = Case(span=Span.QUARTER, ahead=0)


@pytest.fixture(scope="module")
def past(written: Written) -> Past:
    """The first two years of the small company, replayed from every month's start."""
    return read_past(written.store, THEN)


@pytest.fixture(scope="module")
def learned(past: Past) -> Learned:
    return lessons_of(past)


@pytest.fixture(scope="module")
def bundle(past: Past) -> ModelBundle:
    """A plain model of then."""
    questions = ask_some(past.store, past.task, past.features, micros(THEN))
    return light_model(past.store, questions, past.features, micros(THEN))


@pytest.fixture(scope="module")
def made(written: Written, learned: Learned, bundle: ModelBundle) -> Forecast:
    return make_forecast(written.store, learned, THEN, bundle=bundle)


# ------------------------------------------------------------------------------------------- past forecasts


def test_past_ranges_held_what_came_about_as_often_as_they_say(past: Past) -> None:
    replays = past.replays(MONTH, past.book.at(past.as_of))
    assert len(replays) >= 14
    held = {level: np.mean([one.inside(level) for one in replays]) for level in (50, 80, 95)}
    assert 0.35 <= held[50] <= 0.70
    assert 0.65 <= held[80] <= 0.93
    assert held[95] >= 0.86


def test_forecasts_are_nearer_to_what_came_than_stages_and_reps(past: Past) -> None:
    for case in (MONTH, QUARTER):
        replays = past.replays(case, past.book.at(past.as_of))
        errors = [
            [abs(said - one.came) for said in (one.expected, one.simple.stages, one.simple.reps)]
            for one in replays
        ]
        model, stages, reps = np.mean(errors, axis=0)
        assert model < 0.75 * stages < 0.75 * reps


def test_what_came_is_the_sum_of_the_deals_won(past: Past) -> None:
    with past.store.reading() as session:
        found = session.execute(select(Deal.closed_at, Deal.amount).where(Deal.status == "won"))
        deals = [(micros(row[0]), float(row[1])) for row in found if row[0] and row[1]]
    for one in past.replays(QUARTER, past.book.at(past.as_of))[-3:]:
        inside = [amount for closed, amount in deals if one.period.holds(closed)]
        assert one.came == pytest.approx(sum(inside))


def test_nothing_that_came_later_is_known(written: Written, tmp_path: Path) -> None:
    before = learn(written.store, EARLY)
    store = copy_store(written.store, tmp_path / "poisoned.db")
    later = EARLY + timedelta(days=1)
    with store.transaction() as transaction:
        known = select(Deal).where(Deal.occurred_at < later).order_by(Deal.id.desc()).limit(60)
        for deal in transaction.session.scalars(known):
            transaction.update(deal, {"amount": 1e9, "status": "won"}, occurred_at=later)
        for _ in range(50):
            make_deal(transaction, amount=10**9, occurred_at=later, status="won", closed_at=later)
    after = learn(store, EARLY)
    assert after.to_json() == before.to_json()
    told = [make_forecast(one, before, EARLY, spans=[Span.MONTH]).to_json() for one in (store, written.store)]
    assert told[0] == told[1]
    store.close()


def test_without_a_deal_won_nothing_is_said(store: Store) -> None:
    with store.transaction() as transaction:
        make_deal(transaction)
    with pytest.raises(NotEnoughDataError, match="1 deals are known and none of them is won"):
        learn(store, store.clock.now())


def test_with_too_few_outcomes_it_is_said_how_many_are_needed(store: Store) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, status="won", closed_at=store.clock.now())
        make_deal(transaction)
    learned = learn(store, store.clock.now())
    assert {one.shock.periods for one in learned.corrections.values()} == {0}
    with pytest.raises(NotEnoughDataError, match="at least 20 of each are needed"):
        make_forecast(store, learned, store.clock.now())


def test_a_scorecard_is_no_model_to_add_chances_up_by(written: Written, bundle: ModelBundle) -> None:
    opinion = replace(bundle, trained={**bundle.trained, "says_probability": False, "outcomes": 3})
    with pytest.raises(NotEnoughDataError, match="3 deals are known to be won"):
        usable_model(written.store, opinion, micros(THEN))
    assert usable_model(written.store, bundle, micros(THEN)) is bundle


def test_where_deals_have_no_dates_of_their_end_no_period_is_foretold(store: Store) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, status="won", closed_at=store.clock.now())
        declare_field(transaction.session, record_type="deal", name="closed_at", known=Known.UNKNOWN)
    with pytest.raises(NotEnoughDataError, match="the ends of deals have no dates"):
        learn(store, store.clock.now())


def test_the_figures_of_many_companies_are_put_into_tables(past: Past) -> None:
    now = past.book.at(past.as_of)
    company = {one.title: past.replays(one.case, now, months_in=one.months_in) for one in ASKED}
    figures = sum_up([company, company])
    assert figures[0].forecasts == 2 * len(past.replays(QUARTER, now))
    assert all(0 <= low <= share <= high <= 1 for one in figures for share, low, high in one.inside.values())
    lines = list(render(figures))
    assert len(lines) == 2 + len(ASKED) + 1 + 2 + len(ASKED) * 5


# ------------------------------------------------------------------------------------------- the forecast


def test_what_is_expected_is_the_sum_of_probability_times_amount(made: Forecast) -> None:
    for one in made.periods:
        open_deals = math.fsum(line.probability * line.amount for line in one.deals if not line.won)
        won = math.fsum(line.amount for line in one.deals if line.won)
        assert one.whole.expected == pytest.approx(won + open_deals + one.whole.new, rel=1e-12)
        assert all(0 < line.probability < 1 for line in one.deals if not line.won)


def test_the_draws_converge_to_what_is_expected(past: Past, learned: Learned) -> None:
    as_of = max(past.scenes)
    for case in CASES:
        outlook = past.scenes[as_of].outlook(case.period(as_of), past.currency)
        shock = learned.correction(case).shock
        futures = draw_futures(outlook, shock, draws=20_000).total
        expected = outlook.already + float(outlook.probabilities(shock) @ outlook.worth.expected)
        expected += outlook.new_amount(shock)
        assert abs(futures.mean() - expected) < 4 * futures.std() / np.sqrt(futures.size)


def test_owners_and_teams_add_up_to_the_whole_and_their_ranges_do_not(made: Forecast) -> None:
    for one in made.periods:
        for parts in (one.by_owner, one.by_team):
            assert math.fsum(part.expected for part in parts) == pytest.approx(one.whole.expected, rel=1e-9)
            width = sum(part.ranges[80][1] - part.ranges[80][0] for part in parts)
            assert width > one.whole.ranges[80][1] - one.whole.ranges[80][0]


def test_ranges_lie_within_wider_ones_and_never_below_what_is_won(made: Forecast) -> None:
    assert [one.period.name for one in made.periods] == ["2025-03", "2025-04", "2025-Q1", "2025-Q2"]
    for one in made.periods:
        lows, highs = zip(*(one.whole.ranges[level] for level in (95, 80, 50)), strict=True)
        assert list(lows) == sorted(lows)
        assert list(highs) == sorted(highs, reverse=True)
        assert lows[0] >= one.whole.won


def test_the_same_question_has_the_same_answer(
    written: Written, learned: Learned, bundle: ModelBundle, made: Forecast
) -> None:
    kept = Learned.from_json(json.loads(json.dumps(learned.to_json())))
    again = make_forecast(written.store, kept, THEN, bundle=bundle)
    assert json.dumps(again.to_json()) == json.dumps(made.to_json())


def test_lessons_of_later_are_refused_and_a_model_of_later_is_not_used(
    written: Written, learned: Learned, bundle: ModelBundle
) -> None:
    with pytest.raises(InvalidValueError, match="an instant up to"):
        make_forecast(written.store, learned, EARLY)
    earlier = Learned(**{**vars(learned), "as_of": micros(EARLY)})
    told = make_forecast(written.store, earlier, EARLY, bundle=bundle, spans=[Span.MONTH])
    assert told.model_version.startswith("made for this forecast from what was known on 2024-02-01")


def test_past_ranges_are_counted(made: Forecast) -> None:
    month, _, quarter, _ = made.periods
    assert month.coverage[80][1] == 12
    assert quarter.coverage[80][1] == 5
    assert 0 < month.coverage[50][0] < month.coverage[80][0] <= month.coverage[95][0] <= 12


# ------------------------------------------------------------------------------------------- what moved


def test_causes_add_up_to_what_moved(written: Written, learned: Learned, bundle: ModelBundle) -> None:
    for span in Span:
        (moved,) = what_moved(written.store, learned, THEN, days=14, bundle=bundle, spans=[span])
        assert math.fsum(moved.causes.values()) == pytest.approx(moved.now - moved.before, abs=1e-6)
        assert moved.now == pytest.approx(
            make_forecast(written.store, learned, THEN, bundle=bundle, spans=[span]).periods[0].whole.expected
        )
    assert {"won", "probabilities", "new_deals"} <= {one.cause for one in moved.deals}


def test_each_change_of_a_deal_has_its_cause(
    written: Written, learned: Learned, bundle: ModelBundle, tmp_path: Path
) -> None:
    store = copy_store(written.store, tmp_path / "moved.db")
    (_, before) = what_moved(store, learned, NOW, bundle=bundle)
    with store.transaction() as transaction:
        session = transaction.session
        deals = session.scalars(select(Deal).where(Deal.status == "open").order_by(Deal.id)).all()[-40:]
        old = [deal for deal in deals if micros(deal.occurred_at) < micros(NOW) - 8 * DAY][:3]
        won, lost, dearer = old
        ids = [deal.id for deal in old]
        transaction.update(won, {"status": "won", "closed_at": NOW})
        transaction.update(lost, {"status": "lost", "closed_at": NOW})
        transaction.update(dearer, {"amount": (dearer.amount or 0) * 3})
    (_, after) = what_moved(store, learned, NOW, bundle=bundle)
    causes = {(one.deal_id, one.cause): one.amount for one in after.deals}
    assert causes[ids[0], "won"] > 0
    assert causes[ids[1], "lost"] < 0
    assert causes[ids[2], "amounts"] > 0
    assert after.now != before.now
    store.close()


# ------------------------------------------------------------------------------------------- who may see what


@dataclass(frozen=True, kw_only=True)
class Office:
    """A copy of the company with a model in charge and lessons learned, served."""

    home: Home
    store: Store
    app: Flask

    def user(self, email: str) -> User:
        with self.store.reading() as session:
            found = session.scalars(select(User).where(User.email == email)).one()
            session.expunge_all()
        return found

    def ask(self, email: str, query: str = "") -> Any:
        with self.store.transaction() as transaction:
            user = transaction.session.scalars(select(User).where(User.email == email)).one()
            key = create_token(transaction.session, user_id=user.id, name="test", now=transaction.now)
        header = {"Authorization": f"Bearer {key}"}
        return self.app.test_client().get(f"/api/v1/forecast{query}", headers=header)

    def page(self, email: str, query: str = "", language: str = "en") -> str:
        return logged_in(self.app, self.user(email), language).get(f"/forecast{query}").get_data(as_text=True)


@pytest.fixture(scope="module")
def office(
    written: Written, learned: Learned, bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    home = Home.at(tmp_path_factory.mktemp("office"))
    home.create()
    store = copy_store(written.store, home.database)
    with store.transaction() as transaction:
        transaction.session.add(
            Promotion(
                task="win_probability",
                model_version="win_probability-1",
                sha256=bundle.sha256,
                run_id="hand",
                promoted_at=transaction.now,
                reason="made by hand",
            )
        )
    lessons_file(home).write_text(json.dumps(learned.to_json()))
    champions = Champions(store, lambda _task, _promotion: BundleScorer(bundle=bundle))
    app = create_app(Settings(home=home.folder), store, champions)
    yield Office(home=home, store=store, app=app)
    store.close()


def test_an_administrator_sees_all_and_what_others_see_are_parts_of_it(office: Office) -> None:
    told = {name: office.ask(f"{name}@example.com").get_json() for name in ("alex", "mara", "ana")}
    expected = {name: float(one["periods"][0]["expected"]) for name, one in told.items()}
    assert expected["alex"] > expected["mara"] > expected["ana"] > 0
    owners = {part["name"]: part for part in told["alex"]["periods"][0]["by_owner"]}
    ana = office.user("ana@example.com")
    (mine,) = told["ana"]["periods"][0]["by_owner"]
    assert mine["id"] == ana.id
    assert float(mine["expected"]) == pytest.approx(float(owners[mine["name"]]["expected"]), abs=0.02)


def test_a_rep_is_told_of_no_deal_but_their_own(office: Office) -> None:
    ana = office.user("ana@example.com")
    shown = {deal["deal_id"] for one in office.ask(ana.email).get_json()["periods"] for deal in one["deals"]}
    with office.store.reading() as session:
        owners = set(session.scalars(select(Deal.owner_id).where(Deal.id.in_(shown))))
    assert owners == {ana.id}
    other = office.user("mara@example.com")
    told = office.ask(ana.email, f"?owner_id={other.id}").get_json()
    assert all(float(one["expected"]) == 0 for one in told["periods"])


def test_a_team_can_be_asked_about(office: Office) -> None:
    with office.store.reading() as session:
        teams = session.execute(select(Team.id, Team.name)).all()
    whole = office.ask("alex@example.com", "?period=month").get_json()["periods"][0]
    of_teams = {part["name"]: part for part in whole["by_team"]}
    with_reps = [team for team in teams if team[1] in of_teams]
    assert with_reps
    team_id, name = with_reps[0]
    part = office.ask("alex@example.com", f"?period=month&team_id={team_id}").get_json()["periods"][0]
    assert float(part["expected"]) >= float(of_teams[name]["expected"]) - 0.02


def test_who_may_not_see_amounts_or_scores_is_refused(office: Office) -> None:
    for field in ("amount", "probability"):
        with office.store.transaction() as transaction:
            right = FieldRight(role="analyst", record_type="deal", field=field, read=False, write=False)
            transaction.session.add(right)
        assert office.ask("dana@example.com").status_code == 403
        with office.store.transaction() as transaction:
            transaction.session.delete(transaction.session.merge(right))
    assert office.ask("dana@example.com").status_code == 200


def test_who_may_not_see_the_reps_own_probabilities_is_not_told_their_sum(office: Office) -> None:
    period = office.ask("dana@example.com", "?period=month").get_json()["periods"][0]
    assert period["simple_rules"]["reps"] is not None
    with office.store.transaction() as transaction:
        right = FieldRight(
            role="analyst", record_type="deal", field="rep_probability", read=False, write=False
        )
        transaction.session.add(right)
    period = office.ask("dana@example.com", "?period=month").get_json()["periods"][0]
    assert period["simple_rules"]["reps"] is None
    with office.store.transaction() as transaction:
        transaction.session.delete(transaction.session.merge(right))


def test_money_is_text_and_a_wrong_question_is_refused(office: Office) -> None:
    told = office.ask("alex@example.com", "?period=quarter").get_json()
    assert [one["span"] for one in told["periods"]] == ["quarter", "quarter"]
    assert isinstance(told["periods"][0]["expected"], str)
    assert office.ask("alex@example.com", "?period=decade").status_code == 422


def test_a_request_does_not_wait_for_the_past_to_be_replayed(office: Office) -> None:
    kept = lessons_file(office.home)
    aside = kept.rename(kept.with_suffix(".aside"))
    refused = office.ask("alex@example.com")
    aside.rename(kept)
    assert (refused.status_code, "run: crm forecast" in refused.get_json()["detail"]) == (409, True)


def test_the_command_line_answers_as_a_person_reads_it_and_as_json(office: Office) -> None:
    asked = ("forecast", "--home", office.home.folder, "--as", "mara@example.com", "--as-of", "2025-03-02")
    as_text = run(*asked, "--period", "quarter")
    assert as_text.exit_code == 0, as_text.output
    assert "2025-Q1, CNY:" in as_text.stdout
    assert "were inside the 80 % range" in as_text.stdout
    told = json.loads(run(*asked, "--period", "month", "--owner", "ana@example.com", "--json").stdout)
    assert [one["period"] for one in told["periods"]] == ["2025-03", "2025-04"]
    assert {part["name"] for one in told["periods"] for part in one["by_owner"]} == {
        office.user("ana@example.com").name
    }
    refused = run(*asked, "--team", "No such team")
    assert refused.exit_code == 1
    assert "no team with id No such team" in refused.stderr


@pytest.mark.parametrize(("currency", "head"), [("CNY", "2026-Q1, CNY: "), ("", "2026-Q1: ")])
def test_a_company_whose_deals_name_no_currency_is_shown_none(
    capsys: pytest.CaptureFixture[str], currency: str, head: str
) -> None:
    figures = {"won": 1.0, "open": 2.0, "new": 3.0, "expected": 6.0, "ranges": {"80": [4.0, 8.0]}}
    period = figures | {
        "period": "2026-Q1",
        "span": "quarter",
        "currency": currency,
        "coverage": {},
        "by_team": [],
        "simple_rules": {},
        "periods_learned_from": 8,
    }
    told = {"as_of": "2026-01-01", "model_version": "it", "periods": [period], "moved": [], "left_out": []}
    show_forecast(told)
    assert f"\n{head}6 expected" in capsys.readouterr().out


def test_lessons_are_kept_until_they_are_old_or_cannot_be_read(office: Office, tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    shutil.copy(lessons_file(office.home), lessons_file(home))
    week = timedelta(days=7)
    assert find_lessons(home, THEN, week) is not None
    assert find_lessons(home, THEN + week, week) is not None
    assert find_lessons(home, THEN + week * 2, week) is None
    assert find_lessons(home, THEN - week, week) is None
    lessons_file(home).write_text("{")
    assert find_lessons(home, NOW) is None
    learn_lessons(home, office.store, datetime(2023, 6, 1, tzinfo=UTC), lambda _: None)
    found = find_lessons(home, NOW)
    assert found is not None
    assert found.replays["month+0"] == []


def test_a_role_without_deals_is_refused(office: Office) -> None:
    with office.store.reading() as session:
        nobody = User(id=10**6, name="Nobody", email="nobody@example.com", role="guest")
        with pytest.raises(AccessDeniedError):
            seen_by(session, nobody, Part())
