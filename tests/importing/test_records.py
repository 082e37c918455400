"""What rows become, and what a second run does with them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from crm_core.clock import FixedClock, instant
from crm_core.errors import FieldAlreadyDeclaredError
from crm_core.fields import Known, known_at, list_fields, observed_until
from crm_core.importing import ImportProgress
from crm_core.merging import merge_records
from crm_core.records import Account, Campaign, Lead, User
from crm_core.store import Store
from tests.factories import make_user
from tests.importing.conftest import LEADS, Workbench, counts

HEADER = "id,company,source,created\n"
MAY_FIRST = datetime(2024, 5, 1, tzinfo=UTC)


def test_rows_become_records_known_when_they_happened(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\nL2,,,2024-05-02 10:00\n")
    report = bench.run(LEADS)
    assert counts(report, "leads") == {"written": 2}
    first, second = bench.records("lead")
    assert (first.external_id, first.company, first.source, first.status) == ("L1", "Hill", "fair", "open")
    assert first.occurred_at == first.recorded_at == MAY_FIRST
    assert (second.company, second.source) == (None, None)
    assert bench.count_changes() == 2


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('"now"', datetime(2026, 3, 2, 9, 0, tzinfo=UTC)),
        ('"as_occurred"', MAY_FIRST),
        ('{ column = "typed", zone = "Asia/Shanghai" }', datetime(2024, 5, 8, 16, 0, tzinfo=UTC)),
    ],
)
def test_when_a_record_became_known_is_what_the_mapping_says(
    bench: Workbench, rule: str, expected: datetime
) -> None:
    bench.write("leads.csv", "id,company,source,created,typed\nL1,Hill,fair,2024-05-01,2024-05-09\n")
    bench.run(LEADS.replace('"as_occurred"', rule))
    (lead,) = bench.records("lead")
    assert (lead.occurred_at, lead.recorded_at) == (MAY_FIRST, expected)


def test_a_second_run_changes_nothing(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\nL2,,web,2024-05-02\n")
    bench.run(LEADS)
    before = bench.count_changes()
    assert counts(bench.run(LEADS), "leads") == {"unchanged": 2}
    assert bench.count_changes() == before


def test_a_row_that_changed_becomes_an_update_that_is_learned_now(
    bench: Workbench, clock: FixedClock
) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\nL2,Dale,web,2024-05-02\n")
    bench.run(LEADS)
    bench.write("leads.csv", HEADER + "L1,Hill & Sons,,2024-05-01\nL2,Dale,web,2024-05-02\n")
    assert counts(bench.run(LEADS), "leads") == {"updated": 1, "unchanged": 1}
    (company,), (source,) = bench.updates("company"), bench.updates("source")
    assert (company.old, company.new, company.source) == ("Hill", "Hill & Sons", "import")
    assert company.occurred_at == company.recorded_at == clock.now()
    assert (source.old, source.new) == ("fair", None)
    assert counts(bench.run(LEADS), "leads") == {"unchanged": 2}


def test_a_changed_row_happened_when_a_column_says_so(bench: Workbench) -> None:
    mapping = LEADS.replace('occurred_at = "created"', 'occurred_at = "created"\nchanged_at = "changed"')
    header = "id,company,source,created,changed\n"
    bench.write("leads.csv", header + "L1,Hill,fair,2024-05-01,2024-05-01\n")
    bench.run(mapping)
    bench.write("leads.csv", header + "L1,Dale,fair,2024-05-01,2024-06-01\n")
    bench.run(mapping)
    (change,) = bench.updates("company")
    assert change.occurred_at == change.recorded_at == datetime(2024, 6, 1, tzinfo=UTC)


def test_what_somebody_edited_since_stays_until_the_file_says_something_new(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\n")
    bench.run(LEADS)
    with bench.store.transaction() as transaction:
        transaction.update(transaction.get(Lead, 1), {"company": "Hill Ltd"})
    bench.write("leads.csv", HEADER + "L1,Hill,web,2024-05-01\n")
    bench.run(LEADS)
    (lead,) = bench.records("lead")
    assert (lead.company, lead.source) == ("Hill Ltd", "web")
    bench.write("leads.csv", HEADER + "L1,Hills,web,2024-05-01\n")
    assert counts(bench.run(LEADS), "leads") == {"updated": 1}
    assert bench.records("lead")[0].company == "Hills"


def test_a_record_deleted_in_the_store_is_not_brought_back(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\n")
    bench.run(LEADS)
    with bench.store.transaction() as transaction:
        transaction.delete(transaction.get(Lead, 1))
    bench.write("leads.csv", HEADER + "L1,Dale,fair,2024-05-01\n")
    assert counts(bench.run(LEADS), "leads") == {"deleted, merged or erased in the store": 1}
    assert bench.records("lead")[0].company == "Hill"


def test_an_erased_person_does_not_come_back_with_the_next_file(bench: Workbench, clock: FixedClock) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\n")
    bench.run(LEADS)
    with bench.store.transaction() as transaction:
        transaction.update(transaction.get(Lead, 1), {"company": None, "erased_at": clock.now()})
    bench.write("leads.csv", HEADER + "L1,Dale,fair,2024-05-01\n")
    assert counts(bench.run(LEADS), "leads") == {"deleted, merged or erased in the store": 1}
    assert bench.records("lead")[0].company is None


def test_the_start_of_a_record_stays_when_the_file_changes_its_mind(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\n")
    bench.run(LEADS)
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-04-01\n")
    report = bench.run(LEADS)
    assert counts(report, "leads") == {"unchanged": 1}
    assert report.steps[0].notes == {"with another start than the stored one, which stays": 1}
    assert bench.records("lead")[0].occurred_at == MAY_FIRST


CUSTOM = """
[records.custom.budget]
column = "budget"
decimal = ","
kind = "number"
known = "history"
label_en = "Budget"
label_zh = "预算"

