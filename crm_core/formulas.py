"""Keeping a spreadsheet from running what a cell of a CSV file holds.

Excel takes a cell that begins with one of these signs for a formula, and a formula can call programs. An
apostrophe in front makes a text of it. Texts that begin with apostrophes before such a sign get one more, so
that taking one away always gives the text back.
"""

from __future__ import annotations

import re

_LIVE = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guard(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs."""
    return f"'{text}" if _LIVE.match(text) else text


def unguard(cell: str) -> str:
    """Return the text that `guard` made a cell of."""
    return cell[1:] if _GUARDED.match(cell) else cell
