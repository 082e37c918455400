"""Quotes, approvals, contracts and payments over HTTP: what is done with them beside writing their fields."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import Reader
from crm_core.approvals import LONGEST_NOTE, Approval, get_approval, list_asked, list_waiting
from crm_core.changes import Source
from crm_core.checklists import Ticked, read_checklist
from crm_core.contracts import Terms
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.meetings import MOST_STEPS, NextStep
from crm_core.offers import given_away, read_offer
from crm_core.payments import (
    AGES,
    MOST_PARTS,
    Planned,
    days_late,
    list_overdue,
    money_about,
    read_plan,
    sum_overdue,
)
from crm_core.records import Account, Contract, Deal, Order, Quote, Record
from crm_core.store import Transaction
from serving.api.blueprint import answer, caller, documented, new_blueprint
from serving.api.conditional import ReadHeaders, WriteHeaders, created, mark_of, tagged
from serving.api.pages import Key, PageQuery, cursor_of
from serving.api.records import created_record
from serving.api.records_given import written_json
from serving.api.records_schemas import COLLECTIONS, DayIn, MoneyIn
from serving.mail import mail_is_on
from serving.payloads import MAIL_PATTERN, Given, Id, Past, RecordPath, Taken, Utc, whole
from serving.selling import Seller, check_sees_money, sees_overdue, today_of
from serving.service import service, writing

api: APIBlueprint = new_blueprint(
    "selling", "Quotes, approvals, contracts and payments: what is done with them."
)

QuoteOut, ContractOut = COLLECTIONS["quote"].given, COLLECTIONS["contract"].given
DealOut, PaymentOut = COLLECTIONS["deal"].given, COLLECTIONS["payment"].given

_WRITTEN = documented(400, 404, 409, 413, 415)
Note = Annotated[str, Field(max_length=LONGEST_NOTE)]
_Seconds: Any = whole(0, 30 * 86_400)
_PERCENT = r"^[0-9]{1,3}(\.[0-9]{1,4})?$"


class TermsIn(Taken):
    """What a contract says; its value is that of what it comes from unless said otherwise."""

    starts_on: DayIn
    ends_on: DayIn
    value: MoneyIn | None = None
    signed_at: Past | None = Field(default=None, description="Default now.")
    number: Annotated[str, Field(min_length=1, max_length=120)] | None = Field(
        default=None, description="Default the next one of the year, such as C-2026-0001."
    )

    def terms(self) -> Terms:
        """Return the same for the store."""
        return Terms(**{name: getattr(self, name) for name in TermsIn.model_fields})


class RenewIn(Taken):
    """What the next contract says otherwise than the one before."""

    terms: TermsIn | None = Field(
        default=None, description="Default: from the day after, for as long and much."
    )


class AcceptIn(Taken):
    """What follows from a quote that was accepted."""

    order: bool = Field(default=True, description="Make the order, with its lines.")
    contract: TermsIn | None = Field(default=None, description="Make the contract, too.")


class SendIn(Taken):
    """How a quote goes to the customer."""

    mail_to: Annotated[str, Field(min_length=3, max_length=320, pattern=MAIL_PATTERN)] | None = Field(
        default=None, description="Also queue a mail with what it says, on its deal or customer."
    )


class RejectIn(Taken):
    """Why the customer did not want it."""

    reason: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class ApprovalIn(Taken):
    """Why something should be approved."""

    note: Note | None = None
    value: MoneyIn | None = Field(
        default=None,
        description="Of a contract that is to be made of an accepted quote for less than it says.",
    )


class DecisionIn(Taken):
    """Whether something is approved; a refusal says why."""

    approve: bool
    note: Note | None = None


class NothingIn(Taken):
    """Nothing more is to be said."""


class EndIn(Taken):
    """How a contract ended."""

    cancelled: bool = False
    ended_at: Past | None = Field(default=None, description="Default now.")


class PlannedIn(Taken):
    """One part of a payment plan: a percentage of what has not come in, an amount, or neither: the rest."""

    due_on: DayIn
    percent: Annotated[str, Field(pattern=_PERCENT, examples=["30"])] | None = None
    amount: MoneyIn | None = None

    def planned(self) -> Planned:
        """Return the same for the store."""
        percent = None if self.percent is None else Decimal(self.percent)
        return Planned(due_on=self.due_on, percent=percent, amount=self.amount)


class PlanIn(Taken):
    """A payment plan, by day; an empty one takes away what is open."""

    parts: Annotated[list[PlannedIn], Field(max_length=MOST_PARTS)]


class ReceiptIn(Taken):
    """Money that came in: it pays what is due first."""

    amount: MoneyIn
    paid_at: Past | None = Field(default=None, description="Default now.")
    reference: Annotated[str, Field(min_length=1, max_length=120)] | None = None


class PaidIn(Taken):
    """That a claim was paid, or a part of it."""

    amount: MoneyIn | None = Field(default=None, description="Default all of it.")
    paid_at: Past | None = Field(default=None, description="Default now.")
    reference: Annotated[str, Field(min_length=1, max_length=120)] | None = None


class TotalOut(Given):
    """What one line comes to, rounded."""

    line_id: int
    total: Decimal


class TotalsOut(Given):
    """What a quote comes to; `off_list` is the share of the list price that it gives away."""

    currency: str | None
    lines: list[TotalOut]
    subtotal: Decimal
    taken_off: Decimal
    amount: Decimal
    off_list: float


class ApprovalOut(Given):
    """A request that something be approved, and what became of it."""

    id: int
    kind: Literal["discount", "contract_value"]
    quote_id: int
    state: Literal["waiting", "approved", "refused", "lapsed"]
    given_away: float = Field(description="Share of the list price, as it was when it was asked for.")
    amount: Decimal
    currency: str | None
    asked_by_id: int
    asked_at: Utc
    asked_in_id: int | None = Field(description="The comment that says why.")
    approver_id: int | None = Field(description="Whom it waits for; null: whoever may.")
    decided_by_id: int | None
    decided_at: Utc | None
    decided_in_id: int | None = Field(description="The comment that says why.")


class ApprovalsQuery(PageQuery):
    """Which approvals."""

    which: Literal["waiting", "asked"] = Field(
        default="waiting",
        description="Those that wait for a decision of yours, or those that you asked for.",
    )


class ApprovalsPage(Given):
    """What waits for you, for you by name first, then the oldest; or what you asked for, newest first."""

    items: list[ApprovalOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class PartOut(Given):
    """One part of a payment plan."""

    part: int | None
    due_on: date | None
    amount: Decimal
    received: Decimal
    open: Decimal
    overdue: bool


class PlanOut(Given):
    """The payments of a contract or an order."""

    value: Decimal | None
    currency: str | None
    received: Decimal
    open: Decimal
    overdue: Decimal
    unplanned: Decimal = Field(description="What the plan lacks to the value; below zero: too much.")
    parts: list[PartOut]
    payment_ids: list[int]


class OverdueOut(Given):
    """A payment that is late."""

    payment_id: int
    account_id: int
    contract_id: int | None
    order_id: int | None
    owner_id: int | None = Field(description="Of the deal, or else of the customer.")
    amount: Decimal
    currency: str | None
    due_on: date
    days_late: int


class OverdueSumOut(Given):
    """What is late, of one currency, owner and age; currencies are never added up."""

    currency: str
    owner_id: int | None
    days_from: int
    days_to: int | None
    amount: Decimal
    count: int


class OverduesOut(Given):
    """What is late, the longest first."""

    sums: list[OverdueSumOut] = Field(description="Of all of it, on every page.")
    items: list[OverdueOut]
    next_cursor: str | None = Field(description="Ask with it for the next page; null on the last.")


class OverdueQuery(PageQuery):
    """Whose, and how many."""

    owner_id: Id | None = Field(default=None, description="Only of this owner.")


class MoneyOut(Given):
    """What there is of one currency about a customer or a deal."""

    currency: str
    quoted: Decimal = Field(description="Quotes that were sent and are not decided.")
    ordered: Decimal
    contracted: Decimal = Field(description="Contracts that run or were renewed.")
    received: Decimal
    open: Decimal
    overdue: Decimal


class MoniesOut(Given):
    """What there is about a customer or a deal, by currency."""

    items: list[MoneyOut]


# ----------------------------------------------------------------------------------------------- process


class TickIn(Taken):
    """That something on a checklist was done, or was not after all."""

    key: Annotated[str, Field(min_length=1, max_length=16)]
    done: bool = True


class TickedOut(Given):
    """Something that is to be done with a deal in its stage."""

    key: str
    text: str
    required: bool = Field(description="Before the deal leaves for a later stage.")
    done_by_id: int | None
    done_at: Utc | None


class ChecklistOut(Given):
    """What is to be done with a deal in the stage that it is in."""

    stage: str
    items: list[TickedOut]


class NextStepIn(Taken):
    """What somebody is to do after a meeting."""

    text: Annotated[str, Field(min_length=1, max_length=300)]
    owner_id: Id | None = Field(default=None, description="Default you.")
    due_at: Past | None = None


class MeetingIn(Taken):
    """A meeting: what was said, and what is to be done next."""

    subject: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    body: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    occurred_at: Past | None = Field(default=None, description="Default now.")
    duration_seconds: _Seconds | None = None
    steps: Annotated[list[NextStepIn], Field(max_length=MOST_STEPS)] = Field(default_factory=list)


class MeetingOut(Given):
    """The meeting that was logged, and its next steps."""

    activity_id: int
    task_ids: list[int]


@api.get("/deals/<int:id>/checklist", responses={"200": ChecklistOut, **documented(404)})
def get_checklist(path: RecordPath) -> Response:
    """Read what is to be done with a deal in the stage that it is in."""
    with service().store.reading() as session:
        deal = Reader(session, caller()).get(Deal, path.id)
        return answer(_checklist(deal, read_checklist(session, deal)))


@api.post("/deals/<int:id>/checklist", responses={"200": ChecklistOut, **_WRITTEN})
def tick_checklist(path: RecordPath, body: TickIn) -> Response:
    """Note that something on the checklist of a deal's stage was done, or was not after all."""
    with writing(caller(), Source.API) as transaction:
        found = _seller(transaction).tick(path.id, body.key, done=body.done)
        return answer(_checklist(transaction.session.get_one(Deal, path.id), found))


