"""Rights: how far each role reaches, by record type and by field."""

from __future__ import annotations

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue

from crm_core.access import Right, Scope
from crm_core.errors import InvalidValueError
from crm_core.operations import Done
from crm_core.phrases import one_of
from crm_core.records import Role
from crm_core.rights import (
    SETTABLE,
    fields_of,
    hidden_by_default,
    list_field_rights,
    list_rights,
    reset_field_right,
    set_field_right,
    set_right,
)
from crm_core.store import Transaction
from serving.service import page_session
from serving.web.admin.shelf import note, page, pages, to, try_to
from serving.web.language import gettext

FIELD_RIGHTS = {"hidden": (False, False), "shown": (True, False), "changed": (True, True)}
"""What can be said of a field: whether it is seen, and whether it is changed."""


@pages.get("/rights")
def show_rights() -> ResponseReturnValue:
    """Show what one role may do."""
    return _show(_role(request.args.get("role", "")), None)


@pages.post("/rights/<role>")
def set_rights(role: str) -> ResponseReturnValue:
    """Set how far a role reaches; what was not changed in the form is not touched."""
    chosen = _role(role)

    def act(transaction: Transaction) -> None:
        for known in list_rights(transaction.session, chosen):
            asked = _asked(known.record_type, known.right)
            if asked != known.right:
                set_right(transaction.session, chosen, known.record_type, asked)
                said = f"{chosen}: read {asked.read}, write {asked.write}"
                note(transaction, Done.RIGHT_SET, record_type=known.record_type, detail=said)

    return _done(chosen, try_to(act))


def _asked(record_type: str, known: Right) -> Right:
    """Return what the form says of a record type; what it does not say stays as it is."""
    return Right(
        read=_scope("read", record_type, known.read), write=_scope("write", record_type, known.write)
    )


def _scope(what: str, record_type: str, known: Scope) -> Scope:
    said = request.form.get(f"{what}:{record_type}", known.value)
    if said not in set(Scope):
        raise InvalidValueError(f"{record_type}: {what}", said, one_of(Scope))
    return Scope(said)


@pages.post("/rights/<role>/fields")
def set_field(role: str) -> ResponseReturnValue:
    """Hide a field from a role, show it, or let it be changed."""
    chosen = _role(role)
    record_type, _, field = request.form.get("field", "").partition(".")
    said = request.form.get("right", "")

    def act(transaction: Transaction) -> None:
        if said not in FIELD_RIGHTS:
            raise InvalidValueError("right", said, one_of(FIELD_RIGHTS))
        read, write = FIELD_RIGHTS[said]
        set_field_right(transaction.session, chosen, record_type, field, read=read, write=write)
        _note_field(transaction, chosen, record_type, field, said)

    return _done(chosen, try_to(act))


@pages.post("/rights/<role>/fields/reset")
def reset_field(role: str) -> ResponseReturnValue:
    """Let a field follow its record again."""
    chosen = _role(role)
    record_type, _, field = request.form.get("field", "").partition(".")

    def act(transaction: Transaction) -> None:
        if reset_field_right(transaction.session, chosen, record_type, field):
            _note_field(transaction, chosen, record_type, field, "as the record")

    return _done(chosen, try_to(act))


def _note_field(transaction: Transaction, role: Role, record_type: str, field: str, said: str) -> None:
    detail = f"{role}: {field[:120]} {said}"
    note(transaction, Done.RIGHT_SET, record_type=record_type, detail=detail)


def _role(said: str) -> Role:
    return Role(said) if said in SETTABLE else SETTABLE[0]


def _done(role: Role, refused: str | None) -> ResponseReturnValue:
    if refused is not None:
        return make_response(_show(role, refused), 422)
    flash(gettext("Saved. It holds from now on."))
    return redirect(to("show_rights", role=role.value))


def _show(role: Role, refused: str | None) -> str:
    session = page_session()
    return page(
        "rights.html",
        role=role,
        roles=SETTABLE,
        scopes=list(Scope),
        rights=list_rights(session, role),
        field_rights=list_field_rights(session, role),
        hidden=hidden_by_default(role),
        fields=fields_of(session),
        levels=list(FIELD_RIGHTS),
        refused=refused,
    )
