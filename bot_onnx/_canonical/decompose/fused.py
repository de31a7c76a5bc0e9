"""Decompose what optimisers fuse: sums with norms, biases with activations, factors with products.

A fused op hides a joint of the network (the residual sum in SkipLayerNormalization), a bias, or a factor of attention
scores. Written out in the ops it stands for, the graph reads as the exporter wrote it, and runtimes fuse it again when
they load it. Ops that are one step of the network (attention, activations) stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose.builder import Attribute, Site
from bot_onnx._ops import contracts, op_key
from bot_onnx._ops.nodes import behind_views, names_in

MICROSOFT = "com.microsoft"
Decompose = Callable[[Site], None]
_DECOMPOSERS: dict[str, Decompose] = {}


def _decomposes(*ops: str) -> Callable[[Decompose], Decompose]:
    def register(function: Decompose) -> Decompose:
        for op in ops:
            _DECOMPOSERS[op] = function
        return function

    return register


def decompose_fused(graph: ir.Graph) -> dict[str, int]:
    """Write fused ops of ``graph`` out, in place; returns which and how many there were."""
    fused = fused_nodes(graph)
    taken = names_in(graph) if fused else set()
    counts: dict[str, int] = {}
    for node in fused:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        _DECOMPOSERS[op_key(node)](Site(graph, node, taken))
    return counts


def fused_nodes(graph: ir.Graph) -> list[ir.Node]:
    """The nodes of ``graph`` that would be written out."""
    return [node for node in graph if op_key(node) in _DECOMPOSERS and _decomposable(graph, node)]


def _decomposable(graph: ir.Graph, node: ir.Node) -> bool:
    """LayerNormalization is ONNX's own since opset 17; FastGelu is one step unless it adds a bias."""
    if node.op_type == "LayerNormalization":
        return graph.opset_imports.get("", 18) < 17 and not any(output.uses() for output in node.outputs[1:])
    return node.op_type != "FastGelu" or (len(node.inputs) > 1 and node.inputs[1] is not None)


# -- norms -----------------------------------------------------------------------------------------------------


@_decomposes(f"{MICROSOFT}::SkipLayerNormalization", f"{MICROSOFT}::SkipSimplifiedLayerNormalization")
def _skip_norm(site: Site) -> None:
    """``norm(input + bias + skip)``; the sum is the fourth output."""
    simplified = "Simplified" in site.node.op_type
    left, right, scale = site.need(0), site.need(1), site.need(2)
    shift = None if simplified else site.input(3)
    bias = site.input(3 if simplified else 4)
    if bias is not None:  # it belongs to the linear map of the branch, whichever operand that is
        if _is_linear(right) and not _is_linear(left):
            left, right = right, left
        left = site.op("Add", left, bias)
    total = site.op("Add", left, right)
    epsilon = site.node.attributes.get_float("epsilon", 1e-12 if not simplified else 1e-5)
    normed = _norm(site, total, scale, shift, -1, epsilon, centred=not simplified)
    site.replace(normed, None, None, total)


def _is_linear(value: ir.Value) -> bool:
    made = behind_views(value)
    node = made.producer() if made is not None else None
    return node is not None and contracts(node)


@_decomposes("SimplifiedLayerNormalization", f"{MICROSOFT}::SimplifiedLayerNormalization")
def _simplified_norm(site: Site) -> None:
    axis, epsilon = site.node.attributes.get_int("axis", -1), site.node.attributes.get_float("epsilon", 1e-5)
    site.replace(_norm(site, site.need(0), site.need(1), None, axis, epsilon, centred=False))


@_decomposes("LayerNormalization")
def _early_norm(site: Site) -> None:
    axis, epsilon = site.node.attributes.get_int("axis", -1), site.node.attributes.get_float("epsilon", 1e-5)
    site.replace(_norm(site, site.need(0), site.need(1), site.input(2), axis, epsilon, centred=True))


def _norm(
    site: Site,
    value: ir.Value,
    scale: ir.Value,
    shift: ir.Value | None,
    axis: int,
    epsilon: float,
    *,
    centred: bool,
) -> ir.Value:
    """A norm in one op where the opset has it, else written out (over the last axis), computed in float32."""
    attributes: dict[str, Attribute] = {"axis": axis, "epsilon": epsilon}
    if centred and site.opset >= 17:
        return site.op("LayerNormalization", value, scale, shift, attributes=attributes)
    if not centred and site.opset >= 23:
        return site.op("RMSNormalization", value, scale, attributes=attributes)
    half = scale.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    wide = site.op("Cast", value, attributes={"to": int(ir.DataType.FLOAT)}) if half else value
    if centred:
        wide = site.op("Sub", wide, _mean(site, wide))
    variance = _mean(site, site.op("Mul", wide, wide))
    spread = site.op("Sqrt", site.op("Add", variance, site.constant(np.array(epsilon, np.float32), "epsilon")))
    result = site.op("Div", wide, spread)
    if half:
        result = site.op("Cast", result, attributes={"to": int(scale.dtype or ir.DataType.FLOAT)})
    result = site.op("Mul", result, scale)
    return result if shift is None else site.op("Add", result, shift)


def _mean(site: Site, value: ir.Value) -> ir.Value:
    if site.opset < 18:
        return site.op("ReduceMean", value, attributes={"axes": [-1], "keepdims": 1})
    return site.op("ReduceMean", value, site.constant(np.array([-1]), "axes"), attributes={"keepdims": 1})


