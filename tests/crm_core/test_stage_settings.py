"""What is set of a pipeline's stages: what it holds, what it refuses, and who goes by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crm_core.deals import close_deal, move_deal
from crm_core.errors import (
    InvalidValueError,
    MissingFieldsError,
    StageNotInPipelineError,
    StaleRecordError,
)
from crm_core.fields import FieldKind, Known, declare_field, retire_field
from crm_core.pipelines import DEFAULT_PIPELINE, PIPELINES, get_stage
from crm_core.records import User
from crm_core.stage_settings import (
    list_stages,
    requirable_fields,
    reset_stage,
    set_stage,
    stage_of,
    stages_of,
)
from crm_core.store import Store
from tests.crm_core.test_views import rows
from tests.factories import make_deal, make_user

NEEDS = get_stage("default", "needs")


@pytest.fixture
def admin(store: Store) -> User:
    """Who sets it."""
    with store.transaction() as transaction:
        return make_user(transaction, role="admin")


def put(store: Store, admin: User, *, version: int | None = None, stage: str = "needs", **said: Any) -> bool:
    """Set something of a stage; the rest stays as it is."""
    with store.transaction() as transaction:
        wanted = replace(stage_of(transaction.session, "default", stage), **said)
        return set_stage(transaction, admin, "default", wanted, version=version)


def needs(store: Store) -> Any:
    with store.reading() as session:
        return next(each for each in list_stages(session, "default") if each.stage.key == "needs")


def test_without_a_setting_the_stages_are_those_of_the_program(store: Store) -> None:
    with store.reading() as session:
        assert stages_of(session) == DEFAULT_PIPELINE
        assert not any(each.is_set for each in list_stages(session, "default"))
        assert stages_of(session, "elsewhere") == ()


def test_what_is_set_is_read_in_place_of_what_the_program_says(store: Store, admin: User) -> None:
    said: dict[str, Any] = {
        "name_en": "Discovery",
        "name_zh": "需求挖掘",
        "rotting_days": 5,
        "required": ("contact_id",),
        "note": "Ask who decides.",
    }
    assert put(store, admin, **said)
    with store.reading() as session:
        found = stages_of(session)
    assert found[1] == replace(NEEDS, **said)
    assert [stage.key for stage in found] == [stage.key for stage in DEFAULT_PIPELINE]
    assert (found[0], *found[2:]) == (DEFAULT_PIPELINE[0], *DEFAULT_PIPELINE[2:])


def test_what_is_set_is_known_within_the_same_transaction(store: Store, admin: User) -> None:
    with store.transaction() as transaction:
        assert stage_of(transaction.session, "default", "needs").rotting_days == 21
        set_stage(transaction, admin, "default", replace(NEEDS, rotting_days=3))
        assert stage_of(transaction.session, "default", "needs").rotting_days == 3


def test_keys_and_what_is_won_cannot_be_set(store: Store, admin: User) -> None:
    put(store, admin, won=True)
    assert not needs(store).stage.won
    with store.transaction() as transaction, pytest.raises(StageNotInPipelineError):
        set_stage(transaction, admin, "default", replace(NEEDS, key="elsewhere"))


def test_a_setting_that_is_taken_back_leaves_what_the_program_says(store: Store, admin: User) -> None:
    put(store, admin, name_zh="别的", rotting_days=7)
    with store.transaction() as transaction:
        assert reset_stage(transaction, admin, "default", "needs")
        assert not reset_stage(transaction, admin, "default", "needs")
    assert needs(store).stage == NEEDS
    assert not needs(store).is_set


def test_saying_what_the_program_says_is_no_setting(store: Store, admin: User) -> None:
    for stage in DEFAULT_PIPELINE:
        assert not put(store, admin, stage=stage.key)
    assert needs(store).version == 0


def test_of_two_who_set_a_stage_the_second_is_told(store: Store, admin: User) -> None:
    put(store, admin, version=0, rotting_days=7)
    with pytest.raises(StaleRecordError):
        put(store, admin, version=0, rotting_days=8)
    put(store, admin, version=1, rotting_days=21)
    assert (needs(store).is_set, needs(store).version) == (False, 2)
    with pytest.raises(StaleRecordError):
        put(store, admin, version=0, rotting_days=8)


@pytest.mark.parametrize(
    "said",
    [
        {"name_en": "  "},
        {"name_zh": ""},
        {"name_en": "x" * 81},
        {"name_en": "a\x00b"},
        {"rotting_days": 0},
        {"rotting_days": 3651},
        {"required": ("colour",)},
        {"required": ("custom.colour",)},
        {"required": ("stage",)},
        {"required": ("probability",)},
        {"required": ("lost_reason",)},
        {"note": "x" * 501},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(store: Store, admin: User, said: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError) as refused:
        put(store, admin, **said)
    assert refused.value.field == next(iter(said))
    assert not needs(store).is_set


def test_what_the_program_requires_may_be_required(store: Store) -> None:
    with store.reading() as session:
        known = requirable_fields(session)
    for stage in (stage for stages in PIPELINES.values() for stage in stages):
        assert tuple(sorted(stage.required, key=known.index)) == stage.required


def test_a_move_asks_for_what_was_set_and_no_more_for_what_was_not(store: Store, admin: User) -> None:
    put(store, admin, required=("rep_probability",))
    put(store, admin, stage="proposal", required=())
    with store.transaction() as transaction:
        deal = make_deal(transaction, amount=None)
        with pytest.raises(MissingFieldsError) as refused:
            move_deal(transaction, deal, "needs")
        move_deal(transaction, deal, "proposal")
    assert (refused.value.stage, refused.value.fields) == ("needs", ("rep_probability",))


def test_closing_asks_for_what_was_set_of_the_won_stage(store: Store, admin: User) -> None:
    put(store, admin, stage="contract", required=("source",))
    with store.transaction() as transaction:
        deal = make_deal(transaction, amount=None, source=None)
        with pytest.raises(MissingFieldsError) as refused:
            close_deal(transaction, deal, won=True)
        transaction.update(deal, {"source": "ad"})
        close_deal(transaction, deal, won=True)
    assert refused.value.fields == ("source",)


def test_a_declared_field_is_asked_for_until_it_is_retired(store: Store, admin: User) -> None:
    with store.transaction() as transaction:
        declare_field(
            transaction.session,
            record_type="deal",
            name="custom.budget_holder",
            kind=FieldKind.TEXT,
            known=Known.HISTORY,
        )
    put(store, admin, required=("custom.budget_holder", "contact_id"))
    with store.transaction() as transaction:
        deal = make_deal(transaction).id
    with store.transaction() as transaction, pytest.raises(MissingFieldsError) as refused:
        move_deal(transaction, transaction.get(type(make_deal(transaction)), deal), "needs")
    assert refused.value.fields == ("contact_id", "custom.budget_holder")
    with store.transaction() as transaction:
        retire_field(transaction.session, "deal", "custom.budget_holder")
    with store.reading() as session:
        assert stage_of(session, "default", "needs").required == ("contact_id",)
    put(store, admin, rotting_days=4)
    assert needs(store).stage.required == ("contact_id",)


def test_views_for_reports_say_what_was_set(store: Store, admin: User) -> None:
    put(store, admin, name_en="Discovery", rotting_days=5)
    with store.transaction() as transaction:
        make_deal(transaction, stage="needs")
    (shown,) = rows(store, "SELECT * FROM bi_stages WHERE stage = 'needs'")
    assert (shown["stage_name_en"], shown["stage_name_zh"], shown["rotting_days"]) == (
        *("Discovery", NEEDS.name_zh, 5),
    )
    (deal,) = rows(store, "SELECT stage_name_en FROM bi_deals")
    (stay,) = rows(store, "SELECT stage_name_en FROM bi_stage_history")
    assert deal["stage_name_en"] == stay["stage_name_en"] == "Discovery"
