"""The pages of selling: the lines of a quote, what is done with it, approvals, payments, what is late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from crm_core.access import Reader, check_may_write
from crm_core.approvals import Approval, list_asked, list_waiting
from crm_core.changes import Source
from crm_core.checklists import read_checklist
from crm_core.contracts import Terms
from crm_core.errors import AccessDeniedError, CRMError, InvalidValueError, RecordNotFoundError
from crm_core.meetings import NextStep
from crm_core.offers import read_offer
from crm_core.payments import AGES, Planned, list_overdue, money_about, sum_overdue
from crm_core.phrases import Phrase
from crm_core.records import (
    Account,
    Comment,
    Contact,
    Contract,
    Deal,
    Line,
    Order,
    Quote,
    Role,
    User,
)
from crm_core.sales_settings import sales_settings
from crm_core.tokens import works_here
from serving import problems
from serving.editing import Editor, get_as, kind_of
from serving.owners import list_owners
from serving.selling import Seller, sees_overdue, sees_prices, today_of
from serving.service import end_page_session, page_session, service, writing
from serving.web.any_record import by_script, show_plain
from serving.web.asked import currency_typed, whole, whole_typed
from serving.web.facts import names_of_people
from serving.web.language import choose_time_zone, gettext, ngettext
from serving.web.places import path_of, shown_records, title_in
from serving.web.refusals import expected_of, refusal
from serving.web.selling_parts import name_rows

pages = Blueprint("selling_pages", __name__)

ROWS: Final = 50
STEP_ROWS: Final = 4
"""Next steps that the form of a meeting has room for."""
_MODELS: Final[Mapping[str, type[Contract | Order]]] = {"contract": Contract, "order": Order}


def _reader() -> Reader:
    return Reader(page_session(), current_user.user)


def _do(
    act: Callable[[Seller], str | None], record_type: str, record_id: int, said: str
) -> ResponseReturnValue:
    """Do something; go to where it leads, or back to the record with the reason why it was refused."""
    user: User = current_user.user
    try:
        check_may_write(user)
        with writing(user, Source.REP) as transaction:
            after = act(Seller(transaction=transaction, user=user))
    except (RecordNotFoundError, AccessDeniedError):
        raise
    except CRMError as error:
        return _refused(record_type, record_id, error)
    end_page_session()
    flash(said)
    return redirect(after or path_of(record_type, record_id) or "/")


def _refused(record_type: str, record_id: int, error: CRMError) -> ResponseReturnValue:
    return show_plain(record_type, record_id, trouble=_why(error), status=problems.kind_of(error).status)


def _why(error: CRMError) -> str:
    if isinstance(error, InvalidValueError):
        if error.field == "note":
            return gettext("Say in the note why it is refused.")
        return gettext("Expected: %(expected)s", expected=expected_of(error))
    return refusal(error)


# ------------------------------------------------------------------------------------------------- reading


def _decimal(name: str, *, least: Decimal | None = None) -> Decimal | None:
    """Return the number that was typed; None for nothing."""
    text = request.form.get(name, "").strip().removesuffix("%").strip()
    plain = text.replace(",", "").replace(" ", "").replace("\u00a0", "").replace("'", "")
    if not plain:
        return None
    try:
        found = Decimal(plain)
    except InvalidOperation as error:
        raise InvalidValueError(name, text, "a number, such as 1250.50") from error
    if not found.is_finite() or abs(found) > 10**15 or (least is not None and found < least):
        raise InvalidValueError(name, text, "a number, such as 1250.50")
    return found


def _share(name: str) -> float | None:
    """Return the share that was typed in percent."""
    found = _decimal(name)
    if found is not None and not 0 <= found <= 100:
        raise InvalidValueError(name, str(found), "a percentage from 0 to 100")
    return None if found is None else float(found / 100)


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidValueError(name, text, "a day, such as 2026-03-02") from error


def _instant(name: str) -> datetime | None:
    """Return the noon of the day that was typed, or now where that comes first; None for nothing."""
    text = request.form.get(name, "").strip()
    if not text:
        return None
    day = _day(name, text)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(choose_time_zone()))
    now = service().store.clock.now()
    return now if noon > now and day == now.astimezone(noon.tzinfo).date() else noon


def _terms() -> Terms:
    return Terms(
        starts_on=_day("starts_on", request.form.get("starts_on", "")),
        ends_on=_day("ends_on", request.form.get("ends_on", "")),
        value=_decimal("value", least=Decimal(0)),
        signed_at=_instant("signed_on"),
    )


# -------------------------------------------------------------------------------------------------- quotes


@pages.post("/records/<any(deal, account):record_type>/<int:record_id>/quotes")
def begin_quote(record_type: str, record_id: int) -> ResponseReturnValue:
    """Begin a quote for a deal or a customer, and go there."""
    user: User = current_user.user
    check_may_write(user)
    with writing(user, Source.REP) as transaction:
        editor = Editor(transaction, user)
        about: Any = editor.reader.get(Deal if record_type == "deal" else Account, record_id)
        values = {
            f"{record_type}_id": record_id,
            "currency": currency_typed(request.form.get("currency", "")) or getattr(about, "currency", None),
            "owner_id": user.id if user.role == Role.REP else about.owner_id,
        }
        quote = editor.create(kind_of(transaction.session, "quote"), values)
    return redirect(path_of("quote", quote.id) or "/")


@pages.post("/quotes/<int:quote_id>/lines")
def add_line(quote_id: int) -> ResponseReturnValue:
    """Write a line of a draft: something of the price list, or whatever its text says."""

    def act(seller: Seller) -> None:
        seller.get(Quote, quote_id, ("amount",))
        values = {"quote_id": quote_id, **_line_values()}
        product = request.form.get("product_id", "").strip()
        if product:
            values["product_id"] = whole_typed("product_id", product)
        seller.editor.create(kind_of(seller.transaction.session, "line"), values)

    return _do(act, "quote", quote_id, gettext("Saved."))


def _line_values() -> dict[str, Any]:
    quantity = _decimal("quantity", least=Decimal(0))
    return {
        "text": request.form.get("text", "").strip()[:300] or None,
        "quantity": 1.0 if quantity is None else float(quantity),
        "unit_price": _decimal("unit_price"),
        "discount": _share("discount"),
    }


@pages.post("/quotes/<int:quote_id>/lines/<int:line_id>")
def change_line(quote_id: int, line_id: int) -> ResponseReturnValue:
    """Change a line of a draft, or take it away."""

    def act(seller: Seller) -> None:
        seller.get(Quote, quote_id, ("amount",))
        kind = kind_of(seller.transaction.session, "line")
        line = seller.editor.get_to_write(kind, line_id)
        if not isinstance(line, Line) or line.quote_id != quote_id:
            raise RecordNotFoundError("line", line_id)
        if request.form.get("action") == "remove":
            seller.editor.delete(kind, line_id)
        else:
            seller.editor.update(kind, line_id, _line_values())

    return _do(act, "quote", quote_id, gettext("Saved."))


@pages.post("/quotes/<int:quote_id>/act")
def act_on_quote(quote_id: int) -> ResponseReturnValue:
    """Send a quote, note what the customer said, revise it, or ask for an approval."""
    action = request.form.get("action", "")

    def act(seller: Seller) -> str | None:
        match action:
            case "send":
                seller.send(quote_id, mail_to=request.form.get("mail_to", "").strip() or None)
            case "accept":
                wants = request.form.get("with_contract") == "yes"
                seller.accept(quote_id, contract=_terms() if wants else None)
            case "reject":
                seller.reject(quote_id, request.form.get("reason", "").strip()[:200] or None)
            case "revise":
                return path_of("quote", seller.revise(quote_id).id)
            case "ask":
                seller.ask(quote_id, note=request.form.get("note"), value=_decimal("value"))
            case "contract":
                return path_of("contract", seller.sign(Quote, quote_id, _terms()).id)
            case _:
                seller.get(Quote, quote_id, ())
                raise InvalidValueError("action", action, "something that can be done with a quote")
        return None

    return _do(act, "quote", quote_id, _SAID.get(action, lambda: "")())


_SAID: Mapping[str, Callable[[], str]] = {
    "send": lambda: gettext("The quote is sent. Print it, or give the customer the page as a PDF."),
    "accept": lambda: gettext("Accepted. The order is made."),
    "reject": lambda: gettext("Noted."),
    "revise": lambda: gettext("This is the next revision: change it, then send it."),
    "ask": lambda: gettext("Asked. Whoever may approve it is told."),
    "contract": lambda: gettext("The contract is made."),
}


@pages.get("/quotes/<int:quote_id>/print")
def print_quote(quote_id: int) -> ResponseReturnValue:
    """Show a quote as it is printed."""
    reader = _reader()
    quote = reader.get(Quote, quote_id)
    if not sees_prices(reader, quote):
        raise AccessDeniedError(
            Phrase("the role {role} may not see what quotes come to", role=reader.user.role)
        )
    offer = read_offer(reader.session, quote)
    seen = reader.masked(quote)
    account = _named(reader, "account", quote.account_id)
    return render_template(
        "quote_print.html",
        quote=seen,
        rows=name_rows(reader, offer),
        totals=offer.totals,
        to=account,
        contact=_contact_of(reader, quote),
        seller=names_of_people(reader.session).get(seen.owner_id),
        company=sales_settings(reader.session),
        day=quote.sent_at or quote.occurred_at,
    )


def _named(reader: Reader, record_type: str, record_id: int | None) -> str | None:
    if record_id is None:
        return None
    found = shown_records(reader, [(record_type, record_id)]).get((record_type, record_id))
    return None if found is None else found.title


def _contact_of(reader: Reader, quote: Quote) -> str | None:
    """Return whom a quote is addressed to: the contact of its deal."""
    if quote.deal_id is None or not reader.may_be_told_of(["deal.contact_id", "contact.name"]):
        return None
    query = reader.select(Contact).where(
        Contact.id.in_(select(Deal.contact_id).where(Deal.id == quote.deal_id, reader.readable(Deal)))
    )
    found = reader.session.scalars(query).first()
    return None if found is None else found.name


# ----------------------------------------------------------------------------------------------- approvals


@pages.get("/approvals")
def list_approvals() -> str:
    """Show what waits for a decision of somebody's, and what they asked for."""
    return _approvals(None)


