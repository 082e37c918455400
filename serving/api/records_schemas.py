"""What the API takes and gives of each record type, made from the columns of the store.

A column that comes later takes part by itself. What only models, verbs or the store itself may write is in no
schema that is taken; a credential is in none at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, create_model
from pydantic.fields import FieldInfo
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer

from crm_core.access import CREDENTIALS, SUBJECT_TYPES
from crm_core.columns import Day, Instant, Json, Money
from crm_core.pipelines import PIPELINES
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, SCORE_COLUMNS, CustomRecord, Owned, Record, Scored
from crm_core.search_index import SEARCHED
from crm_core.sources import LEAD_SOURCES
from crm_core.ticket_clocks import CLOCK_FIELDS as TICKET_CLOCKS
from crm_core.validation import CHOICES, RANGES, columns_of
from serving.editing import FIXED
from serving.payloads import MAIL_PATTERN, Asked, CustomValue, Given, Id, Past, Shown, Taken, Utc, whole

M = TypeVar("M", bound=BaseModel)

_OF_THE_STORE = SCORE_COLUMNS | {
    "id",
    "recorded_at",
    "deleted_at",
    "version",
    "merged_into_id",
    "erased_at",
    "type_id",
    "custom",
}

_BY_VERBS: dict[str, frozenset[str]] = {
    "lead": OUTCOME_FIELDS["lead"],
    "deal": frozenset({"status", "closed_at", "lost_reason"}),
    "ticket": TICKET_CLOCKS,
    "quote": frozenset({"approval", "rejected_reason"}),
    "line": frozenset({"list_price"}),
}
"""What conversion, disqualifying and closing write, and what the clocks of tickets do."""

_FIXED_EVERYWHERE = frozenset({"occurred_at", "scoring_opt_out"})

_NOT_GIVEN = SCORE_COLUMNS | CREDENTIALS | {"deleted_at", "type_id", "custom"}

ALWAYS_GIVEN: Final = ("id", "version", "occurred_at", "recorded_at")
"""What an answer holds whichever fields were asked for."""


def _day(value: date) -> date:
    if value.year < 1900:
        raise ValueError("expected a day since 1900")
    return value


def _no_script(value: str) -> str:
    # Browsers read over a tab or a control character within `javascript:`.
    if not value.isprintable() or value.strip().lower().startswith(
        ("javascript:", "data:", "vbscript:", "crm:")
    ):
        raise ValueError("expected the address of a file elsewhere, not a script")
    return value


DayIn = Annotated[date, AfterValidator(_day)]
_AMOUNT = r"^-?[0-9]{1,15}(\.[0-9]{1,4})?$"


def _money(value: object) -> Decimal:
    if not isinstance(value, str) or not re.match(_AMOUNT, value, re.ASCII) or value.endswith("\n"):
        raise ValueError("expected an amount as a decimal number in a text, such as 99.50")
    return Decimal(value)


MoneyIn = Annotated[
    Decimal,
    BeforeValidator(_money),
    WithJsonSchema({"type": "string", "pattern": _AMOUNT, "examples": ["99.50"]}),
]
_EMAIL = Annotated[str, Field(min_length=3, max_length=320, pattern=MAIL_PATTERN)]

_SPECIAL: dict[str, Any] = {
    "email": _EMAIL,
    "currency": Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])],
    "sha256": Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")],
    "language": Literal["en", "zh"],
    "uri": Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_no_script)],
    "competitors": Annotated[list[Annotated[str, Field(min_length=1, max_length=300)]], Field(max_length=50)],
    "mentions": Annotated[list[Id], Field(max_length=100)],
    "subject_type": Literal[SUBJECT_TYPES],
    "pipeline": Literal[tuple(PIPELINES)],
}
"""Fields whose column tells too little, by name."""

_LISTS: dict[str, Any] = {"competitors": list[str], "mentions": list[int]}

_NOTES: dict[tuple[str, str], str] = {
    ("lead", "source"): f"Any word; usual are {', '.join(source.key for source in LEAD_SOURCES)}.",
    ("deal", "stage"): "An open stage of the pipeline; default its first. Set on a deal, it moves the deal.",
    ("quote", "number"): "Default the next one of the year, such as Q-2026-0001.",
    ("quote", "discount"): "Share taken off the sum of the lines, in [0, 1].",
    ("quote", "amount"): "What its lines come to; only of one without lines may it be given.",
    ("comment", "mentions"): "Ids of the users it calls on.",
}

CustomIn = dict[Annotated[str, Field(max_length=100)], CustomValue]
_CUSTOM = (
    "Values of declared custom fields; days as 2026-03-02, instants as 2026-03-02T09:00:00Z, amounts as "
    "decimal numbers in texts, as they are given back."
)


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A record type over HTTP: its path, its words, and its schemas."""

    record_type: str
    model: type[Record]
    path: str
    noun: str
    taken: type[BaseModel]
    patched: type[BaseModel]
    given: type[Given]
    page: type[Given]
    query: type[Asked]

    @property
    def name(self) -> str:
        """Return the collection's name: the end of its path."""
        return self.path.split("/", 1)[0]

    @property
    def plural(self) -> str:
        """Return how people call several of them."""
        return plural_of(self.noun)

    @property
    def is_scored(self) -> bool:
        """Return whether models say something of its records."""
        return issubclass(self.model, Scored)