[records.custom.urgent]
column = "urgent"
values = { JA = true, NEIN = false }
kind = "flag"
known = "unknown"

[records.custom.visit]
column = "visit"
format = "%d.%m.%Y"
kind = "day"
known = "creation"

[records.custom.seen]
column = "visit"
format = "%d.%m.%Y"
kind = "instant"
known = "creation"
"""


def test_custom_fields_are_declared_and_stored_in_their_kind(bench: Workbench) -> None:
    header = "id,company,source,created,budget,urgent,visit\n"
    bench.write(
        "leads.csv",
        header + 'L1,Hill,fair,2024-05-01,"1200,5",JA,02.01.1970\nL2,Hill,fair,2024-05-01,,NEIN,\n',
    )
    assert counts(bench.run(LEADS + CUSTOM), "leads") == {"written": 2}
    first, second = bench.records("lead")
    day = 24 * 60 * 60 * 1_000_000
    assert first.custom == {"budget": 1200.5, "urgent": True, "visit": 1, "seen": day}
    assert second.custom == {"urgent": False}
    with bench.store.reading() as session:
        declared = {field.name: (field.kind, field.known) for field in list_fields(session, "lead")}
        assert declared["custom.budget"] == ("number", "history")
        assert declared["custom.urgent"] == ("flag", "unknown")
        assert known_at(session, "lead", "source") is Known.CREATION
        assert known_at(session, "lead", "company") is Known.UNKNOWN
        assert {field.label_zh for field in list_fields(session, "lead")} == {"预算", None}


def test_a_changed_custom_value_leaves_a_change_row_and_the_others_stay(bench: Workbench) -> None:
    header = "id,company,source,created,budget,urgent,visit\n"
    bench.write("leads.csv", header + "L1,Hill,fair,2024-05-01,100,JA,02.01.1970\n")
    bench.run(LEADS + CUSTOM)
    bench.write("leads.csv", header + "L1,Hill,fair,2024-05-01,200,JA,02.01.1970\n")
    assert counts(bench.run(LEADS + CUSTOM), "leads") == {"updated": 1}
    (change,) = bench.updates("custom.budget")
    assert (change.old, change.new) == (100.0, 200.0)
    assert bench.records("lead")[0].custom["visit"] == 1


def test_a_field_that_another_mapping_declared_otherwise_stops_the_import(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\n")
    bench.run(LEADS)
    with pytest.raises(FieldAlreadyDeclaredError, match=r"lead\.source is declared as built-in"):
        bench.run(LEADS.replace('known = "creation"', 'known = "unknown"'))


def test_a_field_about_which_a_mapping_says_nothing_keeps_what_was_declared(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L1,Hill,fair,2024-05-01\n")
    bench.run(LEADS)
    bench.run(LEADS.replace(', known = "creation"', ""))
    with bench.store.reading() as session:
        assert known_at(session, "lead", "source") is Known.CREATION


LINKED = """
name = "test"
recorded_at = "as_occurred"
zone = "Europe/Berlin"

