"""The residual stream of a chain of layers: where it is written, and where the norms stand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import onnx_ir as ir

from bot_onnx import _ops
from bot_onnx._ops import (
    ANY_MOVE,
    FORM,
    VIEW,
    Calc,
    Move,
    computes,
    is_activation,
    is_layer_norm,
    is_linear,
    is_statistic,
    is_steady,
    norm_of,
    norm_parameters,
    passes_on,
    reduces,
)
from bot_onnx._ops.walk import behind, producer_chain
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import Parameter, is_parameter, parameter_behind
from bot_onnx._structure import Residual

#: Changes of form that make zeros of zeros.
_PASS = ANY_MOVE & ~Move.CHOSEN & ~Move.JOINED
#: What may be done to what a norm gave, behind it: a scale, a bias, a number.
_BEHIND_NORMS = (Calc.SUM, Calc.DIFFERENCE, Calc.PRODUCT, Calc.QUOTIENT)
#: What activations are written out with.
_OF_ACTIVATIONS = (*_BEHIND_NORMS, Calc.POWER, Calc.EXTREME)
_DEPTH = 100  #: nodes from a sum back to what writes to it


def residual_writers(chain: LayerChain) -> set[str]:
    """Names of the parameters whose zeros make a layer add nothing to the residual stream."""
    names: set[str] = set()
    for layer in chain.layers:
        for before, joint in zip(layer.joints, layer.joints[1:], strict=False):
            if is_sum(joint):
                walk = _Writers(before)
                found = [walk.of(value) for value in _terms(joint, before)]
                # One term is the stream. With branches alone the layer does not end where it begins: there is nothing
                # to leave as it is; with more terms that no weight writes there is no saying what they hold.
                names |= set().union(*found) if sum(not writers for writers in found) == 1 else set()
    return names


def _terms(joint: ir.Node, before: ir.Node) -> list[ir.Value]:
    """What a sum of activations adds up, the terms of sums in it instead of these."""
    terms: list[ir.Value] = []
    pending = [value for value in reversed(joint.inputs) if value is not None]
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is not None and node is not before and is_sum(node):
            pending.extend(inner for inner in reversed(node.inputs) if inner is not None)
        else:
            terms.append(value)
    return terms


def is_sum(node: ir.Node) -> bool:
    """Whether a node adds activations."""
    return _ops.is_sum(node) and not any(v is not None and is_parameter(v) for v in node.inputs)


class _Writers:
    """The parameters that make a value zero when they are."""

    def __init__(self, before: ir.Node) -> None:
        self._before = before
        self._known: dict[ir.Node, set[str]] = {}
        self._of_norms: set[str] = set()

    def of(self, value: ir.Value | None, depth: int = _DEPTH) -> set[str]:
        """A linear map's and what is added after it, else a norm's or a factor's; none on the stream itself."""
        node = value.producer() if value is not None else None
        if node is None or node is self._before or depth == 0:
            return set()
        if node not in self._known:
            self._known[node] = self._find(node, depth)
        return self._known[node]

    def _find(self, node: ir.Node, depth: int) -> set[str]:
        parameters = {v.name or "" for v in node.inputs if v is not None and is_parameter(v)}
        if is_linear(node) and (weights := _weights_of(node)):
            return weights
        if norm_of(node) is not None:
            given = [v for slot, v in enumerate(node.inputs) if slot in norm_parameters(node)]
            found = {v.name or "" for v in given if v is not None and is_parameter(v)}
            self._of_norms |= found
            return found
        inner = [self.of(v, depth - 1) for v in node.inputs if v is not None and v.const_value is None]
        if computes(node, Calc.SUM, Calc.DIFFERENCE) or passes_on(node, Move.JOINED):  # every term must be zero
            return set.union(parameters, *inner) if inner and all(inner) else set()
        if computes(node, Calc.PRODUCT):
            # One factor is enough. A linear map before a trained factor is the better one; a norm before it may have
            # been given ones and zeros that nobody trained (a norm over groups, written as one over instances).
            before = next(filter(None, inner), parameters)
            return parameters if parameters and before <= self._of_norms else before
        return inner[0] if inner and (_keeps_zero(node) or _divides(node)) else set()


def _weights_of(node: ir.Node) -> set[str]:
    """Names of the parameters among the operands of a linear map, else of those of which it is given a part.

    Such is the expert that a router picks.
    """
    whole = {v.name or "" for v in map(parameter_behind, node.inputs) if v is not None}
    parts = (behind(value, lambda maker: passes_on(maker, _PASS)) for value in node.inputs)
    return whole or {v.name or "" for v in parts if v is not None and is_parameter(v)}


