"""Whatever the program refuses is said in the language of the page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Message
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

import crm_core.errors
from crm_core.automation.keeping import TASKS
from crm_core.errors import CRMError
from serving.web import refusals
from serving.web.words import WORDS
from tests.serving.test_languages import FOLDER, forms

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("crm_core", "features", "models", "serving")
HOW = "see refusals.po, and then: .venv/bin/pybabel compile -d serving/web/translations -D refusals"

NO_PAGES = (
    *("serving/commands/", "serving/cli.py", "serving/acting.py", "serving/server.py", "serving/opening.py"),
    *("serving/api/", "serving/connectors/", "serving/mailbox.py", "serving/metrics.py"),
    *("serving/settings.py", "serving/backups.py", "serving/demo.py", "crm_core/snapshots.py"),
    *("crm_core/migrations/", "crm_core/exporting/", "crm_core/views/", "models/simulation/"),
    *("crm_core/personal/erasing.py", "crm_core/personal/files.py"),
    # Files that administrators write, in English words: mappings of imports, scorecards.
    *("crm_core/importing/mapping.py", "crm_core/importing/presets.py", "crm_core/importing/tables.py"),
    "models/scorecard.py",
    # What an identity provider did wrong is for the log; the page says that the login was refused.
    "serving/oidc.py",
    # Declarations are read when the program starts; a model that answers nonsense is our own fault.
    *(
        f"features/{name}"
        for name in sorted(each.name for each in (ROOT / "features").iterdir())
        if name != "facts.py"
    ),
    *("serving/modelling.py", "models/bundle.py", "models/kept.py", "models/watching.py"),
)
"""Where errors are raised that no page shows."""

TEXT_AT = {
    **dict.fromkeys(("InvalidValueError", "FutureEventError", "UnsafeTextError", "QuoteStateError"), (2,)),
    **dict.fromkeys(("TemplateError", "NotWrittenToError"), (1,)),
    **dict.fromkeys(("RecordNotFoundError", "StaleRecordError", "ScoringOptOutError"), (0,)),
    **dict.fromkeys(("UnknownFieldError", "FieldRetiredError", "UnknownRecordTypeError"), ()),
    **dict.fromkeys(("DuplicateExternalIdError", "MissingFieldsError", "StageNotInPipelineError"), ()),
    **dict.fromkeys(("ChecklistOpenError", "NoChampionError", "EmptyPlaceError", "LeadNotOpenError"), ()),
    **dict.fromkeys(("DealNotOpenError", "GateNotPassedError", "ChampionChangedError", "RuleLoopError"), ()),
    **dict.fromkeys(("ApprovalNeededError", "ApprovalDecidedError", "AlertClosedError"), ()),
    "_refuse_if": (1,),
    **dict.fromkeys(("_given", "refused"), (2,)),
    "SettingsError": (),
    **dict.fromkeys(("_refused", "refuse", "refuse_candidate"), (2, 3)),
    "_denied": (1,),
}
"""Which arguments of an error, or of what makes one, are sentences; of others the first."""

INDIRECT = frozenset({"expected", "_EXPECTED", "_READ"})
"""What sentences are put into before they are given to an error."""

ERRORS = {
    name
    for name, found in vars(crm_core.errors).items()
    if isinstance(found, type) and issubclass(found, CRMError)
}


@cache
def everything() -> dict[str, list[ast.AST]]:
    """Return all that is written in each module."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {
        path.relative_to(ROOT).as_posix(): list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in paths
    }


def sources() -> Iterator[tuple[str, list[ast.AST]]]:
    """Yield the modules whose errors pages may have to show."""
    return ((name, nodes) for name, nodes in everything().items() if not name.startswith(NO_PAGES))


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def sentences(node: ast.Call) -> list[ast.expr]:
    """Return the arguments of a call that pages show as sentences."""
    name = called(node)
    if name == "Phrase":
        return node.args[:1]
    if name not in ERRORS and name not in TEXT_AT:
        return []
    return [node.args[at] for at in TEXT_AT.get(name, (0,)) if at < len(node.args)]


def texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*texts(body), *texts(orelse))
        case ast.Tuple(elts=inner) | ast.BoolOp(values=inner):
            for each in inner:
                yield from texts(each)
        case ast.Dict(values=inner):
            for each in inner:
                yield from texts(each)


