"""Searching over HTTP, and records that may be the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.duplicates import declare_distinct_as, merge_as
from crm_core.errors import InvalidValueError
from crm_core.search_index import SEARCHED
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.pages import PageQuery, cursor_of
from serving.copies import LIKELY, place_of, read_copies
from serving.finding import Asked as Sought
from serving.finding import find_page
from serving.payloads import Asked, Given, Id, RecordPath, Taken
from serving.service import service, writing
from serving.web.titles import told_of

api: APIBlueprint = new_blueprint("finding", "Searching everything, and records that may be the same.")

RecordType = Literal["lead", "contact", "account"]
TYPE_OF: dict[str, RecordType] = {"leads": "lead", "contacts": "contact", "accounts": "account"}
"""Record types by the names that paths have for them."""

ASKED_AS = {"types": "type", "after": "cursor"}
"""What a search takes, by the names that the call has for it."""


class SearchQuery(Asked):
    """What to look for."""

    q: Annotated[str, Field(min_length=1, max_length=400)] = Field(
        description="Names, companies, words of notes, mail addresses, phone numbers; slips are forgiven."
    )
    type: Annotated[str, Field(max_length=400)] | None = Field(
        default=None, description=f"Only these record types, with commas between: {', '.join(SEARCHED)}."
    )
    limit: int = Field(default=20, ge=1, le=100, description="Hits on a page.")
    cursor: str | None = Field(default=None, max_length=100, description="`next_cursor` of the page before.")


class HitOut(Given):
    """A record that fits, best through one of its fields."""

    record_type: str
    id: int
    score: float = Field(description="How well it fits, up to 1.")
    field: str = Field(description="The field that fits best.")
    excerpt: str = Field(description="The part of that field that shows why.")
    title: str = Field(description="What the record is called.")


class HitsPage(Given):
    """Hits, best first."""

    items: list[HitOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class DuplicatesQuery(PageQuery):
    """Which records to compare."""

    record_type: RecordType = Field(description="The type of records to compare.")
    at_least: float = Field(
        default=LIKELY, ge=0, le=1, description="Only pairs at least as likely to be the same."
    )


class EvidenceOut(Given):
    """A fact about two records."""

    fact: str
    log_odds: float
    en: str
    zh: str


class PairOut(Given):
    """Two records that may be the same, with the fields that they are compared by."""

    record_type: str
    likelihood: float = Field(description="That they are the same, in [0, 1].")
    evidence: list[EvidenceOut] = Field(description="Without what comes from fields that you may not see.")
    first: dict[str, Any]
    second: dict[str, Any]


class PairsPage(Given):
    """Pairs of records of which you may see both, likeliest first."""

    items: list[PairOut]
    total: int
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class TypedPath(RecordPath):
    """Which record of which type."""

    type: Literal["leads", "contacts", "accounts"] = Field(description="The type, in the plural.")

    @property
    def record_type(self) -> RecordType:
        """The record type."""
        return TYPE_OF[self.type]


class MergeIn(Taken):
    """The record that becomes part of the one in the path."""

    gone_id: Id = Field(description="It is deleted; what points at it points at the other one then.")


class DistinctIn(Taken):
    """The record that is not the same as the one in the path."""

    other_id: Id


class MergedOut(BaseModel):
    """What was merged."""

    record_type: str
    kept_id: int
    gone_id: int


class DistinctOut(BaseModel):
    """What was found to be different."""

    record_type: str
    ids: list[int]


@api.get("/search", responses={"200": HitsPage, **documented()})
def search_records(query: SearchQuery) -> Response:
    """Search everything that you may see, best first."""
    types = None if query.type is None else [name.strip() for name in query.type.split(",")]
    asked = Sought(text=query.q, types=types, limit=query.limit, after=query.cursor)
    try:
        with service().store.reading() as session:
            page = find_page(session, caller(), asked)
            told = told_of(Reader(session, caller()), ((hit.record_type, hit.id) for hit in page.hits))
    except InvalidValueError as error:
        field = ASKED_AS.get(error.field, error.field)
        raise InvalidValueError(field, error.value, error.expected) from error
    items = [
        HitOut.model_validate(replace(hit, title=told.get((hit.record_type, hit.id), hit.title)))
        for hit in page.hits
    ]
    return answer(HitsPage(items=items, next_cursor=page.next_cursor))


@api.get("/duplicates", responses={"200": PairsPage, **documented()})
def list_duplicates(query: DuplicatesQuery) -> Response:
    """List pairs of records that may be the same and of which you may see both, likeliest first."""
    with service().store.reading() as session:
        found = read_copies(
            session,
            caller(),
            query.record_type,
            at_least=query.at_least,
            limit=query.limit,
            after=query.keyed(float, int, int),
        )
    told, more = found.to_json(), found.next_offset is not None
    following = cursor_of(place_of(found.pairs[-1])) if more else None
    page = {"items": told["pairs"], "total": told["total"], "next_cursor": following}
    return answer(PairsPage.model_validate(page))


@api.post("/<type>/<int:id>/merge", responses={"200": MergedOut, **documented(400, 403, 404, 409, 413, 415)})
def merge_record(path: TypedPath, body: MergeIn) -> Response:
    """Make another record part of this one; you must be allowed to change both."""
    with writing(caller(), Source.API) as transaction:
        merge_as(transaction, caller(), path.record_type, keep_id=path.id, gone_id=body.gone_id)
    return answer(MergedOut(record_type=path.record_type, kept_id=path.id, gone_id=body.gone_id))


@api.post("/<type>/<int:id>/distinct", responses={"200": DistinctOut, **documented(400, 403, 404, 413, 415)})
def mark_distinct(path: TypedPath, body: DistinctIn) -> Response:
    """Remember that another record is not the same as this one; the two are not listed any more."""
    with writing(caller(), Source.API) as transaction:
        declare_distinct_as(transaction, caller(), path.record_type, path.id, body.other_id)
    return answer(DistinctOut(record_type=path.record_type, ids=sorted((path.id, body.other_id))))
