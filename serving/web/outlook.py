"""What stands beside the probability of a record: other horizons, the expected time, the money at risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from crm_core.access import Reader
from crm_core.predictions import Prediction
from crm_core.records import Account, Deal, Lead
from crm_core.worth import MoneyAtRisk, money_at_risk, readable_worth
from serving.web.reasons import Reason, is_base, top_reasons

POINTS_SHOWN = 8
"""Reasons shown of a score that is no probability."""


SMALL = Decimal(100)
"""Smaller amounts of money are shown to the cent."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is shown of the newest prediction of a record, as far as its reader may see it.

    `state` is "scored", "rank_only" (expert points: a score without a probability) or "nothing". `within` has
    (days, probability) of every horizon, None where it is not known; `longest` is the longest that is.
    `strange` says why there is not enough data, `points` what makes a score that is no probability.
    """

    state: str
    horizon_days: int | None = None
    within: Sequence[tuple[int, float | None]] = ()
    longest: int | None = None
    expected_days: float | None = None
    money: Sequence[MoneyAtRisk] = ()
    strange: Sequence[Reason] = ()
    points: Sequence[Reason] = ()


def read_outlook(reader: Reader, record: Lead | Deal | Account, newest: Prediction | None) -> Outlook:
    """Return the outlook of a record whose fields and reasons are those that the reader may see."""
    if newest is None or record.scored_at is None:
        return Outlook(state="nothing")
    if record.probability is None:
        return _without_probability(record, newest)
    within = _within(newest)
    return Outlook(
        state="scored",
        horizon_days=newest.horizon_days,
        within=within,
        longest=max((days for days, known in within if known is not None), default=None),
        expected_days=newest.expected_days,
        money=[
            replace(one, yearly=_round(one.yearly), at_risk=_round(one.at_risk))
            for one in money_at_risk(newest.probability, readable_worth(reader, newest.yearly_value or ()))
        ],
    )


def _round(amount: Decimal) -> Decimal:
    """Return an amount without cents, which nobody could expect of a probability, unless it is small."""
    return amount.quantize(Decimal(1)) if amount >= SMALL else amount


def _without_probability(record: Lead | Deal | Account, newest: Prediction) -> Outlook:
    if record.score is None:
        strange = [reason for reason in record.reasons or [] if not is_base(reason)]
        return Outlook(state="nothing", horizon_days=newest.horizon_days, strange=strange)
    points = top_reasons(record.reasons, POINTS_SHOWN)
    return Outlook(state="rank_only", horizon_days=newest.horizon_days, points=points)


def _within(newest: Prediction) -> list[tuple[int, float | None]]:
    said = newest.within or {}
    return [(days, said[str(days)]) for days in sorted(map(int, said))]
