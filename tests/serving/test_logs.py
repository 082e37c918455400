"""What goes wrong is logged, and what it was about is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from crm_core.records import Lead
from crm_core.store import Store
from crm_core.validation import check_values
from serving.logs import get_log, start_logging

MAIL = "wang.fang@fangda.example"


def test_a_logged_error_names_its_place_and_nobody(store: Store, tmp_path: Path) -> None:
    start_logging(tmp_path, level="info")
    try:
        check_values(Lead, {"employees": MAIL})
    except Exception as error:  # noqa: BLE001  whatever it is, it is logged
        error.add_note(f"while writing to {MAIL}")
        get_log("serving.test").error("internal error", exc_info=error)
    with pytest.raises(SQLAlchemyError) as raised, store.engine.connect() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:mail)"), {"mail": MAIL})
    assert MAIL not in str(raised.value)
    group = ExceptionGroup(MAIL, [raised.value, ValueError(MAIL)])
    get_log("serving.test").error("internal error", exc_info=group)
    first, second = (tmp_path / "crm.log").read_text().splitlines()
    assert "fangda" not in first + second
    said = json.loads(first)["exception"][0]
    assert said["exc_type"] == "InvalidValueError"
    assert any(frame["name"] == "check_values" for frame in said["frames"])
    assert "OperationalError" in second
