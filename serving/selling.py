"""Selling as somebody: what the API and the pages do alike with quotes, contracts and payments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, TypeVar, cast

from crm_core.access import Reader
from crm_core.approvals import Approval, ask_for_approval, decide_approval
from crm_core.checklists import Ticked, tick
from crm_core.contracts import Terms, end_contract, renew_contract, sign_contract, start_renewal
from crm_core.errors import AccessDeniedError
from crm_core.meetings import NextStep, log_meeting
from crm_core.payments import Planned, receive, receive_payment, set_plan
from crm_core.phrases import Phrase
from crm_core.quotes import accept_quote, reject_quote, revise_quote, send_quote
from crm_core.records import Activity, Contract, Deal, Order, Payment, Quote, Record, User
from crm_core.store import Transaction
from crm_core.validation import columns_of
from crm_core.working_time import working_time
from serving.editing import Editor, kind_of
from serving.owners import choose_owner
from serving.quote_mail import mail_quote
from serving.service import service

R = TypeVar("R", bound=Record)

PAYMENT_FIELDS: Final = ("amount", "currency", "due_on", "paid_at", "part", "reference")
"""What a plan tells and writes."""

_CONTRACT_FIELDS: Final = ("value", "currency", "starts_on", "ends_on", "number")


@dataclass(frozen=True, kw_only=True)
class Seller:
    """Somebody who sells, in one transaction: may change what they do something with, and its fields."""

    transaction: Transaction
    user: User

    @property
    def editor(self) -> Editor:
        """Return what writes records as them."""
        return Editor(self.transaction, self.user)

    @property
    def reader(self) -> Reader:
        """Return what reads as them."""
        return self.editor.reader

    def get(self, model: type[R], record_id: int, fields: Sequence[str]) -> R:
        """Return a record, locked, of which they may change the fields."""
        editor = self.editor
        kind = kind_of(self.transaction.session, model.record_type)
        record = cast("R", editor.get_to_write(kind, record_id))
        editor.reader.check_fields(model.record_type, fields)
        return record

    # ------------------------------------------------------------------------------------------ process

    def tick(self, deal_id: int, key: str, *, done: bool) -> list[Ticked]:
        """Note that something on the checklist of a deal's stage was done, or was not."""
        deal = self.get(Deal, deal_id, ("stage",))
        return tick(self.transaction, deal, self.user, key, done=done)

    def meet(
        self, about: tuple[str, int], meeting: Mapping[str, Any], steps: Sequence[NextStep]
    ) -> tuple[Activity, list[Activity]]:
        """Log a meeting about a record that they may change, with its next steps as tasks."""
        record_type, record_id = about
        kind = kind_of(self.transaction.session, record_type)
        self.editor.get_to_write(kind, record_id)
        link = f"{record_type}_id"
        links = {link: record_id} if link in columns_of(Activity) else _subject(record_type, record_id)
        values = {"kind": "meeting", **meeting, **links}
        activity = cast(
            "Activity", self.editor.prepare(kind_of(self.transaction.session, "activity"), values)
        )
        owners = {step.owner_id for step in steps if step.owner_id is not None}
        for owner_id in sorted(owners):
            choose_owner(self.transaction.session, self.user, owner_id)
        return log_meeting(self.transaction, activity, steps)

    # ------------------------------------------------------------------------------------------ quotes

    def send(self, quote_id: int, *, mail_to: str | None = None) -> Quote:
        """Note that a quote goes out; with an address, as a mail on its deal or customer."""
        quote = self.get(Quote, quote_id, ("status", "sent_at"))
        send_quote(self.transaction, quote, self.user)
        if mail_to is not None:
            if not sees_prices(self.reader, quote):
                raise AccessDeniedError(
                    Phrase("the role {role} may not see what it would mail", role=self.user.role)
                )
            self.reader.check_may_create(Activity)
            mail_quote(self.transaction, self.user, quote, mail_to)
        return quote

    def revise(self, quote_id: int) -> Quote:
        """Return the next revision of a quote."""
        quote = self.get(Quote, quote_id, ("status",))
        self.reader.check_may_create(Quote)
        return revise_quote(self.transaction, quote)

    def accept(self, quote_id: int, *, order: bool = True, contract: Terms | None = None) -> Quote:
        """Note that a quote was accepted, and make what follows."""
        quote = self.get(Quote, quote_id, ("status", "decided_at"))
        for wanted, model in ((order, Order), (contract is not None, Contract)):
            if wanted:
                self.reader.check_may_create(model)
        accept_quote(self.transaction, quote, self.user, order=order, contract=contract)
        return quote

    def reject(self, quote_id: int, reason: str | None) -> Quote:
        """Note that a quote was rejected."""
        quote = self.get(Quote, quote_id, ("status", "decided_at", "rejected_reason"))
        reject_quote(self.transaction, quote, reason)
        return quote

    def ask(self, quote_id: int, **said: Any) -> Approval:
        """Ask for an approval."""
        quote = self.get(Quote, quote_id, ("approval",))
        return ask_for_approval(self.transaction, quote, self.user, **said)

    def decide(self, approval_id: int, *, approve: bool, note: str | None) -> Approval:
        """Approve or refuse what somebody else asked for."""
        return decide_approval(self.transaction, self.user, approval_id, approve=approve, note=note)

    # --------------------------------------------------------------------------------------- contracts

    def sign(self, model: type[Quote | Order], record_id: int, terms: Terms) -> Contract:
        """Make the contract of an accepted quote or of an order."""
        source = self.get(model, record_id, ())
        self.reader.check_may_create(Contract)
        self.reader.check_fields("contract", _CONTRACT_FIELDS)
        return sign_contract(self.transaction, source, self.user, terms)

    def renew(self, contract_id: int, terms: Terms | None) -> Contract:
        """Sign the contract that follows one."""
        contract = self.get(Contract, contract_id, ("status", "renewed_by_id", *_CONTRACT_FIELDS))
        return renew_contract(self.transaction, contract, terms)

    def start_renewal(self, contract_id: int) -> Deal:
        """Open the deal of a contract's renewal."""
        contract = self.get(Contract, contract_id, ())
        self.reader.check_may_create(Deal)
        return start_renewal(self.transaction, contract)

    def end(self, contract_id: int, **said: Any) -> Contract:
        """Note that a contract has ended."""
        contract = self.get(Contract, contract_id, ("status", "ended_at"))
        end_contract(self.transaction, contract, **said)
        return contract

    # ---------------------------------------------------------------------------------------- payments

    def plan(
        self, model: type[Contract | Order], record_id: int, parts: Sequence[Planned]
    ) -> Contract | Order:
        """Plan the payments of a contract or an order."""
        about = self._about(model, record_id)
        set_plan(self.transaction, about, parts)
        return about

    def receive(self, model: type[Contract | Order], record_id: int, **said: Any) -> Contract | Order:
        """Note that money came in for a contract or an order."""
        about = self._about(model, record_id)
        receive(self.transaction, about, **said)
        return about

    def receive_payment(self, payment_id: int, **said: Any) -> Payment:
        """Note that one claim was paid, or a part of it."""
        payment = self.get(Payment, payment_id, PAYMENT_FIELDS)
        return receive_payment(self.transaction, payment, **said)[0]

    def _about(self, model: type[Contract | Order], record_id: int) -> Contract | Order:
        about = self.get(model, record_id, ())
        self.reader.check_may_create(Payment)
        self.reader.check_fields("payment", PAYMENT_FIELDS)
        check_sees_money(self.reader, about)
        return about