[files.people]
path = "people.csv"

[files.shops]
path = "shops.csv"
delimiter = ";"
empty = ["-"]

[files.sales]
path = "sales.csv"

[lookups.first_sale]
file = "sales"
key = "shop"
value = { column = "day", kind = "instant" }
take = "min"

[lookups.turnover]
file = "sales"
key = "shop"
value = { column = "price", kind = "number" }
take = "sum"

[[records]]
name = "people"
record = "user"
file = "people"
external_id = "id"
occurred_at = { constant = "2020-01-01" }

[records.fields]
name = { template = "{first} {last}" }
email = "mail"
role = { constant = "rep" }

[[records]]
name = "shops"
record = "account"
file = "shops"
external_id = "shop"
occurred_at = { earliest = [{ lookup = "first_sale", by = "shop" }, "opened"] }

[records.fields]
name = { first_of = ["name", { constant = "A shop" }] }
owner_id = { external_id = "owner", if_missing = "empty" }

[records.custom.turnover]
lookup = "turnover"
by = "shop"
kind = "number"
known = "unknown"

[[records]]
name = "orders"
record = "order"
file = "sales"
external_id = { template = "{number}/{line}" }
occurred_at = { column = "day", shift_days = "delay" }

[records.fields]
account_id = { external_id = "shop" }
number = "number"
amount = "price"
currency = { constant = "EUR" }

[[records.leave_out]]
reason = "returned"
column = "state"
equals = ["R", "r"]

[[records.leave_out]]
reason = "a gift"
column = "price"
below = 0.01

