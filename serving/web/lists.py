"""Lists as somebody asks for them: filters, order, columns, views, segments, and work on many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.errors import CRMError
from crm_core.fields import CUSTOM, list_fields
from crm_core.filters import SEGMENT, Askable, list_askable
from crm_core.recall import recalled
from crm_core.records import User
from crm_core.saved import (
    SavedView,
    Segment,
    find_view,
    likes_of,
    list_segments,
    list_views,
    may_end,
    set_first_view,
)
from crm_core.saving import count_in, end_kept, keep_segment, keep_view
from serving.list_work import Asking, begin_work, ids_of
from serving.owners import list_owners
from serving.paging import Listing
from serving.service import page_session, service, writing
from serving.web.language import choose_language, gettext
from serving.web.records import CUSTOMERS, DEALS, LEADS, ROWS, Kind
from serving.web.refusals import refusal
from serving.web.value_words import condition_said
from serving.web.words import word

pages = Blueprint("lists", __name__, url_prefix="/lists")

KINDS = {kind.record_type: kind for kind in (LEADS, DEALS, CUSTOMERS)}
_OF = "<any(lead, deal, account):record_type>"

USUAL = ("probability", "why", "owner", "touch", "scored_at")
"""The columns of a list that nobody chose others for; the score and the name are always there."""

OURS = ("probability", "why", "owner", "touch", "scored_at", "tags")
"""Columns with a look of their own."""

_NOT_COLUMNS = frozenset(
    {"id", "custom", "reasons", "deleted_at", "erased_at", "merged_into_id", "score", "grade", "probability"}
) | {"scored_at", "name", "owner_id"}
SEGMENTS_SHOWN = 300
SEGMENTS_COUNTED = 40
"""Segments of one page of which it is counted who is in them: each is a query over all records."""

_MOST_COLUMNS = 12
_LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A list as it is asked for, as an address says it and a view keeps it."""

    status: str | None = None
    owner: str = ""
    q: str = ""
    filter: tuple[str, ...] = ()
    order: str = ""
    columns: tuple[str, ...] = USUAL

    @classmethod
    def read(cls, kind: Kind, args: MultiDict[str, str]) -> Chosen:
        """Return what an address or form asks for; what makes no sense in it is left out."""
        status = args.get("status", "open")
        columns = tuple(name for text in args.getlist("columns") for name in text.split(",") if name)
        return cls(
            status=status if status in kind.statuses else None,
            owner=args.get("owner", ""),
            q=args.get("q", "").strip()[:_LONGEST],
            filter=_conditions(args),
            order=args.get("order", "")[:_LONGEST],
            columns=tuple(dict.fromkeys(columns))[:_MOST_COLUMNS] or USUAL,
        )

    @classmethod
    def kept(cls, asked: Mapping[str, Any]) -> Chosen:
        """Return what a view keeps."""
        held = {
            **asked,
            "filter": tuple(asked.get("filter", ())),
            "columns": tuple(asked.get("columns", USUAL)),
        }
        return cls(**{name: value for name, value in held.items() if name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        """Return what a view keeps."""
        return {**vars(self), "filter": list(self.filter), "columns": list(self.columns)}

    def args(self, **others: Any) -> dict[str, Any]:
        """Return the parts of an address that ask for this, with some of them changed."""
        said = vars(replace(self, **others))
        return {
            "status": said["status"] or "all",
            "owner": said["owner"] or None,
            "q": said["q"] or None,
            "filter": list(said["filter"]) or None,
            "order": said["order"] or None,
            "columns": None if said["columns"] == USUAL else ",".join(said["columns"]),
        }

    def listing(self, cursor: str | None = None) -> Listing:
        """Return what is asked of the store."""
        owner = self.owner
        return Listing(
            status=self.status,
            owner_id=int(owner) if owner.isascii() and owner.isdigit() and len(owner) < 18 else None,
            search=self.q or None,
            filter=self.filter,
            order=self.order or None,
            cursor=cursor,
            limit=ROWS,
        )


def _conditions(args: MultiDict[str, str]) -> tuple[str, ...]:
    """Return the conditions of an address, with the one that the small form adds."""
    found = [text for text in args.getlist("filter") if text]
    name, op, value = args.get("f", ""), args.get("op", ""), args.get("v", "").strip()
    if name == SEGMENT and value:
        found.append(f"{SEGMENT}:{value}")
    elif name and op in {"empty", "not_empty"}:
        found.append(f"{name}:{op}")
    elif name and op:
        found.append(f"{name}:{op}:{value}")
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a list page shows around its rows."""

    record_type: str
    chosen: Chosen
    view: SavedView | None
    views: Sequence[SavedView]
    segments: Sequence[Segment]
    askable: Sequence[Askable]
    labels: Mapping[str, str]
    first_view: int | None
    refused: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that are shown."""
        return [name for name in self.chosen.columns if name in self.labels]

    def said(self, text: str) -> str:
        """Return a condition as people read it."""
        if text.startswith(f"{SEGMENT}:"):
            number = text.partition(":")[2]
            return next((each.name for each in self.segments if str(each.id) == number), text)
        return condition_said(page_session(), self.record_type, text)

    def without(self, text: str) -> dict[str, Any]:
        """Return the address without one condition."""
        return self.chosen.args(filter=tuple(each for each in self.chosen.filter if each != text))

    def sorted_by(self, name: str) -> dict[str, Any]:
        """Return the address that sorts by a column, or the other way round if it is sorted by it."""
        return self.chosen.args(order=name if self.chosen.order == f"-{name}" else f"-{name}")

    def direction(self, name: str) -> str | None:
        """Return how the list is sorted by a column, as a screen reader is told."""
        order = self.chosen.order or "-probability"
        return {name: "ascending", f"-{name}": "descending"}.get(order)


def read_table(session: Session, user: User, kind: Kind) -> Table:
    """Return how the list of the current request is asked for, and what else it could be asked for.

    Without anything in the address it is asked for as the reader's own first view says.
    """
    reader = Reader(session, user)
    views = list_views(session, user, kind.record_type)
    first = likes_of(session, user.id).view_of(kind.record_type)
    view = _view(views, request.args.get("view"), None if request.args else first)
    chosen = Chosen.kept(view.asked) if view is not None else Chosen.read(kind, request.args)
    askable = list_askable(reader, kind.record_type)
    return Table(
        record_type=kind.record_type,
        chosen=chosen,
        view=view,
        views=views,
        segments=list_segments(session, user, kind.record_type),
        askable=askable,
        labels=_labels(reader, kind, askable),
        first_view=first,
    )


def _view(views: Sequence[SavedView], asked: str | None, first: int | None) -> SavedView | None:
    wanted = asked if asked is not None else str(first or "")
    return next((view for view in views if str(view.id) == wanted), None)


def _labels(reader: Reader, kind: Kind, askable: Sequence[Askable]) -> dict[str, str]:
    """Return what the columns are called that the reader may choose, those with a look of their own first."""
    own = {
        "probability": gettext("Probability"),
        "why": gettext("Why"),
        "owner": gettext("Owner"),
        "touch": gettext("Last contact"),
        "scored_at": gettext("Scored"),
        "tags": gettext("Tags"),
    }
    said = _said(reader.session, kind.record_type)
    fields = [each.name for each in askable if each.name not in _NOT_COLUMNS]
    return own | {name: label_of(name, said) for name in fields}


Labels = Mapping[str, tuple[str | None, str | None]]
"""By custom field, what it is called in English and in Chinese."""


def _said(session: Session, record_type: str) -> Labels:
    def read() -> Labels:
        return {each.name: (each.label_en, each.label_zh) for each in list_fields(session, record_type)}

    return recalled(session, ("labels", record_type), read)


def label_of(name: str, said: Labels) -> str:
    """Return what a field is called, in the page's language."""
    english, chinese = said.get(name, (None, None))
    usual = word("field", name.removeprefix(CUSTOM))
    if not name.startswith(CUSTOM):
        return usual
    return (chinese if choose_language() == "zh" else english) or english or usual


# ---------------------------------------------------------------- views and segments


@pages.post(f"/{_OF}/views")
def keep(record_type: str) -> ResponseReturnValue:
    """Keep how a list is asked for, as a view or as a segment."""
    user, kind = current_user.user, KINDS[record_type]
    chosen, name, shared = (
        Chosen.read(kind, request.form),
        request.form.get("name", ""),
        request.form.get("shared", "own"),
    )
    try:
        with writing(user, Source.REP) as transaction:
            if request.form.get("as") == "segment":
                keep_segment(
                    transaction,
                    user,
                    record_type,
                    name,
                    _all_conditions(chosen),
                    shared=shared,
                    tag=request.form.get("tag"),
                )
                target = url_for("lists.show_segments")
            else:
                view = keep_view(transaction, user, record_type, name, chosen.to_json(), shared)
                if request.form.get("first"):
                    set_first_view(transaction.session, user.id, record_type, view.id)
                target = _list_url(kind, view=view.id)
    except CRMError as error:
        flash(refusal(error))
        return redirect(_list_url(kind, **chosen.args()))
    flash(gettext("Kept."))
    return redirect(target)


def _all_conditions(chosen: Chosen) -> list[str]:
    """Return all that a list is asked for as conditions."""
    found = list(chosen.filter)
    if chosen.status:
        found.insert(0, f"status:eq:{chosen.status}")
    if chosen.owner:
        found.append(f"owner_id:eq:{chosen.owner}")
    if chosen.q:
        found.append(f"name:contains:{chosen.q}")
    return found


@pages.post(f"/{_OF}/first")
def choose_first(record_type: str) -> ResponseReturnValue:
    """Choose which view a list begins with."""
    user, kind = current_user.user, KINDS[record_type]
    wanted = request.form.get("view", "")
    with writing(user, Source.REP) as transaction:
        view = find_view(transaction.session, user, record_type, _number(wanted))
        set_first_view(transaction.session, user.id, record_type, view.id if view is not None else None)
    return redirect(_list_url(kind, view=wanted or 0))


@pages.post("/<any(views, segments):what>/<int:kept_id>/delete")
def end(what: str, kept_id: int) -> ResponseReturnValue:
    """Delete a view or a segment."""
    user = current_user.user
    with writing(user, Source.REP) as transaction:
        end_kept(transaction, user, SavedView if what == "views" else Segment, kept_id)
    flash(gettext("Deleted."))
    return redirect(url_for("lists.show_segments"))


@pages.get("/segments")
def show_segments() -> ResponseReturnValue:
    """Show the segments and views that somebody may use, and how many fit each segment now."""
    session, user = page_session(), current_user.user
    reader = Reader(session, user)
    segments = list_segments(session, user)[:SEGMENTS_SHOWN]
    names = dict(session.execute(select(User.id, User.name)).all())
    rows = [
        {
            "kept": each,
            "count": count_in(reader, each) if number < SEGMENTS_COUNTED else -1,
            "by": names.get(each.user_id),
            "mine": may_end(each, user),
        }
        for number, each in enumerate(segments)
        if each.record_type in KINDS
    ]
    views = [
        {"kept": each, "by": names.get(each.user_id), "mine": may_end(each, user)}
        for record_type in KINDS
        for each in list_views(session, user, record_type)
    ]
    return render_template("segments.html", segments=rows, views=views, kinds=KINDS)


# ---------------------------------------------------------------- many rows at once

ACTIONS = ("assign", "tag", "untag", "delete", "export")
FORMATS = ("csv", "xlsx", "parquet")


@pages.post(f"/{_OF}/many")
def do_with_many(record_type: str) -> ResponseReturnValue:
    """Ask whether to do something with many rows, saying how many; once confirmed, have it done."""
    kind, form, user = KINDS[record_type], request.form, current_user.user
    chosen, action = Chosen.read(kind, form), form.get("action", "")
    if action not in ACTIONS:
        flash(gettext("Choose what is to be done."))
        return redirect(_list_url(kind, **chosen.args()))
    if action != "export":
        check_may_write(user)
    asking = Asking(
        record_type=record_type,
        action=action,
        listing=chosen.listing(),
        ids=None if form.get("which") == "all" else tuple(_number(each) for each in form.getlist("id")),
        value=_value_of(action, form),
        columns=chosen.columns,
    )
    try:
        ids = ids_of(page_session(), user, asking)
    except CRMError as error:
        flash(refusal(error))
        return redirect(_list_url(kind, **chosen.args()))
    if not ids:
        flash(gettext("No row is chosen."))
        return redirect(_list_url(kind, **chosen.args()))
    if form.get("sure") != "yes" and action != "export":
        return _ask(kind, chosen, asking, len(ids))
    try:
        with writing(user, Source.REP) as transaction:
            job_id = begin_work(transaction, service().settings.home_folder, user, asking, ids)
    except CRMError as error:
        flash(refusal(error))
        return redirect(_list_url(kind, **chosen.args()))
    jobs = service().jobs
    if jobs is not None:
        jobs.wake()
    return redirect(url_for("list_work.show", job_id=job_id))


def _value_of(action: str, form: Mapping[str, str]) -> str:
    named = {"assign": "owner_to", "tag": "word", "untag": "word", "export": "format"}.get(action, "")
    return form.get(named, "").strip()


def _ask(kind: Kind, chosen: Chosen, asking: Asking, count: int) -> ResponseReturnValue:
    owners = {str(each.id): each.name for each in list_owners(page_session(), current_user.user)}
    if asking.action == "assign" and asking.value not in owners:
        flash(gettext("Choose who is to have them."))
        return redirect(_list_url(kind, **chosen.args()))
    if asking.action in {"tag", "untag"} and not asking.value:
        flash(gettext("Write the tag's word."))
        return redirect(_list_url(kind, **chosen.args()))
    shown = render_template(
        "many.html",
        kind=kind,
        chosen=chosen,
        asking=asking,
        count=count,
        to=owners.get(asking.value),
        form=request.form,
    )
    return make_response(shown)


def _list_url(kind: Kind, **args: Any) -> str:
    return url_for(f"{kind.collection}_pages.list_records", **args)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
