"""Exchange with other systems: their records come in, our scores go out, however often it is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.changes import Change, Source
from crm_core.clock import FixedClock
from crm_core.connections import Told, read_mark
from crm_core.errors import ConnectorError, SettingsError
from crm_core.jobs import list_jobs
from crm_core.opting_out import set_scoring_opt_out
from crm_core.predictions import NewPrediction, write_predictions
from crm_core.records import Account, Deal, Lead
from crm_core.store import Store
from serving.connectors.connections import Connection, read_connections
from serving.connectors.exchanging import SYSTEMS, Exchanger, Report
from serving.connectors.scheduled import EXCHANGE, Exchanging, schedule_all
from serving.home import Home
from serving.jobs import JobRunner
from serving.networks import read_networks
from serving.outbound import OutboundClient
from serving.settings import Settings
from tests.factories import make_deal, make_lead
from tests.serving.stand_ins import (
    DynamicsStandIn,
    HubSpotStandIn,
    SalesforceStandIn,
    StandIn,
    ZohoStandIn,
    served,
)

TASKS = {"lead": "lead_scoring", "deal": "win_probability", "account": "churn"}
GUID = "00000000-0000-0000-0000-00000000000{}"


def salesforce() -> StandIn:
    common = {
        "CreatedDate": "2026-01-05T08:00:00.000+0000",
        "LastModifiedDate": "2026-02-01T08:00:00.000+0000",
    }

    def changed(day: int) -> dict[str, str]:
        return {**common, "SystemModstamp": f"2026-02-{day:02d}T08:00:00.000+0000"}

    return SalesforceStandIn(
        objects={
            "Account": {
                "001A": {**changed(1), "Id": "001A", "Name": "Hill & Sons", "BillingCountry": "China"}
            },
            "Lead": {
                f"00Q{n}": {**changed(2), "Id": f"00Q{n}", "LastName": f"王{n}", "Company": "方达"}
                for n in range(3)
            },
            "Opportunity": {
                "006A": {
                    **changed(3),
                    "Id": "006A",
                    "Name": "Pumps",
                    "StageName": "Proposal/Price Quote",
                    "AccountId": "001A",
                    "CloseDate": "2026-05-01",
                    "Amount": 12000.0,
                    "IsClosed": False,
                    "IsWon": False,
                }
            },
            "OpportunityHistory": {
                str(n): {
                    "OpportunityId": "006A",
                    "StageName": stage,
                    "CreatedDate": at,
                    "Amount": 12000.0,
                    "CloseDate": "2026-05-01",
                }
                for n, (stage, at) in enumerate(
                    [
                        ("Prospecting", "2026-01-05T08:00:00.000+0000"),
                        ("Needs Analysis", "2026-01-20T08:00:00.000+0000"),
                        ("Proposal/Price Quote", "2026-02-01T08:00:00.000+0000"),
                    ]
                )
            },
        }
    )


def hubspot() -> StandIn:
    def of(identifier: int, **properties: str) -> dict[str, Any]:
        at = f"2026-02-0{identifier % 9 + 1}T08:00:00.000Z"
        held = {"createdate": "2026-01-05T08:00:00.000Z", "hs_lastmodifieddate": at, "lastmodifieddate": at}
        return {"id": str(identifier), "properties": {**held, **properties}}

    deal = of(31, dealname="Pumps", dealstage="contractsent", amount="12000")
    versions = [("contractsent", "2026-02-01T08:00:00.000Z"), ("qualifiedtobuy", "2026-01-05T08:00:00.000Z")]
    deal["history"] = [{"value": value, "timestamp": at} for value, at in versions]
    return HubSpotStandIn(
        objects={
            "companies": {"11": of(11, name="Hill & Sons", country="China")},
            "contacts": {"21": of(21, email="li@example.com", lastname="Li", firstname="Wei")},
            "deals": {"31": deal},
        }
    )


def zoho() -> StandIn:
    def of(identifier: int, **fields: Any) -> dict[str, Any]:
        changed = f"2026-02-0{identifier % 9 + 1}T08:00:00+08:00"
        times = {"Created_Time": "2026-01-05T08:00:00+08:00", "Modified_Time": changed}
        return {"id": str(identifier), "Owner": {"id": "7", "name": "Ana"}, **times, **fields}

    deal = of(41, Deal_Name="Pumps", Stage="Needs Analysis", Amount=12000, Account_Name={"id": "11"})
    deal["history"] = [{"Stage": "Qualification", "Modified_Time": "2026-01-05T08:00:00+08:00"}]
    return ZohoStandIn(
        scheme="Zoho-oauthtoken",
        objects={
            "Accounts": {"11": of(11, Account_Name="Hill & Sons", Billing_Country="China")},
            "Leads": {
                str(n): of(n, Last_Name=f"王{n}", Company="方达", Email="w@example.com")
                for n in range(21, 26)
            },
            "Deals": {"41": deal},
        },
    )


def dynamics() -> StandIn:
    def of(kind: str, number: int, **fields: Any) -> dict[str, Any]:
        times = {"createdon": "2026-01-05T08:00:00Z", "modifiedon": f"2026-02-0{number}T08:00:00Z"}
        return {f"{kind}id": GUID.format(number), **times, **fields}

    leads = [of("lead", n, lastname=f"王{n}", fullname=f"王{n}", companyname="方达") for n in range(1, 6)]
    deal = of("opportunity", 7, name="Pumps", estimatedvalue=12000.0, stepname="2-Develop", statecode=0)
    account = of("account", 6, name="Hill & Sons", address1_country="China")
    return DynamicsStandIn(
        objects={
            "accounts": {account["accountid"]: account},
            "contacts": {},
            "leads": {lead["leadid"]: lead for lead in leads},
            "opportunities": {
                deal["opportunityid"]: {**deal, "_parentaccountid_value": account["accountid"]}
            },
        }
    )


MAKERS: dict[str, Callable[[], StandIn]] = {
    "salesforce": salesforce,
    "hubspot": hubspot,
    "zoho": zoho,
    "dynamics": dynamics,
}


@pytest.fixture(params=MAKERS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def other(system: str) -> Iterator[StandIn]:
    with served(MAKERS[system]()) as stand_in:
        yield stand_in


def connection(system: str, other: StandIn, **given: Any) -> Connection:
    if system == "hubspot":
        login: dict[str, Any] = {"token": other.token}
    else:
        login = {"client_id": "id", "client_secret": "secret", "token_url": f"{other.url}/oauth/token"}
    pace = {"requests_a_second": 100}
    return Connection(**{"name": system, "system": system, "url": other.url, **pace, **login, **given})


@pytest.fixture
def sender() -> OutboundClient:
    return OutboundClient(allow_http=True, own_networks=read_networks("127.0.0.0/8"))


@pytest.fixture
def exchange(
    home: Path, store: Store, system: str, other: StandIn, sender: OutboundClient
) -> Callable[..., Report]:
    place = Home.at(home)
    place.create()

    def run(*, pull: bool = True, push: bool = True, **given: Any) -> Report:
        wanted = connection(system, other, **given)
        return Exchanger(place, store, wanted, sender, wait=lambda _: None).run(pull=pull, push=push)

    return run


def score(
    store: Store, model: type[Lead | Deal | Account], *, probability: float, version: str = "v1"
) -> None:
    with store.transaction(source=Source.MODEL) as transaction:
        ids = list(transaction.session.scalars(select(model.id)))
        write_predictions(
            transaction,
            task=TASKS[model.record_type],
            record_type=model.record_type,
            as_of=transaction.now,
            model_version=version,
            horizon_days=90,
            predictions=[
                NewPrediction(
                    record_id=record_id,
                    probability=probability,
                    score=round(100 * probability),
                    grade="A",
                    reasons=[{"group": "calls", "log_odds": 0.3, "en": "3 calls", "zh": "3 次电话"}],
                )
                for record_id in ids
            ],
        )


def all_of(store: Store, model: type[Lead | Deal | Account]) -> list[Any]:
    with store.reading() as session:
        found = list(session.scalars(select(model).order_by(model.id)))
        session.expunge_all()
    return found


def told_of(other: StandIn, kind: str, name: str) -> list[Any]:
    """What the other system knows now, by a field of ours."""
    rows = other.objects[kind].values()
    return [row.get("properties", row).get(name) for row in rows]


SCORED = {
    "salesforce": ("Opportunity", "Crm_Score__c", 61),
    "hubspot": ("deals", "crm_score", "61"),
    "zoho": ("Deals", "Crm_Score", 61),
    "dynamics": ("msdyn_predictivescores", "msdyn_score", 61),
}
"""Where a deal's score is found afterwards."""


