"""Write the parts of the documentation that are made from the code.

    python docs/generate.py            write them
    python docs/generate.py --check    name the pages that are out of date; exit 1 if there are any

A page holds such a part between `<!-- begin NAME -->` and `<!-- end NAME -->`; what is written by hand around
it stays as it is. The test run checks, so a command, setting, endpoint, error, feature, field or make target
that is not in the documentation, or is there no longer, turns it red.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from crm_core.errors import CRMError

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- begin (?P<name>\w+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return every page of the documentation, the README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rendered(text: str) -> str:
    """Return a page's text with every part that is made from the code made anew."""
    return PART.sub(lambda found: f"{found[1]}{made(found['name'])}{found[3]}", text)


def made(name: str) -> str:
    """Return one part, ready to stand between its marks."""
    return "\n" + "\n".join(PARTS[name]()).strip() + "\n\n"


def table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    titles = list(titles)
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(cell(value) for value in row)} |"


def cell(value: object) -> str:
    """Return what stands in a table's cell: one line, without the sign that ends a cell."""
    return " ".join(str("" if value is None else value).split()).replace("|", "\\|")


def code(value: object) -> str:
    """Return a value set as code; nothing where there is none."""
    return f"`{value}`" if value not in (None, "") else ""


def first_line(documented: object) -> str:
    """Return the summary of something's docstring."""
    return (documented.__doc__ or "").strip().split("\n")[0]


# ------------------------------------------------------------------------------------------------- make


def make_targets() -> dict[str, str]:
    """Return every target that a person may ask make for, with what it does."""
    found = re.findall(r"^([a-z-]+):.*## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)


def make_part() -> Iterator[str]:
    """Yield the table of make's targets."""
    yield from table(
        ["target", "what it does"], ((code(f"make {name}"), text) for name, text in make_targets().items())
    )


# ------------------------------------------------------------------------------------------------- cli


def commands() -> dict[str, click.Command]:
    """Return every command by the words one types, groups left out."""
    from serving import cli

    return dict(leaves("crm", cli.main))


def leaves(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands below one, or itself where it has none."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from leaves(f"{words} {name}", inner)


def usage(words: str, command: click.Command) -> str:
    """Return the line that shows how to type a command."""
    context = click.Context(command, info_name=words)
    return " ".join(command.collect_usage_pieces(context))


def cli_part() -> Iterator[str]:
    """Yield a section for each command: how to type it, what it does, and its options."""
    for words, command in commands().items():
        yield from (f"### {words}", "", "```", f"{words} {usage(words, command)}", "```", "")
        yield from (paragraph(command.help or ""), "")
        options = [option for option in command.params if isinstance(option, click.Option)]
        yield from table(["option", "default", "meaning"], (option_row(option) for option in options))
        yield ""


def paragraph(text: str) -> str:
    """Return a docstring's text as Markdown: without click's marks and indentation."""
    lines = (line.strip() for line in text.replace("\b", "").strip().split("\n"))
    return "\n".join(lines)


def option_row(option: click.Option) -> tuple[str, str, str]:
    """Return an option's names, default and meaning."""
    names = ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))
    given = option.default
    shown = (
        "" if option.is_flag or callable(given) or not isinstance(given, str | int | float) else code(given)
    )
    return names, shown, option.help or ""


# ------------------------------------------------------------------------------------------------- settings


def settings() -> dict[str, Any]:
    """Return every setting by the name of its environment variable."""
    from serving.settings import Settings, variable_of

    return {variable_of(name): field for name, field in Settings.model_fields.items()}


def settings_part() -> Iterator[str]:
    """Yield the table of settings."""
    rows = ((code(name), default_of(field), field.description) for name, field in settings().items())
    yield from table(["variable", "default", "meaning"], rows)


def default_of(field: Any) -> str:  # noqa: ANN401  a pydantic field
    """Return a setting's default as a person would write it; folders as seen from the checkout."""
    given = field.get_default(call_default_factory=False)
    if isinstance(given, Path):
        return code(given.relative_to(ROOT))
    if isinstance(given, bool):
        return code(str(given).lower())
    return code(given)


# ------------------------------------------------------------------------------------------------- api


def openapi() -> dict[str, Any]:
    """Return the service's own description of itself."""
    from crm_core import migrations
    from crm_core.store import Store
    from serving.app import create_app
    from serving.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/crm.db"
        migrations.upgrade(url)
        app = create_app(Settings(home=Path(folder)), Store(url))
        return dict(app.api_doc)