def _checklist(deal: Deal, found: Sequence[Ticked]) -> ChecklistOut:
    items = [
        TickedOut(
            key=each.item.key,
            text=each.item.text,
            required=each.item.required,
            done_by_id=each.by_id,
            done_at=each.at,
        )
        for each in found
    ]
    return ChecklistOut(stage=deal.stage, items=items)


@api.post("/leads/<int:id>/meetings", responses={"201": MeetingOut, **_WRITTEN})
def log_meeting_on_lead(path: RecordPath, body: MeetingIn) -> Response:
    """Log a meeting about a lead; its next steps become tasks."""
    return _meet("lead", path.id, body)


@api.post("/deals/<int:id>/meetings", responses={"201": MeetingOut, **_WRITTEN})
def log_meeting_on_deal(path: RecordPath, body: MeetingIn) -> Response:
    """Log a meeting about a deal; its next steps become tasks."""
    return _meet("deal", path.id, body)


@api.post("/accounts/<int:id>/meetings", responses={"201": MeetingOut, **_WRITTEN})
def log_meeting_on_account(path: RecordPath, body: MeetingIn) -> Response:
    """Log a meeting with a customer; its next steps become tasks."""
    return _meet("account", path.id, body)


@api.post("/contacts/<int:id>/meetings", responses={"201": MeetingOut, **_WRITTEN})
def log_meeting_on_contact(path: RecordPath, body: MeetingIn) -> Response:
    """Log a meeting with a contact; its next steps become tasks."""
    return _meet("contact", path.id, body)