def test_records_come_in_as_their_export_would(
    exchange: Callable[..., Report], store: Store, other: StandIn, system: str
) -> None:
    report = exchange(push=False)

    assert (report.errors, report.not_taken, other.faults) == ([], 0, [])
    (account,) = all_of(store, Account)
    (deal,) = all_of(store, Deal)
    assert (account.name, account.region) == ("Hill & Sons", "China")
    assert (deal.name, deal.amount, deal.occurred_at) == (
        "Pumps",
        12_000,
        datetime(2026, 1, 5, 0 if system == "zoho" else 8, tzinfo=UTC),
    )
    assert deal.account_id == (None if system == "hubspot" else account.id)
    if system != "hubspot":  # whose people are contacts
        assert {lead.company for lead in all_of(store, Lead)} == {"方达"}
    assert not list(Path(store.url.removeprefix("sqlite:///")).parent.glob(".exchange-*"))


def test_a_deal_has_its_stages_when_it_had_them(
    exchange: Callable[..., Report], store: Store, system: str
) -> None:
    exchange(push=False)
    (deal,) = all_of(store, Deal)
    with store.reading() as session:
        query = select(Change.new, Change.occurred_at).where(
            Change.record_type == "deal", Change.field == "stage"
        )
        moved = [
            (stage, at.date().isoformat())
            for stage, at in session.execute(query.order_by(Change.occurred_at))
        ]

    expected = {
        "salesforce": [("needs", "2026-01-20"), ("proposal", "2026-02-01")],
        "hubspot": [("needs", "2026-01-05"), ("negotiation", "2026-02-01")],
        "zoho": [],
        "dynamics": [],
    }[system]
    stage = {"salesforce": "proposal", "hubspot": "negotiation", "zoho": "first_contact", "dynamics": "needs"}
    assert moved == expected
    assert deal.stage == stage[system]


