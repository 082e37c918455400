"""The documentation says what there is, and what it says is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from docs import generate

ROOT = generate.ROOT
PAGES = generate.pages()
WRITTEN = [*PAGES, ROOT / "CHANGELOG.md"]
PART_OF = {
    "make": "development.md",
    "cli": "cli.md",
    "settings": "settings.md",
    "api": "api.md",
    "errors": "errors.md",
    "features": "features.md",
    "records": "records.md",
    "views": "views.md",
    "amounts": "views.md",
}


class Mention(NamedTuple):
    """Something that a page names."""

    page: str
    what: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def mentions(pattern: str) -> Iterator[Mention]:
    """Yield what the pages name, in a block of code or within backquotes."""
    for page in WRITTEN:
        for code in re.findall(r"^```.*?^```|`[^`\n]+`", page.read_text(), re.MULTILINE | re.DOTALL):
            for found in re.findall(pattern, code, re.MULTILINE):
                yield Mention(name_of(page), found)


def wrong(found: Iterator[Mention], known: set[str]) -> list[Mention]:
    """Return the mentions of what there is not; an empty search is a fault of the search."""
    listed = list(found)
    assert listed, "the pattern finds nothing at all"
    return [mention for mention in listed if mention.what not in known]


# ------------------------------------------------------------------------------- what there is, is said


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_parts_made_from_the_code_are_up_to_date(page: Path) -> None:
    text = page.read_text()

    assert generate.rendered(text) == text, f"{name_of(page)} is out of date; run: make docs"


@pytest.mark.parametrize(("part", "page"), PART_OF.items())
def test_each_part_stands_on_its_page(part: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()

    assert f"<!-- begin {part} -->" in text
    assert f"<!-- end {part} -->" in text


def test_no_part_is_without_a_page() -> None:
    assert set(PART_OF) == set(generate.PARTS)


def test_every_command_and_option_says_what_it_is_for() -> None:
    silent = [
        f"{words} {parameter.opts[0]}"
        for words, command in generate.commands().items()
        for parameter in command.params
        if "--" in parameter.opts[0] and not getattr(parameter, "help", None)
    ]
    silent += [words for words, command in generate.commands().items() if not command.help]

    assert silent == []


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in generate.settings().items() if not field.description] == []


def test_every_call_of_the_api_says_what_it_does() -> None:
    operations = generate.operations()

    assert operations
    assert [name for name, operation in operations.items() if not operation.get("summary")] == []


def test_every_error_says_what_it_means_in_words_of_its_own() -> None:
    meanings = {error: generate.first_line(error) for error in generate.errors()}

    assert [error.__name__ for error, meaning in meanings.items() if not meaning] == []
    assert len(set(meanings.values())) == len(meanings)


def test_every_feature_says_what_it_means() -> None:
    from features.feature_set import FEATURE_SETS

    assert set(FEATURE_SETS) == {"lead_scoring", "win_probability", "churn"}
    features = [feature for feature_set in FEATURE_SETS.values() for feature in feature_set.features]
    assert [feature.name for feature in features if not feature.sentence_en] == []


def test_every_target_in_the_makefile_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[0].split()

    assert set(generate.make_targets()) == set(phony) - {"setup-dev", "pytest"}


def test_demo_is_the_first_target_that_make_lists() -> None:
    assert next(iter(generate.make_targets())) == "demo"


# ------------------------------------------------------------------------------- what is said, is there


def test_every_command_that_is_named_exists() -> None:
    words = {tuple(command.split()[1:]) for command in generate.commands()}
    known = {" ".join(command[:length]) for command in words for length in (1, 2)}
    groups = {command[0] for command in words if len(command) > 1}

    named = [
        Mention(page, what if what.split()[0] in groups else what.split()[0])
        for page, what in mentions(r"(?:^|[`/ ])crm ([a-z]+(?: [a-z]+(?:-[a-z]+)*)?)")
    ]

    assert wrong(iter(named), known) == []


def test_every_make_target_that_is_named_exists() -> None:
    assert wrong(mentions(r"(?:^|[` ])make ([a-z]+)"), set(generate.make_targets())) == []


def test_every_setting_that_is_named_exists() -> None:
    known = {*generate.settings(), "CRM_", "CRM_REAL_DATA", "CRM_THOROUGH"}

    assert wrong(mentions(r"\b(?<!\$)(?:CRM|MLFLOW)_[A-Z_]*"), known) == []


def test_every_call_that_is_named_exists() -> None:
    known = {re.sub(r"\{[^}]*\}", "42", path.split()[1]) for path in generate.operations()}

    named = [Mention(page, re.sub(r"\{[^}]*\}", "42", what)) for page, what in mentions(r"/api/v1/[\w/{}-]+")]

    assert wrong(iter(named), known) == []


def test_every_module_and_file_that_is_named_exists() -> None:
    top = "crm_core|features|models|serving|tests|docs|notebooks|\\.ci"
    named = [mention for mention in mentions(rf"`((?:{top})/[\w/.]+)`") if "*" not in mention.what]

    assert named
    assert [mention for mention in named if not (ROOT / mention.what).exists()] == []


def links(page: Path) -> list[str]:
    """Return where a page's links and pictures lead, without those that leave the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def headings(page: Path) -> set[str]:
    """Return the names by which a page's headings may be linked to."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page.suffix == ".md" and page.exists() and page not in seen:
            seen.add(page)
            ahead += [
                (page.parent / link.partition("#")[0]).resolve() for link in links(page) if link[0] != "#"
            ]

    assert set(PAGES) - seen == set()


def test_the_readme_fits_on_a_screen_or_so() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 70
