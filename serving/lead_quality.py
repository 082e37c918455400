"""Lead quality: what models said of leads when they came, by where they came from and what that cost.

Time rule: of each lead counts the first answer of the lead model, asked within a week of its coming
(`as_of` no earlier than it was recorded, no later than `WITHIN` after); what was said later, or is shown
today, does not, because by then we knew how it went on. Leads without such an answer are counted as such.

A lead's tenth is by that probability among all leads of the time asked that have one: the first tenth is the
worst. Equal probabilities are parted evenly, so that every tenth holds a tenth. A campaign's cost is spread
evenly over all leads that it ever brought; the money that went to the worst tenth is that of the leads in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from crm_core.access import Reader
from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY
from crm_core.errors import AccessDeniedError, InvalidValueError
from crm_core.forms import FormSubmission, WebForm
from crm_core.phrases import Phrase, one_of
from crm_core.predictions import Prediction
from crm_core.records import Campaign, Lead
from crm_core.touches import Campaigns
from serving.campaigns import count_leads, rows_of
from serving.ratios import drawn_counts
from serving.shares import Share

TASK: Final = "lead_scoring"
DIMENSIONS: Final = ("source", "campaign", "form")
WITHIN: Final = 7 * DAY
"""How long after a lead came the first answer about it may be asked."""

FEWEST: Final = 50
"""Of fewer scored leads, nothing is said of tenths."""

GRADES: Final = ("A", "B", "C", "D")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class QualityQuestion:
    """What is asked: leads that came on `since <= day < until`, told apart by one dimension."""

    since: date
    until: date
    by: str = "source"

    def check(self) -> None:
        """Raise InvalidValueError for what makes no sense."""
        if self.by not in DIMENSIONS:
            raise InvalidValueError("by", self.by, one_of(DIMENSIONS))
        if self.since >= self.until:
            raise InvalidValueError(
                "until", self.until.isoformat(), Phrase("a day after {since}", since=self.since)
            )


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """The leads with one value, as they were seen when they came.

    `grades` counts the scored ones by grade; `worst` and `best` are the shares in the worst and best tenth of
    all; they may be parts of leads, where probabilities are equal, and are rounded. `cost` is the part of
    campaigns' cost that these leads bear, by currency.
    """

    key: str
    name: str
    leads: int
    scored: int
    grades: Mapping[str, int]
    mean: float | None
    worst: Share
    best: Share
    cost: Mapping[str, Decimal]


@dataclass(frozen=True, kw_only=True)
class WorstTenth:
    """How much of the money spent on leads went to the worst tenth of them, in one currency.

    `leads` is how many scored leads bear a part of it, `tenth` the share of these that are in the worst
    tenth: what the share of the money would be if all of them cost the same.
    """

    currency: str
    spent: Decimal
    share: float
    low: float
    high: float
    leads: int
    tenth: float


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The rows, the one with most leads first, and what went to the worst tenth."""

    question: QualityQuestion
    leads: int
    scored: int
    rows: Sequence[QualityRow]
    worst: Sequence[WorstTenth]
    shows_cost: bool
    is_few: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Came:
    """Leads with what was said of them first: NaN and "" of none; what each cost, and in which currency."""

    keys: Sequence[str]
    probability: Floats
    grade: Sequence[str]
    cost: Floats
    currency: Sequence[str]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.probability)


def build_quality(reader: Reader, question: QualityQuestion) -> Quality:
    """Return the quality of the leads that a reader may see.

    Raises AccessDeniedError for a role that may not see leads, their scores, or what tells them apart.
    """
    question.check()
    _check_rights(reader, question.by)
    campaigns = Campaigns.read(reader)
    came, names = _read(reader, question, campaigns)
    worst, best = tenths(came.probability)
    scored = int(came.scored.sum())
    is_few = scored < FEWEST
    return Quality(
        question=question,
        leads=len(came.keys),
        scored=scored,
        rows=_rows(came, names, worst, best),
        worst=[] if is_few else _worst(came, worst),
        shows_cost=_sees_cost(reader),
        is_few=is_few,
    )


