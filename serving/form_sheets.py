"""Sheets of web forms: what is handed out with a form and comes back with it, signed.

A sheet says which form it is of, when it was handed out, and which one it is. So one can tell how long
somebody took, sending the same sheet twice is noticed, and nobody sends a form that was never opened. Nothing
is kept of sheets that do not come back.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from itsdangerous import BadData, URLSafeSerializer

from crm_core.clock import SECOND, instant, micros

LASTS: Final = timedelta(hours=24)
"""How long a form may stay open."""

_LONGEST: Final = 500


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A sheet that came back: which one, and the seconds since it was handed out."""

    number: str
    seconds: float


def hand_out(secret: str, public_id: str, now: datetime) -> str:
    """Return a new sheet of a form."""
    return str(_signer(secret).dumps([public_id, micros(now), secrets.token_urlsafe(12)]))


def read_sheet(secret: str, public_id: str, text: str, now: datetime) -> Sheet | None:
    """Return a sheet of this form that is not too old; None for anything else."""
    if len(text) > _LONGEST:
        return None
    try:
        of, at, number = _signer(secret).loads(text)
    except (BadData, ValueError, TypeError):
        return None
    if of != public_id or not now - LASTS <= instant(at) <= now:
        return None
    return Sheet(number=number, seconds=(micros(now) - at) / SECOND)


def _signer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="crm web form")
