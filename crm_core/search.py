"""Finding records by what they say: names, companies, notes, mails and phone numbers, typing errors allowed.

The index names candidates by the share of the query's grams that they have. What counts in the end is what
a candidate says now, in the fields that the reader may see: each word of the query is looked for there, as
a word, as the beginning or a part of one, or with the few wrong characters that a slip of the hand makes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.errors import InvalidValueError
from crm_core.grams import fold_many, gram_range, grams_of
from crm_core.matching import Query, whole_likeness, words_likeness
from crm_core.records import RECORD_TYPES, Record
from crm_core.search_index import (
    SEARCHED,
    Segment,
    Texts,
    list_fresh,
    list_segments,
    read_postings,
    read_texts,
    unpack,
    width_of,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MOST_HITS: Final = 200
"""Hits on one page."""

EXAMINED: Final = 4_000
"""Candidates, the best ones by their grams, whose texts are looked at; no search finds more."""

_DOUBTFUL: Final = 1_000
"""Of these, how many are searched for misspelt words."""

_SHARE: Final = {2: 0.5, 3: 0.4}
"""The share of the query's grams that a candidate must have; one slip takes three of the longer ones."""

_APART: Final = 0.98
"""What the words of a query are worth in different places, compared with all in a row."""

_LEAST: Final = 0.55
"""The score from which on a record is a hit."""

_EXCERPT: Final = 120
"""Characters of a field that a hit shows."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A record that fits a query, best through one of its fields."""

    record_type: str
    record_id: int
    score: float
    field: str
    excerpt: str

    @property
    def cursor(self) -> str:
        """Return what `search` takes as `after` to go on behind this hit."""
        return f"{self.score:.4f}:{self.record_type}:{self.record_id}"


def search(
    reader: Reader,
    text: str,
    *,
    types: Collection[str] | None = None,
    limit: int = 20,
    after: str | None = None,
    examined: int = EXAMINED,
) -> list[Hit]:
    """Return what the reader may see and `text` describes, best first; `after` is the cursor of a hit.

    With fewer `examined`, only so many candidates are looked at, those with most of the text's grams: quick
    for a word that nearly everything holds, at the risk that a better hit is not among them.

    A hit is through a field that the reader may see. Width, case, accents and the spaces in phone numbers
    make no difference. Raises InvalidValueError for an unknown type, a limit below 1 or above `MOST_HITS`,
    or a cursor that is none.
    """
    if not 1 <= limit <= MOST_HITS:
        raise InvalidValueError("limit", limit, f"a number from 1 to {MOST_HITS}")
    last = None if after is None else _parse_cursor(after)
    query = Query.of(text)
    if not query.words:
        return []
    hits = [
        hit
        for hit in _find(reader, query, _searched_types(types), examined)
        if last is None or _place(hit) > last
    ]
    return sorted(hits, key=_place)[:limit]


_Held = tuple[Sequence[Segment], Mapping[str, Ints]]
"""What the index holds of some types: their segments, and the records that are in none yet."""


def nearest(
    session: Session,
    text: str,
    types: Collection[str],
    *,
    limit: int | None = None,
    share: float = 0.0,
) -> dict[str, Ints]:
    """Return, by type, the records, deleted ones too, that have most of a text's grams, or a share of them.

    Every record that says the text in a row has at least 0.8 of them.
    """
    return next(nearest_of_each(session, [text], types, limit=limit, share=share))


def nearest_of_each(
    session: Session,
    texts: Iterable[str],
    types: Collection[str],
    *,
    limit: int | None = None,
    share: float = 0.0,
) -> Iterator[dict[str, Ints]]:
    """Yield, for each of some texts, what `nearest` returns; what the index holds is read once for all."""
    searched = _searched_types(types)
    held = list_segments(session, searched), list_fresh(session, searched)
    for text in texts:
        query = Query.of(text)
        yield _nearest(session, query, types, held, limit=limit, share=share) if query.words else {}