def operations() -> dict[str, dict[str, Any]]:
    """Return every operation of the API by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
    }


def api_part() -> Iterator[str]:
    """Yield the table of endpoints."""
    rows = (
        (code(name), operation.get("summary"), ", ".join(sorted(operation.get("responses", {}))))
        for name, operation in operations().items()
    )
    yield from table(["call", "what it does", "answers"], rows)


# ------------------------------------------------------------------------------------------------- errors


def errors() -> list[type[CRMError]]:
    """Return every error that is raised on purpose, each before those that are kinds of it."""
    return list(tree(CRMError))


def tree(error: type[CRMError]) -> Iterator[type[CRMError]]:
    """Yield an error and its kinds, in the order in which they were written."""
    yield error
    for kind in error.__subclasses__():
        if not kind.__module__.startswith(
            ("tests", "serving.web")
        ):  # those of pages are no answers of the API
            yield from tree(kind)


def errors_part() -> Iterator[str]:
    """Yield the table of errors, then that of refused requests no error stands behind."""
    from serving.problems import KINDS, PREFIX, REFUSED_BY_FRAMEWORK, REQUEST_KINDS, kind_of_http

    known = ((error, KINDS[error]) for error in errors())
    rows = (
        (code(error.__name__), code(parent_of(error)), kind.status, code(kind.slug), first_line(error))
        for error, kind in known
    )
    yield from table(["error", "a kind of", "HTTP status", "type", "meaning"], rows)
    yield from (
        "",
        f"In answers of the API the `type` is written `{PREFIX}TYPE`. These have no error of ours:",
        "",
    )
    refused = (kind_of_http(error()) for error in REFUSED_BY_FRAMEWORK)
    requests = ((kind.status, code(kind.slug), kind.title) for kind in (*REQUEST_KINDS.values(), *refused))
    yield from table(["HTTP status", "type", "meaning"], requests)


def parent_of(error: type[CRMError]) -> str:
    """Return the name of the error that this one is a kind of; nothing for the root."""
    return "" if error is CRMError else error.__mro__[1].__name__


# ------------------------------------------------------------------------------------------------- features


def features_part() -> Iterator[str]:
    """Yield a table of features for each task."""
    from features.feature_set import describe

    yield from describe().splitlines()


# ------------------------------------------------------------------------------------------------- records


def records_part() -> Iterator[str]:
    """Yield a table of fields for each record type, leaving out what every record has."""
    from crm_core.records import RECORD_TYPES

    everywhere = shared_columns()
    for name, model in RECORD_TYPES.items():
        yield from (f"### {name}", "", first_line(model), "")
        columns = [column for column in model.__table__.columns if column.name not in everywhere]
        yield from table(
            ["field", "holds", "may be empty", "meaning"], (field_row(column) for column in columns)
        )
        yield ""


def views_part() -> Iterator[str]:
    """Yield a table of columns for each view."""
    from crm_core.views import list_views

    for view in list_views():
        yield from (f"### {view.name}", "", view.about, "")
        rows = ((code(column.name), column.holds, column.meaning) for column in view.columns)
        yield from table(["column", "holds", "meaning"], rows)
        yield ""


def amounts_part() -> Iterator[str]:
    """Yield the columns of the views that hold amounts of money, by view."""
    from crm_core.views import list_views

    held = {
        view.name: [column.name for column in view.columns if column.holds == "amount"]
        for view in list_views()
    }
    rows = ((code(name), ", ".join(map(code, columns))) for name, columns in held.items() if columns)
    yield from table(["view", "amounts"], rows)


def shared_columns() -> set[str]:
    """Return the fields that every record has, and those that only models write."""
    from crm_core.records import RECORD_TYPES, SCORE_COLUMNS

    each = [set(model.__table__.columns.keys()) for model in RECORD_TYPES.values()]
    return set.intersection(*each) | SCORE_COLUMNS


def field_row(column: Any) -> tuple[str, str, str, str]:  # noqa: ANN401  a column of any type
    """Return a field's name, what it holds, whether it may be empty, and its meaning."""
    points_to = next((f"id of {key.target_fullname.split('.')[0]}" for key in column.foreign_keys), None)
    holds = points_to or HOLDS.get(type(column.type).__name__, type(column.type).__name__.lower())
    return code(column.name), holds, "yes" if column.nullable else "", column.comment or ""


HOLDS = {
    "Instant": "an instant, UTC",
    "Day": "a day",
    "Money": "an amount, four decimals",
    "Json": "JSON",
    "String": "text",
    "Text": "long text",
    "Float": "number",
    "Integer": "whole number",
    "Boolean": "true or false",
}

PARTS: dict[str, Callable[[], Iterable[str]]] = {
    "make": make_part,
    "cli": cli_part,
    "settings": settings_part,
    "api": api_part,
    "errors": errors_part,
    "features": features_part,
    "records": records_part,
    "views": views_part,
    "amounts": amounts_part,
}


def main() -> int:
    """Write or check every page; 1 when a check finds a page out of date."""
    checking = "--check" in sys.argv
    fresh = {page: text for page in pages() if (text := rendered(page.read_text())) != page.read_text()}
    for page, text in fresh.items():
        print(page.relative_to(ROOT))
        if not checking:
            page.write_text(text)
    return int(checking and bool(fresh))


if __name__ == "__main__":
    sys.exit(main())
