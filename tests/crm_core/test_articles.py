"""The knowledge base: versions out of the log, search in Chinese, and what is suggested for a ticket."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from crm_core.access import Reader
from crm_core.articles import (
    Uses,
    difference,
    get_version,
    list_versions,
    note_use,
    restore,
    suggest,
    uses_of,
)
from crm_core.clock import FixedClock
from crm_core.errors import RecordNotFoundError
from crm_core.grams import grams_of
from crm_core.records import Article, Ticket, User
from crm_core.search import search
from crm_core.store import Store
from tests.factories import make_account, make_user
from tests.texts_of_tickets import ARTICLES, TICKETS


def write(store: Store, title: str, body: str = "Text", **given: object) -> int:
    with store.transaction() as transaction:
        values = {"language": "en", "state": "published", **given}
        return transaction.create(Article(title=title, body=body, **values)).id


def reader_of(store: Store) -> User:
    with store.transaction() as transaction:
        return make_user(transaction, "Ana")


def test_versions_are_what_the_log_says_and_any_can_be_restored(store: Store, clock: FixedClock) -> None:
    article = write(store, "Leaks", "one\ntwo")
    for values in ({"body": "one\nthree"}, {"title": "Leak", "body": "four"}, {"state": "retired"}):
        clock.advance(timedelta(minutes=1))
        with store.transaction() as transaction:
            transaction.update(transaction.get(Article, article), values)
    with store.transaction() as transaction:
        found = transaction.get(Article, article)
        said = [(each.number, each.title, each.body) for each in list_versions(transaction.session, found)]
        assert said == [(3, "Leak", "four"), (2, "Leaks", "one\nthree"), (1, "Leaks", "one\ntwo")]
        restore(transaction, found, 1)
        assert (found.title, found.body) == ("Leaks", "one\ntwo")
        with pytest.raises(RecordNotFoundError):
            get_version(transaction.session, found, 9)
    assert difference("one\ntwo", "one\nthree") == [(" ", "one"), ("-", "two"), ("+", "three")]


def test_an_article_is_found_by_two_characters_of_its_text(store: Store) -> None:
    user = reader_of(store)
    article = write(store, "漏水怎么办", "更换密封圈即可。", language="zh")
    write(store, "开发票", "在个人中心申请。", language="zh")
    with store.reading() as session:
        for text in ("密封", "漏水"):
            hits = search(Reader(session, user), text, types=["article"])
            assert [hit.record_id for hit in hits] == [article]


def test_what_was_used_counts_once_for_a_ticket(store: Store) -> None:
    user, article = reader_of(store), write(store, "Leaks")
    with store.transaction() as transaction:
        account = make_account(transaction).id
        found = transaction.get(Article, article)
        for helpful in (None, True, False):
            ticket = transaction.create(Ticket(account_id=account, subject="?"))
            note_use(transaction, user, found, ticket)
            note_use(transaction, user, found, ticket, helpful=helpful)
        assert uses_of(transaction.session, [article]) == {article: Uses(inserted=3, helped=1, did_not=1)}


def by_hand(articles: Sequence[tuple[str, str]], title: str, body: str) -> list[float]:
    """Return the likeness to each article, worked out set by set."""

    def weights(title: str, body: str) -> dict[int, float]:
        found = dict.fromkeys(grams_of([body], np.zeros(1, dtype=np.int64), 3)[0].tolist(), 1.0)
        return found | dict.fromkeys(grams_of([title], np.zeros(1, dtype=np.int64), 3)[0].tolist(), 3.0)

    said = [weights(*each) for each in articles]
    counts = Counter(gram for each in said for gram in each)

    def scaled(each: dict[int, float]) -> dict[int, float]:
        return {gram: w * math.log((1 + len(said)) / (0.5 + counts.get(gram, 0))) for gram, w in each.items()}

    def length(each: dict[int, float]) -> float:
        return math.sqrt(sum(w * w for w in each.values()))

    asked = scaled(weights(title, body))
    return [
        sum(w * asked.get(gram, 0.0) for gram, w in scaled(each).items())
        / (length(asked) * length(scaled(each)))
        for each in said
    ]


def test_suggestions_are_the_cosine_of_rare_runs_of_letters(store: Store) -> None:
    user = reader_of(store)
    for title, body in ARTICLES.values():
        write(store, title, body)
    write(store, *ARTICLES["leak"], state="draft")
    with store.reading() as session:
        for title, body, _ in TICKETS[:6]:
            found = suggest(Reader(session, user), title, body, limit=30)
            expected = sorted(by_hand(list(ARTICLES.values()), title, body), reverse=True)
            seen = [each.likeness for each in found]
            assert seen == pytest.approx(expected[: len(seen)], abs=1e-9)
            assert all(each.article.state == "published" for each in found)


def test_the_right_article_is_mostly_the_first_suggestion(store: Store) -> None:
    """What docs/service.md says of it; searching for all of the words finds far less."""
    user = reader_of(store)
    ids = {write(store, *said): key for key, said in ARTICLES.items()}
    by_search = 0
    first, among = 0, 0
    with store.reading() as session:
        reader = Reader(session, user)
        for title, body, wanted in TICKETS:
            found = [ids[each.article.id] for each in suggest(reader, title, body)]
            first += found[:1] == [wanted]
            among += wanted in found
            hits = search(reader, f"{title} {body}", types=["article"], limit=3)
            by_search += wanted in [ids[hit.record_id] for hit in hits]
    assert (first, among, by_search, len(TICKETS)) == (34, 35, 6, 36)
