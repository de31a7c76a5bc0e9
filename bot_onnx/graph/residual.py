"""The residual stream of a chain of layers: where it is written, and where the norms stand."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from bot_onnx.graph.layers import LayerChain
from bot_onnx.graph.parameters import Parameter, is_linear, is_parameter

_PASS = frozenset("Add Mul Reshape Transpose Cast Identity Dropout Squeeze Unsqueeze".split())
Residual = Literal["pre-norm", "post-norm", "none"]


def residual_writers(chain: LayerChain) -> set[str]:
    """Names of the weights and biases whose result is added to the residual stream."""
    names: set[str] = set()
    for layer in chain.layers:
        for before, joint in zip(layer.joints, layer.joints[1:], strict=False):
            if joint.op_type == "Add" and not any(v is not None and is_parameter(v) for v in joint.inputs):
                for value in joint.inputs:
                    names |= _writers(value, before)
    return names


def _writers(value: ir.Value | None, before: ir.Node) -> set[str]:
    """Parameters of the last linear map of a branch, and what is added or multiplied after it; empty for the skip."""
    names: set[str] = set()
    while value is not None:
        node = value.producer()
        if node is None or node is before:
            return set()
        parameters = [v for v in node.inputs if v is not None and is_parameter(v)]
        if is_linear(node) and parameters:
            return names | {v.name or "" for v in parameters}
        if node.op_type not in _PASS:
            return set()
        if node.op_type == "Add":
            names |= {v.name or "" for v in parameters}
        rest = [v for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type in ("Add", "Mul") and len(rest) != 1:
            return set()
        value = rest[0] if rest else None
    return set()


def residual_kind(chain: LayerChain) -> Residual:
    """Whether the sums run on untouched (pre-norm) or are normalised in place (post-norm)."""
    joints = [joint for layer in chain.layers for joint in layer.joints[1:]]
    sums = {j for j in joints if j.op_type == "Add" and not any(v is not None and is_parameter(v) for v in j.inputs)}
    if not sums:
        return "none"
    previous: ir.Node | None = None
    direct = checked = 0
    for joint in joints:
        if joint not in sums:
            continue
        if previous is not None:
            checked += 1
            direct += any(_through_casts(value) is previous for value in joint.inputs)
        previous = joint
    return "pre-norm" if checked == 0 or direct * 2 > checked else "post-norm"


def _through_casts(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in ("Cast", "Identity"):
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node


def last_norm(chain: LayerChain, parameters: dict[str, Parameter], order: dict[ir.Node, int]) -> set[str]:
    """Names of the scale and bias of every layer's last norm."""
    names: set[str] = set()
    for layer in chain.layers:
        last: dict[str, tuple[int, str]] = {}
        for value in layer.parameters:
            parameter = parameters.get(value.name or "")
            if parameter is None or parameter.kind not in ("norm_scale", "norm_bias"):
                continue
            place = max(order.get(node, -1) for node, _ in parameter.uses)
            last[parameter.kind] = max(last.get(parameter.kind, (-1, "")), (place, parameter.name))
        names |= {name for _, name in last.values()}
    return names


def norms_before(nodes: list[ir.Node]) -> set[str]:
    """Names of the norm parameters applied directly before each of the given linear nodes (tied heads)."""
    names: set[str] = set()
    for head in nodes:
        value: ir.Value | None = next((v for v in head.inputs if v is not None and not _is_weight(v)), None)
        while value is not None:
            node = value.producer()
            if node is None:
                break
            parameters = [v.name or "" for v in node.inputs if v is not None and is_parameter(v)]
            if node.op_type in ("LayerNormalization", "RMSNormalization"):
                names |= set(parameters)
                break
            if node.op_type not in ("Add", "Mul", "Cast", "Reshape", "Identity", "Squeeze", "Gather"):
                break
            names |= set(parameters)
            if node.op_type == "Mul":
                break
            rest = [v for v in node.inputs if v is not None and v.const_value is None]
            value = rest[0] if rest else None
    return names


def _is_weight(value: ir.Value) -> bool:
    node = value.producer()
    return value.const_value is not None or (
        node is not None and node.op_type in ("Transpose", "Cast") and node.inputs[0] is not None
        and _is_weight(node.inputs[0])
    )  # fmt: skip
