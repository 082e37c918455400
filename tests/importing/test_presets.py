"""Exports of other systems are recognised by their columns and come in without silent loss."""

# ruff: noqa: E501, DTZ001  headers are as long as they are, and a sheet knows no zones

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path

import openpyxl
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


def test_salesforce_amounts_and_dates_are_told_as_they_were(bench: Workbench) -> None:
    bench.write(
        "Opportunity.csv",
        "Id,Name,StageName,CloseDate,Amount,CreatedDate,IsClosed,IsWon,IsDeleted\n"
        "006A,Pumps,Qualification,2023-09-30,900,2023-02-01T08:00:00.000Z,false,false,false\n",
    )
    bench.write(
        "OpportunityHistory.csv",
        """
        Id,OpportunityId,CreatedById,CreatedDate,StageName,Amount,ExpectedRevenue,CloseDate,Probability,ForecastCategory
        008A,006A,005A,2023-02-01T08:00:00.000Z,Prospecting,500,50,2023-06-30,10,Pipeline
        008B,006A,005A,2023-03-01T08:00:00.000Z,Qualification,500,50,2023-06-30,10,Pipeline
        008C,006A,005A,2023-04-01T08:00:00.000Z,Qualification,900,90,2023-09-30,10,Pipeline
        """,
    )
    report = run_twice(bench)
    assert report.refused == 0, report.in_words()
    with bench.store.reading() as session:
        told = [
            state_as_of(session, Deal, 1, datetime(2023, month, 15, tzinfo=UTC)) or {} for month in (2, 3, 4)
        ]
    assert [(state["stage"], state["amount"]) for state in told] == [
        ("first_contact", 5_000_000),
        ("first_contact", 5_000_000),
        ("first_contact", 9_000_000),
    ]