def test_a_second_exchange_changes_nothing(
    exchange: Callable[..., Report], store: Store, other: StandIn
) -> None:
    exchange()
    score(store, Deal, probability=0.61)
    exchange()
    with store.reading() as session:
        before = session.scalars(select(Change.id)).all()
    again = exchange()

    assert again.errors == []
    assert again.told == {}
    with store.reading() as session:
        assert session.scalars(select(Change.id)).all() == before
    assert other.faults == []


def test_what_changed_there_since_comes_in(
    exchange: Callable[..., Report], store: Store, other: StandIn, system: str
) -> None:
    exchange(push=False)
    kind, field, changed = {
        "salesforce": ("Account", "Name", "SystemModstamp"),
        "hubspot": ("companies", "name", "hs_lastmodifieddate"),
        "zoho": ("Accounts", "Account_Name", "Modified_Time"),
        "dynamics": ("accounts", "name", "modifiedon"),
    }[system]
    (row,) = other.objects[kind].values()
    held = row.get("properties", row)
    held |= {field: "Hill & Daughters", changed: "2026-02-20T08:00:00.000+00:00"}
    report = exchange(push=False)

    assert report.taken_in["account"] == 1
    assert [account.name for account in all_of(store, Account)] == ["Hill & Daughters"]


def test_an_edit_made_here_stays_until_they_say_something_new(
    exchange: Callable[..., Report], store: Store
) -> None:
    exchange(push=False)
    with store.transaction() as transaction:
        transaction.update(transaction.get(Account, 1), {"industry": "pumps"})
    exchange(push=False, name="again")  # a connection that never ran reads everything again

    assert [account.industry for account in all_of(store, Account)] == ["pumps"]


def test_scores_go_out_once(
    exchange: Callable[..., Report], store: Store, other: StandIn, system: str, clock: FixedClock
) -> None:
    exchange(push=False)
    score(store, Deal, probability=0.61)
    first, second = exchange(pull=False), exchange(pull=False)
    kind, name, expected = SCORED[system]

    assert (first.errors, other.faults) == ([], [])
    assert (first.told, first.refused) == ({"deal": 1}, 0)
    assert told_of(other, kind, name) == [expected]
    assert second.told == {}

    clock.advance(timedelta(hours=1))
    score(store, Deal, probability=0.48)
    assert exchange(pull=False).told == {"deal": 1}
    assert [str(value) for value in told_of(other, kind, name)] == ["48"]


