"""Contracts: how well customers are while one runs, and whether it is renewed at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY
from crm_core.records import ContractStatus
from models.simulation import world
from models.simulation.course import Beginning, Course, Stays, joined_courses
from models.simulation.habits import recorded_late
from models.simulation.table import NONE, Table, happened, joined_tables, texts
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What contracts say, an element each.

    `account`, `deal` (NONE for none), `renewals` before this one; `signed_at`, `learned_at`, `starts_at`,
    `ends_at`: int64[n], microseconds, the last two at midnight UTC; `value`, `quality`: float64[n], of the
    contract and of the customer in it.
    """

    account: Ints
    deal: Ints
    renewals: Ints
    signed_at: Ints
    learned_at: Ints
    starts_at: Ints
    ends_at: Ints
    value: Floats
    quality: Floats

    def take(self, index: Ints | Flags) -> Terms:
        """Return those at `index`."""
        return Terms(**{name: values[index] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Contracts:
    """All contracts; `cancelled_at`: int64[n], NO_INSTANT for those that were not."""

    table: Table
    course: Course
    terms: Terms
    cancelled_at: Ints

    def stays(self, until: int) -> Stays:
        """Return every stay in a state of health while the contract runs."""
        stays = self.course.stays(until)
        stop = np.minimum(stays.stop, self.terms.ends_at[stays.entity])
        runs = stays.start < stop
        return Stays(
            entity=stays.entity[runs], state=stays.state[runs], start=stays.start[runs], stop=stop[runs]
        )


def first_terms(
    account: Ints, deal: Ints, signed_at: Ints, learned_at: Ints, value: Floats, quality: Floats
) -> Terms:
    """Return the terms of first contracts: a year from the midnight after the signature."""
    starts = (signed_at // DAY + 1) * DAY
    return Terms(
        account=account,
        deal=deal,
        renewals=np.zeros(account.size, dtype=np.int64),
        signed_at=signed_at,
        learned_at=learned_at,
        starts_at=starts,
        ends_at=starts + world.RENEWAL.days * DAY,
        value=value,
        quality=quality,
    )


def make_contracts(rng: np.random.Generator, first: Terms, state: Ints, start: int, end: int) -> Contracts:
    """Return the contracts that begin with `first`, their customers in `state`, and all that renew them."""
    found: list[Contracts] = []
    offset = 0
    terms = first
    while terms.account.size:
        contracts, kept, health = _year(rng, terms, state, start, end)
        renewed = _renewals(rng, terms.take(kept))
        following = offset + terms.account.size + np.arange(renewed.account.size)
        _note_renewals(contracts.table, kept, renewed, following, end)
        found.append(contracts)
        offset += terms.account.size
        seen = renewed.learned_at < end
        state = np.take(world.RENEWAL.begins, health[seen])
        terms = renewed.take(seen)
    return _joined(found)


def _year(
    rng: np.random.Generator, terms: Terms, state: Ints, start: int, end: int
) -> tuple[Contracts, Ints, Ints]:
    """Return contracts of one generation, the positions of those that are renewed, and their health then."""
    beginning = Beginning(
        started=np.maximum(terms.starts_at, start),
        first=state,
        quality=terms.quality,
        pace=np.zeros(state.size),
    )
    course = Course.simulate(rng, world.CONTRACT, beginning, end).until(terms.ends_at)
    cancelled = course.first_arrival("cancelled")
    # A renewal may be signed weeks after it has begun: nobody can cancel what is not signed.
    cancelled = np.where(happened(cancelled), np.maximum(cancelled, terms.signed_at), cancelled)
    table = _table(terms)
    _note_cancellations(rng, table, cancelled, terms)
    due = np.flatnonzero(~happened(cancelled) & (terms.ends_at <= end))
    health, _ = course.state_at(due, terms.ends_at[due])
    renews = rng.random(due.size) < world.RENEWAL.probability(health, terms.quality[due])
    _note_ends(table, due[~renews], terms.ends_at)
    contracts = Contracts(table=table, course=course, terms=terms, cancelled_at=cancelled)
    return contracts, due[renews], health[renews]


def _renewals(rng: np.random.Generator, old: Terms) -> Terms:
    """Return the contracts that follow `old` ones: most are signed in days, the rest in the time of grace."""
    wait = np.where(rng.random(old.account.size) < 0.7, 3.0, 18.0)
    signed = instants(working_days(old.ends_at) + 0.05 + wait * rng.random(old.account.size))
    raised = old.value * np.exp(rng.normal(0.03, 0.06, old.account.size))
    return Terms(
        account=old.account,
        deal=np.full(old.account.size, NONE),
        renewals=old.renewals + 1,
        signed_at=signed,
        learned_at=recorded_late(rng, signed, share=0.10, days=3.0),
        starts_at=old.ends_at,
        ends_at=old.ends_at + world.RENEWAL.days * DAY,
        value=np.round(raised, -2),
        quality=world.RENEWAL.quality_after(old.quality, old.renewals),
    )


def _table(terms: Terms) -> Table:
    size = terms.account.size
    return Table(
        columns={
            "account_id": terms.account,
            "deal_id": terms.deal,
            "starts_on": terms.starts_at // DAY,
            "ends_on": terms.ends_at // DAY,
            "value": terms.value,
            "currency": texts(["CNY"] * size),
            "status": texts([ContractStatus.ACTIVE.value] * size),
            "occurred_at": terms.signed_at,
            "recorded_at": terms.learned_at,
        }
    )


def _note_cancellations(rng: np.random.Generator, table: Table, cancelled: Ints, terms: Terms) -> None:
    rows = np.flatnonzero(happened(cancelled))
    at = cancelled[rows]
    learned = np.maximum(recorded_late(rng, at, share=0.15, days=3.0), terms.learned_at[rows])
    table.edit("status", rows, texts([ContractStatus.CANCELLED.value] * rows.size), at, learned)
    table.edit("ended_at", rows, at, at, learned)


def _note_ends(table: Table, rows: Ints, ends_at: Ints) -> None:
    """Note contracts that were not renewed: it is known only when the time of grace is over."""
    at = ends_at[rows]
    learned = at + world.GRACE_DAYS * DAY
    table.edit("status", rows, texts([ContractStatus.ENDED.value] * rows.size), at, learned)
    table.edit("ended_at", rows, at, at, learned)


def _note_renewals(table: Table, rows: Ints, renewed: Terms, following: Ints, end: int) -> None:
    seen = renewed.learned_at < end
    rows, at, learned = rows[seen], renewed.signed_at[seen], renewed.learned_at[seen]
    table.edit("status", rows, texts([ContractStatus.RENEWED.value] * rows.size), at, learned)
    table.edit("renewed_by_id", rows, following[: rows.size], at, learned)


def _joined(found: list[Contracts]) -> Contracts:
    table = joined_tables([contracts.table for contracts in found])
    table.columns["number"] = texts([f"C-{number:06d}" for number in range(1, len(table) + 1)])
    names = vars(found[0].terms)
    return Contracts(
        table=table,
        course=joined_courses([contracts.course for contracts in found]),
        terms=Terms(**{name: np.concatenate([getattr(one.terms, name) for one in found]) for name in names}),
        cancelled_at=np.concatenate([contracts.cancelled_at for contracts in found]),
    )


def old_terms(rng: np.random.Generator, count: int, quality: Floats, start: int) -> Terms:
    """Return the contracts that run when the CRM is introduced, learned on that day."""
    left = rng.integers(2, world.RENEWAL.days, count) * DAY
    ends = start // DAY * DAY + left
    starts = ends - world.RENEWAL.days * DAY
    return Terms(
        account=np.arange(count),
        deal=np.full(count, NONE),
        renewals=np.zeros(count, dtype=np.int64),
        signed_at=starts - DAY // 2,
        learned_at=np.full(count, start),
        starts_at=starts,
        ends_at=ends,
        value=np.round(world.AMOUNT_MEDIAN * np.exp(rng.normal(0.0, 0.7, count)), -2),
        quality=quality,
    )
