"""Exports of other systems are recognised by their columns and come in without silent loss."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crm_core.errors import MappingError, SourceFileError
from crm_core.fields import known_at
from crm_core.history import state_as_of
from crm_core.importing import ImportReport, recognise_export, run_import
from crm_core.records import Account, Deal
from tests.importing.conftest import Workbench, counts

REAL = (
    Path(os.environ.get("CRM_REAL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "salesforce_export"
)


def run(bench: Workbench) -> ImportReport:
    return run_import(bench.store, recognise_export(bench.folder), bench.folder)


def run_twice(bench: Workbench) -> ImportReport:
    """Import, and again: nothing changes."""
    first = run(bench)
    before = bench.count_changes()
    again = run(bench)
    assert bench.count_changes() == before
    assert [(step.written, step.updated) for step in again.steps] == [(0, 0)] * len(again.steps)
    return first


def write_salesforce(bench: Workbench) -> None:
    bench.write(
        "Account.csv",
        """
        Id,Name,BillingCountry,ParentId,OwnerId,CreatedDate,Rating,PhotoUrl
        001A,Hill,Germany,001B,005A,2023-01-02T10:00:00.000Z,Hot,/x
        001B,Dale,Germany,,005Z,2023-01-02T10:00:00.000Z,,/y
        """,
    )
    bench.write(
        "opps.csv",
        """
        Opportunity ID,Opportunity Name,Stage,Close Date,Account ID,Created Date,Amount,Probability (%),Next
        006A,Pumps,Closed Won,4/15/2023,001A,2023-02-01,"$22,700.00",100,sign
        006B,Valves,Negotiation/Review,12/31/2023,001A,2023-02-01,,60%,
        006C,Seals,Needs Analysis,12/31/2023,001A,2023-02-01,,20%,
        """,
    )
    bench.write(
        "OpportunityHistory.csv",
        """
        Id,OpportunityId,StageName,CreatedDate
        008A,006A,Prospecting,2023-02-01T00:00:00Z
        008B,006A,Needs Analysis,2023-02-10T00:00:00Z
        008C,006A,Closed Won,2023-04-15T00:00:00Z
        """,
    )
    bench.write(
        "OpportunityFieldHistory.csv",
        """
        Id,OpportunityId,Field,OldValue,NewValue,CreatedDate
        017A,006B,StageName,Prospecting,Negotiation/Review,2023-03-01T00:00:00Z
        017B,006C,Amount,1,2,2023-03-02T00:00:00Z
        """,
    )


def test_salesforce_is_recognised_by_api_names_and_report_headers(bench: Workbench) -> None:
    write_salesforce(bench)
    report = run_twice(bench)
    assert report.mapping == "salesforce"
    assert report.refused == 0, report.in_words()
    pumps, valves, _ = bench.records("deal")
    assert (str(pumps.amount), pumps.status, pumps.rep_probability) == ("22700", "won", 1.0)
    assert pumps.closed_at == datetime(2023, 4, 15, 23, 59, 59, 999999, tzinfo=UTC)
    assert pumps.custom == {"salesforce_stage": "Closed Won", "salesforce_next": "sign"}
    assert (valves.status, valves.stage) == ("open", "negotiation")
    hill, dale = bench.records("account")
    assert (hill.parent_id, hill.custom["salesforce_rating"]) == (dale.id, "Hot")
    assert pumps.account_id == hill.id


def test_salesforce_stage_history_is_told_as_it_was(bench: Workbench) -> None:
    write_salesforce(bench)
    report = run(bench)
    pumps, valves, seals = bench.records("deal")
    with bench.store.reading() as session:
        states = [
            state_as_of(session, Deal, deal.id, datetime(2023, month, 20, tzinfo=UTC))
            for deal, month in [(pumps, 2), (pumps, 4), (valves, 2), (valves, 3), (seals, 2)]
        ]
    # The seals' history tells of no other stage, so they began in the one they have.
    expected = ["needs", "contract", "first_contact", "negotiation", "needs"]
    assert [state["stage"] for state in states if state] == expected
    assert counts(report, "field history") == {"written": 1, "the history of another field than the stage": 1}


def test_what_leads_nowhere_and_what_is_not_kept_is_named(bench: Workbench) -> None:
    write_salesforce(bench)
    bench.write("strange.csv", "a,b\n1,2\n")
    report = run(bench)
    words = "\n".join(report.in_words())
    assert "2 with a owner_id that leads to no user, left empty" in words
    assert "Account.csv: columns not used: PhotoUrl" in words
    assert "strange.csv: not recognised, not imported" in words
    assert bench.records("account")[1].custom["salesforce_owner"] == "005Z"
    with bench.store.reading() as session:
        assert known_at(session, "account", "custom.salesforce_rating") == "unknown"


def test_a_cycle_of_parents_is_refused_by_name_and_the_rest_stands(bench: Workbench) -> None:
    bench.write(
        "Account.csv",
        """
        Id,Name,BillingCountry,ParentId,CreatedDate
        001A,Hill,,001B,2023-01-02
        001B,Dale,,001C,2023-01-02
        001C,Glen,,001A,2023-01-02
        001D,Moor,,001D,2023-01-02
        001E,Fell,,001A,2023-01-02
        """,
    )
    report = run_twice(bench)
    assert counts(report, "parents") == {"written": 3, "refused": 2}
    assert [refusal.value for refusal in report.refusals] == ["001C", "001D"]
    assert report.refusals[0].reason == "would put the account above itself: a cycle"
    with bench.store.reading() as session:
        parents = {each.id: each.parent_id for each in session.query(Account)}
    assert list(parents.values()) == [2, 3, None, None, 1]


def test_a_duplicate_id_is_refused_with_the_line_of_the_first(bench: Workbench) -> None:
    bench.write("Account.csv", "Id,Name,BillingCountry,CreatedDate\n1,A,,2023-01-02\n1,B,,2023-01-02\n")
    report = run_twice(bench)
    assert (
        report.refusals[0].in_words() == "Account.csv, line 3: Id: line 2 has the same external id, got '1'"
    )


@pytest.mark.parametrize("damage", ["cut off", "no text"])
def test_a_damaged_file_stops_the_import_before_anything_is_written(bench: Workbench, damage: str) -> None:
    write_salesforce(bench)
    path = bench.folder / "OpportunityHistory.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] if damage == "cut off" else whole + b"\x00\x81\xff\xfe\x00\x81\xff\n")
    with pytest.raises(SourceFileError, match=r"OpportunityHistory.csv"):
        run(bench)
    assert bench.count_changes() == 0


def test_an_export_in_gb18030_with_semicolons_is_read_and_said_so(bench: Workbench) -> None:
    header = "Id;Name;BillingCountry;CreatedDate;客户等级\n"
    text = header + "1;北京水泵;中国;2023-01-02;重要客户\n"
    bench.write("Account.csv", text.encode("gb18030"))
    report = run_twice(bench)
    assert report.encodings == {"Account.csv": "gb18030"}
    (account,) = bench.records("account")
    assert account.name == "北京水泵"
    assert list(account.custom.values()) == ["重要客户"]


def test_hubspot_with_property_history(bench: Workbench) -> None:
    bench.write("companies.csv", "Record ID,Company name,Create Date,City\n11,Hill,2023-01-02 10:00,Ulm\n")
    bench.write(
        "contacts.csv",
        "Record ID,First Name,Last Name,Email,Create Date,Associated Company IDs\n"
        "21,Li,Wei,l@x.cn,2023-01-02 10:00,11\n",
    )
    bench.write(
        "deals.csv",
        """
        Record ID,Deal Name,Deal Stage,Amount,Close Date,Create Date,Associated Company IDs,Deal owner
        31,Pumps,Closed Lost,1200.5,2023-04-01 09:00,2023-02-01 08:00,11,Ana Roth
        32,Valves,Contract Sent,,2030-04-01 09:00,2023-02-01 08:00,11;12,Ana Roth
        """,
    )
    bench.write(
        "history.csv",
        """
        Record ID,Property,Value,Timestamp
        31,dealstage,qualifiedtobuy,1676000000000
        31,amount,1200.5,1676000000000
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("hubspot", 0)
    pumps, valves = bench.records("deal")
    assert (pumps.status, pumps.stage, pumps.custom["hubspot_deal_owner"]) == ("lost", "needs", "Ana Roth")
    assert (valves.status, valves.stage, valves.account_id) == ("open", "negotiation", None)
    (contact,) = bench.records("contact")
    assert (contact.name, contact.account_id) == ("Li Wei", bench.records("account")[0].id)
    assert counts(report, "stages") == {"written": 1, "the history of another property than the stage": 1}