def _meet(record_type: str, record_id: int, body: MeetingIn) -> Response:
    steps = [NextStep(text=step.text, owner_id=step.owner_id, due_at=step.due_at) for step in body.steps]
    names = ("subject", "body", "occurred_at", "duration_seconds")
    with writing(caller(), Source.API) as transaction:
        held, tasks = _seller(transaction).meet(
            (record_type, record_id), {name: getattr(body, name) for name in names}, steps
        )
        made = MeetingOut(activity_id=held.id, task_ids=[each.id for each in tasks])
        return created(made, f"activities/{held.id}")


# ------------------------------------------------------------------------------------------------ quotes


@api.post("/quotes/<int:id>/send", responses={"200": QuoteOut, **_WRITTEN})
def send_quote(path: RecordPath, body: SendIn) -> Response:
    """Note that a draft goes to the customer now; one that gives too much away needs an approval first."""
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).send(path.id, mail_to=_mail_to(body)))


def _mail_to(body: SendIn) -> str | None:
    if body.mail_to is not None and not mail_is_on(service().settings):
        raise InvalidValueError("mail_to", body.mail_to, "nothing: mail is not set up here")
    return body.mail_to


@api.post("/quotes/<int:id>/revise", responses={"201": QuoteOut, **_WRITTEN})
def revise_quote(path: RecordPath, body: NothingIn) -> Response:  # noqa: ARG001  the form of the request
    """Make the next revision of a quote that went out: a draft with the same number and lines."""
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).revise(path.id), 201)


