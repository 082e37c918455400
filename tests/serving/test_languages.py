"""Every sentence of the pages is there in Chinese, and the compiled catalogue is that of the text."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from crm_core.deeds import Done
from crm_core.records import RECORD_TYPES
from serving.web.words import WORDS

WEB = Path(__file__).resolve().parents[2] / "serving" / "web"
FOLDER = WEB / "translations" / "zh" / "LC_MESSAGES"
KEYWORDS = {"_": None, "gettext": None, "lazy_gettext": None, "ngettext": (1, 2)}
HOW = "see messages.po, and then: .venv/bin/pybabel compile -d serving/web/translations"


@cache
def catalogue() -> Catalog:
    with (FOLDER / "messages.po").open("rb") as file:
        return read_po(file, locale="zh")


@cache
def messages() -> set[str | tuple[str, ...]]:
    found = extract_from_dir(
        WEB, method_map=[("**.py", "python"), ("**/templates/**.html", "jinja2")], keywords=KEYWORDS
    )
    return {message for _, _, message, _, _ in found}


def test_every_sentence_is_translated() -> None:
    translated = {
        message.id for message in catalogue() if message.id and message.string and not message.fuzzy
    }
    missing = {message if isinstance(message, str) else tuple(message) for message in messages()} - translated
    assert not missing, HOW


def test_every_deed_and_every_field_has_a_word() -> None:
    fields = {name for model in RECORD_TYPES.values() for name in model.__table__.columns.keys()}  # noqa: SIM118  columns are no dict
    assert (set(Done) - set(WORDS["deed"]), fields - set(WORDS["field"])) == (set(), set())


def test_no_translation_is_left_over() -> None:
    known = messages()
    assert {message.id for message in catalogue() if message.id} <= known


def test_no_sentence_is_translated_twice() -> None:
    """Which of two translations is compiled would depend on their order."""
    lines = (FOLDER / "messages.po").read_text(encoding="utf-8").splitlines()
    counted = Counter(line for line in lines if line.startswith("msgid ") and line != 'msgid ""')
    assert [line for line, times in counted.items() if times > 1] == []


def test_placeholders_survive_the_translation() -> None:
    assert [(message.id, errors) for message, errors in catalogue().check()] == []


def test_every_translation_can_be_filled_in() -> None:
    """Templates fill in every text: a lone percent sign would be an error on the page."""
    for message in catalogue():
        for text in forms(message.string) if message.id and message.string else ():
            names = re.findall(r"%\((\w+)\)", text)
            assert text % dict.fromkeys(names, 1), message.id


def test_the_compiled_catalogue_is_up_to_date() -> None:
    with (FOLDER / "messages.mo").open("rb") as file:
        compiled = texts_of(read_mo(file))
    assert compiled == texts_of(catalogue()), HOW


def texts_of(found: Catalog) -> dict[str, list[str]]:
    """Return the translations by the first form of each message; one format keeps lists, the other tuples."""
    return {forms(message.id)[0]: forms(message.string or "") for message in found if message.id}


def forms(text: str | list[str] | tuple[str, ...]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)
