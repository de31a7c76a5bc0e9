"""Keys of lost tensors from the signature that the newer exporter leaves: the module's entries that have none yet."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir

from bot_onnx._checkpoint.places import Places, free_keys
from bot_onnx._checkpoint.signature import Signature
from bot_onnx._checkpoint.sites import Site, owner, sites_of
from bot_onnx._checkpoint.types import Array, Candidate, OpenAssignment, Shape, Window
from bot_onnx._ops import Calc, record
from bot_onnx._ops.nodes import is_float

#: A value of the exporter's own graph is called after the function that made it.
_MADE_BY = re.compile(r"_?(?P<function>[a-z_]+?)(_\d+)?(__use\d+(_\d+)?)?")
_TURNED = frozenset({"permute", "t", "transpose", "numpy_t"})
_COPIED = frozenset({"to", "to_copy", "clone", "detach", "alias", "contiguous"})
_RESHAPED = frozenset({"view", "unsqueeze", "reshape", "unsafe_view"})
_LEAVES = {Calc.PRODUCT: "weight", Calc.SUM: "bias"}
_FEWEST, _MOST = 2, 4  #: entries that are looked for in a joined tensor


def find_signed(assignment: OpenAssignment, graph: ir.Graph, places: Places) -> None:
    """Confirm lost tensors whose call, or whose module, has one entry left without a tensor."""
    signature = places.signature
    if signature is None:
        return
    _find_exponentials(assignment, graph, places)
    for name in list(assignment.lost):
        sites = sites_of(graph.initializers[name])
        if not sites or len({site.path for site in sites}) > 1 or any(site.folded for site in sites):
            continue
        free = free_keys(places, assignment.keys(), sites[0])
        made = _MADE_BY.fullmatch(name)
        function = "" if made is None else made["function"]
        candidates: tuple[Candidate, ...] = ()
        if function == "cat":
            candidates = _joined(name, _read(graph, name), free, sites[0], signature)
            if candidates:
                keys = " and ".join(repr(candidate.key) for candidate in candidates)
                assignment.notes.append(f"{name!r} joins {keys}, taken in the order in which their module has them.")
        else:
            candidate = _one(name, function, assignment.shapes[name], free, sites[0], signature)
            candidates = () if candidate is None else (candidate,)
        if candidates:
            assignment.confirm(name, candidates)
        elif free:
            more = f" and {len(free) - 3} more" if len(free) > 3 else ""
            assignment.lose(name, f"computed from some of {', '.join(map(repr, free[:3]))}{more}")


def _find_exponentials(assignment: OpenAssignment, graph: ir.Graph, places: Places) -> None:
    """Confirm numbers that are the exponential of the one entry left in their module (a learned temperature)."""
    for name, value in graph.initializers.items():
        made, sites = _MADE_BY.fullmatch(name), sites_of(value)
        single = is_float(value) and value.const_value is not None and value.const_value.size == 1
        if made is None or made["function"] != "exp" or not single or name in assignment.shapes or not sites:
            continue
        free = [key for key in free_keys(places, assignment.keys(), sites[0]) if owner(key) == sites[0].path]
        if len(free) == 1:
            assignment.shapes[name] = _read(graph, name).shape
            assignment.confirm(
                name, (Candidate(free[0], name, "scope", () if _read(graph, name).ndim else None, log=True),)
            )


def _leaf(site: Site) -> str | None:
    """Name of the parameter that an op multiplies with, or adds."""
    calc = record(site.node).calc
    return None if calc is None else _LEAVES.get(calc)


def _one(name: str, function: str, shape: Shape, free: list[str], site: Site, signature: Signature) -> Candidate | None:
    """The candidate of the one entry that a tensor was made from, where its making can be undone."""
    given = [key for key in signature.given(site.node) if key in free]
    wide = tuple(axis for axis, size in enumerate(shape) if size > 1)
    if function == "val":  # a step of the call itself
        leaf = site.leaf or _leaf(site)
        keys = given if len(given) == 1 else [key for key in given if key.rpartition(".")[2] == leaf]
        if len(keys) != 1:
            return None
        if _leaf(site) is not None and len(wide) == 1:
            return Candidate(keys[0], name, "scope", wide if len(shape) > 1 else None)
        first = signature.given(site.node)[:1] == keys  # rows of a table, looked up along its first axis
        return Candidate(keys[0], name, "scope") if first and site.node.op_type == "Gather" else None
    if len(free) != 1:
        return None
    if function in _TURNED and len(shape) == 2:
        return Candidate(free[0], name, "scope", (1, 0))
    if function in _COPIED:
        return Candidate(free[0], name, "scope")
    if function in _RESHAPED and len(wide) == 1:
        return Candidate(free[0], name, "scope", wide)
    if function == "embedding":  # every row of a table, looked up in turn
        leading = len(shape) - 2
        if leading >= 0 and set(shape[:leading]) <= {1}:
            return Candidate(free[0], name, "scope", (leading, leading + 1) if leading else None)
    return None


def _joined(name: str, values: Array, free: list[str], site: Site, signature: Signature) -> tuple[Candidate, ...]:
    """Claims of entries that were joined into one vector, between them zeros of buffers that are not saved."""
    zeros = [key for key in signature.unsaved if owner(key) == site.path]
    count = len(free) + len(zeros)
    if values.ndim != 1 or not _FEWEST <= count <= _MOST or values.size % count or not free:
        return ()
    length = values.size // count
    starts = range(0, values.size, length)
    empty = [start for start in starts if not np.any(values[start : start + length])]
    if len(empty) != len(zeros):
        return ()
    gaps = tuple((start, start + length) for start in empty)
    filled = [start for start in starts if start not in empty]
    return tuple(
        Candidate(key, name, "scope", None, Window(0, start, start + length, values.size, gaps if place == 0 else ()))
        for place, (key, start) in enumerate(zip(free, filled, strict=True))
    )


def _read(graph: ir.Graph, name: str) -> Array:
    tensor = graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()
