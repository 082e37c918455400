"""Lists and pages of records of any type, and what is done on every record's page: edit, delete, comment.

Leads, deals, customers and contacts have pages at addresses of their own, which use the same parts; quotes,
contracts, orders, tickets, campaigns, products and declared types have the plain page, below `/records`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, flash, jsonify, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select

from crm_core.access import Reader, check_may_write
from crm_core.changes import Change, Source
from crm_core.declared import logical_type
from crm_core.errors import (
    AccessDeniedError,
    InvalidValueError,
    RecordNotFoundError,
    UnknownRecordTypeError,
)
from crm_core.phrases import Phrase
from crm_core.records import RECORD_TYPES, Account, Activity, Contact, Deal, Lead, Record, User
from serving.activity_log import log_on
from serving.commenting import say
from serving.editing import Editor, Kind, get_as, kind_of
from serving.owners import list_owners
from serving.paging import Listing, list_page
from serving.score_history import PARTS_AT_ONCE, read_score_history
from serving.service import SentAlreadyError, page_session, service, writing
from serving.similar import Similar, find_similar
from serving.suggestions import read_suggestions
from serving.web.around import list_files, read_related
from serving.web.asked import plain, whole
from serving.web.facts import (
    Fact,
    NotReadableError,
    as_sent,
    field_of,
    may_write,
    names_of_people,
    read_facts,
    read_facts_of_many,
    read_typed,
)
from serving.web.happened import read_page
from serving.web.language import gettext, ngettext
from serving.web.places import (
    OWN_PAGES,
    PLAIN_TYPES,
    find_titled,
    list_path,
    path_of,
    shown_records,
    title_in,
    type_word,
)
from serving.web.record_parts import About, asked_of, may_talk, read_about
from serving.web.records import tell_causes
from serving.web.refusals import expected_of, refusal
from serving.web.selling_parts import read_selling
from serving.web.suggested import STEPS, days_of, ends_of, points_of, share_of, suggested_labels
from serving.web.typed_activity import PLANNED_TOO, read_activity

ROWS = 25
OFFERED = 12
"""Choices that completion offers at once."""

WITHOUT_PAGES = frozenset({"user", "team", "line", "tag", "campaign_member", "custom_record"})
"""Record types that are parts of others, or whose pages are an administrator's."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "contact": ("title", "account_id", "email", "phone", "owner_id"),
    "quote": ("status", "amount", "account_id", "valid_until"),
    "contract": ("status", "value", "account_id", "ends_on"),
    "order": ("amount", "account_id", "occurred_at"),
    "payment": ("amount", "account_id", "due_on", "paid_at"),
    "campaign": ("channel", "starts_on", "ends_on", "budget"),
    "product": ("code", "family", "price", "active"),
}
"""What a list shows of each type, beside the name; of declared types, their first fields."""

