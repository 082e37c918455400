"""Excel workbooks, and text files in an encoding that has to be found out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from crm_core.errors import MappingError, SourceFileError
from tests.importing.conftest import LEADS, Workbench, counts

SHEET = LEADS.replace('path = "leads.csv"', 'path = "leads.xlsx"')
MORNING = datetime(2024, 5, 1, 9, 30)  # noqa: DTZ001  sheets know no zones
HEADER = ["id", "company", "source", "created"]


def save(bench: Workbench, *rows: list[Any], sheet: str = "Sheet1", name: str = "leads.xlsx") -> Path:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    book.save(bench.folder / name)
    return bench.folder / name


def test_a_sheet_becomes_records_and_whole_numbers_stay_whole(bench: Workbench) -> None:
    save(
        bench,
        HEADER,
        [1001, "Hill", None, MORNING],
        [1002.0, 7, "fair", date(2024, 5, 2)],
    )
    assert counts(bench.run(SHEET), "leads") == {"written": 2}
    first, second = bench.records("lead")
    assert (first.external_id, first.company, first.source) == ("1001", "Hill", None)
    assert first.occurred_at == datetime(2024, 5, 1, 9, 30, tzinfo=UTC)
    assert (second.external_id, second.company) == ("1002", "7")
    assert second.occurred_at == datetime(2024, 5, 2, tzinfo=UTC)


def test_empty_rows_are_passed_over_and_lines_are_those_of_the_sheet(
    bench: Workbench,
) -> None:
    save(bench, [], HEADER, [], ["L1", "Hill", "fair", "never"])
    (refusal,) = bench.run(SHEET).refusals
    assert (refusal.line, refusal.column, refusal.value) == (4, "created", "never")


def test_a_cell_beyond_the_last_column_refuses_its_row(bench: Workbench) -> None:
    save(bench, HEADER, ["L1", "Hill", "fair", "2024-05-01", "what?"], ["L2", "Dale", "fair", "2024-05-01"])
    report = bench.run(SHEET)
    assert counts(report, "leads") == {"written": 1, "refused": 1}
    assert report.refusals[0].value == "what?"


def test_another_sheet_is_chosen_by_name(bench: Workbench) -> None:
    book = openpyxl.load_workbook(save(bench, ["nothing"]))
    book.create_sheet("线索").append(HEADER)
    book["线索"].append(["L1", "Hill", "fair", 45413])
    book.save(bench.folder / "leads.xlsx")
    mapping = SHEET.replace('leads.xlsx"', 'leads.xlsx"\nsheet = "线索"')
    mapping = mapping.replace('"created"', '{ column = "created", format = ["iso", "excel"] }')
    assert counts(bench.run(mapping), "leads") == {"written": 1}
    assert bench.records("lead")[0].occurred_at == datetime(2024, 5, 1, tzinfo=UTC)

    with pytest.raises(SourceFileError, match=r"no sheet 'leads' \(there are: Sheet1, 线索\)"):
        bench.run(mapping.replace("线索", "leads"))


def test_a_workbook_cut_in_the_middle_writes_nothing(bench: Workbench) -> None:
    path = save(bench, HEADER, ["L1", "Hill", "fair", "2024-05-01"])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SourceFileError, match=r"leads.xlsx is no readable Excel workbook"):
        bench.run(SHEET)


def test_a_column_that_the_sheet_does_not_have_is_named(bench: Workbench) -> None:
    save(bench, ["id", "company", "created"], ["L1", "Hill", "2024-05-01"])
    with pytest.raises(MappingError, match=r"leads.xlsx has no column 'source'"):
        bench.run(SHEET)


@pytest.mark.parametrize(
    ("encoding", "company"),
    [
        ("utf-8", "华为技术有限公司"),
        ("utf-8-sig", "华为技术有限公司"),
        ("utf-16", "华为技术有限公司"),
        ("gb18030", "华为技术有限公司"),
        ("gbk", "上海"),
        ("big5", "臺灣積體電路製造"),
        ("cp1252", "Müller & Söhne"),
        ("cp1251", "Ромашка"),
    ],
)
def test_an_encoding_is_found_out_and_told(bench: Workbench, encoding: str, company: str) -> None:
    text = f"id,company,source,created\nL1,{company},fair,2024-05-01\n"
    bench.write("leads.csv", text.encode(encoding))
    report = bench.run(LEADS.replace('leads.csv"', 'leads.csv"\nencoding = "detect"'))
    assert bench.records("lead")[0].company == company
    assert list(report.encodings) == ["leads.csv"]
    assert f"leads.csv: read as {report.encodings['leads.csv']}" in report.in_words()


def test_bytes_in_no_encoding_write_nothing(bench: Workbench) -> None:
    bench.write("leads.csv", b"id,company,source,created\nL1,\x00\x81\xff\xfe\x00\x81\xff,fair,2024-05-01\n")
    with pytest.raises(SourceFileError, match=r"leads.csv: its encoding cannot be told; say which it has"):
        bench.run(LEADS.replace('leads.csv"', 'leads.csv"\nencoding = "detect"'))
