"""The commands that declare custom fields and record types. What is heavy is imported inside of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.commands.options import as_option, home_option, json_option
from serving.console import answer, table
from serving.opening import open_store
from serving.settings import load_settings

if TYPE_CHECKING:
    from crm_core.fields import Choice, FieldDeclaration
    from crm_core.records import CustomRecordType
    from crm_core.store import Transaction

KINDS = ("text", "number", "flag", "day", "instant", "choice", "money", "reference")
KNOWN = ("creation", "history", "outcome", "unknown")

_record = click.argument("record_type", metavar="RECORD")
_name = click.argument("name")


@click.group()
def fields() -> None:
    """List, declare, change, retire and restore custom fields."""


@click.group()
def types() -> None:
    """List, declare, retire and restore record types of your own."""


@contextmanager
def _declaring(home: Path | None, email: str | None) -> Iterator[Transaction]:
    from crm_core.access import check_may_declare
    from crm_core.changes import Source
    from serving.acting import get_acting_user

    store = open_store(load_settings(home=home))
    user = get_acting_user(store, email)
    check_may_declare(user)
    with store.transaction(source=Source.API, actor_id=user.id) as transaction:
        yield transaction


# ------------------------------------------------------------------------------------------------ fields


@fields.command("list")
@click.argument("record_type", metavar="[RECORD]", required=False)
@home_option
@json_option
def list_fields_(record_type: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """List what is declared of fields, of all record types or of one."""
    from crm_core.fields import list_all_fields

    with open_store(load_settings(home=home)).reading() as session:
        found = [_field(each) for each in list_all_fields(session, record_type)]
    columns = ("record", "name", "kind", "known", "label_en", "label_zh", "required", "choices", "retired_at")
    rows = [[_shown(each[column]) for column in columns] for each in found]
    answer({"fields": found}, as_json=as_json, show=lambda: table("Fields", columns, rows))


@fields.command("declare")
@_record
@_name
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it holds.")
@click.option(
    "--known",
    type=click.Choice(KNOWN),
    required=True,
    help="When it is known; decides what models see.",
)
@click.option("--en", "label_en", help="What it is called in English.")
@click.option("--zh", "label_zh", help="What it is called in Chinese.")
@click.option("--choice", "choices", multiple=True, help="VALUE, or VALUE=English=Chinese; of a choice.")
@click.option("--required", is_flag=True, help="Every new record needs a value.")
@click.option("--target", help="The record type that a reference names.")
@as_option
@home_option
@json_option
def declare_field_(
    record_type: str,
    name: str,
    kind: str,
    known: str,
    choices: Sequence[str],
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
    **said: Any,
) -> None:
    """Declare the custom field NAME of a RECORD type; again, to give it other labels or more choices."""
    from crm_core.fields import CUSTOM, FieldKind, Known, declare_field

    with _declaring(home, email) as transaction:
        made = declare_field(
            transaction.session,
            record_type=record_type,
            name=f"{CUSTOM}{name.removeprefix(CUSTOM)}",
            kind=FieldKind(kind),
            known=Known(known),
            choices=[_choice(each) for each in choices],
            **said,
        )
        told = _field(made)
    answer(told, as_json=as_json, show=lambda: _say(told, "is declared"))


@fields.command("change")
@_record
@_name
@click.option("--en", "label_en", help="What it is called in English.")
@click.option("--zh", "label_zh", help="What it is called in Chinese.")
@click.option("--choice", "choices", multiple=True, help="A further value, or other labels of one.")
@click.option("--required/--optional", default=None, help="Whether every new record needs a value.")
@click.option("--kind", type=click.Choice(KINDS), help="What it holds; only while it has no values.")
@as_option
@home_option
@json_option
def change_field_(
    record_type: str,
    name: str,
    kind: str | None,
    choices: Sequence[str],
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
    **said: Any,
) -> None:
    """Change how a custom field is called, what can be chosen, or whether it is required."""
    from crm_core.fields import CUSTOM, FieldKind, change_field

    with _declaring(home, email) as transaction:
        changed = change_field(
            transaction.session,
            record_type,
            f"{CUSTOM}{name.removeprefix(CUSTOM)}",
            kind=None if kind is None else FieldKind(kind),
            choices=[_choice(each) for each in choices],
            **said,
        )
        told = _field(changed)
    answer(told, as_json=as_json, show=lambda: _say(told, "is changed"))


@fields.command("retire")
@_record
@_name
@as_option
@home_option
@json_option
def retire_field_(
    record_type: str,
    name: str,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Let a custom field take no more values; those that it has stay."""
    from crm_core.fields import CUSTOM, retire_field

    with _declaring(home, email) as transaction:
        told = _field(retire_field(transaction.session, record_type, f"{CUSTOM}{name.removeprefix(CUSTOM)}"))
    answer(told, as_json=as_json, show=lambda: _say(told, "is retired"))


