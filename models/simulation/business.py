"""What customers do: they order, and they ask for help."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from crm_core.records import TicketStatus
from models.simulation.accounts import Accounts
from models.simulation.activities import at_random, in_rhythm
from models.simulation.contracts import Contracts
from models.simulation.deals import Deals
from models.simulation.habits import after
from models.simulation.table import NONE, Table, chosen, happened, texts
from models.simulation.working_time import instants, working_days

Ints = npt.NDArray[np.int64]

_CADENCE: Final = (10.0, 28.0)
"""Working days between the orders of a customer who is good; each has a cadence of its own."""
_SLOWER: Final = (1.0, 2.0, 5.0)  # good, fading, bad
_TICKET_RATES: Final = (0.0055, 0.012, 0.026)
_DAYS_TO_CLOSE: Final = (1.2, 2.2, 4.5)
_SATISFACTION: Final = (
    (0.01, 0.03, 0.11, 0.40, 0.45),
    (0.06, 0.16, 0.33, 0.32, 0.13),
    (0.34, 0.33, 0.20, 0.10, 0.03),
)
"""Shares of the marks from 1 to 5 in each state."""
_SUBJECTS = (
    "Invoice is wrong",
    "登录失败",
    "Delivery is late",
    "系统很慢",
    "How do I export?",
    "报表数据不对",
)


def make_orders(
    rng: np.random.Generator, deals: Deals, contracts: Contracts, accounts: Accounts, end: int
) -> Table:
    """Return what was ordered: now and then by running customers, and once with every deal won."""
    stays = contracts.stays(end)
    customer = contracts.terms.account[stays.entity]
    cadence = rng.uniform(*_CADENCE, len(accounts))
    stay, ordered = in_rhythm(rng, stays, cadence[customer] * np.take(_SLOWER, stays.state))
    won = np.flatnonzero(happened(deals.won_at))
    account = np.concatenate([customer[stay], deals.account[won]])
    at = np.concatenate(
        [ordered, instants(working_days(deals.won_at[won]) + rng.uniform(0.2, 8.0, won.size))]
    )
    typical = np.exp(rng.normal(8.7, 0.7, len(accounts)))
    amount = typical[account] * np.exp(rng.normal(0.0, 0.5, account.size))
    amount[ordered.size :] = deals.table.columns["amount"][won] * 0.25
    deal = np.concatenate([np.full(ordered.size, NONE), won])
    order = np.argsort(at, kind="stable")
    order = order[at[order] < end]
    return Table(
        columns={
            "account_id": account[order],
            "deal_id": deal[order],
            "number": texts([f"O-{number:07d}" for number in range(1, order.size + 1)]),
            "amount": np.round(amount[order], 2),
            "currency": texts(["CNY"] * order.size),
            "occurred_at": at[order],
            "recorded_at": at[order],
        }
    )


def make_tickets(rng: np.random.Generator, contracts: Contracts, accounts: Accounts, end: int) -> Table:
    """Return what customers asked for help with, how long it took and how content they were."""
    stays = contracts.stays(end)
    stay, at = at_random(rng, stays, _TICKET_RATES)
    order = np.argsort(at, kind="stable")
    stay, at = stay[order], at[order]
    entity, state = stays.entity[stay], stays.state[stay]
    account = contracts.terms.account[entity]
    table = Table(
        columns={
            "account_id": account,
            "contact_id": accounts.main_contact[account],
            "owner_id": accounts.ownership.owner_at(account, at),
            "subject": texts([_SUBJECTS[one] for one in rng.integers(0, len(_SUBJECTS), at.size)]),
            "priority": texts(
                [("low", "normal", "high")[one] for one in chosen(rng, (0.3, 0.55, 0.15), at.size)]
            ),
            "status": texts([TicketStatus.OPEN.value] * at.size),
            "occurred_at": at,
            "recorded_at": at,
        }
    )
    _close(rng, table, state, at)
    return table


def _close(rng: np.random.Generator, table: Table, state: Ints, at: Ints) -> None:
    days = np.take(_DAYS_TO_CLOSE, state) * rng.lognormal(0.0, 0.6, at.size)
    closed = instants(working_days(at) + 0.05 + days)
    every = np.arange(at.size)
    table.edit("status", every, texts([TicketStatus.CLOSED.value] * at.size), closed, closed)
    table.edit("closed_at", every, closed, closed, closed)
    mark = 1 + (
        rng.random((at.size, 1)) >= np.cumsum(np.take(_SATISFACTION, state, axis=0), axis=1)[:, :4]
    ).sum(axis=1)
    told = np.flatnonzero(rng.random(at.size) < 0.6)
    asked = after(rng, closed[told], 4.0)
    table.edit("satisfaction", told, mark[told].astype(object), asked, asked)
