"""What somebody wrote themselves in a mail, without the mails below it that they answer."""

from __future__ import annotations

import re
from typing import Final

_LONGEST_LINE: Final = 1_000
_LOOKED_AT: Final = 5_000
"""Lines that are looked at; whoever writes more than that quotes nothing above."""

_COLON: Final = "[:：]"  # noqa: RUF001  a Chinese one, too
_BEGINS = (
    re.compile(
        r"^-{2,}\s*(original message|ursprüngliche nachricht|原始邮件|原邮件|转发的邮件)\s*-{2,}",
        re.IGNORECASE,
    ),
    re.compile(r"^(on|am|le|el)\b.{4,200}\b(wrote|schrieb|a écrit|escribió)\b.{0,120}:\s*$", re.IGNORECASE),
    re.compile(rf"^(在|于)?.{{4,160}}(写道|寫道)\s?{_COLON}\s*$"),
    re.compile(r"^_{20,}\s*$"),
    re.compile(r"^-{8,}\s*$"),
)
_HEADS = re.compile(rf"^\*?(from|von|发件人|寄件者|發件人)\s?\*?\s?{_COLON}", re.IGNORECASE)
_NEXT: Final = "sent|date|to|gesendet|datum|an|发送时间|日期|收件人|主题|subject|betreff"
_NEXT_HEADS = re.compile(rf"^\*?({_NEXT})\s?\*?\s?{_COLON}", re.IGNORECASE)


def shown_part(text: str) -> str:
    """Return a mail's own words; the whole where nothing else is in it."""
    lines = text.split("\n")
    end = next((at for at in range(min(len(lines), _LOOKED_AT)) if _begins_at(lines, at)), len(lines))
    own = lines[:end]
    while own and (not own[-1].strip() or own[-1].lstrip().startswith(">")):
        own.pop()
    kept = "\n".join(own).strip()
    return kept or text.strip()


def _begins_at(lines: list[str], at: int) -> bool:
    """Tell whether what is quoted begins with a line."""
    line = lines[at].strip()[:_LONGEST_LINE]
    if not line:
        return False
    if any(each.match(line) for each in _BEGINS):
        # A line of dashes may part two thoughts: a quoted mail begins with its head.
        return not set(line) <= {"-", "_"} or any(
            _HEADS.match(each.strip()) for each in lines[at + 1 : at + 4]
        )
    if _HEADS.match(line):
        return any(_NEXT_HEADS.match(each.strip()) for each in lines[at + 1 : at + 4])
    # "On Monday, somebody" may be broken into two lines.
    joined = f"{line} {lines[at + 1].strip()}" if at + 1 < len(lines) else line
    return line.lower().startswith("on ") and _BEGINS[1].match(joined[:_LONGEST_LINE]) is not None