def test_a_score_that_was_taken_away_is_taken_away_there(
    exchange: Callable[..., Report], store: Store, other: StandIn, system: str
) -> None:
    exchange(push=False)
    score(store, Deal, probability=0.61)
    exchange(pull=False)
    with store.transaction() as transaction:
        account = transaction.get(Account, 1)
        deal = transaction.get(Deal, 1)
        if deal.account_id is None:
            transaction.update(deal, {"account_id": account.id})
        set_scoring_opt_out(transaction, account, opted_out=True)
    exchange(pull=False)

    kind, name, _ = SCORED[system]
    assert [value or None for value in told_of(other, kind, name)] == [None]
    assert exchange(pull=False).told == {}


def test_records_born_here_are_created_there_once_if_so_set(
    exchange: Callable[..., Report], store: Store, other: StandIn, system: str
) -> None:
    with store.transaction() as transaction:
        make_deal(transaction, name="Valves")
        make_lead(transaction)
    score(store, Deal, probability=0.61)
    score(store, Lead, probability=0.2)
    kind = {"salesforce": "Opportunity", "hubspot": "deals", "zoho": "Deals", "dynamics": "opportunities"}[
        system
    ]
    before = len(other.objects[kind])
    left = exchange(pull=False)
    made = exchange(pull=False, create=True)
    # It dies before it has written down what it did: the other side is told again.
    with store.transaction() as transaction:
        for told in transaction.session.scalars(select(Told)):
            transaction.session.delete(told)
        transaction.update(transaction.get(Deal, 1), {"external_id": None})
    again = exchange(pull=False, create=True)

    assert left.told == {}
    assert made.told["deal"] == again.told["deal"] == 1
    assert len(other.objects[kind]) == before + 1
    assert all_of(store, Deal)[0].external_id is not None
    assert other.faults == []


def test_one_that_is_refused_holds_up_no_other_and_is_tried_again_later(
    home: Path, store: Store, sender: OutboundClient, clock: FixedClock
) -> None:
    with served(salesforce()) as other:
        place = Home.at(home)
        place.create()
        exchanger = Exchanger(place, store, connection("salesforce", other), sender, wait=lambda _: None)
        exchanger.run(push=False)
        score(store, Lead, probability=0.3)
        other.refuse["00Q1"] = "locked by a rule"
        first, second = exchanger.run(pull=False), exchanger.run(pull=False)
        clock.advance(timedelta(minutes=2))
        other.refuse.clear()
        third = exchanger.run(pull=False)

    assert (first.told, first.refused) == ({"lead": 2}, 1)
    assert (second.told, second.refused) == ({}, 0)
    assert (third.told, third.refused) == ({"lead": 1}, 0)


def test_a_token_that_ran_out_is_renewed_and_a_busy_system_waited_for(
    home: Path, store: Store, sender: OutboundClient
) -> None:
    waited: list[float] = []
    with served(salesforce()) as other:
        place = Home.at(home)
        place.create()
        quick = connection("salesforce", other)
        exchanger = Exchanger(place, store, quick, sender, wait=waited.append)
        exchanger.run(push=False)
        other.token, other.busy = "token-2", 2
        report = exchanger.run(push=False)

    assert report.errors == []
    assert len(other.logins) == 2
    assert [pause for pause in waited if pause >= 1] == [1.0, 2.0]


def test_it_stops_where_it_is_told_to_and_goes_on_from_there(
    home: Path, store: Store, sender: OutboundClient
) -> None:
    """The second page fails: the first one stays, and is not asked for again."""
    with served(dynamics()) as other:
        place = Home.at(home)
        place.create()
        wanted = connection("dynamics", other, pull=["lead"])
        other.instead = lambda path: (500, b"") if "skiptoken" in path else None
        first = Exchanger(place, store, wanted, sender, wait=lambda _: None).run()
        with store.reading() as session:
            mark = read_mark(session, "dynamics", "lead")
        other.instead = lambda _path: None
        second = Exchanger(place, store, wanted, sender, wait=lambda _: None).run()

    assert "500" in first.errors[0]
    assert mark == {"at": "2026-02-02T08:00:00Z"}
    assert (first.taken_in, second.taken_in) == ({"lead": 2}, {"lead": 4})
    assert len(all_of(store, Lead)) == 5


