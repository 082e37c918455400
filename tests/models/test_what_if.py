"""What would change a score: a supposed row is the real one, nothing is written, words promise nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from crm_core.changes import Change, Source
from crm_core.clock import FixedClock, instant, micros
from crm_core.errors import FeatureError, NotEnoughDataError
from crm_core.predictions import columns_of
from crm_core.records import RECORD_TYPES, Account, Activity, Deal, Lead, Ticket
from crm_core.store import Store, Transaction
from features.blocks import columns_from
from features.cohort import Cohort
from features.feature_set import FeatureSet, feature_set_for
from features.frame import build_frame, frame_of
from features.population import read_all
from features.supposing import Supposition, suppose
from features.wording import is_missing
from models.actions import ACTIONS, Action, Situation
from models.building import build_bundle, gather
from models.bulk_scoring import score_lot
from models.bundle import ModelBundle, load_bundle
from models.familiar import Familiar, Seen
from models.fitting import Recipe, Rung
from models.questions import ask, first_instant
from models.scoring import score_records
from models.simulation import simulate_company
from models.tasks import get_task
from models.usual import Usual
from models.what_if import NOTE, WhatIf, percentages, what_would_change
from tests.models.conftest import NOW, copy_store, unpacked

TASKS = {"lead": "lead_scoring", "deal": "win_probability", "account": "churn"}
EVERY = [
    pytest.param(record_type, action, id=f"{record_type}-{action.key}")
    for record_type, actions in ACTIONS.items()
    for action in actions
]


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Store]:
    """A tiny company, to be looked at and not changed, with a few records that are ready for each action."""
    path = tmp_path_factory.mktemp("what_if") / "crm.db"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}", clock=FixedClock(NOW))
    simulate_company(store, size="tiny", seed=5)
    with store.transaction() as step:
        prepare(step)
    yield store
    store.close()


def prepare(step: Transaction) -> None:
    """Give some deals no close date, let customers write last, and leave tickets open."""
    days = 86_400_000_000
    before = instant(micros(NOW) - 2 * days)
    for deal in step.session.scalars(select(Deal).where(Deal.status == "open").limit(5)):
        step.update(deal, {"expected_close_on": None}, occurred_at=before)
    for model in (Lead, Deal, Account):
        wanted = {} if model is Account else {"status": "open"}
        query = select(model).filter_by(**wanted).order_by(model.id.desc()).limit(5)
        for record in step.session.scalars(query):
            mail = {"kind": "mail", "direction": "inbound", f"{record.record_type}_id": record.id}
            step.create(Activity(**mail, occurred_at=before))
            if model is Account:
                step.create(Ticket(account_id=record.id, subject="late", status="open", occurred_at=before))


def open_ids(store: Store, record_type: str) -> list[int]:
    model: Any = RECORD_TYPES[record_type]
    query = select(model.id).order_by(model.id)
    with store.reading() as session:
        return list(session.scalars(query if record_type == "account" else query.filter_by(status="open")))


def known_of(store: Store, record_type: str, record_id: int) -> dict[str, Any]:
    feature_set = feature_set_for(store, TASKS[record_type])
    row = build_frame(store, Cohort.single(record_type, record_id, NOW), feature_set).iloc[0]
    return {str(name): None if is_missing(value) else value for name, value in row.items()}


def find_ready(store: Store, record_type: str, action: Action) -> tuple[int, Supposition]:
    """Return a record about which the action can be done."""
    for record_id in reversed(open_ids(store, record_type)):
        known = known_of(store, record_type, record_id)
        usual = {"days_until_expected_close": 33.4}
        made = action.makes(Situation(as_of=micros(NOW), known=known, usual=usual))
        if made is not None:
            return record_id, made
    raise AssertionError(f"no {record_type} is ready for {action.key}")


def supposed(store: Store, feature_set: FeatureSet, cohort: Cohort, supposition: Supposition) -> Any:
    with store.reading() as session:
        tables = read_all(session, feature_set.plan, cohort.ids)
    columns = columns_from(suppose(tables, cohort, supposition), cohort, feature_set)
    return frame_of(columns, feature_set, 1)


def come_true(step: Transaction, record_type: str, record_id: int, supposition: Supposition) -> None:
    """Write what was supposed, as people would."""
    record = step.session.get_one(RECORD_TYPES[record_type], record_id)
    for event, values in supposition.events:
        if event == "activity":
            step.create(Activity(**{**values, f"{record_type}_id": record_id}))
    fields = {name: plain_of(name, value) for name, value in supposition.fields.items()}
    if fields:
        step.update(record, fields)
    for event, name, old, new in supposition.linked:
        model: Any = RECORD_TYPES[event]
        query = select(model).filter_by(**{f"{record_type}_id": record_id, name: old})
        for linked in step.session.scalars(query):
            step.update(linked, {name: new})


def plain_of(name: str, value: Any) -> Any:
    if name.endswith("_on"):
        return instant(value).date()
    return value


@pytest.mark.parametrize(("record_type", "action"), EVERY)
def test_a_supposed_row_is_the_row_that_there_would_be(
    company: Store, tmp_path: Path, record_type: str, action: Action
) -> None:
    record_id, supposition = find_ready(company, record_type, action)
    feature_set = feature_set_for(company, TASKS[record_type])
    cohort = Cohort.single(record_type, record_id, NOW)
    before = build_frame(company, cohort, feature_set)
    row = supposed(company, feature_set, cohort, supposition)
    store = copy_store(company, tmp_path / "copy.db")
    with store.transaction(source=Source.REP) as step:
        come_true(step, record_type, record_id, supposition)
    really = build_frame(store, cohort, feature_set)
    store.close()
    for name in feature_set.names:
        np.testing.assert_array_equal(row[name].to_numpy(), really[name].to_numpy(), err_msg=name)
    assert not row.equals(before), "an action that changes nothing is no action"


def test_other_fields_and_empty_ones_can_be_supposed_too(company: Store, tmp_path: Path) -> None:
    record_id = open_ids(company, "deal")[-1]
    feature_set = feature_set_for(company, "win_probability")
    cohort = Cohort.single("deal", record_id, NOW)
    given: dict[str, str | int | float | None] = {
        "amount": 123_450_000,
        "source": "Tante Erna",
        "expected_close_on": None,
    }
    row = supposed(company, feature_set, cohort, Supposition(fields=given))
    store = copy_store(company, tmp_path / "copy.db")
    with store.transaction(source=Source.REP) as step:
        step.update(step.session.get_one(Deal, record_id), {**given, "amount": Decimal(12_345)})
    really = build_frame(store, cohort, feature_set)
    store.close()
    assert row["amount"].tolist() == [12_345.0]
    for name in feature_set.names:
        np.testing.assert_array_equal(row[name].to_numpy(), really[name].to_numpy(), err_msg=name)


def test_what_no_feature_reads_can_be_supposed_and_changes_nothing(company: Store) -> None:
    record_id = open_ids(company, "lead")[0]
    feature_set = feature_set_for(company, "lead_scoring")
    cohort = Cohort.single("lead", record_id, NOW)
    nothing = Supposition(
        events=(("order", {"amount": 1}),), fields={"title": None}, linked=(("ticket", "status", "a", "b"),)
    )
    read = feature_set.without_fields(frozenset({"lead.title"}))
    row = supposed(company, read, cohort, nothing)
    assert row.equals(build_frame(company, cohort, read))


def test_suppositions_leave_the_tables_as_they_are(company: Store) -> None:
    record_id = open_ids(company, "deal")[0]
    feature_set = feature_set_for(company, "win_probability")
    cohort = Cohort.single("deal", record_id, NOW)
    with company.reading() as session:
        tables = read_all(session, feature_set.plan, cohort.ids)
    before = columns_from(tables, cohort, feature_set)
    moved = Supposition(events=(("activity", {"kind": "call"}),), fields={"stage": "negotiation"})
    suppose(tables, cohort, moved)
    after = columns_from(tables, cohort, feature_set)
    for name, column in before.items():
        np.testing.assert_array_equal(column, after[name])


def test_suppositions_are_about_one_question(company: Store) -> None:
    ids = open_ids(company, "lead")[:2]
    feature_set = feature_set_for(company, "lead_scoring")
    cohort = Cohort.at("lead", ids, NOW)
    with company.reading() as session:
        tables = read_all(session, feature_set.plan, cohort.ids)
    with pytest.raises(FeatureError, match="one question at a time, not 2"):
        suppose(tables, cohort, Supposition())


# ------------------------------------------------------------------------------- scores with suppositions


@pytest.fixture(scope="session")
def bundles(company: Store) -> Mapping[str, ModelBundle]:
    """A shrunken logistic model of each task."""
    made = {}
    for record_type, name in TASKS.items():
        task = get_task(name).in_store(company)
        features = feature_set_for(company, name)
        questions = ask(company, task, features, task.ask, start=first_instant(company, task), until=NOW)
        recipe = Recipe(rung=Rung.LOGISTIC, penalty=10.0)
        bundle = build_bundle(gather(questions, company, features, micros(NOW)), recipe=recipe).bundle
        made[record_type] = load_bundle(bundle.to_bytes(), bundle.sha256, version=f"{name}-1-00000000")
    return made


def asked(company: Store, bundles: Mapping[str, ModelBundle], record_type: str, place: int = 0) -> WhatIf:
    """Return the answer for one of the records that the task is asked of."""
    scored = score_records(company, bundles[record_type], open_ids(company, record_type), NOW)
    return what_would_change(company, bundles[record_type], scored[place].record_id, NOW)


@pytest.mark.parametrize("record_type", TASKS)
def test_the_record_as_it_stands_has_its_own_score(
    company: Store, bundles: Mapping[str, ModelBundle], record_type: str
) -> None:
    scored = score_records(company, bundles[record_type], open_ids(company, record_type), NOW)
    found = what_would_change(company, bundles[record_type], scored[0].record_id, NOW)
    assert found.probability == pytest.approx(scored[0].probability, abs=1e-15)
    assert found.horizon_days == bundles[record_type].horizon_days


@pytest.mark.parametrize("record_type", TASKS)
def test_a_lot_of_records_of_any_task_is_answered_as_each_alone(
    company: Store, bundles: Mapping[str, ModelBundle], record_type: str
) -> None:
    bundle, ids = bundles[record_type], open_ids(company, record_type)
    one_by_one = columns_of(score_records(company, bundle, ids, NOW), horizon_days=bundle.horizon_days)
    assert unpacked(score_lot(company, bundle, ids, NOW)) == unpacked(one_by_one)


@pytest.mark.parametrize("record_type", TASKS)
def test_hints_are_ranked_and_add_up(
    company: Store, bundles: Mapping[str, ModelBundle], record_type: str
) -> None:
    found = asked(company, bundles, record_type)
    changes = [hint.change if found.high_is_good else -hint.change for hint in found.hints]
    assert len(found.hints) >= 3
    assert changes == sorted(changes, reverse=True)
    for hint in found.hints:
        assert hint.probability - hint.change == pytest.approx(found.probability, abs=1e-12)
        assert np.sign(hint.log_odds) == np.sign(hint.change)
        assert hint.fields


@pytest.mark.parametrize("record_type", TASKS)
def test_nothing_is_written(company: Store, bundles: Mapping[str, ModelBundle], record_type: str) -> None:
    def state() -> list[Any]:
        with company.reading() as session:
            counts = [session.scalar(select(func.count(model.id))) for model in (Activity, Change)]
            return [*counts, session.scalar(select(func.max(Change.sequence)))]

    before = state()
    asked(company, bundles, record_type)
    assert state() == before


@pytest.mark.parametrize("record_type", TASKS)
def test_hints_speak_of_what_goes_together_in_both_languages(
    company: Store, bundles: Mapping[str, ModelBundle], record_type: str
) -> None:
    records = {"lead": "Leads", "deal": "Deals", "account": "Customers"}[record_type]
    for hint in asked(company, bundles, record_type).hints:
        assert hint.en.startswith(f"{records} like this one with ")
        assert any(often in hint.en for often in ("more often", "less often", "about as often"))
        assert "与此类似" in hint.zh
        assert not any(word in hint.en for word in ("will", "because", "raises", "cause", "{"))
    assert "not a promise" in NOTE["en"]
    assert "并非承诺" in NOTE["zh"]


def test_reasons_are_told_beside_what_was_usual(company: Store, bundles: Mapping[str, ModelBundle]) -> None:
    bundle, features = bundles["deal"], feature_set_for(company, "win_probability")
    made = score_records(company, bundle, open_ids(company, "deal")[:30], NOW)
    reasons = [why for one in made for why in one.reasons if why["usual"] is not None]
    told = [why for why in reasons if features.get(why["feature"]).unit == "count" and why["value"] > 0]
    assert len(told) > 30
    for why in told:
        assert why["usual"] == bundle.usual.middle[why["feature"]]
        assert why["feature"] == "stage_index" or "usual" in why["en"]
        assert why["feature"] == "stage_index" or "通常" in why["zh"]


def test_reasons_of_a_model_from_before_are_told_plainly(
    company: Store, bundles: Mapping[str, ModelBundle]
) -> None:
    plain = replace(bundles["deal"], usual=Usual())
    made = score_records(company, plain, open_ids(company, "deal")[:30], NOW)
    assert not [why for one in made for why in one.reasons if "usual" in why["en"]]


def test_a_closed_question_is_not_asked(company: Store, bundles: Mapping[str, ModelBundle]) -> None:
    scored = {
        one.record_id for one in score_records(company, bundles["account"], open_ids(company, "account"), NOW)
    }
    gone = next(i for i in open_ids(company, "account") if i not in scored)
    with pytest.raises(NotEnoughDataError, match=f"churn is not asked of account {gone}"):
        what_would_change(company, bundles["account"], gone, NOW)


def test_without_a_probability_nothing_is_compared(
    company: Store, bundles: Mapping[str, ModelBundle]
) -> None:
    by_opinion = replace(bundles["deal"], trained={**bundles["deal"].trained, "says_probability": False})
    with pytest.raises(NotEnoughDataError, match="too few outcomes"):
        what_would_change(company, by_opinion, open_ids(company, "deal")[0], NOW)


def test_a_record_unlike_any_seen_gets_no_hints_and_one_that_would_become_so_a_caution(
    company: Store, bundles: Mapping[str, ModelBundle]
) -> None:
    bundle, deal = bundles["deal"], open_ids(company, "deal")[0]
    calls = known_of(company, "deal", deal)["calls_count_14d"]
    seen = Seen(field="calls", may_miss=True, low=calls, high=calls)
    strict = replace(bundle, familiar=Familiar(seen={"calls_count_14d": seen}, most=0))
    hints = {hint.action: hint for hint in what_would_change(company, strict, deal, NOW).hints}
    assert "unlike any" in (hints["call"].caution_en or "")
    assert hints["call"].caution_zh == "那样的记录与模型学过的都不同"
    assert "unlike any" not in (hints["meeting"].caution_en or "")
    odd = replace(seen, low=calls + 5, high=calls + 5)
    unlike = replace(bundle, familiar=Familiar(seen={"calls_count_14d": odd}, most=0))
    with pytest.raises(NotEnoughDataError, match=f"deal {deal} is unlike any record"):
        what_would_change(company, unlike, deal, NOW)


def test_the_past_can_be_asked_too(company: Store, bundles: Mapping[str, ModelBundle]) -> None:
    earlier = instant(micros(NOW) - 5 * 86_400_000_000)
    with company.reading() as session:
        born = select(Deal.id).where(Deal.status == "open", Deal.recorded_at < earlier).limit(1)
        deal = session.scalars(born).one()
    then = what_would_change(company, bundles["deal"], deal, earlier)
    now = what_would_change(company, bundles["deal"], deal, NOW)
    assert then.hints
    assert then.probability != now.probability


def test_what_the_model_has_hardly_seen_comes_with_a_caution(
    company: Store, bundles: Mapping[str, ModelBundle]
) -> None:
    bundle = bundles["deal"]
    narrow = {name: dict.fromkeys(reach, (0.0, 0.0)) for name, reach in bundle.usual.reach.items()}
    many = dict.fromkeys(bundle.usual.records, 500)
    odd = replace(bundle, usual=replace(bundle.usual, reach=narrow, records=many))
    deal = open_ids(company, "deal")[0]
    cautions = [hint.caution_en or "" for hint in what_would_change(company, odd, deal, NOW).hints]
    assert any(said.startswith("hardly ever seen among deals at such a stage: ") for said in cautions)


def test_a_situation_with_few_records_comes_with_a_caution(
    company: Store, bundles: Mapping[str, ModelBundle]
) -> None:
    bundle = bundles["deal"]
    few = replace(bundle, usual=replace(bundle.usual, records=dict.fromkeys(bundle.usual.records, 7)))
    hints = what_would_change(company, few, open_ids(company, "deal")[0], NOW).hints
    assert {hint.caution_en for hint in hints} == {"learned from only 7 deals at such a stage"}
    assert {hint.caution_zh for hint in hints} == {"仅从 7 个该阶段的商机中学得"}


def test_a_model_from_before_gives_hints_without_cautions(
    company: Store, bundles: Mapping[str, ModelBundle]
) -> None:
    old = replace(bundles["lead"], usual=Usual())
    hints = what_would_change(company, old, open_ids(company, "lead")[0], NOW).hints
    assert hints
    assert all(hint.caution_en is None for hint in hints)


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [(0.36, 0.41, ("36%", "41%")), (0.361, 0.364, ("36.1%", "36.4%")), (0.004, 0.006, ("0.4%", "0.6%"))],
)
def test_percentages_that_differ_look_different(before: float, after: float, shown: tuple[str, str]) -> None:
    assert percentages(before, after) == shown