@fields.command("restore")
@_record
@_name
@as_option
@home_option
@json_option
def restore_field_(
    record_type: str,
    name: str,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
) -> None:
    """Let a retired field take values again."""
    from crm_core.fields import CUSTOM, restore_field

    with _declaring(home, email) as transaction:
        told = _field(restore_field(transaction.session, record_type, f"{CUSTOM}{name.removeprefix(CUSTOM)}"))
    answer(told, as_json=as_json, show=lambda: _say(told, "takes values again"))


# ------------------------------------------------------------------------------------------------ types


@types.command("list")
@home_option
@json_option
def list_types(home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """List the record types that were declared."""
    from crm_core.record_types import list_record_types

    with open_store(load_settings(home=home)).reading() as session:
        found = [_type(each) for each in list_record_types(session)]
    columns = ("name", "label_en", "label_zh", "links", "retired_at")
    rows = [[_shown(each[column]) for column in columns] for each in found]
    answer({"types": found}, as_json=as_json, show=lambda: table("Record types", columns, rows))


@types.command("declare")
@_name
@click.option("--en", "label_en", required=True, help="What one is called in English.")
@click.option("--zh", "label_zh", required=True, help="What one is called in Chinese.")
@click.option(
    "--link",
    "links",
    multiple=True,
    help="What it may belong to: lead, deal, account, contact, a type.",
)
@as_option
@home_option
@json_option
def declare_type(
    name: str,
    email: str | None,
    home: Path | None,
    as_json: bool,  # noqa: FBT001  click gives flags by name
    **said: Any,
) -> None:
    """Declare the record type NAME; again, to give it other labels or more links."""
    from crm_core.record_types import declare_record_type

    with _declaring(home, email) as transaction:
        told = _type(declare_record_type(transaction.session, name=name, **said))
    answer(told, as_json=as_json, show=lambda: click.echo(f"{name} is declared"))


@types.command("retire")
@_name
@as_option
@home_option
@json_option
def retire_type(name: str, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Let no more records of a type be written; those that there are stay."""
    from crm_core.record_types import retire_record_type

    with _declaring(home, email) as transaction:
        told = _type(retire_record_type(transaction.session, name))
    answer(told, as_json=as_json, show=lambda: click.echo(f"{name} is retired"))


@types.command("restore")
@_name
@as_option
@home_option
@json_option
def restore_type(name: str, email: str | None, home: Path | None, as_json: bool) -> None:  # noqa: FBT001  click gives flags by name
    """Let records of a retired type be written again."""
    from crm_core.record_types import restore_record_type

    with _declaring(home, email) as transaction:
        told = _type(restore_record_type(transaction.session, name))
    answer(told, as_json=as_json, show=lambda: click.echo(f"{name} takes records again"))


# ------------------------------------------------------------------------------------------------ shown


def _choice(text: str) -> Choice:
    """Read VALUE, VALUE=English or VALUE=English=Chinese."""
    from crm_core.fields import Choice

    value, *labels = text.split("=", 2)
    english, chinese = [*(label or None for label in labels), None, None][:2]
    return Choice(value=value, label_en=english, label_zh=chinese)


def _field(found: FieldDeclaration) -> dict[str, Any]:
    return {
        "record": found.record_type,
        "name": found.name,
        "kind": found.kind,
        "known": found.known,
        "label_en": found.label_en,
        "label_zh": found.label_zh,
        "required": found.required,
        "choices": found.choices or [],
        "target": found.target,
        "retired_at": _instant(found.retired_at),
    }


def _type(found: CustomRecordType) -> dict[str, Any]:
    return {
        "name": found.name,
        "label_en": found.label_en,
        "label_zh": found.label_zh,
        "links": found.links,
        "retired_at": _instant(found.retired_at),
    }


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def _shown(value: Any) -> str:  # noqa: ANN401  of any column
    if isinstance(value, list):
        return ", ".join(each["value"] if isinstance(each, dict) else each for each in value)
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)


def _say(told: dict[str, Any], what: str) -> None:
    click.echo(f"{told['record']}.{told['name']} {what}")
