"""Leads: when they come, what they are like, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crm_core.clock import DAY, SECOND
from crm_core.records import LeadStatus
from models.simulation import names, world
from models.simulation.course import Beginning, Course
from models.simulation.habits import after, recorded_late
from models.simulation.people import Ownership, People
from models.simulation.table import NONE, Columns, Table, blanked, chosen, happened, missing, texts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SOURCE = [kind.name for kind in world.SOURCES]
_AD, _SHOW = _SOURCE.index("ad"), _SOURCE.index("trade show")
_OFFICE = ("referral", "cold call", "trade show")
"""Sources through which leads come only while somebody works."""
_SHOW_DAYS = (75, 76, 77, 262, 263, 264, 318, 319)
"""Days of the year on which there are trade shows."""
_MONTH = (0.85, 0.70, 1.15, 1.05, 1.0, 1.0, 0.85, 0.85, 1.10, 1.05, 1.20, 1.10)
"""How busy each month is; the spring festival falls into the first two."""
_GROWTH = 0.35
"""How many more leads come at the end of the three years than at the start."""
_REASONS = ("no budget", "no need", "unreachable", "wrong contact", "bought elsewhere", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Leads:
    """All leads; `rep`: int64[n], positions in `People.reps` of the first owners; `host` of each company."""

    table: Table
    course: Course
    ownership: Ownership
    rep: Ints
    host: list[str]
    converted_at: Ints


def make_leads(rng: np.random.Generator, size: int, people: People, start: int, end: int) -> Leads:
    """Return the leads of the whole time."""
    columns, host = _arrive(rng, size, start, end)
    rep = people.assign(rng, columns["recorded_at"])
    beginning = Beginning(
        started=columns["recorded_at"],
        first=np.zeros(rep.size, dtype=np.int64),
        quality=lead_quality(columns, start),
        pace=people.pace[rep],
    )
    course = Course.simulate(rng, world.LEAD, beginning, end)
    over = course.first_arrival("converted", "disqualified")
    until = np.where(happened(over), over, end)
    ownership = people.own(rng, rep, columns["recorded_at"], until)
    columns["owner_id"] = ownership.first
    table = Table(columns=columns)
    ownership.note(table)
    _correct(rng, table, until)
    _disqualify(rng, table, course.first_arrival("disqualified"))
    return Leads(
        table=table,
        course=course,
        ownership=ownership,
        rep=rep,
        host=host,
        converted_at=course.first_arrival("converted"),
    )


def _arrive(rng: np.random.Generator, size: int, start: int, end: int) -> tuple[Columns, list[str]]:
    source = chosen(rng, [kind.share for kind in world.SOURCES], size)
    occurred = _arrivals(rng, source, start, end)
    order = np.argsort(occurred, kind="stable")
    source, occurred = source[order], occurred[order]
    recorded = np.where(
        source == _SHOW,
        # Cards collected at a show are typed in when people are back.
        occurred + (rng.uniform(0.6, 4.0, size) * DAY).astype(np.int64),
        occurred + np.where(np.isin(source, (0, _AD)), 0, rng.integers(0, 3_600, size) * SECOND),
    )
    known = recorded < end
    source, occurred, recorded = source[known], occurred[known], recorded[known]
    columns, host = _attributes(rng, source)
    columns["occurred_at"], columns["recorded_at"] = occurred, recorded
    columns["campaign"] = _campaigns(rng, source, occurred)
    return columns, host


def _arrivals(rng: np.random.Generator, source: Ints, start: int, end: int) -> Ints:
    """Return when a lead of each source comes."""
    days = np.arange(start // DAY, end // DAY)
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    year_day = (days.astype("datetime64[D]") - days.astype("datetime64[D]").astype("datetime64[Y]")).astype(
        int
    )
    weekend = (days + 3) % 7 >= 5
    busy = np.take(_MONTH, month) * np.linspace(1.0, 1.0 + _GROWTH, days.size)
    weights = {
        "web": busy * np.where(weekend, 0.35, 1.0),
        "office": busy * ~weekend,
        "show": busy * np.isin(year_day, _SHOW_DAYS),
    }
    occurred = np.zeros(source.size, dtype=np.int64)
    for position, name in enumerate(_SOURCE):
        rows = np.flatnonzero(source == position)
        office = name in _OFFICE
        day = days[
            chosen(rng, weights["show" if position == _SHOW else "office" if office else "web"], rows.size)
        ]
        low, high = (1.0, 10.0) if office else (0.0, 15.0)
        occurred[rows] = day * DAY + (rng.uniform(low, high, rows.size) * 3_600).astype(np.int64) * SECOND
    return occurred


def _attributes(rng: np.random.Generator, source: Ints) -> tuple[Columns, list[str]]:
    size = source.size
    industry = texts(
        [world.INDUSTRIES[at].name for at in chosen(rng, [k.share for k in world.INDUSTRIES], size)]
    )
    region = texts([world.REGIONS[at].name for at in chosen(rng, [k.share for k in world.REGIONS], size)])
    company = names.companies(rng, region.tolist(), industry.tolist())
    person = names.persons(rng, region.tolist())
    host = [one.host for one in company]
    employees = np.round(np.exp(rng.normal(4.6, 1.3, size))).clip(2, 60_000)
    columns: Columns = {
        "name": blanked(texts([one.name for one in person]), rng.random(size) < 0.04),
        "company": blanked(texts([one.name for one in company]), rng.random(size) < 0.05),
        "email": _emails(rng, [one.mailbox for one in person], host),
        "phone": blanked(_phones(rng, region), rng.random(size) < 0.30),
        "title": blanked(
            texts([names.TITLES[at] for at in rng.integers(0, 12, size)]), rng.random(size) < 0.25
        ),
        "source": texts([_SOURCE[at] for at in source]),
        "industry": blanked(industry, rng.random(size) < 0.06),
        "region": blanked(region, rng.random(size) < 0.04),
        "employees": blanked(texts(employees.astype(int).tolist()), rng.random(size) < 0.15),
    }
    return columns, host


def _emails(rng: np.random.Generator, mailbox: list[str], host: list[str]) -> npt.NDArray[np.object_]:
    free = names.mail_host(rng, len(host))
    kind = chosen(rng, (0.08, 0.22, 0.70), len(host)).tolist()
    options = zip(kind, mailbox, free, host, strict=True)
    return texts([None if k == 0 else f"{m}@{f if k == 1 else h}" for k, m, f, h in options])


def _phones(rng: np.random.Generator, region: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    # No network in China has the prefix 100, and 555-01xx is kept free for invented numbers in America.
    tail = rng.integers(0, 10**8, region.size).tolist()
    return texts(
        [
            f"+1 202-555-01{number % 100:02d}" if where in world.OVERSEAS else f"+86 100 {number:08d}"
            for number, where in zip(tail, region, strict=True)
        ]
    )


def _campaigns(rng: np.random.Generator, source: Ints, occurred: Ints) -> npt.NDArray[np.object_]:
    month = (occurred // DAY).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    fair = np.where(month < 6, "spring fair", "autumn fair")
    ad = np.where(rng.random(source.size) < 0.6, "search", "feed")
    campaign = np.where(source == _SHOW, fair, ad)
    return blanked(campaign, (source != _SHOW) & (source != _AD))


def lead_quality(columns: Columns, start: int) -> Floats:
    """Return the log-effect of what stands on each lead."""
    source, region = columns["source"], columns["region"]
    late_ad = (source == "ad") & (columns["occurred_at"] >= start + world.ADS_WORSEN_AFTER_DAYS * DAY)
    abroad = np.isin(region.astype(str), world.OVERSEAS) & (source == "trade show")
    phone = np.take(world.PHONE_EFFECT, (~missing(columns["phone"])).astype(int))
    mail = np.array([world.MAIL_EFFECT[_mail_kind(address)] for address in columns["email"]])
    return np.asarray(
        world.LEAD_INTERCEPT
        + effects(world.SOURCES, source, "lead")
        + effects(world.INDUSTRIES, columns["industry"], "lead")
        + effects(world.REGIONS, region, "lead")
        + employees_effect(columns["employees"])
        + world.ADS_WORSEN_BY * late_ad
        + world.TRADE_SHOW_OVERSEAS * abroad
        + phone
        + mail
    )


def _mail_kind(address: str | None) -> str:
    if address is None:
        return "none"
    return "free" if address.partition("@")[2] in world.FREE_MAIL else "company"


def effects(kinds: tuple[world.Kind, ...], values: npt.NDArray[np.object_], task: str) -> Floats:
    """Return the effect of each value on `lead`, `deal` or `customer`; 0 where it is missing."""
    effect = {kind.name: float(getattr(kind, task)) for kind in kinds}
    return np.array([effect.get(value, 0.0) for value in values])


def employees_effect(employees: npt.NDArray[np.object_]) -> Floats:
    """Return the effect of a company's size; 0 where it is missing."""
    count = np.array([np.nan if value is None else value for value in employees], dtype=np.float64)
    return np.nan_to_num(world.EMPLOYEES_EFFECT * np.clip(np.log10(count) - 2.0, -1.5, 2.0))


