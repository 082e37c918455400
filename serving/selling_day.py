"""What time alone does to quotes and payments: once a day quotes expire, and people hear of what is late.

The day's work is a job, which makes the next day's. Whatever of it was done is not done again, so that doing
the job twice does no harm.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Final

from crm_core.changes import Source
from crm_core.jobs import Job, enqueue
from crm_core.payments import remind_of_payments
from crm_core.quotes import expire_quotes, today
from crm_core.store import Store
from crm_core.working_time import working_time
from serving.logs import get_log
from serving.settings import Settings

SELLING_DAY: Final = "selling_day"

_AT: Final = time(6, 30)
"""When on a day people are reminded, where we work."""

_log = get_log("serving.selling")


class SellingDay:
    """Does the job of a day."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, store: Store, job: Job) -> None:
        """Let quotes expire, remind of payments, and make the next day's job, even where this one fails."""
        try:
            done = do_day(store)
            _log.info("selling day", **done)
        finally:
            schedule_day(self._settings, store, after=store.clock.now())


def do_day(store: Store) -> dict[str, int]:
    """Do what is due by now; return how many quotes expired, and of how many payments people were told."""
    with store.transaction(source=Source.AUTOMATION) as transaction:
        expired = expire_quotes(transaction)
    reminded = 0
    while True:
        with store.transaction(source=Source.AUTOMATION) as transaction:
            some = remind_of_payments(transaction, today(transaction))
        reminded += some
        if not some:
            return {"expired": expired, "reminded": reminded}


def schedule_day(settings: Settings, store: Store, *, after: datetime | None = None) -> None:
    """Have the next day's job waiting; however many processes ask, there is one. Without `after`, today's."""
    with store.transaction(source=Source.API) as transaction:
        zone = working_time(transaction.session, settings.time_zone).zone
        here = (after or transaction.now).astimezone(zone)
        run_at = datetime.combine(here.date(), _AT, tzinfo=zone)
        if after is not None and run_at <= after:
            run_at = datetime.combine(here.date() + timedelta(days=1), _AT, tzinfo=zone)
        enqueue(
            transaction.session,
            SELLING_DAY,
            {},
            now=transaction.now,
            key=f"{SELLING_DAY}:{run_at.date().isoformat()}",
            run_at=run_at,
        )
