"""Making one record of two that turned out to be the same, with the history of both."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy.orm import Session

from crm_core.bulk import Update
from crm_core.declared import declarations
from crm_core.errors import MergeError
from crm_core.links import chain_of, links_to, read_chains
from crm_core.opting_out import hide_scores_about
from crm_core.phrases import Phrase
from crm_core.records import SCORE_COLUMNS, Account, Contact, Lead, LeadStatus, Record
from crm_core.store import Transaction
from crm_core.validation import columns_of

M = TypeVar("M", Account, Contact, Lead)

_KEPT_APART = SCORE_COLUMNS | {
    "id",
    "external_id",
    "occurred_at",
    "recorded_at",
    "deleted_at",
    "version",
    "custom",
    "merged_into_id",
    "erased_at",
}
"""Fields that are not taken over from the record that goes."""


def merge_records(transaction: Transaction, keep: M, gone: M) -> M:
    """Move everything that points at `gone` to `keep`, fill what `keep` lacks, delete `gone`; return `keep`.

    Everything that changes leaves its change row: as of an instant before the merge there are still two
    records. Merging what has been merged already into the same record changes nothing.
    """
    if gone.merged_into_id == keep.id and gone.deleted_at is not None:
        return keep
    _check_mergeable(keep, gone)
    _move_links(transaction, keep, gone)
    _fill_gaps(transaction, keep, gone)
    if keep.scoring_opt_out:
        hide_scores_about(transaction.session, keep)
    transaction.update(gone, {"merged_into_id": keep.id})
    transaction.delete(gone)
    return keep


def find_survivor(session: Session, model: type[M], record_id: int) -> M | None:
    """Return what stands for `record_id` now: itself, or what it was merged into; None if deleted."""
    record = session.get(model, record_id)
    while record is not None and record.merged_into_id is not None:
        record = session.get(model, record.merged_into_id)
    return None if record is None or record.deleted_at is not None else record


def _check_mergeable(keep: M, gone: M) -> None:
    if keep.id == gone.id:
        raise MergeError(
            Phrase(
                "{record_type} {id} cannot be merged with itself", record_type=keep.record_type, id=keep.id
            )
        )
    for record in (keep, gone):
        if record.deleted_at is not None:
            raise MergeError(
                Phrase(
                    "{record_type} {id} is deleted, expected two that are not",
                    record_type=record.record_type,
                    id=record.id,
                )
            )
    if getattr(gone, "status", None) == LeadStatus.CONVERTED:
        raise MergeError(
            Phrase(
                "lead {gone_id} is converted; keep it and merge lead {keep_id} into it",
                gone_id=gone.id,
                keep_id=keep.id,
            )
        )


def _move_links(transaction: Transaction, keep: M, gone: M) -> None:
    model = type(keep)
    if gone.id in _above(transaction.session, keep):
        # What lies between the two would end both above and below the one that stays.
        transaction.update(keep, {"parent_id": None})
    for link in links_to(model):
        ids = transaction.session.scalars(link.pointing_at(model, gone.id)).all()
        updates = [Update(record_id=record_id, values={link.column: keep.id}) for record_id in ids]
        transaction.update_many(link.model, updates)


def _above(session: Session, record: Record) -> set[int]:
    """Return the records above one, as a parent's parent is; none where there are no parents."""
    parent = record.parent_id if isinstance(record, Account) else None
    return chain_of(read_chains(session, Account, "parent_id", [parent]), parent)


def _fill_gaps(transaction: Transaction, keep: M, gone: M) -> None:
    gaps = {
        field: getattr(gone, field)
        for field in columns_of(type(keep))
        if field not in _KEPT_APART and getattr(keep, field) is None and getattr(gone, field) is not None
    }
    held, declared = keep.custom or {}, declarations(transaction.session)
    gaps |= {
        f"custom.{name}": value
        for name, value in (gone.custom or {}).items()
        if held.get(name) is None and value is not None and declared.takes(gone.record_type, name)
    }
    if keep.id in _above(transaction.session, gone):
        gaps.pop("parent_id", None)
    gaps |= _wishes(keep, gone)
    transaction.update(keep, gaps)


def _wishes(keep: M, gone: M) -> dict[str, object]:
    """Return what the person asked of us under the other name: not to be scored, or not to be written to."""
    wishes: dict[str, object] = {"scoring_opt_out": True} if gone.scoring_opt_out else {}
    if isinstance(gone, Account):
        return wishes
    if gone.consent_at is not None and (keep.consent_at is None or keep.consent_at < gone.consent_at):
        wishes |= {"consent": gone.consent, "consent_at": gone.consent_at}
    return wishes
