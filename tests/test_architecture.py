"""The borders between the parts hold, and the rules that watch over them do bite."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crm_core", "features", "models", "serving")
HEAVY = {"lightgbm", "matplotlib", "mlflow", "pandas", "scipy", "sklearn"}


def modules() -> Iterator[Path]:
    """Yield every module of the four packages."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def python_files() -> Iterator[Path]:
    """Yield every Python file of the project."""
    yield from modules()
    for folder in ("tests", "docs", ".ci", "notebooks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def refused(source: str, where: str) -> set[str]:
    """Return the rules by which ruff refuses a piece of code that stood in the file `where`."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--output-format",
        "concise",
        "--stdin-filename",
        where,
        "-",
    ]
    answer = subprocess.run(command, input=source, capture_output=True, text=True, check=False, cwd=ROOT)
    return set(re.findall(r":\d+:\d+: ([A-Z]+\d+) ", answer.stdout))


# --------------------------------------------------------------------------------------- who may import whom


def test_every_contract_between_the_packages_is_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert answer.returncode == 0, answer.stdout
    assert "0 broken" in answer.stdout


@pytest.mark.parametrize("module", ["serving.cli", "serving.settings", "crm_core.store", "models.bundle"])
def test_starting_the_program_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert HEAVY & set(answer.stdout.split()) == set()


@pytest.mark.parametrize("library", sorted(HEAVY))
def test_a_heavy_library_is_never_imported_at_the_top_of_a_module_of_the_service(library: str) -> None:
    assert "TID253" in refused(f"import {library}\n", "serving/pages.py")


# --------------------------------------------------------------------------------------- time and environment

ASKS_THE_TIME = [
    "import datetime\nNOW = datetime.datetime.now(datetime.UTC)\n",
    "from datetime import UTC, datetime\nNOW = datetime.now(UTC)\n",
    "from datetime import datetime\nNOW = datetime.utcnow()\n",
    "from datetime import datetime\nNOW = datetime.today()\n",
    "from datetime import date\nTODAY = date.today()\n",
    "import time\nNOW = time.time()\n",
    "from time import time_ns\nNOW = time_ns()\n",
    "from sqlalchemy import func\nNOW = func.now()\n",
    "import pandas\nNOW = pandas.Timestamp.now()\n",
]
READS_THE_ENVIRONMENT = [
    "import os\nHOME = os.environ['CRM_HOME']\n",
    "import os\nHOME = os.getenv('CRM_HOME')\n",
    "from os import environ\nHOME = environ['CRM_HOME']\n",
]


@pytest.mark.parametrize("source", ASKS_THE_TIME)
def test_only_the_clock_asks_what_time_it_is(source: str) -> None:
    assert "TID251" in refused(source, "serving/rescoring.py")
    assert "TID251" not in refused(source, "crm_core/clock.py")


@pytest.mark.parametrize("source", READS_THE_ENVIRONMENT)
def test_only_the_settings_read_the_environment(source: str) -> None:
    assert "TID251" in refused(source, "models/scoring.py")
    assert "TID251" not in refused(source, "serving/settings.py")


@pytest.mark.parametrize(
    ("rule", "source"), [("T201", "print('scored')\n"), ("S301", "import pickle\npickle.loads(b'')\n")]
)
def test_packages_neither_print_nor_unpickle(rule: str, source: str) -> None:
    assert rule in refused(source, "models/bundle.py")


def test_no_module_has_talked_its_way_past_these_rules() -> None:
    excused = [
        f"{name_of(path)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"noqa:.*\b(TID25\d|DTZ00[2-5]|DTZ01[12]|T20\d|S301)\b|ruff: noqa|mypy: ", line)
    ]

    assert excused == []


# --------------------------------------------------------------------------------------- style


def test_every_exception_to_a_rule_gives_its_reason() -> None:
    silent = [
        f"{name_of(path)}:{number}"
        for path in python_files()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"#\s*(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\])\s*$", line)
    ]

    assert silent == []


def test_no_module_is_called_after_nothing_in_particular() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}

    assert [name_of(path) for path in modules() if vague & set(path.with_suffix("").parts)] == []


def lengths() -> list[int]:
    """Return the length in lines of every function of the packages."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_functions_are_short() -> None:
    found = lengths()

    assert statistics.median(found) <= 12
    assert statistics.quantiles(found, n=10)[-1] <= 30


# --------------------------------------------------------------------------------------- what is installed


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_every_file_by_its_hash_and_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(blocks) > 50
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"https?:|file:|--index|--find-links|(?<!#) /\S+", text) == []


def test_both_locks_name_the_same_versions_of_what_the_program_needs() -> None:
    pinned = {
        lock: set(re.findall(r"^([a-z0-9].*?) \\$", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    }

    assert pinned["requirements.lock"] <= pinned["requirements-dev.lock"]
