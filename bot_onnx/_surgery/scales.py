"""How scalar factors follow new sizes: the scales of attention scores, and what the spec gives a formula for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isclose, prod

import onnx_ir as ir

from bot_onnx._analysis.facts import Scale
from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops.nodes import filled_with
from bot_onnx._patterns.attention import Scalar, held_number, number_at, scalar_factors, uniform_factors
from bot_onnx._patterns.closed_forms import factor_alike, factor_at, guess_scale
from bot_onnx._patterns.layers import Layer
from bot_onnx._patterns.residual import is_sum
from bot_onnx._surgery.edits import SetFactor, made_by
from bot_onnx._target import evaluate, size_names
from bot_onnx.errors import DimError, SpecError

_SINGLE = 1e-6  #: how far float32 is from the numbers that it stands for, and some more
_ROUNDING = 5e-3  #: how far a factor may be from its formula: half-precision constants are rounded


def scale_edits(
    analysis: Analysis, sizes: Mapping[str, int], layers: Mapping[str, int], given: Mapping[str, str | float]
) -> list[SetFactor]:
    """What brings scale factors up to date.

    Args:
        analysis: of the graph.
        sizes: new size per dim id.
        layers: new depth per chain name.
        given: formulas (or numbers) by node name, from the spec; a ``*`` in a name stands for anything.

    Raises:
        DimError: head_dim changes and no formula explains a factor of attention scores.
        SpecError: a formula is given for a node that has no scalar factor, or one that does not give what stands there.
    """
    check_scales(analysis, sizes, given)
    chosen = _chosen(analysis, given)
    _check_whole(analysis, chosen)
    edits = [_given(analysis, sizes, layers, node, formula) for node, formula in chosen.items()]
    for scale in analysis.scales:
        if scale.formula is None or scale.scalar.node in chosen:
            continue
        if not _resized(analysis, scale, sizes):
            continue
        number = _number(scale, analysis.size(scale.dim)[0], analysis.new_size(scale.dim, dict(sizes))[0])
        if not isclose(number, scale.scalar.value, rel_tol=1e-9):
            reason = scale.formula.replace("n", _dim_name(analysis, scale))
            edits.append(set_factor(scale.scalar.node, scale.scalar.slot, number, reason))
    return edits


def _number(scale: Scale, size: int, target: int) -> float:
    """The factor at another size, rounded as the source's is.

    What a factor of attention scores gains as they grow is in the weights of queries and keys, by the formula. So it is
    rounded there only if that keeps the ratio: the function comes first.
    """
    assert scale.formula is not None
    exact, value = factor_at(scale.formula, target), scale.scalar.value
    rounded = factor_alike(scale.formula, value, size, target)
    gain = exact / factor_at(scale.formula, size)
    free = scale.stream or scale.counts or target < size
    return rounded if free or isclose(rounded / value, gain, rel_tol=_SINGLE) else exact


def check_scales(analysis: Analysis, sizes: Mapping[str, int], given: Mapping[str, str | float]) -> None:
    """Ask for what :func:`scale_edits` would not know.

    Raises:
        DimError: head_dim changes and no formula explains a factor of attention scores.
        SpecError: a formula is given for a node that the graph does not have.
    """
    chosen = _chosen(analysis, given)
    asked = [
        scale
        for scale in analysis.scales
        if scale.formula is None and scale.scalar.node not in chosen and _resized(analysis, scale, sizes)
    ]
    if asked:
        raise _question(analysis, sizes, asked)


def _resized(analysis: Analysis, scale: Scale, sizes: Mapping[str, int]) -> bool:
    return analysis.size(scale.dim)[0] != analysis.new_size(scale.dim, dict(sizes))[0]


def check_branches(analysis: Analysis, layers: Mapping[str, int], given: Mapping[str, str | float]) -> list[str]:
    """Look at the factors on residual branches, for chains whose depth changes.

    Some networks scale what a layer adds by a function of the number of layers, others by a constant; the graph does
    not say which. A round number stays, and a note says how to give another; any other one looks like a function of
    the depth, and is asked for. What was trained moves with the layer's weights.

    Args:
        analysis: of the source, before its layers change.
        layers: new depth per chain name.
        given: formulas (or numbers) by node name, from the spec.

    Returns:
        The notes, in sentences.

    Raises:
        SpecError: a factor that is no round number, and that ``given`` says nothing of.
    """
    notes: list[str] = []
    settled = {*_chosen(analysis, given), *_trained(analysis)}
    for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True):
        if layers[info.name] == info.count:
            continue
        by_place = list(zip(*(_branch_factors(layer) for layer in chain.layers), strict=False))
        # A number of its own in every layer follows the layer's place; a function of the depth is the same in all.
        common = {scalar.node for place in by_place if len({s.value for s in place}) == 1 for scalar in place}
        factors = [scalar for place in by_place for scalar in place if scalar.node not in settled]
        if not factors:
            continue
        odd = {
            _place(scalar.node): guess_scale(scalar.value, info.count, info.name)
            for scalar in factors
            if scalar.node in common and not _is_round(scalar)
        }
        what = f"what each of {info.name} adds is scaled by {{:g}} ({{}}, node '{{}}')"
        if odd:
            first = next(scalar for scalar in factors if _place(scalar.node) in odd)
            raise SpecError(
                f"key 'layers': {what.format(first.value, first.node.op_type, _place(first.node))}, no round number: "
                f'it may follow the number of layers. Say how in the spec, if this is right: "constants": '
                f"{json.dumps(_shortened(analysis, odd))}; or give the number itself to keep it",
                node=_place(first.node),
            )
        for scalar in (scalar for scalar in _branch_factors(chain.layers[0]) if scalar.node not in settled):
            notes.append(
                f"{what.format(scalar.value, scalar.node.op_type, _place(scalar.node))}, which stays; should it follow "
                "the number of layers, give it under 'constants', for this node of every layer."
            )
    return notes


def _chosen(analysis: Analysis, given: Mapping[str, str | float]) -> dict[ir.Node, str | float]:
    """The nodes that the spec's ``constants`` mean, with what it says of each."""
    return {node: formula for name, formula in given.items() for node in _nodes(analysis, name)}


