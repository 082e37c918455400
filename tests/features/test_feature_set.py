"""Which features a task has in a store, what identifies them, and how they are documented."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crm_core.clock import FixedClock
from crm_core.errors import FeatureError, OutcomeFieldError, RecordNotFoundError
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.store import Store
from features.cohort import Cohort
from features.event_features import EventCount
from features.feature_set import FEATURE_SETS, FeatureSet, describe, feature_set_for, feature_set_in
from features.field_features import FieldValue, MissingCount
from features.frame import build_frame, build_frame_in
from features.lead import CALLS
from features.wording import Noun
from tests.conftest import MONDAY
from tests.factories import make_deal, make_lead

LEAD = FEATURE_SETS["lead_scoring"]


def declare(store: Store, record_type: str, name: str, known: Known, kind: FieldKind | None = None) -> None:
    with store.transaction() as step:
        declare_field(step.session, record_type=record_type, name=name, known=known, kind=kind)


def lead_set(*features: FieldValue) -> FeatureSet:
    return FeatureSet(name="mine", record_type="lead", features=features)


def test_custom_fields_known_in_time_join_and_others_never_do(store: Store) -> None:
    for known in Known:
        declare(store, "lead", f"custom.{known}", known, FieldKind.TEXT)
    declare(store, "deal", "custom.other", Known.CREATION, FieldKind.TEXT)

    found = feature_set_for(store, "lead_scoring")

    assert set(found.names) - set(LEAD.names) == {"custom_creation", "custom_history"}


def test_each_kind_of_custom_field_becomes_a_feature(store: Store, clock: FixedClock) -> None:
    values = {"text": "x", "number": 2.5, "flag": True, "day": 20_514, "instant": 1_772_445_600_000_000}
    for kind in values:
        declare(store, "lead", f"custom.{kind}", Known.CREATION, FieldKind(kind))
    with store.transaction() as step:
        make_lead(step, custom=values)
        make_lead(step)

    names = [
        "custom_text",
        "custom_number",
        "custom_flag",
        "days_until_custom_day",
        "days_until_custom_instant",
    ]
    found = feature_set_for(store, "lead_scoring").select(names)
    frame = build_frame(store, Cohort.at("lead", [1, 2], MONDAY), found)

    assert frame.to_numpy()[0].tolist() == ["x", 2.5, 1.0, -0.375, 1 / 24]
    assert frame.isna().to_numpy()[1].all()


def test_a_custom_field_is_called_by_its_labels(store: Store) -> None:
    with store.transaction() as step:
        declare_field(
            step.session,
            record_type="lead",
            name="custom.page",
            kind=FieldKind.TEXT,
            known=Known.CREATION,
            label_en="landing page",
            label_zh="着陆页",
        )

    feature = feature_set_for(store, "lead_scoring").get("custom_page")

    assert feature.say("p1") == "landing page: p1"
    assert feature.say(None, "zh") == "未填写着陆页"


@pytest.mark.parametrize("known", [Known.OUTCOME, Known.UNKNOWN])
def test_a_field_that_an_import_declared_as_no_input_is_left_out_and_refused_by_name(
    known: Known, store: Store
) -> None:
    declare(store, "lead", "source", known)
    with store.transaction() as step:
        make_lead(step)

    assert "source" not in feature_set_for(store, "lead_scoring").names
    with pytest.raises(OutcomeFieldError, match=r"lead\.source"):
        build_frame(store, Cohort.single("lead", 1, MONDAY), LEAD)


def test_a_custom_field_of_the_outcome_is_refused_by_name(store: Store) -> None:
    declare(store, "lead", "custom.contract_number", Known.OUTCOME, FieldKind.TEXT)
    with store.transaction() as step:
        make_lead(step)
    mine = lead_set(FieldValue(record="lead", field="custom.contract_number", kind=FieldKind.TEXT))

    with pytest.raises(OutcomeFieldError, match=r"lead\.custom\.contract_number"):
        build_frame(store, Cohort.single("lead", 1, MONDAY), mine)


def test_events_whose_field_is_no_input_leave_only_the_features_that_read_it(store: Store) -> None:
    declare(store, "order", "amount", Known.UNKNOWN)

    found = feature_set_for(store, "churn").names

    assert "orders_count_90d" in found
    assert [name for name in found if "amount" in name] == []


def test_missing_fields_are_counted_among_those_that_can_be_inputs(store: Store) -> None:
    declare(store, "lead", "email", Known.UNKNOWN)
    with store.transaction() as step:
        make_lead(step, email=None, phone="1")

    found = feature_set_for(store, "lead_scoring")
    counted = found.get("missing_fields_count")

    assert isinstance(counted, MissingCount)
    assert "email" not in counted.fields
    frame = build_frame(store, Cohort.single("lead", 1, MONDAY), found)
    assert frame["missing_fields_count"].tolist() == [4]


def test_an_unknown_task_is_refused_by_name(store: Store) -> None:
    with pytest.raises(FeatureError, match="upsell"):
        feature_set_for(store, "upsell")


def test_features_can_be_chosen_and_left_out(store: Store) -> None:
    assert LEAD.select(["age_days", "source"]).names == ("age_days", "source")
    assert [name for name in LEAD.without_groups("season").names if "month" in name] == []
    with pytest.raises(FeatureError, match="colour"):
        LEAD.select(["colour"])


def test_the_fingerprint_follows_the_meaning_and_not_the_words() -> None:
    one = FeatureSet(name="a", record_type="lead", features=(EventCount(of=CALLS, lookback="7d"),))
    reworded = FeatureSet(
        name="b",
        record_type="lead",
        features=(
            FieldValue(record="lead", field="source", noun=Noun(one="origin", many="origins", zh="渠道")),
        ),
    )
    same = lead_set(FieldValue(record="lead", field="source"))
    longer = FeatureSet(name="a", record_type="lead", features=(EventCount(of=CALLS, lookback="8d"),))

    assert reworded.fingerprint == same.fingerprint
    assert len({one.fingerprint, longer.fingerprint, same.fingerprint}) == 3
    assert LEAD.select(reversed(LEAD.names)).fingerprint != LEAD.fingerprint


def test_a_frame_has_a_row_a_question_and_a_column_a_feature(store: Store) -> None:
    with store.transaction() as step:
        for source in ("fair", None, "fair"):
            make_lead(step, source=source)

    frame = build_frame(store, Cohort.at("lead", [3, 1, 2, 3], MONDAY), LEAD)

    assert tuple(frame.columns) == LEAD.names
    assert isinstance(frame.index, pd.RangeIndex)
    assert frame["source"].tolist() == ["fair", "fair", None, "fair"]
    assert {str(dtype) for dtype in frame.dtypes} == {"float64", "object"}
    assert {one.name for one in LEAD.features if one.dtype == "category"} == set(
        frame.select_dtypes("object").columns
    )


def test_an_empty_cohort_gives_an_empty_frame(store: Store) -> None:
    for feature_set in FEATURE_SETS.values():
        nobody = np.empty(0, dtype=np.int64)
        frame = build_frame(store, Cohort.of(feature_set.record_type, nobody, nobody), feature_set)
        assert frame.shape == (0, len(feature_set.names))


def test_a_frame_can_be_built_inside_a_session_that_is_open(store: Store) -> None:
    with store.transaction() as step:
        make_lead(step)
    cohort = Cohort.single("lead", 1, MONDAY)

    with store.reading() as session:
        chosen = feature_set_in(session, "lead_scoring")
        declare(store, "lead", "source", Known.OUTCOME)
        # The session reads the state it began with, in which nothing was declared.
        frame = build_frame_in(session, cohort, chosen)

    assert frame["source"].tolist() == ["web_form"]
    with pytest.raises(OutcomeFieldError):
        build_frame(store, cohort, chosen)


def test_what_does_not_exist_cannot_be_asked_about(store: Store) -> None:
    with store.transaction() as step:
        make_lead(step)
    with pytest.raises(RecordNotFoundError, match="lead with id 7"):
        build_frame(store, Cohort.at("lead", [1, 7], MONDAY), LEAD)


def test_what_was_not_known_yet_cannot_be_asked_about(store: Store, clock: FixedClock) -> None:
    with store.transaction() as step:
        make_lead(step, occurred_at=MONDAY.replace(day=1))
    with pytest.raises(FeatureError, match="lead 1 was not known at 2026-03-01"):
        build_frame(store, Cohort.single("lead", 1, MONDAY.replace(day=1, hour=20)), LEAD)


def test_questions_about_another_record_are_refused(store: Store) -> None:
    with store.transaction() as step:
        make_deal(step)
    with pytest.raises(FeatureError, match="lead_scoring asks about a lead, not a deal"):
        build_frame(store, Cohort.single("deal", 1, MONDAY), LEAD)


def test_every_feature_is_described_with_its_sentences() -> None:
    text = describe()
    for feature_set in FEATURE_SETS.values():
        for feature in feature_set.features:
            assert (
                f"| `{feature.name}` | {feature.unit} | {feature.sentence_en} / {feature.sentence_zh} |"
                in text
            )
