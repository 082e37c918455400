"""Records that may be the same, as people see them, and what people decide about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_merge_by_rule
from crm_core.changes import Source
from crm_core.duplicates import (
    COMPARED,
    MERGED_BY_RULE,
    Merge,
    Pair,
    find_duplicates,
    list_duplicates,
    merge_by_rule,
)
from crm_core.records import RECORD_TYPES, User
from crm_core.store import Store

LIKELY = 0.5
"""From which likelihood on a pair is shown."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """A page of pairs, likeliest first, with what may be seen of each record: `records` by id, by field."""

    pairs: Sequence[Pair]
    total: int
    records: dict[int, dict[str, Any]]
    next_offset: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the page as one JSON object."""
        return {
            "pairs": [self._pair(pair) for pair in self.pairs],
            "total": self.total,
            "next_offset": self.next_offset,
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        evidence = [
            {"fact": each.fact, "log_odds": each.log_odds, "en": each.en, "zh": each.zh}
            for each in pair.evidence
        ]
        sides = {
            name: {"id": record_id, **self.records[record_id]}
            for name, record_id in (("first", pair.first_id), ("second", pair.second_id))
        }
        return {
            "record_type": pair.record_type,
            "likelihood": pair.likelihood,
            "evidence": evidence,
            **sides,
        }


Place = tuple[float, int, int]


def place_of(pair: Pair) -> Place:
    """Return what pairs are sorted by."""
    return (-pair.likelihood, pair.first_id, pair.second_id)


def read_copies(
    session: Session,
    user: User,
    record_type: str,
    *,
    at_least: float = LIKELY,
    limit: int = 50,
    offset: int = 0,
    after: Place | None = None,
) -> Copies:
    """Return a page of the pairs of which `user` may see both records, after so many or after a place."""
    reader = Reader(session, user)
    pairs = list_duplicates(session, record_type, at_least=at_least, reader=reader)
    if after is not None:
        offset = sum(place_of(pair) <= after for pair in pairs)
    shown = pairs[offset : offset + limit]
    ids = {each for pair in shown for each in (pair.first_id, pair.second_id)}
    end = offset + len(shown)
    return Copies(
        pairs=shown,
        total=len(pairs),
        records=_records(reader, record_type, ids),
        next_offset=end if end < len(pairs) else None,
    )


def read_copies_of(
    reader: Reader, record_type: str, record_id: int, *, at_least: float = LIKELY, limit: int = 50
) -> Copies:
    """Return the pairs of one record with others, likeliest first, of which the reader may see both.

    Raises RecordNotFoundError where they do not see the record.
    """
    record = reader.get(RECORD_TYPES[record_type], record_id)
    pairs = find_duplicates(reader.session, record, at_least=at_least, reader=reader)  # type: ignore[arg-type]  # only compared types have copies
    shown = pairs[:limit]
    ids = {each for pair in shown for each in (pair.first_id, pair.second_id)}
    return Copies(pairs=shown, total=len(pairs), records=_records(reader, record_type, ids), next_offset=None)


def merge_all_sure(
    store: Store, user: User, record_type: str, *, at_least: float | None = None
) -> list[Merge]:
    """Merge what is the same beyond doubt, by the rule; for an administrator."""
    check_may_merge_by_rule(user)
    least = MERGED_BY_RULE if at_least is None else at_least
    with store.transaction(source=Source.AUTOMATION, actor_id=user.id) as transaction:
        return merge_by_rule(transaction, record_type, at_least=least)


def _records(reader: Reader, record_type: str, ids: Collection[int]) -> dict[int, dict[str, Any]]:
    model = RECORD_TYPES[record_type]
    query = reader.select(model).where(model.id.in_(ids))
    found = {}
    for record in reader.session.scalars(query):
        seen = reader.shown(record)
        found[record.id] = {name: seen.get(name) for name in COMPARED[record_type]}
        found[record.id] |= {"owner_id": seen.get("owner_id"), "occurred_at": record.occurred_at}
    return found