def _trained(analysis: Analysis) -> set[ir.Node]:
    """The nodes that read a number which a stack holds."""
    names = {name for stack in analysis.structure.stacks if prod(stack.shape) == 1 for name in stack.tensors}
    held = analysis.model.graph.initializers
    return {usage.node for name in names for usage in held[name].uses()}


def _branch_factors(layer: Layer) -> list[Scalar]:
    """Scalar factors, other than 1, on what a layer adds to the residual stream."""
    joints = [joint for joint in layer.joints[1:] if is_sum(joint)]
    branches = [value.producer() for joint in joints for value in joint.inputs if value is not None]
    factors = [scalar for node in branches if node is not None for scalar in scalar_factors(node)]
    return [scalar for scalar in factors if abs(scalar.value) != 1.0]


def _is_round(scalar: Scalar) -> bool:
    """Whether a factor, or its square, is a number that a person would write: 0.22, 0.5, the root of a half."""
    squared = scalar.value * scalar.value
    return any(isclose(number, float(f"{number:.3g}"), rel_tol=1e-6) for number in (scalar.value, squared))


def _dim_name(analysis: Analysis, scale: Scale) -> str:
    """A name of the dim that formulas can use."""
    identity = analysis.ids.get(scale.dim)
    if identity is None:
        return "head_dim"
    name = analysis.structure.dims[identity].name
    return name if name.isidentifier() else identity


def _place(node: ir.Node) -> str:
    """How the spec calls a node: its name, or that of what it makes where it has none."""
    return node.name or node.outputs[0].name or ""


def _question(analysis: Analysis, sizes: Mapping[str, int], asked: list[Scale]) -> DimError:
    """Ask how factors follow, with the text to put into the spec."""
    first = asked[0]
    old, new = analysis.size(first.dim)[0], analysis.new_size(first.dim, dict(sizes))[0]
    entries: dict[str, str] = {}
    for scale in asked:
        name = _dim_name(analysis, scale)
        size = analysis.size(scale.dim)[0]
        entries[_place(scale.scalar.node)] = guess_scale(scale.scalar.value, size, name)
    number = {_place(scale.scalar.node): scale.scalar.value for scale in asked}[_place(first.scalar.node)]
    shown = json.dumps(_shortened(analysis, entries))
    node = first.scalar.node
    more = f" (and {len(asked) - 1} more like it)" if len(asked) > 1 else ""
    return DimError(
        f"head_dim goes from {old} to {new}, and the factor {first.scalar.value:g} of attention scores in "
        f"{node.op_type} (node {_place(node)!r}){more} is no known formula of it; say how it follows in the spec, if "
        f'this is right: "constants": {shown}; or give the number itself ({number:.9g}) to keep it, or keep head_dim',
        node=_place(node),
        dim=_dim_name(analysis, first),
        alternatives=[entries[_place(node)]],
    )