pages = Blueprint("record_pages", __name__)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a list."""

    title: str
    path: str | None
    cells: Mapping[str, Fact]


def by_script() -> bool:
    """Return whether a script asks, which puts the answer in its place."""
    return request.headers.get("X-Requested-With") == "fetch"


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


def _kind(record_type: str) -> Kind:
    if record_type in WITHOUT_PAGES:
        raise RecordNotFoundError(record_type, "")
    try:
        return kind_of(page_session(), record_type)
    except UnknownRecordTypeError as error:
        raise RecordNotFoundError(record_type, "") from error


# ------------------------------------------------------------------------------------------------ lists


@pages.get("/contacts")
def list_contacts() -> ResponseReturnValue:
    """List the contacts that somebody sees."""
    return _list("contact")


@pages.get("/records/<string:record_type>")
def list_records(record_type: str) -> ResponseReturnValue:
    """List records of a type; of one with a list of its own, go there."""
    if record_type in OWN_PAGES:
        return redirect(list_path(record_type))
    if record_type not in PLAIN_TYPES and record_type in {"activity", "comment", "attachment"}:
        raise RecordNotFoundError(record_type, "")
    return _list(record_type)


def _list(record_type: str) -> ResponseReturnValue:
    reader, kind = _reader(), _kind(record_type)
    asked = Listing(
        order=None,
        search=request.args.get("q", "").strip()[:200] or None,
        cursor=request.args.get("cursor") or None,
        limit=ROWS,
    )
    try:
        page = list_page(reader.session, reader.user, kind.model, asked, record_type=kind.name)
    except InvalidValueError:  # a cursor that somebody mistyped: from the beginning then
        asked = Listing(search=asked.search, limit=ROWS)
        page = list_page(reader.session, reader.user, kind.model, asked, record_type=kind.name)
    rows = _rows(reader, kind, page.items)
    labels = {name: fact.label for row in rows for name, fact in row.cells.items()}
    return render_template(
        "plain_list.html",
        rows=rows,
        labels=labels,
        asked=asked,
        next_cursor=page.next_cursor,
        heading=type_word(reader, kind.name, many=kind.type_id is None),
        list_path=list_path(kind.name),
    )


def _rows(reader: Reader, kind: Kind, records: Any) -> list[Row]:  # noqa: ANN401  a page of records
    people = names_of_people(reader.session)
    titles = shown_records(reader, [(kind.name, record.id) for record in records])
    found = []
    for record, facts in read_facts_of_many(reader, kind, records, people):
        wanted = COLUMNS.get(kind.name) or [fact.name for fact in facts if fact.name != "name"][:4]
        by_name = {fact.name: fact for fact in facts}
        shown = titles[kind.name, record.id]
        cells = {name: by_name[name] for name in wanted if name in by_name}
        found.append(Row(title=shown.title, path=shown.path, cells=cells))
    return found


# ------------------------------------------------------------------------------------------------ pages


@pages.get("/contacts/<int:record_id>")
def show_contact(record_id: int) -> ResponseReturnValue:
    """Show a contact."""
    return _show("contact", record_id)


@pages.get("/records/<string:record_type>/<int:record_id>")
def show(record_type: str, record_id: int) -> ResponseReturnValue:
    """Show a record of a type without a page of its own; of another, go there."""
    if record_type in OWN_PAGES:
        return redirect(path_of(record_type, record_id) or "/")
    if record_type in {"activity", "comment", "attachment"}:
        return redirect(_page_of_part(_reader(), record_type, record_id))
    return _show(record_type, record_id)


def show_plain(
    record_type: str, record_id: int, *, trouble: str | None = None, status: int = 200
) -> ResponseReturnValue:
    """Show a record of a type without a page of its own, with what was wrong with a form on it."""
    return _show(record_type, record_id, status=status, trouble=trouble)


def _show(
    record_type: str,
    record_id: int,
    refused: str | None = None,
    status: int = 200,
    trouble: str | None = None,
) -> ResponseReturnValue:
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    page = render_template(
        "plain_record.html",
        about=read_about(reader, kind, record, **asked_of(request.args)),
        kinds=PLANNED_TOO,
        log_path=f"/records/{record_type}/{record_id}/activities",
        refused=refused,
        values=request.form,
        selling=read_selling(reader, kind, record),
        trouble=trouble,
    )
    return make_response(page, status)


@pages.get("/records/<string:record_type>/<int:record_id>/timeline")
def show_timeline(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give a page of the timeline, for a script to put in its place; a browser goes to the whole page."""
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    if not by_script():
        query = request.query_string.decode()
        return redirect(f"{path_of(record_type, record_id)}?{query}#timeline")
    page = read_page(reader, kind, record, **asked_of(request.args))
    about = _brief(reader, kind, record, page)
    return render_template("_timeline.html", about=about)


def _brief(reader: Reader, kind: Kind, record: Record, page: Any) -> About:  # noqa: ANN401  a page of the timeline
    return About(
        kind=kind,
        key=(kind.name, record.id),
        title="",
        type_word="",
        version=record.version,
        facts=(),
        may_write=False,
        may_talk=may_talk(reader.user),
        steps=(),
        timeline=page,
        people=names_of_people(reader.session),
    )


