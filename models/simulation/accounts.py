"""Accounts and their contacts: customers from before, and what leads turn into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY
from models.simulation import names, world
from models.simulation.habits import after, recorded_late
from models.simulation.leads import Leads, convert, effects, employees_effect
from models.simulation.people import Ownership, People
from models.simulation.table import NONE, Columns, Table, blanked, chosen, happened, missing, texts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """All accounts, the first `old` of them customers from before the CRM.

    `lead`: int64[n], the lead it came from (NONE for an old one); `main_contact`: int64[n], NONE for none;
    `quality`: float64[n], the log-effect on how it fares as a customer; `source`: object[n].
    """

    table: Table
    contacts: Table
    ownership: Ownership
    old: int
    lead: Ints
    main_contact: Ints
    quality: Floats
    source: npt.NDArray[np.object_]

    def __len__(self) -> int:
        """Return how many there are."""
        return self.lead.size


def make_accounts(
    rng: np.random.Generator, old: int, leads: Leads, people: People, start: int, end: int
) -> Accounts:
    """Return the old customers and one account for each converted lead, and note that on the leads."""
    converted = np.flatnonzero(happened(leads.converted_at))
    learned = recorded_late(rng, leads.converted_at[converted], share=0.06, days=3.0)
    converted, learned = converted[learned < end], learned[learned < end]
    before = _old_columns(rng, old, start)
    since, hosts = _columns_of_leads(rng, leads, converted, learned)
    columns = {name: np.concatenate([before[name], since[name]]) for name in before}
    rep = np.concatenate(
        [
            people.assign(rng, np.full(old, start)),
            people.rep_of(leads.ownership.owner_at(converted, leads.converted_at[converted])),
        ]
    )
    ownership = people.own(rng, rep, columns["recorded_at"], np.full(rep.size, end))
    columns["owner_id"] = ownership.first
    table = Table(columns=columns)
    ownership.note(table)
    _correct(rng, table, hosts, old)
    lead = np.concatenate([np.full(old, NONE), converted])
    contacts, main = _contacts(rng, table, ownership, leads, lead, end)
    convert(leads, converted, np.arange(old, lead.size), main[old:], learned)
    source = np.concatenate([_old_sources(rng, old), leads.table.columns["source"][converted]])
    return Accounts(
        table=table,
        contacts=contacts,
        ownership=ownership,
        old=old,
        lead=lead,
        main_contact=main,
        quality=_quality(columns),
        source=source,
    )


def _old_columns(rng: np.random.Generator, size: int, start: int) -> Columns:
    industry = [world.INDUSTRIES[at].name for at in chosen(rng, [k.share for k in world.INDUSTRIES], size)]
    region = [world.REGIONS[at].name for at in chosen(rng, [k.share for k in world.REGIONS], size)]
    company = names.companies(rng, region, industry)
    employees = np.round(np.exp(rng.normal(4.9, 1.2, size))).clip(5, 60_000).astype(int)
    return {
        "name": texts([one.name for one in company]),
        "industry": texts(industry),
        "region": texts(region),
        "employees": blanked(texts(employees.tolist()), rng.random(size) < 0.10),
        "phone": texts([None] * size),
        "website": blanked(texts([f"https://{one.host}" for one in company]), rng.random(size) < 0.2),
        "occurred_at": start - (rng.uniform(30, 1_500, size) * DAY).astype(np.int64),
        "recorded_at": np.full(size, start),
    }


def _old_sources(rng: np.random.Generator, size: int) -> npt.NDArray[np.object_]:
    known = ("referral", "cold call", "trade show")
    return texts([known[at] for at in chosen(rng, (0.5, 0.3, 0.2), size)])


def _columns_of_leads(
    rng: np.random.Generator, leads: Leads, rows: Ints, learned: Ints
) -> tuple[Columns, list[str]]:
    """Return the columns that accounts take over from leads, with the values leads have then."""
    lead = leads.table.columns
    employees = lead["employees"].copy()
    for edits in leads.table.edits:
        if edits.field == "employees":
            employees[edits.record] = edits.value
    hosts = [leads.host[row] for row in rows]
    name = [
        company or person or f"Account {row}"
        for company, person, row in zip(lead["company"][rows], lead["name"][rows], rows.tolist(), strict=True)
    ]
    columns: Columns = {
        "name": texts(name),
        "industry": lead["industry"][rows],
        "region": lead["region"][rows],
        "employees": employees[rows],
        "phone": lead["phone"][rows],
        "website": blanked(texts([f"https://{host}" for host in hosts]), rng.random(rows.size) < 0.4),
        "occurred_at": leads.converted_at[rows],
        "recorded_at": learned,
    }
    return columns, hosts


def _quality(columns: Columns) -> Floats:
    return (
        effects(world.INDUSTRIES, columns["industry"], "customer")
        + effects(world.REGIONS, columns["region"], "customer")
        + employees_effect(columns["employees"])
    )


def _correct(rng: np.random.Generator, table: Table, hosts: list[str], old: int) -> None:
    """Let people fill in websites later."""
    website = table.columns["website"][old:]
    empty = np.flatnonzero(missing(website) & (rng.random(website.size) < 0.5))
    at = after(rng, table.columns["recorded_at"][old + empty], 60.0)
    table.edit("website", old + empty, texts([f"https://{hosts[one]}" for one in empty]), at, at)


def _contacts(
    rng: np.random.Generator, accounts: Table, ownership: Ownership, leads: Leads, lead: Ints, end: int
) -> tuple[Table, Ints]:
    """Return the contacts, and each account's first one."""
    named = np.flatnonzero((lead == NONE) | ~missing(leads.table.columns["name"][lead]))
    more = np.flatnonzero(rng.random(lead.size) < 0.45)
    account = np.concatenate([named, more])
    known = accounts.columns["recorded_at"][account]
    known[named.size :] = after(rng, known[named.size :], 150.0)
    seen = known < end
    account, known = account[seen], known[seen]
    first = np.arange(account.size) < named.size
    columns = _contact_columns(rng, accounts, leads, lead, account, first)
    columns["account_id"] = account
    columns["owner_id"] = ownership.owner_at(account, known)
    columns["occurred_at"] = np.where(first, accounts.columns["occurred_at"][account], known)
    columns["recorded_at"] = known
    main = np.full(lead.size, NONE)
    main[account[first]] = np.flatnonzero(first)
    table = Table(columns=columns)
    _hand_over(table, ownership)
    return table, main


