"""What every request handler works with, in one place on the application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from flask import current_app, g
from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.idempotency import claim_key
from crm_core.records import User
from crm_core.store import Store, Transaction
from serving.champions import Champions
from serving.job_handlers import Jobs
from serving.journal import Journal
from serving.limits import Limits
from serving.oidc import Provider
from serving.once import Once
from serving.pings import Pings
from serving.rescoring import RescoringThread
from serving.settings import Settings

_KEY = "crm"


@dataclass(frozen=True, kw_only=True)
class Service:
    """The store, the models and the settings that an application serves with."""

    settings: Settings
    store: Store
    champions: Champions
    rescoring: RescoringThread | None = None
    jobs: Jobs | None = None

    @cached_property
    def limits(self) -> Limits:
        """How often somebody may ask."""
        return Limits.of(self.settings)

    @cached_property
    def provider(self) -> Provider:
        """The identity provider; raises LoginRefusedError where none is configured."""
        return Provider(self.settings, self.store.clock)

    @cached_property
    def journal(self) -> Journal:
        """What writes down who came in and who read what."""
        return Journal(self.store, kept_days=self.settings.operations_days)

    @cached_property
    def pings(self) -> Pings:
        """What asks the parts around this process."""
        return Pings(self.settings.home_folder)

    def install(self) -> None:
        """Put this on the current application."""
        current_app.extensions[_KEY] = self


@dataclass
class FormSent:
    """A form that makes something: the key that its first transaction takes, and whether it has."""

    user_id: int
    key: str
    taken: bool = False

    def take(self, transaction: Transaction) -> None:
        """Take the key; raises SentAlreadyError where the same form was sent before."""
        if claim_key(transaction.session, self.user_id, self.key, "form", now=transaction.now) is not None:
            raise SentAlreadyError(self)


class SentAlreadyError(Exception):
    """The same form was sent before; what it was to make is there."""

    def __init__(self, sent: FormSent) -> None:
        super().__init__("the form was sent already")
        self.sent = sent


def service() -> Service:
    """Return what the current application serves with."""
    return cast("Service", current_app.extensions[_KEY])


@contextmanager
def writing(user: User, source: Source) -> Iterator[Transaction]:
    """Give a transaction of `user`; when it has committed, the re-scoring thread looks at once.

    In a request with an Idempotency-Key it is a part of that request's transaction, which is committed with
    the answer: build the answer inside of the block, and open no other transaction.

    Of a form that makes something, the first one takes the form's key; raises SentAlreadyError where the
    same was sent before.
    """
    running, once, sent = service(), current_once(), cast("FormSent | None", g.get("form_sent"))
    if once is not None:
        with once.writing(source, user.id) as part:
            yield part
        return
    with running.store.transaction(source=source, actor_id=user.id) as transaction:
        if sent is not None and not sent.taken:
            sent.take(transaction)
        yield transaction
    if sent is not None:
        sent.taken = True
    wake_rescoring()


def current_once() -> Once | None:
    """Return the request's Idempotency-Key with what hangs on it, if it carries one."""
    return cast("Once | None", g.get("once"))


def wake_rescoring() -> None:
    """Have the re-scoring thread look at once, if there is one."""
    running = service()
    if running.rescoring is not None:
        running.rescoring.wake()


def page_session() -> Session:
    """Return the session that the current page reads with, from one state of the store."""
    if "page_session" not in g:
        context = service().store.reading()
        g.page_session_context = context
        g.page_session = context.__enter__()
    return cast("Session", g.page_session)


def end_page_session(_error: BaseException | None = None) -> None:
    """Give the page's session back, if there was one."""
    context = g.pop("page_session_context", None)
    g.pop("page_session", None)
    if context is not None:
        context.__exit__(None, None, None)
