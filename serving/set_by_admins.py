"""What administrators set of stages and of selling: checked, set, and written into the operation log."""

from __future__ import annotations

from crm_core.access import check_may_administer
from crm_core.operations import Done, Operation, Origin, write_operations
from crm_core.pipelines import Stage
from crm_core.records import User
from crm_core.sales_settings import SalesSettings, set_sales
from crm_core.stage_settings import reset_stage, set_stage
from crm_core.store import Transaction

_LONGEST_DETAIL = 200


def set_stage_as(
    transaction: Transaction, user: User, pipeline: str, wanted: Stage, version: int | None, origin: Origin
) -> bool:
    """Set a stage as an administrator; return whether anything changed."""
    check_may_administer(user)
    changed = set_stage(transaction, user, pipeline, wanted, version=version)
    if changed:
        needs = ", ".join(wanted.required) or "nothing"
        said = f"{pipeline}/{wanted.key}: {wanted.name_en}, {wanted.rotting_days} days, requires {needs}"
        _note(transaction, origin, "deal", said)
    return changed


def reset_stage_as(
    transaction: Transaction, user: User, pipeline: str, stage: str, version: int | None, origin: Origin
) -> bool:
    """Take back what was set of a stage as an administrator; return whether anything was."""
    check_may_administer(user)
    changed = reset_stage(transaction, user, pipeline, stage, version=version)
    if changed:
        _note(transaction, origin, "deal", f"{pipeline}/{stage}: as it was")
    return changed


def set_sales_as(
    transaction: Transaction, user: User, wanted: SalesSettings, origin: Origin
) -> SalesSettings:
    """Set all of selling as an administrator."""
    check_may_administer(user)
    found = set_sales(transaction, user, wanted)
    limits = ", ".join(f"{role} {share:%}" for role, share in sorted(found.limits.items())) or "none"
    days = ", ".join(map(str, found.reminder_days)) or "never"
    _note(transaction, origin, "quote", f"sales: limits {limits}; reminders after {days} days")
    return found


def _note(transaction: Transaction, origin: Origin, record_type: str, detail: str) -> None:
    done = Operation(
        at=transaction.now,
        done=Done.SETTING_SET,
        origin=origin,
        record_type=record_type,
        detail=detail[:_LONGEST_DETAIL],
    )
    write_operations(transaction.session, [done])