# -- activations -----------------------------------------------------------------------------------------------


@_decomposes(f"{MICROSOFT}::BiasGelu")
def _bias_gelu(site: Site) -> None:
    site.replace(site.op("Gelu", site.op("Add", site.need(0), site.need(1)), domain=MICROSOFT))


@_decomposes(f"{MICROSOFT}::FastGelu")
def _fast_gelu(site: Site) -> None:
    site.replace(site.op("FastGelu", site.op("Add", site.need(0), site.need(1)), domain=MICROSOFT))


@_decomposes(f"{MICROSOFT}::GemmFastGelu")
def _gemm_fast_gelu(site: Site) -> None:
    result = site.op("MatMul", site.need(0), site.need(1))
    bias = site.input(2)
    if bias is not None:
        result = site.op("Add", result, bias)
    site.replace(site.op("FastGelu", result, domain=MICROSOFT))


@_decomposes(f"{MICROSOFT}::BiasAdd")
def _bias_add(site: Site) -> None:
    site.replace(site.op("Add", site.op("Add", site.need(0), site.need(1)), site.need(2)))


@_decomposes(f"{MICROSOFT}::BiasSplitGelu")
def _bias_split_gelu(site: Site) -> None:
    """``left * gelu(right)`` of the two halves of ``x + bias``."""
    total = site.op("Add", site.need(0), site.need(1))
    parts: dict[str, Attribute] = {"axis": -1}
    if site.opset >= 18:
        parts["num_outputs"] = 2
    left = site.op("Split", total, attributes=parts, outputs=2)
    split = left.producer()
    assert split is not None
    site.replace(site.op("Mul", left, site.op("Gelu", split.outputs[1], domain=MICROSOFT)))


# -- linear maps with an activation ---------------------------------------------------------------------------


@_decomposes(f"{MICROSOFT}::FusedGemm")
def _fused_gemm(site: Site) -> None:
    attributes = site.kept("alpha", "beta", "transA", "transB")
    result = site.op("Gemm", site.need(0), site.need(1), site.input(2), attributes=attributes)
    numbers = site.kept("activation_alpha", "activation_beta", "activation_gamma")
    site.replace(_activated(site, result, {key.removeprefix("activation_"): n for key, n in numbers.items()}))


@_decomposes(f"{MICROSOFT}::FusedConv")
def _fused_conv(site: Site) -> None:
    """``activation(conv(X, W, B) + Z)``."""
    attributes = site.kept("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    result = site.op("Conv", site.need(0), site.need(1), site.input(2), attributes=attributes)
    added = site.input(3)
    if added is not None:
        result = site.op("Add", result, added)
    held = site.node.attributes.get("activation_params")
    numbers = list(held.as_floats()) if held is not None else []
    kind = site.node.attributes.get_string("activation", "")
    if kind == "Clip" and len(numbers) == 2:
        bounds = [site.constant(np.array(number, np.float32), "bound") for number in numbers]
        site.replace(site.op("Clip", result, *bounds))
        return
    site.replace(_activated(site, result, dict(zip(("alpha", "beta"), numbers, strict=False))))


def _activated(site: Site, value: ir.Value, numbers: dict[str, Attribute]) -> ir.Value:
    """``value`` through the activation that the node names."""
    kind = site.node.attributes.get_string("activation", "")
    return site.op(kind, value, attributes=numbers) if kind else value


# -- embeddings ------------------------------------------------------------------------------------------------


@_decomposes(f"{MICROSOFT}::EmbedLayerNormalization")
def _embeddings(site: Site) -> None:
    """``norm(words[ids] + positions[0 … length] + segments[types])``; the mask's sums are the second output."""
    tokens = site.need(0)
    total = site.op("Gather", site.need(2), tokens)
    positions = site.input(8)
    if positions is None:
        length = site.op("Gather", site.op("Shape", tokens), site.constant(np.array(1), "sequence_axis"))
        bounds = [site.constant(np.array(number), label) for number, label in ((0, "start"), (1, "step"))]
        positions = site.op("Range", bounds[0], length, bounds[1])
    total = site.op("Add", total, site.op("Gather", site.need(3), positions))
    segments, types = site.input(4), site.input(1)
    if segments is not None and types is not None:
        total = site.op("Add", total, site.op("Gather", segments, types))
    epsilon = site.node.attributes.get_float("epsilon", 1e-12)
    normed = _norm(site, total, site.need(5), site.need(6), -1, epsilon, centred=True)
    site.replace(normed, _mask_index(site, tokens), total)


def _mask_index(site: Site, tokens: ir.Value) -> ir.Value | None:
    """Number of tokens to attend to, per example; 0 where there is no mask, as the op has it."""
    if len(site.node.outputs) < 2 or not (site.node.outputs[1].uses() or site.node.outputs[1].is_graph_output()):
        return None
    mask = site.input(7)
    counted = mask if mask is not None else site.op("Sub", tokens, tokens)
    counted = site.op("Cast", counted, attributes={"to": int(ir.DataType.INT32)})
    if site.opset < 13:
        return site.op("ReduceSum", counted, attributes={"axes": [1], "keepdims": 0})
    return site.op("ReduceSum", counted, site.constant(np.array([1]), "axes"), attributes={"keepdims": 0})
