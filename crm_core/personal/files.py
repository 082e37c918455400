"""What is held about a person, as files that the person can read: JSON, tables, and one page."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from crm_core.errors import ExportFolderError
from crm_core.formulas import guard

SECTIONS: Final[dict[str, tuple[str, str]]] = {
    "records": ("Records that stand for the person", "代表本人的记录"),
    "belongings": ("What was done with them and said about them", "与本人有关的活动与评论"),
    "related": ("Companies, deals and tickets they have a part in", "相关公司、商机与工单"),
    "changes": ("What was changed, when and by whom", "更改记录"),
    "predictions": ("What models said", "模型预测"),
    "mentions": ("Texts elsewhere that name them", "其他提及本人的文字"),
}
"""The parts of an export that are lists, with their titles in English and in Chinese."""

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #ccc;padding:.3rem .5rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}h2{margin-top:2rem}"
)


def write_person(export: Mapping[str, Any], target: Path) -> list[str]:
    """Write an export to a folder, or to a zip file if `target` ends so; return the names of the files.

    `person.json` holds everything, `index.html` the same for people, and each list is a CSV file as well, in
    which no cell is a live formula. Raises ExportFolderError where nothing can be written.
    """
    files = {name: text.encode() for name, text in _files(export)}
    try:
        if target.suffix == ".zip":
            _write_zip(files, target)
        else:
            _write_folder(files, target)
    except OSError as error:
        raise ExportFolderError(f"nothing can be written to {target}: {error}") from error
    return list(files)


def _files(export: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "person.json", json.dumps(export, ensure_ascii=False, indent=2) + "\n"
    yield "index.html", _page(export)
    for name in SECTIONS:
        yield f"{name}.csv", "\ufeff" + _csv(_rows(export[name]))  # the mark tells Excel that it is UTF-8


def _write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _write_zip(files: Mapping[str, bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def _rows(items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return items as rows of texts: the fields of a record become columns of their own."""
    return [{name: _text(value) for name, value in _flat(item).items()} for item in items]


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    fields = item.get("fields", {})
    return {**{name: value for name, value in item.items() if name != "fields"}, **fields}


def _text(value: Any) -> str:  # noqa: ANN401  any JSON value
    if value is None or value == []:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the columns that any row fills, in the order in which they come first."""
    return list(dict.fromkeys(name for row in rows for name, text in row.items() if text))


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    columns = _columns(rows)
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([guard(row.get(name, "")) for name in columns] for row in rows)
    return out.getvalue()


def _page(export: Mapping[str, Any]) -> str:
    person = export["person"]
    told = escape(", ".join([*person["names"], *person["mails"], *person["phones"]]))
    parts = "".join(_section(name, _rows(export[name])) for name in SECTIONS)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{told}</title><style>{_STYLE}</style></head>"
        f"<body><h1>What is held about / 所存资料: {told}</h1>{parts}</body></html>\n"
    )


def _section(name: str, rows: Sequence[Mapping[str, str]]) -> str:
    en, zh = SECTIONS[name]
    title = f"<h2>{en} / {zh} ({len(rows)})</h2>"
    columns = _columns(rows)
    if not columns:
        return title
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    cells = ([f"<td>{escape(row.get(column, ''))}</td>" for column in columns] for row in rows)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
