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
from sqlalchemy import Select
from sqlalchemy.orm import Session

from crm_core.access import Reader, Scope
from crm_core.errors import InvalidValueError
from crm_core.grams import fold_many, gram_range, grams_of
from crm_core.matching import Query, whole_likeness, words_likeness
from crm_core.phrases import Phrase, one_of
from crm_core.records import RECORD_TYPES
from crm_core.search_index import (
    SEARCHED,
    Segment,
    Texts,
    list_among,
    read_held,
    read_postings,
    read_texts_of,
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
        raise InvalidValueError("limit", limit, Phrase("a number from 1 to {most}", most=MOST_HITS))
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
    held = read_held(session, searched)
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
            raise InvalidValueError("types", record_type, one_of(sorted(SEARCHED)))
    return [record_type for record_type in SEARCHED if types is None or record_type in types]


def _find(reader: Reader, query: Query, types: Sequence[str], examined: int) -> Iterator[Hit]:
    """Yield all hits, in no order."""
    doubtful, candidates = _DOUBTFUL, _candidates(reader.session, query, types)
    best = _best_visible(reader, candidates, examined)
    texts = read_texts_of(reader.session, {name: np.sort(ids) for name, ids in best.items()})
    for record_type, ids in best.items():
        for said in _sayings(reader, record_type, ids, texts[record_type]):
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


def _sayings(reader: Reader, record_type: str, ids: Ints, texts: Texts) -> Iterator[_Saying]:
    """Yield what each of some records says, in the order of `ids`, whose texts these are."""
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
    segments, fresh = held or read_held(session, types)
    asked = {width: _Asked.of(query, width) for width in {width_of(name) for name in types}}
    for record_type, found, share in _by_grams(session, asked, segments, fresh):
        ranks.append(np.full(found.size, _RANK[record_type]))
        ids.append(found)
        shares.append(share)
    rank, record_id, every = np.concatenate(ranks), np.concatenate(ids), np.concatenate(shares)
    order = np.lexsort((-record_id, rank, -every))
    return _Candidates(rank=rank[order], record_id=record_id[order], share=every[order])


def _best_visible(reader: Reader, candidates: _Candidates, examined: int) -> dict[str, Ints]:
    """Return the best candidates that the reader may see, by type."""
    places = {name: np.flatnonzero(candidates.rank == rank) for name, rank in _RANK.items()}
    places = {name: at for name, at in places.items() if at.size}
    seen = _visible(reader, {name: candidates.record_id[at] for name, at in places.items()})
    visible = np.zeros(candidates.rank.size, dtype=bool)
    for record_type, at in places.items():
        visible[at] = seen[record_type]
    best = np.flatnonzero(visible)[:examined]
    ranks, ids = candidates.rank[best], candidates.record_id[best]
    found = {name: _unique_in_order(ids[ranks == rank]) for name, rank in _RANK.items()}
    return {name: some for name, some in found.items() if some.size}


def _unique_in_order(ids: Ints) -> Ints:
    _, first = np.unique(ids, return_index=True)
    return ids[np.sort(first)]


def _visible(reader: Reader, ids: Mapping[str, Ints]) -> dict[str, Flags]:
    """Return by type which of its `ids` the reader may see; False after as many as are examined.

    The first of all types are asked for at once: seldom are there more.
    """
    seen = {record_type: np.zeros(some.size, dtype=bool) for record_type, some in ids.items()}
    asked = {name: some for name, some in ids.items() if not _sees_few(reader, name, some)}
    for record_type in ids.keys() - asked.keys():
        # Who sees few of many would look through candidates in vain: all that they see is less.
        every = reader.session.scalars(_query_of_seen(reader, record_type)).all()
        seen[record_type] = np.isin(ids[record_type], np.array(every, dtype=np.int64))
    start = 0
    while asked:
        part = slice(start, start + EXAMINED)
        some = {name: (_query_of_seen(reader, name), of[part]) for name, of in asked.items()}
        found: dict[str, list[int]] = {name: [] for name in asked}
        for statement in list_among(some):
            for record_id, record_type in reader.session.execute(statement):
                found[record_type].append(record_id)
        for record_type, (_, here) in some.items():
            seen[record_type][part] = np.isin(here, np.array(found[record_type], dtype=np.int64))
        start += EXAMINED
        asked = {
            name: of
            for name, of in asked.items()
            if of.size > start and np.count_nonzero(seen[name]) < EXAMINED
        }
    return seen


def _sees_few(reader: Reader, record_type: str, ids: Ints) -> bool:
    return ids.size > EXAMINED and reader.right(record_type).read is not Scope.ALL


def _query_of_seen(reader: Reader, record_type: str) -> Select[int]:
    model = RECORD_TYPES[record_type]
    return reader.select(model).with_only_columns(model.id)


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
    session: Session, asked: Mapping[int, _Asked], segments: Sequence[Segment], fresh: Mapping[str, Ints]
) -> Iterator[tuple[str, Ints, Floats]]:
    """Yield ids and shares of the records that have enough of the grams, by segment and of what is fresh."""
    postings = read_postings(
        session,
        (
            (
                [segment.id for segment in segments if width_of(segment.record_type) == width],
                list(wanted.spellings),
                wanted.characters,
            )
            for width, wanted in asked.items()
        ),
    )
    for segment in segments:
        if segment.id in postings:
            wanted = asked[width_of(segment.record_type)]
            found = ((gram, unpack(places, segment.size)) for gram, places in postings[segment.id])
            yield segment.record_type, *wanted.candidates(segment.record_ids(), found)
    for lot in _in_lots(fresh):
        for record_type, texts in read_texts_of(session, lot).items():
            some, wanted = lot[record_type], asked[width_of(record_type)]
            yield record_type, *wanted.candidates(some, _grams_in(texts, some, wanted))


def _in_lots(fresh: Mapping[str, Ints]) -> Iterator[dict[str, Ints]]:
    """Yield lots of records that are in no segment, none much larger than what is examined."""
    lot: dict[str, Ints] = {}
    for record_type, ids in fresh.items():
        for start in range(0, ids.size, EXAMINED):
            if record_type in lot or sum(some.size for some in lot.values()) > EXAMINED:
                yield lot
                lot = {}
            lot[record_type] = ids[start : start + EXAMINED]
    if lot:
        yield lot


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