def _correct(rng: np.random.Generator, table: Table, until: Ints) -> None:
    """Let people fill and correct fields while a lead is open; the effects are those of the right values."""
    known = table.columns["recorded_at"]
    empty = np.flatnonzero(missing(table.columns["title"]) & (rng.random(len(table)) < 0.3))
    at = after(rng, known[empty], 10.0)
    seen = at < until[empty]
    new = texts([names.TITLES[one] for one in rng.integers(0, 12, empty.size)])
    table.edit("title", empty[seen], new[seen], at[seen], at[seen])
    typed = np.flatnonzero(~missing(table.columns["employees"]) & (rng.random(len(table)) < 0.03))
    at = after(rng, known[typed], 6.0)
    seen = at < until[typed]
    right = table.columns["employees"][typed[seen]]
    table.columns["employees"][typed[seen]] = right * 10
    table.edit("employees", typed[seen], right, at[seen], at[seen])


def _disqualify(rng: np.random.Generator, table: Table, at: Ints) -> None:
    rows = np.flatnonzero(happened(at))
    reason = texts([_REASONS[one] for one in rng.integers(0, len(_REASONS), rows.size)])
    when = at[rows]
    learned = recorded_late(rng, when, share=0.06, days=3.0)
    table.edit("status", rows, texts([LeadStatus.DISQUALIFIED.value] * rows.size), when, learned)
    told = rng.random(rows.size) < 0.85
    table.edit("disqualified_reason", rows[told], reason[told], when[told], learned[told])


def convert(leads: Leads, rows: Ints, account: Ints, contact: Ints, learned: Ints) -> None:
    """Note the conversion of the leads at `rows` into accounts and contacts (NONE for no contact)."""
    table, when = leads.table, leads.converted_at[rows]
    table.edit("status", rows, texts([LeadStatus.CONVERTED.value] * rows.size), when, learned)
    table.edit("converted_at", rows, when, when, learned)
    table.edit("account_id", rows, account, when, learned)
    named = contact != NONE
    table.edit("contact_id", rows[named], contact[named], when[named], learned[named])
