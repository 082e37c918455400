"""A quote as a mail to the customer: what it says in plain words, once for each revision."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from sqlalchemy import select

from crm_core.errors import InvalidValueError
from crm_core.mail_templates import as_html
from crm_core.messages import MessageKind
from crm_core.offers import Offer, read_offer
from crm_core.outgoing import Queued, queue_mail
from crm_core.records import Product, Quote, User
from crm_core.sales_settings import sales_settings
from crm_core.store import Transaction
from crm_core.totals import minor_digits

_SAID: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "subject": "Quote {number}",
        "hello": "Hello,\n\nhere is our quote {number}:",
        "discount": "Discount",
        "amount": "Amount: {amount}",
        "valid": "It is valid until {day}.",
    },
    "zh": {
        "subject": "报价 {number}",
        "hello": "您好\uff1a\n\n以下是我们的报价 {number}\uff1a",
        "discount": "折扣",
        "amount": "金额\uff1a{amount}",
        "valid": "报价有效期至 {day}。",
    },
}


def mail_quote(transaction: Transaction, user: User, quote: Quote, to: str) -> Queued:
    """Queue the mail of a quote, on its deal or else its customer; of one revision there is one mail.

    Raises InvalidValueError for a quote that hangs on neither, or for what is no mail address.
    """
    about = [("deal", quote.deal_id), ("account", quote.account_id)]
    found = next(((name, key) for name, key in about if key is not None), None)
    if found is None:
        raise InvalidValueError("quote.deal_id", None, "a deal or a customer that the mail is about")
    language = "zh" if user.language == "zh" else "en"
    subject, text = letter_of(transaction, user, quote, language)
    return queue_mail(
        transaction,
        to=to,
        subject=subject,
        text=text,
        html=as_html(text),
        about=found,
        sender=user,
        kind=MessageKind.DIRECT,
        language=language,
        key=f"quote:{quote.id}",
    )


def letter_of(transaction: Transaction, user: User, quote: Quote, language: str) -> tuple[str, str]:
    """Return subject and text of the mail of a quote."""
    said = _SAID[language]
    session = transaction.session
    offer = read_offer(session, quote)
    number = f"{quote.number}/{quote.revision}" if quote.revision > 1 else quote.number
    parts = [
        said["hello"].format(number=number),
        "\n".join(_lines(offer, quote, _names(transaction, offer), said)),
        said["amount"].format(amount=_money(quote.amount or offer.totals.amount, quote.currency)),
        said["valid"].format(day=quote.valid_until.isoformat()) if quote.valid_until else "",
        quote.terms or "",
        f"{user.name}\n{sales_settings(session).company}".strip(),
    ]
    return said["subject"].format(number=number), "\n\n".join(part for part in parts if part)


def _lines(offer: Offer, quote: Quote, names: Mapping[int, str], said: Mapping[str, str]) -> list[str]:
    found = []
    for line, total in zip(offer.lines, offer.totals.lines, strict=True):
        name = line.text or names.get(line.product_id or 0, "")
        price = _money(line.unit_price or Decimal(0), quote.currency)
        off = f" (-{line.discount * 100:g} %)" if line.discount else ""
        found.append(f"{line.quantity:g} x {name}: {price}{off} = {_money(total, quote.currency)}")
    if offer.totals.taken_off:
        found.append(f"{said['discount']}: -{_money(offer.totals.taken_off, quote.currency)}")
    return found


def _names(transaction: Transaction, offer: Offer) -> dict[int, str]:
    ids = {line.product_id for line in offer.lines if line.product_id is not None}
    query = select(Product.id, Product.name).where(Product.id.in_(ids))
    return {key: name for key, name in transaction.session.execute(query)}  # noqa: C416  rows are no pairs to mypy


def _money(amount: Decimal, currency: str | None) -> str:
    digits = max(minor_digits(currency), 0 if amount == amount.to_integral_value() else 2)
    return f"{amount:,.{digits}f} {currency or ''}".strip()
