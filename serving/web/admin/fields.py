"""Fields and record types of one's own: declared, labelled, retired."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import flash, make_response, redirect, request
from flask.typing import ResponseReturnValue

from crm_core.errors import InvalidValueError
from crm_core.fields import (
    CUSTOM,
    Choice,
    FieldKind,
    Known,
    change_field,
    declare_field,
    list_all_fields,
    restore_field,
    retire_field,
)
from crm_core.phrases import one_of
from crm_core.record_types import (
    declare_record_type,
    list_record_types,
    restore_record_type,
    retire_record_type,
)
from crm_core.records import LINKABLE, RECORD_TYPES, CustomRecord
from crm_core.store import Transaction
from serving.service import page_session
from serving.web.admin.shelf import page, pages, to, try_to
from serving.web.language import gettext


@pages.get("/fields")
def list_fields() -> str:
    """Show the declared fields and record types."""
    return _show(None, {})


@pages.post("/fields")
def declare() -> ResponseReturnValue:
    """Declare a field."""

    def act(transaction: Transaction) -> None:
        declare_field(
            transaction.session,
            record_type=request.form.get("record_type", ""),
            name=f"{CUSTOM}{request.form.get('name', '').strip().removeprefix(CUSTOM)}",
            kind=_one_of(FieldKind, "kind"),
            known=_one_of(Known, "known"),
            label_en=_text("label_en"),
            label_zh=_text("label_zh"),
            choices=_choices(),
            required="required" in request.form,
            target=_text("target"),
        )

    return _done(try_to(act), gettext("The field is declared."))


@pages.post("/fields/<record_type>/<name>")
def change(record_type: str, name: str) -> ResponseReturnValue:
    """Give a field other labels, further choices, or make it required."""

    def act(transaction: Transaction) -> None:
        change_field(
            transaction.session,
            record_type,
            name,
            label_en=_text("label_en"),
            label_zh=_text("label_zh"),
            choices=_choices(),
            required="required" in request.form,
        )

    return _done(try_to(act), gettext("Saved."))


@pages.post("/fields/<record_type>/<name>/retire")
def retire(record_type: str, name: str) -> ResponseReturnValue:
    """Let a field take no more values."""
    act = _on_field(retire_field, record_type, name)
    return _done(try_to(act), gettext("The field takes no more values; those it has stay."))


@pages.post("/fields/<record_type>/<name>/restore")
def restore(record_type: str, name: str) -> ResponseReturnValue:
    """Let a retired field take values again."""
    return _done(
        try_to(_on_field(restore_field, record_type, name)), gettext("The field takes values again.")
    )


def _on_field(verb: Callable[..., object], record_type: str, name: str) -> Callable[[Transaction], object]:
    return lambda transaction: verb(transaction.session, record_type, name)


@pages.post("/types")
def declare_type() -> ResponseReturnValue:
    """Declare a record type."""

    def act(transaction: Transaction) -> None:
        declare_record_type(
            transaction.session,
            name=request.form.get("name", "").strip(),
            label_en=request.form.get("label_en", "").strip(),
            label_zh=request.form.get("label_zh", "").strip(),
            links=request.form.getlist("link"),
        )

    return _done(try_to(act), gettext("The record type is declared."))


@pages.post("/types/<name>/retire")
def retire_type(name: str) -> ResponseReturnValue:
    """Let a record type take no more records."""
    done = gettext("The record type takes no more records; those there are stay.")
    return _done(try_to(lambda transaction: retire_record_type(transaction.session, name)), done)


@pages.post("/types/<name>/restore")
def restore_type(name: str) -> ResponseReturnValue:
    """Let a retired record type take records again."""
    done = gettext("The record type takes records again.")
    return _done(try_to(lambda transaction: restore_record_type(transaction.session, name)), done)


def _one_of(words: Any, name: str) -> Any:  # noqa: ANN401  any of our enumerations
    said = request.form.get(name, "")
    if said not in set(words):
        raise InvalidValueError(name, said, one_of(words))
    return words(said)


def _text(name: str) -> str | None:
    return request.form.get(name, "").strip() or None


def _choices() -> list[Choice]:
    """Return the choices of a text area: one a line, VALUE or VALUE=English=Chinese."""
    lines = [line.strip() for line in request.form.get("choices", "").splitlines() if line.strip()]
    return [_choice(*(part.strip() for part in line.split("=", 2))) for line in lines]


def _choice(value: str, en: str = "", zh: str = "") -> Choice:
    return Choice(value=value, label_en=en or None, label_zh=zh or None)


def _done(refused: str | None, said: str) -> ResponseReturnValue:
    if refused is not None:
        return make_response(_show(refused, request.form), 422)
    flash(said)
    return redirect(to("list_fields"))


def _show(refused: str | None, values: Mapping[str, str]) -> str:
    session = page_session()
    types = list_record_types(session)
    built_in = [name for name in sorted(RECORD_TYPES) if name != CustomRecord.record_type]
    return page(
        "fields.html",
        fields=[each for each in list_all_fields(session) if each.name.startswith(CUSTOM)],
        types=types,
        names=[*built_in, *(each.name for each in types)],
        linkable=[*LINKABLE, *(each.name for each in types)],
        kinds=list(FieldKind),
        knowns=list(Known),
        values=values,
        refused=refused,
    )
