"""A file that is not what the mapping says stops the import; a bad row is refused by name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crm_core.errors import MappingError, SourceFileError
from crm_core.importing import Refusal
from crm_core.importing.run import BATCH_ROWS
from tests.importing.conftest import LEADS, Workbench, counts

HEADER = "id,company,source,created\n"
GOOD = "L1,Hill,fair,2024-05-01\n"


def refused_before_writing(bench: Workbench, error: type[MappingError], mapping: str = LEADS) -> str:
    with pytest.raises(error) as refused:
        bench.run(mapping)
    assert bench.count_changes() == 0
    assert bench.records("lead") == []
    return str(refused.value)


def only_refusal(bench: Workbench, mapping: str = LEADS) -> Refusal:
    report = bench.run(mapping)
    assert report.refused == len(report.refusals) == 1
    return report.refusals[0]


def test_a_missing_file_is_named(bench: Workbench) -> None:
    assert "leads.csv is missing in" in refused_before_writing(bench, SourceFileError)


def test_a_missing_folder_is_named(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER)
    bench.folder.rename(bench.folder.with_name("elsewhere"))
    bench.folder.mkdir()
    assert "is missing" in refused_before_writing(bench, SourceFileError)


def test_an_empty_file_has_no_columns(bench: Workbench) -> None:
    bench.write("leads.csv", b"")
    assert "leads.csv is empty" in refused_before_writing(bench, SourceFileError)


def test_a_column_that_the_file_does_not_have_is_named_with_what_it_has(bench: Workbench) -> None:
    bench.write("leads.csv", "id,company,origin,created\n" + GOOD)
    message = refused_before_writing(bench, MappingError)
    assert message == (
        "leads.fields.source: leads.csv has no column 'source' (there are: company, created, id, origin)"
    )


def test_two_columns_of_one_name_are_refused(bench: Workbench) -> None:
    bench.write("leads.csv", "id,company,source,created,id\n")
    assert "two columns called 'id'" in refused_before_writing(bench, SourceFileError)


def test_another_encoding_is_refused_with_its_line_and_byte(bench: Workbench) -> None:
    rows = "".join(f"L{number},Hill,fair,2024-05-01\n" for number in range(3 * BATCH_ROWS))
    bench.write("leads.csv", (HEADER + rows + "M,Müller,fair,2024-05-01\n").encode("latin-1"))
    message = refused_before_writing(bench, SourceFileError)
    assert f"is not in utf-8: line {3 * BATCH_ROWS + 2} holds the byte 0xfc" in message
    assert "[files.leads] encoding = ..." in message


@pytest.mark.parametrize("encoding", ["latin-1", "gb18030", "utf-16", "utf-8-sig"])
def test_an_encoding_that_the_mapping_names_is_read(bench: Workbench, encoding: str) -> None:
    company = "Müller" if encoding == "latin-1" else "方达阀门"
    bench.write("leads.csv", (HEADER + f"L1,{company},fair,2024-05-01\n").encode(encoding))
    mapping = LEADS
    if encoding != "utf-8-sig":  # a byte order mark needs no word in the mapping
        mapping = LEADS.replace('path = "leads.csv"', f'path = "leads.csv"\nencoding = "{encoding}"')
    assert counts(bench.run(mapping), "leads") == {"written": 1}
    assert bench.records("lead")[0].company == company


def test_a_file_cut_off_inside_a_quoted_text_stops_the_import(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + GOOD + 'L2,"Dale and S')
    message = refused_before_writing(bench, SourceFileError)
    assert "a quoted text begins in or after line 3 and never ends; is the file cut off?" in message


def test_a_quote_that_swallows_the_file_stops_the_import(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + 'L0,"6 inch pumps,fair,2024-05-01\n' + GOOD * 10_000)
    assert "begins in or after line 2" in refused_before_writing(bench, SourceFileError)


def test_a_row_cut_off_is_refused_with_its_line(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + "L2,Da\n" + GOOD)
    report = bench.run(LEADS)
    assert counts(report, "leads") == {"written": 1, "refused": 1}
    assert report.refusals[0].in_words() == "leads.csv, line 2: expected 4 cells, got 2, got 'L2,Da'"
    assert [lead.external_id for lead in bench.records("lead")] == ["L1"]


def test_a_file_cut_in_the_middle_of_its_last_row_writes_nothing(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + GOOD + "L2,Da")
    with pytest.raises(
        SourceFileError, match=r"leads.csv ends in the middle of line 3; is the file cut off\?"
    ):
        bench.run(LEADS)
    assert bench.records("lead") == []


def test_text_after_a_closing_quote_refuses_that_row_only(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + 'L0,"Hill" & Sons,fair,2024-05-01\n' + GOOD)
    report = bench.run(LEADS)
    assert counts(report, "leads") == {"written": 1, "refused": 1}
    assert report.refusals[0].line == 2


def test_a_line_number_counts_lines_inside_quoted_texts_and_blank_lines(bench: Workbench) -> None:
    bench.write("leads.csv", HEADER + 'L1,"Hill\nand\nSons",fair,2024-05-01\n\nL2,Dale,fair,never\n')
    refusal = only_refusal(bench)
    assert (refusal.line, refusal.column, refusal.value) == (6, "created", "never")


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        ("L1,Hill,fair,05/01/2024", "created", "05/01/2024", "expected a date as YYYY-MM-DD[ HH:MM[:SS]]"),
        ("L1,Hill,fair,", "created", None, "expected a date"),
        (",Hill,fair,2024-05-01", "id", None, "expected an external id"),
        ("L1,Hill,fair,2026-03-03", "created", "2026-03-03T00:00:00+00:00", "expected an instant up to now"),
        ("L1,Hi\0ll,fair,2024-05-01", "company", "Hi\0ll", "expected a text without NUL"),
        ("L\x001,Hill,fair,2024-05-01", "id", "L\x001", "expected a text without NUL"),
        (f"L1,{'x' * 301},fair,2024-05-01", "company", "301 characters", "expected at most 300 characters"),
    ],
)
def test_a_bad_row_is_refused_with_line_column_value_and_reason(
    bench: Workbench, row: str, column: str, value: str | None, reason: str
) -> None:
    bench.write("leads.csv", f"{HEADER}L0,Hill,fair,2024-05-01\n{row}\nL2,Dale,fair,2024-05-01\n")
    report = bench.run(LEADS)
    assert counts(report, "leads") == {"written": 2, "refused": 1}
    (refusal,) = report.refusals
    assert (refusal.step, refusal.file, refusal.line) == ("leads", "leads.csv", 3)
    assert (refusal.column, refusal.value) == (column, value)
    assert refusal.reason.startswith(reason)
    assert [lead.external_id for lead in bench.records("lead")] == ["L0", "L2"]


def test_a_second_row_with_the_same_external_id_is_refused_and_the_first_stays(bench: Workbench) -> None:
    rows = "".join(f"N{number},Hill,fair,2024-05-01\n" for number in range(BATCH_ROWS))
    bench.write("leads.csv", HEADER + GOOD + "L1,Dale,fair,2024-05-02\n" + rows + "N0,Glen,fair,2024-05-01\n")
    for _ in range(2):
        report = bench.run(LEADS)
        assert [(each.line, each.reason) for each in report.refusals] == [
            (3, "line 2 has the same external id"),
            (BATCH_ROWS + 4, "line 4 has the same external id"),
        ]
    assert [lead.company for lead in bench.records("lead")] == ["Hill"] * (BATCH_ROWS + 1)
    assert bench.updates("company") == []


ACTIVITIES = """
name = "test"
recorded_at = "as_occurred"