def _subject(record_type: str, record_id: int) -> dict[str, Any]:
    return {"subject_type": record_type, "subject_id": record_id}


def check_sees_money(reader: Reader, about: Contract | Order) -> None:
    """Raise AccessDeniedError unless a reader may see what something is worth, and its payments."""
    value = "value" if isinstance(about, Contract) else "amount"
    fields = [f"{about.record_type}.{value}", f"{about.record_type}.currency"]
    if not reader.may_be_told_of([*fields, *(f"payment.{name}" for name in PAYMENT_FIELDS)]):
        raise AccessDeniedError(
            Phrase("the role {role} may not see the payments of that", role=reader.user.role)
        )


def sees_prices(reader: Reader, record: Quote | Order) -> bool:
    """Say whether a reader may see what lines come to."""
    names = ("quantity", "unit_price", "list_price", "discount")
    fields = [*(f"line.{name}" for name in names), f"{record.record_type}.amount"]
    return reader.may_be_told_of(fields)


def sees_overdue(reader: Reader) -> bool:
    """Say whether a reader may see what payments are late."""
    return reader.may_be_told_of([f"payment.{name}" for name in ("amount", "currency", "due_on", "paid_at")])


def today_of(reader: Reader, now: datetime) -> date:
    """Return the day that it is where we work."""
    return working_time(reader.session, service().settings.time_zone).local_day(now)
