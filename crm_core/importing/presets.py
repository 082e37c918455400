"""Recognising the exports of other systems by the columns of their files.

A mapping whose files name no path but the columns by which they are `recognise`d fits whatever was exported:
steps for files that are not there are left out, and so are fields whose columns are not. What is left over
is kept as custom fields where a step says `keep_rest`, and named in the report where not.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from crm_core.errors import MappingError, SourceFileError
from crm_core.fields import FieldKind, Known
from crm_core.importing.encodings import detect_encoding
from crm_core.importing.expressions import Cell, Constant, Expression, Link, LookedUp, Pick
from crm_core.importing.mapping import format_of, list_shipped, load_mapping
from crm_core.importing.readers import Fault, Source, open_source, read_header, read_rows
from crm_core.importing.specs import FieldSpec, FileSpec, Filter, Mapping, Step
from crm_core.importing.values import Kind, Reading

_ENDINGS = {".csv", ".txt", ".tsv", ".xlsx", ".parquet"}
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A mapping made to fit a folder, its files, and what of the folder it does not take."""

    mapping: Mapping
    sources: dict[str, Source]
    not_recognised: list[str] = field(default_factory=list)


def recognise_export(folder: Path) -> Mapping:
    """Return the shipped mapping that recognises most files of a folder; MappingError if none does any."""
    if not folder.is_dir():
        raise SourceFileError(f"there is no folder {folder}")
    files = _files_in(folder)
    presets = [mapping for name in list_shipped() if (mapping := load_mapping(name)).is_preset]
    found = {preset.name: len(_recognised(preset, files)) for preset in presets}
    best = max(presets, key=lambda preset: found[preset.name])
    if not found[best.name]:
        headers = "; ".join(f"{each.path.name}: {', '.join(each.header[:6])}" for each in files) or "no files"
        known = ", ".join(sorted(found))
        raise MappingError(
            f"{folder} holds no export that is known ({known}), but {headers}; write a mapping"
        )
    return best


def fit(mapping: Mapping, folder: Path) -> Fitted:
    """Return a mapping of recognised files made to fit the files of `folder`."""
    files = _files_in(folder)
    chosen = _recognised(mapping, files)
    if not chosen:
        names = ", ".join(each.path.name for each in files) or "nothing"
        raise SourceFileError(f"{folder} holds {names}: no file that the mapping {mapping.name} recognises")
    sources = {name: open_source(spec, folder, {}) for name, spec in chosen.items()}
    fitted = _without_absent(mapping, sources)
    fitted = _with_rest(fitted, sources)
    taken = {spec.path for spec in chosen.values()}
    left = [each.path.name for each in files if each.path.name not in taken]
    return Fitted(mapping=fitted, sources=_with_unused(fitted, sources), not_recognised=left)


