"""The numbers the company is made from: who comes, what they are like, and what comes of that.

Every effect below is a log-effect on rates or odds. All that has an effect stands on a record as it was
created (or as it was corrected later), so a model can learn it; the hidden states behind the jumps show only
through what happens in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from crm_core.pipelines import open_stages
from models.simulation.chain import Chain, Jump

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the company is: leads in three years, sales people at any time, customers it began with."""

    leads: int
    reps: int
    customers: int


SIZES: Final = {
    "tiny": Size(leads=400, reps=4, customers=40),
    "small": Size(leads=3_000, reps=9, customers=260),
    "medium": Size(leads=30_000, reps=40, customers=2_600),
    "large": Size(leads=150_000, reps=160, customers=13_000),
}
"""`tiny` is for tests."""

YEARS: Final = 3
DAYS: Final = YEARS * 365 + 1
ADS_WORSEN_AFTER_DAYS: Final = 548
"""Day of the company's life on which the ads were bought elsewhere and brought worse leads."""

FREE_MAIL: Final = ("qq.example.com", "163.example.com", "gmail.example.com", "outlook.example.com")
"""Stand-ins for free mail providers; any other host under example.com is a company's own."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One value of an attribute: how often it comes, and its effect on leads, deals and customers."""

    name: str
    share: float
    lead: float = 0.0
    deal: float = 0.0
    customer: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """How contracts are renewed.

    `log_odds` of a renewal by the state at the contract's end; `quality`: the weight of its customer's
    quality; `loyalty`: what each renewal adds to that quality, up to `loyal` times; `begins`: the state in
    which the next contract begins, by the same state.
    """

    log_odds: tuple[float, ...]
    quality: float
    loyalty: float
    loyal: int
    begins: tuple[int, ...]
    days: int

    def probability(self, state: Ints, quality: Floats) -> Floats:
        """Return the probability of a renewal; `state` holds states that can be left."""
        return np.asarray(1.0 / (1.0 + np.exp(-(np.take(self.log_odds, state) + self.quality * quality))))

    def quality_after(self, quality: Floats, renewals: Ints) -> Floats:
        """Return the quality of the next contract, after so many renewals before this one."""
        return quality + np.where(renewals < self.loyal, self.loyalty, 0.0)


SOURCES: Final = (
    Kind(name="web form", share=0.36, lead=0.15, deal=0.10),
    Kind(name="ad", share=0.26, lead=0.05, deal=-0.15),
    Kind(name="trade show", share=0.12, lead=0.10, deal=0.05),
    Kind(name="referral", share=0.12, lead=0.95, deal=0.45),
    Kind(name="cold call", share=0.14, lead=-0.70, deal=-0.40),
)
ADS_WORSEN_BY: Final = -1.1

INDUSTRIES: Final = (
    Kind(name="manufacturing", share=0.26, lead=0.25, deal=0.10, customer=0.25),
    Kind(name="software", share=0.18, lead=0.10, deal=0.0, customer=-0.15),
    Kind(name="retail", share=0.16, lead=-0.20, deal=-0.10, customer=-0.40),
    Kind(name="logistics", share=0.13, lead=0.05, deal=0.05, customer=0.05),
    Kind(name="healthcare", share=0.11, lead=0.30, deal=0.05, customer=0.35),
    Kind(name="education", share=0.09, lead=-0.40, deal=-0.15, customer=0.20),
    Kind(name="energy", share=0.07, lead=0.0, deal=0.15, customer=0.15),
)

REGIONS: Final = (
    Kind(name="East China", share=0.34, lead=0.10, customer=0.05),
    Kind(name="South China", share=0.22, lead=0.0, customer=0.0),
    Kind(name="North China", share=0.18, lead=0.05, customer=0.05),
    Kind(name="West China", share=0.10, lead=-0.20, customer=-0.10),
    Kind(name="Europe", share=0.09, lead=-0.15, deal=-0.10, customer=0.10),
    Kind(name="North America", share=0.07, lead=-0.30, deal=-0.15, customer=-0.10),
)
OVERSEAS: Final = ("Europe", "North America")
TRADE_SHOW_OVERSEAS: Final = 0.5
"""Whoever travels to a show abroad means it."""

COMPETITORS: Final = (
    Kind(name="", share=0.40),
    Kind(name="Orient Systems", share=0.24, deal=-0.40),
    Kind(name="Kestrel", share=0.20, deal=-0.70),
    Kind(name="in-house", share=0.12, deal=-1.00),
)
"""The empty one stands for no known competitor."""

