"""The pages of tickets: lists, one ticket with its conversation, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.alerts import open_alerts_of
from crm_core.articles import Suggestion, suggest
from crm_core.changes import Source
from crm_core.errors import CRMError, InvalidValueError, RecordNotFoundError, StaleRecordError
from crm_core.mail_templates import fits, get_template, list_templates, render
from crm_core.phrases import one_of
from crm_core.records import Account, Article, Contact, Ticket, TicketPriority, TicketStatus
from crm_core.service_desk import recall_queues
from crm_core.store import Transaction
from crm_core.working_time import WorkingTime, working_time
from serving.editing import Editor, kind_of
from serving.mail import mail_is_on
from serving.service import end_page_session, page_session, service, writing
from serving.tickets import (
    VIEWS,
    Answered,
    TicketQuestion,
    answer,
    clock_of,
    give,
    give_next,
    judge_article,
    list_assignable,
    list_others,
    merge,
    read_conversation,
    read_figures,
    read_tickets,
    set_ticket,
)
from serving.web.asked import whole
from serving.web.facts import may_write, names_of_people, read_facts
from serving.web.language import gettext
from serving.web.markdown import plain_text
from serving.web.places import find_named, shown_records, title_in
from serving.web.record_parts import About, may_talk
from serving.web.refusals import refusal

VIEW_WORDS: Mapping[str, object] = {
    "mine": _("Mine"),
    "queues": _("My queues"),
    "unassigned": _("Nobody's"),
    "soon": _("Due soon"),
    "missed": _("Overdue"),
    "waiting": _("Waiting for the customer"),
    "running": _("All running"),
    "all": _("All"),
}

FIGURE_DAYS = 90
_MOST_PAGES = 200
_OWN_PLACE = frozenset(
    {"subject", "description", "status", "priority", "queue", "owner_id", "satisfaction", "paused_at"}
    | {"first_due_at", "first_answered_at", "first_breached_at", "satisfaction_comment"}
    | {"solve_due_at", "solved_at", "solve_breached_at", "closed_at", "account_id", "contact_id"}
)
"""Fields that the page shows elsewhere than among the facts."""

pages = Blueprint("ticket_pages", __name__, url_prefix="/tickets")


# ------------------------------------------------------------------------------------------------ lists


@pages.get("")
def list_records() -> ResponseReturnValue:
    """List tickets, what is due first at the top."""
    return _list()


def _list(refused: str | None = None, status: int = 200) -> ResponseReturnValue:
    reader = Reader(page_session(), current_user.user)
    asked = _asked(reader)
    found = read_tickets(reader, asked)
    people = names_of_people(reader.session)
    since = asked.now - timedelta(days=FIGURE_DAYS)
    text = render_template(
        "tickets.html",
        found=found,
        asked=asked,
        views=VIEW_WORDS,
        queues={each.key: each.name for each in recall_queues(reader.session)},
        people=people,
        owners=_owners(reader),
        priorities=list(TicketPriority),
        figures=read_figures(reader, since=since, until=asked.now),
        days=FIGURE_DAYS,
        here=_here(asked),
        refused=refused,
        writes=may_talk(reader.user),
    )
    return make_response(text, status)


def _asked(reader: Reader) -> TicketQuestion:
    args = request.values
    view = args.get("view", "")
    page = args.get("page", 1, type=whole) or 1
    priority = args.get("priority", "")
    return TicketQuestion(
        now=service().store.clock.now(),
        hours=_hours(reader),
        view=view if view in VIEWS else VIEWS[0],
        queue=args.get("queue", "")[:40] or None,
        priority=priority if priority in set(TicketPriority) else None,
        search=args.get("q", "").strip()[:200] or None,
        page=min(max(page, 1), _MOST_PAGES),
    )


def _here(asked: TicketQuestion) -> dict[str, Any]:
    named = {"view": asked.view, "queue": asked.queue, "priority": asked.priority, "q": asked.search}
    return {name: value for name, value in named.items() if value}


def _hours(reader: Reader) -> WorkingTime:
    return working_time(reader.session, service().settings.time_zone)


def _owners(reader: Reader) -> list[tuple[int, str]]:
    people = list_assignable(reader, Ticket(queue=None))
    return [(each.id, each.name) for each in people]


@pages.post("/many")
def give_many() -> ResponseReturnValue:
    """Give the chosen tickets to somebody, or to who is next in each one's queue: all of them, or none."""
    ids = [each for each in request.form.getlist("id", type=whole) if each]
    to = request.form.get("to", "")
    if not ids:
        return _list(gettext("Choose tickets first."), 422)

    def act(transaction: Transaction) -> None:
        for each in ids:
            _give_one(transaction, each, to)

    refused = _try(act)
    if refused is not None:
        return _list(refused[0], refused[1])
    flash(gettext("%(count)s tickets are given.", count=len(ids)))
    return redirect(url_for("ticket_pages.list_records", **_here(_asked(_reader()))))