# ------------------------------------------------------------------------------------------------ files


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file of the folder as it presents itself."""

    path: Path
    spec: FileSpec
    header: tuple[str, ...]


def _files_in(folder: Path) -> list[_File]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())
    return [_look_at(path) for path in paths if not path.name.startswith((".", "~$"))]  # "~$": open in Excel


def look_at(path: Path) -> FileSpec:
    """Return how a file of any name is to be read: its format, encoding and delimiter."""
    return _look_at(path).spec


def _look_at(path: Path) -> _File:
    spec = FileSpec(name=path.stem, path=path.name, format=format_of(path.name))
    if spec.format == "csv":
        encoding = detect_encoding(path)
        with path.open(encoding=encoding, newline="") as file:
            first = file.readline()
        delimiter = max(_DELIMITERS, key=lambda each: _cells_of(first, each))
        spec = replace(spec, encoding=encoding, delimiter=delimiter)
    return _File(path=path, spec=spec, header=read_header(spec, path))


def _cells_of(line: str, delimiter: str) -> int:
    """Return of how many cells a line is with a delimiter; 0 where it cannot be read so."""
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _recognised(mapping: Mapping, files: Sequence[_File]) -> dict[str, FileSpec]:
    """Return for each file of the mapping the file of the folder that fits it best, if any does.

    Of several that a file fits, the one counts that is named like it, then the one that reads more of it.
    """
    chosen: dict[str, FileSpec] = {}
    for each in files:
        fits = [
            (*_named_like(each.path, name), fit, name)
            for name, spec in mapping.files.items()
            if (fit := _fit_of(mapping, spec, each.header))
        ]
        if not fits:
            continue
        name = max(fits)[-1]
        if name in chosen:
            raise SourceFileError(
                f"{chosen[name].path} and {each.path.name} both look like {name} of {mapping.name}; keep one"
            )
        chosen[name] = _spec_of(mapping.files[name], each)
    return chosen


def _named_like(path: Path, name: str) -> tuple[bool, bool]:
    stem = re.sub(r"[^a-z]", "", path.stem.lower())
    return stem in {name, f"{name}s"}, name in stem


def _fit_of(mapping: Mapping, spec: FileSpec, header: Sequence[str]) -> int:
    """Return how many columns of a file the mapping reads; 0 if it lacks one that it is recognised by."""
    names = {_canonical(spec, column) for column in header}
    if not set(spec.recognise) <= names:
        return 0
    return len(names & mapping.columns_of_file(spec.name).keys())


def _spec_of(spec: FileSpec, found: _File) -> FileSpec:
    rename: dict[str, str] = {}
    for column in found.header:
        name = _canonical(spec, column)
        # Of several columns that mean the same, the one with the usual name counts, then the first.
        free = name not in found.header and name not in rename.values()
        rename[column] = name if free else column
    return replace(
        spec,
        path=found.spec.path,
        format=found.spec.format,
        encoding=found.spec.encoding,
        delimiter=found.spec.delimiter,
        rename={column: name for column, name in rename.items() if column != name},
    )


def _canonical(spec: FileSpec, column: str) -> str:
    if column in spec.also_called:
        return column
    return next((name for name, others in spec.also_called.items() if column in others), column)


# ------------------------------------------------------------------------------------------------ absent


def _without_absent(mapping: Mapping, sources: dict[str, Source]) -> Mapping:
    """Leave out what reads files or columns that are not there."""
    lookups = tuple(
        each for each in mapping.lookups if _has_all(each.key, each.value, source=sources.get(each.file))
    )
    known = {each.name for each in lookups}
    steps = tuple(
        fitted
        for step in mapping.steps
        if step.file in sources and (fitted := _fit_step(step, sources[step.file], known)) is not None
    )
    names = {step.name for step in steps}
    coverage = {
        record_type: said
        for record_type, said in mapping.coverage.items()
        if not isinstance(said, str) or said in names
    }
    files = {name: source.spec for name, source in sources.items()}
    return replace(mapping, files=files, lookups=lookups, steps=steps, coverage=coverage)


def _has_all(*expressions: Expression, source: Source | None) -> bool:
    return source is not None and all(_pruned(each, source.header, set()) is not None for each in expressions)


def _fit_step(step: Step, source: Source, lookups: set[str]) -> Step | None:
    """Return a step without fields that have no column; None where there is nothing for it to read."""
    header = source.header
    filters = [(each, _pruned(each.value, header, lookups)) for each in step.leave_out]
    if any(value is None and each.test == "empty" and each.operand for each, value in filters):
        return None  # every row would be left out
    external_id, occurred_at = (
        _pruned(each, header, lookups) for each in (step.external_id, step.occurred_at)
    )
    fields = tuple(
        replace(each, value=value)
        for each in step.fields
        if (value := _pruned(each.value, header, lookups)) is not None
    )
    won = None if step.won is None else _pruned(step.won, header, lookups)
    if external_id is None or occurred_at is None or (step.won is not None and won is None):
        missing = "a column that identifies its records" if external_id is None else "a date"
        raise MappingError(f"{step.name}: {source.spec.path} lacks {missing}; export it with all its columns")
    if step.event == "update" and not fields:
        return None
    return replace(
        step,
        external_id=external_id,
        occurred_at=occurred_at,
        recorded_at=_or_as_occurred(step.recorded_at, header, lookups),
        changed_at=None if step.changed_at is None else _pruned(step.changed_at, header, lookups),
        won=won,
        fields=fields,
        leave_out=tuple(_refilled(each, value) for each, value in filters if value is not None),
    )


def _or_as_occurred(
    recorded_at: str | Expression, header: Sequence[str], lookups: set[str]
) -> str | Expression:
    if isinstance(recorded_at, str):
        return recorded_at
    return _pruned(recorded_at, header, lookups) or "as_occurred"


def _refilled(spec: Filter, value: Expression) -> Filter:
    return replace(spec, value=value)


def _pruned(expression: Expression, header: Sequence[str], lookups: set[str]) -> Expression | None:
    """Return an expression without what reads absent columns; None if nothing is left of it."""
    match expression:
        case Cell(columns=columns, shift_column=shift):
            return expression if {*columns, *filter(None, [shift])} <= set(header) else None
        case Constant():
            return expression
        case LookedUp(lookup=lookup, by=by):
            inner = _pruned(by, header, lookups)
            return replace(expression, by=inner) if inner is not None and lookup in lookups else None
        case Pick(choices=choices):
            left = [inner for each in choices if (inner := _pruned(each, header, lookups)) is not None]
            return replace(expression, choices=tuple(left)) if left else None
        case Link(by=by, type_by=type_by):
            inner = _pruned(by, header, lookups)
            kind = None if type_by is None else _pruned(type_by, header, lookups)
            lost = inner is None or (type_by is not None and kind is None)
            return None if inner is None or lost else replace(expression, by=inner, type_by=kind)


# ------------------------------------------------------------------------------------------------ the rest


def _with_rest(mapping: Mapping, sources: dict[str, Source]) -> Mapping:
    """Give the columns that nothing reads to the step that keeps the rest of its file, as custom fields."""
    steps = tuple(
        replace(step, fields=(*step.fields, *_rest_of(mapping, step, sources[step.file])))
        if step.keep_rest is not None
        else step
        for step in mapping.steps
    )
    return replace(mapping, steps=steps)


def _rest_of(mapping: Mapping, step: Step, source: Source) -> Iterator[FieldSpec]:
    read = mapping.columns_of_file(source.spec.name)
    rest = [column for column in _filled(source) if column not in read and not _is_dropped(source, column)]
    taken = {each.name for each in step.fields}
    for column in rest:
        name = _free_name(f"custom.{step.keep_rest}{_snake(column)}", taken)
        taken.add(name)
        reading = Reading(kind=Kind.TEXT)
        yield FieldSpec(
            name=name,
            value=Cell(columns=(column,), reading=reading),
            known=Known.UNKNOWN,
            kind=FieldKind.TEXT,
            label_en=column[:200],
        )


def _is_dropped(source: Source, column: str) -> bool:
    return any(fnmatchcase(column, pattern) for pattern in source.spec.not_kept)


def _filled(source: Source) -> list[str]:
    """Return the columns of a file in which anything stands, in its order."""
    empty = dict(enumerate(source.header))
    for row in read_rows(source):
        if isinstance(row, Fault):
            continue
        for position in [position for position in empty if _holds(row[1][position], source.spec.empty)]:
            del empty[position]
        if not empty:
            break
    return [column for position, column in enumerate(source.header) if position not in empty]


def _holds(cell: Any, empty: Iterable[str]) -> bool:  # noqa: ANN401  whatever a file holds
    return cell is not None and cell not in empty


def _snake(column: str) -> str:
    """Return a column's name as that of a custom field; of one in other letters, the letters' numbers."""
    spelt = "".join(sign if sign.isascii() else f"_{ord(sign):x}_" for sign in column)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", spelt)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:60]


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _with_unused(mapping: Mapping, sources: dict[str, Source]) -> dict[str, Source]:
    """Return the sources with the columns that hold something and that nothing reads."""
    found = {}
    for name, source in sources.items():
        read = mapping.columns_of_file(name)
        unused = tuple(column for column in _filled(source) if column not in read)
        found[name] = replace(source, unused=unused)
    return found