def tenths(probability: Floats) -> tuple[Floats, Floats]:
    """Return how much of each lead lies in the worst and in the best tenth of those that are known.

    Parameters
    ----------
    probability : float64[n]
        NaN where nothing is known: such leads lie in none.

    Returns
    -------
    float64[n], float64[n]
        In [0, 1]; each sums to a tenth of the known ones. Equal probabilities have equal parts.
    """
    return _lowest(probability), _lowest(-probability)


def _lowest(values: Floats) -> Floats:
    known = ~np.isnan(values)
    parts = np.zeros(values.size)
    levels, place, sizes = np.unique(values[known], return_inverse=True, return_counts=True)
    before = np.cumsum(sizes) - sizes
    room = np.clip(known.sum() / 10 - before, 0, sizes)
    parts[known] = (room / sizes)[place] if levels.size else 0.0
    return parts


# ---------------------------------------------------------------- counting


def _rows(came: _Came, names: Mapping[str, str], worst: Floats, best: Floats) -> list[QualityRow]:
    keys = np.array(came.keys, dtype=object)
    grades = np.array(came.grade, dtype=object)
    rows = []
    for key in sorted(set(came.keys)):
        here = keys == key
        scored = here & came.scored
        of = int(scored.sum())
        rows.append(
            QualityRow(
                key=key,
                name=names.get(key, key),
                leads=int(here.sum()),
                scored=of,
                grades={grade: int((scored & (grades == grade)).sum()) for grade in GRADES},
                mean=float(came.probability[scored].mean()) if of else None,
                worst=Share(count=min(of, round(float(worst[here].sum()))), of=of),
                best=Share(count=min(of, round(float(best[here].sum()))), of=of),
                cost=_costs_of(came, here),
            )
        )
    return sorted(rows, key=lambda row: (-row.leads, row.key))


def _costs_of(came: _Came, here: npt.NDArray[np.bool_]) -> dict[str, Decimal]:
    found: dict[str, float] = defaultdict(float)
    for at in np.flatnonzero(here & ~np.isnan(came.cost)).tolist():
        found[came.currency[at]] += float(came.cost[at])
    return {currency: _money(cost) for currency, cost in sorted(found.items())}


def _worst(came: _Came, worst: Floats) -> list[WorstTenth]:
    found = []
    currencies = np.array(came.currency, dtype=object)
    costly = came.scored & ~np.isnan(came.cost)
    for currency in sorted(set(currencies[costly].tolist())):
        here = costly & (currencies == currency)
        cost, part = came.cost[here], worst[here]
        if here.sum() < FEWEST or cost.sum() <= 0:
            continue
        drawn = drawn_counts(int(here.sum()))
        shares = drawn @ (cost * part) / np.maximum(drawn @ cost, 1e-9)
        low, high = np.quantile(shares, (0.025, 0.975))
        found.append(
            WorstTenth(
                currency=currency,
                spent=_money(float(cost.sum())),
                share=float((cost * part).sum() / cost.sum()),
                low=float(low),
                high=float(high),
                leads=int(here.sum()),
                tenth=float(part.mean()),
            )
        )
    return found


def _money(amount: float) -> Decimal:
    return Decimal(round(amount * 100)) / 100


# ---------------------------------------------------------------- reading


def _check_rights(reader: Reader, by: str) -> None:
    fields = [
        "lead.probability",
        "lead.campaign",
        "lead.campaign_id",
        *([f"lead.{by}"] if by != "form" else []),
    ]
    if not reader.may_be_told_of(fields):
        raise AccessDeniedError(
            Phrase("the role {role} may not see the scores of leads by {by}", role=reader.user.role, by=by)
        )


