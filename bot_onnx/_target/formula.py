"""Formulas for constants on a score path, such as ``1/sqrt(head_dim*3)``: numbers, dim names, + - * / ** and sqrt."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from bot_onnx._structure import Structure
from bot_onnx._target.messages import listing, suggestion
from bot_onnx.errors import SpecError

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, Callable[[float], float]] = {"sqrt": math.sqrt, "log": math.log, "exp": math.exp}
_MAX_LENGTH = 500


def _check(node: ast.AST, text: str) -> None:
    """Refuse every syntax but the arithmetic that :func:`evaluate` knows."""
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            return
        case ast.Name():
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, text)
            _check(right, text)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            _check(argument, text)
        case _:
            part = ast.unparse(node)
            raise SpecError(
                f"formula '{text}': '{part}' is not allowed; use numbers, dim names, + - * / **, "
                f"{', '.join(_FUNCTIONS)} of one argument."
            )


def parse(text: str) -> ast.expr:
    """Parse a formula into its checked syntax tree.

    Raises:
        SpecError: the text is no formula of the known kind; the message names the part that is not.
    """
    if len(text) > _MAX_LENGTH:
        raise SpecError(f"formula '{text[:40]}…' has {len(text)} characters; give at most {_MAX_LENGTH}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError(f"formula '{text}' cannot be read; write it such as '1/sqrt(head_dim*3)'.") from error
    _check(tree, text)
    return tree


def names_in(text: str) -> frozenset[str]:
    """Return the dim names that a formula reads."""
    functions = frozenset(_FUNCTIONS)
    return frozenset(node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)) - functions


def _value(node: ast.expr, names: Mapping[str, float], text: str) -> float:
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float):
            return float(value)
        case ast.Name(id=name):
            if name not in names:
                hint = suggestion(name, names)
                raise SpecError(f"formula '{text}': no dim is called '{name}'{hint or '.'} Known: {listing(names)}")
            return float(names[name])
        case ast.UnaryOp(op=op, operand=operand):
            inner = _value(operand, names, text)
            return -inner if isinstance(op, ast.USub) else inner
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, names, text), _value(right, names, text))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _FUNCTIONS[name](_value(argument, names, text))
    raise AssertionError(f"unchecked formula node {type(node).__name__}")  # parse() lets no other node through


def evaluate(formula: str | float, names: Mapping[str, float]) -> float:
    """Evaluate a constant's formula.

    Args:
        formula: a number, or a text such as ``1/sqrt(head_dim*3)``.
        names: size by dim name; :func:`size_names` makes it from a structure.

    Returns:
        The value, a finite float.

    Raises:
        SpecError: an unknown name, a syntax outside of the arithmetic, or a result that is not finite.

    Examples:
        >>> evaluate("1/sqrt(head_dim*4)", {"head_dim": 64})
        0.0625
    """
    if not isinstance(formula, str):
        return float(formula)
    tree = parse(formula)
    try:
        result = _value(tree, names, formula)
    except (ArithmeticError, ValueError) as error:
        raise SpecError(f"formula '{formula}' has no value here ({error}); correct it for these sizes.") from error
    if not math.isfinite(result):
        raise SpecError(f"formula '{formula}' gives {result}; correct it for these sizes.")
    return result


def size_names(
    structure: Structure, sizes: Mapping[str, int] | None = None, layers: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Map every name a formula may use to a size: dim ids, dim names, roles (their first dim), chains of layers.

    Args:
        structure: the analysed graph.
        sizes: new size by dim id; None for the source's sizes.
        layers: new number of layers by chain name; None for the source's.
    """
    found: dict[str, float] = {}
    for dim in structure.dims.values():
        size = float(dim.size if sizes is None else sizes[dim.id])
        found[dim.id] = found[dim.name] = size
    for dim in structure.dims.values():
        found.setdefault(dim.role, found[dim.id])
    for chain in structure.chains:
        found.setdefault(chain.name, float(chain.count if layers is None else layers[chain.name]))
    return found
