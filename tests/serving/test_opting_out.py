"""Re-scoring follows the wish not to be scored, whoever wrote it down."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crm_core.changes import Source
from crm_core.merging import merge_records
from crm_core.opting_out import set_scoring_opt_out
from crm_core.records import Contact, Deal, Lead
from crm_core.store import Store
from serving.champions import Champions
from serving.rescoring import Rescorer
from tests.factories import make_activity, make_contact, make_deal, make_lead
from tests.serving.hand_made import HandMadeModel


@pytest.fixture
def rescorer(store: Store, champions: Champions, promote: Callable[..., HandMadeModel]) -> Rescorer:
    promote()
    promote("win_probability")
    return Rescorer(store, champions)


def run(rescorer: Rescorer) -> None:
    while rescorer.run_once():
        pass
    rescorer.run_once()


def scores(store: Store, model: type[Lead | Deal], record_id: int) -> tuple[int | None, object]:
    with store.reading() as session:
        record = session.get_one(model, record_id)
        assert isinstance(record, Lead | Deal)
        return record.score, record.reasons


def test_a_wish_that_an_import_wrote_takes_the_score_away(store: Store, rescorer: Rescorer) -> None:
    with store.transaction() as transaction:
        lead = make_lead(transaction).id
    run(rescorer)
    assert scores(store, Lead, lead)[0] == 50
    with store.transaction(source=Source.IMPORT) as transaction:
        transaction.update(transaction.get(Lead, lead), {"scoring_opt_out": True})
    run(rescorer)
    assert scores(store, Lead, lead) == (None, None)


def test_a_deal_that_comes_to_somebody_who_opted_out_loses_its_score(
    store: Store, rescorer: Rescorer
) -> None:
    with store.transaction() as transaction:
        contact = make_contact(transaction)
        set_scoring_opt_out(transaction, contact, opted_out=True)
        deal = make_deal(transaction).id
    run(rescorer)
    assert scores(store, Deal, deal)[0] == 50
    with store.transaction() as transaction:
        transaction.update(transaction.get(Deal, deal), {"contact_id": contact.id})
    run(rescorer)
    assert scores(store, Deal, deal) == (None, None)


def test_a_merge_takes_the_wish_and_the_score_at_once(store: Store, rescorer: Rescorer) -> None:
    with store.transaction() as transaction:
        keep, gone = make_contact(transaction).id, make_contact(transaction).id
        deal = make_deal(transaction, contact_id=keep).id
        set_scoring_opt_out(transaction, transaction.get(Contact, gone), opted_out=True)
    run(rescorer)
    assert scores(store, Deal, deal)[0] == 50
    with store.transaction() as transaction:
        merge_records(transaction, transaction.get(Contact, keep), transaction.get(Contact, gone))
    assert scores(store, Deal, deal) == (None, None)


def test_the_model_is_not_even_asked(
    store: Store, rescorer: Rescorer, models: dict[str, HandMadeModel]
) -> None:
    with store.transaction() as transaction:
        silent, other = make_lead(transaction), make_lead(transaction)
        set_scoring_opt_out(transaction, silent, opted_out=True)
    run(rescorer)
    with store.transaction() as transaction:
        for lead in (silent, other):
            make_activity(transaction, lead_id=lead.id)
    run(rescorer)
    asked = {each for ids, _ in models["lead_scoring-1"].asked for each in ids}
    assert asked == {other.id}
    assert scores(store, Lead, silent.id) == (None, None)
