"""Rules of the project about itself: the import order, the size of modules, docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bot_onnx"
#: Data flows down this list; an import never points back up it.
ORDER = (
    "_deferred",
    "_ended",
    "_late",
    "_reasons",
    "errors",
    "_names",
    "_shards",
    "_installing",
    "_progress",
    "_workers",
    "_html",
    "_structure",
    "_ops",
    "_onnxfile",
    "_canonical",
    "_runs",
    "_axes",
    "_patterns",
    "_analysis",
    "_costs",
    "_stack",
    "_target",
    "_request",
    "_align",
    "_resample",
    "_surgery",
    "_proof",
    "_verify",
    "_fit",
    "_quantise",
    "_checkpoint",
    "_vocabulary",
    "_folders",
    "_recover",
    "_learn",
    "_sweep",
    "_report",
    "_page",
    "_origins",
    "_results",
    "_inspecting",
    "_verifying",
    "_engine",
    "_energies",
    "_held",
    "_again",
    "_planned",
    "_model",
    "_together",
    "_sweeping",
    "api",
    "demo",
    "_cli",
    "torch",
    "olive",
)
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)


def home(path: Path) -> str:
    """Name of the folder (or top-level module) that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Folders of the package that a module imports from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "bot_onnx" else [f"bot_onnx.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(name.split(".")[1] for name in names if name.startswith("bot_onnx."))
    return found & set(ORDER)


def test_every_folder_has_its_place() -> None:
    assert {home(path) for path in MODULES} <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_the_data_flow(path: Path) -> None:
    own = ORDER.index(home(path))
    assert all(ORDER.index(name) <= own for name in imported(path))


def test_modules_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text().splitlines())) > 420}
    assert not long


def test_every_folder_says_what_lives_there() -> None:
    for folder in {path.parent for path in MODULES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def undocumented(body: list[ast.stmt]) -> list[str]:
    """Public functions and classes (and what is public in these) that have no docstring."""
    found = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name}.{name}" for name in undocumented(node.body)]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_definitions_say_what_they_are(path: Path) -> None:
    """What ruff demands of packages without an underscore alone."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) and not undocumented(tree.body)


def test_every_package_has_its_folder_of_tests() -> None:
    packages = {path.name.strip("_") for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages <= {path.name for path in (ROOT / "tests" / "unit").iterdir()}
