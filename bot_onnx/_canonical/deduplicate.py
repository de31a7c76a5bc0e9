"""One weight that an exporter wrote many times: layers that share it, each with its own folded transpose."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_PROBED = 16


def share_copies(graph: ir.Graph) -> int:
    """Let matrices that hold the same numbers and lead to the same bias be one initializer; return how many went.

    Resized one by one they would become different weights, and a network that shares its layers (ALBERT) another one.
    The same numbers alone prove nothing: layers may have been copied to start another training from, as stacking does.
    """
    by_form: dict[tuple[object, ...], list[ir.Value]] = {}
    for value in graph.initializers.values():
        tensor = None if value.is_graph_output() else value.const_value
        if tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 1:
            for vector in _vectors_behind(value):
                by_form.setdefault((tensor.dtype, tuple(tensor.shape.numpy()), vector), []).append(value)
    gone: set[str] = set()
    for group in by_form.values():
        originals: dict[bytes, list[ir.Value]] = {}
        for value in group if len(group) > 1 else ():
            if value.name in gone:
                continue
            content = _content(value)
            probe = content[np.linspace(0, content.size - 1, min(content.size, _PROBED)).astype(int)].tobytes()
            alike = originals.setdefault(probe, [])
            same = next((other for other in alike if np.array_equal(_content(other), content)), None)
            if same is None:
                alike.append(value)
            else:
                ir.convenience.replace_all_uses_with(value, same)
                gone.add(value.name or "")
    for name in gone:
        del graph.initializers[name]
    return len(gone)


def _vectors_behind(value: ir.Value) -> list[ir.Value]:
    """Vectors that the results of the nodes that read ``value`` are added to, in graph order."""
    sums = [
        u.node for use in value.uses() for output in use.node.outputs for u in output.uses() if u.node.op_type == "Add"
    ]
    found = (other for node in sums for other in node.inputs if other is not None and other.const_value is not None)
    return list(dict.fromkeys(other for other in found if other.const_value is not None and other.const_value.size > 1))


def _content(value: ir.Value) -> NDArray[np.generic]:
    assert value.const_value is not None
    return value.const_value.numpy().reshape(-1)