def _approvals(trouble: str | None) -> str:
    reader = _reader()
    waiting, asked = list_waiting(reader), list_asked(reader)
    both = [*waiting, *asked]
    keys = [("quote", quote.id) for _, quote in both]
    keys += [("account", quote.account_id) for _, quote in both if quote.account_id is not None]
    return render_template(
        "approvals.html",
        waiting=waiting,
        asked=asked,
        shown=shown_records(reader, keys),
        notes=_notes(reader, [approval for approval, _ in both]),
        people=names_of_people(reader.session),
        sees=reader.may_be_told_of(["quote.amount", "quote.discount", "line.unit_price"]),
        trouble=trouble,
    )


def _notes(reader: Reader, approvals: list[Approval]) -> dict[int, str]:
    ids = {each for one in approvals for each in (one.asked_in_id, one.decided_in_id) if each is not None}
    if not ids:
        return {}
    query = reader.select(Comment).where(Comment.id.in_(ids))
    return {one.id: one.body for one in reader.session.scalars(query)}


@pages.post("/approvals/<int:approval_id>/decide")
def decide(approval_id: int) -> ResponseReturnValue:
    """Approve what somebody asked for, or refuse it with a reason."""
    user: User = current_user.user
    check_may_write(user)
    approve = request.form.get("decision") == "approve"
    try:
        with writing(user, Source.REP) as transaction:
            seller = Seller(transaction=transaction, user=user)
            decided = seller.decide(approval_id, approve=approve, note=request.form.get("note"))
    except (RecordNotFoundError, AccessDeniedError):
        raise
    except CRMError as error:
        return make_response(_approvals(_why(error)), problems.kind_of(error).status)
    end_page_session()
    flash(gettext("Approved.") if approve else gettext("Refused. Whoever asked is told."))
    if request.form.get("from") == "quote":
        return redirect(path_of("quote", decided.quote_id) or "/approvals")
    return redirect(url_for("selling_pages.list_approvals"))


