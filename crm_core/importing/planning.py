"""From what a person chose on a page to a mapping: which column becomes which field of one record type.

Whoever may not change every record of the type imports new ones only, and they are theirs: no row of a file
can reach a colleague's record. What the file says counts as learned when it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Float, Integer
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.clock import Clock, day_of, instant
from crm_core.columns import MONEY_SCALE, Day, Instant, Money
from crm_core.declared import declarations
from crm_core.errors import AccessDeniedError, MappingError
from crm_core.fields import CUSTOM, FieldDeclaration, FieldKind, list_fields
from crm_core.importing.detecting import settle
from crm_core.importing.expressions import Constant
from crm_core.importing.mapping import is_mapped, parse_mapping
from crm_core.importing.readers import open_source
from crm_core.importing.report import ImportReport, Refusal, RefusalLog, StepReport, why_refused
from crm_core.importing.rows import StepRows
from crm_core.importing.specs import FieldSpec, FileSpec, Mapping
from crm_core.phrases import Phrase
from crm_core.pipelines import open_stages
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES
from crm_core.validation import columns_of

IMPORTABLE: Final = ("lead", "account", "contact", "deal")
"""Record types that a page imports; the command line imports all."""

_LINKS: Final = {"contact": ("account_id",), "deal": ("account_id", "contact_id")}
"""Links that a column may name, by the key of the other record."""

_NOT_OFFERED: Final = frozenset({"scoring_opt_out", "campaign_id", "parent_id", "competitors", "pipeline"})

FILE: Final = "file"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a person chose: `columns` are fields by column; `key` the column that tells records apart.

    Keys begin with `origin`, so that two files may both have a row 1; without a `key` the row's number is
    one. `dated` is the column that says since when there is a record; without it, that is `at`, when the file
    came.
    """

    record_type: str
    origin: str
    at: datetime
    columns: Dictionary[str, str] = field(default_factory=dict)
    key: str | None = None
    dated: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, stored: Dictionary[str, Any]) -> Plan:
        """Return a stored plan."""
        return cls(**{**stored, "at": datetime.fromisoformat(stored["at"])})


def check_may_import(reader: Reader, record_type: str) -> None:
    """Raise AccessDeniedError unless the reader may create records of a type that pages import."""
    if record_type not in IMPORTABLE:
        raise MappingError(
            Phrase(
                "a page imports {targets}, not {record_type!r}",
                targets=tuple(IMPORTABLE),
                record_type=record_type,
            )
        )
    reader.check_may_create(RECORD_TYPES[record_type])


def may_change_all(reader: Reader, record_type: str) -> bool:
    """Say whether an import may also change records that there are."""
    return reader.right(record_type).write is Scope.ALL


def fields_offered(reader: Reader, record_type: str) -> dict[str, FieldDeclaration | None]:
    """Return the fields that a column may become, with the declarations of custom ones."""
    model = RECORD_TYPES[record_type]
    outcome = OUTCOME_FIELDS.get(record_type, frozenset())
    links = _LINKS.get(record_type, ()) if may_change_all(reader, record_type) else ()
    plain: dict[str, FieldDeclaration | None] = {
        name: None
        for name, column in columns_of(model).items()
        if is_mapped(name, column)
        and name not in outcome | _NOT_OFFERED
        and (not column.foreign_keys or name in links)
        and reader.may_write_field(record_type, name)
    }
    return plain | {
        each.name: each
        for each in list_fields(reader.session, record_type)
        if each.name.startswith(CUSTOM)
        and each.kind not in {None, FieldKind.REFERENCE}
        and each.retired_at is None
        and reader.may_write_field(record_type, each.name)
    }


def mapping_of(reader: Reader, plan: Plan, spec: FileSpec) -> Mapping:
    """Return the mapping that a plan says; raise MappingError or AccessDeniedError for one that cannot be.

    The rights are those of now: a plan that was made while one had more of them is refused.
    """
    check_may_import(reader, plan.record_type)
    offered = fields_offered(reader, plan.record_type)
    for name in plan.columns.values():
        if name not in offered:
            raise AccessDeniedError(
                Phrase(
                    "the role {role} may not import {record_type}.{field}",
                    role=reader.user.role,
                    record_type=plan.record_type,
                    field=name,
                )
            )
    if len(set(plan.columns.values())) < len(plan.columns):
        raise MappingError("two columns cannot become the same field")
    if not plan.columns:
        raise MappingError("choose at least one column to import")
    mapping = parse_mapping(_document(plan, offered))
    (step,) = mapping.steps
    whole = may_change_all(reader, plan.record_type)
    if not whole:
        mine = FieldSpec(name="owner_id", value=Constant(value=reader.user.id), known=None)
        step = replace(step, fields=(*step.fields, mine), if_known="keep")
    if plan.key is None:
        step = replace(step, by_line=f"{plan.origin}:{plan.at:%Y%m%dT%H%M%S}:")
    return replace(mapping, files={FILE: replace(spec, name=FILE)}, steps=(step,), by_hand=True)


