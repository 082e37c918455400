"""What else shows how somebody is: how money comes in, who answers campaigns, what is said of quotes.

All of it is drawn from states that were left or are held by then, by streams of its own: what the company is
without it stays the same to the byte, and so do the true probabilities. It is made only when asked for.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.records import QuoteStatus
from models.simulation import world
from models.simulation.contracts import Contracts
from models.simulation.deals import Deals
from models.simulation.habits import after
from models.simulation.leads import Leads
from models.simulation.table import Table, happened, missing, texts
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

STREAMS: Final = 3
"""Random streams: payments, campaigns and quotes have one each."""

_SOLVE_WITHIN: Final = 2.0
"""Working days within which a ticket is to be solved."""
_PARTS: Final = 4
_DAYS_TO_PAY: Final = 30
_LATE: Final = (0.15, 0.35, 0.60, 0.60)
"""Shares of payments that come late from customers who are good, fading or bad, or gone."""
_DAYS_EARLY: Final = 5
_DAYS_LATE: Final = (6.0, 12.0, 25.0, 25.0)
_MAILED: Final = 0.5
"""Share of the open leads with an address that a monthly mailing reaches."""
_ANSWERS: Final = {"new": 0.04, "cold": 0.03, "warm": 0.18, "hot": 0.35}
_REJECTED: Final = {"moving": 0.08, "stalled": 0.35}
_DECIDED_WITHIN: Final = 8.0
"""Working days after which a customer says what is wrong with a quote."""


def set_targets(tickets: Table, end: int) -> None:
    """Give each ticket the instant by which it is to be solved, and note the breach where it was not."""
    at = tickets.columns["occurred_at"]
    due = instants(working_days(at) + _SOLVE_WITHIN)
    closed = np.full(at.size, NO_INSTANT)
    for edits in tickets.edits:
        if edits.field == "closed_at":
            closed[edits.record] = edits.value
    missed = np.flatnonzero(((closed == NO_INSTANT) | (closed > due)) & (due < end))
    tickets.columns["solve_due_at"] = due
    tickets.edit("solve_breached_at", missed, due[missed], due[missed], due[missed])


def make_payments(rng: np.random.Generator, contracts: Contracts, end: int) -> Table:
    """Return what was charged for contracts, a quarter at a time, and when the money came."""
    terms = contracts.terms
    contract = np.repeat(np.arange(terms.account.size), _PARTS)
    part = np.tile(np.arange(_PARTS), terms.account.size)
    charged = terms.starts_at[contract] + part * (world.RENEWAL.days // _PARTS) * DAY
    over = np.where(happened(contracts.cancelled_at), contracts.cancelled_at, terms.ends_at)[contract]
    seen = (charged >= terms.learned_at[contract]) & (charged < over) & (charged < end)
    order = np.flatnonzero(seen)[np.argsort(charged[seen], kind="stable")]
    contract, part, charged = contract[order], part[order], charged[order]
    due = charged + _DAYS_TO_PAY * DAY
    table = Table(
        columns={
            "account_id": terms.account[contract],
            "contract_id": contract,
            "amount": np.round(terms.value[contract] / _PARTS, 2),
            "currency": texts(["CNY"] * order.size),
            "part": texts((part + 1).tolist()),
            "due_on": due // DAY,
            "occurred_at": charged,
            "recorded_at": charged,
        }
    )
    # As they are before the earliest payment: what is seen must not tell of what comes after it.
    state, _ = contracts.course.state_at(contract, due - _DAYS_EARLY * DAY)
    paid = _paid(rng, state, due)
    every = np.arange(order.size)
    table.edit("paid_at", every, paid, paid, after(rng, paid, 1.0))
    return table


def _paid(rng: np.random.Generator, state: Ints, due: Ints) -> Ints:
    """Return when payments come, given how a customer is a few days before they are due."""
    early = rng.uniform(0.0, _DAYS_EARLY, due.size)
    late = 1.0 + rng.exponential(np.take(_DAYS_LATE, state))
    days = np.where(rng.random(due.size) < np.take(_LATE, state), late, -early)
    return due + (days * DAY).astype(np.int64)


def make_campaigns(rng: np.random.Generator, leads: Leads, start: int, end: int) -> tuple[Table, Table]:
    """Return a mailing a month to open leads, and whom it reached, with the answers of some."""
    sent = np.arange(start // DAY + 20, end // DAY, 30) * DAY + 2 * DAY // 24
    campaigns = Table(
        columns={
            "name": texts([f"Newsletter {number}" for number in range(1, sent.size + 1)]),
            "channel": texts(["mail"] * sent.size),
            "occurred_at": sent,
            "recorded_at": sent,
        }
    )
    stays = leads.course.stays(end)
    first, last = np.searchsorted(sent, stays.start), np.searchsorted(sent, stays.stop)
    stay = np.repeat(np.arange(first.size), last - first)
    campaign = np.arange(stay.size) - np.repeat(np.cumsum(last - first) - last, last - first)
    has_address = ~missing(leads.table.columns["email"])[stays.entity[stay]]
    reached = np.flatnonzero(has_address & (rng.random(stay.size) < _MAILED))
    reached = reached[np.argsort(campaign[reached], kind="stable")]
    stay, campaign = stay[reached], campaign[reached]
    members = Table(
        columns={
            "campaign_id": campaign,
            "lead_id": stays.entity[stay],
            "occurred_at": sent[campaign],
            "recorded_at": sent[campaign],
        }
    )
    chances = [_ANSWERS.get(name, 0.0) for name in leads.course.chain.states]
    answered = np.flatnonzero(rng.random(stay.size) < np.take(chances, stays.state[stay]))
    when = after(rng, sent[campaign[answered]], 2.0)
    members.edit("responded_at", answered, when, when, when)
    members.edit("response", answered, texts(["clicked"] * answered.size), when, when)
    return campaigns, members


def make_quotes(rng: np.random.Generator, deals: Deals, end: int) -> Table:
    """Return a quote for each time a deal comes to a proposal or to haggling, and those turned down."""
    course = deals.course
    quoted = [course.chain.index(world.moving(stage)) for stage in world.STAGES[2:]]
    quoted += [course.chain.index(world.stalled(stage)) for stage in world.STAGES[2:]]
    jump = np.flatnonzero(_enters(course.jump_entity, course.jump_state, quoted))
    deal, at = course.jump_entity[jump], after(rng, course.jump_at[jump], 3.0)
    over = course.first_arrival("won", "lost")
    seen = (at < np.where(happened(over), over, end)[deal]) & (at < end)
    deal, at = deal[seen], at[seen]
    order = np.argsort(at, kind="stable")
    deal, at = deal[order], at[order]
    discount = np.round(rng.choice((0.0, 0.0, 0.05, 0.10, 0.15), deal.size), 2)
    table = Table(
        columns={
            "deal_id": deal,
            "account_id": deals.account[deal],
            "owner_id": deals.ownership.owner_at(deal, at),
            "number": texts([f"Q-{number:06d}" for number in range(1, deal.size + 1)]),
            "status": texts([QuoteStatus.SENT.value] * deal.size),
            "amount": np.round(deals.table.columns["amount"][deal] * (1 - discount), 2),
            "currency": texts(["CNY"] * deal.size),
            "discount": texts(discount.tolist()),
            "sent_at": at,
            "occurred_at": at,
            "recorded_at": at,
        }
    )
    _decide(rng, table, deals, np.where(happened(over), over, end))
    return table


def _enters(entity: Ints, state: Ints, wanted: list[int]) -> Flags:
    """Tell which jumps lead into one of `wanted` from outside of the same stage."""
    stage = state // 2
    same = np.append(False, (entity[1:] == entity[:-1]) & (stage[1:] == stage[:-1]))
    return np.asarray(np.isin(state, wanted) & ~same[: state.size])


def _decide(rng: np.random.Generator, table: Table, deals: Deals, over: Ints) -> None:
    """Let customers turn quotes down, mostly where a deal is stuck, and take the last one with the deal."""
    deal, sent = table.columns["deal_id"], table.columns["sent_at"]
    when = after(rng, sent, _DECIDED_WITHIN)
    still = np.flatnonzero(when < over[deal])
    state, _ = deals.course.state_at(deal[still], when[still])
    chance = np.where(state % 2 == 1, _REJECTED["stalled"], _REJECTED["moving"])
    refused = still[rng.random(still.size) < chance]
    _note(table, refused, QuoteStatus.REJECTED, when[refused])
    open_still = np.setdiff1d(np.flatnonzero(deals.won_at[deal] != NO_INSTANT), refused)
    last = open_still[-1 - np.unique(deal[open_still][::-1], return_index=True)[1]]
    _note(table, last, QuoteStatus.ACCEPTED, deals.learned_at[deal[last]])


def _note(table: Table, rows: Ints, status: QuoteStatus, at: Ints) -> None:
    table.edit("status", rows, texts([status.value] * rows.size), at, at)
    table.edit("decided_at", rows, at, at, at)