# ------------------------------------------------------------------------------------ contracts, payments


@pages.post("/records/<any(contract, order):record_type>/<int:record_id>/plan")
def plan(record_type: str, record_id: int) -> ResponseReturnValue:
    """Plan the payments that have not come in."""

    def act(seller: Seller) -> None:
        seller.plan(_MODELS[record_type], record_id, _planned(request.form))

    return _do(act, record_type, record_id, gettext("The plan is saved."))


def _planned(form: MultiDict[str, str]) -> list[Planned]:
    """Return the parts of a plan as they were typed: `30%`, an amount, or nothing for the rest."""
    parts = []
    for due_on, share in zip(form.getlist("due_on"), form.getlist("share"), strict=False):
        if not due_on.strip() and not share.strip():
            continue
        parts.append(_part(_day("due_on", due_on), share.strip()))
    return parts


def _part(due_on: date, share: str) -> Planned:
    plain = share.removesuffix("%").replace(",", "").replace(" ", "")
    if not plain:
        return Planned(due_on=due_on)
    try:
        number = Decimal(plain)
    except InvalidOperation as error:
        raise InvalidValueError("share", share, "a percentage such as 30 %, or an amount") from error
    if not number.is_finite() or abs(number) > 10**15:
        raise InvalidValueError("share", share, "a percentage such as 30 %, or an amount")
    return (
        Planned(due_on=due_on, percent=number)
        if share.endswith("%")
        else Planned(due_on=due_on, amount=number)
    )