def _document(plan: Plan, offered: Dictionary[str, FieldDeclaration | None]) -> dict[str, Any]:
    """Return the plan as a mapping document says it."""
    plain = {
        name: _value(plan, name, column)
        for column, name in plan.columns.items()
        if not name.startswith(CUSTOM)
    }
    custom = {
        name.removeprefix(CUSTOM): _custom(declared, column)
        for column, name in plan.columns.items()
        if (declared := offered[name]) is not None
    }
    if plan.record_type == "deal" and "stage" not in plain:
        plain["stage"] = {"constant": open_stages()[0].key}
    step: dict[str, Any] = {
        "name": plan.record_type,
        "record": plan.record_type,
        "file": FILE,
        "external_id": {"constant": plan.origin} if plan.key is None else _keyed(plan, plan.key),
        "occurred_at": _since(plan),
        "recorded_at": "now",
        "fields": plain,
        "custom": custom,
    }
    return {"name": plan.origin, "files": {FILE: {"path": "any.csv"}}, "records": [step]}


def _keyed(plan: Plan, column: str) -> dict[str, Any]:
    if set(column) & set("{}"):
        raise MappingError(
            Phrase("the column {column!r} cannot tell records apart: rename it without braces", column=column)
        )
    return {"template": f"{plan.origin}:{{{column}}}"}


def _since(plan: Plan) -> dict[str, Any]:
    if plan.dated is None:
        return {"constant": plan.at.isoformat()}
    return {"column": plan.dated, "format": "detect"}


def _value(plan: Plan, name: str, column: str) -> dict[str, Any]:
    kind = columns_of(RECORD_TYPES[plan.record_type])[name]
    if kind.foreign_keys:
        return {"external_id": _keyed(plan, column)}
    return {"column": column, **_reading(kind.type)}


def _reading(stored: Any) -> dict[str, Any]:  # noqa: ANN401  any column type
    if isinstance(stored, Instant | Day):
        return {"format": "detect"}
    return {"decimal": "detect"} if isinstance(stored, Money | Integer | Float) else {}


def _custom(declared: FieldDeclaration, column: str) -> dict[str, Any]:
    found: dict[str, Any] = {"column": column, "kind": declared.kind, "known": declared.known}
    if declared.kind in {FieldKind.INSTANT, FieldKind.DAY}:
        found["format"] = "detect"
    elif declared.kind in {FieldKind.NUMBER, FieldKind.MONEY}:
        found["decimal"] = "detect"
    elif declared.kind == FieldKind.CHOICE:
        found["choices"] = {
            each["value"]: [label for label in (each["label_en"], each["label_zh"]) if label]
            for each in declared.choices or ()
        }
    return found


# ---------------------------------------------------------------- what would become of the first rows


class Previewed(NamedTuple):
    """A row as it would become: the values by field, or why it would be refused."""

    line: int
    values: dict[str, Any] | None
    refused: str | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The first rows, how the columns are written, and how many rows there are."""

    rows: Sequence[Previewed]
    found_out: Sequence[str]


def preview(session: Session, mapping: Mapping, folder: Path, clock: Clock, *, limit: int) -> Preview:
    """Return what would become of the first rows, nothing written.

    Raises MappingError or SourceFileError as the import would. What only the store can tell (a repeated key,
    a link that leads nowhere) is told by a dry run.
    """
    (spec,) = mapping.files.values()
    source = open_source(spec, folder, mapping.columns_of_file(FILE))
    settled, found = settle(mapping, {FILE: source})
    (step,) = settled.steps
    kinds = {each.name: each.kind for each in step.fields}
    report = StepReport(step=step.name, record_type=step.record_type, event=None, file=spec.path)
    whole = ImportReport(mapping=mapping.name)
    with RefusalLog(whole, None) as refusals:
        rows = StepRows(step, source, {}, report, refusals, clock, declarations(session))
        seen: list[Previewed] = []
        for candidate in islice(rows.candidates(), limit):
            if candidate is None:
                seen.append(_refused(whole.refusals[-1]))
            else:
                values = {
                    name: readable_value(kinds.get(name), value)
                    for name, value in candidate.values.items()
                    if name != "owner_id"
                }
                seen.append(Previewed(line=candidate.line, values=values, refused=None))
    return Preview(rows=seen, found_out=[each.in_words() for each in found])


def readable_value(kind: FieldKind | None, value: Any) -> Any:  # noqa: ANN401  any value
    """Return a custom field's stored value as what it means."""
    match kind:
        case FieldKind.INSTANT if value is not None:
            return instant(value)
        case FieldKind.DAY if value is not None:
            return day_of(value)
        case FieldKind.MONEY if value is not None:
            return Decimal(value) / MONEY_SCALE
    return value


def _refused(refusal: Refusal) -> Previewed:
    why = why_refused(refusal.column, refusal.value, refusal.reason)
    return Previewed(line=refusal.line, values=None, refused=why)
