"""A mapping that cannot be used is refused with the place of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from crm_core.errors import MappingError
from crm_core.fields import Known
from crm_core.importing import list_shipped, load_mapping
from crm_core.importing.expressions import Link
from crm_core.importing.mapping import IMPORTED, is_mapped
from crm_core.records import RECORD_TYPES
from crm_core.validation import columns_of
from tests.importing.conftest import LEADS


def load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    load_mapping(path)


def test_the_shipped_mappings_can_be_loaded_by_name() -> None:
    assert list_shipped() == [
        "dynamics",
        "eci",
        "hubspot",
        "ibm-win-loss",
        "olist",
        "pipedrive",
        "salesforce",
        "telco-churn",
        "zoho",
    ]
    for name in list_shipped():
        assert load_mapping(name).name == name


def test_everything_that_only_winners_have_is_declared_as_known_at_the_outcome() -> None:
    mapping = load_mapping("olist")
    (conversions,) = (step for step in mapping.steps if step.event == "convert")
    assert {field.known for field in conversions.fields} == {Known.OUTCOME}
    assert len(conversions.fields) == 12


def test_every_field_that_a_record_needs_can_be_mapped() -> None:
    for record_type in IMPORTED:
        for name, column in columns_of(RECORD_TYPES[record_type]).items():
            needed = not column.nullable and column.default is None
            filled_by_the_store = {"id", "occurred_at", "recorded_at", "subject_type", "subject_id"}
            assert not needed or is_mapped(name, column) or name in filled_by_the_store, (record_type, name)


@pytest.mark.parametrize("field", ["merged_into_id", "erased_at", "password_hash", "score", "reasons"])
def test_fields_that_no_file_may_fill_are_unknown_to_mappings(tmp_path: Path, field: str) -> None:
    record_type = {"password_hash": "user"}.get(field, "lead")
    assert field in columns_of(RECORD_TYPES[record_type])
    with pytest.raises(MappingError, match=f"has no field '{field}' to import"):
        load(tmp_path, LEADS.replace('"lead"', f'"{record_type}"').replace("company =", f"{field} ="))


def test_a_link_in_a_mapping_names_the_external_id_of_the_other_record() -> None:
    (orders,) = (step for step in load_mapping("olist").steps if step.name == "orders")
    assert isinstance(orders.fields[0].value, Link)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            'record = "lead"',
            'record = "laed"',
            "records[1].record: no record type 'laed' to import; did you mean 'lead'?",
        ),
        (
            'company = "company"',
            'compani = "company"',
            "a lead has no field 'compani' to import; did you mean",
        ),
        ('company = "company"', "company = 5", "records[1].fields.company: expected a table, got 5"),
        ('external_id = "id"', "", "records[1]: 'external_id' is missing"),
        ('external_id = "id"', 'external_id = "id"\nexternl = 1', "unknown key 'externl'; did you mean"),
        ('file = "leads"', 'file = "lead"', "leads.file: no file 'lead'; did you mean 'leads'?"),
        (
            'occurred_at = "created"',
            'occurred_at = { colum = "x" }',
            "expected exactly one of column, template",
        ),
        (
            'occurred_at = "created"',
            'occurred_at = { column = "x", format = "DD.MM.YYYY" }',
            "records[1].occurred_at.format: no date can be read by 'DD.MM.YYYY'",
        ),
        (
            'occurred_at = "created"',
            'occurred_at = { column = "x", zone = "Berlin" }',
            "no time zone is called 'Berlin'",
        ),
        (
            'occurred_at = "created"',
            'occurred_at = { column = "x", take = "min" }',
            "records[1].occurred_at: 'take' needs group = true",
        ),
        (
            'occurred_at = "created"',
            'occurred_at = { lookup = "first", by = "id" }',
            "leads.occurred_at: no lookup 'first'",
        ),
        ('occurred_at = "created"', 'occurred_at = { constant = "never" }', "expected a date as YYYY-MM-DD"),
        ('recorded_at = "as_occurred"', "", "'recorded_at' is missing, here and at the top"),
        ('path = "leads.csv"', 'path = "../leads.csv"', "expected a path inside the folder"),
        ('path = "leads.csv"', 'path = "leads.csv"\nencoding = "utf-9"', "no encoding is called 'utf-9'"),
        ('path = "leads.csv"', 'path = "leads.csv"\ndelimiter = "||"', "expected one character, got '||'"),
        (
            'company = "company"',
            'company = "company"\nstatus = { column = "s", known = "creation" }',
            "is written at the outcome and can never be known at creation",
        ),
        (
            'company = "company"',
            'company = "company"\naccount_id = "account"',
            "points to another record; write account_id = { external_id = 'account' }",
        ),
        (
            'company = "company"',
            'company = { column = "company", values = 3 }',
            "records[1].fields.company.values: expected a table, got 3",
        ),
        (
            'company = "company"',
            'company = { column = "company", shift_days = 2 }',
            "only a date can be shifted, this is text",
        ),
        (
            'company = "company"',
            'company = { earliest = ["company"] }',
            "only dates have an earliest, this is text",
        ),
        (
            'company = "company"',
            'company = { template = "same for all" }',
            "names no column in braces",
        ),
        (
            'known = "creation"',
            'known = "sometimes"',
            "expected one of creation, history, outcome, unknown, got 'sometimes'",
        ),
        ("[records.fields]", '[records.custom.size]\ncolumn = "s"\n[records.fields]', "'known' is missing"),
        (
            "[records.fields]",
            '[records.custom.Size]\ncolumn = "s"\n[records.fields]',
            "expected a name of small letters",
        ),
        (
            "[records.fields]",
            '[[records.leave_out]]\nreason = "old"\ncolumn = "created"\n[records.fields]',
            "expected exactly one of equals, other_than, empty, before, from, below, above, got none",
        ),
        (
            "[records.fields]",
            '[[records.leave_out]]\nreason = "old"\ncolumn = "created"\nbefore = "x"\n[records.fields]',
            "records[1].leave_out[1].before: expected a date with a time, got 'x'",
        ),
        ("[[records]]", '[coverage]\nleed = "2024-01-01T00:00:00Z"\n[[records]]', "no record type 'leed'"),
        (
            "[[records]]",
            '[coverage]\nlead = { newest_of = "deals" }\n[[records]]',
            "coverage.lead.newest_of: expected one of leads, got 'deals'",
        ),
        ("[[records]]", "[[recrods]]\n[[records]]", "unknown key 'recrods'; did you mean 'records'?"),
    ],
)
def test_a_slip_in_a_mapping_is_refused_with_its_place(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert before in LEADS
    with pytest.raises(MappingError) as refused:
        load(tmp_path, LEADS.replace(before, after, 1))
    assert message in str(refused.value)
    assert str(refused.value).startswith("mapping mine.toml: ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('event = "convert"\nrecord = "deal"', "only a lead can convert, this is a deal"),
        ('event = "win"\nrecord = "deal"', "expected one of convert, disqualify, close, update, got 'win'"),
        ('event = "update"\nrecord = "lead"', "an update names no field to update"),
        (
            'event = "convert"\nrecord = "lead"\n[events.fields]\nconverted_at = "x"',
            "convert sets 'converted_at' by itself",
        ),
        ('event = "close"\nrecord = "deal"', "'won' is missing"),
        (
            'event = "update"\nrecord = "lead"\nknown = "history"\n[events.fields]\nsource = "s"',
            "source is known at history, but leads says known at creation",
        ),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(tmp_path: Path, more: str, message: str) -> None:
    step = f'[[events]]\nname = "e"\nfile = "leads"\nexternal_id = "id"\noccurred_at = "x"\n{more}\n'
    with pytest.raises(MappingError) as refused:
        load(tmp_path, LEADS + step)
    assert message in str(refused.value)


def test_a_record_without_a_field_that_it_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="every account needs the field 'name'"):
        load(tmp_path, LEADS.replace('record = "lead"', 'record = "account"').split("[records.fields]")[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read"),
        ('name = "x"', "there is nothing to import"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        load(tmp_path, text)


def test_an_unknown_mapping_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        MappingError, match=r"'olst'; did you mean 'olist'\? \(there are: dynamics, eci, .*\)"
    ):
        load_mapping("olst")


def test_a_missing_mapping_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="No such file"):
        load_mapping(tmp_path / "none.toml")