@api.post("/quotes/<int:id>/accept", responses={"200": QuoteOut, **_WRITTEN})
def accept_quote(path: RecordPath, body: AcceptIn) -> Response:
    """Note that the customer accepted a quote; its order and contract are made with it."""
    terms = None if body.contract is None else body.contract.terms()
    with writing(caller(), Source.API) as transaction:
        quote = _seller(transaction).accept(path.id, order=body.order, contract=terms)
        return _given(transaction, quote)


@api.post("/quotes/<int:id>/reject", responses={"200": QuoteOut, **_WRITTEN})
def reject_quote(path: RecordPath, body: RejectIn) -> Response:
    """Note that the customer did not want a quote."""
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).reject(path.id, body.reason))


@api.get("/quotes/<int:id>/totals", responses={"200": TotalsOut, **documented(404)})
def get_quote_totals(path: RecordPath) -> Response:
    """Read what the lines of a quote come to."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        quote = reader.get(Quote, path.id)
        _check_sees_prices(reader)
        offer = read_offer(session, quote)
    lines = [
        TotalOut(line_id=line.id, total=total)
        for line, total in zip(offer.lines, offer.totals.lines, strict=True)
    ]
    totals = offer.totals
    return answer(
        TotalsOut(
            currency=quote.currency,
            lines=lines,
            subtotal=totals.subtotal,
            taken_off=totals.taken_off,
            amount=totals.amount,
            off_list=float(given_away(quote, offer)),
        )
    )


def _check_sees_prices(reader: Reader) -> None:
    names = ("quantity", "unit_price", "list_price", "discount")
    if not reader.may_be_told_of([*(f"line.{name}" for name in names), "quote.discount", "quote.amount"]):
        raise AccessDeniedError(f"the role {reader.user.role} may not see what quotes come to")


# --------------------------------------------------------------------------------------------- approvals


@api.post("/quotes/<int:id>/approval", responses={"201": ApprovalOut, **_WRITTEN})
def ask_for_approval(path: RecordPath, body: ApprovalIn) -> Response:
    """Ask that a quote be approved as it is; the owner's manager is told."""
    with writing(caller(), Source.API) as transaction:
        asked = _seller(transaction).ask(path.id, note=body.note, value=body.value)
        return created(_approval(asked), f"approvals/{asked.id}")