[coverage]
order = { newest_of = "orders" }
account = "2025-01-01T00:00:00Z"
"""


def write_shops(bench: Workbench) -> None:
    bench.write("people.csv", "id,first,last,mail\nP1,Ana,Ruiz,ana@example.com\nP2,Ben,Ode,ben@example.com\n")
    bench.write(
        "shops.csv", "shop;name;owner;opened\nS1;Hill;P1;2024-01-01\nS2;-;P9;2024-02-01\nS3;Dale;-;-\n"
    )
    bench.write(
        "sales.csv",
        "number,line,shop,day,delay,price,state\n"
        "7,1,S1,2023-12-24,-2,10.5,\n"
        "7,2,S1,2024-03-03,0,4.25,ok\n"
        "8,1,S1,2024-03-04,0,9,R\n"
        "9,1,S2,2024-03-05,0,0.00,\n"
        "9,2,S3,2024-03-06,x,1,\n"
        "9,3,S9,2024-03-06,1,1,\n",
    )


def test_files_are_linked_by_external_ids_and_look_things_up_in_one_another(bench: Workbench) -> None:
    write_shops(bench)
    report = bench.run(LINKED)
    assert counts(report, "people") == {"written": 2}
    assert counts(report, "shops") == {"written": 3}
    assert counts(report, "orders") == {"written": 2, "returned": 1, "a gift": 1, "refused": 2}
    hill, unnamed, dale = bench.records("account")
    berlin_midnight = timedelta(hours=1)
    assert hill.occurred_at == datetime(2023, 12, 24, tzinfo=UTC) - berlin_midnight
    assert unnamed.occurred_at == datetime(2024, 2, 1, tzinfo=UTC) - berlin_midnight
    assert dale.occurred_at == datetime(2024, 3, 6, tzinfo=UTC) - berlin_midnight
    assert [(each.name, each.owner_id) for each in (hill, unnamed, dale)] == [
        ("Hill", 1),
        ("A shop", None),
        ("Dale", None),
    ]
    assert hill.custom == {"turnover": 23.75}
    assert [user.name for user in bench.records("user")] == ["Ana Ruiz", "Ben Ode"]


def test_orders_carry_their_link_shifted_date_and_exact_amount(bench: Workbench) -> None:
    write_shops(bench)
    report = bench.run(LINKED)
    first, second = bench.records("order")
    assert (first.external_id, first.account_id, first.amount) == ("7/1", 1, Decimal("10.5"))
    assert first.occurred_at == datetime(2023, 12, 21, 23, 0, tzinfo=UTC)
    assert second.currency == "EUR"
    assert [(each.line, each.column, each.value) for each in report.refusals] == [
        (6, "delay", "x"),
        (7, "shop", "S9"),
    ]


def test_coverage_is_what_the_mapping_says_or_the_newest_that_was_imported(bench: Workbench) -> None:
    write_shops(bench)
    report = bench.run(LINKED)
    newest = datetime(2024, 3, 2, 23, 0, tzinfo=UTC)
    assert report.coverage == {"order": newest, "account": datetime(2025, 1, 1, tzinfo=UTC)}
    with bench.store.reading() as session:
        assert observed_until(session, "order", now=bench.store.clock.now()) == newest


def test_an_older_extract_takes_no_coverage_back(bench: Workbench) -> None:
    write_shops(bench)
    bench.run(LINKED)
    bench.write("sales.csv", "number,line,shop,day,delay,price,state\n7,1,S1,2023-12-24,-2,10.5,\n")
    newest = datetime(2024, 3, 2, 23, 0, tzinfo=UTC)
    assert bench.run(LINKED).coverage["order"] == newest


def test_nothing_counts_as_wholly_seen_while_an_import_runs(bench: Workbench) -> None:
    write_shops(bench)
    seen = []

    def look(progress: ImportProgress) -> None:
        with bench.store.reading() as session:
            seen.append(observed_until(session, "account", now=bench.store.clock.now()))

    bench.run(LINKED, progress=look)
    assert set(seen) == {instant(0)}


def test_a_link_that_changes_leaves_a_change_row(bench: Workbench) -> None:
    write_shops(bench)
    bench.run(LINKED)
    bench.write("shops.csv", "shop;name;owner;opened\nS1;Hill;P2;2024-01-01\n")
    assert counts(bench.run(LINKED), "shops") == {"updated": 1}
    (change,) = bench.updates("owner_id")
    assert (change.old, change.new) == (1, 2)


def test_what_points_at_a_merged_account_points_at_the_one_that_stands_for_it(bench: Workbench) -> None:
    write_shops(bench)
    bench.run(LINKED)
    with bench.store.transaction() as transaction:
        merge_records(transaction, transaction.get(Account, 2), transaction.get(Account, 1))
    sales = "number,line,shop,day,delay,price,state\n7,1,S1,2023-12-24,-2,10.5,\n9,8,S1,2024-03-06,0,5,\n"
    bench.write("sales.csv", sales)
    assert counts(bench.run(LINKED), "orders") == {"written": 1, "unchanged": 1}
    assert {order.account_id for order in bench.records("order")} == {2}


def test_a_value_that_must_be_unique_is_refused_where_it_is_taken(bench: Workbench) -> None:
    write_shops(bench)
    with bench.store.transaction() as transaction:
        make_user(transaction, "Ana")
    people = (
        "id,first,last,mail\nP1,Ana,Ruiz,ana@example.com\nP2,Ben,Ode,b@example.com\nP3,Bo,Li,b@example.com\n"
    )
    bench.write("people.csv", people)
    report = bench.run(LINKED)
    assert counts(report, "people") == {"written": 1, "refused": 2}
    assert [(each.line, each.column, each.reason) for each in report.refusals[:2]] == [
        (2, "mail", "another user has this email already"),
        (4, "mail", "another user has this email already"),
    ]
    bench.write("people.csv", "id,first,last,mail\nP2,Ben,Ode,ana@example.com\n")
    assert counts(bench.run(LINKED), "people") == {"refused": 1}
    assert [user.email for user in bench.records("user")] == ["ana@example.com", "b@example.com"]


def test_a_lookup_that_cannot_read_a_row_refuses_it_by_name(bench: Workbench) -> None:
    write_shops(bench)
    bench.write("sales.csv", "number,line,shop,day,delay,price,state\n7,1,S1,soon,-2,10.5,\n")
    report = bench.run(LINKED)
    assert [(each.step, each.line, each.column, each.value) for each in report.refusals] == [
        ("lookup first_sale", 2, "day", "soon"),
        ("shops", 4, "shop, opened", None),
        ("orders", 2, "day", "soon"),
    ]


KEEP = """
[[records]]
name = "more"
record = "lead"
file = "leads"
external_id = "referrer"
occurred_at = "created"
if_known = "keep"

