"""The tags of records: those put on by hand, and those that segments say, which come and go by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import literal, select, union_all

from crm_core.access import Reader, Scope
from crm_core.errors import InvalidValueError
from crm_core.filters import rules_met
from crm_core.phrases import Phrase
from crm_core.records import RECORD_TYPES, Tag, User
from crm_core.saved import LONGEST_WORD, Segment, list_rules
from crm_core.store import Transaction
from serving.editing import Editor, Kind

_TAG = Kind(model=Tag, name=Tag.record_type)


@dataclass(frozen=True, kw_only=True)
class ToldTag:
    """A word on a record; `by_rule` says that a segment put it there, so that nobody takes it off by hand."""

    word: str
    by_rule: bool = False


def tags_of(
    reader: Reader, record_type: str, ids: Collection[int], rules: Sequence[Segment] | None = None
) -> dict[int, list[ToldTag]]:
    """Return the tags of those of some records that the reader sees, those by hand first.

    `rules` are the segments that the reader may use, where they are known already.
    """
    if not ids or reader.right("tag").read is Scope.NONE or not reader.may_read_field("tag", "word"):
        return {}
    found: dict[int, dict[str, ToldTag]] = defaultdict(dict)
    if rules is None:
        rules = list_rules(reader.session, reader.user, record_type)
    for record_id, word, rank in reader.session.execute(_query(reader, record_type, ids, rules)):
        found[record_id].setdefault(word, ToldTag(word=word, by_rule=rank > 0))
    return {record_id: list(tags.values()) for record_id, tags in found.items()}


def _query(reader: Reader, record_type: str, ids: Collection[int], rules: Sequence[Segment]) -> Any:  # noqa: ANN401  a union
    """Return the one query of all tags of records: by hand, and by each rule that the reader may ask."""
    model = RECORD_TYPES[record_type]
    seen = reader.select(model).with_only_columns(model.id).where(model.id.in_(ids))
    parts = [
        select(Tag.subject_id.label("id"), Tag.word.label("word"), literal(0).label("rank")).where(
            Tag.subject_type == record_type, Tag.subject_id.in_(seen), Tag.deleted_at.is_(None)
        )
    ]
    parts += [
        select(model.id, literal(rule.tag), literal(1)).where(model.id.in_(seen), condition)
        for rule in rules
        if rule.tag
        for condition in rules_met(reader, [rule])
    ]
    every = union_all(*parts).subquery()
    return select(every.c.id, every.c.word, every.c.rank).order_by(every.c.rank, every.c.word)


def put_tag(transaction: Transaction, user: User, record_type: str, record_id: int, word: str) -> bool:
    """Put a word on a record that somebody may change; False if it was there."""
    editor = Editor(transaction, user)
    editor.get_to_write(Kind(model=RECORD_TYPES[record_type], name=record_type), record_id)
    if _by_hand(transaction, record_type, record_id, _word(word)):
        return False
    subject = {"word": _word(word), "subject_type": record_type, "subject_id": record_id}
    editor.create(_TAG, subject)
    return True


def take_tag(transaction: Transaction, user: User, record_type: str, record_id: int, word: str) -> bool:
    """Take a word off a record that somebody may change; False if nobody had put it there."""
    editor = Editor(transaction, user)
    editor.get_to_write(Kind(model=RECORD_TYPES[record_type], name=record_type), record_id)
    found = _by_hand(transaction, record_type, record_id, _word(word))
    for tag_id in found:
        editor.delete(_TAG, tag_id)
    return bool(found)


def _by_hand(transaction: Transaction, record_type: str, record_id: int, word: str) -> list[int]:
    query = select(Tag.id).where(
        Tag.subject_type == record_type,
        Tag.subject_id == record_id,
        Tag.word == word,
        Tag.deleted_at.is_(None),
    )
    return list(transaction.session.scalars(query))


def _word(word: str) -> str:
    word = word.strip()
    if not 0 < len(word) <= LONGEST_WORD:
        raise InvalidValueError(
            "word", word, Phrase("a word of up to {longest} characters", longest=LONGEST_WORD)
        )
    return word