def _give_one(transaction: Transaction, ticket_id: int, to: str) -> None:
    if to == "next":
        give_next(transaction, current_user.user, ticket_id)
        return
    if not (to.isascii() and to.isdigit() and len(to) < 18):
        raise InvalidValueError("to", to, gettext("somebody of the list"))
    give(transaction, current_user.user, ticket_id, int(to))


# ------------------------------------------------------------------------------------------------ new ones


@pages.get("/new")
def show_new() -> ResponseReturnValue:
    """Show the form for a new ticket."""
    check_may_write(current_user.user)
    return _new(dict(request.args.items()), None)


@pages.post("/new")
def create() -> ResponseReturnValue:
    """Open a ticket; what is refused stays in the form."""
    check_may_write(current_user.user)
    made: list[int] = []

    def act(transaction: Transaction) -> None:
        values = _values_of_new(Reader(transaction.session, current_user.user))
        kind = kind_of(transaction.session, "ticket")
        made.append(Editor(transaction, current_user.user).create(kind, values).id)

    refused = _try(act)
    if refused is not None:
        return _new(request.form, refused[0], refused[1])
    flash(gettext("The ticket is open."))
    return redirect(url_for("ticket_pages.show", record_id=made[0]))


def _new(values: Mapping[str, Any], refused: str | None, status: int = 200) -> ResponseReturnValue:
    reader = Reader(page_session(), current_user.user)
    account = _number(values.get("account_id") or "")
    named = {} if account is None else shown_records(reader, [("account", account)])
    text = render_template(
        "ticket_new.html",
        values=values,
        account=values.get("account") or next((each.title for each in named.values()), ""),
        queues=[each for each in recall_queues(reader.session) if not each.retired],
        priorities=list(TicketPriority),
        refused=refused,
    )
    return make_response(text, status)


def _values_of_new(reader: Reader) -> dict[str, Any]:
    form = request.form
    account_id = _account_of(reader, form.get("account", ""), form.get("account_id", ""))
    contact = form.get("contact", "").strip()
    return {
        "account_id": account_id,
        "contact_id": _contact_of(reader, contact, account_id) if contact else None,
        "subject": form.get("subject", "").strip() or None,
        "description": form.get("description", "").strip() or None,
        "priority": form.get("priority") or None,
        "queue": form.get("queue") or None,
    }


def _account_of(reader: Reader, name: str, known: str) -> int:
    """Return the customer that somebody named, as completion wrote it (`Name #12`) or in full."""
    known_id = _number(known)
    if known_id is not None and not name.strip():
        return reader.get(Account, known_id, only=("id",)).id
    found = find_named(reader, "account", name)
    if found is None:
        raise InvalidValueError("account", name, gettext("a customer, chosen from what is offered"))
    return found


def _number(text: str) -> int | None:
    try:
        return whole(text)
    except ValueError:
        return None


def _contact_of(reader: Reader, name: str, account_id: int) -> int:
    text, _sign, number = name.rpartition("#")
    contact_id = _number(number)
    if contact_id is not None and text:
        return reader.get(Contact, contact_id, only=("id",)).id
    query = reader.select(Contact).where(Contact.account_id == account_id, Contact.name == name)
    found = reader.session.scalars(query.limit(2)).all()
    if len(found) != 1:
        raise InvalidValueError("contact", name, gettext("a contact of the customer"))
    return found[0].id


# ------------------------------------------------------------------------------------------------ one ticket


@pages.get("/<int:record_id>")
def show(record_id: int) -> ResponseReturnValue:
    """Show a ticket: what was said, what is due, and what helps to answer."""
    return _show(record_id)