@pages.get("/records/<string:record_type>/<int:record_id>/around")
def show_around(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give what is linked to a record, its files, and similar ones: a part for a script, or a page."""
    return _around(record_type, record_id)


@pages.get("/records/<string:record_type>/<int:record_id>/suggestions")
def show_suggestions(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give what may be suggested about a record: a part for a script, or a page."""
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    if not isinstance(record, Lead | Deal | Account | Contact):
        raise RecordNotFoundError(record_type, "")
    running = service()
    return render_template(
        "_suggestions.html" if by_script() else "suggestions.html",
        found=read_suggestions(
            running.store, running.champions, reader, record, zone=running.settings.time_zone
        ),
        about=_brief(reader, kind, record, None),
        title=shown_records(reader, [(kind.name, record.id)])[kind.name, record.id].title,
        rising_is_good=kind.name != "account",
        labels=suggested_labels,
        ends=ends_of,
        points=points_of,
        share=share_of,
        step_words=STEPS,
        days=days_of,
    )


def _around(
    record_type: str, record_id: int, refused: str | None = None, status: int = 200
) -> ResponseReturnValue:
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    similar = _similar(reader, record)
    page = render_template(
        "_around.html" if by_script() else "around.html",
        about=_brief(reader, kind, record, None),
        title=shown_records(reader, [(kind.name, record.id)])[kind.name, record.id].title,
        related=read_related(reader, kind, record),
        files=list_files(reader, record),
        most=service().settings.file_mib,
        similar=similar,
        shown={} if similar is None else _titles(reader, kind.name, similar),
        refused=refused,
        me=reader.user.id,
    )
    return make_response(page, status)


@pages.get("/records/<any(lead, deal, account):record_type>/<int:record_id>/causes")
def show_causes(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give the newest scores with how much each cause moved them, for which models are asked again."""
    reader, kind, running = _reader(), _kind(record_type), service()
    record = get_as(reader, kind, record_id)
    found = read_score_history(
        running.store,
        reader.user,
        (type(record), record_id),  # type: ignore[arg-type]  # the address names scored types only
        limit=PARTS_AT_ONCE,
        home=running.settings.home_folder,
    )
    return render_template(
        "_history.html" if by_script() else "record_causes.html",
        history=tell_causes(found.entries),
        title=title_in(reader, record),
        path=path_of(record_type, record_id),
    )


def _similar(reader: Reader, record: Record) -> Similar | None:
    if not isinstance(record, Lead | Deal | Account):
        return None
    return find_similar(reader, record, service().store.clock.now())


def _titles(reader: Reader, record_type: str, similar: Similar) -> Mapping[int, Any]:
    keys = [(record_type, past.record_id) for past in similar.nearest]
    return {key[1]: shown for key, shown in shown_records(reader, keys).items()}


def _page_of_part(reader: Reader, record_type: str, record_id: int) -> str:
    """Return the address of the page on which an activity, a comment or a file is shown."""
    record = get_as(reader, kind_of(reader.session, record_type), record_id)
    links = [(name, getattr(record, f"{name}_id", None)) for name in ("deal", "lead", "contact", "account")]
    about = next(((name, found) for name, found in links if found is not None), None)
    if about is None:
        about = _subject(reader, record)
    path = None if about is None else path_of(*about)
    return f"{path}#timeline" if path else "/"


def _subject(reader: Reader, record: Record) -> tuple[str, int] | None:
    subject_type, subject_id = getattr(record, "subject_type", None), getattr(record, "subject_id", None)
    if subject_type is None or subject_id is None:
        return None
    found = reader.session.get(RECORD_TYPES[subject_type], subject_id)
    return None if found is None else (logical_type(reader.session, found), subject_id)


# ------------------------------------------------------------------------------------------------ editing


@dataclass(frozen=True, kw_only=True)
class Clash:
    """A field that somebody else changed meanwhile: what it is now, and what was typed."""

    fact: Fact
    theirs: str
    theirs_raw: str
    mine: str
    by: str | None
    at: datetime | None


class ClashError(Exception):
    """Somebody else changed a field meanwhile."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


@pages.get("/records/<string:record_type>/<int:record_id>/edit")
def show_edit(record_type: str, record_id: int) -> ResponseReturnValue:
    """Show the form of one field, or of all that somebody may change."""
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    facts = _editable(reader, kind, record, request.args.get("field"))
    if not facts:
        raise AccessDeniedError(
            Phrase(
                "the role {role} may not change that of a {record_type}",
                role=reader.user.role,
                record_type=kind.name,
            )
        )
    return _form(reader, kind, record, facts, typed={}, refused={})


@pages.post("/records/<string:record_type>/<int:record_id>/edit")
def edit(record_type: str, record_id: int) -> ResponseReturnValue:
    """Write what somebody typed; 422 beside the field that is wrong, 409 where somebody else was faster."""
    check_may_write(current_user.user)
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    only = request.form.get("field") or None
    facts = _editable(reader, kind, record, only)
    typed = {fact.name: request.form.get(fact.name, "") for fact in facts if _was_sent(fact.name)}
    values, refused = _read_all(reader, facts, typed)
    if refused:
        return _form(reader, kind, record, facts, typed=typed, refused=refused, status=422)
    try:
        _write(kind, record_id, facts, values, typed)
    except ClashError as clash:
        return _form(reader, kind, record, facts, typed=typed, refused={}, status=409, clashed=clash.names)
    except InvalidValueError as error:
        refused = {field_of(error): gettext("Expected: %(expected)s", expected=expected_of(error))}
        return _form(reader, kind, record, facts, typed=typed, refused=refused, status=422)
    if by_script():
        return _facts(record_type, record_id)
    flash(gettext("Saved."))
    return redirect(_after_edit(record_type, record_id))


def _was_sent(name: str) -> bool:
    return name in request.form


def _after_edit(record_type: str, record_id: int) -> str:
    if record_type in {"activity", "comment"}:
        with service().store.reading() as session:
            return _page_of_part(Reader(session, current_user.user), record_type, record_id)
    return path_of(record_type, record_id) or list_path(record_type)


def _editable(reader: Reader, kind: Kind, record: Record, only: str | None) -> list[Fact]:
    """Return the facts that may be changed; with `only`, that one, and with an amount its currency."""
    people = names_of_people(reader.session)
    facts = read_facts(reader, kind, record, people, with_currency=True)
    chosen = [fact for fact in facts if fact.editable]
    if only is None:
        return chosen
    wanted = {only} | {"currency" for fact in chosen if fact.name == only and fact.with_currency}
    return [fact for fact in chosen if fact.name in wanted]


def _read_all(
    reader: Reader, facts: list[Fact], typed: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for fact in facts:
        if fact.name in typed:
            try:
                values[fact.name] = read_typed(reader, fact, typed[fact.name])
            except NotReadableError as error:
                refused[fact.name] = refusal(error)
    return values, refused


def _write(
    kind: Kind, record_id: int, facts: list[Fact], values: Mapping[str, Any], typed: Mapping[str, str]
) -> None:
    """Write values, unless somebody else wrote one of the same fields since the form was opened."""
    user: User = current_user.user
    with writing(user, Source.REP) as transaction:
        editor = Editor(transaction, user)
        record = editor.get_to_write(kind, record_id)
        if str(record.version) != request.form.get("version"):
            now = {fact.name: fact.raw for fact in _now(editor.reader, kind, record)}
            clashes = [
                fact.name
                for fact in facts
                if fact.name in typed
                and now.get(fact.name, "") != request.form.get(f"was.{fact.name}", "")
                and now.get(fact.name, "") != typed[fact.name].strip()
            ]
            if clashes:
                raise ClashError(clashes)
        changed = {
            fact.name: values[fact.name]
            for fact in facts
            if fact.name in values and typed[fact.name].strip() != request.form.get(f"was.{fact.name}", "\0")
        }
        if changed:
            editor.update(kind, record_id, as_sent(facts, changed), versions={record.version})


def _now(reader: Reader, kind: Kind, record: Record) -> list[Fact]:
    return read_facts(reader, kind, record, names_of_people(reader.session), with_currency=True)


def _form(
    reader: Reader,
    kind: Kind,
    record: Record,
    facts: list[Fact],
    *,
    typed: Mapping[str, str],
    refused: Mapping[str, str],
    status: int = 200,
    clashed: list[str] | None = None,
) -> ResponseReturnValue:
    only = request.values.get("field") or None
    version: str = str(record.version)
    was = {fact.name: fact.raw for fact in facts}
    if status == 422:  # what somebody else writes until this is right is still no news to who types
        version = request.form.get("version", version)
        was = {name: request.form.get(f"was.{name}", raw) for name, raw in was.items()}
    owners = list_owners(reader.session, reader.user) if any(f.name == "owner_id" for f in facts) else ()
    page = render_template(
        "_edit.html" if by_script() else "edit.html",
        kind=kind,
        key=(kind.name, record.id),
        path=_after_edit(kind.name, record.id),
        title=shown_records(reader, [(kind.name, record.id)]).get((kind.name, record.id)),
        type_word=type_word(reader, kind.name),
        facts=facts,
        only=only,
        typed=typed,
        refused=refused,
        version=version,
        was=was,
        owners=[owner for owner in owners if owner.active],
        clashes=[_clash(reader, record, fact, typed) for fact in facts if fact.name in (clashed or ())],
    )
    return make_response(page, status)


def _clash(reader: Reader, record: Record, fact: Fact, typed: Mapping[str, str]) -> Clash:
    query = (
        select(Change)
        .where(
            Change.record_type == record.record_type, Change.record_id == record.id, Change.field == fact.name
        )
        .order_by(Change.id.desc())
        .limit(1)
    )
    change = reader.session.scalars(query).one_or_none()
    people = names_of_people(reader.session)
    return Clash(
        fact=fact,
        theirs=fact.text,
        theirs_raw=fact.raw,
        mine=typed[fact.name],
        by=None if change is None else people.get(change.actor_id),
        at=None if change is None else change.occurred_at,
    )


def _facts(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give the facts anew, read after the write."""
    with service().store.reading() as session:
        reader = Reader(session, current_user.user)
        kind = kind_of(session, record_type)
        record = get_as(reader, kind, record_id)
        return render_template("_facts.html", about=read_about(reader, kind, record))


@pages.get("/records/-/choices/<string:record_type>")
def list_choices(record_type: str) -> ResponseReturnValue:
    """Give records whose name holds what is typed, for completion."""
    reader, kind = _reader(), _kind(record_type)
    text = request.args.get("q", "").strip()[:200]
    found = find_titled(reader, kind.name, text, limit=OFFERED) if text else []
    return jsonify([f"{each.title} #{each.key[1]}" for each in found])


@pages.get("/records/-/people")
def list_people() -> ResponseReturnValue:
    """Give colleagues whose name begins with, or holds, what is typed after an @."""
    text = request.args.get("q", "").strip()[:100]
    query = select(User.name).where(User.deleted_at.is_(None), User.active, User.left_at.is_(None))
    found = query.where(User.name.icontains(text, autoescape=True)).order_by(User.name).limit(OFFERED)
    return jsonify(list(page_session().scalars(found)))


# ------------------------------------------------------------------------------------------------ deleting


@pages.get("/records/<string:record_type>/<int:record_id>/delete")
def ask_to_delete(record_type: str, record_id: int) -> ResponseReturnValue:
    """Ask once more, and say what hangs on the record."""
    reader, kind = _reader(), _kind(record_type)
    record = get_as(reader, kind, record_id)
    if not may_write(reader, kind, record):
        raise AccessDeniedError(
            Phrase(
                "the role {role} may not change a {record_type}", role=reader.user.role, record_type=kind.name
            )
        )
    return render_template(
        "delete.html",
        about=_brief(reader, kind, record, None),
        title=shown_records(reader, [(kind.name, record.id)])[kind.name, record.id].title,
        type_word=type_word(reader, kind.name),
        back=_after_edit(kind.name, record.id),
        related=[] if kind.name in {"activity", "comment"} else read_related(reader, kind, record),
    )


@pages.post("/records/<string:record_type>/<int:record_id>/delete")
def delete(record_type: str, record_id: int) -> ResponseReturnValue:
    """Delete a record that nobody has changed since the question was asked."""
    reader, kind = _reader(), _kind(record_type)
    get_as(reader, kind, record_id)
    is_part = record_type in {"activity", "comment", "attachment"}
    after = _page_of_part(reader, record_type, record_id) if is_part else list_path(record_type)
    version = request.form.get("version", type=whole)
    if version is None:
        raise InvalidValueError("version", request.form.get("version"), "the version that was asked about")
    with writing(current_user.user, Source.REP) as transaction:
        Editor(transaction, current_user.user).delete(kind, record_id, versions={version})
    flash(gettext("Deleted."))
    return redirect(after)


# ------------------------------------------------------------------------------------------------ talking


@pages.post("/records/<string:record_type>/<int:record_id>/comments")
def comment(record_type: str, record_id: int) -> ResponseReturnValue:
    """Say something about a record; who is mentioned and sees it is told."""
    check_may_write(current_user.user)
    kind = _kind(record_type)
    text = request.form.get("body", "").strip()
    if not text:
        return _refuse(record_type, record_id, gettext("A comment says something."))
    try:
        with writing(current_user.user, Source.REP) as transaction:
            said = say(transaction, current_user.user, kind, record_id, text)
        told = _told(said.told, said.cannot_see)
    except InvalidValueError as error:
        return _refuse(record_type, record_id, refusal(error))
    except SentAlreadyError:
        told = gettext("Said.")
    if by_script():
        answer = make_response(_fresh_timeline(record_type, record_id), 201)
        answer.headers["X-Told"] = told.encode("unicode_escape").decode()
        return answer
    flash(told)
    return redirect(f"{path_of(record_type, record_id)}#timeline")


def _told(told: list[str], cannot_see: list[str]) -> str:
    parts = [gettext("Said.")]
    if told:
        parts.append(gettext("Told: %(names)s.", names=", ".join(told)))
    if cannot_see:
        parts.append(
            ngettext(
                "%(names)s may not see this and was not told.",
                "%(names)s may not see this and were not told.",
                len(cannot_see),
                names=", ".join(cannot_see),
            )
        )
    return " ".join(parts)


def _refuse(record_type: str, record_id: int, why: str) -> ResponseReturnValue:
    if by_script():
        return plain(why)
    flash(why)
    return redirect(path_of(record_type, record_id) or "/")


def _fresh_timeline(record_type: str, record_id: int) -> str:
    """Return the timeline as it is after a write."""
    with service().store.reading() as session:
        reader = Reader(session, current_user.user)
        kind = kind_of(session, record_type)
        record = get_as(reader, kind, record_id)
        return render_template("_timeline.html", about=read_about(reader, kind, record))


@pages.post("/records/<string:record_type>/<int:record_id>/activities")
def log(record_type: str, record_id: int) -> ResponseReturnValue:
    """Log an activity on a record of any type."""
    user, kind = current_user.user, _kind(record_type)
    try:
        with suppress(SentAlreadyError), writing(user, Source.REP) as transaction:
            log_on(transaction, user, kind.model, record_id, read_activity(request.form))
    except InvalidValueError as error:
        if by_script():
            return plain(refusal(error))
        return _show(record_type, record_id, refused=refusal(error), status=422)
    if by_script():
        return make_response(_fresh_timeline(record_type, record_id), 201)
    flash(gettext("Logged."))
    return redirect(path_of(record_type, record_id) or "/")


@pages.post("/records/activity/<int:activity_id>/done")
def mark_done(activity_id: int) -> ResponseReturnValue:
    """Note that a next step was done, or that it was not after all."""
    user = current_user.user
    reader = _reader()
    after = _page_of_part(reader, "activity", activity_id)
    with writing(user, Source.REP) as transaction:
        editor = Editor(transaction, user)
        kind = kind_of(transaction.session, "activity")
        step = editor.get_to_write(kind, activity_id)
        if not isinstance(step, Activity) or step.kind != "task":
            raise InvalidValueError("activity.kind", getattr(step, "kind", None), "a task")
        outcome = None if request.form.get("done") == "no" else "done"
        editor.update(kind, activity_id, {"outcome": outcome}, versions={step.version})
    flash(gettext("Noted."))
    return redirect(after)
