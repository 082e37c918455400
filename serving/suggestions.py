"""What may be suggested about a record: fields worth asking for, when to call, and what to do next.

Everything is told as what went together in the past, with its counts and its interval; what is not sure is
not told. Only what the reader may see is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from crm_core.access import Reader
from crm_core.errors import CRMError
from crm_core.opting_out import list_opted_out
from crm_core.records import Account, Contact, Deal, Lead
from crm_core.store import Store
from serving.champions import TASK_OF, Champions, KnowsWhatIsMissing
from serving.reach import Reached, find_times
from serving.scoring_now import check_open

if TYPE_CHECKING:
    from models.missing_field import MissingField

MOST_FIELDS = 3
"""Empty fields that are named."""

Suggested = Lead | Deal | Account | Contact


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """What may be suggested; `model_version` is None where no model was asked, and `fields` then empty."""

    as_of: datetime
    model_version: str | None
    fields: Sequence[MissingField]
    times: Sequence[Reached]


def read_suggestions(
    store: Store, champions: Champions, reader: Reader, record: Suggested, *, zone: str
) -> Suggestions:
    """Return what may be suggested about a record that the reader sees; no model is waited for."""
    now = store.clock.now()
    version, fields = _fields(store, champions, reader, record, now)
    return Suggestions(
        as_of=now,
        model_version=version,
        fields=fields,
        times=find_times(reader, record, now, zone),
    )


def _fields(
    store: Store, champions: Champions, reader: Reader, record: Suggested, now: datetime
) -> tuple[str | None, Sequence[MissingField]]:
    """Return the model that was asked, and the fields that would sharpen its answer."""
    if isinstance(record, Contact) or not _may_be_told(reader, record):
        return None, ()
    champion = champions.find(TASK_OF[record.record_type])
    if champion is None or not isinstance(champion.scorer, KnowsWhatIsMissing):
        return None, ()
    try:
        check_open(record)
        found = champion.scorer.what_is_missing(store.seen_by(reader.session), record.id, now)
    except CRMError:  # closed, or not asked about any more: nothing is worth asking for
        return champion.scorer.model_version, ()
    seen = [each for each in found if reader.may_be_told_of([each.field])]
    return champion.scorer.model_version, seen[:MOST_FIELDS]


def _may_be_told(reader: Reader, record: Lead | Deal | Account) -> bool:
    """Tell whether the reader sees scores of such records, and nobody it is about opted out."""
    seen = reader.may_read_field(record.record_type, "probability")
    return seen and not list_opted_out(reader.session, type(record), [record.id])
