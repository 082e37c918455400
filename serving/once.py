"""Requests that carry an Idempotency-Key: effect, key and answer are committed together, or not at all.

While such a request is answered, the first write opens a transaction that stays open until the answer is
made; each further write is a part of it. An answer of success is stored in that transaction, then all of it
is committed. Anything else undoes everything, and the key is free again.

Where others must see what was written before it can be told what came of it, the view settles: what was done
is committed with what can be told by then, and the answer takes the place of that once it is made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from flask import Request, Response
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.idempotency import KeptAnswer, claim_key, find_kept, keep_answer
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving import problems

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
PATTERN = r"^[!-~]{1,255}$"
"""What a key may consist of: visible ASCII."""

_HALF = 32

_KEPT_HEADERS = ("Content-Type", "Location", "ETag", "Last-Modified", "Link")


class AnsweredMeanwhileError(Exception):
    """Somebody else has used the key between our look and our write; holds their answer."""

    def __init__(self, kept: KeptAnswer) -> None:
        super().__init__("answered meanwhile")
        self.kept = kept


class Once:
    """One request with a key."""

    def __init__(self, store: Store, *, user: User, key: str, fingerprint: str) -> None:
        self._store = store
        self._user_id = user.id
        self._key = key
        with store.reading() as session:
            rights = Reader(session, user).standing()
        # One half says which request it was, the other what its sender might see.
        self._fingerprint = fingerprint[:_HALF] + hashlib.sha256(rights.encode()).hexdigest()[:_HALF]
        self._context: AbstractContextManager[Transaction] | None = None
        self._session: Session | None = None
        self._settled = False
        self.keeps_body = True
        self.wrote = False

    def answer(self, view: Callable[[], Response]) -> Response:
        """Return what the view answers, or what was answered before."""
        with self._store.reading() as session:
            kept = find_kept(session, self._user_id, self._key)
        if kept is not None:
            return self._replay(kept)
        try:
            given = view()
            self._end(given)
        except AnsweredMeanwhileError as error:
            self._undo()
            return self._replay(error.kept)
        except BaseException:
            self._undo()
            raise
        return given

    @contextmanager
    def writing(self, source: Source, actor_id: int) -> Iterator[Transaction]:
        """Give a part of the request's transaction, undone by itself when the block raises."""
        session = self._open()
        with session.begin_nested():
            part = Transaction(session, clock=self._store.clock, source=source, actor_id=actor_id)
            yield part
            part.index.flush()

    def settle(self, told: Response) -> None:
        """Commit what was written, with `told` for whoever asks again; nothing is written after it."""
        if self._session is not None:
            self._keep(self._session, told)
            self._commit()
            self._settled = True

    def _open(self) -> Session:
        if self._settled:
            raise RuntimeError("the request is settled: what it writes belongs before that")
        if self._session is None:
            self._context = self._store.transaction(source=Source.API, actor_id=self._user_id)
            transaction = self._context.__enter__()
            self._session = transaction.session
            taken = claim_key(self._session, self._user_id, self._key, self._fingerprint, now=transaction.now)
            if taken is not None:
                self._session.expunge(taken)
                raise AnsweredMeanwhileError(taken)
        return self._session

    def _end(self, given: Response) -> None:
        if given.status_code >= 300:
            self._undo()
        elif self._settled:
            with self._store.transaction(source=Source.API, actor_id=self._user_id) as transaction:
                self._keep(transaction.session, given)
        elif self._session is not None:
            self._keep(self._session, given)
            self._commit()

    def _keep(self, session: Session, given: Response) -> None:
        body = given.get_data(as_text=True) if self.keeps_body else None
        headers = {name: given.headers[name] for name in _KEPT_HEADERS if name in given.headers}
        keep_answer(session, self._user_id, self._key, status=given.status_code, headers=headers, body=body)

    def _commit(self) -> None:
        context, self._context, self._session = self._context, None, None
        if context is not None:
            context.__exit__(None, None, None)
            self.wrote = True

    def _undo(self) -> None:
        context, self._context, self._session = self._context, None, None
        if context is not None:
            context.__exit__(_UndoneError, _UndoneError(), None)

    def _replay(self, kept: KeptAnswer) -> Response:
        if kept.fingerprint[:_HALF] != self._fingerprint[:_HALF]:
            return problems.of_request("idempotency-key-reused", f"the {HEADER} came with another request")
        if kept.fingerprint != self._fingerprint:
            # What was told then may be more than may be told now.
            told = "it was done, but what you may see has changed since: read the record again"
            return problems.of_request("answer-not-kept", told)
        if kept.body is None:
            return problems.of_request("answer-not-kept", "it was done, but its answer is not kept")
        given = Response(kept.body, status=kept.status, headers=kept.headers)
        given.headers[REPLAYED] = "true"
        return given


class _UndoneError(Exception):
    """Tells a transaction to undo everything."""


def read_key(sent: str) -> str | None:
    """Return the key that a header holds, in quotes or not; None if it is none."""
    plain = sent.strip()
    if len(plain) > 2 and plain[0] == plain[-1] == '"':
        plain = plain[1:-1]
    return plain if re.fullmatch(PATTERN, plain) else None


def fingerprint_of(request: Request) -> str:
    """Return what tells one request from another: its method, path, query and body."""
    parts = (request.method.encode(), request.full_path.encode(), request.get_data(cache=True))
    return hashlib.sha256(b"\n".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