def _shortened(analysis: Analysis, entries: Mapping[str, str]) -> Mapping[str, str]:
    """Entries with stars for numbers in the names, where they mean exactly the same nodes and formula."""
    groups: dict[tuple[str, str], set[str]] = {}
    for name, formula in entries.items():
        groups.setdefault((re.sub(r"\d+", "*", name), formula), set()).add(name)
    short: dict[str, str] = {}
    for (pattern, formula), names in groups.items():
        exact = len(names) > 1 and {_place(node) for node in _nodes(analysis, pattern)} == names
        short.update({pattern: formula} if exact else dict.fromkeys(sorted(names), formula))
    return short


def _nodes(analysis: Analysis, name: str) -> list[ir.Node]:
    """Nodes that a key of ``constants`` means."""
    wanted = re.compile(".*".join(map(re.escape, name.split("*"))))
    found = [node for node in analysis.model.graph if wanted.fullmatch(_place(node))]
    if "*" in name:
        found = [node for node in found if _slots(node)]
    if not found:
        raise SpecError(
            f"constants: the graph has no node {name!r}; use a name that an error or a viewer shows", node=name
        )
    return found


def _slots(node: ir.Node) -> list[int | str]:
    """Where a node has scalar factors: input slots, or attributes."""
    slots: list[int | str] = [slot for slot in range(len(node.inputs)) if number_at(node, slot) is not None]
    return slots + [name for name in ("scale", "alpha") if node.attributes.get_float(name, 0.0)]


def _uniform_slots(analysis: Analysis, node: ir.Node) -> list[int | str]:
    """Where a node has a factor that the file holds several times over: for every head, or every channel."""
    return [scalar.slot for scalar in uniform_factors(analysis.context, node)]


def _check_whole(analysis: Analysis, chosen: Mapping[ir.Node, str | float]) -> None:
    """Such a factor becomes one number in all layers, or in none: a stack is resampled as a whole."""
    held = {
        value.name: node
        for node in chosen
        if not _slots(node)
        for slot in _uniform_slots(analysis, node)
        if isinstance(slot, int) and (value := node.inputs[slot]) is not None
    }
    for stack in analysis.structure.stacks:
        left = [name for name in stack.tensors if name not in held]
        node = next((held[name] for name in stack.tensors if name in held), None)
        if node is not None and left:
            raise SpecError(
                f"constants: {_place(node)!r} is one of the nodes that scale by {stack.name!r}, and others by "
                f"{left[0]!r}; name the nodes of all layers",
                node=_place(node),
            )


def _given(
    analysis: Analysis, sizes: Mapping[str, int], layers: Mapping[str, int], node: ir.Node, formula: str | float
) -> SetFactor:
    slots = _slots(node) or _uniform_slots(analysis, node)
    if len(slots) != 1:
        raise SpecError(
            f"constants: {node.op_type} (node {_place(node)!r}) has {len(slots)} scalar inputs, not one",
            node=_place(node),
        )
    if isinstance(formula, str):
        present, explained = factor_of(node, slots[0]), evaluate(formula, size_names(analysis.structure))
        if not isclose(present, explained, rel_tol=_ROUNDING):
            raise SpecError(
                f"constants: {formula!r} gives {explained:.6g} at the source's sizes, but the factor of {node.op_type} "
                f"(node {_place(node)!r}) is {present:.6g}; correct the formula, or give a number to set it",
                node=_place(node),
            )
    number = evaluate(formula, size_names(analysis.structure, sizes, layers))
    return set_factor(node, slots[0], number, f"{formula} (given)")


def factor_of(node: ir.Node, slot: int | str, missing: float = 0.0) -> float:
    """The scalar in an input or attribute of a node; ``missing`` where it has no such attribute."""
    if isinstance(slot, str):
        filled = filled_with(node)
        return float(node.attributes.get_float(slot, missing)) if filled is None else filled
    held = held_number(node, slot)
    assert held is not None
    return held.value


def set_factor(node: ir.Node, slot: int | str, number: float, reason: str, missing: float = 0.0) -> SetFactor:
    """The edit that puts a number into an input or attribute of a node; ``missing``: see :func:`factor_of`."""
    place = f"{node.name}.{slot}" if isinstance(slot, str) else f"{node.op_type} {node.name}"
    held = None if isinstance(slot, str) else held_number(node, slot)
    stands = (made_by(node), slot) if held is None else (made_by(held.node), held.slot)
    return SetFactor(place, factor_of(node, slot, missing), float(number), reason, *stands)
