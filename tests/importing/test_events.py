"""What happens to records, told by another table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crm_core.clock import FixedClock, micros
from crm_core.fields import Known, known_at
from crm_core.history import state_as_of
from crm_core.leads import disqualify_lead
from crm_core.records import Deal, Lead
from tests.importing.conftest import LEADS, Workbench, counts

MAY_FIRST = datetime(2024, 5, 1, tzinfo=UTC)
MAY_NINTH = datetime(2024, 5, 9, 15, 30, tzinfo=UTC)

CONVERSIONS = (
    LEADS
    + """
[files.won]
path = "won.csv"

[[records]]
name = "accounts"
record = "account"
file = "won"
external_id = "account"
occurred_at = "at"
if_known = "keep"

[records.fields]
name = "account"

[[events]]
name = "conversions"
event = "convert"
record = "lead"
file = "won"
external_id = "lead"
occurred_at = "at"
known = "outcome"

[events.fields]
account_id = { external_id = "account" }

[events.custom.segment]
column = "segment"
kind = "text"
"""
)


def write_leads(bench: Workbench) -> None:
    rows = "L1,Hill,fair,2024-05-01\nL2,Dale,web,2024-05-02\n"
    bench.write("leads.csv", "id,company,source,created\n" + rows)


def write_won(bench: Workbench, *rows: str) -> None:
    bench.write("won.csv", "\n".join(["lead,account,at,segment", *rows, ""]))


def test_a_conversion_is_written_at_the_time_it_happened(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-05-09 15:30,pets")
    assert counts(bench.run(CONVERSIONS), "conversions") == {"written": 1}
    lead, other = bench.records("lead")
    assert (lead.status, lead.converted_at, lead.account_id) == ("converted", MAY_NINTH, 1)
    assert lead.custom == {"segment": "pets"}
    assert (other.status, other.converted_at, other.custom) == ("open", None, None)


def test_what_only_winners_have_is_not_there_before_they_won(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-05-09 15:30,pets")
    bench.run(CONVERSIONS)
    with bench.store.reading() as session:
        before = state_as_of(session, Lead, 1, datetime(2024, 5, 9, 15, 29, tzinfo=UTC))
        after = state_as_of(session, Lead, 1, MAY_NINTH)
        assert known_at(session, "lead", "custom.segment") is Known.OUTCOME
    assert before is not None
    assert after is not None
    told = ("status", "converted_at", "account_id", "custom.segment")
    assert [before[name] for name in told] == ["open", None, None, None]
    assert [after[name] for name in told] == ["converted", micros(MAY_NINTH), 1, "pets"]


def test_a_conversion_twice_is_written_once(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-05-09 15:30,pets")
    bench.run(CONVERSIONS)
    before = bench.count_changes()
    report = bench.run(CONVERSIONS)
    assert counts(report, "conversions") == {"unchanged": 1}
    assert counts(report, "leads") == {"unchanged": 2}
    assert bench.count_changes() == before


def test_a_corrected_conversion_is_an_update_that_is_learned_now(bench: Workbench, clock: FixedClock) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-05-09 15:30,pets")
    bench.run(CONVERSIONS)
    write_won(bench, "L1,A1,2024-05-07,food")
    assert counts(bench.run(CONVERSIONS), "conversions") == {"updated": 1}
    (lead, _) = bench.records("lead")
    assert lead.converted_at == datetime(2024, 5, 7, tzinfo=UTC)
    assert lead.custom == {"segment": "food"}
    assert [change.occurred_at for change in bench.updates("converted_at")] == [MAY_NINTH, clock.now()]
    assert len(bench.updates("status")) == 1
    assert counts(bench.run(CONVERSIONS), "conversions") == {"unchanged": 1}


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        ("L9,A1,2024-05-09,pets", "lead", "L9", "no lead has this external id"),
        (
            "L1,A1,2024-04-30,pets",
            "at",
            "2024-04-30T00:00:00+00:00",
            "expected nothing before its lead began",
        ),
        ("L1,A1,2026-03-03,pets", "at", "2026-03-03T00:00:00+00:00", "expected an instant up to now"),
    ],
)
def test_an_event_that_cannot_have_happened_is_refused(
    bench: Workbench, row: str, column: str, value: str, reason: str
) -> None:
    write_leads(bench)
    write_won(bench, row)
    report = bench.run(CONVERSIONS)
    assert counts(report, "conversions") == {"refused": 1}
    refusal = report.refusals[-1]
    assert (refusal.line, refusal.column, refusal.value) == (2, column, value)
    assert refusal.reason.startswith(reason)
    assert {lead.status for lead in bench.records("lead")} == {"open"}


def test_the_second_of_two_conversions_of_one_lead_is_refused(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-05-09,pets", "L1,A2,2024-05-10,pets")
    report = bench.run(CONVERSIONS)
    assert counts(report, "conversions") == {"written": 1, "refused": 1}
    assert report.refusals[0].reason == "line 2 has the same external id"


def test_an_event_before_the_start_can_be_kept_with_a_note(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench, "L1,A1,2024-04-30,pets")
    keep = CONVERSIONS.replace('event = "convert"', 'event = "convert"\nif_before_start = "keep"')
    report = bench.run(keep)
    assert counts(report, "conversions") == {"written": 1}
    assert report.steps[-1].notes == {"before the record began, kept as the file says": 1}
    (change,) = bench.updates("status")
    assert (change.occurred_at, change.recorded_at) == (datetime(2024, 4, 30, tzinfo=UTC), MAY_FIRST)
    assert counts(bench.run(keep), "conversions") == {"unchanged": 1}


def test_a_lead_that_was_disqualified_here_is_not_converted_by_a_file(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench)
    bench.run(CONVERSIONS)
    with bench.store.transaction() as transaction:
        disqualify_lead(transaction, transaction.get(Lead, 1), reason="no budget")
    write_won(bench, "L1,A1,2024-05-09,pets")
    report = bench.run(CONVERSIONS)
    assert counts(report, "conversions") == {"refused": 1}
    assert report.refusals[0].reason == "expected an open lead"
    assert report.refusals[0].value == "disqualified"


def test_an_event_of_a_deleted_record_is_left_out(bench: Workbench) -> None:
    write_leads(bench)
    write_won(bench)
    bench.run(CONVERSIONS)
    with bench.store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, 1))
    write_won(bench, "L1,A1,2024-05-09,pets")
    assert counts(bench.run(CONVERSIONS), "conversions") == {"deleted, merged or erased in the store": 1}


DISQUALIFIED = (
    LEADS
    + """
