"""A quote as a mail to the customer: what it says in plain words and as a page to print, once a revision.

The page is a file of its own, with its style sheet in it: it is opened, read and printed without any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.errors import InvalidValueError
from crm_core.mail_templates import as_html
from crm_core.messages import MessageKind
from crm_core.offers import Offer, read_offer
from crm_core.outgoing import Attached, Queued, queue_mail
from crm_core.records import Account, Product, Quote, User
from crm_core.sales_settings import sales_settings
from crm_core.store import Transaction
from crm_core.totals import minor_digits
from crm_core.working_time import working_time

_SAID: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "subject": "Quote {number}",
        "hello": "Hello,\n\nhere is our quote {number}:",
        "discount": "Discount",
        "amount": "Amount: {amount}",
        "valid": "It is valid until {day}.",
        "attached": "The quote is attached as a page to print.",
        "title": "Quote",
        "to": "To",
        "date": "Date",
        "valid_until": "Valid until",
        "seller": "Your contact",
        "no": "No.",
        "item": "Item",
        "quantity": "Quantity",
        "price": "Unit price",
        "total": "Total",
        "subtotal": "Sum of the lines",
        "sum": "Amount",
        "terms": "Terms",
    },
    "zh": {
        "subject": "报价 {number}",
        "hello": "您好\uff1a\n\n以下是我们的报价 {number}\uff1a",
        "discount": "折扣",
        "amount": "金额\uff1a{amount}",
        "valid": "报价有效期至 {day}。",
        "attached": "附件为可打印的报价单。",
        "title": "报价单",
        "to": "致",
        "date": "日期",
        "valid_until": "有效期至",
        "seller": "联系人",
        "no": "序号",
        "item": "项目",
        "quantity": "数量",
        "price": "单价",
        "total": "小计",
        "subtotal": "合计",
        "sum": "总金额",
        "terms": "条款",
    },
}

_WEB: Final = Path(__file__).parent / "web"


def mail_quote(transaction: Transaction, user: User, quote: Quote, to: str) -> Queued:
    """Queue the mail of a quote, on its deal or else its customer; of one revision there is one mail.

    Raises InvalidValueError for a quote that hangs on neither, or for what is no mail address.
    """
    about = [("deal", quote.deal_id), ("account", quote.account_id)]
    found = next(((name, key) for name, key in about if key is not None), None)
    if found is None:
        raise InvalidValueError("quote.deal_id", None, "a deal or a customer that the mail is about")
    language = "zh" if user.language == "zh" else "en"
    seen = Reader(transaction.session, user).masked(quote)  # what its sender may not see is not sent
    subject, text = letter_of(transaction, user, seen, language)
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
        attachments=[page_of(transaction, user, seen, language)],
    )


def letter_of(transaction: Transaction, user: User, quote: Quote, language: str) -> tuple[str, str]:
    """Return subject and text of the mail of a quote."""
    said = _SAID[language]
    session = transaction.session
    offer = read_offer(session, quote)
    number = _number(quote)
    parts = [
        said["hello"].format(number=number),
        "\n".join(_lines(offer, quote, _names(transaction, offer), said)),
        said["amount"].format(amount=_money(quote.amount or offer.totals.amount, quote.currency)),
        said["valid"].format(day=quote.valid_until.isoformat()) if quote.valid_until else "",
        quote.terms or "",
        said["attached"],
        f"{user.name}\n{sales_settings(session).company}".strip(),
    ]
    return said["subject"].format(number=number), "\n\n".join(part for part in parts if part)


def page_of(transaction: Transaction, user: User, quote: Quote, language: str) -> Attached:
    """Return a quote as a page to print, which shows what `/quotes/ID/print` shows."""
    session, said = transaction.session, _SAID[language]
    offer = read_offer(session, quote)
    reader = Reader(session, user)
    account = session.scalars(reader.select(Account).where(Account.id == quote.account_id)).first()
    names, totals = _names(transaction, offer), offer.totals
    rows = [
        {
            "name": line.text or names.get(line.product_id or 0, ""),
            "quantity": f"{line.quantity:g}",
            "price": _money(line.unit_price or Decimal(0), quote.currency),
            "off": f"{line.discount * 100:g} %" if line.discount else "",
            "total": _money(total, quote.currency),
        }
        for line, total in zip(offer.lines, totals.lines, strict=True)
    ]
    html = _template().render(
        language="zh-Hans" if language == "zh" else "en",
        style=Markup((_WEB / "static" / "print.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        said=said,
        number=_number(quote),
        company=sales_settings(session),
        to=None if account is None else reader.masked(account).name,
        day=_day(quote.sent_at or transaction.now, transaction),
        valid_until=quote.valid_until and quote.valid_until.isoformat(),
        seller=user.name,
        rows=rows,
        subtotal=_money(totals.subtotal, quote.currency),
        taken_off=totals.taken_off and _money(totals.taken_off, quote.currency),
        amount=_money(totals.amount if offer.lines else quote.amount or Decimal(0), quote.currency),
        terms=quote.terms,
    )
    return Attached(name=f"{_number(quote).replace('/', '-') or 'quote'}.html", subtype="html", text=html)


@cache
def _template() -> Template:
    loader = FileSystemLoader(_WEB / "templates")
    return Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("quote_file.html")


def _day(at: datetime, transaction: Transaction) -> str:
    """Return the day of an instant where we work."""
    zone: ZoneInfo = working_time(transaction.session, transaction.zone).zone
    return at.astimezone(zone).date().isoformat()


def _number(quote: Quote) -> str:
    number: str | None = quote.number  # that of a copy may be hidden
    return f"{number or ''}/{quote.revision}" if (quote.revision or 1) > 1 else number or ""


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
    """Return an amount with all of its decimals: a price may be finer than what is paid."""
    finest = amount.normalize().as_tuple().exponent
    digits = max(minor_digits(currency), -finest if isinstance(finest, int) else 0)
    return f"{amount:,.{digits}f} {currency or ''}".strip()
