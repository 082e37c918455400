"""Pages of lists, most of them short enough to be read whole: the next one begins after the last entry.

What can be long is asked of the database page by page (`serving.paging`, or by ids); here the list is there
already, and its pages only keep answers small. Nothing is shown twice or skipped where entries come and go.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import Field

from crm_core.errors import InvalidValueError
from serving.payloads import BIGGEST, Asked

T = TypeVar("T")
Key = tuple[str | int | float, ...]
"""What a list is sorted by."""


class PageQuery(Asked):
    """Which page of a list."""

    limit: int = Field(default=50, ge=1, le=200, description="Entries on a page.")
    cursor: str | None = Field(
        default=None, max_length=1_000, description="`next_cursor` of the page before."
    )

    def part(
        self, found: Sequence[T], key: Callable[[T], Key], *, falling: bool = False
    ) -> tuple[list[T], str | None]:
        """Return a page of a list, by a key that no two entries share, and where the next one begins."""
        after = self.keyed(*map(type, key(found[0]))) if found else None
        left = [
            each
            for each in sorted(found, key=key, reverse=falling)
            if after is None or (key(each) < after if falling else key(each) > after)
        ]
        page = left[: self.limit]
        return page, cursor_of(key(page[-1])) if len(left) > self.limit else None

    def keyed(self, *types: type) -> Any:  # noqa: ANN401  a tuple of the types named
        """Return the key of the last entry of the page before; refuse one whose parts are of other types."""
        if self.cursor is None:
            return None
        after = _read(self.cursor)
        numbers_fit = all(0 <= each < BIGGEST for each in after if isinstance(each, int))
        if tuple(map(type, after)) != types or not numbers_fit:
            raise _unknown(self.cursor)
        return after

    def before(self) -> int | None:
        """Return the number that entries of this page are below, of a list that falls by a number."""
        after = self.keyed(int)
        return None if after is None else int(after[0])


def cursor_of(key: Key) -> str:
    """Return the cursor of the page after the entry with a key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _read(cursor: str) -> Key:
    try:
        held = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _unknown(cursor) from error
    if not isinstance(held, list) or not all(isinstance(each, str | int | float) for each in held):
        raise _unknown(cursor)
    return tuple(held)


def _unknown(cursor: str) -> InvalidValueError:
    return InvalidValueError("cursor", cursor, "next_cursor of the page before")