[records.fields]
company = { constant = "unknown" }
"""


def test_a_step_can_add_what_is_missing_and_keep_what_is_known(bench: Workbench) -> None:
    bench.write(
        "leads.csv", "id,company,source,created,referrer\nL1,Hill,fair,2024-05-01,L1\nL2,Dale,,2024-05-01,X\n"
    )
    for expected in ({"written": 1, "unchanged": 1}, {"unchanged": 2}):
        assert counts(bench.run(LEADS + KEEP), "more") == expected
    assert [(each.external_id, each.company) for each in bench.records("lead")] == [
        ("L1", "Hill"),
        ("L2", "Dale"),
        ("X", "unknown"),
    ]


GROUPED = """
name = "test"
recorded_at = "as_occurred"

[files.lines]
path = "lines.csv"

[[records]]
name = "deals"
record = "deal"
file = "lines"
group = true
external_id = "deal"
occurred_at = { column = "month", format = "%Y%m" }

[records.fields]
name = { template = "Deal {deal}" }
stage = { constant = "needs" }
amount = { column = "price", take = "sum" }
currency = { column = "currency", take = "same" }
expected_close_on = { column = "month", format = "%Y%m", within = "end", take = "max" }

[records.custom.lines]
column = "deal"
take = "count"
kind = "number"
known = "creation"

[records.custom.products]
column = "product"
take = "distinct"
kind = "number"
known = "creation"

[records.custom.last_product]
column = "product"
take = "last"
kind = "text"
known = "creation"

[records.custom.dear]
column = "flag"
take = "any"
kind = "flag"
known = "creation"

