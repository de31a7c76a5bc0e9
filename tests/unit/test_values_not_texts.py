"""Roles and reasons are values: no module compares a role with a text, makes or reads the text of a reason."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot_onnx import errors
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Role
from bot_onnx.errors import said

PACKAGE = Path(errors.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROLES = frozenset(role.value for role in Role)
#: Attributes that hold a :class:`Reason`, and what reads a text for a part of it.
REASONS = frozenset({"frozen", "resizable", "reason", "obstacle", "pinned"})
SEARCHES = frozenset({"startswith", "endswith", "find", "index", "split", "partition", "removeprefix", "removesuffix"})
MAKERS = frozenset({"freeze", "fresh", "_freeze", "Obstacle", "_near"})


def texts(node: ast.AST) -> Iterator[str]:
    return (found.value for found in ast.walk(node) if isinstance(found, ast.Constant) and isinstance(found.value, str))


def names(node: ast.AST) -> set[str]:
    """Names and attributes in an expression."""
    found = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return found | {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def role_literals(tree: ast.AST) -> Iterator[int]:
    """Lines that compare a role with a text, or ask for one by it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any("role" in names(side) for side in sides) and any(ROLES.intersection(texts(side)) for side in sides):
                in_keys = isinstance(node.ops[0], ast.In | ast.NotIn) and isinstance(node.left, ast.Constant)
                if not in_keys:
                    yield node.lineno
        elif isinstance(node, ast.Call) and names(node.func) & {"with_role", "give"}:
            yield from (node.lineno for argument in node.args if ROLES.intersection(texts(argument)))


def role_tables(tree: ast.Module) -> Iterator[int]:
    """Lines of constants that are sets of roles spelled out as texts; a type is none."""
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Tuple | ast.List | ast.Set | ast.Call | ast.Constant):
            found = list(texts(value))
            if found and ROLES.issuperset(found):
                yield node.lineno


def read_reasons(tree: ast.AST) -> Iterator[int]:
    """Lines that look for something in the text of a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            held = node.comparators[0]
            if isinstance(held, ast.Attribute) and held.attr in REASONS and list(texts(node.left)):
                yield node.lineno
            if "said" in names(held):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES:
            of = node.func.value
            if "said" in names(of) or (isinstance(of, ast.Attribute) and of.attr in REASONS):
                yield node.lineno


def made_reasons(tree: ast.AST) -> Iterator[int]:
    """Lines that freeze a dim, or end a walk, with a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and names(node.func) & MAKERS:
            worded = (argument for argument in node.args if isinstance(argument, ast.JoinedStr | ast.Constant))
            yield from (node.lineno for argument in worded if list(texts(argument)))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_roles_and_reasons_are_values(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [*role_literals(tree), *role_tables(tree)]
    assert not [*read_reasons(tree), *made_reasons(tree)]


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (role_literals, "dim.role == 'hidden'"),
        (role_literals, "'heads' != axis.role"),
        (role_literals, "dim.role in ('vocab', 'positions')"),
        (role_literals, "(dims[heads].role, dims[group].role) == ('kv_heads', 'group')"),
        (role_literals, "comp.with_role('hidden')"),
        (role_tables, "_FIXED = frozenset({'count', 'io'})"),
        (role_tables, "_CHOSEN = 'vocab'"),
        (read_reasons, "'no formula' in dim.frozen"),
        (read_reasons, "'no formula' in said(dim.frozen)"),
        (read_reasons, "said(reason).startswith('Gather')"),
        (read_reasons, "chain.resizable.removeprefix('its')"),
        (made_reasons, "table.freeze(dim, f'{node.op_type} does it')"),
        (made_reasons, "Obstacle('no')"),
    ],
)
def test_the_checks_see_what_they_are_for(check: object, line: str) -> None:
    assert list(check(ast.parse(line)))  # type: ignore[operator]


@pytest.mark.parametrize("kind", Why)
def test_every_reason_has_a_sentence_of_its_own(kind: Why) -> None:
    reason = Reason(kind, "Op", "the_node", "a_name", 7, ((1, 2), (3, 4)), "what was seen")
    text = said(reason)
    assert text and text != kind and "{" not in text
    assert [other for other in Why if said(Reason(other, *_fields(reason))) == text] == [kind]


def _fields(reason: Reason) -> tuple[object, ...]:
    return reason.op, reason.node, reason.name, reason.number, reason.sizes, reason.seen


def test_every_reason_is_given_somewhere() -> None:
    given = set[str]()
    for path in MODULES:
        if path.stem != "errors" and path.stem != "_reasons":
            given |= {
                node.attr
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Why"
            }
    assert given == {kind.name for kind in Why}


def test_sentences_ask_for_fields_that_a_reason_has() -> None:
    known = {"at", *Reason.__dataclass_fields__} - {"kind"}
    for kind, sentence in errors._SENTENCES.items():
        assert {field for _, field, _, _ in string.Formatter().parse(sentence) if field} <= known, kind