def raised() -> dict[str, str]:
    """Return all sentences that a page may have to show, each with a place where it is."""
    found: dict[str, str] = {}
    for name, nodes in sources():
        for node in nodes:
            said: list[ast.expr] = []
            if isinstance(node, ast.Call):
                said = sentences(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                said = [node.value] if isinstance(target, ast.Name) and target.id in INDIRECT else []
            for each in said:
                found |= {text: f"{name}:{each.lineno}" for text in texts(each) if is_said(text, node)}
    return found


def is_said(text: str, node: ast.AST) -> bool:
    """Say whether a text is a sentence: of what is only assigned, words alone are names or keys."""
    return isinstance(node, ast.Call) or " " in text


@cache
def known(context: str | None = None) -> dict[str, str]:
    with (FOLDER / "refusals.po").open("rb") as file:
        catalogue = read_po(file, locale="zh")
    return {str(each.id): str(each.string) for each in catalogue if each.id and each.context == context}


def test_every_refusal_that_a_page_may_show_is_there_in_chinese() -> None:
    said = {text: where for text, where in raised().items() if text not in WORDS["record_type"]}
    assert {text: where for text, where in said.items() if not known().get(text)} == {}, HOW


def test_no_refusal_is_put_together_before_its_parts_are_told() -> None:
    """An f-string has lost its parts: a Phrase keeps them."""
    found = [
        f"{name}:{node.lineno}"
        for name, nodes in sources()
        for node in nodes
        if isinstance(node, ast.Call)
        for each in sentences(node)
        if isinstance(each, ast.JoinedStr) and f"{name}:{called(node)}" not in TOLD_TO_LOGS
    ]
    assert found == []


TOLD_TO_LOGS = {
    "serving/mail.py:JobError",  # what a mail server said is in its own language
    "serving/mail.py:HopelessJobError",
    "serving/mail.py:SettingsError",
    "serving/outbound.py:NoAnswerError",  # what a library says
}


def test_no_chinese_refusal_is_left_over() -> None:
    tasks = ", ".join(f"{task} of a {record_type}" for task, record_type in TASKS.items())
    held = {
        node.value
        for nodes in everything().values()
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(known()) - held - {tasks} == set()


def test_every_part_is_filled_in() -> None:
    """A Chinese sentence has no part that the English one lacks, and can be filled in."""
    for english, chinese in known().items():
        if "{" in chinese and english in phrases():
            names = [
                {name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, chinese)
            ]
            assert names[1] <= names[0], english
            assert all(
                not spec and not conversion
                for _, name, spec, conversion in Formatter().parse(chinese)
                if name is not None
            ), english


@cache
def phrases() -> set[str]:
    return {
        text
        for _, nodes in sources()
        for node in nodes
        if isinstance(node, ast.Call) and called(node) == "Phrase"
        for text in texts(node.args[0])
    }


def test_every_input_that_an_error_names_has_a_word() -> None:
    """Those of records have one already: `test_languages` looks after them."""
    named = {
        each.value: f"{name}:{node.lineno}"
        for name, nodes in sources()
        for node in nodes
        if isinstance(node, ast.Call) and called(node) in {"InvalidValueError", "FutureEventError"}
        for each in node.args[:1]
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }
    words = known("place").keys() | WORDS["field"].keys()
    missing = {
        place: where
        for place, where in named.items()
        if place not in words and not all(piece in words for piece in place.split(".")[1:] or [place])
    }
    assert missing == {}, HOW


def test_no_page_shows_an_error_past_the_translation() -> None:
    """Pages say `refusal(error)`; str(error) would be English, and an f-string of it as well."""
    found = []
    for name, nodes in sources():
        if not name.startswith("serving/web/") or name == "serving/web/refusals.py":
            continue
        for handler in nodes:
            if isinstance(handler, ast.ExceptHandler) and handler.name and not is_own(handler):
                found += [f"{name}:{line}" for line in shown(handler) if f"{name}" not in LOGGED]
        found += [
            f"{name}:{node.lineno}"
            for node in nodes
            if isinstance(node, ast.Call)
            and called(node) == "str"
            and any(isinstance(each, ast.Name) and each.id in {"error", "why"} for each in node.args)
            and name not in LOGGED
        ]
    assert found == []


LOGGED = {"serving/web/entry.py"}
"""Where an error goes into the log."""


def is_own(handler: ast.ExceptHandler) -> bool:
    """Say whether only errors are caught whose text is in the page's language already."""
    return isinstance(handler.type, ast.Name) and handler.type.id == "NotReadableError"


def shown(handler: ast.ExceptHandler) -> Iterator[int]:
    for node in ast.walk(handler):
        if isinstance(node, ast.Call) and called(node) == "str":
            held = node.args
        elif isinstance(node, ast.FormattedValue):
            held = [node.value]
        else:
            continue
        for each in held:
            if isinstance(each, ast.Name) and each.id == handler.name:
                yield node.lineno
            if isinstance(each, ast.Attribute) and each.attr in {"expected", "args"}:
                yield node.lineno


def test_the_compiled_refusals_are_up_to_date() -> None:
    with (FOLDER / "refusals.po").open("rb") as file:
        text = {
            (context_of(each), each.id): forms(each.string or "")
            for each in read_po(file, locale="zh")
            if each.id
        }
    with (FOLDER / "refusals.mo").open("rb") as file:
        found = {(context_of(each), each.id): forms(each.string or "") for each in read_mo(file) if each.id}
    assert found == text, HOW


def test_a_refusal_is_read_back_unless_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "choose_language", lambda: "zh")
    assert refusals.read_back("at most 12 rules") not in {"", "at most 12 rules"}
    long = f"at most {'1' * refusals.LONGEST} rules"
    assert refusals.read_back(long) == long


def context_of(message: Message) -> str | None:
    """Return the context of a message; from a compiled catalogue Babel gives it as bytes."""
    found: str | bytes | None = message.context
    return found.decode() if isinstance(found, bytes) else found


def test_every_chinese_refusal_is_chinese() -> None:
    left = [
        text
        for text in known().values()
        if not re.search(r"[\u4e00-\u9fff]", text)
        and re.search("[a-z]{4}", re.sub(r"{\w+}|Webhook", "", text))
    ]
    assert left == []
