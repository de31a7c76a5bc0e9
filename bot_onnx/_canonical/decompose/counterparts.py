"""What is known while a quantised graph is decomposed: the floating-point counterpart of every quantised value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._canonical.decompose.packed import dequantised
from bot_onnx._canonical.decompose.roundings import Rounded, rounded_by
from bot_onnx._canonical.decompose.saturation import saturated

Decompose = Callable[["Quantised", Site], bool]
DECOMPOSERS: dict[str, Decompose] = {}


@dataclass(slots=True)
class Quantised:
    """State of the rewriting of one graph.

    Attributes:
        graph: the graph.
        floats: the floating-point counterpart of every quantised value met so far.
        taken: names in use.
        weights: floats made of packed weights, by what they were made of: a shared weight stays shared.
        rounded: activations that calibrated scales round.
    """

    graph: ir.Graph
    floats: dict[ir.Value, ir.Value] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    weights: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    rounded: dict[ir.Value, Rounded] = field(default_factory=dict)

    def read(self, stored: ir.Value, *ops: str) -> ir.Value | None:
        """Counterpart of a quantised value, for ``ops`` that read it."""
        plain = self.floats.get(stored)
        if plain in self.rounded:
            self.rounded[plain].readers.update(ops)
        return plain

    def weight(
        self,
        site: Site,
        stored: ir.Value,
        scale: ir.Value,
        zero_point: ir.Value | None,
        axis: int,
        *,
        block: int = 0,
        factor: ir.Value | None = None,
    ) -> ir.Value | None:
        """Initializer with the values of a packed one; None where scale or zero point are computed."""
        parts = [stored, scale, zero_point, factor]
        tensors = [None if part is None else part.const_value for part in parts]
        if any(part is not None and tensor is None for part, tensor in zip(parts, tensors, strict=True)):
            return None
        contents = (None if t is None else np.asarray(t.numpy()).tobytes() for t in tensors[1:])
        key = (stored.name or "", *contents, axis, block)
        if key not in self.weights:
            assert tensors[0] is not None and tensors[1] is not None
            tensor = dequantised(tensors[0], tensors[1], tensors[2], axis, block, tensors[3])
            self.weights[key] = site.initializer(tensor, plain_name(stored.name or ""))
        return self.weights[key]

    def real(
        self, site: Site, slot: int, scale: int, zero_point: int, axis: int = 1, *, factor: int | None = None
    ) -> ir.Value | None:
        """Counterpart of the input ``slot``, whose scale and zero point are the given inputs."""
        value = site.need(slot)
        if value.const_value is None:
            op = site.node.op_type
            return self.read(value, "Gemm" if op == "QGemm" else op.removeprefix("QLinear"))
        extra = None if factor is None else site.need(factor)
        return self.weight(site, value, site.need(scale), site.input(zero_point), axis, factor=extra)


def plain_name(name: str) -> str:
    """Name of a weight without what quantisers append."""
    for ending in ("_quantized", "_Q4", "_Q8", "_quant", "_DequantizeLinear_Output"):
        name = name.removesuffix(ending)
    return name


def decomposes(*ops: str) -> Callable[[Decompose], Decompose]:
    """Register how ops are decomposed; the function says whether it could."""

    def register(function: Decompose) -> Decompose:
        for op in ops:
            DECOMPOSERS[op] = function
        return function

    return register


def product(site: Site, data: ir.Value | None, weight: ir.Value | None, bias: ir.Value | None) -> bool:
    """Let ``data @ weight + bias`` take the node's place; False where one of the two is unknown."""
    if data is None or weight is None:
        return False
    result = site.op("MatMul", data, weight)
    site.replace(result if bias is None else site.op("Add", result, bias))
    return True


def made(state: Quantised, site: Site, result: ir.Value, scale: int | None = None) -> bool:
    """``result`` is the counterpart of the node's output; ``scale``: slot of its scale, before its zero point's."""
    if scale is not None:
        result = saturated(site, result, site.input(scale), site.input(scale + 1))
        state.rounded[result] = rounded_by(site, scale)
    state.floats[site.node.outputs[0]] = result
    return True