[records.custom.mean_price]
column = "price"
take = "mean"
kind = "number"
known = "creation"
"""


def test_the_lines_of_a_group_become_one_record_wherever_they_stand(bench: Workbench) -> None:
    bench.write(
        "lines.csv",
        "deal,month,price,currency,product,flag\n"
        "D2,202402,5,EUR,pump,0\n"
        "D1,202401,1.5,EUR,pump,1\n"
        "D2,202403,6,EUR,valve,0\n"
        "D1,202401,,EUR,pump,0\n"
        "D3,202401,1,EUR,pump,0\n"
        "D3,202401,1,USD,pump,0\n"
        ",202401,1,USD,pump,0\n",
    )
    report = bench.run(GROUPED)
    assert counts(report, "deals") == {"written": 2, "refused": 2}
    assert (report.steps[0].rows_read, report.steps[0].records) == (7, 4)
    second, first = bench.records("deal")
    assert (second.external_id, second.amount, second.expected_close_on) == ("D2", 11, date(2024, 3, 31))
    assert second.custom == {
        "lines": 2,
        "products": 2,
        "last_product": "valve",
        "dear": False,
        "mean_price": 5.5,
    }
    assert first.custom == {
        "lines": 2,
        "products": 1,
        "last_product": "pump",
        "dear": True,
        "mean_price": 1.5,
    }
    assert [(each.line, each.column) for each in report.refusals] == [(6, "currency"), (8, "deal")]
    assert "expected the same value on every line of the group, 'EUR'" in report.refusals[0].reason
    assert counts(bench.run(GROUPED), "deals") == {"unchanged": 2, "refused": 2}


@pytest.mark.parametrize(
    ("test", "left"),
    [
        ("empty = true", ["L1", "L2"]),
        ("empty = false", ["L3"]),
        ('equals = "2024-05-01"', ["L2", "L3"]),
        ('before = "2024-05-02T00:00:00Z"', ["L2", "L3"]),
        ('from = "2024-05-02T00:00:00Z"', ["L1", "L3"]),
    ],
)
def test_a_filter_leaves_rows_out_under_its_reason(bench: Workbench, test: str, left: list[str]) -> None:
    bench.write(
        "leads.csv",
        "id,company,source,created,seen\n"
        "L1,,,2024-05-01,2024-05-01\n"
        "L2,,,2024-05-01,2024-05-02\n"
        "L3,,,2024-05-01,\n",
    )
    leave_out = f'\n[[records.leave_out]]\nreason = "not ours"\ncolumn = "seen"\n{test}\n'
    report = bench.run(LEADS + leave_out)
    assert counts(report, "leads") == {"written": len(left), "not ours": 3 - len(left)}
    assert [lead.external_id for lead in bench.records("lead")] == left


def test_progress_is_told_after_every_batch(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crm_core.importing.run.BATCH_ROWS", 2)
    rows = "".join(f"L{number},,,2024-05-01\n" for number in range(5))
    bench.write("leads.csv", HEADER + rows)
    told: list[ImportProgress] = []
    bench.run(LEADS, progress=told.append)
    assert [(each.rows, each.rows_total) for each in told] == [(2, 5), (4, 5), (5, 5), (5, 5)]
    assert (told[0].step, told[0].number, told[0].steps, told[0].file) == ("leads", 1, 1, "leads.csv")


def test_users_keep_what_the_mapping_does_not_name(bench: Workbench, store: Store) -> None:
    write_shops(bench)
    bench.run(LINKED)
    with store.transaction() as transaction:
        transaction.update(transaction.get(User, 1), {"language": "zh", "active": False})
    assert counts(bench.run(LINKED), "people") == {"unchanged": 2}
    assert (bench.records("user")[0].language, bench.records("user")[0].active) == ("zh", False)


def test_a_row_that_ends_before_it_began_is_refused_with_both_dates(bench: Workbench) -> None:
    mapping = """
        name = "contracts"
        recorded_at = "as_occurred"
        [files.accounts]
        path = "accounts.csv"
        [files.contracts]
        path = "contracts.csv"
        [[records]]
        name = "accounts"
        record = "account"
        file = "accounts"
        external_id = "id"
        occurred_at = { constant = "2024-01-01" }
        fields = { name = "id" }
        [[records]]
        name = "contracts"
        record = "contract"
        file = "contracts"
        external_id = "no"
        occurred_at = "from"
        [records.fields]
        account_id = { external_id = "account" }
        starts_on = "from"
        ends_on = "to"
    """
    bench.write("accounts.csv", "id\nK1\n".replace("\\\n", "\n"))
    bench.write(
        "contracts.csv", "no,account,from,to\n1,K1,2025-01-01,2024-12-31\n2,K1,2025-01-01,2025-12-31\n"
    )
    report = bench.run(mapping)
    assert report.in_words()[-1] == (
        "refused: contracts.csv, line 2: to: expected nothing before starts_on (2025-01-01), got '2024-12-31'"
    )
    assert len(bench.records("contract")) == 1

    bench.write("contracts.csv", "no,account,from,to\n2,K1,2026-01-01,2025-12-31\n")
    report = bench.run(mapping)
    assert [refusal.value for refusal in report.refusals] == ["2025-12-31"]


def test_an_edit_here_and_a_row_that_contradicts_it_is_refused_and_the_rest_goes_on(bench: Workbench) -> None:
    mapping = """
        name = "campaigns"
        recorded_at = "as_occurred"
        [files.campaigns]
        path = "campaigns.csv"
        [[records]]
        name = "campaigns"
        record = "campaign"
        file = "campaigns"
        external_id = "id"
        occurred_at = { constant = "2024-01-01" }
        fields = { name = "id", ends_on = "to" }
    """
    bench.write("campaigns.csv", "id,to\nA,2025-06-30\nB,2025-06-30\n")
    bench.run(mapping)
    with bench.store.transaction() as tx:
        tx.update(tx.get(Campaign, 1), {"starts_on": date(2025, 6, 1)})
    bench.write("campaigns.csv", "id,to\nA,2025-05-01\nB,2025-05-01\n")
    report = bench.run(mapping)
    assert counts(report, "campaigns") == {"updated": 1, "refused": 1}
    assert report.refusals[0].reason == "expected nothing before starts_on (2025-06-01)"