def _keeps_zero(node: ir.Node) -> bool:
    """Whether a node makes zeros of zeros, with a derivative there that is not zero: what is behind can be trained."""
    return passes_on(node, _PASS) or is_steady(node) or reduces(node, "mean", "sum", "extreme")


def _divides(node: ir.Node) -> bool:
    return computes(node, Calc.QUOTIENT) and node.inputs[1] is not None and node.inputs[1].const_value is not None


def residual_kind(chain: LayerChain) -> Residual:
    """What happens to the sums on their way to the next one: nothing, a norm, an activation; or nobody knows."""
    joints = [joint for layer in chain.layers for joint in layer.joints[1:]]
    sums = [joint for joint in joints if is_sum(joint)]
    if not sums:
        return "none"
    passed = [_passed_between(first, second) for first, second in pairwise(sums)]
    if not passed or passed.count("pre-norm") * 2 > len(passed):
        return "pre-norm"
    kinds: tuple[Residual, ...] = ("post-norm", "post-activation")
    return next((kind for kind in kinds if kind in passed), "unknown")


def _passed_between(first: ir.Node, second: ir.Node) -> Residual:
    """What stands on the stream between two sums: the terms of the second are branches, but for the stream."""
    ways = [way for term in _terms(second, first) if (way := _way_from(first, term)) is not None]
    if any(all(_is_view(node) for node in way) for way in ways):
        return "pre-norm"
    if any(any(map(_is_norm, way)) for way in ways):
        return "post-norm"
    acts = any(all(_is_view(node) or _acts(node) for node in way) for way in ways)
    return "post-activation" if acts else "unknown"


def _way_from(first: ir.Node, value: ir.Value) -> list[ir.Node] | None:
    """Nodes between ``first`` and a value that is made of its result without a linear map; None: it is not."""
    way: dict[ir.Node, None] = {}
    reached = False
    pending = [value]
    while pending:
        node = pending.pop().producer()
        if node is first:
            reached = True
        elif node is not None and node not in way:
            way[node] = None
            if is_linear(node) or len(way) > _DEPTH:
                return None
            # Of a view only the first input is data: the shape it takes may be computed.
            data = node.inputs[:1] if _is_view(node) else node.inputs
            pending.extend(v for v in data if v is not None and v.const_value is None)
    return list(way) if reached else None


def _is_view(node: ir.Node) -> bool:
    return passes_on(node, VIEW)


def _acts(node: ir.Node) -> bool:
    """Whether a node is an activation, or one of those that activations are written out with."""
    return is_activation(node) or computes(node, *_OF_ACTIVATIONS)


def _is_norm(node: ir.Node) -> bool:
    """A norm, or the statistic that one is written out with."""
    return is_statistic(node)


def last_norm(chain: LayerChain, parameters: Mapping[str, Parameter], order: dict[ir.Node, int]) -> set[str]:
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
    """Names of the norm parameters applied directly before each of the given nodes (tied heads, factors)."""
    return set().union(*map(_norm_before, nodes))


def _norm_before(head: ir.Node) -> set[str]:
    """The scale that was multiplied last before a node, and the bias added since; none where there is no scale."""
    names: set[str] = set()
    value: ir.Value | None = next((v for v in head.inputs if v is not None and not _is_weight(v)), None)
    while value is not None and (node := value.producer()) is not None:
        scales = {found.name or "" for found in map(_scale_behind, node.inputs) if found is not None}
        if is_layer_norm(node):
            return names | scales
        calculates = computes(node, *_BEHIND_NORMS)
        if not calculates and not passes_on(node, FORM | Move.PICKED):
            return set()
        names |= scales
        if computes(node, Calc.PRODUCT) and scales:
            return names
        # Of a view only the first input is data: the shape it takes may be computed.
        operands = node.inputs if calculates else node.inputs[:1]
        rest = [v for v in operands if v is not None and not _is_weight(v)]
        if len(rest) != 1:
            return set()
        value = rest[0]
    return set()


def _scale_behind(value: ir.Value | None) -> ir.Value | None:
    """The parameter that an operand is, whatever number is added to it (norms that scale by 1 + w)."""
    for form in producer_chain(value, _forms_weights, _weight_of):
        if is_parameter(form):
            return form
        if not _is_weight(form):
            return None
    return None


def _weight_of(node: ir.Node) -> ir.Value | None:
    return next((v for v in node.inputs if v is not None and (v.const_value is None or is_parameter(v))), None)


def _is_weight(value: ir.Value) -> bool:
    node = value.producer()
    return value.const_value is not None or (
        node is not None and _forms_weights(node)
        and all(v is not None and _is_weight(v) for v in node.inputs)
    )  # fmt: skip


def _forms_weights(node: ir.Node) -> bool:
    """Whether a node shows weights in another form, or adds to them."""
    return passes_on(node, VIEW) or _ops.is_sum(node)
