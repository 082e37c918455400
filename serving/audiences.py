"""The thread that keeps the members of campaigns in step with the segments that feed them."""

from __future__ import annotations

from crm_core.apart import each_apart
from crm_core.audiences import list_due, refresh
from crm_core.changes import Source
from crm_core.store import Store
from serving.looping import Loop

POLL_SECONDS = 15.0


def audience_loop(store: Store) -> Loop:
    """Return the thread, not started."""
    return Loop("audiences", lambda: refresh_audiences(store), poll_seconds=POLL_SECONDS)


def refresh_audiences(store: Store) -> int:
    """Look again at the audiences that are due; return how many members that added.

    Each is looked at in a transaction of its own. Two who look at the same one wait for one another, and the
    second finds everybody there.
    """
    with store.reading() as session:
        due = list_due(session, store.clock.now())

    def look(audience_id: int) -> int:
        with store.transaction(source=Source.AUTOMATION) as transaction:
            return refresh(transaction, audience_id)

    return each_apart(due, look)
