"""The section of docs/results.md on what tickets, marks, payments, responses, quotes and stage ages gain.

Called by docs/results.py; alone, `python docs/results_gain.py [--real FOLDER] [--sizes small medium]` writes
only these parts of the page anew.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import select

from crm_core import migrations
from crm_core.changes import Source
from crm_core.clock import FixedClock
from crm_core.importing import load_mapping, run_import
from crm_core.records import Account, Ticket, TicketStatus
from crm_core.store import Store
from features.account import LATE_TICKETS, PAYMENTS, TICKETS
from features.deal import ACCOUNT_PAYMENTS, REJECTED_QUOTES, SENT_QUOTES
from features.declaration import Feature
from features.event_features import DaysSinceLast, EventCount
from features.lead import ANSWERED_TOUCHES, CAMPAIGN_TOUCHES
from features.measures import EventShare, EventSmallest
from features.norms import AgeAgainstNorm
from features.payments import LastPaymentDelay, OverdueCount
from features.wording import Noun
from models.ablation import Gain, Groups, Said, gain_of, try_groups
from models.evaluation import Estimate, area_under_curve, loss_of
from models.simulation import simulate_company
from models.tasks import get_task

PAGE = Path(__file__).resolve().parent / "results.md"
TITLE = "## What the rest of the CRM gains"

NEXT = "## With few outcomes"

HEAD = f"""{TITLE}

Tickets, marks of satisfaction, payments, answers, quotes and the age of stages: the same plain model
(logistic, penalty 10) with and without each, all other features being there. It learns from questions up to
270 days before the end and is judged on those asked later, at every age of a record, whose horizon is over.
Gains are differences to the model without the group, above 0 is better, with 95 % intervals from drawing
accounts again. These are of whom is judged; what a model happens to learn from noise moves it too, in a small
company by some thousandths. "Expected": the log loss under the true probabilities, which takes the chance
out of what came.