def _contact_columns(
    rng: np.random.Generator,
    accounts: Table,
    leads: Leads,
    lead: Ints,
    account: Ints,
    first: npt.NDArray[np.bool_],
) -> Columns:
    region = [where or "East China" for where in accounts.columns["region"][account]]
    people = names.persons(rng, region)
    columns: Columns = {
        "name": texts([person.name for person in people]),
        "email": blanked(
            texts([f"{person.mailbox}.{at}@example.com" for at, person in enumerate(people)]),
            rng.random(account.size) < 0.1,
        ),
        "phone": texts([None] * account.size),
        "title": blanked(
            texts([names.TITLES[at] for at in rng.integers(0, 12, account.size)]),
            rng.random(account.size) < 0.2,
        ),
    }
    known = first & (lead[account] != NONE)
    for name, values in columns.items():
        values[known] = leads.table.columns[name][lead[account[known]]]
    return columns


def _hand_over(contacts: Table, ownership: Ownership) -> None:
    """Let contacts follow the handovers of their accounts."""
    account, known = contacts.columns["account_id"], contacts.columns["recorded_at"]
    for handover in ownership.handovers:
        new = np.full(ownership.first.size, NONE)
        new[handover.record] = handover.owner
        rows = np.flatnonzero((new[account] != NONE) & (known < handover.at))
        at = np.full(rows.size, handover.at)
        contacts.edit("owner_id", rows, new[account[rows]], at, at)
