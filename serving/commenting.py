"""Saying something about a record, and calling on colleagues by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from sqlalchemy import select

from crm_core.access import Reader
from crm_core.columns import check_text
from crm_core.errors import RecordNotFoundError
from crm_core.notifications import Occasion, notify
from crm_core.records import Comment, User
from crm_core.store import Transaction
from serving.editing import Editor, Kind, get_as, kind_of

MOST_MENTIONS: Final = 100
"""Signs of a mention that are looked at in one comment: each is compared with everybody's name."""

_LONGEST_NAME: Final = 400
_AT: Final = re.compile("[@\\uff20]")


@dataclass(frozen=True, kw_only=True)
class Said:
    """A comment that was written: who was told of it, and who was called on but may not see the record."""

    comment: Comment
    told: list[str] = field(default_factory=list)
    cannot_see: list[str] = field(default_factory=list)


def say(transaction: Transaction, user: User, kind: Kind, record_id: int, text: str) -> Said:
    """Write a comment of `user` on a record that they see; tell those mentioned in it who see it, too."""
    session = transaction.session
    get_as(Reader(session, user), kind, record_id)
    check_text("body", text)
    called = mentioned(text, _colleagues(transaction))
    comment = Editor(transaction, user).create(
        kind_of(session, "comment"),
        {
            "subject_type": kind.model.record_type,
            "subject_id": record_id,
            "body": text,
            "mentions": [person.id for person in called] or None,
        },
    )
    assert isinstance(comment, Comment)  # noqa: S101  what was created
    seeing = [person for person in called if _sees(transaction, person, kind, record_id)]
    told = set(
        notify(
            transaction,
            [person.id for person in seeing],
            kind=Occasion.MENTION,
            about=(kind.name, record_id),
            params={"comment": comment.id},
        )
    )
    return Said(
        comment=comment,
        told=[person.name for person in seeing if person.id in told],
        cannot_see=[person.name for person in called if person not in seeing],
    )


def mentioned(text: str, people: Sequence[User]) -> list[User]:
    """Return the people whose name stands after an @ in a text, the longest name that fits; each once.

    A name that two people have calls on both.
    """
    found: dict[int, User] = {}
    for at in islice(_AT.finditer(text), MOST_MENTIONS):
        rest = text[at.end() : at.end() + _LONGEST_NAME].casefold()
        fitting = [person for person in people if _begins(rest, person.name.casefold())]
        longest = max((len(person.name) for person in fitting), default=0)
        found |= {person.id: person for person in fitting if len(person.name) == longest}
    return list(found.values())


def _begins(rest: str, name: str) -> bool:
    """Say whether a text begins with a name: the whole of it, and no longer word of the same letters."""
    if not name or not rest.startswith(name):
        return False
    after = rest[len(name) : len(name) + 1]
    return not (after.isascii() and after.isalnum())


def _colleagues(transaction: Transaction) -> Sequence[User]:
    query = select(User).where(User.deleted_at.is_(None), User.active, User.left_at.is_(None))
    return transaction.session.scalars(query.order_by(User.id)).all()


def _sees(transaction: Transaction, person: User, kind: Kind, record_id: int) -> bool:
    reader = Reader(transaction.session, person)
    try:
        get_as(reader, kind, record_id)
    except RecordNotFoundError:
        return False
    return True
