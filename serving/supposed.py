"""Scoring a record that does not exist: as one would create it, with nothing stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_write
from crm_core.changes import Source
from crm_core.declared import read_plain
from crm_core.errors import NotEnoughDataError, ScoringOptOutError
from crm_core.opting_out import list_opted_out
from crm_core.phrases import Phrase
from crm_core.predictions import NewPrediction, Prediction
from crm_core.records import (
    Account,
    Activity,
    Campaign,
    Contact,
    Contract,
    Deal,
    Lead,
    Order,
    Record,
    User,
)
from crm_core.store import Store, Transaction
from serving.champions import TASK_OF, Champion, Champions
from serving.owners import choose_owner

_LINKS: Mapping[str, type[Record]] = {
    "account_id": Account,
    "parent_id": Account,
    "contact_id": Contact,
    "campaign_id": Campaign,
}
"""What a supposed record may name, and must be able to see."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A record as somebody would create it: its fields, and those of what is linked to it.

    Custom fields are in `custom`, in the form in which they are sent.
    """

    model: type[Lead | Deal | Account]
    values: Mapping[str, Any]
    owner_id: int | None = None
    linked: Sequence[tuple[type[Activity | Order | Contract], Mapping[str, Any]]] = field(default=())


def ask_supposed(store: Store, champions: Champions, user: User, draft: Draft) -> Prediction:
    """Return what the champion would say of a record if it were created now; it belongs to no session.

    Nothing is written, no id is used, and no lock is taken.

    Raises AccessDeniedError for whoever may not create such a record or see its score, RecordNotFoundError
    for a link to what they may not see, NoChampionError, NotEnoughDataError and ScoringOptOutError as
    scoring does, and what creating it would raise.
    """
    from features.supposed import Supposed

    check_may_write(user)
    with store.supposing(source=Source.API, actor_id=user.id) as transaction:
        record, linked = _prepare(transaction, user, draft)
        as_of = transaction.now
    champion = champions.get(TASK_OF[draft.model.record_type])
    said = champion.scorer.score_supposed(store, Supposed.of(record, linked), as_of)
    if said is None:
        what = draft.model.record_type
        raise NotEnoughDataError(
            Phrase(
                "{task} would not be asked of such a {record_type} at present",
                task=champion.task,
                record_type=what,
            )
        )
    return as_prediction(champion, said, as_of)


def _prepare(
    transaction: Transaction, user: User, draft: Draft
) -> tuple[Lead | Deal | Account, list[Record]]:
    """Return the record and what is linked to it, checked as creating them checks them."""
    from features.supposed import FIRST_ID

    reader = Reader(transaction.session, user)
    reader.check_may_see_scores(draft.model)
    values = _checked(reader, draft.model, draft.values)
    _check_links(reader, values)
    record = draft.model(**values, owner_id=choose_owner(transaction.session, user, draft.owner_id))
    transaction.prepare(record)
    linked: list[Record] = []
    for model, given in draft.linked:
        fields = {**_checked(reader, model, given), f"{record.record_type}_id": FIRST_ID}
        if model is Activity:
            fields["owner_id"] = user.id
            if isinstance(record, Deal):  # a deal's activity is also its account's
                fields["account_id"] = record.account_id
        linked.append(model(**fields))
        transaction.prepare(linked[-1])
    return record, linked


def _checked(reader: Reader, model: type[Record], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be written of a new record, custom fields in the form that the store takes."""
    record_type = model.record_type
    reader.check_may_create(model)
    custom = values.get("custom")
    reader.check_fields(record_type, values.keys() - {"custom"})
    reader.check_fields(record_type, (f"custom.{name}" for name in custom or {}))
    ready = dict(values)
    if custom:
        ready["custom"] = read_plain(reader.session, record_type, custom)
    return ready


def _check_links(reader: Reader, values: Mapping[str, Any]) -> None:
    """Raise for a link to what the user may not see, and for one to somebody who asked not to be scored."""
    for name, model in _LINKS.items():
        if values.get(name) is None:
            continue
        found = reader.get(model, values[name])
        if name in {"account_id", "contact_id"} and _opted_out(reader.session, found):
            raise ScoringOptOutError(model.record_type, found.id)


def _opted_out(session: Session, record: Record) -> bool:
    if isinstance(record, Account):
        return bool(list_opted_out(session, Account, [record.id]))
    return isinstance(record, Contact) and record.scoring_opt_out


def as_prediction(champion: Champion, said: NewPrediction, as_of: datetime) -> Prediction:
    """Return an answer in the form of a stored one."""
    return Prediction(
        task=champion.task,
        record_type=champion.record_type,
        as_of=as_of,
        model_version=champion.scorer.model_version,
        horizon_days=said.horizon_days or champion.scorer.horizon_days,
        probability=said.probability,
        score=said.score,
        grade=said.grade,
        reasons=said.reasons,
        within=None if said.within is None else {str(days): chance for days, chance in said.within.items()},
        expected_days=said.expected_days,
        yearly_value=None if said.yearly_value is None else [dict(part) for part in said.yearly_value],
    )
