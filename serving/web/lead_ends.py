"""What becomes of a lead: a customer with a contact and a deal, or nothing; or it is opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from flask import Blueprint, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from crm_core.access import Reader, Scope, check_may_write
from crm_core.changes import Source
from crm_core.columns import check_text
from crm_core.deals import check_required
from crm_core.errors import InvalidValueError, LeadNotOpenError, MissingFieldsError, RecordNotFoundError
from crm_core.fields import CUSTOM
from crm_core.leads import Conversion, convert_lead, disqualify_lead, reopen_lead
from crm_core.pipelines import open_stages
from crm_core.records import OUTCOME_FIELDS, RECORD_TYPES, Account, Contact, Deal, Lead, LeadStatus, Owned
from crm_core.stage_settings import stage_of
from crm_core.store import Transaction
from serving.editing import Editor, kind_of
from serving.service import page_session, writing
from serving.web.facts import (
    Fact,
    NotReadableError,
    as_sent,
    labels_of,
    names_of_people,
    read_facts,
    read_typed,
)
from serving.web.language import gettext
from serving.web.places import find_named
from serving.web.refusals import refusal
from serving.web.words import word

CONVERTED: Final = tuple(sorted(OUTCOME_FIELDS["lead"] - {"disqualified_reason"}))
ENDED: Final = ("status", "disqualified_reason")
REASONS: Final = ("no budget", "no need", "unreachable", "wrong contact", "bought elsewhere", "duplicate")
"""Why a lead will not buy: what is offered; any other words may be given."""

PARTS: Final = ("account", "contact", "deal")
"""What a lead may become, in the order of the form."""

_OF_A_DEAL: Final = ("amount", "currency")
_FROM_LEAD: Final = frozenset({"account_id", "contact_id", "owner_id", "name"})
"""What a deal has from its lead, and is not asked for among the fields that its stage requires."""

_LONGEST_REASON: Final = 200

Again = Callable[[int, str], str]
"""Shows the page of a lead once more, with why something was refused."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What the reader may make of a lead, and which fields are asked for then, by the type of the record."""

    may_convert: bool
    may_end: bool
    asked: Mapping[str, Sequence[Fact]]
    reasons: Sequence[str] = REASONS


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What was made of a lead; `earlier` says that it was a customer already."""

    made: Conversion
    earlier: bool


@dataclass(frozen=True, kw_only=True)
class _Refused:
    """Why something cannot be done: in words, and as a status."""

    why: str
    status: int = 422


def read_ends(reader: Reader, lead: Lead) -> Ends:
    """Return what the reader may make of a lead that they may change."""
    may_convert = _may_write(reader, CONVERTED) and reader.right("account").write is not Scope.NONE
    is_open = lead.status == LeadStatus.OPEN
    return Ends(
        may_convert=may_convert,
        may_end=_may_write(reader, ENDED),
        asked={part: _asked(reader, lead, part) for part in PARTS} if may_convert and is_open else {},
    )


def _may_write(reader: Reader, names: Sequence[str]) -> bool:
    return all(reader.may_write_field("lead", name) for name in names)


def _asked(reader: Reader, lead: Lead, record_type: str) -> list[Fact]:
    """Return the fields that a record which comes of a lead has to have, and the lead does not say."""
    if record_type == "contact" and not lead.name:
        return []
    kind = kind_of(reader.session, record_type)
    people = names_of_people(reader.session)
    facts = read_facts(reader, kind, RECORD_TYPES[record_type](), people, with_currency=True)
    required = {fact.name for fact in facts if fact.required and fact.name.startswith(CUSTOM)}
    if record_type == "deal":
        required |= {*_OF_A_DEAL, *_of_first_stage(reader)} - _FROM_LEAD - _told(lead)
    # A browser cannot know which of the records come to be: what is missing is told when it is sent.
    return [
        replace(fact, name=f"{record_type}.{fact.name}", required=False)
        for fact in facts
        if fact.name in required and fact.editable
    ]


def _of_first_stage(reader: Reader) -> Sequence[str]:
    return stage_of(reader.session, "default", open_stages("default")[0].key).required


def _told(lead: Lead) -> set[str]:
    """Return the fields of a deal that a lead says."""
    return {name for name in ("source", "campaign_id") if getattr(lead, name) is not None}


# ------------------------------------------------------------------------------------------------ doing


def add_ends(pages: Blueprint, again: Again) -> None:
    """Add what is done with a lead when it is clear what it is."""

    @pages.post("/<int:record_id>/convert")
    def convert(record_id: int) -> ResponseReturnValue:
        found: list[_Done] = []
        refused = _do(record_id, CONVERTED, lambda editor, lead: found.append(_convert(editor, lead)))
        return _converted(found[0]) if refused is None else (again(record_id, refused.why), refused.status)

    @pages.post("/<int:record_id>/disqualify")
    def disqualify(record_id: int) -> ResponseReturnValue:
        refused = _do(record_id, ENDED, lambda editor, lead: _disqualify(editor.transaction, lead))
        if refused is not None:
            return again(record_id, refused.why), refused.status
        flash(gettext("Noted: it will not buy."))
        return redirect(url_for("leads_pages.show", record_id=record_id))

    @pages.post("/<int:record_id>/reopen")
    def reopen(record_id: int) -> ResponseReturnValue:
        refused = _do(record_id, ENDED, lambda editor, lead: reopen_lead(editor.transaction, lead))
        if refused is not None:
            return again(record_id, refused.why), refused.status
        flash(gettext("The lead is open again."))
        return redirect(url_for("leads_pages.show", record_id=record_id))


def _converted(done: _Done) -> ResponseReturnValue:
    """Lead to the deal that came of it, or else to the customer."""
    flash(gettext("It was converted already.") if done.earlier else gettext("The lead is a customer now."))
    if done.made.deal is not None:
        return redirect(url_for("deals_pages.show", record_id=done.made.deal.id))
    return redirect(url_for("customers_pages.show", record_id=done.made.account.id))


def _do(record_id: int, fields: tuple[str, ...], act: Callable[[Editor, Lead], object]) -> _Refused | None:
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
        return _Refused(why=gettext("Please check: %(fields)s", fields=", ".join(names)))
    except LeadNotOpenError as error:
        status = word("lead_status", error.status)
        why = gettext("Somebody was faster, the lead is not open any more: %(status)s.", status=status)
        return _Refused(why=why, status=409)
    except (InvalidValueError, NotReadableError) as error:
        return _Refused(why=refusal(error))
    return None


def _convert(editor: Editor, lead: Lead) -> _Done:
    """Make the customer, unless one is named that there is, its contact and, if it is wanted, its deal."""
    if lead.status == LeadStatus.CONVERTED:
        return _Done(made=convert_lead(editor.transaction, lead), earlier=True)
    named = request.form.get("customer", "").strip()
    account = _customer(editor.reader, named) if named else _new(editor, lead, "account")
    contact = _new(editor, lead, "contact") if lead.name else None
    deal = _new(editor, lead, "deal") if request.form.get("with_deal") == "yes" else None
    made = convert_lead(
        editor.transaction,
        lead,
        account=cast("Account | None", account),
        contact=cast("Contact | None", contact),
        deal=cast("Deal | None", deal),
    )
    if made.deal is not None:
        check_required(editor.transaction.session, made.deal, made.deal.stage)
    return _Done(made=made, earlier=False)


def _customer(reader: Reader, named: str) -> Account:
    with suppress(RecordNotFoundError):
        if (account_id := find_named(reader, "account", named)) is not None:
            return reader.get(Account, account_id)
    expected = gettext("a customer, chosen from what is offered")
    raise NotReadableError(f"{word('record_type', 'account')}: {expected}")


def _new(editor: Editor, lead: Lead, record_type: str) -> Any:  # noqa: ANN401  a record of that type
    """Return a record of what was typed for it, or None where the lead says all of it."""
    values = dict(_typed(editor.reader, lead, record_type))
    if record_type == "deal":
        values["name"] = request.form.get("deal_name", "").strip() or lead.company or lead.name or lead.email
        _check_money(values)
    if not values:
        editor.reader.check_may_create(RECORD_TYPES[record_type])
        return None
    made = cast("Owned", editor.prepare(kind_of(editor.transaction.session, record_type), values))
    made.owner_id = lead.owner_id or made.owner_id  # whoever converts it: it stays with whom it was
    return made


def _typed(reader: Reader, lead: Lead, record_type: str) -> Mapping[str, Any]:
    """Return what was typed of the fields that were asked for."""
    facts = _asked(reader, lead, record_type)
    missing = [fact.label for fact in facts if _is_custom(fact) and not _text(fact)]
    if missing:
        raise NotReadableError(gettext("Please check: %(fields)s", fields=", ".join(missing)))
    given = [fact for fact in facts if _text(fact)]
    values = {_own_name(fact): _read(reader, fact) for fact in given}
    return as_sent([replace(fact, name=_own_name(fact)) for fact in given], values)


def _own_name(fact: Fact) -> str:
    return fact.name.split(".", 1)[1]


def _is_custom(fact: Fact) -> bool:
    return _own_name(fact).startswith(CUSTOM)


def _text(fact: Fact) -> str:
    return request.form.get(fact.name, "").strip()


def _read(reader: Reader, fact: Fact) -> Any:  # noqa: ANN401  any value
    try:
        return read_typed(reader, replace(fact, name=_own_name(fact)), _text(fact))
    except NotReadableError as error:
        raise NotReadableError(f"{fact.label}: {error}") from error


def _check_money(values: dict[str, Any]) -> None:
    """Put a currency in capital letters; an amount has to have one."""
    currency = str(values.get("currency") or "").upper()
    if currency or "amount" in values:
        if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
            expected = gettext("the three letters of a currency, as EUR")
            raise NotReadableError(f"{word('field', 'currency')}: {expected}")
        values["currency"] = currency


def _disqualify(transaction: Transaction, lead: Lead) -> None:
    reason = request.form.get("reason", "").strip()
    if not reason:
        raise NotReadableError(f"{word('field', 'disqualified_reason')}: {gettext('This cannot be empty.')}")
    disqualify_lead(transaction, lead, reason=check_text("reason", reason, longest=_LONGEST_REASON))