The companies have payments, campaigns, quotes and targets of tickets besides what others have, in which the
hidden states show, see [the simulation](simulation.md). What they gain there says how well records are used
beside the activities that show the same states, and not how much is in those of another company. Which of
them the tasks look at: [features](features.md#what-can-be-declared-and-is-not-there-by-itself).
"""

NOW = datetime(2026, 3, 2, tzinfo=UTC)
COMPANIES = {"small": (1, 2, 3), "medium": (1,)}

SELLERS_AS_OF = datetime(2018, 5, 31, tzinfo=UTC)

LOWEST_MARK = EventSmallest(
    of=TICKETS,
    field="satisfaction",
    noun=Noun(one="satisfaction", many="satisfaction", zh="满意度"),
    lookback="365d",
)

REAL = """The same on real data, the one set that has anything of the kind: customers' marks, from 1 to 5, of
a sample of 8,000 orders in 98,000. Learned as of 2018-05-31.
"""

REVIEWS: Groups = {
    "marks": ("tickets_satisfaction_mean_365d", "last_ticket_satisfaction"),
    "the lowest mark": ("tickets_satisfaction_min_365d",),
    "how many were marked, and when": ("tickets_count_30d", "tickets_count_90d", "days_since_last_ticket"),
}

GROUPS: dict[str, Groups] = {
    "lead_scoring": {
        "answers to calls and mails": (
            "days_since_last_response",
            "outbound_contacts_since_response_count",
        ),
        "answers to campaigns": (
            "campaign_touches_count_90d",
            "answered_campaign_touches_count_90d",
            "answered_campaign_touches_share_of_campaign_touches",
            "days_since_last_answered_campaign_touch",
        ),
    },
    "win_probability": {
        "age of the stage": ("stage_age_days", "stage_age_ratio"),
        "age of the stage against that of others": ("stage_age_against_norm_90d",),
        "quotes": ("sent_quotes_count", "days_since_last_sent_quote", "rejected_quotes_count"),
        "the account's tickets and payments": (
            "open_account_tickets_count",
            "overdue_account_payments_count",
        ),
    },
    "churn": {
        "tickets": (
            "open_tickets_count",
            "tickets_count_30d",
            "tickets_count_90d",
            "days_since_last_ticket",
        ),
        "tickets past their targets": ("late_tickets_count_365d",),
        "satisfaction": ("tickets_satisfaction_mean_365d", "last_ticket_satisfaction"),
        "the lowest mark": ("tickets_satisfaction_min_365d",),
        "payments": ("overdue_payments_count", "payments_delay_days_mean_365d"),
        "delay of the last payment": ("last_payment_delay_days",),
    },
}
OFFERED: dict[str, tuple[Feature, ...]] = {
    "lead_scoring": (
        EventCount(of=CAMPAIGN_TOUCHES, lookback="90d"),
        EventCount(of=ANSWERED_TOUCHES, lookback="90d"),
        EventShare(of=CAMPAIGN_TOUCHES, part=ANSWERED_TOUCHES),
        DaysSinceLast(of=ANSWERED_TOUCHES),
    ),
    "win_probability": (
        AgeAgainstNorm(record="deal", field="stage", noun=Noun(one="stage", many="stages", zh="阶段")),
        EventCount(of=SENT_QUOTES),
        DaysSinceLast(of=SENT_QUOTES),
        EventCount(of=REJECTED_QUOTES),
        OverdueCount(of=ACCOUNT_PAYMENTS),
    ),
    "churn": (
        EventCount(of=LATE_TICKETS, lookback="365d"),
        LOWEST_MARK,
        LastPaymentDelay(of=PAYMENTS),
    ),
}
"""What no task looks at by itself, and is tried here."""


def simulated(size: str) -> dict[str, str]:
    """Return a part by its title for each task, on simulated companies of a size."""
    found: dict[str, list[Said]] = {task: [] for task in GROUPS}
    for seed in COMPANIES[size]:
        with tempfile.TemporaryDirectory() as home:
            store = _open(Path(home), NOW)
            truth = simulate_company(store, size=size, seed=seed, dealings=True)
            for task, groups in GROUPS.items():
                print(f"gain: {task}, {size} company {seed}", file=sys.stderr, flush=True)
                as_of = NOW - timedelta(days=270)
                offered = OFFERED[task]
                found[task].append(
                    try_groups(store, get_task(task), as_of, groups, offered=offered, truth=truth)
                )
            store.close()
    many = "1 company" if len(COMPANIES[size]) == 1 else f"{len(COMPANIES[size])} companies"
    return {
        f"{task.replace('_', ' ').capitalize()}, {many} of size {size}": "\n".join(
            _table(GROUPS[task], reduce(Said.joined_to, said))
        )
        for task, said in found.items()
    }


def reviews(folder: Path) -> dict[str, str]:
    """Return the part on the marks that sellers of the real data were given by their customers."""
    with tempfile.TemporaryDirectory() as home:
        store = _open(Path(home), datetime(2019, 1, 1, tzinfo=UTC))
        run_import(store, load_mapping("olist"), folder / "olist")
        _take_reviews(store, folder / "olist" / "sample_8k_orders")
        print("gain: reviews of sellers", file=sys.stderr, flush=True)
        task = get_task("churn").of_variant("orders")
        said = try_groups(store, task, SELLERS_AS_OF, REVIEWS, offered=(LOWEST_MARK,))
        store.close()
    return {
        "Sellers of Olist who sell nothing in the next 60 days": "\n".join((REAL, *_table(REVIEWS, said)))
    }


def _take_reviews(store: Store, folder: Path) -> None:
    """Write each review of an order down as a closed ticket of its sellers, known when it was given."""
    with (folder / "olist_order_items_dataset.csv").open(encoding="utf-8", newline="") as file:
        sellers = {(row["order_id"], row["seller_id"]) for row in csv.DictReader(file)}
    by_order: dict[str, list[str]] = {}
    for order, seller in sorted(sellers):
        by_order.setdefault(order, []).append(seller)
    with store.transaction(source=Source.IMPORT) as transaction:
        known = transaction.session.execute(select(Account.external_id, Account.id))
        accounts = {seller: account for seller, account in known if seller is not None}
        with (folder / "olist_order_reviews_dataset.csv").open(encoding="utf-8", newline="") as file:
            rows = [
                _as_ticket(accounts[seller], row)
                for row in csv.DictReader(file)
                for seller in by_order.get(row["order_id"], ())
                if seller in accounts
            ]
        transaction.create_many(Ticket, rows)


def _as_ticket(account: int, row: Mapping[str, str]) -> dict[str, object]:
    when = datetime.fromisoformat(row["review_answer_timestamp"]).replace(
        tzinfo=ZoneInfo("America/Sao_Paulo")
    )
    return {
        "account_id": account,
        "subject": "Review",
        "status": TicketStatus.CLOSED.value,
        "satisfaction": int(row["review_score"]),
        "closed_at": when,
        "occurred_at": when,
        "recorded_at": when,
    }


def _table(groups: Groups, said: Said) -> Iterator[str]:
    every, none = frozenset(groups), frozenset[str]()
    with_all, without = said.by_looking_at[every], said.by_looking_at[none]
    loss = [loss_of(one, said.happened).mean() for one in (without, with_all)]
    area = [area_under_curve(one, said.happened) for one in (without, with_all)]
    yield (
        f"{len(said.happened):,} questions, {said.happened.mean():.3f} came. Log loss with none of the "
        f"groups {loss[0]:.4f}, with all {loss[1]:.4f}; AUC {area[0]:.3f} and {area[1]:.3f}.\n"
    )
    yield "| gain of | log loss | log loss, expected | AUC |"
    yield "|---|---|---|---|"
    for name in groups:
        yield _row(name, gain_of(said, every - {name}, every))
    yield _row("**all of them**", gain_of(said, none, every))


def _row(name: str, gain: Gain) -> str:
    expected = "–" if gain.expected is None else _told(gain.expected, 5)  # noqa: RUF001  an en dash
    return f"| {name} | {_told(gain.log_loss, 5)} | {expected} | {_told(gain.auc, 4)} |"


def _told(one: Estimate, digits: int) -> str:
    return f"{one.value:+.{digits}f} ({one.low:+.{digits}f} to {one.high:+.{digits}f})"


def _open(home: Path, now: datetime) -> Store:
    url = f"sqlite:///{home / 'crm.db'}"
    migrations.upgrade(url)
    return Store(url, clock=FixedClock(now))


def measured(real: Path | None, sizes: Sequence[str]) -> dict[str, str]:
    """Return the parts of the section by their titles."""
    parts = {} if real is None else reviews(real)
    for size in sizes:
        parts |= simulated(size)
    return parts


def gain_section(parts: Mapping[str, str]) -> str:
    """Return the whole section."""
    told = "\n\n".join(f"### {title}\n\n{part.strip()}" for title, part in parts.items())
    return f"{HEAD}\n{told}\n"


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with these parts of the section written anew, and its other parts as they were."""
    before, found, rest = page.partition(f"{TITLE}\n")
    if not found:
        before, _, rest = page.partition(f"{NEXT}\n")
        return f"{before}{gain_section(parts)}\n{NEXT}\n{rest}"
    old, _, after = rest.partition("\n## ")
    kept = dict(part.split("\n\n", 1) for part in old.split("\n### ")[1:])
    return f"{before}{gain_section(kept | dict(parts))}\n## {after}"


def main() -> None:
    """Write parts of the section into the page that is there."""
    parser = argparse.ArgumentParser(description="Write the section of docs/results.md on gains.")
    parser.add_argument("--real", type=Path, help="folder of the public data sets")
    parser.add_argument("--sizes", nargs="*", default=[], choices=list(COMPANIES))
    asked = parser.parse_args()
    parts = measured(asked.real, asked.sizes)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