def _nearest(
    session: Session,
    query: Query,
    types: Collection[str],
    held: _Held,
    *,
    limit: int | None,
    share: float,
) -> dict[str, Ints]:
    found = _candidates(session, query, _searched_types(types), held)
    enough = found.share >= share
    return {
        record_type: _unique_in_order(found.record_id[enough & (found.rank == _RANK[record_type])])[:limit]
        for record_type in types
    }


_Place = tuple[float, int, int]

_RANK: Final = {record_type: rank for rank, record_type in enumerate(SEARCHED)}


def _place(hit: Hit) -> _Place:
    """Return what hits are sorted by: the score, the type, and the newest first."""
    return (-hit.score, _RANK[hit.record_type], -hit.record_id)


def _parse_cursor(cursor: str) -> _Place:
    refusal = InvalidValueError("after", cursor, "the cursor of a hit")
    try:
        score, record_type, record_id = cursor.split(":")
        place = (-float(score), _RANK[record_type], -int(record_id))
    except (KeyError, ValueError) as error:
        raise refusal from error
    if not math.isfinite(place[0]):
        raise refusal
    return place


def _searched_types(types: Collection[str] | None) -> list[str]:
    for record_type in types or ():
        if record_type not in SEARCHED:
            raise InvalidValueError("types", record_type, f"one of {', '.join(sorted(SEARCHED))}")
    return [record_type for record_type in SEARCHED if types is None or record_type in types]


def _find(reader: Reader, query: Query, types: Sequence[str], examined: int) -> Iterator[Hit]:
    """Yield all hits, in no order."""
    doubtful, candidates = _DOUBTFUL, _candidates(reader.session, query, types)
    for record_type, ids in _best_visible(reader, candidates, examined).items():
        for said in _sayings(reader, record_type, ids):
            score, at = said.whole(query)
            if score == 0 and doubtful > 0:
                doubtful -= 1
                score, at = said.words(query)
            if score >= _LEAST:
                yield said.hit(query, score, at)


@dataclass(frozen=True, kw_only=True)
class _Saying:
    """What one record says, in the fields that the reader may see: tuples of one length."""

    record_type: str
    record_id: int
    fields: tuple[str, ...]
    texts: tuple[str, ...]
    folded: tuple[str, ...]

    @property
    def weights(self) -> list[float]:
        """How much each field tells."""
        return [_weight(self.record_type, name) for name in self.fields]

    def whole(self, query: Query) -> tuple[float, int]:
        """Return the score of the field that holds the whole query best, and its position."""
        found = (whole_likeness(query, text) for text in self.folded)
        score, at = max(
            (like * weight, -at) for at, (like, weight) in enumerate(zip(found, self.weights, strict=True))
        )
        return score, -at

    def words(self, query: Query) -> tuple[float, int]:
        """Return the score of the query's words in whatever fields, and the position of the best one."""
        score, at = words_likeness(query, self.folded, self.weights)
        return score * _APART, at

    def hit(self, query: Query, score: float, at: int) -> Hit:
        """Return the hit through the field at a position."""
        return Hit(
            record_type=self.record_type,
            record_id=self.record_id,
            score=round(score, 4),
            field=self.fields[at],
            excerpt=_excerpt(self.texts[at], query),
        )


def _sayings(reader: Reader, record_type: str, ids: Ints) -> Iterator[_Saying]:
    """Yield what each of some records says, in the order of `ids`."""
    texts = read_texts(reader.session, RECORD_TYPES[record_type], np.sort(ids))
    may = {name: _may_read(reader, record_type, name) for name in set(texts.fields)}
    folded = fold_many(texts.texts)
    rows: dict[int, list[int]] = {record_id: [] for record_id in ids.tolist()}
    for row, (record_id, name) in enumerate(zip(texts.record_ids, texts.fields, strict=True)):
        if may[name]:
            rows[record_id].append(row)
    for record_id, found in rows.items():
        if found:
            yield _Saying(
                record_type=record_type,
                record_id=record_id,
                fields=tuple(texts.fields[row] for row in found),
                texts=tuple(texts.texts[row] for row in found),
                folded=tuple(folded[row] for row in found),
            )


