"""The pages for searching everything, and for records that may be the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.duplicates import COMPARED, declare_distinct_as, merge_as
from crm_core.errors import CRMError, InvalidValueError
from crm_core.fields import CUSTOM, list_all_fields
from crm_core.recall import recalled
from crm_core.records import RECORD_TYPES, CustomRecord
from crm_core.search import EXAMINED
from crm_core.store import Transaction
from serving.copies import Copies, read_copies, read_copies_of
from serving.finding import PAGE_OF, Asked, FoundPage, find_page
from serving.service import page_session, writing
from serving.web.any_record import by_script
from serving.web.facts import names_of_people
from serving.web.language import choose_language, gettext
from serving.web.places import Shown, nameless, shown_records
from serving.web.refusals import refusal
from serving.web.titles import TOLD, told_of

pages = Blueprint("finding_pages", __name__)

Act = Callable[[Transaction, str], object]
"""What is done with records of a type."""

HITS = 20
PAIRS = 10
HINTED = 3
"""Records that the page of one calls perhaps the same."""


@pages.get("/search")
def search() -> ResponseReturnValue:
    """Show what fits the words that somebody typed."""
    text = request.args.get("q", "").strip()[:400]
    after = request.args.get("after") or None
    found = _found(text, after) if text else None
    labels = _labels() if found and found.hits else {}
    return render_template("search.html", text=text, after=after, found=found, page_of=PAGE_OF, labels=labels)


QUICK = 8
QUICK_TYPES = ("account", "contact", "lead", "deal")
QUICK_EXAMINED = 400


@pages.get("/search/quick")
def search_quickly() -> ResponseReturnValue:
    """Give the likeliest records for what somebody types, as options of a list; those that have a page."""
    text = request.args.get("q", "").strip()[:400]
    asked = Asked(text=text, types=QUICK_TYPES, limit=QUICK, examined=QUICK_EXAMINED)
    found = find_page(page_session(), current_user.user, asked) if text else None
    hits = [hit for hit in found.hits if hit.page_id] if found else []
    return render_template("_quick.html", hits=hits, text=text, page_of=PAGE_OF)


def _examined(text: str) -> int:
    """Return how many candidates are looked at; a single letter is in nearly every record."""
    return EXAMINED if len(text) > 1 else QUICK_EXAMINED


def _labels() -> dict[tuple[str, str], str]:
    """Return what custom fields were declared to be called, by the record type of a hit and its field."""
    chinese = choose_language() == "zh"
    return recalled(page_session(), ("labels of what is found", chinese), partial(_read_labels, chinese))


def _read_labels(chinese: bool) -> dict[tuple[str, str], str]:  # noqa: FBT001  a language or the other
    labels = {}
    for field in list_all_fields(page_session()):
        label = (field.label_zh if chinese else field.label_en) or field.label_en
        held = field.record_type if field.record_type in RECORD_TYPES else CustomRecord.record_type
        if label and field.name.startswith(CUSTOM):
            labels[held, field.name] = label
    return labels


def _found(text: str, after: str | None) -> FoundPage:
    asked = Asked(text=text, limit=HITS, after=after, examined=_examined(text))
    try:
        return _named(find_page(page_session(), current_user.user, asked))
    except InvalidValueError:  # a cursor that somebody mistyped: from the beginning then
        asked = Asked(text=text, limit=HITS, examined=_examined(text))
        return _named(find_page(page_session(), current_user.user, asked))


def _named(found: FoundPage) -> FoundPage:
    """Return hits with what they are called in the reader's words where they have no name of their own."""
    reader = Reader(page_session(), current_user.user)
    told = told_of(reader, ((hit.record_type, hit.id) for hit in found.hits))
    hits = [
        replace(hit, title=told.get((hit.record_type, hit.id)) or nameless(reader, hit.record_type, hit.id))
        if hit.is_nameless or hit.record_type in TOLD
        else hit
        for hit in found.hits
    ]
    return replace(found, hits=hits)


@pages.get("/duplicates")
def list_duplicates() -> ResponseReturnValue:
    """Show records that may be the same."""
    record_type, offset = _type(request.args.get("type", "")), _number(request.args.get("offset", ""))
    user, session = current_user.user, page_session()
    if record_id := _number(request.args.get("record", "")):
        return _copies_of(Reader(session, user), record_type, record_id)
    copies = read_copies(session, user, record_type, limit=PAIRS, offset=offset)
    if offset and not copies.pairs:  # all of the last page have been decided: the page before is the last
        offset = max(copies.total - 1, 0) // PAIRS * PAIRS
        copies = read_copies(session, user, record_type, limit=PAIRS, offset=offset)
    return _copies_page(Reader(session, user), record_type, copies, offset=offset)


def _copies_of(reader: Reader, record_type: str, record_id: int) -> ResponseReturnValue:
    """Show what may be the same as one record; a script gets a line for the record's page."""
    copies = read_copies_of(reader, record_type, record_id, limit=PAIRS)
    about = shown_records(reader, [(record_type, record_id)])[record_type, record_id]
    if not by_script():
        return _copies_page(reader, record_type, copies, about=about)
    others = [(record_type, pair.other(record_id)) for pair in copies.pairs[:HINTED]]
    shown = shown_records(reader, others)
    return render_template(
        "_same.html", about=about, copies=copies, hints=[shown[key] for key in others if key in shown]
    )


def _copies_page(
    reader: Reader, record_type: str, copies: Copies, *, offset: int = 0, about: Shown | None = None
) -> ResponseReturnValue:
    return render_template(
        "duplicates.html",
        record_type=record_type,
        types=tuple(COMPARED),
        fields=COMPARED[record_type],
        offset=offset,
        page_size=PAIRS,
        copies=copies,
        about=about,
        owners=names_of_people(reader.session),
        mine=_writable(reader, record_type, copies),
        page_of=PAGE_OF,
    )


@pages.post("/duplicates/merge")
def merge() -> ResponseReturnValue:
    """Make one record of two."""
    keep, gone = _number(request.form.get("keep", "")), _number(request.form.get("gone", ""))
    return _decide(
        lambda transaction, kind: merge_as(transaction, current_user.user, kind, keep_id=keep, gone_id=gone),
        gettext("The two are one now; what both had is kept in the history."),
    )


@pages.post("/duplicates/distinct")
def mark_distinct() -> ResponseReturnValue:
    """Remember that two records are not the same."""
    one, other = _number(request.form.get("one", "")), _number(request.form.get("other", ""))
    return _decide(
        lambda transaction, kind: declare_distinct_as(transaction, current_user.user, kind, one, other),
        gettext("Noted: they are not the same."),
    )


def _decide(act: Act, done: str) -> ResponseReturnValue:
    user, record_type = current_user.user, _type(request.form.get("type", ""))
    check_may_write(user)
    try:
        with writing(user, Source.REP) as transaction:
            act(transaction, record_type)
    except CRMError as error:
        flash(refusal(error))
    else:
        flash(done)
    offset = _number(request.form.get("offset", ""))
    return redirect(url_for("finding_pages.list_duplicates", type=record_type, offset=offset or None))


def _writable(reader: Reader, record_type: str, copies: Copies) -> set[int]:
    """Return which of the records the reader may change."""
    model = RECORD_TYPES[record_type]
    query = select(model.id).where(model.id.in_(copies.records), reader.writable(model))
    return set(reader.session.scalars(query))


def _type(text: str) -> str:
    return text if text in COMPARED else next(iter(COMPARED))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
