"""Who asked not to be scored: one condition, which every task and every stored prediction honours."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from crm_core.records import SCORE_COLUMNS, Account, Contact, Deal, Lead
from crm_core.store import Transaction

Scored = Lead | Deal | Account


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


def set_scoring_opt_out(
    transaction: Transaction, record: Lead | Contact | Account, *, opted_out: bool
) -> None:
    """Write down whether somebody asks not to be scored, and show no score of theirs any more if so."""
    transaction.update(record, {"scoring_opt_out": opted_out})
    if opted_out:
        for model in (Lead, Deal, Account):
            hide_scores(transaction.session, model, _ids_of(transaction.session, model, record))


def hide_scores(session: Session, model: type[Scored], ids: Collection[int]) -> None:
    """Take the newest prediction off records; what was predicted stays in the history."""
    if ids:
        session.execute(update(model).where(model.id.in_(ids)).values(dict.fromkeys(SCORE_COLUMNS)))


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
