"""Reasons are packed where they are stored, and read as they were said, also those from before."""

from __future__ import annotations

import hashlib
import random
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import select, text

from crm_core import migrations, packing
from crm_core.arrays import read_arrays
from crm_core.columns import dump_json
from crm_core.database import without_foreign_keys
from crm_core.packing import SHORT, pack_json, pack_reason, pack_reasons, pack_words, unpack_json
from crm_core.predictions import NewPrediction, list_predictions, write_predictions
from crm_core.records import Lead
from crm_core.store import Store
from crm_core.views import drop_views
from tests.factories import make_lead

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def reason(number: int) -> dict[str, Any]:
    """One of many reasons."""
    return {
        "group": "calls",
        "feature": f"calls_count_{number}d",
        "fields": ["activity.kind", "activity.occurred_at"],
        "value": random.Random(number).random(),
        "usual": None,
        "log_odds": 0.125 * number,
        "en": f"{number} calls in the last 30 days",
        "zh": f"近 30 天 {number} 次通话",
    }


MANY = [reason(number) for number in range(20)]


def test_what_was_packed_is_read_to_the_character() -> None:
    for told in (MANY, MANY[:1], [], [{"en": "\x01 \\x ' 方达阀门 🙂" * 100}]):
        assert unpack_json(pack_json(dump_json(told))) == dump_json(told)


def test_many_reasons_take_a_fraction_of_their_text() -> None:
    assert len(pack_json(dump_json(MANY))) < len(dump_json(MANY).encode()) / 5


def test_what_was_packed_reason_by_reason_is_read_to_the_character() -> None:
    packed = []
    for told in MANY:
        around = dump_json(told | {"log_odds": "?", "value": "!"})
        before, rest = around.split('"?"')
        middle, after = rest.split('"!"')
        words = pack_words(before, middle, after)
        packed.append(pack_reason(words, told["log_odds"], dump_json(told["value"]).encode()))
    assert unpack_json(pack_reasons(packed)) == dump_json(MANY)
    assert unpack_json(pack_reasons([])) == "[]"


def test_a_short_text_is_stored_as_it_is() -> None:
    assert pack_json("[]") == b"[]"
    assert pack_json(f'["{"x" * SHORT}"]')[:1] == b"\x01"


def test_the_words_are_those_with_which_all_was_packed() -> None:
    """Another file would make every stored reason unreadable: new words are a new version."""
    words = packing._words()
    assert hashlib.sha256(words).hexdigest() == (
        "e2197e707bdced0c8e1ce4c0be13613445b67d425ada57cf67dbfbb497e730dc"
    )
    told = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, words)
    assert unpack_json(b"\x01" + told.compress(b"[1]") + told.flush()) == "[1]"


def scored(store: Store) -> int:
    with store.transaction() as transaction:
        lead = make_lead(transaction)
        said = NewPrediction(record_id=lead.id, probability=0.5, score=50, grade="B", reasons=MANY)
        write_predictions(
            transaction,
            task="lead_scoring",
            record_type="lead",
            as_of=transaction.now,
            model_version="1",
            horizon_days=90,
            predictions=[said],
        )
        return lead.id


def test_a_record_and_its_history_hold_reasons_packed(store: Store) -> None:
    lead_id = scored(store)
    with store.reading() as session:
        for table in ("leads", "predictions"):
            (stored,) = session.execute(text(f"SELECT reasons FROM {table}")).one()
            assert bytes(stored) == pack_json(dump_json(MANY))
        (told,) = list_predictions(session, "lead", lead_id)
        assert told.reasons == session.get_one(Lead, lead_id).reasons == MANY


@pytest.mark.parametrize("many", [False, True])
def test_reasons_are_read_in_bulk(store: Store, *, many: bool) -> None:
    lead_id = scored(store)
    with store.transaction() as transaction:
        for _ in range(3 if many else 1):
            make_lead(transaction)
    with store.reading() as session:
        query = select(Lead.id, Lead.reasons)
        read = read_arrays(session, query if many else query.where(Lead.id.in_([lead_id])))
    assert dict(zip(read["id"].tolist(), read["reasons"].tolist(), strict=True))[lead_id] == MANY


def test_reasons_from_before_there_was_packing_are_read(store: Store) -> None:
    lead_id = scored(store)
    is_text = store.engine.dialect.name == "sqlite"
    before = dump_json(MANY) if is_text else dump_json(MANY).encode()
    with store.transaction() as transaction:
        for table in ("leads", "predictions"):
            transaction.session.execute(text(f"UPDATE {table} SET reasons = :told"), {"told": before})
    with store.reading() as session:
        (told,) = list_predictions(session, "lead", lead_id)
        assert told.reasons == session.get_one(Lead, lead_id).reasons == MANY


def test_going_back_a_version_writes_reasons_out(store: Store) -> None:
    scored(store)
    with without_foreign_keys(store.engine).execution_options(writes=True).begin() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        drop_views(connection)
        command.downgrade(config, "0014")
        for table in ("leads", "predictions"):
            assert connection.execute(text(f"SELECT reasons FROM {table}")).scalar_one() == dump_json(MANY)
