"""What stands below a score: how often such scores came true, and what goes with a better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crm_core.access import Reader
from crm_core.errors import CRMError
from crm_core.records import Account, Deal, Lead
from models.shown_horizon import shown_horizon
from serving.champions import TASK_OF
from serving.reports import read_report
from serving.scoring_now import check_open
from serving.service import service
from serving.what_if import readable

if TYPE_CHECKING:
    from models.what_if import Hint

HINTS = 4
"""Hints that a page shows."""

FEWEST_RECORDS = 20
"""Judged records below which a share says nothing."""


@dataclass(frozen=True, kw_only=True)
class Called:
    """What came of records called about as likely as this one: shares in [0, 1]."""

    low: float
    high: float
    records: int
    happened: float
    give_or_take: float | None

    @property
    def is_enough(self) -> bool:
        """Tell whether the share says anything."""
        return self.records >= FEWEST_RECORDS


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What a page shows below a score.

    `called` is None where nothing of the like was judged, `judged` whether anything was. `hints` are None
    where the model that serves is not the one of the score, and empty where nothing goes with a better one.
    """

    called: Called | None = None
    judged: bool = False
    no_time_order: bool = False
    hints: tuple[Hint, ...] | None = None


def read_beside(reader: Reader, record: Lead | Deal | Account) -> Beside:
    """Return what stands below the score of a record, which holds only what the reader may see."""
    if record.probability is None or record.model_version is None:
        return Beside()
    report = read_report(service().settings.home_folder, record.model_version) or {}
    return Beside(
        called=_called(report, record.probability),
        judged=_was_counted(report),
        no_time_order=bool(report.get("no_time_order")),
        hints=_hints(reader, record),
    )


def _called(report: Mapping[str, Any], probability: float) -> Called | None:
    """Return what came of what was called about as likely, from the report of a training."""
    from models.called import counts_for

    found = counts_for(report, probability)
    if found is None:
        return None
    return Called(
        low=found["low"],
        high=found["high"],
        records=found["records"],
        happened=found["happened"],
        give_or_take=found.get("give_or_take"),
    )


def _was_counted(report: Mapping[str, Any]) -> bool:
    """Tell whether a training was judged in counts at all."""
    return bool(shown_horizon(report.get("judged")).get("called"))


def _hints(reader: Reader, record: Lead | Deal | Account) -> tuple[Hint, ...] | None:
    """Return what goes with a better score, as the model in memory has it: a page waits for no model."""
    running = service()
    champion = running.champions.find(TASK_OF[record.record_type])
    if champion is None or champion.scorer.model_version != record.model_version:
        return None
    try:
        check_open(record)
        seen = running.store.seen_by(reader.session)
        found = champion.scorer.what_would_change(seen, record.id, running.store.clock.now())
    except CRMError:
        # Closed, or not asked about any more, or its features mean something else: the score itself tells.
        return None
    better = 1 if found.high_is_good else -1
    hints = [hint for hint in readable(reader, found).hints if hint.change * better > 0 and not hint.alike]
    return tuple(hints[:HINTS])
