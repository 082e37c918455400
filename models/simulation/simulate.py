"""One call from nothing to a store full of records, and the truth about them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from crm_core.clock import DAY, micros
from crm_core.errors import InvalidValueError
from crm_core.records import Account, Lead, User
from crm_core.store import Store
from models.simulation.company import imagine_company
from models.simulation.people import CAST
from models.simulation.truth import Truth
from models.simulation.writing import Progress, write_company


def simulate_company(
    store: Store,
    *,
    size: str,
    seed: int,
    end: datetime | None = None,
    progress: Progress | None = None,
    dealings: bool = False,
) -> Truth:
    """Fill an empty store with three years of a company up to `end` (default now), floored to midnight UTC.

    The same size, seed and end give the same records. Everything is written in one transaction, or nothing.

    Parameters
    ----------
    size : `small`, `medium` or `large` (`tiny` is for tests)
    dealings : also payments, campaigns, quotes and targets of tickets; all else stays what it is without
    progress : told the record type, how many of its rows are written, and how many there are

    Raises
    ------
    InvalidValueError
        For an unknown size, an `end` in the future, or a store that is not empty.
    """
    now = store.clock.now()
    if end is not None and end > now:
        raise InvalidValueError("end", end.isoformat(), f"an instant up to now ({now.isoformat()})")
    _check_empty(store)
    company = imagine_company(size=size, seed=seed, end=micros(end or now) // DAY * DAY, dealings=dealings)
    return company.truth(write_company(store, company, progress or _ignore))


def _check_empty(store: Store) -> None:
    with store.reading() as session:
        for model in (Lead, Account):
            count = session.scalar(select(func.count()).select_from(model)) or 0
            if count:
                raise InvalidValueError(
                    "store", f"{count} records of type {model.record_type}", "an empty store"
                )
        taken = session.scalars(
            select(User.email).where(User.email.in_([email for _, email, *_ in CAST]))
        ).first()
        if taken is not None:
            raise InvalidValueError("store", f"a user {taken}", "a store without the company's people")


def _ignore(what: str, done: int, total: int) -> None:
    """Tell nobody."""
