"""Articles as pages: Markdown made into HTML that can do nothing but be read.

What is written as HTML stays text, links go to pages and mail addresses only, and there are no pictures: one
from elsewhere would tell its owner who reads what.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_TAGS: Final = frozenset(
    {"p", "br", "hr", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code"}
    | {"em", "strong", "s", "a", "table", "thead", "tbody", "tr", "th", "td"}
)
_SCHEMES: Final = frozenset({"http", "https", "mailto"})
_PATH: Final = r"[^()\s]*(?:\([^()\s]*\)[^()\s]*)?"
# Nothing in these is looked for beyond where the next one may begin, or for longer than a sentence: a text of
# nothing but beginnings would keep everybody waiting who reads a list.
_PICTURE: Final = re.compile(rf"!\[([^\[\]]*)\]\({_PATH}(?:\s[^()]*)?\)")
_LINKED: Final = re.compile(rf"\[([^\[\]]+)\]\(({_PATH})(?:\s[^()]*)?\)")
_BOLD: Final = re.compile(r"(\*\*|__)(?=\S)(.{1,400}?)(?<=\S)\1")
_HEADING: Final = re.compile(r"<(/?)h([1-5])>")


def to_html(text: str) -> Markup:
    """Return a text in Markdown as HTML that is safe to show; its headings begin at the second level."""
    import nh3  # a page that shows no article needs none of it

    plain = _HEADING.sub(lambda match: f"<{match[1]}h{int(match[2]) + 1}>", _parser().render(text))
    clean = nh3.clean(
        plain,
        tags=set(_TAGS),
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes=set(_SCHEMES),
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)  # noqa: S704  that is what it was cleaned for


def plain_text(text: str) -> str:
    """Return what a text in Markdown says, as a mail says it: without marks, links behind their words."""
    said = _PICTURE.sub(r"\1", text)
    said = _LINKED.sub(r"\1 (\2)", said)
    said = re.sub(r"(?m)^#{1,6}\s+", "", said)
    said = _BOLD.sub(r"\2", said)
    said = re.sub(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])", r"\1", said)
    said = re.sub(r"(?m)^```.*\n?", "", said)
    return said.replace("`", "").strip()


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return made.disable("image")
