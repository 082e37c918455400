"""The text of a mail that is a page only: what a reader would see, and nothing that a page could do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_LARGEST: Final = 1_000_000
_UNSEEN: Final = frozenset({"script", "style", "head", "title", "template", "noscript", "svg"})
_BLOCKS: Final = frozenset(
    {"p", "div", "br", "tr", "li", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "pre"}
)


class _Reader(HTMLParser):
    """Gathers the text of a page; what is quoted gets a mark before each line."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self._unseen = 0
        self._quoted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a line, or leave out what nobody sees."""
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "blockquote":
            self._quoted += 1
            self._break()
        elif tag in _BLOCKS:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        """End what was begun."""
        if tag in _UNSEEN:
            self._unseen = max(self._unseen - 1, 0)
        elif tag == "blockquote":
            self._quoted = max(self._quoted - 1, 0)
            self._break()
        elif tag in _BLOCKS:
            self._break()

    def handle_data(self, data: str) -> None:
        """Add what is seen."""
        if not self._unseen:
            self.lines[-1] += re.sub(r"\s+", " ", data)

    def _break(self) -> None:
        self.lines.append("> " if self._quoted else "")


def text_of_page(page: str) -> str:
    """Return the text of a page."""
    reader = _Reader()
    try:
        reader.feed(page[:_LARGEST])
        reader.close()
    except (AssertionError, ValueError, RecursionError):  # what was read until then is better than nothing
        pass
    lines = [line.rstrip() if line.startswith(">") else line.strip() for line in reader.lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