@pages.post("/records/<any(contract, order):record_type>/<int:record_id>/receive")
def receive(record_type: str, record_id: int) -> ResponseReturnValue:
    """Note that money came in."""

    def act(seller: Seller) -> None:
        amount = _decimal("amount", least=Decimal(0))
        if amount is None:
            raise InvalidValueError("amount", None, "an amount")
        said = {
            "paid_at": _instant("paid_on"),
            "reference": request.form.get("reference", "").strip()[:120] or None,
        }
        seller.receive(_MODELS[record_type], record_id, amount=amount, **said)

    return _do(act, record_type, record_id, gettext("Noted."))


@pages.post("/orders/<int:record_id>/contract")
def sign(record_id: int) -> ResponseReturnValue:
    """Make the contract of an order."""
    return _do(
        lambda seller: path_of("contract", seller.sign(Order, record_id, _terms()).id),
        "order",
        record_id,
        gettext("The contract is made."),
    )


@pages.post("/contracts/<int:record_id>/act")
def act_on_contract(record_id: int) -> ResponseReturnValue:
    """Renew a contract, open the deal in which its renewal is worked on, or note that it has ended."""
    action = request.form.get("action", "")

    def act(seller: Seller) -> str | None:
        match action:
            case "renew":
                return path_of("contract", seller.renew(record_id, _terms()).id)
            case "start_renewal":
                return path_of("deal", seller.start_renewal(record_id).id)
            case "end" | "cancel":
                seller.end(record_id, cancelled=action == "cancel")
            case _:
                seller.get(Contract, record_id, ())
                raise InvalidValueError("action", action, "something that can be done with a contract")
        return None

    return _do(act, "contract", record_id, gettext("Noted."))


# ------------------------------------------------------------------------------------------------- process


@pages.get("/deals/<int:deal_id>/checklist")
def show_checklist(deal_id: int) -> str:
    """Give what is to be done with a deal in its stage: a part for a script, or a page."""
    reader = _reader()
    deal = reader.get(Deal, deal_id)
    return render_template(
        "_checklist.html" if by_script() else "checklist.html",
        items=read_checklist(reader.session, deal),
        deal=reader.masked(deal),
        people=names_of_people(reader.session),
        may_tick=reader.user.role != Role.ANALYST and deal.status == "open",
    )


@pages.post("/deals/<int:deal_id>/checklist")
def tick(deal_id: int) -> ResponseReturnValue:
    """Note that something was done, or was not after all."""
    user: User = current_user.user
    check_may_write(user)
    done = request.form.get("done") != "no"
    with writing(user, Source.REP) as transaction:
        Seller(transaction=transaction, user=user).tick(deal_id, request.form.get("key", ""), done=done)
    flash(gettext("Noted."))
    return redirect(url_for("deals_pages.show", record_id=deal_id, _anchor="checklist"))


@pages.get("/records/<any(lead, deal, account, contact):record_type>/<int:record_id>/meeting")
def show_meeting(record_type: str, record_id: int) -> ResponseReturnValue:
    """Show the form of a meeting with its next steps."""
    check_may_write(current_user.user)
    return _meeting(record_type, record_id, None, 200)


@pages.post("/records/<any(lead, deal, account, contact):record_type>/<int:record_id>/meeting")
def log_meeting(record_type: str, record_id: int) -> ResponseReturnValue:
    """Log a meeting, and its next steps as tasks."""
    user: User = current_user.user
    check_may_write(user)
    try:
        with writing(user, Source.REP) as transaction:
            seller = Seller(transaction=transaction, user=user)
            _, tasks = seller.meet((record_type, record_id), _held(), _next_steps())
            count = len(tasks)
    except (RecordNotFoundError, AccessDeniedError):
        raise
    except CRMError as error:
        return _meeting(record_type, record_id, _why(error), problems.kind_of(error).status)
    with_steps = ngettext("Logged, with %(num)d next step.", "Logged, with %(num)d next steps.", count)
    flash(with_steps if count else gettext("Logged."))
    return redirect(path_of(record_type, record_id) or "/")


