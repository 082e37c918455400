"""The tray of what came in and could not be placed by itself: assigned, made a lead or ticket, or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.errors import CRMError, InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.incoming.calendars import LARGEST as LARGEST_CALENDAR
from crm_core.incoming.calendars import read_calendar, take_calendar
from crm_core.incoming.filing import assign_item, drop_item, lead_from_item, ticket_from_item
from crm_core.incoming.parsing import LARGEST, read_mail
from crm_core.incoming.tray import IntakeItem, ItemState, get_item, list_items
from crm_core.phrases import Phrase
from crm_core.store import Transaction
from serving.mailbox import reads_mail, take_one
from serving.service import end_page_session, page_session, service, writing
from serving.web.asked import whole, whole_typed
from serving.web.language import choose_time_zone, gettext
from serving.web.places import find_titled, path_of, shown_records
from serving.web.refusals import refusal

pages = Blueprint("intake_pages", __name__, url_prefix="/intake")

ROWS = 25
ASSIGNED_TO = ("lead", "contact", "deal", "account", "ticket")
OUTCOMES: Mapping[str, object] = {
    "filed": _("The mail stands on the record that it is about."),
    "tray": _("It waits in the tray for somebody who may say where it belongs, if it is not here already."),
    "bounce": _("It says that a mail came back: that is noted."),
    "unsubscribed": _("It unsubscribes somebody: that is noted."),
    "known": _("This mail is here already."),
}


def make_room() -> None:
    """Let a request bring a whole mail, if it is one that brings a file here."""
    if request.endpoint == "intake_pages.upload":
        request.max_content_length = (request.max_content_length or 0) + LARGEST


@pages.get("")
def show() -> ResponseReturnValue:
    """Show what waits, newest first."""
    return _page("", 200)


@pages.post("")
def upload() -> ResponseReturnValue:
    """Take a mail (.eml) or calendar entries (.ics) from a file."""
    check_may_write(current_user.user)
    sent = request.files.get("file")
    content = sent.stream.read(LARGEST + 1) if sent is not None else b""
    try:
        if sent is not None and (sent.filename or "").lower().endswith(".ics"):
            told = _take_calendar(content)
        else:
            told = _take_mail(content)
    except InvalidValueError as error:
        return _page(refusal(error), 422)
    flash(told)
    return redirect(url_for("intake_pages.show"))


def _take_mail(content: bytes) -> str:
    mail = read_mail(content)
    if mail.from_address is None and not mail.subject and not mail.to:
        raise InvalidValueError("file", content[:40], "a mail (.eml) or a calendar (.ics)")
    with writing(current_user.user, Source.REP) as transaction:
        taken = take_one(transaction, service().settings, mail, source="upload", by=current_user.user)
    return str(OUTCOMES[taken.outcome])


def _take_calendar(content: bytes) -> str:
    if len(content) > LARGEST_CALENDAR:
        raise InvalidValueError(
            "file",
            Phrase("{count} bytes", count=len(content)),
            Phrase("at most {largest} bytes", largest=LARGEST_CALENDAR),
        )
    entries = read_calendar(content, ZoneInfo(choose_time_zone()))
    user = current_user.user
    with writing(user, Source.REP) as transaction:
        done = take_calendar(transaction, entries, by=user)
    return gettext(
        "%(filed)s meetings noted, %(tray)s in the tray or with others, %(known)s known already, "
        "%(ignored)s without anybody from outside.",
        **vars(done),
    )


@pages.post("/<int:item_id>")
def settle(item_id: int) -> ResponseReturnValue:
    """Do with something in the tray what a form says."""
    check_may_write(current_user.user)
    reader = Reader(page_session(), current_user.user)
    get_item(reader, item_id)
    does = request.form.get("do", "")
    try:
        with writing(current_user.user, Source.REP) as transaction:
            where = _settle(transaction, reader, item_id, does)
    except StaleRecordError:
        return _page(gettext("Somebody has settled this meanwhile."), 409, item_id)
    except RecordNotFoundError as error:
        return _page(refusal(error), 422, item_id)
    except CRMError as error:
        return _page(refusal(error), 422, item_id)
    flash(gettext("Done."))
    return redirect(where or url_for("intake_pages.show"))


def _settle(transaction: Transaction, reader: Reader, item_id: int, does: str) -> str | None:
    """Do it; return where the record is that it went to."""
    user = current_user.user
    if does == "drop":
        drop_item(transaction, user, item_id)
        return None
    if does == "lead":
        return path_of("lead", lead_from_item(transaction, user, item_id).id)
    about = _about(reader)
    if does == "ticket":
        links = {"account_id": None, "contact_id": None, f"{about[0]}_id": about[1]}
        if about[0] not in {"account", "contact"}:
            raise InvalidValueError("record", about[0], gettext("a customer or a contact, for a ticket"))
        made = ticket_from_item(transaction, user, item_id, **links)
        return path_of("ticket", made.id)
    assign_item(transaction, user, item_id, about)
    return path_of(*about)


def _about(reader: Reader) -> tuple[str, int]:
    """Return the record that a form names: one that was offered, or by its number or name."""
    form = request.form
    offered = form.get("offered", "")
    record_type, _colon, number = offered.partition(":")
    if offered:
        return _known_type(record_type), whole_typed("record", number)
    record_type, text = _known_type(form.get("type", "")), form.get("text", "").strip()[:200]
    if not text:
        raise InvalidValueError("record", text, gettext("the name or number of a record"))
    if text.isascii() and text.isdigit() and len(text) < 18:
        return record_type, int(text)
    found = find_titled(reader, record_type, text, limit=6)
    if len(found) != 1:
        names = ", ".join(f"{each.title} ({each.key[1]})" for each in found) or gettext("nothing")
        raise InvalidValueError("record", text, gettext("one that is told from others; found: ") + names)
    return found[0].key


def _known_type(record_type: str) -> str:
    if record_type not in ASSIGNED_TO:
        raise InvalidValueError("type", record_type, ", ".join(ASSIGNED_TO))
    return record_type


def _page(why: str, status: int, item_id: int | None = None) -> ResponseReturnValue:
    if request.method == "POST":
        end_page_session()  # what was written meanwhile is to be seen
    reader = Reader(page_session(), current_user.user)
    asked = request.args.get("state", "open")
    state = ItemState(asked) if asked in set(ItemState) else ItemState.OPEN
    before = request.args.get("before", type=whole)
    found = list_items(reader, state=state, before=before, limit=ROWS + 1)
    items = found[:ROWS]
    text = render_template(
        "intake.html",
        items=items,
        offered=_offered(reader, items),
        more=items[-1].id if len(found) > ROWS else None,
        before=before,
        state=state,
        states=tuple(ItemState),
        types=ASSIGNED_TO,
        why=why,
        refused=item_id,
        form=request.form,
        is_read=reads_mail(service().settings),
        drop=service().settings.drop_address,
        sees_all=current_user.user.role in {"manager", "admin"},
    )
    return make_response(text, status)


def _offered(reader: Reader, items: list[IntakeItem]) -> dict[int, list[tuple[str, int, str]]]:
    """Return, by item, the records that it may be about and that the reader sees."""
    keys = {(each[0], each[1]) for item in items for each in item.candidates}
    shown = shown_records(reader, keys)
    return {
        item.id: [
            (kind, record_id, shown[kind, record_id].title)
            for kind, record_id in item.candidates
            if (kind, record_id) in shown
        ]
        for item in items
    }