def plural_of(noun: str) -> str:
    """Return the plural of a noun."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def article(noun: str) -> str:
    """Return a noun with `a` or `an` before it."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def _plainly(name: str) -> Callable[[dict[str, Any]], None]:
    """Leave out of a field's schema that it has a default, where the default only means that nothing came."""

    def edit(schema: dict[str, Any]) -> None:
        schema.pop("default", None)
        schema["title"] = name

    return edit


def taken_type(record_type: str, column: Column[Any]) -> Any:  # noqa: ANN401  a type for pydantic
    """Return what a field takes, as a type that pydantic checks strictly."""
    name, kind = str(column.key), column.type
    if name in _SPECIAL:
        return _SPECIAL[name]
    if (record_type, name) in CHOICES:
        return _words(CHOICES[record_type, name])
    if column.foreign_keys or name == "subject_id":
        return Id
    return _number(record_type, name, column) if isinstance(kind, Integer | Float) else _plain(column)


def _plain(column: Column[Any]) -> Any:  # noqa: ANN401  as above
    kind = column.type
    for each, found in ((Instant, Past), (Day, DayIn), (Money, MoneyIn), (Boolean, bool)):
        if isinstance(kind, each):
            return found
    if isinstance(kind, Json):
        raise TypeError(f"{column}: say in _SPECIAL what it takes")
    return Annotated[str, Field(min_length=1, max_length=getattr(kind, "length", None) or 100_000)]


def _number(record_type: str, name: str, column: Column[Any]) -> Any:  # noqa: ANN401  as above
    low, high = RANGES.get((record_type, name), (None, None))
    if isinstance(column.type, Float):
        return Annotated[float, Field(ge=low, le=high)]
    most = 2**63 - 1 if isinstance(column.type, BigInteger) else 2**31 - 1
    return whole(-most if low is None else int(low), most if high is None else int(high))


def _words(choices: type[StrEnum]) -> Any:  # noqa: ANN401  as above
    return Literal[tuple(choice.value for choice in choices)]


def given_type(record_type: str, column: Column[Any]) -> Any:  # noqa: ANN401  as above
    """Return what a field gives."""
    name, kind = str(column.key), column.type
    if name in _LISTS:
        return _LISTS[name]
    if (record_type, name) in CHOICES:
        return _words(CHOICES[record_type, name])
    kinds: tuple[tuple[type, Any], ...] = (
        (Instant, Utc),
        (Day, date),
        (Money, Decimal),
        (Boolean, bool),
        (Integer, int),
        (Float, float),
    )
    return next((found for each, found in kinds if isinstance(kind, each)), str)


def _about(record_type: str, column: Column[Any]) -> str | None:
    name = str(column.key)
    if (record_type, name) in _NOTES:
        return _NOTES[record_type, name]
    points_to = next((key.column.table.name for key in column.foreign_keys), None)
    told = [
        (column.comment[0].upper() + column.comment[1:] + ".") if column.comment else "",
        f"Id in {points_to.replace('_', ' ')}." if points_to and not column.comment else "",
        "A decimal number, as text." if isinstance(column.type, Money) else "",
    ]
    return " ".join(text for text in told if text) or None


def _writable(model: type[Record]) -> dict[str, Column[Any]]:
    left_out = _OF_THE_STORE | CREDENTIALS | _BY_VERBS.get(model.record_type, frozenset())
    return {name: column for name, column in columns_of(model).items() if name not in left_out}


def _defaulted(model: type[Record], name: str, column: Column[Any]) -> bool:
    """Tell whether a field that cannot be empty may be left out all the same."""
    by_the_store = {("deal", "stage"), ("quote", "number")}
    return column.default is not None or name == "occurred_at" or (model.record_type, name) in by_the_store


def _taken_field(model: type[Record], name: str, column: Column[Any]) -> tuple[Any, FieldInfo]:
    kind, about = taken_type(model.record_type, column), _about(model.record_type, column)
    if column.nullable:
        kind = kind | None
    elif not _defaulted(model, name, column):
        return kind, Field(description=about)
    return kind, _optional(name, about)


def _optional(name: str, about: str | None) -> FieldInfo:
    # Its overloads speak of the default's type; what comes back is always this.
    return cast(
        "FieldInfo",
        Field(
            default=None, description=about, json_schema_extra=_plainly(name.replace("_", " ").capitalize())
        ),
    )


def _taken(model: type[Record], noun: str) -> type[BaseModel]:
    fields: dict[str, tuple[Any, FieldInfo]] = {
        name: _taken_field(model, name, column) for name, column in _writable(model).items()
    }
    fields["custom"] = (CustomIn | None, _optional("custom", _CUSTOM))
    return _model(f"{model.__name__}In", f"{article(noun).capitalize()} to be written.", Taken, fields)


