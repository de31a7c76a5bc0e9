"""Keys that the user gives: a JSON object from initializer to key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

from bot_onnx._analysis.passes import Analysis
from bot_onnx._checkpoint.sites import sites_of
from bot_onnx._checkpoint.types import Candidate, OpenAssignment, Part, Shape, Window
from bot_onnx._ops.nodes import is_float
from bot_onnx._structure import Structure
from bot_onnx.errors import CheckpointError

_FORMS = (
    'a key ("encoder.proj.weight"), a list of keys (tied), null (no parameter), or an object with "key" or "joined" '
    '(keys side by side in the tensor), and "transpose" (true or false), "axis", "part" (number of this part)'
)
_FIELDS = {"key", "joined", "transpose", "axis", "part"}


def give(assignment: OpenAssignment, analysis: Analysis, names: Mapping[str, Any], where: str) -> None:
    """Confirm tensors as the user says.

    Args:
        assignment: changed in place.
        analysis: of the graph.
        names: value by initializer; see :data:`_FORMS`.
        where: file that they come from, for messages.

    Raises:
        CheckpointError: no such tensor, or a value that says nothing.
    """
    for tensor, value in names.items():
        initializer = analysis.model.graph.initializers.get(tensor)
        if initializer is not None and is_float(initializer) and initializer.const_value is not None:
            shape = tuple(initializer.const_value.shape.numpy())  # of a single number, perhaps
            assignment.shapes.setdefault(tensor, shape)
        if tensor not in assignment.shapes:
            raise CheckpointError(
                f"{where}: the graph has no weight {tensor!r}; those without a key are: "
                f"{', '.join(map(repr, list(assignment.lost)[:6])) or 'none'}"
            )
        if value is None:
            assignment.candidates.pop(tensor, None)
            assignment.lost.pop(tensor, None)
            assignment.left_out[tensor] = f"{where} says so"
            continue
        try:
            turned = _turned(tensor, assignment, analysis)
            assignment.confirm(
                tensor, _candidates(tensor, value, assignment.shapes[tensor], analysis.structure, turned)
            )
        except ValueError as error:
            raise CheckpointError(f"{where}: {tensor!r}: {error}; write {_FORMS}") from error


def _turned(tensor: str, assignment: OpenAssignment, analysis: Analysis) -> bool:
    """Whether a tensor's axes stand in the other order in the framework, where the user does not say it."""
    candidates = assignment.candidates.get(tensor)
    if candidates is not None:
        return candidates[0].perm is not None
    sites = sites_of(analysis.model.graph.initializers[tensor])
    return bool(sites) and all(site.linear for site in sites)


def _candidates(tensor: str, value: object, shape: Shape, structure: Structure, turned: bool) -> tuple[Candidate, ...]:
    if isinstance(value, str):
        value = {"key": value}
    if isinstance(value, list) and value and all(isinstance(key, str) for key in value):
        return tuple(candidate for key in value for candidate in _candidates(tensor, key, shape, structure, turned))
    if not isinstance(value, dict) or value.keys() - _FIELDS or ("key" in value) == ("joined" in value):
        raise ValueError("this is no key")
    transpose, axis, part = value.get("transpose"), value.get("axis", 0), value.get("part")
    transpose = turned if transpose is None else transpose
    if not isinstance(transpose, bool) or not _is_count(axis, len(shape) or 1) or not (part is None or _is_count(part)):
        raise ValueError("'transpose' is true or false, 'axis' and 'part' are whole numbers")
    if not shape and ("joined" in value or part is not None):
        raise ValueError("a single number is neither joined nor a part")
    perm = tuple(reversed(range(len(shape)))) if transpose else None
    if "joined" not in value:
        if not isinstance(value["key"], str):
            raise ValueError("'key' is a text")
        whole = Candidate(value["key"], tensor, "given", perm)
        return (whole if part is None else replace(whole, part=Part(axis, part)),)
    keys = value["joined"]
    if not isinstance(keys, list) or len(keys) < 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError("'joined' is a list of two or more keys")
    own = len(shape) - 1 - axis if transpose else axis
    bounds = _bounds(structure, tensor, own, shape[own], len(keys))
    return tuple(
        Candidate(key, tensor, "given", perm, Window(own, start, stop, shape[own]))
        for key, start, stop in zip(keys, bounds, bounds[1:], strict=False)
    )


def _is_count(value: object, limit: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0 and (limit is None or value < limit)


def _bounds(structure: Structure, tensor: str, axis: int, size: int, count: int) -> list[int]:
    """Where the joined keys begin and end: as the axis is composed, else in equal parts."""
    stack = next((stack for stack in structure.stacks if tensor in stack.tensors), None)
    dim = structure.dims.get(stack.axes[axis] or "") if stack is not None else None
    if dim is not None and dim.kind == "concat" and len(dim.parts) == count:
        return list(accumulate((structure.dims[part].size for part in dim.parts), initial=0))
    if size % count:
        raise ValueError(f"{size} indices are not {count} equal parts")
    return list(range(0, size + 1, size // count))