def _show(
    record_id: int, refused: str | None = None, status: int = 200, *, text: str = "", used: Sequence[int] = ()
) -> ResponseReturnValue:
    reader = _reader()
    record = reader.get(Ticket, record_id)
    seen = reader.masked(record)
    kind, people = kind_of(reader.session, "ticket"), names_of_people(reader.session)
    now = service().store.clock.now()
    found = suggest(reader, seen.subject or "", seen.description) if may_talk(reader.user) else []
    links = shown_records(reader, _links(seen))
    writes = may_write(reader, kind, record)
    page = render_template(
        "ticket.html",
        ticket=seen,
        title=title_in(reader, record),
        clock=clock_of(seen, now, _hours(reader)),
        talk=read_conversation(reader, record),
        about=_about(reader, record, writes=writes),
        people=people,
        links=links,
        others=list_others(reader, record),
        customer=_customer(reader, record),
        queues={each.key: each.name for each in recall_queues(reader.session) if not each.retired},
        assignable=list_assignable(reader, record) if writes else [],
        canned=_canned(reader) if writes else [],
        suggestions=_told(reader, found),
        statuses=list(TicketStatus),
        priorities=list(TicketPriority),
        sends=_sends(reader, record),
        refused=refused,
        text=text,
        used=used,
    )
    return make_response(page, status)


def _links(ticket: Ticket) -> list[tuple[str, int]]:
    links = [
        ("account", ticket.account_id),
        ("contact", ticket.contact_id),
        ("ticket", ticket.merged_into_id),
    ]
    return [(name, found) for name, found in links if found is not None]


def _about(reader: Reader, record: Ticket, *, writes: bool) -> About:
    kind = kind_of(reader.session, "ticket")
    people = names_of_people(reader.session)
    rest = reader.masked(record)
    rest.account_id = rest.contact_id = None  # type: ignore[assignment]  # named at the top: looked up once
    facts = [each for each in read_facts(reader, kind, rest, people) if each.name not in _OWN_PLACE]
    return About(
        kind=kind,
        key=("ticket", record.id),
        title="",
        type_word="",
        version=record.version,
        facts=facts,
        may_write=writes,
        may_talk=may_talk(reader.user),
        steps=(),
        timeline=None,  # type: ignore[arg-type]  # the conversation stands in its place
        people=people,
    )


def _customer(reader: Reader, ticket: Ticket) -> Mapping[str, Any] | None:
    """Return the customer with their score and what warns of them, as far as the reader sees it."""
    query = reader.select(Account).where(Account.id == ticket.account_id)
    record = reader.session.scalars(query).one_or_none()
    if record is None:
        return None
    return {
        "record": reader.masked(record),
        "alerts": open_alerts_of(reader, record, service().store.clock.now()),
    }


def _sends(reader: Reader, ticket: Ticket) -> str | None:
    """Return the address that an answer goes to; None where it is only noted."""
    if ticket.contact_id is None or not mail_is_on(service().settings):
        return None
    contact = reader.session.get(Contact, ticket.contact_id)
    seen = contact is not None and reader.may_read_field("contact", "email")
    return contact.email if seen and contact is not None else None


def _canned(reader: Reader) -> list[Any]:
    """Return the templates that can be filled in from a ticket, by language and name."""
    return [each for each in list_templates(reader.session, reader.user) if fits(each, "ticket")]


def _told(reader: Reader, found: Sequence[Suggestion]) -> list[Mapping[str, Any]]:
    articles = [reader.masked(each.article) for each in found]
    return [
        {
            "article": article,
            "likeness": each.likeness,
            "excerpt": plain_text(article.body or "")[:200],
        }
        for article, each in zip(articles, found, strict=True)
    ]


@pages.post("/<int:record_id>/answer")
def send_answer(record_id: int) -> ResponseReturnValue:
    """Answer the customer, or put a text into the answer that is being written."""
    form = request.form
    text = form.get("text", "").replace("\r\n", "\n")
    used = [each for each in form.getlist("article", type=whole) if each]
    if form.get("insert"):
        return _insert(record_id, text, used, form["insert"])
    told: list[Answered] = []

    def act(transaction: Transaction) -> None:
        status = form.get("status") or None
        if status is not None and status not in set(TicketStatus):
            raise InvalidValueError("ticket.status", status, one_of(TicketStatus))
        user, settings = current_user.user, service().settings
        told.append(answer(transaction, user, settings, record_id, text, status=status, article_ids=used))

    refused = gettext("An answer needs a text.") if not text.strip() else None
    failed = (refused, 422) if refused else _try(act)
    if failed is not None:
        return _show(record_id, *failed, text=text, used=used)
    flash(_what_came(told[0].unsent))
    return redirect(url_for("ticket_pages.show", record_id=record_id))