[files.lost]
path = "lost.csv"

[[events]]
name = "lost"
event = "disqualify"
record = "lead"
file = "lost"
external_id = "lead"
occurred_at = "at"

[events.fields]
disqualified_reason = "why"
"""
)


def test_leads_are_disqualified_with_their_reason(bench: Workbench) -> None:
    write_leads(bench)
    bench.write("lost.csv", "lead,at,why\nL2,2024-05-09 15:30,no budget\n")
    assert counts(bench.run(DISQUALIFIED), "lost") == {"written": 1}
    assert counts(bench.run(DISQUALIFIED), "lost") == {"unchanged": 1}
    lead = bench.records("lead")[1]
    assert (lead.status, lead.disqualified_reason) == ("disqualified", "no budget")


DEALS = """
name = "test"
recorded_at = "as_occurred"

[files.deals]
path = "deals.csv"

[files.stages]
path = "stages.csv"

[[records]]
name = "deals"
record = "deal"
file = "deals"
external_id = "id"
occurred_at = "created"

[records.fields]
name = "id"
stage = { constant = "first_contact" }
amount = { column = "amount", known = "creation" }

[[events]]
name = "moves"
event = "update"
record = "deal"
file = "stages"
external_id = "deal"
occurred_at = "at"

[events.fields]
stage = { column = "stage", values = { "1" = "needs", "2" = "proposal", "3" = "paid" } }

[[events]]
name = "closings"
event = "close"
record = "deal"
file = "deals"
external_id = "id"
occurred_at = "closed"
won = { column = "outcome", values = { W = true, L = false } }

[events.fields]
lost_reason = "why"

