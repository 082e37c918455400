"""Payments, campaigns, quotes and targets of tickets: besides the company, and telling of what was."""

from __future__ import annotations

import numpy as np
import pytest

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from models.simulation.company import Company, imagine_company
from models.simulation.table import Table
from tests.simulation.conftest import END


@pytest.fixture(scope="module")
def company() -> Company:
    """A small company with all of it, in memory."""
    return imagine_company(size="small", seed=7, end=END, dealings=True)


def given(table: Table, field: str) -> np.ndarray:
    """What a field was set to after creation; NO_INSTANT for never."""
    found = np.full(len(table), NO_INSTANT)
    for edits in table.edits:
        if edits.field == field:
            found[edits.record] = np.where(edits.recorded_at < END, edits.value, NO_INSTANT)
    return found


def test_the_rest_of_the_company_is_what_it_is_without(company: Company) -> None:
    plain = imagine_company(size="small", seed=7, end=END)

    for record_type, table in plain.tables.items():
        other = company.tables[record_type]
        for name, values in table.columns.items():
            assert np.array_equal(values.astype(str), other.columns[name].astype(str)), (record_type, name)
        kept = [edits for edits in other.edits if edits.field != "solve_breached_at"]
        for one, same in zip(table.edits, kept, strict=True):
            assert np.array_equal(one.recorded_at, same.recorded_at), (record_type, one.field)
    assert {"payment", "quote", "campaign", "campaign_member"} == set(company.tables) - set(plain.tables)


def test_customers_pay_the_later_the_worse_they_are(company: Company) -> None:
    payments = company.tables["payment"]
    due, paid = payments.columns["due_on"] * DAY, given(payments, "paid_at")
    state, _ = company.contracts.course.state_at(payments.columns["contract_id"], due - 5 * DAY)
    over = due < END - 60 * DAY
    late = (paid == NO_INSTANT) | (paid > due + DAY)

    shares = [late[over & (state == health)].mean() for health in range(3)]

    assert shares[0] < 0.25 < shares[1] < 0.5 < shares[2] < 0.75


def test_nobody_is_charged_for_a_contract_that_is_over_or_unknown(company: Company) -> None:
    payments, terms = company.tables["payment"].columns, company.contracts.terms
    contract, charged = payments["contract_id"], payments["occurred_at"]

    assert (charged >= terms.learned_at[contract]).all()
    assert (charged < terms.ends_at[contract]).all()
    cancelled = company.contracts.cancelled_at[contract]
    assert ((cancelled == NO_INSTANT) | (charged < cancelled)).all()


def test_leads_that_are_interested_answer_campaigns_more_often(company: Company) -> None:
    members = company.tables["campaign_member"]
    answered = given(members, "responded_at") != NO_INSTANT
    at = members.columns["occurred_at"]
    state, _ = company.leads.course.state_at(members.columns["lead_id"], at)
    name = np.array(company.leads.course.chain.states)[state]

    assert set(name) <= {"new", "cold", "warm", "hot"}
    assert answered[name == "cold"].mean() < 0.08 < answered[name == "warm"].mean() < 0.3


def test_quotes_are_sent_while_a_deal_is_open_and_refused_more_often_when_it_is_stuck(
    company: Company,
) -> None:
    quotes, deals = company.tables["quote"], company.deals
    deal, sent = quotes.columns["deal_id"], quotes.columns["sent_at"]
    over = deals.course.first_arrival("won", "lost")[deal]
    first = next(edits for edits in quotes.edits if edits.field == "status")
    refused, at = first.record, first.occurred_at
    state, _ = deals.course.state_at(deal[refused], at)
    some_days_on = sent + 5 * DAY
    still = (over == NO_INSTANT) | (some_days_on < over)
    usual, _ = deals.course.state_at(deal[still], some_days_on[still])

    assert ((over == NO_INSTANT) | (sent < over)).all()
    assert set(first.value) == {"rejected"}
    assert (state % 2 == 1).mean() > 1.5 * (usual % 2 == 1).mean()


def test_a_ticket_that_takes_longer_than_its_target_is_noted_as_late(company: Company) -> None:
    tickets = company.tables["ticket"]
    due, missed, closed = (
        tickets.columns["solve_due_at"],
        given(tickets, "solve_breached_at") != NO_INSTANT,
        given(tickets, "closed_at"),
    )

    assert np.array_equal(missed, ((closed == NO_INSTANT) | (closed > due)) & (due < END))
    assert 0.1 < missed.mean() < 0.8