@api.get("/approvals", responses={"200": ApprovalsPage, **documented()})
def list_approvals(query: ApprovalsQuery) -> Response:
    """List what waits for a decision that you may take, or what you asked for."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        if query.which == "asked":
            found = [each for each, _ in list_asked(reader, limit=query.limit + 1, before=query.before())]
            page = found[: query.limit]
            more = cursor_of((page[-1].id,)) if len(found) > query.limit else None
        else:
            waiting = [each for each, _ in list_waiting(reader, limit=None)]
            page, more = query.part(waiting, lambda each: _by_urgency(each, caller().id))
        return answer(ApprovalsPage(items=[_approval(each) for each in page], next_cursor=more))


def _by_urgency(approval: Approval, user_id: int) -> Key:
    return (int(approval.approver_id != user_id), approval.asked_at.isoformat(), approval.id)


@api.get(
    "/approvals/<int:id>", operation_id="get_approval", responses={"200": ApprovalOut, **documented(404)}
)
def read_approval(path: RecordPath) -> Response:
    """Read a request for an approval: one that you made, or, as a manager, one about a quote that you see."""
    with service().store.reading() as session:
        return answer(_approval(get_approval(Reader(session, caller()), path.id)))


@api.post("/approvals/<int:id>/decide", responses={"200": ApprovalOut, **_WRITTEN})
def decide_approval(path: RecordPath, body: DecisionIn) -> Response:
    """Approve what somebody else asked for, or refuse it with a reason; both sides are told."""
    with writing(caller(), Source.API) as transaction:
        decided = _seller(transaction).decide(path.id, approve=body.approve, note=body.note)
        return answer(_approval(decided))


def _approval(row: Approval) -> ApprovalOut:
    return ApprovalOut.model_validate({name: getattr(row, name) for name in ApprovalOut.model_fields})


# --------------------------------------------------------------------------------------------- contracts


@api.post("/quotes/<int:id>/contract", responses={"201": ContractOut, **_WRITTEN})
def sign_contract_of_quote(path: RecordPath, body: TermsIn) -> Response:
    """Make the contract of an accepted quote."""
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).sign(Quote, path.id, body.terms()), 201)


@api.post("/orders/<int:id>/contract", responses={"201": ContractOut, **_WRITTEN})
def sign_contract_of_order(path: RecordPath, body: TermsIn) -> Response:
    """Make the contract of an order."""
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).sign(Order, path.id, body.terms()), 201)


@api.post("/contracts/<int:id>/renew", responses={"201": ContractOut, **_WRITTEN})
def renew_contract(path: RecordPath, body: RenewIn) -> Response:
    """Sign the contract that follows one that runs; sent again, it gives the one that there is."""
    terms = None if body.terms is None else body.terms.terms()
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).renew(path.id, terms), 201)


@api.post("/contracts/<int:id>/renewal-deal", responses={"201": DealOut, **_WRITTEN})
def start_renewal(path: RecordPath, body: NothingIn) -> Response:  # noqa: ARG001  as above
    """Open the deal in which a contract's renewal is worked on; sent again, it is the one that there is."""
    with writing(caller(), Source.API) as transaction:
        return _given(transaction, _seller(transaction).start_renewal(path.id), 201)


@api.post("/contracts/<int:id>/end", responses={"200": ContractOut, **_WRITTEN})
def end_contract(path: RecordPath, body: EndIn) -> Response:
    """Note that a contract that ran has ended without renewal, or was cancelled."""
    with writing(caller(), Source.API) as transaction:
        ended = _seller(transaction).end(path.id, cancelled=body.cancelled, ended_at=body.ended_at)
        return _given(transaction, ended)


