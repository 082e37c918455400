"""The source that a model needs to be read: the modules behind `models.served`, and no others.

They are laid beside the model, so that MLflow loads it in any process that has the libraries. The service
itself never looks at them: it reads the data with its own code.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

ENTRY = "models.served"
"""The module that MLflow calls."""

_ROOT = Path(__file__).resolve().parents[1]
_OURS = frozenset({"crm_core", "features", "models"})


def ship_code(folder: Path) -> list[Path]:
    """Copy the modules that ENTRY needs into a folder, and return the packages there."""
    for module in needed_modules():
        source = _file_of(module)
        if source is not None:
            target = folder / source.relative_to(_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return sorted(path for path in folder.iterdir() if path.is_dir())


def needed_modules() -> list[str]:
    """Return the modules of ours that are imported, now or when they are first needed, from ENTRY on."""
    seen: set[str] = set()
    ahead = [ENTRY]
    while ahead:
        module = ahead.pop()
        file = _file_of(module)
        if file is None or module in seen:
            continue
        seen.add(module)
        ahead += [module.rpartition(".")[0], *_imports(ast.parse(file.read_text(encoding="utf-8")))]
    return sorted(seen)


def _file_of(module: str) -> Path | None:
    """Return the file of a module of ours; None for a name within one, and for a library."""
    if module.partition(".")[0] not in _OURS:
        return None
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.is_file() else None


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports, but for what only type checkers see."""
    ahead = [tree]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{name.name}" for name in node.names))
        ahead += ast.iter_child_nodes(node)
