"""A rule begins a sequence with whoever agreed, and does the rest of what it says for everybody."""

from __future__ import annotations

import pytest

from crm_core.errors import InvalidValueError
from crm_core.store import Store
from tests.automation.conftest import TOLD, Automation
from tests.factories import make_lead, make_user
from tests.mailing.test_sequences import Made, run_of


@pytest.fixture
def automation(store: Store) -> Automation:
    """Rules of an administrator."""
    with store.transaction() as transaction:
        admin = make_user(transaction, "Zoe", role="admin").id
    return Automation(store=store, admin=admin)


def test_a_rule_begins_a_sequence_once_and_tells_the_others_all_the_same(
    store: Store, automation: Automation
) -> None:
    made = Made(store)
    begin = {"kind": "sequence", "sequence": made.sequence}
    automation.rule("lead", {"kind": "record_created"}, begin, TOLD)
    with store.transaction() as transaction:
        agreed = make_lead(transaction, email="a@x.example", consent="granted").id
        make_lead(transaction, email="b@x.example")
    runs = automation.run(times=2)
    assert [run.outcome for run in runs] == ["done", "done"]
    assert [run.did[0]["run"] is None for run in runs] == [False, True]
    assert run_of(store).record_id == agreed


def test_a_rule_names_a_sequence_that_there_is_for_such_records(store: Store, automation: Automation) -> None:
    made = Made(store)
    with pytest.raises(InvalidValueError, match="a sequence for a contact"):
        automation.save(
            "contact", {"kind": "record_created"}, {"kind": "sequence", "sequence": made.sequence}
        )