def _sees_cost(reader: Reader) -> bool:
    return reader.may_be_told_of(["campaign.cost", "campaign.currency"])


def _read(reader: Reader, question: QualityQuestion, campaigns: Campaigns) -> tuple[_Came, Mapping[str, str]]:
    since, until = (datetime.combine(day, time(), UTC) for day in (question.since, question.until))
    mine = (reader.readable(Lead), Lead.deleted_at.is_(None))
    chosen = (*mine, Lead.occurred_at >= since, Lead.occurred_at < until)
    query = select(Lead.id, Lead.recorded_at, Lead.source, Lead.campaign, Lead.campaign_id).where(*chosen)
    leads = rows_of(reader, query.order_by(Lead.id))
    said = _first_said(
        reader, select(Lead.id).where(*chosen), {row["id"]: row["recorded_at"] for row in leads}
    )
    per_lead = _cost_of_each(reader, campaigns)
    forms = _forms_of(reader) if question.by == "form" else {}
    keys, costs = [], []
    for row in leads:
        campaign_id = None if row["campaign_id"] == NO_INSTANT else row["campaign_id"]
        campaign = campaigns.key_of(campaign_id, row["campaign"])
        costs.append(per_lead.get(campaign or "", (np.nan, "")))
        by = {"campaign": campaign, "source": row["source"], "form": forms.get(row["id"], ("", ""))[0]}
        keys.append(by[question.by] or "")
    answers = [said.get(row["id"], (np.nan, "")) for row in leads]
    names = campaigns.names if question.by == "campaign" else dict(forms.values())
    return (
        _Came(
            keys=keys,
            probability=np.array([probability for probability, _ in answers], dtype=np.float64),
            grade=[grade for _, grade in answers],
            cost=np.array([cost for cost, _ in costs], dtype=np.float64),
            currency=[currency for _, currency in costs],
        ),
        names,
    )


def _first_said(reader: Reader, leads: Any, came: Mapping[int, int]) -> dict[int, tuple[float, str]]:  # noqa: ANN401  a query
    """Return by lead the first answer that was asked within a week of its being recorded."""
    query = (
        select(Prediction.record_id, Prediction.as_of, Prediction.probability, Prediction.grade)
        .where(Prediction.record_id.in_(leads), Prediction.task == TASK, Prediction.record_type == "lead")
        .where(Prediction.probability.is_not(None))
        .order_by(Prediction.record_id, Prediction.as_of, Prediction.id)
    )
    found: dict[int, tuple[float, str]] = {}
    for row in rows_of(reader, query):
        at = came[row["record_id"]]
        if row["record_id"] not in found and at <= row["as_of"] <= at + WITHIN:
            found[row["record_id"]] = (row["probability"], row["grade"] or "")
    return found


def _cost_of_each(reader: Reader, campaigns: Campaigns) -> dict[str, tuple[float, str]]:
    """Return by campaign what each of all its leads cost, whoever's they are, and the currency."""
    if not _sees_cost(reader):
        return {}
    query = reader.select(Campaign).with_only_columns(Campaign.id, Campaign.cost, Campaign.currency)
    costs = {
        f"#{key}": (float(cost), currency or "")
        for key, cost, currency in reader.session.execute(query.where(Campaign.cost.is_not(None)))
        if cost is not None
    }
    leads = count_leads(reader.session, campaigns)
    return {key: (cost / leads[key], currency) for key, (cost, currency) in costs.items() if leads.get(key)}


def _forms_of(reader: Reader) -> dict[int, tuple[str, str]]:
    """Return by lead the form that brought it first: its key and its name."""
    query = (
        select(FormSubmission.lead_id, WebForm.id, WebForm.name)
        .join(WebForm, WebForm.id == FormSubmission.form_id)
        .where(FormSubmission.lead_id.is_not(None))
        .order_by(FormSubmission.id.desc())
    )
    return {lead: (str(key), name) for lead, key, name in reader.session.execute(query) if lead is not None}