# ---------------------------------------------------------------------------------------------- payments


@api.get("/contracts/<int:id>/payment-plan", responses={"200": PlanOut, **documented(404)})
def get_plan_of_contract(path: RecordPath, header: ReadHeaders) -> Response:
    """Read the payments of a contract: what is planned, came in, and is late."""
    return _plan_of(Contract, path.id, header)


@api.get("/orders/<int:id>/payment-plan", responses={"200": PlanOut, **documented(404)})
def get_plan_of_order(path: RecordPath, header: ReadHeaders) -> Response:
    """Read the payments of an order: what is planned, came in, and is late."""
    return _plan_of(Order, path.id, header)


@api.put("/contracts/<int:id>/payment-plan", responses={"200": PlanOut, **_WRITTEN})
def plan_contract(path: RecordPath, header: WriteHeaders, body: PlanIn) -> Response:
    """Plan the payments of a contract that have not come in; the parts sum exactly to what is left."""
    return _set_plan(Contract, path.id, header, body)


@api.put("/orders/<int:id>/payment-plan", responses={"200": PlanOut, **_WRITTEN})
def plan_order(path: RecordPath, header: WriteHeaders, body: PlanIn) -> Response:
    """Plan the payments of an order that have not come in; the parts sum exactly to what is left."""
    return _set_plan(Order, path.id, header, body)


@api.post("/contracts/<int:id>/receive", responses={"200": PlanOut, **_WRITTEN})
def receive_for_contract(path: RecordPath, body: ReceiptIn) -> Response:
    """Note that money came in for a contract."""
    return _receive(Contract, path.id, body)


@api.post("/orders/<int:id>/receive", responses={"200": PlanOut, **_WRITTEN})
def receive_for_order(path: RecordPath, body: ReceiptIn) -> Response:
    """Note that money came in for an order."""
    return _receive(Order, path.id, body)


@api.post("/payments/<int:id>/receive", responses={"200": PaymentOut, **_WRITTEN})
def receive_payment(path: RecordPath, body: PaidIn) -> Response:
    """Note that a claim was paid; a part of it is a payment of its own, which is what you get."""
    with writing(caller(), Source.API) as transaction:
        paid = _seller(transaction).receive_payment(
            path.id, amount=body.amount, paid_at=body.paid_at, reference=body.reference
        )
        return _given(transaction, paid)


@api.get("/payments/overdue", responses={"200": OverduesOut, **documented()})
def list_overdue_payments(query: OverdueQuery) -> Response:
    """List the payments that are late, and what they sum to by currency, owner and age."""
    with service().store.reading() as session:
        reader = Reader(session, caller())
        if not sees_overdue(reader):
            raise AccessDeniedError(f"the role {reader.user.role} may not see what payments are late")
        today = today_of(reader, service().store.clock.now())
        sums = sum_overdue(reader, today, owner_id=query.owner_id)
        found = list_overdue(
            reader, today, limit=query.limit + 1, after=_late_after(query), owner_id=query.owner_id
        )
        rows = found[: query.limit]
    kept = ("account_id", "contract_id", "order_id", "amount", "currency", "due_on")
    items = [
        OverdueOut.model_validate(
            {
                **{name: getattr(row.payment, name) for name in kept},
                "payment_id": row.payment.id,
                "owner_id": row.owner_id,
                "days_late": days_late(row.payment, today),
            }
        )
        for row in rows
    ]
    told = [
        OverdueSumOut(
            currency=each.currency,
            owner_id=each.owner_id,
            days_from=AGES[each.age][0],
            days_to=AGES[each.age][1],
            amount=each.amount,
            count=each.count,
        )
        for each in sums
    ]
    last = items[-1] if len(found) > query.limit else None
    more = None if last is None else cursor_of((last.due_on.isoformat(), last.payment_id))
    return answer(OverduesOut(sums=told, items=items, next_cursor=more))


