"""The knowledge base: articles, their versions, which of them may answer a ticket, and whether they did.

Versions are what the change log says of an article's title and body; restoring one is another change. What
is suggested for a text is what shares its rarest pairs of letters or characters, of the published articles:
`suggest` says how, `docs/service.md` how well that does.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import ForeignKey, case, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.access import Reader, Scope
from crm_core.changes import Action, Change
from crm_core.columns import Instant
from crm_core.errors import RecordNotFoundError
from crm_core.grams import grams_of
from crm_core.recall import recalled_by_readers
from crm_core.records import Article, ArticleState, Base, Ticket, User
from crm_core.store import Transaction

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WRITTEN: Final = ("title", "body")
_WIDTH: Final = 3
_TITLE_WEIGHT: Final = 3.0
"""What a title says counts so much more than what the text says."""

_LONGEST: Final = 6_000
"""Characters of a text that are looked at."""

_LEAST: Final = 0.06
"""The likeness from which on an article is suggested at all."""


class ArticleUse(Base):
    """That an article was put into an answer to a ticket, and whether it helped."""

    __tablename__ = "article_uses"

    article_id: Mapped[int] = mapped_column(ForeignKey("articles.id"), primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True, index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), comment="who used it last")
    used_at: Mapped[datetime] = mapped_column(Instant)
    helpful: Mapped[bool | None] = mapped_column(comment="whether it helped; NULL: nobody said so")


@dataclass(frozen=True, kw_only=True)
class Version:
    """An article as somebody left it: `number` counts from 1, the newest is the article itself."""

    number: int
    title: str
    body: str
    at: datetime
    by_id: int | None


@dataclass(frozen=True, kw_only=True)
class Uses:
    """How often an article was put into an answer, and for how many it helped or did not."""

    inserted: int = 0
    helped: int = 0
    did_not: int = 0


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """An article that may answer a text; `likeness` is from 0 (nothing shared) to 1."""

    article: Article
    likeness: float


# ------------------------------------------------------------------------------------------------ versions


def list_versions(session: Session, article: Article) -> list[Version]:
    """Return the versions of an article, the newest first: what was changed at once is one version."""
    query = select(Change).where(
        Change.record_type == Article.record_type,
        Change.record_id == article.id,
        Change.field.in_(WRITTEN) | (Change.action == Action.CREATED),
    )
    rows = session.scalars(query.order_by(Change.id.desc())).all()
    texts = {"title": article.title, "body": article.body}
    found: list[tuple[datetime, int | None, dict[str, str]]] = []
    for group in _together(rows):
        found.append((group[0].recorded_at, group[0].actor_id, dict(texts)))
        for change in group:
            if change.field is not None:
                texts[change.field] = str(change.old or "")
    return [
        Version(number=len(found) - place, at=at, by_id=by_id, **said)
        for place, (at, by_id, said) in enumerate(found)
    ]


def _together(rows: Sequence[Change]) -> Iterator[list[Change]]:
    """Yield the changes of each transaction, the newest first; creating is a group of its own."""
    group: list[Change] = []
    for row in rows:
        if group and (row.recorded_at, row.actor_id) != (group[0].recorded_at, group[0].actor_id):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def get_version(session: Session, article: Article, number: int) -> Version:
    """Return a version of an article; raise RecordNotFoundError where there is none such."""
    for each in list_versions(session, article):
        if each.number == number:
            return each
    raise RecordNotFoundError("article version", number)


def restore(transaction: Transaction, article: Article, number: int) -> None:
    """Make an article say again what a version said."""
    found = get_version(transaction.session, article, number)
    transaction.update(article, {"title": found.title, "body": found.body})


def difference(old: str, new: str) -> list[tuple[str, str]]:
    """Return the lines of two texts, each with `-` (only in the old), `+` (only in the new) or a space."""
    lines = difflib.ndiff(old.splitlines(), new.splitlines())
    return [(line[0], line[2:]) for line in lines if line[0] != "?"]


# ------------------------------------------------------------------------------------------------ suggesting


def suggest(reader: Reader, title: str, body: str | None, *, limit: int = 3) -> list[Suggestion]:
    """Return the published articles that are most like a text, the most like first.

    Each text is the set of its runs of three letters, or of two of Chinese, a run weighing the more the fewer
    articles have it; likeness is the cosine of the two sets, those in titles weighing more. Articles that the
    reader may not see are left out.
    """
    library = _recalled_library(reader)
    if not library.ids.size:
        return []
    likeness = library.likeness(title, body or "")
    best = [at for at in np.argsort(-likeness, kind="stable")[:limit] if likeness[at] >= _LEAST]
    rows = reader.session.scalars(reader.select(Article).where(Article.id.in_(library.ids[best].tolist())))
    found = {article.id: article for article in rows}
    return [
        Suggestion(article=found[record_id], likeness=float(likeness[at]))
        for at in best
        if (record_id := int(library.ids[at])) in found
    ]


@dataclass(frozen=True, kw_only=True)
class _Library:
    """All published articles by their runs of letters: one row an article, sorted by run."""

    ids: Ints
    grams: Ints
    rows: Ints
    weights: Floats
    rarity: Mapping[int, float]
    usual: float

    def likeness(self, title: str, body: str) -> Floats:
        """Return how like each article a text is."""
        grams, weights = _weighed(title, body)
        told = weights * np.array([self.rarity.get(gram, self.usual) for gram in grams.tolist()])
        length = float(np.sqrt((told**2).sum()))
        if not length:
            return np.zeros(self.ids.size)
        places = np.searchsorted(grams, self.grams)
        places[places == grams.size] = 0
        shared = grams[places] == self.grams
        products = np.where(shared, told[places] * self.weights, 0.0)
        found: Floats = np.bincount(self.rows, weights=products, minlength=self.ids.size) / length
        return found


def _recalled_library(reader: Reader) -> _Library:
    """Return the library as it was a moment ago: the same for all who see every article."""
    whole = reader.right(Article.record_type).read is Scope.ALL
    key = ("article library", None if whole else reader.user.id)
    return recalled_by_readers(reader.session, key, lambda: _library(reader))


def _library(reader: Reader) -> _Library:
    query = reader.select(Article).where(Article.state == ArticleState.PUBLISHED)
    rows = reader.session.execute(
        query.with_only_columns(Article.id, Article.title, Article.body).order_by(Article.id)
    ).all()
    said = [_weighed(title, body) for _, title, body in rows]
    ids = np.array([record_id for record_id, _, _ in rows], dtype=np.int64)
    if not said:
        nothing = np.empty(0, dtype=np.int64)
        return _Library(ids=ids, grams=nothing, rows=nothing, weights=np.empty(0), rarity={}, usual=0.0)
    grams = np.concatenate([each for each, _ in said])
    owners = np.repeat(np.arange(len(said)), [each.size for each, _ in said])
    known, counts = np.unique(grams, return_counts=True)
    rarities = np.log((1 + len(said)) / (0.5 + counts))
    weights = np.concatenate([weight for _, weight in said]) * rarities[np.searchsorted(known, grams)]
    lengths = np.sqrt(np.bincount(owners, weights=weights**2, minlength=len(said)))
    return _Library(
        ids=ids,
        grams=grams,
        rows=owners,
        weights=weights / np.maximum(lengths, 1e-12)[owners],
        rarity=dict(zip(known.tolist(), rarities.tolist(), strict=True)),
        usual=float(np.log((1 + len(said)) / 0.5)),
    )


def _weighed(title: str, body: str) -> tuple[Ints, Floats]:
    """Return the runs of letters of a text, ascending, and what each weighs."""
    found: dict[int, float] = {}
    for text, weight in ((body, 1.0), (title, _TITLE_WEIGHT)):
        for gram in _grams(text[:_LONGEST]):
            found[gram] = max(found.get(gram, 0.0), weight)
    grams = np.array(sorted(found), dtype=np.int64)
    return grams, np.array([found[gram] for gram in grams.tolist()], dtype=np.float64)


def _grams(text: str) -> Collection[int]:
    grams, _ = grams_of([text], np.zeros(1, dtype=np.int64), _WIDTH)
    found: list[int] = np.unique(grams).tolist()
    return found


# ------------------------------------------------------------------------------------------------ uses


def note_use(
    transaction: Transaction, user: User, article: Article, ticket: Ticket, *, helpful: bool | None = None
) -> ArticleUse:
    """Note that an article was put into an answer to a ticket, or whether it helped; once for both."""
    session = transaction.session
    found = session.get(ArticleUse, (article.id, ticket.id))
    if found is None:
        found = ArticleUse(article_id=article.id, ticket_id=ticket.id)
        session.add(found)
    found.user_id, found.used_at = user.id, transaction.now
    if helpful is not None:
        found.helpful = helpful
    session.flush()
    return found


def uses_of(session: Session, ids: Collection[int]) -> dict[int, Uses]:
    """Return how often articles were used, and whether they helped."""
    query = (
        select(
            ArticleUse.article_id,
            func.count(),
            func.sum(case((ArticleUse.helpful.is_(True), 1), else_=0)),
            func.sum(case((ArticleUse.helpful.is_(False), 1), else_=0)),
        )
        .where(ArticleUse.article_id.in_(ids))
        .group_by(ArticleUse.article_id)
    )
    return {
        key: Uses(inserted=int(count), helped=int(helped), did_not=int(did_not))
        for key, count, helped, did_not in session.execute(query)
    }
