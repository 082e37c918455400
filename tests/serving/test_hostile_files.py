"""Files made to hurt: each is refused with a reason, and nothing of it is kept."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from flask import Flask

from crm_core.errors import SourceFileError
from crm_core.importing.sheets import check_workbook, read_sheet
from serving import importing
from serving.settings import Settings
from tests.serving.conftest import Cast, csrf_of, logged_in

SHEET = "xl/worksheets/sheet1.xml"
_HEAD = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'


def workbook(change: Callable[[bytes], bytes] | None = None) -> bytes:
    """A workbook of one cell, with its sheet rewritten."""
    book = openpyxl.Workbook()
    book.active["A1"] = "name"
    plain, changed = io.BytesIO(), io.BytesIO()
    book.save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if change and name == SHEET else content)
    return changed.getvalue()


def sheet(rows: str) -> bytes:
    return workbook(lambda _old: f"{_HEAD}{rows}</sheetData></worksheet>".encode())


FAR = '<row r="1"><c r="A1" t="inlineStr"><is><t>name</t></is></c></row>'
FAR += '<row r="1048576"><c r="XFD1048576"/></row>'
LONG = "<row/>" * 20_000 + "<row>" + "<c/>" * 16_000 + "</row>"

HOSTILE: dict[str, tuple[str, bytes]] = {
    "a cell in the last row and column": ("a.xlsx", sheet(FAR)),
    "rows and cells that do not say where they stand": ("a.xlsx", sheet(LONG)),
    "entities of entities": (
        "a.xlsx",
        workbook(
            lambda old: b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + old.replace(b">0<", b">&b;<")
        ),
    ),
    "no zip archive": ("a.xlsx", b"PK\x03\x04" + b"x" * 1000),
    "no Parquet": ("a.parquet", b"PAR1" + b"x" * 1000 + b"PAR1"),
    "a header of one long name": ("a.csv", b"a" * 200_000 + b",b\n1,2\n"),
    "a quote that never ends": ("a.csv", b'"' + b"a" * 200_000),
    "50,000 columns": ("a.csv", b",".join(b"c%d" % at for at in range(50_000)) + b"\n"),
    "columns without names": ("a.csv", b"," * 10_000 + b"\n"),
    "more rows than a page takes": ("a.csv", b"name\n" + b"x\n" * (importing.MOST_ROWS + 1)),
    "bytes of no encoding": ("a.csv", bytes(range(256)) * 100),
    "a folder in its name": ("../../a.exe", b"MZ"),
    "a NUL in its name": ("a\x00.csv", b"name\nx\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_would_hurt_is_refused_and_not_kept(
    app: Flask, cast: Cast, settings: Settings, name: str
) -> None:
    client = logged_in(app, cast["Ana"])
    file, content = HOSTILE[name]
    form = {"csrf_token": csrf_of(client.get("/import").text), "record_type": "lead"}
    answer = client.post("/import", data={**form, "file": (io.BytesIO(content), file)})
    refused = answer.status_code == 422 or name == "entities of entities"  # which are not made use of
    assert refused, (answer.status_code, answer.headers.get("Location"))
    if answer.status_code == 422:
        assert not list((settings.home_folder.folder / "imports").glob("*")), "nothing is left of it"


def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(
        sheet('<row r="1"><c r="A1" t="inlineStr"><is><t>' + "a" * 300_000 + "</t></is></c></row>")
    )
    assert path.stat().st_size < 20_000
    with pytest.raises(SourceFileError, match="unpacks to more"):
        check_workbook(path, most_unpacked=100_000)
    assert len(list(read_sheet(path, None))) == 1, "else it is one like any other"


def test_a_workbook_may_be_long_or_wide(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(sheet('<row r="1048576"><c r="T1048576"><v>1</v></c></row>'))
    check_workbook(path)
    path.write_bytes(sheet('<row r="1"><c r="XFD1"><v>1</v></c></row>'))
    check_workbook(path)
