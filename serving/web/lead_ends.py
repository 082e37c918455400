"""What becomes of a lead, on its page: a customer with a contact and a deal, or nothing, or it begins anew."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from flask import Blueprint, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.columns import check_text
from crm_core.deals import check_required
from crm_core.errors import InvalidValueError, LeadNotOpenError, MissingFieldsError
from crm_core.leads import Conversion, convert_lead, disqualify_lead, reopen_lead
from crm_core.records import OUTCOME_FIELDS, Account, Contact, Deal, Lead
from crm_core.store import Transaction
from serving.editing import Editor, kind_of
from serving.service import page_session, wake_rescoring, writing
from serving.web.facts import labels_of
from serving.web.language import gettext
from serving.web.places import find_named
from serving.web.words import word

CONVERTED = tuple(sorted(OUTCOME_FIELDS["lead"] - {"disqualified_reason"}))
_ENDED = ("status", "disqualified_reason")
_LONGEST_REASON = 200

Again = Callable[[int, str], str]
"""Shows the page of a lead once more, with why something was refused."""


def add_ends(pages: Blueprint, again: Again) -> None:
    """Add what is done with a lead when it is clear what it is."""

    @pages.post("/<int:record_id>/convert")
    def convert(record_id: int) -> ResponseReturnValue:
        made: list[Conversion] = []
        refused = _do(record_id, CONVERTED, lambda editor, lead: made.append(_convert(editor, lead)))
        if refused is not None:
            return again(record_id, refused), 422
        flash(gettext("The lead is a customer now."))
        deal, account = made[0].deal, made[0].account
        if deal is not None:
            return redirect(url_for("deals_pages.show", record_id=deal.id))
        return redirect(url_for("customers_pages.show", record_id=account.id))

    @pages.post("/<int:record_id>/disqualify")
    def disqualify(record_id: int) -> ResponseReturnValue:
        refused = _do(record_id, _ENDED, lambda editor, lead: _disqualify(editor.transaction, lead))
        if refused is not None:
            return again(record_id, refused), 422
        flash(gettext("Noted: it will not buy."))
        return redirect(url_for("leads_pages.show", record_id=record_id))

    @pages.post("/<int:record_id>/reopen")
    def reopen(record_id: int) -> ResponseReturnValue:
        refused = _do(record_id, _ENDED, lambda editor, lead: reopen_lead(editor.transaction, lead))
        if refused is not None:
            return again(record_id, refused), 422
        flash(gettext("The lead is open again."))
        return redirect(url_for("leads_pages.show", record_id=record_id))


def _do(record_id: int, fields: tuple[str, ...], act: Callable[[Editor, Lead], object]) -> str | None:
    """Do something with a lead of which the user may change `fields`; return why it cannot be done."""
    user = current_user.user
    check_may_write(user)
    try:
        with writing(user, Source.REP) as transaction:
            editor = Editor(transaction, user)
            lead = cast("Lead", editor.get_to_write(kind_of(transaction.session, "lead"), record_id))
            editor.reader.check_fields("lead", fields)
            act(editor, lead)
    except MissingFieldsError as error:
        names = labels_of(page_session(), "deal", error.fields)
        return gettext("Please check: %(fields)s", fields=", ".join(names))
    except LeadNotOpenError as error:
        return gettext("The lead is not open any more: %(status)s.", status=word("lead_status", error.status))
    except InvalidValueError as error:
        return str(error)
    wake_rescoring()
    return None


def _convert(editor: Editor, lead: Lead) -> Conversion:
    """Make the customer, unless one is named that there is, its contact and, if it is wanted, its deal."""
    named = request.form.get("customer", "").strip()
    account = _customer(editor.reader, named) if named else None
    for model, wanted in ((Account, account is None), (Contact, bool(lead.name))):
        if wanted:
            editor.reader.check_may_create(model)
    deal = _deal(editor, lead) if request.form.get("with_deal") == "yes" else None
    made = convert_lead(editor.transaction, lead, account=account, deal=deal)
    if deal is not None and made.deal is deal:
        check_required(editor.transaction.session, deal, deal.stage)
    return made


def _customer(reader: Reader, named: str) -> Account:
    account_id = find_named(reader, "account", named)
    if account_id is None:
        raise InvalidValueError("account", named, gettext("a customer, chosen from what is offered"))
    return reader.get(Account, account_id)


def _deal(editor: Editor, lead: Lead) -> Deal:
    values: dict[str, Any] = {
        "name": request.form.get("deal_name", "").strip() or lead.company or lead.name,
        "owner_id": lead.owner_id,
    }
    if amount := request.form.get("amount", "").strip():
        values |= {"amount": _amount(amount), "currency": _currency(request.form.get("currency", ""))}
    return cast("Deal", editor.prepare(kind_of(editor.transaction.session, "deal"), values))


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text.replace(",", "").replace("，", ""))
    except InvalidOperation:
        raise InvalidValueError("amount", text, gettext("a number")) from None


def _currency(text: str) -> str:
    text = text.strip()
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise InvalidValueError("currency", text, gettext("the three letters of a currency, as EUR"))
    return text.upper()


def _disqualify(transaction: Transaction, lead: Lead) -> None:
    reason = check_text("reason", request.form.get("reason", "").strip(), longest=_LONGEST_REASON)
    if not reason:
        raise InvalidValueError("reason", None, gettext("why it will not buy"))
    disqualify_lead(transaction, lead, reason=reason)
