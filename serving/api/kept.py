"""Segments and views of lists over HTTP: kept, listed, ended; and who is in a segment now."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.fields import model_of
from crm_core.filters import compile_filter
from crm_core.records import CustomRecord
from crm_core.saved import (
    LONGEST_NAME,
    LONGEST_WORD,
    SavedView,
    Segment,
    get_segment,
    get_view,
    list_segments,
    list_views,
)
from crm_core.saving import count_in, end_kept, keep_segment, keep_view
from serving.api.blueprint import answer, caller, documented, link_next, new_blueprint, plain_answer
from serving.api.conditional import created
from serving.api.pages import Key, PageQuery
from serving.api.records_given import Selection, plain_records
from serving.api.records_schemas import COLLECTIONS, FieldsQuery
from serving.paging import Listing, list_page
from serving.payloads import Asked, Given, Id, Taken, Utc
from serving.service import service, writing

api: APIBlueprint = new_blueprint(
    "kept", "Segments, which are filters with a name, and views, which are how a list was asked for."
)

TypeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Condition = Annotated[str, Field(min_length=1, max_length=2_000)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Sharing = Literal["own", "team", "all"]


class KeptPath(Asked):
    """Which of them."""

    id: Id = Field(description="Its id.")


class SegmentsQuery(PageQuery):
    """Which segments."""

    type: TypeName | None = Field(default=None, description="Only of this record type.")


class ViewsQuery(PageQuery):
    """Which views."""

    type: TypeName = Field(description="Of the list of this record type.")


class SegmentIn(Taken):
    """A segment to keep; your own one of the same type and name is replaced."""

    type: TypeName = Field(description="A record type, such as lead.")
    name: Name
    filter: list[Condition] = Field(min_length=1, max_length=20, description="As lists are filtered.")
    tag: Annotated[str, Field(max_length=LONGEST_WORD)] | None = Field(
        default=None, description="A tag that whatever fits carries, as long as it fits."
    )
    shared: Sharing = "own"


class SegmentOut(Given):
    """A segment."""

    id: int
    type: str
    name: str
    filter: list[str]
    tag: str | None
    shared: str
    user_id: int = Field(description="Who keeps it.")
    saved_at: Utc


class SegmentsPage(Given):
    """The segments that you may use, by name."""

    items: list[SegmentOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class SegmentCounted(SegmentOut):
    """A segment, and how many are in it now."""

    count: int | None = Field(description="Of the records that you see; null where you may not ask for them.")


class MembersQuery(FieldsQuery):
    """Which page of the records in a segment."""

    limit: int = Field(default=50, ge=1, le=200, description="Records on a page.")
    cursor: str | None = Field(default=None, max_length=400, description="`next_cursor` of the page before.")


class MembersOut(Given):
    """Records that are in a segment now, as the list of their type gives them."""

    items: list[dict[str, Any]]
    next_cursor: str | None


class ViewAsked(Taken):
    """How a list is asked for."""

    status: Annotated[str, Field(max_length=20)] | None = Field(default=None, description="null: any.")
    owner: Annotated[str, Field(max_length=20)] = Field(default="", description="An id, as text; empty: any.")
    q: Annotated[str, Field(max_length=200)] = Field(default="", description="What is searched for.")
    filter: list[Condition] = Field(default_factory=list, max_length=20)
    order: Annotated[str, Field(max_length=200)] = Field(default="", description="Such as -amount.")
    columns: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=12, description="Empty: the usual ones."
    )


class ViewIn(Taken):
    """A view to keep; your own one of the same type and name is replaced."""

    type: TypeName = Field(description="A record type, such as lead.")
    name: Name
    asked: ViewAsked
    shared: Sharing = "own"


class ViewOut(Given):
    """A view."""

    id: int
    type: str
    name: str
    asked: dict[str, Any]
    shared: str
    user_id: int = Field(description="Who keeps it.")
    saved_at: Utc


class ViewsPage(Given):
    """The views that you may use, by name."""

    items: list[ViewOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


# ---------------------------------------------------------------------------------------------- segments


@api.get("/segments", operation_id="list_segments", responses={"200": SegmentsPage, **documented()})
def list_kept_segments(query: SegmentsQuery) -> Response:
    """List the segments that you may use: your own, and those shared with you."""
    with service().store.reading() as session:
        if query.type is not None:
            model_of(session, query.type)  # a type that there is none of is refused
        found, more = query.part(list_segments(session, caller(), query.type), _by_name)
        return answer(SegmentsPage(items=[_segment(each) for each in found], next_cursor=more))


@api.post(
    "/segments",
    operation_id="create_segment",
    responses={"201": SegmentOut, **documented(400, 403, 404, 413, 415)},
)
def keep_new_segment(body: SegmentIn) -> Response:
    """Keep a filter as a segment; whoever uses it gets what fits of the records that they see."""
    with writing(caller(), Source.API) as transaction:
        made = keep_segment(
            transaction, caller(), body.type, body.name, body.filter, shared=body.shared, tag=body.tag
        )
        return created(_segment(made), f"segments/{made.id}")


@api.get(
    "/segments/<int:id>", operation_id="get_segment", responses={"200": SegmentCounted, **documented(404)}
)
def read_segment(path: KeptPath) -> Response:
    """Read a segment that you may use, and how many are in it now."""
    with service().store.reading() as session:
        found = get_segment(session, caller(), path.id)
        count = count_in(Reader(session, caller()), found)
        return answer(SegmentCounted(**_segment(found).model_dump(), count=count))


@api.get(
    "/segments/<int:id>/members",
    operation_id="list_segment_members",
    responses={"200": MembersOut, **documented(403, 404)},
)
def list_members(path: KeptPath, query: MembersQuery) -> Response:
    """List the records that are in a segment now, as far as you see them."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        kind = get_segment(session, caller(), path.id).record_type
        collection = COLLECTIONS.get(kind) or COLLECTIONS[CustomRecord.record_type]
        asked = Listing(filter=[f"segment:{path.id}"], limit=query.limit, cursor=query.cursor)
        page = list_page(session, caller(), collection.model, asked, record_type=kind)
        selection = Selection(reader, collection, kind, query.fields)
        items = plain_records(reader, collection, page.items, selection)
    return link_next(plain_answer({"items": items, "next_cursor": page.next_cursor}), page.next_cursor)