def _may_read(reader: Reader, record_type: str, name: str) -> bool:
    whole = not name.startswith("custom.") or reader.may_read_field(record_type, "custom")
    return whole and reader.may_read_field(record_type, name)


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Records by the share of the query's grams that they have, best first: arrays of one length."""

    rank: Ints
    record_id: Ints
    share: Floats


def _candidates(
    session: Session, query: Query, types: Sequence[str], held: _Held | None = None
) -> _Candidates:
    """Return the candidates of some types, deleted ones and those out of sight too.

    `held` is what the index holds of these types, where it was read already.
    """
    ranks, ids, shares = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)], [np.empty(0)]
    segments, fresh = held or (list_segments(session, types), list_fresh(session, types))
    for width in sorted({width_of(name) for name in types}):
        some = [each for each in segments if width_of(each.record_type) == width]
        new = {name: found for name, found in fresh.items() if width_of(name) == width}
        for record_type, found, share in _by_grams(session, _Asked.of(query, width), some, new):
            ranks.append(np.full(found.size, _RANK[record_type]))
            ids.append(found)
            shares.append(share)
    rank, record_id, every = np.concatenate(ranks), np.concatenate(ids), np.concatenate(shares)
    order = np.lexsort((-record_id, rank, -every))
    return _Candidates(rank=rank[order], record_id=record_id[order], share=every[order])


def _best_visible(reader: Reader, candidates: _Candidates, examined: int) -> dict[str, Ints]:
    """Return the best candidates that the reader may see, by type."""
    visible = np.zeros(candidates.rank.size, dtype=bool)
    for record_type, rank in _RANK.items():
        at = np.flatnonzero(candidates.rank == rank)
        if at.size:
            visible[at] = _visible(reader, RECORD_TYPES[record_type], candidates.record_id[at])
    best = np.flatnonzero(visible)[:examined]
    ranks, ids = candidates.rank[best], candidates.record_id[best]
    found = {name: _unique_in_order(ids[ranks == rank]) for name, rank in _RANK.items()}
    return {name: some for name, some in found.items() if some.size}


def _unique_in_order(ids: Ints) -> Ints:
    _, first = np.unique(ids, return_index=True)
    return ids[np.sort(first)]


