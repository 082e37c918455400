"""What the gate says, in the language of the page; what people wrote themselves stays as it is."""

from __future__ import annotations

import re

from serving.web.language import gettext as _
from serving.web.words import word

_TOO_FEW = re.compile(r"only (\d+) outcomes that neither model knew; (\d+) are needed")
_CALIBRATED = re.compile(r"calibrated worse than the champion, by ([\d.]+)")
_SEGMENT = re.compile(r"worse than the champion where (\w+) is (.+), by more than noise")


def gate_reason(reason: str | None) -> str:
    """Return a reason of the gate in the page's language; several are parted by semicolons."""
    text = reason or ""
    whole = _known(text)
    if whole is not None:
        return whole
    parts = [_known(part) for part in text.split("; ")]
    return text if None in parts else "; ".join(part or "" for part in parts)


def _known(text: str) -> str | None:
    fixed = {
        "first model of the task": _("first model of the task"),
        "no worse than the champion": _("no worse than the champion"),
        "it serves already": _("it serves already"),
        "the champion says no probability": _("the champion says no probability"),
        "it says no probability, and the champion does": _("it says no probability, and the champion does"),
        "worse than the champion by more than noise": _("worse than the champion by more than noise"),
    }
    if text in fixed:
        return fixed[text]
    if found := _TOO_FEW.fullmatch(text):
        return _(
            "only %(count)s outcomes that neither model knew; %(needed)s are needed",
            count=found[1],
            needed=found[2],
        )
    if found := _CALIBRATED.fullmatch(text):
        return _("calibrated worse than the champion, by %(much)s", much=found[1])
    if found := _SEGMENT.fullmatch(text):
        return _("worse where %(field)s is %(level)s", field=word("segment", found[1]), level=found[2])
    return None