LEAD_INTERCEPT: Final = -0.10
KNOWN_ACCOUNT: Final = 0.50
DEAL_INTERCEPT: Final = -0.25
AMOUNT_MEDIAN: Final = 120_000.0
AMOUNT_EFFECT: Final = -0.22
"""A deal of e times the median amount."""
EMPLOYEES_EFFECT: Final = 0.28
"""Ten times as many employees; none where the number is not known."""
PHONE_EFFECT: Final = (-0.15, 0.10)
"""Without and with a phone number."""
MAIL_EFFECT: Final = {"none": -0.20, "free": -0.20, "company": 0.08}

LEAD: Final = Chain(
    states=("new", "cold", "warm", "hot", "converted", "disqualified"),
    tick=1.0,
    jumps=(
        # The first touch: pace is the owner's; the longer a lead waits, the worse it is received.
        Jump(source="new", target="cold", rate=0.22, quality=-0.3, pace=1.0, age=0.3),
        Jump(source="new", target="warm", rate=0.16, quality=0.4, pace=1.0, age=-0.8),
        Jump(source="new", target="hot", rate=0.045, quality=0.8, pace=1.0, age=-1.2),
        Jump(source="cold", target="warm", rate=0.008, quality=0.5),
        Jump(source="cold", target="converted", rate=0.0003, quality=0.8),
        Jump(source="cold", target="disqualified", rate=0.018, quality=-0.3),
        Jump(source="warm", target="cold", rate=0.035, quality=-0.3),
        Jump(source="warm", target="hot", rate=0.020, quality=0.5),
        Jump(source="warm", target="converted", rate=0.003, quality=0.5, season=0.15),
        Jump(source="warm", target="disqualified", rate=0.005),
        Jump(source="hot", target="warm", rate=0.035),
        Jump(source="hot", target="cold", rate=0.012, quality=-0.3),
        Jump(source="hot", target="converted", rate=0.030, quality=0.4, season=0.15),
        Jump(source="hot", target="disqualified", rate=0.003),
    ),
)
"""A tick is a working day."""

STAGES: Final = tuple(stage.key for stage in open_stages())
_FORWARD: Final = (0.42, 0.34, 0.30)
_LOST: Final = (0.035, 0.030, 0.030, 0.025)


def moving(stage: str) -> str:
    """Return the state of a deal that moves in `stage`."""
    return f"{stage}, moving"


def stalled(stage: str) -> str:
    """Return the state of a deal that is stuck in `stage`."""
    return f"{stage}, stalled"


def _deal_jumps(position: int, stage: str) -> tuple[Jump, ...]:
    last = position == len(STAGES) - 1
    onward = (
        Jump(source=moving(stage), target="won", rate=0.24, quality=0.5, season=0.15)
        if last
        else Jump(
            source=moving(stage), target=moving(STAGES[position + 1]), rate=_FORWARD[position], quality=0.3
        )
    )
    jumps = [
        onward,
        Jump(source=moving(stage), target=stalled(stage), rate=0.20, quality=-0.3),
        Jump(source=moving(stage), target="lost", rate=_LOST[position], quality=-0.4),
        Jump(source=stalled(stage), target=moving(stage), rate=0.10, quality=0.3),
        Jump(source=stalled(stage), target="lost", rate=0.13, quality=-0.3),
    ]
    if last:
        jumps.append(Jump(source=stalled(stage), target="won", rate=0.02, quality=0.5, season=0.15))
    if position > 0:
        back = moving(STAGES[position - 1])
        jumps.append(Jump(source=moving(stage), target=back, rate=0.03, quality=-0.2))
    return tuple(jumps)


DEAL: Final = Chain(
    states=(*(state(stage) for stage in STAGES for state in (moving, stalled)), "won", "lost"),
    tick=5.0,
    jumps=tuple(jump for position, stage in enumerate(STAGES) for jump in _deal_jumps(position, stage)),
)
"""A tick is five working days: a week."""

CONTRACT: Final = Chain(
    states=("good", "fading", "bad", "cancelled"),
    tick=5.0,
    jumps=(
        Jump(source="good", target="fading", rate=0.020, quality=-0.4),
        Jump(source="fading", target="good", rate=0.050, quality=0.3),
        Jump(source="fading", target="bad", rate=0.045, quality=-0.3),
        Jump(source="bad", target="fading", rate=0.030, quality=0.3),
        Jump(source="good", target="cancelled", rate=0.0006, quality=-0.3),
        Jump(source="fading", target="cancelled", rate=0.0022, quality=-0.4),
        Jump(source="bad", target="cancelled", rate=0.0080, quality=-0.4),
    ),
)
"""How well a customer is while a contract runs; a tick is five working days."""

RENEWAL: Final = Renewal(
    log_odds=(2.8, 1.6, 0.1), quality=0.5, loyalty=0.2, loyal=3, begins=(0, 0, 1), days=365
)
GRACE_DAYS: Final = 30
"""Days after a contract's end in which it may still be renewed."""