def _held() -> dict[str, Any]:
    """Return what was said of the meeting."""
    form = request.form
    minutes = _decimal("minutes", least=Decimal(0))
    return {
        "subject": form.get("subject", "").strip()[:300] or None,
        "body": form.get("body", "").strip() or None,
        "occurred_at": _moment("occurred_at", form.get("occurred_at", "")),
        "duration_seconds": None if minutes is None else int(minutes * 60),
    }


def _next_steps() -> list[NextStep]:
    """Return the next steps that were typed; a row without words is none."""
    form = request.form
    rows = zip(form.getlist("step"), form.getlist("step_owner"), form.getlist("step_due"), strict=False)
    return [
        NextStep(
            text=text.strip()[:300],
            owner_id=whole_typed("step_owner", owner) if owner.strip() else None,
            due_at=_moment("step_due", due),
        )
        for text, owner, due in rows
        if text.strip()
    ]


def _moment(field: str, text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=ZoneInfo(choose_time_zone()))
    except ValueError as error:
        raise InvalidValueError(field, text, "a day and time") from error


def _meeting(record_type: str, record_id: int, trouble: str | None, status: int) -> ResponseReturnValue:
    reader = _reader()
    kind = kind_of(reader.session, record_type)
    record = get_as(reader, kind, record_id)
    page = render_template(
        "meeting.html",
        title=title_in(reader, record),
        path=path_of(record_type, record_id),
        action=f"/records/{record_type}/{record_id}/meeting",
        owners=[one for one in list_owners(reader.session, reader.user) if works_here(one)],
        values=request.form,
        trouble=trouble,
        rows=STEP_ROWS,
    )
    return make_response(page, status)


@pages.get("/records/<any(deal, account):record_type>/<int:record_id>/money")
def show_money(record_type: str, record_id: int) -> ResponseReturnValue:
    """Give what was quoted, ordered, signed and paid: a part for a script, or a page."""
    reader = _reader()
    model: type[Deal | Account] = Deal if record_type == "deal" else Account
    record = reader.get(model, record_id)
    query = reader.select(Quote).where(
        (Quote.deal_id if record_type == "deal" else Quote.account_id) == record_id
    )
    quotes = reader.session.scalars(query.order_by(Quote.id.desc()).limit(5)).all()
    return render_template(
        "_money.html" if by_script() else "money.html",
        sums=money_about(reader, record, today_of(reader, service().store.clock.now())),
        quotes=[reader.masked(quote) for quote in quotes],
        key=(record_type, record_id),
        title=title_in(reader, record),
        path=path_of(record_type, record_id),
        may_quote=reader.user.role != Role.ANALYST,
        currency=getattr(record, "currency", None),
    )


@pages.get("/payments/overdue")
def show_overdue() -> str:
    """Show what is late, by currency, owner and age."""
    reader = _reader()
    if not sees_overdue(reader):
        raise AccessDeniedError(
            Phrase("the role {role} may not see what payments are late", role=reader.user.role)
        )
    today = today_of(reader, service().store.clock.now())
    owner_id = request.args.get("owner", type=whole)
    page = max(1, min(request.args.get("page", 1, type=whole) or 1, 10_000))
    rows = list_overdue(reader, today, limit=ROWS + 1, offset=(page - 1) * ROWS, owner_id=owner_id)
    sums = sum_overdue(reader, today, owner_id=owner_id)
    keys = [
        (name, each)
        for row in rows
        for name, each in (("contract", row.payment.contract_id), ("order", row.payment.order_id))
        if each is not None
    ]
    return render_template(
        "overdue.html",
        rows=rows[:ROWS],
        sums=sums,
        by_currency=_by_currency(sums),
        ages=AGES,
        shown=shown_records(reader, keys),
        people=names_of_people(reader.session),
        owner_id=owner_id,
        page=page,
        more=len(rows) > ROWS,
    )


def _by_currency(sums: Any) -> dict[str, dict[int | None, list[Decimal]]]:  # noqa: ANN401  a sequence of sums
    """Return, by currency and owner, what is late of each age."""
    found: dict[str, dict[int | None, list[Decimal]]] = {}
    for each in sums:
        owners = found.setdefault(each.currency, {})
        ages = owners.setdefault(each.owner_id, [Decimal(0)] * len(AGES))
        ages[each.age] += each.amount
    return found
