"""Looking things up in another file: one value for each key, and no more, is held in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crm_core.errors import InvalidValueError
from crm_core.importing.compiling import Compiler, folding
from crm_core.importing.readers import Fault, Source, read_rows
from crm_core.importing.specs import LookupSpec


def read_lookup(
    spec: LookupSpec, source: Source, refuse: Callable[[int, InvalidValueError], None]
) -> dict[str, Any]:
    """Return one value a key; a row whose value cannot be read is refused and left out."""
    compiler = Compiler(source.header, empty=source.spec.empty, lookups={})
    key_of, value_of, fold = compiler.reader(spec.key), compiler.reader(spec.value), folding(spec.take)
    found: dict[str, Any] = {}
    for row in read_rows(source):
        if isinstance(row, Fault):
            continue  # the step that reads the file names it
        line, cells = row
        try:
            key, value = key_of(cells), value_of(cells)
        except InvalidValueError as error:
            refuse(line, error)
            continue
        if key is not None and value is not None:
            found[key] = fold(found[key], value) if key in found else value
    return found
