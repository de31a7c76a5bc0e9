"""The depth of all chains of a graph, and the names of the tensors that their stacks then have."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx.graph.analysis import Analysis
from bot_onnx.graph.nodes import fresh_name, names_in
from bot_onnx.surgery.depth import resize_chain, successor


def resize_depth(analysis: Analysis, layers: Mapping[str, int]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Change the depth of every chain, in place.

    Args:
        analysis: of the graph.
        layers: new depth by name of the chain.

    Returns:
        The names of the tensors to write, per stack; and for inputs and outputs that belong to layers the name in the
        source of each, or of the one that it is made after.

    Raises:
        GraphError: something outside a removed layer uses its inside.
    """
    graph = analysis.model.graph
    taken = names_in(graph)
    targets: dict[str, tuple[str, ...]] = {}
    ports: dict[str, str] = {}
    stacked = {chain.name: layers[chain.name] - chain.leading for chain in analysis.structure.chains}
    for stack in analysis.structure.stacks:
        if stack.chain is None or stack.shared:
            targets[stack.id] = stack.tensors
            continue
        count, wanted = len(stack.tensors), stacked[stack.chain]
        names = list(stack.tensors[:wanted])
        for number in range(1, wanted - count + 1):
            names.append(fresh_name(successor(stack.tensors[-2], stack.tensors[-1], number), taken))
        targets[stack.id] = tuple(names)
    for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True):
        added = {
            stack.tensors[-1]: list(targets[stack.id][info.stacked :])
            for stack in analysis.structure.stacks
            if stack.chain in (info.name, info.follows) and stack.chain is not None and not stack.shared
        }
        origins = resize_chain(graph, chain, info.name, stacked[info.name], added, taken)
        axes = analysis.context.axes
        axes.update({name: axes[origin] for name, origin in origins.items() if origin in axes})
        ports |= origins
    return targets, ports
