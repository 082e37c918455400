"""The text of a mail that is a page only: what a reader would see, and nothing that a page could do.

Every page is read in time that its length bounds, however broken it is. The standard library's parser looks
again and again for the ends of tags that nobody closed: a page of 50,000 characters can keep it for minutes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_LARGEST: Final = 1_000_000
_UNSEEN: Final = frozenset({"script", "style", "head", "title", "template", "noscript", "svg"})
_BLOCKS: Final = frozenset(
    {"p", "div", "br", "tr", "li", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "pre"}
)

# Nothing outside of quotes holds another "<": who reads on from there reads no sign many times.
_TAG: Final = re.compile(r"""<(/?)([a-z][a-z0-9:-]*)((?:[^"'<>]|"[^"]*"|'[^']*')*)>""", re.IGNORECASE)
_RAW_ENDS: Final = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "title")}


class _Token(NamedTuple):
    """What begins or ends (`name`), or what is said between."""

    text: str = ""
    name: str = ""
    begins: bool = False
    ends: bool = False


def text_of_page(page: str) -> str:
    """Return the text of a page."""
    lines = [line.rstrip() if line.startswith(">") else line.strip() for line in _lines(page[:_LARGEST])]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _lines(page: str) -> list[str]:
    """Return the lines of a page; what is quoted gets a mark before each line."""
    lines: list[list[str]] = [[]]
    unseen = quoted = 0
    for token in _tokens(page):
        if token.text and not unseen:
            lines[-1].append(re.sub(r"\s+", " ", html.unescape(token.text)))
        if token.name in _UNSEEN:
            unseen = max(unseen + token.begins - token.ends, 0)
        elif token.name == "blockquote":
            quoted = max(quoted + token.begins - token.ends, 0)
        if token.name == "blockquote" or token.name in _BLOCKS:
            lines.append(["> " if quoted else ""])
    return ["".join(parts) for parts in lines]


def _tokens(page: str) -> Iterator[_Token]:
    """Yield texts and tags in their order; comments and declarations are left out."""
    at = 0
    while at < len(page):
        begins = page.find("<", at)
        if begins < 0:
            begins = len(page)
        if begins > at:
            yield _Token(text=page[at:begins])
        at = begins
        if (tag := _TAG.match(page, at)) is not None:
            name, ends = tag[2].lower(), bool(tag[1])
            yield _Token(name=name, begins=not ends, ends=ends or tag[3].endswith("/"))
            at = tag.end() if ends or name not in _RAW_ENDS else _after_raw(page, tag.end(), name)
        elif page.startswith(("<!", "<?"), at):
            at = _after_declaration(page, at)
        elif at < len(page):
            yield _Token(text="<")
            at += 1


def _after_raw(page: str, at: int, name: str) -> int:
    """Return where the end of a script or the like begins; the end of the page where it has none."""
    found = _RAW_ENDS[name].search(page, at)
    return len(page) if found is None else found.start()


def _after_declaration(page: str, at: int) -> int:
    """Return where a page goes on after a comment or declaration; at its end where that has none."""
    is_comment = page.startswith("<!--", at)
    end = page.find("-->" if is_comment else ">", at + 2)
    return len(page) if end < 0 else end + (3 if is_comment else 1)
