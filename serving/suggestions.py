"""What may be suggested about a record: fields worth asking for, when to call, and what to do next.

Everything is told as what went together in the past, with its counts and its interval; what is not sure is
not told. Only what the reader may see is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from crm_core.access import Reader
from crm_core.errors import CRMError
from crm_core.opting_out import list_opted_out
from crm_core.records import Account, Contact, Deal, Lead
from crm_core.store import Store
from serving.champions import TASK_OF, Champions, Suggests
from serving.next_steps import find_steps
from serving.reach import Reached, find_times
from serving.scoring_now import check_open

if TYPE_CHECKING:
    from models.missing_field import MissingField
    from models.next_step import Step

MOST_FIELDS = 3
"""Empty fields that are named."""

T = TypeVar("T")

Suggested = Lead | Deal | Account | Contact


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """What may be suggested; `model_version` is None where no model was asked, and no field or step told."""

    as_of: datetime
    model_version: str | None
    steps: Sequence[Step]
    fields: Sequence[MissingField]
    times: Sequence[Reached]


def read_suggestions(
    store: Store, champions: Champions, reader: Reader, record: Suggested, *, zone: str
) -> Suggestions:
    """Return what may be suggested about a record that the reader sees; no model is waited for."""
    now = store.clock.now()
    scorer = _scorer(champions, reader, record)
    return Suggestions(
        as_of=now,
        model_version=None if scorer is None else scorer.model_version,
        steps=_or_nothing(lambda: _steps(store, scorer, reader, record, now)),
        fields=_or_nothing(lambda: _fields(store, scorer, reader, record, now)),
        times=find_times(reader, record, now, zone),
    )


def _scorer(champions: Champions, reader: Reader, record: Suggested) -> Suggests | None:
    """Return the model that may be asked about a record: one is in charge, and the reader sees its scores."""
    if isinstance(record, Contact) or record.probability is None:
        return None
    if not reader.may_read_field(record.record_type, "probability"):
        return None
    if list_opted_out(reader.session, type(record), [record.id]):
        return None
    champion = champions.find(TASK_OF[record.record_type])
    return champion.scorer if champion is not None and isinstance(champion.scorer, Suggests) else None


def _or_nothing(read: Callable[[], Sequence[T]]) -> Sequence[T]:
    """Return what is read; nothing about what is closed, or what the model cannot say anything of."""
    try:
        return read()
    except CRMError:  # or its features mean something else: the score itself tells
        return ()


def _steps(
    store: Store, scorer: Suggests | None, reader: Reader, record: Suggested, now: datetime
) -> Sequence[Step]:
    if scorer is None or isinstance(record, Contact):
        return ()
    check_open(record)
    return find_steps(store, scorer, reader, record, now)


def _fields(
    store: Store, scorer: Suggests | None, reader: Reader, record: Suggested, now: datetime
) -> Sequence[MissingField]:
    if scorer is None or isinstance(record, Contact):
        return ()
    check_open(record)
    found = scorer.what_is_missing(store.seen_by(reader.session), record.id, now)
    return [each for each in found if reader.may_be_told_of([each.field])][:MOST_FIELDS]
