"""Scoring in bulk says what scoring one by one says; a rescore that is killed goes on where it stopped."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from crm_core.changes import Cursor, newest_sequence
from crm_core.clock import FixedClock
from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import Prediction, columns_of
from crm_core.promotions import Promotion
from crm_core.records import Lead
from crm_core.rescoring import HELD, Sweep
from crm_core.store import Store
from crm_core.writing_back import LARGEST_LOT, SMALLEST_LOT, next_size
from models.bulk_scoring import Rescored, Watch, rescore, score_lot
from models.bundle import ModelBundle
from models.scoring import score_records
from serving import full_rescore
from serving.champions import Champions
from serving.modelling import BundleScorer
from serving.rescoring import Rescorer
from serving.settings import Settings
from tests.models.conftest import NOW, Business, unpacked


class Killed(BaseException):
    """What kills a process at a place."""


def open_ids(store: Store) -> list[int]:
    with store.reading() as session:
        return list(session.scalars(select(Lead.id).where(Lead.status == "open").order_by(Lead.id)))


def same_in_bulk(store: Store, bundle: ModelBundle, ids: list[int]) -> None:
    """Check that a lot holds what is written when records are scored one by one."""
    one_by_one = columns_of(score_records(store, bundle, ids, NOW), horizon_days=bundle.horizon_days)
    assert unpacked(score_lot(store, bundle, ids, NOW)) == unpacked(one_by_one)


def test_a_lot_holds_what_single_answers_hold_to_the_bit(business: Business, bundle: ModelBundle) -> None:
    same_in_bulk(business.store, bundle, open_ids(business.store))


def test_a_record_unlike_any_is_told_alike_in_a_lot(copied: Store, bundle: ModelBundle) -> None:
    ids = open_ids(copied)
    with copied.transaction() as transaction:
        transaction.update(transaction.get(Lead, ids[3]), {"source": "other", "region": "the moon"})
    told = score_lot(copied, bundle, ids, NOW)
    assert told.probability[3] is None
    same_in_bulk(copied, bundle, ids)


def test_who_asks_not_to_be_scored_is_in_no_lot(copied: Store, bundle: ModelBundle) -> None:
    ids = open_ids(copied)
    with copied.transaction() as transaction:
        set_scoring_opt_out(transaction, transaction.get(Lead, ids[0]), opted_out=True)
    assert score_lot(copied, bundle, ids, NOW).record_id == ids[1:]
    assert len(score_lot(copied, bundle, ids[:1], NOW)) == 0


def test_a_rescore_that_was_killed_goes_on_and_asks_the_same_question(
    copied: Store, bundle: ModelBundle
) -> None:
    def kill(done: Rescored) -> None:
        if done.scored:
            raise Killed

    with pytest.raises(Killed):
        rescore(copied, bundle, tell=kill, block=40)
    with copied.reading() as session:
        before = session.scalar(select(func.count()).select_from(Prediction)) or 0
    copied.clock = FixedClock(NOW + timedelta(hours=1))
    done = rescore(copied, bundle)
    ids = open_ids(copied)
    assert 0 < done.resumed == before < len(ids) == done.total == done.resumed + done.scored
    with copied.reading() as session:
        found = session.execute(select(Prediction.record_id, Prediction.as_of)).all()
        assert sorted(each.record_id for each in found) == ids
        assert {each.as_of for each in found} == {done.as_of}
        assert not session.scalars(select(Cursor.name).where(Cursor.name.startswith("rescore."))).all()


def test_another_instant_begins_anew(copied: Store, bundle: ModelBundle) -> None:
    def kill(_done: Rescored) -> None:
        raise Killed

    with pytest.raises(Killed):
        rescore(copied, bundle, tell=kill, block=40)
    later = NOW + timedelta(hours=1)
    copied.clock = FixedClock(later)
    done = rescore(copied, bundle, as_of=later)
    assert (done.resumed, done.scored) == (0, len(open_ids(copied)))


def test_a_rescore_tells_its_stages_and_its_longest_lot(copied: Store, bundle: ModelBundle) -> None:
    watch = rescore(copied, bundle).watch
    assert {"listing", "reading", "predicting", "explaining", "writing"} <= set(watch.seconds)
    assert 0 < watch.longest_lot <= watch.seconds["writing"]


def test_lots_grow_while_they_are_quick_and_shrink_at_once() -> None:
    assert next_size(500, 0.01, 0.05) == 1000
    assert next_size(1000, 0.2, 0.05) == 250
    assert next_size(60, 9.0, 0.05) == SMALLEST_LOT
    assert next_size(LARGEST_LOT, 0.0, 0.05) == LARGEST_LOT


def test_a_rescore_from_the_command_line_tells_what_it_did_and_no_sweep_is_due(
    copied: Store, bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_rescore, "load_bundle_of", lambda *_: bundle)
    settings = Settings(home=tmp_path)
    told = full_rescore.rescore_task(settings.home_folder, copied, "lead_scoring")
    assert (told["scored"], told["resumed_after"]) == (len(open_ids(copied)), 0)
    assert told["longest_lot_seconds"] > 0
    with copied.reading() as session:
        sweep = session.get_one(Sweep, "lead_scoring")
        assert (sweep.as_of, sweep.log_position) == (NOW, newest_sequence(session))
        assert sweep.ended_at is not None


def test_how_far_a_rescore_is_fits_on_one_line() -> None:
    watch = Watch(seconds={"reading": 3.0, "writing": 1.0})
    done = Rescored(as_of=NOW, position=1, scored=1000, total=4000, resumed=1000, watch=watch)
    line = full_rescore.line_of("churn", done, 4.0)
    assert line == "churn: 2,000 of 4,000, 250/s, 8 s left (reading 75%, writing 25%)"


@pytest.fixture
def worker(copied: Store, bundle: ModelBundle) -> Rescorer:
    """A worker with the same model."""
    with copied.transaction() as transaction:
        promotion = Promotion(
            task=bundle.task,
            model_version=bundle.version,
            sha256=bundle.sha256,
            run_id="hand",
            promoted_at=transaction.now,
            reason="in a test",
        )
        transaction.session.add(promotion)
    champions = Champions(copied, lambda *_: BundleScorer(bundle=bundle), look_seconds=0)
    return Rescorer(copied, champions, swept_at_once=50)


def answers(store: Store) -> list[int]:
    with store.reading() as session:
        return sorted(session.scalars(select(Prediction.record_id)))


def test_a_worker_leaves_a_rescore_alone_and_goes_on_with_it_once_it_is_dead(
    copied: Store, bundle: ModelBundle, worker: Rescorer
) -> None:
    def kill(_done: Rescored) -> None:
        assert (worker.run_once(), worker.idle) == (0, True)
        raise Killed

    with pytest.raises(Killed):
        rescore(copied, bundle, tell=kill, block=40)
    before = len(answers(copied))
    copied.clock = FixedClock(NOW + HELD + timedelta(seconds=1))
    while worker.run_once():
        pass
    assert 0 < before < len(answers(copied))
    assert answers(copied) == open_ids(copied)
    with copied.reading() as session:
        sweep = session.get_one(Sweep, bundle.task)
        assert (sweep.as_of, sweep.done, sweep.total) == (NOW, len(open_ids(copied)), len(open_ids(copied)))
    again = rescore(copied, bundle)
    assert (again.as_of, again.resumed) == (copied.clock.now(), 0), "nothing of the first is left"


def test_a_rescore_asks_nothing_that_a_sweep_by_the_same_model_has_answered(
    copied: Store, bundle: ModelBundle, worker: Rescorer
) -> None:
    swept = worker.run_once()
    copied.clock = FixedClock(NOW + timedelta(minutes=1))
    done = rescore(copied, bundle)
    assert (done.as_of, done.scored) == (NOW, len(open_ids(copied)) - swept)
    assert swept > 0
    assert answers(copied) == open_ids(copied)
    assert worker.run_once() == 0
