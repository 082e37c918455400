"""Every notebook runs from top to bottom on a small company, and says which decision it is about."""

from __future__ import annotations

import ast
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

from crm_core import migrations
from crm_core.clock import micros
from crm_core.promotions import Promotion
from crm_core.store import Store
from features.feature_set import feature_set_for
from models.building import build_bundle, gather
from models.fitting import Recipe, Rung
from models.kept import keep_bytes
from models.questions import ask, first_instant
from models.simulation import simulate_company
from models.tasks import get_task
from serving.home import Home
from tests.test_docs import headings

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
TASK = "win_probability"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder like that of the demonstration, only smaller: a company and a model of its deals."""
    home = Home.at(tmp_path_factory.mktemp("notebooks"))
    home.create()
    migrations.upgrade(home.database_url)
    store = Store(home.database_url)
    simulate_company(store, size="small", seed=1)
    put_in_charge(home, store)
    store.close()
    return home.folder


def put_in_charge(home: Home, store: Store) -> None:
    """Fit a plain model as of now and let it serve."""
    task, features, now = get_task(TASK), feature_set_for(store, TASK), store.clock.now()
    questions = ask(store, task, features, task.ask, start=first_instant(store, task), until=now)
    recipe = Recipe(rung=Rung.LOGISTIC, penalty=30.0)
    bundle = build_bundle(gather(questions, store, features, micros(now)), recipe=recipe).bundle
    home.models.mkdir(exist_ok=True)
    keep_bytes(home.models, bundle.to_bytes(), bundle.sha256)
    with store.transaction() as transaction:
        transaction.session.add(
            Promotion(
                task=TASK,
                model_version=f"{TASK}-1-{bundle.sha256[:8]}",
                sha256=bundle.sha256,
                run_id="notebooks",
                promoted_at=transaction.now,
                reason="for the notebooks",
            )
        )


def text_of(path: Path) -> str:
    """Return what a notebook says to its reader."""
    cells = jupytext.read(path).cells
    return "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")


def shown(cell: Any) -> str:
    """Return what a cell printed and showed."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
    return "\n".join(parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: each kernel takes seconds to start and to import the same."""
    monkeypatch.setenv("CRM_HOME", str(demo))
    cells = [cell["source"] for cell in jupytext.read(path).cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": path.stem}
    told = [run_cell(source, names) for source in cells]
    names["store"].close()
    assert len(cells) >= 5
    assert told[-1], "the last cell answers the question"


def run_cell(source: str, names: dict[str, Any]) -> str:
    """Run a cell as a notebook does; return what it printed and showed."""
    body = ast.parse(source)
    last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
    with redirect_stdout(StringIO()) as out:
        exec(compile(body, "cell", "exec"), names)  # noqa: S102  our own notebooks
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307  as above
            out.write("" if shown is None else repr(shown))
    return out.getvalue().strip()


@pytest.mark.timeout(300)
def test_a_notebook_runs_in_a_kernel(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "notebooks" / "02_define_a_label.py"
    monkeypatch.setenv("CRM_HOME", str(demo))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources={}).execute(cwd=str(ROOT))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 5
    assert shown(code[-1]), "the last cell answers the question"


def test_there_are_the_four_that_the_documentation_names() -> None:
    named = re.findall(r"notebooks/(\w+)\.py", (ROOT / "docs" / "development.md").read_text())
    assert [path.stem for path in NOTEBOOKS] == sorted(set(named))
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_one_question_and_links_the_decision(path: Path) -> None:
    text = text_of(path)
    titles = re.findall(r"^# (.+)$", text, re.MULTILINE)
    assert len(titles) == 1
    assert titles[0].endswith("?")
    links = re.findall(r"\]\(([^)\s]+)\)", text[text.index("The decision") :])
    assert links
    for link in links:
        page, _, heading = link.partition("#")
        target = (path.parent / page).resolve()
        assert target.exists(), link
        assert not heading or heading in headings(target), link


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_plain_text_without_outputs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    assert jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="py:percent").endswith(text)
    assert not list(path.parent.glob("*.ipynb"))
