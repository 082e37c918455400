"""docs/importing.md is true: its example does what it says, and it names every key and word there is."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from crm_core.clock import FixedClock
from crm_core.fields import Known
from crm_core.history import state_as_of
from crm_core.importing import expressions, mapping, specs, values
from crm_core.records import Lead
from tests.importing.conftest import Workbench

PAGE = Path(__file__).parents[2] / "docs" / "importing.md"
TEXT = PAGE.read_text(encoding="utf-8")
LATER = " a week later"


def files(when: str = "") -> dict[str, str]:
    """Return the files of the example by name."""
    return dict(re.findall(rf"`([\w.]+)`{when}:\n\n```\w+\n(.*?)```", TEXT, re.DOTALL))


def screens() -> list[list[str]]:
    """Return what the example shows on the screen, without the command."""
    blocks: list[str] = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    return [block.strip().splitlines()[1:] for block in blocks]


def test_the_example_does_what_the_page_says(bench: Workbench, clock: FixedClock) -> None:
    found = files()
    for name, content in found.items():
        bench.write(name, content)
    first, second = screens()
    assert bench.run(found["bicycles.toml"]).in_words() == first

    clock.advance(timedelta(days=7))
    (changed,) = files(LATER).items()
    bench.write(*changed)
    assert bench.run(found["bicycles.toml"]).in_words() == second

    (change,) = bench.updates("custom.bikes")
    assert (change.old, change.new, change.recorded_at) == (12, 20, clock.now())
    lead = bench.records("lead")[1]
    with bench.store.reading() as session:
        day_after = state_as_of(session, Lead, lead.id, lead.occurred_at + timedelta(days=1))
    assert day_after is not None
    assert day_after["custom.bikes"] == 12


def _keys_of_the_parser() -> set[str]:
    asked = r"(?:typed|choice|texts|number|value|table|tables|_instant|_character|parse_value|parse_zone)"
    found = set()
    for module in (mapping, expressions):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        found |= set(re.findall(rf'{asked}\((?:\w+, )?"(\w+)"', source))
        found |= set(re.findall(r'"(\w+)" in (?:table|inner)', source))
    return found


@pytest.mark.parametrize(
    "word",
    sorted(
        _keys_of_the_parser()
        | set(expressions.TAKES)
        | set(expressions._FORMS)
        | set(mapping._TESTS)
        | set(specs.EVENTS)
        | set(Known)
        | set(values.Kind)
        | set(values.Within)
    ),
)
def test_every_key_and_word_of_a_mapping_is_on_the_page(word: str) -> None:
    code = re.findall(r"`[^`\n]+`", TEXT)
    assert any(re.search(rf"\b{word}\b", each) for each in code)


def test_the_keys_are_found_in_the_parser() -> None:
    keys = _keys_of_the_parser()
    assert {"external_id", "midnight_in", "if_before_start", "newest_of", "shift_days", "delimiter"} <= keys
    assert len(keys) > 40
