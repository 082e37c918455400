"""What mail servers say when they refuse a mail: whether its address is of no use any more."""

from __future__ import annotations

import re
from typing import Final

_ENHANCED: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_PLAIN: Final = re.compile(r"(?<!\d)(55[013])(?!\d)")
_NO_MAILBOX: Final = frozenset({"1"})
"""Subjects of RFC 3463 codes that are about the address itself."""

_MAILBOX_GONE: Final = frozenset({"1"})
"""Details of the subject "mailbox" that mean it is switched off; a full one may be emptied."""


def is_dead(said: str) -> bool:
    """Tell whether a refusal is about the address itself, not about the mail, a full mailbox or a policy."""
    found = _ENHANCED.search(said)
    if found is None:
        return _PLAIN.search(said) is not None
    kind, subject, detail = found.groups()
    if kind != "5":
        return False
    return subject in _NO_MAILBOX or (subject == "2" and detail in _MAILBOX_GONE)