def _what_came(unsent: str | None) -> str:
    if unsent == "mail_off":
        return gettext("The answer is noted. It is not sent: mail is not set up.")
    if unsent == "no_address":
        return gettext("The answer is noted. It is not sent: the ticket has no contact with an address.")
    return gettext("The answer is on its way.")


def _insert(record_id: int, text: str, used: list[int], what: str) -> ResponseReturnValue:
    """Show the ticket again with a template or an article at the end of what was typed."""
    kind, _sign, number = what.partition(":")
    number = number or request.form.get("template", "")
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        raise RecordNotFoundError(kind[:20], number[:20])
    reader = _reader()
    reader.get(Ticket, record_id, only=("id",))
    try:
        if kind == "article":
            article = reader.masked(reader.get(Article, int(number)))
            added, used = plain_text(article.body or ""), [*used, article.id]
        else:
            template = get_template(reader.session, reader.user, int(number))
            added = render(reader.session, reader, template, ("ticket", record_id)).text
    except RecordNotFoundError:
        raise
    except CRMError as error:
        return _show(record_id, refusal(error), 422, text=text, used=used)
    joined = f"{text.rstrip()}\n\n{added}" if text.strip() else added
    return _show(record_id, text=joined, used=sorted(set(used)))


@pages.post("/<int:record_id>/set")
def set_fields(record_id: int) -> ResponseReturnValue:
    """Set status, priority, queue and owner, as they are in the form."""
    form = request.form

    def act(transaction: Transaction) -> None:
        values = {name: form[name] or None for name in ("status", "priority", "queue") if name in form}
        version = form.get("version", type=whole)
        user = current_user.user
        ticket = set_ticket(
            transaction, user, record_id, values, versions=None if version is None else [version]
        )
        owner = form.get("owner_id")
        if owner == "next":
            give_next(transaction, user, record_id)
        elif owner is not None and owner != str(ticket.owner_id or ""):
            wanted = int(owner) if owner.isascii() and owner.isdigit() and len(owner) < 18 else None
            give(transaction, user, record_id, wanted)

    failed = _try(act)
    if failed is not None:
        return _show(record_id, *failed)
    flash(gettext("Saved."))
    if not _still_seen(record_id):
        return redirect(url_for("ticket_pages.list_records"))
    return redirect(url_for("ticket_pages.show", record_id=record_id))


def _still_seen(record_id: int) -> bool:
    try:
        _reader().get(Ticket, record_id, only=("id",))
    except RecordNotFoundError:
        return False
    return True


@pages.post("/<int:record_id>/merge")
def merge_into(record_id: int) -> ResponseReturnValue:
    """Make this ticket a part of another one, whose number is given."""
    number = request.form.get("into", "").strip().removeprefix("#")
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        return _show(record_id, gettext("Give the number of the other ticket."), 422)
    into = int(number)
    failed = _try(lambda transaction: merge(transaction, current_user.user, into, record_id))
    if failed is not None:
        return _show(record_id, *failed)
    flash(gettext("Ticket %(gone)s is a part of this one now.", gone=record_id))
    return redirect(url_for("ticket_pages.show", record_id=into))


@pages.post("/<int:record_id>/articles/<int:article_id>")
def judge(record_id: int, article_id: int) -> ResponseReturnValue:
    """Say whether an article helped with a ticket."""
    helpful = request.form.get("helpful") == "yes"
    with writing(current_user.user, Source.REP) as transaction:
        judge_article(transaction, current_user.user, article_id, record_id, helpful=helpful)
    flash(gettext("Noted: it helped.") if helpful else gettext("Noted: it did not help."))
    return redirect(url_for("ticket_pages.show", record_id=record_id))


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


def _try(act: Callable[[Transaction], object]) -> tuple[str, int] | None:
    """Do something in one transaction; return why it was refused and the status to say so with, or None.

    What somebody may not see or do is refused as everywhere.
    """
    try:
        with writing(current_user.user, Source.REP) as transaction:
            act(transaction)
    except StaleRecordError:
        end_page_session()
        return gettext("Somebody changed this ticket meanwhile: what it is now stands below."), 409
    except InvalidValueError as error:
        end_page_session()
        return refusal(error), 422
    except CRMError as error:
        end_page_session()
        if type(error).__name__ in {"MergeError", "NotWrittenToError"}:
            return refusal(error), 409
        raise
    end_page_session()
    return None
