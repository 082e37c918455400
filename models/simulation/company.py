"""The whole company, imagined in memory: one random stream a part, so that each can change alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY
from crm_core.errors import InvalidValueError
from models.simulation import world
from models.simulation.accounts import Accounts, make_accounts
from models.simulation.activities import at_random, make_activities
from models.simulation.business import make_orders, make_tickets
from models.simulation.contracts import Contracts, Terms, first_terms, make_contracts, old_terms
from models.simulation.course import joined_courses
from models.simulation.dealings import STREAMS, make_campaigns, make_payments, make_quotes, set_targets
from models.simulation.deals import Deals, Openings, make_deals
from models.simulation.habits import after
from models.simulation.leads import Leads, make_leads
from models.simulation.people import Ownership, hire
from models.simulation.table import NONE, Table, chosen, happened, joined_tables
from models.simulation.truth import Agreements, Lives, Truth

Ints = npt.NDArray[np.int64]

_DEAL_FOLLOWS = 0.88
"""The share of conversions that lead to a deal."""
_KNOWN_DEAL_RATES = (0.0036, 0.0016, 0.0004)
"""How often a customer who is good, fading or bad begins another deal; a working day."""


@dataclass(frozen=True, kw_only=True)
class Company:
    """All records of a company by type, in an order in which they can be written, and what they came from."""

    size: str
    seed: int
    end: int
    tables: dict[str, Table]
    leads: Leads
    deals: Deals
    contracts: Contracts
    accounts: Accounts

    def truth(self, ids: dict[str, Ints]) -> Truth:
        """Return the truth about it, given the ids of the records of each type."""
        terms = self.contracts.terms
        order = np.lexsort((terms.starts_at, terms.account))
        return Truth(
            size=self.size,
            seed=self.seed,
            end=self.end,
            leads=Lives(ids=ids["lead"], course=self.leads.course),
            deals=Lives(ids=ids["deal"], course=self.deals.course),
            contracts=Agreements(
                account=ids["account"][terms.account[order]],
                renewals=terms.renewals[order],
                signed_at=terms.signed_at[order],
                starts_at=terms.starts_at[order],
                ends_at=terms.ends_at[order],
                cancelled_at=self.contracts.cancelled_at[order],
                course=self.contracts.course.take(order),
                renewal=world.RENEWAL,
            ),
        )


def imagine_company(*, size: str, seed: int, end: int, dealings: bool = False) -> Company:
    """Return three years of a company up to `end` (microseconds, a midnight UTC), the same each time.

    With `dealings`, the same company with payments, campaigns, quotes and targets of tickets besides.
    """
    if size not in world.SIZES:
        raise InvalidValueError("size", size, f"one of {', '.join(world.SIZES)}")
    scale = world.SIZES[size]
    start = end - world.DAYS * DAY
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7 + STREAMS)]
    people = hire(streams[0], scale, start, end)
    leads = make_leads(streams[1], scale.leads, people, start, end)
    accounts = make_accounts(streams[2], scale.customers, leads, people, start, end)
    new = make_deals(streams[3], _after_conversions(streams[3], accounts, end), accounts, people, end)
    contracts = _contracts(streams[4], new, accounts, start, end)
    known = make_deals(
        streams[5], _from_customers(streams[5], contracts, accounts, end), accounts, people, end
    )
    deals = _joined(new, known)
    _link_leads(leads, accounts, new)
    tables = {
        "team": people.teams,
        "user": people.users,
        "account": accounts.table,
        "contact": accounts.contacts,
        "lead": leads.table,
        "deal": deals.table,
        "contract": contracts.table,
        "order": make_orders(streams[6], deals, contracts, accounts, end),
        "ticket": make_tickets(streams[6], contracts, accounts, end),
        "activity": make_activities(streams[6], leads, deals, contracts, accounts, end),
    }
    if dealings:
        set_targets(tables["ticket"], end)
        campaigns, members = make_campaigns(streams[8], leads, start, end)
        tables |= {
            "campaign": campaigns,
            "campaign_member": members,
            "quote": make_quotes(streams[9], deals, end),
            "payment": make_payments(streams[7], contracts, end),
        }
    return Company(
        size=size,
        seed=seed,
        end=end,
        tables=tables,
        leads=leads,
        deals=deals,
        contracts=contracts,
        accounts=accounts,
    )


def _after_conversions(rng: np.random.Generator, accounts: Accounts, end: int) -> Openings:
    account = np.flatnonzero((accounts.lead != NONE) & (rng.random(len(accounts)) < _DEAL_FOLLOWS))
    at = after(rng, accounts.table.columns["recorded_at"][account], 1.5)
    begun = at < end
    return Openings(account=account[begun], at=at[begun], known=np.zeros(begun.sum(), dtype=bool))


def _from_customers(rng: np.random.Generator, contracts: Contracts, accounts: Accounts, end: int) -> Openings:
    stays = contracts.stays(end)
    stay, at = at_random(rng, stays, _KNOWN_DEAL_RATES)
    account = contracts.terms.account[stays.entity[stay]]
    at = np.maximum(at, accounts.table.columns["recorded_at"][account])
    order = np.argsort(at, kind="stable")
    order = order[at[order] < end]
    return Openings(account=account[order], at=at[order], known=np.ones(order.size, dtype=bool))


def _contracts(rng: np.random.Generator, new: Deals, accounts: Accounts, start: int, end: int) -> Contracts:
    old = old_terms(rng, accounts.old, accounts.quality[: accounts.old], start)
    won = np.flatnonzero(happened(new.won_at) & (new.learned_at < end))
    won = won[np.argsort(new.won_at[won], kind="stable")]
    account = new.account[won]
    since = first_terms(
        account,
        won,
        new.won_at[won],
        new.learned_at[won],
        new.table.columns["amount"][won],
        accounts.quality[account],
    )
    first = Terms(
        **{name: np.concatenate([getattr(old, name), values]) for name, values in vars(since).items()}
    )
    state = np.zeros(first.account.size, dtype=np.int64)
    state[: accounts.old] = chosen(rng, (0.76, 0.17, 0.07), accounts.old)
    return make_contracts(rng, first, state, start, end)


def _joined(new: Deals, known: Deals) -> Deals:
    count = new.ownership.first.size
    handovers = tuple(
        type(handover)(record=handover.record + count, owner=handover.owner, at=handover.at)
        for handover in known.ownership.handovers
    )
    return Deals(
        table=joined_tables([new.table, known.table]),
        course=joined_courses([new.course, known.course]),
        ownership=Ownership(
            first=np.concatenate([new.ownership.first, known.ownership.first]),
            handovers=(*new.ownership.handovers, *handovers),
        ),
        account=np.concatenate([new.account, known.account]),
        won_at=np.concatenate([new.won_at, known.won_at]),
        learned_at=np.concatenate([new.learned_at, known.learned_at]),
    )


def _link_leads(leads: Leads, accounts: Accounts, new: Deals) -> None:
    """Note on each converted lead the deal that followed."""
    at = new.table.columns["occurred_at"]
    leads.table.edit("deal_id", accounts.lead[new.account], np.arange(len(new)), at, at)
