"""Scores on records: the same row as in training, reasons that add up, nothing a model wrote is read."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select, text

from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.errors import FeatureSetMismatchError
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.predictions import Prediction
from crm_core.records import Lead
from crm_core.store import Store
from models.bundle import ModelBundle
from models.scoring import features_of, score_all, score_records, write_scores
from tests.models.conftest import NOW, Business


def _open_ids(store: Store) -> list[int]:
    with store.reading() as session:
        return list(session.scalars(select(Lead.id).where(Lead.status == "open").order_by(Lead.id)))


def test_reasons_add_up_to_the_probability_shown(business: Business, bundle: ModelBundle) -> None:
    for made in score_records(business.store, bundle, _open_ids(business.store)[:200], NOW):
        assert made.probability is not None
        total = math.fsum(reason["log_odds"] for reason in made.reasons)
        assert total == pytest.approx(math.log(made.probability / (1 - made.probability)), abs=1e-9)


def test_reasons_are_sentences_in_both_languages_with_the_records_own_values(
    business: Business, bundle: ModelBundle
) -> None:
    ids = _open_ids(business.store)
    made = {one.record_id: one for one in score_records(business.store, bundle, ids, NOW)}
    wanted = next(i for i in ids if business.sources[i - 1] == "referral")
    reasons = {reason["group"]: reason for reason in made[wanted].reasons}
    assert reasons["source"]["value"] == "referral"
    assert "referral" in reasons["source"]["en"]
    assert reasons["source"]["zh"] == "来源：转介绍"
    assert reasons["source"]["log_odds"] > 0.3
    assert re.fullmatch(
        r"\d+% of such records are converted within 90 days on average", reasons["base"]["en"]
    )
    assert "90 天内转化" in reasons["base"]["zh"]


def test_a_group_is_one_reason_and_the_heaviest_comes_first(business: Business, bundle: ModelBundle) -> None:
    (made,) = score_records(business.store, bundle, _open_ids(business.store)[:1], NOW)
    groups = [reason["group"] for reason in made.reasons]
    assert len(groups) == len(set(groups))
    sizes = [abs(reason["log_odds"]) for reason in made.reasons]
    assert sizes == sorted(sizes, reverse=True)
    assert all(
        set(reason) == {"group", "feature", "value", "usual", "log_odds", "en", "zh", "fields"}
        for reason in made.reasons
    )


def test_one_record_alone_gets_what_it_gets_among_all(business: Business, bundle: ModelBundle) -> None:
    ids = _open_ids(business.store)
    together = {one.record_id: one for one in score_records(business.store, bundle, ids, NOW)}
    for record_id in ids[:5]:
        (alone,) = score_records(business.store, bundle, [record_id], NOW)
        assert alone.probability == pytest.approx(together[record_id].probability, abs=1e-15)


def test_no_record_gets_no_score(business: Business, bundle: ModelBundle) -> None:
    assert score_records(business.store, bundle, [], NOW) == []


def test_all_open_records_are_scored_and_shown_once(copied: Store, bundle: ModelBundle) -> None:
    told: list[tuple[int | None, int | None]] = []
    count = score_all(copied, bundle, NOW, progress=lambda _what, done, total: told.append((done, total)))
    assert count == len(_open_ids(copied))
    assert told[-1] == (count, count)
    with copied.reading() as session:
        shown = session.scalars(select(Lead).where(Lead.probability.is_not(None))).all()
        assert {lead.model_version for lead in shown} == {bundle.version}
        assert len(shown) == count
        assert {lead.status for lead in shown} == {"open"}
    assert score_all(copied, bundle, NOW) == count
    with copied.reading() as session:
        assert len(session.scalars(select(Prediction.id)).all()) == count


def test_scores_spread_over_their_range_among_open_records(business: Business, bundle: ModelBundle) -> None:
    made = score_records(business.store, bundle, _open_ids(business.store), NOW)
    scores = [one.score or 0 for one in made]
    assert np.mean(scores) == pytest.approx(50, abs=4)
    assert min(scores) >= 0
    assert max(scores) <= 100


def test_what_models_wrote_changes_no_score(copied: Store, bundle: ModelBundle) -> None:
    ids = _open_ids(copied)
    before = score_records(copied, bundle, ids, NOW)
    with copied.engine.begin() as connection:
        connection.execute(
            text("UPDATE leads SET probability = 0.99, score = 99, grade = 'A', model_version = 'x'")
        )
    score_all(copied, bundle, NOW)
    assert score_records(copied, bundle, ids, NOW) == before


def test_a_field_declared_later_does_not_stop_the_model(copied: Store, bundle: ModelBundle) -> None:
    with copied.transaction(source=Source.IMPORT) as transaction:
        declare_field(
            transaction.session,
            record_type="lead",
            name="custom.shirt",
            known=Known.CREATION,
            kind=FieldKind.TEXT,
        )
    assert features_of(copied, bundle).fingerprint == bundle.feature_set_fingerprint


def test_a_field_that_turns_out_to_be_written_at_the_outcome_stops_it_by_name(
    copied: Store, bundle: ModelBundle
) -> None:
    with copied.transaction(source=Source.IMPORT) as transaction:
        declare_field(transaction.session, record_type="lead", name="region", known=Known.OUTCOME)
    with pytest.raises(FeatureSetMismatchError, match=r"reads region, .*which the store has no more"):
        score_records(copied, bundle, [1], NOW)


def test_a_feature_that_means_something_else_stops_it(copied: Store, bundle: ModelBundle) -> None:
    from dataclasses import replace

    with pytest.raises(FeatureSetMismatchError, match="train lead_scoring again"):
        score_records(copied, replace(bundle, feature_set_fingerprint="0" * 64), [1], NOW)


def test_the_past_can_be_asked_again(business: Business, bundle: ModelBundle) -> None:
    earlier, young = NOW - timedelta(days=20), NOW - timedelta(days=50)
    with business.store.reading() as session:
        born = select(Lead.id).where(
            Lead.occurred_at > young, Lead.occurred_at < earlier, Lead.status == "open"
        )
        ids = list(session.scalars(born.limit(50)))
    first = score_records(business.store, bundle, ids, earlier)
    assert score_records(business.store, bundle, ids, earlier) == first
    assert [one.probability for one in first] != [
        one.probability for one in score_records(business.store, bundle, ids, NOW)
    ]


def test_scoring_imports_neither_mlflow_nor_scikit_learn_nor_lightgbm_nor_numba() -> None:
    code = (
        "import models.scoring, models.explain, sys; "
        "print([m for m in ('mlflow', 'sklearn', 'lightgbm', 'numba', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _make_strange(store: Store, record_id: int) -> None:
    """Give a lead a source and a region that nobody ever had."""
    with store.transaction() as transaction:
        transaction.update(transaction.get(Lead, record_id), {"source": "other", "region": "the moon"})


def test_all_horizons_and_the_expected_time_are_stored(copied: Store, bundle: ModelBundle) -> None:
    score_all(copied, bundle, NOW)
    with copied.reading() as session:
        for one in session.scalars(select(Prediction)):
            assert one.within is not None
            chances = [one.within[str(days)] or 0.0 for days in (30, 60, 90, 180)]
            assert chances == sorted(chances)
            assert one.within["90"] == one.probability
            assert one.expected_days is not None
            assert 0 < one.expected_days < 180


def test_about_a_record_unlike_any_nothing_is_said_but_why(copied: Store, bundle: ModelBundle) -> None:
    strange, ordinary = _open_ids(copied)[:2]
    _make_strange(copied, strange)
    made = {one.record_id: one for one in score_records(copied, bundle, [strange, ordinary], NOW)}
    assert made[ordinary].probability is not None
    nothing = made[strange]
    assert (nothing.probability, nothing.score, nothing.grade, nothing.within, nothing.expected_days) == (
        None,
        None,
        None,
        None,
        None,
    )
    first, *strange_fields = nothing.reasons
    told = {reason["group"]: reason for reason in strange_fields}
    assert (first["group"], set(told)) == ("not_enough_data", {"source", "region"})
    assert "the moon" in told["region"]["en"]
    assert told["region"]["fields"] == ["lead.region"]
    assert all(reason["zh"] for reason in nothing.reasons)


def test_a_record_unlike_any_is_scored_again_once_it_is_ordinary(copied: Store, bundle: ModelBundle) -> None:
    strange = _open_ids(copied)[0]
    shown: list[tuple[bool, bool, str | None]] = []
    for change in ({"source": "other", "region": "the moon"}, {"source": "web", "region": "north"}):
        with copied.transaction() as transaction:
            transaction.update(transaction.get(Lead, strange), change)
        as_of = NOW + timedelta(minutes=len(shown) + 1)
        copied.clock = FixedClock(as_of)
        write_scores(copied, bundle, score_records(copied, bundle, [strange], as_of), as_of)
        with copied.reading() as session:
            lead = session.get_one(Lead, strange)
            shown.append((lead.probability is None, lead.score is None, lead.trend))
    assert shown == [(True, True, None), (False, False, None)]


def test_a_horizon_that_is_not_reported_is_stored_as_not_known(
    business: Business, bundle: ModelBundle
) -> None:
    short = replace(bundle, horizons_days=(30, 60, 90), later=None, not_reported={180: 7})
    (made,) = score_records(business.store, short, _open_ids(business.store)[:1], NOW)
    assert made.within is not None
    assert made.within[180] is None
    assert made.within[90] == made.probability


class _PointsOnly(ModelBundle):
    """Expert points before any outcome is known."""

    says_probability = False


def test_expert_points_give_a_rank_and_no_probability(business: Business, bundle: ModelBundle) -> None:
    held = {name: getattr(bundle, name) for name in bundle.__dataclass_fields__}
    ids = _open_ids(business.store)[:20]
    plain = score_records(business.store, bundle, ids, NOW)
    for said, one in zip(score_records(business.store, _PointsOnly(**held), ids, NOW), plain, strict=True):
        assert (said.probability, said.within, said.expected_days) == (None, None, None)
        assert (said.score, said.grade) == (one.score, one.grade)
        for why, before in zip(said.reasons, one.reasons, strict=True):
            assert why["log_odds"] == before["log_odds"]
            assert why["group"] == "base" or why == before
