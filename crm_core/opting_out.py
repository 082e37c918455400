"""Who asked not to be scored: one condition, which every task and every stored prediction honours."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from crm_core.records import SCORE_COLUMNS, Account, Contact, Deal, Lead
from crm_core.store import Transaction

Scored = Lead | Deal | Account

_SCORED: Final = (Lead, Deal, Account)

_AT_ONCE: Final = 5_000
"""Ids named in one statement."""


@cache
def may_be_scored(model: type[Scored]) -> ColumnElement[bool]:
    """Return the condition that nobody whom a record is about asked not to be scored.

    A company that opted out covers its deals and leads, a person theirs. Who was erased is not scored.
    """
    if issubclass(model, Account):
        return model.scoring_opt_out.is_(False)
    free = and_(~_opted_out(Contact, model.contact_id), ~_opted_out(Account, model.account_id))
    if issubclass(model, Lead):
        return and_(model.scoring_opt_out.is_(False), model.erased_at.is_(None), free)
    return free


def _opted_out(model: type[Contact | Account], link: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return exists().where(model.id == link, model.scoring_opt_out.is_(True))


def list_opted_out(session: Session, model: type[Scored], ids: Collection[int] | None = None) -> list[int]:
    """Return the ids of the records that may not be scored, of all or of some, in ascending order."""
    if ids is None:
        return list(session.scalars(_opted_out_of(model)))
    known = session.info.get(_WILLING, ())
    unknown = [record_id for record_id in ids if (model, record_id) not in known]
    return list(session.scalars(_opted_out_of(model, among=True), {"ids": unknown})) if unknown else []


_WILLING: Final = "known to be willing"


def note_willing(session: Session, model: type[Scored], record_id: int) -> None:
    """Note that a session which only reads has seen that a record may be scored."""
    session.info.setdefault(_WILLING, set()).add((model, record_id))


@cache
def _opted_out_of(model: type[Scored], *, among: bool = False) -> Select[int]:
    query = select(model.id).where(~may_be_scored(model)).order_by(model.id)
    return query.where(model.id.in_(bindparam("ids", expanding=True))) if among else query


def set_scoring_opt_out(
    transaction: Transaction, record: Lead | Contact | Account, *, opted_out: bool
) -> None:
    """Write down whether somebody asks not to be scored, and show no score of theirs any more if so."""
    transaction.update(record, {"scoring_opt_out": opted_out})
    if opted_out:
        hide_scores_about(transaction.session, record)


def hide_scores_about(session: Session, record: Lead | Contact | Account) -> None:
    """Take the scores off a record and off those that are about whom it stands for."""
    for model in _SCORED:
        hide_scores(session, model, _ids_of(session, model, record))


def hide_scores_of_opted_out(session: Session) -> int:
    """Take the scores off all records that may not be scored any more, whoever said so; return how many.

    Whoever follows the log calls this when a wish or a link has changed: an import, a program or a merge may
    have written it.
    """
    count = 0
    for model in _SCORED:
        scored = select(model.id).where(model.scored_at.is_not(None), ~may_be_scored(model))
        ids = list(session.scalars(scored))
        hide_scores(session, model, ids)
        count += len(ids)
    return count


def hide_scores(session: Session, model: type[Scored], ids: Collection[int]) -> None:
    """Take the newest prediction off records; what was predicted stays in the history."""
    listed = sorted(ids)
    for start in range(0, len(listed), _AT_ONCE):
        some = model.id.in_(listed[start : start + _AT_ONCE])
        session.execute(update(model).where(some).values(dict.fromkeys(SCORE_COLUMNS)))


def _ids_of(session: Session, model: type[Scored], record: Lead | Contact | Account) -> list[int]:
    """Return the records of a scored type that are about somebody."""
    about: list[ColumnElement[bool]] = []
    if isinstance(record, model):
        about.append(model.id == record.id)
    if isinstance(record, Contact) and not issubclass(model, Account):
        about.append(model.contact_id == record.id)
    if isinstance(record, Account) and not issubclass(model, Account):
        about.append(model.account_id == record.id)
    return list(session.scalars(select(model.id).where(or_(*about)))) if about else []
