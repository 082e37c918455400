"""What goes with another score of a record, for somebody who asks: only what they may see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from crm_core.access import Reader
from crm_core.predictions import SCORED_TYPES
from crm_core.records import User
from crm_core.store import Store
from serving.champions import TASK_OF, Champions
from serving.scoring_now import check_open, get_to_score

if TYPE_CHECKING:
    from models.what_if import WhatIf


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The answer, the instant it was asked from, and the model that gave it."""

    found: WhatIf
    as_of: datetime
    model_version: str


def ask_what_if(store: Store, champions: Champions, user: User, record_type: str, record_id: int) -> Asked:
    """Return what would go with another score of an open record, without what comes from hidden fields.

    Raises NoChampionError, LeadNotOpenError, DealNotOpenError or NotEnoughDataError as scoring does.
    """
    check_open(get_to_score(store, user, SCORED_TYPES[record_type], record_id))
    scorer = champions.get(TASK_OF[record_type]).scorer
    as_of = store.clock.now()
    found = scorer.what_would_change(store, record_id, as_of)
    with store.reading() as session:
        seen = readable(Reader(session, user), found)
    return Asked(found=seen, as_of=as_of, model_version=scorer.model_version)


def readable(reader: Reader, found: WhatIf) -> WhatIf:
    """Return the answer without hints that come from a field which may not be seen."""
    return replace(found, hints=tuple(hint for hint in found.hints if reader.may_be_told_of(hint.fields)))
