"""What moved a forecast between two instants, cause by cause; the causes add up to the change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crm_core.clock import instant, micros
from crm_core.store import Store
from models.bundle import ModelBundle
from models.forecasting.book import DealBook
from models.forecasting.forecast import DealLine, Seen, list_deals, outlook_of, scene_of, usable_model
from models.forecasting.learned import Learned
from models.forecasting.outlook import Scene
from models.forecasting.periods import Period, Span
from models.forecasting.replaying import Case, Correction

CAUSES = ("won", "lost", "new_deals", "amounts", "probabilities", "reopened", "not_yet_created")
"""Deals won; deals lost, deleted or won outside the period; deals that came; amounts and probabilities that
changed; deals that were won and are not any more; and what is expected of deals not written down yet."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """What one deal moved, and why."""

    deal_id: int
    cause: str
    amount: float


@dataclass(frozen=True, kw_only=True)
class Moves:
    """How the forecast of a period changed; `causes` add up to `now - before`."""

    period: Period
    currency: str
    since: int
    as_of: int
    before: float
    now: float
    causes: dict[str, float]
    deals: tuple[Move, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "span": str(self.period.span),
            "period": self.period.name,
            "currency": self.currency,
            "since": instant(self.since).isoformat(),
            "as_of": instant(self.as_of).isoformat(),
            "before": round(self.before, 2),
            "now": round(self.now, 2),
            "causes": {cause: round(amount, 2) for cause, amount in self.causes.items()},
            "deals": [
                {"deal_id": one.deal_id, "cause": one.cause, "amount": round(one.amount, 2)}
                for one in self.deals
            ],
        }


def what_moved(
    store: Store,
    learned: Learned,
    as_of: datetime,
    *,
    days: int = 7,
    bundle: ModelBundle | None = None,
    spans: Sequence[Span] = tuple(Span),
    seen: Seen | None = None,
    book: DealBook | None = None,
) -> list[Moves]:
    """Return what moved the forecasts of the periods at hand in the last days, for each currency.

    Both forecasts are made by one model with one set of corrections, so that only the records moved them.
    `book` saves reading the deals again.
    """
    book = book or DealBook.read(store)
    at, since = micros(as_of), micros(as_of - timedelta(days=days))
    bundle = usable_model(store, bundle, at)
    before, now = (scene_of(store, book, learned, bundle, when) for when in (since, at))
    cases = [Case(span=span, ahead=0) for span in spans]
    return [
        _moves(before, now, case.period(at), currency, learned.correction(case), seen or Seen())
        for case in cases
        for currency in now.currencies()
        if before.can_say(currency) and now.can_say(currency)
    ]


def _moves(
    before: Scene, now: Scene, period: Period, currency: str, correction: Correction, seen: Seen
) -> Moves:
    outlooks = [outlook_of(scene, period, currency, seen) for scene in (before, now)]
    lines = [{line.deal_id: line for line in list_deals(one, correction)} for one in outlooks]
    new = [one.new_amount(correction.shock) for one in outlooks]
    at = (before.now.as_of, now.now.as_of)
    return _compare(period, currency, at, (lines[0], lines[1]), (new[0], new[1]))


def _compare(
    period: Period,
    currency: str,
    at: tuple[int, int],
    lines: tuple[dict[int, DealLine], dict[int, DealLine]],
    new: tuple[float, float],
) -> Moves:
    before, now = lines
    moves = [move for deal in sorted(before | now) for move in _moves_of(before.get(deal), now.get(deal))]
    causes = {cause: math.fsum(move.amount for move in moves if move.cause == cause) for cause in CAUSES}
    causes["not_yet_created"] = new[1] - new[0]
    return Moves(
        period=period,
        currency=currency,
        since=at[0],
        as_of=at[1],
        before=math.fsum(line.expected for line in before.values()) + new[0],
        now=math.fsum(line.expected for line in now.values()) + new[1],
        causes=causes,
        deals=tuple(sorted(moves, key=lambda move: (-abs(move.amount), move.deal_id, move.cause))),
    )


def _moves_of(before: DealLine | None, now: DealLine | None) -> Iterator[Move]:
    """Yield what a deal moved; what it was and what it is differ by the sum."""
    if before is None and now is not None:
        yield Move(deal_id=now.deal_id, cause="new_deals", amount=now.expected)
    elif now is None and before is not None:
        cause = "reopened" if before.won else "lost"
        yield Move(deal_id=before.deal_id, cause=cause, amount=-before.expected)
    elif before is not None and now is not None:
        yield from _moves_of_both(before, now)


def _moves_of_both(before: DealLine, now: DealLine) -> Iterator[Move]:
    change = now.expected - before.expected
    if before.won != now.won:
        yield Move(deal_id=now.deal_id, cause="won" if now.won else "reopened", amount=change)
        return
    by_amount = before.probability * (now.amount - before.amount)
    if by_amount:
        yield Move(deal_id=now.deal_id, cause="amounts", amount=by_amount)
    if change != by_amount:
        yield Move(deal_id=now.deal_id, cause="probabilities", amount=change - by_amount)
