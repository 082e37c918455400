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


def service() -> Service:
    """Return what the current application serves with."""
    return cast("Service", current_app.extensions[_KEY])


@contextmanager
def writing(user: User, source: Source) -> Iterator[Transaction]:
    """Give a transaction of `user`; when it has committed, the re-scoring thread looks at once.

    In a request with an Idempotency-Key it is a part of that request's transaction, which is committed with
    the answer: build the answer inside of the block, and open no other transaction.
    """
    running, once = service(), current_once()
    if once is not None:
        with once.writing(source, user.id) as part:
            yield part
        return
    with running.store.transaction(source=source, actor_id=user.id) as transaction:
        yield transaction
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