@api.delete("/segments/<int:id>", responses={"204": None, **documented(404)})
def delete_segment(path: KeptPath) -> Response:
    """Delete a segment that you keep; administrators, one that is shared."""
    with writing(caller(), Source.API) as transaction:
        end_kept(transaction, caller(), Segment, path.id)
    return Response(status=204)


# ------------------------------------------------------------------------------------------------- views


@api.get("/views", operation_id="list_views", responses={"200": ViewsPage, **documented()})
def list_kept_views(query: ViewsQuery) -> Response:
    """List the views of a list that you may use."""
    with service().store.reading() as session:
        model_of(session, query.type)
        found, more = query.part(list_views(session, caller(), query.type), _by_name)
        return answer(ViewsPage(items=[_view(each) for each in found], next_cursor=more))


@api.post(
    "/views", operation_id="create_view", responses={"201": ViewOut, **documented(400, 403, 404, 413, 415)}
)
def keep_new_view(body: ViewIn) -> Response:
    """Keep how a list is asked for."""
    asked = {name: value for name, value in body.asked.model_dump().items() if name != "columns" or value}
    with writing(caller(), Source.API) as transaction:
        model_of(transaction.session, body.type)
        compile_filter(Reader(transaction.session, caller()), body.type, body.asked.filter)
        made = keep_view(transaction, caller(), body.type, body.name, asked, body.shared)
        return created(_view(made), f"views/{made.id}")


@api.get("/views/<int:id>", operation_id="get_view", responses={"200": ViewOut, **documented(404)})
def read_view(path: KeptPath) -> Response:
    """Read a view that you may use."""
    with service().store.reading() as session:
        return answer(_view(get_view(session, caller(), path.id)))


@api.delete("/views/<int:id>", responses={"204": None, **documented(404)})
def delete_view(path: KeptPath) -> Response:
    """Delete a view that you keep; administrators, one that is shared."""
    with writing(caller(), Source.API) as transaction:
        end_kept(transaction, caller(), SavedView, path.id)
    return Response(status=204)


def _by_name(kept: Segment | SavedView) -> Key:
    return (kept.name, kept.id)


def _segment(kept: Segment) -> SegmentOut:
    return SegmentOut(
        id=kept.id,
        type=kept.record_type,
        name=kept.name,
        filter=list(kept.filter),
        tag=kept.tag,
        shared=kept.shared,
        user_id=kept.user_id,
        saved_at=kept.saved_at,
    )


def _view(kept: SavedView) -> ViewOut:
    return ViewOut(
        id=kept.id,
        type=kept.record_type,
        name=kept.name,
        asked=kept.asked,
        shared=kept.shared,
        user_id=kept.user_id,
        saved_at=kept.saved_at,
    )