def test_hubspot_exports_with_associated_records_and_pipeline_names(bench: Workbench) -> None:
    bench.write(
        "hubspot-crm-exports-all-companies.csv",
        "Record ID,Company name,Company owner,Create Date,Company Domain Name,Country/Region\n"
        "11,Hill,Ana Roth,2023-01-02 10:00,hill.example,Germany\n",
    )
    bench.write(
        "hubspot-crm-exports-all-deals.csv",
        """
        Record ID,Deal Name,Deal Stage,Close Date,Deal owner,Amount,Pipeline,Create Date,Associated Company,Associated Company IDs,Associated Company IDs (Primary)
        31,Pumps,Closed Won (Sales Pipeline),2023-04-01 09:00,Ana Roth,"1,200.50",Sales Pipeline,2023-02-01 08:00,Hill;Dale,11;12,11
        32,Valves,Presentation Scheduled (Sales Pipeline),2030-04-01 09:00,Ana Roth,,Sales Pipeline,2023-02-01 08:00,Hill,11,
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("hubspot", 0), report.in_words()
    pumps, valves = bench.records("deal")
    hill = bench.records("account")[0]
    assert (pumps.status, pumps.account_id, str(pumps.amount)) == ("won", hill.id, "1200.5")
    assert (valves.stage, valves.account_id) == ("proposal", hill.id)


def test_zoho_exports_with_ids_beside_names_and_conversions(bench: Workbench) -> None:
    bench.write(
        "Accounts_2024.csv",
        "Record Id,Account Owner.id,Account Owner,Account Name,Created Time\n"
        "zcrm_1,zcrm_9,Ana,Hill,2023-01-02 10:00:00\n",
    )
    bench.write(
        "Deals_2024.csv",
        """
        Record Id,Deal Owner.id,Deal Owner,Amount,Deal Name,Closing Date,Account Name.id,Account Name,Stage,Created Time,Modified Time
        zcrm_2,zcrm_9,Ana,1200.5,Pumps,2023-04-01,zcrm_1,Hill,Closed Lost,2023-02-01 08:00:00,2023-04-01 12:00:00
        """,
    )
    bench.write(
        "Leads_2024.csv",
        """
        Record Id,Lead Owner.id,Lead Owner,Is Converted,Company,First Name,Last Name,Email,Created Time,Converted Date Time,Converted Account.id,Converted Deal.id
        zcrm_5,zcrm_9,Ana,true,Hill,Li,Wei,li@x.cn,2023-01-02 10:00:00,2023-02-01 08:00:00,zcrm_1,zcrm_2
        zcrm_6,zcrm_9,Ana,false,Dale,,Wang,,2023-01-02 10:00:00,,,
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("zoho", 0), report.in_words()
    won, still_open = bench.records("lead")
    assert (won.status, won.converted_at) == ("converted", datetime(2023, 2, 1, 8, tzinfo=UTC))
    assert won.deal_id == bench.records("deal")[0].id
    assert (still_open.name, still_open.status) == ("Wang", "open")


def test_zoho_leads_in_spanish(bench: Workbench) -> None:
    bench.write(
        "Posibles_clientes.csv",
        """
        ID de registro,Hora de creación,Nombre completo,Teléfono,Correo electrónico,Propietario de Posible Cliente,Ciudad
        zcrm_7,2023-01-02 10:00:00,Lucía Paz,+34 600 000 001,lucia@x.es,Ana,Lugo
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("zoho", 0)
    (lead,) = bench.records("lead")
    assert (lead.name, lead.email) == ("Lucía Paz", "lucia@x.es")
    assert lead.custom == {"zoho_lead_owner": "Ana", "zoho_ciudad": "Lugo"}


def test_dynamics_excel_exports_with_hidden_columns(bench: Workbench) -> None:
    def workbook(name: str, rows: list[list[object]]) -> None:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(bench.folder / name)

    changed = datetime(2023, 4, 2, 12)
    hidden = ["(Do Not Modify) Row Checksum", "(Do Not Modify) Modified On"]
    workbook(
        "Active Accounts.xlsx",
        [
            ["(Do Not Modify) Account", *hidden, "Account Name", "Main Phone", "Created On"],
            ["a1", "x==", changed, "Hill", "+49 30 1", datetime(2023, 1, 2)],
        ],
    )
    workbook(
        "All Opportunities.xlsx",
        [
            [
                "(Do Not Modify) Opportunity",
                *hidden,
                "Topic",
                "Potential Customer",
                "Est. close date",
                "Est. revenue",
                "Pipeline Phase",
                "Probability",
                "Status",
                "Actual Close Date",
                "Created On",
            ],
            [
                "o1",
                "y==",
                changed,
                "Pumps",
                "Hill",
                datetime(2023, 5, 1),
                1200.5,
                "Propose",
                60,
                "Open",
                None,
                datetime(2023, 2, 1),
            ],
        ],
    )
    bench.write(
        "My Leads.csv",
        "(Do Not Modify) Lead,(Do Not Modify) Row Checksum,(Do Not Modify) Modified On,Subject,First Name,"
        "Last Name,Job Title,Company Name,Email,Business Phone,Country,Lead Source\n"
        "l1,z==,4/2/2023 12:00 PM,Pumps,Li,Wei,CEO,Dale,li@x.cn,1,China,Web\n",
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("dynamics", 0), report.in_words()
    (deal,) = bench.records("deal")
    assert (deal.stage, deal.rep_probability, str(deal.amount)) == ("proposal", 0.6, "1200.5")
    assert (deal.account_id, deal.expected_close_on) == (bench.records("account")[0].id, date(2023, 5, 1))
    (lead,) = bench.records("lead")
    assert (lead.name, lead.region, lead.occurred_at) == ("Li Wei", "China", changed.replace(tzinfo=UTC))


def test_pipedrive_exports_that_name_organizations_instead_of_numbers(bench: Workbench) -> None:
    bench.write(
        "organizations.csv",
        """
        Organization - Name,Organization - Pipedrive System ID,Organization - Creation date
        Hill,1,2023-01-02 10:00:00
        Twice,2,2023-01-02 10:00:00
        Twice,3,2023-01-02 10:00:00
        """,
    )
    bench.write(
        "people.csv",
        """
        Person - Name,Person - Email (Work),Organization name,Person - Creation date,Person - Pipedrive System ID
        Li Wei,li@x.cn,Hill,2023-01-02 10:00:00,9
        """,
    )
    bench.write(
        "deals.csv",
        """
        Deal - Title,Deal - Value,Deal - Currency of value,Organization,Contact person,Deal - Stage (pipeline),Deal - Status,Deal - Closed on,Deal - Creation date,Deal - Pipedrive System ID
        Pumps,1200.5,EUR,Hill,Li Wei,Negotiations Started,Lost,2023-04-02 09:00:00,2023-02-01 08:00:00,7
        Valves,10,EUR,Twice,,Proposal Made,Open,,2023-02-01 08:00:00,8
        """,
    )
    report = run_twice(bench)
    assert (report.mapping, report.refused) == ("pipedrive", 0), report.in_words()
    pumps, valves = bench.records("deal")
    assert (pumps.status, pumps.currency, pumps.account_id) == ("lost", "EUR", bench.records("account")[0].id)
    assert pumps.contact_id == bench.records("contact")[0].id
    # Two organizations bear this name, so nobody can say which one is meant.
    assert (valves.account_id, valves.custom["pipedrive_organization"]) == (None, "Twice")
    assert bench.records("contact")[0].account_id == pumps.account_id


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