[files.leads]
path = "leads.csv"

[files.calls]
path = "calls.csv"

[[records]]
name = "leads"
record = "lead"
file = "leads"
external_id = "id"
occurred_at = "created"

[[records]]
name = "calls"
record = "activity"
file = "calls"
external_id = "id"
occurred_at = "at"

[records.fields]
kind = "kind"
lead_id = { external_id = "lead" }
duration_seconds = { column = "minutes", multiply = 60 }
"""


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        ("C1,call,L1,2024-05-02,-3", "minutes", "-180", "expected a number from 0 to 2.592e+06"),
        ("C1,fax,L1,2024-05-02,3", "kind", "fax", "expected one of call, feedback, mail"),
        ("C1,,L1,2024-05-02,3", "kind", None, "expected a value"),
        ("C1,call,L9,2024-05-02,3", "lead", "L9", "no lead has this external id"),
        ("C1,call,L1,2024-05-02,three", "minutes", "three", "expected a whole number"),
    ],
)
def test_a_value_that_the_store_does_not_take_is_refused_by_its_column(
    bench: Workbench, row: str, column: str, value: str | None, reason: str
) -> None:
    bench.write("leads.csv", HEADER + GOOD)
    bench.write("calls.csv", f"id,kind,lead,at,minutes\n{row}\nC2,call,L1,2024-05-02,5\n")
    refusal = only_refusal(bench, ACTIVITIES)
    assert (refusal.column, refusal.value) == (column, value)
    assert refusal.reason.startswith(reason)
    assert [call.external_id for call in bench.records("activity")] == ["C2"]


def test_a_damaged_parquet_file_stops_the_import(bench: Workbench) -> None:
    path = bench.folder / "leads.parquet"
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    mapping = LEADS.replace("leads.csv", "leads.parquet")
    assert "no readable Parquet file" in refused_before_writing(bench, SourceFileError, mapping)


def test_a_parquet_file_is_refused_row_by_row_too(bench: Workbench) -> None:
    write_parquet(bench.folder / "leads.parquet")
    report = bench.run(LEADS.replace("leads.csv", "leads.parquet"))
    assert counts(report, "leads") == {"written": 2, "refused": 1}
    assert (report.refusals[0].line, report.refusals[0].column) == (2, "created")
    assert report.unused_columns == {"leads.parquet": ["size"]}
    assert [lead.source for lead in bench.records("lead")] == ["fair", None]


def write_parquet(path: Path) -> None:
    instants = pa.array(
        [1_714_521_600_000_000_000, None, 1_714_521_600_000_000_123], pa.timestamp("ns", "UTC")
    )
    columns = {
        "id": pa.array([1, 2, 3]),
        "company": pa.array(["Hill", "Dale", "Glen"]).dictionary_encode(),
        "source": pa.array(["fair", "web", None]),
        "size": pa.array([1.5, 2.5, None]),
        "created": instants,
    }
    pq.write_table(pa.table(columns), path)