def _visible(reader: Reader, model: type[Record], ids: Ints) -> npt.NDArray[np.bool_]:
    """Return which of `ids` the reader may see; False for all that come after as many as are examined."""
    query = reader.select(model).with_only_columns(model.id)
    if ids.size > EXAMINED and reader.right(model.record_type).read is not Scope.ALL:
        # Who sees few of many would look through candidates in vain: all that they see is less.
        return np.isin(ids, np.array(reader.session.scalars(query).all(), dtype=np.int64))
    seen = np.zeros(ids.size, dtype=bool)
    for start in range(0, ids.size, EXAMINED):
        some = ids[start : start + EXAMINED]
        found = reader.session.scalars(query.where(model.id.in_(some.tolist()))).all()
        seen[start : start + EXAMINED] = np.isin(some, np.array(found, dtype=np.int64))
        if np.count_nonzero(seen) >= EXAMINED:
            break
    return seen


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The grams that a query asks for, some of them in several spellings.

    `spellings` tells which spellings a gram is part of, `total` how many grams each of them has, and
    `characters` the bounds of the grams that begin with a character that must occur somewhere.
    """

    width: int
    spellings: Mapping[int, Ints]
    total: Ints
    characters: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, query: Query, width: int) -> _Asked:
        """Return the grams of a query."""
        texts = query.spellings()
        grams, numbers = _without_ends(query, *grams_of(texts, np.arange(len(texts)), width))
        return cls(
            width=width,
            spellings={gram: numbers[grams == gram] for gram in np.unique(grams).tolist()},
            total=np.maximum(1, np.bincount(numbers, minlength=len(texts))),
            characters=tuple(gram_range(character) for character in query.characters()),
        )

    def candidates(self, ids: Ints, found: Iterable[tuple[int, Flags]]) -> tuple[Ints, Floats]:
        """Return which records have enough of the grams, and their share in the spelling that fits best.

        `found` gives grams, and of each in which of the records it occurs.
        """
        counts = np.zeros((self.total.size, ids.size), dtype=np.int16)
        there = np.zeros((len(self.characters), ids.size), dtype=bool)
        for gram, flags in found:
            if gram in self.spellings:
                counts[self.spellings[gram]] += flags
            for number, (first, end) in enumerate(self.characters):
                if first <= gram < end:
                    there[number] |= flags
        share = (counts / self.total[:, None]).max(axis=0)
        if self.characters:
            share = np.maximum(share, there.all(axis=0) * _SHARE[self.width])
        enough = np.flatnonzero(share >= _SHARE[self.width])
        return ids[enough], share[enough]

    def is_asked(self, grams: Ints) -> Flags:
        """Return which of some grams are asked for."""
        asked = np.isin(grams, list(self.spellings))
        for first, end in self.characters:
            asked |= (grams >= first) & (grams < end)
        return asked


def _without_ends(query: Query, grams: Ints, numbers: Ints) -> tuple[Ints, Ints]:
    """Leave out the grams that say that a word without spaces ends: it may go on in the text."""
    lasts = {word.text[-1] for word in query.words if word.kind == "ideographs"}
    ends = [gram_range(character)[0] | ord(" ") for character in lasts]
    keep = ~np.isin(grams, ends)
    return grams[keep], numbers[keep]


def _by_grams(
    session: Session, asked: _Asked, segments: Sequence[Segment], fresh: Mapping[str, Ints]
) -> Iterator[tuple[str, Ints, Floats]]:
    """Yield ids and shares of the records that have enough of the grams, by segment and of what is fresh."""
    wanted = [segment.id for segment in segments]
    postings = read_postings(session, wanted, list(asked.spellings), asked.characters)
    for segment in segments:
        if segment.id in postings:
            found = ((gram, unpack(places, segment.size)) for gram, places in postings[segment.id])
            yield segment.record_type, *asked.candidates(segment.record_ids(), found)
    for record_type, ids in fresh.items():
        for start in range(0, ids.size, EXAMINED):
            some = ids[start : start + EXAMINED]
            texts = read_texts(session, RECORD_TYPES[record_type], some)
            yield record_type, *asked.candidates(some, _grams_in(texts, some, asked))


def _grams_in(texts: Texts, ids: Ints, asked: _Asked) -> Iterator[tuple[int, Flags]]:
    """Yield the grams that are asked for in texts that no segment holds yet."""
    owners = np.searchsorted(ids, np.array(texts.record_ids, dtype=np.int64))
    grams, places = grams_of(texts.texts, owners, asked.width)
    wanted = asked.is_asked(grams)
    grams, places = grams[wanted], places[wanted]
    for gram in np.unique(grams).tolist():
        flags = np.zeros(ids.size, dtype=bool)
        flags[places[grams == gram]] = True
        yield gram, flags


def _weight(record_type: str, name: str) -> float:
    """Return how much a field tells: what something is called tells more than what is said about it."""
    if width_of(record_type) == 3:
        return 0.9
    return 1.0 if name in _NAMING else 0.95


_NAMING: Final = frozenset({"name", "company", "email", "phone", "number", "code", "word"})


def _excerpt(text: str, query: Query) -> str:
    """Return the part of a text that shows why it was found."""
    if len(text) <= _EXCERPT:
        return text
    lower = text.casefold()
    found = [at for word in query.words if (at := lower.find(word.text)) >= 0]
    start = max(0, min(found, default=0) - _EXCERPT // 4)
    return text[start : start + _EXCERPT]