def _late_after(query: OverdueQuery) -> tuple[date, int] | None:
    after = query.keyed(str, int)
    if after is None:
        return None
    try:
        return date.fromisoformat(after[0]), after[1]
    except ValueError as error:
        raise InvalidValueError("cursor", query.cursor, "next_cursor of the page before") from error


@api.get("/deals/<int:id>/money", responses={"200": MoniesOut, **documented(404)})
def get_money_of_deal(path: RecordPath) -> Response:
    """Read what was quoted, ordered, signed and paid in a deal, by currency."""
    return _money(Deal, path.id)


@api.get("/accounts/<int:id>/money", responses={"200": MoniesOut, **documented(404)})
def get_money_of_account(path: RecordPath) -> Response:
    """Read what was quoted, ordered, signed and paid by a customer, by currency."""
    return _money(Account, path.id)


def _money(model: type[Account | Deal], record_id: int) -> Response:
    with service().store.reading() as session:
        reader = Reader(session, caller())
        record = reader.get(model, record_id)
        found = money_about(reader, record, today_of(reader, service().store.clock.now()))
    names = MoneyOut.model_fields
    items = [MoneyOut.model_validate({name: getattr(each, name) for name in names}) for each in found]
    return answer(MoniesOut(items=items))


def _plan_of(model: type[Contract | Order], record_id: int, header: ReadHeaders) -> Response:
    with service().store.reading() as session:
        reader = Reader(session, caller())
        plan = _plan_out(reader, reader.get(model, record_id))
    return header.answer(plan, _mark_of(plan))


def _set_plan(model: type[Contract | Order], record_id: int, header: WriteHeaders, body: PlanIn) -> Response:
    with writing(caller(), Source.API) as transaction:
        seller = _seller(transaction)
        transaction.session.get(model, record_id, with_for_update=True)  # until it is written
        seen = _plan_out(seller.reader, seller.reader.get(model, record_id))
        header.check(f"payment plan of {model.record_type}", record_id, _mark_of(seen))
        about = seller.plan(model, record_id, [part.planned() for part in body.parts])
        return _tagged(_plan_out(seller.reader, about))


def _receive(model: type[Contract | Order], record_id: int, body: ReceiptIn) -> Response:
    with writing(caller(), Source.API) as transaction:
        seller = _seller(transaction)
        about = seller.receive(
            model, record_id, amount=body.amount, paid_at=body.paid_at, reference=body.reference
        )
        return _tagged(_plan_out(seller.reader, about))


def _tagged(plan: PlanOut) -> Response:
    return tagged(plan.model_dump_json(), _mark_of(plan))


def _mark_of(plan: PlanOut) -> int:
    """Return what stands for a plan, whatever day it is."""
    parts = [part.model_copy(update={"overdue": False}) for part in plan.parts]
    return mark_of(plan.model_copy(update={"parts": parts, "overdue": Decimal(0)}))


def _plan_out(reader: Reader, about: Contract | Order) -> PlanOut:
    check_sees_money(reader, about)
    today = today_of(reader, service().store.clock.now())
    plan = read_plan(reader.session, about, today)
    return PlanOut(
        value=plan.value,
        currency=plan.currency,
        received=plan.received,
        open=plan.open,
        overdue=plan.overdue,
        unplanned=plan.unplanned,
        parts=[
            PartOut(
                part=part.number,
                due_on=part.due_on,
                amount=part.amount,
                received=part.received,
                open=part.open,
                overdue=part.is_overdue(today),
            )
            for part in plan.parts
        ],
        payment_ids=[one.id for one in plan.payments],
    )


def _seller(transaction: Transaction) -> Seller:
    return Seller(transaction=transaction, user=caller())


def _given(transaction: Transaction, record: Record, status: int = 200) -> Response:
    body = written_json(Reader(transaction.session, caller()), record)
    return created_record(body, record) if status == 201 else tagged(body, record.version)
