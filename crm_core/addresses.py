"""Mail addresses, telephone numbers and names in the form in which they are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import phonenumbers

from crm_core.grams import fold, is_ideograph

HOME_REGION: Final = "CN"
"""Where a telephone number without a country is from."""

_SHARED_MAILBOXES: Final = frozenset(
    {
        "accounting",
        "admin",
        "buchhaltung",
        "contact",
        "einkauf",
        "hello",
        "hr",
        "info",
        "kontakt",
        "mail",
        "marketing",
        "office",
        "order",
        "orders",
        "post",
        "purchasing",
        "sales",
        "service",
        "support",
        "team",
        "vertrieb",
        "webmaster",
    }
)

_PUBLIC_DOMAINS: Final = frozenset(
    {
        "126.com",
        "139.com",
        "163.com",
        "aliyun.com",
        "foxmail.com",
        "gmail.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hotmail.com",
        "icloud.com",
        "live.com",
        "mail.ru",
        "msn.com",
        "outlook.com",
        "proton.me",
        "qq.com",
        "sina.com",
        "sohu.com",
        "web.de",
        "yahoo.com",
        "yeah.net",
    }
)

_LEGAL_FORMS: Final = frozenset(
    (  # noqa: SIM905  one word a line would be a page
        "ab ag as bv co company corp corporation gmbh group holding inc incorporated kg kgaa limited llc llp "
        "ltd mbh nv ohg oy plc pte pty sa sarl sas se spa srl sro"
    ).split()
)

_LEGAL_ENDINGS: Final = re.compile(
    r"(股份有限公司|有限责任公司|集团有限公司|有限公司|分公司|责任公司|总公司|公司|集团|株式会社|厂)+$"
)


def mail_key(mail: str | None) -> str | None:
    """Return an address as it is compared: one case, one width, the domain in ASCII; None if it is none."""
    if not mail:
        return None
    local, at, domain = unicodedata.normalize("NFKC", mail).strip().strip("<>").casefold().rpartition("@")
    if not (local and at and domain):
        return None
    return f"{local}@{_ascii_domain(domain.rstrip('.'))}"


def _ascii_domain(domain: str) -> str:
    try:
        return domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def is_shared_mailbox(key: str) -> bool:
    """Return whether several people read the mail that goes to an address."""
    return key.partition("@")[0] in _SHARED_MAILBOXES


def company_domain(key: str | None) -> str | None:
    """Return the domain of an address if it is a company's own, not that of a public mail service."""
    domain = None if key is None else key.rpartition("@")[2]
    return None if domain in _PUBLIC_DOMAINS else domain


def site_key(website: str | None) -> str | None:
    """Return the host of a website as it is compared."""
    if not website:
        return None
    host = unicodedata.normalize("NFKC", website).strip().casefold()
    host = re.sub(r"^[a-z]+://", "", host)
    host = re.split(r"[/?#:]", host, maxsplit=1)[0].strip().removeprefix("www.").rstrip(".")
    return _ascii_domain(host).strip() or None


_EXTENSION: Final = re.compile(r"\s*(?:转|轉|分机|分機|內線|durchwahl|dw)\s*", re.IGNORECASE)


@lru_cache(maxsize=200_000)
def phone_key(phone: str | None, region: str = HOME_REGION) -> str | None:
    """Return a telephone number as it is compared: with its country if that can be told, else its digits."""
    if not phone:
        return None
    number = _parsed(phone, region)
    if number is None:
        return _bare_digits(phone)
    whole: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{whole}x{number.extension}" if number.extension else whole


def national_number(phone: str, region: str = HOME_REGION) -> str | None:
    """Return the digits of a telephone number without country, leading nought and extension."""
    number = _parsed(phone, region)
    if number is None:
        return _bare_digits(phone)
    digits: str = phonenumbers.national_significant_number(number)
    return digits


def _parsed(phone: str, region: str) -> phonenumbers.PhoneNumber | None:
    text = unicodedata.normalize("NFKC", phone).strip()
    text = re.sub(r"^\(?\s*00\s*", "+", text.replace("(0)", "")).replace("+)", "+")
    try:
        number = phonenumbers.parse(_EXTENSION.sub(" ext. ", text), region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None


def _bare_digits(text: str) -> str | None:
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", text)).lstrip("0")
    return digits if len(digits) >= 6 else None


@lru_cache(maxsize=200_000)
def person_key(name: str | None) -> str | None:
    """Return a person's name as it is compared: folded, its words in alphabetical order, no titles."""
    words = [word for word in fold(name or "").split() if word not in _TITLES]
    return " ".join(sorted(words)) or None


_TITLES: Final = frozenset({"dr", "dipl", "ing", "jr", "mag", "mr", "mrs", "ms", "prof", "sr"})


@lru_cache(maxsize=200_000)
def company_key(name: str | None) -> str | None:
    """Return a company's name as it is compared: folded, without its legal form."""
    # "S.p.A." is one word, not three.
    folded = fold((name or "").replace(".", ""))
    words = [_LEGAL_ENDINGS.sub("", word) if is_ideograph(word[-1]) else word for word in folded.split()]
    kept = [word for word in words if word and word not in _LEGAL_FORMS and word not in {"and", "und"}]
    return " ".join(kept) or folded or None