def _patched(model: type[Record], noun: str) -> type[BaseModel]:
    fixed = _FIXED_EVERYWHERE | FIXED.get(model.record_type, frozenset())
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    for name, column in _writable(model).items():
        if name not in fixed:
            kind = taken_type(model.record_type, column)
            kind = kind | None if column.nullable else kind
            fields[name] = (kind, _optional(name, _about(model.record_type, column)))
    fields["custom"] = (CustomIn | None, _optional("custom", f"{_CUSTOM} Those not named stay."))
    about = f"Fields of {article(noun)} that change: those not named stay, null empties."
    return _model(f"{model.__name__}Patch", about, Taken, fields)


def _given(model: type[Record], noun: str) -> type[Given]:
    fields: dict[str, tuple[Any, Any]] = {}
    for name, column in columns_of(model).items():
        if name in _NOT_GIVEN:
            continue
        kind = given_type(model.record_type, column)
        about = _about(model.record_type, column)
        if name in ALWAYS_GIVEN:
            fields[name] = (kind, Field(description=about))
        else:
            fields[name] = (kind | None, _optional(name, about))
    if model is CustomRecord:
        fields["record_type"] = (str, Field(description="The declared type that it is of."))
    fields["custom"] = (
        dict[str, Any] | None,
        _optional("custom", "Values of declared custom fields, by name."),
    )
    if issubclass(model, Scored):
        fields["prediction"] = (Shown | None, _optional("prediction", "Null: not scored yet."))
    fields["withheld"] = (list[str], Field(description="Fields that you may not see."))
    about = (
        f"{article(noun).capitalize()}. A field is null where it is empty, or where `withheld` names it; it "
        "is left out where others were asked for."
    )
    return _model(f"{model.__name__}Out", about, Given, fields)


def _model(name: str, about: str, base: type[M], fields: Mapping[str, Any]) -> type[M]:
    made: type[M] = create_model(name, __base__=base, __doc__=about, __module__=__name__, **fields)
    return made


class FieldsQuery(Asked):
    """Which fields of a record."""

    fields: str | None = Field(
        default=None,
        min_length=1,
        max_length=2_000,
        description=(
            "Only these fields, with commas between, such as `name,custom.grade`; "
            f"{', '.join(ALWAYS_GIVEN)} and withheld are always given. Of scored records, `probability`, "
            "`score` and whatever else a score consists of give the `prediction` that holds them."
        ),
    )


class RecordsQuery(FieldsQuery):
    """Which page of which records."""

    limit: int = Field(default=50, ge=1, le=200, description="Records on a page.")
    cursor: str | None = Field(
        default=None, max_length=8_000, description="`next_cursor` of the page before."
    )
    order: str | None = Field(
        default=None,
        min_length=1,
        max_length=400,
        description=(
            "Up to 3 fields to sort by, with commas between, `-` before one for its greatest first; what is "
            "empty comes last."
        ),
    )
    filter: list[Annotated[str, Field(max_length=2_000)]] = Field(
        default_factory=list,
        max_length=20,
        description=(
            "Only records for which this holds, as FIELD:OP:VALUE, such as `amount:ge:1000`, "
            "`custom.grade:in:A,B` or `custom.tender:eq:true`; given several times, all must hold."
        ),
    )


def _query(model: type[Record], plural: str) -> type[Asked]:
    fields: dict[str, tuple[Any, Any]] = {}
    if SEARCHED[model.record_type]:
        about = "Only records whose names contain this."
        fields["search"] = (str | None, Field(default=None, max_length=200, description=about))
    if issubclass(model, Owned):
        fields["owner_id"] = (Id | None, Field(default=None, description="Only records of this owner."))
    if model.record_type in {"lead", "deal"}:
        words = (*(choice.value for choice in CHOICES[model.record_type, "status"]), "any")
        about = f"Only {plural} with this status."
        fields["status"] = (Literal[words], Field(default="open", description=about))
    name = f"{plural_of(model.__name__)}Query"
    return _model(name, f"Which {plural}.", RecordsQuery, fields)


def _collection(model: type[Record]) -> Collection:
    record_type = model.record_type
    noun = "record of a declared type" if model is CustomRecord else record_type.replace("_", " ")
    plural = "records of a declared type" if model is CustomRecord else plural_of(noun)
    given = _given(model, noun)
    page = _model(
        f"{plural_of(model.__name__)}Page",
        f"A page of {plural}.",
        Given,
        {
            "items": (list[given], ...),  # type: ignore[valid-type]  # the schema made above
            "next_cursor": (
                str | None,
                Field(description="Ask with it for the next page; null on the last."),
            ),
        },
    )
    return Collection(
        record_type=record_type,
        model=model,
        path="custom/<string:type>" if model is CustomRecord else plural_of(record_type).replace("_", "-"),
        noun=noun,
        taken=_taken(model, noun),
        patched=_patched(model, noun),
        given=given,
        page=page,
        query=_query(model, plural),
    )


COLLECTIONS: Final[dict[str, Collection]] = {name: _collection(model) for name, model in RECORD_TYPES.items()}
"""Every record type over HTTP, by its name."""
