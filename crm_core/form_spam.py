"""What makes a submission of a web form look like spam, without asking anybody outside.

Nothing here refuses: what looks like spam is held, with the reasons, until a person has looked at it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

FASTEST_SECONDS: Final = 3
"""Nobody fills in a form in less."""

MOST_LINKS: Final = 1
"""Links that a message may hold."""

MOST_A_DAY: Final = 5
"""Submissions with one mail address or number in a day; more are held."""

_LINK = re.compile(r"(?:https?://|www\.)\S", re.IGNORECASE)
_MARKUP = re.compile(r"<\s*(?:a|script|img|iframe)\b|\[(?:url|link)\b", re.IGNORECASE)
_WORDS = re.compile(
    r"\b(?:viagra|cialis|casino|backlinks?|porn|payday loans?|seo services?|guest posts?"
    r"|crypto investments?)\b"
    r"|代开发票|博彩|赌场|彩票|刷单|裸聊|办证",
    re.IGNORECASE,
)


class Suspicion(StrEnum):
    """Why a submission was held."""

    TRAP = "trap"
    TOO_FAST = "too_fast"
    LINKS = "links"
    MARKUP = "markup"
    WORDS = "words"
    TOO_MANY = "too_many"


def suspicions(
    values: Mapping[str, Any], *, trapped: bool, seconds: float, sent_today: int
) -> list[Suspicion]:
    """Return what speaks against a submission.

    Parameters
    ----------
    values : mapping
        What was filled in, by field.
    trapped : bool
        Whether the field was filled in that people do not see.
    seconds : float
        From the sheet being handed out to its being sent.
    sent_today : int
        How many others came with the same mail address or telephone number within a day.
    """
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    whole = "\n".join(texts.values())
    found = {
        Suspicion.TRAP: trapped,
        Suspicion.TOO_FAST: seconds < FASTEST_SECONDS,
        Suspicion.LINKS: _has_links(texts),
        Suspicion.MARKUP: bool(_MARKUP.search(whole)),
        Suspicion.WORDS: bool(_WORDS.search(whole)),
        Suspicion.TOO_MANY: sent_today >= MOST_A_DAY,
    }
    return [suspicion for suspicion, holds in found.items() if holds]


def _has_links(texts: Mapping[str, str]) -> bool:
    """Say whether a message holds several links, or any other field one."""
    return any(
        len(_LINK.findall(text)) > (MOST_LINKS if name == "message" else 0) for name, text in texts.items()
    )
