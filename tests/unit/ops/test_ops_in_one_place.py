"""Nothing outside ``bot_onnx/_ops`` lists names of ops, or tells ops apart by long chains of comparisons."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from bot_onnx._ops import records

PACKAGE = Path(__file__).resolve().parents[3] / "bot_onnx"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "_ops")
NAMES = {op.name for op in records()} | {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
FEWEST = 3  #: names that make a table


def names_in(nodes: Iterator[ast.expr] | list[ast.expr | None] | list[ast.expr]) -> set[str]:
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text.rpartition("::")[2] for text in texts} & NAMES


def compared(test: ast.expr) -> set[str]:
    """Names of ops that anything is compared with, or looked for among."""
    found: set[str] = set()
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            found |= names_in(ast.walk(node))  # type: ignore[arg-type]
    return found


def chain(node: ast.If) -> set[str]:
    found = compared(node.test)
    following = node.orelse
    return found | chain(following[0]) if len(following) == 1 and isinstance(following[0], ast.If) else found


def listed(node: ast.AST) -> set[str]:
    """Names of ops that a literal, a text of names, a test or a chain of tests lists."""
    if isinstance(node, ast.Set | ast.Tuple | ast.List):
        return names_in(node.elts)
    if isinstance(node, ast.Dict):
        return names_in(node.keys)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = {word.rpartition("::")[2] for word in node.value.split()}
        return words if words <= NAMES else set()
    if isinstance(node, ast.BoolOp):
        return compared(node)
    return chain(node) if isinstance(node, ast.If) else set()


def tables(source: str) -> list[tuple[int, set[str]]]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []  # what registers a rule
    nodes = ast.walk(tree)
    return [(getattr(node, "lineno", 0), found) for node in nodes if len(found := listed(node)) >= FEWEST]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_lists_ops(path: Path) -> None:
    assert not tables(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        '_FORM = frozenset({"Cast", "Reshape", "Identity"})',
        '_FORM = frozenset("Cast Reshape Identity".split())',
        '_SLOTS = {"Conv": 1, "Gemm": 1, "com.microsoft::Attention": 1}',
        'x = node.op_type in ("Add", "Sub", "Mul")',
        'x = node.op_type == "Add" or node.op_type == "Sub" or node.op_type == "Mul"',
        'if op == "Add":\n    a()\nelif op == "Sub":\n    b()\nelif op in ("Mul", "Div"):\n    c()',
    ],
)
def test_a_table_is_found(source: str) -> None:
    assert tables(source)


@pytest.mark.parametrize(
    "source",
    ['@rule("Conv", "ConvTranspose", "ConvInteger")\ndef a(): ...', '@walks(*"Add Sub Mul".split())\ndef a(): ...'],
)
def test_the_registration_of_a_rule_is_no_table(source: str) -> None:
    assert not tables(source)