def test_a_search_that_is_too_long_goes_on_as_a_new_one(
    home: Path, store: Store, sender: OutboundClient
) -> None:
    deals = {
        str(n): {
            "id": str(n),
            "properties": {
                "dealname": f"Deal {n}",
                "dealstage": "qualifiedtobuy",
                "createdate": "2026-01-05T08:00:00.000Z",
                "hs_lastmodifieddate": f"2026-02-01T08:{n // 60:02d}:{n % 60:02d}.000Z",
            },
            "history": [{"value": "qualifiedtobuy", "timestamp": "2026-01-05T08:00:00.000Z"}],
        }
        for n in range(450)
    }
    with (
        served(HubSpotStandIn(objects={"deals": deals}, most=400)) as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("serving.connectors.hubspot._SEARCHED", 400)
        place = Home.at(home)
        place.create()
        report = Exchanger(place, store, connection("hubspot", other, pull=["deal"]), sender).run()

    assert (report.errors, other.faults) == ([], [])
    assert len(all_of(store, Deal)) == 450


@pytest.mark.parametrize(
    "elsewhere", ["https://elsewhere.example/steal", "{ours}.elsewhere.example/x", "{ours}0/x", ".example/x"]
)
def test_a_token_never_goes_to_another_system(
    elsewhere: str, home: Path, store: Store, sender: OutboundClient
) -> None:
    with served(dynamics()) as other:
        place = Home.at(home)
        place.create()
        leads = {"value": [], "@odata.nextLink": elsewhere.format(ours=connection("dynamics", other).url)}
        other.instead = lambda _path: (200, json.dumps(leads).encode())
        report = Exchanger(place, store, connection("dynamics", other, pull=["lead"]), sender).run()

    assert "another system" in report.errors[0]


def test_an_answer_of_another_form_is_told_as_such(home: Path, store: Store, sender: OutboundClient) -> None:
    with served(dynamics()) as other:
        place = Home.at(home)
        place.create()
        other.instead = lambda _path: (200, b'{"unexpected": 1}')
        report = Exchanger(place, store, connection("dynamics", other, pull=["lead"]), sender).run()

    assert "cannot be understood" in report.errors[0]


def test_it_goes_on_by_itself(home: Path, store: Store, clock: FixedClock) -> None:
    with served(hubspot()) as other:
        place = Home.at(home)
        place.create()
        place.connectors.write_text(f'[hubspot]\nurl = "{other.url}"\ntoken = "{other.token}"\n')
        place.connectors.chmod(0o600)
        settings = Settings(home=home, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8")
        runner = JobRunner(store, {EXCHANGE: Exchanging(settings)})
        assert schedule_all(settings, store) == schedule_all(settings, store) == 1
        done = [runner.run_once()]
        clock.advance(timedelta(minutes=15))
        done += [runner.run_once(), runner.run_once()]

    assert done == [1, 1, 0]
    assert len(all_of(store, Deal)) == 1
    with store.reading() as session:
        assert {job.kind for job in list_jobs(session)} == {EXCHANGE}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[salesforce]\n", "salesforce.url"),
        ('[salesforce]\nurl = "https://x.example"\n', "either token"),
        ('[elsewhere]\nurl = "https://x.example"\ntoken = "t"\n', "elsewhere.system"),
        ('[zoho]\nurl = "https://x.example"\ntoken = "t"\nfields = { shoe = "a" }\n', "fields"),
        ('[zoho]\nurl = "https://x.example"\ntoken = "t"\nevery = 3\n', "zoho.every"),
        ("zoho = 3\n", r"\[zoho\]"),
        ("[zoho\n", "connectors.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(home: Path, text: str, said: str) -> None:
    place = Home.at(home)
    place.connectors.write_text(text)
    place.connectors.chmod(0o600)

    with pytest.raises(SettingsError, match=said) as raised:
        read_connections(place)
    assert '"t"' not in str(raised.value)


def test_a_file_with_secrets_that_others_may_read_is_refused(home: Path) -> None:
    place = Home.at(home)
    place.connectors.write_text('[zoho]\nurl = "https://x.example"\ntoken = "t"\n')
    place.connectors.chmod(0o644)

    with pytest.raises(SettingsError, match="chmod 600"):
        read_connections(place)


def test_every_system_has_a_stand_in() -> None:
    assert {kind.value for kind in SYSTEMS} == set(MAKERS)
    assert issubclass(ConnectorError, Exception)
    assert json.dumps(Report(connection="x").to_json())
