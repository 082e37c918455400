"""What people wrote about somebody in notes on alerts is handed out and erased with the person."""

from __future__ import annotations

from sqlalchemy import select

from crm_core.access import Reader
from crm_core.alerts import AlertAction
from crm_core.personal import erase_person, export_person
from crm_core.records import User
from crm_core.store import Store
from tests.alerts.world import act
from tests.factories import make_contact, make_user


def test_notes_on_alerts_are_handed_out_and_erased_with_the_person(
    store: Store, people: dict[str, User], customer: int, alert: int
) -> None:
    note = "Spoke to Li Wei (li.wei@example.com) about the pumps"
    act(store, people["Ana"], "acknowledge", alert, note=note)
    with store.transaction() as transaction:
        contact = make_contact(transaction, account_id=customer).id
        admin = make_user(transaction, "Adam", role="admin")
        told = export_person(Reader(transaction.session, admin), record=("contact", contact))
        mentions = [each for each in told["mentions"] if each["record_type"] == "alert"]
        assert mentions == [{"record_type": "alert", "id": alert, "field": "note", "text": note}]
        erased = erase_person(transaction, record=("contact", contact))
    assert erased.scrubbed == 1
    with store.reading() as session:
        (left,) = session.scalars(select(AlertAction.note).where(AlertAction.note.is_not(None)))
    assert left is not None
    assert "Li Wei" not in left
    assert "li.wei" not in left
    assert "about the pumps" in left
