"""The tags of one record: shown, put on and taken off on its page, or on a page of their own."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, Scope, check_may_write
from crm_core.changes import Source
from crm_core.errors import InvalidValueError, RecordNotFoundError
from crm_core.records import RECORD_TYPES, Tag
from crm_core.saved import LONGEST_WORD
from serving.editing import get_as, kind_of
from serving.service import page_session, service, writing
from serving.tags import put_tag, tags_of, take_tag
from serving.web.any_record import WITHOUT_PAGES, by_script
from serving.web.facts import may_write
from serving.web.language import gettext
from serving.web.places import path_of, title_in
from serving.web.refusals import refusal

pages = Blueprint("record_tags", __name__)

PARTS_OF_OTHERS = WITHOUT_PAGES | {"activity", "comment", "attachment"}
OFFERED = 50
"""Words in use that completion offers."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came of a change: `done` in words, or why it was `refused`; `word` is what was typed."""

    done: str = ""
    refused: str = ""
    word: str = ""


@pages.get("/records/<string:record_type>/<int:record_id>/tags")
def show_tags(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give the tags of a record: a part for a script, or a page."""
    return _tags(Reader(page_session(), current_user.user), record_type, record_id, Said())


@pages.post("/records/<string:record_type>/<int:record_id>/tags")
def change_tags(record_type: str, record_id: int) -> ResponseReturnValue:
    """Put a tag on a record, or take one off; 422 with the reason where that word is none."""
    check_may_write(current_user.user)
    _check_type(record_type)
    typed = request.form.get("word", "").strip()
    try:
        done = _change(record_type, record_id, typed)
    except InvalidValueError as error:
        expected = gettext("Expected: a word of up to %(most)s characters.", most=LONGEST_WORD)
        said = Said(refused=expected if error.field == "word" else refusal(error), word=typed)
        return _tags(Reader(page_session(), current_user.user), record_type, record_id, said, 422)
    if by_script():
        with service().store.reading() as session:
            reader = Reader(session, current_user.user)
            return _tags(reader, record_type, record_id, Said(done=done))
    flash(done)
    return redirect(path_of(record_type, record_id) or "/")


def _change(record_type: str, record_id: int, typed: str) -> str:
    """Put the word on or take it off, and say what came of it."""
    user, take = current_user.user, request.form.get("take") == "yes"
    with writing(user, Source.REP) as transaction:
        changed = (take_tag if take else put_tag)(transaction, user, record_type, record_id, typed)
    if take:
        return gettext("Taken off: %(word)s", word=typed)
    return (
        gettext("Put on: %(word)s", word=typed)
        if changed
        else gettext("It is there already: %(word)s", word=typed)
    )


def _tags(
    reader: Reader, record_type: str, record_id: int, said: Said, status: int = 200
) -> ResponseReturnValue:
    _check_type(record_type)
    kind = kind_of(reader.session, record_type)
    record = get_as(reader, kind, record_id)
    told = reader.right("tag").read is not Scope.NONE and reader.may_read_field("tag", "word")
    may = told and reader.right("tag").write is not Scope.NONE and may_write(reader, kind, record)
    page = render_template(
        "_record_tags.html" if by_script() else "record_tags.html",
        key=(record_type, record_id),
        title=title_in(reader, record),
        path=path_of(record_type, record_id),
        tags=tags_of(reader, record_type, [record_id]).get(record_id, []),
        may_change=may,
        offered=_offered(reader, record_type) if may else (),
        most=LONGEST_WORD,
        said=said,
    )
    return make_response(page, status)


def _offered(reader: Reader, record_type: str) -> list[str]:
    """Return words that are in use on records of a type which the reader sees."""
    query = reader.select(Tag).with_only_columns(Tag.word).where(Tag.subject_type == record_type)
    return list(reader.session.scalars(query.distinct().order_by(Tag.word).limit(OFFERED)))


def _check_type(record_type: str) -> None:
    """Raise RecordNotFoundError for a type whose records have no tags: parts of others, and declared ones."""
    if record_type not in RECORD_TYPES or record_type in PARTS_OF_OTHERS:
        raise RecordNotFoundError(record_type, "")