[[events.leave_out]]
reason = "still open"
column = "closed"
empty = true
"""


def write_deals(bench: Workbench) -> None:
    bench.write(
        "deals.csv",
        "id,created,amount,closed,outcome,why\n"
        "D1,2024-05-01,10,2024-06-01,W,\n"
        "D2,2024-05-01,20,2024-06-02,L,price\n"
        "D3,2024-05-01,30,,,\n"
        "D4,2024-05-01,40,2024-06-02,X,\n",
    )
    bench.write(
        "stages.csv",
        "deal,at,stage\nD1,2024-05-02,1\nD1,2024-05-09,2\nD1,2024-07-01,3\nD3,2024-05-02,1\nD3,2024-05-02,2\nD3,2024-05-02,9\n",
    )


def test_deals_are_closed_and_moved_as_their_tables_tell(bench: Workbench) -> None:
    write_deals(bench)
    report = bench.run(DEALS)
    assert counts(report, "moves") == {"written": 5, "refused": 1}
    assert counts(report, "closings") == {"written": 2, "still open": 1, "refused": 1}
    won, lost, still_open, refused = bench.records("deal")
    june = datetime(2024, 6, 1, tzinfo=UTC)
    assert (won.status, won.closed_at, won.stage, won.lost_reason) == ("won", june, "paid", None)
    assert (lost.status, lost.stage, lost.lost_reason) == ("lost", "first_contact", "price")
    assert (still_open.status, still_open.closed_at, still_open.stage) == ("open", None, "proposal")
    assert refused.status == "open"
    assert [(each.column, each.value, each.reason) for each in report.refusals] == [
        ("stage", "9", "expected one of 1, 2, 3"),
        ("outcome", "X", "expected one of L, W"),
    ]


def test_the_stage_at_every_instant_is_what_the_table_of_moves_says(bench: Workbench) -> None:
    write_deals(bench)
    bench.run(DEALS)
    days = {1: "first_contact", 3: "needs", 10: "proposal"}
    with bench.store.reading() as session:
        for day, stage in days.items():
            state = state_as_of(session, Deal, 1, datetime(2024, 5, day, tzinfo=UTC))
            assert state is not None
            assert state["stage"] == stage
        closed = state_as_of(session, Deal, 1, datetime(2024, 6, 2, tzinfo=UTC))
    assert closed is not None
    assert (closed["stage"], closed["status"]) == ("contract", "won")


def test_moves_and_closings_twice_change_nothing(bench: Workbench) -> None:
    write_deals(bench)
    bench.run(DEALS)
    before, deals = bench.count_changes(), [vars(deal) for deal in bench.records("deal")]
    report = bench.run(DEALS)
    assert counts(report, "deals") == {"unchanged": 4}
    assert counts(report, "moves") == {"unchanged": 5, "refused": 1}
    assert counts(report, "closings") == {"unchanged": 2, "still open": 1, "refused": 1}
    assert bench.count_changes() == before
    again = [vars(deal) for deal in bench.records("deal")]
    assert [each["version"] for each in again] == [each["version"] for each in deals]


def test_a_deal_that_moves_back_to_a_stage_it_had_is_moved_by_the_next_extract(bench: Workbench) -> None:
    write_deals(bench)
    bench.run(DEALS)
    bench.write("stages.csv", "deal,at,stage\nD3,2024-05-02,1\nD3,2024-05-02,2\nD3,2024-08-01,1\n")
    assert counts(bench.run(DEALS), "moves") == {"written": 1, "unchanged": 2}
    assert bench.records("deal")[2].stage == "needs"


def test_a_stage_that_a_rep_moved_since_is_not_moved_back(bench: Workbench) -> None:
    write_deals(bench)
    bench.run(DEALS)
    with bench.store.transaction() as transaction:
        transaction.update(transaction.get(Deal, 3), {"stage": "negotiation"})
    assert counts(bench.run(DEALS), "moves") == {"unchanged": 5, "refused": 1}
    assert bench.records("deal")[2].stage == "negotiation"


def test_a_deal_that_closes_between_two_extracts_is_closed_by_the_second(bench: Workbench) -> None:
    write_deals(bench)
    bench.run(DEALS)
    rows = "id,created,amount,closed,outcome,why\nD3,2024-05-01,35,2024-08-01,W,\n"
    bench.write("deals.csv", rows)
    report = bench.run(DEALS)
    assert counts(report, "deals") == {"updated": 1}
    assert counts(report, "closings") == {"written": 1}
    deal = bench.records("deal")[2]
    assert (deal.status, deal.amount, deal.stage) == ("won", 35, "contract")