def test_zoho(bench: Workbench) -> None:
    bench.write(
        "Accounts.csv",
        "Record Id,Account Name,Account Owner,Created Time\nzcrm_1,Hill,Ana,2023-01-02 10:00:00\n",
    )
    bench.write(
        "Leads.csv",
        "Record Id,Last Name,Company,Lead Owner,Created Time\nzcrm_5,Wei,Hill,Ana,2023-01-02 10:00:00\n",
    )
    bench.write(
        "Deals.csv",
        """
        Record Id,Deal Name,Stage,Amount,Closing Date,Account Name.id,Created Time,Modified Time
        zcrm_2,Pumps,Closed Won,"1,200.50",2023-04-01,zcrm_1,2023-02-01 08:00:00,2023-04-01 12:00:00
        """,
    )
    bench.write(
        "Stage_History.csv", "Deal Id,Stage,Modified Time\nzcrm_2,Needs Analysis,2023-03-01 08:00:00\n"
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("zoho", 0)
    (deal,) = bench.records("deal")
    assert (deal.status, deal.closed_at) == ("won", datetime(2023, 4, 1, 12, tzinfo=UTC))
    assert (deal.account_id, len(bench.records("lead"))) == (bench.records("account")[0].id, 1)


def test_dynamics(bench: Workbench) -> None:
    bench.write("accounts.csv", "(Do Not Modify) Account,Account Name,Created On\na1,Hill,1/2/2023 3:04 PM\n")
    bench.write(
        "opportunities.csv",
        """
        opportunityid,name,estimatedclosedate,estimatedvalue,statecode,actualclosedate,createdon,_parentaccountid_value
        o1,Pumps,2023-04-01,1200.5,Lost,2023-04-02,2023-02-01T08:00:00Z,a1
        o2,Valves,2023-04-01,1200.5,Open,,2023-02-01T08:00:00Z,a1
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("dynamics", 0)
    assert [deal.status for deal in bench.records("deal")] == ["lost", "open"]
    assert bench.records("account")[0].occurred_at == datetime(2023, 1, 2, 15, 4, tzinfo=UTC)


def test_pipedrive(bench: Workbench) -> None:
    bench.write(
        "org.csv",
        "Organization - ID,Organization - Name,Organization - Organization created\n"
        "1,Hill,2023-01-02 10:00:00\n",
    )
    bench.write(
        "deals.csv",
        """
        Deal - ID,Deal - Title,Deal - Status,Deal - Created,Deal - Won time,Organization - ID,Deal - Owner
        7,Pumps,Won,2023-02-01 08:00:00,2023-04-02 09:00:00,1,Ana
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("pipedrive", 0)
    (deal,) = bench.records("deal")
    assert (deal.status, deal.custom["pipedrive_deal_owner"]) == ("won", "Ana")
    assert deal.account_id == bench.records("account")[0].id


def test_a_folder_of_something_else_is_refused_with_what_was_found(bench: Workbench) -> None:
    bench.write("strange.csv", "a,b\n1,2\n")
    with pytest.raises(MappingError, match=r"no export that is known .*strange.csv: a, b; write a mapping"):
        recognise_export(bench.folder)


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the Salesforce export is not beside the checkout (CRM_REAL_DATA)"
)
def test_the_salesforce_export_comes_in_whole_or_says_what_not(bench: Workbench) -> None:
    first = run_import(bench.store, recognise_export(REAL), REAL)
    changes = bench.count_changes()
    again = run_import(bench.store, recognise_export(REAL), REAL)
    assert bench.count_changes() == changes
    assert [(step.written, step.updated) for step in again.steps] == [(0, 0)] * len(again.steps)

    written = {step.step: step.written for step in first.steps if step.event is None}
    assert written == {"users": 122, "accounts": 1680, "contacts": 2000, "tasks": 2000, "events": 2000}
    (refusal,) = first.refusals
    assert refusal.reason == "another user has this email already"
    notes = {step.step: dict(step.notes) for step in first.steps if step.notes}
    assert notes["events"] == {"with a deal_id that leads to no deal, left empty": 2000}
    assert sum(notes["tasks"].values()) == 2000
    told = {activity.custom.get("salesforce_what") for activity in bench.records("activity")}
    assert len(told - {None}) > 2900, "where a link leads nowhere, the id it holds is kept"


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the Salesforce export is not beside the checkout (CRM_REAL_DATA)"
)
@pytest.mark.parametrize("name", ["Account.csv", "Contact.csv", "Event.csv", "Task.csv", "User.csv"])
@pytest.mark.parametrize("damage", ["cut in the middle", "another encoding"])
def test_a_damaged_file_of_the_salesforce_export_stops_all_of_it(
    bench: Workbench, name: str, damage: str
) -> None:
    for path in REAL.glob("*.csv"):
        bench.write(path.name, path.read_bytes())
    whole = (REAL / name).read_bytes()
    half = len(whole) // 2
    cut = whole[:half] if damage == "cut in the middle" else whole[:half] + b"\xff\x00\xfe" + whole[half:]
    bench.write(name, cut)
    with pytest.raises(SourceFileError, match=name):
        run(bench)
    assert bench.count_changes() == 0
